//! Composition roots, one per subcommand: the only code that knows all layers.

pub mod check;
pub mod completions;
pub mod consume;
pub mod demo;
pub mod endpoint;
pub mod exit;
pub mod healthcheck;
pub mod pending;
pub mod produce;
pub mod rules;
mod seen;
pub mod serve;
pub mod source;
pub mod status;
