//! The diagnosis of an alert that fires, and the reason of one that resolved, in words: the values with which its expression
//! last held, and the difference between them and those with which it does not hold any more.

use std::time::Duration;

use crate::alert::condition::{Condition, Operand};
use crate::alert::expression::Expression;
use crate::alert::fact::{FactSource, LossSpan};
use crate::alert::template::format_value;
use crate::diagnosis::{self, Diagnosis};
use crate::format::units::{count, span};
use redis_stream_core::name::Name;
use redis_stream_core::wall_clock::ClockShift;
use redis_stream_lag::compact::Micros;
use redis_stream_lag::report::{
    GroupReport, GroupValues, GroupView, NewPosition, OldestPending, ReportedStream, Status, StreamReport,
    StreamValues,
};

/// The annotation of a resolved alert that has the reason.
pub const ANNOTATION: &str = "resolved_reason";

pub(crate) const DESELECTED: &str = "it was taken out of the configuration";
pub(super) const RULE_REMOVED: &str = "the rule was taken out of the configuration";
pub(super) const TARGET_REMOVED: &str = "the target was taken out of the configuration";
pub(super) const BACK: &str = "the group is back";
pub(super) const FORGOTTEN: &str = "the group has been gone for an hour";
const STREAM_DELETED: &str = "the stream was deleted";
const GROUP_DESTROYED: &str = "the group was destroyed";
const LOSES_NOW: &str = "entries are lost now";
const SET_ELSEWHERE: &str = "the group was set to another position";
const STREAM_REPLACED: &str = "the stream was deleted or replaced";
const GROUP_RECREATED: &str = "the group was destroyed and created again";
/// The start of a reason, before a duration.
const NOT_KNOWN: &str = "its values have not been known for";
/// The end of reasons, after a number.
const REMOVED: &str = "entries were removed before they were read";
const WAS_REMOVED: &str = "entry was removed before it was read";

/// The values of a group with which an expression last held, as a part of those of its stream.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HeldValues {
    /// Shares its values with the report.
    stream: ReportedStream,
    /// Time of the evaluation, since the Unix epoch.
    at: Micros,
}

/// The knowledge about a subject when its alert resolves.
#[derive(Clone, Copy, Debug)]
pub(super) enum SubjectView<'r> {
    /// The subject is a target.
    Target,
    Stream(&'r StreamReport),
    Group(&'r ReportedStream, &'r GroupReport),
    /// A stream that is not reported, although everything was read, or a group of it.
    NoStream,
    /// A group that is not reported, although its stream was read.
    NoGroup,
    /// Its values have not been known for too long.
    Unknown(Duration),
}

impl HeldValues {
    /// Holds the values of a group; of a family, those of the group that is the worst.
    pub(super) fn of(stream: &ReportedStream, group: &GroupReport, at: Duration) -> Option<Self> {
        if let Some(fold) = group.fold() {
            return Self::of(&fold.worst, fold.worst.group(&group.name)?, at);
        }
        stream.group(&group.name)?;
        Some(Self { stream: stream.clone(), at: at.into() })
    }

    /// Returns the key of the stream, if the alert is about its family.
    pub(super) fn worst_stream(&self) -> Option<&Name> {
        self.stream.family.as_ref().map(|_| &self.stream.key)
    }

    fn values(&self, group: &Name) -> Option<GroupView<'_>> {
        self.stream.view(self.stream.group(group)?)
    }

    pub(super) fn shift_times(&mut self, shift: ClockShift) {
        self.at = shift.apply(self.at.get()).into();
    }

    /// Returns the diagnosis of the group as far as the expression is about it.
    pub(super) fn diagnosis(&self, group: &Name, expression: &Expression) -> Option<Diagnosis> {
        let (values, at) = (self.values(group)?, self.at.get());
        match Topic::of(expression) {
            Topic::Losses => Some(diagnosis::of_status(Status::Losing, values, at)),
            Topic::Pending => diagnosis::of_pending(values, at),
            Topic::Waiting | Topic::Consumers => Some(diagnosis::of_waiting(values, at)),
            Topic::Other => {
                let holding = values.status.conditions;
                let named = expression
                    .conditions()
                    .into_iter()
                    .find_map(|condition| Status::from_name(condition.quantity()));
                let status = named.filter(|status| holding.contains(*status)).or(holding.worst())?;
                Some(diagnosis::of_status(status, values, at))
            }
        }
    }
}

