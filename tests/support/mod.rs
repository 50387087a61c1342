//! Support for integration tests: real servers, the program itself, HTTP clients and parsed metrics.
//!
//! | module | contents |
//! | --- | --- |
//! | [`servers`] | finds the server programs, and runs a test body against each |
//! | [`server`] | one running server: stop, kill, pause, resume, restart on the same port |
//! | [`program`] | one run of streamgauge: its output, its exit code, its metrics |
//! | [`process`] | another program, with its files, its port and its log |
//! | [`footprint`] | a process's memory, descriptors and threads, from `/proc` |
//! | [`alertmanager`] | one running Alertmanager |
//! | [`prometheus`] | one running Prometheus |
//! | [`proxy`] | a faulty proxy before a receiver |
//! | [`receiver`] | an HTTP receiver that records its requests, and may pass them on |
//! | [`metric_list`] | all metrics of the program |
//! | [`cluster`] | a cluster of servers |
//! | [`sentinel`] | a running sentinel |
//! | [`config`] | a configuration file |
//! | [`http`] | a GET |
//! | [`metrics`] | Prometheus text as a map |
//! | [`peers`] | programs that the exporter is tested with: Prometheus, Chromium, Helm |
//! | [`repository`] | files of the repository |
//! | [`polled`] | a target inside the test, polled on request |
//! | [`snapshot`] | a complete snapshot of a stream and its groups |
//! | [`expected`] | the expected value of each stream series |
//! | [`series`] | the names of series that tests look for |
//! | [`pty`] | a pseudo-terminal with a program on it |
//! | [`client`] | sends commands to a server |
//! | [`fake_server`] | a fake Redis with faults |
//! | [`imitator`] | a proxy that makes a server reply as another one would |
//! | [`watch`] | an exporter with a short poll interval |
//! | [`certificates`] | a certificate authority |
//! | [`wait`] | waiting for a condition with a deadline |
//!
//! The tests start servers themselves rather than through the crates redis-server-wrapper or redis-test, since they run
//! several versions from private paths, and kill, pause and restart them on the same port. redis-server-wrapper needs a
//! redis-cli beside each server, stops servers through it (which fails on a paused one) and cannot restart them.
//! redis-test runs the redis-server on PATH only.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part of this module")]
#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

pub mod alertmanager;
pub mod certificates;
pub mod client;
pub mod cluster;
pub mod config;
pub mod expected;
pub mod fake_server;
pub mod footprint;
pub mod http;
pub mod imitator;
pub mod metric_list;
pub mod metrics;
pub mod peers;
pub mod polled;
pub mod process;
pub mod program;
pub mod prometheus;
pub mod proxy;
pub mod pty;
pub mod receiver;
pub mod repository;
pub mod sentinel;
pub mod series;
pub mod server;
pub mod servers;
pub mod snapshot;
pub mod wait;
pub mod watch;
