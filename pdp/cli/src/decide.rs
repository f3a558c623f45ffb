use std::{
    collections::BTreeSet,
    io::{BufRead, Write},
};

use icegate_pdp_decision::{Question, decide};
use icegate_pdp_model::{MaskedColumn, Outcome, Principal, Reason};
use icegate_pdp_pip::BundleDir;
use icegate_pdp_policy::{Bundle, SourceFile};
use serde::Serialize;
use serde_json::Value;

use crate::{
    args::DecideArgs,
    exit::{Exit, Failure, chain},
    lines,
};

/// Prints what would be decided, one JSON object a line.
pub(crate) fn run(args: &DecideArgs, input: &mut dyn BufRead, out: &mut dyn Write) -> Result<Exit, Failure> {
    let bundle = bundle(args)?;
    let principal: Principal = lines::file(&args.principal, "--principal")?;
    let session = lines::session(&args.session)?;
    let approvals: BTreeSet<String> = args.approvals.iter().cloned().collect();
    let mut exit = Exit::Ok;
    for input in lines::read(input, args.jsonl, &session) {
        let line = match input? {
            Ok(input) => {
                let question = Question {
                    principal: &principal,
                    sql: &input.sql,
                    session: &input.session,
                    statement_count: 0,
                    approvals: &approvals,
                };
                let decision = decide(&question, &bundle);
                Decided {
                    id: input.id,
                    outcome: decision.outcome,
                    sql: decision.sql,
                    masks: decision.masks,
                    policies: decision.policies,
                    reasons: decision.reasons,
                    approval_groups: decision.approval_groups,
                    error: None,
                }
            }
            Err(problem) => {
                exit = Exit::Failed;
                Decided::nothing(problem)
            }
        };
        let text = serde_json::to_string(&line).map_err(|error| Failure::new(Exit::Internal, error.to_string()))?;
        writeln!(out, "{text}")?;
    }
    Ok(exit)
}

/// The bundle, with another catalog if one is given.
fn bundle(args: &DecideArgs) -> Result<Bundle, Failure> {
    let config = |problem: String| Failure::new(Exit::Config, problem);
    let mut dir = BundleDir::new(args.policies.clone());
    let Some(path) = &args.catalog else {
        return dir.load().map_err(|error| config(chain(&error)));
    };
    let mut source = dir.read().map_err(|error| config(chain(&error)))?;
    source.files.retain(|file| file.path != "catalog.yaml" && file.path != "catalog.json");
    let json = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
    let name = if json { "catalog.json" } else { "catalog.yaml" };
    source.files.push(SourceFile { path: name.into(), text: lines::text(path, "--catalog")? });
    Bundle::compile(&source).map_err(|error| config(chain(&error)))
}

/// One line of output.
#[derive(Serialize)]
struct Decided {
    id: Value,
    outcome: Outcome,
    /// What would be sent; null when nothing would.
    sql: Option<String>,
    masks: Vec<MaskedColumn>,
    policies: BTreeSet<String>,
    reasons: Vec<Reason>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    approval_groups: BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Decided {
    /// A line that is no input: nothing was asked, so nothing is allowed.
    fn nothing(problem: String) -> Self {
        Self {
            id: Value::Null,
            outcome: Outcome::Deny,
            sql: None,
            masks: Vec::new(),
            policies: BTreeSet::new(),
            reasons: Vec::new(),
            approval_groups: BTreeSet::new(),
            error: Some(problem),
        }
    }
}
