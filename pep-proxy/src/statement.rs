//! The life of one statement in this process: asked, perhaps held, sent, answered, recorded. Each runs in a task of its
//! own, so that a driver that goes away or asks twice changes nothing about it.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use icegate_pep_protocol::{
    PepCode, QueryId, QueryRequest, RequestId,
    answer::{self as own, InProgress, MonitoredStatus},
};
use icegate_proto::v1::RunStatus;
use moka::sync::Cache;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    answer::{self, stop},
    ask::{self, Answer, Question, Waiting},
    forward::{self, Forwarded},
    hold,
    listen::Call,
    proxy::Proxy,
    record::{RunEnd, unix_ms},
    refuse::Stop,
    session::{Session, context, login::fresh_request_id},
};

/// How long a finished answer is kept for retries and late polls.
const KEPT_FOR: Duration = Duration::from_mins(5);
/// Statements of one session on their way at one time. They wait for each other, and each holds its request.
const RUNS_PER_SESSION_MAX: usize = 64;
/// Statements of one session that go on at Snowflake with nobody having fetched their end.
const BACKGROUND_PER_SESSION_MAX: usize = 1000;

/// The driver's name of a statement, and what it asked under it: the same name with another body is refused.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct RunKey {
    pub(crate) request_id: RequestId,
    body: [u8; 32],
}

/// One statement on its way.
pub(crate) struct Run {
    pub(crate) key: RunKey,
    pub(crate) session_id: String,
    /// Our name for it, while Snowflake has none.
    pub(crate) query_id: QueryId,
    pub(crate) started_ms: i64,
    /// The driver asked to come back later.
    pub(crate) detached: bool,
    /// Where the driver reaches this proxy.
    pub(crate) base: Option<Arc<str>>,
    state: watch::Sender<State>,
    cancel: watch::Sender<bool>,
    /// The text as it was sent; `None` before.
    sent: Mutex<Option<String>>,
    polls: Mutex<Polls>,
}

/// Where a statement is.
#[derive(Clone)]
pub(crate) enum State {
    Working,
    /// Waiting for a person, described in a sentence, for so many seconds at most.
    Held(Arc<str>, u32),
    Done(Done),
}

/// An answer, and how it counts.
#[derive(Clone)]
pub(crate) struct Told {
    pub(crate) body: Bytes,
    /// `ok`, `failed` (at Snowflake), `refused` or `held`.
    pub(crate) outcome: &'static str,
}

impl From<Bytes> for Told {
    fn from(body: Bytes) -> Self {
        Self { body, outcome: "ok" }
    }
}

/// A statement's end, as far as this process is concerned: its result may still be running at Snowflake.
#[derive(Clone)]
pub(crate) struct Done {
    pub(crate) body: Bytes,
    pub(crate) status: MonitoredStatus,
    pub(crate) ended_ms: i64,
    /// Snowflake's name of it.
    pub(crate) upstream_id: Option<QueryId>,
    outcome: &'static str,
    /// A retry gets this answer, because asking again would run it again.
    again: bool,
}

#[derive(Debug)]
struct Polls {
    active: usize,
    last: Instant,
}

/// Finished answers, for retries by request and for polls by our query id.
#[derive(Debug)]
pub(crate) struct Kept(Cache<KeptKey, Arc<Run>>);

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum KeptKey {
    Request(String, RequestId),
    Query(QueryId),
}

/// Serves `POST /queries/v1/query-request`.
pub(crate) async fn query(
    proxy: &Arc<Proxy>,
    session: Arc<Session>,
    request_id: Option<RequestId>,
    call: &Call,
) -> Result<Told, Stop> {
    let body = proxy.decoded(call)?;
    let request =
        QueryRequest::parse(body, &proxy.limits).map_err(|error| Stop::new(error.code(), error.to_string()))?;
    let request_id = request_id.map_or_else(fresh_request_id, Ok)?;
    run(proxy, session, request_id, request, proxy.base(call)).await
}

