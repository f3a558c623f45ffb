//! Bundles that are wrong, as data: what is said of each, with file, line and remedy.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use icegate_pdp_policy::{Bundle, BundleSource, SCHEMA};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    /// Put over a bundle that is right; `null` takes the file away.
    files: BTreeMap<String, Option<String>>,
    /// How each problem starts, in order. A problem is one line.
    #[serde(default)]
    problems: Vec<String>,
    /// How each lint starts, in order.
    #[serde(default)]
    lints: Vec<String>,
}

fn check(case: &Case) {
    let mut files: BTreeMap<String, String> = [
        ("schema.cedarschema", SCHEMA),
        ("settings.yaml", "connection: demo\nhash_salt: 0123456789abcdef\n"),
        ("catalog.yaml", "databases: {}\n"),
    ]
    .map(|(path, text)| (path.to_owned(), text.to_owned()))
    .into();
    for (path, text) in &case.files {
        match text {
            Some(text) => files.insert(path.clone(), text.replace("{{SCHEMA}}", SCHEMA)),
            None => files.remove(path),
        };
    }
    let (problems, lints) = match Bundle::compile(&BundleSource::new(files)) {
        Ok(bundle) => (Vec::new(), bundle.lints().iter().map(ToString::to_string).collect()),
        Err(error) => (error.to_string().lines().map(str::to_owned).collect::<Vec<_>>(), Vec::new()),
    };
    assert_starts("problem", case, &problems, &case.problems);
    assert_starts("lint", case, &lints, &case.lints);
    assert!(problems.iter().all(|problem| problem.contains("; ")), "{}: no remedy in {problems:#?}", case.name);
}

fn assert_starts(what: &str, case: &Case, found: &[String], wanted: &[String]) {
    let fits = found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| found.starts_with(wanted));
    assert!(fits, "{}: {what}s are {found:#?}", case.name);
}

fn run(cases: &str) {
    let cases: Vec<Case> = serde_saphyr::from_str(cases).unwrap_or_else(|error| panic!("{error}"));
    assert!(!cases.is_empty());
    for case in &cases {
        check(case);
    }
}

#[test]
fn files() {
    run(include_str!("bundles/files.yaml"));
}

#[test]
fn policies() {
    run(include_str!("bundles/policies.yaml"));
}

#[test]
fn annotations() {
    run(include_str!("bundles/annotations.yaml"));
}

#[test]
fn lints() {
    run(include_str!("bundles/lints.yaml"));
}

#[test]
fn the_salt_is_never_shown() {
    let salt = "very-secret-salt-0123";
    let settings = format!("connection: demo\nhash_salt: {salt}\n");
    let files = [("schema.cedarschema", SCHEMA), ("catalog.yaml", "{}"), ("settings.yaml", &settings)];
    let source = BundleSource::new(files);
    let bundle = Bundle::compile(&source).unwrap();
    assert!(!format!("{source:?} {bundle:?} {:?}", bundle.settings()).contains(salt));
    for broken in [format!("connection: demo\nhash_salt: [{salt}]\n"), format!("hash_salt: {salt}\nbogus: {salt}\n")] {
        let files = [("schema.cedarschema", SCHEMA), ("catalog.yaml", "{}"), ("settings.yaml", &broken)];
        let error = Bundle::compile(&BundleSource::new(files)).unwrap_err();
        assert!(!format!("{error} {error:?}").contains(salt), "{error}");
    }
}

/// A bundle that cannot be read must be refused, not end the process that serves by the last one.
#[test]
fn policies_that_nest_deep_are_refused_or_read() {
    let compile = |condition: &str| {
        let text = format!("@id(\"a\") forbid (principal, action, resource) when {{ {condition} }};");
        let files = [
            ("schema.cedarschema", SCHEMA),
            ("settings.yaml", "connection: demo\n"),
            ("catalog.yaml", "{}"),
            ("a.cedar", &text),
        ];
        Bundle::compile(&BundleSource::new(files)).err().map_or_else(String::new, |error| error.to_string())
    };
    for (open, middle, close, limit) in [
        ("(", "true", ")", 27),
        ("[", "1", "]", 27),
        ("{a:", "1", "}", 27),
        ("!", "true", "", 240),
        ("-", "1", "", 240),
        ("if true then ", "true", " else true", 240),
        ("true || ", "true", "", 118),
        ("true && ", "true", "", 118),
        ("1 + ", "1", " ", 240),
        ("1 == ", "1", " ", 118),
        ("context.a.", "a", "", 118),
    ] {
        // Just within the limits it is parsed, whatever comes of it.
        let within = compile(&format!("{}{middle}{}", open.repeat(limit), close.repeat(limit)));
        assert!(!within.contains("brackets deep"), "{open}: {within}");
        let beyond = compile(&format!("{}{middle}{}", open.repeat(100_000), close.repeat(100_000)));
        assert!(beyond.contains("brackets deep and has"), "{open}: {beyond}");
    }
    assert_eq!(compile(&format!("[{}1].contains(2)", "1,".repeat(10_000))), "", "a large set is not deep");
}
