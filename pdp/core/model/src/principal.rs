use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// Who a verified token speaks for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Principal {
    /// `<issuer name>/<principal claim>`: the id of the Cedar entity `Icegate::User`.
    pub id: String,
    /// `iss` of the token, exactly as signed.
    #[serde(default)]
    pub issuer: String,
    /// `sub` of the token.
    #[serde(default)]
    pub subject: String,
    /// Groups the token names.
    #[serde(default)]
    pub groups: BTreeSet<String>,
    /// The agent the token says is acting; `None` is unknown, never "a human".
    #[serde(default)]
    pub agent: Option<Agent>,
    /// What else the token says that policies may ask for, by the attribute's name in Cedar.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub attributes: BTreeMap<String, Attribute>,
}

/// A claim's value as policies see it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Attribute {
    /// A boolean.
    Bool(bool),
    /// A whole number.
    Long(i64),
    /// Text.
    Text(String),
    /// Several texts, in no order.
    Texts(BTreeSet<String>),
}

/// A program that acts for a principal.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agent {
    /// As the issuer names it, for example `github-copilot`.
    pub id: String,
    /// How far the claim can be trusted.
    pub assurance: Assurance,
}

/// How far a claim about provenance can be trusted, weakest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Assurance {
    /// Nothing is known.
    #[default]
    Unknown = 0,
    /// Guessed from what the client's software says of itself.
    Inferred = 1,
    /// Said in band on an authenticated channel, unsigned.
    Declared = 3,
    /// Signed by a trusted issuer.
    Attested = 4,
}

impl Assurance {
    /// The word used in records and in Cedar.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Inferred => "inferred",
            Self::Declared => "declared",
            Self::Attested => "attested",
        }
    }
}
