//! One target's task: polls on schedule, makes sense of what was read, and publishes it.
//!
//! It owns everything that belongs to the target: connections, memory, schedule. Readers get the newest
//! report through a `watch` channel and never reach back. A target's failure touches no other target.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tracing::{debug, info, warn};

use crate::alert::evaluator::{Reading, TargetUp};
use crate::config::{self, Poll};
use crate::exposition::render::{FamilySelection, Rendered, TargetLabels};
use crate::monitor::alerting::Alerting;
use crate::monitor::outcome::{Outcome, Polled, has_answered, result_and_error};
use crate::monitor::plan::{Plan, Plans};
use crate::monitor::schedule::{BACKOFF, Schedule};
use crate::monitor::state::{Published, State};
use crate::poller::error::PollError;
use crate::poller::upstream::Upstream;
use crate::self_metrics::labels::PollResult;
use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::clock::{now, unix_time};
use redis_stream_core::redis_url::Place;
use redis_stream_lag::budget::Budget;
use redis_stream_lag::derivation::Derivation;
use redis_stream_lag::report::Report;
use redis_stream_lag::state::LagState;

pub mod alerting;
mod outcome;
pub mod plan;
mod redis_cli;
mod schedule;
pub mod state;

/// A target and its task's state.
#[derive(Debug)]
pub struct Target {
    name: String,
    config: Arc<config::Target>,
    poll: Poll,
    upstream: Upstream,
    /// Whether streams must be looked for before the next reading, as nothing is known of them.
    seeks_streams: bool,
    memory: LagState,
    /// Where the time that its history is told by begins.
    started: Instant,
    labels: TargetLabels,
    layout: Arc<FamilySelection>,
    metrics: TargetMetrics,
    state: Arc<watch::Sender<State>>,
    /// The node that readers are told the way to; `None` before the first, and after the configuration has changed.
    shown_place: Option<Place>,
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
        config: impl Into<Arc<config::Target>>,
        poll: Poll,
        layout: Arc<FamilySelection>,
        metrics: TargetMetrics,
        state: Arc<watch::Sender<State>>,
    ) -> Self {
        let config = config.into();
        let labels = TargetLabels::new(&config.name, config.db, &config.labels);
        state.send_modify(|state| state.interval = poll.interval);
        Self {
            name: config.name.clone(),
            upstream: Upstream::new(Arc::clone(&config), &poll, metrics.clone()),
            config,
            seeks_streams: true,
            memory: LagState::default(),
            started: now(),
            poll,
            labels,
            layout,
            metrics,
            state,
            shown_place: None,
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

    /// Polls on schedule, as the plan of the time has it, until there is none.
    pub async fn run(mut self, mut plans: Plans) {
        let mut schedule = Schedule::new(self.poll.interval, now());
        let mut next_poll = now();
        loop {
            tokio::select! {
                biased;
                plan = next_plan(&mut plans) => {
                    let Some(plan) = plan else { return self.retire() };
                    if self.follow(&plan).await {
                        next_poll = now();
                    }
                    if schedule.interval != self.poll.interval {
                        schedule = Schedule::new(self.poll.interval, now());
                    }
                }
                () = sleep_until(next_poll) => {
                    let polled = tokio::select! {
                        outcome = self.poll() => Some(outcome),
                        () = end_of(plans.clone()) => None,
                    };
                    let Some(outcome) = polled else { return self.retire() };
                    self.note_outcome(&outcome);
                    self.step_alerts(&outcome, next_poll).await;
                    next_poll = match outcome {
                        Ok(_) => schedule.next_after(now()),
                        Err(_) => schedule.retry_after(now(), BACKOFF.delay(self.failures, fastrand::f64())),
                    };
                }
                () = until(self.upstream.next_scan()) => {
                    if let Err(error) = self.upstream.scan().await {
                        self.note_lost(&error);
                        next_poll = next_poll.min(now() + BACKOFF.delay(self.failures, fastrand::f64()));
                    }
                }
            }
        }
    }

    /// Changes to another plan; whether the servers are to be polled anew because of it. What is known stays: memory,
    /// history, counters and alerts, as far as the plan still speaks of them.
    async fn follow(&mut self, plan: &Plan) -> bool {
        if let Some(alerting) = &mut self.alerting {
            let alerts = alerting.copy_state(plan.evaluator()).await;
            self.state.send_modify(|state| state.alerts = alerts);
        }
        if plan.target == self.config && plan.poll == self.poll {
            return false;
        }
        info!(target_name = %self.name, "configuration of the target has changed; reconnecting");
        if plan.target.labels != self.config.labels {
            self.metrics.forget();
            self.metrics = self.metrics.with_labels(&plan.label_values());
            self.metrics.announce();
        }
        self.labels = TargetLabels::new(&plan.target.name, plan.target.db, &plan.target.labels);
        (self.config, self.poll) = (Arc::clone(&plan.target), plan.poll.clone());
        self.upstream.renew(&self.config, &self.poll, self.metrics.clone());
        // Nothing is looked for where it selects what it did before: upstream knows its streams then.
        (self.seeks_streams, self.shown_place) = (true, None);
        self.state.send_modify(|state| state.interval = self.poll.interval);
        true
    }

    /// Ends for good: what it says and has said is over.
    fn retire(self) {
        if let Some(alerting) = self.alerting {
            alerting.retire();
        }
        self.metrics.forget();
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
            self.state.send_modify(|state| state.trail = Arc::new(state.trail.after_failure(unix_time())));
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
        self.show_place();
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
        let mut derivation = Derivation::open(&snapshot, &mut self.memory, budget, at);
        // A node that was lost keeps no other from being asked.
        while now() < deadline && self.upstream.is_connected() {
            let questions = derivation.questions();
            if questions.is_empty() {
                break;
            }
            let (answers, error) = self.upstream.ask(&snapshot, &questions, deadline).await;
            derivation.answer(answers);
            cut_off_by = cut_off_by.or(error);
        }
        self.upstream.spend_payload(derivation.payload_bytes_read());
        let previous = self.state.borrow().published.as_ref().map(|published| Arc::clone(&published.report));
        let report = Arc::new(derivation.close(previous.as_deref()));
        let watched: usize = snapshot.nodes.iter().map(|node| node.streams.len()).sum();
        let has_answered = self.upstream.has_all_nodes();
        let is_whole = has_answered && self.upstream.knows_its_streams() && report.streams.len() == watched;
        drop(snapshot);
        self.seeks_streams = false;
        self.metrics.count_entries(report.counted_entries);
        self.publish(Arc::clone(&report), began).await;
        Ok(Polled { report, cut_off_by, has_answered, is_whole })
    }

    /// Before the first report, and before the first by another configuration: looks for streams until all keys were
    /// seen, or until the time is over; the rest is found while polls go on.
    async fn find_streams(&mut self, until: Instant) -> Result<(), PollError> {
        while self.seeks_streams && !self.upstream.knows_its_streams() {
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
        let before = self.state.borrow().clone();
        let (layout, labels, shown) = (Arc::clone(&self.layout), self.labels.clone(), Arc::clone(&report));
        let last_read = unix_time();
        let made = tokio::task::spawn_blocking(move || {
            let previous = before.published.as_ref().map(|published| &*published.report);
            let trail = before.trail.after(last_read, &shown, previous);
            (Arc::new(Rendered::new(&layout, labels, shown)), Arc::new(trail))
        });
        // It fails only while the runtime shuts down.
        let Ok((rendered, trail)) = made.await else { return };
        let expires = read_at + self.poll.stale_after;
        self.metrics.set_last_successful_poll(last_read);
        self.state.send_modify(|state| {
            state.published = Some(Published { report, rendered, expires });
            (state.last_read, state.trail) = (Some(last_read), trail);
        });
    }

    /// Shows readers the way to the node that is polled, where it is another one than before.
    fn show_place(&mut self) {
        let Some(place) = self.upstream.place() else { return };
        if self.shown_place.as_ref() == Some(place) {
            return;
        }
        let words = redis_cli::words(&self.config, place);
        self.shown_place = Some(place.clone());
        self.state.send_modify(|state| state.redis_cli = words);
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

/// The plan after the one that was seen last; `None`: the target is to end.
async fn next_plan(plans: &mut Plans) -> Option<Arc<Plan>> {
    plans.changed().await.ok()?;
    plans.borrow_and_update().clone()
}

/// Waits until the target is to end.
async fn end_of(mut plans: Plans) {
    // An error says that nobody makes plans any more.
    let _ = plans.wait_for(Option::is_none).await;
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}
