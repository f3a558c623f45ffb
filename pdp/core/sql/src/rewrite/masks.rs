//! Masks as SQL. Each keeps the column's type, and NULL stays NULL unless the mask is `null`.

use icegate_pdp_model::{ColumnName, Mask, TimeUnit, ValueType};

use crate::rewrite::{Rewriting, Unmaskable};

/// Hex digits of a SHA-256.
const SHA256_CHARS: u64 = 64;

/// What a type holds, as far as masks care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    /// Text of at most so many characters.
    Text(Option<u64>),
    Number,
    Boolean,
    Date,
    Timestamp,
    Other,
}

/// The expression that stands for `column` (quoted) of this type.
pub(crate) fn masked(
    mask: &Mask,
    column: &str,
    name: &ColumnName,
    data_type: &str,
    with: &Rewriting<'_>,
) -> Result<String, Unmaskable> {
    let unfit = || Unmaskable::Type { column: name.clone(), mask: Box::new(mask.clone()), data_type: data_type.into() };
    let family = family(data_type).ok_or_else(unfit)?;
    let constant = |value: &str| format!("CASE WHEN {column} IS NULL THEN NULL ELSE {value} END");
    let value = match (mask, family) {
        (Mask::Null, _) | (Mask::Redact { .. }, Family::Other) => "NULL".to_owned(),
        (Mask::Redact { text }, Family::Text(len)) => {
            let text = text.as_deref().unwrap_or("***");
            let shown: String =
                text.chars().take(usize::try_from(len.unwrap_or(u64::MAX)).unwrap_or(usize::MAX)).collect();
            constant(&literal(&shown))
        }
        (Mask::Redact { text: None }, Family::Number) => constant("0"),
        (Mask::Redact { text: None }, Family::Boolean) => constant("FALSE"),
        (Mask::Redact { text: None }, Family::Date) => constant("DATE '1970-01-01'"),
        (Mask::Redact { text: None }, Family::Timestamp) => constant("'1970-01-01 00:00:00'"),
        (Mask::Constant { value }, family) => constant(&typed(value, family).ok_or_else(unfit)?),
        (Mask::Phone, Family::Text(_)) => phone(column),
        (Mask::Card, Family::Text(_)) => card(column),
        (Mask::Truncate { unit: TimeUnit::Quarter | TimeUnit::Month }, Family::Date)
        | (Mask::Truncate { .. }, Family::Timestamp) => {
            let Mask::Truncate { unit } = mask else { return Err(unfit()) };
            format!("DATE_TRUNC('{}', {column})", unit.as_str())
        }
        (Mask::Partial { first, last }, Family::Text(_)) => partial(column, *first, *last),
        (Mask::Email, Family::Text(len)) => fitted(&email(column), len),
        (Mask::Hash, Family::Text(len)) => {
            let salt = with.hash_salt;
            if salt.is_empty() || salt.chars().any(char::is_control) {
                return Err(Unmaskable::Salt { column: name.clone() });
            }
            if len.is_some_and(|len| len < SHA256_CHARS) {
                return Err(unfit());
            }
            format!("SHA2({} || {column}, 256)", literal(salt))
        }
        (Mask::Sql { name: own }, family) => {
            let expression = with.expressions.get(own).ok_or_else(unfit)?;
            let value = expression.sql(column);
            match (expression.of(), family) {
                (ValueType::Text, Family::Text(len)) => fitted(&value, len),
                (ValueType::Number, Family::Number) => clamped(value, data_type),
                (ValueType::Boolean, Family::Boolean)
                | (ValueType::Date, Family::Date)
                | (ValueType::Timestamp, Family::Timestamp) => value,
                (
                    ValueType::Text | ValueType::Number | ValueType::Boolean | ValueType::Date | ValueType::Timestamp,
                    _,
                ) => return Err(unfit()),
            }
        }
        (Mask::Year, Family::Date | Family::Timestamp) => format!("DATE_TRUNC('year', {column})"),
        (Mask::Bucket { size }, Family::Number) => clamped(bucket(column, *size, data_type), data_type),
        (Mask::Round { size }, Family::Number) => clamped(round(column, *size, data_type), data_type),
        (
            Mask::Redact { text: Some(_) }
            | Mask::Partial { .. }
            | Mask::Email
            | Mask::Hash
            | Mask::Year
            | Mask::Phone
            | Mask::Card
            | Mask::Truncate { .. }
            | Mask::Round { .. }
            | Mask::Bucket { .. }
            | Mask::Result(_),
            _,
        ) => return Err(unfit()),
    };
    Ok(format!("CAST({value} AS {data_type})"))
}

