//! Names of result columns that have none of their own. Snowflake calls such a column by its text, and a mask inside would
//! change the text and show there; so the column is given the name it had.

use super::splice::{Splice, quoted};
use crate::{
    analyze::Analyzed,
    gate::{self, Piece, Token, TokenKind},
};

/// Longest identifier of Snowflake, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// Words that end a select list.
const ENDS: [&str; 16] = [
    "CONNECT",
    "EXCEPT",
    "FETCH",
    "FROM",
    "GROUP",
    "HAVING",
    "INTERSECT",
    "INTO",
    "LIMIT",
    "MINUS",
    "OFFSET",
    "ORDER",
    "QUALIFY",
    "START",
    "UNION",
    "WHERE",
];

/// Result columns whose names a mask changed, by statement and place.
pub(super) type Changed = Vec<(usize, usize)>;

/// An alias behind each of them; `None` when one cannot be given its old name. Where an alias went wrong the proof shows it.
pub(super) fn aliases(analyzed: &Analyzed<'_>, changed: &Changed) -> Option<Vec<Splice>> {
    let pieces = gate::split(analyzed.sql).ok()?;
    if pieces.len() != analyzed.plans.len() {
        return None;
    }
    let alias = |&(statement, place): &(usize, usize)| {
        let labels = &analyzed.plans.get(statement)?.labels;
        let ends = item_ends(pieces.get(statement)?);
        let label = labels.get(place).filter(|label| label.len() <= NAME_BYTES_MAX && ends.len() == labels.len())?;
        let end = *ends.get(place)?;
        Some(Splice::new(end..end, format!(" AS {}", quoted(label))))
    };
    changed.iter().map(alias).collect()
}

/// Where each item of the outermost select list ends.
fn item_ends(piece: &Piece<'_>) -> Vec<usize> {
    let mut ends = Vec::new();
    let mut depth = 0_usize;
    let mut last: Option<&Token<'_>> = None;
    let is = |token: &Token<'_>, words: &[&str]| {
        token.kind == TokenKind::Word && words.iter().any(|word| token.text.eq_ignore_ascii_case(word))
    };
    let select = piece.tokens.iter().skip_while(|token| {
        match token.text {
            "(" => depth += 1,
            ")" => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth > 0 || !is(token, &["SELECT"])
    });
    let mut depth = 0_usize;
    for token in select.skip(1) {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.saturating_sub(1),
            "," | ";" if depth == 0 => {
                ends.extend(last.take().map(Token::end));
                continue;
            }
            _ if depth == 0 && is(token, &ENDS) => break,
            _ => {}
        }
        last = Some(token);
    }
    ends.extend(last.map(Token::end));
    ends
}
