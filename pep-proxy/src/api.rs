//! The SQL API: statements over plain HTTP, each request with its identity token, no session.
//!
//! Behind it are sessions like a driver's ([`pool`]): a statement is decided, recorded, held and owned like any other. What a
//! handle stands for belongs to its principal.

pub(crate) mod pool;

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use icegate_pep_protocol::{
    PepCode, QueryId, Refusal, RequestId, SealedChunk, Secret,
    api::{self as wire, ApiAnswer, ApiRequest},
};

use crate::{
    answer,
    chunk::{self, Missed, Treated, Treatment, at_once},
    listen::{Answer, Call},
    proxy::{Proxy, sentence},
    record::unix_ms,
    refuse::Stop,
    session::{Session, login::fresh_request_id},
    statement::{self, Told},
};

/// Where parts of results are: only here, by number.
const BASE: &str = "";

/// The identity token of a call.
pub(crate) fn bearer(call: &Call) -> Result<Secret, Stop> {
    let kind = call.headers.get("x-snowflake-authorization-token-type").map(HeaderValue::as_bytes);
    if !matches!(kind, None | Some(b"OAUTH" | b"PROGRAMMATIC_ACCESS_TOKEN")) {
        return Err(Stop::new(
            PepCode::RequestMalformed,
            "icegate takes your identity provider's token: send `X-Snowflake-Authorization-Token-Type: OAUTH`.",
        ));
    }
    let value = call.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("Bearer") && !token.trim().is_empty() => {
            Ok(Secret::new(token.trim()))
        }
        _ => Err(Refusal::new(
            "IDENTITY-INVALID",
            "There is no identity token. Send your identity provider's token as `Authorization: Bearer`.",
        )
        .into()),
    }
}

/// Serves `POST /api/v2/statements`.
pub(crate) async fn submit(
    proxy: &Arc<Proxy>,
    request_id: Option<RequestId>,
    detached: bool,
    call: &Call,
) -> Result<(Told, Answer), Stop> {
    let token = bearer(call)?;
    let body = proxy.decoded(call)?;
    let ApiRequest { names, query } =
        ApiRequest::parse(body, detached, &proxy.limits).map_err(|error| Stop::new(error.code(), sentence(&error)))?;
    let request_id = request_id.map_or_else(fresh_request_id, Ok)?;
    // Its session may be over by now; what became of it is not forgotten with that.
    if let Some(session) = proxy.pool.asked(&token, &names, &request_id)?
        && let Some(told) = statement::ended(proxy, &session.id, &request_id, &query)?
    {
        return Ok(answered(told, 0));
    }
    let lease = proxy.pool.lease(proxy, &token, &names, &request_id, call).await?;
    let session = Arc::clone(lease.session());
    let told = statement::run(proxy, session, request_id, query, Some(BASE.into())).await?;
    Ok(answered(told, 0))
}

/// Serves `GET /api/v2/statements/<handle>`.
pub(crate) async fn result(
    proxy: &Arc<Proxy>,
    handle: QueryId,
    partition: usize,
    call: &Call,
) -> Result<(Told, Answer), Stop> {
    let session = owner(proxy, &handle, call).await?;
    let told = answer::result(proxy, session, handle, Some(BASE.into())).await?;
    if partition == 0 {
        return Ok(answered(told, 0));
    }
    let missed = || {
        Stop::new(
            PepCode::QueryUnknown,
            "The result has no such part, or it is not ready. Ask for its first part, which says how many there are.",
        )
    };
    let sealed = wire::partition(&told.body, partition).ok_or_else(missed)?;
    let part = SealedChunk::open(&proxy.sealing.load().sealer, &sealed, unix_ms()).map_err(|_| missed())?;
    let wrapped: Vec<Box<dyn Treatment>> = vec![Box::new(Wrap::Before)];
    let mut answer = chunk::fetch(proxy, &part, call, wrapped).await.map_err(|missed| match missed {
        Missed::Unknown => {
            Stop::new(PepCode::QueryUnknown, "This part of the result is no longer there. Run the statement again.")
        }
        Missed::Busy | Missed::Broken => Stop::new(
            PepCode::UpstreamUnreachable,
            "This part of the result cannot be fetched from storage now. Ask for it again.",
        ),
    })?;
    let count = wire::answer(&told.body, unix_ms()).partitions;
    answer.headers.extend(link(part.query_id.as_str(), partition, count));
    Ok((told, answer))
}

