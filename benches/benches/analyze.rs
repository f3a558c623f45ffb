//! Analysis with lineage beside parsing alone, and how it grows with the statement and with the catalog.

#![allow(missing_docs, unreachable_pub, clippy::unwrap_used, reason = "a bench may")]

#[path = "shared/parse.rs"]
mod parsing;

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use icegate_benches::{CATALOG, JOIN, grown, long_query, session, statements};
use icegate_pdp_model::Catalog;
use icegate_pdp_sql::{Limits, analyze};
use parsing::parse;

fn catalog() -> Catalog {
    serde_saphyr::from_str(CATALOG).unwrap()
}

fn kinds(criterion: &mut Criterion) {
    let (catalog, session, limits) = (catalog(), session(), Limits::default());
    let mut group = criterion.benchmark_group("analyze");
    for (name, sql) in statements().unwrap() {
        group.bench_with_input(BenchmarkId::new("sqlparser_alone", &name), &sql, |bencher, sql| {
            bencher.iter(|| parse(black_box(sql)));
        });
        group.bench_with_input(BenchmarkId::new("with_lineage", &name), &sql, |bencher, sql| {
            bencher.iter(|| analyze(black_box(sql), &session, &catalog, &limits).unwrap());
        });
    }
}

fn growth_of_the_statement(criterion: &mut Criterion) {
    let (catalog, session, limits) = (catalog(), session(), Limits::default());
    let mut group = criterion.benchmark_group("analyze_by_statement");
    for parts in [1, 10, 100, 1_000] {
        let sql = long_query(parts);
        group.throughput(Throughput::Bytes(sql.len() as u64));
        group.bench_with_input(BenchmarkId::from_parameter(parts), &sql, |bencher, sql| {
            bencher.iter(|| analyze(black_box(sql), &session, &catalog, &limits).unwrap());
        });
    }
}

fn growth_of_the_catalog(criterion: &mut Criterion) {
    let (session, limits) = (session(), Limits::default());
    let mut group = criterion.benchmark_group("analyze_by_catalog");
    for relations in [10, 1_000, 100_000] {
        let catalog = grown(catalog(), relations);
        group.bench_with_input(BenchmarkId::from_parameter(relations), &catalog, |bencher, catalog| {
            bencher.iter(|| analyze(black_box(JOIN), &session, catalog, &limits).unwrap());
        });
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(30);
    targets = kinds, growth_of_the_statement, growth_of_the_catalog
}
criterion_main!(benches);
