//! USE, SET and ALTER SESSION.

use icegate_pdp_model::{Effect, Kind, ObjectKind, ObjectName as Name, SessionChange, SessionContext, Verb};
use sqlparser::ast::{
    Expr, ObjectName, Set, Use, Value,
    helpers::key_value_options::{KeyValueOptionKind, KeyValueOptions},
};

use crate::{
    names,
    query::describe,
    reader::{Read, Reader, stop},
    scope::{Ctes, Scope},
    statement::{After, Draft},
};

/// Parameters that change neither what names mean nor how a text is split. Sorted.
const HARMLESS: [&str; 40] = [
    "AUTOCOMMIT",
    "BINARY_INPUT_FORMAT",
    "BINARY_OUTPUT_FORMAT",
    "CLIENT_MEMORY_LIMIT",
    "CLIENT_METADATA_REQUEST_USE_CONNECTION_CTX",
    "CLIENT_PREFETCH_THREADS",
    "CLIENT_RESULT_CHUNK_SIZE",
    "CLIENT_RESULT_COLUMN_CASE_INSENSITIVE",
    "CLIENT_SESSION_KEEP_ALIVE",
    "CLIENT_SESSION_KEEP_ALIVE_HEARTBEAT_FREQUENCY",
    "CLIENT_TIMESTAMP_TYPE_MAPPING",
    "DATE_INPUT_FORMAT",
    "DATE_OUTPUT_FORMAT",
    "ERROR_ON_NONDETERMINISTIC_MERGE",
    "ERROR_ON_NONDETERMINISTIC_UPDATE",
    "GEOGRAPHY_OUTPUT_FORMAT",
    "GEOMETRY_OUTPUT_FORMAT",
    "JDBC_TREAT_DECIMAL_AS_INT",
    "JSON_INDENT",
    "LOCK_TIMEOUT",
    "PYTHON_CONNECTOR_QUERY_RESULT_FORMAT",
    "QUERY_TAG",
    "ROWS_PER_RESULTSET",
    "STATEMENT_QUEUED_TIMEOUT_IN_SECONDS",
    "STATEMENT_TIMEOUT_IN_SECONDS",
    "STRICT_JSON_OUTPUT",
    "TIMESTAMP_DAY_IS_ALWAYS_24H",
    "TIMESTAMP_INPUT_FORMAT",
    "TIMESTAMP_LTZ_OUTPUT_FORMAT",
    "TIMESTAMP_NTZ_OUTPUT_FORMAT",
    "TIMESTAMP_OUTPUT_FORMAT",
    "TIMESTAMP_TYPE_MAPPING",
    "TIMESTAMP_TZ_OUTPUT_FORMAT",
    "TIMEZONE",
    "TIME_INPUT_FORMAT",
    "TIME_OUTPUT_FORMAT",
    "TRANSACTION_DEFAULT_ISOLATION_LEVEL",
    "TWO_DIGIT_CENTURY_START",
    "WEEK_OF_YEAR_POLICY",
    "WEEK_START",
];

impl Reader<'_, '_> {
    pub(crate) fn alter_session(&mut self, set: bool, params: &KeyValueOptions) -> Read<Draft> {
        let mut draft = Draft::verb(Verb::Set);
        for option in &params.options {
            let name = option.option_name.to_ascii_uppercase();
            if HARMLESS.binary_search(&name.as_str()).is_err() {
                return stop(format!(
                    "the session parameter {name} is not on the list of those that leave the meaning of statements alone"
                ));
            }
            let value = match (&option.option_value, set) {
                (_, false) => None,
                (KeyValueOptionKind::Single(value), true) => Some(literal(&value.value)?),
                (KeyValueOptionKind::Multi(_) | KeyValueOptionKind::KeyValueOptions(_), true) => {
                    return stop(format!("the value of the session parameter {name} is not a literal"));
                }
            };
            draft.session_changes.push(SessionChange { name, value });
        }
        self.touch(ObjectKind::Session, Name::new(["SESSION"]), Effect::Alter);
        Ok(draft)
    }

