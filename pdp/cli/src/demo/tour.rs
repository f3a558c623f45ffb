//! The tour: what a real driver sees, step by step, and whether it is what it should see.

use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::process::Command;

use super::Demo;
use super::driver::{Raised, Rows, answer, rows};
use super::issuer::{ANA, CARL, COPILOT, NAME, Person, STELLA};
use super::say::Voice;

/// What the analyst and the steward both read.
const CUSTOMERS: &str = "SELECT NAME, EMAIL, PHONE, CARD, BIRTH_DATE, COUNTRY FROM CUSTOMERS ORDER BY ID LIMIT 3";

/// What the agent wants to do.
const DELETE: &str = "DELETE FROM ORDERS WHERE STATUS = 'cancelled'";

/// Rows the agent's statement removes.
const CANCELLED_ORDERS: i64 = 2;

/// An approval shows up within this time after its statement was sent.
const APPROVAL_SECONDS_MAX: u64 = 30;

/// How often it is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Takes the tour. Answers with the number of checks that failed.
///
/// # Errors
///
/// When the tour cannot go on: the driver's process is gone, this program cannot be started.
pub(super) async fn take(voice: &Voice, demo: &Demo) -> anyhow::Result<usize> {
    let mut tour = Tour { voice, demo, steps: 0, failed: 0 };
    tour.masked().await?;
    tour.unmasked().await?;
    tour.as_it_is().await?;
    tour.held().await?;
    tour.refused().await?;
    tour.revoked().await?;
    tour.trail().await?;
    Ok(tour.failed)
}

struct Tour<'a> {
    voice: &'a Voice,
    demo: &'a Demo,
    steps: usize,
    failed: usize,
}

