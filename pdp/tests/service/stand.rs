//! A PDP of its own for each test: loopback, a store in a temporary folder, the starting set of policies, an issuer.

use std::{
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use icegate_pdp::{Config, Running};
use icegate_proto::v1::{
    self, approval_service_client::ApprovalServiceClient, audit_service_client::AuditServiceClient,
    decision_service_client::DecisionServiceClient, open_session_response::Result as Opened,
    session_service_client::SessionServiceClient, watch_service_client::WatchServiceClient,
};
use rcgen::{KeyPair, PublicKeyData as _};
use serde_json::json;
use tempfile::TempDir;
use tonic::{Request, transport::Channel};

pub(crate) const ISSUER: &str = "https://dev.example";

pub(crate) struct Stand {
    pub(crate) running: Running,
    pub(crate) folder: TempDir,
    pub(crate) channel: Channel,
    issuer: Issuer,
}

/// Signs tokens whose key is in `keys.json`.
pub(crate) struct Issuer(KeyPair);

/// Who a token is for.
#[derive(Clone, Copy)]
pub(crate) struct Person<'a> {
    pub(crate) name: &'a str,
    pub(crate) groups: &'a [&'a str],
    pub(crate) agent: Option<&'a str>,
}

pub(crate) const ANA: Person<'_> = Person { name: "ana", groups: &["employees", "analysts"], agent: None };
pub(crate) const STELLA: Person<'_> = Person { name: "stella", groups: &["employees", "data-stewards"], agent: None };
pub(crate) const ENGINEER: Person<'_> =
    Person { name: "emil", groups: &["employees", "engineers", "data-stewards"], agent: None };
pub(crate) const AGENT: Person<'_> = Person { agent: Some("github-copilot"), ..ENGINEER };

pub(crate) fn unix_seconds() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

impl Issuer {
    pub(crate) fn new(folder: &Path) -> Self {
        let key = KeyPair::generate().unwrap();
        let point = key.der_bytes();
        let coordinate = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        let jwks = json!({ "keys": [{ "kty": "EC", "crv": "P-256", "kid": "k1", "alg": "ES256", "use": "sig",
            "x": coordinate(&point[1..33]), "y": coordinate(&point[33..65]) }] });
        std::fs::write(folder.join("keys.json"), jwks.to_string()).unwrap();
        Self(key)
    }

    /// Issued `issued` seconds from now, valid until `expires` seconds from now.
    pub(crate) fn token_at(&self, person: Person<'_>, issued: i64, expires: i64) -> String {
        let now = unix_seconds();
        let mut claims = json!({ "iss": ISSUER, "sub": person.name, "aud": "icegate", "iat": now + issued,
            "exp": now + expires, "groups": person.groups });
        if let Some(agent) = person.agent {
            claims["act"] = json!({ "sub": agent });
        }
        let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
        header.kid = Some("k1".into());
        let key = jsonwebtoken::EncodingKey::from_ec_pem(self.0.serialize_pem().as_bytes()).unwrap();
        jsonwebtoken::encode(&header, &claims, &key).unwrap()
    }
}

pub(crate) fn policies() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies")
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub(crate) fn config_text(listen: &str, more: &str) -> String {
    format!(
        r#"
[listen]
{listen}
[metrics]
addr = "127.0.0.1:0"
[store]
path = "icegate.db"
[bundle]
dir = "policies"
poll = "100ms"
[[issuer]]
name = "dev"
issuer = "{ISSUER}"
jwks_file = "keys.json"
audiences = ["icegate"]
claims = {{ groups = "groups" }}
{more}
"#
    )
}

pub(crate) const PLAINTEXT: &str = "addr = \"127.0.0.1:0\"\ndanger_plaintext = true";

/// A folder with everything a configuration names.
pub(crate) fn folder(listen: &str, more: &str) -> (TempDir, Issuer) {
    let folder = tempfile::tempdir().unwrap();
    copy(&policies(), &folder.path().join("policies"));
    let issuer = Issuer::new(folder.path());
    std::fs::write(folder.path().join("pdp.toml"), config_text(listen, more)).unwrap();
    (folder, issuer)
}

impl Stand {
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// With these policy files besides the starting set.
    pub(crate) async fn start_policies(files: &[(&str, &str)]) -> Self {
        let (folder, issuer) = folder(PLAINTEXT, "");
        for (name, text) in files {
            std::fs::write(folder.path().join("policies").join(name), text).unwrap();
        }
        Self::again(folder, issuer).await
    }

