//! The file as it is written, and its way to [`Config`].

use std::{net::SocketAddr, ops::Range, path::PathBuf, time::Duration};

use http::Uri;
use serde::Deserialize;

use super::{
    Catalog, ClientTls, Config, Hold, Journal, Limits, Listen, Pdp, RoleRule, ServerTls, Tokens, Upstream,
    UpstreamAuth,
    connections::{RawConnection, Single, connections_of},
    results::{RawMasking, RawResults, masking_of, results_of},
    sign_in::RawSignIn,
};

/// A fault and how to find its line.
pub(super) struct Fault {
    place: Place,
    pub(super) message: String,
}

enum Place {
    Bytes(Range<usize>),
    /// Table and key; the key may be empty.
    Key(&'static str, &'static str),
    /// Which of the connections, from 0.
    Connection(usize),
}

impl Fault {
    pub(super) fn at(table: &'static str, key: &'static str, message: impl Into<String>) -> Self {
        Self { place: Place::Key(table, key), message: message.into() }
    }

    /// The same fault, in one of several connections.
    pub(super) fn of_connection(self, at: usize, name: &str) -> Self {
        Self { place: Place::Connection(at), message: format!("connection `{name}`: {}", self.message) }
    }

    /// The line in `text`, from 1; the table's own line when the key is not written, 0 when neither is.
    pub(super) fn line(&self, text: &str) -> usize {
        match &self.place {
            Place::Bytes(range) => text.as_bytes().iter().take(range.start).filter(|&&byte| byte == b'\n').count() + 1,
            Place::Key(table, key) => line_of(text, table, key),
            Place::Connection(at) => {
                let mut headers =
                    text.lines().enumerate().filter(|(_, line)| line.trim().starts_with("[[connections]]"));
                headers.nth(*at).map_or(0, |(index, _)| index + 1)
            }
        }
    }
}

fn line_of(text: &str, table: &str, key: &str) -> usize {
    let mut current = "";
    let mut header = 0;
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.split(']').next()) {
            current = name.trim();
            if current == table {
                header = index + 1;
            }
        } else if current == table && line.split('=').next().is_some_and(|name| name.trim() == key) {
            return index + 1;
        }
    }
    header
}

