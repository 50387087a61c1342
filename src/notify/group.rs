//! Messages about many alerts, for people: one for each alert name and target. A message is sent when something
//! changes, and again after a while if alerts still fire. Pure: times are parameters.
//!
//! A group remembers what its receiver was told to fire, so that a message can say what fires in all, and so that
//! what the state machine repeats each minute for Alertmanager's sake is no news here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::alert::notification::{Alert, Notification, SendReason, Status};
use crate::alert::notification_log::{LogEntry, SendState};
use crate::notify::backlog::{Backlog, Identity, is_same_news};
use crate::notify::doubt::Doubts;
use crate::notify::queue::{Failure, Next, Pace, Store, Suspect};

/// Least time between two messages about a group. Where trouble spreads from poll to poll, it makes a few messages
/// and not one for each poll.
const PAUSE: Duration = Duration::from_secs(30);

/// What the alerts of a group have in common: the labels that make it, as far as they have them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupKey {
    /// The label `alertname`.
    pub(super) alert_name: Option<String>,
    /// The label `target`.
    pub(super) target: Option<String>,
}

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Message {
    /// What it is about.
    pub(super) key: GroupKey,
    /// What is new, in the order in which it came.
    pub(super) news: Vec<Arc<Alert>>,
    /// What the receiver knows to fire and still does.
    pub(super) still_firing: Vec<Arc<Alert>>,
}

/// The alerts that one receiver is, or was, told of.
#[derive(Debug)]
pub(super) struct Groups {
    repeat_interval: Duration,
    /// Of alerts that wait, and of those that are remembered.
    capacity: usize,
    groups: BTreeMap<GroupKey, Group>,
    doubts: Doubts,
    next_place: u64,
    /// What is being sent: its news may be heard before it is known to be.
    sending: Option<Message>,
    /// Of what began to fire until then, the receiver knows only what is remembered here; the time since the Unix
    /// epoch.
    remembers_until: Duration,
    revision: u64,
}

#[derive(Debug, Default)]
struct Group {
    /// What the receiver is not told yet.
    news: Backlog,
    /// What it was told to fire.
    firing: BTreeSet<Identity>,
    /// When it was last told anything; the time since the Unix epoch.
    last_sent_at: Option<Duration>,
    /// When a message about it failed, if none was delivered since. Likewise.
    failed_at: Option<Duration>,
}

impl GroupKey {
    fn of(alert: &Alert) -> Self {
        let label = |name| alert.labels.get(name).cloned();
        Self { alert_name: label("alertname"), target: label("target") }
    }

    /// The labels that are there, in the order of their names.
    pub(super) fn labels(&self) -> BTreeMap<&'static str, &str> {
        let labels = [("alertname", &self.alert_name), ("target", &self.target)];
        labels.into_iter().filter_map(|(name, value)| Some((name, value.as_deref()?))).collect()
    }
}

impl Message {
    /// The same as people want to read it: of what is new first what began to fire, then what resolved, each in the
    /// order of labels. Not done where messages are made, as all who hand in alerts would wait for it.
    pub(super) fn in_order(&self) -> Self {
        let mut message = self.clone();
        message.news.sort_by(|one, other| (one.status, &one.labels).cmp(&(other.status, &other.labels)));
        message
    }

    /// All its alerts, what is new first.
    pub(super) fn alerts(&self) -> impl Iterator<Item = &Arc<Alert>> {
        self.news.iter().chain(&self.still_firing)
    }

    /// How many of its alerts fire.
    pub(super) fn firing(&self) -> usize {
        self.alerts().filter(|alert| alert.status == Status::Firing).count()
    }
}

impl Groups {
    /// Nothing to tell yet. At most `capacity` alerts wait, and as many are remembered.
    pub(super) fn new(repeat_interval: Duration, capacity: usize) -> Self {
        Self {
            repeat_interval,
            capacity,
            groups: BTreeMap::new(),
            doubts: Doubts::default(),
            next_place: 0,
            sending: None,
            remembers_until: Duration::ZERO,
            revision: 0,
        }
    }

