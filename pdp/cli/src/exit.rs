use std::{fmt, io, process::ExitCode};

/// How a command ended, as its exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Done, and everything that was checked holds.
    Ok = 0,
    /// A check failed, or the PDP refused.
    Failed = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A file or setting is wrong.
    Config = 64,
    /// The PDP cannot be reached.
    Unavailable = 69,
    /// Something that should not happen.
    Internal = 70,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not end well: what happened and what to do.
#[derive(Debug)]
pub(crate) struct Failure {
    exit: Exit,
    message: String,
    broken_pipe: bool,
}

impl Failure {
    pub(crate) fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), broken_pipe: false }
    }

    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }

    /// The reader of our output has seen enough, as `head` does.
    pub(crate) fn is_broken_pipe(&self) -> bool {
        self.broken_pipe
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// Errors of writing what a command shows.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self { exit: Exit::Ok, message: String::new(), broken_pipe: true };
        }
        Self::new(Exit::Internal, format!("cannot write the output: {error}"))
    }
}

/// An error and its causes in one line; a cause that its error has said already is not said again.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        cause = error.source();
    }
    text
}
