//! Snowflake Scripting: blocks, and what is in them, statement by statement.
//!
//! A block is walked, not run: every branch is read, every loop is read as if it ran more than once, and what one part
//! does to names holds for the next only when it is sure to have happened.

use crate::{
    bodies::pieces,
    gate::{Piece, Token, TokenKind},
    reader::{Read, Reader, stop},
};

/// Words that begin a part of a block.
const OPENERS: [&str; 10] = ["CASE", "DECLARE", "FOR", "IF", "LET", "LOOP", "RAISE", "REPEAT", "RETURN", "WHILE"];
/// Words behind BEGIN that make it a transaction.
const TRANSACTIONS: [&str; 3] = ["NAME", "TRANSACTION", "WORK"];
/// Words with an END of their own.
const CLOSED: [&str; 6] = ["CASE", "FOR", "IF", "LOOP", "REPEAT", "WHILE"];
/// Deepest parts within parts.
const PARTS_DEPTH_MAX: usize = 32;

/// Whether a statement is a block, or a part of one.
pub(crate) fn opens(tokens: &[Token<'_>]) -> bool {
    match tokens.first() {
        Some(first) if is(first, &["BEGIN"]) => begins_block(tokens),
        Some(first) => is(first, &OPENERS),
        None => false,
    }
}

fn begins_block(tokens: &[Token<'_>]) -> bool {
    match (tokens.get(1), tokens.get(2)) {
        (None, _) => false,
        // `name := 1` in a block.
        (Some(next), Some(after)) if is(next, &TRANSACTIONS) && after.text == ":" => true,
        (Some(next), _) => next.text != ";" && !is(next, &TRANSACTIONS),
    }
}

/// Puts the statements of each block together again; a block that does not close stays in pieces, which are not read.
pub(crate) fn group<'a>(text: &'a str, pieces: Vec<Piece<'a>>) -> Vec<Piece<'a>> {
    if pieces.len() < 2 {
        return pieces;
    }
    let mut grouped: Vec<Piece<'a>> = Vec::with_capacity(pieces.len());
    let mut rest: &[Piece<'a>] = &pieces;
    while let Some((first, after)) = rest.split_first() {
        let count = match block_start(&first.tokens) {
            Some(from) => block_len(rest, from),
            None => 1,
        };
        let (block, following) = rest.split_at_checked(count).unwrap_or((std::slice::from_ref(first), after));
        rest = following;
        grouped.push(joined(text, block));
    }
    grouped
}

/// Where a block starts in a statement.
fn block_start(tokens: &[Token<'_>]) -> Option<usize> {
    let first = tokens.first()?;
    if opens(tokens) {
        return Some(0);
    }
    if !is(first, &["ALTER", "CREATE", "DEFINE", "WITH"]) {
        return None;
    }
    let starts = tokens.windows(2).position(|pair| {
        matches!(pair, [before, word] if is(before, &["ACTION", "AS", "THEN"]) && is(word, &["BEGIN", "DECLARE"]))
    });
    Some(starts? + 1)
}

/// How many pieces the block at the head of these is; 1 when it does not close.
fn block_len(pieces: &[Piece<'_>], from: usize) -> usize {
    let mut depth = 0_usize;
    let mut declares = false;
    for (count, piece) in pieces.iter().enumerate() {
        let mut starts = true;
        let tokens = piece.tokens.get(if count == 0 { from } else { 0 }..).unwrap_or_default();
        for (at, token) in tokens.iter().enumerate() {
            let before = at.checked_sub(1).and_then(|at| tokens.get(at));
            let next = tokens.get(at + 1);
            let start = std::mem::replace(&mut starts, false);
            let dotted = before.is_some_and(|before| before.text == ".");
            if token.kind != TokenKind::Word || dotted || before.is_some_and(|before| is(before, &["END"])) {
                continue;
            }
            if is(token, &["END"]) {
                depth = depth.saturating_sub(1);
            } else if is(token, &["CASE"]) {
                depth += 1;
            } else if start && is(token, &["DECLARE"]) {
                declares = true;
            } else if start && is(token, &["BEGIN"]) && begins_block(tokens.get(at..).unwrap_or_default()) {
                depth += 1;
                declares = false;
            } else if start
                && is(token, &CLOSED)
                && !(is(token, &["REPEAT"]) && next.is_some_and(|next| next.text == "("))
            {
                depth += 1;
            }
            starts = is(token, &["BEGIN", "THEN", "ELSE", "DO", "LOOP", "REPEAT", "EXCEPTION"]);
        }
        if depth == 0 && !declares {
            return count + 1;
        }
    }
    1
}

fn joined<'a>(text: &'a str, block: &[Piece<'a>]) -> Piece<'a> {
    let mut tokens: Vec<Token<'a>> = Vec::new();
    let (mut start, mut end) = (usize::MAX, 0);
    for piece in block {
        if start == usize::MAX {
            start = piece.start;
        } else {
            tokens.push(Token { kind: TokenKind::Symbol, text: ";", start: end });
        }
        end = piece.start + piece.text.len();
        tokens.extend(&piece.tokens);
    }
    let most = |of: fn(&Piece<'_>) -> usize| block.iter().map(of).max().unwrap_or_default();
    Piece {
        text: text.get(start..end).unwrap_or_default(),
        start,
        tokens,
        operators: most(|piece| piece.operators),
        nesting: most(|piece| piece.nesting),
    }
}

fn is(token: &Token<'_>, words: &[&str]) -> bool {
    token.kind == TokenKind::Word && words.iter().any(|word| token.text.eq_ignore_ascii_case(word))
}

/// A block being read.
#[derive(Debug)]
pub(crate) struct Script<'p, 'a> {
    piece: &'p Piece<'a>,
    at: usize,
    depth: usize,
    exports: Vec<String>,
}

impl<'p, 'a> Script<'p, 'a> {
    pub(crate) fn new(piece: &'p Piece<'a>) -> Self {
        Self { piece, at: 0, depth: 0, exports: Vec::new() }
    }

    /// Reads it all, and says where data leaves to.
    pub(crate) fn run(mut self, reader: &mut Reader<'_, '_>) -> Read<Vec<String>> {
        self.part(reader)?;
        if self.at < self.piece.tokens.len() {
            return stop("there is something behind the block");
        }
        Ok(self.exports)
    }

    fn peek(&self) -> Option<&'p Token<'a>> {
        self.piece.tokens.get(self.at)
    }

    fn next_is(&self, words: &[&str]) -> bool {
        self.peek().is_some_and(|token| is(token, words))
    }

    fn word(&mut self, words: &[&str]) -> bool {
        let here = self.next_is(words);
        self.at += usize::from(here);
        here
    }

    fn sign(&mut self, sign: &str) -> bool {
        let here = self.peek().is_some_and(|token| token.kind == TokenKind::Symbol && token.text == sign);
        self.at += usize::from(here);
        here
    }

    fn expect(&mut self, words: &[&str]) -> Read<()> {
        if self.word(words) { Ok(()) } else { stop(format!("{} is missing in the block", words.join(" or "))) }
    }

    fn name(&mut self) -> Read<()> {
        match self.peek() {
            Some(token) if matches!(token.kind, TokenKind::Word | TokenKind::Quoted) => {
                self.at += 1;
                Ok(())
            }
            _ => stop("a name is missing in the block"),
        }
    }

    /// A name that may stand there.
    fn label(&mut self) {
        if self.peek().is_some_and(|token| matches!(token.kind, TokenKind::Word | TokenKind::Quoted)) {
            self.at += 1;
        }
    }

    /// The text up to one of these words, a semicolon or a bracket that closes, outside all brackets.
    fn text_until(&mut self, words: &[&str]) -> Read<&'a str> {
        let from = self.at;
        let mut depth = 0_usize;
        let mut cases = 0_usize;
        while let Some(token) = self.peek() {
            let symbol = token.kind == TokenKind::Symbol;
            let closes = symbol && token.text == ")";
            if depth == 0 && cases == 0 && (closes || symbol && token.text == ";" || is(token, words)) {
                break;
            }
            match token.text {
                "(" if symbol => depth += 1,
                ")" if symbol => depth = depth.saturating_sub(1),
                _ if is(token, &["CASE"]) => cases += 1,
                _ if is(token, &["END"]) => cases = cases.saturating_sub(1),
                _ => {}
            }
            self.at += 1;
        }
        self.text(from, self.at)
    }

    fn text(&self, from: usize, to: usize) -> Read<&'a str> {
        let (first, last) = (self.piece.tokens.get(from), to.checked_sub(1).and_then(|at| self.piece.tokens.get(at)));
        let (Some(first), Some(last), true) = (first, last, to > from) else {
            return stop("a part of the block is empty");
        };
        let end = last.end();
        let range = (first.start.checked_sub(self.piece.start), end.checked_sub(self.piece.start));
        match range {
            (Some(from), Some(to)) => self.piece.text.get(from..to).map_or_else(|| stop("a part of the block"), Ok),
            _ => stop("a part of the block"),
        }
    }

    fn expression(&mut self, reader: &mut Reader<'_, '_>, until: &[&str]) -> Read<()> {
        let text = self.text_until(until)?;
        self.exports.extend(reader.expression_text(text, true, &[])?);
        Ok(())
    }

    fn statement(&mut self, reader: &mut Reader<'_, '_>, text: &str) -> Read<()> {
        let text = without_targets(text)?;
        let pieces = pieces(&text)?;
        let [piece] = pieces.as_slice() else { return stop("it is not one statement") };
        self.exports.extend(reader.inner(piece)?);
        Ok(())
    }

    /// Statements up to one of these words.
    fn parts(&mut self, reader: &mut Reader<'_, '_>, until: &[&str]) -> Read<()> {
        while !self.next_is(until) {
            self.part(reader)?;
            if !self.sign(";") {
                return stop("a semicolon is missing in the block");
            }
        }
        Ok(())
    }

    /// One statement.
    fn part(&mut self, reader: &mut Reader<'_, '_>) -> Read<()> {
        if self.depth == PARTS_DEPTH_MAX {
            return stop(format!("the block is nested deeper than {PARTS_DEPTH_MAX} levels"));
        }
        self.depth += 1;
        let read = self.one(reader);
        self.depth -= 1;
        read
    }

    fn one(&mut self, reader: &mut Reader<'_, '_>) -> Read<()> {
        let tokens = self.piece.tokens.get(self.at..).unwrap_or_default();
        if tokens.first().is_some_and(|first| is(first, &["DECLARE"])) || opens_block(tokens) {
            return self.block(reader);
        }
        let assigned = matches!(tokens, [_, colon, equals, ..] if colon.text == ":" && equals.text == "=");
        if assigned {
            self.at += 3;
            return self.value(reader);
        }
        if self.word(&["LET"]) {
            return self.declaration(reader);
        }
        if self.word(&["IF"]) {
            return self.branches(reader, "IF");
        }
        if self.word(&["CASE"]) {
            if !self.next_is(&["WHEN"]) {
                self.expression(reader, &["WHEN"])?;
            }
            self.expect(&["WHEN"])?;
            return self.branches(reader, "CASE");
        }
        if self.word(&["FOR"]) {
            self.name()?;
            self.expect(&["IN"])?;
            self.word(&["REVERSE"]);
            self.expression(reader, &["DO", "LOOP", "TO"])?;
            if self.word(&["TO"]) {
                self.expression(reader, &["DO", "LOOP"])?;
            }
            return self.repeated(reader, &["FOR", "LOOP"], true);
        }
        if self.word(&["WHILE"]) {
            self.expression(reader, &["DO", "LOOP"])?;
            return self.repeated(reader, &["WHILE", "LOOP"], true);
        }
        if self.word(&["LOOP"]) {
            return self.repeated(reader, &["LOOP"], false);
        }
        if self.word(&["REPEAT"]) {
            return self.until_true(reader);
        }
        if self.word(&["BREAK", "CONTINUE", "EXIT", "ITERATE", "RAISE", "AWAIT", "CANCEL", "CLOSE", "NULL"]) {
            self.label();
            return Ok(());
        }
        if self.word(&["OPEN"]) {
            self.name()?;
            return if self.word(&["USING"]) { self.expression(reader, &[]) } else { Ok(()) };
        }
        if self.word(&["FETCH"]) {
            self.name()?;
            self.expect(&["INTO"])?;
            return self.text_until(&[]).map(drop);
        }
        if self.word(&["RETURN"]) {
            return self.returned(reader);
        }
        if self.word(&["ASYNC"]) {
            return self.bracketed(reader);
        }
        let text = self.text_until(&[])?;
        self.statement(reader, text)
    }

    /// `[DECLARE …] BEGIN … [EXCEPTION …] END`.
    fn block(&mut self, reader: &mut Reader<'_, '_>) -> Read<()> {
        if self.word(&["DECLARE"]) {
            while !self.next_is(&["BEGIN"]) {
                self.declaration(reader)?;
                if !self.sign(";") {
                    return stop("a semicolon is missing in DECLARE");
                }
            }
        }
        self.expect(&["BEGIN"])?;
        let before = reader.names();
        self.parts(reader, &["END", "EXCEPTION"])?;
        if self.word(&["EXCEPTION"]) {
            // Where it failed is not known, nor whether it did.
            reader.unsure_since(&before)?;
            while self.word(&["WHEN"]) {
                self.text_until(&["THEN"])?;
                self.expect(&["THEN"])?;
                reader.perhaps(|reader| self.parts(reader, &["END", "WHEN"])).map(drop)?;
            }
        }
        self.expect(&["END"])?;
        self.label();
        Ok(())
    }

    /// `x NUMBER := 1`, `c CURSOR FOR …`, `r RESULTSET := (…)`, `e EXCEPTION (…)`.
    fn declaration(&mut self, reader: &mut Reader<'_, '_>) -> Read<()> {
        self.name()?;
        if self.word(&["CURSOR"]) {
            self.expect(&["FOR"])?;
            let query = self.next_is(&["SELECT", "WITH"]);
            let text = self.text_until(&[])?;
            if query {
                return self.statement(reader, text);
            }
            self.exports.extend(reader.expression_text(text, true, &[])?);
            return Ok(());
        }
        if self.word(&["EXCEPTION"]) {
            let from = self.at;
            if self.peek().is_some_and(|token| token.text != ";") {
                self.text_until(&[])?;
            }
            let tokens = self.piece.tokens.get(from..self.at).unwrap_or_default();
            let plain = tokens.iter().all(|token| match token.kind {
                TokenKind::Number | TokenKind::Text => true,
                _ => ["(", ")", ",", "-"].contains(&token.text),
            });
            return if plain { Ok(()) } else { stop("an exception that is not a number and a text") };
        }
        // A type: words, numbers and brackets.
        while let Some(token) = self.peek() {
            let ends = token.text == ";" || token.text == ":" || is(token, &["DEFAULT"]);
            if ends {
                break;
            }
            let plain = matches!(token.kind, TokenKind::Word | TokenKind::Number)
                && !is(token, &["SELECT", "CALL", "EXECUTE"])
                || ["(", ")", ","].contains(&token.text);
            if !plain {
                return stop("a type in the block is not understood");
            }
            self.at += 1;
        }
        let assigned = self.word(&["DEFAULT"]) || self.sign(":") && self.sign("=");
        if assigned { self.value(reader) } else { Ok(()) }
    }

    /// What a variable is set to: an expression, or the rows of a statement in brackets.
    fn value(&mut self, reader: &mut Reader<'_, '_>) -> Read<()> {
        if self.word(&["ASYNC"]) {
            return self.bracketed(reader);
        }
        let tokens = self.piece.tokens.get(self.at..).unwrap_or_default();
        let statement = matches!(tokens, [bracket, word, ..]
            if bracket.text == "(" && is(word, &["CALL", "DELETE", "DESC", "DESCRIBE", "EXECUTE", "INSERT", "LIST", "LS", "MERGE", "SHOW", "UPDATE"]));
        if statement { self.bracketed(reader) } else { self.expression(reader, &[]) }
    }

    /// `(statement)`.
    fn bracketed(&mut self, reader: &mut Reader<'_, '_>) -> Read<()> {
        if !self.sign("(") {
            return stop("a statement in brackets is missing in the block");
        }
        let text = self.text_until(&[])?;
        self.statement(reader, text)?;
        if self.sign(")") { Ok(()) } else { stop("a bracket does not close in the block") }
    }

    fn returned(&mut self, reader: &mut Reader<'_, '_>) -> Read<()> {
        if self.peek().is_none_or(|token| token.text == ";") {
            return Ok(());
        }
        if !self.word(&["TABLE"]) {
            return self.expression(reader, &[]);
        }
        let tokens = self.piece.tokens.get(self.at..).unwrap_or_default();
        if let [open, name, close, ..] = tokens
            && open.text == "("
            && close.text == ")"
            && matches!(name.kind, TokenKind::Word | TokenKind::Quoted)
        {
            self.at += 3;
            return Ok(());
        }
        self.bracketed(reader)
    }

    /// `… THEN … [ELSEIF … THEN …] [ELSE …] END IF`, and the same of CASE, from the first condition on.
    fn branches(&mut self, reader: &mut Reader<'_, '_>, kind: &str) -> Read<()> {
        let more: &[&str] = if kind == "IF" { &["ELSEIF", "ELSIF"] } else { &["WHEN"] };
        let ends: Vec<&str> = more.iter().copied().chain(["ELSE", "END"]).collect();
        loop {
            self.expression(reader, &["THEN"])?;
            self.expect(&["THEN"])?;
            reader.perhaps(|reader| self.parts(reader, &ends)).map(drop)?;
            if !self.word(more) {
                break;
            }
        }
        if self.word(&["ELSE"]) {
            reader.perhaps(|reader| self.parts(reader, &["END"])).map(drop)?;
        }
        self.expect(&["END"])?;
        if kind == "IF" {
            self.expect(&["IF"])?;
        } else {
            self.word(&["CASE"]);
        }
        Ok(())
    }

    /// `DO … END FOR`.
    fn repeated(&mut self, reader: &mut Reader<'_, '_>, closing: &[&str], opened: bool) -> Read<()> {
        if opened {
            self.expect(&["DO", "LOOP"])?;
        }
        self.twice(reader, "END")?;
        self.expect(&["END"])?;
        self.expect(closing)?;
        self.label();
        Ok(())
    }

    fn until_true(&mut self, reader: &mut Reader<'_, '_>) -> Read<()> {
        self.twice(reader, "UNTIL")?;
        self.expect(&["UNTIL"])?;
        self.expression(reader, &["END"])?;
        self.expect(&["END"])?;
        self.expect(&["REPEAT"])?;
        self.label();
        Ok(())
    }

    /// Reads what is repeated; again when it changed what names mean, since the next time they are not what they were.
    fn twice(&mut self, reader: &mut Reader<'_, '_>, end: &str) -> Read<()> {
        let at = self.at;
        if reader.perhaps(|reader| self.parts(reader, &[end]))? {
            self.at = at;
            reader.perhaps(|reader| self.parts(reader, &[end])).map(drop)?;
        }
        Ok(())
    }
}

fn opens_block(tokens: &[Token<'_>]) -> bool {
    tokens.first().is_some_and(|first| is(first, &["BEGIN"])) && begins_block(tokens)
}

/// `SELECT … INTO :x FROM …` without the variables it goes to.
fn without_targets(text: &str) -> Read<String> {
    let tokens = crate::gate::tokens(text).map_err(crate::reader::Stop)?;
    let mut out = text.to_owned();
    if !tokens.first().is_some_and(|first| is(first, &["SELECT", "WITH"])) {
        return Ok(out);
    }
    let into =
        tokens.windows(2).position(|pair| matches!(pair, [into, colon] if is(into, &["INTO"]) && colon.text == ":"));
    let Some(into) = into else { return Ok(out) };
    let mut at = into + 1;
    loop {
        let variable = matches!((tokens.get(at), tokens.get(at + 1)),
            (Some(colon), Some(name)) if colon.text == ":" && name.kind == TokenKind::Word);
        if !variable {
            return stop("INTO of what is not a variable");
        }
        at += 2;
        if tokens.get(at).is_none_or(|token| token.text != ",") {
            break;
        }
        at += 1;
    }
    let from = tokens.get(into).map_or(0, |token| token.start);
    let to = tokens.get(at - 1).map_or(from, Token::end);
    out.replace_range(from..to, &" ".repeat(to - from));
    Ok(out)
}
