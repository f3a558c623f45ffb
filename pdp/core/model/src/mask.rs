mod expression;
mod result;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, de::Error as _};
use thiserror::Error;

pub use self::{
    expression::{ExpressionError, MaskExpression, ValueType},
    result::{Alphabet, Detector, ResultMask},
};

/// Longest constant a `redact` mask may carry, in characters.
const REDACT_CHARS_MAX: usize = 100;
/// Longest name of a mask of one's own, in bytes.
const OWN_NAME_BYTES_MAX: usize = 50;
/// Most characters a `partial` mask may keep at either end.
const PARTIAL_KEEP_MAX: u32 = 64;

/// What a protected column is replaced by. Written in policies as `@mask("partial(last=4)")`.
///
/// Every mask keeps the column's type; a mask that does not fit a type is refused when the bundle is loaded or, for a
/// column the catalog gains later, when the read is decided.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mask {
    /// `null`: no value at all. Any type.
    Null,
    /// `redact` or `redact(text)`: a constant of the type; for text `***` or the text given.
    Redact {
        /// What text columns show.
        text: Option<String>,
    },
    /// `constant(value)`: this value, which must be one of the column's type. Text, numbers, booleans and dates.
    Constant {
        /// As written.
        value: String,
    },
    /// `hash`: salted SHA-256 in hex, equal for equal values. Text only.
    Hash,
    /// `email`: keeps the domain, `***@example.com`. Text only.
    Email,
    /// `phone`: the last two characters; before them `+`, blanks and the signs between groups stay, the rest is starred.
    /// A value of six characters or fewer is starred whole. Text only.
    Phone,
    /// `card`: the last four digits, the rest starred; a value of fewer than twelve digits is starred whole. Text only.
    Card,
    /// `partial(first=n, last=m)`: keeps the ends and stars the middle; a value too short to hide anything is starred
    /// whole. Text only.
    Partial {
        /// Characters kept at the start.
        first: u32,
        /// Characters kept at the end.
        last: u32,
    },
    /// `year`: truncates a date or timestamp to its year.
    Year,
    /// `truncate(unit)`: truncates a date or timestamp to its quarter, month, day or hour.
    Truncate {
        /// To what.
        unit: TimeUnit,
    },
    /// `round(size)`: rounds a number to the nearest multiple of `size`. Adds no noise: equal values stay equal.
    Round {
        /// Distance of two values, at least 1.
        size: u64,
    },
    /// `bucket(size)`: rounds a number down to a multiple of `size`.
    Bucket {
        /// Width of a bucket, at least 1.
        size: u64,
    },
    /// `sql(name)`: the expression that settings give this name. What it shows is its author's to say.
    Sql {
        /// Its name under `masks` in settings.
        name: String,
    },
    /// A mask that is applied to the result, by the PEP.
    Result(ResultMask),
}

/// What a time is truncated to, coarsest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TimeUnit {
    /// Three months.
    Quarter,
    /// A month.
    Month,
    /// A day.
    Day,
    /// An hour.
    Hour,
}

impl TimeUnit {
    /// Every unit, coarsest first.
    pub const ALL: [Self; 4] = [Self::Quarter, Self::Month, Self::Day, Self::Hour];

    /// SQL's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quarter => "quarter",
            Self::Month => "month",
            Self::Day => "day",
            Self::Hour => "hour",
        }
    }
}

/// Where a mask is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaskSite {
    /// In the query, where the column is read.
    #[default]
    Source,
    /// In the result, by the PEP: what needs a key that SQL must not hold, or content that SQL cannot look into.
    Result,
}

impl MaskSite {
    /// Whether it is the usual one, which needs no word.
    pub fn is_source(&self) -> bool {
        *self == Self::Source
    }
}

/// Why a text is not a mask.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MaskError {
    /// No mask has this name.
    #[error(
        "`{0}` is not a mask; masks are null, redact, constant, hash, bucket, round, year, truncate, card, phone, partial, email, sql, tokenize, fpe and scan"
    )]
    Unknown(String),
    /// The parameters do not fit the mask.
    #[error("`{given}`: {wanted}")]
    Parameters {
        /// As written.
        given: String,
        /// What the mask needs.
        wanted: &'static str,
    },
}

