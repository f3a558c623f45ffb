//! What the reading of a statement is made of: where values come from, relations and the places they are named at.

use std::{
    collections::{BTreeSet, HashMap},
    ops::Range,
    sync::Arc,
};

use icegate_pdp_model::{Catalog, CatalogRelation, ColumnName, RelationName, Transformation};

use super::{ColumnId, Columns};
use crate::{analyze::Beside, statement::changes::Change};

/// What stopped the reading; the statement is unknown then.
#[derive(Debug)]
pub(crate) struct Stop(pub(crate) String);

pub(crate) type Read<T> = Result<T, Stop>;

/// Stops because of a construct that is not understood.
pub(crate) fn stop<T>(why: impl Into<String>) -> Read<T> {
    Err(Stop(why.into()))
}

/// Stops when a part that must be absent is there.
pub(crate) fn absent(present: bool, what: &str) -> Read<()> {
    if present { stop(format!("{what} is not understood")) } else { Ok(()) }
}

/// Where a value comes from.
#[derive(Debug, Clone)]
pub(crate) struct Lineage {
    pub(crate) sources: Columns,
    pub(crate) control: Columns,
    pub(crate) transformation: Transformation,
    pub(crate) opaque: bool,
}

impl Lineage {
    /// A constant.
    pub(crate) fn none() -> Self {
        Self {
            sources: Columns::new(),
            control: Columns::new(),
            transformation: Transformation::Transformation,
            opaque: false,
        }
    }

    /// From somewhere that is not known.
    pub(crate) fn opaque() -> Self {
        Self { opaque: true, ..Self::none() }
    }

    /// Adds another value it is computed from.
    pub(crate) fn add(&mut self, other: Self) {
        merge(&mut self.sources, other.sources);
        merge(&mut self.control, other.control);
        self.transformation = self.transformation.max(other.transformation);
        self.opaque |= other.opaque;
    }

    /// Adds a value that only decides.
    pub(crate) fn decide(&mut self, other: Self) {
        merge(&mut self.control, other.sources);
        merge(&mut self.control, other.control);
        self.opaque |= other.opaque;
    }

    /// No longer the bare column.
    #[must_use]
    pub(crate) fn computed(mut self) -> Self {
        self.transformation = self.transformation.max(Transformation::Transformation);
        self
    }

    /// Every column that has any influence.
    pub(crate) fn all(self) -> Columns {
        let mut all = self.sources;
        merge(&mut all, self.control);
        all
    }
}

/// Adds all of another set.
pub(crate) fn merge(into: &mut Columns, from: Columns) {
    if into.is_empty() { *into = from } else { into.unite(&from) }
}

/// Columns of a query's result.
#[derive(Debug, Clone, Default)]
pub(crate) struct Output {
    pub(crate) columns: Vec<OutputColumn>,
    /// Columns that decided which rows there are.
    pub(crate) rows: Columns,
    /// There may be more columns than are listed.
    pub(crate) open: bool,
    /// What those may come from.
    pub(crate) beyond: Beyond,
    /// Of a view: the relation whose rows, one by one, are its own.
    pub(crate) row_of: Option<RelationName>,
}

/// Relations the catalog does not hold that columns which are not listed may come from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Beyond(pub(super) Vec<Arc<RelationName>>);

impl Beyond {
    /// Most that are told apart.
    const RELATIONS_MAX: usize = 16;

    pub(crate) fn one(name: RelationName) -> Self {
        Self(vec![Arc::new(name)])
    }

    pub(crate) fn add(&mut self, other: &Self) {
        for name in &other.0 {
            if self.0.len() < Self::RELATIONS_MAX && !self.0.contains(name) {
                self.0.push(Arc::clone(name));
            }
        }
    }

    /// Every column of each, named `*`.
    pub(crate) fn all(&self) -> impl Iterator<Item = ColumnName> {
        self.0.iter().map(|name| ColumnName::new(Arc::clone(name), "*"))
    }
}

#[derive(Debug, Clone)]
pub(crate) struct OutputColumn {
    pub(crate) name: String,
    pub(crate) lineage: Lineage,
}

/// A catalogued relation met while reading.
#[derive(Debug)]
pub(crate) struct Known<'a> {
    pub(crate) name: Arc<RelationName>,
    pub(crate) entry: &'a CatalogRelation,
    /// For views: their output by position, in the order of the catalog's columns.
    pub(crate) view: Option<Arc<Output>>,
    /// For views: every relation whose rows they are made of.
    pub(crate) beneath: BTreeSet<RelationName>,
    /// By place: the number of each column that was read.
    pub(super) numbers: Vec<Option<ColumnId>>,
}

impl Known<'_> {
    /// The names of the protected paths inside a column.
    pub(crate) fn paths(&self, column: usize) -> impl Iterator<Item = ColumnName> {
        let column = self.entry.columns.get(column).into_iter();
        let named = column.flat_map(|column| column.paths.iter().map(|path| column.path_name(path)));
        named.map(|path| ColumnName::new(Arc::clone(&self.name), path))
    }
}

