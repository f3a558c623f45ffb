//! The masks of results: what a decision says they wear, the keys for it, and what is done to each result.
//!
//! What a statement's results wear is settled before it is sent ([`Masking::pin`]): every mask is known, fits a promised
//! column and has its key, named by its id from then on, so that a new key never splits one result. The rows are masked
//! wherever they pass: in a reply ([`Worn::plan`]) and in each part from storage ([`Part`]), whose address carries the plan.

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use arc_swap::ArcSwap;
use bytes::Bytes;
use icegate_pep_masking::{
    Alphabet, ArrowMasker, ColumnType, Detector, JsonMasker, Key, KeyError, KeyRef, KeySource, Limits, MaskSource,
    MaskSpec, MaskedBatch, MaskedColumn, MaskingError, Pattern, PatternError, Plan, PlanSpec, Scanner, Shape,
    SpecError,
};
use icegate_pep_protocol::{
    ChunkFormat, PepCode, Reply,
    reply::{ReplyRefusal, Rows},
};
use icegate_proto::v1::{ResultMask, ResultShape, result_mask};
use serde::{Deserialize, Serialize};
use tokio::task::JoinHandle;
use tracing::warn;

use crate::{
    chunk::{Treated, Treatment, Untreatable},
    config::{
        self, MaskKeys,
        secrets::{self, ReadKeys, SecretsError},
    },
    metrics::{MASKED_CELLS, REPLIES_WITHHELD},
    refuse::Stop,
};

/// What masks of results are applied with, for all connections.
pub(crate) struct Masking {
    from: Option<MaskKeys>,
    keys: ArcSwap<ReadKeys>,
    patterns: Vec<Pattern>,
    /// One per set of detectors that was asked for; there are few.
    scanners: Mutex<HashMap<Vec<Detector>, Arc<Scanner>>>,
}

impl fmt::Debug for Masking {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masking").field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// What the results of one request wear. Keys are named by their ids.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Worn(Vec<WornColumn>);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WornColumn {
    /// The statement, from 0.
    statement: usize,
    /// Its position in the result, from 0.
    at: usize,
    mask: MaskSpec,
}

/// How one result is masked.
#[derive(Debug)]
pub(crate) struct ResultPlan {
    spec: PlanSpec,
    plan: Arc<Plan>,
}

impl Masking {
    pub(crate) fn new(config: &config::Masking, keys: ReadKeys) -> Self {
        Self {
            from: config.keys.clone(),
            keys: ArcSwap::from_pointee(keys),
            patterns: config.patterns.clone(),
            scanners: Mutex::default(),
        }
    }

    /// Reads the keys again, and says whether they are others. What cannot be used leaves the keys before in force.
    pub(crate) fn reread(&self) -> Result<bool, SecretsError> {
        let Some(from) = &self.from else { return Ok(false) };
        let fresh = secrets::mask_keys(from)?;
        let others = fresh.digest != self.keys.load().digest;
        self.keys.store(Arc::new(fresh));
        Ok(others)
    }

    /// What the results of a request wear, every mask known, possible, and its key at hand.
    pub(crate) fn pin(&self, asked: &[ResultMask], shapes: &[ResultShape]) -> Result<Worn, Stop> {
        let pinned = asked.iter().map(|asked| self.pinned(asked, shapes)).collect::<Result<_, _>>();
        pinned.map(Worn).map_err(|why| {
            warn!(why, "a mask cannot be applied");
            let message = format!(
                "This proxy cannot mask the result as the policy asks ({why}), so nothing was sent to Snowflake. Leave the masked columns out, and tell whoever runs icegate."
            );
            Stop::new(PepCode::MaskUnavailable, message)
        })
    }

    fn pinned(&self, asked: &ResultMask, shapes: &[ResultShape]) -> Result<WornColumn, String> {
        let from_zero = |number: u32| usize::try_from(number).ok()?.checked_sub(1);
        let place = from_zero(asked.statement).zip(from_zero(asked.ordinal)).filter(|(statement, at)| {
            shapes.get(*statement).is_some_and(|shape| shape.promised && *at < shape.columns.len())
        });
        let (statement, at) = place.ok_or("it masks a column that was not promised")?;
        let mask = asked.mask.as_ref().and_then(known).ok_or("it is no mask this version knows")?;
        let mask = mask.pinned(self).map_err(|error| error.to_string())?;
        Ok(WornColumn { statement, at, mask })
    }

    /// The plan an address of a part was sealed with.
    pub(crate) fn sealed(&self, masks: &serde_json::Value) -> Result<ResultPlan, String> {
        let spec = PlanSpec::deserialize(masks).map_err(|error| error.to_string())?;
        self.ready(spec).map_err(|error| error.to_string())
    }

