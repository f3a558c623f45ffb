//! A driver logs in: its token to the PDP, then a new session at Snowflake with icegate's own credential, then tokens of
//! icegate's own.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use icegate_pep_protocol::{
    LoginReply, LoginRequest, PepCode, Refusal, RequestId, RequestedNames, SealedSession, Secret, Stamp, TokenKind,
    UpstreamSession, stamp, token::NONCE_BYTES, upstream,
};
use icegate_proto::v1::{Client, OpenSessionRequest, Session as PdpSession, open_session_response};
use tracing::{info, warn};
use uuid::Uuid;

use super::{Ending, Session, context};
use crate::{
    ask::pdp::PdpError,
    forward::upstream::UpstreamError,
    listen::Call,
    proxy::Proxy,
    record::unix_ms,
    refuse::{self, Stop},
    sign_in,
};

/// Serves `POST /session/v1/login-request`.
pub(crate) async fn login(proxy: &Arc<Proxy>, names: RequestedNames, call: &Call) -> Result<Bytes, Stop> {
    let body = proxy.decoded(call)?;
    let request = LoginRequest::parse(&body, names, &proxy.limits)
        .map_err(|error| Refusal::new(error.code(), error.to_string()))?;
    let request = sign_in::redeem(proxy, request)?;
    let (session, upstream) = begin(proxy, &request, call).await?;
    let session = Arc::new(session);
    let welcomed = welcome(proxy, &session, &upstream, &request);
    if welcomed.is_err() {
        proxy.close(&session);
    }
    welcomed
}

/// Opens a session for requests that have none of their own.
pub(crate) async fn pooled(proxy: &Arc<Proxy>, request: &LoginRequest, call: &Call) -> Result<Arc<Session>, Stop> {
    let (mut session, _) = begin(proxy, request, call).await?;
    session.pooled = true;
    let session = Arc::new(session);
    if enter(proxy, &session) {
        info!(session_id = session.id, carrier = request.carrier.as_str(), "session opened");
        Ok(session)
    } else {
        proxy.close(&session);
        Err(no_room())
    }
}

async fn begin(proxy: &Arc<Proxy>, request: &LoginRequest, call: &Call) -> Result<(Session, UpstreamSession), Stop> {
    // From before the session is opened: a revocation that comes in between is not missed.
    let epoch = proxy.sessions.epoch();
    let opened = open(proxy, request, call).await?;
    let principal = opened.principal.clone().unwrap_or_default();
    match at_upstream(proxy, request, &opened).await {
        Ok(upstream) => {
            let agent = principal.agent.map(|agent| agent.id);
            let sealed = sealed(request, &opened, &principal.id, agent, &upstream);
            Ok((Session::new(sealed, Some(context::to_proto(&upstream.context)), epoch), upstream))
        }
        Err(stop) => {
            proxy.close_at_pdp(opened.session_id);
            Err(stop)
        }
    }
}

fn enter(proxy: &Proxy, session: &Arc<Session>) -> bool {
    proxy.sessions.insert(Arc::clone(session)).is_some_and(|there| Arc::ptr_eq(&there, session))
}

fn no_room() -> Stop {
    Stop::new(
        PepCode::RequestLimit,
        "This proxy has no room for another session. Try again later, or through another proxy.",
    )
}

async fn open(proxy: &Proxy, request: &LoginRequest, call: &Call) -> Result<PdpSession, Stop> {
    let asked = OpenSessionRequest {
        token: request.token.expose().to_owned(),
        login_name: request.login_name.clone(),
        client: Some(Client {
            app_id: request.client.app_id.clone(),
            app_version: request.client.app_version.clone(),
            application: request.client.application.clone(),
            address: call.peer.addr.to_string(),
        }),
        context: Some(context::of_names(&request.names)),
        pep_id: proxy.pep_id.clone(),
        connection: proxy.connection.clone(),
    };
    match proxy.pdp.open_session(asked).await?.result {
        Some(open_session_response::Result::Session(session)) => {
            // Both ends of a wire are checked: without these, sessions would share what is kept under them.
            let principal = session.principal.as_ref().is_some_and(|principal| !principal.id.is_empty());
            let sound = principal && !session.session_id.is_empty() && !session.principal_digest.is_empty();
            if sound {
                Ending::of(session.state()).map_or(Ok(session), |ending| Err(ending.into()))
            } else {
                Err(PdpError::Unreachable.into())
            }
        }
        Some(open_session_response::Result::Refusal(reason)) => {
            let policy = (!reason.policy_id.is_empty()).then_some(reason.policy_id);
            Err(Refusal::new(reason.code, reason.message).with_policies(policy).into())
        }
        None => Err(PdpError::Unreachable.into()),
    }
}

async fn at_upstream(proxy: &Proxy, request: &LoginRequest, opened: &PdpSession) -> Result<UpstreamSession, Stop> {
    let principal = opened.principal.as_ref();
    let tag = stamp(&Stamp {
        decision: None,
        user: principal.map_or("", |principal| &principal.id),
        agent: principal.and_then(|principal| principal.agent.as_ref()).map(|agent| agent.id.as_str()),
        client_tag: request.query_tag.as_deref(),
    });
    let groups = principal.map_or(&[][..], |principal| &principal.groups);
    let names = proxy.account.names(&request.names, groups)?;
    let body = proxy.account.login(request, &tag)?;
    let path = upstream::login_path(&names, &fresh_request_id()?);
    let reply = proxy
        .upstream
        .call(Method::POST, &path, None, Some(Bytes::copy_from_slice(&body)))
        .await
        .map_err(unreachable)?;
    let mut session = UpstreamSession::parse(&reply.body, &proxy.limits).map_err(|error| {
        warn!(status = reply.status.as_u16(), %error, "login at the warehouse refused");
        Stop::new(
            PepCode::UpstreamLogin,
            "Snowflake refused icegate's own login, so this session cannot be opened. Tell whoever runs icegate; the cause is in its log.",
        )
    })?;
    // A stand-in for Snowflake may not say where the session stands: then it is where it was asked to be.
    context::fill(&mut session.context, &names);
    Ok(session)
}

