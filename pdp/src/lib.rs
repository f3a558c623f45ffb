//! How is the decision asked for, and what has to be durable before it is given?
//!
//! The policy decision point as a gRPC service. It fetches facts (policies, keys, sessions), calls the pure core once for
//! each statement, makes the record durable, and only then answers.
//!
//! ```no_run
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let config = icegate_pdp::Config::load("pdp.toml".as_ref())?;
//! let running = icegate_pdp::start(config).await?;
//! let addr = running.addr();
//! running.shutdown().await;
//! # drop(addr); Ok(()) }
//! ```
//!
//! In reading order: from arguments to exit status (`run`), what it is told ([`Config`]), starting and stopping
//! ([`start`]), what the services share (`state`), who may call (`access`); then the services: `sessions`, `decide`,
//! `approvals`, `records`, `watch`, `catalog`; and what runs beside them: `reload`, `hub`, `deciders`, `metrics`, `clock`.

mod access;
mod approvals;
mod catalog;
mod clock;
mod config;
mod convert;
mod decide;
mod deciders;
mod earlier;
mod hub;
mod metrics;
mod records;
mod reload;
mod run;
mod serve;
mod sessions;
mod state;
mod watch;

pub use config::{
    AuditConfig, BundleConfig, CatalogConfig, Config, ConfigError, IssuerConfig, Limits, Listen, Transport,
};
pub use run::main_from;
pub use serve::{Running, StartError, start};
