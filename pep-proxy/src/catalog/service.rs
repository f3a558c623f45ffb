//! The proxy's own session at the warehouse: opened when it is needed, and again when it has ended.

use bytes::Bytes;
use http::Method;
use icegate_pep_protocol::{
    Limits, LoginRequest, Reply, RequestedNames, Secret, Stamp, UpstreamSession, decode_body, stamp, upstream,
};
use icegate_proto::v1::RunStatus;
use serde_json::{Value, json};
use tokio::sync::Mutex;
use tracing::warn;

use crate::{config::Catalog, proxy::Proxy, session::login::fresh_request_id};

/// Bytes of one answer that are read: a page is small.
const REPLY_BYTES_MAX: usize = 8 * 1024 * 1024;

#[derive(Debug)]
pub(super) struct ServiceSession {
    config: Catalog,
    /// The session's token, while it is believed to be good.
    token: Mutex<Option<Secret>>,
}

/// What came of one text.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) status: RunStatus,
    pub(super) query_id: String,
    /// Rows of texts and nulls, or a code.
    pub(super) rows: Result<Vec<Value>, String>,
}

impl Asked {
    pub(super) fn failed(status: RunStatus, code: &str) -> Self {
        Self { status, query_id: String::new(), rows: Err(code.to_owned()) }
    }
}

impl ServiceSession {
    pub(super) fn new(config: Catalog) -> Self {
        Self { config, token: Mutex::new(None) }
    }

    /// Sends one text of the list, and once more in a new session when the old one has ended: it was not carried out then.
    pub(super) async fn run(&self, proxy: &Proxy, decision_id: &str, sql: &str) -> Asked {
        for _ in 0..2 {
            let Some(token) = self.token(proxy).await else { return Asked::failed(RunStatus::NotSent, "login") };
            match send(proxy, &token, decision_id, sql).await {
                Sent::Ended => *self.token.lock().await = None,
                Sent::Done(asked) => return asked,
            }
        }
        Asked::failed(RunStatus::NotSent, "login")
    }

    /// The session's token. Whoever comes first logs in, the others wait.
    async fn token(&self, proxy: &Proxy) -> Option<Secret> {
        let mut token = self.token.lock().await;
        if token.is_none() {
            *token = log_in(proxy, &self.config).await;
        }
        token.clone()
    }
}

enum Sent {
    /// The session at the warehouse has ended.
    Ended,
    Done(Asked),
}

async fn send(proxy: &Proxy, token: &Secret, decision_id: &str, sql: &str) -> Sent {
    let failed = |status, code: &str| Sent::Done(Asked::failed(status, code));
    let Ok(request_id) = fresh_request_id() else { return failed(RunStatus::NotSent, "login") };
    let body = json!({
        "sqlText": sql, "asyncExec": false, "sequenceId": 1, "querySubmissionTime": 0, "describeOnly": false,
        "parameters": { "QUERY_TAG": tag(proxy, Some(decision_id)), "MULTI_STATEMENT_COUNT": 1 },
    });
    let body = Bytes::from(body.to_string());
    let called = proxy.upstream.call(Method::POST, &upstream::query_path(&request_id), Some(token), Some(body)).await;
    let mut reply = match called {
        Ok(reply) => reply.body,
        Err(error) => {
            let status = if error.may_have_run() { RunStatus::Unknown } else { RunStatus::NotSent };
            return failed(status, "unreachable");
        }
    };
    loop {
        if reply.len() > REPLY_BYTES_MAX {
            return failed(RunStatus::Withheld, "too-large");
        }
        let Ok(parsed) = Reply::parse(&reply, &proxy.limits) else { return failed(RunStatus::Unknown, "format") };
        if parsed.session_loss().is_some() {
            return Sent::Ended;
        }
        let query_id = parsed.query_id();
        let named = query_id.as_ref().map(ToString::to_string).unwrap_or_default();
        if parsed.is_in_progress() {
            // Snowflake answers within 45 seconds, whether it is done or not. The caller's time ends this.
            let Some(query_id) = query_id else { return failed(RunStatus::Unknown, "format") };
            match proxy.upstream.call(Method::GET, &upstream::result_path(&query_id), Some(token), None).await {
                Ok(next) => reply = next.body,
                Err(_) => return failed(RunStatus::Unknown, "unreachable"),
            }
            continue;
        }
        if !parsed.is_success() {
            let code = if parsed.code().is_empty() { "unknown" } else { parsed.code() };
            return Sent::Done(Asked { status: RunStatus::Failed, query_id: named, rows: Err(code.to_owned()) });
        }
        let rows = match parsed.chunks() {
            Ok(None) => rows(&reply),
            Ok(Some(_)) | Err(_) => Err("chunked".to_owned()),
        };
        let status = if rows.is_ok() { RunStatus::Succeeded } else { RunStatus::Withheld };
        return Sent::Done(Asked { status, query_id: named, rows });
    }
}

