//! Rows of Snowflake's own views, as what they say. The columns are those of `CatalogTopic` in the contract.
//!
//! Snowflake docs, "Snowflake Information Schema", "`TAG_REFERENCES` view", "`TAG_REFERENCES_ALL_COLUMNS`", read 2026-11.

use std::collections::{BTreeMap, BTreeSet};

use icegate_pdp_model::{Nature, ObjectName, RelationName, is_tag};

use super::{Listed, Tags, WarehouseColumn};

/// One row; an absent cell is NULL.
pub type Row = Vec<Option<String>>;

/// Most cells of one row.
const CELLS_MAX: usize = 16;

/// Reads an array of rows, each an array of texts and nulls.
///
/// # Errors
///
/// It is something else.
pub fn read_rows(json: &str) -> Result<Vec<Row>, serde_json::Error> {
    let rows: Vec<Row> = serde_json::from_str(json)?;
    match rows.iter().find(|row| row.len() > CELLS_MAX) {
        Some(row) => Err(serde::de::Error::custom(format!("a row has {} cells", row.len()))),
        None => Ok(rows),
    }
}

fn cell(row: &Row, at: usize) -> Option<&str> {
    row.get(at)?.as_deref()
}

fn number<T: std::str::FromStr>(row: &Row, at: usize) -> Option<T> {
    // A count can come as `12` and as `12.0`.
    cell(row, at)?.split('.').next()?.parse().ok()
}

/// `CATALOG_TOPIC_RELATIONS`: schema, name, type, last change.
pub fn relations(database: &str, rows: &[Row]) -> Vec<Listed> {
    let listed = |row: &Row| {
        let name = RelationName::new(database, cell(row, 0)?, cell(row, 1)?);
        // `VIEW`, `MATERIALIZED VIEW`; everything else has rows of its own.
        let view = cell(row, 2)?.to_ascii_uppercase().ends_with("VIEW");
        Some(Listed { name, view, altered_ms: number(row, 3).unwrap_or(0) })
    };
    rows.iter().filter_map(listed).collect()
}

/// `CATALOG_TOPIC_COLUMNS`: schema, relation, name, position, type, nullable, characters, precision, scale, time precision.
/// In the order of their positions; a relation with a row that does not read is left out.
pub fn columns(database: &str, rows: &[Row]) -> BTreeMap<RelationName, Vec<WarehouseColumn>> {
    let mut found: BTreeMap<RelationName, BTreeMap<u64, WarehouseColumn>> = BTreeMap::new();
    let mut broken = BTreeSet::new();
    for row in rows {
        let (Some(schema), Some(relation)) = (cell(row, 0), cell(row, 1)) else { continue };
        let name = RelationName::new(database, schema, relation);
        match column(row) {
            Some((position, column)) => drop(found.entry(name).or_default().insert(position, column)),
            None => drop(broken.insert(name)),
        }
    }
    found.retain(|name, _| !broken.contains(name));
    found.into_iter().map(|(name, columns)| (name, columns.into_values().collect())).collect()
}

fn column(row: &Row) -> Option<(u64, WarehouseColumn)> {
    let column = WarehouseColumn {
        name: cell(row, 2)?.to_owned(),
        data_type: data_type(row)?,
        nullable: !cell(row, 5)?.eq_ignore_ascii_case("NO"),
        tags: BTreeSet::new(),
    };
    Some((number(row, 3)?, column))
}

/// The type as `CREATE TABLE` writes it.
fn data_type(row: &Row) -> Option<String> {
    let word = cell(row, 4)?.trim().to_uppercase();
    let (characters, precision, scale, time) =
        (number::<u64>(row, 6), number::<u64>(row, 7), number::<u64>(row, 8), number::<u64>(row, 9));
    Some(match (word.as_str(), characters, precision, scale, time) {
        ("", ..) => return None,
        ("TEXT" | "VARCHAR", Some(characters), ..) => format!("VARCHAR({characters})"),
        ("TEXT", None, ..) => "VARCHAR".to_owned(),
        ("BINARY", Some(bytes), ..) => format!("BINARY({bytes})"),
        ("NUMBER" | "DECIMAL", _, Some(precision), scale, _) => format!("NUMBER({precision},{})", scale.unwrap_or(0)),
        ("TIME" | "TIMESTAMP_NTZ" | "TIMESTAMP_LTZ" | "TIMESTAMP_TZ", _, _, _, Some(digits)) => {
            format!("{word}({digits})")
        }
        _ => word,
    })
}

