//! Everything asked about a statement after it was sent: its result by id, where it stands, and stopping it. Only ids of
//! the session's own statements mean anything; any other id is unknown.

mod ledger;
pub(crate) mod stop;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Method;
use icegate_pep_protocol::{
    AbortRequest, PepCode, QueryId, Refusal, Reply, RequestId, Secret,
    answer::{self as own, Monitored, MonitoredStatus},
    reply::{ErrorText, MonitoringTerms, monitoring_for_client},
    upstream as paths,
};
use icegate_proto::v1::{ResultShape, RunStatus};
use moka::sync::Cache;

use self::ledger::{Entry, Ledger};
use crate::{
    ask::{Permitted, Waiting},
    forward::{self, Terms, read},
    lasting::Lasting,
    listen::Call,
    masking::Worn,
    proxy::Proxy,
    record::{RunEnd, unix_ms},
    refuse::{self, Stop},
    session::{Background, Gate, Session, login::fresh_request_id},
    statement::{Run, State, Told},
};

/// How long Snowflake keeps results, and we what they belong to. Snowflake docs, "Using Persisted Query Results", read 2026-11.
const REMEMBERED_FOR: Duration = Duration::from_hours(24);

const REMEMBERED_MS: i64 = 24 * 60 * 60 * 1000;

/// Which session each query id belongs to. Kept in a file besides, for the next start.
#[derive(Debug)]
pub(crate) struct Queries {
    known: Cache<QueryId, Arc<Binding>>,
    ledger: Ledger,
}

/// What a query id stands for.
#[derive(Debug)]
pub(crate) struct Binding {
    session_id: String,
    principal_id: String,
    decision_id: String,
    statement_kinds: Vec<String>,
    /// Of each statement's result.
    result_shapes: Vec<ResultShape>,
    /// What those results wear.
    worn: Worn,
    error_text: ErrorText,
    upstream_id: Option<QueryId>,
    /// It waited for this approval when the proxy ended.
    waited_for: Option<String>,
    /// Since when it runs; taken by whoever sees its end first, so that its outcome is recorded once.
    open: Mutex<Option<Instant>>,
}

impl Binding {
    pub(crate) fn new(session: &Session, permitted: &Permitted, worn: Worn, open: Option<Instant>) -> Self {
        Self {
            session_id: session.id.clone(),
            principal_id: session.principal_id.clone(),
            waited_for: None,
            decision_id: permitted.decision_id().to_owned(),
            statement_kinds: permitted.statement_kinds().to_vec(),
            result_shapes: permitted.result_shapes().to_vec(),
            worn,
            error_text: permitted.error_text(),
            upstream_id: None,
            open: Mutex::new(open),
        }
    }

    /// The result of one of several statements.
    pub(crate) fn of_statement(session: &Session, permitted: &Permitted, worn: Worn, at: usize) -> Self {
        Self::new(session, permitted, worn, None).child(at)
    }
}

impl Queries {
    /// Reads what an earlier start remembered at `path`.
    pub(crate) fn open(path: &Path, queries_max: u64) -> std::io::Result<Self> {
        let known = Cache::builder().max_capacity(queries_max).time_to_live(REMEMBERED_FOR).build();
        let (ledger, entries) = Ledger::open(path, unix_ms().saturating_sub(REMEMBERED_MS), queries_max)?;
        for entry in entries {
            if let Some(query_id) = QueryId::parse(&entry.id) {
                known.insert(query_id, Arc::new(Binding::remembered(entry)));
            }
        }
        Ok(Self { known, ledger })
    }

    pub(crate) fn bind(&self, query_id: &QueryId, binding: Binding) {
        // A later binding of the same id, by a child's own reply, must not reopen it.
        let entry = self.known.entry(query_id.clone()).or_insert_with(|| Arc::new(binding));
        if entry.is_fresh() {
            self.ledger.keep(entry.value().entry(query_id));
        }
    }

    /// Notes for the next start that this one was held: then it says so, and not that there is no such query.
    pub(crate) fn remember_held(&self, query_id: &QueryId, session: &Session, waiting: &Waiting) {
        self.ledger.keep(Entry {
            id: query_id.to_string(),
            at_ms: unix_ms(),
            session_id: session.id.clone(),
            principal_id: session.principal_id.clone(),
            decision_id: waiting.decision_id.clone(),
            kinds: Vec::new(),
            shapes: Vec::new(),
            worn: Worn::default(),
            withhold: true,
            upstream_id: None,
            approval_id: Some(waiting.approval_id.clone()),
        });
    }

