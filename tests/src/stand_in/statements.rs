//! What the warehouse does with a statement, by the words in it:
//!
//! | word | what happens |
//! |---|---|
//! | `expire` | the first time: the session token has expired |
//! | `slow`, `absolute` | "in progress" twice, the second with an absolute address |
//! | `forever` | in progress until it is aborted |
//! | `chunks` | most rows lie in storage; `arrow`, `gzip`, `unlabelled` (packed and not said), `headers`, `qrmk`, `single`, `busy`, `redirect`, `cut`, `long`, `endless`, `elsewhere`, `hidden` (a value under a NULL), `torn` (many rows, and after them what is none) say how |
//! | `arrow` | rows in Arrow |
//! | `credentials` | what a PUT is answered with, whatever it was |
//! | `broken` | an error |
//! | `INSERT` at the beginning | arrays of bound values are taken, and so many rows inserted |
//! | `PUT`, `GET` at the beginning | the keys to a stage |
//! | `result_scan('<id>')` | what the statement with that id gave |
//!
//! A request that announces several statements gets one result for each `;`-separated piece, by id. One that only describes
//! gets no rows, and bindings come back as a cell.

use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use serde_json::{Value, json};

use super::results::{chunked, credentials, failed, in_progress, inserted, rows};
use super::{CANARY, POLLS_IN_PROGRESS, Query, Shared};
use crate::recorder::decompressed;

pub(super) async fn query(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let body: Value = serde_json::from_slice(&decompressed(&body)).unwrap_or_default();
    let id = uuid::Uuid::new_v4().to_string();
    let sql = body.get("sqlText").and_then(Value::as_str).unwrap_or_default();
    let play = shared.play(sql).unwrap_or_default();
    tokio::time::sleep(play.delay).await;
    let token = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if sql.contains("expire") && shared.expired.lock().unwrap_or_else(PoisonError::into_inner).insert(sql.to_owned()) {
        debug_assert!(token.contains(CANARY), "the proxy uses its own token");
        return Json(failed(&id, "390112", "Your session has expired. Please login again.", "08001")).into_response();
    }
    shared.statements.lock().unwrap_or_else(PoisonError::into_inner).push(sql.to_owned());
    if let Some(fault) = play.fault {
        return fault.response();
    }
    let reply = play.reply.map(|mut reply| {
        if let Some(told) = reply.pointer_mut("/data/queryId").filter(|told| **told == "@id") {
            *told = id.as_str().into();
        }
        reply
    });
    let detached = body.get("asyncExec").and_then(Value::as_bool) == Some(true);
    // What is answered at once is there at once by its id, too.
    let later = detached || ["slow", "forever", "absolute"].iter().any(|word| sql.contains(word));
    let polls = if later { 0 } else { POLLS_IN_PROGRESS };
    let known = Query { sql: sql.to_owned(), reply: reply.clone(), polls, ..Query::default() };
    shared.queries.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), known);
    let url = format!("/queries/{id}/result");
    let answer = if detached {
        in_progress(&id, "333334", &url)
    } else if let Some(reply) = reply {
        reply
    } else if sql.contains("slow") || sql.contains("forever") {
        in_progress(&id, "333333", &url)
    } else if sql.contains("absolute") {
        in_progress(&id, "333333", &format!("http://203.0.113.9{url}"))
    } else if body.get("describeOnly").and_then(Value::as_bool) == Some(true) {
        if begins(sql, "INSERT ") { inserted(&id, 0) } else { rows(&id, &[], sql.contains("arrow")) }
    } else {
        let count = body.pointer("/parameters/MULTI_STATEMENT_COUNT").and_then(Value::as_u64).unwrap_or(1);
        match body.get("bindings").filter(|bindings| bindings.as_object().is_some_and(|bindings| !bindings.is_empty()))
        {
            _ if count != 1 => several(&shared, &id, sql),
            Some(bindings) if begins(sql, "INSERT ") => {
                let first = bindings.pointer("/1/value").and_then(Value::as_array);
                inserted(&id, first.map_or(1, Vec::len))
            }
            Some(bindings) => rows(&id, &[&bindings.to_string()], false),
            None => answer(&shared, &id, sql),
        }
    };
    Json(answer).into_response()
}

fn begins(sql: &str, word: &str) -> bool {
    sql.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word))
}

