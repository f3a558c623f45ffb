//! Sign-in with a browser, against a provider that keeps to the rules and against whoever does not.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Response},
    routing::{get, post},
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::stage::Stage;

const CLIENT_SECRET: &str = "canary-client-secret";
const SIGNATURE: &str = "canary-id-token-signature";
const ACCESS_TOKEN: &str = "canary-access-token";

/// How the provider behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    Good,
    Claim(&'static str, &'static str),
    NoIdToken,
    Error,
    ErrorPage,
    Huge,
    Slow,
    Redirect,
}

/// What the authorization endpoint was sent.
type Sent = HashMap<String, String>;

#[derive(Clone)]
pub struct FakeIdp {
    pub issuer: String,
    manner: Arc<Mutex<Manner>>,
    /// By code; each once.
    codes: Arc<Mutex<HashMap<String, Sent>>>,
    exchanges: Arc<Mutex<usize>>,
}

impl FakeIdp {
    pub async fn serve() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let issuer = format!("http://{}/tenant", listener.local_addr().unwrap());
        let idp = Self {
            issuer,
            manner: Arc::new(Mutex::new(Manner::Good)),
            codes: Arc::default(),
            exchanges: Arc::default(),
        };
        let routes = Router::new()
            .route("/tenant/.well-known/openid-configuration", get(metadata))
            .route("/tenant/token", post(token))
            .with_state(idp.clone());
        tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
        idp
    }

    fn behave(&self, manner: Manner) {
        *self.manner.lock().unwrap() = manner;
    }

    /// A person signs in: the code for what the browser came with.
    fn authorize(&self, url: &str) -> (String, Sent) {
        let (at, query) = url.split_once('?').unwrap();
        assert_eq!(at, format!("{}/auth", self.issuer));
        let sent: Sent = pairs(query);
        assert_eq!((sent["response_type"].as_str(), sent["code_challenge_method"].as_str()), ("code", "S256"));
        assert_eq!(sent["client_id"], "icegate");
        let mut codes = self.codes.lock().unwrap();
        let code = format!("code-{}", codes.len());
        codes.insert(code.clone(), sent.clone());
        (code, sent)
    }

    fn exchanges(&self) -> usize {
        *self.exchanges.lock().unwrap()
    }
}

async fn metadata(State(idp): State<FakeIdp>) -> Json<Value> {
    Json(json!({
        "issuer": idp.issuer,
        "authorization_endpoint": format!("{}/auth", idp.issuer),
        "token_endpoint": format!("{}/token", idp.issuer),
        "code_challenge_methods_supported": ["S256"],
        "authorization_response_iss_parameter_supported": true,
    }))
}

