//! Everything that is tested across rooms: laws, tidiness, the access matrix, real drivers end to end.

pub mod account;
pub mod attacks;
pub mod drivers;
pub mod fuzz;
pub mod generated;
pub mod masks;
pub mod node;
pub mod plain;
/// The starting policies, compiled.
pub mod policies;
pub mod recorder;
pub mod runs;
pub mod stack;
pub mod stand_in;
pub mod translate;
