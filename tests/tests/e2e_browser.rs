//! A person signs in with a browser: the real Python driver, both lines of it, a real headless Chromium, a real OpenID provider
//! (npm `oidc-provider`), PEP and PDP, to fakesnow.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic)]

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use icegate_cli::demo::driver::Driver;
use icegate_cli::demo::issuer::{ANA, Issuer, Person, STELLA};
use icegate_cli::demo::python::{DRIVER5, Environment, WAREHOUSE};
use icegate_cli::demo::service::{self, Program, Service};
use icegate_cli::demo::warehouse::{self, Warehouse};
use icegate_tests::node;
use icegate_tests::stack::{environment, icegate, text_at, workspace};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

const CLIENT_SECRET: &str = "client-secret-canary";

#[tokio::test(flavor = "multi_thread")]
async fn driver_4() -> anyhow::Result<()> {
    everything(&WAREHOUSE, "4.8.1").await
}

#[tokio::test(flavor = "multi_thread")]
async fn driver_5() -> anyhow::Result<()> {
    everything(&DRIVER5, "5.2.0").await
}

async fn everything(with: &'static Environment, version: &str) -> anyhow::Result<()> {
    let mut scene = Scene::start().await?;
    let python = environment(with).await?;

    let ana = scene.sign_in(&python, &ANA, "ana", version).await?;
    ana.outcome.map_err(|raised| anyhow::anyhow!("{raised}; the browser: {:?}", ana.trace))?;
    let rows = ana.driver.execute("s", "SELECT EMAIL FROM CUSTOMERS WHERE ID = 1").await??;
    ensure!(rows.cell(0, "EMAIL").ends_with("@example.com") && !rows.cell(0, "EMAIL").contains("maya"), "{rows:?}");
    let token = scene.provider.token().await?;
    what_ana_saw(&ana.trace, version)?;
    nothing_got_out(&ana.trace, &token)?;

    let stella = scene.sign_in(&python, &STELLA, "dev/stella", version).await?;
    stella.outcome.map_err(|raised| anyhow::anyhow!("{raised}; the browser: {:?}", stella.trace))?;
    let rows = stella.driver.execute("s", "SELECT EMAIL FROM CUSTOMERS WHERE ID = 1").await??;
    ensure!(rows.cell(0, "EMAIL") == "maya.lindqvist@example.com", "{rows:?}");
    scene.provider.token().await?;

    // Who signs in counts, not who the driver says it is for.
    let other = scene.sign_in(&python, &ANA, "stella", version).await?;
    let Err(raised) = other.outcome else { anyhow::bail!("ana became stella") };
    ensure!(raised.message.contains("IDENTITY-MISMATCH"), "{raised}");

    for (user, outcome) in [("dev/ana", "mask"), ("dev/stella", "allow")] {
        let arguments = ["audit", "search", "--json", "--user", user, "--outcome", outcome, "--text", "email"];
        let found = scene.asked(&arguments).await?;
        ensure!(!found.is_empty(), "{user}");
    }
    Ok(())
}

/// Each page said what it had to, its own style counted, and nothing in it was out of order.
fn what_ana_saw(trace: &[Value], version: &str) -> anyhow::Result<()> {
    let page = |name: &str| {
        let found = trace.iter().find(|line| text_at(line, "page") == name);
        found.with_context(|| format!("nobody saw `{name}`: {trace:?}"))
    };
    for (name, title, texts) in [
        (
            "asked",
            "Sign in for a program?",
            &["PythonConnector", version, "ana", "127.0.0.1", "localhost:", "Go on only if you have just started"][..],
        ),
        ("signed-in", "You are signed in", &["signed in as ana", "localhost:"]),
        ("handed-over", "", &["Your identity was confirmed"]),
    ] {
        let page = page(name)?;
        ensure!(text_at(page, "title").starts_with(title), "{page}");
        for text in texts {
            ensure!(text_at(page, "text").contains(text), "`{text}` is not in {page}");
        }
        if !title.is_empty() {
            ensure!(text_at(page, "color") == "rgb(243, 246, 248)", "the style is not let in: {page}");
            ensure!(page["errors"] == json!([]), "{page}");
        }
    }
    ensure!(text_at(page("handed-over")?, "at").starts_with("http://localhost:"), "{trace:?}");
    Ok(())
}

/// No token and no secret was in anything the browser got: addresses, headers or pages.
fn nothing_got_out(trace: &[Value], token: &str) -> anyhow::Result<()> {
    let answers: Vec<String> =
        trace.iter().filter(|line| line.get("answer").is_some()).map(ToString::to_string).collect();
    ensure!(answers.len() >= 4, "{answers:?}");
    ensure!(answers.iter().any(|answer| answer.contains("/?token=ig1.")), "the ticket went to the driver");
    for secret in token.split('.').chain([CLIENT_SECRET]) {
        ensure!(!answers.iter().any(|answer| answer.contains(secret)), "`{secret}` got out");
    }
    Ok(())
}

