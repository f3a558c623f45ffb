use std::{collections::BTreeMap, fmt, ops::RangeInclusive};

use icegate_pdp_model::{AttributeType, Mask, MaskExpression};
use serde::Deserialize;

use crate::problem::{Lint, Place, Problem, one_line};

/// Where settings stand in a bundle.
pub(crate) const SETTINGS_FILE: &str = "settings.yaml";
/// The salt of the starting set. It is public, so hashes made with it can be looked up by anybody.
pub const STARTER_HASH_SALT: &str = "starter-salt-change-me";
/// Characters a salt must have at least, and may have at most.
const HASH_SALT_CHARS: RangeInclusive<usize> = 16..=256;
/// The connection of a bundle without settings.
pub(crate) const DEFAULT_CONNECTION: &str = "default";
/// Longest name of a connection, in characters.
const CONNECTION_CHARS_MAX: usize = 100;

/// What a customer decides besides policies. Read from `settings.yaml`.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The id of the Cedar entity `Icegate::Connection`: which warehouse these policies are for.
    pub connection: String,
    /// Salt of `hash` masks, 16 to 256 characters. Required when a policy uses one.
    #[serde(default)]
    pub hash_salt: Option<String>,
    /// What policies may ask of a principal, and its type: `String`, `Long`, `Bool` or `Set<String>`. Which claim gives it
    /// is said in the configuration of the PDP, issuer by issuer.
    #[serde(default)]
    pub principal_attributes: BTreeMap<String, AttributeType>,
    /// Masks of one's own, by name: `@mask("sql(name)")`. Each says what columns it is for and what stands in their place:
    /// `{ of: text, sql: "LEFT({column}, 1) || '***'" }`.
    #[serde(default)]
    pub masks: BTreeMap<String, MaskExpression>,
    /// How long a statement may wait for its approval.
    #[serde(default = "approve_within_seconds")]
    pub approve_within_seconds: u32,
    /// How long an approval may be used, once given.
    #[serde(default = "execute_within_seconds")]
    pub execute_within_seconds: u32,
    /// How long a client's statement is held open while it waits.
    #[serde(default = "hold_seconds_max")]
    pub hold_seconds_max: u32,
    /// How long a decision may be reused; 0 = never.
    #[serde(default = "cache_seconds")]
    pub cache_seconds: u32,
    /// Longest text of a request.
    #[serde(default = "sql_bytes_max")]
    pub sql_bytes_max: usize,
    /// Most statements in a request.
    #[serde(default = "statements_max")]
    pub statements_max: usize,
    /// Deepest nesting of a statement.
    #[serde(default = "depth_max")]
    pub depth_max: usize,
}

fn approve_within_seconds() -> u32 {
    900
}
fn execute_within_seconds() -> u32 {
    600
}
fn hold_seconds_max() -> u32 {
    900
}
fn cache_seconds() -> u32 {
    60
}
fn sql_bytes_max() -> usize {
    256 * 1024
}
fn statements_max() -> usize {
    16
}
fn depth_max() -> usize {
    50
}

impl Settings {
    /// Settings with the defaults, for the connection of this name.
    pub fn of_connection(connection: impl Into<String>) -> Self {
        Self {
            connection: connection.into(),
            hash_salt: None,
            principal_attributes: BTreeMap::new(),
            masks: BTreeMap::new(),
            approve_within_seconds: approve_within_seconds(),
            execute_within_seconds: execute_within_seconds(),
            hold_seconds_max: hold_seconds_max(),
            cache_seconds: cache_seconds(),
            sql_bytes_max: sql_bytes_max(),
            statements_max: statements_max(),
            depth_max: depth_max(),
        }
    }

