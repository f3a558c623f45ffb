use std::collections::HashMap;

use icegate_pdp_approval::{Approval, State};
use icegate_pdp_audit::{DecisionEvent, Event, Record, SessionEnd, Who};
use icegate_pdp_model::Timestamp;
use sqlx::sqlite::SqliteConnection;

use super::{CHECK_ROWS, sum};
use crate::{
    SessionRow, SessionState, StoreError,
    read::{int, read_approval, read_session},
};

/// What sessions, approvals and revocations have to be after everything the trail says.
///
/// Fields no record repeats are not compared: a session's `token_issued` and `principal_digest`, an approval's
/// `execute_by` and which group a vote fills.
#[derive(Default)]
pub(super) struct States {
    sessions: HashMap<String, (u128, SessionState)>,
    approvals: HashMap<String, Asked>,
    revocations: HashMap<String, i64>,
    /// The last decision, which is the one an approval is asked for with.
    decided: Option<(String, u128)>,
}

/// An approval as the trail tells it.
struct Asked {
    request: u128,
    /// Statement, context and reasons. Absent when the decision is not the record before.
    statement: Option<u128>,
    votes: u128,
    state: String,
}

impl States {
    pub(super) fn follow(&mut self, record: &Record) {
        match &record.event {
            Event::SessionOpened { session_id, principal, client, pep_id, pep_instance, context, expires, .. } => {
                let opened = json(&(principal, client, pep_id, pep_instance, context, record.at, expires));
                self.sessions.insert(session_id.clone(), (sum(&[&opened]), SessionState::Active));
            }
            Event::SessionClosed { session_id, end, .. } => self.ended(
                session_id,
                match end {
                    SessionEnd::Closed => SessionState::Closed,
                    SessionEnd::Expired => SessionState::Expired,
                },
            ),
            Event::SessionRevoked { principal_id, session_ids, not_before, .. } => {
                for session_id in session_ids {
                    self.ended(session_id, SessionState::Revoked);
                }
                if let Some(Timestamp(not_before)) = *not_before {
                    let known = self.revocations.entry(principal_id.clone()).or_insert(not_before);
                    *known = not_before.max(*known);
                }
            }
            Event::Decision(decision) => self.decided = Some((decision.decision_id.clone(), statement_of(decision))),
            Event::ApprovalRequested {
                approval_id,
                decision_id,
                session_id,
                principal,
                groups,
                statement_sha256,
                approve_by,
            } => {
                let asked =
                    json(&(decision_id, session_id, principal, groups, statement_sha256, record.at, approve_by));
                let statement = self.decided.as_ref().filter(|(id, _)| id == decision_id).map(|(_, sum)| *sum);
                let state = State::Pending.as_str().to_owned();
                let asked = Asked { request: sum(&[&asked]), statement, votes: 0, state };
                self.approvals.insert(approval_id.clone(), asked);
            }
            Event::ApprovalVoted { approval_id, by, approve, comment, state, .. } => {
                if let Some(known) = self.approvals.get_mut(approval_id) {
                    known.votes = known.votes.wrapping_add(vote_sum(by, *approve, comment, record.at));
                    known.state.clone_from(state);
                }
            }
            Event::ApprovalCancelled { approval_id, .. } => self.stepped(approval_id, State::Cancelled),
            Event::ApprovalExpired { approval_id, .. } => self.stepped(approval_id, State::Expired),
            Event::ApprovalConsumed { approval_id, .. } => self.stepped(approval_id, State::Consumed),
            Event::SessionRefused { .. }
            | Event::Outcome(_)
            | Event::DeliveryCut(_)
            | Event::ApprovalVoteRefused { .. }
            | Event::BundleLoaded { .. }
            | Event::BundleRefused { .. }
            | Event::AuditRead { .. }
            | Event::ServiceStarted { .. }
            | Event::RecordingResumed { .. }
            | Event::ServiceStopped { .. } => {}
        }
    }

    fn ended(&mut self, session_id: &str, state: SessionState) {
        if let Some(known) = self.sessions.get_mut(session_id) {
            known.1 = state;
        }
    }

    fn stepped(&mut self, approval_id: &str, state: State) {
        if let Some(known) = self.approvals.get_mut(approval_id) {
            state.as_str().clone_into(&mut known.state);
        }
    }

