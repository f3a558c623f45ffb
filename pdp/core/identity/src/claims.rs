use std::collections::{BTreeMap, BTreeSet};

use icegate_pdp_model::{Agent, Assurance, Attribute, Principal};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{IdentityError, Issuer};

/// Longest principal, agent or group name, in characters.
pub const NAME_CHARS_MAX: usize = 256;
/// Most groups one token may name.
pub const GROUPS_MAX: usize = 2_000;

/// How one issuer's claims become a principal. A claim is named by its path: `groups`, `act.sub`,
/// `https://example.com/groups`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ClaimMapping {
    /// What names the principal within the issuer. Must never be given to another person: `sub`, not `email`. With
    /// `email` a token needs `email_verified: true` too.
    pub principal: String,
    /// The claim that lists the principal's groups. `None` = this issuer's principals have none.
    pub groups: Option<String>,
    /// Whether a token without the groups claim is refused, rather than taken for a principal without groups.
    pub groups_required: bool,
    /// The claim that names the agent acting for the principal (RFC 8693 `act.sub`). `None` = not asked.
    pub agent: Option<String>,
    /// OAuth clients that are agents: a token whose `azp` or `client_id` is one of these is that agent's.
    pub agent_clients: BTreeSet<String>,
    /// Claims that policies may ask for: the attribute's name in Cedar and the claim. `principal_attributes` of the
    /// bundle's settings gives each its type.
    pub attributes: BTreeMap<String, String>,
}

impl Default for ClaimMapping {
    fn default() -> Self {
        Self {
            principal: "sub".into(),
            groups: None,
            groups_required: false,
            agent: Some("act.sub".into()),
            agent_clients: BTreeSet::new(),
            attributes: BTreeMap::new(),
        }
    }
}

/// Reads the principal from claims whose signature holds.
pub(crate) fn principal(claims: &Map<String, Value>, issuer: &Issuer) -> Result<Principal, IdentityError> {
    let mapping = &issuer.claims;
    let subject = required_name(claims, "sub")?;
    let local = required_name(claims, &mapping.principal)?;
    // Anybody may write any address into an account of theirs, where the issuer does not check it.
    if mapping.principal == "email" && claims.get("email_verified") != Some(&Value::Bool(true)) {
        return Err(match claims.get("email_verified") {
            None => IdentityError::ClaimMissing("email_verified".into()),
            Some(_) => IdentityError::ClaimInvalid("email_verified".into()),
        });
    }
    Ok(Principal {
        id: format!("{}/{local}", issuer.name),
        issuer: issuer.issuer.clone(),
        subject,
        groups: groups(claims, mapping)?,
        agent: agent(claims, mapping)?,
        attributes: attributes(claims, mapping)?,
    })
}

fn groups(claims: &Map<String, Value>, mapping: &ClaimMapping) -> Result<BTreeSet<String>, IdentityError> {
    let Some(path) = &mapping.groups else { return Ok(BTreeSet::new()) };
    let invalid = || IdentityError::ClaimInvalid(path.clone());
    // Entra ID leaves the groups out of a token that would hold more than 200 and points to its API instead. Taking that
    // for "no groups" would lift every refusal that is given by group.
    let pointed_elsewhere =
        claims.get("_claim_names").is_some_and(|names| names.as_object().is_none_or(|names| names.contains_key(path)));
    if pointed_elsewhere || claims.get("hasgroups").is_some_and(|flag| flag != &Value::Bool(false)) {
        return Err(IdentityError::GroupsOverage);
    }
    let named: Vec<&Value> = match find(claims, path) {
        None if mapping.groups_required => return Err(IdentityError::ClaimMissing(path.clone())),
        None => return Ok(BTreeSet::new()),
        // Some providers write a list of one as the one. Never split: group names may hold spaces.
        Some(one @ Value::String(_)) => vec![one],
        Some(Value::Array(many)) => many.iter().collect(),
        Some(_) => return Err(invalid()),
    };
    if named.len() > GROUPS_MAX {
        return Err(invalid());
    }
    named.into_iter().map(|group| name(group).ok_or_else(invalid)).collect()
}

fn agent(claims: &Map<String, Value>, mapping: &ClaimMapping) -> Result<Option<Agent>, IdentityError> {
    let attested = |id| Some(Agent { id, assurance: Assurance::Attested });
    if let Some(path) = &mapping.agent {
        if let Some(value) = find(claims, path) {
            return name(value).map(attested).ok_or_else(|| IdentityError::ClaimInvalid(path.clone()));
        }
        // `act` without the `sub` we look for says that somebody acts, and hides who: not "nobody".
        if let Some((head, _)) = path.split_once('.')
            && claims.contains_key(head)
        {
            return Err(IdentityError::ClaimInvalid(path.clone()));
        }
    }
    for claim in ["azp", "client_id"] {
        match claims.get(claim) {
            Some(Value::String(client)) if mapping.agent_clients.contains(client) => {
                return Ok(attested(client.clone()));
            }
            Some(Value::String(_)) | None => {}
            Some(_) => return Err(IdentityError::ClaimInvalid(claim.into())),
        }
    }
    Ok(None)
}

/// A claim that is not there is an attribute the principal has not: a policy that needs it lets nothing through.
fn attributes(
    claims: &Map<String, Value>,
    mapping: &ClaimMapping,
) -> Result<BTreeMap<String, Attribute>, IdentityError> {
    let mut attributes = BTreeMap::new();
    for (attribute, path) in &mapping.attributes {
        let Some(value) = find(claims, path) else { continue };
        let invalid = || IdentityError::ClaimInvalid(path.clone());
        let value = match value {
            Value::Bool(value) => Attribute::Bool(*value),
            Value::Number(number) => Attribute::Long(number.as_i64().ok_or_else(invalid)?),
            Value::String(_) => Attribute::Text(name(value).ok_or_else(invalid)?),
            Value::Array(many) if many.len() <= GROUPS_MAX => {
                let names = many.iter().map(|one| name(one).ok_or_else(invalid));
                Attribute::Texts(names.collect::<Result<_, _>>()?)
            }
            Value::Array(_) | Value::Object(_) | Value::Null => return Err(invalid()),
        };
        attributes.insert(attribute.clone(), value);
    }
    Ok(attributes)
}

fn required_name(claims: &Map<String, Value>, path: &str) -> Result<String, IdentityError> {
    let value = find(claims, path).ok_or_else(|| IdentityError::ClaimMissing(path.to_owned()))?;
    name(value).ok_or_else(|| IdentityError::ClaimInvalid(path.to_owned()))
}

/// The claim of this path. A claim whose name itself holds dots (`https://example.com/groups`) is found first.
fn find<'a>(claims: &'a Map<String, Value>, path: &str) -> Option<&'a Value> {
    if let Some(value) = claims.get(path) {
        return Some(value);
    }
    path.match_indices('.').find_map(|(dot, _)| {
        let (head, rest) = path.split_at_checked(dot)?;
        find(claims.get(head)?.as_object()?, rest.strip_prefix('.')?)
    })
}

/// A text that prints as what it is: no control, direction or other invisible characters, no blanks at its ends.
fn name(value: &Value) -> Option<String> {
    let text = value.as_str()?;
    let short = text.chars().count() <= NAME_CHARS_MAX;
    (!text.is_empty() && short && text.trim() == text && !text.chars().any(is_hidden)).then(|| text.to_owned())
}

fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}' | '\u{180E}'
            | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}' | '\u{3164}'
            | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}' | '\u{E0000}'..='\u{E0FFF}')
}
