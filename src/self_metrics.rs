//! The exporter's own counters, in a `prometheus` registry. Values of labels are closed lists, each there as
//! 0 from the start, so that a rate over them is right from the first event on.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::proto::MetricFamily;
use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec,
    Opts, Registry, TextEncoder,
};

/// Why something could not be read: the label `reason` of `streamgauge_poll_errors_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The host name does not resolve.
    Resolve,
    /// No connection could be made.
    Connect,
    /// The connection broke.
    Io,
    /// The deadline passed.
    Timeout,
    /// The password was refused, or one is needed.
    Auth,
    /// The password file cannot be read.
    PasswordFile,
    /// The ACL refuses a command or a key.
    Denied,
    /// The server is loading its dataset.
    Loading,
    /// The node is not what the configuration wants it to be (master or replica).
    Role,
    /// Another error reply of the server.
    Server,
    /// A reply that does not have the expected form.
    Protocol,
    /// A key that is not there.
    MissingKey,
    /// A key that holds another type.
    WrongType,
    /// A group that is not there.
    MissingGroup,
}

impl Reason {
    /// Every one of them.
    pub const ALL: [Self; 14] = [
        Self::Resolve,
        Self::Connect,
        Self::Io,
        Self::Timeout,
        Self::Auth,
        Self::PasswordFile,
        Self::Denied,
        Self::Loading,
        Self::Role,
        Self::Server,
        Self::Protocol,
        Self::MissingKey,
        Self::WrongType,
        Self::MissingGroup,
    ];

    /// The value of the label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Resolve => "resolve",
            Self::Connect => "connect",
            Self::Io => "io",
            Self::Timeout => "timeout",
            Self::Auth => "auth",
            Self::PasswordFile => "password_file",
            Self::Denied => "denied",
            Self::Loading => "loading",
            Self::Role => "role",
            Self::Server => "server",
            Self::Protocol => "protocol",
            Self::MissingKey => "missing_key",
            Self::WrongType => "wrong_type",
            Self::MissingGroup => "missing_group",
        }
    }
}

/// How a poll ended: the label `result` of `streamgauge_polls_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollResult {
    /// Everything was read.
    Ok,
    /// The deadline cut it off; the rest goes first in the next poll.
    Partial,
    /// Nothing was read.
    Failed,
}

impl PollResult {
    const ALL: [Self; 3] = [Self::Ok, Self::Partial, Self::Failed];

    /// The value of the label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Partial => "partial",
            Self::Failed => "failed",
        }
    }
}

/// What a limit leaves out: the label `what` of `streamgauge_limited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limited {
    /// Streams beyond `limits.streams`.
    Streams,
    /// Groups beyond `limits.groups_per_stream`.
    Groups,
    /// Consumers of groups that have more than `limits.consumers_per_group`.
    Consumers,
}

impl Limited {
    const ALL: [Self; 3] = [Self::Streams, Self::Groups, Self::Consumers];

    /// The value of the label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Streams => "streams",
            Self::Groups => "groups",
            Self::Consumers => "consumers",
        }
    }
}

/// What is sent to Redis: the label `command` of `streamgauge_redis_commands_total`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// AUTH, on connecting.
    Auth,
    /// CLIENT NO-TOUCH, on connecting.
    ClientNoTouch,
    /// HELLO, once per poll: it tells the role.
    Hello,
    /// SCAN.
    Scan,
    /// SELECT, on connecting, where the database is not 0.
    Select,
    /// TIME, once per pipeline.
    Time,
    /// XINFO CONSUMERS.
    XinfoConsumers,
    /// XINFO GROUPS.
    XinfoGroups,
    /// XINFO STREAM.
    XinfoStream,
    /// XPENDING.
    Xpending,
    /// XRANGE.
    Xrange,
}

impl Command {
    const ALL: [Self; 11] = [
        Self::Auth,
        Self::ClientNoTouch,
        Self::Hello,
        Self::Scan,
        Self::Select,
        Self::Time,
        Self::XinfoConsumers,
        Self::XinfoGroups,
        Self::XinfoStream,
        Self::Xpending,
        Self::Xrange,
    ];

