//! The monitors of all targets, one task for each. A new configuration sends new settings to the targets that stay,
//! starts tasks for new targets, and ends the tasks of removed ones.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::sleep;
use tracing::{error, info};

use crate::alert::evaluator::{Evaluator, EvaluatorSettings};
use crate::commands::target_snapshots::TargetHandle;
use crate::config::Config;
use crate::monitor::Monitor;
use crate::monitor::alerting::{AlertSink, Alerting, ShownAlerts};
use crate::monitor::published::TargetState;
use crate::monitor::settings::{SettingsReceiver, TargetSettings, alert_labels};
use crate::poller::selection::selects;
use crate::self_metrics::SelfMetrics;
use crate::self_metrics::target::TargetMetrics;
use crate::state_file::{SavedState, SavedTarget};
use redis_stream_core::clock::unix_time;

/// Pause before the task of a target is restarted after a panic.
const RESTART_PAUSE: Duration = Duration::from_secs(5);

/// All targets, in the order of the configuration.
pub(super) type Targets = Arc<[TargetHandle]>;

/// The parts that all targets' tasks share.
#[derive(Clone)]
pub(super) struct SharedParts {
    pub(super) metrics: SelfMetrics,
    pub(super) sink: AlertSink,
}

/// The monitors of all targets.
pub(super) struct TargetTasks {
    shared: SharedParts,
    running: Vec<TargetTask>,
    targets: watch::Sender<Targets>,
    tasks: JoinSet<()>,
}

/// The task of one target.
struct TargetTask {
    settings: watch::Sender<Option<Arc<TargetSettings>>>,
    state: watch::Receiver<TargetState>,
    handle: AbortHandle,
}

impl TargetTasks {
    /// Starts a task for each target, with its saved alerts.
    pub(super) fn start(config: &Config, shared: SharedParts, saved: Option<&SavedState>) -> Self {
        let mut all =
            Self { shared, running: Vec::new(), targets: watch::Sender::default(), tasks: JoinSet::new() };
        let mut saved = saved.map(SavedState::by_target).unwrap_or_default();
        for settings in target_settings(config) {
            let saved = saved.remove(settings.target.name.as_str()).unwrap_or_default();
            let task = all.join(settings, &saved);
            all.running.push(task);
        }
        all.show();
        all
    }

    /// Returns a receiver of the list of targets.
    pub(super) fn targets(&self) -> watch::Receiver<Targets> {
        self.targets.subscribe()
    }

    /// Applies a new configuration. A target with the same name, servers and database keeps its state; a removed target
    /// ends and its alerts resolve.
    pub(super) async fn apply(&mut self, config: &Config) {
        let mut before = std::mem::take(&mut self.running);
        let mut joining = Vec::new();
        for settings in target_settings(config) {
            let same = before.iter().position(|task| {
                !task.handle.is_finished()
                    && task.settings.borrow().as_ref().is_some_and(|other| other.is_of_same_target(&settings))
            });
            joining.push((settings, same.map(|at| before.swap_remove(at))));
        }
        // Before new targets of the same name start.
        for task in before {
            self.leave(task).await;
        }
        for (settings, task) in joining {
            let task = match task {
                Some(task) => {
                    task.settings.send_if_modified(|current| {
                        let is_new = current.as_deref() != Some(&settings);
                        if is_new {
                            *current = Some(Arc::new(settings));
                        }
                        is_new
                    });
                    task
                }
                None => self.join(settings, &SavedTarget::default()),
            };
            self.running.push(task);
        }
        self.show();
        // Remove tasks that have ended.
        while self.tasks.try_join_next().is_some() {}
    }

    /// Ends all tasks without resolving alerts, which continue after a restart.
    pub(super) async fn shut_down(&mut self) {
        self.tasks.shutdown().await;
    }

