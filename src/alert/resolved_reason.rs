//! The reason for which an alert resolved, in words: the difference between the values with which its expression last held
//! and those with which it does not hold any more.

use std::time::Duration;

use crate::alert::condition::{Condition, Operand};
use crate::alert::expression::Expression;
use crate::alert::fact::{FactSource, LossSpan};
use crate::alert::template::format_value;
use crate::format::units::count;
use crate::values::table::FAMILIES;
use redis_stream_lag::report::{GroupReport, GroupValues, OldestPending, StreamReport};

/// The annotation of a resolved alert that has the reason.
pub const ANNOTATION: &str = "resolved_reason";

pub(crate) const DESELECTED: &str = "it was taken out of the configuration";
pub(super) const RULE_REMOVED: &str = "the rule was taken out of the configuration";
pub(super) const TARGET_REMOVED: &str = "the target was taken out of the configuration";
pub(super) const BACK: &str = "the group is back";
pub(super) const FORGOTTEN: &str = "the group has been gone for an hour";

/// The values of a group with which an expression last held.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct HeldValues {
    values: GroupValues,
    entries_added: Option<u64>,
}

/// The knowledge about a subject when its alert resolves.
#[derive(Clone, Copy, Debug)]
pub(super) enum SubjectView<'r> {
    /// The subject is a target.
    Target,
    Stream(&'r StreamReport),
    Group(&'r StreamReport, &'r GroupReport),
    /// A stream that is not reported, although everything was read, or a group of it.
    NoStream,
    /// A group that is not reported, although its stream was read.
    NoGroup,
    /// Its values have not been known for too long.
    Unknown(Duration),
}

impl HeldValues {
    pub(super) fn of(stream: &StreamReport, group: &GroupReport) -> Option<Self> {
        let values = group.values.clone()?;
        let entries_added = stream.values.as_ref().and_then(|values| values.entries_added);
        Some(Self { values, entries_added })
    }

    /// Returns the estimated share of the entries added that the group loses, in words; `None` if it is not known, or not
    /// what the expression is about.
    pub(super) fn lost_share(&self, expression: &Expression) -> Option<String> {
        if Topic::of(expression) != Topic::Losses {
            return None;
        }
        let family = FAMILIES.iter().find(|family| family.name == "redis_stream_group_loss_ratio")?;
        let ratio = family.of_group_values(&self.values).known()?.as_f64();
        Some(format!("about {:.0} % of what is added is lost", ratio * 100.0))
    }
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
            return format!("its values have not been known for {}", humantime::format_duration(hold));
        }
        (SubjectView::NoStream, "stream_up") => DESELECTED,
        (SubjectView::NoStream, _) => "the stream was deleted",
        (SubjectView::NoGroup, "group_up") => DESELECTED,
        (SubjectView::NoGroup, _) => "the group was destroyed",
        (SubjectView::Target, "target_up") => "the target can be polled",
        (SubjectView::Target, _) => "nothing is left out any more",
        (SubjectView::Stream(_), "stream_up") => "the stream can be read",
        (SubjectView::Stream(stream), _) if stream.values.is_none() => "the stream was deleted",
        (SubjectView::Stream(_), _) => return now_is(first, value),
        (SubjectView::Group(_, group), "group_up") if group.values.is_some() => "the group was created",
        (SubjectView::Group(stream, _), _) if stream.values.is_none() => "the stream was deleted",
        (SubjectView::Group(stream, group), _) => match &group.values {
            None => "the group was destroyed",
            Some(values) => {
                let added = stream.values.as_ref().and_then(|values| values.entries_added);
                let change = GroupChange { held, values, added };
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
            _ if about.starts_with("oldest_pending") => Self::Pending,
            "lag" | "lag_seconds" | "abandoned" | "stalled" | "lagging" => Self::Waiting,
            "consumers" => Self::Consumers,
            _ => Self::Other,
        }
    }
}

/// A group when the expression last held, and now.
struct GroupChange<'c> {
    held: Option<&'c HeldValues>,
    values: &'c GroupValues,
    /// entries-added of the stream now.
    added: Option<u64>,
}

impl GroupChange<'_> {
    fn reason(&self, expression: &Expression) -> Option<String> {
        let topic = Topic::of(expression);
        if topic == Topic::Losses {
            return Some("no entry was lost for 5 minutes".to_owned());
        }
        let held = self.held?;
        match topic {
            Topic::Pending => self.of_pending(&held.values),
            Topic::Waiting => {
                let is_retention = expression.first().fact.name == "retention_used_ratio";
                if is_retention && self.has_lost(&held.values) {
                    return Some("entries are lost now".to_owned());
                }
                self.of_waiting(held).or_else(|| self.of_consumers(&held.values))
            }
            Topic::Consumers => self.of_consumers(&held.values),
            Topic::Losses | Topic::Other => None,
        }
    }

    fn has_lost(&self, before: &GroupValues) -> bool {
        self.values.entries_lost > before.entries_lost
    }

    fn of_waiting(&self, held: &HeldValues) -> Option<String> {
        let (before, now) = (&held.values, self.values);
        let is_at_end = now.lag.max() == 0;
        if now.last_delivered_id < before.last_delivered_id {
            return Some("the group was set to another position".to_owned());
        }
        if now.last_delivered_id == before.last_delivered_id {
            // Nothing was read, so the lag can only have fallen by removal.
            let added = self.added.zip(held.entries_added).and_then(|(now, before)| now.checked_sub(before));
            let waited = before.lag.exact().zip(added).map(|(lag, added)| lag + added);
            let removed = waited.zip(now.lag.exact()).and_then(|(waited, lag)| waited.checked_sub(lag));
            return match removed {
                Some(0) => None,
                Some(1) => Some("1 entry was removed before it was read".to_owned()),
                Some(removed) => {
                    Some(format!("{} entries were removed before they were read", count(removed)))
                }
                None if now.lag.max() < before.lag.min() => {
                    Some("entries were removed before they were read".to_owned())
                }
                None => None,
            };
        }
        if before.consumers == 0 && now.consumers == 0 {
            return Some("the group was set to another position".to_owned());
        }
        if self.has_lost(before) {
            let lost = now.entries_lost.unwrap_or(0) - before.entries_lost.unwrap_or(0);
            return Some(format!("{} entries were removed before they were read", count(lost)));
        }
        if is_at_end {
            return Some("the group has read to the end".to_owned());
        }
        match now.lag.exact() {
            Some(lag) => Some(format!("the group reads: {} entries wait", count(lag))),
            None => Some("the group reads".to_owned()),
        }
    }

    fn of_consumers(&self, before: &GroupValues) -> Option<String> {
        if before.consumers == 0 && self.values.consumers > 0 {
            return Some("the group has a consumer".to_owned());
        }
        None
    }

    fn of_pending(&self, before: &GroupValues) -> Option<String> {
        let (Some(OldestPending::Entry { id: id_before, deliveries: deliveries_before, .. }), Some(oldest)) =
            (&before.oldest_pending, &self.values.oldest_pending)
        else {
            return None;
        };
        let acknowledged = if self.values.consumers < before.consumers {
            "the entry is not pending any more: it was acknowledged, or its consumer was deleted"
        } else {
            "the entry was acknowledged"
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
