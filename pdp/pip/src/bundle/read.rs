use std::{
    fs, io,
    path::{Path, PathBuf},
    time::SystemTime,
};

use icegate_pdp_policy::{BundleSource, SourceFile};
use sha2::{Digest as _, Sha256};

use super::BundleDirError;

/// Most files a bundle may have.
pub const FILES_MAX: usize = 1_000;
/// Longest file of a bundle, in bytes.
pub const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// Longest part of a catalog, which grows with the warehouse, in bytes.
pub const CATALOG_FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;
/// Longest all files of a bundle together may be, in bytes.
pub const TOTAL_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// Deepest nesting of directories. Also what ends a symbolic link that leads back into itself.
const DEPTH_MAX: usize = 16;

/// What tells one state of the directory from another: cheaply by `stamps`, for certain by `content`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fingerprint {
    pub(super) stamps: Vec<Stamp>,
    pub(super) content: [u8; 32],
}

/// One file as its directory entry shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp {
    name: String,
    path: PathBuf,
    modified: Option<SystemTime>,
    /// Inode, and when it last changed: a copy may keep length and time of the file it replaces.
    changed: (u64, i64, i64),
    bytes: u64,
}

#[cfg(unix)]
fn changed(metadata: &fs::Metadata) -> (u64, i64, i64) {
    use std::os::unix::fs::MetadataExt as _;
    (metadata.ino(), metadata.ctime(), metadata.ctime_nsec())
}

#[cfg(not(unix))]
fn changed(_metadata: &fs::Metadata) -> (u64, i64, i64) {
    (0, 0, 0)
}

/// Every file, sorted by name, without reading any.
pub(super) fn stamps(root: &Path) -> Result<Vec<Stamp>, BundleDirError> {
    let canonical = fs::canonicalize(root).map_err(|source| unreadable(root, source))?;
    let mut found = Vec::new();
    walk(&canonical, root, "", 0, &mut found)?;
    found.sort_by(|a, b| a.name.cmp(&b.name));
    let total: u64 = found.iter().map(|stamp| stamp.bytes).sum();
    if total > TOTAL_BYTES_MAX {
        return Err(problem(".", format!("all files together have {total} bytes; at most {TOTAL_BYTES_MAX} are read")));
    }
    Ok(found)
}

/// Every file with its text.
pub(super) fn read(root: &Path) -> Result<(BundleSource, Fingerprint), BundleDirError> {
    let before = stamps(root)?;
    let mut files = Vec::with_capacity(before.len());
    let mut content = Sha256::new();
    for stamp in &before {
        let text = fs::read_to_string(&stamp.path).map_err(|source| match source.kind() {
            io::ErrorKind::InvalidData => problem(&stamp.name, "it is not UTF-8 text".into()),
            io::ErrorKind::NotFound => BundleDirError::Changing,
            _ => unreadable(&stamp.path, source),
        })?;
        for part in [stamp.name.as_bytes(), text.as_bytes()] {
            content.update((part.len() as u64).to_be_bytes());
            content.update(part);
        }
        files.push(SourceFile { path: stamp.name.clone(), text });
    }
    // Half of one state and half of the next would be a bundle nobody wrote.
    if stamps(root)? != before {
        return Err(BundleDirError::Changing);
    }
    Ok((BundleSource { files }, Fingerprint { stamps: before, content: content.finalize().into() }))
}

fn walk(
    root: &Path,
    directory: &Path,
    prefix: &str,
    depth: usize,
    found: &mut Vec<Stamp>,
) -> Result<(), BundleDirError> {
    if depth > DEPTH_MAX {
        return Err(problem(prefix, format!("directories are nested deeper than {DEPTH_MAX}")));
    }
    for entry in fs::read_dir(directory).map_err(|source| unreadable(directory, source))? {
        let entry = entry.map_err(|source| unreadable(directory, source))?;
        let Ok(name) = entry.file_name().into_string() else {
            return Err(problem(prefix, "a file name is not UTF-8".into()));
        };
        let full = if prefix.is_empty() { name.clone() } else { format!("{prefix}/{name}") };
        if name.starts_with('.') || name == "README.md" || full == "cases" {
            continue;
        }
        let path = entry.path();
        let target = fs::canonicalize(&path).map_err(|source| unreadable(&path, source))?;
        if !target.starts_with(root) {
            return Err(problem(&full, "it is a link to outside the bundle; copy the file into the bundle".into()));
        }
        let metadata = fs::metadata(&path).map_err(|source| unreadable(&path, source))?;
        if metadata.is_dir() {
            walk(root, &path, &full, depth + 1, found)?;
            continue;
        }
        check_file(&full, metadata.len())?;
        if found.len() == FILES_MAX {
            return Err(problem(prefix, format!("the bundle has more than {FILES_MAX} files")));
        }
        let (modified, changed) = (metadata.modified().ok(), changed(&metadata));
        found.push(Stamp { name: full, path, modified, changed, bytes: metadata.len() });
    }
    Ok(())
}

fn check_file(name: &str, bytes: u64) -> Result<(), BundleDirError> {
    if !BundleSource::takes(name) {
        let what = "a bundle is `*.cedar` files, at its top `schema.cedarschema`, `settings.yaml` and `catalog.yaml` (or \
                    `.json`), and `catalog/*.yaml` (or `.json`); rename this file, move it away, or begin its name with a dot";
        return Err(problem(name, what.into()));
    }
    let bytes_max = if BundleSource::is_catalog(name) { CATALOG_FILE_BYTES_MAX } else { FILE_BYTES_MAX };
    if bytes > bytes_max {
        return Err(problem(name, format!("it has {bytes} bytes; at most {bytes_max} are read")));
    }
    Ok(())
}

fn unreadable(path: &Path, source: io::Error) -> BundleDirError {
    BundleDirError::Read { path: path.display().to_string(), source }
}

fn problem(path: &str, problem: String) -> BundleDirError {
    BundleDirError::File { path: if path.is_empty() { "." } else { path }.to_owned(), problem }
}