/// Runs a statement that was read, or joins the run that is there. `base` is where the client reaches this proxy.
pub(crate) async fn run(
    proxy: &Arc<Proxy>,
    session: Arc<Session>,
    request_id: RequestId,
    request: QueryRequest,
    base: Option<Arc<str>>,
) -> Result<Told, Stop> {
    begin_or_join(proxy, &session, request_id, request, base)?.first_answer(&session).await
}

/// What became of a request that has ended in this session, for a retry that must not run it again.
pub(crate) fn ended(
    proxy: &Proxy,
    session_id: &str,
    request_id: &RequestId,
    request: &QueryRequest,
) -> Result<Option<Told>, Stop> {
    let key = RunKey { body: digest(request), request_id: request_id.clone() };
    match proxy.kept.by_request(session_id, request_id) {
        Some(there) if there.key != key => Err(another()),
        Some(there) => match there.state() {
            State::Done(done) if done.again => Ok(Some(Told { body: done.body, outcome: done.outcome })),
            State::Done(_) | State::Working | State::Held(..) => Ok(None),
        },
        None => Ok(None),
    }
}

/// A request id that stands for something else.
pub(crate) fn another() -> Stop {
    Stop::new(
        PepCode::RequestMalformed,
        "This request id was used for another statement. Send each statement under an id of its own.",
    )
}

/// The run of this request: a retry joins the one that is there.
fn begin_or_join(
    proxy: &Arc<Proxy>,
    session: &Arc<Session>,
    request_id: RequestId,
    request: QueryRequest,
    base: Option<Arc<str>>,
) -> Result<Arc<Run>, Stop> {
    let key = RunKey { body: digest(&request), request_id };
    let fresh = fresh_query_id()?;
    let mut runs = session.runs.lock().unwrap_or_else(PoisonError::into_inner);
    let there = runs.values().find(|run| run.key.request_id == key.request_id).cloned();
    match there.or_else(|| proxy.kept.by_request(&session.id, &key.request_id)) {
        Some(there) if there.key != key => return Err(another()),
        Some(there) if there.is_for_retries() => return Ok(there),
        Some(_) | None => {}
    }
    if runs.len() >= RUNS_PER_SESSION_MAX || session.background().len() >= BACKGROUND_PER_SESSION_MAX {
        return Err(Stop::new(
            PepCode::RequestLimit,
            "Too many statements of this session are on their way or run in the background. Wait for some of them, or use another session.",
        ));
    }
    let run = Arc::new(Run::new(key, &session.id, fresh, request.async_exec(), base));
    runs.insert(run.key.clone(), Arc::clone(&run));
    drop(runs);
    let guard =
        Guard { proxy: Arc::clone(proxy), session: Arc::clone(session), run: Arc::clone(&run), finished: false };
    proxy.spawn(drive(guard, request));
    Ok(run)
}

fn fresh_query_id() -> Result<QueryId, Stop> {
    QueryId::parse(&Uuid::new_v4().to_string())
        .ok_or_else(|| Stop::new(PepCode::RequestMalformed, "No query id could be made."))
}

/// What tells two statements under one request id apart. Times and counters a driver adds are no part of it.
fn digest(request: &QueryRequest) -> [u8; 32] {
    let mut hash = Sha256::new();
    for field in [request.sql(), &request.bindings_json(), request.query_tag().unwrap_or_default()] {
        hash.update((field.len() as u64).to_le_bytes());
        hash.update(field.as_bytes());
    }
    hash.update(request.statement_count().to_le_bytes());
    hash.update([u8::from(request.describe_only()), u8::from(request.async_exec())]);
    hash.finalize().into()
}

/// Takes a statement to its end, answers, then records the outcome.
async fn drive(mut guard: Guard, request: QueryRequest) {
    // Its place among the held is given back last: a poll must find it there or among the finished.
    let mut place = None;
    let (done, recorded) = to_the_end(&guard.proxy, &guard.session, &guard.run, &request, &mut place).await;
    let _recording = guard.session.records().await;
    guard.finished = true;
    guard.run.finish(&guard.proxy, &guard.session, done);
    drop(place);
    if let Some((decision_id, end)) = recorded {
        guard.proxy.recorder.outcome(&decision_id, &guard.session.id, end).await;
    }
}

type Ended = (Done, Option<(String, RunEnd)>);

