//! A dbt project's artefacts as a catalog: what was built, its columns and types, and what people said of them.

use std::collections::{BTreeMap, BTreeSet};

use icegate_pdp_model::{
    Catalog, CatalogColumn, CatalogRelation, ObjectName, RelationKind, RelationName, TAGS_MAX, VIEW_BYTES_MAX, is_tag,
};
use serde::Deserialize;
use serde_json::{Map, Value};

/// Versions of `manifest.json` whose shape is known: dbt 1.5 to 1.11.
const VERSIONS: std::ops::RangeInclusive<u32> = 9..=12;

/// Which keys of dbt's `meta` become tags, and what stands before their values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MetaKey {
    key: String,
    /// Empty: the values are tags as they are.
    prefix: String,
}

impl MetaKey {
    /// Those taken without being named: `meta.tags` as tags, `meta.pii` and `meta.classification` under their own names.
    pub(crate) fn usual() -> Vec<Self> {
        ["tags=", "pii", "classification"].iter().filter_map(|text| text.parse().ok()).collect()
    }
}

impl std::str::FromStr for MetaKey {
    type Err = String;

    /// `KEY` or `KEY=PREFIX`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (key, prefix) = text.split_once('=').unwrap_or((text, text));
        if key.is_empty() || !(prefix.is_empty() || is_tag(prefix)) {
            return Err("write KEY or KEY=PREFIX; the prefix is lower-case words joined by dots, or empty".into());
        }
        Ok(Self { key: key.to_owned(), prefix: prefix.to_owned() })
    }
}

/// What an import gives.
#[derive(Debug, Default)]
pub(crate) struct Imported {
    pub(crate) catalog: Catalog,
    /// How many of each kind of resource were taken.
    pub(crate) taken: BTreeMap<String, usize>,
    /// What was not, and why, by dbt's own name for it.
    pub(crate) left: Vec<(String, String)>,
}

#[derive(Deserialize)]
struct Node {
    resource_type: String,
    database: Option<String>,
    schema: Option<String>,
    name: String,
    alias: Option<String>,
    identifier: Option<String>,
    relation_name: Option<String>,
    #[serde(default)]
    config: NodeConfig,
    #[serde(default)]
    columns: Map<String, Value>,
    #[serde(default)]
    tags: Value,
    #[serde(default)]
    meta: Value,
    compiled_code: Option<String>,
    #[serde(default)]
    contract: Contract,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct NodeConfig {
    materialized: Option<String>,
    enabled: Option<bool>,
    tags: Value,
    meta: Value,
    contract: Contract,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Contract {
    enforced: bool,
}

#[derive(Deserialize)]
struct Column {
    name: String,
    data_type: Option<String>,
    #[serde(default)]
    quote: Option<bool>,
    #[serde(default)]
    tags: Value,
    #[serde(default)]
    meta: Value,
    #[serde(default)]
    config: ColumnConfig,
    #[serde(default)]
    constraints: Vec<Value>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ColumnConfig {
    tags: Value,
    meta: Value,
}

/// A relation of `catalog.json`: what dbt found in the warehouse.
#[derive(Deserialize)]
struct Found {
    metadata: FoundMetadata,
    columns: BTreeMap<String, FoundColumn>,
}

#[derive(Deserialize)]
struct FoundMetadata {
    #[serde(rename = "type")]
    kind: String,
    database: Option<String>,
    schema: String,
    name: String,
}

#[derive(Deserialize)]
struct FoundColumn {
    #[serde(rename = "type")]
    data_type: String,
    index: i64,
    name: String,
}

/// Reads a manifest, and the catalog of the same project when there is one.
///
/// # Errors
///
/// When one of the two is not what it should be: with a sentence that says what to do.
pub(crate) fn import(manifest: &Value, found: Option<&Value>, meta_keys: &[MetaKey]) -> Result<Imported, String> {
    check_version(manifest)?;
    if let Some(found) = found
        && (kind_and_version(found).is_none_or(|(kind, _)| kind != "catalog") || !at(found, "nodes").is_object())
    {
        return Err("`--catalog` is no catalog.json of dbt; make it with `dbt docs generate`".into());
    }
    let mut import = Import { meta_keys, out: Imported::default() };
    for part in ["nodes", "sources"] {
        let Some(nodes) = at(manifest, part).as_object() else {
            return Err(format!("`--manifest` has no `{part}`; make it anew with `dbt compile`"));
        };
        let mut sorted: Vec<(&String, &Value)> = nodes.iter().collect();
        sorted.sort_by_key(|(id, _)| *id);
        for (id, node) in sorted {
            let found = found.map(|found| at(at(found, part), id)).filter(|found| !found.is_null());
            if let Err(why) = import.node(node, found) {
                import.out.left.push((id.clone(), why));
            }
        }
    }
    Ok(import.out)
}

fn check_version(manifest: &Value) -> Result<(), String> {
    match kind_and_version(manifest) {
        Some(("manifest", version)) if VERSIONS.contains(&version) => Ok(()),
        Some(("manifest", version)) => Err(format!(
            "`--manifest` is of version v{version}; icegate reads v{} to v{} (dbt 1.5 to 1.11): make it with one of those",
            VERSIONS.start(),
            VERSIONS.end()
        )),
        _ => Err("`--manifest` is no manifest.json of dbt; make it with `dbt compile`".into()),
    }
}

/// What stands at a key; null when nothing does.
fn at<'a>(value: &'a Value, key: &str) -> &'a Value {
    value.get(key).unwrap_or(&Value::Null)
}

/// `manifest` and 12 of `https://schemas.getdbt.com/dbt/manifest/v12.json`.
fn kind_and_version(artefact: &Value) -> Option<(&str, u32)> {
    let (rest, version) =
        at(at(artefact, "metadata"), "dbt_schema_version").as_str()?.strip_suffix(".json")?.rsplit_once("/v")?;
    let (_, kind) = rest.rsplit_once('/')?;
    Some((kind, version.parse().ok()?))
}

struct Import<'a> {
    meta_keys: &'a [MetaKey],
    out: Imported,
}

