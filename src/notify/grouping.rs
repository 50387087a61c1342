//! Aggregation groups and the notification log of a receiver whose notifications people read. A group is sent when
//! something changes, and again after the repeat interval if alerts still fire. Pure: times are parameters.
//!
//! The log holds what the receiver was sent as firing, so that a notification can list all that fires, and so that the
//! evaluator's reminders, which Alertmanager needs, are not taken for changes.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::alert::notification::{Alert, AlertStatus, Notification, SendReason};
use crate::alert::notification_log::{LogEntry, SendState};
use crate::notify::model::{Batch, FailureCause, GroupLabels};
use crate::notify::queue::{
    AlertKey, DedupQueue, Failure, GivenUp, NextBatch, NotificationQueue, SendMode, is_same_state,
};
use redis_stream_core::wall_clock::ClockShift;

/// Number of the oldest alerts that are looked for at once when the queue is full: a search visits all groups, and an
/// alert may be a group of its own.
const DROPS_PER_SEARCH: usize = 1_000;

/// Least time between two notifications of a group, so that trouble that spreads from poll to poll makes a few
/// notifications and not one for each poll.
const GROUP_INTERVAL: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct AggregationGroups {
    group_labels: fn(&Alert) -> GroupLabels,
    repeat_interval: Duration,
    /// Of unsent alerts, and of those in the log.
    capacity: usize,
    groups: BTreeMap<GroupLabels, AggregationGroup>,
    /// Unsent alerts of all groups.
    unsent: usize,
    /// Alerts in the log of all groups.
    logged: usize,
    /// Positions and groups of the oldest unsent alerts, the oldest last. Alerts that come later have higher positions.
    next_drops: Vec<(u64, GroupLabels)>,
    next_position: u64,
    /// In flight: the receiver may know it before it is acknowledged.
    sending: Option<Batch>,
    /// The receiver knows no alert that began to fire until this time, since the Unix epoch, except those in the log.
    complete_until: Duration,
    revision: u64,
}

#[derive(Debug, Default)]
struct AggregationGroup {
    unsent: DedupQueue,
    /// Alerts that were sent as firing.
    firing: BTreeMap<AlertKey, Arc<Alert>>,
    /// The time since the Unix epoch.
    last_sent_at: Option<Duration>,
    /// The time of the last failure since then.
    failed_at: Option<Duration>,
    /// The states that requests without an answer had, which may still arrive; `None` where they had several.
    unconfirmed: BTreeMap<AlertKey, Option<Arc<Alert>>>,
}

impl AggregationGroups {
    /// Creates groups for at most `capacity` unsent alerts, and as many in the log.
    pub(super) fn new(
        group_labels: fn(&Alert) -> GroupLabels,
        repeat_interval: Duration,
        capacity: usize,
    ) -> Self {
        Self {
            group_labels,
            repeat_interval,
            capacity,
            groups: BTreeMap::new(),
            unsent: 0,
            logged: 0,
            next_drops: Vec::new(),
            next_position: 0,
            sending: None,
            complete_until: Duration::ZERO,
            revision: 0,
        }
    }

    /// Restores the log of an earlier process, which is complete for alerts that began to fire until `until`, the time
    /// since the Unix epoch.
    pub(super) fn restore(mut self, known: &[LogEntry], until: Duration) -> Self {
        for LogEntry { alert, send_state, last_sent_at } in known.iter().take(self.capacity) {
            let group = self.groups.entry((self.group_labels)(alert)).or_default();
            group.last_sent_at = group.last_sent_at.max(*last_sent_at);
            match send_state {
                SendState::Sent => group.note_firing(alert),
                SendState::Unsent => {
                    group.unsent.put(self.next_position, alert);
                    group.unsent.note_may_be_known(&alert.labels);
                    self.next_position += 1;
                }
            }
        }
        self.unsent = self.groups.values().map(|group| group.unsent.len()).sum();
        self.logged = self.groups.values().map(|group| group.firing.len()).sum();
        // The receiver may also know what was left out.
        self.complete_until = if known.len() < self.capacity { until } else { Duration::ZERO };
        self
    }

    /// Handles an alert that is not sent because another one inhibits it. A receiver that knows it keeps it.
    fn note_inhibited(&mut self, labels: &GroupLabels, alert: &Arc<Alert>) {
        let Some(group) = self.groups.get_mut(labels) else { return };
        if group.firing.get(&alert.labels).is_some_and(|known| is_same_state(known, alert)) {
            group.note_firing(alert);
        } else if group.unsent.withdraw(&alert.labels) {
            self.unsent -= 1;
            self.revision += 1;
        }
    }

