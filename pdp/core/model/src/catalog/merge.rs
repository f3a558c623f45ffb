//! One catalog from several: parts written side by side, and what the warehouse says under what people wrote.

use std::collections::{BTreeMap, BTreeSet, hash_map::Entry};

use thiserror::Error;

use super::{Catalog, CatalogRelation, Nature};
use crate::{ObjectName, RelationName};

/// Two parts of one catalog say different things of the same object.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{what} `{name}` is defined twice: {difference}")]
pub struct Conflict {
    /// `relation`, `function` or `procedure`.
    pub what: &'static str,
    /// Its full name.
    pub name: ObjectName,
    /// How the two differ.
    pub difference: String,
}

impl Catalog {
    /// Adds tags to whatever has this name: a database, schema, relation or column. They hold for what is added later too.
    pub fn add_tags(&mut self, name: ObjectName, tags: BTreeSet<String>) {
        match name.parts() {
            [database, schema, relation, column @ ..] => {
                if let Some(entry) = self.relations.get_mut(&RelationName::new(database, schema, relation)) {
                    match column {
                        [] => entry.tags.extend(tags.iter().cloned()),
                        [name] => {
                            if let Some(own) = entry.tags_of_mut(name) {
                                own.extend(tags.iter().cloned());
                            }
                        }
                        _ => {}
                    }
                }
            }
            [database, schema @ ..] => {
                for (relation, entry) in &mut self.relations {
                    if relation.database == *database && schema.iter().all(|schema| relation.schema == *schema) {
                        entry.tags.extend(tags.iter().cloned());
                    }
                }
            }
            [] => {}
        }
        self.tags.entry(name).or_default().extend(tags);
    }

    /// Names that tags are said of and nothing is known of.
    pub fn tagged_unknown(&self) -> impl Iterator<Item = &ObjectName> {
        self.tags.keys().filter(|name| match name.parts() {
            [database] => !self.has_database(database),
            [database, schema] => !self.has_schema(database, schema),
            [database, schema, name, rest @ ..] => {
                let relation = self.relations.get(&RelationName::new(database, schema, name));
                !relation.is_some_and(|entry| rest.iter().all(|column| entry.tags_of(column).is_some()))
            }
            [] => true,
        })
    }

    /// Joins another part of the same catalog. What both define must be the same but for its tags, which are united.
    ///
    /// # Errors
    ///
    /// Something is defined in both and not the same. Nothing is joined then.
    pub fn join(&mut self, other: Self) -> Result<(), Box<Conflict>> {
        let mut twice: Vec<_> = other.relations.iter().filter(|(name, _)| self.relations.contains_key(name)).collect();
        twice.sort_by_key(|(name, _)| *name);
        for (name, theirs) in twice {
            let difference = self.relations.get(name).and_then(|ours| difference(ours, theirs));
            if let Some(difference) = difference {
                return Err(Box::new(Conflict { what: "relation", name: name.into(), difference }));
            }
        }
        same_natures("function", &self.functions, &other.functions)?;
        same_natures("procedure", &self.procedures, &other.procedures)?;
        for (database, schemas) in other.schemas {
            self.schemas.entry(database).or_default().extend(schemas);
        }
        for (name, theirs) in other.relations {
            match self.relations.entry(name) {
                Entry::Occupied(mut ours) => unite(ours.get_mut(), &theirs),
                Entry::Vacant(free) => {
                    let mut theirs = theirs;
                    tag_all(&self.tags, free.key(), &mut theirs);
                    free.insert(theirs);
                }
            }
        }
        self.functions.extend(other.functions);
        self.procedures.extend(other.procedures);
        for (name, tags) in other.tags {
            self.add_tags(name, tags);
        }
        Ok(())
    }

    /// Puts what the warehouse says under what people wrote: their definitions stay, tags are united, so that the
    /// warehouse can add protection and never take any away. Gives what the two define differently, sorted.
    pub fn put_under(&mut self, warehouse: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        for (database, schemas) in &warehouse.schemas {
            self.schemas.entry(database.clone()).or_default().extend(schemas.iter().cloned());
        }
        for (name, theirs) in &warehouse.relations {
            match self.relations.entry(name.clone()) {
                Entry::Occupied(mut ours) => {
                    if let Some(difference) = difference(ours.get(), theirs) {
                        differences.push(format!("{name}: {difference}"));
                    }
                    unite(ours.get_mut(), theirs);
                }
                Entry::Vacant(free) => {
                    let mut theirs = theirs.clone();
                    tag_all(&self.tags, name, &mut theirs);
                    free.insert(theirs);
                }
            }
        }
        for (ours, theirs) in
            [(&mut self.functions, &warehouse.functions), (&mut self.procedures, &warehouse.procedures)]
        {
            for (name, nature) in theirs {
                ours.entry(name.clone()).or_insert(*nature);
            }
        }
        for (name, tags) in &warehouse.tags {
            self.add_tags(name.clone(), tags.clone());
        }
        differences.sort();
        differences
    }
}