impl Import<'_> {
    fn node(&mut self, node: &Value, found: Option<&Value>) -> Result<(), String> {
        let kind = at(node, "resource_type").as_str().unwrap_or_default();
        if !matches!(kind, "model" | "seed" | "snapshot" | "source") {
            return Ok(());
        }
        let node: Node = serde_json::from_value(node.clone()).map_err(|error| format!("not readable: {error}"))?;
        let materialized = node.config.materialized.as_deref().unwrap_or(match kind {
            "model" => "view",
            _ => "table",
        });
        if node.config.enabled == Some(false) || materialized == "ephemeral" {
            return Ok(());
        }
        let found = found
            .map(|found| {
                serde_json::from_value::<Found>(found.clone())
                    .map_err(|error| format!("not readable in catalog.json: {error}"))
            })
            .transpose()?;
        let name = relation_name(&node, found.as_ref())?;
        let mut problems = Vec::new();
        let tags = self.tags(&[&node.tags, &node.config.tags], &[&node.meta, &node.config.meta], &mut problems);
        let said = self.said_columns(&node, &mut problems);
        let defined = define(&node, materialized, found.as_ref(), &said);
        let full = ObjectName::from(&name);
        // Tags are kept whatever becomes of the definition: they protect what a sync or a hand defines.
        let unplaced = |said: &BTreeMap<String, Said>,
                        relation: Option<&CatalogRelation>|
         -> Vec<(ObjectName, BTreeSet<String>)> {
            said.iter()
                .filter(|(column, said)| {
                    !said.tags.is_empty() && relation.is_none_or(|relation| relation.column(column).is_none())
                })
                .map(|(column, said)| {
                    let parts = full.parts().iter().cloned().chain([column.clone()]);
                    (ObjectName::new(parts), said.tags.clone())
                })
                .collect()
        };
        let outcome = match defined {
            Ok(mut relation) => {
                relation.tags = tags;
                for column in &mut relation.columns {
                    if let Some(said) = said.get(&column.name) {
                        column.tags.clone_from(&said.tags);
                    }
                }
                let unplaced = unplaced(&said, Some(&relation));
                self.out
                    .catalog
                    .insert(name, relation)
                    .map_err(|_| format!("`{full}` is another resource's relation too"))?;
                for (column, tags) in unplaced {
                    problems.push(format!("column `{column}` is tagged and is not in the warehouse"));
                    self.out.catalog.add_tags(column, tags);
                }
                *self.out.taken.entry(node.resource_type.clone()).or_default() += 1;
                Ok(())
            }
            Err(why) => {
                for (column, tags) in unplaced(&said, None) {
                    self.out.catalog.add_tags(column, tags);
                }
                if !tags.is_empty() {
                    self.out.catalog.add_tags(full, tags);
                }
                Err(why)
            }
        };
        match (outcome, problems.is_empty()) {
            (Ok(()), true) => Ok(()),
            (Ok(()), false) => Err(format!("taken, but {}", problems.join("; "))),
            (Err(why), true) => Err(why),
            (Err(why), false) => Err(format!("{why}; {}", problems.join("; "))),
        }
    }

    /// What the project says of columns, by folded name.
    fn said_columns(&self, node: &Node, problems: &mut Vec<String>) -> BTreeMap<String, Said> {
        let mut said = BTreeMap::new();
        for (position, (key, column)) in node.columns.iter().enumerate() {
            let Ok(column) = serde_json::from_value::<Column>(column.clone()) else {
                problems.push(format!("column `{key}` is not readable"));
                continue;
            };
            let tags = self.tags(&[&column.tags, &column.config.tags], &[&column.meta, &column.config.meta], problems);
            let name = identifier(&column.name, column.quote == Some(true));
            let nullable = !column
                .constraints
                .iter()
                .any(|one| matches!(at(one, "type").as_str(), Some("not_null" | "primary_key")));
            said.insert(name, Said { position, data_type: column.data_type, nullable, tags });
        }
        said
    }

    fn tags(&self, lists: &[&Value], metas: &[&Value], problems: &mut Vec<String>) -> BTreeSet<String> {
        let mut tags = BTreeSet::new();
        let mut put = |prefix: &str, value: &str, problems: &mut Vec<String>| {
            let value = normal(value);
            let tag = if prefix.is_empty() { value.clone() } else { format!("{prefix}.{value}") };
            if !is_tag(&tag) {
                problems.push(format!("`{value}` makes no tag"));
            } else if tags.len() == TAGS_MAX {
                problems.push(format!("there are more than {TAGS_MAX} tags"));
            } else {
                tags.insert(tag);
            }
        };
        for list in lists {
            for text in texts(list) {
                match text {
                    Some(text) => put("", &text, problems),
                    None => problems.push("`tags` is no list of texts".into()),
                }
            }
        }
        for (meta, wanted) in metas.iter().flat_map(|meta| self.meta_keys.iter().map(move |wanted| (meta, wanted))) {
            match at(meta, &wanted.key) {
                Value::Bool(false) => {}
                // A key that is simply true is a tag by itself.
                Value::Bool(true) if !wanted.prefix.is_empty() => put("", &wanted.prefix, problems),
                value => {
                    for text in texts(value) {
                        match text {
                            Some(text) => put(&wanted.prefix, &text, problems),
                            None => problems.push(format!("`meta.{}` is no text, list of texts or truth", wanted.key)),
                        }
                    }
                }
            }
        }
        tags
    }
}

