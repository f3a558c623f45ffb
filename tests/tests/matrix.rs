//! The access matrix of the starting policies: everyone × every action × every object, as one golden table. A change of
//! policy is reviewed as its diff, and nothing may be missing from it.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use icegate_pdp_decision::{BoundValues, Earlier, Question, decide};
use icegate_pdp_model::{Agent, Assurance, Effect, Principal, RelationKind, RelationName, SessionContext};
use icegate_pdp_policy::{Bundle, PersonAction};
use icegate_tests::policies;

/// Who the table asks for: name, groups, agent.
const PEOPLE: &[(&str, &[&str], Option<&str>)] = &[
    ("stranger", &[], None),
    ("employee", &["employees"], None),
    ("ana", &["employees", "analysts"], None),
    ("stella", &["employees", "analysts", "data-stewards", "pii-cleared", "auditors"], None),
    ("erik", &["employees", "engineers"], None),
    ("copilot", &["employees", "analysts", "engineers"], Some("github-copilot")),
];

#[test]
fn access_matrix() {
    let bundle = policies::bundle();
    let questions = questions(&bundle);
    let mut determining = BTreeSet::new();
    let mut effects = BTreeSet::new();
    let mut table = String::new();
    let width = questions.iter().map(|(action, object, _)| action.len() + object.len() + 2).max().unwrap();

    write!(table, "{:width$}", "").unwrap();
    for (name, ..) in PEOPLE {
        write!(table, "{name:>10}").unwrap();
    }
    table.push('\n');
    for (action, object, sql) in &questions {
        write!(table, "{:width$}", format!("{action} {object}")).unwrap();
        for person in PEOPLE {
            let decision = decide(
                &Question {
                    principal: &principal(person),
                    sql,
                    bound: &BoundValues::default(),
                    earlier: Earlier::none(),
                    session: &SessionContext::default(),
                    statement_count: 1,
                    approvals: &BTreeSet::new(),
                },
                &bundle,
            );
            write!(table, "{:>10}", cell(decision.outcome)).unwrap();
            determining.extend(decision.policies);
            effects.extend(decision.statements.into_iter().flat_map(|statement| statement.effects));
        }
        table.push('\n');
    }
    for (action, asked) in people_questions() {
        write!(table, "{action:width$}").unwrap();
        for person in PEOPLE {
            let verdict = bundle.may(&principal(person), asked);
            write!(table, "{:>10}", cell(verdict.outcome)).unwrap();
            determining.extend(verdict.policies);
        }
        table.push('\n');
    }

    // What only shows with an approval, or a shape of statement that is not one action on one object.
    for sql in ["DELETE FROM sales.public.orders"] {
        for person in PEOPLE {
            let question = Question {
                principal: &principal(person),
                sql,
                bound: &BoundValues::default(),
                earlier: Earlier::none(),
                session: &SessionContext::default(),
                statement_count: 1,
                approvals: &BTreeSet::new(),
            };
            determining.extend(decide(&question, &bundle).policies);
        }
    }
    let missing: Vec<&str> = bundle.policy_ids().filter(|id| !determining.contains(*id)).collect();
    assert!(missing.is_empty(), "policies that decide nothing in the matrix: {missing:?}");
    let missing: Vec<Effect> = Effect::ALL.iter().copied().filter(|effect| !effects.contains(effect)).collect();
    assert!(missing.is_empty(), "effects that are in no row: {missing:?}");

    insta::assert_snapshot!(table);
}

