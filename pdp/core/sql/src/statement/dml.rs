//! INSERT, UPDATE, DELETE, MERGE, TRUNCATE.

use icegate_pdp_model::{Effect, ObjectKind, RelationName, Verb};
use sqlparser::ast::{
    Assignment, AssignmentTarget, Delete, Expr, FromTable, Insert, Merge, MergeAction, MergeClause, MergeClauseKind,
    MergeInsertExpr, MergeInsertKind, MergeUpdateExpr, MergeUpdateKind, MultiTableInsertIntoClause,
    MultiTableInsertValue, ObjectName, Query, Statement, TableAlias, TableFactor, TableObject, TableWithJoins,
    Truncate, TruncateTableTarget, Update, UpdateTableFromKind,
};

use crate::{
    earlier::EarlierRelation,
    names,
    reader::{Lineage, Made, Output, OutputColumn, Read, Reader, Role, absent, merge, stop},
    scope::{Ctes, Scope, decide_rows},
    statement::{After, Draft, Stored},
};

impl Reader<'_, '_> {
    pub(crate) fn insert(&mut self, insert: &Insert, ctes: &Ctes) -> Read<Draft> {
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
            has_table_keyword: _,
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
            // Each target with how many of the conditions, from the first on, decide what goes there.
            let mut into: Vec<(&MultiTableInsertIntoClause, usize)> = Vec::new();
            into.extend(multi_table_into_clauses.iter().map(|clause| (clause, 0)));
            for (clause, conditions) in multi_table_when_clauses.iter().zip(1..) {
                into.extend(clause.into_clauses.iter().map(|clause| (clause, conditions)));
            }
            let others = multi_table_else_clause.iter().flatten();
            into.extend(others.map(|clause| (clause, multi_table_when_clauses.len())));
            let conditions: Vec<&Expr> = multi_table_when_clauses.iter().map(|clause| &clause.condition).collect();
            return self.insert_several(source.as_deref(), &into, &conditions, ctes);
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
        let listed = columns.iter().filter_map(|column| names::parts(column)?.pop()).collect();
        let Some(source) = source else { return stop("INSERT without rows is not understood") };
        let fed = self.query(source, None, ctes)?;
        let named = stored_names(listed, &scope, fed);
        let verb = if self.reworded.is_some_and(|reworded| reworded.loads) { Verb::CopyLoad } else { Verb::Insert };
        let mut draft = self.storing(verb, target.clone(), named);
        if verb == Verb::CopyLoad {
            self.formats();
            // What a file holds is not known.
            draft.after = target.map(After::Loaded).into_iter().collect();
        }
        Ok(draft)
    }

    /// `INSERT ALL` and `INSERT FIRST`: every row of the query may go into every one of the tables.
    fn insert_several(
        &mut self,
        source: Option<&Query>,
        into: &[(&MultiTableInsertIntoClause, usize)],
        conditions: &[&Expr],
        ctes: &Ctes,
    ) -> Read<Draft> {
        let Some(source) = source else { return stop("INSERT without rows is not understood") };
        absent(into.is_empty(), "INSERT into no table")?;
        let fed = self.query(source, None, ctes)?;
        let mut rows = Scope::default();
        let visible = self.derived(&fed, None, None)?;
        rows.visible.push(visible);
        // What decides, up to each condition.
        let mut deciding = vec![fed.rows.clone()];
        for condition in conditions {
            let mut next = deciding.last().cloned().unwrap_or_default();
            decide_rows(&mut next, self.expr(condition, &rows, ctes)?);
            deciding.push(next);
        }
        let mut draft = Draft::verb(Verb::Insert);
        for (MultiTableInsertIntoClause { table_name, columns: assigned, values }, conditions) in into {
            let (target, scope) = self.target(table_name, None)?;
            let mut listed = Vec::with_capacity(assigned.len());
            for column in assigned {
                self.assigned(&ObjectName::from(vec![column.clone()]), &scope)?;
                listed.extend(names::fold(column));
            }
            let mut output =
                Output { rows: deciding.get(*conditions).cloned().unwrap_or_default(), ..Output::default() };
            match values {
                None => {
                    output.columns.clone_from(&fed.columns);
                    output.open = fed.open;
                    output.beyond = fed.beyond.clone();
                }
                Some(values) => {
                    for (value, place) in values.values.iter().zip(1..) {
                        let lineage = match value {
                            MultiTableInsertValue::Expr(expr) => self.expr(expr, &rows, ctes)?,
                            MultiTableInsertValue::Default => Lineage::none(),
                        };
                        output.columns.push(OutputColumn { name: format!("COLUMN{place}"), lineage });
                    }
                }
            }
            let one = self.storing(Verb::Insert, target, stored_names(listed, &scope, output));
            draft.stored.extend(one.stored);
            draft.after.extend(one.after);
        }
        Ok(draft)
    }

