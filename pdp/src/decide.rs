use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use icegate_pdp_approval::{Approval, NewApproval, statement_sha256};
use icegate_pdp_audit::{Asking, Client, DecisionEvent, Event};
use icegate_pdp_decision::{BoundValues, Earlier, Question, Temporaries, Written, decide, makes_temporary};
use icegate_pdp_model::{Code, Decision, Outcome, Principal, Reason, SessionContext, Timestamp};
use icegate_pdp_policy::{Bundle, PersonAction};
use icegate_pdp_store::{Change, SessionRow, SessionState, StateChange};
use icegate_proto::v1;
use tonic::{Request, Response, Status};
use tracing::debug;

use crate::{
    access::{NAME_BYTES_MAX, pep_named},
    approvals::{self, OPEN_PER_SESSION_MAX},
    clock, convert,
    metrics::{self, Stage},
    state::{Decided, Pdp, Work, named, new_id, unreadable},
};

/// How long after its time a PEP may still announce a run under a cached decision: the way of a message.
const CACHE_GRACE_SECONDS: i64 = 5;

/// Decides statements.
#[derive(Debug, Clone)]
pub(crate) struct Decisions(pub(crate) Arc<Pdp>);

#[tonic::async_trait]
impl v1::decision_service_server::DecisionService for Decisions {
    async fn decide(&self, request: Request<v1::DecideRequest>) -> Result<Response<v1::DecideResponse>, Status> {
        self.0.pep(&request)?;
        let _working = self.0.begin(Work::Decide)?;
        let (pep_id, pep_instance) = pep_named(request.metadata());
        let request = request.into_inner();
        self.0.check(&request)?;
        let answer = self.0.answer(request, pep_id, pep_instance).await?;
        Ok(Response::new(answer))
    }
}

/// One request with everything it is judged by.
struct Asked {
    request: v1::DecideRequest,
    context: SessionContext,
    session: Arc<SessionRow>,
    pep_id: String,
    pep_instance: String,
    bundle: Arc<Bundle>,
    decision_id: String,
    statement_sha256: String,
    /// The bound values that may name something.
    bound: Arc<BoundValues>,
    /// What earlier statements of the session left.
    earlier: Arc<Earlier>,
    /// Its temporary relations.
    temporaries: Temporaries,
    now: Timestamp,
}

/// What is to be answered, and what has to become durable first.
struct Verdict {
    decision: Decision,
    /// The approval that is asked for, or that this run consumes.
    approval: Option<Approval>,
    states: Vec<StateChange>,
    events: Vec<Event>,
}

impl Verdict {
    fn plain(decision: Decision) -> Self {
        Self { decision, approval: None, states: Vec::new(), events: Vec::new() }
    }

    fn refused(reason: Reason) -> Self {
        Self::plain(Decision::deny(reason))
    }
}

impl Pdp {
    fn check(&self, request: &v1::DecideRequest) -> Result<(), Status> {
        named("session_id", &request.session_id)?;
        for (what, text) in [("request_id", &request.request_id), ("approval_id", &request.approval_id)] {
            if text.len() > NAME_BYTES_MAX {
                return Err(Status::invalid_argument(format!("`{what}` is longer than {NAME_BYTES_MAX} bytes.")));
            }
        }
        for (what, bytes, limit, bytes_max) in [
            ("statement", request.sql.len(), "sql_bytes_max", self.limits.sql_bytes_max),
            ("bindings", request.bindings_json.len(), "bindings_bytes_max", self.limits.bindings_bytes_max),
        ] {
            if bytes > bytes_max {
                metrics::overload(limit);
                return Err(Status::invalid_argument(format!(
                    "The request's {what} has {bytes} bytes; at most {bytes_max} are accepted (`limits.{limit}`)."
                )));
            }
        }
        Ok(())
    }

