//! The SQL API: plain requests, each with its token.

use std::time::Duration;

use icegate_proto::v1::{ApprovalState, Outcome, RevokedSessions, RunStatus, watch_response::Event};
use serde_json::{Value, json};

use crate::{
    pdp::{deny, needs_approval},
    stage::{Stage, eventually},
    upstream::SLOW_ID,
};

const SUBMIT: &str = "/api/v2/statements";

impl Stage {
    async fn api(&self, method: &str, path: &str, token: &str, body: &Value) -> (u16, Value) {
        self.driver.call_as(method, path, &format!("Bearer {token}"), body).await
    }

    async fn submit(&self, body: &Value) -> (u16, Value) {
        self.api("POST", SUBMIT, "good.token", body).await
    }
}

#[tokio::test]
async fn a_statement_is_decided_run_and_recorded() {
    let stage = Stage::new().await;
    let (status, body) = stage
        .submit(&json!({ "statement": "select 1", "role": "ANALYST", "database": "SALES", "parameters": { "query_tag": "mine" } }))
        .await;
    assert_eq!((status, &body["code"], &body["data"]), (200, &json!("090001"), &json!([["1"]])), "{body}");
    assert_eq!(body["resultSetMetaData"]["rowType"][0]["name"], "A");
    let asked = stage.pdp.told.lock().unwrap().decides[0].clone();
    let context = asked.context.unwrap();
    assert_eq!((context.role.as_str(), context.database.as_str()), ("ANALYST", "SALES"), "where it really runs");
    let opened = stage.pdp.told.lock().unwrap().opened[0].clone();
    assert_eq!(opened.client.unwrap().app_id, "SQLAPI");
    assert_eq!(opened.context.unwrap().role, "ANALYST");
    let sent = &stage.upstream.calls_to("/queries/v1/query-request")[0];
    let tag: Value = serde_json::from_str(sent.body["parameters"]["QUERY_TAG"].as_str().unwrap()).unwrap();
    assert_eq!((&tag["icegate"]["user"], &tag["tag"]), (&json!("corp/ana"), &json!("mine")));
    eventually("recorded", || async { !stage.pdp.told.lock().unwrap().outcomes.is_empty() }).await;
    assert_eq!(stage.pdp.told.lock().unwrap().outcomes[0].status(), RunStatus::Succeeded);

    stage.pdp.decide_as("drop table t", deny("POLICY-FORBID", "no-drops", "Tables are not dropped."));
    let (status, body) =
        stage.submit(&json!({ "statement": "drop table t", "role": "ANALYST", "database": "SALES" })).await;
    assert_eq!((status, &body["code"]), (422, &json!("003001")));
    assert!(body["message"].as_str().unwrap().contains("(policy `no-drops`) [POLICY-FORBID"), "{body}");
    // One session served both.
    assert_eq!(stage.upstream.calls_to("/session/v1/login-request").len(), 1);
    assert_eq!(stage.upstream.texts(), ["select 1"]);
    stage.assert_nothing_leaked();
}

#[tokio::test]
async fn another_role_is_another_session_and_traces_end_one() {
    let stage = Stage::new().await;
    let logins = || stage.upstream.calls_to("/session/v1/login-request").len();
    stage.submit(&json!({ "statement": "select 1", "role": "ANALYST" })).await;
    stage.submit(&json!({ "statement": "select 1", "role": "LOADER" })).await;
    assert_eq!(logins(), 2);
    let paths: Vec<String> =
        stage.upstream.calls_to("/session/v1/login-request").into_iter().map(|it| it.path).collect();
    assert!(paths[0].contains("roleName=ANALYST") && paths[1].contains("roleName=LOADER"), "{paths:?}");
    let set = icegate_proto::v1::DecideResponse {
        decision_id: "0198-set".into(),
        outcome: Outcome::Allow.into(),
        sql: "alter session set timezone='UTC'".into(),
        statement_kinds: vec!["alter_session".into()],
        ..Default::default()
    };
    stage.pdp.decide_as("alter session set timezone='UTC'", set);
    stage.submit(&json!({ "statement": "alter session set timezone='UTC'", "role": "ANALYST" })).await;
    eventually("closed", || async { !stage.pdp.told.lock().unwrap().closed.is_empty() }).await;
    stage.submit(&json!({ "statement": "select 2", "role": "ANALYST" })).await;
    assert_eq!(logins(), 3, "what was set is not found by the next request");
}

