use std::collections::BTreeSet;

use icegate_pdp_model::{Code, Reason};
use thiserror::Error;

use crate::{State, approval::COMMENT_BYTES_MAX};

/// Why a step of an approval is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ApprovalError {
    /// An approval without groups would be approved by nobody.
    #[error("no group is named that has to approve; name one in the policy's `@approval`")]
    NoGroups,
    /// The requester votes.
    #[error("nobody approves or rejects their own request; ask another member of {}", listed(.groups))]
    OwnRequest {
        /// Who may.
        groups: BTreeSet<String>,
    },
    /// An agent's token votes.
    #[error("an agent cannot approve or reject; sign in yourself, without the agent, and repeat it")]
    Agent,
    /// The approver may not vote for any of the groups.
    #[error("you may not vote for this request; ask a member of {}", listed(.groups))]
    NotEntitled {
        /// Who may.
        groups: BTreeSet<String>,
    },
    /// The person has voted before.
    #[error("you have voted on this request already; each group needs a person of its own")]
    AlreadyVoted,
    /// All groups this person may vote for have their vote.
    #[error("your groups have approved already; a member of {} has to approve now", listed(.missing))]
    GroupFilled {
        /// Groups that still have no vote.
        missing: BTreeSet<String>,
    },
    /// The comment is too long.
    #[error("the comment is longer than {COMMENT_BYTES_MAX} bytes; shorten it")]
    CommentTooLong,
    /// The request is over, or further than this step.
    #[error("the request is {} already{}", .state.as_str(), remedy(*.state))]
    Ended {
        /// How it stands.
        state: State,
    },
    /// It is pending or approved, and its time is over.
    #[error("the request has expired; send the statement again for a new one")]
    Expired,
    /// Its time is not over.
    #[error("the request has not expired")]
    NotExpired,
    /// It is to be used, and people are missing.
    #[error("the request waits for a member of {}", listed(.missing))]
    NotApproved {
        /// Groups that still have no vote.
        missing: BTreeSet<String>,
    },
    /// It is to be used for another statement.
    #[error("the approval is for another statement, session context or person; send exactly what was approved")]
    OtherStatement,
}

impl ApprovalError {
    /// The stable code.
    pub fn code(&self) -> Code {
        match self {
            Self::OwnRequest { .. } | Self::Agent | Self::NotEntitled { .. } => Code::PolicyNoPermit,
            Self::Expired | Self::Ended { state: State::Expired } => Code::ApprovalExpired,
            Self::Ended { state: State::Rejected } => Code::ApprovalRejected,
            Self::NotApproved { .. } => Code::PolicyApproval,
            Self::Ended { state: State::Pending | State::Approved | State::Cancelled | State::Consumed }
            | Self::NoGroups
            | Self::AlreadyVoted
            | Self::GroupFilled { .. }
            | Self::CommentTooLong
            | Self::NotExpired
            | Self::OtherStatement => Code::ApprovalUnusable,
        }
    }

    /// As a full sentence, for people.
    pub fn reason(&self) -> Reason {
        let text = self.to_string();
        let mut chars = text.chars();
        let sentence = match chars.next() {
            Some(first) => format!("{}{}.", first.to_uppercase(), chars.as_str()),
            None => text,
        };
        Reason::new(self.code(), sentence)
    }
}

fn remedy(state: State) -> &'static str {
    match state {
        State::Pending | State::Approved => "",
        State::Rejected | State::Expired | State::Cancelled | State::Consumed => {
            "; send the statement again for a new one"
        }
    }
}

fn listed(groups: &BTreeSet<String>) -> String {
    let quoted: Vec<String> = groups.iter().map(|group| format!("`{group}`")).collect();
    quoted.join(" or ")
}
