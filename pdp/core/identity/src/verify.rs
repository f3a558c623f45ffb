use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use icegate_pdp_model::{Principal, Timestamp};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use crate::{Algorithm, IdentityError, Issuer, KeySet, Trust, claims, strict_json};

/// Longest token read, in bytes.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Headers by which a token would bring its own key or change how it is read. Never followed.
const HEADERS_REFUSED: [&str; 6] = ["jku", "x5u", "x5c", "jwk", "crit", "b64"];
/// 9999-12-31T23:59:59Z: later times are not times.
const UNIX_SECONDS_MAX: i64 = 253_402_300_799;

/// A token whose signature, times, issuer, audience and claims all hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Who it speaks for.
    pub principal: Principal,
    /// `iat`: a revocation of the principal refuses every token issued before it.
    pub issued: Timestamp,
    /// `exp`, without leeway.
    pub expires: Timestamp,
    /// SHA-256 of the token's text: names the token in records without giving it away.
    pub token_sha256: [u8; 32],
}

/// Verifies a token as of `now`.
///
/// # Errors
///
/// On anything that is not exactly as it should be. [`IdentityError::UnknownKey`] is the one a caller may answer by
/// fetching the issuer's keys again and asking once more.
pub fn verify(token: &str, trust: &Trust, now: Timestamp) -> Result<Verified, IdentityError> {
    if token.len() > TOKEN_BYTES_MAX {
        return Err(IdentityError::TooLong);
    }
    let jws = Parts::split(token)?;
    let header = Header::read(&decode_object(jws.header)?)?;
    let claims = decode_object(jws.payload)?;
    let (issuer, keys) = trusted(&claims, trust)?;
    check_signature(&jws, &header, issuer, keys)?;
    check_type(&header, issuer)?;
    let (since, until) = check_times(&claims, issuer, now)?;
    check_audience(&claims, issuer)?;
    let principal = claims::principal(&claims, issuer)?;
    Ok(Verified { principal, issued: since, expires: until, token_sha256: Sha256::digest(token.as_bytes()).into() })
}

/// The three parts of a compact JWS.
struct Parts<'a> {
    header: &'a str,
    payload: &'a str,
    signature: &'a str,
    signed: &'a str,
}

impl<'a> Parts<'a> {
    fn split(token: &'a str) -> Result<Self, IdentityError> {
        let (signed, signature) = token.rsplit_once('.').ok_or(IdentityError::Malformed("it has no signature"))?;
        let (header, payload) = signed.split_once('.').ok_or(IdentityError::Malformed("it has no payload"))?;
        if payload.contains('.') {
            return Err(IdentityError::Malformed("it has more than three parts"));
        }
        Ok(Self { header, payload, signature, signed })
    }
}

fn decode_object(part: &str) -> Result<Map<String, Value>, IdentityError> {
    let bytes = URL_SAFE_NO_PAD.decode(part).map_err(|_| IdentityError::Malformed("a part is not base64url"))?;
    strict_json::object(&bytes).map_err(|error| match error {
        strict_json::StrictError::Duplicate => IdentityError::Malformed("a name occurs twice in one object"),
        strict_json::StrictError::NotAnObject => IdentityError::Malformed("a part is not a JSON object"),
    })
}

struct Header {
    algorithm: Algorithm,
    kid: Option<String>,
    token_type: Option<String>,
}

impl Header {
    fn read(header: &Map<String, Value>) -> Result<Self, IdentityError> {
        if let Some(refused) = HEADERS_REFUSED.into_iter().find(|name| header.contains_key(*name)) {
            return Err(IdentityError::HeaderRefused(refused));
        }
        let algorithm = header
            .get("alg")
            .and_then(Value::as_str)
            .and_then(Algorithm::from_header)
            .ok_or(IdentityError::AlgorithmRefused)?;
        let text = |name: &str| match header.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(IdentityError::Malformed("a header is not a text")),
        };
        Ok(Self { algorithm, kid: text("kid")?, token_type: text("typ")? })
    }
}

/// The issuer this token says it is from. Not yet believed: only the signature proves it.
fn trusted<'a>(claims: &Map<String, Value>, trust: &'a Trust) -> Result<(&'a Issuer, &'a KeySet), IdentityError> {
    let named = claims.get("iss").and_then(Value::as_str).ok_or(IdentityError::ClaimMissing("iss".into()))?;
    trust.issuer(named).ok_or(IdentityError::UnknownIssuer)
}