async fn to_the_end(
    proxy: &Arc<Proxy>,
    session: &Arc<Session>,
    run: &Run,
    request: &QueryRequest,
    place: &mut Option<hold::Place>,
) -> Ended {
    let mut approval: Option<String> = None;
    loop {
        let waiting = match once(proxy, session, run, request, approval.as_deref()).await {
            Once::Ended(ended) => return *ended,
            Once::Waits(waiting) => waiting,
        };
        match hold::until_approved(proxy, session, run, place, waiting).await {
            Ok(approval_id) => approval = Some(approval_id),
            Err(stop) => return (Done::stopped(&stop, Some(&run.query_id)), None),
        }
    }
}

enum Once {
    Ended(Box<Ended>),
    Waits(Waiting),
}

impl Once {
    fn stopped(stop: &Stop, run: &Run, held: bool) -> Self {
        Self::Ended(Box::new((Done::stopped(stop, held.then_some(&run.query_id)), None)))
    }
}

/// Decides a statement and, when it is permitted, sends it. The session's gate is held all the while.
async fn once(
    proxy: &Arc<Proxy>,
    session: &Arc<Session>,
    run: &Run,
    request: &QueryRequest,
    approval_id: Option<&str>,
) -> Once {
    let held = approval_id.is_some();
    let mut gate = tokio::select! {
        biased;
        stop = run.stopped(session) => return Once::stopped(&stop, run, held),
        gate = session.gate.lock() => gate,
    };
    if let Err(stop) = answer::settle(proxy, session, &mut gate).await {
        return Once::stopped(&stop, run, held);
    }
    let context = match context::known(proxy, session, &mut gate).await {
        Ok(context) => context.clone(),
        Err(stop) => return Once::stopped(&stop, run, held),
    };
    let question = Question {
        session,
        request,
        request_id: &run.key.request_id,
        context: &context,
        client_tag: gate.client_tag.as_deref(),
        approval_id,
    };
    let permitted = match ask::ask(proxy, question).await {
        Answer::Permitted(permitted) => permitted,
        Answer::Stop(stop) => return Once::stopped(&stop, run, held),
        Answer::Waits(waiting) => return Once::Waits(waiting),
    };
    if let Some(stops) = permitted.stops() {
        let (done, end) = stop::answer(proxy, session, run, request, &context, stops).await;
        return Once::Ended(Box::new((done, Some((permitted.decision_id().to_owned(), end)))));
    }
    // First this, then the look: whoever stops it now is seen here, or sees that there is something to stop at Snowflake.
    run.mark_sent(permitted.sql());
    let worn = proxy.masking.pin(permitted.result_masks(), permitted.result_shapes());
    let refused = if run.is_cancelled() || session.ending().is_some() {
        Some(session.ending().map_or_else(cancelled, Into::into))
    } else if request.async_exec() && forward::changes_context(permitted.statement_kinds()) {
        Some(Stop::new(
            PepCode::RequestMalformed,
            "A statement that changes where the session stands cannot run in the background, because the next one would be decided without knowing. Run it synchronously.",
        ))
    } else {
        None
    };
    let worn = match refused.map_or(worn, Err) {
        Ok(worn) => worn,
        Err(stop) => {
            let end = RunEnd::without_reply(RunStatus::NotSent, stop.code(), Duration::ZERO);
            let done = Done::stopped(&stop, held.then_some(&run.query_id));
            return Once::Ended(Box::new((done, Some((permitted.decision_id().to_owned(), end)))));
        }
    };
    let decision_id = permitted.decision_id().to_owned();
    let Forwarded { done, end } = forward::forward(proxy, session, &mut gate, run, *permitted, worn).await;
    Once::Ended(Box::new((done, end.map(|end| (decision_id, end)))))
}

/// Finishes a run whatever happens to its task: a driver must not wait for ever.
struct Guard {
    proxy: Arc<Proxy>,
    session: Arc<Session>,
    run: Arc<Run>,
    finished: bool,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if !self.finished {
            let stop = Stop::new(
                PepCode::ReplyWithheld,
                "icegate failed while it worked on this statement; it may have run. Check before you run it again.",
            );
            self.run.finish(&self.proxy, &self.session, Done::stopped(&stop, None));
        }
    }
}

