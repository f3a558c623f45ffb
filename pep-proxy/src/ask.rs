//! May this statement run? The only place where a [`Permitted`] is made, and nothing reaches Snowflake without one.

pub(crate) mod cache;
pub(crate) mod pdp;
pub(crate) mod watch;

use std::{
    fmt,
    time::{Duration, Instant},
};

use icegate_pep_protocol::{QueryRequest, RequestId, Stamp, reply::ErrorText, stamp};
use icegate_proto::v1::{
    AppendIntentRequest, DecideRequest, DecideResponse, JournaledIntent, Outcome, ResultMask, ResultShape,
    SessionChange, SessionContext, Stop as Stopping,
};
use tonic::Code;
use tracing::{debug, warn};
use uuid::Uuid;

use self::{
    cache::{Asked, Cached},
    pdp::PdpError,
};
use crate::{
    metrics::{DECISIONS, STAGE_DURATION},
    proxy::Proxy,
    refuse::{self, Stop},
    session::Session,
};

/// Proof that the PDP allowed exactly this statement and that its record is durable.
pub(crate) struct Permitted {
    decision_id: String,
    sql: String,
    body: Vec<u8>,
    statement_kinds: Vec<String>,
    session_changes: Vec<SessionChange>,
    result_shapes: Vec<ResultShape>,
    result_masks: Vec<ResultMask>,
    error_text: ErrorText,
    stops: Option<Stopping>,
}

impl fmt::Debug for Permitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permitted").field("decision_id", &self.decision_id).finish_non_exhaustive()
    }
}

impl Permitted {
    pub(crate) fn decision_id(&self) -> &str {
        &self.decision_id
    }

    /// The text that is sent.
    pub(crate) fn sql(&self) -> &str {
        &self.sql
    }

    /// The whole body that is sent.
    pub(crate) fn body(&self) -> &[u8] {
        &self.body
    }

    pub(crate) fn statement_kinds(&self) -> &[String] {
        &self.statement_kinds
    }

    pub(crate) fn session_changes(&self) -> &[SessionChange] {
        &self.session_changes
    }

    /// What was promised of each statement's result.
    pub(crate) fn result_shapes(&self) -> &[ResultShape] {
        &self.result_shapes
    }

    /// What this proxy is to mask in the results.
    pub(crate) fn result_masks(&self) -> &[ResultMask] {
        &self.result_masks
    }

    pub(crate) fn error_text(&self) -> ErrorText {
        self.error_text
    }

    /// What is to be stopped here; then nothing is sent.
    pub(crate) fn stops(&self) -> Option<&Stopping> {
        self.stops.as_ref()
    }
}

/// One statement and where it would run.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Question<'a> {
    pub(crate) session: &'a Session,
    pub(crate) request: &'a QueryRequest,
    pub(crate) request_id: &'a RequestId,
    pub(crate) context: &'a SessionContext,
    /// The tag of the session; the statement's own goes before it.
    pub(crate) client_tag: Option<&'a str>,
    /// Set when a held statement is released: the approval to consume.
    pub(crate) approval_id: Option<&'a str>,
}

/// What may happen.
#[derive(Debug)]
pub(crate) enum Answer {
    Permitted(Box<Permitted>),
    Stop(Stop),
    Waits(Waiting),
}

/// A statement that waits for a person.
#[derive(Debug, Clone)]
pub(crate) struct Waiting {
    pub(crate) approval_id: String,
    pub(crate) decision_id: String,
    pub(crate) groups: Vec<String>,
    pub(crate) hold_max: Duration,
}

/// Asks, and makes sure that the answer is on record before it is acted on.
pub(crate) async fn ask(proxy: &Proxy, question: Question<'_>) -> Answer {
    let started = Instant::now();
    let answer = match decided(proxy, question).await {
        Ok(answer) => answer,
        Err(stop) => Answer::Stop(stop),
    };
    metrics::histogram!(STAGE_DURATION, "stage" => "ask").record(started.elapsed());
    answer
}

