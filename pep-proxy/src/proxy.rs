//! One proxy: its parts, and which of them answers which call.

use std::{fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use icegate_pep_protocol::{
    Limits, PepCode, Reply, Route, RouteError, SealedChunk, SealedSession, SignInAsk, SignInState, TokenError,
    TokenKind, answer as own, decode_body, parse_authorization,
    reply::SessionLoss,
    upstream::{self as paths},
};
use serde_json::{Map, Value};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::{
    answer::{self, Queries},
    api::{self, pool::Pool},
    ask::{
        cache::Cache,
        pdp::{Pdp, PdpError},
    },
    chunk::{self, Storage},
    config::Hold,
    forward::{
        account::Account,
        upstream::{RawReply, Upstream, UpstreamError},
    },
    hold::Holds,
    listen::{Answer, Call, Unread},
    masking::Masking,
    metrics,
    record::{Recorder, unix_ms},
    refuse::Stop,
    session::{
        Ending, Session, Sessions,
        login::{self, fresh_request_id},
        opened::Sealing,
        renew::{self, Renewal},
    },
    sign_in::{self, SignIn},
    statement::{self, Kept, Told},
};

/// Bytes up to which a reply is looked into for the end of the session: such replies are short.
const SESSION_LOSS_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a body without a token of ours, which is a login: its token and what the driver says of its machine.
const STRANGER_BODY_BYTES_MAX: usize = 256 * 1024;
/// Pauses between tries to close a session at the PDP. Then it ends with its identity.
const CLOSE_RETRIES: [Duration; 4] =
    [Duration::ZERO, Duration::from_secs(1), Duration::from_secs(10), Duration::from_mins(1)];

/// Everything one proxy works with.
pub(crate) struct Proxy {
    pub(crate) pep_id: String,
    /// Name of the connection; empty where there is only one and it has none.
    pub(crate) connection: String,
    pub(crate) body_bytes_max: usize,
    pub(crate) limits: Limits,
    pub(crate) pdp: Pdp,
    pub(crate) cache: Cache,
    pub(crate) sessions: Sessions,
    pub(crate) sealing: ArcSwap<Sealing>,
    pub(crate) session_ttl: Duration,
    pub(crate) master_ttl: Duration,
    pub(crate) upstream: Upstream,
    pub(crate) storage: Storage,
    pub(crate) masking: Arc<Masking>,
    pub(crate) account: Account,
    /// `None` refuses sign-ins with a browser.
    pub(crate) sign_in: Option<SignIn>,
    pub(crate) recorder: Recorder,
    pub(crate) hold: Hold,
    pub(crate) holds: Holds,
    pub(crate) kept: Kept,
    pub(crate) queries: Queries,
    pub(crate) pool: Pool,
    pub(crate) stopping: watch::Sender<bool>,
    /// Tasks that must end before the process does.
    pub(crate) working: watch::Sender<usize>,
}

impl fmt::Debug for Proxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Proxy").field("pep_id", &self.pep_id).finish_non_exhaustive()
    }
}

impl Call {
    /// The token the driver sent, if it is one.
    pub(crate) fn token(&self) -> Option<&str> {
        token(&self.headers)
    }
}

pub(crate) fn token(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).and_then(parse_authorization)
}

impl Proxy {
    /// Answers one call, whatever it is.
    pub(crate) async fn answer(self: &Arc<Self>, call: Call) -> Answer {
        let route = match Route::parse(call.method.as_str(), call.path(), call.query()) {
            Ok(route) => route,
            Err(error) => return counted("unknown", Err(unknown_route(&error))),
        };
        let name = route.name();
        match route {
            // Boxed, all but what is asked most: the largest of them would make every other as large.
            Route::Chunk(sealed) => Box::pin(chunk::serve(self, &sealed, &call)).await,
            Route::SignInPage(asked) => Box::pin(sign_in::page(self, &asked, &call)).await,
            Route::SignInReturn(returned) => Box::pin(sign_in::back(self, &returned, &call)).await,
            Route::ApiSubmit { request_id, detached } => {
                api_counted(name, Box::pin(api::submit(self, request_id, detached, &call)).await)
            }
            Route::ApiResult { handle, partition } => {
                api_counted(name, Box::pin(api::result(self, handle, partition, &call)).await)
            }
            Route::ApiCancel(handle) => api_counted(name, Box::pin(api::cancel(self, &handle, &call)).await),
            route => counted(name, self.serve(route, &call).await),
        }
    }

