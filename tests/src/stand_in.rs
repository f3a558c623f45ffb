//! A warehouse of few words, for what fakesnow lacks: answers that come later, sessions that expire, credentials in replies.
//!
//! What it does is named by a word in the statement, for example `SELECT 'slow'`. Everything it must not let out through the
//! proxy carries [`CANARY`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::{Path, State};
use axum::http::HeaderMap;
use axum::routing::{get, post};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::recorder::decompressed;

/// Part of every upstream token and of every credential in a reply.
pub const CANARY: &str = "upstream-canary";

/// Polls of one slow result that are answered with "in progress".
const POLLS_IN_PROGRESS: u64 = 2;

/// A result chunk: rows without the outer brackets.
const CHUNK: &str = r#"["from storage"]"#;

#[derive(Debug, Default)]
struct Shared {
    addr: Option<SocketAddr>,
    tokens: AtomicU64,
    renewals: AtomicU64,
    polls: AtomicU64,
    expired: Mutex<BTreeSet<String>>,
    // Query ids given out, and how often each was asked for.
    queries: Mutex<BTreeMap<String, u64>>,
    statements: Mutex<Vec<String>>,
}

/// The running warehouse. Dropping it stops it.
#[derive(Debug)]
pub struct StandIn {
    addr: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl StandIn {
    /// Starts on a free port.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared { addr: Some(addr), ..Shared::default() });
        let routes = axum::Router::new()
            .route("/session/v1/login-request", post(login))
            .route("/session/token-request", post(renew))
            .route("/session/heartbeat", post(done))
            .route("/session", post(done))
            .route("/queries/v1/query-request", post(query))
            .route("/queries/v1/abort-request", post(done))
            .route("/queries/{id}/abort-request", post(done))
            .route("/queries/{id}/result", get(result))
            .route("/monitoring/queries/{id}", get(monitoring))
            .route("/storage/1", get(|| async { CHUNK }))
            .with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { drop(axum::serve(listener, routes).await) });
        Ok(Self { addr, shared, server })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// How often a session token was renewed.
    pub fn renewals(&self) -> u64 {
        self.shared.renewals.load(Ordering::Relaxed)
    }

    /// How often a slow result was asked for.
    pub fn polls(&self) -> u64 {
        self.shared.polls.load(Ordering::Relaxed)
    }