struct Said {
    position: usize,
    data_type: Option<String>,
    nullable: bool,
    tags: BTreeSet<String>,
}

/// The texts of a value: none of nothing, one of a text or number, each of a list; `None` for what is no text.
fn texts(value: &Value) -> Vec<Option<String>> {
    match value {
        Value::Null => Vec::new(),
        Value::String(text) => vec![Some(text.clone())],
        Value::Number(number) => vec![Some(number.to_string())],
        Value::Array(values) => values.iter().flat_map(texts).collect(),
        Value::Bool(_) | Value::Object(_) => vec![None],
    }
}

/// A tag as icegate writes it: `PII:Email address` becomes `pii.email_address`.
fn normal(text: &str) -> String {
    let change = |c: char| match c {
        'a'..='z' | '0'..='9' | '_' | '-' | '.' => c,
        'A'..='Z' => c.to_ascii_lowercase(),
        ':' | '/' => '.',
        c if c.is_whitespace() => '_',
        _ => '-',
    };
    text.trim().chars().map(change).collect()
}

/// A name as dbt hands it to Snowflake: unquoted unless said otherwise.
fn identifier(text: &str, quoted: bool) -> String {
    let plain = !quoted && text.parse::<ObjectName>().is_ok_and(|name| name.parts().len() == 1);
    if !plain {
        return text.to_owned();
    }
    text.parse::<ObjectName>().map_or_else(|_| text.to_owned(), |name| name.last().to_owned())
}

