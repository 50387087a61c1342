//! Numbers, durations and names for people: one way for pages, terminal and alerts.

pub(crate) mod redis_cli;
pub mod severity;
pub mod trend;
pub mod unicode;
pub mod units;
