//! The reference consumer loses nothing, whatever becomes of it, of its handler and of the server.

mod access;
mod basics;
mod cluster;
mod crashes;
mod cuts;
mod handlers;
mod member;
mod outages;
mod poison;
mod stop;
mod watched;

#[path = "../support/mod.rs"]
mod support;
