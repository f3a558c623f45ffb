//! What each mask of the query gives for a value, as `policies/README.md` says it: written down a second time, to hold the SQL to it.

use icegate_pdp_model::{Mask, TimeUnit};
use sha2::{Digest as _, Sha256};

/// What `hash` is salted with here.
pub const SALT: &str = "reference-salt-0123";

/// A value that is not NULL.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cell {
    /// Text.
    Text(String),
    /// A number, in units of its column's last digit.
    Number(i128),
    /// A date: year, month, day.
    Day(i32, u32, u32),
    /// A date and a time: hour, minute, second.
    Moment(i32, u32, u32, [u32; 3]),
    /// TRUE or FALSE.
    Truth(bool),
}

/// What a column can hold.
#[derive(Debug, Clone, Copy)]
pub enum Column {
    /// Text of at most so many characters.
    Text(Option<usize>),
    /// A number of so many digits, so many of them behind the point.
    Number(u32, u32),
    /// A date.
    Day,
    /// A date and a time.
    Moment,
    /// TRUE or FALSE.
    Truth,
}

/// What is shown of a cell; `None` is NULL.
///
/// # Panics
/// When the mask does not fit the column.
pub fn masked(mask: &Mask, cell: Option<&Cell>, column: Column) -> Option<Cell> {
    let cell = cell?;
    Some(match (mask, cell) {
        (Mask::Null, _) => return None,
        (Mask::Sql { name }, _) => match own(name, cell) {
            Cell::Text(text) => fitting(&text, column),
            Cell::Number(value) => Cell::Number(held(value, column)),
            other @ (Cell::Day(..) | Cell::Moment(..) | Cell::Truth(_)) => other,
        },
        (Mask::Redact { text }, Cell::Text(_)) => fitting(text.as_deref().unwrap_or("***"), column),
        (Mask::Redact { .. }, Cell::Number(_)) => Cell::Number(0),
        (Mask::Redact { .. }, Cell::Truth(_)) => Cell::Truth(false),
        (Mask::Redact { .. }, Cell::Day(..)) => Cell::Day(1970, 1, 1),
        (Mask::Redact { .. }, Cell::Moment(..)) => Cell::Moment(1970, 1, 1, [0; 3]),
        (Mask::Constant { value }, _) => constant(value, column),
        (Mask::Hash, Cell::Text(text)) => {
            let digest = Sha256::digest(format!("{SALT}{text}"));
            Cell::Text(digest.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}")))
        }
        (Mask::Email, Cell::Text(text)) => {
            let parts: Vec<&str> = text.split('@').collect();
            match parts.as_slice() {
                [_, domain] if !domain.is_empty() => fitting(&format!("***@{domain}"), column),
                _ => fitting("***", column),
            }
        }
        (Mask::Phone, Cell::Text(text)) => Cell::Text(phone(text)),
        (Mask::Card, Cell::Text(text)) => Cell::Text(card(text)),
        (Mask::Partial { first, last }, Cell::Text(text)) => Cell::Text(partial(text, *first as usize, *last as usize)),
        (Mask::Bucket { size }, Cell::Number(value)) => {
            let size = i128::from(*size) * unit(column);
            Cell::Number(held(within(*value, column).div_euclid(size) * size, column))
        }
        (Mask::Round { size }, Cell::Number(value)) => {
            let size = i128::from(*size) * unit(column);
            let value = within(*value, column);
            let over = value.abs() % size;
            let nearest = value.abs() - over + if over * 2 >= size { size } else { 0 };
            Cell::Number(held(value.signum() * nearest, column))
        }
        (Mask::Year, Cell::Day(year, ..)) => Cell::Day(*year, 1, 1),
        (Mask::Year, Cell::Moment(year, ..)) => Cell::Moment(*year, 1, 1, [0; 3]),
        (Mask::Truncate { unit }, Cell::Day(year, month, day)) => {
            let (month, day) = truncated(*unit, *month, *day);
            Cell::Day(*year, month, day)
        }
        (Mask::Truncate { unit }, Cell::Moment(year, month, day, [hour, ..])) => {
            let (month, day) = truncated(*unit, *month, *day);
            Cell::Moment(*year, month, day, if *unit == TimeUnit::Hour { [*hour, 0, 0] } else { [0; 3] })
        }
        #[expect(clippy::panic, reason = "the test pairs them wrongly")]
        (mask, cell) => panic!("{mask} of {cell:?}"),
    })
}

