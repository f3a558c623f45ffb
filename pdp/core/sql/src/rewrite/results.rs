//! Masks that the PEP applies to a result: which output columns wear them, and which statements may run at all.
//!
//! The database works on the values as they are stored. So a column with such a mask may only pass: from where it is stored
//! to an output column that is it alone, and nothing may depend on it on the way. Anything else (a condition, a join, an
//! order, a computation, a copy) would show through rows, counts, errors or another column what the mask hides; and a
//! column that mixes it with a value of the caller's own would give tokens of guessed values. What is read and then dropped,
//! as by `SELECT id FROM (SELECT * FROM t)`, is read as NULL.

use std::collections::{BTreeMap, BTreeSet};

use icegate_pdp_model::{
    ColumnName, Kind, Level, Mask, MaskSite, MaskedOutput, OutputColumn, StatementAnalysis, Transformation, Verb,
};

use super::{Unmaskable, numbered};
use crate::{
    analyze::{Analyzed, Plan},
    reader::Known,
};

/// What a statement does with a column whose mask is applied to results.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResultPlace {
    /// It is no plain query.
    Statement,
    /// An output column is computed from it, or holds other values besides.
    Computed,
    /// It decides something.
    Decides,
    /// The result's columns are not known for certain.
    Unsure,
}

impl ResultPlace {
    /// What is wrong there and what would work, as the middle of a sentence.
    pub(super) fn said(self) -> &'static str {
        match self {
            Self::Statement => {
                "this statement is not a plain query, so its values would be stored, sent or explained unmasked; read the column in a SELECT, or leave it out"
            }
            Self::Computed => {
                "a result column is computed from it or mixes it with other values; select the column as it is, or leave it out"
            }
            Self::Decides => {
                "it decides here which rows there are, in which order or how they are joined or grouped; select the column without a condition, join, GROUP BY, ORDER BY, DISTINCT or window on it, or leave it out"
            }
            Self::Unsure => {
                "the columns of the result are not known for certain; name each column in the SELECT instead of `*`"
            }
        }
    }
}

/// Where the masks are worn.
#[derive(Debug, Default)]
pub(super) struct Placed {
    /// The output columns.
    pub(super) outputs: Vec<MaskedOutput>,
    /// Of each statement, the columns it reads and drops. Empty without such masks.
    pub(super) dropped: Vec<BTreeSet<ColumnName>>,
}

/// The output columns that wear the masks.
pub(super) fn placed(analyzed: &Analyzed<'_>, masks: &BTreeMap<ColumnName, Mask>) -> Result<Placed, Unmaskable> {
    let masks: BTreeMap<&ColumnName, &Mask> =
        masks.iter().filter(|(_, mask)| mask.site() == MaskSite::Result).collect();
    let mut placed = Placed::default();
    if masks.is_empty() {
        return Ok(placed);
    }
    for ((plan, statement), number) in analyzed.plans.iter().zip(&analyzed.statements).zip(1..) {
        let mut dropped = BTreeSet::new();
        for column in statement.columns_read.iter().filter(|column| masks.contains_key(column)) {
            let refuse = |place| Unmaskable::Result { column: column.clone(), mask: named(&masks, column), place };
            let shown = shown(plan, statement, column).map_err(refuse)?;
            if shown.is_empty() {
                dropped.insert(column.clone());
            }
            for output in shown {
                // Through a view both columns may be masked: the stricter mask is worn.
                let worn = output.sources.iter().filter_map(|source| masks.get_key_value(source));
                let worn = worn.map(|(column, mask)| ((*column).clone(), (*mask).clone())).reduce(stricter);
                let Some((column, mask)) = worn else { continue };
                placed.outputs.push(MaskedOutput { statement: number, ordinal: output.ordinal, column, mask });
            }
        }
        fitting(plan, statement, &masks)?;
        placed.dropped.push(dropped);
    }
    placed.outputs.sort_by_key(|output| (output.statement, output.ordinal));
    placed.outputs.dedup();
    Ok(placed)
}

fn named(masks: &BTreeMap<&ColumnName, &Mask>, column: &ColumnName) -> Box<str> {
    masks.get(column).map(ToString::to_string).unwrap_or_default().into()
}

/// The stricter mask of two, and whose it is. Of two scans that is one that looks for what either looks for.
fn stricter((one, own): (ColumnName, Mask), (two, other): (ColumnName, Mask)) -> (ColumnName, Mask) {
    let strictest = own.clone().stricter(other);
    (if strictest == own { one } else { two }, strictest)
}

/// The outputs that are this column, when nothing else is made of it. None: what is read is dropped.
fn shown<'s>(
    plan: &Plan<'_>,
    statement: &'s StatementAnalysis,
    column: &ColumnName,
) -> Result<Vec<&'s OutputColumn>, ResultPlace> {
    if statement.level != Level::Understood || statement.kind != Kind::of(Verb::Select) {
        return Err(ResultPlace::Statement);
    }
    if !statement.exports.is_empty() || statement.projection.iter().any(|output| output.target.is_some()) {
        return Err(ResultPlace::Statement);
    }
    if statement.projection.iter().any(|output| output.control.contains(column)) {
        return Err(ResultPlace::Decides);
    }
    let shown: Vec<&OutputColumn> =
        statement.projection.iter().filter(|output| output.sources.contains(column)).collect();
    let bare = |output: &&OutputColumn| {
        output.transformation == Transformation::Identity && !output.opaque && is_one(plan, output)
    };
    if !shown.iter().all(bare) {
        return Err(ResultPlace::Computed);
    }
    if !shown.is_empty() && statement.promised_columns().is_none() {
        return Err(ResultPlace::Unsure);
    }
    Ok(shown)
}

/// Whether all its sources are one column: itself, or a column of a view and what that is, column for column, made of.
fn is_one(plan: &Plan<'_>, output: &OutputColumn) -> bool {
    if output.sources.len() == 1 {
        return true;
    }
    let is_all = |known: &Known<'_>| {
        let columns = known.view.iter().flat_map(|view| view.columns.iter().zip(&known.entry.columns));
        columns.into_iter().any(|(made, column)| {
            let own = ColumnName::new(std::sync::Arc::clone(&known.name), column.name.as_str());
            let beneath = made.lineage.sources.iter().filter_map(|id| numbered(plan, id));
            let whole = beneath.chain([own]).collect();
            made.lineage.transformation == Transformation::Identity && output.sources == whole
        })
    };
    plan.known.iter().any(is_all)
}

/// A mask that cannot keep its column's type is refused before anything is sent.
fn fitting(
    plan: &Plan<'_>,
    statement: &StatementAnalysis,
    masks: &BTreeMap<&ColumnName, &Mask>,
) -> Result<(), Unmaskable> {
    for known in &plan.known {
        for column in &known.entry.columns {
            let name = ColumnName::new(std::sync::Arc::clone(&known.name), column.name.as_str());
            let Some((_, Mask::Result(mask))) = masks.get_key_value(&name) else { continue };
            if statement.columns_read.contains(&name) && !mask.fits(&column.data_type) {
                return Err(Unmaskable::Type {
                    column: name,
                    mask: Box::new(Mask::Result(mask.clone())),
                    data_type: column.data_type.as_str().into(),
                });
            }
        }
    }
    Ok(())
}
