//! Expressions: every column that can influence a value, and how.

use icegate_pdp_model::{Effect, Nature, ObjectKind, ObjectName as Name, Transformation};
use sqlparser::ast::{
    AccessExpr, Array, BinaryOperator, CaseWhen, DictionaryField, DuplicateTreatment, Expr, Function, FunctionArg,
    FunctionArgExpr, FunctionArgumentClause, FunctionArgumentList, FunctionArguments, Ident, Interval, JsonPathElem,
    LambdaFunction, ListAggOnOverflow, ObjectName, ObjectNamePart, OneOrManyWithParens, OrderByExpr, Query, Subscript,
    TypedString, UnaryOperator, Value, WindowFrame, WindowFrameBound, WindowSpec, WindowType,
};

use crate::{
    functions, names,
    query::{check_order, ilike},
    reader::{Lineage, Read, Reader, absent, stop},
    reword::OBJECT_STAR,
    scope::{Ctes, Scope, fold_all},
};

impl Reader<'_, '_> {
    /// Reads an expression.
    #[expect(clippy::too_many_lines, reason = "one arm per kind of expression, none left out")]
    pub(crate) fn expr(&mut self, expr: &Expr, scope: &Scope<'_>, ctes: &Ctes) -> Read<Lineage> {
        match expr {
            Expr::Identifier(ident) => self.column(&[ident], scope),
            Expr::CompoundIdentifier(idents) if !self.is_object_star(expr) => {
                self.column(&idents.iter().collect::<Vec<_>>(), scope)
            }
            Expr::CompoundFieldAccess { root, access_chain } => self.access(root, access_chain, scope, ctes),
            Expr::JsonAccess { value, path } => {
                let mut lineage = self.expr(value, scope, ctes)?;
                for element in &path.path {
                    match element {
                        JsonPathElem::Dot { key: _, quoted: _ } => {}
                        JsonPathElem::Bracket { key } | JsonPathElem::ColonBracket { key } => {
                            lineage.add(self.expr(key, scope, ctes)?);
                        }
                    }
                }
                Ok(lineage.computed())
            }
            Expr::Nested(inner) => self.expr(inner, scope, ctes),
            Expr::IsFalse(inner)
            | Expr::IsNotFalse(inner)
            | Expr::IsTrue(inner)
            | Expr::IsNotTrue(inner)
            | Expr::IsNull(inner)
            | Expr::IsNotNull(inner)
            | Expr::IsUnknown(inner)
            | Expr::IsNotUnknown(inner)
            | Expr::OuterJoin(inner)
            | Expr::Prior(inner)
            | Expr::Ceil { expr: inner, field: _ }
            | Expr::Floor { expr: inner, field: _ }
            | Expr::Extract { field: _, syntax: _, expr: inner }
            | Expr::Collate { expr: inner, collation: _ }
            | Expr::Named { expr: inner, name: _ } => self.all([&**inner], scope, ctes),
            Expr::UnaryOp { op, expr } => {
                match op {
                    UnaryOperator::Plus | UnaryOperator::Minus | UnaryOperator::Not => {}
                    other => return stop(format!("the operator `{other}` is not understood")),
                }
                self.all([&**expr], scope, ctes)
            }
            Expr::IsDistinctFrom(left, right)
            | Expr::IsNotDistinctFrom(left, right)
            | Expr::AnyOp { left, compare_op: _, right, is_some: _ }
            | Expr::AllOp { left, compare_op: _, right }
            | Expr::Position { expr: left, r#in: right }
            | Expr::AtTimeZone { timestamp: left, time_zone: right }
            | Expr::RLike { negated: _, expr: left, pattern: right, regexp: _ } => {
                self.all([&**left, &**right], scope, ctes)
            }
            Expr::InList { expr, list, negated: false } if self.is_object_star(expr) => {
                let mut names = Vec::with_capacity(list.len());
                for name in list {
                    names.push(bare(name)?);
                }
                self.object_star(expr, &Picked::Without(&names), scope)
            }
            Expr::InList { expr, list, negated: _ } => self.all(std::iter::once(&**expr).chain(list), scope, ctes),
            Expr::InSubquery { expr, subquery, negated: _ } => {
                let mut lineage = self.all([&**expr], scope, ctes)?;
                lineage.decide(self.subquery(subquery, scope, ctes)?);
                Ok(lineage)
            }
            Expr::Between { expr, negated: _, low, high } => self.all([&**expr, &**low, &**high], scope, ctes),
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } if self.is_object_star(left) => match &**right {
                Expr::Value(value) => match &value.value {
                    Value::SingleQuotedString(pattern) if !pattern.contains(['\\', '\'']) => {
                        self.object_star(left, &Picked::Like(pattern), scope)
                    }
                    _ => stop("an escaped pattern after `* ILIKE`"),
                },
                name => {
                    let name = [bare(name)?];
                    self.object_star(left, &Picked::Without(&name), scope)
                }
            },
            Expr::BinaryOp { .. } => self.binary(expr, scope, ctes),
            Expr::Like { negated: _, any: _, expr, pattern, escape_char }
            | Expr::ILike { negated: _, any: _, expr, pattern, escape_char }
            | Expr::SimilarTo { negated: _, expr, pattern, escape_char } => {
                self.all([&**expr, &**pattern].into_iter().chain(escape_char.as_deref()), scope, ctes)
            }
            Expr::Cast { kind: _, expr, data_type: _, format } => {
                absent(format.is_some(), "CAST with FORMAT")?;
                self.all([&**expr], scope, ctes)
            }
            Expr::Substring { expr, substring_from, substring_for, special: _, shorthand: _ } => {
                let parts = [substring_from, substring_for].into_iter().filter_map(Option::as_deref);
                self.all(std::iter::once(&**expr).chain(parts), scope, ctes)
            }
            Expr::Trim { trim_where: _, trim_what, expr, trim_characters } => {
                let characters = trim_characters.iter().flatten();
                self.all(std::iter::once(&**expr).chain(trim_what.as_deref()).chain(characters), scope, ctes)
            }
            Expr::Value(_) if self.is_object_star(expr) => self.object_star(expr, &Picked::All, scope),
            Expr::CompoundIdentifier(_) => self.object_star(expr, &Picked::All, scope),
            Expr::Value(value) => match position(&value.value) {
                Some(digits) => self.positioned(digits, &[], scope),
                None => self.value(&value.value),
            },
            Expr::TypedString(TypedString { data_type: _, value, uses_odbc_syntax: _ }) => self.value(&value.value),
            Expr::Interval(Interval {
                value,
                leading_field: _,
                leading_precision: _,
                last_field: _,
                fractional_seconds_precision: _,
            }) => self.all([&**value], scope, ctes),
            Expr::Function(function) => self.function(function, scope, ctes),
            Expr::Case { case_token: _, end_token: _, operand, conditions, else_result } => {
                let mut lineage = Lineage::none();
                if let Some(operand) = operand {
                    lineage.decide(self.expr(operand, scope, ctes)?);
                }
                for CaseWhen { condition, result } in conditions {
                    lineage.decide(self.expr(condition, scope, ctes)?);
                    lineage.add(self.expr(result, scope, ctes)?);
                }
                if let Some(result) = else_result {
                    lineage.add(self.expr(result, scope, ctes)?);
                }
                Ok(lineage.computed())
            }
            Expr::Exists { subquery, negated: _ } => {
                let mut lineage = Lineage::none();
                lineage.decide(self.subquery(subquery, scope, ctes)?);
                Ok(lineage)
            }
            Expr::Subquery(subquery) => Ok(self.subquery(subquery, scope, ctes)?.computed()),
            Expr::GroupingSets(sets) | Expr::Cube(sets) | Expr::Rollup(sets) => {
                self.all(sets.iter().flatten(), scope, ctes)
            }
            Expr::Tuple(exprs) | Expr::Array(Array { elem: exprs, named: _ }) => self.all(exprs, scope, ctes),
            Expr::Dictionary(fields) => {
                self.all(fields.iter().map(|DictionaryField { key: _, value }| &**value), scope, ctes)
            }
            Expr::Lambda(LambdaFunction { params, body, syntax: _ }) => {
                let params = match params {
                    OneOrManyWithParens::One(param) => std::slice::from_ref(param),
                    OneOrManyWithParens::Many(params) => params,
                };
                let mut inner = Scope::inside(Some(scope));
                for param in params {
                    let Some(name) = names::fold(&param.name) else { return stop("a lambda parameter without a name") };
                    inner.aliases.push((name, Lineage::none()));
                }
                Ok(self.expr(body, &inner, ctes)?.computed())
            }
            Expr::Convert { .. } => stop("CONVERT is not understood"),
            Expr::Overlay { .. } => stop("OVERLAY is not understood"),
            // The value of the same expression in the row the hierarchy started from.
            Expr::Prefixed { prefix, value } if prefix.value.eq_ignore_ascii_case("connect_by_root") => {
                self.all([&**value], scope, ctes)
            }
            Expr::Prefixed { .. } => stop("a prefixed literal is not understood"),
            Expr::Struct { .. } => stop("STRUCT is not understood"),
            Expr::Map(_) => stop("MAP is not understood"),
            Expr::MatchAgainst { .. } => stop("MATCH AGAINST is not understood"),
            Expr::Wildcard(_) | Expr::QualifiedWildcard(_, _) => stop("`*` in this place is not understood"),
            Expr::MemberOf(_) => stop("MEMBER OF is not understood"),
            Expr::IsJson { .. } => stop("IS JSON is not understood"),
            Expr::IsNormalized { .. } => stop("IS NORMALIZED is not understood"),
            Expr::InUnnest { .. } => stop("IN UNNEST is not understood"),
        }
    }

