//! What a decision's record says.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeSet;

use icegate_pdp_audit::{Asking, Client, DecisionEvent, Event, JournaledRun, MaskNote, ObjectNote, Record, sha256_hex};
use icegate_pdp_model::{
    Code, ColumnName, Decision, Effect, ExplainedColumn, Facts, FilteredRelation, Kind, Level, Mask, MaskSite,
    MaskedColumn, MaskedOutput, ObjectAccess, ObjectKind, ObjectName, Outcome, OutputColumn, Principal, Reason,
    RelationName, SessionContext, StatementAnalysis, Timestamp, Transformation, Verb,
};

const SQL: &str = "select email, count(*) from customers where id > 5 group by 1";

fn principal() -> Principal {
    Principal {
        id: "corp/ana".into(),
        issuer: "https://id.corp".into(),
        subject: "ana".into(),
        groups: BTreeSet::new(),
        agent: None,
        attributes: std::collections::BTreeMap::new(),
    }
}

fn column(name: &str) -> ColumnName {
    ColumnName::new(RelationName::new("SALES", "PUBLIC", "CUSTOMERS"), name)
}

fn statement() -> StatementAnalysis {
    let output = |ordinal, sources: &[&str]| OutputColumn {
        target: None,
        ordinal,
        name: String::new(),
        sources: sources.iter().map(|name| column(name)).collect(),
        control: [column("ID")].into(),
        transformation: Transformation::Identity,
        opaque: false,
    };
    StatementAnalysis {
        level: Level::Understood,
        kind: Kind::of(Verb::Select),
        effects: [Effect::Read].into(),
        objects: vec![ObjectAccess {
            kind: ObjectKind::Table,
            name: ObjectName::new(["SALES", "PUBLIC", "CUSTOMERS"]),
            effect: Effect::Read,
        }],
        columns_read: [column("EMAIL"), column("ID")].into(),
        rows_met: BTreeSet::new(),
        projection: vec![output(1, &["EMAIL"]), output(2, &[])],
        exports: vec![],
        unresolved: vec![],
        why: None,
        facts: Facts::default(),
        session_changes: vec![],
        stops: None,
        makes: None,
    }
}

fn masked() -> Decision {
    Decision {
        outcome: Outcome::Mask,
        sql: Some("select '***'".into()),
        reasons: vec![Reason::of_policy(Code::PolicyMask, "pii", "Masked.")],
        masks: vec![MaskedColumn { column: column("EMAIL"), mask: Mask::Email, policy: "pii".into() }],
        result_masks: vec![],
        rows_shown: Vec::new(),
        row_filters: vec![FilteredRelation {
            relation: "SALES.PUBLIC.CUSTOMERS".parse().unwrap(),
            condition: "FALSE".into(),
            policies: ["rows".to_owned()].into(),
        }],
        columns: vec![ExplainedColumn {
            statement: 1,
            ordinal: 1,
            name: "EMAIL".into(),
            sources: [column("EMAIL")].into(),
            masks: vec![MaskedColumn { column: column("EMAIL"), mask: Mask::Email, policy: "pii".into() }],
            decided_by_masked: BTreeSet::new(),
            opaque: false,
        }],
        approval_groups: BTreeSet::new(),
        policies: ["pii".to_owned()].into(),
        statements: vec![statement()],
        names_bound: vec![],
    }
}

fn event(decision: &Decision, bindings_json: &str) -> DecisionEvent {
    let asking = Asking {
        decision_id: "d1",
        session_id: "s1",
        request_id: "r1",
        pep_id: "pep",
        pep_instance: "p1",
        principal: &principal(),
        client: &Client { address: "10.0.0.1:5".into(), ..Client::default() },
        context: &SessionContext { database: Some("SALES".into()), ..SessionContext::default() },
        sql: SQL,
        bindings_json,
        describe_only: false,
        bundle_version: "b1",
        approval_id: None,
    };
    DecisionEvent::new(&asking, decision)
}

