//! The shape of a catalog's file. Everything is checked where it stands, so that the reader's error carries the line.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    marker::PhantomData,
};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, MapAccess, Visitor},
};

use super::{
    AttributeType, COLUMNS_MAX, Catalog, CatalogColumn, CatalogError, CatalogPath, CatalogRelation, ENTRIES_MAX,
    Nature, PATHS_MAX, PathKeys, RelationKind, TAGS_MAX, TYPE_CHARS_MAX, VIEW_BYTES_MAX, is_tag,
};
use crate::{ObjectName, RelationName};

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct CatalogFile {
    databases: Entries<Identifier, Entries<Identifier, Entries<Identifier, RelationEntry>>>,
    functions: Entries<FullName, Nature>,
    procedures: Entries<FullName, Nature>,
    tags: Entries<TaggedName, Tags>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RelationEntry {
    #[serde(default, deserialize_with = "view")]
    view: Option<String>,
    #[serde(default)]
    tags: Tags,
    /// Attributes that policies may ask of a row, and their columns.
    #[serde(default)]
    rows: BTreeMap<String, Identifier>,
    #[serde(deserialize_with = "columns")]
    columns: Entries<Identifier, ColumnEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ColumnEntry {
    #[serde(rename = "type", deserialize_with = "data_type")]
    data_type: String,
    #[serde(default = "yes")]
    nullable: bool,
    #[serde(default)]
    tags: Tags,
    /// Protected places inside it.
    #[serde(default)]
    paths: Entries<PathKey, PathEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PathEntry {
    #[serde(rename = "type", deserialize_with = "data_type")]
    data_type: String,
    tags: Tags,
}

fn yes() -> bool {
    true
}

fn view<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(deserializer)?;
    if text.len() > VIEW_BYTES_MAX {
        return Err(D::Error::custom(format!(
            "the view's text has {} bytes; at most {VIEW_BYTES_MAX} are read",
            text.len()
        )));
    }
    Ok(Some(text))
}

fn data_type<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?.trim().to_uppercase();
    if text.is_empty() || text.chars().count() > TYPE_CHARS_MAX {
        return Err(D::Error::custom(format!("the type is empty or longer than {TYPE_CHARS_MAX} characters")));
    }
    Ok(text)
}

fn columns<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Entries<Identifier, ColumnEntry>, D::Error> {
    let columns = Entries::deserialize(deserializer)?;
    if columns.0.len() > COLUMNS_MAX {
        return Err(D::Error::custom(format!("there are {} columns; at most {COLUMNS_MAX} are read", columns.0.len())));
    }
    Ok(columns)
}

/// A map that keeps the order of the file (columns are positional), and whose keys, once folded, stand there once.
struct Entries<K, V>(Vec<(K, V)>);

impl<K, V> Default for Entries<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, K: Deserialize<'de> + Ord + Clone + fmt::Display, V: Deserialize<'de>> Deserialize<'de> for Entries<K, V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map<K, V>(PhantomData<(K, V)>);
        impl<'de, K: Deserialize<'de> + Ord + Clone + fmt::Display, V: Deserialize<'de>> Visitor<'de> for Map<K, V> {
            type Value = Entries<K, V>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map by name")
            }
            // `sales:` with nothing below it, as a hand leaves it.
            fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
                Ok(Entries(Vec::new()))
            }
            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                let mut seen: BTreeSet<K> = BTreeSet::new();
                while let Some(key) = map.next_key_seed(NewKey(&seen))? {
                    seen.insert(key.clone());
                    if entries.len() == ENTRIES_MAX {
                        return Err(A::Error::custom(format!("there are more than {ENTRIES_MAX} entries in one map")));
                    }
                    entries.push((key, map.next_value()?));
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_any(Map(PhantomData))
    }
}

/// A key that is not there yet. Checked while it is read, so that the error stands at the second one.
struct NewKey<'a, K>(&'a BTreeSet<K>);

impl<'de, K: Deserialize<'de> + Ord + fmt::Display> DeserializeSeed<'de> for NewKey<'_, K> {
    type Value = K;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<K, D::Error> {
        let key = K::deserialize(deserializer)?;
        if self.0.contains(&key) {
            return Err(D::Error::custom(format!("`{key}` stands there twice once names are folded to upper case")));
        }
        Ok(key)
    }
}

/// One identifier as SQL reads it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Identifier(String);

/// `database.schema.name`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct FullName(ObjectName);

/// The name of a database, a schema, a relation or a column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct TaggedName(ObjectName);

/// Keys inside a column; nothing folds them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct PathKey(PathKeys);

impl fmt::Display for PathKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for PathKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map(Self).map_err(D::Error::custom)
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        ObjectName::new([self.0.as_str()]).fmt(f)
    }
}

impl fmt::Display for FullName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for TaggedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for Identifier {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match name(deserializer, 1..=1, "one name; quote it, as in '\"a.b\"', when a dot belongs to it")?.parts() {
            [one] => Ok(Self(one.clone())),
            _ => Err(D::Error::custom("not one name")),
        }
    }
}

impl<'de> Deserialize<'de> for FullName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        name(deserializer, 3..=3, "a full name, `database.schema.name`").map(Self)
    }
}

