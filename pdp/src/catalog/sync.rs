//! Reading the warehouse, database by database, over and over.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use icegate_pdp_model::RelationName;
use icegate_pdp_pip::warehouse::{
    Listed, Row, Tags, WarehouseDatabase, WarehouseRelation, columns, natures, read_rows, relation_tags, relations,
    tags, view_texts,
};
use icegate_proto::v1::{CatalogQuestion, CatalogTopic};
use tracing::{info, warn};

use super::{QUESTION_LONGEST, Reading, Syncing, link::Unanswered};
use crate::{CatalogConfig, clock, metrics, state::Pdp};

/// Rows of a page, and the fewest it is cut down to when the warehouse does not send so many at once.
const PAGE_ROWS: u32 = 1000;
const PAGE_ROWS_MIN: u32 = 10;
/// Most rows and bytes read of one database in one run.
const ROWS_MAX: usize = 5_000_000;
const BYTES_MAX: usize = 1024 * 1024 * 1024;
/// Most relations asked about one by one in one run, for their tags or a view's text. The others wait for the next.
const SINGLE_MAX: usize = 500;
/// The account's history of tags is up to two hours late (Snowflake docs, "`TAG_REFERENCES` view", read 2026-11): what was
/// changed since is asked about by itself.
const HISTORY_LATE_MS: i64 = 3 * 60 * 60 * 1000;

/// Reads all databases, then waits. Never returns.
pub(crate) async fn keep(pdp: Arc<Pdp>) {
    let Some(syncing) = pdp.syncing.as_ref() else { return };
    loop {
        syncing.link.connected().await;
        for database in &syncing.config.databases {
            run(&pdp, syncing, database).await;
        }
        tokio::time::sleep(syncing.config.every).await;
    }
}

async fn run(pdp: &Pdp, syncing: &Syncing, database: &str) {
    let before = pdp.facts.lock().await.warehouse.databases.get(database).cloned().unwrap_or_default();
    let known: BTreeMap<RelationName, WarehouseRelation> = {
        let facts = pdp.facts.lock().await;
        facts.warehouse.of_database(database).map(|(name, relation)| (name.clone(), relation.clone())).collect()
    };
    let now_ms = clock::now().0;
    let mut reader = Reader::new(syncing, database, "sync", syncing.config.run_longest);
    let outcome = reader.database(&before, &known, now_ms, &syncing.config).await;
    let reading = match outcome {
        Ok(mut reading) => {
            metrics::catalog_run("done");
            if let Some(found) = &mut reading.found {
                found.tried_ms = now_ms;
            }
            info!(changed = reading.put.len(), removed = reading.removed.len(), "database of the warehouse read");
            reading
        }
        Err(problem) => {
            metrics::catalog_run("failed");
            warn!(problem, "database of the warehouse not read; what is known of it stays");
            let found = WarehouseDatabase { tried_ms: now_ms, problem: Some(problem), ..before };
            Reading { database: database.to_owned(), found: Some(found), ..Reading::default() }
        }
    };
    if let Err(status) = pdp.take_reading(reading).await {
        metrics::catalog_run("failed");
        warn!(error = status.message(), "what was read of the warehouse is not in force");
    }
}

/// Asks about one database, within bounds.
pub(super) struct Reader<'a> {
    syncing: &'a Syncing,
    database: &'a str,
    purpose: &'static str,
    until: Instant,
    rows_left: usize,
    bytes_left: usize,
}

/// What a question is about, besides the database.
#[derive(Default, Clone, Copy)]
struct About<'a> {
    relation: Option<&'a RelationName>,
    changed_since_ms: i64,
}

impl<'a> Reader<'a> {
    pub(super) fn new(syncing: &'a Syncing, database: &'a str, purpose: &'static str, longest: Duration) -> Self {
        let until = Instant::now() + longest;
        Self { syncing, database, purpose, until, rows_left: ROWS_MAX, bytes_left: BYTES_MAX }
    }