    /// Bytes of a body that are taken: few before anything shows that the caller may be somebody. `told` is what the body
    /// is said to have; a short one needs no such look.
    pub(crate) fn body_bytes_max(&self, headers: &HeaderMap, told: Option<usize>) -> usize {
        if told.is_some_and(|bytes| bytes <= STRANGER_BODY_BYTES_MAX) {
            return self.body_bytes_max;
        }
        let sealing = self.sealing.load();
        let known = token(headers).is_some_and(|token| {
            [TokenKind::Session, TokenKind::Master]
                .into_iter()
                .any(|kind| sealing.sealer.open(token, kind, unix_ms()).is_ok())
        });
        let bearer = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer =
            bearer.and_then(|value| value.split_once(' ')).filter(|(scheme, _)| scheme.eq_ignore_ascii_case("Bearer"));
        let known = known || bearer.is_some_and(|(_, token)| self.pool.knows(token.trim()));
        if known { self.body_bytes_max } else { self.body_bytes_max.min(STRANGER_BODY_BYTES_MAX) }
    }

    /// Whether a token was sealed here, whatever its kind and its end.
    pub(crate) fn sealed(&self, token: &str) -> bool {
        let sealing = self.sealing.load();
        let mut kinds = [TokenKind::Session, TokenKind::Master].into_iter();
        // Opened lately, mostly: once more would cost more than all else that is asked here.
        sealing.opened.get(token, unix_ms()).is_some()
            || kinds.any(|kind| sealing.sealer.open_ignoring_expiry(token, kind).is_ok())
    }

    /// Whether the address of a part was sealed here.
    pub(crate) fn sealed_part(&self, address: &str) -> bool {
        !matches!(
            SealedChunk::open(&self.sealing.load().sealer, address, unix_ms()),
            Err(TokenError::Malformed | TokenError::UnknownKey | TokenError::Forged)
        )
    }

    /// Whether what a browser brings to a sign-in was sealed here.
    pub(crate) fn sealed_sign_in(&self, sealed: &str) -> bool {
        let sealing = self.sealing.load();
        let opened = [
            SignInAsk::open(&sealing.sealer, sealed, unix_ms()).err(),
            SignInState::open(&sealing.sealer, sealed, unix_ms()).err(),
        ];
        opened.into_iter().any(|error| matches!(error, None | Some(TokenError::Expired)))
    }

    async fn serve(self: &Arc<Self>, route: Route, call: &Call) -> Result<Told, Stop> {
        let body = match route {
            Route::Login { names } => Box::pin(login::login(self, names, call)).await?,
            Route::SignInAsk => Box::pin(sign_in::ask(self, call)).await?,
            Route::TokenRequest => Box::pin(renew::renew(self, call)).await?,
            Route::Telemetry => own::telemetry().into(),
            Route::Logout => self.logout(call),
            Route::Heartbeat => {
                let session = self.session(call).await?;
                self.heartbeat(&session).await?
            }
            Route::Query { request_id } => {
                let session = self.session(call).await?;
                return Box::pin(statement::query(self, session, request_id, call)).await;
            }
            Route::QueryResult(id) => {
                return answer::result(self, self.session(call).await?, id, self.base(call)).await;
            }
            Route::Monitoring(id) => {
                let session = self.session(call).await?;
                Box::pin(answer::monitoring(self, &session, &id)).await?
            }
            Route::AbortByRequest => {
                let session = self.session(call).await?;
                Box::pin(answer::abort_by_request(self, &session, call)).await?
            }
            Route::Chunk(_)
            | Route::SignInPage(_)
            | Route::SignInReturn(_)
            | Route::ApiSubmit { .. }
            | Route::ApiResult { .. }
            | Route::ApiCancel(_) => {
                return Err(unknown_route(&RouteError::Unknown));
            }
            Route::AbortById(id) => {
                let session = self.session(call).await?;
                Box::pin(answer::abort_by_id(self, &session, &id)).await?
            }
        };
        Ok(body.into())
    }

