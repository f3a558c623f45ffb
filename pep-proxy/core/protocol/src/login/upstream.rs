use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::LoginRequest;
use crate::{
    Limits, Secret, SessionContext,
    json::{self, Bounds},
    limits::TOKEN_BYTES_MAX,
    refusal::PepCode,
};

/// icegate's own credential at Snowflake.
#[derive(Debug, Clone, Copy)]
pub enum UpstreamCredential<'a> {
    /// A key pair's signed token, fresh for this login.
    KeyPairJwt {
        /// The service user.
        user: &'a str,
        /// The signed token.
        jwt: &'a Secret,
    },
    /// A password.
    Password {
        /// The service user.
        user: &'a str,
        /// Its password.
        password: &'a Secret,
    },
}

/// The body of icegate's login at Snowflake for one client session, built from scratch.
///
/// `account` is the account's name, `query_tag` the stamped tag for what runs before the first statement.
pub fn upstream_login(
    request: &LoginRequest,
    account: &str,
    credential: &UpstreamCredential<'_>,
    query_tag: &str,
) -> Zeroizing<Vec<u8>> {
    let mut data = Map::new();
    // Snowflake chooses result format and features by these two: they must be the client's.
    data.insert("CLIENT_APP_ID".to_owned(), request.client.app_id.as_str().into());
    data.insert("CLIENT_APP_VERSION".to_owned(), request.client.app_version.as_str().into());
    data.insert("ACCOUNT_NAME".to_owned(), account.into());
    match credential {
        UpstreamCredential::KeyPairJwt { user, jwt } => {
            data.insert("LOGIN_NAME".to_owned(), (*user).into());
            data.insert("AUTHENTICATOR".to_owned(), "SNOWFLAKE_JWT".into());
            data.insert("TOKEN".to_owned(), jwt.expose().into());
        }
        UpstreamCredential::Password { user, password } => {
            data.insert("LOGIN_NAME".to_owned(), (*user).into());
            data.insert("PASSWORD".to_owned(), password.expose().into());
        }
    }
    // Roles beside the one that was decided on would add their rights to it.
    data.insert("SECONDARY_ROLES".to_owned(), "NONE".into());
    if !request.environment.is_empty() {
        data.insert("CLIENT_ENVIRONMENT".to_owned(), Value::Object(request.environment.clone()));
    }
    if !request.capabilities.is_empty() {
        data.insert("CLIENT_CAPABILITIES".to_owned(), Value::Object(request.capabilities.clone()));
    }
    let mut parameters: Map<String, Value> = request.session_parameters.clone().into_iter().collect();
    parameters.insert("QUERY_TAG".to_owned(), query_tag.into());
    data.insert("SESSION_PARAMETERS".to_owned(), Value::Object(parameters));
    Zeroizing::new(json!({ "data": data }).to_string().into_bytes())
}

/// A session at Snowflake, from the reply to a login or a renewal.
#[derive(Debug, Clone)]
pub struct UpstreamSession {
    /// The session token.
    pub token: Secret,
    /// The master token. Stand-ins for Snowflake may give none.
    pub master_token: Option<Secret>,
    /// Snowflake's session id as text, empty if none was given.
    pub session_id: String,
    /// Seconds the session token is valid.
    pub validity_seconds: Option<u64>,
    /// Seconds the master token is valid.
    pub master_validity_seconds: Option<u64>,
    /// Where the session stands; empty after a renewal.
    pub context: SessionContext,
    /// Parameters as Snowflake reports them.
    pub parameters: Vec<(String, Value)>,
    /// Snowflake's release.
    pub server_version: String,
}

/// Why there is no session at Snowflake.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UpstreamLoginError {
    /// Snowflake said no. Its text is not kept: it is about icegate's credential.
    #[error("snowflake refused the login with code `{code}`")]
    Refused {
        /// Snowflake's code, digits only.
        code: String,
    },
    /// Not the reply of a login.
    #[error("snowflake's reply to the login is not readable: {why}")]
    Unreadable {
        /// What is wrong.
        why: &'static str,
    },
}

impl UpstreamLoginError {
    /// Which refusal this is.
    pub fn code(&self) -> PepCode {
        PepCode::UpstreamLogin
    }
}

