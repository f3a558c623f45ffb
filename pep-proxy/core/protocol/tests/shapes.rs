//! Every shape the protocol notes captured, and what becomes of it. The cases are data; the answers are snapshots.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::too_many_lines,
    clippy::format_collect
)]

use std::fmt::Write;

use icegate_pep_protocol::{
    ChunkTerms, ErrorText, Limits, LoginError, LoginReply, LoginRequest, PepCode, QueryId, QueryRequest, Refusal,
    Reply, ReplyTerms, RequestedNames, Route, Secret, UpstreamCredential, UpstreamSession, answer,
    answer::{InProgress, Monitored, MonitoredStatus, Renewed},
    reply::{MonitoringTerms, monitoring_for_client},
    upstream_login,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

const QUERY_ID: &str = "01b2c3d4-0000-1111-2222-333344445555";
const UPSTREAM_TOKEN: &str = "upstream-token-1234";

fn cases<T: for<'de> Deserialize<'de>>(text: &str) -> Vec<T> {
    serde_saphyr::from_str(text).unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn map(value: &Value) -> Map<String, Value> {
    value.as_object().cloned().unwrap()
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteCase {
    request: String,
    is: Option<String>,
    refused: Option<String>,
}

#[test]
fn routes() {
    for RouteCase { request, is, refused } in cases::<RouteCase>(include_str!("cases/routes.yaml")) {
        let (method, target) = request.split_once(' ').unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let found = Route::parse(method, path, query);
        let shown = found.as_ref().ok().map(|route| {
            let name = route.name();
            match route {
                Route::Login { names } if *names != RequestedNames::default() => {
                    let RequestedNames { database, schema, role, warehouse } = names.clone();
                    let names = [database, schema, role, warehouse].map(Option::unwrap_or_default).join(",");
                    format!("{name} names={names}")
                }
                Route::Query { request_id: Some(id) } => format!("{name} request={id}"),
                Route::QueryResult(id) | Route::AbortById(id) | Route::Monitoring(id) => format!("{name} id={id}"),
                Route::ApiSubmit { request_id, detached } => {
                    format!("{name} request={} detached={detached}", request_id.as_ref().map_or("", |id| id.as_str()))
                }
                Route::ApiResult { handle, partition } => format!("{name} handle={handle} partition={partition}"),
                Route::ApiCancel(handle) => format!("{name} handle={handle}"),
                Route::Chunk(sealed) => format!("{name} sealed={sealed}"),
                _ => name.to_owned(),
            }
        });
        assert_eq!(shown, is, "{request}");
        assert_eq!(found.err().map(|error| error.code().to_string()), refused, "{request}");
    }
}

#[test]
fn routes_are_bounded() {
    let long = format!("/{}", "a".repeat(600));
    assert_eq!(Route::parse("GET", &long, "").unwrap_err().code(), PepCode::RequestLimit);
    let long = "a=b&".repeat(4000);
    assert_eq!(Route::parse("POST", "/session/heartbeat", &long).unwrap_err().code(), PepCode::RequestLimit);
    let many: String = (0..40).map(|n| format!("p{n}=1&")).collect();
    assert_eq!(Route::parse("POST", "/session/heartbeat", &many).unwrap_err().code(), PepCode::RequestMalformed);
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LoginCase {
    name: String,
    #[serde(default)]
    query: String,
    body: Value,
}

#[test]
fn logins() {
    let limits = Limits::default();
    let mut seen = String::new();
    for LoginCase { name, query, body } in cases::<LoginCase>(include_str!("cases/logins.yaml")) {
        let Ok(Route::Login { names }) = Route::parse("POST", "/session/v1/login-request", &query) else {
            panic!("{name}: no login");
        };
        writeln!(seen, "# {name}").unwrap();
        match LoginRequest::parse(&map(&json!({ "data": body })), names, &limits) {
            Ok(login) => {
                let jwt = Secret::new("signed.by.icegate");
                let credential = UpstreamCredential::KeyPairJwt { user: "ICEGATE", jwt: &jwt };
                writeln!(seen, "{} `{}` for `{}`", login.carrier.as_str(), login.token.expose(), login.login_name)
                    .unwrap();
                writeln!(seen, "{:?} dropped {:?} tag {:?}", login.names, login.dropped_parameters, login.query_tag)
                    .unwrap();
                let sent = text(&upstream_login(&login, "acct", &credential, "{tag}"));
                assert!(!sent.contains(login.token.expose()), "{name}: the client's token goes to Snowflake");
                writeln!(seen, "sends {sent}\n").unwrap();
                assert!(!format!("{login:?}").contains(login.token.expose()), "{name}: the token shows in Debug");
            }
            Err(error) => writeln!(seen, "refused {}: {error}\n", error.code()).unwrap(),
        }
    }
    insta::assert_snapshot!("logins", seen);
}

#[test]
fn a_login_is_bounded() {
    let limits = Limits { credential_bytes_max: 10, ..Limits::default() };
    let body = json!({"data": {"AUTHENTICATOR": "OAUTH", "TOKEN": "12345678901"}});
    let error = LoginRequest::parse(&map(&body), RequestedNames::default(), &limits).unwrap_err();
    assert_eq!(error, LoginError::TokenShape { bytes_max: 10 });
    let error = LoginRequest::parse(&Map::new(), RequestedNames::default(), &limits).unwrap_err();
    assert_eq!(error, LoginError::NoData);
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct QueryCase {
    name: String,
    body: Value,
}

#[test]
fn queries() {
    let mut seen = String::new();
    for QueryCase { name, body } in cases::<QueryCase>(include_str!("cases/queries.yaml")) {
        writeln!(seen, "# {name}").unwrap();
        match QueryRequest::parse(map(&body), &Limits::default()) {
            Ok(query) => {
                writeln!(
                    seen,
                    "async {} describe {} count {} tag {:?} dropped {:?} bindings {}",
                    query.async_exec(),
                    query.describe_only(),
                    query.statement_count(),
                    query.query_tag(),
                    query.dropped_parameters(),
                    query.bindings_json(),
                )
                .unwrap();
                writeln!(seen, "sends {}\n", text(&query.to_upstream("<rewritten>", "{tag}"))).unwrap();
            }
            Err(error) => writeln!(seen, "refused {}: {error}\n", error.code()).unwrap(),
        }
    }
    insta::assert_snapshot!("queries", seen);
}

#[test]
fn a_statement_is_bounded() {
    let limits = Limits { sql_bytes_max: 7, ..Limits::default() };
    let error = QueryRequest::parse(map(&json!({"sqlText": "select 1"})), &limits).unwrap_err();
    assert_eq!(error.code(), PepCode::RequestLimit);
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ReplyCase {
    name: String,
    reply: Value,
    query_id: Option<String>,
    #[serde(default)]
    withhold: bool,
    #[serde(default)]
    kinds: Vec<String>,
    #[serde(default)]
    chunks: Where,
    columns: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Where {
    #[default]
    Withhold,
    Direct,
    Through,
}

#[test]
fn replies() {
    let mut seen = String::new();
    let secret = Secret::new(UPSTREAM_TOKEN);
    for case in cases::<ReplyCase>(include_str!("cases/replies.yaml")) {
        writeln!(seen, "# {}", case.name).unwrap();
        let body = case.reply.to_string();
        let query_id = case.query_id.as_deref().and_then(QueryId::parse);
        let addresses = ["https://pep/chunks/0".to_owned()];
        let terms = ReplyTerms {
            query_id: query_id.as_ref(),
            error_text: if case.withhold { ErrorText::Withhold } else { ErrorText::Keep },
            statement_kinds: &case.kinds,
            chunks: match case.chunks {
                Where::Withhold => ChunkTerms::Withhold,
                Where::Direct => ChunkTerms::Direct,
                Where::Through => ChunkTerms::Through(&addresses),
            },
            columns: case.columns.as_deref(),
            secrets: &[&secret],
        };
        let answered = Reply::parse(body.as_bytes(), &Limits::default()).and_then(|reply| {
            writeln!(
                seen,
                "code `{}` running {} id {:?} rows {:?} loss {:?} ids {} chunks {:?} context {:?}",
                reply.code(),
                reply.is_in_progress(),
                reply.query_id().map(|id| id.to_string()),
                reply.rows(),
                reply.session_loss(),
                reply.result_ids().len(),
                reply.chunks().map(|chunks| chunks.map_or(0, |chunks| chunks.all.len())).ok(),
                reply.context(),
            )
            .unwrap();
            reply.into_client(&terms)
        });
        match answered {
            Ok(answer) => {
                assert!(!text(&answer.body).contains(UPSTREAM_TOKEN), "{}", case.name);
                writeln!(
                    seen,
                    "dropped {:?} delivery {:?}\nanswers {}\n",
                    answer.dropped_fields,
                    answer.delivery,
                    text(&answer.body)
                )
                .unwrap();
            }
            Err(refusal) => writeln!(seen, "{}\n", refusal.refusal().text()).unwrap(),
        }
    }
    insta::assert_snapshot!("replies", seen);
}

#[test]
fn rows_stay_the_bytes_they_are() {
    let rows = r#"[ ["1.50", "\u00e4", null],["2","\/",  "x"] ]"#;
    let body = format!(r#"{{"data":{{"rowset":{rows},"total":2,"returned":2}},"success":true}}"#);
    let terms = ReplyTerms {
        query_id: None,
        error_text: ErrorText::Keep,
        statement_kinds: &[],
        chunks: ChunkTerms::Withhold,
        columns: None,
        secrets: &[],
    };
    let answer = Reply::parse(body.as_bytes(), &Limits::default()).unwrap().into_client(&terms).unwrap();
    assert!(text(&answer.body).contains(rows));
}

#[test]
fn a_reply_is_bounded_and_strict() {
    let limits = Limits { reply_bytes_max: 10, ..Limits::default() };
    assert!(Reply::parse(b"{\"success\":true}", &limits).is_err());
    for body in [
        r#"{"success":true,"success":false}"#,
        r#"{"success":true,"data":{"total":1,"total":2}}"#,
        r#"{"success":true,"data":{"rowset":[],"rowset":[["x"]]}}"#,
        r#"{"success":true,"data":{"stats":{"a":1,"a":2}}}"#,
        r#"{"success":"perhaps"}"#,
        "<html>502</html>",
        "",
    ] {
        assert!(Reply::parse(body.as_bytes(), &Limits::default()).is_err(), "{body}");
    }
}

#[test]
fn monitoring_tells_of_one_query_only() {
    let body = json!({"data": {"queries": [
        {"id": "99999999-0000-1111-2222-333344445555", "status": "SUCCESS", "sqlText": "select 'other'"},
        {"id": QUERY_ID, "status": "FAILED_WITH_ERROR", "state": "FILE_SET_INITIALIZATION", "errorCode": "002003",
         "errorMessage": "Numeric value 'ana@example.com' is not recognized", "sqlText": "select mask(email)",
         "sessionId": 77, "warehouseName": "WH", "warehouseServerType": "X", "startTime": 1, "endTime": 2,
         "totalDuration": 1, "stats": {"scanBytes": 1}},
    ]}, "success": true});
    let upstream_id = QueryId::parse(QUERY_ID).unwrap();
    let query_id = QueryId::parse("11111111-2222-3333-4444-555555555555").unwrap();
    let mut terms = MonitoringTerms {
        upstream_id: &upstream_id,
        query_id: &query_id,
        session_number: 42,
        client_sql: Some("select email"),
        error_text: ErrorText::Withhold,
        secrets: &[],
    };
    let body = body.to_string().into_bytes();
    let told = monitoring_for_client(&body, &terms, &Limits::default()).unwrap();
    assert_eq!(told.status, "FAILED_WITH_ERROR");
    insta::assert_snapshot!("monitoring", text(&told.body));

    terms.upstream_id = &query_id;
    let told = monitoring_for_client(&body, &terms, &Limits::default()).unwrap();
    assert_eq!((told.status.as_str(), text(&told.body).contains("\"queries\":[]")), ("", true));
    assert!(monitoring_for_client(b"[]", &terms, &Limits::default()).is_err());
}

#[test]
fn the_login_reply_has_our_tokens_and_snowflakes_settings() {
    let upstream = json!({"data": {
        "token": UPSTREAM_TOKEN, "masterToken": "upstream-master-1234", "sessionId": 9007, "validityInSeconds": 3600,
        "masterValidityInSeconds": 14400, "displayUserName": "ICEGATE", "serverVersion": "9.1.0",
        "idToken": "upstream-id-1234", "mfaToken": "upstream-mfa-1234",
        "parameters": [
            {"name": "TIMEZONE", "value": "America/Los_Angeles"}, {"name": "AUTOCOMMIT", "value": false},
            {"name": "CLIENT_STAGE_ARRAY_BINDING_THRESHOLD", "value": 65280}, {"name": "CLIENT_TELEMETRY_ENABLED", "value": true},
            {"name": "CLIENT_STORE_TEMPORARY_CREDENTIAL", "value": true}, {"name": "INTERNAL_THING", "value": 1},
        ],
        "sessionInfo": {"databaseName": "SALES", "schemaName": null, "warehouseName": "WH", "roleName": "R"},
    }, "success": true});
    let upstream = UpstreamSession::parse(upstream.to_string().as_bytes(), &Limits::default()).unwrap();
    assert_eq!(upstream.session_id, "9007");
    let (token, master) = (Secret::new("ig1.session"), Secret::new("ig1.master"));
    let reply = LoginReply {
        token: &token,
        master_token: &master,
        session_number: 42,
        validity_seconds: 3600,
        master_validity_seconds: 14400,
        display_user: "dev/ana",
        upstream: &upstream,
    };
    let body = text(&reply.to_json());
    assert!(!body.contains("upstream-"));
    insta::assert_snapshot!("login_reply", body);
}

#[test]
fn a_stand_in_without_master_token_will_do() {
    let upstream = UpstreamSession::parse(
        br#"{"data":{"token":"t","parameters":[{"name":"AUTOCOMMIT","value":true}],
        "sessionInfo":{"databaseName":null}},"success":true}"#,
        &Limits::default(),
    )
    .unwrap();
    assert!(upstream.master_token.is_none());
    let renewed = UpstreamSession::parse_renewal(
        br#"{"data":{"sessionToken":"t2","masterToken":"m2","validityInSecondsST":60,"sessionId":1},"success":true}"#,
        &Limits::default(),
    )
    .unwrap();
    assert_eq!((renewed.token.expose(), renewed.validity_seconds), ("t2", Some(60)));
    for (body, wanted) in [
        (r#"{"data":{},"success":true}"#, "snowflake's reply to the login is not readable: it has no token"),
        (
            r#"{"data":null,"success":false,"code":"390100","message":"x"}"#,
            "snowflake refused the login with code `390100`",
        ),
        (
            r#"{"data":{"token":"a\"b"},"success":true}"#,
            "snowflake's reply to the login is not readable: a token is not printable",
        ),
        (
            r#"{"data":{"token":"tttttttt","serverVersion":"xttttttttx"},"success":true}"#,
            "snowflake's reply to the login is not readable: a token stands outside its field",
        ),
        ("[]", "snowflake's reply to the login is not readable: it is not a JSON object within the limits"),
    ] {
        let error = UpstreamSession::parse(body.as_bytes(), &Limits::default()).unwrap_err();
        assert_eq!(error.to_string(), wanted, "{body}");
    }
}

#[test]
fn answers() {
    let id = QueryId::parse(QUERY_ID).unwrap();
    let token = Secret::new("ig1.x");
    let forbidden = Refusal::new("POLICY-FORBID", "An agent's write needs a person's approval.")
        .with_policies(["agent-writes"])
        .with_decision("0198a1b2-0000-7000-8000-000000000000");
    let progress =
        InProgress { query_id: &id, detached: false, aborts_after_seconds: 900, description: "Waits for `stewards`." };
    let held = Monitored {
        query_id: &id,
        status: MonitoredStatus::Running,
        session_number: 42,
        started_ms: 1000,
        ended_ms: None,
        refusal: None,
    };
    let refused =
        Monitored { status: MonitoredStatus::Failed, ended_ms: Some(3000), refusal: Some(&forbidden), ..held };
    let renewed = Renewed {
        session_token: &token,
        validity_seconds: 3600,
        master_token: &token,
        master_validity_seconds: 14400,
        session_number: 42,
    };
    let mut all = vec![
        ("refused", answer::refused(&forbidden, Some(&id))),
        ("in progress", answer::in_progress(&progress)),
        ("in progress, detached", answer::in_progress(&InProgress { detached: true, ..progress })),
        ("session expired", answer::session_expired()),
        ("master expired", answer::master_expired()),
        ("token invalid", answer::token_invalid()),
        ("session gone", answer::session_gone()),
        ("identity token invalid", answer::oauth_token_invalid("The token's issuer is not trusted.")),
        ("identity token expired", answer::oauth_token_expired("The token has expired; get a new one.")),
        ("query unknown", answer::query_unknown(&id)),
        ("query cancelled", answer::query_cancelled(Some(&id))),
        ("aborted", answer::aborted().to_vec()),
        ("abort, not running", answer::abort_not_running()),
        ("heartbeat", answer::heartbeat().to_vec()),
        ("logged out", answer::logged_out().to_vec()),
        ("telemetry", answer::telemetry()),
        ("renewed", answer::renewed(&renewed).to_vec()),
        ("monitoring, held", answer::monitoring(&held)),
        ("monitoring, refused", answer::monitoring(&refused)),
    ];
    for code in PepCode::ALL {
        all.push((code.as_str(), answer::refused(&Refusal::new(code, "Do this."), None)));
    }
    for code in ["IDENTITY-INVALID", "IDENTITY-EXPIRED", "IDENTITY-MISMATCH", "SESSION-REVOKED", "SESSION-ENDED"] {
        all.push((code, answer::refused(&Refusal::new(code, "Do this."), None)));
    }
    let seen: String = all.iter().map(|(name, body)| format!("# {name}\n{}\n\n", text(body))).collect();
    insta::assert_snapshot!("answers", seen);
}
