//! Masks at the source: each read of a masked column becomes a read of a derived table, spliced into the text. A column that
//! is masked in the result is only listed there by its name.

mod filters;
mod labels;
mod masks;
mod paths;
mod refusal;
mod results;
mod rows;
mod splice;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::Arc,
};

use icegate_pdp_model::{
    CatalogColumn, ColumnName, Effect, FilteredRelation, Mask, MaskExpression, MaskSite, MaskedOutput, ObjectName,
    RelationName, RowFilter, StatementAnalysis, Transformation, Verb,
};

pub(crate) use self::splice::{plain_or_quoted, quoted};
pub use self::{refusal::Unmaskable, results::ResultPlace};
use crate::{
    analyze::{Analyzed, Limits, Plan, Purpose, analyze_for},
    gate,
    reader::{ColumnId, Known, Output, Role, Site},
    rewrite::{filters::Filter, paths::Worn, refusal::Blame, splice::Splice},
    statement::Unrewritable,
};

/// What the reads of a text are rewritten by.
#[derive(Debug, Clone, Copy)]
pub struct Rewriting<'a> {
    /// Masked columns.
    pub masks: &'a BTreeMap<ColumnName, Mask>,
    /// Relations of which only some rows may be read: one list per statement.
    pub row_filters: &'a [Vec<RowFilter>],
    /// Places of names in the text that must stand in the new one, too: each once and in their order.
    pub names: &'a [Range<usize>],
    /// What the `hash` mask is salted with.
    pub hash_salt: &'a str,
    /// What masks of one's own are, by their names.
    pub expressions: &'a BTreeMap<String, MaskExpression>,
}

/// A text whose reads are rewritten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewritten {
    /// The text to send.
    pub sql: String,
    /// The row filters that stand in it, each once.
    pub row_filters: Vec<FilteredRelation>,
    /// By statement, the conditions of all rows that it reads of filtered relations, anew or as an earlier one stored them.
    pub rows_shown: Vec<BTreeMap<RelationName, String>>,
    /// Where the names stand that had to stay.
    pub names: Vec<Range<usize>>,
    /// Columns of its results that are still to be masked, by statement and ordinal.
    pub result_masks: Vec<MaskedOutput>,
}