    async fn database(
        &mut self,
        before: &WarehouseDatabase,
        known: &BTreeMap<RelationName, WarehouseRelation>,
        now_ms: i64,
        config: &CatalogConfig,
    ) -> Result<Reading, String> {
        let full_every = i64::try_from(config.full_every.as_millis()).unwrap_or(i64::MAX);
        let full = before.full_ms == 0 || now_ms.saturating_sub(before.full_ms) >= full_every;
        let about = About::default();
        let listed = self.all(CatalogTopic::Relations, about).await.map_err(|why| {
            format!("Its tables and views cannot be listed ({}); grant the role of icegate USAGE on it.", why.why())
        })?;
        let listed = relations(self.database, &listed);
        if listed.len() > config.relations_max {
            return Err(format!(
                "It has {} relations, and `catalog.relations_max` is {}; raise that.",
                listed.len(),
                config.relations_max
            ));
        }
        let changed: Vec<&Listed> = listed
            .iter()
            .filter(|one| full || known.get(&one.name).is_none_or(|known| known.altered_ms != one.altered_ms))
            .collect();
        let mut found = WarehouseDatabase { synced_ms: now_ms, ..before.clone() };
        if full {
            found.full_ms = now_ms;
        }
        found.problem = None;
        let history = self.routines_and_tags(&mut found).await;
        let put = self.changed(&changed, full, history, now_ms, config).await?;
        let present: BTreeSet<&RelationName> = listed.iter().map(|one| &one.name).collect();
        let removed = known.keys().filter(|name| !present.contains(name)).cloned().collect();
        Ok(Reading { database: self.database.to_owned(), found: Some(found), put, removed })
    }

    /// What is asked about whole. Says whether the tags were told; what was told before stays where nothing is now.
    async fn routines_and_tags(&mut self, found: &mut WarehouseDatabase) -> Result<(), Unanswered> {
        let mut problems = Vec::new();
        for (topic, procedures, what) in
            [(CatalogTopic::Functions, false, "functions"), (CatalogTopic::Procedures, true, "procedures")]
        {
            match self.all(topic, About::default()).await {
                Ok(rows) => {
                    let told = natures(self.database, &rows, procedures);
                    *(if procedures { &mut found.procedures } else { &mut found.functions }) = told;
                }
                Err(why) => problems.push(format!("Its {what} cannot be listed ({}).", why.why())),
            }
        }
        let history = self.all(CatalogTopic::Tags, About::default()).await;
        let history = history.map(|rows| found.tags = tags(self.database, &rows));
        if let Err(why) = &history {
            problems.push(format!(
                "The history of tags cannot be read ({}); grant the role of icegate the database role SNOWFLAKE.GOVERNANCE_VIEWER.",
                why.why()
            ));
        }
        if !problems.is_empty() {
            found.problem = Some(problems.join(" "));
        }
        history
    }

    async fn changed(
        &mut self,
        changed: &[&Listed],
        full: bool,
        history: Result<(), Unanswered>,
        now_ms: i64,
        config: &CatalogConfig,
    ) -> Result<BTreeMap<RelationName, WarehouseRelation>, String> {
        let mut put = BTreeMap::new();
        let Some(since) = changed.iter().map(|one| one.altered_ms).min() else { return Ok(put) };
        let about = About { relation: None, changed_since_ms: if full { 0 } else { since } };
        let told = self.all(CatalogTopic::Columns, about).await;
        let told = told.map_err(|why| format!("Its columns cannot be listed ({}).", why.why()))?;
        let mut columns = columns(self.database, &told);
        let mut texts = BTreeMap::new();
        if changed.iter().any(|one| one.view) {
            // Where this is not told, each view is asked about by itself.
            texts = self
                .all(CatalogTopic::Views, about)
                .await
                .map(|rows| view_texts(self.database, &rows))
                .unwrap_or_default();
        }
        let mut single_left = SINGLE_MAX;
        let mut waiting = 0_usize;
        for one in changed {
            let fresh = one.altered_ms == 0 || now_ms.saturating_sub(one.altered_ms) < HISTORY_LATE_MS;
            let ask_tags = fresh || history.is_err();
            let ask_text = one.view && !texts.contains_key(&one.name);
            let asks = usize::from(ask_tags) + usize::from(ask_text);
            if asks > single_left {
                waiting += 1;
                continue;
            }
            single_left -= asks;
            let text = if ask_text { self.text(&one.name).await } else { Ok(texts.remove(&one.name)) };
            let tags = if ask_tags { self.tags_of(&one.name, config).await } else { Ok(Tags::default()) };
            let columns = Ok(columns.remove(&one.name).unwrap_or_default());
            put.insert(one.name.clone(), WarehouseRelation::new(one, columns, text, tags));
        }
        if waiting > 0 {
            info!(waiting, "relations wait for the next run");
        }
        Ok(put)
    }

