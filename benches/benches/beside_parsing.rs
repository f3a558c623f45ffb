//! How many times the bare parse does an analysis with lineage cost? Both run in turn, a fraction of a millisecond each,
//! so that whatever else the machine does meets both: the ratio holds on a busy one. With `--json`, one object per
//! statement, for `beside_sqlglot.py`.

#![allow(
    missing_docs,
    unreachable_pub,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a bench may"
)]

#[path = "shared/parse.rs"]
mod parsing;

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use icegate_benches::{CATALOG, session, statements};
use icegate_pdp_model::Catalog;
use icegate_pdp_sql::{Limits, analyze};
use parsing::parse;

const ROUNDS: usize = 201;
const ROUND: Duration = Duration::from_micros(400);

fn main() {
    let json = std::env::args().any(|arg| arg == "--json");
    let catalog: Catalog = serde_saphyr::from_str(CATALOG).unwrap();
    let (session, limits) = (session(), Limits::default());
    if !json {
        println!(
            "{:28} {:10} {:>6} {:>12} {:>12} {:>6}",
            "statement", "level", "bytes", "parse µs", "analysis µs", "ratio"
        );
    }
    let mut ratios = Vec::new();
    for (name, sql) in statements().unwrap() {
        let level = analyze(&sql, &session, &catalog, &limits).unwrap().statements[0].level;
        let parsed = parse(&sql).is_ok();
        let one = mean(1, || drop(black_box(analyze(black_box(&sql), &session, &catalog, &limits).unwrap())));
        let runs = u32::try_from((ROUND.as_nanos() / one.as_nanos().max(1)).max(1)).unwrap();
        let mut rounds = Vec::with_capacity(ROUNDS);
        for _ in 0..ROUNDS {
            let bare = mean(runs, || drop(black_box(parse(black_box(&sql)))));
            let whole = mean(runs, || drop(black_box(analyze(black_box(&sql), &session, &catalog, &limits).unwrap())));
            rounds.push((bare, whole));
        }
        let micros = |of: fn(&(Duration, Duration)) -> Duration| {
            median(rounds.iter().map(|round| of(round).as_secs_f64() * 1e6).collect())
        };
        let (bare, whole) = (micros(|round| round.0), micros(|round| round.1));
        let ratio = median(rounds.iter().map(|(bare, whole)| whole.as_secs_f64() / bare.as_secs_f64()).collect());
        if json {
            println!("{{\"name\":\"{name}\",\"parse_us\":{bare:.2},\"analysis_us\":{whole:.2}}}");
            continue;
        }
        let shown = if parsed { format!("{ratio:6.2}") } else { "     -".to_owned() };
        println!("{name:28} {:10} {:6} {bare:12.1} {whole:12.1} {shown}", level.as_str(), sql.len());
        ratios.extend(parsed.then_some(ratio));
    }
    if !json {
        let most = ratios.iter().copied().fold(0.0, f64::max);
        println!(
            "median ratio {:.2}, highest {most:.2}; `-`: the parser stops early, and the head is read",
            median(ratios)
        );
    }
}

fn mean(runs: u32, mut work: impl FnMut()) -> Duration {
    let start = Instant::now();
    for _ in 0..runs {
        work();
    }
    start.elapsed() / runs
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}
