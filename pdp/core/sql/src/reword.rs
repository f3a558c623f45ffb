//! One statement again in words the parser knows: what says only how to do something is blanked, what says what is
//! done is said otherwise. Every other byte keeps its place, so that a place in the new text is one in the old.
//!
//! | written | read as |
//! |---|---|
//! | `CAST(x AS ARRAY(INT))`, `x::MAP(VARCHAR, INT)` | the type without what it is made of |
//! | `{*}`, `{t.* EXCLUDE (a)}`, `f(t.* ILIKE 'a%')` | [`OBJECT_STAR`] with a comparison for the words behind it |
//! | `model!METHOD(x)`, `IDENTIFIER($f)(x)` | a call that [`Reworded::unresolved`] names: it never resolves |
//! | `IDENTIFIER('f')(x)` | `f(x)` |
//! | `UPDATE ALL BY NAME`, `INSERT ALL BY NAME` | `UPDATE SET *`, `INSERT *` |
//! | `COPY INTO IDENTIFIER('t') …` | `COPY INTO "T" …` |
//! | `COPY INTO t FROM (SELECT … FROM @s) …` | `INSERT t (SELECT … FROM @s)`, and [`Reworded::loads`] |
//! | `CREATE TABLE t (a, b) AS SELECT …` | without the names, which are [`Reworded::columns`] |
//! | `SELECT PRIOR x AS y … CONNECT BY …` | `SELECT +     x AS y` |
//! | `PATTERN (a {- b -} c+?) SUBSET s = (a, c)` | `PATTERN (a (b) c+ s)` |

mod copy;
mod words;

use std::collections::BTreeSet;

use crate::{
    gate::{Piece, TokenKind},
    names,
};

/// Words that stand before a bracket and name no function.
const GRAMMAR: [&str; 22] = [
    "ALL",
    "AND",
    "ANY",
    "ARRAY",
    "AS",
    "BETWEEN",
    "CASE",
    "CAST",
    "CONNECT_BY_ROOT",
    "DISTINCT",
    "EXISTS",
    "IN",
    "INTERVAL",
    "LIKE",
    "MAP",
    "NOT",
    "OR",
    "PRIOR",
    "ROW",
    "SELECT",
    "SOME",
    "TRY_CAST",
];

/// Stands for `{*}`. Nobody can write it: a text that holds it is not reworded, and columns count from 1.
pub(crate) const OBJECT_STAR: &str = "$0";

/// A statement in other words of the same length.
#[derive(Debug)]
pub(crate) struct Reworded {
    pub(crate) text: String,
    /// It was `COPY INTO` a table.
    pub(crate) loads: bool,
    /// File formats it names.
    pub(crate) formats: Vec<Vec<String>>,
    /// What is loaded is removed from its stage.
    pub(crate) purges: bool,
    /// Names of a new table's columns that stood without a type.
    pub(crate) columns: Vec<String>,
    /// Calls of what is no function, folded as they are read, each with what was written.
    pub(crate) unresolved: BTreeSet<(String, String)>,
}

/// The statement in other words; `None` when the parser knows those it has.
pub(crate) fn reword(piece: &Piece<'_>) -> Option<Reworded> {
    if piece.tokens.iter().any(|token| token.text == OBJECT_STAR) {
        return None;
    }
    let mut rewording = Rewording { piece, text: None, calls: Vec::new(), closed: None, unresolved: BTreeSet::new() };
    let loads = rewording.copy_load();
    let (formats, purges) = rewording.copy_settings(loads)?;
    rewording.explain();
    rewording.insert_with();
    let columns = rewording.untyped_columns().unwrap_or_default();
    let mut at = 0;
    while at < piece.tokens.len() {
        at = rewording.token(at).max(at + 1);
    }
    let Rewording { text, unresolved, .. } = rewording;
    // INVARIANT: only whole tokens and what stands between them were replaced, byte for byte.
    Some(Reworded { text: String::from_utf8(text?).ok()?, loads, formats, purges, columns, unresolved })
}

struct Rewording<'p, 'a> {
    piece: &'p Piece<'a>,
    text: Option<Vec<u8>>,
    /// Per open bracket the token that is called with it, if a word stands before it.
    calls: Vec<Option<usize>>,
    /// The same for the bracket that closed last.
    closed: Option<usize>,
    unresolved: BTreeSet<(String, String)>,
}

/// Words before a computed name that is no function's.
const NAMED_AFTER: [&str; 9] = ["EXISTS", "FROM", "INTO", "JOIN", "TABLE", "UPDATE", "USING", "VIEW", "DATABASE"];