async fn decided(proxy: &Proxy, question: Question<'_>) -> Result<Answer, Stop> {
    let names = |positions: &[u32]| question.request.bindings_at(positions);
    let asked = Asked {
        principal_digest: &question.session.principal_digest,
        sql: question.request.sql(),
        statement_count: question.request.statement_count(),
        describe_only: question.request.describe_only(),
        context: question.context,
    };
    // An approval is for one run, and consumed by deciding.
    if question.approval_id.is_none() {
        let key = proxy.cache.key(asked);
        if let Some(cached) = proxy.cache.get(key, names) {
            match intent(proxy, question, &cached).await {
                Ok(decision_id) => return Ok(permit_cached(question, &cached, decision_id)),
                Err(PdpError::Void | PdpError::Refused { code: Code::NotFound, .. }) => proxy.cache.forget(key),
                Err(PdpError::Unreachable) => return without_pdp(proxy, question, &cached).await,
                Err(error @ (PdpError::AuditUnavailable | PdpError::Refused { .. })) => return Err(error.into()),
            }
        }
    }
    if !proxy.pdp.heard() {
        return Err(PdpError::Unreachable.into());
    }
    // The PDP knows a result, and what a session has made, by how its statement ended; the client has the answer before that.
    question.session.all_recorded(may_read_results(question.request.sql())).await;
    let decision = proxy.pdp.decide(request(question)).await?;
    let answer = acted_on(question, &decision)?;
    if question.approval_id.is_none() && matches!(answer, Answer::Permitted(_)) && decision.stop.is_none() {
        proxy.cache.keep(asked, &decision, names);
    }
    Ok(answer)
}

/// Whether a text could be one that reads results again. It is not read here: one too many waits, one too few is refused.
fn may_read_results(sql: &str) -> bool {
    const WORD: &[u8] = b"RESULT_SCAN";
    sql.as_bytes().windows(WORD.len()).any(|word| word.eq_ignore_ascii_case(WORD))
}

fn request(question: Question<'_>) -> DecideRequest {
    DecideRequest {
        session_id: question.session.id.clone(),
        request_id: question.request_id.as_str().to_owned(),
        sql: question.request.sql().to_owned(),
        context: Some(question.context.clone()),
        statement_count: question.request.statement_count(),
        describe_only: question.request.describe_only(),
        bindings_json: question.request.bindings_json(),
        approval_id: question.approval_id.unwrap_or_default().to_owned(),
        masks_results: true,
        keeps_names: true,
        stops: true,
    }
}

fn acted_on(question: Question<'_>, decision: &DecideResponse) -> Result<Answer, Stop> {
    let word = match decision.outcome() {
        Outcome::Allow => "allow",
        Outcome::Mask => "mask",
        Outcome::Deny | Outcome::Unspecified => "deny",
        Outcome::NeedsApproval => "needs-approval",
    };
    metrics::counter!(DECISIONS, "outcome" => word).increment(1);
    debug!(decision_id = decision.decision_id, outcome = word, "decided");
    match decision.outcome() {
        Outcome::Allow | Outcome::Mask if decision.sql.is_empty() || decision.decision_id.is_empty() => {
            // Both ends of a wire are checked: an allow without its text allows nothing.
            warn!(decision_id = decision.decision_id, "allow without text or id");
            Err(PdpError::AuditUnavailable.into())
        }
        Outcome::Mask if decision.sql == question.request.sql() && decision.result_masks.is_empty() => {
            // Masks are in the text or in the result: here they are nowhere.
            warn!(decision_id = decision.decision_id, "mask without a mask");
            Err(PdpError::AuditUnavailable.into())
        }
        outcome @ (Outcome::Allow | Outcome::Mask) => Ok(permit(
            question,
            decision.decision_id.clone(),
            &decision.sql,
            outcome == Outcome::Mask,
            Foreseen {
                statement_kinds: &decision.statement_kinds,
                session_changes: &decision.session_changes,
                result_shapes: &decision.result_shapes,
                result_masks: &decision.result_masks,
                stops: decision.stop.as_ref(),
            },
        )),
        Outcome::NeedsApproval => match &decision.approval {
            Some(approval) if !approval.approval_id.is_empty() => Ok(Answer::Waits(Waiting {
                approval_id: approval.approval_id.clone(),
                decision_id: decision.decision_id.clone(),
                groups: approval.groups.clone(),
                hold_max: Duration::from_secs(approval.hold_seconds_max.into()),
            })),
            Some(_) | None => Err(refuse::denied(decision)),
        },
        Outcome::Deny | Outcome::Unspecified => Err(refuse::denied(decision)),
    }
}

