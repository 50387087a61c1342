//! Output for terminals: tables of groups, pending entries and dead letters, and the screen of `status --watch`. Pure
//! except for [`screen`]; the input types are those that are also written as JSON.
//!
//! Names from Redis may contain anything. All text goes through [`printable`](crate::format::unicode::printable) before it reaches a terminal.

mod colour;
mod columns;
mod detail;
mod draw;
pub(crate) mod entries;
mod event_line;
pub(crate) mod fields;
pub(crate) mod group_name;
mod help;
mod history;
mod layout;
pub(crate) mod letters;
pub mod screen;
mod shorten;
pub mod status_view;
pub(crate) mod table;
#[cfg(test)]
mod test_support;
mod text;
