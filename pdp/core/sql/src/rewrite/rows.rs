//! Row conditions as SQL.
//!
//! A predicate that cannot be computed must not show a row. SQL's NULL stands for "cannot be computed" as far as the two
//! agree; where they do not (`NULL AND FALSE` is FALSE, while Cedar stops at the first part that fails) it is said apart
//! when a predicate can be computed.

use icegate_pdp_model::{Comparison, Operand, PatternPart, Predicate, RowFilter, RowValue};

use super::{
    masks::literal,
    splice::{plain_or_quoted, quoted},
};

/// What keeps a pattern's own characters apart from wildcards. No backslash, which is escaped a second time in a literal.
const ESCAPE: char = '^';

/// The condition that stands behind WHERE.
pub(crate) fn condition(filter: &RowFilter) -> String {
    condition_of(filter, &plain_or_quoted(&filter.relation.name), &str::to_owned)
}

/// The same where the relation is called `of`, and its columns as `called` says.
pub(crate) fn condition_of(filter: &RowFilter, of: &str, called: &dyn Fn(&str) -> String) -> String {
    let of = &|column: &str| format!("{of}.{}", quoted(&called(column)));
    let permits: Vec<String> = filter.permits.iter().map(|permit| written(permit, of).or_else(false)).collect();
    let mut parts = match permits.as_slice() {
        [] => return "FALSE".to_owned(),
        [one] => vec![one.clone()],
        several => vec![format!("({})", several.join(" OR "))],
    };
    parts.extend(filter.forbids.iter().map(|forbid| format!("NOT {}", written(forbid, of).or_else(true))));
    parts.join(" AND ")
}

/// A predicate in SQL.
struct Written {
    value: String,
    /// Whether `value` may be NULL.
    nullable: bool,
    /// When it can be computed; `None` = when `value` is not NULL.
    defined: Option<String>,
    /// Whether a `value` of TRUE is never anything else to Cedar; and one of FALSE.
    sure: [bool; 2],
}

impl Written {
    /// Never NULL.
    fn total(value: String) -> Self {
        Self { value, nullable: false, defined: None, sure: [true; 2] }
    }

    /// NULL exactly when it cannot be computed.
    fn exact(value: String) -> Self {
        Self { value, nullable: true, defined: None, sure: [true; 2] }
    }

    /// When it can be computed; `None` = always.
    fn defined(&self) -> Option<String> {
        match (&self.defined, self.nullable) {
            (Some(defined), _) => Some(defined.clone()),
            (None, true) => Some(format!("{} IS NOT NULL", self.value)),
            (None, false) => None,
        }
    }

    /// Never NULL: `otherwise` when it cannot be computed.
    fn or_else(&self, otherwise: bool) -> String {
        let value = if self.nullable {
            format!("COALESCE({}, {})", self.value, if otherwise { "TRUE" } else { "FALSE" })
        } else {
            format!("({})", self.value)
        };
        let [true_sure, false_sure] = self.sure;
        match (&self.defined, otherwise) {
            (None, _) => value,
            // Only TRUE shows a row, and only FALSE keeps a forbid from hiding it.
            (Some(_), false) if true_sure => value,
            (Some(_), true) if false_sure => value,
            (Some(defined), false) => format!("({value} AND {defined})"),
            (Some(defined), true) => format!("({value} OR NOT {defined})"),
        }
    }
}

