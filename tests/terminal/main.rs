//! The commands for a terminal, against real servers: `status`, `pending`, `completions`; printed, piped, and on the
//! screen of a pseudo-terminal.
#[path = "../support/mod.rs"]
mod support;

mod pending;
mod remote;
mod status;
mod story;
mod watch;
