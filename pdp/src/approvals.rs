use std::{collections::BTreeSet, sync::Arc, time::Duration};

use icegate_pdp_approval::{Approval, ApprovalError, State};
use icegate_pdp_audit::Event;
use icegate_pdp_model::{Principal, Timestamp};
use icegate_pdp_policy::PersonAction;
use icegate_pdp_store::{ApprovalFilter, Change, StateChange};
use icegate_proto::v1;
use tokio::time::{Instant, timeout_at};
use tonic::{Request, Response, Status};
use tracing::info;

use crate::{
    clock, convert,
    state::{Pdp, Work, named, unreadable},
};

/// Longest a PEP may wait in one call, in milliseconds.
const WAIT_MS_MAX: u32 = 30_000;
/// Statements of one session that may wait for people at one time.
pub(crate) const OPEN_PER_SESSION_MAX: usize = 100;
/// Approvals looked through for those a person may see: as many as the store gives at once, newest first.
const LOOKED_THROUGH: u32 = 1000;
/// How often a vote is tried when others vote at the same time.
const STEP_TRIES: u32 = 10;

/// Statements that wait for a person.
#[derive(Debug, Clone)]
pub(crate) struct Approvals(pub(crate) Arc<Pdp>);

#[tonic::async_trait]
impl v1::approval_service_server::ApprovalService for Approvals {
    async fn list_approvals(
        &self,
        request: Request<v1::ListApprovalsRequest>,
    ) -> Result<Response<v1::ListApprovalsResponse>, Status> {
        let person = self.0.person(request.metadata()).await?;
        let request = request.into_inner();
        let limit = self.0.page(request.limit)?;
        let states = if request.all { State::ALL.to_vec() } else { vec![State::Pending, State::Approved] };
        let filter = ApprovalFilter { states, limit: LOOKED_THROUGH, ..ApprovalFilter::default() };
        let now = clock::now();
        let sees_all = self.0.may(&person, PersonAction::SearchAudit);
        let approvals = self.0.store.approvals(&filter).await.map_err(|error| unreadable(&error))?;
        let approvals = approvals
            .iter()
            .filter(|approval| request.all || !approval.state_at(now).is_final())
            .filter(|approval| sees_all || self.0.sees(&person, approval))
            .take(usize::try_from(limit).unwrap_or(usize::MAX))
            .map(|approval| convert::approval(approval, now))
            .collect();
        Ok(Response::new(v1::ListApprovalsResponse { approvals }))
    }

    async fn get_approval(
        &self,
        request: Request<v1::GetApprovalRequest>,
    ) -> Result<Response<v1::GetApprovalResponse>, Status> {
        let person = self.0.person(request.metadata()).await?;
        let approval = self.0.seen_approval(&person, &request.get_ref().approval_id).await?;
        Ok(Response::new(v1::GetApprovalResponse { approval: Some(convert::approval(&approval, clock::now())) }))
    }

    async fn approve(&self, request: Request<v1::ApproveRequest>) -> Result<Response<v1::ApproveResponse>, Status> {
        let person = self.0.person(request.metadata()).await?;
        let v1::ApproveRequest { approval_id, comment } = request.into_inner();
        let approval = self.0.vote(&person, &approval_id, &comment, true).await?;
        Ok(Response::new(v1::ApproveResponse { approval: Some(approval) }))
    }

    async fn reject(&self, request: Request<v1::RejectRequest>) -> Result<Response<v1::RejectResponse>, Status> {
        let person = self.0.person(request.metadata()).await?;
        let v1::RejectRequest { approval_id, comment } = request.into_inner();
        let approval = self.0.vote(&person, &approval_id, &comment, false).await?;
        Ok(Response::new(v1::RejectResponse { approval: Some(approval) }))
    }

    async fn cancel_approval(
        &self,
        request: Request<v1::CancelApprovalRequest>,
    ) -> Result<Response<v1::CancelApprovalResponse>, Status> {
        self.0.pep(&request)?;
        let approval = self.0.approval(&request.get_ref().approval_id).await?;
        cancel(&self.0, &approval, clock::now()).await?;
        let approval = self.0.approval(&approval.id).await?;
        Ok(Response::new(v1::CancelApprovalResponse { approval: Some(convert::approval(&approval, clock::now())) }))
    }

