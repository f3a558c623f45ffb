//! Records that could not be delivered yet, in one file, synced before `append` returns.
//!
//! Layout: entries one after another, each `length: u32 LE`, `first 4 bytes of SHA-256(body)`, `body: protobuf`. A torn
//! end (the process died while writing) is cut off at opening: nothing was ever done on the strength of it. Damage with
//! sound entries after it is something else, and an error.

use std::{
    collections::VecDeque,
    fmt,
    fs::{File, OpenOptions},
    io::{Read as _, Seek as _, SeekFrom, Write as _},
    path::Path,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

use icegate_proto::v1::JournalEntry;
use prost::Message as _;
use sha2::{Digest as _, Sha256};
use tracing::warn;

/// Bytes before each entry's body.
const HEAD: usize = 8;
/// Bytes of one entry, and of the entries delivered in one call: half of what the PDP takes at once.
const DELIVERY_BYTES_MAX: usize = 8 * 1024 * 1024;

pub(crate) struct Journal {
    inner: Mutex<Inner>,
    /// Entries waiting, readable without the lock: it is asked for each statement.
    waiting: AtomicUsize,
    bytes_max: u64,
}

struct Inner {
    file: File,
    bytes: u64,
    entries: VecDeque<JournalEntry>,
}

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The entries hold statement texts.
        f.debug_struct("Journal").field("waiting", &self.waiting).finish_non_exhaustive()
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error("the journal is full: `{bytes_max}` bytes")]
    Full { bytes_max: u64 },
    #[error("the entry is larger than {bytes_max} bytes, so the pdp would never take it")]
    TooLarge { bytes_max: usize },
    #[error("the journal cannot be written")]
    Io(#[from] std::io::Error),
    #[error("the process is stopping")]
    Stopped,
}

impl Journal {
    /// Opens or makes the file, and locks it against a second proxy.
    pub(crate) fn open(path: &Path, bytes_max: u64) -> std::io::Result<Self> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        #[cfg(unix)]
        {
            use std::os::unix::fs::OpenOptionsExt as _;
            // It holds statement texts.
            options.mode(0o600);
        }
        let mut file = options.open(path)?;
        file.try_lock().map_err(|error| {
            std::io::Error::new(std::io::ErrorKind::WouldBlock, format!("another proxy holds it: {error}"))
        })?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (entries, sound) = read_entries(&bytes);
        let rest = bytes.get(sound..).unwrap_or_default();
        if (1..rest.len()).any(|at| rest.get(at..).and_then(read_entry).is_some()) {
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                format!(
                    "it is damaged at byte {sound} and holds records after that; keep the file for whoever audits, and start with another one"
                ),
            ));
        }
        if !rest.is_empty() {
            warn!(bytes = rest.len(), "torn end of the journal cut off");
        }
        let sound = sound as u64;
        file.set_len(sound)?;
        file.sync_all()?;
        // The name of a new file is durable only with its directory.
        #[cfg(unix)]
        if let Some(directory) = path.parent() {
            let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
            File::open(directory)?.sync_all()?;
        }
        file.seek(SeekFrom::Start(sound))?;
        let waiting = AtomicUsize::new(entries.len());
        let journal = Self { inner: Mutex::new(Inner { file, bytes: sound, entries }), waiting, bytes_max };
        Ok(journal)
    }

    /// Writes one entry and syncs it to disk.
    pub(crate) fn append(&self, entry: JournalEntry) -> Result<(), JournalError> {
        let body = entry.encode_to_vec();
        if body.len() > DELIVERY_BYTES_MAX {
            return Err(JournalError::TooLarge { bytes_max: DELIVERY_BYTES_MAX });
        }
        let mut framed = Vec::with_capacity(body.len() + HEAD);
        framed.extend_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes());
        framed.extend_from_slice(&check(&body));
        framed.extend_from_slice(&body);
        let mut inner = self.lock();
        let before = inner.bytes;
        let after = before + framed.len() as u64;
        if after > self.bytes_max {
            return Err(JournalError::Full { bytes_max: self.bytes_max });
        }
        let written = inner.file.write_all(&framed).and_then(|()| inner.file.sync_data());
        if let Err(error) = written {
            // What was half written must not stand before the next entry.
            inner.file.set_len(before)?;
            inner.file.seek(SeekFrom::Start(before))?;
            return Err(error.into());
        }
        inner.bytes = after;
        inner.entries.push_back(entry);
        self.waiting.store(inner.entries.len(), Ordering::Release);
        drop(inner);
        Ok(())
    }

    /// The oldest entries: at most `count`, and no more than one delivery may carry.
    pub(crate) fn first(&self, count: usize) -> Vec<JournalEntry> {
        let mut room = DELIVERY_BYTES_MAX;
        let fits = |entry: &&JournalEntry| {
            let left = room.checked_sub(entry.encoded_len());
            room = left.unwrap_or_default();
            left.is_some()
        };
        self.lock().entries.iter().take(count).take_while(fits).cloned().collect()
    }

    /// Forgets the oldest `count` entries, which the PDP has. The file shrinks when nothing is left: until then a
    /// restart delivers them again, which changes nothing.
    pub(crate) fn drop_first(&self, count: usize) -> std::io::Result<()> {
        let mut inner = self.lock();
        let count = count.min(inner.entries.len());
        inner.entries.drain(..count);
        self.waiting.store(inner.entries.len(), Ordering::Release);
        if inner.entries.is_empty() {
            inner.file.set_len(0)?;
            inner.file.seek(SeekFrom::Start(0))?;
            inner.file.sync_data()?;
            inner.bytes = 0;
        }
        drop(inner);
        Ok(())
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The sound entries, and how many bytes they take.
fn read_entries(bytes: &[u8]) -> (VecDeque<JournalEntry>, usize) {
    let mut entries = VecDeque::new();
    let mut sound = 0;
    while let Some((entry, taken)) = bytes.get(sound..).and_then(read_entry) {
        entries.push_back(entry);
        sound += taken;
    }
    (entries, sound)
}

fn read_entry(bytes: &[u8]) -> Option<(JournalEntry, usize)> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let (sum, rest) = rest.split_first_chunk::<4>()?;
    let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
    let body = rest.get(..length)?;
    if check(body) != *sum {
        return None;
    }
    Some((JournalEntry::decode(body).ok()?, HEAD + length))
}

