//! A PDP that answers what a test tells it to, and remembers what it was asked.

use std::{
    collections::HashMap,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use icegate_proto::v1::{
    approval_service_server::{ApprovalService, ApprovalServiceServer},
    audit_service_server::{AuditService, AuditServiceServer},
    decision_service_server::{DecisionService, DecisionServiceServer},
    session_service_server::{SessionService, SessionServiceServer},
    watch_response::Event,
    watch_service_server::{WatchService, WatchServiceServer},
    *,
};
use tokio::{net::TcpListener, sync::broadcast};
use tokio_stream::{Stream, StreamExt as _, wrappers::BroadcastStream, wrappers::TcpListenerStream};
use tonic::transport::ServerTlsConfig;
use tonic::{Request, Response, Status};

pub const ANALYST: &str = "corp/ana";

#[derive(Default)]
pub struct Told {
    pub decides: Vec<DecideRequest>,
    /// How many outcomes were known at each of them.
    pub outcomes_before: Vec<usize>,
    pub intents: Vec<AppendIntentRequest>,
    pub outcomes: Vec<AppendOutcomeRequest>,
    pub journal: Vec<JournalEntry>,
    pub cancelled: Vec<String>,
    pub closed: Vec<String>,
    pub opened: Vec<OpenSessionRequest>,
    pub waits: usize,
}

pub struct Script {
    /// By text; everything else is allowed as it is, for 60 seconds.
    pub decisions: HashMap<String, DecideResponse>,
    pub intent_error: Option<tonic::Code>,
    /// So long an outcome takes to be recorded.
    pub outcome_takes: Duration,
    pub approval: ApprovalState,
    pub session: SessionState,
    pub bundle: String,
    pub sessions: u32,
    pub expires_in: Duration,
    pub digest: String,
    /// Says at once that an approval is pending.
    pub impatient: bool,
    /// Refuses every statement.
    pub deny_all: bool,
    /// Who every token is from now on.
    pub principal: String,
    /// Its groups.
    pub groups: Vec<String>,
}

#[derive(Clone)]
pub struct FakePdp {
    pub told: Arc<Mutex<Told>>,
    pub script: Arc<Mutex<Script>>,
    events: broadcast::Sender<Event>,
}

impl FakePdp {
    pub fn new() -> Self {
        let script = Script {
            decisions: HashMap::new(),
            intent_error: None,
            outcome_takes: Duration::ZERO,
            approval: ApprovalState::Pending,
            session: SessionState::Active,
            bundle: "v1".into(),
            sessions: 0,
            expires_in: Duration::from_secs(3600),
            digest: "digest-ana".into(),
            impatient: false,
            deny_all: false,
            principal: ANALYST.into(),
            groups: Vec::new(),
        };
        Self { told: Arc::default(), script: Arc::new(Mutex::new(script)), events: broadcast::channel(16).0 }
    }

    /// Serves on this address (port 0 is any), in a runtime of its own that can be killed with all its connections.
    pub async fn serve(&self, addr: SocketAddr) -> (SocketAddr, Killable) {
        self.serve_with(addr, None).await
    }

    pub async fn serve_with(&self, addr: SocketAddr, tls: Option<ServerTlsConfig>) -> (SocketAddr, Killable) {
        let listener = loop {
            match std::net::TcpListener::bind(addr) {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let mut server = tonic::transport::Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls).unwrap();
        }
        let server = server
            .add_service(DecisionServiceServer::new(self.clone()))
            .add_service(SessionServiceServer::new(self.clone()))
            .add_service(ApprovalServiceServer::new(self.clone()))
            .add_service(AuditServiceServer::new(self.clone()))
            .add_service(WatchServiceServer::new(self.clone()));
        runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
        (addr, Killable(Some(runtime)))
    }

    pub fn emit(&self, event: Event) {
        if let Event::BundleVersion(version) = &event {
            self.script.lock().unwrap().bundle = version.clone();
        }
        let _ = self.events.send(event);
    }

    pub fn decide_as(&self, sql: &str, decision: DecideResponse) {
        self.script.lock().unwrap().decisions.insert(sql.into(), decision);
    }
}

pub fn deny(code: &str, policy: &str, message: &str) -> DecideResponse {
    DecideResponse {
        decision_id: "0198-deny".into(),
        outcome: Outcome::Deny.into(),
        reasons: vec![Reason { code: code.into(), policy_id: policy.into(), message: message.into() }],
        ..Default::default()
    }
}

pub fn needs_approval(hold_seconds_max: u32) -> DecideResponse {
    DecideResponse {
        decision_id: "0198-wait".into(),
        outcome: Outcome::NeedsApproval.into(),
        approval: Some(PendingApproval {
            approval_id: "A-1".into(),
            groups: vec!["data-stewards".into()],
            hold_seconds_max,
        }),
        ..Default::default()
    }
}

/// A server that goes away like a killed process.
pub struct Killable(Option<tokio::runtime::Runtime>);

impl Killable {
    pub fn kill(&mut self) {
        self.0.take().unwrap().shutdown_background();
    }
}

impl Drop for Killable {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl DecisionService for FakePdp {
    async fn decide(&self, request: Request<DecideRequest>) -> Answer<DecideResponse> {
        let asked = request.into_inner();
        let mut told = self.told.lock().unwrap();
        told.decides.push(asked.clone());
        let outcomes = told.outcomes.len();
        told.outcomes_before.push(outcomes);
        let script = self.script.lock().unwrap();
        let fresh = DecideResponse {
            decision_id: format!("decision-{}", told.decides.len()),
            outcome: Outcome::Allow.into(),
            sql: asked.sql.clone(),
            bundle_version: script.bundle.clone(),
            cacheable_seconds: 60,
            statement_kinds: vec!["select".into()],
            ..Default::default()
        };
        if !asked.approval_id.is_empty() {
            return Ok(Response::new(fresh));
        }
        if script.deny_all {
            return Ok(Response::new(deny("POLICY-NO-PERMIT", "", "No.")));
        }
        let decision = script.decisions.get(&asked.sql).cloned().map(|mut decision| {
            decision.bundle_version = script.bundle.clone();
            decision
        });
        Ok(Response::new(decision.unwrap_or(fresh)))
    }
}

#[tonic::async_trait]
impl SessionService for FakePdp {
    async fn open_session(&self, request: Request<OpenSessionRequest>) -> Answer<OpenSessionResponse> {
        let asked = request.into_inner();
        let result = if asked.token.contains("bad") {
            open_session_response::Result::Refusal(Reason {
                code: "IDENTITY-INVALID".into(),
                policy_id: String::new(),
                message: "The token does not verify. Get a fresh one.".into(),
            })
        } else {
            let mut script = self.script.lock().unwrap();
            script.sessions += 1;
            open_session_response::Result::Session(session(&format!("S-{}", script.sessions), &script))
        };
        self.told.lock().unwrap().opened.push(asked);
        Ok(Response::new(OpenSessionResponse { result: Some(result) }))
    }

    async fn get_session(&self, request: Request<GetSessionRequest>) -> Answer<GetSessionResponse> {
        let id = request.into_inner().session_id;
        let session = session(&id, &self.script.lock().unwrap());
        Ok(Response::new(GetSessionResponse { session: Some(session) }))
    }

    async fn close_session(&self, request: Request<CloseSessionRequest>) -> Answer<CloseSessionResponse> {
        self.told.lock().unwrap().closed.push(request.into_inner().session_id);
        Ok(Response::new(CloseSessionResponse {}))
    }

    async fn list_sessions(&self, _: Request<ListSessionsRequest>) -> Answer<ListSessionsResponse> {
        Err(Status::unimplemented("people"))
    }

    async fn revoke_sessions(&self, _: Request<RevokeSessionsRequest>) -> Answer<RevokeSessionsResponse> {
        Err(Status::unimplemented("people"))
    }
}

fn session(id: &str, script: &Script) -> Session {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    Session {
        session_id: id.into(),
        principal: Some(Principal {
            id: script.principal.clone(),
            groups: script.groups.clone(),
            agent: Some(Agent { id: "claude-code".into(), assurance: Assurance::Attested.into() }),
            ..Default::default()
        }),
        state: script.session.into(),
        expires_unix_ms: i64::try_from((now + script.expires_in).as_millis()).unwrap(),
        principal_digest: script.digest.clone(),
        ..Default::default()
    }
}

#[tonic::async_trait]
impl ApprovalService for FakePdp {
    async fn wait_approval(&self, request: Request<WaitApprovalRequest>) -> Answer<WaitApprovalResponse> {
        let asked = request.into_inner();
        self.told.lock().unwrap().waits += 1;
        let impatient = self.script.lock().unwrap().impatient;
        let wait = if impatient { 0 } else { asked.timeout_ms };
        let until = tokio::time::Instant::now() + Duration::from_millis(wait.into());
        loop {
            let state = self.script.lock().unwrap().approval;
            if state != ApprovalState::Pending || tokio::time::Instant::now() >= until {
                let vote = Vote {
                    group: "data-stewards".into(),
                    approver: "corp/stew".into(),
                    approve: state == ApprovalState::Approved,
                    comment: "not today".into(),
                    at_unix_ms: 0,
                };
                let approval = Approval {
                    approval_id: asked.approval_id,
                    state: state.into(),
                    votes: vec![vote],
                    ..Default::default()
                };
                return Ok(Response::new(WaitApprovalResponse { approval: Some(approval) }));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn cancel_approval(&self, request: Request<CancelApprovalRequest>) -> Answer<CancelApprovalResponse> {
        self.told.lock().unwrap().cancelled.push(request.into_inner().approval_id);
        Ok(Response::new(CancelApprovalResponse { approval: None }))
    }

    async fn list_approvals(&self, _: Request<ListApprovalsRequest>) -> Answer<ListApprovalsResponse> {
        Err(Status::unimplemented("people"))
    }

    async fn get_approval(&self, _: Request<GetApprovalRequest>) -> Answer<GetApprovalResponse> {
        Err(Status::unimplemented("people"))
    }

    async fn approve(&self, _: Request<ApproveRequest>) -> Answer<ApproveResponse> {
        Err(Status::unimplemented("people"))
    }

    async fn reject(&self, _: Request<RejectRequest>) -> Answer<RejectResponse> {
        Err(Status::unimplemented("people"))
    }
}

#[tonic::async_trait]
impl AuditService for FakePdp {
    type ExportRecordsStream = Pin<Box<dyn Stream<Item = Result<ExportRecordsResponse, Status>> + Send>>;

    async fn append_intent(&self, request: Request<AppendIntentRequest>) -> Answer<AppendIntentResponse> {
        if let Some(code) = self.script.lock().unwrap().intent_error {
            return Err(Status::new(code, "scripted"));
        }
        let mut told = self.told.lock().unwrap();
        told.intents.push(request.into_inner());
        let decision_id = format!("intent-{}", told.intents.len());
        Ok(Response::new(AppendIntentResponse { decision_id, record_seq: 1 }))
    }

    async fn append_outcome(&self, request: Request<AppendOutcomeRequest>) -> Answer<AppendOutcomeResponse> {
        let takes = self.script.lock().unwrap().outcome_takes;
        tokio::time::sleep(takes).await;
        self.told.lock().unwrap().outcomes.push(request.into_inner());
        Ok(Response::new(AppendOutcomeResponse { record_seq: 1 }))
    }

    async fn append_journal(&self, request: Request<AppendJournalRequest>) -> Answer<AppendJournalResponse> {
        let entries = request.into_inner().entries;
        let appended = u32::try_from(entries.len()).unwrap();
        self.told.lock().unwrap().journal.extend(entries);
        Ok(Response::new(AppendJournalResponse { appended }))
    }

    async fn search_records(&self, _: Request<SearchRecordsRequest>) -> Answer<SearchRecordsResponse> {
        Err(Status::unimplemented("people"))
    }

    async fn export_records(&self, _: Request<ExportRecordsRequest>) -> Answer<Self::ExportRecordsStream> {
        Err(Status::unimplemented("people"))
    }
}

#[tonic::async_trait]
impl WatchService for FakePdp {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<WatchResponse, Status>> + Send>>;

    async fn watch(&self, _: Request<WatchRequest>) -> Answer<Self::WatchStream> {
        let first = Event::BundleVersion(self.script.lock().unwrap().bundle.clone());
        let later = BroadcastStream::new(self.events.subscribe()).filter_map(Result::ok);
        let beats = tokio_stream::wrappers::IntervalStream::new(tokio::time::interval(Duration::from_millis(100)))
            .map(|_| Event::Heartbeat(Heartbeat {}));
        let events = tokio_stream::iter([first]).chain(later.merge(beats));
        Ok(Response::new(Box::pin(events.map(|event| Ok(WatchResponse { event: Some(event) })))))
    }
}
