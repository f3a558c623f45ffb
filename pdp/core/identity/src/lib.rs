//! Who does this token speak for?
//!
//! A token, the issuers' keys and the time come in; a [`Verified`] principal or an [`IdentityError`] goes out. Signatures
//! are checked by `jsonwebtoken`; everything else (times, issuer, audience, claims) is checked here against the `now`
//! that is given, so that the same question always has the same answer.
//!
//! ```
//! use icegate_pdp_identity::{Algorithm, ClaimMapping, Issuer, KeySet, Trust, verify};
//! use icegate_pdp_model::{Code, Timestamp};
//!
//! let issuer = Issuer {
//!     name: "corp".into(),
//!     issuer: "https://login.example.com".into(),
//!     audiences: vec!["icegate".into()],
//!     algorithms: vec![Algorithm::Es256],
//!     claims: ClaimMapping { groups: Some("groups".into()), ..ClaimMapping::default() },
//!     leeway_seconds: 30,
//!     token_age_seconds_max: None,
//!     token_types: Vec::new(),
//! };
//! let keys = KeySet::from_jwks_json(br#"{"keys":[{"kty":"EC","crv":"P-256","kid":"k1",
//!     "x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#)?;
//! let trust = Trust::new(vec![(issuer, keys)])?;
//! let refused = verify("not a token", &trust, Timestamp(0)).unwrap_err();
//! assert_eq!(refused.code(), Code::IdentityInvalid);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! In reading order: [`verify`] and its refusals, the configuration it trusts ([`Issuer`], [`Trust`]), the keys
//! ([`KeySet`]), how claims become a principal ([`ClaimMapping`]), and JSON without second meanings.

mod claims;
mod error;
mod issuer;
mod key;
mod strict_json;
mod verify;

pub use claims::{ClaimMapping, GROUPS_MAX, NAME_CHARS_MAX};
pub use error::IdentityError;
pub use issuer::{Algorithm, Issuer, LEEWAY_SECONDS_MAX, Trust, TrustError};
pub use key::{KeyError, KeySet};
pub use verify::{TOKEN_BYTES_MAX, Verified, verify};