    /// The same with what the receiver knew when this program ended, which is all that it knows of what began to fire
    /// until then, the time since the Unix epoch.
    pub(super) fn recalling(mut self, known: &[LogEntry], until: Duration) -> Self {
        for LogEntry { alert, send_state, last_sent_at } in known.iter().take(self.capacity) {
            let group = self.groups.entry(GroupKey::of(alert)).or_default();
            group.last_sent_at = group.last_sent_at.max(*last_sent_at);
            let identity = Identity(Arc::clone(alert));
            match send_state {
                SendState::Sent => {
                    group.firing.insert(identity);
                }
                SendState::Unsent => {
                    group.news.put(self.next_place, alert);
                    group.news.note_may_be_known(&identity);
                    self.next_place += 1;
                }
            }
        }
        // What was left out may be known as well.
        self.remembers_until = if known.len() < self.capacity { until } else { Duration::ZERO };
        self
    }

    /// Repeats what fires after this time from now on.
    pub(super) fn repeat_after(&mut self, repeat_interval: Duration) {
        self.repeat_interval = repeat_interval;
    }

    /// Notes that what is being sent at `now`, if anything is, is sent no further: it may have arrived.
    pub(super) fn interrupt(&mut self, now: Duration) {
        if let Some(message) = self.sending.take() {
            self.postpone(&message, Failure { began: now, failed: now, suspect: Suspect::Silence });
        }
    }

    /// What is over, was told to be, and is to be told so once more.
    fn over_in_doubt(&self) -> impl Iterator<Item = LogEntry> {
        let is_over = |(identity, alert): &(&Identity, &Arc<Alert>)| {
            let group = self.groups.get(&GroupKey::of(alert));
            alert.status == Status::Resolved && group.is_none_or(|group| !group.news.holds(identity))
        };
        self.doubts.pending().filter(is_over).map(|(_, alert)| {
            let last_sent_at = self.groups.get(&GroupKey::of(alert)).and_then(|group| group.last_sent_at);
            LogEntry { alert: Arc::clone(alert), send_state: SendState::Unsent, last_sent_at }
        })
    }

    /// Lets what may not have been the receiver's last word be told once more.
    fn clear_doubts(&mut self, now: Duration) {
        let is_news = |identity: &Identity| {
            let group = self.groups.get(&GroupKey::of(&identity.0));
            group.is_some_and(|group| group.news.holds(identity))
        };
        for alert in self.doubts.take_due(now, is_news) {
            let group = self.groups.entry(GroupKey::of(&alert)).or_default();
            group.news.put(self.next_place, &alert);
            group.news.note_may_be_known(&Identity(alert));
            self.next_place += 1;
        }
    }

    fn remembered(&self) -> usize {
        self.groups.values().map(|group| group.firing.len()).sum()
    }

    fn drop_oldest(&mut self) {
        let oldest = |(_, group): &(&GroupKey, &mut Group)| group.news.oldest_place().unwrap_or(u64::MAX);
        if let Some((_, group)) = self.groups.iter_mut().min_by_key(oldest) {
            group.news.drop_oldest();
        }
    }
}

impl Store for Groups {
    type Parcel = Message;

    fn put(&mut self, notification: &Notification) -> usize {
        let alert = &notification.alert;
        // Only a repetition can be no news, and must not be taken for one only because it cannot be remembered.
        let has_room = notification.reason == SendReason::Changed || self.remembered() < self.capacity;
        let is_from_before = alert.starts_at <= self.remembers_until;
        let group = self.groups.entry(GroupKey::of(alert)).or_default();
        // That it is over means nothing to who never heard of it.
        let is_over_unheard = alert.status == Status::Resolved && is_from_before && !group.knows(alert);
        if !is_over_unheard && group.is_news(notification, has_room) {
            group.news.put(self.next_place, alert);
            self.next_place += 1;
            self.revision += 1;
        }
        let dropped = self.waiting().saturating_sub(self.capacity);
        (0..dropped).for_each(|_| self.drop_oldest());
        dropped
    }