fn relation_name(node: &Node, found: Option<&Found>) -> Result<RelationName, String> {
    // The warehouse's own spelling, where dbt has seen it.
    if let Some(Found { metadata, .. }) = found {
        let database =
            metadata.database.clone().or_else(|| node.database.as_deref().map(|name| identifier(name, false)));
        let database = database.ok_or("it has no database")?;
        return Ok(RelationName::new(database, &metadata.schema, &metadata.name));
    }
    if let Some(text) = &node.relation_name {
        return text.parse().map_err(|error| format!("`{text}` is not a full name: {error}"));
    }
    let own = node.identifier.as_ref().or(node.alias.as_ref()).unwrap_or(&node.name);
    match (&node.database, &node.schema) {
        (Some(database), Some(schema)) => {
            Ok(RelationName::new(identifier(database, false), identifier(schema, false), identifier(own, false)))
        }
        _ => Err("it has no database or no schema".into()),
    }
}

fn define(
    node: &Node,
    materialized: &str,
    found: Option<&Found>,
    said: &BTreeMap<String, Said>,
) -> Result<CatalogRelation, String> {
    let columns = match found {
        Some(found) => {
            let mut columns: Vec<&FoundColumn> = found.columns.values().collect();
            columns.sort_by_key(|column| column.index);
            let column = |column: &FoundColumn| CatalogColumn {
                name: column.name.clone(),
                data_type: column.data_type.trim().to_uppercase(),
                nullable: said.get(&column.name).is_none_or(|said| said.nullable),
                tags: BTreeSet::new(),
                paths: Vec::new(),
            };
            columns.into_iter().map(column).collect()
        }
        None => promised(node, said)?,
    };
    if columns.is_empty() {
        return Err("it has no columns".into());
    }
    let is_view = found.map_or(materialized == "view", |found| found.metadata.kind.to_uppercase().ends_with("VIEW"));
    let definition = match (is_view, node.resource_type.as_str()) {
        (false, _) => None,
        (true, "source") => return Err("it is a view made outside of the project, and its SQL is not known".into()),
        (true, _) => match &node.compiled_code {
            Some(sql) if sql.len() > VIEW_BYTES_MAX => {
                return Err(format!("its SQL has {} bytes; at most {VIEW_BYTES_MAX} are read", sql.len()));
            }
            Some(sql) if !sql.trim().is_empty() => Some(sql.trim().to_owned()),
            _ => return Err("it is a view, and its SQL is not compiled; run `dbt compile`".into()),
        },
    };
    let kind = if is_view { RelationKind::View } else { RelationKind::Table };
    Ok(CatalogRelation { kind, definition, tags: BTreeSet::new(), columns, row_attributes: BTreeMap::new() })
}

/// The columns of an enforced contract: all there are, in their order. What is only documented may leave some out, and a
/// column nobody knows of is a column nobody masks.
fn promised(node: &Node, said: &BTreeMap<String, Said>) -> Result<Vec<CatalogColumn>, String> {
    if !(node.contract.enforced || node.config.contract.enforced) {
        return Err("its columns are not known for certain; run `dbt docs generate` and give `--catalog`".into());
    }
    let mut columns: Vec<(&String, &Said)> = said.iter().collect();
    columns.sort_by_key(|(_, said)| said.position);
    let column = |(name, said): (&String, &Said)| {
        let data_type = said.data_type.as_deref().map(str::trim).filter(|text| !text.is_empty());
        let data_type = data_type.ok_or_else(|| format!("column `{name}` has no type"))?.to_uppercase();
        Ok(CatalogColumn {
            name: name.clone(),
            data_type,
            nullable: said.nullable,
            tags: BTreeSet::new(),
            paths: Vec::new(),
        })
    };
    columns.into_iter().map(column).collect()
}
