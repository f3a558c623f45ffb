//! Where things are: the workspace, its target directory, the demo's own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// Stands in every directory a demo has made, and says that it may be emptied.
const MARKER: &str = ".icegate-demo";

/// The directories of one demo.
#[derive(Debug, Clone)]
pub(super) struct Places {
    /// Cargo's target directory.
    pub(super) target: PathBuf,
    /// Everything the demo writes.
    pub(super) dir: PathBuf,
    /// The demo's own copy of the policies, to be edited.
    pub(super) policies: PathBuf,
    workspace: PathBuf,
    /// A second place where `demo.json` is looked for, when the target directory is not the workspace's.
    also: Option<PathBuf>,
}

impl Places {
    /// Finds them, and changes nothing.
    pub(super) fn find(dir: Option<PathBuf>) -> anyhow::Result<Self> {
        let workspace = workspace()?;
        let target = target_dir(&workspace)?;
        let usual = target.join("demo");
        let own = workspace.join("target").join("demo");
        let also = (dir.is_none() && own != usual).then_some(own);
        let dir = match dir {
            Some(dir) => std::path::absolute(dir)?,
            None => usual,
        };
        let policies = dir.join("policies");
        Ok(Self { target, dir, policies, workspace, also })
    }

    /// Empties the demo's directory and puts a copy of the policies in. The demo is alone in it while the answer is kept.
    pub(super) fn prepare(&self) -> anyhow::Result<File> {
        let shown = self.dir.display();
        if let Some(parent) = self.dir.parent() {
            fs::create_dir_all(parent).with_context(|| format!("cannot make `{}`", parent.display()))?;
        }
        let lock_path = self.dir.with_extension("lock");
        let lock = File::create(&lock_path).with_context(|| format!("cannot write `{}`", lock_path.display()))?;
        lock.try_lock().with_context(|| {
            format!("another demo is using `{shown}`: stop it first, or name another directory with `--dir`")
        })?;
        let marker = self.dir.join(MARKER);
        if marker.exists() {
            fs::remove_dir_all(&self.dir).with_context(|| format!("cannot empty `{shown}`"))?;
        }
        fs::create_dir_all(&self.dir).with_context(|| format!("cannot make `{shown}`"))?;
        anyhow::ensure!(
            fs::read_dir(&self.dir)?.next().is_none(),
            "`{shown}` is not empty and no demo made it: name another directory with `--dir`"
        );
        fs::write(&marker, "Made by `icegate demo`, which empties this directory when it starts.\n")?;
        let from = self.workspace.join("policies");
        copy_tree(&from, &self.policies).with_context(|| format!("cannot copy `{}`", from.display()))?;
        Ok(lock)
    }

    /// Where `demo.json` is written.
    pub(super) fn facts(&self) -> Vec<PathBuf> {
        let mut paths = vec![self.dir.join("demo.json")];
        if let Some(also) = &self.also
            && fs::create_dir_all(also).is_ok()
        {
            paths.push(also.join("demo.json"));
        }
        paths
    }

    /// A path as short as it can be written from the current directory.
    pub(super) fn short(&self, path: &Path) -> String {
        let here = std::env::current_dir().unwrap_or_else(|_| self.workspace.clone());
        path.strip_prefix(&here).unwrap_or(path).display().to_string()
    }
}

/// The checkout: the one we are in, else the one this program was built from.
fn workspace() -> anyhow::Result<PathBuf> {
    let built_from = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).map(Path::to_owned);
    let here = std::env::current_dir().ok();
    here.iter()
        .flat_map(|here| here.ancestors())
        .map(Path::to_owned)
        .chain(built_from)
        .find(|dir| dir.join("policies").join("catalog.yaml").is_file())
        .context("cannot find the directory `policies`: run the demo inside a checkout of icegate")
}

/// Cargo's target directory: the one this program stands in, else what cargo would take.
///
/// # Errors
///
/// When the running program's file cannot be found.
pub fn target_dir(workspace: &Path) -> anyhow::Result<PathBuf> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    // `CACHEDIR.TAG` is in every target directory that cargo has made.
    if let Some(dir) = program.ancestors().skip(1).find(|dir| dir.join("CACHEDIR.TAG").is_file()) {
        return Ok(dir.to_owned());
    }
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(dir) => Ok(std::path::absolute(workspace.join(dir))?),
        None => Ok(workspace.join("target")),
    }
}

fn copy_tree(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
