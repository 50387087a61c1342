//! The facts that a rule can name: a closed list, derived from the [table of values](crate::values::table).

use std::sync::LazyLock;
use std::time::Duration;

use crate::alert::operator::Operator;
use crate::values::family::{AlertFact, Family, Number, ValueReading, ValueSource, ValueUnit};
use crate::values::table::{ENTRIES_LOST_TOTAL, FAMILIES};
use redis_stream_lag::report::{GroupReport, ReportedStream, Status, StreamReport};

/// Window of history that the fact `entries_lost` covers.
pub const LOSS_WINDOW: Duration = Duration::from_secs(300);
/// Time for which a loss is remembered.
pub const LOSS_MEMORY: Duration = Duration::from_secs(3600);

/// Facts of built-in rules only.
static BUILT_IN_FACTS: [Fact; 4] = [
    Fact { name: "group_gone", unit: FactUnit::Number, source: FactSource::GroupGone },
    Fact { name: "limited", unit: FactUnit::Number, source: FactSource::LeftOut },
    Fact {
        name: "entries_lost_total",
        unit: FactUnit::Number,
        source: FactSource::Group(&ENTRIES_LOST_TOTAL),
    },
    Fact { name: "entries_lost_1h", unit: FactUnit::Number, source: FactSource::Losses(LossSpan::Hour) },
];

