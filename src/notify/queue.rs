//! What waits for a receiver that is told of single alerts, and what any such store does: it is bounded, and the oldest
//! is dropped first. Pure.

use std::sync::Arc;
use std::time::Duration;

use crate::alert::notification::{Alert, Notification};
use crate::alert::notification_log::LogEntry;
use crate::notify::backlog::{Backlog, Identity};
use crate::notify::doubt::Doubts;

/// Alerts that wait for one receiver at most. More than this fire only where thousands of groups are in trouble
/// at once; each takes a pointer here, as its text is shared by all queues.
pub(super) const CAPACITY_ALERTS: usize = 50_000;

/// Alerts in one request. With long annotations still below 1 MB, which proxies commonly take.
const BATCH_ALERTS: usize = 500;

/// How often an alert is sent in vain before it is given up, if it was alone at last. With the waits in between that
/// is about a minute; what still fires, or has just resolved, is handed in again by then.
const MAX_FAILURES: u32 = 10;

/// What waits for one receiver.
pub(super) trait Store: Send + 'static {
    /// What is sent at once.
    type Parcel: Send + Sync;

    /// Takes in what the receiver is to be told; returns how many alerts were dropped for it.
    fn put(&mut self, notification: &Notification) -> usize;

    /// What is to be sent at `now`, the time since the Unix epoch. It stays here until it is settled.
    fn next(&mut self, now: Duration, pace: Pace) -> Next<Self::Parcel>;

    /// Forgets what was sent, except for what became news meanwhile.
    fn settle(&mut self, parcel: &Self::Parcel, now: Duration);

    /// Notes that this could not be sent: it is tried again, and something else may come before it. Returns what is
    /// given up instead.
    fn postpone(&mut self, parcel: &Self::Parcel, failure: Failure) -> Option<Arc<Alert>>;

    /// Alerts that wait to be sent.
    fn waiting(&self) -> usize;

    /// Alerts in a parcel.
    fn alerts_in(parcel: &Self::Parcel) -> usize;

    /// What the receiver knows and is not done with, for after a restart.
    fn known(&self) -> Vec<LogEntry> {
        Vec::new()
    }

    /// By how many alerts other queues have become longer, of which the gauge was not told yet; it is now.
    fn take_moved(&mut self) -> i64 {
        0
    }

    /// Another number whenever that has changed, but for what a repetition changes.
    fn revision(&self) -> u64 {
        0
    }
}

/// Whether there is time to gather news.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pace {
    /// There is.
    Steady,
    /// The program ends: what waits goes out now, and nothing else does.
    Last,
}

/// What it may be that sending failed of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Suspect {
    /// The receiver, or the way to it: nothing else would have got through.
    Receiver,
    /// What was sent, or the receiver.
    Content,
    /// The same; and the receiver may still take up what was sent.
    Silence,
}

/// An attempt that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Failure {
    /// When it began, as the time since the Unix epoch.
    pub(super) began: Duration,
    /// When it failed. Likewise.
    pub(super) failed: Duration,
    /// What it may have failed of.
    pub(super) suspect: Suspect,
}

/// What a store has to send.
#[derive(Debug, PartialEq)]
pub(super) enum Next<P> {
    /// This.
    Parcel(P),
    /// Nothing before this time has passed, unless something is put in.
    In(Duration),
    /// Nothing, until something is put in.
    Nothing,
}

/// Single alerts, for Alertmanager.
///
/// One that a receiver breaks down over must not hold up the others for ever: what was sent in vain goes behind the
/// rest, in smaller and smaller batches, until that one is alone.
#[derive(Debug)]
pub(super) struct Queue {
    capacity: usize,
    backlog: Backlog,
    doubts: Doubts,
    next_place: u64,
    /// Alerts in the next request.
    batch: usize,
}

