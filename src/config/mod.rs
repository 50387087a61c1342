//! The configuration: types, defaults, secrets and validation. Nothing here connects to anything.
//!
//! [`load`] reads a file and [`flags`] the command line, with the same readers. They walk the YAML tree with a cursor
//! ([`cursor`]) instead of serde, which stops at the first wrong value and does not know the key path of a wrong
//! scalar: here all faults are collected. serde_yaml is archived, so no other module reads YAML, except in
//! tests: it can be replaced here. The result is valid, or an [`error::ConfigError`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::alert::rule::Rule;
use crate::alert::web_link::WebLink;
use crate::config::allowed_nodes::AllowedNodes;
use crate::config::notifiers::NotifierConfig;
use crate::config::password_command::PasswordCommand;
use crate::config::topology::Topology;
use crate::config::web::TlsServer;
use redis_stream_core::glob::Glob;
use redis_stream_core::name::Name;
use redis_stream_core::secret::Secret;
use redis_stream_core::tls::Tls;

pub mod allowed_nodes;
pub mod cursor;
pub mod env;
pub mod error;
pub mod flags;
pub mod http_receiver;
mod lines;
pub mod load;
pub mod notifiers;
pub mod password;
pub mod password_command;
pub mod topology;
pub mod web;

mod alerts;
mod credentials;
#[cfg(test)]
mod reference_tests;
mod root;
mod scalar;
mod status_window;
mod target;
mod tls;

/// Port of the default listen addresses, `[::]` and, without IPv6, `0.0.0.0`.
pub const DEFAULT_PORT: u16 = 10121;

/// A valid configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// `web`: the HTTP server.
    pub web: Web,
    /// `poll`: schedule and budgets of every target.
    pub poll: Poll,
    /// `status`: settings of the status of groups.
    pub status: StatusConfig,
    /// `targets`: the servers to poll; at least one.
    pub targets: Vec<Target>,
    /// `metrics`: exported series.
    pub metrics: MetricsConfig,
    /// `alerts`: rules and notifiers.
    pub alerts: Alerts,
}

/// `web`: the HTTP server.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Web {
    /// Address to listen on. `None` is the default: `[::]:10121`, or `0.0.0.0:10121` without IPv6.
    pub listen: Option<SocketAddr>,
    /// URL of this exporter for links in alerts, without a trailing `/`; `None` for no links.
    pub external_url: Option<String>,
    /// Links from pages and alerts to other tools.
    pub links: Vec<WebLink>,
    /// Allows `POST /-/reload`.
    pub enable_reload: bool,
    /// Address of a second listener, without TLS, for `/-/healthy` and `/-/ready` only.
    pub probe_listen: Option<SocketAddr>,
    /// `tls_server_config`; `None` for plain HTTP.
    pub tls: Option<TlsServer>,
    /// `basic_auth_users`: bcrypt hash by user; empty to serve everyone.
    pub users: BTreeMap<String, Secret>,
}

/// `poll`: schedule and budgets, the same for every target.
#[derive(Clone, Debug, PartialEq)]
pub struct Poll {
    /// Time from one poll to the next.
    pub interval: Duration,
    /// Deadline of a poll of one target; below the interval. Default 80 % of it.
    pub timeout: Duration,
    /// Time for which the last report of a target is served while polls fail. Default 3 intervals.
    pub stale_after: Duration,
    /// The part of the streams that this exporter polls; `None` for all.
    pub shard: Option<Shard>,
    /// Least time of a full SCAN.
    pub discovery_interval: Duration,
    /// Limit of SCAN.
    pub scan_keys_per_second: u32,
    /// Entries per target and poll that may be read to count lag.
    pub count_budget: u32,
    /// Entries per target and poll that may be read to check the oldest counts.
    pub audit_budget: u32,
    /// Age at which a count is checked.
    pub audit_period: Duration,
    /// The most streams per target that are sampled for losses four times a second, while a group is in danger.
    pub loss_sample_streams: usize,
    /// Reply bytes per target and poll that may be spent on entry payloads.
    pub payload_budget: u64,
    /// Time after which the memory of a stream is asked for again; `None` for never.
    pub memory_interval: Option<Duration>,
    /// `metrics.consumer_max_idle`: above `limits.consumers_per_group`, consumers that are idle for longer, with nothing
    /// pending, do not count.
    pub consumer_max_idle: Duration,
}

