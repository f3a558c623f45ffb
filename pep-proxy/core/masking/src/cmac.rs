//! CMAC with AES-256 (NIST SP 800-38B), of many values at a time.
//!
//! A value's blocks follow each other, so one value leaves the cipher waiting for itself. Values do not wait for each other: the
//! first blocks of a batch are encrypted together, then the second ones of those that have a second, and so on. The cipher then
//! works at its full width, and lays out its round keys once for the batch.

use aes::{
    Aes256Enc, Block,
    cipher::{BlockCipherEncrypt, KeyInit},
};

use crate::key::KEY_BYTES;

/// Bytes of a tag.
pub(crate) const TAG_BYTES: usize = 16;
/// Values of one batch: eight times what the widest implementations of the cipher take at once.
pub(crate) const BATCH: usize = 240;
/// What doubling folds in, of SP 800-38B for blocks of 128 bits.
const FOLD: u128 = 0x87;
/// What a last block that is not whole is filled up with, before zeros.
const FILL: u8 = 0x80;

/// CMAC under one key; the cipher wipes its round keys when dropped.
pub(crate) struct Cmac {
    cipher: Aes256Enc,
    /// Goes into a last block that is whole; in memory as the block is.
    whole: u128,
    /// Goes into a last block that was filled up; in memory as the block is.
    filled: u128,
}

/// One value of a batch.
struct Lane<'a> {
    at: usize,
    /// What is not in yet; nothing when the last block is.
    rest: Option<&'a [u8]>,
}

impl Cmac {
    pub(crate) fn new(key: &[u8; KEY_BYTES]) -> Self {
        let cipher = Aes256Enc::new(key.into());
        let mut zero = Block::default();
        cipher.encrypt_block(&mut zero);
        let whole = doubled(u128::from_be_bytes(zero.into()));
        Self { cipher, whole: whole.to_be(), filled: doubled(whole).to_be() }
    }

    /// The tag of each value, in order, each as if it were alone: a number, its first byte the highest.
    pub(crate) fn tags<'a>(&self, values: impl IntoIterator<Item = &'a [u8]>, mut each: impl FnMut(u128)) {
        let mut values = values.into_iter();
        let (mut lanes, mut blocks, mut tags) = (Vec::new(), Vec::new(), Vec::new());
        loop {
            lanes.extend(values.by_ref().take(BATCH).enumerate().map(|(at, value)| Lane { at, rest: Some(value) }));
            if lanes.is_empty() {
                return;
            }
            tags.clear();
            tags.resize(lanes.len(), 0);
            blocks.clear();
            blocks.resize(lanes.len(), Block::default());
            self.batch(&mut lanes, &mut blocks, &mut tags);
            tags.iter().copied().for_each(&mut each);
        }
    }

    /// A block of every value a turn; a value whose last one is in leaves. `blocks` and `tags` are zeros, one for each.
    fn batch(&self, lanes: &mut Vec<Lane<'_>>, mut blocks: &mut [Block], tags: &mut [u128]) {
        while !lanes.is_empty() {
            for (lane, block) in lanes.iter_mut().zip(&mut *blocks) {
                let input = match lane.rest.unwrap_or_default().split_first_chunk() {
                    Some((next, rest)) if !rest.is_empty() => {
                        lane.rest = Some(rest);
                        u128::from_ne_bytes(*next)
                    }
                    _ => self.last(lane.rest.take().unwrap_or_default()),
                };
                *block = (u128::from_ne_bytes((*block).into()) ^ input).to_ne_bytes().into();
            }
            self.cipher.encrypt_blocks(blocks);
            let mut going = 0;
            let mut at = 0;
            lanes.retain(|lane| {
                let block = blocks.get(at).copied().unwrap_or_default();
                at += 1;
                let place = if lane.rest.is_some() {
                    going += 1;
                    blocks.get_mut(going - 1).map(|place| *place = block)
                } else {
                    tags.get_mut(lane.at).map(|tag| *tag = u128::from_be_bytes(block.into()))
                };
                place.is_some() && lane.rest.is_some()
            });
            blocks = blocks.get_mut(..going).unwrap_or_default();
        }
    }

    /// The last block of a value: filled up, where it is not whole, and with the subkey that says so.
    fn last(&self, rest: &[u8]) -> u128 {
        let mut block = [0; TAG_BYTES];
        for (into, byte) in block.iter_mut().zip(rest.iter().chain(&[FILL])) {
            *into = *byte;
        }
        u128::from_ne_bytes(block) ^ if rest.len() == TAG_BYTES { self.whole } else { self.filled }
    }
}

/// Times x in the field of 2^128.
fn doubled(number: u128) -> u128 {
    (number << 1) ^ if number >> 127 == 1 { FOLD } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// NIST's examples of CMAC with AES-256: `CMAC_AES256` of the Cryptographic Standards and Guidelines' examples.
    const KEY: &str = "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4";
    const MESSAGE: &str = "6bc1bee22e409f96e93d7e117393172aae2d8a571e03ac9c9eb76fac45af8e51\
                           30c81c46a35ce411e5fbc1191a0a52eff69f2445df4f9b17ad2b417be66c3710";

    fn unhex(text: &str) -> Vec<u8> {
        let byte = |two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap();
        text.as_bytes().chunks(2).map(byte).collect()
    }

    fn tags(cmac: &Cmac, values: &[Vec<u8>]) -> Vec<u128> {
        let mut tags = Vec::new();
        cmac.tags(values.iter().map(Vec::as_slice), |tag| tags.push(tag));
        tags
    }

    #[test]
    fn tags_are_those_of_the_standard() {
        let cmac = Cmac::new(&unhex(KEY).try_into().unwrap());
        let message = unhex(MESSAGE);
        for (bytes, wanted) in [
            (0, 0x0289_62f6_1b7b_f89e_fc6b_551f_4667_d983_u128),
            (16, 0x28a7_023f_452e_8f82_bd4b_f28d_8c37_c35c),
            (20, 0x1567_27dc_0878_944a_023c_1fe0_3bad_6d93),
            (40, 0xaaf3_d8f1_de56_40c2_32f5_b169_b9c9_11e6),
            (64, 0xe199_2190_549f_6ed5_696a_2c05_6c31_5410),
        ] {
            assert_eq!(tags(&cmac, &[message[..bytes].to_vec()]), [wanted], "{bytes} bytes");
        }
    }

    #[test]
    fn a_value_has_one_tag_in_whatever_batch() {
        let cmac = Cmac::new(&[7; KEY_BYTES]);
        let values: Vec<Vec<u8>> = (0..=3 * BATCH).map(|at| vec![at.to_le_bytes()[0]; at * 31 % 100]).collect();
        let alone: Vec<u128> = values.iter().flat_map(|value| tags(&cmac, std::slice::from_ref(value))).collect();
        assert_eq!(tags(&cmac, &values), alone);
    }
}
