use std::collections::BTreeSet;

use icegate_pdp_approval::{Approval, State};
use icegate_pdp_audit::{DecisionEvent, Event, Hash, OutcomeEvent, Record};
use icegate_pdp_model::Timestamp;
use sqlx::{QueryBuilder, Sqlite};

use crate::{Revocation, SessionRow, SessionState, Store, StoreError, terms, writer::hash_of};

/// Rows of a page when none are named, and at most.
pub(crate) const PAGE_ROWS: u32 = 100;
pub(crate) const PAGE_ROWS_MAX: u32 = 1000;

/// A record's columns, in their order.
pub(crate) type RecordColumns = (i64, Vec<u8>, Vec<u8>, Vec<u8>);

/// One record as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordRow {
    /// Its place.
    pub seq: u64,
    /// Its canonical bytes.
    pub body: Vec<u8>,
    /// The hash of the record before it.
    pub prev_hash: Hash,
    /// Its hash.
    pub hash: Hash,
}

impl RecordRow {
    pub(crate) fn from_columns((seq, body, prev_hash, hash): RecordColumns) -> Result<Self, StoreError> {
        Ok(Self { seq: uint(seq), body, prev_hash: hash_of(seq, &prev_hash)?, hash: hash_of(seq, &hash)? })
    }

    /// What it says.
    ///
    /// # Errors
    ///
    /// Its bytes are not a record's.
    pub fn record(&self) -> Result<Record, StoreError> {
        Record::from_canonical(&self.body).map_err(|_| StoreError::Row { what: "record", id: self.seq.to_string() })
    }
}

/// Which sessions.
#[derive(Debug, Clone, Default)]
pub struct SessionFilter {
    /// Only this principal's, by its full id.
    pub principal_id: Option<String>,
    /// Only those that are active at this moment; `None` is all.
    pub active_at: Option<Timestamp>,
    /// At most this many, 1 to 1,000; 0 is 100.
    pub limit: u32,
}

/// Which approvals.
#[derive(Debug, Clone, Default)]
pub struct ApprovalFilter {
    /// Only those in one of these states, as last written down; empty is any.
    pub states: Vec<State>,
    /// Only for this statement.
    pub statement_sha256: Option<String>,
    /// Only those of this session.
    pub session_id: Option<String>,
    /// Only those this person may see: asked for by the principal with this id, or waiting for one of these groups.
    pub visible_to: Option<(String, BTreeSet<String>)>,
    /// At most this many, 1 to 1,000; 0 is 100.
    pub limit: u32,
}

/// A statement that was allowed, and whose end nobody told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRun {
    /// Its decision.
    pub decision_id: String,
    /// The session it ran in.
    pub session_id: String,
    /// The run of the PEP it belonged to.
    pub pep_instance: String,
    /// The decision's record.
    pub seq: u64,
}

impl Store {
    /// One session.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a row in it does not read.
    pub async fn session(&self, session_id: &str) -> Result<Option<SessionRow>, StoreError> {
        let row: Option<(String, String, String)> =
            sqlx::query_as("SELECT session_id, state, body FROM sessions WHERE session_id = ?")
                .bind(session_id)
                .fetch_optional(&self.readers)
                .await
                .map_err(StoreError::read)?;
        row.map(read_session).transpose()
    }