    fn join(&mut self, settings: TargetSettings, saved: &SavedTarget<'_>) -> TargetTask {
        let SharedParts { metrics, sink } = self.shared.clone();
        let name = settings.target.name.clone();
        let mut evaluator = settings.evaluator();
        saved.resume(&mut evaluator);
        note_selection(&mut evaluator, &settings);
        let alerts = ShownAlerts::of(&evaluator);
        let beyond_report = saved.groups(&settings.labels.db, unix_time()).collect();
        let mut known = TargetState { alerts, beyond_report, ..TargetState::default() };
        if let Some(past) = saved.past(&settings.labels.db) {
            (known.history, known.events, known.restored) = (past.history, past.events, Some(past.saved));
        }
        let (state, watched) = watch::channel(known);
        // Created here and not in the task, so that the first scrape shows them.
        let target_metrics = metrics.for_target(&name, &settings.label_values());
        let (sender, changes) = watch::channel(Some(Arc::new(settings)));
        let handle =
            self.tasks.spawn(keep_running(evaluator, changes, target_metrics, Arc::new(state), sink));
        TargetTask { settings: sender, state: watched, handle }
    }

    /// Ends a task, which resolves its alerts first.
    async fn leave(&mut self, mut task: TargetTask) {
        let name = task.settings.borrow().as_ref().map(|settings| settings.target.name.clone());
        task.settings.send_replace(None);
        // The task drops the sender when it ends.
        while task.state.changed().await.is_ok() {}
        info!(target_name = name, "target is not polled any more");
    }

    fn show(&self) {
        let watched = |task: &TargetTask| {
            let settings = task.settings.borrow();
            settings.as_ref().map(|settings| (Arc::clone(&settings.labels), task.state.clone()))
        };
        self.targets.send_replace(self.running.iter().filter_map(watched).collect());
    }
}

fn note_selection(evaluator: &mut Evaluator, settings: &TargetSettings) {
    evaluator.note_selection(&|key, group| selects(&settings.target, key, group));
}

/// Returns the settings of each target.
pub(super) fn target_settings(config: &Config) -> impl Iterator<Item = TargetSettings> + '_ {
    let Config { alerts, poll, .. } = config;
    config.targets.iter().map(move |target| TargetSettings {
        labels: Arc::new(alert_labels(target)),
        target: Arc::new(target.clone()),
        poll: poll.clone(),
        rules: alerts.rules.clone(),
        evaluator: EvaluatorSettings {
            hold: alerts.hold,
            external_labels: alerts.external_labels.clone(),
            interval: poll.interval,
            has_notifiers: !alerts.notifiers.is_empty(),
        },
        links: config.web.links.clone().into(),
    })
}

/// Runs a target's monitor until the target is removed, and restarts it after a panic: a defect that one target's data
/// triggers must not end the others.
async fn keep_running(
    evaluator: Evaluator,
    changes: SettingsReceiver,
    metrics: TargetMetrics,
    state: Arc<watch::Sender<TargetState>>,
    sink: AlertSink,
) {
    let mut first = Some(evaluator);
    loop {
        let Some(settings) = changes.borrow().clone() else { return metrics.forget() };
        // Alerts that were pending or firing continue, and so do the histories of groups.
        let evaluator = first.take().unwrap_or_else(|| {
            let mut evaluator = settings.evaluator();
            let active = Arc::clone(&state.borrow().alerts.active);
            evaluator.resume(active.without_annotations(), unix_time());
            note_selection(&mut evaluator, &settings);
            evaluator
        });
        let alerting = Alerting::new(evaluator, Arc::clone(&sink));
        let target_metrics = metrics.with_labels(&settings.label_values());
        let remembered: Vec<_> = state.borrow().remembered().collect();
        let running = Monitor::new(Arc::clone(&settings), target_metrics, Arc::clone(&state))
            .with_remembered(remembered)
            .with_alerting(alerting)
            .run(changes.clone());
        // In a set of its own, so that the task ends with this future.
        let mut task = JoinSet::new();
        task.spawn(running);
        let Some(Err(panic)) = task.join_next().await else { return };
        metrics.with_labels(&settings.label_values()).set_up(false);
        error!(target_name = %settings.target.name, error = %panic, "task of the target panicked; restarting it");
        sleep(RESTART_PAUSE).await;
    }
}
