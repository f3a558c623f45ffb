//! What can a person ask icegate from a terminal?
//!
//! The commands of `icegate`, in two sorts. Some talk to a PDP as the person whose token they carry: approvals, sessions,
//! the audit trail, what is known of the warehouse (`catalog`). The others need no server: what a statement is (`sql
//! inspect`), what would be decided (`decide`), whether a policy bundle is sound and does what its cases say (`policy`), a
//! dbt project as a catalog (`catalog import-dbt`). `demo` shows all of it on one machine.
//!
//! ```
//! use icegate_cli::policy_cases::{Report, run_dir};
//!
//! fn all_hold(dir: &std::path::Path) -> Result<bool, icegate_cli::policy_cases::CasesError> {
//!     let report: Report = run_dir(dir)?;
//!     Ok(report.failures().next().is_none())
//! }
//! ```
//!
//! In reading order: the command line (`args`), how it ends (`exit`), what is shown (`show`, `underline`, `time`), the way to a PDP
//! (`connect`), then a module for each command.

mod approvals;
mod args;
mod audit;
mod catalog;
mod connect;
mod decide;
pub mod demo;
mod exit;
mod inspect;
mod lines;
mod policy;
pub mod policy_cases;
mod progress;
mod sessions;
mod show;
mod time;
mod underline;

use std::{ffi::OsString, io::Write, process::ExitCode};

use clap::Parser as _;

use args::{Cli, Command};
use exit::{Exit, Failure};
use underline::Look;

/// Runs `icegate` with these arguments, the program's name first.
pub fn main_from(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(service) = service(&args) {
        return service;
    }
    match Cli::try_parse_from(args) {
        Ok(cli) => run(cli),
        Err(error) => {
            // Help and version are errors to clap; it knows which stream each belongs to.
            let shown = error.print();
            if error.use_stderr() || shown.is_err() { Exit::Usage.into() } else { Exit::Ok.into() }
        }
    }
}

/// The services themselves, as children of `icegate demo`: not for people.
fn service(args: &[OsString]) -> Option<ExitCode> {
    let rest = args.iter().skip(2).cloned();
    match args.get(1)?.to_str()? {
        "__pdp" => {
            demo::service::leave_with_parent();
            Some(icegate_pdp::main_from(std::iter::once("icegate-pdp".into()).chain(rest)))
        }
        "__pep" => {
            demo::service::leave_with_parent();
            Some(icegate_pep::main_from(std::iter::once("icegate-pep".into()).chain(rest)))
        }
        _ => None,
    }
}

fn run(cli: Cli) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return say(&Failure::new(Exit::Internal, format!("no runtime: {error}"))),
    };
    let command = match cli.command {
        Command::Demo(args) => {
            return match runtime.block_on(demo::run(args)) {
                Ok(code) => code,
                Err(error) => say(&Failure::new(Exit::Failed, format!("{error:#}"))),
            };
        }
        command => command,
    };
    let mut out = std::io::stdout().lock();
    let done = runtime.block_on(dispatch(command, &cli.connection, &mut out));
    match done.and_then(|exit| out.flush().map(|()| exit).map_err(Failure::from)) {
        Ok(exit) => exit.into(),
        Err(failure) => say(&failure),
    }
}

async fn dispatch(command: Command, connection: &args::Connection, out: &mut dyn Write) -> Result<Exit, Failure> {
    match command {
        Command::Approvals(command) => approvals::run(command, connection, out).await,
        Command::Sessions(command) => sessions::run(command, connection, out).await,
        Command::Audit(command) => audit::run(command, connection, out).await,
        Command::Sql(args::SqlCommand::Inspect(args)) => {
            inspect::run(&args, &mut std::io::stdin().lock(), out, Look::of_stdout())
        }
        Command::Decide(args) => decide::run(&args, &mut std::io::stdin().lock(), out, Look::of_stdout()),
        Command::Policy(command) => policy::run(&command, out),
        Command::Catalog(command) => catalog::run(command, connection, out, &mut std::io::stderr()).await,
        // Handled by the caller: it has its own exit status.
        Command::Demo(_) => Ok(Exit::Ok),
    }
}

/// Says on standard error why it ended.
fn say(failure: &Failure) -> ExitCode {
    if !failure.is_broken_pipe() {
        // Nobody can be told that standard error is closed.
        let _ = writeln!(std::io::stderr(), "error: {failure}");
    }
    failure.exit().into()
}
