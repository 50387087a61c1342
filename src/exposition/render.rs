//! `/metrics`: the families of all targets, each family in one piece.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::exposition::alerts::{self, AlertSeries};
use crate::exposition::reader_cache::ReaderCache;
use crate::exposition::segment::{Compressor, Segment, gzip};
use crate::exposition::text::{CHUNK_BYTES, header, write_label, write_later_label, write_number};
use crate::values::family::{Family, MetricOrigin, Number, ValueReading, ValueSource};
use crate::values::table::FAMILIES;
use redis_stream_core::name::Name;
use redis_stream_lag::report::{ConsumerView, GroupReport, Report, ReportedStream, Status, StreamReport};

/// The families that are exported.
#[derive(Clone, Debug)]
pub struct FamilySelection {
    /// Parallel to [`FAMILIES`].
    is_exported: Vec<bool>,
    /// The header of each family, compressed.
    headers: Vec<Segment>,
    /// Parallel to [`alerts::FAMILIES`]; `None` if the family is not exported.
    alert_headers: [Option<Segment>; alerts::FAMILIES.len()],
    consumer_max_idle: Duration,
}

impl FamilySelection {
    /// Selects families by name and origin. A consumer that is idle longer than `consumer_max_idle`, with nothing pending, has no series.
    pub fn new(is_exported: impl Fn(&str, MetricOrigin) -> bool, consumer_max_idle: Duration) -> Self {
        let mut compressor = Compressor::default();
        Self {
            is_exported: FAMILIES.iter().map(|family| is_exported(family.name, family.origin)).collect(),
            headers: FAMILIES.iter().map(|family| compressor.segment(header(family).as_bytes())).collect(),
            alert_headers: alerts::FAMILIES.map(|(name, header)| {
                is_exported(name, MetricOrigin::Own).then(|| compressor.segment(header.as_bytes()))
            }),
            consumer_max_idle,
        }
    }

    fn families(&self) -> impl Iterator<Item = (usize, &'static Family)> + '_ {
        FAMILIES.iter().copied().enumerate().filter(|(at, _)| self.is_exported[*at])
    }
}

/// The labels of every series of a target, as text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeriesLabels {
    /// `target` and `db`.
    first: Vec<u8>,
    /// The configured labels, with a comma before each.
    last: Vec<u8>,
}

impl SeriesLabels {
    /// Writes the labels of a target and its database.
    pub fn new(name: &str, db: u32, configured: &BTreeMap<String, String>) -> Self {
        let mut first = Vec::new();
        write_label("target", name, &mut first);
        write_label("db", &format!("db{db}"), &mut first);
        let mut last = Vec::new();
        for (name, value) in configured {
            write_later_label(name, value, &mut last);
        }
        Self { first, last }
    }
}

/// The series of one target from one report, which are compressed when they are first asked for.
#[derive(Debug)]
pub struct TargetSeries {
    labels: SeriesLabels,
    report: Arc<Report>,
    compressed: ReaderCache<FamilySegments>,
}

/// The compressed families of a target, parallel to [`FAMILIES`]; `None` if there is no sample.
type FamilySegments = Vec<Option<Segment>>;

impl TargetSeries {
    /// Creates the series of a report, without writing them.
    pub fn new(labels: SeriesLabels, report: Arc<Report>) -> Self {
        Self { labels, report, compressed: ReaderCache::default() }
    }

    /// Returns the report.
    pub fn report(&self) -> &Arc<Report> {
        &self.report
    }

    /// Keeps what the first reader compresses for further readers, as at first.
    pub fn open_cache(&self) {
        self.compressed.open();
    }

    /// Drops what is compressed and keeps nothing: each reader compresses for itself.
    pub fn close_cache(&self) {
        self.compressed.close();
    }

    fn segments(&self, selection: &FamilySelection) -> Arc<FamilySegments> {
        self.compressed.get_or_make(|| self.compress(selection))
    }

    fn compress(&self, selection: &FamilySelection) -> FamilySegments {
        let mut compressor = Compressor::default();
        let mut segments = vec![None; FAMILIES.len()];
        let labels = PageLabels::of(&self.report);
        for (at, family) in selection.families() {
            let mut writer = compressor.begin();
            write_samples(selection, family, (self, &labels), &mut writer)
                .expect("writing to a segment does not fail");
            segments[at] = (!writer.is_empty()).then(|| writer.finish());
        }
        segments
    }
}