    fn ready(&self, spec: PlanSpec) -> Result<ResultPlan, SpecError> {
        let plan = Arc::new(spec.plan(self, Limits::default())?);
        Ok(ResultPlan { spec, plan })
    }
}

impl KeySource for Masking {
    fn key(&self, wanted: &KeyRef) -> Result<Arc<Key>, KeyError> {
        self.keys.load().ring.key(wanted)
    }
}

impl MaskSource for Masking {
    fn scanner(&self, detectors: &[Detector]) -> Result<Arc<Scanner>, PatternError> {
        let mut scanners = self.scanners.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(scanner) = scanners.get(detectors) {
            return Ok(Arc::clone(scanner));
        }
        let scanner = Arc::new(Scanner::new(detectors, &self.patterns)?);
        scanners.insert(detectors.to_vec(), Arc::clone(&scanner));
        Ok(scanner)
    }
}

/// Detectors in one order and each once: so there are no more scanners than sets of them.
fn detectors(words: &[String]) -> Option<Vec<Detector>> {
    let mut detectors = words.iter().map(|word| word.parse().ok()).collect::<Option<Vec<Detector>>>()?;
    detectors.sort_unstable();
    detectors.dedup();
    (!detectors.is_empty()).then_some(detectors)
}

fn known(mask: &result_mask::Mask) -> Option<MaskSpec> {
    Some(match mask {
        result_mask::Mask::Tokenize(asked) => {
            MaskSpec::Tokenize { key: asked.key.parse().ok()?, domain: asked.domain.clone() }
        }
        result_mask::Mask::FormatPreserving(asked) => MaskSpec::Fpe {
            key: asked.key.parse().ok()?,
            domain: asked.domain.clone(),
            alphabet: Alphabet::parse(&asked.alphabet)?,
        },
        result_mask::Mask::Scan(asked) => MaskSpec::Scan { detectors: detectors(&asked.detectors)? },
    })
}

impl Worn {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// What the result of one of several statements wears, as the only one.
    pub(crate) fn of(&self, statement: usize) -> Self {
        let its = self.0.iter().filter(|column| column.statement == statement);
        Self(its.map(|column| WornColumn { statement: 0, ..column.clone() }).collect())
    }

    /// How the result in a reply is masked; nothing when it passes as it is. `shape` is what was promised of it.
    pub(crate) fn plan(
        &self,
        masking: &Masking,
        reply: &Reply<'_>,
        shape: Option<&ResultShape>,
    ) -> Result<Option<ResultPlan>, ReplyRefusal> {
        if self.is_empty() || !reply.is_success() || reply.is_in_progress() || reply.is_overview() {
            return Ok(None);
        }
        // Masks go by position: without the promised columns there is none.
        let promised = shape.filter(|shape| shape.promised).ok_or(ReplyRefusal::Shape)?;
        let columns = reply.columns().filter(|columns| columns.len() == promised.columns.len());
        let columns = columns.ok_or(ReplyRefusal::Shape)?;
        let masked = self.0.iter().map(|WornColumn { statement, at, mask }| {
            let column = columns.get(*at).filter(|_| *statement == 0).ok_or(ReplyRefusal::Shape)?;
            let column_type = ColumnType::parse(column.logical_type, column.precision, column.scale, column.length);
            let column_type = column_type.map_err(|error| withheld(&error))?;
            Ok(MaskedColumn { at: *at, name: column.name.to_owned(), column_type, mask: mask.clone() })
        });
        let masked = masked.collect::<Result<_, ReplyRefusal>>()?;
        let spec = PlanSpec { columns: columns.len(), masked };
        masking.ready(spec).map(Some).map_err(|error| withheld(&error))
    }
}

fn withheld(why: &dyn fmt::Display) -> ReplyRefusal {
    ReplyRefusal::Masking { why: why.to_string() }
}

impl ResultPlan {
    /// The plan of Arrow rows without a mask of the result: what stands under a NULL and between values is left out, where
    /// what masks in the statement hide can have stayed. JSON has no such places.
    pub(crate) fn only_what_is_shown() -> Self {
        let spec = PlanSpec { columns: 0, masked: Vec::new() };
        Self { spec, plan: Arc::new(Plan::unmasked(Limits::default())) }
    }

    /// As an address of a part carries it.
    pub(crate) fn to_seal(&self) -> Option<serde_json::Value> {
        serde_json::to_value(&self.spec).ok()
    }

    /// The rows of a reply, masked.
    pub(crate) fn mask(&self, rows: &Rows<'_>) -> Result<Vec<u8>, ReplyRefusal> {
        let (mut masker, bytes) = match rows {
            Rows::Json(text) => (self.masker(ChunkFormat::Json, Shape::Rowset), text.as_bytes()),
            Rows::Arrow(bytes) => (self.masker(ChunkFormat::Arrow, Shape::Rowset), bytes.as_slice()),
        };
        let out = masker.whole(bytes).map_err(|error| withheld(&error))?;
        self.count(masker.rows());
        Ok(out)
    }

