//! What the warehouse says of itself, through the proxy's own session: read on its own, looked up for a statement, told to
//! people, and on record.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, missing_docs, reason = "tests may")]

use std::{net::SocketAddr, path::Path, time::Duration};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use icegate_cli::demo::{
    issuer::{ANA, Issuer, Person, STELLA},
    service,
};
use icegate_proto::v1::{
    ExportCatalogRequest, GetCatalogStatusRequest, GetCatalogStatusResponse, SearchRecordsRequest,
    TakeCatalogQuestionsRequest, audit_service_client::AuditServiceClient,
    catalog_service_client::CatalogServiceClient,
};
use icegate_tests::{
    account::{Account, Relation},
    stack::workspace,
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tonic::{Request, transport::Channel};

/// Long enough ago that the history of tags has it.
const LONG_AGO_MS: i64 = 1_600_000_000_000;

const OLD: Relation = Relation {
    name: "OLD",
    altered_ms: LONG_AGO_MS,
    view: None,
    columns: &[("ID", ""), ("PHONE", "")],
    tags_hidden: false,
};

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(now.as_millis()).unwrap()
}

struct Running {
    pdp: icegate_pdp::Running,
    pep: icegate_pep::Running,
    issuer: Issuer,
    account: Account,
    folder: TempDir,
    catalog: &'static str,
}

async fn start_pdp(folder: &Path, issuer: &Issuer, addr: SocketAddr, catalog: &str) -> icegate_pdp::Running {
    let policies = workspace().join("policies");
    let text = service::pdp_config(addr, folder, &policies, &issuer.url()) + catalog;
    let config = icegate_pdp::Config::from_toml(&text, &folder.join("pdp.toml")).unwrap();
    icegate_pdp::start(config).await.unwrap()
}

impl Running {
    async fn start(catalog: &'static str, relations: &[Relation]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let account = Account::start().await.unwrap();
        for relation in relations {
            account.create(relation.clone());
        }
        let issuer = Issuer::start().await.unwrap();
        let pdp = start_pdp(folder.path(), &issuer, "127.0.0.1:0".parse().unwrap(), catalog).await;
        std::fs::write(folder.path().join("password"), "s3cret\n").unwrap();
        let at = folder.path().display();
        let (upstream, pdp_addr) = (account.addr(), pdp.addr());
        let text = format!(
            r#"
pep_id = "pep-1"
[listen]
addr = "127.0.0.1:0"
danger_plaintext = true
[upstream]
url = "http://{upstream}"
danger_plaintext = true
account = "demo"
user = "ICEGATE"
auth = "password"
password_file = "{at}/password"
[pdp]
url = "http://{pdp_addr}"
danger_plaintext = true
[journal]
path = "{at}/journal"
[catalog]
sync = "on"
role = "ICEGATE_CATALOG"
"#
        );
        let pep = icegate_pep::start(icegate_pep::Config::parse(&text, "pep.toml").unwrap()).await.unwrap();
        Self { pdp, pep, issuer, account, folder, catalog }
    }

    async fn restart_pdp(self) -> Self {
        let Self { pdp, pep, issuer, account, folder, catalog } = self;
        let addr = pdp.addr();
        pdp.shutdown().await;
        let pdp = start_pdp(folder.path(), &issuer, addr, catalog).await;
        Self { pdp, pep, issuer, account, folder, catalog }
    }

    async fn channel(&self) -> Channel {
        Channel::from_shared(format!("http://{}", self.pdp.addr())).unwrap().connect().await.unwrap()
    }

    fn by<T>(&self, person: &Person, message: T) -> Request<T> {
        let mut request = Request::new(message);
        let bearer = format!("Bearer {}", self.issuer.token(person).unwrap());
        request.metadata_mut().insert("authorization", bearer.parse().unwrap());
        request
    }

    async fn status(&self) -> GetCatalogStatusResponse {
        let mut client = CatalogServiceClient::new(self.channel().await);
        client.get_catalog_status(self.by(&STELLA, GetCatalogStatusRequest {})).await.unwrap().into_inner()
    }