    fn drop_oldest(&mut self) {
        while self.unsent > 0 {
            let Some((position, labels)) = self.next_drops.pop() else {
                self.find_next_drops();
                continue;
            };
            let Some(group) = self.groups.get_mut(&labels) else { continue };
            // It may have been sent in the meantime.
            let Some(key) = group.unsent.drop_at(position) else { continue };
            if !group.firing.contains_key(&key) {
                group.unconfirmed.remove(&key);
            }
            if group.is_over() && group.last_sent_at.is_none() {
                self.groups.remove(&labels);
            }
            self.unsent -= 1;
            return;
        }
    }

    fn find_next_drops(&mut self) {
        let mut oldest: Vec<_> = self
            .groups
            .iter()
            .flat_map(|(labels, group)| {
                group.unsent.oldest_positions(DROPS_PER_SEARCH).map(move |position| (position, labels))
            })
            .collect();
        if oldest.len() > DROPS_PER_SEARCH {
            oldest.select_nth_unstable(DROPS_PER_SEARCH);
            oldest.truncate(DROPS_PER_SEARCH);
        }
        oldest.sort_unstable_by_key(|(position, _)| Reverse(*position));
        self.next_drops = oldest.into_iter().map(|(position, labels)| (position, labels.clone())).collect();
    }
}

impl NotificationQueue for AggregationGroups {
    fn push(&mut self, notification: &Notification) -> usize {
        let alert = &notification.alert;
        let labels = (self.group_labels)(alert);
        let is_known = self.groups.get(&labels).is_some_and(|group| group.knows(alert));
        // Without space in the log, an alert that is merely repeated would be sent again and again.
        let has_space = is_known || notification.reason == SendReason::Changed || self.logged < self.capacity;
        if alert.inhibited_by.is_some() && (alert.status == AlertStatus::Firing || !is_known) {
            self.note_inhibited(&labels, alert);
            return 0;
        }
        let is_from_before = alert.starts_at <= self.complete_until;
        let group = self.groups.entry(labels).or_default();
        // A receiver that does not know the alert need not be sent its end.
        let is_unknown_and_over = alert.status == AlertStatus::Resolved && is_from_before && !is_known;
        if !is_unknown_and_over && group.is_change(notification, has_space) {
            let before = group.unsent.len();
            group.unsent.put(self.next_position, alert);
            self.unsent += group.unsent.len() - before;
            self.next_position += 1;
            self.revision += 1;
        }
        let dropped = self.len().saturating_sub(self.capacity);
        (0..dropped).for_each(|_| self.drop_oldest());
        dropped
    }

    fn next(&mut self, now: Duration, mode: SendMode) -> NextBatch {
        let repeat_interval = self.repeat_interval;
        self.groups.retain(|_, group| {
            !group.is_over()
                || group.last_sent_at.is_some_and(|sent_at| sent_at <= now && now < sent_at + GROUP_INTERVAL)
        });
        let mut due: Vec<_> = self
            .groups
            .iter_mut()
            .filter_map(|(labels, group)| Some((group.due(repeat_interval, mode)?, labels, group)))
            .collect();
        // A group that failed goes behind the others, so that one that the receiver fails on does not block them.
        due.sort_by_key(|(due, _, group)| (group.failed_at, *due));
        let mut earliest: Option<Duration> = None;
        for (due, labels, group) in due {
            // A clock that was set back must not hold back a notification.
            if due > now && group.last_sent_at.is_none_or(|sent_at| sent_at <= now) {
                earliest = Some(earliest.map_or(due, |earliest| earliest.min(due)));
                continue;
            }
            let logged = group.firing.len();
            let batch = group.batch(labels, now);
            self.logged -= logged - group.firing.len();
            if let Some(batch) = batch {
                self.sending = Some(batch.clone());
                self.revision += 1;
                return NextBatch::Batch(batch);
            }
        }
        earliest.map_or(NextBatch::Nothing, |due| NextBatch::In(due.saturating_sub(now)))
    }