impl Tour<'_> {
    fn step(&mut self, title: &str, text: &str) {
        self.steps += 1;
        self.voice.step(self.steps, title);
        self.voice.text(text);
    }

    /// One expectation: said in either case, counted when it is not met.
    fn check(&mut self, holds: bool, expected: &str, seen: &str) {
        if holds {
            self.voice.passed(expected);
        } else {
            self.failed += 1;
            self.voice.failed(&format!("expected: {expected}; seen: {seen}"));
        }
    }

    async fn connect(&mut self, person: &Person) -> anyhow::Result<bool> {
        let arguments = self.demo.facts.connect_arguments(person.name)?;
        match self.demo.driver.connect(person.name, &arguments).await? {
            Ok(_) => Ok(true),
            Err(raised) => {
                self.check(false, &format!("{} can log in", person.name), &raised.to_string());
                Ok(false)
            }
        }
    }

    async fn execute(&mut self, person: &Person, sql: &str) -> anyhow::Result<Result<Rows, Raised>> {
        self.voice.typed(&format!("{}>", person.name), sql);
        self.demo.driver.execute(person.name, sql).await
    }

    /// A statement that should give rows: shows them.
    async fn query(&mut self, person: &Person, sql: &str) -> anyhow::Result<Option<Rows>> {
        match self.execute(person, sql).await? {
            Ok(rows) => {
                self.voice.rows(&rows);
                Ok(Some(rows))
            }
            Err(raised) => {
                self.check(false, "the driver gets rows", &raised.to_string());
                Ok(None)
            }
        }
    }

    async fn masked(&mut self) -> anyhow::Result<()> {
        self.step(
            "An analyst reads customers",
            "ana is in the groups employees and analysts. Her driver logs in with her OIDC token and sends plain SQL.",
        );
        if !self.connect(&ANA).await? {
            return Ok(());
        }
        let Some(rows) = self.query(&ANA, CUSTOMERS).await? else { return Ok(()) };
        self.voice.text(
            "The columns with personal data are masked by the policies in personal-data.cedar. The mask is part of the \
             query that the warehouse ran, so that the raw values never left the table.",
        );
        let (email, name) = (rows.cell(0, "EMAIL"), rows.cell(0, "NAME"));
        let hidden = !email.contains("maya") && email.ends_with("@example.com") && !name.contains("Lindqvist");
        self.check(
            hidden && rows.cell(0, "COUNTRY") == "SE" && rows.rows.len() == 3,
            "three rows; names and addresses masked, countries as they are",
            &format!("{} rows, `{name}`, `{email}`", rows.rows.len()),
        );
        Ok(())
    }

    async fn unmasked(&mut self) -> anyhow::Result<()> {
        self.step(
            "The same by somebody who is cleared",
            "stella is the data steward and in the group pii-cleared: the same statement, the same table.",
        );
        if !self.connect(&STELLA).await? {
            return Ok(());
        }
        let Some(rows) = self.query(&STELLA, CUSTOMERS).await? else { return Ok(()) };
        let email = rows.cell(0, "EMAIL");
        self.check(email == "maya.lindqvist@example.com", "nothing is masked for her", &format!("`{email}`"));
        Ok(())
    }

    async fn as_it_is(&mut self) -> anyhow::Result<()> {
        self.step(
            "A question without personal data",
            "Nothing to mask: the statement runs exactly as ana's driver sent it.",
        );
        let sql = "SELECT STATUS, COUNT(*) AS ORDERS, SUM(AMOUNT) AS TOTAL FROM ORDERS GROUP BY STATUS ORDER BY STATUS";
        let Some(rows) = self.query(&ANA, sql).await? else { return Ok(()) };
        let (status, orders) = (rows.cell(0, "STATUS"), rows.cell(0, "ORDERS"));
        self.check(
            status == "cancelled" && orders == CANCELLED_ORDERS.to_string(),
            "allowed as it is",
            &format!("`{status}`, `{orders}`"),
        );
        Ok(())
    }

    async fn held(&mut self) -> anyhow::Result<()> {
        self.step(
            "An AI agent's DELETE waits for a person",
            "copilot's token says that the agent github-copilot is at work. The policy agent-writes makes its writes wait for a \
             data steward. The driver sees nothing but a slow query.",
        );
        if !self.connect(&COPILOT).await? {
            return Ok(());
        }
        self.voice.typed(&format!("{}>", COPILOT.name), DELETE);
        let waiting = self.demo.driver.send(COPILOT.name, "execute", serde_json::json!({ "sql": DELETE })).await?;
        let Some(id) = self.pending_approval().await? else {
            let seen = rows(answer(waiting).await?)?.map_or_else(|raised| raised.to_string(), |_| "it ran".to_owned());
            self.check(false, "the statement waits for an approval", &seen);
            return Ok(());
        };
        self.voice.text("stella looks at what waits for her, and approves it:");
        let listed = self.icegate(&STELLA, &["approvals", "show", &id]).await?;
        self.voice.said(&listed.text);
        let approved = self.icegate(&STELLA, &["approvals", "approve", &id, "--comment", "old orders, fine"]).await?;
        self.voice.said(&approved.text);
        self.check(approved.good, "stella may approve", &approved.text);
        let outcome = rows(answer(waiting).await?)?;
        let seen = outcome.as_ref().map_or_else(ToString::to_string, |rows| format!("row count {:?}", rows.rowcount));
        self.check(
            outcome.is_ok_and(|rows| rows.rowcount == Some(CANCELLED_ORDERS)),
            "copilot's execute() returned by itself: 2 rows deleted",
            &seen,
        );
        Ok(())
    }

    /// The approval that the agent's statement waits for.
    async fn pending_approval(&self) -> anyhow::Result<Option<String>> {
        let mut waited = Duration::ZERO;
        while waited < Duration::from_secs(APPROVAL_SECONDS_MAX) {
            let listed = self.ask(&STELLA, &["approvals", "list", "--json"]).await?;
            let found = listed.text.lines().find_map(|line| {
                let approval: Value = serde_json::from_str(line).ok()?;
                let waits = approval.get("sql").and_then(Value::as_str) == Some(DELETE);
                let id = approval.get("approval_id").or_else(|| approval.get("id"))?.as_str()?.to_owned();
                waits.then_some(id)
            });
            if found.is_some() {
                return Ok(found);
            }
            tokio::time::sleep(LOOK_EVERY).await;
            waited += LOOK_EVERY;
        }
        Ok(None)
    }

    async fn refused(&mut self) -> anyhow::Result<()> {
        self.step(
            "What nobody may do",
            "Refusals come back as the driver's own errors. Each names the policy, what to do instead, and the decision in the \
             audit trail.",
        );
        let cases = [
            (&COPILOT, "DROP DATABASE SALES", "no-drop-database", "dropping a database is refused"),
            (
                &COPILOT,
                "COPY INTO 's3://somewhere/else/' FROM CUSTOMERS",
                "no-unload",
                "unloading to storage outside is refused",
            ),
            (&ANA, "FROBNICATE THE WAREHOUSE", "SQL-UNKNOWN", "what icegate cannot read is refused"),
        ];
        for (person, sql, named, expected) in cases {
            let outcome = self.execute(person, sql).await?;
            if let Err(raised) = &outcome {
                self.voice.refusal(&raised.message);
            }
            let seen = outcome.as_ref().map_or_else(ToString::to_string, |_| "it ran".to_owned());
            let fits = |raised: Raised| {
                raised.kind == "ProgrammingError"
                    && raised.message.contains(named)
                    && raised.message.contains("decision ")
            };
            self.check(outcome.is_err_and(fits), expected, &seen);
        }
        Ok(())
    }

    async fn revoked(&mut self) -> anyhow::Result<()> {
        self.step(
            "A contract ends while the contractor is connected",
            "carl is an analyst until stella revokes him: his session stops at once, and his token opens no other.",
        );
        if !self.connect(&CARL).await? {
            return Ok(());
        }
        let sql = "SELECT COUNT(*) AS ORDERS FROM ORDERS";
        if self.query(&CARL, sql).await?.is_none() {
            return Ok(());
        }
        let principal = format!("{NAME}/{}", CARL.name);
        let revoked = self
            .icegate(&STELLA, &["sessions", "revoke", "--principal", &principal, "--reason", "contract ended"])
            .await?;
        self.voice.said(&revoked.text);
        self.check(revoked.good, "stella may end his sessions", &revoked.text);
        let outcome = self.execute(&CARL, sql).await?;
        if let Err(raised) = &outcome {
            self.voice.refusal(&raised.message);
        }
        self.check(outcome.is_err(), "his next statement is stopped", "it ran");
        let arguments = self.demo.facts.connect_arguments(CARL.name)?;
        let again = self.demo.driver.connect("carl-again", &arguments).await?;
        self.voice.text("He logs in again, with the same token:");
        if let Err(raised) = &again {
            self.voice.refusal(&raised.message);
        }
        self.check(again.is_err(), "his token is refused", "he is logged in");
        Ok(())
    }

    async fn trail(&mut self) -> anyhow::Result<()> {
        self.step(
            "Who did what",
            "Every one of these statements was in the audit trail before it ran, with who asked, what was decided and why. \
             stella is an auditor; here is what copilot did (without the columns for time, rows and objects):",
        );
        let searched = self.icegate(&STELLA, &["audit", "search", "--user", COPILOT.name, "--limit", "8"]).await?;
        self.voice.columns(&searched.text, &["USER", "AGENT", "OUTCOME", "RUN", "STATEMENT"]);
        let found = searched.good && searched.text.contains("DELETE FROM") && searched.text.contains("DROP DATABASE");
        self.check(found, "the agent's statements are in the trail, the refused ones too", &searched.text);
        let outcome_of = |person: &Person, outcome: &str| {
            ["audit", "search", "--json", "--user", person.name, "--outcome", outcome].map(str::to_owned)
        };
        let mut missing = Vec::new();
        for (person, outcome) in [
            (&ANA, "mask"),
            (&ANA, "allow"),
            (&ANA, "deny"),
            (&STELLA, "allow"),
            (&COPILOT, "needs-approval"),
            (&COPILOT, "deny"),
        ] {
            let arguments = outcome_of(person, outcome);
            let asked = self.ask(&STELLA, &arguments.each_ref().map(String::as_str)).await?;
            if !asked.good || asked.text.trim().is_empty() {
                missing.push(format!("{} {outcome}", person.name));
            }
        }
        self.check(
            missing.is_empty(),
            "all that happened in this tour is found by user and outcome",
            &missing.join(", "),
        );
        let verified = self.icegate(&STELLA, &["audit", "verify"]).await?;
        self.voice.said(&verified.text);
        self.check(verified.good, "the chain of records is whole: none was altered, removed or put in", &verified.text);
        Ok(())
    }

    /// Shows the command and runs it as one of the people.
    async fn icegate(&self, person: &Person, arguments: &[&str]) -> anyhow::Result<Said> {
        let shown: Vec<String> = arguments
            .iter()
            .map(|argument| if argument.contains(' ') { format!("'{argument}'") } else { (*argument).to_owned() })
            .collect();
        self.voice.typed(&format!("{}$", person.name), &format!("icegate {}", shown.join(" ")));
        self.ask(person, arguments).await
    }

    async fn ask(&self, person: &Person, arguments: &[&str]) -> anyhow::Result<Said> {
        let facts = &self.demo.facts;
        let token = &facts.users.get(person.name).with_context(|| format!("no token for `{}`", person.name))?.token;
        let ended = Command::new(std::env::current_exe()?)
            .args(["--pdp", &facts.pdp_addr, "--danger-plaintext"])
            .args(arguments)
            .env("ICEGATE_TOKEN", token)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .context("cannot start this program again")?;
        let mut text = String::from_utf8_lossy(&ended.stdout).into_owned();
        if !ended.status.success() {
            text.push_str(&String::from_utf8_lossy(&ended.stderr));
        }
        Ok(Said { good: ended.status.success(), text })
    }
}

/// How a command ended, and what it said.
struct Said {
    good: bool,
    text: String,
}