    /// Names every row that is something else, is missing or was added.
    pub(super) async fn compare(mut self, connection: &mut SqliteConnection) -> Result<Vec<String>, StoreError> {
        let mut problems = Vec::new();
        self.sessions(connection, &mut problems).await?;
        self.approvals(connection, &mut problems).await?;
        let rows: Vec<(String, i64)> = sqlx::query_as("SELECT principal, not_before FROM revocations")
            .fetch_all(connection)
            .await
            .map_err(StoreError::read)?;
        let mut other = |id: &str| problems.push(differs("revocation of", id));
        for (id, not_before) in rows {
            if self.revocations.remove(&id) != Some(not_before) {
                other(&id);
            }
        }
        self.revocations.keys().for_each(|id| other(id));
        problems.sort();
        Ok(problems)
    }

    async fn sessions(
        &mut self,
        connection: &mut SqliteConnection,
        problems: &mut Vec<String>,
    ) -> Result<(), StoreError> {
        let mut after = 0;
        loop {
            let rows: Vec<(i64, String, String, String)> = sqlx::query_as(
                "SELECT rowid, session_id, state, body FROM sessions WHERE rowid > ? ORDER BY rowid LIMIT ?",
            )
            .bind(after)
            .bind(CHECK_ROWS)
            .fetch_all(&mut *connection)
            .await
            .map_err(StoreError::read)?;
            let Some(last) = rows.last() else { break };
            after = last.0;
            for (_, session_id, state, body) in rows {
                let wanted = self.sessions.remove(&session_id);
                match read_session((session_id.clone(), state, body)) {
                    Ok(row) if wanted == Some((opened_of(&row), row.state)) => {}
                    Ok(_) => problems.push(differs("session", &session_id)),
                    Err(error) => problems.push(error.to_string()),
                }
            }
        }
        problems.extend(self.sessions.keys().map(|id| differs("session", id)));
        Ok(())
    }

    async fn approvals(
        &mut self,
        connection: &mut SqliteConnection,
        problems: &mut Vec<String>,
    ) -> Result<(), StoreError> {
        let mut after = 0;
        loop {
            let rows: Vec<(i64, String, i64, String)> =
                sqlx::query_as("SELECT rowid, id, version, body FROM approvals WHERE rowid > ? ORDER BY rowid LIMIT ?")
                    .bind(after)
                    .bind(CHECK_ROWS)
                    .fetch_all(&mut *connection)
                    .await
                    .map_err(StoreError::read)?;
            let Some(last) = rows.last() else { break };
            after = last.0;
            for (_, id, version, body) in rows {
                let wanted = self.approvals.remove(&id);
                match read_approval(&id, &body) {
                    Ok(approval) if int(approval.version) != version => {
                        problems.push(format!("the approval `{id}` has two versions"));
                    }
                    Ok(approval) if wanted.is_some_and(|wanted| wanted.is(&approval)) => {}
                    Ok(_) => problems.push(differs("approval", &id)),
                    Err(error) => problems.push(error.to_string()),
                }
            }
        }
        problems.extend(self.approvals.keys().map(|id| differs("approval", id)));
        Ok(())
    }
}

impl Asked {
    fn is(&self, approval: &Approval) -> bool {
        let Approval { decision_id, session_id, groups, statement_sha256, created, approve_by, .. } = approval;
        let requester = Who::from(&approval.requester);
        let asked = json(&(decision_id, session_id, requester, groups, statement_sha256, created, approve_by));
        let votes = approval.votes.iter().fold(0u128, |votes, vote| {
            votes.wrapping_add(vote_sum(&Who::from(&vote.approver), vote.approve, &vote.comment, vote.at))
        });
        let statement = sum(&[&json(&(&approval.sql, &approval.context, &approval.reasons))]);
        sum(&[&asked]) == self.request
            && votes == self.votes
            && approval.state.as_str() == self.state
            && self.statement.is_none_or(|wanted| wanted == statement)
    }
}

fn opened_of(row: &SessionRow) -> u128 {
    let SessionRow { client, pep_id, pep_instance, context, opened, expires, .. } = row;
    sum(&[&json(&(Who::from(&row.principal), client, pep_id, pep_instance, context, opened, expires))])
}

fn statement_of(decision: &DecisionEvent) -> u128 {
    sum(&[&json(&(&decision.sql, &decision.context, &decision.reasons))])
}

fn vote_sum(by: &Who, approve: bool, comment: &str, at: Timestamp) -> u128 {
    sum(&[&json(&(by, approve, comment, at))])
}

fn differs(what: &str, id: &str) -> String {
    format!("the {what} `{id}` is not what the trail says")
}

/// Equal for equal values. None of these types can fail; were one to, it would equal nothing that did not.
fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
