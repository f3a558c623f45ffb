//! The chain holds, and every way to break it is named.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use icegate_pdp_audit::{
    ChainBreak, Client, Event, GENESIS, Hash, OutcomeEvent, Record, RecordError, RunStatus, SessionEnd, Verifier, Who,
    chain,
};
use icegate_pdp_model::{Agent, Assurance, Code, Principal, Reason, SessionContext, Timestamp};
use proptest::prelude::*;

fn ana() -> Principal {
    Principal {
        id: "corp/ana".into(),
        issuer: "https://id.corp".into(),
        subject: "ana".into(),
        groups: ["analysts".to_owned()].into(),
        agent: None,
        attributes: std::collections::BTreeMap::new(),
    }
}

fn outcome(decision_id: &str) -> Event {
    Event::Outcome(OutcomeEvent {
        status: RunStatus::Succeeded,
        rows: Some(3),
        ..OutcomeEvent::unknown(decision_id, "s1")
    })
}

struct Row {
    seq: u64,
    body: Vec<u8>,
    prev: Hash,
    hash: Hash,
}

/// Rows that hold together.
fn rows(events: impl IntoIterator<Item = Event>) -> Vec<Row> {
    let mut prev = GENESIS;
    let mut rows = Vec::new();
    for (seq, event) in (1..).zip(events) {
        let body = Record { seq, at: Timestamp(1_000), event }.canonical();
        let hash = chain(&prev, &body);
        rows.push(Row { seq, body, prev, hash });
        prev = hash;
    }
    rows
}

fn verify(rows: &[Row]) -> Result<(), ChainBreak> {
    let mut verifier = Verifier::new();
    rows.iter().try_for_each(|row| verifier.push(row.seq, &row.body, &row.prev, &row.hash).map(drop))
}

fn three() -> Vec<Row> {
    rows([outcome("d1"), outcome("d2"), outcome("d3")])
}

/// Hashes row `from` and all after it anew, as somebody would who can write the file.
fn rehash(rows: &mut [Row], from: usize) {
    for index in from..rows.len() {
        rows[index].prev = if index == 0 { GENESIS } else { rows[index - 1].hash };
        rows[index].hash = chain(&rows[index].prev, &rows[index].body);
    }
}

#[test]
fn the_bytes_and_hashes_are_pinned() {
    let rows = rows([outcome("d1")]);
    assert_eq!(
        String::from_utf8(rows[0].body.clone()).unwrap(),
        r#"{"v":1,"seq":1,"at":1000,"event":{"kind":"outcome","decision_id":"d1","session_id":"s1","status":"succeeded","query_id":null,"rows":3,"duration_ms":0,"error_code":null,"ended":null}}"#
    );
    let hex = rows[0].hash.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    assert_eq!(hex, "5ae41ad5bd40d2c9ee9f6f3886985b1d473178442412c111ccbe8fda388a6c5e");
}

#[test]
fn a_whole_trail_holds_from_any_known_hash() {
    let rows = three();
    verify(&rows).unwrap();
    let mut later = Verifier::after(1, rows[0].hash);
    later.push(2, &rows[1].body, &rows[1].prev, &rows[1].hash).unwrap();
    assert_eq!(later.head(), (2, rows[1].hash));
}

#[test]
fn every_break_is_named() {
    type Break = (&'static str, fn(&mut Vec<Row>), &'static str);
    let cases: &[Break] = &[
        ("first missing", |rows| drop(rows.remove(0)), "record 1 is expected and record 2 is next"),
        ("middle missing", |rows| drop(rows.remove(1)), "record 2 is expected and record 3 is next"),
        ("swapped", |rows| rows.swap(0, 1), "record 1 is expected and record 2 is next"),
        (
            "left out and renumbered",
            |rows| {
                rows.remove(1);
                rows[1].seq = 2;
            },
            "record 2 does not continue from the record before it: its previous hash differs",
        ),
        ("body", |rows| rows[1].body[20] ^= 1, "record 2 was altered: its hash does not fit its body"),
        ("hash", |rows| rows[1].hash[0] ^= 1, "record 2 was altered: its hash does not fit its body"),
        (
            "previous hash",
            |rows| rows[1].prev[31] ^= 1,
            "record 2 does not continue from the record before it: its previous hash differs",
        ),
        (
            "body and its hash",
            |rows| {
                rows[1].body = Record { seq: 2, at: Timestamp(9), event: outcome("d2") }.canonical();
                rows[1].hash = chain(&rows[1].prev, &rows[1].body);
            },
            "record 3 does not continue from the record before it: its previous hash differs",
        ),
        (
            "rehashed, not canonical",
            |rows| {
                rows[1].body.insert(1, b' ');
                rehash(rows, 1);
            },
            "record 2 was not written by icegate",
        ),
        (
            "rehashed, not a record",
            |rows| {
                rows[1].body = b"{}".to_vec();
                rehash(rows, 1);
            },
            "record 2 was not written by icegate",
        ),
        (
            "rehashed, other place",
            |rows| {
                rows[1].body = rows[2].body.clone();
                rehash(rows, 1);
            },
            "record 2 says of itself that it is record 3",
        ),
    ];
    for (what, tamper, wanted) in cases {
        let mut rows = three();
        tamper(&mut rows);
        assert_eq!(verify(&rows).unwrap_err().to_string(), *wanted, "{what}");
    }
}

