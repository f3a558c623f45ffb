//! Texts and bytes that nobody would send by accident, and a run of them that ends, tells its seed and watches the time.
//!
//! Every target is a function of [`Dice`]. In `cargo test` the dice fall as consecutive seeds say, always alike, and a
//! failure names its seed. With `ICEGATE_FUZZ_BOLERO` set the same targets are driven by bolero, and by coverage under
//! `cargo bolero test`: there the dice are the bytes the engine gives.

mod sql;
mod structure;

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process::abort,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

pub use sql::{Seeds, sql};
pub use structure::{bytes, json_text, mutated_bytes, mutated_lines};

use crate::{
    generated::Dice,
    runs::{count, first_seed},
};

/// Longest one input may take, in a build that is not optimised and on a machine that does other things.
const TIME_MAX: Duration = Duration::from_secs(20);
/// Most memory the whole process may ever have held, in KiB.
const MEMORY_MAX_KIB: u64 = 2 * 1024 * 1024;

/// Runs a target as often as is usual, times what the environment says.
///
/// # Panics
/// When the target does. The seed is said before.
pub fn run(name: &str, usual: usize, target: impl Fn(&mut Dice)) {
    let (current, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let watch = watch(name.to_owned(), Arc::clone(&current), Arc::clone(&done));
    for seed in (first_seed()..).take(count(usual)) {
        current.store(seed, Ordering::SeqCst);
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| target(&mut Dice::new(seed))));
        let taken = started.elapsed();
        if let Err(panic) = outcome {
            say(&format!("{name}: ICEGATE_FUZZ_SEED={seed}"));
            done.store(true, Ordering::SeqCst);
            resume_unwind(panic);
        }
        assert!(taken < TIME_MAX, "{name}: ICEGATE_FUZZ_SEED={seed} took {taken:?}");
    }
    done.store(true, Ordering::SeqCst);
    drop(watch.join());
    let held = memory_peak_kib();
    assert!(held.is_none_or(|held| held < MEMORY_MAX_KIB), "{name}: the process held {held:?} KiB");
}

/// Says which seed hangs and ends the process: a thread that hangs cannot be stopped in any other way.
fn watch(name: String, current: Arc<AtomicU64>, done: Arc<AtomicBool>) -> thread::JoinHandle<()> {
    const TICK: Duration = Duration::from_millis(50);
    thread::spawn(move || {
        let (mut seed, mut since) = (u64::MAX, Instant::now());
        while !done.load(Ordering::SeqCst) {
            let now = current.load(Ordering::SeqCst);
            if now != seed {
                (seed, since) = (now, Instant::now());
            }
            if since.elapsed() > 3 * TIME_MAX {
                say(&format!("{name}: ICEGATE_FUZZ_SEED={seed} hangs"));
                abort();
            }
            thread::sleep(TICK);
        }
    })
}

#[expect(clippy::print_stderr, reason = "a test says which input it failed on")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// The most memory this process has ever held, where the system tells.
fn memory_peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// A test that runs a target by seeds, and by coverage when it is built for that.
#[macro_export]
macro_rules! fuzz_target {
    ($name:ident, $usual:expr, $target:expr) => {
        #[test]
        fn $name() {
            if $crate::runs::by_bolero() {
                bolero::check!().for_each(|bytes: &[u8]| $target(&mut $crate::generated::Dice::of_bytes(bytes)));
            } else {
                $crate::fuzz::run(stringify!($name), $usual, $target);
            }
        }
    };
}
