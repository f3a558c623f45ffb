//! The proxy as a driver sees it, between a scripted PDP and a scripted warehouse.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::pedantic,
    missing_docs,
    unreachable_pub,
    missing_debug_implementations,
    reason = "tests"
)]

mod api;
mod care;
mod connections;
mod faults;
mod http2;
mod masking;
mod outward;
mod pdp;
mod sighup;
mod sign_in;
mod stage;
mod stopping;
mod storage;
mod tls;
mod upstream;
mod wire;

use std::time::Duration;

use icegate_proto::v1::{
    ApprovalState, DecideResponse, JournalEntry, Outcome, RevokedSessions, RunStatus, SessionChange, SessionState,
    journal_entry::Entry, watch_response::Event,
};
use serde_json::{Value, json};

use crate::{
    pdp::{deny, needs_approval},
    stage::{Driver, Stage, eventually},
    upstream::SLOW_ID,
};

fn text(reply: &Value) -> &str {
    reply["message"].as_str().unwrap_or_default()
}

async fn outcomes(stage: &Stage, count: usize) -> Vec<icegate_proto::v1::AppendOutcomeRequest> {
    eventually("outcomes", || async { stage.pdp.told.lock().unwrap().outcomes.len() >= count }).await;
    stage.pdp.told.lock().unwrap().outcomes.clone()
}

#[tokio::test]
async fn what_the_pdp_says_is_what_runs() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    let masked = DecideResponse {
        decision_id: "0198-mask".into(),
        outcome: Outcome::Mask.into(),
        sql: "select mask(email) from c".into(),
        statement_kinds: vec!["select".into()],
        ..Default::default()
    };
    stage.pdp.decide_as("select email from c", masked);
    stage.pdp.decide_as(
        "drop database sales",
        deny("POLICY-FORBID", "no-drops", "Databases are not dropped. Ask the data platform team."),
    );

    let reply = stage.driver.query("select email from c").await;
    assert_eq!(reply["data"]["rowset"], json!([["1"]]), "{reply}");
    let reply = stage.driver.query("drop database sales").await;
    assert_eq!(reply["success"], false);
    assert_eq!(
        text(&reply),
        "refused: Databases are not dropped. Ask the data platform team. (policy `no-drops`) [POLICY-FORBID, decision 0198-deny]"
    );

    assert_eq!(stage.upstream.texts(), ["select mask(email) from c"]);
    let sent = &stage.upstream.calls_to("/queries/v1/query-request")[0];
    let tag: Value = serde_json::from_str(sent.body["parameters"]["QUERY_TAG"].as_str().unwrap()).unwrap();
    assert_eq!(
        tag,
        json!({ "icegate": { "decision": "0198-mask", "user": "corp/ana", "agent": "claude-code" }, "tag": "nightly" })
    );
    let asked = stage.pdp.told.lock().unwrap().decides[0].clone();
    assert_eq!((asked.statement_count, asked.session_id.as_str()), (1, "S-1"));
    let context = asked.context.unwrap();
    assert_eq!(
        [context.database, context.schema, context.role, context.warehouse],
        ["SALES", "PUBLIC", "ANALYST", "WH"].map(str::to_owned)
    );
    let outcome = outcomes(&stage, 1).await.remove(0);
    assert_eq!(
        (outcome.decision_id.as_str(), outcome.status(), outcome.rows),
        ("0198-mask", RunStatus::Succeeded, Some(1))
    );
    stage.assert_nothing_leaked();
}

