//! Results of earlier statements, read again: what a mask or a row filter that came since does to them.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use icegate_pdp_model::{
    Catalog, ColumnName, EarlierColumn, EarlierRows, Effect, Mask, ObjectAccess, ObjectKind, Predicate, RelationName,
    RowFilter, SessionContext,
};
use icegate_pdp_sql::{Beside, Earlier, Limits, Rewriting, Unmaskable, analyze, analyze_with};

const ID: &str = "01a0-01";

fn column(name: &str) -> ColumnName {
    format!("SALES.PUBLIC.CUSTOMERS.{name}").parse().unwrap()
}

fn customers() -> RelationName {
    "SALES.PUBLIC.CUSTOMERS".parse().unwrap()
}

/// `SELECT id, ssn AS number FROM customers WHERE name …`, as it was decided then.
fn results(mask: Option<Mask>, rows: Option<&str>) -> Earlier {
    let plain = |name: &str, of: &str| EarlierColumn { name: name.into(), sources: [column(of)].into(), opaque: false };
    let result = EarlierRows {
        columns: Some(vec![plain("ID", "ID"), plain("NUMBER", "SSN")]),
        objects: vec![ObjectAccess {
            kind: ObjectKind::Table,
            name: "SALES.PUBLIC.CUSTOMERS".parse().unwrap(),
            effect: Effect::Read,
        }],
        columns_read: ["ID", "NAME", "SSN"].map(column).into(),
        rows_met: BTreeSet::new(),
        masks: mask.map(|mask| (column("SSN"), mask)).into_iter().collect(),
        expressions: BTreeMap::new(),
        row_filters: rows.map(|condition| (customers(), condition.to_owned())).into_iter().collect(),
    };
    let results = BTreeMap::from([
        (ID.to_owned(), Ok(Arc::new(result))),
        ("01a0-02".to_owned(), Err("it is somebody else's".to_owned())),
    ]);
    Earlier { results, ..Earlier::default() }
}

fn beside(earlier: &Earlier) -> Beside<'_> {
    Beside { earlier, ..Beside::nothing() }
}

fn session() -> SessionContext {
    SessionContext { database: Some("SALES".into()), schema: Some("PUBLIC".into()), ..SessionContext::default() }
}

fn catalog() -> Catalog {
    serde_saphyr::from_str(include_str!("cases/catalog.yaml")).unwrap()
}

fn rewritten(results: &Earlier, sql: &str, masks: &[(&str, Mask)], rows: &[RowFilter]) -> Result<String, Unmaskable> {
    let catalog = catalog();
    let analyzed = analyze_with(beside(results), sql, &session(), &catalog, &Limits::default()).unwrap();
    assert!(analyzed.statements[0].unresolved.is_empty(), "{sql}: {:?}", analyzed.statements);
    let masks = masks.iter().map(|(name, mask)| (column(name), mask.clone())).collect();
    let expressions = &BTreeMap::new();
    let row_filters = &[rows.to_vec()];
    let rewriting = Rewriting { masks: &masks, row_filters, names: &[], hash_salt: "pepper", expressions };
    analyzed.rewrite_by(&rewriting).map(|rewritten| rewritten.sql)
}

