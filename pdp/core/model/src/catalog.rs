use std::collections::{BTreeMap, BTreeSet, HashMap, btree_map, hash_map::Entry};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{ObjectName, RelationName};

mod file;
mod merge;
mod path;
mod yaml;

pub use merge::Conflict;
pub use path::{CatalogPath, NoPath, PATH_KEYS_MAX, PATHS_MAX, PathKeys};

/// Longest text of one view, in bytes.
pub const VIEW_BYTES_MAX: usize = 256 * 1024;
/// Longest data type, in characters.
pub const TYPE_CHARS_MAX: usize = 1024;
/// Longest tag, in characters.
pub const TAG_CHARS_MAX: usize = 256;
/// Most tags in one list.
pub const TAGS_MAX: usize = 64;
/// Most columns of one relation; Snowflake itself allows a few thousand.
pub const COLUMNS_MAX: usize = 10_000;
/// Most entries of any other map of a catalog: databases, schemas of one, relations of one, functions, procedures, tags.
const ENTRIES_MAX: usize = 1_000_000;

/// What is known of the warehouse: relations, their columns and tags, functions and procedures and what they do.
///
/// Read from YAML or JSON in this shape; keys are identifiers as in SQL (unquoted folds to upper case):
///
/// ```yaml
/// databases:
///   sales:
///     public:
///       customers:
///         columns:
///           id: { type: NUMBER, nullable: false }
///           email: { type: VARCHAR, tags: [pii.email] }
///       orders:
///         rows: { region: sold_in }      # attribute of its rows in Cedar: column
///         columns: { id: { type: NUMBER }, sold_in: { type: VARCHAR } }
///       events:                          # protected places inside a VARIANT; keys are case-sensitive
///         columns: { payload: { type: VARIANT, paths: { user.email: { type: VARCHAR, tags: [pii.email] } } } }
///       big_spenders:
///         view: SELECT id, email FROM sales.public.customers
///         columns: { id: { type: NUMBER }, email: { type: VARCHAR, tags: [pii.email] } }
/// functions:
///   sales.public.normalise: pure
/// procedures:
///   sales.public.rebuild: unknown
/// tags:
///   sales.public.customers.phone: [pii.phone]
/// ```
///
/// `tags` are said apart from the definition: of a database, a schema, a relation or a column, wherever it is defined. They
/// are added to what the definition has, so they stay when an imported definition is written anew.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    relations: HashMap<RelationName, CatalogRelation>,
    schemas: BTreeMap<String, BTreeSet<String>>,
    functions: BTreeMap<ObjectName, Nature>,
    procedures: BTreeMap<ObjectName, Nature>,
    /// Said apart. INVARIANT: `relations` carry them already.
    tags: BTreeMap<ObjectName, BTreeSet<String>>,
}

/// A table or view.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogRelation {
    /// Table or view.
    pub kind: RelationKind,
    /// The view's SQL, when known.
    pub definition: Option<String>,
    /// Tags on the relation itself.
    pub tags: BTreeSet<String>,
    /// Columns in their order. Names are folded and unique.
    pub columns: Vec<CatalogColumn>,
    /// What policies may ask of a row: the attribute's name in Cedar and the column that holds it.
    pub row_attributes: BTreeMap<String, String>,
}

impl CatalogRelation {
    /// The column of this folded name.
    pub fn column(&self, name: &str) -> Option<&CatalogColumn> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Tags of a column, or of a path by its name, `PAYLOAD:user.email`.
    pub fn tags_of(&self, name: &str) -> Option<&BTreeSet<String>> {
        let own = self.column(name).map(|column| &column.tags);
        own.or_else(|| self.path(name).map(|(_, path)| &path.tags))
    }

    /// The path of this name, and the column it is in.
    pub fn path(&self, name: &str) -> Option<(&CatalogColumn, &CatalogPath)> {
        let paths = self.columns.iter().flat_map(|column| column.paths.iter().map(move |path| (column, path)));
        paths.into_iter().find(|(column, path)| column.path_name(path) == name)
    }

    /// The column and type of a row attribute.
    pub fn row_attribute(&self, name: &str) -> Option<(&str, AttributeType)> {
        let column = self.row_attributes.get(name)?;
        Some((column, AttributeType::of_column(&self.column(column)?.data_type)?))
    }
}

