//! Statements that wait for a person: the driver sees a slow query and keeps polling.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use icegate_pep_protocol::{PepCode, QueryId, Refusal};
use icegate_proto::v1::{Approval, ApprovalState};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::{debug, info};

use crate::{
    ask::{Waiting, pdp::PdpError},
    proxy::Proxy,
    refuse::Stop,
    session::Session,
    statement::Run,
};

/// How long one question for the state of an approval may take: the PDP answers at once when it changes.
const WAIT: Duration = Duration::from_secs(20);
/// Pause before the next question.
const RETRY: Duration = Duration::from_millis(500);
/// How often it is looked whether the driver is still there.
const LOOK: Duration = Duration::from_millis(500);

/// The statements being held, by our query id.
#[derive(Debug)]
pub(crate) struct Holds {
    all: Mutex<HashMap<QueryId, Arc<Run>>>,
    held_max: usize,
    per_session_max: usize,
}

impl Holds {
    pub(crate) fn new(held_max: usize, per_session_max: usize) -> Self {
        Self { all: Mutex::default(), held_max, per_session_max }
    }

    /// The statement held under this id in this session.
    pub(crate) fn get(&self, query_id: &QueryId, session_id: &str) -> Option<Arc<Run>> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(query_id).filter(|run| run.session_id == session_id).cloned()
    }

    /// The session of the statement held under this id.
    pub(crate) fn session_of(&self, query_id: &QueryId) -> Option<String> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(query_id).map(|run| run.session_id.clone())
    }

    pub(crate) fn count(&self) -> usize {
        self.all.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    fn enter(&self, run: &Arc<Run>) -> bool {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let of_session = all.values().filter(|held| held.session_id == run.session_id).count();
        let room = all.len() < self.held_max && of_session < self.per_session_max;
        if room {
            all.insert(run.query_id.clone(), Arc::clone(run));
        }
        room
    }

    fn leave(&self, query_id: &QueryId) {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.remove(query_id);
    }
}

/// A place among the held statements; given back when dropped, which is after the statement has ended.
#[derive(Debug)]
pub(crate) struct Place {
    proxy: Arc<Proxy>,
    query_id: QueryId,
    until: Instant,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.proxy.holds.leave(&self.query_id);
    }
}

/// Holds a statement until it may be decided again with the approval that is returned.
pub(crate) async fn until_approved(
    proxy: &Arc<Proxy>,
    session: &Session,
    run: &Run,
    place: &mut Option<Place>,
    waiting: Waiting,
) -> Result<String, Stop> {
    let place = match place {
        Some(place) => place,
        None => place.insert(enter(proxy, session, run, &waiting).await?),
    };
    let until = place.until;
    let seconds = u32::try_from(until.saturating_duration_since(Instant::now()).as_secs()).unwrap_or(u32::MAX);
    run.hold(&description(&waiting), seconds);
    proxy.queries.remember_held(&run.query_id, session, &waiting);
    info!(approval_id = waiting.approval_id, decision_id = waiting.decision_id, "held");
    let mut stopping = proxy.stopping.subscribe();
    let stop = tokio::select! {
        biased;
        stop = run.stopped(session) => stop,
        answer = answered(proxy, &waiting) => return answer,
        () = tokio::time::sleep_until(until) => return Err(no_longer(&waiting, "Nobody has approved this statement while the driver waited.")),
        _ = stopping.wait_for(|stopping| *stopping) => return Err(no_longer(&waiting, "This proxy is stopping, and the statement still waits for approval.")),
        () = abandoned(run, proxy.hold.abandoned) => {
            info!(approval_id = waiting.approval_id, "driver gone");
            Stop::from(Refusal::new(PepCode::HoldCancelled, "The driver stopped asking, so the statement was cancelled; it did not run."))
        }
    };
    // Nobody waits any more. If the PDP cannot be told, the approval ends by its own time.
    if let Err(error) = proxy.pdp.cancel_approval(&waiting.approval_id).await {
        debug!(approval_id = waiting.approval_id, %error, "approval not cancelled");
    }
    Err(stop)
}

