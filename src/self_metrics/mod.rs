//! The exporter's own metrics, in a `prometheus` registry. Label values are closed lists, and each is 0 from the start,
//! so that a rate is right from the first event.

pub mod labels;
pub mod notifier;
#[cfg(target_os = "linux")]
mod process;
mod register;
pub mod target;

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

use crate::self_metrics::labels::NotificationResult;
use crate::self_metrics::notifier::NotifierMetrics;
#[cfg(target_os = "linux")]
use crate::self_metrics::process::ProcessCollector;
use crate::self_metrics::register::Register;
use crate::self_metrics::target::TargetMetrics;

/// The exporter's own metrics. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SelfMetrics {
    registry: Registry,
    names: Arc<[String]>,
    target_up: IntGaugeVec,
    /// The same value as `target_up` under the name of redis_exporter.
    redis_up: IntGaugeVec,
    node_up: IntGaugeVec,
    poll_duration: HistogramVec,
    polls: IntCounterVec,
    last_successful_poll: GaugeVec,
    oldest_reading: GaugeVec,
    poll_errors: IntCounterVec,
    redis_commands: IntCounterVec,
    redis_reply_bytes: IntCounterVec,
    discovered_streams: IntGaugeVec,
    limited: IntGaugeVec,
    counted_entries: IntCounterVec,
    http_requests: IntCounterVec,
    notifications: IntCounterVec,
    notification_queue_length: IntGaugeVec,
    dropped_log_lines: IntCounter,
    tasks: IntGauge,
    reloaded: IntGauge,
    reloaded_at: Gauge,
    /// Held while the outcome of a poll is published, and while a page is gathered.
    publication: Arc<RwLock<()>>,
}

