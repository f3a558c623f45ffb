//! What can go wrong. No message holds a value of the result.

use thiserror::Error;

/// Why a mask does not fit its column.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// There is nothing to mask.
    #[error("a plan needs at least one column")]
    NoColumns,
    /// The mask cannot keep the column's type.
    #[error("column {ordinal} cannot be masked by `{mask}`: {why}")]
    Mask {
        /// Which column, from 1.
        ordinal: usize,
        /// Which mask.
        mask: &'static str,
        /// What the mask needs.
        why: &'static str,
    },
    /// The column's type is not one of Snowflake's.
    #[error("`{logical}` with these parameters is not a column type")]
    Type {
        /// As announced.
        logical: String,
    },
}

/// Why a result is withheld.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MaskingError {
    /// The stream is not what it must be.
    #[error("the result cannot be read: {0}")]
    Unreadable(&'static str),
    /// It is a result, but not the one the plan was made for.
    #[error("the result is not the one that was decided: {0}")]
    Foreign(&'static str),
    /// Arrow has it, Snowflake is not known to send it, and nobody has looked at it.
    #[error("the result uses what is not masked safely: {0}")]
    Unsupported(&'static str),
    /// Over a limit.
    #[error("the result is over a limit: {what} of more than {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Something was pushed after an error or the end.
    #[error("the stream is over")]
    Over,
}
