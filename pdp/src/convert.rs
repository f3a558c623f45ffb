//! Between the contract's messages and the core's values.

use std::collections::BTreeMap;

use icegate_pdp_approval::{Approval, State};
use icegate_pdp_decision::BoundValues;
use icegate_pdp_model::{
    Agent, Assurance, ColumnName, Decision, Mask, MaskedOutput, Outcome, Principal, Reason, ResultMask, SessionContext,
    StatementAnalysis, Stops, Timestamp,
};
use icegate_proto::v1;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

pub(crate) fn principal(principal: &Principal) -> v1::Principal {
    v1::Principal {
        id: principal.id.clone(),
        issuer: principal.issuer.clone(),
        subject: principal.subject.clone(),
        groups: principal.groups.iter().cloned().collect(),
        agent: principal.agent.as_ref().map(agent),
    }
}

fn agent(agent: &Agent) -> v1::Agent {
    let assurance = match agent.assurance {
        Assurance::Unknown => v1::Assurance::Unspecified,
        Assurance::Inferred => v1::Assurance::Inferred,
        Assurance::Declared => v1::Assurance::Declared,
        Assurance::Attested => v1::Assurance::Attested,
    };
    v1::Agent { id: agent.id.clone(), assurance: assurance.into() }
}

pub(crate) fn reason(reason: &Reason) -> v1::Reason {
    v1::Reason {
        code: reason.code.as_str().to_owned(),
        policy_id: reason.policy.clone().unwrap_or_default(),
        message: reason.message.clone(),
    }
}

pub(crate) fn reasons(reasons: &[Reason]) -> Vec<v1::Reason> {
    reasons.iter().map(reason).collect()
}

/// The contract writes "none set" as an empty text.
pub(crate) fn context_in(context: Option<v1::SessionContext>) -> SessionContext {
    let v1::SessionContext { database, schema, role, warehouse } = context.unwrap_or_default();
    let set = |name: String| Some(name).filter(|name| !name.is_empty());
    SessionContext { database: set(database), schema: set(schema), role: set(role), warehouse: set(warehouse) }
}

pub(crate) fn context(context: &SessionContext) -> v1::SessionContext {
    let text = |name: &Option<String>| name.clone().unwrap_or_default();
    v1::SessionContext {
        database: text(&context.database),
        schema: text(&context.schema),
        role: text(&context.role),
        warehouse: text(&context.warehouse),
    }
}

pub(crate) fn outcome(outcome: Outcome) -> v1::Outcome {
    match outcome {
        Outcome::Deny => v1::Outcome::Deny,
        Outcome::NeedsApproval => v1::Outcome::NeedsApproval,
        Outcome::Mask => v1::Outcome::Mask,
        Outcome::Allow => v1::Outcome::Allow,
    }
}

/// The bound values of a request, as far as they can be names: texts, when they are numbered from 1 without a gap, or all have
/// names that are different in any spelling.
pub(crate) fn bound_values(bindings_json: &str) -> BoundValues {
    let Ok(Value::Object(bindings)) = serde_json::from_str(bindings_json) else { return BoundValues::default() };
    let value = |position: usize| bindings.get(&position.to_string());
    if let Some(values) = (1..=bindings.len()).map(value).collect::<Option<Vec<_>>>() {
        return BoundValues::Numbered(values.into_iter().map(|value| text(value).map(str::to_owned)).collect());
    }
    let named = |(name, value): (&String, &Value)| {
        let letter =
            |at: usize, byte: u8| byte == b'_' || byte.is_ascii_alphabetic() || at > 0 && byte.is_ascii_digit();
        let plain = !name.is_empty() && name.bytes().enumerate().all(|(at, byte)| letter(at, byte));
        plain.then(|| (name.to_ascii_uppercase(), text(value).map(str::to_owned)))
    };
    match bindings.iter().map(named).collect::<Option<BTreeMap<_, _>>>() {
        Some(values) if values.len() == bindings.len() => BoundValues::Named(values),
        Some(_) | None => BoundValues::default(),
    }
}

/// One bound value, when it is a plain text and nothing else is said of it.
fn text(binding: &Value) -> Option<&str> {
    let fields = binding.as_object()?;
    let plain = fields.iter().all(|(key, value)| matches!(key.as_str(), "type" | "value") || value.is_null());
    let typed = fields.get("type").and_then(Value::as_str) == Some("TEXT");
    fields.get("value").and_then(Value::as_str).filter(|_| plain && typed)
}

