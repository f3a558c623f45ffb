//! Masks as SQL. Each keeps the column's type, and NULL stays NULL unless the mask is `null`.

use icegate_pdp_model::{ColumnName, Mask};

use crate::rewrite::Unmaskable;

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
    salt: &str,
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
        (Mask::Partial { first, last }, Family::Text(_)) => partial(column, *first, *last),
        (Mask::Email, Family::Text(len)) => fitted(&email(column), len),
        (Mask::Hash, Family::Text(len)) => {
            if salt.is_empty() || salt.chars().any(char::is_control) {
                return Err(Unmaskable::Salt { column: name.clone() });
            }
            if len.is_some_and(|len| len < SHA256_CHARS) {
                return Err(unfit());
            }
            format!("SHA2({} || {column}, 256)", literal(salt))
        }
        (Mask::Year, Family::Date | Family::Timestamp) => format!("DATE_TRUNC('year', {column})"),
        (Mask::Bucket { size }, Family::Number) => format!("FLOOR({column} / {size}) * {size}"),
        (
            Mask::Redact { text: Some(_) }
            | Mask::Partial { .. }
            | Mask::Email
            | Mask::Hash
            | Mask::Year
            | Mask::Bucket { .. },
            _,
        ) => return Err(unfit()),
    };
    Ok(format!("CAST({value} AS {data_type})"))
}

/// No value of this type.
pub(crate) fn nothing(name: &ColumnName, data_type: &str) -> Result<String, Unmaskable> {
    masked(&Mask::Null, "", name, data_type, "")
}

fn partial(column: &str, first: u32, last: u32) -> String {
    let kept = u64::from(first) + u64::from(last);
    let hidden = format!("REPEAT('*', LENGTH({column}) - {kept})");
    let start = (first > 0).then(|| format!("LEFT({column}, {first})"));
    let end = (last > 0).then(|| format!("RIGHT({column}, {last})"));
    let shown = [start, Some(hidden), end].into_iter().flatten().collect::<Vec<_>>().join(" || ");
    format!("CASE WHEN LENGTH({column}) <= {kept} THEN REPEAT('*', LENGTH({column})) ELSE {shown} END")
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

fn literal(text: &str) -> String {
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
    use super::{Family, family, literal, masked};
    use crate::rewrite::Unmaskable;

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
            ("bucket(5)", "VARIANT"),
            ("null", "a) b"),
        ] {
            let refused = masked(&mask.parse().unwrap(), "\"C\"", &column, data_type, "s");
            assert!(matches!(refused, Err(Unmaskable::Type { .. })), "{mask} {data_type}: {refused:?}");
        }
        let unsalted = masked(&"hash".parse().unwrap(), "\"C\"", &column, "VARCHAR", "");
        assert!(matches!(unsalted, Err(Unmaskable::Salt { .. })));
    }

    #[test]
    fn literals_cannot_end_early() {
        assert_eq!(literal(r"a'b\"), r"'a''b\\'");
    }
}
