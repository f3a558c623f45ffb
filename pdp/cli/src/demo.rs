//! `icegate demo`: everything on this machine, a tour by a real driver, and then a place to try things.

pub mod driver;
pub mod facts;
pub mod issuer;
pub mod python;
pub mod service;
pub mod warehouse;

mod keys;
pub mod places;
mod say;
mod tour;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context as _;

use self::driver::Driver;
use self::facts::{Facts, User};
use self::issuer::{Issuer, PEOPLE};
use self::places::Places;
use self::say::Voice;
use self::service::{Program, Service, UpstreamAuth};
use self::warehouse::Warehouse;

/// Arguments of `icegate demo`.
#[derive(Debug, Clone, clap::Args)]
pub struct DemoArgs {
    /// Stop after the tour; the exit status tells whether every step went as it should
    #[arg(long)]
    pub exit: bool,
    /// Port that drivers connect to [default: a free one]
    #[arg(long, value_name = "PORT", default_value_t = 0, hide_default_value = true)]
    pub port: u16,
    /// Directory for its files, emptied first [default: target/demo]
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
}

/// Sets everything up, takes the tour, and stays up until ctrl-c.
///
/// # Errors
///
/// When something cannot be started; the message says what to do. A failed step of the tour is not an error, it is in the exit
/// status.
pub async fn run(args: DemoArgs) -> anyhow::Result<ExitCode> {
    let voice = Voice::new();
    let places = Places::find(args.dir)?;
    let _alone = places.prepare()?;
    let (demo, failed) = tokio::select! {
        shown = show(&voice, &places, args.port) => shown?,
        () = stop_signal() => {
            voice.line("");
            voice.text("Stopped before the end of the tour.");
            return Ok(ExitCode::from(EXIT_INTERRUPTED));
        }
    };
    if !args.exit {
        how_to_connect(&voice, &demo, &places);
        stop_signal().await;
        voice.line("");
        voice.text("Stopping.");
    }
    demo.stop().await?;
    Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What a shell says of a program that was interrupted.
const EXIT_INTERRUPTED: u8 = 130;

async fn show(voice: &Voice, places: &Places, port: u16) -> anyhow::Result<(Demo, usize)> {
    voice.title("icegate demo");
    voice.text(
        "A warehouse (fakesnow), an identity provider, icegate-pdp and icegate-pep, all on this machine. Snowflake's own \
         Python driver then connects to icegate-pep as if it were Snowflake.",
    );
    voice.line("");
    let demo = Demo::start(voice, places, port).await?;
    let failed = tour::take(voice, &demo).await?;
    voice.line("");
    if failed == 0 {
        voice.passed("Every step of the tour went as it should.");
    } else {
        voice.failed(&format!("{failed} checks of the tour failed; logs are in `{}`.", places.short(&places.dir)));
    }
    Ok((demo, failed))
}

/// Everything that runs while the demo is up.
#[derive(Debug)]
struct Demo {
    facts: Facts,
    python: PathBuf,
    driver: Driver,
    pep: Service,
    pdp: Service,
    _issuer: Issuer,
    _warehouse: Warehouse,
}

impl Demo {
    async fn start(voice: &Voice, places: &Places, port: u16) -> anyhow::Result<Self> {
        let begun = Instant::now();
        let python = environment(voice, places).await?;
        voice.progress("starting the warehouse and the driver, making keys …");
        let log = places.dir.join("fakesnow.log");
        let key = places.dir.join("upstream.pem");
        let (warehouse, driver, issuer, made) = tokio::join!(
            Warehouse::start(&python, &log),
            Driver::start(&python),
            Issuer::start(),
            keys::rsa_key(key.clone()),
        );
        let (warehouse, driver, issuer) = (warehouse?, driver?, issuer?);
        made?;
        warehouse.seed(&driver).await?;
        voice.progress(&format!(
            "fakesnow with database SALES, snowflake-connector-python {}, the issuer `{}`: ready",
            driver.version(),
            issuer::NAME
        ));
        let programs = programs()?;
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let pdp_config = service::pdp_config(free, &places.dir, &places.policies, &issuer.url());
        let pdp = Service::start_pdp(&programs.pdp, &places.dir, &pdp_config).await?;
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let auth = UpstreamAuth::KeyPair(key);
        let pep = service::Pep { addr: listen, pdp: pdp.addr(), upstream: warehouse.addr(), auth: &auth, more: "" };
        let pep = Service::start_pep(&programs.pep, &places.dir, &pep).await?;
        let facts = facts_of(places, &issuer, &pdp, &pep)?;
        for path in places.facts() {
            facts.write(&path)?;
        }
        voice.progress(&format!(
            "icegate-pdp on {}, icegate-pep on {}: ready after {:.1} s",
            pdp.addr(),
            pep.addr(),
            begun.elapsed().as_secs_f64()
        ));
        Ok(Self { facts, python, driver, pep, pdp, _issuer: issuer, _warehouse: warehouse })
    }

    /// In the order in which they depend on each other, so that no last word is lost.
    async fn stop(self) -> anyhow::Result<()> {
        drop(self.driver);
        self.pep.stop().await?;
        self.pdp.stop().await
    }
}

async fn environment(voice: &Voice, places: &Places) -> anyhow::Result<PathBuf> {
    let (say, mut said) = tokio::sync::mpsc::unbounded_channel::<String>();
    let target = places.target.clone();
    let made = tokio::task::spawn_blocking(move || {
        python::prepare(&python::WAREHOUSE, &target, |text| drop(say.send(text.to_owned())))
    });
    while let Some(text) = said.recv().await {
        voice.progress(&format!("{text} …"));
    }
    Ok(made.await.context("the installation broke off")??)
}

struct Programs {
    pdp: Program,
    pep: Program,
}

/// The services are this very program under other names, so that `cargo demo` has to build one only.
fn programs() -> anyhow::Result<Programs> {
    let path = std::env::current_exe().context("cannot find this program's own file")?;
    let leading = |name: &str| vec![name.to_owned()];
    Ok(Programs {
        pdp: Program { path: path.clone(), leading: leading("__pdp") },
        pep: Program { path, leading: leading("__pep") },
    })
}

fn facts_of(places: &Places, issuer: &Issuer, pdp: &Service, pep: &Service) -> anyhow::Result<Facts> {
    let mut users = std::collections::BTreeMap::new();
    for person in &PEOPLE {
        let groups = person.groups.iter().map(|group| (*group).to_owned()).collect();
        users.insert(person.name.to_owned(), User { token: issuer.token(person)?, groups });
    }
    Ok(Facts {
        host: pep.addr().ip().to_string(),
        port: pep.addr().port(),
        protocol: "http".to_owned(),
        account: "demo".to_owned(),
        database: "SALES".to_owned(),
        schema: "PUBLIC".to_owned(),
        warehouse: warehouse::NAME.to_owned(),
        users,
        pdp_addr: pdp.addr().to_string(),
        pdp_metrics: format!("http://{}/metrics", pdp.metrics()),
        pep_metrics: format!("http://{}/metrics", pep.metrics()),
        catalog: places.policies.join("catalog.yaml"),
        policies: places.policies.clone(),
    })
}

fn how_to_connect(voice: &Voice, demo: &Demo, places: &Places) {
    let facts = &demo.facts;
    voice.line("");
    voice.title("Now you: in another terminal");
    // From the first column on, so that it can be copied as it is.
    voice.line(&format!(
        r#"{python} - <<'END'
import json, snowflake.connector
d = json.load(open("{json}"))
c = snowflake.connector.connect(
    host=d["host"], port=d["port"], protocol=d["protocol"], account=d["account"], database=d["database"],
    schema=d["schema"], warehouse=d["warehouse"], authenticator="oauth", token=d["users"]["ana"]["token"])
for row in c.cursor().execute("SELECT * FROM CUSTOMERS LIMIT 5"): print(row)
END"#,
        python = places.short(&demo.python),
        json = places.short(&places.dir.join("demo.json")),
    ));
    voice.line("");
    voice.text("As a person of icegate, for example the steward:");
    voice.line(&format!(
        r#"export ICEGATE_PDP={pdp} ICEGATE_TOKEN=$({python} -c 'import json; print(json.load(open("{json}"))["users"]["stella"]["token"])')
{icegate} --danger-plaintext approvals list"#,
        pdp = facts.pdp_addr,
        python = places.short(&demo.python),
        json = places.short(&places.dir.join("demo.json")),
        icegate = std::env::current_exe().map_or_else(|_| "icegate".to_owned(), |path| places.short(&path)),
    ));
    voice.line("");
    voice.text(&format!("Users: {}.", facts.users.keys().cloned().collect::<Vec<_>>().join(", ")));
    voice.text(&format!("Policies: edit `{}`; a change is in force within a second.", facts.policies.display()));
    voice.text(&format!("Metrics: {} and {}", facts.pdp_metrics, facts.pep_metrics));
    voice.text("Stop with ctrl-c.");
}

/// Ctrl-c, or what a supervisor sends.
async fn stop_signal() {
    let terminate = async {
        #[cfg(unix)]
        if let Ok(mut signal) = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            signal.recv().await;
            return;
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        () = terminate => {}
    }
}
