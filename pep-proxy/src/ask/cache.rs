//! Decisions that may be used again, keyed by everything that can change the answer.
//!
//! A cached decision saves the deciding, never the record: each run's intent is made durable before it is forwarded.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use icegate_proto::v1::{DecideResponse, Outcome, ResultMask, ResultShape, SessionChange, SessionContext};
use moka::{Expiry, sync};
use sha2::{Digest as _, Sha256};

use crate::metrics::{CACHE_INVALIDATIONS, CACHE_REQUESTS};

/// Longest text that is kept: the cache is bounded by its entries.
const TEXT_BYTES_MAX: usize = 16 * 1024;

/// Decisions that may be used again.
#[derive(Debug)]
pub(crate) struct Cache {
    decisions: sync::Cache<Key, Arc<Cached>>,
    /// The bundle in force as last heard; empty before anything was heard.
    bundle: ArcSwap<String>,
}

/// Everything that can change the answer, hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key([u8; 32]);

/// What a decision depends on besides the bundle.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) principal_digest: &'a str,
    pub(crate) sql: &'a str,
    pub(crate) statement_count: u32,
    pub(crate) describe_only: bool,
    pub(crate) context: &'a SessionContext,
}

/// A decision that allowed.
pub(crate) struct Cached {
    pub(crate) decision_id: String,
    pub(crate) sql: String,
    pub(crate) bundle_version: String,
    pub(crate) masked: bool,
    pub(crate) statement_kinds: Vec<String>,
    pub(crate) session_changes: Vec<SessionChange>,
    pub(crate) result_shapes: Vec<ResultShape>,
    pub(crate) result_masks: Vec<ResultMask>,
    names: Names,
    usable: Duration,
}

/// The bound values that name something in a decision: it holds for no others. The values themselves are not kept.
struct Names {
    positions: Vec<u32>,
    sha256: [u8; 32],
}

impl Names {
    fn of(positions: &[u32], bound: impl Fn(&[u32]) -> String) -> Self {
        Self { positions: positions.to_vec(), sha256: Sha256::digest(bound(positions)).into() }
    }

    fn are(&self, bound: impl Fn(&[u32]) -> String) -> bool {
        self.positions.is_empty() || Self::of(&self.positions, bound).sha256 == self.sha256
    }
}

impl fmt::Debug for Cached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cached").field("decision_id", &self.decision_id).finish_non_exhaustive()
    }
}

struct Usable;

impl Expiry<Key, Arc<Cached>> for Usable {
    fn expire_after_create(&self, _key: &Key, cached: &Arc<Cached>, _created_at: Instant) -> Option<Duration> {
        Some(cached.usable)
    }

    fn expire_after_update(
        &self,
        _key: &Key,
        cached: &Arc<Cached>,
        _updated_at: Instant,
        _left: Option<Duration>,
    ) -> Option<Duration> {
        Some(cached.usable)
    }
}

impl Cache {
    pub(crate) fn new(entries_max: u64) -> Self {
        Self {
            decisions: sync::Cache::builder().max_capacity(entries_max).expire_after(Usable).build(),
            bundle: ArcSwap::default(),
        }
    }

    /// Takes note of the bundle in force; another one than before voids everything cached.
    pub(crate) fn bundle_is(&self, version: &str) {
        if self.bundle.load().as_str() != version {
            self.bundle.store(Arc::new(version.to_owned()));
            self.decisions.invalidate_all();
            metrics::counter!(CACHE_INVALIDATIONS).increment(1);
        }
    }

    /// The key under the bundle in force.
    pub(crate) fn key(&self, asked: Asked<'_>) -> Key {
        Key::of(asked, &self.bundle.load())
    }

    /// What was decided, if it was for these names: `bound` gives the bound values at positions, alike for alike values.
    pub(crate) fn get(&self, key: Key, bound: impl Fn(&[u32]) -> String) -> Option<Arc<Cached>> {
        let found = self.decisions.get(&key).filter(|cached| cached.names.are(bound));
        metrics::counter!(CACHE_REQUESTS, "result" => if found.is_some() { "hit" } else { "miss" }).increment(1);
        found
    }

    pub(crate) fn forget(&self, key: Key) {
        metrics::counter!(CACHE_REQUESTS, "result" => "stale").increment(1);
        self.decisions.invalidate(&key);
    }

