//! What is a decision made of?
//!
//! The nouns every room of the PDP shares, as plain values: no clock, no socket, no file. They are read in the order a
//! statement meets them: who asks ([`Principal`]), names ([`RelationName`], [`ColumnName`]), what is known
//! ([`Catalog`]), what the text does ([`StatementAnalysis`]), and what is answered ([`Decision`]).
//!
//! ```
//! use icegate_pdp_model::{ColumnName, RelationName};
//!
//! let column = ColumnName::new(RelationName::new("SALES", "PUBLIC", "CUSTOMERS"), "e-mail");
//! assert_eq!(column.to_string(), r#"SALES.PUBLIC.CUSTOMERS."e-mail""#);
//! ```

mod catalog;
mod decision;
mod earlier;
mod error;
mod mask;
mod name;
mod principal;
mod rows;
mod statement;
mod time;

pub use catalog::{
    AttributeType, COLUMNS_MAX, Catalog, CatalogColumn, CatalogError, CatalogPath, CatalogRelation, Conflict, Nature,
    NoPath, PATH_KEYS_MAX, PATHS_MAX, PathKeys, RelationKind, TAG_CHARS_MAX, TAGS_MAX, TYPE_CHARS_MAX, VIEW_BYTES_MAX,
    is_tag,
};
pub use decision::{Code, Decision, ExplainedColumn, MaskedColumn, MaskedOutput, Outcome, Reason};
pub use earlier::{EarlierColumn, EarlierRows, MadeTemporary, Temporary, TemporaryRow};
pub use error::with_causes;
pub use mask::{
    Alphabet, Detector, ExpressionError, Mask, MaskError, MaskExpression, MaskSite, ResultMask, TimeUnit, ValueType,
};
pub use name::{ColumnName, NameError, ObjectName, RelationName};
pub use principal::{Agent, Assurance, Attribute, Principal};
pub use rows::{Comparison, FilteredRelation, Operand, PatternPart, Predicate, RowFilter, RowValue};
pub use statement::{
    Effect, Facts, Kind, Level, ObjectAccess, ObjectKind, OutputColumn, SessionChange, SessionContext,
    StatementAnalysis, Stops, Transformation, Verb,
};
pub use time::Timestamp;
