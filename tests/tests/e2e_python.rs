//! Snowflake's own Python driver, both lines of it, through PEP and PDP to fakesnow.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use anyhow::{Context as _, ensure};
use icegate_cli::demo::driver::{Driver, Raised, answer, rows};
use icegate_cli::demo::issuer::{ANA, COPILOT, Person, STELLA};
use icegate_cli::demo::python::{DRIVER5, Environment, WAREHOUSE};
use icegate_tests::stack::{Carrier, Stack, Upstream, environment, text_at};
use serde_json::{Value, json};

#[tokio::test(flavor = "multi_thread")]
async fn driver_4() -> anyhow::Result<()> {
    everything(&WAREHOUSE, "4.8.1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn driver_5() -> anyhow::Result<()> {
    everything(&DRIVER5, "5.2.0").await
}

/// One stack serves all cases: starting one takes longer than all of them.
async fn everything(with: &'static Environment, version: &str) -> anyhow::Result<()> {
    let stack = Stack::start(Upstream::Fakesnow).await?;
    let driver = Driver::start(&environment(with).await?).await?;
    assert_eq!(driver.version(), version);
    let case = Case { stack: &stack, driver: &driver };
    case.every_way_to_log_in().await.context("every way to log in")?;
    case.bad_tokens().await.context("bad tokens")?;
    for person in [&ANA, &STELLA, &COPILOT] {
        case.log_in(person.name, person, Carrier::Oauth).await?;
    }
    case.masked_rows().await.context("masked rows")?;
    case.types_stay().await.context("types stay")?;
    case.refusals().await.context("refusals")?;
    case.held_then_approved().await.context("held, then approved")?;
    case.held_then_rejected().await.context("held, then rejected")?;
    case.the_session_moves().await.context("the session moves")?;
    case.query_tag().await.context("query tag")?;
    case.bindings().await.context("bindings")?;
    case.several_statements().await.context("several statements")?;
    case.log_out().await.context("log out")?;
    case.found_in_the_trail().await.context("found in the trail")
}

struct Case<'a> {
    stack: &'a Stack,
    driver: &'a Driver,
}

