use std::collections::HashMap;

use icegate_pdp_audit::{ChainBreak, Event, Record, RunStatus, Verifier};
use icegate_pdp_model::with_causes;
use sha2::{Digest as _, Sha256};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};

use crate::{
    Store, StoreError,
    read::{RecordColumns, int, uint},
    store::{MIGRATIONS, connect},
    terms,
};

use states::States;

mod states;

/// Rows compared at once.
const CHECK_ROWS: u32 = 1000;
/// Findings named one by one.
const FINDINGS_MAX: usize = 100;

/// What the store found when it checked all of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntegrityReport {
    /// Empty when sound.
    pub problems: Vec<String>,
    /// Records that hold together, from the first.
    pub records: u64,
    /// Hash of the last of them: what to keep elsewhere.
    pub head: icegate_pdp_audit::Hash,
}

/// For each record, a sum over what the side tables should say of it, less what they do say. Zero where they agree.
#[derive(Default)]
struct Tally {
    sums: HashMap<u64, u128>,
    /// Outcomes that say "unknown", by decision: the one that is learnt later takes their place.
    unknown: HashMap<String, u64>,
}

/// What the trail says.
#[derive(Default)]
struct Said {
    tally: Tally,
    states: States,
    /// The last record this process wrote, and its hash.
    wrote: (u64, icegate_pdp_audit::Hash),
    /// Another one stands in its place.
    other: bool,
}

impl Store {
    /// Checks everything: the engine's own file, its schema, every hash of the trail, and that what searches use says
    /// what the records say. Reads the whole file.
    ///
    /// # Errors
    ///
    /// The check itself could not be made.
    pub async fn integrity(&self) -> Result<IntegrityReport, StoreError> {
        // Before the transaction: what was written by now has to be in it.
        let wrote = self.head();
        // One transaction, so that all of it sees the same moment.
        let mut transaction = self.readers.begin().await.map_err(StoreError::read)?;
        let connection: &mut SqliteConnection = &mut transaction;
        let mut problems = engine(connection).await;
        problems.extend(schema(connection).await?);

        let (mut verifier, mut said) = (Verifier::new(), Said { wrote, ..Said::default() });
        match trail(connection, &mut verifier, &mut said).await {
            // Side tables of a file that is broken already could only be compared with guesses.
            Ok(None) if problems.is_empty() => {
                problems.extend(side_tables(connection, said.tally).await?);
                problems.extend(said.states.compare(connection).await?);
            }
            Ok(None) => {}
            Ok(Some(found)) => problems.push(with_causes(&found)),
            Err(error) => problems.push(with_causes(&error)),
        }
        let (records, head) = verifier.head();
        if said.other {
            problems.push(format!("record {} is not the one this process wrote", wrote.0));
        } else if records < wrote.0 && problems.is_empty() {
            problems.push(format!("the trail ends at record {records}, and this process wrote record {}", wrote.0));
        }
        Ok(IntegrityReport { problems, records, head })
    }
}

/// What SQLite says of its pages, indexes and references.
async fn engine(connection: &mut SqliteConnection) -> Vec<String> {
    let mut problems = Vec::new();
    match sqlx::query_scalar::<_, String>("PRAGMA integrity_check(100)").fetch_all(&mut *connection).await {
        Ok(lines) => problems.extend(lines.into_iter().filter(|line| line != "ok")),
        Err(error) => problems.push(with_causes(&error)),
    }
    match sqlx::query("PRAGMA foreign_key_check").fetch_all(connection).await {
        Ok(rows) if rows.is_empty() => {}
        Ok(rows) => problems.push(format!("{} rows name a record that does not exist", rows.len())),
        Err(error) => problems.push(with_causes(&error)),
    }
    problems
}

