//! Masks that the PEP applies to results: what needs a key that SQL must not hold, or content that SQL cannot look into.

use std::{collections::BTreeSet, fmt};

use super::{MaskError, wrong};

/// Longest name or id of a key, in bytes.
const KEY_BYTES_MAX: usize = 64;
/// Longest domain, in bytes.
const DOMAIN_BYTES_MAX: usize = 200;
/// Fewest digits of a number that is tokenised: below, distinct values would share tokens too often.
const TOKEN_DIGITS_MIN: u64 = 12;
/// Fewest digits of a number that is encrypted: NIST SP 800-38G revision 1 asks for a million values.
const FPE_DIGITS_MIN: u64 = 6;
/// Shortest text column that is tokenised, in characters.
const TOKEN_CHARS_MIN: u64 = 13;
/// Digits of a number whose type says none. Snowflake docs, "Numeric data types", read 2026-11.
const DIGITS_DEFAULT: u64 = 38;

/// A mask that the PEP applies.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResultMask {
    /// `tokenize(key=name)`, `tokenize(key=name, domain=word)`: a keyed token of the value, equal for equal values of one
    /// domain. Text of at least 13 characters, numbers of at least 12 digits.
    Tokenize {
        /// The name of the key, or `name@id` for one of that name's older keys.
        key: String,
        /// Columns of one domain share tokens, so that they join. `None`: the column alone.
        domain: Option<String>,
    },
    /// `fpe(key=name, alphabet=digits)`: format-preserving encryption, which whoever holds the key can undo. Text, and
    /// numbers of at least 6 digits.
    Fpe {
        /// As in [`ResultMask::Tokenize`].
        key: String,
        /// As in [`ResultMask::Tokenize`].
        domain: Option<String>,
        /// What characters of a text are encrypted; others stay.
        alphabet: Alphabet,
    },
    /// `scan` or `scan(card, email)`: replaces what it finds. Text and semi-structured columns.
    Scan {
        /// What is looked for, never nothing.
        detectors: BTreeSet<Detector>,
    },
}

/// An enum written as one word, with all its values listed once.
macro_rules! words {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name {
            $($(#[$doc])* $variant,)*
        }
        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];
            /// The word used in policies and on the wire.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }
            fn read(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|value| value.as_str() == text)
            }
        }
    };
}

words! {
    /// Characters that format-preserving encryption works on.
    Alphabet {
        /// `0-9`.
        Digits = "digits",
        /// `0-9a-z`.
        Lower = "lower",
        /// `0-9A-Z`.
        Upper = "upper",
        /// `0-9A-Za-z`.
        Alphanumeric = "alphanumeric",
    }
}

words! {
    /// What a scan looks for.
    Detector {
        /// Payment card numbers.
        Card = "card",
        /// E-mail addresses.
        Email = "email",
        /// Telephone numbers.
        Phone = "phone",
        /// International bank account numbers.
        Iban = "iban",
        /// National ids.
        NationalId = "national-id",
        /// Keys, tokens and passwords.
        Secret = "secret",
    }
}

