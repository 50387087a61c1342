//! The facts that an alert can use: a closed list, taken from the [table of values](crate::values::table).

use std::sync::LazyLock;
use std::time::Duration;

use crate::alert::operator::Operator;
use crate::values::family::{self, AlertFact, Family, Number};
use crate::values::table::FAMILIES;
use redis_stream_lag::report::Status;
use redis_stream_lag::report::{GroupReport, GroupValues, StreamReport, StreamValues};

/// How far back `entries_lost` looks.
pub const LOSS_WINDOW: Duration = Duration::from_secs(300);

/// A fact: a value that a rule compares.
#[derive(Debug)]
pub struct Fact {
    /// Name in a rule.
    pub name: &'static str,
    pub unit: Unit,
    pub source: Source,
    /// The series in Prometheus.
    pub series: Series,
}

/// The subject of a fact: there is one alert for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    Target,
    Stream,
    Group,
}

/// The unit of a value.
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
#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// 1 if the target answered the last poll, else 0.
    TargetUp,
    /// A stream's report.
    Stream(StreamFact),
    /// A group's report.
    Group(GroupFact),
    /// The increase of losses in the [window](LOSS_WINDOW), which takes more than one report.
    Losses,
    /// The status of a group; see [`status_is`].
    Status,
}

/// Reads a fact from a stream.
#[derive(Clone, Copy, Debug)]
pub enum StreamFact {
    Up,
    Value(fn(&StreamValues) -> family::Reading),
    /// The time since the value, a timestamp.
    Since(fn(&StreamValues) -> family::Reading),
}

/// Reads a fact from a group.
#[derive(Clone, Copy, Debug)]
pub enum GroupFact {
    Up,
    /// The lag: the operator decides which of its bounds counts.
    Lag,
    Value(fn(&GroupValues) -> family::Reading),
}

