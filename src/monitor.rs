//! The task of one target: polls on schedule, publishes the report, and evaluates the target's alerts.
//!
//! A monitor owns everything that belongs to its target: connections, state, schedule. Readers get the newest report
//! through a `watch` channel. A target's failure touches no other target.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use crate::alert::evaluator::{PollReading, TargetUp};
use crate::monitor::alerting::Alerting;
use crate::monitor::published::{NewReport, Publisher, TargetState};
use crate::monitor::schedule::{BACKOFF, Schedule};
use crate::monitor::settings::{SettingsReceiver, TargetSettings};
use crate::poller::error::PollError;
use crate::poller::pace::FullTurn;
use crate::poller::poll::{PollOutcome, Poller, has_answered, problem, result_and_error};
use crate::poller::selection::selects;
use crate::self_metrics::labels::PollResult;
use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::clock::now;
use redis_stream_core::name::Name;
use redis_stream_lag::state::RememberedGroup;

pub mod alerting;
pub mod published;
pub(crate) mod redis_cli;
mod schedule;
pub mod settings;

/// Shortest time between two log lines about polls that are too slow.
const BEHIND_LOGGED: Duration = Duration::from_secs(3_600);

/// Polls one target on schedule.
pub struct Monitor {
    settings: Arc<TargetSettings>,
    poller: Poller,
    publisher: Publisher,
    /// `None` where no alerts are evaluated.
    alerting: Option<Alerting>,
    metrics: TargetMetrics,
    /// Polls that failed in a row.
    failures: u32,
    /// The last poll's error; logged when it changes.
    problem: Option<String>,
    /// True if the last poll was too slow for its interval.
    is_behind: bool,
    /// When it was last logged that polls are too slow.
    behind_logged: Option<Instant>,
}

impl Monitor {
    /// Returns a monitor that has not polled yet, and publishes to `state`.
    pub fn new(
        settings: Arc<TargetSettings>,
        metrics: TargetMetrics,
        state: Arc<watch::Sender<TargetState>>,
    ) -> Self {
        Self {
            poller: Poller::new(Arc::clone(&settings.target), settings.poll.clone(), metrics.clone()),
            publisher: Publisher::new(&settings, metrics.clone(), state),
            settings,
            alerting: None,
            metrics,
            failures: 0,
            problem: None,
            is_behind: false,
            behind_logged: None,
        }
    }

    /// Adds what was known of groups before a restart.
    pub fn with_remembered(mut self, groups: impl IntoIterator<Item = RememberedGroup>) -> Self {
        self.poller.restore(groups);
        self
    }

    /// Evaluates alerts after each scheduled poll.
    pub fn with_alerting(self, alerting: Alerting) -> Self {
        Self { alerting: Some(alerting), ..self }
    }

    /// Polls on schedule and applies new settings between polls, until the settings become `None`.
    pub async fn run(mut self, mut changes: SettingsReceiver) {
        self.publisher.note_start();
        let mut schedule = Schedule::new(self.settings.poll.interval, now());
        let mut next_poll = now();
        loop {
            tokio::select! {
                biased;
                settings = next_settings(&mut changes) => {
                    let Some(settings) = settings else { return self.stop() };
                    if self.apply(settings) {
                        next_poll = now();
                    }
                    if schedule.interval != self.settings.poll.interval {
                        schedule = Schedule::new(self.settings.poll.interval, now());
                    }
                }
                () = sleep_until(next_poll) => {
                    let began = now();
                    self.publisher.close_caches();
                    let polled = tokio::select! {
                        outcome = self.poller.poll() => Some(outcome),
                        () = ended(changes.clone()) => None,
                    };
                    let Some(outcome) = polled else { return self.stop() };
                    self.publish(&outcome, began).await;
                    self.step_alerts(&outcome, next_poll);
                    self.publisher.open_caches();
                    tokio::select! {
                        () = self.poller.read_later_pages() => {}
                        () = ended(changes.clone()) => return self.stop(),
                    }
                    next_poll = match outcome {
                        Ok(_) => schedule.next_after(now()),
                        Err(_) => schedule.retry_after(now(), BACKOFF.delay(self.failures, fastrand::f64())),
                    };
                }
                () = until(self.poller.next_sample()) => self.poller.sample().await,
                () = until(self.poller.next_keep_alive()) => self.poller.keep_alive().await,
                () = until(self.poller.next_scan()) => {
                    if let Err(error) = self.poller.scan().await {
                        self.note_lost(&error);
                        next_poll = next_poll.min(now() + BACKOFF.delay(self.failures, fastrand::f64()));
                    }
                }
            }
        }
    }

    /// Applies new settings. Returns true if the target must be polled at once. State, history, counters and alerts
    /// are kept as far as the new settings still cover them.
    fn apply(&mut self, settings: Arc<TargetSettings>) -> bool {
        if let Some(alerting) = &mut self.alerting {
            self.publisher.set_alerts(alerting.copy_state(settings.evaluator()));
        }
        self.publisher.set_links(&settings.links);
        let TargetSettings { target, poll, .. } = &*settings;
        if *target == self.settings.target && *poll == self.settings.poll {
            self.settings = settings;
            return false;
        }
        info!(target_name = %target.name, "configuration of the target has changed; reconnecting");
        if target.labels != self.settings.target.labels {
            self.metrics.forget();
            self.metrics = self.metrics.with_labels(&settings.label_values());
            self.metrics.announce();
        }
        if let Some(alerting) = &mut self.alerting {
            let before = &self.settings.target;
            // A family may have the name of the glob that it was made by, which matches itself.
            let was_family = |key: &Name| before.has_family(key) && !target.has_family(key);
            alerting.note_selection(&|key, group| selects(target, key, group) && !was_family(key));
        }
        self.behind_logged = None;
        self.poller.reconfigure(Arc::clone(target), poll.clone(), self.metrics.clone());
        self.publisher.reconfigure(&settings, self.metrics.clone());
        self.settings = settings;
        true
    }

