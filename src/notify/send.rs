//! One task for each receiver: takes what waits for it, sends it, and tries again for as long as it takes. A
//! receiver that is slow or dead delays nobody else.
//!
//! Who sends says whether an error passes; when to try again is decided here.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::sleep;
use tracing::{debug, error, info, warn};

use crate::notify::error::NotifyError;
use crate::notify::mailbox::Mailbox;
use crate::notify::queue::{Failure, Next, Pace, Store, Suspect};
use crate::self_metrics::labels::NotificationResult;
use crate::self_metrics::notifier::NotifierMetrics;
use redis_stream_core::clock::unix_time;
use tokio_util::sync::CancellationToken;

/// Longest wait after the first failure; it doubles with each.
const FIRST_BACKOFF: Duration = Duration::from_millis(500);
/// Longest wait of all.
const MAX_BACKOFF: Duration = Duration::from_secs(30);
/// Longest wait that a receiver can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5 * 60);
/// Longest wait once the program ends: there is no time to be polite.
const LAST_BACKOFF: Duration = Duration::from_millis(500);

/// Sends to one receiver.
pub(super) trait Outlet: Send + Sync + 'static {
    /// What is sent at once.
    type Parcel: Send + Sync;

    /// Sends it.
    fn deliver(&mut self, parcel: &Self::Parcel) -> impl Future<Output = Result<Told, NotifyError>> + Send;

    /// Ends what it has begun, after all was delivered.
    fn finish(&mut self) -> impl Future<Output = ()> + Send {
        std::future::ready(())
    }
}

/// How many alerts a receiver was told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// It took them.
    pub(super) delivered: usize,
    /// It refused them for good.
    pub(super) rejected: usize,
}

/// A receiver's task.
#[derive(Debug)]
pub(super) struct Lane<S: Store, O> {
    /// What the notifier is called.
    name: Arc<str>,
    mailbox: Arc<Mailbox<S>>,
    outlet: O,
    metrics: NotifierMetrics,
    shutdown: CancellationToken,
    /// What the last attempt failed of; logged when it changes.
    problem: Option<String>,
}

impl<S: Store, O: Outlet<Parcel = S::Parcel>> Lane<S, O> {
    /// For the notifier of this name: what is put into the mailbox goes out through the outlet.
    pub(super) fn new(
        name: Arc<str>,
        mailbox: Arc<Mailbox<S>>,
        outlet: O,
        metrics: NotifierMetrics,
        shutdown: CancellationToken,
    ) -> Self {
        Self { name, mailbox, outlet, metrics, shutdown, problem: None }
    }

    /// Sends what waits, until the mailbox is closed and empty. What waits when this is dropped is lost.
    pub(super) async fn run(mut self) {
        let mut failures = 0;
        while let Some(parcel) = self.next().await {
            let began = unix_time();
            match self.deliver(&parcel).await {
                Ok(told) => {
                    failures = 0;
                    self.note_problem(None);
                    self.settle(&parcel, told);
                }
                Err(error) if error.is_about_the_content() => {
                    let alerts = S::alerts_in(&parcel);
                    error!(notifier = %self.name, alerts, %error, "receiver refuses a notification; it is not sent again");
                    self.settle(&parcel, Told { delivered: 0, rejected: alerts });
                }
                Err(error) => {
                    failures += 1;
                    let failure = Failure { began, failed: unix_time(), suspect: suspect(&error) };
                    self.mailbox.postpone(&parcel, failure);
                    self.metrics.count(NotificationResult::Failed, S::alerts_in(&parcel));
                    self.note_problem(Some(error.to_string()));
                    self.pause(failures, error.retry_after()).await;
                }
            }
        }
        self.outlet.finish().await;
    }

