//! The driver matrix: every client through PEP and PDP, each capability it has, and the table in the README.
//!
//! `ICEGATE_REGENERATE=1 cargo test -p icegate-tests --test e2e_drivers` writes the table anew; `ICEGATE_DRIVERS=node,dbt` runs
//! some clients alone, and leaves the table.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use icegate_cli::demo::issuer::{ANA, COPILOT, Person, STELLA};
use icegate_cli::demo::warehouse::seed_statements;
use icegate_tests::drivers::{CAPABILITIES, CLIENTS, Cell, Client, run, scripts, table};
use icegate_tests::recorder::{Exchange, Recorder};
use icegate_tests::stack::{Stack, Upstream, text_at, workspace};
use icegate_tests::stand_in::{CANARY, Play, StandIn};
use serde_json::{Value, json};
use tempfile::TempDir;

/// So long is a session token of the stand-in's stack good: every client has to renew it.
const SESSION_SECONDS: u64 = 4;

/// What the seed puts into masked columns, a distinctive part each.
const RAW: [&str; 6] = ["Lindqvist", "Okafor", "maya.", "900-12-00", "400000123456", "N-70000"];

/// What ADBC asks the warehouse to make of what SHOW gave.
const OBJECTS: &str = r#"{"catalog_name":"SALES","catalog_db_schemas":[{"db_schema_name":"PUBLIC","db_schema_tables":[{"table_name":"ORDERS","table_type":"TABLE"}]}]}"#;

/// Loads files.
const LOADER: Person =
    Person { name: "loader", about: "an engineer", groups: &["employees", "analysts", "engineers"], agent: None };

const BEGIN: &str = "<!-- drivers: begin -->\n";
const END: &str = "<!-- drivers: end -->";

#[tokio::test(flavor = "multi_thread")]
async fn every_client_does_what_the_table_says() -> anyhow::Result<()> {
    let matrix = Matrix::start().await?;
    let only = std::env::var("ICEGATE_DRIVERS").unwrap_or_default();
    let mut results = Vec::new();
    let mut failed = Vec::new();
    for client in CLIENTS.iter().filter(|client| only.is_empty() || only.split(',').any(|tag| tag == client.tag)) {
        match matrix.client(client).await {
            Ok(cells) => results.push((*client, cells)),
            Err(error) => failed.push(format!("{error:#}")),
        }
    }
    let cells = results
        .iter()
        .flat_map(|(client, cells)| cells.values().map(move |cell| (client, cell)))
        .filter(|(_, cell)| cell.outcome == "fail")
        .map(|(client, cell)| format!("{} {}, {}: {}", client.title, client.version, cell.capability, cell.detail));
    failed.extend(cells);
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    matrix.nothing_on_the_wire()?;
    matrix.sql.icegate(&STELLA, &["audit", "verify"]).await?;
    if only.is_empty() { as_in_the_readme(&table(&results)) } else { Ok(()) }
}

fn as_in_the_readme(table: &str) -> anyhow::Result<()> {
    let path = workspace().join("README.md");
    let readme = std::fs::read_to_string(&path)?;
    let (before, rest) = readme.split_once(BEGIN).context("no table in the README")?;
    let (shown, after) = rest.split_once(END).context("the table in the README has no end")?;
    if std::env::var_os("ICEGATE_REGENERATE").is_some() {
        std::fs::write(&path, format!("{before}{BEGIN}{table}{END}{after}"))?;
        return Ok(());
    }
    ensure!(
        shown == table,
        "the README's table is not what came out; run ICEGATE_REGENERATE=1 cargo test -p icegate-tests --test e2e_drivers\n{table}"
    );
    Ok(())
}

/// The two stacks all clients run on.
struct Matrix {
    sql: Stack,
    deep: Stack,
    /// What an approver found waiting, and approved.
    approved: Mutex<Vec<String>>,
    home: TempDir,
}

/// What went through the recorders while one client ran.
struct Seen {
    sql_front: Vec<Exchange>,
    sql_back: Vec<Exchange>,
    deep_front: Vec<Exchange>,
    deep_back: Vec<Exchange>,
}

impl Matrix {
    async fn start() -> anyhow::Result<Self> {
        let home = tempfile::tempdir()?;
        let policies = policies(home.path())?;
        let sql = Stack::start_with(Upstream::FakesnowLoads, &policies, &seed_statements()).await?;
        let ttl = format!("session_ttl = \"{SESSION_SECONDS}s\"");
        let deep = Stack::start_tuned::<&str>(Upstream::StandIn, &policies, &[], &ttl).await?;
        greetings(deep.stand_in.as_ref().context("no stand-in")?);
        Ok(Self { sql, deep, approved: Mutex::default(), home })
    }