    /// Resolves the target's alerts and removes its metrics.
    fn stop(self) {
        if let Some(alerting) = self.alerting {
            alerting.stop();
        }
        self.metrics.forget();
    }

    /// Publishes the outcome of a poll that began at `began`.
    async fn publish(&mut self, outcome: &PollOutcome, began: Instant) {
        let (result, error) = result_and_error(outcome);
        self.publisher.set_node(self.poller.node_address());
        self.publisher.set_server(self.poller.node_identity());
        self.publisher.note_restarts(self.poller.nodes());
        let report = match outcome {
            Ok(polled) => {
                self.failures = 0;
                let beyond_report = self.poller.remembered_beyond_report().collect();
                let report = Arc::clone(&polled.report);
                match self.publisher.prepare(report, beyond_report, polled.read_at).await {
                    Some(prepared) => NewReport::Read(prepared),
                    None => return,
                }
            }
            Err(_) => {
                self.failures = self.failures.saturating_add(1);
                self.publisher.prepare_kept(self.poller.fresh_report())
            }
        };
        let (elapsed, problem) = (now() - began, problem(outcome));
        let before = {
            let _one_step = self.metrics.publication();
            self.metrics.observe_poll(result, elapsed);
            if let Some(error) = error {
                self.metrics.count_errors(error.reason(), 1);
            }
            self.publisher.publish(report, has_answered(outcome), problem.clone())
        };
        drop(before);
        let target_name = &self.settings.target.name;
        let unchanged_streams = outcome.as_ref().ok().map(|polled| polled.unchanged_streams);
        debug!(%target_name, result = result.as_str(), elapsed_ms = elapsed.as_millis(), unchanged_streams, "polled");
        match error {
            Some(PollError::Behind(turn)) => {
                self.log_problem(result, true, None);
                self.log_behind(*turn);
            }
            _ => {
                self.is_behind = false;
                self.log_problem(result, has_answered(outcome), problem);
            }
        }
    }

    /// Evaluates the alerts as of the time when the poll was due.
    fn step_alerts(&mut self, outcome: &PollOutcome, due: Instant) {
        let Some(alerting) = &mut self.alerting else { return };
        let folded = self.publisher.folded();
        let reading = match (outcome, &folded) {
            (Ok(polled), Some(report)) if polled.is_complete => PollReading::Complete(report),
            (Ok(_), Some(report)) => PollReading::Partial(report),
            _ => PollReading::Failed,
        };
        let up = if has_answered(outcome) { TargetUp::Yes } else { TargetUp::No };
        let alerts = alerting.step(reading, up, due);
        self.publisher.set_alerts(alerts);
    }

    /// Handles a connection that was lost between two polls like a failed poll. The next poll reconnects.
    fn note_lost(&mut self, error: &PollError) {
        self.failures = self.failures.saturating_add(1);
        {
            let _one_step = self.metrics.publication();
            self.metrics.count_errors(error.reason(), 1);
            self.publisher.publish_loss(error.to_string());
        }
        self.log_problem(PollResult::Failed, false, Some(error.to_string()));
    }

    /// Logs that polls are too slow for their interval: once that two in a row were, and at most once in an hour.
    fn log_behind(&mut self, turn: FullTurn) {
        let is_known = self.behind_logged.is_some_and(|at| now() - at < BEHIND_LOGGED);
        if std::mem::replace(&mut self.is_behind, true) && !is_known {
            warn!(target_name = %self.settings.target.name, "{turn}; until then, streams are read in turn");
            self.behind_logged = Some(now());
        }
    }

    fn log_problem(&mut self, result: PollResult, has_answered: bool, problem: Option<String>) {
        if self.problem == problem {
            return;
        }
        let target_name = &self.settings.target.name;
        match (&problem, result) {
            (None, _) => info!(target_name, "target is polled again"),
            (Some(error), PollResult::Partial) if !has_answered => {
                warn!(target_name, error, "cannot poll a node of the target; retrying");
            }
            (Some(error), PollResult::Partial) => {
                warn!(target_name, error, "poll timed out; remaining streams are read first next time");
            }
            (Some(warning), PollResult::Ok) => {
                warn!(target_name, warning, "streams of the target are not found");
            }
            (Some(error), _) => warn!(target_name, error, "cannot poll target; retrying"),
        }
        self.problem = problem;
    }
}

/// Waits for new settings; returns `None` if the target is to end.
async fn next_settings(changes: &mut SettingsReceiver) -> Option<Arc<TargetSettings>> {
    changes.changed().await.ok()?;
    changes.borrow_and_update().clone()
}

/// Waits until the target is to end.
async fn ended(mut changes: SettingsReceiver) {
    // An error means that the sender is gone.
    let _ = changes.wait_for(Option::is_none).await;
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
