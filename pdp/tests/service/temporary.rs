//! Temporary relations: what a session made is there for that session alone, from the end of the statement that made it to
//! the end of the session, whatever the service does in between.

use icegate_proto::v1::{
    AppendIntentRequest, AppendJournalRequest, AppendOutcomeRequest, DecideRequest, DecideResponse, JournalEntry,
    JournaledIntent, Outcome, RunStatus, Session, journal_entry::Entry,
};

use crate::stand::{ANA, Stand, code_of, context};

const MAKE: &str = "CREATE TEMPORARY TABLE sales.staging.t AS SELECT id, email FROM customers";
const READ: &str = "SELECT email FROM sales.staging.t";

async fn ended(stand: &Stand, session: &Session, decided: &DecideResponse, status: RunStatus) {
    let outcome = AppendOutcomeRequest {
        decision_id: decided.decision_id.clone(),
        session_id: session.session_id.clone(),
        status: status.into(),
        ..Default::default()
    };
    stand.audit().append_outcome(outcome).await.unwrap();
}

async fn run(stand: &Stand, session: &Session, sql: &str) -> DecideResponse {
    let decided = stand.decide(session, sql).await;
    assert!(matches!(decided.outcome(), Outcome::Allow | Outcome::Mask), "{sql}: {decided:?}");
    ended(stand, session, &decided, RunStatus::Succeeded).await;
    decided
}

async fn refused(stand: &Stand, session: &Session, sql: &str) {
    let answer = stand.decide(session, sql).await;
    assert_eq!((answer.outcome(), code_of(&answer)), (Outcome::Deny, "SQL-UNRESOLVED"), "{sql}: {answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_session_makes_is_there_for_it_alone() {
    let stand = Stand::start().await;
    let (ana, other) = (stand.session(ANA).await, stand.session(ANA).await);
    let made = stand.decide(&ana, MAKE).await;
    assert_eq!(
        (made.outcome(), made.cacheable_seconds),
        (Outcome::Mask, 0),
        "what it makes is written down every time"
    );
    refused(&stand, &ana, READ).await;
    ended(&stand, &ana, &made, RunStatus::Succeeded).await;
    let read = stand.decide(&ana, READ).await;
    assert_eq!((read.outcome(), read.sql.as_str(), read.cacheable_seconds), (Outcome::Allow, READ, 0), "{read:?}");
    assert_eq!(read.result_shapes[0].columns, ["EMAIL"]);
    refused(&stand, &other, READ).await;

    let stand = stand.restarted().await;
    assert_eq!(stand.decide(&ana, READ).await.outcome(), Outcome::Allow, "it is in the store");
    refused(&stand, &other, READ).await;
    run(&stand, &ana, "DROP TABLE sales.staging.t").await;
    refused(&stand, &ana, READ).await;
    let stand = stand.restarted().await;
    refused(&stand, &ana, READ).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_its_statement_ended_counts() {
    let stand = Stand::start().await;
    let ana = stand.session(ANA).await;
    for status in [RunStatus::Failed, RunStatus::NotSent, RunStatus::Withheld] {
        let made = stand.decide(&ana, MAKE).await;
        ended(&stand, &ana, &made, status).await;
        refused(&stand, &ana, READ).await;
    }
    // Whatever became of those: this one is there, and nothing else under its name.
    run(&stand, &ana, &MAKE.replace("CREATE", "CREATE OR REPLACE")).await;
    assert_eq!(stand.decide(&ana, READ).await.outcome(), Outcome::Allow);
    let again = stand.decide(&ana, MAKE).await;
    ended(&stand, &ana, &again, RunStatus::Failed).await;
    assert_eq!(stand.decide(&ana, READ).await.outcome(), Outcome::Allow, "what was there is there still");
    // What may still run is not overtaken by another.
    for (status, name) in [(RunStatus::Unknown, "staging.v"), (RunStatus::Cancelled, "staging.w")] {
        let made = stand.decide(&ana, &MAKE.replace("staging.t", name)).await;
        ended(&stand, &ana, &made, status).await;
        run(&stand, &ana, &MAKE.replace("CREATE", "CREATE OR REPLACE").replace("staging.t", name)).await;
        refused(&stand, &ana, &READ.replace("staging.t", name)).await;
    }
    // The end of "unknown" may be told later.
    let later = stand.decide(&ana, &MAKE.replace("staging.t", "staging.u")).await;
    ended(&stand, &ana, &later, RunStatus::Unknown).await;
    refused(&stand, &ana, &READ.replace("staging.t", "staging.u")).await;
    ended(&stand, &ana, &later, RunStatus::Succeeded).await;
    assert_eq!(stand.decide(&ana, &READ.replace("staging.t", "staging.u")).await.outcome(), Outcome::Allow);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_request_may_make_a_name_twice() {
    let stand = Stand::start().await;
    let ana = stand.session(ANA).await;
    let twice = DecideRequest {
        session_id: ana.session_id.clone(),
        request_id: "r".into(),
        sql: format!("{MAKE}; {}", MAKE.replace("CREATE", "CREATE OR REPLACE")),
        context: Some(context()),
        statement_count: 2,
        ..Default::default()
    };
    let made = stand.decisions().decide(twice).await.unwrap().into_inner();
    assert_eq!(made.outcome(), Outcome::Mask);
    ended(&stand, &ana, &made, RunStatus::Succeeded).await;
    assert_eq!(stand.decide(&ana, READ).await.outcome(), Outcome::Allow);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_described_makes_nothing() {
    let stand = Stand::start().await;
    let ana = stand.session(ANA).await;
    let describe = DecideRequest {
        session_id: ana.session_id.clone(),
        request_id: "r".into(),
        sql: MAKE.into(),
        context: Some(context()),
        statement_count: 1,
        describe_only: true,
        ..Default::default()
    };
    let described = stand.decisions().decide(describe).await.unwrap().into_inner();
    ended(&stand, &ana, &described, RunStatus::Succeeded).await;
    refused(&stand, &ana, READ).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_one_decides_everything_anew() {
    let stand = Stand::start().await;
    let ana = stand.session(ANA).await;
    let decided = run(&stand, &ana, "SELECT id FROM orders").await;
    assert!(decided.cacheable_seconds > 0);
    let intent = |session: &Session| AppendIntentRequest {
        session_id: session.session_id.clone(),
        cached_decision_id: decided.decision_id.clone(),
        request_id: "r2".into(),
        bindings_json: String::new(),
    };
    stand.audit().append_intent(intent(&ana)).await.unwrap();
    run(&stand, &ana, MAKE).await;
    let status = stand.audit().append_intent(intent(&ana)).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::FailedPrecondition, "a name may mean something else there: {status:?}");
    let other = stand.session(ANA).await;
    stand.audit().append_intent(intent(&other)).await.unwrap();

    // What ran while the service was away was not followed.
    let entry = JournaledIntent {
        decision_id: "0190-journaled".into(),
        cached_decision_id: decided.decision_id.clone(),
        session_id: ana.session_id.clone(),
        principal_id: "dev/ana".into(),
        sql: "SELECT id FROM orders".into(),
        ..Default::default()
    };
    let entry = JournalEntry { at_unix_ms: 1, entry: Some(Entry::Intent(entry)) };
    let journal = AppendJournalRequest { pep_id: "pep-1".into(), entries: vec![entry] };
    stand.audit().append_journal(journal).await.unwrap();
    refused(&stand, &ana, READ).await;
}
