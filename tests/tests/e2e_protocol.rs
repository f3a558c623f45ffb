//! What fakesnow lacks, played by the stand-in: answers that come later, sessions that expire, replies that must not pass.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use anyhow::{Context as _, ensure};
use icegate_cli::demo::driver::{Driver, rows};
use icegate_cli::demo::issuer::{ANA, STELLA};
use icegate_cli::demo::python::{DRIVER5, Environment, WAREHOUSE};
use icegate_tests::stack::{Carrier, Stack, Upstream, environment, text_at};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn both_drivers() -> anyhow::Result<()> {
    let stack = Stack::start(Upstream::StandIn).await?;
    for with in [&WAREHOUSE, &DRIVER5] {
        cases(&stack, with).await.with_context(|| with.title)?;
    }
    records_tell_what_became_of_it(&stack).await
}

async fn cases(stack: &Stack, with: &'static Environment) -> anyhow::Result<()> {
    let stand_in = stack.stand_in.as_ref().context("no stand-in")?;
    let driver = Driver::start(&environment(with).await?).await?;
    driver.connect("ana", &stack.connection(&ANA, Carrier::Oauth)?).await??;
    let said = |sql: &'static str| {
        let driver = &driver;
        async move { driver.execute("ana", sql).await }
    };

    let plain = said("SELECT 'plain'").await??;
    ensure!(plain.rows == [[json!("SELECT 'plain'")]], "{plain:?}");

    let before = stand_in.polls();
    let slow = said("SELECT 'slow'").await??;
    ensure!(slow.rows == [[json!("slow")]], "{slow:?}");
    ensure!(stand_in.polls() >= before + 3, "in progress, in progress, done");

    // An absolute address would make a driver send its token there.
    let absolute = said("SELECT 'absolute'").await?;
    ensure!(absolute.as_ref().is_ok_and(|rows| rows.rows == [[json!("slow")]]) || absolute.is_err(), "{absolute:?}");

    // Sent and forgotten, then fetched by its id: by the session that asked, and by no other.
    let sent = driver.call("ana", "execute_async", json!({ "sql": "SELECT 'async'" })).await??;
    let id = sent["sfqid"].as_str().context("no query id")?.to_owned();
    driver.connect("stella", &stack.connection(&STELLA, Carrier::Oauth)?).await??;
    let other = driver.call("stella", "fetch_async", json!({ "sfqid": id })).await?;
    ensure!(other.is_err(), "somebody else's result: {other:?}");
    let fetched = rows(driver.call("ana", "fetch_async", json!({ "sfqid": id })).await?)?;
    // Connector 4 fetches it by RESULT_SCAN, to which the stand-in says what the statement was.
    let wanted = if driver.version().starts_with("4.") { "SELECT 'async'" } else { "slow" };
    ensure!(fetched.as_ref().is_ok_and(|rows| rows.rows == [[json!(wanted)]]), "{fetched:?}");

    stopped_by_sql(stack, &driver).await?;

    let renewals = stand_in.renewals();
    let sql = format!("SELECT 'expire {}'", with.name);
    let expired = driver.execute("ana", &sql).await??;
    ensure!(expired.rows.len() == 1, "{expired:?}");
    ensure!(stand_in.renewals() == renewals + 1, "the upstream session is renewed by the proxy");
    ensure!(stand_in.statements().iter().filter(|done| **done == sql).count() == 1, "it ran once");

    let Err(withheld) = said("SELECT 'credentials'").await? else { anyhow::bail!("the keys to the storage passed") };
    ensure!(withheld.message.contains("REPLY-WITHHELD"), "{withheld:?}");

    // Parts in storage, in each form, through the proxy; a storage that is busy is asked again.
    let cells = [
        "inline",
        "from storage 0.0",
        "from storage 0.1",
        "from storage 0.2",
        "from storage 1.0",
        "from storage 1.1",
        "from storage 1.2",
    ];
    let wanted: Vec<_> = cells.iter().map(|cell| vec![json!(cell)]).collect();
    for sql in [
        "SELECT 'chunks'",
        "SELECT 'chunks json gzip headers'",
        "SELECT 'chunks json unlabelled qrmk'",
        "SELECT 'chunks arrow'",
        "SELECT 'chunks arrow gzip qrmk'",
        "SELECT 'chunks arrow unlabelled headers'",
        "SELECT 'chunks arrow busy'",
    ] {
        let chunks = said(sql).await??;
        ensure!(chunks.rows == wanted, "{sql}: {chunks:?}");
    }

    let Err(broken) = said("SELECT 'broken'").await? else { anyhow::bail!("no error") };
    ensure!(broken.errno == Some(2043) && broken.sqlstate.as_deref() == Some("02000"), "{broken:?}");
    ensure!(broken.message.contains("the object is broken"), "{broken:?}");
    driver.call("ana", "close", json!({})).await??;
    Ok(())
}