/// The type of an attribute in Cedar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum AttributeType {
    /// `Bool`
    Bool,
    /// `Long`
    Long,
    /// `decimal`: a number of at most four digits after the point. For rows only.
    #[serde(skip)]
    Decimal,
    /// `datetime`: a date, or a time without a zone. For rows only.
    #[serde(skip)]
    Datetime,
    /// `String`
    String,
    /// `Set<String>`. For principals only.
    #[serde(rename = "Set<String>")]
    Strings,
}

impl AttributeType {
    /// The word in a Cedar schema.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bool => "Bool",
            Self::Long => "Long",
            Self::Decimal => "decimal",
            Self::Datetime => "datetime",
            Self::String => "String",
            Self::Strings => "Set<String>",
        }
    }

    /// The type that holds a column's values; `None` for types no row attribute can have.
    pub fn of_column(data_type: &str) -> Option<Self> {
        let (base, parameters) = match data_type.split_once('(') {
            None => (data_type.trim(), None),
            Some((base, rest)) => (base.trim(), Some(rest.split_once(')')?)),
        };
        // `VARCHAR(5) COLLATE 'en-ci'` does not compare as Cedar does.
        if parameters.is_some_and(|(_, rest)| !rest.trim().is_empty()) {
            return None;
        }
        let mut digits = parameters.into_iter().flat_map(|(inner, _)| inner.split(',').map(|text| text.trim().parse()));
        match base {
            "VARCHAR" | "STRING" | "TEXT" | "CHAR" | "CHARACTER" | "NVARCHAR" | "NCHAR" => Some(Self::String),
            "BOOLEAN" => Some(Self::Bool),
            "INT" | "INTEGER" | "BIGINT" | "SMALLINT" | "TINYINT" | "BYTEINT" => Some(Self::Long),
            "NUMBER" | "DECIMAL" | "NUMERIC" => match digits.nth(1) {
                None | Some(Ok(0_u8)) => Some(Self::Long),
                Some(Ok(1..=4)) => Some(Self::Decimal),
                Some(_) => None,
            },
            "DATE" | "DATETIME" | "TIMESTAMP_NTZ" | "TIMESTAMPNTZ" => Some(Self::Datetime),
            _ => None,
        }
    }

    /// Whether a name can be an attribute's.
    pub fn is_name(name: &str) -> bool {
        let reserved = ["true", "false", "if", "then", "else", "in", "is", "like", "has"];
        !name.is_empty()
            && name.len() <= ATTRIBUTE_BYTES_MAX
            && name.starts_with(|c: char| c.is_ascii_lowercase())
            && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
            && !reserved.contains(&name)
    }
}

/// Longest name of an attribute.
const ATTRIBUTE_BYTES_MAX: usize = 60;

/// Table or view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelationKind {
    /// A table of any sort.
    Table,
    /// A view of any sort.
    View,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogColumn {
    /// Folded name.
    pub name: String,
    /// Snowflake's type as written, upper case, for example `NUMBER(38,0)`.
    pub data_type: String,
    /// Whether it may hold NULL.
    pub nullable: bool,
    /// Classification, for example `pii.email`. A tag `a.b` is in `a`.
    pub tags: BTreeSet<String>,
    /// Protected places inside it, when it is a VARIANT or OBJECT, each once.
    pub paths: Vec<CatalogPath>,
}

/// What calling a function or procedure does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Nature {
    /// Computes from its arguments alone.
    Pure,
    /// Reads data besides its arguments.
    Reads,
    /// Sends its arguments outside.
    External,
    /// Not known.
    Unknown,
}

impl Nature {
    /// The word used in catalogs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pure => "pure",
            Self::Reads => "reads",
            Self::External => "external",
            Self::Unknown => "unknown",
        }
    }
}

