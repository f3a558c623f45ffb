//! Everything between a real driver and a warehouse, on this machine: PDP, PEP, issuer, recorders, fakesnow or the stand-in.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Mutex, PoisonError};

use anyhow::Context as _;
use icegate_cli::demo::driver::Driver;
use icegate_cli::demo::issuer::{Issuer, Person, STELLA};
use icegate_cli::demo::places::target_dir;
use icegate_cli::demo::python::{self, Environment, WAREHOUSE};
use icegate_cli::demo::service::{self, Program, Service, UpstreamAuth};
use icegate_cli::demo::warehouse::{self, Warehouse};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::process::Command;

use crate::recorder::Recorder;
use crate::stand_in::StandIn;

/// What stands at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upstream {
    /// fakesnow with the sales database.
    Fakesnow,
    /// The same behind a [translation](crate::translate) of what clients load with.
    FakesnowLoads,
    /// Our own few words of Snowflake.
    StandIn,
}

/// How a token is carried in a login.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carrier {
    /// `authenticator="oauth"`.
    Oauth,
    /// As a programmatic access token.
    AccessToken,
    /// As the password.
    Password,
}

/// The running stack. Dropping it stops everything.
#[derive(Debug)]
pub struct Stack {
    /// The drivers' issuer.
    pub issuer: Issuer,
    /// Between drivers and the PEP.
    pub front: Recorder,
    /// Between the PEP and the warehouse.
    pub back: Recorder,
    /// The PDP.
    pub pdp: Service,
    /// The PEP.
    pub pep: Service,
    /// The stand-in, when it is the upstream.
    pub stand_in: Option<StandIn>,
    programs: Programs,
    auth: UpstreamAuth,
    policies: PathBuf,
    more: String,
    dir: TempDir,
    _warehouse: Option<Warehouse>,
}

/// The executables under test.
#[derive(Debug, Clone)]
struct Programs {
    icegate: PathBuf,
    pdp: Program,
    pep: Program,
}

impl Stack {
    /// Starts everything, each part on a port of its own.
    ///
    /// # Errors
    ///
    /// When a part does not start.
    pub async fn start(upstream: Upstream) -> anyhow::Result<Self> {
        Self::start_with(upstream, &workspace().join("policies"), &warehouse::seed_statements()).await
    }

    /// The same with other policies, and on fakesnow other content.
    ///
    /// # Errors
    ///
    /// When a part does not start.
    pub async fn start_with<S: AsRef<str>>(upstream: Upstream, policies: &Path, seed: &[S]) -> anyhow::Result<Self> {
        Self::start_tuned(upstream, policies, seed, "").await
    }

    /// The same with `tokens`, further keys of that table of the PEP's configuration.
    ///
    /// # Errors
    ///
    /// When a part does not start.
    pub async fn start_tuned<S: AsRef<str>>(
        upstream: Upstream,
        policies: &Path,
        seed: &[S],
        tokens: &str,
    ) -> anyhow::Result<Self> {
        let programs = built()?;
        let dir = tempfile::tempdir()?;
        let policies = policies.to_owned();
        let password = dir.path().join("password");
        std::fs::write(&password, "upstream-password-canary\n")?;
        let auth = UpstreamAuth::Password(password);
        let issuer = Issuer::start().await?;
        let mut running = None;
        let mut stand_in = None;
        let translates = upstream == Upstream::FakesnowLoads;
        let upstream = match upstream {
            Upstream::Fakesnow | Upstream::FakesnowLoads => {
                let python = environment(&WAREHOUSE).await?;
                let warehouse = Warehouse::start(&python, &dir.path().join("fakesnow.log")).await?;
                warehouse.fill(&Driver::start(&python).await?, seed).await?;
                running.insert(warehouse).addr()
            }
            Upstream::StandIn => stand_in.insert(StandIn::start().await?).addr(),
        };
        let back =
            if translates { Recorder::start_translating(upstream).await? } else { Recorder::start(upstream).await? };
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let config = service::pdp_config(free, dir.path(), &policies, &issuer.url());
        let pdp = Service::start_pdp(&programs.pdp, dir.path(), &config).await?;
        std::fs::write(dir.path().join(MASK_KEYS), "people 1 AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=\n")?;
        let more = format!("{tokens}\n{}", more(stand_in.as_ref(), dir.path()));
        let pep = service::Pep { addr: free, pdp: pdp.addr(), upstream: back.addr(), auth: &auth, more: &more };
        let pep = Service::start_pep(&programs.pep, dir.path(), &pep).await?;
        let front = Recorder::start(pep.addr()).await?;
        Ok(Self { issuer, front, back, pdp, pep, stand_in, programs, auth, policies, more, dir, _warehouse: running })
    }