    /// Sessions, newest first.
    ///
    /// # Errors
    ///
    /// The limit is over 1,000; the file cannot be read, or a row in it does not read.
    pub async fn sessions(&self, filter: &SessionFilter) -> Result<Vec<SessionRow>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT session_id, state, body FROM sessions WHERE 1");
        if let Some(principal_id) = &filter.principal_id {
            query.push(" AND principal = ").push_bind(principal_id);
        }
        if let Some(now) = filter.active_at {
            query.push(" AND state = 'active' AND expires > ").push_bind(now.0);
        }
        query.push(" ORDER BY opened DESC, rowid DESC LIMIT ").push_bind(rows(filter.limit)?);
        let rows: Vec<(String, String, String)> =
            query.build_query_as().fetch_all(&self.readers).await.map_err(StoreError::read)?;
        rows.into_iter().map(read_session).collect()
    }

    /// Sessions still written down as active whose time is over, at most 1,000.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a row in it does not read.
    pub async fn sessions_due(&self, now: Timestamp) -> Result<Vec<SessionRow>, StoreError> {
        let rows: Vec<(String, String, String)> = sqlx::query_as(
            "SELECT session_id, state, body FROM sessions WHERE state = 'active' AND expires <= ? ORDER BY expires LIMIT ?",
        )
        .bind(now.0)
        .bind(PAGE_ROWS_MAX)
        .fetch_all(&self.readers)
        .await
        .map_err(StoreError::read)?;
        rows.into_iter().map(read_session).collect()
    }

    /// How many sessions are active.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a row in it does not read.
    pub async fn sessions_active(&self, now: Timestamp) -> Result<u64, StoreError> {
        sqlx::query_scalar("SELECT count(*) FROM sessions WHERE state = 'active' AND expires > ?")
            .bind(now.0)
            .fetch_one(&self.readers)
            .await
            .map(uint)
            .map_err(StoreError::read)
    }

    /// Every revocation, by principal.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a row in it does not read.
    pub async fn revocations(&self) -> Result<Vec<Revocation>, StoreError> {
        let rows: Vec<(String, i64)> =
            sqlx::query_as("SELECT principal, not_before FROM revocations ORDER BY principal")
                .fetch_all(&self.readers)
                .await
                .map_err(StoreError::read)?;
        Ok(rows
            .into_iter()
            .map(|(principal_id, not_before)| Revocation { principal_id, not_before: Timestamp(not_before) })
            .collect())
    }

    /// One approval.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a row in it does not read.
    pub async fn approval(&self, id: &str) -> Result<Option<Approval>, StoreError> {
        let body: Option<String> = sqlx::query_scalar("SELECT body FROM approvals WHERE id = ?")
            .bind(id)
            .fetch_optional(&self.readers)
            .await
            .map_err(StoreError::read)?;
        body.map(|body| read_approval(id, &body)).transpose()
    }

    /// Approvals, newest first.
    ///
    /// # Errors
    ///
    /// The limit is over 1,000; the file cannot be read, or a row in it does not read.
    pub async fn approvals(&self, filter: &ApprovalFilter) -> Result<Vec<Approval>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new("SELECT id, body FROM approvals WHERE 1");
        if !filter.states.is_empty() {
            query.push(" AND state IN (");
            let mut states = query.separated(", ");
            for state in &filter.states {
                states.push_bind(state.as_str());
            }
            query.push(")");
        }
        if let Some(statement) = &filter.statement_sha256 {
            query.push(" AND statement_sha256 = ").push_bind(statement);
        }
        if let Some(session_id) = &filter.session_id {
            query.push(" AND session_id = ").push_bind(session_id);
        }
        if let Some((principal_id, groups)) = &filter.visible_to {
            query.push(" AND (requester = ").push_bind(principal_id);
            query.push(" OR EXISTS (SELECT 1 FROM json_each(approvals.body, '$.groups') asked WHERE asked.value IN (");
            let mut values = query.separated(", ");
            for group in groups {
                values.push_bind(group);
            }
            query.push(")))");
        }
        query.push(" ORDER BY created DESC, rowid DESC LIMIT ").push_bind(rows(filter.limit)?);
        let rows: Vec<(String, String)> =
            query.build_query_as().fetch_all(&self.readers).await.map_err(StoreError::read)?;
        rows.iter().map(|(id, body)| read_approval(id, body)).collect()
    }

    /// Approvals that have expired and are not written down as such, oldest first, at most 1,000.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a row in it does not read.
    pub async fn approvals_due(&self, now: Timestamp) -> Result<Vec<Approval>, StoreError> {
        // As `Approval::state_at` has it.
        let rows: Vec<(String, String)> = sqlx::query_as(
            "SELECT id, body FROM approvals WHERE state IN ('pending', 'approved')
             AND CASE state WHEN 'approved' THEN ifnull(body ->> '$.execute_by', body ->> '$.approve_by')
                 ELSE body ->> '$.approve_by' END <= ?
             ORDER BY created, rowid LIMIT ?",
        )
        .bind(now.0)
        .bind(PAGE_ROWS_MAX)
        .fetch_all(&self.readers)
        .await
        .map_err(StoreError::read)?;
        rows.iter().map(|(id, body)| read_approval(id, body)).collect()
    }

    /// How many approvals somebody waits for.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub async fn approvals_pending(&self, now: Timestamp) -> Result<u64, StoreError> {
        // Both states, so that the index of open ones is used.
        sqlx::query_scalar(
            "SELECT count(*) FROM approvals WHERE state IN ('pending', 'approved') AND state = 'pending'
             AND body ->> '$.approve_by' > ?",
        )
        .bind(now.0)
        .fetch_one(&self.readers)
        .await
        .map(uint)
        .map_err(StoreError::read)
    }

    /// What was decided under this id.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a row in it does not read.
    pub async fn decision(&self, decision_id: &str) -> Result<Option<DecisionEvent>, StoreError> {
        let row = self
            .record_of("SELECT r.seq, r.body, r.prev_hash, r.hash FROM runs JOIN records r ON r.seq = runs.seq WHERE runs.decision_id = ?", decision_id)
            .await?;
        let record = row.map(|row| row.record()).transpose()?;
        Ok(record.and_then(|record| if let Event::Decision(decision) = record.event { Some(*decision) } else { None }))
    }

    /// How the run of this decision ended.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a row in it does not read.
    pub async fn outcome_of(&self, decision_id: &str) -> Result<Option<OutcomeEvent>, StoreError> {
        let row = self
            .record_of("SELECT r.seq, r.body, r.prev_hash, r.hash FROM runs JOIN records r ON r.seq = runs.outcome_seq WHERE runs.decision_id = ?", decision_id)
            .await?;
        let record = row.map(|row| row.record()).transpose()?;
        Ok(record.and_then(|record| if let Event::Outcome(outcome) = record.event { Some(outcome) } else { None }))
    }

    /// The statement of this session that ran under Snowflake's `query_id`, and how it ended; nothing when it is not one.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a row in it does not read.
    pub async fn run_of_query(
        &self,
        session_id: &str,
        query_id: &str,
    ) -> Result<Option<(DecisionEvent, OutcomeEvent)>, StoreError> {
        let rows: Vec<RecordColumns> = sqlx::query_as(
            "SELECT r.seq, r.body, r.prev_hash, r.hash FROM records_terms t JOIN records r ON r.seq = t.seq
             WHERE t.term = ? ORDER BY r.seq DESC LIMIT ?",
        )
        .bind(terms::query(query_id))
        .bind(PAGE_ROWS)
        .fetch_all(&self.readers)
        .await
        .map_err(StoreError::read)?;
        let mut outcomes = Vec::with_capacity(rows.len());
        for row in rows {
            if let Event::Outcome(outcome) = RecordRow::from_columns(row)?.record()?.event {
                outcomes.push(outcome);
            }
        }
        let Some(last) = outcomes.first() else { return Ok(None) };
        let own = outcomes.iter().all(|other| {
            other.decision_id == last.decision_id
                && other.session_id == session_id
                && other.query_id.as_deref() == Some(query_id)
        });
        if !own {
            return Ok(None);
        }
        let decision = self.decision(&last.decision_id).await?;
        Ok(decision.filter(|decision| decision.session_id == session_id).map(|decision| (decision, last.clone())))
    }

    /// Statements this PEP was allowed to send in an earlier run of it, without an outcome; oldest first, at most 1,000.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a row in it does not read.
    pub async fn open_runs(&self, pep_id: &str, except_instance: &str) -> Result<Vec<OpenRun>, StoreError> {
        let rows: Vec<(String, String, i64, Vec<u8>)> = sqlx::query_as(
            "SELECT runs.decision_id, runs.pep_instance, r.seq, r.body FROM runs JOIN records r ON r.seq = runs.seq
             WHERE runs.runs = 1 AND runs.outcome_seq IS NULL AND runs.pep_id = ? AND runs.pep_instance <> ?
             ORDER BY runs.seq LIMIT ?",
        )
        .bind(pep_id)
        .bind(except_instance)
        .bind(PAGE_ROWS_MAX)
        .fetch_all(&self.readers)
        .await
        .map_err(StoreError::read)?;
        rows.into_iter()
            .map(|(decision_id, pep_instance, seq, body)| {
                let event = Record::from_canonical(&body).map(|record| record.event);
                let Ok(Event::Decision(decision)) = event else {
                    return Err(StoreError::Row { what: "record", id: seq.to_string() });
                };
                Ok(OpenRun { decision_id, session_id: decision.session_id, pep_instance, seq: uint(seq) })
            })
            .collect()
    }

    /// Records in order, from `from_seq` (0 is the first) to `to_seq` (0 is the last), at most 1,000 at once: the next
    /// page begins after the last one given.
    ///
    /// # Errors
    ///
    /// The file cannot be read, or a row in it does not read.
    pub async fn export(&self, from_seq: u64, to_seq: u64) -> Result<Vec<RecordRow>, StoreError> {
        let to_seq = if to_seq == 0 { i64::MAX } else { int(to_seq) };
        let rows: Vec<RecordColumns> = sqlx::query_as(
            "SELECT seq, body, prev_hash, hash FROM records WHERE seq BETWEEN ? AND ? ORDER BY seq LIMIT ?",
        )
        .bind(int(from_seq))
        .bind(to_seq)
        .bind(PAGE_ROWS_MAX)
        .fetch_all(&self.readers)
        .await
        .map_err(StoreError::read)?;
        rows.into_iter().map(RecordRow::from_columns).collect()
    }

    async fn record_of(&self, sql: &'static str, decision_id: &str) -> Result<Option<RecordRow>, StoreError> {
        let row: Option<RecordColumns> =
            sqlx::query_as(sql).bind(decision_id).fetch_optional(&self.readers).await.map_err(StoreError::read)?;
        row.map(RecordRow::from_columns).transpose()
    }
}

