//! Where in the text stands what an analysis speaks of?
//!
//! Only for showing it to people: computed from the text and the finished analysis, so deciding never pays for it. A
//! place that cannot be told is absent, never guessed: a name from a view's own text stands nowhere in this one.

use std::{collections::BTreeMap, ops::Range};

use icegate_pdp_model::{ColumnName, ObjectAccess, ObjectKind, ObjectName, StatementAnalysis};

use crate::gate::{self, Piece, Token, TokenKind};

type Bytes = Range<usize>;

/// The places of one statement, as bytes of the whole text.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Located {
    /// The statement itself, without blanks and comments around it.
    pub statement: Range<usize>,
    /// Where the reading stopped; `None` for a statement that is understood.
    pub stopped: Option<Range<usize>>,
    /// For each of `unresolved`: where it is named.
    pub unresolved: Vec<Vec<Range<usize>>>,
    /// For each of `objects`: where it is named.
    pub objects: Vec<Vec<Range<usize>>>,
    /// For each of `exports`: where it is named.
    pub exports: Vec<Vec<Range<usize>>>,
    /// For each of `projection`: the item of the select list it comes from.
    pub projection: Vec<Option<Range<usize>>>,
    /// For each of `columns_read`: where it is named; else the items of the select list or the relations that bring it.
    pub columns: BTreeMap<ColumnName, Vec<Range<usize>>>,
}

/// Finds the places of every statement of a text that was analysed, in the order of `statements`.
///
/// ```
/// use icegate_pdp_model::{Catalog, SessionContext};
/// use icegate_pdp_sql::{Limits, analyze, locate};
///
/// let sql = "SELECT id\n  FROM sales.public.nowhere";
/// let catalog = Catalog::default();
/// let analyzed = analyze(sql, &SessionContext::default(), &catalog, &Limits::default())?;
/// let located = locate(sql, &analyzed.statements);
/// assert_eq!(analyzed.statements[0].unresolved, ["relation SALES.PUBLIC.NOWHERE"]);
/// assert_eq!(&sql[located[0].unresolved[0][0].clone()], "sales.public.nowhere");
/// # Ok::<(), icegate_pdp_sql::AnalyzeError>(())
/// ```
pub fn locate(sql: &str, statements: &[StatementAnalysis]) -> Vec<Located> {
    let pieces = match gate::split(sql) {
        Ok(pieces) if pieces.len() == statements.len() => pieces,
        Ok(_) | Err(_) => return statements.iter().map(|statement| gated(sql, statement)).collect(),
    };
    pieces.iter().zip(statements).map(|(piece, statement)| Finder::of(piece).locate(statement)).collect()
}

/// A text the gate does not let through has no tokens: only where it stopped is known.
fn gated(sql: &str, statement: &StatementAnalysis) -> Located {
    let start = sql.len() - sql.trim_start().len();
    let whole = start..sql.trim_end().len().max(start);
    let stopped = gate::stopped_at(sql).and_then(|at| {
        let rest = sql.get(at..)?;
        let named = statement.why.as_deref().and_then(named_character);
        if let Some((place, c)) = named.and_then(|c| rest.char_indices().find(|&(_, it)| it == c)) {
            return Some(at + place..at + place + c.len_utf8());
        }
        let len = if ["'", "\"", "$", "--", "//", "/*"].iter().any(|mark| rest.starts_with(mark)) {
            rest.lines().next().map_or(0, str::len)
        } else {
            rest.chars().next().map_or(0, char::len_utf8)
        };
        Some(at..at + len.max(1).min(rest.len()))
    });
    Located {
        statement: whole.clone(),
        stopped: stopped.or(Some(whole)),
        unresolved: vec![Vec::new(); statement.unresolved.len()],
        objects: vec![Vec::new(); statement.objects.len()],
        exports: vec![Vec::new(); statement.exports.len()],
        projection: vec![None; statement.projection.len()],
        columns: BTreeMap::new(),
    }
}

