//! Statements: what each kind does to which objects. What is not understood is said by name, never guessed.

pub(crate) mod changes;
mod copy;
mod ddl;
mod dml;
mod grant;
mod session;
mod show;

pub(crate) use copy::Place;

use std::collections::BTreeSet;

use icegate_pdp_model::{
    ColumnName, Effect, Kind, ObjectKind, ObjectName as Name, RelationName, SessionChange, SessionContext, Verb,
};
use sqlparser::ast::{DescribeAlias, ObjectName, SetExpr, Statement};

use crate::{
    names,
    query::describe,
    reader::{Output, Read, Reader, absent, stop},
    scope::Ctes,
};

/// What was understood of a statement besides what the reader gathered.
#[derive(Debug)]
pub(crate) struct Draft {
    pub(crate) kind: Kind,
    /// Its result, when it has one.
    pub(crate) output: Option<Output>,
    /// What it stores, and where.
    pub(crate) stored: Vec<Stored>,
    pub(crate) exports: Vec<String>,
    pub(crate) session_changes: Vec<SessionChange>,
    /// What it does to names for the statements after it.
    pub(crate) after: Vec<After>,
    /// Why no read in it can be masked.
    pub(crate) unmaskable: Option<Unrewritable>,
    /// What it makes is there for its session alone.
    pub(crate) temporary: bool,
}

/// Columns a statement stores in one relation.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) target: RelationName,
    pub(crate) output: Output,
}

/// Statements that store their reads where others find them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unrewritable {
    /// The view's text would hold the mask, and others read the view.
    View,
    /// A copy of stored rows: nothing computes on the way.
    Copy,
    /// SQL inside the statement, whose text is not rewritten.
    Body,
}

/// What later statements of the request must know.
#[derive(Debug)]
pub(crate) enum After {
    /// A relation was made, with these columns.
    Made(RelationName, Vec<(String, BTreeSet<ColumnName>)>),
    /// Rows computed from these columns went into a relation.
    Fed(RelationName, BTreeSet<ColumnName>),
    /// Rows of files went into a relation.
    Loaded(RelationName),
    /// A relation changed in a way that is not followed.
    Unsure(RelationName),
    /// A relation has the name of another since, or its rows.
    Moved(RelationName),
    /// A database or schema changed in a way that is not followed.
    UnsureContainer(Vec<String>),
    /// Unqualified names mean something else from here on.
    Session(SessionContext),
}

impl Draft {
    pub(crate) fn of(kind: Kind) -> Self {
        Self {
            kind,
            output: None,
            stored: Vec::new(),
            exports: Vec::new(),
            session_changes: Vec::new(),
            after: Vec::new(),
            unmaskable: None,
            temporary: false,
        }
    }

    pub(crate) fn verb(verb: Verb) -> Self {
        Self::of(Kind::of(verb))
    }
}