#[tokio::test]
async fn a_refused_login_opens_nothing() {
    let stage = Stage::new().await;
    let reply = stage.driver.try_login("bad.token").await;
    assert_eq!((reply["success"].as_bool(), reply["code"].as_str()), (Some(false), Some("390303")));
    assert!(stage.upstream.calls.lock().unwrap().is_empty());
    let reply = stage.driver.query("select 1").await;
    assert_eq!(reply["code"], "390104", "no token of ours");
    let reply = stage.driver.call("POST", "/api/v2/databases", "None", &Value::Null).await;
    assert!(text(&reply).contains("[ROUTE-UNKNOWN]"), "{reply}");
    let reply = stage.driver.call("POST", "/telemetry/send", "None", &json!({ "logs": ["select secret"] })).await;
    assert_eq!(reply["success"], true);
    assert!(stage.upstream.calls.lock().unwrap().is_empty());
}

#[tokio::test]
async fn a_cached_decision_saves_the_deciding_never_the_record() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    for _ in 0..3 {
        assert_eq!(stage.driver.query("select 1").await["success"], true);
    }
    let counts = |stage: &Stage| {
        let told = stage.pdp.told.lock().unwrap();
        (told.decides.len(), told.intents.len(), stage.upstream.texts().len())
    };
    assert_eq!(counts(&stage), (1, 2, 3));
    assert_eq!(
        outcomes(&stage, 3).await.iter().map(|it| it.decision_id.as_str()).collect::<Vec<_>>(),
        ["decision-1", "intent-1", "intent-2"]
    );

    // No durable intent, no run.
    stage.pdp.script.lock().unwrap().intent_error = Some(tonic::Code::Unavailable);
    let reply = stage.driver.query("select 1").await;
    assert!(text(&reply).contains("[AUDIT-UNAVAILABLE]"), "{reply}");
    assert_eq!(stage.upstream.texts().len(), 3);

    // The cached decision no longer stands: decided anew.
    stage.pdp.script.lock().unwrap().intent_error = Some(tonic::Code::FailedPrecondition);
    assert_eq!(stage.driver.query("select 1").await["success"], true);
    assert_eq!(counts(&stage), (2, 2, 4));

    // A new bundle voids what is cached at once.
    stage.pdp.script.lock().unwrap().intent_error = None;
    stage.pdp.emit(Event::BundleVersion("v2".into()));
    stage.pdp.decide_as("select 1", deny("POLICY-FORBID", "new", "No more."));
    eventually("the new bundle counts", || async { stage.driver.query("select 1").await["success"] == false }).await;
    let before = counts(&stage);
    assert!(text(&stage.driver.query("select 1").await).contains("policy `new`"));
    assert_eq!(counts(&stage).2, before.2, "nothing more was sent");
}

#[tokio::test]
async fn what_reads_a_result_again_is_asked_about_once_the_results_end_is_on_record() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    stage.pdp.script.lock().unwrap().outcome_takes = Duration::from_millis(300);
    let id = stage.driver.query("select 1").await["data"]["queryId"].as_str().unwrap().to_owned();
    // The driver reads it at once, in any spelling.
    let scan = format!("select * from table(Result_Scan('{id}'))");
    assert_eq!(stage.driver.query(&scan).await["success"], true);
    // So it does with what it has polled.
    let url = stage.driver.query("select slow").await["data"]["getResultUrl"].as_str().unwrap().to_owned();
    *stage.upstream.slow_done.lock().unwrap() = true;
    assert_eq!(stage.driver.get(&url).await["success"], true);
    assert_eq!(stage.driver.query(&format!("select * from table(result_scan('{SLOW_ID}'))")).await["success"], true);
    let told = stage.pdp.told.lock().unwrap();
    assert_eq!((told.outcomes_before[1], told.outcomes_before[3]), (1, 3));
}

