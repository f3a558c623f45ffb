//! The identity provider's words: its metadata, the way to it, and what it answers for a code.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};

use super::same;
use crate::{
    Secret,
    json::{self, Bounds},
    limits::CREDENTIAL_BYTES_MAX,
    refusal::one_line,
    upstream::encoded,
};

/// A provider's documents are small and flat.
const BOUNDS: Bounds = Bounds { depth_max: 16, values_max: 4096 };
/// Characters of a name shown to a person, and of a word of the provider.
const SHOWN_CHARS_MAX: usize = 100;

/// What is wrong with an answer of the provider. For the log; nothing of it is secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// Not JSON, or not an object.
    #[error("its answer is not a JSON object")]
    NotJson,
    /// A field that has to be there.
    #[error("`{0}` is missing or no text")]
    Missing(&'static str),
    /// Metadata of somebody else.
    #[error("it speaks for the issuer `{0}`")]
    OtherIssuer(String),
    /// It says which methods it has, and S256 is none of them.
    #[error("it does not know PKCE with S256")]
    NoPkce,
    /// RFC 6749 §5.2.
    #[error("it refused the code: `{0}`")]
    Refused(String),
    /// The ID token cannot be read, or says something else than it must.
    #[error("its ID token {0}")]
    IdToken(&'static str),
}

/// What a provider says of itself (OpenID Connect Discovery 1.0 §3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Where browsers are sent.
    pub authorization_endpoint: String,
    /// Where codes are exchanged.
    pub token_endpoint: String,
    /// It always says who answers (RFC 9207), so an answer that does not is none of its.
    pub names_itself: bool,
    /// A client proves itself in a header, else in the form.
    pub basic: bool,
}

impl Provider {
    /// Reads the metadata, which must be of exactly this issuer.
    ///
    /// # Errors
    ///
    /// Of another issuer, without an endpoint, or of a provider without PKCE.
    pub fn parse(document: &[u8], issuer: &str) -> Result<Self, ProviderError> {
        let document = object(document)?;
        let named = text(&document, "issuer")?;
        if named != issuer {
            return Err(ProviderError::OtherIssuer(one_line(named, SHOWN_CHARS_MAX)));
        }
        if listed(&document, "code_challenge_methods_supported", "S256") == Some(false) {
            return Err(ProviderError::NoPkce);
        }
        Ok(Self {
            authorization_endpoint: text(&document, "authorization_endpoint")?.to_owned(),
            token_endpoint: text(&document, "token_endpoint")?.to_owned(),
            names_itself: document.get("authorization_response_iss_parameter_supported") == Some(&Value::Bool(true)),
            // The default where it does not say (RFC 8414 §2).
            basic: listed(&document, "token_endpoint_auth_methods_supported", "client_secret_basic") != Some(false),
        })
    }
}

/// What the browser is sent to the provider with.
#[derive(Debug, Clone, Copy)]
pub struct Authorization<'a> {
    /// Who we are there.
    pub client_id: &'a str,
    /// Where it sends the browser back to.
    pub redirect_uri: &'a str,
    /// Separated by spaces.
    pub scope: &'a str,
    /// Sealed.
    pub state: &'a str,
    /// What the ID token must repeat.
    pub nonce: &'a Secret,
    /// Of which the challenge is made.
    pub verifier: &'a Secret,
    /// Whom the driver says it is for; empty if it does not.
    pub login_name: &'a str,
}

impl Authorization<'_> {
    /// The address at the provider.
    pub fn url(&self, provider: &Provider) -> String {
        let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(self.verifier.expose()));
        let mut parameters = vec![
            ("response_type", "code"),
            ("client_id", self.client_id),
            ("redirect_uri", self.redirect_uri),
            ("scope", self.scope),
            ("state", self.state),
            ("nonce", self.nonce.expose()),
            ("code_challenge", &challenge),
            ("code_challenge_method", "S256"),
        ];
        if !self.login_name.is_empty() {
            parameters.push(("login_hint", self.login_name));
        }
        let start = &provider.authorization_endpoint;
        format!("{start}{}{}", if start.contains('?') { '&' } else { '?' }, form(&parameters))
    }
}

/// The request that exchanges a code: its body, and the `Authorization` it goes with.
pub fn token_request(
    provider: &Provider,
    sent: &Authorization<'_>,
    code: &str,
    client_secret: Option<&Secret>,
) -> (Secret, Option<Secret>) {
    let mut parameters = vec![
        ("grant_type", "authorization_code"),
        ("code", code),
        ("redirect_uri", sent.redirect_uri),
        ("code_verifier", sent.verifier.expose()),
    ];
    let header = client_secret.filter(|_| provider.basic).map(|secret| {
        // Both parts are form-encoded first (RFC 6749 §2.3.1).
        let both = Secret::new(format!("{}:{}", encoded(sent.client_id), encoded(secret.expose())));
        Secret::new(format!("Basic {}", STANDARD.encode(both.expose())))
    });
    if header.is_none() {
        parameters.push(("client_id", sent.client_id));
        parameters.extend(client_secret.map(|secret| ("client_secret", secret.expose())));
    }
    (Secret::new(form(&parameters)), header)
}