impl Reader<'_, '_> {
    /// Reads a statement.
    #[expect(clippy::too_many_lines, reason = "one arm per kind of statement, none left out")]
    pub(crate) fn statement(&mut self, statement: &Statement) -> Read<Draft> {
        match statement {
            Statement::Query(query) => match &*query.body {
                SetExpr::Insert(statement)
                | SetExpr::Update(statement)
                | SetExpr::Delete(statement)
                | SetExpr::Merge(statement) => self.written_with(query, statement),
                SetExpr::Select(_)
                | SetExpr::Query(_)
                | SetExpr::SetOperation { .. }
                | SetExpr::Values(_)
                | SetExpr::Table(_) => {
                    let output = self.query(query, None, &Ctes::default())?;
                    Ok(Draft { output: Some(output), ..Draft::verb(Verb::Select) })
                }
            },
            Statement::Insert(insert) => self.insert(insert, &Ctes::default()),
            Statement::Update(update) => self.update(update, &Ctes::default()),
            Statement::Delete(delete) => self.delete(delete, &Ctes::default()),
            Statement::Merge(merge) => self.merge_into(merge, &Ctes::default()),
            Statement::Set(set) => self.set_variables(set),
            Statement::Truncate(truncate) => self.truncate(truncate),
            Statement::CopyIntoSnowflake { .. } => self.copy_into(statement),
            Statement::CreateTable(table) => self.create_table(table),
            Statement::CreateView(view) => self.create_view(view),
            Statement::CreateSchema {
                schema_name,
                or_replace,
                if_not_exists,
                with,
                options,
                default_collate_spec,
                clone,
            } => {
                absent(
                    with.is_some() || options.is_some() || default_collate_spec.is_some(),
                    "an option of CREATE SCHEMA",
                )?;
                self.create_schema(schema_name, *or_replace, *if_not_exists, clone.as_ref())
            }
            Statement::CreateDatabase {
                db_name,
                or_replace,
                if_not_exists,
                location,
                managed_location,
                clone,
                external_volume,
                catalog,
                catalog_sync,
                with_tags,
                with_contacts,
                ..
            } => {
                absent(with_tags.is_some() || with_contacts.is_some(), "a tag or contact of a database")?;
                absent(location.is_some() || managed_location.is_some(), "LOCATION")?;
                absent(
                    external_volume.is_some() || catalog.is_some() || catalog_sync.is_some(),
                    "an external catalog",
                )?;
                Ok(self.create_database(db_name, *or_replace, *if_not_exists, clone.as_ref()))
            }
            Statement::AlterTable(alter) => self.alter_table(alter),
            Statement::AlterView { name, columns, query, with_options } => {
                absent(!with_options.is_empty() || !columns.is_empty(), "an option of ALTER VIEW")?;
                self.alter_view(name, query)
            }
            Statement::AlterSchema(alter) => self.alter_schema(alter),
            Statement::Drop { object_type, if_exists: _, names, cascade: _, restrict: _, purge, temporary, table } => {
                absent(*purge || *temporary || table.is_some(), "an option of DROP")?;
                self.drop_objects(*object_type, names)
            }
            Statement::Comment { object_type, object_name, comment: _, if_exists: _ } => {
                self.comment(*object_type, object_name)
            }
            Statement::Grant(grant) => self.grant(grant),
            Statement::Revoke(revoke) => self.revoke(revoke),
            Statement::Use(target) => self.use_object(target),
            Statement::AlterSession { set, session_params } => self.alter_session(*set, session_params),
            Statement::StartTransaction {
                modes,
                begin: _,
                transaction: _,
                modifier,
                statements,
                exception,
                has_end_keyword,
            } => {
                absent(!statements.is_empty() || exception.is_some() || *has_end_keyword, "a scripting block")?;
                absent(!modes.is_empty() || modifier.is_some(), "a transaction mode")?;
                Ok(self.transaction())
            }
            Statement::Commit { chain, end, modifier } => {
                absent(*chain || modifier.is_some(), "COMMIT AND CHAIN")?;
                absent(*end, "END")?;
                Ok(self.transaction())
            }
            Statement::Rollback { chain, savepoint } => {
                absent(*chain || savepoint.is_some(), "ROLLBACK to a savepoint")?;
                Ok(self.transaction())
            }
            Statement::Explain {
                describe_alias,
                analyze,
                verbose,
                query_plan,
                estimate,
                statement,
                format,
                options,
            } => {
                absent(!matches!(describe_alias, DescribeAlias::Explain), "DESCRIBE of a statement")?;
                absent(*analyze || *verbose || *query_plan || *estimate, "an option of EXPLAIN")?;
                absent(format.is_some() || options.is_some(), "an option of EXPLAIN")?;
                let inner = self.statement(statement)?;
                // Nothing runs: what it would do to names does not happen.
                Ok(Draft {
                    output: inner.output,
                    stored: inner.stored,
                    exports: inner.exports,
                    unmaskable: inner.unmaskable,
                    ..Draft::verb(Verb::Explain)
                })
            }
            Statement::ExplainTable { describe_alias, hive_format, has_table_keyword: _, table_name } => {
                absent(matches!(describe_alias, DescribeAlias::Explain), "EXPLAIN of a name")?;
                absent(hive_format.is_some(), "DESCRIBE EXTENDED")?;
                Ok(self.describe_table(table_name))
            }
            Statement::ShowTables { .. }
            | Statement::ShowViews { .. }
            | Statement::ShowSchemas { .. }
            | Statement::ShowDatabases { .. }
            | Statement::ShowColumns { .. }
            | Statement::ShowObjects(_)
            | Statement::ShowFunctions { .. }
            | Statement::ShowVariable { .. } => self.show(statement),
            other => stop(format!("{} is not understood", unsupported(other))),
        }
    }

