//! A client that sends at random, through a real PEP and PDP to the stand-in: nothing reaches the warehouse that was not decided
//! and is not on record, no answer holds a secret of it, the PEP stays up and its memory flat.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use icegate_cli::demo::issuer::{ANA, STELLA};
use icegate_tests::generated::Dice;
use icegate_tests::plain::Plain;
use icegate_tests::stack::{Stack, Upstream, text_at};
use icegate_tests::stand_in::CANARY;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Where the dice begin: a failure is the same the next time.
const SEED: u64 = 0x1CE6_A7E0_2026_1126;
/// Clients at one time, and requests of each in each of the two rounds.
const CLIENTS: u64 = 4;
const REQUESTS: usize = 400;
/// Requests a client sends in one session.
const REQUESTS_PER_SESSION: usize = 25;
/// What the second round may add to the memory of the first, in bytes: an allocator's play, far below what it was sent.
const GROWTH_BYTES_MAX: u64 = 48 * 1024 * 1024;
/// In every text that no policy permits.
const NEVER: &str = "never";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_passes_that_was_not_decided() -> anyhow::Result<()> {
    let stack = Stack::start(Upstream::StandIn).await?;
    let pid = stack.pep.id().context("a running pep")?;
    let token = stack.issuer.token(&ANA)?;

    let first = round(&stack, 0, &token).await?;
    let before = resident(pid).context("memory of the pep")?;
    let second = round(&stack, CLIENTS, &token).await?;
    let after = resident(pid).context("memory of the pep")?;
    ensure!(after < before + GROWTH_BYTES_MAX, "{before} bytes grew to {after}");
    ensure!(first.min(second) > 100, "{first} and {second} answers are no test");

    // It is the same process, and serves.
    ensure!(stack.pep.id() == Some(pid));
    let again = Plain::login(stack.front.addr(), &token).await?;
    ensure!(again.query("SELECT 'after all'").await?["success"] == true);
    only_what_was_decided(&stack).await?;
    stack.icegate(&STELLA, &["audit", "verify"]).await?;
    Ok(())
}

/// What the warehouse was sent against what is on record.
async fn only_what_was_decided(stack: &Stack) -> anyhow::Result<()> {
    let mut permitted = BTreeMap::new();
    for entry in stack.asked(&["audit", "search", "--json", "--limit", "100000"]).await? {
        let event = &entry["record"]["body"]["event"];
        if text_at(event, "kind") == "decision" && ["allow", "mask"].contains(&text_at(event, "outcome")) {
            permitted.insert(text_at(event, "decision_id").to_owned(), text_at(event, "sent_sql").to_owned());
        }
    }
    let mut ran = BTreeSet::new();
    for exchange in stack.back.exchanges() {
        let path = exchange.target.split('?').next().unwrap_or_default();
        let sent = exchange.request_json();
        if path == "/queries/v1/query-request" {
            let sql = text_at(&sent, "sqlText");
            let tag: Value = serde_json::from_str(text_at(&sent["parameters"], "QUERY_TAG")).unwrap_or_default();
            let decision = text_at(&tag["icegate"], "decision").to_owned();
            if decision.is_empty() {
                // Where a session stands: the proxy's own question.
                ensure!(sql == "SELECT 1", "`{sql}` ran without a decision");
                continue;
            }
            let recorded = permitted.get(&decision).with_context(|| format!("`{sql}` ran without a record"))?;
            ensure!(recorded == sql, "`{sql}` ran, and `{recorded}` was decided");
            ensure!(!sql.contains(NEVER), "`{sql}` ran");
            ensure!(ran.insert(decision), "`{sql}` ran twice under one decision");
        } else {
            let own = ["/session/v1/login-request", "/session/token-request", "/session/heartbeat", "/session"];
            let about = path.starts_with("/queries/") || path.starts_with("/monitoring/queries/");
            ensure!(own.contains(&path) || about, "`{}` was passed on", exchange.target);
            let whole = String::from_utf8_lossy(&exchange.request);
            ensure!(!whole.contains(NEVER) && !exchange.target.contains(NEVER), "{}: {whole}", exchange.target);
        }
    }
    ensure!(ran.len() > 50, "{} statements are no test", ran.len());
    Ok(())
}

