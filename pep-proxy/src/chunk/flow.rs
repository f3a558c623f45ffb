//! Bytes on their way from the storage to a client: in frames, as fast as the client reads, through what is done to them.

use std::{
    fmt,
    io::Write as _,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use flate2::write::MultiGzDecoder;
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming};
use metrics::Counter;
use tokio::{
    sync::mpsc,
    time::{Instant, Sleep},
};
use tracing::warn;

use crate::{lanes::Place, metrics::CHUNK_BYTES, record::CutRecord, session::Session};

/// What may wait for the client: frames of the storage, or what became of one.
const FRAMES_MAX: usize = 4;
/// Longest pause of the storage, or of the client, in the middle of a part.
const STALL: Duration = Duration::from_mins(1);
/// Bytes unpacked at one time: what they unpack to is in memory at once.
const STEP_BYTES: usize = 4 * 1024;
/// Bytes of one part, unpacked.
const PART_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// Something that is done to the rows of one part on their way, for example masking them.
///
/// It gets the unpacked bytes in order and in pieces of any length, and may keep back what it needs to see more of, or is still
/// at work on.
pub(crate) trait Treatment: Send {
    /// Most bytes it takes at one time.
    fn step_bytes(&self) -> usize {
        usize::MAX
    }
    /// Takes the next bytes and gives what may go on, in pieces.
    fn take<'a>(&'a mut self, bytes: &'a Bytes) -> Treated<'a>;
    /// There are no more: gives what is left.
    fn end(&mut self) -> Treated<'_>;
}

/// What may go on, once it is known.
pub(crate) type Treated<'a> = Pin<Box<dyn Future<Output = Result<Vec<Bytes>, Untreatable>> + Send + 'a>>;

/// What may go on at once.
pub(crate) fn at_once<'a>(treated: Result<Vec<Bytes>, Untreatable>) -> Treated<'a> {
    Box::pin(std::future::ready(treated))
}

/// Why no more of a part is sent. The client sees a broken answer, not a short one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Untreatable {
    /// It cannot be masked.
    #[error("a part of a result is not the result that was decided")]
    Unmaskable,
    #[error("a part of a result is {0}")]
    Broken(&'static str),
}

const NOT_COMING: Untreatable = Untreatable::Broken("not coming any further");
const TOO_LARGE: Untreatable = Untreatable::Broken("larger than a part may be");

/// The body of an answer that is still coming.
pub(crate) struct Flow(Way);

enum Way {
    /// Its bytes as they lie there, driven by the connection they go to.
    Straight(Box<Straight>),
    /// Through what is done to them, by a task of its own.
    Treated { next: mpsc::Receiver<Result<Vec<Bytes>, Untreatable>>, pieces: std::vec::IntoIter<Bytes> },
}

struct Straight {
    first: Bytes,
    rest: Incoming,
    left: u64,
    ended: Pin<Box<dyn Future<Output = Untreatable> + Send>>,
    /// Runs while nothing comes.
    stall: Pin<Box<Sleep>>,
    waiting: bool,
    bytes: Counter,
    _place: Place,
}

/// What is to be passed on, and for whom.
pub(super) struct Coming {
    pub(super) first: Bytes,
    pub(super) rest: Incoming,
    pub(super) session: Option<Arc<Session>>,
    pub(super) place: Place,
}

impl fmt::Debug for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Flow").finish_non_exhaustive()
    }
}

impl Body for Flow {
    type Data = Bytes;
    type Error = Untreatable;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Untreatable>>> {
        match &mut self.0 {
            Way::Straight(straight) => {
                let polled = straight.poll(context);
                if let Poll::Ready(Some(Err(error))) = &polled {
                    warn!(%error, "part of a result cut");
                }
                polled.map_ok(Frame::data)
            }
            Way::Treated { next, pieces } => loop {
                if let Some(piece) = pieces.next() {
                    return Poll::Ready(Some(Ok(Frame::data(piece))));
                }
                match ready!(next.poll_recv(context)) {
                    None => return Poll::Ready(None),
                    Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                    Some(Ok(more)) => *pieces = more.into_iter(),
                }
            },
        }
    }
}

