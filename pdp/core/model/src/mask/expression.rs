//! Masks of one's own: an expression over one column, in a small part of Snowflake's SQL that is read and typed here, and written
//! anew from what was read. So nothing comes into a query but what is listed below.

mod functions;
mod read;

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use self::functions::Function;

/// Longest text, in bytes.
pub(super) const BYTES_MAX: usize = 1000;
/// Most parts of an expression.
pub(super) const PARTS_MAX: usize = 200;
/// Deepest nesting.
pub(super) const DEPTH_MAX: usize = 20;

/// What a masked column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ValueType {
    /// Text.
    Text,
    /// A number.
    Number,
    /// TRUE or FALSE.
    Boolean,
    /// A date.
    Date,
    /// A date and time.
    Timestamp,
}

impl ValueType {
    /// The word used in settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Number => "number",
            Self::Boolean => "boolean",
            Self::Date => "date",
            Self::Timestamp => "timestamp",
        }
    }
}

/// An expression that stands for a column's value and is of the same type. In settings: `{ of: text, sql: "…" }`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Declared")]
pub struct MaskExpression {
    of: ValueType,
    tree: Node,
}

/// As it stands in settings.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Declared {
    of: ValueType,
    sql: String,
}

impl TryFrom<Declared> for MaskExpression {
    type Error = ExpressionError;

    fn try_from(Declared { of, sql }: Declared) -> Result<Self, ExpressionError> {
        Self::read(of, &sql)
    }
}

/// Why a text is no such expression.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("at character {at} of the expression: {reason}")]
pub struct ExpressionError {
    /// Which character, from 1.
    pub at: usize,
    /// What is wrong there.
    pub reason: String,
}

impl MaskExpression {
    /// Reads an expression for columns of this type. `{column}` in it is the column.
    ///
    /// # Errors
    /// When a part of it is not known, is of another type than it must be, or the whole is longer or deeper than it may be.
    pub fn read(of: ValueType, text: &str) -> Result<Self, ExpressionError> {
        Ok(Self { of, tree: read::tree(of, text)? })
    }

    /// What columns it is for.
    pub fn of(&self) -> ValueType {
        self.of
    }

    /// As SQL, with this in the column's place.
    pub fn sql(&self, column: &str) -> String {
        let mut out = String::new();
        self.tree.write(column, &mut out);
        out
    }
}

