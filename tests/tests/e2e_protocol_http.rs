//! The protocol without a driver between: several statements, bindings, the background, aborts, retries, faults at every point,
//! file transfers, the SQL API, and whose an id is over a restart.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::time::Duration;

use anyhow::{Context as _, ensure};
use icegate_cli::demo::issuer::{ANA, COPILOT, STELLA};
use icegate_tests::plain::{Answered, Plain};
use icegate_tests::stack::{Stack, Upstream, text_at};
use icegate_tests::stand_in::{CANARY, Fault, Play, StandIn};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn the_protocol_byte_by_byte() -> anyhow::Result<()> {
    let mut stack = Stack::start(Upstream::StandIn).await?;
    several_statements(&stack).await.context("several statements")?;
    bindings_and_shapes(&stack).await.context("bindings and shapes")?;
    background_and_aborts(&stack).await.context("background and aborts")?;
    retries(&stack).await.context("retries")?;
    faults(&stack).await.context("faults")?;
    transfers(&stack).await.context("transfers")?;
    sql_api(&stack).await.context("sql api")?;
    held_over_a_restart(&mut stack).await.context("held over a restart")?;
    for exchange in stack.front.exchanges() {
        let told = format!("{} {}", exchange.response_headers, String::from_utf8_lossy(&exchange.response));
        ensure!(!told.contains(CANARY), "the answer to {} has a secret of the warehouse in it", exchange.target);
    }
    stack.icegate(&STELLA, &["audit", "verify"]).await?;
    Ok(())
}

fn stand_in(stack: &Stack) -> anyhow::Result<&StandIn> {
    stack.stand_in.as_ref().context("no stand-in")
}

async fn ana(stack: &Stack) -> anyhow::Result<Plain> {
    Plain::login(stack.front.addr(), &stack.issuer.token(&ANA)?).await
}

fn fresh() -> String {
    uuid::Uuid::new_v4().to_string()
}

fn message(reply: &Value) -> &str {
    text_at(reply, "message")
}

async fn several_statements(stack: &Stack) -> anyhow::Result<()> {
    let ana = ana(stack).await?;
    let sql = "SELECT 'piece one'; SELECT 'piece two'";
    let ask = |count: u64| json!({ "sqlText": sql, "parameters": { "MULTI_STATEMENT_COUNT": count } });
    let wrong = ana.query_as(&fresh(), &ask(3)).await?;
    ensure!(message(&wrong).contains("[SQL-STATEMENT-COUNT"), "{wrong}");
    let reply = ana.query_as(&fresh(), &ask(2)).await?;
    ensure!(reply["success"] == true, "{reply}");
    let ids: Vec<&str> = text_at(&reply["data"], "resultIds").split(',').collect();
    ensure!(ids.len() == 2, "{reply}");
    let other = self::ana(stack).await?;
    for (id, wanted) in ids.iter().zip(["SELECT 'piece one'", "SELECT 'piece two'"]) {
        let path = format!("/queries/{id}/result");
        let child = ana.get(&path).await?.json();
        ensure!(child["data"]["rowset"] == json!([[wanted]]), "{child}");
        ensure!(other.get(&path).await?.json()["code"] == "000612", "another session's child");
    }
    Ok(())
}

async fn bindings_and_shapes(stack: &Stack) -> anyhow::Result<()> {
    let ana = ana(stack).await?;
    let one = json!({ "1": { "type": "FIXED", "value": "7" } });
    let many = json!({ "1": { "type": "TEXT", "value": ["a", null, "c"] }, "2": { "type": "FIXED", "value": ["1", "2", "3"] } });
    for bindings in [one, many] {
        let body = json!({ "sqlText": "SELECT ? AS SAID", "bindings": bindings });
        let reply = ana.query_as(&fresh(), &body).await?;
        let said: Value = serde_json::from_str(reply["data"]["rowset"][0][0].as_str().unwrap_or_default())?;
        ensure!(said == bindings, "{reply}");
    }
    let staged = json!({ "sqlText": "SELECT ?", "bindStage": "@SYSTEM$BIND/x" });
    let reply = ana.query_as(&fresh(), &staged).await?;
    ensure!(message(&reply).contains("send fewer rows at a time"), "{reply}");
    let described = ana
        .query_as(&fresh(), &json!({ "sqlText": "SELECT 'shape'", "describeOnly": true, "isInternal": true }))
        .await?;
    ensure!(
        described["data"]["rowset"] == json!([]) && described["data"]["rowtype"][0]["name"] == "SAID",
        "{described}"
    );
    let context =
        json!({ "entries": [{ "id": 0, "timestamp": 1, "priority": 0, "context": { "base64Data": "AAAA" } }] });
    let reply = ana.query_as(&fresh(), &json!({ "sqlText": "SELECT 'context'", "queryContextDTO": context })).await?;
    ensure!(reply["success"] == true, "{reply}");
    let sent = stack.back.queries().pop().context("nothing sent")?;
    ensure!(sent["queryContextDTO"] == context, "what the driver echoes reaches its own session: {sent}");
    Ok(())
}