/// No value of this type.
pub(crate) fn nothing(name: &ColumnName, data_type: &str) -> Result<String, Unmaskable> {
    let unfit = || Unmaskable::Type { column: name.clone(), mask: Box::new(Mask::Null), data_type: data_type.into() };
    family(data_type).ok_or_else(unfit)?;
    Ok(format!("CAST(NULL AS {data_type})"))
}

fn partial(column: &str, first: u32, last: u32) -> String {
    let kept = u64::from(first) + u64::from(last);
    let hidden = format!("REPEAT('*', LENGTH({column}) - {kept})");
    let start = (first > 0).then(|| format!("LEFT({column}, {first})"));
    let end = (last > 0).then(|| format!("RIGHT({column}, {last})"));
    let shown = [start, Some(hidden), end].into_iter().flatten().collect::<Vec<_>>().join(" || ");
    format!("CASE WHEN LENGTH({column}) <= {kept} THEN REPEAT('*', LENGTH({column})) ELSE {shown} END")
}

/// Digits tell a phone number, letters may; the signs between groups do not.
fn phone(column: &str) -> String {
    let kept = "[^-+ ()./]";
    let start = format!("REGEXP_REPLACE(LEFT({column}, LENGTH({column}) - 2), '{kept}', '*')");
    format!("CASE WHEN LENGTH({column}) <= 6 THEN REPEAT('*', LENGTH({column})) ELSE {start} || RIGHT({column}, 2) END")
}

/// As long as the value. With fewer than twelve digits it is no card number.
fn card(column: &str) -> String {
    let digits = format!("REGEXP_REPLACE({column}, '[^0-9]', '')");
    format!(
        "CASE WHEN LENGTH({digits}) < 12 THEN REPEAT('*', LENGTH({column})) ELSE REPEAT('*', LENGTH({column}) - 4) || RIGHT({digits}, 4) END"
    )
}

/// Down to a multiple. Without a division where numbers are exact: Snowflake rounds a quotient at its sixth digit.
fn bucket(column: &str, size: u64, data_type: &str) -> String {
    if is_float(data_type) {
        return format!("FLOOR({column} / {size}) * {size}");
    }
    let value = within(column, data_type);
    format!("{value} - MOD(MOD({value}, {size}) + {size}, {size})")
}

/// To the nearest multiple, from the middle away from zero.
fn round(column: &str, size: u64, data_type: &str) -> String {
    if is_float(data_type) {
        return format!("ROUND({column} / {size}) * {size}");
    }
    let value = within(column, data_type);
    let over = format!("MOD({value}, {size})");
    let more = format!(
        "CASE WHEN {over} + {over} >= {size} THEN {size} WHEN {over} + {over} <= -{size} THEN -{size} ELSE 0 END"
    );
    format!("{value} - {over} + {more}")
}

fn is_float(data_type: &str) -> bool {
    ["FLOAT", "DOUBLE", "REAL"].iter().any(|name| data_type.starts_with(name))
}

/// Far enough from the largest numbers there are for what is added here.
fn within(column: &str, data_type: &str) -> String {
    let (precision, scale) = digits(data_type).unwrap_or((PRECISION_MAX, 0));
    let whole = precision - scale;
    if precision < PRECISION_MAX || whole <= SIZE_DIGITS {
        return column.to_owned();
    }
    let limit = format!("{}{}", "9".repeat(whole - SIZE_DIGITS), "0".repeat(SIZE_DIGITS));
    format!("LEAST(GREATEST({column}, -{limit}), {limit})")
}

/// Most digits of a number, and digits of the largest size of a bucket.
const PRECISION_MAX: usize = 38;
const SIZE_DIGITS: usize = 13;

/// Digits of a number, and how many of them stand behind the point; `None` when its type says none.
fn digits(data_type: &str) -> Option<(usize, usize)> {
    let (_, parameters) = data_type.split_once('(')?;
    let mut digits = parameters.split(')').next()?.split(',').map(|text| text.trim().parse::<usize>());
    let precision = digits.next()?.ok().filter(|precision| (1..=PRECISION_MAX).contains(precision))?;
    let scale = digits.next().and_then(Result::ok).filter(|&scale| scale <= precision).unwrap_or(0);
    Some((precision, scale))
}

/// Held within the type: a cast that overflows would say which value did.
fn clamped(value: String, data_type: &str) -> String {
    let Some((precision, scale)) = digits(data_type).filter(|(precision, _)| *precision < PRECISION_MAX) else {
        return value;
    };
    let whole = if precision == scale { "0".to_owned() } else { "9".repeat(precision - scale) };
    let limit = if scale == 0 { whole } else { format!("{whole}.{}", "9".repeat(scale)) };
    format!("LEAST(GREATEST({value}, -{limit}), {limit})")
}