async fn token(State(idp): State<FakeIdp>, headers: HeaderMap, body: String) -> Response {
    let form = pairs(&body);
    *idp.exchanges.lock().unwrap() += 1;
    let basic = format!("Basic {}", STANDARD.encode(format!("icegate:{CLIENT_SECRET}")));
    assert_eq!(headers["authorization"], basic.as_str());
    assert_eq!(form["grant_type"], "authorization_code");
    let manner = *idp.manner.lock().unwrap();
    let challenge = URL_SAFE_NO_PAD.encode(Sha256::digest(&form["code_verifier"]));
    let sent = idp.codes.lock().unwrap().remove(&form["code"]);
    let Some(sent) = sent.filter(|sent| sent["code_challenge"] == challenge) else {
        return (StatusCode::BAD_REQUEST, Json(json!({ "error": "invalid_grant" }))).into_response();
    };
    assert_eq!(form["redirect_uri"], sent["redirect_uri"]);
    let mut claims = json!({
        "iss": idp.issuer, "aud": "icegate", "sub": "ana", "email": "ana@<b>example.com", "nonce": sent["nonce"], "exp": 4_000_000_000_u64,
    });
    match manner {
        Manner::Claim(name, value) => claims[name] = json!(value),
        Manner::Error => {
            return (
                StatusCode::BAD_REQUEST,
                Json(json!({ "error": "invalid_client", "error_description": CLIENT_SECRET })),
            )
                .into_response();
        }
        Manner::ErrorPage => return (StatusCode::INTERNAL_SERVER_ERROR, CLIENT_SECRET).into_response(),
        Manner::Huge => claims["groups"] = json!("g".repeat(1024 * 1024)),
        Manner::Slow => tokio::time::sleep(Duration::from_secs(30)).await,
        Manner::Redirect => return (StatusCode::FOUND, [("location", "/tenant/elsewhere")]).into_response(),
        Manner::Good | Manner::NoIdToken => {}
    }
    let token = format!("e30.{}.{SIGNATURE}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let id_token = if manner == Manner::NoIdToken { Value::Null } else { json!(token) };
    Json(json!({ "access_token": ACCESS_TOKEN, "token_type": "Bearer", "id_token": id_token })).into_response()
}

fn pairs(query: &str) -> Sent {
    let decoded = |text: &str| {
        let text = text.replace('+', " ");
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            if byte == b'%' {
                let hex = [rest.next().unwrap(), rest.next().unwrap()];
                bytes.push(u8::from_str_radix(std::str::from_utf8(&hex).unwrap(), 16).unwrap());
            } else {
                bytes.push(byte);
            }
        }
        String::from_utf8(bytes).unwrap()
    };
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap())
        .map(|(name, value)| (decoded(name), decoded(value)))
        .collect()
}

/// What a browser got.
struct Page {
    status: u16,
    cookie: Option<String>,
    html: String,
}

impl Page {
    fn attribute(&self, before: &str) -> Option<String> {
        let (_, rest) = self.html.split_once(before)?;
        Some(rest.split('"').next().unwrap().replace("&amp;", "&"))
    }

    /// Where the page leads to by itself.
    fn ticket(&self) -> Option<(String, String)> {
        let address = self.attribute("http-equiv=\"refresh\" content=\"1;url=")?;
        let (host, ticket) = address.split_once("/?token=").unwrap();
        Some((host.to_owned(), ticket.to_owned()))
    }
}

struct Scene {
    stage: Stage,
    idp: FakeIdp,
}

/// A driver that has asked.
#[derive(Clone)]
struct Asked {
    path: String,
    proof_key: String,
}

/// A browser at the provider.
#[derive(Clone)]
struct Away {
    cookie: String,
    state: String,
    code: String,
}

impl Scene {
    async fn new() -> Self {
        Self::with("").await
    }

    async fn with(more: &str) -> Self {
        let idp = FakeIdp::serve().await;
        let dir = tempfile::tempdir().unwrap();
        let secret = dir.path().join("secret");
        std::fs::write(&secret, format!("{CLIENT_SECRET}\n")).unwrap();
        let section = format!(
            "[sign_in]\nissuer = \"{}\"\ndanger_plaintext = true\nclient_id = \"icegate\"\nclient_secret_file = \"{}\"\n\
             url = \"http://127.0.0.1:9\"\ntimeout = \"3s\"\n{more}\n",
            idp.issuer,
            secret.display()
        );
        Self { stage: Stage::with("0s", &section).await, idp }
    }

    async fn ask_as(&self, change: Value) -> Value {
        let mut data = json!({
            "CLIENT_APP_ID": "PythonConnector", "CLIENT_APP_VERSION": "4.8.1", "ACCOUNT_NAME": "acct", "LOGIN_NAME": "ana",
            "AUTHENTICATOR": "externalbrowser", "BROWSER_MODE_REDIRECT_PORT": "50123",
            "CLIENT_ENVIRONMENT": { "APPLICATION": "<script>alert(1)</script>" },
        });
        data.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        self.stage.driver.call("POST", "/session/authenticator-request", "None", &json!({ "data": data })).await
    }

