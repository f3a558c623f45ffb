//! Protected places inside a VARIANT or OBJECT.

use std::{collections::BTreeSet, fmt, str::FromStr};

use super::{CatalogColumn, CatalogRelation};

/// Most protected paths of one column.
pub const PATHS_MAX: usize = 32;
/// Most keys of one path.
pub const PATH_KEYS_MAX: usize = 8;
/// Longest key of a path, in characters.
const KEY_CHARS_MAX: usize = 64;

/// A protected place inside a column: policies are asked about it as about a column of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogPath {
    /// Where it is.
    pub keys: PathKeys,
    /// The type of what stands there, upper case. What is of another type there is hidden.
    pub data_type: String,
    /// Classification, as of a column.
    pub tags: BTreeSet<String>,
}

/// Keys from the outside in, as in `user.email`. They are compared to the letter, as Snowflake does: `User` is another key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathKeys(Vec<String>);

impl PathKeys {
    /// The keys.
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for PathKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("."))
    }
}

/// The text is no path; the message says what one is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no path; write 1 to {PATH_KEYS_MAX} keys of letters, digits, `_` and `-` joined by dots, as in `user.email`, and of what is in an array the path of the array"
)]
pub struct NoPath(String);

impl FromStr for PathKeys {
    type Err = NoPath;

    fn from_str(text: &str) -> Result<Self, NoPath> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
        let key = |key: &str| !key.is_empty() && key.len() <= KEY_CHARS_MAX && key.chars().all(plain);
        let keys: Vec<String> = text.split('.').map(ToOwned::to_owned).collect();
        if keys.len() <= PATH_KEYS_MAX && keys.iter().all(|it| key(it)) {
            Ok(Self(keys))
        } else {
            Err(NoPath(text.into()))
        }
    }
}

impl CatalogColumn {
    /// The name policies and masks know a path of this column by: `PAYLOAD:user.email`.
    pub fn path_name(&self, path: &CatalogPath) -> String {
        format!("{}:{}", self.name, path.keys)
    }
}

impl CatalogRelation {
    /// [`Self::tags_of`], to add some.
    pub(super) fn tags_of_mut(&mut self, name: &str) -> Option<&mut BTreeSet<String>> {
        for column in &mut self.columns {
            if column.name == name {
                return Some(&mut column.tags);
            }
            let named = column.paths.iter().position(|path| column.path_name(path) == name);
            if let Some(path) = named.and_then(|at| column.paths.get_mut(at)) {
                return Some(&mut path.tags);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::PathKeys;

    #[test]
    fn a_path_is_plain_keys() {
        for (text, keys) in [("user.email", 2), ("User", 1), ("a-b._c.9", 3)] {
            let path: PathKeys = text.parse().unwrap();
            assert_eq!((path.as_slice().len(), path.to_string()), (keys, text.to_owned()));
        }
        for text in ["", ".", "a.", "a..b", "a[0]", "a['b']", "a b", "a:b", "é", "a'b", "a.b.c.d.e.f.g.h.i"] {
            assert!(text.parse::<PathKeys>().is_err(), "{text}");
        }
    }
}
