//! The key pair the PEP shows to the warehouse.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;

use anyhow::Context as _;
use rsa::pkcs8::{EncodePrivateKey as _, LineEnding};
use rsa::rand_core::OsRng;

/// Bits of the modulus, Snowflake's least.
const BITS: usize = 2048;

/// Makes an RSA key and writes it as PKCS#8 PEM, readable by its owner only.
pub(super) async fn rsa_key(path: PathBuf) -> anyhow::Result<()> {
    let made = tokio::task::spawn_blocking(move || -> anyhow::Result<()> {
        let key = rsa::RsaPrivateKey::new(&mut OsRng, BITS).context("cannot make an RSA key")?;
        let pem = key.to_pkcs8_pem(LineEnding::LF).context("cannot write an RSA key")?;
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&path).with_context(|| format!("cannot write `{}`", path.display()))?;
        file.write_all(pem.as_bytes())?;
        Ok(())
    });
    made.await.context("making an RSA key broke off")?
}
