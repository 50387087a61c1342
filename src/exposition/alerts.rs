//! Series that the evaluation of alerts makes: `streamgauge_alerts`, the pending and firing alerts like `ALERTS` of
//! Prometheus, and `redis_stream_group_gone`.

use std::io::{self, BufWriter, Write};
use std::sync::{Arc, OnceLock};

use redis_stream_core::name::Name;

use crate::alert::active::Active;
use crate::alert::state::Phase;
use crate::exposition::segment::{Compressor, Segment};
use crate::exposition::text::{CHUNK_BYTES, write_pair};

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

/// The series of one target, which are compressed once, when they are first asked for.
#[derive(Debug, Default)]
pub struct AlertSeries {
    active: Arc<Active>,
    gone: Arc<[(Name, Name)]>,
    /// Parallel to [`FAMILIES`]; `None` if there is no sample.
    segments: [OnceLock<Option<Segment>>; FAMILIES.len()],
}

impl AlertSeries {
    /// Creates the series of active alerts, and of groups that are gone by key and name, without writing them.
    pub fn new(active: Arc<Active>, gone: Arc<[(Name, Name)]>) -> Self {
        Self { active, gone, segments: Default::default() }
    }

    pub(super) fn segment(&self, family: usize) -> Option<Segment> {
        let compress = || {
            let mut compressor = Compressor::default();
            let mut out = BufWriter::with_capacity(CHUNK_BYTES, compressor.begin());
            let written = self.write(family, &mut out).and_then(|()| Ok(out.into_inner()?));
            let writer = written.expect("writing to a segment does not fail");
            (!writer.is_empty()).then(|| writer.finish())
        };
        self.segments[family].get_or_init(compress).clone()
    }

    /// Writes the samples of a family, in small parts.
    pub(super) fn write(&self, family: usize, out: &mut dyn Write) -> io::Result<()> {
        match FAMILIES[family].0 {
            NAME => self.write_active(out),
            _ => self.write_gone(out),
        }
    }

    fn write_active(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut line = Vec::new();
        self.active.alerts().try_for_each(|alert| {
            let state = if alert.state.phase == Phase::Pending { "pending" } else { "firing" };
            let name = alert.labels.get("alertname").map_or("", String::as_str);
            let others = alert.labels.iter().filter(|(name, _)| *name != "alertname");
            let labels = [("alertname", name), ("alertstate", state)].into_iter();
            let labels = labels.chain(others.map(|(name, value)| (name.as_str(), value.as_str())));
            write_sample(NAME, labels, &mut line);
            out.write_all(&line)
        })
    }

    fn write_gone(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut line = Vec::new();
        self.gone.iter().try_for_each(|(stream, group)| {
            let subject = self.active.target_labels().subject(Some(&stream.text()), Some(&group.text()));
            let first = ["target", "db", "stream", "group"];
            let ordered = first.iter().filter_map(|name| subject.get_key_value(*name));
            let others = subject.iter().filter(|(name, _)| !first.contains(&name.as_str()));
            let labels = ordered.chain(others).map(|(name, value)| (name.as_str(), value.as_str()));
            write_sample(GROUP_GONE, labels, &mut line);
            out.write_all(&line)
        })
    }
}

/// Replaces `line` by a sample.
fn write_sample<'l>(metric: &str, labels: impl Iterator<Item = (&'l str, &'l str)>, line: &mut Vec<u8>) {
    line.clear();
    line.extend_from_slice(metric.as_bytes());
    for (at, (name, value)) in labels.enumerate() {
        line.push(if at == 0 { b'{' } else { b',' });
        write_pair(name, value, line);
    }
    line.extend_from_slice(b"} 1\n");
}
