//! The patterns icegate knows.

use std::ops::Range;

use super::{Detector, checks};

/// One pattern.
pub(super) struct Known {
    pub(super) detector: Detector,
    pub(super) regex: &'static str,
    pub(super) edge: Edge,
    pub(super) check: Check,
}

/// What must not stand next to a hit: it would be a part of something longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    /// Anything may.
    Any,
    /// No digit.
    Digit,
    /// No ASCII letter, digit or underscore.
    Word,
}

impl Edge {
    pub(super) fn holds(self, text: &str, range: &Range<usize>) -> bool {
        let bytes = text.as_bytes();
        let before = range.start.checked_sub(1).and_then(|index| bytes.get(index));
        let joins = |byte: &u8| match self {
            Self::Any => false,
            Self::Digit => byte.is_ascii_digit(),
            Self::Word => byte.is_ascii_alphanumeric() || *byte == b'_',
        };
        !before.is_some_and(joins) && !bytes.get(range.end).is_some_and(joins)
    }
}

/// What makes a candidate a hit.
#[derive(Debug, Clone, Copy)]
pub(super) enum Check {
    /// Nothing more.
    Whole,
    /// This.
    If(fn(&str) -> bool),
    /// These parts of it, which all start where it does.
    Parts(fn(&str, &mut Vec<Range<usize>>)),
    /// These parts of it, wherever they start.
    AllParts(fn(&str, &mut Vec<Range<usize>>)),
}

impl Check {
    /// Adds the places in the candidate that pass.
    pub(super) fn ranges(self, candidate: &str, ranges: &mut Vec<Range<usize>>) {
        match self {
            Self::Whole => ranges.push(0..candidate.len()),
            Self::If(passes) => {
                if passes(candidate) {
                    ranges.push(0..candidate.len());
                }
            }
            Self::Parts(parts) | Self::AllParts(parts) => parts(candidate, ranges),
        }
    }

    /// Whether it looked at every start within the candidate.
    pub(super) fn sees_all(self) -> bool {
        match self {
            Self::Whole | Self::If(_) | Self::Parts(_) => false,
            Self::AllParts(_) => true,
        }
    }
}

const fn known(detector: Detector, edge: Edge, check: Check, regex: &'static str) -> Known {
    Known { detector, regex, edge, check }
}

