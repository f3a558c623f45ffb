//! How does a driver's statement reach Snowflake only as it was decided?
//!
//! The policy enforcement point: a proxy that speaks Snowflake's own protocol, so that a driver only changes its host. It
//! holds the one credential for Snowflake, asks the PDP about each statement, refuses, holds or forwards, and tells the
//! PDP what became of it. It parses no SQL and evaluates no policy.
//!
//! ```
//! let text = r#"
//! pep_id = "pep-1"
//! [listen]
//! addr = "127.0.0.1:0"
//! danger_plaintext = true
//! [upstream]
//! url = "http://127.0.0.1:9000"
//! danger_plaintext = true
//! account = "ACCT"
//! user = "ICEGATE"
//! auth = "password"
//! password_env = "UPSTREAM_PASSWORD"
//! [pdp]
//! url = "http://pdp.internal:7700"
//! danger_plaintext = true
//! "#;
//! let error = icegate_pep::Config::parse(text, "pep.toml").unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "pep.toml:14: `pdp.url` is `http://pdp.internal:7700`; plaintext is for loopback only; use `https`",
//! );
//! ```
//!
//! In the order a statement flows: [`config`], `listen` (sockets and bytes), `front` (which connection), `proxy` (which part
//! answers which call), `session` (login, renewal, where a session stands), `sign_in` (with a browser), `statement` (one run from
//! request to record), `ask` (the PDP, the decision cache, the watch), `refuse`, `hold` (waiting for a person), `forward`
//! (Snowflake), `lanes` (the clients for it), `answer` (results by id, monitoring, aborts), `lasting` (what goes on without its
//! client), `chunk` (parts of results in storage),
//! `api` (the SQL API), `record` (outcomes and the journal), `catalog` (the PDP's questions about the warehouse), `rotate` (credentials that change while it runs), [`metrics`].
//!
//! # Invariants
//! - Nothing is sent to Snowflake for a client without an `ask::Permitted`, and only `ask` makes one, after the record of
//!   what will run is durable: at the PDP, or in the journal while the PDP is away and `pdp.grace` lasts.
//! - No token of Snowflake's is ever in an answer.
//! - A statement runs at most once per permission, whatever a driver repeats.

mod answer;
mod api;
mod ask;
mod catalog;
mod chunk;
pub mod config;
mod forward;
mod front;
mod hold;
mod lanes;
mod lasting;
mod listen;
mod masking;
pub mod metrics;
mod proxy;
mod record;
mod refuse;
mod rotate;
mod session;
mod sign_in;
mod statement;

use std::{
    ffi::OsString,
    future::Future,
    io::IsTerminal as _,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use clap::Parser as _;
use icegate_pep_protocol::Limits;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, watch},
    task::JoinHandle,
};
use tracing::{info, warn};

pub use crate::ask::pdp::PdpSetupError;
pub use crate::config::{Config, ConfigError};
use crate::{
    answer::Queries,
    api::pool::Pool,
    ask::{cache::Cache, pdp::Pdp},
    chunk::Storage,
    config::{
        Connection,
        secrets::{self, ConnectionSecrets, Secrets, SecretsError},
    },
    forward::{account::Account, upstream::Upstream},
    front::Front,
    hold::Holds,
    listen::Bounds,
    masking::Masking,
    proxy::Proxy,
    record::{Recorder, journal::Journal},
    session::{Ending, Sessions, opened::Sealing},
    sign_in::SignIn,
    statement::Kept,
};

/// Exit status for a configuration that cannot be used (`EX_USAGE` of sysexits.h).
pub const EXIT_CONFIG: u8 = 64;
/// How often sessions that are over are forgotten.
const SWEEP: Duration = Duration::from_mins(1);

