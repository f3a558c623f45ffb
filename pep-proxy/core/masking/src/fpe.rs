//! Format-preserving encryption: a value of the same shape, which the key's holder can turn back.
//!
//! FF1 of NIST SP 800-38G with AES-256: of values of the length a cell usually has here, many at a time ([`ff1`]), of longer ones
//! by the `fpe` crate, which the tests hold ours against. The draft of the standard's revision 1 asks for at least a million
//! possible values: 6 digits, or 4 characters of the other alphabets. What is shorter, or holds characters that are neither of the
//! alphabet nor separators, is not encrypted, and is redacted whole by the mask.

mod ff1;

use std::fmt;

use aes::Aes256Enc;
use fpe::ff1::{FF1, FlexibleNumeralString};
use serde::{Deserialize, Serialize};

use self::ff1::{BATCH, Ff1, Halves};
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
        u8::try_from(self.characters().len()).unwrap_or(u8::MAX)
    }

    /// Its characters, in order of their values.
    fn characters(self) -> &'static [u8] {
        const LOWER: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
        const ALL: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
        match self {
            Self::Digits => ALL.get(..10).unwrap_or_default(),
            Self::Lower => LOWER,
            Self::Upper => ALL.get(..36).unwrap_or_default(),
            Self::Alphanumeric => ALL,
        }
    }
}

/// What a byte of a text is, other than a numeral.
const SEPARATOR: u8 = 0xfe;
const FOREIGN: u8 = 0xff;

/// The value cannot be encrypted: too short, too long, or not of the alphabet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unfit;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Encrypt,
    Decrypt,
}

/// Encrypts the values of one domain, and decrypts them.
pub struct Encryptor {
    short: Ff1,
    long: FF1<Aes256Enc>,
    characters: &'static [u8],
    /// Of each byte the value, or [`SEPARATOR`] or [`FOREIGN`].
    values: [u8; 256],
    tweak: Vec<u8>,
}

/// A text on its way through a batch.
enum Fit {
    /// The next one of the short values.
    Short,
    Long(Vec<u16>),
    Not,
}

