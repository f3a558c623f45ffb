//! How icegate says no in words a driver shows as they are.
//!
//! Every refusal is HTTP 200 with `success: false`. 403 and 5xx make drivers retry, and some codes make them log in again
//! or poll, so each refusal takes the Snowflake code below:
//!
//! | refusal | code | SQLSTATE | why this one |
//! |---|---|---|---|
//! | everything a policy, an approval or the request itself is refused for | 003001 | 42501 | "insufficient privileges": a plain SQL error |
//! | `PDP-UNREACHABLE`, `AUDIT-UNAVAILABLE`, `UPSTREAM-UNREACHABLE`, `UPSTREAM-LOGIN`, `UPSTREAM-BUSY`, `SIGN-IN-PROVIDER` | 000403 | 58000 | no driver gives it a meaning: neither retried nor an end of session; class 58 is "system error" |
//! | `HOLD-CANCELLED` | 000604 | 57014 | "query execution was cancelled" |
//! | `QUERY-UNKNOWN` | 000612 | 02000 | "result not found" |
//! | `ROUTE-UNKNOWN` | 000002 | 0A000 | "unsupported feature" |
//! | `IDENTITY-INVALID`, `SIGN-IN-INVALID`, `SIGN-IN-OFF` | 390303 | 28000 | "invalid OAuth access token" |
//! | `IDENTITY-EXPIRED` | 390318 | 28000 | "OAuth access token expired" |
//! | `IDENTITY-MISMATCH` | 390100 | 28000 | "incorrect username or password": the login name is not the token's |
//! | `SESSION-REVOKED`, `SESSION-ENDED` | 390111 | 08003 | "session no longer exists": an error, where 390112 would make the driver renew and ask again |
//! | `SESSION-UNKNOWN` | 390104 | 08003 | "invalid session token" |

use std::fmt;

use crate::limits::MESSAGE_CHARS_MAX;

/// Stable codes of what the PEP itself refuses. The PDP's own codes stand beside them as text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PepCode {
    /// Nobody decides.
    PdpUnreachable,
    /// The record of what would run cannot be made durable.
    AuditUnavailable,
    /// The request cannot be read.
    RequestMalformed,
    /// The request is over a limit.
    RequestLimit,
    /// Not a path icegate serves.
    RouteUnknown,
    /// Snowflake does not answer.
    UpstreamUnreachable,
    /// Snowflake refused icegate's own login.
    UpstreamLogin,
    /// As many calls to Snowflake are on their way as may be.
    UpstreamBusy,
    /// Neither host nor account names one of the connections, or they name two.
    ConnectionUnknown,
    /// None of the principal's groups has a role at Snowflake.
    RoleNone,
    /// A mask that the decision asks for cannot be applied here.
    MaskUnavailable,
    /// Snowflake's reply broke the terms of the decision.
    ReplyWithheld,
    /// Nobody approved while the driver waited.
    HoldExpired,
    /// The driver stopped waiting.
    HoldCancelled,
    /// No such query in this session.
    QueryUnknown,
    /// No such session, or no token of ours.
    SessionUnknown,
    /// This connection has no sign-in with a browser.
    SignInOff,
    /// A sign-in that is used up, too late, somebody else's, or that the identity provider ended.
    SignInInvalid,
    /// The identity provider does not answer, or not as it must.
    SignInProvider,
}

impl PepCode {
    /// Every code.
    pub const ALL: [Self; 19] = [
        Self::PdpUnreachable,
        Self::AuditUnavailable,
        Self::RequestMalformed,
        Self::RequestLimit,
        Self::RouteUnknown,
        Self::UpstreamUnreachable,
        Self::UpstreamLogin,
        Self::UpstreamBusy,
        Self::ConnectionUnknown,
        Self::RoleNone,
        Self::MaskUnavailable,
        Self::ReplyWithheld,
        Self::HoldExpired,
        Self::HoldCancelled,
        Self::QueryUnknown,
        Self::SessionUnknown,
        Self::SignInOff,
        Self::SignInInvalid,
        Self::SignInProvider,
    ];

    /// As shown to people and drivers, for example `PDP-UNREACHABLE`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PdpUnreachable => "PDP-UNREACHABLE",
            Self::AuditUnavailable => "AUDIT-UNAVAILABLE",
            Self::RequestMalformed => "REQUEST-MALFORMED",
            Self::RequestLimit => "REQUEST-LIMIT",
            Self::RouteUnknown => "ROUTE-UNKNOWN",
            Self::UpstreamUnreachable => "UPSTREAM-UNREACHABLE",
            Self::UpstreamLogin => "UPSTREAM-LOGIN",
            Self::UpstreamBusy => "UPSTREAM-BUSY",
            Self::ConnectionUnknown => "CONNECTION-UNKNOWN",
            Self::RoleNone => "ROLE-NONE",
            Self::MaskUnavailable => "MASK-UNAVAILABLE",
            Self::ReplyWithheld => "REPLY-WITHHELD",
            Self::HoldExpired => "HOLD-EXPIRED",
            Self::HoldCancelled => "HOLD-CANCELLED",
            Self::QueryUnknown => "QUERY-UNKNOWN",
            Self::SessionUnknown => "SESSION-UNKNOWN",
            Self::SignInOff => "SIGN-IN-OFF",
            Self::SignInInvalid => "SIGN-IN-INVALID",
            Self::SignInProvider => "SIGN-IN-PROVIDER",
        }
    }
}

impl fmt::Display for PepCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<PepCode> for String {
    fn from(code: PepCode) -> Self {
        code.as_str().to_owned()
    }
}

