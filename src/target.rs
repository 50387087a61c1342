//! One target's task: polls on schedule, makes sense of what was read, and publishes it.
//!
//! It owns everything that belongs to the target: connections, memory, schedule. Readers get the newest
//! report through a `watch` channel and never reach back. A target's failure touches no other target.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use crate::alert::evaluator::{Reading, TargetUp};
use crate::clock::{now, unix_time};
use crate::config::{self, Poll};
use crate::exposition::page::{Layout, Rendered, TargetLabels};
use crate::lag::budget::Budget;
use crate::lag::inquiry::Inquiry;
use crate::lag::memory::Memory;
use crate::lag::report::Report;
use crate::poller::error::PollError;
use crate::poller::upstream::Upstream;
use crate::self_metrics::TargetMetrics;
use crate::self_metrics::labels::PollResult;
use crate::target::alerting::{Alerting, Alerts};

pub mod alerting;

/// Longest wait before a server that failed is tried again.
const MAX_BACKOFF: Duration = Duration::from_secs(5);
/// Longest wait after the first failure; it doubles with each.
const FIRST_BACKOFF: Duration = Duration::from_millis(250);

/// What readers see of a target.
#[derive(Clone, Debug, Default)]
pub struct State {
    /// Whether it was polled, or failed to be, at least once.
    pub was_tried: bool,
    /// Whether it answered in the last poll, all the time that the poll had.
    pub is_up: bool,
    /// What the last poll failed of, or was cut off by; `None` if it read all.
    pub problem: Option<String>,
    /// When the last poll that read anything ended, since the Unix epoch; `None` before the first.
    pub last_read: Option<Duration>,
    /// The last report; `None` before the first.
    pub published: Option<Published>,
    /// What is pending or firing, whatever the age of the report.
    pub alerts: Alerts,
}

/// A report that readers may serve.
#[derive(Clone, Debug)]
pub struct Published {
    /// The report itself.
    pub report: Arc<Report>,
    /// Its series, written and compressed.
    pub rendered: Arc<Rendered>,
    /// From then on it is too old to be served.
    pub expires: Instant,
}

impl State {
    /// The report, unless it is too old at `now`.
    #[must_use]
    pub fn fresh(&self, now: Instant) -> Option<&Published> {
        self.published.as_ref().filter(|published| now < published.expires)
    }
}

/// A target and its task's state.
#[derive(Debug)]
pub struct Target {
    name: String,
    poll: Poll,
    upstream: Upstream,
    memory: Memory,
    /// Where the time that its history is told by begins.
    started: Instant,
    labels: TargetLabels,
    layout: Arc<Layout>,
    metrics: TargetMetrics,
    state: Arc<watch::Sender<State>>,
    /// `None` where nobody is to be told of anything.
    alerting: Option<Alerting>,
    /// What the last poll failed of; logged when it changes.
    problem: Option<String>,
    /// Polls that failed in a row.
    failures: u32,
}

impl Target {
    /// A target that was not polled yet, and where it publishes its state.
    #[must_use]
    pub fn new(
        config: config::Target,
        poll: Poll,
        layout: Arc<Layout>,
        metrics: TargetMetrics,
        state: Arc<watch::Sender<State>>,
    ) -> Self {
        let labels = TargetLabels::new(&config.name, config.db, &config.labels);
        let config = Arc::new(config);
        Self {
            name: config.name.clone(),
            upstream: Upstream::new(config, &poll, metrics.clone()),
            memory: Memory::default(),
            started: now(),
            poll,
            labels,
            layout,
            metrics,
            state,
            alerting: None,
            problem: None,
            failures: 0,
        }
    }

    /// The same with alerts, which are evaluated after each scheduled poll.
    #[must_use]
    pub fn with_alerting(self, alerting: Alerting) -> Self {
        Self { alerting: Some(alerting), ..self }
    }

    /// The servers behind it.
    #[must_use]
    pub fn upstream(&self) -> &Upstream {
        &self.upstream
    }

    /// Polls on schedule until it is dropped.
    pub async fn run(mut self) {
        let mut schedule = Schedule::new(self.poll.interval, now());
        let mut next_poll = now();
        loop {
            tokio::select! {
                biased;
                () = sleep_until(next_poll) => {
                    let outcome = self.poll().await;
                    self.note_outcome(&outcome);
                    self.step_alerts(&outcome, next_poll).await;
                    next_poll = match outcome {
                        Ok(_) => schedule.next_after(now()),
                        Err(_) => schedule.retry_after(now(), backoff(self.failures, fastrand::f64())),
                    };
                }
                () = until(self.upstream.next_scan()) => {
                    if let Err(error) = self.upstream.scan().await {
                        self.note_lost(&error);
                        next_poll = next_poll.min(now() + backoff(self.failures, fastrand::f64()));
                    }
                }
            }
        }
    }

