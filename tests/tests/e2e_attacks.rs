//! The attack corpus, run for real: two warehouses that differ in protected values only give a client the same.
//!
//! Each statement goes through the driver, PEP and PDP to each of the twins. Whatever comes back is compared: rows, columns
//! and their types, counts, errors, and the replies as they went over the wire. Somebody who is cleared runs them too, to show
//! that the twins can be told apart by them. What fakesnow cannot run is counted and decided all the same.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;

use anyhow::{Context as _, ensure};
use base64::Engine as _;
use icegate_cli::demo::driver::Driver;
use icegate_cli::demo::issuer::Person;
use icegate_cli::demo::python::WAREHOUSE;
use icegate_cli::demo::warehouse::direct_connection;
use icegate_tests::attacks::generate::Generator;
use icegate_tests::attacks::{self, ANALYST, Attack, CLEARED, Must, Twin, WRITER, Who};
use icegate_tests::recorder::Recorder;
use icegate_tests::stack::{Carrier, Stack, Upstream, environment, text_at};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Of those that could run masked, at most one in so many may be refused.
const OVERBLOCKED_ONE_IN: usize = 10;
/// Of the statements that run, at least one in so many tells the twins apart when nothing is masked.
const ARMED_ONE_IN: usize = 2;
/// The same of what is generated: chance picks clear columns too.
const GENERATED_ARMED_ONE_IN: usize = 5;
/// How long the driver tries again when fakesnow breaks over a statement.
const RETRY_SECONDS_MAX: u64 = 3;
/// Statements of the generator, unless `ICEGATE_ATTACKS_GENERATED` says another number.
const GENERATED: u64 = 150;

/// One pair of stacks serves all: starting them takes longer than a hundred statements.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_protected_is_told() -> anyhow::Result<()> {
    let twins = Twins::start().await?;
    let hidden = twins.hidden_rows().await?;
    ensure!(hidden.0 != hidden.1, "the twins hide the same rows: {}", hidden.0.told);
    for (what, attacks, armed_one_in) in
        [("the corpus", corpus()?, ARMED_ONE_IN), ("what a generator writes", generated()?, GENERATED_ARMED_ONE_IN)]
    {
        let report = twins.try_all(&attacks).await?;
        std::io::stdout().write_all(report.table().as_bytes())?;
        report.verdict(armed_one_in).context(what)?;
    }
    ensure!(twins.hidden_rows().await? == hidden, "hidden rows were changed");
    twins.shapes_tell_nothing().await.context("shapes")?;
    twins.errors_tell_nothing().await.context("errors")?;
    twins.results_stay_where_they_are().await.context("results")?;
    twins.copies_are_not_read().await.context("copies")?;
    twins.nothing_on_the_wire()
}

/// The corpus, or what of it `ICEGATE_ATTACKS_ONLY` names by a part of its technique.
fn corpus() -> anyhow::Result<Vec<Attack>> {
    let only = std::env::var("ICEGATE_ATTACKS_ONLY").unwrap_or_default();
    Ok(attacks::corpus()?.into_iter().filter(|attack| attack.technique.contains(&only)).collect())
}

fn generated() -> anyhow::Result<Vec<Attack>> {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>()).transpose();
    let count = number("ICEGATE_ATTACKS_GENERATED")?.unwrap_or(GENERATED);
    let mut generator = Generator::new(number("ICEGATE_ATTACKS_SEED")?.unwrap_or(1));
    let statements: BTreeSet<String> = (0..count).map(|_| generator.statement()).collect();
    let changes: BTreeSet<String> = (0..count / 3).map(|_| generator.change()).collect();
    let attack =
        |technique: &str, who, sql| Attack { technique: technique.into(), must: Must::Masked, who, steps: vec![sql] };
    let read = statements.into_iter().map(|sql| attack("generated", Who::Analyst, sql));
    Ok(read.chain(changes.into_iter().map(|sql| attack("generated changes", Who::Writer, sql))).collect())
}

/// Two stacks, alike but for protected values, and a driver that is in both.
struct Twins {
    left: Stack,
    right: Stack,
    driver: Driver,
    canaries: BTreeSet<String>,
    _bundle: TempDir,
}

