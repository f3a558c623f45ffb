//! What an analysis speaks of is found in the text.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::string_slice)]

use icegate_pdp_model::{Catalog, SessionContext, StatementAnalysis};
use icegate_pdp_sql::{Limits, Located, analyze, locate};

fn located(sql: &str) -> (Vec<StatementAnalysis>, Vec<Located>) {
    let catalog: Catalog = serde_saphyr::from_str(include_str!("cases/catalog.yaml")).unwrap();
    let session =
        SessionContext { database: Some("SALES".into()), schema: Some("PUBLIC".into()), ..Default::default() };
    let statements = analyze(sql, &session, &catalog, &Limits::default()).unwrap().statements;
    let located = locate(sql, &statements);
    assert_eq!(statements.len(), located.len());
    (statements, located)
}

/// What the places hold, in the order they were found.
fn shown(sql: &str, places: impl IntoIterator<Item = std::ops::Range<usize>>) -> Vec<&str> {
    places.into_iter().map(|place| &sql[place]).collect()
}

#[test]
fn names_that_do_not_resolve_are_found() {
    for (sql, wanted) in [
        ("select id from nowhere", "nowhere"),
        ("select c.nothing from customers c", "c.nothing"),
        ("select no_such_fn(id), no_such_fn from customers", "no_such_fn"),
        ("select $77 from customers", "$77"),
        ("select * from \"customers\"", "\"customers\""),
        ("select * from identifier('sales.public.t')", "'sales.public.t'"),
        ("select 1 from sales..nowhere", "sales..nowhere"),
        ("select 1; select 'é', nothing from customers", "nothing"),
        ("select * from v_broken", "v_broken"),
    ] {
        let (statements, located) = located(sql);
        let last = located.last().unwrap();
        assert!(!statements.last().unwrap().unresolved.is_empty(), "{sql}");
        let places = shown(sql, last.unresolved[0].clone());
        assert_eq!(places.first(), Some(&wanted), "{sql}: {:?}", statements.last());
    }
}

#[test]
fn where_the_reading_stopped_is_found() {
    for (sql, wanted) in [
        ("select 1 # x", "#"),
        ("select\n\u{200b}1", "\u{200b}"),
        ("select 1 -- a\u{202e}b", "\u{202e}"),
        ("select 'a\nb", "'a"),
        ("select id from\n  customers resample using ts", "using"),
        ("select a b c d from customers", "c"),
        ("selekt 1", "selekt"),
        ("select id from", "from"),
    ] {
        let (statements, located) = located(sql);
        assert!(statements[0].why.is_some(), "{sql}");
        let stopped = located[0].stopped.clone().unwrap();
        assert_eq!(&sql[stopped], wanted, "{sql}: {:?}", statements[0].why);
    }
}

#[test]
fn objects_columns_and_exports_are_found() {
    let sql = "select c.email, o.* from customers c join public.orders o on c.id = o.customer_id";
    let (statements, places) = located(sql);
    let objects: Vec<&str> = places[0].objects.iter().map(|it| &sql[it[0].clone()]).collect();
    assert_eq!(objects, ["customers", "public.orders"]);
    let column = |name: &str| shown(sql, places[0].columns[&name.parse().unwrap()].clone());
    assert_eq!(column("SALES.PUBLIC.CUSTOMERS.EMAIL"), ["c.email"]);
    assert_eq!(column("SALES.PUBLIC.ORDERS.AMOUNT"), ["o.*"]);
    assert_eq!(column("SALES.PUBLIC.ORDERS.CUSTOMER_ID"), ["o.customer_id"]);
    let items = shown(sql, places[0].projection.iter().flatten().cloned());
    assert_eq!((items.len(), items[0], items[1]), (statements[0].projection.len(), "c.email", "o.*"));

    let sql = "copy into @st/x from customers; copy into 's3://b/p' from customers";
    let (_, places) = located(sql);
    assert_eq!(shown(sql, places[0].exports[0].clone()), ["@st/x"]);
    assert_eq!(shown(sql, places[1].exports[0].clone()), ["'s3://b/p'"]);
}