    async fn ask(&self) -> Asked {
        let reply = self.ask_as(json!({})).await;
        assert_eq!(reply["success"], true, "{reply}");
        let url = reply["data"]["ssoUrl"].as_str().unwrap();
        assert!(
            url.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":/?=._-".contains(&byte)),
            "for a shell: {url}"
        );
        Asked {
            path: url.strip_prefix("http://127.0.0.1:9").unwrap().to_owned(),
            proof_key: reply["data"]["proofKey"].as_str().unwrap().to_owned(),
        }
    }

    async fn browse(&self, path: &str, cookie: &str) -> Page {
        self.browse_from("127.0.0.1", path, cookie).await
    }

    async fn browse_from(&self, address: &str, path: &str, cookie: &str) -> Page {
        let mut connector = HttpConnector::new();
        connector.set_local_address(Some(address.parse().unwrap()));
        let client = Client::builder(TokioExecutor::new()).build::<_, Full<Bytes>>(connector);
        let request = http::Request::get(format!("http://{}{path}", self.stage.pep.addr()))
            .header("cookie", format!("a=b; {cookie}"))
            .body(Full::default())
            .unwrap();
        let reply = client.request(request).await.unwrap();
        let headers = reply.headers().clone();
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned()).unwrap_or_default();
        let status = reply.status().as_u16();
        let bytes = reply.into_body().collect().await.unwrap().to_bytes();
        self.stage.driver.seen.lock().unwrap().extend_from_slice(&bytes);
        let html = String::from_utf8(bytes.to_vec()).unwrap();
        for (name, value) in [
            ("content-type", "text/html; charset=utf-8"),
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
        ] {
            assert_eq!(header(name), value, "{name} of {path}");
        }
        let policy = header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-"), "{policy}");
        assert!(!policy.contains("unsafe") && policy.contains("frame-ancestors 'none'"), "{policy}");
        assert!(!html.contains("<script") && !html.contains("javascript:"), "{html}");
        Page { status, cookie: Some(header("set-cookie")).filter(|cookie| !cookie.is_empty()), html }
    }

    /// The browser opens the page and goes on to the provider, where a person signs in.
    async fn go(&self, path: &str) -> Away {
        let page = self.browse(path, "").await;
        assert_eq!(page.status, 200, "{}", page.html);
        let cookie = page.cookie.clone().unwrap();
        assert!(cookie.ends_with("; Path=/; Max-Age=600; HttpOnly; SameSite=Lax"), "{cookie}");
        let (code, sent) = self.idp.authorize(&page.attribute("class=\"go\" href=\"").unwrap());
        assert_eq!(sent["redirect_uri"], "http://127.0.0.1:9/console/login/callback");
        assert_eq!((sent["scope"].as_str(), sent["login_hint"].as_str()), ("openid", "ana"));
        Away { cookie: cookie.split(';').next().unwrap().to_owned(), state: sent["state"].clone(), code }
    }

    async fn back(&self, away: &Away) -> Page {
        let path = format!("code={}&state={}&iss={}", away.code, away.state, self.idp.issuer);
        self.browse(&format!("/console/login/callback?{path}"), &away.cookie).await
    }

    async fn ticket(&self) -> (Asked, String) {
        let asked = self.ask().await;
        let away = self.go(&asked.path).await;
        let page = self.back(&away).await;
        let (host, ticket) = page.ticket().unwrap_or_else(|| panic!("{}", page.html));
        assert_eq!(host, "http://localhost:50123");
        (asked, ticket)
    }

    async fn login(&self, ticket: &str, proof_key: &str, change: Value) -> Value {
        let mut data = json!({
            "CLIENT_APP_ID": "PythonConnector", "CLIENT_APP_VERSION": "4.8.1", "LOGIN_NAME": "ana",
            "AUTHENTICATOR": "EXTERNALBROWSER", "TOKEN": ticket, "PROOF_KEY": proof_key,
        });
        data.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        self.stage.driver.call("POST", "/session/v1/login-request", "None", &json!({ "data": data })).await
    }

    /// Nothing of the provider's that is secret was in any answer to driver or browser.
    fn assert_nothing_leaked(&self) {
        self.stage.assert_nothing_leaked();
        let seen = self.stage.driver.seen.lock().unwrap();
        let seen = String::from_utf8_lossy(&seen);
        // Its claims as they stand in the token, in any alignment of base64.
        let claims = URL_SAFE_NO_PAD.encode(format!("{{\"iss\":\"{}", self.idp.issuer));
        for secret in [CLIENT_SECRET, SIGNATURE, ACCESS_TOKEN, &claims] {
            assert!(!seen.contains(secret), "`{secret}` got out");
        }
    }
}

