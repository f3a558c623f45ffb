use std::{fmt::Write as _, io::Write};

use icegate_proto::v1::{
    Approval, ApprovalState, ApproveRequest, Assurance, GetApprovalRequest, ListApprovalsRequest, Principal, Reason,
    RejectRequest, SessionContext, approval_service_client::ApprovalServiceClient,
};
use serde_json::{Value, json};

use crate::{
    args::{ApprovalsCommand, Connection},
    connect::{connect, refused},
    exit::{Exit, Failure},
    progress, show, time,
};

pub(crate) async fn run(
    command: ApprovalsCommand,
    connection: &Connection,
    out: &mut dyn Write,
) -> Result<Exit, Failure> {
    let mut client = ApprovalServiceClient::new(connect(connection).await?);
    match command {
        ApprovalsCommand::List { all, limit, json } => {
            let request = ListApprovalsRequest { all, limit };
            let asked = progress::wait("asking for approvals", client.list_approvals(request)).await;
            let approvals = asked.map_err(|status| refused(&status))?.into_inner().approvals;
            list(&approvals, json, out)?;
        }
        ApprovalsCommand::Show { id, json } => {
            let request = GetApprovalRequest { approval_id: id };
            let asked = progress::wait("asking for the approval", client.get_approval(request)).await;
            let approval = asked.map_err(|status| refused(&status))?.into_inner().approval;
            let approval = present(approval)?;
            if json { writeln!(out, "{}", to_json(&approval))? } else { write!(out, "{}", to_text(&approval))? }
        }
        ApprovalsCommand::Approve { id, comment } => {
            let request = ApproveRequest { approval_id: id, comment };
            let asked = progress::wait("approving", client.approve(request)).await;
            let approval = asked.map_err(|status| refused(&status))?.into_inner().approval;
            writeln!(out, "{}", after_vote(&present(approval)?))?;
        }
        ApprovalsCommand::Reject { id, comment } => {
            let request = RejectRequest { approval_id: id, comment };
            let asked = progress::wait("rejecting", client.reject(request)).await;
            let approval = asked.map_err(|status| refused(&status))?.into_inner().approval;
            writeln!(out, "{}", after_vote(&present(approval)?))?;
        }
    }
    Ok(Exit::Ok)
}

fn present(approval: Option<Approval>) -> Result<Approval, Failure> {
    approval.ok_or_else(|| Failure::new(Exit::Internal, "the PDP answered without the approval"))
}

fn list(approvals: &[Approval], json: bool, out: &mut dyn Write) -> Result<(), Failure> {
    if json {
        for approval in approvals {
            writeln!(out, "{}", to_json(approval))?;
        }
        return Ok(());
    }
    if approvals.is_empty() {
        writeln!(out, "Nothing waits for you.")?;
        return Ok(());
    }
    let rows = approvals.iter().map(|approval| {
        vec![
            approval.approval_id.clone(),
            word(approval.state()).to_owned(),
            name(approval.requester.as_ref()),
            agent(approval.requester.as_ref()),
            show::list(&approval.groups),
            time::format(approval.approve_by_unix_ms),
            show::statement(&approval.sql),
        ]
    });
    let head = ["approval", "state", "user", "agent", "groups", "approve by", "statement"];
    write!(out, "{}", show::table(&head, rows))?;
    Ok(())
}

/// What the vote did, and what comes next.
fn after_vote(approval: &Approval) -> String {
    let id = show::visible(&approval.approval_id);
    match approval.state() {
        ApprovalState::Approved => {
            format!("Approved: {id} may run once until {}.", time::format(approval.execute_by_unix_ms))
        }
        ApprovalState::Rejected => format!("Rejected: {id} will not run."),
        ApprovalState::Pending => {
            let missing = approval
                .groups
                .iter()
                .filter(|group| !approval.votes.iter().any(|vote| vote.approve && vote.group == **group));
            format!("Recorded: {id} still waits for {}.", show::visible(&show::list(missing)))
        }
        ApprovalState::Consumed => format!("Approved: {id} has run."),
        state @ (ApprovalState::Unspecified | ApprovalState::Expired | ApprovalState::Cancelled) => {
            format!("{id} is {}.", word(state))
        }
    }
}

fn to_text(approval: &Approval) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{name:<12}{}", show::visible(&value));
    };
    line("approval", approval.approval_id.clone());
    line("state", word(approval.state()).to_owned());
    line("user", name(approval.requester.as_ref()));
    line("agent", agent(approval.requester.as_ref()));
    line("session", approval.session_id.clone());
    line("decision", approval.decision_id.clone());
    let context = approval.context.clone().unwrap_or_default();
    line("database", or_dash(&context.database));
    line("schema", or_dash(&context.schema));
    line("role", or_dash(&context.role));
    line("warehouse", or_dash(&context.warehouse));
    line("groups", show::list(&approval.groups));
    line("asked", time::format(approval.created_unix_ms));
    line("approve by", time::format(approval.approve_by_unix_ms));
    if approval.execute_by_unix_ms > 0 {
        line("run by", time::format(approval.execute_by_unix_ms));
    }
    line("statement", format!("sha256:{}", approval.statement_sha256));
    for reason in &approval.reasons {
        line("reason", reason_text(reason));
    }
    for vote in &approval.votes {
        let verb = if vote.approve { "approved" } else { "rejected" };
        let at = time::format(vote.at_unix_ms);
        line("vote", format!("{} {verb} for {} at {at}: {}", vote.approver, vote.group, or_dash(&vote.comment)));
    }
    text.push_str("\nexactly this would run (hidden characters are shown as escapes):\n\n");
    text.push_str(&show::visible_lines(&approval.sql));
    text
}

