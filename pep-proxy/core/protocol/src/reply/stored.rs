//! The parts of a result that lie in storage, as Snowflake's reply names them.

use serde_json::{Map, Value, json};

use super::ReplyRefusal;
use crate::{
    Secret,
    chunk::{Chunk, ChunkFormat, Chunks, StorageHeader},
    json,
    limits::{CHUNK_URL_BYTES_MAX, CHUNKS_MAX},
};

/// Headers a storage asks for beside its signed URL: keys and how to use them.
const HEADERS_MAX: usize = 16;

/// Where a client gets the parts of its result that lie in storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChunkTerms<'a> {
    /// Nowhere: a reply with such parts is kept from it.
    Withhold,
    /// From the storage itself, with the URLs and keys of Snowflake's reply.
    Direct,
    /// From these addresses of icegate's own, one per part. URLs and keys are left out.
    Through(&'a [String]),
}

/// How a result reaches the client, for the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// All of it in the reply.
    Inline,
    /// Parts of it from storage, through icegate.
    Through,
    /// Parts of it from storage, by Snowflake's own URLs.
    Direct,
    /// The client was given credentials for a stage.
    Stage,
}

/// Reads what `data` says of parts in storage; nothing when there are none.
pub(super) fn read(
    chunks: Option<&Value>,
    headers: Option<&Value>,
    qrmk: Option<&Value>,
    format: ChunkFormat,
) -> Result<Option<Chunks>, ReplyRefusal> {
    let listed = match chunks {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::Array(listed)) if listed.is_empty() => return Ok(None),
        Some(Value::Array(listed)) if listed.len() <= CHUNKS_MAX => listed,
        Some(_) => return Err(ReplyRefusal::Chunks),
    };
    let all = listed.iter().map(chunk).collect::<Option<Vec<_>>>().ok_or(ReplyRefusal::Chunks)?;
    let headers = match headers {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::Object(map)) if map.len() <= HEADERS_MAX => {
            map.iter().map(header).collect::<Option<Vec<_>>>().ok_or(ReplyRefusal::Chunks)?
        }
        Some(_) => return Err(ReplyRefusal::Chunks),
    };
    let headers = match qrmk {
        // As drivers do: the key alone means encryption with a key of the customer's, in S3's words.
        Some(Value::String(key)) if headers.is_empty() && !key.is_empty() => vec![
            StorageHeader {
                name: "x-amz-server-side-encryption-customer-algorithm".to_owned(),
                value: Secret::new("AES256"),
            },
            StorageHeader {
                name: "x-amz-server-side-encryption-customer-key".to_owned(),
                value: Secret::new(key.as_str()),
            },
        ],
        None | Some(Value::Null | Value::String(_)) => headers,
        Some(_) => return Err(ReplyRefusal::Chunks),
    };
    let sendable = |header: &StorageHeader| header.value.expose().bytes().all(|byte| matches!(byte, b' '..=b'~'));
    if headers.iter().all(sendable) { Ok(Some(Chunks { all, headers, format })) } else { Err(ReplyRefusal::Chunks) }
}

fn chunk(entry: &Value) -> Option<Chunk> {
    let entry = entry.as_object()?;
    let url = json::text(entry, "url").filter(|url| {
        url.len() <= CHUNK_URL_BYTES_MAX
            && url.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"' && byte != b'\\')
    })?;
    let number = |key| entry.get(key).and_then(json::whole_number).unwrap_or(0);
    Some(Chunk {
        url: Secret::new(url),
        rows: number("rowCount"),
        bytes: number("uncompressedSize"),
        packed_bytes: number("compressedSize"),
    })
}

/// Only headers of the storage's own: none that says who asks, or how the connection is used.
fn header((name, value): (&String, &Value)) -> Option<StorageHeader> {
    let name = name.to_ascii_lowercase();
    let known = ["x-amz-", "x-goog-", "x-ms-"].iter().any(|beginning| name.starts_with(beginning));
    let sound = name.len() <= 128 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let value = value.as_str().filter(|value| value.len() <= 1024)?;
    (known && sound).then(|| StorageHeader { name, value: Secret::new(value) })
}

/// The parts as a client is told of them, with an address for each.
pub(super) fn written<'a>(chunks: &Chunks, addresses: impl Iterator<Item = &'a str>) -> Value {
    let told = |(chunk, address): (&Chunk, &str)| {
        json!({
            "url": address,
            "rowCount": chunk.rows,
            "uncompressedSize": chunk.bytes,
            "compressedSize": chunk.packed_bytes,
        })
    };
    Value::Array(chunks.all.iter().zip(addresses).map(told).collect())
}

/// The headers as a client needs them to go to the storage itself.
pub(super) fn written_headers(chunks: &Chunks) -> Value {
    let told = |header: &StorageHeader| (header.name.clone(), Value::from(header.value.expose()));
    Value::Object(chunks.headers.iter().map(told).collect::<Map<_, _>>())
}
