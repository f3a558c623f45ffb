//! Laws that hold for every text: nothing panics, writing does not matter, no masks change nothing, and a masked column
//! is never bare in the derived table that stands for its relation. Laws on statements made by chance, with the lineage
//! each must have, are across rooms: `tests/tests/sql_laws.rs`, `sql_lineage.rs` and `fuzz_sql.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{collections::BTreeMap, sync::LazyLock};

use icegate_pdp_model::{Catalog, ColumnName, Level, Mask, SessionContext, StatementAnalysis, Verb};
use icegate_pdp_sql::{AnalyzeError, Limits, analyze};
use proptest::prelude::*;

fn catalog() -> &'static Catalog {
    static CATALOG: LazyLock<Catalog> =
        LazyLock::new(|| serde_saphyr::from_str(include_str!("cases/catalog.yaml")).unwrap());
    &CATALOG
}

fn session() -> SessionContext {
    SessionContext { database: Some("SALES".into()), schema: Some("PUBLIC".into()), role: None, warehouse: None }
}

/// Texts that are understood, as tokens, so that they can be written in many ways.
const TEXTS: &[&[&str]] = &[
    &["SELECT", "id", ",", "email", "FROM", "customers", "WHERE", "ssn", "LIKE", "'1%'"],
    &[
        "SELECT",
        "c",
        ".",
        "ssn",
        ",",
        "o",
        ".",
        "*",
        "FROM",
        "customers",
        "c",
        "JOIN",
        "orders",
        "o",
        "ON",
        "c",
        ".",
        "id",
        "=",
        "o",
        ".",
        "id",
    ],
    &[
        "WITH",
        "x",
        "AS",
        "(",
        "SELECT",
        "ssn",
        "s",
        "FROM",
        "customers",
        ")",
        "SELECT",
        "s",
        "FROM",
        "x",
        "ORDER",
        "BY",
        "1",
    ],
    &[
        "SELECT",
        "*",
        "EXCLUDE",
        "(",
        "card",
        ")",
        "FROM",
        "public",
        ".",
        "customers",
        "QUALIFY",
        "ROW_NUMBER",
        "(",
        ")",
        "OVER",
        "(",
        "ORDER",
        "BY",
        "dob",
        ")",
        "=",
        "1",
    ],
    &[
        "INSERT",
        "INTO",
        "orders",
        "(",
        "note",
        ")",
        "SELECT",
        "email",
        "FROM",
        "customers",
        "UNION",
        "ALL",
        "SELECT",
        "note",
        "FROM",
        "orders",
    ],
    &["COPY", "INTO", "'s3://b/x'", "FROM", "(", "SELECT", "ssn", "FROM", "customers", ")"],
    &[
        "DELETE",
        "FROM",
        "orders",
        "WHERE",
        "id",
        "IN",
        "(",
        "SELECT",
        "id",
        "FROM",
        "customers",
        "WHERE",
        "email",
        "IS",
        "NULL",
        ")",
    ],
    &["USE", "SCHEMA", "raw", ";", "SELECT", "email", "FROM", "customers", ";", "DROP", "TABLE", "customers"],
    &["CREATE", "TABLE", "x", "AS", "SELECT", "ssn", "FROM", "customers", "c", ";", "SELECT", "*", "FROM", "x"],
];

/// Texts with less common shapes, with a blank between tokens. Masks have a place in each.
const SHAPES: &[&str] = &[
    "SELECT t . $3 , t . $1 FROM public . customers t WHERE t . $2 LIKE 'a%'",
    "SELECT p . n FROM ( SELECT country , name AS n , ssn FROM customers ) PIVOT ( MAX ( ssn ) FOR country IN ( 'DE' , 'FR' ) ) AS p",
    "SELECT v FROM customers UNPIVOT ( v FOR k IN ( ssn , email ) ) u WHERE k = 'SSN'",
    "SELECT email FROM customers AT ( OFFSET => - 60 ) WHERE ssn = '1'",
    "SELECT c . email FROM public . customers BEFORE ( STATEMENT => 'a)b' ) AS c SAMPLE ( 10 )",
    "SELECT customers . email FROM customers TABLESAMPLE BERNOULLI ( 10 ) SEED ( 3 ) ORDER BY ALL",
    "SELECT email FROM customers UNION ALL BY NAME SELECT ssn , name AS email FROM customers",
    "WITH r AS ( SELECT id , ssn FROM customers UNION ALL SELECT r . id , r . ssn FROM r ) SELECT ssn FROM r",
    "INSERT ALL WHEN s LIKE '1%' THEN INTO orders ( note ) VALUES ( s ) ELSE INTO raw . facts ( odd ) VALUES ( $1 ) SELECT ssn AS s FROM customers",
    "SELECT IDENTIFIER ( 'ssn' ) AS x , raw . s . nextval FROM customers",
    "SELECT CONNECT_BY_ROOT ssn AS x FROM customers START WITH id = 1 CONNECT BY PRIOR id = balance",
];

