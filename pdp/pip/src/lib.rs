//! What does the PDP know, and is it still true?
//!
//! Fetches the facts decisions rest on and keeps them fresh: the issuers' signing [`Keys`] the policy bundle's files
//! ([`BundleDir`]) and what the warehouse says of itself ([`warehouse`]). All keep the last good state when the source
//! fails, and say so.
//!
//! ```no_run
//! # async fn run(issuers: Vec<icegate_pdp_pip::IssuerKeys>, token: &str) -> Result<(), Box<dyn std::error::Error>> {
//! use std::{path::PathBuf, time::Duration};
//!
//! use icegate_pdp_model::Timestamp;
//! use icegate_pdp_pip::{BundleDir, Keys, KeysConfig};
//!
//! let keys = Keys::start(issuers, KeysConfig::default()).await?;
//! let verified = keys.verify(token, Timestamp(1_790_000_000_000)).await?;
//!
//! let mut dir = BundleDir::new(PathBuf::from("policies"));
//! let bundle = dir.load()?;
//! tokio::spawn(dir.watch(Duration::from_secs(1), |loaded| drop(loaded)));
//! # drop((verified, bundle)); Ok(()) }
//! ```

mod bundle;
mod keys;
pub mod warehouse;

pub use bundle::{BundleDir, BundleDirError, CATALOG_FILE_BYTES_MAX, FILE_BYTES_MAX, FILES_MAX, TOTAL_BYTES_MAX};
pub use keys::{
    DOCUMENT_BYTES_MAX, FetchError, IssuerKeys, KeySource, KeyStatus, Keys, KeysConfig, KeysError, UNKNOWN_KEY_PAUSE,
};
