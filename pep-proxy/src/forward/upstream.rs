//! The connection to the warehouse: one call, one reply, with limits of time and size.

use std::{
    fmt,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{Method, StatusCode};
use icegate_pep_protocol::{Secret, body, upstream, wire::Answer};
use metrics::Histogram;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{
    config,
    lanes::{Ask, Caller, Failed, Lanes, Taken, Terms},
    metrics::{UPSTREAM_DURATION, UPSTREAM_ERRORS, UPSTREAM_RETRIES},
};

/// Pauses before a call is sent again: together less than a driver waits before it asks again itself.
const RETRIES: [Duration; 2] = [Duration::from_millis(100), Duration::from_millis(500)];
/// What says "not now": too many requests, and a warehouse that is not reached behind its own door.
const PUT_OFF: [StatusCode; 4] = [
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::BAD_GATEWAY,
    StatusCode::SERVICE_UNAVAILABLE,
    StatusCode::GATEWAY_TIMEOUT,
];

/// Calls at one time that end something: they make room for the others.
const ENDING_MAX: usize = 64;

/// Calls the warehouse.
pub(crate) struct Upstream {
    lanes: Lanes<Caller>,
    /// For what ends something.
    ending: Lanes<Caller>,
    /// Places of all connections together.
    of_all: Arc<Semaphore>,
    wait: Duration,
    /// Kept, so that it is not looked for at every call.
    duration: Histogram,
    reply_timeout: Duration,
    reply_bytes_max: usize,
}

impl fmt::Debug for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upstream").field("lanes", &self.lanes).finish_non_exhaustive()
    }
}

/// What the warehouse answered, unpacked.
pub(crate) struct RawReply {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
}

/// A place among the calls on their way, until it is dropped.
struct Room<'a> {
    taken: Taken<'a, Caller>,
    _of_all: Option<SemaphorePermit<'a>>,
}

/// Why there is no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// As many calls are on their way as may be: it was not sent.
    #[error("there is no room for another call to the warehouse")]
    Busy,
    /// No connection, or the call was refused unread: nothing was done.
    #[error("the warehouse cannot be connected to")]
    NotSent,
    /// It was sent, and no whole reply came.
    #[error("the connection to the warehouse was cut before its reply")]
    Cut,
    /// It was sent, and the reply did not come in time.
    #[error("the warehouse did not reply in time")]
    Timeout,
    /// The reply is over the limit.
    #[error("the reply of the warehouse is over the limit")]
    TooLarge,
    /// The reply is not what it says it is.
    #[error("the reply of the warehouse cannot be read")]
    Unreadable,
}

impl UpstreamError {
    /// Whether the warehouse may have run what was asked.
    pub(crate) fn may_have_run(self) -> bool {
        !matches!(self, Self::Busy | Self::NotSent)
    }
}

impl Upstream {
    pub(crate) fn new(
        config: &config::Upstream,
        tls: &rustls::ClientConfig,
        limits: &config::Limits,
        of_all: &Arc<Semaphore>,
    ) -> Self {
        let terms = Terms { connect_timeout: config.connect_timeout, idle_timeout: Duration::from_mins(1) };
        let caller = || Caller::new(tls, terms, &config.url);
        Self {
            lanes: Lanes::new(limits.upstream_calls_per_connection_max, caller),
            ending: Lanes::new(ENDING_MAX, caller),
            of_all: Arc::clone(of_all),
            wait: limits.upstream_wait,
            duration: metrics::histogram!(UPSTREAM_DURATION),
            reply_timeout: config.reply_timeout,
            reply_bytes_max: limits.reply_bytes_max,
        }
    }

    /// Closes connections that nothing uses.
    pub(crate) fn sweep(&self) {
        self.lanes.clients().chain(self.ending.clients()).for_each(Caller::sweep);
    }

    /// Calls on their way now.
    pub(crate) fn on_their_way(&self) -> usize {
        self.lanes.taken() + self.ending.taken()
    }