    /// Lets our id stand for Snowflake's.
    pub(crate) fn alias(&self, ours: &QueryId, upstream_id: &QueryId) {
        if let Some(binding) = self.known.get(upstream_id) {
            let alias = Binding {
                session_id: binding.session_id.clone(),
                principal_id: binding.principal_id.clone(),
                waited_for: None,
                decision_id: binding.decision_id.clone(),
                statement_kinds: binding.statement_kinds.clone(),
                result_shapes: binding.result_shapes.clone(),
                worn: binding.worn.clone(),
                error_text: binding.error_text,
                upstream_id: Some(upstream_id.clone()),
                open: Mutex::new(None),
            };
            self.ledger.keep(alias.entry(ours));
            self.known.insert(ours.clone(), Arc::new(alias));
        }
    }

    /// Another session's id is as unknown as none.
    fn of_session(&self, query_id: &QueryId, session: &Session) -> Result<Arc<Binding>, Stop> {
        let binding = self.known.get(query_id).filter(|binding| binding.is_of(session)).ok_or_else(|| {
            Stop::new(
                PepCode::QueryUnknown,
                "There is no such query in this session. Run the statement again to get its result.",
            )
        })?;
        match &binding.waited_for {
            None => Ok(binding),
            Some(approval_id) => Err(Refusal::new(
                PepCode::HoldCancelled,
                format!(
                    "This statement waited for approval `{approval_id}` when the proxy was restarted; it did not run. Run exactly the same statement again: an approval that was given, or still is, holds for it."
                ),
            )
            .with_decision(&binding.decision_id)
            .into()),
        }
    }
}

/// A statement that is or was held here.
fn held(proxy: &Proxy, session: &Session, query_id: &QueryId) -> Option<Arc<Run>> {
    let kept = || proxy.kept.by_query(query_id).filter(|run| run.session_id == session.id);
    proxy.holds.get(query_id, &session.id).or_else(kept)
}

/// Serves `GET /queries/<id>/result`.
pub(crate) async fn result(
    proxy: &Arc<Proxy>,
    session: Arc<Session>,
    query_id: QueryId,
    base: Option<Arc<str>>,
) -> Result<Told, Stop> {
    if let Some(run) = held(proxy, &session, &query_id) {
        let answer = run.polled(&session, proxy.hold.poll).await?;
        // Released, and running at Snowflake: from here on it is Snowflake that is polled.
        if !matches!(run.state(), State::Done(done) if done.status == MonitoredStatus::Running) {
            return Ok(answer);
        }
    }
    let binding = proxy.queries.of_session(&query_id, &session)?;
    // The reply that ends a statement must be recorded whether or not the driver is still there.
    let fetched = Lasting::new(fetch(Arc::clone(proxy), Arc::clone(&session), query_id, binding, base));
    tokio::select! {
        biased;
        ending = session.ended() => Err(ending.into()),
        answer = fetched => answer.map(Into::into),
    }
}

async fn fetch(
    proxy: Arc<Proxy>,
    session: Arc<Session>,
    query_id: QueryId,
    binding: Arc<Binding>,
    base: Option<Arc<str>>,
) -> Result<Bytes, Stop> {
    let upstream_id = binding.upstream_id.as_ref().unwrap_or(&query_id);
    let path = paths::result_path(upstream_id);
    let raw = proxy.call_upstream(&session, Method::GET, &path, None).await?.map_err(refuse::unanswered)?;
    let terms = Terms {
        query_id: binding.upstream_id.is_some().then_some(&query_id),
        error_text: binding.error_text,
        statement_kinds: &binding.statement_kinds,
        decision_id: &binding.decision_id,
        base: base.as_deref(),
        shape: forward::only(&binding.result_shapes),
        worn: &binding.worn,
    };
    let read = read(&proxy, &session, &raw, &terms);
    if read.is_success() {
        // Children of a request with several statements: theirs is the same decision.
        for (at, child) in read.result_ids().iter().enumerate() {
            proxy.queries.bind(child, binding.child(at));
        }
    }
    if read.is_end() {
        ended(&proxy, &session, upstream_id, &binding, &read).await;
    }
    read.into_body()
}

