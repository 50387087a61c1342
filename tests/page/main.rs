//! The status page: the responses, and their display in a real browser.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod browser;
mod commands;
mod display;
mod interaction;
mod load;
mod pictures;
mod readable;
mod responses;
mod restart;
mod scenario;
mod screen;

#[path = "../support/mod.rs"]
mod support;
