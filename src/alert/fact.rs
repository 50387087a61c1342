//! The facts that an alert can speak of: a closed list. Each has the name of its metric without the prefix, a
//! subject and a unit, a value in a [report](redis_stream_lag::report), and the series that says the same to Prometheus.

use std::time::Duration;

use crate::alert::operator::Operator;
use redis_stream_lag::report::Status;
use redis_stream_lag::report::{GroupReport, GroupValues, OldestPending, StreamReport, StreamValues};

/// How far back `entries_lost` looks.
pub const LOSS_WINDOW: Duration = Duration::from_secs(300);

/// Something that an alert can speak of.
#[derive(Debug)]
pub struct Fact {
    /// Its name in a rule.
    pub name: &'static str,
    /// What its value is measured in.
    pub unit: Unit,
    /// What it is a fact of, and its value there.
    pub source: Source,
    /// What Prometheus knows it by.
    pub series: Series,
}

/// What a fact is a fact of: one alert for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// A target.
    Target,
    /// A stream of a target.
    Stream,
    /// A group of a stream.
    Group,
}

/// What a value is measured in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// A plain number: a count, a ratio, or 0 and 1 for no and yes.
    Number,
    /// Seconds: a rule may write a duration.
    Seconds,
    /// The name of a [`Status`].
    Status,
}

/// Where the value of a fact comes from.
#[derive(Clone, Copy)]
pub enum Source {
    /// Whether the target answered in the last poll.
    TargetUp,
    /// A stream's report at a time, since the Unix epoch.
    Stream(fn(&StreamReport, Duration) -> Value),
    /// A group's report. The operator decides which bound of a lag counts.
    Group(fn(&GroupReport, Operator) -> Value),
    /// What a group lost in the [window](LOSS_WINDOW), which takes more than one report.
    Losses,
    /// The status of a group; see [`status_is`].
    Status,
}

