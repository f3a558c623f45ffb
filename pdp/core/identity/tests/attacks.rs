//! Tokens that must be refused, and the few that must not: a table.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]
#![allow(clippy::needless_pass_by_value, clippy::too_many_lines, clippy::similar_names)]

use std::sync::OnceLock;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use icegate_pdp_identity::{
    Algorithm, ClaimMapping, IdentityError, Issuer, KeyError, KeySet, Trust, TrustError, verify,
};
use icegate_pdp_model::{Assurance, Code, Timestamp};
use jsonwebtoken::{EncodingKey, crypto::sign, jwk::Jwk};
use rsa::{
    pkcs1::{EncodeRsaPrivateKey as _, EncodeRsaPublicKey as _},
    rand_core::OsRng,
};
use serde_json::{Value, json};

const NOW: i64 = 1_790_000_000;
const ISS: &str = "https://login.example.com/";

/// One signing key of the issuer and its public half.
struct Signer {
    key: EncodingKey,
    jwk: Value,
    algorithm: jsonwebtoken::Algorithm,
}

fn signer(key: EncodingKey, algorithm: jsonwebtoken::Algorithm, kid: &str) -> Signer {
    let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
    jwk["kid"] = kid.into();
    jwk["use"] = "sig".into();
    Signer { key, jwk, algorithm }
}

struct Keys {
    rsa: Signer,
    rsa_public_der: Vec<u8>,
    p256: Signer,
    p384: Signer,
    ed: Signer,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let rsa = rsa::RsaPrivateKey::new(&mut OsRng, 2048).unwrap();
        let der = rsa.to_pkcs1_der().unwrap();
        let curve = |with| rcgen::KeyPair::generate_for(with).unwrap().serialize_der();
        let mut rsa_signer = signer(EncodingKey::from_rsa_der(der.as_bytes()), jsonwebtoken::Algorithm::RS256, "rsa");
        // So that the same key may also sign PS256.
        rsa_signer.jwk.as_object_mut().unwrap().remove("alg");
        Keys {
            rsa: rsa_signer,
            rsa_public_der: rsa.to_public_key().to_pkcs1_der().unwrap().into_vec(),
            p256: signer(
                EncodingKey::from_ec_der(&curve(&rcgen::PKCS_ECDSA_P256_SHA256)),
                jsonwebtoken::Algorithm::ES256,
                "p256",
            ),
            p384: signer(
                EncodingKey::from_ec_der(&curve(&rcgen::PKCS_ECDSA_P384_SHA384)),
                jsonwebtoken::Algorithm::ES384,
                "p384",
            ),
            ed: signer(EncodingKey::from_ed_der(&ed25519_der([7; 32])), jsonwebtoken::Algorithm::EdDSA, "ed"),
        }
    })
}

/// PKCS #8 of an Ed25519 key (RFC 8410 §7): a fixed head, then the seed.
fn ed25519_der(seed: [u8; 32]) -> Vec<u8> {
    const HEAD: [u8; 16] =
        [0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20];
    [HEAD.as_slice(), &seed].concat()
}

fn issuer() -> Issuer {
    Issuer {
        name: "corp".into(),
        issuer: ISS.into(),
        audiences: vec!["icegate".into()],
        algorithms: Algorithm::ALL.to_vec(),
        claims: ClaimMapping {
            groups: Some("groups".into()),
            agent_clients: ["ci-bot".to_owned()].into(),
            ..ClaimMapping::default()
        },
        leeway_seconds: 30,
        token_age_seconds_max: None,
        token_types: Vec::new(),
    }
}

