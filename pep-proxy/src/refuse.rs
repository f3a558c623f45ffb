//! Every no this proxy says, and the sentence that goes with it.

use bytes::Bytes;
use icegate_pep_protocol::{PepCode, QueryId, Refusal, answer};
use icegate_proto::v1::{DecideResponse, Reason};
use tonic::Code;

use crate::{ask::pdp::PdpError, forward::upstream::UpstreamError, metrics::REFUSALS, session::Ending};

/// Why a call gets something else than what it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stop {
    /// A refusal with a code and a sentence.
    Refused(Box<Refusal>),
    /// The session token has ended: the driver renews and asks again.
    Expired,
    /// The session cannot be renewed: the driver logs in again.
    MasterExpired,
    /// None of our tokens.
    TokenInvalid,
}

impl Stop {
    pub(crate) fn new(code: PepCode, message: impl Into<String>) -> Self {
        Self::Refused(Box::new(Refusal::new(code, message)))
    }

    /// The body to answer with, counted.
    pub(crate) fn body(&self, query_id: Option<&QueryId>) -> Bytes {
        let (code, body) = match self {
            Self::Refused(refusal) => (closed_set(&refusal.code), answer::refused(refusal, query_id)),
            Self::Expired => ("token-expired", answer::session_expired()),
            Self::MasterExpired => ("master-expired", answer::master_expired()),
            Self::TokenInvalid => ("token-invalid", answer::token_invalid()),
        };
        metrics::counter!(REFUSALS, "code" => code).increment(1);
        body.into()
    }

    /// What a person is told in a browser, counted.
    pub(crate) fn text(&self) -> String {
        metrics::counter!(REFUSALS, "code" => closed_set(self.code())).increment(1);
        match self {
            Self::Refused(refusal) => refusal.text(),
            Self::Expired | Self::MasterExpired | Self::TokenInvalid => "Log in again.".to_owned(),
        }
    }

    /// The code for the record of what became of a statement.
    pub(crate) fn code(&self) -> &str {
        match self {
            Self::Refused(refusal) => &refusal.code,
            Self::Expired => "390112",
            Self::MasterExpired => "390114",
            Self::TokenInvalid => "390104",
        }
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(Box::new(refusal))
    }
}

impl From<Ending> for Stop {
    fn from(ending: Ending) -> Self {
        let (code, message) = match ending {
            Ending::Revoked => (
                "SESSION-REVOKED",
                "This session was ended by an administrator. Ask them why; if it was a mistake, log in again with a fresh token.",
            ),
            Ending::Closed => ("SESSION-ENDED", "This session is closed. Log in again."),
            Ending::Expired => (
                "SESSION-ENDED",
                "This session is over, because its identity token has expired. Log in again with a fresh one.",
            ),
            Ending::UpstreamGone => ("SESSION-ENDED", "Snowflake has ended the session behind this one. Log in again."),
        };
        Refusal::new(code, message).into()
    }
}

impl From<PdpError> for Stop {
    fn from(error: PdpError) -> Self {
        match error {
            PdpError::Unreachable => Self::new(
                PepCode::PdpUnreachable,
                "icegate's decision service cannot be reached, and without it nothing runs; nothing was sent to Snowflake. Try again in a moment, and tell whoever runs icegate if it lasts.",
            ),
            PdpError::AuditUnavailable | PdpError::Void => Self::new(
                PepCode::AuditUnavailable,
                "The record of this statement cannot be written, and without a record nothing runs; nothing was sent to Snowflake. Try again in a moment, and tell whoever runs icegate if it lasts.",
            ),
            PdpError::Refused { code: Code::InvalidArgument | Code::OutOfRange | Code::ResourceExhausted, message } => {
                Self::new(
                    PepCode::RequestLimit,
                    format!(
                        "icegate's decision service does not take this request: {}.",
                        message.trim_end_matches('.')
                    ),
                )
            }
            PdpError::Refused { code: Code::Aborted, .. } => Self::new(
                PepCode::PdpUnreachable,
                "icegate's decision service was changing what this statement depends on; nothing was sent to Snowflake. Try again.",
            ),
            PdpError::Refused { code: Code::NotFound, .. } => Ending::Closed.into(),
            PdpError::Refused { .. } => Self::new(
                PepCode::PdpUnreachable,
                "icegate's decision service does not answer this proxy, and without it nothing runs; nothing was sent to Snowflake. Tell whoever runs icegate.",
            ),
        }
    }
}

