//! A new configuration for an exporter that runs: what changes, what stays, and what a wrong one does.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "../support/mod.rs"]
mod support;

mod alerts;
mod endless;
mod fixture;
mod keyspace;
mod refused;
mod targets;
mod topologies;
