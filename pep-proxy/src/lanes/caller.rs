//! Calls of one server whose answers are taken whole, over connections that are kept.
//!
//! A connection of HTTP/1.1 carries one call at a time, and is the call's as long as it lasts. One of HTTP/2 carries many calls,
//! and runs by itself.

use std::{
    fmt,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, Request, Uri, header, uri::PathAndQuery};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::client::conn::http2;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{Connection as _, HttpConnector},
    rt::{TokioExecutor, TokioIo, TokioTimer},
};
use icegate_pep_protocol::{Secret, wire::Answer};
use tokio::net::TcpStream;
use tower_service::Service as _;
use tracing::debug;

use super::{PING, PLACES_OF_LANE, Terms, WINDOW_BYTES, connector, http1::Connection};

type Io = MaybeHttpsStream<TokioIo<TcpStream>>;
type Sender = http2::SendRequest<Full<Bytes>>;
/// Boxed: it holds the state of TLS, and is handed on at every call.
type Own = Box<Connection<TokioIo<Io>>>;

/// Calls one server.
pub(crate) struct Caller {
    connector: HttpsConnector<HttpConnector>,
    server: Uri,
    /// Connections of HTTP/1.1 that nobody has; the one used last is last.
    idle: Mutex<Vec<(Own, Instant)>>,
    idle_timeout: Duration,
    /// The connection of HTTP/2, once there is one.
    shared: Mutex<Option<(Sender, Instant)>>,
    /// The server took HTTP/2 when it was last connected to; so it is connected to once for all calls.
    shares: AtomicBool,
    connecting: tokio::sync::Mutex<()>,
}

/// One call. Its body may be a login: it shows itself nowhere.
pub(crate) struct Ask<'a> {
    pub(crate) method: Method,
    pub(crate) path_and_query: &'a str,
    pub(crate) token: Option<&'a Secret>,
    pub(crate) body: Option<Bytes>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Failed {
    /// No connection, or the server has not looked at it.
    NotSent,
    /// It may have been looked at.
    Cut,
    /// The answer is longer than it may be.
    TooLarge,
}

