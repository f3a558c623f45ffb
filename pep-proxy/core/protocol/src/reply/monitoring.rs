use std::fmt;

use serde_json::{Map, Value, json};

use super::{ErrorText, ReplyRefusal, client_error_text, refuse_keys_inside};
use crate::{Limits, QueryId, Secret, json, limits::MESSAGE_CHARS_MAX, login::bounded_object, refusal::one_line};

/// What a monitoring reply must be turned into.
#[derive(Debug, Clone, Copy)]
pub struct MonitoringTerms<'a> {
    /// Snowflake's id: the one query that is told about.
    pub upstream_id: &'a QueryId,
    /// The id the client knows it by.
    pub query_id: &'a QueryId,
    /// icegate's number for the session.
    pub session_number: u64,
    /// The text as the client sent it; Snowflake's would show what masks were applied.
    pub client_sql: Option<&'a str>,
    /// What happens to Snowflake's error text.
    pub error_text: ErrorText,
    /// Credentials that must not occur in the answer.
    pub secrets: &'a [&'a Secret],
}

/// A monitoring reply fit for the client.
#[derive(Clone)]
pub struct MonitoringReply {
    /// Snowflake's word, for example `RUNNING`; empty when it does not know the query.
    pub status: String,
    /// The body to answer with.
    pub body: Vec<u8>,
}

impl fmt::Debug for MonitoringReply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MonitoringReply").field("bytes", &self.body.len()).finish_non_exhaustive()
    }
}

/// Fields of a query that say nothing about anybody else.
const PASSED_ON: [&str; 8] =
    ["status", "state", "errorCode", "startTime", "endTime", "totalDuration", "stats", "queryType"];

/// Reads a monitoring reply and keeps what concerns this query.
///
/// # Errors
///
/// Not readable, or with a credential in it.
pub fn monitoring_for_client(
    body: &[u8],
    terms: &MonitoringTerms<'_>,
    limits: &Limits,
) -> Result<MonitoringReply, ReplyRefusal> {
    let unreadable = |why| ReplyRefusal::Unreadable { why };
    let envelope = bounded_object(body, limits).ok_or_else(|| unreadable("not a JSON object within the limits"))?;
    let queries = envelope.get("data").and_then(|data| data.get("queries")).and_then(Value::as_array);
    let named = |query: &&Map<String, Value>| {
        json::text(query, "id").and_then(QueryId::parse).as_ref() == Some(terms.upstream_id)
    };
    let found = queries.and_then(|queries| queries.iter().filter_map(Value::as_object).find(named));
    let told: Vec<Value> = found.map(|query| told(query, terms)).transpose()?.into_iter().collect();
    let body = json!({ "data": { "queries": told }, "code": null, "message": null, "success": true });
    let body = body.to_string().into_bytes();
    if terms.secrets.iter().any(|secret| secret.stands_in_json(&body)) {
        return Err(ReplyRefusal::Credential);
    }
    let status = found.and_then(|query| json::text(query, "status")).unwrap_or_default().to_owned();
    Ok(MonitoringReply { status, body })
}

fn told(query: &Map<String, Value>, terms: &MonitoringTerms<'_>) -> Result<Value, ReplyRefusal> {
    let mut told = Map::new();
    told.insert("id".to_owned(), terms.query_id.as_str().into());
    for key in PASSED_ON {
        if let Some(value) = query.get(key) {
            refuse_keys_inside(value)?;
            told.insert(key.to_owned(), value.clone());
        }
    }
    if let Some(message) = json::text(query, "errorMessage") {
        let code = query.get("errorCode").and_then(json::scalar_text).unwrap_or_default();
        told.insert(
            "errorMessage".to_owned(),
            client_error_text(&code, &one_line(message, MESSAGE_CHARS_MAX), terms.error_text).into(),
        );
    }
    if let Some(sql) = terms.client_sql {
        told.insert("sqlText".to_owned(), sql.into());
    }
    told.insert("sessionId".to_owned(), terms.session_number.into());
    Ok(Value::Object(told))
}
