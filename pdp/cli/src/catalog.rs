pub(crate) mod dbt;

use std::{fs, io::Write, path::Path};

use icegate_proto::v1::{
    CatalogDatabase, ExportCatalogRequest, GetCatalogStatusRequest, GetCatalogStatusResponse,
    catalog_service_client::CatalogServiceClient,
};
use serde_json::{Value, json};

use crate::{
    args::{CatalogCommand, Connection, ImportDbtArgs},
    connect::{connect, refused},
    exit::{Exit, Failure},
    progress, show, time,
};

/// Longest artefact of dbt, in bytes: a manifest holds every model's SQL twice.
const ARTEFACT_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Longest message of the PDP, in bytes.
const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;

pub(crate) async fn run(
    command: CatalogCommand,
    connection: &Connection,
    out: &mut dyn Write,
    told: &mut (dyn Write + Send),
) -> Result<Exit, Failure> {
    match command {
        CatalogCommand::ImportDbt(args) => import_dbt(&args, out, told),
        CatalogCommand::Status { json } => {
            let mut client = CatalogServiceClient::new(connect(connection).await?);
            let asked = client.get_catalog_status(GetCatalogStatusRequest {});
            let asked = progress::wait("asking for the catalog's state", asked).await;
            let status = asked.map_err(|status| refused(&status))?.into_inner();
            if json {
                writeln!(out, "{}", to_json(&status))?;
            } else {
                show_status(&status, out)?;
            }
            Ok(Exit::Ok)
        }
        CatalogCommand::Export { warehouse_only } => {
            let client = CatalogServiceClient::new(connect(connection).await?);
            let mut client = client.max_decoding_message_size(MESSAGE_BYTES_MAX);
            let asked = client.export_catalog(ExportCatalogRequest { warehouse_only });
            let asked = progress::wait("asking for the catalog", asked).await;
            let mut pieces = asked.map_err(|status| refused(&status))?.into_inner();
            while let Some(piece) = pieces.message().await.map_err(|status| refused(&status))? {
                out.write_all(piece.text.as_bytes())?;
            }
            Ok(Exit::Ok)
        }
    }
}

fn import_dbt(args: &ImportDbtArgs, out: &mut dyn Write, told: &mut dyn Write) -> Result<Exit, Failure> {
    let manifest = artefact(&args.manifest, "--manifest")?;
    let found = args.catalog.as_deref().map(|path| artefact(path, "--catalog")).transpose()?;
    let mut meta_keys = dbt::MetaKey::usual();
    meta_keys.extend(args.meta_key.iter().cloned());
    let imported =
        dbt::import(&manifest, found.as_ref(), &meta_keys).map_err(|problem| Failure::new(Exit::Config, problem))?;
    let text = format!(
        "# Made by `icegate catalog import-dbt`: write tags of yours in another file, under `tags:`.\n{}",
        imported.catalog.to_yaml()
    );
    match &args.out {
        None => out.write_all(text.as_bytes())?,
        Some(path) => fs::write(path, text).map_err(|error| {
            Failure::new(Exit::Config, format!("`--out`: `{}` cannot be written: {error}", path.display()))
        })?,
    }
    tell(&imported, told)?;
    Ok(Exit::Ok)
}

/// What was taken and what was not: for the person, beside the catalog itself.
fn tell(imported: &dbt::Imported, told: &mut dyn Write) -> Result<(), Failure> {
    let taken: Vec<String> = imported.taken.iter().map(|(kind, count)| show::count(*count, kind)).collect();
    let taken = if taken.is_empty() { "nothing".to_owned() } else { taken.join(", ") };
    writeln!(told, "Taken: {taken}.")?;
    if !imported.left.is_empty() {
        writeln!(told, "Look at {}:", show::count(imported.left.len(), "resource"))?;
    }
    for (id, why) in &imported.left {
        writeln!(told, "  {}: {}", show::visible(id), show::visible(why))?;
    }
    Ok(())
}

