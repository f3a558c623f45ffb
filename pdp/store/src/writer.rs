use std::{
    fs::File,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use icegate_pdp_approval::Approval;
use icegate_pdp_audit::{Event, Hash, Record, chain};
use icegate_pdp_model::Timestamp;
use sqlx::{
    Connection as _,
    sqlite::{SqliteConnectOptions, SqliteConnection},
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Appended, Change, SessionRow, SessionState, StateChange, StoreError, catalog,
    read::{int, uint},
    store::{Counters, connect},
    temporary, terms,
};

/// Longest record, in bytes. A statement of the largest size is in it twice, escaped.
pub const RECORD_BYTES_MAX: usize = 4 << 20;

pub(crate) enum Message {
    Commit(Change, Reply),
    Close(oneshot::Sender<()>),
}

type Reply = oneshot::Sender<Answer>;
type Answer = Result<Vec<Appended>, StoreError>;
pub(crate) type Head = (u64, Hash);

/// The only one that writes.
pub(crate) struct Writer {
    options: SqliteConnectOptions,
    /// `None` after an error whose effect is not known: begun afresh with the next change.
    connection: Option<SqliteConnection>,
    /// Where the trail may end: what was written last and, after a commit whose end is not known, what it would be.
    heads: Vec<Head>,
    batch_max: usize,
    on_commit: Box<dyn Fn(Duration, usize) + Send + Sync>,
    counters: Arc<Counters>,
    /// Given back when this is dropped.
    lock: Option<File>,
}

/// Why one change was not made.
pub(crate) enum Failure {
    /// It does not apply. Only this change is undone.
    Refused(StoreError),
    /// The file cannot be written. The whole transaction is undone.
    Broken(StoreError),
}

impl From<sqlx::Error> for Failure {
    fn from(error: sqlx::Error) -> Self {
        Self::Broken(StoreError::write(error))
    }
}

impl Writer {
    pub(crate) fn new(
        options: SqliteConnectOptions,
        connection: SqliteConnection,
        head: Head,
        batch_max: usize,
        on_commit: Box<dyn Fn(Duration, usize) + Send + Sync>,
        counters: Arc<Counters>,
        lock: File,
    ) -> Self {
        Self {
            options,
            connection: Some(connection),
            heads: vec![head],
            batch_max,
            on_commit,
            counters,
            lock: Some(lock),
        }
    }

    /// Takes what waits, writes it with one sync, answers, and again.
    pub(crate) async fn run(mut self, mut queue: mpsc::Receiver<Message>) {
        while let Some(first) = queue.recv().await {
            let (mut changes, mut replies, mut closing) = (Vec::new(), Vec::new(), None);
            let mut next = Some(first);
            while let Some(message) = next.take() {
                match message {
                    Message::Commit(change, reply) => {
                        changes.push(change);
                        replies.push(reply);
                        if changes.len() < self.batch_max {
                            next = queue.try_recv().ok();
                        }
                    }
                    Message::Close(reply) => closing = Some(reply),
                }
            }
            if !changes.is_empty() {
                self.write(changes, replies).await;
            }
            if let Some(reply) = closing {
                queue.close();
                if let Some(connection) = self.connection.take()
                    && let Err(error) = connection.close().await
                {
                    tracing::warn!(error = &error as &dyn std::error::Error, "store file did not close cleanly");
                }
                drop(self.lock.take());
                // Nobody waits for the answer if the caller is gone.
                let _ = reply.send(());
                return;
            }
        }
    }

    async fn write(&mut self, changes: Vec<Change>, replies: Vec<Reply>) {
        let begun = Instant::now();
        let count = changes.len();
        match self.transaction(changes).await {
            Ok((answers, head)) => {
                let took = begun.elapsed();
                self.heads = vec![head];
                self.counters.wrote(head);
                self.counters.commits.fetch_add(1, Ordering::Relaxed);
                let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
                self.counters.last_commit_micros.store(micros, Ordering::Relaxed);
                (self.on_commit)(took, count);
                for (reply, answer) in replies.into_iter().zip(answers) {
                    // A caller that is gone does not hear it; the change stands.
                    let _ = reply.send(answer);
                }
            }
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, changes = count, "store cannot write");
                // What the engine made of it is not known: begin with a new connection, which rolls back.
                if let Some(connection) = self.connection.take() {
                    let _ = connection.close().await;
                }
                for reply in replies {
                    let _ = reply.send(Err(error.clone()));
                }
            }
        }
    }

    async fn transaction(&mut self, changes: Vec<Change>) -> Result<(Vec<Answer>, Head), StoreError> {
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(connect(&self.options).await.map_err(StoreError::write)?),
        };
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(StoreError::write)?;
        let mut head = read_head(connection).await?;
        if !self.heads.contains(&head) {
            let expected = self.heads.first().map_or(0, |(seq, _)| *seq);
            return Err(StoreError::Altered { expected, found: head.0 });
        }
        self.heads = vec![head];
        let mut answers = Vec::with_capacity(changes.len());
        for change in changes {
            sqlx::query("SAVEPOINT one").execute(&mut *connection).await.map_err(StoreError::write)?;
            match apply(connection, change, head).await {
                Ok((appended, after)) => {
                    head = after;
                    answers.push(Ok(appended));
                }
                Err(Failure::Refused(error)) => {
                    sqlx::query("ROLLBACK TO one").execute(&mut *connection).await.map_err(StoreError::write)?;
                    answers.push(Err(error));
                }
                Err(Failure::Broken(error)) => return Err(error),
            }
            sqlx::query("RELEASE one").execute(&mut *connection).await.map_err(StoreError::write)?;
        }
        // Should the commit fail, either may turn out to be the end.
        self.heads.push(head);
        sqlx::query("COMMIT").execute(&mut *connection).await.map_err(StoreError::write)?;
        Ok((answers, head))
    }
}