/// A constant of the type; `None` when the text is no value of it.
fn typed(value: &str, family: Family) -> Option<String> {
    match family {
        Family::Text(len) => {
            let fits = len.is_none_or(|len| u64::try_from(value.chars().count()).is_ok_and(|chars| chars <= len));
            fits.then(|| literal(value))
        }
        Family::Number => {
            let digits = value.strip_prefix('-').unwrap_or(value);
            let plain = !digits.is_empty() && digits.len() <= 9 && digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| value.to_owned())
        }
        Family::Boolean => match value {
            "true" => Some("TRUE".to_owned()),
            "false" => Some("FALSE".to_owned()),
            _ => None,
        },
        Family::Date | Family::Timestamp => {
            let shape = value.len() == 10
                && value
                    .bytes()
                    .zip("0000-00-00".bytes())
                    .all(|(c, s)| if s == b'0' { c.is_ascii_digit() } else { c == s });
            let within = |from: usize, to: usize, most: u32| {
                value.get(from..to).and_then(|text| text.parse().ok()).is_some_and(|n: u32| (1..=most).contains(&n))
            };
            (shape && within(5, 7, 12) && within(8, 10, 28)).then(|| format!("'{value}'"))
        }
        Family::Other => None,
    }
}

/// The domain is what follows the only `@`; without exactly one nothing is shown.
fn email(column: &str) -> String {
    let domain = format!("SPLIT_PART({column}, '@', 2)");
    let one = format!("LENGTH({column}) - LENGTH(REPLACE({column}, '@', '')) = 1");
    format!(
        "CASE WHEN {column} IS NULL THEN NULL WHEN {one} AND LENGTH({domain}) > 0 THEN '***@' || {domain} ELSE '***' END"
    )
}

/// Cut to the type's length: Snowflake does not cast a longer text to it.
fn fitted(value: &str, len: Option<u64>) -> String {
    match len {
        Some(len) => format!("LEFT({value}, {len})"),
        None => value.to_owned(),
    }
}

pub(crate) fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}

/// What a type holds; `None` when its text is not one that can stand in a CAST.
fn family(data_type: &str) -> Option<Family> {
    let plain = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || matches!(c, ' ' | '_' | '(' | ')' | ',');
    if !data_type.chars().all(plain) || !data_type.starts_with(|c: char| c.is_ascii_uppercase()) || !balanced(data_type)
    {
        return None;
    }
    let (base, parameters) = match data_type.split_once('(') {
        Some((base, rest)) => (base.trim(), rest.split(')').next()),
        None => (data_type.trim(), None),
    };
    let len = parameters.map(|text| text.trim().parse::<u64>());
    Some(match base {
        "VARCHAR" | "STRING" | "TEXT" | "NVARCHAR" | "NVARCHAR2" | "CHAR VARYING" | "NCHAR VARYING"
        | "CHARACTER VARYING" => match len {
            None => Family::Text(None),
            Some(Ok(len)) => Family::Text(Some(len)),
            Some(Err(_)) => return None,
        },
        "CHAR" | "CHARACTER" | "NCHAR" => match len {
            None => Family::Text(Some(1)),
            Some(Ok(len)) => Family::Text(Some(len)),
            Some(Err(_)) => return None,
        },
        "NUMBER" | "DECIMAL" | "DEC" | "NUMERIC" | "INT" | "INTEGER" | "BIGINT" | "SMALLINT" | "TINYINT"
        | "BYTEINT" | "FIXED" | "FLOAT" | "FLOAT4" | "FLOAT8" | "DOUBLE" | "DOUBLE PRECISION" | "REAL" => {
            Family::Number
        }
        "BOOLEAN" | "BOOL" => Family::Boolean,
        "DATE" => Family::Date,
        "DATETIME" | "TIMESTAMP" | "TIMESTAMP_NTZ" | "TIMESTAMP_LTZ" | "TIMESTAMP_TZ" | "TIMESTAMPNTZ"
        | "TIMESTAMPLTZ" | "TIMESTAMPTZ" => Family::Timestamp,
        _ => Family::Other,
    })
}

/// Whether a type holds text.
pub(crate) fn is_text(data_type: &str) -> bool {
    matches!(family(data_type), Some(Family::Text(_)))
}

