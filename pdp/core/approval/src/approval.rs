use std::collections::{BTreeMap, BTreeSet};

use icegate_pdp_model::{Principal, Reason, SessionContext, Timestamp};
use serde::{Deserialize, Serialize};

use crate::ApprovalError;

/// Longest comment of a vote, in bytes.
pub const COMMENT_BYTES_MAX: usize = 2000;

/// A statement that waits, or waited, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// Names it everywhere.
    pub id: String,
    /// How it stood after the last step. What it is now is [`Approval::state_at`].
    pub state: State,
    /// Who asked.
    pub requester: Principal,
    /// The session that waits.
    pub session_id: String,
    /// The decision that asked for it.
    pub decision_id: String,
    /// Exactly what would run, as the client sent it.
    pub sql: String,
    /// What unqualified names in it mean.
    pub context: SessionContext,
    /// Every group that has to approve.
    pub groups: BTreeSet<String>,
    /// Who voted, in order.
    pub votes: Vec<Vote>,
    /// Why it has to wait.
    pub reasons: Vec<Reason>,
    /// When it was asked for.
    pub created: Timestamp,
    /// From then on it can no longer be approved.
    pub approve_by: Timestamp,
    /// How long it may be used once approved.
    pub execute_within_seconds: u32,
    /// From then on it can no longer be used. Set once approved.
    pub execute_by: Option<Timestamp>,
    /// What exactly is approved: [`crate::statement_sha256`].
    pub statement_sha256: String,
    /// Counts the steps, from 1: a step is kept only if nobody made one in between.
    pub version: u64,
}

/// What a decision says when it asks for an approval.
#[derive(Debug, Clone)]
pub struct NewApproval {
    /// Names it everywhere.
    pub id: String,
    /// Who asked.
    pub requester: Principal,
    /// The session that waits.
    pub session_id: String,
    /// The decision that asked for it.
    pub decision_id: String,
    /// Exactly what would run, as the client sent it.
    pub sql: String,
    /// What unqualified names in it mean.
    pub context: SessionContext,
    /// Every group that has to approve; at least one.
    pub groups: BTreeSet<String>,
    /// Why it has to wait.
    pub reasons: Vec<Reason>,
    /// What exactly is approved: [`crate::statement_sha256`].
    pub statement_sha256: String,
    /// How long people have to approve.
    pub approve_within_seconds: u32,
    /// How long it may be used once approved.
    pub execute_within_seconds: u32,
}

/// One person's word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vote {
    /// The group it counts for.
    pub group: String,
    /// Of the required groups, those this person may vote for. A later vote may move this one to another of them, so that
    /// each group gets a person if there is a way.
    pub entitled: BTreeSet<String>,
    /// Who voted.
    pub approver: Principal,
    /// Approved, or rejected.
    pub approve: bool,
    /// Why, in their words.
    pub comment: String,
    /// When.
    pub at: Timestamp,
}

/// How an approval stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// People are missing.
    Pending,
    /// Every group has approved; it may be used once.
    Approved,
    /// A person said no. Final.
    Rejected,
    /// Not approved or not used in time. Final.
    Expired,
    /// Nobody waits any more. Final.
    Cancelled,
    /// Used. Final.
    Consumed,
}

impl State {
    /// Every value.
    pub const ALL: &'static [Self] =
        &[Self::Pending, Self::Approved, Self::Rejected, Self::Expired, Self::Cancelled, Self::Consumed];

    /// The word used in records and on screens.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Rejected => "rejected",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Consumed => "consumed",
        }
    }

    /// Whether no step leads on from here.
    pub fn is_final(self) -> bool {
        match self {
            Self::Pending | Self::Approved => false,
            Self::Rejected | Self::Expired | Self::Cancelled | Self::Consumed => true,
        }
    }
}

