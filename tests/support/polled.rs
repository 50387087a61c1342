//! A target inside the test, which polls when it is told to.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use streamgauge::config::Config;
use streamgauge::config::load::from_text;
use streamgauge::exposition::render::FamilySelection;
use streamgauge::monitor::Target;
use streamgauge::monitor::state::State;
use streamgauge::self_metrics::SelfMetrics;
use tokio::sync::watch;

use super::metrics::parse;
use super::server::Server;

/// A target that polls when it is told to, and its own metrics.
pub struct Polled {
    /// The target.
    pub target: Target,
    metrics: SelfMetrics,
}

impl Polled {
    /// The streams of `server` with these keys or globs; `poll` is further YAML of the section `poll`.
    pub fn new(server: &Server, streams: &[&str], poll: &str) -> Self {
        Self::with_role(server, "master", streams, poll)
    }

    /// The same of a server that is to be a `master` or a `replica`.
    pub fn with_role(server: &Server, role: &str, streams: &[&str], poll: &str) -> Self {
        let streams: Vec<_> = streams.iter().map(|key| format!("{{key: '{key}'}}")).collect();
        let text = format!(
            "{{poll: {{discovery_interval: 1ms, {poll}}}, targets: [{{url: '{}', role: {role}, streams: [{}]}}]}}",
            server.url(),
            streams.join(", ")
        );
        let Config { poll, mut targets, .. } = from_text("test", &text, Path::new("."), &|_| None).unwrap();
        let layout = Arc::new(FamilySelection::new(|_| true, Duration::MAX));
        let metrics = SelfMetrics::new(Duration::ZERO, &[]).unwrap();
        let state = Arc::new(watch::Sender::new(State::default()));
        let target = Target::new(targets.remove(0), poll, layout, metrics.for_target("t", &[]), state);
        Self { target, metrics }
    }

    /// The value of one of the exporter's own series, without the label `target`: `redis_commands_total` with
    /// `command="xrange"`.
    pub fn own(&self, name: &str, label: &str) -> f64 {
        let text = String::from_utf8(self.metrics.render(None, |_| false).unwrap()).unwrap();
        let labels =
            if label.is_empty() { "target=\"t\"".to_owned() } else { format!("{label},target=\"t\"") };
        parse(&text)[&format!("streamgauge_{name}{{{labels}}}")]
    }
}