fn jwks(signers: &[&Signer]) -> KeySet {
    let keys: Vec<&Value> = signers.iter().map(|signer| &signer.jwk).collect();
    KeySet::from_jwks_json(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

fn trust(issuer: Issuer) -> Trust {
    let keys = keys();
    Trust::new(vec![(issuer, jwks(&[&keys.rsa, &keys.p256, &keys.p384, &keys.ed]))]).unwrap()
}

fn claims() -> Value {
    json!({ "iss": ISS, "sub": "ana", "aud": "icegate", "iat": NOW - 10, "exp": NOW + 600, "groups": ["analysts"] })
}

/// A token of these parts, given as text so that they may be wrong in any way.
fn token(header: &str, claims: &str, key: &EncodingKey, algorithm: jsonwebtoken::Algorithm) -> String {
    let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    let signature = sign(signed.as_bytes(), key, algorithm).unwrap();
    format!("{signed}.{signature}")
}

fn signed(header: &Value, claims: &Value, signer: &Signer) -> String {
    token(&header.to_string(), &claims.to_string(), &signer.key, signer.algorithm)
}

fn plain(claims: &Value) -> String {
    signed(&json!({ "alg": "ES256", "kid": "p256" }), claims, &keys().p256)
}

/// The usual claims with some set, or taken out where the value is null.
fn with(changes: Value) -> Value {
    let mut claims = claims();
    for (name, value) in changes.as_object().unwrap().clone() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(&name);
        } else {
            claims[name] = value;
        }
    }
    claims
}

fn ask(token: &str) -> Result<icegate_pdp_identity::Verified, IdentityError> {
    verify(token, &trust(issuer()), Timestamp(NOW * 1000))
}

#[test]
fn every_algorithm_on_the_list_verifies_with_its_own_key_only() {
    let keys = keys();
    let signers = [
        ("RS256", &keys.rsa, jsonwebtoken::Algorithm::RS256),
        ("PS256", &keys.rsa, jsonwebtoken::Algorithm::PS256),
        ("ES256", &keys.p256, jsonwebtoken::Algorithm::ES256),
        ("ES384", &keys.p384, jsonwebtoken::Algorithm::ES384),
        ("EdDSA", &keys.ed, jsonwebtoken::Algorithm::EdDSA),
    ];
    for (name, signer, algorithm) in signers {
        let kid = signer.jwk["kid"].as_str().unwrap();
        let good =
            token(&json!({ "alg": name, "kid": kid }).to_string(), &claims().to_string(), &signer.key, algorithm);
        assert_eq!(ask(&good).unwrap().principal.id, "corp/ana", "{name}");

        let mut narrow = issuer();
        narrow.algorithms.retain(|allowed| allowed.as_str() != name);
        let refused = verify(&good, &trust(narrow), Timestamp(NOW * 1000));
        assert_eq!(refused.unwrap_err(), IdentityError::AlgorithmRefused, "{name} not on the list");

        for (other_name, other, _) in signers {
            let other_kid = other.jwk["kid"].as_str().unwrap();
            if other_kid == kid {
                continue;
            }
            let header = json!({ "alg": name, "kid": other_kid }).to_string();
            let crossed = token(&header, &claims().to_string(), &signer.key, algorithm);
            assert_eq!(
                ask(&crossed).unwrap_err(),
                IdentityError::AlgorithmRefused,
                "{name} with the key of {other_name}"
            );
        }
    }
}

