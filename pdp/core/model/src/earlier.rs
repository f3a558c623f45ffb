use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{ColumnName, Effect, Mask, MaskExpression, ObjectAccess, ObjectKind, ObjectName, RelationName};

/// Rows that an earlier statement of a session gave as its result, or that several stored in a temporary table.
///
/// Who reads them is asked about everything they were made of, anew. The values are what the warehouse kept: masked and
/// filtered as they were then.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlierRows {
    /// Their columns; `None` when they are not known, as of what SHOW gives.
    pub columns: Option<Vec<EarlierColumn>>,
    /// What was done to which objects to make them.
    pub objects: Vec<ObjectAccess>,
    /// Every column that had any influence on them.
    pub columns_read: BTreeSet<ColumnName>,
    /// Every relation whose rows had any, through views among them.
    #[serde(default)]
    pub rows_met: BTreeSet<RelationName>,
    /// The masks their values went through at their source, each time they were read.
    pub masks: BTreeMap<ColumnName, Mask>,
    /// Of those that settings give an expression, what it was.
    #[serde(default)]
    pub expressions: BTreeMap<ColumnName, String>,
    /// Conditions of the rows that were read of filtered relations, as SQL, the same each time.
    pub row_filters: BTreeMap<RelationName, String>,
}

/// One column of such rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EarlierColumn {
    /// Its name.
    pub name: String,
    /// Columns whose values can appear in it.
    pub sources: BTreeSet<ColumnName>,
    /// They could not be told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub opaque: bool,
}

impl EarlierRows {
    /// Whether rows of this relation had any influence.
    pub fn reads(&self, relation: &RelationName) -> bool {
        let name = ObjectName::from(relation);
        self.rows_met.contains(relation)
            || self.columns_read.iter().any(|column| *column.relation == *relation)
            || self.objects.iter().any(|object| object.effect == Effect::Read && object.name == name)
    }

    /// What the masks of one's own among these are, by what settings say of their names.
    pub fn expressions_of(
        masks: &BTreeMap<ColumnName, Mask>,
        settings: &BTreeMap<String, MaskExpression>,
    ) -> BTreeMap<ColumnName, String> {
        let text = |(column, mask): (&ColumnName, &Mask)| match mask {
            Mask::Sql { name } => Some((column.clone(), settings.get(name)?.sql("{column}"))),
            _ => None,
        };
        masks.iter().filter_map(text).collect()
    }

    /// Whether the column's values went through this mask each time, by what settings say of its name now.
    pub fn wears(&self, column: &ColumnName, mask: &Mask, settings: &BTreeMap<String, MaskExpression>) -> bool {
        let alone = BTreeMap::from([(column.clone(), mask.clone())]);
        self.worn(column) == Some((mask, Self::expressions_of(&alone, settings).get(column)))
    }

    fn worn(&self, column: &ColumnName) -> Option<(&Mask, Option<&String>)> {
        Some((self.masks.get(column)?, self.expressions.get(column)))
    }

    /// Adds the rows of another statement, whose values may go into any column. A mask or filter that only some of all
    /// rows have is none.
    pub fn add(&mut self, more: &Self) {
        let read = |column: &ColumnName, rows: &Self| rows.columns_read.contains(column);
        let both = self.masks.keys().chain(more.masks.keys());
        let unlike =
            both.filter(|&column| read(column, self) && read(column, more) && self.worn(column) != more.worn(column));
        let unlike: BTreeSet<ColumnName> = unlike.cloned().collect();
        self.masks.extend(more.masks.clone());
        self.masks.retain(|column, _| !unlike.contains(column));
        self.expressions.extend(more.expressions.clone());
        self.expressions.retain(|column, _| !unlike.contains(column));

        let filtered_alike = |name: &RelationName, ours: &Self| {
            !ours.reads(name) || ours.row_filters.get(name) == more.row_filters.get(name)
        };
        let filters = more.row_filters.iter().filter(|(name, _)| filtered_alike(name, self));
        let filters: Vec<_> = filters.map(|(name, condition)| (name.clone(), condition.clone())).collect();
        self.row_filters.retain(|name, condition| !more.reads(name) || more.row_filters.get(name) == Some(condition));
        self.row_filters.extend(filters);

        for column in self.columns.iter_mut().flatten() {
            column.sources.extend(more.columns_read.iter().cloned());
        }
        self.columns_read.extend(more.columns_read.iter().cloned());
        self.rows_met.extend(more.rows_met.iter().cloned());
        for object in &more.objects {
            if !self.objects.contains(object) {
                self.objects.push(object.clone());
            }
        }
    }
}