    fn acknowledge(&mut self, batch: &Batch, now: Duration) {
        let mut space = self.capacity.saturating_sub(self.logged);
        self.sending = None;
        self.revision += 1;
        let group = self.groups.entry(batch.group.clone()).or_default();
        group.last_sent_at = Some(now);
        group.failed_at = None;
        let (before, logged) = (group.unsent.len(), group.firing.len());
        let unconfirmed = std::mem::take(&mut group.unconfirmed);
        for alert in &batch.changed {
            group.unsent.acknowledge(alert);
            if group.firing.remove(&alert.labels).is_some() {
                space += 1;
            }
            if alert.status == AlertStatus::Firing && space > 0 {
                group.note_firing(alert);
                space -= 1;
            }
            let is_unconfirmed =
                |sent: &Option<Arc<Alert>>| sent.as_ref().is_none_or(|sent| !is_same_state(sent, alert));
            // The older state may arrive after this one, so this one is sent again at the next interval.
            if unconfirmed.get(&alert.labels).is_some_and(is_unconfirmed)
                && !group.unsent.holds(&alert.labels)
            {
                group.unsent.put(self.next_position, alert);
                group.unsent.note_may_be_known(&alert.labels);
                self.next_position += 1;
            }
        }
        self.unsent = self.unsent + group.unsent.len() - before;
        self.logged = self.logged + group.firing.len() - logged;
    }

    /// Gives up only what is rejected: nothing else would send these alerts again.
    fn requeue(&mut self, batch: &Batch, failure: Failure) -> Option<GivenUp> {
        if failure.cause == FailureCause::Rejected {
            self.acknowledge(batch, failure.at);
            return Some(GivenUp::Rejected(batch.clone()));
        }
        self.sending = None;
        self.revision += 1;
        let group = self.groups.get_mut(&batch.group)?;
        group.failed_at = Some(failure.at);
        if failure.cause != FailureCause::Unreachable {
            for alert in &batch.changed {
                group.unsent.note_may_be_known(&alert.labels);
            }
        }
        if failure.cause == FailureCause::Ambiguous {
            for alert in batch.alerts() {
                let sent = group.unconfirmed.entry(Arc::clone(&alert.labels));
                let sent = sent.or_insert_with(|| Some(Arc::clone(alert)));
                *sent = sent.take().filter(|other| is_same_state(other, alert));
            }
            // What was dropped meanwhile, from a full queue, is not sent any more.
            let (unsent, firing) = (&group.unsent, &group.firing);
            group.unconfirmed.retain(|key, _| unsent.holds(key) || firing.contains_key(key));
        }
        None
    }

    fn len(&self) -> usize {
        self.unsent
    }

    fn log(&self) -> Vec<LogEntry> {
        let mut known = Vec::new();
        for (labels, group) in &self.groups {
            let sending = self.sending.iter().filter(|batch| batch.group == *labels);
            let sending: BTreeSet<_> =
                sending.flat_map(|batch| &batch.changed).map(|alert| &alert.labels).collect();
            let of = |alert: &Arc<Alert>, send_state| LogEntry {
                alert: Arc::clone(alert),
                send_state,
                last_sent_at: group.last_sent_at,
            };
            for (alert, may_be_known) in group.unsent.all() {
                let key = &alert.labels;
                if may_be_known || sending.contains(key) || group.firing.contains_key(key) {
                    known.push(of(alert, SendState::Unsent));
                }
            }
            let logged = group.firing.values().filter(|alert| !group.unsent.holds(&alert.labels));
            known.extend(logged.map(|alert| of(alert, SendState::Sent)));
        }
        known
    }

    fn revision(&self) -> u64 {
        self.revision
    }

    fn set_repeat_interval(&mut self, repeat_interval: Duration) {
        self.repeat_interval = repeat_interval;
    }

    fn shift_times(&mut self, shift: ClockShift) {
        for group in self.groups.values_mut() {
            let times = group.last_sent_at.iter_mut().chain(&mut group.failed_at);
            times.for_each(|time| *time = shift.apply(*time));
            for alert in group.firing.values_mut() {
                let alert = Arc::make_mut(alert);
                alert.ends_at = shift.apply(alert.ends_at);
            }
        }
    }

    fn interrupt(&mut self, now: Duration) {
        if let Some(batch) = self.sending.take() {
            self.requeue(&batch, Failure { at: now, cause: FailureCause::Ambiguous });
        }
    }
}

impl AggregationGroup {
    fn knows(&self, alert: &Alert) -> bool {
        self.unsent.holds(&alert.labels) || self.firing.contains_key(&alert.labels)
    }