    /// Where the client of a call reaches this proxy.
    pub(crate) fn base(&self, call: &Call) -> Option<Arc<str>> {
        self.storage.base().map(Arc::from).or_else(|| call.base())
    }

    /// The call's body as a JSON object.
    pub(crate) fn decoded(&self, call: &Call) -> Result<Map<String, Value>, Stop> {
        let encoding = match call.headers.get(header::CONTENT_ENCODING) {
            None => None,
            Some(value) => Some(value.to_str().unwrap_or("?")),
        };
        decode_body(&call.body, encoding, &self.limits).map_err(|error| Stop::new(error.code(), sentence(&error)))
    }

    /// The session the call's token stands for, if it still stands.
    async fn session(self: &Arc<Self>, call: &Call) -> Result<Arc<Session>, Stop> {
        let token = call.token().ok_or(Stop::TokenInvalid)?;
        let opened = self.sealing.load().opened.get(token, unix_ms());
        let session = if let Some(session) = opened {
            self.standing(session).await?
        } else {
            let sealing = self.sealing.load_full();
            let sealed = sealing.sealer.open(token, TokenKind::Session, unix_ms()).map_err(|error| match error {
                TokenError::Expired => Stop::Expired,
                TokenError::Malformed | TokenError::UnknownKey | TokenError::Forged => Stop::TokenInvalid,
            })?;
            let expires_ms = sealed.expires_ms;
            let session = Box::pin(self.resume(sealed)).await?;
            sealing.opened.keep(token, &session, expires_ms);
            session
        };
        session.touch();
        Ok(session)
    }

    /// The session of an opened token: from memory, else begun again, once the PDP says it stands.
    pub(crate) async fn resume(self: &Arc<Self>, sealed: SealedSession) -> Result<Arc<Session>, Stop> {
        let epoch = self.sessions.epoch();
        if let Some(session) = self.sessions.get(&sealed.session_id) {
            return self.standing(session).await;
        }
        let there = self.pdp.session(&sealed.session_id).await?;
        if let Some(ending) = Ending::of(there.state()) {
            return Err(ending.into());
        }
        info!(session_id = sealed.session_id, "session resumed from its token");
        self.sessions.insert(Arc::new(Session::new(sealed, None, epoch))).ok_or_else(|| {
            Stop::new(
                PepCode::RequestLimit,
                "This proxy has no room for another session. Try again later, or through another proxy.",
            )
        })
    }

    /// A session in memory, if it still stands.
    async fn standing(self: &Arc<Self>, session: Arc<Session>) -> Result<Arc<Session>, Stop> {
        if let Some(ending) = session.ending() {
            return Err(ending.into());
        }
        if !session.is_checked(self.sessions.epoch()) {
            Box::pin(self.check(&session)).await?;
        }
        Ok(session)
    }