impl fmt::Debug for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Run").field("query_id", &self.query_id).finish_non_exhaustive()
    }
}

impl Run {
    fn new(key: RunKey, session_id: &str, query_id: QueryId, detached: bool, base: Option<Arc<str>>) -> Self {
        Self {
            key,
            session_id: session_id.to_owned(),
            query_id,
            started_ms: unix_ms(),
            detached,
            base,
            state: watch::Sender::new(State::Working),
            cancel: watch::Sender::new(false),
            sent: Mutex::default(),
            polls: Mutex::new(Polls { active: 0, last: Instant::now() }),
        }
    }

    /// The answer to the request itself: the result, or "still running" while it is held.
    async fn first_answer(&self, session: &Session) -> Result<Told, Stop> {
        let mut state = self.state.subscribe();
        tokio::select! {
            biased;
            ending = session.ended() => Err(ending.into()),
            found = state.wait_for(|state| !matches!(state, State::Working)) => Ok(self.told(found.map(|state| state.clone()))),
        }
    }

    /// The answer to a poll: the result as soon as it is there, or "still running" after `wait`.
    pub(crate) async fn polled(&self, session: &Session, wait: Duration) -> Result<Told, Stop> {
        let _poll = self.poll_begins();
        let mut state = self.state.subscribe();
        let done = async { state.wait_for(|state| matches!(state, State::Done(_))).await.map(|state| state.clone()) };
        tokio::select! {
            biased;
            ending = session.ended() => Err(ending.into()),
            found = done => Ok(self.told(found)),
            () = tokio::time::sleep(wait) => Ok(self.told(Ok(self.state()))),
        }
    }

    fn told(&self, state: Result<State, watch::error::RecvError>) -> Told {
        match state {
            Ok(State::Done(done)) => Told { body: done.body, outcome: done.outcome },
            Ok(State::Held(description, seconds)) => {
                Told { body: self.in_progress(&description, seconds), outcome: "held" }
            }
            // While it is released the state is still `Held`; `Working` is never told of.
            Ok(State::Working) | Err(_) => {
                Told { body: self.in_progress("The statement is being decided.", 0), outcome: "held" }
            }
        }
    }

    fn in_progress(&self, description: &str, aborts_after_seconds: u32) -> Bytes {
        own::in_progress(&InProgress {
            query_id: &self.query_id,
            detached: self.detached,
            aborts_after_seconds,
            description,
        })
        .into()
    }

    pub(crate) fn state(&self) -> State {
        self.state.borrow().clone()
    }

    /// Whether a retry joins it: on its way, or ended in a way that must not be repeated.
    fn is_for_retries(&self) -> bool {
        match &*self.state.borrow() {
            State::Working | State::Held(..) => true,
            State::Done(done) => done.again,
        }
    }

    pub(crate) fn hold(&self, description: &str, seconds: u32) {
        self.state.send_replace(State::Held(description.into(), seconds));
    }

