use icegate_pdp_model::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::Event;

/// Version of the body's format, its field `v`.
pub const FORMAT_VERSION: u32 = 1;

/// An event with its place and time in the trail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Place, from 1 without gaps.
    pub seq: u64,
    /// When it was written down. Not always in the order of `seq`: a clock may be set back.
    pub at: Timestamp,
    /// What happened.
    pub event: Event,
}

/// Why bytes are not a record.
#[derive(Debug, Error)]
pub enum RecordError {
    /// Not JSON, or not the fields of a record.
    #[error("the body does not read as a record")]
    Unparsable(#[source] serde_json::Error),
    /// Another version of the format.
    #[error("the body has format version `{0}`; this program reads {FORMAT_VERSION}")]
    Version(u32),
    /// It reads, but was written otherwise than records are.
    #[error("the body is not written in the canonical form")]
    NotCanonical,
}

/// The fields of a body, in their order.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<E> {
    v: u32,
    seq: u64,
    at: Timestamp,
    event: E,
}

impl Record {
    /// The bytes that are kept and hashed: JSON without spaces, fields in the order of their definition, sets sorted, no
    /// fractions.
    pub fn canonical(&self) -> Vec<u8> {
        let body = Body { v: FORMAT_VERSION, seq: self.seq, at: self.at, event: &self.event };
        // INVARIANT: no map key is anything but text and no field can fail, so this always has bytes; were it ever
        // empty, the store refuses it, because an empty body does not parse.
        serde_json::to_vec(&body).unwrap_or_default()
    }

    /// Reads canonical bytes back, and nothing else.
    ///
    /// # Errors
    ///
    /// Anything but the exact bytes that [`Record::canonical`] writes.
    pub fn from_canonical(bytes: &[u8]) -> Result<Self, RecordError> {
        let body: Body<Event> = serde_json::from_slice(bytes).map_err(RecordError::Unparsable)?;
        if body.v != FORMAT_VERSION {
            return Err(RecordError::Version(body.v));
        }
        let record = Self { seq: body.seq, at: body.at, event: body.event };
        if record.canonical() == bytes { Ok(record) } else { Err(RecordError::NotCanonical) }
    }
}
