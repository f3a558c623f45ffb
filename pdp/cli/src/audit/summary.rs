use std::{collections::BTreeSet, fmt::Write as _};

use icegate_pdp_audit::{CutEvent, CutReason, DecisionEvent, Event, OutcomeEvent, Record, Who};

use crate::{show, time};

/// Most objects a table row names.
const OBJECTS_MAX: usize = 3;

/// One record, with how it ended and whether its result was cut, as a row of a table.
pub(super) struct Summary {
    seq: u64,
    at: i64,
    user: String,
    agent: String,
    outcome: String,
    run: String,
    rows: String,
    objects: String,
    statement: String,
}

impl Summary {
    pub(super) fn of(record: &Record, outcome: Option<&Record>, cut: bool) -> Self {
        let ended = outcome.and_then(|record| match &record.event {
            Event::Outcome(outcome) => Some(outcome),
            _ => None,
        });
        let who = who(&record.event);
        let (objects, statement) = match &record.event {
            Event::Decision(decision) => (objects(decision), show::statement(&decision.sql)),
            Event::Outcome(outcome) => (String::new(), format!("decision {}", outcome.decision_id)),
            other => (String::new(), note(other)),
        };
        let run = match (&record.event, ended) {
            (Event::Outcome(ended), _) | (Event::Decision(_), Some(ended)) => ended.status.to_string(),
            (Event::Decision(decision), None) if decision.sent_sql.is_some() => "not known yet".into(),
            _ => "-".into(),
        };
        Self {
            seq: record.seq,
            at: record.at.0,
            user: who.map_or_else(|| "-".into(), |who| who.id.clone()),
            agent: agent(who),
            outcome: match &record.event {
                Event::Decision(decision) => decision.outcome.to_string(),
                other => other.kind().to_owned(),
            },
            run: if cut { format!("{run}, cut") } else { run },
            rows: match (&record.event, ended) {
                (Event::Outcome(ended), _) | (_, Some(ended)) => rows(ended),
                _ => "-".into(),
            },
            objects,
            statement,
        }
    }

    pub(super) fn row(self) -> Vec<String> {
        let at = time::format(self.at);
        let record = self.seq.to_string();
        vec![record, at, self.user, self.agent, self.outcome, self.run, self.rows, self.objects, self.statement]
    }
}

/// One record in full, a line for each fact.
pub(super) fn details(record: &Record) -> String {
    let mut facts: Vec<(&str, String)> = vec![
        ("record", record.seq.to_string()),
        ("time", time::format(record.at.0)),
        ("what", record.event.kind().to_owned()),
    ];
    if let Some(who) = who(&record.event) {
        facts.push(("user", who.id.clone()));
        facts.push((
            "agent",
            match &who.agent {
                None => agent(Some(who)),
                Some(agent) => format!("{} ({})", agent.id, who.provenance.as_str()),
            },
        ));
        facts.push(("groups", show::list(&who.groups)));
    }
    let mut statements = Vec::new();
    match &record.event {
        Event::Decision(decision) => decided(decision, &mut facts, &mut statements),
        Event::Outcome(outcome) => {
            facts.push(("decision", outcome.decision_id.clone()));
            facts.push(("status", outcome.status.to_string()));
            facts.push(("rows", rows(outcome)));
            facts.push(("query id", outcome.query_id.clone().unwrap_or_else(|| "-".into())));
            facts.push(("took", format!("{} ms", outcome.duration_ms)));
            facts.extend(outcome.delivery.map(|delivery| ("delivery", delivery.as_str().to_owned())));
            facts.extend(outcome.error_code.iter().map(|code| ("error", code.clone())));
        }
        Event::DeliveryCut(cut) => {
            facts.push(("decision", cut.decision_id.clone()));
            facts.push(("query id", cut.query_id.clone().unwrap_or_else(|| "-".into())));
            facts.push(("part", cut.part.to_string()));
            facts.push(("reason", why(cut).to_owned()));
        }
        other => facts.push(("note", note(other))),
    }
    let mut text = String::new();
    // Writing to a String cannot fail.
    for (name, value) in &facts {
        let _ = writeln!(text, "{name:<12}{}", show::visible(value));
    }
    for (title, sql) in statements {
        let _ = write!(text, "\n{title} (hidden characters are shown as escapes):\n\n{}", show::visible_lines(sql));
    }
    text
}

fn decided<'a>(
    decision: &'a DecisionEvent,
    facts: &mut Vec<(&'static str, String)>,
    statements: &mut Vec<(&'static str, &'a str)>,
) {
    facts.push(("decision", decision.decision_id.clone()));
    facts.push(("session", decision.session_id.clone()));
    facts.push(("outcome", decision.outcome.to_string()));
    facts.push((
        "objects",
        show::list(decision.statements.iter().flat_map(|statement| {
            statement.objects.iter().map(|object| format!("{} {} ({})", object.kind, object.name, object.effect))
        })),
    ));
    facts.push(("columns", show::list(decision.statements.iter().flat_map(|statement| &statement.columns_read))));
    facts.push(("disclosed", show::list(&decision.disclosed)));
    facts.push(("masks", show::list(decision.masks.iter().map(|mask| format!("{} as {}", mask.column, mask.mask)))));
    facts.push(("policies", show::list(&decision.policies)));
    facts.extend(decision.reasons.iter().map(|reason| ("reason", format!("{} [{}]", reason.message, reason.code))));
    facts.extend(decision.approval_id.iter().map(|id| ("approval", id.clone())));
    facts.extend(decision.cached_from.iter().map(|id| ("repeats", id.clone())));
    facts.push(("bundle", decision.bundle_version.clone()));
    statements.push(("asked", &decision.sql));
    if let Some(sent) = &decision.sent_sql
        && *sent != decision.sql
    {
        statements.push(("sent", sent));
    }
}

