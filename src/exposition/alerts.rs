//! Series that the evaluation of alerts makes: `streamgauge_alerts`, the pending and firing alerts like `ALERTS` of
//! Prometheus, and `redis_stream_group_gone`.

use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use redis_stream_core::name::Name;

use crate::alert::active::Active;
use crate::alert::state::Phase;
use crate::exposition::segment::{Compressor, Segment};
use crate::exposition::text::write_label;

/// Name of the metric of pending and firing alerts.
pub const NAME: &str = "streamgauge_alerts";

/// The first labels of each of its series; those of the alert follow.
pub const LABELS: [&str; 2] = ["alertname", "alertstate"];

/// Name of the metric of groups that were read and are gone.
pub const GROUP_GONE: &str = "redis_stream_group_gone";

/// Name of each metric, and the two lines before its samples.
pub const FAMILIES: [(&str, &str); 2] = [
    (
        NAME,
        "# HELP streamgauge_alerts 1 for each alert that is pending or firing.\n\
         # TYPE streamgauge_alerts gauge\n",
    ),
    (
        GROUP_GONE,
        "# HELP redis_stream_group_gone 1 for an hour after a group was destroyed, or deleted with its stream, that was delivered entries in the hour before; until it is back.\n\
         # TYPE redis_stream_group_gone gauge\n",
    ),
];

/// The series of one target, written and compressed once.
#[derive(Clone, Debug, Default)]
pub struct RenderedAlerts {
    /// Parallel to [`FAMILIES`].
    parts: [RenderedFamily; FAMILIES.len()],
}

#[derive(Clone, Debug, Default)]
struct RenderedFamily {
    text: Bytes,
    /// `None` if there is no sample.
    segment: Option<Segment>,
}

impl RenderedAlerts {
    /// Writes and compresses the active alerts, and the groups that are gone by key and name. Takes time if there are many,
    /// so it must not run on the reactor.
    pub fn new(active: &Active, gone: &[(Name, Name)]) -> Self {
        Self { parts: [alert_series(active), gone_series(active, gone)].map(RenderedFamily::new) }
    }

    /// Returns the same without the series of metrics that are not exported.
    pub fn exported(self: Arc<Self>, is_exported: impl Fn(&str) -> bool) -> Arc<Self> {
        let is_shown = FAMILIES.map(|(name, _)| is_exported(name));
        if is_shown.iter().all(|shown| *shown) {
            return self;
        }
        let mut rendered = (*self).clone();
        for (part, is_shown) in rendered.parts.iter_mut().zip(is_shown) {
            if !is_shown {
                *part = RenderedFamily::default();
            }
        }
        Arc::new(rendered)
    }

    pub(super) fn segment(&self, family: usize) -> Option<Segment> {
        self.parts[family].segment.clone()
    }

    pub(super) fn text(&self, family: usize) -> &[u8] {
        &self.parts[family].text
    }
}

impl RenderedFamily {
    fn new(text: Vec<u8>) -> Self {
        let segment = (!text.is_empty()).then(|| Compressor::default().segment(&text));
        Self { text: text.into(), segment }
    }
}

fn alert_series(active: &Active) -> Vec<u8> {
    let mut text = Vec::new();
    for alert in active.alerts() {
        let state = if alert.state.phase == Phase::Pending { "pending" } else { "firing" };
        let name = alert.labels.get("alertname").map_or("", String::as_str);
        let others = alert.labels.iter().filter(|(name, _)| *name != "alertname");
        let labels = [("alertname", name), ("alertstate", state)].into_iter();
        write_sample(
            NAME,
            labels.chain(others.map(|(name, value)| (name.as_str(), value.as_str()))),
            &mut text,
        );
    }
    text
}

fn gone_series(active: &Active, gone: &[(Name, Name)]) -> Vec<u8> {
    let mut text = Vec::new();
    for (stream, group) in gone {
        let subject = active.target_labels().subject(Some(&stream.text()), Some(&group.text()));
        let first = ["target", "db", "stream", "group"];
        let ordered = first.iter().filter_map(|name| subject.get_key_value(*name));
        let others = subject.iter().filter(|(name, _)| !first.contains(&name.as_str()));
        let labels = ordered.chain(others).map(|(name, value)| (name.as_str(), value.as_str()));
        write_sample(GROUP_GONE, labels, &mut text);
    }
    text
}

fn write_sample<'l>(metric: &str, labels: impl Iterator<Item = (&'l str, &'l str)>, text: &mut Vec<u8>) {
    text.extend_from_slice(metric.as_bytes());
    text.push(b'{');
    let mut written = Vec::new();
    for (name, value) in labels {
        write_label(name, value, &mut written);
    }
    text.append(&mut written);
    text.extend_from_slice(b"} 1\n");
}

/// Writes the samples of all targets for one family.
pub(super) fn write(family: usize, alerts: &[Arc<RenderedAlerts>], out: &mut dyn Write) -> io::Result<()> {
    if alerts.iter().any(|alerts| !alerts.text(family).is_empty()) {
        out.write_all(FAMILIES[family].1.as_bytes())?;
    }
    alerts.iter().try_for_each(|alerts| out.write_all(alerts.text(family)))
}