/// What runs in the background, stopped by the id or the session of who runs it, and by nobody else's.
async fn stopped_by_sql(stack: &Stack, driver: &Driver) -> anyhow::Result<()> {
    let stand_in = stack.stand_in.as_ref().context("no stand-in")?;
    let logins = stack.front.exchanges().into_iter().filter(|one| one.target.starts_with("/session/v1/login-request"));
    let numbers: Vec<Value> = logins.map(|one| one.response_json()["data"]["sessionId"].clone()).collect();
    let [.., ana, stella] = numbers.as_slice() else { anyhow::bail!("nobody is logged in") };
    let forever = format!("SELECT 'forever {}'", driver.version());
    for (by, other) in [("query", None), ("session", Some(stella))] {
        let sql = format!("{forever} -- by {by}");
        let sent = driver.call("ana", "execute_async", json!({ "sql": sql })).await??;
        let id = sent["sfqid"].as_str().context("no query id")?.to_owned();
        let own = match other {
            None => format!("SELECT SYSTEM$CANCEL_QUERY('{id}')"),
            Some(_) => format!("select system$cancel_all_queries({ana})"),
        };
        let foreign = other.map_or_else(|| own.clone(), |number| format!("select system$cancel_all_queries({number})"));
        let who = if other.is_none() { "stella" } else { "ana" };
        let Err(unknown) = driver.execute(who, &foreign).await? else { anyhow::bail!("{foreign} is another's") };
        ensure!(unknown.message.contains("QUERY-UNKNOWN"), "{unknown:?}");
        ensure!(!stand_in.aborted().contains(&sql), "another session stopped it");
        let said = driver.execute("ana", &own).await??;
        // Those that nobody has seen the end of are counted with it.
        let wanted = if other.is_none() { format!("query [{id}] terminated.") } else { " cancelled.".to_owned() };
        let [cells] = said.rows.as_slice() else { anyhow::bail!("{said:?}") };
        ensure!(cells[0].as_str().is_some_and(|text| text.ends_with(&wanted)), "{said:?}");
        ensure!(stand_in.aborted().contains(&sql), "the warehouse was not told");
        let ended = rows(driver.call("ana", "fetch_async", json!({ "sfqid": id })).await?)?;
        ensure!(ended.is_err(), "it is over: {ended:?}");
    }
    ensure!(!stand_in.statements().iter().any(|sql| sql.to_lowercase().contains("system$cancel")), "it was sent");
    Ok(())
}

async fn records_tell_what_became_of_it(stack: &Stack) -> anyhow::Result<()> {
    for (outcome, sql) in [
        ("succeeded", "SELECT 'slow'"),
        ("withheld", "SELECT 'credentials'"),
        ("succeeded", "SELECT 'chunks arrow busy'"),
        ("failed", "SELECT 'broken'"),
    ] {
        let found = stack.asked(&["audit", "search", "--json", "--outcome", outcome, "--text", sql]).await?;
        ensure!(found.len() == 2, "{outcome} {sql}: {} records", found.len());
        for entry in &found {
            let event = &entry["outcome"]["body"]["event"];
            ensure!(text_at(event, "status") == outcome, "{entry}");
        }
    }
    stack.icegate(&STELLA, &["audit", "verify"]).await?;
    Ok(())
}