impl<'de> Deserialize<'de> for TaggedName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        name(deserializer, 1..=4, "the full name of a database, schema, relation or column").map(Self)
    }
}

fn name<'de, D: Deserializer<'de>>(
    deserializer: D,
    parts: std::ops::RangeInclusive<usize>,
    wanted: &str,
) -> Result<ObjectName, D::Error> {
    let text = String::deserialize(deserializer)?;
    let name: ObjectName = text.parse().map_err(|error| D::Error::custom(format!("not a name: {error}")))?;
    if parts.contains(&name.parts().len()) {
        return Ok(name);
    }
    Err(D::Error::custom(format!("`{text}` has {} parts; it must be {wanted}", name.parts().len())))
}

/// A list of tags.
#[derive(Default)]
struct Tags(BTreeSet<String>);

impl<'de> Deserialize<'de> for Tags {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let tags = Vec::<Tag>::deserialize(deserializer)?;
        if tags.len() > TAGS_MAX {
            return Err(D::Error::custom(format!("there are {} tags; at most {TAGS_MAX} are read", tags.len())));
        }
        Ok(Self(tags.into_iter().map(|tag| tag.0).collect()))
    }
}

struct Tag(String);

impl<'de> Deserialize<'de> for Tag {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if is_tag(&text) {
            return Ok(Self(text));
        }
        Err(D::Error::custom(format!("tag `{text}` is not lower-case words joined by dots, as in `pii.email`")))
    }
}

impl<'de> Deserialize<'de> for Catalog {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let file = CatalogFile::deserialize(deserializer)?;
        let mut catalog = Self::default();
        for (Identifier(database), schemas) in file.databases.0 {
            catalog.insert_database(&database);
            for (Identifier(schema), relations) in schemas.0 {
                catalog.insert_schema(&database, &schema);
                for (Identifier(name), entry) in relations.0 {
                    let name = RelationName::new(&database, &schema, name);
                    let relation = relation(&name, entry).map_err(D::Error::custom)?;
                    catalog.insert(name, relation).map_err(D::Error::custom)?;
                }
            }
        }
        for (FullName(name), nature) in file.functions.0 {
            catalog.insert_function(name, nature).map_err(D::Error::custom)?;
        }
        for (FullName(name), nature) in file.procedures.0 {
            catalog.insert_procedure(name, nature).map_err(D::Error::custom)?;
        }
        for (TaggedName(name), Tags(tags)) in file.tags.0 {
            catalog.add_tags(name, tags);
        }
        catalog.row_attributes().map_err(D::Error::custom)?;
        Ok(catalog)
    }
}

fn relation(name: &RelationName, entry: RelationEntry) -> Result<CatalogRelation, CatalogError> {
    let path = |(PathKey(keys), entry): (PathKey, PathEntry)| CatalogPath {
        keys,
        data_type: entry.data_type,
        tags: entry.tags.0,
    };
    let column = |(Identifier(name), entry): (Identifier, ColumnEntry)| CatalogColumn {
        name,
        data_type: entry.data_type,
        nullable: entry.nullable,
        tags: entry.tags.0,
        paths: entry.paths.0.into_iter().map(path).collect(),
    };
    let mut relation = CatalogRelation {
        kind: if entry.view.is_some() { RelationKind::View } else { RelationKind::Table },
        definition: entry.view,
        tags: entry.tags.0,
        columns: entry.columns.0.into_iter().map(column).collect(),
        row_attributes: BTreeMap::new(),
    };
    for column in relation.columns.iter().filter(|column| !column.paths.is_empty()) {
        let wrong = |why| CatalogError::Path { place: format!("{name}.{}", column.name), why };
        if !matches!(column.data_type.as_str(), "VARIANT" | "OBJECT") {
            return Err(wrong(format!(
                "`paths` of a column of type {}; only VARIANT and OBJECT have any, tag the column itself",
                column.data_type
            )));
        }
        if column.paths.len() > PATHS_MAX {
            return Err(wrong(format!("there are {} paths; at most {PATHS_MAX} are read", column.paths.len())));
        }
        if let Some(twin) =
            column.paths.iter().map(|path| column.path_name(path)).find(|it| relation.column(it).is_some())
        {
            return Err(wrong(format!("path `{twin}` has the name of a column; tag the whole VARIANT instead")));
        }
    }
    for (attribute, Identifier(column)) in entry.rows {
        let wrong =
            |why: String| CatalogError::Attribute { place: name.to_string(), attribute: attribute.clone(), why };
        if !AttributeType::is_name(&attribute) {
            return Err(wrong(
                "is not a name; give lower-case letters, digits and `_`, and none of Cedar's words".into(),
            ));
        }
        let Some(found) = relation.column(&column) else {
            return Err(wrong(format!("is column `{column}`, which is not listed; name one of the columns")));
        };
        if AttributeType::of_column(&found.data_type).is_none() {
            return Err(wrong(format!(
                "is column `{column}` of type {}; text, BOOLEAN, DATE, TIMESTAMP_NTZ and NUMBER with at most 4 digits \
                 after the point can be row attributes",
                found.data_type
            )));
        }
        relation.row_attributes.insert(attribute, column);
    }
    Ok(relation)
}
