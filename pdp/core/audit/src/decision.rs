use std::collections::BTreeSet;

use icegate_pdp_model::{
    Decision, Effect, ExplainedColumn, Kind, Level, MaskSite, MaskedColumn, ObjectKind, Outcome, Principal, Reason,
    SessionContext, StatementAnalysis, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{Client, Who, sha256_hex};

/// One statement as it was asked and decided: written before the answer leaves.
///
/// Names are kept as text, as they were printed: a record must stay readable whatever later versions accept as a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DecisionEvent {
    /// Names this decision everywhere.
    pub decision_id: String,
    /// The session it was asked in.
    pub session_id: String,
    /// Snowflake's request id.
    pub request_id: String,
    /// The PEP that asked.
    pub pep_id: String,
    /// That PEP's run.
    pub pep_instance: String,
    /// Who asked.
    pub principal: Who,
    /// What the client says of itself.
    pub client: Client,
    /// What unqualified names meant.
    pub context: SessionContext,
    /// The text exactly as the client sent it.
    pub sql: String,
    /// The text that is to be sent; absent when nothing may be.
    pub sent_sql: Option<String>,
    /// SHA-256 of the bindings' JSON, hex; absent without bindings.
    pub bindings_sha256: Option<String>,
    /// Only the shape of the result was asked for.
    pub describe_only: bool,
    /// What each statement of the text is and touches.
    pub statements: Vec<StatementNote>,
    /// Columns whose values the answer can carry, masked ones included (see `masks`). Empty when nothing may run.
    pub disclosed: BTreeSet<String>,
    /// Some output's sources could not be told: `disclosed` may lack columns.
    pub disclosed_opaque: bool,
    /// Masked columns: at their source, or in the result.
    pub masks: Vec<MaskNote>,
    /// Relations of which only some rows were read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub row_filters: Vec<RowFilterNote>,
    /// What became of each output column. Empty when nothing may run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub columns: Vec<ColumnNote>,
    /// What was decided.
    pub outcome: Outcome,
    /// Why.
    pub reasons: Vec<Reason>,
    /// Every policy that determined it.
    pub policies: BTreeSet<String>,
    /// The bundle that decided.
    pub bundle_version: String,
    /// The approval that was asked for, or that this run consumes.
    pub approval_id: Option<String>,
    /// The decision this one repeats from a PEP's cache.
    pub cached_from: Option<String>,
    /// It ran while the PEP could not reach the PDP, and was delivered later.
    pub journaled: bool,
    /// When it ran by the PEP's clock, if journaled.
    pub ran: Option<Timestamp>,
}

/// What one statement is and touches.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatementNote {
    /// What it is.
    pub kind: Kind,
    /// How much of it was read.
    pub level: Level,
    /// Everything it does.
    pub effects: BTreeSet<Effect>,
    /// Every object it touches.
    pub objects: Vec<ObjectNote>,
    /// Every column whose value can influence anything.
    pub columns_read: BTreeSet<String>,
    /// Destinations data would leave to.
    pub exports: Vec<String>,
    /// Names that did not resolve.
    pub unresolved: Vec<String>,
}

/// One object a statement touches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectNote {
    /// What kind of object.
    pub kind: ObjectKind,
    /// Full name as printed.
    pub name: String,
    /// What is done to it.
    pub effect: Effect,
}

/// One masked column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskNote {
    /// The column.
    pub column: String,
    /// What replaces it. It names its key, if it has one, and never holds it.
    pub mask: String,
    /// The policy that asked for it.
    pub policy: String,
    /// Where it is applied.
    #[serde(default, skip_serializing_if = "MaskSite::is_source")]
    pub site: MaskSite,
}

/// One relation whose rows were filtered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RowFilterNote {
    /// The relation.
    pub relation: String,
    /// The condition as SQL.
    pub condition: String,
    /// The policies behind it.
    pub policies: BTreeSet<String>,
}

/// One output column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ColumnNote {
    /// The statement, from 1.
    pub statement: u32,
    /// Position in its result, from 1.
    pub ordinal: u32,
    /// Its name.
    pub name: String,
    /// Columns whose values can appear in it.
    pub sources: BTreeSet<String>,
    /// Of those, the masked ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub masks: Vec<MaskNote>,
    /// The mask that the PEP puts on it in the result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result_mask: Option<String>,
    /// Masked columns that only decided which rows or branch it came from.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub decided_by_masked: BTreeSet<String>,
    /// Its sources could not be told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opaque: bool,
}

