//! Any token, key set, record or file: the PDP's parsers answer them, and nothing forged, altered or ambiguous passes.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may"
)]

use std::{collections::BTreeSet, sync::LazyLock};

use icegate_pdp_approval::statement_sha256;
use icegate_pdp_audit::{Event, GENESIS, Record, Verifier, chain};
use icegate_pdp_identity::{Algorithm, ClaimMapping, Issuer, KeySet, Trust, verify};
use icegate_pdp_model::{Catalog, Principal, SessionContext, Timestamp};
use icegate_pdp_policy::{Bundle, BundleSource};
use icegate_tests::{
    fuzz::{bytes, json_text, mutated_bytes, mutated_lines},
    fuzz_target,
    generated::Dice,
    policies::root,
};
use jsonwebtoken::{EncodingKey, Header, jwk::Jwk};
use serde_json::{Value, json};

const NOW: i64 = 1_790_000_000;

/// Keys a set may hold at most is the room's business; that it is bounded by the bytes is everybody's.
const KEY_BYTES_MIN: usize = 40;

struct Idp {
    trust: Trust,
    jwks: Value,
    key: EncodingKey,
}

static IDP: LazyLock<Idp> = LazyLock::new(|| {
    let der = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap().serialize_der();
    let key = EncodingKey::from_ec_der(&der);
    let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, jsonwebtoken::Algorithm::ES256).unwrap()).unwrap();
    jwk["kid"] = "k1".into();
    jwk["use"] = "sig".into();
    let jwks = json!({"keys": [jwk]});
    let issuer = Issuer {
        name: "corp".into(),
        issuer: "https://login.example.com/".into(),
        audiences: vec!["icegate".into()],
        algorithms: vec![Algorithm::Es256],
        claims: ClaimMapping { groups: Some("groups".into()), ..ClaimMapping::default() },
        leeway_seconds: 0,
        token_age_seconds_max: None,
        token_types: Vec::new(),
    };
    let keys = KeySet::from_jwks_json(jwks.to_string().as_bytes()).unwrap();
    Idp { trust: Trust::new(vec![(issuer, keys)]).unwrap(), jwks, key }
});

fn claims() -> Value {
    json!({"iss": "https://login.example.com/", "sub": "ana", "aud": "icegate", "exp": NOW + 100, "iat": NOW - 10,
        "groups": ["analysts"]})
}

fn signed(header: &Header, claims: &Value) -> String {
    jsonwebtoken::encode(header, claims, &IDP.key).unwrap()
}

/// A token that was changed after it was signed does not verify; one with other claims only when they are still right.
fn jwts(dice: &mut Dice) {
    let now = Timestamp(NOW * 1000);
    let header = Header { kid: Some("k1".into()), ..Header::new(jsonwebtoken::Algorithm::ES256) };
    let token = signed(&header, &claims());
    assert!(verify(&token, &IDP.trust, now).is_ok(), "{:?}", verify(&token, &IDP.trust, now));
    let changed = mutated_bytes(token.as_bytes(), dice);
    if let Ok(text) = std::str::from_utf8(&changed)
        && text != token
    {
        assert!(verify(text, &IDP.trust, now).is_err(), "{text}");
    }
    let text = json_text(&claims(), dice);
    let Ok(odd) = serde_json::from_str::<Value>(&text) else { return };
    if let Ok(verified) = verify(&signed(&header, &odd), &IDP.trust, now) {
        assert_eq!(odd["iss"], "https://login.example.com/", "{odd}");
        assert!(odd["exp"].as_f64().is_some_and(|exp| exp > 1.0 * f64::from(i32::try_from(NOW).unwrap())), "{odd}");
        let audience = &odd["aud"];
        let ours = audience == "icegate" || audience.as_array().is_some_and(|all| all.contains(&json!("icegate")));
        assert!(ours, "{odd}");
        assert_eq!(odd["sub"].as_str(), Some(verified.principal.subject.as_str()), "{odd}");
    }
}

fn key_sets(dice: &mut Dice) {
    let text = json_text(&IDP.jwks, dice);
    let text = if dice.one_in(4) { mutated_bytes(text.as_bytes(), dice) } else { text.into_bytes() };
    if let Ok(keys) = KeySet::from_jwks_json(&text) {
        assert!(!keys.is_empty(), "a set without a key is no key set");
        assert!(keys.len() <= text.len() / KEY_BYTES_MIN);
    }
    drop(KeySet::from_jwks_json(&bytes(dice, 200)));
}

