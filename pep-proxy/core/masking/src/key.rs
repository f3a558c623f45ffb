//! Keys of masks: where they come from, which is in force, and that they are never shown.

use std::{collections::BTreeMap, fmt, str::FromStr, sync::Arc};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Serialize};
use sha2_keyed::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

/// Bytes of a key.
pub const KEY_BYTES: usize = 32;
/// Longest key file, in bytes.
pub const FILE_BYTES_MAX: usize = 1 << 20;
/// Longest name or id of a key, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// One key: wiped from memory when dropped; `Debug` shows its name and id only.
pub struct Key {
    name: String,
    id: String,
    bytes: Zeroizing<[u8; KEY_BYTES]>,
}

impl Key {
    /// A key from wherever it is kept.
    pub fn new(name: impl Into<String>, id: impl Into<String>, bytes: Zeroizing<[u8; KEY_BYTES]>) -> Self {
        Self { name: name.into(), id: id.into(), bytes }
    }

    /// What policies call it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Which of the keys of this name it is.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A key for one purpose, so that no two algorithms share one.
    pub(crate) fn derive(&self, purpose: &str) -> Zeroizing<[u8; KEY_BYTES]> {
        let mut mac = keyed(&self.bytes);
        mac.update(b"icegate masking 1\0");
        mac.update(purpose.as_bytes());
        Zeroizing::new(mac.finalize().into_bytes().into())
    }
}

/// HMAC-SHA-256 under a key; its state is wiped when dropped.
pub(crate) fn keyed(bytes: &[u8; KEY_BYTES]) -> Hmac<Sha256> {
    // One block of SHA-256: such a key is padded, not hashed, and cannot be of a wrong length.
    let mut block = Zeroizing::new([0; 64]);
    for (into, byte) in block.iter_mut().zip(bytes) {
        *into = *byte;
    }
    Hmac::<Sha256>::new((&*block).into())
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}@{})", self.name, self.id)
    }
}

/// How a policy names a key: `customers`, the one in force, or `customers@2025-11`, that one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct KeyRef {
    /// The name.
    pub name: String,
    /// The id; nothing for the key in force.
    pub id: Option<String>,
}

impl FromStr for KeyRef {
    type Err = KeyError;

    fn from_str(text: &str) -> Result<Self, KeyError> {
        let (name, id) = match text.split_once('@') {
            None => (text, None),
            Some((name, id)) => (name, Some(id)),
        };
        if !is_name(name) || id.is_some_and(|id| !is_name(id)) {
            return Err(KeyError::Reference(text.chars().take(NAME_BYTES_MAX).collect()));
        }
        Ok(Self { name: name.to_owned(), id: id.map(ToOwned::to_owned) })
    }
}

impl fmt::Display for KeyRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.id {
            None => f.write_str(&self.name),
            Some(id) => write!(f, "{}@{id}", self.name),
        }
    }
}

impl From<KeyRef> for String {
    fn from(key: KeyRef) -> Self {
        key.to_string()
    }
}

impl TryFrom<String> for KeyRef {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        text.parse()
    }
}

fn is_name(text: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

/// Where keys are looked up: a [`KeyRing`] read from a file, or a shell's copy of what its key service holds. A shell that asks
/// a key service asks it before the plan is made, not per cell.
pub trait KeySource {
    /// The key that is meant.
    ///
    /// # Errors
    ///
    /// There is none: the read must be refused.
    fn key(&self, wanted: &KeyRef) -> Result<Arc<Key>, KeyError>;
}

/// Why there is no key. No message holds one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum KeyError {
    /// Not a name, nor a name with an id.
    #[error("`{0}` does not name a key; write `name` or `name@id`, of letters, digits and any of - _ .")]
    Reference(String),
    /// No such key.
    #[error("there is no key `{0}`; add it to the key file")]
    Missing(String),
    /// The file is not a key file.
    #[error("key file, line {line}: {why}")]
    File {
        /// Which line, from 1.
        line: usize,
        /// What is wrong with it.
        why: &'static str,
    },
}

/// The keys of a key file.
///
/// A line is `name id key`, the key 32 random bytes in base64; blank lines and lines that start with `#` are passed over. Of
/// several lines of one name the first is in force, and the others are old keys that can still be named.
#[derive(Debug, Default, Clone)]
pub struct KeyRing {
    keys: BTreeMap<String, Vec<Arc<Key>>>,
}

