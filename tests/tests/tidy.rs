//! The tree is laid out as `ARCHITECTURE.md` says: who may import whom, and what the core must not touch.

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
    fs,
    path::{Path, PathBuf},
};

use icegate_tests::policies::root;

/// Who may import whom among our own crates. Absent means no; extend it in the commit that adds the edge, and say why.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("proto", &[]),
    ("pdp-model", &[]),
    ("pdp-identity", &["pdp-model"]),
    ("pdp-sql", &["pdp-model"]),
    ("pdp-policy", &["pdp-model"]),
    ("pdp-approval", &["pdp-model"]),
    ("pdp-audit", &["pdp-model"]),
    ("pdp-decision", &["pdp-model", "pdp-policy", "pdp-sql"]),
    ("pdp-store", &["pdp-approval", "pdp-audit", "pdp-model"]),
    ("pdp-pip", &["pdp-identity", "pdp-model", "pdp-policy"]),
    (
        "pdp",
        &[
            "pdp-approval",
            "pdp-audit",
            "pdp-decision",
            "pdp-identity",
            "pdp-model",
            "pdp-pip",
            "pdp-policy",
            "pdp-sql",
            "pdp-store",
            "proto",
        ],
    ),
    // `pdp` and `pep` only for their public entry points.
    ("cli", &["pdp", "pdp-audit", "pdp-decision", "pdp-model", "pdp-pip", "pdp-policy", "pdp-sql", "pep", "proto"]),
    ("pep-masking", &[]),
    ("pep-protocol", &[]),
    // Never sql, never policy: two parsers that disagree are the classic bypass.
    ("pep", &["pep-masking", "pep-protocol", "proto"]),
];

/// Crates that have one owner.
const OWNED: &[(&str, &[&str])] = &[
    ("sqlparser", &["pdp-sql"]),
    ("cedar-policy", &["pdp-policy"]),
    ("sqlx", &["pdp-store", "tests"]),
    ("chacha20poly1305", &["pep-protocol"]),
    ("arrow-ipc", &["pep-masking"]),
    ("fpe", &["pep-masking"]),
];

/// What the core must not name outside its tests, and why each is refused.
const IMPURE: &[&str] = &[
    "SystemTime::",
    "Instant::now",
    "Utc::now",
    "Zoned::now",
    "Timestamp::now",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "thread::sleep",
    "std::io::stdin",
    "tokio",
    "getrandom",
    "thread_rng",
    "OsRng",
    "env!(\"HOME",
];

/// Crates that bring a clock, a socket, files or the environment with them.
const IMPURE_CRATES: &[&str] = &["tokio", "hyper", "sqlx", "getrandom", "reqwest", "tonic", "moka", "notify", "rand"];

/// Every member: short name → folder and the names of its normal dependencies.
fn members() -> BTreeMap<String, (PathBuf, BTreeSet<String>)> {
    let manifest: toml::Table = fs::read_to_string(root().join("Cargo.toml")).unwrap().parse().unwrap();
    let mut folders = Vec::new();
    for member in manifest["workspace"]["members"].as_array().unwrap() {
        let member = member.as_str().unwrap();
        match member.strip_suffix("/*") {
            Some(parent) => {
                folders.extend(fs::read_dir(root().join(parent)).unwrap().map(|entry| entry.unwrap().path()));
            }
            None => folders.push(root().join(member)),
        }
    }
    folders.retain(|folder| folder.join("Cargo.toml").exists());
    folders
        .into_iter()
        .map(|folder| {
            let manifest: toml::Table = fs::read_to_string(folder.join("Cargo.toml")).unwrap().parse().unwrap();
            let name = manifest["package"]["name"].as_str().unwrap();
            let dependencies = manifest.get("dependencies").and_then(toml::Value::as_table);
            let dependencies = dependencies.map(|table| table.keys().cloned().collect()).unwrap_or_default();
            (short(name), (folder, dependencies))
        })
        .collect()
}

fn short(name: &str) -> String {
    name.strip_prefix("icegate-").unwrap_or(name).to_owned()
}