    /// Asks the PDP whether a session in memory still stands.
    pub(crate) async fn check(self: &Arc<Self>, session: &Arc<Session>) -> Result<(), Stop> {
        let epoch = self.sessions.epoch();
        match self.pdp.session(&session.id).await {
            Ok(there) => match Ending::of(there.state()) {
                None => {
                    session.set_checked(epoch);
                    Ok(())
                }
                Some(ending) => {
                    self.end(session, ending);
                    Err(ending.into())
                }
            },
            Err(PdpError::Unreachable) if self.pdp.in_grace() => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Something may have been missed: every session is asked about before its next request is served, and at once where
    /// a statement is on its way, which may never ask again.
    pub(crate) fn doubt_all(self: &Arc<Self>) {
        self.sessions.doubt_all();
        let proxy = Arc::clone(self);
        self.spawn(async move {
            for session in proxy.sessions.busy() {
                if let Err(error) = proxy.check(&session).await {
                    debug!(session_id = session.id, ?error, "session with work on its way");
                }
            }
        });
    }

    /// Ends a session that an administrator has ended.
    pub(crate) fn revoke(self: &Arc<Self>, session_id: &str) {
        match self.sessions.get(session_id) {
            Some(session) => {
                info!(session_id, "session revoked");
                self.end(&session, Ending::Revoked);
            }
            // It may be on its way into memory, taken for standing.
            None => self.sessions.doubt_all(),
        }
    }

    /// Ends a session here and at Snowflake.
    pub(crate) fn end(self: &Arc<Self>, session: &Arc<Session>, ending: Ending) {
        if session.end(ending) {
            let (proxy, session) = (Arc::clone(self), Arc::clone(session));
            self.spawn(async move { proxy.leave_upstream(&session).await });
        }
    }

    /// Stops what runs at Snowflake for a session and closes it there, as far as that goes. What a driver left in the
    /// background goes on after its logout and the end of its token, as it would without icegate.
    pub(crate) async fn leave_upstream(&self, session: &Session) {
        for run in session.running() {
            run.cancel();
            answer::stop_upstream(self, session, &run).await;
        }
        for statement in session.background() {
            answer::write_off(self, session, &statement, session.ending() == Some(Ending::Revoked)).await;
        }
        if let Ok(id) = fresh_request_id() {
            let tokens = session.upstream();
            let (path, body) = (paths::logout_path(&id), Bytes::from_static(b"{}"));
            if let Err(error) = self.upstream.call(Method::POST, &path, Some(&tokens.session), Some(body)).await {
                warn!(session_id = session.id, %error, "session at the warehouse not closed");
            }
        }
    }

    /// The driver goes. It is told that all is well whatever happens: it cannot do anything about it.
    fn logout(self: &Arc<Self>, call: &Call) -> Bytes {
        let sealing = self.sealing.load();
        let opened = call.token().and_then(|token| sealing.sealer.open_ignoring_expiry(token, TokenKind::Session).ok());
        if let Some(sealed) = opened {
            let session = self
                .sessions
                .get(&sealed.session_id)
                .unwrap_or_else(|| Arc::new(Session::new(sealed, None, self.sessions.epoch())));
            self.close(&session);
        }
        Bytes::from_static(own::logged_out())
    }

    /// Closes a session that nobody needs any more, here, at the PDP and at Snowflake.
    pub(crate) fn close(self: &Arc<Self>, session: &Arc<Session>) {
        session.end(Ending::Closed);
        self.close_at_pdp(session.id.clone());
        let (proxy, session) = (Arc::clone(self), Arc::clone(session));
        self.spawn(async move {
            proxy.leave_upstream(&session).await;
            proxy.sessions.remove(&session.id);
        });
    }

    /// Tells the PDP that a session is closed, trying again for a while.
    pub(crate) fn close_at_pdp(&self, session_id: String) {
        let pdp = self.pdp.clone();
        self.spawn(async move {
            for pause in CLOSE_RETRIES {
                tokio::time::sleep(pause).await;
                match pdp.close_session(&session_id).await {
                    Ok(()) | Err(PdpError::Void | PdpError::Refused { .. }) => return,
                    Err(PdpError::Unreachable | PdpError::AuditUnavailable) => {}
                }
            }
            warn!(session_id, "session not closed at the pdp; it ends with its identity");
        });
    }

    async fn heartbeat(&self, session: &Session) -> Result<Bytes, Stop> {
        let path = paths::heartbeat_path(&fresh_request_id()?);
        // A warehouse that knows no heartbeat is no reason to refuse ours; one that has ended the session is.
        if let Err(error) = self.call_upstream(session, Method::POST, &path, Some(Bytes::from_static(b"{}"))).await? {
            warn!(%error, "heartbeat not passed on");
        }
        Ok(Bytes::from_static(own::heartbeat()))
    }

    /// One call to Snowflake as this session. When its token there has expired it is renewed and the call sent once
    /// more: a call that is refused for its token was not carried out.
    pub(crate) async fn call_upstream(
        &self,
        session: &Session,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Result<RawReply, UpstreamError>, Stop> {
        let tokens = session.upstream();
        let reply = match self.upstream.call(method.clone(), path, Some(&tokens.session), body.clone()).await {
            Ok(reply) => reply,
            Err(error) => return Ok(Err(error)),
        };
        match self.loss(&reply) {
            None => Ok(Ok(reply)),
            Some(SessionLoss::Gone) => Err(self.upstream_gone(session)),
            Some(SessionLoss::Expired) => {
                match Box::pin(renew::upstream_token(self, session, Some(&tokens.session))).await {
                    Renewal::Done => {
                        let tokens = session.upstream();
                        let again = Box::pin(self.upstream.call(method, path, Some(&tokens.session), body)).await;
                        match again {
                            Ok(reply) if self.loss(&reply).is_some() => Err(self.upstream_gone(session)),
                            other => Ok(other),
                        }
                    }
                    // The driver's master token may bring the one that is missing here.
                    Renewal::NoMaster if !session.lose_upstream() => Err(Stop::Expired),
                    Renewal::NoMaster | Renewal::Refused => Err(self.upstream_gone(session)),
                    Renewal::Unanswered => Ok(Err(UpstreamError::NotSent)),
                }
            }
        }
    }

    fn upstream_gone(&self, session: &Session) -> Stop {
        session.end(Ending::UpstreamGone);
        self.close_at_pdp(session.id.clone());
        Ending::UpstreamGone.into()
    }

    fn loss(&self, reply: &RawReply) -> Option<SessionLoss> {
        let refused = reply.status == StatusCode::UNAUTHORIZED;
        let says_so = || str::from_utf8(&reply.body).is_ok_and(|text| text.contains("\"390"));
        if !refused && (reply.body.len() > SESSION_LOSS_BYTES_MAX || !says_so()) {
            return None;
        }
        let told = Reply::parse(&reply.body, &self.limits).ok().and_then(|reply| reply.session_loss());
        told.or(refused.then_some(SessionLoss::Expired))
    }

    /// Runs a task that must end before the process does.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let working = self.working.clone();
        working.send_modify(|count| *count += 1);
        let done = Working(working);
        tokio::spawn(async move {
            let _done = done;
            task.await;
        });
    }
}

struct Working(watch::Sender<usize>);

impl Drop for Working {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count = count.saturating_sub(1));
    }
}

