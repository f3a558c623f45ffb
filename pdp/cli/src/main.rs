//! `icegate`: see the library for what it does.

use std::process::ExitCode;

fn main() -> ExitCode {
    icegate_cli::main_from(std::env::args_os())
}
