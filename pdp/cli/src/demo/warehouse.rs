//! The stand-in warehouse: fakesnow as a child process, with a small sales database in it.

use std::fs::File;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use super::driver::Driver;

/// The program that serves fakesnow.
const PROGRAM: &str = include_str!("warehouse.py");

/// The database's content, one statement per `;` at a line's end.
const SEED: &str = include_str!("seed.sql");

/// The warehouse (Snowflake's word for computers) that sessions start with.
pub const NAME: &str = "DEMO_WH";

/// Loading fakesnow takes a few seconds on a slow machine.
const START_SECONDS_MAX: u64 = 60;

/// A running fakesnow. It ends when this is dropped, and when this process dies.
#[derive(Debug)]
pub struct Warehouse {
    addr: SocketAddr,
    // Its end is what tells the child that the parent is gone.
    _stdin: ChildStdin,
    _child: Child,
}

impl Warehouse {
    /// Starts fakesnow on a free port; what it says goes to the file `log`. Its databases live in its memory.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub async fn start(python: &Path, log: &Path) -> anyhow::Result<Self> {
        let said = File::create(log).with_context(|| format!("cannot write `{}`", log.display()))?;
        let mut child = Command::new(python)
            .args(["-u", "-c", PROGRAM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(said)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start `{}`", python.display()))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            anyhow::bail!("fakesnow's process has no pipes");
        };
        let mut lines = BufReader::new(stdout).lines();
        let port = tokio::time::timeout(Duration::from_secs(START_SECONDS_MAX), lines.next_line())
            .await
            .context("fakesnow did not start in time")??
            .with_context(|| format!("fakesnow did not start: see `{}`", log.display()))?;
        let port: u16 = port.trim().parse().context("fakesnow did not say its port")?;
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { addr: SocketAddr::from(([127, 0, 0, 1], port)), _stdin: stdin, _child: child })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Puts the sales database in, past icegate, as whoever runs the warehouse would.
    ///
    /// # Errors
    ///
    /// When the driver cannot connect or a statement fails.
    pub async fn seed(&self, driver: &Driver) -> anyhow::Result<()> {
        self.fill(driver, &seed_statements()).await
    }

    /// Runs statements past icegate.
    ///
    /// # Errors
    ///
    /// When the driver cannot connect or a statement fails.
    pub async fn fill<S: AsRef<str>>(&self, driver: &Driver, statements: &[S]) -> anyhow::Result<()> {
        driver.connect("seed", &direct_connection(self.addr)).await?.context("cannot log in to fakesnow")?;
        for statement in statements.iter().map(AsRef::as_ref) {
            driver
                .execute("seed", statement)
                .await?
                .with_context(|| format!("cannot set up the database with `{}`", first_line(statement)))?;
        }
        driver.call("seed", "close", json!({})).await?.context("cannot log out of fakesnow")?;
        Ok(())
    }
}

/// `connect` arguments that reach fakesnow itself.
pub fn direct_connection(addr: SocketAddr) -> Value {
    json!({
        "host": addr.ip().to_string(), "port": addr.port(), "protocol": "http", "account": "demo",
        "user": "setup", "password": "setup",
    })
}

/// The statements of the seed, in order.
pub fn seed_statements() -> Vec<&'static str> {
    SEED.split(";\n").map(without_comments).filter(|statement| !statement.is_empty()).collect()
}

/// Leading comment lines are for the file's reader.
fn without_comments(statement: &'static str) -> &'static str {
    let mut rest = statement.trim();
    while rest.starts_with("--") {
        rest = rest.split_once('\n').map_or("", |(_, after)| after).trim_start();
    }
    rest
}

fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}
