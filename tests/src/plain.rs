//! A client without a driver: one request, one answer, as the bytes they are.

use std::net::SocketAddr;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

/// A client of one address, with or without a session there.
#[derive(Debug, Clone)]
pub struct Plain {
    addr: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    /// `Authorization`, empty for none.
    pub authorization: String,
}

/// What came back.
#[derive(Debug, Clone)]
pub struct Answered {
    /// Its status.
    pub status: StatusCode,
    /// Its headers.
    pub headers: HeaderMap,
    /// Its body as it went over the wire.
    pub body: Bytes,
}

impl Answered {
    /// The body as JSON; null when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&crate::recorder::decompressed(&self.body)).unwrap_or(Value::Null)
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Plain {
    /// A client that nobody knows.
    pub fn new(addr: SocketAddr) -> Self {
        Self { addr, client: Client::builder(TokioExecutor::new()).build_http(), authorization: String::new() }
    }

    /// A client that has logged in with this identity token.
    ///
    /// # Errors
    ///
    /// When it is not let in.
    pub async fn login(addr: SocketAddr, token: &str) -> anyhow::Result<Self> {
        let mut plain = Self::new(addr);
        let body = json!({ "data": { "CLIENT_APP_ID": "PythonConnector", "CLIENT_APP_VERSION": "9.9.9",
            "AUTHENTICATOR": "OAUTH", "TOKEN": token } });
        let path = "/session/v1/login-request?databaseName=SALES&schemaName=PUBLIC&warehouse=DEMO_WH";
        let answered = plain.send("POST", path, &[], body.to_string()).await?.json();
        let token = answered.pointer("/data/token").and_then(Value::as_str);
        plain.authorization = format!("Snowflake Token=\"{}\"", token.with_context(|| format!("{answered}"))?);
        Ok(plain)
    }

    /// Sends a request to a path, or to a whole URL of the same sort.
    ///
    /// # Errors
    ///
    /// When no whole answer comes.
    pub async fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> anyhow::Result<Answered> {
        let uri = if target.starts_with("http") { target.to_owned() } else { format!("http://{}{target}", self.addr) };
        let mut request = Request::builder().method(method).uri(uri);
        if !self.authorization.is_empty() {
            request = request.header("authorization", &self.authorization);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.client.request(request.body(Full::new(body.into()))?).await?;
        let (head, body) = response.into_parts();
        Ok(Answered { status: head.status, headers: head.headers, body: body.collect().await?.to_bytes() })
    }

    /// Runs a statement under a request id.
    ///
    /// # Errors
    ///
    /// When no whole answer comes.
    pub async fn query_as(&self, request_id: &str, body: &Value) -> anyhow::Result<Value> {
        let path = format!("/queries/v1/query-request?requestId={request_id}");
        Ok(self.send("POST", &path, &[], body.to_string()).await?.json())
    }

    /// Runs a statement.
    ///
    /// # Errors
    ///
    /// When no whole answer comes.
    pub async fn query(&self, sql: &str) -> anyhow::Result<Value> {
        self.query_as(&uuid::Uuid::new_v4().to_string(), &json!({ "sqlText": sql, "asyncExec": false })).await
    }

    /// Asks for something by its path.
    ///
    /// # Errors
    ///
    /// When no whole answer comes.
    pub async fn get(&self, path: &str) -> anyhow::Result<Answered> {
        self.send("GET", path, &[], String::new()).await
    }
}