/// Masks and filters each read, then proves that the new text does what the old one did.
pub(crate) fn rewrite(analyzed: &Analyzed<'_>, rewriting: &Rewriting<'_>) -> Result<Rewritten, Unmaskable> {
    let placed = results::placed(analyzed, rewriting.masks)?;
    let result_masks = placed.outputs;
    let mut splices = Vec::new();
    let mut first = None;
    let (mut replaced, mut gained) = (BTreeSet::new(), BTreeSet::new());
    let (mut filtered, mut guards, mut rows_shown) = (BTreeSet::new(), Vec::new(), Vec::new());
    for (at, (plan, statement)) in analyzed.plans.iter().zip(&analyzed.statements).enumerate() {
        let filters = rewriting.row_filters.get(at).map_or(&[][..], Vec::as_slice);
        let masks = &without(rewriting.masks, placed.dropped.get(at));
        for site in &plan.sites {
            let Some(known) = plan.known.get(site.known) else { continue };
            let masked = masked_at(plan, known, site, masks)?;
            let filters = filters::at(plan, known, site, filters)?;
            let first_masked = masked.first_key_value().and_then(|(&column, worn)| match worn {
                Worn::Whole(_) => column_at(known, column),
                Worn::Inside(inside) => inside.values().next().map(|leaf| leaf.name.clone()),
            });
            // Were the catalog's order not the table's, a place would mean another column: listed by name it cannot.
            let listed = || {
                let used = |&column: &usize| under(plan, known, column).iter().any(|name| in_result(masks, name));
                if site.by_place || site.used.iter().any(used) { guarded(plan, known, masks) } else { None }
            };
            let column = first_masked.or_else(listed).map(Blame::Column);
            let Some(blame) = column.or_else(|| (!filters.is_empty()).then(|| Blame::Rows((*known.name).clone())))
            else {
                continue;
            };
            if let (Blame::Rows(_), Some(change)) = (&blame, &site.change) {
                guards.push((at, filters::guard(plan, &filters, change, &blame, &mut splices)?));
            } else {
                refuse(plan, known, site, &blame)?;
                refuse_kind(plan, statement, known, &masked, &blame)?;
                let shown = filters::condition(&filters, &plain_or_quoted(&known.name.name));
                splice_site(analyzed.sql, known, site, &masked, shown, rewriting, &blame, &mut splices)?;
            }
            replaced.extend(masked.keys().flat_map(|&column| under(plan, known, column)));
            replaced.extend(masked.keys().flat_map(|&column| paths::under(plan, known, column)));
            filtered.extend(filters.iter().map(Filter::told));
            gained.extend(filters.iter().flat_map(|filter| filter.gained(plan, known)));
            first.get_or_insert(blame);
        }
        masked_earlier(plan, rewriting)?;
        covered(plan, masks)?;
        filters::covered(plan, statement, filters)?;
        rows_shown.push(filters.iter().map(|of| (of.relation.clone(), rows::condition(of))).collect());
    }
    let row_filters = filtered.into_iter().collect();
    let Some(first) = first else {
        let names = rewriting.names.to_vec();
        return Ok(Rewritten { sql: analyzed.sql.to_owned(), row_filters, rows_shown, names, result_masks });
    };
    let mut sql = splice::apply(analyzed.sql, &mut splices).ok_or_else(|| first.form())?;
    let mut proof = prove(analyzed, &splices, &replaced, &gained, &guards, &sql);
    if let Err(Unproven::Names(changed)) = &proof
        && let Some(aliases) = labels::aliases(analyzed, changed)
    {
        splices.extend(aliases);
        sql = splice::apply(analyzed.sql, &mut splices).ok_or_else(|| first.form())?;
        // What an alias did not mend is still a matter of the name that is missing.
        proof = prove(analyzed, &splices, &replaced, &gained, &guards, &sql).map_err(|_| Unproven::Names(Vec::new()));
    }
    let names = splice::moved(&splices, rewriting.names).ok_or_else(|| first.form())?;
    match proof {
        Ok(()) => Ok(Rewritten { sql, row_filters, rows_shown, names, result_masks }),
        Err(Unproven::Names(_)) => Err(first.unnamed()),
        Err(Unproven::Form) => Err(first.form()),
    }
}

/// What earlier statements left is masked as it was then: no mask can stand at their reads.
fn masked_earlier(plan: &Plan<'_>, rewriting: &Rewriting<'_>) -> Result<(), Unmaskable> {
    for earlier in &plan.read_again {
        let kept = plan.unmaskable == Some(Unrewritable::View) && plan.temporary;
        if plan.unmaskable.is_some() && !kept && !earlier.columns_read.is_empty() {
            return Err(Unmaskable::EarlierStored);
        }
        // A path may be protected since: what was read then is the column it is in.
        let inside = |column: &ColumnName| {
            let known = plan.known.iter().find(|known| *known.name == *column.relation)?;
            let (base, _) = known.entry.path(&column.column)?;
            Some(ColumnName::new(Arc::clone(&known.name), base.name.as_str()))
        };
        let read = |column: &ColumnName| {
            earlier.columns_read.contains(column)
                || inside(column).is_some_and(|base| earlier.columns_read.contains(&base))
        };
        let otherwise =
            |(column, mask): &(&ColumnName, &Mask)| read(column) && !earlier.wears(column, mask, rewriting.expressions);
        if let Some((column, _)) = rewriting.masks.iter().find(otherwise) {
            return Err(Unmaskable::Earlier { column: column.clone() });
        }
    }
    Ok(())
}

/// The masks, with none of the columns' values read that the statement drops.
fn without<'m>(
    masks: &'m BTreeMap<ColumnName, Mask>,
    dropped: Option<&BTreeSet<ColumnName>>,
) -> Cow<'m, BTreeMap<ColumnName, Mask>> {
    match dropped.filter(|dropped| !dropped.is_empty()) {
        None => Cow::Borrowed(masks),
        Some(dropped) => {
            let mut masks = masks.clone();
            masks.extend(dropped.iter().map(|column| (column.clone(), Mask::Null)));
            Cow::Owned(masks)
        }
    }
}

