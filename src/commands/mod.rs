//! Composition roots, one per subcommand: the only code that knows all layers.

pub mod check;
pub mod completions;
pub mod config_source;
pub mod consume;
pub mod dead_letters;
pub mod demo;
pub mod descriptors;
pub mod exit_code;
pub mod healthcheck;
pub mod init;
mod output;
pub mod pending;
mod poll_cost;
pub mod produce;
pub mod redis_args;
pub mod rules;
pub mod serve;
pub mod status;
mod target_events;
mod target_snapshots;
pub mod tidy;