pub(super) type Text = toml::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    pep_id: Option<String>,
    listen: Option<RawListen>,
    upstream: Option<RawUpstream>,
    pdp: Option<RawPdp>,
    #[serde(default)]
    journal: RawJournal,
    #[serde(default)]
    tokens: RawTokens,
    #[serde(default)]
    hold: RawHold,
    #[serde(default)]
    results: RawResults,
    #[serde(default)]
    masking: RawMasking,
    #[serde(default)]
    limits: RawLimits,
    #[serde(default)]
    metrics: RawMetrics,
    catalog: Option<RawCatalog>,
    sign_in: Option<RawSignIn>,
    #[serde(default)]
    connections: Vec<RawConnection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawListen {
    addr: Option<String>,
    tls: Option<RawServerTls>,
    #[serde(default)]
    danger_plaintext: bool,
    drain: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawServerTls {
    cert: PathBuf,
    key: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawUpstream {
    url: Option<String>,
    #[serde(default)]
    danger_plaintext: bool,
    ca: Option<PathBuf>,
    account: Option<String>,
    user: Option<String>,
    #[serde(default)]
    auth: Auth,
    private_key: Option<PathBuf>,
    password_file: Option<PathBuf>,
    password_env: Option<String>,
    role: Option<String>,
    #[serde(default)]
    roles: Vec<RoleRule>,
    warehouse: Option<String>,
    connect_timeout: Option<Text>,
    reply_timeout: Option<Text>,
    reread: Option<Text>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Auth {
    #[default]
    KeyPair,
    Password,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPdp {
    url: Option<String>,
    tls: Option<RawClientTls>,
    #[serde(default)]
    danger_plaintext: bool,
    connect_timeout: Option<Text>,
    timeout: Option<Text>,
    watch_stale: Option<Text>,
    grace: Option<Text>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawClientTls {
    ca: PathBuf,
    cert: PathBuf,
    key: PathBuf,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawJournal {
    path: Option<PathBuf>,
    bytes_max: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawTokens {
    keys_file: Option<PathBuf>,
    #[serde(default)]
    create: bool,
    session_ttl: Option<Text>,
    master_ttl: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawHold {
    poll: Option<Text>,
    abandoned: Option<Text>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawLimits {
    body_bytes_max: Option<usize>,
    reply_bytes_max: Option<usize>,
    connections_max: Option<usize>,
    connections_per_address_max: Option<usize>,
    bodies_bytes_max: Option<usize>,
    head_bytes_max: Option<usize>,
    head_timeout: Option<Text>,
    body_timeout: Option<Text>,
    write_timeout: Option<Text>,
    upstream_calls_max: Option<usize>,
    upstream_calls_per_connection_max: Option<usize>,
    upstream_wait: Option<Text>,
    held_per_session_max: Option<usize>,
    held_max: Option<usize>,
    cache_entries_max: Option<u64>,
    queries_max: Option<u64>,
    kept_bytes_max: Option<u64>,
    sessions_max: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCatalog {
    #[serde(default)]
    sync: Switch,
    role: Option<String>,
    warehouse: Option<String>,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Switch {
    On,
    #[default]
    Off,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawMetrics {
    addr: Option<String>,
}

const MIB: usize = 1024 * 1024;

/// Least bytes of a request's head: the longest token, the longest path, and some headers.
const HEAD_BYTES_MIN: usize = 32 * 1024;
/// Longest name of a proxy: it is sent with every call to the PDP.
const PEP_ID_BYTES_MAX: usize = 128;

pub(super) fn parse(text: &str) -> Result<Config, Fault> {
    let raw: RawConfig = toml::from_str(text).map_err(|error| Fault {
        place: error.span().map_or(Place::Key("", ""), Place::Bytes),
        message: unknown_key(error.message()).unwrap_or_else(|| error.message().to_owned()),
    })?;
    let pep_id = raw.pep_id.filter(|id| !id.is_empty()).ok_or_else(|| {
        Fault::at("", "pep_id", "`pep_id` is missing; give this proxy a name of its own, as in pep_id = \"pep-1\"")
    })?;
    if pep_id.len() > PEP_ID_BYTES_MAX || !pep_id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Fault::at(
            "",
            "pep_id",
            format!("`pep_id` is not a plain name; use at most {PEP_ID_BYTES_MAX} ASCII letters, digits and signs"),
        ));
    }
    let listen = raw.listen.ok_or_else(|| missing_table("listen"))?;
    let single = Single { upstream: raw.upstream, pdp: raw.pdp, catalog: raw.catalog, sign_in: raw.sign_in };
    let connections = connections_of(single, raw.connections)?;
    let limits = raw.limits;
    let config = Config {
        pep_id,
        listen: listen_of(listen)?,
        connections,
        journal: Journal {
            path: raw.journal.path.unwrap_or_else(|| PathBuf::from("icegate-pep.journal")),
            bytes_max: raw.journal.bytes_max.unwrap_or(64 * MIB as u64),
        },
        tokens: Tokens {
            keys_file: raw.tokens.keys_file,
            create: raw.tokens.create,
            session_ttl: duration("tokens", "session_ttl", raw.tokens.session_ttl.as_ref(), "1h")?,
            master_ttl: duration("tokens", "master_ttl", raw.tokens.master_ttl.as_ref(), "4h")?,
        },
        hold: Hold {
            poll: duration("hold", "poll", raw.hold.poll.as_ref(), "25s")?,
            abandoned: duration("hold", "abandoned", raw.hold.abandoned.as_ref(), "60s")?,
        },
        results: results_of(raw.results)?,
        masking: masking_of(raw.masking)?,
        limits: Limits {
            body_bytes_max: positive("body_bytes_max", limits.body_bytes_max, 16 * MIB)?,
            reply_bytes_max: positive("reply_bytes_max", limits.reply_bytes_max, 256 * MIB)?,
            connections_max: positive("connections_max", limits.connections_max, 4096)?,
            connections_per_address_max: positive(
                "connections_per_address_max",
                limits.connections_per_address_max,
                1024,
            )?,
            bodies_bytes_max: positive("bodies_bytes_max", limits.bodies_bytes_max, 512 * MIB)?,
            head_bytes_max: positive("head_bytes_max", limits.head_bytes_max, 64 * 1024)?,
            head_timeout: duration("limits", "head_timeout", limits.head_timeout.as_ref(), "2m")?,
            body_timeout: duration("limits", "body_timeout", limits.body_timeout.as_ref(), "1m")?,
            write_timeout: duration("limits", "write_timeout", limits.write_timeout.as_ref(), "1m")?,
            upstream_calls_max: positive("upstream_calls_max", limits.upstream_calls_max, 2048)?,
            upstream_calls_per_connection_max: positive(
                "upstream_calls_per_connection_max",
                limits.upstream_calls_per_connection_max,
                1024,
            )?,
            upstream_wait: duration("limits", "upstream_wait", limits.upstream_wait.as_ref(), "10s")?,
            held_per_session_max: positive("held_per_session_max", limits.held_per_session_max, 8)?,
            held_max: positive("held_max", limits.held_max, 1024)?,
            cache_entries_max: limits.cache_entries_max.unwrap_or(10_000),
            queries_max: limits.queries_max.unwrap_or(100_000),
            kept_bytes_max: limits.kept_bytes_max.unwrap_or(64 * MIB as u64),
            sessions_max: limits.sessions_max.unwrap_or(100_000),
        },
        metrics: raw.metrics.addr.map(|addr| socket_addr("metrics", &addr)).transpose()?,
    };
    related(&config)?;
    Ok(config)
}

/// What only two keys together can get wrong.
fn related(config: &Config) -> Result<(), Fault> {
    if config.tokens.master_ttl < config.tokens.session_ttl {
        return Err(Fault::at("tokens", "master_ttl", "`tokens.master_ttl` is shorter than `tokens.session_ttl`"));
    }
    if config.tokens.create && config.tokens.keys_file.is_none() {
        return Err(Fault::at("tokens", "create", "`tokens.create` makes `tokens.keys_file`, which is missing"));
    }
    if config.hold.poll.is_zero() || config.hold.poll > Duration::from_secs(40) {
        return Err(Fault::at(
            "hold",
            "poll",
            "`hold.poll` must be above zero and at most \"40s\": drivers give up after 45s",
        ));
    }
    let limits = &config.limits;
    if limits.head_bytes_max < HEAD_BYTES_MIN {
        return Err(Fault::at(
            "limits",
            "head_bytes_max",
            format!("`limits.head_bytes_max` is less than {HEAD_BYTES_MIN}; a driver's token alone takes some of that"),
        ));
    }
    if limits.bodies_bytes_max < limits.body_bytes_max {
        return Err(Fault::at(
            "limits",
            "bodies_bytes_max",
            "`limits.bodies_bytes_max` is less than `limits.body_bytes_max`: no request of that size would ever have room",
        ));
    }
    for (key, timeout) in [
        ("head_timeout", limits.head_timeout),
        ("body_timeout", limits.body_timeout),
        ("write_timeout", limits.write_timeout),
    ] {
        if timeout.is_zero() {
            return Err(Fault::at("limits", key, format!("`limits.{key}` is 0; nothing would come in time")));
        }
    }
    if config.hold.abandoned < config.hold.poll * 2 {
        return Err(Fault::at("hold", "abandoned", "`hold.abandoned` must be at least twice `hold.poll`"));
    }
    Ok(())
}

fn listen_of(raw: RawListen) -> Result<Listen, Fault> {
    let addr = raw.addr.ok_or_else(|| missing("listen", "addr", "as in addr = \"0.0.0.0:8443\""))?;
    let addr = socket_addr("listen", &addr)?;
    let tls = raw.tls.map(|tls| ServerTls { cert: tls.cert, key: tls.key });
    match (&tls, raw.danger_plaintext) {
        (Some(_), false) => {}
        (Some(_), true) => {
            return Err(Fault::at(
                "listen",
                "danger_plaintext",
                "`listen.danger_plaintext` and `listen.tls` exclude each other; remove one",
            ));
        }
        (None, false) => {
            return Err(Fault::at(
                "listen",
                "addr",
                "`listen.tls` is missing; give it a certificate and key, as in tls = { cert = \"pep.pem\", key = \"pep.key\" }",
            ));
        }
        (None, true) if addr.ip().is_loopback() => {}
        (None, true) => {
            return Err(Fault::at(
                "listen",
                "danger_plaintext",
                format!(
                    "`listen.danger_plaintext` is for loopback only and `listen.addr` is `{addr}`; use `listen.tls`"
                ),
            ));
        }
    }
    Ok(Listen { addr, tls, drain: duration("listen", "drain", raw.drain.as_ref(), "30s")? })
}

pub(super) fn upstream_of(raw: RawUpstream) -> Result<Upstream, Fault> {
    let url = raw
        .url
        .ok_or_else(|| missing("upstream", "url", "as in url = \"https://myorg-myaccount.snowflakecomputing.com\""))?;
    let url = base_url("upstream", &url, raw.danger_plaintext)?;
    let auth = match raw.auth {
        Auth::KeyPair => {
            if raw.password_file.is_some() || raw.password_env.is_some() {
                return Err(Fault::at(
                    "upstream",
                    "auth",
                    "a password is given and `upstream.auth` is `key_pair`; say auth = \"password\"",
                ));
            }
            UpstreamAuth::KeyPair(raw.private_key.ok_or_else(|| {
                missing(
                    "upstream",
                    "private_key",
                    "the RSA key file (PEM, PKCS#8) of the service user; or say auth = \"password\"",
                )
            })?)
        }
        Auth::Password => match (raw.private_key, raw.password_file, raw.password_env) {
            (Some(_), _, _) => {
                return Err(Fault::at(
                    "upstream",
                    "private_key",
                    "`upstream.private_key` is given and `upstream.auth` is `password`; remove one",
                ));
            }
            (None, Some(file), None) => UpstreamAuth::PasswordFile(file),
            (None, None, Some(name)) => UpstreamAuth::PasswordEnv(name),
            (None, None, None) | (None, Some(_), Some(_)) => {
                return Err(Fault::at(
                    "upstream",
                    "auth",
                    "give exactly one of `upstream.password_file` and `upstream.password_env`",
                ));
            }
        },
    };
    let reread = duration("upstream", "reread", raw.reread.as_ref(), "10s")?;
    if reread.is_zero() {
        return Err(Fault::at(
            "upstream",
            "reread",
            "`upstream.reread` is 0; files are looked at every so often, as in \"10s\"",
        ));
    }
    Ok(Upstream {
        url,
        ca: raw.ca,
        account: raw
            .account
            .filter(|text| !text.is_empty())
            .ok_or_else(|| missing("upstream", "account", "the Snowflake account identifier"))?,
        user: raw
            .user
            .filter(|text| !text.is_empty())
            .ok_or_else(|| missing("upstream", "user", "the service user sessions are opened as"))?,
        auth,
        role: raw.role,
        roles: rules_of(raw.roles)?,
        warehouse: raw.warehouse,
        connect_timeout: duration("upstream", "connect_timeout", raw.connect_timeout.as_ref(), "10s")?,
        reply_timeout: duration("upstream", "reply_timeout", raw.reply_timeout.as_ref(), "10m")?,
        reread,
    })
}

pub(super) fn catalog_of(raw: RawCatalog) -> Option<Catalog> {
    match raw.sync {
        Switch::On => Some(Catalog { role: raw.role, warehouse: raw.warehouse }),
        Switch::Off => None,
    }
}

fn rules_of(rules: Vec<RoleRule>) -> Result<Vec<RoleRule>, Fault> {
    for (at, rule) in rules.iter().enumerate() {
        let RoleRule { group, role } = rule;
        let fault = |why: &str| Err(Fault::at("upstream", "roles", format!("`upstream.roles`: {why}")));
        if group.is_empty() || role.is_empty() {
            return fault("a rule needs both, as in { group = \"analysts\", role = \"ANALYST\" }");
        }
        if rules.iter().take(at).any(|earlier| earlier.group == *group) {
            return fault(&format!("`{group}` stands twice, and only the first would count; remove one"));
        }
    }
    Ok(rules)
}

pub(super) fn pdp_of(raw: RawPdp) -> Result<Pdp, Fault> {
    let url = raw.url.ok_or_else(|| missing("pdp", "url", "as in url = \"https://pdp.internal:7700\""))?;
    let url = base_url("pdp", &url, raw.danger_plaintext)?;
    let https = url.scheme_str() == Some("https");
    let tls = raw.tls.map(|tls| ClientTls { ca: tls.ca, cert: tls.cert, key: tls.key });
    if https && tls.is_none() {
        return Err(Fault::at(
            "pdp",
            "url",
            "`pdp.tls` is missing; the PDP knows its proxies by certificate, as in tls = { ca = \"ca.pem\", cert = \"pep.pem\", key = \"pep.key\" }",
        ));
    }
    if !https && tls.is_some() {
        return Err(Fault::at("pdp", "tls", "`pdp.tls` is given and `pdp.url` is `http`; use `https`"));
    }
    Ok(Pdp {
        url,
        tls,
        connect_timeout: duration("pdp", "connect_timeout", raw.connect_timeout.as_ref(), "2s")?,
        timeout: duration("pdp", "timeout", raw.timeout.as_ref(), "5s")?,
        watch_stale: duration("pdp", "watch_stale", raw.watch_stale.as_ref(), "10s")?,
        grace: duration("pdp", "grace", raw.grace.as_ref(), "0s")?,
    })
}

/// Whether a URL's host is this machine, by name or address.
pub(super) fn is_loopback(host: &str) -> bool {
    host == "localhost" || host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

pub(super) fn base_url(table: &'static str, text: &str, danger_plaintext: bool) -> Result<Uri, Fault> {
    let bad = |why: &str| Fault::at(table, "url", format!("`{table}.url` is `{text}`; {why}"));
    let url: Uri = text.parse().map_err(|_| bad("it must be a URL, as in \"https://host:port\""))?;
    let host = url
        .host()
        .filter(|host| !host.is_empty())
        .ok_or_else(|| bad("it must be a URL, as in \"https://host:port\""))?;
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(Fault::at(table, "url", format!("`{table}.url` has a user or password in it; remove that")));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() {
        return Err(bad("it must end after the host and port"));
    }
    match (url.scheme_str(), danger_plaintext, is_loopback(host)) {
        (Some("https"), false, _) | (Some("http"), true, true) => Ok(url),
        (Some("https"), true, _) => Err(Fault::at(
            table,
            "danger_plaintext",
            format!("`{table}.danger_plaintext` is set and `{table}.url` is `https`; remove it"),
        )),
        (Some("http"), true, false) => Err(bad("plaintext is for loopback only; use `https`")),
        (Some("http"), false, true) => Err(bad("plaintext needs danger_plaintext = true, or use `https`")),
        _ => Err(bad("the scheme must be `https`")),
    }
}

fn socket_addr(table: &'static str, text: &str) -> Result<SocketAddr, Fault> {
    text.parse().map_err(|_| {
        Fault::at(
            table,
            "addr",
            format!("`{table}.addr` is `{text}`; it must be an address and port, as in \"127.0.0.1:8443\""),
        )
    })
}

pub(super) fn duration(
    table: &'static str,
    key: &'static str,
    value: Option<&Text>,
    default: &str,
) -> Result<Duration, Fault> {
    let text = match value {
        None => default.to_owned(),
        Some(Text::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    humantime::parse_duration(&text).map_err(|_| {
        Fault::at(table, key, format!("`{table}.{key}` is `{text}`; a duration needs its unit, as in \"250ms\""))
    })
}

fn positive(key: &'static str, value: Option<usize>, default: usize) -> Result<usize, Fault> {
    match value {
        Some(0) => Err(Fault::at("limits", key, format!("`limits.{key}` is 0; it must be at least 1"))),
        Some(value) => Ok(value),
        None => Ok(default),
    }
}

pub(super) fn missing_table(table: &'static str) -> Fault {
    Fault::at(table, "", format!("`[{table}]` is missing; see config.example.toml"))
}

pub(super) fn missing(table: &'static str, key: &'static str, remedy: &str) -> Fault {
    Fault::at(table, key, format!("`{table}.{key}` is missing; {remedy}"))
}

/// serde's "unknown field `sinks`, expected one of `sink`, …" as we say it.
fn unknown_key(message: &str) -> Option<String> {
    let mut words = message.strip_prefix("unknown field ")?.split('`');
    let key = words.nth(1)?;
    let nearest = words
        .skip(1)
        .step_by(2)
        .map(|known| (distance(key, known), known))
        .min()
        .filter(|(distance, known)| *distance <= known.len().max(key.len()) / 2);
    Some(match nearest {
        Some((_, known)) => format!("unknown key `{key}`; did you mean `{known}`?"),
        None => format!("unknown key `{key}`; see config.example.toml for the keys there are"),
    })
}

/// Levenshtein's distance, in characters.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (cell, y) in row.iter_mut().skip(1).zip(&b) {
            let value = (diagonal + usize::from(x != *y)).min(left + 1).min(*cell + 1);
            diagonal = *cell;
            *cell = value;
            left = value;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
    use std::time::Duration;

    use super::super::Config;

    const GOOD: &str = r#"
pep_id = "pep-1"
[listen]
addr = "127.0.0.1:0"
danger_plaintext = true
[upstream]
url = "http://127.0.0.1:9000"
danger_plaintext = true
account = "acct"
user = "svc"
auth = "password"
password_env = "PW"
[pdp]
url = "http://127.0.0.1:7700"
danger_plaintext = true
grace = "30s"
"#;

    #[test]
    fn a_small_file_gets_the_defaults() {
        let config = Config::parse(GOOD, "pep.toml").unwrap();
        assert_eq!(config.connections[0].pdp.grace, Duration::from_secs(30));
        assert_eq!(config.connections[0].pdp.watch_stale, Duration::from_secs(10));
        assert_eq!(config.limits.body_bytes_max, 16 * 1024 * 1024);
    }

    #[test]
    fn the_example_file_says_the_defaults() {
        let example = include_str!("../../config.example.toml");
        let config = Config::parse(example, "config.example.toml").unwrap();
        let small = Config::parse(GOOD, "pep.toml").unwrap();
        assert_eq!(config.limits, small.limits);
        assert_eq!(config.hold, small.hold);
        assert_eq!(config.journal, small.journal);
        assert_eq!(config.connections[0].pdp.timeout, small.connections[0].pdp.timeout);
        assert_eq!(config.connections[0].pdp.watch_stale, small.connections[0].pdp.watch_stale);
        assert_eq!(config.connections[0].upstream.reply_timeout, small.connections[0].upstream.reply_timeout);
        assert_eq!(config.listen.drain, small.listen.drain);
        assert_eq!(
            (config.tokens.session_ttl, config.tokens.master_ttl),
            (small.tokens.session_ttl, small.tokens.master_ttl)
        );
    }

    /// What is replaced in the good file, by what, and the error.
    #[test]
    fn wrong_files_say_where_and_what_to_do() {
        let cases = [
            (
                "grace = \"30s\"",
                "grace = 30",
                "pep.toml:16: `pdp.grace` is `30`; a duration needs its unit, as in \"250ms\"",
            ),
            ("grace = \"30s\"", "grase = \"30s\"", "pep.toml:16: unknown key `grase`; did you mean `grace`?"),
            (
                "addr = \"127.0.0.1:0\"",
                "addr = \"0.0.0.0:8443\"",
                "pep.toml:5: `listen.danger_plaintext` is for loopback only and `listen.addr` is `0.0.0.0:8443`; use `listen.tls`",
            ),
            (
                "http://127.0.0.1:9000",
                "http://snow.example.com",
                "pep.toml:7: `upstream.url` is `http://snow.example.com`; plaintext is for loopback only; use `https`",
            ),
            (
                "http://127.0.0.1:7700",
                "http://10.0.0.1:7700",
                "pep.toml:14: `pdp.url` is `http://10.0.0.1:7700`; plaintext is for loopback only; use `https`",
            ),
            (
                "auth = \"password\"\npassword_env = \"PW\"",
                "",
                "pep.toml:6: `upstream.private_key` is missing; the RSA key file (PEM, PKCS#8) of the service user; or say auth = \"password\"",
            ),
            (
                "http://127.0.0.1:9000",
                "http://me:s3cret@127.0.0.1:9000",
                "pep.toml:7: `upstream.url` has a user or password in it; remove that",
            ),
            ("pep_id = \"pep-1\"", "", "`pep_id` is missing"),
            ("pep_id = \"pep-1\"", "pep_id = \"the first\"", "`pep_id` is not a plain name"),
        ];
        for (from, to, expect) in cases {
            let error = Config::parse(&GOOD.replace(from, to), "pep.toml").unwrap_err().to_string();
            assert!(error.contains(expect), "{error}\n  expected: {expect}");
        }
        let no_tls = GOOD.replacen("danger_plaintext = true\n", "", 1);
        let error = Config::parse(&no_tls, "pep.toml").unwrap_err().to_string();
        assert!(error.starts_with("pep.toml:4: `listen.tls` is missing"), "{error}");
    }
}