    async fn export(&self, warehouse_only: bool) -> String {
        let mut client = CatalogServiceClient::new(self.channel().await);
        let request = self.by(&STELLA, ExportCatalogRequest { warehouse_only });
        let mut pieces = client.export_catalog(request).await.unwrap().into_inner();
        let mut text = String::new();
        while let Some(piece) = pieces.message().await.unwrap() {
            text.push_str(&piece.text);
        }
        text
    }

    async fn call(&self, path: &str, token: &str, body: &Value) -> Value {
        let request = http::Request::builder()
            .method("POST")
            .uri(format!("http://{}{path}", self.pep.addr()))
            .header("authorization", format!("Snowflake Token=\"{token}\""))
            .body(Full::new(Bytes::from(body.to_string())))
            .unwrap();
        let client = Client::builder(TokioExecutor::new()).build_http();
        let reply = client.request(request).await.unwrap().into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&reply).unwrap()
    }

    async fn login(&self, person: &Person) -> String {
        let body = json!({ "data": {
            "CLIENT_APP_ID": "PythonConnector", "CLIENT_APP_VERSION": "4.8.1", "LOGIN_NAME": "", "AUTHENTICATOR": "OAUTH",
            "TOKEN": self.issuer.token(person).unwrap(), "CLIENT_ENVIRONMENT": { "APPLICATION": "test" },
        } });
        let path = "/session/v1/login-request?databaseName=SALES&schemaName=PUBLIC&warehouse=DEMO_WH&roleName=ANALYST";
        let reply = self.call(path, "None", &body).await;
        reply["data"]["token"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned()
    }

    /// What the account was sent for a statement, or the refusal.
    async fn run(&self, token: &str, sql: &str) -> Result<String, String> {
        let path = format!("/queries/v1/query-request?requestId={}", uuid::Uuid::new_v4());
        let reply = self.call(&path, token, &json!({ "sqlText": sql, "asyncExec": false, "sequenceId": 1 })).await;
        if reply["success"] != true {
            return Err(reply["message"].as_str().unwrap_or_default().to_owned());
        }
        let own = |sql: &String| {
            sql.contains("INFORMATION_SCHEMA") || sql.contains("ACCOUNT_USAGE") || sql.contains("GET_DDL")
        };
        Ok(self.account.statements().into_iter().rfind(|sql| !own(sql)).unwrap())
    }
}

async fn eventually<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    for _ in 0..300 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never: {what}");
}

const OFTEN: &str = "\n[catalog]\nsync = \"on\"\ndatabases = [\"sales\"]\nevery = \"1s\"\nlookup_timeout = \"0s\"\n";