    /// The value of the label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auth => "auth",
            Self::ClientNoTouch => "client_no_touch",
            Self::Hello => "hello",
            Self::Scan => "scan",
            Self::Select => "select",
            Self::Time => "time",
            Self::XinfoConsumers => "xinfo_consumers",
            Self::XinfoGroups => "xinfo_groups",
            Self::XinfoStream => "xinfo_stream",
            Self::Xpending => "xpending",
            Self::Xrange => "xrange",
        }
    }
}

/// All of the exporter's own metrics. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SelfMetrics {
    registry: Registry,
    target_up: IntGaugeVec,
    node_up: IntGaugeVec,
    poll_duration: HistogramVec,
    polls: IntCounterVec,
    last_successful_poll: GaugeVec,
    poll_errors: IntCounterVec,
    redis_commands: IntCounterVec,
    redis_reply_bytes: IntCounterVec,
    discovered_streams: IntGaugeVec,
    limited: IntGaugeVec,
    counted_entries: IntCounterVec,
    http_requests: IntCounterVec,
}

impl SelfMetrics {
    /// Registers all of them.
    ///
    /// # Errors
    ///
    /// If two of them had the same name.
    pub fn new(started: Duration) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let register = Register(&registry);
        let metrics = Self {
            target_up: register.gauges(
                "streamgauge_target_up",
                "1 if every node of the target answered in the last poll, 0 if not.",
                &["target"],
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
                &["target"],
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
                &["target"],
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
            registry: registry.clone(),
        };
        register.process(started)?;
        Ok(metrics)
    }

    /// Makes a route present, as 0.
    pub fn note_route(&self, route: &str) {
        self.http_requests.with_label_values(&[route, "200"]).inc_by(0);
    }

    /// Counts an HTTP request.
    pub fn count_request(&self, route: &str, code: u16) {
        self.http_requests.with_label_values(&[route, itoa::Buffer::new().format(code)]).inc();
    }

    /// The metrics of one target, with every value of every closed list present as 0.
    pub fn for_target(&self, target: &str) -> TargetMetrics {
        let metrics = TargetMetrics { all: self.clone(), target: target.to_owned() };
        for reason in Reason::ALL {
            metrics.count_errors(reason, 0);
        }
        for result in PollResult::ALL {
            self.polls.with_label_values(&[target, result.as_str()]).inc_by(0);
        }
        for command in Command::ALL {
            metrics.count_commands(command, 0);
        }
        for what in Limited::ALL {
            metrics.set_limited(what, 0);
        }
        metrics.count_entries(0);
        metrics.reply_bytes().inc_by(0);
        metrics.set_discovered_streams(0);
        metrics.set_up(false);
        metrics
    }

    /// All of them as Prometheus text, without those that `is_excluded` by name. With `target`, only series
    /// that carry this target's label.
    ///
    /// # Errors
    ///
    /// If the text cannot be written; never into memory.
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

/// The metrics of one target. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TargetMetrics {
    all: SelfMetrics,
    target: String,
}

impl TargetMetrics {
    /// Whether every node answered in the last poll.
    pub fn set_up(&self, up: bool) {
        self.all.target_up.with_label_values(&[&self.target]).set(i64::from(up));
    }

    /// Whether this node answered in the last poll.
    pub fn set_node_up(&self, node: &str, up: bool) {
        self.all.node_up.with_label_values(&[self.target.as_str(), node]).set(i64::from(up));
    }

    /// Notes a poll that is over.
    pub fn observe_poll(&self, result: PollResult, took: Duration) {
        self.all.polls.with_label_values(&[self.target.as_str(), result.as_str()]).inc();
        self.all.poll_duration.with_label_values(&[&self.target]).observe(took.as_secs_f64());
    }

