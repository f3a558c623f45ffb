//! Check digits. Each takes a candidate that has the pattern's shape; what is not a digit or letter is passed over.

use std::ops::Range;

/// Luhn's check (ISO/IEC 7812-1, annex B).
pub(super) fn luhn(digits: &[u8]) -> bool {
    let sum: u32 = digits
        .iter()
        .rev()
        .enumerate()
        .map(|(place, digit)| match u32::from(*digit) * if place % 2 == 1 { 2 } else { 1 } {
            over @ 10.. => over - 9,
            single => single,
        })
        .sum();
    !digits.is_empty() && sum.is_multiple_of(10)
}

pub(super) fn luhn_digits(candidate: &str) -> bool {
    luhn(&digits(candidate))
}

/// Card numbers in a run of digit groups: 13 to 19 digits of whole groups, of an issuer's first digit.
pub(super) fn cards(run: &str, ranges: &mut Vec<Range<usize>>) {
    let placed: Vec<(usize, u8)> =
        run.bytes().enumerate().filter(|(_, byte)| byte.is_ascii_digit()).map(|(at, byte)| (at, byte - b'0')).collect();
    let digits: Vec<u8> = placed.iter().map(|(_, digit)| *digit).collect();
    let place = |index: usize| placed.get(index).map(|(at, _)| *at);
    let is_first =
        |index: usize| index.checked_sub(1).and_then(place).is_none_or(|before| place(index) != Some(before + 1));
    for start in (0..digits.len()).filter(|index| is_first(*index)) {
        for count in (13..=19).filter(|count| start + count == digits.len() || is_first(start + count)) {
            let Some(number) = digits.get(start..start + count) else { break };
            let issued = number.first().is_some_and(|first| (2..=6).contains(first));
            if issued
                && luhn(number)
                && let (Some(from), Some(to)) = (place(start), place(start + count - 1))
            {
                ranges.push(from..to + 1);
            }
        }
    }
}

/// Account numbers at the start of a candidate, of every length that passes modulo 97 (ISO 13616-1).
pub(super) fn ibans(candidate: &str, ranges: &mut Vec<Range<usize>>) {
    let mut characters = candidate.bytes().enumerate().filter(|(_, byte)| byte.is_ascii_alphanumeric());
    let head: Vec<u8> = characters.by_ref().take(4).map(|(_, byte)| byte).collect();
    let step = |rest: u32, byte: u8| match u32::from(byte.to_ascii_uppercase()) {
        letter @ 65.. => (rest * 100 + (letter - 55)) % 97,
        digit => (rest * 10 + digit.saturating_sub(48)) % 97,
    };
    let mut rest = 0;
    for (index, (at, byte)) in characters.enumerate() {
        rest = step(rest, byte);
        // The shortest, Norway's, has 15 characters.
        if index + 1 + head.len() >= 15 && head.iter().fold(rest, |rest, byte| step(rest, *byte)) == 1 {
            ranges.push(0..at + 1);
        }
    }
}

/// Areas 000, 666 and 900 to 999, group 00 and serial 0000 are not issued.
pub(super) fn us_ssn(candidate: &str) -> bool {
    let number = number(&digits(candidate));
    let (area, group, serial) = (number / 1_000_000, number / 10_000 % 100, number % 10_000);
    !matches!(area, 0 | 666 | 900..) && group != 0 && serial != 0
}

/// HMRC's prefixes.
pub(super) fn gb_nino(candidate: &str) -> bool {
    let upper = candidate.to_ascii_uppercase();
    let mut letters = upper.chars();
    let (Some(first), Some(second)) = (letters.next(), letters.next()) else { return false };
    let prefix: String = [first, second].iter().collect();
    !"DFIQUV".contains(first)
        && !"DFIOQUV".contains(second)
        && !["BG", "GB", "KN", "NK", "NT", "TN", "ZZ"].contains(&prefix.as_str())
}

/// The letter is the number modulo 23.
pub(super) fn es_dni(candidate: &str) -> bool {
    let upper = candidate.to_ascii_uppercase();
    let prefix = match upper.bytes().next() {
        Some(b'Y') => 10_000_000,
        Some(b'Z') => 20_000_000,
        _ => 0,
    };
    let place = (prefix + number(&digits(&upper))) % 23;
    usize::try_from(place).ok().and_then(|place| b"TRWAGMYFPDXBNJZSQVHLCKE".get(place).copied()) == upper.bytes().last()
}

/// Decreto ministeriale 23/12/1976: odd places by a table, even ones by value, modulo 26.
pub(super) fn it_codice_fiscale(candidate: &str) -> bool {
    const ODD: [u32; 26] =
        [1, 0, 5, 7, 9, 13, 15, 17, 19, 21, 2, 4, 18, 20, 11, 3, 6, 8, 12, 14, 16, 10, 22, 25, 24, 23];
    let upper = candidate.to_ascii_uppercase();
    let values = upper.bytes().map(|byte| if byte.is_ascii_digit() { byte - b'0' } else { byte.saturating_sub(b'A') });
    let values: Vec<u8> = values.collect();
    let Some((last, rest)) = values.split_last() else { return false };
    let sum: u32 = rest
        .iter()
        .enumerate()
        .map(|(place, value)| match place % 2 {
            0 => ODD.get(usize::from(*value)).copied().unwrap_or_default(),
            _ => u32::from(*value),
        })
        .sum();
    upper.len() == 16 && sum % 26 == u32::from(*last)
}