    async fn answer(
        self: &Arc<Self>,
        request: v1::DecideRequest,
        pep_id: Option<String>,
        pep_instance: Option<String>,
    ) -> Result<v1::DecideResponse, Status> {
        let started = Instant::now();
        let session = self.session(&request.session_id).await?;
        let session = session.unwrap_or_else(|| Arc::new(nobody(&request.session_id)));
        let pep_id = pep_id.unwrap_or_else(|| session.pep_id.clone());
        let bundle = self.bundle();
        let context = convert::context_in(request.context.clone());
        let mut asked = Asked {
            statement_sha256: statement_sha256(
                &session.principal,
                &bundle.settings().connection,
                &context,
                &request.sql,
                &request.bindings_json,
                request.statement_count,
            ),
            pep_instance: pep_instance
                .or_else(|| self.instance_of(&pep_id))
                .unwrap_or_else(|| session.pep_instance.clone()),
            context,
            bound: Arc::new(bound_values(&request)),
            request,
            session,
            pep_id,
            bundle,
            decision_id: new_id(),
            earlier: Arc::default(),
            temporaries: Temporaries::new(),
            now: clock::now(),
        };
        metrics::stage(Stage::Session, started.elapsed());
        let answer = match standing(&asked.session, asked.now) {
            Some(reason) => self.record(&asked, Verdict::refused(reason)).await?,
            None if asked.request.approval_id.is_empty() => self.first_time(&mut asked).await?,
            None => self.released(&mut asked).await?,
        };
        Ok(answer)
    }

    /// A statement nobody has approved.
    async fn first_time(self: &Arc<Self>, asked: &mut Asked) -> Result<v1::DecideResponse, Status> {
        let decision = self.judge(asked, BTreeSet::new()).await?;
        match decision.outcome {
            Outcome::Allow | Outcome::Mask | Outcome::Deny => self.record(asked, Verdict::plain(decision)).await,
            Outcome::NeedsApproval => {
                // INVARIANT: held until the request is durable, so that a retry of the statement finds it.
                let _asking = self.asking.lock().await;
                let verdict = self.ask_people(asked, decision).await?;
                self.record(asked, verdict).await
            }
        }
    }

    /// Finds the request for this very statement of this session, or makes one.
    async fn ask_people(&self, asked: &Asked, decision: Decision) -> Result<Verdict, Status> {
        let open = approvals::open_of_session(self, &asked.session.session_id).await?;
        let open_count = open.len();
        let same = |approval: &Approval| {
            approval.statement_sha256 == asked.statement_sha256
                && approval.groups == decision.approval_groups
                && !approval.state_at(asked.now).is_final()
        };
        if let Some(approval) = open.into_iter().find(same) {
            return Ok(Verdict { approval: Some(approval), ..Verdict::plain(decision) });
        }
        if open_count >= OPEN_PER_SESSION_MAX {
            let sentence = format!(
                "{OPEN_PER_SESSION_MAX} statements of your session wait for approval already; cancel some, or wait until \
                 somebody has looked at them."
            );
            return Ok(Verdict::refused(Reason::new(Code::ApprovalUnusable, sentence)));
        }
        let settings = asked.bundle.settings();
        let new = NewApproval {
            id: new_id(),
            requester: asked.session.principal.clone(),
            session_id: asked.session.session_id.clone(),
            decision_id: asked.decision_id.clone(),
            // Who approves sees what the bound names are.
            sql: Written::of(&asked.request.sql, &asked.bound).sql.into_owned(),
            context: asked.context.clone(),
            groups: decision.approval_groups.clone(),
            reasons: decision.reasons.clone(),
            statement_sha256: asked.statement_sha256.clone(),
            approve_within_seconds: settings.approve_within_seconds,
            execute_within_seconds: settings.execute_within_seconds,
        };
        let approval = match Approval::request(new, asked.now) {
            Ok(approval) => approval,
            Err(error) => return Ok(Verdict::refused(error.reason())),
        };
        let event = Event::ApprovalRequested {
            approval_id: approval.id.clone(),
            decision_id: approval.decision_id.clone(),
            session_id: approval.session_id.clone(),
            principal: (&approval.requester).into(),
            groups: approval.groups.clone(),
            statement_sha256: approval.statement_sha256.clone(),
            approve_by: approval.approve_by,
        };
        let state = StateChange::PutApproval { approval: Box::new(approval.clone()), expected_version: None };
        Ok(Verdict { decision, approval: Some(approval), states: vec![state], events: vec![event] })
    }

    /// A statement whose approval is to be used. Everything is decided afresh.
    async fn released(self: &Arc<Self>, asked: &mut Asked) -> Result<v1::DecideResponse, Status> {
        let verdict = self.release(asked).await?;
        match self.record(asked, verdict).await {
            // Somebody used, cancelled or expired it between the look and the write.
            Err(status) if status.code() == tonic::Code::Aborted => {
                self.record(asked, Verdict::refused(unusable("The approval was just used or cancelled"))).await
            }
            answer => answer,
        }
    }