/// `CATALOG_TOPIC_VIEWS`: schema, name, text. Those whose text is hidden are not there.
pub fn view_texts(database: &str, rows: &[Row]) -> BTreeMap<RelationName, String> {
    let text = |row: &Row| {
        let text = cell(row, 2)?.trim();
        let name = RelationName::new(database, cell(row, 0)?, cell(row, 1)?);
        (!text.is_empty()).then(|| (name, text.to_owned()))
    };
    rows.iter().filter_map(text).collect()
}

/// `CATALOG_TOPIC_FUNCTIONS` and `CATALOG_TOPIC_PROCEDURES`: schema, name, arguments, language, external, integrations. Of
/// several that share a name, the worst.
///
/// Only a JavaScript function without access to outside is known to compute from its arguments alone: it can neither run
/// SQL nor open a file. What SQL, Python, Java and Scala do, these views do not say; nor of any procedure.
pub fn natures(database: &str, rows: &[Row], procedures: bool) -> BTreeMap<String, Nature> {
    let mut natures: BTreeMap<String, Nature> = BTreeMap::new();
    for row in rows {
        let (Some(schema), Some(name)) = (cell(row, 0), cell(row, 1)) else { continue };
        let outside = cell(row, 4)
            .is_some_and(|word| !matches!(word.to_ascii_uppercase().as_str(), "NO" | "N" | "FALSE"))
            || cell(row, 5).is_some_and(|list| !matches!(list.trim(), "" | "[]"));
        let language = cell(row, 3).unwrap_or_default().to_ascii_uppercase();
        let nature = match (outside, language.as_str()) {
            (true, _) => Nature::External,
            (false, "JAVASCRIPT") if !procedures => Nature::Pure,
            (false, _) => Nature::Unknown,
        };
        let name = ObjectName::new([database, schema, name]).to_string();
        natures.entry(name).and_modify(|known| *known = worse(*known, nature)).or_insert(nature);
    }
    natures
}

fn worse(one: Nature, other: Nature) -> Nature {
    let rank = |nature: Nature| match nature {
        Nature::Pure => 0,
        Nature::Reads => 1,
        Nature::Unknown => 2,
        Nature::External => 3,
    };
    if rank(one) >= rank(other) { one } else { other }
}

/// `CATALOG_TOPIC_TAGS`: schema, object, column, domain, tag, value. By the full name of what the tag is set on.
pub fn tags(database: &str, rows: &[Row]) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for row in rows {
        let (Some(object), Some(domain)) = (cell(row, 1), cell(row, 3)) else { continue };
        let name = match (domain.to_ascii_uppercase().as_str(), cell(row, 0), cell(row, 2)) {
            ("DATABASE", ..) if object == database => ObjectName::new([database]),
            ("SCHEMA", ..) => ObjectName::new([database, object]),
            ("COLUMN", Some(schema), Some(column)) => ObjectName::new([database, schema, object, column]),
            // Tables, views and whatever else has columns.
            (_, Some(schema), None) => ObjectName::new([database, schema, object]),
            _ => continue,
        };
        found.entry(name.to_string()).or_default().insert(tag(cell(row, 4).unwrap_or_default(), cell(row, 5)));
    }
    found
}

/// `CATALOG_TOPIC_RELATION_TAGS`: column, tag, value, level. What a column inherits is the relation's.
pub fn relation_tags(rows: &[Row]) -> Tags {
    let mut tags = Tags::default();
    for row in rows {
        let name = tag(cell(row, 1).unwrap_or_default(), cell(row, 2));
        match (cell(row, 0), cell(row, 3)) {
            (Some(column), Some(level)) if level.eq_ignore_ascii_case("COLUMN") => {
                tags.columns.entry(column.to_owned()).or_default().insert(name);
            }
            _ => drop(tags.relation.insert(name)),
        }
    }
    tags
}

/// `PII = 'Email'` as icegate writes it, `pii.email`. A tag of Snowflake is never lost: what cannot be written becomes `_`.
fn tag(name: &str, value: Option<&str>) -> String {
    let word = |text: &str| -> String {
        let change = |c: char| match c {
            'a'..='z' | '0'..='9' | '-' | '.' => c,
            'A'..='Z' => c.to_ascii_lowercase(),
            _ => '_',
        };
        let text: String = text.trim().chars().take(100).map(change).collect();
        text.split('.').map(|part| if part.is_empty() { "_" } else { part }).collect::<Vec<_>>().join(".")
    };
    let tag = match value.map(str::trim).filter(|value| !value.is_empty()) {
        None => word(name),
        Some(value) => format!("{}.{}", word(name), word(value)),
    };
    debug_assert!(is_tag(&tag), "`{tag}`");
    tag
}
