//! One whole decision, and how it grows with the number of policies.

#![allow(missing_docs, clippy::unwrap_used, reason = "a bench may")]

use std::{collections::BTreeSet, hint::black_box};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use icegate_benches::{JOIN, analyst, bundle};
use icegate_pdp_decision::{BoundValues, Earlier, Question, decide};
use icegate_pdp_model::{Outcome, SessionContext};
use icegate_pdp_policy::Bundle;

fn growth(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decide_by_policies");
    let principal = analyst();
    let (session, approvals) = (SessionContext::default(), BTreeSet::new());
    for extra in [0, 1_000, 10_000] {
        let bundle = Bundle::compile(&bundle(extra).unwrap()).unwrap();
        let question = Question {
            principal: &principal,
            sql: JOIN,
            bound: &BoundValues::default(),
            earlier: Earlier::none(),
            session: &session,
            statement_count: 1,
            approvals: &approvals,
        };
        assert_eq!(decide(&question, &bundle).outcome, Outcome::Mask, "the bench measures a masked allow");
        group.bench_with_input(BenchmarkId::from_parameter(extra), &bundle, |bencher, bundle| {
            bencher.iter(|| decide(black_box(&question), bundle));
        });
    }
    group.finish();
}

criterion_group!(benches, growth);
criterion_main!(benches);
