#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

pub mod connection;
pub mod consume;
pub mod endpoint;
pub mod entry;
pub mod error;
pub mod line;
pub mod produce;
mod sink;
mod stop;