/// Makes the intent of a run under a cached decision durable. Its own decision id.
async fn intent(proxy: &Proxy, question: Question<'_>, cached: &Cached) -> Result<String, PdpError> {
    if !proxy.pdp.heard() {
        return Err(PdpError::Unreachable);
    }
    let asked = AppendIntentRequest {
        session_id: question.session.id.clone(),
        cached_decision_id: cached.decision_id.clone(),
        request_id: question.request_id.as_str().to_owned(),
        bindings_json: question.request.bindings_json(),
    };
    let decision_id = proxy.pdp.append_intent(asked).await?;
    if decision_id.is_empty() { Err(PdpError::AuditUnavailable) } else { Ok(decision_id) }
}

/// The PDP is away: a cached allow may run for a while, once its intent is durable here.
async fn without_pdp(proxy: &Proxy, question: Question<'_>, cached: &Cached) -> Result<Answer, Stop> {
    if !proxy.pdp.in_grace() {
        return Err(PdpError::Unreachable.into());
    }
    let decision_id = Uuid::now_v7().to_string();
    let intent = JournaledIntent {
        decision_id: decision_id.clone(),
        session_id: question.session.id.clone(),
        cached_decision_id: cached.decision_id.clone(),
        request_id: question.request_id.as_str().to_owned(),
        sql: question.request.sql().to_owned(),
        sent_sql: cached.sql.clone(),
        context: Some(question.context.clone()),
        bindings_json: question.request.bindings_json(),
        bundle_version: cached.bundle_version.clone(),
        principal_id: question.session.principal_id.clone(),
        agent_id: question.session.agent.clone().unwrap_or_default(),
    };
    proxy.recorder.intent(intent).await.map_err(|error| {
        warn!(%error, "intent not journaled");
        Stop::from(PdpError::AuditUnavailable)
    })?;
    Ok(permit_cached(question, cached, decision_id))
}

fn permit_cached(question: Question<'_>, cached: &Cached, decision_id: String) -> Answer {
    metrics::counter!(DECISIONS, "outcome" => if cached.masked { "mask" } else { "allow" }).increment(1);
    let foreseen = Foreseen {
        statement_kinds: &cached.statement_kinds,
        session_changes: &cached.session_changes,
        result_shapes: &cached.result_shapes,
        result_masks: &cached.result_masks,
        // Such a decision is not kept.
        stops: None,
    };
    permit(question, decision_id, &cached.sql, cached.masked, foreseen)
}

/// What the decision says of what will come back.
#[derive(Clone, Copy)]
struct Foreseen<'a> {
    statement_kinds: &'a [String],
    session_changes: &'a [SessionChange],
    result_shapes: &'a [ResultShape],
    result_masks: &'a [ResultMask],
    stops: Option<&'a Stopping>,
}

fn permit(question: Question<'_>, decision_id: String, sql: &str, masked: bool, foreseen: Foreseen<'_>) -> Answer {
    let tag = stamp(&Stamp {
        decision: Some(&decision_id),
        user: &question.session.principal_id,
        agent: question.session.agent.as_deref(),
        client_tag: question.request.query_tag().or(question.client_tag),
    });
    // Snowflake's error texts quote values: what the client did not write itself it is not told about.
    let rewritten = masked || sql != question.request.sql();
    Answer::Permitted(Box::new(Permitted {
        body: question.request.to_upstream(sql, &tag),
        decision_id,
        sql: sql.to_owned(),
        statement_kinds: foreseen.statement_kinds.to_vec(),
        session_changes: foreseen.session_changes.to_vec(),
        result_shapes: foreseen.result_shapes.to_vec(),
        result_masks: foreseen.result_masks.to_vec(),
        error_text: if rewritten { ErrorText::Withhold } else { ErrorText::Keep },
        stops: foreseen.stops.cloned(),
    }))
}