    /// One poll: reads, makes sense of it, publishes.
    ///
    /// # Errors
    ///
    /// Nothing could be read. What was published last stands until it is too old.
    pub async fn poll_once(&mut self) -> Result<Arc<Report>, PollError> {
        self.poll().await.map(|polled| polled.report)
    }

    async fn poll(&mut self) -> Outcome {
        let began = now();
        let outcome = self.try_poll(began).await;
        let took = now() - began;
        let (result, error) = result_and_error(&outcome);
        self.metrics.observe_poll(result, took);
        if let Some(error) = error {
            self.metrics.count_errors(error.reason(), 1);
        }
        self.show_outcome(has_answered(&outcome), error.map(PollError::to_string));
        debug!(target_name = %self.name, result = result.as_str(), elapsed_ms = took.as_millis(), "polled");
        if outcome.is_err() {
            self.failures = self.failures.saturating_add(1);
        } else {
            self.failures = 0;
        }
        outcome
    }

    /// Shows readers how the last poll ended.
    fn show_outcome(&self, is_up: bool, problem: Option<String>) {
        self.metrics.set_up(is_up);
        self.state.send_modify(|state| {
            (state.was_tried, state.is_up, state.problem) = (true, is_up, problem);
        });
    }

    async fn try_poll(&mut self, began: Instant) -> Outcome {
        self.upstream.connect(began + self.poll.timeout).await?;
        let found = self.find_streams(began + self.poll.interval).await;
        found.inspect_err(|_| self.upstream.disconnect())?;
        let at = now() - self.started;
        let deadline = now() + self.poll.timeout;
        let read = self.upstream.read(deadline).await;
        let (snapshot, mut cut_off_by) = read.inspect_err(|_| self.upstream.disconnect())?;
        let budget = Budget {
            entries: self.poll.count_budget,
            audit_entries: self.poll.audit_budget,
            audit_period: self.poll.audit_period,
            payload_bytes: self.upstream.payload_left(),
            timeout: self.poll.timeout,
        };
        let mut inquiry = Inquiry::open(&snapshot, &mut self.memory, budget, at);
        while cut_off_by.is_none() {
            let questions = inquiry.questions();
            if questions.is_empty() {
                break;
            }
            let (answers, error) = self.upstream.ask(&snapshot, &questions, deadline).await;
            inquiry.answer(answers);
            cut_off_by = error;
        }
        self.upstream.spend_payload(inquiry.payload_bytes_read());
        let previous = self.state.borrow().published.as_ref().map(|published| Arc::clone(&published.report));
        let report = Arc::new(inquiry.close(previous.as_deref()));
        let watched: usize = snapshot.nodes.iter().map(|node| node.streams.len()).sum();
        let has_answered = self.upstream.has_all_nodes();
        let is_whole = has_answered && self.upstream.knows_its_streams() && report.streams.len() == watched;
        drop(snapshot);
        self.metrics.count_entries(report.counted_entries);
        self.publish(Arc::clone(&report), began).await;
        Ok(Polled { report, cut_off_by, has_answered, is_whole })
    }

    /// Before the first report: looks for streams until all keys were seen, or until the time is over; the
    /// rest is found while polls go on.
    async fn find_streams(&mut self, until: Instant) -> Result<(), PollError> {
        while !self.upstream.knows_its_streams() && self.state.borrow().published.is_none() {
            match self.upstream.next_scan() {
                Some(due) if due < until => {
                    sleep_until(due).await;
                    self.upstream.scan().await?;
                }
                _ => break,
            }
        }
        Ok(())
    }

    async fn publish(&self, report: Arc<Report>, read_at: Instant) {
        let (layout, labels, rendering) =
            (Arc::clone(&self.layout), self.labels.clone(), Arc::clone(&report));
        let rendered = tokio::task::spawn_blocking(move || Rendered::new(&layout, labels, rendering)).await;
        // It fails only while the runtime shuts down.
        let Ok(rendered) = rendered else { return };
        let expires = read_at + self.poll.stale_after;
        let published = Some(Published { report, rendered: Arc::new(rendered), expires });
        let last_read = unix_time();
        self.metrics.set_last_successful_poll(last_read);
        self.state.send_modify(|state| {
            (state.published, state.last_read) = (published, Some(last_read));
        });
    }

    /// Evaluates the alerts on what the poll that was due at this time found.
    async fn step_alerts(&mut self, outcome: &Outcome, due: Instant) {
        let Some(alerting) = &mut self.alerting else { return };
        let reading = match outcome {
            Ok(polled) if polled.is_whole => Reading::Whole(&polled.report),
            Ok(polled) => Reading::Part(&polled.report),
            Err(_) => Reading::Failed,
        };
        let up = if has_answered(outcome) { TargetUp::Yes } else { TargetUp::No };
        let alerts = alerting.step(reading, up, due).await;
        self.state.send_modify(|state| state.alerts = alerts);
    }

