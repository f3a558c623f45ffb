//! Sessions, revocations and approvals.

use std::collections::BTreeSet;

use icegate_pdp_approval::{Approval, NewApproval, State};
use icegate_pdp_audit::{Client, Event};
use icegate_pdp_model::{SessionContext, Timestamp};
use icegate_pdp_store::{
    ApprovalFilter, Change, Revocation, SessionFilter, SessionRow, SessionState, StateChange, Store, StoreError,
};

use crate::fixture::{Place, person};

fn session(id: &str, principal: &str, opened: i64) -> SessionRow {
    SessionRow {
        session_id: id.into(),
        principal: person(principal),
        state: SessionState::Active,
        client: Client { app_id: "PythonConnector".into(), ..Client::default() },
        pep_id: "pep".into(),
        pep_instance: "p1".into(),
        context: SessionContext { database: Some("SALES".into()), ..SessionContext::default() },
        opened: Timestamp(opened),
        expires: Timestamp(opened + 100),
        token_issued: Timestamp(opened - 1),
        principal_digest: "digest".into(),
    }
}

fn approval(id: &str, requester: &str, groups: &[&str], created: i64) -> Approval {
    let new = NewApproval {
        id: id.into(),
        requester: person(requester),
        session_id: "s1".into(),
        decision_id: "d1".into(),
        sql: "delete from t".into(),
        context: SessionContext::default(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        reasons: vec![],
        statement_sha256: format!("hash of {id}"),
        approve_within_seconds: 900,
        execute_within_seconds: 600,
    };
    Approval::request(new, Timestamp(created)).unwrap()
}

async fn set(store: &Store, state: StateChange) -> Result<(), StoreError> {
    store.commit(Change { states: vec![state], events: vec![], at: Timestamp(0) }).await.map(drop)
}

async fn put_approval(store: &Store, approval: &Approval, expected_version: Option<u64>) -> Result<(), StoreError> {
    set(store, StateChange::PutApproval { approval: Box::new(approval.clone()), expected_version }).await
}

async fn ids(store: &Store, filter: SessionFilter) -> Vec<String> {
    store.sessions(&filter).await.unwrap().into_iter().map(|row| row.session_id).collect()
}

#[tokio::test]
async fn sessions_begin_and_end_once() {
    let place = Place::new();
    let store = place.open().await;
    let row = session("s1", "corp/ana", 10);
    set(&store, StateChange::PutSession(Box::new(row.clone()))).await.unwrap();
    assert_eq!(store.session("s1").await.unwrap(), Some(row.clone()));
    assert_eq!(store.session("s2").await.unwrap(), None);
    let twice = set(&store, StateChange::PutSession(Box::new(row.clone()))).await.unwrap_err();
    assert!(matches!(twice, StoreError::Conflict("session")), "{twice:?}");

    assert_eq!(row.state_at(Timestamp(109)), SessionState::Active);
    assert_eq!(row.state_at(Timestamp(110)), SessionState::Expired);
    let end = |id: &str, state| StateChange::EndSession { session_id: id.into(), state };
    set(&store, end("s1", SessionState::Revoked)).await.unwrap();
    assert_eq!(store.session("s1").await.unwrap().unwrap().state, SessionState::Revoked);
    for id in ["s1", "s2"] {
        let over = set(&store, end(id, SessionState::Closed)).await.unwrap_err();
        assert!(matches!(over, StoreError::Conflict("session")), "{over:?}");
    }
    let senseless = set(&store, end("s1", SessionState::Active)).await.unwrap_err();
    assert!(matches!(senseless, StoreError::Invalid(_)), "{senseless:?}");
}

#[tokio::test]
async fn a_refused_change_leaves_its_neighbours_alone() {
    let place = Place::new();
    let store = place.open().await;
    set(&store, StateChange::PutSession(Box::new(session("s1", "corp/ana", 0)))).await.unwrap();
    // Sent together, so that they share a transaction.
    let event = |instance: &str| Event::ServiceStopped { instance: instance.into() };
    let change = |id: &str, instance: &str| {
        let session = StateChange::PutSession(Box::new(session(id, "corp/ana", 0)));
        store.commit(Change::state(session, event(instance), Timestamp(0)))
    };
    let (before, refused, after) = tokio::join!(change("s0", "before"), change("s1", "refused"), change("s2", "after"));
    assert!(matches!(refused.unwrap_err(), StoreError::Conflict("session")));
    assert_eq!((before.unwrap()[0].seq, after.unwrap()[0].seq), (1, 2));
    assert_eq!(store.sessions(&SessionFilter::default()).await.unwrap().len(), 3);
    let report = store.integrity().await.unwrap();
    assert_eq!((report.problems, report.records), (vec![], 2));
}

#[tokio::test]
async fn sessions_are_listed_newest_first() {
    let place = Place::new();
    let store = place.open().await;
    for (id, principal, opened) in [("a", "corp/ana", 0), ("b", "corp/bob", 20), ("c", "corp/ana", 40)] {
        set(&store, StateChange::PutSession(Box::new(session(id, principal, opened)))).await.unwrap();
    }
    set(&store, StateChange::EndSession { session_id: "b".into(), state: SessionState::Closed }).await.unwrap();
    let all = SessionFilter::default;
    let at = |now| SessionFilter { active_at: Some(Timestamp(now)), ..all() };
    assert_eq!(ids(&store, all()).await, ["c", "b", "a"]);
    assert_eq!(ids(&store, SessionFilter { limit: 1, ..all() }).await, ["c"]);
    assert_eq!(ids(&store, SessionFilter { principal_id: Some("corp/ana".into()), ..all() }).await, ["c", "a"]);
    assert_eq!(ids(&store, SessionFilter { principal_id: Some("ana".into()), ..all() }).await, [""; 0]);
    assert_eq!(ids(&store, at(50)).await, ["c", "a"]);
    assert_eq!(ids(&store, at(100)).await, ["c"]);
    assert_eq!(store.sessions_active(Timestamp(100)).await.unwrap(), 1);
    let due: Vec<String> =
        store.sessions_due(Timestamp(100)).await.unwrap().into_iter().map(|row| row.session_id).collect();
    assert_eq!(due, ["a"]);
    let refused = store.sessions(&SessionFilter { limit: 1001, ..all() }).await.unwrap_err();
    assert_eq!(refused.to_string(), "the limit is `1001`; it may be 1 to 1000");
}

#[tokio::test]
async fn the_later_revocation_stands() {
    let place = Place::new();
    let store = place.open().await;
    for (principal_id, not_before) in [("corp/ana", 5), ("corp/ana", 9), ("corp/ana", 7), ("corp/bob", 1)] {
        let revocation = Revocation { principal_id: principal_id.into(), not_before: Timestamp(not_before) };
        set(&store, StateChange::PutRevocation(revocation)).await.unwrap();
    }
    let found: Vec<_> =
        store.revocations().await.unwrap().into_iter().map(|one| (one.principal_id, one.not_before.0)).collect();
    assert_eq!(found, [("corp/ana".to_owned(), 9), ("corp/bob".to_owned(), 1)]);
}

#[tokio::test]
async fn an_approval_takes_each_step_once() {
    let place = Place::new();
    let store = place.open().await;
    let pending = approval("a1", "corp/ana", &["stewards"], 0);
    put_approval(&store, &pending, None).await.unwrap();
    assert!(matches!(put_approval(&store, &pending, None).await.unwrap_err(), StoreError::Conflict("approval")));
    let entitled: BTreeSet<String> = ["stewards".to_owned()].into();
    let approved = pending.approve(&person("corp/bob"), &entitled, "", Timestamp(1)).unwrap();
    put_approval(&store, &approved, Some(1)).await.unwrap();

    // Two runs that both want to use it.
    let consumed = approved.consume(&approved.statement_sha256, Timestamp(2)).unwrap();
    let (one, two) = tokio::join!(put_approval(&store, &consumed, Some(2)), put_approval(&store, &consumed, Some(2)));
    assert_eq!(u8::from(one.is_ok()) + u8::from(two.is_ok()), 1);
    let lost = one.and(two).unwrap_err();
    assert_eq!(lost.to_string(), "the approval was changed by somebody else meanwhile");
    assert_eq!(store.approval("a1").await.unwrap(), Some(consumed));
    assert!(matches!(put_approval(&store, &pending, Some(1)).await.unwrap_err(), StoreError::Invalid(_)));
}

#[tokio::test]
async fn approvals_are_listed_newest_first() {
    let place = Place::new();
    let store = place.open().await;
    for one in [
        approval("a", "corp/ana", &["stewards"], 0),
        approval("b", "corp/bob", &["stewards", "owner's"], 10),
        approval("c", "corp/ana", &["finance"], 20),
    ] {
        put_approval(&store, &one, None).await.unwrap();
    }
    let cancelled = approval("c", "corp/ana", &["finance"], 20).cancel(Timestamp(21)).unwrap();
    put_approval(&store, &cancelled, Some(1)).await.unwrap();

    let all = ApprovalFilter::default;
    let visible = |id: &str, groups: &[&str]| ApprovalFilter {
        visible_to: Some((id.into(), groups.iter().map(|group| (*group).to_owned()).collect())),
        ..all()
    };
    for (filter, wanted) in [
        (all(), vec!["c", "b", "a"]),
        (ApprovalFilter { limit: 2, ..all() }, vec!["c", "b"]),
        (ApprovalFilter { states: vec![State::Pending, State::Approved], ..all() }, vec!["b", "a"]),
        (ApprovalFilter { states: vec![State::Cancelled], ..all() }, vec!["c"]),
        (ApprovalFilter { statement_sha256: Some("hash of b".into()), ..all() }, vec!["b"]),
        (ApprovalFilter { session_id: Some("s2".into()), ..all() }, vec![]),
        (visible("corp/ana", &[]), vec!["c", "a"]),
        (visible("corp/eve", &["owner's"]), vec!["b"]),
        (visible("corp/eve", &["stewards", "finance"]), vec!["c", "b", "a"]),
        (visible("corp/eve", &[]), vec![]),
    ] {
        let found: Vec<String> = store.approvals(&filter).await.unwrap().into_iter().map(|one| one.id).collect();
        assert_eq!(found, wanted, "{filter:?}");
    }
    let due: Vec<String> =
        store.approvals_due(Timestamp(900_005)).await.unwrap().into_iter().map(|one| one.id).collect();
    assert_eq!(due, ["a"]);
}
