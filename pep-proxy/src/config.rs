//! The configuration of one proxy: text to types, with the place and the remedy in every error.
//!
//! Everything is read and checked here, before a port is bound. Secrets are files or environment names; they are read
//! by [`secrets`] and never printed.

pub mod secrets;

mod connections;
mod raw;
mod results;
mod sign_in;

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use http::Uri;
use icegate_pep_masking::Pattern;
use icegate_pep_protocol::HostPattern;
use serde::Deserialize;

pub use self::sign_in::SignIn;
pub(crate) use self::sign_in::allowed;

/// Everything a proxy is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Stable name of this proxy, known to the PDP: one per replica.
    pub pep_id: String,
    /// Where drivers connect.
    pub listen: Listen,
    /// The warehouses behind this proxy: one without a name, or several with one each.
    pub connections: Vec<Connection>,
    /// Where records wait while the PDP is away.
    pub journal: Journal,
    /// The sealed tokens handed to drivers.
    pub tokens: Tokens,
    /// Statements that wait for a person.
    pub hold: Hold,
    /// The parts of large results that lie in storage.
    pub results: Results,
    /// What results are masked with.
    pub masking: Masking,
    /// Bounds on what one client may cost.
    pub limits: Limits,
    /// Where metrics and health are served; `None` is nowhere.
    pub metrics: Option<SocketAddr>,
}

/// One warehouse, and who decides about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// What the PDP's policies call it; empty where there is only one.
    pub name: String,
    /// Host names that mean it, without port.
    pub hosts: Vec<String>,
    /// Account names in logins that mean it.
    pub accounts: Vec<String>,
    /// The warehouse.
    pub upstream: Upstream,
    /// The decision point.
    pub pdp: Pdp,
    /// The session that answers the PDP's questions about the warehouse's objects; `None` answers none.
    pub catalog: Option<Catalog>,
    /// Sign-in with a browser; `None` refuses it.
    pub sign_in: Option<SignIn>,
}

/// The session that answers the PDP's questions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Catalog {
    /// Its role; `None` is `upstream.role`, and then the user's own.
    pub role: Option<String>,
    /// Its warehouse, likewise.
    pub warehouse: Option<String>,
}

/// Where drivers connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Address and port.
    pub addr: SocketAddr,
    /// Certificate and key; `None` only on loopback with `danger_plaintext`.
    pub tls: Option<ServerTls>,
    /// How long a stopping proxy waits for statements on their way.
    pub drain: Duration,
}

/// A server's certificate chain and key, both PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// The certificate chain, leaf first.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// The warehouse.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Upstream {
    /// Scheme and authority.
    pub url: Uri,
    /// Certificate authorities (PEM) to trust instead of the public ones.
    pub ca: Option<PathBuf>,
    /// Snowflake account identifier.
    pub account: String,
    /// The service user every session is opened as.
    pub user: String,
    /// How that user proves itself.
    pub auth: UpstreamAuth,
    /// Role when the driver names none and no rule is for it.
    pub role: Option<String>,
    /// Roles by group for drivers that name none; the first rule that is for one of the principal's groups counts.
    pub roles: Vec<RoleRule>,
    /// Warehouse when the driver names none.
    pub warehouse: Option<String>,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for one whole reply.
    pub reply_timeout: Duration,
    /// How often the files of the credential, and of the listener's certificate, are looked at.
    pub reread: Duration,
}

/// Members of a group begin in a role.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoleRule {
    /// The group, as the identity token spells it.
    pub group: String,
    /// The role at Snowflake.
    pub role: String,
}

/// How the service user proves itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UpstreamAuth {
    /// A JWT signed by this RSA private key (PEM file).
    KeyPair(PathBuf),
    /// A password from a file, without its last line break.
    PasswordFile(PathBuf),
    /// A password from an environment variable.
    PasswordEnv(String),
}

/// The decision point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pdp {
    /// Scheme and authority.
    pub url: Uri,
    /// Mutual TLS; `None` only on loopback with `danger_plaintext`.
    pub tls: Option<ClientTls>,
    /// Longest wait for a connection.
    pub connect_timeout: Duration,
    /// Longest wait for one answer.
    pub timeout: Duration,
    /// Having heard nothing for this long means unreachable.
    pub watch_stale: Duration,
    /// How long after the last contact cached allows may still run.
    pub grace: Duration,
}

/// A client's certificate and key and whom it trusts, all PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTls {
    /// Who signs the server's certificate.
    pub ca: PathBuf,
    /// Our certificate chain.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Where records wait while the PDP is away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Journal {
    /// The file.
    pub path: PathBuf,
    /// Bytes it may grow to; beyond, nothing runs under `grace`.
    pub bytes_max: u64,
}

/// The sealed tokens handed to drivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tokens {
    /// Keys, one per line, newest first; `None` makes one for this process only.
    pub keys_file: Option<PathBuf>,
    /// Make the file with a fresh key when it is missing.
    pub create: bool,
    /// Validity of a session token.
    pub session_ttl: Duration,
    /// Validity of a master token.
    pub master_ttl: Duration,
}

