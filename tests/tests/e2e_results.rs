//! Masks that the proxy applies to results, with real drivers: inline and in parts, Arrow and JSON, by id and over the SQL API.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::path::PathBuf;

use anyhow::{Context as _, ensure};
use icegate_cli::demo::driver::{Driver, Rows};
use icegate_cli::demo::issuer::STELLA;
use icegate_cli::demo::python::{DRIVER5, Environment, WAREHOUSE};
use icegate_tests::attacks::{self, ANALYST, CLEARED};
use icegate_tests::plain::Plain;
use icegate_tests::policies::root;
use icegate_tests::recorder::decompressed;
use icegate_tests::stack::{Carrier, Stack, Upstream, environment, text_at};
use serde_json::{Value, json};
use tempfile::TempDir;

/// In every private value, in any case.
const CANARIES: [&str; 3] = ["kanarie", "4111", "from storage"];

fn folder() -> PathBuf {
    root().join("tests").join("results")
}

fn bundle() -> anyhow::Result<TempDir> {
    let bundle = tempfile::tempdir()?;
    attacks::assemble(&folder().join("bundle"), bundle.path())?;
    Ok(bundle)
}

/// Who sees what is stored connects past the recorder: what that one records is the analyst's.
fn cleared(stack: &Stack) -> anyhow::Result<Value> {
    let mut arguments = stack.connection(&CLEARED, Carrier::Oauth)?;
    arguments["port"] = json!(stack.pep.addr().port());
    Ok(arguments)
}

/// The client got nothing with a private value in it, whatever it was packed or encoded as.
fn no_canary(stack: &Stack, what: &str) -> anyhow::Result<()> {
    let exchanges = stack.front.exchanges();
    ensure!(!exchanges.is_empty());
    for exchange in exchanges {
        let told = String::from_utf8_lossy(&decompressed(&exchange.response)).to_lowercase();
        let inline = serde_json::from_slice::<Value>(&decompressed(&exchange.response)).ok();
        let arrow = inline.as_ref().and_then(|reply| reply.pointer("/data/rowsetBase64")?.as_str()).map(decoded);
        for canary in CANARIES {
            let hidden = arrow.as_ref().is_some_and(|rows| rows.contains(canary));
            ensure!(!told.contains(canary) && !hidden, "{what}: `{canary}` in the answer to {}", exchange.target);
        }
    }
    Ok(())
}

fn decoded(base64: &str) -> String {
    use base64::Engine as _;
    let bytes = base64::engine::general_purpose::STANDARD.decode(base64).unwrap_or_default();
    String::from_utf8_lossy(&bytes).to_lowercase()
}

#[tokio::test(flavor = "multi_thread")]
async fn real_sql_with_driver_4() -> anyhow::Result<()> {
    real_sql(&WAREHOUSE).await
}

#[tokio::test(flavor = "multi_thread")]
async fn real_sql_with_driver_5() -> anyhow::Result<()> {
    real_sql(&DRIVER5).await
}

