//! `icegate-pep`: reads its configuration, binds, serves, drains.

use std::process::ExitCode;

fn main() -> ExitCode {
    icegate_pep::main_from(std::env::args_os())
}