/// Digits and letters are ASCII throughout; `\w` in addresses is any script's. Of two that find the same place the first names it: what
/// has the stronger check stands before the weaker.
pub(super) const KNOWN: &[Known] = &[
    known(Detector::NationalId, Edge::Digit, Check::If(checks::us_ssn), r"[0-9]{3}[ -][0-9]{2}[ -][0-9]{4}"),
    known(Detector::NationalId, Edge::Digit, Check::Whole, r"(?i:ssn|social security)[A-Za-z .:#=_-]{0,24}[0-9]{9}"),
    known(
        Detector::NationalId,
        Edge::Word,
        Check::If(checks::gb_nino),
        r"[A-Za-z]{2} ?[0-9]{2} ?[0-9]{2} ?[0-9]{2} ?[A-Da-d]",
    ),
    known(Detector::NationalId, Edge::Digit, Check::If(checks::luhn_digits), r"[0-9]{3}[ -][0-9]{3}[ -][0-9]{3}"),
    known(Detector::NationalId, Edge::Word, Check::If(checks::es_dni), r"(?:[0-9]{8}|[XYZxyz][0-9]{7})-?[A-Za-z]"),
    known(
        Detector::NationalId,
        Edge::Word,
        Check::If(checks::it_codice_fiscale),
        r"[A-Za-z]{6}[0-9LMNP-Vlmnp-v]{2}[A-Za-z][0-9LMNP-Vlmnp-v]{2}[A-Za-z][0-9LMNP-Vlmnp-v]{3}[A-Za-z]",
    ),
    known(
        Detector::NationalId,
        Edge::Word,
        Check::If(checks::fr_nir),
        r"[1-478] ?[0-9]{2} ?[0-9]{2} ?(?:[0-9]{2}|2[AB]) ?[0-9]{3} ?[0-9]{3} ?[0-9]{2}",
    ),
    known(Detector::NationalId, Edge::Word, Check::If(checks::pl_pesel), r"[0-9]{11}"),
    known(Detector::NationalId, Edge::Digit, Check::If(checks::br_cpf), r"[0-9]{3}\.[0-9]{3}\.[0-9]{3}-[0-9]{2}"),
    known(Detector::NationalId, Edge::Word, Check::If(checks::in_aadhaar), r"[2-9][0-9]{3}[ -]?[0-9]{4}[ -]?[0-9]{4}"),
    known(
        Detector::NationalId,
        Edge::Word,
        Check::If(checks::fi_hetu),
        r"[0-3][0-9][01][0-9]{3}[-+A-FU-Y][0-9]{3}[0-9A-FHJ-NPR-Y]",
    ),
    known(Detector::NationalId, Edge::Word, Check::If(checks::se_personnummer), r"(?:18|19|20)?[0-9]{6}[-+][0-9]{4}"),
    known(Detector::Iban, Edge::Word, Check::Parts(checks::ibans), r"[A-Za-z]{2}[0-9]{2}(?:[ -]?[A-Za-z0-9]){11,30}"),
    known(Detector::Card, Edge::Digit, Check::AllParts(checks::cards), r"[0-9](?:[ .\-\x{A0}]?[0-9]){12,}"),
    known(Detector::Email, Edge::Any, Check::Whole, r#"(?:[\w.%+'-]+|"[ !#-~]{1,64}")@[\w-]+(?:\.[\w-]+)+"#),
    known(
        Detector::Secret,
        Edge::Any,
        Check::Whole,
        r"(?s)-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----.*?(?:-----END [A-Z0-9 ]{0,40}PRIVATE KEY(?: BLOCK)?-----|\z)",
    ),
    known(Detector::Secret, Edge::Any, Check::Whole, r"eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*"),
    known(
        Detector::Secret,
        Edge::Word,
        Check::Whole,
        r"(?:AKIA|ASIA|ABIA|ACCA)[A-Z2-7]{16}|gh[opsur]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,}",
    ),
    known(
        Detector::Secret,
        Edge::Any,
        Check::Whole,
        r#"(?i:aws|secret)[A-Za-z0-9_ .-]{0,30}(?i:key|token)[ =:>"']{1,8}[A-Za-z0-9/+]{40}"#,
    ),
    known(
        Detector::Secret,
        Edge::Any,
        Check::Whole,
        r"glpat-[A-Za-z0-9_-]{20,}|npm_[A-Za-z0-9]{36}|pypi-[A-Za-z0-9_-]{50,}|AIza[A-Za-z0-9_-]{35}|ya29\.[A-Za-z0-9_-]{20,}",
    ),
    known(
        Detector::Secret,
        Edge::Any,
        Check::Whole,
        r"xox[abeoprs]-[A-Za-z0-9-]{10,}|xapp-[A-Za-z0-9-]{10,}|hooks\.slack\.com/services/[A-Za-z0-9/]{20,}",
    ),
    known(
        Detector::Secret,
        Edge::Any,
        Check::Whole,
        r"[rs]k_(?:live|test)_[A-Za-z0-9]{16,}|whsec_[A-Za-z0-9]{24,}|sk-[A-Za-z0-9_-]{20,}|SG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    ),
    known(Detector::Secret, Edge::Any, Check::Whole, r"[a-z][a-z0-9+.-]*://[^/\s:@]*:[^/\s@]+@"),
    known(Detector::Phone, Edge::Digit, Check::Whole, r"\+[0-9](?:[ .()/-]{0,3}[0-9]){7,14}"),
    known(
        Detector::Phone,
        Edge::Digit,
        Check::Whole,
        r"(?:1[ .-])?(?:\([2-9][0-9]{2}\) ?|[2-9][0-9]{2}[ .-])[2-9][0-9]{2}[ .-]?[0-9]{4}",
    ),
    known(Detector::Phone, Edge::Digit, Check::Whole, r"00[1-9][0-9]{0,2}[ /-](?:[ ()/-]{0,2}[0-9]){6,12}"),
    known(Detector::Phone, Edge::Digit, Check::Whole, r"\(?0[1-9][0-9]{1,4}\)?[ /-](?:[ -]?[0-9]){6,9}"),
];

/// What stands around a private key.
const KEY_FENCE: &str = "-----";
/// Fewest characters of codes and names, without a blank, in what is found that has no digit and no `@`.
const WORD_CHARS_MIN: usize = 15;

/// Whether one of the patterns can match: a look that costs much less than theirs, for the many texts that are words only.
pub(super) fn may_match(text: &str) -> bool {
    let (eights, rest) = text.as_bytes().as_chunks::<8>();
    let (mut filled, mut dash) = (false, rest.contains(&b'-'));
    for eight in eights {
        let eight = u64::from_ne_bytes(*eight);
        if has_below(10, eight ^ each(b'0')) || has_below(1, eight ^ each(b'@')) {
            return true;
        }
        // Eight bytes without a blank, counted from the beginning, are within every long word; few texts have any.
        filled |= !has_below(b' ' + 1, eight);
        dash |= has_below(1, eight ^ each(b'-'));
    }
    rest.iter().any(|byte| byte.is_ascii_digit() || *byte == b'@')
        || (filled && has_long_word(text.as_bytes()))
        || (dash && text.contains(KEY_FENCE))
}

fn has_long_word(text: &[u8]) -> bool {
    let mut word = 0;
    text.iter().any(|byte| {
        word = if byte.is_ascii_alphabetic() || b"_./+-".contains(byte) { word + 1 } else { 0 };
        word == WORD_CHARS_MIN
    })
}

/// This byte eight times.
const fn each(byte: u8) -> u64 {
    u64::from_ne_bytes([byte; 8])
}

/// Whether one of eight bytes is below `limit`, which is at most 128: what borrows is one that is, or is above it.
const fn has_below(limit: u8, eight: u64) -> bool {
    eight.wrapping_sub(each(limit)) & !eight & each(0x80) != 0
}

#[cfg(test)]
mod tests {
    use proptest::{
        strategy::{Strategy as _, ValueTree as _},
        string::string_regex,
        test_runner::TestRunner,
    };

    use super::*;

    #[test]
    fn one_of_eight() {
        for limit in [1, 10, 33, 128] {
            for byte in 0..=255 {
                for (at, others) in (0..8).flat_map(|at| [127, 128, 255].map(|others| (at, others))) {
                    let mut eight = [others; 8];
                    eight[at] = byte;
                    let wanted = byte < limit || others < limit;
                    assert_eq!(has_below(limit, u64::from_ne_bytes(eight)), wanted, "{limit}: {eight:?}");
                }
            }
        }
    }

    /// Many texts that each pattern matches: not one is taken for words only.
    #[test]
    fn whatever_a_pattern_matches_is_looked_at() {
        let mut runner = TestRunner::deterministic();
        for known in KNOWN {
            // Its texts have an end, and no generator makes the end of a text.
            let texts = string_regex(&known.regex.replace(r"|\z", "")).unwrap();
            for _ in 0..500 {
                let text = texts.new_tree(&mut runner).unwrap().current();
                assert!(may_match(&text), "{}: {text:?}", known.regex);
            }
        }
        assert!(!may_match("the ordinary courts sleep quickly above the final, even packages of the week"));
        assert!(may_match("-----BEGIN PRIVATE KEY----- and no more"));
    }
}