fn check_signature(parts: &Parts<'_>, header: &Header, issuer: &Issuer, keys: &KeySet) -> Result<(), IdentityError> {
    if !issuer.algorithms.contains(&header.algorithm) {
        return Err(IdentityError::AlgorithmRefused);
    }
    if keys.is_empty() {
        return Err(IdentityError::KeysUnavailable(issuer.issuer.clone()));
    }
    let key = match &header.kid {
        Some(kid) => keys
            .by_kid(kid)
            .ok_or_else(|| IdentityError::UnknownKey { issuer: issuer.issuer.clone(), kid: kid.clone() })?,
        None => keys.only().ok_or(IdentityError::KeyNotNamed)?,
    };
    // INVARIANT: the key says what it may verify, not the token: no RSA key ever checks an HMAC.
    if !key.fits(header.algorithm) {
        return Err(IdentityError::AlgorithmRefused);
    }
    let holds = jsonwebtoken::crypto::verify(
        parts.signature,
        parts.signed.as_bytes(),
        key.decoding(),
        header.algorithm.for_signature(),
    );
    match holds {
        Ok(true) => Ok(()),
        Ok(false) | Err(_) => Err(IdentityError::Signature),
    }
}

fn check_type(header: &Header, issuer: &Issuer) -> Result<(), IdentityError> {
    if issuer.token_types.is_empty() {
        return Ok(());
    }
    let plain = |text: &str| {
        let lower = text.to_ascii_lowercase();
        lower.strip_prefix("application/").map(str::to_owned).unwrap_or(lower)
    };
    let given = header.token_type.as_deref().map(plain);
    let wanted = issuer.token_types.iter().any(|wanted| given.as_deref() == Some(plain(wanted).as_str()));
    if wanted { Ok(()) } else { Err(IdentityError::TokenType(issuer.token_types.join("`, `"))) }
}

fn check_times(
    claims: &Map<String, Value>,
    issuer: &Issuer,
    now: Timestamp,
) -> Result<(Timestamp, Timestamp), IdentityError> {
    let leeway = issuer.leeway_seconds.clamp(0, crate::LEEWAY_SECONDS_MAX);
    let required = |name: &'static str| time(claims, name)?.ok_or(IdentityError::ClaimMissing(name.into()));
    let until = required("exp")?;
    let since = required("iat")?;
    if until <= since {
        return Err(IdentityError::ClaimInvalid("exp".into()));
    }
    if now >= until.plus_seconds(leeway) {
        return Err(IdentityError::Expired);
    }
    if since > now.plus_seconds(leeway) {
        return Err(IdentityError::NotYetValid("iat"));
    }
    if time(claims, "nbf")?.is_some_and(|not_before| not_before > now.plus_seconds(leeway)) {
        return Err(IdentityError::NotYetValid("nbf"));
    }
    match issuer.token_age_seconds_max {
        Some(age_max) if now >= since.plus_seconds(age_max.saturating_add(leeway)) => {
            Err(IdentityError::TooOld { seconds_max: age_max })
        }
        Some(_) | None => Ok((since, until)),
    }
}

/// A `NumericDate`: seconds since the epoch, possibly with a fraction (RFC 7519 §2).
fn time(claims: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, IdentityError> {
    let invalid = || IdentityError::ClaimInvalid(name.to_owned());
    let Some(value) = claims.get(name) else { return Ok(None) };
    let number = value.as_number().ok_or_else(invalid)?;
    let seconds = match (number.as_i64(), number.as_f64()) {
        (Some(seconds), _) => seconds,
        #[expect(clippy::cast_possible_truncation, reason = "a fraction of a second is dropped; the range is checked")]
        (None, Some(seconds)) if (0.0..1e12).contains(&seconds) => seconds.floor() as i64,
        (None, _) => return Err(invalid()),
    };
    if (0..=UNIX_SECONDS_MAX).contains(&seconds) { Ok(Some(Timestamp(seconds * 1000))) } else { Err(invalid()) }
}

fn check_audience(claims: &Map<String, Value>, issuer: &Issuer) -> Result<(), IdentityError> {
    let ours = |text: &str| issuer.audiences.iter().any(|audience| audience == text);
    let holds = match claims.get("aud") {
        None => return Err(IdentityError::ClaimMissing("aud".into())),
        Some(Value::String(audience)) => ours(audience),
        Some(Value::Array(audiences)) => {
            let texts: Option<Vec<&str>> = audiences.iter().map(Value::as_str).collect();
            texts.ok_or_else(|| IdentityError::ClaimInvalid("aud".into()))?.into_iter().any(ours)
        }
        Some(_) => return Err(IdentityError::ClaimInvalid("aud".into())),
    };
    if holds { Ok(()) } else { Err(IdentityError::Audience(issuer.audiences.join("`, `"))) }
}