async fn background_and_aborts(stack: &Stack) -> anyhow::Result<()> {
    let ana = ana(stack).await?;
    let detached = ana.query_as(&fresh(), &json!({ "sqlText": "SELECT 'chunks later'", "asyncExec": true })).await?;
    ensure!(detached["code"] == "333334", "{detached}");
    let url = text_at(&detached["data"], "getResultUrl").to_owned();
    let mut last = Value::Null;
    for _ in 0..5 {
        last = ana.get(&url).await?.json();
        if last["code"] != "333333" {
            break;
        }
    }
    ensure!(text_at(&last["data"]["chunks"][0], "url").contains("/chunks/ig1."), "{last}");
    let id = text_at(&detached["data"], "queryId").to_owned();
    let monitored = ana.get(&format!("/monitoring/queries//{id}")).await?.json();
    ensure!(monitored["data"]["queries"][0]["status"] == "SUCCESS", "{monitored}");

    // By the query's id, by the request's id; by nobody else.
    let forever = json!({ "sqlText": "SELECT 'forever'" });
    let other = self::ana(stack).await?;
    for by_request in [false, true] {
        let request_id = fresh();
        let running = ana.query_as(&request_id, &forever).await?;
        ensure!(running["code"] == "333333", "{running}");
        let id = text_at(&running["data"], "queryId").to_owned();
        let (path, body) = if by_request {
            let body = json!({ "sqlText": "SELECT 'forever'", "requestId": request_id });
            (format!("/queries/v1/abort-request?requestId={}", fresh()), body.to_string())
        } else {
            (format!("/queries/{id}/abort-request?requestId={}", fresh()), "{}".to_owned())
        };
        let theirs = other.send("POST", &path, &[], body.clone()).await?.json();
        ensure!(theirs["success"] == false, "{theirs}");
        let ours = ana.send("POST", &path, &[], body).await?.json();
        ensure!(ours["success"] == true, "{ours}");
        let ended = ana.get(&format!("/queries/{id}/result")).await?.json();
        ensure!(ended["code"] == "000604", "{ended}");
    }
    Ok(())
}

async fn retries(stack: &Stack) -> anyhow::Result<()> {
    let ana = ana(stack).await?;
    let id = fresh();
    let ask = json!({ "sqlText": "SELECT 'once only'" });
    let first = ana.query_as(&id, &ask).await?;
    for _ in 0..3 {
        ensure!(ana.query_as(&id, &ask).await? == first, "the same answer");
    }
    let other = ana.query_as(&id, &json!({ "sqlText": "SELECT 'something else'" })).await?;
    ensure!(message(&other).contains("[REQUEST-MALFORMED]"), "{other}");
    let ran = stand_in(stack)?.statements().iter().filter(|sql| sql.contains("once only")).count();
    let records = stack.asked(&["audit", "search", "--json", "--text", "once only"]).await?.len();
    ensure!((ran, records) == (1, 1), "{ran} runs, {records} records");
    ensure!(!stand_in(stack)?.statements().iter().any(|sql| sql.contains("something else")), "it ran");
    Ok(())
}