/// Returns true if what resolved for this reason is well again; false if the subject is gone, its values are not known, or
/// entries were removed before they were read.
pub(crate) fn is_recovery(reason: &str) -> bool {
    const OTHERS: [&str; 10] = [
        DESELECTED,
        RULE_REMOVED,
        TARGET_REMOVED,
        FORGOTTEN,
        STREAM_DELETED,
        GROUP_DESTROYED,
        LOSES_NOW,
        SET_ELSEWHERE,
        STREAM_REPLACED,
        GROUP_RECREATED,
    ];
    !(OTHERS.contains(&reason)
        || reason.starts_with(NOT_KNOWN)
        || reason.ends_with(REMOVED)
        || reason.ends_with(WAS_REMOVED))
}

/// Returns the reason. `value` returns the present value of a comparison's fact, if it is known.
pub(super) fn reason(
    expression: &Expression,
    held: Option<&HeldValues>,
    view: SubjectView<'_>,
    value: &dyn Fn(&Condition) -> Option<f64>,
) -> String {
    let first = expression.first();
    let text = match (view, first.fact.name) {
        (SubjectView::Unknown(hold), _) => {
            return format!("{NOT_KNOWN} {}", span(hold));
        }
        (SubjectView::NoStream, "stream_up") => DESELECTED,
        (SubjectView::NoStream, _) => STREAM_DELETED,
        (SubjectView::NoGroup, "group_up") => DESELECTED,
        (SubjectView::NoGroup, _) => GROUP_DESTROYED,
        (SubjectView::Target, "target_up") => "the target can be polled",
        (SubjectView::Target, _) => "nothing is left out any more",
        (SubjectView::Stream(_), "stream_up") => "the stream can be read",
        (SubjectView::Stream(stream), _) if stream.values.is_none() => STREAM_DELETED,
        (SubjectView::Stream(_), _) => return now_is(first, value),
        (SubjectView::Group(_, group), "group_up") if group.values.is_some() => "the group was created",
        (SubjectView::Group(stream, _), _) if stream.values.is_none() => STREAM_DELETED,
        (SubjectView::Group(stream, group), _) => match &group.values {
            None => GROUP_DESTROYED,
            // The group that was the worst may not be the one that made the alert resolve.
            Some(_) if group.fold().is_some() => return now_is(first, value),
            Some(values) => {
                let change = GroupChange { held, name: &group.name, values, stream: stream.values.as_ref() };
                return change.reason(expression).unwrap_or_else(|| now_is(first, value));
            }
        },
    };
    text.to_owned()
}

/// Returns the present value as a reason, such as `lag is 12`.
fn now_is(condition: &Condition, value: &dyn Fn(&Condition) -> Option<f64>) -> String {
    let name = condition.fact.name;
    match (condition.operand, value(condition)) {
        (Operand::Status(status), _) => format!("{name} is not {status} any more"),
        (Operand::Number(_), Some(value)) => format!("{name} is {}", format_value(value)),
        (Operand::Number(_), None) => format!("there is no {name}"),
    }
}

/// The kind of thing that an expression is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Topic {
    Losses,
    Pending,
    Waiting,
    Consumers,
    Other,
}

impl Topic {
    fn of(expression: &Expression) -> Self {
        let topics: Vec<_> = expression.conditions().into_iter().map(Self::of_condition).collect();
        let is_retention = expression.first().fact.name == "retention_used_ratio";
        let order = [Self::Losses, Self::Pending, Self::Waiting, Self::Consumers];
        let found = order.into_iter().find(|topic| topics.contains(topic));
        if is_retention { Self::Waiting } else { found.unwrap_or(Self::Other) }
    }

    fn of_condition(condition: &Condition) -> Self {
        let about = condition.quantity();
        match about {
            _ if matches!(condition.fact.source, FactSource::Losses(LossSpan::Window)) => Self::Losses,
            "losing" => Self::Losses,
            "stuck" | "messages_pending" => Self::Pending,
            _ if about.starts_with("oldest_pending") || about.starts_with("pending_max") => Self::Pending,
            "lag" | "lag_seconds" | "abandoned" | "stalled" | "lagging" => Self::Waiting,
            "consumers" => Self::Consumers,
            _ => Self::Other,
        }
    }
}

/// A group when the expression last held, and now.
struct GroupChange<'c> {
    held: Option<&'c HeldValues>,
    name: &'c Name,
    values: &'c GroupValues,
    /// The stream now.
    stream: Option<&'c StreamValues>,
}

/// Returns the number of entries that were trimmed or deleted since the stream was created.
fn removed(stream: &StreamValues) -> Option<u64> {
    u64::from(stream.entries_added?).checked_sub(stream.length)
}

/// Returns true if the last census found no entry that was delivered more often than the oldest pending one, or not for
/// longer.
fn is_oldest_the_worst(values: GroupView<'_>) -> bool {
    /// The census may have read the same entry somewhat later.
    const TOLERANCE: Duration = Duration::from_secs(1);
    let (Some(shown), Some(OldestPending::Entry { idle, deliveries, .. })) =
        (values.pending_census(), &values.oldest_pending)
    else {
        return true;
    };
    let is_longest = idle.is_none_or(|idle| shown.max_idle() <= Some(values.age(idle) + TOLERANCE));
    is_longest && shown.census.max_deliveries <= Some((*deliveries).into())
}