    /// Everything about one relation, as it is now; `None` when there is none of this name.
    pub(super) async fn relation(
        &mut self,
        name: &RelationName,
        config: &CatalogConfig,
    ) -> Result<Option<WarehouseRelation>, Unanswered> {
        let about = About { relation: Some(name), changed_since_ms: 0 };
        let listed = relations(self.database, &self.all(CatalogTopic::Relations, about).await?);
        let Some(listed) = listed.into_iter().find(|one| one.name == *name) else { return Ok(None) };
        let told = self.all(CatalogTopic::Columns, about).await;
        let columns = told.map(|rows| columns(self.database, &rows).remove(name).unwrap_or_default());
        let columns = columns.map_err(|why| format!("Its columns cannot be read ({}).", why.why()));
        let text = if listed.view { self.text(name).await } else { Ok(None) };
        let tags = self.tags_of(name, config).await;
        Ok(Some(WarehouseRelation::new(&listed, columns, text, tags)))
    }

    async fn text(&mut self, name: &RelationName) -> Result<Option<String>, String> {
        let about = About { relation: Some(name), changed_since_ms: 0 };
        match self.all(CatalogTopic::ViewText, about).await {
            Ok(rows) => Ok(rows.into_iter().next().and_then(|row| row.into_iter().next()).flatten()),
            Err(why) => Err(format!(
                "Its text cannot be read ({}); grant the role of icegate ownership, or catalogue the view by hand.",
                why.why()
            )),
        }
    }

    async fn tags_of(&mut self, name: &RelationName, config: &CatalogConfig) -> Result<Tags, String> {
        let about = About { relation: Some(name), changed_since_ms: 0 };
        match self.all(CatalogTopic::RelationTags, about).await {
            Ok(rows) => Ok(relation_tags(&rows)),
            Err(_) if config.danger_without_tags => Ok(Tags::default()),
            Err(why) => Err(format!(
                "Its tags cannot be read ({}), and without them nothing would mask it; grant the role of icegate SELECT and APPLY TAG, or catalogue it by hand.",
                why.why()
            )),
        }
    }

    /// All pages of one topic.
    async fn all(&mut self, topic: CatalogTopic, about: About<'_>) -> Result<Vec<Row>, Unanswered> {
        let mut rows: Vec<Row> = Vec::new();
        let mut rows_max = PAGE_ROWS;
        let mut after = Vec::new();
        loop {
            let left = self.until.saturating_duration_since(Instant::now()).min(QUESTION_LONGEST);
            if left.is_zero() {
                return Err(Unanswered::Timeout);
            }
            let question = CatalogQuestion {
                topic: topic.into(),
                database: self.database.to_owned(),
                schema: about.relation.map(|name| name.schema.clone()).unwrap_or_default(),
                relation: about.relation.map(|name| name.name.clone()).unwrap_or_default(),
                changed_since_unix_ms: about.changed_since_ms,
                after: after.clone(),
                rows_max,
                purpose: self.purpose.to_owned(),
                ..CatalogQuestion::default()
            };
            let page = match self.syncing.link.ask(question, left).await {
                Err(Unanswered::Failed(word))
                    if matches!(word.as_str(), "chunked" | "too-large") && rows_max > PAGE_ROWS_MIN =>
                {
                    rows_max = (rows_max / 4).max(PAGE_ROWS_MIN);
                    continue;
                }
                page => page?,
            };
            let told = read_rows(&page.rows_json).map_err(|_| Unanswered::Failed("format".to_owned()))?;
            let over = || Unanswered::Failed("too-large".to_owned());
            self.rows_left = self.rows_left.checked_sub(told.len()).ok_or_else(over)?;
            self.bytes_left = self.bytes_left.checked_sub(page.rows_json.len()).ok_or_else(over)?;
            let next = told.last().map(|row| key(topic, row)).unwrap_or_default();
            rows.extend(told);
            if !page.more {
                return Ok(rows);
            }
            // A page that leads nowhere would be asked for for ever.
            if next.is_empty() || next == after {
                return Err(Unanswered::Failed("format".to_owned()));
            }
            after = next;
        }
    }
}

/// What pages are ordered by; as the PEP orders them.
fn key(topic: CatalogTopic, row: &Row) -> Vec<String> {
    let cells: &[usize] = match topic {
        CatalogTopic::Unspecified | CatalogTopic::ViewText => &[],
        CatalogTopic::Relations | CatalogTopic::Views => &[0, 1],
        CatalogTopic::Columns => &[0, 1, 3],
        CatalogTopic::Functions | CatalogTopic::Procedures | CatalogTopic::RelationTags => &[0, 1, 2],
        CatalogTopic::Tags => &[0, 1, 2, 4, 6, 7],
    };
    cells.iter().map(|cell| row.get(*cell).cloned().flatten().unwrap_or_default()).collect()
}
