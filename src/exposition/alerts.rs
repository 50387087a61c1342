//! Series that the evaluation of alerts makes: `streamgauge_alerts`, the pending and firing alerts like `ALERTS` of
//! Prometheus, and `redis_stream_group_gone`.

use std::array;
use std::io::{self, Write};
use std::sync::Arc;

use redis_stream_core::name::Name;

use crate::alert::active::Active;
use crate::alert::state::Phase;
use crate::exposition::reader_cache::ReaderCache;
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

/// The series of one target, which are compressed when they are first asked for.
#[derive(Debug, Default)]
pub struct AlertSeries {
    active: Arc<Active>,
    gone: Arc<[(Name, Name)]>,
    /// Parallel to [`FAMILIES`]; `None` if there is no sample.
    compressed: ReaderCache<[Option<Segment>; FAMILIES.len()]>,
}

impl AlertSeries {
    /// Creates the series of active alerts, and of groups that are gone by key and name, without writing them.
    pub fn new(active: Arc<Active>, gone: Arc<[(Name, Name)]>) -> Self {
        Self { active, gone, compressed: ReaderCache::default() }
    }

    /// Keeps what the first reader compresses for further readers, as at first.
    pub fn open_cache(&self) {
        self.compressed.open();
    }

    /// Drops what is compressed and keeps nothing: each reader compresses for itself.
    pub fn close_cache(&self) {
        self.compressed.close();
    }

    pub(super) fn segments(&self) -> Arc<[Option<Segment>; FAMILIES.len()]> {
        self.compressed.get_or_make(|| {
            let mut compressor = Compressor::default();
            array::from_fn(|family| {
                let mut writer = compressor.begin();
                self.write(family, &mut writer).expect("writing to a segment does not fail");
                (!writer.is_empty()).then(|| writer.finish())
            })
        })
    }

    /// Writes the samples of a family, by its place in [`FAMILIES`].
    pub(super) fn write(&self, family: usize, out: &mut dyn Write) -> io::Result<()> {
        if FAMILIES[family].0 == NAME { self.write_alerts(out) } else { self.write_gone(out) }
    }

    fn write_alerts(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut lines = AlertSampleWriter::new(NAME, out);
        self.active.try_for_each(|phase, labels, subject| {
            let state = if phase == Phase::Pending { "pending" } else { "firing" };
            lines.label("alertname", labels.alert_name());
            lines.label("alertstate", state);
            labels.for_each(subject, |name, value| {
                if name != "alertname" {
                    lines.label(name, value);
                }
            });
            lines.end()
        })?;
        lines.finish()
    }

    fn write_gone(&self, out: &mut dyn Write) -> io::Result<()> {
        let mut lines = AlertSampleWriter::new(GROUP_GONE, out);
        for (stream, group) in &*self.gone {
            let subject = self.active.target_labels().subject(Some(&stream.text()), Some(&group.text()));
            let first = ["target", "db", "stream", "group"];
            let ordered = first.iter().filter_map(|name| subject.get_key_value(*name));
            let others = subject.iter().filter(|(name, _)| !first.contains(&name.as_str()));
            ordered.chain(others).for_each(|(name, value)| lines.label(name, value));
            lines.end()?;
        }
        lines.finish()
    }
}

/// Writes samples whose value is 1.
struct AlertSampleWriter<'w> {
    metric: &'static str,
    /// Lines that are not written yet, and the begin of the next.
    text: Vec<u8>,
    has_label: bool,
    out: &'w mut dyn Write,
}

impl<'w> AlertSampleWriter<'w> {
    fn new(metric: &'static str, out: &'w mut dyn Write) -> Self {
        Self { metric, text: Vec::new(), has_label: false, out }
    }

    /// Adds a label to the current sample.
    fn label(&mut self, name: &str, value: &str) {
        if !self.has_label {
            self.text.extend_from_slice(self.metric.as_bytes());
        }
        self.text.push(if self.has_label { b',' } else { b'{' });
        write_pair(name, value, &mut self.text);
        self.has_label = true;
    }

