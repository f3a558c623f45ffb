//! May this statement, that waits for people, run now?
//!
//! An [`Approval`] is asked for by a decision, collects one vote of a distinct person for each group, and lifts the wait
//! of exactly one run of exactly one statement ([`statement_sha256`]). Every step takes the time as an argument and
//! returns the next value; the store swaps it in only if nobody else did ([`Approval::version`]).
//!
//! ```text
//! pending ──▶ approved ──▶ consumed
//!    │            │
//!    ├────────────┴──────▶ expired, cancelled
//!    └───────────────────▶ rejected
//! ```
//!
//! ```
//! use icegate_pdp_approval::{Approval, NewApproval, State};
//! use icegate_pdp_model::{Principal, SessionContext, Timestamp};
//!
//! let person = |id: &str| Principal {
//!     id: format!("corp/{id}"), issuer: "https://id.corp".into(), subject: id.into(), groups: [].into(), agent: None,
//!     attributes: std::collections::BTreeMap::new(),
//! };
//! let stewards = ["stewards".to_owned()].into();
//! let approval = Approval::request(NewApproval {
//!     id: "a1".into(), requester: person("ana"), session_id: "s1".into(), decision_id: "d1".into(),
//!     sql: "delete from t".into(), context: SessionContext::default(), groups: stewards, reasons: vec![],
//!     statement_sha256: "00".into(), approve_within_seconds: 900, execute_within_seconds: 600,
//! }, Timestamp(0))?;
//!
//! let entitled = ["stewards".to_owned()].into();
//! assert!(approval.approve(&person("ana"), &entitled, "", Timestamp(1)).is_err(), "nobody approves their own");
//! let approval = approval.approve(&person("stefan"), &entitled, "fine", Timestamp(1))?;
//! let approval = approval.consume("00", Timestamp(2))?;
//! assert_eq!(approval.state, State::Consumed);
//! # Ok::<(), icegate_pdp_approval::ApprovalError>(())
//! ```

mod approval;
mod error;
mod statement;

pub use approval::{Approval, COMMENT_BYTES_MAX, NewApproval, State, Vote};
pub use error::ApprovalError;
pub use statement::statement_sha256;