async fn faults(stack: &Stack) -> anyhow::Result<()> {
    let ana = ana(stack).await?;
    let stand_in = stand_in(stack)?;
    let play = |fault| vec![Play { fault: Some(fault), ..Play::default() }];
    let reply = |reply: Value| vec![Play { reply: Some(reply), ..Play::default() }];
    let said = json!([{ "name": "SAID", "type": "text" }]);
    let rows = json!([["x"]]);
    for (word, plays, told) in [
        // The recorder before the stand-in answers for what breaks off.
        ("fault-cut", play(Fault::Cut), "not readable"),
        ("fault-500", play(Fault::Status(500, "<html>internal</html>".into())), "not readable"),
        ("fault-503", play(Fault::Status(503, String::new())), "not readable"),
        ("fault-redirect", play(Fault::Status(302, "{}".into())), "not readable"),
        ("fault-gzip", play(Fault::FalseGzip), "cannot be read"),
        ("fault-twice", reply(json!({ "success": "perhaps", "data": null })), "not readable"),
        (
            "fault-format",
            reply(
                json!({ "success": true, "data": { "queryId": "@id", "queryResultFormat": "parquet", "rowtype": said, "rowset": rows } }),
            ),
            "result format",
        ),
        (
            "fault-kind",
            reply(
                json!({ "success": true, "data": { "queryId": "@id", "statementTypeId": 0x9000, "rowtype": said, "rowset": rows } }),
            ),
            "another kind of statement",
        ),
        (
            "fault-keys",
            reply(
                json!({ "success": true, "data": { "queryId": "@id", "rowtype": said, "rowset": rows, "stageInfo": { "creds": { "AWS_KEY_ID": CANARY } } } }),
            ),
            "opens a stage",
        ),
        (
            "fault-presigned",
            reply(
                json!({ "success": true, "data": { "queryId": "@id", "rowtype": said, "rowset": rows, "x": [{ "presignedUrl": CANARY }] } }),
            ),
            "opens a stage",
        ),
        (
            "fault-token",
            reply(
                json!({ "success": true, "data": { "queryId": "@id", "rowtype": said, "rowset": [[format!("{CANARY}-session-0")]], "sessionToken": "x" } }),
            ),
            "credential",
        ),
        (
            "fault-chunk",
            reply(
                json!({ "success": true, "data": { "queryId": "@id", "rowtype": said, "rowset": rows, "chunks": [{ "url": "https://evil.example/x" }] } }),
            ),
            "in storage",
        ),
    ] {
        stand_in.script(word, plays);
        let reply = ana.query(&format!("SELECT '{word}'")).await?;
        ensure!(reply["success"] == false && message(&reply).contains(told), "{word}: {reply}");
    }
    // Slow is not broken.
    stand_in.script("late", vec![Play { delay: Duration::from_millis(800), ..Play::default() }]);
    ensure!(ana.query("SELECT 'late'").await?["success"] == true);
    // The session stands.
    ensure!(ana.query("SELECT 'still here'").await?["success"] == true);
    let found = stack.asked(&["audit", "search", "--json", "--outcome", "withheld", "--text", "fault-kind"]).await?;
    ensure!(found.len() == 1, "{}", found.len());
    Ok(())
}

/// No policy permits a transfer: refused by its text, and by what is in a reply.
async fn transfers(stack: &Stack) -> anyhow::Result<()> {
    let ana = ana(stack).await?;
    for sql in ["PUT file:///tmp/x.csv @~", "GET @~/x.csv file:///tmp/", "put file:///tmp/x @SALES.PUBLIC.LOADER"] {
        let reply = ana.query(sql).await?;
        ensure!(reply["success"] == false && message(&reply).starts_with("refused: "), "{sql}: {reply}");
        ensure!(!stand_in(stack)?.statements().iter().any(|sent| sent == sql), "{sql} was sent");
    }
    let reply = ana.query("SELECT 'credentials'").await?;
    ensure!(message(&reply).contains("[REPLY-WITHHELD]"), "{reply}");
    Ok(())
}

