//! What a matched head touches, with full names.

use icegate_pdp_model::{Effect, Nature, ObjectKind, ObjectName, RelationName, SessionContext, Verb};

use crate::{
    functions,
    heads::{
        code::name_in,
        objects::{Object, Scope},
    },
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
    /// A name that is full as it is: of another account, or of a stage.
    Remote { kind: ObjectKind, parts: Vec<String>, effects: Vec<Effect> },
    /// What CALL runs, and the literals it is given.
    Routine { parts: Vec<String>, texts: Vec<String> },
    /// A function that is called.
    Called { name: String, dotted: bool },
    /// A place outside.
    Location { url: String, effects: Vec<Effect> },
    /// A stage, without its `@`.
    Stage { text: String, effects: Vec<Effect> },
    /// The account.
    Account(Vec<Effect>),
    /// The session.
    Session(Vec<Effect>),
    /// The session's own database or schema.
    Current(ObjectKind),
    /// SQL in the statement.
    Body { body: Body, text: String, params: Vec<Param> },
    /// An expression; `own`: its names may be columns of what the statement is about.
    Expression { text: String, own: bool },
    /// What nobody can say more of than its name.
    Missed { what: &'static str, name: String },
    /// Code that is not read: why.
    Opaque(String),
}

/// What SQL in a statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Body {
    /// A query.
    Query,
    /// One statement or a block, stored and run later by others.
    Action,
    /// A procedure's code: not read is as good as another language, since nobody calls it unasked.
    Code,
    /// Code that runs now.
    Run,
    /// A function's query or expression: as with a procedure's code.
    Function,
    /// A policy's expression.
    Policy,
}

/// A parameter of a routine or policy; the columns of a table parameter.
#[derive(Debug, Clone)]
pub(crate) struct Param {
    pub(crate) name: String,
    pub(crate) columns: Option<Vec<String>>,
}

impl Touch {
    /// The kind of an object of the table.
    pub(super) fn kind(&self) -> Option<ObjectKind> {
        match self {
            Self::Object { object, .. } => Some(object.kind),
            Self::Current(kind) => Some(*kind),
            _ => None,
        }
    }
}

/// What is told besides objects.
#[derive(Debug, Default)]
pub(super) struct Touched {
    pub(super) exports: Vec<String>,
    /// Code in it that is not read: why.
    pub(super) opaque: Option<String>,
    /// SQL in it was read.
    pub(super) bodies: bool,
}