/// A sealed text with another letter in it.
fn changed(sealed: &str) -> String {
    let other = |letter| if letter == 'A' { 'B' } else { 'A' };
    sealed.chars().enumerate().map(|(at, letter)| if at == 60 { other(letter) } else { letter }).collect()
}

fn refused(page: &Page, status: u16, code: &str) {
    assert_eq!(page.status, status, "{}", page.html);
    assert!(page.html.contains(&format!("[{code}]")) && page.html.contains("not signed in"), "{code}: {}", page.html);
    assert!(page.ticket().is_none() && !page.html.contains("localhost:"), "{}", page.html);
}

#[tokio::test]
async fn a_person_signs_in_and_the_driver_logs_in_as_them() {
    let scene = Scene::new().await;
    let asked = scene.ask().await;
    let page = scene.browse(&asked.path, "").await;
    for told in [
        "PythonConnector 4.8.1",
        "&lt;script&gt;alert(1)",
        "<dd>ana</dd>",
        "<dd>127.0.0.1</dd>",
        "localhost:50123",
        "<dd>acct</dd>",
    ] {
        assert!(page.html.contains(told), "{told} is not in {}", page.html);
    }
    assert!(!page.html.contains("another address"), "{}", page.html);
    let elsewhere = scene.browse_from("127.0.0.2", &asked.path, "").await;
    assert!(elsewhere.html.contains("another address than your browser's, which is 127.0.0.2"), "{}", elsewhere.html);
    let away = scene.go(&asked.path).await;
    let page = scene.back(&away).await;
    assert!(page.html.contains("signed in as <b>ana@&lt;b&gt;example.com</b>"), "{}", page.html);
    let (_, ticket) = page.ticket().unwrap();
    let reply = scene.login(&ticket, &asked.proof_key, json!({})).await;
    assert_eq!(reply["success"], true, "{reply}");
    {
        let told = scene.stage.pdp.told.lock().unwrap();
        let [opened] = &told.opened[..] else { panic!("{:?}", told.opened) };
        assert!(opened.token.ends_with(SIGNATURE) && opened.login_name == "ana", "{opened:?}");
    }
    let token = reply["data"]["token"].as_str().unwrap();
    let query = json!({ "sqlText": "select 1", "sequenceId": 1 });
    let reply = scene.stage.driver.call("POST", "/queries/v1/query-request", token, &query).await;
    assert_eq!(reply["success"], true, "{reply}");
    scene.assert_nothing_leaked();
}

#[tokio::test]
async fn an_address_of_the_drivers_own_making_works_the_same() {
    let scene = Scene::with("token = \"access_token\"").await;
    let proof_key = "q/7+".repeat(11);
    let address = |port: &str, proof_key: &str| {
        let proof_key = proof_key.replace('+', "%2B").replace('/', "%2F");
        format!("/console/login?login_name=ana&browser_mode_redirect_port={port}&proof_key={proof_key}")
    };
    let away = scene.go(&address("50123", &proof_key)).await;
    let (_, ticket) = scene.back(&away).await.ticket().unwrap();
    assert_eq!(scene.login(&ticket, &proof_key, json!({})).await["success"], true);
    assert_eq!(scene.stage.pdp.told.lock().unwrap().opened[0].token, ACCESS_TOKEN);
    for (port, proof_key) in [
        ("22", proof_key.as_str()),
        ("50123@evil.example", &proof_key),
        ("evil.example:80", &proof_key),
        ("", &proof_key),
        ("50123", "short"),
        ("50123", ""),
    ] {
        refused(&scene.browse(&address(port, proof_key), "").await, 400, "REQUEST-MALFORMED");
    }
    scene.assert_nothing_leaked();
}