    /// Keeps a decision if it says it may be kept and is an allow.
    pub(crate) fn keep(&self, asked: Asked<'_>, decision: &DecideResponse, bound: impl Fn(&[u32]) -> String) {
        let masked = match decision.outcome() {
            Outcome::Allow => false,
            Outcome::Mask => true,
            Outcome::Unspecified | Outcome::Deny | Outcome::NeedsApproval => return,
        };
        if decision.cacheable_seconds == 0 || decision.sql.len() > TEXT_BYTES_MAX {
            return;
        }
        let cached = Cached {
            decision_id: decision.decision_id.clone(),
            sql: decision.sql.clone(),
            bundle_version: decision.bundle_version.clone(),
            masked,
            statement_kinds: decision.statement_kinds.clone(),
            session_changes: decision.session_changes.clone(),
            result_shapes: decision.result_shapes.clone(),
            result_masks: decision.result_masks.clone(),
            names: Names::of(&decision.names_bound, bound),
            usable: Duration::from_secs(decision.cacheable_seconds.into()),
        };
        self.decisions.insert(Key::of(asked, &decision.bundle_version), Arc::new(cached));
    }
}

impl Key {
    /// Each field with its length before it, so that no two questions run together.
    fn of(asked: Asked<'_>, bundle: &str) -> Self {
        let Asked { principal_digest, sql, statement_count, describe_only, context } = asked;
        let mut hash = Sha256::new();
        let SessionContext { database, schema, role, warehouse } = context;
        for field in [principal_digest, sql, database, schema, role, warehouse, bundle] {
            hash.update((field.len() as u64).to_le_bytes());
            hash.update(field.as_bytes());
        }
        hash.update(statement_count.to_le_bytes());
        hash.update([u8::from(describe_only)]);
        Self(hash.finalize().into())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn allow(seconds: u32) -> DecideResponse {
        DecideResponse {
            outcome: Outcome::Allow.into(),
            bundle_version: "v1".to_owned(),
            cacheable_seconds: seconds,
            ..DecideResponse::default()
        }
    }

    fn none(_: &[u32]) -> String {
        String::new()
    }

    #[test]
    fn a_decision_is_for_the_names_it_was_made_for() {
        let cache = Cache::new(10);
        let context = SessionContext::default();
        let asked = Asked {
            principal_digest: "p",
            sql: "drop table identifier(?)",
            statement_count: 1,
            describe_only: false,
            context: &context,
        };
        cache.bundle_is("v1");
        let mine = |positions: &[u32]| format!("{positions:?} mine");
        let other = |positions: &[u32]| format!("{positions:?} other");
        cache.keep(asked, &DecideResponse { names_bound: vec![1], ..allow(60) }, mine);
        assert!(cache.get(cache.key(asked), other).is_none());
        assert!(cache.get(cache.key(asked), mine).is_some());
        cache.keep(asked, &DecideResponse { names_bound: vec![2], ..allow(60) }, other);
        assert!(cache.get(cache.key(asked), mine).is_none());
        cache.keep(asked, &allow(60), mine);
        assert!(cache.get(cache.key(asked), other).is_some(), "no name is bound in it");
    }

    #[test]
    fn every_part_of_the_question_is_in_the_key() {
        let context = SessionContext::default();
        let other = SessionContext { role: "R".to_owned(), ..SessionContext::default() };
        let asked = Asked {
            principal_digest: "p",
            sql: "select 1",
            statement_count: 1,
            describe_only: false,
            context: &context,
        };
        let keys = [
            Key::of(asked, "v1"),
            Key::of(asked, "v2"),
            Key::of(Asked { principal_digest: "q", ..asked }, "v1"),
            Key::of(Asked { sql: "select 1 ", ..asked }, "v1"),
            Key::of(Asked { statement_count: 2, ..asked }, "v1"),
            Key::of(Asked { describe_only: true, ..asked }, "v1"),
            Key::of(Asked { context: &other, ..asked }, "v1"),
            Key::of(Asked { principal_digest: "ps", sql: "elect 1", ..asked }, "v1"),
        ];
        let distinct: std::collections::HashSet<_> = keys.iter().collect();
        assert_eq!(distinct.len(), keys.len());
    }

    #[test]
    fn only_allows_that_say_so_are_kept_and_a_new_bundle_voids_them() {
        let cache = Cache::new(10);
        let context = SessionContext::default();
        let asked = Asked {
            principal_digest: "p",
            sql: "select 1",
            statement_count: 1,
            describe_only: false,
            context: &context,
        };
        cache.bundle_is("v1");
        cache.keep(asked, &allow(0), none);
        cache.keep(asked, &DecideResponse { outcome: Outcome::Deny.into(), ..allow(60) }, none);
        cache.keep(asked, &DecideResponse { outcome: Outcome::NeedsApproval.into(), ..allow(60) }, none);
        assert!(cache.get(cache.key(asked), none).is_none());
        cache.keep(asked, &DecideResponse { sql: "x".repeat(TEXT_BYTES_MAX + 1), ..allow(60) }, none);
        assert!(cache.get(cache.key(asked), none).is_none(), "too long");
        cache.keep(asked, &allow(60), none);
        assert!(cache.get(cache.key(asked), none).is_some());
        cache.bundle_is("v2");
        assert!(cache.get(cache.key(asked), none).is_none());
        cache.bundle_is("v1");
        assert!(cache.get(cache.key(asked), none).is_none(), "voided for good");
    }
}
