//! FF1 of NIST SP 800-38G for values of the length a cell usually has, many at a time.
//!
//! A value's ten rounds follow each other, so one value leaves the cipher waiting for itself. Values do not wait for each other:
//! a round of all of them goes through the cipher together. What comes before a round's own block (the parameters, and all of
//! the tweak that fits no block of its own) is the same for every value of one length, and is encrypted once. The halves of a
//! value are numbers of a machine word; longer values are not for here.

use aes::{
    Aes256Enc, Block,
    cipher::{BlockCipherEncrypt, KeyInit},
};

use super::Direction;
use crate::key::KEY_BYTES;

/// Values of one batch: some times what the widest implementations of the cipher take at once.
pub(super) const BATCH: usize = 120;
const BLOCK_BYTES: usize = 16;
const BLOCK_BITS: u32 = 128;
const ROUNDS: u8 = 10;
/// Fewest values a length must have.
const VALUES_MIN: u64 = 1_000_000;

/// FF1 under one key and tweak, for numerals of one radix.
pub(super) struct Ff1 {
    cipher: Aes256Enc,
    /// From the shortest that is encrypted to the longest that is done here.
    lengths: Vec<Length>,
}

/// What all values of one length share.
struct Length {
    numerals: usize,
    /// Values of the front half, which is the shorter one.
    front: u64,
    /// Values of the back half.
    back: u64,
    /// Bytes of a half in a block.
    half_bytes: u32,
    /// A round's block without the round and the half: what was before it, chained.
    start: u128,
}

/// A value of one length: its two halves, as the numbers that their numerals make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Halves {
    /// Which length; as [`Ff1::length`] gave it.
    length: usize,
    pub(super) front: u64,
    pub(super) back: u64,
}

impl Ff1 {
    pub(super) fn new(key: &[u8; KEY_BYTES], tweak: &[u8], radix: u8) -> Self {
        let cipher = Aes256Enc::new(key.into());
        let lengths = (1..).map_while(|numerals| Length::new(&cipher, tweak, radix, numerals));
        let lengths = lengths.filter(Length::has_values).collect();
        Self { cipher, lengths }
    }

    /// The length of so many numerals, and how many of them are its front half; `None` when it is not encrypted, or not here.
    pub(super) fn length(&self, numerals: usize) -> Option<(usize, usize)> {
        let at = numerals.checked_sub(self.lengths.first()?.numerals)?;
        self.lengths.get(at).map(|length| (at, length.numerals / 2))
    }

    /// How many numerals the halves of a value have.
    pub(super) fn numerals(&self, value: Halves) -> (usize, usize) {
        let numerals = self.lengths.get(value.length).map_or(0, |length| length.numerals);
        (numerals / 2, numerals.div_ceil(2))
    }

    /// A value, if its halves are of that length.
    pub(super) fn halves(&self, length: usize, front: u64, back: u64) -> Option<Halves> {
        let of = self.lengths.get(length)?;
        (front < of.front && back < of.back).then_some(Halves { length, front, back })
    }

    /// Every value becomes another one of its length, each as if it were alone.
    pub(super) fn apply(&self, direction: Direction, values: &mut [Halves]) {
        let mut blocks = [Block::default(); BATCH];
        for values in values.chunks_mut(BATCH) {
            let Some(blocks) = blocks.get_mut(..values.len()) else { return };
            for turn in 0..ROUNDS {
                let round = if direction == Direction::Encrypt { turn } else { ROUNDS - 1 - turn };
                self.round(direction, round, values, blocks);
            }
        }
    }

    fn round(&self, direction: Direction, round: u8, values: &mut [Halves], blocks: &mut [Block]) {
        for (value, block) in values.iter().zip(&mut *blocks) {
            let Some(length) = self.lengths.get(value.length) else { continue };
            let half = if direction == Direction::Encrypt { value.back } else { value.front };
            let own = u128::from(round) << (8 * length.half_bytes) | u128::from(half);
            *block = (length.start ^ own).to_be_bytes().into();
        }
        self.cipher.encrypt_blocks(blocks);
        for (value, block) in values.iter_mut().zip(&*blocks) {
            let Some(length) = self.lengths.get(value.length) else { continue };
            let modulus = if round.is_multiple_of(2) { length.front } else { length.back };
            let added = length.taken((*block).into(), modulus);
            *value = match direction {
                Direction::Encrypt => Halves { front: value.back, back: plus(value.front, added, modulus), ..*value },
                Direction::Decrypt => {
                    Halves { front: plus(value.back, modulus - added, modulus), back: value.front, ..*value }
                }
            };
        }
    }
}

impl Length {
    /// `None` when a half is more than a word.
    fn new(cipher: &Aes256Enc, tweak: &[u8], radix: u8, numerals: usize) -> Option<Self> {
        let (short, long) = (numerals / 2, numerals.div_ceil(2));
        let values = |count: usize| u64::from(radix).checked_pow(u32::try_from(count).ok()?);
        let (front, back) = (values(short)?, values(long)?);
        let half_bytes = (u64::BITS - (back - 1).leading_zeros()).div_ceil(8);
        let [.., l2, l1, l0] = u32::from(radix).to_be_bytes();
        let mut chained = vec![1, 2, 1, l2, l1, l0, ROUNDS, u8::try_from(short).ok()?];
        chained.extend(u32::try_from(numerals).ok()?.to_be_bytes());
        chained.extend(u32::try_from(tweak.len()).ok()?.to_be_bytes());
        chained.extend(tweak);
        // Zeros up to where the round and the half end a block.
        let own = half_bytes as usize + 1;
        chained.resize((chained.len() + own).next_multiple_of(BLOCK_BYTES) - own, 0);
        chained.resize(chained.len() + own, 0);
        let (blocks, _) = chained.as_chunks::<BLOCK_BYTES>();
        let (last, before) = blocks.split_last()?;
        let chained = before.iter().fold(0, |chained, block| {
            let mut block = (chained ^ u128::from_be_bytes(*block)).to_be_bytes().into();
            cipher.encrypt_block(&mut block);
            u128::from_be_bytes(block.into())
        });
        Some(Self { numerals, front, back, half_bytes, start: chained ^ u128::from_be_bytes(*last) })
    }

    fn has_values(&self) -> bool {
        self.front.saturating_mul(self.back) >= VALUES_MIN
    }

    /// The number in the first bytes of an encrypted block, of which FF1 takes four more than a half fills, in fours.
    fn taken(&self, block: [u8; BLOCK_BYTES], modulus: u64) -> u64 {
        let bits = 8 * (self.half_bytes.next_multiple_of(4) + 4);
        let number = u128::from_be_bytes(block) >> (BLOCK_BITS - bits);
        // Dividing two words takes several times as long.
        match u64::try_from(number) {
            Ok(number) => number % modulus,
            Err(_) => u64::try_from(number % u128::from(modulus)).unwrap_or_default(),
        }
    }
}

/// The sum of two numbers, the first below the modulus and the second at most that.
fn plus(one: u64, other: u64, modulus: u64) -> u64 {
    let room = modulus - one;
    if other < room { one + other } else { other - room }
}
