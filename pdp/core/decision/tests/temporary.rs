//! Temporary relations of a session: a script a session, each step decided, followed, and ended as it says.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};

use icegate_pdp_decision::{BoundValues, Earlier, Question, Temporaries, decide, follow, readable};
use icegate_pdp_model::{Decision, Outcome, Principal, SessionContext, Temporary};
use icegate_pdp_policy::{Bundle, BundleSource};
use serde::Deserialize;

/// Files of `policies/` besides the masks.
const FILES: [(&str, &str); 8] = [
    ("schema.cedarschema", include_str!("../../../../policies/schema.cedarschema")),
    ("base.cedar", include_str!("../../../../policies/base.cedar")),
    ("exports.cedar", include_str!("../../../../policies/exports.cedar")),
    ("destructive.cedar", include_str!("../../../../policies/destructive.cedar")),
    ("agents.cedar", include_str!("../../../../policies/agents.cedar")),
    ("operators.cedar", include_str!("../../../../policies/operators.cedar")),
    ("catalog.yaml", include_str!("../../../../policies/catalog.yaml")),
    ("settings.yaml", include_str!("../../../../policies/settings.yaml")),
];
const MASKS: (&str, &str) = ("personal-data.cedar", include_str!("../../../../policies/personal-data.cedar"));
/// Orders by their status.
const FILTER: (&str, &str) = (
    "rows.cedar",
    r#"@id("shipped") permit (principal, action == Icegate::Action::"read_row",
    resource in Icegate::Relation::"SALES.PUBLIC.ORDERS") when { resource has status && resource.status == "shipped" };"#,
);
/// The same, but for INSERT.
const KINDS: (&str, &str) = (
    "rows.cedar",
    r#"@id("shipped") permit (principal, action == Icegate::Action::"read_row",
    resource in Icegate::Relation::"SALES.PUBLIC.ORDERS") when { resource has status && resource.status == "shipped" };
    @id("inserted") permit (principal, action == Icegate::Action::"read_row",
    resource in Icegate::Relation::"SALES.PUBLIC.ORDERS") when { context.statement.kind == "insert" };"#,
);
/// A mask of one's own.
const OWN: (&str, &str) = (
    "own.cedar",
    r#"@id("own") @mask("sql(initials)") @reason("Initials.") forbid (principal, action == Icegate::Action::"read_column",
    resource in Icegate::Tag::"pii.ssn");"#,
);
/// Settings without that mask, and what it is there and then.
const EXPRESSIONS: [(&str, &str); 2] = [
    ("# masks:", "masks:"),
    (
        "# masks: { initials: { of: text, sql: \"LEFT({column}, 1)",
        "masks: { initials: { of: text, sql: \"LEFT({column}, 9)",
    ),
];

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Script {
    name: String,
    #[serde(default)]
    groups: Vec<String>,
    steps: Vec<Step>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Step {
    sql: String,
    outcome: Outcome,
    #[serde(default)]
    policies: Option<String>,
    #[serde(default)]
    sent: Option<String>,
    #[serde(default)]
    says: String,
    #[serde(default)]
    ends: Ends,
    /// The session's schema from then on.
    #[serde(default)]
    schema: Option<String>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Ends {
    #[default]
    Well,
    Badly,
    Unknown,
    Later,
}

/// What the starting set has no permit or name for.
const CALLS: (&str, &str) = (
    "calls.cedar",
    r#"@id("blocks") permit (principal in Icegate::Group::"engineers", action == Icegate::Action::"run", resource)
    when { context.statement.kind == "block" };"#,
);
const PROCEDURES: &str = "procedures: { sales.public.refresh: pure }\n";
/// A VARIANT, without and with a protected path.
const EVENTS: [&str; 2] =
    ["payload: { type: VARIANT }", "payload: { type: VARIANT, paths: { mail: { type: VARCHAR, tags: [pii.email] } } }"];

fn bundles() -> BTreeMap<&'static str, Bundle> {
    let compile = |more: &[(&str, &str)], edits: &[(&str, &str)]| {
        let files = FILES.map(|(path, text)| {
            let edited = |text: &str| edits.iter().fold(text.to_owned(), |text, (from, to)| text.replacen(from, to, 1));
            if path != "catalog.yaml" {
                return (path, edited(text));
            }
            let events =
                format!("    public:\n      events: {{ columns: {{ id: {{ type: NUMBER }}, {} }} }}\n", EVENTS[0]);
            let text = format!("{PROCEDURES}{}", text.replacen("    public:\n", &events, 1));
            (path, edited(&text))
        });
        let files = files.iter().map(|(path, text)| (*path, text.as_str())).chain(more.iter().copied());
        Bundle::compile(&BundleSource::new(files)).unwrap()
    };
    let rows = ("      orders:\n", "      orders:\n        rows: { status: status }\n");
    let ones = (
        "      orders:\n",
        "      ones: { view: SELECT 1 AS one FROM sales.public.orders, columns: { one: { type: NUMBER } } }\n      orders:\n",
    );
    let grown = ("      leads:\n", "      t: { columns: { source: { type: VARCHAR } } }\n      leads:\n");
    BTreeMap::from([
        ("bare", compile(&[CALLS], &[])),
        ("masked", compile(&[CALLS, MASKS], &[])),
        ("filtered", compile(&[CALLS, MASKS, FILTER], &[rows])),
        ("viewed", compile(&[CALLS], &[ones])),
        ("kinds", compile(&[CALLS, MASKS, KINDS], &[rows])),
        ("own", compile(&[CALLS, OWN], &EXPRESSIONS[1..])),
        ("stricter", compile(&[CALLS, OWN], &EXPRESSIONS[..1])),
        ("paths", compile(&[CALLS, MASKS], &[(EVENTS[0], EVENTS[1])])),
        ("grown", compile(&[CALLS], &[grown])),
        ("renamed", compile(&[CALLS], &[("          ssn:", "          number:")])),
    ])
}

/// What a store makes of the end of a statement.
fn end(temporaries: &mut Temporaries, decision_id: &str, ends: Ends) {
    for rows in temporaries.values_mut() {
        let own = rows.iter().any(|row| row.decision_id == decision_id);
        match ends {
            Ends::Well if own => {
                rows.retain(|row| row.decision_id == decision_id || !row.made);
                for row in rows.iter_mut().filter(|row| row.decision_id == decision_id) {
                    row.made = true;
                }
            }
            Ends::Badly => {
                rows.retain(|row| row.decision_id != decision_id || !row.alone);
                for row in rows.iter_mut().filter(|row| row.decision_id == decision_id) {
                    (row.made, row.body) = (true, Temporary::Unknown);
                }
            }
            Ends::Well | Ends::Unknown | Ends::Later => {}
        }
    }
    temporaries.retain(|_, rows| !rows.is_empty());
}

fn told(decision: &Decision) -> String {
    decision.reasons.iter().map(|reason| format!("{}: {}", reason.code, reason.message)).collect::<Vec<_>>().join("; ")
}

fn person(groups: &[&str]) -> Principal {
    Principal {
        id: "dev/ana".into(),
        issuer: "https://issuer.example".into(),
        subject: "ana".into(),
        groups: groups.iter().map(|group| (*group).to_owned()).collect(),
        agent: None,
        attributes: BTreeMap::new(),
    }
}

fn staging() -> SessionContext {
    SessionContext {
        database: Some("SALES".into()),
        schema: Some("STAGING".into()),
        role: Some("ANALYST".into()),
        warehouse: None,
    }
}

fn question<'a>(
    principal: &'a Principal,
    sql: &'a str,
    earlier: &'a Earlier,
    session: &'a SessionContext,
) -> Question<'a> {
    static NO_VALUES: BoundValues = BoundValues::Numbered(Vec::new());
    static NOBODY: BTreeSet<String> = BTreeSet::new();
    Question { principal, sql, bound: &NO_VALUES, earlier, session, statement_count: 0, approvals: &NOBODY }
}

