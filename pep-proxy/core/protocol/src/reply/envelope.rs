use std::{borrow::Cow, cell::Cell, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error as _, IgnoredAny, MapAccess, Visitor},
};
use serde_json::{Value, value::RawValue};

use super::ReplyRefusal;
use crate::{
    Limits,
    json::{self, Bounds},
    limits::MESSAGE_CHARS_MAX,
    refusal::one_line,
};

/// `{data, success, code, message}`, the rest left out.
#[derive(Default)]
pub(super) struct Envelope<'a> {
    pub(super) success: bool,
    pub(super) code: String,
    /// As it came: see [`lines`].
    pub(super) message: String,
    pub(super) data: Vec<(Cow<'a, str>, Field<'a>)>,
}

/// One field of `data`.
pub(super) enum Field<'a> {
    Read(Value),
    /// Rows, as they came or as they were replaced.
    Verbatim(Cow<'a, RawValue>),
}

impl Field<'_> {
    pub(super) fn read(&self) -> Option<&Value> {
        match self {
            Self::Read(value) => Some(value),
            Self::Verbatim(_) => None,
        }
    }
}

const ROWS: [&str; 2] = ["rowset", "rowsetBase64"];
/// Fields of one object. No reply has a fraction of this.
const FIELDS_MAX: usize = 512;

impl<'a> Envelope<'a> {
    pub(super) fn parse(body: &'a [u8], limits: &Limits) -> Result<Self, ReplyRefusal> {
        let wrong = Cell::new("not a JSON object");
        let bounds = Bounds { depth_max: limits.json_depth_max, values_max: limits.json_values_max };
        let read = || {
            // Known to be text, it is not looked at once more at every word.
            let mut reader = serde_json::Deserializer::from_str(str::from_utf8(body).ok()?);
            let envelope = Outer { bounds, wrong: &wrong }.deserialize(&mut reader).ok()?;
            reader.end().ok()?;
            Some(envelope)
        };
        read().ok_or_else(|| ReplyRefusal::Unreadable { why: wrong.get() })
    }
}

/// The envelope, read in one pass.
#[derive(Clone, Copy)]
struct Outer<'r> {
    bounds: Bounds,
    /// What is wrong when reading ends early.
    wrong: &'r Cell<&'static str>,
}

/// Its `data`.
struct Data<'r>(Outer<'r>);

impl Outer<'_> {
    /// Reads the value of a field.
    fn value<'de, A: MapAccess<'de>>(self, entries: &mut A) -> Result<Value, A::Error> {
        let left = Cell::new(self.bounds.values_max);
        self.within("a field is not strict JSON", || entries.next_value_seed(json::strict(self.bounds, &left)))
    }

    fn within<T, E>(self, wrong: &'static str, read: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let around = self.wrong.replace(wrong);
        let read = read()?;
        self.wrong.set(around);
        Ok(read)
    }

    fn error<E: serde::de::Error>(self, wrong: &'static str) -> E {
        self.wrong.set(wrong);
        E::custom(wrong)
    }
}

impl<'de> DeserializeSeed<'de> for Outer<'_> {
    type Value = Envelope<'de>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Outer<'_> {
    type Value = Envelope<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let mut envelope = Envelope::default();
        let mut told = None;
        let mut known: Vec<Cow<'de, str>> = Vec::new();
        while let Some(Name(name)) = entries.next_key()? {
            if known.len() == FIELDS_MAX || known.contains(&name) {
                return Err(A::Error::custom("a key twice, or too many"));
            }
            match &*name {
                "success" => told = json::truth(&self.value(&mut entries)?),
                "code" => {
                    let code = json::scalar_text(&self.value(&mut entries)?).unwrap_or_default();
                    let sound = code.len() <= 8 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
                    envelope.code = if sound { code } else { String::new() };
                }
                "message" => {
                    if let Value::String(message) = self.value(&mut entries)? {
                        envelope.message = message;
                    }
                }
                "data" => {
                    let read = || entries.next_value_seed(Data(self));
                    envelope.data = self.within("data is not a JSON object", read)?;
                }
                _ => drop(entries.next_value::<IgnoredAny>()?),
            }
            known.push(name);
        }
        envelope.success = told.ok_or_else(|| self.error("no success flag"))?;
        Ok(envelope)
    }
}

