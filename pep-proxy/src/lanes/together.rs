//! A call and the connection it drives, polled by one task as if they were one.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Wake, Waker},
};

/// How often the two are polled for each other before their task gives others a turn.
const TURNS_MAX: usize = 8;

/// What wakes a call and its connection. They wake each other at every step; with the waker of their task all of that would be
/// polled anew each time. As it is, whoever is woken while they are polled has its turn right then.
#[derive(Debug)]
pub(super) struct Together {
    wakes: Arc<Wakes>,
    waker: Waker,
}

#[derive(Debug, Default)]
struct Wakes(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Either was woken since it was polled last.
    woken: bool,
    /// Their task, while it waits for them.
    task: Option<Waker>,
}

impl Wakes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.state();
        state.woken = true;
        let task = state.task.take();
        drop(state);
        if let Some(task) = task {
            task.wake();
        }
    }
}

impl Default for Together {
    fn default() -> Self {
        let wakes = Arc::new(Wakes::default());
        Self { waker: Waker::from(Arc::clone(&wakes)), wakes }
    }
}

impl Together {
    /// What either is polled with.
    pub(super) fn context(&self) -> Context<'_> {
        Context::from_waker(&self.waker)
    }

    /// Polls both, until the call is done or neither can go on. A connection that has ended is dropped, of which the call hears.
    pub(super) fn poll<C: Future, D: Future + Unpin>(
        &self,
        task: &Context<'_>,
        mut call: Pin<&mut C>,
        driver: &mut Option<D>,
    ) -> Poll<C::Output> {
        let mut context = self.context();
        *self.wakes.state() = State::default();
        for _ in 0..TURNS_MAX {
            if let Poll::Ready(done) = call.as_mut().poll(&mut context) {
                return Poll::Ready(done);
            }
            // Whoever has been woken until now is polled next.
            self.wakes.state().woken = false;
            driver.take_if(|driver| Pin::new(driver).poll(&mut context).is_ready());
            if let Poll::Ready(done) = call.as_mut().poll(&mut context) {
                return Poll::Ready(done);
            }
            let mut state = self.wakes.state();
            if !state.woken {
                state.task = Some(task.waker().clone());
                return Poll::Pending;
            }
        }
        task.waker().wake_by_ref();
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::poll_fn,
        pin::pin,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    /// Counts how often its task was woken.
    #[derive(Default)]
    struct Task(AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::AcqRel);
        }
    }

    impl Task {
        fn woken(&self) -> usize {
            self.0.load(Ordering::Acquire)
        }
    }

    /// Polls once; says whether the call is done.
    fn polled(
        together: &Together,
        task: &Arc<Task>,
        call: impl Future<Output = ()>,
        driver: impl FnMut() -> Poll<()>,
    ) -> bool {
        let waker = Waker::from(Arc::clone(task));
        let mut driver = driver;
        let mut driver = Some(Box::pin(poll_fn(|_| driver())));
        together.poll(&Context::from_waker(&waker), pin!(call), &mut driver).is_ready()
    }

    #[test]
    fn they_wake_each_other_without_their_task() {
        let (together, task) = (Together::default(), Arc::new(Task::default()));
        let mut steps = 0;
        let call = poll_fn(|_| {
            steps += 1;
            together.waker.wake_by_ref();
            if steps < 6 { Poll::Pending } else { Poll::Ready(()) }
        });
        assert!(polled(&together, &task, call, || Poll::Pending));
        assert_eq!(task.woken(), 0);
    }

    #[test]
    fn who_wakes_them_from_outside_wakes_their_task() {
        let (together, task) = (Together::default(), Arc::new(Task::default()));
        assert!(!polled(&together, &task, std::future::pending(), || Poll::Pending));
        assert_eq!(task.woken(), 0, "neither was woken");
        together.waker.wake_by_ref();
        together.waker.wake_by_ref();
        assert_eq!(task.woken(), 1);
        assert!(polled(&together, &task, std::future::ready(()), || Poll::Pending));
        together.waker.wake_by_ref();
        assert_eq!(task.woken(), 1, "a connection that nobody has wakes nobody");
    }

    #[test]
    fn who_wakes_itself_again_and_again_gives_others_a_turn() {
        let (together, task) = (Together::default(), Arc::new(Task::default()));
        let driver = || {
            together.waker.wake_by_ref();
            Poll::Pending
        };
        assert!(!polled(&together, &task, std::future::pending(), driver));
        assert_eq!(task.woken(), 1);
    }
}