impl Mask {
    /// Where it is applied.
    pub fn site(&self) -> MaskSite {
        match self {
            Self::Null
            | Self::Redact { .. }
            | Self::Constant { .. }
            | Self::Hash
            | Self::Email
            | Self::Phone
            | Self::Card
            | Self::Partial { .. }
            | Self::Year
            | Self::Truncate { .. }
            | Self::Round { .. }
            | Self::Bucket { .. }
            | Self::Sql { .. } => MaskSite::Source,
            Self::Result(_) => MaskSite::Result,
        }
    }

    /// Whether a mask of one's own can have this name.
    pub fn is_own_name(name: &str) -> bool {
        let plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_');
        (1..=OWN_NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(plain)
    }

    /// How much it hides: of several masks on one column the one with the smallest rank wins.
    pub fn strictness_rank(&self) -> u8 {
        match self {
            Self::Null => 0,
            Self::Redact { .. } => 1,
            Self::Constant { .. } => 2,
            Self::Result(ResultMask::Tokenize { .. }) => 3,
            Self::Hash => 4,
            Self::Result(ResultMask::Fpe { .. }) => 5,
            Self::Bucket { .. } => 6,
            Self::Round { .. } => 7,
            Self::Year => 8,
            Self::Truncate { .. } => 9,
            Self::Card => 10,
            Self::Phone => 11,
            Self::Partial { .. } => 12,
            Self::Email => 13,
            // What it does not find is shown.
            Self::Result(ResultMask::Scan { .. }) => 14,
            // Nor is known what it shows.
            Self::Sql { .. } => 15,
        }
    }

    /// Of two masks the stricter; between equals in kind, the one that keeps less. Two scans become one that looks for
    /// what either looks for.
    #[must_use]
    pub fn stricter(self, other: Self) -> Self {
        if let (
            Self::Result(ResultMask::Scan { detectors: ours }),
            Self::Result(ResultMask::Scan { detectors: theirs }),
        ) = (&self, &other)
        {
            return Self::Result(ResultMask::Scan { detectors: ours | theirs });
        }
        let key = |mask: &Self| {
            let kept = match mask {
                Self::Partial { first, last } => u64::from(*first) + u64::from(*last),
                Self::Bucket { size } | Self::Round { size } => u64::MAX - size,
                Self::Truncate { unit } => *unit as u64,
                Self::Result(mask) => mask.overlooked() as u64,
                Self::Null
                | Self::Redact { .. }
                | Self::Constant { .. }
                | Self::Hash
                | Self::Email
                | Self::Phone
                | Self::Card
                | Self::Year
                | Self::Sql { .. } => 0,
            };
            (mask.strictness_rank(), kept)
        };
        match key(&self).cmp(&key(&other)) {
            std::cmp::Ordering::Less => self,
            std::cmp::Ordering::Greater => other,
            std::cmp::Ordering::Equal => self.min(other),
        }
    }
}

impl fmt::Display for Mask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Redact { text: None } => f.write_str("redact"),
            Self::Redact { text: Some(text) } => write!(f, "redact({text})"),
            Self::Constant { value } => write!(f, "constant({value})"),
            Self::Phone => f.write_str("phone"),
            Self::Card => f.write_str("card"),
            Self::Truncate { unit } => write!(f, "truncate({})", unit.as_str()),
            Self::Round { size } => write!(f, "round({size})"),
            Self::Hash => f.write_str("hash"),
            Self::Email => f.write_str("email"),
            Self::Partial { first: 0, last } => write!(f, "partial(last={last})"),
            Self::Partial { first, last: 0 } => write!(f, "partial(first={first})"),
            Self::Partial { first, last } => write!(f, "partial(first={first}, last={last})"),
            Self::Year => f.write_str("year"),
            Self::Bucket { size } => write!(f, "bucket({size})"),
            Self::Sql { name } => write!(f, "sql({name})"),
            Self::Result(mask) => mask.fmt(f),
        }
    }
}