    fn next(&mut self, now: Duration, pace: Pace) -> Next<Message> {
        self.clear_doubts(now);
        let repeat_interval = self.repeat_interval;
        self.groups.retain(|_, group| {
            let is_over = group.due(repeat_interval, Pace::Steady).is_none();
            !is_over
                || group
                    .last_sent_at
                    .is_some_and(|last_sent_at| last_sent_at <= now && now < last_sent_at + PAUSE)
        });
        let mut due: Vec<_> = self
            .groups
            .values_mut()
            .filter_map(|group| Some((group.due(repeat_interval, pace)?, group)))
            .collect();
        // What failed goes behind the others, so that one message which a receiver chokes on is not all it gets.
        due.sort_by_key(|(due, group)| (group.failed_at, *due));
        let mut earliest = self.doubts.next_due();
        for (due, group) in due {
            // A clock that was set back must not hold back a message.
            if due > now && group.last_sent_at.is_none_or(|last_sent_at| last_sent_at <= now) {
                earliest = Some(earliest.map_or(due, |earliest| earliest.min(due)));
            } else if let Some(message) = group.message(now) {
                self.sending = Some(message.clone());
                self.revision += 1;
                return Next::Parcel(message);
            }
        }
        earliest.map_or(Next::Nothing, |due| Next::In(due.saturating_sub(now)))
    }

    fn settle(&mut self, message: &Message, now: Duration) {
        let mut room = self.capacity.saturating_sub(self.remembered());
        self.sending = None;
        self.revision += 1;
        message.alerts().for_each(|alert| self.doubts.note_told(alert, now));
        let group = self.groups.entry(message.key.clone()).or_default();
        group.last_sent_at = Some(now);
        group.failed_at = None;
        for alert in &message.news {
            group.news.settle(alert);
            let identity = Identity(Arc::clone(alert));
            if group.firing.remove(&identity) {
                room += 1;
            }
            if alert.status == Status::Firing && room > 0 {
                group.firing.insert(identity);
                room -= 1;
            }
        }
    }

    /// Nothing is given up: nobody would tell of it again.
    fn postpone(&mut self, message: &Message, failure: Failure) -> Option<Arc<Alert>> {
        self.sending = None;
        self.revision += 1;
        if failure.suspect == Suspect::Silence {
            message.alerts().for_each(|alert| self.doubts.note(alert, failure.began));
        }
        if let Some(group) = self.groups.get_mut(&message.key) {
            group.failed_at = Some(failure.failed);
            if failure.suspect != Suspect::Receiver {
                for alert in &message.news {
                    group.news.note_may_be_known(&Identity(Arc::clone(alert)));
                }
            }
        }
        None
    }

    fn waiting(&self) -> usize {
        self.groups.values().map(|group| group.news.len()).sum()
    }

    fn alerts_in(message: &Message) -> usize {
        if message.news.is_empty() { message.still_firing.len() } else { message.news.len() }
    }

    fn known(&self) -> Vec<LogEntry> {
        let mut known = Vec::new();
        for (key, group) in &self.groups {
            let sending = self.sending.iter().filter(|message| message.key == *key);
            let sending: BTreeSet<_> =
                sending.flat_map(|message| &message.news).cloned().map(Identity).collect();
            let of = |alert: &Arc<Alert>, send_state| LogEntry {
                alert: Arc::clone(alert),
                send_state,
                last_sent_at: group.last_sent_at,
            };
            for (alert, may_be_known) in group.news.all() {
                let identity = Identity(Arc::clone(alert));
                if may_be_known || sending.contains(&identity) || group.firing.contains(&identity) {
                    known.push(of(alert, SendState::Unsent));
                }
            }
            let told = group.firing.iter().filter(|identity| !group.news.holds(identity));
            known.extend(told.map(|Identity(alert)| of(alert, SendState::Sent)));
        }
        known.extend(self.over_in_doubt());
        known
    }

