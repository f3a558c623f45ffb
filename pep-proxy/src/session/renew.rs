//! Fresh tokens for a session that still stands, here and at Snowflake.

use std::sync::Arc;

use bytes::Bytes;
use http::Method;
use icegate_pep_protocol::{
    RenewRequest, Secret, TokenError, TokenKind, UpstreamLoginError, UpstreamSession,
    answer::{self, Renewed},
    upstream,
};
use tracing::warn;

use super::{
    Ending, Session, UpstreamTokens,
    login::{fresh_request_id, mint},
};
use crate::{forward::upstream::UpstreamError, listen::Call, proxy::Proxy, record::unix_ms, refuse::Stop};

/// Serves `POST /session/token-request`.
pub(crate) async fn renew(proxy: &Arc<Proxy>, call: &Call) -> Result<Bytes, Stop> {
    let body = proxy.decoded(call)?;
    let request = RenewRequest::parse(&body).map_err(|error| Stop::new(error.code(), format!("{error}.")))?;
    let now_ms = unix_ms();
    let token = call.token().ok_or(Stop::TokenInvalid)?;
    let sealing = proxy.sealing.load_full();
    let sealed = sealing.sealer.open(token, TokenKind::Master, now_ms).map_err(|error| match error {
        TokenError::Expired => Stop::MasterExpired,
        TokenError::Malformed | TokenError::UnknownKey | TokenError::Forged => Stop::TokenInvalid,
    })?;
    // The old session token may be past its end, or of a key that is gone; it may not be another session's.
    if let Ok(old) = sealing.sealer.open_ignoring_expiry(request.old_session_token.expose(), TokenKind::Session)
        && old.session_id != sealed.session_id
    {
        return Err(Stop::TokenInvalid);
    }
    let master = sealed.upstream_master.clone();
    let session = proxy.resume(sealed).await.map_err(login_again)?;
    session.learn_master(master);
    proxy.check(&session).await.map_err(login_again)?;
    if let Some(ending) = session.ending() {
        return Err(login_again(ending.into()));
    }
    at_upstream(proxy, &session).await?;
    let tokens = mint(proxy, &session, now_ms)?;
    Ok(Bytes::copy_from_slice(&answer::renewed(&Renewed {
        session_token: &tokens.session,
        validity_seconds: tokens.session_seconds,
        master_token: &tokens.master,
        master_validity_seconds: tokens.master_seconds,
        session_number: session.number,
    })))
}

/// On renewal every end of a session means the same to a driver: 390114, log in again.
fn login_again(stop: Stop) -> Stop {
    match stop {
        Stop::Refused(refusal) if refusal.code.starts_with("SESSION-") => Stop::MasterExpired,
        other => other,
    }
}

/// Renews the session at Snowflake too, where there is a master token to do it with.
async fn at_upstream(proxy: &Proxy, session: &Session) -> Result<(), Stop> {
    match upstream_token(proxy, session, None).await {
        // The driver's master token had nothing to renew with either: renewing again would go on for ever.
        Renewal::NoMaster if session.has_lost_upstream() => gone(proxy, session),
        Renewal::Done | Renewal::NoMaster | Renewal::Unanswered => Ok(()),
        Renewal::Refused => gone(proxy, session),
    }
}

fn gone(proxy: &Proxy, session: &Session) -> Result<(), Stop> {
    session.end(Ending::UpstreamGone);
    proxy.close_at_pdp(session.id.clone());
    Err(Stop::MasterExpired)
}

/// What came of asking Snowflake for a fresh session token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Renewal {
    Done,
    /// None was given, or this proxy has not seen it yet.
    NoMaster,
    /// The session at Snowflake is over.
    Refused,
    Unanswered,
}

/// Asks for one. `spent` is the token that was refused: when another call has replaced it meanwhile there is nothing left to
/// do, so that many calls that are refused at one time renew once.
pub(crate) async fn upstream_token(proxy: &Proxy, session: &Session, spent: Option<&Secret>) -> Renewal {
    let _turn = session.renewing.lock().await;
    if spent.is_some_and(|spent| spent.expose() != session.upstream().session.expose()) {
        return Renewal::Done;
    }
    let tokens = session.upstream();
    let Some(master) = &tokens.master else {
        return Renewal::NoMaster;
    };
    let Ok(request_id) = fresh_request_id() else {
        return Renewal::Unanswered;
    };
    let reply = renewal_call(proxy, &request_id, &tokens.session, master).await;
    match reply {
        Ok(reply) => match UpstreamSession::parse_renewal(&reply, &proxy.limits) {
            Ok(fresh) => {
                let master = fresh.master_token.or_else(|| Some(master.clone()));
                session.set_upstream(UpstreamTokens { session: fresh.token, master });
                Renewal::Done
            }
            Err(UpstreamLoginError::Refused { code }) => {
                warn!(session_id = session.id, code, "session not renewed by the warehouse");
                Renewal::Refused
            }
            Err(UpstreamLoginError::Unreadable { why }) => {
                warn!(session_id = session.id, why, "renewal of the warehouse not readable");
                Renewal::Unanswered
            }
        },
        Err(error) => {
            warn!(session_id = session.id, %error, "warehouse not reached for renewal");
            Renewal::Unanswered
        }
    }
}

async fn renewal_call(
    proxy: &Proxy,
    request_id: &icegate_pep_protocol::RequestId,
    old: &Secret,
    master: &Secret,
) -> Result<Bytes, UpstreamError> {
    let body = Bytes::copy_from_slice(&upstream::renew_body(old));
    let reply = proxy.upstream.call(Method::POST, &upstream::renew_path(request_id), Some(master), Some(body)).await?;
    Ok(reply.body)
}
