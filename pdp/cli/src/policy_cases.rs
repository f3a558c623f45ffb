//! Does a policy bundle do what its cases say?
//!
//! A case file stands in the bundle's `cases/` and holds a list of cases, or `principals:` by name and `cases:`. Names may
//! also stand in `cases/principals.yaml`, for all files.
//!
//! ```yaml
//! principals:
//!   ana: { id: corp/ana, groups: [analysts] }
//! cases:
//!   - name: an analyst sees masked addresses
//!     principal: ana
//!     session: { database: SALES, schema: PUBLIC }
//!     sql: SELECT email FROM customers
//!     expect:
//!       outcome: mask
//!       policies: [analysts-read, analysts-run, mask-email] # exactly these determined it
//!       codes: [POLICY-MASK]                           # exactly these
//!       masks: { SALES.PUBLIC.CUSTOMERS.EMAIL: email } # exactly these
//!   - name: an analyst may not approve
//!     principal: ana
//!     may: approve data-stewards                      # or search_audit, list_sessions, revoke_sessions
//!     expect: { outcome: deny }
//! ```

mod read;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Display,
    io,
    path::Path,
};

use icegate_pdp_decision::{BoundValues, Earlier, Question, decide};
use icegate_pdp_model::{MaskedColumn, Outcome, Reason};
use icegate_pdp_pip::{BundleDir, BundleDirError};
use icegate_pdp_policy::{Bundle, PersonAction};
use thiserror::Error;

use read::{Asked, Case, Expect, May};

/// How the cases of a bundle went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Version of the bundle.
    pub bundle_version: String,
    /// Every case, in order of file and place.
    pub cases: Vec<CaseResult>,
    /// Policies that determined no case: nothing would notice if they were gone.
    pub policies_untested: BTreeSet<String>,
}

impl Report {
    /// The cases that are not as they say.
    pub fn failures(&self) -> impl Iterator<Item = &CaseResult> {
        self.cases.iter().filter(|case| !case.differences.is_empty())
    }
}

/// How one case went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseResult {
    /// The file it stands in, for example `cases/agents.yaml`.
    pub file: String,
    /// Its name.
    pub name: String,
    /// The statement or action that was asked for.
    pub asked: String,
    /// What is not as expected, a line each. Empty when it holds.
    pub differences: Vec<String>,
}