fn same_natures(
    what: &'static str,
    ours: &BTreeMap<ObjectName, Nature>,
    theirs: &BTreeMap<ObjectName, Nature>,
) -> Result<(), Box<Conflict>> {
    for (name, their) in theirs {
        if let Some(our) = ours.get(name).filter(|our| *our != their) {
            let difference = format!("`{}` and `{}`", our.as_str(), their.as_str());
            return Err(Box::new(Conflict { what, name: name.clone(), difference }));
        }
    }
    Ok(())
}

/// Adds to a relation the tags that are said apart of it, its columns, its schema and its database.
pub(super) fn tag_all(
    tags: &BTreeMap<ObjectName, BTreeSet<String>>,
    name: &RelationName,
    relation: &mut CatalogRelation,
) {
    if tags.is_empty() {
        return;
    }
    let RelationName { database, schema, name } = name;
    let full = [database.as_str(), schema.as_str(), name.as_str()];
    for parts in (1..=full.len()).filter_map(|count| full.get(..count)) {
        if let Some(tags) = tags.get(&ObjectName::new(parts.iter().copied())) {
            relation.tags.extend(tags.iter().cloned());
        }
    }
    for column in &mut relation.columns {
        let name = ObjectName::new(full.into_iter().chain([column.name.as_str()]));
        if let Some(tags) = tags.get(&name) {
            column.tags.extend(tags.iter().cloned());
        }
        for at in 0..column.paths.len() {
            let named = column.paths.get(at).map(|path| column.path_name(path)).unwrap_or_default();
            let tags = tags.get(&ObjectName::new(full.into_iter().chain([named.as_str()])));
            if let (Some(path), Some(tags)) = (column.paths.get_mut(at), tags) {
                path.tags.extend(tags.iter().cloned());
            }
        }
    }
}

/// What may be said in several parts: tags, protected paths and row attributes.
fn unite(ours: &mut CatalogRelation, theirs: &CatalogRelation) {
    ours.tags.extend(theirs.tags.iter().cloned());
    let theirs_of_rows = theirs.row_attributes.iter().map(|(attribute, column)| (attribute.clone(), column.clone()));
    ours.row_attributes.extend(theirs_of_rows);
    for column in &mut ours.columns {
        if let Some(theirs) = theirs.column(&column.name) {
            column.tags.extend(theirs.tags.iter().cloned());
            for path in &theirs.paths {
                match column.paths.iter_mut().find(|ours| ours.keys == path.keys) {
                    Some(ours) => ours.tags.extend(path.tags.iter().cloned()),
                    None => column.paths.push(path.clone()),
                }
            }
        }
    }
}

/// How two definitions differ, but for tags and protected paths, and for row attributes that only one of them has.
fn difference(ours: &CatalogRelation, theirs: &CatalogRelation) -> Option<String> {
    if ours.kind != theirs.kind {
        return Some("one is a table, the other a view".into());
    }
    if ours.definition != theirs.definition {
        return Some("the view's text is not the same".into());
    }
    for (attribute, column) in &ours.row_attributes {
        if theirs.row_attributes.get(attribute).is_some_and(|other| other != column) {
            return Some(format!("row attribute `{attribute}` is not the same column"));
        }
    }
    for column in &ours.columns {
        match theirs.column(&column.name) {
            None => return Some(format!("column `{}` is in one of them only", column.name)),
            Some(other) if other.data_type != column.data_type => {
                let (ours, theirs) = (&column.data_type, &other.data_type);
                return Some(format!("column `{}` is `{ours}` and `{theirs}`", column.name));
            }
            Some(other) if other.nullable != column.nullable => {
                return Some(format!("column `{}` may be NULL in one of them only", column.name));
            }
            Some(_) => {}
        }
    }
    if let Some(column) = theirs.columns.iter().find(|column| ours.column(&column.name).is_none()) {
        return Some(format!("column `{}` is in one of them only", column.name));
    }
    let same_order = ours.columns.iter().zip(&theirs.columns).all(|(ours, theirs)| ours.name == theirs.name);
    (!same_order).then(|| "their columns stand in another order".into())
}
