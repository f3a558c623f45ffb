//! What works and is probably not meant: names the catalog does not know, and masks that do not fit.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use cedar_policy::{EntityUid, ResourceConstraint};
use icegate_pdp_model::{Catalog, ColumnName, Mask, ObjectName, RelationName, TimeUnit, ValueType};

use crate::{
    Lint, Settings,
    annotation::Turn,
    compile::Compiled,
    evaluate::rows,
    vocabulary::{Type, Vocabulary},
};

/// File and line of each policy's first annotation, by its id.
pub(crate) type Places = BTreeMap<String, (String, u32)>;

/// A policy may name what is not there: it then never applies, and a `forbid` or a mask protects nothing.
pub(crate) fn unknown_names(
    policies: &[Compiled],
    catalog: &Catalog,
    settings: &Settings,
    places: &Places,
    vocabulary: &Vocabulary,
) -> Vec<Lint> {
    let tags = tags_of(catalog);
    let mut lints = Vec::new();
    for policy in policies {
        let named: BTreeSet<EntityUid> = policy.policy.entity_literals().into_iter().collect();
        for uid in named {
            let id = uid.id().unescaped();
            let Some(kind) = vocabulary.kind(uid.type_name()) else { continue };
            let why = match kind {
                Type::Connection if id != settings.connection => {
                    format!("is not the `connection` of settings.yaml, which is `{}`", settings.connection)
                }
                Type::Tag if !tags.contains(id) => "is on nothing in the catalog".to_owned(),
                Type::Database | Type::Schema | Type::Relation | Type::Column => match unknown(kind, id, catalog) {
                    Some(why) => why,
                    None => continue,
                },
                _ => continue,
            };
            let message = format!("`{uid}` {why}; the policy does not meet it until that is corrected");
            lints.push(lint(&policy.id, places, message));
        }
    }
    lints
}

/// Every tag on anything, and the tags it is in.
fn tags_of(catalog: &Catalog) -> BTreeSet<&str> {
    let mut all = BTreeSet::new();
    for (_, relation) in catalog.relations() {
        let inside = relation.columns.iter().flat_map(|column| &column.paths).flat_map(|path| &path.tags);
        let tags = relation.columns.iter().flat_map(|column| &column.tags).chain(&relation.tags).chain(inside);
        all.extend(tags.flat_map(|tag| closure(tag)));
    }
    all
}

/// The tag and the tags it is in.
fn closure(tag: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(tag), |tag| tag.rsplit_once('.').map(|(above, _)| above))
}

/// Why the catalog does not know this name; `None` when it does.
fn unknown(kind: Type, id: &str, catalog: &Catalog) -> Option<String> {
    let absent = || Some("is not in the catalog".to_owned());
    let Ok(name) = id.parse::<ObjectName>() else { return absent() };
    let known = match (kind, name.parts()) {
        (Type::Database, [database]) => catalog.has_database(database),
        (Type::Schema, [database, schema]) => catalog.has_schema(database, schema),
        (Type::Relation, [database, schema, name]) => {
            catalog.relation(&RelationName::new(database, schema, name)).is_some()
        }
        (Type::Column, [database, schema, name, column]) => catalog
            .relation(&RelationName::new(database, schema, name))
            .is_some_and(|relation| relation.tags_of(column).is_some()),
        _ => false,
    };
    let printed = name.to_string();
    match known {
        true if printed == id => None,
        true => Some(format!("is written `{printed}` in the catalog")),
        false => absent(),
    }
}

/// Columns whose type does not fit the mask they get: reading them would be refused, not masked.
pub(crate) fn misfits(
    policies: &[Compiled],
    catalog: &Catalog,
    settings: &Settings,
    places: &Places,
    vocabulary: &Vocabulary,
) -> Vec<Lint> {
    let mut by_scope: HashMap<EntityUid, Vec<(&str, &Mask)>> = HashMap::new();
    for policy in policies {
        if let (
            Turn::Mask(mask),
            ResourceConstraint::Eq(scope) | ResourceConstraint::In(scope) | ResourceConstraint::IsIn(_, scope),
        ) = (&policy.turn, policy.policy.resource_constraint())
        {
            by_scope.entry(scope).or_default().push((&policy.id, mask));
        }
    }
    let mut lints = Vec::new();
    if by_scope.is_empty() {
        return lints;
    }
    for (name, relation) in catalog.relations() {
        let columns = relation.columns.iter().map(|it| (it.name.clone(), &it.tags, it.data_type.as_str(), false));
        let paths = relation.columns.iter().flat_map(|column| {
            let named = column.paths.iter().map(|path| (column.path_name(path), path));
            named.map(|(name, path)| (name, &path.tags, path.data_type.as_str(), true))
        });
        for (column, tags, data_type, inside) in columns.chain(paths) {
            let tags = tags.iter().chain(&relation.tags).flat_map(|tag| closure(tag));
            let printed = ColumnName::new(name.clone(), column).to_string();
            let mut scopes: Vec<EntityUid> = tags.map(|tag| vocabulary.uid(Type::Tag, tag)).collect();
            scopes.push(vocabulary.uid(Type::Column, &printed));
            scopes.push(vocabulary.uid(Type::Relation, &name.to_string()));
            for (policy, mask) in scopes.iter().filter_map(|scope| by_scope.get(scope)).flatten() {
                if fits(mask, data_type, settings) && !(inside && needs_text(mask, data_type)) {
                    continue;
                }
                let message = format!(
                    "`@mask(\"{mask}\")` does not fit `{printed}` of type {data_type}; reading it is refused until the \
                     tag or the mask is changed"
                );
                lints.push(lint(policy, places, message));
            }
        }
    }
    lints
}