/// Why cases cannot be run at all.
#[derive(Debug, Error)]
pub enum CasesError {
    /// There is no usable bundle.
    #[error("the bundle is not usable")]
    Bundle(#[source] BundleDirError),
    /// A file cannot be read.
    #[error("`{path}` cannot be read")]
    Read {
        /// Which.
        path: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// A file is not a list of cases.
    #[error("{file}: {problem}")]
    Case {
        /// Which, for example `cases/agents.yaml`.
        file: String,
        /// What is wrong with it.
        problem: String,
    },
    /// There are none.
    #[error("`{dir}` holds no cases; write some in `cases/*.yaml`")]
    None {
        /// The bundle's directory.
        dir: String,
    },
    /// Too much to run.
    #[error("{0}")]
    Limit(String),
}

/// Runs every case in the `cases/` of this bundle.
///
/// # Errors
///
/// When the bundle does not compile, a case file cannot be read, or there are no cases.
pub fn run_dir(dir: &Path) -> Result<Report, CasesError> {
    let bundle = BundleDir::new(dir.to_owned()).load().map_err(CasesError::Bundle)?;
    let cases = read::read(dir)?;
    if cases.is_empty() {
        return Err(CasesError::None { dir: dir.display().to_string() });
    }
    let mut untested: BTreeSet<String> = bundle.policy_ids().map(str::to_owned).collect();
    let cases = cases
        .iter()
        .map(|case| {
            let got = ask(case, &bundle);
            untested.retain(|policy| !got.policies.contains(policy));
            CaseResult {
                file: case.file.clone(),
                name: case.name.clone(),
                asked: case.asked.to_string(),
                differences: differences(&case.expect, &got),
            }
        })
        .collect();
    Ok(Report { bundle_version: bundle.version().to_owned(), cases, policies_untested: untested })
}

/// What the bundle answered.
struct Got {
    outcome: Outcome,
    sql: Option<String>,
    reasons: Vec<Reason>,
    masks: Vec<MaskedColumn>,
    approval_groups: BTreeSet<String>,
    policies: BTreeSet<String>,
}

fn ask(case: &Case, bundle: &Bundle) -> Got {
    match &case.asked {
        Asked::Sql { sql, session, statement_count, approvals } => {
            let question = Question {
                principal: &case.principal,
                sql,
                bound: &BoundValues::default(),
                earlier: Earlier::none(),
                session,
                statement_count: *statement_count,
                approvals,
            };
            let decision = decide(&question, bundle);
            Got {
                outcome: decision.outcome,
                sql: decision.sql,
                reasons: decision.reasons,
                masks: decision.masks,
                approval_groups: decision.approval_groups,
                policies: decision.policies,
            }
        }
        Asked::May(may) => {
            let action = match may {
                May::Approve(group) => PersonAction::Approve(group),
                May::SearchAudit => PersonAction::SearchAudit,
                May::ListSessions => PersonAction::ListSessions,
                May::RevokeSessions => PersonAction::RevokeSessions,
            };
            let verdict = bundle.may(&case.principal, action);
            Got {
                outcome: verdict.outcome,
                sql: None,
                reasons: verdict.reasons,
                masks: verdict.masks,
                approval_groups: verdict.approval_groups,
                policies: verdict.policies,
            }
        }
    }
}

fn differences(expect: &Expect, got: &Got) -> Vec<String> {
    let mut lines = Vec::new();
    if expect.outcome != got.outcome {
        lines.push(format!("outcome: expected {}, got {}", expect.outcome, got.outcome));
    }
    if let Some(wanted) = &expect.policies {
        same("policies", wanted, &got.policies, &mut lines);
    }
    if let Some(wanted) = &expect.codes {
        same("codes", wanted, &got.reasons.iter().map(|reason| reason.code.to_string()).collect(), &mut lines);
    }
    if let Some(wanted) = &expect.approval_groups {
        same("approval groups", wanted, &got.approval_groups, &mut lines);
    }
    if let Some(wanted) = &expect.masks {
        let got: BTreeMap<String, String> =
            got.masks.iter().map(|mask| (mask.column.to_string(), mask.mask.to_string())).collect();
        for column in wanted.keys().chain(got.keys()).collect::<BTreeSet<_>>() {
            let (wanted, got) = (wanted.get(column), got.get(column));
            if wanted != got {
                lines.push(format!("mask of {column}: expected {}, got {}", or_none(wanted), or_none(got)));
            }
        }
    }
    if let Some(wanted) = &expect.sql
        && got.sql.as_deref().map(str::trim) != Some(wanted.trim())
    {
        lines.push(format!("sql: expected {}", wanted.trim()));
        lines.push(format!("          got {}", got.sql.as_deref().map_or("nothing to send", str::trim)));
    }
    if !lines.is_empty() {
        lines.extend(got.reasons.iter().map(|reason| {
            let policy = reason.policy.as_deref().map(|policy| format!(" by {policy}")).unwrap_or_default();
            format!("because: {} [{}{policy}]", reason.message, reason.code)
        }));
    }
    lines
}

fn same(what: &str, wanted: &BTreeSet<String>, got: &BTreeSet<String>, lines: &mut Vec<String>) {
    if wanted != got {
        lines.push(format!("{what}: expected {}, got {}", names(wanted), names(got)));
    }
}

fn names<T: Display>(names: impl IntoIterator<Item = T>) -> String {
    let names: Vec<String> = names.into_iter().map(|name| name.to_string()).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

fn or_none(mask: Option<&String>) -> &str {
    mask.map_or("none", String::as_str)
}
