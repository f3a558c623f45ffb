//! Who is there: the login request, and both sides of its answer.
//!
//! Nothing of a client's login body is forwarded. It is read into [`LoginRequest`], and the login at Snowflake is built
//! from scratch ([`upstream_login`]) with icegate's own credential.

mod names;
mod parameters;
mod reply;
mod upstream;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

pub use self::{
    names::{NameError, RequestedNames, identifier_text},
    parameters::ParameterError,
    reply::LoginReply,
    upstream::{UpstreamCredential, UpstreamLoginError, UpstreamSession, upstream_login},
};
pub(crate) use self::{
    parameters::{Scope, normalise},
    reply::passed_on,
    upstream::bounded_object,
};
use crate::{
    Limits, Secret, json,
    limits::{QUERY_TAG_CHARS_MAX, TEXT_CHARS_MAX},
    refusal::{PepCode, one_line},
};

/// How the driver carried the identity token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Carrier {
    /// `authenticator=oauth`.
    Oauth,
    /// `authenticator=programmatic_access_token`.
    Pat,
    /// As the password.
    Password,
    /// In the header of each request, for the SQL API.
    Bearer,
    /// `authenticator=externalbrowser`: not the token itself but a ticket for it.
    Browser,
}

impl Carrier {
    /// A word for metrics and logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Oauth => "oauth",
            Self::Pat => "programmatic-access-token",
            Self::Password => "password",
            Self::Bearer => "bearer",
            Self::Browser => "external-browser",
        }
    }
}

/// What the client says of itself. Declared, never verified.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientFacts {
    /// `CLIENT_APP_ID`, for example `PythonConnector`. Snowflake chooses the result format by it.
    pub app_id: String,
    /// `CLIENT_APP_VERSION`.
    pub app_version: String,
    /// `CLIENT_ENVIRONMENT.APPLICATION`.
    pub application: String,
}

/// A login as the client asked for it.
#[derive(Debug, Clone)]
pub struct LoginRequest {
    /// How the token came.
    pub carrier: Carrier,
    /// The token; of [`Carrier::Browser`] the ticket, until it is redeemed.
    pub token: Secret,
    /// What the ticket of [`Carrier::Browser`] is redeemed with.
    pub proof_key: Option<Secret>,
    /// `LOGIN_NAME` as claimed, empty if none.
    pub login_name: String,
    /// What the client says of itself.
    pub client: ClientFacts,
    /// Session parameters that may be set, in Snowflake's types.
    pub session_parameters: BTreeMap<String, Value>,
    /// Names of session parameters that were left out, for the log.
    pub dropped_parameters: Vec<String>,
    /// The client's own `QUERY_TAG`.
    pub query_tag: Option<String>,
    /// Database, schema, role and warehouse to start with.
    pub names: RequestedNames,
    /// `CLIENT_ENVIRONMENT`, scalars only.
    environment: Map<String, Value>,
    /// `CLIENT_CAPABILITIES`, scalars only.
    capabilities: Map<String, Value>,
}

/// Why a login cannot be taken. The sentences are shown to the person who connects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LoginError {
    /// No `data` object.
    #[error("The login request has no `data` object; connect with a Snowflake driver.")]
    NoData,
    /// An authenticator icegate does not serve.
    #[error(
        "The authenticator `{authenticator}` is not served by icegate. Use `authenticator=oauth` with your identity \
         provider's token as `token`, or give the token as the password."
    )]
    Authenticator {
        /// As the client sent it.
        authenticator: String,
    },
    /// A credential of a kind icegate does not take.
    #[error(
        "icegate takes no `{field}`: a second factor or single sign-on belongs to your identity provider. Remove it and give the provider's token."
    )]
    Credential {
        /// The field.
        field: &'static str,
    },
    /// No token where the authenticator says it is.
    #[error(
        "There is no identity token in the login. Use `authenticator=oauth` with your identity provider's token as \
         `token`, or give the token as the password."
    )]
    NoToken,
    /// A ticket and nothing that shows whose it is.
    #[error("The login has no `PROOF_KEY` beside its `TOKEN`; connect with a Snowflake driver.")]
    NoProofKey,
    /// Two different ones.
    #[error("The login carries two different credentials, as token and as password. Give one of them.")]
    TwoTokens,
    /// Not printable ASCII, or over the limit.
    #[error("The identity token is longer than {bytes_max} bytes or has characters no token has.")]
    TokenShape {
        /// The limit.
        bytes_max: usize,
    },
    /// Too long, or of another type.
    #[error("The login's field `{field}` is not valid.")]
    Field {
        /// Which one.
        field: &'static str,
    },
    /// A session parameter that would change what statements mean.
    #[error(transparent)]
    Parameter(#[from] ParameterError),
}