/// What a client saw of one statement on one twin.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    what: What,
    /// Everything, with ids and times made alike.
    told: Value,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum What {
    Rows,
    /// icegate did not let it run.
    Refused,
    /// The warehouse failed it.
    Failed,
}

impl Twins {
    async fn start() -> anyhow::Result<Self> {
        let bundle = tempfile::tempdir()?;
        attacks::bundle_into(bundle.path())?;
        let stack = async |twin| Stack::start_with(Upstream::Fakesnow, bundle.path(), &attacks::seed(twin)?).await;
        let (left, right) = (stack(Twin::Left).await?, stack(Twin::Right).await?);
        let driver = Driver::start(&environment(&WAREHOUSE).await?).await?;
        let twins = Self { left, right, driver, canaries: attacks::canaries()?, _bundle: bundle };
        for person in [&ANALYST, &WRITER, &CLEARED] {
            twins.log_in(person).await?;
        }
        Ok(twins)
    }

    async fn log_in(&self, person: &Person) -> anyhow::Result<()> {
        for (stack, session) in [(&self.left, left(person)), (&self.right, right(person))] {
            let mut arguments = stack.connection(person, Carrier::Oauth)?;
            arguments["database"] = json!("SHOP");
            arguments["network_timeout"] = json!(RETRY_SECONDS_MAX);
            if person.name == CLEARED.name {
                // Past the recorder: what it keeps is of those who are not cleared.
                arguments["port"] = json!(stack.pep.addr().port());
            }
            self.driver.connect(&session, &arguments).await??;
        }
        Ok(())
    }

    async fn on(&self, session: &str, sql: &str) -> anyhow::Result<Seen> {
        Ok(match self.driver.execute(session, sql).await? {
            Ok(mut rows) => {
                if !ordered(sql) {
                    rows.rows.sort_by_key(|row| json!(row).to_string());
                }
                let told = json!({ "columns": rows.columns, "rows": rows.rows, "count": rows.rowcount });
                Seen { what: What::Rows, told }
            }
            Err(raised) => {
                let own = raised.message.contains("refused:") && raised.message.contains("decision ");
                let message = alike(&raised.message);
                let told =
                    json!({ "kind": raised.kind, "number": raised.errno, "state": raised.sqlstate, "text": message });
                Seen { what: if own { What::Refused } else { What::Failed }, told }
            }
        })
    }

    async fn both(&self, person: &Person, sql: &str) -> anyhow::Result<(Seen, Seen)> {
        let (one, other) = (left(person), right(person));
        let (one, other) = tokio::join!(self.on(&one, sql), self.on(&other, sql));
        Ok((one.with_context(|| sql.to_owned())?, other.with_context(|| sql.to_owned())?))
    }

    async fn try_all(&self, attacks: &[Attack]) -> anyhow::Result<Report> {
        let mut report = Report::default();
        for attack in attacks {
            let person = attack.who.person();
            let row = report.rows.entry(attack.technique.clone()).or_default();
            for (at, sql) in attack.steps.iter().enumerate() {
                let (one, other) = self.both(&person, sql).await?;
                if one != other {
                    row.leaks.push(format!("{sql}\n      {}\n      {}", one.told, other.told));
                }
                let told = one.told.to_string() + &other.told.to_string();
                for canary in self.canaries.iter().filter(|&canary| told.contains(canary) && !sql.contains(canary)) {
                    // Clear text of the seed may hold what somebody guesses.
                    row.leaks.extend(
                        (!CLEAR.iter().any(|clear| clear.contains(canary))).then(|| format!("`{canary}`: {sql}")),
                    );
                }
                if at == 0 {
                    row.count(attack, &one, sql);
                }
            }
            if let (Must::Masked, [sql], Who::Analyst) = (attack.must, attack.steps.as_slice(), attack.who) {
                let (one, other) = self.both(&CLEARED, sql).await?;
                row.runs += usize::from(one.what == What::Rows || one != other);
                row.armed += usize::from(one != other);
            }
        }
        Ok(report)
    }