/// Why a proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A file the configuration names.
    #[error("configuration not usable")]
    Secrets(#[from] SecretsError),
    /// The address of the PDP or its certificates.
    #[error("`pdp`: not usable")]
    Pdp(#[source] PdpSetupError),
    /// The journal.
    #[error("`journal.path`: cannot open `{path}`")]
    Journal {
        /// The file.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A port.
    #[error("`{key}`: cannot listen on `{addr}`")]
    Bind {
        /// The configuration key.
        key: &'static str,
        /// The address.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

/// A proxy that is serving.
#[derive(Debug)]
pub struct Running {
    addr: SocketAddr,
    metrics_addr: Option<SocketAddr>,
    proxies: Vec<Arc<Proxy>>,
    stopping: watch::Sender<bool>,
    drain: Duration,
    server: JoinHandle<()>,
    background: Vec<JoinHandle<()>>,
}

/// Starts a proxy: reads the files its configuration names, binds, and serves in the background.
///
/// # Errors
/// When a file, the journal or a port cannot be used.
pub async fn start(config: Config) -> Result<Running, StartError> {
    let secrets = Secrets::read(&config)?;
    serve(config, secrets).await
}

async fn serve(config: Config, secrets: Secrets) -> Result<Running, StartError> {
    // A library of ours may ask rustls for "the" provider: let there be one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let _ = metrics::handle();
    if config.results.chunks == config::Delivering::Direct {
        info!("parts of large results go from storage to drivers directly, past this proxy");
    }
    if secrets.token_keys_passing {
        warn!("`tokens.keys_file` is not set: a restart of this proxy ends all sessions");
    }
    let masking = Arc::new(Masking::new(&config.masking, secrets.mask_keys.clone()));
    let calls = Arc::new(Semaphore::new(config.limits.upstream_calls_max));
    let shared = Shared { config: &config, secrets: &secrets, masking: &masking, calls: &calls };
    let Secrets { server_tls, connections, .. } = &secrets;
    let proxies = config.connections.iter().zip(connections);
    let proxies = proxies.map(|(connection, own)| Ok(Arc::new(proxy(shared, connection, own)?)));
    let proxies: Vec<Arc<Proxy>> = proxies.collect::<Result<_, StartError>>()?;
    let addr = config.listen.addr;
    let bound = |key, addr| move |source| StartError::Bind { key, addr, source };
    let listener = TcpListener::bind(addr).await.map_err(bound("listen.addr", addr))?;
    let addr = listener.local_addr().map_err(bound("listen.addr", addr))?;
    let mut background: Vec<_> =
        config.connections.iter().zip(&proxies).flat_map(|(connection, proxy)| tasks(connection, proxy)).collect();
    let pdps = config.connections.iter().zip(&proxies);
    let credentials = config.connections.iter().zip(&proxies);
    let credentials = credentials.filter_map(|(connection, proxy)| rotate::credential(&connection.upstream, proxy));
    let watched = credentials
        .chain(rotate::certificate(&config.listen, server_tls.as_ref()))
        .chain(rotate::mask_keys(&config.masking, &masking))
        .chain(rotate::token_keys(&config.tokens, &proxies))
        .chain(pdps.filter_map(|(connection, proxy)| rotate::pdp_certificate(&connection.pdp, proxy)))
        .collect();
    let every = config.connections.iter().map(|connection| connection.upstream.reread).min().unwrap_or(SWEEP);
    background.push(tokio::spawn(rotate::keep(watched, every)));
    let metrics_addr = match config.metrics {
        None => None,
        Some(addr) => {
            let proxies = proxies.clone();
            let look: metrics::Look = Arc::new(move || now(&proxies));
            let (addr, task) = metrics::serve(addr, look).await.map_err(bound("metrics.addr", addr))?;
            background.push(task);
            Some(addr)
        }
    };
    let stopping = watch::Sender::new(false);
    let front = Arc::new(Front::new(config.connections.iter().cloned().zip(proxies.clone())));
    let tls = server_tls.as_ref().map(|tls| Arc::clone(&tls.config));
    let bounds = Bounds::new(&config.limits);
    let server = tokio::spawn(listen::serve(listener, tls, front, bounds, stopping.subscribe()));
    info!(%addr, pep_id = config.pep_id, connections = proxies.len(), "serving");
    Ok(Running { addr, metrics_addr, proxies, stopping, drain: config.listen.drain, server, background })
}

/// What a connection does by itself.
fn tasks(connection: &Connection, proxy: &Arc<Proxy>) -> Vec<JoinHandle<()>> {
    let mut tasks = vec![
        tokio::spawn(ask::watch::keep(Arc::clone(proxy))),
        tokio::spawn(proxy.recorder.clone().deliver()),
        tokio::spawn(sweep(Arc::clone(proxy))),
    ];
    if let Some(config) = connection.catalog.clone() {
        tasks.push(tokio::spawn(catalog::keep(Arc::clone(proxy), config)));
    }
    tasks
}

fn now(proxies: &[Arc<Proxy>]) -> metrics::Now {
    let sum = |count: fn(&Proxy) -> usize| proxies.iter().map(|proxy| count(proxy)).sum();
    metrics::Now {
        sessions: sum(|proxy| proxy.sessions.count()),
        held: sum(|proxy| proxy.holds.count()),
        journal_entries: sum(|proxy| proxy.recorder.waiting()),
        upstream_calls: sum(|proxy| proxy.upstream.on_their_way()),
        ready: proxies.iter().all(|proxy| proxy.pdp.ready()),
    }
}

fn beside(path: &Path, end: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(end);
    name.into()
}

/// What all connections have together.
#[derive(Clone, Copy)]
struct Shared<'a> {
    config: &'a Config,
    secrets: &'a Secrets,
    masking: &'a Arc<Masking>,
    /// Places for calls to the warehouses.
    calls: &'a Arc<Semaphore>,
}

fn proxy(shared: Shared<'_>, connection: &Connection, own: &ConnectionSecrets) -> Result<Proxy, StartError> {
    let Shared { config, secrets, masking, calls } = shared;
    let Config { limits, tokens, .. } = config;
    let Connection { name, upstream, .. } = connection;
    // Each has records and a decision point of its own, so each has a journal of its own.
    let journal_path = match name.as_str() {
        "" => config.journal.path.clone(),
        name => beside(&config.journal.path, &format!(".{name}")),
    };
    let unopened = |source| StartError::Journal { path: journal_path.display().to_string(), source };
    let journal = Journal::open(&journal_path, config.journal.bytes_max).map_err(unopened)?;
    let queries = Queries::open(&beside(&journal_path, ".queries"), limits.queries_max).map_err(unopened)?;
    let pdp = Pdp::new(&connection.pdp, own.pdp_tls.clone(), &config.pep_id).map_err(StartError::Pdp)?;
    let sealing = Sealing::new(secrets::sealer(&secrets.token_keys, name)?);
    Ok(Proxy {
        pep_id: config.pep_id.clone(),
        connection: name.clone(),
        body_bytes_max: limits.body_bytes_max,
        limits: Limits {
            body_wire_bytes_max: limits.body_bytes_max,
            body_bytes_max: limits.body_bytes_max,
            reply_bytes_max: limits.reply_bytes_max,
            ..Limits::default()
        },
        recorder: Recorder::new(pdp.clone(), &config.pep_id, journal),
        pdp,
        cache: Cache::new(limits.cache_entries_max),
        sessions: Sessions::new(limits.sessions_max),
        sealing: ArcSwap::from_pointee(sealing),
        session_ttl: tokens.session_ttl,
        master_ttl: tokens.master_ttl,
        upstream: Upstream::new(upstream, &own.upstream_tls, limits, calls),
        storage: Storage::new(&config.results, &secrets.storage_tls),
        masking: Arc::clone(masking),
        account: Account::new(upstream, own.credential.clone()),
        sign_in: sign_in(connection, own),
        hold: config.hold.clone(),
        holds: Holds::new(limits.held_max, limits.held_per_session_max),
        kept: Kept::new(limits.kept_bytes_max),
        queries,
        pool: Pool::new(),
        stopping: watch::Sender::new(false),
        working: watch::Sender::new(0),
    })
}

fn sign_in(connection: &Connection, own: &ConnectionSecrets) -> Option<SignIn> {
    let (config, secrets) = connection.sign_in.as_ref().zip(own.sign_in.as_ref())?;
    Some(SignIn::new(config, secrets, &connection.upstream.account))
}

async fn sweep(proxy: Arc<Proxy>) {
    let idle_ms = i64::try_from(proxy.master_ttl.as_millis()).unwrap_or(i64::MAX);
    let mut tick = tokio::time::interval(SWEEP);
    loop {
        tick.tick().await;
        proxy.pool.sweep(&proxy, None);
        proxy.upstream.sweep();
        for session in proxy.sessions.sweep(record::unix_ms(), idle_ms) {
            proxy.end(&session, Ending::Expired);
        }
    }
}

impl Running {
    /// Where drivers connect.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where metrics and health are served.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics_addr
    }

    /// Records the PDP has not got yet.
    pub fn journal_entries(&self) -> usize {
        self.proxies.iter().map(|proxy| proxy.recorder.waiting()).sum()
    }

    /// Stops accepting, lets what is on its way end for as long as `listen.drain` says, and stops.
    pub async fn shutdown(self) {
        self.stopping.send_replace(true);
        for proxy in &self.proxies {
            proxy.stopping.send_replace(true);
        }
        let mut server = self.server;
        let drained = tokio::time::timeout(self.drain, async {
            let _ = (&mut server).await;
            for proxy in &self.proxies {
                let mut working = proxy.working.subscribe();
                let _ = working.wait_for(|count| *count == 0).await;
            }
        });
        if drained.await.is_err() {
            let working: usize = self.proxies.iter().map(|proxy| *proxy.working.borrow()).sum();
            warn!(working, "stopped with work left");
        }
        server.abort();
        for task in self.background {
            task.abort();
        }
        info!("stopped");
    }
}

#[derive(clap::Parser)]
#[command(
    name = "icegate-pep",
    version,
    about = "icegate's policy enforcement point: a proxy that speaks Snowflake's protocol"
)]
struct Arguments {
    /// The configuration file; config.example.toml has every key
    #[arg(long, value_name = "FILE", env = "ICEGATE_PEP_CONFIG", default_value = "pep.toml")]
    config: PathBuf,
    /// Read and check the configuration and the files it names, then stop
    #[arg(long)]
    check_config: bool,
    /// Write the addresses taken to this file as JSON, `{"addr": …, "metrics": …}`, once the service answers
    #[arg(long, value_name = "FILE")]
    announce: Option<PathBuf>,
}

