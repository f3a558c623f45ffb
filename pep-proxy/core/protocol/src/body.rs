//! From a request's bytes to a JSON object.
//!
//! Nothing is ever forwarded as it came: what is parsed here is what is decided on and what is written again.

use std::io::Read;

use flate2::bufread::GzDecoder;
use serde_json::{Map, Value};

pub use crate::json::Unreadable;
use crate::{
    Limits,
    json::{self, Bounds},
    refusal::PepCode,
};

/// Why a body cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Over a limit.
    #[error("the request body is larger than {bytes_max} bytes")]
    TooLarge {
        /// The limit it is over.
        bytes_max: usize,
    },
    /// A `Content-Encoding` other than gzip or identity.
    #[error("the request body's content encoding is not supported, send it plain or as gzip")]
    Encoding,
    /// Said to be gzip or begins like gzip, and is not, or has something after its end.
    #[error("the request body is not one whole gzip stream")]
    Gzip,
    /// Not JSON, with a key twice, too deep or with too many values.
    #[error("the request body is {0}")]
    Json(#[from] Unreadable),
    /// JSON, but not an object.
    #[error("the request body is not a JSON object")]
    NotAnObject,
}

impl BodyError {
    /// Which refusal this is.
    pub fn code(&self) -> PepCode {
        match self {
            Self::TooLarge { .. } => PepCode::RequestLimit,
            Self::Encoding | Self::Gzip | Self::Json(_) | Self::NotAnObject => PepCode::RequestMalformed,
        }
    }
}

/// Reads a request's body. An empty one is an empty object: some drivers send none at logout and heartbeat.
///
/// `content_encoding` is the header's value. A gzip stream is recognised by its first bytes too: the header may be missing.
///
/// # Errors
///
/// Over a limit, another encoding, not one gzip stream, not strict JSON, not an object.
pub fn decode(body: &[u8], content_encoding: Option<&str>, limits: &Limits) -> Result<Map<String, Value>, BodyError> {
    if body.len() > limits.body_wire_bytes_max {
        return Err(BodyError::TooLarge { bytes_max: limits.body_wire_bytes_max });
    }
    let announced = announces_gzip(content_encoding)?;
    if body.is_empty() {
        return Ok(Map::new());
    }
    if announced || is_gzip(body) {
        return read_object(&gunzip(body, limits.body_bytes_max)?, limits);
    }
    read_object(body, limits)
}

/// Unpacks one whole gzip stream of at most `bytes_max` bytes.
///
/// # Errors
///
/// Not one whole stream, or longer than that once unpacked.
pub fn gunzip(body: &[u8], bytes_max: usize) -> Result<Vec<u8>, BodyError> {
    let mut decoder = GzDecoder::new(body);
    let mut plain = Vec::new();
    let cap = u64::try_from(bytes_max).unwrap_or(u64::MAX).saturating_add(1);
    decoder.by_ref().take(cap).read_to_end(&mut plain).map_err(|_| BodyError::Gzip)?;
    if plain.len() > bytes_max {
        return Err(BodyError::TooLarge { bytes_max });
    }
    if !decoder.into_inner().is_empty() {
        return Err(BodyError::Gzip);
    }
    Ok(plain)
}

/// Whether bytes begin like a gzip stream.
pub fn is_gzip(body: &[u8]) -> bool {
    body.starts_with(&[0x1f, 0x8b])
}

fn announces_gzip(content_encoding: Option<&str>) -> Result<bool, BodyError> {
    let encoding = content_encoding.unwrap_or_default().trim();
    if encoding.is_empty() || encoding.eq_ignore_ascii_case("identity") {
        Ok(false)
    } else if encoding.eq_ignore_ascii_case("gzip") || encoding.eq_ignore_ascii_case("x-gzip") {
        Ok(true)
    } else {
        Err(BodyError::Encoding)
    }
}

fn read_object(text: &[u8], limits: &Limits) -> Result<Map<String, Value>, BodyError> {
    if text.len() > limits.body_bytes_max {
        return Err(BodyError::TooLarge { bytes_max: limits.body_bytes_max });
    }
    let bounds = Bounds { depth_max: limits.json_depth_max, values_max: limits.json_values_max };
    match json::parse(text, bounds)? {
        Value::Object(map) => Ok(map),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            Err(BodyError::NotAnObject)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn gzip(plain: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(plain).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn gzip_is_seen_by_header_and_by_magic() {
        let limits = Limits::default();
        let plain = br#"{"a":1}"#;
        let packed = gzip(plain);
        let cases: [(&[u8], Option<&str>, Option<BodyError>); 9] = [
            (plain, None, None),
            (plain, Some("identity"), None),
            (&packed, Some("gzip"), None),
            (&packed, Some("X-GZIP"), None),
            (&packed, None, None),
            (b"", Some("gzip"), None),
            (plain, Some("gzip"), Some(BodyError::Gzip)),
            (plain, Some("br"), Some(BodyError::Encoding)),
            (b"[1]", None, Some(BodyError::NotAnObject)),
        ];
        for (body, encoding, wanted) in cases {
            assert_eq!(decode(body, encoding, &limits).err(), wanted, "{encoding:?}");
        }
    }

    #[test]
    fn gzip_has_nothing_after_its_end_and_does_not_burst() {
        let limits = Limits { body_bytes_max: 100, ..Limits::default() };
        let mut two = gzip(b"{}");
        two.extend(gzip(b"{}"));
        assert_eq!(decode(&two, None, &limits), Err(BodyError::Gzip));
        let bomb = gzip(&vec![b' '; 1_000_000]);
        assert_eq!(decode(&bomb, None, &limits), Err(BodyError::TooLarge { bytes_max: 100 }));
        let small = Limits { body_wire_bytes_max: 1, ..Limits::default() };
        assert_eq!(decode(b"{}", None, &small), Err(BodyError::TooLarge { bytes_max: 1 }));
    }
}
