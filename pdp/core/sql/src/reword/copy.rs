//! COPY INTO a table, which inserts what it reads, and what COPY names besides.

use super::Rewording;
use crate::{gate::TokenKind, names, rewrite::quoted};

/// What COPY INTO a table can say behind its source (Snowflake docs, "COPY INTO <table>", read 2026-11).
const LOAD_OPTIONS: [&str; 20] = [
    "CLUSTER_AT_INGEST_TIME",
    "ENFORCE_LENGTH",
    "FILES",
    "FILE_FORMAT",
    "FILE_PROCESSOR",
    "FORCE",
    "INCLUDE_METADATA",
    "LOAD_MODE",
    "LOAD_UNCERTAIN_FILES",
    "MATCH_BY_COLUMN_NAME",
    "ON_ERROR",
    "OVERWRITE",
    "PATTERN",
    "PURGE",
    "RETURN_FAILED_ONLY",
    "SIZE_LIMIT",
    "TRUNCATECOLUMNS",
    "VALIDATION_MODE",
    "VALIDATE_UTF8",
    "USE_VECTORIZED_SCANNER",
];

impl Rewording<'_, '_> {
    /// `COPY INTO t (c) FROM (SELECT … FROM @s) FILES = (…)` inserts what it reads. What stands behind only says which
    /// files are read and what becomes of rows that do not fit.
    pub(super) fn copy_load(&mut self) -> bool {
        if !(self.first(&["COPY"]) && self.is(1, &["INTO"])) {
            return false;
        }
        let tokens = &self.piece.tokens;
        let target = |at: usize| {
            tokens.get(at).is_some_and(|token| {
                matches!(token.kind, TokenKind::Word | TokenKind::Quoted) || matches!(token.text, "." | "%")
            })
        };
        let computed = self.is(2, &["IDENTIFIER"]) && self.symbol(3, "(") && self.symbol(5, ")");
        if computed {
            self.plain_name(2);
        }
        let name_end = |&at: &usize| !target(at) || self.is(at, &["FROM"]);
        let Some(mut from) = (if computed { 6 } else { 2 }..tokens.len()).find(name_end) else { return false };
        if self.symbol(from, "(") {
            let Some(close) = self.close(from) else { return false };
            from = close + 1;
        }
        let query = self.is(from, &["FROM"]) && self.symbol(from + 1, "(") && self.is(from + 2, &["SELECT"]);
        let Some(close) = self.close(from + 1).filter(|_| query) else { return false };
        if !self.are_options(close + 1) {
            return false;
        }
        self.say(0, 2, "INSERT");
        self.blank(from, from + 1);
        self.blank(close + 1, self.piece.tokens.len());
        true
    }

    /// `IDENTIFIER('t')` where the parser takes no computed name: `"T"`.
    pub(super) fn plain_name(&mut self, at: usize) -> Option<()> {
        let text = self.piece.tokens.get(at + 2).filter(|token| token.kind == TokenKind::Text)?;
        let parts = names::dotted(text.in_quotes()?)?;
        let name: Vec<String> = parts.iter().map(|part| quoted(part)).collect();
        let (from, to) = (self.place(at)?.0, self.place(at + 3)?.1);
        self.put(from, to, &name.join("."));
        Some(())
    }

    /// Settings of a COPY that name or change something: `FORMAT_NAME = db.schema.format`, which is said as a type, and
    /// `PURGE = TRUE`; and `CREDENTIALS = ()`, which says nothing. `None` when a format has no name.
    pub(super) fn copy_settings(&mut self, loads: bool) -> Option<(Vec<Vec<String>>, bool)> {
        let (mut formats, mut purges) = (Vec::new(), false);
        if !self.first(&["COPY"]) {
            return Some((formats, purges));
        }
        for at in 2..self.piece.tokens.len() {
            if !self.symbol(at + 1, "=") {
                continue;
            }
            if self.is(at, &["FORMAT_NAME"]) {
                let mut end = at + 3;
                while self.symbol(end, ".") && self.names_follow(end + 1) {
                    end += 2;
                }
                if loads || end > at + 3 {
                    let (from, to) = (self.place(at + 2)?.0, self.place(end - 1)?.1);
                    formats.push(names::dotted(self.piece.text.get(from..to)?.trim_matches('\''))?);
                    if !loads {
                        self.say(at, end, "TYPE=CSV");
                    }
                }
            }
            purges |= loads && self.is(at, &["PURGE"]) && !self.is(at + 2, &["FALSE"]);
            if self.is(at, &["CREDENTIALS"]) && self.symbol(at + 2, "(") && self.symbol(at + 3, ")") {
                self.blank(at, at + 4);
            }
        }
        Some((formats, purges))
    }

    /// `NAME = value` and `NAME = (…)` to the end, each of a name that only says how to load.
    fn are_options(&self, mut at: usize) -> bool {
        while let Some(token) = self.piece.tokens.get(at) {
            let known = token.kind == TokenKind::Word && self.is(at, &LOAD_OPTIONS);
            if !known || !self.symbol(at + 1, "=") {
                return false;
            }
            at = if self.symbol(at + 2, "(") {
                let Some(close) = self.close(at + 2) else { return false };
                close + 1
            } else {
                let plain = |token: &crate::gate::Token<'_>| token.kind != TokenKind::Symbol;
                // What becomes of rows that do not fit may be bound.
                let bound = self.is(at, &["ON_ERROR"]) && self.symbol(at + 2, "?");
                if !bound && !self.piece.tokens.get(at + 2).is_some_and(plain) {
                    return false;
                }
                at + 3
            };
        }
        true
    }
}