    /// Reads and checks `settings.yaml`. `None` comes with at least one problem.
    pub(crate) fn read(text: &str, problems: &mut Vec<Problem>, lints: &mut Vec<Lint>) -> Option<Self> {
        let place = Place::of_file(SETTINGS_FILE, text);
        let settings: Self = match serde_saphyr::from_str(text) {
            Ok(settings) => settings,
            Err(error) => {
                problems.push(yaml_problem(
                    SETTINGS_FILE,
                    &error,
                    "write `key: value` with the keys of README.md; masks of your own use the functions listed there",
                ));
                return None;
            }
        };
        let before = problems.len();
        let mut refuse = |key: &str, reason: String, remedy: &str| {
            problems.push(place.problem(offset_of(text, key), reason, remedy));
        };
        let ranges = [
            ("approve_within_seconds", u64::from(settings.approve_within_seconds), 10..=604_800),
            ("execute_within_seconds", u64::from(settings.execute_within_seconds), 10..=86_400),
            ("hold_seconds_max", u64::from(settings.hold_seconds_max), 1..=3_600),
            ("cache_seconds", u64::from(settings.cache_seconds), 0..=3_600),
            ("sql_bytes_max", settings.sql_bytes_max as u64, 1_024..=16_777_216),
            ("statements_max", settings.statements_max as u64, 1..=256),
            ("depth_max", settings.depth_max as u64, 10..=200),
        ];
        for (key, value, range) in ranges {
            if !range.contains(&value) {
                let wanted = format!("give a number from {} to {}", range.start(), range.end());
                refuse(key, format!("`{key}` is {value}"), &wanted);
            }
        }
        let name = &settings.connection;
        if name.is_empty() || name.chars().count() > CONNECTION_CHARS_MAX || name.chars().any(char::is_control) {
            refuse("connection", "`connection` is not a name".into(), "give 1 to 100 printable characters");
        }
        for name in settings.principal_attributes.keys().filter(|name| !AttributeType::is_name(name)) {
            let reason = format!("`principal_attributes` has `{name}`, which is no name");
            refuse(
                "principal_attributes",
                reason,
                "give lower-case letters, digits and `_`, and none of Cedar's words",
            );
        }
        for name in settings.masks.keys().filter(|name| !Mask::is_own_name(name)) {
            let reason = format!("`masks` has `{name}`, which is no name of a mask");
            refuse("masks", reason, "give 1 to 50 lower-case letters, digits, `-` and `_`");
        }
        if let Some(salt) = &settings.hash_salt {
            let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '\'' | '"' | '\\');
            if !HASH_SALT_CHARS.contains(&salt.chars().count()) || !salt.chars().all(plain) {
                refuse(
                    "hash_salt",
                    "`hash_salt` does not make a salt".into(),
                    "give 16 to 256 letters, digits and signs without blanks, quotes and backslashes, \
                     as from `openssl rand -hex 24`",
                );
            } else if salt == STARTER_HASH_SALT {
                lints.push(Lint {
                    policy: None,
                    file: SETTINGS_FILE.to_owned(),
                    line: place.line_column(offset_of(text, "hash_salt")).0,
                    message:
                        "`hash_salt` is the one of the starting set, which everybody knows; set your own, as from \
                              `openssl rand -hex 24`"
                            .into(),
                });
            }
        }
        (problems.len() == before).then_some(settings)
    }
}

/// The salt is a secret.
impl fmt::Debug for Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Settings")
            .field("connection", &self.connection)
            .field("hash_salt", &self.hash_salt.as_ref().map(|_| "***"))
            .field("principal_attributes", &self.principal_attributes)
            .field("masks", &self.masks.keys())
            .field("approve_within_seconds", &self.approve_within_seconds)
            .field("execute_within_seconds", &self.execute_within_seconds)
            .field("hold_seconds_max", &self.hold_seconds_max)
            .field("cache_seconds", &self.cache_seconds)
            .field("sql_bytes_max", &self.sql_bytes_max)
            .field("statements_max", &self.statements_max)
            .field("depth_max", &self.depth_max)
            .finish()
    }
}

/// Byte offset of the line that sets `key`, 0 when there is none.
fn offset_of(text: &str, key: &str) -> usize {
    let mut offset = 0;
    for line in text.split_inclusive('\n') {
        if line.strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with(':')) {
            return offset;
        }
        offset += line.len();
    }
    0
}

/// What the YAML reader says, where it points.
pub(crate) fn yaml_problem(file: &str, error: &serde_saphyr::Error, remedy: &str) -> Problem {
    let place = error.location();
    let number = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    // The reader's own rendering may quote lines of the file; settings hold a secret.
    Problem {
        file: file.to_owned(),
        line: place.map_or(0, |place| number(place.line())),
        column: place.map_or(0, |place| number(place.column())),
        reason: one_line(&error.without_snippet().to_string()),
        remedy: remedy.to_owned(),
    }
}
