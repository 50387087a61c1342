//! Series that the evaluation of alerts makes: `streamgauge_alerts`, the pending and firing alerts like `ALERTS` of
//! Prometheus, and `redis_stream_group_gone`.

use std::sync::Arc;

use redis_stream_core::name::Name;

use crate::alert::active::Active;
use crate::alert::state::Phase;
use crate::exposition::reader_cache::ReaderCache;
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

/// The series of one target, which are written and compressed when they are first asked for.
#[derive(Debug, Default)]
pub struct AlertSeries {
    active: Arc<Active>,
    gone: Arc<[(Name, Name)]>,
    /// Parallel to [`FAMILIES`].
    texts: ReaderCache<[Vec<u8>; FAMILIES.len()]>,
    /// Parallel to [`FAMILIES`]; `None` if there is no sample.
    segments: ReaderCache<[Option<Segment>; FAMILIES.len()]>,
}

impl AlertSeries {
    /// Creates the series of active alerts, and of groups that are gone by key and name, without writing them.
    pub fn new(active: Arc<Active>, gone: Arc<[(Name, Name)]>) -> Self {
        Self { active, gone, texts: ReaderCache::default(), segments: ReaderCache::default() }
    }

    /// Keeps what the first reader writes for further readers, as at first.
    pub fn open_cache(&self) {
        self.texts.open();
        self.segments.open();
    }

    /// Drops what is written and keeps nothing: each reader writes for itself.
    pub fn close_cache(&self) {
        self.texts.close();
        self.segments.close();
    }

    pub(super) fn texts(&self) -> Arc<[Vec<u8>; FAMILIES.len()]> {
        self.texts.get_or_make(|| self.write())
    }

    pub(super) fn segments(&self) -> Arc<[Option<Segment>; FAMILIES.len()]> {
        let compress = |text: Vec<u8>| (!text.is_empty()).then(|| Compressor::default().segment(&text));
        self.segments.get_or_make(|| self.write().map(compress))
    }

    fn write(&self) -> [Vec<u8>; FAMILIES.len()] {
        [alert_series(&self.active), gone_series(&self.active, &self.gone)]
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