impl fmt::Debug for Encryptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Encryptor(radix {})", self.characters.len())
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
        let long = FF1::new(key, u32::from(alphabet.radix())).map_err(|_| Unfit)?;
        let short = Ff1::new(key, tweak, alphabet.radix());
        let mut values = [FOREIGN; 256];
        for (byte, value) in (0..=u8::MAX).zip(&mut values) {
            if byte == b' ' || byte.is_ascii_punctuation() {
                *value = SEPARATOR;
            }
        }
        for (character, number) in alphabet.characters().iter().zip(0..) {
            values.get_mut(usize::from(*character)).into_iter().for_each(|value| *value = number);
        }
        Ok(Self { short, long, characters: alphabet.characters(), values, tweak: tweak.to_vec() })
    }

    /// The encrypted text of each, in order: as long, separators in place.
    pub fn encrypt_texts<'a>(&self, texts: impl IntoIterator<Item = &'a str>, each: impl FnMut(Result<&[u8], Unfit>)) {
        self.texts(Direction::Encrypt, texts, each);
    }

    /// The opposite of [`encrypt_texts`](Self::encrypt_texts).
    pub fn decrypt_texts<'a>(&self, texts: impl IntoIterator<Item = &'a str>, each: impl FnMut(Result<&[u8], Unfit>)) {
        self.texts(Direction::Decrypt, texts, each);
    }

    /// Each number of at most `digits` digits becomes another one; its sign stays.
    ///
    /// # Errors
    ///
    /// Fewer than 6 or more than 38 digits, or a number that has more; then they are of no use.
    pub fn encrypt_numbers(&self, numbers: Vec<&mut i128>, digits: u8) -> Result<(), Unfit> {
        self.numbers(Direction::Encrypt, numbers, digits)
    }

    /// The opposite of [`encrypt_numbers`](Self::encrypt_numbers).
    ///
    /// # Errors
    ///
    /// As there.
    pub fn decrypt_numbers(&self, numbers: Vec<&mut i128>, digits: u8) -> Result<(), Unfit> {
        self.numbers(Direction::Decrypt, numbers, digits)
    }

    fn texts<'a>(
        &self,
        direction: Direction,
        texts: impl IntoIterator<Item = &'a str>,
        mut each: impl FnMut(Result<&[u8], Unfit>),
    ) {
        let mut texts = texts.into_iter();
        let (mut batch, mut values, mut out) = (Vec::with_capacity(BATCH), Vec::with_capacity(BATCH), Vec::new());
        loop {
            batch.clear();
            values.clear();
            batch.extend(texts.by_ref().take(BATCH).map(|text| (text, self.fit(direction, text, &mut values))));
            if batch.is_empty() {
                return;
            }
            self.short.apply(direction, &mut values);
            let mut values = values.iter();
            for (text, fit) in &batch {
                out.clear();
                out.extend_from_slice(text.as_bytes());
                let done = match fit {
                    Fit::Short => values.next().is_some_and(|value| self.write(*value, &mut out)),
                    Fit::Long(numerals) => self.write_long(numerals, &mut out),
                    Fit::Not => false,
                };
                each(if done { Ok(&out) } else { Err(Unfit) });
            }
        }
    }

    /// Reads a text: a short one's halves go to `values`.
    fn fit(&self, direction: Direction, text: &str, values: &mut Vec<Halves>) -> Fit {
        let (mut numerals, mut count) = ([0; NUMERALS_MAX], 0);
        for byte in text.bytes() {
            match self.value(byte) {
                FOREIGN => return Fit::Not,
                SEPARATOR => {}
                value => {
                    let Some(place) = numerals.get_mut(count) else { return Fit::Not };
                    *place = value;
                    count += 1;
                }
            }
        }
        let numerals = numerals.get(..count).unwrap_or_default();
        let Some((length, front)) = self.short.length(count) else {
            let long = FlexibleNumeralString::from(numerals.iter().map(|value| u16::from(*value)).collect::<Vec<_>>());
            let done = match direction {
                Direction::Encrypt => self.long.encrypt(&self.tweak, &long),
                Direction::Decrypt => self.long.decrypt(&self.tweak, &long),
            };
            return done.map_or(Fit::Not, |done| Fit::Long(done.into()));
        };
        let (front, back) = numerals.split_at_checked(front).unwrap_or_default();
        match self.short.halves(length, self.half(front), self.half(back)) {
            Some(halves) => {
                values.push(halves);
                Fit::Short
            }
            None => Fit::Not,
        }
    }

    fn value(&self, byte: u8) -> u8 {
        self.values.get(usize::from(byte)).copied().unwrap_or(FOREIGN)
    }

    /// The number that a half's numerals make; it fits, as the length said.
    fn half(&self, numerals: &[u8]) -> u64 {
        let radix = self.characters.len() as u64;
        numerals.iter().fold(0, |number, numeral| number * radix + u64::from(*numeral))
    }

    /// Writes a short value over the numerals of its text, from the last to the first.
    fn write(&self, value: Halves, text: &mut [u8]) -> bool {
        let places = text.iter_mut().rev().filter(|byte| self.value(**byte) != SEPARATOR);
        let (front, back) = self.short.numerals(value);
        // The compiler divides by what it knows: most of what a value would cost otherwise.
        match self.characters.len() {
            10 => overwrite::<10>(self.characters, [(value.back, back), (value.front, front)], places),
            36 => overwrite::<36>(self.characters, [(value.back, back), (value.front, front)], places),
            62 => overwrite::<62>(self.characters, [(value.back, back), (value.front, front)], places),
            _ => false,
        }
    }

    fn write_long(&self, numerals: &[u16], text: &mut [u8]) -> bool {
        let mut places = text.iter_mut().filter(|byte| self.value(**byte) != SEPARATOR);
        numerals.iter().all(|numeral| match (places.next(), self.characters.get(usize::from(*numeral))) {
            (Some(place), Some(character)) => {
                *place = *character;
                true
            }
            _ => false,
        })
    }

    fn numbers(&self, direction: Direction, mut numbers: Vec<&mut i128>, digits: u8) -> Result<(), Unfit> {
        let (length, front) = self.short.length(digits.into()).ok_or(Unfit)?;
        let back = usize::from(digits) - front;
        let unit = 10_u128.checked_pow(u32::try_from(back).map_err(|_| Unfit)?).ok_or(Unfit)?;
        if self.characters.len() != 10 {
            return Err(Unfit);
        }
        // A negative number must not become zero, which has no sign to come back from. Going on from zero is a bijection of
        // the others (cycle walking); zero is at most once in a cycle, so the second round is the last.
        let mut negative: Vec<bool> = numbers.iter().map(|number| **number < 0).collect();
        for _ in 0..2 {
            let halves = numbers.iter().map(|number| {
                let magnitude = number.unsigned_abs();
                let (front, back) = (u64::try_from(magnitude / unit).ok()?, u64::try_from(magnitude % unit).ok()?);
                self.short.halves(length, front, back)
            });
            let mut halves = halves.collect::<Option<Vec<_>>>().ok_or(Unfit)?;
            self.short.apply(direction, &mut halves);
            for ((number, negative), halves) in numbers.iter_mut().zip(&negative).zip(halves) {
                let magnitude = u128::from(halves.front) * unit + u128::from(halves.back);
                let magnitude = i128::try_from(magnitude).map_err(|_| Unfit)?;
                **number = if *negative { -magnitude } else { magnitude };
            }
            let again = numbers.into_iter().zip(negative).filter(|(number, negative)| *negative && **number == 0);
            (numbers, negative) = again.unzip();
        }
        Ok(())
    }
}