/// Which of a provider's tokens a session is opened with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WhichToken {
    /// Its audience is the client.
    #[default]
    Id,
    /// Its audience is what the provider was told.
    Access,
}

/// What the ID token must say.
#[derive(Debug, Clone, Copy)]
pub struct IdToken<'a> {
    /// `iss`.
    pub issuer: &'a str,
    /// In `aud`.
    pub client_id: &'a str,
    /// `nonce`.
    pub nonce: &'a Secret,
    /// Unix seconds that must lie before `exp`.
    pub now_s: i64,
}

/// What a provider gave for a code.
#[derive(Debug, Clone)]
pub struct Granted {
    /// The token to open a session with.
    pub token: Secret,
    /// Whose it is, for the person who just signed in.
    pub name: String,
}

/// Reads the answer of the token endpoint.
///
/// The ID token's signature is not verified: it came from the provider itself (OpenID Connect Core 1.0 §3.1.3.7, 6), and the
/// token the session is opened with is verified by the PDP, like any other.
///
/// # Errors
///
/// The provider refused the code, or its ID token is not for this sign-in.
pub fn grant(answer: &[u8], which: WhichToken, expected: &IdToken<'_>) -> Result<Granted, ProviderError> {
    let answer = object(answer)?;
    if let Some(error) = answer.get("error") {
        return Err(ProviderError::Refused(word(error.as_str().unwrap_or_default())));
    }
    let id_token = text(&answer, "id_token")?;
    let name = check(id_token, expected)?;
    let token = match which {
        WhichToken::Id => id_token,
        WhichToken::Access => text(&answer, "access_token")?,
    };
    if token.len() > CREDENTIAL_BYTES_MAX || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ProviderError::IdToken("or access token is longer than a credential may be"));
    }
    Ok(Granted { token: Secret::new(token), name })
}

/// Checks an ID token's claims and gives the person's name.
fn check(token: &str, expected: &IdToken<'_>) -> Result<String, ProviderError> {
    let wrong = |what| Err(ProviderError::IdToken(what));
    let mut parts = token.split('.');
    let (Some(_), Some(claims), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return wrong("is no JWT");
    };
    let Ok(claims) = URL_SAFE_NO_PAD.decode(claims) else { return wrong("is no JWT") };
    let Ok(claims) = object(&claims) else { return wrong("is no JWT") };
    let claim = |name: &str| claims.get(name).and_then(Value::as_str).unwrap_or_default();
    let audience = match claims.get("aud") {
        Some(Value::String(one)) => one == expected.client_id,
        Some(Value::Array(all)) => {
            let ours = all.iter().any(|one| one.as_str() == Some(expected.client_id));
            ours && (all.len() == 1 || claim("azp") == expected.client_id)
        }
        _ => false,
    };
    if claim("iss") != expected.issuer {
        return wrong("is of another issuer");
    }
    if !audience {
        return wrong("is for another client");
    }
    if expected.nonce.is_empty() || !same(claim("nonce"), expected.nonce.expose()) {
        return wrong("has another nonce");
    }
    if claims.get("exp").and_then(Value::as_f64).is_none_or(|exp| exp <= seconds(expected.now_s)) {
        return wrong("has expired");
    }
    let name = ["email", "preferred_username", "sub"].into_iter().map(claim).find(|name| !name.is_empty());
    Ok(one_line(name.unwrap_or_default(), SHOWN_CHARS_MAX))
}

#[expect(clippy::cast_precision_loss, reason = "seconds of this millennium are whole in a double")]
fn seconds(at: i64) -> f64 {
    at as f64
}

/// A provider's word for an error, when it is one: whoever made the address of the page may have made it up.
pub(super) fn word(error: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'_';
    if !error.is_empty() && error.len() <= 64 && error.bytes().all(plain) { error.to_owned() } else { "?".to_owned() }
}

fn object(document: &[u8]) -> Result<Map<String, Value>, ProviderError> {
    match json::parse(document, BOUNDS) {
        Ok(Value::Object(map)) => Ok(map),
        Ok(_) | Err(_) => Err(ProviderError::NotJson),
    }
}

fn text<'a>(document: &'a Map<String, Value>, field: &'static str) -> Result<&'a str, ProviderError> {
    document.get(field).and_then(Value::as_str).filter(|text| !text.is_empty()).ok_or(ProviderError::Missing(field))
}

/// Whether a list has this in it; `None` without a list.
fn listed(document: &Map<String, Value>, field: &str, wanted: &str) -> Option<bool> {
    let list = document.get(field)?.as_array()?;
    Some(list.iter().any(|one| one.as_str() == Some(wanted)))
}

