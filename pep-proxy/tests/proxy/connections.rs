//! Two warehouses behind one proxy: which one a call arrives at, and that nothing of one is reached through the other.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use icegate_pep::{Config, Running};
use rustls::pki_types::ServerName;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::{
    pdp::{FakePdp, Killable, deny},
    sign_in::FakeIdp,
    stage::eventually,
    upstream::FakeUpstream,
};

struct Side {
    pdp: FakePdp,
    _server: Killable,
    upstream: FakeUpstream,
    config: String,
}

impl Side {
    async fn new(name: &str, hosts: &str, account: &str, dir: &std::path::Path, issuer: &str) -> Self {
        let pdp = FakePdp::new();
        // Session ids are the PDP's: two of them may give the same.
        let (pdp_addr, server) = pdp.serve("127.0.0.1:0".parse().unwrap()).await;
        let (upstream, upstream_addr) = FakeUpstream::serve().await;
        let password = dir.join(name);
        std::fs::write(&password, format!("s3cret-{name}")).unwrap();
        let config = format!(
            r#"
[[connections]]
name = "{name}"
hosts = {hosts}
[connections.upstream]
url = "http://{upstream_addr}"
danger_plaintext = true
account = "{account}"
user = "svc_{name}"
auth = "password"
password_file = "{password}"
[connections.pdp]
url = "http://{pdp_addr}"
danger_plaintext = true
[connections.sign_in]
issuer = "{issuer}"
danger_plaintext = true
client_id = "icegate"
url = "https://{name}.test"
"#,
            password = password.display()
        );
        Self { pdp, _server: server, upstream, config }
    }

    fn logins(&self) -> usize {
        self.upstream.calls_to("/session/v1/login-request").len()
    }
}

struct Two {
    prod: Side,
    dev: Side,
    pep: Running,
    _dir: tempfile::TempDir,
}

impl Two {
    async fn new() -> Self {
        Self::listening("danger_plaintext = true", tempfile::tempdir().unwrap()).await
    }

