//! `kill -9` in the middle of work: nothing executed unlogged, nothing logged lost.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use icegate_cli::demo::driver::Driver;
use icegate_cli::demo::issuer::{ANA, STELLA};
use icegate_cli::demo::python::WAREHOUSE;
use icegate_tests::stack::{Carrier, Stack, Upstream, environment, text_at};
use serde_json::{Value, json};

/// Connections that work at the same time.
const SESSIONS: usize = 4;

/// Half seconds until the last outcome has to be in.
const COMPARE_TRIES_MAX: usize = 40;

/// Statements of each between two kills.
const STATEMENTS: usize = 30;

#[derive(Debug, Clone, Copy, PartialEq)]
enum Victim {
    Pdp,
    Pep,
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_executed_unlogged_nothing_logged_lost() -> anyhow::Result<()> {
    let mut stack = Stack::start(Upstream::Fakesnow).await?;
    let driver = Driver::start(&environment(&WAREHOUSE).await?).await?;
    let mut acknowledged = BTreeSet::new();
    for (round, victim) in [Victim::Pep, Victim::Pdp, Victim::Pep, Victim::Pdp].into_iter().enumerate() {
        acknowledged.extend(work_and_kill(&mut stack, &driver, round, victim).await?);
        // What happened is whole after each of them.
        stack.icegate(&STELLA, &["audit", "verify"]).await.with_context(|| format!("after {victim:?}"))?;
    }
    // One more session, so that everything that was on its way has arrived.
    let arguments = stack.connection(&ANA, Carrier::Oauth)?;
    driver.connect("last", &arguments).await??;
    driver.execute("last", "SELECT 999999 AS LAST").await??;
    // Outcomes and what the PEP kept in its journal arrive by and by.
    for _ in 1..COMPARE_TRIES_MAX {
        if compare(&stack, &acknowledged).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    compare(&stack, &acknowledged).await
}

/// Lets several sessions work, kills one of the services meanwhile, and starts it again. Gives what the driver was answered.
async fn work_and_kill(
    stack: &mut Stack,
    driver: &Driver,
    round: usize,
    victim: Victim,
) -> anyhow::Result<BTreeSet<String>> {
    let mut arguments = stack.connection(&ANA, Carrier::Oauth)?;
    // A statement that nobody answers must not be repeated for ever.
    arguments["network_timeout"] = json!(8);
    arguments["login_timeout"] = json!(8);
    let names: Vec<String> = (0..SESSIONS).map(|session| format!("round{round}-{session}")).collect();
    for name in &names {
        driver.connect(name, &arguments).await?.with_context(|| format!("{name} after a restart"))?;
    }
    let mut sent = Vec::new();
    for statement in 0..STATEMENTS {
        for (session, name) in names.iter().enumerate() {
            let number = 100_000 * (round + 1) + 1_000 * session + statement;
            let sql = format!("SELECT {number} AS MARK, COUNT(*) AS N FROM ORDERS");
            let answer = driver.send(name, "execute", json!({ "sql": sql })).await?;
            sent.push((number, answer));
        }
    }
    let before = stack.back.queries().len();
    // In the middle: some have run, most have not.
    for _ in 0..200 {
        if stack.back.queries().len() > before + SESSIONS * STATEMENTS / 4 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    match victim {
        Victim::Pdp => {
            stack.pdp.kill().await?;
            stack.restart_pdp().await?;
        }
        Victim::Pep => {
            stack.pep.kill().await?;
            stack.restart_pep().await?;
        }
    }
    let mut answered = BTreeSet::new();
    for (number, answer) in sent {
        if answer.await.is_ok_and(|answer| answer.is_ok()) {
            answered.insert(format!("SELECT {number} AS MARK, COUNT(*) AS N FROM ORDERS"));
        }
    }
    ensure!(!answered.is_empty(), "{victim:?}: nothing was answered, so nothing was tried");
    Ok(answered)
}

async fn compare(stack: &Stack, acknowledged: &BTreeSet<String>) -> anyhow::Result<()> {
    let entries = stack.asked(&["audit", "search", "--json", "--limit", "100000"]).await?;
    let mut intents = BTreeMap::new();
    let mut ends = BTreeMap::new();
    for entry in &entries {
        let event = &entry["record"]["body"]["event"];
        if text_at(event, "kind") == "decision" {
            intents.insert(text_at(event, "decision_id").to_owned(), event);
            if !entry["outcome"].is_null() {
                ends.insert(
                    text_at(event, "decision_id").to_owned(),
                    text_at(&entry["outcome"]["body"]["event"], "status"),
                );
            }
        }
    }
    let mut executed = BTreeMap::new();
    for query in stack.back.queries() {
        let tag: Value = serde_json::from_str(text_at(&query["parameters"], "QUERY_TAG")).unwrap_or_default();
        let text = text_at(&query, "sqlText").to_owned();
        match tag["icegate"]["decision"].as_str() {
            Some(decision) => {
                // Nothing executed unlogged: the intent is there, for exactly this text.
                let intent = intents.get(decision).with_context(|| format!("`{text}` ran without a record"))?;
                ensure!(text_at(intent, "sent_sql") == text, "`{text}` is recorded as {intent}");
                ensure!(executed.insert(decision.to_owned(), text).is_none(), "one decision ran twice");
            }
            // The seed is not sent through the PEP; what the PEP itself asks reads no table.
            None => ensure!(!text.contains("FROM"), "`{text}` ran without a decision"),
        }
    }
    ensure!(executed.len() > SESSIONS * STATEMENTS, "too little happened: {}", executed.len());
    // Nothing logged lost: what a driver was told has happened is in the trail, as run and as ended well.
    let mut ended_well = BTreeSet::new();
    for (decision, intent) in &intents {
        if executed.contains_key(decision) && ends.get(decision) == Some(&"succeeded") {
            ended_well.insert(text_at(intent, "sql").to_owned());
        }
    }
    let lost: Vec<&String> = acknowledged.difference(&ended_well).collect();
    // An answer may reach the driver a moment before its outcome is durable; then the run is open or unknown, never missing.
    for sql in lost {
        let runs: Vec<_> = intents.iter().filter(|(_, intent)| text_at(intent, "sql") == sql).collect();
        ensure!(runs.iter().any(|(decision, _)| executed.contains_key(*decision)), "`{sql}` was answered and is lost");
        let states: Vec<_> = runs.iter().map(|(decision, _)| ends.get(*decision)).collect();
        ensure!(states.contains(&Some(&"unknown")) || states.contains(&None), "`{sql}`: {states:?}");
    }
    // Runs that a killed PEP left open are `unknown`, not forgotten.
    let open: Vec<_> = executed.keys().filter(|decision| !ends.contains_key(*decision)).collect();
    ensure!(open.is_empty(), "{} runs are open: {open:?}", open.len());
    Ok(())
}
