use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::{Record, RecordError};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// What stands before the first record.
pub const GENESIS: Hash = [0; 32];

/// Keeps these hashes apart from any other use of SHA-256.
const DOMAIN: &[u8] = b"icegate-audit-v1";

/// The hash of a record: SHA-256 of the domain, the hash before it, the body's length (8 bytes, big-endian) and the body.
pub fn chain(prev: &Hash, body: &[u8]) -> Hash {
    let mut hasher = Sha256::new();
    hasher.update(DOMAIN);
    hasher.update(prev);
    hasher.update(u64::try_from(body.len()).unwrap_or(u64::MAX).to_be_bytes());
    hasher.update(body);
    hasher.finalize().into()
}

/// The first place where a trail does not hold together.
#[derive(Debug, Error)]
pub enum ChainBreak {
    /// Records are missing, doubled or out of order.
    #[error("record {expected} is expected and record {found} is next")]
    Gap {
        /// What should come.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// It does not follow the record before it.
    #[error("record {seq} does not continue from the record before it: its previous hash differs")]
    Prev {
        /// Which.
        seq: u64,
    },
    /// Its body or hash was altered.
    #[error("record {seq} was altered: its hash does not fit its body")]
    Hash {
        /// Which.
        seq: u64,
    },
    /// Its hash fits, but its body is not a record.
    #[error("record {seq} was not written by icegate")]
    Body {
        /// Which.
        seq: u64,
        /// Why.
        #[source]
        source: RecordError,
    },
    /// Its body claims another place.
    #[error("record {seq} says of itself that it is record {found}")]
    Seq {
        /// Where it stands.
        seq: u64,
        /// What it claims.
        found: u64,
    },
}

/// Follows a trail from its beginning, or from a known hash, and stops at the first break.
#[derive(Debug, Clone)]
pub struct Verifier {
    seq: u64,
    hash: Hash,
}

impl Default for Verifier {
    fn default() -> Self {
        Self::new()
    }
}

impl Verifier {
    /// Begins before the first record.
    pub fn new() -> Self {
        Self { seq: 0, hash: GENESIS }
    }

    /// Begins after record `seq`, known to have the hash `hash`.
    pub fn after(seq: u64, hash: Hash) -> Self {
        Self { seq, hash }
    }

    /// Takes the next row and gives its record. After a break it stays where it was.
    ///
    /// # Errors
    ///
    /// The first thing about this row that does not hold.
    pub fn push(&mut self, seq: u64, body: &[u8], prev_hash: &[u8], hash: &[u8]) -> Result<Record, ChainBreak> {
        let expected = self.seq.saturating_add(1);
        if seq != expected {
            return Err(ChainBreak::Gap { expected, found: seq });
        }
        if prev_hash != self.hash {
            return Err(ChainBreak::Prev { seq });
        }
        let wanted = chain(&self.hash, body);
        if hash != wanted {
            return Err(ChainBreak::Hash { seq });
        }
        let record = Record::from_canonical(body).map_err(|source| ChainBreak::Body { seq, source })?;
        if record.seq != seq {
            return Err(ChainBreak::Seq { seq, found: record.seq });
        }
        (self.seq, self.hash) = (seq, wanted);
        Ok(record)
    }

    /// The last record that held, and its hash: what to keep elsewhere.
    pub fn head(&self) -> (u64, Hash) {
        (self.seq, self.hash)
    }
}
