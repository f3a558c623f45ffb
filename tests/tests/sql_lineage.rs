//! Lineage is checked twice on statements made by chance: against what their maker knows by construction, and against
//! sqlglot, which shares no line with us.
//!
//! A source that we miss is a mask that is not applied, and fails the test. A source too many is the safe error: it is
//! counted, and only those of a known sort may be there.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may"
)]

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write as _,
    process::{Command, Stdio},
};

use icegate_cli::demo::python::Environment;
use icegate_pdp_model::{ColumnName, Level, StatementAnalysis};
use icegate_pdp_sql::{Limits, analyze};
use icegate_tests::{
    generated::{Aliases, Generated, Source, catalog, generate, session},
    runs::{count, first_seed},
    stack::environment_blocking,
};
use serde::Deserialize;
use serde_json::json;

/// Statements made and read, and how many of them sqlglot is asked about, unless the environment asks for more.
const STATEMENTS: usize = 1500;
const ASKED: usize = 400;

const SQLGLOT: Environment = Environment {
    name: "sqlglot",
    title: "sqlglot 30.30.0",
    requirements: include_str!("../lineage/requirements.txt"),
};

fn read(statement: &Generated) -> StatementAnalysis {
    let analyzed = analyze(&statement.sql, &session(), catalog(), &Limits::default()).unwrap();
    let [analysis] = analyzed.statements.as_slice() else { panic!("several statements: {}", statement.sql) };
    analysis.clone()
}

fn short(columns: &BTreeSet<ColumnName>) -> BTreeSet<Source> {
    columns.iter().map(|column| format!("{}.{}", column.relation.name, column.column)).collect()
}

/// Tables alone: a view stands for what it reads.
fn without_views(mut columns: BTreeSet<Source>) -> BTreeSet<Source> {
    columns.retain(|column| !["CONTACTS.", "SPEND.", "TOP_SPEND."].iter().any(|view| column.starts_with(view)));
    columns
}

#[test]
fn no_source_is_missed() {
    let first = first_seed();
    let (mut columns, mut exact, mut tested, mut explained) = (0_usize, 0_usize, 0_usize, 0_usize);
    for seed in (first..).take(count(STATEMENTS)) {
        let statement = generate(seed, Aliases::Short);
        let analysis = read(&statement);
        let say = format!("seed {seed}: {}", statement.sql);
        assert_eq!(analysis.level, Level::Understood, "{say}: {:?}", analysis.why);
        assert!(analysis.unresolved.is_empty(), "{say}: {:?}", analysis.unresolved);
        assert_eq!(analysis.kind.to_string(), statement.kind, "{say}");
        let read = short(&analysis.columns_read);
        let missed: Vec<_> = statement.read.difference(&read).collect();
        assert!(missed.is_empty(), "not in columns_read: {missed:?}: {say}");
        assert_eq!(analysis.projection.len(), statement.outputs.len(), "{say}");
        for (output, expected) in analysis.projection.iter().zip(&statement.outputs) {
            let (sources, control) = (without_views(short(&output.sources)), without_views(short(&output.control)));
            let say = format!("column {} of {say}", expected.name);
            assert!(output.name.eq_ignore_ascii_case(&expected.name), "called {}: {say}", output.name);
            assert!(!output.opaque, "opaque: {say}");
            let missed: Vec<_> = expected.values.difference(&sources).collect();
            assert!(missed.is_empty(), "missed: {missed:?}: {say}");
            let missed: Vec<_> =
                expected.tested.iter().filter(|it| !sources.contains(*it) && !control.contains(*it)).collect();
            assert!(missed.is_empty(), "not even in control: {missed:?}: {say}");
            assert!(read.is_superset(&sources) && read.is_superset(&control), "{say}");
            let more: BTreeSet<_> = sources.difference(&expected.values).cloned().collect();
            columns += 1;
            if more.is_empty() {
                exact += 1;
            } else if more.is_subset(&expected.tested) {
                tested += 1;
            } else {
                let known = |it: &Source| expected.tested.contains(it) || is_explained(&statement, it);
                assert!(more.iter().all(known), "too many: {more:?}: {say}");
                explained += 1;
            }
        }
    }
    println!(
        "{columns} columns: {exact} exact, {tested} with a column counted as a value that is only tested, {explained} with one \
         more for a reason that is known"
    );
    assert!(exact * 100 >= columns * 80, "{exact} of {columns} exact");
}

/// Sources too many that are there for a reason: in a recursive common table expression a value may move from column to
/// column from round to round, so that each of its columns is said to hold what any of them holds.
fn is_explained(statement: &Generated, more: &str) -> bool {
    statement.sql.starts_with("WITH RECURSIVE") && ["PEOPLE.ID", "PEOPLE.EMAIL"].contains(&more)
}

#[derive(Debug, Deserialize)]
struct Said {
    id: u64,
    #[serde(default)]
    outputs: Vec<BTreeSet<Source>>,
    #[serde(default)]
    error: Option<String>,
}

/// Where sqlglot's answer does not count, and why.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Wrong {
    errors: Vec<Unanswered>,
    columns: Vec<Misplaced>,
}

/// Matched on its error.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Unanswered {
    error: String,
    why: String,
}

