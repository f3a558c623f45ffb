mod fetch;

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::{Arc, Mutex as SyncMutex, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use icegate_pdp_identity::{IdentityError, Issuer, KeySet, Trust, TrustError, Verified, verify};
use icegate_pdp_model::{Timestamp, with_causes};
use thiserror::Error;
use tokio::{sync::Mutex, time::Instant};
use tracing::{info, warn};

pub use fetch::{DOCUMENT_BYTES_MAX, FetchError};
use fetch::{Fetched, Fetcher};

/// At most one fetch in this time because of tokens that name an unknown key, for each issuer.
pub const UNKNOWN_KEY_PAUSE: Duration = Duration::from_secs(30);
/// What an issuer's `Cache-Control` and the configuration can ask for at most and at least.
const REFRESH: std::ops::RangeInclusive<Duration> = Duration::from_mins(5)..=Duration::from_hours(24);
/// How soon a failed fetch is tried again.
const RETRY: Duration = Duration::from_secs(30);
/// How often a file of keys is looked at.
const FILE_POLL: Duration = Duration::from_secs(2);

/// Where an issuer's keys come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A JWKS file, read again when it changes.
    File(PathBuf),
    /// The JWKS itself: `https`, or `http` on loopback.
    Url(String),
    /// An OpenID provider's configuration, or the issuer it stands under.
    Discovery(String),
}

/// One issuer and where its keys come from.
#[derive(Debug, Clone)]
pub struct IssuerKeys {
    /// What is accepted from it.
    pub issuer: Issuer,
    /// Where its keys are.
    pub source: KeySource,
}

/// How keys are kept fresh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysConfig {
    /// How often keys are fetched when the issuer does not say, 5 minutes to 24 hours.
    pub refresh: Duration,
    /// Keys that could not be fetched again for this long are no longer believed.
    pub max_stale: Duration,
    /// Longest time one fetch may take.
    pub fetch_timeout: Duration,
    /// PEM file of certificate authorities to trust for fetching, instead of the public ones.
    pub ca_file: Option<PathBuf>,
}

impl Default for KeysConfig {
    fn default() -> Self {
        Self {
            refresh: Duration::from_hours(1),
            max_stale: Duration::from_hours(24),
            fetch_timeout: Duration::from_secs(10),
            ca_file: None,
        }
    }
}

/// Why keys cannot be kept at all.
#[derive(Debug, Error)]
pub enum KeysError {
    /// The issuers' configuration is not sound.
    #[error("the issuers are not usable")]
    Trust(#[source] TrustError),
    /// A source that must be there at the start is not.
    #[error("the keys of issuer `{issuer}` cannot be read")]
    Source {
        /// Short name.
        issuer: String,
        /// What happened.
        #[source]
        source: FetchError,
    },
    /// Nothing can be fetched.
    #[error("keys cannot be fetched")]
    Client(#[source] FetchError),
}

/// How one issuer's keys stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyStatus {
    /// Short name.
    pub issuer: String,
    /// Usable keys.
    pub keys: usize,
    /// How long ago they were last seen at their source; `None` = never.
    pub age: Option<Duration>,
    /// What the last attempt failed with, if it did.
    pub problem: Option<String>,
}

/// The issuers' keys, kept fresh in the background until the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Keys(Arc<Inner>);

struct Inner {
    trust: ArcSwap<Trust>,
    sources: HashMap<String, Source>,
    fetcher: Fetcher,
    config: KeysConfig,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("issuers", &self.sources.keys()).finish_non_exhaustive()
    }
}

/// One issuer's source. The outer lock makes fetches single-flight; the inner one is never held over a wait.
struct Source {
    issuer: Issuer,
    from: KeySource,
    fetching: Mutex<Option<Instant>>,
    state: SyncMutex<State>,
}

#[derive(Default)]
struct State {
    keys: KeySet,
    seen: Option<Instant>,
    problem: Option<String>,
}

