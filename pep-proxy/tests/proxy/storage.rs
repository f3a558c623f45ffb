//! What leads to cloud storage: passed on as configured and decided, and never otherwise.

use icegate_proto::v1::{DecideResponse, Delivery, Outcome};
use serde_json::{Value, json};

use crate::{
    stage::{Stage, eventually},
    upstream::STORAGE_KEY,
};

async fn deliveries(stage: &Stage, count: usize) -> Vec<Delivery> {
    eventually("recorded", || async { stage.pdp.told.lock().unwrap().outcomes.len() >= count }).await;
    stage.pdp.told.lock().unwrap().outcomes.iter().map(|outcome| outcome.delivery()).collect()
}

fn text(reply: &Value) -> &str {
    reply["message"].as_str().unwrap_or_default()
}

#[tokio::test]
async fn through_by_default_and_direct_where_configured() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    let reply = stage.driver.query("select parts at stage.s3.eu-west-1.amazonaws.com").await;
    let url = reply["data"]["chunks"][0]["url"].as_str().unwrap().to_owned();
    assert!(url.starts_with(&format!("http://{}/chunks/ig1.", stage.driver.addr)), "{reply}");
    assert!(reply["data"].get("chunkHeaders").is_none());
    for host in
        ["evil.example", "169.254.169.254", "stage.s3.eu-west-1.amazonaws.com.evil.example", "x@stage.s3.amazonaws.com"]
    {
        let reply = stage.driver.query(&format!("select parts at {host}")).await;
        assert!(text(&reply).contains("[REPLY-WITHHELD]"), "{host}: {reply}");
    }
    assert_eq!(deliveries(&stage, 5).await[0], Delivery::Through);
    stage.assert_nothing_leaked();

    let mut stage = Stage::with("0s", "[results]\nchunks = \"direct\"\n").await;
    stage.driver.login().await;
    let reply = stage.driver.query("select parts at stage.s3.eu-west-1.amazonaws.com").await;
    assert_eq!(
        (&reply["data"]["chunks"][0]["url"], &reply["data"]["chunkHeaders"]),
        (
            &json!(format!("https://stage.s3.eu-west-1.amazonaws.com/x?sig={STORAGE_KEY}")),
            &json!({ "x-amz-server-side-encryption-customer-key": STORAGE_KEY })
        )
    );
    let reply = stage.driver.query("select parts at evil.example").await;
    assert!(text(&reply).contains("[REPLY-WITHHELD]"), "nor is a driver sent there: {reply}");
    assert_eq!(deliveries(&stage, 2).await[0], Delivery::Direct);

    let stage = Stage::with("0s", "[results]\nurl = \"https://warehouse.example.com\"\n").await;
    let mut driver = stage.driver.clone();
    driver.login().await;
    let reply = driver.query("select parts at stage.s3.amazonaws.com").await;
    let url = reply["data"]["chunks"][0]["url"].as_str().unwrap();
    assert!(url.starts_with("https://warehouse.example.com/chunks/ig1."), "{url}");
}

#[tokio::test]
async fn stage_credentials_only_for_the_transfer_that_was_decided() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    let allow = |sql: &str, kinds: &[&str]| DecideResponse {
        decision_id: format!("0198-{}", kinds.join("-")),
        outcome: Outcome::Allow.into(),
        sql: sql.into(),
        statement_kinds: kinds.iter().map(ToString::to_string).collect(),
        ..Default::default()
    };
    for (sql, kinds, passes) in [
        ("put file:///tmp/a @s", &["put"][..], true),
        ("get @s file:///tmp/a", &["get"], true),
        ("put file:///tmp/b @s", &["get"], false),
        ("get @s file:///tmp/b", &["put"], false),
        ("put file:///tmp/c @s", &["select"], false),
        ("put file:///tmp/d @s; x", &["put", "select"], false),
        ("put file:///tmp/e @s", &["unknown"], false),
    ] {
        stage.pdp.decide_as(sql, allow(sql, kinds));
        let reply = stage.driver.query(sql).await;
        assert_eq!(reply["success"], passes, "{sql}: {reply}");
        assert_eq!(reply.to_string().contains(STORAGE_KEY), passes, "{sql}");
        assert!(passes || text(&reply).contains("[REPLY-WITHHELD]"), "{sql}: {reply}");
    }
    let deliveries = deliveries(&stage, 7).await;
    assert_eq!(deliveries.iter().filter(|it| **it == Delivery::Stage).count(), 2, "{deliveries:?}");
}
