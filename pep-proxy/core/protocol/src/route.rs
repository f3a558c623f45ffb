//! Which of the few known calls a request is. What is not listed here does not exist.

use std::{borrow::Cow, collections::BTreeMap, fmt};

use crate::{
    chunk::CHUNK_PATH,
    limits::{CHUNK_ADDRESS_BYTES_MAX, PATH_BYTES_MAX, QUERY_PARAMETERS_MAX, QUERY_STRING_BYTES_MAX, TEXT_CHARS_MAX},
    login::{NameError, RequestedNames},
    refusal::PepCode,
    sign_in::{SignInPage, SignInReturn},
};

/// A call of Snowflake's protocol that icegate knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    /// `POST /session/v1/login-request`.
    Login {
        /// What the query string asks to start with.
        names: RequestedNames,
    },
    /// `POST /session/authenticator-request`: a driver wants to sign in with a browser.
    SignInAsk,
    /// `GET /console/login`: a browser opens the page.
    SignInPage(SignInPage),
    /// `GET /console/login/callback`: a browser comes back from the identity provider.
    SignInReturn(SignInReturn),
    /// `POST /session/token-request`: renewal.
    TokenRequest,
    /// `POST /session/heartbeat`.
    Heartbeat,
    /// `POST /session?delete=true`.
    Logout,
    /// `POST /queries/v1/query-request`.
    Query {
        /// The same on every retry of one statement. All known drivers send it.
        request_id: Option<RequestId>,
    },
    /// `GET /queries/<id>/result`.
    QueryResult(QueryId),
    /// `POST /queries/v1/abort-request`: the body names the request to stop.
    AbortByRequest,
    /// `POST /queries/<id>/abort-request`.
    AbortById(QueryId),
    /// `GET /monitoring/queries/<id>`.
    Monitoring(QueryId),
    /// `POST /telemetry/send` and `/telemetry/send/sessionless`: answered here, never forwarded.
    Telemetry,
    /// `GET /chunks/<sealed>`: a part of a large result. The address is all the client shows.
    Chunk(String),
    /// `POST /api/v2/statements`: the SQL API.
    ApiSubmit {
        /// The same on every retry of one request.
        request_id: Option<RequestId>,
        /// The client wants to come back for the result.
        detached: bool,
    },
    /// `GET /api/v2/statements/<handle>`.
    ApiResult {
        /// The handle, which is the query id.
        handle: QueryId,
        /// Which part, from 0.
        partition: usize,
    },
    /// `POST /api/v2/statements/<handle>/cancel`.
    ApiCancel(QueryId),
}

impl Route {
    /// Reads method, path and query string (without `?`), after normalising the path once.
    ///
    /// # Errors
    ///
    /// Not a known call, or malformed.
    pub fn parse(method: &str, path: &str, query: &str) -> Result<Self, RouteError> {
        if let Some(sealed) = path.strip_prefix(CHUNK_PATH) {
            return chunk(method, sealed, query);
        }
        let segments = segments(path)?;
        let parameters = Parameters::parse(query)?;
        let post = method == "POST";
        let get = method == "GET";
        match segments.as_slice() {
            ["session", "v1", "login-request"] if post => Ok(Self::Login { names: parameters.names()? }),
            ["session", "authenticator-request"] if post => Ok(Self::SignInAsk),
            ["console", "login"] if get => Ok(Self::SignInPage(parameters.sign_in_page())),
            ["console", "login", "callback"] if get => Ok(Self::SignInReturn(parameters.sign_in_return())),
            ["session", "token-request"] if post => Ok(Self::TokenRequest),
            ["session", "heartbeat"] if post => Ok(Self::Heartbeat),
            ["session"] if post && parameters.is("delete", "true") => Ok(Self::Logout),
            ["queries", "v1", "query-request"] if post => Ok(Self::Query { request_id: parameters.request_id()? }),
            ["queries", "v1", "abort-request"] if post => Ok(Self::AbortByRequest),
            ["queries", id, "result"] if get => Ok(Self::QueryResult(query_id(id)?)),
            ["queries", id, "abort-request"] if post => Ok(Self::AbortById(query_id(id)?)),
            ["monitoring", "queries", id] if get => Ok(Self::Monitoring(query_id(id)?)),
            ["telemetry", "send"] | ["telemetry", "send", "sessionless"] if post => Ok(Self::Telemetry),
            ["api", "v2", "statements"] if post => {
                if parameters.flag("nullable")? == Some(false) {
                    // A null would become the text `null`, and no reader could tell them apart.
                    return Err(RouteError::Parameter { name: "nullable" });
                }
                let detached = parameters.flag("async")?.unwrap_or(false);
                Ok(Self::ApiSubmit { request_id: parameters.request_id()?, detached })
            }
            ["api", "v2", "statements", handle] if get => {
                let partition = match parameters.text("partition") {
                    None => 0,
                    Some(text) => text.parse().map_err(|_| RouteError::Parameter { name: "partition" })?,
                };
                Ok(Self::ApiResult { handle: query_id(handle)?, partition })
            }
            ["api", "v2", "statements", handle, "cancel"] if post => Ok(Self::ApiCancel(query_id(handle)?)),
            _ => Err(RouteError::Unknown),
        }
    }