    /// A value computed from all of these.
    fn all<'e>(&mut self, exprs: impl IntoIterator<Item = &'e Expr>, scope: &Scope<'_>, ctes: &Ctes) -> Read<Lineage> {
        let mut lineage = Lineage::none();
        for expr in exprs {
            lineage.add(self.expr(expr, scope, ctes)?);
        }
        Ok(lineage.computed())
    }

    /// A row of operators is as deep as it is long, so its left spine is walked, not recursed into.
    fn binary(&mut self, expr: &Expr, scope: &Scope<'_>, ctes: &Ctes) -> Read<Lineage> {
        let mut lineage = Lineage::none();
        let mut at = expr;
        while let Expr::BinaryOp { left, op: _, right } = at {
            lineage.add(self.expr(right, scope, ctes)?);
            at = left;
        }
        lineage.add(self.expr(at, scope, ctes)?);
        Ok(lineage.computed())
    }

    /// A subquery as one value: its columns, decided by its rows.
    fn subquery(&mut self, query: &Query, scope: &Scope<'_>, ctes: &Ctes) -> Read<Lineage> {
        let in_match = std::mem::take(&mut self.in_match);
        let output = self.query(query, Some(scope), ctes);
        self.in_match = in_match;
        let output = output?;
        let mut lineage = Lineage { control: output.rows, ..Lineage::none() };
        for column in output.columns {
            lineage.add(column.lineage);
        }
        lineage.opaque |= output.open;
        Ok(lineage)
    }

    /// Whether `:name` is a value of the request's own.
    fn is_bound(&self, text: &str) -> bool {
        text.strip_prefix(':').is_some_and(|name| self.bound.contains(&name.to_ascii_uppercase()))
    }

    fn value(&mut self, value: &Value) -> Read<Lineage> {
        match value {
            Value::Number(_, _)
            | Value::SingleQuotedString(_)
            | Value::DollarQuotedString(_)
            | Value::HexStringLiteral(_)
            | Value::Boolean(_)
            | Value::Null => Ok(Lineage::none()),
            Value::Placeholder(text)
                if is_bind(text) || self.is_bound(text) || self.bodies.scripting && text.starts_with(':') =>
            {
                Ok(Lineage::none())
            }
            // A session variable holds what an earlier statement of the session put there.
            Value::Placeholder(text) if is_variable(text) => {
                self.touch(ObjectKind::Session, Name::new([text.to_ascii_uppercase()]), Effect::Read);
                Ok(Lineage::opaque())
            }
            Value::Placeholder(text) => {
                self.miss("variable or position", text);
                Ok(Lineage::opaque())
            }
            Value::TripleSingleQuotedString(_)
            | Value::TripleDoubleQuotedString(_)
            | Value::EscapedStringLiteral(_)
            | Value::UnicodeStringLiteral(_)
            | Value::SingleQuotedByteStringLiteral(_)
            | Value::DoubleQuotedByteStringLiteral(_)
            | Value::TripleSingleQuotedByteStringLiteral(_)
            | Value::TripleDoubleQuotedByteStringLiteral(_)
            | Value::SingleQuotedRawStringLiteral(_)
            | Value::DoubleQuotedRawStringLiteral(_)
            | Value::TripleSingleQuotedRawStringLiteral(_)
            | Value::TripleDoubleQuotedRawStringLiteral(_)
            | Value::NationalStringLiteral(_)
            | Value::QuoteDelimitedStringLiteral(_)
            | Value::NationalQuoteDelimitedStringLiteral(_)
            | Value::DoubleQuotedString(_) => stop("a literal of another database's form is not understood"),
        }
    }

    /// `a.b[0].c`: the leading dots are a column's name, the rest is a path into it.
    fn access(&mut self, root: &Expr, chain: &[AccessExpr], scope: &Scope<'_>, ctes: &Ctes) -> Read<Lineage> {
        let mut leading: Vec<&Ident> = match root {
            Expr::Identifier(ident) => vec![ident],
            Expr::CompoundIdentifier(idents) => idents.iter().collect(),
            _ => Vec::new(),
        };
        let mut rest = chain;
        if !leading.is_empty() {
            while let Some((AccessExpr::Dot(Expr::Identifier(ident)), after)) = rest.split_first() {
                leading.push(ident);
                rest = after;
            }
        }
        let mut lineage =
            if leading.is_empty() { self.expr(root, scope, ctes)? } else { self.column(&leading, scope)? };
        for element in rest {
            match element {
                AccessExpr::Dot(Expr::Identifier(_)) => {}
                AccessExpr::Dot(other) => lineage.add(self.expr(other, scope, ctes)?),
                AccessExpr::Subscript(Subscript::Index { index }) => lineage.add(self.expr(index, scope, ctes)?),
                AccessExpr::Subscript(Subscript::Slice { lower_bound, upper_bound, stride }) => {
                    for bound in [lower_bound, upper_bound, stride].into_iter().flatten() {
                        lineage.add(self.expr(bound, scope, ctes)?);
                    }
                }
            }
        }
        Ok(lineage.computed())
    }

    /// A call: known to be pure, or it does not resolve.
    pub(crate) fn function(&mut self, function: &Function, scope: &Scope<'_>, ctes: &Ctes) -> Read<Lineage> {
        let Function { name, uses_odbc_syntax: _, parameters, args, within_group, filter, null_treatment: _, over } =
            function;
        absent(!matches!(parameters, FunctionArguments::None), "a function with two lists of arguments")?;
        if let ([ObjectNamePart::Identifier(word)], FunctionArguments::List(list)) = (name.0.as_slice(), args)
            && names::is_identifier(word)
            && list.clauses.is_empty()
            && (within_group.is_empty() && filter.is_none() && over.is_none())
            && let Some(parts) = names::constant(&list.args)
        {
            let idents: Vec<Ident> =
                parts.into_iter().map(|part| Ident::with_quote('"', part.replace('"', "\"\""))).collect();
            return Ok(self.column(&idents.iter().collect::<Vec<_>>(), scope)?.computed());
        }
        let builtin = self.called(name);
        let mut lineage = Lineage::none();
        match args {
            FunctionArguments::None => {}
            FunctionArguments::Subquery(query) => lineage.add(self.subquery(query, scope, ctes)?),
            FunctionArguments::List(FunctionArgumentList { duplicate_treatment, args, clauses }) => {
                // `COUNT(*)` counts rows whatever is in them; `COUNT(DISTINCT *)` compares them.
                let distinct = matches!(duplicate_treatment, Some(DuplicateTreatment::Distinct));
                let of = builtin.as_deref().filter(|&name| !(distinct && name == "COUNT"));
                for arg in args {
                    lineage.add(self.argument(arg, of, scope, ctes)?);
                }
                for clause in clauses {
                    self.clause(clause, &mut lineage, scope, ctes)?;
                }
            }
        }
        for order in within_group {
            self.ordered(order, &mut lineage, scope, ctes)?;
        }
        if let Some(filter) = filter {
            lineage.decide(self.expr(filter, scope, ctes)?);
        }
        match over {
            None | Some(WindowType::NamedWindow(_)) => {}
            Some(WindowType::WindowSpec(spec)) => lineage.decide(self.window(spec, scope, ctes)?),
        }
        let aggregates = over.is_some() || builtin.as_deref().is_some_and(functions::is_aggregate);
        let mut lineage = lineage.computed();
        if aggregates {
            lineage.transformation = Transformation::Aggregation;
        }
        Ok(lineage)
    }

    /// Notes the function called; its folded name when it is built in.
    pub(crate) fn called(&mut self, name: &ObjectName) -> Option<String> {
        let Some(parts) = names::parts(name) else {
            self.miss("function", name);
            return None;
        };
        // `LIKE ALL (…)` and `LIKE ANY (…)`: a reserved word, so never a function.
        let bare = names::idents(name).is_some_and(|idents| idents.iter().all(|ident| ident.quote_style.is_none()));
        if let [word] = parts.as_slice()
            && bare
            && matches!(word.as_str(), "ALL" | "ANY")
        {
            return None;
        }
        if let [single] = parts.as_slice()
            && (functions::is_builtin(single) || bare && self.in_match && functions::is_of_match(single))
        {
            self.functions.insert(single.clone());
            return Some(single.clone());
        }
        let written = parts.join(".");
        if let Some(said) = self.reworded_call(parts.last()) {
            self.miss_said(said);
            return None;
        }
        // What a view sends is not said of who reads the view, so it stays unresolved there.
        if self.expanding.is_empty() && functions::is_sender(&parts) {
            // A model reads what it is given. Whoever wants that says so in the catalog, and then a policy is asked.
            let name = Name::new(parts);
            if self.catalog.function(&name) != Some(Nature::External) {
                self.miss("function", &written);
            }
            self.exports.insert(format!("{} {name}", ObjectKind::Function));
            self.touch(ObjectKind::Function, name, Effect::Export);
            self.functions.insert(written);
            return None;
        }
        let full = names::complete_in_schema(parts, &self.session).map(Name::new);
        match full.as_ref().and_then(|full| self.catalog.function(full)) {
            Some(Nature::Pure) => {}
            Some(Nature::Reads | Nature::External | Nature::Unknown) | None => self.miss("function", &written),
        }
        self.functions.insert(full.map_or(written, |full| full.to_string()));
        None
    }

    /// One argument; `builtin` is the function it is for.
    pub(crate) fn argument(
        &mut self,
        arg: &FunctionArg,
        builtin: Option<&str>,
        scope: &Scope<'_>,
        ctes: &Ctes,
    ) -> Read<Lineage> {
        let arg = match arg {
            FunctionArg::Named { name: _, arg, operator: _ } | FunctionArg::Unnamed(arg) => arg,
            FunctionArg::ExprNamed { .. } => return stop("an argument named by an expression is not understood"),
        };
        match arg {
            // `DATEADD(day, …)`: the word is a unit of time unless it is a column.
            FunctionArgExpr::Expr(Expr::Identifier(ident))
                if builtin.is_some_and(functions::takes_date_part) && functions::is_date_part(&ident.value) =>
            {
                Ok(self.find_column(&[ident], scope)?.unwrap_or_else(Lineage::none))
            }
            FunctionArgExpr::Expr(expr) => self.expr(expr, scope, ctes),
            FunctionArgExpr::Wildcard if builtin == Some("COUNT") => Ok(Lineage::none()),
            FunctionArgExpr::Wildcard | FunctionArgExpr::WildcardWithOptions(_) => Ok(self.everything(None, scope)),
            FunctionArgExpr::QualifiedWildcard(name) => {
                let parts = names::idents(name).and_then(|idents| Some((fold_all(&idents)?, idents)));
                match parts {
                    Some((parts, idents)) => Ok(self.everything(Some((&parts, &idents)), scope)),
                    None => stop("`.*` after something that is not a name"),
                }
            }
        }
    }

    /// Whether the expression was written `{*}`: in a text that was not reworded it is what it says.
    fn is_object_star(&self, expr: &Expr) -> bool {
        self.reworded.is_some() && is_object_star(expr)
    }

    /// `{*}` and what its words leave of it: one object of all the columns.
    fn object_star(&mut self, star: &Expr, picked: &Picked<'_>, scope: &Scope<'_>) -> Read<Lineage> {
        match star {
            Expr::CompoundIdentifier(idents) => {
                let idents: Vec<&Ident> = idents.iter().rev().skip(1).rev().collect();
                let Some(parts) = fold_all(&idents) else { return stop("`.*` after something that is not a name") };
                Ok(self.picked(Some((&parts, &idents)), picked, scope))
            }
            _ => Ok(self.picked(None, picked, scope)),
        }
    }

    /// Every column of the scope, or of one relation in it.
    fn everything(&mut self, of: Option<(&[String], &[&Ident])>, scope: &Scope<'_>) -> Lineage {
        self.picked(of, &Picked::All, scope)
    }

    fn picked(&mut self, of: Option<(&[String], &[&Ident])>, picked: &Picked<'_>, scope: &Scope<'_>) -> Lineage {
        let mut lineage = Lineage::none();
        let mut matched = false;
        for visible in &scope.visible {
            if let Some((qualifier, idents)) = of {
                if !visible.qualifier.ends_with(qualifier) {
                    continue;
                }
                self.note_prefix(visible.site, idents, 0);
            }
            matched = true;
            lineage.opaque |= visible.open;
            for column in &visible.columns {
                let taken = match picked {
                    Picked::All => true,
                    Picked::Like(pattern) => ilike(&column.name, pattern),
                    Picked::Without(names) => !names.iter().any(|name| *name == column.name),
                };
                if taken {
                    lineage.add(self.origin(&column.origin, visible.site));
                } else {
                    self.keep(column, visible.site);
                }
            }
        }
        if !matched {
            self.miss("column", "*");
            lineage.opaque = true;
        }
        lineage.computed()
    }

    fn clause(
        &mut self,
        clause: &FunctionArgumentClause,
        lineage: &mut Lineage,
        scope: &Scope<'_>,
        ctes: &Ctes,
    ) -> Read<()> {
        match clause {
            FunctionArgumentClause::IgnoreOrRespectNulls(_)
            | FunctionArgumentClause::Separator(_)
            | FunctionArgumentClause::OnOverflow(ListAggOnOverflow::Error) => Ok(()),
            FunctionArgumentClause::OrderBy(orders) => {
                orders.iter().try_for_each(|order| self.ordered(order, lineage, scope, ctes))
            }
            FunctionArgumentClause::Where(expr) | FunctionArgumentClause::Limit(expr) => {
                lineage.decide(self.expr(expr, scope, ctes)?);
                Ok(())
            }
            FunctionArgumentClause::OnOverflow(ListAggOnOverflow::Truncate { .. }) => {
                stop("ON OVERFLOW is not understood")
            }
            FunctionArgumentClause::Having(_) => stop("HAVING in a call is not understood"),
            FunctionArgumentClause::JsonNullClause(_) | FunctionArgumentClause::JsonReturningClause(_) => {
                stop("a JSON clause in a call is not understood")
            }
        }
    }

    fn ordered(&mut self, order: &OrderByExpr, lineage: &mut Lineage, scope: &Scope<'_>, ctes: &Ctes) -> Read<()> {
        let OrderByExpr { expr, options, with_fill } = order;
        check_order(options)?;
        absent(with_fill.is_some(), "WITH FILL")?;
        lineage.decide(self.expr(expr, scope, ctes)?);
        Ok(())
    }

    /// What decides a window's rows and their order.
    pub(crate) fn window(&mut self, spec: &WindowSpec, scope: &Scope<'_>, ctes: &Ctes) -> Read<Lineage> {
        let WindowSpec { window_name: _, partition_by, order_by, window_frame } = spec;
        let mut lineage = Lineage::none();
        for expr in partition_by {
            lineage.decide(self.expr(expr, scope, ctes)?);
        }
        for order in order_by {
            self.ordered(order, &mut lineage, scope, ctes)?;
        }
        if let Some(WindowFrame { units: _, start_bound, end_bound }) = window_frame {
            for bound in std::iter::once(start_bound).chain(end_bound) {
                match bound {
                    WindowFrameBound::CurrentRow => {}
                    WindowFrameBound::Preceding(expr) | WindowFrameBound::Following(expr) => {
                        if let Some(expr) = expr {
                            lineage.decide(self.expr(expr, scope, ctes)?);
                        }
                    }
                }
            }
        }
        Ok(lineage)
    }
}

