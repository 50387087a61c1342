//! What the integration tests stand on: real servers, the program itself, HTTP and metrics as a reader sees them.
//!
//! | module | what it gives |
//! | --- | --- |
//! | [`servers`] | the server programs that are there, and one test body run against each |
//! | [`server`] | one running server: stop, kill, pause, resume, restart on the same port |
//! | [`program`] | one run of streamgauge: its output, its exit code, its metrics |
//! | [`process`] | a program beside it, with its files, its port and its log |
//! | [`footprint`] | what a process holds, from `/proc` |
//! | [`alertmanager`] | one running Alertmanager |
//! | [`prometheus`] | one running Prometheus |
//! | [`proxy`] | a proxy before a receiver, which misbehaves |
//! | [`sink`] | a listener that takes down what it is sent, and may pass it on |
//! | [`catalogue`] | the metrics that the program has |
//! | [`cluster`] | a cluster of servers |
//! | [`sentinel`] | a running sentinel |
//! | [`config`] | a configuration file |
//! | [`http`] | a GET |
//! | [`metrics`] | Prometheus text as a map |
//! | [`peers`] | programs that the exporter is held against |
//! | [`polled`] | a target inside the test, which polls when it is told to |
//! | [`whole`] | streams and groups read as a whole, to hold numbers against |
//! | [`truth`] | streams, groups and consumers read one by one, as the series that they must be |
//! | [`series`] | the names of series that tests look for |
//! | [`pty`] | a pseudo-terminal with a program on it |
//! | [`talk`] | commands to a server, over one connection |
//! | [`impostor`] | a listener that is no Redis |
//! | [`watch`] | an exporter that polls in quick succession, and what it tells |
//! | [`certificates`] | an authority, and what it signs |
//! | [`wait`] | waiting for a condition with a deadline |
//!
//! Servers are processes of our own making, not those of the crates redis-server-wrapper or redis-test.
//! redis-server-wrapper wants a redis-cli beside each server, which wheels do not bring, daemonizes the server,
//! stops it through redis-cli (no use on a paused one), sleeps half a second in each stop and keeps its restart
//! private. redis-test runs the one redis-server on PATH with its own arguments and restarts nothing. Here five
//! programs at private paths are killed, paused and brought back on their port.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part of this module")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

pub mod alertmanager;
pub mod catalogue;
pub mod certificates;
pub mod cluster;
pub mod config;
pub mod footprint;
pub mod http;
pub mod impostor;
pub mod metrics;
pub mod peers;
pub mod polled;
pub mod process;
pub mod program;
pub mod prometheus;
pub mod proxy;
pub mod pty;
pub mod sentinel;
pub mod series;
pub mod server;
pub mod servers;
pub mod sink;
pub mod talk;
pub mod truth;
pub mod wait;
pub mod watch;
pub mod whole;
