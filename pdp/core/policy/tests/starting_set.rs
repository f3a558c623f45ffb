//! The starting set in `policies/`, asked with analyses made by hand.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{collections::BTreeSet, sync::LazyLock};

use icegate_pdp_model::{
    Agent, Assurance, Code, ColumnName, Effect, Facts, Kind, Level, ObjectAccess, ObjectKind, ObjectName, Outcome,
    Principal, SessionContext, StatementAnalysis, Verb,
};
use icegate_pdp_policy::{Asked, Bundle, BundleSource, PersonAction, Verdict};

/// Files of `policies/`, in the binary so that the test needs no file system.
const FILES: &[(&str, &str)] = &[
    ("schema.cedarschema", include_str!("../../../../policies/schema.cedarschema")),
    ("base.cedar", include_str!("../../../../policies/base.cedar")),
    ("personal-data.cedar", include_str!("../../../../policies/personal-data.cedar")),
    ("exports.cedar", include_str!("../../../../policies/exports.cedar")),
    ("destructive.cedar", include_str!("../../../../policies/destructive.cedar")),
    ("agents.cedar", include_str!("../../../../policies/agents.cedar")),
    ("operators.cedar", include_str!("../../../../policies/operators.cedar")),
    ("catalog.yaml", include_str!("../../../../policies/catalog.yaml")),
    ("settings.yaml", include_str!("../../../../policies/settings.yaml")),
];

fn bundle() -> &'static Bundle {
    static BUNDLE: LazyLock<Bundle> = LazyLock::new(|| {
        Bundle::compile(&BundleSource::new(FILES.iter().copied())).unwrap_or_else(|error| panic!("{error}"))
    });
    &BUNDLE
}

