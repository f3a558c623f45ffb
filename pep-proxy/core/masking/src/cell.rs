//! One cell: a mask made ready for a column of one type.

use std::{fmt::Write, sync::Arc};

use crate::{
    Alphabet, Key, MaskingError, Scanner,
    fpe::{Encryptor, Unfit},
    scan::REDACTED,
    token::Tokenizer,
};

/// What an unencryptable text becomes.
const UNENCRYPTED: &str = "***";

#[derive(Debug)]
pub(crate) enum CellMask {
    Text { how: TextMask, chars_max: Option<u32> },
    Number { how: NumberMask, precision: u8, scale: u8 },
    Document(Arc<Scanner>),
}

#[derive(Debug)]
pub(crate) enum TextMask {
    Token(Box<Tokenizer>),
    Fpe(Box<Encryptor>),
    Scan(Arc<Scanner>),
}

#[derive(Debug)]
pub(crate) enum NumberMask {
    Token(Box<Tokenizer>),
    Fpe(Box<Encryptor>),
}

impl CellMask {
    pub(crate) fn token_text(key: &Key, domain: &str, chars_max: Option<u32>) -> Self {
        Self::Text { how: TextMask::Token(Box::new(Tokenizer::new(key, domain))), chars_max }
    }

    pub(crate) fn token_number(key: &Key, domain: &str, precision: u8, scale: u8) -> Self {
        Self::Number { how: NumberMask::Token(Box::new(Tokenizer::new(key, domain))), precision, scale }
    }

    pub(crate) fn fpe_text(
        key: &Key,
        domain: &str,
        alphabet: Alphabet,
        chars_max: Option<u32>,
    ) -> Result<Self, &'static str> {
        Ok(Self::Text { how: TextMask::Fpe(Box::new(encryptor(key, domain, alphabet)?)), chars_max })
    }

    pub(crate) fn fpe_number(key: &Key, domain: &str, precision: u8, scale: u8) -> Result<Self, &'static str> {
        Ok(Self::Number { how: NumberMask::Fpe(Box::new(encryptor(key, domain, Alphabet::Digits)?)), precision, scale })
    }

    pub(crate) fn scan_text(scanner: Arc<Scanner>, chars_max: Option<u32>) -> Self {
        Self::Text { how: TextMask::Scan(scanner), chars_max }
    }

    pub(crate) fn scan_document(scanner: Arc<Scanner>) -> Self {
        Self::Document(scanner)
    }

    /// Appends what a cell of text becomes; a number's text is its decimal digits.
    pub(crate) fn text(&self, cell: &str, out: &mut String) -> Result<(), MaskingError> {
        match self {
            Self::Text { how, chars_max } => how.apply(cell, *chars_max, out),
            Self::Document(scanner) => scanner.redact_document(cell, out),
            Self::Number { how, precision, scale } => {
                let mut number =
                    parse_decimal(cell, *scale).ok_or(MaskingError::Foreign("a number's text is not one"))?;
                how.apply(vec![&mut number], *precision)?;
                print_decimal(number, *scale, out);
            }
        }
        Ok(())
    }

    /// Appends what a cell over the limit becomes.
    pub(crate) fn text_over_limit(&self, out: &mut String) -> Result<(), MaskingError> {
        match self {
            Self::Text { chars_max, .. } => push_cut(REDACTED, *chars_max, out),
            Self::Document(_) => out.extend(['"'].into_iter().chain(REDACTED.chars()).chain(['"'])),
            Self::Number { .. } => return Err(MaskingError::Foreign("a number's text is too long")),
        }
        Ok(())
    }
}

fn encryptor(key: &Key, domain: &str, alphabet: Alphabet) -> Result<Encryptor, &'static str> {
    Encryptor::new(key, domain, alphabet).map_err(|_| "the cipher takes no such alphabet")
}

impl TextMask {
    fn apply(&self, cell: &str, chars_max: Option<u32>, out: &mut String) {
        match self {
            Self::Token(tokenizer) => {
                tokenizer.texts([cell], chars_max, |token| out.extend(token.iter().copied().map(char::from)));
            }
            Self::Fpe(encryptor) => encryptor.encrypt_texts([cell], |done| match done {
                Ok(encrypted) => out.extend(encrypted.iter().copied().map(char::from)),
                Err(Unfit) => push_cut(UNENCRYPTED, chars_max, out),
            }),
            Self::Scan(scanner) => {
                let start = out.len();
                scanner.redact(cell, out);
                if chars_max.is_some_and(|most| out.len() - start > most as usize && longer(out, start, most)) {
                    out.truncate(start);
                    push_cut(REDACTED, chars_max, out);
                }
            }
        }
    }
}

