//! The program itself: exit statuses, announcement, TLS.

use std::{
    path::Path,
    process::{Command, Output},
    time::Duration,
};

use icegate_pdp::Config;
use icegate_proto::v1::{
    self, ListSessionsRequest, OpenSessionRequest, approval_service_client::ApprovalServiceClient,
    audit_service_client::AuditServiceClient, decision_service_client::DecisionServiceClient,
    open_session_response::Result as Opened, session_service_client::SessionServiceClient,
    watch_service_client::WatchServiceClient,
};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer as Authority, KeyPair};
use tonic::{
    Code, Request,
    transport::{Certificate, Channel, ClientTlsConfig, Identity},
};

use crate::stand::{ANA, PLAINTEXT, STELLA, config_text, context, folder};

fn program(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_icegate-pdp")).current_dir(folder).args(arguments).output().unwrap()
}

#[test]
fn a_good_configuration_is_said_to_be_good() {
    let (folder, _issuer) = folder(PLAINTEXT, "");
    let output = program(folder.path(), &["--config", "pdp.toml", "--check-config"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("configuration is good"), "{text}");
    assert!(!folder.path().join("icegate.db").exists(), "nothing is made");
}

#[test]
fn whatever_is_wrong_is_named_and_exits_64() {
    let (folder, _issuer) = folder(PLAINTEXT, "");
    let path = folder.path();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/wrong-key.toml");
    std::fs::copy(fixture, path.join("wrong-key.toml")).unwrap();
    std::fs::write(path.join("no-bundle.toml"), config_text(PLAINTEXT, "").replace("\"policies\"", "\"nowhere\""))
        .unwrap();
    std::fs::write(path.join("no-keys.toml"), config_text(PLAINTEXT, "").replace("keys.json", "pdp.toml")).unwrap();
    let tls = "addr = \"127.0.0.1:0\"\ntls = { cert = \"pdp.toml\", key = \"pdp.toml\", client_ca = \"pdp.toml\" }";
    std::fs::write(path.join("bad-tls.toml"), config_text(tls, "")).unwrap();
    std::fs::create_dir(path.join("broken")).unwrap();
    crate::stand::copy(&path.join("policies"), &path.join("broken"));
    std::fs::write(path.join("broken/x.cedar"), "permit (principal").unwrap();
    std::fs::write(path.join("bad-bundle.toml"), config_text(PLAINTEXT, "").replace("\"policies\"", "\"broken\""))
        .unwrap();
    for (config, wanted) in [
        ("absent.toml", "absent.toml: cannot be read"),
        ("wrong-key.toml", "wrong-key.toml:9: unknown key `directory`"),
        ("no-bundle.toml", "nowhere"),
        ("no-keys.toml", "not a JWKS"),
        ("bad-tls.toml", "do not make a TLS server"),
        ("bad-bundle.toml", "x.cedar:1"),
    ] {
        let output = program(path, &["--config", config, "--check-config"]);
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{config}: {text}");
        assert!(text.contains(wanted), "{config}: {text}");
    }
    assert_eq!(program(path, &["--no-such-option"]).status.code(), Some(64));
}

#[tokio::test(flavor = "multi_thread")]
async fn it_announces_itself_and_stops_when_told() {
    let (folder, _issuer) = folder(PLAINTEXT, "");
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_icegate-pdp"))
        .current_dir(folder.path())
        .args(["--config", "pdp.toml", "--announce", "announced.json"])
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let announced = folder.path().join("announced.json");
    for _ in 0..300 {
        if announced.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let addresses: serde_json::Value = serde_json::from_slice(&std::fs::read(announced).unwrap()).unwrap();
    let addr = addresses["addr"].as_str().unwrap();
    assert!(addresses["metrics"].as_str().unwrap().starts_with("127.0.0.1:"));
    Channel::from_shared(format!("http://{addr}")).unwrap().connect().await.unwrap();
    let stop = Command::new("kill").args(["-TERM", &child.id().unwrap().to_string()]).status().unwrap();
    assert!(stop.success());
    let status = tokio::time::timeout(Duration::from_secs(15), child.wait()).await.unwrap().unwrap();
    assert!(status.success(), "{status}");
}

struct Authorities {
    ca: String,
    authority: Authority<'static, KeyPair>,
}

impl Authorities {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap().pem();
        Self { ca, authority: Authority::new(params, key) }
    }

    fn issue(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let cert = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &self.authority).unwrap();
        (cert.pem(), key.serialize_pem())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn peps_need_a_certificate_and_people_a_token() {
    let tls = "addr = \"127.0.0.1:0\"\ntls = { cert = \"pdp.crt\", key = \"pdp.key\", client_ca = \"ca.crt\" }";
    let (folder, issuer) = folder(tls, "");
    let (ours, others) = (Authorities::new(), Authorities::new());
    let (cert, key) = ours.issue("localhost");
    for (name, text) in [("pdp.crt", &cert), ("pdp.key", &key), ("ca.crt", &ours.ca)] {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let running = icegate_pdp::start(Config::load(&folder.path().join("pdp.toml")).unwrap()).await.unwrap();
    let connect = |identity: Option<(String, String)>| {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&ours.ca)).domain_name("localhost");
        if let Some((cert, key)) = identity {
            tls = tls.identity(Identity::from_pem(cert, key));
        }
        let url = format!("https://{}", running.addr());
        let channel = Channel::from_shared(url).unwrap().tls_config(tls).unwrap().connect_lazy();
        SessionServiceClient::new(channel)
    };
    let open = || OpenSessionRequest {
        token: issuer.token_at(ANA, -60, 3600),
        pep_id: "pep-1".into(),
        context: Some(context()),
        ..Default::default()
    };
    let opened = connect(Some(ours.issue("pep-1"))).open_session(open()).await.unwrap().into_inner();
    assert!(matches!(opened.result, Some(Opened::Session(_))), "{opened:?}");
    let status = connect(None).open_session(open()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated, "{status}");
    assert!(connect(Some(others.issue("pep-1"))).open_session(open()).await.is_err());

    let mut list = Request::new(ListSessionsRequest::default());
    assert_eq!(
        connect(None).list_sessions(ListSessionsRequest::default()).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    let bearer = format!("Bearer {}", issuer.token_at(STELLA, -60, 3600));
    list.metadata_mut().insert("authorization", bearer.parse().unwrap());
    let listed = connect(None).list_sessions(list).await.unwrap().into_inner();
    assert_eq!(listed.sessions.len(), 1);

    // A person's token opens nothing that is for PEPs.
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(&ours.ca)).domain_name("localhost");
    let url = format!("https://{}", running.addr());
    let channel = Channel::from_shared(url).unwrap().tls_config(tls).unwrap().connect_lazy();
    macro_rules! refused {
        ($client:ident, $call:ident, $message:expr) => {
            let mut request = Request::new($message);
            request.metadata_mut().insert("authorization", bearer.parse().unwrap());
            let status = $client::new(channel.clone()).$call(request).await.unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated, "{}: {status}", stringify!($call));
        };
    }
    refused!(DecisionServiceClient, decide, v1::DecideRequest::default());
    refused!(SessionServiceClient, open_session, open());
    refused!(SessionServiceClient, get_session, v1::GetSessionRequest::default());
    refused!(SessionServiceClient, close_session, v1::CloseSessionRequest::default());
    refused!(ApprovalServiceClient, cancel_approval, v1::CancelApprovalRequest::default());
    refused!(ApprovalServiceClient, wait_approval, v1::WaitApprovalRequest::default());
    refused!(AuditServiceClient, append_intent, v1::AppendIntentRequest::default());
    refused!(AuditServiceClient, append_outcome, v1::AppendOutcomeRequest::default());
    refused!(AuditServiceClient, append_journal, v1::AppendJournalRequest::default());
    refused!(WatchServiceClient, watch, v1::WatchRequest::default());
    running.shutdown().await;
}
