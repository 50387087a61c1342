//! The facts that a rule can name: a closed list, derived from the [table of values](crate::values::table).

use std::sync::LazyLock;
use std::time::Duration;

use crate::alert::operator::Operator;
use crate::values::family::{AlertFact, Family, Number, ValueReading, ValueSource, ValueUnit};
use crate::values::table::{ENTRIES_LOST_TOTAL, FAMILIES};
use redis_stream_lag::report::{GroupReport, GroupValues, Status, StreamReport, StreamValues};

/// Window of history that the fact `entries_lost` covers.
pub const LOSS_WINDOW: Duration = Duration::from_secs(300);
/// Time for which a loss is remembered.
pub const LOSS_MEMORY: Duration = Duration::from_secs(3600);

/// Facts of built-in rules only.
static BUILT_IN_FACTS: [Fact; 4] = [
    Fact {
        name: "group_gone",
        unit: FactUnit::Number,
        source: FactSource::GroupGone,
        series: FactSeries::Metric("redis_stream_group_gone"),
    },
    Fact {
        name: "limited",
        unit: FactUnit::Number,
        source: FactSource::LeftOut,
        series: FactSeries::Metric("streamgauge_limited"),
    },
    Fact {
        name: "entries_lost_total",
        unit: FactUnit::Number,
        source: FactSource::Group(GroupFact::Value(|values| values.entries_lost.into())),
        series: FactSeries::Metric(ENTRIES_LOST_TOTAL.name),
    },
    Fact {
        name: "entries_lost_1h",
        unit: FactUnit::Number,
        source: FactSource::Losses(LossSpan::Hour),
        series: FactSeries::Increase(ENTRIES_LOST_TOTAL.name, LossSpan::Hour),
    },
];

/// A value that a rule compares.
#[derive(Debug)]
pub struct Fact {
    /// Name in a rule.
    pub name: &'static str,
    pub unit: FactUnit,
    pub source: FactSource,
    /// The series in Prometheus.
    pub series: FactSeries,
}

/// The kind of subject that a fact has. A rule has one alert per subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SubjectKind {
    Target,
    Stream,
    Group,
}

/// The unit of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactUnit {
    /// A plain number: a count, a ratio, or 0 and 1 for no and yes.
    Number,
    /// Seconds: a rule may write a duration.
    Seconds,
    /// The name of a [`Status`].
    Status,
}

/// The source of a fact's value.
#[derive(Clone, Copy, Debug)]
pub enum FactSource {
    /// 1 if the target answered the last poll, else 0.
    TargetUp,
    /// The number of objects that the limits of the target leave out.
    LeftOut,
    /// 1 for each group that was read and is gone.
    GroupGone,
    /// A stream's report.
    Stream(StreamFact),
    /// A group's report.
    Group(GroupFact),
    /// The increase of losses in a time, which takes more than one report.
    Losses(LossSpan),
    /// The status of a group; see [`status_is`].
    Status,
}

/// A time in which losses count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossSpan {
    /// The [window](LOSS_WINDOW).
    Window,
    /// The [time](LOSS_MEMORY) after a loss: the value is 1 or 0.
    Hour,
}

/// Reads a fact from a stream.
#[derive(Clone, Copy, Debug)]
pub enum StreamFact {
    Up,
    Value(fn(&StreamValues) -> ValueReading),
    /// The time since the value, a timestamp.
    Since(fn(&StreamValues) -> ValueReading),
}

/// Reads a fact from a group.
#[derive(Clone, Copy, Debug)]
pub enum GroupFact {
    Up,
    /// The lag: the operator decides which of its bounds counts.
    Lag,
    Value(fn(&GroupValues) -> ValueReading),
}

