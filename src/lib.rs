//! A Prometheus exporter and alerting sidecar for Redis and Valkey Streams: how far each consumer group is behind, and
//! what is stuck.
//!
//! # Flow
//!
//! Data flows one way, from Redis to the reader. A [`Monitor`] per target calls [`Poller::poll`] on schedule, which runs
//! the first four steps:
//!
//! | step | returns | |
//! | --- | --- | --- |
//! | `Servers::read` | [`StreamReading`]s | I/O: `XINFO` of streams, groups and consumers, in pipelines; [`PollReadings::add`] takes them as they come, and derives streams without a question |
//! | [`Derivation::questions`] | [`Question`]s | pure: "the oldest pending entry", "the entries between two IDs" |
//! | `Servers::ask` | [`Answer`]s | I/O: all questions share pipelines |
//! | [`Derivation::answer`], [`Derivation::close`] | [`Report`] | pure: lag, bounds, ages, losses, status |
//! | [`Evaluator::step`] | [`Notification`]s | pure: alerts that fire or resolve |
//! | [`Handle::send`] | | a bounded queue and a send loop per receiver |
//! | a `watch` channel of [`TargetState`] | | `/metrics`, pages and JSON only read the newest report |
//!
//! A value that cannot be known is a variant in the report and an absent series on `/metrics`, never a 0. The pure
//! steps know no Redis, no clock and no HTTP: all of them are functions of literals in tests.
//!
//! `ARCHITECTURE.md` lists the modules and what each may import. The pages in `docs/`, which `make book` builds as a
//! book, are for users: `docs/lag.md` on the numbers, `docs/configuration.md` on the keys, `docs/cli.md` on the commands.
//!
//! [`Monitor`]: monitor::Monitor
//! [`Poller::poll`]: poller::poll::Poller::poll
//! [`StreamReading`]: redis_stream_lag::snapshot::StreamReading
//! [`PollReadings::add`]: redis_stream_lag::poll_readings::PollReadings::add
//! [`Derivation::questions`]: redis_stream_lag::derivation::Derivation::questions
//! [`Derivation::answer`]: redis_stream_lag::derivation::Derivation::answer
//! [`Derivation::close`]: redis_stream_lag::derivation::Derivation::close
//! [`Question`]: redis_stream_lag::question::Question
//! [`Answer`]: redis_stream_lag::question::Answer
//! [`Report`]: redis_stream_lag::report::Report
//! [`Evaluator::step`]: alert::evaluator::Evaluator::step
//! [`Notification`]: alert::notification::Notification
//! [`Handle::send`]: notify::Handle::send
//! [`TargetState`]: monitor::published::TargetState

pub mod alert;
pub mod api;
pub mod cli;
pub mod commands;
pub mod config;
pub mod diagnosis;
pub mod exposition;
pub mod format;
pub mod http;
pub mod http_client;
pub mod http_url;
pub mod logging;
pub mod monitor;
pub mod notify;
pub mod page;
pub mod poller;
pub mod self_metrics;
pub mod shutdown;
pub mod state_file;
pub mod terminal;
pub mod values;