/// Everything about a request that is not in its decision.
#[derive(Debug, Clone, Copy)]
pub struct Asking<'a> {
    /// Names this decision everywhere.
    pub decision_id: &'a str,
    /// The session it was asked in.
    pub session_id: &'a str,
    /// Snowflake's request id.
    pub request_id: &'a str,
    /// The PEP that asked.
    pub pep_id: &'a str,
    /// That PEP's run.
    pub pep_instance: &'a str,
    /// Who asked.
    pub principal: &'a Principal,
    /// What the client says of itself.
    pub client: &'a Client,
    /// What unqualified names mean.
    pub context: &'a SessionContext,
    /// The text exactly as the client sent it.
    pub sql: &'a str,
    /// The bindings as JSON text, empty without any.
    pub bindings_json: &'a str,
    /// Only the shape of the result is asked for.
    pub describe_only: bool,
    /// The bundle that decided.
    pub bundle_version: &'a str,
    /// The approval that was asked for, or that this run consumes.
    pub approval_id: Option<&'a str>,
}

/// A run that a PEP kept in its own journal.
#[derive(Debug, Clone, Copy)]
pub struct JournaledRun<'a> {
    /// Made by the PEP.
    pub decision_id: &'a str,
    /// The decision it ran under.
    pub cached_from: &'a str,
    /// The session it ran in.
    pub session_id: &'a str,
    /// Snowflake's request id.
    pub request_id: &'a str,
    /// The PEP.
    pub pep_id: &'a str,
    /// That PEP's run.
    pub pep_instance: &'a str,
    /// Who asked, as far as the PEP or its session tell.
    pub principal: &'a Principal,
    /// What unqualified names meant.
    pub context: &'a SessionContext,
    /// The text as the client sent it.
    pub sql: &'a str,
    /// The text as it was sent to Snowflake.
    pub sent_sql: &'a str,
    /// The bindings as JSON text, empty without any.
    pub bindings_json: &'a str,
    /// The bundle of the decision it ran under.
    pub bundle_version: &'a str,
    /// When it ran, by the PEP's clock.
    pub ran: Timestamp,
}

impl DecisionEvent {
    /// A request and its decision.
    pub fn new(asking: &Asking<'_>, decision: &Decision) -> Self {
        let runs = decision.sql.is_some();
        // What is stored is not shown: whoever reads it there is asked again.
        let outputs = || {
            let all = decision.statements.iter().filter(|_| runs).flat_map(|statement| &statement.projection);
            all.filter(|output| output.target.is_none())
        };
        Self {
            decision_id: asking.decision_id.to_owned(),
            session_id: asking.session_id.to_owned(),
            request_id: asking.request_id.to_owned(),
            pep_id: asking.pep_id.to_owned(),
            pep_instance: asking.pep_instance.to_owned(),
            principal: asking.principal.into(),
            client: asking.client.clone(),
            context: asking.context.clone(),
            sql: asking.sql.to_owned(),
            sent_sql: decision.sql.clone(),
            bindings_sha256: bindings_sha256(asking.bindings_json),
            describe_only: asking.describe_only,
            statements: decision.statements.iter().map(StatementNote::from).collect(),
            disclosed: outputs().flat_map(|output| &output.sources).map(ToString::to_string).collect(),
            disclosed_opaque: outputs().any(|output| output.opaque),
            masks: decision.masks.iter().map(MaskNote::from).collect(),
            row_filters: decision
                .row_filters
                .iter()
                .map(|filter| RowFilterNote {
                    relation: filter.relation.to_string(),
                    condition: filter.condition.clone(),
                    policies: filter.policies.clone(),
                })
                .collect(),
            columns: decision.columns.iter().filter(|_| runs).map(|column| column_note(column, decision)).collect(),
            outcome: decision.outcome,
            reasons: decision.reasons.clone(),
            policies: decision.policies.clone(),
            bundle_version: asking.bundle_version.to_owned(),
            approval_id: asking.approval_id.map(str::to_owned),
            cached_from: None,
            journaled: false,
            ran: None,
        }
    }

