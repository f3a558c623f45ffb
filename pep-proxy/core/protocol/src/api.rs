//! The SQL API (`/api/v2/statements`): one request per statement, for clients without a driver.
//!
//! icegate serves it from its own sessions of the drivers' protocol, so that a statement is decided, recorded, masked and
//! owned like any other: a request is read into a [`QueryRequest`], and the answer a driver would get is written as the SQL
//! API writes it. Snowflake docs, "Snowflake SQL REST API", read 2026-11.

use serde_json::{Map, Value, json};

use crate::{Limits, QueryError, QueryId, QueryRequest, RequestedNames, chunk::CHUNK_PATH, json, refusal::PepCode};

/// Characters of a name.
const NAME_CHARS_MAX: usize = 255;

/// A request to run a statement.
#[derive(Debug, Clone)]
pub struct ApiRequest {
    /// Where it is to run. Read as they are stored: the SQL API's names are case-sensitive.
    pub names: RequestedNames,
    /// What is to run.
    pub query: QueryRequest,
}

/// Why a request of the SQL API cannot be taken. The sentences are shown to the person.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApiError {
    /// A field that is not known, or not what it must be.
    #[error("The request's field `{field}` is not one icegate takes here, or is not valid.")]
    Field {
        /// Which one.
        field: String,
    },
    /// The statement itself.
    #[error(transparent)]
    Query(#[from] QueryError),
}

impl ApiError {
    /// Which refusal this is.
    pub fn code(&self) -> PepCode {
        match self {
            Self::Field { .. } => PepCode::RequestMalformed,
            Self::Query(error) => error.code(),
        }
    }
}

impl ApiRequest {
    /// Reads the body of `POST /api/v2/statements`. `detached`: the client wants to come back for the result.
    ///
    /// # Errors
    ///
    /// A field that is unknown or not valid, or a statement that cannot be taken.
    pub fn parse(body: Map<String, Value>, detached: bool, limits: &Limits) -> Result<Self, ApiError> {
        let mut names = RequestedNames::default();
        let mut query = Map::new();
        let mut parameters = Map::new();
        for (field, value) in body {
            let invalid = || ApiError::Field { field: crate::refusal::one_line(&field, 64) };
            match field.as_str() {
                _ if value.is_null() => {}
                "statement" => drop(query.insert("sqlText".to_owned(), value)),
                "bindings" => drop(query.insert("bindings".to_owned(), value)),
                "database" => names.database = Some(name(&value).ok_or_else(invalid)?),
                "schema" => names.schema = Some(name(&value).ok_or_else(invalid)?),
                "role" => names.role = Some(name(&value).ok_or_else(invalid)?),
                "warehouse" => names.warehouse = Some(name(&value).ok_or_else(invalid)?),
                "timeout" => {
                    let seconds = json::whole_number(&value).ok_or_else(invalid)?;
                    parameters.insert("STATEMENT_TIMEOUT_IN_SECONDS".to_owned(), seconds.into());
                }
                "parameters" => {
                    let Value::Object(map) = &value else { return Err(invalid()) };
                    for (name, value) in map {
                        let spelled = name.to_ascii_uppercase();
                        if parameters.insert(spelled, value.clone()).is_some() {
                            return Err(invalid());
                        }
                    }
                }
                "resultSetMetaData" => {
                    let format = value.get("format").unwrap_or(&Value::Null);
                    if !format.is_null() && !format.as_str().is_some_and(|it| it.eq_ignore_ascii_case("jsonv2")) {
                        return Err(invalid());
                    }
                }
                _ => return Err(invalid()),
            }
        }
        query.insert("asyncExec".to_owned(), detached.into());
        query.insert("parameters".to_owned(), Value::Object(parameters));
        Ok(Self { names, query: QueryRequest::parse(query, limits)? })
    }
}

/// A name as it is stored; quotes around it are not part of it.
fn name(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let sound = !text.is_empty() && text.chars().count() <= NAME_CHARS_MAX && !text.chars().any(char::is_control);
    (sound && !text.contains('"')).then(|| text.to_owned())
}

