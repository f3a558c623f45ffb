use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fmt::Write as _,
};

use icegate_pdp_model::{Agent, Assurance, Code, Principal, Reason, SessionContext, Timestamp};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::DecisionEvent;

/// What happened. Written with a `kind` in kebab case.
///
/// `principal` is whoever it is about, `by` the person who did it to them or looked at them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", rename_all_fields = "snake_case")]
pub enum Event {
    /// A token verified and a session began.
    SessionOpened {
        /// The session.
        session_id: String,
        /// Who the token speaks for.
        principal: Who,
        /// What the client says of itself.
        client: Client,
        /// The PEP that opened it.
        pep_id: String,
        /// That PEP's run.
        pep_instance: String,
        /// What it started with.
        context: SessionContext,
        /// When it ends at the latest.
        expires: Timestamp,
        /// SHA-256 of the token, hex: the evidence, without being one.
        token_sha256: String,
    },
    /// A login was refused.
    SessionRefused {
        /// Who the token speaks for; absent when it did not verify.
        principal: Option<Who>,
        /// The login name as claimed.
        login_name: String,
        /// What the client says of itself.
        client: Client,
        /// The PEP that asked.
        pep_id: String,
        /// Why.
        reason: Reason,
    },
    /// A session ended by itself.
    SessionClosed {
        /// The session.
        session_id: String,
        /// Whose it was.
        principal: Who,
        /// How it ended.
        end: SessionEnd,
    },
    /// A person ended sessions.
    SessionRevoked {
        /// Whose sessions.
        principal_id: String,
        /// The sessions that ended.
        session_ids: Vec<String>,
        /// Every token issued before this is refused; absent when only the sessions ended.
        not_before: Option<Timestamp>,
        /// Who did it.
        by: Who,
        /// Why, in their words.
        comment: String,
    },
    /// A statement was decided, or runs under an earlier decision.
    Decision(Box<DecisionEvent>),
    /// How a statement ended.
    Outcome(OutcomeEvent),
    /// A part of a result was kept from the client, or ended in its middle, whatever its outcome says.
    DeliveryCut(CutEvent),
    /// A statement waits for people.
    ApprovalRequested {
        /// The request.
        approval_id: String,
        /// The decision that asked for it; its record holds the statement.
        decision_id: String,
        /// The session that waits.
        session_id: String,
        /// Who waits.
        principal: Who,
        /// Every group that has to approve.
        groups: BTreeSet<String>,
        /// What exactly is approved.
        statement_sha256: String,
        /// When it expires.
        approve_by: Timestamp,
    },
    /// A person approved or rejected.
    ApprovalVoted {
        /// The request.
        approval_id: String,
        /// The decision that asked for it.
        decision_id: String,
        /// Who voted.
        by: Who,
        /// The group they voted for.
        group: String,
        /// Approved, or rejected.
        approve: bool,
        /// Why, in their words.
        comment: String,
        /// The request's state after it.
        state: String,
    },
    /// A person tried to vote and may not.
    ApprovalVoteRefused {
        /// The request.
        approval_id: String,
        /// The decision that asked for it.
        decision_id: String,
        /// Who tried.
        by: Who,
        /// Wanted to approve, or to reject.
        approve: bool,
        /// Why not.
        code: Code,
    },
    /// Nobody waits any more.
    ApprovalCancelled {
        /// The request.
        approval_id: String,
        /// The decision that asked for it.
        decision_id: String,
    },
    /// Nobody approved in time, or it was not used in time.
    ApprovalExpired {
        /// The request.
        approval_id: String,
        /// The decision that asked for it.
        decision_id: String,
    },
    /// The one run it was for was allowed.
    ApprovalConsumed {
        /// The request.
        approval_id: String,
        /// The decision of the run.
        decision_id: String,
    },
    /// A bundle took effect.
    BundleLoaded {
        /// Its version.
        version: String,
        /// The version before it.
        previous: Option<String>,
    },
    /// A bundle did not load; the one before it stays.
    BundleRefused {
        /// File, line and reason.
        reason: String,
        /// The version that stays.
        kept: Option<String>,
    },
    /// Somebody looked into the trail.
    AuditRead {
        /// Who.
        by: Who,
        /// `search` or `export`.
        operation: String,
        /// What they looked for, by the filter's name.
        filters: BTreeMap<String, String>,
    },
    /// A PDP began to serve.
    ServiceStarted {
        /// This run of it.
        instance: String,
        /// Version of the program.
        version: String,
        /// The bundle it serves.
        bundle_version: String,
    },
    /// A PDP could make no record durable for a time, and so answered nothing; now it can.
    RecordingResumed {
        /// This run of it.
        instance: String,
    },
    /// A PDP stopped as asked.
    ServiceStopped {
        /// This run of it.
        instance: String,
    },
}