#[tokio::test]
async fn a_held_statement_goes_on_by_itself_and_runs_once() {
    let mut stage = Stage::with("0s", "[hold]\npoll = \"200ms\"\nabandoned = \"5s\"\n").await;
    stage.driver.login().await;
    stage.pdp.decide_as("delete from t", needs_approval(60));
    let request_id = uuid::Uuid::new_v4().to_string();
    let reply = stage.driver.query_as("delete from t", &request_id).await;
    assert_eq!(reply["code"], "333333", "{reply}");
    let url = reply["data"]["getResultUrl"].as_str().unwrap().to_owned();
    assert!(url.starts_with("/queries/") && text(&reply).contains("A-1"), "{reply}");

    assert_eq!(stage.driver.get(&url).await["code"], "333333");
    let again = stage.driver.query_as("delete from t", &request_id).await;
    assert_eq!(again["data"]["queryId"], reply["data"]["queryId"], "a retry joins the held statement");
    let monitored = stage.driver.get(&url.replace("/queries/", "/monitoring/queries//").replace("/result", "")).await;
    assert_eq!(monitored["data"]["queries"][0]["status"], "RUNNING", "{monitored}");
    assert!(stage.upstream.texts().is_empty());

    stage.pdp.script.lock().unwrap().approval = ApprovalState::Approved;
    let polls: Vec<_> = (0..5)
        .map(|_| {
            let (driver, url) = (stage.driver.clone(), url.clone());
            tokio::spawn(async move { driver.get(&url).await })
        })
        .collect();
    for poll in polls {
        assert_eq!(poll.await.unwrap()["success"], true);
    }
    let last = stage.driver.get(&url).await;
    assert_eq!(last["data"]["rowset"], json!([["1"]]), "{last}");
    assert!(last["data"].get("getResultUrl").is_none());
    let retried = stage.driver.query_as("delete from t", &request_id).await;
    assert_eq!(retried["data"]["rowset"], json!([["1"]]));
    assert_eq!(stage.upstream.texts(), ["delete from t"]);
    let sent = &stage.upstream.calls_to("/queries/v1/query-request")[0];
    assert!(sent.path.contains(&request_id), "released under the driver's own request id");
    let decides = stage.pdp.told.lock().unwrap().decides.clone();
    assert_eq!(decides.iter().map(|asked| asked.approval_id.as_str()).collect::<Vec<_>>(), ["", "A-1"]);
    assert_eq!(outcomes(&stage, 1).await.len(), 1);
}

#[tokio::test]
async fn a_hold_ends_by_abort_rejection_time_or_silence() {
    let mut stage = Stage::with("0s", "[hold]\npoll = \"150ms\"\nabandoned = \"600ms\"\n").await;
    stage.driver.login().await;
    stage.pdp.decide_as("delete from t", needs_approval(60));
    stage.pdp.decide_as("delete from u", needs_approval(1));
    let held = async |sql: &str, request_id: &str| {
        let reply = stage.driver.query_as(sql, request_id).await;
        assert_eq!(reply["code"], "333333", "{reply}");
        reply["data"]["getResultUrl"].as_str().unwrap().to_owned()
    };
    let id = || uuid::Uuid::new_v4().to_string();

    // By request id.
    let request_id = id();
    let url = held("delete from t", &request_id).await;
    let abort = json!({ "sqlText": "delete from t", "requestId": request_id });
    let path = format!("/queries/v1/abort-request?requestId={}", id());
    assert_eq!(stage.driver.call("POST", &path, &stage.driver.token, &abort).await["success"], true);
    assert_eq!(stage.driver.get(&url).await["code"], "000604");

    // By query id.
    let url = held("delete from t", &id()).await;
    let path = url.replace("/result", "/abort-request");
    assert_eq!(stage.driver.call("POST", &path, &stage.driver.token, &json!({})).await["success"], true);
    assert_eq!(stage.driver.get(&url).await["code"], "000604");
    eventually("approvals cancelled", || async { stage.pdp.told.lock().unwrap().cancelled.len() == 2 }).await;

    // A person says no.
    let url = held("delete from t", &id()).await;
    stage.pdp.script.lock().unwrap().approval = ApprovalState::Rejected;
    let reply = stage.driver.get(&url).await;
    assert!(
        text(&reply).contains("`A-1` was refused by `corp/stew`") && text(&reply).contains("[APPROVAL-REJECTED"),
        "{reply}"
    );
    stage.pdp.script.lock().unwrap().approval = ApprovalState::Pending;

    // Nobody says anything for as long as the driver may wait: the approval stays.
    let url = held("delete from u", &id()).await;
    let mut reply = stage.driver.get(&url).await;
    while reply["success"] == true {
        reply = stage.driver.get(&url).await;
    }
    assert!(text(&reply).contains("[HOLD-EXPIRED") && text(&reply).contains("`A-1`"), "{reply}");
    assert_eq!(stage.pdp.told.lock().unwrap().cancelled.len(), 2);

    // The driver goes away.
    let url = held("delete from t", &id()).await;
    eventually("approval cancelled", || async { stage.pdp.told.lock().unwrap().cancelled.len() == 3 }).await;
    stage.pdp.script.lock().unwrap().approval = ApprovalState::Approved;
    assert!(text(&stage.driver.get(&url).await).contains("[HOLD-CANCELLED]"));
    assert!(stage.upstream.texts().is_empty());
}

