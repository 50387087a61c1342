//! The events of a target in the last day, found by comparing two readings; bounded in number.

use std::collections::{HashSet, VecDeque};
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use crate::alert::active::{Active, AlertSummary};
use crate::alert::state::Phase;
use crate::api::fold::{FoldedLine, folded};
use crate::format::severity::Severity;
use crate::format::unicode::{printable, shortened};
use crate::format::units::{count, counted, span};
use redis_stream_core::name::Name;
use redis_stream_lag::report::{
    GroupReport, GroupValues, NewPosition, Report, Status, StreamReport, StreamValues,
};

/// Events that are kept.
const KEPT: usize = 1_000;
const MAX_AGE: Duration = Duration::from_secs(24 * 3_600);
/// Events that one reading adds at most.
const AT_ONCE: usize = 100;
/// Entries that a trim takes at least to be an event, and the part of the stream: one in so many.
const MIN_TRIM: u64 = 100;
const TRIM_PART: u64 = 10;
/// Groups of several that are named.
const NAMED: usize = 3;
/// The event of a group that is another one than before.
pub(super) const CREATED_AGAIN: &str = "destroyed and created again";
/// Characters of a name.
const NAME_CHARS: usize = 60;

/// The events of a target, the oldest first.
#[derive(Clone, Debug, Default)]
pub struct EventLog {
    events: VecDeque<Arc<LoggedEvent>>,
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoggedEvent {
    /// Time of the reading that showed it, since the Unix epoch.
    pub at: Duration,
    /// Its severity.
    pub severity: Severity,
    /// Key of the stream that it is about; `None` for the target.
    pub stream: Option<Name>,
    /// Name of the group that it is about; `None` for the stream, the target, or several groups.
    pub group: Option<Name>,
    /// A description without the names.
    pub text: String,
}

/// An event of a group.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum GroupEvent {
    Became(Status),
    Recovered(Status),
    Created,
    Recreated(NewPosition),
    Gone,
}

/// A change of a group, and how long the condition before it lasted.
struct ChangedGroup<'a> {
    change: GroupEvent,
    name: &'a Name,
    lasted: Option<Duration>,
}

impl GroupEvent {
    fn severity(&self) -> Severity {
        match self {
            Self::Became(status) => Severity::of(Some(*status)),
            Self::Recovered(_) => Severity::Good,
            Self::Created => Severity::Unknown,
            Self::Recreated(_) | Self::Gone => Severity::Poor,
        }
    }
}

impl EventLog {
    /// Returns a log of these events, the oldest first.
    pub(super) fn restored(events: impl Iterator<Item = LoggedEvent>) -> Self {
        Self { events: events.take(KEPT).map(Arc::new).collect() }
    }

    /// Returns the events, the newest first.
    pub fn newest(&self) -> impl Iterator<Item = &LoggedEvent> {
        self.events.iter().rev().map(|event| &**event)
    }

