//! What must hold whatever the policies and requests are.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
};

use icegate_pdp_model::{
    Agent, Assurance, Catalog, Effect, Facts, Kind, Level, Mask, ObjectAccess, ObjectKind, Outcome, Principal,
    SessionContext, StatementAnalysis, Verb,
};
use proptest::{
    prelude::*,
    sample::select,
    test_runner::{RngAlgorithm, TestRng, TestRunner},
};

use super::{Asked, Verdict, ask::Selection, evaluate};
use crate::{annotation::Turn, compile::Bundle};

const CATALOG: &str = "
databases:
  d:
    s:
      t:
        columns:
          a: { type: VARCHAR, tags: [pii.email] }
          b: { type: VARCHAR, tags: [pii, finance] }
          c: { type: NUMBER }
    r: { u: { tags: [secret], columns: { a: { type: VARCHAR } } } }
";
const COLUMNS: [&str; 4] = ["D.S.T.A", "D.S.T.B", "D.S.T.C", "D.R.U.A"];

fn catalog() -> Catalog {
    serde_saphyr::from_str(CATALOG).unwrap()
}

/// Every shape a scope can have, wide ones more often, so that many policies meet each question.
fn principal_scope() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        4 => Just("principal"),
        5 => select(vec![
            r#"principal == Icegate::User::"u""#,
            r#"principal == Icegate::User::"v""#,
            r#"principal in Icegate::Group::"g""#,
            r#"principal in Icegate::Group::"h""#,
            r#"principal in Icegate::User::"u""#,
            "principal is Icegate::User",
            r#"principal is Icegate::User in Icegate::Group::"g""#,
            r#"principal is Icegate::Group in Icegate::Group::"g""#,
        ]),
    ]
}

fn action_scope() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        5 => Just("action"),
        5 => select(vec![
            r#"action == Icegate::Action::"run""#,
            r#"action == Icegate::Action::"read""#,
            r#"action == Icegate::Action::"read_column""#,
            r#"action == Icegate::Action::"write""#,
            r#"action in Icegate::Action::"read""#,
            r#"action in [Icegate::Action::"write", Icegate::Action::"run"]"#,
            r#"action in [Icegate::Action::"read", Icegate::Action::"read_column", Icegate::Action::"use"]"#,
            "action in []",
        ]),
    ]
}

fn resource_scope() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        5 => Just("resource"),
        7 => select(vec![
            r#"resource == Icegate::Relation::"D.S.T""#,
            r#"resource == Icegate::Column::"D.S.T.A""#,
            r#"resource == Icegate::Warehouse::"W""#,
            r#"resource in Icegate::Relation::"D.S.T""#,
            r#"resource in Icegate::Schema::"D.S""#,
            r#"resource in Icegate::Database::"D""#,
            r#"resource in Icegate::Connection::"demo""#,
            r#"resource in Icegate::Tag::"pii""#,
            r#"resource in Icegate::Tag::"pii.email""#,
            r#"resource in Icegate::Tag::"secret""#,
            "resource is Icegate::Relation",
            "resource is Icegate::Column",
            r#"resource is Icegate::Column in Icegate::Tag::"pii""#,
            r#"resource is Icegate::Relation in Icegate::Database::"D""#,
            r#"resource is Icegate::Relation in Icegate::Tag::"pii""#,
        ]),
    ]
}

/// The last one errs, for statements of two bytes and more.
fn conditions() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        10 => Just(""),
        10 => select(vec![
            "when { context.agent.present }",
            r#"when { context.statement.kind == "select" }"#,
            r#"unless { context.approvals.contains("g") }"#,
            r#"unless { principal in Icegate::Group::"h" }"#,
            r#"when { resource in Icegate::Schema::"D.S" }"#,
            "when { context.statement has limit && context.statement.limit < 10 }",
        ]),
        1 => Just("when { context.statement.bytes * 9223372036854775807 > 0 }"),
    ]
}

fn policy(turn: impl Strategy<Value = Turn>) -> impl Strategy<Value = (String, Turn)> {
    (turn, principal_scope(), action_scope(), resource_scope(), conditions()).prop_map(
        |(turn, principal, action, resource, conditions)| {
            let effect = if turn == Turn::Permit { "permit" } else { "forbid" };
            // As in any bundle that compiles, masks stand on column questions alone.
            let action = match turn {
                Turn::Mask(_) => r#"action == Icegate::Action::"read_column""#,
                Turn::Permit | Turn::Forbid | Turn::Approval(_) => action,
            };
            (format!("{effect} ({principal}, {action}, {resource}) {conditions};"), turn)
        },
    )
}