impl Approval {
    /// Asks for it.
    ///
    /// # Errors
    ///
    /// [`ApprovalError::NoGroups`].
    pub fn request(new: NewApproval, now: Timestamp) -> Result<Self, ApprovalError> {
        if new.groups.is_empty() {
            return Err(ApprovalError::NoGroups);
        }
        Ok(Self {
            id: new.id,
            state: State::Pending,
            requester: new.requester,
            session_id: new.session_id,
            decision_id: new.decision_id,
            sql: new.sql,
            context: new.context,
            groups: new.groups,
            votes: Vec::new(),
            reasons: new.reasons,
            created: now,
            approve_by: now.plus_seconds(i64::from(new.approve_within_seconds)),
            execute_within_seconds: new.execute_within_seconds,
            execute_by: None,
            statement_sha256: new.statement_sha256,
            version: 1,
        })
    }

    /// How it stands now: a time that has passed counts before anybody wrote it down.
    pub fn state_at(&self, now: Timestamp) -> State {
        let end = match self.state {
            State::Pending => Some(self.approve_by),
            // Approved without an end does not exist; were it to, it could not be used.
            State::Approved => Some(self.execute_by.unwrap_or(self.approve_by)),
            State::Rejected | State::Expired | State::Cancelled | State::Consumed => None,
        };
        if end.is_some_and(|end| now >= end) { State::Expired } else { self.state }
    }

    /// Groups that still have no vote.
    pub fn missing(&self) -> BTreeSet<String> {
        let filled: BTreeSet<&String> = self.approving().map(|vote| &vote.group).collect();
        self.groups.iter().filter(|group| !filled.contains(group)).cloned().collect()
    }

    /// One person approves. `entitled` are the groups they may approve for, whether or not these are asked for here.
    ///
    /// # Errors
    ///
    /// The rule it would break. Nothing has changed then.
    pub fn approve(
        &self,
        approver: &Principal,
        entitled: &BTreeSet<String>,
        comment: &str,
        now: Timestamp,
    ) -> Result<Self, ApprovalError> {
        let entitled = self.may_vote(approver, entitled, comment, now)?;
        let mut next = self.stepped();
        next.votes.push(Vote {
            group: String::new(),
            entitled,
            approver: approver.clone(),
            approve: true,
            comment: comment.to_owned(),
            at: now,
        });
        if !seat(&mut next.votes) {
            return Err(ApprovalError::GroupFilled { missing: self.missing() });
        }
        if next.missing().is_empty() {
            next.state = State::Approved;
            next.execute_by = Some(now.plus_seconds(i64::from(self.execute_within_seconds)));
        }
        Ok(next)
    }

    /// One person says no, for all.
    ///
    /// # Errors
    ///
    /// The rule it would break. Nothing has changed then.
    pub fn reject(
        &self,
        approver: &Principal,
        entitled: &BTreeSet<String>,
        comment: &str,
        now: Timestamp,
    ) -> Result<Self, ApprovalError> {
        let entitled = self.may_vote(approver, entitled, comment, now)?;
        let mut next = self.stepped();
        next.votes.push(Vote {
            group: entitled.first().cloned().unwrap_or_default(),
            entitled,
            approver: approver.clone(),
            approve: false,
            comment: comment.to_owned(),
            at: now,
        });
        next.state = State::Rejected;
        Ok(next)
    }

    /// Nobody waits any more.
    ///
    /// # Errors
    ///
    /// It is over already.
    pub fn cancel(&self, now: Timestamp) -> Result<Self, ApprovalError> {
        match self.state_at(now) {
            State::Pending | State::Approved => Ok(Self { state: State::Cancelled, ..self.stepped() }),
            state => Err(over(state)),
        }
    }

