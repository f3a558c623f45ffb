//! The tokens icegate hands out: sealed, so that any replica with the key can open them and nobody else can read or make them.
//!
//! A token is `ig1.` and base64url of key id (4 bytes), nonce (24 bytes) and XChaCha20-Poly1305 ciphertext. Purpose and
//! version are authenticated with it: a session token is no master token.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chacha20poly1305::{
    Key, KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::{ClientFacts, Secret, SessionContext, limits::TOKEN_BYTES_MAX};

const PREFIX: &str = "ig1.";
const KEY_ID_BYTES: usize = 4;
/// Bytes of randomness [`Sealer::seal`] needs.
pub const NONCE_BYTES: usize = 24;

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenKind {
    /// Statements.
    Session,
    /// Renewal only.
    Master,
}

impl TokenKind {
    fn purpose(self) -> &'static [u8] {
        match self {
            Self::Session => b"icegate session token v1",
            Self::Master => b"icegate master token v1",
        }
    }
}

/// What a token carries, so that no replica has to remember it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SealedSession {
    /// What it is good for.
    pub kind: TokenKind,
    /// The PDP's session.
    pub session_id: String,
    /// The number the driver sees as its session id.
    pub session_number: u64,
    /// The principal, as written in policies.
    pub principal_id: String,
    /// Equal for equal principals: part of the decision cache's key.
    pub principal_digest: String,
    /// The agent, when the identity token names one.
    pub agent: Option<String>,
    /// Snowflake's session token.
    #[serde(with = "secret_text")]
    pub upstream_token: Secret,
    /// Snowflake's master token, where it gave one. Only a master token needs it.
    #[serde(default, with = "optional_secret_text", skip_serializing_if = "Option::is_none")]
    pub upstream_master: Option<Secret>,
    /// Snowflake's session id.
    pub upstream_session_id: String,
    /// What the client said of itself.
    pub client: ClientFacts,
    /// The names the session began with.
    pub context: SessionContext,
    /// The client's own tag.
    pub query_tag: Option<String>,
    /// When this token was made, Unix milliseconds.
    pub issued_ms: i64,
    /// When this token ends, Unix milliseconds.
    pub expires_ms: i64,
    /// When the identity behind it ends, Unix milliseconds. No renewal goes past it.
    pub session_expires_ms: i64,
}

/// Why a token is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Not of the shape of our tokens.
    #[error("not a token of icegate")]
    Malformed,
    /// Sealed with a key we do not have (any more).
    #[error("the token was sealed with another key")]
    UnknownKey,
    /// Changed, or used for another purpose.
    #[error("the token does not open")]
    Forged,
    /// Past its end.
    #[error("the token has expired")]
    Expired,
}

/// A 32-byte key. Its id is the beginning of its hash.
#[derive(Clone)]
pub struct SealKey {
    id: [u8; KEY_ID_BYTES],
    key: Zeroizing<[u8; 32]>,
}

impl SealKey {
    /// Takes the key's bytes, which must be random.
    pub fn new(key: [u8; 32]) -> Self {
        let hash = Sha256::new().chain_update(b"icegate seal key id v1").chain_update(key).finalize();
        let mut id = [0; KEY_ID_BYTES];
        for (to, from) in id.iter_mut().zip(hash) {
            *to = from;
        }
        Self { id, key: Zeroizing::new(key) }
    }

    /// The id in hexadecimal, for logs.
    pub fn id(&self) -> String {
        format!("{:08x}", u32::from_be_bytes(self.id))
    }
}

impl fmt::Debug for SealKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealKey").field("id", &self.id()).finish_non_exhaustive()
    }
}

/// Seals and opens tokens.
#[derive(Debug, Clone)]
pub struct Sealer {
    first: SealKey,
    others: Vec<SealKey>,
}

impl Sealer {
    /// The first key seals, all of them open: put a new key first, and drop the old one when its tokens have expired.
    ///
    /// `None` without any key.
    pub fn new(keys: Vec<SealKey>) -> Option<Self> {
        let mut keys = keys.into_iter();
        let first = keys.next()?;
        Some(Self { first, others: keys.collect() })
    }

    /// Makes a token. `nonce` must be random and never used before.
    ///
    /// # Errors
    ///
    /// [`TokenError::Malformed`]: the content makes it longer than a header may be.
    pub fn seal(&self, session: &SealedSession, nonce: [u8; NONCE_BYTES]) -> Result<Secret, TokenError> {
        self.seal_value(session, session.kind.purpose(), nonce, TOKEN_BYTES_MAX).map(Secret::new)
    }

