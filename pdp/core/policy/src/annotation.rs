use cedar_policy::{ActionConstraint, Effect, Policy};
use icegate_pdp_model::Mask;

use crate::{
    Settings, lift,
    problem::{Place, Problem},
    source::Chunk,
    vocabulary::{Action, Vocabulary},
};

/// Longest policy id, in characters.
const ID_CHARS_MAX: usize = 100;
/// Longest `@reason`, in characters.
const REASON_CHARS_MAX: usize = 400;
/// Longest group name in `@approval`, in characters.
const GROUP_CHARS_MAX: usize = 200;

/// What a policy's word turns into when it applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It allows.
    Permit,
    /// It refuses.
    Forbid,
    /// It refuses until a person of this group has approved.
    Approval(String),
    /// It lets the column be read through this mask.
    Mask(Mask),
}

/// What a policy's annotations say.
#[derive(Debug)]
pub(crate) struct Annotated {
    pub(crate) id: String,
    pub(crate) turn: Turn,
    pub(crate) reason: Option<String>,
}

/// Reads the annotations of one policy. `None` comes with at least one problem.
pub(crate) fn read(
    policy: &Policy,
    chunk: &Chunk<'_>,
    place: &Place<'_>,
    vocabulary: &Vocabulary,
    settings: Option<&Settings>,
    problems: &mut Vec<Problem>,
) -> Option<Annotated> {
    let before = problems.len();
    let mut refuse = |name: &str, reason: String, remedy: &str| {
        problems.push(place.problem(chunk.annotation(name), reason, remedy));
    };
    let id = policy.annotation("id").unwrap_or_default();
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/' | ':');
    if policy.annotation("id").is_none() {
        refuse("id", "the policy has no `@id`".into(), "write `@id(\"some-name\")` before it");
    } else if id.is_empty() || id.chars().count() > ID_CHARS_MAX || !id.chars().all(plain) {
        refuse(
            "id",
            "the `@id` is not a policy id".into(),
            "give 1 to 100 letters, digits or any of - _ . / :, without blanks",
        );
    }
    for (name, _) in policy.annotations() {
        if !["id", "reason", "description", "mask", "approval"].contains(&name) {
            refuse(
                name,
                format!("`@{name}` means nothing to icegate"),
                "annotations are @id, @reason, @description, @mask and @approval",
            );
        }
    }
    let reason = policy.annotation("reason");
    if reason.is_some_and(|text| {
        text.trim().is_empty() || text.chars().count() > REASON_CHARS_MAX || text.chars().any(char::is_control)
    }) {
        refuse("reason", "the `@reason` cannot be shown".into(), "write one sentence of at most 400 characters");
    }
    let (mask, approval) = (policy.annotation("mask"), policy.annotation("approval"));
    let mut turn = match policy.effect() {
        Effect::Permit => Turn::Permit,
        Effect::Forbid => Turn::Forbid,
    };
    for name in ["mask", "approval"] {
        if policy.annotation(name).is_some() && turn == Turn::Permit {
            let remedy = "write it on a `forbid`: it says what the refusal turns into";
            refuse(name, format!("`@{name}` stands on a `permit`"), remedy);
        }
    }
    if mask.is_some() && approval.is_some() {
        let remedy = "keep one, or write two policies";
        refuse("approval", "`@mask` and `@approval` stand on the same policy".into(), remedy);
    }
    if let Some(text) = mask {
        if !asks_only_for_columns(policy, vocabulary) {
            refuse(
                "mask",
                "`@mask` stands on a policy that is not about reading columns".into(),
                "write `action == Icegate::Action::\"read_column\"` in its scope",
            );
        }
        match text.parse::<Mask>() {
            // Without readable settings nobody knows what they hold: that is no problem of the policies.
            Ok(Mask::Sql { name }) if settings.is_some_and(|settings| !settings.masks.contains_key(&name)) => {
                refuse(
                    "mask",
                    format!("settings.yaml has no mask `{name}`"),
                    "declare it there under `masks`, as in README.md",
                );
            }
            Ok(Mask::Hash) if settings.is_some_and(|settings| settings.hash_salt.is_none()) => {
                refuse(
                    "mask",
                    "`@mask(\"hash\")` needs a salt, and settings.yaml has none".into(),
                    "set `hash_salt` to 16 or more characters, as from `openssl rand -hex 24`",
                );
            }
            Ok(mask) => turn = Turn::Mask(mask),
            Err(error) => refuse("mask", error.to_string(), "see the masks in README.md"),
        }
    }
    if let Some(group) = approval {
        if group.trim().is_empty() || group.chars().count() > GROUP_CHARS_MAX || group.chars().any(char::is_control) {
            refuse(
                "approval",
                "`@approval` does not name a group".into(),
                "name the group that may approve, as in `@approval(\"data-stewards\")`",
            );
        } else if policy.effect() == Effect::Forbid && !lift::lifts(policy, group) {
            refuse(
                "approval",
                format!("an approval by `{group}` does not lift this policy, so the statement would wait for ever"),
                &format!("write `unless {{ context.approvals.contains(\"{group}\") }}`, alone or in an `||`"),
            );
        } else {
            turn = Turn::Approval(group.to_owned());
        }
    }
    (problems.len() == before).then(|| Annotated { id: id.to_owned(), turn, reason: reason.map(str::to_owned) })
}

fn asks_only_for_columns(policy: &Policy, vocabulary: &Vocabulary) -> bool {
    let wanted = vocabulary.action(Action::ReadColumn);
    match policy.action_constraint() {
        ActionConstraint::Any => false,
        ActionConstraint::Eq(action) => action == *wanted,
        ActionConstraint::In(actions) => !actions.is_empty() && actions.iter().all(|action| action == wanted),
    }
}