    /// Ends the current sample, which has at least one label.
    fn end(&mut self) -> io::Result<()> {
        self.text.extend_from_slice(b"} 1\n");
        self.has_label = false;
        if self.text.len() >= CHUNK_BYTES {
            self.out.write_all(&self.text)?;
            self.text.clear();
        }
        Ok(())
    }

    fn finish(self) -> io::Result<()> {
        self.out.write_all(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::alert::evaluator::{Evaluator, EvaluatorSettings, PollReading, TargetUp};
    use crate::alert::rule::{TargetLabels, test_rule};
    use crate::alert::test_support::{group, lagging, report, stream};

    fn series(streams: usize) -> AlertSeries {
        let mut waiting = test_rule("Waiting", "lag > 5");
        waiting.pending_for = Duration::from_secs(60);
        let rules = [test_rule("Behind", "lag > 5"), waiting].map(Arc::new);
        let labels = TargetLabels { name: "t".to_owned(), db: "db0".to_owned(), ..TargetLabels::default() };
        let settings = EvaluatorSettings {
            hold: Duration::ZERO,
            external_labels: [].into(),
            interval: Duration::from_secs(10),
            has_notifiers: false,
        };
        let mut evaluator = Evaluator::new(&rules, labels, settings);
        let streams = (0..streams).map(|number| {
            stream(format!("s{number:05}\"").as_str(), vec![group("g", lagging(number as u64 + 6))])
        });
        let report = Arc::new(report(streams.collect()));
        evaluator.step(PollReading::Complete(&report), TargetUp::Yes, Duration::from_secs(1_700_000_000));
        AlertSeries::new(Arc::new(evaluator.active()), [(Name::from("gone"), Name::from("g"))].into())
    }

    fn written(series: &AlertSeries, family: usize) -> String {
        let mut out = Vec::new();
        series.write(family, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_alert_is_one_sample() {
        let line = |name: &str, state: &str| {
            format!(
                "{NAME}{{alertname=\"{name}\",alertstate=\"{state}\",db=\"db0\",group=\"g\",stream=\"s00000\\\"\",\
                 target=\"t\"}} 1\n"
            )
        };
        let lines = [line("Behind", "firing"), line("Waiting", "pending")].concat();
        let gone = format!("{GROUP_GONE}{{target=\"t\",db=\"db0\",stream=\"gone\",group=\"g\"}} 1\n");
        assert_eq!([0, 1].map(|family| written(&series(1), family)), [lines, gone]);
        assert_eq!(written(&series(0), 0), "");
    }

    /// Counts the bytes, and the largest piece of them.
    #[derive(Default)]
    struct Pieces {
        bytes: usize,
        largest: usize,
    }

    impl Write for Pieces {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            (self.bytes, self.largest) = (self.bytes + text.len(), self.largest.max(text.len()));
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_text_of_many_alerts_is_never_in_memory_as_a_whole() {
        let (series, mut pieces) = (series(3_000), Pieces::default());
        series.write(0, &mut pieces).unwrap();
        assert_eq!(pieces.bytes, written(&series, 0).len());
        assert!(pieces.bytes > 500_000 && pieces.largest < CHUNK_BYTES + 1_000, "{}", pieces.largest);
    }

    #[test]
    fn compressed_samples_are_those_of_the_plain_text_while_the_cache_is_closed_too() {
        let series = series(500);
        for is_open in [true, false] {
            let segments = series.segments();
            for (family, segment) in segments.iter().enumerate() {
                let packed = crate::exposition::segment::gzip(segment.clone()).concat();
                let text = io::read_to_string(flate2::read::GzDecoder::new(packed.as_slice())).unwrap();
                assert_eq!(text, written(&series, family));
            }
            assert_eq!(Arc::ptr_eq(&segments, &series.segments()), is_open);
            series.close_cache();
        }
    }
}
