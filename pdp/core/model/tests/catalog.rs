//! Catalogs as files: what is written reads back, and how parts and the warehouse come together.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may")]

use std::collections::{BTreeMap, BTreeSet};

use icegate_pdp_model::{Catalog, CatalogColumn, CatalogRelation, Nature, ObjectName, RelationKind, RelationName};
use proptest::prelude::*;

fn read(yaml: &str) -> Catalog {
    serde_saphyr::from_str(yaml).unwrap_or_else(|error| panic!("{error}\n{yaml}"))
}

fn tags(catalog: &Catalog, relation: &str, column: &str) -> String {
    let relation = catalog.relation(&relation.parse().unwrap()).unwrap();
    let tags: Vec<&str> = match column {
        "" => relation.tags.iter().map(String::as_str).collect(),
        column => relation.column(column).unwrap().tags.iter().map(String::as_str).collect(),
    };
    tags.join(" ")
}

const TABLE: &str = "databases: { s: { p: { t: { columns: { id: { type: number }, email: { type: varchar } } } } } }";

#[test]
fn tags_said_apart_reach_what_they_name() {
    let mut catalog = read(
        "databases: { s: { p: { t: { columns: { id: { type: number, tags: [a] } } } } } }\n\
         tags: { s: [d], s.p: [e], s.p.t: [f], s.p.t.id: [g], s.q: [h], s.p.later: [i], s.p.later.x: [j] }",
    );
    assert_eq!((tags(&catalog, "s.p.t", "").as_str(), tags(&catalog, "s.p.t", "ID").as_str()), ("d e f", "a g"));
    let unknown: Vec<String> = catalog.tagged_unknown().map(ToString::to_string).collect();
    assert_eq!(unknown, ["S.P.LATER", "S.P.LATER.X", "S.Q"]);
    // What comes later has them from its first moment.
    let column = CatalogColumn {
        name: "X".into(),
        data_type: "DATE".into(),
        nullable: true,
        tags: BTreeSet::new(),
        paths: Vec::new(),
    };
    let later = CatalogRelation {
        kind: RelationKind::Table,
        definition: None,
        tags: BTreeSet::new(),
        columns: vec![column],
        row_attributes: BTreeMap::new(),
    };
    catalog.insert(RelationName::new("S", "P", "LATER"), later).unwrap();
    assert_eq!((tags(&catalog, "s.p.later", "").as_str(), tags(&catalog, "s.p.later", "X").as_str()), ("d e i", "j"));
}

#[test]
fn a_refreshed_import_keeps_the_tags_written_by_hand() {
    let by_hand = read("tags: { s.p.t.email: [pii.email] }");
    for import in
        [TABLE, "databases: { s: { p: { t: { columns: { email: { type: text }, more: { type: date } } } } } }"]
    {
        let mut catalog = by_hand.clone();
        catalog.join(read(import)).unwrap();
        assert_eq!(tags(&catalog, "s.p.t", "EMAIL"), "pii.email");
        let mut other_way = read(import);
        other_way.join(by_hand.clone()).unwrap();
        assert_eq!(catalog, other_way, "the order of the files does not matter");
    }
}

#[test]
fn parts_that_contradict_each_other_are_refused() {
    for (other, wanted) in [
        (
            "databases: { s: { p: { t: { columns: { id: { type: number } } } } } }",
            "column `EMAIL` is in one of them only",
        ),
        (
            "databases: { s: { p: { t: { columns: { email: { type: varchar }, id: { type: number } } } } } }",
            "their columns stand in another order",
        ),
        (
            "databases: { s: { p: { t: { columns: { id: { type: number, nullable: false }, email: { type: varchar } } } } } }",
            "column `ID` may be NULL in one of them only",
        ),
        (
            "databases: { s: { p: { t: { view: select 1, columns: { id: { type: number }, email: { type: varchar } } } } } }",
            "one is a table, the other a view",
        ),
    ] {
        let mut catalog = read(TABLE);
        let conflict = catalog.join(read(other)).unwrap_err();
        assert_eq!(conflict.to_string(), format!("relation `S.P.T` is defined twice: {wanted}"));
        assert_eq!(catalog, read(TABLE), "nothing was joined");
    }
}

