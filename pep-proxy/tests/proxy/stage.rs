//! One proxy between a scripted PDP and a scripted warehouse, and a driver that speaks to it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use icegate_pep::{Config, Running};
use serde_json::{Value, json};

use crate::{
    pdp::{FakePdp, Killable},
    upstream::FakeUpstream,
};

pub struct Stage {
    pub pdp: FakePdp,
    pub pdp_addr: SocketAddr,
    pub pdp_server: Killable,
    pub upstream: FakeUpstream,
    pub upstream_addr: SocketAddr,
    pub pep: Running,
    pub driver: Driver,
    config: String,
    dir: tempfile::TempDir,
}

impl Stage {
    pub async fn new() -> Self {
        Self::with("0s", "").await
    }

    pub async fn with(grace: &str, more: &str) -> Self {
        Self::whole(None, grace, "", more, &[]).await
    }

    /// With more files beside the configuration, which calls that place `@dir`.
    pub async fn with_files(grace: &str, more: &str, files: &[(&str, &str)]) -> Self {
        Self::whole(None, grace, "", more, files).await
    }

    /// With more lines in the table of the warehouse.
    pub async fn with_upstream(upstream: &str) -> Self {
        Self::whole(None, "0s", upstream, "", &[]).await
    }

    /// With a warehouse that is spoken to over TLS and offers `protocols`. It is the storage of results, too.
    pub async fn with_tls_upstream(protocols: &[&str], more: &str) -> Self {
        Self::whole(Some(protocols), "0s", "", more, &[]).await
    }

    /// Where the files of the configuration are.
    pub fn dir(&self) -> &std::path::Path {
        self.dir.path()
    }

    async fn whole(
        protocols: Option<&[&str]>,
        grace: &str,
        more_upstream: &str,
        more: &str,
        files: &[(&str, &str)],
    ) -> Self {
        let pdp = FakePdp::new();
        let (pdp_addr, pdp_server) = pdp.serve("127.0.0.1:0".parse().unwrap()).await;
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().display();
        let (upstream, upstream_addr, url, results) = match protocols {
            None => {
                let (upstream, addr) = FakeUpstream::serve().await;
                (upstream, addr, format!("url = \"http://{addr}\"\ndanger_plaintext = true"), String::new())
            }
            Some(protocols) => {
                let _ = rustls::crypto::ring::default_provider().install_default();
                let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
                std::fs::write(dir.path().join("upstream.pem"), own.cert.pem()).unwrap();
                let (upstream, addr) = FakeUpstream::serve_tls(&own, protocols).await;
                let ca = format!("ca = \"{at}/upstream.pem\"");
                let url = format!("url = \"https://localhost:{}\"\n{ca}", addr.port());
                let results = format!("[results]\nstorage_hosts = [\"localhost:{}\"]\n{ca}", addr.port());
                (upstream, addr, url, results)
            }
        };
        std::fs::write(dir.path().join("pw"), "s3cret\n").unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let config = format!(
            r#"
pep_id = "pep-1"
[listen]
addr = "127.0.0.1:0"
danger_plaintext = true
drain = "2s"
[upstream]
{url}
account = "acct"
user = "svc"
auth = "password"
password_file = "{at}/pw"
reread = "50ms"
{more_upstream}
[pdp]
url = "http://{pdp_addr}"
danger_plaintext = true
connect_timeout = "200ms"
timeout = "1s"
grace = "{grace}"
watch_stale = "3s"
[journal]
path = "{at}/journal"
[tokens]
keys_file = "{at}/keys"
create = true
[metrics]
addr = "127.0.0.1:0"
{results}
{more}
"#
        )
        .replace("@dir", &at.to_string());
        let pep = icegate_pep::start(Config::parse(&config, "pep.toml").unwrap()).await.unwrap();
        let driver = Driver::new(pep.addr());
        eventually("watch heard", || async { driver.ready(pep.metrics_addr().unwrap()).await }).await;
        Self { pdp, pdp_addr, pdp_server, upstream, upstream_addr, pep, driver, config, dir }
    }

    /// Another process with the same token keys; the first one's journal may still be locked, so with a journal of its own.
    pub async fn restart(&mut self) {
        self.config = self.config.replace("/journal", "/journal-again");
        let fresh = icegate_pep::start(Config::parse(&self.config, "pep.toml").unwrap()).await.unwrap();
        std::mem::replace(&mut self.pep, fresh).shutdown().await;
        self.driver.addr = self.pep.addr();
    }