    /// Returns the events that are about a group, its stream or its target, the newest first.
    pub fn about<'a>(&'a self, stream: &'a Name, group: &'a Name) -> impl Iterator<Item = &'a LoggedEvent> {
        self.newest().filter(move |event| {
            event.stream.as_ref().is_none_or(|key| key == stream)
                && event.group.as_ref().is_none_or(|name| name == group)
        })
    }

    /// Adds an event of the target itself.
    pub fn note(&mut self, at: Duration, severity: Severity, text: String) {
        self.add(at, vec![LoggedEvent { at, severity, stream: None, group: None, text }]);
    }

    /// Adds the alerts that began to fire, and those of which none fires any more. `is_stream` returns false for the name of a
    /// family, which has no page.
    pub fn note_alerts(
        &mut self,
        at: Duration,
        before: &Active,
        active: &Active,
        is_stream: &dyn Fn(&Name) -> bool,
    ) {
        let key = |alerts: &AlertSummary| (alerts.name.clone(), alerts.severity.clone());
        let keys = |active: &Active| -> HashSet<_> {
            active.summaries(Phase::Firing).map(|alerts| key(&alerts)).collect()
        };
        let (then, now) = (keys(before), keys(active));
        let began = active.summaries(Phase::Firing).filter(|alerts| !then.contains(&key(alerts)));
        let ended = before.summaries(Phase::Firing).filter(|alerts| !now.contains(&key(alerts)));
        let began = began.map(|alerts| (Severity::of_label(&alerts.severity), "began to fire", alerts));
        let ended = ended.map(|alerts| (Severity::Good, "resolved", alerts));
        let mut events: Vec<_> = began
            .chain(ended)
            .map(|(severity, what, alerts)| of_alerts(at, severity, what, alerts, is_stream))
            .collect();
        events.dedup();
        self.add(at, events);
    }

    /// Adds what changed from one report to the next.
    pub fn note_report(&mut self, at: Duration, before: &Report, report: &Report) {
        let mut events = Vec::new();
        let mut earlier = before.streams.iter().peekable();
        for stream in &report.streams {
            while earlier.next_if(|one| one.key < stream.key).is_some() {}
            let Some(previous) = earlier.next_if(|one| one.key == stream.key) else { continue };
            if !ptr::eq(&**previous, &**stream) && events.len() < AT_ONCE {
                events.extend(of_stream(at, previous, stream));
            }
        }
        events.truncate(AT_ONCE);
        self.add(at, events);
    }

    fn add(&mut self, at: Duration, events: Vec<LoggedEvent>) {
        self.events.extend(events.into_iter().map(Arc::new));
        while self.events.len() > KEPT
            || self.events.front().is_some_and(|event| event.at.saturating_add(MAX_AGE) < at)
        {
            self.events.pop_front();
        }
    }
}

fn of_alerts(
    at: Duration,
    severity: Severity,
    what: &str,
    alerts: AlertSummary,
    is_stream: &dyn Fn(&Name) -> bool,
) -> LoggedEvent {
    let AlertSummary { name, count: number, stream, group, .. } = alerts;
    let text = format!("{name} {what}");
    match (stream, group) {
        (Some(stream), group) if is_stream(&stream) => {
            LoggedEvent { at, severity, stream: Some(stream), group, text }
        }
        (stream, group) => {
            let subject = match (&stream, &group) {
                (Some(stream), Some(group)) => {
                    format!(" for group {} of {}", named(&group.text()), named(&stream.text()))
                }
                (Some(stream), None) => format!(" for {}", named(&stream.text())),
                (None, _) if number > 1 => format!(" ({} alerts)", count(number as u64)),
                (None, _) => String::new(),
            };
            LoggedEvent { at, severity, stream: None, group: None, text: text + &subject }
        }
    }
}

fn of_stream(at: Duration, before: &StreamReport, stream: &StreamReport) -> Vec<LoggedEvent> {
    let event = |severity, group: Option<&Name>, text: String| LoggedEvent {
        at,
        severity,
        stream: Some(stream.key.clone()),
        group: group.cloned(),
        text,
    };
    let (Some(values), Some(earlier)) = (&stream.values, &before.values) else {
        return match (&stream.values, &before.values) {
            (None, Some(_)) if stream.refused => {
                vec![event(Severity::Bad, None, "the stream cannot be read any more".to_owned())]
            }
            (None, Some(_)) => vec![event(Severity::Bad, None, "the stream is gone".to_owned())],
            _ => Vec::new(),
        };
    };
    let recreated = is_recreated(before, stream)
        .then(|| event(Severity::Poor, None, "the stream was deleted and created again".to_owned()));
    let trimmed = trimmed(earlier, values)
        .filter(|_| recreated.is_none())
        .map(|entries| event(Severity::Unknown, None, format!("{} entries were removed", count(entries))));
    let changes = changes(at, before, stream);
    let lines = folded(changes, |changed| changed.change.clone(), |one, other| one.name.cmp(other.name));
    let lost = stream.groups.iter().filter_map(|group| Some((group, lost(before, group)?)));
    let lost = lost.map(|(group, entries)| {
        event(Severity::Bad, Some(&group.name), format!("lost at least {} entries", count(entries)))
    });
    let changed = lines.iter().map(|line| match line.others.is_empty() {
        true => event(line.first.change.severity(), Some(line.first.name), line.first.text()),
        false => event(line.first.change.severity(), None, of_several(line)),
    });
    recreated.into_iter().chain(trimmed).chain(lost).chain(changed).collect()
}