    /// Starts the PDP again, where it was and on the files it left.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub async fn restart_pdp(&mut self) -> anyhow::Result<()> {
        let config = service::pdp_config(self.pdp.addr(), self.dir.path(), &self.policies, &self.issuer.url());
        self.pdp = Service::start_pdp(&self.programs.pdp, self.dir.path(), &config).await?;
        Ok(())
    }

    /// Starts the PEP again, where it was and on the files it left.
    ///
    /// # Errors
    ///
    /// When it does not start.
    pub async fn restart_pep(&mut self) -> anyhow::Result<()> {
        let pep = service::Pep {
            addr: self.pep.addr(),
            pdp: self.pdp.addr(),
            upstream: self.back.addr(),
            auth: &self.auth,
            more: &self.more,
        };
        self.pep = Service::start_pep(&self.programs.pep, self.dir.path(), &pep).await?;
        Ok(())
    }

    /// Arguments of `connect` for somebody, past the front recorder.
    ///
    /// # Errors
    ///
    /// When no token can be made.
    pub fn connection(&self, person: &Person, carrier: Carrier) -> anyhow::Result<Value> {
        let token = self.issuer.token(person)?;
        Ok(self.connection_with(&token, person.name, carrier))
    }

    /// The same with any text for a token.
    pub fn connection_with(&self, token: &str, user: &str, carrier: Carrier) -> Value {
        let mut arguments = json!({
            "host": self.front.addr().ip().to_string(), "port": self.front.addr().port(), "protocol": "http",
            "account": "demo", "database": "SALES", "schema": "PUBLIC", "warehouse": warehouse::NAME,
        });
        let how = match carrier {
            Carrier::Oauth => json!({ "authenticator": "oauth", "token": token }),
            Carrier::AccessToken => json!({ "authenticator": "PROGRAMMATIC_ACCESS_TOKEN", "token": token }),
            Carrier::Password => json!({ "user": user, "password": token }),
        };
        if let (Some(arguments), Value::Object(how)) = (arguments.as_object_mut(), how) {
            arguments.extend(how);
        }
        arguments
    }

    /// Runs `icegate` as somebody and gives what it says.
    ///
    /// # Errors
    ///
    /// When it does not end well; the message is what it said.
    pub async fn icegate(&self, person: &Person, arguments: &[&str]) -> anyhow::Result<String> {
        let ended = Command::new(&self.programs.icegate)
            .args(["--pdp", &self.pdp.addr().to_string(), "--danger-plaintext"])
            .args(arguments)
            .env("ICEGATE_TOKEN", self.issuer.token(person)?)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await?;
        let said = String::from_utf8_lossy(&ended.stdout).into_owned();
        anyhow::ensure!(
            ended.status.success(),
            "`icegate {}`: {}{said}",
            arguments.join(" "),
            String::from_utf8_lossy(&ended.stderr)
        );
        Ok(said)
    }

    /// The answer of an `icegate … --json` command, as the steward.
    ///
    /// # Errors
    ///
    /// When it does not end well or a line is not JSON.
    pub async fn asked(&self, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
        let said = self.icegate(&STELLA, arguments).await?;
        said.lines().map(|line| serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))).collect()
    }

    /// The id of the approval that a statement waits for.
    ///
    /// # Errors
    ///
    /// When none turns up.
    pub async fn pending(&self, sql: &str) -> anyhow::Result<String> {
        const TRIES_MAX: usize = 100;
        for _ in 0..TRIES_MAX {
            for approval in self.asked(&["approvals", "list", "--json"]).await? {
                if text_at(&approval, "sql") == sql {
                    let id = approval.get("approval_id").or_else(|| approval.get("id"));
                    return id.and_then(Value::as_str).map(str::to_owned).context("an approval without id");
                }
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        anyhow::bail!("nothing waits for `{sql}`")
    }
}

/// Keys of masks, in the stack's folder.
const MASK_KEYS: &str = "mask.keys";

/// Gives a PEP keys to mask with, and lets it fetch results from the stand-in's storage.
fn more(stand_in: Option<&StandIn>, dir: &Path) -> String {
    let storage = stand_in.map(|stand_in| {
        format!("[results]\nstorage_hosts = [\"{}\"]\ndanger_plaintext = true\n", stand_in.storage_addr())
    });
    let keys_file = dir.join(MASK_KEYS);
    format!("{}[masking]\nkeys_file = \"{}\"\n", storage.unwrap_or_default(), keys_file.display())
}

/// A field's text, empty when it is not there.
pub fn text_at<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// The environment's interpreter, installed when it is not there yet.
///
/// # Errors
///
/// When it cannot be installed.
pub async fn environment(environment: &'static Environment) -> anyhow::Result<PathBuf> {
    let target = target_dir(&workspace())?;
    Ok(tokio::task::spawn_blocking(move || python::prepare(environment, &target, |_| ())).await??)
}

/// The same for a test without a runtime.
///
/// # Errors
///
/// When it cannot be installed.
pub fn environment_blocking(environment: &Environment) -> anyhow::Result<PathBuf> {
    Ok(python::prepare(environment, &target_dir(&workspace())?, |_| ())?)
}

/// The checkout.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_owned).unwrap_or_default()
}

