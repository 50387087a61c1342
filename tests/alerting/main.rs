//! Alerts end to end: real servers, the reference consumer, the whole program, a real Prometheus and a real
//! Alertmanager.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod crash;
mod explained;
mod notifications;
mod outages;
mod receivers;
mod replicas;
mod side_by_side;

#[path = "../support/mod.rs"]
mod support;