/// Matched on the statement: a source may be in another column, but we have to have it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Misplaced {
    text: String,
    why: String,
}

fn is_column(source: &str) -> bool {
    let (relation, column) = source.split_once('.').unwrap();
    let named = catalog().relations().find(|(name, _)| name.name == relation);
    named.is_some_and(|(_, relation)| relation.column(column).is_some())
}

fn ask_sqlglot(statements: &[Generated]) -> Vec<Said> {
    let python = environment_blocking(&SQLGLOT).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/lineage/sqlglot_lineage.py");
    let mut child = Command::new(python).arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let (mut schema, mut views) = (BTreeMap::new(), BTreeMap::new());
    for (name, relation) in catalog().relations() {
        if let Some(text) = &relation.definition {
            views.insert(name.name.clone(), text.clone());
        } else {
            // In their order: `*` stands for them in it.
            let columns = relation.columns.iter().map(|column| (column.name.clone(), json!(column.data_type)));
            schema.insert(name.name.clone(), columns.collect::<serde_json::Map<_, _>>());
        }
    }
    let mut lines = format!("{}\n", json!({"schema": {"SHOP": {"MAIN": schema}}, "views": views}));
    for statement in statements {
        lines.extend([json!({"id": statement.seed, "sql": statement.sql}).to_string(), "\n".to_owned()]);
    }
    // Written from a thread of its own: it answers while it is asked.
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn sqlglot_finds_no_source_that_we_miss() {
    let known: Wrong = serde_saphyr::from_str(include_str!("../lineage/sqlglot_wrong.yaml")).unwrap();
    let statements: Vec<Generated> =
        (first_seed()..).take(count(ASKED)).map(|seed| generate(seed, Aliases::Short)).collect();
    let said = ask_sqlglot(&statements);
    assert_eq!(said.len(), statements.len());
    let (mut compared, mut same, mut more, mut control) = (0_usize, 0_usize, 0_usize, 0_usize);
    let (mut invented, mut wrong) = (0_usize, Vec::new());
    let (mut unanswered, mut fewer) = (BTreeMap::<&str, usize>::new(), Vec::new());
    for (statement, said) in statements.iter().zip(&said) {
        assert_eq!(statement.seed, said.id);
        let say = format!("seed {}: {}", statement.seed, statement.sql);
        if let Some(error) = &said.error {
            let reason = known.errors.iter().find(|known| error.contains(&known.error));
            match reason {
                Some(reason) => *unanswered.entry(reason.why.as_str()).or_default() += 1,
                None => wrong.push(format!("sqlglot: {error}: {say}")),
            }
            continue;
        }
        let analysis = read(statement);
        let read = short(&analysis.columns_read);
        for (at, theirs) in said.outputs.iter().enumerate() {
            compared += 1;
            // Behind PIVOT and UNPIVOT it takes an alias for a column of the table: no such column is there to be missed.
            let theirs: BTreeSet<Source> = theirs.iter().filter(|it| is_column(it)).cloned().collect();
            invented += usize::from(theirs.len() < said.outputs[at].len());
            let Some(output) = analysis.projection.get(at) else {
                let missed: Vec<_> = theirs.difference(&read).collect();
                if !missed.is_empty() {
                    wrong.push(format!("sqlglot also finds {missed:?}: {say}"));
                }
                continue;
            };
            let (sources, decided) = (without_views(short(&output.sources)), short(&output.control));
            let missed: Vec<_> = theirs.difference(&sources).filter(|it| !decided.contains(*it)).collect();
            let misplaced = known.columns.iter().find(|it| statement.sql.contains(&it.text));
            if let (Some(it), false) = (misplaced, missed.is_empty())
                && missed.iter().all(|source| read.contains(*source))
            {
                *unanswered.entry(it.why.as_str()).or_default() += 1;
                continue;
            }
            if !missed.is_empty() {
                wrong.push(format!("sqlglot also finds {missed:?} in column {}: {say}", at + 1));
            }
            same += usize::from(theirs == sources);
            control += usize::from(!theirs.is_subset(&sources));
            // What it finds less is triaged by the oracle: the maker knows of it.
            if !sources.is_subset(&theirs) {
                more += 1;
                let expected = &statement.outputs[at];
                let extra = sources.iter().filter(|it| !theirs.contains(*it));
                let unknown: Vec<_> = extra
                    .filter(|it| !expected.values.contains(*it) && !expected.tested.contains(*it))
                    .filter(|it| !is_explained(statement, it))
                    .collect();
                if !unknown.is_empty() {
                    fewer.push(format!("{unknown:?} in column {}: {say}", at + 1));
                }
            }
        }
    }
    println!(
        "{compared} columns: {same} the same, {control} where we count as control what it counts as a value, {more} where it \
         misses one, {invented} where it names a column that there is not; not answered: {unanswered:?}"
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(fewer.is_empty(), "sources that neither sqlglot nor the maker knows: {fewer:#?}");
    let silent: usize = unanswered.values().sum();
    assert!(silent * 4 <= statements.len(), "sqlglot answers too few to prove anything: {unanswered:?}");
    assert!(same * 2 >= compared, "{same} of {compared} columns the same");
}
