//! Queries: what they give, and what decided it.

pub(crate) mod from;
mod outside;
mod projection;
mod reshape;

pub(crate) use from::describe;
pub(crate) use projection::ilike;

use std::sync::Arc;

use sqlparser::ast::{
    ConnectByKind, Cte, Distinct, Expr, Fetch, GroupByExpr, GroupByWithModifier, Ident, LimitClause, LockClause,
    LockType, NamedWindowExpr, ObjectName, Offset, OrderBy, OrderByExpr, OrderByKind, OrderByOptions, OrderBySort,
    Query, Select, SelectFlavor, SetExpr, SetOperator, SetQuantifier, TableAlias, Top, TopQuantity, Value, Values,
    With,
};

use crate::{
    names,
    reader::{Beyond, Columns, Lineage, Output, OutputColumn, Read, Reader, absent, merge, stop},
    scope::{Ctes, Scope, decide_rows},
};

impl Reader<'_, '_> {
    /// Reads a query inside `outer`.
    pub(crate) fn query(&mut self, query: &Query, outer: Option<&Scope<'_>>, ctes: &Ctes) -> Read<Output> {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        for LockClause { lock_type, of, nonblock: _ } in locks {
            match lock_type {
                LockType::Update => absent(of.is_some(), "FOR UPDATE OF")?,
                LockType::Share => return stop("FOR SHARE is not understood"),
            }
        }
        absent(for_clause.is_some(), "FOR XML or JSON")?;
        absent(settings.is_some(), "SETTINGS")?;
        absent(format_clause.is_some(), "FORMAT")?;
        absent(!pipe_operators.is_empty(), "a pipe operator")?;
        let with_ctes = match with {
            None => None,
            Some(with) => Some(self.with(with, outer, ctes)?),
        };
        let ctes = with_ctes.as_ref().unwrap_or(ctes);
        let mut output = self.body(body, outer, ctes, order_by.as_ref())?;
        let empty = Scope::inside(outer);
        if let Some(clause) = limit_clause {
            self.limit(clause, &empty, ctes, &mut output.rows)?;
        }
        if let Some(Fetch { with_ties: _, percent: _, quantity: Some(quantity) }) = fetch {
            decide_rows(&mut output.rows, self.expr(quantity, &empty, ctes)?);
        }
        Ok(output)
    }

    pub(crate) fn with(&mut self, with: &With, outer: Option<&Scope<'_>>, ctes: &Ctes) -> Read<Ctes> {
        let With { with_token: _, recursive, cte_tables } = with;
        let mut ctes = ctes.clone();
        for Cte { alias, query, from, materialized: _, closing_paren_token: _ } in cte_tables {
            absent(from.is_some(), "FROM after a common table expression")?;
            let Some(name) = names::fold(&alias.name) else { return stop("a common table expression without a name") };
            let mut output = match &*query.body {
                SetExpr::SetOperation { left, op: SetOperator::Union, set_quantifier, right }
                    if *recursive
                        || matches!(set_quantifier, SetQuantifier::All)
                            && self.may_mean_itself(&name, query, &ctes) =>
                {
                    absent(!is_plain(query), "a recursive common table expression with WITH, ORDER or LIMIT")?;
                    self.recursive(&name, alias, left, *set_quantifier, right, outer, &ctes)?
                }
                _ => self.query(query, outer, &ctes)?,
            };
            alias_output(&mut output, alias)?;
            ctes.push(name, Arc::new(output));
        }
        Ok(ctes)
    }

    /// Without the word RECURSIVE an expression may still mean itself, unless its name means something else already.
    fn may_mean_itself(&self, name: &str, query: &Query, ctes: &Ctes) -> bool {
        let single = ObjectName::from(vec![Ident::with_quote('"', name.replace('"', "\"\""))]);
        let relation = names::relation(&single, &self.session);
        let taken =
            relation.is_some_and(|full| self.request.made(&full).is_some() || self.catalog.relation(&full).is_some());
        is_plain(query) && !taken && ctes.get(name).is_none()
    }

    /// The anchor first; its columns are what the other half sees under the expression's own name.
    #[expect(clippy::too_many_arguments, reason = "the parts of one recursive expression")]
    fn recursive(
        &mut self,
        name: &str,
        alias: &TableAlias,
        left: &SetExpr,
        quantifier: SetQuantifier,
        right: &SetExpr,
        outer: Option<&Scope<'_>>,
        ctes: &Ctes,
    ) -> Read<Output> {
        let anchor = self.body(left, outer, ctes, None)?;
        let mut seen = anchor.clone();
        alias_output(&mut seen, alias)?;
        let mut inner = ctes.clone();
        let seen = Arc::new(seen);
        let address = Arc::as_ptr(&seen).addr();
        inner.push(name.to_owned(), seen);
        self.ctes_read.remove(&address);
        let step = self.body(right, outer, &inner, None)?;
        let mut output = united(anchor, SetOperator::Union, quantifier, step)?;
        if !self.ctes_read.contains(&address) {
            return Ok(output);
        }
        // A value may move from column to column in later rounds: each column may hold what any holds.
        let mut any = Lineage::none();
        for column in &output.columns {
            any.add(column.lineage.clone());
        }
        for column in &mut output.columns {
            column.lineage = any.clone().computed();
        }
        Ok(output)
    }

    fn body(
        &mut self,
        body: &SetExpr,
        outer: Option<&Scope<'_>>,
        ctes: &Ctes,
        order: Option<&OrderBy>,
    ) -> Read<Output> {
        match body {
            SetExpr::Select(select) => self.select(select, outer, ctes, order),
            SetExpr::Query(query) => {
                let output = self.query(query, outer, ctes)?;
                self.order_output(output, order, outer, ctes)
            }
            SetExpr::SetOperation { .. } => {
                let output = self.set_operation(body, outer, ctes)?;
                self.order_output(output, order, outer, ctes)
            }
            SetExpr::Values(values) => {
                let output = self.values(values, outer, ctes)?;
                self.order_output(output, order, outer, ctes)
            }
            // Only a whole statement can be one: see `statement`.
            SetExpr::Insert(_) => stop("INSERT inside a query is not understood"),
            SetExpr::Update(_) => stop("UPDATE inside a query is not understood"),
            SetExpr::Delete(_) => stop("DELETE inside a query is not understood"),
            SetExpr::Merge(_) => stop("MERGE inside a query is not understood"),
            SetExpr::Table(_) => stop("TABLE as a query is not understood"),
        }
    }

    /// A row of set operations is as deep as it is long, so its left spine is walked, not recursed into.
    fn set_operation(&mut self, body: &SetExpr, outer: Option<&Scope<'_>>, ctes: &Ctes) -> Read<Output> {
        let mut steps = Vec::new();
        let mut at = body;
        while let SetExpr::SetOperation { left, op, set_quantifier, right } = at {
            steps.push((*op, *set_quantifier, right));
            at = left;
        }
        let mut output = self.body(at, outer, ctes, None)?;
        while let Some((op, quantifier, right)) = steps.pop() {
            let right = self.body(right, outer, ctes, None)?;
            let (left, by_name) = (output.columns.len(), is_by_name(quantifier));
            self.look_through(if by_name { left.saturating_mul(right.columns.len()) } else { left })?;
            output = united(output, op, quantifier, right)?;
        }
        Ok(output)
    }

    fn values(&mut self, values: &Values, outer: Option<&Scope<'_>>, ctes: &Ctes) -> Read<Output> {
        let Values { explicit_row, value_keyword, rows } = values;
        absent(*explicit_row, "VALUES ROW")?;
        absent(*value_keyword, "VALUE")?;
        let scope = Scope::inside(outer);
        let mut output = Output::default();
        for row in rows {
            for (at, expr) in row.content.iter().enumerate() {
                let lineage = self.expr(expr, &scope, ctes)?;
                match output.columns.get_mut(at) {
                    Some(column) => column.lineage.add(lineage),
                    None => output.columns.push(OutputColumn { name: format!("COLUMN{}", at + 1), lineage }),
                }
            }
        }
        Ok(output)
    }

    fn select(
        &mut self,
        select: &Select,
        outer: Option<&Scope<'_>>,
        ctes: &Ctes,
        order: Option<&OrderBy>,
    ) -> Read<Output> {
        let Select {
            select_token: _,
            optimizer_hints,
            distinct,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having,
            named_window,
            qualify,
            window_before_qualify: _,
            value_table_mode,
            flavor,
        } = select;
        absent(!optimizer_hints.is_empty(), "an optimizer hint")?;
        absent(select_modifiers.is_some(), "a SELECT modifier")?;
        absent(exclude.is_some(), "EXCLUDE after the select list")?;
        absent(into.is_some(), "SELECT INTO")?;
        absent(!lateral_views.is_empty(), "LATERAL VIEW")?;
        absent(prewhere.is_some(), "PREWHERE")?;
        absent(
            !cluster_by.is_empty() || !distribute_by.is_empty() || !sort_by.is_empty(),
            "CLUSTER, DISTRIBUTE or SORT BY",
        )?;
        absent(value_table_mode.is_some(), "SELECT AS")?;
        absent(!matches!(flavor, SelectFlavor::Standard), "FROM before SELECT")?;

        let mut scope = Scope::inside(outer);
        if !connect_by.is_empty() {
            scope.aliases.extend(HIERARCHY_WORDS.map(|word| (word.to_owned(), Lineage::none())));
        }
        let mut rows = Columns::new();
        self.from(from, selection.is_some(), &mut scope, ctes, &mut rows)?;
        let mut output = self.projection(projection, &mut scope, ctes)?;
        if let Some(Top { with_ties: _, percent: _, quantity: Some(TopQuantity::Expr(expr)) }) = top {
            decide_rows(&mut rows, self.expr(expr, &scope, ctes)?);
        }
        for connect in connect_by {
            match connect {
                ConnectByKind::ConnectBy { connect_token: _, nocycle: _, relationships } => {
                    for expr in relationships {
                        decide_rows(&mut rows, self.expr(expr, &scope, ctes)?);
                    }
                }
                ConnectByKind::StartWith { start_token: _, condition } => {
                    decide_rows(&mut rows, self.expr(condition, &scope, ctes)?);
                }
            }
        }
        for expr in [selection, having, qualify].into_iter().flatten() {
            decide_rows(&mut rows, self.expr(expr, &scope, ctes)?);
        }
        self.group_by(group_by, &output, &scope, ctes, &mut rows)?;
        for definition in named_window {
            match &definition.1 {
                NamedWindowExpr::NamedWindow(_) => {}
                NamedWindowExpr::WindowSpec(spec) => decide_rows(&mut rows, self.window(spec, &scope, ctes)?),
            }
        }
        match distinct {
            None | Some(Distinct::All) => {}
            Some(Distinct::Distinct) => decide_by_outputs(&output, &mut rows),
            Some(Distinct::On(_)) => return stop("DISTINCT ON is not understood"),
        }
        if let Some(order) = order {
            self.order_by(order, &output, &scope, ctes, &mut rows)?;
        }
        merge(&mut output.rows, rows);
        Ok(output)
    }

    fn group_by(
        &mut self,
        group_by: &GroupByExpr,
        output: &Output,
        scope: &Scope<'_>,
        ctes: &Ctes,
        rows: &mut Columns,
    ) -> Read<()> {
        let modifiers = match group_by {
            GroupByExpr::All(modifiers) => {
                decide_by_outputs(output, rows);
                modifiers
            }
            GroupByExpr::Expressions(exprs, modifiers) => {
                for expr in exprs {
                    self.by_position_or_expr(expr, output, scope, ctes, rows)?;
                }
                modifiers
            }
        };
        for modifier in modifiers {
            match modifier {
                GroupByWithModifier::Rollup | GroupByWithModifier::Cube | GroupByWithModifier::Totals => {
                    return stop("GROUP BY … WITH is not understood");
                }
                GroupByWithModifier::GroupingSets(expr) => decide_rows(rows, self.expr(expr, scope, ctes)?),
            }
        }
        Ok(())
    }

    fn order_output(
        &mut self,
        mut output: Output,
        order: Option<&OrderBy>,
        outer: Option<&Scope<'_>>,
        ctes: &Ctes,
    ) -> Read<Output> {
        let Some(order) = order else { return Ok(output) };
        let mut scope = Scope::inside(outer);
        scope.aliases = output.columns.iter().map(|column| (column.name.clone(), column.lineage.clone())).collect();
        let mut rows = Columns::new();
        self.order_by(order, &output, &scope, ctes, &mut rows)?;
        merge(&mut output.rows, rows);
        Ok(output)
    }

    fn order_by(
        &mut self,
        order: &OrderBy,
        output: &Output,
        scope: &Scope<'_>,
        ctes: &Ctes,
        rows: &mut Columns,
    ) -> Read<()> {
        let OrderBy { kind, interpolate } = order;
        absent(interpolate.is_some(), "INTERPOLATE")?;
        match kind {
            OrderByKind::All(options) => {
                check_order(options)?;
                decide_by_outputs(output, rows);
                Ok(())
            }
            OrderByKind::Expressions(exprs) => {
                for OrderByExpr { expr, options, with_fill } in exprs {
                    check_order(options)?;
                    absent(with_fill.is_some(), "WITH FILL")?;
                    self.by_position_or_expr(expr, output, scope, ctes, rows)?;
                }
                Ok(())
            }
        }
    }

    /// `ORDER BY 2` means the second output column.
    fn by_position_or_expr(
        &mut self,
        expr: &Expr,
        output: &Output,
        scope: &Scope<'_>,
        ctes: &Ctes,
        rows: &mut Columns,
    ) -> Read<()> {
        if let Expr::Value(value) = expr
            && let Value::Number(digits, _) = &value.value
        {
            let column = digits.parse::<usize>().ok().and_then(|n| output.columns.get(n.checked_sub(1)?));
            match column {
                Some(column) => decide_rows(rows, column.lineage.clone()),
                None if output.open => {}
                None => return stop(format!("position {digits} has no output column")),
            }
            return Ok(());
        }
        // `ORDER BY ALL`: a reserved word, so never a column.
        if let Expr::Identifier(word) = expr
            && word.quote_style.is_none()
            && word.value.eq_ignore_ascii_case("all")
        {
            decide_by_outputs(output, rows);
            return Ok(());
        }
        decide_rows(rows, self.expr(expr, scope, ctes)?);
        Ok(())
    }

    fn limit(&mut self, clause: &LimitClause, scope: &Scope<'_>, ctes: &Ctes, rows: &mut Columns) -> Read<()> {
        let (exprs, by): ([Option<&Expr>; 2], &[Expr]) = match clause {
            LimitClause::LimitOffset { limit, offset, limit_by } => {
                ([limit.as_ref(), offset.as_ref().map(|Offset { value, rows: _ }| value)], limit_by)
            }
            LimitClause::OffsetCommaLimit { offset, limit } => ([Some(offset), Some(limit)], &[]),
        };
        absent(!by.is_empty(), "LIMIT BY")?;
        for expr in exprs.into_iter().flatten() {
            decide_rows(rows, self.expr(expr, scope, ctes)?);
        }
        Ok(())
    }
}