    /// Writes down that its time is over.
    ///
    /// # Errors
    ///
    /// It is over already, or its time is not.
    pub fn expire(&self, now: Timestamp) -> Result<Self, ApprovalError> {
        if self.state.is_final() {
            return Err(ApprovalError::Ended { state: self.state });
        }
        match self.state_at(now) {
            State::Expired => Ok(Self { state: State::Expired, ..self.stepped() }),
            State::Pending | State::Approved | State::Rejected | State::Cancelled | State::Consumed => {
                Err(ApprovalError::NotExpired)
            }
        }
    }

    /// Uses it for the one run of this statement.
    ///
    /// # Errors
    ///
    /// It is not approved now, or was approved for something else.
    pub fn consume(&self, statement_sha256: &str, now: Timestamp) -> Result<Self, ApprovalError> {
        if statement_sha256 != self.statement_sha256 {
            return Err(ApprovalError::OtherStatement);
        }
        match self.state_at(now) {
            State::Approved => Ok(Self { state: State::Consumed, ..self.stepped() }),
            State::Pending => Err(ApprovalError::NotApproved { missing: self.missing() }),
            state => Err(over(state)),
        }
    }

    /// Of the required groups, those this person may vote for now.
    fn may_vote(
        &self,
        approver: &Principal,
        entitled: &BTreeSet<String>,
        comment: &str,
        now: Timestamp,
    ) -> Result<BTreeSet<String>, ApprovalError> {
        if approver.agent.is_some() {
            return Err(ApprovalError::Agent);
        }
        if same_person(approver, &self.requester) {
            return Err(ApprovalError::OwnRequest { groups: self.groups.clone() });
        }
        let entitled: BTreeSet<String> = self.groups.intersection(entitled).cloned().collect();
        if entitled.is_empty() {
            return Err(ApprovalError::NotEntitled { groups: self.groups.clone() });
        }
        match self.state_at(now) {
            State::Pending => {}
            state => return Err(over(state)),
        }
        if self.votes.iter().any(|vote| same_person(&vote.approver, approver)) {
            return Err(ApprovalError::AlreadyVoted);
        }
        if comment.len() > COMMENT_BYTES_MAX {
            return Err(ApprovalError::CommentTooLong);
        }
        Ok(entitled)
    }

    fn approving(&self) -> impl Iterator<Item = &Vote> {
        self.votes.iter().filter(|vote| vote.approve)
    }

    fn stepped(&self) -> Self {
        Self { version: self.version.saturating_add(1), ..self.clone() }
    }
}

/// The same identity, or written the same: either is enough to count as one person.
fn same_person(one: &Principal, other: &Principal) -> bool {
    (&one.issuer, &one.subject) == (&other.issuer, &other.subject) || one.id == other.id
}

fn over(state: State) -> ApprovalError {
    match state {
        State::Expired => ApprovalError::Expired,
        State::Pending | State::Approved | State::Rejected | State::Cancelled | State::Consumed => {
            ApprovalError::Ended { state }
        }
    }
}

/// Gives each vote a group of its own, moving earlier votes if that makes room. False if there is no way.
fn seat(votes: &mut [Vote]) -> bool {
    let mut seats: BTreeMap<String, usize> = BTreeMap::new();
    for vote in 0..votes.len() {
        if !place(votes, vote, &mut seats, &mut BTreeSet::new()) {
            return false;
        }
    }
    for (group, vote) in seats {
        if let Some(vote) = votes.get_mut(vote) {
            vote.group = group;
        }
    }
    true
}

/// Finds a group for one vote; whoever sits there is asked to move first.
fn place(votes: &[Vote], vote: usize, seats: &mut BTreeMap<String, usize>, asked: &mut BTreeSet<String>) -> bool {
    let Some(entitled) = votes.get(vote).map(|vote| &vote.entitled) else { return false };
    for group in entitled {
        if !asked.insert(group.clone()) {
            continue;
        }
        let free = match seats.get(group).copied() {
            None => true,
            Some(sitting) => place(votes, sitting, seats, asked),
        };
        if free {
            seats.insert(group.clone(), vote);
            return true;
        }
    }
    false
}
