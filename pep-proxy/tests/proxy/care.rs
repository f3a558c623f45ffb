//! The other side of the proxy: in which role sessions begin there, credentials that change, tokens that expire under load.

use std::path::Path;

use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::{
    stage::{Driver, Stage, eventually},
    upstream::SLOW_ID,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleCase {
    name: String,
    groups: Vec<String>,
    #[serde(default)]
    fallback: bool,
    #[serde(default)]
    query: String,
    #[serde(default)]
    body: Map<String, Value>,
    #[serde(default)]
    parameters: Map<String, Value>,
    #[serde(default)]
    environment: Map<String, Value>,
    #[serde(default)]
    decided: String,
    #[serde(default)]
    begins: String,
    #[serde(default)]
    refused: String,
    /// What a client says of its machine is passed on as it is, and means nothing there.
    #[serde(default)]
    seen_elsewhere: bool,
}

#[tokio::test]
async fn sessions_begin_in_the_role_they_are_due() {
    const RULES: &str =
        r#"roles = [{ group = "stewards", role = "STEWARD" }, { group = "analysts", role = "ANALYST" }]"#;
    let plain = Stage::with_upstream(RULES).await;
    let fallback = Stage::with_upstream(&format!("{RULES}\nrole = \"READER\"")).await;
    let cases: Vec<RoleCase> = serde_saphyr::from_str(include_str!("roles.yaml")).unwrap();
    for case in &cases {
        let stage = if case.fallback { &fallback } else { &plain };
        stage.pdp.script.lock().unwrap().groups.clone_from(&case.groups);
        let mut data = case.body.clone();
        data.extend([
            ("AUTHENTICATOR".to_owned(), json!("OAUTH")),
            ("TOKEN".to_owned(), json!("good.token")),
            ("SESSION_PARAMETERS".to_owned(), json!(case.parameters)),
            ("CLIENT_ENVIRONMENT".to_owned(), json!(case.environment)),
        ]);
        let path = format!("/session/v1/login-request?{}", case.query);
        let before = stage.upstream.calls_to("/session/v1/login-request").len();
        let reply = stage.driver.call("POST", &path, "None", &json!({ "data": data })).await;
        let logins = stage.upstream.calls_to("/session/v1/login-request");
        if !case.refused.is_empty() {
            let message = reply["message"].as_str().unwrap_or_default();
            assert!(message.contains(&format!("[{}]", case.refused)), "{}: {reply}", case.name);
            assert_eq!(logins.len(), before, "{}: nothing was opened", case.name);
            continue;
        }
        assert_eq!(reply["success"], true, "{}: {reply}", case.name);
        let asked = stage.pdp.told.lock().unwrap().opened.last().unwrap().context.clone().unwrap();
        assert_eq!(asked.role, case.decided, "{}", case.name);
        let login = logins.last().unwrap();
        let roles: Vec<String> = url_values(&login.path, "roleName");
        assert_eq!((roles.len(), roles.first()), (1, Some(&case.begins)), "{}", case.name);
        assert_eq!(login.body["data"]["SECONDARY_ROLES"], "NONE", "{}", case.name);
        let mut sent = login.clone();
        if case.seen_elsewhere {
            sent.body["data"]["CLIENT_ENVIRONMENT"].take();
        }
        assert!(!format!("{sent:?}").contains("ACCOUNTADMIN"), "{}: {sent:?}", case.name);
    }
    assert!(cases.iter().filter(|case| !case.refused.is_empty()).count() >= 4);
}

fn url_values(path: &str, name: &str) -> Vec<String> {
    let query = path.split_once('?').map_or("", |(_, query)| query);
    let mut found = Vec::new();
    for pair in query.split('&') {
        if let Some((key, value)) = pair.split_once('=')
            && key == name
        {
            found.push(value.replace("%22", "\"").replace("%20", " ").replace('+', " "));
        }
    }
    found
}

/// Replaces a file as those do who rotate secrets: at once.
fn replace(path: &Path, text: &str) {
    let fresh = path.with_extension("fresh");
    std::fs::write(&fresh, text).unwrap();
    std::fs::rename(fresh, path).unwrap();
}

async fn counted(stage: &Stage, what: &str, result: &str) -> u64 {
    let text = stage.driver.get_text(&format!("http://{}/metrics", stage.pep.metrics_addr().unwrap())).await;
    let line = format!("icegate_pep_rereads_total{{what=\"{what}\",result=\"{result}\"}} ");
    text.lines().find_map(|told| told.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test]
async fn a_new_password_counts_for_new_logins_and_a_bad_one_for_none() {
    let mut stage = Stage::with("0s", "").await;
    stage.driver.login().await;
    let password = || {
        let login = stage.upstream.calls_to("/session/v1/login-request").pop().unwrap();
        login.body["data"]["PASSWORD"].as_str().unwrap().to_owned()
    };
    assert_eq!(password(), "s3cret");
    let file = stage.dir().join("pw");
    let log_in = async || assert_eq!(Driver::new(stage.pep.addr()).try_login("good.token").await["success"], true);

    replace(&file, "s3cret-of-today\n");
    eventually("the new one", || async {
        log_in().await;
        password() == "s3cret-of-today"
    })
    .await;
    // Metrics are of the process, and other tests run in it.
    let refused = counted(&stage, "credential", "refused").await;
    replace(&file, "\n");
    eventually("told of", || async { counted(&stage, "credential", "refused").await > refused }).await;
    log_in().await;
    assert_eq!(password(), "s3cret-of-today", "what cannot be used leaves what was in force");
    std::fs::remove_file(&file).unwrap();
    eventually("told of", || async { counted(&stage, "credential", "refused").await > refused + 1 }).await;
    log_in().await;
    assert_eq!(password(), "s3cret-of-today");
    // Nor is the session from before asked for anything.
    let sent = stage.upstream.calls_to("/session").len();
    assert_eq!(stage.driver.query("select 1").await["success"], true);
    assert_eq!(stage.upstream.calls_to("/session").len(), sent);
    stage.assert_nothing_leaked();
}

/// The key a token was sealed with.
fn key_of(token: &str) -> &str {
    token.get("ig1.".len()..).and_then(|token| token.get(..5)).unwrap()
}

#[tokio::test]
async fn keys_of_tokens_change_while_sessions_stand() {
    const FRESH: &str = "BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=";
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    let renewed = async |stage: &Stage| {
        let renew = json!({ "oldSessionToken": stage.driver.token, "requestType": "RENEW" });
        let reply = stage.driver.call("POST", "/session/token-request", &stage.driver.master, &renew).await;
        reply["data"]["sessionToken"].as_str().unwrap_or_default().to_owned()
    };
    let succeeds = async |driver: &Driver| driver.query("select 1").await["success"] == true;
    let file = stage.dir().join("keys");
    let old = std::fs::read_to_string(&file).unwrap();

    // The first key seals, both open.
    replace(&file, &format!("# of today\n{FRESH}\n{old}"));
    eventually("sealed with the new one", || async {
        let token = renewed(&stage).await;
        !token.is_empty() && key_of(&token) != key_of(&stage.driver.token)
    })
    .await;
    assert!(succeeds(&stage.driver).await, "the old token still opens");

    let refused = counted(&stage, "token-keys", "refused").await;
    for bad in ["", "nonsense\n", "# none\n"] {
        let before = counted(&stage, "token-keys", "refused").await;
        replace(&file, bad);
        eventually("told of", || async { counted(&stage, "token-keys", "refused").await > before }).await;
    }
    std::fs::remove_file(&file).unwrap();
    eventually("told of", || async { counted(&stage, "token-keys", "refused").await > refused + 3 }).await;
    assert!(succeeds(&stage.driver).await, "what cannot be used leaves what was in force");
    let mut driver = stage.driver.clone();
    driver.token = renewed(&stage).await;
    assert_ne!(key_of(&driver.token), key_of(&stage.driver.token));

    // What the key that is gone has sealed opens no more; the session it was for stands, by its new token.
    replace(&file, FRESH);
    eventually("gone", || async { stage.driver.query("select 1").await["code"] == "390104" }).await;
    assert_eq!(renewed(&stage).await, "", "its master token neither");
    assert!(succeeds(&driver).await);
    assert_eq!(stage.upstream.calls_to("/session/v1/login-request").len(), 1);
    stage.assert_nothing_leaked();
}

#[tokio::test]
async fn many_calls_that_meet_an_expired_token_renew_it_once() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    assert_eq!(stage.driver.query("slow").await["code"], "333333");
    *stage.upstream.slow_done.lock().unwrap() = true;
    *stage.upstream.expired.lock().unwrap() = true;
    let calls = (0..24).map(|at| {
        let driver = stage.driver.clone();
        tokio::spawn(async move {
            match at % 3 {
                0 => driver.query(&format!("select {at}")).await,
                1 => driver.get(&format!("/queries/{SLOW_ID}/result")).await,
                _ => driver.get(&format!("/monitoring/queries/{SLOW_ID}")).await,
            }
        })
    });
    for call in calls.collect::<Vec<_>>() {
        let reply = call.await.unwrap();
        assert_eq!(reply["success"], true, "invisible to the client: {reply}");
    }
    assert_eq!(stage.upstream.calls_to("/session/token-request").len(), 1);
    stage.assert_nothing_leaked();
}

#[tokio::test]
async fn what_only_asks_is_sent_again_and_a_statement_is_not() {
    let mut stage = Stage::new().await;
    stage.driver.login().await;
    assert_eq!(stage.driver.query("slow").await["code"], "333333");
    *stage.upstream.slow_done.lock().unwrap() = true;
    *stage.upstream.busy.lock().unwrap() = 2;
    let path = format!("/queries/{SLOW_ID}/result");
    let reply = stage.driver.get(&path).await;
    assert_eq!(reply["success"], true, "put off twice, then answered: {reply}");
    assert_eq!(stage.upstream.calls_to(&path).len(), 3);

    // It may have run: whether it did is not found out by running it again.
    *stage.upstream.busy.lock().unwrap() = 1;
    let reply = stage.driver.query("insert into t").await;
    assert_eq!(reply["success"], false, "{reply}");
    assert_eq!(stage.upstream.texts(), ["slow", "insert into t"]);
    stage.assert_nothing_leaked();
}