/// Makes sure that nothing in the background can still change where the session stands: it would change what the next
/// statement means between its decision and its run. `gate` is the session's, held.
pub(crate) async fn settle(proxy: &Arc<Proxy>, session: &Arc<Session>, gate: &mut Gate) -> Result<(), Stop> {
    for statement in session.background().into_iter().filter(|statement| statement.moves) {
        gate.context = None;
        let binding = proxy.queries.of_session(&statement.query_id, session)?;
        let path = paths::result_path(&statement.query_id);
        let raw = proxy.call_upstream(session, Method::GET, &path, None).await?.map_err(refuse::unanswered)?;
        let read = read(proxy, session, &raw, &unseen(&binding));
        if !read.is_end() {
            return Err(Stop::new(
                PepCode::RequestLimit,
                "A statement that can change where this session stands still runs, so the next one cannot be decided. Wait for its result, or use another session.",
            ));
        }
        ended(proxy, session, &statement.query_id, &binding, &read).await;
    }
    Ok(())
}

/// On what terms a result is looked at that nobody is told of: only its end counts.
fn unseen(binding: &Binding) -> Terms<'_> {
    Terms {
        query_id: None,
        error_text: binding.error_text,
        statement_kinds: &binding.statement_kinds,
        decision_id: &binding.decision_id,
        base: Some(""),
        shape: forward::only(&binding.result_shapes),
        worn: &binding.worn,
    }
}

/// Gives up on a statement in the background, because its session is over.
pub(crate) async fn write_off(proxy: &Proxy, session: &Session, statement: &Background, stop: bool) {
    let query_id = &statement.query_id;
    session.has_ended(query_id);
    let stopped = stop && abort_query(proxy, session, query_id).await.unwrap_or(false);
    let Some(binding) = proxy.queries.known.get(query_id) else { return };
    let Some(started) = binding.take_open() else { return };
    let status = if stopped { RunStatus::Cancelled } else { RunStatus::Unknown };
    let code = session
        .ending()
        .map_or(PepCode::SessionUnknown.as_str().to_owned(), |ending| Stop::from(ending).code().to_owned());
    let end = RunEnd { query_id: query_id.to_string(), ..RunEnd::without_reply(status, &code, started.elapsed()) };
    proxy.recorder.outcome(&binding.decision_id, &session.id, end).await;
}

/// The session a query id belongs to, for a client that names only the id. Its principal is still to be compared.
pub(crate) fn session_of(proxy: &Proxy, query_id: &QueryId) -> Option<String> {
    let held = proxy.holds.session_of(query_id).or_else(|| Some(proxy.kept.by_query(query_id)?.session_id.clone()));
    held.or_else(|| Some(proxy.queries.known.get(query_id)?.session_id.clone()))
}

/// A shape as the ledger keeps it.
fn promised(columns: Option<Vec<String>>) -> ResultShape {
    ResultShape { promised: columns.is_some(), columns: columns.unwrap_or_default() }
}

impl Binding {
    fn remembered(entry: Entry) -> Self {
        Self {
            session_id: entry.session_id,
            principal_id: entry.principal_id,
            decision_id: entry.decision_id,
            statement_kinds: entry.kinds,
            result_shapes: entry.shapes.into_iter().map(promised).collect(),
            worn: entry.worn,
            error_text: if entry.withhold { ErrorText::Withhold } else { ErrorText::Keep },
            upstream_id: entry.upstream_id.as_deref().and_then(QueryId::parse),
            waited_for: entry.approval_id,
            // What became of it is recorded as unknown when the proxy comes back.
            open: Mutex::new(None),
        }
    }

    fn entry(&self, query_id: &QueryId) -> Entry {
        Entry {
            id: query_id.to_string(),
            at_ms: unix_ms(),
            session_id: self.session_id.clone(),
            principal_id: self.principal_id.clone(),
            decision_id: self.decision_id.clone(),
            kinds: self.statement_kinds.clone(),
            shapes: self.result_shapes.iter().map(|shape| shape.promised.then(|| shape.columns.clone())).collect(),
            worn: self.worn.clone(),
            withhold: self.error_text == ErrorText::Withhold,
            upstream_id: self.upstream_id.as_ref().map(ToString::to_string),
            approval_id: self.waited_for.clone(),
        }
    }

