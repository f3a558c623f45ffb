//! Results that the proxy masks: what it is told, what it is answered, and what the driver gets.

use std::fs;

use icegate_proto::v1::{
    DecideResponse, Outcome, ResultMask, ResultShape, RunStatus,
    result_mask::{FormatPreserving, Mask, Scan, Tokenize},
};
use serde_json::{Value, json};

use crate::{
    outcomes,
    stage::{Stage, eventually},
    text,
    upstream::SLOW_ID,
};

const CANARY: &str = "kanarie@example.com";
const OLD: &str = "crm 1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n";
const NEW: &str = "crm 2 //////////////////////////////////////////8=\n";

/// A proxy with a key file that has one key, or nothing.
async fn stage(keys: bool) -> Stage {
    let more = if keys { "[masking]\nkeys_file = \"@dir/mask.keys\"\n" } else { "" };
    Stage::with_files("0s", more, &[("mask.keys", OLD)]).await
}

fn tokenize(key: &str) -> Mask {
    Mask::Tokenize(Tokenize { key: key.into(), domain: "column C.EMAIL".into() })
}

/// Masked in these columns of these statements, each from 1.
fn masked(sql: &str, worn: Vec<(u32, u32, Option<Mask>)>, shapes: &[Option<&[&str]>]) -> DecideResponse {
    let shape = |columns: &Option<&[&str]>| ResultShape {
        promised: columns.is_some(),
        columns: columns.unwrap_or_default().iter().map(ToString::to_string).collect(),
    };
    let worn = worn.into_iter();
    DecideResponse {
        decision_id: "0198-masked".into(),
        outcome: Outcome::Mask.into(),
        sql: sql.into(),
        statement_kinds: vec!["select".into(); shapes.len()],
        result_shapes: shapes.iter().map(shape).collect(),
        result_masks: worn
            .map(|(statement, ordinal, mask)| ResultMask { statement, ordinal, column: "C.EMAIL".into(), mask })
            .collect(),
        cacheable_seconds: 60,
        ..Default::default()
    }
}

fn result(rowtype: Value, rowset: Value) -> Value {
    json!({ "success": true, "code": null, "data": {
        "rowtype": rowtype, "rowset": rowset, "total": 1, "queryId": uuid::Uuid::new_v4().to_string(),
        "queryResultFormat": "json", "statementTypeId": 4096, "finalDatabaseName": "SALES", "finalSchemaName": "PUBLIC",
        "finalRoleName": "ANALYST", "finalWarehouseName": "WH",
    }})
}

fn emails() -> Value {
    let columns = json!([{ "name": "ID", "type": "fixed", "precision": 38, "scale": 0 }, { "name": "EMAIL", "type": "text", "length": 100 }]);
    result(columns, json!([["1", CANARY], ["2", null]]))
}

fn assert_no_canary(stage: &Stage) {
    let seen = stage.driver.seen.lock().unwrap();
    assert!(!String::from_utf8_lossy(&seen).contains("kanarie"), "a raw value reached the client");
}

#[tokio::test]
async fn a_masked_column_reaches_nobody_as_it_is() {
    let mut stage = stage(true).await;
    stage.driver.login().await;
    let columns: &[&str] = &["ID", "EMAIL"];
    for (sql, mask, wanted) in [
        ("select tokenized", tokenize("crm"), None),
        (
            "select encrypted",
            Mask::FormatPreserving(FormatPreserving {
                key: "crm@1".into(),
                domain: "D".into(),
                alphabet: "lower".into(),
            }),
            None,
        ),
        ("select scanned", Mask::Scan(Scan { detectors: vec!["email".into()] }), Some("[redacted:email]")),
    ] {
        stage.pdp.decide_as(sql, masked(sql, vec![(1, 2, Some(mask))], &[Some(columns)]));
        stage.upstream.replies.lock().unwrap().insert(sql.into(), emails());
        let first = stage.driver.query(sql).await;
        let cell = first["data"]["rowset"][0][1].as_str().unwrap_or_default();
        assert!(!cell.is_empty() && wanted.is_none_or(|wanted| cell == wanted), "{sql}: {first}");
        assert_eq!(
            (&first["data"]["rowset"][0][0], &first["data"]["rowset"][1][1]),
            (&json!("1"), &Value::Null),
            "{sql}"
        );
        // Under a cached decision, and the same again.
        let again = stage.driver.query(sql).await;
        assert_eq!(again["data"]["rowset"], first["data"]["rowset"], "{sql}");
    }
    let told = stage.pdp.told.lock().unwrap();
    assert!(told.decides.len() == 3 && told.intents.len() == 3 && told.decides.iter().all(|asked| asked.masks_results));
    drop(told);
    assert_no_canary(&stage);
}

