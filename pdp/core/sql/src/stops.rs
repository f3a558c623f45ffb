//! `SELECT SYSTEM$CANCEL_QUERY('<query id>')` and `SELECT SYSTEM$CANCEL_ALL_QUERIES(<session>)`, as clients stop what they run.
//!
//! Only a statement that is such a call and nothing else, alone in its request, is read so: it is never sent, the proxy stops
//! what the caller may stop. Anywhere else the functions stay unknown.

use std::collections::BTreeSet;

use icegate_pdp_model::{
    Effect, Kind, Level, ObjectAccess, ObjectKind, ObjectName as Name, StatementAnalysis, Stops, Verb,
};

use crate::{
    analyze::{Reading, unknown},
    earlier::query_id,
    gate::{Piece, TokenKind},
};

/// The function that stops one statement.
const QUERY: &str = "SYSTEM$CANCEL_QUERY";
/// The function that stops all statements of a session.
const SESSION: &str = "SYSTEM$CANCEL_ALL_QUERIES";

/// What a statement stops, when that is all it does.
pub(crate) fn read<'a>(piece: &Piece<'_>) -> Option<Reading<'a>> {
    let [select, function, open, id, close] = piece.tokens.as_slice() else { return None };
    let words = select.kind == TokenKind::Word && function.kind == TokenKind::Word;
    if !words || !select.text.eq_ignore_ascii_case("SELECT") || open.text != "(" || close.text != ")" {
        return None;
    }
    let name = function.text.to_ascii_uppercase();
    let stops = match (name.as_str(), id.kind) {
        (QUERY, TokenKind::Text) => Stops::Query(query_id(id.in_quotes()?)?),
        (SESSION, TokenKind::Number) => Stops::Session(id.text.parse().ok()?),
        _ => return None,
    };
    let (unknown, plan) = unknown(String::new(), piece.text.len());
    let session = ObjectAccess { kind: ObjectKind::Session, name: Name::new(["SESSION"]), effect: Effect::Use };
    let mut facts = unknown.facts;
    facts.functions.insert(name);
    let analysis = StatementAnalysis {
        level: Level::Understood,
        kind: Kind::of(Verb::Cancel),
        effects: BTreeSet::from([Effect::Use]),
        objects: vec![session],
        why: None,
        facts,
        stops: Some(stops),
        ..unknown
    };
    Some((analysis, plan))
}
