use std::{
    ffi::OsString,
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::{Parser, ValueEnum};
use icegate_pdp_identity::{KeySet, Trust};
use icegate_pdp_model::with_causes;
use icegate_pdp_pip::KeySource;
use tokio::signal::unix::{SignalKind, signal};
use tracing::info;
use tracing_subscriber::EnvFilter;

use crate::{
    Config, Running, StartError, reload,
    serve::{self, load_bundle},
    start,
};

/// Exit status when the command line, the configuration or something it names is wrong (`EX_USAGE` of sysexits.h).
const EXIT_CONFIG: u8 = 64;
/// Stack of the threads that serve, in bytes.
const STACK_BYTES: usize = 8 * 1024 * 1024;

/// icegate's policy decision point: decides every statement, keeps sessions, approvals and the audit trail.
#[derive(Debug, Parser)]
#[command(name = "icegate-pdp", version)]
struct Args {
    /// The configuration; `config.example.toml` explains each key
    #[arg(long, value_name = "FILE", default_value = "pdp.toml")]
    config: PathBuf,
    /// Read the configuration and everything it names (bundle, TLS and key files), say what is wrong, and stop
    #[arg(long)]
    check_config: bool,
    /// Write the addresses taken to this file as JSON, `{"addr": …, "metrics": …}`, once the service answers
    #[arg(long, value_name = "FILE")]
    announce: Option<PathBuf>,
    /// How log lines look; which are shown is set by `RUST_LOG`, `info` by default
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    log: LogFormat,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

/// The whole program, from its arguments (the program's name first) to its exit status.
pub fn main_from<I, T>(args: I) -> ExitCode
where
    I: IntoIterator<Item = T>,
    T: Into<OsString> + Clone,
{
    let args = match Args::try_parse_from(args) {
        Ok(args) => args,
        Err(error) => {
            // Nothing can be said about a terminal that cannot be written to.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(EXIT_CONFIG) } else { ExitCode::SUCCESS };
        }
    };
    log(args.log);
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(error) => return failed(&with_causes(&error), ExitCode::from(EXIT_CONFIG)),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().thread_stack_size(STACK_BYTES).enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return failed(&with_causes(&error), ExitCode::FAILURE),
    };
    runtime.block_on(async {
        let done = if args.check_config { check(&config).await } else { serve(config, args.announce).await };
        match done {
            Ok(()) => ExitCode::SUCCESS,
            Err(Failure::Start(error)) if error.is_config() => {
                failed(&with_causes(&error), ExitCode::from(EXIT_CONFIG))
            }
            Err(error) => failed(&with_causes(&error), ExitCode::FAILURE),
        }
    })
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("`{path}` cannot be written", path = path.display())]
    Announce {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("signals cannot be received")]
    Signal(#[source] std::io::Error),
}

async fn serve(config: Config, announced: Option<PathBuf>) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(Failure::Signal)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(Failure::Signal)?;
    let running = start(config).await?;
    if let Some(path) = &announced {
        announce(&running, path).map_err(|source| Failure::Announce { path: path.clone(), source })?;
    }
    running
        .until(async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            info!("stopping");
        })
        .await;
    Ok(())
}

/// Whoever waits for the file finds it whole: it is written beside its place and moved there.
fn announce(running: &Running, path: &Path) -> std::io::Result<()> {
    let addresses =
        serde_json::json!({ "addr": running.addr().to_string(), "metrics": running.metrics_addr().to_string() });
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, format!("{addresses}\n"))?;
    std::fs::rename(&beside, path)
}

/// Reads everything the configuration names, without a port, a store or a fetch.
async fn check(config: &Config) -> Result<(), Failure> {
    if let Some(tls) = serve::tls(&config.listen.transport).await? {
        tonic::transport::Server::builder().tls_config(tls).map_err(StartError::Tls)?;
    }
    let (_, bundle) = load_bundle(&config.bundle.dir).await?;
    reload::warn_of(&bundle);
    let mut issuers = Vec::with_capacity(config.issuers.len());
    for issuer in &config.issuers {
        let keys = match &issuer.keys {
            KeySource::File(path) => {
                let json = serve::read(path).await?;
                KeySet::from_jwks_json(&json).map_err(|source| StartError::KeyFile { path: path.clone(), source })?
            }
            KeySource::Url(_) | KeySource::Discovery(_) => KeySet::default(),
        };
        issuers.push((issuer.issuer.clone(), keys));
    }
    Trust::new(issuers).map_err(StartError::Trust)?;
    info!(version = bundle.version(), policies = bundle.policy_ids().count(), "configuration is good");
    Ok(())
}

fn log(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    // Set already when the program runs inside another one; that one's stays.
    let _ = match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

fn failed(text: &str, code: ExitCode) -> ExitCode {
    // Nothing can be said about a terminal that cannot be written to.
    let _ = writeln!(std::io::stderr(), "icegate-pdp: {text}");
    code
}