    fn revision(&self) -> u64 {
        self.revision
    }
}

impl Group {
    /// Whether the receiver was told of it, or is to be.
    fn knows(&self, alert: &Arc<Alert>) -> bool {
        let identity = Identity(Arc::clone(alert));
        self.news.holds(&identity) || self.firing.contains(&identity)
    }

    /// Whether the receiver does not know it, or it waits to be told and this is its newest state. An alert that
    /// is repeated and not known began to fire before this program did, or was dropped. What resolved is not
    /// known any more once it was told, however often it is repeated.
    fn is_news(&mut self, notification: &Notification, has_room: bool) -> bool {
        let alert = &notification.alert;
        let identity = Identity(Arc::clone(alert));
        if notification.reason == SendReason::Changed || self.news.holds(&identity) {
            return true;
        }
        if alert.status == Status::Resolved {
            return false;
        }
        match self.firing.take(&identity) {
            None => has_room,
            Some(known) => {
                // What is remembered is how it is now: until when it holds, and with which value.
                let is_known = is_same_news(&known.0, alert);
                self.firing.insert(if is_known { identity } else { known });
                !is_known
            }
        }
    }

    /// When there is something to send; `None` if there is nothing. The time since the Unix epoch.
    fn due(&self, repeat_interval: Duration, pace: Pace) -> Option<Duration> {
        let last_sent_at = self.last_sent_at.unwrap_or_default();
        let has_news = self.news.len() > 0;
        match pace {
            Pace::Last => has_news.then_some(Duration::ZERO),
            Pace::Steady if has_news => Some(self.last_sent_at.map_or(Duration::ZERO, |at| at + PAUSE)),
            Pace::Steady => (!self.firing.is_empty()).then(|| last_sent_at + repeat_interval),
        }
    }

