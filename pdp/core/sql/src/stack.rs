//! Deep trees need deep stacks: reading, printing and dropping one recurses.

use std::thread;

use crate::gate::Piece;

/// Operators one statement may hold at most: a row of them is a tree as deep as it is long.
pub(crate) const OPERATORS_MAX: usize = 4096;
/// Statements with more operators than this are read on a stack of their own.
const OPERATORS_ON_CALLERS_STACK: usize = 48;
/// Statements nested deeper than this are read on a stack of their own.
const NESTING_ON_CALLERS_STACK: usize = 8;
/// Size of that stack, in bytes; pages that are not touched cost nothing.
const STACK_BYTES: usize = 256 * 1024 * 1024;

/// Does the work on a stack that is deep enough for these statements; `None` when there is none to be had.
pub(crate) fn on_enough_stack<T: Send>(pieces: &[Piece<'_>], work: impl FnOnce() -> T + Send) -> Option<T> {
    let heavy =
        |piece: &Piece<'_>| piece.operators > OPERATORS_ON_CALLERS_STACK || piece.nesting > NESTING_ON_CALLERS_STACK;
    if !pieces.iter().any(heavy) {
        return Some(work());
    }
    thread::scope(|scope| match thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work).ok()?.join() {
        Ok(result) => Some(result),
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
