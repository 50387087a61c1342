#![doc = include_str!("../README.md")]
#![warn(missing_docs)]

pub mod backoff;
pub mod cluster;
pub mod escape;
pub mod glob;
pub mod id;
pub mod name;
pub mod redis_url;
pub mod secret;
pub mod server_clock;
pub mod wall_clock;

#[cfg(feature = "net")]
pub mod clock;
#[cfg(feature = "net")]
pub mod dial;
#[cfg(feature = "net")]
pub mod file;
#[cfg(feature = "net")]
pub mod program;
#[cfg(feature = "net")]
pub mod tls;
