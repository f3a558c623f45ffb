//! Sessions, revocations and approvals.

use std::collections::BTreeSet;

use icegate_pdp_approval::{Approval, NewApproval, State};
use icegate_pdp_audit::RunStatus;
use icegate_pdp_model::{EarlierRows, RelationName, SessionContext, Temporary, TemporaryRow, Timestamp};
use icegate_pdp_store::{
    ApprovalFilter, Change, Revocation, SessionFilter, SessionState, StateChange, Store, StoreError,
};

use crate::fixture::{Place, opened, outcome, person, session};

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
    store.commit(opened(&session("s1", "corp/ana", 0))).await.unwrap();
    // Sent together, so that they share a transaction.
    let change = |id: &str| store.commit(opened(&session(id, "corp/ana", 0)));
    let (before, refused, after) = tokio::join!(change("s0"), change("s1"), change("s2"));
    assert!(matches!(refused.unwrap_err(), StoreError::Conflict("session")));
    assert_eq!((before.unwrap()[0].seq, after.unwrap()[0].seq), (2, 3));
    assert_eq!(store.sessions(&SessionFilter::default()).await.unwrap().len(), 3);
    let report = store.integrity().await.unwrap();
    assert_eq!((report.problems, report.records), (vec![], 3));
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

#[tokio::test]
async fn what_runs_in_a_session_needs_it_open() {
    let place = Place::new();
    let store = place.open().await;
    store.commit(opened(&session("s1", "corp/ana", 0))).await.unwrap();
    let needs = |id: &str| set(&store, StateChange::NeedSession { session_id: id.into() });
    needs("s1").await.unwrap();
    assert!(matches!(needs("s2").await.unwrap_err(), StoreError::Conflict("session")));
    // Ended and used in one transaction: the order they came in decides.
    let end = set(&store, StateChange::EndSession { session_id: "s1".into(), state: SessionState::Revoked });
    let (ended, used) = tokio::join!(end, needs("s1"));
    ended.unwrap();
    assert!(matches!(used.unwrap_err(), StoreError::Conflict("session")));
}

#[tokio::test]
async fn those_that_ran_out_are_found_among_many_that_did_not() {
    let place = Place::new();
    let store = place.open().await;
    let old = approval("old", "corp/ana", &["stewards"], 0);
    let approved = approval("used", "corp/ana", &["stewards"], 0)
        .approve(&person("corp/bob"), &["stewards".to_owned()].into(), "", Timestamp(1))
        .unwrap();
    put_approval(&store, &old, None).await.unwrap();
    put_approval(&store, &approved, None).await.unwrap();
    let many: Vec<Approval> =
        (0..1000).map(|n| approval(&format!("a{n}"), "corp/ana", &["stewards"], 500_000)).collect();
    let puts = many.iter().map(|one| put_approval(&store, one, None));
    for put in puts {
        put.await.unwrap();
    }
    let due = async |now| -> Vec<String> {
        store.approvals_due(Timestamp(now)).await.unwrap().into_iter().map(|one| one.id).collect()
    };
    assert_eq!(due(599_999).await, [""; 0]);
    assert_eq!(due(600_001).await, ["used"]);
    assert_eq!(due(900_000).await, ["old", "used"]);
    assert_eq!(store.approvals_pending(Timestamp(899_999)).await.unwrap(), 1001);
    assert_eq!(store.approvals_pending(Timestamp(900_000)).await.unwrap(), 1000);
}

#[tokio::test]
async fn temporary_relations_are_a_sessions_own_and_end_with_it() {
    let place = Place::new();
    let store = place.open().await;
    let name: RelationName = "D.S.T".parse().unwrap();
    let row = |decision_id: &str, made| TemporaryRow {
        decision_id: decision_id.into(),
        made,
        alone: true,
        body: Temporary::Table(EarlierRows::default()),
    };
    let put = |session_id: &str, rows: &[TemporaryRow]| StateChange::PutTemporary {
        session_id: session_id.into(),
        name: name.clone(),
        rows: rows.to_vec(),
    };
    let names = |rows: Vec<(RelationName, TemporaryRow)>| -> Vec<String> {
        rows.into_iter().map(|(name, row)| format!("{name} {} {}", row.decision_id, row.made)).collect()
    };
    for id in ["s1", "s2"] {
        set(&store, StateChange::PutSession(Box::new(session(id, "corp/ana", 10)))).await.unwrap();
        set(&store, put(id, &[row("d1", true), row(&format!("{id}-2"), false)])).await.unwrap();
    }
    assert_eq!(names(store.temporaries("s1").await.unwrap()), ["D.S.T d1 true", "D.S.T s1-2 false"]);
    assert_eq!(store.temporaries("s3").await.unwrap(), []);

    // The end of a run is of its own decision; one that went well leaves nothing else under the name.
    store.commit(Change::event(outcome("s1-2", RunStatus::Failed), Timestamp(1))).await.unwrap();
    store.commit(Change::event(outcome("s2-2", RunStatus::Succeeded), Timestamp(1))).await.unwrap();
    assert_eq!(names(store.temporaries("s1").await.unwrap()), ["D.S.T d1 true"]);
    assert_eq!(names(store.temporaries("s2").await.unwrap()), ["D.S.T s2-2 true"]);

    // What may not have ended yet stays. Of several statements that did not all end well, what is there is not known.
    let several = TemporaryRow { alone: false, ..row("s1-4", false) };
    set(&store, put("s1", &[row("", false), row("s1-3", false), several])).await.unwrap();
    store.commit(Change::event(outcome("s1-3", RunStatus::Succeeded), Timestamp(1))).await.unwrap();
    store.commit(Change::event(outcome("s1-4", RunStatus::Failed), Timestamp(1))).await.unwrap();
    let rows = store.temporaries("s1").await.unwrap();
    assert_eq!(rows[2].1.body, Temporary::Unknown);
    assert_eq!(names(rows), ["D.S.T  false", "D.S.T s1-3 true", "D.S.T s1-4 true"]);

    set(&store, put("s1", &[])).await.unwrap();
    assert_eq!(store.temporaries("s1").await.unwrap(), []);
    assert_eq!(store.sessions_with_temporaries().await.unwrap(), ["s2"]);
    let end = StateChange::EndSession { session_id: "s2".into(), state: SessionState::Closed };
    set(&store, end).await.unwrap();
    assert_eq!(store.sessions_with_temporaries().await.unwrap(), Vec::<String>::new());
    set(&store, put("s1", &[row("d4", true)])).await.unwrap();
    set(&store, StateChange::ForgetTemporaries { session_id: "s1".into() }).await.unwrap();
    assert_eq!(store.temporaries("s1").await.unwrap(), []);
}
