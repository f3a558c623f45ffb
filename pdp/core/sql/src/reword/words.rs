//! Looking at a statement's tokens, and writing in their places.

use super::Rewording;
use crate::gate::TokenKind;

/// Words before JOIN, and others that a relation cannot be called: DIRECTED behind anything else is a name or alias.
const NO_RELATION: [&str; 9] = ["AS", "FROM", "JOIN", "ON", "USING", "SELECT", "WHERE", "UPDATE", "INTO"];

/// Words before a bracket that call nothing.
const NO_CALLS: [&str; 12] = ["AND", "AS", "BY", "FROM", "IN", "JOIN", "NOT", "ON", "OR", "SELECT", "THEN", "WHERE"];

impl Rewording<'_, '_> {
    /// Whether the word is the type of a cast.
    pub(super) fn is_cast(&self, at: usize) -> bool {
        let colons = at.checked_sub(2).is_some_and(|first| self.symbol(first, ":") && self.symbol(first + 1, ":"));
        colons || self.before(at, &["AS"]) && self.within(&["CAST", "TRY_CAST"])
    }

    pub(super) fn behind_relation(&self, at: usize) -> bool {
        let Some(before) = at.checked_sub(1) else { return false };
        self.symbol(before, ")") || self.names_follow(before) && !self.is(before, &NO_RELATION)
    }

    /// Whether a bracket behind this token calls it.
    pub(super) fn calls_with(&self, at: usize) -> bool {
        self.names_follow(at) && !self.is(at, &NO_CALLS)
    }

    /// Whether the innermost bracket belongs to one of these words.
    pub(super) fn within(&self, words: &[&str]) -> bool {
        matches!(self.calls.last(), Some(Some(call)) if self.is(*call, words))
    }

    pub(super) fn names_follow(&self, at: usize) -> bool {
        self.piece.tokens.get(at).is_some_and(|token| matches!(token.kind, TokenKind::Word | TokenKind::Quoted))
    }

    pub(super) fn first(&self, words: &[&str]) -> bool {
        self.is(0, words)
    }

    pub(super) fn before(&self, at: usize, words: &[&str]) -> bool {
        at.checked_sub(1).is_some_and(|before| self.is(before, words))
    }

    pub(super) fn before_symbol(&self, at: usize, sign: &str) -> bool {
        at.checked_sub(1).is_some_and(|before| self.symbol(before, sign))
    }

    pub(super) fn is(&self, at: usize, words: &[&str]) -> bool {
        self.piece.tokens.get(at).is_some_and(|token| {
            token.kind == TokenKind::Word && words.iter().any(|word| token.text.eq_ignore_ascii_case(word))
        })
    }

    pub(super) fn symbol(&self, at: usize, sign: &str) -> bool {
        self.piece.tokens.get(at).is_some_and(|token| token.kind == TokenKind::Symbol && token.text == sign)
    }

    /// The bracket that closes this one.
    pub(super) fn close(&self, open: usize) -> Option<usize> {
        let mut depth = 0_usize;
        for (at, token) in self.piece.tokens.iter().enumerate().skip(open) {
            match (token.kind, token.text) {
                (TokenKind::Symbol, "(") => depth += 1,
                (TokenKind::Symbol, ")") => {
                    depth = depth.checked_sub(1)?;
                    if depth == 0 {
                        return Some(at);
                    }
                }
                _ => {}
            }
        }
        None
    }

    /// Bytes of a token in the statement.
    pub(super) fn place(&self, at: usize) -> Option<(usize, usize)> {
        let token = self.piece.tokens.get(at)?;
        let from = token.start.checked_sub(self.piece.start)?;
        Some((from, from + token.text.len()))
    }

    /// Blanks these tokens and what stands between them; gives the one behind.
    pub(super) fn blank(&mut self, from: usize, to: usize) -> usize {
        self.say(from, to, "")
    }

    /// Says something else in the place of these tokens, when it fits; gives the token behind.
    pub(super) fn say(&mut self, from: usize, to: usize, words: &str) -> usize {
        if let (Some((start, _)), Some((_, end))) =
            (self.place(from), to.checked_sub(1).and_then(|last| self.place(last)))
        {
            self.put(start, end, words);
        }
        to
    }

    pub(super) fn put(&mut self, from: usize, to: usize, words: &str) {
        let text = self.text.get_or_insert_with(|| self.piece.text.as_bytes().to_vec());
        let Some(place) = text.get_mut(from..to).filter(|place| place.len() >= words.len()) else { return };
        place.fill(b' ');
        for (byte, word) in place.iter_mut().zip(words.bytes()) {
            *byte = word;
        }
    }
}
