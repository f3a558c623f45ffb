//! What a matched head touches, with full names.

use icegate_pdp_model::{Effect, Nature, ObjectKind, ObjectName, RelationName, SessionContext};

use crate::{
    heads::table::{Object, Scope},
    names::complete_in_schema,
    reader::Reader,
    statement::Place,
};

/// One thing a head names.
#[derive(Debug)]
pub(super) enum Touch {
    /// An object of the table.
    Object { object: &'static Object, parts: Vec<String>, effects: Vec<Effect> },
    /// The new name of the object before it.
    New { parts: Vec<String> },
    /// A name by its kind alone.
    Named { kind: ObjectKind, parts: Vec<String>, effects: Vec<Effect> },
    /// What CALL runs.
    Routine { parts: Vec<String> },
    /// A place outside.
    Location { url: String, effects: Vec<Effect> },
    /// A stage, without its `@`.
    Stage { text: String, effects: Vec<Effect> },
    /// The account.
    Account(Vec<Effect>),
    /// The session's own database or schema.
    Current(ObjectKind),
}

impl Touch {
    /// The kind of an object of the table.
    pub(super) fn kind(&self) -> Option<ObjectKind> {
        match self {
            Self::Object { object, .. } => Some(object.kind),
            _ => None,
        }
    }
}

/// What is told besides objects.
#[derive(Debug)]
pub(super) struct Touched {
    pub(super) exports: Vec<String>,
}

/// Notes everything in the reader; nothing when a name cannot be one.
pub(super) fn apply(touched: Vec<Touch>, reader: &mut Reader<'_, '_>) -> Option<Touched> {
    let mut exports = Vec::new();
    let mut before: Option<(&'static Object, Vec<String>)> = None;
    for touch in touched {
        match touch {
            Touch::Object { object, parts, effects } => {
                let full = complete(object.scope, &parts, &reader.session)?;
                match full {
                    Some(full) => {
                        if effects.contains(&Effect::Export) {
                            exports.push(format!("{} {}", object.kind, ObjectName::new(full.clone())));
                        }
                        note(reader, object.kind, &full, &effects);
                        before.get_or_insert((object, full));
                    }
                    None => reader.miss(object.kind.as_str(), ObjectName::new(parts)),
                }
            }
            Touch::New { parts } => {
                // Without the old name nothing is sure, and that is said already.
                let Some((object, old)) = &before else { continue };
                // Whether a bare new name stays beside the old one or goes to the session's schema: both are touched.
                let missing = old.len().saturating_sub(parts.len());
                let beside = old.iter().take(missing).chain(&parts).cloned().collect();
                let moved = complete(object.scope, &parts, &reader.session)?;
                for full in [Some(beside), moved].into_iter().flatten() {
                    note(reader, object.kind, &full, &[Effect::Create]);
                }
            }
            Touch::Named { kind, parts, effects } => {
                let full = match kind {
                    ObjectKind::Schema => complete(Scope::Database, &parts, &reader.session)?,
                    ObjectKind::Table => complete(Scope::Schema, &parts, &reader.session)?,
                    _ => Some(parts),
                };
                note(reader, kind, &full?, &effects);
            }
            Touch::Routine { parts } => routine(reader, &parts)?,
            Touch::Location { url, effects } => {
                if effects.contains(&Effect::Export) {
                    exports.push(url.clone());
                }
                note(reader, ObjectKind::Location, &[url], &effects);
            }
            Touch::Stage { text, effects } => {
                let Place::Stage { object, shown: _ } = reader.stage(&text).ok()? else { return None };
                note(reader, ObjectKind::Stage, object.parts(), &effects);
            }
            Touch::Account(effects) => note(reader, ObjectKind::Account, &["ACCOUNT".to_owned()], &effects),
            Touch::Current(kind) => reader.current(kind),
        }
    }
    Some(Touched { exports })
}

/// The outer `None` is a name of too many parts; the inner one a session that has not what is missing.
#[expect(clippy::option_option, reason = "two ways of not being a full name, and they are answered differently")]
fn complete(scope: Scope, parts: &[String], session: &SessionContext) -> Option<Option<Vec<String>>> {
    let database = session.database.clone();
    match (scope, parts.len()) {
        (Scope::Account, 1) | (Scope::Database, 2) => Some(Some(parts.to_vec())),
        (Scope::Database, 1) => Some(database.map(|it| std::iter::once(it).chain(parts.iter().cloned()).collect())),
        (Scope::Schema, 1..=3) => Some(complete_in_schema(parts.to_vec(), session)),
        _ => None,
    }
}

fn note(reader: &mut Reader<'_, '_>, kind: ObjectKind, full: &[String], effects: &[Effect]) {
    for &effect in effects {
        match (kind, effect, full) {
            (ObjectKind::Table | ObjectKind::View, Effect::Create, _) => {
                reader.touch(kind, ObjectName::new(full.to_vec()), effect);
            }
            (ObjectKind::Table | ObjectKind::View, _, [database, schema, name]) => {
                let name = RelationName::new(database, schema, name);
                if effect == Effect::Read {
                    reader.read_whole(&name, kind);
                } else {
                    reader.touch_relation(&name, kind, effect);
                }
            }
            (ObjectKind::Database | ObjectKind::Schema, Effect::Read, _) => {
                reader.cloned_container(kind, ObjectName::new(full.to_vec()));
            }
            _ => reader.touch(kind, ObjectName::new(full.to_vec()), effect),
        }
    }
}

/// A bare name may be found in `PUBLIC` as well: what runs is one of the two.
fn routine(reader: &mut Reader<'_, '_>, parts: &[String]) -> Option<()> {
    // Functions of the system are no procedures and do anything.
    if parts.iter().any(|part| part.starts_with("SYSTEM$")) {
        return None;
    }
    let Some(full) = complete(Scope::Schema, parts, &reader.session)? else {
        reader.miss(ObjectKind::Procedure.as_str(), ObjectName::new(parts.to_vec()));
        return Some(());
    };
    note(reader, ObjectKind::Procedure, &full, &[Effect::Execute]);
    // What it reads and where that goes is not in the statement: as with functions, the catalog must know it harmless.
    let name = ObjectName::new(full.clone());
    if reader.catalog.function(&name) != Some(Nature::Pure) {
        reader.miss(ObjectKind::Procedure.as_str(), name);
    }
    if let ([name], [database, _, _]) = (parts, full.as_slice()) {
        let public = [database.clone(), "PUBLIC".to_owned(), name.clone()];
        note(reader, ObjectKind::Procedure, &public, &[Effect::Execute]);
    }
    Some(())
}