/// An answer of the SQL API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiAnswer {
    /// HTTP status.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
    /// Parts the result has, the one in the answer included; 0 without a result.
    pub partitions: usize,
    /// The statement's handle.
    pub handle: Option<QueryId>,
}

/// Writes what a driver is answered (the body that would go to it) as the SQL API's answer.
pub fn answer(told: &[u8], now_ms: i64) -> ApiAnswer {
    let told: Value = serde_json::from_slice(told).unwrap_or(Value::Null);
    let data = told.get("data").and_then(Value::as_object);
    let code = told.get("code").and_then(Value::as_str).unwrap_or_default();
    let handle = data.and_then(|data| json::text(data, "queryId")).and_then(QueryId::parse);
    match (told.get("success"), data) {
        (Some(Value::Bool(true)), _) if matches!(code, "333333" | "333334") => running(handle, now_ms),
        (Some(Value::Bool(true)), Some(data)) if !data.contains_key("rowsetBase64") => result(data, handle, now_ms),
        (Some(Value::Bool(true)), _) => {
            let message =
                "Snowflake answered in a format the SQL API has no words for; use a driver, or tell the operator.";
            failed(PepCode::ReplyWithheld.as_str(), "58000", message, handle)
        }
        _ => {
            let message = told.get("message").and_then(Value::as_str).unwrap_or_default();
            let state = data.and_then(|data| json::text(data, "sqlState")).unwrap_or_default();
            failed(code, state, message, handle)
        }
    }
}

/// The answer to a cancellation, from what a driver is answered to its own.
pub fn cancelled(told: &[u8], handle: &QueryId, now_ms: i64) -> ApiAnswer {
    let success =
        serde_json::from_slice::<Value>(told).is_ok_and(|told| told.get("success") == Some(&Value::Bool(true)));
    if !success {
        return answer(told, now_ms);
    }
    let body = json!({
        "code": "000604",
        "sqlState": "57014",
        "message": "The statement was cancelled.",
        "statementHandle": handle.as_str(),
        "statementStatusUrl": status_url(handle),
    });
    ApiAnswer { status: 200, body: body.to_string().into_bytes(), partitions: 0, handle: Some(handle.clone()) }
}

/// The last part of the address of one of the parts of a result, from the body that would go to a driver.
pub fn partition(told: &[u8], partition: usize) -> Option<String> {
    let told: Value = serde_json::from_slice(told).ok()?;
    let chunk = told.get("data")?.get("chunks")?.get(partition.checked_sub(1)?)?;
    Some(chunk.get("url")?.as_str()?.strip_prefix(CHUNK_PATH)?.to_owned())
}

fn running(handle: Option<QueryId>, now_ms: i64) -> ApiAnswer {
    let body = json!({
        "code": "333334",
        "message": "The statement is running. Ask for its result by its handle.",
        "statementHandle": handle.as_ref().map(QueryId::as_str),
        "statementStatusUrl": handle.as_ref().map(status_url),
        "createdOn": now_ms,
    });
    ApiAnswer { status: 202, body: body.to_string().into_bytes(), partitions: 0, handle }
}

fn failed(code: &str, sql_state: &str, message: &str, handle: Option<QueryId>) -> ApiAnswer {
    let status = match code {
        "000612" => 404,
        _ if code.starts_with("3901") || code.starts_with("3903") => 401,
        _ => 422,
    };
    let body = json!({
        "code": code,
        "sqlState": sql_state,
        "message": message,
        "statementHandle": handle.as_ref().map(QueryId::as_str),
    });
    ApiAnswer { status, body: body.to_string().into_bytes(), partitions: 0, handle }
}