#[tokio::test]
async fn a_ticket_opens_one_session_for_the_driver_that_asked() {
    let scene = Scene::new().await;
    let (asked, ticket) = scene.ticket().await;
    let (other, other_ticket) = scene.ticket().await;
    let changed = changed(&ticket);
    let good = |ticket: &str| (ticket.to_owned(), asked.proof_key.clone());
    for (what, (ticket, proof_key), change) in [
        ("another driver's proof key", (ticket.clone(), other.proof_key.clone()), json!({})),
        ("no proof of it", (ticket.clone(), "x".to_owned()), json!({})),
        ("another ticket", good(&other_ticket), json!({})),
        ("another name", good(&ticket), json!({ "LOGIN_NAME": "stella" })),
        ("no name", good(&ticket), json!({ "LOGIN_NAME": "" })),
        ("a changed ticket", good(&changed), json!({})),
        ("an ask for a ticket", good(asked.path.split_once("?ask=").unwrap().1), json!({})),
        ("no ticket of ours", good("to.ke.n"), json!({})),
    ] {
        let reply = scene.login(&ticket, &proof_key, change).await;
        assert_eq!((reply["success"].as_bool(), reply["code"].as_str()), (Some(false), Some("390303")), "{what}");
        assert!(reply["message"].as_str().unwrap().contains("[SIGN-IN-INVALID]"), "{what}: {reply}");
    }
    // As a token of another carrier it is none: the PDP is shown it as it is, sealed.
    for field in ["TOKEN", "PASSWORD"] {
        let body =
            json!({ "data": { "AUTHENTICATOR": if field == "TOKEN" { "OAUTH" } else { "SNOWFLAKE" }, field: ticket } });
        scene.stage.driver.call("POST", "/session/v1/login-request", "None", &body).await;
        assert_eq!(scene.stage.pdp.told.lock().unwrap().opened.last().unwrap().token, ticket);
    }
    let before = scene.stage.pdp.told.lock().unwrap().opened.len();
    // None of these used it up. Now it is, and twice at once is once.
    let (one, two) = tokio::join!(
        scene.login(&ticket, &asked.proof_key, json!({})),
        scene.login(&ticket, &asked.proof_key, json!({}))
    );
    let won = [&one, &two].iter().filter(|reply| reply["success"] == true).count();
    assert_eq!(won, 1, "{one}\n{two}");
    let again = scene.login(&ticket, &asked.proof_key, json!({})).await;
    assert!(again["message"].as_str().unwrap().contains("used already"), "{again}");
    assert_eq!(scene.stage.pdp.told.lock().unwrap().opened.len(), before + 1);
    scene.assert_nothing_leaked();
}

