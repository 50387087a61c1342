//! Surroundings that are broken or hostile: standard streams that cannot be written or are not read, files that block
//! or never end, servers that repeat secrets, clients that keep others out.

mod clients;
mod files;
mod secrets;
mod standard_streams;
mod state;

#[path = "../support/mod.rs"]
mod support;