    /// A session without a login of its own stands for its principal.
    fn is_of(&self, session: &Session) -> bool {
        self.session_id == session.id || (session.pooled && self.principal_id == session.principal_id)
    }

    /// The result of the statement at this place of several.
    fn child(&self, at: usize) -> Self {
        let shape = self.result_shapes.get(at);
        Self {
            session_id: self.session_id.clone(),
            principal_id: self.principal_id.clone(),
            waited_for: None,
            decision_id: self.decision_id.clone(),
            statement_kinds: Vec::new(),
            result_shapes: shape.into_iter().cloned().collect(),
            // Of a result nobody foresaw: masked somewhere, and it is not known where. It will be withheld.
            worn: if shape.is_some() { self.worn.of(at) } else { self.worn.clone() },
            error_text: self.error_text,
            upstream_id: None,
            open: Mutex::new(None),
        }
    }

    fn is_open(&self) -> bool {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).is_some()
    }

    fn take_open(&self) -> Option<Instant> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// The end of a statement that ran in the background, for the first to see it: who gets it records it.
fn end(
    proxy: &Proxy,
    session: &Session,
    upstream_id: &QueryId,
    binding: &Arc<Binding>,
    read: &forward::Read,
) -> Option<RunEnd> {
    session.has_ended(upstream_id);
    let open = proxy.queries.known.get(upstream_id).unwrap_or_else(|| Arc::clone(binding));
    read.end(open.take_open()?)
}

async fn ended(
    proxy: &Arc<Proxy>,
    session: &Arc<Session>,
    upstream_id: &QueryId,
    binding: &Arc<Binding>,
    read: &forward::Read,
) {
    let recording = session.records().await;
    let Some(end) = end(proxy, session, upstream_id, binding, read) else { return };
    if forward::leaves_traces(&binding.statement_kinds) {
        session.leave_traces();
    }
    let (proxy_then, session_then, binding) = (Arc::clone(proxy), Arc::clone(session), Arc::clone(binding));
    proxy.spawn(async move {
        proxy_then.recorder.outcome(&binding.decision_id, &session_then.id, end).await;
        drop(recording);
    });
}

/// Serves `GET /monitoring/queries/<id>`.
pub(crate) async fn monitoring(proxy: &Arc<Proxy>, session: &Arc<Session>, query_id: &QueryId) -> Result<Bytes, Stop> {
    if let Some(run) = held(proxy, session, query_id) {
        run.touch();
        let (status, ended_ms) = match run.state() {
            State::Done(done) => (done.status, Some(done.ended_ms)),
            State::Working | State::Held(..) => (MonitoredStatus::Running, None),
        };
        if ended_ms.is_none() || status != MonitoredStatus::Running {
            let monitored = Monitored {
                query_id,
                status,
                session_number: session.number,
                started_ms: run.started_ms,
                ended_ms,
                refusal: None,
            };
            return Ok(own::monitoring(&monitored).into());
        }
    }
    let binding = proxy.queries.of_session(query_id, session)?;
    let upstream_id = binding.upstream_id.as_ref().unwrap_or(query_id);
    let path = paths::monitoring_path(upstream_id);
    let raw = proxy.call_upstream(session, Method::GET, &path, None).await?.map_err(refuse::unanswered)?;
    let tokens = session.upstream();
    let secrets: Vec<&Secret> = std::iter::once(&tokens.session).chain(&tokens.master).collect();
    let terms = MonitoringTerms {
        upstream_id,
        query_id,
        session_number: session.number,
        client_sql: None,
        error_text: binding.error_text,
        secrets: &secrets,
    };
    let reply = monitoring_for_client(&raw.body, &terms, &proxy.limits).map_err(|error| Stop::from(error.refusal()))?;
    if reply.status == "SUCCESS" && binding.is_open() {
        // Its result may be asked for by `RESULT_SCAN` next: how it ended is on record before the client knows.
        // What is not known now is told by whoever sees its end later.
        Lasting::new(look(Arc::clone(proxy), Arc::clone(session), upstream_id.clone(), Arc::clone(&binding))).await;
    }
    Ok(reply.body.into())
}

