//! What the task of a target publishes: all that readers ever see of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::exposition::render::Rendered;
use crate::monitor::alerting::Alerts;
use crate::page::trail::Trail;
use redis_stream_lag::report::Report;

/// What readers see of a target.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Whether it was polled, or failed to be, at least once.
    pub was_tried: bool,
    /// Whether it answered in the last poll, all the time that the poll had.
    pub is_up: bool,
    /// What the last poll failed of, or was cut off by; `None` if it read all.
    pub problem: Option<String>,
    /// When the last poll that read anything ended, since the Unix epoch; `None` before the first.
    pub last_read: Option<Duration>,
    /// The last report; `None` before the first.
    pub published: Option<Published>,
    /// The recent past of the groups, as of that report.
    pub trail: Arc<Trail>,
    /// How a person reaches it: redis-cli, and its arguments before a command.
    pub redis_cli: Arc<[String]>,
    /// From one poll to the next.
    pub interval: Duration,
    /// What is pending or firing, whatever the age of the report.
    pub alerts: Alerts,
}

/// A report that readers may serve.
#[derive(Clone, Debug)]
pub struct Published {
    /// The report itself.
    pub report: Arc<Report>,
    /// Its series, written and compressed.
    pub rendered: Arc<Rendered>,
    /// From then on it is too old to be served.
    pub expires: Instant,
}

impl State {
    /// The report, unless it is too old at `now`.
    #[must_use]
    pub fn fresh(&self, now: Instant) -> Option<&Published> {
        self.published.as_ref().filter(|published| now < published.expires)
    }
}
