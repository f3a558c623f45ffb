//! Bytes, lines and JSON that are nearly what a parser wants.

use serde_json::Value;

use crate::generated::Dice;

/// Any bytes, at most so many.
pub fn bytes(dice: &mut Dice, most: usize) -> Vec<u8> {
    (0..dice.below(most + 1)).map(|_| dice.roll().to_le_bytes()[0]).collect()
}

/// The bytes with a few of them changed, doubled, cut out or moved.
pub fn mutated_bytes(of: &[u8], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = of.to_vec();
    for _ in 0..=dice.below(3) {
        let at = dice.below(bytes.len() + 1);
        match dice.below(5) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
            }
            1 => bytes.insert(at, dice.roll().to_le_bytes()[0]),
            2 if at < bytes.len() => drop(bytes.remove(at)),
            3 => {
                let part: Vec<u8> = bytes.iter().skip(at).take(1 + dice.below(20)).copied().collect();
                let to = dice.below(bytes.len() + 1);
                drop(bytes.splice(to..to, part));
            }
            _ => bytes.truncate(at.max(1)),
        }
    }
    bytes
}

/// Words that mean something to YAML, JSON or Cedar.
#[rustfmt::skip]
const WORDS: &[&str] = &[
    "&a", "*a", "<<: *a", "!!binary", "!tag", "---", "...", "[", "]", "{", "}", "'", "\"", "|", ">", "? ", ": ",
    "- ", "#", "null", "~", "true", "1e400", "-0", "0x10", "\t", "permit (principal, action, resource);", "forbid",
    "unless {", "when {", "@id(\"x\")", "@mask(\"email\")", "@approval", "principal in", "Icegate::Group::\"x\"",
    "\u{feff}", "\u{200b}", "x: y", "é",
];

/// A text with lines doubled, moved, set in, and words put in between.
pub fn mutated_lines(of: &str, dice: &mut Dice) -> String {
    let mut lines: Vec<String> = of.lines().map(str::to_owned).collect();
    for _ in 0..=dice.below(4) {
        let at = dice.below(lines.len());
        match dice.below(7) {
            0 => {
                let doubled = lines.get(at).cloned().unwrap_or_default();
                lines.insert(at, doubled);
            }
            1 if !lines.is_empty() => drop(lines.remove(at)),
            2 if !lines.is_empty() => {
                let to = dice.below(lines.len());
                lines.swap(at, to);
            }
            3 => {
                if let Some(line) = lines.get_mut(at) {
                    line.insert_str(0, "  ");
                }
            }
            4 => lines.insert(at, (*dice.pick(WORDS)).to_owned()),
            5 => {
                let Some(line) = lines.get_mut(at) else { continue };
                let places: Vec<usize> = line.char_indices().map(|(at, _)| at).chain([line.len()]).collect();
                line.insert_str(*dice.pick(&places), dice.pick::<&str>(WORDS));
            }
            _ => return String::from_utf8_lossy(&mutated_bytes(lines.join("\n").as_bytes(), dice)).into_owned(),
        }
    }
    lines.join("\n")
}

/// The JSON with some of its values changed in kind, nested, emptied, or taken from elsewhere in it; and its text.
pub fn json_text(of: &Value, dice: &mut Dice) -> String {
    let mut value = of.clone();
    for _ in 0..dice.below(4) {
        let places = count(&value);
        let (at, from) = (dice.below(places), dice.below(places));
        let other = nth(&mut value, &mut from.clone()).map_or(Value::Null, |it| it.clone());
        if let Some(place) = nth(&mut value, &mut at.clone()) {
            *place = match dice.below(8) {
                0 => Value::Null,
                1 => Value::from(dice.roll()),
                2 => Value::from(String::from_utf8_lossy(&bytes(dice, 20)).into_owned()),
                3 => Value::Array((0..dice.below(80)).fold(vec![other], |inner, _| vec![Value::Array(inner)])),
                4 => Value::Array(vec![place.clone(); 1 + dice.below(40)]),
                5 => Value::from(-1.5e300),
                _ => other,
            };
        }
    }
    let text = value.to_string();
    match dice.below(6) {
        0 => String::from_utf8_lossy(&mutated_bytes(text.as_bytes(), dice)).into_owned(),
        _ => text,
    }
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(map) => map.values().map(count).sum::<usize>(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
    }
}

fn nth<'v>(value: &'v mut Value, at: &mut usize) -> Option<&'v mut Value> {
    if *at == 0 {
        return Some(value);
    }
    *at -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, at)),
        Value::Object(map) => map.values_mut().find_map(|item| nth(item, at)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}