/// The series of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Series {
    /// The metric itself.
    Metric(&'static str),
    /// Of a lag, the exact one, its certain minimum or its certain maximum, as the operator asks.
    Lag {
        /// Metric of the exact lag.
        exact: &'static str,
        /// Metric of the certain minimum.
        min: &'static str,
        /// Metric of the certain maximum.
        max: &'static str,
    },
    /// The time since this metric's time stamp.
    Since(&'static str),
    /// The rise of this counter in the [window](LOSS_WINDOW).
    Increase(&'static str),
    /// This metric's series of one status.
    Status(&'static str),
}

/// What is known of a fact's value.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// This.
    Known(f64),
    /// There is one, but it is not known now.
    Unknown,
    /// There is none: the subject is not there.
    Gone,
}

/// Every fact.
pub const FACTS: &[Fact] = &[
    Fact {
        series: Series::Lag {
            exact: "redis_stream_group_lag",
            min: "redis_stream_group_lag_min",
            max: "redis_stream_group_lag_max",
        },
        ..group("lag", Unit::Number, "", |group, operator| {
            of(group, operator, |values, operator| match operator {
                Operator::Above | Operator::AtLeast => Some(count(values.lag.min())),
                Operator::Below | Operator::AtMost => Some(count(values.lag.max())),
                Operator::Is | Operator::IsNot => values.lag.exact().map(count),
            })
        })
    },
    group("lag_seconds", Unit::Seconds, "redis_stream_group_lag_seconds", |group, operator| {
        of(group, operator, |values, _| values.lag_seconds.map(seconds))
    }),
    group(
        "last_delivered_id_age_seconds",
        Unit::Seconds,
        "redis_stream_group_last_delivered_id_age_seconds",
        |group, operator| of(group, operator, |values, _| values.last_delivered_id_age.map(seconds)),
    ),
    group("messages_pending", Unit::Number, "redis_stream_group_messages_pending", |group, operator| {
        of(group, operator, |values, _| Some(count(values.messages_pending)))
    }),
    group(
        "oldest_pending_age_seconds",
        Unit::Seconds,
        "redis_stream_group_oldest_pending_age_seconds",
        |group, _| oldest_pending(group, Value::Known(0.0), |age, _, _| age.map(seconds)),
    ),
    group(
        "oldest_pending_idle_seconds",
        Unit::Seconds,
        "redis_stream_group_oldest_pending_idle_seconds",
        |group, _| oldest_pending(group, Value::Known(0.0), |_, idle, _| idle.map(seconds)),
    ),
    group(
        "oldest_pending_deliveries",
        Unit::Number,
        "redis_stream_group_oldest_pending_deliveries",
        // As the series, which is absent where nothing is pending.
        |group, _| oldest_pending(group, Value::Gone, |_, _, deliveries| Some(count(deliveries))),
    ),
    group("pending_orphaned", Unit::Number, "redis_stream_group_pending_orphaned", |group, operator| {
        of(group, operator, |values, _| values.pending_orphaned.map(count))
    }),
    group("consumers", Unit::Number, "redis_stream_group_consumers", |group, operator| {
        of(group, operator, |values, _| Some(count(values.consumers)))
    }),
    group(
        "retention_used_ratio",
        Unit::Number,
        "redis_stream_group_retention_used_ratio",
        |group, operator| of(group, operator, |values, _| values.retention_used.map(|used| used.ratio())),
    ),
    group("group_up", Unit::Number, "redis_stream_group_up", |group, _| {
        if group.named { Value::Known(yes_or_no(group.values.is_some())) } else { Value::Gone }
    }),
    Fact {
        name: "status",
        unit: Unit::Status,
        source: Source::Status,
        series: Series::Status("redis_stream_group_status"),
    },
    Fact {
        name: "entries_lost",
        unit: Unit::Number,
        source: Source::Losses,
        series: Series::Increase("redis_stream_group_entries_lost_total"),
    },
    Fact {
        name: "stream_up",
        unit: Unit::Number,
        source: Source::Stream(|stream, _| Value::Known(yes_or_no(stream.values.is_some()))),
        series: Series::Metric("redis_stream_up"),
    },
    Fact {
        name: "length",
        unit: Unit::Number,
        source: Source::Stream(|stream, _| of_stream(stream, |values| Some(count(values.length)))),
        series: Series::Metric("redis_stream_length"),
    },
    Fact {
        name: "last_generated_id_age_seconds",
        unit: Unit::Seconds,
        source: Source::Stream(|stream, now| {
            match of_stream(stream, |values| values.last_generated.map(seconds)) {
                Value::Known(at) => Value::Known((seconds(now) - at).max(0.0)),
                other => other,
            }
        }),
        series: Series::Since("redis_stream_last_generated_id_timestamp_seconds"),
    },
    Fact {
        name: "target_up",
        unit: Unit::Number,
        source: Source::TargetUp,
        series: Series::Metric("streamgauge_target_up"),
    },
];

const fn group(
    name: &'static str,
    unit: Unit,
    metric: &'static str,
    value: fn(&GroupReport, Operator) -> Value,
) -> Fact {
    Fact { name, unit, source: Source::Group(value), series: Series::Metric(metric) }
}

impl Fact {
    /// The fact of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        FACTS.iter().find(|fact| fact.name == name)
    }

    /// What it is a fact of.
    #[must_use]
    pub fn subject(&self) -> Subject {
        match self.source {
            Source::TargetUp => Subject::Target,
            Source::Stream(_) => Subject::Stream,
            Source::Group(_) | Source::Losses | Source::Status => Subject::Group,
        }
    }
}

/// There is one fact of a name.
impl PartialEq for Fact {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::TargetUp => "TargetUp",
            Self::Stream(_) => "Stream",
            Self::Group(_) => "Group",
            Self::Losses => "Losses",
            Self::Status => "Status",
        })
    }
}

/// Whether the status of a group is `wanted`, as 1 or 0. A group that was not watched for long enough has none,
/// unless that is what is asked for.
#[must_use]
pub fn status_is(group: &GroupReport, wanted: &str) -> Value {
    match group.values.as_ref().map(|values| values.status) {
        None => Value::Gone,
        Some(Status::Unknown) if wanted != Status::Unknown.as_str() => Value::Unknown,
        Some(status) => Value::Known(yes_or_no(status.as_str() == wanted)),
    }
}

fn of(group: &GroupReport, operator: Operator, value: fn(&GroupValues, Operator) -> Option<f64>) -> Value {
    let Some(values) = &group.values else { return Value::Gone };
    value(values, operator).map_or(Value::Unknown, Value::Known)
}

