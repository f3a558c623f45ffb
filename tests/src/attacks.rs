//! The attack corpus in `tests/attacks/`: what is tried, what must happen, and the twin warehouses it is tried on.

pub mod generate;

use anyhow::Context as _;
use icegate_cli::demo::issuer::Person;
use icegate_pdp_decision::{BoundValues, Earlier, Question, decide};
use icegate_pdp_model::{Decision, Principal, SessionContext};
use icegate_pdp_policy::Bundle;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::policies::root;

/// Shortest part of a protected value that counts as the value.
const CANARY_CHARS_MIN: usize = 4;
/// The same for parts without a letter: short runs of digits occur by chance.
const DIGITS_MIN: usize = 6;

/// Reads SHOP masked.
pub const ANALYST: Person = Person { name: "ana", about: "an analyst", groups: &["analysts"], agent: None };
/// Reads SHOP masked and fills SHOP.LAB.
pub const WRITER: Person =
    Person { name: "wanda", about: "an analyst who writes", groups: &["analysts", "writers"], agent: None };
/// Sees what is stored.
pub const CLEARED: Person = Person { name: "clara", about: "cleared", groups: &["analysts", "cleared"], agent: None };

/// What must happen to a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Must {
    /// It must not run.
    Refused,
    /// It may run, and nothing of what comes back depends on a protected value. A refusal is over-blocking.
    Masked,
    /// It runs as it is: nothing protected takes part.
    Clear,
}

/// Who tries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Who {
    /// [`ANALYST`].
    #[default]
    Analyst,
    /// [`WRITER`].
    Writer,
}

impl Who {
    /// The person.
    pub fn person(self) -> Person {
        match self {
            Self::Analyst => ANALYST,
            Self::Writer => WRITER,
        }
    }
}

/// Statements run one after the other in one session. What must happen is said of the first.
#[derive(Debug, Clone)]
pub struct Attack {
    /// In the words of its file.
    pub technique: String,
    /// What must happen.
    pub must: Must,
    /// Who tries it.
    pub who: Who,
    /// The statements.
    pub steps: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    technique: String,
    cases: Vec<Group>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    must: Must,
    why: String,
    #[serde(default, rename = "as")]
    who: Who,
    /// Statements of their own.
    #[serde(default)]
    sql: Vec<String>,
    /// Sequences.
    #[serde(default)]
    steps: Vec<Vec<String>>,
}

/// The folder of the corpus.
pub fn folder() -> PathBuf {
    root().join("tests").join("attacks")
}

/// Every attack, in the order of the files' names.
///
/// # Errors
///
/// When a file is not as it must be, or a statement stands there twice.
pub fn corpus() -> anyhow::Result<Vec<Attack>> {
    let mut paths: Vec<PathBuf> = std::fs::read_dir(folder().join("cases"))?
        .map(|entry| entry.map(|entry| entry.path()))
        .collect::<Result<_, _>>()?;
    paths.sort();
    let mut attacks = Vec::new();
    let mut seen = BTreeSet::new();
    for path in paths {
        let read = || -> anyhow::Result<File> { Ok(serde_saphyr::from_str(&std::fs::read_to_string(&path)?)?) };
        let file = read().with_context(|| format!("`{}`", path.display()))?;
        for group in file.cases {
            anyhow::ensure!(!group.why.is_empty(), "`{}`: a group does not say why", path.display());
            for steps in group.sql.into_iter().map(|sql| vec![sql]).chain(group.steps) {
                anyhow::ensure!(seen.insert((group.who as u8, steps.clone())), "twice: {steps:?}");
                attacks.push(Attack { technique: file.technique.clone(), must: group.must, who: group.who, steps });
            }
        }
    }
    Ok(attacks)
}

/// Puts the bundle that guards the twins into a directory; its schema is the starting set's.
///
/// # Errors
///
/// When a file cannot be copied.
pub fn bundle_into(directory: &Path) -> anyhow::Result<()> {
    assemble(&folder().join("bundle"), directory)
}

/// A bundle's files, and the schema every bundle has.
///
/// # Errors
///
/// When a file cannot be copied.
pub fn assemble(from: &Path, directory: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(directory)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        std::fs::copy(entry.path(), directory.join(entry.file_name()))?;
    }
    std::fs::copy(root().join("policies").join("schema.cedarschema"), directory.join("schema.cedarschema"))?;
    Ok(())
}

