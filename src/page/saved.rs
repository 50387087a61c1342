//! The history and the events of a target as they are kept over a restart.

use std::collections::VecDeque;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::format::severity::Severity;
use crate::page::event_log::{EventLog, LoggedEvent};
use crate::page::history::GroupHistory;
use crate::page::history::saved_tier::SavedTier;
use redis_stream_core::name::Name;
use redis_stream_lag::report::Report;

/// The saved history and events of a target. Times are since the Unix epoch, names are texts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SavedPast {
    /// Name of the target.
    pub target: String,
    /// Its database.
    pub db: String,
    /// The stream and the name of each group.
    groups: Vec<(String, String)>,
    hour: SavedTier,
    day: SavedTier,
    events: VecDeque<SavedEvent>,
}

/// Time, stream, group, text, severity. Earlier versions did not save the last.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct SavedEvent(Duration, Option<String>, Option<String>, String, #[serde(default)] Severity);

impl SavedPast {
    /// Returns what is to be kept of a target's history as of a report, and of its events.
    pub fn of(target: &str, db: &str, report: &Report, history: &GroupHistory, events: &EventLog) -> Self {
        let text = |name: &Name| name.text().into_owned();
        let streams = report.streams.iter();
        let groups = streams
            .flat_map(|stream| stream.groups.iter().map(|group| (text(&stream.key), text(&group.name))))
            .collect();
        let (hour, day) = history.saved();
        let event = |event: &LoggedEvent| {
            let (stream, group) = (event.stream.as_ref().map(text), event.group.as_ref().map(text));
            SavedEvent(event.at, stream, group, event.text.clone(), event.severity)
        };
        let events = events.newest().map(event).collect();
        Self { target: target.to_owned(), db: db.to_owned(), groups, hour, day, events }
    }

    /// Moves events that are later than `latest` to that time, as after a clock that was set back.
    pub fn limit_times(&mut self, latest: Duration) {
        self.events.iter_mut().for_each(|event| event.0 = event.0.min(latest));
    }

    /// Returns the history, without what is damaged of it. From `saved_at` on nothing was read.
    pub fn history(&self, saved_at: Duration) -> GroupHistory {
        let name = |(stream, group): &(String, String)| (Name::from_text(stream), Name::from_text(group));
        GroupHistory::restored(self.groups.iter().map(name).collect(), (&self.hour, &self.day), saved_at)
    }

    /// Returns the events.
    pub fn events(&self) -> EventLog {
        let name = |text: &Option<String>| text.as_deref().map(Name::from_text);
        let event = |SavedEvent(at, stream, group, text, severity): &SavedEvent| LoggedEvent {
            at: *at,
            severity: *severity,
            stream: name(stream),
            group: name(group),
            text: text.clone(),
        };
        EventLog::restored(self.events.iter().rev().map(event))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::page::test_support::{group, report, stream, values};
    use redis_stream_lag::report::{GroupValues, Lag};

    fn s(seconds: u64) -> Duration {
        Duration::from_secs(1_700_000_000 + seconds)
    }

    fn lags(lags: &[(&str, u64)]) -> Report {
        let groups =
            lags.iter().map(|(name, lag)| group(*name, GroupValues { lag: Lag::Exact(*lag), ..values() }));
        report(vec![stream("s", groups.collect())])
    }

    fn lags_of(history: &GroupHistory, index: usize) -> Vec<Option<u32>> {
        history.of(index).iter().map(|sample| sample.values.map(|values| values.lag_max)).collect()
    }

    fn saved() -> (SavedPast, Report) {
        let (mut history, mut previous) = (GroupHistory::default(), None::<Report>);
        for poll in 0..100 {
            let report = lags(&[("a", poll), ("gone", 7), ("z", 1_000_000 + poll * 1_000)]);
            history = history.after(s(poll * 60), &report, previous.as_ref());
            previous = Some(report);
        }
        let mut events = EventLog::default();
        events.note(s(5), Severity::Bad, "first".to_owned());
        events.note(s(6), Severity::Good, "second".to_owned());
        let report = previous.unwrap();
        (SavedPast::of("shop", "db0", &report, &history, &events), report)
    }

    #[test]
    fn a_restart_keeps_the_past_of_each_group_with_a_gap() {
        let (saved, _) = saved();
        let text = serde_json::to_string(&saved).unwrap();
        let restored: SavedPast = serde_json::from_str(&text).unwrap();
        assert_eq!(restored, saved);
        let history = restored.history(s(6_000));
        let report = lags(&[("a", 500), ("new", 1), ("z", 2)]);
        let history = history.after(s(6_100), &report, None);
        let a = lags_of(&history, 0);
        assert_eq!(a[a.len() - 4..], [Some(98), Some(99), None, Some(500)]);
        assert!(a.len() > 55, "an hour: {a:?}");
        assert_eq!(lags_of(&history, 1), [Some(1)]);
        let z = lags_of(&history, 2);
        assert_eq!(z[z.len() - 3..], [Some(1_099_000), None, Some(2)]);
        let day = history.day_of(2);
        assert!(day.len() >= 7 && day[0].at <= s(900), "{day:?}");
        let events = restored.events();
        let events: Vec<_> = events.newest().map(|event| (event.text.as_str(), event.severity)).collect();
        assert_eq!(events, [("second", Severity::Good), ("first", Severity::Bad)]);
    }

    #[test]
    fn an_event_that_was_saved_without_a_severity_is_restored() {
        let saved = r#"[{"secs":5,"nanos":0},"orders",null,"the stream is gone"]"#;
        let SavedEvent(at, stream, _, _, severity) = serde_json::from_str(saved).unwrap();
        assert_eq!((at.as_secs(), stream.as_deref(), severity), (5, Some("orders"), Severity::Unknown));
    }

    #[test]
    fn what_is_damaged_is_left_out() {
        let (saved, report) = saved();
        for damage in ["", "!", "AAAA", "/////////////////////w", "AQ"] {
            let mut damaged = saved.clone();
            damaged.hour.samples[0].0 = damage.to_owned();
            damaged.hour.samples.pop();
            damaged.day.samples[1] = (damage.to_owned(), u32::MAX);
            damaged.day.times.truncate(2);
            let history = damaged.history(s(6_000)).after(s(6_100), &report, None);
            assert!(history.of(0).len() <= 110 && history.of(2).len() <= 110, "{damage}");
            assert_eq!(history.of(1).last().unwrap().values.unwrap().lag_max, 7);
        }
        let empty = SavedPast::default().history(s(0)).after(s(10), &report, None);
        assert_eq!(lags_of(&empty, 0), [Some(99)]);
    }
}
