//! The only module of the monitor that talks to Redis: connections, discovery, reading and asking.
//!
//! A [`Poller`](poll::Poller) polls one target. The poller decides nothing about lag: it turns replies into a
//! [readings](redis_stream_lag::snapshot) and questions into commands. It must not disturb the servers: few round
//! trips, bounded replies, no command without a bound, no XPENDING with IDLE (the server walks the whole list of
//! pending entries), no scripts, and no writes.
//!
//! [`decode`], [`interner`], [`resp`] and [`slots`] are public for the fuzz targets in `tests/fuzz` only.

mod ask;
mod cluster;
mod connection;
pub mod decode;
mod discovery;
pub mod error;
pub mod interner;
pub mod list_pending;
pub mod node;
mod node_reader;
mod nodes;
pub mod pace;
mod payload_budget;
mod pipeline;
pub mod poll;
mod read;
mod read_plan;
mod repeated;
pub mod resp;
mod sample;
pub(crate) mod selection;
mod sentinel;
pub mod servers;
pub mod slots;
mod streams;
pub mod survey;
