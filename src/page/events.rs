//! The events of a group or a stream, for the list on its page and the marks in its charts: from the event log, and of a
//! group also from its report, its alerts and its samples.

use std::time::Duration;

use crate::alert::active::ActiveAlert;
use crate::alert::state::Phase;
use crate::format::severity::Severity;
use crate::format::unicode::printable;
use crate::format::units::span;
use crate::page::event_log::{CREATED_AGAIN, EventLog, LoggedEvent, position_words};
use crate::page::history::GroupSample;
use redis_stream_core::name::Name;
use redis_stream_lag::report::GroupView;

/// Events of the log that are shown at most.
const LOGGED: usize = 50;
/// An event and the status that it began are known by two clocks.
const SAME: Duration = Duration::from_secs(120);

/// Something that happened at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// Since the Unix epoch.
    pub(super) at: Duration,
    pub(super) severity: Severity,
    pub(super) text: String,
}

impl Event {
    fn of_logged(event: &LoggedEvent) -> Self {
        Self { at: event.at, severity: event.severity, text: event.text.clone() }
    }
}

/// Returns the newest events of a stream, its groups and its target, the newest first.
pub(super) fn of_stream(log: &EventLog, stream: &Name) -> Vec<Event> {
    let about = log.newest().filter(|event| event.stream.as_ref().is_none_or(|key| key == stream));
    let event = |event: &LoggedEvent| {
        let mut shown = Event::of_logged(event);
        if let Some(group) = &event.group {
            shown.text = format!("{}: {}", printable(&group.text()), event.text);
        }
        shown
    };
    about.take(LOGGED).map(event).collect()
}

/// Returns the events of a group, the newest first. `read_at` is the time of the reading of its values.
pub(super) fn of_group<'a>(
    values: Option<GroupView<'_>>,
    read_at: Duration,
    alerts: &[ActiveAlert],
    samples: &[GroupSample],
    logged: impl Iterator<Item = &'a LoggedEvent>,
) -> Vec<Event> {
    let mut events: Vec<_> = alerts.iter().flat_map(of_alert).chain(of_samples(samples)).collect();
    events.extend(values.into_iter().flat_map(|values| of_values(values, read_at)));
    let own = alerts.iter().filter_map(|alert| alert.labels.get("alertname")).collect::<Vec<_>>();
    // The group's own alerts, status and latest re-creation are shown already.
    let is_shown = |event: &LoggedEvent| {
        own.iter().any(|name| event.text.starts_with(&format!("{name} began to fire")))
            || (event.group.is_some() && event.text.starts_with("became ") && is_current(event, values))
            || (event.group.is_some() && is_last_recreation(event, values))
    };
    let logged = logged.filter(|event| !is_shown(event));
    events.extend(logged.take(LOGGED).map(Event::of_logged));
    events.sort_by(|one, other| (other.at, &one.text).cmp(&(one.at, &other.text)));
    events
}

/// Returns true if the event is the beginning of the status that the group has now.
fn is_current(event: &LoggedEvent, values: Option<GroupView<'_>>) -> bool {
    values.is_some_and(|values| event.text == format!("became {}", values.status.status().as_str()))
        && values
            .and_then(|values| values.status.since)
            .is_some_and(|since| since.get().abs_diff(event.at) < SAME)
}

/// Returns true if the event is the last time that the group was created again.
fn is_last_recreation(event: &LoggedEvent, values: Option<GroupView<'_>>) -> bool {
    let last = values.and_then(|values| values.seldom.recreation);
    event.text.starts_with(&format!("was {CREATED_AGAIN}"))
        && last.is_some_and(|last| last.at.abs_diff(event.at) < SAME)
}

fn of_alert(alert: &ActiveAlert) -> Option<Event> {
    let name = alert.labels.get("alertname")?;
    let of_label = || Severity::of_label(alert.labels.get("severity").map_or("", String::as_str));
    let (at, severity, what) = match (alert.state.phase, alert.state.fired_at) {
        (Phase::Firing, Some(at)) => (at, of_label(), "began to fire"),
        (Phase::Pending, _) => (alert.state.active_at, Severity::Unknown, "became pending"),
        (Phase::Firing | Phase::Resolved, _) => return None,
    };
    Some(Event { at, severity, text: format!("{name} {what}") })
}