/// Writes numbers as so many characters of the alphabet each, from the last to the first.
fn overwrite<'a, const RADIX: u64>(
    characters: &[u8],
    numbers: [(u64, usize); 2],
    mut places: impl Iterator<Item = &'a mut u8>,
) -> bool {
    for (mut rest, count) in numbers {
        for _ in 0..count {
            let character = usize::try_from(rest % RADIX).ok().and_then(|value| characters.get(value));
            let (Some(place), Some(character)) = (places.next(), character) else { return false };
            *place = *character;
            rest /= RADIX;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Encryptor {
        fn one_text(&self, direction: Direction, text: &str) -> Result<String, Unfit> {
            let mut done = Vec::new();
            self.texts(direction, [text], |each| {
                done.push(each.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()));
            });
            done.pop().unwrap()
        }

        fn one_number(&self, direction: Direction, mut number: i128, digits: u8) -> Result<i128, Unfit> {
            self.numbers(direction, vec![&mut number], digits).map(|()| number)
        }
    }

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
            let there = encryptor.one_text(Direction::Encrypt, plain).unwrap();
            let back = encryptor.one_text(Direction::Decrypt, &there).unwrap();
            assert_eq!((there.as_str(), back.as_str()), (encrypted, plain));
        }
    }

    #[test]
    fn separators_stay_and_what_does_not_fit_is_refused() {
        let encryptor = Encryptor::from_raw(&NIST_KEY, b"t", Alphabet::Digits).unwrap();
        let out = encryptor.one_text(Direction::Encrypt, "+49 (170) 123-4567").unwrap();
        let shape: String = out.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
        assert_eq!(shape, "+99 (999) 999-9999");
        for unfit in ["", "12345", "1-2-3-4-5", "123456 Ada", "１２３４５６７", "123\n456", &"1".repeat(257)] {
            assert_eq!(encryptor.one_text(Direction::Encrypt, unfit), Err(Unfit), "{unfit}");
        }
        assert_eq!(encryptor.one_number(Direction::Encrypt, 1_000_000, 6), Err(Unfit));
        assert_eq!(encryptor.one_number(Direction::Encrypt, 1, 5), Err(Unfit));
        assert_eq!(encryptor.one_number(Direction::Encrypt, 1, 39), Err(Unfit));
        let letters = Encryptor::from_raw(&NIST_KEY, b"t", Alphabet::Alphanumeric).unwrap();
        assert_eq!(letters.one_text(Direction::Encrypt, "aB3"), Err(Unfit));
        letters.one_text(Direction::Encrypt, "aB3z").unwrap();
    }

    /// Every number of six digits becomes another one, and none twice: it is a permutation, with the sign kept.
    #[test]
    fn negative_numbers_stay_negative() {
        let encryptor = Encryptor::from_raw(&NIST_KEY, b"t", Alphabet::Digits).unwrap();
        let to_zero = encryptor.one_number(Direction::Decrypt, 0, 6).unwrap();
        assert_ne!(to_zero, 0, "pick another tweak: this one maps zero to itself");
        for number in [-to_zero, -1, -999_999] {
            let there = encryptor.one_number(Direction::Encrypt, number, 6).unwrap();
            assert!(there < 0, "{number} became {there}");
            assert_eq!(encryptor.one_number(Direction::Decrypt, there, 6).unwrap(), number);
        }
    }

    fn alphabet() -> impl Strategy<Value = Alphabet> {
        prop_oneof![Just(Alphabet::Digits), Just(Alphabet::Lower), Just(Alphabet::Upper), Just(Alphabet::Alphanumeric)]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        /// Of every length, more than a batch of them at once: what the crate makes of each, and back.
        #[test]
        fn decryption_comes_back_and_ours_is_the_crates(
            alphabet in alphabet(), seeds in prop::collection::vec(prop::collection::vec(0_usize..62, 4..80), 1..200),
            tweak in "[a-z.]{0,40}",
        ) {
            let encryptor = Encryptor::from_raw(&NIST_KEY, tweak.as_bytes(), alphabet).unwrap();
            let characters = alphabet.characters();
            let numerals = |seed: &Vec<usize>| seed.iter().map(|number| number % characters.len()).collect::<Vec<_>>();
            let numerals: Vec<_> = seeds.iter().map(numerals).collect();
            let text = |numerals: &Vec<usize>| numerals.iter().map(|number| char::from(characters[*number])).collect::<String>();
            let texts: Vec<String> = numerals.iter().map(text).collect();
            let through = |direction, texts: &[String]| {
                let mut done = Vec::new();
                encryptor.texts(direction, texts.iter().map(String::as_str), |each| {
                    done.push(each.map(|bytes| String::from_utf8(bytes.to_vec()).unwrap()));
                });
                done
            };
            let there = through(Direction::Encrypt, &texts);
            for (numerals, there) in numerals.iter().zip(&there) {
                let theirs = FlexibleNumeralString::from(numerals.iter().map(|n| u16::try_from(*n).unwrap()).collect::<Vec<_>>());
                let theirs = encryptor.long.encrypt(tweak.as_bytes(), &theirs).map(Vec::<u16>::from);
                let theirs = theirs.map(|all| text(&all.into_iter().map(usize::from).collect())).map_err(|_| Unfit);
                prop_assert_eq!(&theirs, there);
            }
            let back: Vec<String> = there.iter().flatten().cloned().collect();
            let fit = texts.into_iter().zip(&there).filter(|(_, there)| there.is_ok()).map(|(text, _)| Ok(text));
            prop_assert_eq!(through(Direction::Decrypt, &back), fit.collect::<Vec<_>>());
        }

        #[test]
        fn numbers_come_back(digits in 6_u8..=38, seed in any::<i128>()) {
            let number = seed % 10_i128.pow(u32::from(digits));
            let encryptor = Encryptor::from_raw(&NIST_KEY, b"t", Alphabet::Digits).unwrap();
            let there = encryptor.one_number(Direction::Encrypt, number, digits).unwrap();
            prop_assert!(there.unsigned_abs() < 10_u128.pow(u32::from(digits)));
            prop_assert_eq!(encryptor.one_number(Direction::Decrypt, there, digits).unwrap(), number);
        }
    }
}