/// A part of an expression.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Column,
    Text(String),
    /// As written, `1` or `1.5`.
    Number(String),
    /// A date, `2000-01-31`.
    Date(String),
    Boolean(bool),
    Null,
    Call(&'static Function, Vec<Node>),
    /// Two operands.
    Binary(Box<Node>, &'static str, Box<Node>),
    Minus(Box<Node>),
    Not(Box<Node>),
    IsNull(Box<Node>, bool),
    In(Box<Node>, Vec<Node>, bool),
    Case(Vec<(Node, Node)>, Option<Box<Node>>),
}

impl Node {
    /// Each part that binds loosely stands in brackets.
    fn write(&self, column: &str, out: &mut String) {
        match self {
            Self::Column => out.push_str(column),
            Self::Text(text) => {
                let _ = write!(out, "'{}'", text.replace('\'', "''"));
            }
            Self::Number(digits) => out.push_str(digits),
            Self::Date(day) => {
                let _ = write!(out, "DATE '{day}'");
            }
            Self::Boolean(value) => out.push_str(if *value { "TRUE" } else { "FALSE" }),
            Self::Null => out.push_str("NULL"),
            Self::Call(function, args) => {
                out.push_str(function.name);
                list(args, column, out);
            }
            Self::Binary(left, operator, right) => {
                out.push('(');
                left.write(column, out);
                let _ = write!(out, " {operator} ");
                right.write(column, out);
                out.push(')');
            }
            Self::Minus(of) => {
                out.push_str("(-");
                of.write(column, out);
                out.push(')');
            }
            Self::Not(of) => {
                out.push_str("(NOT ");
                of.write(column, out);
                out.push(')');
            }
            Self::IsNull(of, is) => {
                out.push('(');
                of.write(column, out);
                out.push_str(if *is { " IS NULL)" } else { " IS NOT NULL)" });
            }
            Self::In(of, values, is) => {
                out.push('(');
                of.write(column, out);
                out.push_str(if *is { " IN " } else { " NOT IN " });
                list(values, column, out);
                out.push(')');
            }
            Self::Case(whens, otherwise) => {
                out.push_str("CASE");
                for (when, then) in whens {
                    out.push_str(" WHEN ");
                    when.write(column, out);
                    out.push_str(" THEN ");
                    then.write(column, out);
                }
                if let Some(otherwise) = otherwise {
                    out.push_str(" ELSE ");
                    otherwise.write(column, out);
                }
                out.push_str(" END");
            }
        }
    }
}

fn list(nodes: &[Node], column: &str, out: &mut String) {
    for (at, node) in nodes.iter().enumerate() {
        out.push_str(if at == 0 { "(" } else { ", " });
        node.write(column, out);
    }
    out.push(')');
}

#[cfg(test)]
mod tests {
    use super::{MaskExpression, ValueType};

    #[test]
    fn what_is_read_is_written_anew() {
        use ValueType::{Boolean, Date, Number, Text, Timestamp};
        for (of, text, sql) in [
            (Text, "concat(left({column}, 2), '***')", "CONCAT(LEFT(\"C\", 2), '***')"),
            (Text, "{column} || 'it''s' || 'x'", "((\"C\" || 'it''s') || 'x')"),
            (
                Text,
                "CASE WHEN LENGTH({column}) <= 4 THEN '***' ELSE REPEAT('*', LENGTH({column}) - 4) || RIGHT({column}, 4) END",
                "CASE WHEN (LENGTH(\"C\") <= 4) THEN '***' ELSE (REPEAT('*', (LENGTH(\"C\") - 4)) || RIGHT(\"C\", 4)) END",
            ),
            (Text, "REGEXP_REPLACE({column}, '[0-9]', '#')", "REGEXP_REPLACE(\"C\", '[0-9]', '#')"),
            (
                Text,
                "iff({column} in ('a', 'b') and not {column} is null, {column}, null)",
                "IFF(((\"C\" IN ('a', 'b')) AND (NOT (\"C\" IS NULL))), \"C\", NULL)",
            ),
            (Text, "SHA2('pepper' || {column})", "SHA2(('pepper' || \"C\"))"),
            (Number, "FLOOR({column} / 10) * 10 + 1", "((FLOOR((\"C\" / 10)) * 10) + 1)"),
            (Number, "-{column} % 1.5", "((-\"C\") % 1.5)"),
            (
                Number,
                "IFF({column} > 100 OR {column} < 0, NULL, {column})",
                "IFF(((\"C\" > 100) OR (\"C\" < 0)), NULL, \"C\")",
            ),
            (
                Date,
                "GREATEST(DATE_TRUNC('month', {column}), DATE '2000-01-01')",
                "GREATEST(DATE_TRUNC('month', \"C\"), DATE '2000-01-01')",
            ),
            (Timestamp, "DATE_TRUNC('hour', {column})", "DATE_TRUNC('hour', \"C\")"),
            (Boolean, "NOT {column}", "(NOT \"C\")"),
        ] {
            let read = MaskExpression::read(of, text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert_eq!(read.sql("\"C\""), sql, "{text}");
            assert_eq!(MaskExpression::read(of, &read.sql("{column}")).unwrap(), read, "{text}");
        }
    }

    #[test]
    fn a_name_in_the_columns_place_cannot_end_early() {
        let read = MaskExpression::read(ValueType::Text, "UPPER({column})").unwrap();
        assert_eq!(read.sql("\"A\"\") FROM X --\""), "UPPER(\"A\"\") FROM X --\")");
    }

    #[test]
    fn everything_else_is_refused() {
        use ValueType::{Date, Number, Text, Timestamp};
        let cases: &[(ValueType, &str)] = &[
            // Out of the expression.
            (Text, "{column}) AS x, (SELECT ssn FROM customers"),
            (Text, "{column}) FROM customers --"),
            (Text, "{column} -- all"),
            (Text, "{column} /* all */"),
            (Text, "{column}; DROP TABLE t"),
            (Text, "{column}, {column}"),
            (Text, "({column}"),
            (Text, "{column} AS x"),
            (Text, "{column} FROM t"),
            (Text, "'{column}"),
            (Text, "'\\' || {column} || ' OR 1=1'"),
            (Text, "$$x$$ || {column}"),
            // Another column, or something that holds a value.
            (Text, "ssn"),
            (Text, "{column} || ssn"),
            (Text, "{column} || \"SSN\""),
            (Text, "\"{column}\""),
            (Text, "customers.{column}"),
            (Text, "{column}.ssn"),
            (Text, "{column}:ssn"),
            (Text, "{column}[0]"),
            (Text, "{column} || $1"),
            (Text, "{column} || $ssn"),
            (Text, "{column} || :ssn"),
            (Text, "{column} || ?"),
            (Text, "{ column }x"),
            (Text, "{ssn}"),
            (Text, "{}"),
            (Text, "{column"),
            (Text, "(SELECT MAX(ssn) FROM customers) || {column}"),
            (Text, "EXISTS (SELECT 1)"),
            // What is not a function of the value.
            (Text, "{column} || CURRENT_USER"),
            (Text, "{column} || CURRENT_USER()"),
            (Text, "{column} || CURRENT_ROLE()"),
            (Text, "{column} || GETVARIABLE('X')"),
            (Text, "{column} || UUID_STRING()"),
            (Text, "{column} || RANDSTR(3, RANDOM())"),
            (Text, "{column} || SYSTEM$TYPEOF({column})"),
            (Text, "MAX({column})"),
            (Text, "LAG({column}) OVER (ORDER BY 1)"),
            (Text, "UPPER({column}) OVER ()"),
            (Text, "my_udf({column})"),
            (Text, "shop.public.upper({column})"),
            (Text, "AI_COMPLETE('m', {column})"),
            (Text, "\"UPPER\"({column})"),
            (Text, "IDENTIFIER({column})"),
            (Text, "GET_DDL('table', {column})"),
            // What can fail for some values.
            (Text, "CAST(TO_NUMBER({column}) AS VARCHAR)"),
            (Text, "{column}::NUMBER"),
            (Text, "PARSE_JSON({column})"),
            (Number, "1 / {column}"),
            (Number, "{column} / 0"),
            (Number, "{column} / 0.00"),
            (Number, "MOD(1, {column})"),
            (Text, "REPEAT({column}, 100)"),
            (Text, "REPEAT('ab', LENGTH({column}))"),
            (Text, "REPEAT('*', LENGTH({column}) * 1000000)"),
            (Text, "RPAD({column}, 100000, '*')"),
            (Text, "REPLACE({column}, {column}, 'x')"),
            (Date, "DATE_TRUNC('hour', {column})"),
            (Date, "DATE_TRUNC({column}, {column})"),
            (Date, "GREATEST({column}, DATE '2000-02-31')"),
            (Timestamp, "DATE_TRUNC('week', {column})"),
            // Of another type.
            (Text, "LENGTH({column})"),
            (Number, "'x'"),
            (Number, "LEFT({column}, 2)"),
            (Text, "{column} + 1"),
            (Text, "CASE WHEN {column} THEN 'a' END"),
            (Text, "CASE WHEN {column} = 1 THEN 'a' END"),
            (Text, "COALESCE({column}, 1)"),
            (Text, "IFF({column} = 'a', {column})"),
            (Text, "LEFT({column})"),
            (Text, "LEFT({column}, 2, 3)"),
            (Text, "CONCAT({column}, )"),
            (Text, "CASE {column} WHEN 'a' THEN 'b' END"),
            (Text, "CASE ELSE {column} END"),
            // Nothing of the column.
            (Text, ""),
            (Text, "'x'"),
            (Text, "NULL"),
            (Text, "größe"),
            (Text, "'\u{202e}' || {column}"),
            (Text, "'\n' || {column}"),
        ];
        for (of, text) in cases {
            assert!(MaskExpression::read(*of, text).is_err(), "{of:?} {text}");
        }
        let long = format!("{{column}} || '{}'", "x".repeat(1000));
        let wide = format!("{{column}}{}", " || 'x'".repeat(120));
        let deep = format!("{}{{column}}{}", "UPPER(".repeat(30), ")".repeat(30));
        let nots = format!("IFF({} {{column}} = 'a', 'b', 'c')", "NOT ".repeat(30));
        let brackets = format!("{}{{column}}{}", "(".repeat(300), ")".repeat(300));
        for text in [long, wide, deep, nots, brackets] {
            assert!(MaskExpression::read(ValueType::Text, &text).is_err(), "{text}");
        }
    }

    #[test]
    fn it_is_said_where_and_what() {
        let error = MaskExpression::read(ValueType::Text, "UPPER({column}) || CURRENT_USER()").unwrap_err();
        assert_eq!(
            error.to_string(),
            "at character 20 of the expression: `CURRENT_USER` is not a function that masks may use"
        );
        let error = MaskExpression::read(ValueType::Text, "LENGTH({column})").unwrap_err();
        assert_eq!(error.to_string(), "at character 1 of the expression: this is a number, and text is needed");
    }
}