/// A no, with everything a person needs to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A [`PepCode`] or a code of the PDP, for example `POLICY-FORBID`.
    pub code: String,
    /// One or more full sentences that say what to do.
    pub message: String,
    /// The policies that decided.
    pub policies: Vec<String>,
    /// The decision in the audit trail.
    pub decision_id: Option<String>,
}

impl Refusal {
    /// A refusal no policy stands behind. `code` is a [`PepCode`] or the PDP's text.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), policies: Vec::new(), decision_id: None }
    }

    /// Names the policies that decided.
    #[must_use]
    pub fn with_policies(mut self, policies: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.policies = policies.into_iter().map(Into::into).collect();
        self
    }

    /// Names the decision.
    #[must_use]
    pub fn with_decision(mut self, decision_id: impl Into<String>) -> Self {
        self.decision_id = Some(decision_id.into());
        self
    }

    /// What the driver shows: ``refused: <sentence> (policy `agent-writes`) [POLICY-FORBID, decision 0198…]``.
    pub fn text(&self) -> String {
        let policies: Vec<String> = self.policies.iter().map(|policy| format!("`{}`", one_line(policy, 200))).collect();
        let policies = match policies.as_slice() {
            [] => String::new(),
            [one] => format!(" (policy {one})"),
            several => format!(" (policies {})", several.join(", ")),
        };
        let decision =
            self.decision_id.as_deref().map_or_else(String::new, |id| format!(", decision {}", one_line(id, 64)));
        // The tail names code and decision: it is the message that gives way.
        let tail = format!("{} [{}{decision}]", cut(&policies, MESSAGE_CHARS_MAX / 2), one_line(&self.code, 64));
        let room = MESSAGE_CHARS_MAX.saturating_sub(tail.chars().count()).saturating_sub("refused: ".len());
        format!("refused: {}{tail}", one_line(&self.message, room))
    }

    /// The code in Snowflake's own numbering, from the table above.
    pub fn snowflake_code(&self) -> &'static str {
        self.in_snowflakes_terms().0
    }

    /// The SQLSTATE, from the table above.
    pub fn sql_state(&self) -> &'static str {
        self.in_snowflakes_terms().1
    }

    fn in_snowflakes_terms(&self) -> (&'static str, &'static str) {
        match self.code.as_str() {
            "PDP-UNREACHABLE"
            | "AUDIT-UNAVAILABLE"
            | "UPSTREAM-UNREACHABLE"
            | "UPSTREAM-LOGIN"
            | "UPSTREAM-BUSY"
            | "SIGN-IN-PROVIDER" => ("000403", "58000"),
            "HOLD-CANCELLED" => ("000604", "57014"),
            "QUERY-UNKNOWN" => ("000612", "02000"),
            "ROUTE-UNKNOWN" => ("000002", "0A000"),
            "IDENTITY-INVALID" | "SIGN-IN-INVALID" | "SIGN-IN-OFF" => ("390303", "28000"),
            "IDENTITY-EXPIRED" => ("390318", "28000"),
            "IDENTITY-MISMATCH" => ("390100", "28000"),
            "SESSION-REVOKED" | "SESSION-ENDED" => ("390111", "08003"),
            "SESSION-UNKNOWN" => ("390104", "08003"),
            _ => ("003001", "42501"),
        }
    }
}

/// Text for one line of a terminal: no control character, nothing invisible that reorders, at most `chars_max` characters.
pub fn one_line(text: &str, chars_max: usize) -> String {
    if text.len() <= chars_max && text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.trim().to_owned();
    }
    let visible: String = text
        .chars()
        .map(|c| if matches!(c, '\n' | '\r' | '\t' | '\u{2028}' | '\u{2029}') { ' ' } else { c })
        .filter(|c| !c.is_control() && !reorders_or_hides(*c))
        .collect();
    cut(visible.trim(), chars_max)
}

/// Bidirectional controls, zero-width characters, tags: what makes a text look like another one.
fn reorders_or_hides(c: char) -> bool {
    matches!(c,
        '\u{061c}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn cut(text: &str, chars_max: usize) -> String {
    if text.chars().count() <= chars_max {
        return text.to_owned();
    }
    text.chars().take(chars_max.saturating_sub(1)).chain(std::iter::once('…')).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_sentence_policy_code_and_decision() {
        let refusal = Refusal::new("POLICY-FORBID", "An agent may not drop tables.")
            .with_policies(["no-drop"])
            .with_decision("0198a1b2");
        assert_eq!(
            refusal.text(),
            "refused: An agent may not drop tables. (policy `no-drop`) [POLICY-FORBID, decision 0198a1b2]"
        );
        let refusal = Refusal::new(PepCode::PdpUnreachable, "Try again.").with_policies(["a", "b"]);
        assert_eq!(refusal.text(), "refused: Try again. (policies `a`, `b`) [PDP-UNREACHABLE]");
    }

    #[test]
    fn is_one_line_of_bounded_length_that_keeps_its_tail() {
        let refusal = Refusal::new("SQL-UNKNOWN", format!("a\u{1b}[31m\n\u{202e}{}", "x".repeat(5000)))
            .with_policies(["p".repeat(5000)])
            .with_decision("0198");
        let text = refusal.text();
        assert_eq!(text.chars().count(), MESSAGE_CHARS_MAX);
        assert!(text.starts_with("refused: a[31m x"));
        assert!(text.ends_with("[SQL-UNKNOWN, decision 0198]"));
        assert!(!text.chars().any(|c| c.is_control() || reorders_or_hides(c)));
    }

    #[test]
    fn no_code_makes_a_driver_retry_or_renew() {
        for code in PepCode::ALL {
            let snowflake = Refusal::new(code, "x").snowflake_code();
            assert!(
                !["390112", "390110", "390113", "390114", "390115", "333333", "333334"].contains(&snowflake),
                "{code}"
            );
        }
    }
}