impl Queue {
    /// An empty queue for at most so many alerts.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            capacity,
            backlog: Backlog::default(),
            doubts: Doubts::default(),
            next_place: 0,
            batch: BATCH_ALERTS,
        }
    }

    /// All that waits, the oldest first. It goes on waiting.
    pub(super) fn all(&self) -> Vec<Arc<Alert>> {
        self.backlog.oldest(usize::MAX)
    }

    /// Takes everything out.
    pub(super) fn take_all(&mut self) -> Vec<Arc<Alert>> {
        std::mem::take(&mut self.backlog).oldest(usize::MAX)
    }

    /// Takes in alerts that come from another queue, unless what is here is newer; returns how many were dropped.
    pub(super) fn take_over(&mut self, alerts: &[Arc<Alert>]) -> usize {
        let is_held = |alert: &Arc<Alert>| self.backlog.holds(&Identity(Arc::clone(alert)));
        let (_, others): (Vec<_>, Vec<_>) = alerts.iter().partition(|alert| is_held(alert));
        others.into_iter().map(|alert| self.put_alert(alert)).sum()
    }

    fn put_alert(&mut self, alert: &Arc<Alert>) -> usize {
        self.backlog.put(self.next_place, alert);
        self.next_place += 1;
        let dropped = self.backlog.len().saturating_sub(self.capacity);
        (0..dropped).for_each(|_| self.backlog.drop_oldest());
        dropped
    }
}

impl Store for Queue {
    type Parcel = Vec<Arc<Alert>>;

    fn put(&mut self, notification: &Notification) -> usize {
        self.put_alert(&notification.alert)
    }

    fn next(&mut self, now: Duration, _: Pace) -> Next<Self::Parcel> {
        let due = self.doubts.take_due(now, |identity| self.backlog.holds(identity));
        for alert in due.iter().take(self.capacity.saturating_sub(self.backlog.len())) {
            self.put_alert(alert);
        }
        match self.backlog.oldest(self.batch) {
            batch if batch.is_empty() => {
                self.doubts.next_due().map_or(Next::Nothing, |due| Next::In(due.saturating_sub(now)))
            }
            batch => Next::Parcel(batch),
        }
    }

    fn settle(&mut self, parcel: &Self::Parcel, now: Duration) {
        for alert in parcel {
            self.backlog.settle(alert);
            self.doubts.note_told(alert, now);
        }
        self.batch = (2 * self.batch).min(BATCH_ALERTS);
    }

    fn postpone(&mut self, parcel: &Self::Parcel, failure: Failure) -> Option<Arc<Alert>> {
        match failure.suspect {
            Suspect::Receiver => return None,
            Suspect::Content => {}
            Suspect::Silence => parcel.iter().for_each(|alert| self.doubts.note(alert, failure.began)),
        }
        self.batch = (parcel.len() / 2).max(1);
        let mut failures = 0;
        for alert in parcel {
            failures = self.backlog.put_back(self.next_place, alert);
            self.next_place += 1;
        }
        let [alone] = &parcel[..] else { return None };
        (failures >= MAX_FAILURES).then(|| {
            self.backlog.settle(alone);
            Arc::clone(alone)
        })
    }

    fn waiting(&self) -> usize {
        self.backlog.len()
    }