fn check(body: &[u8]) -> [u8; 4] {
    Sha256::digest(body).first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn entry(at: i64) -> JournalEntry {
        JournalEntry { at_unix_ms: at, entry: None }
    }

    #[test]
    fn entries_survive_reopening_and_a_torn_end_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        {
            let journal = Journal::open(&path, 1 << 20).unwrap();
            for at in 1..=3 {
                journal.append(entry(at)).unwrap();
            }
            assert!(Journal::open(&path, 1 << 20).is_err(), "locked");
        }
        OpenOptions::new().append(true).open(&path).unwrap().write_all(&[9, 0, 0, 0, 1]).unwrap();
        let journal = Journal::open(&path, 1 << 20).unwrap();
        assert_eq!(journal.first(10).iter().map(|entry| entry.at_unix_ms).collect::<Vec<_>>(), [1, 2, 3]);
        journal.drop_first(1).unwrap();
        assert_eq!(journal.len(), 2);
        journal.drop_first(2).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 0);
        journal.append(entry(4)).unwrap();
        drop(journal);
        assert_eq!(Journal::open(&path, 1 << 20).unwrap().first(10).len(), 1);
    }

    #[test]
    fn damage_before_sound_entries_is_an_error_and_nothing_is_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("journal");
        {
            let journal = Journal::open(&path, 1 << 20).unwrap();
            for at in 1..=3 {
                journal.append(entry(at)).unwrap();
            }
        }
        let whole = std::fs::read(&path).unwrap();
        // A flipped length, a flipped sum, a flipped body of the second of three equally long entries.
        let second = whole.len() / 3;
        for at in [second, second + 3, second + 5, second + HEAD] {
            let mut damaged = whole.clone();
            damaged[at] ^= 0x40;
            std::fs::write(&path, &damaged).unwrap();
            let error = Journal::open(&path, 1 << 20).unwrap_err().to_string();
            assert!(error.contains(&format!("damaged at byte {second}")), "{error}");
            assert_eq!(std::fs::read(&path).unwrap(), damaged);
        }
    }

    #[test]
    fn a_delivery_never_grows_over_what_the_pdp_takes() {
        use icegate_proto::v1::{JournaledIntent, journal_entry::Entry};

        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(&dir.path().join("journal"), 1 << 30).unwrap();
        let intent = |bytes: usize| JournalEntry {
            at_unix_ms: 1,
            entry: Some(Entry::Intent(JournaledIntent { sql: "x".repeat(bytes), ..Default::default() })),
        };
        for _ in 0..5 {
            journal.append(intent(3 * 1024 * 1024)).unwrap();
        }
        assert_eq!(journal.first(256).len(), 2);
        journal.drop_first(2).unwrap();
        assert_eq!(journal.first(256).len(), 2);
        assert!(matches!(journal.append(intent(DELIVERY_BYTES_MAX)), Err(JournalError::TooLarge { .. })));
        assert!(!format!("{journal:?}").contains("xxx"));
    }

    #[test]
    fn a_full_journal_refuses() {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::open(&dir.path().join("journal"), 12).unwrap();
        journal.append(entry(1)).unwrap();
        assert!(matches!(journal.append(entry(2)), Err(JournalError::Full { .. })));
    }
}