/// `icegate` itself, built.
///
/// # Errors
///
/// When it cannot be built.
pub fn icegate() -> anyhow::Result<PathBuf> {
    Ok(built()?.icegate)
}

/// Builds the executables once per process; cargo's own lock keeps processes apart.
fn built() -> anyhow::Result<Programs> {
    static BUILT: Mutex<Option<Programs>> = Mutex::new(None);
    let mut built = BUILT.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(programs) = built.as_ref() {
        return Ok(programs.clone());
    }
    let target = target_dir(&workspace())?;
    let release = !cfg!(debug_assertions);
    let mut cargo = std::process::Command::new(env!("CARGO"));
    cargo
        .args(["build", "--quiet", "--workspace", "--bins"])
        .current_dir(workspace())
        .env("CARGO_TARGET_DIR", &target)
        .stdin(Stdio::null());
    // What Cargo tells this test of its own package is not for the build: `ring` is built anew whenever it changes.
    for (name, _) in std::env::vars_os() {
        let of_package = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_", "CARGO_PRIMARY_"];
        if name.to_str().is_some_and(|name| of_package.iter().any(|of| name.starts_with(of))) {
            cargo.env_remove(name);
        }
    }
    if release {
        cargo.arg("--release");
    }
    let done = cargo.output().context("cannot start cargo")?;
    anyhow::ensure!(done.status.success(), "cannot build: {}", String::from_utf8_lossy(&done.stderr));
    let bin = target.join(if release { "release" } else { "debug" });
    let program = |name: &str| Program { path: bin.join(name), leading: Vec::new() };
    let programs = Programs { icegate: bin.join("icegate"), pdp: program("icegate-pdp"), pep: program("icegate-pep") };
    Ok(built.insert(programs).clone())
}
