//! A part of a large result that lies in cloud storage, and the address under which icegate hands it on.
//!
//! Snowflake's reply names a URL and a key per part. Neither reaches a client: it gets an address of icegate's own, in which
//! both are sealed together with whose result it is. Whoever holds an address can fetch that one part while the session
//! stands, and nothing else; no replica has to remember it.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    Secret,
    limits::CHUNK_ADDRESS_BYTES_MAX,
    token::{NONCE_BYTES, Sealer, TokenError, secret_text},
};

/// What an address of a part is sealed for.
/// The version changes with what an address asks for: a replica that would not do it must not open it.
const PURPOSE: &[u8] = b"icegate result part v2";

/// How the rows of a part are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChunkFormat {
    /// Rows with commas between them and no brackets around.
    Json,
    /// One Arrow IPC stream.
    Arrow,
}

/// A header the storage wants to see, mostly the key the part is encrypted with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct StorageHeader {
    /// Its name, lower case.
    pub name: String,
    /// Its value.
    #[serde(with = "secret_text")]
    pub value: Secret,
}

/// One part of a result in storage.
#[derive(Clone)]
pub struct Chunk {
    /// Where it lies; the query string signs whoever has it in.
    pub url: Secret,
    /// Rows in it.
    pub rows: u64,
    /// Bytes of it, unpacked.
    pub bytes: u64,
    /// Bytes of it as it lies there.
    pub packed_bytes: u64,
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk").field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// All parts of one result.
#[derive(Debug, Clone)]
pub struct Chunks {
    /// In order.
    pub all: Vec<Chunk>,
    /// Sent to the storage with each of them.
    pub headers: Vec<StorageHeader>,
    /// How their rows are written.
    pub format: ChunkFormat,
}

/// What the address of one part carries.
#[derive(Clone, Serialize, Deserialize)]
pub struct SealedChunk {
    /// The PDP's session it was made for.
    pub session_id: String,
    /// The decision that allowed the statement.
    pub decision_id: String,
    /// The statement, by the id the client knows.
    pub query_id: String,
    /// Which part, from 0.
    pub index: usize,
    /// How its rows are written.
    pub format: ChunkFormat,
    /// Where it lies.
    #[serde(with = "secret_text")]
    pub url: Secret,
    /// Sent to the storage with it.
    pub headers: Vec<StorageHeader>,
    /// When the address ends, Unix milliseconds.
    pub expires_ms: i64,
    /// What is done to its rows before anyone gets them, in the words of whoever sealed it; nothing when they pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub masks: Option<Value>,
}

impl fmt::Debug for SealedChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedChunk")
            .field("query_id", &self.query_id)
            .field("index", &self.index)
            .finish_non_exhaustive()
    }
}

impl SealedChunk {
    /// The last part of its address. `nonce` must be random and never used before.
    ///
    /// # Errors
    ///
    /// [`TokenError::Malformed`]: the content makes it longer than an address may be.
    pub fn seal(&self, sealer: &Sealer, nonce: [u8; NONCE_BYTES]) -> Result<String, TokenError> {
        sealer.seal_value(self, PURPOSE, nonce, CHUNK_ADDRESS_BYTES_MAX)
    }

    /// Opens the last part of an address.
    ///
    /// # Errors
    ///
    /// Not ours, changed, or past its end.
    pub fn open(keys: &Sealer, sealed: &str, now_ms: i64) -> Result<Self, TokenError> {
        let chunk: Self = keys.open_value(sealed, PURPOSE, CHUNK_ADDRESS_BYTES_MAX)?;
        if now_ms >= chunk.expires_ms { Err(TokenError::Expired) } else { Ok(chunk) }
    }
}

/// Path of a part's address.
pub fn chunk_path(sealed: &str) -> String {
    format!("{CHUNK_PATH}{sealed}")
}

/// Beginning of the path of every part.
pub(crate) const CHUNK_PATH: &str = "/chunks/";

/// Which hosts results may be fetched from.
///
/// ```
/// use icegate_pep_protocol::HostPattern;
///
/// let s3 = HostPattern::parse("*.s3.*.amazonaws.com").unwrap();
/// assert!(s3.matches("sfc-stage.s3.eu-west-1.amazonaws.com", 443));
/// assert!(!s3.matches("s3.eu-west-1.amazonaws.com.evil.example", 443));
/// assert!(!s3.matches("a.b.s3.eu-west-1.amazonaws.com", 443));
/// assert!(!s3.matches("sfc-stage.s3.eu-west-1.amazonaws.com", 8443));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPattern {
    host: String,
    port: u16,
}

