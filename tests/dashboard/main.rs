//! The Grafana dashboard: that it is what the generator makes, that it keeps Grafana's rules, that it speaks of what
//! exists, and that every query of it brings data from a real Prometheus.

#[path = "../support/mod.rs"]
mod support;

/// The code that writes it.
#[path = "../../dashboards/generator/mod.rs"]
mod generator;

mod file;
mod form;
mod names;
mod story;
