//! Rows of Snowflake's own views, and what they say.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests may")]

use icegate_pdp_model::Nature;
use icegate_pdp_pip::warehouse::{
    Tags, Warehouse, WarehouseDatabase, WarehouseRelation, columns, natures, read_rows, relation_tags, relations, tags,
    view_texts,
};

#[test]
fn types_are_written_as_create_table_writes_them() {
    for (cells, wanted) in [
        (r#""TEXT","YES","16777216",null,null,null"#, "VARCHAR(16777216)"),
        (r#""NUMBER","NO",null,"38","0",null"#, "NUMBER(38,0)"),
        (r#""NUMBER","YES",null,"12","2",null"#, "NUMBER(12,2)"),
        (r#""TIMESTAMP_NTZ","YES",null,null,null,"9""#, "TIMESTAMP_NTZ(9)"),
        (r#""DATE","YES",null,null,null,null"#, "DATE"),
        (r#""BINARY","YES","8388608",null,null,null"#, "BINARY(8388608)"),
        (r#""VARIANT","YES",null,null,null,null"#, "VARIANT"),
        (r#""FLOAT","YES",null,null,null,null"#, "FLOAT"),
    ] {
        let rows = read_rows(&format!(r#"[["P","T","C","1",{cells}]]"#)).unwrap();
        let column = &columns("S", &rows)[&"S.P.T".parse().unwrap()][0];
        assert_eq!(column.data_type, wanted);
        assert_eq!(column.nullable, !cells.contains("\"NO\""));
    }
}

#[test]
fn columns_stand_in_their_order_and_a_broken_one_takes_its_relation_out() {
    let rows = read_rows(
        r#"[["P","T","B","2","DATE","YES"],["P","T","A","1","DATE","YES"],["P","U","A","1","DATE","YES"],["P","U","B",null,"DATE","YES"]]"#,
    );
    let found = columns("S", &rows.unwrap());
    let names: Vec<&str> = found[&"S.P.T".parse().unwrap()].iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["A", "B"]);
    assert_eq!(found.len(), 1);
}

#[test]
fn of_several_that_share_a_name_the_worst_counts() {
    let rows = read_rows(
        r#"[["P","F","()","JAVASCRIPT","NO",null],["P","G","()","JAVASCRIPT","NO",null],["P","G","(A)","SQL","NO",null],
            ["P","H","()","JAVASCRIPT","YES",null],["P","I","()","PYTHON","NO",""],["P","J","()","PYTHON","NO","[MAIL]"]]"#,
    )
    .unwrap();
    let found = natures("S", &rows, false);
    let wanted = [
        ("S.P.F", Nature::Pure),
        ("S.P.G", Nature::Unknown),
        ("S.P.H", Nature::External),
        ("S.P.I", Nature::Unknown),
        ("S.P.J", Nature::External),
    ];
    assert_eq!(found.iter().map(|(name, nature)| (name.as_str(), *nature)).collect::<Vec<_>>(), wanted);
    assert_eq!(natures("S", &rows, true)["S.P.F"], Nature::Unknown, "a procedure can run SQL in any language");
}

#[test]
fn tags_are_written_as_icegate_writes_them() {
    let rows = read_rows(
        r#"[[null,"S",null,"DATABASE","OWNER","Sales","G","T"],[null,"P",null,"SCHEMA","ZONE",null,"G","T"],
            ["P","T",null,"TABLE","PII","","G","T"],["P","T","A","COLUMN","PII","E-Mail Adresse","G","T"],
            ["P","T","A","COLUMN","SEMANTIC_CATEGORY","EMAIL","SNOWFLAKE","CORE"],["P","T","B","COLUMN","ä.","..","G","T"],
            [null,"ELSE",null,"DATABASE","X","Y","G","T"]]"#,
    );
    let found = tags("S", &rows.unwrap());
    let told: Vec<String> = found
        .iter()
        .map(|(name, tags)| format!("{name}: {}", tags.iter().cloned().collect::<Vec<_>>().join(" ")))
        .collect();
    assert_eq!(
        told,
        [
            "S: owner.sales",
            "S.P: zone",
            "S.P.T: pii",
            "S.P.T.A: pii.e-mail_adresse semantic_category.email",
            "S.P.T.B: _._._._._"
        ]
    );
}

#[test]
fn what_a_column_inherits_is_the_relations() {
    let rows = read_rows(r#"[["A","PII","email","COLUMN"],["A","ZONE",null,"SCHEMA"],["B","ZONE",null,"SCHEMA"]]"#);
    let Tags { relation, columns } = relation_tags(&rows.unwrap());
    assert_eq!(relation.into_iter().collect::<Vec<_>>(), ["zone"]);
    assert_eq!(columns["A"].iter().collect::<Vec<_>>(), ["pii.email"]);
    assert!(!columns.contains_key("B"));
}

#[test]
fn half_a_relation_is_none() {
    let listed = &relations("S", &read_rows(r#"[["P","V","VIEW","7"]]"#).unwrap())[0];
    assert!(listed.view && listed.altered_ms == 7);
    let found = || columns("S", &read_rows(r#"[["P","V","A","1","DATE","YES"]]"#).unwrap());
    let column = || Ok(found().into_values().next().unwrap());
    let text = || Ok(Some("select a from t".to_owned()));
    let tags = || Ok(Tags::default());
    let no = || "No.".to_owned();
    let whole = WarehouseRelation::new(listed, column(), text(), tags());
    assert_eq!(whole.unreadable, None);
    for (what, broken) in [
        ("columns", WarehouseRelation::new(listed, Err(no()), text(), tags())),
        ("no columns", WarehouseRelation::new(listed, Ok(Vec::new()), text(), tags())),
        ("text", WarehouseRelation::new(listed, column(), Err(no()), tags())),
        ("no text", WarehouseRelation::new(listed, column(), Ok(None), tags())),
        ("long text", WarehouseRelation::new(listed, column(), Ok(Some("x".repeat(300_000))), tags())),
        ("tags", WarehouseRelation::new(listed, column(), text(), Err(no()))),
    ] {
        assert!(broken.unreadable.is_some() && broken.columns.is_empty() && broken.text.is_none(), "{what}");
        let warehouse = Warehouse { relations: [(listed.name.clone(), broken)].into(), ..Warehouse::default() };
        assert_eq!(warehouse.catalog().relations().count(), 0, "{what}");
    }
    let database = WarehouseDatabase { synced_ms: 1, ..WarehouseDatabase::default() };
    let mut warehouse = Warehouse { relations: [(listed.name.clone(), whole)].into(), ..Warehouse::default() };
    let before = Warehouse::digest(&warehouse.catalog());
    assert_eq!(before.len(), 8);
    warehouse.databases.insert("S".into(), database);
    assert_eq!(Warehouse::digest(&warehouse.catalog()), before, "when it was read is not what was read");
    assert_eq!(Warehouse::digest(&Warehouse::default().catalog()), "");
}

#[test]
fn views_without_text_are_not_told() {
    let rows = read_rows(r#"[["P","V"," select 1 "],["P","W",null],["P","X",""]]"#).unwrap();
    let found = view_texts("S", &rows);
    assert_eq!(
        found.into_iter().map(|(name, text)| format!("{name}: {text}")).collect::<Vec<_>>(),
        ["S.P.V: select 1"]
    );
    assert!(read_rows("{}").is_err() && read_rows("[[1]]").is_err());
    assert!(read_rows(&format!("[[{}null]]", "null,".repeat(16))).is_err());
}