#[test]
fn bodies_of_other_making_are_not_records() {
    let good = String::from_utf8(three()[0].body.clone()).unwrap();
    for (body, wanted) in [
        (good.replace("\"v\":1", "\"v\":2"), "Version"),
        (good.replace("\"v\":1,", ""), "Unparsable"),
        (good.replace("\"at\":1000", "\"at\":1000,\"extra\":1"), "Unparsable"),
        (good.replace("\"ended\":null", "\"ended\":null,\"extra\":1"), "Unparsable"),
        (good.replace("\"kind\":\"outcome\"", "\"kind\":\"other\""), "Unparsable"),
        (good.replace("\"rows\":3", "\"rows\":3.5"), "Unparsable"),
        (good.replace("\"rows\":3,", ""), "NotCanonical"),
        (good.replace("1000", "1000 "), "NotCanonical"),
        (good.replace("\"d1\"", "\"\\u00641\""), "NotCanonical"),
        (format!("{good}\n"), "NotCanonical"),
    ] {
        let found = match Record::from_canonical(body.as_bytes()).unwrap_err() {
            RecordError::Unparsable(_) => "Unparsable",
            RecordError::Version(2) => "Version",
            RecordError::Version(_) => "another version",
            RecordError::NotCanonical => "NotCanonical",
        };
        assert_eq!(found, wanted, "{body}");
    }
}

#[test]
fn every_kind_reads_back_under_its_name() {
    let who = || Who::from(&ana());
    let events = vec![
        Event::SessionOpened {
            session_id: "s1".into(),
            principal: who(),
            client: Client { app_id: "PythonConnector".into(), ..Client::default() },
            pep_id: "pep".into(),
            pep_instance: "p1".into(),
            context: SessionContext { database: Some("SALES".into()), ..SessionContext::default() },
            expires: Timestamp(-5),
            token_sha256: "00".into(),
        },
        Event::SessionRefused {
            principal: None,
            login_name: "ana".into(),
            client: Client::default(),
            pep_id: "pep".into(),
            reason: Reason::new(Code::IdentityExpired, "Sign in again."),
        },
        Event::SessionClosed { session_id: "s1".into(), principal: who(), end: SessionEnd::Expired },
        Event::SessionRevoked {
            principal_id: "corp/ana".into(),
            session_ids: vec!["s1".into()],
            not_before: Some(Timestamp(5)),
            by: who(),
            comment: "left".into(),
        },
        outcome("d1"),
        Event::ApprovalRequested {
            approval_id: "a1".into(),
            decision_id: "d1".into(),
            session_id: "s1".into(),
            principal: who(),
            groups: ["stewards".to_owned()].into(),
            statement_sha256: "00".into(),
            approve_by: Timestamp(9),
        },
        Event::ApprovalVoted {
            approval_id: "a1".into(),
            decision_id: "d1".into(),
            by: who(),
            group: "stewards".into(),
            approve: true,
            comment: "\u{0}\u{2028}\"\\ü".into(),
            state: "approved".into(),
        },
        Event::ApprovalVoteRefused {
            approval_id: "a1".into(),
            decision_id: "d1".into(),
            by: who(),
            approve: true,
            code: Code::PolicyNoPermit,
        },
        Event::ApprovalCancelled { approval_id: "a1".into(), decision_id: "d1".into() },
        Event::ApprovalExpired { approval_id: "a1".into(), decision_id: "d1".into() },
        Event::ApprovalConsumed { approval_id: "a1".into(), decision_id: "d2".into() },
        Event::BundleLoaded { version: "2".into(), previous: None },
        Event::BundleRefused { reason: "a.cedar:1".into(), kept: Some("1".into()) },
        Event::AuditRead {
            by: who(),
            operation: "search".into(),
            filters: [("object".to_owned(), "SALES".to_owned())].into(),
        },
        Event::ServiceStarted { instance: "i".into(), version: "0".into(), bundle_version: "1".into() },
        Event::RecordingResumed { instance: "i".into() },
        Event::ServiceStopped { instance: "i".into() },
    ];
    for row in rows(events.clone()) {
        let record = Record::from_canonical(&row.body).unwrap();
        let event = &events[usize::try_from(row.seq).unwrap() - 1];
        assert_eq!(record.event, *event);
        let wanted = format!("\"event\":{{\"kind\":\"{}\"", event.kind());
        assert!(String::from_utf8(row.body).unwrap().contains(&wanted), "{wanted}");
    }
}

#[test]
fn without_an_agent_provenance_is_unknown() {
    let json = serde_json::to_value(Who::from(&ana())).unwrap();
    assert_eq!(json["agent"], serde_json::Value::Null);
    assert_eq!(json["provenance"], "unknown");
    let agent = Agent { id: "copilot".into(), assurance: Assurance::Attested };
    let json = serde_json::to_value(Who::from(&Principal { agent: Some(agent), ..ana() })).unwrap();
    assert_eq!(json["agent"]["id"], "copilot");
    assert_eq!(json["provenance"], "attested");
}

proptest! {
    /// Any flipped bit of any row is noticed, and at that row or, for a hash, at the latest with the next.
    #[test]
    fn any_flipped_bit_is_noticed(texts in prop::collection::vec(".{0,40}", 1..6), at in any::<prop::sample::Index>(), bit in 0u8..8) {
        let mut rows = rows(texts.iter().map(|text| outcome(text)));
        verify(&rows).unwrap();
        let sizes: Vec<usize> = rows.iter().map(|row| row.body.len() + 64).collect();
        let mut place = at.index(sizes.iter().sum());
        let index = sizes.iter().position(|size| if place < *size { true } else { place -= size; false }).unwrap();
        let row = &mut rows[index];
        let length = row.body.len();
        let byte = if place < length { &mut row.body[place] }
            else if place < length + 32 { &mut row.prev[place - length] }
            else { &mut row.hash[place - length - 32] };
        *byte ^= 1 << bit;
        prop_assert!(verify(&rows).is_err());
    }
}
