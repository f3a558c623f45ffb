use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::UpstreamSession;
use crate::{Secret, SessionContext};

/// What a client is told after its login: icegate's own tokens and number, Snowflake's settings.
#[derive(Debug, Clone, Copy)]
pub struct LoginReply<'a> {
    /// icegate's session token.
    pub token: &'a Secret,
    /// icegate's master token.
    pub master_token: &'a Secret,
    /// icegate's number for the session, below 2^53 so that JavaScript keeps it whole.
    pub session_number: u64,
    /// Seconds the session token is valid.
    pub validity_seconds: u64,
    /// Seconds the master token is valid.
    pub master_validity_seconds: u64,
    /// The person, as shown by drivers.
    pub display_user: &'a str,
    /// What Snowflake said.
    pub upstream: &'a UpstreamSession,
}

/// Parameters icegate sets whatever Snowflake says.
///
/// Staged binds would pass values by; telemetry carries statements.
const OURS: [&str; 3] =
    ["CLIENT_OUT_OF_BAND_TELEMETRY_ENABLED", "CLIENT_STAGE_ARRAY_BINDING_THRESHOLD", "CLIENT_TELEMETRY_ENABLED"];

/// Parameters drivers need, for a Snowflake that does not report them.
const NEEDED: [(&str, Value); 2] =
    [("AUTOCOMMIT", Value::Bool(true)), ("CLIENT_SESSION_KEEP_ALIVE", Value::Bool(false))];

/// Beginnings of parameter names that tell a driver how to work or how to print.
const PASSED_ON: [&str; 13] = [
    "AUTOCOMMIT",
    "BINARY_",
    "CLIENT_",
    "DATE_",
    "GO_",
    "JDBC_",
    "JS_",
    "JSON_",
    "ODBC_",
    "PYTHON_",
    "TIME",
    "TRANSACTION_",
    "WEEK_",
];

impl LoginReply<'_> {
    /// The body to answer with.
    pub fn to_json(&self) -> Zeroizing<Vec<u8>> {
        let SessionContext { database, schema, role, warehouse } = &self.upstream.context;
        let named = |name: &str| if name.is_empty() { Value::Null } else { name.into() };
        let body = json!({
            "data": {
                "token": self.token.expose(),
                "masterToken": self.master_token.expose(),
                "validityInSeconds": self.validity_seconds,
                "masterValidityInSeconds": self.master_validity_seconds,
                "sessionId": self.session_number,
                "displayUserName": self.display_user,
                "serverVersion": self.upstream.server_version,
                "firstLogin": false,
                "remMeToken": null,
                "remMeValidityInSeconds": 0,
                "healthCheckInterval": 45,
                "newClientForUpgrade": null,
                "parameters": self.parameters(),
                "sessionInfo": {
                    "databaseName": named(database),
                    "schemaName": named(schema),
                    "warehouseName": named(warehouse),
                    "roleName": named(role),
                },
                "idToken": null,
                "idTokenValidityInSeconds": 0,
                "responseData": null,
                "mfaToken": null,
                "mfaTokenValidityInSeconds": 0,
            },
            "code": null,
            "message": null,
            "success": true,
        });
        Zeroizing::new(body.to_string().into_bytes())
    }

    fn parameters(&self) -> Vec<Value> {
        let mut kept: Vec<(&str, Value)> = self
            .upstream
            .parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()))
            .filter(|(name, _)| passed_on(name))
            .collect();
        for (name, value) in NEEDED {
            if !kept.iter().any(|(known, _)| *known == name) {
                kept.push((name, value));
            }
        }
        if !kept.iter().any(|(known, _)| *known == "CLIENT_SESSION_KEEP_ALIVE_HEARTBEAT_FREQUENCY") {
            kept.push(("CLIENT_SESSION_KEEP_ALIVE_HEARTBEAT_FREQUENCY", 3600.into()));
        }
        kept.push(("CLIENT_OUT_OF_BAND_TELEMETRY_ENABLED", false.into()));
        kept.push(("CLIENT_STAGE_ARRAY_BINDING_THRESHOLD", 0.into()));
        kept.push(("CLIENT_TELEMETRY_ENABLED", false.into()));
        kept.into_iter().map(|(name, value)| json!({ "name": name, "value": value })).collect()
    }
}

pub(crate) fn passed_on(name: &str) -> bool {
    let spelled = name.to_ascii_uppercase();
    PASSED_ON.iter().any(|beginning| spelled.starts_with(beginning))
        && !OURS.contains(&spelled.as_str())
        && !["TOKEN", "CREDENTIAL", "SECRET", "PASSWORD"].iter().any(|word| spelled.contains(word))
}
