//! Any bytes from a client or from Snowflake: the PEP's parsers answer them, and what a gate is for, it does.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may"
)]

use std::sync::LazyLock;

use icegate_pep_protocol::{
    AbortRequest, ChunkTerms, ClientFacts, ErrorText, Limits, LoginRequest, QueryId, QueryRequest, RenewRequest, Reply,
    ReplyTerms, RequestedNames, Route, SealKey, SealedSession, Sealer, Secret, SessionContext, TokenKind,
    UpstreamSession, body, decode_body, parse_authorization,
    wire::{Answer, AnswerError, AnswerReader},
};
use icegate_tests::{
    fuzz::{bytes, json_text, mutated_bytes},
    fuzz_target,
    generated::Dice,
    policies::root,
};
use serde_json::{Value, json};

const CREDENTIAL: &str = "planted-upstream-credential";

/// Bodies that somebody wrote: the cases of the protocol room.
static SEEDS: LazyLock<Vec<Value>> = LazyLock::new(|| {
    let mut seeds = Vec::new();
    for file in ["logins", "queries", "replies"] {
        let path = root().join(format!("pep-proxy/core/protocol/tests/cases/{file}.yaml"));
        let cases: Vec<Value> = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        let bodies: Vec<Value> = cases.into_iter().filter_map(body_of).filter(Value::is_object).collect();
        assert!(bodies.len() > 5, "{file}");
        seeds.extend(bodies.iter().map(|body| json!({"data": body, "success": true})));
        seeds.extend(bodies);
    }
    seeds
});

fn body_of(mut case: Value) -> Option<Value> {
    let key = if case.get("body").is_some() { "body" } else { "reply" };
    Some(case.get_mut(key)?.take())
}

/// Puts a name into an object a second time.
fn doubled(text: &str, dice: &mut Dice) -> Option<String> {
    let colons: Vec<usize> = text.match_indices("\":").map(|(at, _)| at).collect();
    if colons.is_empty() {
        return None;
    }
    let at = *dice.pick(&colons);
    let from = text.get(..at)?.rfind('"')?;
    let name = text.get(from..=at)?;
    // An escaped quote is part of a text, and no name begins or ends there.
    let escaped = |at: usize| at.checked_sub(1).is_some_and(|before| text.as_bytes()[before] == b'\\');
    if escaped(at) || escaped(from) {
        return None;
    }
    Some(format!("{}{name}:0,{}", text.get(..from)?, text.get(from..)?))
}

fn bodies(dice: &mut Dice) {
    let limits = Limits::default();
    let text = json_text(dice.pick(&SEEDS), dice);
    let Ok(map) = decode_body(text.as_bytes(), None, &limits) else { return };
    if text.is_empty() {
        // Some requests have no body; it reads as an object without names.
        assert!(map.is_empty());
        return;
    }
    // The gate reads what any other reader of JSON reads.
    assert_eq!(Some(&map), serde_json::from_str::<Value>(&text).unwrap().as_object(), "{text}");
    // A name that stands twice is no body, wherever it stands: readers disagree which of the two counts.
    let plain = Value::Object(map.clone()).to_string();
    if let Some(twice) = doubled(&plain, dice)
        && serde_json::from_str::<Value>(&twice).is_ok()
    {
        assert!(decode_body(twice.as_bytes(), None, &limits).is_err(), "{twice}");
    }
    assert!(decode_body(format!("{plain} x").as_bytes(), None, &limits).is_err(), "{plain}");
    assert!(decode_body(format!("{plain}{plain}").as_bytes(), None, &limits).is_err(), "{plain}");
    drop(LoginRequest::parse(&map, RequestedNames::default(), &limits));
    drop(RenewRequest::parse(&map));
    drop(AbortRequest::parse(&map));
    if let Ok(query) = QueryRequest::parse(map, &limits) {
        assert!(query.sql().len() <= limits.sql_bytes_max);
        let sent: Value = serde_json::from_slice(&query.to_upstream("SELECT 'ours'", "{\"tag\":1}")).unwrap();
        assert_eq!(sent["sqlText"], "SELECT 'ours'", "{text}");
        assert_eq!(sent["parameters"]["QUERY_TAG"], "{\"tag\":1}", "{text}");
        let spelt = sent.as_object().unwrap().keys().filter(|key| key.eq_ignore_ascii_case("sqltext")).count();
        assert_eq!(spelt, 1, "a text beside the one that was decided: {sent}");
        let bindings = query.bindings_json();
        assert!(bindings.is_empty() || serde_json::from_str::<Value>(&bindings).is_ok(), "{bindings}");
    }
}

