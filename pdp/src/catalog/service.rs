use std::{collections::BTreeSet, pin::Pin, sync::Arc, time::Duration};

use futures::Stream;
use icegate_pdp_audit::{Client, DecisionEvent, Event, Who};
use icegate_pdp_model::{Assurance, Outcome, SessionContext};
use icegate_pdp_pip::warehouse::{Warehouse, WarehouseDatabase};
use icegate_pdp_policy::PersonAction;
use icegate_pdp_store::Change;
use icegate_proto::v1::{self, take_catalog_questions_response::Event as Asked};
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use tracing::info;

use super::Syncing;
use crate::{
    access::pep_named,
    clock, metrics,
    state::{Pdp, Work, named, new_id},
};

/// A PEP that hears nothing for a while opens its stream again.
const HEARTBEAT: Duration = Duration::from_secs(10);
/// Messages on their way to a PEP.
const AHEAD: usize = 16;
/// Longest answer to one question, in bytes.
pub(crate) const ANSWER_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Longest text of one query, in bytes.
const SQL_BYTES_MAX: usize = 16 * 1024;
/// Names told in one status, of what is unreadable in one database and of differences.
const NAMES_TOLD: usize = 100;
/// Bytes of one piece of an export.
const PIECE_BYTES: usize = 64 * 1024;

/// What the warehouse says, through PEPs; and telling people about it.
#[derive(Debug, Clone)]
pub(crate) struct Catalogs(pub(crate) Arc<Pdp>);

type Question = Result<v1::TakeCatalogQuestionsResponse, Status>;
type Piece = Result<v1::ExportCatalogResponse, Status>;

#[tonic::async_trait]
impl v1::catalog_service_server::CatalogService for Catalogs {
    type TakeCatalogQuestionsStream = Pin<Box<dyn Stream<Item = Question> + Send>>;
    type ExportCatalogStream = Pin<Box<dyn Stream<Item = Piece> + Send>>;