impl Rewording<'_, '_> {
    /// Rewords what begins at a token; gives the token to go on with.
    fn token(&mut self, at: usize) -> usize {
        let Some(token) = self.piece.tokens.get(at) else { return at };
        match (token.kind, token.text) {
            (TokenKind::Symbol, "(") => {
                let call = at.checked_sub(1).filter(|&before| self.calls_with(before));
                self.calls.push(call);
                if call.is_some() {
                    self.argument_star(at + 1);
                }
                at
            }
            (TokenKind::Symbol, ")") => {
                self.closed = self.calls.pop().flatten();
                at
            }
            (TokenKind::Symbol, ",") => {
                if matches!(self.calls.last(), Some(Some(_))) {
                    self.argument_star(at + 1);
                }
                at
            }
            (TokenKind::Symbol, "{") => self.object_star(at),
            (TokenKind::Symbol, "!") => self.method(at),
            (TokenKind::Word, word) => self.word(at, word),
            _ => at,
        }
    }

    fn word(&mut self, at: usize, word: &str) -> usize {
        match word.to_ascii_uppercase().as_str() {
            "ARRAY" | "MAP" | "OBJECT" if self.is_cast(at) => self.structure(at),
            "NVARCHAR" | "VARCHAR" | "CHAR" | "STRING" | "TEXT" if self.is_cast(at) => {
                if self.symbol(at + 1, "(") && self.symbol(at + 2, ")") {
                    self.blank(at + 1, at + 3);
                    return at + 3;
                }
                at
            }
            // By which rules it is compared: the value is the same.
            "COLLATE" if self.piece.tokens.get(at + 1).is_some_and(|text| text.kind == TokenKind::Text) => {
                let typed = at.checked_sub(1).is_some_and(|before| self.is_cast(before));
                let parametrised = self.before_symbol(at, ")") && self.closed.is_some_and(|call| self.is_cast(call));
                if typed || parametrised || self.within(&["CAST", "TRY_CAST"]) {
                    return self.blank(at, at + 2);
                }
                at
            }
            // The parser knows no other TEMPORARY, and what it is for is the same.
            "SCOPED"
                if self.before(at, &["CREATE", "REPLACE", "SECURE"]) && self.is(at + 1, &["TEMP", "TEMPORARY"]) =>
            {
                self.blank(at, at + 1)
            }
            "VARYING" if self.before(at, &["NCHAR"]) => self.blank(at, at + 1),
            "LOCAL" if self.before(at, &["WITH"]) && self.is(at + 1, &["TIME"]) && self.is(at + 2, &["ZONE"]) => {
                self.blank(at, at + 1)
            }
            "DIRECTED" if self.is(at + 1, &["JOIN"]) && self.behind_relation(at) => self.blank(at, at + 1),
            "IDENTIFIER" => self.computed_call(at),
            "PRIOR" if self.is_prior(at) => self.say(at, at + 1, "+"),
            "ALL" if self.is(at + 1, &["BY"]) && self.is(at + 2, &["NAME"]) && self.first(&["MERGE"]) => {
                let action = at.checked_sub(2).filter(|&then| self.is(then, &["THEN"])).map(|then| then + 1);
                match action {
                    Some(verb) if self.is(verb, &["UPDATE"]) => self.say(at, at + 3, "SET *"),
                    Some(verb) if self.is(verb, &["INSERT"]) => self.say(at, at + 3, "*"),
                    _ => at,
                }
            }
            // `NTH_VALUE(x, 2) FROM LAST OVER (…)`: from which end it counts.
            "FROM"
                if self.is(at + 1, &["FIRST", "LAST"])
                    && self.is(at + 2, &["IGNORE", "OVER", "RESPECT"])
                    && self.before_symbol(at, ")")
                    && self.closed.is_some_and(|call| self.is(call, &["NTH_VALUE"])) =>
            {
                self.blank(at, at + 2)
            }
            // `DATE_PART(year FROM x)`.
            "FROM" if self.within(&["DATE_PART"]) && at.checked_sub(2).is_some_and(|open| self.symbol(open, "(")) => {
                self.say(at, at + 1, ",")
            }
            "FINAL" | "RUNNING" if self.within(&["MATCH_RECOGNIZE"]) && self.names_follow(at + 1) => {
                self.blank(at, at + 1)
            }
            "AFTER"
                if self.within(&["MATCH_RECOGNIZE"]) && self.is(at + 1, &["MATCH"]) && self.is(at + 2, &["SKIP"]) =>
            {
                let end = (at + 3..at + 7).find(|&end| self.is(end, &["PATTERN"]));
                end.map_or(at, |end| self.blank(at, end))
            }
            "PATTERN" if self.within(&["MATCH_RECOGNIZE"]) && self.symbol(at + 1, "(") => self.pattern(at + 1),
            "AS" if self.within(&["SEMANTIC_VIEW"]) && self.names_follow(at + 1) => self.blank(at, at + 2),
            _ => at,
        }
    }

