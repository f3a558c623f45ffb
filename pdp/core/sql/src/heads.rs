//! Statements the parser does not read, told by their heads: a table of what a whole statement can look like, matched
//! token by token.
//!
//! Nothing here reads a query or an expression: a statement that holds one, or code, or a computed name, matches no
//! row and stays unknown.

mod atoms;
mod matcher;
mod options;
mod table;
mod touch;
mod transfer;

use std::sync::LazyLock;

use icegate_pdp_model::{Kind, ObjectKind, Verb};

use crate::{
    gate::{Piece, Token, TokenKind},
    heads::{
        matcher::{Matcher, atoms},
        table::HEADS,
        touch::{Touch, Touched},
    },
    reader::Reader,
    statement::Unrewritable,
};

/// What the head of a statement says, besides the objects the reader gathered.
#[derive(Debug)]
pub(crate) struct Head {
    pub(crate) kind: Kind,
    pub(crate) exports: Vec<String>,
    pub(crate) unmaskable: Option<Unrewritable>,
}

/// Matches a statement against the table, and notes in the reader what it touches.
pub(crate) fn classify(piece: &Piece<'_>, reader: &mut Reader<'_, '_>) -> Option<Head> {
    let tokens = transfer::tokens(piece)?;
    let verb = verb(tokens.first()?)?;
    let touched = ROWS.iter().find_map(|row| Matcher::whole(row, &tokens))?;
    let object = match verb {
        Verb::Create | Verb::Alter | Verb::Drop | Verb::Undrop | Verb::Comment => touched.first().and_then(Touch::kind),
        _ => None,
    };
    let copies = verb == Verb::Create && object != Some(ObjectKind::Stream);
    let Touched { exports } = touch::apply(touched, reader)?;
    Some(Head { kind: Kind { verb, object }, exports, unmaskable: copies.then_some(Unrewritable::Copy) })
}

/// The table, each row cut into its atoms.
static ROWS: LazyLock<Vec<Vec<&'static str>>> = LazyLock::new(|| HEADS.iter().map(|row| atoms(row)).collect());

/// Words that begin a statement with a head.
const VERBS: &[(&str, Verb)] = &[
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
