mod read;

use std::{io, path::PathBuf, time::Duration};

use icegate_pdp_policy::{Bundle, BundleError, BundleSource};
use thiserror::Error;

pub use read::{CATALOG_FILE_BYTES_MAX, FILE_BYTES_MAX, FILES_MAX, TOTAL_BYTES_MAX};
use read::{Fingerprint, Stamp};

/// A directory that holds a policy bundle: `*.cedar`, `schema.cedarschema`, `settings.yaml`, `catalog.yaml` and
/// `catalog/*.yaml`.
///
/// `cases/` at its top, `README.md` and names that begin with a dot are not part of the bundle; any other file is a
/// problem, so that a policy with a mistyped name is not silently left out.
#[derive(Debug, Clone)]
pub struct BundleDir {
    path: PathBuf,
    seen: Option<Fingerprint>,
    told: Option<String>,
    /// Files as the last look found them, when they were not the ones that are known.
    settling: Option<Vec<Stamp>>,
}

/// Why a directory gives no bundle.
#[derive(Debug, Error)]
pub enum BundleDirError {
    /// A file or directory cannot be read.
    #[error("`{path}` cannot be read")]
    Read {
        /// Which one.
        path: String,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// Something in it is not part of any bundle, or over a limit.
    #[error("`{path}`: {problem}")]
    File {
        /// Path inside the bundle.
        path: String,
        /// What is wrong with it, and what to do.
        problem: String,
    },
    /// Files changed while they were read; the next look will see them whole.
    #[error("the bundle changed while it was read")]
    Changing,
    /// The files are there, and do not make a bundle.
    #[error("the bundle does not compile")]
    Compile(#[source] Box<BundleError>),
}

impl BundleDir {
    /// A bundle in this directory. Nothing is read yet.
    pub fn new(path: PathBuf) -> Self {
        Self { path, seen: None, told: None, settling: None }
    }

    /// Reads the files, without compiling them.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, is over a limit, or is not part of any bundle.
    pub fn read(&self) -> Result<BundleSource, BundleDirError> {
        read::read(&self.path).map(|(source, _)| source)
    }

    /// Reads and compiles. What was read here is what [`BundleDir::watch`] takes for known.
    ///
    /// # Errors
    ///
    /// As [`BundleDir::read`] does, and when the files do not make a bundle.
    pub fn load(&mut self) -> Result<Bundle, BundleDirError> {
        let (source, fingerprint) = read::read(&self.path)?;
        self.seen = Some(fingerprint);
        Bundle::compile(&source).map_err(|error| BundleDirError::Compile(Box::new(error)))
    }

    /// Looks every `every` for changes, for as long as it is polled, and calls back with each new bundle and each new
    /// problem, once. Files are taken when two looks have found them the same, so that what is still being written or
    /// copied is not taken for a bundle. Whoever is called keeps the last good bundle.
    pub async fn watch<F>(mut self, every: Duration, mut changed: F)
    where
        F: FnMut(Result<Bundle, BundleDirError>) + Send,
    {
        loop {
            tokio::time::sleep(every).await;
            let looked = tokio::task::spawn_blocking(move || {
                let news = self.look();
                (self, news)
            });
            let Ok((dir, news)) = looked.await else { return };
            self = dir;
            if let Some(news) = news {
                changed(news);
            }
        }
    }

    /// What is new since the last look.
    fn look(&mut self) -> Option<Result<Bundle, BundleDirError>> {
        let before = self.settling.take();
        match read::stamps(&self.path) {
            Ok(stamps) if self.told.is_none() && self.knows(|seen| seen.stamps == stamps) => return None,
            Ok(stamps) if before.as_ref() == Some(&stamps) => {}
            Ok(stamps) => {
                self.settling = Some(stamps);
                return None;
            }
            Err(error) => return self.tell(error),
        }
        match read::read(&self.path) {
            Ok((source, fresh)) => {
                // Touched, and the same text: no news, unless a problem was told that is over now.
                let same = self.knows(|seen| seen.content == fresh.content);
                let over = self.told.take().is_some();
                self.seen = Some(fresh);
                let compile = || Bundle::compile(&source).map_err(|error| BundleDirError::Compile(Box::new(error)));
                (over || !same).then(compile)
            }
            Err(BundleDirError::Changing) => None,
            Err(error) => self.tell(error),
        }
    }

    fn knows(&self, same: impl FnOnce(&Fingerprint) -> bool) -> bool {
        self.seen.as_ref().is_some_and(same)
    }

    /// A problem that stays is told once.
    fn tell(&mut self, error: BundleDirError) -> Option<Result<Bundle, BundleDirError>> {
        let text = error.to_string();
        if self.told.as_ref() == Some(&text) {
            return None;
        }
        self.told = Some(text);
        Some(Err(error))
    }
}
