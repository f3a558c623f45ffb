//! A development issuer: a key made at start, a discovery document, a key set, and tokens for whoever is named.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use axum::Json;
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use p256::elliptic_curve::rand_core::OsRng;
use p256::elliptic_curve::sec1::ToEncodedPoint as _;
use p256::pkcs8::{EncodePrivateKey as _, LineEnding};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// The audience of every token.
pub const AUDIENCE: &str = "icegate";

/// The issuer's name in the PDP's configuration: principals are called `dev/<subject>`.
pub const NAME: &str = "dev";

/// Tokens are valid this long.
pub const TOKEN_SECONDS: u64 = 16 * 60 * 60;

/// Somebody, or something, that tokens are made for.
#[derive(Debug, Clone, Copy)]
pub struct Person {
    /// `sub` of the token.
    pub name: &'static str,
    /// Who that is, in words.
    pub about: &'static str,
    /// `groups` of the token.
    pub groups: &'static [&'static str],
    /// `act.sub` of the token: the agent at work.
    pub agent: Option<&'static str>,
}

/// An analyst.
pub const ANA: Person = Person { name: "ana", about: "an analyst", groups: &["employees", "analysts"], agent: None };

/// The data steward: cleared for personal data, approves, reads the audit trail.
pub const STELLA: Person = Person {
    name: "stella",
    about: "the data steward, cleared for personal data",
    groups: &["employees", "analysts", "data-stewards", "pii-cleared", "auditors"],
    agent: None,
};

/// A contractor whose contract ends during the tour.
pub const CARL: Person =
    Person { name: "carl", about: "a contractor", groups: &["employees", "analysts"], agent: None };

/// An AI coding agent.
pub const COPILOT: Person = Person {
    name: "copilot",
    about: "an AI coding agent",
    groups: &["employees", "analysts", "engineers"],
    agent: Some("github-copilot"),
};

/// Everybody the demo knows.
pub const PEOPLE: [Person; 4] = [ANA, STELLA, CARL, COPILOT];

/// A running issuer. Dropping it stops it.
pub struct Issuer {
    addr: SocketAddr,
    key: EncodingKey,
    kid: String,
    server: JoinHandle<()>,
}

impl std::fmt::Debug for Issuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuer").field("addr", &self.addr).field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Drop for Issuer {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Issuer {
    /// Makes a key and serves its public half on a free port of this machine.
    ///
    /// # Errors
    ///
    /// When no port can be bound.
    pub async fn start() -> anyhow::Result<Self> {
        let secret = p256::SecretKey::random(&mut OsRng);
        let point = secret.public_key().to_encoded_point(false);
        let (Some(x), Some(y)) = (point.x(), point.y()) else {
            anyhow::bail!("the key's public half has no coordinates");
        };
        let kid = format!("dev-{}", uuid::Uuid::new_v4().simple());
        let jwks = json!({ "keys": [{
            "kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": kid,
            "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y),
        }] });
        let pem = secret.to_pkcs8_pem(LineEnding::LF).context("cannot write the issuer's key")?;
        let key = EncodingKey::from_ec_pem(pem.as_bytes()).context("cannot read the issuer's key back")?;
        let listener =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("cannot listen for the development issuer")?;
        let addr = listener.local_addr()?;
        let discovery = json!({
            "issuer": format!("http://{addr}"),
            "jwks_uri": format!("http://{addr}/jwks.json"),
            "id_token_signing_alg_values_supported": ["ES256"],
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
        });
        let routes = axum::Router::new()
            .route("/.well-known/openid-configuration", get(move || async move { Json(discovery) }))
            .route("/jwks.json", get(move || async move { Json(jwks) }));
        let server = tokio::spawn(async move {
            // Ends with the process; a broken listener shows at the first login.
            drop(axum::serve(listener, routes).await);
        });
        Ok(Self { addr, key, kid, server })
    }

    /// `iss` of the tokens, and where discovery starts.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }

    /// A token for one of the people.
    ///
    /// # Errors
    ///
    /// When signing fails.
    pub fn token(&self, person: &Person) -> anyhow::Result<String> {
        self.sign(&self.claims(person))
    }

    /// The claims of [`Issuer::token`], to be changed and signed by a test.
    pub fn claims(&self, person: &Person) -> Value {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let mut claims = json!({
            "iss": self.url(), "aud": AUDIENCE, "sub": person.name, "groups": person.groups,
            "iat": now, "nbf": now, "exp": now + TOKEN_SECONDS, "jti": uuid::Uuid::new_v4(),
        });
        if let (Some(agent), Some(map)) = (person.agent, claims.as_object_mut()) {
            map.insert("act".to_owned(), json!({ "sub": agent }));
        }
        claims
    }

    /// A token with exactly these claims.
    ///
    /// # Errors
    ///
    /// When signing fails.
    pub fn sign(&self, claims: &Value) -> anyhow::Result<String> {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.kid.clone());
        jsonwebtoken::encode(&header, claims, &self.key).context("cannot sign a token")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_token_carries_who_it_is_for() {
        let issuer = Issuer::start().await.unwrap();
        let token = issuer.token(&COPILOT).unwrap();
        let claims: Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap();
        assert_eq!(claims["sub"], "copilot");
        assert_eq!(claims["act"]["sub"], "github-copilot");
        assert_eq!(claims["groups"], json!(["employees", "analysts", "engineers"]));
        assert_eq!(claims["iss"], issuer.url());
        assert!(issuer.claims(&ANA).get("act").is_none());
    }
}
