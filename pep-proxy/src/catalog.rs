//! Answers the PDP's questions about the warehouse's own objects, with a session of this proxy's own.
//!
//! The questions are a fixed list, and so are the texts that answer them ([`text`]): the PDP names a topic, a database and
//! perhaps a relation, never SQL. Each text is on record before it is sent.

mod service;
mod text;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use icegate_proto::v1::{
    AnswerCatalogQuestionRequest, CatalogFailure, CatalogQuestion, CatalogRows, RunStatus,
    answer_catalog_question_request::Answer, take_catalog_questions_response::Event,
};
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

use self::service::{Asked, ServiceSession};
use crate::{ask::pdp::PdpError, metrics::CATALOG_QUERIES, proxy::Proxy, record::RunEnd};

/// First and longest pause before the stream is opened again.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(200), Duration::from_mins(1));
/// Having heard nothing for this long, the stream is opened again; the PDP is heard every ten seconds.
const SILENCE_LONGEST: Duration = Duration::from_secs(30);
/// Questions answered at one time.
const ANSWERING_MAX: usize = 4;

/// Answers questions for as long as it is polled. Never returns.
pub(crate) async fn keep(proxy: Arc<Proxy>, config: crate::config::Catalog) {
    let session = Arc::new(ServiceSession::new(config));
    let places = Arc::new(Semaphore::new(ANSWERING_MAX));
    let mut pause = RECONNECT.0;
    loop {
        match proxy.pdp.take_catalog_questions(&proxy.pep_id).await {
            Ok(mut questions) => {
                info!("takes questions about the catalog");
                while let Ok(Ok(Some(message))) = tokio::time::timeout(SILENCE_LONGEST, questions.message()).await {
                    pause = RECONNECT.0;
                    let Some(Event::Question(question)) = message.event else { continue };
                    let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
                    let (proxy, session) = (Arc::clone(&proxy), Arc::clone(&session));
                    tokio::spawn(async move {
                        answer(&proxy, &session, question).await;
                        drop(place);
                    });
                }
                debug!("stream of questions about the catalog ended");
            }
            Err(PdpError::Void) => info!("the pdp asks nothing about the catalog: its `catalog.sync` is off"),
            Err(error) => warn!(%error, "no questions about the catalog taken"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RECONNECT.1);
    }
}

async fn answer(proxy: &Proxy, session: &ServiceSession, question: CatalogQuestion) {
    let until = Instant::now() + Duration::from_millis(question.timeout_ms.into());
    let question_id = question.question_id.clone();
    let answer = match rows(proxy, session, &question, until).await {
        Some(Ok(rows)) => Answer::Rows(rows),
        Some(Err(code)) => Answer::Failure(CatalogFailure { code }),
        // Nobody waits.
        None => return,
    };
    let result = if matches!(answer, Answer::Rows(_)) { "answered" } else { "failed" };
    metrics::counter!(CATALOG_QUERIES, "result" => result).increment(1);
    let answered = AnswerCatalogQuestionRequest { question_id, answer: Some(answer) };
    if let Err(error) = proxy.pdp.answer_catalog_question(answered).await {
        warn!(%error, "answer about the catalog not taken by the pdp");
    }
}

async fn rows(
    proxy: &Proxy,
    session: &ServiceSession,
    question: &CatalogQuestion,
    until: Instant,
) -> Option<Result<CatalogRows, String>> {
    let Some(sql) = text::of(question) else { return Some(Err("unknown-question".to_owned())) };
    // INVARIANT: on record before it is sent, as every statement is.
    let decision_id = match proxy.pdp.begin_catalog_query(&question.question_id, &sql).await {
        Ok(decision_id) => decision_id,
        Err(error) => {
            debug!(%error, "question about the catalog not begun");
            return None;
        }
    };
    let started = Instant::now();
    let asked = tokio::time::timeout_at(until.into(), session.run(proxy, &decision_id, &sql)).await;
    let asked = asked.unwrap_or_else(|_elapsed| Asked::failed(RunStatus::Unknown, "timeout"));
    let Asked { status, query_id, rows } = asked;
    let count = rows.as_ref().ok().map(|rows| rows.len() as u64);
    let error_code = rows.as_ref().err().cloned().unwrap_or_default();
    // No client gets any of it.
    let end = RunEnd { status, query_id, rows: count, duration: started.elapsed(), error_code, delivery: None };
    proxy.recorder.outcome(&decision_id, &format!("catalog-{}", proxy.pep_id), end).await;
    Some(rows.map(|rows| CatalogRows {
        more: text::is_paged(question) && rows.len() as u64 >= u64::from(question.rows_max),
        rows_json: serde_json::Value::Array(rows).to_string(),
    }))
}