/// Whether the column is masked by the PEP.
fn in_result(masks: &BTreeMap<ColumnName, Mask>, column: &ColumnName) -> bool {
    masks.get(column).is_some_and(|mask| mask.site() == MaskSite::Result)
}

/// A column by its number.
fn numbered(plan: &Plan<'_>, id: ColumnId) -> Option<ColumnName> {
    plan.numbered.name(id).cloned()
}

fn column_at(known: &Known<'_>, column: usize) -> Option<ColumnName> {
    Some(ColumnName::new(Arc::clone(&known.name), known.entry.columns.get(column)?.name.as_str()))
}

/// A masked column of a relation or, for a view, one it comes from.
fn guarded(plan: &Plan<'_>, known: &Known<'_>, masks: &BTreeMap<ColumnName, Mask>) -> Option<ColumnName> {
    (0..known.entry.columns.len())
        .flat_map(|column| under(plan, known, column))
        .find(|column| masks.contains_key(column))
        .or_else(|| {
            let inside = (0..known.entry.columns.len()).flat_map(|column| insides(plan, known, column, masks));
            inside.map(|leaf| leaf.name).next()
        })
}

/// The masks inside a column and, for a view, inside what it comes from.
fn insides(
    plan: &Plan<'_>,
    known: &Known<'_>,
    column: usize,
    masks: &BTreeMap<ColumnName, Mask>,
) -> impl Iterator<Item = paths::Leaf> {
    let lineage = known.view.as_ref().and_then(|view| view.columns.get(column)).map(|column| &column.lineage);
    let ids = lineage.into_iter().flat_map(|lineage| lineage.sources.iter().chain(lineage.control.iter()));
    let beneath: Vec<_> = ids.map(|id| paths::inside_of(plan, id, masks)).collect();
    beneath.into_iter().chain([paths::inside(known, column, masks)]).flat_map(BTreeMap::into_values)
}

/// A column and, for a view, what it comes from: a mask may read none of it any more.
fn under(plan: &Plan<'_>, known: &Known<'_>, column: usize) -> BTreeSet<ColumnName> {
    let lineage = known.view.as_ref().and_then(|view| view.columns.get(column)).map(|column| &column.lineage);
    let ids = lineage.iter().flat_map(|lineage| lineage.sources.iter().chain(lineage.control.iter()));
    let names = ids.filter_map(|id| numbered(plan, id));
    names.chain(column_at(known, column)).collect()
}

/// The masks of the columns a site reads; for a view also the masks of what the columns come from.
fn masked_at<'m>(
    plan: &Plan<'_>,
    known: &Known<'_>,
    site: &Site,
    masks: &'m BTreeMap<ColumnName, Mask>,
) -> Result<BTreeMap<usize, Worn>, Unmaskable> {
    let mut masked: BTreeMap<usize, Mask> = BTreeMap::new();
    let mut inside: BTreeMap<usize, paths::Inside> = BTreeMap::new();
    let inside_of = |id: ColumnId| Some(paths::inside_of(plan, id, masks)).filter(|inside| !inside.is_empty());
    let first = |inside: paths::Inside| inside.into_values().map(|leaf| leaf.name).next();
    let at_source = |name: &ColumnName| masks.get(name).filter(|mask| mask.site() == MaskSite::Source);
    let mask_of = |id: ColumnId| -> Option<(ColumnName, &'m Mask)> {
        let name = numbered(plan, id)?;
        at_source(&name).map(|mask| (name, mask))
    };
    for &column in &site.used {
        if let Some(mask) = column_at(known, column).and_then(|name| at_source(&name)) {
            masked.insert(column, mask.clone());
        }
        let mut within = paths::inside(known, column, masks);
        let Some(output) = known.view.as_ref().and_then(|view| view.columns.get(column)) else {
            inside.insert(column, within);
            continue;
        };
        let through = |name| Unmaskable::ThroughView { column: name, view: Box::new((*known.name).clone()) };
        for (name, mask) in output.lineage.sources.iter().filter_map(mask_of) {
            let own = masked.get(&column).cloned();
            let bare = output.lineage.transformation == Transformation::Identity;
            let mask = match (own, bare) {
                (Some(own), true) => own.stricter(mask.clone()),
                (Some(own), false) => own,
                (None, true) => mask.clone(),
                (None, false) => return Err(through(name)),
            };
            masked.insert(column, mask);
        }
        for (name, _) in output.lineage.control.iter().filter_map(mask_of) {
            if !masked.contains_key(&column) {
                return Err(through(name));
            }
        }
        // What is masked as a whole shows nothing of what is inside.
        if masked.contains_key(&column) {
            continue;
        }
        for beneath in output.lineage.sources.iter().filter_map(inside_of) {
            if output.lineage.transformation == Transformation::Identity {
                paths::unite(&mut within, beneath);
            } else if let Some(name) = first(beneath) {
                return Err(through(name));
            }
        }
        if let Some(name) = output.lineage.control.iter().filter_map(inside_of).find_map(first) {
            return Err(through(name));
        }
        inside.insert(column, within);
    }
    if let Some(name) = known.view.as_ref().and_then(|view| view.rows.iter().filter_map(inside_of).find_map(first)) {
        return Err(Unmaskable::ThroughView { column: name, view: Box::new((*known.name).clone()) });
    }
    if let Some((name, _)) = known.view.as_ref().and_then(|view| view.rows.iter().find_map(mask_of)) {
        return Err(Unmaskable::ThroughView { column: name, view: Box::new((*known.name).clone()) });
    }
    let inside = inside.into_iter().filter(|(_, inside)| !inside.is_empty());
    let mut worn: BTreeMap<usize, Worn> = inside.map(|(column, inside)| (column, Worn::Inside(inside))).collect();
    worn.extend(masked.into_iter().map(|(column, mask)| (column, Worn::Whole(mask))));
    Ok(worn)
}

