//! The reference consumer and the load generator: what reads and writes streams. The monitor only looks on.
//!
//! Nothing here knows the monitor or the command line. A run is given its settings, where to write and a
//! future that ends it, so that the commands, the demo and the tests all use the same code. Servers that go
//! away and come back are waited for; what waiting cannot mend ends the run with a
//! [`WorkloadError`](error::WorkloadError).

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
