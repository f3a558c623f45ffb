//! The service as its callers see it: over a real socket, with real tokens and the starting set of policies.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test that cannot go on fails")]

mod approving;
mod auditing;
mod binding;
mod deciding;
mod earlier;
mod program;
mod sessions;
mod stand;
mod temporary;
mod watching;
