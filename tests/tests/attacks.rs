//! The attack corpus, decided: what must be refused is, and what could run masked may.

#![allow(missing_docs, clippy::unwrap_used, reason = "tests may")]

use std::collections::BTreeMap;

use icegate_pdp_model::Outcome;
use icegate_pdp_pip::BundleDir;
use icegate_pdp_policy::Bundle;
use icegate_tests::attacks::{self, Attack, Must};

fn bundle() -> Bundle {
    let directory = tempfile::tempdir().unwrap();
    attacks::bundle_into(directory.path()).unwrap();
    BundleDir::new(directory.path().to_owned()).load().unwrap()
}

#[test]
fn what_must_be_refused_is_and_nothing_else() {
    let bundle = bundle();
    let mut wrong = Vec::new();
    let mut overblocked: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for Attack { technique, must, who, steps } in attacks::corpus().unwrap() {
        let sql = steps.first().unwrap();
        let decision = attacks::decided(&bundle, &who.person(), sql);
        match (must, decision.outcome) {
            (Must::Refused, Outcome::Deny)
            | (Must::Clear, Outcome::Allow)
            | (Must::Masked, Outcome::Allow | Outcome::Mask) => {}
            (Must::Refused, Outcome::Allow | Outcome::Mask | Outcome::NeedsApproval)
            | (Must::Clear, Outcome::Mask | Outcome::NeedsApproval | Outcome::Deny) => {
                wrong.push(format!("{technique}: {must:?}, yet {}: {sql}", decision.outcome));
            }
            (Must::Masked, Outcome::NeedsApproval | Outcome::Deny) => {
                let why = decision.reasons.first().map(|reason| reason.code.as_str()).unwrap_or_default();
                overblocked.entry(technique).or_default().push(format!("[{why}] {sql}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(overblocked.is_empty(), "these could run masked and are refused: {overblocked:#?}");
}

/// Fewer would be another corpus.
#[test]
fn the_corpus_is_broad() {
    let corpus = attacks::corpus().unwrap();
    let techniques: std::collections::BTreeSet<&str> = corpus.iter().map(|attack| attack.technique.as_str()).collect();
    assert!(techniques.len() >= 20, "{techniques:?}");
    for must in [Must::Refused, Must::Masked, Must::Clear] {
        let of = corpus.iter().filter(|attack| attack.must == must).count();
        assert!(of >= 25, "{of} that must be {must:?}");
    }
}