fn run(script: &Script, bundles: &BTreeMap<&str, Bundle>) -> Vec<String> {
    let groups: Vec<&str> = script.groups.iter().map(String::as_str).collect();
    let groups = if groups.is_empty() { &["employees", "analysts"][..] } else { &groups };
    let (principal, mut session) = (person(groups), staging());
    let mut temporaries = Temporaries::new();
    let (mut policies, mut wrong) = ("masked", Vec::new());
    for (step, number) in script.steps.iter().zip(1..) {
        policies = step.policies.as_deref().unwrap_or(policies);
        let earlier = Earlier { results: BTreeMap::new(), relations: readable(&temporaries) };
        let decision = decide(&question(&principal, &step.sql, &earlier, &session), &bundles[policies]);
        let said = told(&decision);
        let sent = step.sent.is_none() || step.sent == decision.sql;
        if decision.outcome != step.outcome || !said.contains(&step.says) || !sent {
            let sent = decision.sql.as_deref().unwrap_or_default();
            wrong
                .push(format!("{}, step {number}: {}\n  {} {said}\n  {sent}", script.name, step.sql, decision.outcome));
        }
        if matches!(decision.outcome, Outcome::Allow | Outcome::Mask) {
            let decision_id = number.to_string();
            follow(&decision, &decision_id, &bundles[policies].settings().masks, &mut temporaries);
            end(&mut temporaries, &decision_id, step.ends);
            if let Some(schema) = &step.schema {
                session.schema = Some(schema.clone());
            }
        }
    }
    wrong
}

