//! Credentials and keys that change while the proxy runs: their files are looked at every so often, and at once on SIGHUP; a command
//! for keys is run likewise. What is new counts for logins and connections that begin after it; sessions keep what they have.
//! What cannot be used is told of and leaves what was in force.

use std::{
    fmt, fs,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};
use tracing::{error, info};

use crate::{
    config::{
        self, Listen, MaskKeys, Upstream, UpstreamAuth,
        secrets::{self, SecretsError, ServedTls},
    },
    masking::Masking,
    metrics::REREADS,
    proxy::Proxy,
    said,
    session::opened::Sealing,
};

/// Reads it again, and says whether it is another one.
type Reread = Box<dyn Fn() -> Result<bool, SecretsError> + Send>;

/// What is one thing together.
pub(crate) struct Watched {
    what: &'static str,
    source: Source,
    reread: Reread,
}

/// When there may be something new.
#[derive(Debug)]
enum Source {
    Files {
        files: Vec<PathBuf>,
        /// Of what was read last, whether it could be used or not.
        seen: Option<[u8; 32]>,
    },
    /// Only whoever is asked knows.
    Asked { every: Duration, next: Instant },
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watched").field("what", &self.what).field("source", &self.source).finish_non_exhaustive()
    }
}

/// The credential of one connection. A password from the environment cannot change.
pub(crate) fn credential(config: &Upstream, proxy: &Arc<Proxy>) -> Option<Watched> {
    match &config.auth {
        UpstreamAuth::KeyPair(file) | UpstreamAuth::PasswordFile(file) => {
            let proxy = Arc::clone(proxy);
            Some(Watched::new("credential", vec![file.clone()], move || proxy.account.reread()))
        }
        UpstreamAuth::PasswordEnv(_) => None,
    }
}

/// The certificate of the listener.
pub(crate) fn certificate(config: &Listen, tls: Option<&ServedTls>) -> Option<Watched> {
    let (files, tls) = (config.tls.as_ref()?, tls.cloned()?);
    let files = vec![files.cert.clone(), files.key.clone()];
    Some(Watched::new("certificate", files, move || tls.reread()))
}

/// The keys of masks.
pub(crate) fn mask_keys(config: &config::Masking, masking: &Arc<Masking>) -> Option<Watched> {
    let source = match config.keys.clone()? {
        MaskKeys::File(file) => Source::Files { files: vec![file], seen: None },
        MaskKeys::Command(..) => Source::Asked { every: config.keys_every, next: Instant::now() + config.keys_every },
    };
    let masking = Arc::clone(masking);
    Some(Watched { what: "mask-keys", source, reread: Box::new(move || masking.reread()) })
}

/// The keys of tokens, of all connections. What they seal is taken from then on by those that are left; nobody's session ends.
pub(crate) fn token_keys(config: &config::Tokens, proxies: &[Arc<Proxy>]) -> Option<Watched> {
    let (file, proxies) = (config.keys_file.clone()?, proxies.to_vec());
    let files = vec![file.clone()];
    let reread = move || {
        let keys = secrets::token_keys_in(&file)?;
        let fresh = proxies.iter().map(|proxy| secrets::sealer(&keys, &proxy.connection));
        let fresh = fresh.collect::<Result<Vec<_>, _>>()?;
        for (proxy, sealer) in proxies.iter().zip(fresh) {
            proxy.sealing.store(Arc::new(Sealing::new(sealer)));
        }
        Ok(())
    };
    Some(Watched::new("token-keys", files, reread))
}

/// What is shown to the PDP of one connection, and whom it is believed to be.
pub(crate) fn pdp_certificate(config: &config::Pdp, proxy: &Arc<Proxy>) -> Option<Watched> {
    let (tls, config, proxy) = (config.tls.clone()?, config.clone(), Arc::clone(proxy));
    let files = vec![tls.ca.clone(), tls.cert.clone(), tls.key.clone()];
    let reread = move || {
        let fresh = secrets::pdp_tls(&tls)?;
        proxy.pdp.reconnect(&config, fresh).map_err(|error| SecretsError::Unusable {
            key: "pdp.tls",
            message: format!("certificate and key do not go together: {}", said(&error)),
        })
    };
    Some(Watched::new("pdp-certificate", files, reread))
}

/// Looks at them for as long as it is polled.
pub(crate) async fn keep(mut all: Vec<Watched>, every: Duration) {
    let mut tick = tokio::time::interval(every);
    let mut told = Told::new();
    loop {
        let told = tokio::select! {
            _ = tick.tick() => false,
            () = told.hung_up() => {
                info!("told to read credentials, certificates and keys again");
                true
            }
        };
        // A command takes its time.
        let looked = tokio::task::spawn_blocking(move || {
            for watched in &mut all {
                watched.look(told);
            }
            all
        });
        let Ok(looked) = looked.await else {
            error!("credentials, certificates and keys are no longer read again; start the proxy anew");
            return;
        };
        all = looked;
    }
}

impl Watched {
    fn new(
        what: &'static str,
        files: Vec<PathBuf>,
        reread: impl Fn() -> Result<(), SecretsError> + Send + 'static,
    ) -> Self {
        let source = Source::Files { files, seen: None };
        Self { what, source, reread: Box::new(move || reread().map(|()| true)) }
    }

    /// Reads what may have changed. Files by content: one may be replaced by a link, or written anew with its old time.
    fn look(&mut self, told: bool) {
        let first = match &mut self.source {
            Source::Files { files, seen } => {
                let now = digest(files);
                let before = seen.replace(now);
                if before == Some(now) {
                    return;
                }
                before.is_none()
            }
            Source::Asked { every, next } => {
                let now = Instant::now();
                if !told && now < *next {
                    return;
                }
                *next = now + *every;
                false
            }
        };
        let result = match (self.reread)() {
            Ok(false) => return,
            // The first look is at what the start has read.
            Ok(true) if first => return,
            Ok(true) => {
                info!(what = self.what, "new one in force");
                "taken"
            }
            Err(error) => {
                error!(what = self.what, error = said(&error), "new one not usable; the one before stays in force");
                "refused"
            }
        };
        metrics::counter!(REREADS, "what" => self.what, "result" => result).increment(1);
    }
}

fn digest(files: &[PathBuf]) -> [u8; 32] {
    let mut hash = Sha256::new();
    for file in files {
        match fs::read(file).map(zeroize::Zeroizing::new) {
            Ok(bytes) => {
                hash.update((bytes.len() as u64).to_le_bytes());
                hash.update(&*bytes);
            }
            Err(_) => hash.update(u64::MAX.to_le_bytes()),
        }
    }
    hash.finalize().into()
}

/// SIGHUP, where there is such a thing.
#[derive(Debug)]
struct Told {
    #[cfg(unix)]
    hangups: Option<tokio::signal::unix::Signal>,
}

#[cfg(unix)]
impl Told {
    fn new() -> Self {
        Self { hangups: tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup()).ok() }
    }

    async fn hung_up(&mut self) {
        let heard = match &mut self.hangups {
            Some(hangups) => hangups.recv().await,
            None => None,
        };
        if heard.is_none() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(not(unix))]
impl Told {
    fn new() -> Self {
        Self {}
    }

    #[expect(clippy::unused_self, reason = "there is nothing to hear")]
    async fn hung_up(&mut self) {
        std::future::pending::<()>().await;
    }
}
