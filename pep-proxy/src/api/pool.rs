//! Sessions for clients that have none: opened with the identity token of a request, used by one request at a time, and by
//! nobody but the holder of that token.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use icegate_pep_protocol::{LoginRequest, PepCode, Refusal, RequestId, RequestedNames, Secret};
use moka::sync::Cache;
use sha2::{Digest as _, Sha256};
use tracing::debug;

use crate::{
    listen::Call,
    proxy::Proxy,
    record::unix_ms,
    refuse::Stop,
    session::{Session, login},
    statement,
};

/// Sessions of one token at one time.
const SESSIONS_PER_TOKEN_MAX: usize = 16;
/// How long a session waits for its next request.
const IDLE_MAX: Duration = Duration::from_mins(5);
/// How long a retry finds the session of its request, which knows what became of it.
const REQUEST_KEPT: Duration = Duration::from_mins(10);
/// Requests whose session is remembered.
const REQUESTS_MAX: u64 = 100_000;

/// SHA-256 of a token: the pool keeps none in the clear.
type TokenDigest = [u8; 32];

/// The sessions of all tokens.
#[derive(Debug)]
pub(crate) struct Pool {
    members: Mutex<HashMap<TokenDigest, OfToken>>,
    requests: Cache<(TokenDigest, RequestId), Asked>,
}

/// Where a request ran, for its retries.
#[derive(Debug, Clone)]
struct Asked {
    session: Arc<Session>,
    names: RequestedNames,
}

#[derive(Debug, Default)]
struct OfToken {
    members: Vec<Member>,
    /// Sessions that are being opened.
    opening: usize,
}

/// A place for a session that is being opened. Given back when dropped.
struct Opening<'a> {
    pool: &'a Pool,
    token: TokenDigest,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if let Some(of_token) = self.pool.members().get_mut(&self.token) {
            of_token.opening = of_token.opening.saturating_sub(1);
        }
    }
}

#[derive(Debug)]
struct Member {
    names: RequestedNames,
    session: Arc<Session>,
    leased: bool,
    since: Instant,
}

/// A session for one request. Given back when dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    proxy: Arc<Proxy>,
    token: TokenDigest,
    session: Arc<Session>,
}

impl Lease {
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut members = self.proxy.pool.members();
        let of_token = members.get_mut(&self.token).into_iter().flat_map(|of_token| &mut of_token.members);
        if let Some(member) = of_token.into_iter().find(|member| Arc::ptr_eq(&member.session, &self.session)) {
            member.leased = false;
            member.since = Instant::now();
        }
        drop(members);
        self.proxy.pool.sweep(&self.proxy, Some(&self.token));
    }
}

impl Member {
    /// Whether the next request with these names may have it.
    fn is_free(&self, names: Option<&RequestedNames>) -> bool {
        !self.leased
            && names.is_none_or(|names| *names == self.names)
            && self.stands()
            && !self.session.has_traces()
            && self.session.running().is_empty()
    }

    fn stands(&self) -> bool {
        self.session.ending().is_none() && self.session.expires_ms > unix_ms()
    }

    /// Whether nothing is left to do with it. What runs in the background is waited for.
    fn is_over(&self) -> bool {
        let idle = !self.leased && self.session.running().is_empty() && self.session.background().is_empty();
        !self.stands() || (idle && (self.session.has_traces() || self.since.elapsed() >= IDLE_MAX))
    }
}

impl Pool {
    pub(crate) fn new() -> Self {
        Self {
            members: Mutex::default(),
            requests: Cache::builder().max_capacity(REQUESTS_MAX).time_to_live(REQUEST_KEPT).build(),
        }
    }

    fn members(&self) -> std::sync::MutexGuard<'_, HashMap<TokenDigest, OfToken>> {
        self.members.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this token has a session: then its holder was somebody a moment ago.
    pub(crate) fn knows(&self, token: &str) -> bool {
        self.members().get(&digest(token)).is_some_and(|of_token| of_token.members.iter().any(Member::stands))
    }

    /// The session this request has run in, which may be over.
    pub(crate) fn asked(
        &self,
        token: &Secret,
        names: &RequestedNames,
        request_id: &RequestId,
    ) -> Result<Option<Arc<Session>>, Stop> {
        match self.requests.get(&(digest(token.expose()), request_id.clone())) {
            Some(asked) if asked.names != *names => Err(statement::another()),
            asked => Ok(asked.map(|asked| asked.session)),
        }
    }

