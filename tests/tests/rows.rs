//! Row filters run: the rows a database gives for the rewritten text are those the filter shows, row by row.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

use std::collections::BTreeMap;

use icegate_pdp_model::{
    Catalog, Comparison, Operand, PatternPart, Predicate, RelationName, RowFilter, RowValue, SessionContext,
};
use icegate_pdp_sql::{Limits, Rewriting, analyze};
use proptest::{
    prelude::*,
    test_runner::{Config, TestRunner},
};
use sqlx::{Connection, Row as _, SqliteConnection};

const CATALOG: &str = "
databases: { d: { s: { t: { columns: {
  id: { type: INT }, a: { type: VARCHAR }, n: { type: INT }, f: { type: BOOLEAN }, d: { type: \"NUMBER(10,4)\" }
} } } } }
";

type Cells = [Option<RowValue>; 4];
const COLUMNS: [&str; 4] = ["A", "N", "F", "D"];

fn text(text: &str) -> RowValue {
    RowValue::Text(text.into())
}

fn rows() -> Vec<Cells> {
    let mut rows = Vec::new();
    for a in [None, Some("x"), Some("it's 5%_^"), Some("")] {
        for n in [None, Some(i64::MIN), Some(5)] {
            for f in [None, Some(true), Some(false)] {
                for d in [None, Some(15_000)] {
                    let a = a.map(text);
                    rows.push([a, n.map(RowValue::Long), f.map(RowValue::Bool), d.map(RowValue::Decimal)]);
                }
            }
        }
    }
    rows
}

fn predicate() -> impl Strategy<Value = Predicate> {
    let comparison = prop::sample::select(vec![
        Comparison::Equal,
        Comparison::NotEqual,
        Comparison::Less,
        Comparison::LessOrEqual,
        Comparison::Greater,
        Comparison::GreaterOrEqual,
    ]);
    let constant = prop::sample::select(vec![
        (0, text("x")),
        (0, text("it's 5%_^")),
        (0, text("' OR 1=1 --")),
        (1, RowValue::Long(5)),
        (1, RowValue::Long(i64::MIN)),
        (3, RowValue::Decimal(15_000)),
        (3, RowValue::Decimal(-1)),
    ]);
    let column = prop::sample::select(COLUMNS.to_vec());
    let pattern = prop::collection::vec(
        prop_oneof![2 => Just(PatternPart::Any), 3 => prop::sample::select("x5%_^'".chars().collect::<Vec<_>>()).prop_map(PatternPart::Char)],
        0..4,
    );
    let leaf = prop_oneof![
        1 => prop::sample::select(vec![None, Some(true), Some(false)]).prop_map(Predicate::Known),
        2 => Just(Predicate::Column("F".into())),
        2 => column.prop_map(|name| Predicate::Has(name.into())),
        5 => (comparison, constant, any::<bool>()).prop_map(|(comparison, (column, value), swap)| {
            let (left, right) = (Operand::Column(COLUMNS[column].into()), Operand::Value(value));
            let (left, right) = if swap { (right, left) } else { (left, right) };
            Predicate::Compare { left, comparison, right }
        }),
        2 => prop::collection::btree_set(prop::sample::select(vec![text("x"), text(""), text("it's 5%_^")]), 0..3)
            .prop_map(|values| Predicate::OneOf { column: "A".into(), values }),
        2 => pattern.prop_map(|pattern| Predicate::Like { column: "A".into(), pattern }),
    ];
    leaf.prop_recursive(4, 12, 3, |inner| {
        let boxed = || inner.clone().prop_map(Box::new);
        prop_oneof![
            boxed().prop_map(Predicate::Not),
            (boxed(), boxed()).prop_map(|(a, b)| Predicate::And(a, b)),
            (boxed(), boxed()).prop_map(|(a, b)| Predicate::Or(a, b)),
            (boxed(), boxed(), boxed()).prop_map(|(a, b, c)| Predicate::If(a, b, c)),
        ]
    })
}

async fn filled() -> SqliteConnection {
    let mut database = SqliteConnection::connect("sqlite::memory:").await.unwrap();
    for setup in ["PRAGMA case_sensitive_like = ON", "CREATE TABLE T (ID INT, A TEXT, N INT, F BOOLEAN, D NUMERIC)"] {
        sqlx::query(setup).execute(&mut database).await.unwrap();
    }
    for (id, row) in rows().into_iter().enumerate() {
        let mut query = sqlx::query("INSERT INTO T VALUES (?, ?, ?, ?, ?)").bind(i64::try_from(id).unwrap());
        for cell in row {
            query = match cell {
                None => query.bind(None::<i64>),
                Some(RowValue::Bool(value)) => query.bind(value),
                Some(RowValue::Long(value)) => query.bind(value),
                Some(RowValue::Decimal(value)) => query.bind(f64::from(i32::try_from(value).unwrap()) / 10_000.0),
                Some(RowValue::Text(value) | RowValue::Moment(value)) => query.bind(value),
            };
        }
        query.execute(&mut database).await.unwrap();
    }
    database
}

#[test]
fn the_database_gives_the_rows_the_filter_shows() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut database = runtime.block_on(filled());
    let catalog: Catalog = serde_saphyr::from_str(CATALOG).unwrap();
    let session = SessionContext { database: Some("D".into()), schema: Some("S".into()), ..SessionContext::default() };
    let predicates = || prop::collection::vec(predicate(), 0..3);
    let mut runner = TestRunner::new(Config { cases: 400, failure_persistence: None, ..Config::default() });
    let database = std::cell::RefCell::new(&mut database);
    runner
        .run(&(predicates(), predicates()), |(permits, forbids)| {
            let relation = RelationName::new("D", "S", "T");
            let filter = RowFilter { relation, permits, forbids, policies: ["p".to_owned()].into() };
            let analyzed = analyze("SELECT id FROM t ORDER BY id", &session, &catalog, &Limits::default()).unwrap();
            let filters = [vec![filter.clone()]];
            let rewritten = analyzed
                .rewrite_by(&Rewriting {
                    masks: &BTreeMap::new(),
                    row_filters: &filters,
                    names: &[],
                    hash_salt: "",
                    expressions: &BTreeMap::new(),
                })
                .unwrap();
            let sql = rewritten.sql.replace("D.S.T", "T");
            let mut database = database.borrow_mut();
            let given =
                runtime.block_on(sqlx::query(sqlx::AssertSqlSafe(sql.clone())).fetch_all(&mut **database)).unwrap();
            let given: Vec<i64> = given.iter().map(|row| row.get(0)).collect();
            let wanted: Vec<i64> = (0..)
                .zip(rows())
                .filter(|(_, row)| {
                    filter.shows(&|column| row[COLUMNS.iter().position(|it| *it == column).unwrap()].clone())
                })
                .map(|(id, _)| id)
                .collect();
            prop_assert_eq!(given, wanted, "{}", sql);
            Ok(())
        })
        .unwrap();
}
