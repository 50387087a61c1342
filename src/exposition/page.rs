//! The page `/metrics`: the families of all targets, each family in one piece.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::exposition::definitions::{FAMILIES, Family, Value};
use crate::exposition::segment::{Compressor, Segment, gzip};
use crate::exposition::text::{Number, write_label};
use crate::lag::report::{ConsumerReport, GroupReport, Report, StreamReport};

/// Text is handed on in pieces of about this size, which stay in the processor's cache.
const PIECE_BYTES: usize = 32 * 1024;

/// What is exported, and how it is labelled.
#[derive(Clone, Debug)]
pub struct Layout {
    /// For each of [`FAMILIES`] whether it is exported.
    is_exported: Vec<bool>,
    /// Each family's header, compressed.
    headers: Vec<Segment>,
    consumer_max_idle: Duration,
}

impl Layout {
    /// All families but those that `is_excluded` by name. A consumer that is idle longer than
    /// `consumer_max_idle`, with nothing pending, has no series.
    #[must_use]
    pub fn new(is_excluded: impl Fn(&str) -> bool, consumer_max_idle: Duration) -> Self {
        let mut compressor = Compressor::default();
        Self {
            is_exported: FAMILIES.iter().map(|family| !is_excluded(family.name)).collect(),
            headers: FAMILIES.iter().map(|family| compressor.segment(family.header().as_bytes())).collect(),
            consumer_max_idle,
        }
    }

    fn families(&self) -> impl Iterator<Item = (usize, &'static Family)> + '_ {
        FAMILIES.iter().enumerate().filter(|(at, _)| self.is_exported[*at])
    }
}

/// The labels that every series of a target carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TargetLabels {
    /// `target` and `db`.
    first: Vec<u8>,
    /// Those of the configuration, with a comma before each.
    last: Vec<u8>,
}

impl TargetLabels {
    /// The labels of the target `name`, whose streams are in database `db`.
    #[must_use]
    pub fn new(name: &str, db: u32, configured: &BTreeMap<String, String>) -> Self {
        let mut first = Vec::new();
        write_label("target", name, &mut first);
        write_label("db", &format!("db{db}"), &mut first);
        let mut last = Vec::new();
        for (name, value) in configured {
            let mut label = Vec::new();
            write_label(name, value, &mut label);
            last.push(b',');
            last.append(&mut label);
        }
        Self { first, last }
    }
}

/// The series of one target, as of one report: written and compressed once.
#[derive(Clone, Debug)]
pub struct Rendered {
    labels: TargetLabels,
    report: Arc<Report>,
    /// Parallel to [`FAMILIES`]; `None` where there is no sample.
    segments: Vec<Option<Segment>>,
}

impl Rendered {
    /// Writes and compresses a report. Takes some time where there are many streams: not for a reactor.
    #[must_use]
    pub fn new(layout: &Layout, labels: TargetLabels, report: Arc<Report>) -> Self {
        let mut compressor = Compressor::default();
        let mut segments = vec![None; FAMILIES.len()];
        for (at, family) in layout.families() {
            let mut unfinished = compressor.begin();
            write_samples(layout, family, &labels, &report, &mut unfinished)
                .expect("writing to a segment does not fail");
            segments[at] = (!unfinished.is_empty()).then(|| unfinished.finish());
        }
        Self { labels, report, segments }
    }
}

/// The compressed page: the chunks of one gzip stream. `own` are the exporter's own metrics, as text.
#[must_use]
pub fn compressed(layout: &Layout, targets: &[Arc<Rendered>], own: &[u8]) -> Vec<Bytes> {
    let mut segments = Vec::new();
    for (at, _) in layout.families() {
        let header = segments.len();
        segments.extend(targets.iter().filter_map(|target| target.segments[at].clone()));
        if segments.len() > header {
            segments.insert(header, layout.headers[at].clone());
        }
    }
    segments.push(Compressor::default().segment(own));
    gzip(segments)
}

/// Writes the page as it is.
///
/// # Errors
///
/// Those of `out`.
pub fn write_plain(
    layout: &Layout,
    targets: &[Arc<Rendered>],
    own: &[u8],
    out: &mut dyn Write,
) -> io::Result<()> {
    for (at, family) in layout.families() {
        let mut has_header = false;
        for target in targets.iter().filter(|target| target.segments[at].is_some()) {
            if !std::mem::replace(&mut has_header, true) {
                out.write_all(family.header().as_bytes())?;
            }
            write_samples(layout, family, &target.labels, &target.report, out)?;
        }
    }
    out.write_all(own)
}

/// Writes the samples of one family.
fn write_samples(
    layout: &Layout,
    family: &Family,
    labels: &TargetLabels,
    report: &Report,
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut lines = Lines::new(family, labels);
    for stream in &report.streams {
        match family.value {
            Value::Stream(value) => lines.stream(stream, value),
            Value::Group(value) => lines.groups(stream, value),
            Value::Consumer(value) => lines.consumers(stream, layout.consumer_max_idle, value),
        }
        if lines.text.len() >= PIECE_BYTES {
            out.write_all(&lines.text)?;
            lines.text.clear();
        }
    }
    out.write_all(&lines.text)
}

/// Lines of one family. What lines have in common is written once: the name and the labels of the target for
/// all, those of a stream and of a group for all below.
struct Lines<'a> {
    labels: &'a TargetLabels,
    /// How the lines of the present stream, group or consumer begin.
    start: Vec<u8>,
    /// Length of the part of `start` that all lines have in common.
    common: usize,
    text: Vec<u8>,
}

impl<'a> Lines<'a> {
    fn new(family: &Family, labels: &'a TargetLabels) -> Self {
        let start = [family.name.as_bytes(), b"{", &labels.first].concat();
        Self { labels, common: start.len(), start, text: Vec::new() }
    }

    fn stream(&mut self, stream: &StreamReport, value: fn(&StreamReport) -> Option<Number>) {
        let Some(number) = value(stream) else { return };
        self.begin(stream);
        self.sample(number);
    }

    fn groups(&mut self, stream: &StreamReport, value: fn(&GroupReport) -> Option<Number>) {
        self.begin(stream);
        let stream_labels = self.start.len();
        for group in &stream.groups {
            let Some(number) = value(group) else { continue };
            self.start.truncate(stream_labels);
            write_label("group", &group.name.text(), &mut self.start);
            self.sample(number);
        }
    }

    fn consumers(
        &mut self,
        stream: &StreamReport,
        max_idle: Duration,
        value: fn(&ConsumerReport) -> Option<Number>,
    ) {
        self.begin(stream);
        let stream_labels = self.start.len();
        for group in &stream.groups {
            self.start.truncate(stream_labels);
            write_label("group", &group.name.text(), &mut self.start);
            let group_labels = self.start.len();
            for consumer in group.consumers.iter().flatten() {
                if consumer.messages_pending == 0 && consumer.idle > max_idle {
                    continue;
                }
                let Some(number) = value(consumer) else { continue };
                self.start.truncate(group_labels);
                write_label("consumer", &consumer.name.text(), &mut self.start);
                self.sample(number);
            }
        }
    }

    fn begin(&mut self, stream: &StreamReport) {
        self.start.truncate(self.common);
        write_label("stream", &stream.key.text(), &mut self.start);
    }

    fn sample(&mut self, number: Number) {
        self.text.extend_from_slice(&self.start);
        self.text.extend_from_slice(&self.labels.last);
        self.text.extend_from_slice(b"} ");
        number.write(&mut self.text);
        self.text.push(b'\n');
    }
}