#[tokio::test]
async fn what_cannot_be_masked_is_not_sent() {
    let columns: &[&str] = &["ID", "EMAIL"];
    let scan = |word: &str| Mask::Scan(Scan { detectors: vec![word.into()] });
    let fpe =
        Mask::FormatPreserving(FormatPreserving { key: "crm".into(), domain: "D".into(), alphabet: "emoji".into() });
    for (keys, worn, shape, why) in [
        (false, (1, 2, Some(tokenize("crm"))), Some(columns), "there is no key `crm`"),
        (true, (1, 2, Some(tokenize("crm@7"))), Some(columns), "there is no key `crm@7`"),
        (true, (1, 2, Some(tokenize("c r m"))), Some(columns), "no mask this version knows"),
        (true, (1, 2, None), Some(columns), "no mask this version knows"),
        (true, (1, 2, Some(scan("dreams"))), Some(columns), "no mask this version knows"),
        (true, (1, 2, Some(fpe)), Some(columns), "no mask this version knows"),
        (true, (1, 2, Some(Mask::Scan(Scan::default()))), Some(columns), "no mask this version knows"),
        (true, (1, 3, Some(tokenize("crm"))), Some(columns), "not promised"),
        (true, (1, 0, Some(tokenize("crm"))), Some(columns), "not promised"),
        (true, (2, 1, Some(tokenize("crm"))), Some(columns), "not promised"),
        (true, (1, 2, Some(tokenize("crm"))), None, "not promised"),
    ] {
        let mut stage = stage(keys).await;
        stage.driver.login().await;
        stage.pdp.decide_as("select it", masked("select it", vec![worn], &[shape]));
        let reply = stage.driver.query("select it").await;
        assert!(text(&reply).contains(why) && text(&reply).contains("[MASK-UNAVAILABLE"), "{why}: {reply}");
        assert!(stage.upstream.texts().is_empty(), "{why}");
        let outcome = outcomes(&stage, 1).await.remove(0);
        assert_eq!((outcome.status(), outcome.error_code.as_str()), (RunStatus::NotSent, "MASK-UNAVAILABLE"), "{why}");
    }
}

#[tokio::test]
async fn a_result_that_is_another_is_withheld() {
    let mut stage = stage(true).await;
    stage.driver.login().await;
    let columns: &[&str] = &["ID", "EMAIL"];
    let id = json!({ "name": "ID", "type": "fixed", "precision": 38, "scale": 0 });
    let email = json!({ "name": "EMAIL", "type": "text", "length": 100 });
    let cases = [
        ("a column more", result(json!([id, email, email]), json!([["1", "x", CANARY]]))),
        ("in another order", result(json!([email, id]), json!([[CANARY, "1"]]))),
        ("of another type", result(json!([id, { "name": "EMAIL", "type": "date" }]), json!([["1", CANARY]]))),
        (
            "too short for its mask",
            result(json!([id, { "name": "EMAIL", "type": "text", "length": 5 }]), json!([["1", CANARY]])),
        ),
        ("of no type", result(json!([id, { "name": "EMAIL" }]), json!([["1", CANARY]]))),
        ("without columns", result(Value::Null, json!([["1", CANARY]]))),
        ("a row too long", result(json!([id, email]), json!([["1", "x", CANARY]]))),
        ("a cell that is no text", result(json!([id, email]), json!([["1", { "a": CANARY }]]))),
        ("as if it were of several", {
            let mut reply = result(json!([id, email]), json!([["1", CANARY]]));
            reply["data"]["resultIds"] = SLOW_ID.into();
            reply["data"]["rowset"] = json!([["1", "x"], [CANARY]]);
            reply
        }),
        ("Arrow that is none", {
            let mut reply = emails();
            reply["data"]["rowsetBase64"] = "a2FuYXJpZQ==".into();
            reply["data"]["queryResultFormat"] = "arrow".into();
            reply
        }),
    ];
    for (at, (what, reply)) in cases.into_iter().enumerate() {
        let sql = format!("select {at}");
        stage.pdp.decide_as(&sql, masked(&sql, vec![(1, 2, Some(tokenize("crm")))], &[Some(columns)]));
        stage.upstream.replies.lock().unwrap().insert(sql.clone(), reply);
        let told = stage.driver.query(&sql).await;
        assert!(text(&told).contains("[REPLY-WITHHELD"), "{what}: {told}");
        let outcome = outcomes(&stage, at + 1).await.remove(at);
        assert_eq!(outcome.status(), RunStatus::Withheld, "{what}");
    }
    assert_no_canary(&stage);
}

