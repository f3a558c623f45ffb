use std::collections::BTreeSet;

use icegate_pdp_audit::{DecisionEvent, Event, Who};
use icegate_pdp_model::ObjectName;

/// The words a record can be found by: `<sort>:<value>`.
///
/// Everything here is computed from the record alone, so that the index can be compared with the records at any time.
pub(crate) fn of(event: &Event) -> BTreeSet<String> {
    let mut terms = BTreeSet::new();
    terms.insert(term("kind", event.kind()));
    match event {
        Event::SessionOpened { session_id, principal, .. } | Event::SessionClosed { session_id, principal, .. } => {
            terms.insert(session(session_id));
            who(&mut terms, principal);
        }
        Event::SessionRefused { principal, .. } => {
            if let Some(principal) = principal {
                who(&mut terms, principal);
            }
        }
        Event::SessionRevoked { principal_id, session_ids, by, .. } => {
            terms.extend(session_ids.iter().map(|id| session(id)));
            person(&mut terms, principal_id);
            who(&mut terms, by);
        }
        Event::Decision(decision) => of_decision(&mut terms, decision),
        Event::Outcome(outcome) => {
            terms.insert(self::decision(&outcome.decision_id));
            terms.insert(session(&outcome.session_id));
            terms.extend(outcome.query_id.as_deref().map(query));
        }
        Event::DeliveryCut(cut) => {
            terms.insert(self::decision(&cut.decision_id));
            terms.insert(session(&cut.session_id));
        }
        Event::ApprovalRequested { decision_id, session_id, principal, .. } => {
            terms.insert(self::decision(decision_id));
            terms.insert(session(session_id));
            who(&mut terms, principal);
        }
        Event::ApprovalVoted { decision_id, by, .. } | Event::ApprovalVoteRefused { decision_id, by, .. } => {
            terms.insert(self::decision(decision_id));
            who(&mut terms, by);
        }
        Event::ApprovalCancelled { decision_id, .. }
        | Event::ApprovalExpired { decision_id, .. }
        | Event::ApprovalConsumed { decision_id, .. } => {
            terms.insert(self::decision(decision_id));
        }
        Event::AuditRead { by, .. } => who(&mut terms, by),
        Event::BundleLoaded { .. }
        | Event::BundleRefused { .. }
        | Event::ServiceStarted { .. }
        | Event::RecordingResumed { .. }
        | Event::ServiceStopped { .. } => {}
    }
    terms
}

/// The word for a principal, by id or by its part after the `/`.
pub(crate) fn principal(text: &str) -> String {
    term("principal", text)
}

/// The word for an agent.
pub(crate) fn agent(text: &str) -> String {
    term("agent", text)
}

/// The word for a decision.
pub(crate) fn decision(id: &str) -> String {
    term("decision", id)
}

/// The word for Snowflake's id of a run.
pub(crate) fn query(id: &str) -> String {
    term("query", id)
}

/// The word for what was decided.
pub(crate) fn outcome(word: &str) -> String {
    term("outcome", word)
}

/// The word for an object or the leading part of its name, given as a person types it.
pub(crate) fn object(text: &str) -> String {
    let printed = if is_location(text) {
        text.trim_end_matches('/').to_owned()
    } else {
        text.parse::<ObjectName>().map_or_else(|_| text.to_owned(), |name| name.to_string())
    };
    term("object", &printed)
}

fn session(id: &str) -> String {
    term("session", id)
}

/// SQLite's JSON ends a text at NUL, and what is stored has to be what is computed.
fn term(sort: &str, value: &str) -> String {
    format!("{sort}:{}", value.replace('\0', "\u{fffd}"))
}

fn of_decision(terms: &mut BTreeSet<String>, decision: &DecisionEvent) {
    terms.insert(self::decision(&decision.decision_id));
    terms.insert(session(&decision.session_id));
    terms.insert(outcome(decision.outcome.as_str()));
    who(terms, &decision.principal);
    for statement in &decision.statements {
        let names = statement.objects.iter().map(|object| &object.name);
        for name in names.chain(&statement.columns_read).chain(&statement.exports) {
            for prefix in prefixes(name) {
                terms.insert(term("object", &prefix));
            }
        }
    }
}

fn who(terms: &mut BTreeSet<String>, who: &Who) {
    person(terms, &who.id);
    if let Some(agent) = &who.agent {
        terms.insert(self::agent(&agent.id));
    }
}

fn person(terms: &mut BTreeSet<String>, id: &str) {
    terms.insert(principal(id));
    if let Some((_, short)) = id.split_once('/') {
        terms.insert(principal(short));
    }
}

/// A name and all its leading parts: at each `.` outside quotes, and for a location or stage path at each `/`.
fn prefixes(name: &str) -> BTreeSet<String> {
    let bare = name.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(name);
    let mut prefixes = BTreeSet::new();
    if is_location(bare) {
        let bare = bare.trim_end_matches('/');
        prefixes.insert(bare.to_owned());
        let start = bare.find("://").map_or(0, |at| at + "://".len());
        prefixes.extend(
            bare.match_indices('/')
                .filter(|(at, _)| *at > start)
                .filter_map(|(at, _)| bare.get(..at))
                .map(str::to_owned),
        );
        return prefixes;
    }
    prefixes.insert(name.to_owned());
    let mut quoted = false;
    for (at, char) in name.char_indices() {
        match char {
            '"' => quoted = !quoted,
            '.' if !quoted => prefixes.extend(name.get(..at).map(str::to_owned)),
            _ => {}
        }
    }
    prefixes
}

/// A URL or a stage path: its parts are separated by `/`.
fn is_location(text: &str) -> bool {
    text.contains("://") || text.starts_with('@')
}

#[cfg(test)]
mod tests {
    use super::{object, prefixes};

    fn check(name: &str, wanted: &[&str]) {
        assert_eq!(prefixes(name).into_iter().collect::<Vec<_>>(), wanted);
        for prefix in wanted {
            assert_eq!(object(prefix), format!("object:{prefix}"), "what is stored can be asked for");
        }
    }

    #[test]
    fn names_are_found_by_each_leading_part() {
        check("SALES.PUBLIC.T", &["SALES", "SALES.PUBLIC", "SALES.PUBLIC.T"]);
        check(r#"A."b.c".D"#, &["A", r#"A."b.c""#, r#"A."b.c".D"#]);
        check(r#"A."b"".c""#, &["A", r#"A."b"".c""#]);
        check(r#""s3://bucket/x/y""#, &["s3://bucket", "s3://bucket/x", "s3://bucket/x/y"]);
        check("@~/x", &["@~", "@~/x"]);
    }

    #[test]
    fn names_are_asked_for_as_people_type_them() {
        for (typed, term) in [
            ("sales.public", "object:SALES.PUBLIC"),
            (r#"sales."e-mail""#, r#"object:SALES."e-mail""#),
            ("s3://bucket/", "object:s3://bucket"),
            ("not \"a name", "object:not \"a name"),
        ] {
            assert_eq!(object(typed), term);
        }
    }
}
