//! The SQL of every mask, run by a database over generated values, gives what the documentation says of it; and the masks' laws hold.
#![allow(clippy::indexing_slicing, clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::ensure;
use icegate_cli::demo::driver::Driver;
use icegate_cli::demo::python::WAREHOUSE;
use icegate_cli::demo::warehouse::{Warehouse, direct_connection};
use icegate_pdp_model::{Catalog, ColumnName, Mask, MaskExpression, SessionContext, ValueType};
use icegate_pdp_sql::{Limits, Rewriting, analyze};
use icegate_tests::generated::Dice;
use icegate_tests::masks::{Cell, Column, SALT, masked};
use icegate_tests::stack::environment;
use serde_json::Value;

const CATALOG: &str = "
databases: { m: { s: { vals: { columns: {
  id: { type: INT }, t: { type: VARCHAR(20) }, u: { type: VARCHAR }, n: { type: \"NUMBER(12,2)\" }, m: { type: \"NUMBER(38,2)\" },
  d: { type: DATE }, z: { type: TIMESTAMP_NTZ }, b: { type: BOOLEAN }
} } } } }
";

/// Columns, and the masks that are tried on each.
const COLUMNS: [(&str, Column, &[&str]); 7] = [
    (
        "T",
        Column::Text(Some(20)),
        &[
            "null",
            "redact",
            "redact(hidden because it is personal)",
            "constant(n.a.)",
            "email",
            "phone",
            "card",
            "partial(last=4)",
            "partial(first=2, last=2)",
            "partial(first=64)",
            "sql(initial)",
            "sql(known)",
        ],
    ),
    (
        "U",
        Column::Text(None),
        &[
            "email",
            "hash",
            "phone",
            "card",
            "partial(first=1, last=3)",
            "partial(last=64)",
            "redact",
            "null",
            "sql(initial)",
            "sql(known)",
        ],
    ),
    (
        "N",
        Column::Number(12, 2),
        &[
            "null",
            "redact",
            "constant(7)",
            "constant(-999999999)",
            "bucket(1)",
            "bucket(1000)",
            "bucket(5000000)",
            "bucket(1000000000000)",
            "round(1)",
            "round(3)",
            "round(1000)",
            "round(5000000)",
            "sql(tens)",
        ],
    ),
    (
        "M",
        Column::Number(38, 2),
        &[
            "null",
            "redact",
            "constant(7)",
            "bucket(3)",
            "bucket(1000)",
            "bucket(5000000)",
            "bucket(1000000000000)",
            "round(2)",
            "round(7)",
            "round(1000)",
            "round(1000000000000)",
        ],
    ),
    (
        "D",
        Column::Day,
        &["null", "redact", "constant(2000-01-01)", "year", "truncate(quarter)", "truncate(month)", "sql(month)"],
    ),
    (
        "Z",
        Column::Moment,
        &[
            "null",
            "redact",
            "constant(2000-01-01)",
            "year",
            "truncate(quarter)",
            "truncate(month)",
            "truncate(day)",
            "truncate(hour)",
        ],
    ),
    ("B", Column::Truth, &["null", "redact", "constant(true)"]),
];

/// What a mask gives is masked to the same again.
const IDEMPOTENT: [&str; 11] =
    ["null", "redact", "constant", "email", "phone", "partial", "bucket", "round", "year", "truncate", "sql(month)"];

/// Values that are somebody's edge.
const TEXTS: [&str; 44] = [
    "",
    " ",
    "a",
    "ab",
    "abc",
    "abcd",
    "abcde",
    "123456",
    "1234567",
    "@",
    "a@",
    "@b",
    "a@b",
    "a@@b",
    "a@b@c",
    "quvex@example.com",
    "quvex.zyltha@a-very-long-domain.example.com",
    "+46 70 731 44 20",
    "(0)70.731/44-20",
    "40000717361278",
    "4000-0717-3612",
    "12345678901",
    "123456789012",
    "1234 5678 9012",
    "a1b2c3d4e5f6g7h8i9j0k1l2m3",
    "å",
    "åäö åäö åäö",
    "ß",
    "İstanbul",
    "日本語のテキスト",
    "😀",
    "😀😀😀😀😀😀😀😀",
    "a😀@😀.example",
    "👨‍👩‍👧 family",
    "e\u{301}e\u{301}e\u{301}e\u{301}",
    "it's",
    "''",
    "\"",
    "back\\slash\\",
    "%_%",
    "line\nbreak@x.org",
    "tab\there",
    "NULL",
    "-- x",
];

fn texts(dice: &mut Dice, most: usize) -> Vec<Option<Cell>> {
    let alphabet: Vec<char> = "abAB019@@ +-()./*'äß日😀".chars().collect();
    let known = TEXTS.iter().map(|&text| text.to_owned());
    let long = ["x".repeat(300), "1".repeat(64), format!("{}@{}", "q".repeat(90), "d".repeat(90))];
    let made = (0..150).map(|_| {
        let length = dice.below(25);
        (0..length).map(|_| *dice.pick(&alphabet)).collect()
    });
    let all: Vec<String> = known.chain(long).chain(made.collect::<Vec<String>>()).collect();
    let cut = |text: &String| Cell::Text(text.chars().take(most).collect());
    std::iter::once(None).chain(all.iter().map(cut).map(Some)).collect()
}

fn below(dice: &mut Dice, limit: u32) -> u32 {
    u32::try_from(dice.below(limit as usize)).unwrap()
}

fn numbers(dice: &mut Dice, precision: u32) -> Vec<Option<Cell>> {
    let most = 10_i128.pow(precision) - 1;
    let around = [0, 1, 10, 99, 100, 150, 1000, 99_999, 100_000, 499_999_999, 500_000_000, 999_999_999_999];
    let near = around.iter().flat_map(|&at: &i128| [at - 1, at, at + 1, -at - 1, -at, 1 - at]);
    let ends = [most, -most, most - 1, 1 - most, most / 2, -most / 2];
    let made = (0..120).map(|_| {
        let digits = below(dice, precision);
        let value = ((i128::from(dice.roll()) << 62) ^ i128::from(dice.roll())).rem_euclid(10_i128.pow(digits + 1));
        if dice.one_in(2) { value } else { -value }
    });
    let all: Vec<i128> = near.chain(ends).chain(made).filter(|value| value.abs() <= most).collect();
    std::iter::once(None).chain(all.into_iter().map(Cell::Number).map(Some)).collect()
}

fn days(dice: &mut Dice, moments: bool) -> Vec<Option<Cell>> {
    let known = [
        (1, 1, 1),
        (9999, 12, 31),
        (1582, 10, 15),
        (1970, 1, 1),
        (2000, 2, 29),
        (1900, 3, 31),
        (2026, 4, 30),
        (1984, 9, 30),
    ];
    let made: Vec<(i32, u32, u32)> =
        (0..100).map(|_| (1 + below(dice, 9999).cast_signed(), 1 + below(dice, 12), 1 + below(dice, 28))).collect();
    let times = [[0, 0, 0], [23, 59, 59], [12, 0, 1]];
    let cell = |(at, (year, month, day)): (usize, (i32, u32, u32))| {
        if moments { Cell::Moment(year, month, day, times[at % times.len()]) } else { Cell::Day(year, month, day) }
    };
    std::iter::once(None).chain(known.into_iter().chain(made).enumerate().map(cell).map(Some)).collect()
}

fn literal(cell: Option<&Cell>, column: Column) -> String {
    match (cell, column) {
        (None, _) => "NULL".to_owned(),
        (Some(Cell::Text(text)), _) => format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''")),
        (Some(Cell::Number(value)), Column::Number(_, scale)) => number(*value, scale),
        (Some(cell), _) => format!("'{}'", shown(cell)),
    }
}

fn number(value: i128, scale: u32) -> String {
    let unit = 10_i128.pow(scale);
    let sign = if value < 0 { "-" } else { "" };
    let (whole, rest) = (value.abs() / unit, value.abs() % unit);
    if scale == 0 { format!("{sign}{whole}") } else { format!("{sign}{whole}.{rest:0width$}", width = scale as usize) }
}

fn shown(cell: &Cell) -> String {
    match cell {
        Cell::Text(text) => text.clone(),
        Cell::Number(value) => value.to_string(),
        Cell::Day(year, month, day) => format!("{year:04}-{month:02}-{day:02}"),
        Cell::Moment(year, month, day, [hour, minute, second]) => {
            format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
        }
        Cell::Truth(value) => value.to_string().to_uppercase(),
    }
}

/// A value as the driver gave it.
fn given(value: &Value, column: Column) -> Option<Cell> {
    let text = match value {
        Value::Null => return None,
        Value::Bool(value) => return Some(Cell::Truth(*value)),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let part = |from: usize, to: usize| text.get(from..to).map_or(0, |text| text.parse::<u32>().unwrap());
    let year = || i32::try_from(part(0, 4)).unwrap();
    Some(match column {
        Column::Text(_) => Cell::Text(text),
        Column::Number(_, scale) => {
            let (whole, rest) = text.split_once('.').unwrap_or((&text, ""));
            let digits = format!("{whole}{rest:0<width$}", width = scale as usize);
            Cell::Number(digits.parse().unwrap_or_else(|_| panic!("{text}")))
        }
        Column::Day => Cell::Day(year(), part(5, 7), part(8, 10)),
        Column::Moment => Cell::Moment(year(), part(5, 7), part(8, 10), [part(11, 13), part(14, 16), part(17, 19)]),
        Column::Truth => Cell::Truth(text.eq_ignore_ascii_case("true")),
    })
}

fn own_masks() -> BTreeMap<String, MaskExpression> {
    let read = |of, text| MaskExpression::read(of, text).unwrap();
    [
        ("initial", read(ValueType::Text, "LEFT({column}, 1) || REPEAT('*', LENGTH({column}) - 1)")),
        (
            "known",
            read(ValueType::Text, "CASE WHEN STARTSWITH({column}, 'a') THEN 'a' ELSE REPLACE({column}, 'b', '-') END"),
        ),
        ("tens", read(ValueType::Number, "FLOOR({column} / 10) * 10")),
        ("month", read(ValueType::Date, "DATE_TRUNC('month', {column})")),
    ]
    .map(|(name, own)| (name.to_owned(), own))
    .into()
}

/// The rows: each column goes through its values, the shorter ones again and again.
fn rows() -> Vec<Vec<Option<Cell>>> {
    let mut dice = Dice::new(1);
    let truths = vec![None, Some(Cell::Truth(true)), Some(Cell::Truth(false))];
    let columns = [
        texts(&mut dice, 20),
        texts(&mut dice, usize::MAX),
        numbers(&mut dice, 12),
        numbers(&mut dice, 38),
        days(&mut dice, false),
        days(&mut dice, true),
        truths,
    ];
    let count = columns.iter().map(Vec::len).max().unwrap();
    (0..count).map(|at| columns.iter().map(|values| values[at % values.len()].clone()).collect()).collect()
}

struct Database {
    driver: Driver,
    _warehouse: Warehouse,
    _log: tempfile::TempDir,
}

impl Database {
    async fn filled(rows: &[Vec<Option<Cell>>]) -> anyhow::Result<Self> {
        let log = tempfile::tempdir()?;
        let python = environment(&WAREHOUSE).await?;
        let warehouse = Warehouse::start(&python, &log.path().join("fakesnow.log")).await?;
        let driver = Driver::start(&python).await?;
        let mut seed = vec![
            "CREATE DATABASE IF NOT EXISTS M".to_owned(),
            "CREATE SCHEMA IF NOT EXISTS M.S".to_owned(),
            "CREATE TABLE M.S.VALS (ID NUMBER(38,0), T VARCHAR(20), U VARCHAR, N NUMBER(12,2), M NUMBER(38,2), D DATE, Z TIMESTAMP_NTZ, B BOOLEAN)"
                .to_owned(),
        ];
        for (chunk, at) in rows.chunks(100).zip((0..).step_by(100)) {
            let mut insert = "INSERT INTO M.S.VALS VALUES ".to_owned();
            for (row, id) in chunk.iter().zip(at..) {
                let cells = row.iter().zip(&COLUMNS).map(|(cell, (_, column, _))| literal(cell.as_ref(), *column));
                let cells: Vec<String> = cells.collect();
                write!(insert, "{}({id}, {})", if id > at { ", " } else { "" }, cells.join(", "))?;
            }
            seed.push(insert);
        }
        warehouse.fill(&driver, &seed).await?;
        driver.connect("db", &direct_connection(warehouse.addr())).await??;
        driver.execute("db", "USE SCHEMA M.S").await??;
        Ok(Self { driver, _warehouse: warehouse, _log: log })
    }

    /// The rows as somebody with these masks gets them, each column by its mask.
    async fn masked(&self, masks: &BTreeMap<ColumnName, Mask>) -> anyhow::Result<(Vec<Value>, Vec<Vec<Value>>)> {
        let catalog: Catalog = serde_saphyr::from_str(CATALOG)?;
        let session = SessionContext::default();
        // As text: JSON's numbers have fewer digits, and fakesnow gives no NULL of a timestamp.
        let sql = "SELECT t, u, CAST(n AS VARCHAR) AS n, CAST(m AS VARCHAR) AS m, CAST(d AS VARCHAR) AS d, CAST(z AS VARCHAR) AS z, b FROM m.s.vals ORDER BY id";
        let analyzed = analyze(sql, &session, &catalog, &Limits::default())?;
        let expressions = &own_masks();
        let rewritten =
            analyzed.rewrite_by(&Rewriting { masks, row_filters: &[], names: &[], hash_salt: SALT, expressions })?;
        let rows = self.driver.execute("db", &rewritten.sql).await??;
        Ok((rows.columns, rows.rows))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn masks_give_what_is_said_of_them() -> anyhow::Result<()> {
    let rows = rows();
    let database = Database::filled(&rows).await?;
    let (_, stored) = database.masked(&BTreeMap::new()).await?;
    for (row, given_row) in rows.iter().zip(&stored) {
        for ((cell, value), (name, column, _)) in row.iter().zip(given_row).zip(&COLUMNS) {
            ensure!(
                *cell == given(value, *column),
                "{name} holds {value} and not {cell:?}: the test's own values are wrong"
            );
        }
    }
    let rounds = COLUMNS.iter().map(|(_, _, masks)| masks.len()).max().unwrap();
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for round in 0..rounds {
        let tried: Vec<Mask> =
            COLUMNS.iter().map(|(_, _, masks)| masks[round % masks.len()].parse().unwrap()).collect();
        let by_column: BTreeMap<ColumnName, Mask> = COLUMNS
            .iter()
            .zip(&tried)
            .map(|((name, ..), mask)| (format!("M.S.VALS.{name}").parse().unwrap(), mask.clone()))
            .collect();
        let first = database.masked(&by_column).await?;
        ensure!(first == database.masked(&by_column).await?, "the same values are masked to others: {tried:?}");
        for (row, masked_row) in rows.iter().zip(&first.1) {
            for (at, (name, column, _)) in COLUMNS.iter().enumerate() {
                let (mask, cell) = (&tried[at], row[at].as_ref());
                let said = masked(mask, cell, *column);
                laws(mask, cell, said.as_ref(), *column)?;
                compared += 1;
                let found = given(&masked_row[at], *column);
                if found != said {
                    wrong.push(format!("{mask} of {name} {cell:?}: {found:?} and not {said:?}"));
                }
            }
        }
    }
    ensure!(
        wrong.is_empty(),
        "{} of {compared}:\n{}",
        wrong.len(),
        wrong.iter().take(60).cloned().collect::<Vec<_>>().join("\n")
    );
    ensure!(compared > 10_000, "only {compared} cells were compared");
    Ok(())
}

/// What every mask keeps.
fn laws(mask: &Mask, cell: Option<&Cell>, said: Option<&Cell>, column: Column) -> anyhow::Result<()> {
    ensure!(cell.is_some() || said.is_none(), "{mask} makes something of NULL");
    ensure!((*mask == Mask::Null || cell.is_none()) == said.is_none(), "{mask} makes NULL of {cell:?}");
    let fits = match (said, column) {
        (Some(Cell::Text(text)), Column::Text(most)) => most.is_none_or(|most| text.chars().count() <= most),
        (Some(Cell::Number(value)), Column::Number(precision, _)) => value.abs() < 10_i128.pow(precision),
        (None, _)
        | (Some(Cell::Day(..)), Column::Day)
        | (Some(Cell::Moment(..)), Column::Moment)
        | (Some(Cell::Truth(_)), Column::Truth) => true,
        (Some(_), _) => false,
    };
    ensure!(fits, "{mask} makes {said:?} of {cell:?}, which the column cannot hold");
    if IDEMPOTENT.iter().any(|start| mask.to_string().starts_with(start)) {
        ensure!(masked(mask, said, column).as_ref() == said, "{mask} masks {said:?} to another value again");
    }
    Ok(())
}
