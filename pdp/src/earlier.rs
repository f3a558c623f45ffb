//! What earlier statements of a session left that later ones may read: its own results, while they are what they were
//! decided to be, and its temporary relations.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use icegate_pdp_audit::{DecisionEvent, Delivery, OutcomeEvent, RunStatus};
use icegate_pdp_decision::{
    BoundValues, Earlier, Temporaries, Written, follow, makes_temporary, readable, results_asked,
};
use icegate_pdp_model::{Decision, EarlierColumn, EarlierRows, Effect, Level, MaskSite, ObjectAccess, Verb};
use icegate_pdp_policy::Bundle;
use icegate_pdp_store::{SessionRow, StateChange};
use tonic::Status;

use crate::state::{Pdp, unreadable};

impl Pdp {
    /// What the text's `RESULT_SCAN`s would read, by query id, and what temporary relations there are.
    pub(crate) async fn earlier(
        &self,
        sql: &str,
        bound: &BoundValues,
        session: &SessionRow,
        bundle: &Bundle,
        temporaries: &Temporaries,
    ) -> Result<Arc<Earlier>, Status> {
        let written = Written::of(sql, bound);
        let mut results = BTreeMap::new();
        for query_id in results_asked(&written.sql) {
            let run = self.store.run_of_query(&session.session_id, &query_id).await;
            let result = match run.map_err(|error| unreadable(&error))? {
                // Another session's is as unknown as none.
                None => Err("there is no such result of this session"),
                Some((decision, outcome)) => again(&decision, &outcome, session, bundle),
            };
            results.insert(query_id, result.map(Arc::new).map_err(str::to_owned));
        }
        Ok(Arc::new(Earlier { results, relations: readable(temporaries) }))
    }

    /// The temporary relations of a session.
    pub(crate) async fn temporaries(&self, session_id: &str) -> Result<Temporaries, Status> {
        let mut temporaries = Temporaries::new();
        if self.holds_temporaries(session_id) {
            let rows = self.store.temporaries(session_id).await.map_err(|error| unreadable(&error))?;
            for (name, row) in rows {
                temporaries.entry(name).or_default().push(row);
            }
        }
        Ok(temporaries)
    }

    /// What a decision that may run does to the temporary relations of its session.
    pub(crate) fn followed(
        &self,
        session_id: &str,
        decision: &Decision,
        decision_id: &str,
        bundle: &Bundle,
        mut temporaries: Temporaries,
    ) -> Vec<StateChange> {
        if temporaries.is_empty() && !makes_temporary(decision) {
            return Vec::new();
        }
        self.has_temporaries(session_id);
        let changed = follow(decision, decision_id, &bundle.settings().masks, &mut temporaries);
        let put = |name| {
            let rows = temporaries.remove(&name).unwrap_or_default();
            StateChange::PutTemporary { session_id: session_id.to_owned(), name, rows }
        };
        changed.into_iter().map(put).collect()
    }
}

/// The result of an earlier run as it may be read again, or why not.
fn again(
    decision: &DecisionEvent,
    outcome: &OutcomeEvent,
    session: &SessionRow,
    bundle: &Bundle,
) -> Result<EarlierRows, &'static str> {
    const OTHERWISE: &str = "it cannot be read again; run its statement again";
    let own = decision.session_id == session.session_id && decision.principal.id == session.principal.id;
    let ended = outcome.status == RunStatus::Succeeded && outcome.delivery != Some(Delivery::Stage);
    if !own || !ended || !decision.runs() || decision.describe_only {
        return Err("there is no such result of this session");
    }
    if decision.bundle_version != bundle.version() {
        return Err("the policies or the catalog have changed since; run its statement again");
    }
    // What the proxy masks stands bare at the warehouse.
    if decision.masks.iter().any(|mask| mask.site != MaskSite::Source)
        || decision.columns.iter().any(|column| column.result_mask.is_some())
    {
        return Err("the proxy masked it on its way, and the warehouse has it bare; run its statement again");
    }
    let [statement] = decision.statements.as_slice() else {
        return Err("it is of several statements; run the one you need again");
    };
    // What SHOW and DESCRIBE give is of the objects they name, and those are known where the rest of them is not.
    let described = matches!(statement.kind.verb, Verb::Show | Verb::Describe) && statement.level == Level::Classified;
    let known = statement.level == Level::Understood || described;
    if !known || !statement.unresolved.is_empty() || !statement.exports.is_empty() {
        return Err(OTHERWISE);
    }
    let columns = match statement.kind.verb {
        Verb::Select => {
            let whole = !decision.columns.is_empty() && decision.columns.iter().all(|column| column.name != "*");
            let columns = decision.columns.iter().filter(|_| whole).map(|column| {
                let sources = column.sources.iter().map(|name| name.parse().ok()).collect::<Option<_>>()?;
                Some(EarlierColumn { name: column.name.clone(), sources, opaque: column.opaque })
            });
            let columns = columns.collect::<Option<Vec<_>>>().filter(|_| whole);
            Some(columns.ok_or("its columns are not known; run its statement again")?)
        }
        Verb::Show | Verb::Describe => None,
        _ => return Err("only what SELECT, SHOW and DESCRIBE give is read again"),
    };
    let reads =
        |effect| matches!(effect, Effect::Read | Effect::Metadata | Effect::Import | Effect::Use | Effect::Execute);
    let mut objects = Vec::with_capacity(statement.objects.len());
    for object in &statement.objects {
        let name = object.name.parse().ok().filter(|_| reads(object.effect)).ok_or(OTHERWISE)?;
        objects.push(ObjectAccess { kind: object.kind, name, effect: object.effect });
    }
    let columns_read = statement.columns_read.iter().map(|name| name.parse().ok()).collect::<Option<_>>();
    let masks = decision.masks.iter().map(|mask| Some((mask.column.parse().ok()?, mask.mask.parse().ok()?)));
    let masks = masks.collect::<Option<BTreeMap<_, _>>>().ok_or(OTHERWISE)?;
    let filters =
        decision.row_filters.iter().map(|filter| Some((filter.relation.parse().ok()?, filter.condition.clone())));
    Ok(EarlierRows {
        columns,
        objects,
        columns_read: columns_read.ok_or(OTHERWISE)?,
        // The same policies told then what each of them shows.
        rows_met: BTreeSet::new(),
        expressions: EarlierRows::expressions_of(&masks, &bundle.settings().masks),
        masks,
        row_filters: filters.collect::<Option<BTreeMap<_, _>>>().ok_or(OTHERWISE)?,
    })
}