/// The last two digits are 97 less the rest modulo 97; Corsica's 2A and 2B count as 19 and 18.
pub(super) fn fr_nir(candidate: &str) -> bool {
    let plain: String = candidate.chars().filter(|c| !c.is_whitespace()).collect();
    let plain = plain.replacen("2A", "19", 1).replacen("2B", "18", 1);
    let digits = digits(&plain);
    let Some((number_part, key)) = digits.split_at_checked(13) else { return false };
    digits.len() == 15 && 97 - number(number_part) % 97 == number(key)
}

/// Weights 1, 3, 7, 9; the birth date's month carries the century.
pub(super) fn pl_pesel(candidate: &str) -> bool {
    let digits = digits(candidate);
    let sum: u32 = digits.iter().zip([1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]).map(|(digit, w)| u32::from(*digit) * w).sum();
    let date = number(digits.get(..6).unwrap_or_default());
    digits.len() == 11 && sum.is_multiple_of(10) && is_month(date / 100 % 20) && is_day(date % 100)
}

/// Two check digits modulo 11; eleven equal digits are none.
pub(super) fn br_cpf(candidate: &str) -> bool {
    let digits = digits(candidate);
    let check = |count: u32| {
        let sum: u32 = digits.iter().zip((2..=count + 1).rev()).map(|(digit, weight)| u32::from(*digit) * weight).sum();
        sum * 10 % 11 % 10
    };
    let equal = digits.iter().all(|digit| Some(digit) == digits.first());
    let last: Vec<u32> = digits.iter().skip(9).map(|digit| u32::from(*digit)).collect();
    digits.len() == 11 && !equal && last == [check(9), check(10)]
}

/// Verhoeff's check.
pub(super) fn in_aadhaar(candidate: &str) -> bool {
    const PRODUCT: [[u8; 10]; 10] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [1, 2, 3, 4, 0, 6, 7, 8, 9, 5],
        [2, 3, 4, 0, 1, 7, 8, 9, 5, 6],
        [3, 4, 0, 1, 2, 8, 9, 5, 6, 7],
        [4, 0, 1, 2, 3, 9, 5, 6, 7, 8],
        [5, 9, 8, 7, 6, 0, 4, 3, 2, 1],
        [6, 5, 9, 8, 7, 1, 0, 4, 3, 2],
        [7, 6, 5, 9, 8, 2, 1, 0, 4, 3],
        [8, 7, 6, 5, 9, 3, 2, 1, 0, 4],
        [9, 8, 7, 6, 5, 4, 3, 2, 1, 0],
    ];
    const PLACE: [[u8; 10]; 8] = [
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9],
        [1, 5, 7, 6, 2, 8, 3, 0, 9, 4],
        [5, 8, 0, 3, 7, 9, 6, 1, 4, 2],
        [8, 9, 1, 6, 0, 4, 3, 5, 2, 7],
        [9, 4, 5, 3, 1, 2, 6, 8, 7, 0],
        [4, 2, 8, 6, 5, 7, 3, 9, 0, 1],
        [2, 7, 9, 3, 8, 0, 6, 4, 1, 5],
        [7, 0, 4, 6, 9, 1, 3, 2, 5, 8],
    ];
    let at = |table: &[[u8; 10]], row: usize, column: u8| {
        table.get(row).and_then(|row| row.get(usize::from(column))).copied().unwrap_or_default()
    };
    let digits = digits(candidate);
    let rest = digits
        .iter()
        .rev()
        .enumerate()
        .fold(0, |rest, (place, digit)| at(&PRODUCT, usize::from(rest), at(&PLACE, place % 8, *digit)));
    digits.len() == 12 && rest == 0
}

/// Birth date and serial, nine digits, modulo 31.
pub(super) fn fi_hetu(candidate: &str) -> bool {
    let Some((rest, check)) = candidate.split_at_checked(candidate.len().saturating_sub(1)) else { return false };
    // The sign of the century may be a letter, never a digit.
    let digits = digits(rest);
    let date = number(digits.get(..6).unwrap_or_default());
    let place = usize::try_from(number(&digits) % 31).unwrap_or(usize::MAX);
    digits.len() == 9
        && is_day(date / 10_000)
        && is_month(date / 100 % 100)
        && b"0123456789ABCDEFHJKLMNPRSTUVWXY".get(place).copied() == check.bytes().next()
}

/// Luhn's check over the last ten digits; a day over 60 is a coordination number's.
pub(super) fn se_personnummer(candidate: &str) -> bool {
    let digits = digits(candidate);
    let last = digits.get(digits.len().saturating_sub(10)..).unwrap_or_default();
    let date = number(last.get(..6).unwrap_or_default());
    last.len() == 10 && luhn(last) && is_month(date / 100 % 100) && is_day(date % 100 % 60)
}

fn digits(text: &str) -> Vec<u8> {
    text.bytes().filter(u8::is_ascii_digit).map(|byte| byte - b'0').collect()
}

/// Of at most 19 digits.
fn number(digits: &[u8]) -> u64 {
    digits.iter().fold(0, |number: u64, digit| number.wrapping_mul(10).wrapping_add(u64::from(*digit)))
}

fn is_month(month: u64) -> bool {
    (1..=12).contains(&month)
}

fn is_day(day: u64) -> bool {
    (1..=31).contains(&day)
}
