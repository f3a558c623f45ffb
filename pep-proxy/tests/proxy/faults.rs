//! What must not work: races, lies, floods, and sessions that are over.

use std::time::Duration;

use icegate_proto::v1::{
    DecideResponse, Outcome, ResultShape, RevokedSessions, RunStatus, SessionState, watch_response::Event,
};
use serde_json::{Value, json};

use crate::{
    outcomes,
    pdp::needs_approval,
    stage::{Driver, Stage, eventually},
    text,
    upstream::SLOW_ID,
};

fn allow(sql: &str, kind: &str) -> DecideResponse {
    DecideResponse {
        decision_id: format!("0198-{kind}"),
        outcome: Outcome::Allow.into(),
        sql: sql.into(),
        statement_kinds: vec![kind.into()],
        ..Default::default()
    }
}

fn id() -> String {
    uuid::Uuid::new_v4().to_string()
}

#[tokio::test]
async fn nothing_is_decided_while_the_session_may_still_move() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    stage.pdp.decide_as("call slow()", allow("call slow()", "call"));
    assert_eq!(stage.driver.query("call slow()").await["code"], "333333");
    for _ in 0..2 {
        let reply = stage.driver.query("select 2").await;
        assert!(text(&reply).contains("[REQUEST-LIMIT]"), "{reply}");
    }
    assert_eq!(stage.upstream.texts(), ["call slow()"]);
    assert_eq!(stage.pdp.told.lock().unwrap().decides.len(), 1);

    // Its end is seen without the driver fetching it, and where the session stands is asked for.
    *stage.upstream.slow_done.lock().unwrap() = true;
    assert_eq!(stage.driver.query("select 2").await["success"], true);
    let texts = stage.upstream.texts();
    assert_eq!((texts.len(), texts[2].as_str()), (3, "select 2"), "{texts:?}");
    let recorded = outcomes(&stage, 2).await;
    assert!(recorded.iter().any(|end| end.query_id == SLOW_ID && end.status() == RunStatus::Succeeded), "{recorded:?}");
    let reply = stage.driver.get(&format!("/queries/{SLOW_ID}/result")).await;
    assert_eq!(reply["data"]["rowset"], json!([["slow"]]), "the driver may still fetch it");
}

#[tokio::test]
async fn what_a_session_made_is_on_record_before_the_next_statement_is_asked_about() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    stage.pdp.script.lock().unwrap().outcome_takes = Duration::from_millis(300);
    stage.pdp.decide_as("create temp table t", allow("create temp table t", "create_table"));
    stage.pdp.decide_as("select 1 from t", allow("select 1 from t", "select"));
    for sql in ["create temp table t", "select 1 from t"] {
        assert_eq!(stage.driver.query(sql).await["success"], true);
    }
    assert_eq!(stage.pdp.told.lock().unwrap().outcomes_before, [0, 1]);
}

#[tokio::test]
async fn a_result_with_other_columns_than_were_decided_is_withheld() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    // The warehouse answers with one column, called A.
    for (sql, columns, passed) in [
        ("select a", vec!["A"], true),
        ("select upper(a)", vec![""], true),
        ("select a, b", vec!["A", "B"], false),
        ("select b", vec!["B"], false),
        ("select slow()", vec!["A", "B"], false),
    ] {
        let shape = ResultShape { promised: true, columns: columns.into_iter().map(str::to_owned).collect() };
        stage.pdp.decide_as(sql, DecideResponse { result_shapes: vec![shape], ..allow(sql, "select") });
        let mut reply = stage.driver.query(sql).await;
        if sql.contains("slow") {
            assert_eq!(reply["code"], "333333", "{reply}");
            *stage.upstream.slow_done.lock().unwrap() = true;
            reply = stage.driver.get(&format!("/queries/{SLOW_ID}/result")).await;
        }
        assert_eq!(reply["success"], passed, "{sql}: {reply}");
        assert_eq!(text(&reply).contains("[REPLY-WITHHELD]"), !passed, "{sql}: {reply}");
        assert!(passed || reply["data"].get("rowset").is_none(), "{sql}: {reply}");
    }
    let recorded = outcomes(&stage, 5).await;
    let withheld =
        recorded.iter().filter(|end| end.status() == RunStatus::Withheld && end.error_code == "REPLY-WITHHELD");
    assert_eq!(withheld.count(), 3, "{recorded:?}");
}

