//! A warehouse that answers by the text it is sent, and remembers every call.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::State,
    http::{HeaderMap, Method, Request, Response, StatusCode, Uri},
};
use http_body_util::{BodyExt as _, Full};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use rcgen::{CertifiedKey, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

pub const TOKEN: &str = "UPSTREAM-SESSION-TOKEN-c0ffee";
pub const MASTER: &str = "UPSTREAM-MASTER-TOKEN-c0ffee";
pub const RENEWED: &str = "UPSTREAM-RENEWED-TOKEN-c0ffee";
pub const STORAGE_KEY: &str = "STORAGE-KEY-c0ffee";
pub const SLOW_ID: &str = "11111111-2222-3333-4444-555555555555";

#[derive(Clone)]
pub struct FakeUpstream {
    pub calls: Arc<Mutex<Vec<Call>>>,
    /// Texts with `blocked` in them wait for a permit.
    pub gate: Arc<Semaphore>,
    /// Stops serving.
    pub stop: Arc<Notify>,
    /// `slow` statements are done.
    pub slow_done: Arc<Mutex<bool>>,
    /// The first token has expired.
    pub expired: Arc<Mutex<bool>>,
    /// What these texts are answered with.
    pub replies: Arc<Mutex<HashMap<String, Value>>>,
    /// So many calls about statements are put off, with 503 and no JSON.
    pub busy: Arc<Mutex<u32>>,
    /// What each connection over TLS speaks.
    pub spoken: Arc<Mutex<Vec<String>>>,
    /// So many statements over HTTP/2 are refused unread.
    pub refuse: Arc<Mutex<u32>>,
    /// Ends a connection of HTTP/2 at once (`GOAWAY`).
    pub go_away: Arc<Notify>,
}

#[derive(Clone, Debug)]
pub struct Call {
    pub path: String,
    pub body: Value,
    pub token: Option<String>,
}

impl FakeUpstream {
    fn new() -> Self {
        Self {
            calls: Arc::default(),
            gate: Arc::new(Semaphore::new(0)),
            stop: Arc::default(),
            slow_done: Arc::default(),
            expired: Arc::default(),
            replies: Arc::default(),
            busy: Arc::default(),
            spoken: Arc::default(),
            refuse: Arc::default(),
            go_away: Arc::default(),
        }
    }

    pub async fn serve() -> (Self, SocketAddr) {
        let upstream = Self::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let app = Router::new().fallback(answer).with_state(upstream.clone());
        let stop = Arc::clone(&upstream.stop);
        tokio::spawn(async move {
            let stopped = async move { stop.notified().await };
            axum::serve(listener, app).with_graceful_shutdown(stopped).await.unwrap();
        });
        (upstream, addr)
    }

    /// Over TLS with this certificate, which is `localhost`'s, offering `protocols`.
    pub async fn serve_tls(certificate: &CertifiedKey<KeyPair>, protocols: &[&str]) -> (Self, SocketAddr) {
        let upstream = Self::new();
        let key = PrivateKeyDer::try_from(certificate.signing_key.serialize_der()).unwrap();
        let mut tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.cert.der().clone()], key)
            .unwrap();
        tls.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let it = upstream.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (acceptor, it) = (acceptor.clone(), it.clone());
                tokio::spawn(async move {
                    let Ok(stream) = acceptor.accept(stream).await else { return };
                    let spoken = stream.get_ref().1.alpn_protocol().unwrap_or(b"http/1.1").to_vec();
                    it.spoken.lock().unwrap().push(String::from_utf8(spoken.clone()).unwrap());
                    if spoken == b"h2" { it.speak_h2(stream).await } else { it.speak_http1(stream).await }
                });
            }
        });
        (upstream, addr)
    }

    async fn speak_http1(self, stream: TlsStream<TcpStream>) {
        let service = service_fn(|request: Request<Incoming>| {
            let it = self.clone();
            async move {
                let (head, body) = request.into_parts();
                let body = body.collect().await?.to_bytes();
                let (status, text) = answer(State(it), head.method, head.uri, head.headers, body).await;
                Ok::<_, hyper::Error>(Response::builder().status(status).body(Full::new(Bytes::from(text))).unwrap())
            }
        });
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    async fn speak_h2(self, stream: TlsStream<TcpStream>) {
        let mut connection = h2::server::Builder::new().max_concurrent_streams(100).handshake(stream).await.unwrap();
        loop {
            tokio::select! {
                () = self.go_away.notified() => connection.abrupt_shutdown(h2::Reason::INTERNAL_ERROR),
                accepted = connection.accept() => {
                    let Some(Ok((request, respond))) = accepted else { return };
                    tokio::spawn(self.clone().answer_h2(request, respond));
                }
            }
        }
    }

    async fn answer_h2(self, request: Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
        let (head, mut stream) = request.into_parts();
        if head.uri.path().ends_with("/query-request") {
            let mut refuse = self.refuse.lock().unwrap();
            if *refuse > 0 {
                *refuse -= 1;
                return respond.send_reset(h2::Reason::REFUSED_STREAM);
            }
        }
        let mut body = Vec::new();
        while let Some(Ok(data)) = stream.data().await {
            body.extend_from_slice(&data);
            let _ = stream.flow_control().release_capacity(data.len());
        }
        let path = head.uri.path_and_query().unwrap().as_str().parse().unwrap();
        let (status, text) = answer(State(self), head.method, path, head.headers, body.into()).await;
        // The other side may have gone.
        if let Ok(mut send) = respond.send_response(Response::builder().status(status).body(()).unwrap(), false) {
            let _ = send.send_data(text.into(), true);
        }
    }

    pub fn calls_to(&self, path: &str) -> Vec<Call> {
        self.calls.lock().unwrap().iter().filter(|call| call.path.starts_with(path)).cloned().collect()
    }

    /// The texts of all statements sent.
    pub fn texts(&self) -> Vec<String> {
        let text = |call: Call| call.body["sqlText"].as_str().unwrap_or_default().to_owned();
        self.calls_to("/queries/v1/query-request").into_iter().map(text).collect()
    }
}

