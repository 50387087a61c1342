//! The configuration: its shape, defaults, secrets and validation. Nothing here connects to anything.
//!
//! [`load`] reads a file, [`flags`] does the same for the command line, by the very same readers. YAML is
//! known to this room only, and only as a tree of values: the readers walk that tree with a cursor of our own
//! (`cursor`), because serde stops at the first wrong value and cannot tell the key path of a bad leaf, while
//! here all faults are gathered in one go. What comes out is valid, or an [`error::ConfigError`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::alert::rule::Rule;
use crate::config::notifiers::Notifier;
use crate::config::topology::Topology;
use crate::config::web::TlsServer;
use redis_stream_core::glob::Glob;
use redis_stream_core::secret::Secret;
use redis_stream_core::tls::Tls;

pub mod cursor;
pub mod env;
pub mod error;
pub mod flags;
pub mod load;
pub mod notifiers;
pub mod password;
pub mod receiver;
pub mod receiver_url;
pub mod topology;
pub mod web;

mod alerts;
mod credentials;
#[cfg(test)]
mod example_tests;
mod root;
mod scalar;
mod status_window;
mod target;
mod tls;

/// Port of the default listen addresses, `[::]` and, without IPv6, `0.0.0.0`.
pub const DEFAULT_PORT: u16 = 10121;

/// All of it, valid.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `web`: the HTTP side.
    pub web: Web,
    /// `poll`: schedule and budgets of every target.
    pub poll: Poll,
    /// `status`: what a group's status is told by.
    pub status: Status,
    /// `targets`: the servers to poll; at least one.
    pub targets: Vec<Target>,
    /// `metrics`: what is exported.
    pub metrics: Metrics,
    /// `alerts`: what is worth telling somebody.
    pub alerts: Alerts,
}

/// `web`: the HTTP side.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Web {
    /// Address to listen on. `None` is the default: `[::]:10121`, or `0.0.0.0:10121` without IPv6.
    pub listen: Option<SocketAddr>,
    /// Where people find this exporter, without a `/` at the end: what links in alerts point to. `None` is no
    /// links.
    pub external_url: Option<String>,
    /// Whether `POST /-/reload` is allowed.
    pub enable_reload: bool,
    /// Address of a second listener, without TLS, for `/-/healthy` and `/-/ready` alone. `None`: there is none.
    pub probe_listen: Option<SocketAddr>,
    /// `tls_server_config`; `None`: plain HTTP.
    pub tls: Option<TlsServer>,
    /// `basic_auth_users`: from user to bcrypt hash. Empty: everybody may read.
    pub users: BTreeMap<String, Secret>,
}

/// `poll`: schedule and budgets, the same for every target.
#[derive(Clone, Debug, PartialEq)]
pub struct Poll {
    /// From one poll to the next.
    pub interval: Duration,
    /// Deadline of one whole poll of one target; below the interval. Default 80 % of it.
    pub timeout: Duration,
    /// How long the last report of a target is served while polls fail. Default 3 intervals.
    pub stale_after: Duration,
    /// Which part of the streams this exporter polls; `None` is all of them.
    pub shard: Option<Shard>,
    /// Least time of a full turn of SCAN.
    pub discovery_interval: Duration,
    /// Most keys per second that SCAN walks.
    pub scan_keys_per_second: u32,
    /// Entries per target and poll that may be read to count lag.
    pub count_budget: u32,
    /// Entries per target and poll that may be read to count again what was counted longest ago.
    pub audit_budget: u32,
    /// What was counted is counted again after this time.
    pub audit_period: Duration,
    /// Reply bytes per target and poll that may be spent on entry payloads.
    pub payload_budget: u64,
}

/// One of several parts of all streams: those whose key has CRC16 modulo `of` equal to `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    pub index: u16,
    /// How many there are.
    pub of: u16,
}

/// `status`: what a group's status is told by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// How much history it looks at, unless the stream's rule says otherwise; at least 6 intervals. Default 2 min,
    /// or 6 intervals where that is more.
    pub window: Duration,
}

/// One item of `targets`.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The label `target`; unique. Default: host:port, the path of the socket or the name of the
    /// Sentinel master, with /db when it is not 0.
    pub name: String,
    /// How it is run, and where it is found.
    pub topology: Topology,
    /// For `rediss://`.
    pub tls: Tls,
    /// Database number.
    pub db: u32,
    /// ACL user; `None` is the default user.
    pub username: Option<String>,
    /// Where the password comes from; `None` is no authentication.
    pub password: Option<Password>,
    /// What the node must be.
    pub role: Role,
    /// Added to every series of this target, in order of their names; the same names on every target.
    pub labels: BTreeMap<String, String>,
    /// `streams`: the first item that matches a key rules it. Default: one item `*`.
    pub streams: Vec<StreamRule>,
    /// `limits`.
    pub limits: Limits,
}

/// A password, or the file that holds it. What it is comes from [`Password::read`] alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    /// From the configuration itself.
    Text(Secret),
    /// From a file, read each time it is used so that it may be rotated; one trailing newline is not part of it.
    File(PathBuf),
}

/// What a node must be, by its own HELLO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// `master` (default).
    Master,
    /// `replica`.
    Replica,
    /// `any`.
    Any,
}

/// One item of `targets[].streams`.
#[derive(Clone, Debug, PartialEq)]
pub struct StreamRule {
    /// Keys this item rules. Without glob characters: one key, reported when it is missing.
    pub key: Glob,
    /// Keys that it leaves out.
    pub exclude: Vec<Glob>,
    /// Groups that are reported. Default `*`.
    pub include_groups: Vec<Glob>,
    /// Groups that are left out.
    pub exclude_groups: Vec<Glob>,
    /// Whether consumer series are wanted. Without them no XINFO CONSUMERS is sent.
    pub consumers: bool,
    /// How much history the status of a group looks at. Default `status.window`.
    pub window: Duration,
}

/// `targets[].limits`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Streams of the target.
    pub streams: usize,
    /// Groups of one stream.
    pub groups_per_stream: usize,
    /// Consumers of one group; above it no XINFO CONSUMERS is sent.
    pub consumers_per_group: usize,
}

/// `metrics`: what is exported.
#[derive(Clone, Debug, PartialEq)]
pub struct Metrics {
    /// Globs over metric names: those series are not exported.
    pub exclude: Vec<Glob>,
    /// A consumer idle longer than this, with nothing pending, has no series.
    pub consumer_max_idle: Duration,
    /// Whether the series are exported too that redis_exporter has and we would not.
    pub redis_exporter_compat: bool,
}

/// `alerts`: what is worth telling somebody.
#[derive(Clone, Debug, PartialEq)]
pub struct Alerts {
    /// The rules in force: those of `recommended` that `disable` does not name, then `rules`.
    pub rules: Vec<Arc<Rule>>,
    /// Names of the recommended rules in force that only Prometheus can evaluate.
    pub prometheus_only: Vec<&'static str>,
    /// Where people read what to do about each of the recommended rules, under its name; `None`: it is not said.
    pub runbook_url: Option<String>,
    /// How long an alert outlives the data it fired on, while its target cannot be polled.
    pub hold: Duration,
    /// Labels that receivers see besides those of the alert.
    pub external_labels: BTreeMap<String, String>,
    /// Where pending and firing alerts are kept over a restart; `None`: nowhere.
    pub state_file: Option<PathBuf>,
    /// Who is told of alerts.
    pub notifiers: Vec<Notifier>,
}
