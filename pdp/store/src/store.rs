use std::{
    fmt,
    fs::{File, TryLockError},
    io::ErrorKind,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use icegate_pdp_audit::{Hash, Verifier};
use sqlx::{
    SqlitePool,
    migrate::Migrator,
    sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};
use tokio::sync::{mpsc, oneshot};

use crate::{
    Appended, Change, StoreError,
    read::{RecordColumns, RecordRow},
    writer::{Head, Message, Writer},
};

pub(crate) static MIGRATIONS: Migrator = sqlx::migrate!();

/// How long to wait for another process that has the file locked.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// Read, write and nothing for anybody else: the trail holds statements.
#[cfg(unix)]
const FILE_MODE: u32 = 0o600;

/// Everything remembered, in one file. Clones share it.
#[derive(Clone)]
pub struct Store {
    queue: mpsc::Sender<Message>,
    pub(crate) readers: SqlitePool,
    counters: Arc<Counters>,
}

/// Sizes of a store's queues.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Changes that may wait to be written; a further one waits for its place.
    pub queue_changes_max: usize,
    /// Changes written with one sync.
    pub batch_changes_max: usize,
    /// Connections for reading.
    pub readers_max: u32,
    /// Pages of 4 KiB the file may have; `None` is until the disk is full.
    pub file_pages_max: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self { queue_changes_max: 1024, batch_changes_max: 256, readers_max: 4, file_pages_max: None }
    }
}

/// How busy the store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stats {
    /// Changes that wait to be written.
    pub queue_changes: usize,
    /// Changes that may wait.
    pub queue_changes_max: usize,
    /// Records in the trail.
    pub records: u64,
    /// Transactions since the store was opened.
    pub commits: u64,
    /// How long the last transaction took, its sync included.
    pub last_commit: Duration,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// What this process wrote last.
    head: Mutex<Head>,
    pub(crate) commits: AtomicU64,
    pub(crate) last_commit_micros: AtomicU64,
}

