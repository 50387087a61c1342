//! The task of one receiver: takes batches from its queue, sends them, and owns the retry schedule, `Retry-After` and
//! draining at shutdown.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::http_client::HttpError;
use crate::notify::model::{Batch, FailureCause, Sent};
use crate::notify::notifier::{Notifier, classify};
use crate::notify::queue::{Failure, NextBatch, SendMode};
use crate::notify::shared_queue::SharedQueue;
use crate::self_metrics::labels::NotificationResult;
use crate::self_metrics::notifier::NotifierMetrics;
use redis_stream_core::backoff::Backoff;
use redis_stream_core::clock::unix_time;

/// Waits after failures.
const BACKOFF: Backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
/// A receiver that rejects more batches than this in a row is treated as failing: splitting a batch to find one bad alert
/// takes fewer.
const MAX_REJECTIONS_IN_A_ROW: u32 = 64;
/// Longest wait that a receiver can ask for.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(5 * 60);
/// Longest wait at shutdown.
const DRAINING_BACKOFF: Duration = Duration::from_millis(500);

pub(super) struct SendLoop {
    pub(super) name: Arc<str>,
    pub(super) queue: Arc<SharedQueue>,
    pub(super) notifier: Box<dyn Notifier>,
    pub(super) metrics: NotifierMetrics,
    pub(super) shutdown: CancellationToken,
}

impl SendLoop {
    /// Sends until the queue is closed and empty.
    pub(super) async fn run(self) {
        let (mut failures, mut rejections) = (0, 0);
        // Logged when it changes.
        let mut problem = None;
        while let Some(batch) = self.next().await {
            match self.send(&batch).await {
                Ok(sent) => {
                    (failures, rejections) = (0, 0);
                    self.note_problem(&mut problem, None);
                    self.acknowledge(&batch, sent);
                }
                Err(error) => {
                    let cause = classify(&error);
                    let text = error.to_string();
                    self.queue.requeue(&batch, Failure { at: unix_time(), cause }, &text);
                    if cause == FailureCause::Rejected {
                        // A rejected batch is split, and its parts need not wait.
                        rejections += 1;
                        if rejections > MAX_REJECTIONS_IN_A_ROW {
                            self.pause(rejections - MAX_REJECTIONS_IN_A_ROW, error.retry_after()).await;
                        }
                        continue;
                    }
                    failures += 1;
                    self.metrics.count(NotificationResult::Failed, batch.counted());
                    self.note_problem(&mut problem, Some(text));
                    self.pause(failures, error.retry_after()).await;
                }
            }
        }
    }

    fn is_draining(&self) -> bool {
        self.shutdown.is_cancelled() || self.queue.closed().is_cancelled()
    }

    async fn next(&self) -> Option<Batch> {
        loop {
            let (is_closed, is_ending) = (self.queue.closed().is_cancelled(), self.shutdown.is_cancelled());
            let mode = if is_closed || is_ending { SendMode::Draining } else { SendMode::Normal };
            let wait = match self.queue.next(unix_time(), mode) {
                NextBatch::Batch(batch) => return Some(batch),
                NextBatch::In(_) | NextBatch::Nothing if is_closed => return None,
                NextBatch::In(wait) => Some(wait),
                NextBatch::Nothing => None,
            };
            tokio::select! {
                () = self.queue.pushed() => {}
                () = self.queue.closed().cancelled() => {}
                () = self.shutdown.cancelled(), if !is_ending => {}
                () = sleep(wait.unwrap_or_default()), if wait.is_some() => {}
            }
        }
    }

    /// Makes one attempt. A panic over one batch must not end all notifications.
    async fn send(&self, batch: &Batch) -> Result<Sent, HttpError> {
        let sending = AssertUnwindSafe(self.notifier.send(batch)).catch_unwind();
        sending.await.unwrap_or_else(|_| {
            error!(notifier = %self.name, "sending a notification panicked; it is not sent again");
            Ok(Sent { rejected: batch.counted(), ..Sent::default() })
        })
    }

    fn acknowledge(&self, batch: &Batch, sent: Sent) {
        self.metrics.count(NotificationResult::Delivered, sent.delivered);
        self.metrics.count(NotificationResult::Rejected, sent.rejected);
        self.metrics.count(NotificationResult::Failed, sent.failed);
        debug!(notifier = %self.name, delivered = sent.delivered, rejected = sent.rejected, failed = sent.failed, "sent");
        self.queue.acknowledge(batch, unix_time());
    }

