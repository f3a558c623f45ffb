//! May this principal do this, under these policies?
//!
//! A [`Bundle`] is everything a customer decides with: Cedar policies, the schema they are written against, the catalog
//! of the warehouse, and settings. [`Bundle::compile`] reads it whole or says, with file, line and remedy, everything that
//! is wrong with it. [`Bundle::evaluate`] answers one request with a [`Verdict`].
//!
//! ```
//! use icegate_pdp_policy::{Bundle, BundleSource, PersonAction, SCHEMA};
//! use icegate_pdp_model::{Outcome, Principal};
//!
//! let policy = r#"
//!   @id("stewards-approve")
//!   permit (principal in Icegate::Group::"stewards", action == Icegate::Action::"approve", resource);
//! "#;
//! let source = BundleSource::new([
//!     ("schema.cedarschema", SCHEMA),
//!     ("base.cedar", policy),
//!     ("catalog.yaml", "databases: {}"),
//!     ("settings.yaml", "connection: demo"),
//! ]);
//! let bundle = Bundle::compile(&source).unwrap();
//! let stella = Principal {
//!     id: "dev/stella".into(),
//!     issuer: String::new(),
//!     subject: String::new(),
//!     groups: ["stewards".to_owned()].into(),
//!     agent: None,
//!     attributes: std::collections::BTreeMap::new(),
//! };
//! let verdict = bundle.may(&stella, PersonAction::Approve("data-stewards"));
//! assert_eq!(verdict.outcome, Outcome::Allow);
//! assert!(verdict.policies.contains("stewards-approve"));
//! ```
//!
//! In reading order: what a bundle is made of (`source`, `settings`), how it is compiled (`compile`, with `annotation` and
//! `lift` for what annotations promise), the words shared with Cedar (`vocabulary`), finding the policies that can matter
//! (`index`), what Cedar is told (`facts`), asking and combining (`evaluate`), and saying it (`sentence`).

mod annotation;
mod compile;
mod evaluate;
mod facts;
mod index;
mod lift;
mod lints;
mod problem;
mod sentence;
mod sets;
mod settings;
mod source;
mod vocabulary;

pub use compile::Bundle;
pub use evaluate::{Asked, PersonAction, Verdict};
pub use problem::{BundleError, Lint, Problem};
pub use settings::{STARTER_HASH_SALT, Settings};
pub use source::{BundleSource, SourceFile};

/// The Cedar schema policies are written against. A bundle's own `schema.cedarschema` must say the same.
pub const SCHEMA: &str = include_str!("schema.cedarschema");
