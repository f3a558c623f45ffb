use icegate_pdp_audit::Verifier;
use icegate_proto::v1::{
    AppendIntentRequest, AppendJournalRequest, AppendOutcomeRequest, CutReason, DeliveryCut, ExportRecordsRequest,
    JournalEntry, JournaledIntent, RunStatus, SearchRecordsRequest, export_records_response::Item,
    journal_entry::Entry,
};
use tonic::Code;

use crate::stand::{ANA, ENGINEER, STELLA, Stand, context, unix_seconds};

fn outcome(decision_id: &str, session_id: &str) -> AppendOutcomeRequest {
    AppendOutcomeRequest {
        decision_id: decision_id.into(),
        session_id: session_id.into(),
        status: RunStatus::Succeeded.into(),
        query_id: "q1".into(),
        rows: Some(3),
        duration_ms: 12,
        error_code: String::new(),
        delivery: icegate_proto::v1::Delivery::Inline.into(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_decision_saves_the_deciding_never_the_record() {
    let stand = Stand::start().await;
    let ana = stand.session(ANA).await;
    let sql = "SELECT id FROM orders";
    let decided = stand.decide(&ana, sql).await;
    // Another session of the same principal may run under it.
    let second = stand.session(ANA).await;
    let intent = |session_id: &str, cached: &str| AppendIntentRequest {
        session_id: session_id.into(),
        cached_decision_id: cached.into(),
        request_id: "r2".into(),
        bindings_json: r#"{"1":{"type":"FIXED","value":"7"}}"#.into(),
    };
    let run = intent(&second.session_id, &decided.decision_id);
    let recorded = stand.audit().append_intent(run).await.unwrap().into_inner();
    assert!(recorded.record_seq > decided.record_seq);
    let decision_id = recorded.decision_id.clone();
    let found = stand.search(SearchRecordsRequest { decision_id, ..Default::default() }).await;
    assert_eq!(found[0]["event"]["cached_from"], decided.decision_id);
    assert_eq!(found[0]["event"]["session_id"], second.session_id);
    assert_eq!((&found[0]["event"]["sql"], &found[0]["event"]["request_id"]), (&sql.into(), &"r2".into()));
    assert!(found[0]["event"]["bindings_sha256"].is_string());

    let emil = stand.session(ENGINEER).await;
    for run in [
        intent(&emil.session_id, &decided.decision_id),
        intent(&ana.session_id, "no-such"),
        intent("no-such", &decided.decision_id),
    ] {
        assert_eq!(stand.audit().append_intent(run).await.unwrap_err().code(), Code::FailedPrecondition);
    }
    let close = icegate_proto::v1::CloseSessionRequest { session_id: second.session_id.clone() };
    stand.sessions().close_session(close).await.unwrap();
    let late = intent(&second.session_id, &decided.decision_id);
    assert_eq!(stand.audit().append_intent(late).await.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread")]
async fn outcomes_and_journals_are_written_once() {
    let stand = Stand::start().await;
    let ana = stand.session(ANA).await;
    let decided = stand.decide(&ana, "SELECT id FROM orders").await;
    let ended = outcome(&decided.decision_id, &ana.session_id);
    let first = stand.audit().append_outcome(ended.clone()).await.unwrap().into_inner();
    let second = stand.audit().append_outcome(ended).await.unwrap().into_inner();
    assert_eq!(first, second);
    let unset = AppendOutcomeRequest { status: 0, ..outcome("x", "y") };
    assert_eq!(stand.audit().append_outcome(unset).await.unwrap_err().code(), Code::InvalidArgument);

    let at_unix_ms = unix_seconds() * 1000;
    let ran = JournaledIntent {
        decision_id: "0198-made-by-the-pep".into(),
        session_id: ana.session_id.clone(),
        cached_decision_id: decided.decision_id.clone(),
        request_id: "r3".into(),
        sql: "SELECT id FROM orders".into(),
        sent_sql: "SELECT id FROM orders".into(),
        context: Some(context()),
        bundle_version: decided.bundle_version.clone(),
        principal_id: "dev/ana".into(),
        ..Default::default()
    };
    let entries = vec![
        JournalEntry { at_unix_ms, entry: Some(Entry::Intent(ran)) },
        JournalEntry { at_unix_ms, entry: Some(Entry::Outcome(outcome("0198-made-by-the-pep", &ana.session_id))) },
    ];
    let journal = AppendJournalRequest { pep_id: "pep-1".into(), entries };
    for _ in 0..2 {
        assert_eq!(stand.audit().append_journal(journal.clone()).await.unwrap().into_inner().appended, 2);
    }
    let decision_id = "0198-made-by-the-pep".to_owned();
    let found = stand.search(SearchRecordsRequest { decision_id, ..Default::default() }).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0]["event"]["journaled"], true);
    assert_eq!(found[0]["event"]["principal"]["groups"][0], "analysts");
    assert_eq!(found[0]["outcome"]["event"]["status"], "succeeded");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_part_stands_beside_the_outcome() {
    let stand = Stand::start().await;
    let ana = stand.session(ANA).await;
    let decided = stand.decide(&ana, "SELECT email FROM customers").await;
    let cut = |part, reason: CutReason| DeliveryCut {
        decision_id: decided.decision_id.clone(),
        session_id: ana.session_id.clone(),
        query_id: "q1".into(),
        part,
        reason: reason.into(),
    };
    let deliver = async |cut| {
        let entry = JournalEntry { at_unix_ms: 1_790_000_000_000, entry: Some(Entry::Cut(cut)) };
        let journal = AppendJournalRequest { pep_id: "pep-1".into(), entries: vec![entry] };
        stand.audit().append_journal(journal).await.map(|appended| appended.into_inner().appended)
    };
    // It may come before the outcome, and is told of every part.
    assert_eq!(deliver(cut(2, CutReason::Masking)).await.unwrap(), 1);
    stand.audit().append_outcome(outcome(&decided.decision_id, &ana.session_id)).await.unwrap();
    assert_eq!(deliver(cut(3, CutReason::Masking)).await.unwrap(), 1);
    assert_eq!(deliver(cut(4, CutReason::Unspecified)).await.unwrap_err().code(), Code::InvalidArgument);
    for request in [
        SearchRecordsRequest { decision_id: decided.decision_id.clone(), ..Default::default() },
        SearchRecordsRequest { outcome: "cut".into(), principal: "dev/ana".into(), ..Default::default() },
    ] {
        let found = stand.search(request).await;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0]["outcome"]["event"]["status"], "succeeded");
        let event = &found[0]["cut"]["event"];
        assert_eq!(
            (&event["kind"], &event["part"], &event["reason"]),
            (&"delivery-cut".into(), &2.into(), &"masking".into())
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_trail_is_searched_by_those_who_may_and_the_search_is_in_it() {
    let stand = Stand::start().await;
    let ana = stand.session(ANA).await;
    stand.decide(&ana, "SELECT id FROM orders").await;
    stand.decide(&ana, "SELECT email FROM customers").await;
    stand.decide(&ana, "DROP DATABASE sales").await;
    for (request, wanted) in [
        (SearchRecordsRequest { outcome: "mask".into(), ..Default::default() }, 1),
        (SearchRecordsRequest { outcome: "deny".into(), ..Default::default() }, 1),
        (SearchRecordsRequest { object: "sales.public.orders".into(), ..Default::default() }, 1),
        (SearchRecordsRequest { text: "EMAIL".into(), ..Default::default() }, 1),
        (SearchRecordsRequest { principal: "nobody".into(), ..Default::default() }, 0),
        (SearchRecordsRequest { principal: "ana".into(), ..Default::default() }, 4),
        (SearchRecordsRequest { principal: "dev/ana".into(), limit: 2, ..Default::default() }, 2),
    ] {
        assert_eq!(stand.search(request.clone()).await.len(), wanted, "{request:?}");
    }
    let reads = stand.search(SearchRecordsRequest { principal: "stella".into(), ..Default::default() }).await;
    assert!(reads.iter().any(
        |read| read["event"]["kind"] == "audit-read" && read["event"]["filters"]["object"] == "sales.public.orders"
    ));
    let status = stand.audit().search_records(stand.by(ANA, SearchRecordsRequest::default())).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
    let silly = SearchRecordsRequest { outcome: "perhaps".into(), ..Default::default() };
    let status = stand.audit().search_records(stand.by(STELLA, silly)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_verifies() {
    let stand = Stand::start().await;
    let ana = stand.session(ANA).await;
    for number in 0..20 {
        stand.decide(&ana, &format!("SELECT {number}")).await;
    }
    let request = stand.by(STELLA, ExportRecordsRequest::default());
    let mut export = stand.audit().export_records(request).await.unwrap().into_inner();
    let (mut verifier, mut report) = (Verifier::new(), None);
    while let Some(item) = export.message().await.unwrap() {
        match item.item.unwrap() {
            Item::Record(record) => {
                let hash = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).unwrap();
                verifier.push(record.seq, &record.body, &hash(&record.prev_hash), &hash(&record.hash)).unwrap();
            }
            Item::Integrity(integrity) => report = Some(integrity),
        }
    }
    let report = report.unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
    assert!(verifier.head().0 >= 22, "{:?}", verifier.head());
    assert!(report.records >= verifier.head().0);
    let status = stand.audit().export_records(stand.by(ANA, ExportRecordsRequest::default())).await.unwrap_err();
    assert_eq!(status.code(), Code::PermissionDenied);
}

/// More than the connection holds of an export nobody reads.
const LONG_STATEMENTS: usize = 100;
const LONG_STATEMENT_BYTES: usize = 200_000;

#[tokio::test(flavor = "multi_thread")]
async fn an_export_of_a_busy_trail_reaches_what_the_store_counts() {
    let stand = Stand::start().await;
    let ana = stand.session(ANA).await;
    let long = "x".repeat(LONG_STATEMENT_BYTES);
    for number in 0..LONG_STATEMENTS {
        stand.decide(&ana, &format!("SELECT {number}, '{long}'")).await;
    }
    let mut export =
        stand.audit().export_records(stand.by(STELLA, ExportRecordsRequest::default())).await.unwrap().into_inner();
    // It has begun, and cannot end before it is read.
    let first = export.message().await.unwrap().unwrap().item.unwrap();
    assert!(matches!(first, Item::Record(_)), "{first:?}");
    for number in 0..5 {
        stand.decide(&ana, &format!("SELECT {number}")).await;
    }
    let (mut last, mut counted) = (1, 0);
    while let Some(item) = export.message().await.unwrap() {
        match item.item.unwrap() {
            Item::Record(record) => {
                assert_eq!(record.seq, last + 1);
                last = record.seq;
            }
            Item::Integrity(integrity) => counted = integrity.records,
        }
    }
    assert_eq!((counted, counted > LONG_STATEMENTS as u64 + 5), (last, true));
}