/// Returns the number of entries that a trim or a deletion took, if it was a large part of the stream.
fn trimmed(before: &StreamValues, values: &StreamValues) -> Option<u64> {
    let added = values.entries_added.zip(before.entries_added);
    let added = added.map_or(0, |(now, then)| now.get().saturating_sub(then.get()));
    let removed = (before.length + added).checked_sub(values.length)?;
    let fell = before.length.saturating_sub(values.length);
    (fell >= MIN_TRIM && fell >= before.length / TRIM_PART).then_some(removed)
}

/// Returns the number of entries that a group lost, unless it is known to lose entries all the time.
fn lost(before: &StreamReport, group: &GroupReport) -> Option<u64> {
    let (values, earlier) = (group.values.as_ref()?, find(before, &group.name)?);
    let [lost, lost_before] = [values, earlier].map(|values| values.entries_lost.map(u64::from));
    let lost = lost?.checked_sub(lost_before?).filter(|lost| *lost > 0)?;
    (!earlier.status.conditions.contains(Status::Losing)).then_some(lost)
}

fn find<'a>(stream: &'a StreamReport, name: &Name) -> Option<&'a GroupValues> {
    stream.group(name)?.values.as_ref()
}

/// Returns where a group was created again since the earlier report; `None` if it was not.
fn recreation(before: &StreamReport, group: &GroupReport) -> Option<NewPosition> {
    let recreation = group.values.as_ref()?.recreated_since(find(before, &group.name))?;
    Some(recreation.position)
}

/// Returns true if a group shows that the stream was created again too.
fn is_recreated(before: &StreamReport, stream: &StreamReport) -> bool {
    stream.groups.iter().any(|group| recreation(before, group) == Some(NewPosition::OtherStream))
}

fn changes<'a>(at: Duration, before: &'a StreamReport, stream: &'a StreamReport) -> Vec<ChangedGroup<'a>> {
    let of_present = stream.groups.iter().filter_map(|group| {
        let values = group.values.as_ref()?;
        let (change, lasted) = match find(before, &group.name) {
            None if recreation(before, group).is_some() => return None,
            None => (GroupEvent::Created, None),
            Some(earlier) => change(at, earlier, values)?,
        };
        Some(ChangedGroup { change, name: &group.name, lasted })
    });
    let of_recreated = stream.groups.iter().filter_map(|group| {
        let change = GroupEvent::Recreated(recreation(before, group)?);
        Some(ChangedGroup { change, name: &group.name, lasted: None })
    });
    let present = |group: &GroupReport| find(stream, &group.name).is_some();
    let of_gone = before.groups.iter().filter(|group| group.values.is_some() && !present(group));
    let of_gone =
        of_gone.map(|group| ChangedGroup { change: GroupEvent::Gone, name: &group.name, lasted: None });
    of_recreated.chain(of_present).chain(of_gone).collect()
}

fn change(
    at: Duration,
    before: &GroupValues,
    values: &GroupValues,
) -> Option<(GroupEvent, Option<Duration>)> {
    match (before.status.status(), values.status.status()) {
        (then, now) if then == now => None,
        (_, now) if now.is_condition() => Some((GroupEvent::Became(now), None)),
        (then, Status::Ok) if then.is_condition() => Some((
            GroupEvent::Recovered(then),
            before.status.since.map(|since| at.saturating_sub(since.get())),
        )),
        _ => None,
    }
}

impl ChangedGroup<'_> {
    fn text(&self) -> String {
        match (&self.change, self.lasted) {
            (GroupEvent::Became(status), _) => format!("became {}", status.as_str()),
            (GroupEvent::Recovered(status), Some(time)) => {
                format!("is ok again, was {} for {}", status.as_str(), span(time))
            }
            (GroupEvent::Recovered(status), None) => format!("is ok again, was {}", status.as_str()),
            (GroupEvent::Created, _) => "was created".to_owned(),
            (GroupEvent::Recreated(position), _) => {
                format!("was {CREATED_AGAIN}, {}", position_words(*position))
            }
            (GroupEvent::Gone, _) => "is gone".to_owned(),
        }
    }
}