/// Rows to fetch for a limit as it is asked for.
pub(crate) fn rows(limit: u32) -> Result<u32, StoreError> {
    match limit {
        0 => Ok(PAGE_ROWS),
        1..=PAGE_ROWS_MAX => Ok(limit),
        _ => Err(StoreError::Invalid(format!("the limit is `{limit}`; it may be 1 to {PAGE_ROWS_MAX}"))),
    }
}

/// SQLite has signed integers only.
pub(crate) fn int(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// Negative numbers are never written.
pub(crate) fn uint(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

pub(crate) fn read_session((session_id, state, body): (String, String, String)) -> Result<SessionRow, StoreError> {
    let state = SessionState::ALL.iter().copied().find(|known| known.as_str() == state);
    match (serde_json::from_str::<SessionRow>(&body), state) {
        (Ok(row), Some(state)) if row.session_id == session_id => Ok(SessionRow { state, ..row }),
        _ => Err(StoreError::Row { what: "session", id: session_id }),
    }
}

pub(crate) fn read_approval(id: &str, body: &str) -> Result<Approval, StoreError> {
    match serde_json::from_str::<Approval>(body) {
        Ok(approval) if approval.id == id => Ok(approval),
        _ => Err(StoreError::Row { what: "approval", id: id.to_owned() }),
    }
}