/// The character a reason names by its code, as `U+200B`.
fn named_character(why: &str) -> Option<char> {
    let (_, code) = why.split_once("U+")?;
    let digits: String = code.chars().take_while(char::is_ascii_hexdigit).collect();
    char::from_u32(u32::from_str_radix(&digits, 16).ok()?)
}

/// Names in a row, joined by dots, as one reads them.
#[derive(Debug)]
struct Run {
    /// Folded; empty where two dots meet.
    parts: Vec<String>,
    bytes: Bytes,
    /// It stands behind an `@`.
    staged: bool,
    /// It is called.
    called: bool,
}

impl Run {
    /// The ways an analysis may write it: with and without quotes. Of `db..t` only what stands behind the dots.
    fn texts(&self) -> [String; 2] {
        let parts = self.parts.rsplit(String::is_empty).next().unwrap_or(&self.parts);
        [parts.join("."), ObjectName::new(parts).to_string()]
    }

    /// Whether it can mean this full name.
    fn means(&self, full: &[String]) -> bool {
        self.parts.len() <= full.len()
            && self.parts.iter().rev().zip(full.iter().rev()).all(|(part, wanted)| part.is_empty() || part == wanted)
    }
}

struct Finder<'p, 'a> {
    piece: &'p Piece<'a>,
    runs: Vec<Run>,
    items: Vec<Bytes>,
}

impl<'p, 'a> Finder<'p, 'a> {
    fn of(piece: &'p Piece<'a>) -> Self {
        Self { piece, runs: runs(&piece.tokens), items: items(&piece.tokens) }
    }

    fn locate(&self, statement: &StatementAnalysis) -> Located {
        let objects: Vec<Vec<Bytes>> = statement.objects.iter().map(|object| self.object(object)).collect();
        let projection = self.projection(statement);
        let columns = statement
            .columns_read
            .iter()
            .map(|column| (column.clone(), self.column(column, statement, &objects, &projection)));
        Located {
            statement: self.whole(),
            stopped: statement.why.as_deref().map(|why| self.stopped(why)),
            unresolved: statement.unresolved.iter().map(|name| self.unresolved(name)).collect(),
            exports: statement.exports.iter().map(|to| self.export(to)).collect(),
            columns: columns.collect(),
            objects,
            projection,
        }
    }

    fn whole(&self) -> Bytes {
        let (first, last) = (self.piece.tokens.first(), self.piece.tokens.last());
        match (first, last) {
            (Some(first), Some(last)) => first.start..last.end(),
            _ => self.piece.start..self.piece.start,
        }
    }

    /// Where the name stands that did not resolve: the longest written form of it.
    fn unresolved(&self, text: &str) -> Vec<Bytes> {
        let subject = text.split_once(": ").map_or(text, |(subject, _)| subject);
        let fits = |name: &str| {
            subject
                .len()
                .checked_sub(name.len())
                .and_then(|at| subject.split_at_checked(at))
                .is_some_and(|(before, end)| end.eq_ignore_ascii_case(name) && before.ends_with([' ', '.']))
        };
        let fitting: Vec<(usize, &Run)> = self
            .runs
            .iter()
            .filter_map(|run| {
                let fit = run.texts().into_iter().filter(|text| fits(text)).map(|text| text.len()).max()?;
                Some((fit, run))
            })
            .collect();
        let longest = fitting.iter().map(|(len, _)| *len).max();
        let called = subject.starts_with("function ");
        let mut found: Vec<&Run> =
            fitting.into_iter().filter(|(len, _)| Some(*len) == longest).map(|(_, run)| run).collect();
        if found.iter().any(|run| run.called == called) {
            found.retain(|run| run.called == called);
        }
        if found.is_empty() {
            // Not a name but what the name is computed from: `TABLE(…)`, `IDENTIFIER($t)`, `*`.
            return self.said(subject).into_iter().collect();
        }
        found.into_iter().map(|run| run.bytes.clone()).collect()
    }

