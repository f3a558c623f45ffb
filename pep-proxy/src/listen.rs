//! Sockets, TLS, and the bytes of one request: what comes in before anything is understood, and how it goes out.

use std::{convert::Infallible, io::Write as _, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Either, Full, LengthLimitError, Limited};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::{GracefulShutdown, Watcher},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tokio_rustls::TlsAcceptor;
use tracing::{debug, warn};

use crate::{chunk::Flow, proxy::Proxy};

/// Longest wait for a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait for a request's head: also how long an idle connection is kept.
const HEAD_TIMEOUT: Duration = Duration::from_mins(2);
/// Longest wait for a request's body.
const BODY_TIMEOUT: Duration = Duration::from_mins(1);
/// Bytes from which an answer is packed for a client that takes gzip.
const GZIP_FROM_BYTES: usize = 64 * 1024;

/// One request, read.
pub(crate) struct Call {
    pub(crate) method: http::Method,
    pub(crate) path: String,
    pub(crate) query: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    pub(crate) peer: SocketAddr,
    /// Where the client reaches this proxy, as it says itself: scheme and authority. `None` when it does not say.
    pub(crate) base: Option<Arc<str>>,
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
}

/// Accepts connections until told to stop, then lets those there are finish.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Arc<rustls::ServerConfig>>,
    proxy: Arc<Proxy>,
    connections_max: usize,
    mut stop: watch::Receiver<bool>,
) {
    let acceptor = tls.map(TlsAcceptor::from);
    let room = Arc::new(Semaphore::new(connections_max));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = accept(&listener, &room) => accepted,
            _ = stop.wait_for(|stop| *stop) => break,
        };
        let Some((stream, peer, permit)) = accepted else { continue };
        let (proxy, acceptor, watcher) = (Arc::clone(&proxy), acceptor.clone(), graceful.watcher());
        tokio::spawn(async move {
            let _permit = permit;
            match acceptor {
                None => connection(stream, proxy, Peer { addr: peer, scheme: "http" }, watcher).await,
                Some(acceptor) => match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        connection(stream, proxy, Peer { addr: peer, scheme: "https" }, watcher).await;
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
async fn connection<I>(io: I, proxy: Arc<Proxy>, peer: Peer, watcher: Watcher)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let proxy = Arc::clone(&proxy);
        async move { Ok::<_, Infallible>(one(request, &proxy, peer).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(io), service);
    let _ = watcher.watch(connection).await;
}

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
struct Peer {
    addr: SocketAddr,
    scheme: &'static str,
}

async fn one(request: Request<Incoming>, proxy: &Arc<Proxy>, peer: Peer) -> Response<Either<Full<Bytes>, Flow>> {
    let gzip = takes_gzip(request.headers());
    let body_bytes_max = proxy.body_bytes_max(request.headers());
    let answer = match read(request, body_bytes_max, peer).await {
        Ok(call) => proxy.answer(call).await,
        Err(unread) => proxy.unread(unread),
    };
    response(answer, gzip)
}

async fn read(request: Request<Incoming>, body_bytes_max: usize, peer: Peer) -> Result<Call, Unread> {
    let (head, body) = request.into_parts();
    let body = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, body_bytes_max).collect())
        .await
        .map_err(|_elapsed| Unread::Cut)?
        .map_err(|error| if error.is::<LengthLimitError>() { Unread::TooLarge } else { Unread::Cut })?;
    let base = host(&head.headers).map(|host| format!("{}://{host}", peer.scheme).into());
    Ok(Call {
        method: head.method,
        // A whole URL is what one sends to a proxy of the other sort; no path of ours is empty.
        path: if head.uri.authority().is_some() { String::new() } else { head.uri.path().to_owned() },
        query: head.uri.query().unwrap_or_default().to_owned(),
        headers: head.headers,
        body: body.to_bytes(),
        peer: peer.addr,
        base,
    })
}

/// The one `Host` there is, when it is a host and perhaps a port.
fn host(headers: &HeaderMap) -> Option<&str> {
    const HOST_BYTES_MAX: usize = 255;
    let mut all = headers.get_all(header::HOST).iter();
    let host = all.next()?.to_str().ok()?;
    let sound = host.len() <= HOST_BYTES_MAX
        && !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':' | b'[' | b']'));
    (sound && all.next().is_none()).then_some(host)
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
