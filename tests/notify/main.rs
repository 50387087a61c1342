//! Notifiers against receivers: a real Alertmanager, proxies before it that misbehave, and listeners that take
//! down what they are sent.

mod alerts;
mod delivery;
mod fixture;
mod messages;
mod proxy;
mod sink;
mod tls;
mod trouble;

#[path = "../support/mod.rs"]
mod support;