    async fn listening(how: &str, dir: tempfile::TempDir) -> Self {
        let issuer = FakeIdp::serve().await.issuer;
        let prod = Side::new("prod", r#"["prod.test"]"#, "PROD-ACCT", dir.path(), &issuer).await;
        let dev = Side::new("dev", r#"["dev.test", "dev2.test"]"#, "DEV-ACCT", dir.path(), &issuer).await;
        let at = dir.path().display();
        let config = format!(
            "pep_id = \"pep-1\"\n[listen]\naddr = \"127.0.0.1:0\"\n{how}\n[journal]\npath = \"{at}/journal\"\n[metrics]\naddr = \"127.0.0.1:0\"\n{}{}",
            prod.config, dev.config
        );
        let pep = icegate_pep::start(Config::parse(&config, "pep.toml").unwrap()).await.unwrap();
        let two = Self { prod, dev, pep, _dir: dir };
        let ready = format!("http://{}/readyz", two.pep.metrics_addr().unwrap());
        let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
        eventually("both heard", || async {
            client.get(ready.parse().unwrap()).await.is_ok_and(|reply| reply.status() == 200)
        })
        .await;
        two
    }

    async fn call(&self, method: &str, path: &str, host: &str, authorization: &str, body: &Value) -> (u16, Value) {
        let client = Client::builder(TokioExecutor::new()).build_http();
        let host = if host.is_empty() { self.pep.addr().to_string() } else { host.to_owned() };
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.pep.addr()))
            .header("host", host)
            .header("authorization", authorization)
            .header("user-agent", "test/1.0")
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        let reply = client.request(request).await.unwrap();
        let status = reply.status().as_u16();
        let bytes = reply.into_body().collect().await.unwrap().to_bytes();
        for secret in ["s3cret", crate::upstream::TOKEN, crate::upstream::MASTER] {
            assert!(!String::from_utf8_lossy(&bytes).contains(secret), "`{secret}` reached the client");
        }
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    async fn login(&self, host: &str) -> (String, String) {
        let body = json!({ "data": { "AUTHENTICATOR": "OAUTH", "TOKEN": "good.token" } });
        let (_, reply) = self.call("POST", "/session/v1/login-request", host, "None", &body).await;
        assert_eq!(reply["success"], true, "{reply}");
        let text = |name: &str| format!("Snowflake Token=\"{}\"", reply["data"][name].as_str().unwrap());
        (text("token"), text("masterToken"))
    }

    async fn query(&self, host: &str, authorization: &str, sql: &str) -> Value {
        let path = format!("/queries/v1/query-request?requestId={}", uuid::Uuid::new_v4());
        self.call("POST", &path, host, authorization, &json!({ "sqlText": sql })).await.1
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    #[serde(default)]
    host: String,
    #[serde(default)]
    account: String,
    #[serde(default)]
    query: String,
    #[serde(default)]
    login: String,
    #[serde(default)]
    at: String,
    #[serde(default)]
    refused: String,
}

#[tokio::test]
async fn a_login_arrives_where_it_says_or_nowhere() {
    let two = Two::new().await;
    let cases: Vec<Case> = serde_saphyr::from_str(include_str!("connections.yaml")).unwrap();
    for case in &cases {
        let mut data = json!({ "AUTHENTICATOR": "OAUTH", "TOKEN": "good.token", "LOGIN_NAME": case.login });
        if !case.account.is_empty() {
            data["ACCOUNT_NAME"] = json!(case.account);
        }
        let before = (two.prod.logins(), two.dev.logins());
        let path = format!("/session/v1/login-request?{}", case.query);
        let (_, reply) = two.call("POST", &path, &case.host, "None", &json!({ "data": data })).await;
        let after = (two.prod.logins() - before.0, two.dev.logins() - before.1);
        if case.refused.is_empty() {
            assert_eq!(reply["success"], true, "{}: {reply}", case.name);
            assert_eq!(after, if case.at == "prod" { (1, 0) } else { (0, 1) }, "{}", case.name);
        } else {
            let message = reply["message"].as_str().unwrap_or_default();
            assert!(message.contains(&format!("[{}]", case.refused)), "{}: {reply}", case.name);
            assert_eq!(after, (0, 0), "{}", case.name);
        }
    }
    for (side, name, account) in [(&two.prod, "prod", "PROD-ACCT"), (&two.dev, "dev", "DEV-ACCT")] {
        let opened = side.pdp.told.lock().unwrap().opened.clone();
        assert!(opened.len() >= 3 && opened.iter().all(|asked| asked.connection == name), "{name}");
        for login in side.upstream.calls_to("/session/v1/login-request") {
            let data = &login.body["data"];
            assert_eq!(
                (&data["ACCOUNT_NAME"], &data["LOGIN_NAME"], &data["PASSWORD"]),
                (&json!(account), &json!(format!("svc_{name}")), &json!(format!("s3cret-{name}")))
            );
        }
    }
}

#[tokio::test]
async fn a_session_is_of_one_connection_and_stays_there() {
    let two = Two::new().await;
    let (prod, prod_master) = two.login("prod.test").await;
    let (dev, _) = two.login("dev.test").await;
    two.prod.pdp.decide_as("select canary", deny("POLICY-FORBID", "of-prod", "Not in prod."));

    // Its token is enough to find it, and its own policies decide.
    for host in ["", "prod.test", "x.test"] {
        let reply = two.query(host, &prod, "select canary").await;
        assert!(reply["message"].as_str().unwrap().contains("policy `of-prod`"), "{host}: {reply}");
    }
    assert_eq!(two.query("", &dev, "select canary").await["success"], true);
    assert_eq!((two.prod.upstream.texts(), two.dev.upstream.texts().len()), (vec![], 1));

    // At the other's host it is no token, whatever is asked.
    let id = crate::upstream::SLOW_ID;
    let renew = json!({ "oldSessionToken": "x", "requestType": "RENEW" });
    for (method, path, token, body) in [
        ("POST", "/queries/v1/query-request".to_owned(), &prod, json!({ "sqlText": "select canary" })),
        ("GET", format!("/queries/{id}/result"), &prod, Value::Null),
        ("POST", format!("/queries/{id}/abort-request"), &prod, json!({})),
        ("GET", format!("/monitoring/queries/{id}"), &prod, Value::Null),
        ("POST", "/session/heartbeat".to_owned(), &prod, json!({})),
        ("POST", "/session/token-request".to_owned(), &prod_master, renew),
    ] {
        let (_, reply) = two.call(method, &path, "dev.test", token, &body).await;
        assert_eq!(reply["code"], "390104", "{method} {path}: {reply}");
    }
    // Nor does its logout end anything there.
    let (_, reply) = two.call("POST", "/session?delete=true", "dev.test", &prod, &json!({})).await;
    assert_eq!(reply["success"], true);
    assert_eq!(two.query("", &dev, "select 1").await["success"], true);
    assert!(two.query("", &prod, "select canary").await["message"].as_str().unwrap().contains("of-prod"));
    assert!(two.prod.pdp.told.lock().unwrap().closed.is_empty() && two.dev.pdp.told.lock().unwrap().closed.is_empty());
}

#[tokio::test]
async fn the_sql_api_goes_by_the_host_name() {
    let two = Two::new().await;
    let body = json!({ "statement": "select 1" });
    let submit = async |host: &str| two.call("POST", "/api/v2/statements", host, "Bearer good.token", &body).await;
    let (status, reply) = submit("dev.test").await;
    assert_eq!(status, 200, "{reply}");
    let handle = reply["statementHandle"].as_str().unwrap().to_owned();
    assert_eq!((two.prod.logins(), two.dev.logins()), (0, 1));
    let (status, reply) = submit("").await;
    assert_eq!(status, 422);
    assert!(reply["message"].as_str().unwrap().contains("[CONNECTION-UNKNOWN]"), "{reply}");
    // A handle of the one is none of the other.
    let path = format!("/api/v2/statements/{handle}");
    let (status, reply) = two.call("GET", &path, "prod.test", "Bearer good.token", &Value::Null).await;
    assert!(status >= 400, "{reply}");
    assert_eq!(two.prod.upstream.texts(), Vec::<String>::new());
}

#[test]
fn connections_that_could_be_mistaken_are_not_configured() {
    let one = |name: &str, hosts: &str, accounts: &str, port: u16| {
        format!(
            "[[connections]]\nname = \"{name}\"\nhosts = {hosts}\n{accounts}\n[connections.upstream]\nurl = \"https://a.test\"\naccount = \"ACCT\"\nuser = \"u\"\nprivate_key = \"k\"\n[connections.pdp]\nurl = \"http://127.0.0.1:{port}\"\ndanger_plaintext = true\n"
        )
    };
    let head = "pep_id = \"p\"\n[listen]\naddr = \"127.0.0.1:0\"\ndanger_plaintext = true\n";
    let first = one("a", "[\"a.test\"]", "", 1);
    for (second, says) in [
        (one("a", "[\"b.test\"]", "accounts = []", 2), "`name`"),
        (one("b", "[\"A.test\"]", "accounts = []", 2), "`a.test` in `hosts` is also of `a`"),
        (one("b", "[\"b.test\"]", "", 2), "the account `ACCT` is also of `a`"),
        (one("b", "[\"b.test\"]", "accounts = [\"acct.eu\"]", 2), "the account `acct.eu` is also of `a`"),
        (one("b", "[\"b.test\"]", "accounts = []", 1), "`pdp.url` is also of `a`"),
        (one("b", "[]", "accounts = []", 2), "nothing names it"),
        (one("b/../x", "[\"b.test\"]", "accounts = []", 2), "`name` must be"),
        (one("b", "[\"b.test:443\"]", "accounts = []", 2), "without port"),
        ("[upstream]\nurl = \"https://a.test\"\n".to_owned(), "exclude each other"),
    ] {
        let error = Config::parse(&format!("{head}{first}{second}"), "pep.toml").unwrap_err().to_string();
        assert!(error.contains(says), "{says}: {error}");
    }
    let second = one("b", "[\"b.test\"]", "accounts = []", 2);
    let config = Config::parse(&format!("{head}{first}{second}"), "pep.toml").unwrap();
    assert_eq!((config.connections.len(), config.connections[0].accounts.as_slice()), (2, &["ACCT".to_owned()][..]));
}

#[tokio::test]
async fn a_browser_sign_in_stays_with_the_connection_it_was_begun_at() {
    let two = Two::new().await;
    let ask = async |host: &str, account: &str| {
        let body = json!({ "data": {
            "ACCOUNT_NAME": account, "AUTHENTICATOR": "EXTERNALBROWSER", "BROWSER_MODE_REDIRECT_PORT": "50123",
        }});
        two.call("POST", "/session/authenticator-request", host, "None", &body).await.1
    };
    for (host, account, at) in [
        ("", "prod-acct.eu", "https://prod.test"),
        ("dev2.test", "", "https://dev.test"),
        ("dev.test", "DEV-ACCT", "https://dev.test"),
        ("", "", ""),
        ("dev.test", "PROD-ACCT", ""),
    ] {
        let reply = ask(host, account).await;
        let url = reply["data"]["ssoUrl"].as_str().unwrap_or_default();
        assert!(url.starts_with(&format!("{at}/console/login?ask=")) || at.is_empty(), "{host} {account}: {reply}");
        assert_eq!(reply.to_string().contains("[CONNECTION-UNKNOWN]"), at.is_empty(), "{host} {account}: {reply}");
    }
    let reply = ask("", "PROD-ACCT").await;
    let path = reply["data"]["ssoUrl"].as_str().unwrap().strip_prefix("https://prod.test").unwrap().to_owned();
    let browse = async |host: &str, path: &str| {
        let host = if host.is_empty() { two.pep.addr().to_string() } else { host.to_owned() };
        let request = http::Request::get(format!("http://{}{path}", two.pep.addr())).header("host", host);
        let client = Client::builder(TokioExecutor::new()).build_http();
        let reply = client.request(request.body(Full::<Bytes>::default()).unwrap()).await.unwrap();
        String::from_utf8(reply.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    };
    for host in ["", "prod.test"] {
        let page = browse(host, &path).await;
        assert!(page.contains("<dd>PROD-ACCT</dd>"), "{host}: {page}");
    }
    assert!(browse("dev.test", &path).await.contains("[SIGN-IN-INVALID]"));
    for path in ["/console/login", "/console/login?ask=x", "/console/login/callback?code=c&state=x"] {
        let page = browse("", path).await;
        assert!(page.starts_with("<!DOCTYPE html>") && page.contains("[CONNECTION-UNKNOWN]"), "{path}: {page}");
    }
}

#[tokio::test]
async fn the_name_of_the_tls_handshake_counts_like_the_host() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ours = rcgen::generate_simple_self_signed(["prod.test", "dev.test", "x.test"].map(str::to_owned)).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (cert, key) = (dir.path().join("cert.pem"), dir.path().join("key.pem"));
    std::fs::write(&cert, ours.cert.pem()).unwrap();
    std::fs::write(&key, ours.signing_key.serialize_pem()).unwrap();
    let how = format!("tls = {{ cert = \"{}\", key = \"{}\" }}", cert.display(), key.display());
    let two = Two::listening(&how, dir).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(ours.cert.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let login = async |sni: &'static str, host: &str| {
        let stream = tokio::net::TcpStream::connect(two.pep.addr()).await.unwrap();
        let mut stream = connector.connect(ServerName::try_from(sni).unwrap(), stream).await.unwrap();
        let body = r#"{"data":{"AUTHENTICATOR":"OAUTH","TOKEN":"good.token"}}"#;
        let request = format!(
            "POST /session/v1/login-request HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut reply = Vec::new();
        // A peer that closes without a goodbye has still said all there is.
        let _ = stream.read_to_end(&mut reply).await;
        String::from_utf8(reply).unwrap()
    };
    for (sni, host, at) in [
        ("dev.test", "127.0.0.1", (0, 1)),
        ("dev.test", "dev2.test", (0, 1)),
        ("x.test", "prod.test", (1, 0)),
        ("prod.test", "prod.test", (1, 0)),
        ("prod.test", "dev.test", (0, 0)),
        ("x.test", "x.test", (0, 0)),
    ] {
        let before = (two.prod.logins(), two.dev.logins());
        let reply = login(sni, host).await;
        let arrived = (two.prod.logins() - before.0, two.dev.logins() - before.1);
        assert_eq!(arrived, at, "{sni} {host}: {reply}");
        assert_eq!(reply.contains("[CONNECTION-UNKNOWN]"), at == (0, 0), "{sni} {host}: {reply}");
    }
}

#[tokio::test]
async fn calls_of_one_leave_places_to_the_other_and_all_together_have_an_end() {
    const LIMITS: &str = "danger_plaintext = true\n[limits]\nupstream_calls_max = 3\nupstream_calls_per_connection_max = 2\nupstream_wait = \"500ms\"";
    let two = Arc::new(Two::listening(LIMITS, tempfile::tempdir().unwrap()).await);
    let mut sessions = Vec::new();
    for host in ["prod.test", "prod.test", "prod.test", "dev.test", "dev.test"] {
        sessions.push((host, two.login(host).await.0));
    }
    let ask = |at: usize, sql: &'static str| {
        let (two, (host, token)) = (Arc::clone(&two), sessions[at].clone());
        tokio::spawn(async move { two.query(host, &token, sql).await })
    };
    let busy = |reply: &Value| reply["message"].as_str().unwrap_or_default().contains("[UPSTREAM-BUSY");
    let prod = [ask(0, "blocked"), ask(1, "blocked")];
    eventually("prod's two", || async { two.prod.upstream.texts().len() == 2 }).await;
    assert!(busy(&ask(2, "select 1").await.unwrap()), "of prod there are as many as may be");
    assert_eq!(ask(3, "select 1").await.unwrap()["success"], true, "dev has a place of its own");
    let dev = ask(3, "blocked");
    eventually("dev's one", || async { two.dev.upstream.texts().len() == 2 }).await;
    assert!(busy(&ask(4, "select 2").await.unwrap()), "of all there are as many as may be");
    two.prod.upstream.gate.add_permits(2);
    two.dev.upstream.gate.add_permits(1);
    for one in prod.into_iter().chain([dev]) {
        assert_eq!(one.await.unwrap()["success"], true);
    }
    assert_eq!(ask(4, "select 3").await.unwrap()["success"], true);
    assert_eq!(two.prod.upstream.texts(), ["blocked", "blocked"]);
    assert_eq!(two.dev.upstream.texts(), ["select 1", "blocked", "select 3"]);
}