    async fn wait_approval(
        &self,
        request: Request<v1::WaitApprovalRequest>,
    ) -> Result<Response<v1::WaitApprovalResponse>, Status> {
        self.0.pep(&request)?;
        let _waiting = self.0.begin(Work::Wait)?;
        let v1::WaitApprovalRequest { approval_id, timeout_ms } = request.into_inner();
        if timeout_ms > WAIT_MS_MAX {
            return Err(Status::invalid_argument(format!("`timeout_ms` is {timeout_ms}; wait at most {WAIT_MS_MAX}.")));
        }
        let until = Instant::now() + Duration::from_millis(timeout_ms.into());
        let approval = self.0.wait(&approval_id, until).await?;
        Ok(Response::new(v1::WaitApprovalResponse { approval: Some(approval) }))
    }
}

impl Pdp {
    async fn approval(&self, approval_id: &str) -> Result<Approval, Status> {
        let found =
            self.store.approval(named("approval_id", approval_id)?).await.map_err(|error| unreadable(&error))?;
        found.ok_or_else(|| Status::not_found(format!("There is no approval `{approval_id}`.")))
    }

    /// One that this person may know of; for others it does not exist.
    async fn seen_approval(&self, person: &Principal, approval_id: &str) -> Result<Approval, Status> {
        let approval = self.approval(approval_id).await?;
        if self.sees(person, &approval) || self.may(person, PersonAction::SearchAudit) {
            return Ok(approval);
        }
        Err(Status::not_found(format!("There is no approval `{approval_id}`.")))
    }

    fn sees(&self, person: &Principal, approval: &Approval) -> bool {
        let own = (&person.issuer, &person.subject) == (&approval.requester.issuer, &approval.requester.subject);
        own || !self.entitled(person, approval).is_empty()
    }

    /// Of the groups that have to approve, those this person may approve for.
    fn entitled(&self, person: &Principal, approval: &Approval) -> BTreeSet<String> {
        approval.groups.iter().filter(|group| self.may(person, PersonAction::Approve(group))).cloned().collect()
    }

    async fn vote(
        &self,
        person: &Principal,
        approval_id: &str,
        comment: &str,
        approve: bool,
    ) -> Result<v1::Approval, Status> {
        for _ in 0..STEP_TRIES {
            let approval = self.seen_approval(person, approval_id).await?;
            let now = clock::now();
            let entitled = self.entitled(person, &approval);
            let step = if approve {
                approval.approve(person, &entitled, comment, now)
            } else {
                approval.reject(person, &entitled, comment, now)
            };
            let next = match step {
                Ok(next) => next,
                Err(error) => return Err(self.vote_refused(person, &approval, approve, &error, now).await?),
            };
            let voted = Event::ApprovalVoted {
                approval_id: next.id.clone(),
                decision_id: next.decision_id.clone(),
                by: person.into(),
                group: next.votes.last().map(|vote| vote.group.clone()).unwrap_or_default(),
                approve,
                comment: comment.to_owned(),
                state: next.state.as_str().to_owned(),
            };
            if step_to(self, &approval, &next, voted, now).await? {
                info!(approval_id, state = next.state.as_str(), "approval voted");
                return Ok(convert::approval(&next, now));
            }
        }
        Err(Status::aborted("Others were voting at the same time; try again."))
    }

