use std::{collections::BTreeMap, pin::Pin, sync::Arc};

use futures::Stream;
use icegate_pdp_audit::{CutEvent, CutReason, DecisionEvent, Delivery, Event, JournaledRun, OutcomeEvent, RunStatus};
use icegate_pdp_model::{Agent, Assurance, Principal, Timestamp};
use icegate_pdp_policy::PersonAction;
use icegate_pdp_store::{Change, RecordRow, Search, StateChange, StoreError};
use icegate_proto::v1::{self, export_records_response::Item, journal_entry::Entry};
use tokio::{runtime::Handle, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use crate::{
    access::pep_named,
    clock, convert,
    decide::standing,
    metrics,
    state::{Pdp, Work, named, new_id, unreadable},
};

/// Most entries of a journal in one call.
const JOURNAL_ENTRIES_MAX: usize = 1000;
/// Longest filter of a search, in bytes.
const FILTER_BYTES_MAX: usize = 2000;
/// Records on their way to a reader of an export.
const EXPORT_AHEAD: usize = 64;

/// The audit trail.
#[derive(Debug, Clone)]
pub(crate) struct Records(pub(crate) Arc<Pdp>);

#[tonic::async_trait]
impl v1::audit_service_server::AuditService for Records {
    async fn append_intent(
        &self,
        request: Request<v1::AppendIntentRequest>,
    ) -> Result<Response<v1::AppendIntentResponse>, Status> {
        self.0.pep(&request)?;
        let _working = self.0.begin(Work::Decide)?;
        let named = pep_named(request.metadata());
        let answer = self.0.intend(request.into_inner(), named).await;
        metrics::intent(match &answer {
            Ok(_) => "recorded",
            Err(status) if status.code() == tonic::Code::FailedPrecondition => "decide-again",
            Err(_) => "failed",
        });
        answer.map(Response::new)
    }

    async fn append_outcome(
        &self,
        request: Request<v1::AppendOutcomeRequest>,
    ) -> Result<Response<v1::AppendOutcomeResponse>, Status> {
        self.0.pep(&request)?;
        let event = Event::Outcome(outcome(request.into_inner(), None)?);
        let appended = self.0.commit(Change::event(event, clock::now())).await?;
        let record_seq = appended.first().map_or(0, |record| record.seq);
        Ok(Response::new(v1::AppendOutcomeResponse { record_seq }))
    }

    async fn append_journal(
        &self,
        request: Request<v1::AppendJournalRequest>,
    ) -> Result<Response<v1::AppendJournalResponse>, Status> {
        self.0.pep(&request)?;
        let (_, instance) = pep_named(request.metadata());
        let v1::AppendJournalRequest { pep_id, entries } = request.into_inner();
        named("pep_id", &pep_id)?;
        if entries.len() > JOURNAL_ENTRIES_MAX {
            let text =
                format!("The journal has {} entries; send at most {JOURNAL_ENTRIES_MAX} at a time.", entries.len());
            return Err(Status::invalid_argument(text));
        }
        let appended = u32::try_from(entries.len()).unwrap_or(u32::MAX);
        let instance = instance.or_else(|| self.0.instance_of(&pep_id)).unwrap_or_default();
        let mut events = Vec::with_capacity(entries.len());
        let mut states = Vec::new();
        for entry in entries {
            // What ran meanwhile was not followed.
            if let Some(Entry::Intent(run)) = &entry.entry
                && self.0.holds_temporaries(&run.session_id)
            {
                states.push(StateChange::ForgetTemporaries { session_id: run.session_id.clone() });
            }
            events.push(self.0.journaled(&pep_id, &instance, entry).await?);
        }
        self.0.commit(Change { states, events, at: clock::now() }).await?;
        Ok(Response::new(v1::AppendJournalResponse { appended }))
    }

    async fn search_records(
        &self,
        request: Request<v1::SearchRecordsRequest>,
    ) -> Result<Response<v1::SearchRecordsResponse>, Status> {
        let person = self.0.person(request.metadata()).await?;
        self.0.permit(&person, PersonAction::SearchAudit)?;
        let request = request.into_inner();
        let search = self.0.search_of(&request)?;
        self.0.audit_read(&person, "search", filters(&request)).await?;
        let page = self.0.store.search(&search).await.map_err(|error| match error {
            StoreError::Invalid(problem) => Status::invalid_argument(format!("The search makes no sense: {problem}.")),
            error => unreadable(&error),
        })?;
        let entries = page.entries.into_iter().map(|entry| v1::AuditEntry {
            record: Some(record(entry.record)),
            outcome: entry.outcome.map(record),
            cut: entry.cut.map(record),
        });
        Ok(Response::new(v1::SearchRecordsResponse {
            entries: entries.collect(),
            next_before_seq: page.next_before_seq,
        }))
    }

    type ExportRecordsStream = Pin<Box<dyn Stream<Item = Result<v1::ExportRecordsResponse, Status>> + Send>>;

    async fn export_records(
        &self,
        request: Request<v1::ExportRecordsRequest>,
    ) -> Result<Response<Self::ExportRecordsStream>, Status> {
        let person = self.0.person(request.metadata()).await?;
        self.0.permit(&person, PersonAction::SearchAudit)?;
        let v1::ExportRecordsRequest { from_seq, to_seq } = request.into_inner();
        let range = [("from_seq", from_seq), ("to_seq", to_seq)];
        let filters = range.iter().filter(|(_, seq)| *seq > 0).map(|(key, seq)| ((*key).to_owned(), seq.to_string()));
        self.0.audit_read(&person, "export", filters.collect()).await?;
        let (items, stream) = mpsc::channel(EXPORT_AHEAD);
        let pdp = Arc::clone(&self.0);
        tokio::spawn(async move {
            if let Err(status) = export(&pdp, from_seq, to_seq, &items).await {
                // A reader that has gone hears nothing.
                let _ = items.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

impl Pdp {
    async fn intend(
        &self,
        request: v1::AppendIntentRequest,
        (pep_id, pep_instance): (Option<String>, Option<String>),
    ) -> Result<v1::AppendIntentResponse, Status> {
        let v1::AppendIntentRequest { session_id, cached_decision_id, request_id, bindings_json } = request;
        if bindings_json.len() > self.limits.bindings_bytes_max {
            let bytes_max = self.limits.bindings_bytes_max;
            let text = format!("The bindings have more than {bytes_max} bytes (`limits.bindings_bytes_max`).");
            return Err(Status::invalid_argument(text));
        }
        if !request_id.is_empty() {
            named("request_id", &request_id)?;
        }
        let again = |why: &str| Status::failed_precondition(format!("{why}; decide again."));
        let session = self.session(named("session_id", &session_id)?).await?;
        let session = session.ok_or_else(|| again("There is no such session"))?;
        let now = clock::now();
        if let Some(reason) = standing(&session, now) {
            return Err(Status::failed_precondition(format!("{}: {}", reason.code, reason.message)));
        }
        if self.holds_temporaries(&session_id) {
            return Err(again("The session has temporary relations"));
        }
        let decided =
            self.remembered(&cached_decision_id).ok_or_else(|| again("The decision is not at hand any more"))?;
        if decided.principal_digest != session.principal_digest {
            return Err(again("The decision is another principal's"));
        }
        if decided.event.bundle_version != self.bundle().version() {
            return Err(again("The policies have changed"));
        }
        if convert::bound_at(&bindings_json, &decided.names) != decided.names_sha256 {
            return Err(again("The bound names are others"));
        }
        if now >= decided.until {
            return Err(again("The decision is too old"));
        }
        let decision_id = new_id();
        let pep_id = pep_id.unwrap_or_else(|| session.pep_id.clone());
        let instance =
            pep_instance.or_else(|| self.instance_of(&pep_id)).unwrap_or_else(|| session.pep_instance.clone());
        let event = DecisionEvent {
            // The session may be another one of the same principal.
            session_id,
            client: session.client.clone(),
            pep_id,
            ..decided.event.repeated(&decision_id, &request_id, &instance, &bindings_json)
        };
        let needed = StateChange::NeedSession { session_id: session.session_id.clone() };
        let appended = match self.commit(Change::state(needed, Event::Decision(Box::new(event)), now)).await {
            Err(status) if status.code() == tonic::Code::Aborted => {
                self.session_ended(&session.session_id).await;
                return Err(again("The session has ended"));
            }
            appended => appended?,
        };
        Ok(v1::AppendIntentResponse { decision_id, record_seq: appended.first().map_or(0, |record| record.seq) })
    }

    async fn journaled(&self, pep_id: &str, pep_instance: &str, entry: v1::JournalEntry) -> Result<Event, Status> {
        let at = Timestamp(entry.at_unix_ms);
        let run = match entry.entry {
            Some(Entry::Outcome(ended)) => return Ok(Event::Outcome(outcome(ended, Some(at))?)),
            Some(Entry::Cut(cut)) => return Ok(Event::DeliveryCut(delivery_cut(cut, at)?)),
            Some(Entry::Intent(run)) => run,
            None => return Err(Status::invalid_argument("A journal entry is of no kind this version knows.")),
        };
        named("decision_id", &run.decision_id)?;
        named("session_id", &run.session_id)?;
        let session = self.session(&run.session_id).await?;
        let principal = match session {
            Some(session) if session.principal.id == run.principal_id => session.principal.clone(),
            _ => said(&run),
        };
        let under = self.store.decision(&run.cached_decision_id).await.map_err(|error| unreadable(&error))?;
        let context = convert::context_in(run.context.clone());
        let journaled = JournaledRun {
            decision_id: &run.decision_id,
            cached_from: &run.cached_decision_id,
            session_id: &run.session_id,
            request_id: &run.request_id,
            pep_id,
            pep_instance,
            principal: &principal,
            context: &context,
            sql: &run.sql,
            sent_sql: &run.sent_sql,
            bindings_json: &run.bindings_json,
            bundle_version: &run.bundle_version,
            ran: at,
        };
        Ok(Event::Decision(Box::new(DecisionEvent::journaled(&journaled, under.as_ref()))))
    }

    fn search_of(&self, request: &v1::SearchRecordsRequest) -> Result<Search, Status> {
        let text = |what: &str, given: &str| {
            if given.len() > FILTER_BYTES_MAX {
                return Err(Status::invalid_argument(format!("`{what}` is longer than {FILTER_BYTES_MAX} bytes.")));
            }
            Ok(Some(given.to_owned()).filter(|given| !given.is_empty()))
        };
        let moment = |unix_ms: i64| (unix_ms != 0).then_some(Timestamp(unix_ms));
        Ok(Search {
            principal: text("principal", &request.principal)?,
            agent: text("agent", &request.agent)?,
            from: moment(request.from_unix_ms),
            to: moment(request.to_unix_ms),
            object: text("object", &request.object)?,
            outcome: text("outcome", &request.outcome)?,
            text: text("text", &request.text)?,
            decision_id: text("decision_id", &request.decision_id)?,
            limit: self.page(request.limit)?,
            before_seq: request.before_seq,
        })
    }

    /// Who looks into the trail is in the trail.
    async fn audit_read(
        &self,
        person: &Principal,
        operation: &str,
        filters: BTreeMap<String, String>,
    ) -> Result<(), Status> {
        let event = Event::AuditRead { by: person.into(), operation: operation.to_owned(), filters };
        self.commit(Change::event(event, clock::now())).await?;
        Ok(())
    }
}

type ExportItems = mpsc::Sender<Result<v1::ExportRecordsResponse, Status>>;

/// Sends all records of a range in order, then what the store says of itself. Without an end to the range it sends exactly
/// the records the store counts when it checks itself, those that came meanwhile too: whoever verifies has seen them all.
async fn export(pdp: &Pdp, from_seq: u64, to_seq: u64, items: &ExportItems) -> Result<(), Status> {
    // The end is set at the start: records that come meanwhile would make an export of a busy service endless.
    let end = if to_seq == 0 { pdp.store.stats().records } else { to_seq };
    let next_seq = export_range(pdp, from_seq.max(1), end, items).await?;
    // It reads the whole file and hashes it: not on a thread that serves.
    let (store, runtime) = (pdp.store.clone(), Handle::current());
    let checked = tokio::task::spawn_blocking(move || runtime.block_on(store.integrity())).await;
    let checked = checked.map_err(|_| Status::internal("The check of the trail did not end; export again."))?;
    let report = checked.map_err(|error| unreadable(&error))?;
    if to_seq == 0 {
        export_range(pdp, next_seq, report.records, items).await?;
    }
    let integrity = v1::IntegrityReport { problems: report.problems, records: report.records };
    // A reader that has gone hears nothing.
    let _ = items.send(Ok(v1::ExportRecordsResponse { item: Some(Item::Integrity(integrity)) })).await;
    Ok(())
}

/// Gives the number after the last it sent.
async fn export_range(pdp: &Pdp, mut from_seq: u64, to_seq: u64, items: &ExportItems) -> Result<u64, Status> {
    while from_seq <= to_seq {
        let rows = pdp.store.export(from_seq, to_seq).await.map_err(|error| unreadable(&error))?;
        let Some(last) = rows.last().map(|row| row.seq) else { break };
        for row in rows {
            let item = v1::ExportRecordsResponse { item: Some(Item::Record(record(row))) };
            if items.send(Ok(item)).await.is_err() || *pdp.stopping.borrow() {
                return Err(Status::unavailable("The PDP is stopping; export again from the last record you have."));
            }
        }
        from_seq = last.saturating_add(1);
    }
    Ok(from_seq)
}

fn outcome(request: v1::AppendOutcomeRequest, ended: Option<Timestamp>) -> Result<OutcomeEvent, Status> {
    named("decision_id", &request.decision_id)?;
    named("session_id", &request.session_id)?;
    for (what, text) in [("query_id", &request.query_id), ("error_code", &request.error_code)] {
        if !text.is_empty() {
            named(what, text)?;
        }
    }
    let status = match request.status() {
        v1::RunStatus::Succeeded => RunStatus::Succeeded,
        v1::RunStatus::Failed => RunStatus::Failed,
        v1::RunStatus::Cancelled => RunStatus::Cancelled,
        v1::RunStatus::Withheld => RunStatus::Withheld,
        v1::RunStatus::NotSent => RunStatus::NotSent,
        v1::RunStatus::Unknown => RunStatus::Unknown,
        v1::RunStatus::Unspecified => return Err(Status::invalid_argument("`status` is not set.")),
    };
    let delivery = match request.delivery() {
        v1::Delivery::Unspecified => None,
        v1::Delivery::Inline => Some(Delivery::Inline),
        v1::Delivery::Through => Some(Delivery::Through),
        v1::Delivery::Direct => Some(Delivery::Direct),
        v1::Delivery::Stage => Some(Delivery::Stage),
    };
    let set = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok(OutcomeEvent {
        decision_id: request.decision_id,
        session_id: request.session_id,
        status,
        query_id: set(request.query_id),
        rows: request.rows,
        duration_ms: request.duration_ms,
        error_code: set(request.error_code),
        ended,
        delivery,
    })
}

fn delivery_cut(told: v1::DeliveryCut, cut: Timestamp) -> Result<CutEvent, Status> {
    named("decision_id", &told.decision_id)?;
    named("session_id", &told.session_id)?;
    if !told.query_id.is_empty() {
        named("query_id", &told.query_id)?;
    }
    let reason = match told.reason() {
        v1::CutReason::Masking => CutReason::Masking,
        v1::CutReason::Unspecified => return Err(Status::invalid_argument("`reason` is not set.")),
    };
    let v1::DeliveryCut { decision_id, session_id, query_id, part, .. } = told;
    let query_id = Some(query_id).filter(|query_id| !query_id.is_empty());
    Ok(CutEvent { decision_id, session_id, query_id, part, reason, cut })
}

/// Who ran it, as far as the PEP's journal tells when its session is not known here.
fn said(run: &v1::JournaledIntent) -> Principal {
    let agent = Some(&run.agent_id).filter(|id| !id.is_empty());
    Principal {
        id: run.principal_id.clone(),
        issuer: String::new(),
        subject: String::new(),
        groups: std::collections::BTreeSet::new(),
        agent: agent.map(|id| Agent { id: id.clone(), assurance: Assurance::Declared }),
        attributes: std::collections::BTreeMap::new(),
    }
}

fn record(row: RecordRow) -> v1::Record {
    v1::Record { seq: row.seq, body: row.body, prev_hash: row.prev_hash.to_vec(), hash: row.hash.to_vec() }
}

/// What was looked for, by the filter's name.
fn filters(request: &v1::SearchRecordsRequest) -> BTreeMap<String, String> {
    let number = |number: i64| if number == 0 { String::new() } else { number.to_string() };
    [
        ("principal", request.principal.clone()),
        ("agent", request.agent.clone()),
        ("from_unix_ms", number(request.from_unix_ms)),
        ("to_unix_ms", number(request.to_unix_ms)),
        ("object", request.object.clone()),
        ("outcome", request.outcome.clone()),
        ("text", request.text.clone()),
        ("decision_id", request.decision_id.clone()),
        ("before_seq", number(request.before_seq.cast_signed())),
    ]
    .into_iter()
    .filter(|(_, value)| !value.is_empty())
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}
