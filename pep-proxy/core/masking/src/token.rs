//! Tokens: what stands for a value, the same for the same value, and tells nothing of it without the key.

use std::fmt;

use hmac::Mac;

use crate::{Key, cmac::Cmac, key::keyed};

/// Characters of a token of text: 128 bits.
pub const TOKEN_CHARS: usize = 26;

/// Makes the tokens of one domain: CMAC with AES-256 of the value, under a key of the domain's own.
pub struct Tokenizer {
    texts: Cmac,
    numbers: Cmac,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokenizer")
    }
}

impl Tokenizer {
    /// The tokens of this domain under this key.
    pub fn new(key: &Key, domain: &str) -> Self {
        let cmac = |kind: &str| {
            let mut mac = keyed(&key.derive(kind));
            mac.update(domain.as_bytes());
            Cmac::new(&mac.finalize().into_bytes().into())
        };
        Self { texts: cmac("token of text"), numbers: cmac("token of number") }
    }

    /// The token of each text, in order, cut to `chars_max`. ASCII, in the order of RFC 4648's base32, lower case.
    pub fn texts<'a>(
        &self,
        values: impl IntoIterator<Item = &'a str>,
        chars_max: Option<u32>,
        mut each: impl FnMut(&[u8]),
    ) {
        let chars = chars(chars_max);
        self.texts.tags(values.into_iter().map(str::as_bytes), |tag| {
            each(letters(tag).get(..chars).unwrap_or_default());
        });
    }

    /// Each number becomes its token, from 0 to below `modulus`. Unscaled: numbers that are equal are to have equal scales.
    pub fn numbers(&self, values: Vec<&mut i128>, modulus: u128) {
        let bytes: Vec<[u8; 16]> = values.iter().map(|value| value.to_be_bytes()).collect();
        let mut places = values.into_iter();
        self.numbers.tags(bytes.iter().map(<[u8; 16]>::as_slice), |tag| {
            if let Some(place) = places.next() {
                // The modulus is at most 10^38, below 2^127.
                *place = i128::try_from(tag % modulus.max(1)).unwrap_or_default();
            }
        });
    }
}

/// Characters of each token of a column of texts of at most `chars_max`.
pub(crate) fn chars(chars_max: Option<u32>) -> usize {
    chars_max.map_or(TOKEN_CHARS, |most| TOKEN_CHARS.min(most as usize))
}

/// A tag in letters and digits, and the rest of the last group.
fn letters(tag: u128) -> [u8; 32] {
    // With room to read eight bytes at each fifth.
    let mut bytes = [0; 24];
    if let Some(front) = bytes.first_chunk_mut() {
        *front = tag.to_be_bytes();
    }
    let mut letters = [0; 32];
    for (at, group) in letters.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        let from = bytes.get(5 * at..).and_then(|rest| rest.first_chunk()).copied().unwrap_or_default();
        *group = eight(u64::from_be_bytes(from) >> 24);
    }
    letters
}

/// Forty bits as eight characters, all of them at once: each byte of a word takes five bits, the first the highest.
fn eight(bits: u64) -> [u8; 8] {
    const EACH: u64 = 0x0101_0101_0101_0101;
    /// What is between the last letter, after which `2` comes, and that digit.
    const GAP: u64 = (b'a' + 26 - b'2') as u64;
    const LETTERS: u64 = 26;
    let halves = (bits & 0xff_fff0_0000) << 12 | (bits & 0xf_ffff);
    let quarters = (halves & 0x000f_fc00_000f_fc00) << 6 | (halves & 0x0000_03ff_0000_03ff);
    let each = (quarters & 0x03e0_03e0_03e0_03e0) << 3 | (quarters & 0x001f_001f_001f_001f);
    let digits = ((each + EACH * (0x80 - LETTERS)) >> 7) & EACH;
    (each + EACH * u64::from(b'a') - digits * GAP).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_are_base32() {
        for tag in [0, u128::MAX, 0x0123_4567_89ab_cdef_0011_2233_4455_6677, 1, 1 << 127] {
            let mut wanted = String::new();
            let bits: Vec<u8> =
                tag.to_be_bytes().iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)).collect();
            for five in bits.chunks(5) {
                let number = (0..5).fold(0, |number, at| number * 2 + five.get(at).copied().unwrap_or(0));
                wanted.push(char::from(b"abcdefghijklmnopqrstuvwxyz234567"[usize::from(number)]));
            }
            assert_eq!(std::str::from_utf8(&letters(tag)[..TOKEN_CHARS]).unwrap(), wanted);
        }
    }
}
