//! The two services as child processes: their configurations, their start, their end.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tokio::process::{Child, ChildStdin, Command};

use super::issuer;

/// A service announces its addresses within this time, or has failed to start.
const START_SECONDS_MAX: u64 = 30;

/// A service that was asked to stop is killed after this time.
const STOP_SECONDS_MAX: u64 = 10;

/// How often the announcement is looked for.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A program, and the arguments that come before `--config`.
#[derive(Debug, Clone)]
pub struct Program {
    /// The executable.
    pub path: PathBuf,
    /// For example the subcommand that makes `icegate` the service.
    pub leading: Vec<String>,
}

/// A running service. Dropping it kills it.
#[derive(Debug)]
pub struct Service {
    name: &'static str,
    child: Child,
    addr: SocketAddr,
    metrics: SocketAddr,
    // Its end tells a child that the parent is gone.
    _stdin: Option<ChildStdin>,
}

impl Service {
    /// Starts a PDP on this configuration (see [`pdp_config`]) and waits until it has announced where it listens.
    ///
    /// The configuration is written as `<dir>/pdp.toml`; what it logs goes to `<dir>/pdp.log`.
    ///
    /// # Errors
    ///
    /// When it cannot be started or ends at once; the message shows the end of its log.
    pub async fn start_pdp(program: &Program, dir: &Path, config: &str) -> anyhow::Result<Self> {
        Self::start("pdp", program, dir, config).await
    }

    /// Starts a PEP likewise; port 0 is a free one.
    ///
    /// # Errors
    ///
    /// As [`Service::start_pdp`].
    pub async fn start_pep(program: &Program, dir: &Path, pep: &Pep<'_>) -> anyhow::Result<Self> {
        Self::start("pep", program, dir, &pep_config(dir, pep)).await
    }

    async fn start(name: &'static str, program: &Program, dir: &Path, config: &str) -> anyhow::Result<Self> {
        let announce_path = dir.join(format!("{name}.announce"));
        if announce_path.exists() {
            fs::remove_file(&announce_path)?;
        }
        let mut starting = Starting::spawn(name, program, dir, config, &announce_path)?;
        loop {
            if let Some((addr, metrics)) = fs::read_to_string(&announce_path).ok().as_deref().and_then(announced) {
                return Ok(starting.done(addr, metrics));
            }
            starting.wait().await?;
        }
    }

    /// Where it serves.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Where its metrics are.
    pub fn metrics(&self) -> SocketAddr {
        self.metrics
    }

    /// The process id, while it runs.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Ends it as a power cut would: `kill -9`.
    ///
    /// # Errors
    ///
    /// When the operating system refuses.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.with_context(|| format!("cannot kill the {}", self.name))
    }

    /// Asks it to stop, and waits for it to have stopped.
    ///
    /// # Errors
    ///
    /// When it has to be killed.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        if let Some(id) = self.child.id() {
            let asked = Command::new("kill").args(["-TERM", &id.to_string()]).stderr(Stdio::null()).status().await;
            asked.with_context(|| format!("cannot ask the {} to stop", self.name))?;
        }
        if tokio::time::timeout(Duration::from_secs(STOP_SECONDS_MAX), self.child.wait()).await.is_err() {
            self.child.kill().await?;
            anyhow::bail!("the {} did not stop within {STOP_SECONDS_MAX} seconds and was killed", self.name);
        }
        Ok(())
    }
}

/// A service that does not answer yet.
struct Starting {
    name: &'static str,
    child: Child,
    stdin: Option<ChildStdin>,
    log_path: PathBuf,
    waited: Duration,
}

impl Starting {
    fn spawn(name: &'static str, program: &Program, dir: &Path, config: &str, announce: &Path) -> anyhow::Result<Self> {
        let config_path = dir.join(format!("{name}.toml"));
        let log_path = dir.join(format!("{name}.log"));
        fs::write(&config_path, config).with_context(|| format!("cannot write `{}`", config_path.display()))?;
        let log = fs::OpenOptions::new().create(true).append(true).open(&log_path)?;
        let mut command = Command::new(&program.path);
        command.args(&program.leading).arg("--config").arg(&config_path).arg("--announce").arg(announce);
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot start `{}`", program.path.display()))?;
        let stdin = child.stdin.take();
        Ok(Self { name, child, stdin, log_path, waited: Duration::ZERO })
    }

    /// A moment's patience, as long as there is hope.
    async fn wait(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.try_wait()? {
            anyhow::bail!("the {} ended at once ({status}): {}", self.name, log_end(&self.log_path));
        }
        anyhow::ensure!(
            self.waited < Duration::from_secs(START_SECONDS_MAX),
            "the {} did not start within {START_SECONDS_MAX} seconds: {}",
            self.name,
            log_end(&self.log_path)
        );
        tokio::time::sleep(LOOK_EVERY).await;
        self.waited += LOOK_EVERY;
        Ok(())
    }