    /// The rows as they are stored that only somebody who is cleared sees.
    async fn hidden_rows(&self) -> anyhow::Result<(Seen, Seen)> {
        let seen = self.both(&CLEARED, "SELECT * FROM lab.ledger WHERE id BETWEEN 3 AND 6 ORDER BY id").await?;
        ensure!(seen.0.what == What::Rows && seen.1.what == What::Rows, "{} {}", seen.0.told, seen.1.told);
        Ok(seen)
    }

    /// What is asked for without its rows is decided like a run.
    async fn shapes_tell_nothing(&self) -> anyhow::Result<()> {
        for sql in [
            "SELECT * FROM customers",
            "SELECT ssn, UPPER(name) AS n FROM customers WHERE name LIKE 'Q%'",
            "SELECT * FROM v_cust",
        ] {
            let shape = async |session: String| self.driver.call(&session, "describe", json!({ "sql": sql })).await;
            let (one, other) = (shape(left(&ANALYST)).await??, shape(right(&ANALYST)).await??);
            ensure!(
                one == other && one["columns"].as_array().is_some_and(|columns| !columns.is_empty()),
                "{sql}: {one}"
            );
        }
        for sql in ["SELECT * FROM no_such_table", "SELECT GET_DDL('table', 'customers')", "DROP TABLE orders"] {
            for session in [left(&ANALYST), right(&ANALYST)] {
                let outcome = self.driver.call(&session, "describe", json!({ "sql": sql })).await?;
                ensure!(outcome.is_err_and(|raised| raised.message.contains("refused")), "{sql}");
            }
        }
        Ok(())
    }

    /// The warehouse's own text can quote a value, so whoever is masked is not shown it.
    async fn errors_tell_nothing(&self) -> anyhow::Result<()> {
        const SQL: &str = "SELECT CAST(name AS NUMBER) AS n FROM customers";
        let (one, other) = self.both(&ANALYST, SQL).await?;
        ensure!(one.what == What::Failed && text_at(&one.told, "text").contains("withheld"), "{}", one.told);
        ensure!(one == other, "{} {}", one.told, other.told);
        let (one, other) = self.both(&CLEARED, SQL).await?;
        ensure!(one.told.to_string().contains("Zyltha") && one != other, "{} {}", one.told, other.told);
        Ok(())
    }

    /// A result belongs to the session that asked, and the same text asked by somebody else is decided for them.
    async fn results_stay_where_they_are(&self) -> anyhow::Result<()> {
        const SQL: &str = "SELECT id, name FROM customers ORDER BY id";
        for side in [left, right] {
            let cleared = self.driver.execute(&side(&CLEARED), SQL).await??;
            ensure!(cleared.cell(0, "NAME").len() > 10, "{cleared:?}");
            let sfqid = cleared.sfqid.context("no query id")?;
            let masked = self.driver.execute(&side(&ANALYST), SQL).await??;
            ensure!(masked.cell(0, "NAME") == "***", "{masked:?}");
            let fetched = self.driver.call(&side(&ANALYST), "fetch_async", json!({ "sfqid": sfqid })).await?;
            ensure!(fetched.is_err(), "{fetched:?}");
            let scan = format!("SELECT * FROM TABLE(RESULT_SCAN('{sfqid}'))");
            let scanned = self.on(&side(&ANALYST), &scan).await?;
            ensure!(scanned.what == What::Refused, "{}", scanned.told);
        }
        Ok(())
    }

    /// What the catalog does not know cannot be read, so a copy made past icegate, or before a policy, is not.
    async fn copies_are_not_read(&self) -> anyhow::Result<()> {
        for stack in [&self.left, &self.right] {
            self.driver.connect("owner", &direct_connection(stack.back.addr())).await??;
            self.driver
                .execute("owner", "CREATE TABLE SHOP.LAB.COPIED AS SELECT * FROM SHOP.PUBLIC.CUSTOMERS")
                .await??;
        }
        for sql in ["SELECT * FROM shop.lab.copied", "SELECT COUNT(*) FROM shop.lab.copied"] {
            let (one, other) = self.both(&ANALYST, sql).await?;
            ensure!(one.what == What::Refused && one == other, "{sql}: {} {}", one.told, other.told);
        }
        Ok(())
    }

