use std::collections::HashMap;

use cedar_policy::{ActionConstraint, Entities, EntityUid, Policy, PrincipalConstraint, ResourceConstraint};

use crate::vocabulary::{Action, Type, Vocabulary};

/// Finds the policies whose scope can match, by hashing, whatever their number.
///
/// INVARIANT: a policy that is not found cannot apply and cannot err: its scope is false, and Cedar looks at the scope
/// before anything else. So deciding over the found ones is deciding over all. `evaluate/laws.rs` holds it to that.
#[derive(Debug, Clone, Default)]
pub(crate) struct Index {
    /// Entities that stand in the scope of some policy. Whatever is not here need not be looked up.
    names: HashMap<EntityUid, u32>,
    /// One per action, at its number.
    by_action: Vec<HashMap<PrincipalKey, HashMap<ResourceKey, Vec<u32>>>>,
    /// Policies that are looked at for every question: no scope at all.
    unscoped: usize,
}

/// What the scope says of the principal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum PrincipalKey {
    Any,
    Is(Type),
    Eq(u32),
    In(u32),
    IsIn(Type, u32),
}

/// What the scope says of the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ResourceKey {
    Any,
    Is(Type),
    Eq(u32),
    In(u32),
    IsIn(Type, u32),
}

impl Index {
    /// Sorts policies into buckets; the number of a policy is its place in `policies`.
    ///
    /// `actions` holds the schema's actions and the groups they are in.
    pub(crate) fn new<'a>(
        policies: impl Iterator<Item = &'a Policy>,
        vocabulary: &Vocabulary,
        actions: &Entities,
    ) -> Self {
        let mut index = Self { by_action: vec![HashMap::new(); Action::ALL.len()], ..Self::default() };
        for (number, policy) in (0..).zip(policies) {
            let principal = index.principal_key(policy, vocabulary);
            let resource = index.resource_key(policy, vocabulary);
            // A type the schema does not know matches nothing; validation has refused it already.
            let (Some(principal), Some(resource)) = (principal, resource) else { continue };
            let constraint = policy.action_constraint();
            if is_unscoped(policy) {
                index.unscoped += 1;
            }
            for (action, bucket) in Action::ALL.iter().zip(&mut index.by_action) {
                if allows(&constraint, vocabulary.action(*action), actions) {
                    bucket.entry(principal).or_default().entry(resource).or_default().push(number);
                }
            }
        }
        index
    }

    /// Policies without any scope.
    pub(crate) fn unscoped(&self) -> usize {
        self.unscoped
    }

    /// What to look up for a principal in these groups. Made once per request.
    pub(crate) fn principal_keys(&self, kind: Type, uid: &EntityUid, groups: &[EntityUid]) -> Vec<PrincipalKey> {
        let mut keys = vec![PrincipalKey::Any, PrincipalKey::Is(kind)];
        if let Some(&name) = self.names.get(uid) {
            keys.push(PrincipalKey::Eq(name));
        }
        for name in std::iter::once(uid).chain(groups).filter_map(|uid| self.names.get(uid)) {
            keys.extend([PrincipalKey::In(*name), PrincipalKey::IsIn(kind, *name)]);
        }
        keys
    }

    /// What to look up for a resource with these ancestors, each once.
    pub(crate) fn resource_keys(&self, kind: Type, uid: &EntityUid, ancestors: &[EntityUid]) -> Vec<ResourceKey> {
        let mut keys = vec![ResourceKey::Any, ResourceKey::Is(kind)];
        if let Some(&name) = self.names.get(uid) {
            keys.push(ResourceKey::Eq(name));
        }
        for name in std::iter::once(uid).chain(ancestors).filter_map(|uid| self.names.get(uid)) {
            keys.extend([ResourceKey::In(*name), ResourceKey::IsIn(kind, *name)]);
        }
        keys
    }

    /// The numbers of the policies whose scope matches, in order, each once.
    pub(crate) fn candidates(&self, action: Action, principal: &[PrincipalKey], resource: &[ResourceKey]) -> Vec<u32> {
        let mut found = Vec::new();
        let Some(buckets) = self.by_action.get(action as usize) else { return found };
        for buckets in principal.iter().filter_map(|key| buckets.get(key)) {
            for numbers in resource.iter().filter_map(|key| buckets.get(key)) {
                found.extend_from_slice(numbers);
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }

    fn principal_key(&mut self, policy: &Policy, vocabulary: &Vocabulary) -> Option<PrincipalKey> {
        Some(match policy.principal_constraint() {
            PrincipalConstraint::Any => PrincipalKey::Any,
            PrincipalConstraint::Is(kind) => PrincipalKey::Is(vocabulary.kind(&kind)?),
            PrincipalConstraint::Eq(uid) => PrincipalKey::Eq(self.name(uid)),
            PrincipalConstraint::In(uid) => PrincipalKey::In(self.name(uid)),
            PrincipalConstraint::IsIn(kind, uid) => PrincipalKey::IsIn(vocabulary.kind(&kind)?, self.name(uid)),
        })
    }

    fn resource_key(&mut self, policy: &Policy, vocabulary: &Vocabulary) -> Option<ResourceKey> {
        Some(match policy.resource_constraint() {
            ResourceConstraint::Any => ResourceKey::Any,
            ResourceConstraint::Is(kind) => ResourceKey::Is(vocabulary.kind(&kind)?),
            ResourceConstraint::Eq(uid) => ResourceKey::Eq(self.name(uid)),
            ResourceConstraint::In(uid) => ResourceKey::In(self.name(uid)),
            ResourceConstraint::IsIn(kind, uid) => ResourceKey::IsIn(vocabulary.kind(&kind)?, self.name(uid)),
        })
    }

    fn name(&mut self, uid: EntityUid) -> u32 {
        let next = u32::try_from(self.names.len()).unwrap_or(u32::MAX);
        *self.names.entry(uid).or_insert(next)
    }
}

/// Whether the scope names neither principal, action nor resource.
pub(crate) fn is_unscoped(policy: &Policy) -> bool {
    policy.principal_constraint() == PrincipalConstraint::Any
        && policy.action_constraint() == ActionConstraint::Any
        && policy.resource_constraint() == ResourceConstraint::Any
}

fn allows(constraint: &ActionConstraint, action: &EntityUid, actions: &Entities) -> bool {
    let is_in = |group: &EntityUid| group == action || actions.is_ancestor_of(group, action);
    match constraint {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(one) => one == action,
        ActionConstraint::In(groups) => groups.iter().any(is_in),
    }
}

#[cfg(test)]
mod tests {
    use icegate_pdp_model::Catalog;

    use crate::{
        annotation::Turn,
        compile::Bundle,
        vocabulary::{Action, Type},
    };

    #[test]
    fn what_is_looked_at_does_not_grow_with_the_policies() {
        for policies in [10, 3_000] {
            let texts = (0..policies).map(|number| {
                let text = format!(
                    r#"permit (principal in Icegate::Group::"g{number}", action in Icegate::Action::"read",
                        resource in Icegate::Schema::"S{}");"#,
                    number % 7
                );
                (text, Turn::Permit)
            });
            let bundle = Bundle::of(Catalog::default(), texts);
            let uid = |kind, id| bundle.vocabulary.uid(kind, id);
            let groups = [uid(Type::Group, "g3"), uid(Type::Group, "g5"), uid(Type::Group, "elsewhere")];
            let principal = bundle.index.principal_keys(Type::User, &uid(Type::User, "u"), &groups);
            assert_eq!(principal.len(), 6, "a group no policy names is not looked up");
            let above = [uid(Type::Schema, "S3"), uid(Type::Database, "D")];
            let resource = bundle.index.resource_keys(Type::Relation, &uid(Type::Relation, "T"), &above);
            assert_eq!(bundle.index.candidates(Action::Read, &principal, &resource), [3]);
            assert_eq!(
                bundle.index.candidates(Action::ReadColumn, &principal, &resource),
                [3],
                "in the action's group"
            );
            assert_eq!(bundle.index.candidates(Action::Write, &principal, &resource), [0_u32; 0]);
        }
    }
}