    /// `SET x = …`: the variable holds what its expressions read.
    pub(crate) fn set_variables(&mut self, set: &Set) -> Read<Draft> {
        let (variables, values) = match set {
            Set::SingleAssignment { scope: None, hivevar: false, variable, values } => {
                (std::slice::from_ref(variable), values)
            }
            Set::ParenthesizedAssignments { variables, values } => (variables.as_slice(), values),
            _ => return stop("this form of SET is not understood"),
        };
        // One query may give a value for each.
        if variables.len() != values.len() && !matches!(values.as_slice(), [Expr::Subquery(_)]) {
            return stop("SET of as many variables as values only");
        }
        for variable in variables {
            let Some(name) = names::single(variable) else { return stop("a variable that is not a name") };
            self.touch(ObjectKind::Session, Name::new([format!("${}", name.last())]), Effect::Alter);
        }
        for value in values {
            self.expr(value, &Scope::default(), &Ctes::default())?;
        }
        Ok(Draft::verb(Verb::Set))
    }

    pub(crate) fn use_object(&mut self, target: &Use) -> Read<Draft> {
        let mut session = self.session.clone();
        let (kind, name) = match target {
            Use::Object(name) if name.0.len() == 1 => (ObjectKind::Database, use_database(name, &mut session)),
            Use::Schema(name) | Use::Object(name) => (ObjectKind::Schema, use_schema(name, &mut session)),
            Use::Database(name) => (ObjectKind::Database, use_database(name, &mut session)),
            Use::Warehouse(name) => {
                let name = names::single(name);
                session.warehouse = name.as_ref().map(|name| name.last().to_owned());
                (ObjectKind::Warehouse, name)
            }
            Use::Role(name) => {
                let name = names::single(name);
                session.role = name.as_ref().map(|name| name.last().to_owned());
                (ObjectKind::Role, name)
            }
            Use::Catalog(_) => return stop("USE CATALOG is not understood"),
            Use::SecondaryRoles(_) => return stop("USE SECONDARY ROLES is not understood"),
            Use::Default => return stop("USE DEFAULT is not understood"),
        };
        let mut draft = Draft::of(Kind::on(Verb::Use, kind));
        if let Some(name) = name {
            self.touch(kind, name, Effect::Use);
            draft.after.push(After::Session(session));
        } else {
            self.miss(kind.as_str(), written(target));
        }
        Ok(draft)
    }
}

/// The name after USE, for a message.
fn written(target: &Use) -> String {
    match target {
        Use::Database(name) | Use::Schema(name) | Use::Object(name) | Use::Warehouse(name) | Use::Role(name) => {
            describe(name)
        }
        Use::Catalog(_) | Use::SecondaryRoles(_) | Use::Default => String::new(),
    }
}

fn use_database(name: &ObjectName, session: &mut SessionContext) -> Option<Name> {
    let name = names::single(name)?;
    session.database = Some(name.last().to_owned());
    session.schema = Some("PUBLIC".into());
    Some(name)
}

fn use_schema(name: &ObjectName, session: &mut SessionContext) -> Option<Name> {
    let name = names::schema(name, session)?;
    if let [database, schema] = name.parts() {
        session.database = Some(database.clone());
        session.schema = Some(schema.clone());
    }
    Some(name)
}

/// A literal as the session will hold it.
fn literal(value: &Value) -> Read<String> {
    match value {
        Value::SingleQuotedString(text) if text.contains('\\') => {
            stop("a literal with a backslash as a parameter's value")
        }
        Value::SingleQuotedString(text) => Ok(text.replace("''", "'")),
        Value::Number(text, _) => Ok(text.clone()),
        Value::Boolean(value) => Ok(value.to_string()),
        _ => stop("a session parameter's value that is not a literal"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_list_is_sorted() {
        assert!(super::HARMLESS.is_sorted());
    }
}
