//! Whether each row of a view is one row of one relation, and no other row has a say in it.

use icegate_pdp_model::{RelationName, SessionContext};
use sqlparser::ast::{GroupByExpr, Query, Select, SetExpr, TableFactor, TableWithJoins};

use crate::{
    functions,
    gate::{Token, TokenKind},
    names,
};

/// The relation whose rows, one by one, are the rows of the query with these tokens.
pub(crate) fn row_of(query: &Query, tokens: &[Token<'_>], session: &SessionContext) -> Option<RelationName> {
    let Query { with: None, body, limit_clause: None, fetch: None, .. } = query else { return None };
    let SetExpr::Select(select) = &**body else { return None };
    let Select {
        distinct: None,
        top: None,
        from,
        connect_by,
        group_by: GroupByExpr::Expressions(by, modifiers),
        having: None,
        named_window,
        qualify: None,
        ..
    } = &**select
    else {
        return None;
    };
    let [TableWithJoins { relation, joins }] = from.as_slice() else { return None };
    let TableFactor::Table { name, args: None, version: None, sample: None, .. } = relation else { return None };
    let plain = connect_by.is_empty() && by.is_empty() && modifiers.is_empty() && named_window.is_empty();
    (plain && joins.is_empty() && one_by_one(tokens)).then(|| names::relation(name, session)).flatten()
}

/// One query, whose values are each computed from one row: nothing in it counts, numbers or compares rows.
fn one_by_one(tokens: &[Token<'_>]) -> bool {
    let is = |token: &Token<'_>, word: &str| token.kind == TokenKind::Word && token.text.eq_ignore_ascii_case(word);
    let Some(start) = tokens.iter().position(|token| is(token, "SELECT")) else { return false };
    let tokens = tokens.get(start..).unwrap_or_default();
    let calls = tokens.windows(2).enumerate().filter_map(|(at, pair)| match pair {
        [word, open] if open.text == "(" && word.kind != TokenKind::Symbol => Some((at, word)),
        _ => None,
    });
    let mut calls = calls.map(|(at, word)| {
        let bare = at.checked_sub(1).and_then(|before| tokens.get(before)).is_none_or(|before| before.text != ".");
        let name = word.text.to_ascii_uppercase();
        let of_one_row =
            functions::is_builtin(&name) && !functions::is_aggregate(&name) && !NUMBERING.contains(&name.as_str());
        word.kind == TokenKind::Word && bare && (of_one_row || NO_CALLS.contains(&name.as_str()))
    });
    tokens.iter().filter(|token| is(token, "SELECT")).count() == 1
        && !tokens.iter().any(|token| is(token, "OVER"))
        && calls.all(|fine| fine)
}

/// Functions whose value is the place of the row among all.
const NUMBERING: [&str; 4] = ["SEQ1", "SEQ2", "SEQ4", "SEQ8"];

/// Words that a bracket may follow without being called.
#[rustfmt::skip]
const NO_CALLS: [&str; 28] = [
    "AND", "AS", "BETWEEN", "BY", "CASE", "CAST", "CHAR", "DECIMAL", "ELSE", "IN", "IS", "LIKE", "NOT", "NUMBER", "NUMERIC", "ON", "OR",
    "SELECT", "STRING", "TEXT", "THEN", "TIMESTAMP_LTZ", "TIMESTAMP_NTZ", "TIMESTAMP_TZ", "TRY_CAST", "VARCHAR", "WHEN", "WHERE",
];

#[cfg(test)]
mod tests {
    use icegate_pdp_model::SessionContext;
    use sqlparser::ast::Statement;

    use super::row_of;
    use crate::{gate, parse};

    #[test]
    fn what_looks_at_other_rows_is_told_apart() {
        let session =
            SessionContext { database: Some("D".into()), schema: Some("S".into()), ..SessionContext::default() };
        let rowwise = |sql: &str| {
            let tokens = gate::tokens(sql).unwrap();
            let Some(Statement::Query(query)) = parse::parse_text(sql, 50).unwrap().pop() else { panic!("{sql}") };
            row_of(&query, &tokens, &session).map(|name| name.to_string())
        };
        for sql in [
            "SELECT a, b FROM t",
            "SELECT * FROM s.t x WHERE a IN ('x', 'y') AND (b > 1 OR NOT (c IS NULL)) ORDER BY 1",
            "SELECT UPPER(a) AS a, CAST(b AS NUMBER(10, 2)), CASE WHEN (a = 'x') THEN (b) ELSE 0 END FROM d.s.t",
        ] {
            assert_eq!(rowwise(sql).as_deref(), Some("D.S.T"), "{sql}");
        }
        for sql in [
            "SELECT DISTINCT a FROM t",
            "SELECT a FROM t LIMIT 3",
            "SELECT a FROM t FETCH FIRST 3 ROWS ONLY",
            "SELECT TOP 3 a FROM t",
            "SELECT COUNT(*) FROM t",
            "SELECT a FROM t GROUP BY a",
            "SELECT a FROM t GROUP BY ALL",
            "SELECT a FROM t HAVING a > 1",
            "SELECT ROW_NUMBER() OVER (ORDER BY a) FROM t",
            "SELECT a FROM t QUALIFY RANK() OVER (ORDER BY a) = 1",
            "SELECT SEQ4() FROM t",
            "SELECT a FROM t JOIN u ON t.a = u.a",
            "SELECT a FROM t, u",
            "SELECT a FROM t UNION SELECT a FROM t",
            "SELECT a FROM t WHERE a = (SELECT MAX(a) FROM t)",
            "SELECT a FROM (SELECT a FROM t)",
            "WITH t AS (SELECT 1 AS a) SELECT a FROM t",
            "SELECT a FROM t SAMPLE (10)",
            "SELECT a FROM t AT(OFFSET => -60)",
            "SELECT a FROM t CONNECT BY PRIOR a = b",
            "SELECT my_own(a) FROM t",
            "SELECT s.upper(a) FROM t",
            "SELECT \"UPPER\"(a) FROM t",
            "SELECT a FROM TABLE(FLATTEN(x))",
        ] {
            assert_eq!(rowwise(sql), None, "{sql}");
        }
    }
}
