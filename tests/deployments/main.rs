//! The ways in which Redis is run: behind TLS, on a unix socket, with users and passwords that change, with
//! sentinels, in a cluster.

mod cluster;
mod logins;
mod sentinel;
mod shards;
mod tls;

#[path = "../support/mod.rs"]
mod support;
