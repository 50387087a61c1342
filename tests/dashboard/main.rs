//! The Grafana dashboard: it is the generator's output, follows Grafana's rules, names only what exists, and every query
//! returns data from a real Prometheus.

#[path = "../support/mod.rs"]
mod support;

/// The generator.
#[path = "../../dashboards/generator/mod.rs"]
mod generator;

mod file;
mod form;
mod names;
mod scenario;