    /// Returns true if nothing of it is to be sent, and the receiver knows of nothing that fires.
    fn is_over(&self) -> bool {
        self.unsent.len() == 0 && self.firing.is_empty()
    }

    /// Logs an alert as sent in this state.
    fn note_firing(&mut self, alert: &Arc<Alert>) {
        // An insertion alone would keep the labels of the earlier state as the key.
        self.firing.remove(&alert.labels);
        self.firing.insert(Arc::clone(&alert.labels), Arc::clone(alert));
    }

    /// Returns true if the alert is to be sent: it changed, it is unsent and this is its newest state, or it is repeated
    /// and not in the log, because it began to fire before this process did or was dropped. A resolved alert leaves the
    /// log when it is sent, so that its repetitions are ignored.
    fn is_change(&mut self, notification: &Notification, has_space: bool) -> bool {
        let alert = &notification.alert;
        if notification.reason == SendReason::Changed || self.unsent.holds(&alert.labels) {
            return true;
        }
        if alert.status == AlertStatus::Resolved {
            return false;
        }
        match self.firing.get(&alert.labels) {
            None => has_space,
            Some(known) if is_same_state(known, alert) => {
                // The log keeps the newest value, and the time until which the alert holds.
                self.note_firing(alert);
                false
            }
            Some(_) => true,
        }
    }

    /// Returns when there is something to send, as the time since the Unix epoch.
    fn due(&self, repeat_interval: Duration, mode: SendMode) -> Option<Duration> {
        let last_sent_at = self.last_sent_at.unwrap_or_default();
        let has_unsent = self.unsent.len() > 0;
        match mode {
            SendMode::Draining => has_unsent.then_some(Duration::ZERO),
            SendMode::Normal if has_unsent => {
                Some(self.last_sent_at.map_or(Duration::ZERO, |at| at + GROUP_INTERVAL))
            }
            SendMode::Normal => {
                let is_shown = |alert: &Arc<Alert>| alert.inhibited_by.is_none();
                self.firing.values().any(is_shown).then(|| last_sent_at.saturating_add(repeat_interval))
            }
        }
    }