async fn enter(proxy: &Arc<Proxy>, session: &Session, run: &Run, waiting: &Waiting) -> Result<Place, Stop> {
    let there = session.running().into_iter().find(|there| there.query_id == run.query_id);
    if there.is_some_and(|run| proxy.holds.enter(&run)) {
        let place = Place {
            proxy: Arc::clone(proxy),
            query_id: run.query_id.clone(),
            until: Instant::now() + waiting.hold_max,
        };
        run.touch();
        return Ok(place);
    }
    if let Err(error) = proxy.pdp.cancel_approval(&waiting.approval_id).await {
        debug!(approval_id = waiting.approval_id, %error, "approval not cancelled");
    }
    Err(Stop::new(
        PepCode::RequestLimit,
        "Too many statements already wait for approval, here or in this session. Wait until some are decided, then run it again.",
    ))
}

/// Waits for the approval's end: the id to go on with, or why not.
async fn answered(proxy: &Proxy, waiting: &Waiting) -> Result<String, Stop> {
    loop {
        match proxy.pdp.wait_approval(&waiting.approval_id, WAIT).await {
            Ok(approval) => match approval.state() {
                ApprovalState::Approved => return Ok(waiting.approval_id.clone()),
                // It waited already; one that did not must not be asked in a circle.
                ApprovalState::Pending => tokio::time::sleep(RETRY).await,
                ended => return Err(refused(waiting, &approval, ended)),
            },
            Err(PdpError::Unreachable | PdpError::AuditUnavailable) => tokio::time::sleep(RETRY).await,
            Err(error @ (PdpError::Void | PdpError::Refused { .. })) => return Err(error.into()),
        }
    }
}

async fn abandoned(run: &Run, after: Duration) {
    let mut look = tokio::time::interval(LOOK.min(after));
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        look.tick().await;
        if run.alone_for() >= after {
            return;
        }
    }
}

fn description(waiting: &Waiting) -> String {
    let Waiting { approval_id, groups, .. } = waiting;
    format!(
        "Waiting for approval `{approval_id}` by {}; it goes on by itself once approved, for example with `icegate approvals approve {approval_id}`.",
        quoted(groups)
    )
}

fn quoted(groups: &[String]) -> String {
    let quoted: Vec<String> = groups.iter().map(|group| format!("`{group}`")).collect();
    if quoted.is_empty() { "a person".to_owned() } else { quoted.join(" and ") }
}

fn no_longer(waiting: &Waiting, what: &str) -> Stop {
    let Waiting { approval_id, decision_id, groups, .. } = waiting;
    Refusal::new(
        PepCode::HoldExpired,
        format!(
            "{what} Approval `{approval_id}` by {} stays open: once it is given, run exactly the same statement again.",
            quoted(groups)
        ),
    )
    .with_decision(decision_id)
    .into()
}

fn refused(waiting: &Waiting, approval: &Approval, state: ApprovalState) -> Stop {
    let id = &waiting.approval_id;
    let no = approval.votes.iter().find(|vote| !vote.approve);
    let (code, message) = match (state, no) {
        (ApprovalState::Rejected, Some(vote)) => {
            let comment = if vote.comment.is_empty() { String::new() } else { format!(": \"{}\"", vote.comment) };
            (
                "APPROVAL-REJECTED",
                format!(
                    "Approval `{id}` was refused by `{}`{comment}. Change the statement or talk to them; running it again asks anew.",
                    vote.approver
                ),
            )
        }
        (ApprovalState::Rejected, None) => (
            "APPROVAL-REJECTED",
            format!(
                "Approval `{id}` was refused. Change the statement or talk to {}; running it again asks anew.",
                quoted(&waiting.groups)
            ),
        ),
        (ApprovalState::Expired, _) => {
            ("APPROVAL-EXPIRED", format!("Approval `{id}` was not given in time. Run the statement again to ask anew."))
        }
        (
            ApprovalState::Cancelled
            | ApprovalState::Consumed
            | ApprovalState::Unspecified
            | ApprovalState::Pending
            | ApprovalState::Approved,
            _,
        ) => (
            "APPROVAL-UNUSABLE",
            format!("Approval `{id}` can no longer be used. Run the statement again to ask anew."),
        ),
    };
    Refusal::new(code, message).with_decision(&waiting.decision_id).into()
}