impl ResultMask {
    /// Its name, without parameters.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Tokenize { .. } => "tokenize",
            Self::Fpe { .. } => "fpe",
            Self::Scan { .. } => "scan",
        }
    }

    /// Whether a column of this type can wear it. What a result says of its column is checked again when it comes.
    pub fn fits(&self, data_type: &str) -> bool {
        let upper = data_type.to_ascii_uppercase();
        let (base, parameters) = upper.split_once('(').unwrap_or((&upper, ""));
        let first = parameters.split([',', ')']).next().unwrap_or_default().trim().parse::<u64>().ok();
        let base = base.trim();
        let text = match base {
            "CHAR" | "CHARACTER" | "NCHAR" => Some(first.unwrap_or(1)),
            "TEXT" | "STRING" => Some(first.unwrap_or(u64::MAX)),
            _ if base.contains("CHAR") => Some(first.unwrap_or(u64::MAX)),
            _ => None,
        };
        let digits = match base {
            "NUMBER" | "DECIMAL" | "DEC" | "NUMERIC" | "FIXED" => Some(first.unwrap_or(DIGITS_DEFAULT)),
            "INT" | "INTEGER" | "BIGINT" | "SMALLINT" | "TINYINT" | "BYTEINT" => Some(DIGITS_DEFAULT),
            _ => None,
        };
        match self {
            Self::Tokenize { .. } => {
                text.is_some_and(|chars| chars >= TOKEN_CHARS_MIN)
                    || digits.is_some_and(|digits| digits >= TOKEN_DIGITS_MIN)
            }
            Self::Fpe { .. } => text.is_some() || digits.is_some_and(|digits| digits >= FPE_DIGITS_MIN),
            Self::Scan { .. } => text.is_some() || matches!(base, "VARIANT" | "OBJECT" | "ARRAY" | "MAP"),
        }
    }

    /// How many kinds of content it does not look for: fewer is stricter.
    pub(super) fn overlooked(&self) -> usize {
        match self {
            Self::Tokenize { .. } | Self::Fpe { .. } => 0,
            Self::Scan { detectors } => Detector::ALL.len() - detectors.len(),
        }
    }

    /// `None`: no mask of this module has this name.
    pub(super) fn read(text: &str, name: &str, parameters: Option<&str>) -> Option<Result<Self, MaskError>> {
        match name {
            "tokenize" => Some(tokenize(text, parameters)),
            "fpe" => Some(fpe(text, parameters)),
            "scan" => Some(scan(text, parameters)),
            _ => None,
        }
    }
}

impl fmt::Display for ResultMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domain =
            |domain: &Option<String>| domain.as_ref().map(|word| format!(", domain={word}")).unwrap_or_default();
        match self {
            Self::Tokenize { key, domain: of } => write!(f, "tokenize(key={key}{})", domain(of)),
            Self::Fpe { key, domain: of, alphabet } => {
                write!(f, "fpe(key={key}, alphabet={}{})", alphabet.as_str(), domain(of))
            }
            Self::Scan { detectors } if detectors.len() == Detector::ALL.len() => f.write_str("scan"),
            Self::Scan { detectors } => {
                let words: Vec<&str> = detectors.iter().map(|detector| detector.as_str()).collect();
                write!(f, "scan({})", words.join(", "))
            }
        }
    }
}

fn tokenize(text: &str, parameters: Option<&str>) -> Result<ResultMask, MaskError> {
    const WANTED: &str = "tokenize takes `key=name` or `key=name@id` and perhaps `domain=word`, as in `tokenize(key=crm, domain=customers)`";
    let [key, domain, _] = named(parameters, ["key", "domain", ""]).ok_or_else(|| wrong(text, WANTED))?;
    let key = key.filter(|key| is_key(key)).ok_or_else(|| wrong(text, WANTED))?;
    Ok(ResultMask::Tokenize { key, domain })
}

fn fpe(text: &str, parameters: Option<&str>) -> Result<ResultMask, MaskError> {
    const WANTED: &str = "fpe takes `key=name` or `key=name@id`, perhaps `alphabet=` digits, lower, upper or alphanumeric, and perhaps `domain=word`";
    let [key, domain, alphabet] =
        named(parameters, ["key", "domain", "alphabet"]).ok_or_else(|| wrong(text, WANTED))?;
    let key = key.filter(|key| is_key(key)).ok_or_else(|| wrong(text, WANTED))?;
    let alphabet = alphabet.as_deref().map_or(Some(Alphabet::Digits), Alphabet::read);
    Ok(ResultMask::Fpe { key, domain, alphabet: alphabet.ok_or_else(|| wrong(text, WANTED))? })
}

fn scan(text: &str, parameters: Option<&str>) -> Result<ResultMask, MaskError> {
    const WANTED: &str =
        "scan stands alone or takes any of card, email, phone, iban, national-id and secret, each once";
    let Some(given) = parameters else {
        return Ok(ResultMask::Scan { detectors: Detector::ALL.iter().copied().collect() });
    };
    let mut detectors = BTreeSet::new();
    for word in given.split(',') {
        let detector = Detector::read(word.trim()).ok_or_else(|| wrong(text, WANTED))?;
        if !detectors.insert(detector) {
            return Err(wrong(text, WANTED));
        }
    }
    Ok(ResultMask::Scan { detectors })
}