/// Serves `POST /api/v2/statements/<handle>/cancel`.
pub(crate) async fn cancel(proxy: &Arc<Proxy>, handle: &QueryId, call: &Call) -> Result<(Told, Answer), Stop> {
    let session = owner(proxy, handle, call).await?;
    let body = answer::abort_by_id(proxy, &session, handle).await?;
    let answer = wire::cancelled(&body, handle, unix_ms());
    Ok((body.into(), written(answer, 0)))
}

/// A session that may ask for this handle: the one it ran in, or another of the same principal.
async fn owner(proxy: &Arc<Proxy>, handle: &QueryId, call: &Call) -> Result<Arc<Session>, Stop> {
    let token = bearer(call)?;
    let principal_id = proxy.pool.principal(proxy, &token, call).await?;
    let there = answer::session_of(proxy, handle).and_then(|id| proxy.sessions.get(&id));
    match there.filter(|session| session.pooled && session.principal_id == principal_id && session.ending().is_none()) {
        Some(session) => {
            session.touch();
            Ok(session)
        }
        None => proxy.pool.any(proxy, &token, call).await,
    }
}

/// A refusal as the SQL API says it.
pub(crate) fn refused(stop: &Stop) -> (Bytes, Answer) {
    let body = stop.body(None);
    let answer = wire::answer(&body, unix_ms());
    (body, written(answer, 0))
}

fn answered(told: Told, partition: usize) -> (Told, Answer) {
    let answer = wire::answer(&told.body, unix_ms());
    (told, written(answer, partition))
}

fn written(answer: ApiAnswer, partition: usize) -> Answer {
    let ApiAnswer { status, body, partitions, handle } = answer;
    let headers = match handle {
        Some(handle) if partitions > 1 => link(handle.as_str(), partition, partitions).into_iter().collect(),
        Some(_) | None => Vec::new(),
    };
    Answer {
        status: StatusCode::from_u16(status).unwrap_or(StatusCode::UNPROCESSABLE_ENTITY),
        headers,
        ..Answer::json(body.into())
    }
}

fn link(handle: &str, partition: usize, partitions: usize) -> Option<(header::HeaderName, HeaderValue)> {
    let links = wire::links(&QueryId::parse(handle)?, partition, partitions);
    Some((header::LINK, HeaderValue::try_from(links).ok()?))
}

/// Makes a part of a result an answer of the SQL API: rows with commas between them become an object.
enum Wrap {
    Before,
    Within,
}

impl Treatment for Wrap {
    fn take<'a>(&'a mut self, bytes: &'a Bytes) -> Treated<'a> {
        at_once(Ok(match std::mem::replace(self, Self::Within) {
            Self::Within => vec![bytes.clone()],
            Self::Before => vec![Bytes::from_static(br#"{"data":["#), bytes.clone()],
        }))
    }

    fn end(&mut self) -> Treated<'_> {
        at_once(Ok(vec![Bytes::from_static(match self {
            Self::Before => br#"{"data":[]}"#,
            Self::Within => b"]}",
        })]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listen::Content;

    #[tokio::test]
    async fn a_part_becomes_an_object() {
        let mut wrap = Wrap::Before;
        let mut whole = wrap.take(&Bytes::from_static(b"[1],")).await.unwrap();
        whole.append(&mut wrap.take(&Bytes::from_static(b"[2]")).await.unwrap());
        whole.append(&mut wrap.end().await.unwrap());
        assert_eq!(whole.concat(), br#"{"data":[[1],[2]]}"#);
        assert_eq!(Wrap::Before.end().await.unwrap().concat(), br#"{"data":[]}"#);
    }

    #[test]
    fn a_refusal_has_a_status_of_its_own() {
        for (stop, status) in [
            (Stop::new(PepCode::RequestMalformed, "No."), 422),
            (Stop::new(PepCode::QueryUnknown, "No."), 404),
            (Refusal::new("IDENTITY-INVALID", "No.").into(), 401),
        ] {
            let (_, answer) = refused(&stop);
            assert_eq!(answer.status, status);
            let Content::Whole(body) = answer.content else { panic!("all of it is there") };
            assert!(String::from_utf8_lossy(&body).contains("refused: No."));
        }
    }
}