impl Straight {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, Untreatable>>> {
        if let Poll::Ready(ended) = self.ended.as_mut().poll(context) {
            self.ended = Box::pin(std::future::ready(ended));
            return Poll::Ready(Some(Err(ended)));
        }
        let bytes = if self.first.is_empty() {
            match Pin::new(&mut self.rest).poll_frame(context) {
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Ready(Some(Err(_))) => return Poll::Ready(Some(Err(Untreatable::Broken("cut by the storage")))),
                Poll::Ready(Some(Ok(frame))) => frame.into_data().unwrap_or_default(),
                Poll::Pending => {
                    if !self.waiting {
                        self.waiting = true;
                        self.stall.as_mut().reset(Instant::now() + STALL);
                    }
                    ready!(self.stall.as_mut().poll(context));
                    return Poll::Ready(Some(Err(NOT_COMING)));
                }
            }
        } else {
            std::mem::take(&mut self.first)
        };
        self.waiting = false;
        let count = bytes.len() as u64;
        match self.left.checked_sub(count) {
            None => return Poll::Ready(Some(Err(TOO_LARGE))),
            Some(left) => self.left = left,
        }
        self.bytes.increment(count);
        Poll::Ready(Some(Ok(bytes)))
    }
}

impl Flow {
    /// Lets a part come as it lies there, to a client whose connection carries nothing else meanwhile, so that its own limit of
    /// time is this part's. It stops when the client goes, stalls, or its session ends.
    pub(super) fn straight(coming: Coming) -> Self {
        let Coming { first, rest, session, place } = coming;
        Self(Way::Straight(Box::new(Straight {
            first,
            rest,
            left: PART_BYTES_MAX,
            ended: Box::pin(ended(session)),
            stall: Box::pin(tokio::time::sleep(STALL)),
            waiting: false,
            bytes: metrics::counter!(CHUNK_BYTES),
            _place: place,
        })))
    }

    /// Lets a part come through what is done to it. It stops when the client goes, stalls, or its session ends.
    pub(super) fn treated(coming: Coming, treatments: Vec<Box<dyn Treatment>>, record: CutRecord) -> Self {
        let Coming { first, rest, session, place } = coming;
        let (to, from) = mpsc::channel(FRAMES_MAX);
        tokio::spawn(async move {
            let _place = place;
            let stopped = tokio::select! {
                biased;
                ended = ended(session) => Err(ended),
                passed = pass(first, rest, treatments, &to) => passed,
            };
            if let Err(error) = stopped {
                warn!(%error, "part of a result cut");
                // On record before the client can know.
                if error == Untreatable::Unmaskable {
                    record.write().await;
                }
                let _ = tokio::time::timeout(STALL, to.send(Err(error))).await;
            }
        });
        Self(Way::Treated { next: from, pieces: Vec::new().into_iter() })
    }
}

/// Waits for the end of a session that is known here.
async fn ended(session: Option<Arc<Session>>) -> Untreatable {
    match session {
        Some(session) => drop(session.ended().await),
        None => std::future::pending().await,
    }
    Untreatable::Broken("of a session that has ended")
}

async fn pass(
    first: Bytes,
    mut rest: Incoming,
    mut treatments: Vec<Box<dyn Treatment>>,
    to: &mpsc::Sender<Result<Vec<Bytes>, Untreatable>>,
) -> Result<(), Untreatable> {
    let mut left = PART_BYTES_MAX;
    let step = treatments.first().map_or(usize::MAX, |first| first.step_bytes());
    let mut next = Some(first);
    while let Some(mut bytes) = next {
        while !bytes.is_empty() {
            let piece = bytes.split_to(step.min(bytes.len()));
            send(through(&mut treatments, vec![piece]).await?, to, &mut left).await?;
        }
        next = match tokio::time::timeout(STALL, rest.frame()).await {
            Err(_elapsed) => return Err(NOT_COMING),
            Ok(Some(Err(_))) => return Err(Untreatable::Broken("cut by the storage")),
            Ok(Some(Ok(frame))) => Some(frame.into_data().unwrap_or_default()),
            Ok(None) => None,
        };
    }
    for at in 0..treatments.len() {
        let (ending, after) = treatments.split_at_mut(at + 1);
        let Some(ending) = ending.last_mut() else { continue };
        let left_over = ending.end().await?;
        send(through(after, left_over).await?, to, &mut left).await?;
    }
    Ok(())
}

