//! What holds for every input: nothing panics, nothing sealed can be changed, no credential gets through.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::too_many_lines,
    clippy::format_collect
)]

use icegate_pep_protocol::{
    AbortRequest, ChunkTerms, ClientFacts, ErrorText, Limits, LoginReply, LoginRequest, QueryId, QueryRequest, Refusal,
    RenewRequest, Reply, ReplyTerms, RequestedNames, Route, SealKey, SealedSession, Sealer, Secret, SessionContext,
    Stamp, TokenError, TokenKind, UpstreamSession, body, decode_body,
    limits::MESSAGE_CHARS_MAX,
    parse_authorization,
    refusal::one_line,
    reply::{MonitoringTerms, monitoring_for_client},
    stamp,
};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

const TOKEN: &str = "ver:1-hint:9007-ETMsDgAAAX/planted+token==";
const QUERY_ID: &str = "01b2c3d4-0000-1111-2222-333344445555";

fn session(kind: TokenKind) -> SealedSession {
    SealedSession {
        kind,
        session_id: "0198a1b2".to_owned(),
        session_number: 42,
        principal_id: "dev/ana".to_owned(),
        principal_digest: "abcd".to_owned(),
        agent: Some("bot".to_owned()),
        upstream_token: Secret::new(TOKEN),
        upstream_master: Some(Secret::new("upstream-master")),
        upstream_session_id: "9007".to_owned(),
        client: ClientFacts::default(),
        context: SessionContext::default(),
        query_tag: None,
        issued_ms: 1000,
        expires_ms: 5000,
        session_expires_ms: 9000,
    }
}

fn sealer(first: u8, others: &[u8]) -> Sealer {
    Sealer::new(std::iter::once(&first).chain(others).map(|byte| SealKey::new([*byte; 32])).collect()).unwrap()
}

#[test]
fn tokens_open_with_the_right_key_kind_and_time() {
    let token = sealer(1, &[]).seal(&session(TokenKind::Session), [7; 24]).unwrap();
    let open = |sealer: Sealer, kind, now| sealer.open(token.expose(), kind, now).map(|session| session.session_number);
    assert_eq!(open(sealer(1, &[]), TokenKind::Session, 4999), Ok(42));
    assert_eq!(open(sealer(2, &[1]), TokenKind::Session, 4999), Ok(42), "an older key still opens");
    assert_eq!(open(sealer(1, &[]), TokenKind::Session, 5000), Err(TokenError::Expired));
    assert_eq!(open(sealer(1, &[]), TokenKind::Master, 4999), Err(TokenError::Forged));
    assert_eq!(open(sealer(2, &[]), TokenKind::Session, 4999), Err(TokenError::UnknownKey));
    assert!(sealer(1, &[]).open_ignoring_expiry(token.expose(), TokenKind::Session).is_ok());
    assert!(Sealer::new(Vec::new()).is_none());
    for text in ["", "ig1.", "ig1.AAAA", "ig2.AAAA", "None"] {
        assert_eq!(sealer(1, &[]).open(text, TokenKind::Session, 0).unwrap_err(), TokenError::Malformed, "{text}");
    }
}

#[test]
fn nothing_secret_shows_in_debug() {
    let shown = format!("{:?} {:?}", session(TokenKind::Master), sealer(0x5a, &[]));
    assert!(
        !shown.contains(TOKEN)
            && !shown.contains("upstream-master")
            && !shown.contains("5a5a")
            && !shown.contains("90, 90")
    );
}