#[tokio::test]
async fn a_context_that_was_not_told_is_asked_for() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    stage.pdp.decide_as("use mute", allow("use mute", "use_schema"));
    stage.driver.query("use mute").await;
    stage.driver.query("select 2").await;
    assert_eq!(stage.upstream.texts().len(), 3, "{:?}", stage.upstream.texts());
}

#[tokio::test]
async fn revocation_stops_what_runs_in_the_background() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    assert_eq!(stage.driver.query("select slow").await["code"], "333333");
    stage.pdp.emit(Event::Revoked(RevokedSessions { session_ids: vec!["S-1".into()] }));
    let abort = format!("/queries/{SLOW_ID}/abort-request");
    eventually("aborted", || async { !stage.upstream.calls_to(&abort).is_empty() }).await;
    eventually("left", || async { !stage.upstream.calls_to("/session?").is_empty() }).await;
    let end = outcomes(&stage, 1).await.remove(0);
    assert_eq!((end.status(), end.error_code.as_str()), (RunStatus::Cancelled, "SESSION-REVOKED"));
}

#[tokio::test]
async fn a_revocation_that_was_not_heard_is_made_good_when_the_watch_is_back() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    assert_eq!(stage.driver.query("select slow").await["code"], "333333");
    stage.pdp_server.kill();
    stage.pdp.script.lock().unwrap().session = SessionState::Revoked;
    let (_, _server) = stage.pdp.serve(stage.pdp_addr).await;
    // Nobody asks for anything.
    let abort = format!("/queries/{SLOW_ID}/abort-request");
    eventually("aborted", || async { !stage.upstream.calls_to(&abort).is_empty() }).await;
    eventually("left", || async { !stage.upstream.calls_to("/session?").is_empty() }).await;
    assert!(text(&stage.driver.query("select 2").await).contains("[SESSION-REVOKED]"));
}

#[tokio::test]
async fn a_revocation_of_a_session_not_in_memory_yet_is_not_lost() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    assert_eq!(stage.driver.call("POST", "/session/heartbeat", &stage.driver.token, &json!({})).await["success"], true);
    stage.pdp.script.lock().unwrap().session = SessionState::Revoked;
    stage.pdp.emit(Event::Revoked(RevokedSessions { session_ids: vec!["S-elsewhere".into()] }));
    eventually("asked about again", || async {
        text(&stage.driver.call("POST", "/session/heartbeat", &stage.driver.token, &json!({})).await)
            .contains("[SESSION-REVOKED]")
    })
    .await;
    eventually("left", || async { !stage.upstream.calls_to("/session?").is_empty() }).await;
}

#[tokio::test]
async fn an_abort_reaches_the_sessions_own_statements_only() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    let request_id = id();
    assert_eq!(stage.driver.query_as("select slow", &request_id).await["code"], "333333");
    let mut other = Driver::new(stage.pep.addr());
    other.login().await;
    let body = json!({ "sqlText": "", "requestId": request_id });
    let path = format!("/queries/v1/abort-request?requestId={}", id());
    let reply = other.call("POST", &path, &other.token, &body).await;
    assert_eq!(reply["code"], "000605", "{reply}");
    assert!(stage.upstream.calls_to("/queries/v1/abort-request").is_empty());
    let reply = stage.driver.call("POST", &path, &stage.driver.token, &body).await;
    assert_eq!(reply["success"], true, "{reply}");
    assert_eq!(stage.upstream.calls_to(&format!("/queries/{SLOW_ID}/abort-request")).len(), 1);
}