    /// The same of the replies as they went over the wire to whoever is not cleared, one by one.
    fn nothing_on_the_wire(&self) -> anyhow::Result<()> {
        let (one, other) = (replies(&self.left.front), replies(&self.right.front));
        let times = |replies: &[(String, Value)], sql: &str| replies.iter().filter(|(asked, _)| asked == sql).count();
        let unlike = one.iter().chain(&other).map(|(sql, _)| sql).find(|sql| times(&one, sql) != times(&other, sql));
        ensure!(unlike.is_none(), "{} replies on one twin, {} on the other: {unlike:?}", one.len(), other.len());
        for ((sql, one), (_, other)) in one.iter().zip(&other) {
            ensure!(one == other, "`{sql}`\n{one}\n{other}");
        }
        ensure!(!one.is_empty(), "nothing went over the wire");
        self.nothing_between_the_cells()
    }

    /// What no cell of an Arrow buffer holds, under a NULL and in padding, is whatever was in fakesnow's memory: it does not pass.
    fn nothing_between_the_cells(&self) -> anyhow::Result<()> {
        let mut found = BTreeSet::new();
        for Answered { sql, reply, .. } in answered(&self.left.front).into_iter().chain(answered(&self.right.front)) {
            let Some(rows) = reply["data"]["rowsetBase64"].as_str() else { continue };
            let bytes = base64::engine::general_purpose::STANDARD.decode(rows)?;
            let told = String::from_utf8_lossy(&bytes);
            let own = |canary: &str| sql.contains(canary) || CLEAR.iter().any(|clear| clear.contains(canary));
            found.extend(
                self.canaries
                    .iter()
                    .filter(|&canary| told.contains(canary.as_str()) && !own(canary))
                    .map(|canary| format!("`{canary}`: {sql}")),
            );
        }
        ensure!(found.is_empty(), "protected values in bytes that no cell holds: {found:#?}");
        Ok(())
    }
}

/// Values that stand in clear columns for somebody to compare with.
const CLEAR: [&str; 4] = ["Quvex Zyltha", "900-41-7301", "+46 70 731 4420", "Ulthar Quist"];

fn left(person: &Person) -> String {
    format!("{}-left", person.name)
}

fn right(person: &Person) -> String {
    format!("{}-right", person.name)
}

/// A statement and what was answered in the end.
struct Answered {
    request_id: String,
    sql: String,
    reply: Value,
}

/// Statements in the order they were sent: how often a driver asks for an answer is a matter of time.
fn answered(front: &Recorder) -> Vec<Answered> {
    let mut sent: Vec<Answered> = Vec::new();
    // The requests of statements that a driver was told to ask for again.
    let mut running: BTreeMap<String, (String, String)> = BTreeMap::new();
    for exchange in front.exchanges() {
        let Some((_, asked)) = exchange.target.split_once("/queries/") else { continue };
        let reply = exchange.response_json();
        let polled = asked.split_once("/result").and_then(|(query_id, _)| running.get(query_id).cloned());
        let (request_id, sql) = polled.unwrap_or_else(|| {
            let request_id = asked.split(['?', '&']).find(|part| part.starts_with("requestId=")).unwrap_or(asked);
            (request_id.to_owned(), text_at(&exchange.request_json(), "sqlText").to_owned())
        });
        if matches!(text_at(&reply, "code"), "333333" | "333334") {
            running.insert(text_at(&reply["data"], "queryId").to_owned(), (request_id, sql));
            continue;
        }
        sent.retain(|answered| answered.request_id != request_id);
        sent.push(Answered { request_id, sql, reply });
    }
    sent
}

/// Each with what can be compared between two runs.
fn replies(front: &Recorder) -> Vec<(String, Value)> {
    let comparable = |Answered { sql, reply, .. }| {
        let mut reply = alike_inside(reply);
        // The driver's rows were compared. What stands under a NULL in an Arrow buffer is whatever was in memory there.
        if let Some(data) = reply["data"].as_object_mut() {
            data.retain(|name, _| !name.starts_with("rowset"));
        }
        (alike(&sql), reply)
    };
    answered(front).into_iter().map(comparable).collect()
}

/// Without an order the warehouse may answer in any: then it is the rows that are compared, whatever their order.
fn ordered(sql: &str) -> bool {
    let sql = sql.to_uppercase();
    let Some((_, after)) = sql.rsplit_once("ORDER BY") else { return false };
    // One that stands in brackets, of a window or a subquery, orders no result.
    after.matches(')').count() <= after.matches('(').count()
}

