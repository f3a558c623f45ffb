//! The sessions of this proxy: what a sealed token stands for while its driver is here.
//!
//! A token carries enough to begin again after a restart or on another replica; what is kept here beside it (where the
//! session stands, what runs in it) is asked for again when it is missing.

pub(crate) mod context;
pub(crate) mod login;
pub(crate) mod opened;
pub(crate) mod renew;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
};

use icegate_pep_protocol::{ClientFacts, QueryId, RequestId, SealedSession, Secret};
use icegate_proto::v1::{SessionContext, SessionState};
use tokio::sync::{OwnedRwLockReadGuard, watch};
use tracing::debug;

use crate::{
    record::unix_ms,
    statement::{Run, RunKey},
};

/// All sessions in memory.
#[derive(Debug)]
pub(crate) struct Sessions {
    all: RwLock<HashMap<String, Arc<Session>>>,
    room: usize,
    /// Rises whenever something may have been missed; a session checked at an earlier epoch is asked about again.
    epoch: AtomicU64,
}

/// One client's session, and the one behind it at Snowflake.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) number: u64,
    pub(crate) principal_id: String,
    pub(crate) principal_digest: String,
    pub(crate) agent: Option<String>,
    pub(crate) client: ClientFacts,
    pub(crate) upstream_session_id: String,
    /// End of the identity behind it.
    pub(crate) expires_ms: i64,
    /// Its client shows its identity with each request: what is its principal's is its own.
    pub(crate) pooled: bool,
    /// Something was run in it that the next request must not find.
    traces: AtomicBool,
    /// The next statement may be judged by how the last one ended.
    judges: AtomicBool,
    upstream: Mutex<Arc<UpstreamTokens>>,
    /// Held while Snowflake is asked for a fresh token.
    pub(crate) renewing: tokio::sync::Mutex<()>,
    /// Held while one statement is decided and sent, so that the context it was decided with is the one it runs in.
    pub(crate) gate: tokio::sync::Mutex<Gate>,
    /// Statements on their way, by the driver's own request id.
    pub(crate) runs: Mutex<HashMap<RunKey, Arc<Run>>>,
    /// Statements that go on at Snowflake after their request was answered.
    background: Mutex<HashMap<QueryId, Background>>,
    /// Read-locked while the end of a statement whose result the client has is put on record.
    recording: Arc<tokio::sync::RwLock<()>>,
    ended: watch::Sender<Option<Ending>>,
    checked: AtomicU64,
    used_ms: AtomicI64,
    /// Snowflake's token has expired and there was nothing to renew it with.
    upstream_lost: AtomicBool,
}

/// A statement that goes on at Snowflake after its request was answered.
#[derive(Debug, Clone)]
pub(crate) struct Background {
    /// Snowflake's id.
    pub(crate) query_id: QueryId,
    pub(crate) request_id: RequestId,
    /// It can change where the session stands until it has ended.
    pub(crate) moves: bool,
}

#[derive(Debug)]
pub(crate) struct UpstreamTokens {
    pub(crate) session: Secret,
    pub(crate) master: Option<Secret>,
}

/// What the next statement depends on.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Where the session stands; `None` when it has to be asked.
    pub(crate) context: Option<SessionContext>,
    /// What is believed until it has been asked.
    pub(crate) believed: SessionContext,
    /// The client's own `QUERY_TAG`.
    pub(crate) client_tag: Option<String>,
}

/// Why a session is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    Revoked,
    Closed,
    Expired,
    UpstreamGone,
}

impl Ending {
    /// What a state of the PDP means here; `None` while the session stands.
    pub(crate) fn of(state: SessionState) -> Option<Self> {
        match state {
            SessionState::Active => None,
            SessionState::Revoked => Some(Self::Revoked),
            SessionState::Expired => Some(Self::Expired),
            SessionState::Closed | SessionState::Unspecified => Some(Self::Closed),
        }
    }
}

impl Session {
    /// The session a token stands for. `context` is known at login and not afterwards.
    pub(crate) fn new(sealed: SealedSession, context: Option<SessionContext>, epoch: u64) -> Self {
        let believed = context::to_proto(&sealed.context);
        Self {
            id: sealed.session_id,
            number: sealed.session_number,
            principal_id: sealed.principal_id,
            principal_digest: sealed.principal_digest,
            agent: sealed.agent,
            client: sealed.client,
            upstream_session_id: sealed.upstream_session_id,
            expires_ms: sealed.session_expires_ms,
            pooled: false,
            traces: AtomicBool::new(false),
            judges: AtomicBool::new(false),
            upstream: Mutex::new(Arc::new(UpstreamTokens {
                session: sealed.upstream_token,
                master: sealed.upstream_master,
            })),
            renewing: tokio::sync::Mutex::default(),
            gate: tokio::sync::Mutex::new(Gate { context, believed, client_tag: sealed.query_tag }),
            runs: Mutex::default(),
            background: Mutex::default(),
            recording: Arc::default(),
            ended: watch::Sender::new(None),
            checked: AtomicU64::new(epoch),
            used_ms: AtomicI64::new(unix_ms()),
            upstream_lost: AtomicBool::new(false),
        }
    }