    /// Runs one client, and plays the person who approves.
    async fn client(&self, client: &Client) -> anyhow::Result<BTreeMap<String, Cell>> {
        let marks = self.recorded();
        let home = self.home.path().join(client.tag);
        std::fs::create_dir_all(&home)?;
        let about = json!({
            "tag": client.tag, "home": home, "sql": place(&self.sql)?, "deep": place(&self.deep)?,
            "session_seconds": SESSION_SECONDS,
        });
        let cells = tokio::select! {
            cells = run(client, &about, &home) => cells?,
            error = self.approve() => return error,
        };
        let seen = {
            let [sql_front, sql_back, deep_front, deep_back] = self.recorded();
            let since = |now: Vec<Exchange>, mark: &[Exchange]| now.into_iter().skip(mark.len()).collect();
            Seen {
                sql_front: since(sql_front, &marks[0]),
                sql_back: since(sql_back, &marks[1]),
                deep_front: since(deep_front, &marks[2]),
                deep_back: since(deep_back, &marks[3]),
            }
        };
        let mut judged = BTreeMap::new();
        for mut cell in cells {
            if cell.outcome == "pass"
                && let Err(error) = self.evidence(client, &cell.capability, &seen).await
            {
                "fail".clone_into(&mut cell.outcome);
                cell.detail = format!("{error:#}");
            }
            ensure!(CAPABILITIES.iter().any(|(name, _)| *name == cell.capability), "{cell:?}");
            judged.insert(cell.capability.clone(), cell);
        }
        for (name, _) in CAPABILITIES {
            ensure!(judged.contains_key(name), "{} {} says nothing of {name}", client.title, client.version);
        }
        Ok(judged)
    }

    fn recorded(&self) -> [Vec<Exchange>; 4] {
        [&self.sql.front, &self.sql.back, &self.deep.front, &self.deep.back].map(Recorder::exchanges)
    }