    async fn pause(&self, failures: u32, retry_after: Option<Duration>) {
        if self.is_draining() {
            sleep(BACKOFF.with_max(DRAINING_BACKOFF).delay(failures, fastrand::f64())).await;
            return;
        }
        let asked_for = retry_after.unwrap_or_default().min(MAX_RETRY_AFTER);
        tokio::select! {
            () = sleep(asked_for.max(BACKOFF.delay(failures, fastrand::f64()))) => {}
            () = self.shutdown.cancelled() => {}
            () = self.queue.closed().cancelled() => {}
        }
    }

    fn note_problem(&self, problem: &mut Option<String>, new: Option<String>) {
        if *problem == new {
            return;
        }
        match &new {
            None => info!(notifier = %self.name, "receiver accepts notifications again"),
            Some(error) => warn!(notifier = %self.name, error, "cannot notify; trying again"),
        }
        *problem = new;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use futures_util::future::BoxFuture;
    use hyper::StatusCode;
    use tokio::sync::watch;
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::*;
    use crate::notify::model::ProbeResult;
    use crate::notify::queue::AlertQueue;
    use crate::notify::test_support::{changed, firing, names, resolved};
    use crate::self_metrics::SelfMetrics;
    use redis_stream_core::clock::now;

    /// A receiver's reaction to an attempt.
    #[derive(Clone, Copy)]
    enum Does {
        Take,
        Fail,
        Refuse,
        AskToWait(u64),
        Panic,
    }

    type Attempts = Arc<Mutex<Vec<(Instant, Vec<String>)>>>;

    /// Reacts as scripted; the last reaction is repeated.
    struct Scripted {
        script: Mutex<Vec<Does>>,
        attempts: Attempts,
    }

    fn status(status: StatusCode, retry_after: Option<u64>) -> HttpError {
        let retry_after = retry_after.map(Duration::from_secs);
        HttpError::Status { address: "am:9093".to_owned(), status, detail: String::new(), retry_after }
    }

    impl Notifier for Scripted {
        fn send<'a>(&'a self, batch: &'a Batch) -> BoxFuture<'a, Result<Sent, HttpError>> {
            async move { self.attempt(batch) }.boxed()
        }

        fn probe(&self) -> BoxFuture<'_, Vec<ProbeResult>> {
            async { Vec::new() }.boxed()
        }
    }

    impl Scripted {
        fn attempt(&self, batch: &Batch) -> Result<Sent, HttpError> {
            self.attempts.lock().unwrap().push((now(), names(&batch.changed)));
            let mut script = self.script.lock().unwrap();
            let does = if script.len() > 1 { script.remove(0) } else { script[0] };
            drop(script);
            match does {
                Does::Take => Ok(Sent { delivered: batch.counted(), ..Sent::default() }),
                Does::Fail => Err(status(StatusCode::BAD_GATEWAY, None)),
                Does::Refuse => Err(status(StatusCode::BAD_REQUEST, None)),
                Does::AskToWait(seconds) => Err(status(StatusCode::TOO_MANY_REQUESTS, Some(seconds))),
                Does::Panic => panic!("a defect"),
            }
        }
    }

    struct Running {
        queue: Arc<SharedQueue>,
        attempts: Attempts,
        metrics: SelfMetrics,
        trigger: CancellationToken,
        task: JoinHandle<()>,
    }

