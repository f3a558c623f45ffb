//! The PDP as this proxy sees it: its calls, each with a time limit, and when it was last heard.

use std::{
    error::Error as _,
    future::Future,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use icegate_proto::v1::{
    AnswerCatalogQuestionRequest, AppendIntentRequest, AppendJournalRequest, AppendOutcomeRequest, Approval,
    BeginCatalogQueryRequest, CancelApprovalRequest, CloseSessionRequest, DecideRequest, DecideResponse,
    GetSessionRequest, JournalEntry, OpenSessionRequest, OpenSessionResponse, Session, TakeCatalogQuestionsRequest,
    TakeCatalogQuestionsResponse, WaitApprovalRequest, WatchRequest, WatchResponse,
    approval_service_client::ApprovalServiceClient, audit_service_client::AuditServiceClient,
    catalog_service_client::CatalogServiceClient, decision_service_client::DecisionServiceClient,
    session_service_client::SessionServiceClient, watch_service_client::WatchServiceClient,
};
use tonic::{
    Code, Request, Response, Status, Streaming,
    metadata::{Ascii, MetadataValue, errors::InvalidMetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, ClientTlsConfig, Endpoint},
};

use uuid::Uuid;

use crate::{config, metrics::PDP_DURATION};

/// Bytes of one message from the PDP: a decision carries the rewritten text.
const MESSAGE_BYTES_MAX: usize = 16 * 1024 * 1024;

#[derive(Debug, Clone)]
pub(crate) struct Pdp {
    /// Over the newest certificates that could be used.
    channel: Arc<ArcSwap<Channel>>,
    named: Named,
    instance_id: Arc<str>,
    timeout: Duration,
    watch_stale: Duration,
    grace: Duration,
    contact: Arc<Contact>,
}

/// Says with every call which PEP it is, and which start of it.
#[derive(Debug, Clone)]
struct Named {
    pep_id: MetadataValue<Ascii>,
    instance_id: MetadataValue<Ascii>,
}

impl Interceptor for Named {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert(icegate_proto::PEP_ID, self.pep_id.clone());
        request.metadata_mut().insert(icegate_proto::PEP_INSTANCE, self.instance_id.clone());
        Ok(request)
    }
}

/// When the PDP was last heard, in milliseconds after `start`.
#[derive(Debug)]
struct Contact {
    start: Instant,
    any: AtomicU64,
    watch: AtomicU64,
}

/// Why the PDP can never be called.
#[derive(Debug, thiserror::Error)]
pub enum PdpSetupError {
    /// Its address or the certificates.
    #[error("connection not possible")]
    Transport(#[from] tonic::transport::Error),
    /// The name this proxy calls itself by.
    #[error("`pep_id` cannot be sent")]
    Name(#[from] InvalidMetadataValue),
}

/// Why a call brought no answer that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PdpError {
    #[error("the pdp cannot be reached")]
    Unreachable,
    #[error("the pdp could not make its record durable")]
    AuditUnavailable,
    /// What was relied on no longer stands: decide again.
    #[error("the cached decision no longer stands")]
    Void,
    #[error("the pdp refused the call: {message}")]
    Refused { code: Code, message: String },
}

impl Pdp {
    /// Prepares the connection; it is opened with the first call.
    pub(crate) fn new(config: &config::Pdp, tls: Option<ClientTlsConfig>, pep_id: &str) -> Result<Self, PdpSetupError> {
        let instance_id: Arc<str> = Uuid::new_v4().to_string().into();
        let named = Named { pep_id: pep_id.parse()?, instance_id: instance_id.parse()? };
        Ok(Self {
            channel: Arc::new(ArcSwap::from_pointee(connection(config, tls)?)),
            named,
            instance_id,
            timeout: config.timeout,
            watch_stale: config.watch_stale,
            grace: config.grace,
            contact: Arc::new(Contact { start: Instant::now(), any: AtomicU64::new(0), watch: AtomicU64::new(0) }),
        })
    }

    /// Calls that begin from now on show and trust what these say. Those on their way, and the watch while it lasts, end where
    /// they began.
    pub(crate) fn reconnect(&self, config: &config::Pdp, tls: ClientTlsConfig) -> Result<(), PdpSetupError> {
        self.channel.store(Arc::new(connection(config, Some(tls))?));
        Ok(())
    }

    fn channel(&self) -> InterceptedService<Channel, Named> {
        InterceptedService::new(Channel::clone(&self.channel.load()), self.named.clone())
    }

