//! Statements that only stop others: by the ids that the client has, and never at Snowflake.

use icegate_proto::v1::{DecideResponse, Outcome, RunStatus, Stop, stop::Of};
use serde_json::{Value, json};

use crate::{
    outcomes,
    pdp::needs_approval,
    stage::{Driver, Stage},
    text,
    upstream::SLOW_ID,
};

/// What the text stops, as the PDP would read it.
async fn stop(stage: &Stage, driver: &Driver, of: Of) -> Value {
    let sql = format!("select stops {of:?}");
    let decision = DecideResponse {
        decision_id: format!("0198-{of:?}"),
        outcome: Outcome::Allow.into(),
        sql: sql.clone(),
        // Whoever says so: such a decision is not used again.
        cacheable_seconds: 60,
        statement_kinds: vec!["cancel".into()],
        stop: Some(Stop { of: Some(of) }),
        ..Default::default()
    };
    stage.pdp.decide_as(&sql, decision);
    driver.query(&sql).await
}

#[tokio::test]
async fn what_is_the_sessions_own_is_stopped_and_nothing_else() {
    let mut stage = Stage::with("60s", "[hold]\npoll = \"150ms\"\nabandoned = \"60s\"\n").await;
    stage.driver.login().await;
    let mut other = stage.driver.clone();
    other.login().await;
    stage.pdp.decide_as("delete from t", needs_approval(60));
    let held = stage.driver.query("delete from t").await;
    let id = held["data"]["queryId"].as_str().unwrap().to_owned();
    let url = held["data"]["getResultUrl"].as_str().unwrap().to_owned();
    assert_eq!(stage.driver.query("select slow").await["code"], "333333");

    // Another session's, and none: one answer, and nothing is stopped.
    for (driver, of) in [
        (&other, Of::QueryId(id.clone())),
        (&other, Of::QueryId(SLOW_ID.into())),
        (&other, Of::QueryId("01b0c1d2-0000-0000-0000-000000000001".into())),
        (&stage.driver, Of::SessionNumber(other.number)),
        (&stage.driver, Of::SessionNumber(1)),
    ] {
        let reply = stop(&stage, driver, of).await;
        let said = text(&reply);
        assert!(said.contains("There is no") && said.contains("[QUERY-UNKNOWN]"), "{reply}");
    }
    assert_eq!(stage.driver.get(&url).await["code"], "333333", "it still waits");
    assert!(stage.upstream.calls_to("/queries/v1/abort-request").is_empty());

    // What waits for a person, by our id for it; once more it is no longer there to be stopped.
    let reply = stop(&stage, &stage.driver, Of::QueryId(id.clone())).await;
    assert_eq!(reply["data"]["rowset"], json!([[format!("query [{id}] terminated.")]]), "{reply}");
    assert_eq!(stage.driver.get(&url).await["code"], "000604");
    let reply = stop(&stage, &stage.driver, Of::QueryId(id)).await;
    assert_eq!(reply["data"]["rowset"], json!([["Identified SQL statement is not currently executing."]]), "{reply}");

    // What runs at Snowflake, by the number of the session.
    let reply = stop(&stage, &stage.driver, Of::SessionNumber(stage.driver.number)).await;
    assert_eq!(reply["data"]["rowset"], json!([["1 cancelled."]]), "{reply}");
    let path = format!("/queries/{SLOW_ID}/abort-request");
    assert_eq!(stage.upstream.calls_to(&path).len(), 1);

    assert_eq!(stage.upstream.texts(), ["select slow"], "nothing of it is sent");
    let told = outcomes(&stage, 8).await;
    let ended = |status: RunStatus| told.iter().filter(|one| one.status == i32::from(status)).count();
    assert_eq!((ended(RunStatus::Succeeded), ended(RunStatus::NotSent)), (3, 5), "{told:?}");
    assert!(stage.pdp.told.lock().unwrap().intents.is_empty(), "each was decided");
    stage.assert_nothing_leaked();
}

#[tokio::test]
async fn what_it_cannot_do_it_says() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    let sql = "select stops what nobody knows";
    let decision = DecideResponse {
        decision_id: "0198-odd".into(),
        outcome: Outcome::Allow.into(),
        sql: sql.into(),
        stop: Some(Stop { of: None }),
        ..Default::default()
    };
    stage.pdp.decide_as(sql, decision);
    for (fields, said) in
        [(json!({}), "does not know what the statement stops"), (json!({ "asyncExec": true }), "run it synchronously")]
    {
        let mut body = json!({ "sqlText": sql });
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let path = format!("/queries/v1/query-request?requestId={}", uuid::Uuid::new_v4());
        let reply = stage.driver.call("POST", &path, &stage.driver.token, &body).await;
        assert!(text(&reply).contains(said), "{reply}");
    }
    let path = format!("/queries/v1/query-request?requestId={}", uuid::Uuid::new_v4());
    let body = json!({ "sqlText": sql, "describeOnly": true });
    let reply = stage.driver.call("POST", &path, &stage.driver.token, &body).await;
    assert_eq!((&reply["data"]["rowset"], reply["data"]["rowtype"].as_array().unwrap().len()), (&json!([]), 1));
    assert!(stage.upstream.texts().is_empty());
}
