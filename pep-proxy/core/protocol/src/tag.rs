//! The mark icegate leaves in Snowflake's own history: `QUERY_TAG`.

use serde_json::{Map, Value, json};

use crate::limits::QUERY_TAG_CHARS_MAX;

/// Characters of a user or agent name in the tag. The decision id leads to the full one.
const NAME_CHARS_MAX: usize = 256;

/// Who asked for a statement, and under which decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp<'a> {
    /// The decision; absent for what runs before any, the login.
    pub decision: Option<&'a str>,
    /// The principal's id.
    pub user: &'a str,
    /// The agent's id; `None` is written as `unknown`, which is not "a human".
    pub agent: Option<&'a str>,
    /// The client's own tag, kept inside.
    pub client_tag: Option<&'a str>,
}

/// The `QUERY_TAG` text: `{"icegate":{"decision":…,"user":…,"agent":…},"tag":"<the client's own>"}`.
///
/// Never longer than [`QUERY_TAG_CHARS_MAX`]. It is the client's own tag that is cut, and `"tag_truncated":true` says so.
pub fn stamp(stamp: &Stamp<'_>) -> String {
    let Some(tag) = stamp.client_tag.filter(|tag| !tag.is_empty()) else {
        return written(stamp, None);
    };
    let whole = written(stamp, Some((tag, false)));
    if whole.chars().count() <= QUERY_TAG_CHARS_MAX {
        return whole;
    }
    // Escapes make lengths unpredictable: find the longest beginning that fits.
    let (mut fits, mut over) = (0, tag.chars().count().min(QUERY_TAG_CHARS_MAX));
    while fits + 1 < over {
        let middle = usize::midpoint(fits, over);
        if written(stamp, Some((&beginning(tag, middle), true))).chars().count() <= QUERY_TAG_CHARS_MAX {
            fits = middle;
        } else {
            over = middle;
        }
    }
    written(stamp, Some((&beginning(tag, fits), true)))
}

fn written(stamp: &Stamp<'_>, tag: Option<(&str, bool)>) -> String {
    let mut icegate = Map::new();
    if let Some(decision) = stamp.decision {
        icegate.insert("decision".to_owned(), beginning(decision, NAME_CHARS_MAX).into());
    }
    icegate.insert("user".to_owned(), beginning(stamp.user, NAME_CHARS_MAX).into());
    icegate.insert("agent".to_owned(), beginning(stamp.agent.unwrap_or("unknown"), NAME_CHARS_MAX).into());
    let mut all = Map::new();
    all.insert("icegate".to_owned(), Value::Object(icegate));
    if let Some((tag, truncated)) = tag {
        all.insert("tag".to_owned(), json!(tag));
        if truncated {
            all.insert("tag_truncated".to_owned(), json!(true));
        }
    }
    Value::Object(all).to_string()
}

fn beginning(text: &str, chars_max: usize) -> String {
    text.chars().take(chars_max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_clients_tag_inside() {
        let text = stamp(&Stamp {
            decision: Some("0198"),
            user: "dev/ana",
            agent: None,
            client_tag: Some(r#"{"app":"dbt"}"#),
        });
        assert_eq!(
            text,
            r#"{"icegate":{"decision":"0198","user":"dev/ana","agent":"unknown"},"tag":"{\"app\":\"dbt\"}"}"#
        );
    }

    #[test]
    fn cuts_the_clients_tag_and_says_so() {
        for tag in ["x".repeat(5000), "\"".repeat(5000), "ä\n".repeat(3000), "x".repeat(1950)] {
            let long = "u".repeat(1000);
            let text =
                stamp(&Stamp { decision: Some("0198"), user: &long, agent: Some("bot"), client_tag: Some(&tag) });
            let count = text.chars().count();
            assert!(count <= QUERY_TAG_CHARS_MAX && count > QUERY_TAG_CHARS_MAX - 7, "{count}");
            let read: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(read["tag_truncated"], true);
            assert!(tag.starts_with(read["tag"].as_str().unwrap()));
        }
    }
}
