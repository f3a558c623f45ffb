//! Names that come as bound values.

use icegate_proto::v1::{
    AppendIntentRequest, AppendOutcomeRequest, ApproveRequest, DecideRequest, DecideResponse, GetApprovalRequest,
    Outcome, RunStatus, SearchRecordsRequest, Session,
};
use serde_json::{Value, json};
use tonic::Code;

use crate::stand::{AGENT, ANA, STELLA, Stand, code_of, context};

/// Must be in no record, whatever it is bound to.
const CANARY: &str = "bound-value-canary";

fn texts(values: &[&str]) -> String {
    let value = |(at, text): (usize, &&str)| ((at + 1).to_string(), json!({ "type": "TEXT", "value": text }));
    Value::Object(values.iter().enumerate().map(value).collect()).to_string()
}

fn request(session: &Session, sql: &str, bindings_json: String) -> DecideRequest {
    DecideRequest {
        session_id: session.session_id.clone(),
        request_id: "r".into(),
        sql: sql.into(),
        context: Some(context()),
        statement_count: 1,
        bindings_json,
        keeps_names: true,
        ..Default::default()
    }
}

async fn decide(stand: &Stand, request: DecideRequest) -> DecideResponse {
    stand.decisions().decide(request).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_name_is_judged_and_recorded_like_one_in_the_text() {
    let stand = Stand::start().await;
    let ana = stand.session(ANA).await;
    let sql = "SELECT * FROM IDENTIFIER(?) WHERE ? = 'x'";
    let ask = |name: &str| request(&ana, sql, texts(&[name, CANARY]));

    let orders = decide(&stand, ask("orders")).await;
    assert_eq!((orders.outcome(), orders.sql.as_str()), (Outcome::Allow, sql), "{orders:?}");
    assert_eq!(orders.names_bound, [1]);
    let customers = decide(&stand, ask("\"SALES\".PUBLIC.Customers")).await;
    assert_eq!(customers.outcome(), Outcome::Mask, "{customers:?}");
    assert!(customers.sql.contains("FROM IDENTIFIER(?))") && customers.sql.ends_with("WHERE ? = 'x'"), "{customers:?}");
    let denied = decide(&stand, ask("sales.hr.employees")).await;
    assert_eq!(denied.outcome(), Outcome::Deny, "{denied:?}");
    // What Snowflake could read otherwise, or what is no name, is nobody's.
    for odd in ["\"orders\"", "orders ", " orders", "orders--", "orders'", "ord\\ers", "a.b.c.orders", "", "$x"] {
        let answer = decide(&stand, ask(odd)).await;
        assert_eq!((answer.outcome(), code_of(&answer)), (Outcome::Deny, "SQL-UNRESOLVED"), "{odd}: {answer:?}");
    }
    for bindings in [
        json!({ "1": { "type": "TEXT", "value": ["orders"] }, "2": { "type": "TEXT", "value": ["x"] } }),
        json!({ "1": { "type": "BINARY", "value": "orders" }, "2": { "type": "TEXT", "value": "x" } }),
        json!({ "0": { "type": "TEXT", "value": "x" }, "1": { "type": "TEXT", "value": "orders" } }),
        json!({ "1": { "type": "TEXT", "value": "orders" } }),
    ] {
        let answer = decide(&stand, request(&ana, sql, bindings.to_string())).await;
        assert_eq!((answer.outcome(), code_of(&answer)), (Outcome::Deny, "SQL-UNRESOLVED"), "{bindings}");
    }
    // A PEP that would use the decision for another name again gets none.
    let older = decide(&stand, DecideRequest { keeps_names: false, ..ask("orders") }).await;
    assert_eq!((older.outcome(), code_of(&older)), (Outcome::Deny, "SQL-UNRESOLVED"));

    for (answer, object) in [(&orders, "ORDERS"), (&customers, "CUSTOMERS")] {
        let decision_id = answer.decision_id.clone();
        let found = stand.search(SearchRecordsRequest { decision_id, ..Default::default() }).await;
        let record = found.iter().find(|record| record["event"]["kind"] == "decision").unwrap();
        assert_eq!(record["event"]["statements"][0]["objects"][0]["name"], format!("SALES.PUBLIC.{object}"));
        assert_eq!(record["event"]["sql"], sql);
    }
    let all = stand.search(SearchRecordsRequest { limit: 1000, ..Default::default() }).await;
    assert!(all.len() > 10 && !json!(all).to_string().contains(CANARY), "a bound value is on record");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_decision_runs_for_no_other_name() {
    let stand = Stand::start().await;
    let ana = stand.session(ANA).await;
    let sql = "SELECT id FROM IDENTIFIER(?) WHERE id = ?";
    let decided = decide(&stand, request(&ana, sql, texts(&["orders", "1"]))).await;
    assert!(decided.outcome() == Outcome::Allow && decided.cacheable_seconds > 0, "{decided:?}");
    let run = async |bindings_json: String| {
        let intent = AppendIntentRequest {
            session_id: ana.session_id.clone(),
            cached_decision_id: decided.decision_id.clone(),
            request_id: "r2".into(),
            bindings_json,
        };
        stand.audit().append_intent(intent).await.map(drop).map_err(|status| status.code())
    };
    assert_eq!(run(texts(&["orders", "2"])).await, Ok(()), "another value is another run of the same");
    for other in [texts(&["customers", "1"]), texts(&["ORDERS", "1"]), texts(&["1", "orders"]), String::new()] {
        assert_eq!(run(other).await, Err(Code::FailedPrecondition));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_approval_is_for_the_names_that_were_shown() {
    let stand = Stand::start().await;
    let agent = stand.session(AGENT).await;
    let sql = "DELETE FROM IDENTIFIER(?) WHERE id = ?";
    let held = decide(&stand, request(&agent, sql, texts(&["orders", "7"]))).await;
    assert_eq!(held.outcome(), Outcome::NeedsApproval, "{held:?}");
    let approval_id = held.approval.unwrap().approval_id;

    let get = GetApprovalRequest { approval_id: approval_id.clone() };
    let shown = stand.approvals().get_approval(stand.by(STELLA, get)).await.unwrap().into_inner().approval.unwrap();
    assert_eq!(shown.sql, "DELETE FROM IDENTIFIER('orders') WHERE id = ?");
    let approve = ApproveRequest { approval_id: approval_id.clone(), comment: String::new() };
    stand.approvals().approve(stand.by(STELLA, approve)).await.unwrap();

    for other in [texts(&["customers", "7"]), texts(&["orders", "8"])] {
        let with = DecideRequest { approval_id: approval_id.clone(), ..request(&agent, sql, other) };
        let answer = decide(&stand, with).await;
        assert_eq!((answer.outcome(), code_of(&answer)), (Outcome::Deny, "APPROVAL-UNUSABLE"));
    }
    let with = DecideRequest { approval_id, ..request(&agent, sql, texts(&["orders", "7"])) };
    let ran = decide(&stand, with).await;
    assert_eq!((ran.outcome(), ran.sql.as_str()), (Outcome::Allow, sql), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bound_name_is_refused_by_the_policies_of_what_it_names() {
    let stand = Stand::start().await;
    let ana = stand.session(ANA).await;
    let sql = "INSERT INTO IDENTIFIER(?) (id) VALUES (?)";
    let leads = decide(&stand, request(&ana, sql, texts(&["staging.leads", CANARY]))).await;
    assert_eq!((leads.outcome(), leads.sql.as_str()), (Outcome::Allow, sql), "{leads:?}");
    for name in ["orders", "sales.public.orders", "\"SALES\".\"PUBLIC\".\"ORDERS\""] {
        let orders = decide(&stand, request(&ana, sql, texts(&[name, CANARY]))).await;
        assert_eq!((orders.outcome(), code_of(&orders)), (Outcome::Deny, "POLICY-NO-PERMIT"), "{name}: {orders:?}");
        assert!(orders.sql.is_empty() && !format!("{orders:?}").contains(CANARY), "{orders:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_named_by_name_is_the_sessions_own() {
    let stand = Stand::start().await;
    let (ana, other) = (stand.session(ANA).await, stand.session(ANA).await);
    for (session, query_id) in [(&ana, "01a0-01"), (&other, "01a0-02")] {
        let shown = decide(&stand, request(session, "SHOW TERSE DATABASES", String::new())).await;
        let outcome = AppendOutcomeRequest {
            decision_id: shown.decision_id,
            session_id: session.session_id.clone(),
            status: RunStatus::Succeeded.into(),
            query_id: query_id.into(),
            ..Default::default()
        };
        stand.audit().append_outcome(outcome).await.unwrap();
    }
    let sql = "SELECT \"name\" FROM TABLE(RESULT_SCAN(:SHOW_ID)) WHERE \"name\" ILIKE :NAME";
    let text = |text: &str| json!({ "type": "TEXT", "value": text });
    let ask = |bound: Value| request(&ana, sql, bound.to_string());

    let own = decide(&stand, ask(json!({ "NAME": text(CANARY), "show_id": text("01a0-01") }))).await;
    assert_eq!((own.outcome(), own.sql.as_str()), (Outcome::Allow, sql), "{own:?}");
    // It holds for this result alone, though no position says so.
    assert_eq!((own.cacheable_seconds, own.names_bound), (0, vec![]));
    // A value that is no name holds no other way: without it `:LEAST` is nothing known.
    let least = "SELECT id FROM orders WHERE id > :LEAST";
    let bound = decide(&stand, request(&ana, least, json!({ "LEAST": text("1") }).to_string())).await;
    assert_eq!((bound.outcome(), bound.sql.as_str(), bound.cacheable_seconds), (Outcome::Allow, least, 0), "{bound:?}");
    for other in [json!({ "MOST": text("1") }), json!({ "1": text("1") })] {
        let answer = decide(&stand, request(&ana, least, other.to_string())).await;
        assert_eq!((answer.outcome(), code_of(&answer)), (Outcome::Deny, "SQL-UNRESOLVED"), "{other}: {answer:?}");
    }
    for bound in [
        json!({ "SHOW_ID": text("01a0-02"), "NAME": text("x") }),
        json!({ "SHOW_ID": text("01a0-03"), "NAME": text("x") }),
        // Which of them is meant?
        json!({ "SHOW_ID": text("01a0-01"), "show_id": text("01a0-02"), "NAME": text("x") }),
        json!({ "SHOW_ID": text("01a0-01"), "1": text("01a0-02"), "NAME": text("x") }),
        json!({ "SHOW_ID": { "type": "TEXT", "value": ["01a0-01"] }, "NAME": text("x") }),
        json!({ "NAME": text("01a0-01") }),
        json!({ "1": text("01a0-01"), "2": text("x") }),
    ] {
        let answer = decide(&stand, ask(bound.clone())).await;
        assert_eq!((answer.outcome(), code_of(&answer)), (Outcome::Deny, "SQL-UNRESOLVED"), "{bound}: {answer:?}");
    }
    let older = DecideRequest { keeps_names: false, ..ask(json!({ "SHOW_ID": text("01a0-01"), "NAME": text("x") })) };
    let older = decide(&stand, older).await;
    assert_eq!((older.outcome(), code_of(&older)), (Outcome::Deny, "SQL-UNRESOLVED"));
    let all = stand.search(SearchRecordsRequest { limit: 1000, ..Default::default() }).await;
    assert!(!json!(all).to_string().contains(CANARY), "a bound value is on record");
}