fn artefact(path: &Path, option: &str) -> Result<Value, Failure> {
    let wrong = |problem: String| Failure::new(Exit::Config, format!("`{option}`: `{}` {problem}", path.display()));
    let length = fs::metadata(path).map_err(|error| wrong(format!("cannot be read: {error}")))?.len();
    if length > ARTEFACT_BYTES_MAX {
        return Err(wrong(format!("has {length} bytes; at most {ARTEFACT_BYTES_MAX} are read")));
    }
    let bytes = fs::read(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(format!("is no JSON: {error}")))
}

fn show_status(status: &GetCatalogStatusResponse, out: &mut dyn Write) -> Result<(), Failure> {
    writeln!(out, "Version in force: {}", show::visible(&status.version))?;
    if !status.sync {
        writeln!(out, "Nothing is read of the warehouse (`catalog.sync` of the PDP is \"off\").")?;
        return Ok(());
    }
    if status.pep_ids.is_empty() {
        writeln!(
            out,
            "No PEP takes questions; set `catalog.sync = \"on\"` in a PEP's configuration, and see its log."
        )?;
    } else {
        writeln!(out, "Asked through: {}", show::visible(&status.pep_ids.join(", ")))?;
    }
    let rows = status.databases.iter().map(|database| {
        vec![
            database.name.clone(),
            moment(database.synced_unix_ms),
            database.relations.to_string(),
            database.views.to_string(),
            (database.functions + database.procedures).to_string(),
            database.tagged.to_string(),
            database.unreadable_count.to_string(),
        ]
    });
    let head = ["database", "read", "relations", "views", "routines", "tagged", "unreadable"];
    if !status.databases.is_empty() {
        write!(out, "{}", show::table(&head, rows))?;
    }
    for database in &status.databases {
        let name = show::visible(&database.name);
        if !database.problem.is_empty() {
            writeln!(out, "{name}, tried {}: {}", moment(database.tried_unix_ms), show::visible(&database.problem))?;
        }
        for unreadable in &database.unreadable {
            writeln!(out, "  {}: {}", show::visible(&unreadable.name), show::visible(&unreadable.why))?;
        }
        more(database.unreadable.len(), database.unreadable_count, out)?;
    }
    if status.differences_count > 0 {
        writeln!(out, "Defined otherwise in the bundle, which wins:")?;
        for difference in &status.differences {
            writeln!(out, "  {}", show::visible(difference))?;
        }
        more(status.differences.len(), status.differences_count, out)?;
    }
    Ok(())
}

fn more(shown: usize, all: u64, out: &mut dyn Write) -> Result<(), Failure> {
    let left = all.saturating_sub(u64::try_from(shown).unwrap_or(u64::MAX));
    if left > 0 {
        writeln!(out, "  and {left} more")?;
    }
    Ok(())
}

fn moment(unix_ms: i64) -> String {
    if unix_ms == 0 { "never".to_owned() } else { time::format(unix_ms) }
}