impl HostPattern {
    /// A host name, in which `*` stands for one whole label, and perhaps a port (else 443).
    ///
    /// `None` when it is none, or when nothing but stars stands at the end: `*.com` is everybody.
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, port.parse().ok()?),
            None => (text, 443),
        };
        let labels: Vec<&str> = host.split('.').collect();
        let label = |label: &&str| {
            !label.is_empty()
                && (*label == "*"
                    || label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')))
        };
        let telling = labels.iter().rev().take(2).all(|label| *label != "*");
        let sound = labels.iter().all(label) && telling && (labels.len() > 1 || host == "localhost");
        sound.then(|| Self { host: host.to_ascii_lowercase(), port })
    }

    /// Whether a host and port are of this pattern.
    pub fn matches(&self, host: &str, port: u16) -> bool {
        let host = host.to_ascii_lowercase();
        let (ours, theirs) = (self.host.split('.'), host.split('.'));
        port == self.port
            && ours.clone().count() == theirs.clone().count()
            && ours.zip(theirs).all(|(ours, theirs)| !theirs.is_empty() && (ours == "*" || ours == theirs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{SealKey, TokenKind};

    fn chunk() -> SealedChunk {
        SealedChunk {
            session_id: "S-1".into(),
            decision_id: "0198".into(),
            query_id: "01b2c3d4-0000-1111-2222-333344445555".into(),
            index: 3,
            format: ChunkFormat::Arrow,
            url: Secret::new("https://x.s3.amazonaws.com/p?X-Amz-Signature=abc"),
            headers: vec![StorageHeader { name: "x-amz-key".into(), value: Secret::new("k3y") }],
            expires_ms: 1000,
            masks: None,
        }
    }

    #[test]
    fn an_address_opens_for_its_purpose_key_and_time_only() {
        let keys = Sealer::new(vec![SealKey::new([7; 32])]).unwrap();
        let sealed = chunk().seal(&keys, [1; NONCE_BYTES]).unwrap();
        assert!(
            !sealed.contains("amazonaws")
                && sealed.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
        );
        let opened = SealedChunk::open(&keys, &sealed, 999).unwrap();
        assert_eq!((opened.index, opened.url.expose()), (3, chunk().url.expose()));
        assert_eq!(SealedChunk::open(&keys, &sealed, 1000).unwrap_err(), TokenError::Expired);
        assert_eq!(keys.open(&sealed, TokenKind::Session, 0).unwrap_err(), TokenError::Forged, "it is no session");
        let stranger = Sealer::new(vec![SealKey::new([8; 32])]).unwrap();
        assert_eq!(SealedChunk::open(&stranger, &sealed, 0).unwrap_err(), TokenError::UnknownKey);
        for at in 4..sealed.len() {
            let mut changed = sealed.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            if changed != sealed {
                assert!(SealedChunk::open(&keys, &changed, 0).is_err(), "byte {at}");
            }
        }
        assert!(!format!("{:?} {:?}", chunk(), chunk().headers).contains("k3y"));
    }

    #[test]
    fn patterns_name_hosts_and_never_everybody() {
        for bad in
            ["", "*", "*.com", "com", "*.*.com.*", "a..b", "a.b:", "a.b:x", "http://a.b", "a.b/c", ".s3.amazonaws.com"]
        {
            assert_eq!(HostPattern::parse(bad), None, "{bad}");
        }
        for (pattern, host, port, wanted) in [
            ("storage.googleapis.com", "Storage.GoogleAPIs.com", 443, true),
            ("storage.googleapis.com", "x.storage.googleapis.com", 443, false),
            ("*.blob.core.windows.net", "acct.blob.core.windows.net", 443, true),
            ("*.blob.core.windows.net", ".blob.core.windows.net", 443, false),
            ("*.blob.core.windows.net", "acct.blob.core.windows.net.", 443, false),
            ("127.0.0.1:9000", "127.0.0.1", 9000, true),
            ("127.0.0.1:9000", "127.0.0.1", 9001, false),
        ] {
            assert_eq!(HostPattern::parse(pattern).unwrap().matches(host, port), wanted, "{pattern} {host}");
        }
    }
}