/// Compares tables, indexes and triggers with those of a new store.
async fn schema(connection: &mut SqliteConnection) -> Result<Vec<String>, StoreError> {
    const SCHEMA: &str = "SELECT type || ' `' || name || '`', sql FROM sqlite_schema
        WHERE sql IS NOT NULL AND name NOT LIKE 'sqlite!_%' ESCAPE '!'";
    type Schema = HashMap<String, String>;

    let read = sqlx::query_as(SCHEMA).fetch_all(connection).await;
    let found: Schema = match read {
        Ok(rows) => rows.into_iter().collect::<Vec<(String, String)>>().into_iter().collect(),
        Err(error) => return Ok(vec![with_causes(&error)]),
    };
    let mut new = connect(&SqliteConnectOptions::new().in_memory(true)).await.map_err(StoreError::read)?;
    MIGRATIONS.run(&mut new).await.map_err(|error| StoreError::Migrate(std::sync::Arc::new(error)))?;
    let rows: Vec<(String, String)> = sqlx::query_as(SCHEMA).fetch_all(&mut new).await.map_err(StoreError::read)?;
    let wanted: Schema = rows.into_iter().collect();

    let mut problems: Vec<String> = wanted
        .iter()
        .filter(|(name, sql)| found.get(*name) != Some(sql))
        .map(|(name, _)| format!("{name} is missing or altered"))
        .chain(found.keys().filter(|name| !wanted.contains_key(*name)).map(|name| format!("{name} was added")))
        .collect();
    problems.sort();
    Ok(problems)
}

/// Follows the chain, and adds up what the side tables should say. Stops at the first break.
async fn trail(
    connection: &mut SqliteConnection,
    verifier: &mut Verifier,
    said: &mut Said,
) -> Result<Option<ChainBreak>, StoreError> {
    loop {
        let (last, _) = verifier.head();
        let rows: Vec<RecordColumns> =
            sqlx::query_as("SELECT seq, body, prev_hash, hash FROM records WHERE seq > ? ORDER BY seq LIMIT ?")
                .bind(int(last))
                .bind(CHECK_ROWS)
                .fetch_all(&mut *connection)
                .await
                .map_err(StoreError::read)?;
        if rows.is_empty() {
            break;
        }
        for (seq, body, prev_hash, hash) in &rows {
            match verifier.push(uint(*seq), body, prev_hash, hash) {
                Ok(record) => {
                    said.tally.expect(&record);
                    said.states.follow(&record);
                    said.other |= record.seq == said.wrote.0 && verifier.head() != said.wrote;
                }
                Err(found) => return Ok(Some(found)),
            }
        }
    }
    // Numbers from 0 down would come before the first.
    let below: i64 = sqlx::query_scalar("SELECT count(*) FROM records WHERE seq < 1")
        .fetch_one(connection)
        .await
        .map_err(StoreError::read)?;
    Ok((below > 0).then_some(ChainBreak::Gap { expected: 1, found: 0 }))
}

/// Takes off what the side tables do say, and names the records where something is left over.
async fn side_tables(connection: &mut SqliteConnection, mut tally: Tally) -> Result<Vec<String>, StoreError> {
    let mut after = (String::new(), i64::MIN);
    loop {
        let rows: Vec<(String, i64)> =
            sqlx::query_as("SELECT term, seq FROM records_terms WHERE (term, seq) > (?, ?) ORDER BY term, seq LIMIT ?")
                .bind(&after.0)
                .bind(after.1)
                .bind(CHECK_ROWS)
                .fetch_all(&mut *connection)
                .await
                .map_err(StoreError::read)?;
        let Some(last) = rows.last() else { break };
        after.clone_from(last);
        for (term, seq) in rows {
            tally.take(uint(seq), term_sum(&term));
        }
    }
    let mut problems = runs(connection, &mut tally).await?;

    let mut differing: Vec<u64> = tally.sums.into_iter().filter(|(_, sum)| *sum != 0).map(|(seq, _)| seq).collect();
    differing.sort_unstable();
    let more = differing.len().saturating_sub(FINDINGS_MAX);
    problems.extend(
        differing
            .into_iter()
            .take(FINDINGS_MAX)
            .map(|seq| format!("what searches use of record {seq} is not what the record says")),
    );
    if more > 0 {
        problems.push(format!("and of {more} records more"));
    }
    Ok(problems)
}