#[test]
fn what_is_too_much_for_a_session_is_not_read() {
    let bundle = &bundles()["bare"];
    let principal = person(&["employees", "analysts"]);
    let (session, mut temporaries) = (staging(), Temporaries::new());
    let mut made = 0;
    for number in 0..2000 {
        let sql = format!("CREATE TEMP TABLE t{number} AS SELECT * FROM sales.public.customers");
        let decision = decide(&question(&principal, &sql, Earlier::none(), &session), bundle);
        assert_eq!(decision.outcome, Outcome::Allow);
        follow(&decision, &number.to_string(), &BTreeMap::new(), &mut temporaries);
        let known = temporaries.values().flatten().filter(|row| row.body != Temporary::Unknown).count();
        if known == made {
            break;
        }
        made = known;
    }
    assert!((100..1500).contains(&made), "{made}");
    // What was there before stays.
    let mut last = temporaries.clone();
    let more = "CREATE TEMP TABLE more AS SELECT * FROM sales.public.customers";
    let decision = decide(&question(&principal, more, Earlier::none(), &session), bundle);
    follow(&decision, "more", &BTreeMap::new(), &mut last);
    last.remove(&"SALES.STAGING.MORE".parse().unwrap());
    assert_eq!(last, temporaries);
}

#[test]
fn very_many_are_not_made() {
    let bundle = &bundles()["bare"];
    let principal = person(&["employees", "analysts"]);
    let relations = (0..1000)
        .map(|number| (format!("SALES.STAGING.T{number}").parse().unwrap(), Err("it is one of many".to_owned())));
    let earlier = Earlier { relations: relations.collect(), ..Earlier::default() };
    let session = staging();
    let long = format!("CREATE TEMP TABLE {} (a INT)", "t".repeat(256));
    for (sql, earlier, says) in [
        ("CREATE TEMP TABLE more (a INT)", &earlier, "very many"),
        ("CREATE TEMP TABLE IF NOT EXISTS more (a INT)", &earlier, "very many"),
        ("CREATE TEMP VIEW more AS SELECT 1 AS a", &earlier, "very many"),
        ("ALTER TABLE t1 RENAME TO more", &earlier, "very many"),
        ("ALTER TABLE t1 SWAP WITH more", &earlier, "very many"),
        (long.as_str(), Earlier::none(), "longer than names can be"),
    ] {
        let decision = decide(&question(&principal, sql, earlier, &session), bundle);
        assert!(decision.outcome == Outcome::Deny && told(&decision).contains(says), "{sql}: {}", told(&decision));
    }
    for sql in ["CREATE OR REPLACE TEMP TABLE t1 (a INT)", "DROP TABLE t1", "CREATE TABLE more (a INT)"] {
        let decision = decide(&question(&principal, sql, &earlier, &session), bundle);
        assert_eq!(decision.outcome, Outcome::Allow, "{sql}: {}", told(&decision));
    }
}

#[test]
fn scripts() {
    let scripts: Vec<Script> = serde_saphyr::from_str(include_str!("temporary.yaml")).unwrap();
    let bundles = bundles();
    let wrong: Vec<String> = scripts.iter().flat_map(|script| run(script, &bundles)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
