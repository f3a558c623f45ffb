//! Text surgery: places are replaced, everything else stays byte for byte.

use std::ops::Range;

use icegate_pdp_model::RelationName;

use crate::gate::Tokens;

/// New text for a place in the old one.
#[derive(Debug)]
pub(crate) struct Splice {
    pub(crate) place: Range<usize>,
    pub(crate) text: String,
    /// Where in the new text the old one's beginning stands again.
    pub(crate) kept: Option<usize>,
}

impl Splice {
    pub(crate) fn new(place: Range<usize>, text: String) -> Self {
        Self { place, text, kept: None }
    }
}

/// The text with all splices; `None` when two of them overlap or one lies outside.
pub(crate) fn apply(sql: &str, splices: &mut Vec<Splice>) -> Option<String> {
    splices.sort_by_key(|splice| (splice.place.start, splice.place.end));
    splices.dedup_by(|later, earlier| later.place == earlier.place && later.text == earlier.text);
    let mut text = String::with_capacity(sql.len() + splices.iter().map(|splice| splice.text.len()).sum::<usize>());
    let mut done = 0;
    for Splice { place, text: new, kept: _ } in splices.iter() {
        text.push_str(sql.get(done..place.start)?);
        text.push_str(new);
        done = place.end;
    }
    text.push_str(sql.get(done..)?);
    Some(text)
}

/// Where these places of the old text are in the new one; `None` when a splice has put something else there. The splices are in
/// the order of [`apply`].
pub(crate) fn moved(splices: &[Splice], places: &[Range<usize>]) -> Option<Vec<Range<usize>>> {
    let moved = |place: &Range<usize>| {
        let (mut gone, mut come) = (0, 0);
        for splice in splices.iter().take_while(|splice| splice.place.start < place.end) {
            if splice.place.end > place.start {
                let inside = place.start.checked_sub(splice.place.start)?;
                (place.end <= splice.place.end).then_some(())?;
                let start = (splice.place.start + come).checked_sub(gone)? + splice.kept? + inside;
                return Some(start..start + place.len());
            }
            gone += splice.place.len();
            come += splice.text.len();
        }
        let start = (place.start + come).checked_sub(gone)?;
        Some(start..start + place.len())
    };
    places.iter().map(moved).collect()
}

/// Whether the tokens of the new text are those of the old one with the splices' own in their places: nothing grew
/// together at an edge.
pub(crate) fn only_spliced(sql: &str, splices: &[Splice], text: &str) -> bool {
    // What cannot be told apart into tokens is like nothing.
    in_step(sql, splices, text).unwrap_or(false)
}

fn in_step(sql: &str, splices: &[Splice], text: &str) -> Result<bool, String> {
    let (mut old, mut new) = (Tokens::of(sql), Tokens::of(text));
    let mut due = old.next()?;
    for Splice { place, text, kept: _ } in splices {
        while let Some(token) = due.filter(|token| token.start < place.start) {
            if new.next()?.map(|token| token.text) != Some(token.text) {
                return Ok(false);
            }
            due = old.next()?;
        }
        while due.is_some_and(|token| token.start < place.end) {
            due = old.next()?;
        }
        let mut own = Tokens::of(text);
        while let Some(token) = own.next()? {
            if new.next()?.map(|token| token.text) != Some(token.text) {
                return Ok(false);
            }
        }
    }
    loop {
        match (due, new.next()?) {
            (None, None) => return Ok(true),
            (Some(old), Some(new)) if old.text == new.text => {}
            _ => return Ok(false),
        }
        due = old.next()?;
    }
}

/// An identifier that means exactly this name.
pub(crate) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A full relation name, quoted where it must be.
pub(crate) fn relation(name: &RelationName) -> String {
    [&name.database, &name.schema, &name.name].map(|part| plain_or_quoted(part)).join(".")
}

pub(crate) fn plain_or_quoted(part: &str) -> String {
    let mut bytes = part.bytes();
    let plain = bytes.next().is_some_and(|b| b.is_ascii_uppercase() || b == b'_')
        && bytes.all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
    if plain && RESERVED.binary_search(&part).is_err() { part.to_owned() } else { quoted(part) }
}

