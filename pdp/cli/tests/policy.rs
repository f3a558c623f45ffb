//! The commands that need no server, over a small bundle.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{fs, path::Path, process::ExitCode};

use icegate_cli::{
    main_from,
    policy_cases::{CasesError, run_dir},
};
use icegate_pdp_policy::SCHEMA;

const POLICIES: &str = r#"
@id("analysts-run")
permit (principal in Icegate::Group::"analysts", action == Icegate::Action::"run", resource);

@id("analysts-read")
permit (principal in Icegate::Group::"analysts", action in Icegate::Action::"read", resource);

@id("mask-email") @mask("email") @reason("Addresses are masked.")
forbid (principal, action == Icegate::Action::"read_column", resource in Icegate::Tag::"pii.email");

@id("stewards-approve")
permit (principal in Icegate::Group::"stewards", action == Icegate::Action::"approve", resource);
"#;

const CATALOG: &str = "
databases:
  sales:
    public:
      customers:
        columns:
          id: { type: NUMBER }
          email: { type: VARCHAR, tags: [pii.email] }
";

const CASES: &str = "
principals:
  ana: { id: corp/ana, groups: [analysts] }
cases:
  - name: addresses are masked
    principal: ana
    session: { database: sales, schema: public }
    sql: SELECT email FROM customers
    expect:
      outcome: mask
      policies: [analysts-read, analysts-run, mask-email]
      masks: { SALES.PUBLIC.CUSTOMERS.EMAIL: email }
  - name: the rest is plain
    principal: ana
    sql: SELECT id FROM sales.public.customers
    expect: { outcome: allow, masks: {}, sql: SELECT id FROM sales.public.customers }
  - name: strangers read nothing
    principal: { id: corp/eve }
    sql: SELECT id FROM sales.public.customers
    expect: { outcome: deny, codes: [POLICY-NO-PERMIT] }
  - name: analysts do not approve
    principal: ana
    may: approve data-stewards
    expect: { outcome: deny }
";

fn bundle(cases: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("cases")).unwrap();
    for (name, text) in [
        ("schema.cedarschema", SCHEMA),
        ("policies.cedar", POLICIES),
        ("catalog.yaml", CATALOG),
        ("settings.yaml", "connection: demo\n"),
        ("cases/first.yaml", cases),
    ] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

fn icegate(args: &[&str], dir: &Path) -> ExitCode {
    let dir = dir.to_str().unwrap();
    main_from(std::iter::once("icegate").chain(args.iter().copied()).chain([dir]).map(Into::into))
}

fn is(code: ExitCode, wanted: u8) -> bool {
    format!("{code:?}") == format!("{:?}", ExitCode::from(wanted))
}

#[test]
fn cases_that_hold() {
    let dir = bundle(CASES);
    let report = run_dir(dir.path()).unwrap();
    assert_eq!(report.cases.len(), 4);
    let failures: Vec<_> = report.failures().collect();
    assert!(failures.is_empty(), "{failures:#?}");
    assert_eq!(report.policies_untested, ["stewards-approve".to_owned()].into());
    assert!(is(icegate(&["policy", "test"], dir.path()), 0));
    assert!(is(icegate(&["policy", "test", "--require-coverage"], dir.path()), 1));
    assert!(is(icegate(&["policy", "validate"], dir.path()), 0));
}

#[test]
fn cases_that_do_not_say_how() {
    let wrong = CASES
        .replace("outcome: mask", "outcome: allow")
        .replace("analysts-run, mask-email]", "mask-phone]")
        .replace("EMAIL: email", "EMAIL: hash");
    let dir = bundle(&wrong);
    let report = run_dir(dir.path()).unwrap();
    let failures: Vec<_> = report.failures().collect();
    assert_eq!(failures.len(), 1);
    insta::assert_snapshot!(failures[0].differences.join("\n"));
    assert!(is(icegate(&["policy", "test"], dir.path()), 1));
}

#[test]
fn cases_that_cannot_be_read() {
    let problem = |cases: &str| match run_dir(bundle(cases).path()).unwrap_err() {
        CasesError::Case { file, problem } => format!("{file}: {problem}"),
        other => panic!("{other}"),
    };
    for (cases, wanted) in [
        ("hello", "cases/first.yaml: it is not a list of cases"),
        ("cases: 7", "`cases` is not a list"),
        ("cases: []\nother: 1", "`other` is neither"),
        ("- name: x\n  principal: ana\n  sql: x\n  expect: { outcome: deny }", "no principal is called `ana`"),
        ("- name: x\n  principal: { id: a }\n  expect: { outcome: deny }", "case 1 (`x`): needs exactly one of"),
        ("- name: x\n  principal: { id: a }\n  may: fly\n  expect: { outcome: deny }", "`may` is `fly`"),
        ("- name: x\n  principal: { id: a }\n  sql: x\n  expect: { outcome: perhaps }", "unknown variant `perhaps`"),
        ("- name: x\n  principal: { id: a }\n  sqll: x\n  expect: { outcome: deny }", "unknown field `sqll`"),
    ] {
        let said = problem(cases);
        assert!(said.contains(wanted), "{said}");
    }
    assert!(matches!(run_dir(bundle("[]").path()).unwrap_err(), CasesError::None { .. }));
}

#[test]
fn a_bundle_that_is_not_sound_fails_with_1_and_a_missing_one_with_64() {
    let dir = bundle(CASES);
    fs::write(dir.path().join("policies.cedar"), "permit (principal, action").unwrap();
    assert!(is(icegate(&["policy", "validate"], dir.path()), 1));
    assert!(is(icegate(&["policy", "test"], dir.path()), 1));
    assert!(is(icegate(&["policy", "validate"], Path::new("/nonexistent")), 64));
    assert!(is(icegate(&["policy", "fly"], dir.path()), 2));
}
