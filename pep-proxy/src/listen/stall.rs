//! A connection that ends when its other side does not read what it asked for, or has nothing more to say.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep},
};

/// The connection, with the longest time one write may wait.
#[derive(Debug)]
pub(super) struct Stalling<I> {
    io: I,
    timeout: Duration,
    /// Runs while a write waits.
    timer: Pin<Box<Sleep>>,
    waiting: bool,
    idle: Option<Idle>,
}

/// What ends a connection that asks nothing: HTTP/2 has no wait for the next head that could be bounded.
#[derive(Debug)]
struct Idle {
    working: Working,
    timeout: Duration,
    /// Runs since something was read last.
    timer: Pin<Box<Sleep>>,
}

/// How many requests of a connection are being worked on.
#[derive(Debug, Clone, Default)]
pub(super) struct Working(Arc<AtomicUsize>);

/// One of them; over when dropped.
#[derive(Debug)]
pub(super) struct OneOfThem(Working);

impl Working {
    pub(super) fn one(&self) -> OneOfThem {
        self.0.fetch_add(1, Ordering::AcqRel);
        OneOfThem(self.clone())
    }
}

impl Drop for OneOfThem {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<I> Stalling<I> {
    pub(super) fn new(io: I, timeout: Duration) -> Self {
        Self { io, timeout, timer: Box::pin(tokio::time::sleep(timeout)), waiting: false, idle: None }
    }

    /// Ends it besides when nothing comes for so long while no request is worked on.
    pub(super) fn idle_after(mut self, timeout: Duration, working: Working) -> Self {
        self.idle = Some(Idle { working, timeout, timer: Box::pin(tokio::time::sleep(timeout)) });
        self
    }

    fn watched<T>(&mut self, context: &mut Context<'_>, polled: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if polled.is_ready() {
            self.waiting = false;
            return polled;
        }
        if !self.waiting {
            self.waiting = true;
            self.timer.as_mut().reset(Instant::now() + self.timeout);
        }
        match self.timer.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Stalling<I> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, to: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_read(context, to);
        let Some(idle) = &mut self.idle else { return polled };
        if polled.is_ready() {
            idle.timer.as_mut().reset(Instant::now() + idle.timeout);
            return polled;
        }
        while idle.timer.as_mut().poll(context).is_ready() {
            if idle.working.0.load(Ordering::Acquire) == 0 {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            idle.timer.as_mut().reset(Instant::now() + idle.timeout);
        }
        Poll::Pending
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Stalling<I> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write(context, bytes);
        self.watched(context, polled)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.io).poll_write_vectored(context, bytes);
        self.watched(context, polled)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_flush(context);
        self.watched(context, polled)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.io).poll_shutdown(context);
        self.watched(context, polled)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_reader_that_pauses_is_waited_for_and_one_that_stops_is_not() {
        let (ours, mut theirs) = tokio::io::duplex(4);
        let mut ours = Stalling::new(ours, Duration::from_millis(300));
        let reads = async {
            let mut read = [0; 4];
            for _ in 0..4 {
                tokio::time::sleep(Duration::from_millis(100)).await;
                theirs.read_exact(&mut read).await.unwrap();
            }
        };
        let (written, ()) = tokio::join!(ours.write_all(&[0; 16]), reads);
        written.unwrap();
        let stopped = ours.write_all(&[0; 16]).await.unwrap_err();
        assert_eq!(stopped.kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test]
    async fn who_asks_nothing_is_not_kept_and_who_waits_for_an_answer_is() {
        let (ours, _theirs) = tokio::io::duplex(4);
        let working = Working::default();
        let mut ours =
            Stalling::new(ours, Duration::from_secs(9)).idle_after(Duration::from_millis(100), working.clone());
        let one = working.one();
        let waited = tokio::time::timeout(Duration::from_millis(400), ours.read_u8()).await;
        assert!(waited.is_err(), "an answer is on its way");
        drop(one);
        let ended = tokio::time::timeout(Duration::from_secs(5), ours.read_u8()).await.unwrap().unwrap_err();
        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
    }
}