    fn object(&self, object: &ObjectAccess) -> Vec<Bytes> {
        let staged = matches!(object.kind, ObjectKind::Stage);
        let outside = matches!(object.kind, ObjectKind::Location);
        if staged || outside {
            return self.export(&object.name.to_string());
        }
        let called = matches!(object.kind, ObjectKind::Function | ObjectKind::Procedure);
        let mut found: Vec<&Run> =
            self.runs.iter().filter(|run| !run.staged && run.means(object.name.parts())).collect();
        if found.iter().any(|run| run.called == called) {
            found.retain(|run| run.called == called);
        }
        let longest = found.iter().map(|run| run.parts.len()).max();
        found.retain(|run| Some(run.parts.len()) == longest);
        found.into_iter().map(|run| run.bytes.clone()).collect()
    }

    /// A stage, a URL, or an object by its kind and name.
    fn export(&self, to: &str) -> Vec<Bytes> {
        let tokens = &self.piece.tokens;
        let literal = |token: &&Token<'_>| {
            token.kind == TokenKind::Text
                && inside(token.text).trim_start_matches('@').starts_with(to.trim_start_matches(['@', '"']))
        };
        let literals: Vec<Bytes> = tokens.iter().filter(literal).map(|token| token.start..token.end()).collect();
        if !literals.is_empty() {
            return literals;
        }
        if to.contains('@') || !to.contains([' ', ':']) {
            let stages: Vec<Bytes> = stages(tokens);
            if stages.len() <= 1 {
                return stages;
            }
            let name = to.trim_start_matches(['@', '"']).split('/').next().unwrap_or_default();
            let last = name.rsplit('.').next().unwrap_or_default();
            let names = |bytes: &Bytes| {
                self.text(bytes).is_some_and(|text| text.to_ascii_uppercase().contains(&last.to_ascii_uppercase()))
            };
            return stages.into_iter().filter(names).collect();
        }
        // `share SH`, `database SALES`: the name behind the kind.
        let name = to.split_once(' ').and_then(|(_, name)| name.parse::<ObjectName>().ok());
        name.map_or_else(Vec::new, |name| {
            self.runs.iter().filter(|run| run.means(name.parts())).map(|run| run.bytes.clone()).collect()
        })
    }

    fn text(&self, bytes: &Bytes) -> Option<&'a str> {
        self.piece.text.get(bytes.start.checked_sub(self.piece.start)?..bytes.end.checked_sub(self.piece.start)?)
    }

    /// The items of the select list, one for each output column; a `*` stands for all that the others leave.
    fn projection(&self, statement: &StatementAnalysis) -> Vec<Option<Bytes>> {
        let (wanted, items) = (statement.projection.len(), &self.items);
        let is_star = |item: &Bytes| self.text(item).is_some_and(|text| text.contains('*') && !text.contains('('));
        let stars = items.iter().filter(|item| is_star(item)).count();
        if stars == 0 && items.len() == wanted {
            return items.iter().cloned().map(Some).collect();
        }
        let Some(star) = items.iter().position(is_star).filter(|_| stars == 1 && items.len() <= wanted + 1) else {
            return vec![None; wanted];
        };
        let behind = items.len() - star - 1;
        (0..wanted)
            .map(|at| match at {
                at if at < star => items.get(at).cloned(),
                at if at + behind >= wanted => items.get(at + items.len() - wanted).cloned(),
                _ => items.get(star).cloned(),
            })
            .collect()
    }

    fn column(
        &self,
        column: &ColumnName,
        statement: &StatementAnalysis,
        objects: &[Vec<Bytes>],
        projection: &[Option<Bytes>],
    ) -> Vec<Bytes> {
        let fits =
            |run: &&Run| !run.called && !run.staged && run.parts.last().is_some_and(|last| **last == *column.column);
        let relation = [&column.relation.database, &column.relation.schema, &column.relation.name];
        // `orders.id` is not the `id` of another relation; `o.id` may be, since `o` may be an alias of any.
        let others = |run: &&Run| match run.parts.split_last() {
            Some((_, [.., qualifier])) => statement.objects.iter().any(|object| {
                matches!(object.kind, ObjectKind::Table | ObjectKind::View)
                    && object.name.last() == qualifier
                    && !object.name.parts().iter().eq(relation)
            }),
            _ => false,
        };
        let names: Vec<Bytes> =
            self.runs.iter().filter(fits).filter(|run| !others(run)).map(|run| run.bytes.clone()).collect();
        if !names.is_empty() {
            return names;
        }
        let sources = statement.projection.iter().zip(projection).filter(|(output, _)| output.sources.contains(column));
        let mut items: Vec<Bytes> = sources.filter_map(|(_, item)| item.clone()).collect();
        items.dedup();
        if !items.is_empty() {
            return items;
        }
        let same = |object: &ObjectAccess| object.name.parts().iter().eq(relation);
        let tables = statement.objects.iter().zip(objects).filter(|(object, _)| same(object));
        tables.flat_map(|(_, places)| places.clone()).collect()
    }

    /// Where the reading stopped: the byte, the line and column, or the words the reason names; else the statement's head.
    fn stopped(&self, why: &str) -> Bytes {
        // Without a place, the parser met the end where it wanted more.
        let at_end = || if why.ends_with("Snowflake SQL") { self.token_at(usize::MAX) } else { None };
        let place = self.by_byte(why).or_else(|| self.by_line(why)).or_else(at_end).or_else(|| self.said(why));
        place.unwrap_or_else(|| self.head())
    }

    fn head(&self) -> Bytes {
        let whole = self.whole();
        let words = self.piece.tokens.iter().take(2).take_while(|token| token.kind == TokenKind::Word);
        whole.start..words.last().map_or(whole.end, Token::end)
    }

    fn by_byte(&self, why: &str) -> Option<Bytes> {
        let (_, rest) = why.split_once(" at byte ")?;
        self.token_at(self.piece.start + number(rest)?)
    }

    fn by_line(&self, why: &str) -> Option<Bytes> {
        let (_, rest) = why.split_once("line: ")?;
        let (_, column) = rest.split_once("column: ")?;
        let (line, column) = (number(rest)?.checked_sub(1)?, number(column)?.checked_sub(1)?);
        let from: usize = self.piece.text.split_inclusive('\n').take(line).map(str::len).sum();
        let text = self.piece.text.get(from..)?;
        let at = text.char_indices().nth(column).map_or(text.len(), |(at, _)| at);
        self.token_at(self.piece.start + from + at)
    }

    /// The token at this byte or behind it; at the end of the statement, the last one.
    fn token_at(&self, byte: usize) -> Option<Bytes> {
        let tokens = &self.piece.tokens;
        tokens.iter().find(|token| token.end() > byte).or(tokens.last()).map(|token| token.start..token.end())
    }

    /// The longest row of words in capitals of a sentence that stands in the text as well.
    fn said(&self, sentence: &str) -> Option<Bytes> {
        let capital = |word: &str| {
            word.chars().any(|c| c.is_ascii_uppercase() || c == '*') && !word.chars().any(|c| c.is_ascii_lowercase())
        };
        let words: Vec<&str> = sentence
            .split(|c: char| !(c.is_ascii_alphanumeric() || matches!(c, '_' | '*')))
            .filter(|word| !word.is_empty())
            .collect();
        let rows = words.split(|word| !capital(word)).filter(|row| !row.is_empty());
        let tokens = &self.piece.tokens;
        rows.flat_map(|row| (1..=row.len()).rev().filter_map(|len| row.get(..len)))
            .filter_map(|row| {
                let fits = |at: &usize| {
                    row.iter()
                        .enumerate()
                        .all(|(n, word)| tokens.get(at + n).is_some_and(|token| token.text.eq_ignore_ascii_case(word)))
                };
                let at = (0..tokens.len()).find(fits)?;
                Some((row.len(), tokens.get(at)?.start..tokens.get(at + row.len() - 1)?.end()))
            })
            .max_by_key(|(len, bytes)| (*len, std::cmp::Reverse(bytes.start)))
            .map(|(_, bytes)| bytes)
    }
}