fn person(id: &str, groups: &[&str], agent: Option<&str>) -> Principal {
    Principal {
        id: format!("dev/{id}"),
        issuer: "https://issuer.example".into(),
        subject: id.into(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        agent: agent.map(|agent| Agent { id: agent.into(), assurance: Assurance::Attested }),
        attributes: std::collections::BTreeMap::new(),
    }
}

fn ana() -> Principal {
    person("ana", &["employees", "analysts"], None)
}
fn stella() -> Principal {
    person("stella", &["employees", "analysts", "data-stewards", "pii-cleared", "auditors"], None)
}
fn copilot() -> Principal {
    person("copilot", &["employees", "analysts", "engineers"], Some("github-copilot"))
}
fn erik() -> Principal {
    person("erik", &["employees", "analysts", "engineers"], None)
}

fn object(kind: ObjectKind, name: &str, effect: Effect) -> ObjectAccess {
    let name = if name.contains("://") { ObjectName::new([name]) } else { name.parse().unwrap() };
    ObjectAccess { kind, name, effect }
}

fn statement(kind: Kind, objects: Vec<ObjectAccess>, columns: &[&str]) -> StatementAnalysis {
    StatementAnalysis {
        level: Level::Understood,
        kind,
        effects: objects.iter().map(|object| object.effect).collect(),
        objects,
        columns_read: columns.iter().map(|column| column.parse::<ColumnName>().unwrap()).collect(),
        rows_met: BTreeSet::new(),
        projection: Vec::new(),
        exports: Vec::new(),
        unresolved: Vec::new(),
        why: None,
        facts: Facts::default(),
        session_changes: Vec::new(),
        stops: None,
        makes: None,
    }
}

fn select(relation: &str, columns: &[&str]) -> StatementAnalysis {
    let columns: Vec<_> = columns.iter().map(|column| format!("{relation}.{column}")).collect();
    let columns: Vec<_> = columns.iter().map(String::as_str).collect();
    statement(Kind::of(Verb::Select), vec![object(ObjectKind::Table, relation, Effect::Read)], &columns)
}

fn with_where(mut statement: StatementAnalysis) -> StatementAnalysis {
    statement.facts.has_where = true;
    statement
}

fn delete(relation: &str) -> StatementAnalysis {
    statement(Kind::of(Verb::Delete), vec![object(ObjectKind::Table, relation, Effect::Write)], &[])
}

fn evaluate(principal: &Principal, statements: &[StatementAnalysis], approvals: &[&str]) -> Verdict {
    let approvals: BTreeSet<_> = approvals.iter().map(|group| (*group).to_owned()).collect();
    let session = SessionContext { database: Some("SALES".into()), ..SessionContext::default() };
    bundle().evaluate(&Asked { principal, session: &session, statements, approvals: &approvals })
}

fn policies(verdict: &Verdict) -> Vec<&str> {
    verdict.policies.iter().map(String::as_str).collect()
}

#[track_caller]
fn check(verdict: &Verdict, outcome: Outcome, wanted: &[&str], codes: &[Code]) {
    let found: Vec<_> = verdict.reasons.iter().map(|reason| reason.code).collect();
    assert_eq!((verdict.outcome, policies(verdict), found), (outcome, wanted.to_vec(), codes.to_vec()), "{verdict:#?}");
}

#[test]
fn it_compiles_with_no_lint_but_the_starter_salt() {
    let bundle = bundle();
    let lints: Vec<_> = bundle.lints().iter().map(ToString::to_string).collect();
    assert_eq!(lints.len(), 1, "{lints:#?}");
    assert!(lints[0].starts_with("settings.yaml:7: `hash_salt` is the one of the starting set"), "{}", lints[0]);
    assert_eq!(bundle.policies_unindexed(), 0);
    assert_eq!(bundle.version().len(), 16);
    let ids: BTreeSet<_> = bundle.policy_ids().collect();
    assert_eq!(ids.len(), bundle.policy_ids().count());
}

#[test]
fn every_policy_that_refuses_says_why() {
    for (path, text) in FILES.iter().filter(|(_, text)| text.contains("@id(")) {
        assert_eq!(
            text.lines().filter(|line| line.starts_with("forbid (")).count(),
            text.lines().filter(|line| line.starts_with("@reason(")).count(),
            "{path}"
        );
    }
}

#[test]
fn an_analyst_reads_masked_and_a_cleared_person_unmasked() {
    let read = select("SALES.PUBLIC.CUSTOMERS", &["ID", "EMAIL", "SSN", "COUNTRY"]);
    let masked = evaluate(&ana(), std::slice::from_ref(&read), &[]);
    let mask = ["analysts-read", "employees-run", "mask-email", "mask-ssn"];
    check(&masked, Outcome::Mask, &mask, &[Code::PolicyMask, Code::PolicyMask]);
    let columns: Vec<_> =
        masked.masks.iter().map(|mask| (&*mask.column.column, mask.mask.to_string(), mask.policy.as_str())).collect();
    assert_eq!(columns, [("EMAIL", "email".into(), "mask-email"), ("SSN", "redact".into(), "mask-ssn")]);
    let clear = evaluate(&stella(), &[read], &[]);
    check(&clear, Outcome::Allow, &["analysts-read", "employees-run"], &[]);
    assert!(clear.masks.is_empty());
}

#[test]
fn every_mask_of_the_starting_set_meets_a_column() {
    for (relation, column, wanted) in [
        ("SALES.PUBLIC.CUSTOMERS", "NAME", "partial(first=1)"),
        ("SALES.PUBLIC.CUSTOMERS", "EMAIL", "email"),
        ("SALES.PUBLIC.CUSTOMERS", "PHONE", "partial(last=2)"),
        ("SALES.PUBLIC.CUSTOMERS", "SSN", "redact"),
        ("SALES.PUBLIC.CUSTOMERS", "CARD", "partial(last=4)"),
        ("SALES.PUBLIC.CUSTOMERS", "BIRTH_DATE", "year"),
        ("SALES.PUBLIC.EMPLOYEES", "SALARY", "bucket(10000)"),
        ("SALES.STAGING.LEADS", "NATIONAL_ID", "hash"),
    ] {
        let verdict = evaluate(&ana(), &[select(relation, &[column])], &[]);
        assert_eq!(verdict.outcome, Outcome::Mask, "{column}");
        assert_eq!(verdict.masks[0].mask.to_string(), wanted, "{column}");
    }
}

#[test]
fn an_agents_delete_waits_and_runs_once_approved() {
    let delete = [with_where(delete("SALES.PUBLIC.ORDERS"))];
    let waits = evaluate(&copilot(), &delete, &[]);
    check(&waits, Outcome::NeedsApproval, &["agent-writes"], &[Code::PolicyApproval]);
    assert_eq!(waits.approval_groups, ["data-stewards".to_owned()].into());
    let runs = evaluate(&copilot(), &delete, &["data-stewards"]);
    check(&runs, Outcome::Allow, &["analysts-run", "engineers-change-sales", "engineers-run"], &[]);
    let mut reading = delete.clone();
    reading[0].columns_read.insert("SALES.PUBLIC.CUSTOMERS.EMAIL".parse().unwrap());
    let waits = evaluate(&copilot(), &reading, &[]);
    check(&waits, Outcome::NeedsApproval, &["agent-writes"], &[Code::PolicyApproval]);
    assert_eq!(waits.masks.len(), 1, "what would be masked once approved is known now");
    let other = evaluate(&copilot(), &delete, &["somebody-else"]);
    assert_eq!(other.outcome, Outcome::NeedsApproval, "an approval by another group lifts nothing");
    let person = evaluate(&erik(), &delete, &[]);
    assert_eq!(person.outcome, Outcome::Allow, "a person's write does not wait");
}

#[test]
fn a_refusal_comes_before_a_wait() {
    let verdict = evaluate(&copilot(), &[delete("SALES.PUBLIC.ORDERS")], &[]);
    check(&verdict, Outcome::Deny, &["no-unbounded-change"], &[Code::PolicyForbid]);
    assert!(verdict.approval_groups.is_empty());
}

#[test]
fn a_request_is_as_good_as_its_worst_statement() {
    let read = select("SALES.PUBLIC.ORDERS", &["ID"]);
    let drop = statement(
        Kind::on(Verb::Drop, ObjectKind::Database),
        vec![object(ObjectKind::Database, "SALES", Effect::Drop)],
        &[],
    );
    let verdict = evaluate(&ana(), &[read, drop], &[]);
    check(&verdict, Outcome::Deny, &["no-drop-database"], &[Code::PolicyForbid, Code::PolicyNoPermit]);
    assert_eq!(
        verdict.reasons[1].message,
        "No policy lets you run `drop_database` statements here; ask the owners of the policies for a permit."
    );
}

#[test]
fn what_nobody_permits_is_refused_with_one_sentence_per_object() {
    let verdict = evaluate(&ana(), &[select("HR.PUBLIC.PEOPLE", &["NAME", "AGE"])], &[]);
    check(&verdict, Outcome::Deny, &[], &[Code::PolicyNoPermit]);
    assert_eq!(
        verdict.reasons[0].message,
        "No policy lets you read `HR.PUBLIC.PEOPLE`; ask the owners of the policies for a permit."
    );
}

#[test]
fn exports_are_refused_for_everybody() {
    for (kind, name) in [(ObjectKind::Location, "s3://elsewhere/x"), (ObjectKind::Stage, "SALES.PUBLIC.S")] {
        let copy = statement(
            Kind::of(Verb::CopyUnload),
            vec![object(ObjectKind::Table, "SALES.PUBLIC.ORDERS", Effect::Read), object(kind, name, Effect::Export)],
            &[],
        );
        let verdict = evaluate(&erik(), &[copy], &[]);
        assert_eq!(verdict.outcome, Outcome::Deny);
        assert!(verdict.policies.contains("no-unload"));
        assert_eq!(verdict.reasons[0].code, Code::PolicyForbid, "the policy's own words come first");
    }
}

#[test]
fn downloads_and_shares_are_refused_for_everybody() {
    let get = statement(Kind::of(Verb::Get), vec![object(ObjectKind::Stage, "SALES.PUBLIC.S", Effect::Read)], &[]);
    check(&evaluate(&erik(), &[get], &[]), Outcome::Deny, &["no-get"], &[Code::PolicyForbid]);
    let grant = statement(Kind::of(Verb::Grant), vec![object(ObjectKind::Integration, "PARTNER", Effect::Grant)], &[]);
    check(&evaluate(&stella(), &[grant], &[]), Outcome::Deny, &["no-shares"], &[Code::PolicyForbid]);
}

#[test]
fn what_was_not_read_is_refused() {
    let mut unknown = statement(Kind::of(Verb::Unknown), Vec::new(), &[]);
    unknown.level = Level::Unknown;
    unknown.why = Some("expected: end of statement,\nfound: FROB".into());
    let verdict = evaluate(&erik(), &[unknown], &[]);
    check(&verdict, Outcome::Deny, &[], &[Code::SqlUnknown]);
    assert!(verdict.reasons[0].message.contains("(expected: end of statement, found: FROB)"), "{verdict:?}");

    let mut unresolved = select("SALES.PUBLIC.ORDERS", &["ID"]);
    unresolved.unresolved = vec!["NOPE".into()];
    let verdict = evaluate(&erik(), &[unresolved], &[]);
    check(&verdict, Outcome::Deny, &[], &[Code::SqlUnresolved]);

    check(&evaluate(&erik(), &[], &[]), Outcome::Deny, &[], &[Code::SqlUnknown]);
}

#[test]
fn a_statement_read_by_its_head_alone_could_read_any_column() {
    let mut classified = select("SALES.PUBLIC.CUSTOMERS", &[]);
    classified.level = Level::Classified;
    let verdict = evaluate(&ana(), std::slice::from_ref(&classified), &[]);
    assert_eq!(verdict.outcome, Outcome::Deny);
    assert!(verdict.reasons.iter().all(|reason| reason.code == Code::MaskImpossible), "{verdict:#?}");
    assert_eq!(evaluate(&stella(), &[classified], &[]).outcome, Outcome::Allow, "nothing is masked for her");
}

#[test]
fn staging_belongs_to_analysts() {
    let create = |relation: &str| {
        statement(
            Kind::on(Verb::Create, ObjectKind::Table),
            vec![object(ObjectKind::Table, relation, Effect::Create)],
            &[],
        )
    };
    assert_eq!(evaluate(&ana(), &[create("SALES.STAGING.MINE")], &[]).outcome, Outcome::Allow);
    check(&evaluate(&ana(), &[create("SALES.PUBLIC.MINE")], &[]), Outcome::Deny, &[], &[Code::PolicyNoPermit]);
    check(
        &evaluate(&copilot(), &[create("SALES.STAGING.X")], &[]),
        Outcome::Deny,
        &["agent-no-ddl"],
        &[Code::PolicyForbid],
    );
    assert_eq!(evaluate(&ana(), &[delete("SALES.STAGING.LEADS")], &[]).outcome, Outcome::Allow);
}

#[test]
fn sessions_open_with_what_may_be_used() {
    let bundle = bundle();
    let session = SessionContext::default();
    let using = |kind, name| [object(kind, name, Effect::Use)];
    for (principal, kind, name, outcome) in [
        (ana(), ObjectKind::Role, "ANALYST", Outcome::Allow),
        (ana(), ObjectKind::Warehouse, "DEMO_WH", Outcome::Allow),
        (ana(), ObjectKind::Database, "SALES", Outcome::Allow),
        (ana(), ObjectKind::Schema, "SALES.PUBLIC", Outcome::Allow),
        (ana(), ObjectKind::Role, "SYSADMIN", Outcome::Deny),
        (erik(), ObjectKind::Role, "SYSADMIN", Outcome::Allow),
        (copilot(), ObjectKind::Role, "SYSADMIN", Outcome::Deny),
        (ana(), ObjectKind::Database, "HR", Outcome::Deny),
        (person("nobody", &[], None), ObjectKind::Role, "ANALYST", Outcome::Deny),
    ] {
        let verdict = bundle.may_use(&principal, &session, &using(kind, name));
        assert_eq!(verdict.outcome, outcome, "{} {name}", principal.id);
    }
}

#[test]
fn people_operate_and_agents_do_not() {
    let bundle = bundle();
    let approve = PersonAction::Approve("data-stewards");
    assert_eq!(policies(&bundle.may(&stella(), approve)), ["stewards-approve"]);
    let refused = bundle.may(&ana(), approve);
    check(&refused, Outcome::Deny, &[], &[Code::PolicyNoPermit]);
    assert_eq!(
        refused.reasons[0].message,
        "No policy lets you approve statements for `data-stewards`; ask the owners of the policies for a permit."
    );
    assert_eq!(bundle.may(&stella(), PersonAction::Approve("others")).outcome, Outcome::Deny);
    let mut agent = stella();
    agent.agent = Some(Agent { id: "claude-code".into(), assurance: Assurance::Declared });
    check(&bundle.may(&agent, approve), Outcome::Deny, &["agent-no-operating"], &[Code::PolicyForbid]);
    for action in [PersonAction::SearchAudit, PersonAction::ListSessions, PersonAction::RevokeSessions] {
        assert_eq!(bundle.may(&stella(), action).outcome, Outcome::Allow);
        assert_eq!(bundle.may(&ana(), action).outcome, Outcome::Deny);
        assert_eq!(bundle.may(&agent, action).outcome, Outcome::Deny);
    }
    let auditor = person("otto", &["auditors"], None);
    assert_eq!(policies(&bundle.may(&auditor, PersonAction::SearchAudit)), ["auditors-search"]);
}