fn refusing() -> impl Strategy<Value = Turn> {
    let mask = |text: &str| Turn::Mask(text.parse().unwrap());
    prop_oneof![
        1 => Just(Turn::Forbid),
        2 => select(vec!["g", "h"]).prop_map(|group| Turn::Approval(group.into())),
        3 => select(vec![mask("email"), mask("null"), mask("partial(last=2)"), mask("partial(last=4)")]),
    ]
}

fn policies() -> impl Strategy<Value = Vec<(String, Turn)>> {
    (
        prop::collection::vec(policy(Just(Turn::Permit)), 1..6),
        prop::collection::vec(policy(refusing()), 0..5),
        prop::bool::weighted(0.7),
    )
        .prop_map(|(mut permits, refusals, open)| {
            permits.extend(refusals);
            if open {
                permits.push(("permit (principal, action, resource);".into(), Turn::Permit));
            }
            permits
        })
}

#[derive(Debug, Clone)]
struct Request {
    principal: Principal,
    statements: Vec<StatementAnalysis>,
    approvals: BTreeSet<String>,
}

fn request() -> impl Strategy<Value = Request> {
    let groups = prop::collection::btree_set(select(vec!["g".to_owned(), "h".into(), "i".into()]), 0..3);
    let approvals = prop::collection::btree_set(select(vec!["g".to_owned(), "h".into()]), 0..2);
    let statements = prop::collection::vec(statement(), 1..3);
    (select(vec!["u", "v", "w"]), groups, any::<bool>(), statements, approvals).prop_map(
        |(id, groups, agent, statements, approvals)| Request {
            principal: Principal {
                id: id.into(),
                issuer: String::new(),
                subject: String::new(),
                groups,
                agent: agent.then(|| Agent { id: "a".into(), assurance: Assurance::Attested }),
                attributes: std::collections::BTreeMap::new(),
            },
            statements,
            approvals,
        },
    )
}

fn statement() -> impl Strategy<Value = StatementAnalysis> {
    let objects = vec![
        (ObjectKind::Table, "D.S.T", Effect::Read),
        (ObjectKind::View, "D.R.U", Effect::Read),
        (ObjectKind::Table, "D.S.T", Effect::Write),
        (ObjectKind::Warehouse, "W", Effect::Use),
        (ObjectKind::Schema, "D.S", Effect::Use),
        (ObjectKind::Integration, "X", Effect::Alter),
        (ObjectKind::Session, "S", Effect::Alter),
    ];
    let objects = prop::collection::vec(select(objects), 0..4);
    let columns = prop::collection::btree_set(select(COLUMNS.to_vec()), 0..4);
    let level = prop_oneof![6 => Just(Level::Understood), 1 => Just(Level::Classified), 1 => Just(Level::Unknown)];
    let verb = select(vec![Verb::Select, Verb::Insert]);
    (objects, columns, level, verb, prop::option::of(0..20_u64)).prop_map(|(objects, columns, level, verb, limit)| {
        let objects: Vec<_> = objects
            .into_iter()
            .map(|(kind, name, effect)| ObjectAccess { kind, name: name.parse().unwrap(), effect })
            .collect();
        StatementAnalysis {
            level,
            kind: Kind::of(verb),
            effects: objects.iter().map(|object| object.effect).collect(),
            objects,
            columns_read: columns.into_iter().map(|column| column.parse().unwrap()).collect(),
            rows_met: BTreeSet::new(),
            projection: Vec::new(),
            exports: Vec::new(),
            unresolved: Vec::new(),
            why: None,
            facts: Facts { bytes: 10, limit, ..Facts::default() },
            session_changes: Vec::new(),
            stops: None,
            makes: None,
        }
    })
}

fn decide(policies: &[(String, Turn)], request: &Request, selection: Selection) -> Verdict {
    let bundle = Bundle::of(catalog(), policies.iter().cloned());
    let asked = Asked {
        principal: &request.principal,
        session: &SessionContext::default(),
        statements: &request.statements,
        approvals: &request.approvals,
    };
    evaluate(&bundle, &asked, selection)
}

fn with(policies: &[(String, Turn)], text: &str, turn: Turn) -> Vec<(String, Turn)> {
    policies.iter().cloned().chain([(text.to_owned(), turn)]).collect()
}

