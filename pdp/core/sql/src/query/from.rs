//! FROM: relations, joins, table functions.

use std::{collections::BTreeSet, sync::Arc};

use icegate_pdp_model::{CatalogRelation, ColumnName, EarlierColumn, Effect, ObjectKind, RelationName};
use smol_str::SmolStr;
use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Join, JoinConstraint, JoinOperator,
    ObjectName, ObjectNamePart, ObjectNamePartFunction, TableAlias, TableFactor, TableFunctionArgs, TableSample,
    TableSampleKind, TableSampleQuantity, TableVersion, TableWithJoins, Value,
};

use crate::{
    earlier::EarlierRelation,
    gate::{Token, Tokens},
    names,
    parse::Places,
    query::outside::is_description,
    reader::{Beyond, Columns, Lineage, Made, Output, OutputColumn, Read, Reader, Role, absent, merge, stop},
    scope::{Ctes, Origin, Scope, Visible, VisibleColumn, decide_rows},
};

impl<'a> Reader<'a, '_> {
    /// Adds a whole FROM clause to the scope.
    pub(crate) fn from(
        &mut self,
        from: &[TableWithJoins],
        has_where: bool,
        scope: &mut Scope<'_>,
        ctes: &Ctes,
        rows: &mut Columns,
    ) -> Read<()> {
        for (at, table) in from.iter().enumerate() {
            self.joined(table, scope, ctes, rows)?;
            if at > 0 && !has_where && !is_lateral(&table.relation) {
                self.cross_join = true;
            }
        }
        self.look_through(scope.visible.len().saturating_mul(scope.visible.len()))?;
        self.contest(scope);
        Ok(())
    }

    /// Relations that would answer to the same alias once they are replaced.
    pub(crate) fn contest(&mut self, scope: &Scope<'_>) {
        for (at, visible) in scope.visible.iter().enumerate() {
            let Some(site) = visible.site else { continue };
            let last = visible.qualifier.last();
            let twin = scope.visible.iter().enumerate().any(|(other, it)| other != at && it.qualifier.last() == last);
            if let Some(site) = self.sites.get_mut(site) {
                site.contested |= twin && !site.aliased;
            }
        }
    }

    pub(crate) fn joined(
        &mut self,
        table: &TableWithJoins,
        scope: &mut Scope<'_>,
        ctes: &Ctes,
        rows: &mut Columns,
    ) -> Read<()> {
        let TableWithJoins { relation, joins } = table;
        let first = scope.visible.len();
        self.factor(relation, scope, ctes, rows)?;
        for Join { relation, global, join_operator } in joins {
            absent(*global, "GLOBAL JOIN")?;
            let right = scope.visible.len();
            self.factor(relation, scope, ctes, rows)?;
            self.join(join_operator, is_lateral(relation), first, right, scope, ctes, rows)?;
        }
        Ok(())
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one join")]
    fn join(
        &mut self,
        operator: &JoinOperator,
        lateral: bool,
        first: usize,
        right: usize,
        scope: &mut Scope<'_>,
        ctes: &Ctes,
        rows: &mut Columns,
    ) -> Read<()> {
        let constraint = match operator {
            JoinOperator::Join(constraint)
            | JoinOperator::Inner(constraint)
            | JoinOperator::Left(constraint)
            | JoinOperator::LeftOuter(constraint)
            | JoinOperator::Right(constraint)
            | JoinOperator::RightOuter(constraint)
            | JoinOperator::FullOuter(constraint)
            | JoinOperator::CrossJoin(constraint) => constraint,
            JoinOperator::AsOf { match_condition, constraint } => {
                decide_rows(rows, self.expr(match_condition, scope, ctes)?);
                constraint
            }
            JoinOperator::Semi(_) | JoinOperator::LeftSemi(_) | JoinOperator::RightSemi(_) => {
                return stop("SEMI JOIN is not understood");
            }
            JoinOperator::Anti(_) | JoinOperator::LeftAnti(_) | JoinOperator::RightAnti(_) => {
                return stop("ANTI JOIN is not understood");
            }
            JoinOperator::CrossApply | JoinOperator::OuterApply => return stop("APPLY is not understood"),
            JoinOperator::StraightJoin(_) => return stop("STRAIGHT_JOIN is not understood"),
            JoinOperator::ArrayJoin | JoinOperator::LeftArrayJoin | JoinOperator::InnerArrayJoin => {
                return stop("ARRAY JOIN is not understood");
            }
        };
        match constraint {
            JoinConstraint::On(expr) => decide_rows(rows, self.expr(expr, scope, ctes)?),
            JoinConstraint::Using(columns) => {
                self.look_through(scope.size().saturating_mul(columns.len()))?;
                for column in columns {
                    match names::parts(column).as_deref() {
                        Some([.., name]) => self.merge_column(name, first, right, scope, rows),
                        _ => return stop("USING with something that is not a name"),
                    }
                }
            }
            JoinConstraint::Natural => {
                if scope.visible.iter().skip(first).any(|visible| visible.open && visible.silent) {
                    self.miss("column", "NATURAL JOIN of columns that are not known");
                }
                self.look_through(scope.size().saturating_mul(scope.size()))?;
                let (left, joined) = scope.visible.split_at(right);
                let common: Vec<SmolStr> = joined
                    .iter()
                    .flat_map(|visible| &visible.columns)
                    .filter(|column| {
                        left.iter().skip(first).any(|it| it.columns.iter().any(|other| other.name == column.name))
                    })
                    .map(|column| column.name.clone())
                    .collect();
                for name in common {
                    self.merge_column(&name, first, right, scope, rows);
                }
            }
            JoinConstraint::None => self.cross_join |= !lateral,
        }
        Ok(())
    }

    /// Reads the column on both sides; `*` shows it once.
    fn merge_column(&mut self, name: &str, first: usize, right: usize, scope: &mut Scope<'_>, rows: &mut Columns) {
        let (mut left_found, mut right_found) = (false, false);
        for at in first..scope.visible.len() {
            let Some(visible) = scope.visible.get_mut(at) else { continue };
            let site = visible.site;
            let found = if at < right { &mut left_found } else { &mut right_found };
            *found |= visible.open;
            for column in visible.columns.iter_mut().filter(|column| column.name == name) {
                *found = true;
                column.merged |= at >= right;
                decide_rows(rows, self.origin(&column.origin, site));
            }
        }
        if !(left_found && right_found) {
            self.miss("column", name);
        }
    }

    /// Adds one table factor to the scope.
    pub(crate) fn factor(
        &mut self,
        factor: &TableFactor,
        scope: &mut Scope<'_>,
        ctes: &Ctes,
        rows: &mut Columns,
    ) -> Read<()> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args,
                with_hints,
                version,
                with_ordinality,
                partitions,
                json_path,
                sample,
                index_hints,
            } => {
                absent(!with_hints.is_empty() || !index_hints.is_empty(), "a table hint")?;
                absent(*with_ordinality, "WITH ORDINALITY")?;
                absent(!partitions.is_empty(), "PARTITION")?;
                absent(json_path.is_some(), "a path after a table name")?;
                if let Some(stage) = self.staged(name)? {
                    absent(version.is_some(), "time travel of a stage")?;
                    let args = args.as_ref().map_or(&[][..], |TableFunctionArgs { args, settings: _ }| args);
                    self.qualified_read(None, sample.as_ref(), scope, ctes, rows)?;
                    return self.files(stage, args, alias.as_ref(), scope);
                }
                if let Some(TableFunctionArgs { args, settings }) = args {
                    absent(settings.is_some(), "SETTINGS")?;
                    absent(version.is_some() || sample.is_some(), "time travel or sampling of a table function")?;
                    let output = self.table_function(name, args, scope, ctes)?;
                    return self.add_called(&output, alias.as_ref(), scope, rows);
                }
                let site = self.table(name, alias.as_ref(), version.is_some(), scope, ctes, rows)?;
                let qualified = self.qualified_read(version.as_ref(), sample.as_ref(), scope, ctes, rows)?;
                // Behind an alias it samples what the alias stands for.
                let outside = version.is_none() && matches!(sample, Some(TableSampleKind::AfterTableAlias(_)));
                let changes = matches!(version, Some(TableVersion::Changes { .. }));
                let added = if changes { with_changes(scope) } else { &[] };
                let places = self.places;
                if let Some(site) = site.and_then(|site| self.sites.get_mut(site)) {
                    let name_end = site.name.as_ref().map(|name| name.end);
                    site.added = added;
                    site.clause_end = match (qualified, places, name_end) {
                        (Some(_), Some(places), Some(end)) => moving_clause(places, end),
                        _ => None,
                    };
                    site.qualified = qualified.filter(|_| site.clause_end.is_none() && !outside);
                }
                Ok(())
            }
            TableFactor::Derived { lateral, subquery, alias, sample } => {
                let output = if *lateral {
                    self.query(subquery, Some(scope), ctes)?
                } else {
                    self.query(subquery, scope.parent, ctes)?
                };
                self.qualified_read(None, sample.as_ref(), scope, ctes, rows)?;
                self.add_derived(&output, None, alias.as_ref(), scope, rows)
            }
            TableFactor::TableFunction { expr: Expr::Value(value), alias }
                if matches!(value.value, Value::SingleQuotedString(_)) =>
            {
                // `TABLE('name')` is the relation of that name.
                let arg = FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value.clone())));
                let name = ObjectNamePartFunction { name: Ident::new("IDENTIFIER"), args: vec![arg] };
                let name = ObjectName(vec![ObjectNamePart::Function(name)]);
                self.table(&name, alias.as_ref(), false, scope, ctes, rows)?;
                Ok(())
            }
            TableFactor::TableFunction { expr, alias } => {
                let output = match expr {
                    Expr::Function(Function { name, args: FunctionArguments::List(list), .. })
                        if list.clauses.is_empty() =>
                    {
                        self.table_function(name, &list.args, scope, ctes)?
                    }
                    _ => {
                        self.miss("table", "TABLE(…) of something that is not a known table function");
                        open_output()
                    }
                };
                self.add_called(&output, alias.as_ref(), scope, rows)
            }
            TableFactor::Function { lateral: _, name, args, with_ordinality, alias } => {
                absent(*with_ordinality, "WITH ORDINALITY")?;
                let output = self.table_function(name, args, scope, ctes)?;
                self.add_called(&output, alias.as_ref(), scope, rows)
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                absent(alias.is_some(), "an alias of joined relations")?;
                self.joined(table_with_joins, scope, ctes, rows)
            }
            TableFactor::Pivot { .. } => self.pivot(factor, scope, ctes, rows),
            TableFactor::Unpivot { .. } => self.unpivot(factor, scope, ctes, rows),
            TableFactor::MatchRecognize { .. } => self.match_recognize(factor, scope, ctes, rows),
            TableFactor::UnpivotExpr { .. } => stop("UNPIVOT of an expression is not understood"),
            TableFactor::UNNEST { .. } => stop("UNNEST is not understood"),
            TableFactor::JsonTable { .. } | TableFactor::OpenJsonTable { .. } => stop("JSON_TABLE is not understood"),
            TableFactor::XmlTable { .. } => stop("XMLTABLE is not understood"),
            TableFactor::SemanticView { .. } => self.semantic_view(factor, scope, rows),
        }
    }

    /// Time travel where no rows are read.
    pub(crate) fn travelled(&mut self, version: Option<&TableVersion>) -> Read<()> {
        let mut rows = Columns::new();
        self.qualified_read(version, None, &Scope::default(), &Ctes::default(), &mut rows)?;
        Ok(())
    }

    /// Time travel and sampling: what their arguments read, and the word for them.
    fn qualified_read(
        &mut self,
        version: Option<&TableVersion>,
        sample: Option<&TableSampleKind>,
        scope: &Scope<'_>,
        ctes: &Ctes,
        rows: &mut Columns,
    ) -> Read<Option<&'static str>> {
        let outside = Scope::inside(scope.parent);
        let mut exprs: Vec<&Expr> = Vec::new();
        match version {
            None => {}
            Some(
                TableVersion::ForSystemTimeAsOf(_) | TableVersion::TimestampAsOf(_) | TableVersion::VersionAsOf(_),
            ) => {
                return stop("time travel with AS OF is not understood");
            }
            Some(TableVersion::Function(expr)) => exprs.push(expr),
            Some(TableVersion::Changes { changes, at, end }) => exprs.extend([changes, at].into_iter().chain(end)),
        }
        for expr in exprs {
            // `AT(TIMESTAMP => …)`: the word is no function, its arguments are expressions.
            let Expr::Function(Function { args: FunctionArguments::List(list), .. }) = expr else {
                return stop("this form of time travel is not understood");
            };
            for arg in &list.args {
                match arg {
                    FunctionArg::Named { name, arg: FunctionArgExpr::Expr(value), operator: _ } => {
                        if !name.value.eq_ignore_ascii_case("information") {
                            decide_rows(rows, self.expr(value, &outside, ctes)?);
                        }
                    }
                    FunctionArg::Named { .. } | FunctionArg::ExprNamed { .. } | FunctionArg::Unnamed(_) => {
                        return stop("this form of time travel is not understood");
                    }
                }
            }
        }
        if let Some(TableSampleKind::BeforeTableAlias(sample) | TableSampleKind::AfterTableAlias(sample)) = sample {
            let TableSample { modifier: _, name: _, quantity, seed: _, bucket, offset } = &**sample;
            absent(bucket.is_some() || offset.is_some(), "SAMPLE with BUCKET or OFFSET")?;
            if let Some(TableSampleQuantity { parenthesized: _, value, unit: _ }) = quantity {
                decide_rows(rows, self.expr(value, &outside, ctes)?);
            }
        }
        Ok(match (version, sample) {
            (Some(_), _) => Some("time travel"),
            (None, Some(_)) => Some("SAMPLE"),
            (None, None) => None,
        })
    }

    /// Adds a table, view or CTE; gives its site when it is catalogued.
    fn table(
        &mut self,
        name: &ObjectName,
        alias: Option<&TableAlias>,
        travels: bool,
        scope: &mut Scope<'_>,
        ctes: &Ctes,
        rows: &mut Columns,
    ) -> Read<Option<usize>> {
        if let Some([single]) = names::parts(name).as_deref()
            && !travels
            && let Some(output) = ctes.get(single)
        {
            // Whether a computed name can mean a common table expression is not sure.
            absent(names::idents(name).is_none(), "a computed name that a common table expression has too")?;
            self.ctes_read.insert(Arc::as_ptr(&output).addr());
            self.add_derived(&output, Some(single.clone()), alias, scope, rows)?;
            if self.shown.contains(single)
                && let Some(visible) = scope.visible.last_mut()
            {
                visible.silent = false;
            }
            return Ok(None);
        }
        let visible = self.relation(name, alias, Role::Source)?;
        let site = visible.site;
        if let Some(view) =
            site.and_then(|site| self.known.get(self.sites.get(site)?.known)).and_then(|known| known.view.clone())
        {
            // Which rows a view has is decided by its own text, read or not.
            self.columns_read.unite(&view.rows);
            rows.unite(&view.rows);
        }
        scope.visible.push(visible);
        Ok(site)
    }

    /// A relation by name: as catalogued, as made earlier in the request, or as the session has it for itself.
    pub(crate) fn relation(&mut self, name: &ObjectName, alias: Option<&TableAlias>, role: Role) -> Read<Visible> {
        let Some(full) = names::relation(name, &self.session) else {
            self.miss("relation", describe(name));
            let mut visible = unknown(Vec::new());
            visible.qualifier = names::parts(name).unwrap_or_default();
            self.rename(&mut visible, alias)?;
            return Ok(visible);
        };
        let (catalog, earlier) = (self.catalog, self.earlier);
        let (entry, temporary) = (catalog.relation(&full), earlier.relations.get(&full));
        if role != Role::Target {
            self.relations.insert(full.clone());
            // A description of the warehouse, as SHOW gives it, and no data.
            let described = entry.is_none() && temporary.is_none() && is_description(&full);
            let (kind, effect) =
                if described { (ObjectKind::View, Effect::Metadata) } else { (ObjectKind::Table, Effect::Read) };
            self.touch_relation(&full, kind, effect);
        }
        let mut visible = match (self.request.made(&full), entry, temporary) {
            (Some(Made::Columns(columns)), _, _) => {
                let mut made = Vec::with_capacity(columns.len());
                for (name, sources) in &columns {
                    made.push(self.made_column(name, sources, false));
                }
                Visible { open: false, ..unknown(made) }
            }
            // Writing needs no columns to be known; reading one of them would.
            (Some(Made::Unsure), _, _) if role == Role::Target => Visible { silent: true, ..unknown(Vec::new()) },
            (Some(Made::Unsure), entry, _) => {
                self.miss("relation", format_args!("{full}: it was changed earlier in the same request"));
                let beyond = match entry {
                    Some(_) => Beyond::default(),
                    None => Beyond::one(full.clone()),
                };
                Visible { beyond, ..unknown(Vec::new()) }
            }
            // Which of the two the warehouse takes is not for a guess: the temporary one may be gone again, unseen.
            (None, Some(_), Some(_)) => {
                let why = "a temporary relation of the session has the same name; give that one a name of its own";
                self.miss("relation", format_args!("{full}: {why}"));
                unknown(Vec::new())
            }
            (None, Some(entry), None) => self.entered(&full, entry, name, alias.is_some(), role)?,
            (None, None, Some(Ok(EarlierRelation::View(entry)))) => {
                self.entered(&full, entry, name, alias.is_some(), role)?
            }
            (None, None, Some(Ok(EarlierRelation::Rows(rows)))) => {
                if role != Role::Target {
                    self.read_again(rows);
                }
                let columns = rows.columns.as_deref().unwrap_or_default();
                self.look_through(columns.len())?;
                let mut stored = Vec::with_capacity(columns.len());
                for EarlierColumn { name, sources, opaque } in columns {
                    stored.push(self.made_column(name, sources, *opaque));
                }
                Visible { open: rows.columns.is_none(), ..unknown(stored) }
            }
            (None, None, Some(Err(why))) => {
                self.miss("relation", format_args!("{full}: {why}"));
                Visible { beyond: Beyond::one(full.clone()), ..unknown(Vec::new()) }
            }
            (None, None, None) if role == Role::Source && is_description(&full) => unknown(Vec::new()),
            (None, None, None) => {
                self.miss("relation", &full);
                Visible { beyond: Beyond::one(full.clone()), ..unknown(Vec::new()) }
            }
        };
        visible.qualifier = vec![full.database, full.schema, full.name];
        self.rename(&mut visible, alias)?;
        Ok(visible)
    }

    /// A relation that has an entry, named at a place of its own.
    fn entered(
        &mut self,
        full: &RelationName,
        entry: &'a CatalogRelation,
        name: &ObjectName,
        aliased: bool,
        role: Role,
    ) -> Read<Visible> {
        self.look_through(entry.columns.len())?;
        let known = self.know(full, entry);
        let columns = entry.columns.iter().enumerate().map(|(column, it)| VisibleColumn {
            name: it.name.as_str().into(),
            origin: Origin::Catalogued { known, column },
            merged: false,
        });
        let columns = columns.collect();
        let site = self.site(known, role, name, aliased);
        Ok(Visible { site: Some(site), open: false, ..unknown(columns) })
    }

    /// A column that an earlier statement stored.
    fn made_column(&mut self, name: &str, sources: &BTreeSet<ColumnName>, opaque: bool) -> VisibleColumn {
        let lineage = Lineage { sources: self.column_ids(sources), opaque, ..Lineage::none() };
        VisibleColumn { name: name.into(), origin: Origin::Made(Box::new(lineage)), merged: false }
    }

    /// What a table function gives; that its columns are not known was said, or a policy decides on it by its name.
    fn add_called(
        &mut self,
        output: &Output,
        alias: Option<&TableAlias>,
        scope: &mut Scope<'_>,
        rows: &mut Columns,
    ) -> Read<()> {
        merge(rows, output.rows.clone());
        let mut visible = self.derived(output, None, alias)?;
        visible.silent = false;
        scope.visible.push(visible);
        Ok(())
    }

    pub(crate) fn add_derived(
        &mut self,
        output: &Output,
        name: Option<String>,
        alias: Option<&TableAlias>,
        scope: &mut Scope<'_>,
        rows: &mut Columns,
    ) -> Read<()> {
        merge(rows, output.rows.clone());
        let visible = self.derived(output, name, alias)?;
        scope.visible.push(visible);
        Ok(())
    }

    /// A table function: a few are known, the rest do not resolve.
    fn table_function(
        &mut self,
        name: &ObjectName,
        args: &[FunctionArg],
        scope: &Scope<'_>,
        ctes: &Ctes,
    ) -> Read<Output> {
        if let Some(output) = self.directory(name, args)? {
            return Ok(output);
        }
        if let Some(output) = self.infer_schema(name, args)? {
            return Ok(output);
        }
        if let Some(output) = self.result_scan(name, args) {
            return Ok(output);
        }
        let mut input = Lineage::none();
        for arg in args {
            input.add(self.argument(arg, None, scope, ctes)?);
        }
        let parts = names::parts(name).unwrap_or_default();
        let function = match parts.as_slice() {
            [single] => single.clone(),
            _ => String::new(),
        };
        let columns: &[&str] = match function.as_str() {
            "FLATTEN" => &["SEQ", "KEY", "PATH", "INDEX", "VALUE", "THIS"],
            "SPLIT_TO_TABLE" | "STRTOK_SPLIT_TO_TABLE" => &["SEQ", "INDEX", "VALUE"],
            "GENERATOR" => &[],
            _ => {
                match self.reworded_call(parts.last()) {
                    Some(said) => self.miss_said(said),
                    None => self.miss("function", describe(name)),
                }
                return Ok(open_output());
            }
        };
        self.functions.insert(function);
        let rows = input.clone().all();
        let input = input.computed();
        let columns =
            columns.iter().map(|&name| OutputColumn { name: name.to_owned(), lineage: input.clone() }).collect();
        Ok(Output { columns, rows, ..Output::default() })
    }
}