fn of_several(line: &FoldedLine<ChangedGroup<'_>>) -> String {
    let what = match &line.first.change {
        GroupEvent::Became(status) => format!("became {}", status.as_str()),
        GroupEvent::Recovered(status) => format!("are ok again, were {}", status.as_str()),
        GroupEvent::Created => "were created".to_owned(),
        GroupEvent::Recreated(position) => format!("were {CREATED_AGAIN}, {}", position_words(*position)),
        GroupEvent::Gone => "are gone".to_owned(),
    };
    let names: Vec<_> = line.rows().take(NAMED).map(|changed| named(&changed.name.text())).collect();
    format!("{} {what}: {}, \u{2026}", counted(line.len(), "group", "groups"), names.join(", "))
}

/// Describes the position of a group that was created again.
pub(super) fn position_words(position: NewPosition) -> &'static str {
    match position {
        NewPosition::FurtherBack => "further back",
        NewPosition::Same => "where it was",
        NewPosition::Ahead => "ahead of where it was",
        NewPosition::OtherStream => "with its stream",
    }
}

fn named(name: &str) -> String {
    shortened(&printable(name), NAME_CHARS).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::test_support::{group, report, stream, values};
    use redis_stream_lag::report::{Recreation, SeldomGroupValues};

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(1_700_000_000 + seconds)
    }

    fn with(status: Status, since: u64, lost: u64) -> GroupValues {
        let mut values = GroupValues { status: status.into(), entries_lost: Some(lost.into()), ..values() };
        values.status.since = Some(s(since).into());
        values
    }

    fn of_length(mut stream: StreamReport, length: u64, added: u64) -> StreamReport {
        let values = stream.values.as_mut().unwrap();
        (values.length, values.entries_added) = (length, Some(added.into()));
        stream
    }

    fn shown(log: &EventLog) -> String {
        let line = |event: &LoggedEvent| {
            let name =
                |name: &Option<Name>| name.as_ref().map_or("-".to_owned(), |name| name.text().into_owned());
            format!(
                "{} {} {}: {}",
                (event.at - s(0)).as_secs(),
                name(&event.stream),
                name(&event.group),
                event.text
            )
        };
        log.newest().map(line).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn what_changed_between_two_readings_is_an_event_and_many_alike_are_one() {
        let pods =
            |status: Status| (0..6).map(move |n| group(format!("pod-{n}").as_str(), with(status, 0, 0)));
        let before = report(vec![
            stream("cache", pods(Status::Ok).collect()),
            of_length(
                stream(
                    "orders",
                    vec![
                        group("audit", with(Status::Abandoned, 0, 0)),
                        group("gone", with(Status::Ok, 0, 0)),
                        group("mail", with(Status::Ok, 0, 0)),
                        group("slow", with(Status::Unknown, 0, 3)),
                    ],
                ),
                20_000,
                50_000,
            ),
            stream("other", Vec::new()),
        ]);
        let after = report(vec![
            stream("cache", pods(Status::Abandoned).collect()),
            of_length(
                stream(
                    "orders",
                    vec![
                        group("audit", with(Status::Ok, 700, 0)),
                        group("mail", with(Status::Stalled, 700, 0)),
                        group("new", with(Status::Unknown, 700, 0)),
                        group("slow", with(Status::Losing, 700, 10)),
                    ],
                ),
                3_000,
                50_213,
            ),
            StreamReport { values: None, ..stream("other", Vec::new()) },
        ]);
        let mut log = EventLog::default();
        log.note_report(s(720), &before, &after);
        log.note_report(s(730), &after, &after);
        log.note(s(740), Severity::Bad, "the target cannot be read".to_owned());
        insta::assert_snapshot!(shown(&log), @r"
        740 - -: the target cannot be read
        720 other -: the stream is gone
        720 orders gone: is gone
        720 orders slow: became losing
        720 orders new: was created
        720 orders mail: became stalled
        720 orders audit: is ok again, was abandoned for 12 min
        720 orders slow: lost at least 7 entries
        720 orders -: 17,213 entries were removed
        720 cache -: 6 groups became abandoned: pod-0, pod-1, pod-2, …
        ");
        let (orders, mail) = (Name::from("orders"), Name::from("mail"));
        let of_mail: Vec<_> = log.about(&orders, &mail).map(|event| event.text.as_str()).collect();
        assert_eq!(of_mail, ["the target cannot be read", "became stalled", "17,213 entries were removed"]);
    }

    #[test]
    fn groups_and_streams_that_were_created_again_are_events() {
        let again = |at, position| {
            let seldom = SeldomGroupValues {
                recreation: Some(Recreation { at: s(at), position }),
                ..Default::default()
            };
            GroupValues { seldom: seldom.into(), ..with(Status::Ok, 0, 0) }
        };
        let same = || with(Status::Ok, 0, 0);
        let before = report(vec![
            of_length(stream("clicks", vec![group("a", same()), group("b", same())]), 4_000, 9_000),
            stream("jobs", ["a", "b", "c", "d"].map(|name| group(name, same())).into()),
            stream(
                "orders",
                vec![
                    group("long ago", again(100, NewPosition::Same)),
                    group("mail", again(100, NewPosition::Same)),
                ],
            ),
        ]);
        let stalled = with(Status::Stalled, 700, 0);
        let after = report(vec![
            of_length(
                stream(
                    "clicks",
                    ["a", "b"].map(|name| group(name, again(700, NewPosition::OtherStream))).into(),
                ),
                3,
                3,
            ),
            stream(
                "jobs",
                ["a", "b", "c", "d"].map(|name| group(name, again(700, NewPosition::Ahead))).into(),
            ),
            stream(
                "orders",
                vec![
                    group("back", again(700, NewPosition::Same)),
                    group("long ago", again(100, NewPosition::Same)),
                    group(
                        "mail",
                        GroupValues { status: stalled.status, ..again(700, NewPosition::FurtherBack) },
                    ),
                ],
            ),
        ]);
        let mut log = EventLog::default();
        log.note_report(s(720), &before, &after);
        log.note_report(s(730), &after, &after.clone());
        assert!(log.newest().all(|event| event.severity == Severity::Poor || event.text == "became stalled"));
        insta::assert_snapshot!(shown(&log), @r"
        720 orders mail: became stalled
        720 orders mail: was destroyed and created again, further back
        720 orders back: was destroyed and created again, where it was
        720 jobs -: 4 groups were destroyed and created again, ahead of where it was: a, b, c, …
        720 clicks b: was destroyed and created again, with its stream
        720 clicks a: was destroyed and created again, with its stream
        720 clicks -: the stream was deleted and created again
        ");
    }

    #[test]
    fn a_stream_that_is_trimmed_all_the_time_and_a_group_that_loses_all_the_time_are_no_events() {
        let reading = |poll: u64| {
            let group = group("slow", with(Status::Losing, 0, poll * 50));
            report(vec![of_length(stream("clicks", vec![group]), 2_000 - poll % 2 * 99, 2_000 + poll * 500)])
        };
        let mut log = EventLog::default();
        for poll in 0..20 {
            log.note_report(s(poll * 10), &reading(poll), &reading(poll + 1));
        }
        assert_eq!(shown(&log), "");
    }

    #[test]
    fn a_log_is_bounded_in_number_and_age() {
        let mut log = EventLog::default();
        for n in 0..3_000 {
            log.note(s(n), Severity::Unknown, n.to_string());
        }
        assert_eq!((log.newest().count(), log.newest().last().unwrap().text.as_str()), (KEPT, "2000"));
        log.note(s(3_000) + MAX_AGE, Severity::Unknown, "a day later".to_owned());
        assert_eq!(log.newest().count(), 1);
        let many = |status: Status| {
            let groups =
                (0..500).map(|n| stream(format!("{n:03}").as_str(), vec![group("g", with(status, 0, 0))]));
            report(groups.collect())
        };
        log.note_report(s(3_010) + MAX_AGE, &many(Status::Ok), &many(Status::Stalled));
        assert_eq!(log.newest().count(), 1 + AT_ONCE);
    }
}
