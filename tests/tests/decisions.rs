//! Decision cases as data: the starting policies and a bundle made to meet itself, each with its expected answers.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests may")]

use icegate_cli::policy_cases;
use icegate_tests::policies::root;

fn check(folder: &str) {
    let report = policy_cases::run_dir(&root().join(folder)).unwrap();
    let failures: Vec<String> = report
        .failures()
        .map(|case| format!("{}: {} ({})\n    {}", case.file, case.name, case.asked, case.differences.join("\n    ")))
        .collect();
    assert!(failures.is_empty(), "{folder}:\n{}", failures.join("\n"));
    assert!(report.policies_untested.is_empty(), "{folder}: no case notices {:?}", report.policies_untested);
}

#[test]
fn starting_policies() {
    check("policies");
}

#[test]
fn combinations() {
    check("tests/decisions");
}