    async fn next(&self) -> Option<S::Parcel> {
        loop {
            let (is_ending, is_closed) = (self.shutdown.is_cancelled(), self.mailbox.closed().is_cancelled());
            let pace = if is_ending || is_closed { Pace::Last } else { Pace::Steady };
            let wait = match self.mailbox.next(unix_time(), pace) {
                Next::Parcel(parcel) => return Some(parcel),
                Next::In(_) | Next::Nothing if is_closed => return None,
                Next::In(wait) => Some(wait),
                Next::Nothing => None,
            };
            tokio::select! {
                () = self.mailbox.changed() => {}
                () = self.mailbox.closed().cancelled() => {}
                () = self.shutdown.cancelled(), if !is_ending => {}
                () = sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
        }
    }

    /// Sends a parcel. A defect that one parcel brings to light must not end all notifications.
    async fn deliver(&mut self, parcel: &S::Parcel) -> Result<Told, NotifyError> {
        let sending = AssertUnwindSafe(self.outlet.deliver(parcel)).catch_unwind();
        sending.await.unwrap_or_else(|_| {
            error!(notifier = %self.name, "sending a notification panicked; it is not sent again");
            Ok(Told { delivered: 0, rejected: S::alerts_in(parcel) })
        })
    }

    fn settle(&self, parcel: &S::Parcel, told: Told) {
        self.metrics.count(NotificationResult::Delivered, told.delivered);
        self.metrics.count(NotificationResult::Rejected, told.rejected);
        debug!(notifier = %self.name, delivered = told.delivered, rejected = told.rejected, "notified");
        self.mailbox.settle(parcel, unix_time());
    }

    async fn pause(&self, failures: u32, retry_after: Option<Duration>) {
        let is_ending = || self.shutdown.is_cancelled() || self.mailbox.closed().is_cancelled();
        let asked_for = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
        if !is_ending() {
            tokio::select! {
                () = sleep(asked_for.max(backoff(failures, MAX_BACKOFF, fastrand::f64()))) => {}
                () = self.shutdown.cancelled() => {}
                () = self.mailbox.closed().cancelled() => {}
            }
        } else {
            sleep(backoff(failures, LAST_BACKOFF, fastrand::f64())).await;
        }
    }

    /// Logs a problem when it changes.
    fn note_problem(&mut self, problem: Option<String>) {
        if self.problem == problem {
            return;
        }
        match &problem {
            None => info!(notifier = %self.name, "receiver is notified again"),
            Some(error) => warn!(notifier = %self.name, error, "cannot notify; trying again"),
        }
        self.problem = problem;
    }
}

impl<S: Store, O> Drop for Lane<S, O> {
    fn drop(&mut self) {
        let lost = self.mailbox.abandon();
        if lost > 0 {
            warn!(notifier = %self.name, alerts = lost, "there is no more time to send alerts");
        }
    }
}

fn suspect(error: &NotifyError) -> Suspect {
    if error.may_come_late() {
        Suspect::Silence
    } else if error.may_be_about_the_content() {
        Suspect::Content
    } else {
        Suspect::Receiver
    }
}

/// Full jitter: anything from nothing to a bound that doubles with each failure. `random` is from 0 to 1.
fn backoff(failures: u32, max: Duration, random: f64) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(max).mul_f64(random)
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use hyper::StatusCode;
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;
    use crate::alert::notification::Alert;
    use crate::notify::examples::{changed, firing, names, resolved};
    use crate::notify::queue::Queue;
    use crate::self_metrics::SelfMetrics;
    use redis_stream_core::clock::now;
    use tokio_util::sync::CancellationToken;

    /// What a receiver does with an attempt.
    #[derive(Clone, Copy)]
    enum Does {
        Take,
        Fail,
        Refuse,
        AskToWait(u64),
        Panic,
    }

    type Attempts = Arc<Mutex<Vec<(Instant, Vec<String>)>>>;

    /// Does one thing after the other, the last of them for ever.
    struct Scripted {
        script: Vec<Does>,
        attempts: Attempts,
    }

    fn status(status: StatusCode, retry_after: Option<u64>) -> NotifyError {
        let retry_after = retry_after.map(Duration::from_secs);
        NotifyError::Status { address: "am:9093".to_owned(), status, detail: String::new(), retry_after }
    }

    impl Outlet for Scripted {
        type Parcel = Vec<Arc<Alert>>;

        async fn deliver(&mut self, alerts: &Self::Parcel) -> Result<Told, NotifyError> {
            self.attempts.lock().unwrap().push((now(), names(alerts)));
            match if self.script.len() > 1 { self.script.remove(0) } else { self.script[0] } {
                Does::Take => Ok(Told { delivered: alerts.len(), rejected: 0 }),
                Does::Fail => Err(status(StatusCode::BAD_GATEWAY, None)),
                Does::Refuse => Err(status(StatusCode::BAD_REQUEST, None)),
                Does::AskToWait(seconds) => Err(status(StatusCode::TOO_MANY_REQUESTS, Some(seconds))),
                Does::Panic => panic!("a defect"),
            }
        }
    }

    struct Running {
        mailbox: Arc<Mailbox<Queue>>,
        attempts: Attempts,
        metrics: SelfMetrics,
        trigger: CancellationToken,
        task: JoinHandle<()>,
    }

    fn run(script: &[Does]) -> Running {
        let metrics = SelfMetrics::new(Duration::ZERO, &[]).unwrap();
        let of_notifier = metrics.for_notifier("am");
        let mailbox = Arc::new(Mailbox::new("am".into(), Queue::new(100), of_notifier.clone()));
        let attempts = Attempts::default();
        let outlet = Scripted { script: script.to_vec(), attempts: Arc::clone(&attempts) };
        let shutdown = CancellationToken::new();
        let trigger = shutdown.clone();
        let lane = Lane::new("am".into(), Arc::clone(&mailbox), outlet, of_notifier, shutdown);
        Running { mailbox, attempts, metrics, trigger, task: tokio::spawn(lane.run()) }
    }

    impl Running {
        /// Waits until so many attempts were made, and returns the alerts of each.
        async fn attempted(&self, attempts: usize) -> Vec<Vec<String>> {
            while self.attempts.lock().unwrap().len() < attempts {
                sleep(Duration::from_millis(1)).await;
            }
            self.attempts.lock().unwrap().iter().map(|(_, names)| names.clone()).collect()
        }

