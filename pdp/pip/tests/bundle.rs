//! Bundles on disk: which files are taken, which are problems, and what a change does.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::{fs, path::Path, time::Duration};

use icegate_pdp_pip::{BundleDir, BundleDirError, CATALOG_FILE_BYTES_MAX, FILE_BYTES_MAX, FILES_MAX};
use icegate_pdp_policy::SCHEMA;
use tokio::sync::mpsc;

fn bundle() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "schema.cedarschema", SCHEMA);
    write(dir.path(), "catalog.yaml", "databases: {}\n");
    write(dir.path(), "settings.yaml", "connection: demo\n");
    write(dir.path(), "base.cedar", POLICY);
    dir
}

const POLICY: &str = r#"@id("a") permit (principal, action == Icegate::Action::"run", resource);"#;

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn names(dir: &Path) -> Result<Vec<String>, BundleDirError> {
    let source = BundleDir::new(dir.to_owned()).read()?;
    Ok(source.files.into_iter().map(|file| file.path).collect())
}

#[test]
fn a_bundle_is_its_files_and_nothing_else() {
    let dir = bundle();
    write(dir.path(), "people/agents.cedar", POLICY);
    write(dir.path(), "README.md", "# policies");
    write(dir.path(), "people/README.md", "# people");
    write(dir.path(), ".git/config", "x");
    write(dir.path(), "cases/one.yaml", "name: x");
    write(dir.path(), "catalog/dbt.yaml", "databases: {}");
    let wanted = [
        "base.cedar",
        "catalog.yaml",
        "catalog/dbt.yaml",
        "people/agents.cedar",
        "schema.cedarschema",
        "settings.yaml",
    ];
    assert_eq!(names(dir.path()).unwrap(), wanted);
}

#[test]
fn what_is_not_part_of_a_bundle_is_a_problem() {
    let check = |name: &str, text: &str, wanted: &str| {
        let dir = bundle();
        write(dir.path(), name, text);
        let error = names(dir.path()).unwrap_err();
        assert!(error.to_string().contains(wanted), "{name}: {error}");
    };
    check("mask.ceder", POLICY, "`mask.ceder`: a bundle is");
    check("base.cedar~", POLICY, "`base.cedar~`: a bundle is");
    check("people/extra.yaml", "", "`people/extra.yaml`: a bundle is");
    check("catalog/notes.txt", "", "`catalog/notes.txt`: a bundle is");
    let big = " ".repeat(usize::try_from(CATALOG_FILE_BYTES_MAX).unwrap() + 1);
    check("catalog/big.yaml", &big, "`catalog/big.yaml`: it has 8388609 bytes; at most 8388608 are read");
    check("big.cedar", &" ".repeat(usize::try_from(FILE_BYTES_MAX).unwrap() + 1), "`big.cedar`: it has 1048577 bytes");

    let dir = bundle();
    fs::write(dir.path().join("latin.cedar"), [0xff, 0xfe]).unwrap();
    assert!(names(dir.path()).unwrap_err().to_string().contains("not UTF-8"));

    let dir = bundle();
    for index in 0..FILES_MAX {
        write(dir.path(), &format!("many/{index}.cedar"), "");
    }
    assert!(names(dir.path()).unwrap_err().to_string().contains("more than 1000 files"));

    let dir = bundle();
    for index in 0..17 {
        write(dir.path(), &format!("{index}.cedar"), &" ".repeat(1024 * 1024));
    }
    assert!(names(dir.path()).unwrap_err().to_string().contains("all files together"));

    assert!(matches!(names(Path::new("/nonexistent")).unwrap_err(), BundleDirError::Read { .. }));
}

#[cfg(unix)]
#[test]
fn links_may_lead_inside_only() {
    use std::os::unix::fs::symlink;

    // As Kubernetes mounts a ConfigMap: every name links into a hidden directory that is swapped whole.
    let dir = bundle();
    write(dir.path(), "..data/mounted.cedar", POLICY);
    symlink("..data/mounted.cedar", dir.path().join("mounted.cedar")).unwrap();
    assert!(names(dir.path()).unwrap().contains(&"mounted.cedar".to_owned()));

    let outside = tempfile::NamedTempFile::new().unwrap();
    symlink(outside.path(), dir.path().join("outside.cedar")).unwrap();
    assert!(names(dir.path()).unwrap_err().to_string().contains("link to outside"));

    let dir = bundle();
    symlink(".", dir.path().join("loop")).unwrap();
    assert!(names(dir.path()).is_err());
}