#[tokio::test]
async fn a_retry_joins_what_is_on_its_way() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    let request_id = uuid::Uuid::new_v4().to_string();
    let ask = |sql: &'static str| {
        let (driver, request_id) = (stage.driver.clone(), request_id.clone());
        tokio::spawn(async move { driver.query_as(sql, &request_id).await })
    };
    // The first connection goes away; the statement does not.
    let first = ask("select blocked");
    eventually("sent", || async { stage.upstream.texts().len() == 1 }).await;
    first.abort();
    let second = ask("select blocked");
    let third = ask("select blocked");
    tokio::time::sleep(Duration::from_millis(50)).await;
    stage.upstream.gate.add_permits(1);
    assert_eq!(second.await.unwrap()["success"], true);
    assert_eq!(third.await.unwrap()["success"], true);
    assert_eq!(stage.upstream.texts().len(), 1);
    assert_eq!(outcomes(&stage, 1).await.len(), 1);
    // The same name with another text is refused, and not even decided.
    let decided = stage.pdp.told.lock().unwrap().decides.len();
    let reply = ask("drop table t").await.unwrap();
    assert!(text(&reply).contains("[REQUEST-MALFORMED]") && text(&reply).contains("id of its own"), "{reply}");
    assert_eq!(stage.pdp.told.lock().unwrap().decides.len(), decided);
    // So is it after a refusal; the same again is decided again.
    stage.pdp.decide_as("drop table t", deny("POLICY-FORBID", "p", "No."));
    let other = uuid::Uuid::new_v4().to_string();
    assert!(text(&stage.driver.query_as("drop table t", &other).await).contains("POLICY-FORBID"));
    assert!(text(&stage.driver.query_as("drop table u", &other).await).contains("[REQUEST-MALFORMED]"));
    assert!(text(&stage.driver.query_as("drop table t", &other).await).contains("POLICY-FORBID"));
}

#[tokio::test]
async fn without_the_pdp_only_cached_allows_run_and_the_journal_is_delivered() {
    let mut stage = Stage::with("60s", "").await;
    stage.driver.login().await;
    assert_eq!(stage.driver.query("select 1").await["success"], true);
    outcomes(&stage, 1).await;
    stage.pdp_server.kill();
    eventually("pdp gone", || async { tokio::net::TcpStream::connect(stage.pdp_addr).await.is_err() }).await;

    let reply = stage.driver.query("select 1").await;
    assert_eq!(reply["success"], true, "{reply}");
    let reply = stage.driver.query("select 2").await;
    assert!(text(&reply).contains("[PDP-UNREACHABLE]"), "{reply}");
    assert_eq!(stage.upstream.texts(), ["select 1", "select 1"]);
    eventually("outcome journaled", || async { stage.pep.journal_entries() == 2 }).await;

    let (_, _server) = stage.pdp.serve(stage.pdp_addr).await;
    eventually("journal delivered", || async { stage.pep.journal_entries() == 0 }).await;
    let journal = stage.pdp.told.lock().unwrap().journal.clone();
    let [
        JournalEntry { entry: Some(Entry::Intent(intent)), .. },
        JournalEntry { entry: Some(Entry::Outcome(outcome)), .. },
    ] = &journal[..]
    else {
        panic!("{journal:?}");
    };
    assert_eq!(intent.decision_id, outcome.decision_id);
    assert_eq!((intent.cached_decision_id.as_str(), intent.sent_sql.as_str()), ("decision-1", "select 1"));
    assert_eq!(outcome.status(), RunStatus::Succeeded);
}

