//! Surroundings that are broken or hostile: standard streams that cannot be written or are not read, files that block
//! or never end, servers that repeat secrets, clients that keep others out.

mod clients;
mod descriptors;
mod files;
mod nodes;
mod secrets;
mod standard_streams;
mod state;

#[path = "../support/mod.rs"]
mod support;