/// Texts told by their heads, with a blank between tokens.
const HEADS: &[&str] = &[
    "ALTER DATABASE IF EXISTS sales SWAP WITH other",
    "ALTER TABLE customers MODIFY COLUMN ssn SET MASKING POLICY raw . p FORCE",
    "CREATE OR REPLACE STAGE s URL = 's3://b/x' FILE_FORMAT = ( TYPE = CSV )",
    "CREATE STREAM s ON TABLE public . customers AT ( OFFSET => - 60 )",
    "CREATE SCHEMA s CLONE raw AT ( OFFSET => - 60 )",
    "CALL raw . p ( 1 , 'x' , NULL )",
    "DROP FUNCTION f ( NUMBER , VARCHAR ( 10 ) )",
    "GRANT APPLY ON MASKING POLICY p TO ROLE r",
    "LIST '@st'",
    "GET '@st/x' 'file:///tmp'",
    "UNDROP SCHEMA other . public",
];

const BLANKS: &[&str] = &[" ", "\n", "\t", "\r\n", " -- x;'\n", "/* ; ' é */", " // $$\n", "  "];

/// What must not depend on how the text is written.
fn meaning(statements: &[StatementAnalysis]) -> Vec<StatementAnalysis> {
    let mut statements = statements.to_vec();
    for statement in &mut statements {
        statement.facts.bytes = 0;
        for column in &mut statement.projection {
            column.name.clear();
        }
    }
    statements
}

fn written(tokens: &[&str], blanks: &[usize], cases: &[bool]) -> String {
    let mut text = String::new();
    let mut cases = cases.iter().cycle();
    for (at, token) in tokens.iter().enumerate() {
        text.push_str(BLANKS[blanks[at % blanks.len()] % BLANKS.len()]);
        if token.starts_with('\'') {
            text.push_str(token);
        } else {
            text.extend(
                token
                    .chars()
                    .map(|c| if *cases.next().unwrap() { c.to_ascii_uppercase() } else { c.to_ascii_lowercase() }),
            );
        }
    }
    text
}

/// Words a text can be made of.
const WORDS: &[&str] = &[
    "SELECT",
    "FROM",
    "WHERE",
    "customers",
    "c",
    "ssn",
    "email",
    "*",
    ",",
    "(",
    ")",
    ".",
    ";",
    "'x'",
    "\"",
    "$$",
    "$1",
    "@s",
    "JOIN",
    "ON",
    "USING",
    "NATURAL",
    "LEFT",
    "WITH",
    "AS",
    "UNION",
    "ALL",
    "GROUP",
    "BY",
    "ORDER",
    "1",
    "=",
    "AND",
    "NOT",
    "INSERT",
    "INTO",
    "VALUES",
    "UPDATE",
    "SET",
    "DELETE",
    "MERGE",
    "WHEN",
    "MATCHED",
    "THEN",
    "CREATE",
    "TABLE",
    "VIEW",
    "COPY",
    "'s3://b'",
    "CLONE",
    "LATERAL",
    "FLATTEN",
    "input",
    "=>",
    "::",
    ":",
    "[",
    "]",
    "{",
    "}",
    "--",
    "/*",
    "*/",
    "\n",
    "é",
    "\u{200b}",
    "\\",
    "`",
    "#",
    "v_cust",
    "EXCLUDE",
    "REPLACE",
    "ILIKE",
    "OVER",
    "CASE",
    "END",
    "BEGIN",
    "USE",
    "SHOW",
    "GRANT",
    "TO",
    "ROLE",
    "IDENTIFIER",
    "?",
    "AT",
    "SAMPLE",
    "PIVOT",
    "UNPIVOT",
    "FOR",
    "ANY",
    "NAME",
    "MATCH_RECOGNIZE",
    "PATTERN",
    "DEFINE",
    "MEASURES",
    "FIRST",
    "ELSE",
    "$3",
    "'customers'",
    "CONNECT",
    "PRIOR",
    "NEXTVAL",
    "VALUES",
    "RECURSIVE",
    "EXISTS",
    "IN",
    "LIMIT",
];

