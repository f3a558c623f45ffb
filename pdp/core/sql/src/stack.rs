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
    let needed = |piece: &Piece<'_>| {
        let (operators, brackets) = (piece.operators * OPERATOR_BYTES, piece.nesting * BRACKET_BYTES);
        operators.saturating_add(brackets).saturating_add(BESIDES_BYTES)
    };
    let needed = pieces.iter().map(needed).max().unwrap_or_default();
    if stacker::remaining_stack().is_some_and(|left| left >= needed) {
        return Some(work());
    }
    thread::scope(|scope| match thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work).ok()?.join() {
        Ok(result) => Some(result),
        Err(panic) => std::panic::resume_unwind(panic),
    })
}