    /// A vote that may not count is on record as well.
    async fn vote_refused(
        &self,
        person: &Principal,
        approval: &Approval,
        approve: bool,
        error: &ApprovalError,
        now: Timestamp,
    ) -> Result<Status, Status> {
        let reason = error.reason();
        let event = Event::ApprovalVoteRefused {
            approval_id: approval.id.clone(),
            decision_id: approval.decision_id.clone(),
            by: person.into(),
            approve,
            code: reason.code,
        };
        self.commit(Change::event(event, now)).await?;
        Ok(match error {
            ApprovalError::OwnRequest { .. } | ApprovalError::Agent | ApprovalError::NotEntitled { .. } => {
                Status::permission_denied(reason.message)
            }
            ApprovalError::CommentTooLong => Status::invalid_argument(reason.message),
            ApprovalError::NoGroups
            | ApprovalError::AlreadyVoted
            | ApprovalError::GroupFilled { .. }
            | ApprovalError::Ended { .. }
            | ApprovalError::Expired
            | ApprovalError::NotExpired
            | ApprovalError::NotApproved { .. }
            | ApprovalError::OtherStatement => Status::failed_precondition(reason.message),
        })
    }

    /// Answers when it is no longer pending, or at `until` with how it stands.
    async fn wait(&self, approval_id: &str, until: Instant) -> Result<v1::Approval, Status> {
        let mut changed = self.hub.approval(approval_id);
        let mut stopping = self.stopping.clone();
        loop {
            let approval = self.approval(approval_id).await?;
            let now = clock::now();
            let stops = *stopping.borrow() || stopping.has_changed().is_err();
            let over = stops || Instant::now() >= until;
            if approval.state_at(now) != State::Pending || over {
                return Ok(convert::approval(&approval, now));
            }
            let expires_in = Duration::from_millis((approval.approve_by.0 - now.0).unsigned_abs());
            let next_look = until.min(Instant::now() + expires_in);
            tokio::select! {
                _ = timeout_at(next_look, changed.changed()) => {}
                _ = stopping.changed() => {}
            }
        }
    }
}

/// Takes a step if nobody took one in between. `false`: look again.
async fn step_to(pdp: &Pdp, before: &Approval, next: &Approval, event: Event, now: Timestamp) -> Result<bool, Status> {
    let state = StateChange::PutApproval { approval: Box::new(next.clone()), expected_version: Some(before.version) };
    match pdp.commit(Change::state(state, event, now)).await {
        Ok(_) => {
            pdp.hub.approval_changed(&next.id);
            Ok(true)
        }
        Err(status) if status.code() == tonic::Code::Aborted => Ok(false),
        Err(status) => Err(status),
    }
}

/// Cancels one; one that is over already stays as it is.
async fn cancel(pdp: &Pdp, approval: &Approval, now: Timestamp) -> Result<(), Status> {
    let mut approval = approval.clone();
    for _ in 0..STEP_TRIES {
        let Ok(next) = approval.cancel(now) else { return Ok(()) };
        let event = Event::ApprovalCancelled { approval_id: next.id.clone(), decision_id: next.decision_id.clone() };
        if step_to(pdp, &approval, &next, event, now).await? {
            return Ok(());
        }
        approval = pdp.approval(&approval.id).await?;
    }
    Err(Status::aborted("The approval was changing all the time; try again."))
}

/// Nobody waits in a session that is over.
pub(crate) async fn cancel_of_session(pdp: &Pdp, session_id: &str, now: Timestamp) -> Result<(), Status> {
    for approval in open_of_session(pdp, session_id).await? {
        cancel(pdp, &approval, now).await?;
    }
    Ok(())
}

/// What waits, or is approved and not used, in this session: never more than [`OPEN_PER_SESSION_MAX`].
pub(crate) async fn open_of_session(pdp: &Pdp, session_id: &str) -> Result<Vec<Approval>, Status> {
    let filter = ApprovalFilter {
        session_id: Some(session_id.to_owned()),
        states: vec![State::Pending, State::Approved],
        limit: LOOKED_THROUGH,
        ..ApprovalFilter::default()
    };
    pdp.store.approvals(&filter).await.map_err(|error| unreadable(&error))
}

/// Writes down that one has run out, unless somebody was faster.
pub(crate) async fn expire(pdp: &Pdp, approval: &Approval, now: Timestamp) -> Result<(), Status> {
    let Ok(next) = approval.expire(now) else { return Ok(()) };
    let event = Event::ApprovalExpired { approval_id: next.id.clone(), decision_id: next.decision_id.clone() };
    step_to(pdp, approval, &next, event, now).await.map(|_| ())
}
