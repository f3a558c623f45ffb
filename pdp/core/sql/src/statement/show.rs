//! SHOW and DESCRIBE: descriptions are read, rows are not.

use icegate_pdp_model::{Effect, ObjectKind, ObjectName as Name, Verb};
use sqlparser::ast::{
    ObjectName, ShowObjects, ShowStatementFilter, ShowStatementFilterPosition, ShowStatementIn,
    ShowStatementInParentType, ShowStatementOptions, Statement,
};

use crate::{
    names,
    query::describe,
    reader::{Read, Reader, absent, stop},
    statement::Draft,
};

/// What SHOW may list over the whole account. Not here: VARIABLES, which hold a session's values.
const ACCOUNT_LISTS: [&str; 18] = [
    "GRANTS",
    "INTEGRATIONS",
    "LOCKS",
    "PARAMETERS",
    "PIPES",
    "PROCEDURES",
    "REGIONS",
    "ROLES",
    "SEQUENCES",
    "SHARES",
    "STAGES",
    "STREAMS",
    "TAGS",
    "TASKS",
    "TRANSACTIONS",
    "USERS",
    "WAREHOUSES",
    "ALERTS",
];

impl Reader<'_, '_> {
    pub(crate) fn show(&mut self, statement: &Statement) -> Read<Draft> {
        match statement {
            Statement::ShowTables { terse: _, history: _, extended, full, external: _, show_options }
            | Statement::ShowColumns { extended, full, show_options } => {
                absent(*extended || *full, "SHOW FULL")?;
                self.show_in(show_options)?;
            }
            Statement::ShowViews { terse: _, materialized: _, show_options }
            | Statement::ShowSchemas { terse: _, history: _, show_options }
            | Statement::ShowDatabases { terse: _, history: _, show_options }
            | Statement::ShowObjects(ShowObjects { terse: _, show_options }) => self.show_in(show_options)?,
            Statement::ShowFunctions { filter } => {
                check_filter(filter.as_ref())?;
                self.account();
            }
            Statement::ShowVariable { variable } => {
                let [only] = variable.as_slice() else { return stop("this form of SHOW is not understood") };
                match names::fold(only) {
                    Some(first) if ACCOUNT_LISTS.contains(&first.as_str()) => self.account(),
                    _ => return stop("this form of SHOW is not understood"),
                }
            }
            _ => return stop("this form of SHOW is not understood"),
        }
        Ok(Draft::verb(Verb::Show))
    }

    pub(crate) fn describe_table(&mut self, name: &ObjectName) -> Draft {
        if let Some(full) = self.named(name) {
            self.touch_relation(&full, ObjectKind::Table, Effect::Metadata);
        }
        Draft::verb(Verb::Describe)
    }

    fn account(&mut self) {
        self.touch(ObjectKind::Account, Name::new(["ACCOUNT"]), Effect::Metadata);
    }

    fn show_in(&mut self, options: &ShowStatementOptions) -> Read<()> {
        let ShowStatementOptions { show_in, starts_with: _, limit: _, limit_from: _, filter_position } = options;
        match filter_position {
            None => {}
            Some(ShowStatementFilterPosition::Infix(filter) | ShowStatementFilterPosition::Suffix(filter)) => {
                check_filter(Some(filter))?;
            }
        }
        let Some(ShowStatementIn { clause: _, parent_type, parent_name }) = show_in else {
            self.account();
            return Ok(());
        };
        let Some(name) = parent_name else {
            return match parent_type {
                Some(ShowStatementInParentType::Account) | None => {
                    self.account();
                    Ok(())
                }
                Some(ShowStatementInParentType::Database) => {
                    self.current(ObjectKind::Database);
                    Ok(())
                }
                Some(ShowStatementInParentType::Schema) => {
                    self.current(ObjectKind::Schema);
                    Ok(())
                }
                Some(ShowStatementInParentType::Table | ShowStatementInParentType::View) => {
                    stop("SHOW … IN TABLE without a name")
                }
            };
        };
        let kind = match parent_type {
            Some(ShowStatementInParentType::Database) => ObjectKind::Database,
            Some(ShowStatementInParentType::Schema) => ObjectKind::Schema,
            Some(ShowStatementInParentType::Table) => ObjectKind::Table,
            Some(ShowStatementInParentType::View) => ObjectKind::View,
            Some(ShowStatementInParentType::Account) => return stop("SHOW … IN ACCOUNT with a name"),
            None => match name.0.len() {
                2 => ObjectKind::Schema,
                3 => ObjectKind::Table,
                _ => return stop("SHOW … IN a name without its kind: write DATABASE, SCHEMA or TABLE before it"),
            },
        };
        match (kind, self.full(kind, name)) {
            (_, None) => self.miss(kind.as_str(), describe(name)),
            (ObjectKind::Table | ObjectKind::View, Some(_)) => {
                if let Some(full) = self.named(name) {
                    self.touch_relation(&full, kind, Effect::Metadata);
                }
            }
            (_, Some(full)) => self.touch(kind, full, Effect::Metadata),
        }
        Ok(())
    }

    /// The session's own database or schema.
    pub(crate) fn current(&mut self, kind: ObjectKind) {
        let parts = match kind {
            ObjectKind::Schema => {
                self.session.database.clone().zip(self.session.schema.clone()).map(|(d, s)| vec![d, s])
            }
            _ => self.session.database.clone().map(|database| vec![database]),
        };
        match parts {
            Some(parts) => self.touch(kind, Name::new(parts), Effect::Metadata),
            None => self.miss(kind.as_str(), "the session has none"),
        }
    }
}

fn check_filter(filter: Option<&ShowStatementFilter>) -> Read<()> {
    match filter {
        None
        | Some(ShowStatementFilter::Like(_) | ShowStatementFilter::ILike(_) | ShowStatementFilter::NoKeyword(_)) => {
            Ok(())
        }
        Some(ShowStatementFilter::Where(_)) => stop("SHOW … WHERE is not understood"),
    }
}
