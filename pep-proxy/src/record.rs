//! What became of each statement, told to the PDP: at once when it can be reached, from the journal when it can again.

pub(crate) mod journal;

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use icegate_pep_protocol::{Delivery, SealedChunk};
use icegate_proto::v1::{
    self, AppendOutcomeRequest, CutReason, DeliveryCut, JournalEntry, JournaledIntent, RunStatus, journal_entry::Entry,
};
use moka::sync::Cache;
use tokio::sync::Notify;
use tonic::Code;
use tracing::{error, info, warn};

use self::journal::{Journal, JournalError};
use crate::{
    ask::pdp::{Pdp, PdpError},
    metrics::OUTCOMES,
};

/// Entries delivered in one call.
const BATCH_MAX: usize = 256;
/// First and longest pause between tries to deliver.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
/// Cuts remembered as told. Drivers ask for a broken part again and again; one told twice changes nothing at the PDP.
const CUTS_MAX: u64 = 10_000;

/// Tells the PDP what became of statements.
#[derive(Debug, Clone)]
pub(crate) struct Recorder {
    pdp: Pdp,
    pep_id: Arc<str>,
    journal: Arc<Journal>,
    waiting: Arc<Notify>,
    /// Decisions a cut is told of.
    cuts: Cache<String, ()>,
}

/// How one run ended.
#[derive(Debug, Clone)]
pub(crate) struct RunEnd {
    pub(crate) status: RunStatus,
    pub(crate) query_id: String,
    pub(crate) rows: Option<u64>,
    pub(crate) duration: Duration,
    pub(crate) error_code: String,
    /// How the result reached the client; nothing without one.
    pub(crate) delivery: Option<Delivery>,
}

impl RunEnd {
    /// An end no warehouse answer stands behind.
    pub(crate) fn without_reply(status: RunStatus, error_code: &str, duration: Duration) -> Self {
        Self {
            status,
            query_id: String::new(),
            rows: None,
            duration,
            error_code: error_code.to_owned(),
            delivery: None,
        }
    }
}

/// What is written down of one part if it cannot be masked.
pub(crate) struct CutRecord {
    recorder: Recorder,
    cut: DeliveryCut,
}

impl CutRecord {
    pub(crate) fn new(recorder: &Recorder, chunk: &SealedChunk) -> Self {
        let cut = DeliveryCut {
            decision_id: chunk.decision_id.clone(),
            session_id: chunk.session_id.clone(),
            query_id: chunk.query_id.clone(),
            part: u32::try_from(chunk.index).unwrap_or(u32::MAX),
            reason: CutReason::Masking.into(),
        };
        Self { recorder: recorder.clone(), cut }
    }

    /// Returns when it is durable here.
    pub(crate) async fn write(self) {
        self.recorder.cut(self.cut).await;
    }
}

impl Recorder {
    pub(crate) fn new(pdp: Pdp, pep_id: &str, journal: Journal) -> Self {
        let (journal, waiting) = (Arc::new(journal), Arc::new(Notify::new()));
        Self { pdp, pep_id: pep_id.into(), journal, waiting, cuts: Cache::new(CUTS_MAX) }
    }

    /// Records the end of the run that `decision_id` allowed. Returns when it is durable, here or at the PDP.
    pub(crate) async fn outcome(&self, decision_id: &str, session_id: &str, end: RunEnd) {
        metrics::counter!(OUTCOMES, "status" => word(end.status)).increment(1);
        let outcome = AppendOutcomeRequest {
            decision_id: decision_id.to_owned(),
            session_id: session_id.to_owned(),
            status: end.status.into(),
            query_id: end.query_id,
            rows: end.rows,
            duration_ms: u64::try_from(end.duration.as_millis()).unwrap_or(u64::MAX),
            error_code: end.error_code,
            delivery: end.delivery.map_or(v1::Delivery::Unspecified, told).into(),
        };
        // INVARIANT: an outcome never overtakes its intent, which may still be in the journal.
        if self.journal.is_empty() {
            match self.pdp.append_outcome(outcome.clone()).await {
                Ok(()) => return,
                // It would be refused for ever, and block what comes after it.
                Err(PdpError::Void | PdpError::Refused { code: Code::InvalidArgument | Code::NotFound, .. }) => {
                    error!(decision_id, "outcome refused by the pdp");
                    return;
                }
                Err(PdpError::Refused { code, .. }) => warn!(decision_id, ?code, "outcome not taken by the pdp yet"),
                Err(PdpError::Unreachable | PdpError::AuditUnavailable) => {}
            }
        }
        if let Err(error) = self.keep(Entry::Outcome(outcome)).await {
            error!(decision_id, %error, "outcome lost: journal not writable");
        }
    }