/// A driver that opened a browser, and what came of it.
struct SignedIn {
    driver: Driver,
    outcome: Result<Value, icegate_cli::demo::driver::Raised>,
    trace: Vec<Value>,
}

/// Everything between driver, browser, provider and warehouse, on this machine.
struct Scene {
    provider: Provider,
    node: PathBuf,
    programs: PathBuf,
    chromium: PathBuf,
    auditors: Issuer,
    pdp: Service,
    pep: icegate_pep::Running,
    sign_ins: usize,
    dir: TempDir,
    _warehouse: Warehouse,
}

impl Scene {
    async fn start() -> anyhow::Result<Self> {
        let chromium = node::chromium()?;
        let node = node::program().await?;
        let program = node.clone();
        let installed = move || node::npm_install(&program, &workspace().join("tests/sign_in"));
        let programs = tokio::task::spawn_blocking(installed).await??;
        let dir = tempfile::tempdir()?;
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let python = environment(&WAREHOUSE).await?;
        let warehouse = Warehouse::start(&python, &dir.path().join("fakesnow.log")).await?;
        warehouse.seed(&Driver::start(&python).await?).await?;

        // The provider has to know where the PEP will be.
        let pep = TcpListener::bind(free)?.local_addr()?;
        let provider = Provider::start(&node, &programs, &format!("https://{pep}/console/login/callback")).await?;

        let auditors = Issuer::start().await?;
        let config = service::pdp_config(free, dir.path(), &workspace().join("policies"), &provider.issuer);
        let config = format!("{config}{}", also_trusted(&auditors));
        let program = Program { path: icegate()?.with_file_name("icegate-pdp"), leading: Vec::new() };
        let pdp = Service::start_pdp(&program, dir.path(), &config).await?;
        let config = pep_config(dir.path(), pep, pdp.addr(), warehouse.addr(), &provider.issuer)?;
        let pep = icegate_pep::start(icegate_pep::Config::parse(&config, "pep.toml")?).await?;
        Ok(Self { provider, node, programs, chromium, auditors, pdp, pep, sign_ins: 0, dir, _warehouse: warehouse })
    }

    /// A driver of its own connects for a user; whoever sits at the browser that it opens signs in.
    async fn sign_in(&mut self, python: &Path, person: &Person, user: &str, version: &str) -> anyhow::Result<SignedIn> {
        self.sign_ins += 1;
        let trace = self.dir.path().join(format!("trace-{}", self.sign_ins));
        let browser = self.browser(person, &trace)?;
        let ca = self.dir.path().join("ca.pem");
        let variables = [
            ("BROWSER", browser.as_os_str()),
            // Connector 4 and connector 5.
            ("REQUESTS_CA_BUNDLE", ca.as_os_str()),
            ("SSL_CERT_FILE", ca.as_os_str()),
            ("NO_PROXY", OsStr::new("127.0.0.1,localhost")),
        ];
        let driver = Driver::start_with(python, &variables).await?;
        ensure!(driver.version() == version, "{}", driver.version());
        let arguments = json!({
            "host": "127.0.0.1", "port": self.pep.addr().port(), "protocol": "https", "account": "demo", "user": user,
            "authenticator": "externalbrowser", "database": "SALES", "schema": "PUBLIC", "warehouse": warehouse::NAME,
        });
        let outcome = driver.connect("s", &arguments).await.with_context(|| format!("{:?}", read(&trace)))?;
        // The browser is still at the last page when the driver is served already.
        for _ in 0..100 {
            let done = |line: &Value| text_at(line, "page") == "handed-over" || line.get("failed").is_some();
            if read(&trace).iter().any(done) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(SignedIn { driver, outcome, trace: read(&trace) })
    }

    /// What the driver opens: a script that starts the browser, and ends at once as browsers do.
    fn browser(&self, person: &Person, trace: &Path) -> anyhow::Result<PathBuf> {
        let what = json!({
            "chromium": self.chromium, "person": person.name, "trace": trace,
            "pictures": std::env::var("ICEGATE_PICTURES").ok(),
        });
        let program = self.programs.join("browser.mjs");
        let script = format!(
            "#!/bin/sh\n'{}' '{}' \"$1\" '{what}' >>'{}' 2>&1 </dev/null &\n",
            self.node.display(),
            program.display(),
            trace.with_extension("log").display()
        );
        let path = trace.with_extension("browser");
        fs::write(&path, script)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))?;
        Ok(path)
    }

    /// The answer of an `icegate … --json` command, as an auditor whom another issuer names.
    async fn asked(&self, arguments: &[&str]) -> anyhow::Result<Vec<Value>> {
        let ended = Command::new(icegate()?)
            .args(["--pdp", &self.pdp.addr().to_string(), "--danger-plaintext"])
            .args(arguments)
            .env("ICEGATE_TOKEN", self.auditors.token(&STELLA)?)
            .stdin(Stdio::null())
            .output()
            .await?;
        ensure!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
        String::from_utf8(ended.stdout)?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }
}

