//! So what is the answer?
//!
//! One function, read in the order the data flows: text → analysis → verdict → the text to send. It is total and fails
//! closed: whatever is not understood is a [`Outcome::Deny`] that says what was not understood.
//!
//! ```
//! use std::collections::BTreeSet;
//!
//! use icegate_pdp_decision::{BoundValues, Earlier, Question, decide};
//! # use icegate_pdp_model::{Decision, Principal, SessionContext};
//! # use icegate_pdp_policy::Bundle;
//! # fn ask(bundle: &Bundle, principal: &Principal) -> Decision {
//! let decision = decide(
//!     &Question {
//!         principal,
//!         sql: "SELECT id FROM sales.public.orders",
//!         bound: &BoundValues::default(),
//!         earlier: Earlier::none(),
//!         session: &SessionContext::default(),
//!         statement_count: 1,
//!         approvals: &BTreeSet::new(),
//!     },
//!     bundle,
//! );
//! # decision }
//! ```

mod temporary;

use std::collections::{BTreeMap, BTreeSet};

use icegate_pdp_model::{
    Code, ColumnName, Decision, ExplainedColumn, Mask, MaskedColumn, Outcome, Principal, Reason, SessionContext,
    StatementAnalysis,
};
use icegate_pdp_policy::{Asked, Bundle, Settings, Verdict};
use icegate_pdp_sql::{Analyzed, Beside, Limits, Rewriting, Rewritten, Unmaskable, analyze_with};
pub use icegate_pdp_sql::{BoundValues, Earlier, EarlierRelation, Written, results_asked};

pub use self::temporary::{Temporaries, follow, makes_temporary, readable};

/// What one request asks, by whom, and where.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// Who asks.
    pub principal: &'a Principal,
    /// The text exactly as the client sent it.
    pub sql: &'a str,
    /// The values bound to it; only those that name something are looked at, and the names of the others.
    pub bound: &'a BoundValues,
    /// What earlier statements of the session left: results and temporary relations.
    pub earlier: &'a Earlier,
    /// What unqualified names mean.
    pub session: &'a SessionContext,
    /// Statements the request announces; 0 = any number.
    pub statement_count: u32,
    /// Groups that have approved this very request.
    pub approvals: &'a BTreeSet<String>,
}

/// Decides one request: all its statements must pass.
pub fn decide(question: &Question<'_>, bundle: &Bundle) -> Decision {
    let settings = bundle.settings();
    let limits = Limits {
        bytes_max: settings.sql_bytes_max,
        statements_max: settings.statements_max,
        depth_max: settings.depth_max,
    };
    let written = Written::of(question.sql, question.bound);
    let names = question.bound.names();
    let beside = Beside { earlier: question.earlier, bound: &names };
    let analyzed = match analyze_with(beside, &written.sql, question.session, bundle.catalog(), &limits) {
        Ok(analyzed) => analyzed,
        Err(error) => return Decision::deny(Reason::new(Code::SqlLimit, sentence(&error.to_string()))),
    };
    if let Some(reason) = wrong_count(question.statement_count, analyzed.statements.len()) {
        return Decision { statements: analyzed.statements, ..Decision::deny(reason) };
    }
    let verdict = bundle.evaluate(&Asked {
        principal: question.principal,
        session: question.session,
        statements: &analyzed.statements,
        approvals: question.approvals,
    });
    oblige(question.sql, &written, analyzed, verdict, settings)
}

