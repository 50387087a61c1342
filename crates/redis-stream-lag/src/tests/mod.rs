//! Property tests against a model that counts entries one by one, tables of cases, and tests of the audit.

mod audit;
mod cases;
mod census;
mod complete;
mod flow;
mod memory;
mod memory_usage;
pub(crate) mod model;
pub(crate) mod properties;