/// Returns the compressed page: the chunks of one gzip stream. `own` is the text of the exporter's own metrics.
///
/// The first call for a report takes time if there are many streams, so it must not run on the reactor.
pub fn compressed(
    selection: &FamilySelection,
    targets: &[Arc<TargetSeries>],
    alerts: &[Arc<AlertSeries>],
    own: &[u8],
) -> Vec<Bytes> {
    let of_targets: Vec<_> = targets.iter().map(|target| target.segments(selection)).collect();
    let mut segments = Vec::new();
    for (at, _) in selection.families() {
        let header = segments.len();
        segments.extend(of_targets.iter().filter_map(|target| target[at].clone()));
        if segments.len() > header {
            segments.insert(header, selection.headers[at].clone());
        }
    }
    let of_alerts: Vec<_> = alerts.iter().map(|alerts| alerts.segments()).collect();
    for (at, text) in selection.alert_headers.iter().enumerate() {
        let Some(text) = text else { continue };
        let header = segments.len();
        segments.extend(of_alerts.iter().filter_map(|segments| segments[at].clone()));
        if segments.len() > header {
            segments.insert(header, text.clone());
        }
    }
    segments.push(Compressor::default().segment(own));
    gzip(segments)
}

/// Writes the page without compression.
///
/// # Errors
///
/// Those of `out`.
pub fn write_plain(
    selection: &FamilySelection,
    targets: &[Arc<TargetSeries>],
    alerts: &[Arc<AlertSeries>],
    own: &[u8],
    out: &mut dyn Write,
) -> io::Result<()> {
    let labels: Vec<_> = targets.iter().map(|target| PageLabels::of(&target.report)).collect();
    for (_, family) in selection.families() {
        let header = header(family);
        let mut out = AfterHeader { header: Some(&header), out };
        for (target, labels) in targets.iter().zip(&labels) {
            write_samples(selection, family, (target, labels), &mut out)?;
        }
    }
    for (at, (_, header)) in alerts::FAMILIES.iter().enumerate() {
        if selection.alert_headers[at].is_some() {
            let mut out = AfterHeader { header: Some(header), out };
            alerts.iter().try_for_each(|alerts| alerts.write(at, &mut out))?;
        }
    }
    out.write_all(own)
}

/// Writes the header of a family before its first sample.
struct AfterHeader<'a> {
    header: Option<&'a str>,
    out: &'a mut dyn Write,
}

impl Write for AfterHeader<'_> {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        if let Some(header) = self.header.take() {
            self.out.write_all(header.as_bytes())?;
        }
        self.out.write(text)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// The labels of the streams and groups of a report, each in its order and with a comma before it: to look up the names in
/// memory for each family would take longer than to write the samples.
struct PageLabels {
    streams: LabelList,
    groups: LabelList,
}

impl PageLabels {
    fn of(report: &Report) -> Self {
        let streams = report.streams.iter().map(|stream| &stream.key);
        let groups = report.streams.iter().flat_map(|stream| stream.groups.iter().map(|group| &group.name));
        Self { streams: LabelList::of("stream", streams), groups: LabelList::of("group", groups) }
    }
}

/// Labels in one text.
struct LabelList {
    text: Vec<u8>,
    /// Where each label ends.
    ends: Vec<usize>,
}

impl LabelList {
    fn of<'a>(label: &str, values: impl Iterator<Item = &'a Name> + Clone) -> Self {
        let around = label.len() + ",=\"\"".len();
        let lengths = values.clone().map(|value| value.as_bytes().len() + around);
        let (count, bytes) = lengths.fold((0, 0), |(count, bytes), length| (count + 1, bytes + length));
        // Enough, unless a value has bytes to escape.
        let (mut text, mut ends) = (Vec::with_capacity(bytes), Vec::with_capacity(count));
        for value in values {
            write_later_label(label, &value.text(), &mut text);
            ends.push(text.len());
        }
        Self { text, ends }
    }

    fn get(&self, at: usize) -> &[u8] {
        let begin = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[begin..self.ends[at]]
    }
}

