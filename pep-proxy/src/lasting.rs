//! Work that goes on when whoever waits for it leaves.

use std::{
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::runtime::Handle;

/// Is done by whoever waits for it, and in a task of its own once nobody does: no task is needed as long as its client is there.
pub(crate) struct Lasting<T: Send + 'static>(Option<Pin<Box<dyn Future<Output = T> + Send>>>);

impl<T: Send + 'static> Lasting<T> {
    pub(crate) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self(Some(Box::pin(work)))
    }
}

impl<T: Send + 'static> fmt::Debug for Lasting<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lasting").field(&self.0.is_some()).finish()
    }
}

impl<T: Send + 'static> Future for Lasting<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        let Some(work) = &mut self.0 else { return Poll::Pending };
        let polled = work.as_mut().poll(context);
        if polled.is_ready() {
            self.0 = None;
        }
        polled
    }
}

impl<T: Send + 'static> Drop for Lasting<T> {
    fn drop(&mut self) {
        if let (Some(work), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn it_is_done_whoever_waits() {
        let (told, hears) = oneshot::channel();
        assert!(Lasting::new(async { told.send(1).is_ok() }).await);
        assert_eq!(hears.await, Ok(1));

        let (told, hears) = oneshot::channel();
        let slow = Lasting::new(async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            told.send(2).is_ok()
        });
        assert!(tokio::time::timeout(Duration::from_millis(1), slow).await.is_err(), "left before its end");
        assert_eq!(hears.await, Ok(2));

        let (told, hears) = oneshot::channel();
        drop(Lasting::new(async { told.send(3).is_ok() }));
        assert_eq!(hears.await, Ok(3), "even before it was begun");
    }
}
