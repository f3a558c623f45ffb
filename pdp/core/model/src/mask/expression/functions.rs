//! The functions that masks of one's own may use. Each computes from its arguments alone, the same for the same, and fails for no
//! value of its types.

use super::ValueType;

/// A function, what it takes and what it gives.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) takes: &'static [Takes],
    /// How many arguments there must be.
    pub(super) least: usize,
    pub(super) gives: Gives,
}

/// What an argument must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Value(ValueType),
    /// Any value; all of these in one call are of one type.
    Same,
    /// A date or timestamp.
    Moment,
    /// A text in quotes.
    Constant,
    /// One character in quotes.
    Character,
    /// A whole number as it stands, at most [`COUNT_MAX`].
    Count,
    /// The same, from 1.
    Place,
    /// A count, or `LENGTH(…)`, or that less a count.
    Times,
    /// A number as it stands, not 0.
    Divisor,
    /// `'year'`, `'quarter'`, `'month'`, `'day'`, and `'hour'` and `'minute'` of a timestamp.
    Unit,
}

/// What comes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gives {
    Value(ValueType),
    /// What [`Takes::Same`] and [`Takes::Moment`] were.
    Same,
}

/// Most characters that are kept, filled or repeated by a count that is written.
pub(super) const COUNT_MAX: u32 = 1000;

/// Units that a date has too, and those that only a timestamp has.
pub(super) const UNITS: [&str; 4] = ["year", "quarter", "month", "day"];
pub(super) const UNITS_OF_DAY: [&str; 2] = ["hour", "minute"];

const TEXT: Takes = Takes::Value(ValueType::Text);
const NUMBER: Takes = Takes::Value(ValueType::Number);

pub(super) fn named(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|function| function.name.eq_ignore_ascii_case(name))
}

const fn function(name: &'static str, takes: &'static [Takes], least: usize, gives: Gives) -> Function {
    Function { name, takes, least, gives }
}

const GIVES_TEXT: Gives = Gives::Value(ValueType::Text);
const GIVES_NUMBER: Gives = Gives::Value(ValueType::Number);
const GIVES_BOOLEAN: Gives = Gives::Value(ValueType::Boolean);

/// Sorted.
#[rustfmt::skip]
pub(super) static FUNCTIONS: [Function; 41] = [
    function("ABS", &[NUMBER], 1, GIVES_NUMBER),
    function("CEIL", &[NUMBER], 1, GIVES_NUMBER),
    function("COALESCE", &[Takes::Same, Takes::Same, Takes::Same], 2, Gives::Same),
    function("CONCAT", &[TEXT, TEXT, TEXT, TEXT, TEXT, TEXT], 2, GIVES_TEXT),
    function("CONTAINS", &[TEXT, TEXT], 2, GIVES_BOOLEAN),
    function("DATE_TRUNC", &[Takes::Unit, Takes::Moment], 2, Gives::Same),
    function("DAY", &[Takes::Moment], 1, GIVES_NUMBER),
    function("ENDSWITH", &[TEXT, TEXT], 2, GIVES_BOOLEAN),
    function("FLOOR", &[NUMBER], 1, GIVES_NUMBER),
    function("GREATEST", &[Takes::Same, Takes::Same, Takes::Same], 2, Gives::Same),
    function("IFF", &[Takes::Value(ValueType::Boolean), Takes::Same, Takes::Same], 3, Gives::Same),
    function("IFNULL", &[Takes::Same, Takes::Same], 2, Gives::Same),
    function("LAST_DAY", &[Takes::Value(ValueType::Date)], 1, Gives::Value(ValueType::Date)),
    function("LEAST", &[Takes::Same, Takes::Same, Takes::Same], 2, Gives::Same),
    function("LEFT", &[TEXT, Takes::Count], 2, GIVES_TEXT),
    function("LENGTH", &[TEXT], 1, GIVES_NUMBER),
    function("LOWER", &[TEXT], 1, GIVES_TEXT),
    function("LPAD", &[TEXT, Takes::Count, Takes::Character], 3, GIVES_TEXT),
    function("LTRIM", &[TEXT], 1, GIVES_TEXT),
    function("MOD", &[NUMBER, Takes::Divisor], 2, GIVES_NUMBER),
    function("MONTH", &[Takes::Moment], 1, GIVES_NUMBER),
    function("NULLIF", &[Takes::Same, Takes::Same], 2, Gives::Same),
    function("QUARTER", &[Takes::Moment], 1, GIVES_NUMBER),
    function("REGEXP_REPLACE", &[TEXT, Takes::Constant, Takes::Constant], 3, GIVES_TEXT),
    function("REPEAT", &[Takes::Character, Takes::Times], 2, GIVES_TEXT),
    function("REPLACE", &[TEXT, Takes::Constant, Takes::Constant], 3, GIVES_TEXT),
    function("REVERSE", &[TEXT], 1, GIVES_TEXT),
    function("RIGHT", &[TEXT, Takes::Count], 2, GIVES_TEXT),
    function("ROUND", &[NUMBER, Takes::Count], 1, GIVES_NUMBER),
    function("RPAD", &[TEXT, Takes::Count, Takes::Character], 3, GIVES_TEXT),
    function("RTRIM", &[TEXT], 1, GIVES_TEXT),
    function("SHA2", &[TEXT], 1, GIVES_TEXT),
    function("SIGN", &[NUMBER], 1, GIVES_NUMBER),
    function("SPLIT_PART", &[TEXT, Takes::Constant, Takes::Place], 3, GIVES_TEXT),
    function("STARTSWITH", &[TEXT, TEXT], 2, GIVES_BOOLEAN),
    function("SUBSTR", &[TEXT, Takes::Place, Takes::Count], 2, GIVES_TEXT),
    function("TRANSLATE", &[TEXT, Takes::Constant, Takes::Constant], 3, GIVES_TEXT),
    function("TRIM", &[TEXT], 1, GIVES_TEXT),
    function("TRUNC", &[NUMBER, Takes::Count], 1, GIVES_NUMBER),
    function("UPPER", &[TEXT], 1, GIVES_TEXT),
    function("YEAR", &[Takes::Moment], 1, GIVES_NUMBER),
];

#[cfg(test)]
mod tests {
    use super::FUNCTIONS;

    #[test]
    fn the_table_is_sorted() {
        assert!(FUNCTIONS.is_sorted_by(|one, next| one.name < next.name));
        assert!(FUNCTIONS.iter().all(|function| (1..=function.takes.len()).contains(&function.least)));
    }
}