    fn masker(&self, format: ChunkFormat, shape: Shape) -> Masker {
        match format {
            ChunkFormat::Json => Masker::Json(Box::new(JsonMasker::new(Arc::clone(&self.plan), shape))),
            ChunkFormat::Arrow => Masker::Arrow(Box::new(ArrowMasker::new(Arc::clone(&self.plan)))),
        }
    }

    fn count(&self, rows: u64) {
        for column in &self.spec.masked {
            metrics::counter!(MASKED_CELLS, "mask" => column.mask.name()).increment(rows);
        }
    }
}

enum Masker {
    Json(Box<JsonMasker>),
    Arrow(Box<ArrowMasker>),
}

impl Masker {
    fn push(&mut self, bytes: &[u8]) -> Result<Vec<Bytes>, MaskingError> {
        match self {
            Self::Json(masker) => masker.push(bytes).map(|masked| vec![masked.into()]),
            Self::Arrow(masker) => masker.push(bytes),
        }
    }

    fn finish(&mut self) -> Result<Vec<Bytes>, MaskingError> {
        match self {
            Self::Json(masker) => masker.finish().map(|masked| vec![masked.into()]),
            Self::Arrow(masker) => masker.finish(),
        }
    }

    /// All of a result at once.
    fn whole(&mut self, bytes: &[u8]) -> Result<Vec<u8>, MaskingError> {
        let mut out = self.push(bytes)?;
        out.append(&mut self.finish()?);
        Ok(out.concat())
    }

    fn rows(&self) -> u64 {
        match self {
            Self::Json(masker) => masker.rows(),
            Self::Arrow(masker) => masker.rows(),
        }
    }
}

/// Batches of one part that are worked on at one time. More than two processors one client seldom keeps busy, and each batch
/// is in memory.
const BATCHES_MAX: usize = 2;

/// Masks one part of a result on its way from storage.
pub(crate) struct Part {
    plan: ResultPlan,
    masker: Masker,
    /// Batches that are worked on, in their order.
    ahead: VecDeque<JoinHandle<Result<MaskedBatch, MaskingError>>>,
    /// For the log.
    decision_id: String,
}

impl Part {
    pub(crate) fn new(plan: ResultPlan, format: ChunkFormat, decision_id: &str) -> Self {
        let masker = plan.masker(format, Shape::Chunk);
        Self { plan, masker, ahead: VecDeque::new(), decision_id: decision_id.to_owned() }
    }

    fn cut(&self, error: &MaskingError) -> Untreatable {
        warn!(decision_id = self.decision_id, %error, "a part of a result cannot be masked");
        metrics::counter!(REPLIES_WITHHELD, "reason" => "masking").increment(1);
        Untreatable::Unmaskable
    }

    async fn masked(&mut self, bytes: &[u8]) -> Result<Vec<Bytes>, MaskingError> {
        let Masker::Arrow(masker) = &mut self.masker else { return self.masker.push(bytes) };
        let begun = masker.read(bytes)?.into_iter().map(|batch| tokio::task::spawn_blocking(|| batch.masked()));
        self.ahead.extend(begun);
        written(masker, &mut self.ahead, BATCHES_MAX).await
    }

    async fn rest(&mut self) -> Result<Vec<Bytes>, MaskingError> {
        let mut out = match &mut self.masker {
            Masker::Arrow(masker) => written(masker, &mut self.ahead, 0).await?,
            Masker::Json(_) => Vec::new(),
        };
        out.append(&mut self.masker.finish()?);
        Ok(out)
    }
}

/// Writes what is done, and waits until no more batches than these are worked on.
async fn written(
    masker: &mut ArrowMasker,
    ahead: &mut VecDeque<JoinHandle<Result<MaskedBatch, MaskingError>>>,
    batches_max: usize,
) -> Result<Vec<Bytes>, MaskingError> {
    let mut out = Vec::new();
    while ahead.len() > batches_max || ahead.front().is_some_and(JoinHandle::is_finished) {
        let Some(next) = ahead.pop_front() else { break };
        let batch = next.await.map_err(|_| MaskingError::Unreadable("its masking was stopped"))?;
        out.append(&mut masker.write(batch?)?);
    }
    Ok(out)
}

impl Treatment for Part {
    fn take<'a>(&'a mut self, bytes: &'a Bytes) -> Treated<'a> {
        Box::pin(async { self.masked(bytes).await.map_err(|error| self.cut(&error)) })
    }

    fn end(&mut self) -> Treated<'_> {
        Box::pin(async {
            let rest = self.rest().await.map_err(|error| self.cut(&error));
            self.plan.count(self.masker.rows());
            rest
        })
    }
}