fn to_json(approval: &Approval) -> Value {
    json!({
        "approval_id": approval.approval_id,
        "state": word(approval.state()),
        "requester": approval.requester.as_ref().map(principal_json),
        "session_id": approval.session_id,
        "decision_id": approval.decision_id,
        "sql": approval.sql,
        "context": approval.context.as_ref().map(context_json),
        "groups": approval.groups,
        "votes": approval.votes.iter().map(|vote| json!({
            "group": vote.group,
            "approver": vote.approver,
            "approve": vote.approve,
            "comment": vote.comment,
            "at": time::format(vote.at_unix_ms),
        })).collect::<Vec<_>>(),
        "reasons": approval.reasons.iter().map(|reason| json!({
            "code": reason.code, "policy": reason.policy_id, "message": reason.message,
        })).collect::<Vec<_>>(),
        "created": time::format(approval.created_unix_ms),
        "approve_by": time::format(approval.approve_by_unix_ms),
        "execute_by": (approval.execute_by_unix_ms > 0).then(|| time::format(approval.execute_by_unix_ms)),
        "statement_sha256": approval.statement_sha256,
    })
}

pub(crate) fn principal_json(principal: &Principal) -> Value {
    json!({
        "id": principal.id,
        "issuer": principal.issuer,
        "subject": principal.subject,
        "groups": principal.groups,
        "agent": principal.agent.as_ref().map(|agent| json!({
            "id": agent.id, "assurance": assurance(agent.assurance()),
        })),
    })
}

fn context_json(context: &SessionContext) -> Value {
    json!({
        "database": context.database, "schema": context.schema, "role": context.role, "warehouse": context.warehouse,
    })
}

/// The principal's id.
pub(crate) fn name(principal: Option<&Principal>) -> String {
    principal.map_or_else(|| "-".into(), |principal| principal.id.clone())
}

/// The agent's id. Nothing known of it is "unknown", never "a human".
pub(crate) fn agent(principal: Option<&Principal>) -> String {
    principal.and_then(|principal| principal.agent.as_ref()).map_or_else(|| "unknown".into(), |agent| agent.id.clone())
}

fn assurance(assurance: Assurance) -> &'static str {
    match assurance {
        Assurance::Unspecified => "unknown",
        Assurance::Inferred => "inferred",
        Assurance::Declared => "declared",
        Assurance::Attested => "attested",
    }
}

fn reason_text(reason: &Reason) -> String {
    if reason.policy_id.is_empty() {
        format!("{} [{}]", reason.message, reason.code)
    } else {
        format!("{} (policy `{}`) [{}]", reason.message, reason.policy_id, reason.code)
    }
}

fn or_dash(text: &str) -> String {
    if text.is_empty() { "-".into() } else { text.into() }
}

fn word(state: ApprovalState) -> &'static str {
    match state {
        ApprovalState::Unspecified => "in a state this version does not know",
        ApprovalState::Pending => "pending",
        ApprovalState::Approved => "approved",
        ApprovalState::Rejected => "rejected",
        ApprovalState::Expired => "expired",
        ApprovalState::Cancelled => "cancelled",
        ApprovalState::Consumed => "consumed",
    }
}

#[cfg(test)]
mod tests {
    use icegate_proto::v1::{Agent, Vote};

    use super::*;

    fn approval() -> Approval {
        Approval {
            approval_id: "0198f0aa-0000-7000-8000-000000000001".into(),
            state: ApprovalState::Pending.into(),
            requester: Some(Principal {
                id: "corp/ana".into(),
                agent: Some(Agent { id: "github-copilot".into(), assurance: Assurance::Attested.into() }),
                ..Principal::default()
            }),
            sql: "DELETE FROM orders\nWHERE id = 7 -- \u{202e}harmless".into(),
            groups: vec!["data-stewards".into(), "finance".into()],
            votes: vec![Vote {
                group: "finance".into(),
                approver: "corp/fin".into(),
                approve: true,
                comment: "checked".into(),
                at_unix_ms: 1_790_000_060_000,
            }],
            reasons: vec![Reason {
                code: "POLICY-APPROVAL".into(),
                policy_id: "agent-writes".into(),
                message: "An AI agent's write needs a person's approval.".into(),
            }],
            created_unix_ms: 1_790_000_000_000,
            approve_by_unix_ms: 1_790_000_900_000,
            ..Approval::default()
        }
    }

    #[test]
    fn an_approval_reads_well() {
        insta::assert_snapshot!("approval_text", to_text(&approval()));
        insta::assert_snapshot!("approval_json", serde_json::to_string_pretty(&to_json(&approval())).unwrap());
        let mut table = Vec::new();
        list(&[approval()], false, &mut table).unwrap();
        insta::assert_snapshot!("approval_table", String::from_utf8(table).unwrap());
    }

    #[test]
    fn a_vote_says_what_comes_next() {
        let with = |state: ApprovalState| after_vote(&Approval { state: state.into(), ..approval() });
        assert!(with(ApprovalState::Pending).ends_with("still waits for data-stewards."));
        assert!(with(ApprovalState::Rejected).ends_with("will not run."));
        let approved =
            Approval { state: ApprovalState::Approved.into(), execute_by_unix_ms: 1_790_000_600_000, ..approval() };
        assert!(
            after_vote(&approved).ends_with("may run once until 2026-09-21T14:23:20Z."),
            "{}",
            after_vote(&approved)
        );
    }
}