#[test]
fn all_it_was_made_of_is_read() {
    let catalog = catalog();
    let sql = format!("SELECT r.number AS n FROM TABLE(RESULT_SCAN('{ID}')) r WHERE r.id > 1");
    let results = results(None, None);
    let analyzed = analyze_with(beside(&results), &sql, &session(), &catalog, &Limits::default()).unwrap();
    let [statement] = analyzed.statements.as_slice() else { panic!() };
    assert_eq!(statement.columns_read, ["ID", "NAME", "SSN"].map(column).into());
    assert_eq!(statement.objects[0].name.to_string(), "SALES.PUBLIC.CUSTOMERS");
    assert_eq!((statement.projection[0].name.as_str(), statement.projection.len()), ("N", 1));
    assert_eq!(statement.projection[0].sources, [column("SSN")].into());
    assert!(statement.projection[0].control.contains(&column("NAME")));
    for (sql, wanted) in [
        ("SELECT * FROM TABLE(RESULT_SCAN('01a0-02'))", "result 01a0-02: it is somebody else's"),
        ("SELECT * FROM TABLE(RESULT_SCAN('01a0-03'))", "function RESULT_SCAN"),
        ("SELECT * FROM TABLE(x.RESULT_SCAN('01a0-01'))", "function X.RESULT_SCAN"),
    ] {
        let read = analyze_with(beside(&results), sql, &session(), &catalog, &Limits::default()).unwrap();
        assert_eq!(read.statements[0].unresolved, [wanted], "{sql}");
    }
    let without = analyze(&sql, &session(), &catalog, &Limits::default()).unwrap();
    assert_eq!(without.statements[0].unresolved, ["function RESULT_SCAN"]);
}

#[test]
fn a_mask_is_the_one_it_has_or_the_read_is_refused() {
    let sql = format!("SELECT * FROM TABLE(RESULT_SCAN('{ID}'))");
    let masked = results(Some(Mask::Null), None);
    assert_eq!(rewritten(&masked, &sql, &[("SSN", Mask::Null)], &[]), Ok(sql.clone()));
    assert_eq!(rewritten(&masked, &sql, &[], &[]), Ok(sql.clone()), "it shows less than it may");
    for (results, masks) in [
        (&masked, [("SSN", Mask::Hash)]),
        (&masked, [("ID", Mask::Null)]),
        // Which rows there are was decided by it.
        (&masked, [("NAME", Mask::Null)]),
        (&results(None, None), [("SSN", Mask::Null)]),
    ] {
        let refused = rewritten(results, &sql, &masks, &[]);
        assert_eq!(refused, Err(Unmaskable::Earlier { column: column(masks[0].0) }));
    }
    // The table beside it is masked in its own place.
    let beside = format!("SELECT r.id, c.ssn FROM TABLE(RESULT_SCAN('{ID}')) r, customers c");
    let sent = rewritten(&masked, &beside, &[("SSN", Mask::Null)], &[]).unwrap();
    assert!(sent.contains("CAST(NULL AS VARCHAR(11)) AS \"SSN\""), "{sent}");
    // Where others would come by.
    for sql in [format!("CREATE VIEW v AS {sql}"), format!("BEGIN {sql}; END")] {
        assert_eq!(rewritten(&results(None, None), &sql, &[], &[]), Err(Unmaskable::EarlierStored), "{sql}");
    }
    let kept = format!("CREATE TABLE x AS {sql}");
    assert_eq!(rewritten(&masked, &kept, &[("SSN", Mask::Null)], &[]), Ok(kept));
}

#[test]
fn rows_are_those_of_the_filter_it_had() {
    let sql = format!("SELECT * FROM TABLE(RESULT_SCAN('{ID}'))");
    let filter = RowFilter {
        relation: customers(),
        permits: vec![Predicate::Has("NAME".into())],
        forbids: Vec::new(),
        policies: ["rows".to_owned()].into(),
    };
    let whole =
        rewritten(&results(None, None), "SELECT id FROM customers", &[], std::slice::from_ref(&filter)).unwrap();
    let condition = whole.split_once(" WHERE ").unwrap().1.rsplit_once(") AS").unwrap().0.to_owned();
    assert_eq!(rewritten(&results(None, Some(&condition)), &sql, &[], std::slice::from_ref(&filter)), Ok(sql.clone()));
    for other in [None, Some("TRUE")] {
        let refused = rewritten(&results(None, other), &sql, &[], std::slice::from_ref(&filter));
        assert!(matches!(refused, Err(Unmaskable::Rows { .. })), "{refused:?}");
    }
    let beside = format!("SELECT r.id FROM TABLE(RESULT_SCAN('{ID}')) r, customers c");
    let sent = rewritten(&results(None, Some(&condition)), &beside, &[], &[filter]).unwrap();
    assert!(sent.contains(&format!("WHERE {condition}")), "{sent}");
}