fn unreachable(error: UpstreamError) -> Stop {
    warn!(%error, "login at the warehouse failed");
    if error == UpstreamError::Busy {
        return refuse::unanswered(error);
    }
    Stop::new(
        PepCode::UpstreamUnreachable,
        "Snowflake cannot be reached, so this session cannot be opened. Try again in a moment.",
    )
}

fn sealed(
    request: &LoginRequest,
    opened: &PdpSession,
    principal_id: &str,
    agent: Option<String>,
    upstream: &UpstreamSession,
) -> SealedSession {
    SealedSession {
        kind: TokenKind::Session,
        session_id: opened.session_id.clone(),
        // 52 random bits: JavaScript keeps them whole.
        session_number: Uuid::new_v4().as_u64_pair().1 >> 12 & ((1 << 52) - 1),
        principal_id: principal_id.to_owned(),
        principal_digest: opened.principal_digest.clone(),
        agent,
        upstream_token: upstream.token.clone(),
        upstream_master: upstream.master_token.clone(),
        upstream_session_id: upstream.session_id.clone(),
        client: request.client.clone(),
        context: upstream.context.clone(),
        query_tag: request.query_tag.clone(),
        issued_ms: unix_ms(),
        expires_ms: opened.expires_unix_ms,
        session_expires_ms: opened.expires_unix_ms,
    }
}

fn welcome(
    proxy: &Arc<Proxy>,
    session: &Arc<Session>,
    upstream: &UpstreamSession,
    request: &LoginRequest,
) -> Result<Bytes, Stop> {
    if !enter(proxy, session) {
        return Err(no_room());
    }
    let tokens = mint(proxy, session, unix_ms())?;
    info!(
        session_id = session.id,
        carrier = request.carrier.as_str(),
        dropped_parameters = request.dropped_parameters.len(),
        "session opened"
    );
    let reply = LoginReply {
        token: &tokens.session,
        master_token: &tokens.master,
        session_number: session.number,
        validity_seconds: tokens.session_seconds,
        master_validity_seconds: tokens.master_seconds,
        display_user: &session.principal_id,
        upstream,
    };
    Ok(Bytes::copy_from_slice(&reply.to_json()))
}

/// A pair of tokens for a driver, and how long each is good for.
pub(super) struct Minted {
    pub(super) session: Secret,
    pub(super) session_seconds: u64,
    pub(super) master: Secret,
    pub(super) master_seconds: u64,
}

/// Seals the session as it is now. No token outlives the identity behind it.
pub(super) fn mint(proxy: &Proxy, session: &Session, now_ms: i64) -> Result<Minted, Stop> {
    let upstream = session.upstream();
    let (context, query_tag) = match session.gate.try_lock() {
        Ok(gate) => (context::to_sealed(gate.context.as_ref().unwrap_or(&gate.believed)), gate.client_tag.clone()),
        // A statement runs: where it leads to is not known yet. Whoever opens the token asks again.
        Err(_) => Default::default(),
    };
    let ends = |ttl: std::time::Duration| {
        let ttl = i64::try_from(ttl.as_millis()).unwrap_or(i64::MAX);
        session.expires_ms.min(now_ms.saturating_add(ttl))
    };
    let seconds = |ends: i64| u64::try_from((ends - now_ms) / 1000).unwrap_or(0);
    let (session_ends, master_ends) = (ends(proxy.session_ttl), ends(proxy.master_ttl));
    let mut sealed = SealedSession {
        kind: TokenKind::Session,
        session_id: session.id.clone(),
        session_number: session.number,
        principal_id: session.principal_id.clone(),
        principal_digest: session.principal_digest.clone(),
        agent: session.agent.clone(),
        upstream_token: upstream.session.clone(),
        upstream_master: None,
        upstream_session_id: session.upstream_session_id.clone(),
        client: session.client.clone(),
        context,
        query_tag,
        issued_ms: now_ms,
        expires_ms: session_ends,
        session_expires_ms: session.expires_ms,
    };
    let token = seal(proxy, &sealed)?;
    sealed.kind = TokenKind::Master;
    sealed.upstream_master.clone_from(&upstream.master);
    sealed.expires_ms = master_ends;
    let master = seal(proxy, &sealed)?;
    Ok(Minted { session: token, session_seconds: seconds(session_ends), master, master_seconds: seconds(master_ends) })
}

fn seal(proxy: &Proxy, sealed: &SealedSession) -> Result<Secret, Stop> {
    let failed =
        || Stop::new(PepCode::RequestLimit, "icegate cannot make a token for this session. Tell whoever runs icegate.");
    let mut nonce = [0; NONCE_BYTES];
    getrandom::fill(&mut nonce).map_err(|_| failed())?;
    proxy.sealing.load().sealer.seal(sealed, nonce).map_err(|_| failed())
}

/// An id for a call of our own.
pub(crate) fn fresh_request_id() -> Result<RequestId, Stop> {
    RequestId::parse(Uuid::new_v4().hyphenated().encode_lower(&mut Uuid::encode_buffer()))
        .ok_or_else(|| Stop::new(PepCode::RequestMalformed, "No request id could be made."))
}
