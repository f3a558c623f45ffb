//! The same over TLS: mutual towards the PDP, the proxy's own certificate towards drivers.

use std::sync::Arc;

use icegate_pep::Config;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::{pdp::FakePdp, stage::eventually, upstream::FakeUpstream};

#[tokio::test]
async fn drivers_and_the_pdp_are_spoken_to_over_tls() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let ours = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let (cert, key) = (ours.cert.pem(), ours.signing_key.serialize_pem());
    let stranger = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let at = dir.path().display();
    for (name, text) in [
        ("cert.pem", cert.clone()),
        ("key.pem", key.clone()),
        ("pdp-ca.pem", cert.clone()),
        ("client.pem", cert.clone()),
        ("client-key.pem", key.clone()),
        ("stranger.pem", stranger.cert.pem()),
        ("stranger-key.pem", stranger.signing_key.serialize_pem()),
        ("pw", "s3cret".to_owned()),
    ] {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    let mutual =
        ServerTlsConfig::new().identity(Identity::from_pem(&cert, &key)).client_ca_root(Certificate::from_pem(&cert));
    let pdp = FakePdp::new();
    let (pdp_addr, _server) = pdp.serve_with("127.0.0.1:0".parse().unwrap(), Some(mutual)).await;
    let (_, upstream_addr) = FakeUpstream::serve().await;
    let config = |client: &str, journal: &str| {
        format!(
            r#"
pep_id = "pep-1"
[listen]
addr = "127.0.0.1:0"
tls = {{ cert = "{at}/cert.pem", key = "{at}/key.pem" }}
[upstream]
url = "http://{upstream_addr}"
danger_plaintext = true
account = "acct"
user = "svc"
auth = "password"
password_file = "{at}/pw"
reread = "50ms"
[pdp]
url = "https://localhost:{port}"
tls = {{ ca = "{at}/pdp-ca.pem", cert = "{at}/{client}.pem", key = "{at}/{client}-key.pem" }}
[journal]
path = "{at}/{journal}"
"#,
            port = pdp_addr.port(),
        )
    };
    let login = concat!(
        "POST /session/v1/login-request HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 55\r\n\r\n",
        r#"{"data":{"AUTHENTICATOR":"OAUTH","TOKEN":"good.token"}}"#
    );

    let known = icegate_pep::start(Config::parse(&config("client", "a"), "pep.toml").unwrap()).await.unwrap();
    eventually("login", || async { over_tls(known.addr(), &cert, login).await.contains("\"success\":true") }).await;

    // A proxy whose certificate the PDP does not know gets nowhere.
    let unknown = icegate_pep::start(Config::parse(&config("stranger", "b"), "pep.toml").unwrap()).await.unwrap();
    let opened = pdp.told.lock().unwrap().opened.len();
    let reply = over_tls(unknown.addr(), &cert, login).await;
    assert!(reply.contains("[PDP-UNREACHABLE]"), "{reply}");
    assert_eq!(pdp.told.lock().unwrap().opened.len(), opened);
    // Until it shows another one, without a restart. Half of a pair is not one.
    std::fs::write(dir.path().join("stranger.pem"), &cert).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(over_tls(unknown.addr(), &cert, login).await.contains("[PDP-UNREACHABLE]"));
    std::fs::write(dir.path().join("stranger-key.pem"), &key).unwrap();
    eventually("known", || async { over_tls(unknown.addr(), &cert, login).await.contains("\"success\":true") }).await;

    // A new certificate is shown to whoever connects after it. Half of a pair is not one: the old one stays.
    let fresh = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    std::fs::write(dir.path().join("cert.pem"), fresh.cert.pem()).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(over_tls(known.addr(), &cert, login).await.contains("\"success\":true"));
    std::fs::write(dir.path().join("key.pem"), fresh.signing_key.serialize_pem()).unwrap();
    eventually("the new one", || async { connect(known.addr(), &fresh.cert.pem()).await.is_ok() }).await;
    assert!(over_tls(known.addr(), &fresh.cert.pem(), login).await.contains("\"success\":true"));
    assert!(connect(known.addr(), &cert).await.is_err(), "the old one is no longer shown");
}

pub async fn connect(
    addr: std::net::SocketAddr,
    ca: &str,
) -> std::io::Result<tokio_rustls::client::TlsStream<tokio::net::TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let client = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let stream = tokio::net::TcpStream::connect(addr).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    connector.connect(ServerName::try_from("localhost").unwrap(), stream).await
}

pub async fn over_tls(addr: std::net::SocketAddr, ca: &str, request: &str) -> String {
    let mut stream = connect(addr, ca).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    // A peer that closes without a goodbye has still said all there is.
    let _ = stream.read_to_end(&mut reply).await;
    String::from_utf8(reply).unwrap()
}