/// All clients, each with dice of its own. Says how many answers came.
async fn round(stack: &Stack, seeds: u64, token: &str) -> anyhow::Result<usize> {
    let addr = stack.pep.addr();
    let clients: Vec<_> = (seeds..seeds + CLIENTS)
        .map(|at| {
            let token = token.to_owned();
            tokio::spawn(async move { client(addr, Dice::new(SEED ^ at), &token).await })
        })
        .collect();
    let mut answers = 0;
    for client in clients {
        answers += client.await??;
    }
    Ok(answers)
}

async fn client(addr: SocketAddr, mut dice: Dice, token: &str) -> anyhow::Result<usize> {
    let bearer = format!("Bearer {token}");
    let mut session = String::new();
    let mut answers = 0;
    for at in 0..REQUESTS {
        // What it sends may end its session, or leave it where nothing is permitted.
        if at % REQUESTS_PER_SESSION == 0 {
            session = Plain::login(addr, token).await?.authorization;
        }
        let (session, bearer) = (session.as_str(), bearer.as_str());
        let mut stream = TcpStream::connect(addr).await?;
        let mut sent = request(&mut dice, session, bearer);
        if dice.one_in(6) {
            // One behind the other, without waiting.
            sent.extend(request(&mut dice, session, bearer));
        }
        if dice.one_in(10) {
            sent.truncate(dice.below(sent.len()));
        }
        // It may be closed before all is written.
        drop(stream.write_all(&sent).await);
        match dice.below(6) {
            // Not interested in the answer.
            0 => continue,
            // Says that nothing more comes.
            1 => drop(stream.shutdown().await),
            _ => {}
        }
        let mut told = vec![0; 64 * 1024];
        let read = tokio::time::timeout(Duration::from_millis(300), stream.read(&mut told)).await;
        let told = &told[..read.map_or(0, Result::unwrap_or_default)];
        ensure!(!String::from_utf8_lossy(told).contains(CANARY), "a secret of the warehouse was told");
        answers += usize::from(told.starts_with(b"HTTP/1.1 "));
    }
    Ok(answers)
}

fn request(dice: &mut Dice, session: &str, bearer: &str) -> Vec<u8> {
    #[rustfmt::skip]
    const METHODS: &[&str] = &["GET", "POST", "POST", "POST", "PUT", "DELETE", "HEAD", "PATCH", "TRACE", "OPTIONS", "QUERY", "post"];
    if dice.one_in(3) {
        return statement(dice, session);
    }
    let body = body(dice);
    let authorization = match dice.below(6) {
        0 => String::new(),
        1 => bearer.to_owned(),
        2 => format!("{}A\"", session.trim_end_matches('"')),
        _ => session.to_owned(),
    };
    #[rustfmt::skip]
    let more = *dice.pick(&[
        "", "", "", "", "Content-Encoding: gzip\r\n", "Transfer-Encoding: chunked\r\n", "Expect: 100-continue\r\n",
        "Connection: close\r\n", "Upgrade: h2c\r\nConnection: Upgrade\r\n", "X-HTTP-Method-Override: GET\r\n",
        "Host: other.example\r\n", "X-Snowflake-Service: never\r\n", "Content-Length: 3\r\n", "X-Original-URL: /never\r\n",
    ]);
    let length = match dice.below(12) {
        0 => body.len() + 7,
        1 => body.len() / 2,
        _ => body.len(),
    };
    let head = format!(
        "{} {} HTTP/1.1\r\nHost: icegate.test\r\nUser-Agent: fuzz/1\r\nAuthorization: {authorization}\r\n{more}Content-Length: {length}\r\n\r\n",
        dice.pick(METHODS),
        target(dice)
    );
    [head.as_bytes(), &body].concat()
}