/// The series of a fact.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Series {
    /// The metric itself.
    Metric(&'static str),
    /// The exact lag, its certain minimum or its certain maximum, depending on the operator.
    Lag { exact: &'static str, min: &'static str, max: &'static str },
    /// The time since this metric's timestamp.
    Since(&'static str),
    /// The increase of this counter in the [window](LOSS_WINDOW).
    Increase(&'static str),
    /// This metric's series of one status.
    Status(&'static str),
}

/// A fact's value, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    Known(f64),
    /// There is a value, but it is not known now.
    Unknown,
    /// There is no value: the subject does not exist.
    Gone,
}

/// All facts: first those that a single report of a group gives.
pub static FACTS: LazyLock<Vec<Fact>> = LazyLock::new(|| {
    let mut facts: Vec<_> = FAMILIES.iter().filter_map(|family| Fact::of_family(family)).collect();
    facts.push(Fact {
        name: "target_up",
        unit: Unit::Number,
        source: Source::TargetUp,
        series: Series::Metric("streamgauge_target_up"),
    });
    facts.sort_by_key(|fact| match fact.source {
        Source::Group(GroupFact::Lag | GroupFact::Value(_)) => 0,
        Source::Group(GroupFact::Up) => 1,
        Source::Status => 2,
        Source::Losses => 3,
        Source::Stream(_) => 4,
        Source::TargetUp => 5,
    });
    facts
});

impl Fact {
    /// Returns the fact of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<&'static Self> {
        FACTS.iter().find(|fact| fact.name == name)
    }

    fn of_family(family: &Family) -> Option<Self> {
        let metric = family.name;
        let (name, series) = match family.fact? {
            AlertFact::Value(name) => (name, Series::Metric(metric)),
            AlertFact::Bounds { name, min, max } => (name, Series::Lag { exact: metric, min, max }),
            AlertFact::Increase(name) => (name, Series::Increase(metric)),
            AlertFact::Since(name) => (name, Series::Since(metric)),
            AlertFact::Status(name) => (name, Series::Status(metric)),
        };
        let source = match (family.source, series) {
            (family::Source::StreamUp, _) => Source::Stream(StreamFact::Up),
            (family::Source::Stream(read), Series::Since(_)) => Source::Stream(StreamFact::Since(read)),
            (family::Source::Stream(read), _) => Source::Stream(StreamFact::Value(read)),
            (family::Source::GroupUp, _) => Source::Group(GroupFact::Up),
            (family::Source::Group(_), Series::Lag { .. }) => Source::Group(GroupFact::Lag),
            (family::Source::Group(_), Series::Increase(_)) => Source::Losses,
            (family::Source::Group(read), _) => Source::Group(GroupFact::Value(read)),
            (family::Source::Status, _) => Source::Status,
            // An alert has no label for a consumer.
            (family::Source::Consumer(_), _) => return None,
        };
        let unit = match (source, family.unit) {
            (Source::Status, _) => Unit::Status,
            (_, family::Unit::Seconds | family::Unit::Timestamp) => Unit::Seconds,
            _ => Unit::Number,
        };
        Some(Self { name, unit, source, series })
    }

    #[must_use]
    pub fn subject(&self) -> Subject {
        match self.source {
            Source::TargetUp => Subject::Target,
            Source::Stream(_) => Subject::Stream,
            Source::Group(_) | Source::Losses | Source::Status => Subject::Group,
        }
    }

    /// Returns true if the fact is known only over a window of history.
    #[must_use]
    pub fn needs_window(&self) -> bool {
        matches!(self.source, Source::Losses)
    }

    /// Returns true if the fact is known only for groups that the configuration names.
    #[must_use]
    pub fn only_named(&self) -> bool {
        matches!(self.source, Source::Group(GroupFact::Up))
    }
}

/// A fact is identified by its name.
impl PartialEq for Fact {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl StreamFact {
    /// Returns the value at `now`, the time since the Unix epoch.
    #[must_use]
    pub fn value(self, stream: &StreamReport, now: Duration) -> Value {
        match self {
            Self::Up => family::Reading::stream_up(stream).into(),
            Self::Value(read) => family::Reading::of_stream(stream, read).into(),
            Self::Since(read) => match family::Reading::of_stream(stream, read).into() {
                Value::Known(at) => Value::Known((seconds(now) - at).max(0.0)),
                other => other,
            },
        }
    }
}

impl GroupFact {
    #[must_use]
    pub fn value(self, group: &GroupReport, operator: Operator) -> Value {
        let reading = match self {
            Self::Up => family::Reading::group_up(group),
            Self::Value(read) => family::Reading::of_group(group, read),
            Self::Lag => family::Reading::of_group(
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

impl From<family::Reading> for Value {
    fn from(reading: family::Reading) -> Self {
        match reading {
            family::Reading::Known(Number::Seconds(duration)) => Self::Known(seconds(duration)),
            family::Reading::Known(number) => Self::Known(number.as_f64()),
            family::Reading::Unknown => Self::Unknown,
            family::Reading::Absent => Self::Gone,
        }
    }
}

/// Returns 1 if the status of a group is `wanted`, else 0. The status is not known before a window of history was
/// seen, unless `wanted` is `unknown`.
#[must_use]
pub fn status_is(group: &GroupReport, wanted: &str) -> Value {
    match group.values.as_ref().map(|values| values.status) {
        None => Value::Gone,
        Some(Status::Unknown) if wanted != Status::Unknown.as_str() => Value::Unknown,
        Some(status) => Value::Known(f64::from(u8::from(status.as_str() == wanted))),
    }
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

    fn group_value(name: &str, group: &GroupReport, operator: Operator) -> Value {
        match Fact::named(name).unwrap().source {
            Source::Group(fact) => fact.value(group, operator),
            other => panic!("{other:?}"),
        }
    }

    fn stream_value(name: &str, stream: &StreamReport) -> Value {
        match Fact::named(name).unwrap().source {
            Source::Stream(fact) => fact.value(stream, Duration::from_secs(1_700_000_100)),
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