/// A value that a rule compares.
#[derive(Debug)]
pub struct Fact {
    /// Name in a rule.
    pub name: &'static str,
    pub unit: FactUnit,
    pub source: FactSource,
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
    /// A row about streams in the table of values; see [`of_stream`].
    Stream(&'static Family),
    /// A row about groups in the table of values; see [`of_group`].
    Group(&'static Family),
    /// The increase of losses in a time, which takes more than one report.
    Losses(LossSpan),
    /// The row of the status of a group; see [`status_is`].
    Status(&'static Family),
}

/// A time in which losses count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LossSpan {
    /// The [window](LOSS_WINDOW).
    Window,
    /// The [time](LOSS_MEMORY) after a loss: the value is 1 or 0.
    Hour,
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
    facts.push(Fact { name: "target_up", unit: FactUnit::Number, source: FactSource::TargetUp });
    facts.sort_by_key(|fact| match fact.source {
        FactSource::Group(Family { source: ValueSource::GroupUp, .. }) => 1,
        FactSource::Group(_) => 0,
        FactSource::Status(_) => 2,
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

    fn of_family(family: &'static Family) -> Option<Self> {
        let fact = family.fact?;
        let source = match (family.source, fact) {
            (_, AlertFact::Increase(_)) => FactSource::Losses(LossSpan::Window),
            (ValueSource::StreamUp | ValueSource::Stream(_), _) => FactSource::Stream(family),
            (ValueSource::GroupUp | ValueSource::Group(_), _) => FactSource::Group(family),
            (ValueSource::Status, _) => FactSource::Status(family),
            // An alert has no label for a consumer or a change.
            (
                ValueSource::Consumer(_)
                | ValueSource::Holder
                | ValueSource::GroupChanges
                | ValueSource::FamilyGroups,
                _,
            ) => return None,
        };
        let unit = match (source, family.unit) {
            (FactSource::Status(_), _) => FactUnit::Status,
            (_, ValueUnit::Seconds | ValueUnit::Timestamp) => FactUnit::Seconds,
            _ => FactUnit::Number,
        };
        Some(Self { name: fact.name(), unit, source })
    }

    pub fn subject(&self) -> SubjectKind {
        match self.source {
            FactSource::TargetUp | FactSource::LeftOut => SubjectKind::Target,
            FactSource::Stream(_) => SubjectKind::Stream,
            FactSource::Group(_) | FactSource::Losses(_) | FactSource::Status(_) | FactSource::GroupGone => {
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
        matches!(self.source, FactSource::Group(Family { source: ValueSource::GroupUp, .. }))
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

/// Returns the value of a row about streams at `now`, the time since the Unix epoch.
pub fn of_stream(family: &Family, stream: &StreamReport, now: Duration) -> FactValue {
    let reading = match family.source {
        ValueSource::StreamUp => ValueReading::stream_up(stream),
        ValueSource::Stream(read) => ValueReading::of_stream(stream, read),
        _ => ValueReading::Absent,
    };
    match (family.fact, reading.into()) {
        (Some(AlertFact::Since(_)), FactValue::Known(at)) => FactValue::Known((seconds(now) - at).max(0.0)),
        (_, value) => value,
    }
}

/// Returns the value of a row about groups for a comparison by this operator.
pub fn of_group(
    family: &'static Family,
    stream: &ReportedStream,
    group: &GroupReport,
    operator: Operator,
) -> FactValue {
    let reading = match compared_row(family, operator).source {
        ValueSource::GroupUp => ValueReading::group_up(group),
        ValueSource::Group(read) => ValueReading::of_group(stream, group, read),
        _ => ValueReading::Absent,
    };
    reading.into()
}

/// Returns the row that a comparison reads: of a value that may be known by its bounds only, the bound for which the
/// result is certain.
pub(super) fn compared_row(family: &'static Family, operator: Operator) -> &'static Family {
    match (family.fact, operator) {
        (Some(AlertFact::Bounds { min, .. }), Operator::Above | Operator::AtLeast) => min,
        (Some(AlertFact::Bounds { max, .. }), Operator::Below | Operator::AtMost) => max,
        _ => family,
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
    use redis_stream_core::id::StreamId;
    use redis_stream_lag::report::{
        Age, EntryRate, GroupValues, Lag, OldestPending, PendingCensus, PendingCensusReading, Retention,
        SeldomGroupValues, SilentConsumers,
    };
    use std::sync::Arc;

    fn group_value(name: &str, group: &GroupReport, operator: Operator) -> FactValue {
        match Fact::named(name).unwrap().source {
            FactSource::Group(family) => {
                let read_at = Duration::from_secs(1_700_000_009).into();
                let stream = StreamReport { read_at, ..stream("s", Vec::new()) };
                of_group(family, &stream.into(), group, operator)
            }
            other => panic!("{other:?}"),
        }
    }

    fn stream_value(name: &str, stream: &StreamReport) -> FactValue {
        match Fact::named(name).unwrap().source {
            FactSource::Stream(family) => of_stream(family, stream, Duration::from_secs(1_700_000_100)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_lag_between_bounds_is_compared_by_the_bound_that_is_certain() {
        let between = group("g", GroupValues { lag: Lag::Between { min: 3.into(), max: 40 }, ..values() });
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
    fn an_age_in_a_stream_that_did_not_change_is_as_of_the_last_reading() {
        let last_delivered_id = StreamId::new(1_700_000_000_000, 0);
        let group = group("g", GroupValues { last_delivered_id, messages_pending: 7, ..values() });
        let read_at = Duration::from_secs(1_700_000_003);
        let read = StreamReport { read_at: read_at.into(), ..stream("s", vec![group.clone()]) };
        let later = ReportedStream::from(read).unchanged_at(read_at + Duration::from_secs(10));
        for (name, expected) in [("last_delivered_id_age_seconds", 13.0), ("messages_pending", 7.0)] {
            let FactSource::Group(family) = Fact::named(name).unwrap().source else { panic!("{name}") };
            let value = of_group(family, &later, &group, Operator::Above);
            assert_eq!(value, FactValue::Known(expected), "{name}");
        }
    }

    #[test]
    fn facts_of_a_group_are_known_unknown_or_gone() {
        let s = Duration::from_secs;
        let pending = OldestPending::Entry {
            id: StreamId::new(1_700_000_000_000, 0),
            consumer: None,
            idle: None,
            deliveries: 4,
        };
        let known = GroupValues {
            lag_seconds: Some(Age::of(Duration::from_micros(1_500_000))),
            last_delivered_id: StreamId::new(1_700_000_006_000, 0),
            last_delivery_age: Some(Age::of(s(2))),
            messages_pending: 5,
            oldest_pending: Some(pending),
            pending_orphaned: Some(2.into()),
            pending_census: Some(PendingCensusReading {
                census: Arc::new(PendingCensus {
                    redelivered: 3,
                    failed: 1,
                    max_deliveries: Some(12.into()),
                    max_idle: Some(s(700).into()),
                    ..PendingCensus::default()
                }),
                unchanged_until: None,
            }),
            consumers: 6,
            consumers_growth: Some(2).into(),
            silent_consumers: Some(SilentConsumers::new(3, 1)),
            seldom: SeldomGroupValues {
                retention_used: Some(Retention { lag: 1, length: 4 }),
                ..SeldomGroupValues::default()
            }
            .into(),
            drain_time: Some(s(40).into()),
            added_rate: Some(EntryRate::new(5, s(10))),
            delivered_rate: Some(EntryRate::new(20, s(10))),
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
            ("pending_redelivered", is(3.0), is(0.0), is(0.0)),
            ("pending_max_deliveries", is(12.0), gone, gone),
            ("pending_max_idle_seconds", is(700.0), is(0.0), is(0.0)),
            ("pending_failed", is(1.0), gone, gone),
            ("consumers", is(6.0), is(0.0), is(0.0)),
            ("consumers_growth", is(2.0), unclear, unclear),
            ("consumers_idle", is(3.0), unclear, unclear),
            ("consumers_stranded", is(1.0), unclear, unclear),
            ("retention_used_ratio", is(0.25), unclear, unclear),
            ("backlog", is(5.0), is(0.0), is(0.0)),
            ("drain_seconds", is(40.0), unclear, unclear),
            ("added_per_second", is(0.5), unclear, unclear),
            ("delivered_per_second", is(2.0), unclear, unclear),
            ("group_up", gone, gone, gone),
        ] {
            let value =
                |values: &GroupValues| group_value(name, &group("g", values.clone()), Operator::Above);
            assert_eq!([&known, &unknown, &nothing].map(value), [of_known, of_unknown, of_nothing], "{name}");
            let of_missing = if name == "group_up" { is(0.0) } else { gone };
            assert_eq!(group_value(name, &missing_group("g"), Operator::Above), of_missing, "{name}");
        }
        let named = group("g", GroupValues { named: true, ..values() });
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
            ("trimmable_entries", [gone, gone, unclear]),
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