/// Which of the columns a star stands for are in its object.
enum Picked<'a> {
    All,
    Like(&'a str),
    Without(&'a [String]),
}

/// What `{*}` is reworded to.
pub(crate) fn is_object_star(expr: &Expr) -> bool {
    match expr {
        Expr::Value(value) => matches!(&value.value, Value::Placeholder(text) if text == OBJECT_STAR),
        Expr::CompoundIdentifier(idents) => {
            idents.last().is_some_and(|last| last.quote_style.is_none() && last.value == OBJECT_STAR)
        }
        _ => false,
    }
}

fn bare(expr: &Expr) -> Read<String> {
    match expr {
        Expr::Identifier(ident) => match names::fold(ident) {
            Some(name) => Ok(name),
            None => stop("EXCLUDE of something that is not a name"),
        },
        _ => stop("EXCLUDE of something that is not a name"),
    }
}

/// `$name`, not `$1`.
fn is_variable(text: &str) -> bool {
    text.strip_prefix('$').is_some_and(|name| name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_'))
}

/// `$2` is a column by its place.
fn position(value: &Value) -> Option<&str> {
    match value {
        Value::Placeholder(text) => place(text),
        _ => None,
    }
}

/// The digits of `$2`.
pub(crate) fn place(text: &str) -> Option<&str> {
    let digits = text.strip_prefix('$')?;
    (!digits.is_empty() && !digits.starts_with('0') && digits.bytes().all(|byte| byte.is_ascii_digit()))
        .then_some(digits)
}

/// `?` and `:1` stand for values the driver sends along; `$x` does not, and `:x` where one is sent under that name.
fn is_bind(text: &str) -> bool {
    match text.strip_prefix(':') {
        Some(number) => !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()),
        None => text == "?",
    }
}
