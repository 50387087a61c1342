//! The HTTP server over real sockets, as a client sees it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod access;
mod client;
mod limits;
mod replies;
mod shutdown;
mod tls;
