//! What turns the rows of one relation around: `PIVOT`, `UNPIVOT`, `MATCH_RECOGNIZE`.
//!
//! Each reads every column of its input: what is not named takes part as a group or passes through.

use icegate_pdp_model::Transformation;
use sqlparser::ast::{
    Expr, ExprWithAlias, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, MatchRecognizePattern,
    MatchRecognizeSymbol, Measure, OrderByExpr, PivotValueSource, RowsPerMatch, SymbolDefinition, TableFactor,
};

use crate::{
    names,
    query::{check_order, from::clause_of},
    reader::{Columns, Lineage, Output, OutputColumn, Read, Reader, Role, absent, stop},
    scope::{Ctes, Origin, Scope, Visible, VisibleColumn, decide_rows},
};

impl Reader<'_, '_> {
    pub(crate) fn pivot(
        &mut self,
        factor: &TableFactor,
        scope: &mut Scope<'_>,
        ctes: &Ctes,
        rows: &mut Columns,
    ) -> Read<()> {
        let TableFactor::Pivot { table, aggregate_functions, value_column, value_source, default_on_null, alias } =
            factor
        else {
            return stop("this is no PIVOT");
        };
        let (inner, input) = self.turned(table, scope.parent, ctes, rows)?;
        let mut taken = Vec::new();
        let mut value = Lineage::none();
        for ExprWithAlias { expr, alias: _ } in aggregate_functions {
            match expr {
                Expr::Function(Function { args: FunctionArguments::List(list), .. }) => match list.args.as_slice() {
                    [FunctionArg::Unnamed(FunctionArgExpr::Expr(column))] => taken.push(column_of(column)?),
                    _ => return stop("a PIVOT of something that is not one column is not understood"),
                },
                _ => return stop("a PIVOT without an aggregate function is not understood"),
            }
            value.add(self.expr(expr, &inner, ctes)?);
        }
        let [by] = value_column.as_slice() else { return stop("a PIVOT by several columns is not understood") };
        taken.push(column_of(by)?);
        value.decide(self.expr(by, &inner, ctes)?);
        value.transformation = Transformation::Aggregation;
        if let Some(default) = default_on_null {
            value.add(self.expr(default, &inner, ctes)?);
        }
        let single = matches!(aggregate_functions.as_slice(), [ExprWithAlias { alias: None, .. }]);
        let mut output = Output { open: input.open || !single, beyond: input.beyond, ..Output::default() };
        for column in input.columns {
            // The rest is what the rows are grouped by.
            decide_rows(&mut output.rows, column.lineage.clone());
            if !taken.contains(&column.name) {
                output.columns.push(column);
            }
        }
        let outside = Scope::inside(scope.parent);
        match value_source {
            PivotValueSource::List(values) => {
                for ExprWithAlias { expr, alias } in values {
                    if !matches!(expr, Expr::Value(_) | Expr::TypedString(_)) {
                        return stop("a PIVOT for something that is not a constant is not understood");
                    }
                    self.expr(expr, &outside, ctes)?;
                    let name = match alias {
                        Some(alias) => named(alias)?,
                        None => expr.to_string(),
                    };
                    if single {
                        output.columns.push(OutputColumn { name, lineage: value.clone() });
                    }
                }
            }
            PivotValueSource::Any(orders) => {
                output.open = true;
                for order in orders {
                    self.sorted(order, &inner, ctes, &mut output.rows)?;
                }
            }
            PivotValueSource::Subquery(query) => {
                output.open = true;
                let values = self.query(query, scope.parent, ctes)?;
                output.rows.unite(&values.rows);
                for column in values.columns {
                    decide_rows(&mut output.rows, column.lineage);
                }
            }
        }
        self.add_derived(&output, None, alias.as_ref(), scope, rows)
    }

