//! Calls of one server whose answers are taken whole, over connections that are kept.
//!
//! A connection of HTTP/1.1 carries one call at a time, so the call that has it drives it. Were it a task of its own, as
//! libraries' clients have it, the two would wake each other at every step, which costs more than all else about a short call.
//! One of HTTP/2 carries many calls, and runs by itself.

use std::{
    fmt,
    pin::{Pin, pin},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header, response::Parts};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::{
    Response,
    body::Incoming,
    client::conn::{TrySendError, http1, http2},
};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{Connection as _, HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use tokio::net::TcpStream;
use tower_service::Service as _;
use tracing::debug;

use super::{PING, PLACES_OF_LANE, Terms, WINDOW_BYTES, connector, together::Together};

type Io = MaybeHttpsStream<TokioIo<TcpStream>>;
type Sender = http2::SendRequest<Full<Bytes>>;

/// Calls one server.
pub(crate) struct Caller {
    connector: HttpsConnector<HttpConnector>,
    server: Uri,
    host: HeaderValue,
    /// Connections of HTTP/1.1 that nobody has; the one used last is last.
    idle: Mutex<Vec<(Connection, Instant)>>,
    idle_timeout: Duration,
    /// The connection of HTTP/2, once there is one.
    shared: Mutex<Option<(Sender, Instant)>>,
    /// The server took HTTP/2 when it was last connected to; so it is connected to once for all calls.
    shares: AtomicBool,
    connecting: tokio::sync::Mutex<()>,
}

/// A connection of HTTP/1.1.
struct Connection {
    sender: http1::SendRequest<Full<Bytes>>,
    driver: Driver,
    together: Together,
}

type Driver = Pin<Box<http1::Connection<Io, Full<Bytes>>>>;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    /// No connection, or the server said that it has not looked at it.
    NotSent,
    /// It may have been looked at.
    Cut,
    /// The answer is longer than it may be.
    TooLarge,
}

/// What became of a call on one connection.
enum Tried {
    Done(Result<(Parts, Bytes), Failed>),
    /// The connection was closed before anything of it was written.
    Unsent(Request<Full<Bytes>>),
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Caller {
    /// A caller of this server. One that is no whole URL cannot be connected to.
    pub(crate) fn new(tls: &rustls::ClientConfig, terms: Terms, server: &Uri) -> Self {
        let host = server.authority().and_then(|authority| HeaderValue::from_str(authority.as_str()).ok());
        Self {
            connector: connector(tls, terms),
            host: host.unwrap_or(HeaderValue::from_static("")),
            server: server.clone(),
            idle: Mutex::default(),
            idle_timeout: terms.idle_timeout,
            shared: Mutex::default(),
            shares: AtomicBool::new(false),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    /// Sends a request, of which the URI has path and query only, and takes an answer of at most so many bytes.
    pub(crate) async fn call(
        &self,
        mut request: Request<Full<Bytes>>,
        bytes_max: usize,
    ) -> Result<(Parts, Bytes), Failed> {
        // A connection that was kept may have been closed, and then another one, but a new one is not.
        loop {
            let tried = if let Some(sender) = self.shared() {
                self.on_shared(sender, request, bytes_max).await
            } else if let Some(connection) = self.kept() {
                self.on(connection, request, bytes_max).await
            } else {
                break;
            };
            match tried {
                Tried::Done(done) => return done,
                Tried::Unsent(unsent) => request = unsent,
            }
        }
        match Box::pin(self.on_new(request, bytes_max)).await? {
            Tried::Done(done) => done,
            Tried::Unsent(_) => Err(Failed::NotSent),
        }
    }

    /// Connects, and calls.
    async fn on_new(&self, request: Request<Full<Bytes>>, bytes_max: usize) -> Result<Tried, Failed> {
        let connecting = if self.shares.load(Ordering::Acquire) { Some(self.connecting.lock().await) } else { None };
        let mut sender = self.shared();
        if sender.is_none() {
            let io = self.connector.clone().call(self.server.clone()).await.map_err(|error| {
                debug!(%error, "not connected");
                Failed::NotSent
            })?;
            let shares = io.connected().is_negotiated_h2();
            self.shares.store(shares, Ordering::Release);
            if !shares {
                drop(connecting);
                // Written in one piece: most requests are short.
                let made = http1::Builder::new().writev(false).handshake(io).await;
                let (sender, driver) = made.map_err(|_| Failed::NotSent)?;
                let connection = Connection { sender, driver: Box::pin(driver), together: Together::default() };
                return Ok(self.on(connection, request, bytes_max).await);
            }
            sender = Some(self.share(io).await.ok_or(Failed::NotSent)?);
        }
        drop(connecting);
        let sender = sender.ok_or(Failed::NotSent)?;
        Ok(self.on_shared(sender, request, bytes_max).await)
    }

    /// Closes what nothing has used for the idle time.
    pub(crate) fn sweep(&self) {
        let old = |since: &Instant| since.elapsed() >= self.idle_timeout;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).retain(|(_, since)| !old(since));
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.take_if(|(_, since)| old(since));
    }

    /// A connection that was kept and is still open.
    fn kept(&self) -> Option<Connection> {
        loop {
            let (mut connection, since) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            // Whether it has been closed is only known when it is looked at.
            let open = connection.driver.as_mut().poll(&mut connection.together.context()).is_pending();
            if since.elapsed() < self.idle_timeout && open && connection.sender.is_ready() {
                return Some(connection);
            }
        }
    }

    async fn on(&self, connection: Connection, mut request: Request<Full<Bytes>>, bytes_max: usize) -> Tried {
        let Connection { mut sender, driver, together } = connection;
        request.headers_mut().insert(header::HOST, self.host.clone());
        let mut driver = Some(driver);
        let tried = {
            let mut call = pin!(async { whole(sender.try_send_request(request).await, bytes_max).await });
            std::future::poll_fn(|task| together.poll(task, call.as_mut(), &mut driver)).await
        };
        if let (Some(driver), Tried::Done(Ok(_))) = (driver, &tried) {
            let connection = Connection { sender, driver, together };
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((connection, Instant::now()));
        }
        tried
    }

    fn shared(&self) -> Option<Sender> {
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.take_if(|(sender, _)| sender.is_closed());
        shared.as_mut().map(|(sender, since)| {
            *since = Instant::now();
            sender.clone()
        })
    }

    /// Lets all calls have a connection of HTTP/2.
    async fn share(&self, io: Io) -> Option<Sender> {
        let (sender, driver) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES * PLACES_OF_LANE)
            .keep_alive_interval(PING.0)
            .keep_alive_timeout(PING.1)
            .handshake(io)
            .await
            .ok()?;
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                debug!(%error, "connection ended");
            }
        });
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        *shared = Some((sender.clone(), Instant::now()));
        Some(sender)
    }

    async fn on_shared(&self, mut sender: Sender, mut request: Request<Full<Bytes>>, bytes_max: usize) -> Tried {
        if sender.ready().await.is_err() {
            return Tried::Unsent(request);
        }
        let mut parts = self.server.clone().into_parts();
        parts.path_and_query = request.uri().path_and_query().cloned();
        let Ok(uri) = Uri::from_parts(parts) else { return Tried::Done(Err(Failed::NotSent)) };
        *request.uri_mut() = uri;
        whole(sender.try_send_request(request).await, bytes_max).await
    }
}

