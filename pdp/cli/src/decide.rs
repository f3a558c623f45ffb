mod text;

use std::{
    collections::BTreeSet,
    io::{BufRead, Write},
};

use icegate_pdp_decision::{BoundValues, Earlier, Question, decide};
use icegate_pdp_model::{
    Decision, ExplainedColumn, FilteredRelation, MaskedColumn, MaskedOutput, Outcome, Principal, Reason,
};
use icegate_pdp_pip::BundleDir;
use icegate_pdp_policy::{Bundle, BundleSource, SourceFile};
use serde::Serialize;
use serde_json::Value;

use crate::{
    args::DecideArgs,
    exit::{Exit, Failure, chain},
    lines,
    underline::Look,
};

/// Prints what would be decided: for people, or one JSON object a line.
pub(crate) fn run(
    args: &DecideArgs,
    input: &mut dyn BufRead,
    out: &mut dyn Write,
    look: Look,
) -> Result<Exit, Failure> {
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
                    bound: &BoundValues::default(),
                    earlier: Earlier::none(),
                    session: &input.session,
                    statement_count: 0,
                    approvals: &approvals,
                };
                let decision = decide(&question, &bundle);
                // Of many lines each says its own outcome; of one text the status does.
                if !args.jsonl && matches!(decision.outcome, Outcome::Deny | Outcome::NeedsApproval) {
                    exit = Exit::Failed;
                }
                if !(args.jsonl || args.json) {
                    out.write_all(text::text(&input.sql, &decision, look).as_bytes())?;
                    continue;
                }
                Decided::new(input.id, decision)
            }
            Err(problem) => {
                exit = Exit::Failed;
                Decided::nothing(problem.id, problem.why)
            }
        };
        lines::write(out, &line)?;
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
    source.files.retain(|file| !BundleSource::is_catalog(&file.path));
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
    /// Columns of the result that the PEP would mask.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    result_masks: Vec<MaskedOutput>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    row_filters: Vec<FilteredRelation>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    columns: Vec<ExplainedColumn>,
    policies: BTreeSet<String>,
    reasons: Vec<Reason>,
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    approval_groups: BTreeSet<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Decided {
    fn new(id: Value, decision: Decision) -> Self {
        Self {
            id,
            outcome: decision.outcome,
            sql: decision.sql,
            masks: decision.masks,
            result_masks: decision.result_masks,
            row_filters: decision.row_filters,
            columns: decision.columns,
            policies: decision.policies,
            reasons: decision.reasons,
            approval_groups: decision.approval_groups,
            error: None,
        }
    }

    /// A line that is no input: nothing was asked, so nothing is allowed.
    fn nothing(id: Value, problem: String) -> Self {
        Self {
            id,
            outcome: Outcome::Deny,
            sql: None,
            masks: Vec::new(),
            result_masks: Vec::new(),
            row_filters: Vec::new(),
            columns: Vec::new(),
            policies: BTreeSet::new(),
            reasons: Vec::new(),
            approval_groups: BTreeSet::new(),
            error: Some(problem),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, path::PathBuf};

    use super::run;
    use crate::{
        args::{DecideArgs, SessionArgs},
        exit::Exit,
        underline::Look,
    };

    fn decided(sql: &str, json: bool) -> (Exit, String) {
        decided_by(PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../policies")), sql, json)
    }

    fn decided_by(policies: PathBuf, sql: &str, json: bool) -> (Exit, String) {
        let dir = tempfile::tempdir().unwrap();
        let principal = dir.path().join("me.yaml");
        fs::write(&principal, "id: corp/ana\ngroups: [employees, analysts]\n").unwrap();
        let args = DecideArgs {
            policies,
            catalog: None,
            principal,
            approvals: Vec::new(),
            jsonl: false,
            json,
            session: SessionArgs {
                database: Some("sales".into()),
                schema: Some("public".into()),
                ..SessionArgs::default()
            },
        };
        let mut out = Vec::new();
        let exit = run(&args, &mut sql.as_bytes(), &mut out, Look::new(false, 80)).unwrap();
        (exit, String::from_utf8(out).unwrap())
    }

    #[test]
    fn decide_text() {
        let mut all = String::new();
        for (sql, wanted) in [
            ("SELECT id, email FROM customers c\nWHERE c.ssn LIKE '1%'", Exit::Ok),
            ("SELECT * FROM customers", Exit::Ok),
            ("SELECT id FROM orders", Exit::Ok),
            ("SELECT id FROM nowhere; DROP DATABASE sales", Exit::Failed),
            ("COPY INTO 's3://b/x' FROM customers", Exit::Failed),
            ("SELECT id FROM\n  customers RESAMPLE USING x", Exit::Failed),
            ("CREATE TABLE staging.x CLONE customers", Exit::Failed),
            ("DELETE FROM orders", Exit::Failed),
        ] {
            let (exit, text) = decided(sql, false);
            assert_eq!(exit, wanted, "{text}");
            all.extend(["> ", &sql.replace('\n', "\n> "), "\n\n", &text, "\n"]);
        }
        insta::assert_snapshot!(all);
    }

    /// What the proxy masks is told by its place in the result.
    #[test]
    fn decide_text_of_results() {
        let bundle = tempfile::tempdir().unwrap();
        let root = PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."));
        for file in ["settings.yaml", "catalog.yaml", "policies.cedar"] {
            fs::copy(root.join("tests/results/bundle").join(file), bundle.path().join(file)).unwrap();
        }
        let schema = "schema.cedarschema";
        fs::copy(root.join("policies").join(schema), bundle.path().join(schema)).unwrap();
        let mut all = String::new();
        for (sql, wanted) in
            [("SELECT card AS c, id, name FROM people", Exit::Ok), ("SELECT UPPER(name) FROM people", Exit::Failed)]
        {
            let (exit, text) = decided_by(bundle.path().to_owned(), sql, false);
            assert_eq!(exit, wanted, "{text}");
            all.extend(["> ", sql, "\n\n", &text, "\n"]);
        }
        insta::assert_snapshot!(all);
    }

    #[test]
    fn the_status_says_whether_it_would_run() {
        assert_eq!(decided("SELECT id FROM orders", true).0, Exit::Ok);
        let (exit, line) = decided("DROP DATABASE sales", true);
        assert_eq!(exit, Exit::Failed);
        assert!(line.starts_with(r#"{"id":"1","outcome":"deny","sql":null,"#), "{line}");
    }
}
