use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::{CANARY, Shared};

pub(super) async fn login(State(shared): State<Arc<Shared>>) -> Json<Value> {
    let number = shared.tokens.fetch_add(1, Ordering::Relaxed);
    Json(json!({ "success": true, "data": {
        "token": format!("{CANARY}-session-{number}"), "masterToken": format!("{CANARY}-master-{number}"),
        "idToken": format!("{CANARY}-id-{number}"), "mfaToken": format!("{CANARY}-mfa-{number}"),
        "remMeToken": format!("{CANARY}-remember-{number}"),
        "sessionId": 4711, "validityInSeconds": 3600, "masterValidityInSeconds": 14400, "serverVersion": "9.0.0",
        "parameters": [
            { "name": "AUTOCOMMIT", "value": true },
            { "name": "TIMEZONE", "value": "Etc/UTC" },
            { "name": "CLIENT_SESSION_KEEP_ALIVE_HEARTBEAT_FREQUENCY", "value": 3600 },
            // As Snowflake has it: the proxy must turn staged binds off.
            { "name": "CLIENT_STAGE_ARRAY_BINDING_THRESHOLD", "value": 65280 },
        ],
        "sessionInfo": { "databaseName": "SALES", "schemaName": "PUBLIC", "warehouseName": "WH", "roleName": "R" },
    } }))
}

pub(super) async fn renew(State(shared): State<Arc<Shared>>) -> Json<Value> {
    shared.renewals.fetch_add(1, Ordering::Relaxed);
    let number = shared.tokens.fetch_add(1, Ordering::Relaxed);
    Json(json!({ "success": true, "data": {
        "sessionToken": format!("{CANARY}-session-{number}"), "validityInSecondsST": 3600,
        "masterToken": format!("{CANARY}-master-{number}"), "validityInSecondsMT": 14400, "sessionId": 4711,
    } }))
}

pub(super) async fn done() -> Json<Value> {
    Json(json!({ "success": true, "data": null, "code": null, "message": null }))
}
