//! How Snowflake and its storage are spoken to: HTTP/2 where they offer it, and never twice what may have run.

use icegate_proto::v1::RunStatus;
use serde_json::json;

use crate::{
    outcomes,
    stage::{Stage, eventually},
    text,
};

#[tokio::test]
async fn both_speak_what_they_offer() {
    for (offered, spoken) in
        [(&["h2", "http/1.1"][..], "h2"), (&["h2"], "h2"), (&["http/1.1"], "http/1.1"), (&[], "http/1.1")]
    {
        let mut stage = Stage::with_tls_upstream(offered, "").await;
        stage.driver.login().await;
        assert_eq!(stage.driver.query("select 1").await["success"], true);
        let host = format!("localhost:{}", stage.upstream_addr.port());
        let reply = stage.driver.query(&format!("select parts at {host}")).await;
        let part = reply["data"]["chunks"][0]["url"].as_str().unwrap();
        assert!(stage.driver.get_text(part).await.contains("\"success\":true"), "what lies there is passed on");
        assert_eq!(stage.upstream.calls_to("/x").len(), 1);
        let connections = stage.upstream.spoken.lock().unwrap().clone();
        assert!(connections.len() >= 2, "the warehouse's and the storage's");
        assert!(connections.iter().all(|one| one == spoken), "{offered:?}: {connections:?}");
        stage.assert_nothing_leaked();
    }
}

#[tokio::test]
async fn more_statements_than_a_connection_takes_go_over_another() {
    let mut stage = Stage::with_tls_upstream(&["h2"], "").await;
    stage.driver.login().await;
    let mut drivers = vec![stage.driver.clone(); 105];
    for driver in &mut drivers {
        driver.login().await;
    }
    let running: Vec<_> =
        drivers.into_iter().map(|driver| tokio::spawn(async move { driver.query("blocked").await })).collect();
    // The stand-in takes a hundred at one time of a connection; none waits for another to end.
    eventually("half there", || async { stage.upstream.texts().len() > 50 }).await;
    eventually("all there", || async { stage.upstream.texts().len() == 105 }).await;
    stage.upstream.gate.add_permits(105);
    for one in running {
        assert_eq!(one.await.unwrap()["success"], true);
    }
    stage.assert_nothing_leaked();
}

#[tokio::test]
async fn what_was_refused_unread_is_sent_again_and_runs_once() {
    let mut stage = Stage::with_tls_upstream(&["h2"], "").await;
    stage.driver.login().await;
    *stage.upstream.refuse.lock().unwrap() = 1;
    assert_eq!(stage.driver.query("insert into t").await["success"], true);
    assert_eq!(*stage.upstream.refuse.lock().unwrap(), 0);
    assert_eq!(stage.upstream.texts(), ["insert into t"]);

    *stage.upstream.refuse.lock().unwrap() = u32::MAX;
    let reply = stage.driver.query("insert into u").await;
    assert!(text(&reply).contains("was not sent") && text(&reply).contains("[UPSTREAM-UNREACHABLE]"), "{reply}");
    assert_eq!(stage.upstream.texts(), ["insert into t"]);
    assert_eq!(outcomes(&stage, 2).await[1].status(), RunStatus::NotSent);
}

#[tokio::test]
async fn what_a_connection_ends_under_is_not_sent_again() {
    let mut stage = Stage::with_tls_upstream(&["h2"], "").await;
    stage.driver.login().await;
    let driver = stage.driver.clone();
    let running = tokio::spawn(async move { driver.query("insert blocked").await });
    eventually("there", || async { stage.upstream.texts() == ["insert blocked"] }).await;
    // It runs; the connection says `GOAWAY` and ends.
    stage.upstream.go_away.notify_one();
    let reply = running.await.unwrap();
    assert!(text(&reply).contains("may have run") && text(&reply).contains("[UPSTREAM-UNREACHABLE]"), "{reply}");
    assert_eq!(outcomes(&stage, 1).await[0].status(), RunStatus::Unknown);
    assert_eq!(stage.driver.query("select 1").await["success"], true, "over a fresh connection");
    assert_eq!(stage.upstream.texts(), ["insert blocked", "select 1"], "once");
}

#[tokio::test]
async fn no_more_calls_than_there_are_places_for_and_aborts_get_through() {
    const LIMITS: &str = "[limits]\nupstream_calls_per_connection_max = 2\nupstream_wait = \"2s\"\n";
    let stage = Stage::with("0s", LIMITS).await;
    let mut drivers = [stage.driver.clone(), stage.driver.clone(), stage.driver.clone()];
    for driver in &mut drivers {
        driver.login().await;
    }
    let [first, second, third] = drivers;
    let id = uuid::Uuid::new_v4().to_string();
    let running = [(first.clone(), id.clone()), (second, uuid::Uuid::new_v4().to_string())];
    let running = running.map(|(driver, id)| tokio::spawn(async move { driver.query_as("blocked", &id).await }));
    eventually("there", || async { stage.upstream.texts().len() == 2 }).await;

    let (query, login) = tokio::join!(third.query("insert into t"), third.try_login("good.token"));
    assert!(text(&query).contains("was not sent"), "{query}");
    for reply in [query, login] {
        assert!(text(&reply).contains("[UPSTREAM-BUSY"), "{reply}");
    }
    assert_eq!(stage.upstream.texts().len(), 2, "it was not");
    assert_eq!(outcomes(&stage, 1).await[0].status(), RunStatus::NotSent);

    // What waits gets the place of what ends, and ending it takes none.
    let next = tokio::spawn(async move { third.query("select 1").await });
    let abort = json!({ "sqlText": "blocked", "requestId": id });
    let path = format!("/queries/v1/abort-request?requestId={}", uuid::Uuid::new_v4());
    assert_eq!(first.call("POST", &path, &first.token, &abort).await["success"], true);
    assert_eq!(next.await.unwrap()["success"], true);
    stage.upstream.gate.add_permits(1);
    for one in running {
        one.await.unwrap();
    }
    assert_eq!(stage.upstream.texts(), ["blocked", "blocked", "select 1"]);
}