fn raw(dice: &mut Dice) {
    let limits = Limits::default();
    let text = dice.pick(&SEEDS).to_string();
    let body = if dice.one_in(3) { bytes(dice, 300) } else { mutated_bytes(text.as_bytes(), dice) };
    for encoding in [None, Some("gzip"), Some("br")] {
        drop(decode_body(&body, encoding, &limits));
    }
    if let Ok(unpacked) = body::gunzip(&body, 1 << 16) {
        assert!(unpacked.len() <= 1 << 16);
    }
    drop(UpstreamSession::parse(&body, &limits));
    drop(UpstreamSession::parse_renewal(&body, &limits));
}

/// A small body may unpack to much: only as much as is allowed is ever unpacked.
fn packed(dice: &mut Dice) {
    use std::io::Write as _;
    let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let most = 1 << (8 + dice.below(8));
    let long = dice.below(4 * most);
    packer.write_all(&vec![b'x'; long]).unwrap();
    let small = packer.finish().unwrap();
    let unpacked = body::gunzip(&small, most);
    assert_eq!(unpacked.is_ok(), long <= most, "{long} of {most}");
    let broken = mutated_bytes(&small, dice);
    assert!(body::gunzip(&broken, most).map_or(0, |it| it.len()) <= most);
}

fn replies(dice: &mut Dice) {
    let limits = Limits::default();
    let mut seed = dice.pick(&SEEDS).clone();
    if let Some(data) = seed.get_mut("data").and_then(Value::as_object_mut) {
        data.insert("newField".into(), json!({"deep": [format!("x {CREDENTIAL} y")]}));
    }
    let text = json_text(&seed, dice);
    let Ok(reply) = Reply::parse(text.as_bytes(), &limits) else { return };
    drop((reply.query_id(), reply.context(), reply.rows(), reply.result_ids(), reply.session_loss()));
    let secret = Secret::new(CREDENTIAL);
    let addresses = [String::from("https://icegate.test/chunks/1")];
    for (error_text, chunks) in [
        (ErrorText::Keep, ChunkTerms::Withhold),
        (ErrorText::Withhold, ChunkTerms::Direct),
        (ErrorText::Withhold, ChunkTerms::Through(&addresses)),
    ] {
        let terms =
            ReplyTerms { query_id: None, error_text, statement_kinds: &[], columns: None, secrets: &[&secret], chunks };
        let Ok(reply) = Reply::parse(text.as_bytes(), &limits) else { panic!("read once, not twice: {text}") };
        if let Ok(answer) = reply.into_client(&terms) {
            // Rows go through unread, however deep they are; only this reader minds.
            let read = serde_json::from_slice::<Value>(&answer.body);
            let sound = read.map_or_else(|error| error.to_string().starts_with("recursion limit"), |_| true);
            assert!(sound, "{text}");
            assert!(!String::from_utf8_lossy(&answer.body).contains(CREDENTIAL), "{text}");
        }
    }
}

/// Answers that somebody wrote, with their framing.
static ANSWERS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let path = root().join("pep-proxy/core/protocol/tests/cases/answers.yaml");
    let cases: Vec<Value> = serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    cases.iter().map(|case| case["comes"].as_str().unwrap().to_owned()).collect()
});

/// The answer in bytes that come in pieces of this length, before the connection ends.
fn answered(bytes: &[u8], piece: usize, body_bytes_max: usize) -> Result<Option<Answer>, AnswerError> {
    let mut reader = AnswerReader::new(body_bytes_max);
    for piece in bytes.chunks(piece) {
        reader.buffer().extend_from_slice(piece);
        if let Some(answer) = reader.read()? {
            return Ok(Some(answer));
        }
    }
    reader.end().map(Some)
}

