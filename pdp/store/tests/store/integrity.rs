//! Whatever is altered behind the store's back is noticed.

use std::path::Path;

use icegate_pdp_approval::{Approval, NewApproval};
use icegate_pdp_audit::{Event, RunStatus, Who, chain};
use icegate_pdp_model::{SessionContext, Timestamp};
use icegate_pdp_store::{Change, Revocation, SessionState, StateChange, Store, StoreError};
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::fixture::{Place, cut, decision, event, fill, opened, outcome, person, put, put_at, session};

const TRIGGERS: &str = "SELECT name, sql FROM sqlite_schema WHERE type = 'trigger' ORDER BY name";

async fn second(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).foreign_keys(false).connect().await.unwrap()
}

async fn run(connection: &mut SqliteConnection, sql: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(connection).await.unwrap();
}

/// Alters the file as somebody would who knows what it is, and puts the triggers back.
async fn tamper(path: &Path, sql: &str) {
    let mut connection = second(path).await;
    let triggers: Vec<(String, String)> = sqlx::query_as(TRIGGERS).fetch_all(&mut connection).await.unwrap();
    for (name, _) in &triggers {
        run(&mut connection, &format!("DROP TRIGGER {name}")).await;
    }
    run(&mut connection, sql).await;
    for (_, sql) in &triggers {
        run(&mut connection, sql).await;
    }
    connection.close().await.unwrap();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

/// What is found after this was done to a store of 8 records.
async fn problems_after(sql: &str) -> Vec<String> {
    let place = Place::new();
    let store = place.open().await;
    fill(&store).await;
    store.close().await;
    tamper(&place.path(), sql).await;
    match Store::open(&place.path(), |_, _| {}).await {
        Ok(store) => store.integrity().await.unwrap().problems,
        Err(StoreError::Chain(found)) => vec![format!("at opening: {found}")],
        Err(other) => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn everything_altered_is_named() {
    const BODY: &str = "UPDATE records SET body = CAST(replace(CAST(body AS TEXT), 'corp/ana', 'corp/eve') AS BLOB)";
    let differs = |seq: u64| format!("what searches use of record {seq} is not what the record says");
    let cases = [
        ("SELECT 1", vec![]),
        (&format!("{BODY} WHERE seq = 3"), vec!["record 3 was altered: its hash does not fit its body".to_owned()]),
        (&format!("{BODY} WHERE seq = 7"), vec!["record 7 was altered: its hash does not fit its body".to_owned()]),
        (
            "UPDATE records SET body = CAST(replace(CAST(body AS TEXT), 'succeeded', 'cancelled') AS BLOB) WHERE seq = 8",
            vec!["at opening: record 8 was altered: its hash does not fit its body".to_owned()],
        ),
        (
            "UPDATE records SET hash = zeroblob(32) WHERE seq = 3",
            vec!["record 3 was altered: its hash does not fit its body".to_owned()],
        ),
        (
            "UPDATE records SET prev_hash = zeroblob(32) WHERE seq = 3",
            vec!["record 3 does not continue from the record before it: its previous hash differs".to_owned()],
        ),
        (
            "DELETE FROM records WHERE seq = 3",
            vec![
                " rows name a record that does not exist".to_owned(),
                "record 3 is expected and record 4 is next".to_owned(),
            ],
        ),
        ("DELETE FROM records_terms WHERE term = 'object:SALES' AND seq = 3", vec![differs(3)]),
        (
            "UPDATE records_terms SET term = 'principal:corp/eve' WHERE term = 'principal:corp/ana' AND seq = 3",
            vec![differs(3)],
        ),
        ("UPDATE records_terms SET seq = 1 WHERE term = 'decision:d1'", vec![differs(1), differs(3)]),
        ("INSERT INTO records_terms VALUES ('principal:corp/eve', 4)", vec![differs(4)]),
        ("UPDATE runs SET status = 'failed' WHERE decision_id = 'd0'", vec![differs(2)]),
        ("UPDATE runs SET runs = 0 WHERE decision_id = 'd1'", vec![differs(3)]),
        ("UPDATE runs SET pep_instance = 'p2' WHERE decision_id = 'd1'", vec![differs(3)]),
        ("UPDATE runs SET outcome_seq = NULL, status = NULL WHERE decision_id = 'd0'", vec![differs(2)]),
        (
            "UPDATE runs SET status = NULL WHERE decision_id = 'd0'",
            vec!["the outcome of decision `d0` is half written".to_owned(), differs(2)],
        ),
        ("DELETE FROM runs WHERE decision_id = 'd1'", vec![differs(3)]),
        ("DROP INDEX records_at", vec!["index `records_at` is missing or altered".to_owned()]),
        (
            "CREATE TRIGGER other AFTER INSERT ON records BEGIN DELETE FROM runs; END",
            vec!["trigger `other` was added".to_owned()],
        ),
        (
            "INSERT INTO approvals (id, version, body) VALUES ('a1', 1, '{}')",
            vec!["the approval `a1` in the store does not read".to_owned()],
        ),
        (
            "INSERT INTO sessions (session_id, state, body) VALUES ('s1', 'active', '{}')",
            vec!["the session `s1` in the store does not read".to_owned()],
        ),
    ];
    for (sql, wanted) in cases {
        let mut found = problems_after(sql).await;
        if sql.starts_with("DELETE FROM records WHERE") {
            // How many rows name it is the index's business.
            found[0] = found[0].trim_start_matches(|char: char| char.is_ascii_digit()).to_owned();
        }
        assert_eq!(found, wanted, "{sql}");
    }
}

#[tokio::test]
async fn a_cut_is_of_its_own_decision() {
    for (sql, wanted) in [
        ("SELECT 1", &[][..]),
        ("UPDATE runs SET cut_seq = NULL", &[2]),
        ("UPDATE runs SET cut_seq = 1", &[1, 2]),
        ("UPDATE runs SET decision_id = 'd2' WHERE decision_id = 'd1'", &[1, 2]),
    ] {
        let place = Place::new();
        let store = place.open().await;
        put(&store, event(decision("d1"))).await;
        put(&store, cut("d1", 0)).await;
        store.close().await;
        tamper(&place.path(), sql).await;
        let found = place.open().await.integrity().await.unwrap().problems;
        let differs = |seq: &u64| format!("what searches use of record {seq} is not what the record says");
        assert_eq!(found, wanted.iter().map(differs).collect::<Vec<_>>(), "{sql}");
    }
}

#[tokio::test]
async fn records_cut_off_at_the_end_leave_their_traces() {
    let found = problems_after("DELETE FROM records WHERE seq = 8").await;
    assert!(!found.is_empty());
}

#[tokio::test]
async fn a_trail_rebuilt_with_right_hashes_differs_from_the_hash_kept_elsewhere() {
    let place = Place::new();
    let store = place.open().await;
    let first = put(&store, event(decision("d1"))).await;
    let kept = store.integrity().await.unwrap().head;
    assert_eq!(kept, first.hash);
    let row = store.export(0, 0).await.unwrap().remove(0);
    store.close().await;

    let body = String::from_utf8(row.body).unwrap().replace("select *", "select 1");
    let hash = hex(&chain(&row.prev_hash, body.as_bytes()));
    let body = body.replace('\'', "''");
    tamper(&place.path(), &format!("UPDATE records SET body = CAST('{body}' AS BLOB), hash = x'{hash}'")).await;
    let report = place.open().await.integrity().await.unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_ne!(report.head, kept);
}

#[tokio::test]
async fn records_cannot_be_changed_by_mistake() {
    let place = Place::new();
    let store = place.open().await;
    fill(&store).await;
    let mut connection = second(&place.path()).await;
    for sql in
        ["UPDATE records SET body = body WHERE seq = 1", "DELETE FROM records", "DELETE FROM records WHERE seq = 8"]
    {
        let refused = sqlx::query(sql).execute(&mut connection).await.unwrap_err();
        assert!(refused.to_string().contains("records are append-only"), "{sql}: {refused}");
    }
    assert_eq!(store.integrity().await.unwrap().problems, Vec::<String>::new());
    run(&mut connection, "DROP TRIGGER records_no_update").await;
    assert_eq!(store.integrity().await.unwrap().problems, ["trigger `records_no_update` is missing or altered"]);
}

#[tokio::test]
async fn a_trail_that_grew_or_shrank_from_outside_is_not_continued() {
    for (sql, found) in [
        ("DELETE FROM records WHERE seq = 8", 7),
        (
            "INSERT INTO records (seq, body, prev_hash, hash) SELECT 9, body, prev_hash, hash FROM records WHERE seq = 8",
            9,
        ),
    ] {
        let place = Place::new();
        let store = place.open().await;
        fill(&store).await;
        tamper(&place.path(), sql).await;
        for _ in 0..2 {
            let refused = put_at(&store, outcome("d1", RunStatus::Failed), 0).await.unwrap_err();
            assert!(
                matches!(refused, StoreError::Altered { expected: 8, found: seq } if seq == found),
                "{sql}: {refused:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_trail_cut_off_while_the_store_runs_is_noticed_by_the_check() {
    let place = Place::new();
    let store = place.open().await;
    put(&store, Event::ServiceStopped { instance: "a".into() }).await;
    let last = put(&store, Event::ServiceStopped { instance: "b".into() }).await;
    // Cut off cleanly: what is left holds together in itself.
    tamper(&place.path(), "DELETE FROM records_terms WHERE seq = 2; DELETE FROM records WHERE seq = 2").await;
    let report = store.integrity().await.unwrap();
    assert_eq!(report.problems, ["the trail ends at record 1, and this process wrote record 2"]);
    // Another record in its place, with a hash that fits.
    let row = store.export(1, 1).await.unwrap().remove(0);
    let body = String::from_utf8(row.body).unwrap().replace("\"seq\":1", "\"seq\":2").replace("\"a\"", "\"c\"");
    let (hash, prev) = (hex(&chain(&row.hash, body.as_bytes())), hex(&row.hash));
    assert_ne!(hash, hex(&last.hash));
    let sql = format!(
        "INSERT INTO records (seq, body, prev_hash, hash) VALUES (2, CAST('{body}' AS BLOB), x'{prev}', x'{hash}');
         INSERT INTO records_terms VALUES ('kind:service-stopped', 2)"
    );
    tamper(&place.path(), &sql).await;
    let report = store.integrity().await.unwrap();
    assert_eq!(report.problems, ["record 2 is not the one this process wrote"]);
}

/// A session that was revoked, one that is open, and an approval that one person gave.
async fn fill_states(store: &Store) {
    for (id, who) in [("s1", "corp/ana"), ("s2", "corp/bob")] {
        store.commit(opened(&session(id, who, 10))).await.unwrap();
    }
    let end = StateChange::EndSession { session_id: "s2".into(), state: SessionState::Revoked };
    let not_before = Timestamp(20);
    let revoked = Event::SessionRevoked {
        principal_id: "corp/bob".into(),
        session_ids: vec!["s2".into()],
        not_before: Some(not_before),
        by: Who::from(&person("corp/eve")),
        comment: String::new(),
    };
    let revocation = StateChange::PutRevocation(Revocation { principal_id: "corp/bob".into(), not_before });
    store.commit(Change { states: vec![end, revocation], events: vec![revoked], at: not_before }).await.unwrap();

    let asked =
        icegate_pdp_audit::DecisionEvent { outcome: icegate_pdp_model::Outcome::NeedsApproval, ..decision("d1") };
    let new = NewApproval {
        id: "a1".into(),
        requester: person("corp/ana"),
        session_id: "s1".into(),
        decision_id: "d1".into(),
        sql: asked.sql.clone(),
        context: SessionContext::default(),
        groups: ["stewards".to_owned()].into(),
        reasons: vec![],
        statement_sha256: "hash".into(),
        approve_within_seconds: 900,
        execute_within_seconds: 600,
    };
    let pending = Approval::request(new, Timestamp(30)).unwrap();
    let requested = Event::ApprovalRequested {
        approval_id: "a1".into(),
        decision_id: "d1".into(),
        session_id: "s1".into(),
        principal: Who::from(&pending.requester),
        groups: pending.groups.clone(),
        statement_sha256: "hash".into(),
        approve_by: pending.approve_by,
    };
    let put = |approval: &Approval, expected_version| StateChange::PutApproval {
        approval: Box::new(approval.clone()),
        expected_version,
    };
    let change = Change { states: vec![put(&pending, None)], events: vec![event(asked), requested], at: Timestamp(30) };
    store.commit(change).await.unwrap();
    let approved = pending.approve(&person("corp/eve"), &pending.groups, "fine", Timestamp(40)).unwrap();
    let voted = Event::ApprovalVoted {
        approval_id: "a1".into(),
        decision_id: "d1".into(),
        by: Who::from(&person("corp/eve")),
        group: "stewards".into(),
        approve: true,
        comment: "fine".into(),
        state: approved.state.as_str().into(),
    };
    store.commit(Change::state(put(&approved, Some(1)), voted, Timestamp(40))).await.unwrap();
}

#[tokio::test]
async fn states_that_are_not_what_the_trail_says_are_named() {
    let session = |id: &str| vec![format!("the session `{id}` is not what the trail says")];
    let approval = vec!["the approval `a1` is not what the trail says".to_owned()];
    let revocation = vec!["the revocation of `corp/bob` is not what the trail says".to_owned()];
    let replace =
        |table: &str, from: &str, to: &str| format!("UPDATE {table} SET body = replace(body, '{from}', '{to}')");
    for (sql, wanted) in [
        ("SELECT 1".to_owned(), vec![]),
        ("UPDATE sessions SET state = 'active' WHERE session_id = 's2'".into(), session("s2")),
        ("UPDATE sessions SET state = 'closed' WHERE session_id = 's1'".into(), session("s1")),
        (replace("sessions", "\"groups\":[]", "\"groups\":[\"admins\"]") + " WHERE session_id = 's1'", session("s1")),
        (replace("sessions", "\"expires\":110", "\"expires\":990") + " WHERE session_id = 's1'", session("s1")),
        ("DELETE FROM sessions WHERE session_id = 's2'".into(), session("s2")),
        (replace("approvals", "\"approved\"", "\"consumed\""), approval.clone()),
        (replace("approvals", "select *", "delete"), approval.clone()),
        (replace("approvals", "corp/eve", "corp/eva"), approval.clone()),
        (replace("approvals", "[\"stewards\"]", "[\"stewards\",\"x\"]"), approval.clone()),
        ("DELETE FROM approvals".into(), approval),
        ("DELETE FROM revocations".into(), revocation.clone()),
        ("UPDATE revocations SET not_before = 19".into(), revocation),
        (
            "INSERT INTO revocations VALUES ('corp/ana', 5)".into(),
            vec!["the revocation of `corp/ana` is not what the trail says".to_owned()],
        ),
    ] {
        let place = Place::new();
        let store = place.open().await;
        fill_states(&store).await;
        tamper(&place.path(), &sql).await;
        assert_eq!(store.integrity().await.unwrap().problems, wanted, "{sql}");
    }
}

/// Flips single bits of the file itself, wherever it holds something that is searched, shown or hashed.
#[tokio::test]
async fn one_flipped_bit_in_the_file_is_noticed() {
    let place = Place::new();
    let store = place.open().await;
    fill(&store).await;
    // A time that is seen in the index: bodies have it in decimal.
    put_at(&store, outcome("d1", RunStatus::Failed), 0x0102_0304_0506).await.unwrap();
    let rows = store.export(0, 0).await.unwrap();
    store.close().await;
    let file = std::fs::read(place.path()).unwrap();

    let mut needles: Vec<(Vec<u8>, usize)> = Vec::new();
    for row in &rows {
        needles.extend((0..row.body.len()).step_by(97).map(|offset| (row.body.clone(), offset)));
        needles.extend([0, 31].map(|offset| (row.hash.to_vec(), offset)));
    }
    for term in ["object:SALES.PUBLIC.CUSTOMERS.EMAIL", "principal:corp/ana", "outcome:allow", "decision:d3", "pepp1"] {
        needles.extend([0, term.len() - 1].map(|offset| (term.as_bytes().to_vec(), offset)));
    }
    needles.extend([0, 5].map(|offset| (vec![1, 2, 3, 4, 5, 6], offset)));
    assert!(needles.len() > 80, "{}", needles.len());

    let flipped = Place::new();
    for (needle, offset) in needles {
        let mut bytes = file.clone();
        // Pages keep copies of what was moved elsewhere: only in all of its places together is it surely the one in use.
        let spots = file.windows(needle.len()).enumerate().filter(|(_, window)| *window == needle);
        let spots: Vec<usize> = spots.map(|(at, _)| at + offset).collect();
        let what = format!("{} at {offset}", String::from_utf8_lossy(&needle));
        assert!(!spots.is_empty(), "{what}");
        for at in spots {
            bytes[at] ^= 1 << (offset % 7);
        }
        std::fs::write(flipped.path(), &bytes).unwrap();
        match Store::open(&flipped.path(), |_, _| {}).await {
            Ok(store) => {
                assert!(!store.integrity().await.unwrap().problems.is_empty(), "{what}");
                store.close().await;
            }
            Err(StoreError::Chain(_)) => {}
            Err(other) => panic!("{what}: {other:?}"),
        }
    }
}