#[tokio::test]
async fn an_answer_counts_once_in_the_browser_that_began() {
    let scene = Scene::new().await;
    let asked = scene.ask().await;
    let (away, other) = (scene.go(&asked.path).await, scene.go(&scene.ask().await.path).await);
    let changed = changed(&away.state);
    let ask = asked.path.split_once("?ask=").unwrap().1.to_owned();
    let iss = &scene.idp.issuer;
    let Away { cookie, state, code } = &away;
    for (what, query, cookie) in [
        ("no cookie", format!("code={code}&state={state}&iss={iss}"), ""),
        ("another browser", format!("code={code}&state={state}&iss={iss}"), other.cookie.as_str()),
        ("another sign-in's state", format!("code={code}&state={}&iss={iss}", other.state), cookie),
        ("a changed state", format!("code={code}&state={changed}&iss={iss}"), cookie),
        ("an ask for a state", format!("code={code}&state={ask}&iss={iss}"), cookie),
        ("no state", format!("code={code}&iss={iss}"), cookie),
        ("another provider", format!("code={code}&state={state}&iss=https://evil.example"), cookie),
        ("no provider named", format!("code={code}&state={state}"), cookie),
    ] {
        let page = scene.browse(&format!("/console/login/callback?{query}"), cookie).await;
        assert!(page.html.contains("[SIGN-IN-INVALID]"), "{what}: {}", page.html);
        refused(&page, 400, "SIGN-IN-INVALID");
    }
    assert_eq!(scene.idp.exchanges(), 0, "nothing of it reached the provider");
    // None of these used it up.
    assert!(scene.back(&away).await.ticket().is_some());
    refused(&scene.back(&away).await, 400, "SIGN-IN-INVALID");
    // The page opened a second time is the same sign-in.
    let again = scene.go(&asked.path).await;
    refused(&scene.back(&again).await, 400, "SIGN-IN-INVALID");
    assert_eq!(scene.idp.exchanges(), 1);
    // A browser keeps its mark, so that two sign-ins in it can both end.
    let page = scene.browse(&scene.ask().await.path, &other.cookie).await;
    assert!(page.cookie.unwrap().starts_with(&other.cookie));
    // One that is not of our making is replaced.
    let page = scene.browse(&scene.ask().await.path, "icegate-sign-in=chosen").await;
    assert!(!page.cookie.unwrap().contains("chosen"));
    scene.assert_nothing_leaked();
}

#[tokio::test]
async fn what_the_provider_does_wrong_signs_nobody_in() {
    let scene = Scene::new().await;
    for manner in [
        Manner::Claim("nonce", "another"),
        Manner::Claim("iss", "https://evil.example"),
        Manner::Claim("aud", "somebody-else"),
        Manner::Claim("exp", "never"),
        Manner::NoIdToken,
        Manner::Error,
        Manner::ErrorPage,
        Manner::Huge,
        Manner::Slow,
        Manner::Redirect,
    ] {
        scene.idp.behave(manner);
        let away = scene.go(&scene.ask().await.path).await;
        let page = scene.back(&away).await;
        refused(&page, 502, "SIGN-IN-PROVIDER");
    }
    scene.idp.behave(Manner::Good);
    // A code of somebody's own.
    let away = Away { code: "code-made-up".to_owned(), ..scene.go(&scene.ask().await.path).await };
    refused(&scene.back(&away).await, 502, "SIGN-IN-PROVIDER");
    // Somebody else's code: PKCE ties each to its state.
    let (away, other) = (scene.go(&scene.ask().await.path).await, scene.go(&scene.ask().await.path).await);
    let crossed = Away { code: other.code, ..away };
    refused(&scene.back(&crossed).await, 502, "SIGN-IN-PROVIDER");
    for (error, shown) in [("access_denied", "`access_denied`"), ("%3Cb%3E", "`?`")] {
        let fresh = scene.go(&scene.ask().await.path).await;
        let path = format!(
            "/console/login/callback?error={error}&error_description=%3Cscript%3E&state={}&iss={}",
            fresh.state, scene.idp.issuer
        );
        let page = scene.browse(&path, &fresh.cookie).await;
        refused(&page, 400, "SIGN-IN-INVALID");
        assert!(page.html.contains(shown), "{}", page.html);
    }
    assert!(scene.stage.pdp.told.lock().unwrap().opened.is_empty());
    scene.assert_nothing_leaked();
}

#[tokio::test]
async fn what_takes_too_long_is_over() {
    let scene = Scene::with("ttl = \"3s\"\nticket_ttl = \"1s\"").await;
    let asked = scene.ask().await;
    let page = scene.browse(&asked.path, "").await;
    let (code, sent) = scene.idp.authorize(&page.attribute("class=\"go\" href=\"").unwrap());
    let cookie = page.cookie.unwrap().split(';').next().unwrap().to_owned();
    let fresh = Away { cookie, state: sent["state"].clone(), code };
    let (_, ticket) = scene.back(&fresh).await.ticket().unwrap();
    tokio::time::sleep(Duration::from_millis(3100)).await;
    let reply = scene.login(&ticket, &asked.proof_key, json!({})).await;
    assert!(reply["message"].as_str().unwrap().contains("took too long"), "{reply}");
    refused(&scene.browse(&asked.path, "").await, 400, "SIGN-IN-INVALID");
    let page = scene.back(&fresh).await;
    assert!(page.html.contains("took too long"), "{}", page.html);
    assert!(scene.stage.pdp.told.lock().unwrap().opened.is_empty());
}

