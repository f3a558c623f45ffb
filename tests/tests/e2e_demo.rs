//! The demo, as somebody who types `cargo demo --exit` sees it.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use icegate_tests::stack::icegate;

#[test]
fn the_tour_goes_as_it_should_and_names_every_step() {
    let dir = tempfile::tempdir().unwrap();
    let demo = dir.path().join("demo");
    let ended =
        std::process::Command::new(icegate().unwrap()).args(["demo", "--exit", "--dir"]).arg(&demo).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stdout);
    assert!(ended.status.success(), "{said}{}", String::from_utf8_lossy(&ended.stderr));
    for step in [
        "An analyst reads customers",
        "The same by somebody who is cleared",
        "A question without personal data",
        "An AI agent's DELETE waits for a person",
        "What nobody may do",
        "A contract ends while the contractor is connected",
        "Who did what",
        "Every step of the tour went as it should.",
    ] {
        assert!(said.contains(step), "`{step}` is missing in {said}");
    }
    for seen in ["maya.lindqvist@example.com", "no-drop-database", "no-unload", "SQL-UNKNOWN"] {
        assert!(said.contains(seen), "`{seen}` is missing in {said}");
    }
    assert!(!said.contains("FAILED") && !said.contains('\u{1b}'), "{said}");

    let facts: serde_json::Value = serde_json::from_slice(&std::fs::read(demo.join("demo.json")).unwrap()).unwrap();
    for key in [
        "host",
        "port",
        "protocol",
        "account",
        "database",
        "schema",
        "warehouse",
        "users",
        "pdp_addr",
        "pdp_metrics",
        "pep_metrics",
        "catalog",
        "policies",
    ] {
        assert!(!facts[key].is_null(), "`{key}`");
    }
    for user in ["ana", "stella", "carl", "copilot"] {
        assert!(facts["users"][user]["token"].is_string() && facts["users"][user]["groups"].is_array(), "{user}");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        let mode = std::fs::metadata(demo.join("demo.json")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "tokens are for their owner only");
    }
}