    /// Between two polls the node was found not to answer: that is told as in a poll, and a new connection is
    /// made by the next.
    fn note_lost(&mut self, error: &PollError) {
        self.upstream.disconnect();
        self.failures = self.failures.saturating_add(1);
        self.metrics.count_errors(error.reason(), 1);
        self.show_outcome(false, Some(error.to_string()));
        self.note_problem(PollResult::Failed, Some(error.to_string()));
    }

    /// Logs what a poll failed of, or was cut off by.
    fn note_outcome(&mut self, outcome: &Outcome) {
        let (result, error) = result_and_error(outcome);
        self.note_problem(result, error.map(PollError::to_string));
    }

    /// Logs a problem when it changes.
    fn note_problem(&mut self, result: PollResult, problem: Option<String>) {
        if self.problem == problem {
            return;
        }
        let target_name = &self.name;
        match (&problem, result) {
            (None, _) => info!(target_name, "target is polled again"),
            (Some(error), PollResult::Partial) if !self.upstream.has_all_nodes() => {
                warn!(target_name, error, "cannot poll a node of the target; trying again");
            }
            (Some(error), PollResult::Partial) => {
                warn!(target_name, error, "poll was cut off; the rest goes first in the next");
            }
            (Some(error), _) => warn!(target_name, error, "cannot poll target; trying again"),
        }
        self.problem = problem;
    }
}

/// What came of a poll.
type Outcome = Result<Polled, PollError>;

/// What came of a poll that read anything.
struct Polled {
    report: Arc<Report>,
    /// What cut it off, if anything did.
    cut_off_by: Option<PollError>,
    /// Whether each node answered all the time that the poll had.
    has_answered: bool,
    /// Whether the report shows every stream there is.
    is_whole: bool,
}

fn result_and_error(outcome: &Outcome) -> (PollResult, Option<&PollError>) {
    match outcome {
        Ok(Polled { cut_off_by: None, .. }) => (PollResult::Ok, None),
        Ok(Polled { cut_off_by: Some(error), .. }) => (PollResult::Partial, Some(error)),
        Err(error) => (PollResult::Failed, Some(error)),
    }
}

/// Whether the target answered all the time that the poll had.
fn has_answered(outcome: &Outcome) -> bool {
    outcome.as_ref().is_ok_and(|polled| polled.has_answered)
}

/// When polls are due: one after the other, at a phase of its own, so that several targets, and several
/// exporters, do not poll at the same moment.
#[derive(Debug)]
struct Schedule {
    interval: Duration,
    next: Instant,
}

impl Schedule {
    fn new(interval: Duration, now: Instant) -> Self {
        Self { interval, next: now + interval.mul_f64(0.5 + fastrand::f64() / 2.0) }
    }

    /// The first tick after `now`; those that were missed are left out.
    fn next_after(&mut self, now: Instant) -> Instant {
        if self.next <= now {
            let missed = (now - self.next).div_duration_f64(self.interval).floor();
            self.next += self.interval.mul_f64(missed + 1.0);
        }
        self.next
    }

    /// When a poll that failed is tried again: after the pause, but no later than it is due anyway, since alerts are
    /// evaluated with each poll and have to be on time while polls fail, too.
    fn retry_after(&mut self, now: Instant, pause: Duration) -> Instant {
        (now + pause).min(self.next_after(now))
    }
}

/// Full jitter: anything from nothing to a bound that doubles with each failure. `random` is from 0 to 1.
fn backoff(failures: u32, random: f64) -> Duration {
    let doubled = FIRST_BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(16));
    doubled.min(MAX_BACKOFF).mul_f64(random)
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_doubles_up_to_5_s_with_full_jitter() {
        let bounds: Vec<_> = (1..8).map(|failures| backoff(failures, 1.0).as_millis()).collect();
        assert_eq!(bounds, [250, 500, 1_000, 2_000, 4_000, 5_000, 5_000]);
        assert_eq!(backoff(u32::MAX, 1.0), MAX_BACKOFF);
        assert_eq!(backoff(7, 0.0), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn ticks_keep_their_phase_and_missed_ones_are_left_out() {
        let interval = Duration::from_secs(10);
        let start = now();
        let mut schedule = Schedule::new(interval, start);
        let first = schedule.next_after(start);
        assert!(first > start && first <= start + interval);
        assert_eq!(schedule.next_after(first), first + interval);
        assert_eq!(schedule.next_after(first + 3 * interval + Duration::from_secs(1)), first + 4 * interval);
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_poll_is_tried_again_before_the_next_is_due_or_with_it() {
        let s = Duration::from_secs;
        let mut schedule = Schedule::new(s(2), now());
        let tick = schedule.next_after(now());
        assert_eq!(schedule.retry_after(tick, s(1)), tick + s(1));
        assert_eq!(schedule.retry_after(tick + s(1), s(5)), tick + s(2));
        // It took longer than the interval.
        assert_eq!(schedule.retry_after(tick + s(3), s(5)), tick + s(4));
    }
}
