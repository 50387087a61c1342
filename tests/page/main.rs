//! The status page: what is sent, and what a real browser makes of it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod browser;
mod commands;
mod crowd;
mod pictures;
mod readable;
mod screen;
mod sent;
mod shown;
mod story;
mod use_of_it;

#[path = "../support/mod.rs"]
mod support;
