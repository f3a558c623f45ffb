use std::time::Duration;

use icegate_proto::v1::{DecideRequest, SearchRecordsRequest, WatchRequest, WatchResponse, watch_response::Event};
use sqlx::{Connection as _, SqliteConnection};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_stream::StreamExt as _;
use tonic::Streaming;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};
use tonic_reflection::pb::v1::{
    ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
    server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
};

use crate::stand::{ANA, Stand};

pub(crate) async fn watch(stand: &Stand, pep_id: &str, instance_id: &str) -> Streaming<WatchResponse> {
    let request = WatchRequest { pep_id: pep_id.into(), instance_id: instance_id.into() };
    stand.watches().watch(request).await.unwrap().into_inner()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_begins_with_the_bundle_and_beats() {
    let stand = Stand::start().await;
    let mut events = watch(&stand, "pep-1", "a").await;
    let first = events.message().await.unwrap().unwrap().event.unwrap();
    assert!(matches!(first, Event::BundleVersion(version) if !version.is_empty()));
    let second = tokio::time::timeout(Duration::from_secs(3), events.message()).await.unwrap().unwrap().unwrap();
    assert!(matches!(second.event, Some(Event::Heartbeat(_))));
    // A watch does not hold up the end.
    tokio::time::timeout(Duration::from_secs(5), stand.running.shutdown()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_an_earlier_start_are_closed_as_unknown() {
    let stand = Stand::start().await;
    let _first = watch(&stand, "pep-1", "a").await;
    let ana = stand.session(ANA).await;
    let lost = stand.decide(&ana, "SELECT id FROM orders").await;
    let _second = watch(&stand, "pep-1", "b").await;
    let alive = stand.decide(&ana, "SELECT id FROM orders").await;
    let _again = watch(&stand, "pep-1", "b").await;
    for (decision_id, wanted) in [(lost.decision_id, "unknown".into()), (alive.decision_id, serde_json::Value::Null)] {
        let found = stand.search(SearchRecordsRequest { decision_id, ..Default::default() }).await;
        assert_eq!(found[0]["outcome"]["event"]["status"], wanted);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_and_reflection_answer() {
    let stand = Stand::start().await;
    for service in ["", "icegate.v1.DecisionService", "icegate.v1.WatchService"] {
        let request = HealthCheckRequest { service: service.into() };
        let health = HealthClient::new(stand.channel.clone()).check(request).await.unwrap().into_inner();
        assert_eq!(health.status(), ServingStatus::Serving, "{service}");
    }
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(stand.channel.clone());
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<&str> = list.service.iter().map(|service| service.name.as_str()).collect();
    for name in ["Decision", "Session", "Approval", "Audit", "Watch"] {
        assert!(names.contains(&format!("icegate.v1.{name}Service").as_str()), "{names:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_record_there_is_no_answer_and_health_says_so() {
    let stand = Stand::start().await;
    let ana = stand.session(ANA).await;
    let health = async |wanted: ServingStatus| {
        for _ in 0..150 {
            let request = HealthCheckRequest { service: "icegate.v1.DecisionService".into() };
            let health = HealthClient::new(stand.channel.clone()).check(request).await.unwrap().into_inner();
            if health.status() == wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("never {wanted:?}");
    };
    // Another process holds the file: nothing can be written.
    let path = stand.folder.path().join("icegate.db");
    let mut other = SqliteConnection::connect(path.to_str().unwrap()).await.unwrap();
    sqlx::query("BEGIN IMMEDIATE").execute(&mut other).await.unwrap();
    let request = DecideRequest { session_id: ana.session_id.clone(), sql: "SELECT 1".into(), ..Default::default() };
    let status = stand.decisions().decide(request).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert!(status.message().starts_with("AUDIT-UNAVAILABLE"), "{status}");
    health(ServingStatus::NotServing).await;
    sqlx::query("ROLLBACK").execute(&mut other).await.unwrap();
    health(ServingStatus::Serving).await;
    let records = stand.search(icegate_proto::v1::SearchRecordsRequest::default()).await;
    let resumed = records.iter().filter(|record| record["event"]["kind"] == "recording-resumed");
    assert_eq!(resumed.count(), 1, "the way back is on record, as what it is");
    assert!(stand.decide(&ana, "SELECT 1").await.record_seq > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_scraped() {
    let stand = Stand::start().await;
    let ana = stand.session(ANA).await;
    stand.decide(&ana, "SELECT id FROM orders").await;
    stand.decide(&ana, "DROP DATABASE sales").await;
    let mut stream = TcpStream::connect(stand.running.metrics_addr()).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: pdp\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
    for wanted in [
        "icegate_pdp_build_info{version=\"",
        "icegate_pdp_bundle_info{version=\"",
        "icegate_pdp_bundle_loaded_timestamp_seconds ",
        "icegate_pdp_bundle_reload_failures_total ",
        "icegate_pdp_decisions_total{outcome=\"allow\"} ",
        "icegate_pdp_decisions_total{outcome=\"deny\"} ",
        "icegate_pdp_decision_duration_seconds_bucket{stage=\"decide\",le=\"",
        "icegate_pdp_decision_duration_seconds_bucket{stage=\"record\",le=\"",
        "icegate_pdp_refusals_total{code=\"",
        "icegate_pdp_sessions_active ",
        "icegate_pdp_approvals_pending ",
        "icegate_pdp_token_verifications_total{result=\"verified\"} ",
        "icegate_pdp_jwks_keys{issuer=\"dev\"} 1",
        "icegate_pdp_audit_queue_depth ",
        "icegate_pdp_audit_commit_duration_seconds_bucket{le=\"",
        "icegate_pdp_audit_group_changes_bucket{le=\"",
    ] {
        assert!(text.contains(wanted), "`{wanted}` in\n{text}");
    }
    for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).map(|(name, _)| name) {
        assert!(text.contains(&format!("# HELP {name} ")), "`{name}` says what it is");
    }
    for histogram in ["icegate_pdp_decision_duration_seconds", "icegate_pdp_audit_commit_duration_seconds"] {
        assert!(text.contains(&format!("# TYPE {histogram} histogram")), "{text}");
    }
    for line in text.lines().filter(|line| line.starts_with("icegate_pdp_")) {
        assert!(!line.contains("ana"), "no label names a person: {line}");
    }
}