async fn answer(
    State(it): State<FakeUpstream>,
    _method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, String) {
    let asked = uri.path().starts_with("/queries/");
    let answer = answered(&it, &uri, &headers, &body).await;
    let mut busy = it.busy.lock().unwrap();
    if asked && *busy > 0 {
        *busy -= 1;
        return (StatusCode::SERVICE_UNAVAILABLE, "<html>busy</html>".to_owned());
    }
    (StatusCode::OK, answer)
}

async fn answered(it: &FakeUpstream, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> String {
    let body: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
    let token = headers.get("authorization").map(|value| value.to_str().unwrap().to_owned());
    let path = uri.path().to_owned();
    it.calls.lock().unwrap().push(Call { path: uri.to_string(), body: body.clone(), token: token.clone() });
    let stale = *it.expired.lock().unwrap() && token.as_deref().is_some_and(|token| token.contains(TOKEN));
    if stale && !path.starts_with("/session") {
        return json!({ "success": false, "code": "390112", "message": "expired", "data": null }).to_string();
    }
    let answer = match path.as_str() {
        "/session/v1/login-request" => json!({ "success": true, "data": {
            "token": TOKEN, "masterToken": MASTER, "sessionId": 7, "validityInSeconds": 3600,
            "masterValidityInSeconds": 14400, "serverVersion": "9.9", "parameters": [],
            "sessionInfo": { "databaseName": "SALES", "schemaName": "PUBLIC", "roleName": "ANALYST", "warehouseName": "WH" },
        }}),
        "/session/token-request" => json!({ "success": true, "data": {
            "sessionToken": RENEWED, "validityInSecondsST": 3600, "masterToken": MASTER, "validityInSecondsMT": 14400,
            "sessionId": 7,
        }}),
        "/queries/v1/query-request" => statement(it, body["sqlText"].as_str().unwrap_or_default()).await,
        "/queries/v1/abort-request" => {
            it.gate.add_permits(1);
            json!({ "success": true, "data": null })
        }
        _ if path.starts_with("/queries/") && path.ends_with("/result") => slow(it),
        _ => json!({ "success": true, "data": null }),
    };
    answer.to_string()
}

async fn statement(it: &FakeUpstream, sql: &str) -> Value {
    if let Some(reply) = it.replies.lock().unwrap().get(sql) {
        return reply.clone();
    }
    if sql.contains("blocked") {
        it.gate.acquire().await.unwrap().forget();
    }
    if sql.contains("slow") {
        return slow(it);
    }
    if sql.contains("parts at ") {
        let host = sql.rsplit(' ').next().unwrap_or_default();
        let mut reply = rows("1", "SALES");
        reply["data"]["chunks"] = json!([{ "url": format!("https://{host}/x?sig={STORAGE_KEY}"), "rowCount": 1 }]);
        reply["data"]["chunkHeaders"] = json!({ "x-amz-server-side-encryption-customer-key": STORAGE_KEY });
        return reply;
    }
    if sql.contains("file://") {
        return json!({ "success": true, "data": {
            "command": if sql.starts_with("put") { "UPLOAD" } else { "DOWNLOAD" }, "src_locations": ["/tmp/x"],
            "stageInfo": { "locationType": "S3", "location": "b/p", "region": "eu", "creds": { "AWS_SECRET_KEY": STORAGE_KEY } },
            "encryptionMaterial": { "queryStageMasterKey": STORAGE_KEY }, "queryId": uuid::Uuid::new_v4().to_string(),
        }});
    }
    if sql.contains("leak") {
        return rows(TOKEN, "SALES");
    }
    if sql.contains("fail") {
        return json!({ "success": false, "code": "002003", "message": "no such table", "data": { "sqlState": "42S02" } });
    }
    if sql.contains("mute") {
        let mut mute = rows("1", "SALES");
        mute["data"].as_object_mut().unwrap().retain(|name, _| !name.starts_with("final"));
        return mute;
    }
    rows("1", if sql.contains("use") { "OTHER" } else { "SALES" })
}

fn slow(it: &FakeUpstream) -> Value {
    if *it.slow_done.lock().unwrap() {
        if let Some(reply) = it.replies.lock().unwrap().get(SLOW_ID) {
            return reply.clone();
        }
        let mut done = rows("slow", "SALES");
        done["data"]["queryId"] = SLOW_ID.into();
        return done;
    }
    json!({ "success": true, "code": "333333", "message": "running", "data": {
        "queryId": SLOW_ID, "getResultUrl": format!("https://elsewhere.example/queries/{SLOW_ID}/result"),
    }})
}

fn rows(cell: &str, database: &str) -> Value {
    json!({ "success": true, "code": null, "message": null, "data": {
        "rowtype": [{ "name": "A", "type": "text", "nullable": true }], "rowset": [[cell]], "total": 1, "returned": 1,
        "queryId": uuid::Uuid::new_v4().to_string(), "queryResultFormat": "json", "statementTypeId": 4096,
        "finalDatabaseName": database, "finalSchemaName": "PUBLIC", "finalRoleName": "ANALYST", "finalWarehouseName": "WH",
    }})
}