/// Every relation of the catalog with every action, then what is not a relation.
fn questions(bundle: &Bundle) -> Vec<(String, String, String)> {
    let relations: BTreeMap<&RelationName, RelationKind> =
        bundle.catalog().relations().map(|(name, relation)| (name, relation.kind)).collect();
    let mut questions = Vec::new();
    let mut add = |action: &str, object: &dyn std::fmt::Display, sql: String| {
        questions.push((action.to_owned(), object.to_string(), sql));
    };
    for (name, kind) in relations {
        add("read", name, format!("SELECT * FROM {name}"));
        add("metadata", name, format!("DESCRIBE TABLE {name}"));
        add("export", name, format!("COPY INTO 's3://elsewhere/x' FROM {name}"));
        add("grant", name, format!("GRANT SELECT ON {name} TO ROLE analyst"));
        match kind {
            RelationKind::Table => {
                add("write", name, format!("DELETE FROM {name} WHERE id = 1"));
                add("import", name, format!("COPY INTO {name} FROM 's3://elsewhere/x'"));
                add("alter", name, format!("ALTER TABLE {name} ADD COLUMN extra INT"));
                add("drop", name, format!("DROP TABLE {name}"));
            }
            RelationKind::View => add("drop", name, format!("DROP VIEW {name}")),
        }
    }
    for schema in ["SALES.PUBLIC", "SALES.STAGING"] {
        add("create table in", &schema, format!("CREATE TABLE {schema}.fresh (id INT)"));
        add("drop schema", &schema, format!("DROP SCHEMA {schema}"));
        add("use schema", &schema, format!("USE SCHEMA {schema}"));
    }
    add("create", &"database OTHER", "CREATE DATABASE other".into());
    add("drop", &"database SALES", "DROP DATABASE sales".into());
    add("truncate", &"SALES.PUBLIC.ORDERS", "TRUNCATE TABLE sales.public.orders".into());
    for (what, name) in [
        ("warehouse", "DEMO_WH"),
        ("role", "ANALYST"),
        ("role", "SYSADMIN"),
        ("role", "ACCOUNTADMIN"),
        ("database", "SALES"),
    ] {
        add(&format!("use {what}"), &name, format!("USE {what} {name}"));
    }
    add("execute", &"nothing readable", "FROBNICATE THE WAREHOUSE".into());
    add("call", &"SALES.PUBLIC.CLEAN_UP", "CALL sales.public.clean_up()".into());
    add("select", &"1", "SELECT 1".into());
    add("grant", &"SALES.PUBLIC.ORDERS to outsiders", "GRANT SELECT ON sales.public.orders TO ROLE outsiders".into());
    add("show", &"databases", "SHOW DATABASES".into());
    add("create", &"share LEAK", "CREATE SHARE leak".into());
    add("get", &"@SALES.STAGING.FILES", "GET @sales.staging.files file:///tmp/".into());
    add("set", &"TIMEZONE", "ALTER SESSION SET TIMEZONE = 'UTC'".into());
    add("begin", &"transaction", "BEGIN".into());
    add("cancel", &"a statement", "SELECT SYSTEM$CANCEL_QUERY('01b0')".into());
    questions
}

fn people_questions() -> [(&'static str, PersonAction<'static>); 4] {
    [
        ("approve for data-stewards", PersonAction::Approve("data-stewards")),
        ("search_audit", PersonAction::SearchAudit),
        ("list_sessions", PersonAction::ListSessions),
        ("revoke_sessions", PersonAction::RevokeSessions),
    ]
}

fn principal((name, groups, agent): &(&str, &[&str], Option<&str>)) -> Principal {
    Principal {
        id: format!("dev/{name}"),
        issuer: "https://issuer.example".into(),
        subject: (*name).to_owned(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        agent: agent.map(|id| Agent { id: id.to_owned(), assurance: Assurance::Attested }),
        attributes: std::collections::BTreeMap::new(),
    }
}

fn cell(outcome: icegate_pdp_model::Outcome) -> &'static str {
    match outcome {
        icegate_pdp_model::Outcome::Deny => "-",
        icegate_pdp_model::Outcome::NeedsApproval => "approval",
        icegate_pdp_model::Outcome::Mask => "mask",
        icegate_pdp_model::Outcome::Allow => "allow",
    }
}
