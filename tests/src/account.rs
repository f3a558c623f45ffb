//! An account that knows its own tables: answers icegate's questions about them as Snowflake does, and says of every
//! other statement only that it ran.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::extract::State;
use axum::routing::post;
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::recorder::decompressed;

/// One table or view.
#[derive(Debug, Clone)]
pub struct Relation {
    /// In `SALES.PUBLIC`.
    pub name: &'static str,
    /// Last change, in milliseconds since 1970.
    pub altered_ms: i64,
    /// A view's text; `Some(None)` is a view whose text the role may not see.
    pub view: Option<Option<&'static str>>,
    /// Columns and the value of their tag `PII`, empty for none.
    pub columns: &'static [(&'static str, &'static str)],
    /// Its tags cannot be read one by one.
    pub tags_hidden: bool,
}

#[derive(Debug, Default)]
struct Shared {
    relations: Mutex<Vec<Relation>>,
    statements: Mutex<Vec<String>>,
    logins: Mutex<usize>,
    lost: Mutex<bool>,
}

/// The running account. Dropping it stops it.
#[derive(Debug)]
pub struct Account {
    addr: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Drop for Account {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Account {
    /// Starts on a free port.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let shared = Arc::new(Shared::default());
        let routes = axum::Router::new()
            .route("/session/v1/login-request", post(login))
            .route("/session", post(|| async { Json(json!({ "success": true, "data": null })) }))
            .route("/queries/v1/query-request", post(query))
            .with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { drop(axum::serve(listener, routes).await) });
        Ok(Self { addr, shared, server })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// A table or view is made.
    pub fn create(&self, relation: Relation) {
        lock(&self.shared.relations).push(relation);
    }

    /// A table or view is dropped.
    pub fn drop_relation(&self, name: &str) {
        lock(&self.shared.relations).retain(|relation| relation.name != name);
    }

    /// The sessions opened until now end, at their next statement.
    pub fn lose_sessions(&self) {
        *lock(&self.shared.lost) = true;
    }

    /// Logins so far.
    pub fn logins(&self) -> usize {
        *lock(&self.shared.logins)
    }

    /// The statements it ran, in order.
    pub fn statements(&self) -> Vec<String> {
        lock(&self.shared.statements).clone()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn login(State(shared): State<Arc<Shared>>) -> Json<Value> {
    *lock(&shared.logins) += 1;
    Json(json!({ "success": true, "data": {
        "token": "account-session", "masterToken": "account-master", "sessionId": 1, "validityInSeconds": 3600,
        "masterValidityInSeconds": 14400, "serverVersion": "9.0.0", "parameters": [],
        "sessionInfo": { "databaseName": "SALES", "schemaName": "PUBLIC", "warehouseName": "DEMO_WH", "roleName": "ANALYST" },
    } }))
}

async fn query(State(shared): State<Arc<Shared>>, body: Bytes) -> Json<Value> {
    let body: Value = serde_json::from_slice(&decompressed(&body)).unwrap_or_default();
    let sql = body.get("sqlText").and_then(Value::as_str).unwrap_or_default().to_owned();
    if std::mem::take(&mut *lock(&shared.lost)) {
        return Json(json!({ "success": false, "code": "390112", "message": "expired", "data": null }));
    }
    lock(&shared.statements).push(sql.clone());
    let relations = lock(&shared.relations).clone();
    // Clients ask for one column, and get one of its name.
    let column = sql.split_whitespace().nth(1).unwrap_or_default().to_uppercase();
    match answer(&sql, &relations) {
        Some(rows) => Json(json!({ "success": true, "code": null, "message": null, "data": {
            "rowtype": [{ "name": column, "type": "text", "nullable": true }], "total": rows.len(), "returned": rows.len(),
            "rowset": rows, "queryId": uuid::Uuid::new_v4().to_string(), "queryResultFormat": "json",
            "statementTypeId": 4096, "finalDatabaseName": "SALES", "finalSchemaName": "PUBLIC",
            "finalRoleName": "ANALYST", "finalWarehouseName": "DEMO_WH",
        } })),
        None => Json(json!({ "success": false, "code": "002003", "message": "does not exist or not authorized",
            "data": { "sqlState": "02000", "queryId": uuid::Uuid::new_v4().to_string() } })),
    }
}

/// Rows, or `None` for an error.
fn answer(sql: &str, relations: &[Relation]) -> Option<Vec<Value>> {
    let wanted: Vec<&Relation> = relations
        .iter()
        .filter(|one| !sql.contains("TABLE_NAME = '") || sql.contains(&format!("'{}'", one.name)))
        .collect();
    let altered = |relation: &&&Relation| {
        let since = sql.split_once("TO_TIMESTAMP_LTZ(").and_then(|(_, rest)| rest.split_once(','));
        since.and_then(|(since, _)| since.parse().ok()).is_none_or(|since: i64| relation.altered_ms >= since)
    };
    if sql.starts_with("SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE") {
        let kind = |one: &Relation| if one.view.is_some() { "VIEW" } else { "BASE TABLE" };
        return Some(
            wanted.iter().map(|one| json!(["PUBLIC", one.name, kind(one), one.altered_ms.to_string()])).collect(),
        );
    }
    if sql.starts_with("SELECT c.TABLE_SCHEMA") {
        let columns = |one: &&Relation| {
            let row = |(at, (column, _)): (usize, &(&str, &str))| {
                json!(["PUBLIC", one.name, column, (at + 1).to_string(), "TEXT", "YES", "100", null, null, null])
            };
            one.columns.iter().enumerate().map(row).collect::<Vec<_>>()
        };
        return Some(wanted.iter().filter(altered).flat_map(columns).collect());
    }
    if sql.starts_with("SELECT v.TABLE_SCHEMA") {
        let views = wanted.iter().filter(altered).filter_map(|one| Some(json!(["PUBLIC", one.name, one.view?])));
        return Some(views.collect());
    }
    if sql.starts_with("SELECT GET_DDL('VIEW'") {
        let one = relations.iter().find(|one| sql.contains(&format!("\"{}\"'", one.name)))?;
        return Some(vec![json!([one.view??])]);
    }
    if sql.contains("TAG_REFERENCES_ALL_COLUMNS(") {
        let one = relations.iter().find(|one| sql.contains(&format!("\"{}\"'", one.name)))?;
        let tagged = one.columns.iter().filter(|(_, tag)| !tag.is_empty());
        return (!one.tags_hidden).then(|| tagged.map(|(column, tag)| json!([column, "PII", tag, "COLUMN"])).collect());
    }
    if sql.contains(".INFORMATION_SCHEMA.FUNCTIONS") {
        return Some(vec![
            json!(["PUBLIC", "CLEAN", "(A VARCHAR)", "JAVASCRIPT", "NO", null]),
            json!(["PUBLIC", "SEND", "(A VARCHAR)", "PYTHON", "NO", "[MAIL]"]),
        ]);
    }
    if sql.contains(".INFORMATION_SCHEMA.PROCEDURES") {
        return Some(vec![json!(["PUBLIC", "REBUILD", "()", "SQL", null, null])]);
    }
    if sql.contains("ACCOUNT_USAGE.TAG_REFERENCES") {
        // What the bundle defines too, and an old table's.
        return Some(vec![
            json!(["PUBLIC", "ORDERS", "NOTE", "COLUMN", "PII", "name", "GOV", "TAGS"]),
            json!(["PUBLIC", "OLD", "PHONE", "COLUMN", "PII", "phone", "GOV", "TAGS"]),
        ]);
    }
    Some(vec![json!(["1"])])
}