/// Answers a call whose bytes did not come whole.
pub(crate) fn unread(unread: Unread) -> Answer {
    let stop = match unread {
        Unread::TooLarge => Stop::new(
            PepCode::RequestLimit,
            "The request is larger than icegate takes. Send fewer rows or a shorter statement at a time.",
        ),
        Unread::Busy => {
            Stop::new(PepCode::RequestLimit, "icegate has no room for this request now. Try again in a moment.")
        }
        Unread::Cut => Stop::new(PepCode::RequestMalformed, "The request did not come whole. Send it again."),
    };
    counted("unread", Err(stop))
}

pub(crate) fn counted(route: &'static str, answered: Result<Told, Stop>) -> Answer {
    let Told { body, outcome } = answered.unwrap_or_else(|stop| Told { body: stop.body(None), outcome: "refused" });
    metrics::answered(route, outcome);
    Answer::json(body)
}

fn api_counted(route: &'static str, answered: Result<(Told, Answer), Stop>) -> Answer {
    let (outcome, answer) = match answered {
        Ok((told, answer)) => (told.outcome, answer),
        Err(stop) => ("refused", api::refused(&stop).1),
    };
    metrics::answered(route, outcome);
    answer
}

fn unknown_route(error: &RouteError) -> Stop {
    match error {
        RouteError::Unknown => Stop::new(
            PepCode::RouteUnknown,
            "icegate does not serve this call of Snowflake's protocol. Use a driver's connections, statements and results.",
        ),
        RouteError::Malformed { .. }
        | RouteError::TooLong { .. }
        | RouteError::Parameter { .. }
        | RouteError::Name(_) => Stop::new(error.code(), sentence(error)),
    }
}

/// An error's text as a sentence for a person.
pub(crate) fn sentence(error: &dyn std::error::Error) -> String {
    let text = error.to_string();
    let mut chars = text.chars();
    let first: String = chars.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    let end = if text.ends_with('.') { "" } else { "." };
    format!("{first}{}{end}", chars.as_str())
}
