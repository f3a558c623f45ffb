use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use icegate_pdp_identity::Issuer;
use icegate_pdp_pip::{KeySource, KeysConfig};
use thiserror::Error;

mod read;
mod text;

/// Everything the service is told at its start, checked.
///
/// Read from TOML; unknown keys are refused. `config.example.toml` explains each key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where gRPC is served, and how callers prove who they are.
    pub listen: Listen,
    /// Where `/metrics` is served. Port 0 takes a free one.
    pub metrics_addr: SocketAddr,
    /// The SQLite file of sessions, approvals and the audit trail. Made when it is missing.
    pub store_path: PathBuf,
    /// Where policies come from.
    pub bundle: BundleConfig,
    /// Whose tokens are accepted. At least one.
    pub issuers: Vec<IssuerConfig>,
    /// How issuers' keys are kept fresh.
    pub keys: KeysConfig,
    /// Longest life of a session, whatever its token says.
    pub session_longest: Duration,
    /// How much is accepted at a time.
    pub limits: Limits,
    /// How the audit trail is written.
    pub audit: AuditConfig,
    /// How the warehouse is asked about its objects; `None` is not at all.
    pub catalog: Option<CatalogConfig>,
}

/// Where gRPC is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Address and port. Port 0 takes a free one.
    pub addr: SocketAddr,
    /// Plaintext or TLS.
    pub transport: Transport,
}

/// Plaintext or TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// No TLS, so no PEP can be told from anybody else: on loopback only.
    DangerPlaintext,
    /// TLS. PEPs show a certificate signed by `client_ca`; people need none.
    Tls {
        /// PEM file of the certificate chain, leaf first.
        cert: PathBuf,
        /// PEM file of its private key.
        key: PathBuf,
        /// PEM file of the authority that signs PEPs' certificates.
        client_ca: PathBuf,
    },
}

/// Where policies come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleConfig {
    /// The directory.
    pub dir: PathBuf,
    /// How often it is looked at for a change.
    pub poll: Duration,
}

/// An OIDC issuer whose tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssuerConfig {
    /// What is accepted from it.
    pub issuer: Issuer,
    /// Where its keys are.
    pub keys: KeySource,
}

/// How much is accepted at a time. What is over is refused with a sentence that names the limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest SQL text of one request, in bytes. The bundle's own limit applies as well.
    pub sql_bytes_max: usize,
    /// Longest bindings of one request, in bytes.
    pub bindings_bytes_max: usize,
    /// Decisions worked on at one time.
    pub decides_max: usize,
    /// PEPs watching at one time.
    pub watches_max: usize,
    /// Calls of `WaitApproval` open at one time.
    pub waits_max: usize,
    /// Most entries of one page of sessions, approvals or records.
    pub page_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sql_bytes_max: 1024 * 1024,
            bindings_bytes_max: 1024 * 1024,
            decides_max: 256,
            watches_max: 64,
            waits_max: 1024,
            page_max: 1000,
        }
    }
}

/// How the warehouse is asked about its objects, through a PEP.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogConfig {
    /// Which databases, folded. At least one.
    pub databases: Vec<String>,
    /// How long after one reading the next begins.
    pub every: Duration,
    /// How often what seems not to have changed is read too.
    pub full_every: Duration,
    /// Longest reading of one database.
    pub run_longest: Duration,
    /// Most tables and views of one database.
    pub relations_max: usize,
    /// How long a statement waits for names the catalog did not know. 0 looks nothing up.
    pub lookup_timeout: Duration,
    /// How long a name that was looked up is not looked up again.
    pub lookup_kept: Duration,
    /// Most names looked up for one principal in a minute.
    pub lookups_per_minute: u32,
    /// Take relations whose tags cannot be read.
    pub danger_without_tags: bool,
}

impl CatalogConfig {
    /// These databases, and defaults.
    pub fn of_databases(databases: Vec<String>) -> Self {
        Self {
            databases,
            every: Duration::from_mins(15),
            full_every: Duration::from_hours(24),
            run_longest: Duration::from_mins(10),
            relations_max: 100_000,
            lookup_timeout: Duration::from_secs(2),
            lookup_kept: Duration::from_mins(1),
            lookups_per_minute: 30,
            danger_without_tags: false,
        }
    }
}