impl Counters {
    pub(crate) fn wrote(&self, head: Head) {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner) = head;
    }

    fn head(&self) -> Head {
        *self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Opens the store in this file, made with mode 0600 if there is none, and checks the end of its trail.
    ///
    /// `on_commit` is told of each transaction how long it took and how many changes it held. Needs a tokio runtime.
    ///
    /// # Errors
    ///
    /// The file cannot be made, opened or brought to this version, or the end of its trail was altered.
    pub async fn open(
        path: &Path,
        on_commit: impl Fn(Duration, usize) + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        Self::open_with(path, Options::default(), on_commit).await
    }

    /// Opens the store with other sizes than the default.
    ///
    /// # Errors
    ///
    /// As for [`Store::open`].
    pub async fn open_with(
        path: &Path,
        options: Options,
        on_commit: impl Fn(Duration, usize) + Send + Sync + 'static,
    ) -> Result<Self, StoreError> {
        let lock = lock(path).await?;
        create(path).await?;
        let reading = SqliteConnectOptions::new().filename(path).busy_timeout(BUSY_TIMEOUT);
        let mut writing = reading
            .clone()
            .create_if_missing(false)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true);
        if let Some(pages) = options.file_pages_max {
            writing = writing.pragma("max_page_count", pages.to_string());
        }

        let mut connection = connect(&writing).await.map_err(StoreError::open)?;
        MIGRATIONS.run(&mut connection).await.map_err(|error| StoreError::Migrate(Arc::new(error)))?;
        let head = checked_head(&mut connection).await?;

        let readers = SqlitePoolOptions::new()
            .max_connections(options.readers_max.max(1))
            .connect_with(reading.read_only(true).pragma("query_only", "ON"))
            .await
            .map_err(StoreError::open)?;
        let counters = Arc::new(Counters::default());
        counters.wrote(head);
        let (queue, messages) = mpsc::channel(options.queue_changes_max.max(1));
        let writer = Writer::new(
            writing,
            connection,
            head,
            options.batch_changes_max.max(1),
            Box::new(on_commit),
            Arc::clone(&counters),
            lock,
        );
        tokio::spawn(writer.run(messages));
        Ok(Self { queue, readers, counters })
    }

    /// Makes a change durable. When this is `Ok`, it survives a loss of power; when it is an error, nothing was
    /// acknowledged. A caller that stops waiting does not undo it.
    ///
    /// Gives one [`Appended`] for each event, in order. An outcome, or a journaled decision, that is on record already is
    /// not written again: its first place is given.
    ///
    /// # Errors
    ///
    /// It was not made durable, for the reason given.
    pub async fn commit(&self, change: Change) -> Result<Vec<Appended>, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.queue.send(Message::Commit(change, reply)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// How busy it is.
    pub fn stats(&self) -> Stats {
        let max = self.queue.max_capacity();
        Stats {
            queue_changes: max.saturating_sub(self.queue.capacity()),
            queue_changes_max: max,
            records: self.head().0,
            commits: self.counters.commits.load(Ordering::Relaxed),
            last_commit: Duration::from_micros(self.counters.last_commit_micros.load(Ordering::Relaxed)),
        }
    }

    /// The last record this process wrote or found at its start, and its hash: what to keep elsewhere.
    pub fn head(&self) -> (u64, Hash) {
        self.counters.head()
    }

    /// Ends reading, writes what waits, then closes the file. For all clones.
    pub async fn close(&self) {
        // The writer goes last: only a connection that can write folds the log back into the file.
        self.readers.close().await;
        let (reply, done) = oneshot::channel();
        if self.queue.send(Message::Close(reply)).await.is_ok() {
            // A writer that is gone already has nothing left to close.
            let _ = done.await;
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

pub(crate) async fn connect(options: &SqliteConnectOptions) -> Result<SqliteConnection, sqlx::Error> {
    use sqlx::ConnectOptions as _;
    options.connect().await
}

/// Takes the file beside the store's that says whose it is. The system gives it back when this process ends, however.
///
/// A second writer would not harm the trail: each notices the other's records. But neither could go on.
async fn lock(path: &Path) -> Result<File, StoreError> {
    let mut name = path.as_os_str().to_owned();
    name.push("-lock");
    let mut open = tokio::fs::OpenOptions::new();
    open.write(true).create(true).truncate(false);
    #[cfg(unix)]
    open.mode(FILE_MODE);
    let create = |error| StoreError::Create(Arc::new(error));
    let file = open.open(Path::new(&name)).await.map_err(create)?.into_std().await;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse),
        Err(TryLockError::Error(error)) => Err(create(error)),
    }
}

/// Makes an empty file that only its owner can read, unless there is one.
async fn create(path: &Path) -> Result<(), StoreError> {
    let mut open = tokio::fs::OpenOptions::new();
    open.write(true).create_new(true);
    #[cfg(unix)]
    open.mode(FILE_MODE);
    match open.open(path).await {
        Ok(file) => {
            file.sync_all().await.map_err(|error| StoreError::Create(Arc::new(error)))?;
            // The file's name has to survive a loss of power too.
            if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                let synced = async { tokio::fs::File::open(folder).await?.sync_all().await };
                synced.await.map_err(|error| StoreError::Create(Arc::new(error)))?;
            }
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            warn_if_open_to_others(path).await;
            Ok(())
        }
        Err(error) => Err(StoreError::Create(Arc::new(error))),
    }
}

#[cfg(unix)]
async fn warn_if_open_to_others(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    if let Ok(found) = tokio::fs::metadata(path).await
        && found.permissions().mode() & 0o077 != 0
    {
        tracing::warn!(path = %path.display(), "store file can be opened by others than its owner");
    }
}

#[cfg(not(unix))]
async fn warn_if_open_to_others(_path: &Path) {}

/// The end of the trail, after checking that the last record fits its hash and the record before it.
async fn checked_head(connection: &mut SqliteConnection) -> Result<(u64, [u8; 32]), StoreError> {
    let rows: Vec<RecordColumns> =
        sqlx::query_as("SELECT seq, body, prev_hash, hash FROM records ORDER BY seq DESC LIMIT 2")
            .fetch_all(connection)
            .await
            .map_err(StoreError::open)?;
    let mut rows = rows.into_iter().map(RecordRow::from_columns);
    let Some(last) = rows.next().transpose()? else { return Ok(Verifier::new().head()) };
    let mut verifier = match rows.next().transpose()? {
        Some(before) => Verifier::after(before.seq, before.hash),
        None => Verifier::new(),
    };
    verifier
        .push(last.seq, &last.body, &last.prev_hash, &last.hash)
        .map_err(|error| StoreError::Chain(Arc::new(error)))?;
    Ok(verifier.head())
}
