//! Results of earlier statements, read again by `RESULT_SCAN`.

use icegate_proto::v1::{
    AppendIntentRequest, AppendOutcomeRequest, DecideRequest, DecideResponse, Outcome, RunStatus, SearchRecordsRequest,
    Session,
};

use crate::stand::{ANA, ENGINEER, Stand, code_of, context};

fn scan(query_id: &str) -> String {
    format!("SELECT * FROM TABLE(RESULT_SCAN('{query_id}'))")
}

/// Tells that a statement ran.
async fn ran(stand: &Stand, session: &Session, decision_id: &str, query_id: &str, status: RunStatus) {
    let outcome = AppendOutcomeRequest {
        decision_id: decision_id.into(),
        session_id: session.session_id.clone(),
        status: status.into(),
        query_id: query_id.into(),
        ..Default::default()
    };
    stand.audit().append_outcome(outcome).await.unwrap();
}

/// Decides a statement and says that it ran under this id.
async fn run(stand: &Stand, session: &Session, sql: &str, query_id: &str) -> DecideResponse {
    let decided = stand.decide(session, sql).await;
    assert!(matches!(decided.outcome(), Outcome::Allow | Outcome::Mask), "{sql}: {decided:?}");
    ran(stand, session, &decided.decision_id, query_id, RunStatus::Succeeded).await;
    decided
}

