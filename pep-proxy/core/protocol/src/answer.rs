//! Bodies icegate answers with itself. All of them go out as HTTP 200, `Content-Type: application/json`: drivers retry
//! 403 and 5xx, and connector 5 takes any 401 for an expired session.

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use crate::{QueryId, Refusal, Secret, limits::MESSAGE_CHARS_MAX, refusal::one_line, upstream::result_path};

/// The `Content-Type` of every answer.
pub const CONTENT_TYPE: &str = "application/json";

/// A refusal. `query_id` is there once the statement has an id the driver knows.
pub fn refused(refusal: &Refusal, query_id: Option<&QueryId>) -> Vec<u8> {
    failure(refusal.snowflake_code(), refusal.sql_state(), &refusal.text(), query_id)
}

/// The statement still runs, or waits for a person: the driver polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InProgress<'a> {
    /// The id to poll with.
    pub query_id: &'a QueryId,
    /// Whether the client asked to come back later (333334) or waits (333333).
    pub detached: bool,
    /// Seconds after which nobody waits any more.
    pub aborts_after_seconds: u32,
    /// What is going on, in a sentence.
    pub description: &'a str,
}

/// Says that a statement is still running. The URL is relative and has no query string: connector 5 would follow an absolute
/// one anywhere with the token, and JDBC takes only a path.
pub fn in_progress(progress: &InProgress<'_>) -> Vec<u8> {
    // A text can always be written.
    let description = serde_json::to_string(&one_line(progress.description, MESSAGE_CHARS_MAX)).unwrap_or_default();
    let (id, url, seconds) = (progress.query_id, result_path(progress.query_id), progress.aborts_after_seconds);
    let code = if progress.detached { "333334" } else { "333333" };
    // Written down as it is sent: most of what drivers ask is answered with it. An id has nothing to escape.
    let told = [
        r#"{"data":{"queryId":""#,
        id.as_str(),
        r#"","getResultUrl":""#,
        &url,
        r#"","queryAbortsAfterSecs":"#,
        &seconds.to_string(),
        r#","progressDesc":"#,
        &description,
        r#"},"code":""#,
        code,
        r#"","message":"#,
        &description,
        r#","success":true}"#,
    ];
    told.concat().into_bytes()
}

/// The session token has ended: the driver renews and asks again. Without data: connector 5 would read it as that of the call
/// it made, and fail before it looks at the code.
pub fn session_expired() -> Vec<u8> {
    bytes(&json!({
        "data": null,
        "code": "390112",
        "message": "The session token has expired; it must be renewed.",
        "success": false,
    }))
}

/// The master token has ended: the driver must log in again.
pub fn master_expired() -> Vec<u8> {
    failure("390114", "08001", "The session can no longer be renewed. Log in again with a fresh identity token.", None)
}

/// The token is none of ours.
pub fn token_invalid() -> Vec<u8> {
    failure("390104", "08001", "The session token is not valid. Log in again.", None)
}

/// The session is no longer there.
pub fn session_gone() -> Vec<u8> {
    failure("390111", "08003", "The session no longer exists. Log in again.", None)
}

/// The identity token does not verify.
pub fn oauth_token_invalid(text: &str) -> Vec<u8> {
    failure("390303", "28000", text, None)
}

/// The identity token has expired.
pub fn oauth_token_expired(text: &str) -> Vec<u8> {
    failure("390318", "28000", text, None)
}

/// No such query, or not this session's: the same answer for both.
pub fn query_unknown(query_id: &QueryId) -> Vec<u8> {
    failure("000612", "02000", "Result for this query was not found in this session.", Some(query_id))
}

/// The statement was cancelled.
pub fn query_cancelled(query_id: Option<&QueryId>) -> Vec<u8> {
    failure("000604", "57014", "The statement was cancelled.", query_id)
}

/// Well done, and nothing to say.
const DONE: &[u8] = br#"{"data":null,"code":null,"message":null,"success":true}"#;

/// The statement to stop is stopped, or will be.
pub fn aborted() -> &'static [u8] {
    DONE
}

/// The statement to stop does not run.
pub fn abort_not_running() -> Vec<u8> {
    failure("000605", "57014", "The statement to stop is not running.", None)
}

/// The session lives.
pub fn heartbeat() -> &'static [u8] {
    DONE
}

/// The session is closed.
pub fn logged_out() -> &'static [u8] {
    DONE
}

/// The result of a statement that icegate itself has carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said<'a> {
    /// The statement.
    pub query_id: &'a QueryId,
    /// Where the session stands: database, schema, warehouse, role.
    pub names: [&'a str; 4],
    /// The one cell; without it there are no rows.
    pub text: Option<&'a str>,
}