#[tokio::test(flavor = "multi_thread")]
async fn what_the_warehouse_has_needs_no_catalogue_of_ours() {
    let secret = Relation { name: "SECRET_V", altered_ms: LONG_AGO_MS, view: Some(None), ..OLD };
    let shown = Relation {
        name: "SHOWN_V",
        altered_ms: LONG_AGO_MS,
        view: Some(Some("create or replace view SHOWN_V(ID, PHONE) as select ID, PHONE from SALES.PUBLIC.OLD")),
        columns: &[("ID", ""), ("PHONE", "")],
        tags_hidden: false,
    };
    let running = Running::start(OFTEN, &[OLD, secret, shown]).await;
    eventually("a first reading", || async { running.status().await.databases[0].synced_unix_ms > 0 }).await;
    let status = running.status().await;
    assert!(status.sync && status.pep_ids == ["pep-1"] && status.version.contains('+'), "{status:?}");
    let database = &status.databases[0];
    assert_eq!(
        (database.relations, database.views, database.functions, database.procedures),
        (2, 1, 2, 1),
        "{database:?}"
    );
    assert_eq!((database.unreadable_count, database.unreadable[0].name.as_str()), (1, "SALES.PUBLIC.SECRET_V"));
    assert!(database.unreadable[0].why.contains("Its text cannot be read (Snowflake's code 002003)"), "{database:?}");
    assert_eq!(database.problem, "");

    let ana = running.login(&ANA).await;
    // A tag of the account's history masks, through a view too.
    for sql in ["SELECT phone FROM old", "SELECT phone FROM shown_v"] {
        let sent = running.run(&ana, sql).await.unwrap();
        assert!(sent != sql && sent.contains("FROM (SELECT"), "{sent}");
    }
    let stella = running.login(&STELLA).await;
    assert_eq!(running.run(&stella, "SELECT phone FROM old").await.unwrap(), "SELECT phone FROM old");
    // A view that cannot be read is as if there were none.
    let refused = running.run(&ana, "SELECT phone FROM secret_v").await.unwrap_err();
    assert!(refused.contains("[SQL-UNRESOLVED"), "{refused}");
    // A tag is added to what the bundle defines.
    let sent = running.run(&ana, "SELECT note FROM orders").await.unwrap();
    assert!(sent.contains("FROM (SELECT"), "{sent}");

    // Made after the start, with a tag of its own: nothing was edited.
    let people = Relation {
        name: "PEOPLE",
        altered_ms: now_ms(),
        view: None,
        columns: &[("EMAIL", "email")],
        tags_hidden: false,
    };
    running.account.create(people);
    let hidden = Relation {
        name: "HIDDEN",
        altered_ms: now_ms(),
        view: None,
        columns: &[("EMAIL", "email")],
        tags_hidden: true,
    };
    running.account.create(hidden);
    eventually("the new table", || async { running.run(&ana, "SELECT email FROM people").await.is_ok() }).await;
    let sent = running.run(&ana, "SELECT email FROM people").await.unwrap();
    assert!(sent.contains("FROM (SELECT"), "{sent}");
    // Without its tags nothing would mask it, so it is not there.
    assert!(running.run(&ana, "SELECT email FROM hidden").await.unwrap_err().contains("SQL-UNRESOLVED"));
    let status = running.status().await;
    let why = status.databases[0].unreadable.iter().find(|one| one.name == "SALES.PUBLIC.HIDDEN").unwrap();
    assert!(why.why.contains("Its tags cannot be read"), "{why:?}");

    // The session at the warehouse ends, and a table goes.
    let logins = running.account.logins();
    running.account.lose_sessions();
    running.account.drop_relation("PEOPLE");
    eventually("the table is gone", || async { running.status().await.databases[0].relations == 2 }).await;
    assert!(running.run(&ana, "SELECT email FROM people").await.is_err());
    assert!(running.account.logins() <= logins + 1);

    let yaml = running.export(true).await;
    assert!(yaml.contains("      OLD:\n        columns:\n") && yaml.contains("SALES.PUBLIC.CLEAN: pure"), "{yaml}");
    assert!(yaml.contains("SALES.PUBLIC.SEND: external") && yaml.contains("SALES.PUBLIC.REBUILD: unknown"), "{yaml}");
    assert!(!yaml.contains("SECRET_V") && !yaml.contains("CUSTOMERS"), "{yaml}");
    assert!(running.export(false).await.contains("CUSTOMERS"));
    on_record(&running).await;
    survives(running).await;
}

/// icegate's own queries are in the trail as its own.
async fn on_record(running: &Running) {
    let mut audit = AuditServiceClient::new(running.channel().await);
    let request = SearchRecordsRequest { principal: "icegate:pep/pep-1".into(), limit: 1000, ..Default::default() };
    let found = audit.search_records(running.by(&STELLA, request)).await.unwrap().into_inner().entries;
    let sent: Vec<String> = running.account.statements();
    let own = sent
        .iter()
        .filter(|sql| sql.contains("INFORMATION_SCHEMA") || sql.contains("ACCOUNT_USAGE") || sql.contains("GET_DDL"));
    let mut succeeded = 0;
    let mut failed = 0;
    for entry in &found {
        let body: Value = serde_json::from_slice(&entry.record.as_ref().unwrap().body).unwrap();
        assert_eq!(body["event"]["principal"]["issuer"], "icegate", "{body}");
        assert_eq!(body["event"]["client"]["application"], "catalog-sync");
        assert_eq!(body["event"]["policies"], json!([]), "no policy decided it");
        let Some(outcome) = &entry.outcome else { continue };
        let outcome: Value = serde_json::from_slice(&outcome.body).unwrap();
        match outcome["event"]["status"].as_str() {
            Some("succeeded") => succeeded += 1,
            Some("failed") => failed += 1,
            _ => {}
        }
    }
    assert!(succeeded > 5 && failed > 0, "{succeeded} {failed}");
    assert!(found.len() + 20 >= own.clone().count() && !found.is_empty(), "{} {}", found.len(), own.count());
}