#[tokio::test]
async fn a_pdp_that_answers_nonsense_allows_nothing() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    for (sql, decision, code) in [
        (
            "unchanged",
            DecideResponse { outcome: Outcome::Mask.into(), ..allow("unchanged", "select") },
            "AUDIT-UNAVAILABLE",
        ),
        ("no text", allow("", "select"), "AUDIT-UNAVAILABLE"),
        ("no id", DecideResponse { decision_id: String::new(), ..allow("no id", "select") }, "AUDIT-UNAVAILABLE"),
        ("what", DecideResponse { outcome: 99, ..allow("what", "select") }, "POLICY-NO-PERMIT"),
        (
            "wait",
            DecideResponse { outcome: Outcome::NeedsApproval.into(), ..allow("wait", "select") },
            "POLICY-NO-PERMIT",
        ),
    ] {
        stage.pdp.decide_as(sql, decision);
        let reply = stage.driver.query(sql).await;
        assert!(text(&reply).contains(&format!("[{code}")), "{sql}: {reply}");
    }
    assert!(stage.upstream.texts().is_empty());

    // A session without what decisions are kept under is none.
    stage.pdp.script.lock().unwrap().digest = String::new();
    let reply = stage.driver.try_login("good.token").await;
    assert!(text(&reply).contains("[PDP-UNREACHABLE]"), "{reply}");
    assert_eq!(stage.upstream.calls_to("/session/v1/login-request").len(), 1);
}

#[tokio::test]
async fn a_pdp_that_does_not_wait_is_not_asked_in_a_circle() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    stage.pdp.script.lock().unwrap().impatient = true;
    stage.pdp.decide_as("delete from t", needs_approval(60));
    assert_eq!(stage.driver.query("delete from t").await["code"], "333333");
    tokio::time::sleep(Duration::from_millis(700)).await;
    let waits = stage.pdp.told.lock().unwrap().waits;
    assert!((1..=3).contains(&waits), "{waits}");
}

#[tokio::test]
async fn a_login_without_room_leaves_nothing_open() {
    let mut stage = Stage::with("0s", "[limits]\nsessions_max = 1\n").await;
    stage.driver.login().await;
    let reply = Driver::new(stage.pep.addr()).try_login("good.token").await;
    assert!(text(&reply).contains("[REQUEST-LIMIT]"), "{reply}");
    eventually("closed", || async { stage.pdp.told.lock().unwrap().closed == ["S-2"] }).await;
    assert_eq!(stage.upstream.calls_to("/session?").len(), 1);
    assert_eq!(stage.driver.query("select 1").await["success"], true, "the other one stands");
}

#[tokio::test]
async fn a_stranger_sends_little_and_a_session_not_without_end() {
    let mut stage = Stage::new().await;
    let large = json!({ "data": { "TOKEN": "x".repeat(300_000) } });
    for token in ["None", "ig1.AAAA"] {
        let reply = stage.driver.call("POST", "/session/v1/login-request", token, &large).await;
        assert!(text(&reply).contains("[REQUEST-LIMIT]"), "{reply}");
    }
    stage.driver.login().await;
    let reply = stage.driver.query(&format!("select '{}'", "x".repeat(300_000))).await;
    assert_eq!(reply["success"], true, "{reply}");

    // One is at Snowflake, the others wait for it.
    let waiting: Vec<_> = (0..64)
        .map(|_| {
            let driver = stage.driver.clone();
            tokio::spawn(async move { driver.query("select blocked").await })
        })
        .collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let over = tokio::time::timeout(Duration::from_secs(5), stage.driver.query("select 2")).await.unwrap();
    assert!(text(&over).contains("[REQUEST-LIMIT]"), "{over}");
    eventually("one of them sent", || async { stage.upstream.texts().len() == 2 }).await;
    stage.upstream.gate.add_permits(64);
    for one in waiting {
        assert_eq!(one.await.unwrap()["success"], true);
    }
    assert_eq!(stage.driver.query("select 2").await["success"], true);
}

#[tokio::test]
async fn debug_output_shows_no_statement_and_no_cell() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    stage.driver.query("select 'canary'").await;
    let driver = stage.driver.clone();
    let running = tokio::spawn(async move { driver.query("select 'canary blocked'").await });
    eventually("sent", || async { stage.upstream.texts().len() == 2 }).await;
    let shown = format!("{:?}", stage.pep);
    stage.upstream.gate.add_permits(1);
    running.await.unwrap();
    assert!(!shown.contains("canary") && !shown.contains("rowset"), "{shown}");
}

#[tokio::test]
async fn upstream_sessions_have_no_secondary_roles() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    let sent = &stage.upstream.calls_to("/session/v1/login-request")[0];
    assert_eq!(sent.body["data"]["SECONDARY_ROLES"], Value::from("NONE"));
}
