//! `icegate-pdp`: the policy decision point.

use std::process::ExitCode;

fn main() -> ExitCode {
    icegate_pdp::main_from(std::env::args_os())
}
