use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use crate::RelationName;

/// Which rows of one relation the caller gets: those some permit holds for and no forbid holds for.
///
/// A permit that cannot be computed for a row (an attribute is NULL there) does not permit it; a forbid that cannot be
/// computed forbids it. Without a permit there are no rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFilter {
    /// The relation.
    pub relation: RelationName,
    /// Conditions of permits, any of which must hold.
    pub permits: Vec<Predicate>,
    /// Conditions of forbids, none of which may hold.
    pub forbids: Vec<Predicate>,
    /// The policies behind them; when no permit is left, those that filter the relation at all.
    pub policies: BTreeSet<String>,
}

impl RowFilter {
    /// Whether it hides nothing.
    pub fn shows_all(&self) -> bool {
        self.forbids.is_empty() && self.permits.contains(&Predicate::Known(Some(true)))
    }

    /// Whether a row is shown. `column` gives a column's value, `None` for NULL.
    pub fn shows(&self, column: &dyn Fn(&str) -> Option<RowValue>) -> bool {
        self.permits.iter().any(|permit| permit.holds(column) == Some(true))
            && self.forbids.iter().all(|forbid| forbid.holds(column) == Some(false))
    }

    /// Every column the filter looks at, folded. Without a permit there is nothing to look at.
    pub fn columns(&self) -> BTreeSet<&str> {
        let mut columns = BTreeSet::new();
        if self.permits.is_empty() {
            return columns;
        }
        for predicate in self.permits.iter().chain(&self.forbids) {
            predicate.gather(&mut columns);
        }
        columns
    }
}

/// A condition on one row. It is true, false, or cannot be computed because a column it needs is NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Predicate {
    /// The same for every row; `None` cannot be computed for any.
    Known(Option<bool>),
    /// A boolean column.
    Column(String),
    /// The column is not NULL.
    Has(String),
    /// Two values of one type.
    Compare {
        /// Left of the operator.
        left: Operand,
        /// How.
        comparison: Comparison,
        /// Right of the operator.
        right: Operand,
    },
    /// The column's value is among these.
    OneOf {
        /// The column.
        column: String,
        /// All of one type.
        values: BTreeSet<RowValue>,
    },
    /// The column's text fits the pattern.
    Like {
        /// The column.
        column: String,
        /// Its parts in order.
        pattern: Vec<PatternPart>,
    },
    /// Not so.
    Not(Box<Predicate>),
    /// The right side is only computed when the left holds.
    And(Box<Predicate>, Box<Predicate>),
    /// The right side is only computed when the left does not hold.
    Or(Box<Predicate>, Box<Predicate>),
    /// The second when the first holds, else the third.
    If(Box<Predicate>, Box<Predicate>, Box<Predicate>),
}

/// One side of a comparison.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operand {
    /// A column, folded.
    Column(String),
    /// A constant.
    Value(RowValue),
}

/// How two values are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// `=`
    Equal,
    /// `<>`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
}

/// A constant of a row condition.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum RowValue {
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Long(i64),
    /// A number in ten-thousandths: Cedar's decimals have four digits after the point.
    Decimal(i64),
    /// Text.
    Text(String),
    /// A date and time in UTC, `2026-01-31 00:00:00.000`.
    Moment(String),
}

/// A part of a pattern.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PatternPart {
    /// This character.
    Char(char),
    /// Any characters, or none.
    Any,
}