#[tokio::test]
async fn by_id_and_one_of_several_they_are_masked_too() {
    let mut stage = stage(true).await;
    stage.driver.login().await;
    let columns: &[&str] = &["ID", "EMAIL"];
    let wear = |statement| vec![(statement, 2, Some(tokenize("crm")))];
    stage.pdp.decide_as("select slow", masked("select slow", wear(1), &[Some(columns)]));
    let mut late = emails();
    late["data"]["queryId"] = SLOW_ID.into();
    stage.upstream.replies.lock().unwrap().insert(SLOW_ID.into(), late.clone());
    assert_eq!(stage.driver.query("select slow").await["code"], "333333");
    *stage.upstream.slow_done.lock().unwrap() = true;
    let result_path = format!("/queries/{SLOW_ID}/result");
    let reply = stage.driver.get(&result_path).await;
    assert!(reply["data"]["rowset"][0][1].is_string(), "{reply}");
    assert_no_canary(&stage);

    // One of two: the overview passes, its child is masked, and a third result nobody foresaw is withheld.
    for (children, child_at, withheld) in [(2, 1, false), (3, 2, true), (2, 0, true)] {
        let mut stage = self::stage(true).await;
        stage.driver.login().await;
        *stage.upstream.slow_done.lock().unwrap() = true;
        let other: &[&str] = &["N"];
        stage.pdp.decide_as("select 1; select 2", masked("select 1; select 2", wear(2), &[Some(other), Some(columns)]));
        let ids: Vec<String> = (0..children)
            .map(|at| if at == child_at { SLOW_ID.to_owned() } else { uuid::Uuid::new_v4().to_string() })
            .collect();
        let mut overview = result(
            json!([{ "name": "multiple statement execution", "type": "text" }]),
            json!([["Multiple statements executed successfully."]]),
        );
        overview["data"]["statementTypeId"] = 0xA000.into();
        overview["data"]["resultIds"] = ids.join(",").into();
        stage.upstream.replies.lock().unwrap().insert("select 1; select 2".into(), overview);
        stage.upstream.replies.lock().unwrap().insert(SLOW_ID.into(), late.clone());
        let reply = stage.driver.query_several("select 1; select 2", 2).await;
        assert_eq!(reply["success"], true, "{reply}");
        let child = stage.driver.get(&result_path).await;
        assert_eq!(text(&child).contains("[REPLY-WITHHELD"), withheld, "{children} {child_at}: {child}");
        assert_no_canary(&stage);
    }
}

#[tokio::test]
async fn a_new_key_counts_for_what_begins_after_it() {
    let mut stage = stage(true).await;
    stage.driver.login().await;
    let columns: &[&str] = &["ID", "EMAIL"];
    let token = async |stage: &Stage, sql: &str, key: &str| {
        stage.pdp.decide_as(sql, masked(sql, vec![(1, 2, Some(tokenize(key)))], &[Some(columns)]));
        stage.upstream.replies.lock().unwrap().insert(sql.into(), emails());
        stage.driver.query(sql).await["data"]["rowset"][0][1].as_str().map(str::to_owned)
    };
    let before = token(&stage, "select before", "crm").await.unwrap();
    fs::write(stage.dir().join("mask.keys"), format!("{NEW}{OLD}")).unwrap();
    eventually("the new key counts", || async {
        token(&stage, "select after", "crm").await.is_some_and(|token| token != before)
    })
    .await;
    assert_eq!(token(&stage, "select with the old one", "crm@1").await, Some(before.clone()));
    // A file that is none leaves the keys in force.
    fs::write(stage.dir().join("mask.keys"), "crm 3").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(token(&stage, "select still", "crm@1").await, Some(before));
    assert_no_canary(&stage);
}

#[tokio::test]
async fn parts_that_are_masked_come_by_here_even_where_others_do_not() {
    let more = "[results]\nchunks = \"direct\"\n[masking]\nkeys_file = \"@dir/mask.keys\"\n";
    let mut stage = Stage::with_files("0s", more, &[("mask.keys", OLD)]).await;
    stage.driver.login().await;
    let columns: &[&str] = &["ID", "EMAIL"];
    let mut reply = emails();
    reply["data"]["chunks"] =
        json!([{ "url": "https://stage.s3.amazonaws.com/x?sig=STORAGE-KEY-c0ffee", "rowCount": 1 }]);
    for (sql, worn, through) in
        [("select masked", vec![(1, 2, Some(tokenize("crm")))], true), ("select plain", vec![], false)]
    {
        let mut decision = masked(sql, worn, &[Some(columns)]);
        decision.outcome = if through { Outcome::Mask } else { Outcome::Allow }.into();
        stage.pdp.decide_as(sql, decision);
        stage.upstream.replies.lock().unwrap().insert(sql.into(), reply.clone());
        let told = stage.driver.query(sql).await;
        let url = told["data"]["chunks"][0]["url"].as_str().unwrap_or_default();
        assert_eq!(url.contains("/chunks/ig1."), through, "{told}");
    }
}
