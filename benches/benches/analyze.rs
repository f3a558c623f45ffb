//! Analysis with lineage, beside parsing alone: the ratio is what counts.

#![allow(missing_docs, clippy::unwrap_used, reason = "a bench may")]

use std::hint::black_box;

use criterion::{Criterion, criterion_group, criterion_main};
use icegate_benches::{JOIN, bundle};
use icegate_pdp_model::SessionContext;
use icegate_pdp_policy::Bundle;
use icegate_pdp_sql::{Limits, analyze};
use sqlparser::{dialect::SnowflakeDialect, parser::Parser};

fn analysis(criterion: &mut Criterion) {
    let bundle = Bundle::compile(&bundle(0).unwrap()).unwrap();
    let (session, limits) = (SessionContext::default(), Limits::default());
    let mut group = criterion.benchmark_group("analyze");
    group.bench_function("sqlparser_alone", |bencher| {
        bencher.iter(|| Parser::parse_sql(&SnowflakeDialect {}, black_box(JOIN)).unwrap());
    });
    group.bench_function("with_lineage", |bencher| {
        bencher.iter(|| analyze(black_box(JOIN), &session, bundle.catalog(), &limits).unwrap());
    });
    group.finish();
}

criterion_group!(benches, analysis);
criterion_main!(benches);