/// Whether what stands in `out` from `start` has more characters than `most`.
fn longer(out: &str, start: usize, most: u32) -> bool {
    out.get(start..).is_none_or(|appended| appended.chars().nth(most as usize).is_some())
}

fn push_cut(text: &str, chars_max: Option<u32>, out: &mut String) {
    out.extend(text.chars().take(chars_max.map_or(usize::MAX, |most| most as usize)));
}

/// What a text becomes that cannot be encrypted.
pub(crate) fn unencrypted(chars_max: Option<u32>) -> String {
    let mut text = String::new();
    push_cut(UNENCRYPTED, chars_max, &mut text);
    text
}

impl NumberMask {
    /// Of unscaled numbers of at most `precision` digits, others.
    pub(crate) fn apply(&self, numbers: Vec<&mut i128>, precision: u8) -> Result<(), MaskingError> {
        let modulus = 10_u128.checked_pow(u32::from(precision)).unwrap_or(u128::MAX);
        if numbers.iter().any(|number| number.unsigned_abs() >= modulus) {
            return Err(MaskingError::Foreign("a number has more digits than its column"));
        }
        match self {
            Self::Token(tokenizer) => tokenizer.numbers(numbers, modulus),
            Self::Fpe(encryptor) => encryptor
                .encrypt_numbers(numbers, precision)
                .map_err(|_| MaskingError::Foreign("a number cannot be encrypted"))?,
        }
        Ok(())
    }
}

/// `-12.50` at scale 2 is -1250. Strict: no sign but minus, no exponent, no blank, no more digits after the point than the scale.
fn parse_decimal(text: &str, scale: u8) -> Option<i128> {
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (whole, fraction) = digits.split_once('.').map_or((digits, None), |(whole, part)| (whole, Some(part)));
    let missing = usize::from(scale).checked_sub(fraction.unwrap_or_default().len())?;
    if whole.is_empty() && fraction.is_none_or(str::is_empty) {
        return None;
    }
    let mut value = 0_i128;
    let digits = whole.bytes().chain(fraction.unwrap_or_default().bytes());
    for byte in digits.chain(std::iter::repeat_n(b'0', missing)) {
        let digit = byte.is_ascii_digit().then(|| i128::from(byte - b'0'))?;
        value = value.checked_mul(10)?.checked_add(digit)?;
    }
    Some(if negative { -value } else { value })
}

fn print_decimal(number: i128, scale: u8, out: &mut String) {
    let sign = if number < 0 { "-" } else { "" };
    let (scale, unit) = (usize::from(scale), 10_u128.checked_pow(u32::from(scale)).unwrap_or(u128::MAX));
    let (whole, fraction) = (number.unsigned_abs() / unit, number.unsigned_abs() % unit);
    // Writing to a string does not fail.
    let _ = write!(out, "{sign}{whole}");
    if scale > 0 {
        let _ = write!(out, ".{fraction:0scale$}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_read_strictly_and_printed_at_their_scale() {
        for (text, scale, wanted) in [
            ("0", 0, Some(0)),
            ("-12.50", 2, Some(-1250)),
            ("12.5", 2, Some(1250)),
            (".5", 1, Some(5)),
            ("12", 3, Some(12_000)),
            ("99999999999999999999999999999999999999", 0, Some(10_i128.pow(38) - 1)),
            ("12.505", 2, None),
            ("", 0, None),
            ("-", 0, None),
            (".", 0, None),
            ("+1", 0, None),
            ("1e3", 0, None),
            (" 1", 0, None),
            ("1.", 0, Some(1)),
            ("٣", 0, None),
            ("9999999999999999999999999999999999999999999", 0, None),
        ] {
            assert_eq!(parse_decimal(text, scale), wanted, "{text} at {scale}");
        }
        for (number, scale, wanted) in
            [(0, 0, "0"), (-1250, 2, "-12.50"), (5, 3, "0.005"), (-5, 1, "-0.5"), (7, 0, "7")]
        {
            let mut out = String::new();
            print_decimal(number, scale, &mut out);
            assert_eq!(out, wanted);
        }
    }
}