/// A message fit to be shown. Snowflake's errors have several lines, and drivers show them so.
pub(super) fn lines(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for (at, line) in message.lines().enumerate() {
        if at > 0 {
            text.push('\n');
        }
        text.push_str(&one_line(line, MESSAGE_CHARS_MAX));
    }
    if let Some((end, _)) = text.char_indices().nth(MESSAGE_CHARS_MAX) {
        text.truncate(end);
    }
    text
}

impl<'de> DeserializeSeed<'de> for Data<'_> {
    type Value = Vec<(Cow<'de, str>, Field<'de>)>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Data<'_> {
    type Value = Vec<(Cow<'de, str>, Field<'de>)>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object or null")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Vec::new())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        let Self(outer) = self;
        let mut fields: Self::Value = Vec::new();
        while let Some(Name(name)) = entries.next_key()? {
            if fields.len() == FIELDS_MAX || fields.iter().any(|(known, _)| *known == name) {
                return Err(A::Error::custom("a key twice, or too many"));
            }
            if ROWS.iter().any(|rows| rows.eq_ignore_ascii_case(&name) && *rows != name) {
                // The Go driver reads these names in any case: one spelling, or two readers see two results.
                return Err(outer.error("a rowset under another spelling"));
            }
            let field = if ROWS.contains(&&*name) {
                match entries.next_value::<&RawValue>()? {
                    null if null.get() == "null" => Field::Read(Value::Null),
                    rows => Field::Verbatim(Cow::Borrowed(rows)),
                }
            } else {
                Field::Read(outer.value(&mut entries)?)
            };
            fields.push((name, field));
        }
        Ok(fields)
    }
}

/// A key, in the reply's own bytes where nothing in it is escaped.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl<'de> Visitor<'de> for Text {
            type Value = Name<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(text.to_owned())))
            }
        }

        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_readers_could_read_differently_is_no_reply() {
        const OBJECT: &str = "not a JSON object";
        const DATA: &str = "data is not a JSON object";
        const FIELD: &str = "a field is not strict JSON";
        for (text, wrong) in [
            (&br#"{"success": true, "data": {"a": 1, "b": [1]}, "more": {"x": 1, "x": 2}}"#[..], None),
            (br#"{"success": true, "data": null}"#, None),
            (br#"{"success": true, "success": false}"#, Some(OBJECT)),
            (br#"{"success": true, "succes\u0073": false}"#, Some(OBJECT)),
            (br#"{"success": true, "data": null, "data": {}}"#, Some(OBJECT)),
            (br#"{"success": true} {}"#, Some(OBJECT)),
            (br#"{"success": true, "more": }"#, Some(OBJECT)),
            (b"{\"success\": true, \"more\": \"\xff\"}", Some(OBJECT)),
            (br#"{"data": {"a": 1}}"#, Some("no success flag")),
            (br#"{"success": true, "data": 1}"#, Some(DATA)),
            (br#"{"success": true, "data": {"a": 1, "\u0061": 2}}"#, Some(DATA)),
            (br#"{"success": true, "data": {"rowset": [1, "rowset": []}}"#, Some(DATA)),
            (br#"{"success": true, "data": {"rowset": [], "rowse\u0074": []}}"#, Some(DATA)),
            (br#"{"success": true, "data": {"rowset": [], "Rowset": []}}"#, Some("a rowset under another spelling")),
            (br#"{"success": true, "data": {"a": {"b": 1, "b": 2}}}"#, Some(FIELD)),
            (br#"{"success": true, "code": {"b": 1, "b": 2}}"#, Some(FIELD)),
            (br#"{"success": true, "data": {"a": 1e999}}"#, Some(FIELD)),
        ] {
            let read = Envelope::parse(text, &Limits::default());
            let told = read.err().map(|error| error.to_string());
            let said = wrong.map(|why| ReplyRefusal::Unreadable { why }.to_string());
            assert_eq!(told, said, "{}", String::from_utf8_lossy(text));
        }
    }
}