fn result(data: &Map<String, Value>, handle: Option<QueryId>, now_ms: i64) -> ApiAnswer {
    let number = |map: &Map<String, Value>, key| map.get(key).and_then(json::whole_number);
    let rows = data.get("rowset").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut partitions = vec![json!({ "rowCount": rows.len() })];
    for chunk in data.get("chunks").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object) {
        partitions.push(json!({
            "rowCount": number(chunk, "rowCount"),
            "uncompressedSize": number(chunk, "uncompressedSize"),
            "compressedSize": number(chunk, "compressedSize"),
        }));
    }
    let columns = data.get("rowtype").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let columns: Vec<Value> = columns.iter().filter_map(Value::as_object).map(column).collect();
    let children = json::text(data, "resultIds").unwrap_or_default();
    let children: Vec<&str> = children.split(',').map(str::trim).filter(|id| QueryId::parse(id).is_some()).collect();
    let mut body = Map::new();
    body.insert(
        "resultSetMetaData".to_owned(),
        json!({
            "numRows": number(data, "total").unwrap_or(rows.len() as u64),
            "format": "jsonv2",
            "rowType": columns,
            "partitionInfo": partitions,
        }),
    );
    body.insert("data".to_owned(), Value::Array(rows.to_vec()));
    body.insert("code".to_owned(), "090001".into());
    body.insert("sqlState".to_owned(), "00000".into());
    body.insert("message".to_owned(), "Statement executed successfully.".into());
    body.insert("createdOn".to_owned(), now_ms.into());
    if let Some(handle) = &handle {
        body.insert("statementHandle".to_owned(), handle.as_str().into());
        body.insert("statementStatusUrl".to_owned(), status_url(handle).into());
    }
    if !children.is_empty() {
        body.insert("statementHandles".to_owned(), json!(children));
    }
    if let Some(stats) = data.get("stats").filter(|stats| stats.is_object()) {
        body.insert("stats".to_owned(), stats.clone());
    }
    let partitions = partitions.len();
    ApiAnswer { status: 200, body: Value::Object(body).to_string().into_bytes(), partitions, handle }
}

fn column(told: &Map<String, Value>) -> Value {
    const KEPT: [&str; 11] = [
        "name",
        "database",
        "schema",
        "table",
        "type",
        "nullable",
        "length",
        "byteLength",
        "precision",
        "scale",
        "collation",
    ];
    let kept = KEPT.iter().filter_map(|key| told.get(*key).map(|value| ((*key).to_owned(), value.clone())));
    Value::Object(kept.collect())
}

fn status_url(handle: &QueryId) -> String {
    format!("/api/v2/statements/{handle}")
}

