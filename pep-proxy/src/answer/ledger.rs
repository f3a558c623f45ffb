//! Which session each query id belongs to, kept in a file so that a restart of the proxy forgets nobody's results.
//!
//! One JSON line per id. It is a memory, not a record: it is not synced, and what a crash takes from its end is unknown
//! afterwards, which refuses. It holds no statement, no value and no token.

use std::{
    fs::{File, OpenOptions},
    io::{BufRead as _, BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::mpsc,
};

use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::masking::Worn;

/// What is remembered of one id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry {
    /// The id the client knows.
    pub(super) id: String,
    pub(super) at_ms: i64,
    pub(super) session_id: String,
    pub(super) principal_id: String,
    pub(super) decision_id: String,
    pub(super) kinds: Vec<String>,
    /// Names of each result's columns, where they were promised.
    pub(super) shapes: Vec<Option<Vec<String>>>,
    /// What those results wear.
    #[serde(default, skip_serializing_if = "Worn::is_empty")]
    pub(super) worn: Worn,
    /// Snowflake's error texts are not shown.
    pub(super) withhold: bool,
    /// Snowflake's id, when it is another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) upstream_id: Option<String>,
    /// It waited for this approval when it was written; no later line says that it was sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) approval_id: Option<String>,
}

/// The end of the file that is written to.
#[derive(Debug, Clone)]
pub(super) struct Ledger(mpsc::SyncSender<Entry>);

/// Entries on their way to the file. When the disk is slower than that, ids are forgotten by the next start.
const WAITING_MAX: usize = 10_000;
/// How many times over the file may hold what is still known before it is written anew.
const GROWTH_MAX: u64 = 4;

impl Ledger {
    /// Reads what is still of use (`since_ms`, at most `entries_max`, later lines over earlier ones) and begins to write.
    pub(super) fn open(path: &Path, since_ms: i64, entries_max: u64) -> std::io::Result<(Self, Vec<Entry>)> {
        let entries = read(path, since_ms, entries_max)?;
        let mut file = rewrite(path, &entries)?;
        let (to, from) = mpsc::sync_channel::<Entry>(WAITING_MAX);
        let path = path.to_owned();
        let mut lines = entries.len() as u64;
        std::thread::Builder::new().name("query-ids".to_owned()).spawn(move || {
            while let Ok(entry) = from.recv() {
                let newest_ms = entry.at_ms;
                let written = std::iter::once(entry).chain(from.try_iter()).try_for_each(|entry| {
                    lines += 1;
                    line(&mut file, &entry)
                });
                if let Err(error) = written.and_then(|()| file.flush()) {
                    warn!(%error, "query ids not kept: a restart will not know them");
                }
                if lines > entries_max.saturating_mul(GROWTH_MAX) {
                    let since_ms = newest_ms.saturating_sub(super::REMEMBERED_MS);
                    match read(&path, since_ms, entries_max).and_then(|kept| Ok((kept.len(), rewrite(&path, &kept)?))) {
                        Ok((kept, fresh)) => (lines, file) = (kept as u64, fresh),
                        Err(error) => {
                            warn!(%error, "file of query ids not shortened");
                            lines = 0;
                        }
                    }
                }
            }
        })?;
        Ok((Self(to), entries))
    }

    pub(super) fn keep(&self, entry: Entry) {
        // Full or gone: the id is known while this process lives.
        let _ = self.0.try_send(entry);
    }
}

fn line(file: &mut BufWriter<File>, entry: &Entry) -> std::io::Result<()> {
    serde_json::to_writer(&mut *file, entry)?;
    file.write_all(b"\n")
}

/// The last entry of each id, oldest first. A line that cannot be read, as a crash leaves it, is passed over.
fn read(path: &Path, since_ms: i64, entries_max: u64) -> std::io::Result<Vec<Entry>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut entries: Vec<Entry> = Vec::new();
    for line in BufReader::new(file).lines() {
        let Ok(entry) = serde_json::from_str::<Entry>(&line?) else { continue };
        if entry.at_ms >= since_ms {
            entries.push(entry);
        }
    }
    let mut last = std::collections::HashMap::new();
    for (at, entry) in entries.iter().enumerate() {
        last.insert(entry.id.clone(), at);
    }
    let mut at = 0;
    entries.retain(|entry| {
        at += 1;
        last.get(&entry.id) == Some(&(at - 1))
    });
    let over = entries.len().saturating_sub(usize::try_from(entries_max).unwrap_or(usize::MAX));
    Ok(entries.split_off(over))
}

fn rewrite(path: &Path, entries: &[Entry]) -> std::io::Result<BufWriter<File>> {
    let beside: PathBuf = {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        name.into()
    };
    let mut options = OpenOptions::new();
    options.create(true).write(true).truncate(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt as _;
        options.mode(0o600);
    }
    let mut file = BufWriter::new(options.open(&beside)?);
    entries.iter().try_for_each(|entry| line(&mut file, entry))?;
    file.flush()?;
    std::fs::rename(&beside, path)?;
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, at_ms: i64) -> Entry {
        Entry {
            id: id.to_owned(),
            at_ms,
            session_id: "S-1".to_owned(),
            principal_id: "corp/ana".to_owned(),
            decision_id: "d".to_owned(),
            kinds: vec!["select".to_owned()],
            shapes: vec![Some(vec!["ID".to_owned(), String::new()]), None],
            worn: Worn::default(),
            withhold: true,
            upstream_id: None,
            approval_id: None,
        }
    }

    #[test]
    fn what_is_written_is_there_after_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("queries");
        let (ledger, there) = Ledger::open(&path, 0, 100).unwrap();
        assert!(there.is_empty());
        for at in 0..20 {
            ledger.keep(entry(&format!("q{}", at % 10), at));
        }
        drop(ledger);
        let whole = || read(&path, 0, 100).unwrap();
        for _ in 0..500 {
            if whole().last().is_some_and(|last| last.at_ms == 19) {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        // The last line of each id, and no more than asked for.
        assert_eq!(whole().iter().map(|it| it.at_ms).collect::<Vec<_>>(), (10..20).collect::<Vec<_>>());
        assert_eq!(read(&path, 15, 3).unwrap().iter().map(|it| it.at_ms).collect::<Vec<_>>(), [17, 18, 19]);
        // What a crash leaves behind is passed over.
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{\"id\":\"q11\",\"at_");
        std::fs::write(&path, text).unwrap();
        assert_eq!(Ledger::open(&path, 0, 100).unwrap().1.len(), 10);
    }
}