    /// The statements it executed, in order.
    pub fn statements(&self) -> Vec<String> {
        self.shared.statements.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn login(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let number = shared.tokens.fetch_add(1, Ordering::Relaxed);
    Json(json!({ "success": true, "data": {
        "token": format!("{CANARY}-session-{number}"), "masterToken": format!("{CANARY}-master-{number}"),
        "idToken": format!("{CANARY}-id-{number}"), "mfaToken": format!("{CANARY}-mfa-{number}"),
        "remMeToken": format!("{CANARY}-remember-{number}"),
        "sessionId": 4711, "validityInSeconds": 3600, "masterValidityInSeconds": 14400, "serverVersion": "9.0.0",
        "parameters": [
            { "name": "AUTOCOMMIT", "value": true },
            { "name": "CLIENT_SESSION_KEEP_ALIVE_HEARTBEAT_FREQUENCY", "value": 3600 },
            { "name": "CLIENT_STAGE_ARRAY_BINDING_THRESHOLD", "value": 0 },
        ],
        "sessionInfo": { "databaseName": "SALES", "schemaName": "PUBLIC", "warehouseName": "WH", "roleName": "R" },
    } }))
}

async fn renew(State(shared): State<Arc<Shared>>) -> Json<Value> {
    shared.renewals.fetch_add(1, Ordering::Relaxed);
    let number = shared.tokens.fetch_add(1, Ordering::Relaxed);
    Json(json!({ "success": true, "data": {
        "sessionToken": format!("{CANARY}-session-{number}"), "validityInSecondsST": 3600,
        "masterToken": format!("{CANARY}-master-{number}"), "validityInSecondsMT": 14400, "sessionId": 4711,
    } }))
}

async fn done() -> Json<Value> {
    Json(json!({ "success": true, "data": null, "code": null, "message": null }))
}

async fn query(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Json<Value> {
    let body: Value = serde_json::from_slice(&decompressed(&body)).unwrap_or_default();
    let id = uuid::Uuid::new_v4().to_string();
    shared.queries.lock().unwrap_or_else(PoisonError::into_inner).insert(id.clone(), 0);
    let sql = body.get("sqlText").and_then(Value::as_str).unwrap_or_default();
    let token = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    if sql.contains("expire") && shared.expired.lock().unwrap_or_else(PoisonError::into_inner).insert(sql.to_owned()) {
        debug_assert!(token.contains(CANARY), "the proxy uses its own token");
        return failed(&id, "390112", "Your session has expired. Please login again.", "08001");
    }
    shared.statements.lock().unwrap_or_else(PoisonError::into_inner).push(sql.to_owned());
    if body.get("asyncExec").and_then(Value::as_bool) == Some(true) {
        return Json(json!({ "success": true, "code": "333334", "message": "in progress", "data": {
            "queryId": id, "getResultUrl": format!("/queries/{id}/result"), "queryAbortsAfterSecs": 300,
        } }));
    }
    if sql.contains("slow") {
        return Json(json!({ "success": true, "code": "333333", "message": "in progress", "data": {
            "queryId": id, "getResultUrl": format!("/queries/{id}/result"), "queryAbortsAfterSecs": 300,
        } }));
    }
    if sql.contains("absolute") {
        return Json(json!({ "success": true, "code": "333333", "message": "in progress", "data": {
            "queryId": id, "getResultUrl": format!("http://203.0.113.9/queries/{id}/result"),
            "queryAbortsAfterSecs": 300,
        } }));
    }
    if sql.contains("credentials") {
        return Json(credentials(&id));
    }
    if sql.contains("chunks") {
        // As Snowflake does it: the rest of the rows lies in storage, under an address of its own.
        let host = headers.get("host").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let storage = shared.addr.map_or_else(|| host.to_owned(), |addr| addr.to_string());
        let mut reply = rows(&id, "inline");
        if let Some(data) = reply.get_mut("data").and_then(Value::as_object_mut) {
            let url = format!("http://{storage}/storage/1");
            let bytes = CHUNK.len();
            let chunk = json!({ "url": url, "rowCount": 1, "uncompressedSize": bytes, "compressedSize": bytes });
            data.insert("chunks".to_owned(), json!([chunk]));
            data.insert("total".to_owned(), json!(2));
            data.insert("returned".to_owned(), json!(2));
        }
        return Json(reply);
    }
    if sql.contains("broken") {
        return failed(&id, "002043", "SQL compilation error: the object is broken.", "02000");
    }
    Json(rows(&id, sql))
}

async fn result(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Json<Value> {
    shared.polls.fetch_add(1, Ordering::Relaxed);
    let polls = shared.queries.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&id).map(|polls| {
        *polls += 1;
        *polls
    });
    let Some(polls) = polls else {
        return failed(&id, "000612", "Result for the query not found.", "02000");
    };
    if polls <= POLLS_IN_PROGRESS {
        return Json(json!({ "success": true, "code": "333333", "message": "in progress", "data": {
            "queryId": id, "getResultUrl": format!("/queries/{id}/result"), "queryAbortsAfterSecs": 300,
        } }));
    }
    Json(rows(&id, "slow"))
}

/// Agrees with [`result`]: a driver believes this one and then does not wait for the other.
async fn monitoring(State(shared): State<Arc<Shared>>, Path(id): Path<String>) -> Json<Value> {
    let mut queries = shared.queries.lock().unwrap_or_else(PoisonError::into_inner);
    let running = queries.get_mut(&id).is_some_and(|polls| {
        *polls += 1;
        *polls <= POLLS_IN_PROGRESS
    });
    let status = if running { "RUNNING" } else { "SUCCESS" };
    Json(json!({ "success": true, "data": { "queries": [{ "id": id, "status": status, "state": status }] } }))
}

fn rows(id: &str, cell: &str) -> Value {
    json!({ "success": true, "code": null, "message": null, "data": {
        "rowtype": [{ "name": "SAID", "type": "text", "nullable": true, "length": 200, "byteLength": 800,
            "precision": null, "scale": null, "collation": null, "database": "", "schema": "", "table": "" }],
        "rowset": [[cell]], "total": 1, "returned": 1, "queryId": id, "queryResultFormat": "json",
        "statementTypeId": 4096, "version": 1, "finalDatabaseName": "SALES", "finalSchemaName": "PUBLIC",
        "finalWarehouseName": "WH", "finalRoleName": "R", "parameters": [], "sqlState": null,
    } })
}

fn failed(id: &str, code: &str, message: &str, sqlstate: &str) -> Json<Value> {
    Json(json!({ "success": false, "code": code, "message": message, "data": {
        "errorCode": code, "sqlState": sqlstate, "queryId": id, "line": 1, "pos": 0, "type": "COMPILATION",
    } }))
}

/// What a PUT is answered with: the keys to the storage.
fn credentials(id: &str) -> Value {
    json!({ "success": true, "code": null, "message": null, "data": {
        "command": "UPLOAD", "src_locations": ["/tmp/x"], "parallel": 4, "threshold": 1, "autoCompress": true,
        "overwrite": false, "sourceCompression": "auto_detect", "operation": "Node", "queryId": id,
        "statementTypeId": 0x7102,
        "stageInfo": { "locationType": "S3", "location": "bucket/path", "path": "path", "region": "eu-west-1",
            "creds": { "AWS_KEY_ID": format!("{CANARY}-key"), "AWS_SECRET_KEY": format!("{CANARY}-secret"),
                "AWS_TOKEN": format!("{CANARY}-token") } },
        "presignedUrls": [format!("http://203.0.113.9/{CANARY}-presigned")],
        "encryptionMaterial": { "queryStageMasterKey": format!("{CANARY}-stage"), "queryId": id, "smkId": 1 },
    } })
}