    /// Notes when the last poll read something, as the time since the Unix epoch.
    pub fn set_last_successful_poll(&self, at: Duration) {
        self.all.last_successful_poll.with_label_values(&[&self.target]).set(at.as_secs_f64());
    }

    /// Counts what could not be read.
    pub fn count_errors(&self, reason: Reason, by: u64) {
        self.all.poll_errors.with_label_values(&[self.target.as_str(), reason.as_str()]).inc_by(by);
    }

    /// Counts commands sent.
    pub fn count_commands(&self, command: Command, by: u64) {
        self.all.redis_commands.with_label_values(&[self.target.as_str(), command.as_str()]).inc_by(by);
    }

    /// The counter of bytes received.
    #[must_use]
    pub fn reply_bytes(&self) -> IntCounter {
        self.all.redis_reply_bytes.with_label_values(&[&self.target])
    }

    /// How many streams are polled.
    pub fn set_discovered_streams(&self, streams: usize) {
        self.all.discovered_streams.with_label_values(&[&self.target]).set(gauge(streams));
    }

    /// How much a limit leaves out.
    pub fn set_limited(&self, what: Limited, left_out: usize) {
        self.all.limited.with_label_values(&[self.target.as_str(), what.as_str()]).set(gauge(left_out));
    }

    /// Counts entries that were read to count lag.
    pub fn count_entries(&self, by: u64) {
        self.all.counted_entries.with_label_values(&[&self.target]).inc_by(by);
    }
}

fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Makes metrics and registers them.
struct Register<'a>(&'a Registry);

impl Register<'_> {
    fn add<C: Collector + Clone + 'static>(&self, collector: C) -> Result<C, prometheus::Error> {
        self.0.register(Box::new(collector.clone()))?;
        Ok(collector)
    }

    fn gauges(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntGaugeVec, prometheus::Error> {
        self.add(IntGaugeVec::new(Opts::new(name, help), labels)?)
    }

    fn counters(&self, name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, prometheus::Error> {
        self.add(IntCounterVec::new(Opts::new(name, help), labels)?)
    }

    fn process(&self, started: Duration) -> Result<(), prometheus::Error> {
        let build_info =
            self.gauges("streamgauge_build_info", "1, with the version as a label.", &["version"])?;
        build_info.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let reloaded = self.add(IntGauge::new(
            "streamgauge_config_last_reload_successful",
            "1 if the last attempt to read the configuration succeeded, 0 if not.",
        )?)?;
        reloaded.set(1);
        let reloaded_at = self.add(Gauge::new(
            "streamgauge_config_last_reload_success_timestamp_seconds",
            "Unix time when the configuration was last read successfully.",
        )?)?;
        reloaded_at.set(started.as_secs_f64());
        #[cfg(target_os = "linux")]
        self.0.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closed_lists_are_there_as_0_from_the_start() {
        let metrics = SelfMetrics::new(Duration::ZERO).unwrap();
        metrics.for_target("a");
        let text = String::from_utf8(metrics.render(None, |_| false).unwrap()).unwrap();
        for line in [
            r#"streamgauge_poll_errors_total{reason="role",target="a"} 0"#,
            r#"streamgauge_polls_total{result="partial",target="a"} 0"#,
            r#"streamgauge_redis_commands_total{command="xrange",target="a"} 0"#,
            r#"streamgauge_limited{target="a",what="groups"} 0"#,
            r#"streamgauge_target_up{target="a"} 0"#,
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        assert!(!text.contains("last_successful_poll_timestamp"), "unknown is absent: {text}");
    }

    #[test]
    fn one_target_can_be_rendered_alone_and_names_can_be_left_out() {
        let metrics = SelfMetrics::new(Duration::ZERO).unwrap();
        metrics.for_target("a");
        metrics.for_target("b");
        let text = metrics.render(Some("a"), |name| name == "streamgauge_polls_total").unwrap();
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains(r#"target="a""#), "{text}");
        for absent in [r#"target="b""#, "build_info", "streamgauge_polls_total"] {
            assert!(!text.contains(absent), "{absent} in {text}");
        }
    }
}