    /// `PRIOR x AS y`: the value of another row of the hierarchy. Without AS behind it, it can be a column called PRIOR.
    fn is_prior(&self, at: usize) -> bool {
        let mut end = at + 2;
        while self.symbol(end, ".") && self.names_follow(end + 1) {
            end += 2;
        }
        self.names_follow(at + 1) && !self.is(at + 1, &["AS"]) && self.is(end, &["AS"])
    }

    /// `EXPLAIN USING JSON`: how the plan is printed.
    fn explain(&mut self) {
        if self.first(&["EXPLAIN"]) && self.is(1, &["USING"]) && self.is(2, &["JSON", "TABULAR", "TEXT"]) {
            self.blank(1, 3);
        }
    }

    /// `INSERT INTO t (WITH … SELECT …)`: brackets around the whole query.
    fn insert_with(&mut self) {
        let Some(open) = (1..self.piece.tokens.len()).find(|&at| self.symbol(at, "(")) else { return };
        if self.first(&["INSERT"])
            && self.is(open + 1, &["WITH"])
            && let Some(close) = self.close(open).filter(|close| close + 1 == self.piece.tokens.len())
        {
            self.blank(open, open + 1);
            self.blank(close, close + 1);
        }
    }

    /// `CREATE TABLE t (a, b) AS SELECT …`.
    fn untyped_columns(&mut self) -> Option<Vec<String>> {
        let tokens = &self.piece.tokens;
        let open = (1..tokens.len()).find(|&at| self.symbol(at, "("))?;
        let table = (1..open).any(|at| self.is(at, &["TABLE"]));
        if !self.first(&["CREATE"]) || !table || (1..open).any(|at| self.is(at, &["AS"])) {
            return None;
        }
        let close = self.close(open)?;
        if !self.is(close + 1, &["AS"]) {
            return None;
        }
        let mut columns = Vec::new();
        for at in (open + 1..close).step_by(2) {
            let [column] = <[String; 1]>::try_from(names::dotted(tokens.get(at)?.text)?).ok()?;
            if !self.symbol(at + 1, ",") && at + 1 != close {
                return None;
            }
            columns.push(column);
        }
        self.blank(open, close + 1);
        Some(columns)
    }

    /// The brackets behind `ARRAY`, `MAP` and `OBJECT`: types and names of fields, never a value; and what becomes of
    /// fields that are not the same on both sides.
    fn structure(&mut self, at: usize) -> usize {
        let Some(close) = self.close(at + 1).filter(|_| self.symbol(at + 1, "(")) else { return at };
        let plain = (at + 2..close).all(|inner| {
            self.piece.tokens.get(inner).is_some_and(|token| match token.kind {
                // A query there is no type, whatever becomes of it.
                TokenKind::Word => !token.text.eq_ignore_ascii_case("select"),
                TokenKind::Quoted | TokenKind::Number => true,
                TokenKind::Symbol => matches!(token.text, "(" | ")" | ","),
                TokenKind::Text | TokenKind::Variable => false,
            })
        });
        if !plain {
            return at;
        }
        let mut end = close + 1;
        let longest = ["RENAME", "AND", "ADD", "FIELDS"];
        if self.is(end, &["RENAME", "ADD"]) {
            let fields = (end..end + longest.len()).find(|&at| self.is(at, &["FIELDS"]));
            if let Some(fields) = fields.filter(|&fields| (end..fields).all(|at| self.is(at, &longest))) {
                end = fields + 1;
            }
        }
        self.blank(at + 1, end)
    }

    /// `{*}`, `{t.* ILIKE 'a%'}`, `{* EXCLUDE (a, b)}`.
    fn object_star(&mut self, at: usize) -> usize {
        let Some(star) = self.star(at + 1) else { return at };
        let (Some(open), Some(dot)) = (self.place(at), self.place(star)) else { return at };
        if self.symbol(star + 1, "}") {
            self.put(open.0, open.1, "");
            let Some(close) = self.place(star + 1) else { return at };
            self.put(dot.0, close.1, OBJECT_STAR);
            return star + 2;
        }
        let Some(close) = self.star_options(star) else { return at };
        if !self.symbol(close, "}") {
            return at;
        }
        self.compare(star);
        self.put(open.0, open.1, "(");
        if let Some((from, to)) = self.place(close) {
            self.put(from, to, ")");
        }
        close + 1
    }

    /// `f(* EXCLUDE (a))`, `f(t.* ILIKE 'a%')`.
    fn argument_star(&mut self, at: usize) {
        if let Some(star) = self.star(at)
            && let Some(end) = self.star_options(star)
            && (self.symbol(end, ")") || self.symbol(end, ","))
        {
            self.compare(star);
        }
    }

    /// The star of `*` or `a.b.*`.
    fn star(&self, mut at: usize) -> Option<usize> {
        while !self.symbol(at, "*") {
            let name = self.piece.tokens.get(at)?;
            if !matches!(name.kind, TokenKind::Word | TokenKind::Quoted) || !self.symbol(at + 1, ".") {
                return None;
            }
            at += 2;
        }
        Some(at)
    }