    async fn take_catalog_questions(
        &self,
        request: Request<v1::TakeCatalogQuestionsRequest>,
    ) -> Result<Response<Self::TakeCatalogQuestionsStream>, Status> {
        self.0.pep(&request)?;
        let syncing = self.0.syncing()?;
        let taking = self.0.begin(Work::Watch)?;
        let pep_id = request.into_inner().pep_id;
        named("pep_id", &pep_id)?;
        let (number, mut questions) = syncing.link.enter(&pep_id);
        info!(pep_id, "pep takes questions about the catalog");
        let (answers, stream) = mpsc::channel(AHEAD);
        let pdp = Arc::clone(&self.0);
        tokio::spawn(async move {
            let mut stopping = pdp.stopping.clone();
            let mut heartbeat = interval(HEARTBEAT);
            heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                let event = tokio::select! {
                    question = questions.recv() => match question {
                        Some(question) => Asked::Question(question),
                        None => break,
                    },
                    _ = heartbeat.tick() => Asked::Heartbeat(v1::CatalogHeartbeat {}),
                    _ = stopping.changed() => break,
                    () = answers.closed() => break,
                };
                if answers.send(Ok(v1::TakeCatalogQuestionsResponse { event: Some(event) })).await.is_err() {
                    break;
                }
            }
            if let Some(syncing) = &pdp.syncing {
                syncing.link.leave(number);
            }
            info!(pep_id, "pep takes no more questions about the catalog");
            drop(taking);
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn begin_catalog_query(
        &self,
        request: Request<v1::BeginCatalogQueryRequest>,
    ) -> Result<Response<v1::BeginCatalogQueryResponse>, Status> {
        self.0.pep(&request)?;
        let syncing = self.0.syncing()?;
        let (pep_id, instance) = pep_named(request.metadata());
        let pep_id = pep_id.ok_or_else(|| Status::invalid_argument("The PEP does not say which one it is."))?;
        let v1::BeginCatalogQueryRequest { question_id, sql } = request.into_inner();
        if sql.is_empty() || sql.len() > SQL_BYTES_MAX {
            return Err(Status::invalid_argument(format!(
                "The text has {} bytes; 1 to {SQL_BYTES_MAX} are.",
                sql.len()
            )));
        }
        let question = syncing.link.begin(named("question_id", &question_id)?, &pep_id);
        let question = question.ok_or_else(|| {
            Status::failed_precondition("Nobody waits for the answer to this question any more; do not ask it.")
        })?;
        let decision_id = new_id();
        let instance = instance.or_else(|| self.0.instance_of(&pep_id)).unwrap_or_default();
        let event = own_query(&decision_id, &question, &pep_id, &instance, sql, self.0.bundle().version());
        self.0.commit(Change::event(Event::Decision(Box::new(event)), clock::now())).await?;
        metrics::catalog_query(&question.purpose);
        Ok(Response::new(v1::BeginCatalogQueryResponse { decision_id }))
    }

    async fn answer_catalog_question(
        &self,
        request: Request<v1::AnswerCatalogQuestionRequest>,
    ) -> Result<Response<v1::AnswerCatalogQuestionResponse>, Status> {
        self.0.pep(&request)?;
        let syncing = self.0.syncing()?;
        let (pep_id, _) = pep_named(request.metadata());
        let v1::AnswerCatalogQuestionRequest { question_id, answer } = request.into_inner();
        let answer = answer.ok_or_else(|| Status::invalid_argument("There is neither rows nor a failure."))?;
        // That nobody waits any more is no fault of the PEP.
        let _ = syncing.link.answer(&question_id, &pep_id.unwrap_or_default(), answer);
        Ok(Response::new(v1::AnswerCatalogQuestionResponse {}))
    }

    async fn get_catalog_status(
        &self,
        request: Request<v1::GetCatalogStatusRequest>,
    ) -> Result<Response<v1::GetCatalogStatusResponse>, Status> {
        let person = self.0.person(request.metadata()).await?;
        self.0.permit(&person, PersonAction::SearchAudit)?;
        let facts = self.0.facts.lock().await;
        let mut status = v1::GetCatalogStatusResponse {
            version: self.0.bundle().version().to_owned(),
            differences: facts.differences.iter().take(NAMES_TOLD).cloned().collect(),
            differences_count: count(facts.differences.len()),
            ..Default::default()
        };
        if let Some(syncing) = &self.0.syncing {
            status.sync = true;
            status.pep_ids = syncing.link.pep_ids();
            let none = WarehouseDatabase::default();
            for name in &syncing.config.databases {
                let found = facts.warehouse.databases.get(name).unwrap_or(&none);
                status.databases.push(database(name, found, &facts.warehouse));
            }
        }
        Ok(Response::new(status))
    }

    async fn export_catalog(
        &self,
        request: Request<v1::ExportCatalogRequest>,
    ) -> Result<Response<Self::ExportCatalogStream>, Status> {
        let person = self.0.person(request.metadata()).await?;
        self.0.permit(&person, PersonAction::SearchAudit)?;
        let bundle = self.0.bundle();
        let text = if request.into_inner().warehouse_only {
            let catalog = Arc::clone(&self.0.facts.lock().await.catalog);
            tokio::task::spawn_blocking(move || catalog.to_yaml()).await
        } else {
            tokio::task::spawn_blocking(move || bundle.catalog().to_yaml()).await
        };
        let text = text.map_err(|_| Status::internal("The catalog cannot be written."))?;
        let (pieces, stream) = mpsc::channel(AHEAD);
        tokio::spawn(async move {
            let mut piece = String::with_capacity(PIECE_BYTES);
            for line in text.split_inclusive('\n') {
                if piece.len() + line.len() > PIECE_BYTES && !piece.is_empty() {
                    let text = std::mem::take(&mut piece);
                    // A reader that has gone wants no more.
                    if pieces.send(Ok(v1::ExportCatalogResponse { text })).await.is_err() {
                        return;
                    }
                }
                piece.push_str(line);
            }
            let _ = pieces.send(Ok(v1::ExportCatalogResponse { text: piece })).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

impl Pdp {
    fn syncing(&self) -> Result<&Syncing, Status> {
        self.syncing.as_ref().ok_or_else(|| {
            Status::failed_precondition("This PDP asks nothing about the catalog (`catalog.sync` is \"off\").")
        })
    }
}

/// A query of icegate's own: nobody asked for it and no policy decided it, and the record says so.
fn own_query(
    decision_id: &str,
    question: &v1::CatalogQuestion,
    pep_id: &str,
    pep_instance: &str,
    sql: String,
    version: &str,
) -> DecisionEvent {
    let client = Client {
        app_id: "icegate-pep".into(),
        application: format!("catalog-{}", question.purpose),
        ..Client::default()
    };
    DecisionEvent {
        decision_id: decision_id.to_owned(),
        session_id: format!("catalog-{pep_id}"),
        request_id: question.question_id.clone(),
        pep_id: pep_id.to_owned(),
        pep_instance: pep_instance.to_owned(),
        principal: Who {
            // No principal of an issuer is called so: their names hold no `:`.
            id: format!("icegate:pep/{pep_id}"),
            issuer: "icegate".into(),
            subject: pep_id.to_owned(),
            groups: BTreeSet::new(),
            agent: None,
            provenance: Assurance::Unknown,
        },
        client,
        context: SessionContext { database: Some(question.database.clone()), ..SessionContext::default() },
        sent_sql: Some(sql.clone()),
        sql,
        bindings_sha256: None,
        describe_only: false,
        statements: Vec::new(),
        disclosed: BTreeSet::new(),
        disclosed_opaque: false,
        masks: Vec::new(),
        row_filters: Vec::new(),
        columns: Vec::new(),
        outcome: Outcome::Allow,
        reasons: Vec::new(),
        policies: BTreeSet::new(),
        bundle_version: version.to_owned(),
        approval_id: None,
        cached_from: None,
        journaled: false,
        ran: None,
    }
}

fn database(name: &str, found: &WarehouseDatabase, warehouse: &Warehouse) -> v1::CatalogDatabase {
    let mut told = v1::CatalogDatabase {
        name: name.to_owned(),
        synced_unix_ms: found.synced_ms,
        tried_unix_ms: found.tried_ms,
        problem: found.problem.clone().unwrap_or_default(),
        functions: count(found.functions.len()),
        procedures: count(found.procedures.len()),
        tagged: count(found.tags.len()),
        ..Default::default()
    };
    for (name, relation) in warehouse.of_database(name) {
        if let Some(why) = &relation.unreadable {
            told.unreadable_count += 1;
            if told.unreadable.len() < NAMES_TOLD {
                told.unreadable.push(v1::CatalogUnreadable { name: name.to_string(), why: why.clone() });
            }
            continue;
        }
        told.relations += 1;
        told.views += u64::from(relation.view);
        let live = !relation.tags.is_empty() || relation.columns.iter().any(|column| !column.tags.is_empty());
        told.tagged += u64::from(live && !found.tags.contains_key(&name.to_string()));
    }
    told
}

fn count(length: usize) -> u64 {
    u64::try_from(length).unwrap_or(u64::MAX)
}
