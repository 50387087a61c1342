//! Notifiers against receivers: a real Alertmanager, proxies before it that misbehave, and listeners that take
//! down what they are sent.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod alerts;
mod delivery;
mod failures;
mod fixture;
mod messages;
mod pagerduty;
mod served;
mod tls;

#[path = "../support/mod.rs"]
mod support;
