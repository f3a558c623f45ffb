use std::{collections::BTreeSet, path::PathBuf};

use icegate_pdp_audit::{
    Client, CutEvent, CutReason, DecisionEvent, Event, ObjectNote, OutcomeEvent, RunStatus, StatementNote, Who,
};
use icegate_pdp_model::{
    Agent, Assurance, Effect, Kind, Level, ObjectKind, Outcome, Principal, SessionContext, Timestamp, Verb,
};
use icegate_pdp_store::{Appended, Change, SessionRow, SessionState, StateChange, Store, StoreError};
use tempfile::TempDir;

/// A folder with a store's file in it.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("pdp.sqlite")
    }

    pub(crate) async fn open(&self) -> Store {
        Store::open(&self.path(), |_, _| {}).await.unwrap()
    }
}

pub(crate) fn person(id: &str) -> Principal {
    Principal {
        id: id.into(),
        issuer: "https://id.corp".into(),
        subject: id.into(),
        groups: BTreeSet::new(),
        agent: None,
        attributes: std::collections::BTreeMap::new(),
    }
}

pub(crate) fn agent_of(id: &str, agent: &str) -> Principal {
    Principal { agent: Some(Agent { id: agent.into(), assurance: Assurance::Attested }), ..person(id) }
}

pub(crate) fn session(id: &str, principal: &str, opened: i64) -> SessionRow {
    SessionRow {
        session_id: id.into(),
        principal: person(principal),
        state: SessionState::Active,
        client: Client { app_id: "PythonConnector".into(), ..Client::default() },
        pep_id: "pep".into(),
        pep_instance: "p1".into(),
        context: SessionContext { database: Some("SALES".into()), ..SessionContext::default() },
        opened: Timestamp(opened),
        expires: Timestamp(opened + 100),
        token_issued: Timestamp(opened - 1),
        principal_digest: "digest".into(),
    }
}

/// The session begins, with its record.
pub(crate) fn opened(row: &SessionRow) -> Change {
    let event = Event::SessionOpened {
        session_id: row.session_id.clone(),
        principal: Who::from(&row.principal),
        client: row.client.clone(),
        pep_id: row.pep_id.clone(),
        pep_instance: row.pep_instance.clone(),
        context: row.context.clone(),
        expires: row.expires,
        token_sha256: "token".into(),
    };
    Change::state(StateChange::PutSession(Box::new(row.clone())), event, row.opened)
}

pub(crate) fn decision(id: &str) -> DecisionEvent {
    DecisionEvent {
        decision_id: id.into(),
        session_id: "s1".into(),
        request_id: "r1".into(),
        pep_id: "pep".into(),
        pep_instance: "p1".into(),
        principal: Who::from(&person("corp/ana")),
        client: Client::default(),
        context: SessionContext::default(),
        sql: "select * from customers".into(),
        sent_sql: Some("select * from customers".into()),
        bindings_sha256: None,
        describe_only: false,
        statements: vec![],
        disclosed: BTreeSet::new(),
        disclosed_opaque: false,
        masks: vec![],
        row_filters: Vec::new(),
        columns: Vec::new(),
        outcome: Outcome::Allow,
        reasons: vec![],
        policies: BTreeSet::new(),
        bundle_version: "1".into(),
        approval_id: None,
        cached_from: None,
        journaled: false,
        ran: None,
    }
}

pub(crate) fn reads(name: &str, columns: &[&str]) -> StatementNote {
    StatementNote {
        kind: Kind::of(Verb::Select),
        level: Level::Understood,
        effects: [Effect::Read].into(),
        objects: vec![ObjectNote { kind: ObjectKind::Table, name: name.into(), effect: Effect::Read }],
        columns_read: columns.iter().map(|column| (*column).to_owned()).collect(),
        exports: vec![],
        unresolved: vec![],
    }
}

pub(crate) fn outcome(decision_id: &str, status: RunStatus) -> Event {
    Event::Outcome(OutcomeEvent { status, ..OutcomeEvent::unknown(decision_id, "s1") })
}

pub(crate) fn cut(decision_id: &str, part: u32) -> Event {
    Event::DeliveryCut(CutEvent {
        decision_id: decision_id.into(),
        session_id: "s1".into(),
        query_id: None,
        part,
        reason: CutReason::Masking,
        cut: Timestamp(0),
    })
}

pub(crate) fn event(decision: DecisionEvent) -> Event {
    Event::Decision(Box::new(decision))
}

/// Writes one event and says where it is.
pub(crate) async fn put(store: &Store, event: Event) -> Appended {
    put_at(store, event, 0).await.unwrap()
}

pub(crate) async fn put_at(store: &Store, event: Event, at: i64) -> Result<Appended, StoreError> {
    store.commit(Change::event(event, Timestamp(at))).await.map(|appended| appended[0])
}

/// A few decisions, some with outcomes: more than one page of any index is not needed to be wrong.
pub(crate) async fn fill(store: &Store) {
    for n in 0..5 {
        let id = format!("d{n}");
        let statements = vec![reads("SALES.PUBLIC.CUSTOMERS", &["SALES.PUBLIC.CUSTOMERS.EMAIL"])];
        put(store, event(DecisionEvent { statements, ..decision(&id) })).await;
        if n % 2 == 0 {
            put(store, outcome(&id, RunStatus::Succeeded)).await;
        }
    }
}
