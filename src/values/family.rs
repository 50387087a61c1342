//! The columns of the table of values, and the values that it reads.

use std::time::Duration;

use redis_stream_lag::compact::{Count, Micros, Millis};
use redis_stream_lag::report::{
    ConsumerView, EntryRate, GroupReport, GroupValues, GroupView, LossEstimate, ReportedStream, Retention,
    StreamReport, StreamValues,
};

/// A value and its metric family. Texts are Markdown, for docs/metrics.md.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    pub name: &'static str,
    /// The value, in sentences.
    pub help: &'static str,
    /// Further sentences, for the documentation only.
    pub notes: &'static str,
    /// The cases without series, separated by semicolons; empty if there is none.
    pub absent: &'static str,
    pub kind: MetricKind,
    pub origin: MetricOrigin,
    pub unit: ValueUnit,
    pub aggregation: Aggregation,
    pub source: ValueSource,
    /// The alert fact that reads this value.
    pub fact: Option<AlertFact>,
    /// The row of a group's details, on its page and in the terminal.
    pub label: Option<Label>,
    /// The count of the things that this value is about. While it is 0, people are shown no value.
    pub counted_by: Option<&'static Self>,
}

/// Type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    Gauge,
    Counter,
}

/// Why a metric exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricOrigin {
    /// Defined by streamgauge; redis_exporter may have it too, with the same labels and values.
    Own,
    /// Exported for compatibility with redis_exporter, if the configuration asks for it.
    RedisExporter,
}

/// Unit of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ValueUnit {
    Count,
    Bytes,
    Seconds,
    /// Seconds since the Unix epoch.
    Timestamp,
    /// From 0 to 1.
    Ratio,
    /// Entries per second.
    PerSecond,
    /// 0 or 1.
    Bool,
}

/// The aggregation of a value over the streams of a family, as [`redis_stream_lag::family`] does it. Streams that do not
/// have the value do not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aggregation {
    /// The sum; not known if one is not.
    Sum,
    /// The sum of those that are known: one that is not known is not there.
    SumOfKnown,
    /// The counts of all streams, those that are gone included; as last known.
    Counter,
    /// The smallest; not known if one is not.
    Min,
    /// The largest; not known if one is not.
    Max,
    /// The smallest of those that are known: the smallest of all is not larger.
    SmallestKnown,
    /// The largest of those that are known: the largest of all is not smaller. Not known if it is 0 while one is not
    /// known.
    LargestKnown,
    /// Each status that holds for one of them; `unknown` or `ok` if none has a condition.
    Any,
    /// Only families have the value.
    OfFamily,
    /// Families do not have the value.
    LeftOut,
}