/// Turns the verdict into what the PEP must do: for an allow, the text to send.
fn oblige(
    asked: &str,
    written: &Written<'_>,
    analyzed: Analyzed<'_>,
    verdict: Verdict,
    settings: &Settings,
) -> Decision {
    let reads_again = analyzed.reads_again();
    let Verdict { mut outcome, mut reasons, masks, row_filters, approval_groups, mut policies } = verdict;
    // A request that could not run once approved is refused now, not after somebody has been asked to approve it.
    let sql = match outcome {
        Outcome::Deny => None,
        Outcome::NeedsApproval | Outcome::Mask | Outcome::Allow => {
            let by_column: BTreeMap<ColumnName, Mask> =
                masks.iter().map(|masked| (masked.column.clone(), masked.mask.clone())).collect();
            let names = written.places();
            let rewriting = Rewriting {
                masks: &by_column,
                row_filters: &row_filters,
                names: &names,
                hash_salt: settings.hash_salt.as_deref().unwrap_or_default(),
                expressions: &settings.masks,
            };
            match analyzed.rewrite_by(&rewriting) {
                Ok(rewritten) => {
                    let Some(sql) = written.sent(&rewritten.sql, &rewritten.names) else {
                        let reason = Reason::new(Code::MaskImpossible, BOUND_NAME_GONE);
                        return Decision { statements: analyzed.statements, policies, ..Decision::deny(reason) };
                    };
                    Some(Rewritten { sql, ..rewritten })
                }
                Err(unmaskable) => {
                    let code = match unmaskable {
                        Unmaskable::Rows { .. } => Code::RowsImpossible,
                        _ => Code::MaskImpossible,
                    };
                    let reason = Reason::new(code, sentence(&unmaskable.to_string()));
                    return Decision { statements: analyzed.statements, policies, ..Decision::deny(reason) };
                }
            }
        }
    };
    let (sql, row_filters, rows_shown, result_masks) =
        sql.map_or_else(Default::default, |it| (Some(it.sql), it.row_filters, it.rows_shown, it.result_masks));
    // What an earlier statement left masked needs no mask any more.
    if outcome == Outcome::Mask && reads_again && result_masks.is_empty() && sql.as_deref() == Some(asked) {
        outcome = Outcome::Allow;
    }
    if !row_filters.is_empty() && matches!(outcome, Outcome::Allow | Outcome::Mask) {
        outcome = Outcome::Mask;
        for filter in &row_filters {
            policies.extend(filter.policies.iter().cloned());
            reasons.push(Reason {
                code: Code::PolicyRows,
                policy: filter.policies.first().cloned(),
                message: format!(
                    "Only some rows of `{}` are for you; ask the owners of the policies if you need the others.",
                    filter.relation
                ),
            });
        }
    }
    let sql = sql.filter(|_| outcome != Outcome::NeedsApproval);
    let columns = if sql.is_some() { explained(&analyzed.statements, &masks) } else { Vec::new() };
    let result_masks = if sql.is_some() { result_masks } else { Vec::new() };
    Decision {
        outcome,
        sql,
        reasons,
        masks,
        result_masks,
        row_filters,
        rows_shown,
        columns,
        approval_groups,
        policies,
        statements: analyzed.statements,
        names_bound: written.positions(),
    }
}

/// The values after it would be bound to something else.
const BOUND_NAME_GONE: &str = "A masked or filtered relation is named by a bound value where that value cannot stay; write its name into the statement.";

/// What became of each output column.
fn explained(statements: &[StatementAnalysis], masks: &[MaskedColumn]) -> Vec<ExplainedColumn> {
    let masked = |column: &ColumnName| masks.iter().find(|masked| masked.column == *column);
    let mut columns = Vec::new();
    for (statement, number) in statements.iter().zip(1..) {
        columns.extend(statement.projection.iter().map(|output| ExplainedColumn {
            statement: number,
            ordinal: output.ordinal,
            name: output.name.clone(),
            sources: output.sources.clone(),
            masks: output.sources.iter().filter_map(masked).cloned().collect(),
            decided_by_masked: output.control.iter().filter(|column| masked(column).is_some()).cloned().collect(),
            opaque: output.opaque,
        }));
    }
    columns
}

fn wrong_count(announced: u32, found: usize) -> Option<Reason> {
    let announced_any = announced == 0;
    if found == 0 {
        return Some(Reason::new(Code::SqlUnknown, "The text holds no statement; send one."));
    }
    if announced_any || usize::try_from(announced).is_ok_and(|announced| announced == found) {
        return None;
    }
    Some(Reason::new(
        Code::SqlStatementCount,
        format!(
            "The text holds {found} statements and the request announces {announced}; send one statement at a time or \
             set MULTI_STATEMENT_COUNT to {found} for this request."
        ),
    ))
}

/// An error's text as the sentence a person reads.
fn sentence(text: &str) -> String {
    let mut chars = text.chars();
    let head: String = chars.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{head}{}{end}", chars.as_str())
}
