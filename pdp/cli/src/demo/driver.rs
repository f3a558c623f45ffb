//! The Python driver as a child process that runs one command at a time per session.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::oneshot;

/// The program that calls the driver.
const PROGRAM: &str = include_str!("driver.py");

/// Importing the driver takes a few seconds on a slow machine.
const START_SECONDS_MAX: u64 = 60;

/// Longest a statement may take here: longer than any hold in the demo and the tests.
const ANSWER_SECONDS_MAX: u64 = 180;

/// What a statement gave.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Rows {
    /// `cursor.description`.
    #[serde(default)]
    pub columns: Vec<Value>,
    /// The rows; decimals, dates and bytes as text.
    #[serde(default)]
    pub rows: Vec<Vec<Value>>,
    /// `cursor.rowcount`.
    #[serde(default)]
    pub rowcount: Option<i64>,
    /// Snowflake's query id.
    #[serde(default)]
    pub sfqid: Option<String>,
    /// Results of the further statements of one request.
    #[serde(default)]
    pub more: Vec<Rows>,
}

impl Rows {
    /// The columns' names.
    pub fn names(&self) -> Vec<&str> {
        self.columns.iter().filter_map(|column| column.get("name").and_then(Value::as_str)).collect()
    }

    /// One cell as text; empty for NULL and for what is not there.
    pub fn cell(&self, row: usize, column: &str) -> String {
        let at = self.names().iter().position(|name| name.eq_ignore_ascii_case(column));
        at.and_then(|at| self.rows.get(row)?.get(at)).map(cell_text).unwrap_or_default()
    }
}

/// A value as a person reads it.
pub fn cell_text(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What the driver raised.
#[derive(Debug, Clone, Deserialize, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct Raised {
    /// The exception's class, for example `ProgrammingError`.
    pub kind: String,
    /// Its text.
    pub message: String,
    /// Snowflake's error number.
    #[serde(default)]
    pub errno: Option<i64>,
    /// SQLSTATE.
    #[serde(default)]
    pub sqlstate: Option<String>,
}

#[derive(Deserialize)]
struct Reply {
    id: u64,
    #[serde(default)]
    ok: Option<Value>,
    #[serde(default)]
    error: Option<Raised>,
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Value, Raised>>>>>;

/// A Python process that has the driver loaded. Dropping it ends it.
#[derive(Debug)]
pub struct Driver {
    version: String,
    stdin: Arc<tokio::sync::Mutex<ChildStdin>>,
    waiting: Waiting,
    next: AtomicU64,
    _child: Child,
}

impl Driver {
    /// Starts the interpreter and loads the driver.
    ///
    /// # Errors
    ///
    /// When the interpreter does not start or the driver does not load.
    pub async fn start(python: &Path) -> anyhow::Result<Self> {
        Self::start_with(python, &[]).await
    }

    /// The same with further environment variables.
    ///
    /// # Errors
    ///
    /// As [`Driver::start`].
    pub async fn start_with(python: &Path, variables: &[(&str, &OsStr)]) -> anyhow::Result<Self> {
        let mut child = Command::new(python)
            .args(["-u", "-c", PROGRAM])
            .envs(variables.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start `{}`", python.display()))?;
        let (Some(stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
            anyhow::bail!("the driver's process has no pipes");
        };
        let mut lines = BufReader::new(stdout).lines();
        let hello = tokio::time::timeout(Duration::from_secs(START_SECONDS_MAX), lines.next_line())
            .await
            .context("the Python driver did not load in time")??
            .context("the Python driver did not load")?;
        let hello: Reply = serde_json::from_str(&hello)?;
        let version = hello
            .ok
            .as_ref()
            .and_then(|ok| ok.get("version")?.as_str().map(str::to_owned))
            .context("the Python driver did not say its version")?;
        let waiting = Waiting::default();
        let answered = Arc::clone(&waiting);
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let Ok(reply) = serde_json::from_str::<Reply>(&line) else { continue };
                let sender = answered.lock().unwrap_or_else(PoisonError::into_inner).remove(&reply.id);
                if let Some(sender) = sender {
                    let answer = reply.error.map_or_else(|| Ok(reply.ok.unwrap_or(Value::Null)), Err);
                    // Nobody waits for it any more: nothing is lost.
                    drop(sender.send(answer));
                }
            }
            // Dropping the senders tells everybody that waits.
            answered.lock().unwrap_or_else(PoisonError::into_inner).clear();
        });
        let stdin = Arc::new(tokio::sync::Mutex::new(stdin));
        Ok(Self { version, stdin, waiting, next: AtomicU64::new(1), _child: child })
    }

