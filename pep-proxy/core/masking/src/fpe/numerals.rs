//! Short numeral strings in machine words: what a cell usually holds, without allocation.

use fpe::ff1::{NumeralString, Operations};

/// Halves stay below this, so that a half and four more bytes fit a word.
const HALF_BITS_MAX: u32 = 96;

/// A numeral string as its two halves' values.
pub(super) struct Numerals {
    front: Half,
    back: Half,
}

/// Half of a numeral string.
#[derive(Clone, Copy)]
pub(super) struct Half {
    radix: u8,
    count: usize,
    /// The radix to the power of the count: one more than the largest value.
    modulus: u128,
    value: u128,
}

impl Numerals {
    /// The numerals, if they are few enough and each below the radix.
    pub(super) fn read(numerals: &[u8], radix: u8) -> Option<Self> {
        let (front, back) = numerals.split_at_checked(numerals.len() / 2)?;
        Some(Self { front: Half::read(front, radix)?, back: Half::read(back, radix)? })
    }

    /// Writes them over as many numerals.
    pub(super) fn write(&self, numerals: &mut [u8]) {
        let (front, back) = numerals.split_at_mut(numerals.len() / 2);
        self.front.write(front);
        self.back.write(back);
    }
}

impl Half {
    fn read(numerals: &[u8], radix: u8) -> Option<Self> {
        let modulus = u128::from(radix).checked_pow(u32::try_from(numerals.len()).ok()?)?;
        if modulus >> HALF_BITS_MAX != 0 {
            return None;
        }
        let mut value = 0;
        for numeral in numerals.iter().filter(|numeral| **numeral < radix) {
            value = value * u128::from(radix) + u128::from(*numeral);
        }
        let whole = numerals.iter().all(|numeral| *numeral < radix);
        whole.then_some(Self { radix, count: numerals.len(), modulus, value })
    }

    fn write(&self, numerals: &mut [u8]) {
        let (mut rest, radix) = (self.value, u128::from(self.radix));
        for numeral in numerals.iter_mut().rev() {
            // Below the radix, which is a byte.
            *numeral = u8::try_from(rest % radix).unwrap_or_default();
            rest /= radix;
        }
    }

    /// `bytes`, big-endian, modulo the modulus. FF1 makes them a multiple of four long.
    fn reduce(&self, bytes: impl Iterator<Item = u8>) -> u128 {
        // Machine words where they do: dividing longer ones is most of what a value costs.
        match u32::try_from(self.modulus) {
            Ok(modulus) => {
                words(bytes).fold(0, |rest: u64, word| ((rest << 32) | u64::from(word)) % u64::from(modulus)).into()
            }
            Err(_) => words(bytes).fold(0, |rest: u128, word| ((rest << 32) | u128::from(word)) % self.modulus),
        }
    }

    /// FF1 adds to a half no more than its own count of numerals.
    fn with(self, value: u128) -> Self {
        // Both were below the modulus.
        Self { value: if value < self.modulus { value } else { value - self.modulus }, ..self }
    }
}

/// Four bytes at a time, big-endian.
fn words(mut bytes: impl Iterator<Item = u8>) -> impl Iterator<Item = u32> {
    std::iter::from_fn(move || {
        let mut word = u32::from(bytes.next()?);
        for _ in 1..4 {
            word = (word << 8) | u32::from(bytes.next()?);
        }
        Some(word)
    })
}

impl NumeralString for Numerals {
    type Ops = Half;

    fn is_valid(&self, radix: u32) -> bool {
        u32::from(self.front.radix) == radix && u32::from(self.back.radix) == radix
    }

    fn numeral_count(&self) -> usize {
        self.front.count + self.back.count
    }

    fn split(&self) -> (Half, Half) {
        (self.front, self.back)
    }

    fn concat(front: Half, back: Half) -> Self {
        Self { front, back }
    }
}

/// The last bytes of a word.
pub(super) struct Bytes {
    word: [u8; 16],
    count: usize,
}

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        self.word.get(self.word.len().saturating_sub(self.count)..).unwrap_or_default()
    }
}

impl Operations for Half {
    type Bytes = Bytes;

    fn numeral_count(&self) -> usize {
        self.count
    }

    fn to_be_bytes(&self, _: u32, count: usize) -> Bytes {
        Bytes { word: self.value.to_be_bytes(), count }
    }

    fn add_mod_exp(self, other: impl Iterator<Item = u8>, _: u32, _: usize) -> Self {
        self.with(self.value + self.reduce(other))
    }

    fn sub_mod_exp(self, other: impl Iterator<Item = u8>, _: u32, _: usize) -> Self {
        self.with(self.value + self.modulus - self.reduce(other))
    }
}