#[test]
fn the_authorization_header_is_read_strictly() {
    for (header, token) in [
        (r#"Snowflake Token="ig1.abc""#, Some("ig1.abc")),
        (r#"snowflake Token="ig1.abc""#, Some("ig1.abc")),
        (r#"Snowflake Token="None""#, None),
        (r#"Snowflake Token="""#, None),
        (r"Snowflake Token=ig1.abc", None),
        (r#"Snowflake Token="a" Token="b""#, None),
        ("Bearer abc", None),
        ("", None),
    ] {
        assert_eq!(parse_authorization(header), token, "{header}");
    }
}

/// Replies of every sort, into which a token is planted.
fn replies() -> Vec<Value> {
    vec![
        json!({"data": {"rowtype": [{"name": "A", "type": "text"}], "rowset": [["1", null], ["2", "x"]], "total": 2, "returned": 2,
            "queryId": QUERY_ID, "finalDatabaseName": "D", "parameters": [{"name": "TIMEZONE", "value": "UTC"}],
            "queryContext": {"entries": [{"id": 1, "context": "CAE="}]}, "stats": {"numRowsInserted": 1},
            "chunks": [{"url": "https://x/y", "rowCount": 1}], "chunkHeaders": {"a": "b"}, "qrmk": "k",
            "resultIds": QUERY_ID, "version": 1, "new": {"deep": [1]}}, "code": null, "message": null, "success": true}),
        json!({"data": {"rowsetBase64": "QUJD", "total": 1, "queryResultFormat": "arrow"}, "success": true, "headers": {"h": "v"}}),
        json!({"data": {"errorCode": "1", "sqlState": "42000", "queryId": QUERY_ID, "type": "X"}, "code": "1", "message": "no",
            "success": false}),
        json!({"data": {"queryId": QUERY_ID, "getResultUrl": format!("/queries/{QUERY_ID}/result"), "progressDesc": "x"},
            "code": "333333", "message": "running", "success": true}),
        json!({"data": {"queries": [{"id": QUERY_ID, "status": "SUCCESS", "state": "S", "errorCode": "0", "errorMessage": "x",
            "stats": {"a": 1}, "sqlText": "x"}]}, "success": true}),
        json!({"data": {"token": TOKEN, "masterToken": "m", "sessionId": 1, "serverVersion": "9",
            "parameters": [{"name": "TIMEZONE", "value": "UTC"}], "sessionInfo": {"databaseName": "D"}}, "success": true}),
    ]
}

/// Puts the token into the place number `at`: instead of a value, inside a text, or as a key beside it.
fn plant(value: &mut Value, at: &mut usize, how: usize) -> bool {
    if *at == 0 {
        match (how % 3, &mut *value) {
            (0, Value::String(text)) => *text = format!("{text} {TOKEN} {text}"),
            (1, Value::Object(map)) => drop(map.insert(TOKEN.to_owned(), json!(1))),
            (2, Value::Object(map)) => drop(map.insert("oldSessionToken".to_owned(), json!(TOKEN))),
            (_, other) => *other = json!(TOKEN),
        }
        return true;
    }
    *at -= 1;
    match value {
        Value::Array(items) => items.iter_mut().any(|item| plant(item, at, how)),
        Value::Object(map) => map.values_mut().any(|item| plant(item, at, how)),
        _ => false,
    }
}

/// Everything a client could be told from this reply, whatever kind of reply it is taken for.
fn told(body: &[u8]) -> Vec<Vec<u8>> {
    let limits = Limits::default();
    let secret = Secret::new(TOKEN);
    let id = QueryId::parse(QUERY_ID).unwrap();
    let mut told = Vec::new();
    for (error_text, chunks) in [(ErrorText::Keep, ChunkTerms::Direct), (ErrorText::Withhold, ChunkTerms::Through(&[]))]
    {
        let terms =
            ReplyTerms { query_id: None, error_text, statement_kinds: &[], chunks, columns: None, secrets: &[&secret] };
        if let Ok(reply) = Reply::parse(body, &limits) {
            match reply.into_client(&terms) {
                Ok(answer) => {
                    told.push(answer.dropped_fields.join(" ").into_bytes());
                    told.push(answer.body);
                }
                Err(refusal) => told.push(refusal.refusal().text().into_bytes()),
            }
        }
        let terms = MonitoringTerms {
            upstream_id: &id,
            query_id: &id,
            session_number: 1,
            client_sql: None,
            error_text,
            secrets: &[&secret],
        };
        told.extend(monitoring_for_client(body, &terms, &limits).map(|reply| reply.body));
    }
    match UpstreamSession::parse(body, &limits) {
        Ok(upstream) => {
            let ours = Secret::new("ig1.x");
            let reply = LoginReply {
                token: &ours,
                master_token: &ours,
                session_number: 1,
                validity_seconds: 1,
                master_validity_seconds: 1,
                display_user: "u",
                upstream: &upstream,
            };
            told.push(reply.to_json().to_vec());
        }
        Err(error) => told.push(error.to_string().into_bytes()),
    }
    told
}

fn json_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    let key = prop_oneof![
        ".{0,6}",
        prop::sample::select(vec![
            "data",
            "sqlText",
            "parameters",
            "bindings",
            "rowset",
            "queryId",
            "success",
            "code",
            "TOKEN",
            "PASSWORD",
            "AUTHENTICATOR",
            "SESSION_PARAMETERS",
            "CLIENT_ENVIRONMENT",
            "queries",
            "id",
            "token",
            "requestType",
            "oldSessionToken",
            "requestId",
            "getResultUrl",
            "MULTI_STATEMENT_COUNT",
            "QUERY_TAG",
            "chunks",
        ])
        .prop_map(str::to_owned),
    ];
    leaf.prop_recursive(5, 64, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key.clone(), inner), 0..6)
                .prop_map(|entries| Value::Object(entries.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

/// Gives bytes to every parser of untrusted bytes.
fn read_everything(bytes: &[u8]) {
    let limits = Limits::default();
    let _ = body::gunzip(bytes, 1 << 16);
    for encoding in [None, Some("gzip")] {
        if let Ok(map) = decode_body(bytes, encoding, &limits) {
            let _ = LoginRequest::parse(&map, RequestedNames::default(), &limits);
            let _ = RenewRequest::parse(&map);
            let _ = AbortRequest::parse(&map);
            if let Ok(query) = QueryRequest::parse(map, &limits) {
                let sent = query.to_upstream("select 1", "{}");
                assert!(serde_json::from_slice::<Value>(&sent).is_ok());
                let _ = query.bindings_json();
            }
        }
    }
    if let Ok(reply) = Reply::parse(bytes, &limits) {
        let _ = (reply.query_id(), reply.context(), reply.rows(), reply.result_ids(), reply.is_in_progress());
    }
    for answer in told(bytes) {
        let _ = answer;
    }
    let _ = UpstreamSession::parse_renewal(bytes, &limits);
    if let Ok(text) = std::str::from_utf8(bytes) {
        let _ = parse_authorization(text);
        let _ = sealer(1, &[2]).open(text, TokenKind::Session, 0);
        let _ = QueryId::parse(text);
        for method in ["GET", "POST"] {
            let (path, query) = text.split_once('?').unwrap_or((text, ""));
            let _ = Route::parse(method, path, query);
            let _ = Route::parse(method, "/session/v1/login-request", text);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_bytes_make_a_parser_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read_everything(&bytes);
    }

    #[test]
    fn no_text_makes_a_parser_panic(text in "(/|\\?|&|=|%|ig1\\.|Snowflake Token=\"|\\{|\\}|\\[|\"|:|,|.){0,60}") {
        read_everything(text.as_bytes());
    }

    #[test]
    fn no_json_makes_a_parser_panic(value in json_value()) {
        read_everything(value.to_string().as_bytes());
        read_everything(json!({"data": value, "success": true}).to_string().as_bytes());
    }

    #[test]
    fn what_is_sealed_opens_the_same(
        nonce in any::<[u8; 24]>(), key in any::<[u8; 32]>(), upstream in "[ -~]{0,300}", user in ".{0,60}",
        agent in prop::option::of(".{0,20}"), number in any::<u64>(), master in any::<bool>(),
    ) {
        let kind = if master { TokenKind::Master } else { TokenKind::Session };
        let mut made = session(kind);
        made.upstream_token = Secret::new(upstream);
        made.principal_id = user;
        made.agent = agent;
        made.session_number = number;
        let sealer = Sealer::new(vec![SealKey::new(key)]).unwrap();
        let token = sealer.seal(&made, nonce).unwrap();
        prop_assert!(token.expose().bytes().all(|byte| byte.is_ascii_graphic()));
        let header = format!("Snowflake Token=\"{}\"", token.expose());
        prop_assert_eq!(parse_authorization(&header), Some(token.expose()));
        let opened = sealer.open(token.expose(), kind, 0).unwrap();
        prop_assert_eq!(serde_json::to_string(&opened).unwrap(), serde_json::to_string(&made).unwrap());
    }

    #[test]
    fn a_changed_token_does_not_open(at in any::<prop::sample::Index>(), to in any::<u8>(), cut in any::<prop::sample::Index>()) {
        let sealer = sealer(1, &[2]);
        let token = sealer.seal(&session(TokenKind::Session), [9; 24]).unwrap();
        let mut bytes = token.expose().as_bytes().to_vec();
        let at = at.index(bytes.len());
        prop_assume!(bytes[at] != to);
        bytes[at] = to;
        if let Ok(text) = std::str::from_utf8(&bytes) {
            prop_assert!(sealer.open(text, TokenKind::Session, 0).is_err());
        }
        let shorter = &token.expose()[..cut.index(token.expose().len())];
        prop_assert!(sealer.open(shorter, TokenKind::Session, 0).is_err());
    }

    #[test]
    fn a_planted_token_never_gets_through(which in 0_usize..6, at in 0_usize..60, how in 0_usize..4, escaped in any::<bool>()) {
        let mut reply = replies().swap_remove(which);
        let mut place = at;
        let planted = plant(&mut reply, &mut place, how);
        prop_assume!(planted || which == 5);
        let mut body = reply.to_string();
        if escaped {
            // Another way to write the same text.
            body = body.replace("planted", "\\u0070lant\\u0065d").replace("/planted", "\\/planted");
        }
        for answer in told(body.as_bytes()) {
            let shown = String::from_utf8(answer).unwrap();
            let unescaped = shown.replace("\\u0070", "p").replace("\\u0065", "e").replace("\\/", "/");
            prop_assert!(!unescaped.contains(TOKEN) && !unescaped.contains("planted"), "{}", shown);
        }
    }

    #[test]
    fn texts_for_people_are_one_bounded_line(code in ".{0,20}", message in "(\\PC|.|\n){0,300}", policy in ".{0,300}", id in ".{0,80}") {
        let text = Refusal::new(code, message.repeat(8)).with_policies([policy.repeat(8)]).with_decision(id).text();
        prop_assert!(text.chars().count() <= MESSAGE_CHARS_MAX);
        prop_assert!(!text.chars().any(char::is_control));
        prop_assert!(one_line(&message, 10).chars().count() <= 10);
    }

    #[test]
    fn a_tag_is_json_within_snowflakes_limit(user in ".{0,400}", agent in prop::option::of(".{0,400}"), tag in "(\\PC|\n|\"){0,300}", times in 1_usize..9) {
        let tag = tag.repeat(times);
        let text = stamp(&Stamp { decision: Some("0198"), user: &user, agent: agent.as_deref(), client_tag: Some(&tag) });
        prop_assert!(text.chars().count() <= 2000);
        let read: Value = serde_json::from_str(&text).unwrap();
        prop_assert_eq!(&read["icegate"]["decision"], "0198");
        prop_assert!(tag.starts_with(read["tag"].as_str().unwrap_or_default()));
    }
}