/// What was read is there after a restart, before anybody is asked.
async fn survives(running: Running) {
    let version = running.status().await.version;
    let running = running.restart_pdp().await;
    let status = running.status().await;
    assert_eq!((status.version, status.databases[0].relations), (version, 2));
    let not_hers = CatalogServiceClient::new(running.channel().await)
        .get_catalog_status(running.by(&ANA, GetCatalogStatusRequest {}))
        .await
        .unwrap_err();
    assert_eq!(not_hers.code(), tonic::Code::PermissionDenied);
}

const SELDOM: &str = "\n[catalog]\nsync = \"on\"\ndatabases = [\"sales\"]\nevery = \"1h\"\nlookup_timeout = \"4s\"\nlookups_per_minute = 4\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_name_nobody_knows_is_looked_up_once() {
    let running = Running::start(SELDOM, &[OLD]).await;
    eventually("a first reading", || async { running.status().await.databases[0].synced_unix_ms > 0 }).await;
    let view = Relation {
        name: "FRESH_V",
        altered_ms: now_ms(),
        view: Some(Some("select EMAIL from SALES.PUBLIC.FRESH")),
        columns: &[("EMAIL", "")],
        tags_hidden: false,
    };
    let fresh = Relation {
        name: "FRESH",
        altered_ms: now_ms(),
        view: None,
        columns: &[("EMAIL", "email")],
        tags_hidden: false,
    };
    running.account.create(view);
    running.account.create(fresh);
    let ana = running.login(&ANA).await;
    // The view leads to its table, whose tag masks it.
    let sent = running.run(&ana, "SELECT email FROM fresh_v").await.unwrap();
    assert!(sent.contains("FROM (SELECT"), "{sent}");

    let asked = || running.account.statements().iter().filter(|sql| sql.contains("'NOPE'")).count();
    for _ in 0..3 {
        let refused = running.run(&ana, "SELECT a FROM nope").await.unwrap_err();
        assert!(refused.contains("The catalog does not know `relation SALES.PUBLIC.NOPE`"), "{refused}");
    }
    assert_eq!(asked(), 1, "what was not there is not asked for again at once");
    // Two were looked up for the view, one was not there: one more, then no more this minute.
    for name in ["a1", "a2", "a3"] {
        assert!(running.run(&ana, &format!("SELECT a FROM {name}")).await.is_err());
    }
    let made_up = running
        .account
        .statements()
        .iter()
        .filter(|sql| sql.contains("'A1'") || sql.contains("'A2'") || sql.contains("'A3'"))
        .count();
    assert_eq!(made_up, 1);
    // Another database is never asked about.
    assert!(running.run(&ana, "SELECT a FROM other.public.t").await.is_err());
    assert!(!running.account.statements().iter().any(|sql| sql.contains("\"OTHER\"")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pdp_that_does_not_sync_asks_nobody() {
    let running = Running::start("", &[OLD]).await;
    let mut client = CatalogServiceClient::new(running.channel().await);
    let taken = client.take_catalog_questions(TakeCatalogQuestionsRequest { pep_id: "pep-1".into() }).await;
    assert_eq!(taken.unwrap_err().code(), tonic::Code::FailedPrecondition);
    let status = running.status().await;
    assert!(!status.sync && !status.version.contains('+'));
    let ana = running.login(&ANA).await;
    assert!(running.run(&ana, "SELECT phone FROM old").await.is_err());
    assert!(running.account.statements().is_empty());
}