    async fn release(self: &Arc<Self>, asked: &mut Asked) -> Result<Verdict, Status> {
        let found = self.store.approval(&asked.request.approval_id).await.map_err(|error| unreadable(&error))?;
        let Some(approval) = found else {
            return Ok(Verdict::refused(unusable("There is no such approval")));
        };
        let consumed = match approval.consume(&asked.statement_sha256, asked.now) {
            Ok(consumed) => consumed,
            Err(error) => return Ok(Verdict::refused(error.reason())),
        };
        if approval.session_id != asked.session.session_id {
            return Ok(Verdict::refused(unusable("The approval is for another session")));
        }
        // Who approved must still be one who may: rights are judged at the release, not only at the click.
        let stands = |vote: &icegate_pdp_approval::Vote| {
            !self.revoked_since(&vote.approver.id, vote.at)
                && asked.bundle.may(&vote.approver, PersonAction::Approve(&vote.group)).outcome == Outcome::Allow
        };
        if !approval.votes.iter().all(stands) {
            return Ok(Verdict::refused(unusable("Somebody who approved may no longer do so")));
        }
        let decision = self.judge(asked, approval.groups.clone()).await?;
        Ok(match decision.outcome {
            Outcome::Allow | Outcome::Mask => Verdict {
                decision,
                states: vec![StateChange::PutApproval {
                    expected_version: Some(approval.version),
                    approval: Box::new(consumed),
                }],
                events: vec![Event::ApprovalConsumed {
                    approval_id: approval.id.clone(),
                    decision_id: asked.decision_id.clone(),
                }],
                approval: Some(approval),
            },
            Outcome::Deny => Verdict::plain(decision),
            Outcome::NeedsApproval => {
                let mut refused = Decision::deny(unusable("The policies now ask for other approvals"));
                refused.reasons.extend(decision.reasons);
                refused.policies = decision.policies;
                refused.statements = decision.statements;
                Verdict::plain(refused)
            }
        })
    }

    /// Why this session may not ask any more, as the store has it.
    pub(crate) async fn ended_meanwhile(&self, session_id: &str, now: Timestamp) -> Result<Option<Reason>, Status> {
        let session = self.store.session(session_id).await.map_err(|error| unreadable(&error))?;
        let reason = session.and_then(|session| standing(&session, now));
        if reason.is_some() {
            self.session_ended(session_id).await;
        }
        Ok(reason)
    }

    /// Decides; when a name is not in the catalog and the warehouse can be asked, asks it once and decides again.
    async fn judge(self: &Arc<Self>, asked: &mut Asked, approvals: BTreeSet<String>) -> Result<Decision, Status> {
        asked.temporaries = self.temporaries(&asked.session.session_id).await?;
        self.look_back(asked).await?;
        let mut decision = self.judge_once(asked, approvals.clone()).await?;
        let longest = self.syncing.as_ref().map_or(Duration::ZERO, |syncing| syncing.config.lookup_timeout);
        let until = Instant::now() + longest;
        for _ in 0..Self::LOOKUP_ROUNDS_MAX {
            if !self.look_up(&decision, &asked.session.principal.id, until).await {
                break;
            }
            asked.bundle = self.bundle();
            self.look_back(asked).await?;
            decision = self.judge_once(asked, approvals.clone()).await?;
        }
        let decision = if asked.request.masks_results { decision } else { without_result_masks(decision) };
        Ok(if asked.request.stops { decision } else { without_stops(decision) })
    }

    /// Finds what earlier statements left, as it stands under the bundle that is to decide.
    async fn look_back(&self, asked: &mut Asked) -> Result<(), Status> {
        let Asked { request, bound, session, bundle, temporaries, .. } = asked;
        asked.earlier = self.earlier(&request.sql, bound, session, bundle, temporaries).await?;
        Ok(())
    }

