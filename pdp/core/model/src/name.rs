use std::{cmp::Ordering, fmt, str::FromStr, sync::Arc};

use serde::{Deserialize, Serialize, de::Error as _};
use thiserror::Error;

/// Longest identifier Snowflake accepts, in characters (Snowflake docs, "Identifier requirements").
const IDENTIFIER_CHARS_MAX: usize = 255;

/// A normalised name of one or more parts: unquoted identifiers already folded to upper case.
///
/// `Display` joins the parts with `.` and quotes a part that is not a plain upper-case identifier, so two different
/// names never print alike; `FromStr` reads that form back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectName(Vec<String>);

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum NameError {
    /// No parts, or an empty part.
    #[error("`{0}` has an empty part")]
    EmptyPart(String),
    /// A quoted part is not closed, or something follows its closing quote.
    #[error("`{0}` has a stray or missing double quote")]
    Quote(String),
    /// A part is longer than Snowflake accepts.
    #[error("`{0}` has a part of more than {IDENTIFIER_CHARS_MAX} characters")]
    TooLong(String),
    /// The number of parts is not what this name needs.
    #[error("`{name}` has {found} parts where {wanted} are needed")]
    Parts {
        /// The name as written.
        name: String,
        /// Parts it has.
        found: usize,
        /// Parts it needs.
        wanted: usize,
    },
}

impl ObjectName {
    /// A name of these parts, already folded.
    pub fn new<I, S>(parts: I) -> Self
    where
        I: IntoIterator<Item = S>,
        S: Into<String>,
    {
        Self(parts.into_iter().map(Into::into).collect())
    }

    /// The parts, outermost first.
    pub fn parts(&self) -> &[String] {
        &self.0
    }

    /// The last part.
    pub fn last(&self) -> &str {
        self.0.last().map_or("", String::as_str)
    }
}

impl fmt::Display for ObjectName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str(".")?;
            }
            write_part(f, part)?;
        }
        Ok(())
    }
}

impl FromStr for ObjectName {
    type Err = NameError;

    /// Reads dotted parts; an unquoted part folds to upper case, a quoted one is kept.
    fn from_str(text: &str) -> Result<Self, NameError> {
        let mut parts = Vec::new();
        let mut chars = text.chars().peekable();
        loop {
            let mut part = String::new();
            if chars.peek() == Some(&'"') {
                chars.next();
                loop {
                    match chars.next() {
                        Some('"') if chars.peek() == Some(&'"') => {
                            chars.next();
                            part.push('"');
                        }
                        Some('"') => break,
                        Some(other) => part.push(other),
                        None => return Err(NameError::Quote(text.to_owned())),
                    }
                }
            } else {
                while let Some(&next) = chars.peek() {
                    match next {
                        '.' => break,
                        '"' => return Err(NameError::Quote(text.to_owned())),
                        other => part.extend(other.to_uppercase()),
                    }
                    chars.next();
                }
            }
            if part.is_empty() {
                return Err(NameError::EmptyPart(text.to_owned()));
            }
            if part.chars().count() > IDENTIFIER_CHARS_MAX {
                return Err(NameError::TooLong(text.to_owned()));
            }
            parts.push(part);
            match chars.next() {
                None => return Ok(Self(parts)),
                Some('.') => {}
                Some(_) => return Err(NameError::Quote(text.to_owned())),
            }
        }
    }
}

impl TryFrom<String> for ObjectName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ObjectName> for String {
    fn from(name: ObjectName) -> Self {
        name.to_string()
    }
}

/// Full name of a table or view.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationName {
    /// Database, folded.
    pub database: String,
    /// Schema, folded.
    pub schema: String,
    /// Table or view, folded.
    pub name: String,
}

impl RelationName {
    /// A name of these parts, already folded.
    pub fn new(database: impl Into<String>, schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { database: database.into(), schema: schema.into(), name: name.into() }
    }

    /// The name of these parts, already folded, when they are those of a relation.
    pub fn of(parts: &[String]) -> Option<Self> {
        let [database, schema, name] = parts else { return None };
        Some(Self::new(database, schema, name))
    }
}