    pub(crate) fn unpivot(
        &mut self,
        factor: &TableFactor,
        scope: &mut Scope<'_>,
        ctes: &Ctes,
        rows: &mut Columns,
    ) -> Read<()> {
        let TableFactor::Unpivot { table, value, name, columns, null_inclusion: _, alias } = factor else {
            return stop("this is no UNPIVOT");
        };
        let (inner, input) = self.turned(table, scope.parent, ctes, rows)?;
        let (value_name, name) = (column_of(value)?, named(name)?);
        let mut taken = Vec::with_capacity(columns.len());
        let mut held = Lineage::none();
        for ExprWithAlias { expr, alias: _ } in columns {
            taken.push(column_of(expr)?);
            held.add(self.expr(expr, &inner, ctes)?);
        }
        let held = held.computed();
        // Which rows there are tells which of the columns is not NULL.
        let mut output =
            Output { rows: held.clone().all(), open: input.open, beyond: input.beyond, ..Output::default() };
        output.columns.extend(input.columns.into_iter().filter(|column| !taken.contains(&column.name)));
        let mut which = Lineage::none();
        which.decide(held.clone());
        output.columns.push(OutputColumn { name, lineage: which });
        output.columns.push(OutputColumn { name: value_name, lineage: held });
        self.add_derived(&output, None, alias.as_ref(), scope, rows)
    }

    pub(crate) fn match_recognize(
        &mut self,
        factor: &TableFactor,
        scope: &mut Scope<'_>,
        ctes: &Ctes,
        rows: &mut Columns,
    ) -> Read<()> {
        let TableFactor::MatchRecognize {
            table,
            partition_by,
            order_by,
            measures,
            rows_per_match,
            after_match_skip: _,
            pattern,
            symbols,
            alias,
        } = factor
        else {
            return stop("this is no MATCH_RECOGNIZE");
        };
        let (mut inner, input) = self.turned(table, scope.parent, ctes, rows)?;
        let (site, places) = (inner.visible.first().and_then(|visible| visible.site), self.places);
        if let Some(site) = site.and_then(|site| self.sites.get_mut(site)) {
            let start = site.clause_end.or(site.name.as_ref().map(|name| name.end));
            let ends = places.zip(start).and_then(|(places, start)| clause_of("MATCH_RECOGNIZE", places, start));
            site.match_end = ends;
        }
        let mut words = Vec::new();
        pattern_words(pattern, &mut words)?;
        for SymbolDefinition { symbol, definition: _ } in symbols {
            words.push(named(symbol)?);
        }
        words.sort();
        words.dedup();
        absent(words.len() > PATTERN_WORDS_MAX, "MATCH_RECOGNIZE with this many words in its pattern")?;
        // Each word of the pattern stands for the rows it matched.
        for word in words {
            let columns = input.columns.iter().map(|column| VisibleColumn {
                name: column.name.as_str().into(),
                origin: Origin::Derived(Box::new(column.lineage.clone())),
                merged: false,
            });
            let columns = columns.collect();
            let visible = Visible {
                qualifier: vec![word],
                columns,
                site: None,
                open: input.open,
                beyond: input.beyond.clone(),
                silent: false,
            };
            inner.visible.push(visible);
        }
        let outer_match = std::mem::replace(&mut self.in_match, true);
        let matched = self.matched(&mut inner, partition_by, order_by, measures, symbols, ctes);
        self.in_match = outer_match;
        let (partition, measured, deciding) = matched?;
        let columns = match rows_per_match {
            None | Some(RowsPerMatch::OneRow) => partition,
            Some(RowsPerMatch::AllRows(_)) => input.columns,
        };
        let open = input.open && matches!(rows_per_match, Some(RowsPerMatch::AllRows(_)));
        let columns = columns.into_iter().chain(measured).collect();
        let output = Output { columns, rows: deciding, open, beyond: input.beyond, row_of: None };
        self.add_derived(&output, None, alias.as_ref(), scope, rows)
    }

