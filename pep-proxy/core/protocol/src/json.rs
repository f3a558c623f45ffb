//! JSON as strict as a gate needs it: no duplicate keys, no endless depth, a bounded number of values.

use std::{cell::Cell, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// How much is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) depth_max: usize,
    pub(crate) values_max: usize,
}

/// Reads one JSON value and nothing after it. The error carries no content.
pub(crate) fn parse(text: &[u8], bounds: Bounds) -> Result<Value, Unreadable> {
    let left = Cell::new(bounds.values_max);
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = strict(bounds, &left).deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

/// Reads one JSON value where it stands in a longer text. `left` counts down from `bounds.values_max`.
pub(crate) fn strict(bounds: Bounds, left: &Cell<usize>) -> Strict<'_> {
    Strict { depth_left: bounds.depth_max, values_left: left }
}

/// Why text is not JSON for us. Line and column only: the content may be secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not readable as strict JSON at line {line}, column {column}")]
pub struct Unreadable {
    line: usize,
    column: usize,
}

impl From<serde_json::Error> for Unreadable {
    fn from(error: serde_json::Error) -> Self {
        Self { line: error.line(), column: error.column() }
    }
}

/// A value that is read strictly.
#[derive(Clone, Copy)]
pub(crate) struct Strict<'a> {
    depth_left: usize,
    values_left: &'a Cell<usize>,
}

impl Strict<'_> {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth_left = self.depth_left.checked_sub(1).ok_or_else(|| E::custom("too deep"))?;
        Ok(Self { depth_left, ..self })
    }
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.values_left.get().checked_sub(1).ok_or_else(|| D::Error::custom("too many values"))?;
        self.values_left.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(inner)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut map = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            let value = entries.next_value_seed(inner)?;
            if map.insert(key, value).is_some() {
                return Err(A::Error::custom("duplicate key"));
            }
        }
        Ok(Value::Object(map))
    }
}

/// A string, number or boolean as text: drivers and servers type scalars loosely.
pub(crate) fn scalar_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A whole number, also as text.
pub(crate) fn whole_number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::String(text) => text.trim().parse().ok(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A boolean, also as text or as 0 and 1.
pub(crate) fn truth(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(flag) => Some(*flag),
        Value::Number(number) => match number.as_u64() {
            Some(0) => Some(false),
            Some(1) => Some(true),
            _ => None,
        },
        Value::String(text) if text.eq_ignore_ascii_case("true") => Some(true),
        Value::String(text) if text.eq_ignore_ascii_case("false") => Some(false),
        Value::Null | Value::String(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

/// A text that is there and says something.
pub(crate) fn text<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    map.get(key).and_then(Value::as_str).filter(|text| !text.is_empty())
}

/// Compact text with keys sorted at every level: equal values give equal bytes.
pub(crate) fn canonical(value: &Value) -> String {
    sorted(value).to_string()
}

fn sorted(value: &Value) -> Value {
    match value {
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(key, _)| *key);
            Value::Object(entries.into_iter().map(|(key, value)| (key.clone(), sorted(value))).collect())
        }
        scalar @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => scalar.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: Bounds = Bounds { depth_max: 3, values_max: 8 };

    #[test]
    fn reads_what_is_one_bounded_value() {
        for (text, readable) in [
            (r#"{"a": [1, null, "x", true, 1.5]}"#, true),
            (r"[[[]]]", true),
            (r"[[[[]]]]", false),
            (r"[1,2,3,4,5,6,7]", true),
            (r"[1,2,3,4,5,6,7,8]", false),
            (r#"{"a": 1, "a": 1}"#, false),
            (r#"{"a": 1, "\u0061": 1}"#, false),
            (r"NaN", false),
            (r"1e999", false),
            (r"{} {}", false),
            ("\u{feff}{}", false),
            ("", false),
        ] {
            assert_eq!(parse(text.as_bytes(), BOUNDS).is_ok(), readable, "{text}");
        }
    }

    #[test]
    fn canonical_text_does_not_depend_on_order() {
        let bounds = Bounds { depth_max: 9, values_max: 99 };
        let one = parse(br#"{"b": {"y": 1, "x": [2, {"q": 1, "p": 2}]}, "a": "1"}"#, bounds).unwrap();
        let two = parse(br#"{"a": "1", "b": {"x": [2, {"p": 2, "q": 1}], "y": 1}}"#, bounds).unwrap();
        assert_eq!(canonical(&one), canonical(&two));
        assert_eq!(canonical(&one), r#"{"a":"1","b":{"x":[2,{"p":2,"q":1}],"y":1}}"#);
    }
}