        /// The times between attempts.
        fn pauses(&self) -> Vec<Duration> {
            self.attempts.lock().unwrap().windows(2).map(|pair| pair[1].0 - pair[0].0).collect()
        }

        /// Closes the mailbox, waits for the end, and returns what was counted: delivered, failed, rejected and
        /// dropped alerts.
        async fn ended(self) -> [u64; 4] {
            self.mailbox.close();
            self.task.await.unwrap();
            let text = String::from_utf8(self.metrics.render(None, |_| false).unwrap()).unwrap();
            NotificationResult::ALL.map(|result| {
                let series = format!(
                    "streamgauge_notifications_total{{notifier=\"am\",result=\"{}\"}} ",
                    result.as_str()
                );
                text.lines().find_map(|line| line.strip_prefix(&series)?.parse().ok()).unwrap()
            })
        }
    }

    #[test]
    fn backoff_doubles_up_to_a_bound_with_full_jitter() {
        let bounds: Vec<_> =
            (1..10).map(|failures| backoff(failures, MAX_BACKOFF, 1.0).as_millis()).collect();
        assert_eq!(bounds, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
        assert_eq!(backoff(u32::MAX, MAX_BACKOFF, 1.0), MAX_BACKOFF);
        assert_eq!(backoff(9, MAX_BACKOFF, 0.0), Duration::ZERO);
        assert_eq!(backoff(9, LAST_BACKOFF, 1.0), LAST_BACKOFF);
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_tried_again_until_it_is_taken() {
        let running = run(&[Does::Fail, Does::Fail, Does::Fail, Does::Take]);
        running.mailbox.put(&[changed(firing("A", "x")), changed(firing("A", "y"))]);
        // One that the receiver may break down over is told apart.
        assert_eq!(running.attempted(5).await, [&["x", "y"][..], &["x"], &["y"], &["x"], &["y"]]);
        for (pause, bound) in running.pauses().into_iter().zip([500, 1_000, 2_000]) {
            assert!(pause <= Duration::from_millis(bound + 1), "{pause:?} of {bound} ms");
        }
        assert_eq!(running.ended().await, [2, 4, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_state_is_sent_when_it_is_tried_again() {
        let running = run(&[Does::AskToWait(10), Does::Take]);
        running.mailbox.put(&[changed(firing("A", "x"))]);
        running.attempted(1).await;
        running.mailbox.put(&[changed(resolved("A", "x", 60)), changed(firing("A", "y"))]);
        assert_eq!(running.attempted(2).await[1], ["-x", "y"]);
        assert_eq!(running.ended().await, [2, 1, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_asks_for_time_gets_it_up_to_a_bound() {
        let running = run(&[Does::AskToWait(120), Does::AskToWait(1 << 40), Does::Take]);
        running.mailbox.put(&[changed(firing("A", "x"))]);
        running.attempted(3).await;
        let pauses = running.pauses();
        assert!(pauses[0] >= Duration::from_secs(120) && pauses[0] < Duration::from_secs(121), "{pauses:?}");
        assert!(pauses[1] >= MAX_RETRY_AFTER && pauses[1] < MAX_RETRY_AFTER * 2, "{pauses:?}");
        running.ended().await;
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_or_brings_a_defect_to_light_is_not_sent_again() {
        let running = run(&[Does::Refuse, Does::Panic, Does::Take]);
        for (at, group) in ["x", "y", "z"].into_iter().enumerate() {
            running.mailbox.put(&[changed(firing("A", group))]);
            running.attempted(at + 1).await;
        }
        assert_eq!(running.attempted(3).await, [["x"], ["y"], ["z"]]);
        assert_eq!(running.ended().await, [1, 0, 2, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_end_no_failure_is_waited_out() {
        let running = run(&[Does::AskToWait(300), Does::Fail, Does::Fail, Does::Take]);
        running.mailbox.put(&[changed(firing("A", "x"))]);
        running.attempted(1).await;
        running.trigger.cancel();
        running.attempted(4).await;
        assert!(
            running.pauses().into_iter().all(|pause| pause <= LAST_BACKOFF * 2),
            "{:?}",
            running.pauses()
        );
        assert_eq!(running.ended().await, [1, 3, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_sent_before_the_task_is_ended_is_counted_as_dropped() {
        let running = run(&[Does::Fail]);
        running.mailbox.put(&[changed(firing("A", "x")), changed(firing("A", "y"))]);
        running.attempted(1).await;
        running.task.abort();
        while !running.task.is_finished() {
            sleep(Duration::from_millis(1)).await;
        }
        let text = String::from_utf8(running.metrics.render(None, |_| false).unwrap()).unwrap();
        for line in [
            r#"streamgauge_notifications_total{notifier="am",result="dropped"} 2"#,
            r#"streamgauge_notification_queue_length{notifier="am"} 0"#,
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
