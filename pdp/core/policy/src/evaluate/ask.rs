use std::collections::HashMap;

use cedar_policy::{AuthorizationError, Context, Decision, Entities, EntityUid, Request, Response};

use crate::{
    annotation::Turn,
    compile::Bundle,
    facts::{Resource, Slice, Unaskable},
    index::PrincipalKey,
    vocabulary::{Action, Type},
};

/// Which policies are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Selection {
    /// Those whose scope can match.
    Indexed,
    /// All: what the index is measured against.
    #[cfg(test)]
    All,
}

/// What Cedar says to one question. Policies by their number in the bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Answer {
    /// These could not be evaluated.
    Erred(Vec<u32>),
    /// These refuse.
    Forbidden(Vec<u32>),
    /// Nothing permits.
    NotPermitted,
    /// These permit, and these turn the permission into a wait or a mask.
    Permitted { permits: Vec<u32>, turns: Vec<u32> },
}

/// One principal's questions over one set of entities, in one context after the other.
#[derive(Debug)]
pub(super) struct Asking<'a> {
    pub(super) bundle: &'a Bundle,
    pub(super) context: Context,
    /// Answers in this context that hold for every resource the same policies apply to: most columns of a statement.
    known: HashMap<(Action, Vec<u32>), Answer>,
    pub(super) principal: EntityUid,
    pub(super) keys: Vec<PrincipalKey>,
    pub(super) entities: Entities,
    selection: Selection,
}

impl<'a> Asking<'a> {
    pub(super) fn new(
        bundle: &'a Bundle,
        (principal, groups): (EntityUid, Vec<EntityUid>),
        slice: Slice<'_>,
        selection: Selection,
    ) -> Result<Self, Unaskable> {
        let keys = bundle.index.principal_keys(Type::User, &principal, &groups);
        let entities = slice.entities(&bundle.action_entities)?;
        Ok(Self { bundle, context: Context::empty(), known: HashMap::new(), principal, keys, entities, selection })
    }

    /// The questions that follow are asked in this context.
    pub(super) fn set_context(&mut self, context: Context) {
        self.context = context;
        self.known.clear();
    }

    /// What the policies say of `action` on `resource`.
    pub(super) fn ask(&mut self, action: Action, resource: &Resource) -> Result<Answer, Unaskable> {
        let candidates = match self.selection {
            Selection::Indexed => {
                let keys = self.bundle.index.resource_keys(resource.kind, &resource.uid, &resource.ancestors);
                self.bundle.index.candidates(action, &self.keys, &keys)
            }
            #[cfg(test)]
            Selection::All => (0..).take(self.bundle.policies.len()).collect(),
        };
        let looks_at_resource =
            |number: &u32| self.bundle.policy(*number).is_none_or(|policy| policy.looks_at_resource);
        // INVARIANT: the scope of every candidate holds for this resource, so without a condition on the resource the
        // answer is that of any other resource with these candidates.
        if self.selection != Selection::Indexed || candidates.iter().any(looks_at_resource) {
            return self.ask_cedar(action, resource, &candidates);
        }
        let key = (action, candidates);
        if let Some(answer) = self.known.get(&key) {
            return Ok(answer.clone());
        }
        let answer = self.ask_cedar(action, resource, &key.1)?;
        self.known.insert(key, answer.clone());
        Ok(answer)
    }

    /// Asks twice: what permits and what plainly refuses first, then what would turn the permission. Cedar names only
    /// what refused once anything refuses, so a column that is masked *and* permitted by nobody would otherwise look
    /// like a masked one.
    fn ask_cedar(&self, action: Action, resource: &Resource, candidates: &[u32]) -> Result<Answer, Unaskable> {
        let (plain, turning): (Vec<u32>, Vec<u32>) =
            candidates.iter().partition(|number| match self.bundle.policy(**number).map(|policy| &policy.turn) {
                Some(Turn::Mask(_) | Turn::Approval(_)) => false,
                Some(Turn::Permit | Turn::Forbid) | None => true,
            });
        if plain.is_empty() {
            return Ok(Answer::NotPermitted);
        }
        let action = self.bundle.vocabulary.action(action).clone();
        let request = Request::new(self.principal.clone(), action, resource.uid.clone(), self.context.clone(), None)
            .map_err(|_| Unaskable)?;
        let first = self.respond(&request, &plain)?;
        let (erred, reasons) = self.numbers(&first);
        if !erred.is_empty() {
            return Ok(Answer::Erred(erred));
        }
        match first.decision() {
            Decision::Deny if reasons.is_empty() => return Ok(Answer::NotPermitted),
            Decision::Deny => return Ok(Answer::Forbidden(reasons)),
            Decision::Allow => {}
        }
        if turning.is_empty() {
            return Ok(Answer::Permitted { permits: reasons, turns: Vec::new() });
        }
        let (erred, turns) = self.numbers(&self.respond(&request, &turning)?);
        if !erred.is_empty() {
            return Ok(Answer::Erred(erred));
        }
        Ok(Answer::Permitted { permits: reasons, turns })
    }

    fn respond(&self, request: &Request, numbers: &[u32]) -> Result<Response, Unaskable> {
        let policies = self.bundle.sets.of(numbers, &self.bundle.policies).ok_or(Unaskable)?;
        Ok(self.bundle.authorizer.is_authorized(request, &policies, &self.entities))
    }

    /// The policies that erred and those that determined the answer, in order.
    fn numbers(&self, response: &Response) -> (Vec<u32>, Vec<u32>) {
        let number = |id| self.bundle.numbers.get(id).copied();
        let erred = response.diagnostics().errors().map(|error| match error {
            AuthorizationError::PolicyEvaluationError(error) => number(error.policy_id()).unwrap_or(u32::MAX),
        });
        let mut erred: Vec<u32> = erred.collect();
        let mut reasons: Vec<u32> = response.diagnostics().reason().filter_map(number).collect();
        erred.sort_unstable();
        reasons.sort_unstable();
        (erred, reasons)
    }
}