fn masks(verdict: &Verdict) -> BTreeMap<String, Mask> {
    verdict.masks.iter().map(|masked| (masked.column.to_string(), masked.mask.clone())).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn deciding_over_the_indexed_policies_is_deciding_over_all(policies in policies(), request in request()) {
        let indexed = decide(&policies, &request, Selection::Indexed);
        prop_assert_eq!(indexed, decide(&policies, &request, Selection::All));
    }

    #[test]
    fn another_forbid_never_allows_more(policies in policies(), request in request(), more in policy(refusing())) {
        let before = decide(&policies, &request, Selection::Indexed);
        let after = decide(&with(&policies, &more.0, more.1), &request, Selection::Indexed);
        prop_assert!(after.outcome <= before.outcome, "{} became {}", before.outcome, after.outcome);
        if after.outcome == Outcome::Mask {
            let (before, after) = (masks(&before), masks(&after));
            for (column, mask) in before {
                let now = after.get(&column).cloned();
                prop_assert_eq!(now.clone().map(|now| now.stricter(mask)), now, "the mask of {} was loosened", column);
            }
        }
    }

    #[test]
    fn deny_comes_before_approval_before_mask_before_allow(policies in policies(), request in request()) {
        let verdict = decide(&policies, &request, Selection::Indexed);
        let forbidden = with(&policies, "forbid (principal, action, resource);", Turn::Forbid);
        prop_assert_eq!(decide(&forbidden, &request, Selection::Indexed).outcome, Outcome::Deny);

        let waits = with(&policies, "forbid (principal, action, resource);", Turn::Approval("z".into()));
        let waits = decide(&waits, &request, Selection::Indexed);
        let wanted = if verdict.outcome == Outcome::Deny { Outcome::Deny } else { Outcome::NeedsApproval };
        prop_assert_eq!(waits.outcome, wanted);
        prop_assert_eq!(waits.approval_groups.contains("z"), wanted == Outcome::NeedsApproval);

        let every_column = r#"forbid (principal, action == Icegate::Action::"read_column", resource);"#;
        let masked = decide(&with(&policies, every_column, Turn::Mask(Mask::Null)), &request, Selection::Indexed);
        if masked.outcome == Outcome::Mask {
            let read: BTreeSet<_> = request.statements.iter().filter(|statement| statement.level == Level::Understood)
                .flat_map(|statement| statement.columns_read.iter().map(ToString::to_string)).collect();
            prop_assert_eq!(masks(&masked).into_keys().collect::<BTreeSet<_>>(), read);
            prop_assert!(masked.masks.iter().all(|one| one.mask == Mask::Null), "the strictest mask wins");
        }
        prop_assert!(masked.outcome <= verdict.outcome);
    }

    #[test]
    fn a_verdict_keeps_its_promises(policies in policies(), request in request()) {
        let verdict = decide(&policies, &request, Selection::Indexed);
        match verdict.outcome {
            Outcome::Mask => prop_assert!(!verdict.masks.is_empty()),
            Outcome::Deny | Outcome::Allow => prop_assert!(verdict.masks.is_empty()),
            Outcome::NeedsApproval => {}
        }
        prop_assert_eq!(verdict.approval_groups.is_empty(), verdict.outcome != Outcome::NeedsApproval);
        prop_assert_eq!(verdict.reasons.is_empty(), verdict.outcome == Outcome::Allow);
        for (number, reason) in verdict.reasons.iter().enumerate() {
            prop_assert!(!verdict.reasons[..number].contains(reason), "said twice: {}", reason.message);
            prop_assert!(reason.policy.iter().all(|policy| verdict.policies.contains(policy)));
        }
    }
}

/// The laws above would hold of refusals alone: the generators must reach every outcome.
#[test]
fn the_generators_reach_every_outcome() {
    let seen: RefCell<BTreeMap<Outcome, u32>> = RefCell::default();
    let config = ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::default()))
        .run(&(policies(), request()), |(policies, request)| {
            *seen.borrow_mut().entry(decide(&policies, &request, Selection::Indexed).outcome).or_default() += 1;
            Ok(())
        })
        .unwrap();
    let seen = seen.into_inner();
    for outcome in [Outcome::Deny, Outcome::NeedsApproval, Outcome::Mask, Outcome::Allow] {
        assert!(seen.get(&outcome).is_some_and(|times| *times >= 15), "{seen:?}");
    }
}

