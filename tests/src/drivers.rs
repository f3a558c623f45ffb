//! The driver matrix: the clients, what each is asked to do, and the table of what became of it.
//!
//! A client is a script under `tests/drivers`. It is told where the two stacks are and who may log in, as one line of JSON, and
//! says one line for each capability: `{"capability", "outcome", "detail"}`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use icegate_cli::demo::python::{DRIVER5, Environment, WAREHOUSE};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use crate::node;
use crate::stack::{environment, workspace};

/// Longest that one client may take for everything.
const CLIENT_SECONDS_MAX: u64 = 240;

/// pandas and what builds on the connector's 4.x line, ADBC, and Node itself.
pub const CLIENTS_PYTHON: Environment = Environment {
    name: "clients",
    title: "pandas, SQLAlchemy, Snowpark, dbt, ADBC and Node",
    requirements: include_str!("../drivers/clients.requirements.txt"),
};

/// Snowflake CLI, which wants a connector of its own.
pub const SNOW: Environment = Environment {
    name: "snow",
    title: "Snowflake CLI 3.30.0",
    requirements: include_str!("../drivers/snow.requirements.txt"),
};

/// JDBC: Java itself, and a bridge to it. The driver is [`jdbc_jar`].
pub const JDBC: Environment = Environment {
    name: "jdbc",
    title: "Java 17 and JPype",
    requirements: include_str!("../drivers/jdbc.requirements.txt"),
};

/// What a client may be able to do: its name in the scripts, and in the table.
pub const CAPABILITIES: [(&str, &str); 22] = [
    ("login-oauth", "log in: OAuth token"),
    ("login-pat", "log in: access token"),
    ("login-password", "log in: token as password"),
    ("login-refused", "log in: an expired token is refused"),
    ("masked", "masked rows"),
    ("json", "JSON result"),
    ("arrow", "Arrow result"),
    ("json-parts", "JSON result in parts"),
    ("arrow-parts", "Arrow result in parts"),
    ("binds", "bound values"),
    ("array-binds", "bulk load: arrays of bound values"),
    ("file-load", "bulk load: PUT and COPY"),
    ("error", "the warehouse's error"),
    ("denial", "denial"),
    ("hold", "hold and resume"),
    ("cancel", "cancel"),
    ("renewal", "session renewal"),
    ("async", "asynchronous"),
    ("several", "several statements at once"),
    ("transaction", "transaction"),
    ("temporary", "temporary relations"),
    ("metadata", "metadata calls"),
];

/// What runs a script.
#[derive(Debug, Clone, Copy)]
pub enum Runtime {
    /// The interpreter of an environment.
    Python(&'static Environment),
    /// Node, with the packages of `node/package-lock.json`.
    Node,
    /// The interpreter of [`JDBC`], told as `jar` where the driver is.
    Java,
}

/// One client.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    /// Stands in its statements, so that they are told apart.
    pub tag: &'static str,
    /// Its name in the table.
    pub title: &'static str,
    /// The version it has to say it is.
    pub version: &'static str,
    /// Its script under `tests/drivers`, or `tests/drivers/node`.
    pub script: &'static str,
    /// What runs it.
    pub runtime: Runtime,
}

/// All clients, in the order of the table.
pub const CLIENTS: &[Client] = &[
    Client {
        tag: "python4",
        title: "Python connector",
        version: "4.8.1",
        script: "python_connector.py",
        runtime: Runtime::Python(&WAREHOUSE),
    },
    Client {
        tag: "python5",
        title: "Python connector",
        version: "5.2.0",
        script: "python_connector.py",
        runtime: Runtime::Python(&DRIVER5),
    },
    Client {
        tag: "pandas",
        title: "pandas",
        version: "3.1.1",
        script: "pandas_client.py",
        runtime: Runtime::Python(&CLIENTS_PYTHON),
    },
    Client {
        tag: "sqlalchemy",
        title: "SQLAlchemy",
        version: "1.11.1",
        script: "sqlalchemy_client.py",
        runtime: Runtime::Python(&CLIENTS_PYTHON),
    },
    Client {
        tag: "snowpark",
        title: "Snowpark",
        version: "1.56.0",
        script: "snowpark_client.py",
        runtime: Runtime::Python(&CLIENTS_PYTHON),
    },
    Client {
        tag: "dbt",
        title: "dbt",
        version: "1.12.4",
        script: "client_dbt.py",
        runtime: Runtime::Python(&CLIENTS_PYTHON),
    },
    Client {
        tag: "snowcli",
        title: "Snowflake CLI",
        version: "3.30.0",
        script: "snow_cli.py",
        runtime: Runtime::Python(&SNOW),
    },
    Client { tag: "node", title: "Node", version: "3.3.0", script: "node_client.cjs", runtime: Runtime::Node },
    Client {
        tag: "adbc",
        title: "Go (ADBC)",
        version: "1.11.0",
        script: "adbc_client.py",
        runtime: Runtime::Python(&CLIENTS_PYTHON),
    },
    Client {
        tag: "sqlapi",
        title: "SQL API",
        version: "v2",
        script: "http_client.py",
        runtime: Runtime::Python(&WAREHOUSE),
    },
    Client { tag: "jdbc", title: "JDBC", version: "3.16.0", script: "jdbc_client.py", runtime: Runtime::Java },
];