/// A statement as a driver sends it; what is random is what it says.
fn statement(dice: &mut Dice, session: &str) -> Vec<u8> {
    let body = json!({ "sqlText": sql(dice), "asyncExec": false }).to_string();
    let id = uuid::Uuid::from_u128(u128::from(dice.roll()));
    format!(
        "POST /queries/v1/query-request?requestId={id} HTTP/1.1\r\nHost: icegate.test\r\nAuthorization: {session}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}

fn target(dice: &mut Dice) -> String {
    #[rustfmt::skip]
    const KNOWN: &[&str] = &[
        "/queries/v1/query-request", "/queries/v1/query-request", "/queries/v1/query-request", "/api/v2/statements",
        "/session/v1/login-request", "/session/token-request", "/session/heartbeat", "/queries/v1/abort-request",
        "/queries/01b2c3d4-0000-1111-2222-333344445555/result", "/monitoring/queries/01b2c3d4-0000-1111-2222-333344445555",
        "/telemetry/send", "/api/v2/statements/01b2c3d4-0000-1111-2222-333344445555/cancel", "/api/v2/databases/never",
    ];
    #[rustfmt::skip]
    const PARTS: &[&str] = &[
        "queries", "v1", "query-request", "session", "login-request", "api", "v2", "statements", "chunks", "ig1.AAAA", "result",
        "oauth", "console", "never", "..", ".", "%2e%2e", "%2f", "%00", "", ";x", "http://never.example",
    ];
    let path = if dice.one_in(4) {
        (0..=dice.below(5)).flat_map(|_| ["/", *dice.pick(PARTS)]).collect()
    } else {
        (*dice.pick(KNOWN)).to_owned()
    };
    // Few ids, so that some come twice.
    let id = uuid::Uuid::from_u128(u128::from(dice.roll() % 400));
    match dice.below(6) {
        0 => path,
        1 => format!("{path}?requestId={id}&requestId={id}"),
        2 => format!(
            "{path}?requestId={id}&{}",
            dice.pick(&["roleName=never", "async=true", "delete=true", "%00=never"])
        ),
        _ => format!("{path}?requestId={id}"),
    }
}

fn sql(dice: &mut Dice) -> String {
    #[rustfmt::skip]
    let refused = *dice.pick(&[
        "DROP DATABASE never", "SELECT * FROM never.never.never", "PUT file:///etc/passwd @~/never", "never", "USE ROLE never",
        "SELECT 1; DROP TABLE never", "/* ' */ DELETE FROM never --", "CALL never()", "USE SECONDARY ROLES ALL -- never",
        "GRANT ROLE never TO USER icegate", "EXECUTE IMMEDIATE 'DROP TABLE never'", "GET @never file:///tmp",
    ]);
    if dice.one_in(2) { format!("SELECT 'fuzz {}'", dice.below(40)) } else { refused.to_owned() }
}

fn body(dice: &mut Dice) -> Vec<u8> {
    let sql = sql(dice);
    match dice.below(12) {
        0..5 => {
            json!({ "sqlText": sql, "asyncExec": dice.one_in(6), "describeOnly": dice.one_in(8) }).to_string().into()
        }
        5 => {
            json!({ "sqlText": sql, "parameters": { "MULTI_STATEMENT_COUNT": dice.below(4), "SEARCH_PATH": "never" } })
                .to_string()
                .into()
        }
        6 => json!({ "statement": sql, "role": "never", "parameters": { "MULTI_STATEMENT_COUNT": "2" } })
            .to_string()
            .into(),
        7 => br#"{"sqlText":"SELECT 'fuzz'","sqlText":"DROP TABLE never"}"#.to_vec(),
        8 => br#"{"sqlText":"SELECT 'fuzz'","\u0073qlText":"DROP TABLE never"}"#.to_vec(),
        9 => [b"\x1f\x8b\x08\x00".as_slice(), &bytes(dice)].concat(),
        10 => "[".repeat(dice.below(3000)).into_bytes(),
        _ => bytes(dice),
    }
}

fn bytes(dice: &mut Dice) -> Vec<u8> {
    (0..dice.below(300)).map(|_| dice.roll().to_le_bytes()[0]).collect()
}

/// Memory of a process that is in use, in bytes.
fn resident(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kilobytes| kilobytes * 1024)
}