/// The bound values at these positions, such that it is equal for equal values.
pub(crate) fn bound_at(bindings_json: &str, positions: &[u32]) -> Option<[u8; 32]> {
    if positions.is_empty() {
        return None;
    }
    let bindings: Value = serde_json::from_str(bindings_json).unwrap_or_default();
    let values: Vec<_> = positions.iter().map(|position| (position, bindings.get(position.to_string()))).collect();
    Some(Sha256::digest(serde_json::json!(values).to_string()).into())
}

/// The decision's own part of an answer; what belongs to the request is the caller's to add.
pub(crate) fn decision(decision: &Decision) -> v1::DecideResponse {
    v1::DecideResponse {
        outcome: outcome(decision.outcome).into(),
        sql: decision.sql.clone().unwrap_or_default(),
        reasons: reasons(&decision.reasons),
        masks: decision
            .masks
            .iter()
            .map(|masked| v1::MaskedColumn {
                column: masked.column.to_string(),
                mask: masked.mask.to_string(),
                policy_id: masked.policy.clone(),
            })
            .collect(),
        policy_ids: decision.policies.iter().cloned().collect(),
        session_changes: decision
            .session_changes()
            .map(|change| v1::SessionChange { name: change.name.clone(), value: change.value.clone() })
            .collect(),
        statement_kinds: decision.statements.iter().map(|statement| statement.kind.to_string()).collect(),
        result_shapes: decision.statements.iter().map(result_shape).collect(),
        result_masks: decision.result_masks.iter().map(result_mask).collect(),
        names_bound: decision.names_bound.clone(),
        stop: decision.statements.iter().find_map(|statement| statement.stops.as_ref()).map(stop),
        ..Default::default()
    }
}

fn stop(stops: &Stops) -> v1::Stop {
    use v1::stop::Of;
    let of = match stops {
        Stops::Query(id) => Of::QueryId(id.clone()),
        Stops::Session(number) => Of::SessionNumber(*number),
    };
    v1::Stop { of: Some(of) }
}

/// A mask that is none of the result's goes as one that nobody knows: the PEP refuses it.
fn result_mask(worn: &MaskedOutput) -> v1::ResultMask {
    use v1::result_mask::{FormatPreserving, Mask as Worn, Scan, Tokenize};
    // Without a domain, tokens are the column's own.
    let domain = |domain: &Option<String>, column: &ColumnName| match domain {
        Some(shared) => format!("domain {shared}"),
        None => format!("column {column}"),
    };
    let mask = match &worn.mask {
        Mask::Result(ResultMask::Tokenize { key, domain: of }) => {
            Some(Worn::Tokenize(Tokenize { key: key.clone(), domain: domain(of, &worn.column) }))
        }
        Mask::Result(ResultMask::Fpe { key, domain: of, alphabet }) => Some(Worn::FormatPreserving(FormatPreserving {
            key: key.clone(),
            domain: domain(of, &worn.column),
            alphabet: alphabet.as_str().to_owned(),
        })),
        Mask::Result(ResultMask::Scan { detectors }) => {
            Some(Worn::Scan(Scan { detectors: detectors.iter().map(|it| it.as_str().to_owned()).collect() }))
        }
        Mask::Null
        | Mask::Redact { .. }
        | Mask::Constant { .. }
        | Mask::Hash
        | Mask::Email
        | Mask::Phone
        | Mask::Card
        | Mask::Partial { .. }
        | Mask::Year
        | Mask::Truncate { .. }
        | Mask::Round { .. }
        | Mask::Bucket { .. }
        | Mask::Sql { .. } => None,
    };
    v1::ResultMask { statement: worn.statement, ordinal: worn.ordinal, column: worn.column.to_string(), mask }
}

fn result_shape(statement: &StatementAnalysis) -> v1::ResultShape {
    let promised = statement.promised_columns();
    let name = |name: Option<&str>| name.unwrap_or_default().to_owned();
    v1::ResultShape { promised: promised.is_some(), columns: promised.into_iter().flatten().map(name).collect() }
}

pub(crate) fn approval_state(state: State) -> v1::ApprovalState {
    match state {
        State::Pending => v1::ApprovalState::Pending,
        State::Approved => v1::ApprovalState::Approved,
        State::Rejected => v1::ApprovalState::Rejected,
        State::Expired => v1::ApprovalState::Expired,
        State::Cancelled => v1::ApprovalState::Cancelled,
        State::Consumed => v1::ApprovalState::Consumed,
    }
}

