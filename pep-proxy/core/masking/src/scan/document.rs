//! JSON text, piece by piece: what is not redacted keeps its bytes.

/// Appends the document, each string, key and number shown to `redact` first, strings unescaped. `None`: a string is not closed or
/// badly escaped. Words that are not JSON, such as the `undefined` of Snowflake's arrays, pass as they are.
pub(super) fn redact(text: &str, out: &mut String, mut redact: impl FnMut(&str) -> Option<String>) -> Option<()> {
    let mut rest = text;
    while !rest.is_empty() {
        let length = piece(rest)?;
        let (raw, after) = rest.split_at_checked(length)?;
        rest = after;
        let redacted = if !raw.starts_with('"') {
            if is_bare(raw) { redact(raw) } else { None }
        } else if raw.contains('\\') {
            redact(&serde_json::from_str::<String>(raw).ok()?)
        } else {
            redact(raw.get(1..raw.len().checked_sub(1)?)?)
        };
        match redacted {
            None => out.push_str(raw),
            Some(redacted) => out.push_str(&serde_json::to_string(&redacted).ok()?),
        }
    }
    Some(())
}

/// Whether every string is closed; for text without backslashes.
pub(super) fn is_closed(text: &str) -> bool {
    text.bytes().filter(|byte| *byte == b'"').count() % 2 == 0
}

/// Length of the piece at the start: a string, a bare word, or what stands between.
fn piece(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let first = *bytes.first()?;
    if first == b'"' {
        let mut at = 1;
        loop {
            match bytes.get(at)? {
                b'"' => return Some(at + 1),
                b'\\' => at += 2,
                _ => at += 1,
            }
        }
    }
    let bare = !is_structure(first);
    let length = bytes.iter().position(|byte| *byte == b'"' || is_structure(*byte) == bare);
    Some(length.unwrap_or(bytes.len()))
}

fn is_bare(piece: &str) -> bool {
    piece.bytes().next().is_some_and(|byte| !is_structure(byte))
}

fn is_structure(byte: u8) -> bool {
    matches!(byte, b'{' | b'}' | b'[' | b']' | b',' | b':' | b' ' | b'\t' | b'\n' | b'\r')
}