/// Notes everything in the reader; nothing when a name cannot be one, or why SQL in it is not read.
pub(super) fn apply(touched: Vec<Touch>, verb: Verb, reader: &mut Reader<'_, '_>) -> Result<Touched, Option<String>> {
    let mut told = Touched::default();
    let mut before: Option<(&'static Object, Vec<String>)> = None;
    for touch in touched {
        match touch {
            Touch::Object { object, parts, mut effects } => {
                // What is granted to a share is seen by whom it is shared with.
                if verb == Verb::Grant && object.kind == ObjectKind::Share {
                    effects.push(Effect::Export);
                }
                match complete(object.scope, &parts, &reader.session).ok_or(None)? {
                    Some(full) => {
                        sent(object.kind, &full, &effects, &mut told);
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
                let moved = complete(object.scope, &parts, &reader.session).ok_or(None)?;
                for full in [Some(beside), moved].into_iter().flatten() {
                    if let (ObjectKind::Table | ObjectKind::View, Some(old), Some(new)) =
                        (object.kind, RelationName::of(old), RelationName::of(&full))
                    {
                        reader.renamed(&old, &new);
                    }
                    note(reader, object.kind, &full, &[Effect::Create]);
                }
            }
            Touch::Named { kind, parts, effects } => match complete(scope(kind), &parts, &reader.session) {
                Some(Some(full)) => {
                    sent(kind, &full, &effects, &mut told);
                    note(reader, kind, &full, &effects);
                }
                Some(None) => reader.miss(kind.as_str(), ObjectName::new(parts)),
                None => return Err(None),
            },
            Touch::Remote { kind: ObjectKind::Stage, parts, effects } => {
                let Some(full) = complete(Scope::Schema, &parts, &reader.session).ok_or(None)? else { continue };
                note(reader, ObjectKind::Stage, &full, &effects);
            }
            Touch::Remote { kind, parts, effects } => {
                sent(kind, &parts, &effects, &mut told);
                for effect in effects {
                    reader.touch(kind, ObjectName::new(parts.clone()), effect);
                }
            }
            Touch::Routine { parts, texts } => routine(reader, &parts, &texts, &mut told).ok_or(None)?,
            Touch::Called { name, dotted } => {
                let folded = name.trim_matches('"').to_ascii_uppercase();
                if dotted || !functions::is_builtin(&folded) {
                    reader.miss("function", &folded);
                }
                reader.functions.insert(folded);
            }
            Touch::Location { url, effects } => {
                if effects.contains(&Effect::Export) {
                    told.exports.push(url.clone());
                }
                note(reader, ObjectKind::Location, &[url], &effects);
            }
            Touch::Stage { text, effects } => {
                let Ok(Place::Stage { object, shown }) = reader.stage(&text) else { return Err(None) };
                if effects.contains(&Effect::Export) {
                    told.exports.push(shown);
                }
                note(reader, ObjectKind::Stage, object.parts(), &effects);
            }
            Touch::Account(effects) => note(reader, ObjectKind::Account, &["ACCOUNT".to_owned()], &effects),
            Touch::Session(effects) => note(reader, ObjectKind::Session, &["SESSION".to_owned()], &effects),
            Touch::Current(ObjectKind::Warehouse) => match reader.session.warehouse.clone() {
                Some(name) => note(reader, ObjectKind::Warehouse, &[name], &[Effect::Alter]),
                None => reader.miss(ObjectKind::Warehouse.as_str(), "the session has none"),
            },
            Touch::Current(kind) => reader.current(kind),
            Touch::Body { body, text, params } => {
                told.bodies = true;
                let home = before.as_ref().map(|(_, full)| full.as_slice());
                match reader.embedded(body, &text, &params, home) {
                    Ok(exports) => told.exports.extend(exports),
                    Err(why) if matches!(body, Body::Code | Body::Function) => {
                        told.opaque = Some(format!("its body is not read: {why}"));
                    }
                    Err(why) => return Err(Some(format!("its body is not read: {why}"))),
                }
            }
            Touch::Expression { text, own } => {
                told.bodies = true;
                let exports = reader.fragment(&text, own).map_err(Some)?;
                told.exports.extend(exports);
            }
            Touch::Missed { what, name } => reader.miss(what, name),
            Touch::Opaque(why) => told.opaque = Some(why),
        }
    }
    told.exports.sort();
    told.exports.dedup();
    Ok(told)
}

/// Notes where data leaves to, when it does.
fn sent(kind: ObjectKind, full: &[String], effects: &[Effect], told: &mut Touched) {
    if effects.contains(&Effect::Export) {
        told.exports.push(format!("{kind} {}", ObjectName::new(full.to_vec())));
    }
}

fn scope(kind: ObjectKind) -> Scope {
    match kind {
        ObjectKind::Schema => Scope::Database,
        ObjectKind::Table
        | ObjectKind::View
        | ObjectKind::FileFormat
        | ObjectKind::Secret
        | ObjectKind::NetworkRule
        | ObjectKind::Function
        | ObjectKind::Stream
        | ObjectKind::Task
        | ObjectKind::Model => Scope::Schema,
        _ => Scope::Any,
    }
}

/// The outer `None` is a name of too many parts; the inner one a session that has not what is missing.
#[expect(clippy::option_option, reason = "two ways of not being a full name, and they are answered differently")]
fn complete(scope: Scope, parts: &[String], session: &SessionContext) -> Option<Option<Vec<String>>> {
    let database = session.database.clone();
    match (scope, parts.len()) {
        (Scope::Any, _) | (Scope::Account, 1) | (Scope::Database, 2) => Some(Some(parts.to_vec())),
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
fn routine(reader: &mut Reader<'_, '_>, parts: &[String], texts: &[String], told: &mut Touched) -> Option<()> {
    if let [name] = parts
        && SENDERS.contains(&name.as_str())
    {
        sender(reader, name, texts, told);
        return Some(());
    }
    // Other functions of the system are no procedures and do anything.
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
    if reader.catalog.procedure(&name) != Some(Nature::Pure) {
        reader.miss(ObjectKind::Procedure.as_str(), name);
    }
    if let ([name], [database, _, _]) = (parts, full.as_slice()) {
        let public = [database.clone(), "PUBLIC".to_owned(), name.clone()];
        note(reader, ObjectKind::Procedure, &public, &[Effect::Execute]);
    }
    Some(())
}

/// Functions of the system that send a text away.
const SENDERS: [&str; 2] = ["SYSTEM$SEND_EMAIL", "SYSTEM$SEND_SNOWFLAKE_NOTIFICATION"];

/// A message: through an integration, to addresses.
fn sender(reader: &mut Reader<'_, '_>, name: &str, texts: &[String], told: &mut Touched) {
    let function = vec![name.to_owned()];
    sent(ObjectKind::Function, &function, &[Effect::Export], told);
    note(reader, ObjectKind::Function, &function, &[Effect::Execute, Effect::Export]);
    if name != "SYSTEM$SEND_EMAIL" {
        return;
    }
    // Without both in literals the function stands for any address.
    let [integration, addresses, ..] = texts else { return };
    if let Some(parts) = name_in(integration) {
        note(reader, ObjectKind::Integration, &parts, &[Effect::Use]);
    }
    for address in addresses.split([',', ' ']).filter(|address| address.contains('@') && !address.contains('\\')) {
        told.exports.push(address.to_owned());
        note(reader, ObjectKind::Location, &[address.to_owned()], &[Effect::Export]);
    }
}
