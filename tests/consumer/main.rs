//! The reference consumer loses nothing, whatever becomes of it, of its handler and of the server.

mod access;
mod basics;
mod breaker;
mod cluster;
mod crashes;
mod cuts;
mod exec;
mod handlers;
mod member;
mod outages;
mod poison;
mod stop;
mod watched;
mod worker;

#[path = "../support/mod.rs"]
mod support;
