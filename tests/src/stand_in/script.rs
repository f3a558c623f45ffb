//! What a test has the warehouse do with one statement.

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use futures::stream;
use serde_json::Value;

/// One scripted answer.
#[derive(Debug, Clone, Default)]
pub struct Play {
    /// Before anything else.
    pub delay: Duration,
    /// Instead of an answer.
    pub fault: Option<Fault>,
    /// The whole answer. A `queryId` of `@id` becomes the statement's own. Without one, the statement's words tell.
    pub reply: Option<Value>,
}

/// An answer that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// The connection breaks in the middle of the answer.
    Cut,
    /// This status with this text.
    Status(u16, String),
    /// Says gzip and is not.
    FalseGzip,
}

impl Fault {
    pub(super) fn response(&self) -> Response {
        match self {
            Self::Cut => {
                let pieces = [Ok("{\"success\":"), Err(std::io::Error::other("scripted"))];
                Body::from_stream(stream::iter(pieces)).into_response()
            }
            Self::Status(status, text) => {
                let status = StatusCode::from_u16(*status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
                (status, text.clone()).into_response()
            }
            Self::FalseGzip => ([("content-encoding", "gzip")], "{\"success\":true}").into_response(),
        }
    }
}
