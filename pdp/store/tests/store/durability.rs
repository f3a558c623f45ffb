//! What was acknowledged is there, and nothing else is.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use icegate_pdp_audit::{DecisionEvent, Event, RunStatus, Verifier};
use icegate_pdp_model::Timestamp;
use icegate_pdp_store::{Change, Options, RECORD_BYTES_MAX, Revocation, StateChange, Store, StoreError};

use crate::fixture::{Place, cut, decision, event, fill, outcome, put, put_at};

#[tokio::test]
async fn what_was_committed_is_there_after_closing() {
    let place = Place::new();
    let store = place.open().await;
    fill(&store).await;
    let before = store.export(0, 0).await.unwrap();
    store.close().await;
    let closed = put_at(&store, outcome("d1", RunStatus::Failed), 0).await.unwrap_err();
    assert!(matches!(closed, StoreError::Closed), "{closed:?}");

    let store = place.open().await;
    assert_eq!(store.export(0, 0).await.unwrap(), before);
    assert_eq!(store.stats().records, 8);
    let next = put(&store, outcome("d1", RunStatus::Failed)).await;
    assert_eq!(next.seq, 9);
    let report = store.integrity().await.unwrap();
    assert_eq!((report.problems, report.records, report.head), (vec![], 9, next.hash));
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_crash() {
    let (place, crashed) = (Place::new(), Place::new());
    let store = place.open().await;
    fill(&store).await;
    // What a crash leaves: the file and its log as they are at this moment, with nobody closing them.
    for end in ["", "-wal"] {
        let name = format!("pdp.sqlite{end}");
        std::fs::copy(place.folder.path().join(&name), crashed.folder.path().join(&name)).unwrap();
    }
    let after = crashed.open().await;
    assert_eq!(after.export(0, 0).await.unwrap(), store.export(0, 0).await.unwrap());
    assert_eq!(after.integrity().await.unwrap().problems, Vec::<String>::new());
    assert_eq!(put(&after, outcome("d1", RunStatus::Failed)).await.seq, 9);
}

#[test]
fn what_was_acknowledged_is_there_after_the_runtime_is_dropped() {
    let place = Place::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async { fill(&place.open().await).await });
    drop(runtime);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = place.open().await;
        assert_eq!(store.integrity().await.unwrap().records, 8);
    });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_writers_share_syncs_and_make_one_chain() {
    const WRITERS: usize = 64;
    const EACH: usize = 8;
    let place = Place::new();
    let (changes, commits) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let store = {
        let (changes, commits) = (Arc::clone(&changes), Arc::clone(&commits));
        Store::open(&place.path(), move |latency, count| {
            assert!(latency > Duration::ZERO);
            changes.fetch_add(count, Ordering::SeqCst);
            commits.fetch_add(1, Ordering::SeqCst);
        })
        .await
        .unwrap()
    };
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let store = store.clone();
        writers.spawn(async move {
            let mut places = Vec::new();
            for n in 0..EACH {
                places.push(put(&store, event(decision(&format!("{writer}-{n}")))).await.seq);
            }
            assert!(places.is_sorted(), "one writer's records come in its order");
            places
        });
    }
    let mut places: Vec<u64> = writers.join_all().await.into_iter().flatten().collect();
    places.sort_unstable();
    assert_eq!(places, (1..=512).collect::<Vec<u64>>());

    let mut verifier = Verifier::new();
    for row in store.export(0, 0).await.unwrap() {
        verifier.push(row.seq, &row.body, &row.prev_hash, &row.hash).unwrap();
    }
    assert_eq!(verifier.head().0, 512);
    assert_eq!(changes.load(Ordering::SeqCst), WRITERS * EACH);
    let commits = commits.load(Ordering::SeqCst);
    assert!(commits < WRITERS * EACH / 2, "{commits} commits for {} changes", WRITERS * EACH);
    assert_eq!(store.stats().commits, u64::try_from(commits).unwrap());
    assert_eq!(store.integrity().await.unwrap().problems, Vec::<String>::new());
}

