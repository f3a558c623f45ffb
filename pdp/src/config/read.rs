//! From the file's shape to checked values.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    ops::{Range, RangeInclusive},
    path::{Path, PathBuf},
    time::Duration,
};

use icegate_pdp_identity::{Algorithm, ClaimMapping, Issuer, LEEWAY_SECONDS_MAX};
use icegate_pdp_model::ObjectName;
use icegate_pdp_pip::{KeySource, KeysConfig};
use serde::Deserialize;
use toml::Spanned;

use super::{
    AuditConfig, BundleConfig, CatalogConfig, Config, ConfigError, IssuerConfig, Limits, Listen, Transport, defaults,
    text::{Loose, Place},
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    listen: Spanned<ListenKeys>,
    #[serde(default)]
    metrics: MetricsKeys,
    store: StoreKeys,
    bundle: BundleKeys,
    #[serde(default)]
    issuer: Vec<Spanned<IssuerKeys>>,
    #[serde(default)]
    keys: KeysKeys,
    #[serde(default)]
    sessions: SessionKeys,
    #[serde(default)]
    limits: LimitKeys,
    #[serde(default)]
    audit: AuditKeys,
    catalog: Option<Spanned<CatalogKeys>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListenKeys {
    addr: Spanned<String>,
    danger_plaintext: Option<Spanned<bool>>,
    tls: Option<Spanned<TlsKeys>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TlsKeys {
    cert: PathBuf,
    key: PathBuf,
    client_ca: PathBuf,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct MetricsKeys {
    addr: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct StoreKeys {
    path: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BundleKeys {
    dir: PathBuf,
    poll: Option<Spanned<Loose>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct IssuerKeys {
    name: String,
    issuer: String,
    discovery_url: Option<Spanned<String>>,
    jwks_url: Option<Spanned<String>>,
    jwks_file: Option<PathBuf>,
    audiences: Spanned<Vec<String>>,
    algorithms: Option<Spanned<Vec<String>>>,
    leeway: Option<Spanned<Loose>>,
    token_age_longest: Option<Spanned<Loose>>,
    #[serde(default)]
    token_types: Vec<String>,
    #[serde(default)]
    claims: ClaimMapping,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct KeysKeys {
    refresh: Option<Spanned<Loose>>,
    stale_longest: Option<Spanned<Loose>>,
    fetch_timeout: Option<Spanned<Loose>>,
    ca: Option<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct SessionKeys {
    longest: Option<Spanned<Loose>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_field_names, reason = "the names of the keys")]
struct LimitKeys {
    sql_bytes_max: Option<Spanned<usize>>,
    bindings_bytes_max: Option<Spanned<usize>>,
    decides_max: Option<Spanned<usize>>,
    watches_max: Option<Spanned<usize>>,
    waits_max: Option<Spanned<usize>>,
    page_max: Option<Spanned<usize>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct AuditKeys {
    queue_max: Option<Spanned<usize>>,
    group_max: Option<Spanned<usize>>,
    readers: Option<Spanned<usize>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogKeys {
    sync: Spanned<String>,
    databases: Option<Spanned<Vec<String>>>,
    every: Option<Spanned<Loose>>,
    full_every: Option<Spanned<Loose>>,
    run_longest: Option<Spanned<Loose>>,
    relations_max: Option<Spanned<usize>>,
    lookup_timeout: Option<Spanned<Loose>>,
    lookup_kept: Option<Spanned<Loose>>,
    lookups_per_minute: Option<Spanned<usize>>,
    #[serde(default)]
    danger_without_tags: bool,
}

const BYTES: RangeInclusive<usize> = 1024..=64 * 1024 * 1024;
const CALLS: RangeInclusive<usize> = 1..=100_000;
const ENTRIES: RangeInclusive<usize> = 1..=1000;
const GROUP: RangeInclusive<usize> = 1..=10_000;
const READERS: RangeInclusive<usize> = 1..=64;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

pub(super) fn config(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let place = Place { path, text };
    let file: File = toml::from_str(text).map_err(|error| place.reader_error(&error))?;
    let near = path.parent().unwrap_or(Path::new(""));
    let metrics = file.metrics.addr.unwrap_or_else(|| Spanned::new(0..0, defaults::METRICS_ADDR.to_owned()));
    let poll = (Duration::from_millis(100)..=HOUR, defaults::BUNDLE_POLL);
    let longest = (SECOND..=HOUR * 24 * 30, defaults::SESSION_LONGEST);
    let (limits, audit) = (Limits::default(), AuditConfig::default());
    let keys = file.limits;
    Ok(Config {
        listen: listen(place, near, file.listen)?,
        metrics_addr: address(place, "metrics.addr", &metrics)?,
        store_path: near.join(file.store.path),
        bundle: BundleConfig {
            dir: near.join(file.bundle.dir),
            poll: duration(place, "bundle.poll", file.bundle.poll, poll)?,
        },
        issuers: issuers(place, near, file.issuer)?,
        keys: keys_kept(place, near, file.keys)?,
        session_longest: duration(place, "sessions.longest", file.sessions.longest, longest)?,
        limits: Limits {
            sql_bytes_max: number(place, "limits.sql_bytes_max", keys.sql_bytes_max, BYTES, limits.sql_bytes_max)?,
            bindings_bytes_max: number(
                place,
                "limits.bindings_bytes_max",
                keys.bindings_bytes_max,
                BYTES,
                limits.bindings_bytes_max,
            )?,
            decides_max: number(place, "limits.decides_max", keys.decides_max, CALLS, limits.decides_max)?,
            watches_max: number(place, "limits.watches_max", keys.watches_max, CALLS, limits.watches_max)?,
            waits_max: number(place, "limits.waits_max", keys.waits_max, CALLS, limits.waits_max)?,
            page_max: entries(place, "limits.page_max", keys.page_max, ENTRIES, limits.page_max)?,
        },
        audit: AuditConfig {
            queue_max: number(place, "audit.queue_max", file.audit.queue_max, CALLS, audit.queue_max)?,
            group_max: number(place, "audit.group_max", file.audit.group_max, GROUP, audit.group_max)?,
            readers: entries(place, "audit.readers", file.audit.readers, READERS, audit.readers)?,
        },
        catalog: file.catalog.map(|keys| catalog(place, keys)).transpose()?.flatten(),
    })
}

fn catalog(place: Place<'_>, keys: Spanned<CatalogKeys>) -> Result<Option<CatalogConfig>, ConfigError> {
    let span = keys.span();
    let keys = keys.into_inner();
    let on = match keys.sync.get_ref().as_str() {
        "on" => true,
        "off" => false,
        other => {
            let problem = format!("`catalog.sync` is `{other}`; write \"on\" or \"off\"");
            return Err(place.error(&keys.sync.span(), problem));
        }
    };
    let (span, names) = keys.databases.map_or((span, Vec::new()), |names| (names.span(), names.into_inner()));
    let mut databases = Vec::with_capacity(names.len());
    for name in names {
        match name.parse::<ObjectName>().ok().as_ref().map(ObjectName::parts) {
            Some([database]) if !databases.contains(database) => databases.push(database.clone()),
            Some([_]) => {}
            _ => {
                let problem = format!("`catalog.databases` has `{name}`, which is not the name of a database");
                return Err(place.error(&span, problem));
            }
        }
    }
    if on && databases.is_empty() {
        return Err(place.error(&span, "`catalog.databases` must name at least one database"));
    }
    let usual = CatalogConfig::of_databases(databases);
    let second = Duration::from_secs(1);
    let config = CatalogConfig {
        every: duration(place, "catalog.every", keys.every, (second..=HOUR * 24, usual.every))?,
        full_every: duration(
            place,
            "catalog.full_every",
            keys.full_every,
            (second..=HOUR * 24 * 30, usual.full_every),
        )?,
        run_longest: duration(place, "catalog.run_longest", keys.run_longest, (second..=HOUR, usual.run_longest))?,
        relations_max: number(place, "catalog.relations_max", keys.relations_max, 1..=1_000_000, usual.relations_max)?,
        // A PEP waits five seconds for a decision by default.
        lookup_timeout: duration(
            place,
            "catalog.lookup_timeout",
            keys.lookup_timeout,
            (Duration::ZERO..=Duration::from_secs(4), usual.lookup_timeout),
        )?,
        lookup_kept: duration(place, "catalog.lookup_kept", keys.lookup_kept, (second..=HOUR, usual.lookup_kept))?,
        lookups_per_minute: entries(
            place,
            "catalog.lookups_per_minute",
            keys.lookups_per_minute,
            1..=10_000,
            usual.lookups_per_minute,
        )?,
        danger_without_tags: keys.danger_without_tags,
        databases: usual.databases,
    };
    Ok(on.then_some(config))
}

fn listen(place: Place<'_>, near: &Path, keys: Spanned<ListenKeys>) -> Result<Listen, ConfigError> {
    let span = keys.span();
    let keys = keys.into_inner();
    let addr = address(place, "listen.addr", &keys.addr)?;
    let plaintext = keys.danger_plaintext.filter(|plaintext| *plaintext.get_ref());
    let transport = match (plaintext, keys.tls) {
        (Some(_), None) if addr.ip().is_loopback() => Transport::DangerPlaintext,
        (Some(plaintext), None) => {
            let problem =
                "`listen.danger_plaintext` is for loopback addresses only; give `[listen.tls]` cert, key and client_ca";
            return Err(place.error(&plaintext.span(), problem));
        }
        (Some(plaintext), Some(_)) => {
            let problem = "`listen.danger_plaintext` and `[listen.tls]` exclude each other; remove one";
            return Err(place.error(&plaintext.span(), problem));
        }
        (None, Some(tls)) => {
            let tls = tls.into_inner();
            Transport::Tls { cert: near.join(tls.cert), key: near.join(tls.key), client_ca: near.join(tls.client_ca) }
        }
        (None, None) => {
            return Err(place.error(&span, "`[listen]` needs `[listen.tls]` with cert, key and client_ca"));
        }
    };
    Ok(Listen { addr, transport })
}

fn issuers(place: Place<'_>, near: &Path, keys: Vec<Spanned<IssuerKeys>>) -> Result<Vec<IssuerConfig>, ConfigError> {
    if keys.is_empty() {
        return Err(place.error(&(0..0), "no `[[issuer]]`; name at least one whose tokens are accepted"));
    }
    let mut names = BTreeSet::new();
    let mut issuers = Vec::with_capacity(keys.len());
    for keys in keys {
        let span = keys.span();
        let issuer = issuer(place, near, keys)?;
        if !names.insert(issuer.issuer.name.clone()) {
            return Err(place.error(&span, format!("two issuers are called `{}`; rename one", issuer.issuer.name)));
        }
        issuers.push(issuer);
    }
    Ok(issuers)
}

fn issuer(place: Place<'_>, near: &Path, keys: Spanned<IssuerKeys>) -> Result<IssuerConfig, ConfigError> {
    let span = keys.span();
    let keys = keys.into_inner();
    let name = keys.name;
    let source = match (keys.discovery_url, keys.jwks_url, keys.jwks_file) {
        (Some(url), None, None) => KeySource::Discovery(https(place, "issuer.discovery_url", &url)?),
        (None, Some(url), None) => KeySource::Url(https(place, "issuer.jwks_url", &url)?),
        (None, None, Some(file)) => KeySource::File(near.join(file)),
        _ => {
            let problem = format!("issuer `{name}` needs exactly one of `discovery_url`, `jwks_url` and `jwks_file`");
            return Err(place.error(&span, problem));
        }
    };
    if keys.audiences.get_ref().iter().all(String::is_empty) {
        return Err(place.error(&keys.audiences.span(), "`issuer.audiences` must name at least one audience"));
    }
    let algorithms = match keys.algorithms {
        None => defaults::ALGORITHMS.to_vec(),
        Some(names) => {
            names.get_ref().iter().map(|name| algorithm(place, &names.span(), name)).collect::<Result<_, _>>()?
        }
    };
    let leeway_max = Duration::from_secs(LEEWAY_SECONDS_MAX.unsigned_abs());
    let leeway = (Duration::ZERO..=leeway_max, Duration::from_secs(defaults::LEEWAY_SECONDS.unsigned_abs()));
    let age = (SECOND..=HOUR * 24 * 30, HOUR);
    let token_age_seconds_max = match keys.token_age_longest {
        None => None,
        given => Some(seconds(duration(place, "issuer.token_age_longest", given, age)?)),
    };
    let issuer = Issuer {
        name,
        issuer: keys.issuer,
        audiences: keys.audiences.into_inner(),
        algorithms,
        claims: keys.claims,
        leeway_seconds: seconds(duration(place, "issuer.leeway", keys.leeway, leeway)?),
        token_age_seconds_max,
        token_types: keys.token_types,
    };
    issuer.check().map_err(|error| place.error(&span, error.to_string()))?;
    Ok(IssuerConfig { issuer, keys: source })
}

fn algorithm(place: Place<'_>, span: &Range<usize>, name: &str) -> Result<Algorithm, ConfigError> {
    Algorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == name).ok_or_else(|| {
        let known = Algorithm::ALL.map(Algorithm::as_str).join(", ");
        place.error(span, format!("`{name}` is not an algorithm icegate accepts; name any of {known}"))
    })
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX)
}

fn keys_kept(place: Place<'_>, near: &Path, keys: KeysKeys) -> Result<KeysConfig, ConfigError> {
    let default = KeysConfig::default();
    let refresh = (Duration::from_mins(5)..=HOUR * 24, default.refresh);
    let stale = (Duration::from_mins(5)..=HOUR * 24 * 30, default.max_stale);
    let timeout = (SECOND..=Duration::from_mins(1), default.fetch_timeout);
    Ok(KeysConfig {
        refresh: duration(place, "keys.refresh", keys.refresh, refresh)?,
        max_stale: duration(place, "keys.stale_longest", keys.stale_longest, stale)?,
        fetch_timeout: duration(place, "keys.fetch_timeout", keys.fetch_timeout, timeout)?,
        ca_file: keys.ca.map(|file| near.join(file)),
    })
}

/// Keys fetched in the clear could be anybody's; on loopback there is nobody between.
fn https(place: Place<'_>, key: &str, url: &Spanned<String>) -> Result<String, ConfigError> {
    let text = url.get_ref();
    let loopback = ["http://127.0.0.1", "http://[::1]", "http://localhost"]
        .iter()
        .filter_map(|start| text.strip_prefix(start))
        .any(|rest| rest.starts_with([':', '/']));
    if text.starts_with("https://") || loopback {
        return Ok(text.clone());
    }
    Err(place.error(&url.span(), format!("`{key}` must be https (http is for loopback only)")))
}

fn address(place: Place<'_>, key: &str, given: &Spanned<String>) -> Result<SocketAddr, ConfigError> {
    given.get_ref().parse().map_err(|_| {
        let problem =
            format!("`{key}` is `{}`; write an address and a port, as in \"127.0.0.1:7700\"", given.get_ref());
        place.error(&given.span(), problem)
    })
}

fn duration(
    place: Place<'_>,
    key: &str,
    given: Option<Spanned<Loose>>,
    (range, default): (RangeInclusive<Duration>, Duration),
) -> Result<Duration, ConfigError> {
    let Some(given) = given else { return Ok(default) };
    let span: Range<usize> = given.span();
    let text = match given.into_inner() {
        Loose::Text(text) if text.parse::<f64>().is_err() => text,
        Loose::Text(number) | Loose::Number(number) => {
            let problem = format!("`{key}` is `{number}`; a duration needs its unit, as in \"250ms\"");
            return Err(place.error(&span, problem));
        }
    };
    let Ok(value) = humantime::parse_duration(&text) else {
        let problem = format!("`{key}` is `{text}`; write a number and its unit, as in \"250ms\"");
        return Err(place.error(&span, problem));
    };
    if range.contains(&value) {
        return Ok(value);
    }
    let shown = humantime::format_duration;
    let problem = format!("`{key}` must be between {} and {}", shown(*range.start()), shown(*range.end()));
    Err(place.error(&span, problem))
}

fn number(
    place: Place<'_>,
    key: &str,
    given: Option<Spanned<usize>>,
    range: RangeInclusive<usize>,
    default: usize,
) -> Result<usize, ConfigError> {
    let Some(given) = given else { return Ok(default) };
    if range.contains(given.get_ref()) {
        return Ok(*given.get_ref());
    }
    let problem = format!("`{key}` must be between {} and {}", range.start(), range.end());
    Err(place.error(&given.span(), problem))
}

fn entries(
    place: Place<'_>,
    key: &str,
    given: Option<Spanned<usize>>,
    range: RangeInclusive<usize>,
    default: u32,
) -> Result<u32, ConfigError> {
    let value = number(place, key, given, range, default as usize)?;
    Ok(u32::try_from(value).unwrap_or(default))
}