    /// No credential of the warehouse is in anything a client was ever sent.
    pub fn assert_nothing_leaked(&self) {
        let seen = self.driver.seen.lock().unwrap();
        assert!(!seen.is_empty());
        for secret in [
            crate::upstream::STORAGE_KEY,
            crate::upstream::TOKEN,
            crate::upstream::MASTER,
            crate::upstream::RENEWED,
            "s3cret",
        ] {
            assert!(!contains(&seen, secret.as_bytes()), "`{secret}` reached the client");
        }
    }
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|window| window == part)
}

/// Tries for five seconds.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    for _ in 0..500 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

#[derive(Clone)]
pub struct Driver {
    pub addr: SocketAddr,
    client: Client<hyper_util::client::legacy::connect::HttpConnector, Full<Bytes>>,
    pub token: String,
    pub master: String,
    pub number: u64,
    pub seen: Arc<Mutex<Vec<u8>>>,
}

impl Driver {
    pub fn new(addr: SocketAddr) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { addr, client, token: String::new(), master: String::new(), number: 0, seen: Arc::default() }
    }

    async fn ready(&self, metrics: SocketAddr) -> bool {
        let text = self.get_text(&format!("http://{metrics}/metrics")).await;
        text.contains("icegate_pep_pdp_watch_connected 1")
    }

    pub async fn get_text(&self, url: &str) -> String {
        let reply = self.client.get(url.parse().unwrap()).await.unwrap();
        String::from_utf8(reply.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    pub async fn call(&self, method: &str, path: &str, token: &str, body: &Value) -> Value {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.addr))
            .header("authorization", format!("Snowflake Token=\"{token}\""))
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        let reply = self.client.request(request).await.unwrap();
        assert_eq!(reply.status(), 200, "drivers retry anything else");
        let bytes = reply.into_body().collect().await.unwrap().to_bytes();
        self.seen.lock().unwrap().extend_from_slice(&bytes);
        serde_json::from_slice(&bytes).unwrap()
    }

    /// A call that shows another credential, and its status.
    pub async fn call_as(&self, method: &str, path: &str, authorization: &str, body: &Value) -> (u16, Value) {
        let request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.addr))
            .header("authorization", authorization)
            .header("user-agent", "test/1.0")
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        let reply = self.client.request(request).await.unwrap();
        let status = reply.status().as_u16();
        let bytes = reply.into_body().collect().await.unwrap().to_bytes();
        self.seen.lock().unwrap().extend_from_slice(&bytes);
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    pub async fn try_login(&self, token: &str) -> Value {
        let body = json!({ "data": {
            "CLIENT_APP_ID": "PythonConnector", "CLIENT_APP_VERSION": "4.8.1", "LOGIN_NAME": "", "AUTHENTICATOR": "OAUTH",
            "TOKEN": token, "SESSION_PARAMETERS": { "QUERY_TAG": "nightly" }, "CLIENT_ENVIRONMENT": { "APPLICATION": "test" },
        }});
        let path = "/session/v1/login-request?databaseName=SALES&schemaName=PUBLIC&warehouse=WH&roleName=ANALYST";
        self.call("POST", path, "None", &body).await
    }

    pub async fn login(&mut self) {
        let reply = self.try_login("good.token").await;
        assert_eq!(reply["success"], true, "{reply}");
        self.token = reply["data"]["token"].as_str().unwrap().into();
        self.master = reply["data"]["masterToken"].as_str().unwrap().into();
        self.number = reply["data"]["sessionId"].as_u64().unwrap();
    }

    pub async fn query(&self, sql: &str) -> Value {
        self.query_as(sql, &uuid::Uuid::new_v4().to_string()).await
    }

    pub async fn query_as(&self, sql: &str, request_id: &str) -> Value {
        let body = json!({ "sqlText": sql, "asyncExec": false, "sequenceId": 1 });
        let path = format!("/queries/v1/query-request?requestId={request_id}");
        self.call("POST", &path, &self.token, &body).await
    }

    /// Several statements in one request.
    pub async fn query_several(&self, sql: &str, count: u32) -> Value {
        let body = json!({ "sqlText": sql, "sequenceId": 1, "parameters": { "MULTI_STATEMENT_COUNT": count } });
        let path = format!("/queries/v1/query-request?requestId={}", uuid::Uuid::new_v4());
        self.call("POST", &path, &self.token, &body).await
    }

    pub async fn get(&self, path: &str) -> Value {
        self.call("GET", path, &self.token, &Value::Null).await
    }
}