/// Looks at the result of a statement that is over, as if the client had asked for it, and records its end.
async fn look(proxy: Arc<Proxy>, session: Arc<Session>, upstream_id: QueryId, binding: Arc<Binding>) {
    let path = paths::result_path(&upstream_id);
    let Ok(Ok(raw)) = proxy.call_upstream(&session, Method::GET, &path, None).await else { return };
    let read = read(&proxy, &session, &raw, &unseen(&binding));
    if read.is_end()
        && let Some(end) = end(&proxy, &session, &upstream_id, &binding, &read)
    {
        proxy.recorder.outcome(&binding.decision_id, &session.id, end).await;
    }
}

/// Serves `POST /queries/v1/abort-request`.
pub(crate) async fn abort_by_request(proxy: &Arc<Proxy>, session: &Arc<Session>, call: &Call) -> Result<Bytes, Stop> {
    let body = proxy.decoded(call)?;
    let request =
        AbortRequest::parse(&body).map_err(|error| Stop::from(Refusal::new(error.code(), format!("{error}."))))?;
    let runs: Vec<Arc<Run>> =
        session.running().into_iter().filter(|run| run.key.request_id == request.request_id).collect();
    let mut stopped = !runs.is_empty();
    for run in &runs {
        run.cancel();
        stop_upstream(proxy, session, run).await;
    }
    // Its request is over and it still runs in the background. Another session's request is as unknown as none.
    for statement in session.background() {
        if statement.request_id == request.request_id {
            stopped |= abort_query(proxy, session, &statement.query_id).await?;
        }
    }
    Ok(stopped_or_not(stopped))
}

/// Serves `POST /queries/<id>/abort-request`.
pub(crate) async fn abort_by_id(proxy: &Proxy, session: &Session, query_id: &QueryId) -> Result<Bytes, Stop> {
    Ok(stopped_or_not(stop_query(proxy, session, query_id).await?))
}

/// Stops one statement; says whether it ran.
async fn stop_query(proxy: &Proxy, session: &Session, query_id: &QueryId) -> Result<bool, Stop> {
    if let Some(run) = held(proxy, session, query_id) {
        match run.state() {
            State::Working | State::Held(..) => {
                run.cancel();
                stop_upstream(proxy, session, &run).await;
                return Ok(true);
            }
            State::Done(done) if done.status != MonitoredStatus::Running => return Ok(false),
            State::Done(_) => {}
        }
    }
    let binding = proxy.queries.of_session(query_id, session)?;
    let upstream_id = binding.upstream_id.as_ref().unwrap_or(query_id);
    abort_query(proxy, session, upstream_id).await
}

/// Stops at Snowflake what this run has sent, as far as that goes. The reply to the statement itself tells what came of it.
pub(crate) async fn stop_upstream(proxy: &Proxy, session: &Session, run: &Run) {
    if let Some(sql) = run.sent() {
        // Whatever comes of it, the statement's own reply says how it ended.
        let _ = abort_request(proxy, session, &sql, &run.key.request_id).await;
    }
}

async fn abort_request(proxy: &Proxy, session: &Session, sql: &str, stop: &RequestId) -> Result<bool, Stop> {
    let path = paths::abort_by_request_path(&fresh_request_id()?);
    aborted(proxy, session, &path, paths::abort_by_request_body(sql, stop).into()).await
}

fn stopped_or_not(stopped: bool) -> Bytes {
    if stopped { Bytes::from_static(own::aborted()) } else { own::abort_not_running().into() }
}

async fn abort_query(proxy: &Proxy, session: &Session, upstream_id: &QueryId) -> Result<bool, Stop> {
    let path = paths::abort_by_id_path(upstream_id, &fresh_request_id()?);
    aborted(proxy, session, &path, Bytes::from_static(b"{}")).await
}

async fn aborted(proxy: &Proxy, session: &Session, path: &str, body: Bytes) -> Result<bool, Stop> {
    let raw = proxy.call_upstream(session, Method::POST, path, Some(body)).await?.map_err(refuse::unanswered)?;
    Ok(Reply::parse(&raw.body, &proxy.limits).is_ok_and(|reply| reply.is_success()))
}