/// The function that reads a value; it decides the labels of the metric.
#[derive(Clone, Copy, Debug)]
pub enum ValueSource {
    /// 1 if the stream was read. Labels `target`, `db`, `stream`.
    StreamUp,
    /// Labels `target`, `db`, `stream`.
    Stream(fn(&StreamValues) -> ValueReading),
    /// 1 if the group exists, for groups that the configuration names. Adds `group`.
    GroupUp,
    /// Adds `group`.
    Group(fn(GroupView<'_>) -> ValueReading),
    /// The status of a group. Adds `group` and `status`: 1 for each condition, or for `ok` or `unknown`.
    Status,
    /// Numbers of a family's groups. Adds `group` and `status`.
    FamilyGroups,
    /// 1 for the group that needs the oldest entry of its stream. Adds `group`.
    Holder,
    /// The changes of a stream's groups. Labels `target`, `db`, `stream`, and `change`.
    GroupChanges,
    /// Adds `group` and `consumer`.
    Consumer(fn(ConsumerView<'_>) -> ValueReading),
}

/// An alert fact: its name in a rule, and the relation of its value to the metric.
#[derive(Clone, Copy, Debug)]
pub enum AlertFact {
    /// The value of the metric.
    Value(&'static str),
    /// A lag that may be known by its bounds only: the operator of the rule decides which metric counts.
    Bounds { name: &'static str, min: &'static Family, max: &'static Family },
    /// The increase of the counter in the loss window.
    Increase(&'static str),
    /// The time since the timestamp.
    Since(&'static str),
    /// The name of a status.
    Status(&'static str),
}

/// The row of a value in the details of a group.
#[derive(Clone, Copy, Debug)]
pub struct Label {
    pub name: &'static str,
    /// Explanation after the value; may be empty.
    pub note: &'static str,
    /// Returns why the value is not known; empty if there is nothing to know, so that the row is left out.
    pub why_unknown: fn(&GroupValues) -> &'static str,
}

/// A number, as exact as in the report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Count(u64),
    Seconds(Duration),
    Ratio(f64),
    PerSecond(f64),
}

/// A value at the time of a report.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum ValueReading {
    Known(Number),
    /// The value exists but is not known now.
    Unknown,
    /// There is no such value, for example because the group does not exist.
    Absent,
}

/// Returns a gauge of our own that is only a metric.
pub const fn gauge(
    name: &'static str,
    help: &'static str,
    unit: ValueUnit,
    aggregation: Aggregation,
    source: ValueSource,
) -> Family {
    Family {
        name,
        help,
        notes: "",
        absent: "",
        kind: MetricKind::Gauge,
        origin: MetricOrigin::Own,
        unit,
        aggregation,
        source,
        fact: None,
        label: None,
        counted_by: None,
    }
}

/// Returns a counter of our own that is only a metric.
pub const fn counter(
    name: &'static str,
    help: &'static str,
    unit: ValueUnit,
    aggregation: Aggregation,
    source: ValueSource,
) -> Family {
    Family { kind: MetricKind::Counter, ..gauge(name, help, unit, aggregation, source) }
}

impl Family {
    /// Returns the same with further sentences for the documentation.
    pub const fn notes(self, notes: &'static str) -> Self {
        Self { notes, ..self }
    }

    /// Returns the same with the cases in which it has no series.
    pub const fn absent(self, absent: &'static str) -> Self {
        Self { absent, ..self }
    }

    /// Returns the same with an alert fact.
    pub const fn fact(self, fact: AlertFact) -> Self {
        Self { fact: Some(fact), ..self }
    }

    /// Returns the same with a row in the details of a group.
    pub const fn label(
        self,
        name: &'static str,
        note: &'static str,
        why_unknown: fn(&GroupValues) -> &'static str,
    ) -> Self {
        Self { label: Some(Label { name, note, why_unknown }), ..self }
    }

    /// Returns the same as a value about things that `counter` counts.
    pub const fn counted_by(self, counter: &'static Self) -> Self {
        Self { counted_by: Some(counter), ..self }
    }

    /// Returns the labels of its series, before those of the target's configuration.
    pub fn labels(&self) -> &'static [&'static str] {
        match self.source {
            ValueSource::StreamUp | ValueSource::Stream(_) => &["target", "db", "stream"],
            ValueSource::GroupUp | ValueSource::Group(_) | ValueSource::Holder => {
                &["target", "db", "stream", "group"]
            }
            ValueSource::GroupChanges => &["target", "db", "stream", "change"],
            ValueSource::Status | ValueSource::FamilyGroups => &["target", "db", "stream", "group", "status"],
            ValueSource::Consumer(_) => &["target", "db", "stream", "group", "consumer"],
        }
    }

    /// Returns the name of its field in the JSON of a group.
    pub fn json_key(&self) -> &'static str {
        self.name.strip_prefix("redis_stream_group_").unwrap_or(self.name)
    }

    /// Reads the value from the values of a group; absent if it is not one of a group.
    pub fn of_group_values(&self, values: GroupView<'_>) -> ValueReading {
        match self.source {
            ValueSource::Group(read) => read(values),
            _ => ValueReading::Absent,
        }
    }

    /// Returns true if there is nothing that the value is about.
    pub(crate) fn counts_nothing_in(&self, values: GroupView<'_>) -> bool {
        let is_zero = |reading| matches!(reading, ValueReading::Absent | ValueReading::ZERO);
        self.counted_by.is_some_and(|counter| is_zero(counter.of_group_values(values)))
    }
}

/// A family is identified by its name.
impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl AlertFact {
    /// Returns its name in a rule.
    pub fn name(self) -> &'static str {
        match self {
            Self::Value(name)
            | Self::Bounds { name, .. }
            | Self::Increase(name)
            | Self::Since(name)
            | Self::Status(name) => name,
        }
    }
}

impl Number {
    /// Returns the number for JSON and comparisons; a count above 2^53 is rounded.
    #[expect(clippy::cast_precision_loss, reason = "Prometheus and JSON readers have no other numbers")]
    pub fn as_f64(self) -> f64 {
        match self {
            Self::Count(count) => count as f64,
            Self::Seconds(duration) => duration.as_secs_f64(),
            Self::Ratio(number) | Self::PerSecond(number) => number,
        }
    }
}

impl ValueReading {
    pub(crate) const ZERO: Self = Self::Known(Number::Count(0));

    pub fn known(self) -> Option<Number> {
        match self {
            Self::Known(number) => Some(number),
            Self::Unknown | Self::Absent => None,
        }
    }

    /// Reads from a group; absent if the group does not exist.
    pub fn of_group(stream: &ReportedStream, group: &GroupReport, read: fn(GroupView<'_>) -> Self) -> Self {
        stream.view(group).map_or(Self::Absent, read)
    }

    /// Reads from a stream; unknown if access was refused, absent if the stream does not exist.
    pub fn of_stream(stream: &StreamReport, read: fn(&StreamValues) -> Self) -> Self {
        match &stream.values {
            Some(values) => read(values),
            None if stream.refused => Self::Unknown,
            None => Self::Absent,
        }
    }

    /// Returns 1 if the stream was read; of a family, if all its streams were.
    pub fn stream_up(stream: &StreamReport) -> Self {
        let fold = |values: &StreamValues| values.seldom.fold.as_ref().is_none_or(|fold| fold.unread == 0);
        stream.values.as_ref().is_some_and(fold).into()
    }

    /// Returns 1 or 0 for a group that the configuration names; absent for others. A family has it if all its streams do.
    pub fn group_up(group: &GroupReport) -> Self {
        let is_whole = || group.fold().is_none_or(|fold| !fold.is_missing);
        if group.is_named() { (group.values.is_some() && is_whole()).into() } else { Self::Absent }
    }
}

impl<T: Into<Self>> From<Option<T>> for ValueReading {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Unknown, Into::into)
    }
}

impl From<bool> for ValueReading {
    fn from(yes: bool) -> Self {
        Self::Known(Number::Count(yes.into()))
    }
}

impl From<u32> for ValueReading {
    fn from(count: u32) -> Self {
        u64::from(count).into()
    }
}

impl From<u64> for ValueReading {
    fn from(count: u64) -> Self {
        Self::Known(Number::Count(count))
    }
}

impl From<Duration> for ValueReading {
    fn from(duration: Duration) -> Self {
        Self::Known(Number::Seconds(duration))
    }
}

impl From<Count> for ValueReading {
    fn from(count: Count) -> Self {
        count.get().into()
    }
}

impl From<Micros> for ValueReading {
    fn from(time: Micros) -> Self {
        time.get().into()
    }
}

impl From<Millis> for ValueReading {
    fn from(time: Millis) -> Self {
        time.get().into()
    }
}

impl From<Retention> for ValueReading {
    fn from(retention: Retention) -> Self {
        Self::Known(Number::Ratio(retention.ratio()))
    }
}

impl From<EntryRate> for ValueReading {
    fn from(rate: EntryRate) -> Self {
        Self::Known(Number::PerSecond(rate.per_second()))
    }
}

impl From<LossEstimate> for ValueReading {
    fn from(estimate: LossEstimate) -> Self {
        Self::Known(Number::Ratio(estimate.ratio()))
    }
}
