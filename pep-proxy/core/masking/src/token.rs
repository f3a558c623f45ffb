//! Tokens: what stands for a value, the same for the same value, and tells nothing of it without the key.

use std::fmt;

use hmac::{Hmac, Mac};
use sha2_keyed::Sha256;

use crate::{Key, key::keyed};

/// Characters of a token of text: 130 bits.
pub const TOKEN_CHARS: usize = 26;
/// Bytes that SHA-256 takes at a time.
const BLOCK_BYTES: usize = 64;
/// Five bits a character, in the order of RFC 4648's base32, lower case.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Makes the tokens of one domain.
pub struct Tokenizer {
    mac: Hmac<Sha256>,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tokenizer")
    }
}

impl Tokenizer {
    /// The tokens of this domain under this key.
    pub fn new(key: &Key, domain: &str) -> Self {
        let mut mac = keyed(&key.derive("token"));
        mac.update(&(domain.len() as u64).to_be_bytes());
        mac.update(domain.as_bytes());
        // To the end of a block, so that a short value takes one more and not two. The length before it keeps domains apart.
        let over = (size_of::<u64>() + domain.len()) % BLOCK_BYTES;
        mac.update([0; BLOCK_BYTES].get(over..).unwrap_or_default());
        Self { mac }
    }

    /// Appends the token of a text, cut to `chars_max`.
    pub fn text(&self, value: &str, chars_max: Option<u32>, out: &mut String) {
        let tag = self.tag(b't', value.as_bytes());
        let chars = chars_max.map_or(TOKEN_CHARS, |most| TOKEN_CHARS.min(most as usize));
        let (mut bits, mut held) = (0_u32, 0_u32);
        let mut bytes = tag.iter();
        for _ in 0..chars {
            if held < 5 {
                bits = (bits << 8) | u32::from(bytes.next().copied().unwrap_or_default());
                held += 8;
            }
            held -= 5;
            let character = ALPHABET.get((bits >> held) as usize & 31).copied().unwrap_or(b'a');
            out.push(char::from(character));
        }
    }

    /// The token of a number, from 0 to below `modulus`. `value` is unscaled: numbers that are equal are to have equal scales.
    pub fn number(&self, value: i128, modulus: u128) -> i128 {
        let tag = self.tag(b'n', &value.to_be_bytes());
        let wide = tag.iter().take(16).fold(0_u128, |wide, byte| (wide << 8) | u128::from(*byte));
        // The modulus is at most 10^38, below 2^127.
        i128::try_from(wide % modulus.max(1)).unwrap_or_default()
    }

    fn tag(&self, kind: u8, value: &[u8]) -> [u8; 32] {
        let mut mac = self.mac.clone();
        mac.update(&[kind]);
        mac.update(value);
        mac.finalize().into_bytes().into()
    }
}