/// Parameters by name, each at most once; `None` when there is another, or a value that is no word.
fn named<const N: usize>(parameters: Option<&str>, names: [&str; N]) -> Option<[Option<String>; N]> {
    let mut found = [const { None }; N];
    for part in parameters?.split(',') {
        let (name, value) = part.split_once('=')?;
        let (name, value) = (name.trim(), value.trim());
        let at = names.iter().position(|known| *known == name && !name.is_empty())?;
        let slot: &mut Option<String> = found.get_mut(at)?;
        if !is_word(value) || slot.replace(value.to_owned()).is_some() {
            return None;
        }
    }
    Some(found)
}

fn is_word(text: &str) -> bool {
    (1..=DOMAIN_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.@".contains(&byte))
}

/// A name, or a name and an id.
fn is_key(text: &str) -> bool {
    let name = |part: &str| (1..=KEY_BYTES_MAX).contains(&part.len()) && !part.contains('@');
    match text.split_once('@') {
        None => name(text),
        Some((key, id)) => name(key) && name(id),
    }
}

#[cfg(test)]
mod tests {
    use crate::{Mask, MaskSite};

    #[test]
    fn they_read_back_as_written() {
        for text in [
            "tokenize(key=crm)",
            "tokenize(key=crm@2025-11, domain=customers.name)",
            "fpe(key=crm, alphabet=digits)",
            "fpe(key=crm, alphabet=alphanumeric, domain=card)",
            "scan",
            "scan(card, iban)",
        ] {
            let mask: Mask = text.parse().unwrap();
            assert_eq!((mask.to_string().as_str(), mask.site()), (text, MaskSite::Result));
        }
        assert_eq!("fpe( key = crm )".parse::<Mask>().unwrap().to_string(), "fpe(key=crm, alphabet=digits)");
        assert_eq!("scan(secret,card)".parse::<Mask>().unwrap().to_string(), "scan(card, secret)");
        let all = "scan(card, email, phone, iban, national-id, secret)";
        assert_eq!(all.parse::<Mask>().unwrap().to_string(), "scan");
    }

    #[test]
    fn wrong_parameters_are_refused() {
        for text in [
            "tokenize",
            "tokenize()",
            "tokenize(crm)",
            "tokenize(domain=x)",
            "tokenize(key=)",
            "tokenize(key=a, key=b)",
            "tokenize(key=a, salt=b)",
            "tokenize(key=a@b@c)",
            "tokenize(key=a@)",
            "tokenize(key=a b)",
            "tokenize(key=a, domain=x'y)",
            "tokenize(key=a, alphabet=digits)",
            "fpe",
            "fpe(key=a, alphabet=binary)",
            "fpe(alphabet=digits)",
            "scan()",
            "scan(card, card)",
            "scan(cards)",
            "scan(key=a)",
            "Scan",
        ] {
            assert!(text.parse::<Mask>().is_err(), "`{text}`");
        }
    }

    #[test]
    fn each_fits_the_types_it_can_keep() {
        for (mask, fitting, others) in [
            (
                "tokenize(key=k)",
                &["VARCHAR", "VARCHAR(13)", "TEXT", "NUMBER", "NUMBER(12,2)", "INTEGER", "number(38,0)"][..],
                &["VARCHAR(12)", "CHAR", "NUMBER(11,0)", "FLOAT", "DATE", "VARIANT", "BOOLEAN"][..],
            ),
            (
                "fpe(key=k)",
                &["VARCHAR(9)", "CHAR(6)", "NUMBER(6,0)", "BIGINT"],
                &["NUMBER(5,0)", "DOUBLE", "TIMESTAMP_NTZ(9)", "OBJECT"],
            ),
            ("scan", &["STRING", "VARIANT", "ARRAY", "OBJECT"], &["NUMBER", "DATE", "BINARY"]),
        ] {
            let Mask::Result(mask) = mask.parse().unwrap() else { panic!("{mask} is applied to results") };
            for data_type in fitting {
                assert!(mask.fits(data_type), "{mask} {data_type}");
            }
            for data_type in others {
                assert!(!mask.fits(data_type), "{mask} {data_type}");
            }
        }
    }

    #[test]
    fn two_scans_look_for_what_both_look_for() {
        let [cards, mails]: [Mask; 2] = ["scan(card)", "scan(email)"].map(|text| text.parse().unwrap());
        assert_eq!(cards.clone().stricter(mails.clone()).to_string(), "scan(card, email)");
        assert_eq!(mails.stricter(cards).to_string(), "scan(card, email)");
    }
}