impl Predicate {
    /// What it is for a row; `None` when it cannot be computed.
    pub fn holds(&self, column: &dyn Fn(&str) -> Option<RowValue>) -> Option<bool> {
        match self {
            Self::Known(known) => *known,
            Self::Column(name) => match column(name)? {
                RowValue::Bool(value) => Some(value),
                RowValue::Long(_) | RowValue::Decimal(_) | RowValue::Text(_) | RowValue::Moment(_) => None,
            },
            Self::Has(name) => Some(column(name).is_some()),
            Self::Compare { left, comparison, right } => {
                let value = |operand: &Operand| match operand {
                    Operand::Column(name) => column(name),
                    Operand::Value(value) => Some(value.clone()),
                };
                let order = value(left)?.cmp(&value(right)?);
                Some(match comparison {
                    Comparison::Equal => order.is_eq(),
                    Comparison::NotEqual => order.is_ne(),
                    Comparison::Less => order.is_lt(),
                    Comparison::LessOrEqual => order.is_le(),
                    Comparison::Greater => order.is_gt(),
                    Comparison::GreaterOrEqual => order.is_ge(),
                })
            }
            Self::OneOf { column: name, values } => Some(values.contains(&column(name)?)),
            Self::Like { column: name, pattern } => match column(name)? {
                RowValue::Text(text) => Some(fits(&text.chars().collect::<Vec<_>>(), pattern)),
                RowValue::Bool(_) | RowValue::Long(_) | RowValue::Decimal(_) | RowValue::Moment(_) => None,
            },
            Self::Not(inner) => inner.holds(column).map(|holds| !holds),
            Self::And(left, right) => {
                if left.holds(column)? {
                    right.holds(column)
                } else {
                    Some(false)
                }
            }
            Self::Or(left, right) => {
                if left.holds(column)? {
                    Some(true)
                } else {
                    right.holds(column)
                }
            }
            Self::If(condition, yes, no) => {
                if condition.holds(column)? {
                    yes.holds(column)
                } else {
                    no.holds(column)
                }
            }
        }
    }

    fn gather<'p>(&'p self, columns: &mut BTreeSet<&'p str>) {
        match self {
            Self::Known(_) => {}
            Self::Column(name) | Self::Has(name) => drop(columns.insert(name)),
            Self::OneOf { column, values: _ } | Self::Like { column, pattern: _ } => drop(columns.insert(column)),
            Self::Compare { left, comparison: _, right } => {
                for operand in [left, right] {
                    match operand {
                        Operand::Column(name) => drop(columns.insert(name)),
                        Operand::Value(_) => {}
                    }
                }
            }
            Self::Not(inner) => inner.gather(columns),
            Self::And(left, right) | Self::Or(left, right) => {
                left.gather(columns);
                right.gather(columns);
            }
            Self::If(condition, yes, no) => {
                for part in [condition, yes, no] {
                    part.gather(columns);
                }
            }
        }
    }
}

/// Whether the text fits the pattern: each `Any` is tried at every place, remembering only the last one.
fn fits(text: &[char], pattern: &[PatternPart]) -> bool {
    let (mut at, mut part) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while at < text.len() {
        match pattern.get(part) {
            Some(PatternPart::Any) => {
                retry = Some((part, at));
                part += 1;
            }
            Some(PatternPart::Char(wanted)) if text.get(at) == Some(wanted) => {
                at += 1;
                part += 1;
            }
            Some(PatternPart::Char(_)) | None => match retry {
                Some((any, from)) => {
                    retry = Some((any, from + 1));
                    (part, at) = (any + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern.iter().skip(part).all(|part| *part == PatternPart::Any)
}

/// A filter that was put into the text, as shown to people and kept in records.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilteredRelation {
    /// The relation whose rows are filtered.
    pub relation: RelationName,
    /// The condition as SQL.
    pub condition: String,
    /// The policies behind it.
    pub policies: BTreeSet<String>,
}

#[cfg(test)]
mod tests {
    use super::{PatternPart, fits};

    #[test]
    fn patterns_fit_like_cedars() {
        let pattern = |text: &str| -> Vec<PatternPart> {
            text.chars().map(|c| if c == '*' { PatternPart::Any } else { PatternPart::Char(c) }).collect()
        };
        for (text, wanted, holds) in [
            ("", "", true),
            ("", "*", true),
            ("a", "", false),
            ("abcabd", "*abd", true),
            ("abcabd", "a*c", false),
            ("aaa", "a*a*a", true),
            ("aa", "a*a*a", false),
        ] {
            assert_eq!(fits(&text.chars().collect::<Vec<_>>(), &pattern(wanted)), holds, "`{text}` like `{wanted}`");
        }
    }
}
