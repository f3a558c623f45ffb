//! One statement's text to its tree, and the proof that the tree holds every word of the text.

use std::{collections::HashMap, fmt::Write as _, ops::Range};

use sqlparser::{
    ast::{
        Expr, FunctionArg, FunctionArgExpr, Ident, ObjectName, ObjectNamePart, ObjectNamePartFunction, Statement,
        ValueWithSpan,
    },
    parser::{Parser, ParserError, ParserOptions},
    tokenizer::{Location, Span},
};

use crate::gate::{self, Piece, Token, TokenKind};

mod dialect {
    #![expect(unreachable_pub, reason = "the macro makes its type public")]

    use sqlparser::{derive_dialect, dialect::SnowflakeDialect};

    derive_dialect!(Snowflake, SnowflakeDialect, preserve_type_id = true, overrides = {
        supports_cross_join_constraint = true,
        supports_cte_without_as = true,
        supports_filter_during_aggregation = true,
    });
}

/// Why a statement has no tree.
#[derive(Debug)]
pub(crate) enum Unparsed {
    /// Nested deeper than the limit.
    TooDeep,
    /// Not read, with the reason.
    Because(String),
}

/// The tree of one statement.
pub(crate) fn parse(piece: &Piece<'_>, depth_max: usize) -> Result<Statement, Unparsed> {
    let mut statements = parse_text(piece.text, depth_max)?;
    let (Some(statement), true) = (statements.pop(), statements.is_empty()) else {
        return Err(Unparsed::Because("the parser and the splitter count different numbers of statements".into()));
    };
    account(piece, &statement).map_err(Unparsed::Because)?;
    Ok(statement)
}

/// Parses without the proof: for text that was proven or is ours.
pub(crate) fn parse_text(text: &str, depth_max: usize) -> Result<Vec<Statement>, Unparsed> {
    // INVARIANT: literals stay as written, so that printing the tree reads back as the same tree.
    let options = ParserOptions::new().with_unescape(false).with_trailing_commas(true);
    Parser::new(&dialect::Snowflake::new())
        .with_options(options)
        .with_recursion_limit(depth_max)
        .try_with_sql(text)
        .and_then(|mut parser| parser.parse_statements())
        .map_err(|error| match error {
            ParserError::RecursionLimitExceeded => Unparsed::TooDeep,
            // The message may quote the text, and text must not reach logs: only the place is kept.
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
                let place = message
                    .rsplit_once(" at ")
                    .map_or(String::new(), |(_, place)| format!(" at {}", place.to_lowercase()));
                Unparsed::Because(format!("not read as Snowflake SQL{place}"))
            }
        })
}

/// Words a faithful print may leave out.
const NOISE: [&str; 13] =
    ["AS", "INNER", "OUTER", "WORK", "TEMP", "FIRST", "NEXT", "ROW", "ROWS", "ONLY", "COLUMN", "ASC", "TRANSACTION"];

/// How far ahead a printed word is looked for in the text before it counts as standing elsewhere.
const AHEAD: usize = 8;

/// Checks that every word, name, number and literal of the text comes back when the tree is printed: what the parser
/// swallowed or took for something else shows here.
fn account(piece: &Piece<'_>, statement: &Statement) -> Result<(), String> {
    let mut printed = String::with_capacity(piece.text.len() * 2);
    let prints = || "the tree does not print as SQL".to_owned();
    write!(printed, "{statement}").map_err(|_| prints())?;
    // Most of a tree prints in the order of the text: what stands alike in both is paired off as it comes, one to one.
    let mut source: Vec<&Token<'_>> = Vec::with_capacity(piece.tokens.len());
    source.extend(piece.tokens.iter().filter(|token| token.kind != TokenKind::Symbol));
    let (mut rest, mut missed, mut left) = (source.as_slice(), Vec::new(), Vec::new());
    let mut tokens = gate::Tokens::of(&printed);
    while let Some(token) = tokens.next().map_err(|_| prints())? {
        if token.kind == TokenKind::Symbol {
            continue;
        }
        match rest.iter().take(AHEAD).position(|other| same(&token, other)) {
            Some(at) => {
                let (before, after) = rest.split_at(at);
                missed.extend_from_slice(before);
                rest = after.get(1..).unwrap_or_default();
            }
            None => left.push(token),
        }
    }
    missed.extend_from_slice(rest);
    if missed.is_empty() {
        return Ok(());
    }
    let mut counts: HashMap<(TokenKind, String), usize> = HashMap::with_capacity(left.len());
    for token in &left {
        *counts.entry(key(token)).or_default() += 1;
    }
    let grants = matches!(statement, Statement::Grant(_) | Statement::Revoke(_));
    for token in missed {
        let key = key(token);
        match counts.get_mut(&key) {
            Some(count) if *count > 0 => *count -= 1,
            _ if key.0 == TokenKind::Word && (NOISE.contains(&key.1.as_str()) || grants && key.1 == "TABLE") => {}
            _ => {
                let place = token.start.saturating_sub(piece.start);
                return Err(format!("the parser lost a word at byte {place} of the statement"));
            }
        }
    }
    Ok(())
}

