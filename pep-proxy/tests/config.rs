//! The program with configurations that cannot be used: what it says, and its exit status.
#![allow(clippy::unwrap_used, missing_docs, reason = "tests")]

use std::{
    path::Path,
    process::{Command, Output},
};

fn check(config: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_icegate-pep")).arg("--check-config").arg("--config").arg(config).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn a_wrong_key_is_named_with_its_line_and_the_right_one() {
    let output = check(Path::new("tests/fixtures/wrong-key.toml"));
    assert_eq!(output.status.code(), Some(64));
    assert_eq!(
        said(&output),
        "tests/fixtures/wrong-key.toml:6: unknown key `danger_plain_text`; did you mean `danger_plaintext`?\n"
    );
}

#[test]
fn a_missing_file_is_named() {
    let output = check(Path::new("tests/fixtures/none.toml"));
    assert_eq!(output.status.code(), Some(64));
    assert!(said(&output).starts_with("tests/fixtures/none.toml: cannot be read: "), "{}", said(&output));
}

#[test]
fn the_files_a_configuration_names_are_read_too() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("pep.toml");
    let text = std::fs::read_to_string("tests/fixtures/good.toml").unwrap();
    std::fs::write(&config, text.replace("PASSWORD_FILE", &dir.path().join("pw").display().to_string())).unwrap();
    let output = check(&config);
    assert_eq!(output.status.code(), Some(64));
    assert!(said(&output).contains("`upstream.password_file`: cannot read `"), "{}", said(&output));

    std::fs::write(dir.path().join("pw"), "secret\n").unwrap();
    let output = check(&config);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(said(&output).ends_with("pep.toml: good\n"));
    assert!(!said(&output).contains("secret"));
}