#[tokio::test]
async fn who_shows_no_token_or_a_bad_one_gets_nothing() {
    let stage = Stage::new().await;
    let (status, body) = stage.api("POST", SUBMIT, "bad.token", &json!({ "statement": "select 1" })).await;
    assert_eq!((status, &body["code"]), (401, &json!("390303")), "{body}");
    let (status, _) = stage.api("GET", &format!("{SUBMIT}/{SLOW_ID}"), "bad.token", &Value::Null).await;
    assert_eq!(status, 401);
    let (status, body) = stage.submit(&json!({ "statement": "select 1", "warehouse": "W\"; x" })).await;
    assert_eq!(status, 422, "{body}");
    assert!(stage.upstream.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_handle_belongs_to_its_principal() {
    let stage = Stage::new().await;
    let (status, body) =
        stage.api("POST", &format!("{SUBMIT}?async=true"), "good.token", &json!({ "statement": "select slow" })).await;
    assert_eq!((status, &body["code"], &body["statementHandle"]), (202, &json!("333334"), &json!(SLOW_ID)), "{body}");
    let path = body["statementStatusUrl"].as_str().unwrap().to_owned();
    assert_eq!(stage.api("GET", &path, "good.token", &Value::Null).await.0, 202);
    // The same person with a fresh token may ask; somebody else may not, and learns nothing.
    assert_eq!(stage.api("GET", &path, "good.token.2", &Value::Null).await.0, 202);
    stage.pdp.script.lock().unwrap().principal = "corp/eve".into();
    let before = stage.upstream.calls_to("/queries/").len();
    let (status, theirs) = stage.api("GET", &path, "good.eve", &Value::Null).await;
    let (_, nothing) =
        stage.api("GET", &format!("{SUBMIT}/99999999-2222-3333-4444-555555555555"), "good.eve", &Value::Null).await;
    assert_eq!((status, &theirs), (404, &nothing));
    assert_eq!(stage.api("POST", &format!("{path}/cancel"), "good.eve", &Value::Null).await.0, 404);
    assert_eq!(stage.upstream.calls_to("/queries/").len(), before, "not even asked for");
    assert_eq!(stage.api("POST", &format!("{path}/cancel"), "good.token", &Value::Null).await.0, 200);
    assert_eq!(stage.upstream.calls_to(&format!("/queries/{SLOW_ID}/abort-request")).len(), 1);
    *stage.upstream.slow_done.lock().unwrap() = true;
    let (status, body) = stage.api("GET", &path, "good.token", &Value::Null).await;
    assert_eq!((status, &body["data"]), (200, &json!([["slow"]])));
}

#[tokio::test]
async fn a_retry_runs_nothing_twice() {
    let stage = Stage::new().await;
    let path = format!("{SUBMIT}?requestId={}&retry=true", uuid::Uuid::new_v4());
    for _ in 0..3 {
        let (status, _) = stage.api("POST", &path, "good.token", &json!({ "statement": "select 1" })).await;
        assert_eq!(status, 200);
    }
    assert_eq!(stage.upstream.texts().len(), 1);
    for other in [json!({ "statement": "select 2" }), json!({ "statement": "select 1", "role": "LOADER" })] {
        let (status, body) = stage.api("POST", &path, "good.token", &other).await;
        assert_eq!(status, 422, "{body}");
    }
    assert_eq!(stage.upstream.texts().len(), 1);

    // Nor when what it did ended its session.
    let call = icegate_proto::v1::DecideResponse {
        decision_id: "0198-call".into(),
        outcome: Outcome::Allow.into(),
        sql: "call p()".into(),
        statement_kinds: vec!["call".into()],
        ..Default::default()
    };
    stage.pdp.decide_as("call p()", call);
    let path = format!("{SUBMIT}?requestId={}&retry=true", uuid::Uuid::new_v4());
    for _ in 0..2 {
        let (status, body) = stage.api("POST", &path, "good.token", &json!({ "statement": "call p()" })).await;
        assert_eq!(status, 200, "{body}");
        eventually("closed", || async { !stage.pdp.told.lock().unwrap().closed.is_empty() }).await;
    }
    assert_eq!(stage.upstream.texts(), ["select 1", "call p()"]);
}

#[tokio::test]
async fn a_held_statement_is_asked_for_by_its_handle() {
    let stage = Stage::with("0s", "[hold]\npoll = \"200ms\"\nabandoned = \"5s\"\n").await;
    stage.pdp.decide_as("delete from t", needs_approval(60));
    let (status, body) = stage.submit(&json!({ "statement": "delete from t" })).await;
    assert_eq!(status, 202, "{body}");
    let path = body["statementStatusUrl"].as_str().unwrap().to_owned();
    assert_eq!(stage.api("GET", &path, "good.token", &Value::Null).await.0, 202);
    assert!(stage.upstream.texts().is_empty());
    stage.pdp.script.lock().unwrap().approval = ApprovalState::Approved;
    let mut last = (0, Value::Null);
    for _ in 0..50 {
        last = stage.api("GET", &path, "good.token", &Value::Null).await;
        if last.0 == 200 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!((last.0, &last.1["data"]), (200, &json!([["1"]])));
    assert_eq!(stage.upstream.texts(), ["delete from t"]);
}

#[tokio::test]
async fn many_at_once_are_bounded_and_a_revoked_session_is_not_used_again() {
    let stage = Stage::new().await;
    let running: Vec<_> = (0..20)
        .map(|n| {
            let driver = stage.driver.clone();
            tokio::spawn(async move {
                driver
                    .call_as(
                        "POST",
                        SUBMIT,
                        "Bearer good.token",
                        &json!({ "statement": format!("select blocked {n}") }),
                    )
                    .await
                    .0
            })
        })
        .collect();
    eventually("as many as may", || async { stage.upstream.texts().len() >= 16 }).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    stage.upstream.gate.add_permits(20);
    let mut statuses = Vec::new();
    for one in running {
        statuses.push(one.await.unwrap());
    }
    assert!(statuses.iter().filter(|status| **status == 200).count() >= 16, "{statuses:?}");
    assert!(statuses.iter().all(|status| matches!(status, 200 | 422)), "{statuses:?}");
    let ids = (1..=40).map(|n| format!("S-{n}")).collect();
    stage.pdp.emit(Event::Revoked(RevokedSessions { session_ids: ids }));
    eventually("left", || async { stage.upstream.calls_to("/session?").len() >= 16 }).await;
    let logins = stage.upstream.calls_to("/session/v1/login-request").len();
    stage.submit(&json!({ "statement": "select 1" })).await;
    assert_eq!(
        stage.upstream.calls_to("/session/v1/login-request").len(),
        logins + 1,
        "its token is shown to the pdp again"
    );
}