    /// The driver's version, for example `4.8.1`.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// Sends one command. The answer comes through the returned receiver, so that others can be sent meanwhile.
    ///
    /// # Errors
    ///
    /// When the process is gone.
    pub async fn send(
        &self,
        session: &str,
        op: &str,
        arguments: Value,
    ) -> anyhow::Result<oneshot::Receiver<Result<Value, Raised>>> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut command = match arguments {
            Value::Object(map) => map,
            _ => Map::new(),
        };
        command.insert("id".to_owned(), json!(id));
        command.insert("op".to_owned(), json!(op));
        command.insert("session".to_owned(), json!(session));
        let (sender, receiver) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, sender);
        let mut line = Value::Object(command).to_string();
        line.push('\n');
        let mut stdin = self.stdin.lock().await;
        stdin.write_all(line.as_bytes()).await.context("the driver's process is gone")?;
        stdin.flush().await.context("the driver's process is gone")?;
        Ok(receiver)
    }

    /// Sends one command and waits for its answer; the inner error is what the driver raised.
    ///
    /// # Errors
    ///
    /// When the process is gone or does not answer in time.
    pub async fn call(&self, session: &str, op: &str, arguments: Value) -> anyhow::Result<Result<Value, Raised>> {
        let receiver = self.send(session, op, arguments).await?;
        answer(receiver).await
    }

    /// `connect(**args)` under a name of its own.
    ///
    /// # Errors
    ///
    /// As [`Driver::call`].
    pub async fn connect(&self, session: &str, args: &Value) -> anyhow::Result<Result<Value, Raised>> {
        self.call(session, "connect", json!({ "args": args })).await
    }

    /// `cursor.execute(sql)` and all its rows.
    ///
    /// # Errors
    ///
    /// As [`Driver::call`].
    pub async fn execute(&self, session: &str, sql: &str) -> anyhow::Result<Result<Rows, Raised>> {
        self.execute_with(session, sql, json!({})).await
    }

    /// `cursor.execute(sql, params, **options)`; `arguments` may hold `params`, `options` and `all_results`.
    ///
    /// # Errors
    ///
    /// As [`Driver::call`].
    pub async fn execute_with(
        &self,
        session: &str,
        sql: &str,
        mut arguments: Value,
    ) -> anyhow::Result<Result<Rows, Raised>> {
        if let Some(map) = arguments.as_object_mut() {
            map.insert("sql".to_owned(), json!(sql));
        }
        rows(self.call(session, "execute", arguments).await?)
    }
}

/// Waits for the answer of [`Driver::send`].
///
/// # Errors
///
/// When the process is gone or does not answer in time.
pub async fn answer(receiver: oneshot::Receiver<Result<Value, Raised>>) -> anyhow::Result<Result<Value, Raised>> {
    tokio::time::timeout(Duration::from_secs(ANSWER_SECONDS_MAX), receiver)
        .await
        .with_context(|| format!("the driver did not answer within {ANSWER_SECONDS_MAX} seconds"))?
        .context("the driver's process is gone")
}

/// An answer to `execute` as rows.
///
/// # Errors
///
/// When the answer has another shape.
pub fn rows(answer: Result<Value, Raised>) -> anyhow::Result<Result<Rows, Raised>> {
    match answer {
        Ok(value) => Ok(Ok(serde_json::from_value(value).context("the driver's answer has an unknown shape")?)),
        Err(raised) => Ok(Err(raised)),
    }
}