    pub(crate) async fn start_with(more: &str) -> Self {
        let (folder, issuer) = folder(PLAINTEXT, more);
        Self::again(folder, issuer).await
    }

    async fn again(folder: TempDir, issuer: Issuer) -> Self {
        let config = Config::load(&folder.path().join("pdp.toml")).unwrap();
        let running = icegate_pdp::start(config).await.unwrap();
        let channel = Channel::from_shared(format!("http://{}", running.addr())).unwrap().connect().await.unwrap();
        Self { running, folder, channel, issuer }
    }

    pub(crate) async fn restarted(self) -> Self {
        let Self { running, folder, issuer, channel } = self;
        drop(channel);
        running.shutdown().await;
        Self::again(folder, issuer).await
    }

    pub(crate) fn token(&self, person: Person<'_>) -> String {
        self.issuer.token_at(person, -60, 3600)
    }

    pub(crate) fn token_at(&self, person: Person<'_>, issued: i64, expires: i64) -> String {
        self.issuer.token_at(person, issued, expires)
    }

    /// A call a person makes.
    pub(crate) fn by<T>(&self, person: Person<'_>, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let bearer = format!("Bearer {}", self.token(person));
        request.metadata_mut().insert("authorization", bearer.parse().unwrap());
        request
    }

    pub(crate) fn decisions(&self) -> DecisionServiceClient<Channel> {
        DecisionServiceClient::new(self.channel.clone())
    }

    pub(crate) fn sessions(&self) -> SessionServiceClient<Channel> {
        SessionServiceClient::new(self.channel.clone())
    }

    pub(crate) fn approvals(&self) -> ApprovalServiceClient<Channel> {
        ApprovalServiceClient::new(self.channel.clone())
    }

    pub(crate) fn audit(&self) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.channel.clone())
    }

    pub(crate) fn watches(&self) -> WatchServiceClient<Channel> {
        WatchServiceClient::new(self.channel.clone())
    }

    pub(crate) async fn login(&self, token: String, login_name: &str) -> Opened {
        let request = v1::OpenSessionRequest {
            token,
            login_name: login_name.into(),
            pep_id: "pep-1".into(),
            context: Some(context()),
            ..Default::default()
        };
        self.sessions().open_session(request).await.unwrap().into_inner().result.unwrap()
    }

    /// An open session of this person.
    pub(crate) async fn session(&self, person: Person<'_>) -> v1::Session {
        match self.login(self.token(person), "").await {
            Opened::Session(session) => session,
            Opened::Refusal(reason) => panic!("{reason:?}"),
        }
    }

    pub(crate) async fn decide(&self, session: &v1::Session, sql: &str) -> v1::DecideResponse {
        self.decide_with(session, sql, "").await
    }

    pub(crate) async fn decide_with(&self, session: &v1::Session, sql: &str, approval_id: &str) -> v1::DecideResponse {
        let request = v1::DecideRequest {
            session_id: session.session_id.clone(),
            request_id: "r".into(),
            sql: sql.into(),
            context: Some(context()),
            statement_count: 1,
            approval_id: approval_id.into(),
            ..Default::default()
        };
        self.decisions().decide(request).await.unwrap().into_inner()
    }

    pub(crate) async fn search(&self, request: v1::SearchRecordsRequest) -> Vec<serde_json::Value> {
        let found = self.audit().search_records(self.by(STELLA, request)).await.unwrap().into_inner();
        found
            .entries
            .into_iter()
            .map(|entry| {
                let mut record: serde_json::Value = serde_json::from_slice(&entry.record.unwrap().body).unwrap();
                for (name, other) in [("outcome", entry.outcome), ("cut", entry.cut)] {
                    if let Some(other) = other {
                        record[name] = serde_json::from_slice(&other.body).unwrap();
                    }
                }
                record
            })
            .collect()
    }
}

pub(crate) fn context() -> v1::SessionContext {
    v1::SessionContext {
        database: "SALES".into(),
        schema: "PUBLIC".into(),
        role: "ANALYST".into(),
        warehouse: "DEMO_WH".into(),
    }
}

pub(crate) fn code_of(answer: &v1::DecideResponse) -> &str {
    answer.reasons.first().map_or("", |reason| reason.code.as_str())
}
