//! Alerts: rules over the facts of a report, and a state machine like that of Prometheus. Pure: no Redis, no clock, no
//! receivers.
//!
//! | file | contents |
//! | --- | --- |
//! | [`fact`] | the closed list of values that a rule can name |
//! | [`operator`], [`condition`] | `FACT OPERATOR VALUE`: parsing and comparison |
//! | [`expression`] | comparisons joined by `and`, `or` and `unless`, for built-in rules |
//! | [`template`] | texts with placeholders for the labels and the value of an alert |
//! | [`rule`] | a rule: selector, condition, times, labels, annotations |
//! | [`subject`], [`rule_labels`] | what an alert is about, and the labels of many alerts of a rule |
//! | [`recommended`] | the built-in rules |
//! | [`loss_window`] | entries lost in the last five minutes, or hour |
//! | [`gone_groups`] | groups that were read and then vanished |
//! | [`resolved_reason`] | why an alert resolved, in words |
//! | [`state`] | the state of one alert: pending, firing, resolved |
//! | [`evaluator`] | evaluates the rules of one target after each poll |
//! | [`capabilities`] | static checks of whether a rule can ever fire at a target |
//! | [`inhibition`] | alerts that others explain and that are not sent |
//! | [`active`] | pending and firing alerts, for pages, metrics and the state file |
//! | [`promql`], [`rule_file`] | the same rules for Prometheus |
//! | [`notification`] | alerts as they are sent to receivers |
//! | [`notification_log`] | alerts that receivers know, kept over a restart |
//! | [`link`] | links to the exporter's pages |
//! | [`web_link`] | links to other tools, with placeholders |
//!
//! **A fact is known, unknown or gone.** While a fact is unknown (the target or the stream could not be read, or the
//! value cannot be derived), the alert keeps its state; when its subject is gone (absent from a complete reading),
//! the alert clears.

pub mod active;
pub mod capabilities;
pub mod changes;
pub mod condition;
pub mod evaluator;
pub mod expression;
pub mod fact;
pub mod gone_groups;
pub mod inhibition;
pub mod link;
mod load_tests;
pub mod loss_window;
pub mod notification;
pub mod notification_log;
pub mod operator;
pub mod promql;
pub mod recommended;
pub mod resolved_reason;
pub mod rule;
pub mod rule_file;
pub mod rule_labels;
pub mod state;
pub mod subject;
pub mod template;
pub(crate) mod test_support;
pub mod web_link;
