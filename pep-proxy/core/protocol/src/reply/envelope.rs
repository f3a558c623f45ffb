use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
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
pub(super) struct Envelope<'a> {
    pub(super) success: bool,
    pub(super) code: String,
    pub(super) message: String,
    pub(super) data: Vec<(String, Field<'a>)>,
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

impl<'a> Envelope<'a> {
    pub(super) fn parse(body: &'a [u8], limits: &Limits) -> Result<Self, ReplyRefusal> {
        let unreadable = |why| ReplyRefusal::Unreadable { why };
        let bounds = Bounds { depth_max: limits.json_depth_max, values_max: limits.json_values_max };
        let body = str::from_utf8(body).map_err(|_| unreadable("not a JSON object"))?;
        let outer: RawObject<'a> = serde_json::from_str(body).map_err(|_| unreadable("not a JSON object"))?;
        let mut told = None;
        let mut envelope = Self { success: false, code: String::new(), message: String::new(), data: Vec::new() };
        for (name, raw) in outer.0 {
            let read = || json::parse_text(raw.get(), bounds).map_err(|_| unreadable("a field is not strict JSON"));
            match name.as_str() {
                "success" => told = json::truth(&read()?),
                "code" => {
                    let code = json::scalar_text(&read()?).unwrap_or_default();
                    let sound = code.len() <= 8 && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
                    envelope.code = if sound { code } else { String::new() };
                }
                "message" => {
                    envelope.message = lines(read()?.as_str().unwrap_or_default());
                }
                "data" if raw.get() == "null" => {}
                "data" => envelope.data = data(raw, bounds)?,
                _ => {}
            }
        }
        envelope.success = told.ok_or_else(|| unreadable("no success flag"))?;
        Ok(envelope)
    }
}

/// Snowflake's errors have several lines, and drivers show them so.
fn lines(message: &str) -> String {
    let lines: Vec<String> = message.lines().map(|line| one_line(line, MESSAGE_CHARS_MAX)).collect();
    lines.join("\n").chars().take(MESSAGE_CHARS_MAX).collect()
}

fn data(raw: &RawValue, bounds: Bounds) -> Result<Vec<(String, Field<'_>)>, ReplyRefusal> {
    let unreadable = |why| ReplyRefusal::Unreadable { why };
    let fields: RawObject<'_> = serde_json::from_str(raw.get()).map_err(|_| unreadable("data is not a JSON object"))?;
    fields
        .0
        .into_iter()
        .map(|(name, raw)| {
            if ROWS.iter().any(|rows| rows.eq_ignore_ascii_case(&name) && *rows != name) {
                // The Go driver reads these names in any case: one spelling, or two readers see two results.
                return Err(unreadable("a rowset under another spelling"));
            }
            if ROWS.contains(&name.as_str()) && raw.get() != "null" {
                return Ok((name, Field::Verbatim(Cow::Borrowed(raw))));
            }
            let value = json::parse_text(raw.get(), bounds).map_err(|_| unreadable("a field is not strict JSON"))?;
            Ok((name, Field::Read(value)))
        })
        .collect()
}

/// An object whose values are not read yet; each key once.
struct RawObject<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for RawObject<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;

        /// No reply has a fraction of this.
        const FIELDS_MAX: usize = 512;

        impl<'de> Visitor<'de> for Fields {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let mut fields: Self::Value = Vec::new();
                while let Some((name, raw)) = entries.next_entry::<String, &'de RawValue>()? {
                    if fields.len() == FIELDS_MAX || fields.iter().any(|(known, _)| *known == name) {
                        return Err(A::Error::custom("a key twice, or too many"));
                    }
                    fields.push((name, raw));
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(Fields).map(Self)
    }
}