/// One of `of` parts of all streams: the keys with CRC16 modulo `of` equal to `index`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// From 0.
    pub index: u16,
    /// Number of parts.
    pub of: u16,
}

/// `status`: settings of the status of groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatusConfig {
    /// History that a status is derived from, unless the rule of the stream has its own; at least 6 intervals. Default
    /// 2 min, or 6 intervals if that is more.
    pub window: Duration,
}

/// One item of `targets`.
#[derive(Clone, Debug, PartialEq)]
pub struct Target {
    /// The label `target`; unique. Default: host:port, path of the socket, or name of the Sentinel master, with /db
    /// unless it is 0.
    pub name: String,
    /// Topology and addresses.
    pub topology: Topology,
    /// Where servers may send the connection: the nodes of a cluster, or the master that a sentinel names. `None`
    /// allows all.
    pub allowed_nodes: Option<AllowedNodes>,
    /// For `rediss://`.
    pub tls: Tls,
    /// Database number.
    pub db: u32,
    /// ACL user; `None` is the default user.
    pub username: Option<String>,
    /// `None` for no authentication.
    pub password: Option<LoginPassword>,
    /// The time that a login lasts on the server; it is renewed before. `None` for as long as the connection does.
    pub login_lifetime: Option<Duration>,
    /// The required role.
    pub role: Role,
    /// Labels of every series of this target. All targets have the same names.
    pub labels: BTreeMap<String, String>,
    /// `streams`: the first item that matches a key applies. Default: one item `*`.
    pub streams: Vec<StreamRule>,
    /// `limits`.
    pub limits: Limits,
}

impl Target {
    /// Returns true if an item of `streams` puts streams into a family of this name.
    #[must_use]
    pub fn has_family(&self, name: &Name) -> bool {
        self.streams.iter().any(|rule| rule.family.as_ref() == Some(name))
    }
}

/// The password of a login to a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginPassword {
    /// `password` or `password_file`.
    Configured(Password),
    /// `password_command`.
    Command(PasswordCommand),
}

/// A password, or the file with it. Only [`Password::read`] returns its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Password {
    /// From the configuration itself.
    Text(Secret),
    /// From a file, read each time it is used so that it can be rotated.
    File(PathBuf),
}

/// The required role of a node, as reported by HELLO.
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
    /// Keys that the item applies to. A pattern without glob characters is one key, reported if it is missing.
    pub key: Glob,
    /// Excluded keys.
    pub exclude: Vec<Glob>,
    /// Reported groups. Default `*`.
    pub include_groups: Vec<Glob>,
    /// Excluded groups.
    pub exclude_groups: Vec<Glob>,
    /// Exports series of consumers. Without them no XINFO CONSUMERS is sent.
    pub consumers: bool,
    /// History that the status of a group is derived from. Default `status.window`.
    pub window: Duration,
    /// `as`: the family that the streams make, with one set of series under this name. `None`: each has its own.
    pub family: Option<Name>,
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

/// `metrics`: exported series.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricsConfig {
    /// Globs of metric names that are not exported.
    pub exclude: Vec<Glob>,
    /// A consumer without pending entries that is idle for longer has no series.
    pub consumer_max_idle: Duration,
    /// Exports the additional series of redis_exporter too.
    pub redis_exporter_compat: bool,
}

/// `alerts`: rules and notifiers.
#[derive(Clone, Debug, PartialEq)]
pub struct Alerts {
    /// Rules in force: recommended ones that are not disabled, then `rules`.
    pub rules: Vec<Arc<Rule>>,
    /// Names of the recommended rules in force that only Prometheus can evaluate.
    pub prometheus_only: Vec<&'static str>,
    /// Base URL of the runbooks of recommended rules.
    pub runbook_url: Option<String>,
    /// Time for which an alert outlives its data while its target cannot be polled.
    pub hold: Duration,
    /// Additional labels for receivers.
    pub external_labels: BTreeMap<String, String>,
    /// File that keeps alerts over a restart.
    pub state_file: Option<PathBuf>,
    /// The notifiers.
    pub notifiers: Vec<NotifierConfig>,
}