#[tokio::test]
async fn without_grace_nothing_runs_without_the_pdp() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    assert_eq!(stage.driver.query("select 1").await["success"], true);
    stage.pdp_server.kill();
    eventually("pdp gone", || async { tokio::net::TcpStream::connect(stage.pdp_addr).await.is_err() }).await;
    let reply = stage.driver.query("select 1").await;
    assert!(
        text(&reply).contains("nothing was sent to Snowflake") && text(&reply).contains("[PDP-UNREACHABLE]"),
        "{reply}"
    );
    assert_eq!(stage.upstream.texts().len(), 1);
}

#[tokio::test]
async fn a_query_id_means_something_in_its_own_session_only() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    let reply = stage.driver.query("select slow").await;
    assert_eq!(reply["data"]["getResultUrl"], format!("/queries/{SLOW_ID}/result"), "relative whatever Snowflake says");
    let mut other = Driver::new(stage.pep.addr());
    other.login().await;
    for path in [format!("/queries/{SLOW_ID}/result"), format!("/monitoring/queries/{SLOW_ID}")] {
        let before = stage.upstream.calls.lock().unwrap().len();
        assert_eq!(other.get(&path).await["code"], "000612", "{path}");
        assert_eq!(stage.upstream.calls.lock().unwrap().len(), before, "not even asked for");
    }
    let abort = format!("/queries/{SLOW_ID}/abort-request");
    assert_eq!(other.call("POST", &abort, &other.token, &json!({})).await["code"], "000612");

    assert_eq!(stage.driver.get(&format!("/queries/{SLOW_ID}/result")).await["code"], "333333");
    assert!(stage.pdp.told.lock().unwrap().outcomes.is_empty(), "it still runs");
    *stage.upstream.slow_done.lock().unwrap() = true;
    for _ in 0..2 {
        let reply = stage.driver.get(&format!("/queries/{SLOW_ID}/result")).await;
        assert_eq!(reply["data"]["rowset"], json!([["slow"]]));
    }
    tokio::time::sleep(Duration::from_millis(50)).await;
    let recorded = outcomes(&stage, 1).await;
    assert_eq!(recorded.len(), 1, "recorded once");
    assert_eq!(recorded[0].query_id, SLOW_ID);
}

#[tokio::test]
async fn a_revoked_session_stops_at_once() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    let driver = stage.driver.clone();
    let running = tokio::spawn(async move { driver.query("select blocked").await });
    eventually("sent", || async { stage.upstream.texts().len() == 1 }).await;
    stage.pdp.emit(Event::Revoked(RevokedSessions { session_ids: vec!["S-1".into()] }));
    let reply = running.await.unwrap();
    assert!(text(&reply).contains("[SESSION-REVOKED]"), "{reply}");
    assert!(text(&stage.driver.query("select 1").await).contains("[SESSION-REVOKED]"));
    eventually("aborted and left", || async {
        !stage.upstream.calls_to("/queries/v1/abort-request").is_empty()
            && !stage.upstream.calls_to("/session?").is_empty()
    })
    .await;
    assert_eq!(stage.upstream.texts().len(), 1);
}

