use icegate_pdp_audit::RunStatus;
use icegate_pdp_model::{Outcome, Timestamp};
use serde::Deserialize;
use sqlx::{QueryBuilder, Row as _, Sqlite, sqlite::SqliteRow};

use crate::{
    Store, StoreError,
    read::{RecordColumns, RecordRow, int, rows},
    terms,
};

/// Records looked through at once when a text is looked for.
const SCAN_ROWS: u32 = 500;

/// The word for decisions a part of whose result was cut, among outcomes and statuses.
const CUT: &str = "cut";

/// What to look for. Every filter that is set has to fit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Search {
    /// Full principal id, or its part after the `/`.
    pub principal: Option<String>,
    /// Agent id.
    pub agent: Option<String>,
    /// From this moment on.
    pub from: Option<Timestamp>,
    /// Up to this moment, itself included.
    pub to: Option<Timestamp>,
    /// Object or column name, or any leading part of it.
    pub object: Option<String>,
    /// A decision's outcome, the status of its run, or [`CUT`].
    pub outcome: Option<String>,
    /// Text that occurs in the statement as the client sent it, without regard to case.
    pub text: Option<String>,
    /// Only what belongs to this decision.
    pub decision_id: Option<String>,
    /// At most this many, 1 to 1,000; 0 is 100.
    pub limit: u32,
    /// Only records before this one; 0 is from the newest.
    pub before_seq: u64,
}

/// Part of what was found, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// What was found.
    pub entries: Vec<Entry>,
    /// Where the next page begins, 0 if there is none.
    pub next_before_seq: u64,
}

/// One record, and for a decision how its run ended and that a part of its result was cut. These stand by themselves only
/// when their decision is not on record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// What was found.
    pub record: RecordRow,
    /// The outcome of the decision.
    pub outcome: Option<RecordRow>,
    /// The record of the cut.
    pub cut: Option<RecordRow>,
}

/// A search as the tables know it.
#[derive(Debug, Default)]
struct Plan {
    /// Words the record has, the rarest kind first: the first one leads the way through the table.
    terms: Vec<String>,
    /// Status of the decision's run.
    status: Option<&'static str>,
    /// Only decisions a part of whose result was cut.
    cut: bool,
}

impl Store {
    /// Looks through the trail, newest first.
    ///
    /// # Errors
    ///
    /// The limit or the outcome is none; the file cannot be read, or a record in it does not read.
    pub async fn search(&self, search: &Search) -> Result<Page, StoreError> {
        let plan = plan(search)?;
        let limit = rows(search.limit)?;
        let full = usize::try_from(limit).unwrap_or(usize::MAX);
        let needle = search.text.as_deref().map(str::to_lowercase);
        let fetch = if needle.is_some() { SCAN_ROWS } else { limit.saturating_add(1) };

        let mut before_seq = if search.before_seq == 0 { u64::MAX } else { search.before_seq };
        let mut entries: Vec<Entry> = Vec::new();
        loop {
            let found = self.fetch(&plan, search, before_seq, fetch).await?;
            let ended = found.len() < usize::try_from(fetch).unwrap_or(usize::MAX);
            for entry in found {
                before_seq = entry.record.seq;
                if let Some(needle) = &needle
                    && !statement_of(&entry.record)?.is_some_and(|sql| sql.to_lowercase().contains(needle))
                {
                    continue;
                }
                if entries.len() == full {
                    let next_before_seq = entries.last().map_or(0, |last| last.record.seq);
                    return Ok(Page { entries, next_before_seq });
                }
                entries.push(entry);
            }
            if ended {
                return Ok(Page { entries, next_before_seq: 0 });
            }
        }
    }