/// The end of a statement that needs no more polls.
fn answer(shared: &Shared, id: &str, sql: &str) -> Value {
    if begins(sql, "PUT ") || begins(sql, "GET ") {
        credentials(id, begins(sql, "GET "))
    } else if let Some(earlier) = scanned(shared, sql) {
        if earlier.sql.contains("slow") { rows(id, &["slow"], false) } else { answer(shared, id, &earlier.sql) }
    } else if sql.contains("credentials") {
        credentials(id, false)
    } else if sql.contains("chunks") {
        chunked(shared, id, sql)
    } else if sql.contains("broken") {
        failed(id, "002043", "SQL compilation error: the object is broken.", "02000")
    } else {
        rows(id, &[sql], sql.contains("arrow"))
    }
}

/// The statement whose result `RESULT_SCAN('<id>')` reads again.
fn scanned(shared: &Shared, sql: &str) -> Option<Query> {
    let (_, rest) = sql.split_once("result_scan('")?;
    let (id, _) = rest.split_once('\'')?;
    shared.queries.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
}

/// One id for the request and one for each of its statements.
fn several(shared: &Shared, id: &str, sql: &str) -> Value {
    let pieces = sql.split(';').map(str::trim).filter(|piece| !piece.is_empty());
    let children: Vec<(String, &str)> = pieces.map(|piece| (uuid::Uuid::new_v4().to_string(), piece)).collect();
    let mut queries = shared.queries.lock().unwrap_or_else(PoisonError::into_inner);
    for (child, piece) in &children {
        let done = Query { sql: (*piece).to_owned(), polls: POLLS_IN_PROGRESS, ..Query::default() };
        queries.insert(child.clone(), done);
    }
    drop(queries);
    let ids: Vec<&str> = children.iter().map(|(child, _)| child.as_str()).collect();
    let types = vec!["4096"; ids.len()];
    let mut reply = rows(id, &["Multiple statements executed successfully."], false);
    if let Some(data) = reply.get_mut("data").and_then(Value::as_object_mut) {
        data.insert("statementTypeId".to_owned(), 0xA000.into());
        data.insert("resultIds".to_owned(), ids.join(",").into());
        data.insert("resultTypes".to_owned(), types.join(",").into());
    }
    reply
}

pub(super) async fn result(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Json<Value> {
    shared.polls.fetch_add(1, Ordering::Relaxed);
    let known = shared.queries.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&id).map(|query| {
        query.polls += 1;
        query.clone()
    });
    Json(match known {
        None => failed(&id, "000612", "Result for the query not found.", "02000"),
        Some(query) if query.aborted => failed(&id, "000604", "SQL execution canceled", "57014"),
        Some(query) if query.polls <= POLLS_IN_PROGRESS || query.sql.contains("forever") => {
            in_progress(&id, "333333", &format!("/queries/{id}/result"))
        }
        Some(Query { reply: Some(reply), .. }) => reply,
        Some(query) if query.sql.contains("chunks") || query.sql.contains("broken") || query.sql.contains("piece") => {
            answer(&shared, &id, &query.sql)
        }
        Some(_) => rows(&id, &["slow"], false),
    })
}

/// Agrees with [`result`]: a driver believes this one and then does not wait for the other.
pub(super) async fn monitoring(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Json<Value> {
    let mut queries = shared.queries.lock().unwrap_or_else(PoisonError::into_inner);
    let status = match queries.get_mut(&id) {
        None => return Json(json!({ "success": true, "data": { "queries": [] } })),
        Some(query) if query.aborted => "ABORTED",
        Some(query) => {
            query.polls += 1;
            let running = query.polls <= POLLS_IN_PROGRESS || query.sql.contains("forever");
            if running { "RUNNING" } else { "SUCCESS" }
        }
    };
    Json(json!({ "success": true, "data": { "queries": [{ "id": id, "status": status, "state": status,
        "sqlText": format!("{CANARY} text of a query"), "sessionId": 4711 }] } }))
}

pub(super) async fn abort(State(shared): State<Arc<Shared>>, body: Bytes) -> Json<Value> {
    let body: Value = serde_json::from_slice(&decompressed(&body)).unwrap_or_default();
    let sql = body.get("sqlText").and_then(Value::as_str).unwrap_or_default();
    let mut queries = shared.queries.lock().unwrap_or_else(PoisonError::into_inner);
    queries.values_mut().filter(|query| query.sql == sql).for_each(|query| query.aborted = true);
    Json(json!({ "success": true, "data": null, "code": null, "message": null }))
}

pub(super) async fn abort_by_id(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Json<Value> {
    let mut queries = shared.queries.lock().unwrap_or_else(PoisonError::into_inner);
    let there = queries.get_mut(&id).map(|query| query.aborted = true).is_some();
    Json(
        json!({ "success": there, "data": null, "code": if there { Value::Null } else { "000605".into() }, "message": null }),
    )
}
