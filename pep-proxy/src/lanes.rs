//! The ways out, to Snowflake and to the storage of results: HTTP/2 where it is offered in the TLS handshake, HTTP/1.1 else.
//!
//! All calls of one client share one connection of HTTP/2, which takes only so many at one time; the others would wait in
//! line, unseen. So there are several clients, each with so many places, and a call takes the first that has one.

mod caller;
mod http1;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use hyper::body::Body;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

pub(crate) use self::caller::{Ask, Caller, Failed};

/// Calls of one client at one time: the streams a server of HTTP/2 should allow at least (RFC 9113, 6.5.2).
const PLACES_OF_LANE: u32 = 100;
/// Bytes of one answer that wait for whoever reads it, and of all those on one connection: as much as each may take, so that
/// answers nobody reads hold up no other.
const WINDOW_BYTES: u32 = 512 * 1024;
/// A connection of HTTP/2 that answers no ping is cut: it may carry many calls, and new ones would go the same way.
const PING: (Duration, Duration) = (Duration::from_secs(20), Duration::from_secs(20));

/// How connections are made and kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Terms {
    /// Longest wait for a connection.
    pub(crate) connect_timeout: Duration,
    /// How long one is kept that nothing uses.
    pub(crate) idle_timeout: Duration,
}

/// A client for answers that are passed on as they come.
pub(crate) type Client<B> = legacy::Client<HttpsConnector<HttpConnector>, B>;

/// Clients with so many places each.
pub(crate) struct Lanes<C> {
    all: Vec<Lane<C>>,
    places_max: usize,
    /// Where the next one waits that finds no place.
    line: AtomicUsize,
}

struct Lane<C> {
    client: C,
    places: Arc<Semaphore>,
}

/// A place, until it is dropped.
pub(crate) type Place = OwnedSemaphorePermit;

impl<C> fmt::Debug for Lanes<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes").field("lanes", &self.all.len()).finish_non_exhaustive()
    }
}

/// A client and the place taken on it.
pub(crate) struct Taken<'a, C> {
    pub(crate) client: &'a C,
    pub(crate) place: Place,
}

impl<C> Lanes<C> {
    /// As many clients as so many places take.
    pub(crate) fn new(places_max: usize, client: impl Fn() -> C) -> Self {
        let lane = |before: usize| {
            let places = (places_max - before).min(PLACES_OF_LANE as usize);
            Lane { client: client(), places: Arc::new(Semaphore::new(places)) }
        };
        let all = (0..places_max).step_by(PLACES_OF_LANE as usize).map(lane).collect();
        Self { all, places_max, line: AtomicUsize::new(0) }
    }

    /// Every client.
    pub(crate) fn clients(&self) -> impl Iterator<Item = &C> {
        self.all.iter().map(|lane| &lane.client)
    }

    /// Takes a place if there is one.
    pub(crate) fn try_take(&self) -> Option<Taken<'_, C>> {
        self.all.iter().find_map(|lane| {
            let place = Arc::clone(&lane.places).try_acquire_owned().ok()?;
            Some(Taken { client: &lane.client, place })
        })
    }

    /// Takes a place, or waits for one.
    pub(crate) async fn take(&self) -> Option<Taken<'_, C>> {
        if let Some(taken) = self.try_take() {
            return Some(taken);
        }
        let at = self.line.fetch_add(1, Ordering::Relaxed).checked_rem(self.all.len())?;
        let lane = self.all.get(at)?;
        let place = Arc::clone(&lane.places).acquire_owned().await.ok()?;
        Some(Taken { client: &lane.client, place })
    }

    /// Places that are taken.
    pub(crate) fn taken(&self) -> usize {
        let free: usize = self.all.iter().map(|lane| lane.places.available_permits()).sum();
        self.places_max.saturating_sub(free)
    }
}

fn connector(tls: &rustls::ClientConfig, terms: Terms) -> HttpsConnector<HttpConnector> {
    let mut http = HttpConnector::new();
    http.enforce_http(false);
    http.set_nodelay(true);
    http.set_connect_timeout(Some(terms.connect_timeout));
    // `http` gets this far only on loopback and with `danger_plaintext`; without TLS nothing offers HTTP/2.
    HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http().enable_all_versions().wrap_connector(http)
}

/// A client for answers that are passed on as they come.
pub(crate) fn client<B>(tls: &rustls::ClientConfig, terms: Terms) -> Client<B>
where
    B: Body + Send,
    B::Data: Send,
{
    legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(terms.idle_timeout)
        .http2_initial_stream_window_size(WINDOW_BYTES)
        .http2_initial_connection_window_size(WINDOW_BYTES * PLACES_OF_LANE)
        .http2_keep_alive_interval(PING.0)
        .http2_keep_alive_timeout(PING.1)
        .build(connector(tls, terms))
}