/// Takes an answer whole.
async fn whole(sent: Result<Response<Incoming>, TrySendError<Request<Full<Bytes>>>>, bytes_max: usize) -> Tried {
    let response = match sent {
        Ok(response) => response,
        Err(mut error) => {
            return match error.take_message() {
                Some(request) => Tried::Unsent(request),
                None if is_refused(error.error()) => Tried::Done(Err(Failed::NotSent)),
                None => Tried::Done(Err(Failed::Cut)),
            };
        }
    };
    let (head, body) = response.into_parts();
    let body = Limited::new(body, bytes_max).collect().await;
    Tried::Done(match body {
        Ok(body) => Ok((head, body.to_bytes())),
        Err(error) if error.is::<LengthLimitError>() => Err(Failed::TooLarge),
        Err(_) => Err(Failed::Cut),
    })
}

/// Whether the server says that it has not looked at this one call (RFC 9113, 8.7). The end of a whole connection (`GOAWAY`)
/// comes to calls that ran, too: nothing is concluded from it.
fn is_refused(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = error.source();
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            return error.is_reset() && error.is_remote() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use tokio::{
        io::{AsyncReadExt as _, AsyncWriteExt as _},
        net::TcpListener,
    };

    use super::*;

    const DONE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone";

    /// Answers the first request of each connection with these bytes, and closes it that much later without a word.
    async fn server(answer: &'static [u8], open: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut read = [0; 1024];
                assert!(stream.read(&mut read).await.unwrap() > 0);
                stream.write_all(answer).await.unwrap();
                tokio::time::sleep(open).await;
            }
        });
        addr
    }

    fn caller(addr: SocketAddr) -> Caller {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(rustls::RootCertStore::empty())
            .with_no_client_auth();
        let terms = Terms { connect_timeout: Duration::from_secs(5), idle_timeout: Duration::from_mins(1) };
        Caller::new(&tls, terms, &format!("http://{addr}").parse().unwrap())
    }

    async fn call(caller: &Caller) -> Result<Bytes, Failed> {
        let request = Request::post("/queries/v1/query-request").body(Full::new(Bytes::from_static(b"{}"))).unwrap();
        caller.call(request, 16).await.map(|(_, body)| body)
    }

    fn idle(caller: &Caller) -> usize {
        caller.idle.lock().unwrap().len()
    }

    #[tokio::test]
    async fn what_was_closed_meanwhile_is_not_used() {
        let caller = caller(server(DONE, Duration::from_millis(300)).await);
        for _ in 0..2 {
            assert_eq!(call(&caller).await, Ok(Bytes::from_static(b"done")));
            assert_eq!(idle(&caller), 1, "it is open yet");
            // Its end has to arrive.
            tokio::time::sleep(Duration::from_millis(900)).await;
        }
    }

    #[tokio::test]
    async fn what_is_not_answered_whole_is_told_apart() {
        for (answer, failed) in [
            (&b""[..], Failed::Cut),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndo", Failed::Cut),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 17\r\n\r\n12345678901234567", Failed::TooLarge),
            (b"no such protocol\r\n\r\n", Failed::Cut),
        ] {
            let caller = caller(server(answer, Duration::ZERO).await);
            assert_eq!(call(&caller).await, Err(failed), "{}", String::from_utf8_lossy(answer));
            assert_eq!(idle(&caller), 0, "nothing of it is used again");
        }
        let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
        assert_eq!(call(&caller(nobody)).await, Err(Failed::NotSent));
    }

    #[tokio::test]
    async fn what_nothing_uses_is_closed() {
        let mut caller = caller(server(DONE, Duration::from_mins(1)).await);
        call(&caller).await.unwrap();
        caller.sweep();
        assert_eq!(idle(&caller), 1);
        caller.idle_timeout = Duration::ZERO;
        caller.sweep();
        assert_eq!(idle(&caller), 0);
    }
}