#[tokio::test]
async fn no_room_is_a_refusal_and_forgets_nothing() {
    let scene = Scene::with("used_max = 2").await;
    let (asked, ticket) = scene.ticket().await;
    assert_eq!(scene.login(&ticket, &asked.proof_key, json!({})).await["success"], true);
    let away = scene.go(&scene.ask().await.path).await;
    refused(&scene.back(&away).await, 400, "REQUEST-LIMIT");
    let again = scene.login(&ticket, &asked.proof_key, json!({})).await;
    assert!(again["message"].as_str().unwrap().contains("used already"), "{again}");
}

#[tokio::test]
async fn what_a_driver_asks_is_checked() {
    let scene = Scene::new().await;
    for (change, code) in [
        (json!({ "BROWSER_MODE_REDIRECT_PORT": "22" }), "REQUEST-MALFORMED"),
        (json!({ "BROWSER_MODE_REDIRECT_PORT": "50000/evil" }), "REQUEST-MALFORMED"),
        (json!({ "BROWSER_MODE_REDIRECT_PORT": null }), "REQUEST-MALFORMED"),
        (json!({ "LOGIN_NAME": "x".repeat(300) }), "REQUEST-MALFORMED"),
        (json!({ "LOGIN_NAME": 7 }), "REQUEST-MALFORMED"),
        (json!({ "AUTHENTICATOR": "https://corp.okta.com" }), "IDENTITY-INVALID"),
    ] {
        let reply = scene.ask_as(change.clone()).await;
        assert_eq!(reply["success"], false, "{change}");
        assert!(reply["message"].as_str().unwrap().contains(&format!("[{code}]")), "{change}: {reply}");
    }
    for path in ["/console/login?ask=ig1.AAAA", "/console/login?ask=x", "/console/login?ask=%22%3E%3Cscript%3E"] {
        refused(&scene.browse(path, "").await, 400, "SIGN-IN-INVALID");
    }
    refused(&scene.browse("/console/login", "").await, 400, "REQUEST-MALFORMED");
}

#[tokio::test]
async fn a_provider_that_is_away_is_told_to_the_driver() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let section = format!(
        "[sign_in]\nissuer = \"http://{closed}\"\ndanger_plaintext = true\nclient_id = \"icegate\"\nurl = \"http://127.0.0.1:9\"\n"
    );
    let stage = Stage::with("0s", &section).await;
    let body = json!({ "data": { "AUTHENTICATOR": "EXTERNALBROWSER", "BROWSER_MODE_REDIRECT_PORT": "50123" } });
    let reply = stage.driver.call("POST", "/session/authenticator-request", "None", &body).await;
    assert_eq!(reply["code"], "000403", "{reply}");
    assert!(reply["message"].as_str().unwrap().contains("[SIGN-IN-PROVIDER]"), "{reply}");
}

#[tokio::test]
async fn without_a_section_it_is_off_and_says_what_to_do() {
    let stage = Stage::new().await;
    let body = json!({ "data": { "AUTHENTICATOR": "EXTERNALBROWSER", "TOKEN": "x", "PROOF_KEY": "y", "BROWSER_MODE_REDIRECT_PORT": "50123" } });
    for path in ["/session/authenticator-request", "/session/v1/login-request"] {
        let reply = stage.driver.call("POST", path, "None", &body).await;
        let message = reply["message"].as_str().unwrap();
        assert!(message.contains("[SIGN-IN-OFF]") && message.contains("authenticator=oauth"), "{reply}");
    }
    assert!(stage.pdp.told.lock().unwrap().opened.is_empty());
}
