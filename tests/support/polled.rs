//! A poller inside the test, which polls when the test asks for it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redis_stream_lag::report::Report;
use streamgauge::config::Config;
use streamgauge::config::load::from_text;
use streamgauge::poller::error::PollError;
use streamgauge::poller::poll::{PollOutcome, Poller};
use streamgauge::self_metrics::SelfMetrics;

use super::metrics::parse;
use super::server::Server;

/// A poller, and its own metrics.
pub struct Polled {
    poller: Poller,
    metrics: SelfMetrics,
}

impl Polled {
    /// Polls the streams of `server` with these keys or globs; `poll` is further YAML of the section `poll`.
    pub fn new(server: &Server, streams: &[&str], poll: &str) -> Self {
        Self::with_role(server, "master", streams, poll)
    }

    /// Polls a server that must be a `master` or a `replica`.
    pub fn with_role(server: &Server, role: &str, streams: &[&str], poll: &str) -> Self {
        let streams: Vec<_> = streams.iter().map(|key| format!("{{key: '{key}'}}")).collect();
        let target = format!("url: '{}', role: {role}, streams: [{}]", server.url(), streams.join(", "));
        Self::of_target(&target, poll)
    }

    /// Polls a target of this YAML.
    pub fn of_target(target: &str, poll: &str) -> Self {
        let text = format!("{{poll: {{discovery_interval: 1ms, {poll}}}, targets: [{{{target}}}]}}");
        let Config { poll, mut targets, .. } = from_text("test", &text, Path::new("."), &|_| None).unwrap();
        let metrics = SelfMetrics::new(Duration::ZERO, &[]).unwrap();
        let poller = Poller::new(Arc::new(targets.remove(0)), poll, metrics.for_target("t", &[]));
        Self { poller, metrics }
    }

    /// Polls once.
    pub async fn poll(&mut self) -> Result<Arc<Report>, PollError> {
        self.poll_whole().await.map(|polled| polled.report)
    }

    /// Polls once, and returns all that a poll tells.
    pub async fn poll_whole(&mut self) -> PollOutcome {
        let polled = self.poller.poll().await;
        self.poller.read_later_pages().await;
        polled
    }

    /// Returns the value of one of the exporter's own series, without the label `target`: `redis_commands_total` with
    /// `command="xrange"`.
    pub fn own(&self, name: &str, label: &str) -> f64 {
        let text = String::from_utf8(self.metrics.render(None, |_| false).unwrap()).unwrap();
        let labels =
            if label.is_empty() { "target=\"t\"".to_owned() } else { format!("{label},target=\"t\"") };
        parse(&text)[&format!("streamgauge_{name}{{{labels}}}")]
    }
}