impl SelfMetrics {
    /// Registers all metrics. `label_names` are those that the configuration adds to every series of a target.
    ///
    /// # Errors
    ///
    /// Two metrics have the same name.
    pub fn new(started: Duration, label_names: &[&str]) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let register = Register { registry: &registry, label_names, names: RefCell::default() };
        let mut metrics = Self {
            target_up: register.gauges(
                "streamgauge_target_up",
                "1 if every node of the target answered in the last poll, 0 if not.",
                &["target"],
            )?,
            redis_up: IntGaugeVec::new(
                Opts::new("redis_up", "1 if every node of the target answered in the last poll, 0 if not."),
                &register.labels(&["target"]),
            )?,
            node_up: register.gauges(
                "streamgauge_node_up",
                "1 if the node answered in the last poll, 0 if not.",
                &["target", "node"],
            )?,
            poll_duration: register.add(HistogramVec::new(
                HistogramOpts::new(
                    "streamgauge_poll_duration_seconds",
                    "Time that a poll of the target took.",
                )
                .buckets(vec![0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]),
                &register.labels(&["target"]),
            )?)?,
            polls: register.counters(
                "streamgauge_polls_total",
                "Polls by how they ended: ok, partial (cut off by the deadline) or failed.",
                &["target", "result"],
            )?,
            last_successful_poll: register.add(GaugeVec::new(
                Opts::new(
                    "streamgauge_last_successful_poll_timestamp_seconds",
                    "Unix time of the last poll that read anything; absent before the first.",
                ),
                &register.labels(&["target"]),
            )?)?,
            oldest_reading: register.add(GaugeVec::new(
                Opts::new(
                    "streamgauge_oldest_reading_timestamp_seconds",
                    "Unix time at which the least recently read stream was read; absent while no stream has values.",
                ),
                &register.labels(&["target"]),
            )?)?,
            poll_errors: register.counters(
                "streamgauge_poll_errors_total",
                "What could not be read, by reason: of a whole target, of a stream or of a group.",
                &["target", "reason"],
            )?,
            redis_commands: register.counters(
                "streamgauge_redis_commands_total",
                "Commands sent to the target.",
                &["target", "command"],
            )?,
            redis_reply_bytes: register.counters(
                "streamgauge_redis_reply_bytes_total",
                "Bytes received from the target.",
                &["target"],
            )?,
            discovered_streams: register.gauges(
                "streamgauge_discovered_streams",
                "Streams of the target that are polled, found by globs or configured by key.",
                &["target"],
            )?,
            limited: register.gauges(
                "streamgauge_limited",
                "Streams, groups and consumers that the limits of the target leave out now.",
                &["target", "what"],
            )?,
            counted_entries: register.counters(
                "streamgauge_counted_entries_total",
                "Entries that were read to count lag.",
                &["target"],
            )?,
            http_requests: register.counters(
                "streamgauge_http_requests_total",
                "HTTP requests answered, by route and status code.",
                &["route", "code"],
            )?,
            notifications: register.counters(
                "streamgauge_notifications_total",
                "Alerts by the result of sending them: delivered, failed (to be retried), rejected or dropped.",
                &["notifier", "result"],
            )?,
            notification_queue_length: register.gauges(
                "streamgauge_notification_queue_length",
                "Alerts that wait in the queues of the notifier.",
                &["notifier"],
            )?,
            dropped_log_lines: register.add(IntCounter::new(
                "streamgauge_log_lines_dropped_total",
                "Log lines dropped because standard error was not read.",
            )?)?,
            tasks: register.add(IntGauge::new(
                "streamgauge_tasks",
                "Tasks of this process that have not ended: of targets, connections and receivers.",
            )?)?,
            reloaded: register.add(IntGauge::new(
                "streamgauge_config_last_reload_successful",
                "1 if the last attempt to read the configuration succeeded, 0 if not.",
            )?)?,
            reloaded_at: register.add(Gauge::new(
                "streamgauge_config_last_reload_success_timestamp_seconds",
                "Unix time when the configuration was last read successfully.",
            )?)?,
            registry: registry.clone(),
            names: Arc::default(),
            publication: Arc::default(),
        };
        let build_info =
            register.gauges("streamgauge_build_info", "1, with the version as a label.", &["version"])?;
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        #[cfg(target_os = "linux")]
        {
            let process = ProcessCollector::new(started)?;
            register.note_names(&process);
            registry.register(Box::new(process))?;
        }
        register.note_names(&metrics.redis_up);
        metrics.names = register.names.take().into();
        metrics.note_reload(started);
        Ok(metrics)
    }

    /// Returns the names of all metrics, with `redis_up`.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Exports `redis_up` too.
    ///
    /// # Errors
    ///
    /// It is exported already.
    pub fn add_redis_up(&self) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(self.redis_up.clone()))
    }

    /// Waits until no outcome of a poll is being published. None is while the guard lives, so that what is read meanwhile is
    /// of the same polls.
    pub fn between_publications(&self) -> RwLockReadGuard<'_, ()> {
        self.publication.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Records that a configuration is in force since `at`, in time since the Unix epoch.
    pub fn note_reload(&self, at: Duration) {
        self.reloaded.set(1);
        self.reloaded_at.set(at.as_secs_f64());
    }

    /// Records that a new configuration could not be used.
    pub fn note_failed_reload(&self) {
        self.reloaded.set(0);
    }

    /// Returns the counter of dropped log lines.
    pub fn dropped_log_lines(&self) -> IntCounter {
        self.dropped_log_lines.clone()
    }

    /// Sets the number of running tasks.
    pub fn set_tasks(&self, tasks: usize) {
        self.tasks.set(gauge(tasks));
    }

    /// Adds a route with the value 0.
    pub fn note_route(&self, route: &str) {
        self.http_requests.with_label_values(&[route, "200"]).inc_by(0);
    }

    /// Counts an HTTP request.
    pub fn count_request(&self, route: &str, code: u16) {
        self.http_requests.with_label_values(&[route, &code.to_string()]).inc();
    }

    /// Returns the metrics of one target, with all values of closed lists at 0. `label_values` are those of the
    /// configuration, in the order of their names.
    pub fn for_target(&self, target: &str, label_values: &[&str]) -> TargetMetrics {
        let label_values = label_values.iter().map(|value| (*value).to_owned()).collect();
        let metrics = TargetMetrics { all: self.clone(), target: target.to_owned(), label_values };
        metrics.announce();
        metrics
    }

    /// Returns the metrics of one notifier, with all results at 0.
    pub fn for_notifier(&self, notifier: &str) -> NotifierMetrics {
        let metrics = NotifierMetrics { all: self.clone(), notifier: notifier.into() };
        for result in NotificationResult::ALL {
            metrics.count(result, 0);
        }
        metrics.add_to_queue_length(0);
        metrics
    }

    /// Removes all series of a notifier.
    pub fn forget_notifier(&self, notifier: &str) {
        forget(&self.notifications, "notifier", notifier);
        forget(&self.notification_queue_length, "notifier", notifier);
    }

    /// Renders the metrics as Prometheus text, without those whose name `is_excluded`. With `target`, only series of
    /// that target.
    ///
    /// # Errors
    ///
    /// The text cannot be encoded.
    pub fn render(
        &self,
        target: Option<&str>,
        is_excluded: impl Fn(&str) -> bool,
    ) -> Result<Vec<u8>, prometheus::Error> {
        let mut families = self.registry.gather();
        families.retain(|family| !is_excluded(family.name()));
        if let Some(target) = target {
            families.iter_mut().for_each(|family| keep_target(family, target));
        }
        // The encoder refuses a family without samples.
        families.retain(|family| !family.get_metric().is_empty());
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }
}

