//! Text that must not be seen.

use std::fmt;

use zeroize::Zeroizing;

/// A token or password: wiped from memory when dropped, never in `Debug` output, never serialised by accident.
#[derive(Clone, Default)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes the text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text itself, for the one place that sends it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Whether it stands in a text that others see.
    pub(crate) fn stands_in(&self, text: &str) -> bool {
        self.is_telling() && text.contains(self.expose())
    }

    /// Whether it stands in JSON that others see, however its characters are escaped there.
    pub(crate) fn stands_in_json(&self, json: &[u8]) -> bool {
        self.is_telling() && occurs_in_json(self.expose(), json)
    }

    /// Shorter text is no credential of Snowflake's and occurs by chance.
    fn is_telling(&self) -> bool {
        const CREDENTIAL_BYTES_MIN: usize = 8;
        self.expose().len() >= CREDENTIAL_BYTES_MIN
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Whether `secret` occurs in JSON text, however its characters are escaped there.
///
/// One pass, whatever the length: results of hundreds of megabytes go through here.
fn occurs_in_json(secret: &str, json: &[u8]) -> bool {
    let needle = secret.as_bytes();
    if needle.is_empty() {
        return false;
    }
    let fallback = fallback_table(needle);
    let mut matched = 0;
    let mut feed = |byte: u8| {
        while matched > 0 && needle.get(matched) != Some(&byte) {
            matched = matched.checked_sub(1).and_then(|last| fallback.get(last)).copied().unwrap_or(0);
        }
        if needle.get(matched) == Some(&byte) {
            matched += 1;
        }
        matched == needle.len()
    };
    let mut rest = json.iter().copied();
    while let Some(byte) = rest.next() {
        let found = if byte == b'\\' { unescape(&mut rest).into_iter().any(&mut feed) } else { feed(byte) };
        if found {
            return true;
        }
    }
    false
}

/// What the escape after a backslash stands for. Credentials are ASCII, so what is not becomes one byte that matches nothing.
fn unescape(rest: &mut impl Iterator<Item = u8>) -> Option<u8> {
    const NO_MATCH: u8 = 0xff;
    match rest.next()? {
        b'b' => Some(8),
        b'f' => Some(12),
        b'n' => Some(b'\n'),
        b'r' => Some(b'\r'),
        b't' => Some(b'\t'),
        b'u' => {
            let mut code: u32 = 0;
            for _ in 0..4 {
                code = code * 16 + char::from(rest.next()?).to_digit(16)?;
            }
            Some(u8::try_from(code).ok().filter(u8::is_ascii).unwrap_or(NO_MATCH))
        }
        literal => Some(literal),
    }
}

/// Knuth, Morris, Pratt: for each prefix, the length of its longest proper prefix that is also its suffix.
fn fallback_table(needle: &[u8]) -> Vec<usize> {
    let mut table = vec![0; needle.len()];
    let mut length = 0;
    for (at, byte) in needle.iter().enumerate().skip(1) {
        while length > 0 && needle.get(length) != Some(byte) {
            length = table.get(length - 1).copied().unwrap_or(0);
        }
        if needle.get(length) == Some(byte) {
            length += 1;
        }
        if let Some(slot) = table.get_mut(at) {
            *slot = length;
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_found_however_it_is_escaped() {
        for (secret, json, found) in [
            ("abc/def", r#"{"a":"xabc/defx"}"#, true),
            ("abc/def", r#"{"a":"abc\/def"}"#, true),
            ("abc/def", r#"{"a":"\u0061bc\u002Fdef"}"#, true),
            ("aab", r#"["aaab"]"#, true),
            ("abab", r#"["abaabab"]"#, true),
            ("abc/def", r#"{"a":"abc","b":"/def"}"#, false),
            ("", r#"["a"]"#, false),
        ] {
            assert_eq!(occurs_in_json(secret, json.as_bytes()), found, "`{secret}` in {json}");
        }
    }

    #[test]
    fn is_not_shown_by_debug() {
        assert_eq!(format!("{:?}", Secret::new("hunter2")), "[redacted]");
    }
}
