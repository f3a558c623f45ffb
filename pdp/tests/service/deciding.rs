use std::time::Duration;

use icegate_proto::v1::{
    DecideRequest, Outcome, SearchRecordsRequest, WaitApprovalRequest, WatchRequest, result_mask, stop,
};
use sqlx::{Connection as _, SqliteConnection};

use crate::stand::{AGENT, ANA, STELLA, Stand, code_of, context};

#[tokio::test(flavor = "multi_thread")]
async fn each_outcome_is_answered_and_on_record() {
    let stand = Stand::start().await;
    let ana = stand.session(ANA).await;

    let allowed = stand.decide(&ana, "SELECT id, amount FROM sales.public.orders").await;
    assert_eq!(allowed.outcome(), Outcome::Allow, "{allowed:?}");
    assert_eq!(allowed.sql, "SELECT id, amount FROM sales.public.orders");
    assert_eq!(allowed.cacheable_seconds, 60);
    assert_eq!(allowed.statement_kinds, ["select"]);
    assert!(allowed.result_shapes[0].promised && allowed.result_shapes[0].columns == ["ID", "AMOUNT"], "{allowed:?}");
    assert!(allowed.record_seq > 0);

    let masked = stand.decide(&ana, "SELECT id, email FROM customers").await;
    assert_eq!(masked.outcome(), Outcome::Mask, "{masked:?}");
    assert_eq!(masked.masks[0].column, "SALES.PUBLIC.CUSTOMERS.EMAIL");
    assert_eq!((masked.masks[0].mask.as_str(), masked.masks[0].policy_id.as_str()), ("email", "mask-email"));
    assert_ne!(masked.sql, "SELECT id, email FROM customers");
    assert_eq!(masked.result_shapes[0].columns, ["ID", "EMAIL"]);

    let denied = stand.decide(&ana, "DROP DATABASE sales").await;
    assert_eq!(denied.outcome(), Outcome::Deny);
    assert_eq!((denied.sql.as_str(), denied.cacheable_seconds), ("", 0));
    assert!(!denied.reasons.is_empty());

    let unknown = stand.decide(&ana, "FROBNICATE THE WAREHOUSE").await;
    assert_eq!(unknown.outcome(), Outcome::Deny);

    let agent = stand.session(AGENT).await;
    let held = stand.decide(&agent, "DELETE FROM orders WHERE id = 1").await;
    assert_eq!(held.outcome(), Outcome::NeedsApproval, "{held:?}");
    assert_eq!(held.approval.as_ref().unwrap().groups, ["data-stewards"]);
    assert_eq!(held.cacheable_seconds, 0);
    assert!(!held.result_shapes[0].promised, "only a query's columns are known: {held:?}");

    for answer in [&allowed, &masked, &denied, &unknown, &held] {
        let decision_id = answer.decision_id.clone();
        let found = stand.search(SearchRecordsRequest { decision_id, ..Default::default() }).await;
        let record = found.iter().find(|record| record["event"]["kind"] == "decision").unwrap();
        assert_eq!(record["seq"], answer.record_seq);
        assert_eq!(record["event"]["bundle_version"], answer.bundle_version);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn masks_of_the_result_go_to_a_pep_that_applies_them() {
    let stand = Stand::start_policies(&[(
        "tokens.cedar",
        r#"@id("token-email") @mask("tokenize(key=crm, domain=mail)")
        forbid (principal, action == Icegate::Action::"read_column", resource in Icegate::Tag::"pii.email");"#,
    )])
    .await;
    let ana = stand.session(ANA).await;
    let ask = |sql: &str, masks_results| DecideRequest {
        session_id: ana.session_id.clone(),
        request_id: "r".into(),
        sql: sql.into(),
        context: Some(context()),
        statement_count: 1,
        masks_results,
        ..Default::default()
    };
    let decide = async |request| stand.decisions().decide(request).await.unwrap().into_inner();

    let masked = decide(ask("SELECT id, email FROM customers", true)).await;
    assert_eq!(masked.outcome(), Outcome::Mask, "{masked:?}");
    assert!(!masked.sql.contains("crm") && masked.sql.contains(r#""EMAIL""#), "{}", masked.sql);
    let [worn] = masked.result_masks.as_slice() else { panic!("{masked:?}") };
    assert_eq!((worn.statement, worn.ordinal, worn.column.as_str()), (1, 2, "SALES.PUBLIC.CUSTOMERS.EMAIL"));
    let Some(result_mask::Mask::Tokenize(token)) = &worn.mask else { panic!("{worn:?}") };
    assert_eq!((token.key.as_str(), token.domain.as_str()), ("crm", "domain mail"));
    assert!(masked.result_shapes[0].promised);
    let found = stand.search(SearchRecordsRequest { decision_id: masked.decision_id, ..Default::default() }).await;
    let record = found.iter().find(|record| record["event"]["kind"] == "decision").unwrap();
    assert_eq!(record["event"]["columns"][1]["result_mask"], "tokenize(key=crm, domain=mail)", "{record}");
    assert_eq!(record["event"]["masks"][0]["site"], "result");

    let older = decide(ask("SELECT id, email FROM customers", false)).await;
    assert_eq!((older.outcome(), code_of(&older), older.sql.as_str()), (Outcome::Deny, "MASK-IMPOSSIBLE", ""));
    assert!(older.result_masks.is_empty());
    let other = decide(ask("SELECT id FROM customers", false)).await;
    assert_eq!(other.outcome(), Outcome::Allow, "{other:?}");
    let dropped = decide(ask("SELECT id FROM (SELECT * FROM customers)", false)).await;
    assert!(dropped.outcome() == Outcome::Mask && dropped.result_masks.is_empty(), "{dropped:?}");
    assert!(dropped.sql.contains(r#"CAST(NULL AS VARCHAR) AS "EMAIL""#), "{}", dropped.sql);
    let decides = decide(ask("SELECT id FROM customers WHERE email = 'a@b.c'", true)).await;
    assert_eq!((decides.outcome(), code_of(&decides)), (Outcome::Deny, "MASK-IMPOSSIBLE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_stops_others_goes_to_a_pep_that_does_it() {
    let stand = Stand::start().await;
    let ana = stand.session(ANA).await;
    let sql = "select system$cancel_all_queries(4711)";
    let ask = |stops| DecideRequest {
        session_id: ana.session_id.clone(),
        request_id: "r".into(),
        sql: sql.into(),
        context: Some(context()),
        statement_count: 1,
        stops,
        ..Default::default()
    };
    let decide = async |request| stand.decisions().decide(request).await.unwrap().into_inner();
    let allowed = decide(ask(true)).await;
    assert_eq!((allowed.outcome(), allowed.sql.as_str()), (Outcome::Allow, sql), "{allowed:?}");
    assert_eq!(allowed.stop.and_then(|stop| stop.of), Some(stop::Of::SessionNumber(4711)));
    assert_eq!((allowed.statement_kinds, allowed.cacheable_seconds), (vec!["cancel".to_owned()], 0));
    // It would send the text, and Snowflake would stop whatever has that number.
    let older = decide(ask(false)).await;
    assert_eq!((older.outcome(), code_of(&older), older.sql.as_str()), (Outcome::Deny, "SQL-UNKNOWN", ""));
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_and_long_texts_are_answered() {
    let stand = Stand::start().await;
    let ana = stand.session(ANA).await;
    let deep = format!("SELECT {}1{}", "(".repeat(20_000), ")".repeat(20_000));
    assert_eq!(stand.decide(&ana, &deep).await.outcome(), Outcome::Deny);
    let long = format!("SELECT id FROM orders WHERE id IN ({}0)", "1,".repeat(20_000));
    assert_eq!(stand.decide(&ana, &long).await.outcome(), Outcome::Allow);
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_nest_without_brackets_are_answered() {
    let stand = Stand::start().await;
    let ana = stand.session(ANA).await;
    for count in [1_000, 60_000] {
        for (head, piece, tail) in [
            ("SELECT ", "1+", "1"),
            ("SELECT ", "NOT ", "true"),
            ("SELECT ", "- ", "1"),
            ("", "SELECT 1 UNION ALL ", "SELECT 1"),
            ("SELECT ", "CASE WHEN true THEN ", "1"),
            ("SELECT 'a'", "||'a'", ""),
            ("SELECT a", "::int", ""),
        ] {
            let sql = format!("{head}{}{tail}", piece.repeat(count / piece.len()));
            let answer = stand.decide(&ana, &sql).await;
            assert!(answer.record_seq > 0, "{piece} {count}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn work_over_its_limit_is_refused_at_once() {
    let stand = Stand::start_with("[limits]\ndecides_max = 1\nwaits_max = 1\nwatches_max = 1").await;
    let agent = stand.session(AGENT).await;
    let held = stand.decide(&agent, "DELETE FROM orders WHERE id = 1").await;
    let wait = WaitApprovalRequest { approval_id: held.approval.unwrap().approval_id, timeout_ms: 30_000 };
    let mut approvals = stand.approvals();
    let first = wait.clone();
    let waiting = tokio::spawn(async move { approvals.wait_approval(first).await });
    let _watching = crate::watching::watch(&stand, "pep-1", "a").await;
    // Nothing can be written, so the first decision is held up.
    let path = stand.folder.path().join("icegate.db");
    let mut other = SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let decide = DecideRequest { session_id: agent.session_id.clone(), sql: "SELECT 1".into(), ..Default::default() };
    let (mut decisions, first) = (stand.decisions(), decide.clone());
    let deciding = tokio::spawn(async move { decisions.decide(first).await });
    tokio::time::sleep(Duration::from_millis(300)).await;

    let watch = WatchRequest { pep_id: "pep-2".into(), instance_id: "b".into() };
    for (status, limit) in [
        (stand.decisions().decide(decide).await.unwrap_err(), "limits.decides_max"),
        (stand.approvals().wait_approval(wait).await.unwrap_err(), "limits.waits_max"),
        (stand.watches().watch(watch).await.unwrap_err(), "limits.watches_max"),
    ] {
        assert_eq!(status.code(), tonic::Code::ResourceExhausted, "{status}");
        assert!(status.message().contains(limit), "{status}");
    }
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    assert_eq!(deciding.await.unwrap().unwrap().into_inner().outcome(), Outcome::Allow);
    waiting.abort();
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_limit_is_an_error_that_names_it() {
    let stand = Stand::start_with("[limits]\nsql_bytes_max = 1024\nbindings_bytes_max = 1024\npage_max = 10").await;
    let ana = stand.session(ANA).await;
    for (sql, bindings_json, wanted) in [
        ("x".repeat(1025), String::new(), "limits.sql_bytes_max"),
        ("SELECT 1".into(), "x".repeat(1025), "limits.bindings_bytes_max"),
    ] {
        let request = DecideRequest {
            session_id: ana.session_id.clone(),
            sql,
            bindings_json,
            context: Some(context()),
            ..Default::default()
        };
        let status = stand.decisions().decide(request).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::InvalidArgument);
        assert!(status.message().contains(wanted), "{status}");
    }
    let list = icegate_proto::v1::ListSessionsRequest { limit: 11, ..Default::default() };
    let status = stand.sessions().list_sessions(stand.by(STELLA, list)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_nobody_opened_is_refused_and_on_record() {
    let stand = Stand::start().await;
    let nobody = icegate_proto::v1::Session { session_id: "no-such".into(), ..Default::default() };
    let refused = stand.decide(&nobody, "SELECT 1").await;
    assert_eq!((refused.outcome(), code_of(&refused)), (Outcome::Deny, "SESSION-ENDED"));
    assert!(refused.record_seq > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_bundle_takes_effect_and_a_bad_one_does_not() {
    let stand = Stand::start().await;
    let ana = stand.session(ANA).await;
    let sql = "SELECT id FROM orders";
    let first = stand.decide(&ana, sql).await;
    assert_eq!(first.outcome(), Outcome::Allow);

    let extra = stand.folder.path().join("policies/extra.cedar");
    std::fs::write(&extra, "@id(\"broken\") forbid (principal, action").unwrap();
    let refused = wait_for(&stand, "bundle-refused").await;
    assert!(refused["event"]["reason"].as_str().unwrap().contains("extra.cedar"), "{refused}");
    assert_eq!(stand.decide(&ana, sql).await.bundle_version, first.bundle_version);

    let freeze = "@id(\"freeze\") @reason(\"Nothing runs today.\")\n\
                  forbid (principal, action == Icegate::Action::\"run\", resource);";
    std::fs::write(&extra, freeze).unwrap();
    let loaded = wait_for(&stand, "bundle-loaded").await;
    assert_eq!(loaded["event"]["previous"], first.bundle_version);
    let frozen = stand.decide(&ana, sql).await;
    assert_eq!((frozen.outcome(), code_of(&frozen)), (Outcome::Deny, "POLICY-FORBID"));
    assert_eq!(frozen.policy_ids, ["freeze"]);
    assert_eq!(loaded["event"]["version"], frozen.bundle_version);
}

/// The first record of this kind, once there is one.
async fn wait_for(stand: &Stand, kind: &str) -> serde_json::Value {
    for _ in 0..100 {
        let found = stand.search(SearchRecordsRequest::default()).await;
        if let Some(record) = found.into_iter().find(|record| record["event"]["kind"] == kind) {
            return record;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("no record `{kind}`");
}
