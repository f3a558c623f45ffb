//! The temporary relations of a session: what a statement does to them, and how later statements read them.
//!
//! What makes one counts once its end is told; what may take one away, or put something into it, counts as soon as it may
//! run. So a name is read as a temporary relation only while nothing else can be meant.

use std::collections::{BTreeMap, BTreeSet};

use icegate_pdp_model::{
    ColumnName, Decision, EarlierColumn, EarlierRows, Effect, Level, MadeTemporary, MaskExpression, ObjectAccess,
    ObjectKind, RelationName, StatementAnalysis, Temporary, TemporaryRow, Verb,
};
use icegate_pdp_sql::EarlierRelation;

/// A session's temporary relations by name. Of one name there are several while it is not known which of them it is.
pub type Temporaries = BTreeMap<RelationName, Vec<TemporaryRow>>;

/// Most that is kept of one session, in names and views' bytes: every decision of the session looks at all of it. What is made
/// or put into one beyond that is not read.
const KEPT_MAX: usize = 64 * 1024;
/// What each counts for besides.
const RELATION: usize = 64;

/// Why one is not read whose statement has not ended, or not well.
const NOT_SURE: &str = "the statement that makes it has not ended well, as far as is known; wait for its end, or make it under another name";

/// Why one is not read that was made or changed in a way that is not followed.
const NOT_KNOWN: &str = "what is in it is not known; make it by CREATE TABLE or CREATE VIEW, without IF NOT EXISTS";

/// What a session's statements may read.
pub fn readable(temporaries: &Temporaries) -> BTreeMap<RelationName, Result<EarlierRelation, String>> {
    let read = |rows: &[TemporaryRow]| match rows {
        [TemporaryRow { made: true, body, .. }] => {
            EarlierRelation::of(body.clone()).ok_or_else(|| NOT_KNOWN.to_owned())
        }
        _ => Err(NOT_SURE.to_owned()),
    };
    temporaries.iter().map(|(name, rows)| (name.clone(), read(rows))).collect()
}

/// Whether a decision's statements make a temporary relation.
pub fn makes_temporary(decision: &Decision) -> bool {
    decision.statements.iter().any(|statement| statement.makes.is_some())
}

/// What a decision that may run does to its session's temporary relations; gives the names of those that are others now.
///
/// `settings` are the masks of one's own it was made with.
pub fn follow(
    decision: &Decision,
    decision_id: &str,
    settings: &BTreeMap<String, MaskExpression>,
    temporaries: &mut Temporaries,
) -> BTreeSet<RelationName> {
    let mut following = Following { decision_id, temporaries, changed: BTreeSet::new() };
    let alone = decision.statements.len() == 1;
    for (at, statement) in decision.statements.iter().enumerate() {
        following.forget(statement);
        let rows = stored(decision, statement, decision.rows_shown.get(at), settings, following.temporaries);
        following.feed(statement, &rows);
        if let Some(made) = &statement.makes {
            let row = |body| TemporaryRow { decision_id: decision_id.to_owned(), made: false, alone, body };
            following.make(&made.name, row(body(made, rows)));
        }
    }
    following.limit();
    following.changed
}

struct Following<'t> {
    decision_id: &'t str,
    temporaries: &'t mut Temporaries,
    changed: BTreeSet<RelationName>,
}

impl Following<'_> {
    /// Forgets what may be gone, or another, after the statement.
    fn forget(&mut self, statement: &StatementAnalysis) {
        // What runs in there is not followed.
        let opaque = statement.level == Level::Unknown
            || matches!(statement.kind.verb, Verb::Call | Verb::Execute | Verb::Block | Verb::Unknown);
        let made = statement.makes.as_ref().map(|made| &made.name);
        let gone = |name: &RelationName| {
            opaque || made != Some(name) && statement.objects.iter().any(|object| takes_away(object, name))
        };
        let names: BTreeSet<_> = self.temporaries.keys().filter(|name| gone(name)).cloned().collect();
        // By another name, or in another's place, it is a temporary relation still.
        let others = statement.objects.iter().filter(|object| {
            let moves = matches!(object.effect, Effect::Create | Effect::Alter);
            moves && !opaque && !names.is_empty() && matches!(object.kind, ObjectKind::Table | ObjectKind::View)
        });
        let others: Vec<_> = others
            .filter_map(|object| RelationName::of(object.name.parts()))
            .filter(|name| made != Some(name))
            .collect();
        for name in names.into_iter().chain(others) {
            let rows = self.temporaries.remove(&name).unwrap_or_default();
            let unsure = self.unended(&rows);
            let dropped = |object: &ObjectAccess| !takes_away(object, &name) || drops(object, &rows);
            if opaque || !unsure.is_empty() || !statement.objects.iter().all(dropped) {
                let rows = if unsure.is_empty() { vec![unknown(true)] } else { unsure };
                self.temporaries.insert(name.clone(), rows);
            }
            self.changed.insert(name);
        }
    }

    /// Adds what the statement stores to what it is stored in.
    fn feed(&mut self, statement: &StatementAnalysis, rows: &EarlierRows) {
        let written = statement.objects.iter().filter(|object| object.effect == Effect::Write);
        for object in written {
            let Some(name) = RelationName::of(object.name.parts()) else { continue };
            let Some(there) = self.temporaries.get_mut(&name) else { continue };
            // Of what was told by its head alone, the columns are not known.
            let known = statement.level == Level::Understood || !rows.objects.iter().any(is_read);
            for row in there {
                match &mut row.body {
                    body if !known => *body = Temporary::Unknown,
                    Temporary::Table(stored) => stored.add(rows),
                    Temporary::View { .. } | Temporary::Unknown => {}
                }
            }
            self.changed.insert(name);
        }
    }

    /// Adds what the name may mean once the statement has ended.
    fn make(&mut self, name: &RelationName, row: TemporaryRow) {
        let mut there = self.temporaries.remove(name).unwrap_or_default();
        // What the same request made before it replaces.
        there.retain(|before| before.decision_id != self.decision_id);
        let unsure = self.unended(&there);
        if !unsure.is_empty() {
            there = unsure;
        }
        there.push(row);
        self.temporaries.insert(name.clone(), there);
        self.changed.insert(name.clone());
    }

    /// What stays under a name of which one may not have ended yet: that one may still come, after whatever is made meanwhile,
    /// and which of them ended last is never told.
    fn unended(&self, rows: &[TemporaryRow]) -> Vec<TemporaryRow> {
        let ended = |row: &TemporaryRow| row.made || row.decision_id == self.decision_id;
        if rows.iter().all(ended) { Vec::new() } else { vec![unknown(false)] }
    }

    /// Forgets what is in what is new when there is too much.
    fn limit(&mut self) {
        let kept = self.temporaries.values().flatten().map(|row| size(&row.body));
        if kept.sum::<usize>() > KEPT_MAX {
            let new = self.temporaries.iter_mut().filter(|(name, _)| self.changed.contains(name));
            for row in new.flat_map(|(_, rows)| rows) {
                row.body = Temporary::Unknown;
            }
        }
    }
}

