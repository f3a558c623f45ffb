use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use axum::{Router, extract, http::header::CONTENT_TYPE, response::IntoResponse, routing::get};
use icegate_pdp_audit::Event;
use icegate_pdp_model::with_causes;
use icegate_pdp_pip::{BundleDir, BundleDirError, IssuerKeys, Keys, KeysError};
use icegate_pdp_store::{Change, Options, Store, StoreError};
use icegate_proto::{
    FILE_DESCRIPTOR_SET,
    v1::{
        approval_service_server::ApprovalServiceServer, audit_service_server::AuditServiceServer,
        catalog_service_server::CatalogServiceServer, decision_service_server::DecisionServiceServer,
        session_service_server::SessionServiceServer, watch_service_server::WatchServiceServer,
    },
};
use metrics_exporter_prometheus::{BuildError, PrometheusHandle};
use thiserror::Error;
use tokio::{
    net::TcpListener,
    sync::watch,
    task::{JoinHandle, JoinSet},
    time::{MissedTickBehavior, interval, timeout},
};
use tonic::{
    server::NamedService,
    transport::{Certificate, Identity, Server, ServerTlsConfig, server::TcpIncoming},
};
use tonic_health::{ServingStatus, server::HealthReporter};
use tracing::{error, info, warn};

use crate::{
    Config, Transport,
    approvals::Approvals,
    catalog::{self, Catalogs, Facts, Syncing},
    clock,
    decide::Decisions,
    deciders::Deciders,
    metrics,
    records::Records,
    reload,
    sessions::Sessions,
    state::{Parts, Pdp, hex, new_id},
    watch::Watches,
};

/// Longest one call may take to its first answer: the longest wait for an approval, and room.
const CALL_LONGEST: Duration = Duration::from_mins(1);
/// What a message may hold besides the text and the bindings it is limited by, in bytes.
const MESSAGE_ROOM: usize = 64 * 1024;
/// Longest journal in one call, in bytes.
const JOURNAL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// How long calls that are being answered have when the service stops.
const DRAIN_LONGEST: Duration = Duration::from_secs(10);
/// How often sessions and approvals that ran out are written down.
const SWEEP: Duration = Duration::from_secs(5);
/// How often a store that could not write is tried again.
const STORE_RETRY: Duration = Duration::from_secs(5);
/// How often the metrics recorder tidies up.
const UPKEEP: Duration = Duration::from_secs(5);