/// Reads that no derived table can stand for.
fn refuse(plan: &Plan<'_>, known: &Known<'_>, site: &Site, blame: &Blame) -> Result<(), Unmaskable> {
    match site.role {
        Role::Target => return Err(blame.target()),
        Role::Clone => return Err(blame.copy()),
        Role::Step => return Err(blame.step()),
        Role::Source | Role::Unload => {}
    }
    match plan.unmaskable {
        Some(Unrewritable::View) => return Err(blame.view()),
        Some(Unrewritable::Copy) => return Err(blame.copy()),
        Some(Unrewritable::Body) => return Err(blame.body()),
        None => {}
    }
    if let Some(what) = site.qualified {
        return Err(blame.qualified(what));
    }
    if site.contested {
        return Err(blame.same_name(known.name.name.clone()));
    }
    Ok(())
}

/// Masked reads that would harm what they are read from, or show what a mask is made of.
fn refuse_kind(
    plan: &Plan<'_>,
    statement: &StatementAnalysis,
    known: &Known<'_>,
    masked: &BTreeMap<usize, Worn>,
    blame: &Blame,
) -> Result<(), Unmaskable> {
    let own = ObjectName::from(&*known.name);
    // Where rows are changed one by one those that are hidden stay as they are, whatever is read.
    let one_by_one = matches!(blame, Blame::Rows(_)) && plan.sites.iter().any(|site| site.change.is_some());
    let changes = |effect| !one_by_one && matches!(effect, Effect::Write | Effect::Create | Effect::Drop);
    // The mask's values would take the place of the stored ones, or the rows shown that of all rows, for everybody.
    if statement.objects.iter().any(|object| object.name == own && changes(object.effect)) {
        return Err(blame.target());
    }
    // A plan shows the text that is planned, and the salt is in it.
    if statement.kind.verb == Verb::Explain && masked.values().any(Worn::salted) {
        return Err(blame.form());
    }
    Ok(())
}