fn balanced(text: &str) -> bool {
    let mut open = 0_i32;
    for c in text.chars() {
        open += i32::from(c == '(') - i32::from(c == ')');
        if open < 0 {
            return false;
        }
    }
    open == 0
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, sync::LazyLock};

    use icegate_pdp_model::{ColumnName, Mask, MaskExpression, ValueType};

    use super::{Family, family, literal, masked};
    use crate::rewrite::{Rewriting, Unmaskable};

    static NO_MASKS: BTreeMap<ColumnName, Mask> = BTreeMap::new();
    static OWN: LazyLock<BTreeMap<String, MaskExpression>> = LazyLock::new(|| {
        let read = |of, text| MaskExpression::read(of, text).unwrap();
        [
            ("start", read(ValueType::Text, "LEFT({column}, 2) || '…'")),
            ("tens", read(ValueType::Number, "ROUND({column} / 10) * 10")),
            ("month", read(ValueType::Date, "DATE_TRUNC('month', {column})")),
        ]
        .map(|(name, own)| (name.to_owned(), own))
        .into()
    });

    fn with(hash_salt: &str) -> Rewriting<'_> {
        Rewriting { masks: &NO_MASKS, row_filters: &[], names: &[], hash_salt, expressions: &OWN }
    }

    #[test]
    fn masks_of_ones_own_keep_type_and_length() {
        let column = "D.S.T.C".parse().unwrap();
        for (mask, data_type, sql) in [
            ("sql(start)", "VARCHAR", "CAST((LEFT(\"C\", 2) || '…') AS VARCHAR)"),
            ("sql(start)", "CHAR(2)", "CAST(LEFT((LEFT(\"C\", 2) || '…'), 2) AS CHAR(2))"),
            ("sql(tens)", "NUMBER(3,0)", "CAST(LEAST(GREATEST((ROUND((\"C\" / 10)) * 10), -999), 999) AS NUMBER(3,0))"),
            ("sql(month)", "DATE", "CAST(DATE_TRUNC('month', \"C\") AS DATE)"),
        ] {
            let written = masked(&mask.parse().unwrap(), "\"C\"", &column, data_type, &with(""));
            assert_eq!(written.as_deref(), Ok(sql), "{mask} {data_type}");
        }
    }

    #[test]
    fn types_are_sorted_or_refused() {
        for (text, wanted) in [
            ("VARCHAR", Some(Family::Text(None))),
            ("VARCHAR(50)", Some(Family::Text(Some(50)))),
            ("CHAR", Some(Family::Text(Some(1)))),
            ("NUMBER(12,2)", Some(Family::Number)),
            ("TIMESTAMP_NTZ(9)", Some(Family::Timestamp)),
            ("VARIANT", Some(Family::Other)),
            ("ARRAY(VARCHAR(5))", Some(Family::Other)),
            ("VARCHAR(x)", None),
            ("VARCHAR); DROP TABLE T; --", None),
            ("VARCHAR) AS X, (SSN", None),
            ("VARCHAR(50", None),
            ("", None),
        ] {
            assert_eq!(family(text), wanted, "`{text}`");
        }
    }

    #[test]
    fn masks_that_do_not_fit_are_refused() {
        let column = "D.S.T.C".parse().unwrap();
        for (mask, data_type) in [
            ("email", "NUMBER"),
            ("hash", "DATE"),
            ("hash", "VARCHAR(63)"),
            ("year", "VARCHAR"),
            ("bucket(10)", "DATE"),
            ("partial(last=4)", "NUMBER"),
            ("redact(x)", "NUMBER"),
            ("constant(x)", "NUMBER"),
            ("constant(maybe)", "BOOLEAN"),
            ("constant(2026-13-01)", "DATE"),
            ("constant(unknown)", "VARCHAR(5)"),
            ("constant(0)", "VARIANT"),
            ("phone", "NUMBER"),
            ("card", "NUMBER(16,0)"),
            ("truncate(day)", "DATE"),
            ("truncate(month)", "VARCHAR"),
            ("round(10)", "VARCHAR"),
            ("bucket(5)", "VARIANT"),
            ("null", "a) b"),
            ("sql(start)", "NUMBER"),
            ("sql(tens)", "VARCHAR"),
            ("sql(month)", "TIMESTAMP_NTZ"),
            ("sql(start)", "VARIANT"),
            ("sql(unheard)", "VARCHAR"),
        ] {
            let refused = masked(&mask.parse().unwrap(), "\"C\"", &column, data_type, &with("s"));
            assert!(matches!(refused, Err(Unmaskable::Type { .. })), "{mask} {data_type}: {refused:?}");
        }
        let unsalted = masked(&"hash".parse().unwrap(), "\"C\"", &column, "VARCHAR", &with(""));
        assert!(matches!(unsalted, Err(Unmaskable::Salt { .. })));
    }

    #[test]
    fn literals_cannot_end_early() {
        assert_eq!(literal(r"a'b\"), r"'a''b\\'");
    }
}