/// Why something cannot be put in a catalog.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CatalogError {
    /// One of this name is there.
    #[error("{0} stands there twice once names are folded to upper case")]
    Duplicate(String),
    /// A name has too few or too many parts to be what it is for.
    #[error("`{name}` is not {wanted}")]
    Parts {
        /// The name.
        name: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// A protected path where none can be.
    #[error("{place}: {why}")]
    Path {
        /// The column.
        place: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// A row attribute that policies could not ask for.
    #[error("{place}: row attribute `{attribute}` {why}")]
    Attribute {
        /// The relation.
        place: String,
        /// The attribute as written.
        attribute: String,
        /// What is wrong, and what to do.
        why: String,
    },
}

impl Catalog {
    /// The relation of this name.
    pub fn relation(&self, name: &RelationName) -> Option<&CatalogRelation> {
        self.relations.get(name)
    }

    /// Every relation, in no order.
    pub fn relations(&self) -> impl Iterator<Item = (&RelationName, &CatalogRelation)> {
        self.relations.iter()
    }

    /// Whether the database is known.
    pub fn has_database(&self, database: &str) -> bool {
        self.schemas.contains_key(database)
    }

    /// Whether the schema is known.
    pub fn has_schema(&self, database: &str, schema: &str) -> bool {
        self.schemas.get(database).is_some_and(|schemas| schemas.contains(schema))
    }

    /// What the user-defined function of this full name does; `None` when it is not catalogued.
    pub fn function(&self, name: &ObjectName) -> Option<Nature> {
        self.functions.get(name).copied()
    }

    /// Every row attribute and its type.
    ///
    /// # Errors
    ///
    /// When two relations give one name different types: policies speak of rows of any relation.
    pub fn row_attributes(&self) -> Result<BTreeMap<&str, AttributeType>, CatalogError> {
        let mut all: BTreeMap<&str, (AttributeType, &RelationName)> = BTreeMap::new();
        let mut relations: Vec<_> = self.relations.iter().collect();
        relations.sort_by_key(|(name, _)| *name);
        for (name, relation) in relations {
            for attribute in relation.row_attributes.keys() {
                let Some((_, kind)) = relation.row_attribute(attribute) else { continue };
                let (known, place) = *all.entry(attribute).or_insert((kind, name));
                if known != kind {
                    let why = format!(
                        "is a {} here and a {} in {place}; give one of them another name",
                        kind.as_str(),
                        known.as_str()
                    );
                    return Err(CatalogError::Attribute { place: name.to_string(), attribute: attribute.clone(), why });
                }
            }
        }
        Ok(all.into_iter().map(|(attribute, (kind, _))| (attribute, kind)).collect())
    }

    /// What the procedure of this full name does; `None` when it is not catalogued. One listed under `functions` counts.
    pub fn procedure(&self, name: &ObjectName) -> Option<Nature> {
        self.procedures.get(name).or_else(|| self.functions.get(name)).copied()
    }

    /// How many functions and procedures are catalogued.
    pub fn routines(&self) -> usize {
        self.functions.len() + self.procedures.len()
    }

    /// Adds a relation. Tags said apart of it, its schema or its database are added to it.
    ///
    /// # Errors
    ///
    /// When one of this name is there.
    pub fn insert(&mut self, name: RelationName, mut relation: CatalogRelation) -> Result<(), CatalogError> {
        self.schemas.entry(name.database.clone()).or_default().insert(name.schema.clone());
        merge::tag_all(&self.tags, &name, &mut relation);
        match self.relations.entry(name) {
            Entry::Occupied(taken) => Err(CatalogError::Duplicate(taken.key().to_string())),
            Entry::Vacant(free) => {
                free.insert(relation);
                Ok(())
            }
        }
    }

    /// Adds a database without relations.
    pub fn insert_database(&mut self, database: &str) {
        self.schemas.entry(database.to_owned()).or_default();
    }

    /// Adds a schema without relations.
    pub fn insert_schema(&mut self, database: &str, schema: &str) {
        self.schemas.entry(database.to_owned()).or_default().insert(schema.to_owned());
    }

    /// Adds a function.
    ///
    /// # Errors
    ///
    /// When one of this name is there, or it is not a full name.
    pub fn insert_function(&mut self, name: ObjectName, nature: Nature) -> Result<(), CatalogError> {
        insert_routine(&mut self.functions, name, nature)
    }

    /// Adds a procedure.
    ///
    /// # Errors
    ///
    /// When one of this name is there, or it is not a full name.
    pub fn insert_procedure(&mut self, name: ObjectName, nature: Nature) -> Result<(), CatalogError> {
        insert_routine(&mut self.procedures, name, nature)
    }
}

fn insert_routine(
    routines: &mut BTreeMap<ObjectName, Nature>,
    name: ObjectName,
    nature: Nature,
) -> Result<(), CatalogError> {
    if name.parts().len() != 3 {
        return Err(CatalogError::Parts { name: name.to_string(), wanted: "`database.schema.name`" });
    }
    match routines.entry(name) {
        btree_map::Entry::Occupied(taken) => Err(CatalogError::Duplicate(taken.key().to_string())),
        btree_map::Entry::Vacant(free) => {
            free.insert(nature);
            Ok(())
        }
    }
}

/// Whether a text can be a tag: lower-case words joined by dots.
pub fn is_tag(text: &str) -> bool {
    let word = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
    };
    text.len() <= TAG_CHARS_MAX && text.split('.').all(word)
}
