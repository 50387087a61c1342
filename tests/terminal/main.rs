//! The commands for a terminal, against real servers: `status`, `pending`, `completions`; printed, piped, and on the
//! screen of a pseudo-terminal.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "../support/mod.rs"]
mod support;

mod pending;
mod pty;
mod remote;
mod status;
mod story;
mod watch;
