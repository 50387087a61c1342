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
        let mut text = Vec::new();
        for (at, family) in layout.families() {
            text.clear();
            write_samples(layout, family, &labels, &report, &mut text);
            segments[at] = (!text.is_empty()).then(|| compressor.segment(&text));
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

/// Writes the page as it is, a family of a target at a time.
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
    let mut text = Vec::new();
    for (at, family) in layout.families() {
        let mut has_header = false;
        for target in targets.iter().filter(|target| target.segments[at].is_some()) {
            if !std::mem::replace(&mut has_header, true) {
                out.write_all(family.header().as_bytes())?;
            }
            text.clear();
            write_samples(layout, family, &target.labels, &target.report, &mut text);
            out.write_all(&text)?;
        }
    }
    out.write_all(own)
}

/// Appends the samples of one family.
fn write_samples(
    layout: &Layout,
    family: &Family,
    labels: &TargetLabels,
    report: &Report,
    out: &mut Vec<u8>,
) {
    let mut line = Line { name: family.name, labels, scratch: Vec::new(), out };
    for stream in &report.streams {
        match family.value {
            Value::Stream(value) => line.stream(stream, value),
            Value::Group(value) => line.groups(stream, value),
            Value::Consumer(value) => line.consumers(stream, layout.consumer_max_idle, value),
        }
    }
}

/// Writes lines of one family. The labels of a stream and of a group are written once for all lines below.
struct Line<'a> {
    name: &'static str,
    labels: &'a TargetLabels,
    scratch: Vec<u8>,
    out: &'a mut Vec<u8>,
}

impl Line<'_> {
    fn stream(&mut self, stream: &StreamReport, value: fn(&StreamReport) -> Option<Number>) {
        let Some(number) = value(stream) else { return };
        self.begin(stream);
        self.sample(number);
    }

    fn groups(&mut self, stream: &StreamReport, value: fn(&GroupReport) -> Option<Number>) {
        self.begin(stream);
        let stream_labels = self.scratch.len();
        for group in &stream.groups {
            let Some(number) = value(group) else { continue };
            self.scratch.truncate(stream_labels);
            write_label("group", &group.name.text(), &mut self.scratch);
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
        let stream_labels = self.scratch.len();
        for group in &stream.groups {
            self.scratch.truncate(stream_labels);
            write_label("group", &group.name.text(), &mut self.scratch);
            let group_labels = self.scratch.len();
            for consumer in group.consumers.iter().flatten() {
                if consumer.messages_pending == 0 && consumer.idle > max_idle {
                    continue;
                }
                let Some(number) = value(consumer) else { continue };
                self.scratch.truncate(group_labels);
                write_label("consumer", &consumer.name.text(), &mut self.scratch);
                self.sample(number);
            }
        }
    }

    fn begin(&mut self, stream: &StreamReport) {
        self.scratch.clear();
        self.scratch.extend_from_slice(&self.labels.first);
        write_label("stream", &stream.key.text(), &mut self.scratch);
    }

    fn sample(&mut self, number: Number) {
        self.out.extend_from_slice(self.name.as_bytes());
        self.out.push(b'{');
        self.out.extend_from_slice(&self.scratch);
        self.out.extend_from_slice(&self.labels.last);
        self.out.extend_from_slice(b"} ");
        number.write(self.out);
        self.out.push(b'\n');
    }
}
