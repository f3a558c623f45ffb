use std::{io::Write, path::Path};

use icegate_pdp_pip::{BundleDir, BundleDirError};

use crate::{
    args::PolicyCommand,
    exit::{Exit, Failure, chain},
    policy_cases::{CasesError, Report, run_dir},
    show,
};

pub(crate) fn run(command: &PolicyCommand, out: &mut dyn Write) -> Result<Exit, Failure> {
    match command {
        PolicyCommand::Validate { dir } => validate(dir, out),
        PolicyCommand::Test { dir, require_coverage } => {
            let report = run_dir(dir).map_err(|error| failed(dir, &error))?;
            test(&report, *require_coverage, out)
        }
    }
}

fn validate(dir: &Path, out: &mut dyn Write) -> Result<Exit, Failure> {
    let bundle = BundleDir::new(dir.to_owned()).load().map_err(|error| unusable(dir, &error))?;
    for lint in bundle.lints() {
        writeln!(out, "warning: {}", show::visible(&format!("{}/{lint}", dir.display())))?;
    }
    let policies = show::count(bundle.policy_ids().count(), "policy").replace("policys", "policies");
    writeln!(out, "{}: version {}, {policies}: sound.", dir.display(), bundle.version())?;
    Ok(Exit::Ok)
}

fn test(report: &Report, require_coverage: bool, out: &mut dyn Write) -> Result<Exit, Failure> {
    for case in report.failures() {
        writeln!(out, "FAIL {}: {}", case.file, show::visible(&case.name))?;
        writeln!(out, "     {}", show::statement(&case.asked))?;
        for difference in &case.differences {
            writeln!(out, "  {}", show::visible(difference))?;
        }
        writeln!(out)?;
    }
    let failed = report.failures().count();
    let held = report.cases.len() - failed;
    writeln!(out, "{held} of {} hold.", show::count(report.cases.len(), "case"))?;
    if !report.policies_untested.is_empty() {
        writeln!(out, "No case is determined by: {}.", show::list(&report.policies_untested))?;
    }
    let covered = report.policies_untested.is_empty() || !require_coverage;
    Ok(if failed == 0 && covered { Exit::Ok } else { Exit::Failed })
}

fn failed(dir: &Path, error: &CasesError) -> Failure {
    match error {
        CasesError::Bundle(error) => unusable(dir, error),
        CasesError::Read { .. } | CasesError::Case { .. } | CasesError::None { .. } | CasesError::Limit { .. } => {
            Failure::new(Exit::Config, chain(error))
        }
    }
}

/// Every problem on its own line, with the path a person can open.
fn unusable(dir: &Path, error: &BundleDirError) -> Failure {
    match error {
        BundleDirError::Compile(bundle) => {
            let problems: Vec<String> =
                bundle.problems.iter().map(|problem| show::visible(&format!("{}/{problem}", dir.display()))).collect();
            let found = show::count(problems.len(), "problem");
            Failure::new(Exit::Failed, format!("the bundle has {found}\n{}", problems.join("\n")))
        }
        BundleDirError::Read { .. } => Failure::new(Exit::Config, chain(error)),
        BundleDirError::File { .. } | BundleDirError::Changing => Failure::new(Exit::Failed, chain(error)),
    }
}
