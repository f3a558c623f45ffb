//! What a program writes, for secrets that lie in no file: bounded in time and length, and in no log.

use std::{
    io::Read as _,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use zeroize::Zeroizing;

/// Longest time it may take.
const TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes it may write.
const BYTES_MAX: u32 = 1024 * 1024;
/// How often its end is looked for, once it has closed its output.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Why there is nothing. What it wrote is in none of them.
#[derive(Debug, thiserror::Error)]
pub(super) enum Mute {
    /// There is no such program, or it is none.
    #[error("cannot be started")]
    Unstarted(#[source] std::io::Error),
    /// It went wrong, by its own word.
    #[error("ended badly ({0}); run it by hand, icegate passes on nothing it says")]
    Failed(ExitStatus),
    /// It is still at it.
    #[error("did not end within {TIME_MAX:?}")]
    Slow,
    /// More than any key file has.
    #[error("wrote more than {BYTES_MAX} bytes")]
    TooLong,
    /// Its output broke.
    #[error("could not be read")]
    Cut,
}

/// Runs it, without a shell, and gives what it writes to its output. What it writes as errors nobody reads: it may quote a secret.
pub(super) fn output(program: &Path, arguments: &[String]) -> Result<Zeroizing<Vec<u8>>, Mute> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(Mute::Unstarted)?;
    let said = said(&mut child);
    // Whatever came of it, it is over: one that has ended by itself hears nothing of this.
    let _ = child.kill();
    let _ = child.wait();
    said
}

fn said(child: &mut Child) -> Result<Zeroizing<Vec<u8>>, Mute> {
    let until = Instant::now() + TIME_MAX;
    let stdout = child.stdout.take().ok_or(Mute::Cut)?;
    let (to, from) = mpsc::channel();
    // A thread of its own, which is left alone when time is over: a child's child may hold the output open.
    thread::spawn(move || {
        // All the room at once: what grows leaves copies behind.
        let mut bytes = Zeroizing::new(Vec::with_capacity(BYTES_MAX as usize + 1));
        let read = stdout.take(u64::from(BYTES_MAX) + 1).read_to_end(&mut bytes);
        let _ = to.send(read.map(|_| bytes));
    });
    let bytes = from.recv_timeout(TIME_MAX).map_err(|_| Mute::Slow)?.map_err(|_| Mute::Cut)?;
    if bytes.len() > BYTES_MAX as usize {
        return Err(Mute::TooLong);
    }
    loop {
        match child.try_wait() {
            Ok(Some(status)) if status.success() => return Ok(bytes),
            Ok(Some(status)) => return Err(Mute::Failed(status)),
            Ok(None) if Instant::now() < until => thread::sleep(LOOK_EVERY),
            Ok(None) => return Err(Mute::Slow),
            Err(_) => return Err(Mute::Cut),
        }
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;

    #[test]
    fn what_it_writes_counts_when_it_ends_well() {
        let said = |script: &str| {
            let arguments = ["-c", script, "sh", "$HOME; x"].map(str::to_owned);
            output(Path::new("/bin/sh"), &arguments)
                .map(|bytes| String::from_utf8(bytes.to_vec()).unwrap())
                .map_err(|why| why.to_string())
        };
        assert_eq!(
            said("echo key canary >&2; printf %s \"$1\"").as_deref(),
            Ok("$HOME; x"),
            "no shell of ours reads it"
        );
        assert_eq!(said("cat").as_deref(), Ok(""), "nothing to read");
        for (script, why) in [
            ("echo canary; exit 3", "ended badly (exit status: 3)"),
            ("echo canary; kill -9 $$", "ended badly (signal: 9"),
            ("while :; do echo canary canary canary canary canary; done", "wrote more than 1048576 bytes"),
        ] {
            let told = said(script).unwrap_err();
            assert!(told.contains(why) && !told.contains("canary"), "{script}: {told}");
        }
        let nowhere = output(Path::new("/nowhere/keys"), &[]).unwrap_err();
        assert!(matches!(nowhere, Mute::Unstarted(_)), "{nowhere}");
    }
}