/// The PromQL series of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FactSeries {
    /// The metric itself.
    Metric(&'static str),
    /// The exact lag, its certain minimum or its certain maximum, depending on the operator.
    Lag { exact: &'static str, min: &'static str, max: &'static str },
    /// The time since this metric's timestamp.
    Since(&'static str),
    /// The increase of this counter in a time.
    Increase(&'static str, LossSpan),
    /// This metric's series of one status.
    Status(&'static str),
}

/// A fact's value, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum FactValue {
    Known(f64),
    /// There is a value, but it is not known now.
    Unknown,
    /// There is no value: the subject does not exist.
    Gone,
}

/// All facts, in the order in which messages and documents list them.
pub static FACTS: LazyLock<Vec<Fact>> = LazyLock::new(|| {
    let mut facts: Vec<_> = FAMILIES.iter().filter_map(|family| Fact::of_family(family)).collect();
    facts.push(Fact {
        name: "target_up",
        unit: FactUnit::Number,
        source: FactSource::TargetUp,
        series: FactSeries::Metric("streamgauge_target_up"),
    });
    facts.sort_by_key(|fact| match fact.source {
        FactSource::Group(GroupFact::Lag | GroupFact::Value(_)) => 0,
        FactSource::Group(GroupFact::Up) => 1,
        FactSource::Status => 2,
        FactSource::Losses(_) => 3,
        FactSource::Stream(_) => 4,
        FactSource::TargetUp | FactSource::LeftOut | FactSource::GroupGone => 5,
    });
    facts
});

impl Fact {
    /// Returns the fact of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        FACTS.iter().find(|fact| fact.name == name)
    }

    /// Returns the fact of this name, also if only built-in rules have it.
    pub(super) fn built_in(name: &str) -> Option<&'static Self> {
        Self::named(name).or_else(|| BUILT_IN_FACTS.iter().find(|fact| fact.name == name))
    }

    fn of_family(family: &Family) -> Option<Self> {
        let metric = family.name;
        let (name, series) = match family.fact? {
            AlertFact::Value(name) => (name, FactSeries::Metric(metric)),
            AlertFact::Bounds { name, min, max } => (name, FactSeries::Lag { exact: metric, min, max }),
            AlertFact::Increase(name) => (name, FactSeries::Increase(metric, LossSpan::Window)),
            AlertFact::Since(name) => (name, FactSeries::Since(metric)),
            AlertFact::Status(name) => (name, FactSeries::Status(metric)),
        };
        let source = match (family.source, series) {
            (ValueSource::StreamUp, _) => FactSource::Stream(StreamFact::Up),
            (ValueSource::Stream(read), FactSeries::Since(_)) => FactSource::Stream(StreamFact::Since(read)),
            (ValueSource::Stream(read), _) => FactSource::Stream(StreamFact::Value(read)),
            (ValueSource::GroupUp, _) => FactSource::Group(GroupFact::Up),
            (ValueSource::Group(_), FactSeries::Lag { .. }) => FactSource::Group(GroupFact::Lag),
            (ValueSource::Group(_), FactSeries::Increase(_, span)) => FactSource::Losses(span),
            (ValueSource::Group(read), _) => FactSource::Group(GroupFact::Value(read)),
            (ValueSource::Status, _) => FactSource::Status,
            // An alert has no label for a consumer.
            (ValueSource::Consumer(_), _) => return None,
        };
        let unit = match (source, family.unit) {
            (FactSource::Status, _) => FactUnit::Status,
            (_, ValueUnit::Seconds | ValueUnit::Timestamp) => FactUnit::Seconds,
            _ => FactUnit::Number,
        };
        Some(Self { name, unit, source, series })
    }

    pub fn subject(&self) -> SubjectKind {
        match self.source {
            FactSource::TargetUp | FactSource::LeftOut => SubjectKind::Target,
            FactSource::Stream(_) => SubjectKind::Stream,
            FactSource::Group(_) | FactSource::Losses(_) | FactSource::Status | FactSource::GroupGone => {
                SubjectKind::Group
            }
        }
    }

    /// Returns true if the fact is known only over a window of history.
    pub fn needs_window(&self) -> bool {
        matches!(self.source, FactSource::Losses(_))
    }

    /// Returns true if the fact is known only for groups that the configuration names.
    pub fn only_named(&self) -> bool {
        matches!(self.source, FactSource::Group(GroupFact::Up))
    }
}

/// A fact is identified by its name.
impl PartialEq for Fact {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl LossSpan {
    /// Returns the time as PromQL writes it.
    pub(super) fn promql(self) -> &'static str {
        match self {
            Self::Window => "5m",
            Self::Hour => "1h",
        }
    }
}

impl StreamFact {
    /// Returns the value at `now`, the time since the Unix epoch.
    pub fn value(self, stream: &StreamReport, now: Duration) -> FactValue {
        match self {
            Self::Up => ValueReading::stream_up(stream).into(),
            Self::Value(read) => ValueReading::of_stream(stream, read).into(),
            Self::Since(read) => match ValueReading::of_stream(stream, read).into() {
                FactValue::Known(at) => FactValue::Known((seconds(now) - at).max(0.0)),
                other => other,
            },
        }
    }
}

impl GroupFact {
    pub fn value(self, group: &GroupReport, operator: Operator) -> FactValue {
        let reading = match self {
            Self::Up => ValueReading::group_up(group),
            Self::Value(read) => ValueReading::of_group(group, read),
            Self::Lag => ValueReading::of_group(
                group,
                match operator {
                    Operator::Above | Operator::AtLeast => |values| values.lag.min().into(),
                    Operator::Below | Operator::AtMost => |values| values.lag.max().into(),
                    Operator::Is | Operator::IsNot => |values| values.lag.exact().into(),
                },
            ),
        };
        reading.into()
    }
}

impl From<ValueReading> for FactValue {
    fn from(reading: ValueReading) -> Self {
        match reading {
            ValueReading::Known(Number::Seconds(duration)) => Self::Known(seconds(duration)),
            ValueReading::Known(number) => Self::Known(number.as_f64()),
            ValueReading::Unknown => Self::Unknown,
            ValueReading::Absent => Self::Gone,
        }
    }
}

/// Returns 1 if `wanted` holds for a group, else 0: a condition, whatever else holds, or `ok` or `unknown` as its
/// status. Before a window of history was seen it is not known that a condition does not hold.
pub fn status_is(group: &GroupReport, wanted: &str) -> FactValue {
    let Some(values) = &group.values else { return FactValue::Gone };
    let holds = Status::from_name(wanted).and_then(|wanted| values.status.holds(wanted));
    holds.map_or(FactValue::Unknown, |holds| FactValue::Known(f64::from(u8::from(holds))))
}

/// Returns the seconds as `/metrics` writes them: to the microsecond.
fn seconds(duration: Duration) -> f64 {
    Duration::new(duration.as_secs(), duration.subsec_micros() * 1000).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::test_support::{group, missing_group, stream, values};
    use redis_stream_lag::report::{Lag, OldestPending, Retention};

    fn group_value(name: &str, group: &GroupReport, operator: Operator) -> FactValue {
        match Fact::named(name).unwrap().source {
            FactSource::Group(fact) => fact.value(group, operator),
            other => panic!("{other:?}"),
        }
    }

    fn stream_value(name: &str, stream: &StreamReport) -> FactValue {
        match Fact::named(name).unwrap().source {
            FactSource::Stream(fact) => fact.value(stream, Duration::from_secs(1_700_000_100)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_lag_between_bounds_is_compared_by_the_bound_that_is_certain() {
        let between = group("g", GroupValues { lag: Lag::Between { min: 3, max: 40 }, ..values() });
        for (operator, value) in [
            (Operator::Above, FactValue::Known(3.0)),
            (Operator::AtLeast, FactValue::Known(3.0)),
            (Operator::Below, FactValue::Known(40.0)),
            (Operator::AtMost, FactValue::Known(40.0)),
            (Operator::Is, FactValue::Unknown),
            (Operator::IsNot, FactValue::Unknown),
        ] {
            assert_eq!(group_value("lag", &between, operator), value, "{operator:?}");
            let exact = group("g", GroupValues { lag: Lag::Exact(7), ..values() });
            assert_eq!(group_value("lag", &exact, operator), FactValue::Known(7.0), "{operator:?}");
        }
    }

    #[test]
    fn facts_of_a_group_are_known_unknown_or_gone() {
        let s = Duration::from_secs;
        let pending = OldestPending::Entry { age: Some(s(9)), idle: None, deliveries: 4 };
        let known = GroupValues {
            lag_seconds: Some(Duration::from_micros(1_500_000)),
            last_delivered_id_age: Some(s(3)),
            last_delivery_age: Some(s(2)),
            messages_pending: 5,
            oldest_pending: Some(pending),
            pending_orphaned: Some(2),
            consumers: 6,
            retention_used: Some(Retention { lag: 1, length: 4 }),
            ..values()
        };
        let unknown = GroupValues { oldest_pending: None, ..values() };
        let nothing = GroupValues { oldest_pending: Some(OldestPending::Nothing), ..values() };
        let (is, unclear, gone) = (FactValue::Known, FactValue::Unknown, FactValue::Gone);
        for (name, of_known, of_unknown, of_nothing) in [
            ("lag_seconds", is(1.5), unclear, unclear),
            ("last_delivered_id_age_seconds", is(3.0), unclear, unclear),
            ("last_delivery_age_seconds", is(2.0), unclear, unclear),
            ("messages_pending", is(5.0), is(0.0), is(0.0)),
            ("oldest_pending_age_seconds", is(9.0), unclear, is(0.0)),
            ("oldest_pending_idle_seconds", unclear, unclear, is(0.0)),
            ("oldest_pending_deliveries", is(4.0), unclear, gone),
            ("pending_orphaned", is(2.0), unclear, unclear),
            ("consumers", is(6.0), is(0.0), is(0.0)),
            ("retention_used_ratio", is(0.25), unclear, unclear),
            ("group_up", gone, gone, gone),
        ] {
            let value =
                |values: &GroupValues| group_value(name, &group("g", values.clone()), Operator::Above);
            assert_eq!([&known, &unknown, &nothing].map(value), [of_known, of_unknown, of_nothing], "{name}");
            let of_missing = if name == "group_up" { is(0.0) } else { gone };
            assert_eq!(group_value(name, &missing_group("g"), Operator::Above), of_missing, "{name}");
        }
        let named = GroupReport { named: true, ..group("g", values()) };
        assert_eq!(group_value("group_up", &named, Operator::Is), is(1.0));
    }

    #[test]
    fn facts_of_a_stream_are_known_unknown_or_gone() {
        let read = stream("s", Vec::new());
        let missing = StreamReport { values: None, ..read.clone() };
        let refused = StreamReport { refused: true, ..missing.clone() };
        let (is, unclear, gone) = (FactValue::Known, FactValue::Unknown, FactValue::Gone);
        for (name, expected) in [
            ("stream_up", [is(1.0), is(0.0), is(0.0)]),
            ("length", [is(40.0), gone, unclear]),
            ("last_generated_id_age_seconds", [is(100.0), gone, unclear]),
        ] {
            let values = [&read, &missing, &refused].map(|stream| stream_value(name, stream));
            assert_eq!(values, expected, "{name}");
        }
    }

    #[test]
    fn an_unknown_status_is_neither_equal_nor_unequal_to_another_one() {
        let with_status = |status: Status| group("g", GroupValues { status: status.into(), ..values() });
        assert_eq!(status_is(&with_status(Status::Stalled), "stalled"), FactValue::Known(1.0));
        assert_eq!(status_is(&with_status(Status::Ok), "stalled"), FactValue::Known(0.0));
        assert_eq!(status_is(&with_status(Status::Unknown), "stalled"), FactValue::Unknown);
        assert_eq!(status_is(&with_status(Status::Unknown), "unknown"), FactValue::Known(1.0));
        assert_eq!(status_is(&missing_group("g"), "ok"), FactValue::Gone);
    }

    #[test]
    fn names_are_unique_and_in_lower_case() {
        let mut names: Vec<_> = FACTS.iter().map(|fact| fact.name).collect();
        assert!(
            names.iter().flat_map(|name| name.bytes()).all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        );
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FACTS.len());
    }
}
