//! The commands for a terminal, against real servers: `status`, `pending`, `completions`; in a terminal, in a pipe, and
//! on the screen of a pseudo-terminal.
#[path = "../support/mod.rs"]
mod support;

mod pending;
mod remote;
mod scenario;
mod status;
mod watch;