fn soup() -> impl Strategy<Value = String> {
    let word = prop::sample::select(WORDS);
    prop::collection::vec(word, 0..40).prop_map(|words| words.join(" "))
}

fn all_masked() -> BTreeMap<ColumnName, Mask> {
    ["EMAIL", "SSN", "CARD", "DOB", "NAME", "PHONE"]
        .map(|column| (format!("SALES.PUBLIC.CUSTOMERS.{column}").parse().unwrap(), Mask::Null))
        .into()
}

/// Never panics; understood or not, no masks leave the text alone.
fn calm(sql: &str, catalog: &Catalog) {
    match analyze(sql, &session(), catalog, &Limits::default()) {
        Ok(analyzed) => {
            assert!(!analyzed.statements.is_empty());
            assert_eq!(analyzed.rewrite(&BTreeMap::new(), "").as_deref(), Ok(sql));
            let _ = analyzed.rewrite(&all_masked(), "");
            for statement in analyzed.statements.iter().filter(|it| it.level == Level::Classified) {
                let queries = [Verb::Select, Verb::Insert, Verb::Update, Verb::Delete, Verb::Merge, Verb::CopyUnload];
                assert!(
                    !queries.contains(&statement.kind.verb) && !statement.objects.is_empty()
                        || !statement.unresolved.is_empty()
                );
            }
        }
        Err(AnalyzeError::TooManyStatements { .. } | AnalyzeError::TooDeep { .. }) => {}
        Err(error) => panic!("{error}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_text_is_answered(text in any::<String>()) {
        calm(&text, catalog());
    }

    #[test]
    fn any_soup_of_words_is_answered(text in soup()) {
        calm(&text, catalog());
        calm(&format!("SELECT {text} FROM customers"), catalog());
    }

    #[test]
    fn heads_do_not_depend_on_writing(
        which in 0..HEADS.len(),
        blanks in prop::collection::vec(0..BLANKS.len(), 1..20),
        cases in prop::collection::vec(any::<bool>(), 1..20),
        more in soup(),
    ) {
        let plain = analyze(HEADS[which], &session(), catalog(), &Limits::default()).unwrap();
        let tokens: Vec<&str> = HEADS[which].split(' ').collect();
        let other = written(&tokens, &blanks, &cases);
        let analyzed = analyze(&other, &session(), catalog(), &Limits::default()).unwrap();
        let without_why = |statements: &[StatementAnalysis]| {
            let mut statements = meaning(statements);
            for statement in &mut statements {
                statement.why = None;
            }
            statements
        };
        prop_assert!(plain.statements.iter().all(|statement| statement.level == Level::Classified), "{}", HEADS[which]);
        prop_assert_eq!(without_why(&plain.statements), without_why(&analyzed.statements), "{}", other);
        calm(&format!("{other} {more}"), catalog());
        calm(&format!("{} {more}", tokens[..tokens.len() / 2].join(" ")), catalog());
    }

    #[test]
    fn writing_does_not_matter(
        which in 0..TEXTS.len(),
        blanks in prop::collection::vec(0..BLANKS.len(), 1..20),
        cases in prop::collection::vec(any::<bool>(), 1..20),
    ) {
        let catalog = catalog();
        let plain = TEXTS[which].join(" ");
        let other = written(TEXTS[which], &blanks, &cases);
        let plain = analyze(&plain, &session(), catalog, &Limits::default()).unwrap();
        let analyzed = analyze(&other, &session(), catalog, &Limits::default()).unwrap();
        prop_assert!(plain.statements.iter().all(|statement| statement.level == Level::Understood));
        prop_assert_eq!(meaning(&plain.statements), meaning(&analyzed.statements), "{}", other);
        // However it is written, the masks find their places.
        let masked = analyzed.rewrite(&all_masked(), "");
        prop_assert!(masked.is_ok(), "{}: {:?}", other, masked);
    }

    #[test]
    fn shapes_do_not_depend_on_writing(
        which in 0..SHAPES.len(),
        blanks in prop::collection::vec(0..BLANKS.len(), 1..20),
        cases in prop::collection::vec(any::<bool>(), 1..20),
        more in soup(),
    ) {
        let plain = analyze(SHAPES[which], &session(), catalog(), &Limits::default()).unwrap();
        let tokens: Vec<&str> = SHAPES[which].split(' ').collect();
        let other = written(&tokens, &blanks, &cases);
        let analyzed = analyze(&other, &session(), catalog(), &Limits::default()).unwrap();
        prop_assert!(plain.statements.iter().all(|it| it.level == Level::Understood && it.unresolved.is_empty()));
        prop_assert_eq!(meaning(&plain.statements), meaning(&analyzed.statements), "{}", other);
        let masked = analyzed.rewrite(&all_masked(), "");
        prop_assert!(masked.as_ref().is_ok_and(|text| *text != other), "{}: {:?}", other, masked);
        calm(&format!("{other} {more}"), catalog());
        calm(&format!("{} {more}", tokens[..tokens.len() / 2].join(" ")), catalog());
    }

    #[test]
    fn a_masked_column_is_never_bare(
        columns in prop::sample::subsequence(vec!["id", "email", "ssn", "card", "dob", "name", "phone", "country"], 1..8),
        masked in prop::sample::subsequence(vec!["EMAIL", "SSN", "CARD", "NAME", "PHONE"], 0..5),
        aliased in any::<bool>(),
    ) {
        let catalog = catalog();
        let sql = format!("SELECT {} FROM customers{}", columns.join(", "), if aliased { " x" } else { "" });
        let masks: BTreeMap<ColumnName, Mask> = masked
            .iter()
            .map(|column| (format!("SALES.PUBLIC.CUSTOMERS.{column}").parse().unwrap(), Mask::Redact { text: None }))
            .collect();
        let text = analyze(&sql, &session(), catalog, &Limits::default()).unwrap().rewrite(&masks, "").unwrap();
        let read: Vec<_> = masked.iter().filter(|column| columns.iter().any(|it| it.eq_ignore_ascii_case(column))).collect();
        prop_assert_eq!(text == sql, read.is_empty());
        for column in read {
            let bare = format!("\"{column}\"");
            // In the mask's own test for NULL, and as the name of the masked value: nowhere else.
            let allowed = text.matches(&format!("CASE WHEN {bare} IS NULL")).count() + text.matches(&format!("AS {bare}")).count();
            prop_assert_eq!(text.matches(&bare).count(), allowed, "{}", text);
        }
    }
}

#[test]
fn limits_are_said() {
    let catalog = catalog();
    let read = |sql: &str, limits: &Limits| analyze(sql, &session(), catalog, limits).map(|_| ()).unwrap_err();
    let limits = Limits { bytes_max: 10, statements_max: 2, depth_max: 20 };
    assert_eq!(read("select 1 + 1", &limits), AnalyzeError::TooLong { bytes: 12, bytes_max: 10 });
    let many = Limits { bytes_max: 100, ..limits };
    assert_eq!(
        read("select 1; select 2; select 3", &many),
        AnalyzeError::TooManyStatements { statements: 3, statements_max: 2 }
    );
    let deep = format!("select {}1{}", "(".repeat(60), ")".repeat(60));
    assert_eq!(read(&deep, &Limits { bytes_max: 1000, ..limits }), AnalyzeError::TooDeep { depth_max: 20 });
    let long = format!("select 1{}", " + 1".repeat(5000));
    assert!(matches!(read(&long, &Limits::default()), AnalyzeError::TooManyOperators { operators: 5001, .. }));
    for error in [read(&deep, &Limits { bytes_max: 1000, ..limits }), read("select 1 + 1", &limits)] {
        assert!(!error.to_string().is_empty());
    }
}

#[test]
fn long_rows_of_operators_are_read() {
    let catalog = catalog();
    for sql in [
        format!("select id from customers where ssn = 'x'{}", " or id = 1".repeat(1900)),
        format!("select id from customers{}", " union all select id from orders".repeat(1500)),
        format!("select id{} from customers", "::varchar".repeat(900)),
        format!("select {}1{}", "abs(".repeat(40), ")".repeat(40)),
        format!("select id from customers where {} true", "not ".repeat(40)),
        format!("select id from customers where id in ({}1)", "1, ".repeat(20000)),
        format!("select id from customers where id in ({}-1)", "-1, ".repeat(20000)),
        format!("select id, id from customers{}", " union all select id, id from orders".repeat(1500)),
    ] {
        let analyzed = analyze(&sql, &session(), catalog, &Limits::default()).unwrap();
        assert_eq!(analyzed.statements[0].level, Level::Understood, "{:?}", analyzed.statements[0].why);
        assert_eq!(analyzed.rewrite(&BTreeMap::new(), "").unwrap(), sql);
        let masks = BTreeMap::from([("SALES.PUBLIC.CUSTOMERS.ID".parse().unwrap(), Mask::Null)]);
        assert_eq!(analyzed.rewrite(&masks, "").unwrap() == sql, !sql.contains("customers"));
    }
}

/// Short texts whose names can mean any number of columns: they are not read to the end.
#[test]
fn columns_that_multiply_are_not_followed() {
    let catalog = catalog();
    let doubled = |n: usize, star: &str| {
        let step = |at: usize| format!(", c{at} as (select {star} from c{} a, c{} b)", at - 1, at - 1);
        let steps = (1..n).map(step).collect::<Vec<_>>().concat();
        format!("with c0 as (select * from customers){steps} select 1 from c{}", n - 1)
    };
    let by_name = " union all by name select * from c9".repeat(100);
    for sql in [
        doubled(40, "*"),
        doubled(40, "a.*, b.*"),
        format!("{}{by_name}", doubled(10, "*")),
        format!("select {}id from {}orders", "note, ".repeat(20_000), "orders, ".repeat(10_000)),
        format!("select {}id from customers order by {}1", "id as x, ".repeat(15_000), "y, ".repeat(15_000)),
        format!("select * from orders{}", " natural join orders".repeat(10_000)),
        format!("select * from orders{}", " join orders using (id)".repeat(8_000)),
    ] {
        let analyzed = analyze(&sql, &session(), catalog, &Limits::default()).unwrap();
        let [statement] = analyzed.statements.as_slice() else { panic!("one statement") };
        assert_eq!(statement.level, Level::Unknown, "{sql:.60}");
        assert!(statement.why.as_deref().is_some_and(|why| why.contains("this many columns")), "{:?}", statement.why);
    }
    let wide = format!("select {}id from customers c join orders o using (id)", "c.email, o.note, ".repeat(500));
    assert_eq!(analyze(&wide, &session(), catalog, &Limits::default()).unwrap().statements[0].level, Level::Understood);
}

#[test]
fn facts_are_told() {
    let catalog = catalog();
    let facts = |sql: &str| analyze(sql, &session(), catalog, &Limits::default()).unwrap().statements[0].facts.clone();
    let told =
        facts("select upper(c.email), my_udf(1) from customers c join orders o on c.id = o.id where c.id = 1 limit 10");
    assert!(told.has_where && !told.cross_join);
    assert_eq!((told.limit, told.relations, told.bytes), (Some(10), 2, 102));
    assert_eq!(told.functions.iter().map(String::as_str).collect::<Vec<_>>(), ["SALES.PUBLIC.MY_UDF", "UPPER"]);
    assert!(facts("select 1 from customers, orders").cross_join);
    assert!(facts("select 1 from customers cross join orders").cross_join);
    assert!(!facts("select 1 from customers, orders where customers.id = orders.id").cross_join);
    assert!(!facts("select 1 from events, lateral flatten(input => payload)").cross_join);
    assert_eq!(facts("select top 5 id from orders limit 3").limit, Some(3));
    assert_eq!(facts("select id from orders fetch first 7 rows only").limit, Some(7));
    assert!(!facts("delete from orders").has_where);
    assert!(facts("update orders set note = 'x' where id = 1").has_where);
    assert!(!facts("select id from (select id from orders where id = 1)").has_where);
    let pivot = facts("select * from orders pivot(sum(amount) for status in ('a')) p, employees limit 4");
    assert!(pivot.cross_join && !pivot.has_where);
    assert_eq!((pivot.limit, pivot.relations), (Some(4), 2));
    assert!(pivot.functions.contains("SUM"));
    let several = facts("insert all into orders (id) into events (id) select id from customers where id = 1 limit 2");
    assert!(several.has_where && !several.cross_join);
    assert_eq!((several.limit, several.relations), (Some(2), 1));
    assert!(facts("select 1 from identifier('orders'), table('customers')").cross_join);
    assert!(!facts("select 1 from customers c, orders o where c.$1 = o.$2").cross_join);
}

#[test]
fn a_session_without_names_resolves_only_full_ones() {
    let catalog = catalog();
    let none = SessionContext::default();
    let read = |sql: &str| analyze(sql, &none, catalog, &Limits::default()).unwrap().statements[0].unresolved.clone();
    assert_eq!(read("select id from customers"), ["relation CUSTOMERS"]);
    assert_eq!(read("select id from public.customers"), ["relation PUBLIC.CUSTOMERS"]);
    assert!(read("select id from sales.public.customers").is_empty());
    assert_eq!(read("use schema public"), ["schema PUBLIC"]);
    assert_eq!(read("drop table t"), ["table T"]);
}

/// Anyone may hold an answer across threads.
#[test]
fn answers_can_be_sent() {
    fn sendable<T: Send + Sync>() {}
    sendable::<icegate_pdp_sql::Analyzed<'static>>();
}
