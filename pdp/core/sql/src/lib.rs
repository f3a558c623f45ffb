//! What does a SQL text do, touch, read and disclose; and what is the same text with its reads masked?
//!
//! [`analyze`] reads every statement of a text against a catalog. What is not understood is a statement of level
//! `Unknown` that says why (or `Classified`, when its head alone says what it does to which objects), and a name that
//! does not resolve is listed: nothing is guessed and nothing is dropped.
//! [`Analyzed::rewrite`] replaces each read of a masked column by a derived table in the original text and leaves
//! every other byte alone, or says why it cannot. [`locate`] finds the places in the text an analysis speaks of, for
//! those who show it to a person.
//!
//! ```
//! use std::collections::BTreeMap;
//!
//! use icegate_pdp_model::{Catalog, CatalogColumn, CatalogRelation, RelationKind, RelationName, SessionContext};
//! use icegate_pdp_sql::{Limits, analyze};
//!
//! let column = |name: &str, data_type: &str| CatalogColumn {
//!     name: name.into(),
//!     data_type: data_type.into(),
//!     nullable: true,
//!     tags: Default::default(),
//!     paths: Vec::new(),
//! };
//! let customers = CatalogRelation {
//!     kind: RelationKind::Table,
//!     definition: None,
//!     tags: Default::default(),
//!     columns: vec![column("ID", "NUMBER"), column("EMAIL", "VARCHAR")],
//!     row_attributes: Default::default(),
//! };
//! let mut catalog = Catalog::default();
//! catalog.insert(RelationName::new("SALES", "PUBLIC", "CUSTOMERS"), customers)?;
//! let session = SessionContext { database: Some("SALES".into()), schema: Some("PUBLIC".into()), ..Default::default() };
//!
//! let sql = "select id, email from customers c -- all of them";
//! let analyzed = analyze(sql, &session, &catalog, &Limits::default())?;
//! assert_eq!(analyzed.statements[0].kind.to_string(), "select");
//!
//! let masks = BTreeMap::from([("SALES.PUBLIC.CUSTOMERS.EMAIL".parse()?, "null".parse()?)]);
//! assert_eq!(
//!     analyzed.rewrite(&masks, "")?,
//!     r#"select id, email from (SELECT "ID", CAST(NULL AS VARCHAR) AS "EMAIL" FROM SALES.PUBLIC.CUSTOMERS) c -- all of them"#
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod analyze;
mod bodies;
mod bound;
mod columns;
mod earlier;
mod expr;
mod facts;
mod flow;
mod functions;
mod gate;
mod heads;
mod locate;
mod names;
mod parse;
mod query;
mod reader;
mod reword;
mod rewrite;
mod rowwise;
mod scope;
mod scripting;
mod stack;
mod statement;
mod stops;

pub use analyze::{AnalyzeError, Analyzed, Beside, Limits, analyze, analyze_with};
pub use bound::{BoundValues, Written};
pub use earlier::{Earlier, EarlierRelation, results_asked};
pub use locate::{Located, locate};
pub use rewrite::{ResultPlace, Rewriting, Rewritten, Unmaskable};
