//! Groups, targets, alerts and events as JSON, and the same values for pages and the terminal.

pub mod alerts;
pub mod backlog;
pub mod events;
pub mod fold;
pub mod groups;
pub mod json;
pub mod partial_sort;
pub mod probe;
