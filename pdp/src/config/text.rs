//! Values as they stand in the file, and where.

use std::{ops::Range, path::Path};

use serde::de::{Deserializer, Error as _, Visitor};

use super::ConfigError;

/// A text, or a number somebody forgot the unit of.
#[derive(Debug, Clone)]
pub(super) enum Loose {
    Text(String),
    Number(String),
}

impl<'de> serde::Deserialize<'de> for Loose {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl Visitor<'_> for Either {
            type Value = Loose;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a text such as \"250ms\"")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Loose, E> {
                Ok(Loose::Text(text.to_owned()))
            }
            fn visit_i64<E: serde::de::Error>(self, number: i64) -> Result<Loose, E> {
                Ok(Loose::Number(number.to_string()))
            }
            fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Loose, E> {
                Ok(Loose::Number(number.to_string()))
            }
            fn visit_f64<E: serde::de::Error>(self, number: f64) -> Result<Loose, E> {
                Ok(Loose::Number(number.to_string()))
            }
            fn visit_bool<E: serde::de::Error>(self, _: bool) -> Result<Loose, E> {
                Err(E::custom("a duration such as \"250ms\" is wanted"))
            }
        }
        deserializer.deserialize_any(Either).map_err(D::Error::custom)
    }
}

/// Tells problems by file and line.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
}

impl Place<'_> {
    pub(super) fn error(&self, span: &Range<usize>, problem: impl Into<String>) -> ConfigError {
        ConfigError::Invalid { path: self.path.to_owned(), line: self.line(span.start), problem: problem.into() }
    }

    /// What the TOML reader refused, in our words.
    pub(super) fn reader_error(&self, error: &toml::de::Error) -> ConfigError {
        let line = error.span().map_or(1, |span| self.line(span.start));
        let message = error.message().replace('\n', " ");
        let problem = unknown_key(&message).unwrap_or(message);
        ConfigError::Invalid { path: self.path.to_owned(), line, problem }
    }

    fn line(&self, offset: usize) -> usize {
        self.text.bytes().take(offset).filter(|&byte| byte == b'\n').count() + 1
    }
}

/// Rewrites serde's "unknown field `a`, expected one of `b`, `c`".
fn unknown_key(message: &str) -> Option<String> {
    let rest = message.strip_prefix("unknown field ")?;
    let mut quoted = rest.split('`').skip(1).step_by(2);
    let given = quoted.next()?;
    let known: Vec<&str> = quoted.collect();
    let nearest = known.iter().map(|key| (distance(given, key), key)).min();
    Some(match nearest {
        Some((distance, key)) if distance <= 3 && distance < given.len() => {
            format!("unknown key `{given}`; did you mean `{key}`?")
        }
        _ => format!("unknown key `{given}`; keys here are {}", known.join(", ")),
    })
}

/// Levenshtein's distance: edits between two words.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.chars().count()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        if let Some(first) = row.first_mut() {
            *first = before;
        }
        for (cell, right) in row.iter_mut().skip(1).zip(b.chars()) {
            let replaced = diagonal + usize::from(left != right);
            diagonal = *cell;
            before = replaced.min(before + 1).min(*cell + 1);
            *cell = before;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::distance;

    #[test]
    fn edits_are_counted() {
        for (a, b, wanted) in [("path", "path", 0), ("paht", "path", 2), ("", "abc", 3), ("kitten", "sitting", 3)] {
            assert_eq!(distance(a, b), wanted, "{a} {b}");
        }
    }
}
