//! The keys of tokens, and which session a token stands for once it has been opened: opening one costs more than all else a
//! poll takes.

use std::{
    hash::{BuildHasher, DefaultHasher, Hasher, RandomState},
    sync::{Arc, Weak},
    time::Duration,
};

use icegate_pep_protocol::Sealer;
use moka::sync::Cache;

use super::Session;

/// Bytes of tokens that are remembered.
const BYTES_MAX: u64 = 64 * 1024 * 1024;
/// How long one that is not used is remembered.
const IDLE: Duration = Duration::from_mins(10);

/// What tokens are sealed and opened with, and those it has opened. They change as one: what a key opened that is gone, even
/// at the last moment, is remembered nowhere that is looked at.
#[derive(Debug)]
pub(crate) struct Sealing {
    pub(crate) sealer: Sealer,
    pub(crate) opened: Opened,
}

impl Sealing {
    pub(crate) fn new(sealer: Sealer) -> Self {
        Self { sealer, opened: Opened::new() }
    }
}

/// Bytes at the end of a token that tell one from another: they are of what proves that it was sealed here.
const PROOF_BYTES: usize = 16;

/// Session tokens opened lately. Known by all their bytes, so that none stands for another.
#[derive(Debug)]
pub(crate) struct Opened(Cache<String, Entry, ByProof>);

/// Hashes the end of a token alone: tokens are long, and only those are remembered whose proof held.
#[derive(Debug, Clone, Default)]
struct ByProof(RandomState);

struct ProofHasher(DefaultHasher);

impl BuildHasher for ByProof {
    type Hasher = ProofHasher;

    fn build_hasher(&self) -> ProofHasher {
        ProofHasher(self.0.build_hasher())
    }
}

impl Hasher for ProofHasher {
    fn write(&mut self, bytes: &[u8]) {
        self.0.write(bytes.last_chunk::<PROOF_BYTES>().map_or(bytes, |proof| proof));
    }

    fn finish(&self) -> u64 {
        self.0.finish()
    }
}

#[derive(Debug, Clone)]
struct Entry {
    /// A token keeps no session in memory.
    session: Weak<Session>,
    expires_ms: i64,
}

impl Opened {
    fn new() -> Self {
        let weigh = |token: &String, _: &Entry| u32::try_from(token.len() + size_of::<Entry>()).unwrap_or(u32::MAX);
        Self(
            Cache::builder()
                .max_capacity(BYTES_MAX)
                .weigher(weigh)
                .time_to_idle(IDLE)
                .build_with_hasher(ByProof::default()),
        )
    }

    /// The session of a token that has not expired. Whether it still stands is to be looked at.
    pub(crate) fn get(&self, token: &str, now_ms: i64) -> Option<Arc<Session>> {
        self.0.get(token).filter(|entry| now_ms < entry.expires_ms)?.session.upgrade()
    }

    /// Remembers a token that was opened just now.
    pub(crate) fn keep(&self, token: &str, session: &Arc<Session>, expires_ms: i64) {
        self.0.insert(token.to_owned(), Entry { session: Arc::downgrade(session), expires_ms });
    }
}

#[cfg(test)]
mod tests {
    use icegate_pep_protocol::{ClientFacts, SealedSession, Secret, TokenKind};

    use super::*;

    fn session() -> Arc<Session> {
        let sealed = SealedSession {
            kind: TokenKind::Session,
            session_id: "0198".to_owned(),
            session_number: 1,
            principal_id: "corp/ana".to_owned(),
            principal_digest: "d".to_owned(),
            agent: None,
            upstream_token: Secret::new("t".to_owned()),
            upstream_master: None,
            upstream_session_id: "4711".to_owned(),
            client: ClientFacts::default(),
            context: icegate_pep_protocol::reply::SessionContext::default(),
            query_tag: None,
            issued_ms: 0,
            expires_ms: 1000,
            session_expires_ms: 1000,
        };
        Arc::new(Session::new(sealed, None, 0))
    }

    #[test]
    fn a_token_stands_for_its_session_until_either_ends() {
        let (opened, there) = (Opened::new(), session());
        opened.keep("ver:1-token", &there, 1000);
        assert!(opened.get("ver:1-token", 999).is_some_and(|found| Arc::ptr_eq(&found, &there)));
        assert!(opened.get("ver:1-token", 1000).is_none(), "past its end");
        for other in ["", "ver:1-toke", "ver:1-token ", "ver:1-tokeN"] {
            assert!(opened.get(other, 0).is_none(), "{other}");
        }
        drop(there);
        assert!(opened.get("ver:1-token", 0).is_none(), "its session is no longer in memory");
    }
}