async fn refused(stand: &Stand, session: &Session, sql: &str) {
    let answer = stand.decide(session, sql).await;
    assert_eq!(
        (answer.outcome(), code_of(&answer), answer.sql.as_str()),
        (Outcome::Deny, "SQL-UNRESOLVED", ""),
        "{sql}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_is_read_again_by_the_session_that_has_it() {
    let stand = Stand::start().await;
    let ana = stand.session(ANA).await;
    run(&stand, &ana, "SELECT id, amount FROM orders", "01a0-01").await;
    let again = stand.decide(&ana, &scan("01a0-01")).await;
    assert_eq!((again.outcome(), again.sql.as_str()), (Outcome::Allow, scan("01a0-01").as_str()), "{again:?}");
    assert_eq!(again.cacheable_seconds, 0, "it is looked up every time");
    assert_eq!(again.result_shapes[0].columns, ["ID", "AMOUNT"]);
    // Policies are asked about what the result is made of.
    let decision_id = again.decision_id.clone();
    let found = stand.search(SearchRecordsRequest { decision_id, ..Default::default() }).await;
    let event = &found.iter().find(|record| record["event"]["kind"] == "decision").unwrap()["event"];
    assert_eq!(event["statements"][0]["objects"][0]["name"], "SALES.PUBLIC.ORDERS");
    assert_eq!(event["disclosed"], serde_json::json!(["SALES.PUBLIC.ORDERS.AMOUNT", "SALES.PUBLIC.ORDERS.ID"]));

    // Masked at the source it holds masked values, and needs no mask more.
    let masked = run(&stand, &ana, "SELECT id, email FROM customers", "01a0-02").await;
    assert_eq!(masked.outcome(), Outcome::Mask);
    let again = stand.decide(&ana, &scan("01a0-02")).await;
    assert_eq!((again.outcome(), again.sql.as_str()), (Outcome::Allow, scan("01a0-02").as_str()), "{again:?}");
    let counted = "SELECT COUNT(*) FROM TABLE(RESULT_SCAN('01a0-02')) r, customers c WHERE r.email = c.email";
    let counted = stand.decide(&ana, counted).await;
    assert!(
        counted.outcome() == Outcome::Mask && counted.sql.contains("(SELECT"),
        "the table beside it is masked: {counted:?}"
    );

    // The second is told by its head alone: its object is known.
    for (show, id) in [
        ("SHOW TABLES IN SCHEMA sales.public", "01a0-03"),
        ("SHOW PRIMARY KEYS IN TABLE sales.public.orders", "01a0-05"),
    ] {
        run(&stand, &ana, show, id).await;
        let shown = stand.decide(&ana, &format!("SELECT \"name\" FROM TABLE(RESULT_SCAN('{id}'))")).await;
        assert_eq!(shown.outcome(), Outcome::Allow, "{shown:?}");
    }

    // A run under a cached decision is a run of its own.
    let decided = stand.decide(&ana, "SELECT status FROM orders").await;
    let intent = AppendIntentRequest {
        session_id: ana.session_id.clone(),
        cached_decision_id: decided.decision_id,
        request_id: "r2".into(),
        bindings_json: String::new(),
    };
    let second = stand.audit().append_intent(intent).await.unwrap().into_inner();
    ran(&stand, &ana, &second.decision_id, "01a0-04", RunStatus::Succeeded).await;
    assert_eq!(stand.decide(&ana, &scan("01a0-04")).await.outcome(), Outcome::Allow);
    let stand = stand.restarted().await;
    assert_eq!(stand.decide(&ana, &scan("01a0-04")).await.outcome(), Outcome::Allow, "it is in the trail");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_other_result_is_read() {
    let stand = Stand::start().await;
    let (ana, emil) = (stand.session(ANA).await, stand.session(ENGINEER).await);
    run(&stand, &ana, "SELECT id FROM orders", "01b0-01").await;
    // Another session of hers, and somebody else.
    let second = stand.session(ANA).await;
    for session in [&second, &emil] {
        refused(&stand, session, &scan("01b0-01")).await;
    }
    // Somebody who says that the id is theirs takes it from both.
    let decided = stand.decide(&emil, "SELECT id FROM orders").await;
    ran(&stand, &emil, &decided.decision_id, "01b0-01", RunStatus::Succeeded).await;
    for session in [&ana, &emil] {
        refused(&stand, session, &scan("01b0-01")).await;
    }
    // What did not end well, was never run, or only described.
    for (id, status) in
        [("01b0-02", RunStatus::Failed), ("01b0-03", RunStatus::Withheld), ("01b0-04", RunStatus::Unknown)]
    {
        let decided = stand.decide(&ana, "SELECT id FROM orders").await;
        ran(&stand, &ana, &decided.decision_id, id, status).await;
        refused(&stand, &ana, &scan(id)).await;
    }
    let denied = stand.decide(&ana, "DROP DATABASE sales").await;
    ran(&stand, &ana, &denied.decision_id, "01b0-05", RunStatus::Succeeded).await;
    let describe = DecideRequest {
        session_id: ana.session_id.clone(),
        request_id: "r".into(),
        sql: "SELECT id FROM orders".into(),
        context: Some(context()),
        statement_count: 1,
        describe_only: true,
        ..Default::default()
    };
    let described = stand.decisions().decide(describe).await.unwrap().into_inner();
    ran(&stand, &ana, &described.decision_id, "01b0-06", RunStatus::Succeeded).await;
    run(&stand, &ana, "SELECT * FROM INFORMATION_SCHEMA.TABLES", "01b0-07").await;
    run(&stand, &ana, "USE WAREHOUSE demo_wh", "01b0-08").await;
    for id in ["01b0-05", "01b0-06", "01b0-07", "01b0-08", "01b0-99", "01B0-02", ""] {
        refused(&stand, &ana, &scan(id)).await;
    }
    run(&stand, &ana, "SELECT id FROM orders", "01b0-09").await;
    for sql in [
        "SELECT * FROM TABLE(RESULT_SCAN(LAST_QUERY_ID()))",
        "SELECT * FROM TABLE(RESULT_SCAN($q))",
        "SELECT * FROM TABLE(RESULT_SCAN('01b0' || '-09'))",
        "SELECT * FROM TABLE(RESULT_SCAN(?))",
        "SELECT no_such FROM TABLE(RESULT_SCAN('01b0-09'))",
        "SELECT * FROM TABLE(RESULT_SCAN('01b0-09')), TABLE(RESULT_SCAN('01b0-99'))",
    ] {
        refused(&stand, &ana, sql).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_proxy_masks_is_not_read_again_and_no_more_after_a_change() {
    let token = r#"@id("token-email") @mask("tokenize(key=crm)")
        forbid (principal, action == Icegate::Action::"read_column", resource in Icegate::Tag::"pii.email");"#;
    let stand = Stand::start_policies(&[("tokens.cedar", token)]).await;
    let ana = stand.session(ANA).await;
    let ask = DecideRequest {
        session_id: ana.session_id.clone(),
        request_id: "r".into(),
        sql: "SELECT id, email FROM customers".into(),
        context: Some(context()),
        statement_count: 1,
        masks_results: true,
        ..Default::default()
    };
    let masked = stand.decisions().decide(ask).await.unwrap().into_inner();
    assert_eq!(masked.result_masks.len(), 1, "{masked:?}");
    ran(&stand, &ana, &masked.decision_id, "01c0-01", RunStatus::Succeeded).await;
    refused(&stand, &ana, &scan("01c0-01")).await;

    run(&stand, &ana, "SELECT id FROM orders", "01c0-02").await;
    assert_eq!(stand.decide(&ana, &scan("01c0-02")).await.outcome(), Outcome::Allow);
    std::fs::remove_file(stand.folder.path().join("policies/tokens.cedar")).unwrap();
    let before = masked.bundle_version;
    let mut now = before.clone();
    for _ in 0..200 {
        now = stand.decide(&ana, "SELECT 1").await.bundle_version;
        if now != before {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    assert_ne!(now, before, "the policies were read again");
    for id in ["01c0-01", "01c0-02"] {
        refused(&stand, &ana, &scan(id)).await;
    }
}
