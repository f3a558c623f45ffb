//! Programs for Node with exactly pinned packages, installed once under `target/`.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use icegate_cli::demo::places::target_dir;

use crate::stack::workspace;

/// Installs what the folder's `package-lock.json` names and answers with a copy of the folder that has it: modules are found
/// beside the programs that import them. Each state of the folder is installed once; whoever else asks meanwhile waits.
///
/// # Errors
///
/// When npm is missing or the registry cannot be reached; the message says what to do.
pub fn npm_install(folder: &Path) -> anyhow::Result<PathBuf> {
    let name = folder.file_name().and_then(|name| name.to_str()).context("a folder without a name")?;
    let mut files: Vec<PathBuf> =
        fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.sort();
    let mut hasher = DefaultHasher::new();
    for file in &files {
        (file.file_name(), fs::read(file)?).hash(&mut hasher);
    }
    let root = target_dir(&workspace())?.join("icegate-node");
    fs::create_dir_all(&root)?;
    let home = root.join(format!("{name}-{:016x}", hasher.finish()));
    let complete = home.join("icegate-complete");
    let lock = File::create(root.join(format!("{name}.lock")))?;
    lock.lock()?;
    if complete.exists() {
        return Ok(home);
    }
    // Whatever an interrupted installation left behind.
    if home.exists() {
        fs::remove_dir_all(&home)?;
    }
    fs::create_dir_all(&home)?;
    for file in &files {
        fs::copy(file, home.join(file.file_name().context("a file without a name")?))?;
    }
    let installed = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(&home)
        .stdin(Stdio::null())
        .output()
        .context(
            "cannot run `npm`: install Node.js 20 or newer with npm (Debian, Ubuntu: `apt-get install nodejs npm`)",
        )?;
    ensure!(
        installed.status.success(),
        "cannot install `{}`: {}; npm's registry has to be reachable the first time",
        folder.display(),
        String::from_utf8_lossy(&installed.stderr).trim()
    );
    fs::write(&complete, "")?;
    Ok(home)
}

/// A Chromium on this machine; `ICEGATE_CHROMIUM` names another one.
///
/// # Errors
///
/// When there is none; the message says what to do.
pub fn chromium() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os("ICEGATE_CHROMIUM") {
        return Ok(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .flat_map(|folder| ["chromium", "chromium-browser", "google-chrome"].map(|name| folder.join(name)))
        .find(|program| program.is_file())
        .context("no Chromium found: install it (Debian: `apt-get install chromium`), or name one in ICEGATE_CHROMIUM")
}