/// Why the service does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The bundle is not usable.
    #[error("the bundle in `{path}` is not usable", path = path.display())]
    Bundle {
        /// Its directory.
        path: PathBuf,
        /// Every problem, with file and line.
        #[source]
        source: BundleDirError,
    },
    /// A certificate or key file cannot be read.
    #[error("`{path}` cannot be read", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Certificates and keys do not make a TLS server.
    #[error("certificate, key and client authority do not make a TLS server; check that they are PEM and fit")]
    Tls(#[source] tonic::transport::Error),
    /// The issuers' keys are not usable.
    #[error("the issuers' keys are not usable")]
    Keys(#[source] KeysError),
    /// A file of keys is not a JWKS.
    #[error("`{path}` is not usable", path = path.display())]
    KeyFile {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: icegate_pdp_identity::KeyError,
    },
    /// The issuers cannot be trusted as they are configured.
    #[error("the issuers are not usable")]
    Trust(#[source] icegate_pdp_identity::TrustError),
    /// The store cannot be opened.
    #[error("the store `{path}` cannot be opened", path = path.display())]
    Store {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: StoreError,
    },
    /// The first record could not be written.
    #[error("the start could not be recorded: {0}")]
    Record(String),
    /// An address cannot be listened on.
    #[error("`{addr}` cannot be listened on")]
    Bind {
        /// The address.
        addr: SocketAddr,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Metrics cannot be collected.
    #[error("metrics cannot be collected")]
    Metrics(#[source] BuildError),
    /// A thread cannot be started.
    #[error("a thread cannot be started")]
    Thread(#[source] std::io::Error),
    /// The contract's description is not usable.
    #[error("reflection cannot be served")]
    Reflection(#[source] tonic_reflection::server::Error),
}

impl StartError {
    /// Whether it is the configuration that has to change, or something it names.
    pub fn is_config(&self) -> bool {
        match self {
            Self::Bundle { .. }
            | Self::File { .. }
            | Self::Tls(_)
            | Self::Keys(_)
            | Self::KeyFile { .. }
            | Self::Trust(_) => true,
            Self::Store { .. }
            | Self::Record(_)
            | Self::Bind { .. }
            | Self::Metrics(_)
            | Self::Thread(_)
            | Self::Reflection(_) => false,
        }
    }
}

/// A service that runs. Dropping it stops it without waiting.
#[derive(Debug)]
pub struct Running {
    addr: SocketAddr,
    metrics_addr: SocketAddr,
    stop: watch::Sender<bool>,
    serving: JoinHandle<()>,
}

impl Running {
    /// Where gRPC is served.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where `/metrics` is served.
    pub fn metrics_addr(&self) -> SocketAddr {
        self.metrics_addr
    }

    /// Stops: no new calls, those being answered have some seconds, then the store is closed.
    pub async fn shutdown(self) {
        self.stop.send_replace(true);
        self.wait().await;
    }

    /// Waits until it has stopped.
    pub async fn wait(self) {
        // It is the service's own task; were it to panic, it would be over as well.
        let _ = self.serving.await;
    }

    /// Stops when this is done.
    pub async fn until(self, done: impl Future<Output = ()>) {
        tokio::pin!(done);
        let Self { stop, mut serving, .. } = self;
        tokio::select! {
            () = &mut done => {
                stop.send_replace(true);
                let _ = serving.await;
            }
            _ = &mut serving => {}
        }
    }
}

/// Starts the service: facts, store, keys, then the ports. It serves when this answers.
///
/// # Errors
/// When something it needs is not usable; nothing is left running then.
pub async fn start(config: Config) -> Result<Running, StartError> {
    let handle = metrics::install().map_err(StartError::Metrics)?;
    let tls = tls(&config.listen.transport).await?;
    let mut server = Server::builder();
    if let Some(tls) = tls {
        server = server.tls_config(tls).map_err(StartError::Tls)?;
    }
    let (dir, bundle) = load_bundle(&config.bundle.dir).await?;
    reload::warn_of(&bundle);
    let store = open_store(&config).await?;
    let holders = store
        .sessions_with_temporaries()
        .await
        .map_err(|source| StartError::Store { path: config.store_path.clone(), source })?;
    let revocations =
        store.revocations().await.map_err(|source| StartError::Store { path: config.store_path.clone(), source })?;
    let issuers =
        config.issuers.iter().map(|issuer| IssuerKeys { issuer: issuer.issuer.clone(), source: issuer.keys.clone() });
    let keys = Keys::start(issuers.collect(), config.keys.clone()).await.map_err(StartError::Keys)?;
    let listener = bind(config.listen.addr).await?;
    let metrics_listener = bind(config.metrics_addr).await?;

    let (stop, stopping) = watch::channel(false);
    let warehouse = catalog::remembered(&store, config.catalog.as_ref()).await;
    let warehouse = warehouse.map_err(|source| StartError::Store { path: config.store_path.clone(), source })?;
    let (facts, bundle) = Facts::new(bundle, warehouse);
    let version = bundle.version().to_owned();
    let pdp = Arc::new(Pdp::new(Parts {
        store,
        keys,
        bundle,
        facts,
        syncing: config.catalog.clone().map(Syncing::new),
        revocations,
        holders,
        deciders: Deciders::start().map_err(StartError::Thread)?,
        limits: config.limits,
        session_longest: config.session_longest,
        plaintext: config.listen.transport == Transport::DangerPlaintext,
        stopping: stopping.clone(),
    }));
    let instance = new_id();
    let now = clock::now();
    metrics::bundle_in_force(&version, None, now.unix_seconds());
    let started = Event::ServiceStarted {
        instance: instance.clone(),
        version: env!("CARGO_PKG_VERSION").into(),
        bundle_version: version.clone(),
    };
    let started = pdp.commit(Change::event(started, now)).await;
    started.map_err(|status| StartError::Record(status.message().to_owned()))?;

    let addr = local(&listener, config.listen.addr)?;
    let metrics_addr = local(&metrics_listener, config.metrics_addr)?;
    let mut tasks = JoinSet::new();
    let health = health(&pdp, instance.clone(), &mut tasks).await;
    reload::spawn(&pdp, dir, config.bundle.poll, &mut tasks);
    tasks.spawn(sweep(Arc::clone(&pdp)));
    tasks.spawn(catalog::keep(Arc::clone(&pdp)));
    tasks.spawn(scrapes(metrics_listener, Arc::clone(&pdp), handle));
    let router = routes(server, &pdp, health)?;
    let (records, head) = pdp.store.head();
    info!(%addr, metrics = %metrics_addr, version, records, head = hex(head), "listening");
    let serving = tokio::spawn(run(router, listener, pdp, instance, stopping, tasks));
    Ok(Running { addr, metrics_addr, stop, serving })
}

/// Serves until told to stop, then drains and closes.
async fn run(
    router: tonic::transport::server::Router,
    listener: TcpListener,
    pdp: Arc<Pdp>,
    instance: String,
    stopping: watch::Receiver<bool>,
    mut tasks: JoinSet<()>,
) {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let serving = router.serve_with_incoming_shutdown(incoming, stopped(stopping.clone()));
    let drained = async {
        stopped(stopping).await;
        tokio::time::sleep(DRAIN_LONGEST).await;
    };
    tokio::select! {
        served = serving => {
            if let Err(failure) = served {
                error!(error = with_causes(&failure), "serving failed");
            }
        }
        () = drained => warn!("calls were still being answered when the time to stop was over"),
    }
    tasks.shutdown().await;
    let event = Event::ServiceStopped { instance };
    if let Err(status) = pdp.commit(Change::event(event, clock::now())).await {
        error!(error = status.message(), "stop is not on record");
    }
    let (records, head) = pdp.store.head();
    pdp.store.close().await;
    // Kept wherever logs are kept, this is what shows a trail that was cut off or rebuilt.
    info!(records, head = hex(head), "stopped");
}

/// Done when the service is told to stop, or nobody is left to tell it.
async fn stopped(mut stopping: watch::Receiver<bool>) {
    let _ = stopping.wait_for(|stop| *stop).await;
}

fn routes(
    server: Server,
    pdp: &Arc<Pdp>,
    health: impl tonic::codegen::Service<
        tonic::codegen::http::Request<tonic::body::Body>,
        Response = tonic::codegen::http::Response<tonic::body::Body>,
        Error = std::convert::Infallible,
        Future: Send + 'static,
    > + NamedService
    + Clone
    + Send
    + Sync
    + 'static,
) -> Result<tonic::transport::server::Router, StartError> {
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(StartError::Reflection)?;
    let message = pdp.limits.sql_bytes_max + pdp.limits.bindings_bytes_max + MESSAGE_ROOM;
    Ok(server
        .timeout(CALL_LONGEST)
        .http2_keepalive_interval(Some(Duration::from_secs(20)))
        .add_service(health)
        .add_service(reflection)
        .add_service(DecisionServiceServer::new(Decisions(Arc::clone(pdp))).max_decoding_message_size(message))
        .add_service(SessionServiceServer::new(Sessions(Arc::clone(pdp))).max_decoding_message_size(MESSAGE_ROOM))
        .add_service(ApprovalServiceServer::new(Approvals(Arc::clone(pdp))).max_decoding_message_size(MESSAGE_ROOM))
        .add_service(
            AuditServiceServer::new(Records(Arc::clone(pdp)))
                .max_decoding_message_size(JOURNAL_BYTES_MAX.max(message))
                .max_encoding_message_size(usize::MAX),
        )
        .add_service(WatchServiceServer::new(Watches(Arc::clone(pdp))).max_decoding_message_size(MESSAGE_ROOM))
        .add_service(
            CatalogServiceServer::new(Catalogs(Arc::clone(pdp))).max_decoding_message_size(catalog::ANSWER_BYTES_MAX),
        ))
}

/// Reports each service as serving as long as the store can write; without a record nothing may be answered.
async fn health(
    pdp: &Arc<Pdp>,
    instance: String,
    tasks: &mut JoinSet<()>,
) -> tonic_health::pb::health_server::HealthServer<impl tonic_health::pb::health_server::Health + use<>> {
    let (reporter, service) = tonic_health::server::health_reporter();
    report(&reporter, ServingStatus::Serving).await;
    let pdp = Arc::clone(pdp);
    tasks.spawn(async move {
        let mut writable = pdp.writable.subscribe();
        loop {
            let serving = *writable.borrow_and_update();
            report(&reporter, if serving { ServingStatus::Serving } else { ServingStatus::NotServing }).await;
            if serving {
                if writable.changed().await.is_err() {
                    return;
                }
                continue;
            }
            // Nobody may be sent here any more, so nobody's statement would show that it works again: a record of that
            // is the try.
            if timeout(STORE_RETRY, writable.changed()).await.is_err() {
                let event = Event::RecordingResumed { instance: instance.clone() };
                let _ = pdp.commit(Change::event(event, clock::now())).await;
            }
        }
    });
    service
}

async fn report(reporter: &HealthReporter, status: ServingStatus) {
    reporter.set_service_status("", status).await;
    for service in [
        DecisionServiceServer::<Decisions>::NAME,
        SessionServiceServer::<Sessions>::NAME,
        ApprovalServiceServer::<Approvals>::NAME,
        AuditServiceServer::<Records>::NAME,
        WatchServiceServer::<Watches>::NAME,
        CatalogServiceServer::<Catalogs>::NAME,
    ] {
        reporter.set_service_status(service, status).await;
    }
}

async fn sweep(pdp: Arc<Pdp>) {
    let mut every = interval(SWEEP);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        if let Err(status) = pdp.sweep().await {
            warn!(error = status.message(), "what ran out could not be written down");
        }
    }
}

/// Serves `/metrics`.
async fn scrapes(listener: TcpListener, pdp: Arc<Pdp>, handle: PrometheusHandle) {
    let upkeep = handle.clone();
    let tidy = async move {
        let mut every = interval(UPKEEP);
        loop {
            every.tick().await;
            upkeep.run_upkeep();
        }
    };
    let app = Router::new().route("/metrics", get(scrape)).with_state((pdp, handle));
    tokio::select! {
        served = async { axum::serve(listener, app).await } => {
            if let Err(failure) = served {
                error!(error = with_causes(&failure), "metrics are no longer served");
            }
        }
        () = tidy => {}
    }
}

/// Gauges are read when somebody looks.
async fn scrape(extract::State((pdp, handle)): extract::State<(Arc<Pdp>, PrometheusHandle)>) -> impl IntoResponse {
    let now = clock::now();
    if let Ok(active) = pdp.store.sessions_active(now).await {
        metrics::sessions_active(active);
    }
    if let Ok(pending) = pdp.store.approvals_pending(now).await {
        metrics::approvals_pending(pending);
    }
    metrics::audit_queue(pdp.store.stats().queue_changes);
    for status in pdp.keys.status() {
        metrics::issuer_keys(&status.issuer, status.keys, status.age, status.problem.is_some());
    }
    ([(CONTENT_TYPE, "text/plain; version=0.0.4")], handle.render())
}

/// Reads what TLS needs.
pub(crate) async fn tls(transport: &Transport) -> Result<Option<ServerTlsConfig>, StartError> {
    let Transport::Tls { cert, key, client_ca } = transport else { return Ok(None) };
    let identity = Identity::from_pem(read(cert).await?, read(key).await?);
    let authority = Certificate::from_pem(read(client_ca).await?);
    // People come without a certificate; who is a PEP is judged call by call.
    Ok(Some(ServerTlsConfig::new().identity(identity).client_ca_root(authority).client_auth_optional(true)))
}

pub(crate) async fn read(path: &Path) -> Result<Vec<u8>, StartError> {
    tokio::fs::read(path).await.map_err(|source| StartError::File { path: path.to_owned(), source })
}

/// Compiling takes a while and goes deep: not on a thread that serves.
pub(crate) async fn load_bundle(path: &Path) -> Result<(BundleDir, icegate_pdp_policy::Bundle), StartError> {
    let mut dir = BundleDir::new(path.to_owned());
    let lost = || BundleDirError::Changing;
    let loaded = tokio::task::spawn_blocking(move || {
        let bundle = dir.load();
        (dir, bundle)
    });
    let (dir, bundle) = match loaded.await {
        Ok((dir, bundle)) => (dir, bundle),
        Err(_) => (BundleDir::new(path.to_owned()), Err(lost())),
    };
    let bundle = bundle.map_err(|source| StartError::Bundle { path: path.to_owned(), source })?;
    Ok((dir, bundle))
}

async fn open_store(config: &Config) -> Result<Store, StartError> {
    let options = Options {
        queue_changes_max: config.audit.queue_max,
        batch_changes_max: config.audit.group_max,
        readers_max: config.audit.readers,
        ..Options::default()
    };
    Store::open_with(&config.store_path, options, metrics::audit_commit)
        .await
        .map_err(|source| StartError::Store { path: config.store_path.clone(), source })
}

async fn bind(addr: SocketAddr) -> Result<TcpListener, StartError> {
    TcpListener::bind(addr).await.map_err(|source| StartError::Bind { addr, source })
}

fn local(listener: &TcpListener, addr: SocketAddr) -> Result<SocketAddr, StartError> {
    listener.local_addr().map_err(|source| StartError::Bind { addr, source })
}