    /// Where the words behind a star end: `ILIKE 'x'`, `EXCLUDE a`, `EXCLUDE (a, b)`.
    fn star_options(&self, star: usize) -> Option<usize> {
        let text = |at: usize| self.piece.tokens.get(at).is_some_and(|token| token.kind == TokenKind::Text);
        if self.is(star + 1, &["ILIKE"]) && text(star + 2) {
            return Some(star + 3);
        }
        if !self.is(star + 1, &["EXCLUDE"]) {
            return None;
        }
        if self.symbol(star + 2, "(") {
            Some(self.close(star + 2)? + 1)
        } else {
            self.names_follow(star + 2).then_some(star + 3)
        }
    }

    /// `* EXCLUDE (` becomes `$0 IN (`, `* ILIKE 'x'` and `* EXCLUDE a` become `$0 = …`.
    fn compare(&mut self, star: usize) {
        let sign = if self.symbol(star + 2, "(") { "$0 IN" } else { "$0 =" };
        self.say(star, star + 2, sign);
    }

    /// `model!METHOD(…)`: a word with a sign no function's name has.
    fn method(&mut self, at: usize) -> usize {
        let Some(before) = at.checked_sub(1) else { return at };
        let word = |at: usize| self.piece.tokens.get(at).filter(|token| token.kind == TokenKind::Word);
        let (Some(model), Some(method), true) = (word(before), word(at + 1), self.symbol(at + 2, "(")) else {
            return at;
        };
        let Some((from, to)) = self.place(at) else { return at };
        if model.end() != from + self.piece.start || method.start != to + self.piece.start {
            return at;
        }
        let read = format!("{}${}", model.text, method.text).to_ascii_uppercase();
        let said = format!("{}!{}", model.text, method.text).to_ascii_uppercase();
        self.unresolved.insert((read, format!("method {said}")));
        self.put(from, to, "$");
        at + 1
    }

    /// `IDENTIFIER('f')(…)` and `IDENTIFIER($f)(…)`.
    fn computed_call(&mut self, at: usize) -> usize {
        let called = self.symbol(at + 1, "(") && self.symbol(at + 3, ")") && self.symbol(at + 4, "(");
        if !called || self.before(at, &NAMED_AFTER) {
            return at;
        }
        let (Some(argument), Some((from, _)), Some((inner, _)), Some((_, to))) =
            (self.piece.tokens.get(at + 2), self.place(at), self.place(at + 2), self.place(at + 3))
        else {
            return at;
        };
        match argument.kind {
            TokenKind::Text => {
                let name = argument.in_quotes();
                // A word of the grammar would not stay the name of a function.
                let grammar = |name: &str| GRAMMAR.iter().any(|word| word.eq_ignore_ascii_case(name));
                let Some(name) = name.filter(|name| names::dotted(name).is_some() && !grammar(name)) else { return at };
                self.put(from, inner + 1, "");
                self.put(inner + 1 + name.len(), to, "");
            }
            TokenKind::Variable => {
                self.unresolved.insert(("IDENTIFIER$".into(), format!("function IDENTIFIER({})", argument.text)));
                self.put(from, to, "IDENTIFIER$");
            }
            TokenKind::Word | TokenKind::Quoted | TokenKind::Number | TokenKind::Symbol => return at,
        }
        at + 4
    }

    /// The brackets of a pattern: which of its rows are left out and how greedy it is decides only which rows there are.
    /// The names of subsets become words of the pattern.
    fn pattern(&mut self, open: usize) -> usize {
        let Some(close) = self.close(open) else { return open };
        for at in open + 1..close {
            let brace = |at: usize| self.symbol(at, "{") || self.symbol(at, "}");
            if self.symbol(at, "{") && self.symbol(at + 1, "-") {
                self.say(at, at + 2, "(");
            } else if self.symbol(at, "-") && self.symbol(at + 1, "}") {
                self.say(at, at + 2, ")");
            } else if self.symbol(at, "?")
                && (["*", "+", "?"].iter().any(|sign| self.symbol(at - 1, sign)) || brace(at - 1))
            {
                self.blank(at, at + 1);
            }
        }
        let mut last = close;
        let mut at = close + 1;
        while (self.is(at, &["SUBSET"]) || last != close && self.symbol(at, ","))
            && self.names_follow(at + 1)
            && self.symbol(at + 2, "=")
        {
            let Some(end) = self.close(at + 3).filter(|_| self.symbol(at + 3, "(")) else { return close };
            self.blank(last, last + 1);
            self.blank(at, at + 1);
            self.blank(at + 2, end);
            last = end;
            at = end + 1;
        }
        last
    }
}