#[test]
fn headers_that_attack() {
    let keys = keys();
    let p256 = |header: Value| signed(&header, &claims(), &keys.p256);
    let hmac = EncodingKey::from_secret(&keys.rsa_public_der);
    let with_secret =
        |header: Value| token(&header.to_string(), &claims().to_string(), &hmac, jsonwebtoken::Algorithm::HS256);
    let unsigned = |alg: &str| {
        let header = URL_SAFE_NO_PAD.encode(json!({ "alg": alg, "kid": "p256" }).to_string());
        format!("{header}.{}.", URL_SAFE_NO_PAD.encode(claims().to_string()))
    };
    let good = p256(json!({ "alg": "ES256", "kid": "p256" }));
    let cut = good.rsplit_once('.').unwrap().0;
    let unknown = IdentityError::UnknownKey { issuer: ISS.into(), kid: "new".into() };
    let cases = [
        (
            "HS256 with the public key as secret",
            with_secret(json!({ "alg": "HS256", "kid": "rsa" })),
            IdentityError::AlgorithmRefused,
        ),
        ("HS256 signed, RS256 said", with_secret(json!({ "alg": "RS256", "kid": "rsa" })), IdentityError::Signature),
        ("none", unsigned("none"), IdentityError::AlgorithmRefused),
        ("None", unsigned("None"), IdentityError::AlgorithmRefused),
        ("an algorithm with an empty signature", unsigned("ES256"), IdentityError::Signature),
        ("lower-case algorithm", p256(json!({ "alg": "es256", "kid": "p256" })), IdentityError::AlgorithmRefused),
        ("no algorithm", p256(json!({ "kid": "p256" })), IdentityError::AlgorithmRefused),
        (
            "jku",
            p256(json!({ "alg": "ES256", "kid": "p256", "jku": "https://evil.example" })),
            IdentityError::HeaderRefused("jku"),
        ),
        (
            "x5u",
            p256(json!({ "alg": "ES256", "kid": "p256", "x5u": "https://evil.example" })),
            IdentityError::HeaderRefused("x5u"),
        ),
        ("x5c", p256(json!({ "alg": "ES256", "kid": "p256", "x5c": ["MII="] })), IdentityError::HeaderRefused("x5c")),
        ("jwk", p256(json!({ "alg": "ES256", "jwk": keys.p256.jwk })), IdentityError::HeaderRefused("jwk")),
        ("crit", p256(json!({ "alg": "ES256", "kid": "p256", "crit": ["exp"] })), IdentityError::HeaderRefused("crit")),
        ("b64", p256(json!({ "alg": "ES256", "kid": "p256", "b64": false })), IdentityError::HeaderRefused("b64")),
        ("unknown kid", p256(json!({ "alg": "ES256", "kid": "new" })), unknown),
        ("no kid, several keys", p256(json!({ "alg": "ES256" })), IdentityError::KeyNotNamed),
        (
            "kid of another type",
            p256(json!({ "alg": "ES256", "kid": 7 })),
            IdentityError::Malformed("a header is not a text"),
        ),
        (
            "repeated alg",
            token(
                r#"{"alg":"none","alg":"ES256","kid":"p256"}"#,
                &claims().to_string(),
                &keys.p256.key,
                keys.p256.algorithm,
            ),
            IdentityError::Malformed("a name occurs twice in one object"),
        ),
        ("two parts", cut.to_owned(), IdentityError::Malformed("it has no payload")),
        ("four parts", format!("{good}.x"), IdentityError::Malformed("it has more than three parts")),
        ("nothing", String::new(), IdentityError::Malformed("it has no signature")),
        ("padding", format!("={good}"), IdentityError::Malformed("a part is not base64url")),
        ("too long", format!("{good}{}", "A".repeat(16 * 1024)), IdentityError::TooLong),
    ];
    for (what, token, wanted) in cases {
        let refused = ask(&token).unwrap_err();
        assert_eq!(refused, wanted, "{what}");
        check_sentence(&refused);
    }
}