async fn through(treatments: &mut [Box<dyn Treatment>], mut pieces: Vec<Bytes>) -> Result<Vec<Bytes>, Untreatable> {
    for treatment in treatments {
        let mut treated = Vec::new();
        for piece in pieces.iter().filter(|piece| !piece.is_empty()) {
            treated.append(&mut treatment.take(piece).await?);
        }
        pieces = treated;
    }
    Ok(pieces)
}

async fn send(
    mut pieces: Vec<Bytes>,
    to: &mpsc::Sender<Result<Vec<Bytes>, Untreatable>>,
    left: &mut u64,
) -> Result<(), Untreatable> {
    pieces.retain(|bytes| !bytes.is_empty());
    let count = pieces.iter().map(|bytes| bytes.len() as u64).sum();
    if count == 0 {
        return Ok(());
    }
    *left = left.checked_sub(count).ok_or(TOO_LARGE)?;
    metrics::counter!(CHUNK_BYTES).increment(count);
    match tokio::time::timeout(STALL, to.send(Ok(pieces))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_gone)) => Err(Untreatable::Broken("no longer wanted")),
        Err(_elapsed) => Err(Untreatable::Broken("not read by the client")),
    }
}

/// Unpacks gzip as it comes.
pub(super) struct Unpack(MultiGzDecoder<Vec<u8>>);

impl Unpack {
    pub(super) fn new() -> Self {
        Self(MultiGzDecoder::new(Vec::new()))
    }

    fn unpacked(&mut self) -> Vec<Bytes> {
        vec![std::mem::take(self.0.get_mut()).into()]
    }
}

impl Treatment for Unpack {
    fn step_bytes(&self) -> usize {
        STEP_BYTES
    }

    fn take<'a>(&'a mut self, bytes: &'a Bytes) -> Treated<'a> {
        let written = self.0.write_all(bytes).map_err(|_| Untreatable::Broken("not the gzip stream it begins as"));
        at_once(written.map(|()| self.unpacked()))
    }

    fn end(&mut self) -> Treated<'_> {
        let ended = self.0.try_finish().map_err(|_| Untreatable::Broken("not a whole gzip stream"));
        at_once(ended.map(|()| self.unpacked()))
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, write::GzEncoder};

    use super::*;

    async fn unpacked(packed: &[u8], step: usize) -> Result<Vec<u8>, Untreatable> {
        let mut unpack = Unpack::new();
        let mut plain = Vec::new();
        for piece in packed.chunks(step) {
            plain.append(&mut unpack.take(&Bytes::copy_from_slice(piece)).await?);
        }
        plain.append(&mut unpack.end().await?);
        Ok(plain.concat())
    }

    #[tokio::test]
    async fn unpacks_in_pieces_of_any_length_and_only_whole() {
        let plain: Vec<u8> = (0..100_000_u32).flat_map(|n| n.to_string().into_bytes()).collect();
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(&plain).unwrap();
        let packed = encoder.finish().unwrap();
        for step in [1, 7, 4096, packed.len()] {
            assert_eq!(unpacked(&packed, step).await.unwrap(), plain, "{step}");
        }
        let (cut, _) = packed.split_at(packed.len() - 3);
        assert!(unpacked(cut, 4096).await.is_err(), "cut");
        let mut changed = packed.clone();
        let at = changed.len() / 2;
        changed[at] ^= 1;
        assert!(unpacked(&changed, 4096).await.is_err(), "changed");
    }
}