impl Case<'_> {
    async fn log_in(&self, session: &str, person: &Person, carrier: Carrier) -> anyhow::Result<()> {
        self.driver.connect(session, &self.stack.connection(person, carrier)?).await??;
        Ok(())
    }

    async fn raised(&self, session: &str, sql: &str) -> anyhow::Result<Raised> {
        match self.driver.execute(session, sql).await? {
            Ok(_) => anyhow::bail!("`{sql}` ran"),
            Err(raised) => Ok(raised),
        }
    }

    async fn every_way_to_log_in(&self) -> anyhow::Result<()> {
        for carrier in [Carrier::Oauth, Carrier::AccessToken, Carrier::Password] {
            self.log_in("login", &ANA, carrier).await.with_context(|| format!("{carrier:?}"))?;
            let rows = self.driver.execute("login", "SELECT COUNT(*) AS N FROM ORDERS").await??;
            ensure!(rows.cell(0, "N") == "7", "{rows:?}");
            self.driver.call("login", "close", json!({})).await??;
        }
        Ok(())
    }

    async fn bad_tokens(&self) -> anyhow::Result<()> {
        let mut expired = self.stack.issuer.claims(&ANA);
        expired["exp"] = json!(1_700_000_000);
        let expired = self.stack.issuer.sign(&expired)?;
        let mut elsewhere = self.stack.issuer.claims(&ANA);
        elsewhere["aud"] = json!("somebody-else");
        let elsewhere = self.stack.issuer.sign(&elsewhere)?;
        for (what, token) in [("expired", expired), ("other audience", elsewhere), ("no token", "secret".to_owned())] {
            let arguments = self.stack.connection_with(&token, "ana", Carrier::Oauth);
            let outcome = self.driver.connect("bad", &arguments).await?;
            ensure!(outcome.is_err(), "{what}: logged in");
        }
        Ok(())
    }

    async fn masked_rows(&self) -> anyhow::Result<()> {
        const SQL: &str = "SELECT ID, NAME, EMAIL, PHONE, SSN, CARD, BIRTH_DATE, COUNTRY FROM CUSTOMERS WHERE ID = 1";
        let masked = self.driver.execute("ana", SQL).await??;
        let raw = self.driver.execute("stella", SQL).await??;
        ensure!(raw.cell(0, "EMAIL") == "maya.lindqvist@example.com", "{raw:?}");
        ensure!(masked.cell(0, "ID") == "1" && masked.cell(0, "COUNTRY") == "SE", "{masked:?}");
        for column in ["NAME", "EMAIL", "PHONE", "SSN", "CARD", "BIRTH_DATE"] {
            ensure!(masked.cell(0, column) != raw.cell(0, column), "{column}: {masked:?}");
        }
        ensure!(masked.cell(0, "CARD").ends_with("7891"), "{masked:?}");
        ensure!(masked.cell(0, "BIRTH_DATE").starts_with("1984-01-01"), "{masked:?}");
        // A predicate sees the masked value: it finds nobody by a raw one.
        let found =
            self.driver.execute("ana", "SELECT ID FROM CUSTOMERS WHERE EMAIL = 'maya.lindqvist@example.com'").await??;
        ensure!(found.rows.is_empty(), "{found:?}");
        let star = self.driver.execute("ana", "SELECT c.* FROM CUSTOMERS c WHERE c.ID = 2").await??;
        ensure!(star.names().len() == 9 && !star.cell(0, "EMAIL").contains("tom"), "{star:?}");
        Ok(())
    }

    async fn types_stay(&self) -> anyhow::Result<()> {
        const SQL: &str = "SELECT ID, NAME, EMAIL, CARD, BIRTH_DATE, BALANCE FROM CUSTOMERS";
        let types = |rows: &icegate_cli::demo::driver::Rows| -> Vec<Value> {
            rows.columns.iter().map(|column| json!([column["name"], column["type_code"], column["scale"]])).collect()
        };
        let (masked, raw) = (self.driver.execute("ana", SQL).await??, self.driver.execute("stella", SQL).await??);
        ensure!(types(&masked) == types(&raw), "{:?} {:?}", types(&masked), types(&raw));
        Ok(())
    }

    async fn refusals(&self) -> anyhow::Result<()> {
        for (session, sql, parts) in [
            ("copilot", "DROP DATABASE SALES", &["no-drop-database", "POLICY-FORBID", "platform team"][..]),
            ("copilot", "COPY INTO 's3://b/p/' FROM CUSTOMERS", &["no-unload", "POLICY-FORBID", "share a table"]),
            ("ana", "FROBNICATE EVERYTHING", &["SQL-UNKNOWN"]),
            ("ana", "SELECT * FROM NO_SUCH_TABLE", &["SQL-UNRESOLVED"]),
            ("ana", "DELETE FROM ORDERS WHERE ID = 101", &["POLICY-NO-PERMIT"]),
        ] {
            let raised = self.raised(session, sql).await?;
            ensure!(raised.kind == "ProgrammingError", "{sql}: {raised:?}");
            for part in parts.iter().chain(&["refused", "decision "]) {
                ensure!(raised.message.contains(part), "{sql}: `{part}` is missing in `{}`", raised.message);
            }
        }
        // The session is still good.
        self.driver.execute("ana", "SELECT 1 AS ONE").await??;
        Ok(())
    }

    async fn held_then_approved(&self) -> anyhow::Result<()> {
        const SQL: &str = "DELETE FROM ORDERS WHERE STATUS = 'cancelled'";
        let waiting = self.driver.send("copilot", "execute", json!({ "sql": SQL })).await?;
        let id = self.stack.pending(SQL).await?;
        // Nobody approves their own, and no agent approves at all.
        ensure!(self.stack.icegate(&COPILOT, &["approvals", "approve", &id]).await.is_err());
        ensure!(self.stack.icegate(&ANA, &["approvals", "approve", &id]).await.is_err());
        self.stack.icegate(&STELLA, &["approvals", "approve", &id, "--comment", "fine"]).await?;
        let done = rows(answer(waiting).await?)??;
        ensure!(done.rowcount == Some(2), "{done:?}");
        let left = self.driver.execute("ana", "SELECT COUNT(*) AS N FROM ORDERS").await??;
        ensure!(left.cell(0, "N") == "5", "{left:?}");
        Ok(())
    }

    async fn held_then_rejected(&self) -> anyhow::Result<()> {
        const SQL: &str = "UPDATE ORDERS SET NOTE = 'x' WHERE ID = 101";
        let waiting = self.driver.send("copilot", "execute", json!({ "sql": SQL })).await?;
        let id = self.stack.pending(SQL).await?;
        self.stack.icegate(&STELLA, &["approvals", "reject", &id, "--comment", "not this one"]).await?;
        let Err(raised) = rows(answer(waiting).await?)? else { anyhow::bail!("it ran") };
        ensure!(raised.kind == "ProgrammingError" && raised.message.contains("APPROVAL-REJECTED"), "{raised:?}");
        let note = self.driver.execute("ana", "SELECT NOTE FROM ORDERS WHERE ID = 101").await??;
        ensure!(note.cell(0, "NOTE") == "gift wrap", "{note:?}");
        Ok(())
    }

    async fn the_session_moves(&self) -> anyhow::Result<()> {
        self.driver.execute("ana", "USE SCHEMA SALES.STAGING").await??;
        let leads = self.driver.execute("ana", "SELECT ID, EMAIL FROM LEADS ORDER BY ID").await??;
        ensure!(leads.rows.len() == 2 && !leads.cell(0, "EMAIL").contains("kim"), "{leads:?}");
        let raised = self.raised("ana", "SELECT * FROM ORDERS").await?;
        ensure!(raised.message.contains("SQL-UNRESOLVED"), "{raised:?}");
        self.driver.execute("ana", "USE SCHEMA PUBLIC").await??;
        self.driver.execute("ana", "SELECT ID FROM ORDERS").await??;
        Ok(())
    }

    async fn query_tag(&self) -> anyhow::Result<()> {
        let mut arguments = self.stack.connection(&ANA, Carrier::Oauth)?;
        arguments["session_parameters"] = json!({ "QUERY_TAG": "nightly report" });
        self.driver.connect("tagged", &arguments).await??;
        self.driver.execute("tagged", "SELECT 42 AS TAGGED").await??;
        let queries = self.stack.back.queries();
        let sent = queries.iter().find(|query| text_at(query, "sqlText").contains("42")).context("not seen")?;
        let tag: Value = serde_json::from_str(text_at(&sent["parameters"], "QUERY_TAG"))?;
        ensure!(tag["tag"] == "nightly report" && tag["icegate"]["user"] == "dev/ana", "{tag}");
        ensure!(tag["icegate"]["decision"].is_string(), "{tag}");
        self.driver.call("tagged", "close", json!({})).await??;
        Ok(())
    }

    async fn bindings(&self) -> anyhow::Result<()> {
        let arguments = json!({ "args": self.stack.connection(&ANA, Carrier::Oauth)?, "paramstyle": "qmark" });
        self.driver.call("bound", "connect", arguments).await??;
        let rows = self
            .driver
            .execute_with("bound", "SELECT ID, STATUS FROM ORDERS WHERE ID = ?", json!({ "params": [103] }))
            .await??;
        ensure!(rows.rows.len() == 1 && rows.cell(0, "STATUS") == "shipped", "{rows:?}");
        self.driver.call("bound", "close", json!({})).await??;
        Ok(())
    }

    async fn several_statements(&self) -> anyhow::Result<()> {
        // More statements than announced.
        let before = self.stack.back.queries().len();
        let raised = self.raised("ana", "SELECT 1; SELECT 2").await?;
        ensure!(raised.message.contains("decision "), "{raised:?}");
        // One of several is not allowed: none runs.
        let outcome = self
            .driver
            .execute_with("ana", "SELECT 1; DROP DATABASE SALES", json!({ "options": { "num_statements": 2 } }))
            .await?;
        ensure!(outcome.is_err(), "{outcome:?}");
        ensure!(self.stack.back.queries().len() == before, "something was sent");
        Ok(())
    }

    async fn log_out(&self) -> anyhow::Result<()> {
        self.log_in("leaving", &ANA, Carrier::Oauth).await?;
        self.driver.call("leaving", "close", json!({})).await??;
        let closed = self.stack.asked(&["sessions", "list", "--all", "--json", "--principal", "dev/ana"]).await?;
        ensure!(closed.iter().any(|session| text_at(session, "state") == "closed"), "{closed:?}");
        Ok(())
    }

    async fn found_in_the_trail(&self) -> anyhow::Result<()> {
        for filter in [
            &["--user", "dev/ana", "--outcome", "mask"][..],
            &["--user", "copilot", "--outcome", "deny", "--text", "drop database"],
            &["--agent", "github-copilot", "--outcome", "needs-approval"],
            &["--object", "SALES.PUBLIC.CUSTOMERS", "--from", "1h"],
            &["--user", "stella", "--outcome", "succeeded"],
        ] {
            let found = self.stack.asked(&[&["audit", "search", "--json"][..], filter].concat()).await?;
            ensure!(!found.is_empty(), "{filter:?}");
        }
        let none = self.stack.asked(&["audit", "search", "--json", "--user", "nobody"]).await?;
        ensure!(none.is_empty(), "{none:?}");
        self.stack.icegate(&STELLA, &["audit", "verify"]).await?;
        Ok(())
    }
}