#[tokio::test]
async fn renewal_gives_fresh_tokens_while_the_session_stands() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    let renew = json!({ "oldSessionToken": stage.driver.token, "requestType": "RENEW" });
    let reply = stage.driver.call("POST", "/session/token-request", &stage.driver.master, &renew).await;
    assert_eq!(reply["success"], true, "{reply}");
    let fresh = reply["data"]["sessionToken"].as_str().unwrap().to_owned();
    assert_ne!(fresh, stage.driver.token);
    stage.driver.token = fresh;
    assert_eq!(stage.driver.query("select 1").await["success"], true);
    let with_session_token = stage.driver.call("POST", "/session/token-request", &stage.driver.token, &renew).await;
    assert_eq!(with_session_token["success"], false, "a session token is no master token");

    stage.pdp.script.lock().unwrap().session = SessionState::Expired;
    let reply = stage.driver.call("POST", "/session/token-request", &stage.driver.master, &renew).await;
    assert_eq!(reply["code"], "390114", "{reply}");
    assert!(text(&stage.driver.query("select 1").await).contains("[SESSION-ENDED]"));
    stage.assert_nothing_leaked();
}

#[tokio::test]
async fn an_expired_upstream_token_is_renewed_and_the_same_request_sent_again() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    *stage.upstream.expired.lock().unwrap() = true;
    assert_eq!(stage.driver.query("select 1").await["success"], true);
    let sent = stage.upstream.calls_to("/queries/v1/query-request");
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[0].path, sent[1].path);
    assert!(sent[1].token.as_deref().unwrap().contains(upstream::RENEWED));
    assert_eq!(outcomes(&stage, 1).await.len(), 1);
    stage.assert_nothing_leaked();
}

#[tokio::test]
async fn a_restart_loses_no_session_and_asks_where_it_stands() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    assert_eq!(stage.driver.query("use database other").await["success"], true);
    stage.restart().await;
    assert_eq!(stage.driver.query("select 1").await["success"], true);
    let texts = stage.upstream.texts();
    assert_eq!(texts[1], "SELECT 1", "{texts:?}");
    stage.pdp.script.lock().unwrap().session = SessionState::Closed;
    stage.restart().await;
    assert!(text(&stage.driver.query("select 1").await).contains("[SESSION-ENDED]"));
}

#[tokio::test]
async fn the_context_of_a_decision_is_the_one_before_it() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    let tag = SessionChange { name: "QUERY_TAG".into(), value: Some("mine".into()) };
    let set = DecideResponse {
        decision_id: "0198-set".into(),
        outcome: Outcome::Allow.into(),
        sql: "alter session set query_tag='mine'; use".into(),
        statement_kinds: vec!["set".into()],
        session_changes: vec![tag],
        ..Default::default()
    };
    stage.pdp.decide_as("set tag", set);
    stage.driver.query("set tag").await;
    stage.driver.query("select 1").await;
    let asked = stage.pdp.told.lock().unwrap().decides[1].clone();
    assert_eq!(asked.context.unwrap().database, "OTHER");
    let sent = stage.upstream.calls_to("/queries/v1/query-request")[1].clone();
    let tag: Value = serde_json::from_str(sent.body["parameters"]["QUERY_TAG"].as_str().unwrap()).unwrap();
    assert_eq!(tag["tag"], "mine");
}

#[tokio::test]
async fn a_reply_with_a_credential_in_it_is_withheld() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    let reply = stage.driver.query("select leak").await;
    assert!(text(&reply).contains("[REPLY-WITHHELD]"), "{reply}");
    assert_eq!(outcomes(&stage, 1).await[0].status(), RunStatus::Withheld);
    let reply = stage.driver.query("select fail").await;
    assert_eq!((reply["code"].as_str(), text(&reply)), (Some("002003"), "no such table"));
    let failed = outcomes(&stage, 2).await.remove(1);
    assert_eq!((failed.status(), failed.error_code.as_str()), (RunStatus::Failed, "002003"));
    stage.assert_nothing_leaked();
}