/// Ids, ports and times differ between any two runs.
fn alike(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for piece in text.split_inclusive(|c: char| !(c.is_ascii_hexdigit() || c == '-')) {
        let word = piece.trim_end_matches(|c: char| !(c.is_ascii_hexdigit() || c == '-'));
        if word.len() == 36 && word.matches('-').count() == 4 {
            out.push('#');
            out.push_str(piece.trim_start_matches(word));
        } else {
            out.push_str(piece);
        }
    }
    out
}

fn alike_inside(value: Value) -> Value {
    match value {
        Value::String(text) => alike(&text).into(),
        Value::Array(items) => items.into_iter().map(alike_inside).collect(),
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, alike_inside(value))).collect(),
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_)) => plain,
    }
}

#[derive(Default)]
struct Report {
    rows: BTreeMap<String, Row>,
}

#[derive(Default)]
struct Row {
    statements: usize,
    refused: usize,
    ran: usize,
    maskable: usize,
    /// Cleared runs that gave rows or told the twins apart.
    runs: usize,
    armed: usize,
    failed: Vec<String>,
    overblocked: Vec<String>,
    allowed: Vec<String>,
    leaks: Vec<String>,
}

impl Row {
    fn count(&mut self, attack: &Attack, seen: &Seen, sql: &str) {
        self.statements += 1;
        self.maskable += usize::from(attack.must != Must::Refused);
        match seen.what {
            What::Rows => self.ran += 1,
            What::Refused => self.refused += 1,
            What::Failed => self.failed.push(sql.to_owned()),
        }
        let refused = seen.what == What::Refused;
        if refused != (attack.must == Must::Refused) {
            let list = if refused { &mut self.overblocked } else { &mut self.allowed };
            list.push(sql.to_owned());
        }
    }
}

impl Report {
    fn table(&self) -> String {
        let mut out = format!(
            "{:<46}{:>10}{:>8}{:>5}{:>8}{:>9}{:>7}{:>7}\n",
            "technique", "statements", "refused", "ran", "failed", "over", "armed", "leaks"
        );
        for (technique, row) in &self.rows {
            let Row { statements, refused, ran, armed, .. } = row;
            let (failed, over, leaks) = (row.failed.len(), row.overblocked.len(), row.leaks.len());
            let _ = writeln!(
                out,
                "{technique:<46}{statements:>10}{refused:>8}{ran:>5}{failed:>8}{over:>9}{armed:>7}{leaks:>7}"
            );
        }
        for (what, list) in
            [("over-blocked", self.all(|row| &row.overblocked)), ("not run by fakesnow", self.all(|row| &row.failed))]
        {
            let _ = writeln!(out, "{what}:");
            for sql in list {
                let _ = writeln!(out, "  {}", sql.escape_debug());
            }
        }
        out
    }

    fn all(&self, of: impl Fn(&Row) -> &Vec<String>) -> Vec<&String> {
        self.rows.values().flat_map(of).collect()
    }

    fn sum(&self, of: impl Fn(&Row) -> usize) -> usize {
        self.rows.values().map(of).sum()
    }

    fn verdict(&self, armed_one_in: usize) -> anyhow::Result<()> {
        let leaks = self.all(|row| &row.leaks);
        ensure!(
            leaks.is_empty(),
            "{} leaks:\n  {}",
            leaks.len(),
            leaks.iter().map(|leak| leak.as_str()).collect::<Vec<_>>().join("\n  ")
        );
        let allowed = self.all(|row| &row.allowed);
        ensure!(allowed.is_empty(), "must be refused and was not: {allowed:#?}");
        let (over, maskable) = (self.sum(|row| row.overblocked.len()), self.sum(|row| row.maskable));
        ensure!(over * OVERBLOCKED_ONE_IN <= maskable, "{over} of {maskable} that could run masked were refused");
        let (armed, runs) = (self.sum(|row| row.armed), self.sum(|row| row.runs));
        ensure!(armed * armed_one_in >= runs, "only {armed} of {runs} would tell the twins apart: nothing was tried");
        Ok(())
    }
}
