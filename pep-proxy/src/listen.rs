//! Sockets, TLS, and the bytes of one request: what comes in before anything is understood, and how it goes out.

mod stall;

use std::{
    collections::HashMap,
    convert::Infallible,
    io::Write as _,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Either, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use self::stall::{Stalling, Working};
use crate::{chunk::Flow, config, front::Front};

/// Longest wait for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests of one HTTP/2 connection at one time.
const STREAMS_MAX: u32 = 64;
/// Requests of one HTTP/2 connection that were taken back before they were looked at, or broke the rules, before it is ended.
const RESETS_MAX: usize = 32;
/// Longest wait for room for a request's body.
const ROOM_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a body that is too large is read before it is refused.
const OVER_TIMEOUT: Duration = Duration::from_secs(1);
/// Room for bodies is counted in these: a semaphore has no room for all bytes.
const ROOM_UNIT_BYTES: usize = 1024;
/// Bytes from which an answer is packed for a client that takes gzip.
const GZIP_FROM_BYTES: usize = 64 * 1024;

/// One request, read.
pub(crate) struct Call {
    pub(crate) method: Method,
    uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) peer: Peer,
}

/// What goes out.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) content_type: HeaderValue,
    pub(crate) headers: Vec<(HeaderName, HeaderValue)>,
    pub(crate) content: Content,
}

/// The body of an answer.
pub(crate) enum Content {
    Whole(Bytes),
    /// Still coming, and not to be packed.
    Flow(Flow),
}

impl Answer {
    /// As drivers want it: always 200, because they retry or log in again on anything else.
    pub(crate) fn json(body: Bytes) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: HeaderValue::from_static("application/json"),
            headers: Vec::new(),
            content: Content::Whole(body),
        }
    }
}

impl Call {
    fn new(head: http::request::Parts, body: Bytes, peer: Peer) -> Self {
        Self { method: head.method, uri: head.uri, headers: head.headers, body, peer }
    }

    /// The path; empty, as none of ours is, for a whole URL, which is what one sends to a proxy of the other sort.
    pub(crate) fn path(&self) -> &str {
        let sound = if self.peer.http2 { self.authority().1 } else { self.uri.authority().is_none() };
        if sound { self.uri.path() } else { "" }
    }

    pub(crate) fn query(&self) -> &str {
        self.uri.query().unwrap_or_default()
    }

    /// The host this proxy is called by, as the client says.
    pub(crate) fn host(&self) -> Option<&str> {
        if self.peer.http2 { self.authority().0 } else { host(&self.headers) }
    }

    /// Where the client reaches this proxy, as it says itself: scheme and authority.
    pub(crate) fn base(&self) -> Option<Arc<str>> {
        self.host().map(|host| [self.peer.scheme, "://", host].concat().into())
    }

    /// Of HTTP/2 the `:authority`, which stands where `Host` stood, and whether that is all there is: two that differ would be
    /// read differently by two programs.
    fn authority(&self) -> (Option<&str>, bool) {
        let authority = self.uri.authority().map(http::uri::Authority::as_str);
        let mut headers = self.headers.get_all(header::HOST).iter();
        let header = headers.next().map(|value| value.to_str().unwrap_or_default());
        let agree = match (authority, header) {
            (Some(authority), Some(header)) => authority.eq_ignore_ascii_case(header),
            (Some(_) | None, None) => true,
            (None, Some(_)) => false,
        };
        let sound = agree && headers.next().is_none() && self.uri.scheme_str().is_none_or(|scheme| scheme == "https");
        (authority.filter(|host| is_host(host)), sound)
    }

    /// Whether its connection carries no other call meanwhile.
    pub(crate) fn is_alone(&self) -> bool {
        !self.peer.http2
    }

    /// Whether the client takes a packed answer.
    pub(crate) fn takes_gzip(&self) -> bool {
        takes_gzip(&self.headers)
    }
}

/// Why a request could not even be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unread {
    TooLarge,
    Cut,
    /// There is no room for its body now.
    Busy,
}

/// What one client and all of them together may take.
#[derive(Debug)]
pub(crate) struct Bounds {
    connections: Arc<Semaphore>,
    per_address: usize,
    addresses: Mutex<HashMap<IpAddr, usize>>,
    /// Room for request bodies, in [`ROOM_UNIT_BYTES`].
    bodies: Arc<Semaphore>,
    body_timeout: Duration,
    head_timeout: Duration,
    head_bytes_max: usize,
    write_timeout: Duration,
}