    /// Whether the watch has been heard lately enough. The start counts as heard.
    pub(crate) fn heard(&self) -> bool {
        self.contact.since(&self.contact.watch) <= self.watch_stale
    }

    /// Whether the watch has been heard at all, and lately enough.
    pub(crate) fn ready(&self) -> bool {
        self.contact.watch.load(Ordering::Relaxed) > 0 && self.heard()
    }

    /// Whether cached allows may still run without the PDP.
    pub(crate) fn in_grace(&self) -> bool {
        !self.grace.is_zero() && self.contact.since(&self.contact.any) <= self.grace
    }

    pub(crate) fn watch_stale(&self) -> Duration {
        self.watch_stale
    }

    /// Notes that the watch stream was heard.
    pub(crate) fn watch_heard(&self) {
        self.contact.mark(&self.contact.watch);
        self.contact.mark(&self.contact.any);
    }

    pub(crate) async fn open_session(&self, request: OpenSessionRequest) -> Result<OpenSessionResponse, PdpError> {
        let mut client = SessionServiceClient::new(self.channel());
        self.call("open_session", self.timeout, client.open_session(request)).await
    }

    pub(crate) async fn session(&self, session_id: &str) -> Result<Session, PdpError> {
        let mut client = SessionServiceClient::new(self.channel());
        let request = GetSessionRequest { session_id: session_id.to_owned() };
        let answer = self.call("get_session", self.timeout, client.get_session(request)).await?;
        answer.session.ok_or_else(|| malformed("no session in the answer"))
    }

    pub(crate) async fn close_session(&self, session_id: &str) -> Result<(), PdpError> {
        let mut client = SessionServiceClient::new(self.channel());
        let request = CloseSessionRequest { session_id: session_id.to_owned() };
        self.call("close_session", self.timeout, client.close_session(request)).await.map(drop)
    }

    pub(crate) async fn decide(&self, request: DecideRequest) -> Result<DecideResponse, PdpError> {
        let mut client = DecisionServiceClient::new(self.channel())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(usize::MAX);
        self.call("decide", self.timeout, client.decide(request)).await
    }

    /// The decision id of this run.
    pub(crate) async fn append_intent(&self, request: AppendIntentRequest) -> Result<String, PdpError> {
        let mut client = AuditServiceClient::new(self.channel());
        self.call("append_intent", self.timeout, client.append_intent(request)).await.map(|answer| answer.decision_id)
    }

    pub(crate) async fn append_outcome(&self, request: AppendOutcomeRequest) -> Result<(), PdpError> {
        let mut client = AuditServiceClient::new(self.channel());
        self.call("append_outcome", self.timeout, client.append_outcome(request)).await.map(drop)
    }

    /// How many of `entries` are durable now, counted from the first.
    pub(crate) async fn append_journal(&self, pep_id: &str, entries: Vec<JournalEntry>) -> Result<u32, PdpError> {
        let mut client = AuditServiceClient::new(self.channel()).max_encoding_message_size(usize::MAX);
        let request = AppendJournalRequest { pep_id: pep_id.to_owned(), entries };
        self.call("append_journal", self.timeout, client.append_journal(request)).await.map(|answer| answer.appended)
    }

