use std::collections::{BTreeSet, HashMap};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::{ClaimMapping, KeySet};

/// Most seconds that an issuer's clock may be apart from ours.
pub const LEEWAY_SECONDS_MAX: i64 = 60;
/// Longest short name of an issuer, in characters.
const NAME_CHARS_MAX: usize = 64;

/// What is accepted from one issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// Short name, the first part of every principal id: letters, digits, `.`, `-`, `_`.
    pub name: String,
    /// `iss`, compared byte for byte.
    pub issuer: String,
    /// `aud` must hold at least one of these.
    pub audiences: Vec<String>,
    /// Signature algorithms accepted.
    pub algorithms: Vec<Algorithm>,
    /// How claims become a principal.
    pub claims: ClaimMapping,
    /// How far the issuer's clock may be apart from ours, 0 to 60.
    pub leeway_seconds: i64,
    /// Tokens issued longer ago are refused whatever their `exp` says. `None` = only `exp` counts.
    pub token_age_seconds_max: Option<i64>,
    /// `typ` must be one of these, for example `at+jwt`, so that an ID token is no access token. Empty = any.
    pub token_types: Vec<String>,
}

/// Signature algorithms there are. Symmetric ones and `none` are no values of this type, so no configuration allows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Algorithm {
    /// RSA PKCS #1 v1.5 with SHA-256.
    #[serde(rename = "RS256")]
    Rs256,
    /// RSA PSS with SHA-256.
    #[serde(rename = "PS256")]
    Ps256,
    /// ECDSA on P-256 with SHA-256.
    #[serde(rename = "ES256")]
    Es256,
    /// ECDSA on P-384 with SHA-384.
    #[serde(rename = "ES384")]
    Es384,
    /// Ed25519.
    #[serde(rename = "EdDSA")]
    EdDsa,
}

impl Algorithm {
    /// Every algorithm.
    pub const ALL: [Self; 5] = [Self::Rs256, Self::Ps256, Self::Es256, Self::Es384, Self::EdDsa];

    /// As written in a token's header.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rs256 => "RS256",
            Self::Ps256 => "PS256",
            Self::Es256 => "ES256",
            Self::Es384 => "ES384",
            Self::EdDsa => "EdDSA",
        }
    }

    pub(crate) fn from_header(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == text)
    }

    pub(crate) fn for_signature(self) -> jsonwebtoken::Algorithm {
        match self {
            Self::Rs256 => jsonwebtoken::Algorithm::RS256,
            Self::Ps256 => jsonwebtoken::Algorithm::PS256,
            Self::Es256 => jsonwebtoken::Algorithm::ES256,
            Self::Es384 => jsonwebtoken::Algorithm::ES384,
            Self::EdDsa => jsonwebtoken::Algorithm::EdDSA,
        }
    }
}

/// The issuers we trust, each with its keys.
#[derive(Debug, Clone, Default)]
pub struct Trust {
    by_iss: HashMap<String, (Issuer, KeySet)>,
}

/// Why a set of issuers cannot be trusted as it is configured.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TrustError {
    /// The short name does not fit a principal id.
    #[error("issuer name `{0}` is not 1 to {NAME_CHARS_MAX} letters, digits, `.`, `-` or `_`")]
    Name(String),
    /// Two issuers share a short name.
    #[error("two issuers are named `{0}`; principals of both would be the same")]
    DuplicateName(String),
    /// Two issuers share an `iss`.
    #[error("two issuers have the `iss` `{0}`")]
    DuplicateIssuer(String),
    /// A list that must not be empty is.
    #[error("issuer `{issuer}` has no {what}")]
    Empty {
        /// Short name.
        issuer: String,
        /// What is missing.
        what: &'static str,
    },
    /// A number is out of its range.
    #[error("issuer `{issuer}`: `{what}` is {given}, not in {range}")]
    Range {
        /// Short name.
        issuer: String,
        /// Which number.
        what: &'static str,
        /// Its value.
        given: i64,
        /// What it may be.
        range: &'static str,
    },
}

impl Trust {
    /// Trusts these issuers.
    ///
    /// # Errors
    ///
    /// When the configuration of one, or of all together, is not sound.
    pub fn new(issuers: Vec<(Issuer, KeySet)>) -> Result<Self, TrustError> {
        let mut names = BTreeSet::new();
        let mut by_iss = HashMap::with_capacity(issuers.len());
        for (issuer, keys) in issuers {
            issuer.check()?;
            if !names.insert(issuer.name.clone()) {
                return Err(TrustError::DuplicateName(issuer.name));
            }
            if by_iss.contains_key(&issuer.issuer) {
                return Err(TrustError::DuplicateIssuer(issuer.issuer));
            }
            by_iss.insert(issuer.issuer.clone(), (issuer, keys));
        }
        Ok(Self { by_iss })
    }

    /// The issuer of exactly this `iss`.
    pub fn issuer(&self, iss: &str) -> Option<(&Issuer, &KeySet)> {
        self.by_iss.get(iss).map(|(issuer, keys)| (issuer, keys))
    }
}

impl Issuer {
    /// Holds the configuration to its rules.
    ///
    /// # Errors
    ///
    /// Naming the first rule that it breaks.
    pub fn check(&self) -> Result<(), TrustError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if self.name.is_empty() || self.name.len() > NAME_CHARS_MAX || !self.name.chars().all(plain) {
            return Err(TrustError::Name(self.name.clone()));
        }
        let empty = |what| Err(TrustError::Empty { issuer: self.name.clone(), what });
        if self.issuer.is_empty() {
            return empty("`issuer` (the `iss` of its tokens)");
        }
        if self.audiences.is_empty() || self.audiences.iter().any(String::is_empty) {
            return empty("audience");
        }
        if self.algorithms.is_empty() {
            return empty("algorithm");
        }
        if self.claims.principal.is_empty() {
            return empty("claim for the principal");
        }
        if !(0..=LEEWAY_SECONDS_MAX).contains(&self.leeway_seconds) {
            return Err(TrustError::Range {
                issuer: self.name.clone(),
                what: "leeway_seconds",
                given: self.leeway_seconds,
                range: "0 to 60",
            });
        }
        match self.token_age_seconds_max {
            Some(given) if given < 1 => Err(TrustError::Range {
                issuer: self.name.clone(),
                what: "token_age_seconds_max",
                given,
                range: "1 or more",
            }),
            Some(_) | None => Ok(()),
        }
    }
}