fn of_values(values: GroupView<'_>, read_at: Duration) -> Vec<Event> {
    let status = values.status.status();
    let began = values.status.since.filter(|_| !values.status.conditions.is_empty());
    let began = began.map(|at| Event {
        at: at.get(),
        severity: Severity::of(Some(status)),
        text: format!("the group became {}", status.as_str()),
    });
    let recreated = values.seldom.recreation.map(|recreation| {
        let position = position_words(recreation.position);
        let text = format!("the group was found {CREATED_AGAIN}, {position}");
        Event { at: recreation.at, severity: Severity::Poor, text }
    });
    // Of a group that reads all the time, it is no event.
    let last = values.last_delivery_age().filter(|age| *age >= Duration::from_secs(60));
    let last = last.map(|age| Event {
        at: read_at.saturating_sub(age),
        severity: Severity::Unknown,
        text: "latest delivery to the group".to_owned(),
    });
    [began, recreated, last].into_iter().flatten().collect()
}

/// Returns the times in which the group was not read, between samples in which it was.
fn of_samples(samples: &[GroupSample]) -> Vec<Event> {
    let mut events = Vec::new();
    let mut lost_at = None;
    for sample in samples {
        match (sample.values, lost_at) {
            (None, None) => lost_at = Some(sample.at),
            (Some(_), Some(at)) => {
                let lasted = span(sample.at.saturating_sub(at));
                let text = format!("the group could not be read for {lasted}");
                events.push(Event { at, severity: Severity::Poor, text });
                lost_at = None;
            }
            (None, Some(_)) | (Some(_), None) => {}
        }
    }
    events.extend(lost_at.map(|at| Event {
        at,
        severity: Severity::Bad,
        text: "the group could no longer be read".to_owned(),
    }));
    events
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::alert::state::AlertState;
    use crate::page::history::SampledValues;
    use crate::page::test_support::values;
    use redis_stream_lag::report::{
        Age, ConditionSet, GroupStatus, GroupValues, HistoryCoverage, NewPosition, Recreation,
        SeldomGroupValues, Status,
    };

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(1_700_000_000 + seconds)
    }

    fn alert(name: &str, phase: Phase, active_at: u64, fired_at: Option<u64>) -> ActiveAlert {
        let state = AlertState {
            phase,
            value: 1.0,
            active_at: s(active_at),
            fired_at: fired_at.map(s),
            resolved_at: None,
            kept_since: None,
            unknown_since: None,
            last_sent_at: None,
        };
        let labels = BTreeMap::from([("alertname".to_owned(), name.to_owned())]);
        ActiveAlert { labels, annotations: BTreeMap::new(), state, inhibited_by: None }
    }

    #[test]
    fn the_newest_event_comes_first() {
        let conditions: ConditionSet = [Status::Stalled, Status::Losing].into_iter().collect();
        let status =
            GroupStatus { conditions, coverage: HistoryCoverage::Complete, since: Some(s(300).into()) };
        let values = GroupValues {
            status,
            last_delivery_age: Some(Age::of(Duration::from_secs(420))),
            seldom: SeldomGroupValues {
                recreation: Some(Recreation { at: s(60), position: NewPosition::FurtherBack }),
                ..SeldomGroupValues::default()
            }
            .into(),
            ..values()
        };
        let alerts =
            [alert("Stalled", Phase::Firing, 300, Some(480)), alert("Behind", Phase::Pending, 510, None)];
        let read = Some(SampledValues { lag_min: 1, lag_max: 1, messages_pending: 0 });
        let samples = [(0, read), (10, None), (20, None), (30, read), (540, None)];
        let samples = samples.map(|(at, values)| GroupSample { at: s(at), values });
        // The first is the re-creation that the values show; the other one was before it.
        let logged = [s(70), s(0) - Duration::from_secs(500)].map(|at| LoggedEvent {
            at,
            severity: Severity::Poor,
            stream: Some("s".into()),
            group: Some("g".into()),
            text: format!("was {CREATED_AGAIN}, where it was"),
        });
        let events = of_group(Some((&values).into()), s(600), &alerts, &samples, logged.iter());
        let shown: Vec<_> = events
            .iter()
            .map(|event| format!("{} {}", event.at.saturating_sub(s(0)).as_secs(), event.text))
            .collect();
        insta::assert_snapshot!(shown.join("\n"), @r"
        540 the group could no longer be read
        510 Behind became pending
        480 Stalled began to fire
        300 the group became losing
        180 latest delivery to the group
        60 the group was found destroyed and created again, further back
        10 the group could not be read for 20 s
        0 was destroyed and created again, where it was
        ");
    }

    #[test]
    fn a_group_that_reads_all_the_time_has_no_event() {
        let values = GroupValues { last_delivery_age: Some(Age::of(Duration::from_secs(9))), ..values() };
        assert_eq!(of_group(Some((&values).into()), s(0), &[], &[], [].iter()), []);
        assert_eq!(of_group(None, s(0), &[], &[], [].iter()), []);
    }
}
