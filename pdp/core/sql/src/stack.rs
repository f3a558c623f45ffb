//! Deep trees need deep stacks: reading, printing and dropping one recurses.

use std::thread;

use crate::gate::Piece;

/// Operators one statement may hold at most: a row of them is a tree as deep as it is long.
pub(crate) const OPERATORS_MAX: usize = 4096;
/// Stack that reading takes at most for each operator, each level of brackets, and besides, in bytes. Without
/// optimisation a function's variables take many times the room.
const OPERATOR_BYTES: usize = if cfg!(debug_assertions) { 32 * 1024 } else { 4 * 1024 };
const BRACKET_BYTES: usize = if cfg!(debug_assertions) { 128 * 1024 } else { 32 * 1024 };
const BESIDES_BYTES: usize = 256 * 1024;
/// Size of a stack of its own, in bytes; pages that are not touched cost nothing.
const STACK_BYTES: usize = 256 * 1024 * 1024;

/// Does the work on a stack that is deep enough for these statements: the caller's when enough of it is left. `None`
/// when there is none to be had.
pub(crate) fn on_enough_stack<T: Send>(pieces: &[Piece<'_>], work: impl FnOnce() -> T + Send) -> Option<T> {
    let needed = pieces.iter().map(needed).max().unwrap_or_default();
    if stacker::remaining_stack().is_some_and(|left| left >= needed) {
        return Some(work());
    }
    thread::scope(|scope| match thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work).ok()?.join() {
        Ok(result) => Some(result),
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// Stack that reading this statement takes at most, in bytes.
fn needed(piece: &Piece<'_>) -> usize {
    let (operators, brackets) = (piece.operators * OPERATOR_BYTES, piece.nesting * BRACKET_BYTES);
    operators.saturating_add(brackets).saturating_add(BESIDES_BYTES)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use icegate_pdp_model::{Catalog, SessionContext};

    use super::needed;
    use crate::{Limits, analyze, gate};

    /// A stack that is just enough for what is counted is enough for what is read: were it not, this would not end well.
    #[test]
    fn what_is_counted_is_enough() {
        let (catalog, session) = (Catalog::default(), SessionContext::default());
        for n in [1, 2, 5, 10, 20, 45, 100, 400] {
            let around = |before: &str, inside: &str, after: &str| {
                format!("select a from t where {}{inside}{}", before.repeat(n), after.repeat(n))
            };
            for sql in [
                around("", "x = 1", " or x = 1"),
                around("", "x", " || x"),
                around("", "x", "::varchar"),
                around("", "x", " is null"),
                around("", "x", "[0]"),
                around("not ", "x", ""),
                around("- ", "x", ""),
                around("(", "x", ")"),
                around("abs(", "x", ")"),
                around("case when x then ", "x", " end"),
                around("cast(", "x", " as varchar)"),
                around("x in (select x from t where ", "x = 1", ")"),
                around("exists (with c as (select 1 as x) select x from c where ", "x = 1", ")"),
                format!("select a from t{}", " union all select a from t".repeat(n)),
                format!("select a from t{}", " join t on x = 1".repeat(n)),
                format!("{}select a from t{}", "select a from (".repeat(n), ") s".repeat(n)),
                format!("select a from {}t{}", "(".repeat(n), " join t on x = 1)".repeat(n)),
            ] {
                let stack = needed(&gate::split(&sql).unwrap()[0]) + STARTING;
                let read = || drop(analyze(&sql, &session, &catalog, &Limits::default()));
                thread::scope(|scope| {
                    thread::Builder::new().stack_size(stack).spawn_scoped(scope, read).unwrap().join().unwrap();
                });
            }
        }
    }

    /// What a thread takes before it starts, in bytes.
    const STARTING: usize = 16 * 1024;
}
