use std::fmt::Write as _;

use icegate_pdp_model::{Principal, SessionContext};
use sha2::{Digest as _, Sha256};

/// Keeps these hashes apart from any other use of SHA-256.
const DOMAIN: &[u8] = b"icegate-approval-v1";

/// Names what an approval is for, in hex: who asks (identity and agent), where (connection and session context), the
/// exact text, its bindings and the announced number of statements.
///
/// Each field is written with its length, so that no two requests run together into the same bytes. Database and schema
/// are part of it because unqualified names mean something else elsewhere.
pub fn statement_sha256(
    principal: &Principal,
    connection: &str,
    context: &SessionContext,
    sql: &str,
    bindings_json: &str,
    statement_count: u32,
) -> String {
    let agent = principal.agent.as_ref();
    let mut hasher = Sha256::new();
    field(&mut hasher, DOMAIN);
    field(&mut hasher, principal.issuer.as_bytes());
    field(&mut hasher, principal.subject.as_bytes());
    field(&mut hasher, principal.id.as_bytes());
    optional(&mut hasher, agent.map(|agent| agent.id.as_str()));
    optional(&mut hasher, agent.map(|agent| agent.assurance.as_str()));
    field(&mut hasher, connection.as_bytes());
    let SessionContext { database, schema, role, warehouse } = context;
    for name in [database, schema, role, warehouse] {
        optional(&mut hasher, name.as_deref());
    }
    field(&mut hasher, sql.as_bytes());
    field(&mut hasher, bindings_json.as_bytes());
    field(&mut hasher, &statement_count.to_be_bytes());

    let mut hex = String::with_capacity(64);
    for byte in hasher.finalize() {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
    }
    hex
}

fn field(hasher: &mut Sha256, bytes: &[u8]) {
    hasher.update(u64::try_from(bytes.len()).unwrap_or(u64::MAX).to_be_bytes());
    hasher.update(bytes);
}

/// Nothing and an empty text differ.
fn optional(hasher: &mut Sha256, text: Option<&str>) {
    hasher.update([u8::from(text.is_some())]);
    field(hasher, text.unwrap_or_default().as_bytes());
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use icegate_pdp_model::{Agent, Assurance, Principal, SessionContext};

    use super::statement_sha256;

    fn ana() -> Principal {
        Principal {
            id: "corp/ana".into(),
            issuer: "https://id.corp".into(),
            subject: "ana".into(),
            groups: BTreeSet::new(),
            agent: None,
            attributes: std::collections::BTreeMap::new(),
        }
    }

    #[test]
    fn everything_that_changes_the_meaning_changes_the_hash() {
        let agent = |id: &str, assurance| Principal { agent: Some(Agent { id: id.into(), assurance }), ..ana() };
        let context = |database: Option<&str>, schema: Option<&str>, role: Option<&str>, warehouse: Option<&str>| {
            let own = |text: Option<&str>| text.map(str::to_owned);
            SessionContext { database: own(database), schema: own(schema), role: own(role), warehouse: own(warehouse) }
        };
        let none = SessionContext::default();
        let all = [
            statement_sha256(&ana(), "c", &none, "select 1", "", 1),
            statement_sha256(&Principal { issuer: "https://id.other".into(), ..ana() }, "c", &none, "select 1", "", 1),
            statement_sha256(&Principal { subject: "bob".into(), ..ana() }, "c", &none, "select 1", "", 1),
            statement_sha256(&Principal { id: "corp/bob".into(), ..ana() }, "c", &none, "select 1", "", 1),
            statement_sha256(&agent("", Assurance::Unknown), "c", &none, "select 1", "", 1),
            statement_sha256(&agent("copilot", Assurance::Declared), "c", &none, "select 1", "", 1),
            statement_sha256(&agent("copilot", Assurance::Attested), "c", &none, "select 1", "", 1),
            statement_sha256(&ana(), "d", &none, "select 1", "", 1),
            statement_sha256(&ana(), "c", &context(Some(""), None, None, None), "select 1", "", 1),
            statement_sha256(&ana(), "c", &context(Some("A"), None, None, None), "select 1", "", 1),
            statement_sha256(&ana(), "c", &context(None, Some("A"), None, None), "select 1", "", 1),
            statement_sha256(&ana(), "c", &context(None, None, Some("A"), None), "select 1", "", 1),
            statement_sha256(&ana(), "c", &context(None, None, None, Some("A")), "select 1", "", 1),
            statement_sha256(&ana(), "c", &none, "select 1 ", "", 1),
            statement_sha256(&ana(), "c", &none, "select 1", " ", 1),
            statement_sha256(&ana(), "c", &none, "select 1", "", 0),
            statement_sha256(&ana(), "cs", &none, "elect 1", "", 1),
        ];
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn groups_do_not_change_what_is_approved() {
        let more = Principal { groups: ["analysts".to_owned()].into(), ..ana() };
        let none = SessionContext::default();
        let hash = statement_sha256(&ana(), "c", &none, "select 1", "", 1);
        assert_eq!(hash, statement_sha256(&more, "c", &none, "select 1", "", 1));
        assert_eq!(hash.len(), 64);
        // Pinned: approvals given before an upgrade must still fit their statement after it.
        assert_eq!(hash, "f9b7798878bd2560502ac2f4397960baaaa933bdf016a3af66eca7a7973bf065");
    }
}
