//! Alerts for all addresses of a host. They wait here only until the addresses are known: then each has a queue of its
//! own, and what comes is put into all of them at once.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::alert::notification::{Alert, Notification};
use crate::notify::mailbox::Mailbox;
use crate::notify::queue::{Failure, Next, Pace, Queue, Store};

/// The queue of each address. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(super) struct Branches(Arc<Mutex<BTreeMap<SocketAddr, Arc<Mailbox<Queue>>>>>);

impl Branches {
    /// As of now; until this is dropped nothing is put into them.
    pub(super) fn lock(&self) -> MutexGuard<'_, BTreeMap<SocketAddr, Arc<Mailbox<Queue>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What waits for the addresses of a host.
#[derive(Debug)]
pub(super) struct Spread {
    /// What came before any address was known.
    queue: Queue,
    branches: Branches,
    /// Whether something came since the addresses were last asked for.
    has_news: bool,
    /// Alerts that wait in other queues now, of which the gauge was not told yet.
    moved: i64,
}

impl Spread {
    /// Before anything is known. At most so many alerts wait here, and in each queue.
    pub(super) fn new(capacity: usize, branches: Branches) -> Self {
        Self { queue: Queue::new(capacity), branches, has_news: false, moved: 0 }
    }
}

impl Store for Spread {
    /// What waits here, to be put into the queues; nothing where only the addresses are asked for.
    type Parcel = Vec<Arc<Alert>>;

    fn put(&mut self, notification: &Notification) -> usize {
        self.has_news = true;
        let branches = self.branches.lock();
        // Nothing may overtake what waits here.
        if branches.is_empty() || self.queue.waiting() > 0 {
            return self.queue.put(notification);
        }
        // Each counts what it drops.
        branches.values().for_each(|branch| branch.put([notification]));
        0
    }

    fn next(&mut self, _: Duration, _: Pace) -> Next<Self::Parcel> {
        if !std::mem::take(&mut self.has_news) {
            return Next::Nothing;
        }
        Next::Parcel(self.queue.all())
    }

    fn settle(&mut self, _: &Self::Parcel, _: Duration) {
        let branches = self.branches.lock();
        if branches.is_empty() {
            return;
        }
        let waiting = self.queue.take_all();
        self.moved += branches.values().map(|branch| branch.take_over(&waiting)).sum::<i64>();
    }

    /// The receivers are not known, so nothing was sent.
    fn postpone(&mut self, _: &Self::Parcel, _: Failure) -> Option<Arc<Alert>> {
        self.has_news = true;
        None
    }

    fn waiting(&self) -> usize {
        self.queue.waiting()
    }

    fn alerts_in(parcel: &Self::Parcel) -> usize {
        parcel.len()
    }

    fn take_moved(&mut self) -> i64 {
        std::mem::take(&mut self.moved)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notify::examples::{START, changed, firing, names, resolved};
    use crate::notify::queue::Suspect;
    use crate::self_metrics::SelfMetrics;

    struct Host {
        mailbox: Mailbox<Spread>,
        branches: Branches,
        metrics: SelfMetrics,
    }

    impl Host {
        fn new() -> Self {
            let metrics = SelfMetrics::new(Duration::ZERO, &[]).unwrap();
            let branches = Branches::default();
            let spread = Spread::new(100, branches.clone());
            Self { mailbox: Mailbox::new("am".into(), spread, metrics.for_notifier("am")), branches, metrics }
        }

        /// One more address is known.
        fn branch(&self, port: u16) -> Arc<Mailbox<Queue>> {
            let branch =
                Arc::new(Mailbox::new("am".into(), Queue::new(100), self.metrics.for_notifier("am")));
            self.branches.lock().insert(([127, 0, 0, 1], port).into(), Arc::clone(&branch));
            branch
        }

        fn length(&self) -> i64 {
            let text = String::from_utf8(self.metrics.render(None, |_| false).unwrap()).unwrap();
            let series = r#"streamgauge_notification_queue_length{notifier="am"} "#;
            text.lines().find_map(|line| line.strip_prefix(series)?.parse().ok()).unwrap()
        }

        fn parcel(&self) -> Vec<Arc<Alert>> {
            let Next::Parcel(parcel) = self.mailbox.next(START, Pace::Steady) else { panic!("no parcel") };
            parcel
        }
    }

    fn waiting(branch: &Mailbox<Queue>) -> Vec<Arc<Alert>> {
        match branch.next(START, Pace::Steady) {
            Next::Parcel(batch) => batch,
            Next::In(_) | Next::Nothing => Vec::new(),
        }
    }

    #[test]
    fn an_alert_is_counted_once_for_each_address_at_each_step() {
        let host = Host::new();
        host.mailbox.put(&[changed(firing("A", "x")), changed(firing("A", "y"))]);
        assert_eq!(host.length(), 2, "nobody is known");
        let parcel = host.parcel();
        let branch = host.branch(1);
        assert_eq!(host.length(), 2, "one is known");
        host.mailbox.put(&[changed(resolved("A", "x", 60))]);
        assert_eq!(host.length(), 2, "a newer state comes");
        host.mailbox.settle(&parcel, START);
        assert_eq!(host.length(), 2, "they have changed over");
        host.mailbox.put(&[changed(firing("A", "z"))]);
        assert_eq!(host.length(), 3, "one more");
        host.mailbox.put(&[changed(resolved("A", "y", 60))]);
        assert_eq!(host.length(), 3, "a newer state again");
        let parcel = host.parcel();
        assert_eq!(parcel, [], "that asks for the addresses");
        host.mailbox.settle(&parcel, START);
        assert_eq!(host.length(), 3);
        assert_eq!(names(&waiting(&branch)), ["-x", "-y", "z"]);
        branch.settle(&waiting(&branch), START);
        assert_eq!(host.length(), 0, "all is told");
        host.branch(2);
        host.mailbox.put(&[changed(firing("A", "w"))]);
        assert_eq!(host.length(), 2, "two addresses are to be told of one alert");
    }

    #[test]
    fn what_came_first_is_not_overtaken_and_waits_until_somebody_is_known() {
        let host = Host::new();
        host.mailbox.put(&[changed(firing("A", "x"))]);
        let parcel = host.parcel();
        host.mailbox.settle(&parcel, START);
        assert_eq!(names(&parcel), ["x"]);
        assert_eq!(host.length(), 1, "nobody took it");
        let failure = Failure { began: START, failed: START, suspect: Suspect::Receiver };
        host.mailbox.postpone(&parcel, failure);
        let branch = host.branch(1);
        host.mailbox.put(&[changed(firing("A", "y"))]);
        assert_eq!(waiting(&branch), []);
        host.mailbox.settle(&host.parcel(), START);
        assert_eq!(names(&waiting(&branch)), ["x", "y"]);
        assert_eq!(host.mailbox.next(START, Pace::Steady), Next::Nothing);
    }

    #[test]
    fn nobody_who_looks_sees_an_alert_twice() {
        let host = Host::new();
        let branch = host.branch(1);
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            let looks = scope.spawn(|| {
                let mut most = 0;
                while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                    most = most.max(host.length());
                }
                most
            });
            for _ in 0..300 {
                host.mailbox.put(&[changed(firing("A", "x"))]);
                host.mailbox.settle(&host.parcel(), START);
                branch.settle(&waiting(&branch), START);
            }
            is_over.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(looks.join().unwrap() <= 1);
        });
    }
}
