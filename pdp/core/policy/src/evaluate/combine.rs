use std::collections::{BTreeMap, BTreeSet, HashSet};

use icegate_pdp_model::{
    Code, ColumnName, Effect, Level, Mask, MaskedColumn, Outcome, Reason, RelationName, RowFilter,
};

use super::{Question, Subject, Verdict, ask::Answer, rows::Rows};
use crate::{annotation::Turn, compile::Bundle, sentence, vocabulary::Action};

/// Most reasons one verdict gives.
const REASONS_MAX: usize = 50;

/// Puts the answers together: deny before needs-approval before mask before allow.
#[derive(Debug, Default)]
pub(super) struct Combination {
    denied: Gathered,
    waiting: Gathered,
    groups: BTreeSet<String>,
    /// Per column the strictest mask, the policy that asks for it, and how it is explained.
    masks: BTreeMap<ColumnName, (Mask, String, Reason)>,
    masking: BTreeSet<String>,
    /// Of each statement, the relations of which only some rows may be read.
    row_filters: Vec<Vec<RowFilter>>,
    permits: BTreeSet<String>,
    /// Relations of the current statement nobody may read: their columns need no sentence of their own.
    unread: HashSet<RelationName>,
    /// The current statement's columns are not known.
    is_classified: bool,
}

/// Reasons and the policies behind them.
#[derive(Debug, Default)]
struct Gathered {
    any: bool,
    reasons: Vec<Reason>,
    policies: BTreeSet<String>,
}

impl Gathered {
    fn add(&mut self, reason: Reason) {
        self.any = true;
        self.policies.extend(reason.policy.clone());
        if self.reasons.len() < REASONS_MAX && !self.reasons.contains(&reason) {
            self.reasons.push(reason);
        }
    }
}

impl Combination {
    pub(super) fn next_statement(&mut self, level: Level) {
        self.unread.clear();
        self.is_classified = level == Level::Classified;
        self.row_filters.push(Vec::new());
    }

    pub(super) fn add_rows(&mut self, rows: Rows) {
        match rows {
            Rows::All => {}
            Rows::Some(filter) => {
                if let Some(filters) = self.row_filters.last_mut() {
                    filters.push(filter);
                }
            }
            Rows::Erred(policies) => {
                for id in policies {
                    self.denied.add(Reason::of_policy(Code::PolicyError, id.as_str(), sentence::erred(&id)));
                }
            }
        }
    }

    pub(super) fn add(&mut self, bundle: &Bundle, question: &Question<'_>, answer: Answer) {
        match answer {
            Answer::Erred(policies) => {
                for number in policies {
                    let id = bundle.policy(number).map_or("unknown", |policy| policy.id.as_str());
                    self.denied.add(Reason::of_policy(Code::PolicyError, id, sentence::erred(id)));
                }
            }
            Answer::Forbidden(policies) => {
                for policy in policies.into_iter().filter_map(|number| bundle.policy(number)) {
                    let message = policy.reason.clone();
                    let message =
                        message.unwrap_or_else(|| sentence::forbidden(&policy.id, question.action, &question.subject));
                    self.denied.add(Reason::of_policy(Code::PolicyForbid, policy.id.as_str(), message));
                }
            }
            Answer::NotPermitted => self.not_permitted(question),
            Answer::Permitted { permits, turns } => {
                let ids =
                    permits.into_iter().filter_map(|number| bundle.policy(number)).map(|policy| policy.id.clone());
                self.permits.extend(ids);
                for policy in turns.into_iter().filter_map(|number| bundle.policy(number)) {
                    match &policy.turn {
                        Turn::Approval(group) => {
                            let sentence = || sentence::approval(group, question.action, &question.subject);
                            let message = policy.reason.clone().unwrap_or_else(sentence);
                            self.groups.insert(group.clone());
                            self.waiting.add(Reason::of_policy(Code::PolicyApproval, policy.id.as_str(), message));
                        }
                        Turn::Mask(mask) => self.mask(&policy.id, policy.reason.as_ref(), mask, &question.subject),
                        // Only turning policies are asked second.
                        Turn::Permit | Turn::Forbid => {}
                    }
                }
            }
        }
    }

    fn not_permitted(&mut self, question: &Question<'_>) {
        self.denied.any = true;
        let code = if question.action == Action::Unknown { Code::SqlUnknown } else { Code::PolicyNoPermit };
        match &question.subject {
            Subject::Column(column) if self.unread.contains(&column.relation) => return,
            Subject::Object(access) if access.effect == Effect::Read => {
                self.unread.extend(RelationName::of(access.name.parts()));
            }
            Subject::Column(_) | Subject::Object(_) | Subject::Statement(_) | Subject::Person(_) => {}
        }
        self.denied.add(Reason::new(code, sentence::not_permitted(question.action, &question.subject)));
    }

    fn mask(&mut self, policy: &str, reason: Option<&String>, mask: &Mask, subject: &Subject<'_>) {
        // Masks stand on column questions alone: the bundle is refused otherwise.
        let Subject::Column(column) = subject else { return };
        if self.is_classified {
            let message = sentence::unmaskable(column);
            self.denied.add(Reason::of_policy(Code::MaskImpossible, policy, message));
            return;
        }
        self.masking.insert(policy.to_owned());
        let message = reason.cloned().unwrap_or_else(|| sentence::masked(column, mask));
        let entry = (mask.clone(), policy.to_owned(), Reason::of_policy(Code::PolicyMask, policy, message));
        match self.masks.get_mut(column) {
            None => drop(self.masks.insert(column.clone(), entry)),
            Some(known) => {
                let strictest = known.0.clone().stricter(mask.clone());
                if strictest != known.0 || (*mask == known.0 && entry.1 < known.1) {
                    // Of two scans neither is the stricter: their sum is.
                    let summed = strictest != *mask;
                    *known = entry;
                    if summed {
                        known.2.message = sentence::masked(column, &strictest);
                        known.0 = strictest;
                    }
                }
            }
        }
    }

    pub(super) fn verdict(self) -> Verdict {
        if self.denied.any {
            let Gathered { mut reasons, policies, .. } = self.denied;
            // What a policy says comes first: drivers show the first reason, and it knows the remedy.
            reasons.sort_by_key(|reason| reason.policy.is_none());
            return Verdict { policies, ..Verdict::refuse(reasons) };
        }
        let mut explained = Gathered::default();
        let mut masks = Vec::with_capacity(self.masks.len());
        for (column, (mask, policy, reason)) in self.masks {
            explained.add(reason);
            masks.push(MaskedColumn { column, mask, policy });
        }
        if self.waiting.any {
            return Verdict {
                outcome: Outcome::NeedsApproval,
                reasons: self.waiting.reasons,
                masks,
                row_filters: self.row_filters,
                approval_groups: self.groups,
                policies: self.waiting.policies,
            };
        }
        let mut policies = self.permits;
        policies.extend(self.masking);
        Verdict {
            outcome: if masks.is_empty() { Outcome::Allow } else { Outcome::Mask },
            reasons: explained.reasons,
            masks,
            row_filters: self.row_filters,
            approval_groups: BTreeSet::new(),
            policies,
        }
    }
}