/// A connection's place; given back when dropped.
struct Place {
    bounds: Arc<Bounds>,
    address: IpAddr,
    _of_all: OwnedSemaphorePermit,
}

impl Bounds {
    pub(crate) fn new(limits: &config::Limits) -> Self {
        Self {
            connections: Arc::new(Semaphore::new(limits.connections_max)),
            per_address: limits.connections_per_address_max,
            addresses: Mutex::default(),
            bodies: Arc::new(Semaphore::new(limits.bodies_bytes_max / ROOM_UNIT_BYTES)),
            body_timeout: limits.body_timeout,
            head_timeout: limits.head_timeout,
            head_bytes_max: limits.head_bytes_max,
            write_timeout: limits.write_timeout,
        }
    }

    /// A place for one more connection from this address, if it may have one.
    fn place(self: &Arc<Self>, address: IpAddr, of_all: OwnedSemaphorePermit) -> Option<Place> {
        let mut addresses = self.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        let count = addresses.entry(address).or_default();
        if *count >= self.per_address {
            return None;
        }
        *count += 1;
        Some(Place { bounds: Arc::clone(self), address, _of_all: of_all })
    }

    /// Room for a body of so many bytes.
    async fn room(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(ROOM_UNIT_BYTES)).ok()?;
        // There is room, mostly.
        if let Ok(room) = Arc::clone(&self.bodies).try_acquire_many_owned(units) {
            return Some(room);
        }
        let room = Box::pin(Arc::clone(&self.bodies).acquire_many_owned(units));
        tokio::time::timeout(ROOM_TIMEOUT, room).await.ok()?.ok()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut addresses = self.bounds.addresses.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = addresses.get_mut(&self.address) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                addresses.remove(&self.address);
            }
        }
    }
}

/// Accepts connections until told to stop, then lets those there are finish.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    front: Arc<Front>,
    bounds: Bounds,
    mut stop: watch::Receiver<bool>,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let bounds = Arc::new(bounds);
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &bounds.connections) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Some((stream, peer, permit)) = accepted else { continue };
        let Some(place) = bounds.place(peer.ip(), permit) else {
            debug!(%peer, "too many connections from one address");
            continue;
        };
        let (front, acceptor, watcher) = (Arc::clone(&front), acceptor.clone(), graceful.watcher());
        tokio::spawn(async move {
            match acceptor {
                None => {
                    let peer = Peer { addr: peer, sni: None, scheme: "http", http2: false };
                    connection(stream, front, peer, place, watcher).await;
                }
                Some(acceptor) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let tls = stream.get_ref().1;
                        let http2 = tls.alpn_protocol() == Some(b"h2");
                        let sni = tls.server_name().map(Arc::from);
                        let peer = Peer { addr: peer, sni, scheme: "https", http2 };
                        connection(stream, front, peer, place, watcher).await;
                    }
                    Ok(Err(error)) => debug!(%peer, %error, "tls handshake failed"),
                    Err(_elapsed) => debug!(%peer, "tls handshake too slow"),
                },
            }
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

async fn accept(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, tokio::sync::OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.ok()?;
    match listener.accept().await {
        Ok((stream, peer)) => {
            let _ = stream.set_nodelay(true);
            Some((stream, peer, permit))
        }
        Err(error) => {
            // Out of descriptors, mostly: give the others time to end.
            warn!(%error, "accept failed");
            tokio::time::sleep(Duration::from_millis(50)).await;
            None
        }
    }
}

/// Serves one connection. One that breaks is the client's affair; what it asked for goes on by itself.
async fn connection<I>(io: I, front: Arc<Front>, peer: Peer, place: Place, watcher: Watcher)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let bounds = Arc::clone(&place.bounds);
    let (head_timeout, head_bytes_max, write_timeout) =
        (bounds.head_timeout, bounds.head_bytes_max, bounds.write_timeout);
    let working = Working::default();
    let (http2, counted) = (peer.http2, working.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        let (front, bounds, peer, one_of_them) = (Arc::clone(&front), Arc::clone(&bounds), peer.clone(), counted.one());
        async move {
            let response = one(request, &front, peer, &bounds).await;
            drop(one_of_them);
            Ok::<_, Infallible>(response)
        }
    });
    let io = Stalling::new(io, write_timeout);
    if http2 {
        let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(u32::try_from(head_bytes_max).unwrap_or(u32::MAX))
            .max_pending_accept_reset_streams(RESETS_MAX)
            .max_local_error_reset_streams(RESETS_MAX)
            .serve_connection(TokioIo::new(io.idle_after(head_timeout, working)), service);
        let _ = watcher.watch(connection).await;
    } else {
        let connection = hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(head_timeout)
            .max_buf_size(head_bytes_max)
            .serve_connection(TokioIo::new(io), service);
        let _ = watcher.watch(connection).await;
    }
    drop(place);
}