impl Ask<'_> {
    /// Whether nothing in it would end its line in a request.
    fn is_sound(&self) -> bool {
        let token = self.token.map_or("", Secret::expose);
        self.path_and_query.bytes().all(|byte| byte.is_ascii_graphic())
            && token.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
    }

    /// Its headers but for its host and its length: names, and values in parts.
    pub(super) fn each_header(&self, mut put: impl FnMut(HeaderName, &[&str])) {
        put(header::ACCEPT, &["application/json"]);
        put(header::ACCEPT_ENCODING, &["gzip"]);
        put(header::USER_AGENT, &[concat!("icegate/", env!("CARGO_PKG_VERSION"))]);
        if self.body.is_some() {
            put(header::CONTENT_TYPE, &["application/json"]);
        }
        if let Some(token) = self.token {
            put(header::AUTHORIZATION, &["Snowflake Token=\"", token.expose(), "\""]);
        }
    }

    /// As a request of HTTP/2 to this server.
    fn request(&self, server: &Uri) -> Option<Request<Full<Bytes>>> {
        let mut parts = server.clone().into_parts();
        parts.path_and_query = Some(PathAndQuery::try_from(self.path_and_query).ok()?);
        let mut request = Request::new(Full::new(self.body.clone().unwrap_or_default()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from_parts(parts).ok()?;
        self.each_header(|name, value| {
            // Of a sound request all are.
            if let Ok(mut value) = HeaderValue::try_from(value.concat()) {
                // Kept out of the connection's table of headers.
                value.set_sensitive(name == header::AUTHORIZATION);
                request.headers_mut().insert(name, value);
            }
        });
        Some(request)
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Caller").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Caller {
    /// A caller of this server. One that is no whole URL cannot be connected to.
    pub(crate) fn new(tls: &rustls::ClientConfig, terms: Terms, server: &Uri) -> Self {
        Self {
            connector: connector(tls, terms),
            server: server.clone(),
            idle: Mutex::default(),
            idle_timeout: terms.idle_timeout,
            shared: Mutex::default(),
            shares: AtomicBool::new(false),
            connecting: tokio::sync::Mutex::default(),
        }
    }

    /// Calls, and takes an answer of at most so many bytes.
    pub(crate) async fn call(&self, ask: &Ask<'_>, bytes_max: usize) -> Result<Answer, Failed> {
        if !ask.is_sound() {
            return Err(Failed::NotSent);
        }
        // A connection that was kept may have been closed, and then another one, but a new one is not.
        while let Some(connection) = self.kept() {
            match self.on(connection, ask, bytes_max).await {
                Err(Failed::NotSent) => {}
                done => return done,
            }
        }
        if let Some(mut sender) = self.shared() {
            match self.on_shared(&mut sender, ask, bytes_max).await {
                Err(Failed::NotSent) if sender.is_closed() => {}
                done => return done,
            }
        }
        Box::pin(self.on_new(ask, bytes_max)).await
    }

    /// Connects, and calls.
    async fn on_new(&self, ask: &Ask<'_>, bytes_max: usize) -> Result<Answer, Failed> {
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
                return self.on(Box::new(Connection::new(TokioIo::new(io))), ask, bytes_max).await;
            }
            sender = Some(self.share(io).await.ok_or(Failed::NotSent)?);
        }
        drop(connecting);
        self.on_shared(&mut sender.ok_or(Failed::NotSent)?, ask, bytes_max).await
    }

    /// Closes what nothing has used for the idle time.
    pub(crate) fn sweep(&self) {
        let old = |since: &Instant| since.elapsed() >= self.idle_timeout;
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).retain(|(_, since)| !old(since));
        let mut shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        shared.take_if(|(_, since)| old(since));
    }

    /// A connection that was kept and is still open.
    fn kept(&self) -> Option<Own> {
        loop {
            let (mut connection, since) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop()?;
            if since.elapsed() < self.idle_timeout && connection.is_quiet() {
                return Some(connection);
            }
        }
    }

    async fn on(&self, mut connection: Own, ask: &Ask<'_>, bytes_max: usize) -> Result<Answer, Failed> {
        let host = self.server.authority().map_or("", |authority| authority.as_str());
        let answer = connection.call(host, ask, bytes_max).await?;
        if answer.keeps {
            self.idle.lock().unwrap_or_else(PoisonError::into_inner).push((connection, Instant::now()));
        }
        Ok(answer)
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

    async fn on_shared(&self, sender: &mut Sender, ask: &Ask<'_>, bytes_max: usize) -> Result<Answer, Failed> {
        let request = ask.request(&self.server).ok_or(Failed::NotSent)?;
        sender.ready().await.map_err(|_| Failed::NotSent)?;
        let response = sender.try_send_request(request).await.map_err(|mut error| {
            // It is given back unwritten, or the server says so.
            let unread = error.take_message().is_some() || is_refused(error.error());
            if unread { Failed::NotSent } else { Failed::Cut }
        })?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, bytes_max).collect().await;
        let body = body.map_err(|error| if error.is::<LengthLimitError>() { Failed::TooLarge } else { Failed::Cut })?;
        let encoding = head.headers.get(header::CONTENT_ENCODING).map_or(&b""[..], HeaderValue::as_bytes);
        Ok(Answer {
            status: head.status.as_u16(),
            encoded: !matches!(encoding, b"" | b"identity"),
            keeps: true,
            body: body.to_bytes(),
        })
    }
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
        let ask = Ask {
            method: Method::POST,
            path_and_query: "/queries/v1/query-request",
            token: None,
            body: Some(Bytes::from_static(b"{}")),
        };
        caller.call(&ask, 16).await.map(|answer| answer.body)
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
    async fn what_nobody_asked_for_is_nobodys_answer() {
        const PLANTED: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nplanted";
        for late in [false, true] {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let caller = caller(listener.local_addr().unwrap());
            tokio::spawn(async move {
                loop {
                    let (mut stream, _) = listener.accept().await.unwrap();
                    let mut read = [0; 1024];
                    // A connection that is left with something unread is reset.
                    while stream.read(&mut read).await.is_ok_and(|bytes| bytes > 0) {
                        stream.write_all(DONE).await.unwrap();
                        if late {
                            tokio::time::sleep(Duration::from_millis(50)).await;
                        }
                        drop(stream.write_all(PLANTED).await);
                    }
                }
            });
            for _ in 0..3 {
                assert_eq!(call(&caller).await, Ok(Bytes::from_static(b"done")));
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
        }
    }

    #[tokio::test]
    async fn nothing_is_sent_that_would_end_its_line() {
        let caller = caller(server(DONE, Duration::from_mins(1)).await);
        call(&caller).await.unwrap();
        let token = Secret::new("a\r\nX-Planted: b");
        for (path_and_query, token) in [("/a b", None), ("/a\r\nX: b", None), ("/ä", None), ("/a", Some(&token))] {
            let ask = Ask { method: Method::GET, path_and_query, token, body: None };
            assert_eq!(caller.call(&ask, 16).await, Err(Failed::NotSent), "{path_and_query}");
        }
        assert_eq!(idle(&caller), 1, "nothing was tried");
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