/// Masks of one's own, as the test declares them.
fn own(name: &str, cell: &Cell) -> Cell {
    match (name, cell) {
        ("initial", Cell::Text(text)) => {
            let mut chars = text.chars();
            let first: String = chars.next().into_iter().collect();
            Cell::Text(first + &"*".repeat(chars.count()))
        }
        ("known", Cell::Text(text)) => {
            Cell::Text(if text.starts_with('a') { "a".to_owned() } else { text.replace('b', "-") })
        }
        ("tens", Cell::Number(value)) => Cell::Number(value.div_euclid(1000) * 1000),
        ("month", Cell::Day(year, month, _)) => Cell::Day(*year, *month, 1),
        #[expect(clippy::panic, reason = "the test names another")]
        (name, cell) => panic!("{name} of {cell:?}"),
    }
}

fn fitting(text: &str, column: Column) -> Cell {
    let most = match column {
        Column::Text(Some(most)) => most,
        Column::Text(None) | Column::Number(..) | Column::Day | Column::Moment | Column::Truth => usize::MAX,
    };
    Cell::Text(text.chars().take(most).collect())
}

fn constant(value: &str, column: Column) -> Cell {
    let part = |from: usize, to: usize| value.get(from..to).and_then(|text| text.parse().ok()).unwrap_or_default();
    let year = i32::try_from(part(0, 4)).unwrap_or_default();
    match column {
        Column::Text(_) => Cell::Text(value.to_owned()),
        Column::Number(..) => Cell::Number(value.parse::<i128>().unwrap_or_default() * unit(column)),
        Column::Truth => Cell::Truth(value == "true"),
        Column::Day => Cell::Day(year, part(5, 7), part(8, 10)),
        Column::Moment => Cell::Moment(year, part(5, 7), part(8, 10), [0; 3]),
    }
}

/// 1 in units of the last digit.
fn unit(column: Column) -> i128 {
    match column {
        Column::Number(_, scale) => 10_i128.pow(scale),
        Column::Text(_) | Column::Day | Column::Moment | Column::Truth => 1,
    }
}

/// Held at the limits of the type.
fn held(value: i128, column: Column) -> i128 {
    match column {
        Column::Number(precision, _) => {
            let most = 10_i128.pow(precision) - 1;
            value.clamp(-most, most)
        }
        Column::Text(_) | Column::Day | Column::Moment | Column::Truth => value,
    }
}

/// Of the longest numbers the largest are held before they are computed with.
fn within(value: i128, column: Column) -> i128 {
    match column {
        Column::Number(38, scale) => {
            let most = 10_i128.pow(38) - 10_i128.pow(13 + scale);
            value.clamp(-most, most)
        }
        Column::Number(..) | Column::Text(_) | Column::Day | Column::Moment | Column::Truth => value,
    }
}

fn stars(count: usize) -> String {
    "*".repeat(count)
}

fn phone(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= 6 {
        return stars(chars.len());
    }
    let (head, tail) = chars.split_at(chars.len() - 2);
    let starred = head.iter().map(|c| if "-+ ()./".contains(*c) { *c } else { '*' });
    starred.chain(tail.iter().copied()).collect()
}

fn card(text: &str) -> String {
    let digits: Vec<char> = text.chars().filter(char::is_ascii_digit).collect();
    let length = text.chars().count();
    if digits.len() < 12 {
        return stars(length);
    }
    let last: String = digits.iter().skip(digits.len() - 4).collect();
    stars(length - 4) + &last
}

fn partial(text: &str, first: usize, last: usize) -> String {
    let chars: Vec<char> = text.chars().collect();
    if chars.len() <= first + last {
        return stars(chars.len());
    }
    let start: String = chars.iter().take(first).collect();
    let end: String = chars.iter().skip(chars.len() - last).collect();
    start + &stars(chars.len() - first - last) + &end
}

fn truncated(unit: TimeUnit, month: u32, day: u32) -> (u32, u32) {
    match unit {
        TimeUnit::Quarter => ((month - 1) / 3 * 3 + 1, 1),
        TimeUnit::Month => (month, 1),
        TimeUnit::Day | TimeUnit::Hour => (month, day),
    }
}
