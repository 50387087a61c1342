//! Alerts: rules over the facts of a report, and the state machine that Prometheus has. Pure: no Redis, no clock,
//! no receivers.
//!
//! | file | what it does |
//! | --- | --- |
//! | [`fact`] | the closed list of what an alert can speak of, each with its value in a report |
//! | [`condition`] | `FACT OPERATOR VALUE`: read, and held against a value |
//! | [`template`] | texts with the labels and the value of an alert in them |
//! | [`rule`] | one rule: what it is about, when it fires, what it says |
//! | [`recommended`] | the rules that are built in |
//! | [`losses`] | what was lost in the last five minutes |
//! | [`state`] | the life of one alert: pending, firing, resolved |
//! | [`evaluator`] | the rules over the subjects of one target, after each poll |
//! | [`outlook`] | whether a rule can ever fire at a target |
//! | [`active`] | what is pending or firing, for readers |
//! | [`promql`], [`rule_file`] | the same rules for Prometheus |
//! | [`notification`] | what receivers are told |
//! | [`known`] | what they know of that, over a restart |
//! | [`link`] | where people find what an alert is about |
//!
//! **A fact is known, unknown or gone.** Unknown (the target or the stream could not be read, or the value cannot
//! be known) holds the state of an alert; gone (the subject is absent from a whole reading) clears it.

pub mod active;
pub mod condition;
mod day;
pub mod evaluator;
pub mod fact;
mod fixture;
pub mod known;
pub mod link;
pub mod losses;
pub mod notification;
pub mod outlook;
pub mod promql;
pub mod recommended;
pub mod rule;
pub mod rule_file;
pub mod state;
pub mod template;
