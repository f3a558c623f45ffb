use icegate_pdp_model::{Code, Reason};
use thiserror::Error;

/// Why a token proves nothing. Holds no part of the token but names of claims, keys and the issuer we trust.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum IdentityError {
    /// Over [`crate::TOKEN_BYTES_MAX`].
    #[error("the token is longer than {} bytes", crate::TOKEN_BYTES_MAX)]
    TooLong,
    /// Not a compact JWS of JSON objects without second meanings.
    #[error("the token is not a signed JWT: {0}")]
    Malformed(&'static str),
    /// A header that would change which key is used or how the token is read.
    #[error("the token carries the header `{0}`")]
    HeaderRefused(&'static str),
    /// `alg` is not on the issuer's list, or does not fit the key it names.
    #[error("the token's algorithm is not allowed")]
    AlgorithmRefused,
    /// `iss` is not one we trust.
    #[error("the token's issuer is not trusted")]
    UnknownIssuer,
    /// The issuer's key set has no such key. It may have been added since.
    #[error("the keys of `{issuer}` do not include the token's key")]
    UnknownKey {
        /// `iss`, as configured.
        issuer: String,
        /// The key id the token names: as sent, not verified.
        kid: String,
    },
    /// The issuer has several keys and the token names none.
    #[error("the token names no key and the issuer has several")]
    KeyNotNamed,
    /// The issuer's keys have not been fetched, or are too old to be believed.
    #[error("the keys of `{0}` are not available")]
    KeysUnavailable(String),
    /// The signature does not hold.
    #[error("the token's signature does not hold")]
    Signature,
    /// `typ` is not one the issuer's access tokens have.
    #[error("the token's type is none of `{0}`")]
    TokenType(String),
    /// Past its `exp`.
    #[error("the token has expired")]
    Expired,
    /// Issued longer ago than the issuer's tokens may live here.
    #[error("the token was issued more than {seconds_max} s ago")]
    TooOld {
        /// The configured limit.
        seconds_max: i64,
    },
    /// A time that lies in the future.
    #[error("the token's `{0}` is in the future")]
    NotYetValid(&'static str),
    /// Made for somebody else.
    #[error("the token's audience holds none of `{0}`")]
    Audience(String),
    /// A claim that has to be there is not.
    #[error("the token has no claim `{0}`")]
    ClaimMissing(String),
    /// A claim is there but is not what it has to be.
    #[error("the token's claim `{0}` is not usable")]
    ClaimInvalid(String),
    /// The token has more groups than it can carry and points elsewhere for them.
    #[error("the token leaves out its groups (`_claim_names`)")]
    GroupsOverage,
}

impl IdentityError {
    /// The stable code shown to the caller.
    pub fn code(&self) -> Code {
        match self {
            Self::Expired | Self::TooOld { .. } => Code::IdentityExpired,
            Self::TooLong
            | Self::Malformed(_)
            | Self::HeaderRefused(_)
            | Self::AlgorithmRefused
            | Self::UnknownIssuer
            | Self::UnknownKey { .. }
            | Self::KeyNotNamed
            | Self::KeysUnavailable(_)
            | Self::Signature
            | Self::TokenType(_)
            | Self::NotYetValid(_)
            | Self::Audience(_)
            | Self::ClaimMissing(_)
            | Self::ClaimInvalid(_)
            | Self::GroupsOverage => Code::IdentityInvalid,
        }
    }

    /// The refusal as the caller sees it.
    pub fn reason(&self) -> Reason {
        Reason::new(self.code(), self.sentence())
    }

    /// One sentence that says what to do.
    pub fn sentence(&self) -> String {
        match self {
            Self::TooLong => format!(
                "The token is longer than {} bytes; ask your identity provider for one with fewer claims.",
                crate::TOKEN_BYTES_MAX
            ),
            Self::Malformed(what) => format!(
                "What was sent is not a signed token ({what}); send the access token of your identity provider as the \
                 password or OAuth token."
            ),
            Self::HeaderRefused(name) => {
                format!("The token carries the header `{name}`, which is never accepted; get a token without it.")
            }
            Self::AlgorithmRefused => "The token is signed in a way that is not accepted here; ask your administrator \
                                       which algorithms icegate allows for your identity provider."
                .into(),
            Self::UnknownIssuer => {
                "The token comes from an issuer icegate does not trust; sign in with your company's \
                                    identity provider."
                    .into()
            }
            Self::UnknownKey { .. } => {
                "The token is signed with a key its issuer does not publish; sign in again to get a new token.".into()
            }
            Self::KeyNotNamed => {
                "The token does not say which key signed it; ask your identity provider's administrator for tokens \
                 with a `kid`."
                    .into()
            }
            Self::KeysUnavailable(_) => "The issuer's keys cannot be fetched, so no token of it can be checked; try \
                                         again in a minute and tell your icegate administrator if it stays."
                .into(),
            Self::Signature => "The token's signature does not hold; sign in again to get a new token.".into(),
            Self::TokenType(wanted) => {
                format!("The token is of the wrong type; send an access token (`{wanted}`), not an ID token.")
            }
            Self::Expired => "The token has expired; sign in again.".into(),
            Self::TooOld { .. } => "The token was issued too long ago; sign in again.".into(),
            Self::NotYetValid(_) => {
                "The token is not valid yet; check that the clocks of your identity provider and icegate agree.".into()
            }
            Self::Audience(wanted) => {
                format!("The token was made for another service; ask for one with the audience `{wanted}`.")
            }
            Self::ClaimMissing(claim) => {
                format!("The token has no claim `{claim}`; ask your identity provider's administrator to add it.")
            }
            Self::ClaimInvalid(claim) => format!(
                "The token's claim `{claim}` is not usable; ask your identity provider's administrator to correct it."
            ),
            Self::GroupsOverage => "You are in more groups than a token can carry, so icegate cannot tell which; ask \
                                    your identity provider's administrator to send only the groups icegate needs."
                .into(),
        }
    }
}
