//! Format-preserving encryption: a value of the same shape, which the key's holder can turn back.
//!
//! FF1 of NIST SP 800-38G with AES-256, by the `fpe` crate. The draft of its revision 1 asks for at least a million possible
//! values: 6 digits, or 4 characters of the other alphabets. What is shorter, or holds characters that are neither of the alphabet
//! nor separators, is not encrypted, and is redacted whole by the mask.

mod cipher;
mod numerals;

use std::fmt;

use fpe::ff1::{FF1, FlexibleNumeralString, NumeralString, NumeralStringError};
use serde::{Deserialize, Serialize};

use self::{cipher::Shared, numerals::Numerals};
use crate::{Key, key::KEY_BYTES};

/// Most characters of one value that are encrypted: the cost grows with the square.
pub const NUMERALS_MAX: usize = 256;

/// What the characters of a text are drawn from. ASCII punctuation and blanks between them stay where they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Alphabet {
    /// `0-9`.
    Digits,
    /// `0-9a-z`.
    Lower,
    /// `0-9A-Z`.
    Upper,
    /// `0-9A-Za-z`.
    Alphanumeric,
}

impl Alphabet {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Digits, Self::Lower, Self::Upper, Self::Alphanumeric];

    /// Its name in policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Digits => "digits",
            Self::Lower => "lower",
            Self::Upper => "upper",
            Self::Alphanumeric => "alphanumeric",
        }
    }

    /// The alphabet of this name.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|alphabet| alphabet.as_str() == text)
    }

    fn radix(self) -> u8 {
        match self {
            Self::Digits => 10,
            Self::Lower | Self::Upper => 36,
            Self::Alphanumeric => 62,
        }
    }

    /// The value of a character, if it is one of these.
    fn numeral(self, character: char) -> Option<u8> {
        let byte = u8::try_from(character).ok()?;
        match (self, byte) {
            (_, b'0'..=b'9') => Some(byte - b'0'),
            (Self::Upper | Self::Alphanumeric, b'A'..=b'Z') => Some(byte - b'A' + 10),
            (Self::Lower, b'a'..=b'z') => Some(byte - b'a' + 10),
            (Self::Alphanumeric, b'a'..=b'z') => Some(byte - b'a' + 36),
            _ => None,
        }
    }

    /// The character of a value below the radix.
    fn character(self, numeral: u8) -> char {
        char::from(match (self, numeral) {
            (_, 0..10) => b'0' + numeral,
            (Self::Lower, _) => b'a' + (numeral - 10) % 26,
            (_, 10..36) => b'A' + (numeral - 10),
            (_, 36..) => b'a' + (numeral - 36) % 26,
        })
    }
}

/// The value cannot be encrypted: too short, too long, or not of the alphabet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfit;

#[derive(Debug, Clone, Copy)]
enum Direction {
    Encrypt,
    Decrypt,
}

/// Encrypts the values of one domain, and decrypts them.
pub struct Encryptor {
    ff1: FF1<Shared>,
    alphabet: Alphabet,
    tweak: Vec<u8>,
}

impl fmt::Debug for Encryptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encryptor({:?})", self.alphabet)
    }
}

impl Encryptor {
    /// Encryption of this domain under this key. Numbers take [`Alphabet::Digits`].
    ///
    /// # Errors
    ///
    /// None for the alphabets there are; the cipher's own check is passed on.
    pub fn new(key: &Key, domain: &str, alphabet: Alphabet) -> Result<Self, Unfit> {
        Self::from_raw(&key.derive("fpe"), domain.as_bytes(), alphabet)
    }

    fn from_raw(key: &[u8; KEY_BYTES], tweak: &[u8], alphabet: Alphabet) -> Result<Self, Unfit> {
        let ff1 = FF1::new(key, u32::from(alphabet.radix())).map_err(|_| Unfit)?;
        Ok(Self { ff1, alphabet, tweak: tweak.to_vec() })
    }

    /// Appends the encrypted text: as long, separators in place.
    ///
    /// # Errors
    ///
    /// The text cannot be encrypted; nothing was appended.
    pub fn encrypt_text(&self, text: &str, out: &mut String) -> Result<(), Unfit> {
        self.text(Direction::Encrypt, text, out)
    }