fn keep_target(family: &mut MetricFamily, target: &str) {
    family.mut_metric().retain(|metric| {
        metric.get_label().iter().any(|label| label.name() == "target" && label.value() == target)
    });
}

/// Removes the series that have a value of a label.
fn forget<B: MetricVecBuilder>(metrics: &MetricVec<B>, label: &str, value: &str) {
    for metric in metrics.collect().iter().flat_map(MetricFamily::get_metric) {
        let labels: HashMap<_, _> =
            metric.get_label().iter().map(|label| (label.name(), label.value())).collect();
        if labels.get(label) == Some(&value) {
            // Fails only if another thread has removed it.
            let _ = metrics.remove(&labels);
        }
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::self_metrics::labels::PollResult;

    #[test]
    fn closed_lists_are_there_as_0_from_the_start() {
        let metrics = SelfMetrics::new(Duration::ZERO, &["team"]).unwrap();
        metrics.for_target("a", &["x"]);
        metrics.for_notifier("chat");
        let text = String::from_utf8(metrics.render(None, |_| false).unwrap()).unwrap();
        for line in [
            r#"streamgauge_notifications_total{notifier="chat",result="rejected"} 0"#,
            r#"streamgauge_notification_queue_length{notifier="chat"} 0"#,
            r#"streamgauge_poll_errors_total{reason="role",target="a",team="x"} 0"#,
            r#"streamgauge_polls_total{result="partial",target="a",team="x"} 0"#,
            r#"streamgauge_redis_commands_total{command="xrange",target="a",team="x"} 0"#,
            r#"streamgauge_limited{target="a",team="x",what="groups"} 0"#,
            r#"streamgauge_target_up{target="a",team="x"} 0"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        assert!(!text.contains("last_successful_poll_timestamp"), "unknown is absent: {text}");
    }

    #[test]
    fn what_is_forgotten_has_no_series_left() {
        let metrics = SelfMetrics::new(Duration::ZERO, &["team"]).unwrap();
        metrics.add_redis_up().unwrap();
        let (a, b) = (metrics.for_target("a", &["x"]), metrics.for_target("b", &["x"]));
        for target in [&a, &b] {
            target.set_node_up("n:1", true);
            target.observe_poll(PollResult::Ok, Duration::ZERO);
            target.set_last_successful_poll(Duration::ZERO);
        }
        for name in ["n", "o"] {
            metrics.for_notifier(name);
        }
        let text = || String::from_utf8(metrics.render(None, |_| false).unwrap()).unwrap();
        let of_b = text().matches(r#"target="b""#).count();
        a.with_labels(&["y"]).set_up(true);
        a.forget();
        metrics.forget_notifier("n");
        let text = text();
        assert!(!text.contains(r#"target="a""#) && !text.contains(r#"notifier="n""#), "{text}");
        assert_eq!(text.matches(r#"target="b""#).count(), of_b);
        assert!(text.contains(r#"notifier="o""#), "{text}");
    }

    #[test]
    fn one_target_can_be_rendered_alone_and_names_can_be_left_out() {
        let metrics = SelfMetrics::new(Duration::ZERO, &["team"]).unwrap();
        metrics.for_target("a", &["x"]);
        metrics.for_target("b", &["y"]);
        let text = metrics.render(Some("a"), |name| name == "streamgauge_polls_total").unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(r#"target="a""#), "{text}");
        for absent in [r#"target="b""#, "build_info", "streamgauge_polls_total"] {
            assert!(!text.contains(absent), "{absent} in {text}");
        }
    }
}
