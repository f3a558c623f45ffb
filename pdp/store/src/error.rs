use std::{io, sync::Arc};

use icegate_pdp_audit::ChainBreak;
use thiserror::Error;

/// Why the store did not do it. Nothing was acknowledged, and for [`StoreError::Conflict`], [`StoreError::TooLarge`] and
/// [`StoreError::Invalid`] nothing was written.
#[derive(Debug, Clone, Error)]
pub enum StoreError {
    /// The file could not be made.
    #[error("the store's file cannot be created")]
    Create(#[source] Arc<io::Error>),
    /// Another process, or another store of this one, has the file.
    #[error("another process uses the store's file; a file has one pdp, so stop that one or name another file")]
    InUse,
    /// The file could not be opened as a store of this version.
    #[error("the store's file cannot be opened")]
    Open(#[source] Arc<sqlx::Error>),
    /// The file is from another version of icegate, or its schema was altered.
    #[error("the store's schema does not fit this version of icegate")]
    Migrate(#[source] Arc<sqlx::migrate::MigrateError>),
    /// The trail's end does not hold together.
    #[error("the audit trail was altered")]
    Chain(#[source] Arc<ChainBreak>),
    /// The trail's end is not what this store wrote last.
    #[error("the audit trail ends at record {found} where this process wrote record {expected} last")]
    Altered {
        /// What was written last.
        expected: u64,
        /// What is there.
        found: u64,
    },
    /// Somebody else was first.
    #[error("the {0} was changed by somebody else meanwhile")]
    Conflict(&'static str),
    /// A record is over the limit.
    #[error("a record has {bytes} bytes; at most {} are kept", crate::RECORD_BYTES_MAX)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The change, or the filter of a search, makes no sense.
    #[error("{0}")]
    Invalid(String),
    /// It could not be made durable: disk full, input or output error, locked by another process.
    #[error("the store cannot write")]
    Write(#[source] Arc<sqlx::Error>),
    /// It could not be read.
    #[error("the store cannot be read")]
    Read(#[source] Arc<sqlx::Error>),
    /// A row does not read as what it should be.
    #[error("the {what} `{id}` in the store does not read")]
    Row {
        /// Kind of row.
        what: &'static str,
        /// Which.
        id: String,
    },
    /// The store was closed.
    #[error("the store is closed")]
    Closed,
}

impl StoreError {
    pub(crate) fn open(error: sqlx::Error) -> Self {
        Self::Open(Arc::new(error))
    }

    pub(crate) fn write(error: sqlx::Error) -> Self {
        Self::Write(Arc::new(error))
    }

    pub(crate) fn read(error: sqlx::Error) -> Self {
        Self::Read(Arc::new(error))
    }
}
