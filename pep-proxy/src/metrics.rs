//! Every number this process tells, and the port it tells them on.
//!
//! Labels come from closed sets: never a principal, an object, a statement.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::Duration,
};

use bytes::Bytes;
use http::{Response, StatusCode, header};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics::{Counter, Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::{net::TcpListener, sync::Semaphore};

/// Requests answered, by `route` and `outcome` (`ok`, `failed` at Snowflake, `refused`, `held`).
pub const REQUESTS: &str = "icegate_pep_requests_total";
/// Statements decided, by `outcome` (`allow`, `mask`, `deny`, `needs-approval`).
pub const DECISIONS: &str = "icegate_pep_decisions_total";
/// Looks into the decision cache, by `result` (`hit`, `miss`, `stale`).
pub const CACHE_REQUESTS: &str = "icegate_pep_cache_requests_total";
/// Cached decisions dropped at once, because of a new bundle.
pub const CACHE_INVALIDATIONS: &str = "icegate_pep_cache_invalidations_total";
/// What was refused, by `code`.
pub const REFUSALS: &str = "icegate_pep_refusals_total";
/// Time of one stage of a statement, by `stage` (`ask`, `forward`).
pub const STAGE_DURATION: &str = "icegate_pep_stage_duration_seconds";
/// Time the warehouse took to answer one call.
pub const UPSTREAM_DURATION: &str = "icegate_pep_upstream_duration_seconds";
/// Calls to the warehouse that got no answer, by `error` (`busy`: there was no place for it, `not-sent`, `cut`, `timeout`,
/// `too-large`, `unreadable`).
pub const UPSTREAM_ERRORS: &str = "icegate_pep_upstream_errors_total";
/// Calls to the warehouse on their way.
pub const UPSTREAM_CALLS: &str = "icegate_pep_upstream_calls";
/// Calls to the warehouse that were sent again.
pub const UPSTREAM_RETRIES: &str = "icegate_pep_upstream_retries_total";
/// Time the storage took to begin a part of a result.
pub const CHUNK_DURATION: &str = "icegate_pep_chunk_duration_seconds";
/// Bytes of results passed on from storage.
pub const CHUNK_BYTES: &str = "icegate_pep_chunk_bytes_total";
/// Time the PDP took to answer one call.
pub const PDP_DURATION: &str = "icegate_pep_pdp_duration_seconds";
/// Sessions in memory.
pub const SESSIONS: &str = "icegate_pep_sessions";
/// Statements waiting for a person.
pub const HELD: &str = "icegate_pep_held_statements";
/// Entries in the journal that the PDP has not got yet.
pub const JOURNAL_ENTRIES: &str = "icegate_pep_journal_entries";
/// Replies of the warehouse that were kept from the client, by `reason` (`shape`: other columns than were promised,
/// `statement-type`, `credential`, `transfer`, `format`, `chunks`, `unreadable`, `too-large`, `masking`: its rows, or a part's,
/// cannot be masked as was decided).
pub const REPLIES_WITHHELD: &str = "icegate_pep_replies_withheld_total";
/// Cells of columns this proxy masks that passed, NULLs among them, by `mask` (`tokenize`, `fpe`, `scan`).
pub const MASKED_CELLS: &str = "icegate_pep_masked_cells_total";
/// Outcomes recorded, by `status`.
pub const OUTCOMES: &str = "icegate_pep_outcomes_total";
/// 1 while every PDP is heard.
pub const WATCH_CONNECTED: &str = "icegate_pep_pdp_watch_connected";
/// Questions of the PDP about the warehouse's objects, by `result` (`answered`, `failed`).
pub const CATALOG_QUERIES: &str = "icegate_pep_catalog_queries_total";
/// Files that had changed and were read again, by `what` (`credential`, `certificate`, `mask-keys`, `token-keys`,
/// `pdp-certificate`) and `result` (`taken`, `refused`).
pub const REREADS: &str = "icegate_pep_rereads_total";
/// 1, with the `version` of the program.
pub const BUILD_INFO: &str = "icegate_pep_build_info";

const SECONDS: &[f64] =
    &[0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0];

/// Connections to the metrics port at one time.
const CONNECTIONS_MAX: usize = 64;
/// Longest wait for a request's head there.
const HEAD_TIMEOUT: Duration = Duration::from_mins(2);

static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();

/// The process's recorder, installed on first use.
pub(crate) fn handle() -> Option<&'static PrometheusHandle> {
    HANDLE
        .get_or_init(|| {
            let handle = PrometheusBuilder::new().set_buckets(SECONDS).ok()?.install_recorder().ok()?;
            describe();
            Some(handle)
        })
        .as_ref()
}

/// Counts a request that was answered. Its counter is kept: there are few, and each is looked for longer than it is counted.
pub(crate) fn answered(route: &'static str, outcome: &'static str) {
    static KEPT: RwLock<Vec<(&str, &str, Counter)>> = RwLock::new(Vec::new());
    let kept = KEPT.read().unwrap_or_else(PoisonError::into_inner);
    if let Some((.., counter)) = kept.iter().find(|(of, with, _)| (*of, *with) == (route, outcome)) {
        return counter.increment(1);
    }
    drop(kept);
    // One made before there is a recorder would count nothing for ever.
    let _ = handle();
    let counter = metrics::counter!(REQUESTS, "route" => route, "outcome" => outcome);
    counter.increment(1);
    KEPT.write().unwrap_or_else(PoisonError::into_inner).push((route, outcome, counter));
}

