//! INSERT, UPDATE, DELETE, MERGE, TRUNCATE.

use icegate_pdp_model::{Effect, ObjectKind, RelationName, Verb};
use sqlparser::ast::{
    Assignment, AssignmentTarget, Delete, Expr, FromTable, Insert, Merge, MergeAction, MergeClause, MergeClauseKind,
    MergeInsertExpr, MergeInsertKind, MergeUpdateExpr, MergeUpdateKind, MultiTableInsertIntoClause,
    MultiTableInsertValue, ObjectName, Query, TableAlias, TableFactor, TableObject, TableWithJoins, Truncate,
    TruncateTableTarget, Update, UpdateTableFromKind,
};

use crate::{
    names,
    reader::{Columns, Read, Reader, Role, absent, merge, stop},
    scope::{Ctes, Scope, decide_rows},
    statement::{After, Draft},
};

impl Reader<'_, '_> {
    pub(crate) fn insert(&mut self, insert: &Insert) -> Read<Draft> {
        let Insert {
            insert_token: _,
            optimizer_hints,
            or,
            ignore,
            into: _,
            table,
            table_alias,
            columns,
            overwrite: _,
            source,
            assignments,
            partitioned,
            after_columns,
            has_table_keyword,
            on,
            returning,
            output,
            replace_into,
            priority,
            insert_alias,
            settings,
            format_clause,
            multi_table_insert_type,
            multi_table_into_clauses,
            multi_table_when_clauses,
            multi_table_else_clause,
        } = insert;
        let foreign = !optimizer_hints.is_empty()
            || or.is_some()
            || *ignore
            || table_alias.is_some()
            || !assignments.is_empty()
            || partitioned.is_some()
            || !after_columns.is_empty()
            || *has_table_keyword
            || on.is_some()
            || returning.is_some()
            || output.is_some()
            || *replace_into
            || priority.is_some()
            || insert_alias.is_some()
            || settings.is_some()
            || format_clause.is_some();
        absent(foreign, "this form of INSERT")?;
        if multi_table_insert_type.is_some() {
            absent(!columns.is_empty(), "this form of INSERT into several tables")?;
            let clauses = || multi_table_when_clauses.iter().map(|clause| &clause.into_clauses);
            let into = clauses().chain(std::iter::once(multi_table_into_clauses)).chain(multi_table_else_clause);
            let into: Vec<&MultiTableInsertIntoClause> = into.flatten().collect();
            let conditions: Vec<&Expr> = multi_table_when_clauses.iter().map(|clause| &clause.condition).collect();
            return self.insert_several(source.as_deref(), &into, &conditions);
        }
        let single = multi_table_into_clauses.is_empty() && multi_table_when_clauses.is_empty();
        absent(!single || multi_table_else_clause.is_some(), "this form of INSERT")?;
        let name = match table {
            TableObject::TableName(name) => name,
            TableObject::TableFunction(_) | TableObject::TableQuery(_) => {
                return stop("INSERT into something that is not a name");
            }
        };
        let (target, scope) = self.target(name, None)?;
        for column in columns {
            self.assigned(column, &scope)?;
        }
        let Some(source) = source else { return stop("INSERT without rows is not understood") };
        let fed = self.query(source, None, &Ctes::default())?;
        let mut columns = fed.rows;
        for column in fed.columns {
            merge(&mut columns, column.lineage.all());
        }
        Ok(self.written(Verb::Insert, target, &columns))
    }

    /// `INSERT ALL` and `INSERT FIRST`: every row of the query may go into every one of the tables.
    fn insert_several(
        &mut self,
        source: Option<&Query>,
        into: &[&MultiTableInsertIntoClause],
        conditions: &[&Expr],
    ) -> Read<Draft> {
        let Some(source) = source else { return stop("INSERT without rows is not understood") };
        absent(into.is_empty(), "INSERT into no table")?;
        let ctes = Ctes::default();
        let fed = self.query(source, None, &ctes)?;
        let mut columns = fed.rows.clone();
        for column in &fed.columns {
            merge(&mut columns, column.lineage.clone().all());
        }
        let mut rows = Scope::default();
        let visible = self.derived(&fed, None, None)?;
        rows.visible.push(visible);
        for condition in conditions {
            decide_rows(&mut columns, self.expr(condition, &rows, &ctes)?);
        }
        let mut targets = Vec::with_capacity(into.len());
        for MultiTableInsertIntoClause { table_name, columns: assigned, values } in into {
            let (target, scope) = self.target(table_name, None)?;
            for column in assigned {
                self.assigned(&ObjectName::from(vec![column.clone()]), &scope)?;
            }
            for value in values.iter().flat_map(|values| &values.values) {
                match value {
                    MultiTableInsertValue::Expr(expr) => decide_rows(&mut columns, self.expr(expr, &rows, &ctes)?),
                    MultiTableInsertValue::Default => {}
                }
            }
            targets.extend(target);
        }
        let mut draft = Draft::verb(Verb::Insert);
        let columns = self.column_names(&columns);
        draft.after.extend(targets.into_iter().map(|target| After::Fed(target, columns.clone())));
        Ok(draft)
    }

