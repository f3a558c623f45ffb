//! The cloud storage that results lie in: objects under signed URLs, with the key they are encrypted with in the headers.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures::{StreamExt as _, stream};
use tokio::net::TcpListener;

use super::CANARY;

/// What lies under one path.
#[derive(Debug, Clone, Default)]
pub(super) struct Object {
    pub(super) body: Bytes,
    /// Says that it is packed.
    pub(super) labelled: bool,
    /// What a request must carry.
    pub(super) headers: Vec<(String, String)>,
    pub(super) mood: Mood,
}

/// How the storage answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Mood {
    #[default]
    Well,
    /// "Try again" for so many times.
    Busy(u32),
    /// Sends elsewhere.
    Redirect,
    /// Breaks off in the middle.
    Cut,
    /// The object so many times over, in small pieces.
    Long(u32),
}

/// One request to the storage.
#[derive(Debug, Clone)]
pub struct Fetch {
    /// Path and query.
    pub target: String,
    /// Its headers.
    pub headers: HeaderMap,
    /// What it was answered with.
    pub status: u16,
}

#[derive(Debug)]
pub(super) struct Storage {
    addr: SocketAddr,
    objects: Mutex<BTreeMap<String, Object>>,
    fetches: Mutex<Vec<Fetch>>,
}

impl Storage {
    pub(super) fn new(addr: SocketAddr) -> Self {
        Self { addr, objects: Mutex::default(), fetches: Mutex::default() }
    }

    /// Puts an object there and gives its signed URL.
    pub(super) fn put(&self, object: Object) -> String {
        let path = format!("/stage/results/{}", uuid::Uuid::new_v4());
        self.objects.lock().unwrap_or_else(PoisonError::into_inner).insert(path.clone(), object);
        format!("http://{}{path}?X-Amz-Expires=21599&X-Amz-Signature={CANARY}-signature", self.addr)
    }

    pub(super) fn fetches(&self) -> Vec<Fetch> {
        self.fetches.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn answer(&self, path: &str, query: &str, headers: &HeaderMap) -> Response {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(object) = objects.get_mut(path) else { return StatusCode::NOT_FOUND.into_response() };
        let sent = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let keyed = object.headers.iter().all(|(name, value)| sent(name) == Some(value));
        // As S3 does: a signed URL and a credential beside it contradict each other.
        if !query.contains("X-Amz-Signature=") || !keyed || sent("authorization").is_some() {
            return (StatusCode::FORBIDDEN, format!("<Error>{CANARY}-denied</Error>")).into_response();
        }
        let body = object.body.clone();
        let mut response = match &mut object.mood {
            Mood::Busy(times) if *times > 0 => {
                *times -= 1;
                return StatusCode::SERVICE_UNAVAILABLE.into_response();
            }
            Mood::Well | Mood::Busy(_) => body.into_response(),
            Mood::Redirect => {
                let elsewhere = format!("http://{}/stage/other?X-Amz-Signature={CANARY}", self.addr);
                return (StatusCode::FOUND, [(header::LOCATION, elsewhere)]).into_response();
            }
            Mood::Cut => {
                let half = body.slice(..body.len() / 2);
                // The first half arrives before it breaks.
                let pieces = stream::iter([Ok(half), Err(std::io::Error::other("scripted"))]).then(async |piece| {
                    if piece.is_err() {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    piece
                });
                Body::from_stream(pieces).into_response()
            }
            Mood::Long(times) => {
                let pieces = std::iter::repeat_n(body, usize::try_from(*times).unwrap_or(1));
                Body::from_stream(stream::iter(pieces.map(Ok::<_, std::io::Error>))).into_response()
            }
        };
        if object.labelled {
            response.headers_mut().insert(header::CONTENT_ENCODING, header::HeaderValue::from_static("gzip"));
        }
        response
    }
}

pub(super) async fn serve(listener: TcpListener, storage: Arc<Storage>) {
    let routes = axum::Router::new().fallback(fetch).with_state(storage);
    drop(axum::serve(listener, routes).await);
}

async fn fetch(State(storage): State<Arc<Storage>>, request: Request) -> Response {
    let target = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
    let response = storage.answer(request.uri().path(), request.uri().query().unwrap_or_default(), request.headers());
    let fetched = Fetch { target, headers: request.headers().clone(), status: response.status().as_u16() };
    storage.fetches.lock().unwrap_or_else(PoisonError::into_inner).push(fetched);
    response
}