/// What is decided, without any service.
pub fn decided(bundle: &Bundle, person: &Person, sql: &str) -> Decision {
    let principal = Principal {
        id: format!("dev/{}", person.name),
        issuer: String::new(),
        subject: person.name.to_owned(),
        groups: person.groups.iter().map(|&group| group.to_owned()).collect(),
        agent: None,
        attributes: BTreeMap::new(),
    };
    let name = |name: &str| Some(name.to_owned());
    let session =
        SessionContext { database: name("SHOP"), schema: name("PUBLIC"), role: None, warehouse: name("DEMO_WH") };
    let approvals = BTreeSet::new();
    let question = Question {
        principal: &principal,
        sql,
        bound: &BoundValues::default(),
        earlier: Earlier::none(),
        session: &session,
        statement_count: 0,
        approvals: &approvals,
    };
    decide(&question, bundle)
}

/// One of the two warehouses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Twin {
    /// Takes `a` of «a|b».
    Left,
    /// Takes `b`.
    Right,
}

/// The statements that make a twin.
///
/// # Errors
///
/// When the file is not readable.
pub fn seed(twin: Twin) -> anyhow::Result<Vec<String>> {
    let text = std::fs::read_to_string(folder().join("seed.sql"))?;
    let mut out = String::with_capacity(text.len());
    for (at, piece) in text.split(['«', '»']).enumerate() {
        match (at % 2, twin) {
            (0, _) => out.push_str(piece),
            (_, Twin::Left) => out.push_str(pair(piece)?.0),
            (_, Twin::Right) => out.push_str(pair(piece)?.1),
        }
    }
    Ok(statements(&out))
}

/// Statements that end with `;` at a line's end; lines of comment left out.
pub fn statements(text: &str) -> Vec<String> {
    let plain: Vec<&str> = text.lines().filter(|line| !line.starts_with("--")).collect();
    let plain = plain.join("\n") + "\n";
    plain.split(";\n").map(|statement| statement.trim().to_owned()).filter(|statement| !statement.is_empty()).collect()
}

fn pair(piece: &str) -> anyhow::Result<(&str, &str)> {
    piece.split_once('|').with_context(|| format!("`{piece}` in seed.sql is no pair"))
}

/// Parts of protected values that only one twin has: none may reach a client that did not write it itself.
///
/// # Errors
///
/// When the seed is not readable.
pub fn canaries() -> anyhow::Result<BTreeSet<String>> {
    let text = std::fs::read_to_string(folder().join("seed.sql"))?;
    let mut parts = BTreeSet::new();
    for piece in text.split(['«', '»']).skip(1).step_by(2) {
        let (left, right) = pair(piece)?;
        for (own, other) in [(left, right), (right, left)] {
            let chars: Vec<char> = own.chars().collect();
            for window in [CANARY_CHARS_MIN, DIGITS_MIN].into_iter().flat_map(|length| chars.windows(length)) {
                let part: String = window.iter().collect();
                let lettered = part.chars().any(char::is_alphabetic);
                // Where whole rows differ, what is around their values is the seed's own SQL.
                if part.contains(['\'', ',', '(', ')']) {
                    continue;
                }
                if !other.contains(&part) && lettered == (window.len() == CANARY_CHARS_MIN) {
                    parts.insert(part);
                }
            }
        }
    }
    Ok(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn twins_differ_and_only_where_it_is_said() {
        let (left, right) = (seed(Twin::Left).unwrap(), seed(Twin::Right).unwrap());
        assert_eq!(left.len(), right.len());
        assert!(left.iter().any(|statement| statement.contains("Quvex Zyltha', '1984-03-17'")), "{left:?}");
        assert!(right.iter().any(|statement| statement.contains("Brovik Mandussen', '1984-11-28'")), "{right:?}");
        assert!(left.iter().chain(&right).all(|statement| !statement.contains(['«', '»'])));
        let canaries = canaries().unwrap();
        for part in ["Quve", "Mand", "900-41", "000717"] {
            assert!(canaries.contains(part), "{part}");
        }
        assert!(!canaries.contains("exam") && !canaries.contains("7891"), "what a mask shows is no canary");
        assert!(canaries.iter().all(|part| !part.contains('\'')), "nor is SQL");
    }
}