    /// Returns what is to be sent now. An alert that is not repeated for as long as it holds leaves the log: its target
    /// was removed, and its state is not known.
    fn batch(&mut self, labels: &GroupLabels, now: Duration) -> Option<Batch> {
        self.firing.retain(|_, alert| alert.ends_at > now);
        let changed = self.unsent.oldest(usize::MAX);
        let is_shown =
            |alert: &&Arc<Alert>| !self.unsent.holds(&alert.labels) && alert.inhibited_by.is_none();
        let still_firing: Vec<_> = self.firing.values().filter(is_shown).cloned().collect();
        if changed.is_empty() && still_firing.is_empty() {
            return None;
        }
        Some(Batch { group: labels.clone(), changed, still_firing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::queue::AlertQueue;
    use crate::notify::render::{all_labels, name_and_target};
    use crate::notify::test_support::{at, changed, firing, names, on, repeated, resolved};

    const HOUR: Duration = Duration::from_secs(3_600);

    fn groups() -> AggregationGroups {
        AggregationGroups::new(name_and_target, HOUR, 1_000)
    }

    /// Acknowledges what is to be sent now, and returns it.
    #[track_caller]
    fn sent(groups: &mut AggregationGroups, now: u64) -> Batch {
        let message = due(groups, now);
        groups.acknowledge(&message, at(now));
        message.sorted()
    }

    #[track_caller]
    fn due(groups: &mut AggregationGroups, now: u64) -> Batch {
        match groups.next(at(now), SendMode::Normal) {
            NextBatch::Batch(message) => message,
            other => panic!("there is no message but {other:?}"),
        }
    }

    fn failing(now: u64, cause: FailureCause) -> Failure {
        Failure { at: at(now), cause }
    }

    /// A firing alert that holds for so many seconds.
    fn holding(alert: Alert, until: u64) -> Alert {
        Alert { ends_at: at(until), ..alert }
    }

    #[test]
    fn ten_thousand_alerts_that_begin_at_once_are_one_message_for_each_name_and_target() {
        let mut groups = AggregationGroups::new(name_and_target, HOUR, 50_000);
        for n in 0..10_000 {
            let group = n.to_string();
            groups.push(&changed(firing("A", &group)));
            groups.push(&changed(on("other", firing("A", &group))));
            groups.push(&changed(firing("B", &group)));
        }
        let mut keys = Vec::new();
        while let NextBatch::Batch(message) = groups.next(at(0), SendMode::Normal) {
            assert_eq!((message.changed.len(), message.still_firing.len()), (10_000, 0));
            groups.acknowledge(&message, at(0));
            keys.push(message.group);
        }
        let key = |name: &str, target: &str| {
            let labels = [("alertname", name), ("target", target)];
            GroupLabels::from(labels.map(|(name, value)| (name.to_owned(), value.to_owned())))
        };
        assert_eq!(keys, [key("A", "cache"), key("A", "other"), key("B", "cache")]);
        assert_eq!(groups.len(), 0);
    }

    #[test]
    fn a_notification_lists_changed_alerts_first_and_those_that_still_fire() {
        let mut groups = groups();
        for group in ["c", "b", "a"] {
            groups.push(&changed(firing("A", group)));
        }
        let first = sent(&mut groups, 0);
        assert_eq!((names(&first.changed), first.firing()), (vec!["a".into(), "b".into(), "c".into()], 3));
        groups.push(&changed(resolved("A", "b", 40)));
        groups.push(&changed(firing("A", "z")));
        let second = sent(&mut groups, 40);
        assert_eq!(names(&second.changed), ["z", "-b"]);
        assert_eq!(names(&second.still_firing), ["a", "c"]);
        assert_eq!(second.firing(), 3);
    }

    #[test]
    fn changes_of_a_group_that_was_just_sent_wait_for_its_interval() {
        let mut groups = groups();
        groups.push(&changed(firing("A", "x")));
        sent(&mut groups, 0);
        groups.push(&changed(firing("A", "y")));
        assert_eq!(groups.next(at(10), SendMode::Normal), NextBatch::In(Duration::from_secs(20)));
        groups.push(&changed(firing("B", "y")));
        assert_eq!(names(&sent(&mut groups, 10).changed), ["y"], "another group does not wait");
        groups.push(&changed(firing("A", "z")));
        assert_eq!(names(&sent(&mut groups, 30).changed), ["y", "z"]);
    }

    #[test]
    fn at_the_end_nothing_is_gathered_and_nothing_repeated() {
        let mut groups = groups();
        groups.push(&changed(firing("A", "x")));
        sent(&mut groups, 0);
        assert_eq!(groups.next(at(2 * 3_600), SendMode::Draining), NextBatch::Nothing);
        groups.push(&changed(holding(firing("A", "y"), 9_000)));
        let NextBatch::Batch(message) = groups.next(at(1), SendMode::Draining) else {
            panic!("nothing is sent")
        };
        assert_eq!(names(&message.changed), ["y"]);
    }

    #[test]
    fn repetitions_are_no_changes_and_keep_an_alert_alive_until_its_reminder() {
        let mut groups = groups();
        groups.push(&changed(firing("A", "x")));
        groups.push(&changed(firing("A", "gone")));
        sent(&mut groups, 0);
        for minute in 1..=60 {
            let alert = holding(firing("A", "x"), minute * 60 + 240);
            assert!(
                !matches!(groups.next(at(minute * 60 - 1), SendMode::Normal), NextBatch::Batch(_)),
                "{minute}"
            );
            groups.push(&repeated(alert));
            assert_eq!(groups.len(), 0);
        }
        let again = sent(&mut groups, 3_600);
        assert_eq!((again.changed.len(), names(&again.still_firing)), (0, vec!["x".to_owned()]));
        assert_eq!(groups.next(at(3_700), SendMode::Normal), NextBatch::In(Duration::from_secs(3_500)));
    }

    #[test]
    fn a_group_whose_alerts_are_no_longer_repeated_is_removed() {
        let mut groups = groups();
        groups.push(&changed(firing("A", "x")));
        sent(&mut groups, 0);
        assert_eq!(groups.next(at(3_600), SendMode::Normal), NextBatch::Nothing);
        assert_eq!(groups.next(at(3_601), SendMode::Normal), NextBatch::Nothing);
        assert!(groups.groups.is_empty());
    }

    #[test]
    fn a_repeated_alert_that_is_not_in_the_log_is_a_change_unless_it_resolved() {
        let mut groups = groups();
        groups.push(&repeated(firing("A", "x")));
        groups.push(&repeated(resolved("A", "y", 60)));
        assert_eq!(names(&sent(&mut groups, 0).changed), ["x"]);
        groups.push(&changed(resolved("A", "x", 60)));
        assert_eq!(names(&sent(&mut groups, 60).changed), ["-x"]);
        groups.push(&repeated(resolved("A", "x", 60)));
        assert_eq!(groups.len(), 0, "it was told already");
    }

    #[test]
    fn an_alert_that_fires_again_since_another_time_is_a_change() {
        let mut groups = groups();
        groups.push(&changed(firing("A", "x")));
        sent(&mut groups, 0);
        let anew = Alert { starts_at: at(50), ..firing("A", "x") };
        groups.push(&repeated(anew));
        assert_eq!(sent(&mut groups, 60).changed[0].starts_at, at(50));
    }

    #[test]
    fn what_changes_while_a_message_is_sent_makes_another() {
        let mut groups = groups();
        for group in ["x", "y"] {
            groups.push(&changed(firing("A", group)));
        }
        let message = due(&mut groups, 0);
        groups.push(&changed(resolved("A", "x", 5)));
        groups.push(&repeated(holding(firing("A", "y"), 300)));
        groups.acknowledge(&message, at(5));
        assert_eq!(names(&sent(&mut groups, 35).changed), ["-x"]);
    }

    #[test]
    fn while_the_receiver_is_down_only_the_newest_states_wait() {
        let mut groups = groups();
        for hour in 0..1_000 {
            for group in ["x", "y", "z"] {
                groups.push(&changed(firing("A", group)));
                groups.push(&changed(resolved("A", group, hour * 3_600)));
            }
        }
        assert_eq!(groups.len(), 3);
        assert_eq!(names(&sent(&mut groups, 0).changed), ["-x", "-y", "-z"]);
    }

    #[test]
    fn beyond_the_capacity_the_oldest_alerts_are_dropped() {
        let mut groups = AggregationGroups::new(name_and_target, HOUR, 3);
        let dropped: usize =
            ["a", "b", "c", "d"].map(|group| groups.push(&changed(firing("B", group)))).iter().sum();
        assert_eq!(dropped + groups.push(&changed(firing("A", "e"))), 2);
        assert_eq!(names(&sent(&mut groups, 0).changed), ["e"]);
        assert_eq!(names(&sent(&mut groups, 0).changed), ["c", "d"]);
        groups.push(&repeated(firing("B", "a")));
        assert_eq!(groups.len(), 0, "what cannot be remembered is not told again and again");
        groups.push(&changed(firing("B", "a")));
        assert_eq!(groups.len(), 1);
    }

    #[test]
    fn groups_of_one_alert_are_sent_one_by_one_and_block_no_other() {
        let mut groups = AggregationGroups::new(all_labels, HOUR, 1_000);
        for group in ["a", "b", "c"] {
            groups.push(&changed(firing("A", group)));
        }
        let rejected = due(&mut groups, 0);
        assert_eq!(names(&rejected.changed), ["a"]);
        let given_up = groups.requeue(&rejected, failing(0, FailureCause::Rejected));
        assert_eq!(given_up, Some(GivenUp::Rejected(rejected)));
        assert_eq!(groups.len(), 2);
        assert_eq!(["b", "c"].map(|_| names(&sent(&mut groups, 1).changed).remove(0)), ["b", "c"]);
        groups.push(&changed(resolved("A", "b", 40)));
        assert_eq!(names(&sent(&mut groups, 40).changed), ["-b"]);
        groups.push(&repeated(holding(firing("A", "c"), 9_000)));
        assert_eq!(groups.len(), 0);
        let reminder = sent(&mut groups, 3_601);
        assert_eq!((reminder.changed.len(), names(&reminder.still_firing)), (0, vec!["c".to_owned()]));
    }

    #[test]
    fn a_message_that_fails_goes_behind_the_others() {
        let mut groups = groups();
        for name in ["A", "B", "C"] {
            groups.push(&changed(firing(name, "x")));
        }
        let mut tried = Vec::new();
        for now in 0..5 {
            let message = due(&mut groups, now);
            tried.push(message.group["alertname"].clone());
            groups.requeue(&message, failing(now, FailureCause::Payload));
        }
        assert_eq!(tried, ["A", "B", "C", "A", "B"]);
    }

    /// Returns the names in the log, with `?` after unsent ones.
    fn known(groups: &AggregationGroups) -> Vec<String> {
        let told = |known: &LogEntry| match known.send_state {
            SendState::Sent => names([&known.alert]).remove(0),
            SendState::Unsent => format!("{}?", names([&known.alert])[0]),
        };
        groups.log().iter().map(told).collect()
    }

    #[test]
    fn an_alert_that_may_have_arrived_is_in_the_log_until_its_end_was_sent() {
        let mut groups = groups();
        groups.push(&changed(firing("A", "x")));
        assert_eq!(known(&groups), [] as [String; 0]);
        let message = due(&mut groups, 0);
        assert_eq!(known(&groups), ["x?"], "it is on its way");
        groups.requeue(&message, failing(0, FailureCause::Unreachable));
        assert_eq!(known(&groups), [] as [String; 0], "nobody was there");
        let message = due(&mut groups, 1);
        groups.requeue(&message, failing(1, FailureCause::Payload));
        assert_eq!(known(&groups), ["x?"], "it may have arrived");
        sent(&mut groups, 2);
        assert_eq!(known(&groups), ["x"]);
        let before = groups.revision();
        groups.push(&repeated(firing("A", "x")));
        assert_eq!(groups.revision(), before, "a repetition changes nothing");
        groups.push(&changed(resolved("A", "x", 60)));
        groups.push(&changed(firing("A", "y")));
        groups.push(&changed(resolved("A", "y", 60)));
        assert_ne!(groups.revision(), before);
        assert_eq!(known(&groups), ["-x?"], "it never heard of the other");
        sent(&mut groups, 60);
        assert_eq!(known(&groups), [] as [String; 0]);
    }

    #[test]
    fn after_a_restart_a_receiver_is_sent_the_end_of_alerts_that_it_may_know() {
        let mut before = groups();
        for group in ["fires", "over", "over later"] {
            before.push(&changed(firing("A", group)));
        }
        sent(&mut before, 0);
        before.push(&changed(resolved("A", "over", 5)));
        before.push(&changed(firing("A", "unheard")));
        before.push(&changed(firing("A", "unheard and over")));
        before.push(&changed(resolved("A", "unheard and over", 6)));

        let mut after = groups().restore(&before.log(), at(10));
        assert_eq!(known(&after), known(&before));
        assert_eq!(
            after.next(at(11), SendMode::Normal),
            NextBatch::In(Duration::from_secs(19)),
            "gathering goes on"
        );
        after.push(&repeated(firing("A", "fires")));
        after.push(&changed(resolved("A", "over later", 12)));
        after.push(&changed(resolved("A", "unheard", 12)));
        assert_eq!(names(&sent(&mut after, 30).changed), ["-over", "-over later"]);
        after.push(&changed(Alert { starts_at: at(11), ..resolved("A", "new", 40) }));
        assert_eq!(names(&sent(&mut after, 60).changed), ["-new"]);
        assert_eq!(known(&after), ["fires"]);
    }

    #[test]
    fn a_state_that_a_late_request_may_overwrite_is_sent_again_at_the_next_interval() {
        let mut groups = groups();
        groups.push(&changed(firing("A", "x")));
        sent(&mut groups, 0);
        groups.push(&changed(firing("A", "y")));
        let message = due(&mut groups, 30);
        groups.requeue(&message, failing(40, FailureCause::Ambiguous));
        // In the request that may arrive late, both fire.
        groups.push(&changed(resolved("A", "x", 41)));
        groups.push(&changed(resolved("A", "y", 42)));
        assert_eq!(names(&sent(&mut groups, 45).changed), ["-x", "-y"]);
        assert_eq!(groups.len(), 2);
        assert_eq!(known(&groups).len(), 2, "also after a restart");
        assert_eq!(groups.next(at(45), SendMode::Normal), NextBatch::In(GROUP_INTERVAL));
        assert_eq!(names(&sent(&mut groups, 75).changed), ["-x", "-y"]);
        assert_eq!(groups.next(at(200), SendMode::Normal), NextBatch::Nothing);
        assert_eq!(known(&groups), [] as [String; 0]);
    }

    #[test]
    fn a_clock_that_is_set_moves_reminders_along_and_drops_nothing_from_the_log() {
        for shift in [ClockShift::Forward(3 * HOUR), ClockShift::Backward(3 * HOUR)] {
            let mut groups = groups();
            groups.push(&changed(holding(firing("A", "x"), 200)));
            sent(&mut groups, 0);
            groups.shift_times(shift);
            let now = |seconds| shift.apply(at(seconds));
            let wait = groups.next(now(60), SendMode::Normal);
            assert_eq!(wait, NextBatch::In(HOUR - Duration::from_secs(60)), "{shift:?}");
            // The evaluator repeats it with its first start.
            let later = Alert { ends_at: now(HOUR.as_secs() + 240), ..firing("A", "x") };
            groups.push(&repeated(later));
            assert_eq!(groups.len(), 0, "{shift:?}");
            let NextBatch::Batch(reminder) = groups.next(now(HOUR.as_secs()), SendMode::Normal) else {
                panic!("{shift:?}: a reminder is due")
            };
            assert_eq!(names(&reminder.still_firing), ["x"], "{shift:?}");
            groups.acknowledge(&reminder, now(HOUR.as_secs()));
            let end = Alert { ends_at: now(HOUR.as_secs() + 5), ..resolved("A", "x", 0) };
            groups.push(&changed(end));
            let due = groups.next(now(HOUR.as_secs() + 30), SendMode::Normal);
            assert!(matches!(&due, NextBatch::Batch(batch) if names(&batch.changed) == ["-x"]), "{due:?}");
        }
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_back() {
        let mut groups = groups();
        groups.push(&changed(firing("A", "x")));
        sent(&mut groups, 10_000);
        groups.push(&changed(resolved("A", "x", 5)));
        assert_eq!(names(&sent(&mut groups, 5).changed), ["-x"]);
    }

    /// Returns how many alerts are held after this many came under new names and half of them resolved, while the
    /// receiver answers no request.
    fn held_after(alerts: usize, mut queue: impl NotificationQueue) -> usize {
        let mut all = Vec::new();
        for number in 0..alerts {
            let name = number.to_string();
            let mut states = vec![firing("A", &name)];
            if number % 2 == 0 {
                states.push(resolved("A", &name, 1));
            }
            for state in states {
                let notification = changed(state);
                all.push(Arc::downgrade(&notification.alert));
                queue.push(&notification);
            }
            if number % 70 == 0 {
                let NextBatch::Batch(batch) = queue.next(at(0), SendMode::Normal) else {
                    panic!("it is unsent")
                };
                queue.requeue(&batch, failing(0, FailureCause::Ambiguous));
            }
        }
        all.iter().filter(|alert| alert.strong_count() > 0).count()
    }

    #[test]
    fn a_receiver_that_never_answers_makes_a_full_queue_hold_no_more_than_its_capacity() {
        let capacity = 200;
        let of = |labels| AggregationGroups::new(labels, HOUR, capacity);
        for alerts in [1_000, 5_000] {
            for held in [
                held_after(alerts, of(name_and_target)),
                held_after(alerts, of(all_labels)),
                held_after(alerts, AlertQueue::new(capacity)),
            ] {
                assert_eq!(held, capacity, "after {alerts}");
            }
        }
    }

    fn inhibited(alert: Alert) -> Alert {
        Alert { inhibited_by: Some("Source".to_owned()), ..alert }
    }

    #[test]
    fn an_inhibited_alert_is_not_sent_until_it_is_not_inhibited() {
        let mut groups = groups();
        groups.push(&changed(inhibited(firing("A", "x"))));
        assert_eq!(groups.next(at(0), SendMode::Normal), NextBatch::Nothing);
        groups.push(&repeated(firing("A", "x")));
        assert_eq!(names(&sent(&mut groups, 10).changed), ["x"]);
        // The receiver knows it, so it is sent its end, but no reminder.
        groups.push(&repeated(inhibited(holding(firing("A", "x"), 1_000_000))));
        assert_eq!(groups.next(at(500_000), SendMode::Normal), NextBatch::Nothing);
        groups.push(&changed(inhibited(resolved("A", "x", 500_010))));
        assert_eq!(names(&sent(&mut groups, 500_010).changed), ["-x"]);
    }

    #[test]
    fn an_alert_that_was_inhibited_all_the_time_is_not_sent_when_it_resolves() {
        let mut groups = groups();
        groups.push(&changed(firing("A", "other")));
        sent(&mut groups, 0);
        // It waits for the interval of its group when it becomes inhibited.
        groups.push(&changed(firing("A", "x")));
        groups.push(&repeated(inhibited(firing("A", "x"))));
        assert_eq!(groups.len(), 0);
        groups.push(&changed(inhibited(resolved("A", "x", 60))));
        assert_eq!(groups.len(), 0);
    }
}
