use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::DecodingKey;
use serde::Deserialize;
use thiserror::Error;

use crate::Algorithm;

/// Most keys one issuer may publish.
const KEYS_MAX: usize = 100;
/// Shortest and longest RSA modulus believed, in bytes: 2048 to 4096 bits.
const RSA_MODULUS_BYTES: std::ops::RangeInclusive<usize> = 256..=512;

/// The public keys of one issuer, parsed from its JWKS.
#[derive(Debug, Clone, Default)]
pub struct KeySet {
    keys: Vec<Key>,
}

/// Why a JWKS is not usable.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Not a JWKS at all.
    #[error("not a JWKS: {0}")]
    Json(String),
    /// No key of it can verify a signature we accept.
    #[error("the JWKS holds no usable signing key")]
    Empty,
    /// More keys than are read.
    #[error("the JWKS holds more than {KEYS_MAX} keys")]
    TooMany,
    /// Two keys have the same id.
    #[error("two keys of the JWKS have the `kid` `{0}`")]
    DuplicateKid(String),
    /// A private or symmetric key lies open.
    #[error("the JWKS holds a private or symmetric key; publish public keys only and replace this one")]
    Private,
}

impl KeySet {
    /// Reads a JWKS document (RFC 7517). Keys for other uses or of kinds not accepted here are left out.
    ///
    /// # Errors
    ///
    /// When it is no JWKS, when nothing usable is left, or when it gives away what has to stay secret.
    pub fn from_jwks_json(json: &[u8]) -> Result<Self, KeyError> {
        let document: Jwks = serde_json::from_slice(json).map_err(|error| KeyError::Json(error.to_string()))?;
        if document.keys.len() > KEYS_MAX {
            return Err(KeyError::TooMany);
        }
        if document.keys.iter().any(Jwk::is_secret) {
            return Err(KeyError::Private);
        }
        let keys: Vec<Key> = document.keys.iter().filter_map(Key::read).collect();
        if keys.is_empty() {
            return Err(KeyError::Empty);
        }
        for (index, key) in keys.iter().enumerate() {
            if let Some(kid) = &key.kid
                && keys.iter().skip(index + 1).any(|other| other.kid.as_ref() == Some(kid))
            {
                return Err(KeyError::DuplicateKid(kid.clone()));
            }
        }
        Ok(Self { keys })
    }

    /// Whether the set has a key of this id.
    pub fn contains(&self, kid: &str) -> bool {
        self.by_kid(kid).is_some()
    }

    /// Number of usable keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none: what an issuer whose keys were never fetched has.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    pub(crate) fn by_kid(&self, kid: &str) -> Option<&Key> {
        self.keys.iter().find(|key| key.kid.as_deref() == Some(kid))
    }

    /// The key, when there is exactly one.
    pub(crate) fn only(&self) -> Option<&Key> {
        match self.keys.as_slice() {
            [key] => Some(key),
            _ => None,
        }
    }
}

/// One public key and what it may verify.
#[derive(Clone)]
pub(crate) struct Key {
    kid: Option<String>,
    kind: Kind,
    algorithm: Option<Algorithm>,
    decoding: DecodingKey,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Rsa,
    P256,
    P384,
    Ed25519,
}

impl Key {
    /// Whether this key may check signatures of this algorithm.
    pub(crate) fn fits(&self, algorithm: Algorithm) -> bool {
        let kind = match algorithm {
            Algorithm::Rs256 | Algorithm::Ps256 => Kind::Rsa,
            Algorithm::Es256 => Kind::P256,
            Algorithm::Es384 => Kind::P384,
            Algorithm::EdDsa => Kind::Ed25519,
        };
        self.kind == kind && self.algorithm.is_none_or(|only| only == algorithm)
    }

    pub(crate) fn decoding(&self) -> &DecodingKey {
        &self.decoding
    }

    /// The key, or `None` when it is for something else.
    fn read(jwk: &Jwk) -> Option<Self> {
        if jwk.usage.as_deref().is_some_and(|usage| usage != "sig") {
            return None;
        }
        if jwk.key_ops.as_ref().is_some_and(|ops| !ops.iter().any(|op| op == "verify")) {
            return None;
        }
        let algorithm = match jwk.alg.as_deref() {
            None => None,
            // RFC 9864 names the curve where RFC 8037 named the family.
            Some("Ed25519") => Some(Algorithm::EdDsa),
            Some(text) => Some(Algorithm::from_header(text)?),
        };
        let (kind, decoding) = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("RSA", _) => {
                let (n, e) = (bytes(jwk.n.as_deref())?, bytes(jwk.e.as_deref())?);
                let modulus: Vec<u8> = n.into_iter().skip_while(|byte| *byte == 0).collect();
                if !RSA_MODULUS_BYTES.contains(&modulus.len()) {
                    return None;
                }
                (Kind::Rsa, DecodingKey::from_rsa_raw_components(&modulus, &e))
            }
            ("EC", Some("P-256")) => (Kind::P256, jwk.curve_key(32)?),
            ("EC", Some("P-384")) => (Kind::P384, jwk.curve_key(48)?),
            ("OKP", Some("Ed25519")) => {
                let x = bytes(jwk.x.as_deref()).filter(|x| x.len() == 32)?;
                (Kind::Ed25519, DecodingKey::from_ed_der(&x))
            }
            _ => return None,
        };
        let key = Self { kid: jwk.kid.clone(), kind, algorithm, decoding };
        // A key that contradicts itself (an RSA key for ES256) verifies nothing.
        algorithm.is_none_or(|algorithm| key.fits(algorithm)).then_some(key)
    }
}

/// Without the key itself: it is public, and of no use in a log.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("kid", &self.kid).field("kind", &self.kind).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    alg: Option<String>,
    crv: Option<String>,
    x: Option<String>,
    y: Option<String>,
    n: Option<String>,
    e: Option<String>,
    d: Option<serde::de::IgnoredAny>,
    k: Option<serde::de::IgnoredAny>,
}

impl Jwk {
    fn is_secret(&self) -> bool {
        self.d.is_some() || self.k.is_some() || self.kty == "oct"
    }

    /// An uncompressed point (SEC 1 §2.3.3) of two coordinates of this length.
    fn curve_key(&self, coordinate_bytes: usize) -> Option<DecodingKey> {
        let x = bytes(self.x.as_deref()).filter(|x| x.len() == coordinate_bytes)?;
        let y = bytes(self.y.as_deref()).filter(|y| y.len() == coordinate_bytes)?;
        Some(DecodingKey::from_ec_der(&[&[0x04], x.as_slice(), y.as_slice()].concat()))
    }
}

fn bytes(text: Option<&str>) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text?).ok().filter(|bytes| !bytes.is_empty())
}