impl Keys {
    /// Fetches every issuer's keys once, then keeps them fresh.
    ///
    /// An issuer that cannot be reached does not stop the start: its tokens are refused until it can.
    ///
    /// # Errors
    ///
    /// When the configuration is not sound or a file is not usable.
    pub async fn start(issuers: Vec<IssuerKeys>, config: KeysConfig) -> Result<Self, KeysError> {
        let empty = issuers.iter().map(|entry| (entry.issuer.clone(), KeySet::default())).collect();
        let trust = Trust::new(empty).map_err(KeysError::Trust)?;
        let fetcher = Fetcher::new(config.ca_file.as_deref(), config.fetch_timeout).map_err(KeysError::Client)?;
        let sources = issuers.into_iter().map(|entry| (entry.issuer.issuer.clone(), Source::new(entry))).collect();
        let inner = Arc::new(Inner { trust: ArcSwap::from_pointee(trust), sources, fetcher, config });
        for source in inner.sources.values() {
            let first = inner.refresh(source).await;
            if let (Err(error), KeySource::File(_)) = (first, &source.from) {
                return Err(KeysError::Source { issuer: source.issuer.name.clone(), source: error });
            }
        }
        for iss in inner.sources.keys() {
            tokio::spawn(keep_fresh(Arc::downgrade(&inner), iss.clone()));
        }
        Ok(Self(inner))
    }

    /// Verifies a token. When it names a key that is not known, the issuer is asked once more, if it was not just asked.
    ///
    /// # Errors
    ///
    /// As [`icegate_pdp_identity::verify`] does, and when the issuer's keys are missing or too old.
    pub async fn verify(&self, token: &str, now: Timestamp) -> Result<Verified, IdentityError> {
        let first = self.check(token, now);
        let (issuer, kid) = match &first {
            Err(IdentityError::UnknownKey { issuer, kid }) => (issuer, Some(kid.as_str())),
            Err(IdentityError::KeysUnavailable(issuer)) => (issuer, None),
            Ok(_) | Err(_) => return first,
        };
        if self.0.refresh_for_unknown(issuer, kid).await { self.check(token, now) } else { first }
    }

    /// Fetches every issuer's keys now.
    pub async fn refresh(&self) {
        for source in self.0.sources.values() {
            let _: Result<Duration, FetchError> = self.0.refresh(source).await;
        }
    }

    /// How each issuer's keys stand, by name.
    pub fn status(&self) -> Vec<KeyStatus> {
        let mut status: Vec<KeyStatus> = self.0.sources.values().map(Source::status).collect();
        status.sort_by(|a, b| a.issuer.cmp(&b.issuer));
        status
    }

    fn check(&self, token: &str, now: Timestamp) -> Result<Verified, IdentityError> {
        let verified = verify(token, &self.0.trust.load(), now)?;
        let issuer = &verified.principal.issuer;
        // INVARIANT: keys nobody has confirmed for `max_stale` prove nothing, however well they verify.
        let fresh = self.0.sources.get(issuer).is_some_and(|source| source.is_fresh(self.0.config.max_stale));
        if fresh { Ok(verified) } else { Err(IdentityError::KeysUnavailable(issuer.clone())) }
    }
}

impl Inner {
    /// Fetches because of a token whose key is not known. `true` when it is worth looking again.
    async fn refresh_for_unknown(&self, iss: &str, kid: Option<&str>) -> bool {
        let Some(source) = self.sources.get(iss) else { return false };
        let mut asked = source.fetching.lock().await;
        // Another token of the same new key may have fetched it while this one waited for the lock.
        if kid.is_some_and(|kid| source.contains(kid)) {
            return true;
        }
        if asked.is_some_and(|asked| asked.elapsed() < UNKNOWN_KEY_PAUSE) {
            return false;
        }
        *asked = Some(Instant::now());
        self.fetch_and_keep(source).await.is_ok()
    }

    async fn refresh(&self, source: &Source) -> Result<Duration, FetchError> {
        let _single_flight = source.fetching.lock().await;
        self.fetch_and_keep(source).await
    }

