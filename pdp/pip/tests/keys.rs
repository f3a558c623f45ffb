//! Keys against a small issuer on loopback that rotates, fails, redirects and talks too much.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::similar_names)]

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{Router, extract::State, http::StatusCode, http::header, response::IntoResponse, routing::get};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use icegate_pdp_identity::{Algorithm, ClaimMapping, IdentityError, Issuer, TrustError};
use icegate_pdp_model::Timestamp;
use icegate_pdp_pip::{DOCUMENT_BYTES_MAX, FetchError, IssuerKeys, KeySource, Keys, KeysConfig, KeysError};
use jsonwebtoken::{EncodingKey, crypto::sign, jwk::Jwk};
use serde_json::{Value, json};

const NOW: i64 = 1_790_000_000;

struct Signer {
    kid: &'static str,
    key: EncodingKey,
    jwk: Value,
}

impl Signer {
    fn new(kid: &'static str) -> Self {
        let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let key = EncodingKey::from_ec_der(&pair.serialize_der());
        let mut jwk =
            serde_json::to_value(Jwk::from_encoding_key(&key, jsonwebtoken::Algorithm::ES256).unwrap()).unwrap();
        jwk["kid"] = kid.into();
        Self { kid, key, jwk }
    }

    fn token(&self, iss: &str) -> String {
        let header = json!({ "alg": "ES256", "kid": self.kid });
        let claims = json!({ "iss": iss, "sub": "ana", "aud": "icegate", "iat": NOW, "exp": NOW + 600 });
        let signed = [header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string())).join(".");
        let signature = sign(signed.as_bytes(), &self.key, jsonwebtoken::Algorithm::ES256).unwrap();
        format!("{signed}.{signature}")
    }
}

fn jwks(signers: &[&Signer]) -> String {
    json!({ "keys": signers.iter().map(|signer| &signer.jwk).collect::<Vec<_>>() }).to_string()
}

/// What the issuer answers next, and how often it was asked.
#[derive(Clone)]
struct Served {
    answer: Arc<Mutex<(StatusCode, String)>>,
    discovery: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
    slow: Duration,
}