/// Columns that CONNECT BY adds.
const HIERARCHY_WORDS: [&str; 3] = ["LEVEL", "CONNECT_BY_ISLEAF", "CONNECT_BY_ISCYCLE"];

/// Nothing but its body.
fn is_plain(query: &Query) -> bool {
    query.with.is_none() && query.order_by.is_none() && query.limit_clause.is_none() && query.fetch.is_none()
}

/// Gives a common table expression's columns their listed names.
fn alias_output(output: &mut Output, alias: &TableAlias) -> Read<()> {
    absent(alias.at.is_some(), "an alias with AT")?;
    if alias.columns.is_empty() {
        return Ok(());
    }
    if alias.columns.len() > output.columns.len() && !output.open {
        return stop("an alias lists more columns than there are");
    }
    output.beyond = Beyond::default();
    for (column, alias) in output.columns.iter_mut().zip(&alias.columns) {
        let Some(name) = names::fold(&alias.name) else { return stop("a column alias that is not a name") };
        column.name = name;
    }
    Ok(())
}

pub(crate) fn check_order(options: &OrderByOptions) -> Read<()> {
    match &options.sort {
        None | Some(OrderBySort::Asc | OrderBySort::Desc) => Ok(()),
        Some(OrderBySort::Using(_)) => stop("ORDER BY USING is not understood"),
    }
}

