//! Alerts: rules over the facts of a report, and the state machine that Prometheus has. Pure: no Redis, no clock,
//! no receivers.

pub mod notification;
