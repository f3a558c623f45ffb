use std::time::Duration;

use icegate_proto::v1::{
    ApprovalState, ApproveRequest, CancelApprovalRequest, CloseSessionRequest, DecideResponse, GetApprovalRequest,
    ListApprovalsRequest, Outcome, RejectRequest, RevokeSessionsRequest, SearchRecordsRequest, WaitApprovalRequest,
    revoke_sessions_request::Target,
};
use tonic::Code;

use crate::stand::{AGENT, ANA, ENGINEER, Person, STELLA, Stand, code_of};

const OTHER_STEWARD: Person<'_> = Person { name: "otto", ..STELLA };

const SQL: &str = "DELETE FROM sales.public.orders WHERE id = 7";

fn approval_id(answer: &DecideResponse) -> String {
    answer.approval.as_ref().unwrap_or_else(|| panic!("{answer:?}")).approval_id.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_statement_runs_once_when_somebody_else_approves() {
    let stand = Stand::start().await;
    let agent = stand.session(AGENT).await;
    let held = stand.decide(&agent, SQL).await;
    assert_eq!(held.outcome(), Outcome::NeedsApproval, "{held:?}");
    let id = approval_id(&held);
    assert_eq!(approval_id(&stand.decide(&agent, SQL).await), id, "a retry waits for the same request");
    assert_ne!(approval_id(&stand.decide(&agent, &format!("{SQL} ")).await), id);

    let too_early = stand.decide_with(&agent, SQL, &id).await;
    assert_eq!((too_early.outcome(), code_of(&too_early)), (Outcome::Deny, "POLICY-APPROVAL"));

    let approve = |comment: &str| ApproveRequest { approval_id: id.clone(), comment: comment.into() };
    for (who, wanted) in [(AGENT, Code::PermissionDenied), (ENGINEER, Code::PermissionDenied), (ANA, Code::NotFound)] {
        let status = stand.approvals().approve(stand.by(who, approve(""))).await.unwrap_err();
        assert_eq!(status.code(), wanted, "{status}");
    }

    let wait = WaitApprovalRequest { approval_id: id.clone(), timeout_ms: 30_000 };
    let mut waiting = stand.approvals();
    let waiting = tokio::spawn(async move { waiting.wait_approval(wait).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let approved = stand.approvals().approve(stand.by(STELLA, approve("looks right"))).await.unwrap().into_inner();
    assert_eq!(approved.approval.unwrap().state(), ApprovalState::Approved);
    let heard = tokio::time::timeout(Duration::from_secs(5), waiting).await.unwrap().unwrap().unwrap().into_inner();
    let heard = heard.approval.unwrap();
    assert_eq!(heard.state(), ApprovalState::Approved);
    assert_eq!((heard.votes[0].approver.as_str(), heard.votes[0].comment.as_str()), ("dev/stella", "looks right"));

    let other = stand.decide_with(&agent, "DELETE FROM sales.public.orders WHERE id = 8", &id).await;
    assert_eq!((other.outcome(), code_of(&other)), (Outcome::Deny, "APPROVAL-UNUSABLE"));
    let ran = stand.decide_with(&agent, SQL, &id).await;
    assert_eq!((ran.outcome(), ran.sql.as_str()), (Outcome::Allow, SQL), "{ran:?}");
    assert_eq!(ran.cacheable_seconds, 0, "one approval is one run");
    let again = stand.decide_with(&agent, SQL, &id).await;
    assert_eq!((again.outcome(), code_of(&again)), (Outcome::Deny, "APPROVAL-UNUSABLE"));

    let trail = stand.search(SearchRecordsRequest { decision_id: held.decision_id, ..Default::default() }).await;
    let kinds: Vec<&str> = trail.iter().rev().map(|record| record["event"]["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds[..2], ["decision", "approval-requested"]);
    assert_eq!(kinds.iter().filter(|kind| **kind == "approval-vote-refused").count(), 2);
    assert_eq!(kinds.last(), Some(&"approval-voted"));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_one_of_many_uses_an_approval() {
    let stand = Stand::start().await;
    let agent = stand.session(AGENT).await;
    let id = approval_id(&stand.decide(&agent, SQL).await);
    let approve = ApproveRequest { approval_id: id.clone(), ..Default::default() };
    stand.approvals().approve(stand.by(STELLA, approve)).await.unwrap();
    let runs = futures::future::join_all((0..8).map(|_| stand.decide_with(&agent, SQL, &id))).await;
    assert_eq!(runs.iter().filter(|run| run.outcome() == Outcome::Allow).count(), 1);
    assert_eq!(runs.iter().filter(|run| code_of(run) == "APPROVAL-UNUSABLE").count(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_seen_by_those_they_concern() {
    let stand = Stand::start().await;
    let agent = stand.session(AGENT).await;
    let id = approval_id(&stand.decide(&agent, SQL).await);
    for (who, wanted) in [(STELLA, 1), (ENGINEER, 1), (AGENT, 1), (ANA, 0)] {
        let list = stand.by(who, ListApprovalsRequest::default());
        let seen = stand.approvals().list_approvals(list).await.unwrap().into_inner().approvals;
        assert_eq!(seen.len(), wanted, "{} {:?}", who.name, who.agent);
        let get = stand.by(who, GetApprovalRequest { approval_id: id.clone() });
        assert_eq!(stand.approvals().get_approval(get).await.is_ok(), wanted == 1, "{}", who.name);
    }
    let status = stand.approvals().list_approvals(ListApprovalsRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test(flavor = "multi_thread")]
async fn rejected_cancelled_and_waited_for_in_vain() {
    let stand = Stand::start().await;
    let agent = stand.session(AGENT).await;
    let rejected = approval_id(&stand.decide(&agent, SQL).await);
    let reject = RejectRequest { approval_id: rejected.clone(), comment: "no".into() };
    stand.approvals().reject(stand.by(STELLA, reject.clone())).await.unwrap();
    let twice = stand.approvals().reject(stand.by(STELLA, reject)).await.unwrap_err();
    assert_eq!(twice.code(), Code::FailedPrecondition);
    assert_eq!(code_of(&stand.decide_with(&agent, SQL, &rejected).await), "APPROVAL-REJECTED");

    let anew = approval_id(&stand.decide(&agent, SQL).await);
    assert_ne!(anew, rejected, "the same statement asked again is a new request");
    let wait = WaitApprovalRequest { approval_id: anew.clone(), timeout_ms: 50 };
    let waited = stand.approvals().wait_approval(wait).await.unwrap().into_inner();
    assert_eq!(waited.approval.unwrap().state(), ApprovalState::Pending);
    for _ in 0..2 {
        let cancel = CancelApprovalRequest { approval_id: anew.clone() };
        let cancelled = stand.approvals().cancel_approval(cancel).await.unwrap().into_inner();
        assert_eq!(cancelled.approval.unwrap().state(), ApprovalState::Cancelled);
    }
    let long = WaitApprovalRequest { approval_id: anew, timeout_ms: 30_001 };
    assert_eq!(stand.approvals().wait_approval(long).await.unwrap_err().code(), Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_falls_with_its_approver() {
    let stand = Stand::start().await;
    let agent = stand.session(AGENT).await;
    let id = approval_id(&stand.decide(&agent, SQL).await);
    let approve = ApproveRequest { approval_id: id.clone(), ..Default::default() };
    stand.approvals().approve(stand.by(STELLA, approve)).await.unwrap();
    let target = Some(Target::Principal("dev/stella".into()));
    let revoke = RevokeSessionsRequest { target, reason: "her laptop was stolen".into() };
    stand.sessions().revoke_sessions(stand.by(OTHER_STEWARD, revoke)).await.unwrap();
    let refused = stand.decide_with(&agent, SQL, &id).await;
    assert_eq!((refused.outcome(), code_of(&refused)), (Outcome::Deny, "APPROVAL-UNUSABLE"), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_for_the_session_that_waits() {
    let stand = Stand::start().await;
    let (agent, other) = (stand.session(AGENT).await, stand.session(AGENT).await);
    let id = approval_id(&stand.decide(&agent, SQL).await);
    let approve = ApproveRequest { approval_id: id.clone(), ..Default::default() };
    stand.approvals().approve(stand.by(STELLA, approve)).await.unwrap();
    let refused = stand.decide_with(&other, SQL, &id).await;
    assert_eq!((refused.outcome(), code_of(&refused)), (Outcome::Deny, "APPROVAL-UNUSABLE"), "{refused:?}");
    assert_eq!(stand.decide_with(&agent, SQL, &id).await.outcome(), Outcome::Allow);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_asks_people_for_so_much_and_no_more() {
    let stand = Stand::start().await;
    let (agent, other) = (stand.session(AGENT).await, stand.session(AGENT).await);
    let first = approval_id(&stand.decide(&agent, SQL).await);
    for number in 1..100 {
        let held = stand.decide(&agent, &format!("DELETE FROM orders WHERE id = {number}")).await;
        assert_eq!(held.outcome(), Outcome::NeedsApproval, "{number}");
    }
    let refused = stand.decide(&agent, "DELETE FROM orders WHERE id = 100").await;
    assert_eq!((refused.outcome(), code_of(&refused)), (Outcome::Deny, "APPROVAL-UNUSABLE"));
    assert_eq!(approval_id(&stand.decide(&agent, SQL).await), first, "the oldest is still found");
    approval_id(&stand.decide(&other, SQL).await);

    let list = async || {
        let list = ListApprovalsRequest { limit: 1000, ..Default::default() };
        stand.approvals().list_approvals(stand.by(STELLA, list)).await.unwrap().into_inner().approvals.len()
    };
    assert_eq!(list().await, 101, "all are shown");
    stand.sessions().close_session(CloseSessionRequest { session_id: agent.session_id }).await.unwrap();
    assert_eq!(list().await, 1, "nobody is asked for what nobody waits for");
}
