//! Row filters: which of them a place in the text needs, and how a changed relation wears them.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use icegate_pdp_model::{
    ColumnName, EarlierRows, Effect, FilteredRelation, ObjectName, RowFilter, StatementAnalysis, Transformation,
};

use super::{SPLICE_DEPTH, Unmaskable, numbered, refusal::Blame, rows, splice::Splice, under};
use crate::{
    analyze::Plan,
    reader::{Known, Role, Site},
    statement::{
        Unrewritable,
        changes::{Change, Condition, read_back},
    },
};

/// A filter where a relation is named: its own, or that of the relation whose rows, one by one, a view shows.
#[derive(Debug)]
pub(super) struct Filter<'f> {
    of: &'f RowFilter,
    /// What a view calls the columns the filter looks at, by their names in the filtered relation.
    called: Option<BTreeMap<String, String>>,
}

impl Filter<'_> {
    /// As it is shown to people and kept in records.
    pub(super) fn told(&self) -> FilteredRelation {
        FilteredRelation {
            relation: self.of.relation.clone(),
            condition: rows::condition(self.of),
            policies: self.of.policies.clone(),
        }
    }

    /// The columns of the relation named that it looks at.
    fn columns(&self) -> BTreeSet<&str> {
        let columns = self.of.columns();
        match &self.called {
            None => columns,
            Some(called) => columns.into_iter().filter_map(|column| called.get(column).map(String::as_str)).collect(),
        }
    }

    /// Every column that is read besides with it.
    pub(super) fn gained(&self, plan: &Plan<'_>, known: &Known<'_>) -> BTreeSet<ColumnName> {
        let columns = self.columns();
        let numbers = (0..).zip(&known.entry.columns).filter(|(_, column)| columns.contains(column.name.as_str()));
        numbers.flat_map(|(number, _)| under(plan, known, number)).collect()
    }
}

/// The condition that all of them make where the relation is called `of`.
pub(super) fn condition(filters: &[Filter<'_>], of: &str) -> Option<String> {
    let one = |filter: &Filter<'_>| {
        let called = |column: &str| filter.called.as_ref().and_then(|called| called.get(column)).cloned();
        rows::condition_of(filter.of, of, &|column| called(column).unwrap_or_else(|| column.to_owned()))
    };
    match filters {
        [] => None,
        [only] => Some(one(only)),
        several => Some(several.iter().map(|filter| format!("({})", one(filter))).collect::<Vec<_>>().join(" AND ")),
    }
}

/// The filters of the rows a site reads or changes, where they can stand.
pub(super) fn at<'f>(
    plan: &Plan<'_>,
    known: &Known<'_>,
    site: &Site,
    filters: &'f [RowFilter],
) -> Result<Vec<Filter<'f>>, Unmaskable> {
    // Rows that are only added are not read.
    if site.role == Role::Target && site.change.is_none() {
        return Ok(Vec::new());
    }
    let mut needed = Vec::new();
    for of in filters {
        if of.relation == *known.name {
            needed.push(Filter { of, called: None });
        } else if known.beneath.contains(&of.relation) {
            let called = through(plan, known, of).map_err(|why| {
                Blame::rows(&of.relation, format!("view `{}` {why}, or read the table itself", known.name))
            })?;
            needed.push(Filter { of, called: Some(called) });
        }
    }
    Ok(needed)
}

/// What a view calls the columns a filter of a relation beneath looks at.
fn through(plan: &Plan<'_>, known: &Known<'_>, filter: &RowFilter) -> Result<BTreeMap<String, String>, String> {
    let mixes = || "mixes them with others; ask for one that selects from that table alone, row by row".to_owned();
    let view = known.view.as_ref().ok_or_else(mixes)?;
    let base = view.row_of.as_ref().ok_or_else(mixes)?;
    let base = plan.known.iter().find(|other| *other.name == *base).ok_or_else(mixes)?;
    let below: BTreeMap<String, String> = if *base.name == filter.relation {
        filter.columns().into_iter().map(|column| (column.to_owned(), column.to_owned())).collect()
    } else {
        through(plan, base, filter)?
    };
    let mut called = BTreeMap::new();
    for (column, there) in below {
        let whole_column = |output: &&(usize, &crate::reader::OutputColumn)| {
            let (_, output) = output;
            let sources: BTreeSet<ColumnName> =
                output.lineage.sources.iter().filter_map(|id| numbered(plan, id)).collect();
            let whole = (0..)
                .zip(&base.entry.columns)
                .find(|(_, column)| column.name == there)
                .map(|(number, _)| under(plan, base, number));
            output.lineage.transformation == Transformation::Identity
                && !output.lineage.opaque
                && whole == Some(sources)
        };
        let columns: Vec<_> = view.columns.iter().enumerate().collect();
        let found = columns.iter().find(whole_column).and_then(|(at, _)| known.entry.columns.get(*at));
        let missing = || {
            format!("lacks the column `{column}` of it, which the policy looks at; ask for one that has it as it is")
        };
        called.insert(column.clone(), found.ok_or_else(missing)?.name.clone());
    }
    Ok(called)
}