async fn read_head(connection: &mut SqliteConnection) -> Result<Head, StoreError> {
    let row: Option<(i64, Vec<u8>)> = sqlx::query_as("SELECT seq, hash FROM records ORDER BY seq DESC LIMIT 1")
        .fetch_optional(connection)
        .await
        .map_err(StoreError::write)?;
    match row {
        Some((seq, hash)) => Ok((uint(seq), hash_of(seq, &hash)?)),
        None => Ok((0, icegate_pdp_audit::GENESIS)),
    }
}

pub(crate) fn hash_of(seq: i64, bytes: &[u8]) -> Result<Hash, StoreError> {
    bytes.try_into().map_err(|_| StoreError::Row { what: "record", id: seq.to_string() })
}

async fn apply(
    connection: &mut SqliteConnection,
    change: Change,
    mut head: Head,
) -> Result<(Vec<Appended>, Head), Failure> {
    for state in change.states {
        match state {
            StateChange::PutSession(session) => put_session(connection, &session).await?,
            StateChange::EndSession { session_id, state } => end_session(connection, &session_id, state).await?,
            StateChange::NeedSession { session_id } => need_session(connection, &session_id).await?,
            StateChange::PutRevocation(revocation) => {
                sqlx::query(
                    "INSERT INTO revocations (principal, not_before) VALUES (?, ?)
                     ON CONFLICT (principal) DO UPDATE SET not_before = max(not_before, excluded.not_before)",
                )
                .bind(revocation.principal_id)
                .bind(revocation.not_before.0)
                .execute(&mut *connection)
                .await?;
            }
            StateChange::PutApproval { approval, expected_version } => {
                put_approval(connection, &approval, expected_version).await?;
            }
            StateChange::PutTemporary { session_id, name, rows } => {
                let rows = rows.into_iter().map(|row| json(&row.body).map(|body| (row, body)));
                let rows = rows.collect::<Result<Vec<_>, _>>()?;
                temporary::put(connection, &session_id, &name.to_string(), &rows).await?;
            }
            StateChange::ForgetTemporaries { session_id } => temporary::forget(connection, &session_id).await?,
            StateChange::PutCatalog(change) => catalog::put(connection, *change).await?,
        }
    }
    let mut appended = Vec::with_capacity(change.events.len());
    for event in change.events {
        let one = append(connection, event, change.at, head).await?;
        if !one.repeated {
            head = (one.seq, one.hash);
        }
        appended.push(one);
    }
    Ok((appended, head))
}