    /// Fetches once; keeps what was there when that fails. Answers how long the issuer says its keys may be kept.
    async fn fetch_and_keep(&self, source: &Source) -> Result<Duration, FetchError> {
        match self.fetcher.fetch(&source.from, &source.issuer.issuer).await {
            Ok(Fetched { keys, keep_for }) => {
                info!(issuer = source.issuer.name, keys = keys.len(), "issuer keys fetched");
                source.keep(keys);
                self.publish();
                Ok(keep_for.unwrap_or(self.config.refresh).clamp(*REFRESH.start(), *REFRESH.end()))
            }
            Err(error) => {
                let problem = with_causes(&error);
                warn!(issuer = source.issuer.name, problem, "issuer keys not fetched; keeping the last good ones");
                source.state().problem = Some(problem);
                Err(error)
            }
        }
    }

    /// Puts every issuer's present keys in force.
    fn publish(&self) {
        self.trust.rcu(|present| {
            let issuers =
                self.sources.values().map(|source| (source.issuer.clone(), source.state().keys.clone())).collect();
            // The configuration was sound at the start and has not changed, so the present one is never kept.
            Trust::new(issuers).map_or_else(|_| Arc::clone(present), Arc::new)
        });
    }
}

impl Source {
    fn new(entry: IssuerKeys) -> Self {
        Self {
            issuer: entry.issuer,
            from: entry.source,
            fetching: Mutex::new(None),
            state: SyncMutex::new(State::default()),
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, keys: KeySet) {
        *self.state() = State { keys, seen: Some(Instant::now()), problem: None };
    }

    fn confirm(&self) {
        self.state().seen = Some(Instant::now());
    }

    fn contains(&self, kid: &str) -> bool {
        self.state().keys.contains(kid)
    }

    fn is_fresh(&self, max_stale: Duration) -> bool {
        self.state().seen.is_some_and(|seen| seen.elapsed() < max_stale)
    }

    fn status(&self) -> KeyStatus {
        let state = self.state();
        KeyStatus {
            issuer: self.issuer.name.clone(),
            keys: state.keys.len(),
            age: state.seen.map(|seen| seen.elapsed()),
            problem: state.problem.clone(),
        }
    }
}

/// Fetches one issuer's keys again and again, until nobody needs them any more.
async fn keep_fresh(inner: Weak<Inner>, iss: String) {
    let from = match inner.upgrade().as_ref().and_then(|inner| inner.sources.get(&iss)) {
        Some(source) => source.from.clone(),
        None => return,
    };
    match from {
        KeySource::File(path) => follow_file(inner, iss, path).await,
        KeySource::Url(_) | KeySource::Discovery(_) => follow_url(inner, iss).await,
    }
}

async fn follow_url(inner: Weak<Inner>, iss: String) {
    let mut wait = {
        let Some(inner) = inner.upgrade() else { return };
        let seen = inner.sources.get(&iss).is_some_and(|source| source.state().seen.is_some());
        if seen { inner.config.refresh.clamp(*REFRESH.start(), *REFRESH.end()) } else { RETRY }
    };
    loop {
        tokio::time::sleep(wait).await;
        let Some(inner) = inner.upgrade() else { return };
        let Some(source) = inner.sources.get(&iss) else { return };
        wait = inner.refresh(source).await.unwrap_or(RETRY);
    }
}

async fn follow_file(inner: Weak<Inner>, iss: String, path: PathBuf) {
    let mut read = None;
    loop {
        tokio::time::sleep(FILE_POLL).await;
        let Some(inner) = inner.upgrade() else { return };
        let Some(source) = inner.sources.get(&iss) else { return };
        let present = stamp(&path).await;
        if present.is_some() && present == read && source.state().problem.is_none() {
            source.confirm();
        } else if inner.refresh(source).await.is_ok() {
            read = present;
        }
    }
}

/// Changes when the file does.
async fn stamp(path: &std::path::Path) -> Option<(SystemTime, u64)> {
    let metadata = tokio::fs::metadata(path).await.ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}
