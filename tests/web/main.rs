//! The HTTP side of the program as strangers meet it: with the wrong credentials, with the right ones, and with ill
//! intent.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "../support/mod.rs"]
mod support;

mod attacks;
mod tools;
