//! The parts of large results that lie in cloud storage: addresses of icegate's own for them, and the bytes behind those.
//!
//! An address is sealed (`icegate_pep_protocol::chunk`) and good for one part while its session stands. The bytes are never
//! held: they pass in frames, through the [`Treatment`]s the part is due, and no further than the client reads.

mod flow;
mod storage;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use icegate_pep_protocol::{Chunks, QueryId, SealedChunk, Secret, chunk_path, token::NONCE_BYTES};
use tracing::{debug, warn};

use self::{
    flow::{Coming, Unpack},
    storage::Stored,
};
pub(crate) use self::{
    flow::{Flow, Treated, Treatment, Untreatable, at_once},
    storage::Storage,
};
use crate::{
    lanes::Taken,
    listen::{Answer, Call, Content},
    masking::{Part, ResultPlan},
    metrics::{CHUNK_DURATION, REPLIES_WITHHELD},
    proxy::Proxy,
    record::{CutRecord, unix_ms},
    session::{Ending, Session},
};

/// Longest wait for one of the places among the parts on their way: drivers ask again.
const PLACE_TIMEOUT: Duration = Duration::from_secs(5);

/// Whose parts they are.
#[derive(Debug, Clone, Copy)]
#[expect(clippy::struct_field_names, reason = "three ids of three things")]
pub(crate) struct Owner<'a> {
    pub(crate) session_id: &'a str,
    pub(crate) decision_id: &'a str,
    /// The id the client knows.
    pub(crate) query_id: &'a QueryId,
}

/// An address for each part. `base` is where the client reaches this proxy. `None` when one cannot be made, or a part lies
/// on a host nothing is fetched from.
pub(crate) fn addresses(
    proxy: &Proxy,
    owner: Owner<'_>,
    chunks: &Chunks,
    base: &str,
    plan: Option<&ResultPlan>,
) -> Option<Vec<String>> {
    let masks = match plan {
        Some(plan) => Some(plan.to_seal()?),
        None => None,
    };
    let ttl_ms = i64::try_from(proxy.storage.ttl().as_millis()).unwrap_or(i64::MAX);
    let expires_ms = unix_ms().saturating_add(ttl_ms);
    let sealing = proxy.sealing.load();
    let address = |(index, chunk): (usize, &icegate_pep_protocol::Chunk)| {
        proxy.storage.allowed(chunk.url.expose())?;
        let sealed = SealedChunk {
            session_id: owner.session_id.to_owned(),
            decision_id: owner.decision_id.to_owned(),
            query_id: owner.query_id.to_string(),
            index,
            format: chunks.format,
            url: chunk.url.clone(),
            headers: chunks.headers.clone(),
            expires_ms,
            masks: masks.clone(),
        };
        let mut nonce = [0; NONCE_BYTES];
        getrandom::fill(&mut nonce).ok()?;
        let sealed = sealed.seal(&sealing.sealer, nonce).ok()?;
        Some(format!("{base}{}", chunk_path(&sealed)))
    };
    let addresses = chunks.all.iter().enumerate().map(address).collect::<Option<Vec<_>>>();
    if addresses.is_none() {
        warn!(query_id = %owner.query_id, "a part of a result lies where nothing is fetched from; see `results.storage_hosts`");
    }
    addresses
}

/// Serves `GET /chunks/<sealed>`. Whatever is wrong with an address, it is one that does not exist.
pub(crate) async fn serve(proxy: &Arc<Proxy>, sealed: &str, call: &Call) -> Answer {
    let opened = SealedChunk::open(&proxy.sealing.load().sealer, sealed, unix_ms());
    let answer = match opened {
        Ok(chunk) => fetch(proxy, &chunk, call, Vec::new()).await,
        Err(error) => {
            debug!(%error, "address of a part not taken");
            Err(Missed::Unknown)
        }
    };
    let outcome = if answer.is_ok() { "ok" } else { "refused" };
    crate::metrics::answered("chunk", outcome);
    answer.unwrap_or_else(Missed::answer)
}

/// Why a part is not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missed {
    /// There is no such part, any more or for this address.
    Unknown,
    /// The storage, or this proxy, has no time for it now: drivers ask again.
    Busy,
    /// The storage answered something that is not passed on.
    Broken,
}