    /// A session with these names for one request. A retry gets the one its request ran in.
    pub(crate) async fn lease(
        &self,
        proxy: &Arc<Proxy>,
        token: &Secret,
        names: &RequestedNames,
        request_id: &RequestId,
        call: &Call,
    ) -> Result<Lease, Stop> {
        let key = (digest(token.expose()), request_id.clone());
        let lease = match self.requests.get(&key) {
            Some(Asked { session, .. }) if session.ending().is_none() => {
                Lease { proxy: Arc::clone(proxy), token: key.0, session }
            }
            Some(_) | None => self.fresh(proxy, token, Some(names), call).await?,
        };
        if !lease.session.is_checked(proxy.sessions.epoch()) {
            proxy.check(&lease.session).await?;
        }
        self.requests.insert(key, Asked { session: Arc::clone(&lease.session), names: names.clone() });
        Ok(lease)
    }

    /// Whose token this is. One that is not known here is shown to the PDP.
    pub(crate) async fn principal(&self, proxy: &Arc<Proxy>, token: &Secret, call: &Call) -> Result<String, Stop> {
        Ok(self.any(proxy, token, call).await?.principal_id.clone())
    }

    /// A session of this token's holder, to ask about what runs or has run.
    pub(crate) async fn any(&self, proxy: &Arc<Proxy>, token: &Secret, call: &Call) -> Result<Arc<Session>, Stop> {
        let there = {
            let members = self.members();
            let of_token = members.get(&digest(token.expose()));
            of_token
                .into_iter()
                .flat_map(|of_token| &of_token.members)
                .find(|member| member.stands())
                .map(|member| Arc::clone(&member.session))
        };
        let session = match there {
            Some(session) => session,
            None => Arc::clone(self.fresh(proxy, token, None, call).await?.session()),
        };
        if !session.is_checked(proxy.sessions.epoch()) {
            proxy.check(&session).await?;
        }
        Ok(session)
    }

    async fn fresh(
        &self,
        proxy: &Arc<Proxy>,
        token: &Secret,
        names: Option<&RequestedNames>,
        call: &Call,
    ) -> Result<Lease, Stop> {
        let digest = digest(token.expose());
        self.sweep(proxy, Some(&digest));
        let _opening = {
            let mut members = self.members();
            let of_token = members.entry(digest).or_default();
            if let Some(member) = of_token.members.iter_mut().find(|member| member.is_free(names)) {
                member.leased = true;
                return Ok(Lease { proxy: Arc::clone(proxy), token: digest, session: Arc::clone(&member.session) });
            }
            if of_token.members.len() + of_token.opening >= SESSIONS_PER_TOKEN_MAX {
                return Err(Stop::new(
                    PepCode::RequestLimit,
                    "Too many requests with this token run at the same time. Wait for some of them, or send them as `async`.",
                ));
            }
            of_token.opening += 1;
            Opening { pool: self, token: digest }
        };
        let names = names.cloned().unwrap_or_default();
        let agent =
            call.headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let request = LoginRequest::for_api(token.clone(), names.clone(), agent, &proxy.limits)
            .map_err(|error| Refusal::new(error.code(), error.to_string()))?;
        let session = login::pooled(proxy, &request, call).await?;
        debug!(session_id = session.id, "session opened for the sql api");
        let member = Member { names, session: Arc::clone(&session), leased: true, since: Instant::now() };
        self.members().entry(digest).or_default().members.push(member);
        Ok(Lease { proxy: Arc::clone(proxy), token: digest, session })
    }

    /// Closes what is over: of one token, or of all.
    pub(crate) fn sweep(&self, proxy: &Arc<Proxy>, token: Option<&TokenDigest>) {
        let mut over = Vec::new();
        let mut members = self.members();
        members.retain(|digest, of_token| {
            if token.is_none_or(|token| token == digest) {
                over.extend(of_token.members.extract_if(.., |member| member.is_over()).map(|member| member.session));
            }
            of_token.opening > 0 || !of_token.members.is_empty()
        });
        drop(members);
        // What has ended by itself is left already.
        for session in over.into_iter().filter(|session| session.ending().is_none()) {
            proxy.close(&session);
        }
    }
}

fn digest(token: &str) -> TokenDigest {
    Sha256::digest(token.as_bytes()).into()
}