fn read(trace: &Path) -> Vec<Value> {
    let text = fs::read_to_string(trace).unwrap_or_default();
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// A further issuer in the PDP's configuration.
fn also_trusted(issuer: &Issuer) -> String {
    let url = issuer.url();
    format!(
        "\n[[issuer]]\nname = \"staff\"\nissuer = \"{url}\"\ndiscovery_url = \"{url}/.well-known/openid-configuration\"\n\
         audiences = [\"icegate\"]\nalgorithms = [\"ES256\"]\n[issuer.claims]\nprincipal = \"sub\"\ngroups = \"groups\"\n"
    )
}

/// The PEP's configuration, with TLS towards drivers and browsers: connector 5 opens no other address.
fn pep_config(
    dir: &Path,
    addr: SocketAddr,
    pdp: SocketAddr,
    upstream: SocketAddr,
    issuer: &str,
) -> anyhow::Result<String> {
    let authority_key = rcgen::KeyPair::generate()?;
    let mut authority = rcgen::CertificateParams::new(Vec::new())?;
    // Of two certificates with one name OpenSSL takes either for self-signed.
    authority.distinguished_name.push(rcgen::DnType::CommonName, "authority of a test");
    authority.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let authority_pem = authority.self_signed(&authority_key)?.pem();
    let issuing = rcgen::Issuer::new(authority, authority_key);
    let key = rcgen::KeyPair::generate()?;
    let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
    let certificate = rcgen::CertificateParams::new(names)?.signed_by(&key, &issuing)?;
    for (name, text) in [
        ("ca.pem", authority_pem),
        ("pep.pem", certificate.pem()),
        ("pep.key", key.serialize_pem()),
        ("password", "upstream-password-canary\n".to_owned()),
        ("secret", format!("{CLIENT_SECRET}\n")),
    ] {
        fs::write(dir.join(name), text)?;
    }
    let at = dir.display();
    Ok(format!(
        r#"
pep_id = "pep-browser"
[listen]
addr = "{addr}"
tls = {{ cert = "{at}/pep.pem", key = "{at}/pep.key" }}
drain = "1s"
[upstream]
url = "http://{upstream}"
danger_plaintext = true
account = "demo"
user = "ICEGATE_SERVICE"
auth = "password"
password_file = "{at}/password"
[pdp]
url = "http://{pdp}"
danger_plaintext = true
[journal]
path = "{at}/pep.journal"
[sign_in]
issuer = "{issuer}"
danger_plaintext = true
client_id = "icegate"
client_secret_file = "{at}/secret"
scopes = ["openid", "groups"]
url = "https://{addr}"
"#
    ))
}

/// The identity provider, as a child process.
struct Provider {
    issuer: String,
    lines: Lines<BufReader<ChildStdout>>,
    _child: Child,
}

impl Provider {
    async fn start(node: &Path, programs: &Path, redirect_uri: &str) -> anyhow::Result<Self> {
        let people: serde_json::Map<String, Value> =
            [ANA, STELLA].iter().map(|person| (person.name.to_owned(), json!(person.groups))).collect();
        let what = json!({ "redirect_uri": redirect_uri, "client_secret": CLIENT_SECRET, "people": people });
        let mut child = Command::new(node)
            .arg(programs.join("provider.mjs"))
            .arg(what.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot run Node")?;
        let mut lines = BufReader::new(child.stdout.take().context("no pipe")?).lines();
        let said = said(&mut lines).await.context("the provider did not start")?;
        Ok(Self { issuer: text_at(&said, "issuer").to_owned(), lines, _child: child })
    }

    /// The ID token it gave out last.
    async fn token(&mut self) -> anyhow::Result<String> {
        Ok(text_at(&said(&mut self.lines).await?, "id_token").to_owned())
    }
}

async fn said(lines: &mut Lines<BufReader<ChildStdout>>) -> anyhow::Result<Value> {
    let line = tokio::time::timeout(Duration::from_mins(1), lines.next_line()).await??.context("it ended")?;
    Ok(serde_json::from_str(&line)?)
}