async fn real_sql(with: &'static Environment) -> anyhow::Result<()> {
    let bundle = bundle()?;
    let seed = attacks::statements(&std::fs::read_to_string(folder().join("seed.sql"))?);
    let stack = Stack::start_with(Upstream::Fakesnow, bundle.path(), &seed).await?;
    let driver = Driver::start(&environment(with).await?).await?;
    driver.connect("analyst", &stack.connection(&ANALYST, Carrier::Oauth)?).await??;
    let ask = async |sql: &str| anyhow::Ok(driver.execute("analyst", sql).await?.with_context(|| sql.to_owned())?);

    let people = ask("SELECT id, name, card, account, note, profile FROM people ORDER BY id").await?;
    ensure!(
        people.rows.len() == 3 && people.names() == ["ID", "NAME", "CARD", "ACCOUNT", "NOTE", "PROFILE"],
        "{people:?}"
    );
    let tokens = (people.cell(0, "NAME"), people.cell(1, "NAME"));
    ensure!(tokens.0 != tokens.1 && tokens.0.len() >= 13, "{people:?}");
    ensure!(people.cell(0, "CARD").chars().nth(4) == Some('-') && people.cell(0, "CARD").len() == 19, "{people:?}");
    ensure!(people.cell(0, "ACCOUNT").parse::<i64>().is_ok(), "{people:?}");
    ensure!(
        people.cell(0, "NOTE") == "write to [redacted:email]" && people.cell(1, "NOTE") == "nothing to find",
        "{people:?}"
    );
    ensure!(people.cell(0, "PROFILE").contains("[redacted:email]"), "{people:?}");
    ensure!(people.rows[2][1..].iter().all(Value::is_null), "NULL stays NULL: {people:?}");

    // Tokens of one domain join, under aliases, through common table expressions and by position.
    let visits =
        ask("WITH v AS (SELECT person AS who, place FROM visits) SELECT place, who FROM v ORDER BY place").await?;
    ensure!((visits.cell(0, "WHO"), visits.cell(1, "WHO")) == tokens, "{visits:?}");
    let joined = ask("SELECT v.person, p.id FROM people p, visits v WHERE p.id = 1 AND v.place = 'Paris'").await?;
    ensure!(joined.cell(0, "PERSON") == tokens.0, "{joined:?}");

    // What is more than the column itself is refused: its mask cannot be applied to what is made of it.
    for sql in [
        "SELECT UPPER(name) AS n FROM people",
        "SELECT id FROM people WHERE name = 'Ada Kanarie'",
        "SELECT COUNT(DISTINCT name) AS n FROM people",
        "SELECT name FROM people UNION SELECT place FROM visits",
        "SELECT p.id FROM people p JOIN visits v ON p.name = v.person",
        "SELECT id FROM people ORDER BY card",
    ] {
        let before = stack.back.queries().len();
        let Err(raised) = driver.execute("analyst", sql).await? else { anyhow::bail!("`{sql}` ran") };
        ensure!(raised.message.contains("MASK-IMPOSSIBLE"), "{sql}: {raised:?}");
        ensure!(stack.back.queries().len() == before, "{sql} was sent");
    }
    no_canary(&stack, "real SQL")?;

    driver.connect("cleared", &cleared(&stack)?).await??;
    let plain: Rows = driver.execute("cleared", "SELECT name, card FROM people WHERE id = 1").await??;
    ensure!(plain.cell(0, "NAME") == "Ada Kanarie" && plain.cell(0, "CARD") == "4111-1111-1111-1111", "{plain:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_a_result_comes() -> anyhow::Result<()> {
    let bundle = bundle()?;
    let mut stack = Stack::start_with::<&str>(Upstream::StandIn, bundle.path(), &[]).await?;
    let analyst = Plain::login(stack.front.addr(), &stack.issuer.token(&ANALYST)?).await?;
    let driver = Driver::start(&environment(&WAREHOUSE).await?).await?;
    driver.connect("analyst", &stack.connection(&ANALYST, Carrier::Oauth)?).await??;
    driver.connect("cleared", &cleared(&stack)?).await??;

    // In the reply and in parts, in both formats; a driver reads both.
    for form in
        ["chunks arrow gzip", "chunks arrow plain", "chunks json gzip", "chunks json headers", "arrow", "kanarie"]
    {
        let sql = format!("SELECT said FROM talk WHERE '{form}' <> ''");
        let raw = driver.execute("cleared", &sql).await?.with_context(|| sql.clone())?;
        let masked = driver.execute("analyst", &sql).await?.with_context(|| sql.clone())?;
        ensure!(raw.rows.len() == masked.rows.len(), "{sql}: {masked:?}");
        for (raw, masked) in raw.rows.iter().zip(&masked.rows) {
            ensure!(raw != masked && text(&masked[0]).len() >= 13, "{sql}: {raw:?} {masked:?}");
        }
    }

    // By id, again by id after a restart, and as one of several statements.
    let slow = "SELECT said FROM talk WHERE 'slow' <> ''";
    let reply = analyst.query(slow).await?;
    let id = text_at(&reply["data"], "queryId").to_owned();
    let path = format!("/queries/{id}/result");
    let result = async || {
        for _ in 0..20 {
            let reply = analyst.get(&path).await?.json();
            if reply["code"] != "333333" {
                return Ok(reply);
            }
        }
        anyhow::bail!("still running")
    };
    let first = result().await?;
    ensure!(first["data"]["rowset"][0][0].as_str().is_some_and(|cell| cell.len() >= 13), "{first}");
    stack.pep.kill().await?;
    stack.restart_pep().await?;
    let again = result().await?;
    ensure!(again["data"]["rowset"] == first["data"]["rowset"], "{again}");

    // Over the SQL API, partitions and all.
    let mut api = Plain::new(stack.front.addr());
    api.authorization = format!("Bearer {}", stack.issuer.token(&ANALYST)?);
    let statement = json!({ "statement": "SELECT said FROM talk WHERE 'chunks json gzip' <> ''", "database": "SALES", "schema": "PUBLIC", "warehouse": "DEMO_WH" });
    let answered = api.send("POST", "/api/v2/statements", &[], statement.to_string()).await?.json();
    let handle = text_at(&answered, "statementHandle").to_owned();
    ensure!(!handle.is_empty(), "{answered}");
    for partition in [0, 1, 2] {
        let part = api.get(&format!("/api/v2/statements/{handle}?partition={partition}")).await?.json();
        let rows = part["data"].as_array().with_context(|| format!("{partition}: {part}"))?;
        ensure!(!rows.is_empty() && rows.iter().all(|row| text(&row[0]).len() >= 13), "{partition}: {part}");
    }

    no_canary(&stack, "every way")
}

/// The client sees a broken answer, and the trail says it beside the outcome, which was told before.
#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_breaks_is_on_record() -> anyhow::Result<()> {
    let bundle = bundle()?;
    let mut stack = Stack::start_with::<&str>(Upstream::StandIn, bundle.path(), &[]).await?;
    let analyst = Plain::login(stack.front.addr(), &stack.issuer.token(&ANALYST)?).await?;
    for form in ["chunks json", "chunks json torn", "chunks json gzip torn", "chunks arrow torn"] {
        let reply = analyst.query(&format!("SELECT said FROM talk WHERE '{form}' <> ''")).await?;
        let parts = reply["data"]["chunks"].as_array().with_context(|| format!("{form}: {reply}"))?;
        // Both parts, and again as drivers do; past the recorder, which does not pass on what breaks.
        let direct = Plain::new(stack.pep.addr());
        for part in parts.iter().chain(parts) {
            let path = text_at(part, "url").split_once("/chunks/").context("no address")?.1;
            let got = direct.get(&format!("/chunks/{path}")).await;
            ensure!(got.is_err() == form.contains("torn"), "{form}: what breaks off looks broken, never short");
        }
    }
    // It was durable before the client saw anything.
    stack.pep.kill().await?;
    stack.restart_pep().await?;
    let mut cut = Vec::new();
    for _ in 0..50 {
        cut = stack.asked(&["audit", "search", "--json", "--outcome", "cut", "--user", "ana"]).await?;
        if cut.len() == 3 && cut.iter().all(|entry| !entry["outcome"].is_null()) {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    ensure!(cut.len() == 3, "once for a decision: {cut:?}");
    for entry in &cut {
        let (decision, event) = (&entry["record"]["body"]["event"], &entry["cut"]["body"]["event"]);
        ensure!(
            text_at(decision, "sql").contains("torn") && event["decision_id"] == decision["decision_id"],
            "{entry}"
        );
        ensure!(event["reason"] == "masking" && event["part"] == 0, "{entry}");
        ensure!(entry["outcome"]["body"]["event"]["status"] == "succeeded", "{entry}");
        let shown = stack.icegate(&STELLA, &["audit", "show", text_at(decision, "decision_id")]).await?;
        ensure!(shown.contains("delivery-cut") && shown.contains("could not be masked"), "{shown}");
    }
    stack.icegate(&STELLA, &["audit", "verify"]).await?;
    no_canary(&stack, "torn")
}

fn text(cell: &Value) -> &str {
    cell.as_str().unwrap_or_default()
}
