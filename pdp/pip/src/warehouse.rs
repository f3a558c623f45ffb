//! What the warehouse says of itself, read row by row into a catalog. Pure: whoever may ask has asked.

mod rows;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use icegate_pdp_model::{
    Catalog, CatalogColumn, CatalogRelation, Nature, ObjectName, RelationKind, RelationName, VIEW_BYTES_MAX,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

pub use rows::{Row, columns, natures, read_rows, relation_tags, relations, tags, view_texts};

/// Bytes of the SHA-256 that name a state of the warehouse.
const DIGEST_BYTES: usize = 4;

/// Everything read of the warehouse so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Warehouse {
    /// What is known of each database besides its relations.
    pub databases: BTreeMap<String, WarehouseDatabase>,
    /// Tables and views, those that could not be read included.
    pub relations: BTreeMap<RelationName, WarehouseRelation>,
}

/// One database: its routines, its tags, and how reading it went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct WarehouseDatabase {
    /// When it was last read to its end, in milliseconds since 1970; 0 is never.
    pub synced_ms: i64,
    /// When it was last read without leaving out what had not changed.
    pub full_ms: i64,
    /// When it was last tried.
    pub tried_ms: i64,
    /// What stopped the last try.
    pub problem: Option<String>,
    /// Functions by full name.
    pub functions: BTreeMap<String, Nature>,
    /// Procedures by full name.
    pub procedures: BTreeMap<String, Nature>,
    /// Tags by the full name of what they are set on.
    pub tags: BTreeMap<String, BTreeSet<String>>,
}

/// One table or view.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarehouseRelation {
    /// When it was last changed, in milliseconds since 1970.
    pub altered_ms: i64,
    /// It is a view of any sort.
    pub view: bool,
    /// Why it cannot be used; then it is in no catalog. `None` when it can.
    pub unreadable: Option<String>,
    /// A view's text.
    pub text: Option<String>,
    /// Columns in their order.
    pub columns: Vec<WarehouseColumn>,
    /// Tags it has or inherits.
    pub tags: BTreeSet<String>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WarehouseColumn {
    /// As Snowflake keeps it.
    pub name: String,
    /// Its type as SQL writes it.
    pub data_type: String,
    /// Whether it may hold NULL.
    pub nullable: bool,
    /// Tags set on it.
    pub tags: BTreeSet<String>,
}

impl WarehouseRelation {
    /// One whose columns, text and tags were read; `Err` is why one of them could not be.
    pub fn new(
        listed: &Listed,
        columns: Result<Vec<WarehouseColumn>, String>,
        text: Result<Option<String>, String>,
        tags: Result<Tags, String>,
    ) -> Self {
        let mut relation = Self {
            altered_ms: listed.altered_ms,
            view: listed.view,
            unreadable: None,
            text: None,
            columns: Vec::new(),
            tags: BTreeSet::new(),
        };
        match read(listed.view, columns, text, tags) {
            Ok((columns, text, tags)) => {
                relation.columns = columns;
                relation.text = text;
                relation.tags = tags;
            }
            Err(why) => relation.unreadable = Some(why),
        }
        relation
    }

    fn catalogued(&self) -> Option<CatalogRelation> {
        if self.unreadable.is_some() {
            return None;
        }
        let column = |column: &WarehouseColumn| CatalogColumn {
            name: column.name.clone(),
            data_type: column.data_type.clone(),
            nullable: column.nullable,
            tags: column.tags.clone(),
            paths: Vec::new(),
        };
        Some(CatalogRelation {
            kind: if self.view { RelationKind::View } else { RelationKind::Table },
            definition: self.text.clone(),
            tags: self.tags.clone(),
            columns: self.columns.iter().map(column).collect(),
            row_attributes: BTreeMap::new(),
        })
    }
}

type Read = (Vec<WarehouseColumn>, Option<String>, BTreeSet<String>);

/// Half a relation protects nothing: what cannot be read whole is not used at all.
fn read(
    view: bool,
    columns: Result<Vec<WarehouseColumn>, String>,
    text: Result<Option<String>, String>,
    tags: Result<Tags, String>,
) -> Result<Read, String> {
    let mut columns = columns?;
    if columns.is_empty() {
        return Err("Its columns are not shown to the role of icegate; grant it SELECT or REFERENCES.".into());
    }
    let text = text?;
    if view {
        match &text {
            None => {
                return Err(
                    "Its text is not shown to the role of icegate; grant it ownership, or catalogue the view by hand."
                        .into(),
                );
            }
            Some(text) if text.len() > VIEW_BYTES_MAX => {
                return Err(format!("Its text has {} bytes; at most {VIEW_BYTES_MAX} are read.", text.len()));
            }
            Some(_) => {}
        }
    }
    let tags = tags?;
    for column in &mut columns {
        if let Some(found) = tags.columns.get(&column.name) {
            column.tags.extend(found.iter().cloned());
        }
    }
    Ok((columns, text.filter(|_| view), tags.relation))
}

/// A relation as the list of them has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its full name.
    pub name: RelationName,
    /// It is a view of any sort.
    pub view: bool,
    /// When it was last changed, in milliseconds since 1970.
    pub altered_ms: i64,
}

/// Tags of one relation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tags {
    /// Its own, and those of its schema and database.
    pub relation: BTreeSet<String>,
    /// By column.
    pub columns: BTreeMap<String, BTreeSet<String>>,
}

impl Warehouse {
    /// What can be used of it.
    pub fn catalog(&self) -> Catalog {
        let mut catalog = Catalog::default();
        for (name, relation) in &self.relations {
            if let Some(relation) = relation.catalogued() {
                // Names are the keys of a map: none is there twice.
                let _ = catalog.insert(name.clone(), relation);
            }
        }
        for (database, found) in &self.databases {
            if found.synced_ms > 0 {
                catalog.insert_database(database);
            }
            // As above, and names that are no names were left out when they were read.
            for (name, nature) in &found.functions {
                let _ = name.parse().map(|name| catalog.insert_function(name, *nature));
            }
            for (name, nature) in &found.procedures {
                let _ = name.parse().map(|name| catalog.insert_procedure(name, *nature));
            }
            for (name, tags) in &found.tags {
                if let Ok(name) = name.parse::<ObjectName>() {
                    catalog.add_tags(name, tags.clone());
                }
            }
        }
        catalog
    }

    /// Names its content; empty when nothing is known.
    pub fn digest(catalog: &Catalog) -> String {
        if *catalog == Catalog::default() {
            return String::new();
        }
        let hash = Sha256::digest(catalog.to_yaml());
        hash.iter().take(DIGEST_BYTES).fold(String::new(), |mut hex, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
    }

    /// The relations of one database.
    pub fn of_database<'a>(
        &'a self,
        database: &'a str,
    ) -> impl Iterator<Item = (&'a RelationName, &'a WarehouseRelation)> {
        self.relations.iter().filter(move |(name, _)| name.database == database)
    }
}