/// What no decision's end makes known.
fn unknown(made: bool) -> TemporaryRow {
    TemporaryRow { decision_id: String::new(), made, alone: false, body: Temporary::Unknown }
}

/// Whether it takes away what is there, and does nothing else with the name. DROP of the wrong kind fails.
fn drops(object: &ObjectAccess, rows: &[TemporaryRow]) -> bool {
    let other = |row: &TemporaryRow| {
        matches!(
            (object.kind, &row.body),
            (ObjectKind::View, Temporary::Table(_) | Temporary::Unknown) | (ObjectKind::Table, Temporary::View { .. })
        )
    };
    object.effect == Effect::Drop && !rows.iter().any(other)
}

/// Whether what is done to the object can take the relation of this name away, or put another in its place.
fn takes_away(object: &ObjectAccess, name: &RelationName) -> bool {
    let changes = matches!(object.effect, Effect::Create | Effect::Alter | Effect::Drop);
    let full = [&name.database, &name.schema, &name.name];
    let above = matches!(object.kind, ObjectKind::Database | ObjectKind::Schema);
    let parts = object.name.parts();
    changes && (parts.iter().eq(full) || above && parts.iter().zip(full).all(|(part, own)| part == own))
}

fn is_read(object: &ObjectAccess) -> bool {
    object.effect == Effect::Read && matches!(object.kind, ObjectKind::Table | ObjectKind::View)
}

/// What the statement's values were made of, as it may run. Columns of temporary relations are told by what those are made of.
fn stored(
    decision: &Decision,
    statement: &StatementAnalysis,
    shown: Option<&BTreeMap<RelationName, String>>,
    settings: &BTreeMap<String, MaskExpression>,
    temporaries: &Temporaries,
) -> EarlierRows {
    let lasts = |column: &&ColumnName| !temporaries.contains_key(&*column.relation);
    let reads = |object: &&ObjectAccess| {
        matches!(object.effect, Effect::Read | Effect::Metadata | Effect::Import | Effect::Use | Effect::Execute)
    };
    let masks = decision.masks.iter().filter(|masked| statement.columns_read.contains(&masked.column));
    let masks = masks.map(|masked| (masked.column.clone(), masked.mask.clone())).collect();
    EarlierRows {
        columns: None,
        objects: statement.objects.iter().filter(reads).cloned().collect(),
        columns_read: statement.columns_read.iter().filter(lasts).cloned().collect(),
        rows_met: statement.rows_met.iter().filter(|name| !temporaries.contains_key(name)).cloned().collect(),
        expressions: EarlierRows::expressions_of(&masks, settings),
        masks,
        row_filters: shown.cloned().unwrap_or_default(),
    }
}

/// What is kept of a relation that is made.
fn body(made: &MadeTemporary, rows: EarlierRows) -> Temporary {
    let Some(made_columns) = &made.columns else { return Temporary::Unknown };
    let Some(text) = &made.text else {
        let columns = made_columns.iter().cloned().map(|column| EarlierColumn {
            sources: column.sources.intersection(&rows.columns_read).cloned().collect(),
            ..column
        });
        return Temporary::Table(EarlierRows { columns: Some(columns.collect()), ..rows });
    };
    let columns = made_columns.iter().map(|column| column.name.clone()).collect();
    Temporary::View { text: text.clone(), columns }
}

fn size(body: &Temporary) -> usize {
    // A longer name counts for several.
    let name = |name: &str| 1 + name.len() / RELATION;
    let names = match body {
        Temporary::Table(rows) => {
            let columns = rows.columns.iter().flatten().map(|column| name(&column.name) + column.sources.len());
            let objects = rows.objects.iter().flat_map(|object| object.name.parts()).map(|part| name(part));
            rows.columns_read.len() + rows.rows_met.len() + objects.sum::<usize>() + columns.sum::<usize>()
        }
        Temporary::View { text, columns } => text.len() + columns.iter().map(|column| name(column)).sum::<usize>(),
        Temporary::Unknown => 0,
    };
    RELATION + names
}
