//! What a person reads of a decision: the outcome and why, the places it is about, and what would be sent.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use icegate_pdp_model::{ColumnName, Decision, MaskedColumn, Outcome, Reason, StatementAnalysis};
use icegate_pdp_sql::{Located, locate};

use crate::{
    inspect::text::remarks,
    show,
    underline::{Look, Remark, Shown, Tone, listed, words},
};

/// Everything about one decision, to be printed.
pub(crate) fn text(sql: &str, decision: &Decision, look: Look) -> String {
    let (tone, said) = match decision.outcome {
        Outcome::Allow => (Tone::Good, "it would run as it is"),
        Outcome::Mask if decision.result_masks.is_empty() => (Tone::Warning, "it would run with masks at their source"),
        Outcome::Mask => (Tone::Warning, "it would run with masks, some of them in its result"),
        Outcome::NeedsApproval => (Tone::Warning, "it would wait for a person"),
        Outcome::Deny => (Tone::Error, "nothing would run"),
    };
    let mut text = format!("{}: {said}\n", look.toned(decision.outcome.as_str(), tone));
    text.push_str(&look.entry("approval", listed(decision.approval_groups.iter().map(|group| format!("of {group}")))));
    text.push_str(&look.entry("policies", listed(decision.policies.iter().cloned())));
    text.push_str(&reasons(&decision.reasons, look));
    if !decision.masks.is_empty() {
        text.push('\n');
        let rows = decision
            .masks
            .iter()
            .map(|masked| vec![masked.column.to_string(), masked.mask.to_string(), masked.policy.clone()]);
        text.push_str(&look.table(&["masked column", "mask", "policy"], rows));
    }
    if !decision.result_masks.is_empty() {
        text.push('\n');
        let rows = decision.result_masks.iter().map(|worn| {
            vec![format!("{}.{}", worn.statement, worn.ordinal), worn.column.to_string(), worn.mask.to_string()]
        });
        text.push_str(&look.table(&["in the result", "column", "mask"], rows));
    }
    text.push('\n');
    let shown = Shown::of(sql);
    let located = locate(sql, &decision.statements);
    for remark in about(decision, &located) {
        text.push_str(&shown.remark(look, &remark));
    }
    if let Some(sent) = &decision.sql {
        let same = if sent == sql { ", as it came" } else { "" };
        text.extend([&look.bold("sent to Snowflake"), same, ":\n"]);
        text.push_str(&show::visible_lines(sent));
    }
    text.truncate(text.trim_end().len());
    text.push('\n');
    text
}

/// Each reason as a paragraph behind its code; what several policies say alike is said once.
fn reasons(reasons: &[Reason], look: Look) -> String {
    let mut said: Vec<(&Reason, Vec<&str>)> = Vec::new();
    for reason in reasons {
        match said.iter_mut().find(|(known, _)| (known.code, &known.message) == (reason.code, &reason.message)) {
            Some((_, policies)) => policies.extend(reason.policy.as_deref()),
            None => said.push((reason, reason.policy.as_deref().into_iter().collect())),
        }
    }
    let mut text = String::new();
    for (at, (reason, policies)) in said.into_iter().enumerate() {
        let source = if policies.is_empty() {
            format!("[{}]", reason.code)
        } else {
            format!("[{}: {}]", reason.code, policies.join(", "))
        };
        let sentence = words(&reason.message).chain(words(&source));
        text.push_str(&look.entry(if at == 0 { "because" } else { "" }, sentence));
    }
    text
}

/// What there is to say about places: the masked columns together, else what a refusal speaks of.
fn about(decision: &Decision, located: &[Located]) -> Vec<Remark> {
    let mut found = Vec::new();
    if !decision.masks.is_empty() {
        let marks = masked_places(&decision.masks, located);
        let columns = show::count(decision.masks.len(), "column");
        let are = if decision.masks.len() == 1 { "is" } else { "are" };
        found.push(Remark { tone: Tone::Warning, title: format!("{columns} {are} read masked"), marks, help: None });
    }
    for (statement, located) in decision.statements.iter().zip(located) {
        if matches!(decision.outcome, Outcome::Deny) {
            found.extend(remarks(statement, located));
        }
        if matches!(decision.outcome, Outcome::Deny | Outcome::NeedsApproval) {
            found.extend(named(&decision.reasons, statement, located, decision.outcome));
        }
    }
    found
}

/// The places of masked columns, several at one place in one label.
fn masked_places(masked: &[MaskedColumn], located: &[Located]) -> Vec<(Range<usize>, String)> {
    let mut marks: BTreeMap<(usize, usize), Vec<&MaskedColumn>> = BTreeMap::new();
    for masked in masked {
        let places = located.iter().filter_map(|located| located.columns.get(&masked.column)).flatten();
        for place in places {
            let labels = marks.entry((place.start, place.end)).or_default();
            labels.push(masked);
        }
    }
    // Of many columns at one place, as of a `*`, the table tells the masks.
    let label = |masked: Vec<&MaskedColumn>| {
        let columns: BTreeSet<&str> = masked.iter().map(|masked| &*masked.column.column).collect();
        let kinds: BTreeSet<String> = masked.iter().map(|masked| masked.mask.to_string()).collect();
        match kinds.first().filter(|_| kinds.len() == 1) {
            Some(kind) => format!("`{kind}`"),
            None => columns.into_iter().collect::<Vec<_>>().join(", "),
        }
    };
    marks.into_iter().map(|((start, end), masked)| (start..end, label(masked))).collect()
}

/// The objects and columns that a reason names, where the statement names them.
fn named(reasons: &[Reason], statement: &StatementAnalysis, located: &Located, outcome: Outcome) -> Vec<Remark> {
    let tone = if matches!(outcome, Outcome::Deny) { Tone::Error } else { Tone::Warning };
    let objects = statement.objects.iter().zip(&located.objects).map(|(object, at)| (object.name.to_string(), at));
    let columns = located.columns.iter().map(|(column, at): (&ColumnName, _)| (column.to_string(), at));
    let mut marks: BTreeMap<(usize, usize), Vec<String>> = BTreeMap::new();
    for (name, places) in objects.chain(columns) {
        let quoted = format!("`{name}`");
        let codes =
            reasons.iter().filter(|reason| reason.message.contains(&quoted)).map(|reason| match &reason.policy {
                Some(policy) => policy.clone(),
                None => reason.code.to_string(),
            });
        for code in codes {
            for place in places {
                let labels = marks.entry((place.start, place.end)).or_default();
                if !labels.contains(&code) {
                    labels.push(code.clone());
                }
            }
        }
    }
    if marks.is_empty() {
        return Vec::new();
    }
    let title = match outcome {
        Outcome::Deny => "this is refused",
        Outcome::NeedsApproval | Outcome::Mask | Outcome::Allow => "this needs an approval",
    };
    let marks = marks.into_iter().map(|((start, end), labels)| (start..end, labels.join(", "))).collect();
    vec![Remark { tone, title: title.into(), marks, help: None }]
}
