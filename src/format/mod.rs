//! Numbers, durations and names for people: one way for pages, terminal and alerts.

pub mod severity;
pub mod unicode;
pub mod units;
