//! HTTP/2, where the client offers it in the TLS handshake: the same answers, the same limits.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use icegate_pep::{Config, Running};
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use serde_json::{Value, json};

use crate::{
    pdp::{FakePdp, Killable},
    upstream::FakeUpstream,
};

struct Tls {
    upstream: FakeUpstream,
    pep: Running,
    ca: String,
    _pdp: Killable,
    _dir: tempfile::TempDir,
}

impl Tls {
    async fn new() -> Self {
        Self::keeping_idle_for("1h").await
    }

    /// One that closes connections which ask nothing for so long.
    async fn keeping_idle_for(head_timeout: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let ours = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let ca = ours.cert.pem();
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().display();
        for (name, text) in
            [("cert.pem", ca.clone()), ("key.pem", ours.signing_key.serialize_pem()), ("pw", "s3cret".to_owned())]
        {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        let (pdp_addr, server) = FakePdp::new().serve("127.0.0.1:0".parse().unwrap()).await;
        let (upstream, upstream_addr) = FakeUpstream::serve().await;
        let config = format!(
            r#"
pep_id = "pep-1"
listen = {{ addr = "127.0.0.1:0", tls = {{ cert = "{at}/cert.pem", key = "{at}/key.pem" }} }}
upstream = {{ url = "http://{upstream_addr}", danger_plaintext = true, account = "acct", user = "svc", auth = "password", password_file = "{at}/pw" }}
pdp = {{ url = "http://{pdp_addr}", danger_plaintext = true }}
journal = {{ path = "{at}/journal" }}
limits = {{ head_timeout = "{head_timeout}" }}
"#
        );
        let pep = icegate_pep::start(Config::parse(&config, "pep.toml").unwrap()).await.unwrap();
        Self { upstream, pep, ca, _pdp: server, _dir: dir }
    }

    async fn connect(&self) -> Client {
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap()).unwrap();
        let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let stream = tokio::net::TcpStream::connect(self.pep.addr()).await.unwrap();
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        let (send, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        let ended = tokio::spawn(async move { drop(connection.await) });
        Client { send, addr: self.pep.addr(), ended }
    }
}

struct Client {
    send: SendRequest<Full<Bytes>>,
    addr: SocketAddr,
    ended: tokio::task::JoinHandle<()>,
}

type Answered = hyper::Result<(StatusCode, Value)>;

impl Client {
    fn call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> impl Future<Output = Answered> + Send + use<> {
        let mut request =
            Request::builder().method(method).uri(format!("https://localhost:{}{path}", self.addr.port()));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body.to_string()))).unwrap();
        let mut send = self.send.clone();
        async move {
            send.ready().await?;
            let reply = send.send_request(request).await?;
            let status = reply.status();
            let body = reply.into_body().collect().await?.to_bytes();
            Ok((status, serde_json::from_slice(&body).unwrap_or(Value::Null)))
        }
    }

    async fn login(&self) -> String {
        let body = json!({ "data": { "AUTHENTICATOR": "OAUTH", "TOKEN": "good.token" } });
        // Until the PDP is heard nobody is let in.
        for _ in 0..500 {
            let (_, reply) = self.call(Method::POST, "/session/v1/login-request", &[], &body).await.unwrap();
            if let Some(sealed) = reply["data"]["token"].as_str() {
                return format!("Snowflake Token=\"{sealed}\"");
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("never let in");
    }

    fn query(&self, token: &str, sql: &str, more: &[(&str, &str)]) -> impl Future<Output = Answered> + Send + use<> {
        let path = format!("/queries/v1/query-request?requestId={}", uuid::Uuid::new_v4());
        let headers = [&[("authorization", token)][..], more].concat();
        self.call(Method::POST, &path, &headers, &json!({ "sqlText": sql }))
    }
}

#[tokio::test]
async fn many_statements_share_a_connection() {
    let tls = Tls::new().await;
    let client = tls.connect().await;
    let token = client.login().await;
    let statements: Vec<_> =
        (0..40).map(|at| tokio::spawn(client.query(&token, &format!("select {at}"), &[]))).collect();
    for statement in statements {
        let (status, reply) = statement.await.unwrap().unwrap();
        assert_eq!((status, &reply["data"]["rowset"]), (StatusCode::OK, &json!([["1"]])), "{reply}");
    }
    assert_eq!(tls.upstream.texts().len(), 40);
}

#[tokio::test]
async fn tricks_get_an_answer_and_nothing_else() {
    let tls = Tls::new().await;
    let client = tls.connect().await;
    let token = client.login().await;
    let refused = async |more: &[(&str, &str)]| {
        let (_, reply) = client.query(&token, "wire", more).await.unwrap();
        assert!(reply["message"].as_str().unwrap_or_default().contains("[REQUEST-MALFORMED]"), "{more:?}: {reply}");
    };
    let own = format!("localhost:{}", client.addr.port());
    refused(&[("host", "other.test")]).await;
    refused(&[("host", &own), ("host", "other.test")]).await;
    refused(&[("host", "other.test"), ("host", &own)]).await;
    refused(&[("content-encoding", "br")]).await;
    let (_, reply) = client.query(&token, "select 'host said twice alike'", &[("host", &own)]).await.unwrap();
    assert_eq!(reply["success"], true, "{reply}");
    let (_, reply) = client
        .call(
            Method::POST,
            "/queries/%2e%2e/v1/query-request",
            &[("authorization", &token)],
            &json!({ "sqlText": "wire" }),
        )
        .await
        .unwrap();
    assert!(reply["message"].as_str().unwrap().contains("[REQUEST-MALFORMED]"), "{reply}");

    // More head than it may be: this request is refused, and the connection goes on.
    let long = "x".repeat(80 * 1024);
    match client.query(&token, "wire", &[("x-long", &long)]).await {
        Ok((status, _)) => assert_eq!(status, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE),
        Err(error) => assert!(error.to_string().contains("http2"), "{error}"),
    }
    assert_eq!(tls.upstream.texts(), ["select 'host said twice alike'"]);
}

#[tokio::test]
async fn requests_that_are_taken_back_in_a_flood_do_no_harm() {
    let tls = Tls::new().await;
    let calm = tls.connect().await;
    let token = calm.login().await;
    let flood = tls.connect().await;
    for _ in 0..2000 {
        let asked = flood.call(Method::GET, "/nothing", &[], &Value::Null);
        // Begun, and dropped before there is an answer.
        if tokio::time::timeout(std::time::Duration::from_micros(50), asked).await.is_ok_and(|answer| answer.is_err()) {
            break;
        }
    }
    let (_, reply) = calm.query(&token, "select 1", &[]).await.unwrap();
    assert_eq!(reply["success"], true, "{reply}");
    let fresh = tls.connect().await;
    let (_, reply) = fresh.query(&token, "select 2", &[]).await.unwrap();
    assert_eq!(reply["success"], true, "{reply}");
    assert_eq!(tls.upstream.texts(), ["select 1", "select 2"]);
}

#[tokio::test]
async fn a_connection_that_asks_nothing_is_closed() {
    let tls = Tls::keeping_idle_for("1s").await;
    let client = tls.connect().await;
    let token = client.login().await;
    // Longer than it may be idle, and worked on all the while.
    let slow = tokio::spawn(client.query(&token, "select 'blocked'", &[]));
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    assert!(!slow.is_finished() && !client.ended.is_finished());
    tls.upstream.gate.add_permits(1);
    assert_eq!(slow.await.unwrap().unwrap().1["success"], true);
    tokio::time::timeout(std::time::Duration::from_secs(8), client.ended).await.expect("closed").unwrap();
}