/// How the audit trail is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditConfig {
    /// Changes that may wait to be made durable; a further one waits for its place.
    pub queue_max: usize,
    /// Changes made durable with one sync of the disk.
    pub group_max: usize,
    /// Connections for searching.
    pub readers: u32,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { queue_max: 1024, group_max: 256, readers: 4 }
    }
}

/// Values of keys that may be left out.
pub(crate) mod defaults {
    use std::time::Duration;

    use icegate_pdp_identity::Algorithm;

    pub(crate) const METRICS_ADDR: &str = "127.0.0.1:7701";
    pub(crate) const BUNDLE_POLL: Duration = Duration::from_secs(2);
    pub(crate) const LEEWAY_SECONDS: i64 = 30;
    pub(crate) const SESSION_LONGEST: Duration = Duration::from_hours(12);
    pub(crate) const ALGORITHMS: [Algorithm; 3] = [Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa];
}

/// Why a configuration cannot be used.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: cannot be read", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Something in the file is wrong.
    #[error("{path}:{line}: {problem}", path = path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// What is wrong and what to write instead.
        problem: String,
    },
}

impl Config {
    /// Reads a file. Relative paths in it are relative to its directory.
    ///
    /// # Errors
    /// When it cannot be read, or something in it is wrong: with file, line and remedy.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::from_toml(&text, path)
    }

    /// Reads a text as if it stood in the file `path`, which need not exist.
    ///
    /// # Errors
    /// When something in it is wrong: with file, line and remedy.
    pub fn from_toml(text: &str, path: &Path) -> Result<Self, ConfigError> {
        read::config(text, path)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use icegate_pdp_pip::{KeySource, KeysConfig};

    use super::{CatalogConfig, Config, ConfigError, Limits, Transport, defaults};

    const SMALLEST: &str = r#"
[listen]
addr = "127.0.0.1:7700"
danger_plaintext = true
[store]
path = "icegate.db"
[bundle]
dir = "/etc/icegate/policies"
[[issuer]]
name = "corp"
issuer = "https://id.example.com"
jwks_file = "keys.json"
audiences = ["icegate"]
"#;

    fn read(text: &str) -> Result<Config, ConfigError> {
        Config::from_toml(text, Path::new("/etc/icegate/pdp.toml"))
    }

    #[test]
    fn what_may_be_left_out_has_its_default() {
        let config = read(SMALLEST).unwrap();
        assert_eq!(config.limits, Limits::default());
        assert_eq!(config.catalog, None);
        assert_eq!(config.metrics_addr.to_string(), defaults::METRICS_ADDR);
        assert_eq!(config.keys, KeysConfig::default());
        assert_eq!(config.session_longest, defaults::SESSION_LONGEST);
        assert_eq!(config.bundle.poll, defaults::BUNDLE_POLL);
        assert_eq!(config.listen.transport, Transport::DangerPlaintext);
        assert_eq!(config.store_path, Path::new("/etc/icegate/icegate.db"));
        assert_eq!(config.issuers[0].keys, KeySource::File("/etc/icegate/keys.json".into()));
        assert_eq!(config.issuers[0].issuer.algorithms, defaults::ALGORITHMS);
    }

    #[test]
    fn the_example_loads_and_shows_the_defaults() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("config.example.toml");
        let example = Config::load(&path).unwrap();
        let smallest = read(SMALLEST).unwrap();
        assert_eq!(example.limits, smallest.limits);
        assert_eq!(example.keys, smallest.keys);
        assert_eq!(example.audit, smallest.audit);
        let synced = read(&format!("{SMALLEST}[catalog]\nsync = \"on\"\ndatabases = [\"sales\"]")).unwrap();
        assert_eq!(synced.catalog, Some(CatalogConfig::of_databases(vec!["SALES".into()])));
        assert_eq!(example.catalog, None, "off in the example");
        let text = std::fs::read_to_string(&path).unwrap().replace("sync = \"off\"", "sync = \"on\"");
        assert_eq!(Config::from_toml(&text, &path).unwrap().catalog, synced.catalog);
        assert_eq!(example.metrics_addr, smallest.metrics_addr);
        assert_eq!(example.session_longest, smallest.session_longest);
        assert_eq!(example.bundle.poll, smallest.bundle.poll);
        assert_eq!(example.listen.addr, smallest.listen.addr);
        let (example, smallest) = (&example.issuers[0].issuer, &smallest.issuers[0].issuer);
        assert_eq!(example.leeway_seconds, smallest.leeway_seconds);
        assert_eq!(example.algorithms, smallest.algorithms);
        assert_eq!(example.claims.principal, smallest.claims.principal);
        assert_eq!(example.claims.agent, smallest.claims.agent);
        assert_eq!(example.token_types, smallest.token_types);
    }

    #[test]
    fn mistakes_are_named_with_line_and_remedy() {
        let tls = "addr = \"0.0.0.0:7700\"\n[listen.tls]\ncert = \"c\"\nkey = \"k\"\nclient_ca = \"a\"";
        assert!(matches!(
            read(&SMALLEST.replace("addr = \"127.0.0.1:7700\"\ndanger_plaintext = true", tls))
                .unwrap()
                .listen
                .transport,
            Transport::Tls { .. }
        ));
        for (from, to, wanted) in [
            ("path = \"icegate.db\"", "paht = \"x\"", "pdp.toml:6: unknown key `paht`; did you mean `path`?"),
            ("[store]", "[stroe]", "pdp.toml:5: unknown key `stroe`; did you mean `store`?"),
            (
                "dir = ",
                "poll = 250\ndir = ",
                "pdp.toml:8: `bundle.poll` is `250`; a duration needs its unit, as in \"250ms\"",
            ),
            (
                "dir = ",
                "poll = \"soon\"\ndir = ",
                "pdp.toml:8: `bundle.poll` is `soon`; write a number and its unit, as in \"250ms\"",
            ),
            ("dir = ", "poll = \"0s\"\ndir = ", "pdp.toml:8: `bundle.poll` must be between 100ms and 1h"),
            (
                "127.0.0.1:7700",
                "localhost",
                "pdp.toml:3: `listen.addr` is `localhost`; write an address and a port, as in \"127.0.0.1:7700\"",
            ),
            (
                "127.0.0.1:7700",
                "0.0.0.0:7700",
                "pdp.toml:4: `listen.danger_plaintext` is for loopback addresses only; give `[listen.tls]` cert, key and client_ca",
            ),
            ("danger_plaintext = true", "", "pdp.toml:2: `[listen]` needs `[listen.tls]` with cert, key and client_ca"),
            (
                "jwks_file = \"keys.json\"",
                "",
                "pdp.toml:9: issuer `corp` needs exactly one of `discovery_url`, `jwks_url` and `jwks_file`",
            ),
            (
                "jwks_file = \"keys.json\"",
                "jwks_url = \"http://id.example.com/keys\"",
                "`issuer.jwks_url` must be https",
            ),
            ("audiences = [\"icegate\"]", "audiences = []", "`issuer.audiences` must name at least one audience"),
            (
                "audiences = [\"icegate\"]",
                "audiences = [\"i\"]\nalgorithms = [\"HS256\"]",
                "`HS256` is not an algorithm",
            ),
            ("name = \"corp\"", "name = \"a/b\"", "pdp.toml:9: issuer name `a/b` is not"),
            (
                "[store]",
                "[catalog]\nsync = \"on\"\n[store]",
                "pdp.toml:5: `catalog.databases` must name at least one database",
            ),
            (
                "[store]",
                "[catalog]\nsync = \"yes\"\n[store]",
                "pdp.toml:6: `catalog.sync` is `yes`; write \"on\" or \"off\"",
            ),
            (
                "[store]",
                "[catalog]\nsync = \"on\"\ndatabases = [\"a.b\"]\n[store]",
                "pdp.toml:7: `catalog.databases` has `a.b`, which is not the name of a database",
            ),
            ("[store]", "[limits]\ndecides_max = 0\n[store]", "`limits.decides_max` must be between 1 and"),
        ] {
            let text = SMALLEST.replacen(from, to, 1);
            assert_ne!(text, SMALLEST, "`{from}`");
            let error = read(&text).unwrap_err().to_string();
            assert!(error.contains(wanted), "wanted `{wanted}`\n   got `{error}`");
        }
    }

    #[test]
    fn two_issuers_may_not_share_a_name() {
        let (_, issuer) = SMALLEST.split_once("[[issuer]]").unwrap();
        let error = read(&format!("{SMALLEST}[[issuer]]{issuer}")).unwrap_err().to_string();
        assert!(error.contains("pdp.toml:14: two issuers are called `corp`"), "{error}");
    }
}