    /// Opens a token that must be of this kind and not past its end.
    ///
    /// # Errors
    ///
    /// Not ours, changed, of another kind, or expired.
    pub fn open(&self, token: &str, kind: TokenKind, now_ms: i64) -> Result<SealedSession, TokenError> {
        let session = self.open_ignoring_expiry(token, kind)?;
        if now_ms >= session.expires_ms { Err(TokenError::Expired) } else { Ok(session) }
    }

    /// Opens a token whatever the time: for logout and renewal, where the old session token may have ended.
    ///
    /// # Errors
    ///
    /// Not ours, changed, or of another kind.
    pub fn open_ignoring_expiry(&self, token: &str, kind: TokenKind) -> Result<SealedSession, TokenError> {
        let session: SealedSession = self.open_value(token, kind.purpose(), TOKEN_BYTES_MAX)?;
        if session.kind == kind { Ok(session) } else { Err(TokenError::Forged) }
    }

    /// Seals any value for one purpose.
    pub(crate) fn seal_value<T: Serialize>(
        &self,
        value: &T,
        purpose: &[u8],
        nonce: [u8; NONCE_BYTES],
        bytes_max: usize,
    ) -> Result<String, TokenError> {
        let plain = Zeroizing::new(serde_json::to_vec(value).map_err(|_| TokenError::Malformed)?);
        let payload = Payload { msg: &plain, aad: purpose };
        let cipher = XChaCha20Poly1305::new(Key::from_slice(self.first.key.as_slice()));
        let sealed = cipher.encrypt(XNonce::from_slice(&nonce), payload).map_err(|_| TokenError::Malformed)?;
        let bytes = [self.first.id.as_slice(), &nonce, &sealed].concat();
        let token = format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes));
        if token.len() > bytes_max { Err(TokenError::Malformed) } else { Ok(token) }
    }

    /// Opens what was sealed for this purpose.
    pub(crate) fn open_value<T: DeserializeOwned>(
        &self,
        token: &str,
        purpose: &[u8],
        bytes_max: usize,
    ) -> Result<T, TokenError> {
        let encoded = token.strip_prefix(PREFIX).filter(|_| token.len() <= bytes_max);
        let bytes = URL_SAFE_NO_PAD.decode(encoded.ok_or(TokenError::Malformed)?).map_err(|_| TokenError::Malformed)?;
        let (id, rest) = bytes.split_first_chunk::<KEY_ID_BYTES>().ok_or(TokenError::Malformed)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(TokenError::Malformed)?;
        let key =
            std::iter::once(&self.first).chain(&self.others).find(|key| key.id == *id).ok_or(TokenError::UnknownKey)?;
        let cipher = XChaCha20Poly1305::new(Key::from_slice(key.key.as_slice()));
        let payload = Payload { msg: sealed, aad: purpose };
        let plain = cipher.decrypt(XNonce::from_slice(nonce), payload).map_err(|_| TokenError::Forged)?;
        let plain = Zeroizing::new(plain);
        serde_json::from_slice(&plain).map_err(|_| TokenError::Malformed)
    }
}

/// The token of `Snowflake Token="…"`. Connectors send the word `None` when they have none, which is no token.
pub fn parse_authorization(header: &str) -> Option<&str> {
    let (scheme, rest) = header.trim_ascii().split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Snowflake") {
        return None;
    }
    let token = rest.trim_ascii().strip_prefix("Token=\"")?.strip_suffix('"')?;
    // Looked at to the end, and without a branch: the processor then takes many bytes at a time.
    let unsound = |byte: u8| u8::from(byte.wrapping_sub(b'!') > b'~' - b'!') | u8::from(byte == b'"');
    let sound = token.bytes().fold(0, |found, byte| found | unsound(byte)) == 0;
    (sound && !token.is_empty() && token.len() <= TOKEN_BYTES_MAX && token != "None").then_some(token)
}

pub(crate) mod secret_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::Secret;

    pub(crate) fn serialize<S: Serializer>(secret: &Secret, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(secret.expose())
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Secret, D::Error> {
        String::deserialize(deserializer).map(Secret::new)
    }
}

mod optional_secret_text {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::Secret;

    #[expect(clippy::ref_option, reason = "serde's `with` passes a reference to the field")]
    pub(super) fn serialize<S: Serializer>(secret: &Option<Secret>, serializer: S) -> Result<S::Ok, S::Error> {
        match secret {
            Some(secret) => serializer.serialize_some(secret.expose()),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Secret>, D::Error> {
        Option::<String>::deserialize(deserializer).map(|text| text.map(Secret::new))
    }
}
