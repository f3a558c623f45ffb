//! Masks of protected paths inside a VARIANT or OBJECT: the column is read with each of them masked in place, so whatever way is
//! taken into it (`c:a.b`, GET, FLATTEN, a cast to text) leads to the mask.
//!
//! | what stands there | what is read |
//! |---|---|
//! | at the path, a text that is declared as text | its mask |
//! | at the path, anything else | nothing: the key is left out |
//! | on the way, anything but an object: an array, a text that may hold JSON | nothing: the key is left out |
//! | the whole, anything but an object | NULL |
//! | another key, one in other letters among them | as it is stored |
//!
//! Nothing of it can fail: `AS_OBJECT` and `AS_VARCHAR` give NULL for what is of another type, and `OBJECT_INSERT` of NULL adds
//! nothing to what `OBJECT_DELETE` has left.

use std::{collections::BTreeMap, sync::Arc};

use icegate_pdp_model::{ColumnName, Mask, MaskSite};

use super::{Rewriting, Unmaskable, masks};
use crate::{
    analyze::Plan,
    reader::{ColumnId, Known},
};

/// What stands in a column's place.
#[derive(Debug, Clone)]
pub(super) enum Worn {
    /// The mask of the whole.
    Whole(Mask),
    /// The column with masks at some paths.
    Inside(Inside),
}

/// Masks by path, shorter ones first.
pub(super) type Inside = BTreeMap<Vec<String>, Leaf>;

/// What is masked at a path.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    /// The name policies know it by.
    pub(super) name: ColumnName,
    data_type: String,
    mask: Mask,
}

impl Worn {
    /// Whether the salt is in it.
    pub(super) fn salted(&self) -> bool {
        match self {
            Self::Whole(mask) => matches!(mask, Mask::Hash),
            Self::Inside(inside) => inside.values().any(|leaf| matches!(leaf.mask, Mask::Hash)),
        }
    }
}

/// The masks inside a column of a relation.
pub(super) fn inside(known: &Known<'_>, column: usize, masks: &BTreeMap<ColumnName, Mask>) -> Inside {
    let Some(column) = known.entry.columns.get(column) else { return Inside::new() };
    let masked = column.paths.iter().filter_map(|path| {
        let name = ColumnName::new(Arc::clone(&known.name), column.path_name(path));
        let mask = masks.get(&name)?.clone();
        Some((path.keys.as_slice().to_vec(), Leaf { name, data_type: path.data_type.clone(), mask }))
    });
    masked.collect()
}

/// The same of a column by its number.
pub(super) fn inside_of(plan: &Plan<'_>, id: ColumnId, masks: &BTreeMap<ColumnName, Mask>) -> Inside {
    let found = plan.numbered.place(id).and_then(|(known, column)| Some((plan.known.get(known)?, column)));
    found.map_or_else(Inside::new, |(known, column)| inside(known, column, masks))
}

/// Every path inside a column and, for a view, inside what it comes from: with the column it may be read no more.
pub(super) fn under(plan: &Plan<'_>, known: &Known<'_>, column: usize) -> Vec<ColumnName> {
    let lineage = known.view.as_ref().and_then(|view| view.columns.get(column)).map(|column| &column.lineage);
    let ids = lineage.into_iter().flat_map(|lineage| lineage.sources.iter().chain(lineage.control.iter()));
    let beneath =
        ids.filter_map(|id| plan.numbered.place(id)).filter_map(|(at, column)| Some((plan.known.get(at)?, column)));
    beneath.chain([(known, column)]).flat_map(|(known, column)| known.paths(column)).collect()
}

/// Adds masks of the same value met under another name; of two at one path the stricter stays.
pub(super) fn unite(ours: &mut Inside, theirs: Inside) {
    for (keys, theirs) in theirs {
        ours.entry(keys)
            .and_modify(|ours| {
                if ours.data_type == theirs.data_type {
                    ours.mask = ours.mask.clone().stricter(theirs.mask.clone());
                } else {
                    ours.mask = Mask::Null;
                }
            })
            .or_insert(theirs);
    }
}

/// The expression that stands for `column` (quoted) of this type.
pub(super) fn masked(
    inside: &Inside,
    column: &str,
    data_type: &str,
    with: &Rewriting<'_>,
) -> Result<String, Unmaskable> {
    let whole = format!("AS_OBJECT(CAST({column} AS VARIANT))");
    Ok(format!("CAST({} AS {data_type})", object(&whole, inside, &[], with)?))
}

/// An object with everything at and below `at` masked.
fn object(read: &str, inside: &Inside, at: &[String], with: &Rewriting<'_>) -> Result<String, Unmaskable> {
    let (mut keys, mut shown) = (Vec::new(), Vec::new());
    for (path, leaf) in inside {
        let Some([key, deeper @ ..]) = path.strip_prefix(at) else { continue };
        let quoted = masks::literal(key);
        // Of paths one inside the other the outer one, which comes first, says it all.
        if keys.contains(&quoted) {
            continue;
        }
        let value = format!("GET({read}, {quoted})");
        let value = if deeper.is_empty() {
            leaf_value(leaf, &value, with)?
        } else {
            let below: Vec<String> = at.iter().chain([key]).cloned().collect();
            Some(object(&format!("AS_OBJECT({value})"), inside, &below, with)?)
        };
        shown.extend(value.map(|value| (quoted.clone(), value)));
        keys.push(quoted);
    }
    let rest = format!("OBJECT_DELETE({read}, {})", keys.join(", "));
    Ok(shown.into_iter().fold(rest, |rest, (key, value)| format!("OBJECT_INSERT({rest}, {key}, {value})")))
}

/// What is shown of a leaf; `None` for nothing.
fn leaf_value(leaf: &Leaf, value: &str, with: &Rewriting<'_>) -> Result<Option<String>, Unmaskable> {
    let Leaf { name, data_type, mask } = leaf;
    let nothing = matches!(mask, Mask::Null) || mask.site() == MaskSite::Result;
    if nothing || matches!(mask, Mask::Redact { text: None }) && !masks::is_text(data_type) {
        return Ok(None);
    }
    if !masks::is_text(data_type) {
        return Err(Unmaskable::Type {
            column: name.clone(),
            mask: Box::new(mask.clone()),
            data_type: data_type.as_str().into(),
        });
    }
    // Without the declared length: what stands there may be longer, and a cast that fails would tell.
    masks::masked(mask, &format!("AS_VARCHAR({value})"), name, "VARCHAR", with).map(Some)
}