    /// Approves what waits, until it is dropped; an end is an error.
    async fn approve<T>(&self) -> anyhow::Result<T> {
        loop {
            for waiting in self.sql.asked(&["approvals", "list", "--json"]).await? {
                let sql = text_at(&waiting, "sql").to_owned();
                let id = waiting.get("approval_id").or_else(|| waiting.get("id")).and_then(Value::as_str);
                self.sql.icegate(&STELLA, &["approvals", "approve", id.context("no id")?]).await?;
                self.approved.lock().unwrap_or_else(PoisonError::into_inner).push(sql);
            }
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
    }

    /// What the other side has to have seen, when a client says that a capability works.
    async fn evidence(&self, client: &Client, capability: &str, seen: &Seen) -> anyhow::Result<()> {
        let tag = client.tag;
        let sql_of = |exchange: &Exchange| statement(&exchange.request_json());
        let says = |exchanges: &[Exchange], words: &str| -> Vec<Exchange> {
            let words = format!("{words} {tag}");
            exchanges.iter().filter(|exchange| sql_of(exchange).contains(&words)).cloned().collect()
        };
        let stand_in = self.deep.stand_in.as_ref().context("no stand-in")?;
        match capability {
            "login-oauth" => carried(seen, "OAUTH", "TOKEN", client),
            "login-pat" => carried(seen, "PROGRAMMATIC_ACCESS_TOKEN", "TOKEN", client),
            "login-password" => carried(seen, "", "PASSWORD", client),
            "json" | "arrow" => {
                let replies = says(&seen.deep_front, capability);
                let form = |reply: Value| {
                    let api = reply.pointer("/resultSetMetaData/format").is_some_and(|form| form == "jsonv2");
                    api && capability == "json" || reply["data"]["queryResultFormat"] == capability
                };
                ensure!(replies.iter().any(|one| form(one.response_json())), "no reply in {capability}");
                Ok(())
            }
            "json-parts" | "arrow-parts" => {
                let form = capability.trim_end_matches("-parts");
                ensure!(
                    stand_in
                        .statements()
                        .iter()
                        .any(|sql| sql.contains(&format!("chunks {form}")) && sql.contains(tag)),
                    "not asked for"
                );
                let parts = seen
                    .deep_front
                    .iter()
                    .filter(|one| one.target.contains("/chunks/") || one.target.contains("partition="));
                ensure!(parts.count() >= 2, "parts were not fetched");
                Ok(())
            }
            "binds" | "array-binds" => {
                let listed = capability == "array-binds";
                let bound = seen.sql_back.iter().filter_map(|one| one.request_json()["bindings"].as_object().cloned());
                let mut kinds =
                    bound.flat_map(|bound| bound.values().map(|one| one["value"].is_array()).collect::<Vec<_>>());
                ensure!(kinds.any(|list| list == listed), "no values reached the warehouse beside the text");
                ensure!(tag != "jdbc" || !listed || unstaged(seen), "many values went another way");
                Ok(())
            }
            "file-load" => loaded(seen),
            "denial" => {
                ensure!(
                    !seen.sql_back.iter().any(|one| sql_of(one).to_uppercase().contains("DROP SCHEMA")),
                    "it was sent"
                );
                let text = format!("drop schema sales.{tag}");
                let search = ["audit", "search", "--json", "--outcome", "deny", "--text", &text];
                ensure!(!self.sql.asked(&search).await?.is_empty(), "no record");
                Ok(())
            }
            "hold" => {
                let words = format!("held {tag}");
                let approved = self.approved.lock().unwrap_or_else(PoisonError::into_inner).clone();
                ensure!(approved.iter().any(|sql| sql.contains(&words)), "nobody approved it");
                ensure!(says(&seen.sql_back, "held").len() == 1, "it was not sent once");
                Ok(())
            }
            "cancel" => {
                let words = format!("forever {tag}");
                let (sent, aborted) = (stand_in.statements(), stand_in.aborted());
                let mut sent = sent.iter().filter(|sql| sql.contains(&words)).peekable();
                ensure!(sent.peek().is_some() && sent.all(|sql| aborted.contains(sql)), "the warehouse was not told");
                Ok(())
            }
            "renewal" => {
                let renewed = seen.deep_front.iter().filter(|one| one.target.starts_with("/session/token-request"));
                ensure!(
                    renewed.filter(|one| one.response_json()["success"] == true).count() >= 1,
                    "nothing was renewed"
                );
                let replies = says(&seen.deep_front, "renewed");
                ensure!(replies.iter().any(|one| one.response_json()["success"] == true), "and it did not go on");
                Ok(())
            }
            "async" => {
                let sent = says(&seen.deep_front, "slow");
                let detached =
                    |one: &Exchange| one.request_json()["asyncExec"] == true || one.target.contains("async=true");
                ensure!(sent.iter().any(detached), "it was not sent to the background");
                Ok(())
            }
            "several" => {
                let sent = says(&seen.deep_back, "piece");
                let count = |one: &Exchange| one.request_json()["parameters"]["MULTI_STATEMENT_COUNT"] == 2;
                ensure!(sent.iter().any(count), "they were not sent at once");
                Ok(())
            }
            "metadata" if tag == "adbc" => read_by_name(seen),
            // What came out is all there is to see, and the script has looked at it.
            _ => Ok(()),
        }
    }

    /// No protected value, and nothing of the warehouse's own, in one byte that a client was sent.
    fn nothing_on_the_wire(&self) -> anyhow::Result<()> {
        let storage = self.deep.stand_in.as_ref().context("no stand-in")?.storage_addr().to_string();
        let mut forbidden: Vec<String> = RAW.iter().map(|&raw| raw.to_owned()).collect();
        forbidden.extend([CANARY.to_owned(), "upstream-password-canary".to_owned(), storage, "203.0.113.9".to_owned()]);
        let fixed = forbidden.len();
        for exchange in self.sql.back.exchanges() {
            if exchange.target.starts_with("/session/v1/login-request") {
                forbidden.extend(exchange.response_json()["data"]["token"].as_str().map(str::to_owned));
            }
        }
        ensure!(forbidden.len() > fixed, "the upstream tokens were not seen");
        for exchange in self.sql.front.exchanges().into_iter().chain(self.deep.front.exchanges()) {
            let mut sent = vec![
                exchange.response_headers.clone(),
                String::from_utf8_lossy(&exchange.response_wire).into_owned(),
                String::from_utf8_lossy(&exchange.response).into_owned(),
            ];
            // Arrow results travel as base64 inside JSON.
            if let Some(arrow) = exchange.response_json()["data"]["rowsetBase64"].as_str() {
                let bytes = base64::engine::general_purpose::STANDARD.decode(arrow)?;
                sent.push(String::from_utf8_lossy(&bytes).into_owned());
            }
            for word in &forbidden {
                ensure!(
                    !sent.iter().any(|text| text.contains(word.as_str())),
                    "`{word}` in the answer to {}",
                    exchange.target
                );
            }
        }
        Ok(())
    }
}

/// What clients ask when they connect, or for the whole of the catalog, and the stand-in has no words for.
fn greetings(stand_in: &StandIn) {
    for (asked, name, cells) in [
        ("CURRENT_VERSION()", "SAID", &["9.0.0"][..]),
        ("select current_version()", "SAID", &["9.0.0"]),
        ("select current_database(), current_schema()", "SAID", &["SALES", "PUBLIC"]),
        ("} get_objects", "GET_OBJECTS", &[OBJECTS]),
    ] {
        let column = json!({ "name": name, "type": "text", "nullable": true, "length": 200, "byteLength": 800,
            "precision": null, "scale": null, "collation": null, "database": "", "schema": "", "table": "" });
        let reply = json!({ "success": true, "code": null, "message": null, "data": {
            "queryId": "@id", "queryResultFormat": "json", "rowtype": vec![column; cells.len()], "rowset": [cells],
            "total": 1, "returned": 1, "statementTypeId": 4096, "parameters": [], "finalDatabaseName": "SALES",
            "finalSchemaName": "PUBLIC", "finalWarehouseName": "WH", "finalRoleName": "R",
        } });
        stand_in.script(asked, vec![Play { reply: Some(reply), ..Play::default() }]);
    }
}

/// A login that carried the token so, and was let in.
fn carried(seen: &Seen, authenticator: &str, field: &str, client: &Client) -> anyhow::Result<()> {
    if client.tag == "sqlapi" {
        // It has no logins: the script sends the headers itself.
        return Ok(());
    }
    let logins = seen.sql_front.iter().filter(|one| one.target.starts_with("/session/v1/login-request"));
    let found = logins.filter(|one| one.response_json()["success"] == true).any(|one| {
        let data = &one.request_json()["data"];
        let said = text_at(data, "AUTHENTICATOR").to_uppercase();
        (said == authenticator || authenticator.is_empty()) && text_at(data, field).starts_with("eyJ")
    });
    ensure!(found, "no such login");
    Ok(())
}

/// A file that came to the store, and was read from there.
fn loaded(seen: &Seen) -> anyhow::Result<()> {
    let texts: Vec<String> =
        seen.sql_back.iter().map(|one| statement(&one.request_json()).trim().to_uppercase()).collect();
    let ran = |word: &str| texts.iter().any(|text| text.starts_with(word));
    ensure!(ran("PUT ") && ran("COPY INTO "), "no file was loaded");
    let mut stored = seen.sql_back.iter().filter(|one| one.target.starts_with("/fs_bucket/"));
    ensure!(stored.any(|one| !one.request.is_empty()), "no file came to the store");
    Ok(())
}

/// Whether more values than Snowflake wants staged came with their statement, and no stage was made.
fn unstaged(seen: &Seen) -> bool {
    const STAGED_FROM: usize = 65_280;
    let asked: Vec<Value> = seen.deep_back.iter().map(Exchange::request_json).collect();
    let values = |one: &Value| {
        let bound = one["bindings"].as_object().into_iter().flatten();
        bound.filter_map(|(_, one)| one["value"].as_array()).map(Vec::len).sum::<usize>()
    };
    asked.iter().any(|one| values(one) >= STAGED_FROM) && !asked.iter().any(|one| statement(one).contains("STAGE "))
}

/// A text with the name of a result in it, and the results' ids beside it.
fn read_by_name(seen: &Seen) -> anyhow::Result<()> {
    let asked: Vec<Value> = seen.deep_back.iter().map(Exchange::request_json).collect();
    let mut scans = asked.iter().filter(|one| statement(one).contains("RESULT_SCAN(:SHOW_DB_QUERY_ID)"));
    ensure!(scans.any(|one| one["bindings"]["SHOW_DB_QUERY_ID"].is_object()), "no result was read by its name");
    Ok(())
}

/// The text of a request for a statement, of either kind.
fn statement(request: &Value) -> String {
    format!("{}{}", text_at(request, "sqlText"), text_at(request, "statement"))
}

/// Where a stack is and who may log in.
fn place(stack: &Stack) -> anyhow::Result<Value> {
    let mut expired = stack.issuer.claims(&ANA);
    for (claim, at) in [("iat", 1_700_000_000), ("nbf", 1_700_000_000), ("exp", 1_700_003_600)] {
        expired[claim] = json!(at);
    }
    Ok(json!({
        "host": stack.front.addr().ip().to_string(), "port": stack.front.addr().port(),
        "tokens": {
            "ana": stack.issuer.token(&ANA)?, "copilot": stack.issuer.token(&COPILOT)?,
            "loader": stack.issuer.token(&LOADER)?, "expired": stack.issuer.sign(&expired)?,
        },
    }))
}

/// The starting policies, and what `tests/drivers/policies` adds.
fn policies(home: &Path) -> anyhow::Result<PathBuf> {
    let dir = home.join("policies");
    std::fs::create_dir_all(&dir)?;
    for from in [workspace().join("policies"), scripts().join("policies")] {
        for entry in std::fs::read_dir(&from)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                std::fs::copy(entry.path(), dir.join(entry.file_name()))?;
            }
        }
    }
    Ok(dir)
}