/// An approval as it stands at `now`, so that one nobody has touched since its time ran out shows as expired.
pub(crate) fn approval(approval: &Approval, now: Timestamp) -> v1::Approval {
    v1::Approval {
        approval_id: approval.id.clone(),
        state: approval_state(approval.state_at(now)).into(),
        requester: Some(principal(&approval.requester)),
        session_id: approval.session_id.clone(),
        decision_id: approval.decision_id.clone(),
        sql: approval.sql.clone(),
        context: Some(context(&approval.context)),
        groups: approval.groups.iter().cloned().collect(),
        votes: approval
            .votes
            .iter()
            .map(|vote| v1::Vote {
                group: vote.group.clone(),
                approver: vote.approver.id.clone(),
                approve: vote.approve,
                comment: vote.comment.clone(),
                at_unix_ms: vote.at.0,
            })
            .collect(),
        reasons: reasons(&approval.reasons),
        created_unix_ms: approval.created.0,
        approve_by_unix_ms: approval.approve_by.0,
        execute_by_unix_ms: approval.execute_by.map_or(0, |at| at.0),
        statement_sha256: approval.statement_sha256.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_texts_in_their_places_can_be_names() {
        let owned = |text: Option<&str>| text.map(str::to_owned);
        let texts = |texts: &[Option<&str>]| BoundValues::Numbered(texts.iter().copied().map(owned).collect());
        let named = |texts: &[(&str, Option<&str>)]| {
            BoundValues::Named(texts.iter().map(|(name, text)| ((*name).to_owned(), owned(*text))).collect())
        };
        for (json, wanted) in [
            ("", texts(&[])),
            (r#"{"1":{"type":"TEXT","value":"t"}}"#, texts(&[Some("t")])),
            (
                r#"{"2":{"type":"FIXED","value":"5"},"1":{"fmt":null,"type":"TEXT","value":"t"}}"#,
                texts(&[Some("t"), None]),
            ),
            (r#"{"1":{"type":"TEXT","value":["t"]}}"#, texts(&[None])),
            (r#"{"1":{"type":"TEXT","value":null}}"#, texts(&[None])),
            (r#"{"1":{"type":"TEXT","value":"t","fmt":"x"}}"#, texts(&[None])),
            (r#"{"1":{"value":"t"}}"#, texts(&[None])),
            (r#"{"2":{"type":"TEXT","value":"t"}}"#, texts(&[])),
            (r#"{"01":{"type":"TEXT","value":"t"}}"#, texts(&[])),
            (
                r#"{"NAME":{"type":"TEXT","value":"t"},"b_2":{"type":"FIXED","value":"1"}}"#,
                named(&[("NAME", Some("t")), ("B_2", None)]),
            ),
            // Which of them is meant, and by whom, is not known.
            (r#"{"NAME":{"type":"TEXT","value":"t"},"name":{"type":"TEXT","value":"u"}}"#, texts(&[])),
            (r#"{"NAME":{"type":"TEXT","value":"t"},"1":{"type":"TEXT","value":"u"}}"#, texts(&[])),
            (r#"{"1":{"type":"TEXT","value":"t"},"NAME":{"type":"TEXT","value":"u"}}"#, texts(&[])),
            (r#"{"na me":{"type":"TEXT","value":"t"}}"#, texts(&[])),
            (r#"{"":{"type":"TEXT","value":"t"}}"#, texts(&[])),
            (r#"{"ſ":{"type":"TEXT","value":"t"}}"#, texts(&[])),
            (r#"[{"type":"TEXT","value":"t"}]"#, texts(&[])),
        ] {
            assert_eq!(bound_values(json), wanted, "{json}");
        }
    }

    #[test]
    fn values_at_a_position_are_told_apart() {
        let one = r#"{"1":{"type":"TEXT","value":"t"},"2":{"type":"TEXT","value":"a"}}"#;
        let other = r#"{"1":{"type":"TEXT","value":"t"},"2":{"type":"TEXT","value":"b"}}"#;
        assert_eq!(bound_at(one, &[1]), bound_at(other, &[1]));
        assert_ne!(bound_at(one, &[2]), bound_at(other, &[2]));
        assert_ne!(bound_at(one, &[1]), bound_at("", &[1]));
        assert_eq!(bound_at(one, &[]), None);
    }
}
