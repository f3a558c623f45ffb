//! Statements made by chance over one schema, each with what an analysis of it must find.
//!
//! The maker knows by construction where every output column comes from, since it chose the columns itself: it is an
//! oracle beside the analysis that shares no code with it. A statement is told by its seed alone. Its text has one blank
//! between any two tokens, so that it can be written in other ways.

mod changes;
mod dice;
mod expressions;
mod queries;
mod writing;

use std::{collections::BTreeSet, sync::LazyLock};

use icegate_pdp_model::{Catalog, SessionContext};

pub use dice::Dice;
pub use writing::rewritten;

/// A column of the schema, as `TABLE.COLUMN`.
pub type Source = String;

/// One statement and what is known of it.
#[derive(Debug, Clone)]
pub struct Generated {
    /// What it was made from.
    pub seed: u64,
    /// The text, with one blank between tokens.
    pub sql: String,
    /// What every column of its result comes from; for a change, the columns it writes.
    pub outputs: Vec<Expected>,
    /// Every column it names or takes by a `*`, whatever for.
    pub read: BTreeSet<Source>,
    /// The verb: `select`, `insert`, `update`, `merge`, `create_table`, `create_view`.
    pub kind: &'static str,
}

/// What one output column must come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Expected {
    /// Its name; aliases are made so that none is twice in one result.
    pub name: String,
    /// Columns whose values can be in it.
    pub values: BTreeSet<Source>,
    /// Columns its own expression tests: CASE conditions, PARTITION BY, predicates of a scalar subquery.
    pub tested: BTreeSet<Source>,
}

/// How aliases are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Aliases {
    /// `t1`, `c1`.
    Short,
    /// `renamed_t1_x`, `renamed_c1_x`.
    Long,
}

/// The statement of this seed.
pub fn generate(seed: u64, aliases: Aliases) -> Generated {
    let mut maker = queries::Maker::new(seed, aliases);
    if maker.dice.one_in(6) {
        return maker.change(seed);
    }
    let query = maker.query(0);
    Generated { seed, sql: query.sql, outputs: query.outputs, read: maker.read, kind: "select" }
}

/// The catalog of `tests/lineage/catalog.yaml`.
///
/// # Panics
/// When the file is no catalog.
pub fn catalog() -> &'static Catalog {
    static CATALOG: LazyLock<Catalog> = LazyLock::new(|| {
        let text = include_str!("../lineage/catalog.yaml");
        #[expect(clippy::expect_used, reason = "the file is part of the tests")]
        serde_saphyr::from_str(text).expect("tests/lineage/catalog.yaml is a catalog")
    });
    &CATALOG
}

/// The session its names are resolved in.
pub fn session() -> SessionContext {
    SessionContext { database: Some("SHOP".into()), schema: Some("MAIN".into()), role: None, warehouse: None }
}