/// The whole program, for its own binary and for `icegate`. `args` begins with the program's name.
///
/// Exits with 0 after an orderly stop, 64 when the configuration cannot be used, 1 otherwise.
pub fn main_from(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_CONFIG) } else { ExitCode::SUCCESS };
        }
    };
    let read = Config::load(&arguments.config).map_err(|error| said(&error)).and_then(|config| {
        let secrets =
            Secrets::read(&config).map_err(|error| format!("{}: {}", arguments.config.display(), said(&error)))?;
        Ok((config, secrets))
    });
    let (config, secrets) = match read {
        Ok(read) => read,
        Err(message) => {
            tell(&message);
            return ExitCode::from(EXIT_CONFIG);
        }
    };
    if arguments.check_config {
        tell(&format!("{}: good", arguments.config.display()));
        return ExitCode::SUCCESS;
    }
    logging();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tell(&format!("no runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        match serve(config, secrets).await {
            Ok(running) => {
                let announced = arguments.announce.map_or(Ok(()), |path| announce(&running, &path));
                if let Err(error) = &announced {
                    tell(&format!("`--announce`: {error}"));
                } else {
                    told_to_stop().await;
                }
                running.shutdown().await;
                if announced.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(error) => {
                tell(&said(&error));
                ExitCode::FAILURE
            }
        }
    })
}

/// Whoever waits for the file finds it whole: it is written beside its place and moved there.
fn announce(running: &Running, path: &Path) -> std::io::Result<()> {
    let metrics = running.metrics_addr().map(|addr| addr.to_string());
    let addresses = serde_json::json!({ "addr": running.addr().to_string(), "metrics": metrics });
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, format!("{addresses}\n"))?;
    std::fs::rename(&beside, path)
}

fn logging() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // Whoever embeds this may have its own.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
}

#[cfg(unix)]
fn told_to_stop() -> impl Future<Output = ()> {
    use tokio::signal::unix::{SignalKind, signal};
    async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    _ = terminate.recv() => {}
                }
            }
            Err(_) => {
                let _ = tokio::signal::ctrl_c().await;
            }
        }
    }
}

#[cfg(not(unix))]
async fn told_to_stop() {
    let _ = tokio::signal::ctrl_c().await;
}

/// An error and its causes in one line.
fn said(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn tell(message: &str) {
    use std::io::Write as _;
    // Nobody to tell that nobody can be told.
    let _ = writeln!(std::io::stderr(), "{message}");
}
