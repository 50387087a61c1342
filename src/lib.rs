//! A Prometheus exporter for Redis and Valkey Streams: how far each consumer group is behind, and what is
//! stuck. The README says what the numbers mean; here is how they come about.
//!
//! To read on: [`lag`] for what is known and how, [`target`] for the loop that all of it runs in,
//! [`exposition::definitions`] for every metric.
//!
//! # How the data flows
//!
//! One way, from Redis to the reader, once per poll and target:
//!
//! ```text
//! config --> target (one task each): owns connection, memory and schedule; on each scheduled tick:
//!
//!    poller::read ----------> Snapshot                      I/O    facts, one round of pipelines
//!    lag::plan(snapshot, memory, budget) -> [Question]      pure   "pending of g", "entries of k after a until b"
//!    poller::ask(questions) -> [Answer]                     I/O    all questions of a round share pipelines
//!    lag::derive(snapshot, answers, memory) -> Report       pure   lag, bounds, ages, status
//!    alert::step(report, tick) -> [Notification]            pure   what is pending, firing, resolved
//!                      |
//!         watch<Arc<Published>>
//!                      |
//!    /metrics and pages: readers only; rendered and compressed once per report, shared by all scrapes
//! ```
//!
//! A new configuration ends no task of a target that stays: each goes by a [plan](target::plan), and takes another one
//! between two polls, so that what it knows never has to be handed over.
//!
//! The pure middle knows no Redis, no clock and no HTTP: it asks [questions](snapshot::question) and is
//! given answers, so that all of it is a function of literals. **Unknown is a value**: what cannot be known
//! is a variant in the report and an absent series on `/metrics`, never a 0.
//!
//! # Rooms
//!
//! | room | what lives there | may use |
//! | --- | --- | --- |
//! | `main.rs` | parses arguments, starts logging, runs the command, maps its error to an exit code | [`cli`], [`commands`], [`logging`], [`shutdown`] |
//! | [`cli`] | the command line's types, and its errors without secrets | clap, `secret` |
//! | [`commands`] | composition roots, one per subcommand | every room |
//! | [`config`] | the file's shape, defaults, secrets, validation | serde, `glob`, `alert`, `secret`, `server_url`, `tls` |
//! | [`secret`] | what is never shown, and what of a wrong argument may be quoted | std |
//! | [`server_url`] | the one way to read a server's URL | url, `secret` |
//! | [`tls`] | secure connections to servers, with certificates that may be rotated | rustls, tokio, `secret` |
//! | [`dial`] | a stream of bytes to where a server listens | tokio, `clock`, `server_url`, `tls` |
//! | [`glob`] | Redis' glob dialect, over bytes | std |
//! | [`snapshot`] | what a node said, typed; questions and answers | std |
//! | [`lag`] | what it means: plan, derive, marks, ages, history and status, report | `snapshot` |
//! | [`alert`] | rules over the facts of a report, and their state machine | `lag`, `snapshot`, `glob`, humantime |
//! | [`exposition`] | the report and the alerts as Prometheus text | `lag`, `alert`, `snapshot` |
//! | [`self_metrics`] | the exporter's own counters | prometheus |
//! | [`poller`] | the only room of the monitor that talks to Redis | redis, tokio, `snapshot`, `glob`, `server_url`, `dial`, `tls`, `self_metrics` and its section of `config` |
//! | [`target`] | the loop above | every room |
//! | [`notify`] | tells Alertmanager, webhooks and Slack of alerts | hyper, rustls, tokio, `alert`, `secret`, `server_url`, `dial`, `tls`, `http_client`, `self_metrics`, `shutdown`, `clock` and its section of `config` |
//! | [`http`] | a hyper server over a bound listener, TLS, authentication | hyper, rustls, tokio, `clock`, `secret`, `tls` and its section of `config` |
//! | [`http_client`] | a GET, for the commands that ask a running exporter; what an answer is quoted as | hyper, tokio, `clock`, `dial`, `secret`, `server_url`, `tls` and the URLs of `config` |
//! | [`page`] | the status page, and groups and alerts as JSON | `lag`, `alert`, `snapshot`, `glob`, serde, maud, shlex |
//! | [`terminal`] | groups and pending entries as people see them in a terminal | `page`, `lag`, ratatui, anstyle |
//! | [`state_file`] | pending and firing alerts over a restart | serde, `alert` |
//! | [`workload`] | the reference consumer and the load generator | redis, tokio, `clock`, `secret`, `server_url`, `dial`, `tls`, prometheus for metrics of their own; no room of the monitor |
//! | [`clock`] | the clocks, read at the edges only | tokio |
//! | [`logging`], [`shutdown`] | log lines to standard error; one token that tells every room to end | tracing, tokio |
//!
//! `tests/architecture.rs` holds this table.

pub mod alert;
pub mod api;
pub mod cli;

pub mod commands;
pub mod config;

pub mod exposition;

pub mod format;
pub mod http;
pub mod http_client;

pub mod logging;
pub mod notify;
pub mod page;
pub mod poller;

pub mod self_metrics;
pub mod shutdown;

pub mod monitor;
pub mod state_file;
pub mod terminal;