/// The PDP's no to one statement.
pub(crate) fn denied(decision: &DecideResponse) -> Stop {
    let refusal = match decision.reasons.first() {
        Some(first) => {
            let mut messages: Vec<&str> = Vec::new();
            for reason in &decision.reasons {
                if !messages.contains(&reason.message.as_str()) {
                    messages.push(&reason.message);
                }
            }
            Refusal::new(first.code.clone(), messages.join(" ")).with_policies(policies(&decision.reasons))
        }
        None => Refusal::new(
            "POLICY-NO-PERMIT",
            "No policy permits this statement. Ask whoever writes icegate's policies for it.",
        ),
    };
    refusal.with_decision(&decision.decision_id).into()
}

fn policies(reasons: &[Reason]) -> Vec<&str> {
    let mut found: Vec<&str> = Vec::new();
    for reason in reasons {
        if !reason.policy_id.is_empty() && !found.contains(&reason.policy_id.as_str()) {
            found.push(&reason.policy_id);
        }
    }
    found
}

/// The warehouse gave no answer to a statement.
pub(crate) fn unanswered(error: UpstreamError) -> Stop {
    let message = match error {
        UpstreamError::Busy => {
            return Stop::new(
                PepCode::UpstreamBusy,
                "As many calls to Snowflake are on their way as icegate makes at one time, and this one was not sent. Try again in a moment, and tell whoever runs icegate if it lasts: `limits.upstream_calls_max`.",
            );
        }
        UpstreamError::NotSent => "Snowflake cannot be reached, and the statement was not sent. Try again in a moment.",
        UpstreamError::Cut => {
            "The connection to Snowflake broke before its answer came; the statement may have run. Check before you run it again."
        }
        UpstreamError::Timeout => {
            "Snowflake did not answer in time; the statement may still run. Check before you run it again."
        }
        UpstreamError::TooLarge => {
            return Stop::new(
                PepCode::ReplyWithheld,
                "The statement ran, and Snowflake's answer is larger than icegate passes on. Select fewer rows or columns.",
            );
        }
        UpstreamError::Unreadable => {
            "The statement was sent, and Snowflake's answer cannot be read; it may have run. Check before you run it again."
        }
    };
    Stop::new(PepCode::UpstreamUnreachable, message)
}

/// A label from a closed set: codes of the PDP come over the wire.
fn closed_set(code: &str) -> &'static str {
    const PDP: [&str; 21] = [
        "POLICY-FORBID",
        "POLICY-NO-PERMIT",
        "POLICY-APPROVAL",
        "POLICY-MASK",
        "POLICY-ROWS",
        "POLICY-ERROR",
        "SQL-UNKNOWN",
        "SQL-UNRESOLVED",
        "SQL-LIMIT",
        "SQL-STATEMENT-COUNT",
        "MASK-IMPOSSIBLE",
        "ROWS-IMPOSSIBLE",
        "IDENTITY-INVALID",
        "IDENTITY-EXPIRED",
        "IDENTITY-MISMATCH",
        "CONNECTION-MISMATCH",
        "SESSION-REVOKED",
        "SESSION-ENDED",
        "APPROVAL-REJECTED",
        "APPROVAL-EXPIRED",
        "APPROVAL-UNUSABLE",
    ];
    PepCode::ALL.map(PepCode::as_str).into_iter().chain(PDP).find(|known| *known == code).unwrap_or("other")
}
