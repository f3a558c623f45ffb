//! The one place the service asks what time it is; everything inside gets it as an argument.

use std::time::{SystemTime, UNIX_EPOCH};

use icegate_pdp_model::Timestamp;

/// The present moment.
pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
}
