//! What the client asks to run.

use std::fmt;

use serde_json::{Map, Value, json};

use crate::{
    Limits, json,
    login::{ParameterError, Scope, normalise},
    refusal::PepCode,
};

/// A statement request.
#[derive(Clone)]
pub struct QueryRequest {
    sql: String,
    async_exec: bool,
    describe_only: bool,
    query_tag: Option<String>,
    statement_count: u32,
    dropped_parameters: Vec<String>,
    /// The body as it came, less what is rebuilt.
    fields: Map<String, Value>,
    /// Statement parameters that are passed on.
    parameters: Map<String, Value>,
}

impl fmt::Debug for QueryRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Text and bindings are nobody's business here.
        f.debug_struct("QueryRequest").field("sql_bytes", &self.sql.len()).finish_non_exhaustive()
    }
}

/// Why a statement request cannot be taken. The sentences are shown to the person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QueryError {
    /// No text.
    #[error("The request has no `sqlText`; send one statement.")]
    NoSql,
    /// Over the limit.
    #[error("The statement is longer than {bytes_max} bytes; split it, or load data with bindings.")]
    SqlTooLong {
        /// The limit.
        bytes_max: usize,
    },
    /// Values were uploaded where icegate cannot see them.
    #[error(
        "Bindings uploaded to a stage are not taken, because their values cannot be checked; send fewer rows at a time."
    )]
    BindStage,
    /// Of a type it cannot have.
    #[error("The request's field `{field}` is not valid.")]
    Field {
        /// Which one.
        field: &'static str,
    },
    /// A statement parameter that cannot be taken.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
}

impl QueryError {
    /// Which refusal this is.
    pub fn code(&self) -> PepCode {
        match self {
            Self::SqlTooLong { .. } | Self::Parameter(ParameterError::Count { .. }) => PepCode::RequestLimit,
            Self::NoSql | Self::BindStage | Self::Field { .. } | Self::Parameter(_) => PepCode::RequestMalformed,
        }
    }
}

/// Statements a driver announces when it says nothing. Snowflake docs, "`MULTI_STATEMENT_COUNT`", read 2026-11.
const STATEMENT_COUNT_DEFAULT: u32 = 1;

impl QueryRequest {
    /// Reads the body of `POST /queries/v1/query-request`.
    ///
    /// # Errors
    ///
    /// No text, over a limit, staged bindings, or a field or parameter that cannot be taken.
    pub fn parse(mut body: Map<String, Value>, limits: &Limits) -> Result<Self, QueryError> {
        refuse_other_spellings(&body)?;
        let sql = match body.get("sqlText") {
            Some(Value::String(sql)) if !sql.trim().is_empty() => sql.clone(),
            None | Some(Value::Null | Value::String(_)) => return Err(QueryError::NoSql),
            Some(_) => return Err(QueryError::Field { field: "sqlText" }),
        };
        if sql.len() > limits.sql_bytes_max {
            return Err(QueryError::SqlTooLong { bytes_max: limits.sql_bytes_max });
        }
        match body.remove("bindStage") {
            None | Some(Value::Null) => {}
            Some(Value::String(stage)) if stage.is_empty() => {}
            Some(_) => return Err(QueryError::BindStage),
        }
        match body.get("bindings") {
            None | Some(Value::Null | Value::Object(_)) => {}
            Some(_) => return Err(QueryError::Field { field: "bindings" }),
        }
        let parameters = match body.remove("parameters") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(map)) => map,
            Some(_) => return Err(QueryError::Field { field: "parameters" }),
        };
        let parameters = normalise(&parameters, Scope::Statement)?;
        Ok(Self {
            sql,
            async_exec: flag(&body, "asyncExec")?,
            describe_only: flag(&body, "describeOnly")?,
            query_tag: parameters.query_tag,
            statement_count: parameters.statement_count.unwrap_or(STATEMENT_COUNT_DEFAULT),
            dropped_parameters: parameters.dropped,
            fields: body,
            parameters: parameters.kept.into_iter().collect(),
        })
    }

    /// The text exactly as the client sent it.
    pub fn sql(&self) -> &str {
        &self.sql
    }

    /// Whether the client wants to come back for the result.
    pub fn async_exec(&self) -> bool {
        self.async_exec
    }

    /// Whether the client asks for the result's shape only.
    pub fn describe_only(&self) -> bool {
        self.describe_only
    }

    /// How many statements the text is said to have; 0 = any number.
    pub fn statement_count(&self) -> u32 {
        self.statement_count
    }

    /// The client's own tag for this statement, over the session's.
    pub fn query_tag(&self) -> Option<&str> {
        self.query_tag.as_deref()
    }

    /// Names of statement parameters that are not passed on, for the log.
    pub fn dropped_parameters(&self) -> &[String] {
        &self.dropped_parameters
    }

    /// The bindings as text that is equal for equal bindings; empty without any.
    pub fn bindings_json(&self) -> String {
        match self.fields.get("bindings") {
            Some(Value::Object(bindings)) if !bindings.is_empty() => json::canonical(&json!(bindings)),
            _ => String::new(),
        }
    }

    /// The bindings at these positions, likewise.
    pub fn bindings_at(&self, positions: &[u32]) -> String {
        let bindings = self.fields.get("bindings");
        let values: Vec<_> = positions
            .iter()
            .map(|position| (position, bindings.and_then(|bindings| bindings.get(position.to_string()))))
            .collect();
        json::canonical(&json!(values))
    }

    /// The body to send to Snowflake: the decided text and the stamped tag, every other field as the client sent it.
    pub fn to_upstream(&self, sql: &str, query_tag: &str) -> Vec<u8> {
        let mut parameters = self.parameters.clone();
        parameters.insert("QUERY_TAG".to_owned(), query_tag.into());
        // Said every time: a session's own setting must not make the text mean more statements than were decided.
        parameters.insert("MULTI_STATEMENT_COUNT".to_owned(), self.statement_count.into());
        let mut body = self.fields.clone();
        body.insert("sqlText".to_owned(), sql.into());
        body.insert("parameters".to_owned(), Value::Object(parameters));
        // Written as read: `"true"` here and `true` there must not be two opinions.
        body.insert("asyncExec".to_owned(), self.async_exec.into());
        body.insert("describeOnly".to_owned(), self.describe_only.into());
        Value::Object(body).to_string().into_bytes()
    }
}

/// Fields that decide, which a server that ignores case could read from another spelling.
const DECIDING: [&str; 6] = ["sqlText", "asyncExec", "describeOnly", "parameters", "bindings", "bindStage"];

fn refuse_other_spellings(body: &Map<String, Value>) -> Result<(), QueryError> {
    for key in body.keys() {
        if let Some(field) = DECIDING.iter().find(|field| field.eq_ignore_ascii_case(key) && *field != key) {
            return Err(QueryError::Field { field });
        }
    }
    Ok(())
}

fn flag(body: &Map<String, Value>, field: &'static str) -> Result<bool, QueryError> {
    match body.get(field) {
        None | Some(Value::Null) => Ok(false),
        Some(value) => json::truth(value).ok_or(QueryError::Field { field }),
    }
}