    /// The approval once it is no longer pending, or as it is after `wait`.
    pub(crate) async fn wait_approval(&self, approval_id: &str, wait: Duration) -> Result<Approval, PdpError> {
        let mut client = ApprovalServiceClient::new(self.channel()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let timeout_ms = u32::try_from(wait.as_millis()).unwrap_or(30_000).min(30_000);
        let request = WaitApprovalRequest { approval_id: approval_id.to_owned(), timeout_ms };
        let answer = self.call("wait_approval", wait + self.timeout, client.wait_approval(request)).await?;
        answer.approval.ok_or_else(|| malformed("no approval in the answer"))
    }

    pub(crate) async fn cancel_approval(&self, approval_id: &str) -> Result<(), PdpError> {
        let mut client = ApprovalServiceClient::new(self.channel()).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let request = CancelApprovalRequest { approval_id: approval_id.to_owned() };
        self.call("cancel_approval", self.timeout, client.cancel_approval(request)).await.map(drop)
    }

    pub(crate) async fn watch(&self, pep_id: &str) -> Result<Streaming<WatchResponse>, PdpError> {
        let mut client = WatchServiceClient::new(self.channel());
        let request = WatchRequest { pep_id: pep_id.to_owned(), instance_id: self.instance_id.as_ref().to_owned() };
        self.call("watch", self.timeout, client.watch(request)).await
    }

    /// Questions about the warehouse's objects, as long as the stream is open.
    pub(crate) async fn take_catalog_questions(
        &self,
        pep_id: &str,
    ) -> Result<Streaming<TakeCatalogQuestionsResponse>, PdpError> {
        let mut client = CatalogServiceClient::new(self.channel());
        let request = TakeCatalogQuestionsRequest { pep_id: pep_id.to_owned() };
        self.call("take_catalog_questions", self.timeout, client.take_catalog_questions(request)).await
    }

    /// Makes durable that this text is about to be sent; its decision id.
    pub(crate) async fn begin_catalog_query(&self, question_id: &str, sql: &str) -> Result<String, PdpError> {
        let mut client = CatalogServiceClient::new(self.channel());
        let request = BeginCatalogQueryRequest { question_id: question_id.to_owned(), sql: sql.to_owned() };
        let begun = self.call("begin_catalog_query", self.timeout, client.begin_catalog_query(request)).await?;
        if begun.decision_id.is_empty() {
            return Err(malformed("no decision id in the answer"));
        }
        Ok(begun.decision_id)
    }

    pub(crate) async fn answer_catalog_question(&self, answer: AnswerCatalogQuestionRequest) -> Result<(), PdpError> {
        let mut client = CatalogServiceClient::new(self.channel()).max_encoding_message_size(usize::MAX);
        self.call("answer_catalog_question", self.timeout, client.answer_catalog_question(answer)).await.map(drop)
    }

    async fn call<T>(
        &self,
        call: &'static str,
        timeout: Duration,
        asked: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, PdpError> {
        let started = Instant::now();
        let answer = tokio::time::timeout(timeout, asked).await;
        metrics::histogram!(PDP_DURATION, "call" => call).record(started.elapsed());
        match answer {
            Err(_elapsed) => Err(PdpError::Unreachable),
            Ok(Ok(response)) => {
                self.contact.mark(&self.contact.any);
                Ok(response.into_inner())
            }
            Ok(Err(status)) => Err(self.error(&status)),
        }
    }

    fn error(&self, status: &Status) -> PdpError {
        // A status made on this side has the transport's error as its source; one that came over the wire has none.
        if status.source().is_some() {
            return PdpError::Unreachable;
        }
        self.contact.mark(&self.contact.any);
        match status.code() {
            Code::Unavailable => PdpError::AuditUnavailable,
            Code::FailedPrecondition => PdpError::Void,
            code => PdpError::Refused { code, message: status.message().to_owned() },
        }
    }
}

/// Opened with the first call.
fn connection(config: &config::Pdp, tls: Option<ClientTlsConfig>) -> Result<Channel, PdpSetupError> {
    let mut endpoint = Endpoint::from(config.url.clone())
        .connect_timeout(config.connect_timeout)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(config.timeout)
        .keep_alive_while_idle(true);
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls)?;
    }
    Ok(endpoint.connect_lazy())
}

fn malformed(message: &str) -> PdpError {
    PdpError::Refused { code: Code::Internal, message: message.to_owned() }
}

impl Contact {
    fn mark(&self, at: &AtomicU64) {
        // 0 is the start: nothing heard yet.
        at.store(millis(self.start.elapsed()).max(1), Ordering::Relaxed);
    }

    fn since(&self, at: &AtomicU64) -> Duration {
        Duration::from_millis(millis(self.start.elapsed()).saturating_sub(at.load(Ordering::Relaxed)))
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::Pdp;
    use crate::config::Config;

    #[tokio::test]
    async fn a_pdp_never_heard_makes_nobody_ready() {
        let text = r#"
            pep_id = "pep-1"
            [listen]
            addr = "127.0.0.1:0"
            danger_plaintext = true
            [upstream]
            url = "http://127.0.0.1:9"
            danger_plaintext = true
            account = "ACCT"
            user = "ICEGATE"
            auth = "password"
            password_env = "UPSTREAM_PASSWORD"
            [pdp]
            url = "http://127.0.0.1:9"
            danger_plaintext = true
        "#;
        let config = Config::parse(text, "pep.toml").unwrap();
        let pdp = Pdp::new(&config.connections[0].pdp, None, &config.pep_id).unwrap();
        assert!(pdp.heard() && !pdp.ready(), "the first statements may try, but nobody should send them yet");
        pdp.watch_heard();
        assert!(pdp.ready());
    }
}
