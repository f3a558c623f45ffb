//! Finding what must not be shown in free text: by patterns that take linear time, and check digits where there are any.

mod checks;
mod document;
mod patterns;

use std::{borrow::Cow, fmt, ops::Range, str::FromStr};

use regex::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use self::patterns::{Check, Edge, KNOWN};

/// What stands for a whole cell.
pub const REDACTED: &str = "[redacted]";
/// Most finds of one pattern in one text; a text with more is redacted whole.
const FINDS_MAX: usize = 10_000;
/// Most patterns of one's own.
const PATTERNS_MAX: usize = 100;
/// Longest pattern of one's own, in bytes.
const PATTERN_BYTES_MAX: usize = 1000;
/// Longest name of a pattern, in bytes.
const NAME_BYTES_MAX: usize = 40;
/// Largest compiled pattern, in bytes.
const COMPILED_BYTES_MAX: usize = 1 << 20;
/// Largest compiled set, in bytes.
const SET_BYTES_MAX: usize = 32 << 20;

/// What can be looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Detector {
    /// Payment card numbers: 13 to 19 digits, with blanks, hyphens or dots between groups, that pass Luhn's check.
    Card,
    /// E-mail addresses.
    Email,
    /// Telephone numbers with a country code, in North American form, or with a leading zero and groups.
    Phone,
    /// International bank account numbers, checked modulo 97.
    Iban,
    /// National ids: US SSN, UK NINO, Canadian SIN, Spanish DNI and NIE, Italian codice fiscale, French NIR, Polish PESEL,
    /// Swedish and Finnish personal numbers, Brazilian CPF, Indian Aadhaar; with their check digits, where they have any.
    NationalId,
    /// Secrets: private keys, JSON web tokens, keys of AWS, GitHub, GitLab, Google, Slack, Stripe and others, passwords in URLs.
    Secret,
}

impl Detector {
    /// Every one.
    pub const ALL: [Self; 6] = [Self::Card, Self::Email, Self::Phone, Self::Iban, Self::NationalId, Self::Secret];

    /// Its name in policies and redactions.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Card => "card",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Iban => "iban",
            Self::NationalId => "national-id",
            Self::Secret => "secret",
        }
    }
}

impl FromStr for Detector {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let found = Self::ALL.into_iter().find(|detector| detector.as_str() == text);
        found.ok_or_else(|| PatternError::Name(text.chars().take(NAME_BYTES_MAX).collect()))
    }
}

/// A pattern of one's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// What redactions say: `[redacted:name]`.
    pub name: String,
    /// A regular expression of the `regex` crate. It sees a text column's cell, or one string or number of a document.
    pub regex: String,
}

/// Why a pattern is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatternError {
    /// Not a detector, or not a name.
    #[error("`{0}` is neither a detector nor a name of 1 to 40 lower-case letters, digits and hyphens")]
    Name(String),
    /// Not a regular expression that can be used.
    #[error("pattern `{name}`: {why}")]
    Regex {
        /// Which one.
        name: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Too many.
    #[error("there are more than 100 patterns")]
    TooMany,
}

/// Looks for everything it was made for in one go.
pub struct Scanner {
    any: RegexSet,
    patterns: Vec<Compiled>,
    own: bool,
}

struct Compiled {
    label: Cow<'static, str>,
    regex: Regex,
    edge: Edge,
    check: Check,
}

impl fmt::Debug for Scanner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Scanner({} patterns)", self.patterns.len())
    }
}

/// A place in a text.
struct Hit<'a> {
    range: Range<usize>,
    label: &'a str,
}

/// More finds than the limit.
struct TooMany;

impl Scanner {
    /// Looks for what these detectors know and for patterns of one's own.
    ///
    /// # Errors
    ///
    /// A pattern that is not one, is too large, or matches the empty text; a bad name.
    pub fn new(detectors: &[Detector], own: &[Pattern]) -> Result<Self, PatternError> {
        if own.len() > PATTERNS_MAX {
            return Err(PatternError::TooMany);
        }
        let mut patterns = Vec::new();
        for known in KNOWN.iter().filter(|known| detectors.contains(&known.detector)) {
            patterns.push(Compiled {
                label: Cow::Borrowed(known.detector.as_str()),
                regex: compile(known.detector.as_str(), known.regex)?,
                edge: known.edge,
                check: known.check,
            });
        }
        for Pattern { name, regex } in own {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if !(1..=NAME_BYTES_MAX).contains(&name.len()) || !name.bytes().all(plain) {
                return Err(PatternError::Name(name.chars().take(NAME_BYTES_MAX).collect()));
            }
            let wrong = |why| PatternError::Regex { name: name.clone(), why };
            if regex.len() > PATTERN_BYTES_MAX {
                return Err(wrong("it is longer than 1000 bytes"));
            }
            let regex = compile(name, regex)?;
            if regex.is_match("") {
                return Err(wrong("it matches the empty text"));
            }
            patterns.push(Compiled { label: Cow::Owned(name.clone()), regex, edge: Edge::Any, check: Check::Whole });
        }
        let texts = patterns.iter().map(|pattern| pattern.regex.as_str());
        let any = RegexSetBuilder::new(texts)
            .size_limit(SET_BYTES_MAX)
            .dfa_size_limit(SET_BYTES_MAX)
            .build()
            .map_err(|_| PatternError::Regex { name: "all".to_owned(), why: "together they are too large" })?;
        Ok(Self { any, patterns, own: !own.is_empty() })
    }