    /// One more run under this decision, from a PEP's cache.
    #[must_use]
    pub fn repeated(&self, decision_id: &str, request_id: &str, pep_instance: &str, bindings_json: &str) -> Self {
        Self {
            decision_id: decision_id.to_owned(),
            request_id: request_id.to_owned(),
            pep_instance: pep_instance.to_owned(),
            bindings_sha256: bindings_sha256(bindings_json),
            cached_from: Some(self.decision_id.clone()),
            journaled: false,
            ran: None,
            ..self.clone()
        }
    }

    /// A run from a PEP's journal. What the text does is taken from the decision it ran under, if that is known and
    /// was about the same text; who, what and when are the journal's.
    pub fn journaled(run: &JournaledRun<'_>, under: Option<&Self>) -> Self {
        let under = under.filter(|under| under.sql == run.sql);
        let changed = run.sql != run.sent_sql;
        Self {
            decision_id: run.decision_id.to_owned(),
            session_id: run.session_id.to_owned(),
            request_id: run.request_id.to_owned(),
            pep_id: run.pep_id.to_owned(),
            pep_instance: run.pep_instance.to_owned(),
            principal: run.principal.into(),
            client: under.map(|under| under.client.clone()).unwrap_or_default(),
            context: run.context.clone(),
            sql: run.sql.to_owned(),
            sent_sql: Some(run.sent_sql.to_owned()),
            bindings_sha256: bindings_sha256(run.bindings_json),
            describe_only: under.is_some_and(|under| under.describe_only),
            statements: under.map(|under| under.statements.clone()).unwrap_or_default(),
            disclosed: under.map(|under| under.disclosed.clone()).unwrap_or_default(),
            disclosed_opaque: under.is_none_or(|under| under.disclosed_opaque),
            masks: under.map(|under| under.masks.clone()).unwrap_or_default(),
            row_filters: under.map(|under| under.row_filters.clone()).unwrap_or_default(),
            columns: under.map(|under| under.columns.clone()).unwrap_or_default(),
            outcome: if changed { Outcome::Mask } else { Outcome::Allow },
            reasons: under.map(|under| under.reasons.clone()).unwrap_or_default(),
            policies: under.map(|under| under.policies.clone()).unwrap_or_default(),
            bundle_version: run.bundle_version.to_owned(),
            approval_id: None,
            cached_from: Some(run.cached_from.to_owned()),
            journaled: true,
            ran: Some(run.ran),
        }
    }

    /// Whether a statement may be sent under it, so that an outcome is to follow.
    pub fn runs(&self) -> bool {
        match self.outcome {
            Outcome::Allow | Outcome::Mask => true,
            Outcome::Deny | Outcome::NeedsApproval => false,
        }
    }
}

impl From<&MaskedColumn> for MaskNote {
    fn from(masked: &MaskedColumn) -> Self {
        Self {
            column: masked.column.to_string(),
            mask: masked.mask.to_string(),
            policy: masked.policy.clone(),
            site: masked.mask.site(),
        }
    }
}

fn column_note(column: &ExplainedColumn, decision: &Decision) -> ColumnNote {
    let place = (column.statement, column.ordinal);
    let worn = decision.result_masks.iter().find(|worn| (worn.statement, worn.ordinal) == place);
    ColumnNote {
        statement: column.statement,
        ordinal: column.ordinal,
        name: column.name.clone(),
        sources: column.sources.iter().map(ToString::to_string).collect(),
        masks: column.masks.iter().map(MaskNote::from).collect(),
        result_mask: worn.map(|worn| worn.mask.to_string()),
        decided_by_masked: column.decided_by_masked.iter().map(ToString::to_string).collect(),
        opaque: column.opaque,
    }
}

impl From<&StatementAnalysis> for StatementNote {
    fn from(statement: &StatementAnalysis) -> Self {
        Self {
            kind: statement.kind,
            level: statement.level,
            effects: statement.effects.clone(),
            objects: statement
                .objects
                .iter()
                .map(|object| ObjectNote { kind: object.kind, name: object.name.to_string(), effect: object.effect })
                .collect(),
            columns_read: statement.columns_read.iter().map(ToString::to_string).collect(),
            exports: statement.exports.clone(),
            unresolved: statement.unresolved.clone(),
        }
    }
}

fn bindings_sha256(bindings_json: &str) -> Option<String> {
    (!bindings_json.is_empty()).then(|| sha256_hex(bindings_json.as_bytes()))
}
