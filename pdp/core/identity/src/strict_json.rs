use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Why a text is not one JSON object with one meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StrictError {
    /// An object names something twice: two readers would read two things.
    Duplicate,
    /// Not JSON, or not an object.
    NotAnObject,
}

/// What the visitor says on a repeated name; looked for in the error's text, which is all serde hands back.
const DUPLICATE: &str = "icegate: duplicate name";

/// Reads one object in which no object has a name twice.
pub(crate) fn object(bytes: &[u8]) -> Result<Map<String, Value>, StrictError> {
    match serde_json::from_slice::<Strict>(bytes) {
        Ok(Strict(Value::Object(object))) => Ok(object),
        Err(error) if error.to_string().starts_with(DUPLICATE) => Err(StrictError::Duplicate),
        Ok(_) | Err(_) => Err(StrictError::NotAnObject),
    }
}

struct Strict(Value);

impl<'de> Deserialize<'de> for Strict {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(StrictVisitor).map(Self)
    }
}

struct StrictVisitor;

impl<'de> Visitor<'de> for StrictVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut values = Vec::new();
        while let Some(Strict(value)) = seq.next_element()? {
            values.push(value);
        }
        Ok(Value::Array(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some((name, Strict(value))) = map.next_entry::<String, Strict>()? {
            if object.insert(name, value).is_some() {
                return Err(A::Error::custom(DUPLICATE));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::{StrictError, object};

    #[test]
    fn a_repeated_name_is_refused_at_any_depth() {
        for (text, wanted) in [
            (r#"{"a":1,"b":{"a":1}}"#, Ok(())),
            (r#"{"a":1,"a":1}"#, Err(StrictError::Duplicate)),
            (r#"{"a":1,"\u0061":2}"#, Err(StrictError::Duplicate)),
            (r#"{"x":[{"a":1,"a":2}]}"#, Err(StrictError::Duplicate)),
            ("[]", Err(StrictError::NotAnObject)),
            ("{} {}", Err(StrictError::NotAnObject)),
            ("", Err(StrictError::NotAnObject)),
        ] {
            assert_eq!(object(text.as_bytes()).map(|_| ()), wanted, "{text}");
        }
    }
}
