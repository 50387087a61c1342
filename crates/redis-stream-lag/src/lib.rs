#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

mod abandoned;
mod audit;
pub mod budget;
mod census;
mod checkpoints;
pub mod compact;
mod complete;
mod condition;
pub mod consumer_growth;
mod count_scan;
mod deleted_pending;
pub mod derivation;
mod derive;
pub mod family;
mod flow;
mod fold;
mod from_bounds;
mod from_counters;
mod group_changes;
mod group_values;
mod history;
mod holder;
mod later_pages;
mod loss;
mod loss_share;
pub mod many_consumers;
pub mod memory;
mod notable;
mod open;
mod pending_cache;
mod plan;
pub mod poll_readings;
pub mod question;
#[cfg(feature = "random")]
mod random;
pub mod report;
mod retention;
mod rhythm;
mod seldom;
pub mod settled;
mod settling;
mod smallest;
pub mod snapshot;
pub mod state;
mod status;
mod stream_change;
#[cfg(test)]
mod tests;
mod timeline;
mod unchanged;
mod worklist;