    pub(crate) fn update(&mut self, update: &Update) -> Read<Draft> {
        let Update {
            update_token: _,
            optimizer_hints,
            table,
            assignments,
            from,
            selection,
            returning,
            output,
            or,
            order_by,
            limit,
        } = update;
        let foreign = !optimizer_hints.is_empty()
            || returning.is_some()
            || output.is_some()
            || or.is_some()
            || !order_by.is_empty()
            || limit.is_some();
        absent(foreign, "this form of UPDATE")?;
        absent(!table.joins.is_empty(), "UPDATE of joined tables")?;
        let (name, alias) = plain_table(&table.relation)?;
        let (target, mut scope) = self.target(name, alias)?;
        let mut rows = Columns::new();
        let ctes = Ctes::default();
        match from {
            None => {}
            Some(UpdateTableFromKind::AfterSet(from)) => self.from(from, true, &mut scope, &ctes, &mut rows)?,
            Some(UpdateTableFromKind::BeforeSet(_)) => return stop("FROM before SET is not understood"),
        }
        self.assignments(assignments, &scope, &ctes, &mut rows)?;
        if let Some(selection) = selection {
            decide_rows(&mut rows, self.expr(selection, &scope, &ctes)?);
        }
        Ok(self.written(Verb::Update, target, &rows))
    }

    pub(crate) fn delete(&mut self, delete: &Delete) -> Read<Draft> {
        let Delete {
            delete_token: _,
            optimizer_hints,
            tables,
            from,
            using,
            selection,
            returning,
            output,
            order_by,
            limit,
        } = delete;
        let foreign = !optimizer_hints.is_empty()
            || !tables.is_empty()
            || returning.is_some()
            || output.is_some()
            || !order_by.is_empty()
            || limit.is_some();
        absent(foreign, "this form of DELETE")?;
        let from = match from {
            FromTable::WithFromKeyword(from) => from,
            FromTable::WithoutKeyword(_) => return stop("DELETE without FROM is not understood"),
        };
        let [TableWithJoins { relation, joins }] = from.as_slice() else { return stop("DELETE from several tables") };
        absent(!joins.is_empty(), "DELETE from joined tables")?;
        let (name, alias) = plain_table(relation)?;
        let (target, mut scope) = self.target(name, alias)?;
        let mut rows = Columns::new();
        let ctes = Ctes::default();
        if let Some(using) = using {
            self.from(using, true, &mut scope, &ctes, &mut rows)?;
        }
        if let Some(selection) = selection {
            decide_rows(&mut rows, self.expr(selection, &scope, &ctes)?);
        }
        Ok(self.written(Verb::Delete, target, &rows))
    }

