use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::{
    json,
    limits::{PARAMETERS_MAX, TEXT_CHARS_MAX},
    refusal::one_line,
};

/// Where parameters were set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// At login, for the whole session.
    Session,
    /// With one statement.
    Statement,
}

/// Parameters sorted into what is passed on and what is not.
#[derive(Debug, Default)]
pub(crate) struct Parameters {
    pub(crate) kept: BTreeMap<String, Value>,
    pub(crate) dropped: Vec<String>,
    pub(crate) query_tag: Option<String>,
    /// `MULTI_STATEMENT_COUNT`, where it was set.
    pub(crate) statement_count: Option<u32>,
}

/// Why a parameter cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// It changes what every statement means.
    #[error(
        "The parameter `{name}` changes how statements are read and cannot be set through icegate; remove it. {instead}"
    )]
    Meaning {
        /// Which one.
        name: String,
        /// What to do instead, a sentence or nothing.
        instead: &'static str,
    },
    /// Of a type or size it cannot have, or there twice in two spellings.
    #[error("The value of the parameter `{name}` is not valid; correct or remove it.")]
    Value {
        /// Which one.
        name: String,
    },
    /// More than a request may set.
    #[error("More than {count_max} parameters are set; remove some.")]
    Count {
        /// The limit.
        count_max: usize,
    },
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Flag,
    Whole,
    Text,
    /// `JSON` or `ARROW`.
    Format,
}

/// Parameters that change how a value looks or how a driver works, never what a statement reads or does.
///
/// Snowflake docs, "Parameters", read 2026-11.
const HARMLESS: &[(&str, Kind)] = &[
    ("ABORT_DETACHED_QUERY", Kind::Flag),
    ("AUTOCOMMIT", Kind::Flag),
    ("BINARY_OUTPUT_FORMAT", Kind::Text),
    ("CLIENT_MEMORY_LIMIT", Kind::Whole),
    ("CLIENT_METADATA_REQUEST_USE_CONNECTION_CTX", Kind::Flag),
    ("CLIENT_PREFETCH_THREADS", Kind::Whole),
    ("CLIENT_RESULT_CHUNK_SIZE", Kind::Whole),
    ("CLIENT_RESULT_COLUMN_CASE_INSENSITIVE", Kind::Flag),
    ("CLIENT_SESSION_KEEP_ALIVE", Kind::Flag),
    ("CLIENT_SESSION_KEEP_ALIVE_HEARTBEAT_FREQUENCY", Kind::Whole),
    ("CLIENT_TIMESTAMP_TYPE_MAPPING", Kind::Text),
    ("CLIENT_VALIDATE_DEFAULT_PARAMETERS", Kind::Flag),
    ("DATE_OUTPUT_FORMAT", Kind::Text),
    ("GO_QUERY_RESULT_FORMAT", Kind::Format),
    ("JDBC_QUERY_RESULT_FORMAT", Kind::Format),
    ("JSON_INDENT", Kind::Whole),
    ("LOCK_TIMEOUT", Kind::Whole),
    ("ODBC_QUERY_RESULT_FORMAT", Kind::Format),
    ("PYTHON_CONNECTOR_QUERY_RESULT_FORMAT", Kind::Format),
    ("ROWS_PER_RESULTSET", Kind::Whole),
    ("STATEMENT_QUEUED_TIMEOUT_IN_SECONDS", Kind::Whole),
    ("STATEMENT_TIMEOUT_IN_SECONDS", Kind::Whole),
    ("STRICT_JSON_OUTPUT", Kind::Flag),
    ("TIMESTAMP_LTZ_OUTPUT_FORMAT", Kind::Text),
    ("TIMESTAMP_NTZ_OUTPUT_FORMAT", Kind::Text),
    ("TIMESTAMP_OUTPUT_FORMAT", Kind::Text),
    ("TIMESTAMP_TZ_OUTPUT_FORMAT", Kind::Text),
    ("TIMEZONE", Kind::Text),
    ("TIME_OUTPUT_FORMAT", Kind::Text),
    ("TRANSACTION_ABORT_ON_ERROR", Kind::Flag),
    ("USE_CACHED_RESULT", Kind::Flag),
    ("WEEK_OF_YEAR_POLICY", Kind::Whole),
    ("WEEK_START", Kind::Whole),
];

/// Parameters that change how names resolve or what a text contains, with the value that changes nothing.
const MEANING: &[(&str, &str)] =
    &[("MULTI_STATEMENT_COUNT", "1"), ("QUOTED_IDENTIFIERS_IGNORE_CASE", "false"), ("SEARCH_PATH", "")];

pub(crate) fn normalise(asked: &Map<String, Value>, scope: Scope) -> Result<Parameters, ParameterError> {
    if asked.len() > PARAMETERS_MAX {
        return Err(ParameterError::Count { count_max: PARAMETERS_MAX });
    }
    let mut sorted = Parameters::default();
    let mut seen = std::collections::BTreeSet::new();
    for (name, value) in asked {
        let spelled = name.to_ascii_uppercase();
        let invalid = || ParameterError::Value { name: one_line(name, 64) };
        if !seen.insert(spelled.clone()) {
            return Err(invalid());
        }
        if value.is_null() {
            continue;
        }
        let text = json::scalar_text(value).filter(|text| text.chars().count() <= TEXT_CHARS_MAX);
        let kind = HARMLESS.iter().find(|(known, _)| *known == spelled).map(|(_, kind)| *kind);
        if spelled == "QUERY_TAG" {
            sorted.query_tag = Some(text.ok_or_else(invalid)?).filter(|tag| !tag.is_empty());
        } else if spelled == "MULTI_STATEMENT_COUNT" && scope == Scope::Statement {
            let count = json::whole_number(value).and_then(|count| u32::try_from(count).ok());
            sorted.statement_count = Some(count.ok_or_else(invalid)?);
        } else if let Some((_, neutral)) = MEANING.iter().find(|(known, _)| *known == spelled) {
            if !text.is_some_and(|text| text.eq_ignore_ascii_case(neutral)) {
                return Err(ParameterError::Meaning { instead: instead_of(&spelled), name: spelled });
            }
        } else if let Some(kind) = kind {
            sorted.kept.insert(spelled, typed(kind, value).ok_or_else(invalid)?);
        } else if scope == Scope::Statement && name == "_PLAN_UUID" && text.is_some() {
            // Snowpark's own mark.
            sorted.kept.insert(name.clone(), value.clone());
        } else {
            sorted.dropped.push(one_line(name, 64));
        }
    }
    Ok(sorted)
}

fn instead_of(name: &str) -> &'static str {
    match name {
        "MULTI_STATEMENT_COUNT" => {
            "Set it with the statement that needs it, for example `cursor.execute(sql, num_statements=2)`."
        }
        "QUOTED_IDENTIFIERS_IGNORE_CASE" => "Write quoted names in their stored case.",
        _ => "",
    }
}

fn typed(kind: Kind, value: &Value) -> Option<Value> {
    match kind {
        Kind::Flag => json::truth(value).map(Value::from),
        Kind::Whole => json::whole_number(value).map(Value::from),
        Kind::Text => json::scalar_text(value).filter(|text| !text.chars().any(char::is_control)).map(Value::from),
        Kind::Format => {
            let text = json::scalar_text(value)?.to_ascii_uppercase();
            matches!(text.as_str(), "JSON" | "ARROW").then(|| text.into())
        }
    }
}
