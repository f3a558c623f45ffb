//! UPDATE, DELETE and MERGE of a relation of which only some rows are for whoever asks: where a condition on its rows can stand.

use std::ops::Range;

use sqlparser::ast::{BinaryOperator, Delete, Expr, FromTable, Statement, TableWithJoins};

use crate::{
    gate::{Token, TokenKind},
    parse::{self, Places},
    reader::{Made, Reader},
    rewrite,
    scope::Scope,
};

/// What a statement does to the rows of a relation.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// What the relation's columns are qualified with, as it is written there.
    pub(crate) called: String,
    /// Another relation of the statement is called the same.
    pub(crate) twin: bool,
    /// Where the condition stands that chooses the rows; `None`: its place is not sure, or not in this text.
    pub(crate) condition: Option<Condition>,
    /// Rows that are not found are added.
    pub(crate) adds: bool,
    /// An earlier statement of the request changed it in a way that is not followed.
    pub(crate) unsure: bool,
    /// What must hold for every row, whatever else the condition says, when that is told apart by parentheses.
    pub(crate) first: Option<String>,
}

/// The condition that chooses the rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// There is none; it would stand behind this byte, with WHERE.
    None(usize),
    /// It stands here, behind its WHERE or ON.
    At(Range<usize>),
}

impl Reader<'_, '_> {
    /// Notes at the target's site what is done to its rows. `scope` has the target first.
    pub(crate) fn note_change(&mut self, scope: &Scope<'_>, on: Option<&Expr>, adds: Option<bool>) {
        let Some((target, others)) = scope.visible.split_first() else { return };
        let Some((called, site)) = target.qualifier.last().zip(target.site) else { return };
        let condition = self.places.and_then(|places| match adds {
            None => behind_where(places, on.is_some()),
            Some(_) => behind_on(places),
        });
        let unsure = self.sites.get(site).and_then(|site| self.known.get(site.known));
        let unsure = unsure.is_none_or(|known| self.request.made(&known.name) == Some(Made::Unsure));
        let change = Change {
            called: rewrite::plain_or_quoted(called),
            twin: others.iter().any(|other| other.qualifier.last() == Some(called)),
            condition,
            adds: adds.unwrap_or(false),
            unsure,
            first: on.and_then(first_part),
        };
        if let Some(site) = self.sites.get_mut(site) {
            site.change = Some(change);
        }
    }
}

/// `a` of `(a) AND (b)` and of `(a)`: whatever stands in the second parentheses, `a` must hold.
fn first_part(condition: &Expr) -> Option<String> {
    match condition {
        Expr::Nested(all) => Some(all.to_string()),
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => match (&**left, &**right) {
            (Expr::Nested(first), Expr::Nested(_)) => Some(first.to_string()),
            _ => None,
        },
        _ => None,
    }
}

/// How a condition reads back as the first part of another.
pub(crate) fn read_back(condition: &str, depth_max: usize) -> Option<String> {
    let statements = parse::parse_text(&format!("DELETE FROM T WHERE ({condition})"), depth_max).ok()?;
    let [Statement::Delete(Delete { from: FromTable::WithFromKeyword(from), selection, .. })] = statements.as_slice()
    else {
        return None;
    };
    let [TableWithJoins { .. }] = from.as_slice() else { return None };
    selection.as_ref().and_then(first_part)
}

/// Words outside all brackets and CASE, each with the token before it and behind it.
fn outermost<'t, 'a>(tokens: &'t [Token<'a>]) -> Option<Vec<(usize, &'t Token<'a>)>> {
    let (mut depth, mut words) = (0_usize, Vec::new());
    for (at, token) in tokens.iter().enumerate() {
        let part = at.checked_sub(1).and_then(|before| tokens.get(before)).is_some_and(|before| before.text == ".");
        let is = |word: &str| token.kind == TokenKind::Word && !part && token.text.eq_ignore_ascii_case(word);
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth = depth.checked_sub(1)?,
            _ if is("CASE") => depth += 1,
            _ if is("END") => depth = depth.checked_sub(1)?,
            _ if depth == 0 && token.kind == TokenKind::Word => words.push((at, token)),
            _ => {}
        }
    }
    (depth == 0).then_some(words)
}

/// The condition of UPDATE and DELETE: it is the last of the statement.
fn behind_where(places: &Places<'_>, there: bool) -> Option<Condition> {
    let (tokens, from) = places.tokens()?;
    let last = from + tokens.last()?.end();
    let wheres: Vec<&Token<'_>> = outermost(&tokens)?
        .into_iter()
        .map(|(_, word)| word)
        .filter(|word| word.text.eq_ignore_ascii_case("WHERE"))
        .collect();
    match (wheres.as_slice(), there) {
        ([], false) => Some(Condition::None(last)),
        ([only], true) => Some(Condition::At(from + only.end()..last)),
        _ => None,
    }
}

/// The condition of MERGE: between ON and the first WHEN.
fn behind_on(places: &Places<'_>) -> Option<Condition> {
    let (tokens, from) = places.tokens()?;
    let words = outermost(&tokens)?;
    let mut ons = words.iter().filter(|(_, word)| word.text.eq_ignore_ascii_case("ON"));
    let (on_at, on) = ons.next().filter(|_| ons.next().is_none())?;
    let (when_at, _) = words.iter().find(|(at, word)| at > on_at && word.text.eq_ignore_ascii_case("WHEN"))?;
    let last = tokens.get(when_at.checked_sub(1)?)?;
    let matched = tokens.get(when_at + 1)?;
    let known = ["MATCHED", "NOT"].iter().any(|word| matched.text.eq_ignore_ascii_case(word));
    (known && when_at - on_at > 1).then(|| Condition::At(from + on.end()..from + last.end()))
}
