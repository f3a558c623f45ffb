//! What is found, and what is not.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests may")]

use std::sync::LazyLock;

use icegate_pep_masking::{Detector, Pattern, PatternError, Scanner};
use proptest::prelude::*;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Group {
    about: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    text: String,
    shown: Option<String>,
}

fn employee() -> Pattern {
    Pattern { name: "employee".to_owned(), regex: r"\bEMP-[0-9]{4}\b".to_owned() }
}

fn scanner() -> &'static Scanner {
    static SCANNER: LazyLock<Scanner> = LazyLock::new(|| Scanner::new(&Detector::ALL, &[employee()]).unwrap());
    &SCANNER
}

#[test]
fn texts() {
    let scanner = scanner();
    let groups: Vec<Group> = serde_saphyr::from_str(include_str!("cases/scan.yaml")).unwrap();
    let mut wrong = Vec::new();
    for (about, case) in groups.iter().flat_map(|group| group.cases.iter().map(move |case| (&group.about, case))) {
        let mut shown = String::new();
        scanner.redact(&case.text, &mut shown);
        if shown != *case.shown.as_ref().unwrap_or(&case.text) {
            wrong.push(format!("{about}: {:?} became {shown:?}", case.text));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn documents() {
    let cases: Vec<Case> = serde_saphyr::from_str(include_str!("cases/documents.yaml")).unwrap();
    // With and without a pattern of one's own, which takes the slower way.
    for scanner in [scanner(), &Scanner::new(&Detector::ALL, &[]).unwrap()] {
        for case in &cases {
            let mut shown = String::new();
            scanner.redact_document(&case.text, &mut shown);
            assert_eq!(shown, *case.shown.as_ref().unwrap_or(&case.text), "{:?}", case.text);
        }
    }
}

#[test]
fn patterns_are_checked() {
    let refused = |name: &str, regex: &str| {
        Scanner::new(&[], &[Pattern { name: name.to_owned(), regex: regex.to_owned() }]).unwrap_err().to_string()
    };
    assert_eq!(refused("a", "("), "pattern `a`: it is not a regular expression");
    assert_eq!(refused("a", "x*"), "pattern `a`: it matches the empty text");
    assert_eq!(refused("a", &"x".repeat(1001)), "pattern `a`: it is longer than 1000 bytes");
    assert_eq!(refused("a", r"(?:\w{100}){100}"), "pattern `a`: it is too large when compiled");
    assert!(refused("A b", "x").starts_with("`A b` is neither"));
    let many = vec![Pattern { name: "a".to_owned(), regex: "x".to_owned() }; 101];
    assert_eq!(Scanner::new(&[], &many).unwrap_err(), PatternError::TooMany);
    for detector in Detector::ALL {
        assert_eq!(detector.as_str().parse::<Detector>().unwrap(), detector);
    }
}

/// A text with more candidates than the limit is redacted whole, and soon.
#[test]
fn too_many_finds_redact_the_whole() {
    let mut shown = String::new();
    scanner().redact(&"a@b.cd ".repeat(10_001), &mut shown);
    assert_eq!(shown, "[redacted]");
    shown.clear();
    scanner().redact(&"7".repeat(1 << 20), &mut shown);
    assert!(shown == "[redacted]" || shown.len() == 1 << 20);
}

/// A number with its check digit.
fn luhn() -> impl Strategy<Value = String> {
    ("[3-6][0-9]{11,17}").prop_map(|digits| {
        let sum: u32 = digits
            .bytes()
            .rev()
            .enumerate()
            .map(|(place, byte)| {
                let digit = u32::from(byte - b'0');
                if place % 2 == 0 { digit * 2 / 10 + digit * 2 % 10 } else { digit }
            })
            .sum();
        format!("{digits}{}", (10 - sum % 10) % 10)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_card_is_found_in_any_text(before in "[a-zA-Z ,;:é-]{0,20}", card in luhn(), after in "[a-zA-Z ,;:é]{0,20}") {
        let mut shown = String::new();
        scanner().redact(&format!("{before}{card}{after}"), &mut shown);
        prop_assert!(!shown.contains(&card), "{shown}");
        prop_assert!(shown.contains("[redacted"));
    }

    #[test]
    fn any_text_passes_or_is_redacted_and_nothing_panics(text in any::<String>(), digits in "[0-9A-Za-z@+ ./:_-]{0,200}") {
        let scanner = scanner();
        for text in [&text, &digits] {
            let (mut once, mut document) = (String::new(), String::new());
            scanner.redact(text, &mut once);
            scanner.redact_document(text, &mut document);
            if !once.contains("[redacted") {
                prop_assert_eq!(&once, text);
            }
        }
    }

    /// Redacting keeps JSON what it is.
    #[test]
    fn a_document_stays_json(text in any::<String>(), number in luhn()) {
        let document = serde_json::json!({ text.clone(): [text, number, null, 1.5], "n": number.parse::<u64>().ok() }).to_string();
        let mut shown = String::new();
        scanner().redact_document(&document, &mut shown);
        prop_assert!(!shown.contains(&number));
        prop_assert!(serde_json::from_str::<serde_json::Value>(&shown).is_ok(), "{shown}");
    }
}