#[tokio::test]
async fn an_outcome_is_written_once() {
    let place = Place::new();
    let store = place.open().await;
    put(&store, event(decision("d1"))).await;
    let first = put(&store, outcome("d1", RunStatus::Succeeded)).await;
    let second = put(&store, outcome("d1", RunStatus::Failed)).await;
    assert_eq!((second.seq, second.hash, second.repeated), (first.seq, first.hash, true));
    // Both in one change.
    let change = Change {
        states: vec![],
        events: vec![outcome("d2", RunStatus::Failed), outcome("d2", RunStatus::Succeeded), event(decision("d3"))],
        at: Timestamp(0),
    };
    let places: Vec<_> = store.commit(change).await.unwrap().iter().map(|one| (one.seq, one.repeated)).collect();
    assert_eq!(places, [(3, false), (3, true), (4, false)]);
    assert_eq!(store.outcome_of("d1").await.unwrap().unwrap().status, RunStatus::Succeeded);
    assert_eq!(store.outcome_of("d2").await.unwrap().unwrap().status, RunStatus::Failed);
    assert_eq!(store.outcome_of("d3").await.unwrap(), None);
}

#[tokio::test]
async fn a_cut_is_on_record_once_for_its_decision_whatever_comes_first() {
    let place = Place::new();
    let store = place.open().await;
    put(&store, event(decision("d1"))).await;
    let first = put(&store, cut("d1", 3)).await;
    let end = put(&store, outcome("d1", RunStatus::Succeeded)).await;
    assert_eq!((first.seq, first.repeated, end.seq, end.repeated), (2, false, 3, false));
    let again = put(&store, cut("d1", 4)).await;
    assert_eq!((again.seq, again.repeated), (first.seq, true));
    // Of a decision that is not on record yet.
    put(&store, cut("d2", 0)).await;
    put(&store, event(decision("d2"))).await;
    assert!(put(&store, cut("d2", 0)).await.repeated);
    assert_eq!(store.integrity().await.unwrap().problems, Vec::<String>::new());
}

#[tokio::test]
async fn an_end_learnt_late_replaces_unknown_and_nothing_else() {
    let place = Place::new();
    let store = place.open().await;
    put(&store, event(decision("d1"))).await;
    let unknown = put(&store, outcome("d1", RunStatus::Unknown)).await;
    assert!(put(&store, outcome("d1", RunStatus::Unknown)).await.repeated);
    let late = put(&store, outcome("d1", RunStatus::Succeeded)).await;
    assert_eq!((late.seq, late.repeated), (unknown.seq + 1, false));
    for status in [RunStatus::Unknown, RunStatus::Failed] {
        let again = put(&store, outcome("d1", status)).await;
        assert_eq!((again.seq, again.repeated), (late.seq, true), "{status}");
    }
    assert_eq!(store.outcome_of("d1").await.unwrap().unwrap().status, RunStatus::Succeeded);
    assert_eq!(store.integrity().await.unwrap().problems, Vec::<String>::new());
}

#[tokio::test]
async fn a_file_is_one_stores_at_a_time() {
    let place = Place::new();
    let store = place.open().await;
    let second = Store::open(&place.path(), |_, _| {}).await.unwrap_err();
    assert!(matches!(second, StoreError::InUse), "{second:?}");
    put(&store, event(decision("d1"))).await;
    store.close().await;
    put(&place.open().await, outcome("d1", RunStatus::Failed)).await;
}

#[tokio::test]
async fn only_a_journal_may_deliver_a_decision_twice() {
    let place = Place::new();
    let store = place.open().await;
    let journaled = || event(DecisionEvent { journaled: true, ..decision("j1") });
    let first = put(&store, journaled()).await;
    assert_eq!(put(&store, journaled()).await.seq, first.seq);
    put(&store, event(decision("d1"))).await;
    let refused = put_at(&store, event(decision("d1")), 0).await.unwrap_err();
    assert!(matches!(refused, StoreError::Conflict("decision")), "{refused:?}");
    assert_eq!(store.stats().records, 2);
}

#[tokio::test]
async fn a_change_is_whole_or_not_at_all() {
    let place = Place::new();
    let store = place.open().await;
    put(&store, event(decision("d1"))).await;
    let change = Change {
        states: vec![StateChange::PutRevocation(Revocation {
            principal_id: "corp/ana".into(),
            not_before: Timestamp(5),
        })],
        events: vec![outcome("d1", RunStatus::Failed), event(decision("d1"))],
        at: Timestamp(0),
    };
    store.commit(change).await.unwrap_err();
    assert_eq!(store.revocations().await.unwrap(), []);
    assert_eq!(store.outcome_of("d1").await.unwrap(), None);
    assert_eq!(put(&store, outcome("d1", RunStatus::Failed)).await.seq, 2, "no gap is left");
}

#[tokio::test]
async fn a_record_over_the_limit_is_refused_alone() {
    let place = Place::new();
    let store = place.open().await;
    let sql = "x".repeat(RECORD_BYTES_MAX);
    let refused = put_at(&store, event(DecisionEvent { sql, ..decision("d1") }), 0).await.unwrap_err();
    assert!(matches!(refused, StoreError::TooLarge { .. }), "{refused:?}");
    assert_eq!(put(&store, event(decision("d1"))).await.seq, 1);
}