#[test]
fn the_warehouse_adds_and_never_takes_away() {
    let mut catalog = read(
        "databases: { s: { p: { t: { columns: { id: { type: number }, email: { type: varchar, tags: [pii.email] } } } } } }\n\
         functions: { s.p.f: external }\n\
         tags: { s.p.new.name: [pii.name] }",
    );
    let warehouse = read(
        "databases: { s: { p: { t: { tags: [internal], columns: { id: { type: number, tags: [key] }, email: { type: text } } }, \
         new: { columns: { name: { type: varchar } } } } } }\n\
         functions: { s.p.f: pure, s.p.g: pure }\n\
         tags: { s.p.t.email: [semantic_category.email] }",
    );
    let differences = catalog.put_under(&warehouse);
    assert_eq!(differences, ["S.P.T: column `EMAIL` is `VARCHAR` and `TEXT`"]);
    assert_eq!(tags(&catalog, "s.p.t", ""), "internal");
    assert_eq!(tags(&catalog, "s.p.t", "ID"), "key");
    assert_eq!(tags(&catalog, "s.p.t", "EMAIL"), "pii.email semantic_category.email");
    assert_eq!(tags(&catalog, "s.p.new", "NAME"), "pii.name");
    let name = |name: &str| name.parse::<ObjectName>().unwrap();
    assert_eq!(catalog.relation(&"s.p.t".parse().unwrap()).unwrap().column("EMAIL").unwrap().data_type, "VARCHAR");
    assert_eq!(catalog.function(&name("s.p.f")), Some(Nature::External), "what people wrote wins");
    assert_eq!(catalog.function(&name("s.p.g")), Some(Nature::Pure));
}

#[test]
fn paths_inside_a_variant_have_tags_of_their_own() {
    let text = "databases: { s: { p: { t: { columns: { v: { type: variant, tags: [whole], paths: { \
                user.email: { type: varchar, tags: [pii.email] }, User: { type: variant, tags: [] } } } } } } } }\n\
                tags: { 's.p.t.\"V:User\"': [by.hand], 's.p.t.\"V:user\"': [nothing] }";
    let mut catalog = read(text);
    let tags = |catalog: &Catalog, name: &str| {
        let relation = catalog.relation(&RelationName::new("S", "P", "T")).unwrap();
        relation.tags_of(name).map(|tags| tags.iter().cloned().collect::<Vec<_>>().join(" "))
    };
    for (name, wanted) in [
        ("V", Some("whole")),
        ("V:user.email", Some("pii.email")),
        ("V:User", Some("by.hand")),
        ("V:user", None),
        ("V:USER.EMAIL", None),
    ] {
        assert_eq!(tags(&catalog, name).as_deref(), wanted, "{name}");
    }
    assert_eq!(catalog.tagged_unknown().map(ToString::to_string).collect::<Vec<_>>(), ["S.P.T.\"V:user\""]);
    assert_eq!(read(&catalog.to_yaml()), catalog);
    // Another part adds paths and tags, and takes none away.
    catalog
        .join(read(
            "databases: { s: { p: { t: { columns: { v: { type: variant, paths: { \
             user.email: { type: varchar, tags: [more] }, a.b: { type: varchar, tags: [new] } } } } } } } }",
        ))
        .unwrap();
    assert_eq!(tags(&catalog, "V:user.email").as_deref(), Some("more pii.email"));
    assert_eq!(tags(&catalog, "V:a.b").as_deref(), Some("new"));
    for (columns, why) in [
        ("v: { type: varchar, paths: { a: { type: varchar, tags: [] } } }", "only VARIANT and OBJECT have any"),
        ("v: { type: variant, paths: { 'a[0]': { type: varchar, tags: [] } } }", "is no path"),
        ("v: { type: variant, paths: { a: { type: varchar } } }", "missing field"),
        (
            "v: { type: variant, paths: { a: { type: varchar, tags: [] } } }, '\"V:a\"': { type: date }",
            "the name of a column",
        ),
    ] {
        let text = format!("databases: {{ s: {{ p: {{ t: {{ columns: {{ {columns} }} }} }} }} }}");
        let error = serde_saphyr::from_str::<Catalog>(&text).unwrap_err().to_string();
        assert!(error.contains(why), "{columns}: {error}");
    }
}

#[test]
fn a_procedure_is_not_a_function_of_its_name() {
    let catalog = read("functions: { s.p.f: pure, s.p.both: pure }\nprocedures: { s.p.q: pure, s.p.both: external }");
    let name = |name: &str| name.parse::<ObjectName>().unwrap();
    assert_eq!(catalog.function(&name("s.p.q")), None);
    assert_eq!(catalog.procedure(&name("s.p.q")), Some(Nature::Pure));
    assert_eq!(catalog.procedure(&name("s.p.f")), Some(Nature::Pure), "as catalogs listed them before");
    assert_eq!(catalog.procedure(&name("s.p.both")), Some(Nature::External));
}

