//! A warehouse of few words, for what fakesnow lacks: parts of results in storage, answers that come later, several
//! statements in one request, sessions that expire, credentials in replies, faults and delays.
//!
//! What it does is named by words in the statement, for example `SELECT 'chunks arrow gzip'` ([`statements`] lists them), or
//! scripted by a test ([`StandIn::script`]). Everything it must not let out through the proxy carries [`CANARY`]. It reads no
//! SQL and checks no rights: what it shows is the protocol, as far as `SNOWFLAKE_PROTOCOL` notes tell it.

mod results;
mod script;
mod session;
pub mod statements;
pub mod storage;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use axum::routing::{get, post};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub use self::script::{Fault, Play};
use self::storage::{Fetch, Storage};

/// Part of every upstream token, of every key and signature of the storage, and of every credential in a reply.
pub const CANARY: &str = "upstream-canary";

/// What stands under a NULL of an Arrow part whose statement says `hidden`.
pub const HIDDEN: &str = "value-under-a-null";

/// Polls of one slow result that are answered with "in progress".
const POLLS_IN_PROGRESS: u64 = 2;

#[derive(Debug)]
struct Shared {
    storage: Arc<Storage>,
    tokens: AtomicU64,
    renewals: AtomicU64,
    polls: AtomicU64,
    expired: Mutex<BTreeSet<String>>,
    queries: Mutex<BTreeMap<String, Query>>,
    statements: Mutex<Vec<String>>,
    scripts: Mutex<BTreeMap<String, Vec<Play>>>,
}

/// A statement it was sent, under the id it gave out.
#[derive(Debug, Clone, Default)]
struct Query {
    sql: String,
    polls: u64,
    aborted: bool,
    /// Its answer was scripted.
    reply: Option<Value>,
}

/// The running warehouse. Dropping it stops it.
#[derive(Debug)]
pub struct StandIn {
    addr: SocketAddr,
    storage_addr: SocketAddr,
    shared: Arc<Shared>,
    servers: [JoinHandle<()>; 2],
}

impl Drop for StandIn {
    fn drop(&mut self) {
        self.servers.iter().for_each(JoinHandle::abort);
    }
}

impl StandIn {
    /// Starts on free ports: the account on one, its storage on another.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let addr = listener.local_addr()?;
        let storage_listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let storage_addr = storage_listener.local_addr()?;
        let storage = Arc::new(Storage::new(storage_addr));
        let shared = Arc::new(Shared {
            storage: Arc::clone(&storage),
            tokens: AtomicU64::default(),
            renewals: AtomicU64::default(),
            polls: AtomicU64::default(),
            expired: Mutex::default(),
            queries: Mutex::default(),
            statements: Mutex::default(),
            scripts: Mutex::default(),
        });
        let routes = axum::Router::new()
            .route("/session/v1/login-request", post(session::login))
            .route("/session/token-request", post(session::renew))
            .route("/session/heartbeat", post(session::done))
            .route("/session", post(session::done))
            .route("/queries/v1/query-request", post(statements::query))
            .route("/queries/v1/abort-request", post(statements::abort))
            .route("/queries/{id}/abort-request", post(statements::abort_by_id))
            .route("/queries/{id}/result", get(statements::result))
            .route("/monitoring/queries/{id}", get(statements::monitoring))
            .with_state(Arc::clone(&shared));
        let servers = [
            tokio::spawn(async move { drop(axum::serve(listener, routes).await) }),
            tokio::spawn(storage::serve(storage_listener, storage)),
        ];
        Ok(Self { addr, storage_addr, shared, servers })
    }

    /// Where the account listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where its storage listens.
    pub fn storage_addr(&self) -> SocketAddr {
        self.storage_addr
    }

    /// How often a session token was renewed.
    pub fn renewals(&self) -> u64 {
        self.shared.renewals.load(Ordering::Relaxed)
    }

    /// How often a slow result was asked for.
    pub fn polls(&self) -> u64 {
        self.shared.polls.load(Ordering::Relaxed)
    }

    /// The statements it executed, in order.
    pub fn statements(&self) -> Vec<String> {
        self.shared.statements.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The statements it was told to abort, in no order.
    pub fn aborted(&self) -> Vec<String> {
        let queries = self.shared.queries.lock().unwrap_or_else(PoisonError::into_inner);
        queries.values().filter(|query| query.aborted).map(|query| query.sql.clone()).collect()
    }

    /// What was fetched from its storage, in order.
    pub fn fetches(&self) -> Vec<Fetch> {
        self.shared.storage.fetches()
    }

    /// Plays these, one after the other, whenever a statement with this text in it comes; the last one stays.
    pub fn script(&self, text: &str, plays: Vec<Play>) {
        self.shared.scripts.lock().unwrap_or_else(PoisonError::into_inner).insert(text.to_owned(), plays);
    }
}

impl Shared {
    fn play(&self, sql: &str) -> Option<Play> {
        let mut scripts = self.scripts.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, plays) = scripts.iter_mut().find(|(text, _)| sql.contains(text.as_str()))?;
        if plays.len() > 1 { Some(plays.remove(0)) } else { plays.first().cloned() }
    }
}