/// Statements that wait for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hold {
    /// How long one poll is held before it is answered with "still running".
    pub poll: Duration,
    /// Having seen no poll for this long means the driver has gone; the statement will not run.
    pub abandoned: Duration,
}

/// The parts of large results that lie in storage.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Results {
    /// How they reach drivers.
    pub chunks: Delivering,
    /// Hosts they may lie on.
    pub storage_hosts: Vec<HostPattern>,
    /// Certificate authorities (PEM) to trust there instead of the public ones.
    pub ca: Option<PathBuf>,
    /// `http` is taken, on loopback only.
    pub danger_plaintext: bool,
    /// Where drivers reach this proxy, when it is not where they connect to.
    pub url: Option<String>,
    /// How long an address of a part is good.
    pub ttl: Duration,
    /// Parts on their way at one time.
    pub fetches_max: usize,
}

/// What results are masked with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Masking {
    /// Keys of `tokenize` and `fpe`, one per line; `None`: nothing that needs one runs.
    pub keys: Option<MaskKeys>,
    /// How often a command is asked for them again.
    pub keys_every: Duration,
    /// What every `scan` looks for besides.
    pub patterns: Vec<Pattern>,
}

/// Where keys of masks come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MaskKeys {
    /// A file.
    File(PathBuf),
    /// What a program writes: its path, and its arguments.
    Command(PathBuf, Vec<String>),
}

/// How the parts of a result in storage reach drivers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivering {
    /// From this proxy, which fetches them.
    #[default]
    Through,
    /// From the storage itself, by Snowflake's own URLs.
    Direct,
}

impl Default for Results {
    fn default() -> Self {
        Self {
            chunks: Delivering::default(),
            storage_hosts: STORAGE_HOSTS.iter().filter_map(|text| HostPattern::parse(text)).collect(),
            ca: None,
            danger_plaintext: false,
            url: None,
            ttl: Duration::from_hours(1),
            fetches_max: 512,
        }
    }
}

/// Where Snowflake's accounts on the three clouds keep results.
const STORAGE_HOSTS: [&str; 9] = [
    "s3.amazonaws.com",
    "*.s3.amazonaws.com",
    "s3.*.amazonaws.com",
    "*.s3.*.amazonaws.com",
    "*.s3.*.amazonaws.com.cn",
    "*.blob.core.windows.net",
    "*.blob.core.usgovcloudapi.net",
    "storage.googleapis.com",
    "*.storage.googleapis.com",
];

/// Bounds on what one client may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of one request, unpacked.
    pub body_bytes_max: usize,
    /// Bytes of one reply from the warehouse, unpacked.
    pub reply_bytes_max: usize,
    /// Connections at one time.
    pub connections_max: usize,
    /// Connections from one address at one time.
    pub connections_per_address_max: usize,
    /// Bytes of all requests being read or worked on.
    pub bodies_bytes_max: usize,
    /// Bytes of a request's head.
    pub head_bytes_max: usize,
    /// Longest wait for a request's head: also how long an idle connection is kept.
    pub head_timeout: Duration,
    /// Longest wait for a request's body.
    pub body_timeout: Duration,
    /// Longest wait for a client that does not read its answer.
    pub write_timeout: Duration,
    /// Calls to the warehouses on their way at one time.
    pub upstream_calls_max: usize,
    /// The same of one connection, that is of one account.
    pub upstream_calls_per_connection_max: usize,
    /// Longest wait for a place among them.
    pub upstream_wait: Duration,
    /// Held statements of one session.
    pub held_per_session_max: usize,
    /// Held statements in all.
    pub held_max: usize,
    /// Cached decisions.
    pub cache_entries_max: u64,
    /// Query ids remembered with the session they belong to.
    pub queries_max: u64,
    /// Bytes of finished answers kept for retries and late polls.
    pub kept_bytes_max: u64,
    /// Sessions remembered in memory. A forgotten one is read again from its token.
    pub sessions_max: u64,
}

impl Config {
    /// Reads and checks the file, and nothing beside it.
    ///
    /// # Errors
    /// When it cannot be read, or says something that cannot be.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| ConfigError {
            file: name.clone(),
            line: 0,
            message: format!("cannot be read: {error}"),
        })?;
        Self::parse(&text, &name)
    }

    /// Reads and checks `text`; `name` is what errors call it.
    ///
    /// # Errors
    /// When it is not TOML, has an unknown key, or says something that cannot be.
    pub fn parse(text: &str, name: &str) -> Result<Self, ConfigError> {
        raw::parse(text).map_err(|fault| ConfigError {
            file: name.to_owned(),
            line: fault.line(text),
            message: fault.message,
        })
    }
}

/// What is wrong with a configuration, where, and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError {
    /// The file as it was named.
    pub file: String,
    /// Line, from 1; 0 when the fault has no place.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.file, self.message),
            line => write!(f, "{}:{line}: {}", self.file, self.message),
        }
    }
}
