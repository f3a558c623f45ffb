use std::{
    future::Future,
    io::Write as _,
    time::{Duration, Instant},
};

/// What takes longer than this says what it is doing.
const PATIENCE: Duration = Duration::from_secs(1);

/// Waits for `work`; after a second says on standard error what for.
pub(crate) async fn wait<T>(what: &str, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    tokio::select! {
        done = &mut work => return done,
        () = tokio::time::sleep(PATIENCE) => say(&format!("{what} …")),
    }
    work.await
}

/// Counts on standard error, once a second.
#[derive(Debug)]
pub(crate) struct Counter {
    told: Instant,
}

impl Counter {
    pub(crate) fn new() -> Self {
        Self { told: Instant::now() }
    }

    pub(crate) fn at(&mut self, text: impl FnOnce() -> String) {
        if self.told.elapsed() >= PATIENCE {
            self.told = Instant::now();
            say(&text());
        }
    }
}

fn say(text: &str) {
    // Nobody can be told that standard error is closed.
    let _ = writeln!(std::io::stderr(), "{text}");
}