#[test]
fn a_changed_byte_anywhere_breaks_the_signature() {
    let good = plain(&claims());
    let (signed, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = signed.split_once('.').unwrap();
    let forged = URL_SAFE_NO_PAD.encode(with(json!({ "groups": ["admins"] })).to_string());
    assert_eq!(ask(&format!("{header}.{forged}.{signature}")).unwrap_err(), IdentityError::Signature);

    for at in (0..good.len()).step_by(7) {
        let mut bytes = good.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        // The last characters of a base64 part may stand for the same bytes: such a text is refused as malformed.
        assert!(ask(&changed).is_err(), "byte {at}");
    }
}

#[test]
fn claims_that_do_not_hold() {
    use IdentityError as E;
    let missing = |claim: &str| E::ClaimMissing(claim.into());
    let invalid = |claim: &str| E::ClaimInvalid(claim.into());
    let cases = [
        ("wrong issuer", json!({ "iss": "https://evil.example/" }), E::UnknownIssuer),
        ("issuer but for the slash", json!({ "iss": "https://login.example.com" }), E::UnknownIssuer),
        ("no issuer", json!({ "iss": null }), missing("iss")),
        ("issuer in a list", json!({ "iss": [ISS] }), missing("iss")),
        ("another audience", json!({ "aud": "mail" }), E::Audience("icegate".into())),
        ("audience in another case", json!({ "aud": "Icegate" }), E::Audience("icegate".into())),
        ("no audience", json!({ "aud": null }), missing("aud")),
        ("empty audiences", json!({ "aud": [] }), E::Audience("icegate".into())),
        ("audience not a text", json!({ "aud": ["icegate", 7] }), invalid("aud")),
        ("expired", json!({ "exp": NOW - 31, "iat": NOW - 700 }), E::Expired),
        ("expired at the leeway", json!({ "exp": NOW - 30, "iat": NOW - 700 }), E::Expired),
        ("no expiry", json!({ "exp": null }), missing("exp")),
        ("expiry as text", json!({ "exp": "2099-01-01" }), invalid("exp")),
        ("expiry after the end of time", json!({ "exp": 1e300 }), invalid("exp")),
        ("expiry in milliseconds", json!({ "exp": (NOW + 600) * 1000 }), invalid("exp")),
        ("expires before it was issued", json!({ "exp": NOW + 5, "iat": NOW + 20 }), invalid("exp")),
        ("negative time", json!({ "iat": -5 }), invalid("iat")),
        ("no issue time", json!({ "iat": null }), missing("iat")),
        ("issued in the future", json!({ "iat": NOW + 31 }), E::NotYetValid("iat")),
        ("not before the future", json!({ "nbf": NOW + 31 }), E::NotYetValid("nbf")),
        ("not before as text", json!({ "nbf": "now" }), invalid("nbf")),
        ("no subject", json!({ "sub": null }), missing("sub")),
        ("empty subject", json!({ "sub": "" }), invalid("sub")),
        ("subject with a line break", json!({ "sub": "ana\nroot" }), invalid("sub")),
        ("subject that reads backwards", json!({ "sub": "ana\u{202e}toor" }), invalid("sub")),
        ("subject with a blank end", json!({ "sub": "ana " }), invalid("sub")),
        ("subject too long", json!({ "sub": "a".repeat(257) }), invalid("sub")),
        ("groups not a list", json!({ "groups": { "a": 1 } }), invalid("groups")),
        ("a group that is no text", json!({ "groups": ["a", 1] }), invalid("groups")),
        ("a nameless group", json!({ "groups": [""] }), invalid("groups")),
        ("groups left out", json!({ "groups": null, "_claim_names": { "groups": "src1" } }), E::GroupsOverage),
        ("groups left out, strangely", json!({ "groups": null, "_claim_names": "groups" }), E::GroupsOverage),
        ("groups left out, implicit flow", json!({ "groups": null, "hasgroups": true }), E::GroupsOverage),
        ("an actor without a name", json!({ "act": {} }), invalid("act.sub")),
        ("an actor that is no object", json!({ "act": "bot" }), invalid("act.sub")),
        ("an actor named by a number", json!({ "act": { "sub": 7 } }), invalid("act.sub")),
        ("a client that is no text", json!({ "azp": ["ci-bot"] }), invalid("azp")),
    ];
    for (what, changes, wanted) in cases {
        let refused = ask(&plain(&with(changes))).unwrap_err();
        assert_eq!(refused, wanted, "{what}");
        check_sentence(&refused);
    }
    let twice = format!(r#"{{"sub":"root",{}"#, &claims().to_string()[1..]);
    let repeated = token(r#"{"alg":"ES256","kid":"p256"}"#, &twice, &keys().p256.key, keys().p256.algorithm);
    assert_eq!(ask(&repeated).unwrap_err(), E::Malformed("a name occurs twice in one object"));
}

#[test]
fn claims_that_hold() {
    let agent = |id: &str| Some((id.to_owned(), Assurance::Attested));
    let cases = [
        ("plain", json!({}), vec!["analysts"], None),
        ("audiences", json!({ "aud": ["mail", "icegate"] }), vec!["analysts"], None),
        ("within the leeway", json!({ "exp": NOW - 29, "iat": NOW - 700 }), vec!["analysts"], None),
        ("times with fractions", json!({ "exp": 1_790_000_600.5, "nbf": NOW + 30 }), vec!["analysts"], None),
        ("no groups", json!({ "groups": null }), vec![], None),
        ("one group as a text", json!({ "groups": "Data Stewards" }), vec!["Data Stewards"], None),
        ("a group twice", json!({ "groups": ["b", "a", "b"] }), vec!["a", "b"], None),
        ("other claims left out", json!({ "_claim_names": { "roles": "src1" } }), vec!["analysts"], None),
        ("an actor", json!({ "act": { "sub": "github-copilot" } }), vec!["analysts"], agent("github-copilot")),
        ("a chain of actors", json!({ "act": { "sub": "b", "act": { "sub": "a" } } }), vec!["analysts"], agent("b")),
        ("an agent's client", json!({ "azp": "ci-bot" }), vec!["analysts"], agent("ci-bot")),
        ("an agent's client id", json!({ "client_id": "ci-bot" }), vec!["analysts"], agent("ci-bot")),
        ("a person's client", json!({ "azp": "cli" }), vec!["analysts"], None),
    ];
    for (what, changes, groups, agent) in cases {
        let verified = ask(&plain(&with(changes))).unwrap_or_else(|error| panic!("{what}: {error}"));
        let principal = verified.principal;
        assert_eq!(principal.id, "corp/ana", "{what}");
        assert_eq!((principal.issuer.as_str(), principal.subject.as_str()), (ISS, "ana"), "{what}");
        assert_eq!(principal.groups.iter().collect::<Vec<_>>(), groups, "{what}");
        assert_eq!(principal.agent.map(|agent| (agent.id, agent.assurance)), agent, "{what}");
    }
    let verified = ask(&plain(&claims())).unwrap();
    assert_eq!(verified.issued, Timestamp((NOW - 10) * 1000));
    assert_eq!(verified.expires, Timestamp((NOW + 600) * 1000));
}

#[test]
fn an_issuers_own_rules() {
    use IdentityError as E;
    let at = |issuer: Issuer, header: Value, changes: Value| {
        let token = signed(&header, &with(changes), &keys().p256);
        verify(&token, &trust(issuer), Timestamp(NOW * 1000)).map(|verified| verified.principal)
    };
    let es256 = || json!({ "alg": "ES256", "kid": "p256" });

    let young = Issuer { token_age_seconds_max: Some(300), ..issuer() };
    assert!(at(young.clone(), es256(), json!({ "iat": NOW - 329 })).is_ok());
    let refused = at(young, es256(), json!({ "iat": NOW - 330 })).unwrap_err();
    assert_eq!((refused.code(), &refused), (Code::IdentityExpired, &E::TooOld { seconds_max: 300 }));

    let typed = Issuer { token_types: vec!["at+jwt".into()], ..issuer() };
    for (typ, wanted) in [("at+jwt", true), ("application/AT+JWT", true), ("JWT", false)] {
        let header = json!({ "alg": "ES256", "kid": "p256", "typ": typ });
        assert_eq!(at(typed.clone(), header, json!({})).is_ok(), wanted, "{typ}");
    }
    assert_eq!(at(typed, es256(), json!({})).unwrap_err(), E::TokenType("at+jwt".into()));

    let mut mapped = issuer();
    mapped.claims.principal = "profile.login".into();
    mapped.claims.groups = Some("https://example.com/groups".into());
    mapped.claims.groups_required = true;
    mapped.claims.agent = None;
    let given = json!({
        "profile": { "login": "repo:corp/data" }, "https://example.com/groups": ["x"], "act": "ignored", "groups": 7
    });
    let principal = at(mapped.clone(), es256(), given.clone()).unwrap();
    assert_eq!((principal.id.as_str(), principal.subject.as_str()), ("corp/repo:corp/data", "ana"));
    assert_eq!(principal.groups, ["x".to_owned()].into());
    let mut without = given;
    without["https://example.com/groups"] = Value::Null;
    assert_eq!(at(mapped.clone(), es256(), without).unwrap_err(), E::ClaimMissing("https://example.com/groups".into()));
    assert_eq!(at(mapped, es256(), json!({})).unwrap_err(), E::ClaimMissing("profile.login".into()));
}

#[test]
fn an_address_names_nobody_unless_it_was_checked() {
    let mut by_email = issuer();
    by_email.claims.principal = "email".into();
    let missing = IdentityError::ClaimMissing("email_verified".into());
    let invalid = IdentityError::ClaimInvalid("email_verified".into());
    for (verified, wanted) in [
        (json!(true), Ok("corp/ana@corp.example".to_owned())),
        (Value::Null, Err(missing)),
        (json!(false), Err(invalid.clone())),
        (json!("true"), Err(invalid)),
    ] {
        let claims = with(json!({ "email": "ana@corp.example", "email_verified": verified }));
        let found = verify(&plain(&claims), &trust(by_email.clone()), Timestamp(NOW * 1000));
        assert_eq!(found.map(|found| found.principal.id), wanted, "{verified}");
    }
}

#[test]
fn the_only_key_needs_no_name() {
    let one = Trust::new(vec![(issuer(), jwks(&[&keys().p256]))]).unwrap();
    let unnamed = signed(&json!({ "alg": "ES256" }), &claims(), &keys().p256);
    assert!(verify(&unnamed, &one, Timestamp(NOW * 1000)).is_ok());
    let none = Trust::new(vec![(issuer(), KeySet::default())]).unwrap();
    let refused = verify(&unnamed, &none, Timestamp(NOW * 1000)).unwrap_err();
    assert_eq!(refused, IdentityError::KeysUnavailable(ISS.into()));
}

#[test]
fn key_sets_that_are_not_usable() {
    let p256 = &keys().p256.jwk;
    let change = |name: &str, value: Value| {
        let mut jwk = p256.clone();
        jwk[name] = value;
        jwk
    };
    let small = json!({ "kty": "RSA", "n": URL_SAFE_NO_PAD.encode([0xff; 128]), "e": "AQAB" });
    for (what, set, wanted) in [
        ("empty", json!([]), KeyError::Empty),
        ("for encryption", json!([change("use", "enc".into())]), KeyError::Empty),
        ("for signing only", json!([change("key_ops", json!(["sign"]))]), KeyError::Empty),
        ("of another algorithm", json!([change("alg", "RS256".into())]), KeyError::Empty),
        ("of an unknown algorithm", json!([change("alg", "ES256K".into())]), KeyError::Empty),
        ("on another curve", json!([change("crv", "secp256k1".into())]), KeyError::Empty),
        ("cut", json!([change("x", "AAAA".into())]), KeyError::Empty),
        ("RSA of 1024 bits", json!([small]), KeyError::Empty),
        ("twice", json!([p256, p256]), KeyError::DuplicateKid("p256".into())),
        ("private", json!([change("d", "AAAA".into())]), KeyError::Private),
        ("symmetric", json!([p256, { "kty": "oct", "k": "AAAA" }]), KeyError::Private),
        ("too many", Value::Array(vec![json!({ "kty": "EC" }); 101]), KeyError::TooMany),
    ] {
        let read = KeySet::from_jwks_json(json!({ "keys": set }).to_string().as_bytes());
        assert_eq!(read.unwrap_err(), wanted, "{what}");
    }
    assert!(matches!(KeySet::from_jwks_json(b"<html>").unwrap_err(), KeyError::Json(_)));
}

#[test]
fn issuers_that_cannot_be_trusted() {
    let with = |change: fn(&mut Issuer)| {
        let mut issuer = issuer();
        change(&mut issuer);
        Trust::new(vec![(issuer, KeySet::default())]).unwrap_err()
    };
    assert_eq!(with(|issuer| issuer.name = "a/b".into()), TrustError::Name("a/b".into()));
    assert!(matches!(with(|issuer| issuer.audiences.clear()), TrustError::Empty { .. }));
    assert!(matches!(with(|issuer| issuer.audiences.push(String::new())), TrustError::Empty { .. }));
    assert!(matches!(with(|issuer| issuer.algorithms.clear()), TrustError::Empty { .. }));
    assert!(matches!(with(|issuer| issuer.issuer.clear()), TrustError::Empty { .. }));
    assert!(matches!(with(|issuer| issuer.leeway_seconds = 61), TrustError::Range { given: 61, .. }));
    assert!(matches!(with(|issuer| issuer.token_age_seconds_max = Some(0)), TrustError::Range { given: 0, .. }));
    let twice = |name: &str| {
        let other = Issuer { name: name.into(), ..issuer() };
        Trust::new(vec![(issuer(), KeySet::default()), (other, KeySet::default())]).unwrap_err()
    };
    assert_eq!(twice("corp"), TrustError::DuplicateName("corp".into()));
    assert_eq!(twice("other"), TrustError::DuplicateIssuer(ISS.into()));
}

/// A refusal is a sentence, and says what to do.
fn check_sentence(error: &IdentityError) {
    let sentence = error.sentence();
    assert!(sentence.ends_with('.') && sentence.starts_with(char::is_uppercase), "{sentence}");
    assert!(sentence.contains(';') || sentence.contains(", so "), "{sentence}");
    assert_eq!(error.reason().code, error.code());
}
