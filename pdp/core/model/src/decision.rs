use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::{ColumnName, FilteredRelation, Mask, RelationName, SessionChange, StatementAnalysis};

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// What may happen.
    pub outcome: Outcome,
    /// What must be sent to Snowflake. `Some` exactly for [`Outcome::Allow`] and [`Outcome::Mask`].
    pub sql: Option<String>,
    /// Why, in the order the statements come.
    pub reasons: Vec<Reason>,
    /// Masked columns: at their source, or in the result.
    pub masks: Vec<MaskedColumn>,
    /// Output columns that the PEP masks. Empty when nothing may run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub result_masks: Vec<MaskedOutput>,
    /// Relations of which only some rows are read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub row_filters: Vec<FilteredRelation>,
    /// By statement, the conditions of all rows that it reads of such relations, anew or as an earlier one stored them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows_shown: Vec<BTreeMap<RelationName, String>>,
    /// What became of each output column, statement by statement. Empty when nothing may run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<ExplainedColumn>,
    /// Groups that have to approve. Empty unless [`Outcome::NeedsApproval`].
    pub approval_groups: BTreeSet<String>,
    /// Every policy that determined the outcome.
    pub policies: BTreeSet<String>,
    /// What was read in the text, one per statement. Empty when the text was not even split.
    pub statements: Vec<StatementAnalysis>,
    /// Positions, from 1, of the bound values that name something: it holds for these values alone.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub names_bound: Vec<u32>,
}

impl Decision {
    /// A refusal for one reason, before anything was analysed.
    pub fn deny(reason: Reason) -> Self {
        Self {
            outcome: Outcome::Deny,
            sql: None,
            policies: reason.policy.clone().into_iter().collect(),
            reasons: vec![reason],
            masks: Vec::new(),
            result_masks: Vec::new(),
            row_filters: Vec::new(),
            rows_shown: Vec::new(),
            columns: Vec::new(),
            approval_groups: BTreeSet::new(),
            statements: Vec::new(),
            names_bound: Vec::new(),
        }
    }

    /// Session parameters the request sets, in order.
    pub fn session_changes(&self) -> impl Iterator<Item = &SessionChange> {
        self.statements.iter().flat_map(|statement| &statement.session_changes)
    }
}

/// What may happen, strictest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Nothing.
    Deny,
    /// Nothing until a person of each group has approved.
    NeedsApproval,
    /// It may run as rewritten, and what comes back is masked where that says so.
    Mask,
    /// It may run as it is.
    Allow,
}

impl Outcome {
    /// The word used in records, metrics and on screens.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deny => "deny",
            Self::NeedsApproval => "needs-approval",
            Self::Mask => "mask",
            Self::Allow => "allow",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One output column that the PEP masks: it is this column as it is stored, and nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskedOutput {
    /// The statement, from 1.
    pub statement: u32,
    /// Position in its result, from 1.
    pub ordinal: u32,
    /// The protected column.
    pub column: ColumnName,
    /// What it wears; its [`site`](Mask::site) is the result.
    pub mask: Mask,
}

/// A column that is masked, by which policy.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct MaskedColumn {
    /// The protected column.
    pub column: ColumnName,
    /// What replaces it.
    pub mask: Mask,
    /// The policy that asked for this mask.
    pub policy: String,
}

/// One output column, and which masks its values went through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExplainedColumn {
    /// The statement, from 1.
    pub statement: u32,
    /// Position in its result, from 1.
    pub ordinal: u32,
    /// Name as Snowflake would label it.
    pub name: String,
    /// Columns whose values can appear in it.
    pub sources: BTreeSet<ColumnName>,
    /// Of those, the masked ones: by which mask and which policy.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masks: Vec<MaskedColumn>,
    /// Masked columns that only decided which rows or branch it came from: their masks' values did.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub decided_by_masked: BTreeSet<ColumnName>,
    /// Its sources could not be told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opaque: bool,
}

/// Why something was refused, masked or made to wait.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Reason {
    /// Stable code.
    pub code: Code,
    /// The policy that decided, when one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// One sentence that says what to do.
    pub message: String,
}

impl Reason {
    /// A reason no policy stands behind.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, policy: None, message: message.into() }
    }

    /// A reason a policy stands behind.
    pub fn of_policy(code: Code, policy: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code, policy: Some(policy.into()), message: message.into() }
    }
}

/// Stable codes of everything the PDP answers besides a plain allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING-KEBAB-CASE")]
pub enum Code {
    /// A `forbid` policy refused.
    PolicyForbid,
    /// No policy permits it.
    PolicyNoPermit,
    /// A policy asks for an approval.
    PolicyApproval,
    /// A policy masks a column.
    PolicyMask,
    /// Policies let only some rows be read.
    PolicyRows,
    /// A policy could not be evaluated.
    PolicyError,
    /// The text is not SQL icegate can read, and no policy permits unknown statements.
    SqlUnknown,
    /// A name does not resolve in the catalog.
    SqlUnresolved,
    /// The text is over a limit: bytes, depth, statements.
    SqlLimit,
    /// The request announces another number of statements than the text holds.
    SqlStatementCount,
    /// A masked column is read where it cannot be masked.
    MaskImpossible,
    /// A relation whose rows are filtered is read where they cannot be.
    RowsImpossible,
    /// The token does not verify.
    IdentityInvalid,
    /// The token has expired.
    IdentityExpired,
    /// The login name is not the token's principal.
    IdentityMismatch,
    /// The policies in force are for another connection.
    ConnectionMismatch,
    /// The principal or the session was revoked.
    SessionRevoked,
    /// The session is over: closed, expired or never opened.
    SessionEnded,
    /// The approval was refused by a person.
    ApprovalRejected,
    /// Nobody approved in time, or the approval was not used in time.
    ApprovalExpired,
    /// The approval was cancelled, is used up, or belongs to another statement.
    ApprovalUnusable,
}

impl Code {
    /// As shown to people and drivers, for example `POLICY-FORBID`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PolicyForbid => "POLICY-FORBID",
            Self::PolicyNoPermit => "POLICY-NO-PERMIT",
            Self::PolicyApproval => "POLICY-APPROVAL",
            Self::PolicyMask => "POLICY-MASK",
            Self::PolicyRows => "POLICY-ROWS",
            Self::PolicyError => "POLICY-ERROR",
            Self::SqlUnknown => "SQL-UNKNOWN",
            Self::SqlUnresolved => "SQL-UNRESOLVED",
            Self::SqlLimit => "SQL-LIMIT",
            Self::SqlStatementCount => "SQL-STATEMENT-COUNT",
            Self::MaskImpossible => "MASK-IMPOSSIBLE",
            Self::RowsImpossible => "ROWS-IMPOSSIBLE",
            Self::IdentityInvalid => "IDENTITY-INVALID",
            Self::IdentityExpired => "IDENTITY-EXPIRED",
            Self::IdentityMismatch => "IDENTITY-MISMATCH",
            Self::ConnectionMismatch => "CONNECTION-MISMATCH",
            Self::SessionRevoked => "SESSION-REVOKED",
            Self::SessionEnded => "SESSION-ENDED",
            Self::ApprovalRejected => "APPROVAL-REJECTED",
            Self::ApprovalExpired => "APPROVAL-EXPIRED",
            Self::ApprovalUnusable => "APPROVAL-UNUSABLE",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
