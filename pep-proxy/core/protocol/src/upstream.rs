//! The short requests icegate sends to Snowflake itself: paths, headers and bodies.

use serde_json::json;
use zeroize::Zeroizing;

use crate::{QueryId, RequestId, RequestedNames, Secret, login::identifier_text};

/// Path and query of the login. `request_id` is fresh.
pub fn login_path(names: &RequestedNames, request_id: &RequestId) -> String {
    let mut path = format!("/session/v1/login-request?requestId={request_id}");
    let parameters = [
        ("databaseName", &names.database),
        ("schemaName", &names.schema),
        ("warehouse", &names.warehouse),
        ("roleName", &names.role),
    ];
    for (parameter, name) in parameters {
        if let Some(name) = name {
            path.extend(["&", parameter, "=", &encoded(&identifier_text(name))]);
        }
    }
    path
}

/// Path and query of a statement. The request id is Snowflake's key to tell a retry from a second run.
pub fn query_path(request_id: &RequestId) -> String {
    format!("/queries/v1/query-request?requestId={request_id}")
}

/// Path of a result.
pub fn result_path(id: &QueryId) -> String {
    ["/queries/", id.as_str(), "/result"].concat()
}

/// Path of a statement's state.
pub fn monitoring_path(id: &QueryId) -> String {
    format!("/monitoring/queries/{id}")
}

/// Path of stopping a statement by its id; the body is `{}`. `request_id` is fresh.
pub fn abort_by_id_path(id: &QueryId, request_id: &RequestId) -> String {
    format!("/queries/{id}/abort-request?requestId={request_id}")
}

/// Path of stopping a request. `request_id` is fresh, not the one to stop.
pub fn abort_by_request_path(request_id: &RequestId) -> String {
    format!("/queries/v1/abort-request?requestId={request_id}")
}

/// Body of stopping a request. `sql` is what was sent, `stop` the request that sent it.
pub fn abort_by_request_body(sql: &str, stop: &RequestId) -> Vec<u8> {
    json!({ "sqlText": sql, "requestId": stop.as_str() }).to_string().into_bytes()
}

/// Path of the renewal; authorised by the master token.
pub fn renew_path(request_id: &RequestId) -> String {
    format!("/session/token-request?requestId={request_id}")
}

/// Body of the renewal.
pub fn renew_body(old_session_token: &Secret) -> Zeroizing<Vec<u8>> {
    let body = json!({ "oldSessionToken": old_session_token.expose(), "requestType": "RENEW" });
    Zeroizing::new(body.to_string().into_bytes())
}

/// Path of the heartbeat; the body is `{}`.
pub fn heartbeat_path(request_id: &RequestId) -> String {
    ["/session/heartbeat?requestId=", request_id.as_str()].concat()
}

/// Path of the logout; the body is `{}`.
pub fn logout_path(request_id: &RequestId) -> String {
    format!("/session?delete=true&requestId={request_id}")
}

/// Whether a call to this path ends something there: a statement or a session.
pub fn ends(path: &str) -> bool {
    path.starts_with("/session?") || path.split('?').next().is_some_and(|path| path.ends_with("/abort-request"))
}

/// Escaped for a query string or a form.
pub(crate) fn encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => char::from(byte).to_string(),
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_something() {
        let request = RequestId::parse("00000000-0000-0000-0000-000000000001").unwrap();
        let query = QueryId::parse("00000000-0000-0000-0000-000000000002").unwrap();
        let names = RequestedNames::fold(Some(r#""/abort-request""#), None, None, None).unwrap();
        for (path, is_end) in [
            (abort_by_id_path(&query, &request), true),
            (abort_by_request_path(&request), true),
            (logout_path(&request), true),
            (login_path(&names, &request), false),
            (query_path(&request), false),
            (result_path(&query), false),
            (monitoring_path(&query), false),
            (renew_path(&request), false),
            (heartbeat_path(&request), false),
        ] {
            assert_eq!(ends(&path), is_end, "{path}");
        }
    }

    #[test]
    fn names_go_up_quoted_where_needed() {
        let names = RequestedNames::fold(Some("sales"), Some(r#""my schema""#), None, Some("wh")).unwrap();
        let id = RequestId::parse("00000000-0000-0000-0000-000000000001").unwrap();
        assert_eq!(
            login_path(&names, &id),
            "/session/v1/login-request?requestId=00000000-0000-0000-0000-000000000001&databaseName=SALES\
             &schemaName=%22my%20schema%22&warehouse=WH"
        );
    }
}