/// The rows of a result in JSON: what else there is, is not read.
fn rows(reply: &[u8]) -> Result<Vec<Value>, String> {
    let format = || "format".to_owned();
    let mut reply: Value = serde_json::from_slice(reply).map_err(|_| format())?;
    let rows = reply.get_mut("data").and_then(|data| data.get_mut("rowset")).map(Value::take);
    let Some(Value::Array(rows)) = rows else { return Err(format()) };
    let text = |cell: &Value| matches!(cell, Value::String(_) | Value::Null);
    let sound = rows.iter().all(|row| row.as_array().is_some_and(|cells| cells.iter().all(text)));
    if sound { Ok(rows) } else { Err(format()) }
}

async fn log_in(proxy: &Proxy, config: &Catalog) -> Option<Secret> {
    let names = proxy.account.own_names(config.role.as_ref(), config.warehouse.as_ref());
    let request = own_login(&proxy.limits)?;
    let body = proxy.account.login(&request, &tag(proxy, None)).ok()?;
    let path = upstream::login_path(&names, &fresh_request_id().ok()?);
    let reply = proxy.upstream.call(Method::POST, &path, None, Some(Bytes::copy_from_slice(&body))).await;
    let reply = reply.map_err(|error| warn!(%error, "login for the catalog failed")).ok()?;
    let session = UpstreamSession::parse(&reply.body, &proxy.limits);
    session.map(|session| session.token).map_err(|error| warn!(%error, "login for the catalog refused")).ok()
}

/// A login of a driver that asks for rows in JSON: Snowflake chooses the format by what the driver says it is, and by a
/// parameter of that driver (Snowflake docs, "Parameters", read 2026-11).
fn own_login(limits: &Limits) -> Option<LoginRequest> {
    let body = json!({ "data": {
        "CLIENT_APP_ID": "PythonConnector", "CLIENT_APP_VERSION": "3.12.0", "AUTHENTICATOR": "OAUTH", "TOKEN": "none",
        "CLIENT_ENVIRONMENT": { "APPLICATION": "icegate" },
        "SESSION_PARAMETERS": { "PYTHON_CONNECTOR_QUERY_RESULT_FORMAT": "JSON" },
    } });
    let body = decode_body(body.to_string().as_bytes(), None, limits).ok()?;
    LoginRequest::parse(&body, RequestedNames::default(), limits).ok()
}

fn tag(proxy: &Proxy, decision: Option<&str>) -> String {
    let user = format!("icegate:pep/{}", proxy.pep_id);
    stamp(&Stamp { decision, user: &user, agent: None, client_tag: None })
}

#[cfg(test)]
mod tests {
    use icegate_pep_protocol::Limits;
    use serde_json::json;

    use super::{own_login, rows};

    #[test]
    fn the_login_asks_for_rows_in_json() {
        let request = own_login(&Limits::default()).unwrap();
        assert_eq!(request.session_parameters["PYTHON_CONNECTOR_QUERY_RESULT_FORMAT"], "JSON");
    }

    #[test]
    fn only_rows_of_texts_are_rows() {
        let reply = |rowset: serde_json::Value| rows(json!({ "data": { "rowset": rowset } }).to_string().as_bytes());
        assert_eq!(reply(json!([["a", null], []])).unwrap().len(), 2);
        for wrong in [json!(null), json!("x"), json!([1]), json!([[1]]), json!([[["a"]]])] {
            assert_eq!(reply(wrong.clone()).unwrap_err(), "format", "{wrong}");
        }
        assert_eq!(rows(br#"{"data":{"rowsetBase64":""}}"#).unwrap_err(), "format", "Arrow");
    }
}
