//! What must not be used twice, for as long as it could be.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Ids of states and tickets that were used, until they have expired by themselves.
#[derive(Debug)]
pub(super) struct Used {
    until_ms: Mutex<HashMap<String, i64>>,
    room: usize,
}

/// Why something is not used now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unused {
    /// It was.
    Again,
    /// That it was could not be remembered.
    NoRoom,
}

impl Used {
    pub(super) fn new(room: usize) -> Self {
        Self { until_ms: Mutex::default(), room }
    }

    /// Uses an id up. Never forgets one before its time: where there is no room, nothing is used.
    pub(super) fn once(&self, id: &str, expires_ms: i64, now_ms: i64) -> Result<(), Unused> {
        let mut until_ms = self.until_ms.lock().unwrap_or_else(PoisonError::into_inner);
        if until_ms.contains_key(id) {
            return Err(Unused::Again);
        }
        if until_ms.len() >= self.room {
            until_ms.retain(|_, until| *until > now_ms);
            if until_ms.len() >= self.room {
                return Err(Unused::NoRoom);
            }
        }
        until_ms.insert(id.to_owned(), expires_ms);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn once_is_once_and_room_comes_back_with_time() {
        let used = Used::new(2);
        assert_eq!(used.once("a", 10, 0), Ok(()));
        assert_eq!(used.once("a", 10, 0), Err(Unused::Again));
        assert_eq!(used.once("b", 20, 0), Ok(()));
        assert_eq!(used.once("c", 30, 9), Err(Unused::NoRoom));
        assert_eq!(used.once("c", 30, 10), Ok(()));
        assert_eq!(used.once("b", 20, 10), Err(Unused::Again));
    }
}
