//! AES-256 that is cheap to clone: FF1 clones its cipher in every round, and a copy of the round keys is wiped each time.

use std::sync::Arc;

use aes::{
    Aes256Enc,
    cipher::{BlockCipherEncClosure, BlockCipherEncrypt, BlockSizeUser, Key, KeyInit, KeySizeUser},
};

/// One set of round keys, wiped when the last clone is dropped.
#[derive(Clone)]
pub(super) struct Shared(Arc<Aes256Enc>);

impl KeySizeUser for Shared {
    type KeySize = <Aes256Enc as KeySizeUser>::KeySize;
}

impl KeyInit for Shared {
    fn new(key: &Key<Self>) -> Self {
        Self(Arc::new(Aes256Enc::new(key)))
    }
}

impl BlockSizeUser for Shared {
    type BlockSize = <Aes256Enc as BlockSizeUser>::BlockSize;
}

impl BlockCipherEncrypt for Shared {
    fn encrypt_with_backend(&self, closure: impl BlockCipherEncClosure<BlockSize = Self::BlockSize>) {
        self.0.encrypt_with_backend(closure);
    }
}