#[test]
fn imports_follow_the_table() {
    let table: BTreeMap<&str, &[&str]> = MAY_IMPORT.iter().copied().collect();
    let mut wrong = Vec::new();
    for (name, (_, dependencies)) in members() {
        if ["tests", "benches"].contains(&name.as_str()) {
            continue;
        }
        let allowed = table.get(name.as_str()).unwrap_or_else(|| panic!("`{name}` is not in the table"));
        for ours in dependencies.iter().filter_map(|dependency| dependency.strip_prefix("icegate-")) {
            if !allowed.contains(&ours) {
                wrong.push(format!("{name} imports {ours}"));
            }
        }
    }
    assert!(wrong.is_empty(), "edges that are not in the table: {wrong:#?}");
}

#[test]
fn heavy_crates_have_one_owner() {
    let mut wrong = Vec::new();
    for (name, (_, dependencies)) in members() {
        for (library, owners) in OWNED {
            if dependencies.contains(*library) && !owners.contains(&name.as_str()) {
                wrong.push(format!("{name} uses {library}, which belongs to {owners:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn the_core_is_pure() {
    let mut wrong = Vec::new();
    for core in ["pdp/core", "pep-proxy/core"] {
        for source in rust_files(&root().join(core)) {
            if is_in("tests", &source) {
                continue;
            }
            let text = fs::read_to_string(&source).unwrap();
            for (number, line) in without_tests(&text).lines().enumerate() {
                let code = line.split("//").next().unwrap_or_default();
                for name in IMPURE.iter().filter(|name| code.contains(**name)) {
                    wrong.push(format!("{}:{}: `{name}`", source.display(), number + 1));
                }
            }
        }
    }
    for (name, (folder, dependencies)) in members() {
        if folder.starts_with(root().join("pdp/core")) || folder.starts_with(root().join("pep-proxy/core")) {
            for library in IMPURE_CRATES.iter().filter(|library| dependencies.contains(**library)) {
                wrong.push(format!("{name} depends on `{library}`"));
            }
        }
    }
    assert!(wrong.is_empty(), "the core touches the outside: {wrong:#?}");
}

/// The purity check notices what it is for.
#[test]
fn the_purity_check_can_fail() {
    let planted = "fn now() { std::time::SystemTime::now(); }\n#[cfg(test)]\nmod tests { use std::fs; }\n";
    let code = without_tests(planted);
    assert!(IMPURE.iter().any(|name| code.contains(name)));
    assert!(!code.contains("std::fs"));
}

#[test]
fn the_top_level_is_the_agreed_one() {
    let agreed = [
        "ARCHITECTURE.md",
        "Cargo.lock",
        "Cargo.toml",
        "LICENSE",
        "README.md",
        "benches",
        "pdp",
        "pep-proxy",
        "policies",
        "proto",
        "target",
        "tests",
    ];
    for entry in fs::read_dir(root()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(name.starts_with('.') || agreed.contains(&name.as_str()), "`{name}` is not in the agreed top level");
    }
}

#[test]
fn every_room_is_on_the_map() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    for (name, (folder, _)) in members() {
        let folder = folder.strip_prefix(root()).unwrap().to_string_lossy().into_owned();
        assert!(
            map.contains(&format!("`icegate-{name}`")),
            "ARCHITECTURE.md does not name `icegate-{name}` ({folder})"
        );
    }
}

#[test]
fn files_stay_chapters() {
    for source in rust_files(&root()) {
        if is_in("generated", &source) {
            continue;
        }
        let lines = fs::read_to_string(&source).unwrap().lines().count();
        assert!(lines <= 800, "{} has {lines} lines: look for the seam", source.display());
    }
}

#[test]
fn no_test_is_switched_off() {
    let marks = [concat!("#[", "ignore"), concat!("todo", "!("), concat!("unimplemented", "!("), concat!("dbg", "!(")];
    for source in rust_files(&root()) {
        let text = fs::read_to_string(&source).unwrap();
        for mark in marks {
            assert!(!text.contains(mark), "{} holds `{mark}`", source.display());
        }
    }
}

/// Whether the file is in a folder of this name, whatever the checkout itself is called.
fn is_in(folder: &str, file: &Path) -> bool {
    file.strip_prefix(root()).unwrap().components().any(|part| part.as_os_str() == folder)
}

fn rust_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() && name != "target" && !name.starts_with('.') {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files
}

/// The file up to its test module, which stands last.
fn without_tests(text: &str) -> &str {
    text.find("#[cfg(test)]").and_then(|at| text.get(..at)).unwrap_or(text)
}