fn form(parameters: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
    pairs.join("&")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use serde_json::json;

    use super::*;

    const ISSUER: &str = "https://id.example.com";

    fn metadata(more: &Value) -> Vec<u8> {
        let mut document = json!({
            "issuer": ISSUER, "authorization_endpoint": "https://id.example.com/auth", "token_endpoint": "https://id.example.com/token",
        });
        document.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        document.to_string().into_bytes()
    }

    #[test]
    fn metadata_is_of_the_issuer_and_has_pkce() {
        let read = |more: Value| Provider::parse(&metadata(&more), ISSUER);
        let plain = read(json!({})).unwrap();
        assert!(plain.basic && !plain.names_itself);
        assert!(read(json!({ "code_challenge_methods_supported": ["S256"] })).is_ok());
        assert_eq!(read(json!({ "code_challenge_methods_supported": ["plain"] })), Err(ProviderError::NoPkce));
        assert!(!read(json!({ "token_endpoint_auth_methods_supported": ["client_secret_post"] })).unwrap().basic);
        assert!(read(json!({ "authorization_response_iss_parameter_supported": true })).unwrap().names_itself);
        assert!(matches!(read(json!({ "issuer": "https://id.example.com/" })), Err(ProviderError::OtherIssuer(_))));
        assert_eq!(read(json!({ "token_endpoint": null })), Err(ProviderError::Missing("token_endpoint")));
        assert_eq!(Provider::parse(b"[]", ISSUER), Err(ProviderError::NotJson));
    }

    #[test]
    fn the_way_to_the_provider_is_encoded() {
        let provider = Provider::parse(&metadata(&json!({})), ISSUER).unwrap();
        let (nonce, verifier) = (Secret::new("n"), Secret::new("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"));
        let sent = Authorization {
            client_id: "ice&gate",
            redirect_uri: "https://pep/console/login/callback",
            scope: "openid email",
            state: "ig1.s",
            nonce: &nonce,
            verifier: &verifier,
            login_name: "ana&prompt=none",
        };
        // The challenge is RFC 7636's own example.
        assert_eq!(
            sent.url(&provider),
            "https://id.example.com/auth?response_type=code&client_id=ice%26gate&redirect_uri=https%3A%2F%2Fpep%2Fconsole%2Flogin%2Fcallback\
             &scope=openid%20email&state=ig1.s&nonce=n&code_challenge=E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM\
             &code_challenge_method=S256&login_hint=ana%26prompt%3Dnone"
        );
        let secret = Secret::new("s:c");
        let (body, header) = token_request(&provider, &sent, "c&d", Some(&secret));
        assert!(body.expose().starts_with("grant_type=authorization_code&code=c%26d&"));
        assert!(!body.expose().contains("client_secret"));
        assert_eq!(header.unwrap().expose(), format!("Basic {}", STANDARD.encode("ice%26gate:s%3Ac")));
        let (body, header) = token_request(&Provider { basic: false, ..provider }, &sent, "c", Some(&secret));
        assert!(header.is_none() && body.expose().ends_with("&client_id=ice%26gate&client_secret=s%3Ac"));
    }

    #[test]
    fn an_id_token_is_for_this_sign_in() {
        let nonce = Secret::new("the-nonce");
        let expected = IdToken { issuer: ISSUER, client_id: "icegate", nonce: &nonce, now_s: 1_000 };
        let good = json!({ "iss": ISSUER, "aud": "icegate", "nonce": "the-nonce", "exp": 1_001, "sub": "ana" });
        let given = |change: &Value| {
            let mut claims = good.clone();
            claims.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
            let token = format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()));
            let answer = json!({ "id_token": token, "access_token": "at" }).to_string();
            grant(answer.as_bytes(), WhichToken::Access, &expected)
        };
        assert_eq!(given(&json!({})).unwrap().token.expose(), "at");
        assert_eq!(given(&json!({ "email": "a\n@x" })).unwrap().name, "a @x");
        assert!(given(&json!({ "aud": ["icegate", "b"], "azp": "icegate" })).is_ok());
        for wrong in [
            json!({ "iss": "https://evil.example" }),
            json!({ "aud": "somebody" }),
            json!({ "aud": ["icegate", "b"] }),
            json!({ "aud": [] }),
            json!({ "nonce": "another" }),
            json!({ "nonce": null }),
            json!({ "exp": 1_000 }),
            json!({ "exp": "never" }),
        ] {
            assert!(matches!(given(&wrong), Err(ProviderError::IdToken(_))), "{wrong}");
        }
        for (answer, is) in [
            (r#"{"error":"invalid_grant","id_token":"x"}"#, ProviderError::Refused("invalid_grant".to_owned())),
            (r#"{"error":"<script>"}"#, ProviderError::Refused("?".to_owned())),
            ("{}", ProviderError::Missing("id_token")),
            (r#"{"id_token":"a.b"}"#, ProviderError::IdToken("is no JWT")),
            ("<html>", ProviderError::NotJson),
        ] {
            assert_eq!(grant(answer.as_bytes(), WhichToken::Id, &expected).unwrap_err(), is);
        }
    }
}
