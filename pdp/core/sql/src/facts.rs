//! Facts told from the outermost level of a statement.

use sqlparser::ast::{Expr, LimitClause, Query, SetExpr, Statement, TopQuantity, Value};

/// Whether the outermost level has a WHERE clause.
pub(crate) fn has_where(statement: &Statement) -> bool {
    match statement {
        Statement::Update(update) => update.selection.is_some(),
        Statement::Delete(delete) => delete.selection.is_some(),
        Statement::Explain { statement, .. } => has_where(statement),
        other => match query_of(other).map(|query| &*query.body) {
            Some(SetExpr::Select(select)) => select.selection.is_some(),
            _ => false,
        },
    }
}

/// Rows asked for at most, when that is a literal.
pub(crate) fn limit(statement: &Statement) -> Option<u64> {
    let query = query_of(statement)?;
    let limit = match &query.limit_clause {
        Some(LimitClause::LimitOffset { limit, .. }) => limit.as_ref().and_then(number),
        Some(LimitClause::OffsetCommaLimit { limit, .. }) => number(limit),
        None => None,
    };
    let fetch = query.fetch.as_ref().filter(|fetch| !fetch.percent && !fetch.with_ties);
    let fetch = fetch.and_then(|fetch| fetch.quantity.as_ref()).and_then(number);
    let top = match &*query.body {
        SetExpr::Select(select) => {
            let top = select.top.as_ref().filter(|top| !top.percent && !top.with_ties);
            match top.and_then(|top| top.quantity.as_ref()) {
                Some(TopQuantity::Constant(rows)) => Some(*rows),
                Some(TopQuantity::Expr(expr)) => number(expr),
                None => None,
            }
        }
        _ => None,
    };
    [limit, fetch, top].into_iter().flatten().min()
}

fn query_of(statement: &Statement) -> Option<&Query> {
    match statement {
        Statement::Query(query) => Some(query),
        Statement::Insert(insert) => insert.source.as_deref(),
        Statement::CreateTable(table) => table.query.as_deref(),
        Statement::CreateView(view) => Some(&view.query),
        Statement::CopyIntoSnowflake { from_query, .. } => from_query.as_deref(),
        Statement::Explain { statement, .. } => query_of(statement),
        _ => None,
    }
}

fn number(expr: &Expr) -> Option<u64> {
    match expr {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits.parse().ok(),
            _ => None,
        },
        _ => None,
    }
}