impl Missed {
    fn answer(self) -> Answer {
        let (status, text) = match self {
            Self::Unknown => (StatusCode::NOT_FOUND, "There is no such part of a result. Run the statement again.\n"),
            Self::Busy => {
                (StatusCode::SERVICE_UNAVAILABLE, "The part of the result cannot be fetched now. Try again.\n")
            }
            Self::Broken => (StatusCode::BAD_GATEWAY, "The part of the result cannot be read from storage.\n"),
        };
        Answer {
            status,
            content_type: HeaderValue::from_static("text/plain; charset=utf-8"),
            headers: Vec::new(),
            content: Content::Whole(Bytes::from_static(text.as_bytes())),
        }
    }
}

/// Fetches a part for its owner and passes it on as it comes. `treatments` get its rows unpacked and masked, in this order.
pub(crate) async fn fetch(
    proxy: &Arc<Proxy>,
    chunk: &SealedChunk,
    call: &Call,
    mut treatments: Vec<Box<dyn Treatment>>,
) -> Result<Answer, Missed> {
    let started = Instant::now();
    let session = standing(proxy, &chunk.session_id).await?;
    if let Some(masks) = &chunk.masks {
        match proxy.masking.sealed(masks) {
            Ok(plan) => treatments.insert(0, Box::new(Part::new(plan, chunk.format, &chunk.decision_id))),
            Err(error) => {
                warn!(decision_id = chunk.decision_id, error, "a part of a result cannot be masked any more");
                metrics::counter!(REPLIES_WITHHELD, "reason" => "masking").increment(1);
                CutRecord::new(&proxy.recorder, chunk).write().await;
                return Err(Missed::Unknown);
            }
        }
    }
    let place = tokio::time::timeout(PLACE_TIMEOUT, proxy.storage.place()).await.ok().flatten();
    let Taken { client, place } = place.ok_or(Missed::Busy)?;
    let headers: Vec<(&str, &Secret)> = chunk.headers.iter().map(|one| (one.name.as_str(), &one.value)).collect();
    let Stored { packed, first, rest, bytes } = proxy.storage.get(client, chunk.url.expose(), &headers).await?;
    metrics::histogram!(CHUNK_DURATION).record(started.elapsed());
    // Node takes packed bytes only when the header says so, and nobody gets them who did not ask.
    let stays_packed = packed && call.takes_gzip() && treatments.is_empty();
    let untouched = treatments.is_empty() && packed == stays_packed;
    if packed && !stays_packed {
        treatments.insert(0, Box::new(Unpack::new()));
    }
    let mut answered = Vec::new();
    if stays_packed {
        answered.push((header::CONTENT_ENCODING, HeaderValue::from_static("gzip")));
    }
    if let (true, Some(bytes)) = (untouched, bytes) {
        answered.push((header::CONTENT_LENGTH, HeaderValue::from(bytes)));
    }
    let coming = Coming { first, rest, session, place };
    let flow = if treatments.is_empty() && call.is_alone() {
        Flow::straight(coming)
    } else {
        Flow::treated(coming, treatments, CutRecord::new(&proxy.recorder, chunk))
    };
    Ok(Answer {
        status: StatusCode::OK,
        // Rows without brackets are no JSON, and Node takes the word for it.
        content_type: HeaderValue::from_static("application/octet-stream"),
        headers: answered,
        content: Content::Flow(flow),
    })
}

/// The session of an address, if it still stands. One that is not in memory here (a restart, another replica) is asked for.
async fn standing(proxy: &Arc<Proxy>, session_id: &str) -> Result<Option<Arc<Session>>, Missed> {
    let epoch = proxy.sessions.epoch();
    if let Some(session) = proxy.sessions.get(session_id) {
        if session.ending().is_some() || (!session.is_checked(epoch) && proxy.check(&session).await.is_err()) {
            return Err(Missed::Unknown);
        }
        session.touch();
        return Ok(Some(session));
    }
    match proxy.pdp.session(session_id).await {
        Ok(there) if Ending::of(there.state()).is_none() => Ok(None),
        Ok(_) => Err(Missed::Unknown),
        Err(_) => Err(Missed::Busy),
    }
}