    fn alerts_in(parcel: &Self::Parcel) -> usize {
        parcel.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::examples::{START, changed, firing, names, repeated, resolved};
    use crate::notify::mailbox::Mailbox;
    use crate::self_metrics::SelfMetrics;

    fn failing(suspect: Suspect) -> Failure {
        Failure { began: START, failed: START, suspect }
    }

    fn queue(capacity: usize) -> (Mailbox<Queue>, SelfMetrics) {
        let metrics = SelfMetrics::new(Duration::ZERO, &[]).unwrap();
        (Mailbox::new("am".into(), Queue::new(capacity), metrics.for_notifier("am")), metrics)
    }

    fn batch(mailbox: &Mailbox<Queue>) -> Vec<Arc<Alert>> {
        match mailbox.next(START, Pace::Steady) {
            Next::Parcel(batch) => batch,
            Next::In(_) | Next::Nothing => Vec::new(),
        }
    }

    fn shows(metrics: &SelfMetrics, line: &str) -> bool {
        let text = String::from_utf8(metrics.render(None, |_| false).unwrap()).unwrap();
        text.lines().any(|found| found == line)
    }

    #[test]
    fn what_came_first_goes_first_and_stays_until_it_is_settled() {
        let (mailbox, metrics) = queue(10);
        mailbox.put(&[changed(firing("A", "x")), changed(firing("A", "y"))]);
        mailbox.put(&[changed(firing("B", "x"))]);
        assert_eq!(names(&batch(&mailbox)), ["x", "y", "x"]);
        assert!(shows(&metrics, r#"streamgauge_notification_queue_length{notifier="am"} 3"#));
        mailbox.settle(&batch(&mailbox), START);
        assert_eq!(batch(&mailbox), []);
        assert!(shows(&metrics, r#"streamgauge_notification_queue_length{notifier="am"} 0"#));
    }

    #[test]
    fn what_a_receiver_breaks_down_over_holds_up_nothing_else() {
        const ALERTS: usize = 1_200;
        for poison in [0, 1, 250, 499, 777, ALERTS - 1] {
            let (mailbox, metrics) = queue(CAPACITY_ALERTS);
            let alerts: Vec<_> = (0..ALERTS).map(|n| changed(firing("A", &n.to_string()))).collect();
            mailbox.put(&alerts);
            let (poison, mut sent, mut failed, mut attempts) = (poison.to_string(), 0, 0, 0);
            while let parcel @ [_, ..] = batch(&mailbox).as_slice() {
                attempts += 1;
                if names(parcel).contains(&poison) {
                    failed += 1;
                    // What is told again meanwhile is the same.
                    mailbox.put(&[repeated(firing("A", &poison))]);
                    mailbox.postpone(&parcel.to_vec(), failing(Suspect::Content));
                } else {
                    sent += parcel.len();
                    mailbox.settle(&parcel.to_vec(), START);
                }
            }
            assert_eq!(sent, ALERTS - 1, "{poison}");
            assert!(failed < 2 * u64::from(MAX_FAILURES) && attempts < 60, "{poison}: {failed}, {attempts}");
            assert!(shows(&metrics, r#"streamgauge_notifications_total{notifier="am",result="dropped"} 1"#));
            assert!(shows(&metrics, r#"streamgauge_notification_queue_length{notifier="am"} 0"#));
        }
    }

    #[test]
    fn while_a_receiver_is_away_nothing_is_given_up() {
        let (mailbox, metrics) = queue(10);
        mailbox.put(&[changed(firing("A", "x")), changed(firing("A", "y"))]);
        for _ in 0..1_000 {
            mailbox.postpone(&batch(&mailbox), failing(Suspect::Receiver));
        }
        assert_eq!(names(&batch(&mailbox)), ["x", "y"]);
        assert!(shows(&metrics, r#"streamgauge_notifications_total{notifier="am",result="dropped"} 0"#));
    }

    #[test]
    fn a_newer_state_is_not_given_up_for_what_an_older_one_failed_of() {
        let (mailbox, _) = queue(10);
        mailbox.put(&[changed(firing("A", "x"))]);
        for _ in 1..MAX_FAILURES {
            mailbox.postpone(&batch(&mailbox), failing(Suspect::Content));
        }
        let sent = batch(&mailbox);
        mailbox.put(&[changed(resolved("A", "x", 60))]);
        mailbox.postpone(&sent, failing(Suspect::Content));
        assert_eq!(names(&batch(&mailbox)), ["-x"]);
    }

    #[test]
    fn what_is_told_after_something_that_was_not_answered_is_told_once_more() {
        let (mailbox, metrics) = queue(10);
        mailbox.put(&[changed(firing("A", "x")), changed(firing("A", "y"))]);
        let took = Duration::from_secs(10);
        mailbox.postpone(&batch(&mailbox), Failure { failed: START + took, ..failing(Suspect::Silence) });
        mailbox.put(&[changed(resolved("A", "x", 5))]);
        let at = |seconds| START + Duration::from_secs(seconds);
        let told = |seconds| match mailbox.next(at(seconds), Pace::Steady) {
            Next::Parcel(batch) => {
                mailbox.settle(&batch, at(seconds));
                names(&batch)
            }
            Next::In(_) | Next::Nothing => Vec::new(),
        };
        assert_eq!(told(11), ["-x"]);
        assert_eq!(told(12), ["y"]);
        assert_eq!(mailbox.next(at(12), Pace::Steady), Next::In(Duration::from_secs(10)));
        assert!(shows(&metrics, r#"streamgauge_notification_queue_length{notifier="am"} 0"#));
        assert_eq!(told(22), ["-x"]);
        assert_eq!(mailbox.next(at(23), Pace::Steady), Next::Nothing);
    }

    #[test]
    fn a_newer_state_takes_the_place_of_an_older_one() {
        let (mailbox, _) = queue(10);
        mailbox.put(&[changed(firing("A", "x")), changed(firing("A", "y")), changed(resolved("A", "x", 60))]);
        assert_eq!(names(&batch(&mailbox)), ["-x", "y"]);
    }

    #[test]
    fn what_became_news_while_it_was_sent_is_sent_again() {
        let (mailbox, _) = queue(10);
        mailbox.put(&[changed(firing("A", "x")), changed(firing("A", "y"))]);
        let sent = batch(&mailbox);
        mailbox.put(&[changed(resolved("A", "x", 60)), repeated(firing("A", "y"))]);
        mailbox.settle(&sent, START);
        assert_eq!(names(&batch(&mailbox)), ["-x"]);
    }

    #[test]
    fn the_oldest_are_dropped_and_counted() {
        let (mailbox, metrics) = queue(2);
        mailbox.put(&["a", "b", "c", "d"].map(|group| changed(firing("A", group))));
        assert_eq!(names(&batch(&mailbox)), ["c", "d"]);
        mailbox.put(&[changed(resolved("A", "c", 60))]);
        assert_eq!(names(&batch(&mailbox)), ["-c", "d"], "no new alert, so there is room");
        assert!(shows(&metrics, r#"streamgauge_notifications_total{notifier="am",result="dropped"} 2"#));
        assert_eq!(mailbox.abandon(), 2);
        assert!(shows(&metrics, r#"streamgauge_notifications_total{notifier="am",result="dropped"} 4"#));
        assert!(shows(&metrics, r#"streamgauge_notification_queue_length{notifier="am"} 0"#));
    }

    #[test]
    fn batches_are_bounded() {
        let (mailbox, _) = queue(CAPACITY_ALERTS);
        let alerts: Vec<_> = (0..1_200).map(|n| changed(firing("A", &n.to_string()))).collect();
        mailbox.put(&alerts);
        let mut sizes = Vec::new();
        while let sent @ [_, ..] = batch(&mailbox).as_slice() {
            sizes.push(sent.len());
            mailbox.settle(&sent.to_vec(), START);
        }
        assert_eq!(sizes, [500, 500, 200]);
    }

    #[test]
    fn what_is_passed_on_does_not_take_the_place_of_what_is_newer() {
        let (mailbox, _) = queue(10);
        mailbox.put(&[changed(resolved("A", "x", 60))]);
        let (other, _) = queue(10);
        other.put(&[changed(firing("A", "x")), changed(firing("A", "y"))]);
        let (orphaned, shorter) = other.hand_over();
        assert_eq!((batch(&other), shorter), (vec![], 2));
        assert_eq!(mailbox.take_over(&orphaned), 1);
        assert_eq!(names(&batch(&mailbox)), ["-x", "y"]);
    }
}
