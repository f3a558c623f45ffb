use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
};

use tokio::sync::oneshot;

/// Stack of a deciding thread, in bytes: parsing goes as deep as the text is nested.
const STACK_BYTES: usize = 64 * 1024 * 1024;
/// Texts up to this many bytes with fewer opening brackets than [`INLINE_BRACKETS_MAX`] are decided where they are.
const INLINE_BYTES_MAX: usize = 4 * 1024;
const INLINE_BRACKETS_MAX: usize = 24;

type Job = Box<dyn FnOnce() + Send>;

/// Threads for texts that take long or nest deep, so that neither holds up or overflows the ones that serve.
#[derive(Debug, Clone)]
pub(crate) struct Deciders {
    jobs: mpsc::Sender<Job>,
}

/// The work was lost: it panicked, or the service is stopping.
#[derive(Debug, thiserror::Error)]
#[error("the decision could not be computed")]
pub(crate) struct Lost;

impl Deciders {
    /// Starts one thread for each processor. They end when the last clone is dropped.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (jobs, receiver) = mpsc::channel::<Job>();
        let receiver = Arc::new(Mutex::new(receiver));
        let threads = thread::available_parallelism().map_or(2, usize::from).clamp(2, 16);
        for number in 0..threads {
            let receiver = Arc::clone(&receiver);
            thread::Builder::new()
                .name(format!("decide-{number}"))
                .stack_size(STACK_BYTES)
                .spawn(move || work(&receiver))?;
        }
        Ok(Self { jobs })
    }

    /// Computes `job`, elsewhere if the text calls for it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        sql: &str,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Lost> {
        let brackets = sql.bytes().filter(|byte| matches!(byte, b'(' | b'[' | b'{')).count();
        if sql.len() <= INLINE_BYTES_MAX && brackets < INLINE_BRACKETS_MAX {
            return catch_unwind(AssertUnwindSafe(job)).map_err(|_| Lost);
        }
        let (answer, answered) = oneshot::channel();
        let job = Box::new(move || {
            // Whoever asked may have gone.
            let _ = answer.send(job());
        });
        self.jobs.send(job).map_err(|_| Lost)?;
        answered.await.map_err(|_| Lost)
    }
}

fn work(receiver: &Mutex<mpsc::Receiver<Job>>) {
    loop {
        let job = receiver.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else { return };
        // A panic refuses one statement (its answer is dropped), never the next.
        let _ = catch_unwind(AssertUnwindSafe(job));
    }
}

#[cfg(test)]
mod tests {
    use super::Deciders;

    #[tokio::test]
    async fn work_is_done_and_a_panic_is_contained() {
        let deciders = Deciders::start().unwrap();
        let long = "(".repeat(10_000);
        for sql in ["SELECT 1", &long] {
            assert!(deciders.run(sql, || panic!("on purpose")).await.is_err());
            assert_eq!(deciders.run(sql, || 7).await.unwrap(), 7);
        }
    }
}