    /// Appends the text with everything found replaced by `[redacted:name]`; the whole by `[redacted]` where too much is found.
    pub fn redact(&self, text: &str, out: &mut String) {
        match self.redacted(text) {
            None => out.push_str(text),
            Some(redacted) => out.push_str(&redacted),
        }
    }

    /// The same for JSON text: each string, each key and each number is looked at by itself, unescaped, and what stays keeps its
    /// bytes. What is not JSON becomes the JSON string `"[redacted]"`.
    pub fn redact_document(&self, text: &str, out: &mut String) {
        let untouched = !self.own && !text.contains('\\') && !self.may_hold(text);
        if untouched && document::is_closed(text) {
            out.push_str(text);
            return;
        }
        let start = out.len();
        if document::redact(text, out, |piece| self.redacted(piece)).is_none() {
            out.truncate(start);
            out.extend(['"'].into_iter().chain(REDACTED.chars()).chain(['"']));
        }
    }

    /// Whether there is anything to look at more closely.
    fn may_hold(&self, text: &str) -> bool {
        (self.own || patterns::may_match(text)) && self.any.is_match(text)
    }

    /// The text redacted; nothing when there is nothing to redact.
    fn redacted(&self, text: &str) -> Option<String> {
        if !self.may_hold(text) {
            return None;
        }
        let Ok(hits) = self.hits(text) else { return Some(REDACTED.to_owned()) };
        if hits.is_empty() {
            return None;
        }
        let mut redacted = String::with_capacity(text.len());
        let mut kept_to = 0;
        let mut hits = hits.into_iter().peekable();
        while let Some(Hit { mut range, label }) = hits.next() {
            while let Some(next) = hits.next_if(|next| next.range.start < range.end) {
                range.end = range.end.max(next.range.end);
            }
            redacted.push_str(text.get(kept_to..range.start).unwrap_or_default());
            redacted.extend(["[redacted:", label, "]"]);
            kept_to = range.end;
        }
        redacted.push_str(text.get(kept_to..).unwrap_or_default());
        Some(redacted)
    }

    /// Everything found, by place.
    fn hits(&self, text: &str) -> Result<Vec<Hit<'_>>, TooMany> {
        let mut hits = Vec::new();
        for index in self.any.matches(text) {
            if let Some(pattern) = self.patterns.get(index) {
                pattern.hits(text, &mut hits)?;
            }
        }
        // Of several that start at one place the longest names it.
        hits.sort_by_key(|hit| (hit.range.start, usize::MAX - hit.range.end));
        Ok(hits)
    }
}

impl Compiled {
    fn hits<'a>(&'a self, text: &str, hits: &mut Vec<Hit<'a>>) -> Result<(), TooMany> {
        let (mut at, mut finds) = (0, 0);
        let mut ranges = Vec::new();
        while let Some(candidate) = self.regex.find_at(text, at) {
            finds += 1;
            if finds > FINDS_MAX {
                return Err(TooMany);
            }
            ranges.clear();
            self.check.ranges(candidate.as_str(), &mut ranges);
            let ranges = ranges.iter().map(|range| candidate.start() + range.start..candidate.start() + range.end);
            let before = hits.len();
            hits.extend(
                ranges
                    .filter(|range| !range.is_empty() && self.edge.holds(text, range))
                    .map(|range| Hit { range, label: &self.label }),
            );
            // What was no hit may hide one that starts in it.
            at = if hits.len() > before || self.check.sees_all() {
                candidate.end().max(candidate.start() + 1)
            } else {
                candidate.start() + 1
            };
            while at < text.len() && !text.is_char_boundary(at) {
                at += 1;
            }
            if at > text.len() {
                break;
            }
        }
        Ok(())
    }
}

fn compile(name: &str, regex: &str) -> Result<Regex, PatternError> {
    let built = RegexBuilder::new(regex).size_limit(COMPILED_BYTES_MAX).dfa_size_limit(COMPILED_BYTES_MAX).build();
    built.map_err(|error| PatternError::Regex {
        name: name.to_owned(),
        why: match error {
            regex::Error::CompiledTooBig(_) => "it is too large when compiled",
            _ => "it is not a regular expression",
        },
    })
}