#[expect(clippy::too_many_arguments, reason = "the parts of one derived table")]
fn splice_site(
    sql: &str,
    known: &Known<'_>,
    site: &Site,
    masked: &BTreeMap<usize, Worn>,
    shown: Option<String>,
    rewriting: &Rewriting<'_>,
    blame: &Blame,
    splices: &mut Vec<Splice>,
) -> Result<(), Unmaskable> {
    let form = || blame.form();
    let mut place = site.name.clone().ok_or_else(form)?;
    let wanted: BTreeSet<usize> = site.used.union(&site.kept).copied().collect();
    let mut columns = Vec::with_capacity(wanted.len());
    for at in wanted {
        let column: &CatalogColumn = known.entry.columns.get(at).ok_or_else(form)?;
        let quoted = splice::quoted(&column.name);
        let name = ColumnName::new(Arc::clone(&known.name), column.name.as_str());
        columns.push(match masked.get(&at) {
            Some(Worn::Whole(mask)) => {
                let value = masks::masked(mask, &quoted, &name, &column.data_type, rewriting)?;
                format!("{value} AS {quoted}")
            }
            Some(Worn::Inside(inside)) => {
                let value = paths::masked(inside, &quoted, &column.data_type, rewriting)?;
                format!("{value} AS {quoted}")
            }
            None if site.used.contains(&at) => quoted,
            // Only its name is needed: it stands there without its values.
            None => format!("{} AS {quoted}", masks::nothing(&name, &column.data_type)?),
        });
    }
    columns.extend(site.added.iter().map(|&added| splice::quoted(added)));
    if columns.is_empty() {
        // Its rows are counted, and nothing else.
        columns.push("1 AS \"_\"".to_owned());
    }
    // A name that has to stay is written as it was.
    let stays = rewriting.names.iter().any(|name| place.start <= name.start && name.end <= place.end);
    let from = if stays { sql.get(place.clone()).ok_or_else(form)?.to_owned() } else { splice::relation(&known.name) };
    let clause = match site.clause_end {
        None => "",
        Some(end) => sql.get(std::mem::replace(&mut place.end, end)..end).ok_or_else(form)?,
    };
    let mut head = format!("(SELECT {} FROM ", columns.join(", "));
    let tail = match shown {
        None => format!("{clause})"),
        Some(condition) => {
            let (travel, sample) = sampled(clause, blame)?;
            let rows = format!("{travel} WHERE {condition})");
            if sample.is_empty() {
                rows
            } else {
                // A sample of all rows would tell how many are hidden.
                head.insert_str(0, "(SELECT * FROM ");
                format!("{rows} {sample})")
            }
        }
    };
    // Its rows are matched in a query of its own: the parser reads no MATCH_RECOGNIZE behind a derived table.
    if let Some(end) = site.match_end {
        head.insert_str(0, &format!("(WITH {} AS ", site.last));
        splices.push(Splice::new(end..end, ")".to_owned()));
    }
    let kept = stays.then_some(head.len());
    let table = [head, from, tail].concat();
    let text = match site.match_end {
        Some(_) => format!("{table} SELECT * FROM {}", site.last),
        None if site.aliased || site.role == Role::Unload => table,
        None => format!("{table} AS {}", site.last),
    };
    splices.push(Splice { place, text, kept });
    if !site.aliased {
        for prefix in &site.prefixes {
            splices.push(Splice::new(prefix.clone().ok_or_else(form)?, String::new()));
        }
    }
    Ok(())
}

/// The words behind a name: time travel, which belongs to the table, and a sample, which can be taken of a query.
fn sampled<'c>(clause: &'c str, blame: &Blame) -> Result<(&'c str, &'c str), Unmaskable> {
    let tokens = gate::tokens(clause).map_err(|_| blame.form())?;
    let is = |text: &str, words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    // A change says what a row was before: whether that row was one of those shown is not sure.
    if tokens.first().is_some_and(|token| is(token.text, &["CHANGES"])) {
        return Err(blame.qualified("CHANGES"));
    }
    let mut depth = 0_i32;
    let start = tokens.iter().find(|token| {
        depth += i32::from(token.text == "(") - i32::from(token.text == ")");
        depth == 0 && is(token.text, &["SAMPLE", "TABLESAMPLE"])
    });
    let Some(start) = start.map(|token| token.start) else { return Ok((clause.trim_end(), "")) };
    if tokens.iter().any(|token| token.start > start && is(token.text, &["SYSTEM", "BLOCK", "SEED", "REPEATABLE"])) {
        return Err(blame.qualified("SAMPLE by block or with a seed"));
    }
    clause.split_at_checked(start).map(|(travel, sample)| (travel.trim_end(), sample)).ok_or_else(|| blame.form())
}

