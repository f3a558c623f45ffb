//! A proxy that passes everything on and keeps what it saw.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::{Request, State};
use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::translate;

/// One request and its answer.
#[derive(Debug, Clone)]
pub struct Exchange {
    /// Path and query.
    pub target: String,
    /// `Authorization`, empty if there was none.
    pub authorization: String,
    /// The request's body, decompressed.
    pub request: Bytes,
    /// The answer's headers as text. Empty while there is no answer.
    pub response_headers: String,
    /// The answer's body as it went over the wire.
    pub response_wire: Bytes,
    /// The same, decompressed.
    pub response: Bytes,
}

impl Exchange {
    /// The request's body as JSON; null when it is none.
    pub fn request_json(&self) -> Value {
        serde_json::from_slice(&self.request).unwrap_or(Value::Null)
    }

    /// The answer's body as JSON; null when it is none.
    pub fn response_json(&self) -> Value {
        serde_json::from_slice(&self.response).unwrap_or(Value::Null)
    }
}

#[derive(Debug)]
struct Shared {
    upstream: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    seen: Mutex<Vec<Exchange>>,
    /// What it saw is passed on in fakesnow's words.
    translates: bool,
    /// Results of statements that came several at once, by their id: fakesnow keeps none.
    results: Mutex<BTreeMap<String, Bytes>>,
}

impl Shared {
    fn kept(&self, path: &str) -> Option<Bytes> {
        let id = path.strip_prefix("/queries/")?.strip_suffix("/result")?;
        self.results.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    async fn send(
        &self,
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        body: Bytes,
    ) -> Result<Response<Bytes>, &'static str> {
        let mut request = http::Request::new(Full::new(body));
        *request.method_mut() = method.clone();
        *request.uri_mut() = uri.clone();
        *request.headers_mut() = end_to_end(headers);
        let answer = self.client.request(request).await.map_err(|_| "the upstream does not answer")?;
        let (parts, body) = answer.into_parts();
        let body = body.collect().await.map_err(|_| "the upstream broke off")?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    }
}

/// The running proxy. Dropping it stops it.
#[derive(Debug)]
pub struct Recorder {
    addr: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Recorder {
    /// Starts between whoever is given [`Recorder::addr`] and `upstream`.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start(upstream: SocketAddr) -> anyhow::Result<Self> {
        Self::start_as(upstream, false).await
    }

    /// The same in front of fakesnow, which gets what it is sent in [its own words](crate::translate).
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start_translating(upstream: SocketAddr) -> anyhow::Result<Self> {
        Self::start_as(upstream, true).await
    }

    async fn start_as(upstream: SocketAddr, translates: bool) -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let client = Client::builder(TokioExecutor::new()).build_http();
        let shared =
            Arc::new(Shared { upstream, client, seen: Mutex::default(), translates, results: Mutex::default() });
        let routes = axum::Router::new().fallback(pass).with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { drop(axum::serve(listener, routes).await) });
        Ok(Self { addr, shared, server })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Everything so far, in the order the requests came.
    pub fn exchanges(&self) -> Vec<Exchange> {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Bodies of `query-request`, in order.
    pub fn queries(&self) -> Vec<Value> {
        let exchanges = self.exchanges();
        let queries = exchanges.iter().filter(|exchange| exchange.target.starts_with("/queries/v1/query-request"));
        queries.map(Exchange::request_json).collect()
    }
}

/// Decompresses by header and by magic.
pub fn decompressed(bytes: &Bytes) -> Bytes {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return bytes.clone();
    }
    let mut plain = Vec::new();
    match flate2::read::GzDecoder::new(bytes.as_ref()).read_to_end(&mut plain) {
        Ok(_) => plain.into(),
        Err(_) => bytes.clone(),
    }
}

async fn pass(State(shared): State<Arc<Shared>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let Ok(body) = body.collect().await else { return gone("the client went away") };
    let body = body.to_bytes();
    let target = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let authorization =
        parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    // Noted before it is passed on: what was executed is never missing here.
    let at = {
        let mut seen = shared.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.push(Exchange {
            target: target.clone(),
            authorization,
            request: decompressed(&body),
            response_headers: String::new(),
            response_wire: Bytes::new(),
            response: Bytes::new(),
        });
        seen.len() - 1
    };
    let Ok(uri) = Uri::builder().scheme("http").authority(shared.upstream.to_string()).path_and_query(target).build()
    else {
        return gone("not a target");
    };
    let mut headers = end_to_end(&parts.headers);
    let answer = if shared.translates && uri.path() == "/queries/v1/query-request" {
        headers.remove(header::CONTENT_ENCODING);
        translated(&shared, &parts.method, &uri, &headers, &decompressed(&body)).await
    } else if let Some(kept) = shared.kept(uri.path()) {
        Ok(Response::new(kept))
    } else {
        shared.send(&parts.method, &uri, &headers, body).await
    };
    let (mut answer_parts, answer_body) = match answer {
        Ok(answer) => answer.into_parts(),
        Err(why) => return gone(why),
    };
    if let Some(exchange) = shared.seen.lock().unwrap_or_else(PoisonError::into_inner).get_mut(at) {
        exchange.response_headers = format!("{:?}", answer_parts.headers);
        exchange.response_wire = answer_body.clone();
        exchange.response = decompressed(&answer_body);
    }
    answer_parts.headers = end_to_end(&answer_parts.headers);
    Response::from_parts(answer_parts, Body::from(answer_body))
}

/// Sends a statement in fakesnow's words; several at once one by one, whose results it keeps.
async fn translated(
    shared: &Shared,
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Response<Bytes>, &'static str> {
    let asked: Value = serde_json::from_slice(body).map_err(|_| "not JSON")?;
    let mut replies = Vec::new();
    let statements = translate::pieces(&asked).unwrap_or_else(|| vec![asked.clone()]);
    let count = statements.len();
    for statement in statements {
        let mut said = statement.clone();
        translate::request(&mut said);
        let (parts, body) = shared.send(method, uri, headers, said.to_string().into()).await?.into_parts();
        let Ok(mut told) = serde_json::from_slice::<Value>(&body) else { return Ok(Response::from_parts(parts, body)) };
        translate::reply(&statement, &mut told);
        if count == 1 || told.get("success") != Some(&Value::Bool(true)) {
            return Ok(Response::from_parts(parts, told.to_string().into()));
        }
        replies.push(told);
    }
    let mut results = shared.results.lock().unwrap_or_else(PoisonError::into_inner);
    results.extend(replies.iter().map(|reply| {
        let id = reply.pointer("/data/queryId").and_then(Value::as_str).unwrap_or_default();
        (id.to_owned(), Bytes::from(reply.to_string()))
    }));
    Ok(Response::new(translate::together(&replies).to_string().into()))
}

/// The headers that are not about one connection.
fn end_to_end(headers: &HeaderMap) -> HeaderMap {
    let mut kept = headers.clone();
    // `Host` stays: who is asked builds addresses from where the client thinks it is.
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::CONTENT_LENGTH] {
        kept.remove(name);
    }
    kept
}

fn gone(why: &'static str) -> Response<Body> {
    let mut response = Response::new(Body::from(why));
    *response.status_mut() = StatusCode::BAD_GATEWAY;
    response
}