/// However bytes come from Snowflake, they are the same answer, of no more than is taken.
fn answers(dice: &mut Dice) {
    let bytes = if dice.one_in(8) { bytes(dice, 300) } else { mutated_bytes(dice.pick(&ANSWERS).as_bytes(), dice) };
    let body_bytes_max = dice.below(64);
    let whole = answered(&bytes, usize::MAX, body_bytes_max);
    let mut pieces = answered(&bytes, 1 + dice.below(9), body_bytes_max);
    if let Ok(Some(answer)) = &whole {
        assert!(answer.body.len() <= body_bytes_max && answer.status >= 200, "{answer:?}");
        // What comes behind an answer may not have come yet when it is read.
        if let (false, Ok(Some(pieces))) = (answer.keeps, &mut pieces) {
            pieces.keeps = false;
        }
    }
    assert_eq!(whole, pieces, "{}", String::from_utf8_lossy(&bytes));
}

fn routes(dice: &mut Dice) {
    #[rustfmt::skip]
    const PARTS: &[&str] = &[
        "/", "queries", "v1", "query-request", "abort-request", "session", "login-request", "token-request",
        "heartbeat", "01b2c3d4-0000-1111-2222-333344445555", "result", "monitoring", "..", ".", "%2e%2e", "%2F",
        "//", "?", "&", "=", "requestId", "delete", "true", "databaseName", "warehouse", "roleName", "%00", "%zz",
        "é", "a\"b", "+", "%22x%22",
    ];
    let make = |dice: &mut Dice| (0..dice.below(12)).map(|_| (*dice.pick(PARTS)).to_owned()).collect::<String>();
    let (path, query) = (format!("/{}", make(dice)), make(dice));
    for method in ["GET", "POST", "DELETE"] {
        if let Ok(route) = Route::parse(method, &path, &query) {
            assert!(!route.name().is_empty());
            assert!(!path.contains("..") && !path.contains('%'), "{method} {path} is {}", route.name());
        }
    }
    if let Some(id) = QueryId::parse(&make(dice)) {
        assert!(id.as_str().chars().all(|c| c.is_ascii_hexdigit() || c == '-'));
    }
    let header = format!("Snowflake Token=\"{}\"", make(dice));
    if let Some(token) = parse_authorization(&header) {
        assert!(!token.is_empty() && !token.contains('"'), "{header}");
    }
}

/// Only what was sealed opens, and only as what it was sealed for.
fn tokens(dice: &mut Dice) {
    let key = |byte: u8| SealKey::new([byte; 32]);
    let sealer = Sealer::new(vec![key(1), key(2)]).unwrap();
    let session = SealedSession {
        kind: TokenKind::Session,
        session_id: "0198a1b2".to_owned(),
        session_number: 42,
        principal_id: "dev/ana".to_owned(),
        principal_digest: "abcd".to_owned(),
        agent: None,
        upstream_token: Secret::new(CREDENTIAL),
        upstream_master: None,
        upstream_session_id: "9007".to_owned(),
        client: ClientFacts::default(),
        context: SessionContext::default(),
        query_tag: None,
        issued_ms: 1000,
        expires_ms: 5000,
        session_expires_ms: 9000,
    };
    let nonce = std::array::from_fn(|_| dice.roll().to_le_bytes()[0]);
    let token = sealer.seal(&session, nonce).unwrap();
    assert!(!token.expose().contains(CREDENTIAL));
    assert!(sealer.open(token.expose(), TokenKind::Session, 2000).is_ok());
    assert!(sealer.open(token.expose(), TokenKind::Master, 2000).is_err());
    assert!(sealer.open(token.expose(), TokenKind::Session, 6000).is_err());
    let changed = mutated_bytes(token.expose().as_bytes(), dice);
    if let Ok(text) = std::str::from_utf8(&changed)
        && text != token.expose()
    {
        assert!(sealer.open(text, TokenKind::Session, 2000).is_err(), "{text}");
    }
}

fuzz_target!(bodies_are_read_strictly, 4000, bodies);
fuzz_target!(raw_bytes_are_answered, 4000, raw);
fuzz_target!(what_is_packed_stays_small, 300, packed);
fuzz_target!(replies_give_no_credential_away, 4000, replies);
fuzz_target!(answers_are_what_they_are_however_they_come, 8000, answers);
fuzz_target!(routes_are_read_strictly, 8000, routes);
fuzz_target!(tokens_open_unchanged_only, 2000, tokens);
