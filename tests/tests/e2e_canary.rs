//! Raw values of masked columns and Snowflake's own tokens: not in one byte that a client is sent.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use anyhow::{Context as _, ensure};
use icegate_cli::demo::driver::Driver;
use icegate_cli::demo::issuer::{ANA, COPILOT};
use icegate_cli::demo::python::{DRIVER5, WAREHOUSE};
use icegate_tests::stack::{Carrier, Stack, Upstream, environment};
use icegate_tests::stand_in::CANARY;
use serde_json::json;

/// What the seed puts into masked columns, a distinctive part each.
const RAW: [&str; 14] = [
    "Lindqvist",
    "Okafor",
    "Ferrari",
    "Tanaka",
    "maya.",
    "tom.okafor",
    "lucia@",
    "hiro.",
    "555 0101",
    "5550 0104",
    "900-12-00",
    "400000123456",
    "kim@",
    "N-70000",
];

/// Reads that would show raw values if anything went through.
const READS: [&str; 12] = [
    "SELECT * FROM CUSTOMERS",
    "SELECT c.EMAIL || ' ' || c.NAME AS BOTH FROM CUSTOMERS c",
    "WITH x AS (SELECT EMAIL AS E FROM CUSTOMERS) SELECT MAX(E) FROM x",
    "SELECT NAME, EMAIL FROM CUSTOMER_ORDERS",
    "SELECT o.ID, c.PHONE FROM ORDERS o JOIN CUSTOMERS c ON c.ID = o.CUSTOMER_ID",
    "SELECT SSN FROM CUSTOMERS UNION SELECT CARD FROM CUSTOMERS",
    "SELECT UPPER(LOWER(EMAIL)) FROM CUSTOMERS WHERE EMAIL LIKE '%@example.com'",
    "SELECT (SELECT MIN(CARD) FROM CUSTOMERS) AS C",
    "SELECT * FROM SALES.STAGING.LEADS",
    "SELECT NATIONAL_ID, COUNT(*) FROM SALES.STAGING.LEADS GROUP BY NATIONAL_ID",
    "SELECT CAST(EMAIL AS NUMBER) FROM CUSTOMERS",
    "SELECT NO_SUCH_COLUMN FROM CUSTOMERS",
];

#[tokio::test(flavor = "multi_thread")]
async fn nothing_raw_reaches_a_client() -> anyhow::Result<()> {
    let stack = Stack::start(Upstream::Fakesnow).await?;
    for with in [&WAREHOUSE, &DRIVER5] {
        let driver = Driver::start(&environment(with).await?).await?;
        let mut shown = 0;
        for person in [&ANA, &COPILOT] {
            driver.connect(person.name, &stack.connection(person, Carrier::Oauth)?).await??;
            for sql in READS {
                shown += usize::from(driver.execute(person.name, sql).await?.is_ok_and(|rows| !rows.rows.is_empty()));
            }
            driver.call(person.name, "close", json!({})).await??;
        }
        ensure!(shown >= 10, "only {shown} reads gave rows: nothing was tried");
    }
    // The warehouse does hold them.
    let python = environment(&WAREHOUSE).await?;
    let owner = Driver::start(&python).await?;
    let arguments = icegate_cli::demo::warehouse::direct_connection(stack.back.addr());
    owner.connect("owner", &arguments).await??;
    let raw = owner.execute("owner", "SELECT NAME, EMAIL, PHONE, SSN, CARD FROM SALES.PUBLIC.CUSTOMERS").await??;
    ensure!(format!("{:?}", raw.rows).contains("Lindqvist"), "the canaries are not planted");

    let mut forbidden: Vec<String> = RAW.iter().map(|&raw| raw.to_owned()).collect();
    forbidden.push("upstream-password-canary".to_owned());
    for exchange in stack.back.exchanges() {
        if exchange.target.starts_with("/session/v1/login-request") {
            let token = exchange.response_json()["data"]["token"].as_str().context("no upstream token")?.to_owned();
            forbidden.push(token);
        }
    }
    ensure!(forbidden.len() > RAW.len() + 4, "the upstream tokens were not seen");
    nothing_of(&forbidden, &stack)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_credential_of_the_warehouse_reaches_a_client() -> anyhow::Result<()> {
    let stack = Stack::start(Upstream::StandIn).await?;
    for with in [&WAREHOUSE, &DRIVER5] {
        let driver = Driver::start(&environment(with).await?).await?;
        driver.connect("ana", &stack.connection(&ANA, Carrier::Oauth)?).await??;
        for sql in [
            "SELECT 'plain'",
            "SELECT 'slow'",
            "SELECT 'absolute'",
            "SELECT 'credentials'",
            "SELECT 'chunks'",
            "SELECT 'broken'",
            &format!("SELECT 'expire {}'", with.name),
        ] {
            // Whatever it gives: what counts is what went over the wire.
            drop(driver.execute("ana", sql).await?);
        }
        driver.call("ana", "close", json!({})).await??;
    }
    let statements = stack.stand_in.as_ref().context("no stand-in")?.statements();
    ensure!(statements.iter().any(|sql| sql.contains("credentials")), "{statements:?}");
    nothing_of(&[CANARY.to_owned(), "203.0.113.9".to_owned(), "upstream-password-canary".to_owned()], &stack)
}

fn nothing_of(forbidden: &[String], stack: &Stack) -> anyhow::Result<()> {
    for exchange in stack.front.exchanges() {
        let mut sent = vec![exchange.response_headers.clone()];
        sent.push(String::from_utf8_lossy(&exchange.response_wire).into_owned());
        sent.push(String::from_utf8_lossy(&exchange.response).into_owned());
        // Arrow results travel as base64 inside JSON.
        if let Some(arrow) = exchange.response_json()["data"]["rowsetBase64"].as_str() {
            use base64::Engine as _;
            let bytes = base64::engine::general_purpose::STANDARD.decode(arrow)?;
            sent.push(String::from_utf8_lossy(&bytes).into_owned());
        }
        for text in sent {
            for word in forbidden {
                // What the client itself sent may come back in a message.
                let own = String::from_utf8_lossy(&exchange.request).contains(word.as_str());
                ensure!(own || !text.contains(word.as_str()), "`{word}` in the answer to {}", exchange.target);
            }
        }
    }
    Ok(())
}