    /// `WITH … INSERT`: the expressions in front are those of its query.
    pub(crate) fn written_with(&mut self, query: &Query, statement: &Statement) -> Read<Draft> {
        let Query { with, body: _, order_by, limit_clause, fetch, .. } = query;
        absent(order_by.is_some() || limit_clause.is_some() || fetch.is_some(), "ORDER or LIMIT of a statement")?;
        let none = Ctes::default();
        let ctes = match with {
            Some(with) => self.with(with, None, &none)?,
            None => none,
        };
        match statement {
            Statement::Insert(insert) => self.insert(insert, &ctes),
            Statement::Update(update) => self.update(update, &ctes),
            Statement::Delete(delete) => self.delete(delete, &ctes),
            Statement::Merge(merge) => self.merge_into(merge, &ctes),
            _ => stop("this statement behind WITH is not understood"),
        }
    }

    pub(crate) fn update(&mut self, update: &Update, ctes: &Ctes) -> Read<Draft> {
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
        let (target, mut scope) = self.changed(name, alias)?;
        let mut output = Output::default();
        match from {
            None => {}
            Some(UpdateTableFromKind::AfterSet(from) | UpdateTableFromKind::BeforeSet(from)) => {
                self.from(from, true, &mut scope, ctes, &mut output.rows)?;
            }
        }
        self.assignments(assignments, &scope, ctes, &mut output)?;
        if let Some(selection) = selection {
            decide_rows(&mut output.rows, self.expr(selection, &scope, ctes)?);
        }
        self.note_change(&scope, selection.as_ref(), None);
        Ok(self.storing(Verb::Update, target, output))
    }

