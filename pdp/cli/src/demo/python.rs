//! Python environments with exactly pinned packages, made once and shared by the demo and the end-to-end tests.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What goes into one environment.
#[derive(Debug, Clone, Copy)]
pub struct Environment {
    /// Short name, part of the directory's name.
    pub name: &'static str,
    /// What a person is told is being prepared.
    pub title: &'static str,
    /// `pip`'s requirements file, every package with its exact version.
    pub requirements: &'static str,
}

/// fakesnow and the 4.x line of Snowflake's Python driver, which it needs.
pub const WAREHOUSE: Environment = Environment {
    name: "warehouse",
    title: "fakesnow 0.12.1 and snowflake-connector-python 4.8.1",
    requirements: include_str!("warehouse.requirements.txt"),
};

/// The 5.x line of Snowflake's Python driver.
pub const DRIVER5: Environment = Environment {
    name: "driver5",
    title: "snowflake-connector-python 5.2.0",
    requirements: include_str!("driver5.requirements.txt"),
};

/// Why an environment could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PythonError {
    /// No usable interpreter.
    #[error("cannot run `{program}`: install Python 3.10 or newer, or name one in the variable ICEGATE_PYTHON")]
    NoPython {
        /// What was tried.
        program: String,
        /// Why it did not run.
        #[source]
        source: io::Error,
    },
    /// `venv` is not part of this Python.
    #[error("`{program} -m venv` failed: {output}; on Debian and Ubuntu, install the package `python3-venv`")]
    NoVenv {
        /// The interpreter.
        program: String,
        /// What it said.
        output: String,
    },
    /// `pip` could not fetch or install.
    #[error("cannot install {title}: {output}; a package index has to be reachable the first time")]
    Install {
        /// What was being installed.
        title: &'static str,
        /// The end of what `pip` said.
        output: String,
    },
    /// The directory cannot be used.
    #[error("cannot use `{path}`")]
    Directory {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Makes the environment under `target` if it is not there yet, and answers with its interpreter.
///
/// Several processes may ask at once: one installs, the others wait. `progress` is called with a sentence when something is
/// about to take long.
///
/// # Errors
///
/// When Python, `venv`, `pip` or the package index is missing; the message says what to do.
pub fn prepare(
    environment: &Environment,
    target: &Path,
    mut progress: impl FnMut(&str),
) -> Result<PathBuf, PythonError> {
    let mut hasher = DefaultHasher::new();
    environment.requirements.hash(&mut hasher);
    let root = target.join("icegate-venv");
    let home = root.join(format!("{}-{:016x}", environment.name, hasher.finish()));
    let python = home.join("bin").join("python");
    let complete = home.join("icegate-complete");
    if complete.exists() {
        return Ok(python);
    }
    let directory = |path: &Path| {
        let path = path.to_owned();
        move |source| PythonError::Directory { path, source }
    };
    fs::create_dir_all(&root).map_err(directory(&root))?;
    let lock_path = root.join(format!("{}.lock", environment.name));
    let lock = File::create(&lock_path).map_err(directory(&lock_path))?;
    lock.lock().map_err(directory(&lock_path))?;
    if complete.exists() {
        return Ok(python);
    }
    progress(&format!("installing {} (once, a minute or less)", environment.title));
    // Whatever an interrupted installation left behind.
    if home.exists() {
        fs::remove_dir_all(&home).map_err(directory(&home))?;
    }
    install(environment, &home, &python)?;
    fs::write(&complete, environment.requirements).map_err(directory(&complete))?;
    Ok(python)
}

fn install(environment: &Environment, home: &Path, python: &Path) -> Result<(), PythonError> {
    let program = std::env::var("ICEGATE_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let made = Command::new(&program)
        .args(["-m", "venv"])
        .arg(home)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| PythonError::NoPython { program: program.clone(), source })?;
    if !made.status.success() {
        return Err(PythonError::NoVenv { program, output: last_lines(&made.stdout, &made.stderr) });
    }
    let requirements = home.join("requirements.txt");
    fs::write(&requirements, environment.requirements)
        .map_err(|source| PythonError::Directory { path: requirements.clone(), source })?;
    let installed = Command::new(python)
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps", "-r"])
        .arg(&requirements)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| PythonError::NoPython { program: python.display().to_string(), source })?;
    if !installed.status.success() {
        return Err(PythonError::Install {
            title: environment.title,
            output: last_lines(&installed.stdout, &installed.stderr),
        });
    }
    Ok(())
}

/// The end of what a program said, on one line.
fn last_lines(stdout: &[u8], stderr: &[u8]) -> String {
    const LINES_SHOWN: usize = 4;
    let said = format!("{}\n{}", String::from_utf8_lossy(stdout), String::from_utf8_lossy(stderr));
    let lines: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.iter().skip(lines.len().saturating_sub(LINES_SHOWN)).copied().collect::<Vec<_>>().join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_package_is_pinned() {
        for environment in [WAREHOUSE, DRIVER5] {
            for line in environment.requirements.lines().filter(|line| !line.starts_with('#')) {
                assert!(line.contains("=="), "`{line}` in {}", environment.name);
            }
        }
    }

    #[test]
    fn the_end_of_an_output_is_one_line() {
        assert_eq!(last_lines(b"a\nb\n\n", b"c\nd\ne"), "b / c / d / e");
    }
}