/// The net under the rest: every masked column the statement reads was met at a place that was handled.
fn covered(plan: &Plan<'_>, masks: &BTreeMap<ColumnName, Mask>) -> Result<(), Unmaskable> {
    for id in plan.columns_read.iter().filter(|&id| !plan.through_made.contains(id)) {
        let whole = numbered(plan, id).filter(|column| masks.contains_key(column));
        let inside = || paths::inside_of(plan, id, masks).into_values().map(|leaf| leaf.name).next();
        let Some(column) = whole.or_else(inside) else { continue };
        let Some((relation, at)) = plan.numbered.place(id) else { return Err(Unmaskable::Form { column }) };
        let met = plan.sites.iter().any(|site| {
            let of_view = |view: &Output| {
                let column = |&at: &usize| view.columns.get(at);
                let mut used = site.used.iter().filter_map(column).map(|column| &column.lineage);
                view.rows.contains(id) || used.any(|it| it.sources.contains(id) || it.control.contains(id))
            };
            site.known == relation && site.used.contains(&at)
                || plan.known.get(site.known).and_then(|known| known.view.as_deref()).is_some_and(of_view)
        });
        if !met {
            return Err(match plan.unmaskable {
                Some(Unrewritable::Copy) => Unmaskable::Copy { column },
                Some(Unrewritable::View) => Unmaskable::View { column },
                Some(Unrewritable::Body) => Unmaskable::Body { column },
                None => Unmaskable::Form { column },
            });
        }
    }
    Ok(())
}

/// Why a rewritten text is not sent.
enum Unproven {
    /// These result columns have other names, and all else is as it should be.
    Names(labels::Changed),
    /// It does not do what the old one did.
    Form,
}

/// Proves that the new text is the old one with exactly the splices, and does exactly what the old one did; only columns
/// that masks replaced may no longer be read, and only columns of row filters are read besides. Where rows are changed, the
/// condition of their filter must hold whatever else the statement says.
fn prove(
    analyzed: &Analyzed<'_>,
    splices: &[Splice],
    replaced: &BTreeSet<ColumnName>,
    gained: &BTreeSet<ColumnName>,
    guards: &[(usize, String)],
    text: &str,
) -> Result<(), Unproven> {
    let Limits { bytes_max: _, statements_max, depth_max } = analyzed.limits;
    let limits = Limits { bytes_max: text.len(), statements_max, depth_max: depth_max + SPLICE_DEPTH };
    let Ok(again) = analyze_for(Purpose::Proof, analyzed.world, text, &analyzed.session, &limits) else {
        return Err(Unproven::Form);
    };
    let same = splice::only_spliced(analyzed.sql, splices, text)
        && again.statements.len() == analyzed.statements.len()
        && again.statements.iter().zip(&analyzed.statements).all(|(new, old)| {
            new.level == old.level
                && new.unresolved == old.unresolved
                && new.kind == old.kind
                && new.objects == old.objects
                && new.exports == old.exports
                && new.session_changes == old.session_changes
                && new.stops == old.stops
                && new.columns_read.difference(&old.columns_read).all(|column| gained.contains(column))
                && old.columns_read.difference(&new.columns_read).all(|column| replaced.contains(column))
        })
        && again.plans.iter().zip(&analyzed.plans).all(|(new, old)| new.labels.len() == old.labels.len())
        && guards.iter().all(|(statement, shown)| {
            let mut changes = again.plans.get(*statement).into_iter().flat_map(|plan| &plan.sites);
            changes.any(|site| site.change.as_ref().is_some_and(|change| change.first.as_ref() == Some(shown)))
        });
    if !same {
        return Err(Unproven::Form);
    }
    let labels = again.plans.iter().zip(&analyzed.plans).enumerate().flat_map(|(statement, (new, old))| {
        let pairs = new.labels.iter().zip(&old.labels).enumerate();
        pairs.filter(|(_, (new, old))| new != old).map(move |(place, _)| (statement, place))
    });
    let changed: labels::Changed = labels.collect();
    if changed.is_empty() { Ok(()) } else { Err(Unproven::Names(changed)) }
}

/// Levels a derived table adds at most: what masks nest, and what a policy may nest.
const SPLICE_DEPTH: usize = 72;