    /// Records that a part of a result was cut, once for its decision. By the journal in any case: its outcome may be
    /// there, or on its way, and what comes by the journal is durable here first.
    async fn cut(&self, cut: DeliveryCut) {
        if self.cuts.contains_key(&cut.decision_id) {
            return;
        }
        let decision_id = cut.decision_id.clone();
        match self.keep(Entry::Cut(cut)).await {
            Ok(()) => self.cuts.insert(decision_id, ()),
            Err(error) => error!(decision_id, %error, "record of a cut part lost: journal not writable"),
        }
    }

    /// Makes the intent of one statement durable here, while the PDP is away.
    pub(crate) async fn intent(&self, intent: JournaledIntent) -> Result<(), JournalError> {
        self.keep(Entry::Intent(intent)).await
    }

    /// Entries the PDP has not got yet.
    pub(crate) fn waiting(&self) -> usize {
        self.journal.len()
    }

    /// Waits until the PDP has everything.
    pub(crate) async fn delivered(&self) {
        while !self.journal.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    async fn keep(&self, entry: Entry) -> Result<(), JournalError> {
        let entry = JournalEntry { at_unix_ms: unix_ms(), entry: Some(entry) };
        let journal = Arc::clone(&self.journal);
        let kept =
            tokio::task::spawn_blocking(move || journal.append(entry)).await.map_err(|_| JournalError::Stopped)?;
        self.waiting.notify_one();
        kept
    }

    /// Delivers the journal, in order, whenever there is something in it. Never returns.
    pub(crate) async fn deliver(self) {
        let mut pause = RETRY.0;
        loop {
            let batch = self.journal.first(BATCH_MAX);
            if batch.is_empty() {
                self.waiting.notified().await;
                continue;
            }
            let asked = batch.len();
            match self.pdp.append_journal(&self.pep_id, batch).await {
                Ok(appended) if appended > 0 => {
                    let journal = Arc::clone(&self.journal);
                    let count = usize::try_from(appended).unwrap_or(usize::MAX).min(asked);
                    let dropped = tokio::task::spawn_blocking(move || journal.drop_first(count)).await;
                    if !matches!(dropped, Ok(Ok(()))) {
                        warn!("journal not shortened; its entries are delivered again, which changes nothing");
                    }
                    info!(entries = count, "journal delivered");
                    pause = RETRY.0;
                }
                refused @ (Ok(_) | Err(_)) => {
                    if let Err(error @ (PdpError::Refused { .. } | PdpError::Void)) = refused {
                        error!(%error, entries = asked, "journal not taken by the pdp");
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(RETRY.1);
                }
            }
        }
    }
}

/// Milliseconds since the epoch.
pub(crate) fn unix_ms() -> i64 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}

fn told(delivery: Delivery) -> v1::Delivery {
    match delivery {
        Delivery::Inline => v1::Delivery::Inline,
        Delivery::Through => v1::Delivery::Through,
        Delivery::Direct => v1::Delivery::Direct,
        Delivery::Stage => v1::Delivery::Stage,
    }
}

fn word(status: RunStatus) -> &'static str {
    match status {
        RunStatus::Succeeded => "succeeded",
        RunStatus::Failed => "failed",
        RunStatus::Cancelled => "cancelled",
        RunStatus::Withheld => "withheld",
        RunStatus::NotSent => "not-sent",
        RunStatus::Unknown | RunStatus::Unspecified => "unknown",
    }
}