/// Puts the condition of filters in front of the one that chooses the rows to change; gives how it must read back.
pub(super) fn guard(
    plan: &Plan<'_>,
    filters: &[Filter<'_>],
    change: &Change,
    blame: &Blame,
    splices: &mut Vec<Splice>,
) -> Result<String, Unmaskable> {
    let Change { called, twin, condition: place, adds, unsure, first: _ } = change;
    if plan.unmaskable.is_some() {
        return Err(blame.body());
    }
    if *unsure {
        return Err(blame.unsure());
    }
    if *twin {
        return Err(blame.same_name(called.clone()));
    }
    if *adds {
        return Err(blame.adds());
    }
    let changed = || blame.changed();
    let shown = condition(filters, called).ok_or_else(changed)?;
    match place.as_ref().ok_or_else(changed)? {
        &Condition::None(end) => splices.push(Splice::new(end..end, format!(" WHERE ({shown})"))),
        Condition::At(Range { start, end }) => {
            splices.push(Splice::new(*start..*start, format!(" ({shown}) AND (")));
            splices.push(Splice::new(*end..*end, ")".to_owned()));
        }
    }
    read_back(&shown, SPLICE_DEPTH).ok_or_else(changed)
}

/// The net under the rest: every filtered relation the statement reads was met at a place that was handled.
pub(super) fn covered(plan: &Plan<'_>, statement: &StatementAnalysis, filters: &[RowFilter]) -> Result<(), Unmaskable> {
    for filter in filters {
        let numbers = (0..).zip(&plan.known).filter(|(_, known)| *known.name == filter.relation);
        let Some((number, _)) = numbers.into_iter().next() else { continue };
        let own = ObjectName::from(&filter.relation);
        let named = statement.objects.iter().any(|object| object.name == own && object.effect == Effect::Read);
        // What a view is made of is refused at the view; what was stored earlier in the request was filtered there.
        let mut direct = plan.columns_read.iter().filter(|&id| !plan.through_made.contains(id));
        let of_it = |id| plan.numbered.place(id).is_some_and(|(relation, _)| relation == number);
        let in_view = plan.known.iter().any(|known| known.beneath.contains(&filter.relation));
        let read = named || !in_view && direct.any(of_it);
        let reads = |site: &Site| site.known == number && matches!(site.role, Role::Source | Role::Unload);
        let changed = |site: &Site| site.known == number && site.role == Role::Target;
        let condition = rows::condition(filter);
        let again: Vec<_> = plan.read_again.iter().filter(|rows| rows.reads(&filter.relation)).collect();
        let otherwise = |rows: &&Arc<EarlierRows>| rows.row_filters.get(&filter.relation) != Some(&condition);
        if again.iter().any(otherwise) {
            return Err(Blame::Rows(filter.relation.clone()).again());
        }
        // Whatever reads it besides has a place of its own, or is no query and was refused.
        if !again.is_empty() {
            continue;
        }
        if read && !plan.sites.iter().any(reads) && !plan.sites.iter().any(changed) {
            let blame = Blame::Rows(filter.relation.clone());
            return Err(match plan.unmaskable {
                Some(Unrewritable::Copy) => blame.copy(),
                Some(Unrewritable::View) => blame.view(),
                Some(Unrewritable::Body) => blame.body(),
                None => blame.form(),
            });
        }
    }
    Ok(())
}