async fn sql_api(stack: &Stack) -> anyhow::Result<()> {
    let plain = Plain::new(stack.front.addr());
    let ana = format!("Bearer {}", stack.issuer.token(&ANA)?);
    let stella = format!("Bearer {}", stack.issuer.token(&STELLA)?);
    let send = async |method: &str, path: &str, who: &str, body: Value| -> anyhow::Result<Answered> {
        let headers =
            [("authorization", who), ("x-snowflake-authorization-token-type", "OAUTH"), ("user-agent", "curl/8")];
        plain.send(method, path, &headers, body.to_string()).await
    };
    let ask = |sql: &str| json!({ "statement": sql, "database": "SALES", "schema": "PUBLIC", "warehouse": "DEMO_WH" });
    let done = send("POST", "/api/v2/statements", &ana, ask("SELECT 'plain http'")).await?;
    ensure!(done.status == 200 && done.json()["data"] == json!([["SELECT 'plain http'"]]), "{}", done.text());

    // Parts: by number, and by nobody else.
    let parts = send("POST", "/api/v2/statements", &ana, ask("SELECT 'chunks gzip headers'")).await?;
    let body = parts.json();
    ensure!(body["resultSetMetaData"]["partitionInfo"].as_array().map(Vec::len) == Some(3), "{body}");
    ensure!(
        parts.headers.get("link").is_some_and(|link| link.to_str().unwrap().contains("partition=1>; rel=\"next\""))
    );
    let path = text_at(&body, "statementStatusUrl").to_owned();
    let second = send("GET", &format!("{path}?partition=2"), &ana, Value::Null).await?;
    ensure!(
        second.json() == json!({ "data": [["from storage 1.0"], ["from storage 1.1"], ["from storage 1.2"]] }),
        "{}",
        second.text()
    );
    for (who, path) in
        [(&stella, format!("{path}?partition=2")), (&stella, path.clone()), (&ana, format!("{path}?partition=9"))]
    {
        let nothing = send("GET", &path, who, Value::Null).await?;
        ensure!(nothing.status == 404, "{path}: {}", nothing.text());
    }

    // A name in a bound value is decided by, and stays where it was.
    for (column, name, sent) in [
        ("id", "sales.public.orders", Some("SELECT id AS said FROM IDENTIFIER(?)")),
        ("email", "customers", Some("FROM IDENTIFIER(?)")),
        ("id", "sales.hr.employees", None),
        ("id", "nothing_of_this_name", None),
        ("id", "orders o, customers", None),
    ] {
        let mut named = ask(&format!("SELECT {column} AS said FROM IDENTIFIER(?)"));
        named["bindings"] = json!({ "1": { "type": "TEXT", "value": name } });
        let before = stack.back.queries().len();
        let answer = send("POST", "/api/v2/statements", &ana, named.clone()).await?;
        let Some(wanted) = sent else {
            let said = message(&answer.json()).to_owned();
            ensure!(answer.status == 422 && said.starts_with("refused: "), "{name}: {}", answer.text());
            ensure!(stack.back.queries().len() == before, "{name} was sent");
            continue;
        };
        ensure!(answer.status == 200, "{}", answer.text());
        let query = stack.back.queries().pop().context("nothing sent")?;
        ensure!(text_at(&query, "sqlText").contains(wanted) && query["bindings"] == named["bindings"], "{query}");
        ensure!((text_at(&query, "sqlText") == wanted) == (column == "id"), "masked or not: {query}");
    }

    // In the background, several at once, and a refusal.
    let detached = send("POST", "/api/v2/statements?async=true", &ana, ask("SELECT 'slow'")).await?;
    ensure!(detached.status == 202, "{}", detached.text());
    let path = text_at(&detached.json(), "statementStatusUrl").to_owned();
    let mut last = send("GET", &path, &ana, Value::Null).await?;
    for _ in 0..5 {
        if last.status == 200 {
            break;
        }
        last = send("GET", &path, &ana, Value::Null).await?;
    }
    ensure!(last.json()["data"] == json!([["slow"]]), "{}", last.text());
    let mut both = ask("SELECT 'piece a'; SELECT 'piece b'");
    both["parameters"] = json!({ "MULTI_STATEMENT_COUNT": "2" });
    let both = send("POST", "/api/v2/statements", &ana, both).await?.json();
    let handle = both["statementHandles"][1].as_str().context("no handles")?;
    let child = send("GET", &format!("/api/v2/statements/{handle}"), &ana, Value::Null).await?;
    ensure!(child.json()["data"] == json!([["SELECT 'piece b'"]]), "{}", child.text());
    let refused = send("POST", "/api/v2/statements", &ana, ask("DROP DATABASE SALES")).await?;
    ensure!(refused.status == 422 && message(&refused.json()).starts_with("refused: "), "{}", refused.text());
    let found = stack.asked(&["audit", "search", "--json", "--text", "plain http"]).await?;
    ensure!(found.len() == 1 && text_at(&found[0]["outcome"]["body"]["event"], "status") == "succeeded", "{found:?}");
    Ok(())
}

async fn held_over_a_restart(stack: &mut Stack) -> anyhow::Result<()> {
    const SQL: &str = "DELETE FROM ORDERS WHERE STATUS = 'cancelled'";
    let copilot = Plain::login(stack.front.addr(), &stack.issuer.token(&COPILOT)?).await?;
    let held = copilot.query(SQL).await?;
    ensure!(held["code"] == "333333", "{held}");
    let approval = stack.pending(SQL).await?;
    stack.pep.kill().await?;
    stack.restart_pep().await?;
    let polled = copilot.get(text_at(&held["data"], "getResultUrl")).await?.json();
    ensure!(message(&polled).contains(&approval) && message(&polled).contains("did not run"), "{polled}");
    let stranger = ana(stack).await?;
    let theirs = stranger.get(text_at(&held["data"], "getResultUrl")).await?.json();
    ensure!(theirs["code"] == "000612" && !message(&theirs).contains(&approval), "{theirs}");
    ensure!(!stand_in(stack)?.statements().iter().any(|sql| sql.contains("DELETE")), "it ran");
    Ok(())
}
