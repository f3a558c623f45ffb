//! Every case file under `tests/cases`: a text, what is read in it, and how it looks with its reads masked.
//!
//! A case states the whole answer: what it leaves out must be empty.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::collections::{BTreeMap, BTreeSet};

use icegate_pdp_model::{Catalog, ColumnName, Level, Mask, RelationName, SessionContext, Stops};
use icegate_pdp_sql::{BoundValues, Limits, Rewriting, Written, analyze};
use serde::Deserialize;

#[derive(Debug, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
struct Case {
    sql: String,
    #[serde(default)]
    session: Option<SessionContext>,
    /// Texts bound to it.
    #[serde(default)]
    bound: Vec<String>,
    /// The level of the least understood statement.
    #[serde(default = "understood")]
    level: Level,
    /// One per statement.
    #[serde(default)]
    kinds: Vec<String>,
    /// `effect kind NAME`, of all statements.
    #[serde(default)]
    objects: Vec<String>,
    #[serde(default)]
    columns: Vec<String>,
    #[serde(default)]
    unresolved: Vec<String>,
    #[serde(default)]
    exports: Vec<String>,
    /// What stopped the first statement that is not understood.
    #[serde(default)]
    why: Option<String>,
    #[serde(default)]
    sets: Vec<String>,
    #[serde(default)]
    stops: Option<Stops>,
    /// `NAME = transformation [sources] by [control]`, of the first statement; a column that is stored has the name of
    /// its relation in front.
    #[serde(default)]
    projection: Option<Vec<String>>,
    #[serde(default)]
    masks: BTreeMap<String, Mask>,
    /// The text with the masks.
    #[serde(default)]
    rewritten: Option<String>,
    /// What the refusal says.
    #[serde(default)]
    refused: Option<String>,
}

fn understood() -> Level {
    Level::Understood
}

fn answer(case: &Case, catalog: &Catalog) -> Case {
    let usual =
        SessionContext { database: Some("SALES".into()), schema: Some("PUBLIC".into()), role: None, warehouse: None };
    let session = case.session.clone().unwrap_or(usual);
    let bound = BoundValues::Numbered(case.bound.iter().cloned().map(Some).collect());
    let written = Written::of(&case.sql, &bound);
    let analyzed = analyze(&written.sql, &session, catalog, &Limits::default()).unwrap();
    let statements = &analyzed.statements;
    let mut answer = Case {
        sql: case.sql.clone(),
        session: case.session.clone(),
        bound: case.bound.clone(),
        level: statements.iter().map(|s| s.level).max().unwrap(),
        kinds: statements.iter().map(|s| s.kind.to_string()).collect(),
        objects: Vec::new(),
        columns: Vec::new(),
        unresolved: statements.iter().flat_map(|s| s.unresolved.clone()).collect(),
        exports: statements.iter().flat_map(|s| s.exports.clone()).collect(),
        why: statements.iter().find_map(|s| s.why.clone()),
        sets: Vec::new(),
        stops: statements.iter().find_map(|s| s.stops.clone()),
        projection: None,
        masks: case.masks.clone(),
        rewritten: None,
        refused: None,
    };
    for statement in statements {
        answer.objects.extend(statement.objects.iter().map(|o| format!("{} {} {}", o.effect, o.kind, o.name)));
        answer.columns.extend(statement.columns_read.iter().map(short));
        answer.sets.extend(statement.session_changes.iter().map(|change| match &change.value {
            Some(value) => format!("{} = {value}", change.name),
            None => change.name.clone(),
        }));
        assert_eq!(statement.why.is_none(), statement.level == Level::Understood);
    }
    if case.projection.is_some() {
        let columns = statements[0].projection.iter().map(|column| {
            let list = |columns: &BTreeSet<ColumnName>| columns.iter().map(short).collect::<Vec<_>>().join(" ");
            let opaque = if column.opaque { " opaque" } else { "" };
            let how = format!("{:?}", column.transformation).to_lowercase();
            let name = match &column.target {
                Some(target) => format!("{}.{}", short_relation(target), column.name),
                None => column.name.clone(),
            };
            format!("{name} = {how} [{}] by [{}]{opaque}", list(&column.sources), list(&column.control))
        });
        answer.projection = Some(columns.collect());
    }
    if !case.masks.is_empty() {
        let masks = case.masks.iter().map(|(name, mask)| (full(name), mask.clone())).collect();
        let names = written.places();
        let expressions = &BTreeMap::new();
        let rewriting = Rewriting { masks: &masks, row_filters: &[], names: &names, hash_salt: "pepper", expressions };
        match analyzed.rewrite_by(&rewriting) {
            Ok(rewritten) => answer.rewritten = written.sent(&rewritten.sql, &rewritten.names),
            Err(refusal) => answer.refused = Some(refusal.to_string()),
        }
    }
    answer
}