fn to_json(status: &GetCatalogStatusResponse) -> Value {
    let moment = |unix_ms: i64| (unix_ms != 0).then(|| time::format(unix_ms));
    let database = |database: &CatalogDatabase| {
        json!({
            "name": database.name,
            "synced": moment(database.synced_unix_ms),
            "tried": moment(database.tried_unix_ms),
            "problem": (!database.problem.is_empty()).then_some(&database.problem),
            "relations": database.relations,
            "views": database.views,
            "functions": database.functions,
            "procedures": database.procedures,
            "tagged": database.tagged,
            "unreadable": database.unreadable.iter().map(|it| json!({ "name": it.name, "why": it.why })).collect::<Vec<_>>(),
            "unreadable_count": database.unreadable_count,
        })
    };
    json!({
        "sync": status.sync,
        "pep_ids": status.pep_ids,
        "version": status.version,
        "databases": status.databases.iter().map(database).collect::<Vec<_>>(),
        "differences": status.differences,
        "differences_count": status.differences_count,
    })
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, path::PathBuf};

    use icegate_proto::v1::CatalogUnreadable;
    use serde::Deserialize;

    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dbt").join(name)
    }

    fn args(catalog: Option<&str>) -> ImportDbtArgs {
        ImportDbtArgs {
            manifest: fixture("manifest.json"),
            catalog: catalog.map(fixture),
            out: None,
            meta_key: vec!["owner_team=owner".parse().unwrap()],
        }
    }

    fn imported(args: &ImportDbtArgs) -> (String, String) {
        let (mut out, mut told) = (Vec::new(), Vec::new());
        import_dbt(args, &mut out, &mut told).unwrap();
        (String::from_utf8(out).unwrap(), String::from_utf8(told).unwrap())
    }

    /// The expected files are written from what dbt and Snowflake mean, by hand.
    #[test]
    fn a_project_becomes_a_catalog() {
        let (yaml, told) = imported(&args(Some("catalog.json")));
        assert_eq!(yaml, include_str!("../tests/dbt/expected.yaml"));
        assert_eq!(told, include_str!("../tests/dbt/expected.txt"));
        assert_eq!(imported(&args(Some("catalog.json"))).0, yaml, "the same again");
        serde_saphyr::from_str::<icegate_pdp_model::Catalog>(&yaml).unwrap();
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Case {
        name: String,
        #[serde(default = "v12")]
        version: String,
        #[serde(default)]
        nodes: BTreeMap<String, Value>,
        #[serde(default)]
        sources: BTreeMap<String, Value>,
        found: Option<BTreeMap<String, Value>>,
        #[serde(default)]
        catalog: Option<Value>,
        #[serde(default)]
        left: BTreeMap<String, String>,
        refused: Option<String>,
    }

    fn v12() -> String {
        "https://schemas.getdbt.com/dbt/manifest/v12.json".into()
    }

    #[test]
    fn cases() {
        let cases: Vec<Case> = serde_saphyr::from_str(include_str!("../tests/dbt/cases.yaml")).unwrap();
        assert!(!cases.is_empty());
        for case in cases {
            let manifest = json!({
                "metadata": { "dbt_schema_version": case.version }, "nodes": case.nodes, "sources": case.sources,
            });
            let found = case.found.map(|found| {
                let version = "https://schemas.getdbt.com/dbt/catalog/v1.json";
                json!({ "metadata": { "dbt_schema_version": version }, "nodes": found, "sources": found })
            });
            let outcome = dbt::import(&manifest, found.as_ref(), &dbt::MetaKey::usual());
            match (outcome, case.refused) {
                (Ok(imported), None) => {
                    let wanted = case.catalog.unwrap_or_else(|| json!({}));
                    let wanted: icegate_pdp_model::Catalog = serde_json::from_value(wanted).unwrap();
                    assert_eq!(imported.catalog.to_yaml(), wanted.to_yaml(), "{}", case.name);
                    assert_eq!(BTreeMap::from_iter(imported.left), case.left, "{}", case.name);
                }
                (Err(problem), Some(wanted)) => assert_eq!(problem, wanted, "{}", case.name),
                (outcome, wanted) => panic!("{}: {outcome:?}, {wanted:?}", case.name),
            }
        }
    }

    #[test]
    fn a_status_reads_well() {
        let database = CatalogDatabase {
            name: "SALES".into(),
            synced_unix_ms: 1_790_000_000_000,
            tried_unix_ms: 1_790_000_900_000,
            problem: "Its list of columns cannot be read (002003).".into(),
            relations: 3,
            views: 1,
            functions: 2,
            procedures: 1,
            tagged: 4,
            unreadable: vec![CatalogUnreadable { name: "SALES.PUBLIC.V".into(), why: "Its text is hidden.".into() }],
            unreadable_count: 2,
        };
        let status = GetCatalogStatusResponse {
            sync: true,
            pep_ids: vec!["pep-1".into()],
            version: "0123456789abcdef+89abcdef".into(),
            databases: vec![database],
            differences: vec!["SALES.PUBLIC.T: column `X` is in one of them only".into()],
            differences_count: 1,
        };
        let mut out = Vec::new();
        show_status(&status, &mut out).unwrap();
        writeln!(out, "{}", to_json(&status)).unwrap();
        for other in [
            GetCatalogStatusResponse { sync: false, ..status.clone() },
            GetCatalogStatusResponse { pep_ids: Vec::new(), databases: Vec::new(), differences_count: 0, ..status },
        ] {
            show_status(&other, &mut out).unwrap();
        }
        insta::assert_snapshot!("catalog_status", String::from_utf8(out).unwrap());
    }
}