impl fmt::Display for RelationName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_part(f, &self.database)?;
        f.write_str(".")?;
        write_part(f, &self.schema)?;
        f.write_str(".")?;
        write_part(f, &self.name)
    }
}

impl FromStr for RelationName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let ObjectName(parts) = text.parse()?;
        match <[String; 3]>::try_from(parts) {
            Ok([database, schema, name]) => Ok(Self { database, schema, name }),
            Err(parts) => Err(NameError::Parts { name: text.to_owned(), found: parts.len(), wanted: 3 }),
        }
    }
}

impl From<&RelationName> for ObjectName {
    fn from(name: &RelationName) -> Self {
        Self::new([&name.database, &name.schema, &name.name].map(String::as_str))
    }
}

/// Full name of a column. Its parts are shared: one statement's lineage names the same columns many times over.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ColumnName {
    /// The table or view it belongs to.
    pub relation: Arc<RelationName>,
    /// The column, folded.
    pub column: Arc<str>,
}

impl ColumnName {
    /// The column `column`, already folded, of `relation`.
    pub fn new(relation: impl Into<Arc<RelationName>>, column: impl Into<Arc<str>>) -> Self {
        Self { relation: relation.into(), column: column.into() }
    }
}

impl Ord for ColumnName {
    fn cmp(&self, other: &Self) -> Ordering {
        let same = Arc::ptr_eq(&self.relation, &other.relation);
        let relations = if same { Ordering::Equal } else { self.relation.cmp(&other.relation) };
        relations.then_with(|| self.column.cmp(&other.column))
    }
}

impl PartialOrd for ColumnName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for ColumnName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.", self.relation)?;
        write_part(f, &self.column)
    }
}

impl FromStr for ColumnName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let ObjectName(parts) = text.parse()?;
        match <[String; 4]>::try_from(parts) {
            Ok([database, schema, name, column]) => Ok(Self::new(RelationName { database, schema, name }, column)),
            Err(parts) => Err(NameError::Parts { name: text.to_owned(), found: parts.len(), wanted: 4 }),
        }
    }
}

/// Serialises through `Display` and `FromStr`, so that every file and record writes names alike.
macro_rules! serde_as_text {
    ($name:ty) => {
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
            }
        }
    };
}
serde_as_text!(RelationName);
serde_as_text!(ColumnName);

fn write_part(f: &mut fmt::Formatter<'_>, part: &str) -> fmt::Result {
    if is_plain(part) { f.write_str(part) } else { write!(f, "\"{}\"", part.replace('"', "\"\"")) }
}

/// Whether the part means itself without quotes.
fn is_plain(part: &str) -> bool {
    let mut bytes = part.bytes();
    bytes.next().is_some_and(|first| first.is_ascii_uppercase() || first == b'_')
        && bytes.all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_' || byte == b'$')
}

#[cfg(test)]
mod tests {
    use super::{NameError, ObjectName};

    fn check(text: &str, parts: &[&str], printed: &str) {
        let name: ObjectName = text.parse().unwrap();
        assert_eq!(name.parts(), parts);
        assert_eq!(name.to_string(), printed);
        assert_eq!(printed.parse::<ObjectName>().unwrap(), name, "what prints reads back");
    }

    #[test]
    fn names_fold_quote_and_read_back() {
        check("sales.public.t1", &["SALES", "PUBLIC", "T1"], "SALES.PUBLIC.T1");
        check(r#"a."b.c""#, &["A", "b.c"], r#"A."b.c""#);
        check(r#""A""#, &["A"], "A");
        check(r#""sa""y""#, &["sa\"y"], r#""sa""y""#);
        check("größe", &["GRÖSSE"], r#""GRÖSSE""#);
    }

    #[test]
    fn what_is_not_a_name_says_why() {
        for (text, wanted) in [
            ("", NameError::EmptyPart(String::new())),
            ("a..b", NameError::EmptyPart("a..b".into())),
            ("\"a", NameError::Quote("\"a".into())),
            ("\"a\"b", NameError::Quote("\"a\"b".into())),
            ("a\"b", NameError::Quote("a\"b".into())),
        ] {
            assert_eq!(text.parse::<ObjectName>().unwrap_err(), wanted);
        }
    }
}