async fn runs(connection: &mut SqliteConnection, tally: &mut Tally) -> Result<Vec<String>, StoreError> {
    type Run = (String, Option<i64>, Option<String>, Option<String>, i64, Option<i64>, Option<String>, Option<i64>);
    let mut problems = Vec::new();
    let mut after = String::new();
    loop {
        let rows: Vec<Run> = sqlx::query_as(
            "SELECT decision_id, seq, pep_id, pep_instance, runs, outcome_seq, status, cut_seq FROM runs
             WHERE decision_id > ? ORDER BY decision_id LIMIT ?",
        )
        .bind(&after)
        .bind(CHECK_ROWS)
        .fetch_all(&mut *connection)
        .await
        .map_err(StoreError::read)?;
        let Some(last) = rows.last() else { return Ok(problems) };
        after.clone_from(&last.0);
        for (decision_id, seq, pep_id, pep_instance, runs, outcome_seq, status, cut_seq) in rows {
            match (seq, pep_id, pep_instance, runs) {
                (Some(seq), Some(pep_id), Some(pep_instance), runs) => {
                    tally.take(uint(seq), decision_sum(&decision_id, &pep_id, &pep_instance, runs == 1));
                }
                (None, None, None, 0) => {}
                _ => problems.push(format!("the run of decision `{decision_id}` is half written")),
            }
            match (outcome_seq, status) {
                (Some(seq), Some(status)) => tally.take(uint(seq), outcome_sum(&decision_id, &status)),
                (None, None) => {}
                _ => problems.push(format!("the outcome of decision `{decision_id}` is half written")),
            }
            if let Some(seq) = cut_seq {
                tally.take(uint(seq), cut_sum(&decision_id));
            }
        }
    }
}

impl Tally {
    fn expect(&mut self, record: &Record) {
        let mut sum = terms::of(&record.event).iter().fold(0u128, |sum, term| sum.wrapping_add(term_sum(term)));
        if let Event::Decision(decision) = &record.event {
            sum = sum.wrapping_add(decision_sum(
                &decision.decision_id,
                &decision.pep_id,
                &decision.pep_instance,
                decision.runs(),
            ));
        } else if let Event::Outcome(outcome) = &record.event {
            if let Some(unknown) = self.unknown.remove(&outcome.decision_id) {
                self.take(unknown, outcome_sum(&outcome.decision_id, RunStatus::Unknown.as_str()));
            }
            if outcome.status == RunStatus::Unknown {
                self.unknown.insert(outcome.decision_id.clone(), record.seq);
            }
            sum = sum.wrapping_add(outcome_sum(&outcome.decision_id, outcome.status.as_str()));
        } else if let Event::DeliveryCut(cut) = &record.event {
            sum = sum.wrapping_add(cut_sum(&cut.decision_id));
        }
        let entry = self.sums.entry(record.seq).or_default();
        *entry = entry.wrapping_add(sum);
    }

    fn take(&mut self, seq: u64, sum: u128) {
        let entry = self.sums.entry(seq).or_default();
        *entry = entry.wrapping_sub(sum);
    }
}

fn term_sum(term: &str) -> u128 {
    sum(&["term", term])
}

fn decision_sum(decision_id: &str, pep_id: &str, pep_instance: &str, runs: bool) -> u128 {
    sum(&["decision", decision_id, pep_id, pep_instance, if runs { "runs" } else { "" }])
}

fn outcome_sum(decision_id: &str, status: &str) -> u128 {
    sum(&["outcome", decision_id, status])
}

fn cut_sum(decision_id: &str) -> u128 {
    sum(&["cut", decision_id])
}

fn sum(fields: &[&str]) -> u128 {
    let mut hasher = Sha256::new();
    for field in fields {
        hasher.update(field.len().to_be_bytes());
        hasher.update(field.as_bytes());
    }
    hasher.finalize().iter().take(16).fold(0, |sum, byte| (sum << 8) | u128::from(*byte))
}