#[test]
fn a_policy_that_errs_refuses_and_is_named() {
    let request = Request {
        principal: Principal {
            id: "u".into(),
            issuer: String::new(),
            subject: String::new(),
            groups: BTreeSet::new(),
            agent: None,
            attributes: std::collections::BTreeMap::new(),
        },
        statements: vec![StatementAnalysis {
            level: Level::Understood,
            kind: Kind::of(Verb::Select),
            effects: BTreeSet::new(),
            objects: Vec::new(),
            columns_read: ["D.S.T.A".parse().unwrap()].into(),
            rows_met: BTreeSet::new(),
            projection: Vec::new(),
            exports: Vec::new(),
            unresolved: Vec::new(),
            why: None,
            facts: Facts { bytes: 10, ..Facts::default() },
            session_changes: Vec::new(),
            stops: None,
            makes: None,
        }],
        approvals: BTreeSet::new(),
    };
    let overflow = "when { context.statement.bytes * 9223372036854775807 > 0 }";
    let all = ("permit (principal, action, resource);".to_owned(), Turn::Permit);
    for turn in [Turn::Permit, Turn::Forbid, Turn::Approval("g".into()), Turn::Mask(Mask::Null)] {
        let effect = if turn == Turn::Permit { "permit" } else { "forbid" };
        let text = format!("{effect} (principal, action == Icegate::Action::\"read_column\", resource) {overflow};");
        let verdict = decide(&[all.clone(), (text, turn.clone())], &request, Selection::Indexed);
        assert_eq!(verdict.outcome, Outcome::Deny, "{turn:?}");
        assert_eq!(verdict.policies, ["p1".to_owned()].into());
        assert_eq!(verdict.reasons.len(), 1);
        assert_eq!(verdict.reasons[0].code, icegate_pdp_model::Code::PolicyError);
    }
}

#[test]
fn every_request_has_the_shape_the_schema_promises() {
    use crate::{
        facts::{About, person_context, statement_context},
        vocabulary::{Action, Type},
    };

    let schema = crate::compile::schema(crate::SCHEMA).unwrap();
    let bundle = Bundle::of(catalog(), []);
    let mut slice = bundle.slice();
    let runner = &mut TestRunner::deterministic();
    let request = request().new_tree(runner).unwrap();
    let Request { principal, statements, approvals } = proptest::strategy::ValueTree::current(&request);
    let (user, _) = slice.principal(&principal, &BTreeMap::new()).unwrap();
    let session = SessionContext::default();
    for action in Action::ALL {
        let kinds: Vec<Type> = match action {
            Action::Run | Action::Unknown => vec![Type::Connection],
            Action::ReadColumn => vec![Type::Column],
            Action::ReadRow => vec![Type::Row],
            Action::Approve => vec![Type::ApprovalGroup],
            Action::SearchAudit | Action::ListSessions | Action::RevokeSessions => vec![Type::System],
            Action::Read
            | Action::Write
            | Action::Create
            | Action::Alter
            | Action::Drop
            | Action::Grant
            | Action::Export
            | Action::Import
            | Action::Execute
            | Action::Use
            | Action::Metadata => {
                let kinds = ObjectKind::ALL.iter().filter_map(|kind| Type::of_object(*kind));
                kinds.chain([Type::Connection]).collect()
            }
        };
        for kind in kinds {
            let contexts = match kind {
                Type::ApprovalGroup | Type::System => vec![person_context(&principal).unwrap()],
                _ => vec![
                    statement_context(&principal, &session, About::Login, &approvals, bundle.catalog()).unwrap(),
                    statement_context(
                        &principal,
                        &session,
                        About::Statement(&statements[0], 1),
                        &approvals,
                        bundle.catalog(),
                    )
                    .unwrap(),
                ],
            };
            for context in contexts {
                let resource = bundle.vocabulary.uid(kind, "X");
                let action = bundle.vocabulary.action(*action).clone();
                cedar_policy::Request::new(user.clone(), action, resource, context, Some(&schema))
                    .unwrap_or_else(|error| panic!("{kind:?}: {error}"));
            }
        }
    }
    for statement in &statements {
        for access in &statement.objects {
            slice.object(access).unwrap();
        }
        for column in &statement.columns_read {
            slice.column(column).unwrap();
        }
    }
    slice.approval_group("g");
    slice.system();
    let entities = slice.entities(&bundle.action_entities).unwrap();
    cedar_policy::Entities::from_entities(entities.iter().cloned(), Some(&schema)).unwrap();
}