fn decide_by_outputs(output: &Output, rows: &mut Columns) {
    for column in &output.columns {
        decide_rows(rows, column.lineage.clone());
    }
}

fn is_by_name(quantifier: SetQuantifier) -> bool {
    match quantifier {
        SetQuantifier::All | SetQuantifier::Distinct | SetQuantifier::None => false,
        SetQuantifier::AllByName | SetQuantifier::ByName | SetQuantifier::DistinctByName => true,
    }
}

/// The result of a set operation: columns by position; all but UNION ALL compare every column.
fn united(mut left: Output, op: SetOperator, quantifier: SetQuantifier, right: Output) -> Read<Output> {
    let all = matches!(quantifier, SetQuantifier::All | SetQuantifier::AllByName);
    let by_name = is_by_name(quantifier);
    if by_name {
        let union = matches!(op, SetOperator::Union);
        absent(!union || left.open || right.open, "this set operation BY NAME")?;
    }
    if !by_name && left.columns.len() != right.columns.len() && !left.open && !right.open {
        return stop("the sides of a set operation have different numbers of columns");
    }
    let values_from_right = match op {
        SetOperator::Union => true,
        SetOperator::Intersect | SetOperator::Except | SetOperator::Minus => false,
    };
    if !all || !values_from_right {
        let mut rows = Columns::new();
        decide_by_outputs(&left, &mut rows);
        decide_by_outputs(&right, &mut rows);
        merge(&mut left.rows, rows);
    }
    merge(&mut left.rows, right.rows);
    left.open |= right.open;
    left.beyond.add(&right.beyond);
    if by_name {
        for other in right.columns {
            match left.columns.iter_mut().find(|column| column.name == other.name) {
                Some(column) => column.lineage.add(other.lineage),
                None => left.columns.push(other),
            }
        }
    } else if values_from_right {
        for (column, other) in left.columns.iter_mut().zip(right.columns) {
            column.lineage.add(other.lineage);
        }
    }
    if left.open {
        for column in &mut left.columns {
            column.lineage.opaque = true;
        }
    }
    Ok(left)
}
