//! Names that come as bound values: `IDENTIFIER(?)`, the stage of `PUT 'file://…' ?`, what `INFER_SCHEMA` looks at, the result
//! of `RESULT_SCAN(?)` and of `RESULT_SCAN(:ID)`.
//!
//! Such a bind is written out as the literal it stands for, and the text is then read like any other; what is sent has the bind
//! again, each in its place. No other value is looked at. Where two lexers could count the `?` otherwise, or a value cannot be
//! a name, nothing is written out: the name then does not resolve.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
    ops::Range,
};

use crate::{
    earlier::query_id,
    gate::{self, Token, TokenKind},
    names, scripting,
};

/// Longest text that is taken for a name: four quoted parts.
const NAME_BYTES_MAX: usize = 1100;

/// The values bound to a request: texts, and nothing in the place of every other value.
#[derive(Clone, PartialEq, Eq)]
pub enum BoundValues {
    /// For each `?`, from the first on.
    Numbered(Vec<Option<String>>),
    /// For `:NAME`, by the name in capitals. No two of the request's names may be the same in capitals.
    Named(BTreeMap<String, Option<String>>),
}

impl BoundValues {
    /// The names they are bound by, in capitals.
    pub fn names(&self) -> BTreeSet<String> {
        match self {
            Self::Numbered(_) => BTreeSet::new(),
            Self::Named(values) => values.keys().cloned().collect(),
        }
    }

    fn is_empty(&self) -> bool {
        match self {
            Self::Numbered(values) => values.is_empty(),
            Self::Named(values) => values.is_empty(),
        }
    }
}

impl Default for BoundValues {
    fn default() -> Self {
        Self::Numbered(Vec::new())
    }
}

impl fmt::Debug for BoundValues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Values are nobody's business here.
        let (sort, count) = match self {
            Self::Numbered(values) => ("Numbered", values.len()),
            Self::Named(values) => ("Named", values.len()),
        };
        f.debug_struct(sort).field("count", &count).finish()
    }
}

/// A text with the names written out that are bound to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written<'a> {
    /// To be read.
    pub sql: Cow<'a, str>,
    names: Vec<Name<'a>>,
}

/// One name that was written out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Name<'a> {
    /// Where it was written.
    place: Range<usize>,
    /// The bind that stood there.
    bind: &'a str,
    /// Its position among the bound values, from 1, when they are numbered.
    position: Option<u32>,
}

/// A bind that names something, and what.
struct Bind<'a> {
    place: Range<usize>,
    value: &'a str,
    position: Option<u32>,
}

impl<'a> Written<'a> {
    /// Writes out the bound names of a text; without any, or when one is not sure, it is the text.
    pub fn of(sql: &'a str, bound: &BoundValues) -> Self {
        Self::with_names(sql, bound).unwrap_or(Self { sql: Cow::Borrowed(sql), names: Vec::new() })
    }

    /// Whether a bound value would name something in this text, or a name stand for one, so that they are worth reading.
    pub fn is_named(sql: &str) -> bool {
        let Ok(pieces) = gate::split(sql) else { return false };
        let named = |tokens: &[Token<'_>], at: usize| {
            is_symbol(tokens, at, "?") && sort(tokens, at).is_some() || by_its_name(tokens, at).is_some()
        };
        pieces.iter().any(|piece| (0..piece.tokens.len()).any(|at| named(&piece.tokens, at)))
    }

    fn with_names(sql: &'a str, bound: &BoundValues) -> Option<Self> {
        if bound.is_empty() {
            return None;
        }
        let pieces = gate::split(sql).ok()?;
        let [piece] = pieces.as_slice() else { return None };
        let tokens = piece.tokens.as_slice();
        if scripting::opens(tokens) {
            return None;
        }
        let binds = match bound {
            BoundValues::Numbered(values) => numbered(sql, tokens, values)?,
            BoundValues::Named(values) => by_name(tokens, values)?,
        };
        let (mut text, mut names, mut done) = (String::with_capacity(sql.len() + 64), Vec::new(), 0);
        for Bind { place, value, position } in binds {
            text.push_str(sql.get(done..place.start)?);
            let from = text.len();
            text.extend(["'", value, "'"]);
            done = place.end;
            names.push(Name { place: from..text.len(), bind: sql.get(place)?, position });
        }
        text.push_str(sql.get(done..)?);
        Some(Self { sql: Cow::Owned(text), names })
    }

    /// Positions of the values it rests on, from 1. One that is bound by name has none: with those no decision is kept.
    pub fn positions(&self) -> Vec<u32> {
        self.names.iter().filter_map(|name| name.position).collect()
    }

    /// Where the names stand in [`sql`](Self::sql).
    pub fn places(&self) -> Vec<Range<usize>> {
        self.names.iter().map(|name| name.place.clone()).collect()
    }

