use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
};

use cedar_policy::PolicySet;

use crate::compile::Compiled;

/// Most sets kept. Each holds references to policies, not policies.
const SETS_MAX: usize = 8_192;

/// Policy sets that were asked before, by the numbers of their policies: building one costs more than finding it.
#[derive(Debug, Default)]
pub(crate) struct Sets(RwLock<HashMap<Box<[u32]>, Arc<PolicySet>>>);

impl Sets {
    /// The set of these policies. `None` when two policies had one id, which a compiled bundle never holds.
    pub(crate) fn of(&self, numbers: &[u32], policies: &[Compiled]) -> Option<Arc<PolicySet>> {
        // Values are complete before they are put in, so a writer that died left nothing half done.
        let known = self.0.read().unwrap_or_else(PoisonError::into_inner).get(numbers).cloned();
        if known.is_some() {
            return known;
        }
        let mut set = PolicySet::new();
        for number in numbers {
            let policy = policies.get(usize::try_from(*number).ok()?)?;
            set.add(policy.policy.clone()).ok()?;
        }
        let set = Arc::new(set);
        let mut sets = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if sets.len() >= SETS_MAX {
            sets.clear();
        }
        sets.insert(numbers.into(), Arc::clone(&set));
        Some(set)
    }
}