    /// A place for a call, within `limits.upstream_wait`.
    async fn room(&self, path: &str) -> Option<Room<'_>> {
        if upstream::ends(path) {
            let taken = tokio::time::timeout(self.wait, Box::pin(self.ending.take())).await.ok()??;
            return Some(Room { taken, _of_all: None });
        }
        if let (Some(taken), Ok(of_all)) = (self.lanes.try_take(), self.of_all.try_acquire()) {
            return Some(Room { taken, _of_all: Some(of_all) });
        }
        let waited = Box::pin(async {
            let taken = self.lanes.take().await?;
            Some(Room { taken, _of_all: Some(self.of_all.acquire().await.ok()?) })
        });
        tokio::time::timeout(self.wait, waited).await.ok()?
    }

    /// Sends one call and reads its whole reply. What cannot have been carried out, or only asks, is sent again for a while,
    /// as drivers do: a call that found no connection or was refused unread, and a `GET` that was cut or put off.
    pub(crate) async fn call(
        &self,
        method: Method,
        path_and_query: &str,
        token: Option<&Secret>,
        body: Option<Bytes>,
    ) -> Result<RawReply, UpstreamError> {
        let Some(room) = self.room(path_and_query).await else {
            metrics::counter!(UPSTREAM_ERRORS, "error" => word(UpstreamError::Busy)).increment(1);
            return Err(UpstreamError::Busy);
        };
        let ask = Ask { method, path_and_query, token, body };
        let mut pauses = RETRIES.into_iter();
        loop {
            let reply = self.once(room.taken.client, &ask).await;
            let again = match &reply {
                Ok(reply) => ask.method == Method::GET && PUT_OFF.contains(&reply.status),
                Err(UpstreamError::NotSent) => true,
                Err(UpstreamError::Cut) => ask.method == Method::GET,
                Err(
                    UpstreamError::Busy | UpstreamError::Timeout | UpstreamError::TooLarge | UpstreamError::Unreadable,
                ) => false,
            };
            let Some(pause) = pauses.next().filter(|_| again) else { return reply };
            metrics::counter!(UPSTREAM_RETRIES).increment(1);
            Box::pin(tokio::time::sleep(pause)).await;
        }
    }

    async fn once(&self, caller: &Caller, ask: &Ask<'_>) -> Result<RawReply, UpstreamError> {
        let started = Instant::now();
        // Pinned here: a future is copied whole wherever it is passed on.
        let answer = pin!(caller.call(ask, self.reply_bytes_max));
        let reply = match tokio::time::timeout(self.reply_timeout, answer).await {
            Ok(Ok(answer)) => self.reply(answer),
            Ok(Err(Failed::NotSent)) => Err(UpstreamError::NotSent),
            // Using a connection the warehouse had just closed cannot be told from a cut in the middle.
            Ok(Err(Failed::Cut)) => Err(UpstreamError::Cut),
            Ok(Err(Failed::TooLarge)) => Err(UpstreamError::TooLarge),
            Err(_elapsed) => Err(UpstreamError::Timeout),
        };
        self.duration.record(started.elapsed());
        if let Err(error) = &reply {
            metrics::counter!(UPSTREAM_ERRORS, "error" => word(*error)).increment(1);
        }
        reply
    }

    fn reply(&self, answer: Answer) -> Result<RawReply, UpstreamError> {
        let status = StatusCode::from_u16(answer.status).map_err(|_| UpstreamError::Unreadable)?;
        let Answer { body, encoded, .. } = answer;
        let body = if body::is_gzip(&body) {
            body::gunzip(&body, self.reply_bytes_max).map(Bytes::from).map_err(|error| match error {
                body::BodyError::TooLarge { .. } => UpstreamError::TooLarge,
                body::BodyError::Encoding
                | body::BodyError::Gzip
                | body::BodyError::Json(_)
                | body::BodyError::NotAnObject => UpstreamError::Unreadable,
            })?
        } else if encoded && !body.is_empty() {
            return Err(UpstreamError::Unreadable);
        } else {
            body
        };
        Ok(RawReply { status, body })
    }
}

fn word(error: UpstreamError) -> &'static str {
    match error {
        UpstreamError::Busy => "busy",
        UpstreamError::NotSent => "not-sent",
        UpstreamError::Cut => "cut",
        UpstreamError::Timeout => "timeout",
        UpstreamError::TooLarge => "too-large",
        UpstreamError::Unreadable => "unreadable",
    }
}