/// A result of one text.
pub fn said(said: &Said<'_>) -> Vec<u8> {
    /// Longest text it can be, in characters; a character is up to four bytes.
    const LENGTH: u32 = 16_777_216;
    let rows: Vec<[&str; 1]> = said.text.into_iter().map(|text| [text]).collect();
    let [database, schema, warehouse, role] = said.names.map(|name| Some(name).filter(|name| !name.is_empty()));
    success(&json!({
        "queryId": said.query_id.as_str(),
        "rowtype": [{ "name": "RESULT", "type": "text", "nullable": true, "length": LENGTH, "byteLength": LENGTH,
            "precision": null, "scale": null, "collation": null, "database": "", "schema": "", "table": "" }],
        "total": rows.len(),
        "returned": rows.len(),
        "rowset": rows,
        "queryResultFormat": "json",
        "parameters": [],
        "statementTypeId": 4096,
        "version": 1,
        "finalDatabaseName": database,
        "finalSchemaName": schema,
        "finalWarehouseName": warehouse,
        "finalRoleName": role,
    }))
}

/// Telemetry is taken and forgotten: it can carry statements and errors.
pub fn telemetry() -> Vec<u8> {
    bytes(&json!({ "data": "Log Received", "code": null, "message": null, "success": true }))
}

/// Fresh tokens after a renewal. Connector 5 needs all five fields.
#[derive(Debug, Clone, Copy)]
pub struct Renewed<'a> {
    /// The new session token.
    pub session_token: &'a Secret,
    /// Seconds it is valid.
    pub validity_seconds: u64,
    /// The new master token.
    pub master_token: &'a Secret,
    /// Seconds it is valid.
    pub master_validity_seconds: u64,
    /// icegate's number for the session.
    pub session_number: u64,
}

/// The answer to a renewal.
pub fn renewed(renewed: &Renewed<'_>) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(success(&json!({
        "sessionToken": renewed.session_token.expose(),
        "validityInSecondsST": renewed.validity_seconds,
        "masterToken": renewed.master_token.expose(),
        "validityInSecondsMT": renewed.master_validity_seconds,
        "sessionId": renewed.session_number,
    })))
}

/// Where a statement stands, in Snowflake's words for monitoring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MonitoredStatus {
    /// Held, or running at Snowflake.
    Running,
    /// Done, with a result.
    Success,
    /// Ended with an error, a refusal among them.
    Failed,
    /// Stopped by the client.
    Aborted,
}

impl MonitoredStatus {
    fn as_str(self) -> &'static str {
        match self {
            Self::Running => "RUNNING",
            Self::Success => "SUCCESS",
            Self::Failed => "FAILED_WITH_ERROR",
            Self::Aborted => "ABORTED",
        }
    }
}

/// A statement's state that icegate itself knows: held, refused, stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Monitored<'a> {
    /// The statement.
    pub query_id: &'a QueryId,
    /// Where it stands.
    pub status: MonitoredStatus,
    /// icegate's number for the session.
    pub session_number: u64,
    /// When it was asked, Unix milliseconds.
    pub started_ms: i64,
    /// When it ended, Unix milliseconds.
    pub ended_ms: Option<i64>,
    /// Why it ended, when it was refused.
    pub refusal: Option<&'a Refusal>,
}

/// The answer to monitoring for a statement that is not at Snowflake.
pub fn monitoring(monitored: &Monitored<'_>) -> Vec<u8> {
    let mut query = Map::new();
    query.insert("id".to_owned(), monitored.query_id.as_str().into());
    query.insert("status".to_owned(), monitored.status.as_str().into());
    query.insert("state".to_owned(), monitored.status.as_str().into());
    query.insert("startTime".to_owned(), monitored.started_ms.into());
    query.insert("endTime".to_owned(), monitored.ended_ms.unwrap_or(0).into());
    let duration = monitored.ended_ms.map_or(0, |ended| ended.saturating_sub(monitored.started_ms).max(0));
    query.insert("totalDuration".to_owned(), duration.into());
    query.insert("sessionId".to_owned(), monitored.session_number.into());
    if let Some(refusal) = monitored.refusal {
        query.insert("errorCode".to_owned(), refusal.snowflake_code().into());
        query.insert("errorMessage".to_owned(), refusal.text().into());
    }
    success(&json!({ "queries": [query] }))
}

fn success(data: &Value) -> Vec<u8> {
    bytes(&json!({ "data": data, "code": null, "message": null, "success": true }))
}

pub(crate) fn failure(code: &str, sql_state: &str, message: &str, query_id: Option<&QueryId>) -> Vec<u8> {
    let mut data = Map::new();
    data.insert("errorCode".to_owned(), code.into());
    data.insert("sqlState".to_owned(), sql_state.into());
    if let Some(query_id) = query_id {
        data.insert("queryId".to_owned(), query_id.as_str().into());
    }
    bytes(&json!({ "data": data, "code": code, "message": one_line(message, MESSAGE_CHARS_MAX), "success": false }))
}

fn bytes(body: &Value) -> Vec<u8> {
    body.to_string().into_bytes()
}
