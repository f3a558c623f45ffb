//! What do the benches share? The starting policies and bundles of any size; statements of every kind and what they are
//! read against.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs, io,
    path::Path,
};

use icegate_pdp_model::{
    Catalog, CatalogColumn, CatalogRelation, Principal, RelationKind, RelationName, SessionContext,
};
use icegate_pdp_pip::{BundleDir, BundleDirError};
use icegate_pdp_policy::{BundleSource, SourceFile};

/// A join of three relations with personal data in it.
pub const JOIN: &str = "SELECT c.name, c.email, o.amount, e.dept FROM sales.public.customers c \
     JOIN sales.public.orders o ON o.customer_id = c.id JOIN sales.public.employees e ON e.id = o.id \
     WHERE c.country = 'NL' AND o.amount > 100 ORDER BY o.amount DESC LIMIT 100";

/// An analyst of the starting policies.
pub fn analyst() -> Principal {
    Principal {
        id: "dev/ana".into(),
        issuer: "https://issuer.example".into(),
        subject: "ana".into(),
        groups: ["employees", "analysts"].map(String::from).into(),
        agent: None,
        attributes: BTreeMap::new(),
    }
}

/// The starting policies, with `extra` more that are about other groups and relations.
///
/// # Errors
///
/// When `policies/` cannot be read.
pub fn bundle(extra: usize) -> Result<BundleSource, BundleDirError> {
    let mut source = BundleDir::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../policies")).read()?;
    let mut more = String::new();
    for number in 0..extra {
        let _ = writeln!(
            more,
            "@id(\"extra-{number}\")\npermit (principal in Icegate::Group::\"team-{number}\", action == \
             Icegate::Action::\"read\", resource in Icegate::Schema::\"OTHER.S{number}\") when {{ context.statement.relations < 5 }};"
        );
    }
    source.files.push(SourceFile { path: "extra.cedar".into(), text: more });
    Ok(source)
}

/// Every statement of `statements/`, as `kind/name` and its text, ordered by name.
///
/// # Errors
///
/// When they cannot be read.
pub fn statements() -> io::Result<Vec<(String, String)>> {
    let mut statements = Vec::new();
    for kind in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("statements"))? {
        let kind = kind?.path();
        for file in fs::read_dir(&kind)? {
            let file = file?.path();
            let name = |path: &Path| path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            statements.push((format!("{}/{}", name(&kind), name(&file)), fs::read_to_string(&file)?));
        }
    }
    statements.sort();
    Ok(statements)
}

/// What the statements are read against, as text.
pub const CATALOG: &str = include_str!("../catalog.yaml");

/// The session the statements are read in.
pub fn session() -> SessionContext {
    SessionContext { database: Some("SALES".into()), schema: Some("PUBLIC".into()), ..SessionContext::default() }
}

/// A query of `parts` equal halves, each a join with conditions: its length grows with their number and nothing else does.
pub fn long_query(parts: usize) -> String {
    let part = "SELECT c.name, o.amount * 2 AS twice FROM sales.public.customers c JOIN sales.public.orders o ON \
                o.customer_id = c.id WHERE c.country = 'NL' AND o.amount > 100";
    vec![part; parts].join("\nUNION ALL\n")
}

/// A catalog with `extra` more relations of eight columns.
pub fn grown(mut catalog: Catalog, extra: usize) -> Catalog {
    let column = |number| CatalogColumn {
        name: format!("C{number}"),
        data_type: "VARCHAR".into(),
        nullable: true,
        tags: BTreeSet::new(),
        paths: Vec::new(),
    };
    for number in 0..extra {
        let relation = CatalogRelation {
            kind: RelationKind::Table,
            definition: None,
            tags: BTreeSet::new(),
            columns: (0..8).map(column).collect(),
            row_attributes: BTreeMap::new(),
        };
        // Numbered names cannot be taken yet.
        let _ =
            catalog.insert(RelationName::new("GROWN", format!("S{}", number % 100), format!("T{number}")), relation);
    }
    catalog
}