/// Whether two tokens say the same: words without regard to case, everything else to the letter.
fn same(token: &Token<'_>, other: &Token<'_>) -> bool {
    token.kind == other.kind
        && if token.kind == TokenKind::Word {
            token.text.eq_ignore_ascii_case(other.text)
        } else {
            token.text == other.text
        }
}

/// What is equal exactly when two tokens say the same.
fn key(token: &Token<'_>) -> (TokenKind, String) {
    let text = if token.kind == TokenKind::Word { token.text.to_ascii_uppercase() } else { token.text.to_owned() };
    (token.kind, text)
}

/// Turns the parser's lines and columns (characters, from 1) of one statement into bytes of the whole text.
#[derive(Debug)]
pub(crate) struct Places<'a> {
    text: &'a str,
    start: usize,
    /// Characters before each line.
    lines: Vec<usize>,
    /// Byte of each character, and the end; empty when every character is one byte.
    bytes: Vec<usize>,
}

impl<'a> Places<'a> {
    pub(crate) fn of(piece: &Piece<'a>) -> Self {
        let text = piece.text;
        let breaks = text.chars().enumerate().filter(|(_, c)| *c == '\n').map(|(at, _)| at + 1);
        let lines = std::iter::once(0).chain(breaks).collect();
        let bytes = if text.is_ascii() {
            Vec::new()
        } else {
            text.char_indices().map(|(at, _)| at).chain(std::iter::once(text.len())).collect()
        };
        Self { text, start: piece.start, lines, bytes }
    }

    /// Bytes of this identifier, or nothing when the text there is not it.
    pub(crate) fn ident(&self, ident: &Ident) -> Option<Range<usize>> {
        let Span { start, end } = ident.span;
        let (from, to) = (self.byte(start)?, self.byte(end)?);
        let text = self.text.get(from..to)?;
        // INVARIANT: what is cut is what was read; a span that lies is no span.
        (text == ident.to_string()).then_some(self.start + from..self.start + to)
    }

    /// Bytes of `TABLE('name')` or `IDENTIFIER('name')`, or nothing when the text there is not that.
    pub(crate) fn named_by(&self, name: &ObjectName) -> Option<Range<usize>> {
        let [ObjectNamePart::Function(ObjectNamePartFunction { name: _, args })] = name.0.as_slice() else {
            return None;
        };
        let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(ValueWithSpan { value, span })))] = args.as_slice()
        else {
            return None;
        };
        let from = self.byte(span.start)?;
        // The words around the constant: the parser keeps no place of them.
        let tokens = gate::tokens(self.text).ok()?;
        let at = tokens.iter().position(|token| token.start == from)?;
        let [word, open, constant, close] = tokens.get(at.checked_sub(2)?..at + 2)? else { return None };
        let names = word.kind == TokenKind::Word
            && ["TABLE", "IDENTIFIER"].iter().any(|known| word.text.eq_ignore_ascii_case(known));
        // INVARIANT: what is cut is what was read, and no comment; a span that lies is no span.
        let end = close.end();
        let cut = self.text.get(word.start..end)?.split_whitespace().flat_map(str::chars);
        let read = [word, open, constant, close].map(|token| token.text).concat();
        let whole = names
            && (open.text, close.text) == ("(", ")")
            && constant.text == value.to_string()
            && cut.eq(read.split_whitespace().flat_map(str::chars));
        whole.then(|| self.start + word.start..self.start + end)
    }

    /// The statement's text from a byte of the whole text on.
    pub(crate) fn after(&self, byte: usize) -> Option<&'a str> {
        self.text.get(byte.checked_sub(self.start)?..)
    }

    /// The statement's tokens, and the byte of the whole text their places count from.
    pub(crate) fn tokens(&self) -> Option<(Vec<Token<'a>>, usize)> {
        Some((gate::tokens(self.text).ok()?, self.start))
    }

    fn byte(&self, place: Location) -> Option<usize> {
        let line = *self.lines.get(usize::try_from(place.line.checked_sub(1)?).ok()?)?;
        let at = line + usize::try_from(place.column.checked_sub(1)?).ok()?;
        if self.bytes.is_empty() { Some(at) } else { self.bytes.get(at).copied() }
    }
}
