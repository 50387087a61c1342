//! The only room of the monitor that talks to Redis: connections, discovery, reading and asking.
//!
//! It decides nothing about lag; it turns replies into [facts](redis_stream_lag::snapshot) and questions into
//! commands. It must not disturb what it watches: few round trips, bounded replies, no command without a
//! bound, no XPENDING with IDLE (it walks the whole PEL) unless a person asks for just that, no scripts, and
//! nothing that writes.
//!
//! What replies are taken apart by is public though nothing outside needs it, for the fuzz targets in `tests/fuzz`:
//! [`decode`], with [`names`] and [`slots`].

mod ask;
mod catalogue;
mod cluster;
pub mod decode;
mod discovery;
pub mod error;
mod exchange;
mod fleet;
pub mod names;
pub mod node;
pub mod pending;
mod read;
mod round;
mod schedule;
mod selection;
mod sentinel;
pub mod slots;
mod source;
pub mod upstream;