impl FromStr for Mask {
    type Err = MaskError;

    fn from_str(text: &str) -> Result<Self, MaskError> {
        let text = text.trim();
        let (name, parameters) = match text.split_once('(') {
            None => (text, None),
            Some((name, rest)) => match rest.strip_suffix(')') {
                Some(inner) => (name.trim(), Some(inner.trim())),
                None => return Err(wrong(text, "the parenthesis is not closed")),
            },
        };
        if let Some(read) = ResultMask::read(text, name, parameters) {
            return read.map(Self::Result);
        }
        match (name, parameters) {
            ("null", None) => Ok(Self::Null),
            ("redact", None) => Ok(Self::Redact { text: None }),
            ("redact", Some(shown)) => redact(text, shown),
            ("constant", Some(shown)) => match redact(text, shown) {
                Ok(_) => Ok(Self::Constant { value: shown.to_owned() }),
                Err(_) => {
                    Err(wrong(text, "constant takes 1 to 100 ASCII letters, digits, spaces or any of * # - _ . @ [ ]"))
                }
            },
            ("phone", None) => Ok(Self::Phone),
            ("card", None) => Ok(Self::Card),
            ("truncate", Some(given)) => match TimeUnit::ALL.iter().find(|unit| unit.as_str() == given) {
                Some(&unit) => Ok(Self::Truncate { unit }),
                None => {
                    Err(wrong(text, "truncate takes `quarter`, `month`, `day` or `hour`; for years there is `year`"))
                }
            },
            ("sql", Some(name)) if Self::is_own_name(name) => Ok(Self::Sql { name: name.to_owned() }),
            ("sql", _) => Err(wrong(
                text,
                "sql takes the name of a mask in settings.yaml, as in `sql(initials)`: 1 to 50 lower-case letters, digits, `-` and `_`",
            )),
            ("hash", None) => Ok(Self::Hash),
            ("email", None) => Ok(Self::Email),
            ("year", None) => Ok(Self::Year),
            ("partial", Some(given)) => partial(text, given),
            ("round", Some(given)) => match given.parse() {
                Ok(size) if (1..=1_000_000_000_000).contains(&size) => Ok(Self::Round { size }),
                _ => Err(wrong(text, "round needs a whole number from 1 to 1000000000000, as in `round(1000)`")),
            },
            ("bucket", Some(given)) => match given.parse() {
                Ok(size) if (1..=1_000_000_000_000).contains(&size) => Ok(Self::Bucket { size }),
                _ => Err(wrong(text, "bucket needs a whole number from 1 to 1000000000000, as in `bucket(1000)`")),
            },
            ("partial" | "bucket" | "round" | "truncate" | "constant", None) => {
                Err(wrong(text, "needs a parameter, as in `partial(last=4)`, `bucket(1000)` or `truncate(month)`"))
            }
            ("null" | "hash" | "email" | "year" | "phone" | "card", Some(_)) => Err(wrong(text, "takes no parameter")),
            _ => Err(MaskError::Unknown(name.to_owned())),
        }
    }
}

fn redact(text: &str, shown: &str) -> Result<Mask, MaskError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || " *#-_.@[]".contains(c);
    if shown.is_empty() || shown.chars().count() > REDACT_CHARS_MAX || !shown.chars().all(plain) {
        return Err(wrong(text, "redact takes 1 to 100 ASCII letters, digits, spaces or any of * # - _ . @ [ ]"));
    }
    Ok(Mask::Redact { text: Some(shown.to_owned()) })
}