    fn run(script: &[Does]) -> Running {
        let metrics = SelfMetrics::new(Duration::ZERO, &[]).unwrap();
        let of_notifier = metrics.for_notifier("am");
        let queue = Box::new(AlertQueue::new(100));
        let queue =
            Arc::new(SharedQueue::new("am".into(), queue, of_notifier.clone(), watch::Sender::default()));
        let attempts = Attempts::default();
        let notifier =
            Box::new(Scripted { script: Mutex::new(script.to_vec()), attempts: Arc::clone(&attempts) });
        let shutdown = CancellationToken::new();
        let trigger = shutdown.clone();
        let send_loop = SendLoop {
            name: "am".into(),
            queue: Arc::clone(&queue),
            notifier,
            metrics: of_notifier,
            shutdown,
        };
        Running { queue, attempts, metrics, trigger, task: tokio::spawn(send_loop.run()) }
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

        /// Closes the queue, waits for the end, and returns what was counted: delivered, failed, rejected and
        /// dropped alerts.
        async fn ended(self) -> [u64; 4] {
            self.queue.close();
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
        let bounds: Vec<_> = (1..10).map(|failures| BACKOFF.delay(failures, 1.0).as_millis()).collect();
        assert_eq!(bounds, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
        assert_eq!(BACKOFF.delay(u32::MAX, 1.0), Duration::from_secs(30));
        assert_eq!(BACKOFF.delay(9, 0.0), Duration::ZERO);
        assert_eq!(BACKOFF.with_max(DRAINING_BACKOFF).delay(9, 1.0), DRAINING_BACKOFF);
    }

    #[tokio::test(start_paused = true)]
    async fn what_fails_is_tried_again_until_it_is_taken() {
        let running = run(&[Does::Fail, Does::Fail, Does::Fail, Does::Take]);
        running.queue.push(&[changed(firing("A", "x")), changed(firing("A", "y"))]);
        // A batch that the receiver fails on is split.
        assert_eq!(running.attempted(5).await, [&["x", "y"][..], &["x"], &["y"], &["x"], &["y"]]);
        for (pause, bound) in running.pauses().into_iter().zip([500, 1_000, 2_000]) {
            assert!(pause <= Duration::from_millis(bound + 1), "{pause:?} of {bound} ms");
        }
        assert_eq!(running.ended().await, [2, 4, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_newest_state_is_sent_when_it_is_tried_again() {
        let running = run(&[Does::AskToWait(10), Does::Take]);
        running.queue.push(&[changed(firing("A", "x"))]);
        running.attempted(1).await;
        running.queue.push(&[changed(resolved("A", "x", 60)), changed(firing("A", "y"))]);
        assert_eq!(running.attempted(2).await[1], ["-x", "y"]);
        assert_eq!(running.ended().await, [2, 1, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_asks_for_time_gets_it_up_to_a_bound() {
        let running = run(&[Does::AskToWait(120), Does::AskToWait(1 << 40), Does::Take]);
        running.queue.push(&[changed(firing("A", "x"))]);
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
            running.queue.push(&[changed(firing("A", group))]);
            running.attempted(at + 1).await;
        }
        assert_eq!(running.attempted(3).await, [["x"], ["y"], ["z"]]);
        assert_eq!(running.ended().await, [1, 0, 2, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_receiver_that_rejects_everything_is_not_asked_without_pause() {
        let running = run(&[Does::Refuse]);
        for group in 0..100 {
            running.queue.push(&[changed(firing("A", &group.to_string()))]);
        }
        let attempts = MAX_REJECTIONS_IN_A_ROW as usize + 20;
        running.attempted(attempts).await;
        let pauses = running.pauses();
        let (quick, slow) = pauses.split_at(MAX_REJECTIONS_IN_A_ROW as usize);
        assert!(quick.iter().sum::<Duration>() < Duration::from_secs(1), "{quick:?}");
        assert!(slow.iter().sum::<Duration>() > Duration::from_secs(10), "{slow:?}");
        running.trigger.cancel();
        running.ended().await;
    }

    #[tokio::test(start_paused = true)]
    async fn at_the_end_no_failure_is_waited_out() {
        let running = run(&[Does::AskToWait(300), Does::Fail, Does::Fail, Does::Take]);
        running.queue.push(&[changed(firing("A", "x"))]);
        running.attempted(1).await;
        running.trigger.cancel();
        running.attempted(4).await;
        assert!(
            running.pauses().into_iter().all(|pause| pause <= DRAINING_BACKOFF * 2),
            "{:?}",
            running.pauses()
        );
        assert_eq!(running.ended().await, [1, 3, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_sent_before_the_task_is_ended_is_counted_as_dropped() {
        let running = run(&[Does::Fail]);
        running.queue.push(&[changed(firing("A", "x")), changed(firing("A", "y"))]);
        running.attempted(1).await;
        running.task.abort();
        while !running.task.is_finished() {
            sleep(Duration::from_millis(1)).await;
        }
        running.queue.drop_remaining();
        let text = String::from_utf8(running.metrics.render(None, |_| false).unwrap()).unwrap();
        for line in [
            r#"streamgauge_notifications_total{notifier="am",result="dropped"} 2"#,
            r#"streamgauge_notification_queue_length{notifier="am"} 0"#,
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
