//! Failure is normal: whatever becomes of Redis is said once in the log, counted by its reason, shown on
//! `/metrics`, and over as soon as Redis is back.

mod access;
mod hostile;
mod idle;
mod imitators;
mod impostors;
mod keys;
mod network;
mod outages;
mod roles;
mod slow;
mod topology;

#[path = "../support/mod.rs"]
mod support;