fn number(text: &str) -> Option<usize> {
    let digits: String = text.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// What a literal holds.
fn inside(literal: &str) -> &str {
    let quoted = literal.strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
    quoted.or_else(|| literal.strip_prefix("$$").and_then(|text| text.strip_suffix("$$"))).unwrap_or(literal)
}

/// A part of a name as it is compared, for a token that can be one.
fn part(token: &Token<'_>) -> Option<String> {
    match token.kind {
        TokenKind::Word => Some(token.text.to_ascii_uppercase()),
        TokenKind::Quoted => {
            let inner = token.text.strip_prefix('"')?.strip_suffix('"')?;
            Some(inner.replace("\"\"", "\""))
        }
        TokenKind::Variable => Some(token.text.to_owned()),
        TokenKind::Text | TokenKind::Number | TokenKind::Symbol => None,
    }
}

fn is(token: Option<&Token<'_>>, symbol: &str) -> bool {
    token.is_some_and(|token| token.kind == TokenKind::Symbol && token.text == symbol)
}

/// Every name of the text; a literal that reads as a name is one, as in `IDENTIFIER('db.t')`.
fn runs(tokens: &[Token<'_>]) -> Vec<Run> {
    let mut runs = Vec::new();
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        let (first, staged) = (at, is(at.checked_sub(1).and_then(|before| tokens.get(before)), "@"));
        let Some(name) = part(token) else {
            if let (TokenKind::Text, Ok(name)) = (token.kind, inside(token.text).parse::<ObjectName>()) {
                let parts = name.parts().to_vec();
                runs.push(Run { parts, bytes: token.start..token.end(), staged: false, called: false });
            }
            at += 1;
            continue;
        };
        let mut parts = vec![name];
        while is(tokens.get(at + 1), ".") {
            let empty = is(tokens.get(at + 2), ".");
            let Some(next) = tokens.get(at + if empty { 3 } else { 2 }).and_then(part) else { break };
            if empty {
                parts.push(String::new());
            }
            parts.push(next);
            at += if empty { 3 } else { 2 };
        }
        let bytes = token.start..tokens.get(at).map_or(token.start, Token::end);
        at += 1;
        let called = is(tokens.get(at), "(");
        runs.push(Run { parts, bytes, staged: staged && first > 0, called });
    }
    runs
}

/// Every `@stage/path`: what stands without a blank behind an `@`.
fn stages(tokens: &[Token<'_>]) -> Vec<Bytes> {
    let mut found: Vec<Bytes> = Vec::new();
    for token in tokens {
        match found.last_mut() {
            Some(stage) if stage.end == token.start && !matches!(token.text, ")" | "," | ";") => {
                stage.end = token.end();
            }
            _ if token.text == "@" => found.push(token.start..token.end()),
            _ => {}
        }
    }
    found
}

/// The items of the outermost select list, when there is one.
fn items(tokens: &[Token<'_>]) -> Vec<Bytes> {
    let is_word =
        |token: &Token<'_>, word: &str| token.kind == TokenKind::Word && token.text.eq_ignore_ascii_case(word);
    let mut items: Vec<Bytes> = Vec::new();
    let (mut depth, mut open, mut fresh) = (0_usize, false, false);
    for token in tokens {
        match (token.kind, token.text) {
            (TokenKind::Symbol, "(" | "[" | "{") => depth += 1,
            (TokenKind::Symbol, ")" | "]" | "}") => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth == 0 && !open && is_word(token, "SELECT") {
            (open, fresh) = (true, true);
            continue;
        }
        if !open || fresh && ["ALL", "DISTINCT"].iter().any(|word| is_word(token, word)) {
            continue;
        }
        let closing = ["FROM", "WHERE", "UNION", "EXCEPT", "MINUS", "INTERSECT", "ORDER", "LIMIT", "GROUP", "QUALIFY"];
        if depth == 0 && closing.iter().any(|word| is_word(token, word)) {
            break;
        }
        match items.last_mut() {
            _ if depth == 0 && token.kind == TokenKind::Symbol && token.text == "," => fresh = true,
            Some(item) if !fresh => item.end = token.end(),
            _ => {
                items.push(token.start..token.end());
                fresh = false;
            }
        }
    }
    items
}