fn of_stream(stream: &StreamReport, value: fn(&StreamValues) -> Option<f64>) -> Value {
    match &stream.values {
        Some(values) => value(values).map_or(Value::Unknown, Value::Known),
        None if stream.refused => Value::Unknown,
        None => Value::Gone,
    }
}

type Span = Option<Duration>;

fn oldest_pending(
    group: &GroupReport,
    if_nothing: Value,
    value: fn(Span, Span, u64) -> Option<f64>,
) -> Value {
    let Some(values) = &group.values else { return Value::Gone };
    match values.oldest_pending {
        None => Value::Unknown,
        Some(OldestPending::Nothing) => if_nothing,
        Some(OldestPending::Entry { age, idle, deliveries }) => {
            value(age, idle, deliveries).map_or(Value::Unknown, Value::Known)
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "Prometheus has no other numbers")]
fn count(number: u64) -> f64 {
    number as f64
}

/// As `/metrics` writes it: to the microsecond.
fn seconds(duration: Duration) -> f64 {
    Duration::new(duration.as_secs(), duration.subsec_micros() * 1000).as_secs_f64()
}

fn yes_or_no(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::test_support::{group, missing_group, stream, values};
    use redis_stream_lag::report::{Lag, Retention};

    fn group_value(name: &str, group: &GroupReport, operator: Operator) -> Value {
        match Fact::named(name).unwrap().source {
            Source::Group(value) => value(group, operator),
            other => panic!("{other:?}"),
        }
    }

    fn stream_value(name: &str, stream: &StreamReport) -> Value {
        match Fact::named(name).unwrap().source {
            Source::Stream(value) => value(stream, Duration::from_secs(1_700_000_100)),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_lag_between_bounds_is_compared_by_the_bound_that_is_certain() {
        let between = group("g", GroupValues { lag: Lag::Between { min: 3, max: 40 }, ..values() });
        for (operator, value) in [
            (Operator::Above, Value::Known(3.0)),
            (Operator::AtLeast, Value::Known(3.0)),
            (Operator::Below, Value::Known(40.0)),
            (Operator::AtMost, Value::Known(40.0)),
            (Operator::Is, Value::Unknown),
            (Operator::IsNot, Value::Unknown),
        ] {
            assert_eq!(group_value("lag", &between, operator), value, "{operator:?}");
            let exact = group("g", GroupValues { lag: Lag::Exact(7), ..values() });
            assert_eq!(group_value("lag", &exact, operator), Value::Known(7.0), "{operator:?}");
        }
    }

    #[test]
    fn facts_of_a_group_are_known_unknown_or_gone() {
        let s = Duration::from_secs;
        let pending = OldestPending::Entry { age: Some(s(9)), idle: None, deliveries: 4 };
        let known = GroupValues {
            lag_seconds: Some(Duration::from_micros(1_500_000)),
            last_delivered_id_age: Some(s(3)),
            messages_pending: 5,
            oldest_pending: Some(pending),
            pending_orphaned: Some(2),
            consumers: 6,
            retention_used: Some(Retention { lag: 1, length: 4 }),
            ..values()
        };
        let unknown = GroupValues { oldest_pending: None, ..values() };
        let nothing = GroupValues { oldest_pending: Some(OldestPending::Nothing), ..values() };
        let (is, unclear, gone) = (Value::Known, Value::Unknown, Value::Gone);
        for (name, of_known, of_unknown, of_nothing) in [
            ("lag_seconds", is(1.5), unclear, unclear),
            ("last_delivered_id_age_seconds", is(3.0), unclear, unclear),
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
        let (is, unclear, gone) = (Value::Known, Value::Unknown, Value::Gone);
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
    fn a_group_that_was_not_watched_for_long_enough_has_no_status_but_that() {
        let watched = |status| group("g", GroupValues { status, ..values() });
        assert_eq!(status_is(&watched(Status::Stalled), "stalled"), Value::Known(1.0));
        assert_eq!(status_is(&watched(Status::Ok), "stalled"), Value::Known(0.0));
        assert_eq!(status_is(&watched(Status::Unknown), "stalled"), Value::Unknown);
        assert_eq!(status_is(&watched(Status::Unknown), "unknown"), Value::Known(1.0));
        assert_eq!(status_is(&missing_group("g"), "ok"), Value::Gone);
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
