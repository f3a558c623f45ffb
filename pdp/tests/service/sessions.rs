use std::time::Duration;

use icegate_proto::v1::{
    AppendIntentRequest, ApprovalState, CloseSessionRequest, GetSessionRequest, ListSessionsRequest,
    OpenSessionRequest, Outcome, RevokeSessionsRequest, SearchRecordsRequest, SessionState, WaitApprovalRequest,
    open_session_response::Result as Opened, revoke_sessions_request::Target, watch_response::Event,
};
use sqlx::{Connection as _, SqliteConnection};
use tonic::Code;

use crate::{
    stand::{AGENT, ANA, ENGINEER, Person, STELLA, Stand, code_of},
    watching::watch,
};

fn refusal(opened: Opened) -> String {
    match opened {
        Opened::Refusal(reason) => reason.code,
        Opened::Session(session) => panic!("{session:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logins_are_judged_and_on_record() {
    let stand = Stand::start().await;
    let token = stand.token(ANA);
    for (token, login_name, wanted) in [
        ("no token".to_owned(), "", "IDENTITY-INVALID"),
        (stand.token_at(ANA, -7200, -3600), "", "IDENTITY-EXPIRED"),
        (token.clone(), "stella", "IDENTITY-MISMATCH"),
        (stand.token(Person { name: "guest", groups: &[], agent: None }), "", "POLICY-NO-PERMIT"),
    ] {
        assert_eq!(refusal(stand.login(token, login_name).await), wanted);
    }
    for login_name in ["", "ANA", "dev/Ana"] {
        assert!(matches!(stand.login(token.clone(), login_name).await, Opened::Session(_)), "{login_name}");
    }
    let found = stand.search(SearchRecordsRequest::default()).await;
    let count = |kind: &str| found.iter().filter(|record| record["event"]["kind"] == kind).count();
    assert_eq!((count("session-refused"), count("session-opened")), (4, 3));
    let text = serde_json::to_string(&found).unwrap();
    assert!(!text.contains(&token), "a token is never on record");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_at_another_connection_is_not_decided() {
    let stand = Stand::start().await;
    let open = async |connection: &str| {
        let request = OpenSessionRequest {
            token: stand.token(ANA),
            pep_id: "pep-1".into(),
            connection: connection.into(),
            ..Default::default()
        };
        stand.sessions().open_session(request).await.unwrap().into_inner().result.unwrap()
    };
    for named in ["prod", "Demo", "demo ", "demo\0"] {
        assert_eq!(refusal(open(named).await), "CONNECTION-MISMATCH", "{named}");
    }
    for named in ["demo", ""] {
        assert!(matches!(open(named).await, Opened::Session(_)), "{named}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_survive_a_restart_and_end_once() {
    let stand = Stand::start().await;
    let (ana, other) = (stand.session(ANA).await, stand.session(ANA).await);
    assert_eq!(ana.principal_digest, other.principal_digest);
    assert_ne!(ana.principal_digest, stand.session(STELLA).await.principal_digest);

    let stand = stand.restarted().await;
    assert_eq!(stand.decide(&ana, "SELECT 1").await.outcome(), Outcome::Allow);
    for _ in 0..2 {
        let close = CloseSessionRequest { session_id: ana.session_id.clone() };
        stand.sessions().close_session(close).await.unwrap();
    }
    let refused = stand.decide(&ana, "SELECT 1").await;
    assert_eq!((refused.outcome(), code_of(&refused)), (Outcome::Deny, "SESSION-ENDED"));
    let get = GetSessionRequest { session_id: ana.session_id.clone() };
    let closed = stand.sessions().get_session(get).await.unwrap().into_inner().session.unwrap();
    assert_eq!(closed.state(), SessionState::Closed);
    assert_eq!(stand.decide(&other, "SELECT 1").await.outcome(), Outcome::Allow);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_session_is_refused_at_once_and_everybody_is_told() {
    let stand = Stand::start().await;
    let mut events = watch(&stand, "pep-1", "a").await;
    let agent = stand.session(AGENT).await;
    let held = stand.decide(&agent, "DELETE FROM orders WHERE id = 1").await.approval.unwrap();
    let revoke = |target| RevokeSessionsRequest { target: Some(target), reason: "left".into() };

    let by_session = Target::SessionId(agent.session_id.clone());
    let status = stand.sessions().revoke_sessions(stand.by(ANA, revoke(by_session.clone()))).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let revoked = stand.sessions().revoke_sessions(stand.by(STELLA, revoke(by_session))).await.unwrap().into_inner();
    assert_eq!(revoked.session_ids, [agent.session_id.as_str()]);

    let refused = stand.decide(&agent, "SELECT 1").await;
    assert_eq!((refused.outcome(), code_of(&refused)), (Outcome::Deny, "SESSION-REVOKED"));
    let wait = WaitApprovalRequest { approval_id: held.approval_id, timeout_ms: 1000 };
    let waited = stand.approvals().wait_approval(wait).await.unwrap().into_inner();
    assert_eq!(waited.approval.unwrap().state(), ApprovalState::Cancelled);
    loop {
        if let Event::Revoked(revoked) = events.message().await.unwrap().unwrap().event.unwrap() {
            assert_eq!(revoked.session_ids, [agent.session_id.as_str()]);
            break;
        }
    }
}

/// Ends or revokes `target` with a caller that is gone before it can be written, then lets it be written.
async fn given_up(stand: &Stand, call: impl Future<Output = ()> + Send + 'static) {
    let path = stand.folder.path().join("icegate.db");
    let mut other = SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let call = tokio::spawn(call);
    tokio::time::sleep(Duration::from_millis(300)).await;
    call.abort();
    tokio::time::sleep(Duration::from_millis(200)).await;
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_revoked_stays_so_when_its_caller_goes_away() {
    let stand = Stand::start().await;
    let (emil, ana) = (stand.session(ENGINEER).await, stand.session(ANA).await);
    let mut events = watch(&stand, "pep-1", "a").await;
    let revoke = RevokeSessionsRequest { target: Some(Target::Principal("dev/emil".into())), reason: String::new() };
    let (request, mut sessions) = (stand.by(STELLA, revoke), stand.sessions());
    given_up(&stand, async move { drop(sessions.revoke_sessions(request).await) }).await;
    // The PEPs are told, the session is over, and so is the token.
    let told = async { while !matches!(events.message().await.unwrap().unwrap().event, Some(Event::Revoked(_))) {} };
    tokio::time::timeout(Duration::from_secs(8), told).await.unwrap();
    assert_eq!(code_of(&stand.decide(&emil, "SELECT 1").await), "SESSION-REVOKED");
    assert_eq!(refusal(stand.login(stand.token(ENGINEER), "").await), "SESSION-REVOKED");

    let close = CloseSessionRequest { session_id: ana.session_id.clone() };
    let mut sessions = stand.sessions();
    given_up(&stand, async move { drop(sessions.close_session(close).await) }).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(code_of(&stand.decide(&ana, "SELECT 1").await), "SESSION-ENDED");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_allowed_after_the_end_of_its_session() {
    let stand = Stand::start().await;
    let ana = stand.session(ANA).await;
    let decided = stand.decide(&ana, "SELECT 1").await;
    // Ended behind the service's back: what it remembers of the session is old.
    let path = stand.folder.path().join("icegate.db");
    let mut other = SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
    sqlx::query("UPDATE sessions SET state = 'revoked'").execute(&mut other).await.unwrap();
    let intent = AppendIntentRequest {
        session_id: ana.session_id.clone(),
        cached_decision_id: decided.decision_id,
        ..Default::default()
    };
    let status = stand.audit().append_intent(intent).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition, "{status}");
    let refused = stand.decide(&ana, "SELECT 1").await;
    assert_eq!((refused.outcome(), code_of(&refused)), (Outcome::Deny, "SESSION-REVOKED"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_principal_needs_a_new_token() {
    let stand = Stand::start().await;
    let (one, two, other) = (stand.session(ENGINEER).await, stand.session(AGENT).await, stand.session(ANA).await);
    let revoke = RevokeSessionsRequest { target: Some(Target::Principal("dev/emil".into())), reason: String::new() };
    let revoked = stand.sessions().revoke_sessions(stand.by(STELLA, revoke)).await.unwrap().into_inner();
    assert_eq!(revoked.session_ids.len(), 2);
    for session in [&one, &two] {
        assert_eq!(code_of(&stand.decide(session, "SELECT 1").await), "SESSION-REVOKED");
    }
    assert_eq!(stand.decide(&other, "SELECT 1").await.outcome(), Outcome::Allow);

    let stand = stand.restarted().await;
    assert_eq!(refusal(stand.login(stand.token(ENGINEER), "").await), "SESSION-REVOKED");
    let list = stand.by(ENGINEER, ListSessionsRequest::default());
    assert_eq!(stand.sessions().list_sessions(list).await.unwrap_err().code(), Code::Unauthenticated);
    assert!(matches!(stand.login(stand.token_at(ENGINEER, 2, 3600), "").await, Opened::Session(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_listed_for_those_who_may() {
    let stand = Stand::start().await;
    let ana = stand.session(ANA).await;
    stand.session(STELLA).await;
    stand.sessions().close_session(CloseSessionRequest { session_id: ana.session_id }).await.unwrap();
    for (principal, all, wanted) in [("", false, 1), ("", true, 2), ("dev/ana", true, 1), ("dev/ana", false, 0)] {
        let list = ListSessionsRequest { principal: principal.into(), all, limit: 0 };
        let sessions = stand.sessions().list_sessions(stand.by(STELLA, list)).await.unwrap().into_inner().sessions;
        assert_eq!(sessions.len(), wanted, "{principal} {all}");
    }
    let status = stand.sessions().list_sessions(stand.by(ANA, ListSessionsRequest::default())).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    assert!(status.message().contains("list sessions"), "{status}");
}