/// What CHANGES adds to a relation's columns: what was done to a row, and no value of it (Snowflake docs, "CHANGES", read
/// 2026-11).
const CHANGE_COLUMNS: &[&str] = &["METADATA$ACTION", "METADATA$ISUPDATE", "METADATA$ROW_ID"];

/// The relation that was named last has them, too.
fn with_changes(scope: &mut Scope<'_>) -> &'static [&'static str] {
    if let Some(visible) = scope.visible.last_mut() {
        let origin = || Origin::Derived(Box::new(Lineage::none()));
        let added = CHANGE_COLUMNS.iter();
        visible.columns.extend(added.map(|&name| VisibleColumn { name: name.into(), origin: origin(), merged: false }));
    }
    CHANGE_COLUMNS
}

/// Where the clause ends that stands right behind a place: this word and what is in brackets.
pub(crate) fn clause_of(word: &str, places: &Places<'_>, start: usize) -> Option<usize> {
    let mut tokens = Tokens::of(places.after(start)?);
    tokens.next().ok()?.filter(|token| token.text.eq_ignore_ascii_case(word))?;
    let mut depth = 0_usize;
    while let Some(token) = tokens.next().ok()? {
        match token.text {
            "(" => depth += 1,
            ")" if depth == 1 => return Some(start + token.end()),
            ")" => depth = depth.checked_sub(1)?,
            _ if depth == 0 => return None,
            _ => {}
        }
    }
    None
}

/// Where the time travel, changes and sampling end that stand right behind a name.
fn moving_clause(places: &Places<'_>, name_end: usize) -> Option<usize> {
    let mut tokens = Tokens::of(places.after(name_end)?);
    let mut next = || tokens.next().ok().flatten();
    let among = |token: Option<Token<'_>>, words: &[&str]| {
        token.is_some_and(|token| words.iter().any(|word| token.text.eq_ignore_ascii_case(word)))
    };
    let mut end = None;
    let mut due = next();
    loop {
        if among(due, &["SAMPLE", "TABLESAMPLE"]) {
            due = next();
            if among(due, &["BERNOULLI", "SYSTEM", "ROW", "BLOCK"]) {
                due = next();
            }
        } else if among(due, &["CHANGES", "AT", "BEFORE", "END", "SEED", "REPEATABLE"]) {
            due = next();
        } else {
            return end;
        }
        let mut depth = 0_usize;
        loop {
            let token = due?;
            match token.text {
                "(" => depth += 1,
                ")" => depth = depth.checked_sub(1)?,
                _ if depth == 0 => return None,
                _ => {}
            }
            due = next();
            if depth == 0 {
                end = Some(name_end + token.end());
                break;
            }
        }
    }
}

fn is_lateral(factor: &TableFactor) -> bool {
    match factor {
        TableFactor::Derived { lateral, .. } => *lateral,
        TableFactor::Table { args, .. } => args.is_some(),
        // `TABLE('name')` is a relation like any other.
        TableFactor::TableFunction { expr, .. } => !matches!(expr, Expr::Value(_)),
        TableFactor::Function { .. } => true,
        _ => false,
    }
}

pub(crate) fn open_output() -> Output {
    Output { open: true, ..Output::default() }
}

/// A name that has no full form, as written.
pub(crate) fn describe(name: &ObjectName) -> String {
    match names::parts(name) {
        Some(parts) => parts.join("."),
        None => name.to_string(),
    }
}

/// A relation with these columns, and others that nobody knows.
fn unknown(columns: Vec<VisibleColumn>) -> Visible {
    Visible { qualifier: Vec::new(), columns, site: None, open: true, beyond: Beyond::default(), silent: false }
}