/// Every value it gives stands in parentheses, or binds as tightly as if it did.
fn written(predicate: &Predicate, column: &dyn Fn(&str) -> String) -> Written {
    match predicate {
        Predicate::Known(Some(true)) => Written::total("TRUE".into()),
        Predicate::Known(Some(false)) => Written::total("FALSE".into()),
        Predicate::Known(None) => Written::exact("CAST(NULL AS BOOLEAN)".into()),
        Predicate::Column(name) => Written::exact(column(name)),
        Predicate::Has(name) => Written::total(format!("({} IS NOT NULL)", column(name))),
        Predicate::Compare { left, comparison, right } => {
            let side = |operand: &Operand| match operand {
                Operand::Column(name) => column(name),
                Operand::Value(value) => constant(value),
            };
            let sign = match comparison {
                Comparison::Equal => "=",
                Comparison::NotEqual => "<>",
                Comparison::Less => "<",
                Comparison::LessOrEqual => "<=",
                Comparison::Greater => ">",
                Comparison::GreaterOrEqual => ">=",
            };
            Written::exact(format!("({} {sign} {})", side(left), side(right)))
        }
        Predicate::OneOf { column: name, values } if values.is_empty() => {
            Written::exact(format!("(CASE WHEN {} IS NULL THEN NULL ELSE FALSE END)", column(name)))
        }
        Predicate::OneOf { column: name, values } => {
            let values: Vec<_> = values.iter().map(constant).collect();
            Written::exact(format!("({} IN ({}))", column(name), values.join(", ")))
        }
        Predicate::Like { column: name, pattern } => {
            Written::exact(format!("({} LIKE {} ESCAPE '{ESCAPE}')", column(name), literal(&like(pattern))))
        }
        Predicate::Not(inner) => {
            let Written { value, nullable, defined, sure: [true_sure, false_sure] } = written(inner, column);
            Written { value: format!("(NOT {value})"), nullable, defined, sure: [false_sure, true_sure] }
        }
        Predicate::And(left, right) => both(&written(left, column), "AND", &written(right, column)),
        Predicate::Or(left, right) => both(&written(left, column), "OR", &written(right, column)),
        Predicate::If(condition, yes, no) => {
            let (test, yes, no) = (written(condition, column), written(yes, column), written(no, column));
            let value = format!("(CASE WHEN {} THEN {} ELSE {} END)", test.value, yes.value, no.value);
            let nullable = test.nullable || yes.nullable || no.nullable;
            if !test.nullable && yes.defined.is_none() && no.defined.is_none() {
                return Written { value, nullable, defined: None, sure: [true; 2] };
            }
            let ([yes_true, yes_false], [no_true, no_false]) = (yes.sure, no.sure);
            let sure = [!test.nullable && yes_true && no_true, !test.nullable && yes_false && no_false];
            let always = || "TRUE".to_owned();
            let (yes, no) = (yes.defined().unwrap_or_else(always), no.defined().unwrap_or_else(always));
            let branch = format!("(CASE WHEN {} THEN {yes} ELSE {no} END)", test.value);
            let defined = match test.defined() {
                Some(test) => format!("({test} AND {branch})"),
                None => branch,
            };
            Written { value, nullable, defined: Some(defined), sure }
        }
    }
}

/// The right side is only reached when the left one does not settle it.
fn both(left: &Written, operator: &str, right: &Written) -> Written {
    let value = format!("({} {operator} {})", left.value, right.value);
    let nullable = left.nullable || right.nullable;
    if !left.nullable && right.defined.is_none() {
        return Written { value, nullable, defined: None, sure: [true; 2] };
    }
    // `NULL AND FALSE` is FALSE and `NULL OR TRUE` is TRUE: with a left side that is NULL the other one says nothing.
    let [left_true, left_false] = left.sure;
    let [right_true, right_false] = right.sure;
    let sure = if operator == "AND" {
        [left_true && right_true, !left.nullable && right_false]
    } else {
        [!left.nullable && right_true, left_false && right_false]
    };
    let settled = if operator == "AND" { format!("NOT {}", left.value) } else { left.value.clone() };
    let reached = right.defined().map(|right| format!("({settled} OR {right})"));
    let parts: Vec<String> = left.defined().into_iter().chain(reached).collect();
    Written { value, nullable, defined: Some(format!("({})", parts.join(" AND "))), sure }
}