impl UpstreamSession {
    /// Reads the reply to a login.
    ///
    /// # Errors
    ///
    /// Refused, or not the reply of a login.
    pub fn parse(body: &[u8], limits: &Limits) -> Result<Self, UpstreamLoginError> {
        let data = envelope_data(body, limits)?;
        let info = data.get("sessionInfo").and_then(Value::as_object);
        let name = |key| info.and_then(|info| json::text(info, key)).unwrap_or_default().to_owned();
        let context = SessionContext {
            database: name("databaseName"),
            schema: name("schemaName"),
            role: name("roleName"),
            warehouse: name("warehouseName"),
        };
        let parameters = data.get("parameters").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let session = Self {
            token: secret(&data, "token")?.ok_or(UpstreamLoginError::Unreadable { why: "it has no token" })?,
            master_token: secret(&data, "masterToken")?,
            session_id: data.get("sessionId").and_then(json::scalar_text).unwrap_or_default(),
            validity_seconds: data.get("validityInSeconds").and_then(json::whole_number),
            master_validity_seconds: data.get("masterValidityInSeconds").and_then(json::whole_number),
            context,
            parameters: parameters.iter().filter_map(parameter).collect(),
            server_version: json::text(&data, "serverVersion").unwrap_or_default().to_owned(),
        };
        if session.repeats_a_token() {
            return Err(UpstreamLoginError::Unreadable { why: "a token stands outside its field" });
        }
        Ok(session)
    }

    /// Whether a token stands in a field that clients are told.
    fn repeats_a_token(&self) -> bool {
        let SessionContext { database, schema, role, warehouse } = &self.context;
        let parameters =
            self.parameters.iter().flat_map(|(name, value)| [Some(name.clone()), json::scalar_text(value)]);
        let told =
            [database, schema, role, warehouse, &self.session_id, &self.server_version].map(|text| Some(text.clone()));
        told.into_iter().chain(parameters).flatten().any(|text| {
            let mut tokens = std::iter::once(&self.token).chain(&self.master_token);
            tokens.any(|token| token.stands_in(&text))
        })
    }

    /// Reads the reply to a renewal, which names the same things otherwise and leaves context and parameters out.
    ///
    /// # Errors
    ///
    /// Refused, or not the reply of a renewal.
    pub fn parse_renewal(body: &[u8], limits: &Limits) -> Result<Self, UpstreamLoginError> {
        let data = envelope_data(body, limits)?;
        Ok(Self {
            token: secret(&data, "sessionToken")?.ok_or(UpstreamLoginError::Unreadable { why: "it has no token" })?,
            master_token: secret(&data, "masterToken")?,
            session_id: data.get("sessionId").and_then(json::scalar_text).unwrap_or_default(),
            validity_seconds: data.get("validityInSecondsST").and_then(json::whole_number),
            master_validity_seconds: data.get("validityInSecondsMT").and_then(json::whole_number),
            context: SessionContext::default(),
            parameters: Vec::new(),
            server_version: String::new(),
        })
    }
}

/// The `data` of a successful short reply.
fn envelope_data(body: &[u8], limits: &Limits) -> Result<Map<String, Value>, UpstreamLoginError> {
    let Some(mut envelope) = bounded_object(body, limits) else {
        return Err(UpstreamLoginError::Unreadable { why: "it is not a JSON object within the limits" });
    };
    if envelope.get("success").and_then(json::truth) != Some(true) {
        let code = envelope.get("code").and_then(json::scalar_text).unwrap_or_default();
        let sound = code.len() <= 8 && code.bytes().all(|byte| byte.is_ascii_digit());
        return Err(UpstreamLoginError::Refused { code: if sound { code } else { String::new() } });
    }
    match envelope.remove("data") {
        Some(Value::Object(data)) => Ok(data),
        _ => Err(UpstreamLoginError::Unreadable { why: "it has no data" }),
    }
}

/// A short reply as an object.
pub(crate) fn bounded_object(body: &[u8], limits: &Limits) -> Option<Map<String, Value>> {
    let bounds = Bounds { depth_max: limits.json_depth_max, values_max: limits.json_values_max };
    if body.len() > limits.short_reply_bytes_max {
        return None;
    }
    match json::parse(body, bounds) {
        Ok(Value::Object(map)) => Some(map),
        _ => None,
    }
}

/// A token that can be put in a header.
fn secret(data: &Map<String, Value>, key: &str) -> Result<Option<Secret>, UpstreamLoginError> {
    match json::text(data, key) {
        None => Ok(None),
        Some(text) if text.len() <= TOKEN_BYTES_MAX && text.bytes().all(|b| b.is_ascii_graphic() && b != b'"') => {
            Ok(Some(Secret::new(text)))
        }
        Some(_) => Err(UpstreamLoginError::Unreadable { why: "a token is not printable" }),
    }
}

fn parameter(entry: &Value) -> Option<(String, Value)> {
    let name = entry.get("name")?.as_str()?;
    let value = entry.get("value")?;
    json::scalar_text(value).map(|_| (name.to_owned(), value.clone()))
}
