//! The ways in which Redis is run: behind TLS, on a unix socket, with users and passwords that change.

mod logins;
mod tls;

#[path = "../support/mod.rs"]
mod support;