/// A typed literal.
fn constant(value: &RowValue) -> String {
    match value {
        RowValue::Bool(true) => "TRUE".to_owned(),
        RowValue::Bool(false) => "FALSE".to_owned(),
        RowValue::Long(value) => value.to_string(),
        RowValue::Decimal(value) => {
            let sign = if *value < 0 { "-" } else { "" };
            let value = value.unsigned_abs();
            format!("{sign}{}.{:04}", value / 10_000, value % 10_000)
        }
        RowValue::Text(text) => literal(text),
        RowValue::Moment(moment) => format!("CAST({} AS TIMESTAMP_NTZ)", literal(moment)),
    }
}

fn like(pattern: &[PatternPart]) -> String {
    let mut text = String::with_capacity(pattern.len());
    for part in pattern {
        match part {
            PatternPart::Any => text.push('%'),
            PatternPart::Char(c) => {
                if matches!(*c, '%' | '_' | ESCAPE) {
                    text.push(ESCAPE);
                }
                text.push(*c);
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use icegate_pdp_model::{Comparison, Operand, PatternPart, Predicate, RelationName, RowFilter, RowValue};

    use super::condition;

    fn filter(permits: Vec<Predicate>, forbids: Vec<Predicate>) -> String {
        let relation = RelationName::new("D", "S", "T");
        condition(&RowFilter { relation, permits, forbids, policies: ["p".to_owned()].into() })
    }

    fn is(column: &str, text: &str) -> Predicate {
        Predicate::Compare {
            left: Operand::Column(column.into()),
            comparison: Comparison::Equal,
            right: Operand::Value(RowValue::Text(text.into())),
        }
    }

    #[test]
    fn what_cannot_be_computed_shows_no_row() {
        assert_eq!(filter(vec![], vec![]), "FALSE");
        assert_eq!(filter(vec![is("A", "x")], vec![]), "COALESCE((T.\"A\" = 'x'), FALSE)");
        assert_eq!(
            filter(vec![is("A", "x"), is("B", "y")], vec![is("C", "z")]),
            "(COALESCE((T.\"A\" = 'x'), FALSE) OR COALESCE((T.\"B\" = 'y'), FALSE)) AND NOT COALESCE((T.\"C\" = 'z'), TRUE)"
        );
        // `NULL = 'x' AND FALSE` is FALSE in SQL, but Cedar fails on the first part: the forbid holds.
        let and = Predicate::And(Box::new(is("A", "x")), Box::new(Predicate::Has("B".into())));
        assert_eq!(
            filter(vec![Predicate::Known(Some(true))], vec![and]),
            "(TRUE) AND NOT (COALESCE(((T.\"A\" = 'x') AND (T.\"B\" IS NOT NULL)), TRUE) OR NOT ((T.\"A\" = 'x') IS NOT NULL))"
        );
        // A part that cannot fail comes first: NULL says it all.
        let guarded = Predicate::And(Box::new(Predicate::Has("A".into())), Box::new(is("A", "x")));
        assert_eq!(filter(vec![guarded], vec![]), "COALESCE(((T.\"A\" IS NOT NULL) AND (T.\"A\" = 'x')), FALSE)");
    }

    #[test]
    fn constants_cannot_end_early() {
        assert_eq!(filter(vec![is("A", r"a'b\")], vec![]), r#"COALESCE((T."A" = 'a''b\\'), FALSE)"#);
        let parts = "50%_^'".chars().map(PatternPart::Char).chain([PatternPart::Any]).collect();
        let like = Predicate::Like { column: "we\"ird".into(), pattern: parts };
        assert_eq!(filter(vec![like], vec![]), r#"COALESCE((T."we""ird" LIKE '50^%^_^^''%' ESCAPE '^'), FALSE)"#);
        let number = |value| Predicate::OneOf { column: "N".into(), values: [value].into() };
        assert_eq!(filter(vec![number(RowValue::Decimal(-5))], vec![]), "COALESCE((T.\"N\" IN (-0.0005)), FALSE)");
    }
}
