//! What exactly is written down, and how does a reader know that nothing was changed since?
//!
//! An [`Event`] is what happened, a [`Record`] is an event with its place and time, and its canonical bytes are what is
//! kept. Each record is hashed together with the hash before it ([`chain`]), so that a [`Verifier`] fed the rows in order
//! names the first one that was altered, left out or put in. The chain shows that the trail agrees with itself; whoever
//! can rewrite all of it can also rebuild all hashes, so a hash kept elsewhere is what pins it down.
//!
//! ```
//! use icegate_pdp_audit::{Event, GENESIS, Record, Verifier, chain};
//! use icegate_pdp_model::Timestamp;
//!
//! let event = Event::ServiceStarted { instance: "a".into(), version: "0.1.0".into(), bundle_version: "1".into() };
//! let body = Record { seq: 1, at: Timestamp(0), event }.canonical();
//! let hash = chain(&GENESIS, &body);
//!
//! let mut verifier = Verifier::new();
//! verifier.push(1, &body, &GENESIS, &hash).expect("it was not touched");
//! assert_eq!(verifier.head(), (1, hash));
//! ```

mod chain;
mod decision;
mod event;
mod record;

pub use chain::{ChainBreak, GENESIS, Hash, Verifier, chain};
pub use decision::{
    Asking, ColumnNote, DecisionEvent, JournaledRun, MaskNote, ObjectNote, RowFilterNote, StatementNote,
};
pub use event::{Client, CutEvent, CutReason, Delivery, Event, OutcomeEvent, RunStatus, SessionEnd, Who, sha256_hex};
pub use record::{FORMAT_VERSION, Record, RecordError};