/// The columns one statement read, by number.
#[derive(Debug, Default)]
pub(crate) struct Numbered(pub(super) Vec<NumberedColumn>);

#[derive(Debug)]
pub(super) struct NumberedColumn {
    /// The relation's place among those known and the column's in it; `None` when the catalog does not hold it.
    pub(super) place: Option<(usize, usize)>,
    pub(super) name: ColumnName,
}

impl Numbered {
    /// The relation's place among those known, and the column's place in it; `None` when the catalog does not hold it.
    pub(crate) fn place(&self, id: ColumnId) -> Option<(usize, usize)> {
        self.0.get(id.number())?.place
    }

    /// The full name of a column.
    pub(crate) fn name(&self, id: ColumnId) -> Option<&ColumnName> {
        self.0.get(id.number()).map(|it| &it.name)
    }

    /// All of them, ordered by name.
    pub(crate) fn in_order(&self) -> Vec<(ColumnId, &ColumnName)> {
        let numbered = self.0.iter().enumerate();
        let mut all: Vec<_> = numbered.filter_map(|(at, it)| Some((ColumnId::numbered(at)?, &it.name))).collect();
        all.sort_unstable_by_key(|(_, name)| *name);
        all
    }

    /// The full names of these columns.
    pub(crate) fn names(&self, ids: &Columns) -> BTreeSet<ColumnName> {
        ids.iter().filter_map(|id| self.name(id)).cloned().collect()
    }
}

/// What a reference to a relation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Rows are read; it can be replaced by a query.
    Source,
    /// Rows are read where a query in parentheses may stand, but without an alias of its own.
    Unload,
    /// Rows are read by a step for the steps behind `->>`.
    Step,
    /// Rows are copied whole, and only a name can stand there.
    Clone,
    /// Rows are written.
    Target,
}

/// One place in the text where a catalogued relation is named.
#[derive(Debug, Clone)]
pub(crate) struct Site {
    pub(crate) known: usize,
    pub(crate) role: Role,
    /// Columns whose values are read.
    pub(crate) used: BTreeSet<usize>,
    /// Columns whose names must be there though nothing reads them.
    pub(crate) kept: BTreeSet<usize>,
    /// Bytes of the whole name; `None` when it is not in this text or its span was not sure.
    pub(crate) name: Option<Range<usize>>,
    /// Last identifier of the name as written.
    pub(crate) last: String,
    pub(crate) aliased: bool,
    /// Time travel, sampling: they belong to the table itself.
    pub(crate) qualified: Option<&'static str>,
    /// Where those words end that stand right behind the name and can move with it.
    pub(crate) clause_end: Option<usize>,
    /// Columns the warehouse adds to the relation's own here.
    pub(crate) added: &'static [&'static str],
    /// Where a `MATCH_RECOGNIZE` ends that stands right behind it.
    pub(crate) match_end: Option<usize>,
    /// Bytes to cut from `schema.t.c` once `t` is an alias; `None` in it: the place was not sure.
    pub(crate) prefixes: Vec<Option<Range<usize>>>,
    /// Another relation of the same scope has the same last name.
    pub(crate) contested: bool,
    /// Some of its columns are meant by their place.
    pub(crate) by_place: bool,
    /// Its rows are changed or removed.
    pub(crate) change: Option<Change>,
}

/// What names can mean.
#[derive(Debug, Clone, Copy)]
pub(crate) struct World<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) beside: Beside<'a>,
}

/// A relation made earlier in the same request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Made {
    /// Its columns and where their values come from.
    Columns(Vec<(String, MadeSources)>),
    /// Something happened to it that makes its columns unsure.
    Unsure,
}

/// Sources of a made column, by full name, since each statement has its own numbering.
pub(crate) type MadeSources = BTreeSet<ColumnName>;

/// What earlier statements of a request did to names.
#[derive(Debug, Clone, Default)]
pub(crate) struct Request {
    pub(crate) made: HashMap<RelationName, Made>,
    /// Databases and schemas (one or two parts) that were renamed, dropped or replaced.
    pub(crate) unsure: BTreeSet<Vec<String>>,
    /// Relations that have another's name or rows.
    pub(crate) moved: BTreeSet<RelationName>,
}

impl Request {
    /// What is known of a relation from earlier statements; `None` when the catalog still holds.
    pub(crate) fn made(&self, name: &RelationName) -> Option<Made> {
        if self.in_unsure(name) {
            return Some(Made::Unsure);
        }
        self.made.get(name).cloned()
    }

    /// Whether it may hold the rows of any other relation.
    pub(crate) fn may_be_another(&self, name: &RelationName) -> bool {
        self.in_unsure(name) || self.moved.contains(name)
    }

    fn in_unsure(&self, name: &RelationName) -> bool {
        let container = |parts: &[&str]| {
            self.unsure.iter().any(|unsure| unsure.iter().map(String::as_str).eq(parts.iter().copied()))
        };
        container(&[&name.database]) || container(&[&name.database, &name.schema])
    }
}