#[tokio::test]
async fn logout_closes_both_sessions() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    let reply = stage.driver.call("POST", "/session?delete=true", &stage.driver.token, &json!({})).await;
    assert_eq!(reply["success"], true);
    eventually("closed", || async { stage.pdp.told.lock().unwrap().closed == ["S-1"] }).await;
    eventually("left", || async { !stage.upstream.calls_to("/session?").is_empty() }).await;
    stage.pdp.script.lock().unwrap().session = SessionState::Closed;
    assert!(text(&stage.driver.query("select 1").await).contains("[SESSION-ENDED]"));
}

#[tokio::test]
async fn metrics_tell_without_naming_anyone() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    stage.driver.query("select 1").await;
    stage.pdp.decide_as("drop", deny("POLICY-FORBID", "p", "No."));
    stage.driver.query("drop").await;
    let metrics = stage.pep.metrics_addr().unwrap();
    let text = stage.driver.get_text(&format!("http://{metrics}/metrics")).await;
    for wanted in [
        "icegate_pep_requests_total{route=\"query\",outcome=\"ok\"}",
        "icegate_pep_decisions_total{outcome=\"allow\"}",
        "icegate_pep_refusals_total{code=\"POLICY-FORBID\"}",
        "icegate_pep_upstream_duration_seconds_bucket",
        "icegate_pep_stage_duration_seconds_bucket{stage=\"ask\"",
        "icegate_pep_cache_requests_total{result=\"miss\"}",
        "icegate_pep_sessions ",
        "icegate_pep_held_statements ",
        "icegate_pep_journal_entries ",
        "icegate_pep_build_info{version=",
    ] {
        assert!(text.contains(wanted), "{wanted} is not in\n{text}");
    }
    assert!(!text.contains("corp/ana") && !text.contains("select 1"));
    assert_eq!(stage.driver.get_text(&format!("http://{metrics}/readyz")).await, "ready\n");
}

#[tokio::test]
async fn bodies_may_be_packed_both_ways() {
    use std::io::{Read as _, Write as _};

    let mut stage = Stage::new().await;
    stage.driver.login().await;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(json!({ "sqlText": format!("select '{}'", "x".repeat(1000)) }).to_string().as_bytes()).unwrap();
    let packed = encoder.finish().unwrap();
    let mut stream = std::net::TcpStream::connect(stage.pep.addr()).unwrap();
    let id = uuid::Uuid::new_v4();
    let token = stage.driver.token.clone();
    let head = format!(
        "POST /queries/v1/query-request?requestId={id} HTTP/1.1\r\nHost: x\r\nAuthorization: Snowflake Token=\"{token}\"\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        packed.len()
    );
    let reply = tokio::task::spawn_blocking(move || {
        stream.write_all(head.as_bytes()).unwrap();
        stream.write_all(&packed).unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        reply
    })
    .await
    .unwrap();
    assert!(reply.starts_with("HTTP/1.1 200 OK") && reply.contains("\"rowset\":[[\"1\"]]"), "{reply}");
    // Over the limit, packed or not, is a refusal and not a broken connection.
    let reply = stage.driver.query(&"x".repeat(2_000_000)).await;
    assert!(text(&reply).contains("[REQUEST-LIMIT]"), "{reply}");
}

#[tokio::test]
async fn a_warehouse_that_is_away_is_a_refusal_and_a_record() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    stage.upstream.stop.notify_waiters();
    let reply = {
        let mut reply = stage.driver.query("select 1").await;
        for _ in 0..50 {
            if reply["success"] == false {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
            reply = stage.driver.query("select 1").await;
        }
        reply
    };
    assert!(text(&reply).contains("[UPSTREAM-UNREACHABLE]"), "{reply}");
    eventually("recorded", || async {
        stage.pdp.told.lock().unwrap().outcomes.iter().any(|end| end.error_code == "UPSTREAM-UNREACHABLE")
    })
    .await;
}