async fn put_session(connection: &mut SqliteConnection, session: &SessionRow) -> Result<(), Failure> {
    let done = sqlx::query("INSERT INTO sessions (session_id, state, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
        .bind(&session.session_id)
        .bind(session.state.as_str())
        .bind(json(session)?)
        .execute(connection)
        .await?;
    one_changed(done.rows_affected(), "session")
}

async fn end_session(connection: &mut SqliteConnection, session_id: &str, state: SessionState) -> Result<(), Failure> {
    if state == SessionState::Active {
        return Err(Failure::Refused(StoreError::Invalid("a session does not end by being active".to_owned())));
    }
    let done = sqlx::query("UPDATE sessions SET state = ? WHERE session_id = ? AND state = 'active'")
        .bind(state.as_str())
        .bind(session_id)
        .execute(&mut *connection)
        .await?;
    temporary::forget(connection, session_id).await?;
    one_changed(done.rows_affected(), "session")
}

async fn need_session(connection: &mut SqliteConnection, session_id: &str) -> Result<(), Failure> {
    let active: i64 = sqlx::query_scalar("SELECT count(*) FROM sessions WHERE session_id = ? AND state = 'active'")
        .bind(session_id)
        .fetch_one(connection)
        .await?;
    one_changed(uint(active), "session")
}

async fn put_approval(
    connection: &mut SqliteConnection,
    approval: &Approval,
    expected_version: Option<u64>,
) -> Result<(), Failure> {
    if expected_version.is_some_and(|expected| approval.version <= expected) {
        let wrong = "an approval's version has to grow with each step".to_owned();
        return Err(Failure::Refused(StoreError::Invalid(wrong)));
    }
    let body = json(approval)?;
    let done = match expected_version {
        None => {
            sqlx::query("INSERT INTO approvals (id, version, body) VALUES (?, ?, ?) ON CONFLICT DO NOTHING")
                .bind(&approval.id)
                .bind(int(approval.version))
                .bind(body)
                .execute(connection)
                .await?
        }
        Some(expected) => {
            sqlx::query("UPDATE approvals SET version = ?, body = ? WHERE id = ? AND version = ?")
                .bind(int(approval.version))
                .bind(body)
                .bind(&approval.id)
                .bind(int(expected))
                .execute(connection)
                .await?
        }
    };
    one_changed(done.rows_affected(), "approval")
}

/// Exactly one row is what it has to be.
fn one_changed(rows: u64, what: &'static str) -> Result<(), Failure> {
    if rows == 1 { Ok(()) } else { Err(Failure::Refused(StoreError::Conflict(what))) }
}

pub(crate) fn json(value: &impl serde::Serialize) -> Result<String, Failure> {
    serde_json::to_string(value)
        .map_err(|_| Failure::Refused(StoreError::Invalid("a value cannot be written as JSON".to_owned())))
}

async fn append(
    connection: &mut SqliteConnection,
    event: Event,
    at: Timestamp,
    head: Head,
) -> Result<Appended, Failure> {
    if let Some(before) = on_record(connection, &event).await? {
        return Ok(before);
    }
    let seq = head.0.saturating_add(1);
    let record = Record { seq, at, event };
    let body = record.canonical();
    if body.len() > RECORD_BYTES_MAX {
        return Err(Failure::Refused(StoreError::TooLarge { bytes: body.len() }));
    }
    if body.is_empty() {
        return Err(Failure::Refused(StoreError::Invalid("a record cannot be written as JSON".to_owned())));
    }
    let hash = chain(&head.1, &body);
    sqlx::query("INSERT INTO records (seq, body, prev_hash, hash) VALUES (?, ?, ?, ?)")
        .bind(int(seq))
        .bind(body)
        .bind(head.1.as_slice())
        .bind(hash.as_slice())
        .execute(&mut *connection)
        .await?;
    // One statement for all words, whatever their number: it stays prepared.
    sqlx::query("INSERT INTO records_terms (term, seq) SELECT value, ? FROM json_each(?)")
        .bind(int(seq))
        .bind(json(&terms::of(&record.event))?)
        .execute(&mut *connection)
        .await?;
    link(connection, &record).await?;
    Ok(Appended { seq, hash, repeated: false })
}

/// Where an event stands that must not be written twice.
async fn on_record(connection: &mut SqliteConnection, event: &Event) -> Result<Option<Appended>, Failure> {
    let query = if let Event::Outcome(outcome) = event {
        // "Unknown" is no end but the lack of one: a PEP that tells it later is heard.
        sqlx::query_as(
            "SELECT r.seq, r.hash FROM runs JOIN records r ON r.seq = runs.outcome_seq
             WHERE runs.decision_id = ? AND (runs.status <> 'unknown' OR ? = 'unknown')",
        )
        .bind(&outcome.decision_id)
        .bind(outcome.status.as_str())
    } else if let Event::Decision(decision) = event {
        sqlx::query_as("SELECT r.seq, r.hash FROM runs JOIN records r ON r.seq = runs.seq WHERE runs.decision_id = ?")
            .bind(&decision.decision_id)
    } else if let Event::DeliveryCut(cut) = event {
        sqlx::query_as(
            "SELECT r.seq, r.hash FROM runs JOIN records r ON r.seq = runs.cut_seq WHERE runs.decision_id = ?",
        )
        .bind(&cut.decision_id)
    } else {
        return Ok(None);
    };
    let row: Option<(i64, Vec<u8>)> = query.fetch_optional(connection).await?;
    let Some((seq, hash)) = row else { return Ok(None) };
    // Only a PEP's journal delivers a decision twice; any other second one is a mistake, and must not look like a record.
    if matches!(event, Event::Decision(decision) if !decision.journaled) {
        return Err(Failure::Refused(StoreError::Conflict("decision")));
    }
    let hash = hash_of(seq, &hash).map_err(Failure::Broken)?;
    Ok(Some(Appended { seq: uint(seq), hash, repeated: true }))
}

/// Ties a decision, its outcome and what was cut of its result together.
async fn link(connection: &mut SqliteConnection, record: &Record) -> Result<(), Failure> {
    if let Event::Decision(decision) = &record.event {
        sqlx::query(
            "INSERT INTO runs (decision_id, seq, pep_id, pep_instance, runs) VALUES (?, ?, ?, ?, ?)
                 ON CONFLICT (decision_id) DO UPDATE SET seq = excluded.seq, pep_id = excluded.pep_id,
                     pep_instance = excluded.pep_instance, runs = excluded.runs",
        )
        .bind(&decision.decision_id)
        .bind(int(record.seq))
        .bind(&decision.pep_id)
        .bind(&decision.pep_instance)
        .bind(i64::from(decision.runs()))
        .execute(connection)
        .await?;
    } else if let Event::Outcome(outcome) = &record.event {
        sqlx::query(
            "INSERT INTO runs (decision_id, runs, outcome_seq, status) VALUES (?, 0, ?, ?)
                 ON CONFLICT (decision_id) DO UPDATE SET outcome_seq = excluded.outcome_seq, status = excluded.status",
        )
        .bind(&outcome.decision_id)
        .bind(int(record.seq))
        .bind(outcome.status.as_str())
        .execute(&mut *connection)
        .await?;
        temporary::ended(connection, outcome).await?;
    } else if let Event::DeliveryCut(cut) = &record.event {
        sqlx::query(
            "INSERT INTO runs (decision_id, runs, cut_seq) VALUES (?, 0, ?)
                 ON CONFLICT (decision_id) DO UPDATE SET cut_seq = excluded.cut_seq",
        )
        .bind(&cut.decision_id)
        .bind(int(record.seq))
        .execute(connection)
        .await?;
    }
    Ok(())
}