    fn done(self, addr: SocketAddr, metrics: SocketAddr) -> Service {
        Service { name: self.name, child: self.child, addr, metrics, _stdin: self.stdin }
    }
}

/// Ends this process when its standard input does, as it does when the parent is gone, however that ended.
pub(crate) fn leave_with_parent() {
    std::thread::spawn(|| {
        // Nothing is ever written to it.
        drop(std::io::copy(&mut std::io::stdin().lock(), &mut std::io::sink()));
        std::process::exit(0);
    });
}

/// The addresses in an announcement, once it is complete.
fn announced(text: &str) -> Option<(SocketAddr, SocketAddr)> {
    let value: Value = serde_json::from_str(text).ok()?;
    let at = |key: &str| value.get(key).and_then(Value::as_str).and_then(|addr| addr.parse().ok());
    Some((at("addr")?, at("metrics")?))
}

fn log_end(path: &Path) -> String {
    const LINES_SHOWN: usize = 5;
    let log = fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    lines.iter().skip(lines.len().saturating_sub(LINES_SHOWN)).copied().collect::<Vec<_>>().join("\n")
}

/// How the PEP proves itself to the warehouse.
#[derive(Debug, Clone)]
pub enum UpstreamAuth {
    /// The RSA private key in this PEM file.
    KeyPair(PathBuf),
    /// The password in this file.
    Password(PathBuf),
}

/// The PDP's configuration: plaintext on loopback, one issuer.
pub fn pdp_config(addr: SocketAddr, dir: &Path, policies: &Path, issuer_url: &str) -> String {
    format!(
        r#"# Made by `icegate demo`.
[listen]
addr = "{addr}"
danger_plaintext = true

[metrics]
addr = "127.0.0.1:0"

[store]
path = {store}

[bundle]
dir = {policies}
poll = "500ms"

[sessions]
longest = "{longest}s"

[[issuer]]
name = "{name}"
issuer = "{issuer_url}"
discovery_url = "{issuer_url}/.well-known/openid-configuration"
audiences = ["{audience}"]
algorithms = ["ES256"]

[issuer.claims]
principal = "sub"
groups = "groups"
agent = "act.sub"
"#,
        store = quoted(&dir.join("icegate.db")),
        policies = quoted(policies),
        longest = issuer::TOKEN_SECONDS,
        name = issuer::NAME,
        audience = issuer::AUDIENCE,
    )
}

/// What a PEP is told.
#[derive(Debug, Clone, Copy)]
pub struct Pep<'a> {
    /// Where drivers connect.
    pub addr: SocketAddr,
    /// The PDP.
    pub pdp: SocketAddr,
    /// The warehouse.
    pub upstream: SocketAddr,
    /// How it proves itself there.
    pub auth: &'a UpstreamAuth,
    /// Further keys of `[tokens]`, then further tables of its configuration.
    pub more: &'a str,
}

/// The PEP's configuration: plaintext on loopback, towards drivers, the PDP and the warehouse.
fn pep_config(dir: &Path, pep: &Pep<'_>) -> String {
    let Pep { addr, pdp, upstream, more, .. } = pep;
    let auth = match pep.auth {
        UpstreamAuth::KeyPair(key) => format!("auth = \"key_pair\"\nprivate_key = {}", quoted(key)),
        UpstreamAuth::Password(file) => format!("auth = \"password\"\npassword_file = {}", quoted(file)),
    };
    format!(
        r#"# Made by `icegate demo`.
pep_id = "pep-demo"

[listen]
addr = "{addr}"
danger_plaintext = true
drain = "1s"

[metrics]
addr = "127.0.0.1:0"

[upstream]
url = "http://{upstream}"
danger_plaintext = true
account = "demo"
user = "ICEGATE_SERVICE"
{auth}

[pdp]
url = "http://{pdp}"
danger_plaintext = true

[journal]
path = {journal}

[tokens]
keys_file = {keys}
create = true
{more}"#,
        journal = quoted(&dir.join("pep.journal")),
        keys = quoted(&dir.join("pep.keys")),
    )
}

/// A path as a TOML string: JSON's quoting is a part of TOML's.
fn quoted(path: &Path) -> String {
    Value::from(path.display().to_string()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_counts_when_it_is_complete() {
        let both = r#"{"addr":"127.0.0.1:1","metrics":"127.0.0.1:2"}"#;
        assert_eq!(announced(both), Some(("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap())));
        for part in ["", "{", r#"{"addr":"127.0.0.1:1"}"#] {
            assert_eq!(announced(part), None, "{part}");
        }
    }
}