impl Served {
    fn set(&self, status: StatusCode, body: impl Into<String>) {
        *self.answer.lock().unwrap() = (status, body.into());
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

/// Starts an issuer; answers its base URL.
async fn issuer(first: String, slow: Duration) -> (String, Served) {
    let served = Served {
        answer: Arc::new(Mutex::new((StatusCode::OK, first))),
        discovery: Arc::default(),
        asked: Arc::default(),
        slow,
    };
    let keys = |State(served): State<Served>| async move {
        served.asked.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(served.slow).await;
        let (status, body) = served.answer.lock().unwrap().clone();
        (status, [(header::LOCATION, "/elsewhere")], body).into_response()
    };
    let configuration = |State(served): State<Served>| async move { served.discovery.lock().unwrap().clone() };
    let app = Router::new()
        .route("/keys", get(keys))
        .route("/.well-known/openid-configuration", get(configuration))
        .with_state(served.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    *served.discovery.lock().unwrap() = json!({ "issuer": base, "jwks_uri": format!("{base}/keys") }).to_string();
    tokio::spawn(async move { axum::serve(listener, app).await });
    (base, served)
}

fn entry(iss: &str, source: KeySource) -> IssuerKeys {
    let issuer = Issuer {
        name: "corp".into(),
        issuer: iss.into(),
        audiences: vec!["icegate".into()],
        algorithms: vec![Algorithm::Es256],
        claims: ClaimMapping::default(),
        leeway_seconds: 30,
        token_age_seconds_max: None,
        token_types: Vec::new(),
    };
    IssuerKeys { issuer, source }
}

fn config() -> KeysConfig {
    KeysConfig { fetch_timeout: Duration::from_secs(2), ..KeysConfig::default() }
}

async fn start(base: &str) -> Keys {
    let source = KeySource::Url(format!("{base}/keys"));
    Keys::start(vec![entry(base, source)], config()).await.unwrap()
}

async fn ask(keys: &Keys, token: &str) -> Result<String, IdentityError> {
    keys.verify(token, Timestamp(NOW * 1000)).await.map(|verified| verified.principal.id)
}

#[tokio::test]
async fn a_new_key_is_fetched_when_the_first_token_names_it() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let (base, served) = issuer(jwks(&[&old]), Duration::ZERO).await;
    let keys = start(&base).await;
    assert_eq!(ask(&keys, &old.token(&base)).await.unwrap(), "corp/ana");
    assert_eq!(served.asked(), 1);

    served.set(StatusCode::OK, jwks(&[&new]));
    assert_eq!(ask(&keys, &new.token(&base)).await.unwrap(), "corp/ana");
    assert_eq!(served.asked(), 2);
    // What the issuer took away is gone with it.
    assert!(matches!(ask(&keys, &old.token(&base)).await, Err(IdentityError::UnknownKey { .. })));
}

#[tokio::test]
async fn unknown_keys_cost_one_fetch_however_many_ask() {
    let (known, unknown, late) = (Signer::new("known"), Signer::new("unknown"), Signer::new("late"));
    let (base, served) = issuer(jwks(&[&known]), Duration::from_millis(100)).await;
    let keys = start(&base).await;
    let token = unknown.token(&base);
    let asks = (0..20).map(|_| {
        let (keys, token) = (keys.clone(), token.clone());
        tokio::spawn(async move { ask(&keys, &token).await })
    });
    for asked in asks.collect::<Vec<_>>() {
        assert!(matches!(asked.await.unwrap(), Err(IdentityError::UnknownKey { .. })));
    }
    assert_eq!(served.asked(), 2, "once at the start and once for all of them");
    // Even a key that is there now waits for the pause to end.
    served.set(StatusCode::OK, jwks(&[&known, &late]));
    assert!(ask(&keys, &late.token(&base)).await.is_err());
    assert_eq!(served.asked(), 2);
    keys.refresh().await;
    assert!(ask(&keys, &late.token(&base)).await.is_ok());
}

#[tokio::test]
async fn an_outage_keeps_the_last_good_keys() {
    let signer = Signer::new("k");
    let (base, served) = issuer(jwks(&[&signer]), Duration::ZERO).await;
    let keys = start(&base).await;
    for (what, status, body, problem) in [
        ("an error", StatusCode::INTERNAL_SERVER_ERROR, "x".to_owned(), "answered 500"),
        ("a redirect", StatusCode::FOUND, jwks(&[&signer]), "answered 302"),
        ("no keys", StatusCode::OK, json!({ "keys": [] }).to_string(), "no usable signing key"),
        ("a login page", StatusCode::OK, "<html>".to_owned(), "not a JWKS"),
        ("too much", StatusCode::OK, " ".repeat(DOCUMENT_BYTES_MAX + 1), "more than 1048576 bytes"),
    ] {
        served.set(status, body);
        keys.refresh().await;
        let status = keys.status().remove(0);
        assert!(status.problem.as_ref().unwrap().contains(problem), "{what}: {status:?}");
        assert_eq!((status.keys, status.age.is_some()), (1, true), "{what}");
        assert!(ask(&keys, &signer.token(&base)).await.is_ok(), "{what}");
    }
    served.set(StatusCode::OK, jwks(&[&signer]));
    keys.refresh().await;
    assert_eq!(keys.status().remove(0).problem, None);
}

#[tokio::test]
async fn keys_too_old_are_not_believed() {
    let signer = Signer::new("k");
    let (base, served) = issuer(jwks(&[&signer]), Duration::ZERO).await;
    let config = KeysConfig { max_stale: Duration::from_millis(300), ..config() };
    let source = KeySource::Url(format!("{base}/keys"));
    let keys = Keys::start(vec![entry(&base, source)], config).await.unwrap();
    let token = signer.token(&base);
    assert!(ask(&keys, &token).await.is_ok());
    served.set(StatusCode::BAD_GATEWAY, "");
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(ask(&keys, &token).await, Err(IdentityError::KeysUnavailable(base.clone())));
    served.set(StatusCode::OK, jwks(&[&signer]));
    keys.refresh().await;
    assert!(ask(&keys, &token).await.is_ok());
}

#[tokio::test]
async fn an_issuer_that_is_away_at_the_start_is_asked_when_needed() {
    let signer = Signer::new("k");
    let (base, served) = issuer(String::new(), Duration::ZERO).await;
    served.set(StatusCode::SERVICE_UNAVAILABLE, "");
    let keys = start(&base).await;
    assert_eq!(keys.status().remove(0).age, None);
    served.set(StatusCode::OK, jwks(&[&signer]));
    assert!(ask(&keys, &signer.token(&base)).await.is_ok());
}

#[tokio::test]
async fn a_silent_issuer_is_given_up_on() {
    let (base, _served) = issuer(String::new(), Duration::from_mins(1)).await;
    let config = KeysConfig { fetch_timeout: Duration::from_millis(100), ..KeysConfig::default() };
    let source = KeySource::Url(format!("{base}/keys"));
    let keys = Keys::start(vec![entry(&base, source)], config).await.unwrap();
    assert!(keys.status().remove(0).problem.unwrap().contains("did not answer in time"));
}

#[tokio::test]
async fn discovery_follows_the_provider_that_speaks_for_itself() {
    let signer = Signer::new("k");
    let (base, served) = issuer(jwks(&[&signer]), Duration::ZERO).await;
    for url in [base.clone(), format!("{base}/.well-known/openid-configuration")] {
        let keys = Keys::start(vec![entry(&base, KeySource::Discovery(url))], config()).await.unwrap();
        assert!(ask(&keys, &signer.token(&base)).await.is_ok());
    }
    for (what, document, problem) in [
        ("another issuer", json!({ "issuer": "https://evil.example", "jwks_uri": "https://x" }), "speaks for"),
        ("keys in the clear", json!({ "issuer": base, "jwks_uri": "http://keys.example/" }), "not an `https` URL"),
        ("nothing", json!({}), "not an OpenID provider's configuration"),
    ] {
        *served.discovery.lock().unwrap() = document.to_string();
        let keys = Keys::start(vec![entry(&base, KeySource::Discovery(base.clone()))], config()).await.unwrap();
        let status = keys.status().remove(0).problem.unwrap();
        assert!(status.contains(problem), "{what}: {status}");
    }
}

#[tokio::test]
async fn a_file_is_read_again_when_it_changes() {
    let (old, new) = (Signer::new("old"), Signer::new("new"));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("jwks.json");
    std::fs::write(&path, jwks(&[&old])).unwrap();
    let keys = Keys::start(vec![entry("dev", KeySource::File(path.clone()))], config()).await.unwrap();
    assert!(ask(&keys, &old.token("dev")).await.is_ok());

    // A token of a new key finds the file as it is now, without waiting for the next look at it.
    std::fs::write(&path, jwks(&[&old, &new])).unwrap();
    assert!(ask(&keys, &new.token("dev")).await.is_ok());

    // A key taken out is gone within the time between two looks.
    std::fs::write(&path, jwks(&[&new])).unwrap();
    let gone = async {
        while ask(&keys, &old.token("dev")).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), gone).await.unwrap();

    // A file that is no key set any more changes nothing.
    std::fs::write(&path, "{").unwrap();
    keys.refresh().await;
    assert!(ask(&keys, &new.token("dev")).await.is_ok());
    assert!(keys.status().remove(0).problem.is_some());
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let missing = KeySource::File("/nonexistent/jwks.json".into());
    let refused = Keys::start(vec![entry("dev", missing.clone())], config()).await.unwrap_err();
    assert!(matches!(refused, KeysError::Source { source: FetchError::File { .. }, .. }));

    let twice = vec![entry("dev", missing.clone()), entry("dev", missing)];
    let refused = Keys::start(twice, config()).await.unwrap_err();
    assert!(matches!(refused, KeysError::Trust(TrustError::DuplicateName(_))));

    let ca_file = Some("/nonexistent/ca.pem".into());
    let refused = Keys::start(Vec::new(), KeysConfig { ca_file, ..config() }).await.unwrap_err();
    assert!(matches!(refused, KeysError::Client(FetchError::Authorities { .. })));
}