#[test]
fn limits_are_named() {
    let long = "x".repeat(256 * 1024 + 1);
    let many = (0..=64).map(|number| format!("t{number}")).collect::<Vec<_>>().join(", ");
    for (yaml, wanted) in [
        (
            format!("databases: {{ s: {{ p: {{ v: {{ view: {long}, columns: {{}} }} }} }} }}"),
            "the view's text has 262145 bytes; at most 262144 are read",
        ),
        (format!("tags: {{ s: [{many}] }}"), "there are 65 tags; at most 64 are read"),
        (format!("tags: {{ s: [{}] }}", "x".repeat(257)), "is not lower-case words joined by dots"),
        ("databases: { s: { p: { t: { columns: { id: { type: '' } } } } } }".to_owned(), "the type is empty"),
    ] {
        let error = serde_saphyr::from_str::<Catalog>(&yaml).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}");
    }
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof![
        "[A-Z_][A-Z0-9_$]{0,6}",
        Just("NO".to_owned()),
        Just("null".to_owned()),
        Just("a\"b".to_owned()),
        Just("größe".to_owned()),
        Just("a.b: #c".to_owned()),
        "\\PC{1,6}",
    ]
}

fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        "SELECT [a-z, \\n\\t'\"\\\\:#-]{0,40}",
        Just("select 1 -- a\n  from t\n\n where 'x: y'".to_owned()),
        Just(" leads\nand ends \n".to_owned()),
        Just("a\r\nb\u{85}c\u{2028}d\u{feff}e\u{0}".to_owned()),
    ]
}

fn tag_sets() -> impl Strategy<Value = BTreeSet<String>> {
    let tag = prop_oneof!["[a-z0-9_-]{1,5}(\\.[a-z0-9_-]{1,4})?", Just("yes".to_owned()), Just("1.5".to_owned())];
    prop::collection::btree_set(tag, 0..3)
}

prop_compose! {
    fn relations()(
        definition in prop::option::of(texts()),
        tags in tag_sets(),
        columns in prop::collection::btree_map(names(), (prop_oneof![Just("NUMBER(38,0)"), Just("VARCHAR"), Just("NO: X")], any::<bool>(), tag_sets()), 0..4),
    ) -> CatalogRelation {
        let column = |(name, (data_type, nullable, tags)): (String, (&str, bool, BTreeSet<String>))| {
            CatalogColumn { name, data_type: data_type.to_owned(), nullable, tags, paths: Vec::new() }
        };
        let columns: Vec<CatalogColumn> = columns.into_iter().map(column).collect();
        // Named by type, so that all relations agree; both are words YAML has ideas of its own about.
        let of_type = |data_type: &str| columns.iter().find(|column| column.data_type == data_type);
        let row_attributes = [("on", "VARCHAR"), ("y", "NUMBER(38,0)")]
            .into_iter()
            .filter_map(|(attribute, data_type)| Some((attribute.to_owned(), of_type(data_type)?.name.clone())))
            .collect();
        CatalogRelation {
            kind: if definition.is_some() { RelationKind::View } else { RelationKind::Table },
            definition,
            tags,
            columns,
            row_attributes,
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_reads_back(
        entries in prop::collection::btree_map((names(), names(), names()), relations(), 0..5),
        routines in prop::collection::btree_map((names(), names(), names()), 0..4_usize, 0..3),
        said in prop::collection::btree_map(prop::collection::vec(names(), 1..=4), tag_sets(), 0..3),
    ) {
        let mut catalog = Catalog::default();
        for ((database, schema, name), relation) in entries {
            catalog.insert(RelationName::new(database, schema, name), relation).unwrap();
        }
        let natures = [Nature::Pure, Nature::Reads, Nature::External, Nature::Unknown];
        for ((database, schema, name), nature) in routines {
            let name = ObjectName::new([database, schema, name]);
            catalog.insert_function(name.clone(), natures[nature]).unwrap();
            catalog.insert_procedure(name, natures[3 - nature]).unwrap();
        }
        for (name, tags) in said {
            catalog.add_tags(ObjectName::new(name), tags);
        }
        let text = catalog.to_yaml();
        prop_assert_eq!(&read(&text), &catalog, "{}", text);
        prop_assert_eq!(read(&text).to_yaml(), text);
    }
}