    /// The pure part, wherever its text belongs.
    async fn judge_once(&self, asked: &Asked, approvals: BTreeSet<String>) -> Result<Decision, Status> {
        let started = Instant::now();
        let bundle = Arc::clone(&asked.bundle);
        let session = Arc::clone(&asked.session);
        let (sql, context) = (asked.request.sql.clone(), asked.context.clone());
        let (bound, earlier) = (Arc::clone(&asked.bound), Arc::clone(&asked.earlier));
        let statement_count = asked.request.statement_count;
        let job = move || {
            let question = Question {
                principal: &session.principal,
                sql: &sql,
                bound: &bound,
                earlier: &earlier,
                session: &context,
                statement_count,
                approvals: &approvals,
            };
            decide(&question, &bundle)
        };
        let decision = self.deciders.run(&asked.request.sql, job).await.map_err(|_| {
            tracing::error!(decision_id = asked.decision_id, "deciding failed");
            Status::internal("The statement could not be decided, so it cannot run; tell your icegate administrator.")
        })?;
        metrics::stage(Stage::Decide, started.elapsed());
        Ok(decision)
    }

    /// Makes the decision durable, and only then answers.
    async fn record(&self, asked: &Asked, verdict: Verdict) -> Result<v1::DecideResponse, Status> {
        let started = Instant::now();
        let Verdict { decision, approval, mut states, mut events } = verdict;
        let event = event(asked, &decision, approval.as_ref());
        events.insert(0, Event::Decision(Box::new(event.clone())));
        let changed = approval.as_ref().filter(|_| !states.is_empty()).map(|approval| approval.id.clone());
        let session_id = &asked.session.session_id;
        if decision.outcome != Outcome::Deny {
            states.push(StateChange::NeedSession { session_id: session_id.clone() });
        }
        // What is only described makes nothing.
        if matches!(decision.outcome, Outcome::Allow | Outcome::Mask) && !asked.request.describe_only {
            let temporaries = asked.temporaries.clone();
            states.extend(self.followed(session_id, &decision, &asked.decision_id, &asked.bundle, temporaries));
        }
        let appended = match self.commit(Change { states, events, at: asked.now }).await {
            Ok(appended) => appended,
            // Somebody was first: if it was the end of the session, that is the answer.
            Err(status) if status.code() == tonic::Code::Aborted => {
                let Some(reason) = self.ended_meanwhile(session_id, asked.now).await? else { return Err(status) };
                return Box::pin(self.record(asked, Verdict::refused(reason))).await;
            }
            Err(status) => return Err(status),
        };
        metrics::stage(Stage::Record, started.elapsed());
        if let Some(approval_id) = changed {
            self.hub.approval_changed(&approval_id);
        }
        Ok(self.respond(asked, &decision, approval, event, appended.first().map_or(0, |record| record.seq)))
    }

    fn respond(
        &self,
        asked: &Asked,
        decision: &Decision,
        approval: Option<Approval>,
        event: DecisionEvent,
        record_seq: u64,
    ) -> v1::DecideResponse {
        let settings = asked.bundle.settings();
        metrics::decided(decision.outcome.as_str());
        let mut cacheable_seconds = 0;
        match decision.outcome {
            Outcome::Allow | Outcome::Mask if approval.is_none() => {
                // What earlier statements left is looked up every time, and what later ones will find is written down every
                // time. What stops others is done once. Names that values are bound by are told to nobody who keeps decisions.
                let by_name = matches!(*asked.bound, BoundValues::Named(_));
                let lasts = asked.earlier.is_empty() && !makes_temporary(decision) && !stops(decision) && !by_name;
                cacheable_seconds = if lasts { settings.cache_seconds } else { 0 };
                if cacheable_seconds > 0 {
                    let until = asked.now.plus_seconds(i64::from(cacheable_seconds) + CACHE_GRACE_SECONDS);
                    let principal_digest = asked.session.principal_digest.clone();
                    let names = decision.names_bound.clone();
                    let names_sha256 = convert::bound_at(&asked.request.bindings_json, &names);
                    self.remember(Decided { event, principal_digest, names, names_sha256, until });
                }
            }
            Outcome::Allow | Outcome::Mask => {}
            Outcome::Deny | Outcome::NeedsApproval => {
                if let Some(reason) = decision.reasons.first() {
                    metrics::refused(reason.code.as_str());
                }
            }
        }
        debug!(decision_id = asked.decision_id, outcome = decision.outcome.as_str(), "decided");
        let pending = approval.filter(|_| decision.outcome == Outcome::NeedsApproval);
        v1::DecideResponse {
            decision_id: asked.decision_id.clone(),
            approval: pending.map(|approval| v1::PendingApproval {
                approval_id: approval.id,
                groups: approval.groups.into_iter().collect(),
                hold_seconds_max: settings.hold_seconds_max,
            }),
            bundle_version: asked.bundle.version().to_owned(),
            cacheable_seconds,
            record_seq,
            ..convert::decision(decision)
        }
    }
}