/// Only canonical bytes are a record, and a chain with one byte changed breaks.
fn records(dice: &mut Dice) {
    let mut verifier = Verifier::new();
    let (mut before, count) = (GENESIS, 1 + dice.below(4));
    let mut rows = Vec::new();
    for seq in 1..=u64::try_from(count).unwrap() {
        let word = |dice: &mut Dice| String::from_utf8_lossy(&bytes(dice, 12)).into_owned();
        let event = Event::ServiceStarted { instance: word(dice), version: word(dice), bundle_version: word(dice) };
        let body = Record { seq, at: Timestamp(dice.below(1 << 40).try_into().unwrap()), event }.canonical();
        let hash = chain(&before, &body);
        assert!(verifier.push(seq, &body, &before, &hash).is_ok());
        rows.push((seq, body, before, hash));
        before = hash;
    }
    let changed_at = dice.below(rows.len());
    let changed = mutated_bytes(&rows[changed_at].1, dice);
    if let Ok(record) = Record::from_canonical(&changed) {
        assert_eq!(record.canonical(), changed, "two writings of one record");
    }
    if changed != rows[changed_at].1 {
        rows[changed_at].1 = changed;
        let mut verifier = Verifier::new();
        let broken = rows.iter().any(|(seq, body, before, hash)| verifier.push(*seq, body, before, hash).is_err());
        assert!(broken, "a changed record passed: {rows:?}");
    }
}

/// An approval is for one request: any other has another hash, however the texts run together.
fn approvals(dice: &mut Dice) {
    let principal: Principal = serde_json::from_value(json!({"id": "corp/ana", "groups": []})).unwrap();
    let word = |dice: &mut Dice| ["", "a", "b", "ab", "\"", "SELECT 1"][dice.below(6)].to_owned();
    let make = |dice: &mut Dice| {
        let context = SessionContext {
            database: dice.one_in(2).then(|| word(dice)),
            schema: dice.one_in(2).then(|| word(dice)),
            ..SessionContext::default()
        };
        (word(dice), context, word(dice), word(dice), u32::from(dice.one_in(2)))
    };
    let (one, other) = (make(dice), make(dice));
    let hash = |it: &(String, SessionContext, String, String, u32)| {
        statement_sha256(&principal, &it.0, &it.1, &it.2, &it.3, it.4)
    };
    assert_eq!(one == other, hash(&one) == hash(&other), "{one:?} {other:?}");
}

static FILES: LazyLock<Vec<(String, String)>> = LazyLock::new(|| {
    let mut files: Vec<(String, String)> = std::fs::read_dir(root().join("policies"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let text = std::fs::read_to_string(&path).unwrap();
            (name, text)
        })
        .filter(|(name, _)| BundleSource::takes(name))
        .collect();
    files.sort();
    assert!(files.len() >= 6, "{files:?}");
    files
});

/// A bundle compiles whole and always alike, or says which file is wrong.
fn bundles(dice: &mut Dice) {
    let mut files = FILES.clone();
    let at = dice.below(files.len());
    files[at].1 = mutated_lines(&files[at].1, dice);
    let names: BTreeSet<String> = files.iter().map(|(name, _)| name.clone()).collect();
    let source = BundleSource::new(files.clone());
    match Bundle::compile(&source) {
        Ok(bundle) => {
            assert_eq!(bundle.version(), Bundle::compile(&source).unwrap().version());
            let ids: Vec<&str> = bundle.policy_ids().collect();
            assert_eq!(ids.len(), ids.iter().collect::<BTreeSet<_>>().len(), "one id twice");
        }
        Err(error) => {
            assert!(!error.problems.is_empty());
            for problem in &error.problems {
                assert!(!problem.reason.is_empty() && !problem.reason.contains('\n'), "{problem:?}");
                assert!(!problem.remedy.is_empty(), "{problem:?}");
                assert!(problem.file.is_empty() || names.contains(&problem.file), "{problem:?}");
            }
        }
    }
}

/// A catalog's names are told apart, whatever is in the file; aliases of YAML do not grow without end.
fn catalogs(dice: &mut Dice) {
    let (_, text) = FILES.iter().find(|(name, _)| name == "catalog.yaml").unwrap();
    let text = if dice.one_in(10) {
        let levels: Vec<String> =
            (0..dice.below(12)).map(|n| format!("a{}: &a{} [*a{n}, *a{n}, *a{n}, *a{n}]\n", n + 1, n + 1)).collect();
        format!("a0: &a0 [x]\n{}{text}", levels.concat())
    } else {
        mutated_lines(text, dice)
    };
    if let Ok(catalog) = serde_saphyr::from_str::<Catalog>(&text) {
        for (name, relation) in catalog.relations() {
            let columns: BTreeSet<&str> = relation.columns.iter().map(|column| column.name.as_str()).collect();
            assert_eq!(columns.len(), relation.columns.len(), "a column of {name} twice: {text}");
            assert!(catalog.has_schema(&name.database, &name.schema), "{name}");
        }
    }
}

fuzz_target!(tokens_verify_unchanged_only, 800, jwts);
fuzz_target!(key_sets_are_read_strictly, 3000, key_sets);
fuzz_target!(records_are_canonical_and_chained, 3000, records);
fuzz_target!(approvals_are_for_one_request, 4000, approvals);
fuzz_target!(bundles_compile_whole_or_say_why, 16, bundles);
fuzz_target!(catalogs_tell_names_apart, 1500, catalogs);