fn describe() {
    describe_counter!(REQUESTS, "requests answered");
    describe_counter!(REREADS, "changed files of credentials, certificates and keys read again");
    describe_counter!(DECISIONS, "statements decided");
    describe_counter!(CACHE_REQUESTS, "looks into the decision cache");
    describe_counter!(CACHE_INVALIDATIONS, "times the decision cache was emptied for a new bundle");
    describe_counter!(REFUSALS, "refusals by code");
    describe_histogram!(STAGE_DURATION, Unit::Seconds, "time of one stage of a statement");
    describe_histogram!(CHUNK_DURATION, Unit::Seconds, "time the storage took to begin a part of a result");
    describe_counter!(CHUNK_BYTES, Unit::Bytes, "bytes of results passed on from storage");
    describe_histogram!(UPSTREAM_DURATION, Unit::Seconds, "time the warehouse took to answer a call");
    describe_gauge!(UPSTREAM_CALLS, "calls to the warehouse on their way");
    describe_counter!(UPSTREAM_RETRIES, "calls to the warehouse that were sent again");
    describe_counter!(UPSTREAM_ERRORS, "calls to the warehouse that got no answer");
    describe_histogram!(PDP_DURATION, Unit::Seconds, "time the PDP took to answer a call");
    describe_gauge!(SESSIONS, "sessions in memory");
    describe_gauge!(HELD, "statements waiting for a person");
    describe_gauge!(JOURNAL_ENTRIES, "records the PDP has not got yet");
    describe_counter!(REPLIES_WITHHELD, "replies kept from the client by reason");
    describe_counter!(MASKED_CELLS, "cells of masked columns that passed");
    describe_counter!(OUTCOMES, "outcomes of statements by status");
    describe_gauge!(WATCH_CONNECTED, "1 while every PDP is heard");
    describe_counter!(CATALOG_QUERIES, "questions of the PDP about the warehouse's objects");
    describe_gauge!(BUILD_INFO, "1, with the version of the program");
    metrics::gauge!(BUILD_INFO, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
}

/// What stands now, of all connections together: looked at when somebody asks.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Now {
    pub(crate) sessions: usize,
    pub(crate) held: usize,
    pub(crate) journal_entries: usize,
    pub(crate) upstream_calls: usize,
    /// Every PDP is heard, so that statements can be served.
    pub(crate) ready: bool,
}

pub(crate) type Look = Arc<dyn Fn() -> Now + Send + Sync>;

impl Now {
    #[expect(clippy::cast_precision_loss, reason = "gauges")]
    fn tell(self) {
        metrics::gauge!(SESSIONS).set(self.sessions as f64);
        metrics::gauge!(HELD).set(self.held as f64);
        metrics::gauge!(JOURNAL_ENTRIES).set(self.journal_entries as f64);
        metrics::gauge!(UPSTREAM_CALLS).set(self.upstream_calls as f64);
        metrics::gauge!(WATCH_CONNECTED).set(if self.ready { 1.0 } else { 0.0 });
    }
}

/// Serves `/metrics`, `/healthz` and `/readyz` until the task is dropped.
pub(crate) async fn serve(addr: SocketAddr, look: Look) -> std::io::Result<(SocketAddr, tokio::task::JoinHandle<()>)> {
    let listener = TcpListener::bind(addr).await?;
    let addr = listener.local_addr()?;
    let task = tokio::spawn(async move {
        let mut upkeep = tokio::time::interval(Duration::from_secs(5));
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        loop {
            tokio::select! {
                _ = upkeep.tick() => if let Some(handle) = handle() { handle.run_upkeep() },
                accepted = listener.accept() => {
                    let Ok((stream, _)) = accepted else {
                        // Out of descriptors, mostly: give the others time to end.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    };
                    // More than any monitoring needs: whoever comes then tries again.
                    let Ok(place) = Arc::clone(&room).try_acquire_owned() else { continue };
                    let look = Arc::clone(&look);
                    tokio::spawn(async move {
                        let _place = place;
                        let service = service_fn(|request| { let answer = answer(&request, &look); async { Ok::<_, Infallible>(answer) } });
                        // A scraper that goes away is its own affair.
                        let _ = hyper::server::conn::http1::Builder::new()
                            .timer(TokioTimer::new())
                            .header_read_timeout(HEAD_TIMEOUT)
                            .serve_connection(TokioIo::new(stream), service)
                            .await;
                    });
                }
            }
        }
    });
    Ok((addr, task))
}

fn answer(request: &http::Request<hyper::body::Incoming>, look: &Look) -> Response<Full<Bytes>> {
    let (status, text) = match request.uri().path() {
        "/metrics" => {
            look().tell();
            (StatusCode::OK, handle().map(PrometheusHandle::render).unwrap_or_default())
        }
        "/healthz" => (StatusCode::OK, "ok\n".to_owned()),
        "/readyz" if look().ready => (StatusCode::OK, "ready\n".to_owned()),
        "/readyz" => (StatusCode::SERVICE_UNAVAILABLE, "the PDP is not heard\n".to_owned()),
        _ => (StatusCode::NOT_FOUND, "not found\n".to_owned()),
    };
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"));
    response
}
