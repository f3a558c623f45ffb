use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{NameError, ObjectName, RelationName};

/// What is known of the warehouse: relations, their columns and tags, functions and what they do.
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
///       big_spenders:
///         view: SELECT id, email FROM sales.public.customers
///         columns: { id: { type: NUMBER }, email: { type: VARCHAR, tags: [pii.email] } }
/// functions:
///   sales.public.normalise: pure
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Catalog {
    relations: HashMap<RelationName, CatalogRelation>,
    schemas: BTreeMap<String, BTreeSet<String>>,
    functions: BTreeMap<ObjectName, Nature>,
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
}

impl CatalogRelation {
    /// The column of this folded name.
    pub fn column(&self, name: &str) -> Option<&CatalogColumn> {
        self.columns.iter().find(|column| column.name == name)
    }
}

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

/// Why a catalog cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum CatalogError {
    /// A key is not an identifier.
    #[error("{place}: not a name")]
    Name {
        /// Where, for example `databases.sales.public`.
        place: String,
        /// What is wrong with it.
        #[source]
        source: NameError,
    },
    /// Two keys fold to the same name.
    #[error("{0} stands there twice once names are folded to upper case")]
    Duplicate(String),
    /// A tag is not lower-case dotted words.
    #[error("{place}: tag `{tag}` is not lower-case words joined by dots")]
    Tag {
        /// The column or relation.
        place: String,
        /// The tag as written.
        tag: String,
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

    /// What the user-defined function or procedure of this full name does; `None` when it is not catalogued.
    pub fn function(&self, name: &ObjectName) -> Option<Nature> {
        self.functions.get(name).copied()
    }

    /// Adds a relation.
    ///
    /// # Errors
    ///
    /// When one of this name is there.
    pub fn insert(&mut self, name: RelationName, relation: CatalogRelation) -> Result<(), CatalogError> {
        self.schemas.entry(name.database.clone()).or_default().insert(name.schema.clone());
        match self.relations.entry(name) {
            std::collections::hash_map::Entry::Occupied(taken) => Err(CatalogError::Duplicate(taken.key().to_string())),
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(relation);
                Ok(())
            }
        }
    }
}

/// The file's shape, before names are folded and checked.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CatalogFile {
    databases: BTreeMap<String, BTreeMap<String, BTreeMap<String, RelationEntry>>>,
    functions: BTreeMap<String, Nature>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RelationEntry {
    #[serde(default)]
    view: Option<String>,
    #[serde(default)]
    tags: BTreeSet<String>,
    columns: Columns,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ColumnEntry {
    #[serde(rename = "type")]
    data_type: String,
    #[serde(default = "yes")]
    nullable: bool,
    #[serde(default)]
    tags: BTreeSet<String>,
}

fn yes() -> bool {
    true
}

/// A map that keeps the order of the file: columns are positional.
#[derive(Debug)]
struct Columns(Vec<(String, ColumnEntry)>);

impl<'de> Deserialize<'de> for Columns {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> serde::de::Visitor<'de> for Visitor {
            type Value = Columns;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a map from column name to `{ type: …, tags: […] }`")
            }
            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Columns, A::Error> {
                let mut columns = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    columns.push(entry);
                }
                Ok(Columns(columns))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

impl<'de> Deserialize<'de> for Catalog {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let file = CatalogFile::deserialize(deserializer)?;
        file.try_into().map_err(|error: CatalogError| serde::de::Error::custom(crate::with_causes(&error)))
    }
}

impl TryFrom<CatalogFile> for Catalog {
    type Error = CatalogError;

    fn try_from(file: CatalogFile) -> Result<Self, CatalogError> {
        let mut catalog = Self::default();
        for (database, schemas) in file.databases {
            let database = folded(&database, "databases")?;
            if catalog.schemas.insert(database.clone(), BTreeSet::new()).is_some() {
                return Err(CatalogError::Duplicate(database));
            }
            for (schema, relations) in schemas {
                let schema = folded(&schema, &database)?;
                let schemas = catalog.schemas.entry(database.clone()).or_default();
                if !schemas.insert(schema.clone()) {
                    return Err(CatalogError::Duplicate(format!("{database}.{schema}")));
                }
                for (relation, entry) in relations {
                    let name = folded(&relation, &format!("{database}.{schema}"))?;
                    let name = RelationName::new(&database, &schema, name);
                    let relation = read_relation(&name, entry)?;
                    catalog.insert(name, relation)?;
                }
            }
        }
        for (name, nature) in file.functions {
            let parsed: ObjectName =
                name.parse().map_err(|source| CatalogError::Name { place: "functions".into(), source })?;
            if catalog.functions.insert(parsed, nature).is_some() {
                return Err(CatalogError::Duplicate(name));
            }
        }
        Ok(catalog)
    }
}

fn read_relation(name: &RelationName, entry: RelationEntry) -> Result<CatalogRelation, CatalogError> {
    let mut seen = BTreeSet::new();
    let mut columns = Vec::with_capacity(entry.columns.0.len());
    for (column, entry) in entry.columns.0 {
        let column = folded(&column, &name.to_string())?;
        if !seen.insert(column.clone()) {
            return Err(CatalogError::Duplicate(format!("{name}.{column}")));
        }
        check_tags(&entry.tags, || format!("{name}.{column}"))?;
        columns.push(CatalogColumn {
            name: column,
            data_type: entry.data_type.trim().to_uppercase(),
            nullable: entry.nullable,
            tags: entry.tags,
        });
    }
    check_tags(&entry.tags, || name.to_string())?;
    let kind = if entry.view.is_some() { RelationKind::View } else { RelationKind::Table };
    Ok(CatalogRelation { kind, definition: entry.view, tags: entry.tags, columns })
}

fn check_tags(tags: &BTreeSet<String>, place: impl Fn() -> String) -> Result<(), CatalogError> {
    let word = |word: &str| {
        !word.is_empty() && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' || c == '-')
    };
    match tags.iter().find(|tag| !tag.split('.').all(word)) {
        Some(tag) => Err(CatalogError::Tag { place: place(), tag: tag.clone() }),
        None => Ok(()),
    }
}

/// One identifier as SQL reads it.
fn folded(key: &str, place: &str) -> Result<String, CatalogError> {
    let error = |source| CatalogError::Name { place: place.to_owned(), source };
    let name: ObjectName = key.parse().map_err(error)?;
    match name.parts() {
        [part] => Ok(part.clone()),
        parts => Err(error(NameError::Parts { name: key.to_owned(), found: parts.len(), wanted: 1 })),
    }
}
