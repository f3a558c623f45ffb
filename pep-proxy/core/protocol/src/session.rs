//! The short calls of a session: renewal and stopping a request.

use serde_json::{Map, Value};

use crate::{RequestId, Secret, json, limits::TOKEN_BYTES_MAX, refusal::PepCode};

/// Why one of the short calls cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SessionRequestError {
    /// A field that must be there is not, or is not what it must be.
    #[error("the field `{field}` is missing or not valid")]
    Field {
        /// Which one.
        field: &'static str,
    },
    /// `requestType` other than `RENEW`: icegate issues no second session from a first one.
    #[error("only token requests of type `RENEW` are served")]
    RequestType,
}

impl SessionRequestError {
    /// Which refusal this is.
    pub fn code(&self) -> PepCode {
        PepCode::RequestMalformed
    }
}

/// The body of `POST /session/token-request`. The master token comes in the `Authorization` header.
#[derive(Debug, Clone)]
pub struct RenewRequest {
    /// The session token that has expired or is about to.
    pub old_session_token: Secret,
}

impl RenewRequest {
    /// Reads the body.
    ///
    /// # Errors
    ///
    /// Not a renewal, or without the token.
    pub fn parse(body: &Map<String, Value>) -> Result<Self, SessionRequestError> {
        if json::text(body, "requestType") != Some("RENEW") {
            return Err(SessionRequestError::RequestType);
        }
        json::text(body, "oldSessionToken")
            .filter(|token| token.len() <= TOKEN_BYTES_MAX)
            .map(|token| Self { old_session_token: Secret::new(token) })
            .ok_or(SessionRequestError::Field { field: "oldSessionToken" })
    }
}

/// The body of `POST /queries/v1/abort-request`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AbortRequest {
    /// The request to stop. The query string's own `requestId` is the abort call's.
    pub request_id: RequestId,
}

impl AbortRequest {
    /// Reads the body. Its `sqlText` is not needed: the request id says which statement.
    ///
    /// # Errors
    ///
    /// No request id.
    pub fn parse(body: &Map<String, Value>) -> Result<Self, SessionRequestError> {
        json::text(body, "requestId")
            .and_then(RequestId::parse)
            .map(|request_id| Self { request_id })
            .ok_or(SessionRequestError::Field { field: "requestId" })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: &Value) -> Map<String, Value> {
        value.as_object().cloned().unwrap_or_default()
    }

    #[test]
    fn renewal_is_the_only_token_request() {
        let body = map(&json!({"oldSessionToken": "ig1.x", "requestType": "RENEW"}));
        assert_eq!(RenewRequest::parse(&body).unwrap().old_session_token.expose(), "ig1.x");
        for (body, wanted) in [
            (json!({"oldSessionToken": "ig1.x", "requestType": "ISSUE"}), SessionRequestError::RequestType),
            (json!({"oldSessionToken": "ig1.x"}), SessionRequestError::RequestType),
            (json!({"requestType": "RENEW"}), SessionRequestError::Field { field: "oldSessionToken" }),
        ] {
            assert_eq!(RenewRequest::parse(&map(&body)).unwrap_err(), wanted);
        }
    }

    #[test]
    fn an_abort_names_the_request() {
        let id = "7F1C3B1E-5a43-4a39-9f1a-0d6c7a1e2b3c";
        let body = map(&json!({"sqlText": "select 1", "requestId": id}));
        assert_eq!(AbortRequest::parse(&body).unwrap().request_id.as_str(), id.to_ascii_lowercase());
        assert!(AbortRequest::parse(&map(&json!({"requestId": "1"}))).is_err());
    }
}
