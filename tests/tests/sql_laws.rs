//! Laws of the analysis on statements made by chance: how a text is written changes nothing, reading more shows, and a
//! view is what its text is.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests may"
)]

use std::collections::{BTreeMap, BTreeSet};

use icegate_pdp_model::{
    Catalog, CatalogColumn, CatalogRelation, ColumnName, Level, Mask, ObjectAccess, RelationKind, RelationName,
    StatementAnalysis,
};
use icegate_pdp_sql::{Limits, analyze};
use icegate_tests::{
    generated::{Aliases, Dice, catalog, generate, rewritten, session},
    runs::{count, first_seed},
};

const STATEMENTS: usize = 400;

fn read(sql: &str, catalog: &Catalog) -> StatementAnalysis {
    let analyzed = analyze(sql, &session(), catalog, &Limits::default()).unwrap();
    let [analysis] = analyzed.statements.as_slice() else { panic!("several statements: {sql}") };
    analysis.clone()
}

/// What must not depend on how the text is written: all but its length and the labels made of its text.
fn meaning(mut analysis: StatementAnalysis) -> StatementAnalysis {
    analysis.facts.bytes = 0;
    for column in &mut analysis.projection {
        column.name.clear();
    }
    analysis
}

#[test]
fn case_blanks_and_comments_change_nothing() {
    for seed in (first_seed()..).take(count(STATEMENTS)) {
        let statement = generate(seed, Aliases::Short);
        let other = rewritten(&statement.sql, &mut Dice::new(seed));
        let (plain, written) = (read(&statement.sql, catalog()), read(&other, catalog()));
        assert_eq!(meaning(plain), meaning(written), "seed {seed}: {other}");
    }
}

#[test]
fn names_of_aliases_change_nothing() {
    for seed in (first_seed()..).take(count(STATEMENTS)) {
        let (short, long) = (generate(seed, Aliases::Short), generate(seed, Aliases::Long));
        let (one, mut other) = (read(&short.sql, catalog()), read(&long.sql, catalog()));
        if short.kind.starts_with("create") {
            // What is made has the other name, of course.
            let made = |object: &ObjectAccess| !one.objects.contains(object);
            assert!(other.objects.iter().filter(|object| made(object)).count() <= 2, "seed {seed}");
            other.objects.clone_from(&one.objects);
            for (output, other) in one.projection.iter().zip(&mut other.projection) {
                other.target.clone_from(&output.target);
            }
        }
        assert_eq!(meaning(one), meaning(other), "seed {seed}: {}", long.sql);
    }
}

#[test]
fn reading_one_column_more_takes_none_away() {
    let columns = ["id", "name", "email", "country", "manager_id", "balance"];
    for seed in (first_seed()..).take(count(STATEMENTS)) {
        let mut dice = Dice::new(seed);
        let statement = generate(seed, Aliases::Short);
        if statement.kind != "select" {
            continue;
        }
        let before = read(&statement.sql, catalog());
        let more = *dice.pick(&columns);
        for sql in [
            format!("SELECT o . * , ( SELECT MAX ( {more} ) FROM people ) AS more FROM ( {} ) o", statement.sql),
            format!("SELECT * FROM ( {} ) o WHERE EXISTS ( SELECT 1 FROM people WHERE {more} = 1 )", statement.sql),
        ] {
            let after = read(&sql, catalog());
            assert_eq!(after.level, Level::Understood, "seed {seed}: {sql}");
            let wanted: ColumnName = format!("SHOP.MAIN.PEOPLE.{}", more.to_uppercase()).parse().unwrap();
            assert!(after.columns_read.contains(&wanted), "seed {seed}: {sql}");
            assert!(after.columns_read.is_superset(&before.columns_read), "seed {seed}: {sql}");
            assert!(before.objects.iter().all(|object| after.objects.contains(object)), "seed {seed}: {sql}");
            for (one, other) in before.projection.iter().zip(&after.projection) {
                assert_eq!(one.sources, other.sources, "seed {seed}: {sql}");
                assert!(other.control.is_superset(&one.control), "seed {seed}: {sql}");
            }
        }
    }
}