    /// The opposite of [`encrypt_text`](Self::encrypt_text).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn decrypt_text(&self, text: &str, out: &mut String) -> Result<(), Unfit> {
        self.text(Direction::Decrypt, text, out)
    }

    /// The encrypted number of at most `digits` digits; its sign stays.
    ///
    /// # Errors
    ///
    /// Fewer than 6 or more than 38 digits, or a number that has more.
    pub fn encrypt_number(&self, number: i128, digits: u8) -> Result<i128, Unfit> {
        self.number(Direction::Encrypt, number, digits)
    }

    /// The opposite of [`encrypt_number`](Self::encrypt_number).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn decrypt_number(&self, number: i128, digits: u8) -> Result<i128, Unfit> {
        self.number(Direction::Decrypt, number, digits)
    }

    fn text(&self, direction: Direction, text: &str, out: &mut String) -> Result<(), Unfit> {
        let mut numerals = [0; NUMERALS_MAX];
        let mut count = 0;
        for character in text.chars() {
            if let Some(numeral) = self.alphabet.numeral(character) {
                *numerals.get_mut(count).ok_or(Unfit)? = numeral;
                count += 1;
            } else if !(character == ' ' || character.is_ascii_punctuation()) {
                return Err(Unfit);
            }
        }
        let numerals = numerals.get_mut(..count).ok_or(Unfit)?;
        self.apply(direction, numerals)?;
        let mut numerals = numerals.iter();
        for character in text.chars() {
            out.push(match self.alphabet.numeral(character) {
                None => character,
                Some(_) => self.alphabet.character(*numerals.next().ok_or(Unfit)?),
            });
        }
        Ok(())
    }

    fn number(&self, direction: Direction, number: i128, digits: u8) -> Result<i128, Unfit> {
        let mut magnitude = number.unsigned_abs();
        // A negative number must not become zero, which has no sign to come back from. Going on from zero is a bijection of
        // the others (cycle walking); zero is at most once in a cycle, so the second round is the last.
        for _ in 0..2 {
            magnitude = self.magnitude(direction, magnitude, digits)?;
            if number >= 0 || magnitude != 0 {
                break;
            }
        }
        let magnitude = i128::try_from(magnitude).map_err(|_| Unfit)?;
        Ok(if number < 0 { -magnitude } else { magnitude })
    }

    fn magnitude(&self, direction: Direction, magnitude: u128, digits: u8) -> Result<u128, Unfit> {
        let mut numerals = [0; 38];
        let numerals = numerals.get_mut(..usize::from(digits)).ok_or(Unfit)?;
        let mut rest = magnitude;
        for numeral in numerals.iter_mut().rev() {
            *numeral = u8::try_from(rest % 10).map_err(|_| Unfit)?;
            rest /= 10;
        }
        if rest != 0 || self.alphabet != Alphabet::Digits {
            return Err(Unfit);
        }
        self.apply(direction, numerals)?;
        Ok(numerals.iter().fold(0, |whole, numeral| whole * 10 + u128::from(*numeral)))
    }

    fn apply(&self, direction: Direction, numerals: &mut [u8]) -> Result<(), Unfit> {
        if let Some(short) = Numerals::read(numerals, self.alphabet.radix()) {
            self.run(direction, &short).map_err(|_| Unfit)?.write(numerals);
            return Ok(());
        }
        let long = FlexibleNumeralString::from(numerals.iter().map(|numeral| u16::from(*numeral)).collect::<Vec<_>>());
        let done: Vec<u16> = self.run(direction, &long).map_err(|_| Unfit)?.into();
        for (into, numeral) in numerals.iter_mut().zip(done) {
            *into = u8::try_from(numeral).map_err(|_| Unfit)?;
        }
        Ok(())
    }

    fn run<N: NumeralString>(&self, direction: Direction, numerals: &N) -> Result<N, NumeralStringError> {
        match direction {
            Direction::Encrypt => self.ff1.encrypt(&self.tweak, numerals),
            Direction::Decrypt => self.ff1.decrypt(&self.tweak, numerals),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The key of NIST's FF1 samples 7 to 9.
    const NIST_KEY: [u8; KEY_BYTES] = [
        0x2B, 0x7E, 0x15, 0x16, 0x28, 0xAE, 0xD2, 0xA6, 0xAB, 0xF7, 0x15, 0x88, 0x09, 0xCF, 0x4F, 0x3C, 0xEF, 0x43,
        0x59, 0xD8, 0xD5, 0x80, 0xAA, 0x4F, 0x7F, 0x03, 0x6D, 0x6F, 0x04, 0xFC, 0x6A, 0x94,
    ];

    /// NIST, "Block Cipher Modes of Operation, FF1 samples", AES-256: samples 7, 8 and 9.
    #[test]
    fn nist_vectors() {
        for (alphabet, tweak, plain, encrypted) in [
            (Alphabet::Digits, &[][..], "0123456789", "6657667009"),
            (
                Alphabet::Digits,
                &[0x39, 0x38, 0x37, 0x36, 0x35, 0x34, 0x33, 0x32, 0x31, 0x30],
                "0123456789",
                "1001623463",
            ),
            (
                Alphabet::Lower,
                &[0x37, 0x37, 0x37, 0x37, 0x70, 0x71, 0x72, 0x73, 0x37, 0x37, 0x37],
                "0123456789abcdefghi",
                "xs8a0azh2avyalyzuwd",
            ),
        ] {
            let encryptor = Encryptor::from_raw(&NIST_KEY, tweak, alphabet).unwrap();
            let (mut there, mut back) = (String::new(), String::new());
            encryptor.encrypt_text(plain, &mut there).unwrap();
            encryptor.decrypt_text(&there, &mut back).unwrap();
            assert_eq!((there.as_str(), back.as_str()), (encrypted, plain));
        }
    }

    #[test]
    fn separators_stay_and_what_does_not_fit_is_refused() {
        let encryptor = Encryptor::from_raw(&NIST_KEY, b"t", Alphabet::Digits).unwrap();
        let mut out = String::new();
        encryptor.encrypt_text("+49 (170) 123-4567", &mut out).unwrap();
        let shape: String = out.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
        assert_eq!(shape, "+99 (999) 999-9999");
        for unfit in ["", "12345", "1-2-3-4-5", "123456 Ada", "１２３４５６７", "123\n456", &"1".repeat(257)] {
            assert_eq!(encryptor.encrypt_text(unfit, &mut String::new()), Err(Unfit), "{unfit}");
        }
        assert_eq!(encryptor.encrypt_number(1_000_000, 6), Err(Unfit));
        assert_eq!(encryptor.encrypt_number(1, 5), Err(Unfit));
        assert_eq!(encryptor.encrypt_number(1, 39), Err(Unfit));
        let letters = Encryptor::from_raw(&NIST_KEY, b"t", Alphabet::Alphanumeric).unwrap();
        assert_eq!(letters.encrypt_text("aB3", &mut String::new()), Err(Unfit));
        letters.encrypt_text("aB3z", &mut String::new()).unwrap();
    }

    /// Every number of six digits becomes another one, and none twice: it is a permutation, with the sign kept.
    #[test]
    fn negative_numbers_stay_negative() {
        let encryptor = Encryptor::from_raw(&NIST_KEY, b"t", Alphabet::Digits).unwrap();
        let to_zero = encryptor.decrypt_number(0, 6).unwrap();
        assert_ne!(to_zero, 0, "pick another tweak: this one maps zero to itself");
        for number in [-to_zero, -1, -999_999] {
            let there = encryptor.encrypt_number(number, 6).unwrap();
            assert!(there < 0, "{number} became {there}");
            assert_eq!(encryptor.decrypt_number(there, 6).unwrap(), number);
        }
    }

    fn alphabet() -> impl Strategy<Value = Alphabet> {
        prop_oneof![Just(Alphabet::Digits), Just(Alphabet::Lower), Just(Alphabet::Upper), Just(Alphabet::Alphanumeric)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn decryption_comes_back_and_the_quick_way_is_the_long_way(
            alphabet in alphabet(), numerals in prop::collection::vec(0_u8..62, 6..80), tweak in "[a-z.]{0,40}",
        ) {
            let numerals: Vec<u8> = numerals.into_iter().map(|numeral| numeral % alphabet.radix()).collect();
            let encryptor = Encryptor::from_raw(&NIST_KEY, tweak.as_bytes(), alphabet).unwrap();
            let mut there = numerals.clone();
            encryptor.apply(Direction::Encrypt, &mut there).unwrap();

            let long = FlexibleNumeralString::from(numerals.iter().map(|n| u16::from(*n)).collect::<Vec<_>>());
            let long: Vec<u16> = encryptor.ff1.encrypt(tweak.as_bytes(), &long).unwrap().into();
            prop_assert_eq!(there.iter().map(|n| u16::from(*n)).collect::<Vec<_>>(), long);

            encryptor.apply(Direction::Decrypt, &mut there).unwrap();
            prop_assert_eq!(there, numerals);
        }

        #[test]
        fn numbers_come_back(digits in 6_u8..=38, seed in any::<i128>()) {
            let number = seed % 10_i128.pow(u32::from(digits));
            let encryptor = Encryptor::from_raw(&NIST_KEY, b"t", Alphabet::Digits).unwrap();
            let there = encryptor.encrypt_number(number, digits).unwrap();
            prop_assert!(there.unsigned_abs() < 10_u128.pow(u32::from(digits)));
            prop_assert_eq!(encryptor.decrypt_number(there, digits).unwrap(), number);
        }
    }
}
