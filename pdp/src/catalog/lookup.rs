//! A name the catalog does not know is looked up once before the statement is refused.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use icegate_pdp_model::{Code, Decision, RelationName};
use tracing::{debug, warn};

use super::{Reading, sync::Reader};
use crate::{CatalogConfig, metrics, state::Pdp};

/// Most names looked up for one statement.
const NAMES_MAX: usize = 8;
/// Most rounds for one statement: a view leads to what it reads.
const ROUNDS_MAX: usize = 3;
/// Most names remembered as looked up.
const KEPT_MAX: u64 = 10_000;
/// How long one lookup goes on after the statement that asked for it was refused: the next one finds what it brings.
const GOES_ON: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(crate) struct Lookups {
    /// Names looked up lately, and whether there was an answer: each once, whoever asks.
    kept: moka::future::Cache<RelationName, bool>,
    /// How many each principal has asked for in this minute.
    asked: moka::sync::Cache<String, Arc<AtomicU32>>,
}

impl Lookups {
    pub(super) fn new(config: &CatalogConfig) -> Self {
        Self {
            kept: moka::future::Cache::builder().max_capacity(KEPT_MAX).time_to_live(config.lookup_kept).build(),
            asked: moka::sync::Cache::builder().max_capacity(KEPT_MAX).time_to_live(Duration::from_mins(1)).build(),
        }
    }

    /// Whether this principal may ask for one more.
    fn may(&self, principal_id: &str, config: &CatalogConfig) -> bool {
        let count = self.asked.get_with_by_ref(principal_id, || Arc::new(AtomicU32::new(0)));
        count.fetch_add(1, Ordering::Relaxed) < config.lookups_per_minute
    }
}

impl Pdp {
    /// How often a statement is decided anew at most.
    pub(crate) const LOOKUP_ROUNDS_MAX: usize = ROUNDS_MAX;

    /// Looks up what a decision did not find. Says whether it is worth deciding again.
    pub(crate) async fn look_up(self: &Arc<Self>, decision: &Decision, principal_id: &str, until: Instant) -> bool {
        let Some(syncing) = self.syncing.as_ref().filter(|syncing| !syncing.config.lookup_timeout.is_zero()) else {
            return false;
        };
        let mut names = missing(decision);
        names.retain(|name| syncing.config.databases.contains(&name.database));
        let version = self.bundle().version().to_owned();
        let mut asked = Vec::new();
        for name in names.into_iter().take(NAMES_MAX) {
            if syncing.lookups.kept.contains_key(&name) {
                metrics::catalog_lookup("kept");
            } else if syncing.lookups.may(principal_id, &syncing.config) {
                asked.push(self.look_up_one(name));
            } else {
                metrics::catalog_lookup("limited");
            }
        }
        if asked.is_empty() {
            return false;
        }
        let left = until.saturating_duration_since(Instant::now());
        if tokio::time::timeout(left, futures::future::join_all(asked)).await.is_err() {
            metrics::catalog_lookup("late");
        }
        self.bundle().version() != version
    }

    /// Several who ask for one name at one time share the answer. It goes on when nobody waits any more.
    async fn look_up_one(self: &Arc<Self>, name: RelationName) {
        let Some(syncing) = self.syncing.as_ref() else { return };
        let pdp = Arc::clone(self);
        let wanted = name.clone();
        // A lookup that is lost brings nothing; the statement is refused.
        let look = async move { tokio::spawn(async move { pdp.read_one(wanted).await }).await.unwrap_or(false) };
        if !syncing.lookups.kept.get_with(name.clone(), look).await {
            syncing.lookups.kept.invalidate(&name).await;
        }
    }

    /// Says whether the warehouse answered.
    async fn read_one(&self, name: RelationName) -> bool {
        let Some(syncing) = self.syncing.as_ref() else { return false };
        let mut reader = Reader::new(syncing, &name.database, "lookup", GOES_ON);
        let found = match reader.relation(&name, &syncing.config).await {
            Ok(found) => found,
            Err(why) => {
                debug!(why = why.why(), "lookup without answer");
                metrics::catalog_lookup("failed");
                return false;
            }
        };
        let Some(relation) = found else {
            metrics::catalog_lookup("absent");
            return true;
        };
        metrics::catalog_lookup(if relation.unreadable.is_some() { "unreadable" } else { "found" });
        let reading = Reading { database: name.database.clone(), put: [(name, relation)].into(), ..Reading::default() };
        if let Err(status) = self.take_reading(reading).await {
            warn!(error = status.message(), "what was looked up is not in force");
            return false;
        }
        true
    }
}

/// The full names of relations a refused decision did not find, those behind a view included.
fn missing(decision: &Decision) -> BTreeSet<RelationName> {
    if !decision.reasons.iter().any(|reason| reason.code == Code::SqlUnresolved) {
        return BTreeSet::new();
    }
    let names = decision.statements.iter().flat_map(|statement| &statement.unresolved);
    names.filter_map(|text| relation(text)).collect()
}

/// `relation A.B.C`, also at the end of `view A.B.V: relation A.B.C`. What is no plain name, such as one with a remark
/// behind it, does not print as it was written.
fn relation(text: &str) -> Option<RelationName> {
    let written = text.rsplit_once("relation ").filter(|(before, _)| before.is_empty() || before.ends_with(": "))?.1;
    written.parse::<RelationName>().ok().filter(|name| name.to_string() == written)
}

#[cfg(test)]
mod tests {
    use super::relation;

    #[test]
    fn names_are_found_where_they_are_names() {
        for (text, wanted) in [
            ("relation SALES.PUBLIC.T", Some("SALES.PUBLIC.T")),
            ("relation SALES.PUBLIC.\"my t\"", Some("SALES.PUBLIC.\"my t\"")),
            ("view SALES.PUBLIC.V: relation SALES.PUBLIC.T", Some("SALES.PUBLIC.T")),
            ("view A.B.V: view A.B.W: relation A.B.T", Some("A.B.T")),
            ("relation T", None),
            ("relation A.B.T: it was changed earlier in the same request", None),
            ("column RELATION", None),
            ("function A.B.F", None),
            ("view A.B.V: it is defined by itself", None),
        ] {
            assert_eq!(relation(text).map(|name| name.to_string()).as_deref(), wanted, "{text}");
        }
    }
}
