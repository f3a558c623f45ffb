//! What do icegate's processes say to each other?
//!
//! The contract is `icegate/v1/*.proto`; the code here is generated from it and committed, so that nobody needs
//! `protoc`. `tests/bootstrap.rs` regenerates and compares; after a change of contract run
//! `ICEGATE_REGENERATE=1 cargo test -p icegate-proto`.
//!
//! ```
//! use icegate_proto::v1::{DecideRequest, decision_service_client::DecisionServiceClient};
//!
//! # async fn ask() -> Result<(), Box<dyn std::error::Error>> {
//! let mut pdp = DecisionServiceClient::connect("http://127.0.0.1:7700").await?;
//! let decision = pdp.decide(DecideRequest { sql: "SELECT 1".into(), ..Default::default() }).await?;
//! # Ok(()) }
//! ```

/// Version 1 of the contract.
#[allow(missing_docs, missing_debug_implementations, clippy::all, clippy::pedantic, reason = "generated")]
pub mod v1 {
    include!("generated/icegate.v1.rs");
}

/// The contract as a serialised `FileDescriptorSet`, for gRPC reflection.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("generated/icegate.v1.bin");

/// Metadata key under which a PEP gives its configured name with every call.
pub const PEP_ID: &str = "icegate-pep-id";

/// Metadata key under which a PEP gives the name of its present start, as in [`v1::WatchRequest`]. Runs are recorded
/// with it, so that those of an earlier start can be told apart when it is gone.
pub const PEP_INSTANCE: &str = "icegate-pep-instance";