    pub(crate) fn delete(&mut self, delete: &Delete, ctes: &Ctes) -> Read<Draft> {
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
            FromTable::WithFromKeyword(from) | FromTable::WithoutKeyword(from) => from,
        };
        let [TableWithJoins { relation, joins }] = from.as_slice() else { return stop("DELETE from several tables") };
        absent(!joins.is_empty(), "DELETE from joined tables")?;
        let (name, alias) = plain_table(relation)?;
        let (target, mut scope) = self.changed(name, alias)?;
        let mut output = Output::default();
        if let Some(using) = using {
            self.from(using, true, &mut scope, ctes, &mut output.rows)?;
        }
        if let Some(selection) = selection {
            decide_rows(&mut output.rows, self.expr(selection, &scope, ctes)?);
        }
        self.note_change(&scope, selection.as_ref(), None);
        Ok(self.storing(Verb::Delete, target, output))
    }

    pub(crate) fn merge_into(&mut self, merge: &Merge, ctes: &Ctes) -> Read<Draft> {
        let Merge { merge_token: _, optimizer_hints, into: _, table, source, on, clauses, output } = merge;
        absent(!optimizer_hints.is_empty() || output.is_some(), "this form of MERGE")?;
        let (name, alias) = plain_table(table)?;
        let (target, mut scope) = self.changed(name, alias)?;
        let mut output = Output::default();
        self.factor(source, &mut scope, ctes, &mut output.rows)?;
        self.contest(&scope);
        decide_rows(&mut output.rows, self.expr(on, &scope, ctes)?);
        let adds = clauses.iter().any(|clause| matches!(clause.action, MergeAction::Insert(_)));
        self.note_change(&scope, Some(on), Some(adds));
        for MergeClause { when_token: _, clause_kind, predicate, action } in clauses {
            match clause_kind {
                MergeClauseKind::Matched | MergeClauseKind::NotMatched => {}
                MergeClauseKind::NotMatchedByTarget | MergeClauseKind::NotMatchedBySource => {
                    return stop("WHEN NOT MATCHED BY is not understood");
                }
            }
            if let Some(predicate) = predicate {
                decide_rows(&mut output.rows, self.expr(predicate, &scope, ctes)?);
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
                            let mut inserted = Output::default();
                            for row in &values.rows {
                                for (expr, place) in row.content.iter().zip(1..) {
                                    let lineage = self.expr(expr, &scope, ctes)?;
                                    inserted.columns.push(OutputColumn { name: format!("COLUMN{place}"), lineage });
                                }
                            }
                            let listed = columns.iter().filter_map(|column| names::parts(column)?.pop()).collect();
                            for column in stored_names(listed, &scope, inserted).columns {
                                put(&mut output, column.name, column.lineage);
                            }
                        }
                        MergeInsertKind::Wildcard => self.all_by_name(&scope, &mut output),
                        MergeInsertKind::Row => return stop("INSERT ROW in MERGE is not understood"),
                    }
                }
                MergeAction::Update(MergeUpdateExpr { update_token: _, kind, update_predicate, delete_predicate }) => {
                    absent(update_predicate.is_some() || delete_predicate.is_some(), "WHERE in a MERGE action")?;
                    match kind {
                        MergeUpdateKind::Set(assignments) => {
                            self.assignments(assignments, &scope, ctes, &mut output)?;
                        }
                        MergeUpdateKind::Wildcard => self.all_by_name(&scope, &mut output),
                    }
                }
                MergeAction::Delete { delete_token: _ } => {}
                MergeAction::DoNothing { .. } => return stop("DO NOTHING in MERGE is not understood"),
            }
        }
        Ok(self.storing(Verb::Merge, target, output))
    }

    /// `UPDATE ALL BY NAME`: every column of the source goes into the target's column of its name.
    fn all_by_name(&mut self, scope: &Scope<'_>, output: &mut Output) {
        let Some((target, sources)) = scope.visible.split_first() else { return };
        for source in sources {
            output.open |= source.open;
            self.read_all(&source.beyond);
            output.beyond.add(&source.beyond);
            for column in &source.columns {
                if !target.open && !target.columns.iter().any(|it| it.name == column.name) {
                    self.miss("column", &column.name);
                }
                let lineage = self.origin(&column.origin, source.site);
                put(output, column.name.to_string(), lineage);
            }
        }
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

    /// The same where its rows are changed or removed: also what an earlier statement of the request made unsure is known then.
    fn changed(
        &mut self,
        name: &ObjectName,
        alias: Option<&TableAlias>,
    ) -> Read<(Option<RelationName>, Scope<'static>)> {
        let (target, mut scope) = self.target(name, alias)?;
        let (Some(full), [visible]) = (&target, scope.visible.as_mut_slice()) else { return Ok((target, scope)) };
        if self.request.may_be_another(full) {
            self.miss("relation", format_args!("{full}: it was changed earlier in the same request"));
        } else if let (Some(Ok(EarlierRelation::Rows(rows))), None) =
            (self.earlier.relations.get(full), self.request.made(full))
        {
            // Which rows are changed may depend on any value in it.
            self.read_again(rows);
        } else if visible.site.is_none()
            && self.request.made(full) == Some(Made::Unsure)
            && let Some(entry) = self.catalog.relation(full)
        {
            let known = self.know(full, entry);
            visible.site = Some(self.site(known, Role::Target, name, alias.is_some()));
        }
        Ok((target, scope))
    }

    /// A statement that stores these columns, for the rows that were decided on.
    fn storing(&mut self, verb: Verb, target: Option<RelationName>, output: Output) -> Draft {
        let mut draft = Draft::verb(verb);
        if let Some(target) = target {
            let mut columns = output.rows.clone();
            for column in &output.columns {
                merge(&mut columns, column.lineage.clone().all());
            }
            draft.after.push(After::Fed(target.clone(), self.column_names(&columns)));
            draft.stored.push(Stored { target, output });
        }
        draft
    }

    fn assignments(
        &mut self,
        assignments: &[Assignment],
        scope: &Scope<'_>,
        ctes: &Ctes,
        output: &mut Output,
    ) -> Read<()> {
        for Assignment { target, value } in assignments {
            let name = match target {
                AssignmentTarget::ColumnName(name) => name,
                AssignmentTarget::Tuple(_) => return stop("SET of several columns at once is not understood"),
            };
            self.assigned(name, scope)?;
            let lineage = self.expr(value, scope, ctes)?;
            put(output, names::parts(name).and_then(|mut parts| parts.pop()).unwrap_or_default(), lineage);
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

/// One value of a column that may be stored in several ways.
fn put(output: &mut Output, name: String, lineage: Lineage) {
    match output.columns.iter_mut().find(|column| column.name == name) {
        Some(column) => column.lineage.add(lineage),
        None => output.columns.push(OutputColumn { name, lineage }),
    }
}

/// Gives values the names of the columns they are stored in: those listed, else the target's by place, else their own.
fn stored_names(listed: Vec<String>, target: &Scope<'_>, mut values: Output) -> Output {
    let names = if listed.is_empty() {
        let target = target.visible.first().filter(|target| !target.open && !values.open);
        target.map(|target| target.columns.iter().map(|column| column.name.to_string()).collect()).unwrap_or_default()
    } else {
        listed
    };
    for (column, name) in values.columns.iter_mut().zip(names) {
        column.name = name;
    }
    values
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