#[test]
fn a_masked_read_says_what_is_disclosed_and_how() {
    let event = event(&masked(), r#"{"1":{"type":"FIXED","value":"5"}}"#);
    assert_eq!(event.sql, SQL);
    assert_eq!(event.sent_sql.as_deref(), Some("select '***'"));
    assert_eq!(event.disclosed, ["SALES.PUBLIC.CUSTOMERS.EMAIL".to_owned()].into(), "not ID: it only filters");
    assert!(!event.disclosed_opaque);
    assert_eq!(
        event.masks,
        [MaskNote {
            column: "SALES.PUBLIC.CUSTOMERS.EMAIL".into(),
            mask: "email".into(),
            policy: "pii".into(),
            site: MaskSite::Source
        }]
    );
    assert_eq!(event.row_filters[0].relation, "SALES.PUBLIC.CUSTOMERS");
    assert_eq!((event.columns[0].name.as_str(), &event.columns[0].masks), ("EMAIL", &event.masks));
    assert_eq!(
        event.statements[0].objects,
        [ObjectNote { kind: ObjectKind::Table, name: "SALES.PUBLIC.CUSTOMERS".into(), effect: Effect::Read }]
    );
    assert_eq!(event.statements[0].columns_read.len(), 2);
    assert_eq!(event.bindings_sha256, Some(sha256_hex(br#"{"1":{"type":"FIXED","value":"5"}}"#)));
    assert!(event.runs());

    let record = Record { seq: 1, at: Timestamp(0), event: Event::Decision(Box::new(event)) };
    assert_eq!(Record::from_canonical(&record.canonical()).unwrap(), record);
}

#[test]
fn a_mask_in_the_result_is_on_record_by_the_name_of_its_key() {
    let mask: Mask = "tokenize(key=crm, domain=mail)".parse().unwrap();
    let mut decision = masked();
    decision.masks[0].mask = mask.clone();
    decision.columns[0].masks[0].mask = mask.clone();
    decision.result_masks = vec![MaskedOutput { statement: 1, ordinal: 1, column: column("EMAIL"), mask }];
    let event = event(&decision, "");
    assert_eq!(
        (event.masks[0].site, event.masks[0].mask.as_str()),
        (MaskSite::Result, "tokenize(key=crm, domain=mail)")
    );
    assert_eq!(event.columns[0].result_mask.as_deref(), Some("tokenize(key=crm, domain=mail)"));
    let record = Record { seq: 1, at: Timestamp(0), event: Event::Decision(Box::new(event)) };
    assert_eq!(Record::from_canonical(&record.canonical()).unwrap(), record);
    let text = String::from_utf8(record.canonical()).unwrap();
    assert!(text.contains(r#""site":"result""#), "{text}");
}

#[test]
fn what_does_not_run_discloses_nothing() {
    for outcome in [Outcome::Deny, Outcome::NeedsApproval] {
        let event = event(&Decision { outcome, sql: None, ..masked() }, "");
        assert_eq!((event.sent_sql.as_deref(), event.disclosed.len(), event.runs()), (None, 0, false));
        assert_eq!(event.bindings_sha256, None);
        assert_eq!(event.statements[0].columns_read.len(), 2, "what was asked for stays on record");
    }
}

#[test]
fn an_output_of_unknown_origin_is_said_to_be() {
    let mut decision = masked();
    decision.statements[0].projection[1].opaque = true;
    assert!(event(&decision, "").disclosed_opaque);
}

#[test]
fn a_repeated_run_names_the_decision_it_runs_under() {
    let first = event(&masked(), "{}");
    let again = first.repeated("d2", "r2", "p2", "");
    assert_eq!((again.decision_id.as_str(), again.request_id.as_str()), ("d2", "r2"));
    assert_eq!(again.cached_from.as_deref(), Some("d1"));
    assert_eq!(again.bindings_sha256, None, "the bindings are this run's");
    assert_eq!(again.sent_sql, first.sent_sql);
    assert_eq!(again.principal, first.principal);
}

#[test]
fn a_journaled_run_takes_analysis_only_from_a_decision_on_the_same_text() {
    let run = |sql| JournaledRun {
        decision_id: "j1",
        cached_from: "d1",
        session_id: "s1",
        request_id: "r9",
        pep_id: "pep",
        pep_instance: "p1",
        principal: Box::leak(Box::new(principal())),
        context: Box::leak(Box::new(SessionContext::default())),
        sql,
        sent_sql: "select '***'",
        bindings_json: "",
        bundle_version: "b0",
        ran: Timestamp(7),
    };
    let under = event(&masked(), "");
    let known = DecisionEvent::journaled(&run(SQL), Some(&under));
    assert_eq!(known.statements, under.statements);
    assert_eq!((known.journaled, known.ran, known.outcome), (true, Some(Timestamp(7)), Outcome::Mask));
    assert_eq!(known.cached_from.as_deref(), Some("d1"));
    assert_eq!(known.bundle_version, "b0");

    for unknown in [DecisionEvent::journaled(&run("select 1"), Some(&under)), DecisionEvent::journaled(&run(SQL), None)]
    {
        assert!(unknown.statements.is_empty());
        assert!(unknown.disclosed_opaque, "nobody knows what it disclosed");
    }
}