    /// Columns of the partition, measures, and what decides which rows match.
    fn matched(
        &mut self,
        inner: &mut Scope<'_>,
        partition_by: &[Expr],
        order_by: &[OrderByExpr],
        measures: &[Measure],
        symbols: &[SymbolDefinition],
        ctes: &Ctes,
    ) -> Read<(Vec<OutputColumn>, Vec<OutputColumn>, Columns)> {
        let mut deciding = Columns::new();
        let mut partition = Vec::new();
        for expr in partition_by {
            let lineage = self.expr(expr, inner, ctes)?;
            decide_rows(&mut deciding, lineage.clone());
            partition.push(OutputColumn { name: column_of(expr)?, lineage });
        }
        for order in order_by {
            self.sorted(order, inner, ctes, &mut deciding)?;
        }
        for SymbolDefinition { symbol: _, definition } in symbols {
            decide_rows(&mut deciding, self.expr(definition, inner, ctes)?);
        }
        let mut outcome = Vec::new();
        for Measure { expr, alias } in measures {
            // `MEASURES CLASSIFIER AS c`: the function without its brackets.
            let lineage = match expr {
                Expr::Identifier(word) if word.value.eq_ignore_ascii_case("classifier") => {
                    self.find_column(&[word], inner)?.unwrap_or_else(Lineage::none)
                }
                _ => self.expr(expr, inner, ctes)?,
            };
            let name = named(alias)?;
            inner.aliases.push((name.clone(), lineage.clone()));
            outcome.push(OutputColumn { name, lineage: lineage.computed() });
        }
        Ok((partition, outcome, deciding))
    }

    /// The one relation that is turned, alone in a scope, and all its columns.
    fn turned<'p>(
        &mut self,
        table: &TableFactor,
        parent: Option<&'p Scope<'p>>,
        ctes: &Ctes,
        rows: &mut Columns,
    ) -> Read<(Scope<'p>, Output)> {
        let mut inner = Scope::inside(parent);
        self.factor(table, &mut inner, ctes, rows)?;
        let [visible] = inner.visible.as_slice() else { return stop("this turns several relations at once") };
        if let Some(site) = visible.site.and_then(|site| self.sites.get_mut(site))
            && site.role == Role::Source
        {
            site.role = Role::Unload;
        }
        let site = visible.site;
        let columns = visible.columns.iter();
        let columns = columns
            .map(|column| OutputColumn { name: column.name.to_string(), lineage: self.origin(&column.origin, site) });
        let columns = columns.collect();
        self.read_all(&visible.beyond);
        let output = Output { columns, open: visible.open, beyond: visible.beyond.clone(), ..Output::default() };
        Ok((inner, output))
    }

    fn sorted(&mut self, order: &OrderByExpr, scope: &Scope<'_>, ctes: &Ctes, rows: &mut Columns) -> Read<()> {
        let OrderByExpr { expr, options, with_fill } = order;
        check_order(options)?;
        absent(with_fill.is_some(), "WITH FILL")?;
        decide_rows(rows, self.expr(expr, scope, ctes)?);
        Ok(())
    }
}

/// Words one pattern has at most: each is another relation to look names up in.
const PATTERN_WORDS_MAX: usize = 32;

fn named(ident: &Ident) -> Read<String> {
    match names::fold(ident) {
        Some(name) => Ok(name),
        None => stop("an alias that is not a name is not understood"),
    }
}

/// The last name of a bare column.
fn column_of(expr: &Expr) -> Read<String> {
    match expr {
        Expr::Identifier(ident) => named(ident),
        Expr::CompoundIdentifier(idents) => match idents.last() {
            Some(ident) => named(ident),
            None => stop("an empty name is not understood"),
        },
        _ => stop("an expression where a column must stand is not understood"),
    }
}

fn pattern_words(pattern: &MatchRecognizePattern, words: &mut Vec<String>) -> Read<()> {
    let mut word = |symbol: &MatchRecognizeSymbol| {
        match symbol {
            MatchRecognizeSymbol::Named(ident) => words.push(named(ident)?),
            MatchRecognizeSymbol::Start | MatchRecognizeSymbol::End => {}
        }
        Ok(())
    };
    match pattern {
        MatchRecognizePattern::Symbol(symbol) | MatchRecognizePattern::Exclude(symbol) => word(symbol),
        MatchRecognizePattern::Permute(symbols) => symbols.iter().try_for_each(word),
        MatchRecognizePattern::Concat(patterns) | MatchRecognizePattern::Alternation(patterns) => {
            patterns.iter().try_for_each(|pattern| pattern_words(pattern, words))
        }
        MatchRecognizePattern::Group(pattern) | MatchRecognizePattern::Repetition(pattern, _) => {
            pattern_words(pattern, words)
        }
    }
}