/// Whether the mask keeps a value of this type its type.
fn fits(mask: &Mask, data_type: &str, settings: &Settings) -> bool {
    match mask {
        Mask::Sql { name } => settings.masks.get(name).is_some_and(|own| holds(data_type, own.of())),
        Mask::Null | Mask::Redact { .. } => true,
        Mask::Result(mask) => mask.fits(data_type),
        // Which constants a type takes is known where the text is rewritten.
        Mask::Constant { .. } => base(data_type) != "VARIANT",
        Mask::Hash | Mask::Email | Mask::Phone | Mask::Card | Mask::Partial { .. } => holds(data_type, ValueType::Text),
        Mask::Year | Mask::Truncate { unit: TimeUnit::Quarter | TimeUnit::Month } => {
            holds(data_type, ValueType::Date) || holds(data_type, ValueType::Timestamp)
        }
        Mask::Truncate { unit: TimeUnit::Day | TimeUnit::Hour } => holds(data_type, ValueType::Timestamp),
        Mask::Round { .. } | Mask::Bucket { .. } => holds(data_type, ValueType::Number),
    }
}

fn base(data_type: &str) -> &str {
    data_type.split(['(', ' ']).next().unwrap_or_default()
}

fn holds(data_type: &str, kind: ValueType) -> bool {
    let name = base(data_type);
    match kind {
        ValueType::Text => matches!(name, "TEXT" | "STRING") || name.contains("CHAR"),
        ValueType::Number => {
            name.ends_with("INT")
                || name.starts_with("FLOAT")
                || matches!(name, "NUMBER" | "DECIMAL" | "DEC" | "NUMERIC" | "INTEGER" | "DOUBLE" | "REAL" | "DECFLOAT")
        }
        ValueType::Boolean => matches!(name, "BOOLEAN" | "BOOL"),
        ValueType::Date => name == "DATE",
        ValueType::Timestamp => name == "DATETIME" || name.starts_with("TIMESTAMP"),
    }
}

/// Inside a VARIANT only text has masks that show something of it.
fn needs_text(mask: &Mask, data_type: &str) -> bool {
    !matches!(mask, Mask::Null | Mask::Redact { text: None } | Mask::Result(_)) && !holds(data_type, ValueType::Text)
}

/// Policies about rows whose scope names a relation that lacks an attribute they speak of: nobody sees its rows by them.
pub(crate) fn rows_without(
    policies: &[Compiled],
    catalog: &Catalog,
    places: &Places,
    vocabulary: &Vocabulary,
) -> Vec<Lint> {
    let mut lints = Vec::new();
    for policy in policies.iter().filter(|policy| rows::is_about_rows(&policy.policy, vocabulary)) {
        let (ResourceConstraint::In(scope) | ResourceConstraint::IsIn(_, scope)) = policy.policy.resource_constraint()
        else {
            continue;
        };
        let wanted = rows::attributes(&policy.policy);
        for (name, relation) in catalog.relations() {
            let above = relation.tags.iter().flat_map(|tag| closure(tag)).map(|tag| vocabulary.uid(Type::Tag, tag));
            let named = vocabulary.uid(Type::Relation, &name.to_string());
            if !above.chain([named]).any(|uid| uid == scope) {
                continue;
            }
            for attribute in wanted.iter().filter(|attribute| !relation.row_attributes.contains_key(*attribute)) {
                let message = format!(
                    "`{name}` declares no row attribute `{attribute}`; reading it is refused or shows no row, until \
                     the catalog lists it under `rows`"
                );
                lints.push(lint(&policy.id, places, message));
            }
        }
    }
    lints
}

fn lint(policy: &str, places: &Places, message: String) -> Lint {
    let (file, line) = places.get(policy).cloned().unwrap_or_default();
    Lint { policy: Some(policy.to_owned()), file, line, message }
}