    pub(crate) fn merge_into(&mut self, merge: &Merge) -> Read<Draft> {
        let Merge { merge_token: _, optimizer_hints, into: _, table, source, on, clauses, output } = merge;
        absent(!optimizer_hints.is_empty() || output.is_some(), "this form of MERGE")?;
        let (name, alias) = plain_table(table)?;
        let (target, mut scope) = self.target(name, alias)?;
        let mut rows = Columns::new();
        let ctes = Ctes::default();
        self.factor(source, &mut scope, &ctes, &mut rows)?;
        self.contest(&scope);
        decide_rows(&mut rows, self.expr(on, &scope, &ctes)?);
        for MergeClause { when_token: _, clause_kind, predicate, action } in clauses {
            match clause_kind {
                MergeClauseKind::Matched | MergeClauseKind::NotMatched => {}
                MergeClauseKind::NotMatchedByTarget | MergeClauseKind::NotMatchedBySource => {
                    return stop("WHEN NOT MATCHED BY is not understood");
                }
            }
            if let Some(predicate) = predicate {
                decide_rows(&mut rows, self.expr(predicate, &scope, &ctes)?);
            }
            match action {
                MergeAction::Insert(MergeInsertExpr {
                    insert_token: _,
                    columns,
                    kind_token: _,
                    kind,
                    insert_predicate,
                }) => {
                    absent(insert_predicate.is_some(), "WHERE in a MERGE action")?;
                    for column in columns {
                        self.assigned(column, &scope)?;
                    }
                    match kind {
                        MergeInsertKind::Values(values) => {
                            for expr in values.rows.iter().flat_map(|row| &row.content) {
                                decide_rows(&mut rows, self.expr(expr, &scope, &ctes)?);
                            }
                        }
                        MergeInsertKind::Row | MergeInsertKind::Wildcard => {
                            return stop("INSERT ROW in MERGE is not understood");
                        }
                    }
                }
                MergeAction::Update(MergeUpdateExpr { update_token: _, kind, update_predicate, delete_predicate }) => {
                    absent(update_predicate.is_some() || delete_predicate.is_some(), "WHERE in a MERGE action")?;
                    match kind {
                        MergeUpdateKind::Set(assignments) => self.assignments(assignments, &scope, &ctes, &mut rows)?,
                        MergeUpdateKind::Wildcard => return stop("UPDATE * in MERGE is not understood"),
                    }
                }
                MergeAction::Delete { delete_token: _ } => {}
                MergeAction::DoNothing { .. } => return stop("DO NOTHING in MERGE is not understood"),
            }
        }
        Ok(self.written(Verb::Merge, target, &rows))
    }

    pub(crate) fn truncate(&mut self, truncate: &Truncate) -> Read<Draft> {
        let Truncate { table_names, partitions, table: _, if_exists: _, identity, cascade, on_cluster } = truncate;
        let foreign = partitions.is_some() || identity.is_some() || cascade.is_some() || on_cluster.is_some();
        absent(foreign, "this form of TRUNCATE")?;
        for TruncateTableTarget { name, only, has_asterisk } in table_names {
            absent(*only || *has_asterisk, "this form of TRUNCATE")?;
            self.target(name, None)?;
        }
        Ok(Draft::verb(Verb::Truncate))
    }

    /// The relation written to, and a scope in which its columns can be read.
    pub(crate) fn target(
        &mut self,
        name: &ObjectName,
        alias: Option<&TableAlias>,
    ) -> Read<(Option<RelationName>, Scope<'static>)> {
        let visible = self.relation(name, alias, Role::Target)?;
        let full = names::relation(name, &self.session);
        if let Some(full) = &full {
            self.touch_relation(full, ObjectKind::Table, Effect::Write);
        }
        Ok((full, Scope { parent: None, visible: vec![visible], aliases: Vec::new() }))
    }

    fn written(&mut self, verb: Verb, target: Option<RelationName>, columns: &Columns) -> Draft {
        let mut draft = Draft::verb(verb);
        if let Some(target) = target {
            let columns = self.column_names(columns);
            draft.after.push(After::Fed(target, columns));
        }
        draft
    }

    fn assignments(
        &mut self,
        assignments: &[Assignment],
        scope: &Scope<'_>,
        ctes: &Ctes,
        rows: &mut Columns,
    ) -> Read<()> {
        for Assignment { target, value } in assignments {
            match target {
                AssignmentTarget::ColumnName(name) => self.assigned(name, scope)?,
                AssignmentTarget::Tuple(_) => return stop("SET of several columns at once is not understood"),
            }
            decide_rows(rows, self.expr(value, scope, ctes)?);
        }
        Ok(())
    }

    /// A column written to must be the target's, but is not read.
    fn assigned(&mut self, name: &ObjectName, scope: &Scope<'_>) -> Read<()> {
        let Some(parts) = names::parts(name) else { return stop("a target column that is not a name") };
        let Some((column, qualifier)) = parts.split_last() else { return stop("a target column that is not a name") };
        let Some(target) = scope.visible.first() else { return Ok(()) };
        let known = target.open || target.columns.iter().any(|it| it.name == *column);
        if !known || !target.qualifier.ends_with(qualifier) {
            self.miss("column", parts.join("."));
        }
        Ok(())
    }
}

/// A table by name, with nothing but an alias.
fn plain_table(factor: &TableFactor) -> Read<(&ObjectName, Option<&TableAlias>)> {
    match factor {
        TableFactor::Table {
            name,
            alias,
            args: None,
            with_hints,
            version: None,
            with_ordinality: false,
            partitions,
            json_path: None,
            sample: None,
            index_hints,
        } if with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty() => Ok((name, alias.as_ref())),
        _ => stop("a target that is not a plain table name is not understood"),
    }
}