#[tokio::test]
async fn a_change_is_told_once() {
    const SOON: Duration = Duration::from_secs(10);
    let dir = bundle();
    let mut watched = BundleDir::new(dir.path().to_owned());
    let first = watched.load().unwrap().version().to_owned();
    let (told, mut hear) = mpsc::unbounded_channel();
    let watching = tokio::spawn(watched.watch(Duration::from_millis(20), move |news| {
        told.send(news.map(|bundle| bundle.version().to_owned())).unwrap();
    }));

    write(dir.path(), "more.cedar", &POLICY.replace("\"a\"", "\"b\""));
    let second = tokio::time::timeout(SOON, hear.recv()).await.unwrap().unwrap().unwrap();
    assert_ne!(first, second);

    // Same bytes, newer file.
    write(dir.path(), "base.cedar", POLICY);
    write(dir.path(), "more.cedar", "bad");
    let refused = tokio::time::timeout(SOON, hear.recv()).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(refused, BundleDirError::Compile(_)), "{refused}");

    write(dir.path(), "mask.ceder", "");
    let refused = tokio::time::timeout(SOON, hear.recv()).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(refused, BundleDirError::File { .. }), "{refused}");
    assert!(tokio::time::timeout(Duration::from_millis(200), hear.recv()).await.is_err(), "told twice");

    fs::remove_file(dir.path().join("mask.ceder")).unwrap();
    fs::remove_file(dir.path().join("more.cedar")).unwrap();
    let last = tokio::time::timeout(SOON, hear.recv()).await.unwrap().unwrap();
    // Between the two removals the directory may be seen with `more.cedar` still there.
    let last = match last {
        Ok(version) => version,
        Err(_) => tokio::time::timeout(SOON, hear.recv()).await.unwrap().unwrap().unwrap(),
    };
    assert_eq!(last, first);
    watching.abort();
}

#[tokio::test]
async fn files_are_taken_when_nobody_writes_them_any_more() {
    let dir = bundle();
    let mut watched = BundleDir::new(dir.path().to_owned());
    watched.load().unwrap();
    let (told, mut hear) = mpsc::unbounded_channel();
    let watching = tokio::spawn(watched.watch(Duration::from_millis(250), move |news| {
        told.send(news.map(|bundle| bundle.policy_ids().count()).unwrap_or_default()).unwrap();
    }));
    // Each state is a bundle of its own, with fewer refusals than the last.
    let mut text = POLICY.to_owned();
    for number in 0..30 {
        text.push_str(&POLICY.replace("\"a\"", &format!("\"b{number}\"")).replace("permit", "forbid"));
        write(dir.path(), "base.cedar", &text);
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    assert_eq!(tokio::time::timeout(Duration::from_secs(10), hear.recv()).await.unwrap(), Some(31));
    watching.abort();
}

#[cfg(unix)]
#[tokio::test]
async fn a_file_replaced_by_one_of_its_length_and_time_is_noticed() {
    let dir = bundle();
    let mut watched = BundleDir::new(dir.path().to_owned());
    let first = watched.load().unwrap().version().to_owned();
    let (told, mut hear) = mpsc::unbounded_channel();
    let watching = tokio::spawn(watched.watch(Duration::from_millis(20), move |news| {
        told.send(news.map(|bundle| bundle.version().to_owned())).unwrap();
    }));
    let path = dir.path().join("base.cedar");
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    fs::write(&path, POLICY.replace("\"a\"", "\"z\"")).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();
    let second = tokio::time::timeout(Duration::from_secs(10), hear.recv()).await.unwrap().unwrap().unwrap();
    assert_ne!(first, second);
    watching.abort();
}