#[tokio::test]
async fn a_full_disk_acknowledges_nothing_and_is_got_over() {
    let place = Place::new();
    place.open().await.close().await;
    let pages = u32::try_from(std::fs::metadata(place.path()).unwrap().len() / 4096).unwrap();
    let options = Options { file_pages_max: Some(pages + 40), ..Options::default() };
    let store = Store::open_with(&place.path(), options, |_, _| {}).await.unwrap();
    let mut acknowledged = 0;
    let refused = loop {
        let sql = "x".repeat(4096);
        match put_at(&store, event(DecisionEvent { sql, ..decision(&format!("d{acknowledged}")) }), 0).await {
            Ok(appended) => {
                acknowledged += 1;
                assert_eq!(appended.seq, acknowledged);
            }
            Err(error) => break error,
        }
        assert!(acknowledged < 1000, "the limit is never met");
    };
    assert!(matches!(refused, StoreError::Write(_)), "{refused:?}");
    assert_eq!(refused.to_string(), "the store cannot write");
    assert!(acknowledged > 0);
    // The next one has to fit in what is left, or be refused as well; the trail stays whole.
    let again = put_at(&store, event(decision("later")), 0).await;
    let wanted = acknowledged + u64::from(again.is_ok());
    let report = store.integrity().await.unwrap();
    assert_eq!((report.problems, report.records), (vec![], wanted));
    store.close().await;

    let store = place.open().await;
    assert_eq!(put(&store, outcome("d0", RunStatus::Succeeded)).await.seq, wanted + 1);
}

#[cfg(unix)]
#[tokio::test]
async fn only_the_owner_can_read_the_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let place = Place::new();
    let store = place.open().await;
    fill(&store).await;
    for file in std::fs::read_dir(place.folder.path()).unwrap() {
        let file = file.unwrap();
        let mode = file.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{:?}", file.file_name());
    }
}

#[tokio::test]
async fn what_is_not_a_store_is_not_opened() {
    let place = Place::new();
    std::fs::write(place.path(), "not a database, and long enough to be sure of that".repeat(100)).unwrap();
    let refused = Store::open(&place.path(), |_, _| {}).await.unwrap_err();
    assert!(matches!(refused, StoreError::Open(_)), "{refused:?}");
    let nowhere = place.folder.path().join("missing").join("pdp.sqlite");
    let refused = Store::open(&nowhere, |_, _| {}).await.unwrap_err();
    assert!(matches!(refused, StoreError::Create(_)), "{refused:?}");
}

#[tokio::test]
async fn runs_without_an_end_are_told_after_a_restart_of_their_pep() {
    let place = Place::new();
    let store = place.open().await;
    let of = |id: &str, pep: &str, instance: &str| DecisionEvent {
        pep_id: pep.into(),
        pep_instance: instance.into(),
        session_id: format!("s-{id}"),
        ..decision(id)
    };
    let denied =
        DecisionEvent { outcome: icegate_pdp_model::Outcome::Deny, sent_sql: None, ..of("denied", "pep", "old") };
    for one in
        [of("open", "pep", "old"), of("ended", "pep", "old"), of("now", "pep", "new"), of("other", "pep2", "old")]
    {
        put(&store, event(one)).await;
    }
    put(&store, event(denied)).await;
    put(&store, outcome("ended", RunStatus::Failed)).await;
    // An outcome that came before its intent, from a journal.
    put(&store, outcome("early", RunStatus::Succeeded)).await;
    put(&store, event(DecisionEvent { journaled: true, ..of("early", "pep", "old") })).await;

    let open = store.open_runs("pep", "new").await.unwrap();
    let found: Vec<_> = open.iter().map(|run| (run.decision_id.as_str(), run.session_id.as_str())).collect();
    assert_eq!(found, [("open", "s-open")]);
    assert_eq!((open[0].pep_instance.as_str(), open[0].seq), ("old", 1));
    put(&store, Event::Outcome(icegate_pdp_audit::OutcomeEvent::unknown("open", "s-open"))).await;
    assert_eq!(store.open_runs("pep", "new").await.unwrap(), []);
    assert_eq!(store.decision("open").await.unwrap().unwrap(), of("open", "pep", "old"));
    assert_eq!(store.decision("nothing").await.unwrap(), None);
    assert_eq!(store.integrity().await.unwrap().problems, Vec::<String>::new());
}
