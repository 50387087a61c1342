//! `streamgauge_alerts`: pending and firing alerts, like `ALERTS` of Prometheus.

use std::io::{self, Write};

use crate::alert::active::Active;
use crate::alert::state::Phase;
use crate::exposition::segment::{Compressor, Segment};
use crate::exposition::text::write_label;

/// Name of the metric.
pub const NAME: &str = "streamgauge_alerts";

/// The first labels of each series; those of the alert follow.
pub const LABELS: [&str; 2] = ["alertname", "alertstate"];

/// The two lines before its samples.
pub const HEADER: &str = "# HELP streamgauge_alerts 1 for each alert that is pending or firing.\n\
                          # TYPE streamgauge_alerts gauge\n";

/// The series of one target, written and compressed once.
#[derive(Clone, Debug, Default)]
pub struct RenderedAlerts {
    text: Vec<u8>,
    /// `None` if there is no sample.
    pub(super) segment: Option<Segment>,
}

impl RenderedAlerts {
    /// Writes and compresses the active alerts. Takes time if there are many, so it must not run on the reactor.
    #[must_use]
    pub fn new(active: &Active) -> Self {
        let mut text = Vec::new();
        for alert in active.alerts() {
            let state = if alert.state.phase == Phase::Pending { "pending" } else { "firing" };
            let mut labels = Vec::new();
            let name = alert.labels.get("alertname").map_or("", String::as_str);
            write_label("alertname", name, &mut labels);
            write_label("alertstate", state, &mut labels);
            for (name, value) in alert.labels.iter().filter(|(name, _)| *name != "alertname") {
                write_label(name, value, &mut labels);
            }
            text.extend_from_slice(NAME.as_bytes());
            text.push(b'{');
            text.append(&mut labels);
            text.extend_from_slice(b"} 1\n");
        }
        let segment = (!text.is_empty()).then(|| Compressor::default().segment(&text));
        Self { text, segment }
    }

    /// Returns true if there is no sample.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    pub(super) fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        out.write_all(&self.text)
    }
}