impl LoginError {
    /// Which refusal this is: a PEP code, or `IDENTITY-INVALID` when no usable token was carried.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Authenticator { .. }
            | Self::Credential { .. }
            | Self::NoToken
            | Self::NoProofKey
            | Self::TwoTokens
            | Self::TokenShape { .. } => "IDENTITY-INVALID",
            Self::NoData | Self::Field { .. } | Self::Parameter(_) => PepCode::RequestMalformed.as_str(),
        }
    }
}

impl LoginRequest {
    /// Reads the body of `POST /session/v1/login-request`; `names` is the query string's part.
    ///
    /// # Errors
    ///
    /// No usable token, a credential or parameter that cannot be taken, a field of another type or size.
    pub fn parse(body: &Map<String, Value>, names: RequestedNames, limits: &Limits) -> Result<Self, LoginError> {
        let data = body.get("data").and_then(Value::as_object).ok_or(LoginError::NoData)?;
        let (carrier, token) = credential(data, limits)?;
        let proof_key = match carrier {
            Carrier::Browser => Some(Secret::new(text_field(data, "PROOF_KEY")?.ok_or(LoginError::NoProofKey)?)),
            Carrier::Oauth | Carrier::Pat | Carrier::Password | Carrier::Bearer => None,
        };
        let none = Map::new();
        let asked = match data.get("SESSION_PARAMETERS") {
            None | Some(Value::Null) => &none,
            Some(Value::Object(map)) => map,
            Some(_) => return Err(LoginError::Field { field: "SESSION_PARAMETERS" }),
        };
        let parameters = normalise(asked, Scope::Session)?;
        Ok(Self {
            carrier,
            token,
            proof_key,
            login_name: short(data, "LOGIN_NAME")?,
            client: client_facts(data)?,
            session_parameters: parameters.kept,
            dropped_parameters: parameters.dropped,
            query_tag: parameters.query_tag.map(|tag| tag.chars().take(QUERY_TAG_CHARS_MAX).collect()),
            names,
            environment: scalars(data, "CLIENT_ENVIRONMENT")?,
            capabilities: scalars(data, "CLIENT_CAPABILITIES")?,
        })
    }
}

impl LoginRequest {
    /// The login behind requests of the SQL API, which have a token and no login of their own. Results come as JSON, whatever
    /// Snowflake would choose.
    ///
    /// # Errors
    ///
    /// The token has not the shape of one.
    pub fn for_api(
        token: Secret,
        names: RequestedNames,
        user_agent: &str,
        limits: &Limits,
    ) -> Result<Self, LoginError> {
        const FORMATS: [&str; 4] = [
            "GO_QUERY_RESULT_FORMAT",
            "JDBC_QUERY_RESULT_FORMAT",
            "ODBC_QUERY_RESULT_FORMAT",
            "PYTHON_CONNECTOR_QUERY_RESULT_FORMAT",
        ];
        let shape = token.expose().len() <= limits.credential_bytes_max
            && token.expose().bytes().all(|byte| byte.is_ascii_graphic());
        if !shape {
            return Err(LoginError::TokenShape { bytes_max: limits.credential_bytes_max });
        }
        Ok(Self {
            carrier: Carrier::Bearer,
            token,
            proof_key: None,
            login_name: String::new(),
            client: ClientFacts {
                app_id: "SQLAPI".to_owned(),
                app_version: "2".to_owned(),
                application: fact(user_agent),
            },
            session_parameters: FORMATS.iter().map(|name| ((*name).to_owned(), "JSON".into())).collect(),
            dropped_parameters: Vec::new(),
            query_tag: None,
            names,
            environment: Map::new(),
            capabilities: Map::new(),
        })
    }
}