    /// A text that was made of this one, with the binds again where `places` say that the names stand now. Nothing when they
    /// are not all there, each once and in their order: the values would be bound to something else.
    pub fn sent(&self, text: &str, places: &[Range<usize>]) -> Option<String> {
        let (mut sent, mut done) = (String::with_capacity(text.len()), 0);
        if places.len() != self.names.len() {
            return None;
        }
        for (place, name) in places.iter().zip(&self.names) {
            if text.get(place.clone())? != self.sql.get(name.place.clone())? {
                return None;
            }
            sent.push_str(text.get(done..place.start)?);
            sent.push_str(name.bind);
            done = place.end;
        }
        sent.push_str(text.get(done..)?);
        Some(sent)
    }
}

/// Every `?` that names something.
fn numbered<'a>(sql: &str, tokens: &[Token<'_>], values: &'a [Option<String>]) -> Option<Vec<Bind<'a>>> {
    let binds: Vec<usize> = (0..tokens.len()).filter(|&at| is_symbol(tokens, at, "?")).collect();
    let sorts: Vec<Option<Sort>> = binds.iter().map(|&at| sort(tokens, at)).collect();
    if sorts.iter().all(Option::is_none) {
        return None;
    }
    // INVARIANT: whoever counts them has the same numbers. A pattern's `?` is no bind, a path's neither.
    let patterns = tokens.iter().any(|token| is_word(token, &["MATCH_RECOGNIZE", "PATTERN"]));
    let alone = binds.iter().filter_map(|&at| tokens.get(at)).all(|token| stands_alone(sql, token.start));
    if binds.len() != values.len() || patterns || !alone {
        return None;
    }
    let mut named = Vec::new();
    for (position, ((&at, sort), value)) in (1..).zip(binds.iter().zip(sorts).zip(values)) {
        let Some(sort) = sort else { continue };
        let token = tokens.get(at)?;
        let value = value.as_deref().filter(|value| sort.takes(value))?;
        named.push(Bind { place: token.start..token.end(), value, position: Some(position) });
    }
    Some(named)
}

/// Every `:NAME` that names a result.
fn by_name<'a>(tokens: &[Token<'_>], values: &'a BTreeMap<String, Option<String>>) -> Option<Vec<Bind<'a>>> {
    let found = (0..tokens.len()).filter_map(|at| result_named(tokens, at));
    let named: Option<Vec<_>> = found
        .map(|(place, name)| {
            let value = values.get(&name.to_ascii_uppercase())?.as_deref();
            let value = value.filter(|value| Sort::Result.takes(value))?;
            Some(Bind { place, value, position: None })
        })
        .collect();
    named.filter(|named| !named.is_empty())
}

/// The name in `RESULT_SCAN(:NAME)` whose `:` is this token, and where the bind stands.
///
/// Behind the bracket it is no path into a value, and no other function takes a name of an object so.
fn result_named<'a>(tokens: &[Token<'a>], at: usize) -> Option<(Range<usize>, &'a str)> {
    let found = by_its_name(tokens, at)?;
    let word = at.checked_sub(2).and_then(|word| tokens.get(word))?;
    let called = is_word(word, &["RESULT_SCAN"]) && is_symbol(tokens, at - 1, "(") && is_symbol(tokens, at + 2, ")");
    called.then_some(found)
}

/// What looks like `:NAME`, where its `:` is this token.
fn by_its_name<'a>(tokens: &[Token<'a>], at: usize) -> Option<(Range<usize>, &'a str)> {
    let (colon, name) = (tokens.get(at)?, tokens.get(at + 1)?);
    let bind = is_symbol(tokens, at, ":") && name.kind == TokenKind::Word && colon.end() == name.start;
    bind.then(|| (colon.start..name.end(), name.text))
}

/// What a bound value names.
#[derive(Debug, Clone, Copy)]
enum Sort {
    /// An object or a column.
    Name,
    /// A stage with its path.
    Stage,
    /// The result of a query, by its id.
    Result,
}

impl Sort {
    /// Whether a value is such a name, and reads in quotes as it is.
    fn takes(self, value: &str) -> bool {
        let plain = value.len() <= NAME_BYTES_MAX && !value.contains(['\'', '\\']) && !value.contains(char::is_control);
        plain
            && match self {
                Self::Name => names::dotted(value).is_some(),
                Self::Stage => value.starts_with('@'),
                Self::Result => query_id(value).is_some(),
            }
    }
}

