use std::fmt;

use cedar_policy::ffi::DetailedError;
use thiserror::Error;

/// One thing that is wrong with a bundle, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Path in the bundle, for example `agents.cedar`.
    pub file: String,
    /// Line, from 1; 0 when the whole file is meant.
    pub line: u32,
    /// Column in characters, from 1; 0 when the whole file is meant.
    pub column: u32,
    /// What is wrong.
    pub reason: String,
    /// What to do about it.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}:{}", self.line, self.column)?;
        }
        write!(f, ": {}; {}", self.reason, self.remedy)
    }
}

/// Something that works and is probably not meant.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Lint {
    /// The policy, when it is about one.
    pub policy: Option<String>,
    /// Path in the bundle.
    pub file: String,
    /// Line, from 1; 0 when the whole file is meant.
    pub line: u32,
    /// What to look at, and why.
    pub message: String,
}

impl fmt::Display for Lint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Why a bundle cannot be used: everything that is wrong with it, in order of file and line.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub struct BundleError {
    /// At least one.
    pub problems: Vec<Problem>,
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// A text in a file, and where it stands there: turns byte offsets into lines and columns.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) file: &'a str,
    /// The whole file.
    pub(crate) text: &'a str,
    /// Where offsets count from.
    pub(crate) start: usize,
}

impl<'a> Place<'a> {
    pub(crate) fn of_file(file: &'a str, text: &'a str) -> Self {
        Self { file, text, start: 0 }
    }

    /// Line and column, both from 1, of the byte `offset` after the start.
    pub(crate) fn line_column(&self, offset: usize) -> (u32, u32) {
        let end = self.start.saturating_add(offset).min(self.text.len());
        let before = self.text.as_bytes().get(..end).map(String::from_utf8_lossy).unwrap_or_default();
        let line = before.matches('\n').count();
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count());
        (
            u32::try_from(line).unwrap_or(u32::MAX).saturating_add(1),
            u32::try_from(column).unwrap_or(0).saturating_add(1),
        )
    }

    pub(crate) fn problem(&self, offset: usize, reason: impl Into<String>, remedy: impl Into<String>) -> Problem {
        let (line, column) = self.line_column(offset);
        Problem { file: self.file.to_owned(), line, column, reason: reason.into(), remedy: remedy.into() }
    }

    /// What Cedar says, one problem per error, each where Cedar points.
    pub(crate) fn cedar_problems(&self, error: &DetailedError, remedy: &str) -> Vec<Problem> {
        let mut problems = Vec::with_capacity(1 + error.related.len());
        for error in std::iter::once(error).chain(&error.related) {
            let label = error.source_locations.first();
            let mut reason = one_line(&error.message);
            if let Some(label) = label.and_then(|label| label.label.as_deref()) {
                reason = format!("{reason} ({})", one_line(label));
            }
            let remedy = error.help.as_deref().map_or_else(|| remedy.to_owned(), one_line);
            problems.push(self.problem(label.map_or(0, |label| label.loc.start), reason, remedy));
        }
        problems
    }
}

/// A problem with a whole file, or with a file that is not there.
pub(crate) fn file_problem(file: &str, reason: impl Into<String>, remedy: impl Into<String>) -> Problem {
    Problem { file: file.to_owned(), line: 0, column: 0, reason: reason.into(), remedy: remedy.into() }
}

/// Line breaks become blanks, so that every problem is one line.
pub(crate) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::Place;

    #[test]
    fn offsets_become_lines_and_columns_in_characters() {
        let place = Place::of_file("a.cedar", "é\nab\n");
        assert_eq!(place.line_column(0), (1, 1));
        assert_eq!(place.line_column(2), (1, 2));
        assert_eq!(place.line_column(4), (2, 2));
        assert_eq!(place.line_column(99), (3, 1), "past the end is the end");
    }
}