/// The other end of a connection.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) addr: SocketAddr,
    /// The name it gave in the TLS handshake.
    pub(crate) sni: Option<Arc<str>>,
    scheme: &'static str,
    /// What was agreed on in the TLS handshake.
    http2: bool,
}

async fn one(
    request: Request<Incoming>,
    front: &Arc<Front>,
    peer: Peer,
    bounds: &Bounds,
) -> Response<Either<Full<Bytes>, Flow>> {
    let gzip = takes_gzip(request.headers());
    let tunnel = request.method() == Method::CONNECT;
    let answer = match read(request, front, peer, bounds).await {
        // The room for its body is given back once it is answered.
        Ok((call, _room)) => front.answer(call).await,
        Err(unread) => front.unread(unread),
    };
    // 200 would say that there is one.
    let status = if tunnel { StatusCode::METHOD_NOT_ALLOWED } else { answer.status };
    response(Answer { status, ..answer }, gzip)
}

async fn read(
    request: Request<Incoming>,
    front: &Front,
    peer: Peer,
    bounds: &Bounds,
) -> Result<(Call, Option<OwnedSemaphorePermit>), Unread> {
    let (head, body) = request.into_parts();
    // What it says it has, or what it may have at most.
    let told = hyper::body::Body::size_hint(&body).upper().and_then(|bytes| usize::try_from(bytes).ok());
    if told == Some(0) {
        return Ok((Call::new(head, Bytes::new(), peer), None));
    }
    let body_bytes_max = front.body_bytes_max(&head.headers, told);
    let over = told.is_some_and(|bytes| bytes > body_bytes_max);
    let room = bounds.room(told.unwrap_or(body_bytes_max).min(body_bytes_max)).await.ok_or(Unread::Busy)?;
    // Part of one that is too large is read all the same: a client that still writes hears no answer.
    let timeout = if over { bounds.body_timeout.min(OVER_TIMEOUT) } else { bounds.body_timeout };
    let body = tokio::time::timeout(timeout, Limited::new(body, body_bytes_max).collect())
        .await
        .map_err(|_elapsed| if over { Unread::TooLarge } else { Unread::Cut })?
        .map_err(|error| if error.is::<LengthLimitError>() { Unread::TooLarge } else { Unread::Cut })?;
    Ok((Call::new(head, body.to_bytes(), peer), Some(room)))
}

/// The one `Host` there is, when it is a host and perhaps a port.
fn host(headers: &HeaderMap) -> Option<&str> {
    let mut all = headers.get_all(header::HOST).iter();
    let host = all.next()?.to_str().ok()?;
    (is_host(host) && all.next().is_none()).then_some(host)
}

fn is_host(text: &str) -> bool {
    const HOST_BYTES_MAX: usize = 255;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    !text.is_empty() && text.len() <= HOST_BYTES_MAX && text.bytes().all(plain)
}

fn response(answer: Answer, gzip: bool) -> Response<Either<Full<Bytes>, Flow>> {
    let mut response = match answer.content {
        Content::Flow(flow) => Response::new(Either::Right(flow)),
        Content::Whole(body) => {
            let packed = if gzip && body.len() >= GZIP_FROM_BYTES { pack(&body) } else { None };
            let encoded = packed.is_some();
            let mut response = Response::new(Either::Left(Full::new(packed.unwrap_or(body))));
            if encoded {
                response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            }
            response
        }
    };
    *response.status_mut() = answer.status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, answer.content_type);
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.extend(answer.headers);
    response
}

fn pack(body: &[u8]) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
    encoder.write_all(body).ok()?;
    encoder.finish().ok().map(Bytes::from)
}

fn takes_gzip(headers: &HeaderMap) -> bool {
    headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok()).any(|value| {
        value.split(',').any(|one| {
            let mut parts = one.split(';').map(str::trim);
            parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"))
                && !parts.any(|weight| matches!(weight, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
        })
    })
}