fn partial(text: &str, given: &str) -> Result<Mask, MaskError> {
    const WANTED: &str = "partial takes `first=n`, `last=n` or both, each once, from 0 to 64 and not both 0";
    let (mut first, mut last) = (None, None);
    for part in given.split(',') {
        let (key, value) = part.split_once('=').ok_or_else(|| wrong(text, WANTED))?;
        let slot = match key.trim() {
            "first" => &mut first,
            "last" => &mut last,
            _ => return Err(wrong(text, WANTED)),
        };
        let value: u32 = value.trim().parse().map_err(|_| wrong(text, WANTED))?;
        if value > PARTIAL_KEEP_MAX || slot.replace(value).is_some() {
            return Err(wrong(text, WANTED));
        }
    }
    let (first, last) = (first.unwrap_or(0), last.unwrap_or(0));
    if first == 0 && last == 0 {
        return Err(wrong(text, WANTED));
    }
    Ok(Mask::Partial { first, last })
}

fn wrong(given: &str, wanted: &'static str) -> MaskError {
    MaskError::Parameters { given: given.to_owned(), wanted }
}

impl Serialize for Mask {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Mask {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::Mask;

    #[test]
    fn masks_read_back_as_written() {
        for text in [
            "null",
            "redact",
            "redact(*** hidden)",
            "constant(0)",
            "constant(n.a.)",
            "hash",
            "email",
            "phone",
            "card",
            "partial(last=4)",
            "partial(first=2, last=2)",
            "year",
            "truncate(month)",
            "round(50)",
            "bucket(1000)",
            "sql(first-letters_2)",
        ] {
            assert_eq!(text.parse::<Mask>().unwrap().to_string(), text);
        }
        assert_eq!("bucket(1000)".parse(), Ok(Mask::Bucket { size: 1000 }));
    }

    #[test]
    fn bad_masks_are_refused() {
        for text in [
            "",
            "Null",
            "null()",
            "partial",
            "partial()",
            "partial(last=0)",
            "partial(last=4, last=5)",
            "partial(4)",
            "partial(last=4",
            "bucket(0)",
            "bucket(-1)",
            "bucket(x)",
            "redact(it's)",
            "redact()",
            "email(x)",
            "zero",
            "constant",
            "constant(it's)",
            "truncate",
            "truncate(year)",
            "truncate(Month)",
            "round(0)",
            "round(1.5)",
            "card(4)",
            "phone()",
            "sql",
            "sql()",
            "sql(Initials)",
            "sql(a b)",
            "sql(UPPER({column}))",
        ] {
            assert!(text.parse::<Mask>().is_err(), "`{text}`");
        }
    }

    #[test]
    fn strictness_is_a_total_order() {
        let texts = [
            "null",
            "redact",
            "constant(0)",
            "tokenize(key=k)",
            "hash",
            "fpe(key=k)",
            "bucket(1000)",
            "bucket(10)",
            "round(1000)",
            "round(10)",
            "year",
            "truncate(quarter)",
            "truncate(month)",
            "truncate(day)",
            "truncate(hour)",
            "card",
            "phone",
            "partial(last=2)",
            "partial(last=4)",
            "email",
            "scan",
            "sql(a)",
            "sql(b)",
        ];
        let masks = texts.map(|text| text.parse::<Mask>().unwrap());
        for (at, strict) in masks.iter().enumerate() {
            for loose in masks.iter().skip(at) {
                assert_eq!(strict.clone().stricter(loose.clone()), *strict);
                assert_eq!(loose.clone().stricter(strict.clone()), *strict, "{strict} {loose}");
            }
        }
    }

    #[test]
    fn the_stricter_wins_whichever_comes_first() {
        for (strict, loose) in [("null", "redact"), ("redact", "email"), ("partial(last=2)", "partial(last=4)")] {
            let (strict, loose): (Mask, Mask) = (strict.parse().unwrap(), loose.parse().unwrap());
            assert_eq!(strict.clone().stricter(loose.clone()), strict);
            assert_eq!(loose.stricter(strict.clone()), strict);
        }
        let (wide, narrow): (Mask, Mask) = ("bucket(1000)".parse().unwrap(), "bucket(10)".parse().unwrap());
        assert_eq!(narrow.stricter(wide.clone()), wide);
    }
}
