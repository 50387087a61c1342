//! The metrics of one target.

use std::sync::{PoisonError, RwLockWriteGuard};
use std::time::Duration;

use prometheus::IntCounter;

use crate::self_metrics::labels::{Command, Limited, PollResult, Reason};
use crate::self_metrics::{SelfMetrics, forget, gauge};

/// The metrics of one target. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TargetMetrics {
    pub(super) all: SelfMetrics,
    pub(super) target: String,
    pub(super) label_values: Vec<String>,
}

impl TargetMetrics {
    /// Returns metrics that are not exported, for commands that poll without serving `/metrics`.
    pub fn unexported(target: &str) -> Self {
        let all = SelfMetrics::new(Duration::ZERO, &[]).expect("the names of the metrics are distinct");
        Self { all, target: target.to_owned(), label_values: Vec::new() }
    }

    /// Returns the metrics of the same target with other values of configured labels.
    pub fn with_labels(&self, label_values: &[&str]) -> Self {
        let label_values = label_values.iter().map(|value| (*value).to_owned()).collect();
        Self { label_values, ..self.clone() }
    }

    /// Sets all values of closed lists to 0.
    pub fn announce(&self) {
        for reason in Reason::ALL {
            self.errors(reason).inc_by(0);
        }
        for result in PollResult::ALL {
            self.polls(result).inc_by(0);
        }
        for command in Command::ALL {
            self.count_commands(command, 0);
        }
        for what in Limited::ALL {
            self.set_limited(what, 0);
        }
        self.count_entries(0);
        self.count_reply_bytes(0);
        self.set_discovered_streams(0);
        self.set_up(false);
    }

    /// Removes all series of the target.
    pub fn forget(&self) {
        let SelfMetrics { target_up, redis_up, node_up, discovered_streams, limited, .. } = &self.all;
        for gauges in [target_up, redis_up, node_up, discovered_streams, limited] {
            forget(gauges, "target", &self.target);
        }
        let SelfMetrics { polls, poll_errors, redis_commands, redis_reply_bytes, counted_entries, .. } =
            &self.all;
        for counters in [polls, poll_errors, redis_commands, redis_reply_bytes, counted_entries] {
            forget(counters, "target", &self.target);
        }
        forget(&self.all.poll_duration, "target", &self.target);
        forget(&self.all.last_successful_poll, "target", &self.target);
        forget(&self.all.oldest_reading, "target", &self.target);
    }

    /// Returns the label values of a series: the target, `own`, and the configured ones.
    fn values<'a>(&'a self, own: Option<&'a str>) -> Vec<&'a str> {
        let configured = self.label_values.iter().map(String::as_str);
        std::iter::once(self.target.as_str()).chain(own).chain(configured).collect()
    }

    fn errors(&self, reason: Reason) -> IntCounter {
        self.all.poll_errors.with_label_values(&self.values(Some(reason.as_str())))
    }

    fn polls(&self, result: PollResult) -> IntCounter {
        self.all.polls.with_label_values(&self.values(Some(result.as_str())))
    }

    /// Sets whether every node answered in the last poll.
    pub fn set_up(&self, up: bool) {
        self.all.redis_up.with_label_values(&self.values(None)).set(i64::from(up));
        self.all.target_up.with_label_values(&self.values(None)).set(i64::from(up));
    }

    /// Sets whether a node answered in the last poll.
    pub fn set_node_up(&self, node: &str, up: bool) {
        self.all.node_up.with_label_values(&self.values(Some(node))).set(i64::from(up));
    }

    /// Removes a node that no longer belongs to the target.
    pub fn forget_node(&self, node: &str) {
        // A node that has never answered has no series.
        let _ = self.all.node_up.remove_label_values(&self.values(Some(node)));
    }

    /// Keeps pages from being gathered until the guard is dropped, so that none shows a part of the outcome of a poll.
    pub fn publication(&self) -> RwLockWriteGuard<'_, ()> {
        self.all.publication.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records the end of a poll.
    pub fn observe_poll(&self, result: PollResult, took: Duration) {
        self.polls(result).inc();
        self.all.poll_duration.with_label_values(&self.values(None)).observe(took.as_secs_f64());
    }

    /// Sets the time of the last poll that read something, since the Unix epoch.
    pub fn set_last_successful_poll(&self, at: Duration) {
        self.all.last_successful_poll.with_label_values(&self.values(None)).set(at.as_secs_f64());
    }

    /// Sets the time of the reading whose values are the oldest, since the Unix epoch; `None` if there are no values.
    pub fn set_oldest_reading(&self, at: Option<Duration>) {
        let values = self.values(None);
        match at {
            Some(at) => self.all.oldest_reading.with_label_values(&values).set(at.as_secs_f64()),
            // Without values it has no series.
            None => drop(self.all.oldest_reading.remove_label_values(&values)),
        }
    }

    /// Counts errors of reading.
    pub fn count_errors(&self, reason: Reason, by: u64) {
        // The series is there from the start.
        if by > 0 {
            self.errors(reason).inc_by(by);
        }
    }

    /// Counts commands sent.
    pub fn count_commands(&self, command: Command, by: u64) {
        self.all.redis_commands.with_label_values(&self.values(Some(command.as_str()))).inc_by(by);
    }

    /// Returns the number of commands sent so far, and of bytes received.
    pub fn traffic(&self) -> (u64, u64) {
        let sent = |command: Command| {
            self.all.redis_commands.with_label_values(&self.values(Some(command.as_str()))).get()
        };
        let received = self.all.redis_reply_bytes.with_label_values(&self.values(None)).get();
        (Command::ALL.into_iter().map(sent).sum(), received)
    }

    /// Counts bytes received.
    pub fn count_reply_bytes(&self, by: u64) {
        self.all.redis_reply_bytes.with_label_values(&self.values(None)).inc_by(by);
    }

    /// Sets the number of polled streams.
    pub fn set_discovered_streams(&self, streams: usize) {
        self.all.discovered_streams.with_label_values(&self.values(None)).set(gauge(streams));
    }

    /// Sets the number of streams, groups or consumers left out by a limit.
    pub fn set_limited(&self, what: Limited, left_out: usize) {
        self.all.limited.with_label_values(&self.values(Some(what.as_str()))).set(gauge(left_out));
    }

    /// Counts entries read to count lag.
    pub fn count_entries(&self, by: u64) {
        self.all.counted_entries.with_label_values(&self.values(None)).inc_by(by);
    }
}
