use jiff::Timestamp;

/// A moment a person names: `2026-11-23T15:00:00Z`, `2026-11-23` (midnight UTC), or how long ago (`15m`, `2h ago`).
///
/// Errors with what to write instead.
pub(crate) fn parse(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let text = text.trim();
    if text == "now" {
        return Ok(now);
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(moment);
    }
    let wanted = || {
        format!(
            "`{text}` is not a time; write `2026-11-23T15:00:00Z`, `2026-11-23`, or how long ago: `15m`, `2h`, `3d`"
        )
    };
    if text.len() == "2026-11-23".len()
        && let Ok(midnight) = format!("{text}T00:00:00Z").parse::<Timestamp>()
    {
        return Ok(midnight);
    }
    let ago = humantime::parse_duration(text.trim_end_matches("ago").trim()).map_err(|_| wanted())?;
    now.checked_sub(ago).map_err(|_| wanted())
}

/// A moment as every table shows it: UTC, to the second.
pub(crate) fn format(unix_ms: i64) -> String {
    match Timestamp::from_millisecond(unix_ms) {
        Ok(moment) => moment.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        Err(_) => unix_ms.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::{format, parse};

    #[test]
    fn moments_are_absolute_or_ago() {
        let now = "2026-11-23T15:00:00Z".parse().unwrap();
        for (text, wanted) in [
            ("2026-11-22T10:30:00Z", "2026-11-22T10:30:00Z"),
            ("2026-11-22T10:30:00+02:00", "2026-11-22T08:30:00Z"),
            ("2026-11-22", "2026-11-22T00:00:00Z"),
            ("now", "2026-11-23T15:00:00Z"),
            ("15m", "2026-11-23T14:45:00Z"),
            ("2h ago", "2026-11-23T13:00:00Z"),
            ("1h 30m", "2026-11-23T13:30:00Z"),
            ("3d", "2026-11-20T15:00:00Z"),
        ] {
            assert_eq!(format(parse(text, now).unwrap().as_millisecond()), wanted, "{text}");
        }
        for text in ["", "yesterday", "15", "2026-13-01", "2026-11-22T10:30:00", "9999999y"] {
            assert!(parse(text, now).is_err(), "{text}");
        }
    }
}