/// Names of the usual schema are written without it.
fn short(name: &ColumnName) -> String {
    let name = name.to_string();
    name.strip_prefix("SALES.PUBLIC.").map_or(name.clone(), str::to_owned)
}

fn short_relation(name: &RelationName) -> String {
    let name = name.to_string();
    name.strip_prefix("SALES.PUBLIC.").map_or(name.clone(), str::to_owned)
}

fn full(name: &str) -> ColumnName {
    name.parse().or_else(|_| format!("SALES.PUBLIC.{name}").parse()).unwrap()
}

fn catalog() -> Catalog {
    serde_saphyr::from_str(include_str!("cases/catalog.yaml")).unwrap()
}

/// The reasons of heads name places of the parser's choice: that there is one is asked in `answer`.
fn check_but_reasons(file: &str, text: &str) {
    compare(file, text, |answer| Case { why: None, ..answer });
}

fn check(file: &str, text: &str) {
    compare(file, text, |answer| answer);
}

/// Says every case that is answered otherwise.
fn compare(file: &str, text: &str, seen: impl Fn(Case) -> Case) {
    let cases: Vec<Case> = serde_saphyr::from_str(text).unwrap();
    let catalog = catalog();
    let wrong = cases.iter().filter_map(|case| {
        let answer = seen(answer(case, &catalog));
        (&answer != case).then(|| format!("{file}: {}\n  is {answer:?}\n not {case:?}\n", case.sql))
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.concat());
}

#[test]
fn heads() {
    check_but_reasons("heads.yaml", include_str!("cases/heads.yaml"));
    check_but_reasons("heads_bodies.yaml", include_str!("cases/heads_bodies.yaml"));
    check_but_reasons("heads_families.yaml", include_str!("cases/heads_families.yaml"));
}

#[test]
fn queries() {
    check("queries.yaml", include_str!("cases/queries.yaml"));
}

#[test]
fn constructs() {
    check("constructs.yaml", include_str!("cases/constructs.yaml"));
}

#[test]
fn stored() {
    check("stored.yaml", include_str!("cases/stored.yaml"));
}

#[test]
fn statements() {
    check("statements.yaml", include_str!("cases/statements.yaml"));
}

#[test]
fn traps() {
    check("traps.yaml", include_str!("cases/traps.yaml"));
}

#[test]
fn masking() {
    check("masking.yaml", include_str!("cases/masking.yaml"));
}

#[test]
fn attacks() {
    check("attacks.yaml", include_str!("cases/attacks.yaml"));
}

#[test]
fn shapes() {
    check("shapes.yaml", include_str!("cases/shapes.yaml"));
}

#[test]
fn shapes_masked() {
    check("shapes_masked.yaml", include_str!("cases/shapes_masked.yaml"));
}

#[test]
fn bound() {
    check("bound.yaml", include_str!("cases/bound.yaml"));
}

#[test]
fn paths() {
    check("paths.yaml", include_str!("cases/paths.yaml"));
}
