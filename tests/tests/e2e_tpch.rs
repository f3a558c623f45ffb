//! Ordinary analytics still run: TPC-H's 22 queries, unmasked as if icegate were not there, and over masked columns.
#![allow(clippy::indexing_slicing, clippy::unwrap_used)]

use anyhow::{Context as _, ensure};
use icegate_cli::demo::driver::{Driver, Rows};
use icegate_cli::demo::python::WAREHOUSE;
use icegate_cli::demo::warehouse::direct_connection;
use icegate_tests::attacks::{self, ANALYST, CLEARED};
use icegate_tests::policies::root;
use icegate_tests::stack::{Carrier, Stack, Upstream, environment};
use serde_json::{Value, json};

/// Queries that show a masked column: their answers must differ from the plain ones.
const SHOW_MASKED: [&str; 5] = ["q02", "q03", "q10", "q15", "q18"];

#[tokio::test(flavor = "multi_thread")]
async fn the_22_queries() -> anyhow::Result<()> {
    let folder = root().join("tests").join("tpch");
    let bundle = tempfile::tempdir()?;
    attacks::assemble(&folder.join("bundle"), bundle.path())?;
    let seed = attacks::statements(&std::fs::read_to_string(folder.join("seed.sql"))?);
    let stack = Stack::start_with(Upstream::Fakesnow, bundle.path(), &seed).await?;
    let driver = Driver::start(&environment(&WAREHOUSE).await?).await?;
    let mut direct = direct_connection(stack.back.addr());
    direct["database"] = json!("TPCH");
    direct["schema"] = json!("PUBLIC");
    driver.connect("direct", &direct).await??;
    for person in [&ANALYST, &CLEARED] {
        let mut arguments = stack.connection(person, Carrier::Oauth)?;
        arguments["database"] = json!("TPCH");
        driver.connect(person.name, &arguments).await??;
    }
    let mut wrong = Vec::new();
    for number in 1..=22 {
        let name = format!("q{number:02}");
        let sql = std::fs::read_to_string(folder.join("queries").join(format!("{name}.sql")))?;
        let direct = driver.execute("direct", &sql).await?.with_context(|| name.clone())?;
        ensure!(!direct.rows.is_empty(), "{name} finds nothing: the data do not serve it");
        match driver.execute(CLEARED.name, &sql).await? {
            Ok(plain) if shown(&plain) == shown(&direct) => {}
            Ok(plain) => wrong.push(format!("{name}: {:?} and not {:?}", shown(&plain), shown(&direct))),
            Err(raised) => wrong.push(format!("{name}: {raised}")),
        }
        match driver.execute(ANALYST.name, &sql).await? {
            Ok(masked) if masked.names() != direct.names() => wrong.push(format!("{name}: {:?}", masked.names())),
            Ok(masked) => {
                if SHOW_MASKED.contains(&name.as_str()) && masked.rows == direct.rows {
                    wrong.push(format!("{name} shows what should be masked: {:?}", masked.rows));
                }
            }
            Err(raised) => wrong.push(format!("{name}, masked: {raised}")),
        }
    }
    ensure!(wrong.is_empty(), "{wrong:#?}");
    Ok(())
}

fn shown(rows: &Rows) -> (&Vec<Value>, &Vec<Vec<Value>>) {
    (&rows.columns, &rows.rows)
}