/// The bound values that may name something, when the PEP keeps to them and the text asks for any.
fn bound_values(request: &v1::DecideRequest) -> BoundValues {
    let named = request.keeps_names && !request.bindings_json.is_empty() && Written::is_named(&request.sql);
    if named { convert::bound_values(&request.bindings_json) } else { BoundValues::default() }
}

fn event(asked: &Asked, decision: &Decision, approval: Option<&Approval>) -> DecisionEvent {
    let asking = Asking {
        decision_id: &asked.decision_id,
        session_id: &asked.session.session_id,
        request_id: &asked.request.request_id,
        pep_id: &asked.pep_id,
        pep_instance: &asked.pep_instance,
        principal: &asked.session.principal,
        client: &asked.session.client,
        context: &asked.context,
        sql: &asked.request.sql,
        bindings_json: &asked.request.bindings_json,
        describe_only: asked.request.describe_only,
        bundle_version: asked.bundle.version(),
        approval_id: approval.map(|approval| approval.id.as_str()),
    };
    DecisionEvent::new(&asking, decision)
}

/// Why a session may not ask, if it may not.
pub(crate) fn standing(session: &SessionRow, now: Timestamp) -> Option<Reason> {
    match session.state_at(now) {
        SessionState::Active => None,
        SessionState::Revoked => Some(Reason::new(
            Code::SessionRevoked,
            "Your session was revoked; sign in again, or ask your icegate administrator why.",
        )),
        SessionState::Closed | SessionState::Expired => {
            Some(Reason::new(Code::SessionEnded, "Your session has ended; connect again."))
        }
    }
}

/// A PEP that does not say that it masks results gets nothing to run that would need it.
fn without_result_masks(decision: Decision) -> Decision {
    let masks = match decision.outcome {
        Outcome::Deny => false,
        // Where they would be worn is not told before it may run.
        Outcome::NeedsApproval => decision.masks.iter().any(|masked| !masked.mask.site().is_source()),
        // What is read and dropped is NULL at its source: nothing is left for the PEP.
        Outcome::Allow | Outcome::Mask => !decision.result_masks.is_empty(),
    };
    if !masks {
        return decision;
    }
    let reason = Reason::new(
        Code::MaskImpossible,
        "This statement's result has to be masked by the proxy, and the one you are connected to does not do that; leave the masked columns out, and tell your icegate administrator.",
    );
    Decision { statements: decision.statements, policies: decision.policies, ..Decision::deny(reason) }
}

fn stops(decision: &Decision) -> bool {
    decision.statements.iter().any(|statement| statement.stops.is_some())
}

/// A PEP that does not say that it stops statements itself would send the text, whose ids may be anybody's.
fn without_stops(decision: Decision) -> Decision {
    if decision.outcome == Outcome::Deny || !stops(&decision) {
        return decision;
    }
    let reason = Reason::new(
        Code::SqlUnknown,
        "The proxy you are connected to does not stop statements by SQL; use your client's own way to cancel, and tell your icegate administrator.",
    );
    Decision { statements: decision.statements, policies: decision.policies, ..Decision::deny(reason) }
}

fn unusable(what: &str) -> Reason {
    Reason::new(Code::ApprovalUnusable, format!("{what}; send the statement again for a new request."))
}

/// The session of an id nobody was given: over before it began, and asked for by nobody known.
fn nobody(session_id: &str) -> SessionRow {
    SessionRow {
        session_id: session_id.to_owned(),
        principal: Principal {
            id: String::new(),
            issuer: String::new(),
            subject: String::new(),
            groups: BTreeSet::new(),
            agent: None,
            attributes: std::collections::BTreeMap::new(),
        },
        state: SessionState::Expired,
        client: Client::default(),
        pep_id: String::new(),
        pep_instance: String::new(),
        context: SessionContext::default(),
        opened: Timestamp(0),
        expires: Timestamp(0),
        token_issued: Timestamp(0),
        principal_digest: String::new(),
    }
}