    fn finish(&self, proxy: &Proxy, session: &Session, done: Done) {
        let held = matches!(*self.state.borrow(), State::Held(..));
        let upstream_id = done.upstream_id.clone();
        let mut runs = session.runs.lock().unwrap_or_else(PoisonError::into_inner);
        self.state.send_replace(State::Done(done));
        // INVARIANT: kept before it is no longer on its way, or a retry in between would run it again.
        if let Some(run) = runs.get(&self.key) {
            proxy.kept.keep(KeptKey::Request(self.session_id.clone(), self.key.request_id.clone()), run);
            if held {
                proxy.kept.keep(KeptKey::Query(self.query_id.clone()), run);
            }
        }
        if let (true, Some(upstream_id)) = (held, upstream_id) {
            proxy.queries.alias(&self.query_id, &upstream_id);
        }
        runs.remove(&self.key);
        // Nothing is left to stop, and what is kept is weighed by its answer alone.
        *self.sent.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Asks the statement to stop. What has been sent has to be stopped at Snowflake besides.
    pub(crate) fn cancel(&self) {
        self.cancel.send_replace(true);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        *self.cancel.borrow()
    }

    /// Waits until the client or an administrator has stopped it.
    pub(crate) async fn stopped(&self, session: &Session) -> Stop {
        let mut cancel = self.cancel.subscribe();
        tokio::select! {
            biased;
            ending = session.ended() => ending.into(),
            _ = cancel.wait_for(|cancelled| *cancelled) => cancelled(),
        }
    }

    pub(crate) fn mark_sent(&self, sql: &str) {
        *self.sent.lock().unwrap_or_else(PoisonError::into_inner) = Some(sql.to_owned());
    }

    pub(crate) fn sent(&self) -> Option<String> {
        self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn poll_begins(&self) -> Poll<'_> {
        self.polls.lock().unwrap_or_else(PoisonError::into_inner).active += 1;
        Poll(self)
    }

    /// Notes that the driver asked, without waiting.
    pub(crate) fn touch(&self) {
        drop(self.poll_begins());
    }

    /// How long nobody has polled.
    pub(crate) fn alone_for(&self) -> Duration {
        let polls = self.polls.lock().unwrap_or_else(PoisonError::into_inner);
        if polls.active > 0 { Duration::ZERO } else { polls.last.elapsed() }
    }
}

fn cancelled() -> Stop {
    Stop::new(PepCode::HoldCancelled, "The statement was cancelled before it was sent to Snowflake; it did not run.")
}

/// A poll that is being held. Ends with the connection, too.
struct Poll<'a>(&'a Run);

impl Drop for Poll<'_> {
    fn drop(&mut self) {
        let mut polls = self.0.polls.lock().unwrap_or_else(PoisonError::into_inner);
        polls.active = polls.active.saturating_sub(1);
        polls.last = Instant::now();
    }
}

impl Done {
    /// Ended with an answer of Snowflake's.
    pub(crate) fn answered(body: Bytes, status: MonitoredStatus, upstream_id: Option<QueryId>) -> Self {
        let outcome = if status == MonitoredStatus::Failed { "failed" } else { "ok" };
        Self { body, status, ended_ms: unix_ms(), upstream_id, outcome, again: true }
    }

    /// Ended with a no. Asked again, it is decided again.
    pub(crate) fn stopped(stop: &Stop, query_id: Option<&QueryId>) -> Self {
        let cancelled = matches!(stop, Stop::Refused(refusal) if refusal.code == PepCode::HoldCancelled.as_str());
        let status = if cancelled { MonitoredStatus::Aborted } else { MonitoredStatus::Failed };
        Self {
            body: stop.body(query_id),
            status,
            ended_ms: unix_ms(),
            upstream_id: None,
            outcome: "refused",
            again: false,
        }
    }

    /// Ended with a no after it had been sent: a retry must not run it a second time.
    pub(crate) fn stopped_after_sending(stop: &Stop, upstream_id: Option<QueryId>) -> Self {
        Self { upstream_id, again: true, ..Self::stopped(stop, None) }
    }
}

impl Kept {
    pub(crate) fn new(bytes_max: u64) -> Self {
        /// What an entry takes beside its body.
        const ENTRY_BYTES: usize = 512;
        let weigh = |_: &KeptKey, run: &Arc<Run>| {
            let body = match &*run.state.borrow() {
                State::Done(done) => done.body.len(),
                State::Working | State::Held(..) => 0,
            };
            u32::try_from(body.saturating_add(ENTRY_BYTES)).unwrap_or(u32::MAX)
        };
        Self(Cache::builder().max_capacity(bytes_max).weigher(weigh).time_to_live(KEPT_FOR).build())
    }

    fn keep(&self, key: KeptKey, run: &Arc<Run>) {
        self.0.insert(key, Arc::clone(run));
    }

    fn by_request(&self, session_id: &str, request_id: &RequestId) -> Option<Arc<Run>> {
        self.0.get(&KeptKey::Request(session_id.to_owned(), request_id.clone()))
    }

    /// A statement that was held, by our query id.
    pub(crate) fn by_query(&self, query_id: &QueryId) -> Option<Arc<Run>> {
        self.0.get(&KeptKey::Query(query_id.clone()))
    }
}