    /// What there is to say now; `None` if that is nothing. An alert that nobody has spoken of for as long as it
    /// holds is forgotten: its target was taken away, and what became of it is not known.
    fn message(&mut self, now: Duration) -> Option<Message> {
        self.firing.retain(|Identity(alert)| alert.ends_at > now);
        let news = self.news.oldest(usize::MAX);
        let told = self.firing.iter().filter(|identity| !self.news.holds(identity));
        let still_firing: Vec<_> = told.map(|Identity(alert)| Arc::clone(alert)).collect();
        let key = GroupKey::of(news.first().or(still_firing.first())?);
        Some(Message { key, news, still_firing })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::examples::{at, changed, firing, names, on, repeated, resolved};

    const HOUR: Duration = Duration::from_secs(3_600);

    fn groups() -> Groups {
        Groups::new(HOUR, 1_000)
    }

    /// What is to be sent, which must be there; it is settled.
    #[track_caller]
    fn sent(groups: &mut Groups, now: u64) -> Message {
        let message = due(groups, now);
        groups.settle(&message, at(now));
        message.in_order()
    }

    #[track_caller]
    fn due(groups: &mut Groups, now: u64) -> Message {
        match groups.next(at(now), Pace::Steady) {
            Next::Parcel(message) => message,
            other => panic!("there is no message but {other:?}"),
        }
    }

    fn failing(now: u64, suspect: Suspect) -> Failure {
        Failure { began: at(now), failed: at(now), suspect }
    }

    /// A firing alert that holds for so many seconds.
    fn holding(alert: Alert, until: u64) -> Alert {
        Alert { ends_at: at(until), ..alert }
    }

    #[test]
    fn ten_thousand_alerts_that_begin_at_once_are_one_message_for_each_name_and_target() {
        let mut groups = Groups::new(HOUR, 50_000);
        for n in 0..10_000 {
            let group = n.to_string();
            groups.put(&changed(firing("A", &group)));
            groups.put(&changed(on("other", firing("A", &group))));
            groups.put(&changed(firing("B", &group)));
        }
        let mut keys = Vec::new();
        while let Next::Parcel(message) = groups.next(at(0), Pace::Steady) {
            assert_eq!((message.news.len(), message.still_firing.len()), (10_000, 0));
            groups.settle(&message, at(0));
            keys.push(message.key);
        }
        let key = |name: &str, target: &str| GroupKey {
            alert_name: Some(name.to_owned()),
            target: Some(target.to_owned()),
        };
        assert_eq!(keys, [key("A", "cache"), key("A", "other"), key("B", "cache")]);
        assert_eq!(groups.waiting(), 0);
    }

    #[test]
    fn a_message_tells_what_is_new_first_and_what_still_fires() {
        let mut groups = groups();
        for group in ["c", "b", "a"] {
            groups.put(&changed(firing("A", group)));
        }
        let first = sent(&mut groups, 0);
        assert_eq!((names(&first.news), first.firing()), (vec!["a".into(), "b".into(), "c".into()], 3));
        groups.put(&changed(resolved("A", "b", 40)));
        groups.put(&changed(firing("A", "z")));
        let second = sent(&mut groups, 40);
        assert_eq!(names(&second.news), ["z", "-b"]);
        assert_eq!(names(&second.still_firing), ["a", "c"]);
        assert_eq!(second.firing(), 3);
    }

    #[test]
    fn news_of_a_group_that_was_just_told_is_gathered_for_a_while() {
        let mut groups = groups();
        groups.put(&changed(firing("A", "x")));
        sent(&mut groups, 0);
        groups.put(&changed(firing("A", "y")));
        assert_eq!(groups.next(at(10), Pace::Steady), Next::In(Duration::from_secs(20)));
        groups.put(&changed(firing("B", "y")));
        assert_eq!(names(&sent(&mut groups, 10).news), ["y"], "another group does not wait");
        groups.put(&changed(firing("A", "z")));
        assert_eq!(names(&sent(&mut groups, 30).news), ["y", "z"]);
    }

    #[test]
    fn at_the_end_nothing_is_gathered_and_nothing_repeated() {
        let mut groups = groups();
        groups.put(&changed(firing("A", "x")));
        sent(&mut groups, 0);
        assert_eq!(groups.next(at(2 * 3_600), Pace::Last), Next::Nothing);
        groups.put(&changed(holding(firing("A", "y"), 9_000)));
        let Next::Parcel(message) = groups.next(at(1), Pace::Last) else { panic!("nothing is sent") };
        assert_eq!(names(&message.news), ["y"]);
    }

    #[test]
    fn repetitions_are_no_news_and_keep_an_alert_alive_until_it_is_told_again() {
        let mut groups = groups();
        groups.put(&changed(firing("A", "x")));
        groups.put(&changed(firing("A", "gone")));
        sent(&mut groups, 0);
        for minute in 1..=60 {
            let alert = holding(firing("A", "x"), minute * 60 + 240);
            assert!(!matches!(groups.next(at(minute * 60 - 1), Pace::Steady), Next::Parcel(_)), "{minute}");
            groups.put(&repeated(alert));
            assert_eq!(groups.waiting(), 0);
        }
        let again = sent(&mut groups, 3_600);
        assert_eq!((again.news.len(), names(&again.still_firing)), (0, vec!["x".to_owned()]));
        assert_eq!(groups.next(at(3_700), Pace::Steady), Next::In(Duration::from_secs(3_500)));
    }

    #[test]
    fn a_group_that_nobody_speaks_of_any_more_is_forgotten() {
        let mut groups = groups();
        groups.put(&changed(firing("A", "x")));
        sent(&mut groups, 0);
        assert_eq!(groups.next(at(3_600), Pace::Steady), Next::Nothing);
        assert_eq!(groups.next(at(3_601), Pace::Steady), Next::Nothing);
        assert!(groups.groups.is_empty());
    }

    #[test]
    fn an_alert_that_is_repeated_and_not_known_is_news_unless_it_resolved() {
        let mut groups = groups();
        groups.put(&repeated(firing("A", "x")));
        groups.put(&repeated(resolved("A", "y", 60)));
        assert_eq!(names(&sent(&mut groups, 0).news), ["x"]);
        groups.put(&changed(resolved("A", "x", 60)));
        assert_eq!(names(&sent(&mut groups, 60).news), ["-x"]);
        groups.put(&repeated(resolved("A", "x", 60)));
        assert_eq!(groups.waiting(), 0, "it was told already");
    }

    #[test]
    fn an_alert_that_fired_anew_unseen_is_news() {
        let mut groups = groups();
        groups.put(&changed(firing("A", "x")));
        sent(&mut groups, 0);
        let anew = Alert { starts_at: at(50), ..firing("A", "x") };
        groups.put(&repeated(anew));
        assert_eq!(sent(&mut groups, 60).news[0].starts_at, at(50));
    }

    #[test]
    fn what_changes_while_a_message_is_sent_makes_another() {
        let mut groups = groups();
        for group in ["x", "y"] {
            groups.put(&changed(firing("A", group)));
        }
        let message = due(&mut groups, 0);
        groups.put(&changed(resolved("A", "x", 5)));
        groups.put(&repeated(holding(firing("A", "y"), 300)));
        groups.settle(&message, at(5));
        assert_eq!(names(&sent(&mut groups, 35).news), ["-x"]);
    }

    #[test]
    fn while_the_receiver_is_down_only_the_newest_states_wait() {
        let mut groups = groups();
        for hour in 0..1_000 {
            for group in ["x", "y", "z"] {
                groups.put(&changed(firing("A", group)));
                groups.put(&changed(resolved("A", group, hour * 3_600)));
            }
        }
        assert_eq!(groups.waiting(), 3);
        assert_eq!(names(&sent(&mut groups, 0).news), ["-x", "-y", "-z"]);
    }

    #[test]
    fn beyond_the_capacity_the_oldest_news_are_dropped() {
        let mut groups = Groups::new(HOUR, 3);
        let dropped: usize =
            ["a", "b", "c", "d"].map(|group| groups.put(&changed(firing("B", group)))).iter().sum();
        assert_eq!(dropped + groups.put(&changed(firing("A", "e"))), 2);
        assert_eq!(names(&sent(&mut groups, 0).news), ["e"]);
        assert_eq!(names(&sent(&mut groups, 0).news), ["c", "d"]);
        groups.put(&repeated(firing("B", "a")));
        assert_eq!(groups.waiting(), 0, "what cannot be remembered is not told again and again");
        groups.put(&changed(firing("B", "a")));
        assert_eq!(groups.waiting(), 1);
    }

    #[test]
    fn a_message_that_fails_goes_behind_the_others() {
        let mut groups = groups();
        for name in ["A", "B", "C"] {
            groups.put(&changed(firing(name, "x")));
        }
        let mut tried = Vec::new();
        for now in 0..5 {
            let message = due(&mut groups, now);
            tried.push(message.key.alert_name.clone().unwrap());
            groups.postpone(&message, failing(now, Suspect::Content));
        }
        assert_eq!(tried, ["A", "B", "C", "A", "B"]);
    }

    /// What a store says that its receiver knows: names, with `?` where it is still to be told.
    fn known(groups: &Groups) -> Vec<String> {
        let told = |known: &LogEntry| match known.send_state {
            SendState::Sent => names([&known.alert]).remove(0),
            SendState::Unsent => format!("{}?", names([&known.alert])[0]),
        };
        groups.known().iter().map(told).collect()
    }

    #[test]
    fn what_a_receiver_may_have_heard_is_known_until_it_is_told_that_it_is_over() {
        let mut groups = groups();
        groups.put(&changed(firing("A", "x")));
        assert_eq!(known(&groups), [] as [String; 0]);
        let message = due(&mut groups, 0);
        assert_eq!(known(&groups), ["x?"], "it is on its way");
        groups.postpone(&message, failing(0, Suspect::Receiver));
        assert_eq!(known(&groups), [] as [String; 0], "nobody was there");
        let message = due(&mut groups, 1);
        groups.postpone(&message, failing(1, Suspect::Content));
        assert_eq!(known(&groups), ["x?"], "it may have arrived");
        sent(&mut groups, 2);
        assert_eq!(known(&groups), ["x"]);
        let before = groups.revision();
        groups.put(&repeated(firing("A", "x")));
        assert_eq!(groups.revision(), before, "a repetition changes nothing");
        groups.put(&changed(resolved("A", "x", 60)));
        groups.put(&changed(firing("A", "y")));
        groups.put(&changed(resolved("A", "y", 60)));
        assert_ne!(groups.revision(), before);
        assert_eq!(known(&groups), ["-x?"], "it never heard of the other");
        sent(&mut groups, 60);
        assert_eq!(known(&groups), [] as [String; 0]);
    }

    #[test]
    fn after_a_restart_a_receiver_is_told_what_is_over_unless_it_never_heard_of_it() {
        let mut before = groups();
        for group in ["fires", "over", "over later"] {
            before.put(&changed(firing("A", group)));
        }
        sent(&mut before, 0);
        before.put(&changed(resolved("A", "over", 5)));
        before.put(&changed(firing("A", "unheard")));
        before.put(&changed(firing("A", "unheard and over")));
        before.put(&changed(resolved("A", "unheard and over", 6)));

        let mut after = groups().recalling(&before.known(), at(10));
        assert_eq!(known(&after), known(&before));
        assert_eq!(after.next(at(11), Pace::Steady), Next::In(Duration::from_secs(19)), "gathering goes on");
        after.put(&repeated(firing("A", "fires")));
        after.put(&changed(resolved("A", "over later", 12)));
        after.put(&changed(resolved("A", "unheard", 12)));
        assert_eq!(names(&sent(&mut after, 30).news), ["-over", "-over later"]);
        after.put(&changed(Alert { starts_at: at(11), ..resolved("A", "new", 40) }));
        assert_eq!(names(&sent(&mut after, 60).news), ["-new"]);
        assert_eq!(known(&after), ["fires"]);
    }

    #[test]
    fn what_a_message_without_an_answer_may_undo_is_told_once_more() {
        let mut groups = groups();
        groups.put(&changed(firing("A", "x")));
        sent(&mut groups, 0);
        groups.put(&changed(firing("A", "y")));
        let message = due(&mut groups, 30);
        groups.postpone(&message, Failure { failed: at(40), ..failing(30, Suspect::Silence) });
        // The message that may come late says of both that they fire.
        groups.put(&changed(resolved("A", "x", 41)));
        groups.put(&changed(resolved("A", "y", 42)));
        assert_eq!(names(&sent(&mut groups, 45).news), ["-x", "-y"]);
        assert_eq!(groups.waiting(), 0);
        assert_eq!(known(&groups).len(), 2, "over a restart too");
        assert_eq!(groups.next(at(45), Pace::Steady), Next::In(Duration::from_secs(15)));
        assert!(
            !matches!(groups.next(at(60), Pace::Steady), Next::Parcel(_)),
            "a group is not told twice in 30 s"
        );
        assert_eq!(names(&sent(&mut groups, 75).news), ["-x", "-y"]);
        assert_eq!(groups.next(at(200), Pace::Steady), Next::Nothing);
        assert_eq!(known(&groups), [] as [String; 0]);
    }

    #[test]
    fn a_clock_that_is_set_back_holds_nothing_back() {
        let mut groups = groups();
        groups.put(&changed(firing("A", "x")));
        sent(&mut groups, 10_000);
        groups.put(&changed(resolved("A", "x", 5)));
        assert_eq!(names(&sent(&mut groups, 5).news), ["-x"]);
    }
}
