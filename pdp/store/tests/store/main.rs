//! The store as the PDP uses it, each test with a file of its own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice)]

mod durability;
mod fixture;
mod integrity;
mod search;
mod states;
