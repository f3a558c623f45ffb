//! How much of anything is read.

/// Bytes of a request body as it comes over the wire.
pub const BODY_WIRE_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes of a request body once decompressed.
pub const BODY_BYTES_MAX: usize = 32 * 1024 * 1024;
/// Levels of arrays and objects inside each other.
pub const JSON_DEPTH_MAX: usize = 48;
/// Values of any kind in one request body, or in the parts of a reply that are read.
pub const JSON_VALUES_MAX: usize = 1_000_000;
/// Bytes of a statement's text.
pub const SQL_BYTES_MAX: usize = 1024 * 1024;
/// Bytes of a credential a client carries.
pub const CREDENTIAL_BYTES_MAX: usize = 16 * 1024;
/// Characters of any single name or short text a client sends: login name, application, session parameter.
pub const TEXT_CHARS_MAX: usize = 4096;
/// Session or statement parameters in one request.
pub const PARAMETERS_MAX: usize = 256;
/// Bytes of a reply of Snowflake that is not a result: login, renewal, monitoring.
pub const SHORT_REPLY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Bytes of a query's reply, decompressed. Snowflake keeps the inline part small and sends the rest as chunks.
pub const REPLY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Bytes of a request's path.
pub const PATH_BYTES_MAX: usize = 512;
/// Bytes of the address of a result's part: Snowflake's own URL and keys are sealed in it.
pub const CHUNK_ADDRESS_BYTES_MAX: usize = 12 * 1024;
/// Parts of one result. Snowflake makes them of some megabytes each.
pub const CHUNKS_MAX: usize = 65_536;
/// Bytes of one URL of a part in Snowflake's reply.
pub const CHUNK_URL_BYTES_MAX: usize = 8 * 1024;
/// Bytes of a request's query string.
pub const QUERY_STRING_BYTES_MAX: usize = 8 * 1024;
/// Parameters in a query string.
pub const QUERY_PARAMETERS_MAX: usize = 32;
/// Characters of Snowflake's `QUERY_TAG`. Snowflake docs, "Parameters", read 2026-11.
pub const QUERY_TAG_CHARS_MAX: usize = 2000;
/// Characters of a text shown to a client.
pub const MESSAGE_CHARS_MAX: usize = 2000;
/// Bytes of one of icegate's own tokens.
pub const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Bytes of the head of an answer over HTTP/1.1.
pub const ANSWER_HEAD_BYTES_MAX: usize = 64 * 1024;
/// Headers of such an answer.
pub const ANSWER_HEADERS_MAX: usize = 100;
/// Heads that may come before the one that counts (`100 Continue` and the like).
pub const ANSWER_INTERIM_MAX: usize = 8;
/// Bytes of the line before a piece of a chunked body.
pub const CHUNK_LINE_BYTES_MAX: usize = 256;
/// Bytes of the headers after such a body.
pub const TRAILERS_BYTES_MAX: usize = 8 * 1024;

/// The limits an operator may set. [`Limits::default`] has the constants of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// See [`BODY_WIRE_BYTES_MAX`].
    pub body_wire_bytes_max: usize,
    /// See [`BODY_BYTES_MAX`].
    pub body_bytes_max: usize,
    /// See [`JSON_DEPTH_MAX`].
    pub json_depth_max: usize,
    /// See [`JSON_VALUES_MAX`].
    pub json_values_max: usize,
    /// See [`SQL_BYTES_MAX`].
    pub sql_bytes_max: usize,
    /// See [`CREDENTIAL_BYTES_MAX`].
    pub credential_bytes_max: usize,
    /// See [`REPLY_BYTES_MAX`].
    pub reply_bytes_max: usize,
    /// See [`SHORT_REPLY_BYTES_MAX`].
    pub short_reply_bytes_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_wire_bytes_max: BODY_WIRE_BYTES_MAX,
            body_bytes_max: BODY_BYTES_MAX,
            json_depth_max: JSON_DEPTH_MAX,
            json_values_max: JSON_VALUES_MAX,
            sql_bytes_max: SQL_BYTES_MAX,
            credential_bytes_max: CREDENTIAL_BYTES_MAX,
            reply_bytes_max: REPLY_BYTES_MAX,
            short_reply_bytes_max: SHORT_REPLY_BYTES_MAX,
        }
    }
}