/// Credentials of kinds that icegate neither checks nor passes on. Silence about a second factor would be a lie.
const REFUSED_CREDENTIALS: [&str; 3] = ["SPCS_TOKEN", "RAW_SAML_RESPONSE", "PASSCODE"];

fn credential(data: &Map<String, Value>, limits: &Limits) -> Result<(Carrier, Secret), LoginError> {
    let authenticator = short(data, "AUTHENTICATOR")?.trim().to_ascii_uppercase();
    let token = text_field(data, "TOKEN")?;
    let password = text_field(data, "PASSWORD")?;
    let (carrier, found) = match authenticator.as_str() {
        "OAUTH" => (Carrier::Oauth, token),
        "PROGRAMMATIC_ACCESS_TOKEN" => (Carrier::Pat, token.or(password)),
        // One line of the Go driver sends an OAuth token and no authenticator.
        "" if password.is_none() && token.is_some() => (Carrier::Oauth, token),
        "EXTERNALBROWSER" => (Carrier::Browser, token),
        "" | "SNOWFLAKE" => (Carrier::Password, password),
        other => return Err(LoginError::Authenticator { authenticator: one_line(other, 64) }),
    };
    let proof_key = (carrier != Carrier::Browser).then_some("PROOF_KEY");
    for field in REFUSED_CREDENTIALS.into_iter().chain(proof_key) {
        if !matches!(data.get(field), None | Some(Value::Null)) && text_field(data, field)?.is_some() {
            return Err(LoginError::Credential { field });
        }
    }
    if let (Some(token), Some(password)) = (token, password)
        && token != password
    {
        return Err(LoginError::TwoTokens);
    }
    let found = found.map(str::trim).filter(|text| !text.is_empty()).ok_or(LoginError::NoToken)?;
    if found.len() > limits.credential_bytes_max || !found.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(LoginError::TokenShape { bytes_max: limits.credential_bytes_max });
    }
    Ok((carrier, Secret::new(found)))
}

/// A text that is there; absent, null and empty are the same.
fn text_field<'a>(data: &'a Map<String, Value>, field: &'static str) -> Result<Option<&'a str>, LoginError> {
    match data.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.as_str()).filter(|text| !text.is_empty())),
        Some(_) => Err(LoginError::Field { field }),
    }
}

pub(crate) fn short(data: &Map<String, Value>, field: &'static str) -> Result<String, LoginError> {
    let text = text_field(data, field)?.unwrap_or_default();
    if text.chars().count() > TEXT_CHARS_MAX || text.chars().any(char::is_control) {
        return Err(LoginError::Field { field });
    }
    Ok(text.to_owned())
}

/// What a login, or the request before it, says of the client.
pub(crate) fn client_facts(data: &Map<String, Value>) -> Result<ClientFacts, LoginError> {
    let application = match data.get("CLIENT_ENVIRONMENT") {
        Some(Value::Object(environment)) => environment.get("APPLICATION").and_then(json::scalar_text),
        _ => None,
    };
    Ok(ClientFacts {
        app_id: fact(&short(data, "CLIENT_APP_ID")?),
        app_version: fact(&short(data, "CLIENT_APP_VERSION")?),
        application: fact(&application.unwrap_or_default()),
    })
}

/// What a client says of itself, short enough to travel inside a sealed token.
fn fact(text: &str) -> String {
    one_line(text, 128)
}

/// The scalars of an object, bounded: what a client says of its machine is passed on, nothing nested and nothing huge.
fn scalars(data: &Map<String, Value>, field: &'static str) -> Result<Map<String, Value>, LoginError> {
    const ENTRIES_MAX: usize = 64;
    let map = match data.get(field) {
        None | Some(Value::Null) => return Ok(Map::new()),
        Some(Value::Object(map)) => map,
        Some(_) => return Err(LoginError::Field { field }),
    };
    let short = |value: &Value| json::scalar_text(value).is_some_and(|text| text.chars().count() <= TEXT_CHARS_MAX);
    Ok(map
        .iter()
        .filter(|(name, value)| name.len() <= 128 && short(value))
        .take(ENTRIES_MAX)
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect())
}