    fn transaction(&mut self) -> Draft {
        self.touch(ObjectKind::Session, Name::new(["SESSION"]), Effect::Use);
        Draft::verb(Verb::Transaction)
    }

    /// A full relation name for a statement that names one without reading it.
    pub(crate) fn named(&mut self, name: &ObjectName) -> Option<RelationName> {
        let full = names::relation(name, &self.session);
        if full.is_none() {
            self.miss("relation", describe(name));
        }
        full
    }
}

/// The name of a statement that has no arm of its own yet. Every variant stands here, so a new one of the parser's
/// breaks the build instead of slipping through.
#[expect(clippy::too_many_lines, reason = "one arm per kind of statement, none left out")]
fn unsupported(statement: &Statement) -> &'static str {
    match statement {
        Statement::Query(_)
        | Statement::Insert(_)
        | Statement::Update(_)
        | Statement::Delete(_)
        | Statement::Merge(_)
        | Statement::Truncate(_)
        | Statement::CopyIntoSnowflake { .. }
        | Statement::CreateTable(_)
        | Statement::CreateView(_)
        | Statement::CreateSchema { .. }
        | Statement::CreateDatabase { .. }
        | Statement::AlterTable(_)
        | Statement::AlterView { .. }
        | Statement::AlterSchema(_)
        | Statement::Drop { .. }
        | Statement::Comment { .. }
        | Statement::Grant(_)
        | Statement::Revoke(_)
        | Statement::Use(_)
        | Statement::AlterSession { .. }
        | Statement::StartTransaction { .. }
        | Statement::Commit { .. }
        | Statement::Rollback { .. }
        | Statement::Explain { .. }
        | Statement::ExplainTable { .. }
        | Statement::Set(_)
        | Statement::ShowTables { .. }
        | Statement::ShowViews { .. }
        | Statement::ShowSchemas { .. }
        | Statement::ShowDatabases { .. }
        | Statement::ShowColumns { .. }
        | Statement::ShowObjects(_)
        | Statement::ShowFunctions { .. }
        | Statement::ShowVariable { .. } => "this form",
        Statement::Call(_) => "CALL",
        Statement::Execute { .. } => "EXECUTE",
        Statement::Prepare { .. } | Statement::Deallocate { .. } => "a prepared statement",
        Statement::Put { .. } => "PUT",
        Statement::List(_) => "LIST",
        Statement::Remove(_) => "REMOVE",
        Statement::Case(_) | Statement::If(_) | Statement::While(_) => "a scripting statement",
        Statement::Raise(_) | Statement::RaisError { .. } | Statement::Throw(_) => "RAISE",
        Statement::Declare { .. } => "DECLARE",
        Statement::Open(_) | Statement::Close { .. } | Statement::Fetch { .. } => "a cursor",
        Statement::Return(_) => "RETURN",
        Statement::Print(_) => "PRINT",
        Statement::WaitFor(_) => "WAITFOR",
        Statement::Assert { .. } => "ASSERT",
        Statement::Savepoint { .. } | Statement::ReleaseSavepoint { .. } => "SAVEPOINT",
        Statement::CreateFunction(_) | Statement::AlterFunction(_) | Statement::DropFunction(_) => {
            "a statement on functions"
        }
        Statement::CreateProcedure { .. } | Statement::DropProcedure { .. } => "a statement on procedures",
        Statement::CreateMacro { .. } => "CREATE MACRO",
        Statement::CreateStage { .. } => "CREATE STAGE",
        Statement::CreateFileFormat { .. } => "CREATE FILE FORMAT",
        Statement::CreateWarehouse(_) => "CREATE WAREHOUSE",
        Statement::CreateSequence { .. } => "CREATE SEQUENCE",
        Statement::CreateRole(_) | Statement::AlterRole { .. } => "a statement on roles",
        Statement::CreateUser(_) | Statement::AlterUser(_) => "a statement on users",
        Statement::CreateSecret { .. } | Statement::DropSecret { .. } => "a statement on secrets",
        Statement::CreatePolicy(_) | Statement::AlterPolicy(_) | Statement::DropPolicy(_) => "a statement on policies",
        Statement::CreateVirtualTable { .. } => "CREATE VIRTUAL TABLE",
        Statement::CreateIndex(_) | Statement::AlterIndex { .. } => "a statement on indexes",
        Statement::CreateServer(_) => "CREATE SERVER",
        Statement::CreateConnector(_) | Statement::AlterConnector { .. } | Statement::DropConnector { .. } => {
            "a statement on connectors"
        }
        Statement::CreateOperator(_)
        | Statement::CreateOperatorFamily(_)
        | Statement::CreateOperatorClass(_)
        | Statement::AlterOperator(_)
        | Statement::AlterOperatorFamily(_)
        | Statement::AlterOperatorClass(_)
        | Statement::DropOperator(_)
        | Statement::DropOperatorFamily(_)
        | Statement::DropOperatorClass(_) => "a statement on operators",
        Statement::CreateTextSearch(_) | Statement::AlterTextSearch(_) => "a statement on text search",
        Statement::CreateCollation(_) | Statement::AlterCollation(_) => "a statement on collations",
        Statement::CreateDomain(_) | Statement::DropDomain(_) => "a statement on domains",
        Statement::CreateType { .. } | Statement::AlterType(_) => "a statement on types",
        Statement::CreateTrigger(_) | Statement::DropTrigger(_) => "a statement on triggers",
        Statement::CreateExtension(_) | Statement::DropExtension(_) => "a statement on extensions",
        Statement::AttachDatabase { .. }
        | Statement::AttachDuckDBDatabase { .. }
        | Statement::DetachDuckDBDatabase { .. } => "ATTACH",
        Statement::Analyze(_) => "ANALYZE",
        Statement::Msck(_) => "MSCK",
        Statement::Install { .. } => "INSTALL",
        Statement::Load { .. } | Statement::LoadData { .. } => "LOAD",
        Statement::Directory { .. } => "INSERT OVERWRITE DIRECTORY",
        Statement::Copy { .. } => "COPY of another database's form",
        Statement::Flush { .. } => "FLUSH",
        Statement::Discard { .. } => "DISCARD",
        Statement::ShowStatus { .. }
        | Statement::ShowVariables { .. }
        | Statement::ShowCreate { .. }
        | Statement::ShowCatalogs { .. }
        | Statement::ShowProcessList { .. }
        | Statement::ShowCharset(_)
        | Statement::ShowCollation { .. } => "this form of SHOW",
        Statement::Deny(_) => "DENY",
        Statement::Kill { .. } => "KILL",
        Statement::Cache { .. } | Statement::UNCache { .. } => "CACHE",
        Statement::Pragma { .. } => "PRAGMA",
        Statement::Lock(_) | Statement::LockTables { .. } | Statement::UnlockTables => "LOCK",
        Statement::Unload { .. } | Statement::ExportData(_) => "UNLOAD of another database's form",
        Statement::OptimizeTable { .. } | Statement::Vacuum(_) => "table maintenance",
        Statement::LISTEN { .. } | Statement::UNLISTEN { .. } | Statement::NOTIFY { .. } => "LISTEN and NOTIFY",
        Statement::RenameTable(_) => "RENAME TABLE",
        Statement::Reset(_) => "RESET",
    }
}