    async fn fetch(&self, plan: &Plan, search: &Search, before_seq: u64, fetch: u32) -> Result<Vec<Entry>, StoreError> {
        let mut query = QueryBuilder::<Sqlite>::new(
            "SELECT r.seq, r.body, r.prev_hash, r.hash, o.seq, o.body, o.prev_hash, o.hash, c.seq, c.body, c.prev_hash, c.hash FROM ",
        );
        // CROSS JOIN: SQLite keeps the order of the tables, so that rows come newest first without sorting.
        let (first, others) = match plan.terms.split_first() {
            Some((first, others)) => (Some(first), others),
            None => (None, plan.terms.as_slice()),
        };
        let lead = match (first, plan.status.is_some() || plan.cut) {
            (Some(_), _) => {
                query.push("records_terms t CROSS JOIN records r ON r.seq = t.seq LEFT JOIN runs d ON d.seq = r.seq");
                "t.seq"
            }
            (None, true) => {
                query.push("runs d CROSS JOIN records r ON r.seq = d.seq");
                "d.seq"
            }
            (None, false) => {
                query.push("records r LEFT JOIN runs d ON d.seq = r.seq");
                "r.seq"
            }
        };
        query.push(" LEFT JOIN records o ON o.seq = d.outcome_seq LEFT JOIN records c ON c.seq = d.cut_seq WHERE ");
        query.push(lead).push(" < ").push_bind(int(before_seq));
        if let Some(term) = first {
            query.push(" AND t.term = ").push_bind(term);
        }
        for term in others {
            query.push(" AND EXISTS (SELECT 1 FROM records_terms x WHERE x.seq = r.seq AND x.term = ").push_bind(term);
            query.push(")");
        }
        if let Some(status) = plan.status {
            query.push(" AND d.status = ").push_bind(status);
        }
        if plan.cut {
            query.push(" AND d.cut_seq IS NOT NULL");
        }
        if search.from.is_some() || search.to.is_some() {
            let from = search.from.map_or(i64::MIN, |from| from.0);
            let to = search.to.map_or(i64::MAX, |to| to.0);
            // The ends of the range from the index on time, which is small; then the way by number, which is the order.
            for (compare, end) in [(" >= ", "min"), (" <= ", "max")] {
                query.push(" AND ").push(lead).push(compare).push("(SELECT ").push(end);
                query.push("(seq) FROM records INDEXED BY records_at WHERE at BETWEEN ").push_bind(from);
                query.push(" AND ").push_bind(to).push(")");
            }
            query.push(" AND +r.at BETWEEN ").push_bind(from).push(" AND ").push_bind(to);
        }
        for ending in ["outcome_seq", "cut_seq"] {
            query.push(" AND NOT EXISTS (SELECT 1 FROM runs j WHERE j.").push(ending);
            query.push(" = r.seq AND j.seq IS NOT NULL)");
        }
        query.push(" ORDER BY ").push(lead).push(" DESC LIMIT ").push_bind(fetch);
        let found = query.build().fetch_all(&self.readers).await.map_err(StoreError::read)?;
        found.iter().map(entry).collect()
    }
}

fn plan(search: &Search) -> Result<Plan, StoreError> {
    let mut plan = Plan::default();
    plan.terms.extend(search.decision_id.as_deref().map(terms::decision));
    plan.terms.extend(search.principal.as_deref().map(terms::principal));
    plan.terms.extend(search.agent.as_deref().map(terms::agent));
    plan.terms.extend(search.object.as_deref().map(terms::object));
    if let Some(word) = search.outcome.as_deref() {
        let outcomes = [Outcome::Allow, Outcome::Deny, Outcome::Mask, Outcome::NeedsApproval];
        if outcomes.iter().any(|outcome| outcome.as_str() == word) {
            plan.terms.push(terms::outcome(word));
        } else if let Some(status) = RunStatus::ALL.iter().find(|status| status.as_str() == word) {
            plan.status = Some(status.as_str());
        } else if word == CUT {
            plan.cut = true;
        } else {
            let outcomes = outcomes.map(Outcome::as_str).join(", ");
            let statuses: Vec<&str> = RunStatus::ALL.iter().map(|status| status.as_str()).collect();
            return Err(StoreError::Invalid(format!(
                "`{word}` is neither an outcome ({outcomes}) nor a status ({}) nor `{CUT}`",
                statuses.join(", ")
            )));
        }
    }
    Ok(plan)
}

fn entry(row: &SqliteRow) -> Result<Entry, StoreError> {
    let record = columns(row, 0)?.ok_or_else(|| StoreError::Row { what: "record", id: String::new() })?;
    Ok(Entry { record, outcome: columns(row, 4)?, cut: columns(row, 8)? })
}

fn columns(row: &SqliteRow, first: usize) -> Result<Option<RecordRow>, StoreError> {
    let read = || -> Result<Option<RecordColumns>, sqlx::Error> {
        let Some(seq) = row.try_get::<Option<i64>, _>(first)? else { return Ok(None) };
        Ok(Some((seq, row.try_get(first + 1)?, row.try_get(first + 2)?, row.try_get(first + 3)?)))
    };
    read().map_err(StoreError::read)?.map(RecordRow::from_columns).transpose()
}

/// The statement in a record, if it has one.
fn statement_of(row: &RecordRow) -> Result<Option<String>, StoreError> {
    #[derive(Deserialize)]
    struct Body {
        event: Statement,
    }
    #[derive(Deserialize)]
    struct Statement {
        sql: Option<String>,
    }
    serde_json::from_slice::<Body>(&row.body)
        .map(|body| body.event.sql)
        .map_err(|_| StoreError::Row { what: "record", id: row.seq.to_string() })
}