impl KeyRing {
    /// Reads the text of a key file.
    ///
    /// # Errors
    ///
    /// A line that is not a key, an id given twice, the same key twice, or a file over the limit.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        if text.len() > FILE_BYTES_MAX {
            return Err(KeyError::File { line: 1, why: "the file is longer than 1 MiB" });
        }
        let mut ring = Self::default();
        for (index, line) in text.lines().enumerate() {
            if !line.trim().is_empty() && !line.trim_start().starts_with('#') {
                ring.add(line).map_err(|why| KeyError::File { line: index + 1, why })?;
            }
        }
        Ok(ring)
    }

    fn add(&mut self, line: &str) -> Result<(), &'static str> {
        let mut words = line.split_ascii_whitespace();
        let (Some(name), Some(id), Some(encoded), None) = (words.next(), words.next(), words.next(), words.next())
        else {
            return Err("a line is a name, an id and a key");
        };
        if !is_name(name) || !is_name(id) {
            return Err("a name or id has 1 to 64 letters, digits and any of - _ .");
        }
        let decoded = Zeroizing::new(STANDARD.decode(encoded).map_err(|_| "the key is not base64")?);
        let bytes: [u8; KEY_BYTES] = decoded.as_slice().try_into().map_err(|_| "the key is not 32 bytes long")?;
        let bytes = Zeroizing::new(bytes);
        if bytes.iter().all(|byte| *byte == 0) {
            return Err("the key is all zeros; make one with `openssl rand -base64 32`");
        }
        if self.keys.values().flatten().any(|key| *key.bytes == *bytes) {
            return Err("this key stands on another line already");
        }
        let keys = self.keys.entry(name.to_owned()).or_default();
        if keys.iter().any(|key| key.id == id) {
            return Err("this name has a key of this id already");
        }
        keys.push(Arc::new(Key::new(name, id, bytes)));
        Ok(())
    }

    /// The key in force.
    pub fn current(&self, name: &str) -> Option<Arc<Key>> {
        self.keys.get(name)?.first().cloned()
    }

    /// Every key, by name; of one name the one in force first.
    pub fn keys(&self) -> impl Iterator<Item = &Key> {
        self.keys.values().flatten().map(AsRef::as_ref)
    }
}

impl KeySource for KeyRing {
    fn key(&self, wanted: &KeyRef) -> Result<Arc<Key>, KeyError> {
        let of_name = self.keys.get(&wanted.name).map(Vec::as_slice).unwrap_or_default();
        let found = match &wanted.id {
            None => of_name.first(),
            Some(id) => of_name.iter().find(|key| key.id == *id),
        };
        found.cloned().ok_or_else(|| KeyError::Missing(wanted.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const B: &str = "//////////////////////////////////////////8=";

    #[test]
    fn the_first_line_of_a_name_is_in_force_and_old_ones_can_be_named() {
        let ring = KeyRing::parse(&format!("# keys\n\ncrm 2026-11 {A}\ncrm 2025-11 {B}\n")).unwrap();
        assert_eq!(ring.current("crm").unwrap().id(), "2026-11");
        assert_eq!(ring.key(&"crm".parse().unwrap()).unwrap().id(), "2026-11");
        assert_eq!(ring.key(&"crm@2025-11".parse().unwrap()).unwrap().id(), "2025-11");
        let missing = ring.key(&"crm@2024".parse().unwrap()).unwrap_err();
        assert_eq!(missing.to_string(), "there is no key `crm@2024`; add it to the key file");
        assert_eq!(ring.keys().map(Key::id).collect::<Vec<_>>(), ["2026-11", "2025-11"]);
    }

    #[test]
    fn bad_lines_are_named_and_not_shown() {
        for (file, why) in [
            ("crm 1", "line 1: a line is a name, an id and a key"),
            ("\ncrm 1 %%%%", "line 2: the key is not base64"),
            ("crm 1 c2VjcmV0", "line 1: the key is not 32 bytes long"),
            ("c/m 1 c2VjcmV0", "line 1: a name or id has 1 to 64 letters, digits and any of - _ ."),
            (&format!("crm 1 {A}\ncrm 1 {B}"), "line 2: this name has a key of this id already"),
            (&format!("crm 1 {A}\ncrm 2 {A}"), "line 2: this key stands on another line already"),
            (
                "crm 1 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
                "line 1: the key is all zeros; make one with `openssl rand -base64 32`",
            ),
        ] {
            let error = KeyRing::parse(file).unwrap_err().to_string();
            assert_eq!(error, format!("key file, {why}"), "{file}");
        }
        for reference in ["", "a b", "crm@", "@1", "crm@1@2"] {
            assert!(reference.parse::<KeyRef>().is_err(), "{reference}");
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let ring = KeyRing::parse(&format!("crm 2026-11 {A}")).unwrap();
        assert_eq!(format!("{ring:?}"), r#"KeyRing { keys: {"crm": [Key(crm@2026-11)]} }"#);
    }

    /// RFC 4231, test case 2 with its key padded: HMAC pads a short key with zeros itself.
    #[test]
    fn the_mac_is_hmac_sha_256() {
        let mut key = [0; KEY_BYTES];
        key[..4].copy_from_slice(b"Jefe");
        let mut mac = keyed(&key);
        mac.update(b"what do ya want for nothing?");
        let tag = mac.finalize().into_bytes();
        let hex = tag.iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
        assert_eq!(hex, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
