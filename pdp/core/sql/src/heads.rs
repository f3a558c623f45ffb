//! Statements the parser does not read, told by their heads: a table of what a whole statement can look like, matched
//! token by token.
//!
//! SQL inside them (bodies of tasks, views and procedures, conditions, blocks) is read by [`crate::bodies`], which comes
//! back here for what the parser does not read there. Code that is not SQL is opaque: stored, that is said; run now, the
//! statement stays unknown. A computed name matches no row.

mod atoms;
mod code;
mod matcher;
mod objects;
mod options;
mod parts;
mod table;
mod touch;
mod transfer;
mod words;

use std::{collections::HashMap, sync::LazyLock};

use icegate_pdp_model::{Effect, Kind, ObjectKind, RelationName, Verb};

use crate::{
    gate::{Piece, Token, TokenKind},
    heads::{
        matcher::{Matcher, Row, atoms},
        table::{CLAUSES, HEADS},
        touch::Touched,
    },
    reader::Reader,
    scripting,
    statement::Unrewritable,
};
pub(crate) use touch::{Body, Param};

/// What the head of a statement says, besides the objects the reader gathered.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    pub(crate) exports: Vec<String>,
    pub(crate) unmaskable: Option<Unrewritable>,
    /// Code in it that is not read: why.
    pub(crate) opaque: Option<String>,
    /// SQL in it was read.
    pub(crate) bodies: bool,
    /// What it makes for the session alone.
    pub(crate) temporary: Option<RelationName>,
}

/// Matches a statement against the table, and notes in the reader what it touches. The error may say why.
pub(crate) fn classify(piece: &Piece<'_>, reader: &mut Reader<'_, '_>) -> Result<Head, Option<String>> {
    if scripting::opens(&piece.tokens) {
        let exports = reader.block(piece).map_err(Some)?;
        let kind = Kind::of(Verb::Block);
        let unmaskable = Some(Unrewritable::Body);
        return Ok(Head { kind, exports, unmaskable, opaque: None, bodies: true, temporary: None });
    }
    let tokens = defined(transfer::tokens(piece).ok_or(None)?);
    let verb = verb(tokens.first().ok_or(None)?).ok_or(None)?;
    let text = (piece.text, piece.start);
    let job = verb == Verb::Execute && tokens.get(1).is_some_and(|token| token.text.eq_ignore_ascii_case("IMMEDIATE"));
    let unread =
        || job.then(|| "EXECUTE IMMEDIATE of what is not a constant: what it runs is not in the statement".to_owned());
    let touched = ROWS.iter().find_map(|row| Matcher::whole(row, text, &tokens)).ok_or_else(unread)?;
    let first = touched.first().and_then(touch::Touch::kind);
    let object = match verb {
        Verb::Create | Verb::Alter | Verb::Drop | Verb::Undrop | Verb::Comment => first.or_else(|| {
            tokens.get(1).filter(|token| token.text.eq_ignore_ascii_case("ACCOUNT")).map(|_| ObjectKind::Account)
        }),
        Verb::Use => Some(ObjectKind::Role),
        _ => None,
    };
    let copies = verb == Verb::Create && object != Some(ObjectKind::Stream);
    let Touched { exports, opaque, bodies } = touch::apply(touched, verb, reader)?;
    // In a block this is also what was made before.
    let created = if verb == Verb::Create && is_temporary(&tokens) { reader.created() } else { Vec::new() };
    for name in &created {
        reader.hides(name);
    }
    let temporary = created.into_iter().next();
    let load = verb == Verb::CopyFiles && tokens.get(1).is_some_and(|token| token.text.eq_ignore_ascii_case("INTO"));
    let verb = if load { Verb::CopyLoad } else { verb };
    let unmaskable = match (verb, object) {
        (Verb::Create | Verb::Alter, Some(ObjectKind::View)) if bodies => Some(Unrewritable::View),
        _ if bodies || job => Some(Unrewritable::Body),
        _ => copies.then_some(Unrewritable::Copy),
    };
    Ok(Head { kind: Kind { verb, object }, exports, unmaskable, opaque, bodies, temporary })
}

/// What a head does to names that later statements of the same block use.
pub(crate) fn changes(effect: Effect) -> bool {
    matches!(effect, Effect::Create | Effect::Alter | Effect::Drop)
}

/// DEFINE makes or changes: `CREATE OR ALTER` in other words.
fn defined(mut tokens: Vec<Token<'_>>) -> Vec<Token<'_>> {
    if let Some(&first) = tokens.first().filter(|token| token.text.eq_ignore_ascii_case("DEFINE")) {
        let word = |text| Token { text, ..first };
        tokens.splice(..1, [word("CREATE"), word("OR"), word("ALTER")]);
    }
    tokens
}

/// Whether a relation is made for the session alone: `CREATE OR REPLACE LOCAL TEMPORARY TABLE`.
fn is_temporary(tokens: &[Token<'_>]) -> bool {
    let is = |token: &Token<'_>, words: &[&str]| words.iter().any(|word| token.text.eq_ignore_ascii_case(word));
    let mut before = tokens.iter().take_while(|token| !is(token, &["TABLE", "VIEW"]));
    before.any(|token| is(token, &["TEMPORARY", "TEMP", "VOLATILE"]))
}

/// The table, each row cut into its atoms.
static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| HEADS.iter().map(|row| atoms(row)).collect());

/// The lists of clauses, likewise, by their names.
static LISTED: LazyLock<HashMap<&'static str, Vec<Row>>> =
    LazyLock::new(|| CLAUSES.iter().map(|(list, rows)| (*list, rows.iter().map(|row| atoms(row)).collect())).collect());

/// Words that begin a statement with a head.
const VERBS: &[(&str, Verb)] = &[
    ("WITH", Verb::Call),
    ("USE", Verb::Use),
    ("UNSET", Verb::Set),
    ("START", Verb::Transaction),
    ("SET", Verb::Set),
    ("COPY", Verb::CopyFiles),
    ("BEGIN", Verb::Transaction),
    ("ALTER", Verb::Alter),
    ("CALL", Verb::Call),
    ("COMMENT", Verb::Comment),
    ("CREATE", Verb::Create),
    ("DESC", Verb::Describe),
    ("DESCRIBE", Verb::Describe),
    ("DROP", Verb::Drop),
    ("EXECUTE", Verb::Execute),
    ("GET", Verb::Get),
    ("GRANT", Verb::Grant),
    ("LIST", Verb::List),
    ("LS", Verb::List),
    ("PUT", Verb::Put),
    ("REMOVE", Verb::Remove),
    ("REVOKE", Verb::Revoke),
    ("RM", Verb::Remove),
    ("SHOW", Verb::Show),
    ("UNDROP", Verb::Undrop),
];

fn verb(first: &Token<'_>) -> Option<Verb> {
    let word = |&&(word, _): &&(&str, Verb)| first.kind == TokenKind::Word && first.text.eq_ignore_ascii_case(word);
    VERBS.iter().find(word).map(|&(_, verb)| verb)
}