impl GroupChange<'_> {
    fn reason(&self, expression: &Expression) -> Option<String> {
        let topic = Topic::of(expression);
        if topic == Topic::Losses {
            return Some("no entry was lost for 5 minutes".to_owned());
        }
        let held = self.held?;
        let before = held.values(self.name)?;
        if let Some(replaced) = self.of_replacement(&before) {
            return Some(replaced.to_owned());
        }
        match topic {
            Topic::Pending => self.of_pending(before),
            Topic::Waiting => {
                let is_retention = expression.first().fact.name == "retention_used_ratio";
                if is_retention && self.has_lost(&before) {
                    return Some(LOSES_NOW.to_owned());
                }
                self.of_waiting(&before).or_else(|| self.of_consumers(&before))
            }
            Topic::Consumers => self.of_consumers(&before),
            Topic::Losses | Topic::Other => None,
        }
    }

    /// Returns the stream now, and when the expression last held.
    fn streams(&self) -> Option<[&StreamValues; 2]> {
        Some([self.stream?, self.held?.stream.values.as_ref()?])
    }

    /// Returns the numbers of entries ever added to the stream now, and when the expression last held.
    fn added(&self) -> Option<[u64; 2]> {
        let [now, before] = self.streams()?.map(|stream| stream.entries_added.map(u64::from));
        Some([now?, before?])
    }

    /// Tells whether the group or the stream is another one than when the expression last held.
    fn of_replacement(&self, before: &GroupValues) -> Option<&'static str> {
        let is_smaller = self.added().is_some_and(|[now, before]| now < before)
            || self.streams().is_some_and(|[now, before]| now.ids.last_generated < before.ids.last_generated);
        let recreation = self.values.recreated_since(Some(before));
        match recreation.map(|recreation| recreation.position) {
            _ if is_smaller => Some(STREAM_REPLACED),
            Some(NewPosition::OtherStream) => Some(STREAM_REPLACED),
            Some(_) => Some(GROUP_RECREATED),
            None => None,
        }
    }

    fn has_lost(&self, before: &GroupValues) -> bool {
        self.values.entries_lost > before.entries_lost
    }

    fn of_waiting(&self, before: &GroupValues) -> Option<String> {
        let now = self.values;
        let is_at_end = now.lag.max() == 0;
        if now.last_delivered_id < before.last_delivered_id {
            return Some(SET_ELSEWHERE.to_owned());
        }
        if now.last_delivered_id == before.last_delivered_id {
            // Nothing was read, so the lag can only have fallen by removal.
            let added = self.added().and_then(|[now, before]| now.checked_sub(before));
            let waited = before.lag.exact().zip(added).map(|(lag, added)| lag + added);
            let removed = waited.zip(now.lag.exact()).and_then(|(waited, lag)| waited.checked_sub(lag));
            return match removed {
                Some(0) => None,
                Some(1) => Some(format!("1 {WAS_REMOVED}")),
                Some(removed) => Some(format!("{} {REMOVED}", count(removed))),
                None if now.lag.max() < before.lag.min() => Some(REMOVED.to_owned()),
                None => None,
            };
        }
        if before.consumers == 0 && now.consumers == 0 {
            return Some(SET_ELSEWHERE.to_owned());
        }
        if self.has_lost(before) {
            let [now, before] = [now, before].map(|values| values.entries_lost.map_or(0, u64::from));
            return Some(format!("{} {REMOVED}", count(now - before)));
        }
        // XGROUP SETID moves a group on too, and counts as delivery.
        if is_at_end {
            return Some("nothing waits for the group any more".to_owned());
        }
        match now.lag.exact() {
            Some(lag) => Some(format!("the group has moved on: {} entries wait", count(lag))),
            None => Some("the group has moved on".to_owned()),
        }
    }

    fn of_consumers(&self, before: &GroupValues) -> Option<String> {
        if before.consumers == 0 && self.values.consumers > 0 {
            return Some("the group has a consumer".to_owned());
        }
        None
    }

    /// Returns true if an entry that is not pending any more can only have been acknowledged: none was deleted, and no
    /// consumer was.
    fn must_be_acknowledged(&self, before: &GroupValues) -> bool {
        let was_removed = self.streams().is_none_or(|[now, before]| {
            removed(now).zip(removed(before)).is_none_or(|(now, before)| now != before)
        });
        let was_dropped = self.values.consumers < before.consumers
            || self.values.seldom.pending_dropped != before.seldom.pending_dropped;
        before.pending_orphaned == Some(0.into()) && !was_removed && !was_dropped
    }

    /// Tells what became of the oldest pending entry, if none stood out more when the expression last held.
    fn of_pending(&self, before: GroupView<'_>) -> Option<String> {
        if self.values.messages_pending > 0 && !is_oldest_the_worst(before) {
            return None;
        }
        let (Some(OldestPending::Entry { id: id_before, deliveries: deliveries_before, .. }), Some(oldest)) =
            (&before.oldest_pending, &self.values.oldest_pending)
        else {
            return None;
        };
        let acknowledged = match self.must_be_acknowledged(&before) {
            true => "the entry was acknowledged",
            false => "the entry is not pending any more",
        };
        match oldest {
            OldestPending::Nothing => Some(acknowledged.to_owned()),
            // Another entry is the oldest one now.
            OldestPending::Entry { id, .. } if id > id_before => Some(acknowledged.to_owned()),
            OldestPending::Entry { id, .. } if id < id_before => None,
            OldestPending::Entry { deliveries, .. } if deliveries > deliveries_before => {
                Some("the entry was delivered again".to_owned())
            }
            OldestPending::Entry { idle: Some(_), .. } => Some("the entry was claimed".to_owned()),
            OldestPending::Entry { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::test_support::{group, stream, values};
    use redis_stream_core::id::StreamId;
    use redis_stream_core::name::Name;
    use redis_stream_lag::report::{ConditionSet, GroupStatus, HistoryCoverage, Lag};

    #[test]
    fn the_diagnosis_is_of_what_the_expression_is_about() {
        let conditions: ConditionSet =
            [Status::Losing, Status::Stalled, Status::Rewound].into_iter().collect();
        let oldest = OldestPending::Entry {
            id: StreamId::new(5, 1),
            consumer: Some(Name::from("c")),
            idle: Some(Duration::from_secs(9).into()),
            deliveries: 12,
        };
        let wrong = GroupValues {
            lag: Lag::Exact(7),
            consumers: 2,
            messages_pending: 1,
            oldest_pending: Some(oldest),
            status: GroupStatus { conditions, coverage: HistoryCoverage::Complete, since: None },
            ..values()
        };
        let diagnosis_of = |values: &GroupValues, expression: &str| {
            let group = group("g", values.clone());
            let stream = stream("s", vec![group.clone()]);
            let held = HeldValues::of(&stream.into(), &group, Duration::from_secs(1_700_000_000)).unwrap();
            let diagnosis = held.diagnosis(&group.name, &Expression::parse(expression).unwrap());
            diagnosis.map(|diagnosis| diagnosis.sentence.split([':', ';']).next().unwrap().to_owned())
        };
        for (expression, expected) in [
            ("entries_lost > 0", "Losing entries"),
            ("status == losing", "Losing entries"),
            ("oldest_pending_deliveries >= 10", "Failing"),
            ("oldest_pending_idle_seconds > 10m or status == stuck", "Failing"),
            ("lag > 0 and status == stalled", "Blocked"),
            ("lag_seconds > 5m", "Blocked"),
            ("consumers == 0", "Blocked"),
            ("status == rewound", "Set back"),
            ("pending_orphaned > 0", "Losing entries"),
        ] {
            assert_eq!(diagnosis_of(&wrong, expression).as_deref(), Some(expected), "{expression}");
        }
        let well = GroupValues { lag: Lag::Exact(7), ..values() };
        assert_eq!(diagnosis_of(&well, "lag > 5").as_deref(), Some("7 entries wait"));
        assert_eq!(diagnosis_of(&well, "consumers == 0").as_deref(), Some("7 entries wait"));
        assert_eq!(diagnosis_of(&well, "oldest_pending_deliveries >= 10"), None);
        assert_eq!(diagnosis_of(&well, "group_up == 0"), None);
    }

    #[test]
    fn what_is_gone_or_lost_has_not_recovered() {
        for (reason, is_well) in [
            ("nothing waits for the group any more", true),
            ("the group has moved on: 12 entries wait", true),
            ("the entry was acknowledged", true),
            ("the entry is not pending any more", true),
            ("the stream was deleted or replaced", false),
            ("the group was destroyed and created again", false),
            ("the group was set to another position", false),
            ("the target can be polled", true),
            ("lag is 3", true),
            ("17,213 entries were removed before they were read", false),
            ("entries were removed before they were read", false),
            ("1 entry was removed before it was read", false),
            ("entries are lost now", false),
            ("the group was destroyed", false),
            ("the stream was deleted", false),
            ("it was taken out of the configuration", false),
            ("its values have not been known for 1 h", false),
        ] {
            assert_eq!(is_recovery(reason), is_well, "{reason}");
        }
    }
}