/// What became of one capability.
#[derive(Debug, Clone, Deserialize)]
pub struct Cell {
    /// Which.
    pub capability: String,
    /// `pass`, `fail`, `not-offered` by the client, or `refused` by icegate.
    pub outcome: String,
    /// Why, unless it passed.
    #[serde(default)]
    pub detail: String,
}

/// Runs a client's script.
///
/// # Errors
///
/// When it does not start, has another version, ends badly or takes too long.
pub async fn run(client: &Client, about: &Value, home: &Path) -> anyhow::Result<Vec<Cell>> {
    let mut about = about.clone();
    let (program, folder) = match client.runtime {
        Runtime::Python(with) => (environment(with).await?, scripts()),
        Runtime::Node => (node::program().await?, npm_installed("node").await?),
        Runtime::Java => {
            let jar = jdbc_jar().await?.display().to_string();
            about.as_object_mut().context("not an object")?.insert("jar".to_owned(), jar.into());
            (environment(&JDBC).await?, scripts())
        }
    };
    let log = home.join(format!("{}.log", client.tag));
    let mut child = Command::new(&program)
        .arg(folder.join(client.script))
        .current_dir(home)
        // Nothing of this machine's user: no configuration, no cached credential.
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", home)
        .env("XDG_CACHE_HOME", home)
        .env("NO_PROXY", "127.0.0.1")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(&log)?)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start `{}`", program.display()))?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        anyhow::bail!("no pipes");
    };
    stdin.write_all(format!("{about}\n").as_bytes()).await?;
    drop(stdin);
    let said = async {
        let mut lines = BufReader::new(stdout).lines();
        let version: Value = serde_json::from_str(&lines.next_line().await?.context("it said nothing")?)?;
        ensure!(
            version.get("version").is_some_and(|said| said == client.version),
            "{version} instead of {}",
            client.version
        );
        let mut cells: Vec<Cell> = Vec::new();
        while let Some(line) = lines.next_line().await? {
            cells.push(serde_json::from_str(&line).with_context(|| line.clone())?);
        }
        ensure!(child.wait().await?.success(), "it ended badly");
        anyhow::Ok(cells)
    };
    let said = tokio::time::timeout(Duration::from_secs(CLIENT_SECONDS_MAX), said).await;
    let told = || format!("{} {}: {}", client.title, client.version, end_of(&log));
    said.context("it takes too long").flatten().with_context(told)
}

/// A copy of one of the scripts' folders with what its `package-lock.json` names.
async fn npm_installed(folder: &'static str) -> anyhow::Result<PathBuf> {
    let node = node::program().await?;
    tokio::task::spawn_blocking(move || node::npm_install(&node, &scripts().join(folder))).await?
}

/// Snowflake's JDBC driver. Maven's registry is none the tests install from; an npm package carries the jar.
async fn jdbc_jar() -> anyhow::Result<PathBuf> {
    Ok(npm_installed("jdbc").await?.join("node_modules/liquibase/dist/liquibase/internal/lib/snowflake-jdbc.jar"))
}

fn end_of(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines.iter().skip(lines.len().saturating_sub(40)).copied().collect::<Vec<_>>().join("\n")
}

/// The table as Markdown, with the reasons of what is not `yes` below it.
pub fn table(results: &[(Client, BTreeMap<String, Cell>)]) -> String {
    let mut reasons: Vec<String> = Vec::new();
    let mut number = |reason: &str| {
        let known = reasons.iter().position(|known| known == reason);
        known.unwrap_or_else(|| {
            reasons.push(reason.to_owned());
            reasons.len() - 1
        }) + 1
    };
    let mut text = String::from("|");
    for (client, _) in results {
        let _ = write!(text, " | {} {}", client.title, client.version);
    }
    let _ = writeln!(text, " |\n|{}", "---|".repeat(1 + results.len()));
    for (name, title) in CAPABILITIES {
        let _ = write!(text, "| {title}");
        for (_, cells) in results {
            let said = match cells.get(name) {
                Some(cell) if cell.outcome == "pass" => "yes".to_owned(),
                Some(cell) if cell.outcome == "not-offered" => format!("– ({})", number(&cell.detail)),
                Some(cell) if cell.outcome == "refused" => format!("refused ({})", number(&cell.detail)),
                other => format!("FAILED {other:?}"),
            };
            let _ = write!(text, " | {said}");
        }
        text.push_str(" |\n");
    }
    text.push('\n');
    for (at, reason) in reasons.iter().enumerate() {
        let _ = writeln!(text, "{}. {reason}", at + 1);
    }
    text
}

/// Where the scripts are.
pub fn scripts() -> PathBuf {
    workspace().join("tests/drivers")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_is_pinned() {
        for requirements in [CLIENTS_PYTHON.requirements, SNOW.requirements, JDBC.requirements] {
            for line in requirements.lines().filter(|line| !line.starts_with('#')) {
                assert!(line.contains("=="), "`{line}`");
            }
        }
    }
}