/// `Link` of an answer with several parts.
pub fn links(handle: &QueryId, current: usize, partitions: usize) -> String {
    let last = partitions.saturating_sub(1);
    let link = |partition: usize, rel: &str| format!("<{}?partition={partition}>; rel=\"{rel}\"", status_url(handle));
    let mut links = vec![link(0, "first"), link(last, "last")];
    if current > 0 {
        links.push(link(current - 1, "prev"));
    }
    if current < last {
        links.push(link(current + 1, "next"));
    }
    links.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "01b2c3d4-0000-1111-2222-333344445555";

    fn shown(value: &Value) -> (u16, Value) {
        let answer = answer(value.to_string().as_bytes(), 7);
        (answer.status, serde_json::from_slice(&answer.body).unwrap())
    }

    #[test]
    fn a_request_is_read_whole_or_not_at_all() {
        let parse = |body: Value| ApiRequest::parse(body.as_object().unwrap().clone(), false, &Limits::default());
        let request = parse(json!({
            "statement": "select ?", "timeout": 60, "database": "SALES", "schema": "\"my schema\"", "role": "ANALYST",
            "bindings": {"1": {"type": "FIXED", "value": "1"}}, "parameters": {"multi_statement_count": "2", "query_tag": "t"},
            "resultSetMetaData": {"format": "jsonv2"}, "warehouse": null,
        }))
        .unwrap();
        assert_eq!(request.names.schema.as_deref(), Some("my schema"));
        assert_eq!((request.query.statement_count(), request.query.query_tag()), (2, Some("t")));
        let sent: Value = serde_json::from_slice(&request.query.to_upstream("x", "tag")).unwrap();
        assert_eq!(sent["parameters"]["STATEMENT_TIMEOUT_IN_SECONDS"], 60);
        for (bad, field) in [
            (json!({"statement": "select 1", "Role": "ACCOUNTADMIN"}), "Role"),
            (json!({"statement": "select 1", "role": ["A"]}), "role"),
            (json!({"statement": "select 1", "role": "A\"B"}), "role"),
            (json!({"statement": "select 1", "timeout": -1}), "timeout"),
            (
                json!({"statement": "select 1", "timeout": 5, "parameters": {"statement_timeout_in_seconds": 6}}),
                "parameters",
            ),
            (json!({"statement": "select 1", "resultSetMetaData": {"format": "arrow"}}), "resultSetMetaData"),
        ] {
            assert_eq!(parse(bad).unwrap_err(), ApiError::Field { field: field.into() });
        }
        assert_eq!(parse(json!({})).unwrap_err(), ApiError::Query(QueryError::NoSql));
        assert!(parse(json!({"statement": "select 1", "parameters": {"SEARCH_PATH": "x"}})).is_err());
    }

    #[test]
    fn answers_are_those_of_the_sql_api() {
        let rows = json!({"success": true, "data": {
            "rowtype": [{"name": "A", "type": "text", "nullable": true, "length": 5, "extra": 1}], "rowset": [["1"], [null]],
            "total": 5, "queryId": ID, "chunks": [{"url": "/chunks/ig1.x", "rowCount": 3, "uncompressedSize": 9, "compressedSize": 4}],
        }});
        let (status, body) = shown(&rows);
        assert_eq!((status, &body["code"], &body["data"]), (200, &json!("090001"), &json!([["1"], [null]])));
        assert_eq!(
            body["resultSetMetaData"],
            json!({"numRows": 5, "format": "jsonv2", "rowType": [{"name": "A", "type": "text", "nullable": true, "length": 5}],
                "partitionInfo": [{"rowCount": 2}, {"rowCount": 3, "uncompressedSize": 9, "compressedSize": 4}]})
        );
        assert!(!body.to_string().contains("/chunks/"), "parts are asked for by number");
        let told = rows.to_string().into_bytes();
        assert_eq!(partition(&told, 1).as_deref(), Some("ig1.x"));
        assert_eq!((partition(&told, 0), partition(&told, 2)), (None, None));
        for (told, status, code) in [
            (json!({"success": true, "code": "333333", "data": {"queryId": ID}}), 202, "333334"),
            (
                json!({"success": false, "code": "003001", "message": "refused", "data": {"sqlState": "42501"}}),
                422,
                "003001",
            ),
            (json!({"success": false, "code": "390303", "message": "no", "data": null}), 401, "390303"),
            (json!({"success": false, "code": "000612", "message": "no", "data": null}), 404, "000612"),
            (json!({"success": true, "data": {"rowsetBase64": "", "queryId": ID}}), 422, "REPLY-WITHHELD"),
            (json!("nonsense"), 422, ""),
        ] {
            let (found, body) = shown(&told);
            assert_eq!((found, body["code"].as_str().unwrap()), (status, code), "{told}");
        }
        let several =
            json!({"success": true, "data": {"rowset": [["done"]], "resultIds": format!("{ID},{ID}"), "queryId": ID}});
        assert_eq!(shown(&several).1["statementHandles"], json!([ID, ID]));
    }

    #[test]
    fn parts_are_linked() {
        let handle = QueryId::parse(ID).unwrap();
        assert_eq!(
            links(&handle, 0, 3),
            format!(
                "</api/v2/statements/{ID}?partition=0>; rel=\"first\", </api/v2/statements/{ID}?partition=2>; rel=\"last\", </api/v2/statements/{ID}?partition=1>; rel=\"next\""
            )
        );
    }
}
