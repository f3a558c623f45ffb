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
        modulus(u32::from(radix), numerals.len())?;
        let mut value = 0;
        for numeral in numerals.iter().filter(|numeral| **numeral < radix) {
            value = value * u128::from(radix) + u128::from(*numeral);
        }
        let whole = numerals.iter().all(|numeral| *numeral < radix);
        whole.then_some(Self { radix, count: numerals.len(), value })
    }

    fn write(&self, numerals: &mut [u8]) {
        let (mut rest, radix) = (self.value, u128::from(self.radix));
        for numeral in numerals.iter_mut().rev() {
            // Below the radix, which is a byte.
            *numeral = u8::try_from(rest % radix).unwrap_or_default();
            rest /= radix;
        }
    }

    /// `bytes`, big-endian, modulo `modulus`. FF1 makes them a multiple of four long.
    fn reduce(bytes: impl Iterator<Item = u8>, modulus: u128) -> u128 {
        let (mut rest, mut word, mut held) = (0_u128, 0_u128, 0);
        for byte in bytes {
            word = (word << 8) | u128::from(byte);
            held += 8;
            if held == 32 {
                rest = ((rest << 32) | word) % modulus;
                (word, held) = (0, 0);
            }
        }
        ((rest << held) | word) % modulus
    }
}

/// `radix` to the power of `count`, if below the limit.
fn modulus(radix: u32, count: usize) -> Option<u128> {
    let modulus = u128::from(radix).checked_pow(u32::try_from(count).ok()?)?;
    (modulus < 1 << HALF_BITS_MAX).then_some(modulus)
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

    // Both halves were read below the limit, and FF1 asks for no other counts than theirs.
    fn add_mod_exp(self, other: impl Iterator<Item = u8>, radix: u32, count: usize) -> Self {
        let modulus = modulus(radix, count).unwrap_or(1);
        let value = (self.value % modulus + Self::reduce(other, modulus)) % modulus;
        Self { radix: self.radix, count, value }
    }

    fn sub_mod_exp(self, other: impl Iterator<Item = u8>, radix: u32, count: usize) -> Self {
        let modulus = modulus(radix, count).unwrap_or(1);
        let value = (self.value % modulus + modulus - Self::reduce(other, modulus)) % modulus;
        Self { radix: self.radix, count, value }
    }
}