fn write_samples(
    selection: &FamilySelection,
    family: &Family,
    (target, labels): (&TargetSeries, &PageLabels),
    out: &mut dyn Write,
) -> io::Result<()> {
    let mut lines = SampleWriter::new(family, &target.labels, labels);
    for (at, stream) in target.report.streams.iter().enumerate() {
        lines.begin(at);
        match family.source {
            ValueSource::StreamUp => lines.stream(ValueReading::stream_up(stream)),
            ValueSource::Stream(read) => lines.stream(ValueReading::of_stream(stream, read)),
            ValueSource::GroupUp => lines.groups(stream, ValueReading::group_up),
            ValueSource::Group(read) => {
                lines.groups(stream, |group| ValueReading::of_group(stream, group, read));
            }
            ValueSource::Status => lines.statuses(stream),
            ValueSource::FamilyGroups => lines.family_groups(stream),
            ValueSource::Holder => lines.holder(stream),
            ValueSource::GroupChanges => lines.changes(stream),
            ValueSource::Consumer(read) => lines.consumers(stream, selection.consumer_max_idle, read),
        }
        if lines.text.len() >= CHUNK_BYTES {
            out.write_all(&lines.text)?;
            lines.text.clear();
        }
        lines.first_group += stream.groups.len();
    }
    out.write_all(&lines.text)
}

/// Writes the samples of one family. A common prefix is written once: the name and the labels of the target for all
/// lines, the labels of a stream or group for all lines below it.
struct SampleWriter<'a> {
    of_target: &'a SeriesLabels,
    labels: &'a PageLabels,
    /// The place of the first group of the current stream among all groups.
    first_group: usize,
    /// The prefix of the lines of the current stream, group or consumer.
    prefix: Vec<u8>,
    /// Length of the part of `prefix` that all lines have in common.
    common: usize,
    /// Length of the part that the lines of the current stream have in common.
    of_stream: usize,
    text: Vec<u8>,
}

impl<'a> SampleWriter<'a> {
    fn new(family: &Family, of_target: &'a SeriesLabels, labels: &'a PageLabels) -> Self {
        let prefix = [family.name.as_bytes(), b"{", &of_target.first].concat();
        let common = prefix.len();
        Self { of_target, labels, first_group: 0, common, of_stream: common, prefix, text: Vec::new() }
    }

    fn stream(&mut self, reading: ValueReading) {
        let ValueReading::Known(number) = reading else { return };
        self.sample(number);
    }

    fn groups(&mut self, stream: &StreamReport, read: impl Fn(&GroupReport) -> ValueReading) {
        for (at, group) in stream.groups.iter().enumerate() {
            let ValueReading::Known(number) = read(group) else { continue };
            self.group(at);
            self.sample(number);
        }
    }

    fn statuses(&mut self, stream: &StreamReport) {
        self.by_status(stream, |group| {
            let mut numbers = [None; Status::ALL.len()];
            let statuses = group.values.iter().flat_map(|values| values.status.iter());
            statuses.for_each(|status| numbers[status as usize] = Some(1));
            numbers
        });
    }

    fn family_groups(&mut self, stream: &StreamReport) {
        self.by_status(stream, |group| match group.fold() {
            Some(fold) => fold.by_status.map(Some),
            None => [None; Status::ALL.len()],
        });
    }

    /// Writes numbers that are parallel to [`Status::ALL`].
    fn by_status(
        &mut self,
        stream: &StreamReport,
        numbers: impl Fn(&GroupReport) -> [Option<u64>; Status::ALL.len()],
    ) {
        for (at, group) in stream.groups.iter().enumerate() {
            self.group(at);
            let group_labels = self.prefix.len();
            for (status, number) in Status::ALL.into_iter().zip(numbers(group)) {
                let Some(number) = number else { continue };
                self.prefix.truncate(group_labels);
                write_label("status", status.as_str(), &mut self.prefix);
                self.sample(Number::Count(number));
            }
        }
    }

