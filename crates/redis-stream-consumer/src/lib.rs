#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

pub mod connect_options;
pub mod connection;
pub mod consume;
pub mod dead_letters;
pub mod entry;
pub mod error;
pub mod json_line;
pub mod produce;