/// Words Snowflake does not take as a bare name (Snowflake docs, "Reserved & limited keywords"). Sorted.
#[rustfmt::skip]
const RESERVED: &[&str] = &[
    "ACCOUNT", "ALL", "ALTER", "AND", "ANY", "AS", "BETWEEN", "BY", "CASE", "CAST", "CHECK", "COLUMN", "CONNECT",
    "CONNECTION", "CONSTRAINT", "CREATE", "CROSS", "CURRENT", "CURRENT_DATE", "CURRENT_TIME", "CURRENT_TIMESTAMP",
    "CURRENT_USER", "DATABASE", "DELETE", "DISTINCT", "DROP", "ELSE", "EXISTS", "FALSE", "FOLLOWING", "FOR", "FROM",
    "FULL", "GRANT", "GROUP", "GSCLUSTER", "HAVING", "ILIKE", "IN", "INCREMENT", "INNER", "INSERT", "INTERSECT", "INTO",
    "IS", "ISSUE", "JOIN", "LATERAL", "LEFT", "LIKE", "LOCALTIME", "LOCALTIMESTAMP", "MINUS", "NATURAL", "NOT", "NULL",
    "OF", "ON", "OR", "ORDER", "ORGANIZATION", "QUALIFY", "REGEXP", "REVOKE", "RIGHT", "RLIKE", "ROW", "ROWS", "SAMPLE",
    "SCHEMA", "SELECT", "SET", "SOME", "START", "TABLE", "TABLESAMPLE", "THEN", "TO", "TRIGGER", "TRUE", "TRY_CAST",
    "UNION", "UNIQUE", "UPDATE", "USING", "VALUES", "VIEW", "WHEN", "WHENEVER", "WHERE", "WITH",
];

#[cfg(test)]
mod tests {
    use icegate_pdp_model::RelationName;

    use super::{RESERVED, Splice, apply, moved, only_spliced, relation};

    #[test]
    fn names_are_quoted_where_they_must_be() {
        assert!(RESERVED.is_sorted());
        assert_eq!(relation(&RelationName::new("SALES", "order items", "ORDER")), r#"SALES."order items"."ORDER""#);
    }

    #[test]
    fn overlaps_are_refused() {
        let splice = |place, text: &str| Splice::new(place, text.into());
        assert_eq!(apply("abc", &mut vec![splice(1..2, "x"), splice(0..1, "")]).as_deref(), Some("xc"));
        assert_eq!(apply("abc", &mut vec![splice(0..2, "x"), splice(1..3, "y")]), None);
        assert_eq!(apply("é", &mut vec![splice(0..1, "x")]), None, "half a character");
    }

    #[test]
    fn places_move_with_the_text() {
        let (old, name) = ("select a from i('t') x, i('u')", "i('t')");
        let place = |text: &str, what: &str| text.find(what).map(|at| at..at + what.len()).unwrap();
        let kept = |text: &str| Splice { kept: text.find(name), ..Splice::new(place(old, name), text.into()) };
        let mut splices = vec![Splice::new(7..8, "abc".into()), kept("(select 1 from i('t'))")];
        let new = apply(old, &mut splices).unwrap();
        let names = [place(old, "'t'"), place(old, "'u'")];
        let there = moved(&splices, &names).unwrap();
        let found: Vec<_> = there.iter().map(|place| new.get(place.clone()).unwrap()).collect();
        assert_eq!(found, ["'t'", "'u'"], "{new}");
        splices[1].kept = None;
        assert_eq!(moved(&splices, &names), None, "something else stands there");
        let half = [Splice { kept: Some(0), ..Splice::new(16..17, "x".into()) }];
        assert_eq!(moved(&half, &names), None, "half of it");
    }

    #[test]
    fn what_grows_together_is_noticed() {
        let splices = [Splice::new(7..8, "(t)".into())];
        assert!(only_spliced("select t from", &splices, "select (t) from"));
        let glued = [Splice::new(6..8, "t".into())];
        assert!(!only_spliced("select t from", &glued, "selectt from"));
    }
}
