use crate::refusal::one_line;

/// Characters of an identifier. Snowflake docs, "Identifier requirements", read 2026-11.
const IDENTIFIER_CHARS_MAX: usize = 255;

/// Database, schema, role and warehouse a login asks for, as Snowflake stores them: unquoted names in upper case,
/// quoted ones without their quotes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RequestedNames {
    /// Database.
    pub database: Option<String>,
    /// Schema.
    pub schema: Option<String>,
    /// Role.
    pub role: Option<String>,
    /// Warehouse.
    pub warehouse: Option<String>,
}

/// A name that is no identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("The {what} `{name}` is not a name Snowflake reads without quotes; write it in double quotes.")]
pub struct NameError {
    what: &'static str,
    name: String,
}

impl RequestedNames {
    /// Folds what the query string carries. Empty is the same as absent.
    ///
    /// # Errors
    ///
    /// A name that is no identifier.
    pub fn fold(
        database: Option<&str>,
        schema: Option<&str>,
        role: Option<&str>,
        warehouse: Option<&str>,
    ) -> Result<Self, NameError> {
        let fold = |what, text: Option<&str>| {
            text.map(str::trim)
                .filter(|text| !text.is_empty())
                .map(|text| folded(text).ok_or_else(|| NameError { what, name: one_line(text, 64) }))
                .transpose()
        };
        Ok(Self {
            database: fold("database", database)?,
            schema: fold("schema", schema)?,
            role: fold("role", role)?,
            warehouse: fold("warehouse", warehouse)?,
        })
    }
}

/// A stored name as it is written in SQL or in a login: bare when that reads back the same, else quoted.
pub fn identifier_text(name: &str) -> String {
    if folded(name).as_deref() == Some(name) && !name.starts_with('"') {
        return name.to_owned();
    }
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn folded(text: &str) -> Option<String> {
    let name = if let Some(rest) = text.strip_prefix('"') {
        let inner = rest.strip_suffix('"')?;
        if inner.replace("\"\"", "").contains('"') {
            return None;
        }
        inner.replace("\"\"", "\"")
    } else {
        let first = text.bytes().next()?;
        let begins = first.is_ascii_alphabetic() || first == b'_';
        let goes_on = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$'));
        if !begins || !goes_on {
            return None;
        }
        text.to_ascii_uppercase()
    };
    let sound = !name.is_empty() && name.chars().count() <= IDENTIFIER_CHARS_MAX && !name.chars().any(char::is_control);
    sound.then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folds_as_snowflake_does() {
        for (text, name) in [
            ("sales", Some("SALES")),
            ("_x$1", Some("_X$1")),
            (r#""Sales ""EU""""#, Some(r#"Sales "EU""#)),
            (r#""sales"#, None),
            (r#""a"b""#, None),
            (r#""""#, None),
            ("1abc", None),
            ("my-db", None),
            ("a.b", None),
            ("grün", None),
        ] {
            assert_eq!(folded(text).as_deref(), name, "{text}");
        }
    }

    #[test]
    fn is_written_so_that_it_reads_back() {
        for name in ["SALES", "sales", "my-db", r#"a"b"#, r#""a""#] {
            assert_eq!(folded(&identifier_text(name)).as_deref(), Some(name));
        }
    }
}
