//! SQL by splicing: tokens of statements somebody wrote, cut, doubled, swapped and put into each other.

use std::fs;

use super::structure::bytes;
use crate::{
    generated::{Aliases, Dice, generate, rewritten},
    policies::root,
};

/// Statements to begin with.
#[derive(Debug)]
pub struct Seeds(Vec<Vec<String>>);

impl Seeds {
    /// Every statement of the SQL room's cases, as tokens.
    ///
    /// # Panics
    /// When there are none.
    pub fn of_cases() -> Self {
        let folder = root().join("pdp/core/sql/tests/cases");
        let mut seeds = Vec::new();
        for file in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let text = fs::read_to_string(file.path()).unwrap_or_default();
            let cases: Vec<serde_json::Value> = serde_saphyr::from_str(&text).unwrap_or_default();
            seeds.extend(cases.iter().filter_map(|case| case.get("sql")?.as_str()).map(tokens));
        }
        // The order of a folder is nobody's promise.
        seeds.sort();
        assert!(seeds.len() > 300, "{} statements in {}", seeds.len(), folder.display());
        Self(seeds)
    }
}

/// Words, literals, blanks and single characters, as far as that can be told without knowing better.
fn tokens(sql: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut quote = None;
    for c in sql.chars() {
        let word = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
        let joins = tokens.last().is_some_and(|last| last.chars().last().is_some_and(word)) && word(c);
        match tokens.last_mut() {
            Some(last) if quote.is_some() || joins => last.push(c),
            _ => tokens.push(c.to_string()),
        }
        quote = match quote {
            None if matches!(c, '\'' | '"') => Some(c),
            Some(open) if open == c => None,
            other => other,
        };
    }
    tokens
}

/// Words that change what the ones around them mean.
#[rustfmt::skip]
const WORDS: &[&str] = &[
    "SELECT", "FROM", "WHERE", "UNION ALL", "UNION BY NAME", "WITH x AS (", "LATERAL", "FLATTEN(", "PIVOT(",
    "UNPIVOT(", "QUALIFY", "GROUP BY ALL", "ORDER BY 1", "LIMIT 1", "CASE", "END", "BEGIN", "DECLARE", "LET",
    "RETURN", "FOR", "EXECUTE IMMEDIATE", "CALL", "COPY INTO", "'s3://b/x'", "@st/x", "@~", "$1", "$$", "'", "\"",
    ";", ";;", "--", "//", "/*", "*/", "\\", "`", "#", "\n", "\r", "\r\n", "\t", "\0", "\u{a0}", "\u{200b}",
    "\u{202e}", "é", "::", ":", "=>", "->>", "(", ")", "[", "]", "{", "}", ",", ".", "..", "*", "{*}", "* EXCLUDE",
    "* ILIKE 'a%'", "IDENTIFIER('t')", "TABLE(", "AT(OFFSET => -1)", "SAMPLE (10)", "MATCH_RECOGNIZE(", "INSERT ALL",
    "MERGE INTO", "WHEN MATCHED THEN", "DELETE", "CREATE OR REPLACE", "TABLE", "VIEW", "AS", "CLONE", "DROP",
    "GRANT", "TO ROLE", "USE", "SHOW", "ALTER", "EXPLAIN", "NULL", "0x1F", "1e999", "?", ":name", "U&'x'", "N'x'",
    "customers", "c", "ssn", "email", "v_cust",
];

/// A text that is nearly a statement, or one.
pub fn sql(seeds: &Seeds, dice: &mut Dice) -> String {
    let mut tokens = match dice.below(4) {
        0 => generate(dice.roll(), Aliases::Short).sql.split(' ').flat_map(|it| [it.to_owned(), " ".into()]).collect(),
        _ => dice.pick(&seeds.0).clone(),
    };
    for _ in 0..dice.below(6) {
        let at = dice.below(tokens.len() + 1);
        match dice.below(9) {
            // A part of another statement.
            0 | 1 => {
                let other = dice.pick(&seeds.0);
                let from = dice.below(other.len() + 1);
                let to = (from + dice.below(12)).min(other.len());
                let part: Vec<String> = other.iter().take(to).skip(from).cloned().collect();
                drop(tokens.splice(at..at, part));
            }
            2 | 3 => {
                let word = [" ".to_owned(), (*dice.pick(WORDS)).to_owned(), " ".to_owned()];
                drop(tokens.splice(at..at, word));
            }
            4 => drop(tokens.drain(at..(at + 1 + dice.below(4)).min(tokens.len()).max(at))),
            5 if at < tokens.len() => {
                let other = dice.below(tokens.len());
                tokens.swap(at, other);
            }
            6 => {
                // Deeper and deeper, or longer and longer.
                let times = 1 << dice.below(9);
                let (open, close) =
                    *dice.pick(&[("(", ")"), ("ABS(", ")"), ("(SELECT ", ")"), ("NOT ", ""), ("1+", ""), ("[", "]")]);
                let end = (at + 1 + dice.below(6)).min(tokens.len()).max(at);
                tokens.insert(end, close.repeat(times));
                tokens.insert(at, open.repeat(times));
            }
            7 => tokens.truncate(at),
            _ => {
                tokens.push(" ; ".into());
                tokens.extend(dice.pick(&seeds.0).clone());
            }
        }
    }
    let text: String = tokens.concat();
    match dice.below(12) {
        0 => rewritten(&text, dice),
        1 => String::from_utf8_lossy(&super::mutated_bytes(text.as_bytes(), dice)).into_owned(),
        2 if dice.one_in(8) => String::from_utf8_lossy(&bytes(dice, 200)).into_owned(),
        _ => text,
    }
}
