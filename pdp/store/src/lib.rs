//! What does the PDP remember, and when may it say that it will not forget?
//!
//! Sessions and their temporary relations, revocations, approvals, what was read of the warehouse, and the audit trail in one SQLite file. [`Store::commit`] answers when the change is
//! on the disk (WAL, `synchronous=FULL`), and a change carries its records with it: a session is open, an approval used,
//! a statement allowed exactly when the record that says so is durable. One task writes; changes that come together
//! share a transaction and a sync. Records are only ever added, each hashed with the one before it.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! use icegate_pdp_audit::Event;
//! use icegate_pdp_model::Timestamp;
//! use icegate_pdp_store::{Change, Search, Store};
//!
//! # let folder = tempfile::tempdir()?;
//! # let path = folder.path().join("pdp.sqlite");
//! let store = Store::open(&path, |_latency, _changes| {}).await?;
//! let event = Event::ServiceStarted { instance: "a".into(), version: "0.1.0".into(), bundle_version: "1".into() };
//! let appended = store.commit(Change::event(event, Timestamp(0))).await?;
//! assert_eq!(appended[0].seq, 1);
//!
//! let page = store.search(&Search::default()).await?;
//! assert_eq!(page.entries[0].record.hash, appended[0].hash);
//! assert_eq!(store.integrity().await?.problems, Vec::<String>::new());
//! # store.close().await;
//! # Ok::<(), Box<dyn std::error::Error>>(()) }).unwrap();
//! ```

mod catalog;
mod change;
mod error;
mod integrity;
mod read;
mod search;
mod store;
mod temporary;
mod terms;
mod writer;

pub use change::{Appended, CatalogChange, Change, Revocation, SessionRow, SessionState, StateChange};
pub use error::StoreError;
pub use integrity::IntegrityReport;
pub use read::{ApprovalFilter, OpenRun, RecordRow, SessionFilter};
pub use search::{Entry, Page, Search};
pub use store::{Options, Stats, Store};
pub use writer::RECORD_BYTES_MAX;