impl Event {
    /// The word in the record's `kind`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::SessionOpened { .. } => "session-opened",
            Self::SessionRefused { .. } => "session-refused",
            Self::SessionClosed { .. } => "session-closed",
            Self::SessionRevoked { .. } => "session-revoked",
            Self::Decision(_) => "decision",
            Self::Outcome(_) => "outcome",
            Self::DeliveryCut(_) => "delivery-cut",
            Self::ApprovalRequested { .. } => "approval-requested",
            Self::ApprovalVoted { .. } => "approval-voted",
            Self::ApprovalVoteRefused { .. } => "approval-vote-refused",
            Self::ApprovalCancelled { .. } => "approval-cancelled",
            Self::ApprovalExpired { .. } => "approval-expired",
            Self::ApprovalConsumed { .. } => "approval-consumed",
            Self::BundleLoaded { .. } => "bundle-loaded",
            Self::BundleRefused { .. } => "bundle-refused",
            Self::AuditRead { .. } => "audit-read",
            Self::ServiceStarted { .. } => "service-started",
            Self::RecordingResumed { .. } => "recording-resumed",
            Self::ServiceStopped { .. } => "service-stopped",
        }
    }
}

/// Who somebody is, as a record says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Who {
    /// `<issuer name>/<principal claim>`.
    pub id: String,
    /// `iss` of the token.
    pub issuer: String,
    /// `sub` of the token.
    pub subject: String,
    /// Groups the token named.
    pub groups: BTreeSet<String>,
    /// The agent the token named.
    pub agent: Option<Agent>,
    /// How far the agent's name can be trusted. Without a named agent it is `unknown`, never "human".
    pub provenance: Assurance,
}

impl From<&Principal> for Who {
    fn from(principal: &Principal) -> Self {
        Self {
            id: principal.id.clone(),
            issuer: principal.issuer.clone(),
            subject: principal.subject.clone(),
            groups: principal.groups.clone(),
            agent: principal.agent.clone(),
            provenance: principal.agent.as_ref().map_or(Assurance::Unknown, |agent| agent.assurance),
        }
    }
}

/// What a client says of itself. Declared, never verified.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Client {
    /// The driver, for example `PythonConnector`.
    pub app_id: String,
    /// The driver's version.
    pub app_version: String,
    /// The program that uses it.
    pub application: String,
    /// Address and port it came from, as the PEP saw it.
    pub address: String,
}

/// How a session ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionEnd {
    /// The client said so.
    Closed,
    /// Its time was over.
    Expired,
}

/// How a statement ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OutcomeEvent {
    /// The decision it ran under.
    pub decision_id: String,
    /// The session it ran in.
    pub session_id: String,
    /// How it ended.
    pub status: RunStatus,
    /// Snowflake's query id.
    pub query_id: Option<String>,
    /// Rows in the answer, or affected.
    pub rows: Option<u64>,
    /// From sending to the last byte of the answer.
    pub duration_ms: u64,
    /// Snowflake's or icegate's code when it did not succeed.
    pub error_code: Option<String>,
    /// When it ended by the PEP's clock, for what a PEP delivers later.
    pub ended: Option<Timestamp>,
    /// How the result reached the client, where the PEP told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delivery: Option<Delivery>,
}

/// How a result reached the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Delivery {
    /// All of it in the reply.
    Inline,
    /// Parts of it from cloud storage, through the PEP.
    Through,
    /// Parts of it from cloud storage, past the PEP.
    Direct,
    /// The client was given credentials for a stage.
    Stage,
}

impl Delivery {
    /// The word in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Through => "through",
            Self::Direct => "direct",
            Self::Stage => "stage",
        }
    }
}

impl OutcomeEvent {
    /// A run whose end was never learnt.
    pub fn unknown(decision_id: impl Into<String>, session_id: impl Into<String>) -> Self {
        Self {
            decision_id: decision_id.into(),
            session_id: session_id.into(),
            status: RunStatus::Unknown,
            query_id: None,
            rows: None,
            duration_ms: 0,
            error_code: None,
            ended: None,
            delivery: None,
        }
    }
}

/// That a part of a result was cut; one for a decision, the first that was told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CutEvent {
    /// The decision the result stands under.
    pub decision_id: String,
    /// The session it belongs to.
    pub session_id: String,
    /// The result's query id, as the client knows it.
    pub query_id: Option<String>,
    /// The part, from 0.
    pub part: u32,
    /// Why.
    pub reason: CutReason,
    /// When, by the PEP's clock.
    pub cut: Timestamp,
}

/// Why a part of a result was cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CutReason {
    /// It could not be masked: not the result that was decided.
    Masking,
}

impl CutReason {
    /// The word in records.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Masking => "masking",
        }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RunStatus {
    /// Snowflake answered, and the answer was passed on.
    Succeeded,
    /// Snowflake answered with an error.
    Failed,
    /// The client or an operator stopped it.
    Cancelled,
    /// It ran, and the answer was kept from the client.
    Withheld,
    /// Allowed, but never sent.
    NotSent,
    /// Sent, and its end was never learnt.
    Unknown,
}

impl RunStatus {
    /// Every value.
    pub const ALL: &'static [Self] =
        &[Self::Succeeded, Self::Failed, Self::Cancelled, Self::Withheld, Self::NotSent, Self::Unknown];

    /// The word used in records and on screens.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Withheld => "withheld",
            Self::NotSent => "not-sent",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// SHA-256 of these bytes, in hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(bytes) {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
