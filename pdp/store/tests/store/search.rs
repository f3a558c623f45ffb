//! Each filter of a search, as data.

use icegate_pdp_audit::{DecisionEvent, Event, RunStatus, Who};
use icegate_pdp_model::{Outcome, Timestamp};
use icegate_pdp_store::{Search, Store, StoreError};

use crate::fixture::{Place, agent_of, cut, decision, event, outcome, person, put_at, reads};

/// Records 1 to 11, one second apart.
async fn filled() -> (Place, Store) {
    let place = Place::new();
    let store = place.open().await;
    let customers = || reads("SALES.PUBLIC.CUSTOMERS", &["SALES.PUBLIC.CUSTOMERS.EMAIL"]);
    let of = |id: &str, who: &Who, sql: &str, outcome| DecisionEvent {
        principal: who.clone(),
        sql: sql.into(),
        outcome,
        ..decision(id)
    };
    let (ana, bob, ben) =
        (Who::from(&person("corp/ana")), Who::from(&agent_of("corp/bob", "copilot")), Who::from(&person("lab/ana")));
    let events = [
        event(DecisionEvent { statements: vec![customers()], ..of("d1", &ana, "SELECT Email", Outcome::Mask) }),
        outcome("d1", RunStatus::Succeeded),
        event(DecisionEvent {
            statements: vec![reads(r#"SALES."my.schema".T"#, &[])],
            ..of("d3", &bob, "delete from größe", Outcome::NeedsApproval)
        }),
        event(DecisionEvent {
            statements: vec![reads("SALES.PUBLIC_2.T", &[])],
            ..of("d4", &ben, "drop 100%_x", Outcome::Deny)
        }),
        event(DecisionEvent { statements: vec![customers()], ..of("d5", &bob, "select 1", Outcome::Allow) }),
        outcome("d5", RunStatus::Failed),
        // Its decision is not on record.
        outcome("d7", RunStatus::Failed),
        Event::AuditRead { by: ana.clone(), operation: "search".into(), filters: [].into() },
        event(DecisionEvent {
            statements: vec![reads(r#""s3://bucket/out/x.csv""#, &[])],
            ..of("d9", &ana, "copy into", Outcome::Deny)
        }),
        cut("d1", 3),
        // Its decision is not on record.
        cut("d11", 0),
    ];
    for (at, one) in (1..).zip(events) {
        put_at(&store, one, at * 1000).await.unwrap();
    }
    (place, store)
}

/// Places found, with the place of the outcome where one is known.
async fn found(store: &Store, search: &Search) -> Vec<(u64, Option<u64>)> {
    let page = store.search(search).await.unwrap();
    page.entries.iter().map(|entry| (entry.record.seq, entry.outcome.as_ref().map(|outcome| outcome.seq))).collect()
}

#[tokio::test]
async fn every_filter_finds_what_it_says() {
    let (_place, store) = filled().await;
    let all = Search::default;
    let text = |text: &str| Some(text.to_owned());
    let principal = |id: &str| Search { principal: text(id), ..all() };
    let object = |name: &str| Search { object: text(name), ..all() };
    let word = |word: &str| Search { outcome: text(word), ..all() };
    let saying = |part: &str| Search { text: text(part), ..all() };
    let from = |from: i64, to: i64| Search { from: Some(Timestamp(from)), to: Some(Timestamp(to)), ..all() };
    let (d1, d5) = ((1, Some(2)), (5, Some(6)));
    let cases = [
        (all(), vec![(11, None), (9, None), (8, None), (7, None), d5, (4, None), (3, None), d1]),
        (principal("corp/ana"), vec![(9, None), (8, None), d1]),
        (principal("ana"), vec![(9, None), (8, None), (4, None), d1]),
        (principal("an"), vec![]),
        (principal("corp/an%"), vec![]),
        (Search { agent: text("copilot"), ..all() }, vec![d5, (3, None)]),
        (from(4000, 5000), vec![d5, (4, None)]),
        (Search { from: Some(Timestamp(8500)), ..all() }, vec![(11, None), (9, None)]),
        (Search { to: Some(Timestamp(1000)), ..all() }, vec![d1]),
        (from(9001, 9999), vec![]),
        // What belongs to a decision has its time.
        (from(10_000, 10_999), vec![]),
        (object("sales"), vec![d5, (4, None), (3, None), d1]),
        (object("SALES.PUBLIC"), vec![d5, d1]),
        (object("sales.public.customers"), vec![d5, d1]),
        (object("SALES.PUBLIC.CUSTOMERS.EMAIL"), vec![d5, d1]),
        (object("SALES.PUB"), vec![]),
        (object(r#"SALES."my.schema""#), vec![(3, None)]),
        (object("s3://bucket"), vec![(9, None)]),
        (object("s3://bucket/out/"), vec![(9, None)]),
        (object("s3://buck"), vec![]),
        (word("mask"), vec![d1]),
        (word("deny"), vec![(9, None), (4, None)]),
        (word("needs-approval"), vec![(3, None)]),
        (word("succeeded"), vec![d1]),
        (word("failed"), vec![d5]),
        (word("withheld"), vec![]),
        (word("cut"), vec![d1]),
        (Search { principal: text("ana"), ..word("cut") }, vec![d1]),
        (Search { principal: text("bob"), ..word("cut") }, vec![]),
        (Search { from: Some(Timestamp(2000)), ..word("cut") }, vec![]),
        (Search { text: text("email"), ..word("cut") }, vec![d1]),
        (Search { decision_id: text("d11"), ..all() }, vec![(11, None)]),
        (saying("select"), vec![d5, d1]),
        (saying("EMAIL"), vec![d1]),
        (saying("GRÖSSE"), vec![]),
        (saying("GRÖßE"), vec![(3, None)]),
        (saying("100%_"), vec![(4, None)]),
        (saying("0%x"), vec![]),
        (Search { decision_id: text("d5"), ..all() }, vec![d5]),
        (Search { decision_id: text("d7"), ..all() }, vec![(7, None)]),
        (Search { before_seq: 4, ..all() }, vec![(3, None), d1]),
        (Search { principal: text("bob"), ..word("failed") }, vec![d5]),
        (Search { principal: text("ana"), ..word("failed") }, vec![]),
        (Search { agent: text("copilot"), text: text("delete"), ..object("SALES") }, vec![(3, None)]),
        (Search { principal: text("bob"), ..from(0, 4000) }, vec![(3, None)]),
        (Search { from: Some(Timestamp(2000)), ..word("failed") }, vec![d5]),
    ];
    for (search, wanted) in cases {
        assert_eq!(found(&store, &search).await, wanted, "{search:?}");
    }
    let entries = store.search(&all()).await.unwrap().entries;
    let cuts = entries.iter().filter_map(|entry| Some((entry.record.seq, entry.cut.as_ref()?.seq)));
    assert_eq!(cuts.collect::<Vec<_>>(), [(1, 10)]);
}

#[tokio::test]
async fn pages_join_without_gap_or_overlap() {
    let (_place, store) = filled().await;
    for (text, wanted) in [(None, vec![11, 9, 8, 7, 5, 4, 3, 1]), (Some("e".to_owned()), vec![5, 3, 1])] {
        for limit in 1..=8 {
            let mut search = Search { limit, text: text.clone(), ..Search::default() };
            let mut places = Vec::new();
            loop {
                let page = store.search(&search).await.unwrap();
                assert!(page.entries.len() <= usize::try_from(limit).unwrap());
                places.extend(page.entries.iter().map(|entry| entry.record.seq));
                if page.next_before_seq == 0 {
                    break;
                }
                search.before_seq = page.next_before_seq;
            }
            assert_eq!(places, wanted, "{limit} at once");
        }
    }
}

#[tokio::test]
async fn senseless_searches_say_so() {
    let (_place, store) = filled().await;
    let refused = store.search(&Search { outcome: Some("denied".into()), ..Search::default() }).await.unwrap_err();
    assert_eq!(
        refused.to_string(),
        "`denied` is neither an outcome (allow, deny, mask, needs-approval) nor a status (succeeded, failed, cancelled, \
         withheld, not-sent, unknown) nor `cut`"
    );
    let refused = store.search(&Search { limit: 1001, ..Search::default() }).await.unwrap_err();
    assert!(matches!(refused, StoreError::Invalid(_)), "{refused:?}");
}

#[tokio::test]
async fn records_are_exported_in_order() {
    let (_place, store) = filled().await;
    let places =
        async |from, to| -> Vec<u64> { store.export(from, to).await.unwrap().into_iter().map(|row| row.seq).collect() };
    assert_eq!(places(0, 0).await, (1..=11).collect::<Vec<_>>());
    assert_eq!(places(3, 5).await, [3, 4, 5]);
    assert_eq!(places(8, 0).await, [8, 9, 10, 11]);
    assert_eq!(places(12, 0).await, [0; 0]);
}

#[tokio::test]
async fn strange_text_is_found_as_it_is() {
    let place = Place::new();
    let store = place.open().await;
    let name = "A.\"x\u{0}y\"".to_owned();
    let strange = DecisionEvent {
        sql: "sel\u{0}ect '\u{1F980}\u{2028}\\'".into(),
        statements: vec![reads(&name, &["\"\"", ".", "\""])],
        ..decision("d\u{0}1")
    };
    put_at(&store, event(strange), 0).await.unwrap();
    put_at(&store, outcome("d\u{0}1", RunStatus::Succeeded), 0).await.unwrap();
    assert_eq!(found(&store, &Search { text: Some("\u{1F980}".into()), ..Search::default() }).await, [(1, Some(2))]);
    assert_eq!(found(&store, &Search { object: Some(name), ..Search::default() }).await, [(1, Some(2))]);
    assert_eq!(store.integrity().await.unwrap().problems, Vec::<String>::new());
}