/// What the `?` at this token names, if anything.
fn sort(tokens: &[Token<'_>], at: usize) -> Option<Sort> {
    let called = |words: &[&str]| {
        let word = at.checked_sub(2).and_then(|word| tokens.get(word));
        word.is_some_and(|word| is_word(word, words))
            && is_symbol(tokens, at - 1, "(")
            && is_symbol(tokens, at + 1, ")")
    };
    if called(&["IDENTIFIER"]) {
        return Some(Sort::Name);
    }
    if called(&["RESULT_SCAN"]) {
        return Some(Sort::Result);
    }
    if at > 3 && is_symbol(tokens, at - 1, ">") && is_symbol(tokens, at - 2, "=") {
        return inferred(tokens, at - 3);
    }
    let first = tokens.first()?;
    let quoted = |at: usize| tokens.get(at).is_some_and(|token| token.kind == TokenKind::Text);
    let stage = at == 2 && quoted(1) && is_word(first, &["PUT"]) || at == 1 && is_word(first, &["GET"]);
    stage.then_some(Sort::Stage)
}

/// What a named argument of `INFER_SCHEMA` names.
fn inferred(tokens: &[Token<'_>], argument: usize) -> Option<Sort> {
    let open = (0..argument).rfind(|&at| is_symbol(tokens, at, "("))?;
    let function = open.checked_sub(1).and_then(|at| tokens.get(at))?;
    let argument = tokens.get(argument).filter(|_| is_word(function, &["INFER_SCHEMA"]))?;
    if is_word(argument, &["LOCATION"]) {
        Some(Sort::Stage)
    } else {
        is_word(argument, &["FILE_FORMAT"]).then_some(Sort::Name)
    }
}

fn is_symbol(tokens: &[Token<'_>], at: usize, sign: &str) -> bool {
    tokens.get(at).is_some_and(|token| token.kind == TokenKind::Symbol && token.text == sign)
}

fn is_word(token: &Token<'_>, words: &[&str]) -> bool {
    token.kind == TokenKind::Word && words.iter().any(|word| token.text.eq_ignore_ascii_case(word))
}

/// Whether the `?` there is a bind for any lexer: what is written without a blank around it is no path and no name.
fn stands_alone(sql: &str, at: usize) -> bool {
    let (before, behind) = (sql.get(..at).unwrap_or_default(), sql.get(at + 1..).unwrap_or_default());
    let run = before.rsplit(char::is_whitespace).next().unwrap_or_default();
    let opens = run.is_empty() || run.ends_with(['(', ',', '=', '>', '<', '|', '+', '-', '*']);
    let closes = behind.is_empty() || behind.starts_with(|c: char| c.is_whitespace() || "),:;=<>|+-*".contains(c));
    opens && closes && !run.contains(['@', '/', '\\'])
}

#[cfg(test)]
mod tests {
    use super::{BoundValues, Written};

    fn written(sql: &str, values: &[&str]) -> String {
        let bound = BoundValues::Numbered(values.iter().map(|&value| Some(value.to_owned())).collect());
        let written = Written::of(sql, &bound);
        let back = written.sent(&written.sql, &written.places());
        assert_eq!(back.as_deref(), Some(sql), "every `?` comes back");
        written.sql.into_owned()
    }

    #[test]
    fn names_are_written_out_and_nothing_else() {
        for (sql, values, wanted) in [
            ("DROP TABLE identifier(?)", &["db.s.t"][..], "DROP TABLE identifier('db.s.t')"),
            (
                "INSERT INTO IDENTIFIER( ? ) VALUES (?, ?)",
                &["\"a\".\"b c\"", "secret", "it's"],
                "INSERT INTO IDENTIFIER( '\"a\".\"b c\"' ) VALUES (?, ?)",
            ),
            ("SELECT ? FROM IDENTIFIER(?)", &["s", "t"], "SELECT ? FROM IDENTIFIER('t')"),
            (
                "SELECT '?', \"?\", $$?$$ /* ? */ FROM IDENTIFIER(?) -- ?",
                &["t"],
                "SELECT '?', \"?\", $$?$$ /* ? */ FROM IDENTIFIER('t') -- ?",
            ),
            (
                "put 'file:///tmp/x' ? parallel=4",
                &["@\"S\".\"X\"/y"],
                "put 'file:///tmp/x' '@\"S\".\"X\"/y' parallel=4",
            ),
        ] {
            assert_eq!(written(sql, values), wanted);
        }
    }

    #[test]
    fn what_is_not_sure_is_left_alone() {
        for (sql, values) in [
            // Another number of values.
            ("SELECT ? FROM IDENTIFIER(?)", &["t"][..]),
            ("SELECT 1 FROM IDENTIFIER(?)", &["t", "u"]),
            ("SELECT 1 FROM IDENTIFIER(?)", &[]),
            // Whose `?` it is could be counted otherwise.
            ("SELECT * FROM @st/a?, IDENTIFIER(?)", &["t", "u"]),
            ("SELECT * FROM @st/d=?, IDENTIFIER(?)", &["t", "u"]),
            ("SELECT * FROM x MATCH_RECOGNIZE (PATTERN (a ? b) DEFINE a AS TRUE), IDENTIFIER(?)", &["t", "u"]),
            ("SELECT 1; SELECT * FROM IDENTIFIER(?)", &["t"]),
            ("BEGIN SELECT * FROM IDENTIFIER(?); END", &["t"]),
            // No name, and nothing that is called so.
            ("SELECT * FROM IDENTIFIER(?)", &["t -- u"]),
            ("SELECT * FROM IDENTIFIER(?)", &["t'"]),
            ("SELECT * FROM IDENTIFIER(?)", &[" t"]),
            ("SELECT * FROM IDENTIFIER(?)", &["a.b.c.d"]),
            ("SELECT * FROM IDENTIFIER(?)", &["t\\"]),
            ("SELECT * FROM IDENTIFIER(?)", &["t\u{0}"]),
            ("SELECT * FROM IDENTIFIER(?)", &["(SELECT 1)"]),
            ("SELECT * FROM \"IDENTIFIER\"(?)", &["t"]),
            ("SELECT * FROM IDENTIFIER(? || ?)", &["t", "u"]),
            ("SELECT * FROM TABLE(?)", &["t"]),
            ("SELECT * FROM IDENTIFIER(:1)", &["t"]),
            ("put 'file:///tmp/x' ?", &["s"]),
            ("put 'file:///tmp/x' @s overwrite=?", &["true"]),
        ] {
            assert_eq!(written(sql, values), sql);
        }
    }

    #[test]
    fn a_result_is_named_by_name_and_nothing_else_is() {
        let named = [("ID", "01b0-AB"), ("OTHER", "it's"), ("N", "t")];
        let named = named.map(|(name, value)| (name.to_owned(), Some(value.to_owned())));
        let bound = BoundValues::Named(named.into());
        let twice = "SELECT 1 FROM TABLE(result_scan( :id )), TABLE(RESULT_SCAN(:ID)) WHERE a ILIKE :OTHER -- (:ID)";
        let written = Written::of(twice, &bound);
        assert_eq!(
            written.sql,
            "SELECT 1 FROM TABLE(result_scan( '01b0-AB' )), TABLE(RESULT_SCAN('01b0-AB')) WHERE a ILIKE :OTHER -- (:ID)"
        );
        assert_eq!(written.sent(&written.sql, &written.places()).as_deref(), Some(twice), "every bind comes back");
        assert_eq!(written.positions(), []);
        assert!(Written::is_named(twice) && !Written::is_named("SELECT ? FROM b WHERE c = ':ID'"));
        assert_eq!(bound.names(), ["ID", "N", "OTHER"].map(str::to_owned).into());
        for sql in [
            "SELECT * FROM TABLE(RESULT_SCAN(: ID))",
            "SELECT * FROM TABLE(RESULT_SCAN(:\"ID\"))",
            "SELECT * FROM TABLE(RESULT_SCAN(a:ID))",
            "SELECT * FROM TABLE(RESULT_SCAN(:ID::VARCHAR))",
            "SELECT * FROM TABLE(RESULT_SCAN(:ID || ''))",
            "SELECT * FROM TABLE(RESULT_SCAN(:1))",
            "SELECT * FROM TABLE(RESULT_SCAN(?))",
            "SELECT * FROM TABLE(\"RESULT_SCAN\"(:ID))",
            // What is not bound, no id, or no result.
            "SELECT * FROM TABLE(RESULT_SCAN(:MISSING))",
            "SELECT * FROM TABLE(RESULT_SCAN(:OTHER))",
            "SELECT * FROM TABLE(RESULT_SCAN(:ID)), TABLE(RESULT_SCAN(:OTHER))",
            "SELECT * FROM IDENTIFIER(:N)",
            "SELECT * FROM TABLE(:N)",
            // In a block it can be a variable.
            "SELECT 1; SELECT * FROM TABLE(RESULT_SCAN(:ID))",
            "BEGIN SELECT * FROM TABLE(RESULT_SCAN(:ID)); END",
            "EXECUTE IMMEDIATE $$SELECT * FROM TABLE(RESULT_SCAN(:ID))$$",
        ] {
            assert_eq!(Written::of(sql, &bound).sql, sql);
        }
    }

    #[test]
    fn a_name_that_is_gone_is_not_sent() {
        let bound = BoundValues::Numbered(vec![Some("t".to_owned())]);
        let written = Written::of("SELECT 1 FROM IDENTIFIER(?)", &bound);
        assert_eq!(written.sent("SELECT 1 FROM t", &[]), None);
        assert_eq!(written.sent("SELECT 1 FROM IDENTIFIER('u')", &written.places()), None);
        assert_eq!(format!("{bound:?}"), "Numbered { count: 1 }", "no value is shown");
    }
}