/// A relation that only the session sees which made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", deny_unknown_fields)]
pub enum Temporary {
    /// A table, as what was stored in it.
    Table(EarlierRows),
    /// A view, read again whenever it is named.
    View {
        /// Its statement.
        text: String,
        /// Its columns, in their order.
        columns: Vec<String>,
    },
    /// Nobody knows what; it is not read.
    Unknown,
}

/// A temporary relation of a session, as one decision makes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemporaryRow {
    /// That decision.
    pub decision_id: String,
    /// Its statement has ended well.
    pub made: bool,
    /// It is the only statement of its request: either it ends well, or nothing was made.
    pub alone: bool,
    /// What it is.
    pub body: Temporary,
}

/// A temporary relation that a statement makes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MadeTemporary {
    /// Its name.
    pub name: RelationName,
    /// Table or view.
    pub kind: ObjectKind,
    /// Its columns and the columns whose values can appear in each; `None` when what has the name then is not known.
    pub columns: Option<Vec<EarlierColumn>>,
    /// A view's statement.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::{EarlierColumn, EarlierRows};
    use crate::{ColumnName, Mask, RelationName};

    fn column(name: &str) -> ColumnName {
        format!("D.S.{name}").parse().expect("a name")
    }

    fn rows(mask: Option<Mask>, condition: Option<&str>) -> EarlierRows {
        let relation: RelationName = "D.S.T".parse().expect("a name");
        EarlierRows {
            columns: Some(vec![EarlierColumn { name: "A".into(), sources: [column("T.A")].into(), opaque: false }]),
            objects: Vec::new(),
            columns_read: [column("T.A")].into(),
            rows_met: BTreeSet::new(),
            masks: mask.map(|mask| (column("T.A"), mask)).into_iter().collect(),
            expressions: BTreeMap::new(),
            row_filters: condition.map(|text| (relation, text.to_owned())).into_iter().collect(),
        }
    }

    #[test]
    fn what_only_some_rows_wear_is_worn_by_none() {
        let bare = || rows(None, None);
        let (null, hash) = (|| rows(Some(Mask::Null), Some("x")), || rows(Some(Mask::Hash), Some("y")));
        for (mut first, second, wanted) in [
            (null(), null(), null()),
            (null(), bare(), bare()),
            (bare(), null(), bare()),
            (null(), hash(), bare()),
            (EarlierRows::default(), null(), EarlierRows { columns: None, ..null() }),
        ] {
            first.add(&second);
            assert_eq!(first, wanted);
            // Once it is not certain it stays so.
            first.add(&null());
            assert_eq!(first.masks, wanted.masks);
        }
    }

    #[test]
    fn what_is_added_may_be_in_any_column() {
        let mut first = rows(Some(Mask::Null), None);
        let other = EarlierRows { columns_read: [column("U.B")].into(), ..EarlierRows::default() };
        first.add(&other);
        let columns = first.columns.unwrap_or_default();
        assert_eq!(columns[0].sources, [column("T.A"), column("U.B")].into());
        assert_eq!(first.masks, BTreeMap::from([(column("T.A"), Mask::Null)]));
        assert!(first.columns_read.contains(&column("U.B")));
    }
}