    fn holder(&mut self, stream: &StreamReport) {
        let trim = stream.values.as_ref().and_then(|values| values.safe_trim.as_ref());
        let Some(holder) = trim.and_then(|trim| trim.holder.as_ref()) else { return };
        write_label("group", &holder.group.text(), &mut self.prefix);
        self.sample(Number::Count(1));
    }

    fn changes(&mut self, stream: &StreamReport) {
        let Some(values) = &stream.values else { return };
        for (change, count) in values.seldom.group_changes.by_change() {
            self.prefix.truncate(self.of_stream);
            write_label("change", change, &mut self.prefix);
            self.sample(Number::Count(count));
        }
    }

    fn consumers(
        &mut self,
        stream: &ReportedStream,
        max_idle: Duration,
        read: fn(ConsumerView<'_>) -> ValueReading,
    ) {
        for (at, group) in stream.groups.iter().enumerate() {
            self.group(at);
            let group_labels = self.prefix.len();
            for consumer in stream.consumers(group).into_iter().flatten() {
                if consumer.messages_pending() == 0 && consumer.idle() > max_idle {
                    continue;
                }
                let ValueReading::Known(number) = read(consumer) else { continue };
                self.prefix.truncate(group_labels);
                write_label("consumer", &consumer.name().text(), &mut self.prefix);
                self.sample(number);
            }
        }
    }

    /// Begins the lines of a stream.
    fn begin(&mut self, stream: usize) {
        self.prefix.truncate(self.common);
        self.prefix.extend_from_slice(self.labels.streams.get(stream));
        self.of_stream = self.prefix.len();
    }

    /// Begins the lines of a group of the current stream.
    fn group(&mut self, at: usize) {
        self.prefix.truncate(self.of_stream);
        self.prefix.extend_from_slice(self.labels.groups.get(self.first_group + at));
    }

    fn sample(&mut self, number: Number) {
        self.text.extend_from_slice(&self.prefix);
        self.text.extend_from_slice(&self.of_target.last);
        self.text.extend_from_slice(b"} ");
        write_number(number, &mut self.text);
        self.text.push(b'\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis_stream_core::id::StreamId;
    use redis_stream_lag::report::{
        Age, ConsumerReport, GroupValues, Lag, OldestPending, Retention, SeldomGroupValues, StreamIds,
        StreamValues,
    };
    use redis_stream_lag::snapshot::RadixTree;
    use std::io::Read as _;

    fn consumer(name: &str, messages_pending: u64, idle_seconds: u64) -> ConsumerReport {
        let idle = Duration::from_secs(idle_seconds);
        ConsumerReport::new(Name::from(name), messages_pending, idle, None, Duration::ZERO)
    }

    fn group(name: &str, values: Option<GroupValues>, consumers: Option<Vec<ConsumerReport>>) -> GroupReport {
        GroupReport::new(Name::from(name), values).with_consumers(consumers)
    }

    fn values(lag: Lag, oldest_pending: Option<OldestPending>) -> GroupValues {
        GroupValues {
            lag,
            lag_seconds: lag.exact().map(|_| Duration::from_millis(1_500)).map(Age::of),
            last_delivered_id: StreamId::new(1_700_000_000_123, 4),
            messages_pending: 1,
            oldest_pending,
            consumers: 2,
            entries_lost: lag.exact().map(Into::into),
            seldom: SeldomGroupValues {
                retention_used: lag.exact().map(|lag| Retention { lag, length: 48 }),
                ..SeldomGroupValues::default()
            }
            .into(),
            status: lag.exact().map_or(Status::Unknown, |_| Status::Lagging).into(),
            ..GroupValues::default()
        }
    }

    fn report() -> Arc<Report> {
        let entry = OldestPending::Entry {
            id: StreamId::new(5, 0),
            consumer: Some(Name::from("busy")),
            idle: Some(Duration::from_secs(7).into()),
            deliveries: 3,
        };
        let consumers =
            vec![consumer("busy", 1, 90_000), consumer("gone", 0, 90_000), consumer("idle", 0, 9)];
        let groups = vec![
            group("known", Some(values(Lag::Exact(12), Some(entry))), Some(consumers)),
            group("missing", None, None),
            group("unknown", Some(values(Lag::Between { min: 3.into(), max: 40 }, None)), None),
        ];
        let stream_values = StreamValues {
            length: 40,
            groups: 3,
            entries_added: None,
            ids: StreamIds {
                first: Some(StreamId::new(1_700_000_000_250, 0)).into(),
                last_generated: StreamId::new(7, 1),
                ..StreamIds::default()
            },
            is_first_timestamp: true,
            radix_tree: RadixTree { keys: 1, nodes: 2 },
            ..StreamValues::default()
        };
        let read = StreamReport::new(Name::from(&b"a\"\n\xff"[..]), Some(stream_values), groups);
        let missing = StreamReport::new(Name::from("missing"), None, Vec::new());
        Arc::new(Report { streams: vec![read.into(), missing.into()], ..Report::default() })
    }

    fn series(target: &str, team: &str) -> Arc<TargetSeries> {
        let labels = SeriesLabels::new(target, 0, &BTreeMap::from([("team".to_owned(), team.to_owned())]));
        Arc::new(TargetSeries::new(labels, report()))
    }

    fn plain(selection: &FamilySelection, targets: &[Arc<TargetSeries>]) -> String {
        let mut out = Vec::new();
        write_plain(selection, targets, &[], b"own 1\n", &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn is_own_and_no_consumer(name: &str, origin: MetricOrigin) -> bool {
        origin == MetricOrigin::Own && !name.contains("consumer")
    }

    #[test]
    fn ages_of_a_stream_that_did_not_change_are_as_of_the_last_reading() {
        let mut later = Report::clone(&report());
        for stream in &mut later.streams {
            *stream = stream.unchanged_at(stream.read_at.get() + Duration::from_secs(2));
        }
        let selection = FamilySelection::new(|_, _| true, Duration::from_secs(86_400));
        let of = |report: Report| {
            let labels = SeriesLabels::new("t", 0, &BTreeMap::new());
            plain(&selection, &[Arc::new(TargetSeries::new(labels, Arc::new(report)))])
        };
        let (before, now) = (of(Report::clone(&report())), of(later));
        let value = |line: &str| line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap();
        let (mut grown, mut same) = (Vec::new(), 0);
        for (before, now) in before.lines().zip(now.lines()) {
            let name = now.split('{').next().unwrap();
            match name.starts_with('#') || before == now {
                true => same += 1,
                false => grown.push(format!("{name} {}", value(now) - value(before))),
            }
        }
        grown.sort();
        grown.dedup();
        let ages = ["group_consumer_idle", "group_lag", "group_oldest_pending_idle"];
        assert_eq!(grown, ages.map(|name| format!("redis_stream_{name}_seconds 2")));
        assert!(same > 20, "{same}");
    }

    #[test]
    fn what_is_not_known_is_absent() {
        let selection = FamilySelection::new(is_own_and_no_consumer, Duration::from_secs(86_400));
        let text = plain(&selection, &[series("t", "x")]);
        let samples: Vec<_> = text.lines().filter(|line| !line.starts_with('#')).collect();
        insta::assert_snapshot!(samples.join("\n"), @r#"
        redis_stream_up{target="t",db="db0",stream="a\"\n\\xff",team="x"} 1
        redis_stream_up{target="t",db="db0",stream="missing",team="x"} 0
        redis_stream_length{target="t",db="db0",stream="a\"\n\\xff",team="x"} 40
        redis_stream_groups{target="t",db="db0",stream="a\"\n\\xff",team="x"} 3
        redis_stream_first_entry_timestamp_seconds{target="t",db="db0",stream="a\"\n\\xff",team="x"} 1700000000.25
        redis_stream_group_changes_total{target="t",db="db0",stream="a\"\n\\xff",change="created",team="x"} 0
        redis_stream_group_changes_total{target="t",db="db0",stream="a\"\n\\xff",change="destroyed",team="x"} 0
        redis_stream_group_changes_total{target="t",db="db0",stream="a\"\n\\xff",change="recreated",team="x"} 0
        redis_stream_group_up{target="t",db="db0",stream="a\"\n\\xff",group="missing",team="x"} 0
        redis_stream_group_lag{target="t",db="db0",stream="a\"\n\\xff",group="known",team="x"} 12
        redis_stream_group_lag_min{target="t",db="db0",stream="a\"\n\\xff",group="known",team="x"} 12
        redis_stream_group_lag_min{target="t",db="db0",stream="a\"\n\\xff",group="unknown",team="x"} 3
        redis_stream_group_lag_max{target="t",db="db0",stream="a\"\n\\xff",group="known",team="x"} 12
        redis_stream_group_lag_max{target="t",db="db0",stream="a\"\n\\xff",group="unknown",team="x"} 40
        redis_stream_group_lag_seconds{target="t",db="db0",stream="a\"\n\\xff",group="known",team="x"} 1.5
        redis_stream_group_messages_pending{target="t",db="db0",stream="a\"\n\\xff",group="known",team="x"} 1
        redis_stream_group_messages_pending{target="t",db="db0",stream="a\"\n\\xff",group="unknown",team="x"} 1
        redis_stream_group_oldest_pending_idle_seconds{target="t",db="db0",stream="a\"\n\\xff",group="known",team="x"} 7
        redis_stream_group_oldest_pending_deliveries{target="t",db="db0",stream="a\"\n\\xff",group="known",team="x"} 3
        redis_stream_group_backlog{target="t",db="db0",stream="a\"\n\\xff",group="known",team="x"} 13
        redis_stream_group_entries_lost_total{target="t",db="db0",stream="a\"\n\\xff",group="known",team="x"} 12
        redis_stream_group_retention_used_ratio{target="t",db="db0",stream="a\"\n\\xff",group="known",team="x"} 0.25
        redis_stream_group_status{target="t",db="db0",stream="a\"\n\\xff",group="known",status="lagging",team="x"} 1
        redis_stream_group_status{target="t",db="db0",stream="a\"\n\\xff",group="unknown",status="unknown",team="x"} 1
        own 1
        "#);
    }

    #[test]
    fn a_consumer_that_is_idle_for_long_with_nothing_pending_has_no_series() {
        let selection =
            FamilySelection::new(|name, _| name.contains("consumer_idle"), Duration::from_secs(86_400));
        let text = plain(&selection, &[series("t", "x")]);
        insta::assert_snapshot!(text, @r#"
        # HELP redis_stream_group_consumer_idle_seconds Time since the consumer's last attempt to read; before server 7.2, since its last success. Absent: consumers that are left out.
        # TYPE redis_stream_group_consumer_idle_seconds gauge
        redis_stream_group_consumer_idle_seconds{target="t",db="db0",stream="a\"\n\\xff",group="known",consumer="busy",team="x"} 90000
        redis_stream_group_consumer_idle_seconds{target="t",db="db0",stream="a\"\n\\xff",group="known",consumer="idle",team="x"} 9
        own 1
        "#);
    }

    #[test]
    fn the_families_of_all_targets_are_each_in_one_piece_plain_and_compressed_alike() {
        let selection = FamilySelection::new(|_, _| true, Duration::from_secs(86_400));
        let targets = [series("a", "x"), series("b", "y")];
        let text = plain(&selection, &targets);
        for family in FAMILIES {
            let header = format!("# TYPE {} ", family.name);
            assert!(text.matches(&header).count() <= 1, "{header}");
        }
        let lengths: Vec<_> = text.lines().filter(|line| line.starts_with("redis_stream_length{")).collect();
        assert_eq!(lengths.len(), 2, "{lengths:?}");
        let compressed = || compressed(&selection, &targets, &[], b"own 1\n");
        let first = compressed();
        let mut unzipped = String::new();
        flate2::read::GzDecoder::new(first.concat().as_slice()).read_to_string(&mut unzipped).unwrap();
        assert_eq!(unzipped, text);
        let addresses = |chunks: &[Bytes]| chunks.iter().map(|chunk| chunk.as_ptr()).collect::<Vec<_>>();
        // All but the last two: the exporter's own metrics, and the end of the gzip stream.
        let shared = first.len() - 2;
        assert_eq!(
            addresses(&compressed())[..shared],
            addresses(&first)[..shared],
            "kept for the next reader"
        );
        targets.iter().for_each(|target| target.close_cache());
        let own = compressed();
        assert_eq!(own, first);
        assert_ne!(addresses(&own)[..shared], addresses(&first)[..shared], "compressed for itself");
    }
}