/// Who a record is about: the principal, or the person who did something to somebody.
fn who(event: &Event) -> Option<&Who> {
    match event {
        Event::SessionOpened { principal, .. }
        | Event::SessionClosed { principal, .. }
        | Event::ApprovalRequested { principal, .. } => Some(principal),
        Event::SessionRefused { principal, .. } => principal.as_ref(),
        Event::Decision(decision) => Some(&decision.principal),
        Event::SessionRevoked { by, .. }
        | Event::ApprovalVoted { by, .. }
        | Event::ApprovalVoteRefused { by, .. }
        | Event::AuditRead { by, .. } => Some(by),
        Event::Outcome(_)
        | Event::DeliveryCut(_)
        | Event::ApprovalCancelled { .. }
        | Event::ApprovalExpired { .. }
        | Event::ApprovalConsumed { .. }
        | Event::BundleLoaded { .. }
        | Event::BundleRefused { .. }
        | Event::ServiceStarted { .. }
        | Event::RecordingResumed { .. }
        | Event::ServiceStopped { .. } => None,
    }
}

/// The agent; nothing known of it is "unknown", never "a human".
fn agent(who: Option<&Who>) -> String {
    match who {
        None => "-".into(),
        Some(who) => who.agent.as_ref().map_or_else(|| "unknown".into(), |agent| agent.id.clone()),
    }
}

/// What happened, where it is no statement.
fn note(event: &Event) -> String {
    match event {
        Event::SessionOpened { session_id, client, .. } => {
            format!("session {session_id}, {} {} from {}", client.app_id, client.app_version, client.address)
        }
        Event::SessionRefused { login_name, reason, .. } => {
            let name = if login_name.is_empty() { "no login name" } else { login_name };
            format!("{name}: {} [{}]", reason.message, reason.code)
        }
        Event::SessionClosed { session_id, .. } => format!("session {session_id}"),
        Event::SessionRevoked { principal_id, session_ids, not_before, comment, .. } => {
            let tokens = if not_before.is_some() { " and every token until now" } else { "" };
            format!("{} of {principal_id}{tokens}: {comment}", show::count(session_ids.len(), "session"))
        }
        Event::Decision(decision) => show::statement(&decision.sql),
        Event::Outcome(outcome) => format!("decision {}", outcome.decision_id),
        Event::DeliveryCut(cut) => format!("decision {}, part {}: {}", cut.decision_id, cut.part, why(cut)),
        Event::ApprovalRequested { approval_id, groups, .. } => {
            format!("approval {approval_id} by {}", show::list(groups))
        }
        Event::ApprovalVoted { approval_id, group, approve, comment, state, .. } => {
            let verb = if *approve { "approved" } else { "rejected" };
            format!("{verb} {approval_id} for {group}, now {state}: {comment}")
        }
        Event::ApprovalVoteRefused { approval_id, code, .. } => format!("approval {approval_id} [{code}]"),
        Event::ApprovalCancelled { approval_id, .. }
        | Event::ApprovalExpired { approval_id, .. }
        | Event::ApprovalConsumed { approval_id, .. } => format!("approval {approval_id}"),
        Event::BundleLoaded { version, previous } => match previous {
            Some(previous) => format!("bundle {version} after {previous}"),
            None => format!("bundle {version}"),
        },
        Event::BundleRefused { reason, .. } => reason.clone(),
        Event::AuditRead { operation, filters, .. } => {
            let filters = filters.iter().map(|(name, value)| format!("{name}={value}"));
            format!("{operation} {}", show::list(filters))
        }
        Event::ServiceStarted { version, bundle_version, .. } => format!("icegate {version}, bundle {bundle_version}"),
        Event::RecordingResumed { instance } | Event::ServiceStopped { instance } => format!("instance {instance}"),
    }
}

/// Why a part was cut, and what that means.
fn why(cut: &CutEvent) -> &'static str {
    match cut.reason {
        CutReason::Masking => "it could not be masked, so the client did not get all of it [masking]",
    }
}

fn rows(outcome: &OutcomeEvent) -> String {
    outcome.rows.map_or_else(|| "-".into(), |rows| rows.to_string())
}

/// The objects' names, each once; the rest counted.
fn objects(decision: &DecisionEvent) -> String {
    let names: BTreeSet<&str> = decision
        .statements
        .iter()
        .flat_map(|statement| statement.objects.iter().map(|object| object.name.as_str()))
        .collect();
    let more = names.len().saturating_sub(OBJECTS_MAX);
    let mut text = show::list(names.into_iter().take(OBJECTS_MAX));
    if more > 0 {
        // Writing to a String cannot fail.
        let _ = write!(text, " and {more} more");
    }
    text
}