    pub(crate) fn upstream(&self) -> Arc<UpstreamTokens> {
        Arc::clone(&self.upstream.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_upstream(&self, tokens: UpstreamTokens) {
        *self.upstream.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(tokens);
        self.upstream_lost.store(false, Ordering::Release);
    }

    /// Notes that Snowflake's token has expired and cannot be renewed here. Says whether that was known before.
    pub(crate) fn lose_upstream(&self) -> bool {
        self.upstream_lost.swap(true, Ordering::AcqRel)
    }

    pub(crate) fn has_lost_upstream(&self) -> bool {
        self.upstream_lost.load(Ordering::Acquire)
    }

    /// Learns the master token, which a session rebuilt from a session token lacks.
    pub(crate) fn learn_master(&self, master: Option<Secret>) {
        let mut tokens = self.upstream.lock().unwrap_or_else(PoisonError::into_inner);
        if tokens.master.is_none() {
            *tokens = Arc::new(UpstreamTokens { session: tokens.session.clone(), master });
        }
    }

    /// Ends it; the first reason stays. Says whether this is it.
    pub(crate) fn end(&self, ending: Ending) -> bool {
        debug!(session_id = self.id, ?ending, "session ends");
        self.ended.send_if_modified(|ended| {
            let first = ended.is_none();
            ended.get_or_insert(ending);
            first
        })
    }

    pub(crate) fn ending(&self) -> Option<Ending> {
        *self.ended.borrow()
    }

    /// Waits for the end.
    pub(crate) async fn ended(&self) -> Ending {
        let mut ended = self.ended.subscribe();
        // The sender lives as long as `self`.
        let ending = ended.wait_for(Option::is_some).await.map(|ending| *ending);
        ending.ok().flatten().unwrap_or(Ending::Closed)
    }

    pub(crate) fn is_checked(&self, epoch: u64) -> bool {
        self.checked.load(Ordering::Acquire) == epoch
    }

    pub(crate) fn set_checked(&self, epoch: u64) {
        self.checked.store(epoch, Ordering::Release);
    }

    /// Notes that a statement leaves something behind for the next one: a variable, a setting, an open transaction.
    pub(crate) fn leave_traces(&self) {
        self.traces.store(true, Ordering::Release);
        self.judges.store(true, Ordering::Release);
    }

    pub(crate) fn has_traces(&self) -> bool {
        self.traces.load(Ordering::Acquire)
    }

    pub(crate) fn touch(&self) {
        self.used_ms.store(unix_ms(), Ordering::Relaxed);
    }

    /// The statements on their way.
    pub(crate) fn running(&self) -> Vec<Arc<Run>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// Notes a statement that goes on at Snowflake.
    pub(crate) fn goes_on(&self, statement: Background) {
        let mut background = self.background.lock().unwrap_or_else(PoisonError::into_inner);
        background.insert(statement.query_id.clone(), statement);
    }

    /// Notes that a statement has ended at Snowflake.
    pub(crate) fn has_ended(&self, query_id: &QueryId) {
        self.background.lock().unwrap_or_else(PoisonError::into_inner).remove(query_id);
    }

    /// Notes that the end of a statement goes on record, until what it gives is dropped: taken before the client is told.
    pub(crate) async fn records(&self) -> OwnedRwLockReadGuard<()> {
        Arc::clone(&self.recording).read_owned().await
    }

    /// Waits until the end of each statement that the client was told of is on record, or kept here to be, when the next one may
    /// be judged by it: it `reads_results`, or what ended has left something in the session.
    pub(crate) async fn all_recorded(&self, reads_results: bool) {
        if self.judges.swap(false, Ordering::AcqRel) || reads_results {
            drop(self.recording.write().await);
        }
    }

    /// The statements that go on at Snowflake.
    pub(crate) fn background(&self) -> Vec<Background> {
        self.background.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    fn is_busy(&self) -> bool {
        !self.runs.lock().unwrap_or_else(PoisonError::into_inner).is_empty() || !self.background().is_empty()
    }
}

impl Sessions {
    pub(crate) fn new(sessions_max: u64) -> Self {
        let room = usize::try_from(sessions_max).unwrap_or(usize::MAX);
        Self { all: RwLock::default(), room, epoch: AtomicU64::new(0) }
    }

    pub(crate) fn get(&self, id: &str) -> Option<Arc<Session>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Takes a session in, or gives the one that is there under its id. `None` when there is no room.
    pub(crate) fn insert(&self, session: Arc<Session>) -> Option<Arc<Session>> {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(there) = all.get(&session.id) {
            return Some(Arc::clone(there));
        }
        if all.len() >= self.room {
            return None;
        }
        all.insert(session.id.clone(), Arc::clone(&session));
        Some(session)
    }

    /// The sessions with a statement on its way.
    pub(crate) fn busy(&self) -> Vec<Arc<Session>> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        all.values().filter(|session| session.is_busy()).cloned().collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.all.read().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(crate) fn remove(&self, id: &str) {
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.remove(id);
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Acquire)
    }

    /// Something may have been missed: every session is asked about again before its next request is served.
    pub(crate) fn doubt_all(&self) {
        self.epoch.fetch_add(1, Ordering::AcqRel);
    }

    /// Forgets what is over, and what nobody has used for `idle_ms`. Gives those whose identity has expired: an idle one
    /// may be in use at another replica.
    pub(crate) fn sweep(&self, now_ms: i64, idle_ms: i64) -> Vec<Arc<Session>> {
        let mut expired = Vec::new();
        let mut all = self.all.write().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, session| {
            if Arc::strong_count(session) > 1 {
                // Somebody works with it.
                return true;
            }
            if session.ending().is_none() && session.expires_ms <= now_ms {
                expired.push(Arc::clone(session));
                return false;
            }
            session.ending().is_none() && now_ms - session.used_ms.load(Ordering::Relaxed) < idle_ms
        });
        expired
    }
}
