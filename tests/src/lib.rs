//! Everything that is tested across rooms: laws, tidiness, the access matrix, real drivers end to end.

/// The starting policies, compiled.
pub mod policies;
pub mod recorder;
pub mod stack;
pub mod stand_in;