    /// A word for metrics and logs, from a closed set.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Login { .. } => "login",
            Self::SignInAsk => "sign-in-ask",
            Self::SignInPage(_) => "sign-in-page",
            Self::SignInReturn(_) => "sign-in-return",
            Self::TokenRequest => "token-request",
            Self::Heartbeat => "heartbeat",
            Self::Logout => "logout",
            Self::Query { .. } => "query",
            Self::QueryResult(_) => "query-result",
            Self::AbortByRequest => "abort-by-request",
            Self::AbortById(_) => "abort-by-id",
            Self::Monitoring(_) => "monitoring",
            Self::Telemetry => "telemetry",
            Self::Chunk(_) => "chunk",
            Self::ApiSubmit { .. } => "api-submit",
            Self::ApiResult { .. } => "api-result",
            Self::ApiCancel(_) => "api-cancel",
        }
    }
}

/// Why a request is no known call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// Not on the list.
    #[error("icegate does not serve this path")]
    Unknown,
    /// Spelled in a way that two programs could read differently.
    #[error("the request's {part} is malformed: {why}")]
    Malformed {
        /// `path` or `query string`.
        part: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Over a limit.
    #[error("the request's {part} is longer than {bytes_max} bytes")]
    TooLong {
        /// `path` or `query string`.
        part: &'static str,
        /// The limit it is over.
        bytes_max: usize,
    },
    /// A known parameter with a value that cannot be.
    #[error("the query parameter `{name}` is not valid")]
    Parameter {
        /// Which one.
        name: &'static str,
    },
    /// A database, schema, warehouse or role that is no identifier.
    #[error(transparent)]
    Name(#[from] NameError),
}

impl RouteError {
    /// Which refusal this is.
    pub fn code(&self) -> PepCode {
        match self {
            Self::Unknown => PepCode::RouteUnknown,
            Self::TooLong { .. } => PepCode::RequestLimit,
            Self::Malformed { .. } | Self::Parameter { .. } | Self::Name(_) => PepCode::RequestMalformed,
        }
    }
}

/// Snowflake's name of one execution, in the shape of a UUID, lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueryId(String);

impl QueryId {
    /// Takes text of a UUID's shape.
    pub fn parse(text: &str) -> Option<Self> {
        uuid_shaped(text).map(Self)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for QueryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A driver's name of one statement, the same on every retry; a UUID, lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(String);

impl RequestId {
    /// Takes text of a UUID's shape.
    pub fn parse(text: &str) -> Option<Self> {
        uuid_shaped(text).map(Self)
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn uuid_shaped(text: &str) -> Option<String> {
    const SHAPE: &[u8; 36] = b"xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";
    let fits = |(byte, shape): (u8, &u8)| if *shape == b'-' { byte == b'-' } else { byte.is_ascii_hexdigit() };
    // Looked at to the end: the processor then takes many bytes at a time.
    let shaped = text.len() == SHAPE.len() && text.bytes().zip(SHAPE).fold(true, |all, one| all & fits(one));
    shaped.then(|| text.to_ascii_lowercase())
}

fn query_id(segment: &str) -> Result<QueryId, RouteError> {
    QueryId::parse(segment).ok_or(RouteError::Unknown)
}

/// The address of a part, which is longer than any other path and has no query string.
fn chunk(method: &str, sealed: &str, query: &str) -> Result<Route, RouteError> {
    if sealed.len() > CHUNK_ADDRESS_BYTES_MAX {
        return Err(RouteError::TooLong { part: "path", bytes_max: CHUNK_ADDRESS_BYTES_MAX });
    }
    let sound = sealed.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'));
    if method == "GET" && sound && query.is_empty() {
        Ok(Route::Chunk(sealed.to_owned()))
    } else {
        Err(RouteError::Unknown)
    }
}

/// The path's parts. Empty ones are dropped: connector 5.2.0 polls `/monitoring/queries//<id>`.
///
/// None of the known paths needs an escape, a parameter or a dot, so whoever sends one means something else.
fn segments(path: &str) -> Result<Vec<&str>, RouteError> {
    let malformed = |why| Err(RouteError::Malformed { part: "path", why });
    if path.len() > PATH_BYTES_MAX {
        return Err(RouteError::TooLong { part: "path", bytes_max: PATH_BYTES_MAX });
    }
    if !path.starts_with('/') {
        return malformed("it does not begin with `/`");
    }
    if !path.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'-' | b'_' | b'.')) {
        return malformed("it has a character that no path of the protocol has");
    }
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    if segments.iter().any(|segment| segment.bytes().all(|byte| byte == b'.')) {
        return malformed("it has a dot segment");
    }
    Ok(segments)
}

/// A query string, each name once.
struct Parameters<'a>(BTreeMap<Cow<'a, str>, Cow<'a, str>>);

impl<'a> Parameters<'a> {
    fn parse(query: &'a str) -> Result<Self, RouteError> {
        let malformed = |why| RouteError::Malformed { part: "query string", why };
        if query.len() > QUERY_STRING_BYTES_MAX {
            return Err(RouteError::TooLong { part: "query string", bytes_max: QUERY_STRING_BYTES_MAX });
        }
        let mut known = BTreeMap::new();
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            if known.len() == QUERY_PARAMETERS_MAX {
                return Err(malformed("it has too many parameters"));
            }
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let name = decode(name).ok_or_else(|| malformed("an escape is not valid"))?;
            let value = decode(value).ok_or_else(|| malformed("an escape is not valid"))?;
            if known.insert(name, value).is_some() {
                return Err(malformed("a parameter is there twice"));
            }
        }
        Ok(Self(known))
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Cow::as_ref).filter(|value| !value.is_empty())
    }

    fn is(&self, name: &str, value: &str) -> bool {
        self.text(name) == Some(value)
    }

    fn flag(&self, name: &'static str) -> Result<Option<bool>, RouteError> {
        match self.text(name) {
            None => Ok(None),
            Some(text) if text.eq_ignore_ascii_case("true") => Ok(Some(true)),
            Some(text) if text.eq_ignore_ascii_case("false") => Ok(Some(false)),
            Some(_) => Err(RouteError::Parameter { name }),
        }
    }

    /// `requestId`, or `request_id` as connector 4 spells it at login.
    fn request_id(&self) -> Result<Option<RequestId>, RouteError> {
        if self.text("requestId").is_some() && self.text("request_id").is_some() {
            return Err(RouteError::Parameter { name: "request_id" });
        }
        self.text("requestId")
            .or_else(|| self.text("request_id"))
            .map(|text| RequestId::parse(text).ok_or(RouteError::Parameter { name: "requestId" }))
            .transpose()
    }

    fn owned(&self, name: &str) -> Option<String> {
        self.text(name).map(str::to_owned)
    }

    fn sign_in_page(&self) -> SignInPage {
        SignInPage {
            ask: self.owned("ask"),
            login_name: self.owned("login_name"),
            port: self.owned("browser_mode_redirect_port"),
            proof_key: self.owned("proof_key"),
        }
    }

    fn sign_in_return(&self) -> SignInReturn {
        SignInReturn {
            state: self.owned("state").unwrap_or_default(),
            code: self.owned("code"),
            iss: self.owned("iss"),
            error: self.owned("error"),
        }
    }

    fn names(&self) -> Result<RequestedNames, RouteError> {
        Ok(RequestedNames::fold(
            self.text("databaseName"),
            self.text("schemaName"),
            self.text("roleName"),
            self.text("warehouse"),
        )?)
    }
}

/// Undoes form encoding. `None` for a broken escape, a control character, text that is not UTF-8 or too long.
fn decode(text: &str) -> Option<Cow<'_, str>> {
    if text.len() <= TEXT_CHARS_MAX
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
    {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high * 16 + low).ok()?
            }
            plain => plain,
        });
    }
    let text = String::from_utf8(bytes).ok()?;
    let sound = !text.chars().any(char::is_control) && text.len() <= TEXT_CHARS_MAX;
    sound.then_some(Cow::Owned(text))
}