/// A view is its text, through a view as well: the columns of the views are read besides.
#[test]
fn a_view_is_what_its_text_is() {
    for seed in (first_seed()..).take(count(STATEMENTS / 2)) {
        let statement = generate(seed, Aliases::Short);
        if statement.kind != "select" {
            continue;
        }
        let names: BTreeSet<&str> = statement.outputs.iter().map(|output| output.name.as_str()).collect();
        assert_eq!(names.len(), statement.outputs.len(), "seed {seed}: {}", statement.sql);
        let mut catalog = catalog().clone();
        let list = statement.outputs.iter().map(|output| output.name.clone()).collect::<Vec<_>>().join(" , ");
        for (name, text) in [("MADE", statement.sql.clone()), ("OVER_MADE", format!("SELECT {list} FROM made"))] {
            let columns = statement.outputs.iter().map(|output| CatalogColumn {
                name: output.name.to_uppercase(),
                data_type: "VARCHAR".into(),
                nullable: true,
                tags: BTreeSet::new(),
                paths: Vec::new(),
            });
            let view = CatalogRelation {
                kind: RelationKind::View,
                definition: Some(text),
                tags: BTreeSet::new(),
                columns: columns.collect(),
                row_attributes: BTreeMap::new(),
            };
            catalog.insert(RelationName::new("SHOP", "MAIN", name), view).unwrap();
        }
        let inlined = read(&format!("SELECT {list} FROM ( {} ) v", statement.sql), &catalog);
        for name in ["made", "over_made"] {
            let sql = format!("SELECT {list} FROM {name} v");
            let viewed = read(&sql, &catalog);
            let say = format!("seed {seed}: {sql}, which is {}", statement.sql);
            assert!(viewed.unresolved.is_empty(), "{:?}: {say}", viewed.unresolved);
            let tables = |columns: &BTreeSet<ColumnName>| -> BTreeSet<ColumnName> {
                columns.iter().filter(|column| !column.relation.name.ends_with("MADE")).cloned().collect()
            };
            for (one, other) in inlined.projection.iter().zip(&viewed.projection) {
                assert_eq!(one.sources, tables(&other.sources), "column {} of {say}", one.ordinal);
                let (inside, outside) = (&one.control, tables(&other.control));
                assert!(outside.is_superset(inside), "column {} of {say}: {inside:?} {outside:?}", one.ordinal);
                assert_eq!((one.transformation, one.opaque), (other.transformation, other.opaque), "{say}");
            }
            let used: BTreeSet<ColumnName> =
                inlined.projection.iter().flat_map(|it| it.sources.iter().chain(&it.control)).cloned().collect();
            assert!(viewed.columns_read.is_superset(&used), "{say}");
        }
    }
}

/// However masks are put in, what is rewritten reads back as the same statement over the same relations.
#[test]
fn masks_change_only_what_is_read() {
    let mut masked = 0_usize;
    let masks: BTreeMap<ColumnName, Mask> = ["PEOPLE.EMAIL", "ORDERS.NOTE", "ITEMS.PRICE", "EVENTS.KIND"]
        .map(|column| (format!("SHOP.MAIN.{column}").parse().unwrap(), Mask::Null))
        .into();
    for seed in (first_seed()..).take(count(STATEMENTS)) {
        let statement = generate(seed, Aliases::Short);
        // Changes may be refused instead: a view is never stored masked, nor does an INSERT read its own target.
        if !["select", "create_table"].contains(&statement.kind) {
            continue;
        }
        let analyzed = analyze(&statement.sql, &session(), catalog(), &Limits::default()).unwrap();
        assert_eq!(analyzed.rewrite(&BTreeMap::new(), "").as_deref(), Ok(statement.sql.as_str()), "seed {seed}");
        // Views would have to be masked too; the policies say so of their own columns.
        let views = ["CONTACTS", "SPEND", "TOP_SPEND"];
        let plain = analyzed.statements[0].objects.iter().all(|object| !views.contains(&object.name.last()));
        let read = &analyzed.statements[0].columns_read;
        if !plain || !masks.keys().any(|column| read.contains(column)) {
            continue;
        }
        let text =
            analyzed.rewrite(&masks, "").unwrap_or_else(|refusal| panic!("seed {seed}: {refusal}: {}", statement.sql));
        let after = self::read(&text, catalog());
        assert_eq!(after.level, Level::Understood, "seed {seed}: {text}");
        assert_eq!(after.kind, analyzed.statements[0].kind, "seed {seed}: {text}");
        assert_eq!(after.objects, analyzed.statements[0].objects, "seed {seed}: {text}");
        assert_eq!(after.projection.len(), analyzed.statements[0].projection.len(), "seed {seed}: {text}");
        for (one, other) in analyzed.statements[0].projection.iter().zip(&after.projection) {
            assert_eq!(one.name, other.name, "seed {seed}: {text}");
            let bare: Vec<_> = other.sources.iter().filter(|it| masks.contains_key(*it)).collect();
            assert!(bare.is_empty(), "seed {seed}: {bare:?} is still in column {}: {text}", one.ordinal);
        }
        masked += 1;
    }
    assert!(masked * 4 > count(STATEMENTS), "only {masked} statements were masked");
}
