//! Saves alerts and the notification log to the state file: when an alert or a log entry changes, and each minute while
//! there is any alert, so that the file's age is the time without monitoring. Loads them at the start.

use std::cell::Cell;
use std::collections::{BTreeMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::{info, warn};

use crate::alert::active::{Active, ActiveAlert};
use crate::alert::notification::{Alert, AlertStatus};
use crate::alert::notification_log::{LogEntry, NotificationLog, SendState};
use crate::alert::resolved_reason;
use crate::alert::rule::TargetLabels;
use crate::alert::state;
use crate::commands::serve::target_tasks::{Targets, target_settings};
use crate::commands::target_snapshots::TargetHandle;
use crate::config::Config;
use crate::monitor::published::{Published, TargetState};
use crate::notify::Handle;
use crate::page::saved::SavedPast;
use crate::state_file::{self, LazyList, SavedGroup, SavedState};
use redis_stream_core::clock::{now, unix_time};

/// Changes within this time are written together.
const GATHERING: Duration = Duration::from_millis(100);
const REFRESH: Duration = Duration::from_secs(60);
/// The same while there are only charts and events to write.
const PAST_REFRESH: Duration = Duration::from_secs(5 * 60);
/// On average, no more bytes a second are written.
const BYTES_PER_SECOND: u64 = 1024 * 1024;
/// Longest pause between two writes because of that.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// Loads the state file; logs why it is not used.
pub(super) fn load(path: &Path) -> Option<SavedState> {
    match state_file::load(path, unix_time()) {
        Ok(Some(saved)) => {
            info!(path = %path.display(), alerts = saved.alerts.len(), "restored alerts from state file");
            Some(saved)
        }
        Ok(None) => None,
        Err(error) => {
            warn!(%error, "state file not used; alerts start without their history");
            None
        }
    }
}

/// Returns the saved notification log. A firing alert without a target or rule in the configuration is resolved in it: it
/// was removed, not lost from sight.
pub(super) fn notification_log(saved: &SavedState, config: &Config) -> NotificationLog {
    let mut receivers = saved.receivers.clone();
    if receivers.values().flatten().all(|entry| entry.alert.status == AlertStatus::Resolved) {
        return NotificationLog { until: saved.saved_at, receivers };
    }
    let targets = saved.by_target();
    let firing: HashSet<_> = target_settings(config)
        .filter_map(|settings| {
            let mut evaluator = settings.evaluator();
            targets.get(settings.target.name.as_str())?.resume(&mut evaluator);
            let active = evaluator.active();
            let external = &config.alerts.external_labels;
            let labels = |shown: ActiveAlert| {
                external.clone().into_iter().chain(shown.labels).collect::<BTreeMap<_, _>>()
            };
            Some(active.of_phase(state::Phase::Firing).map(labels).collect::<Vec<_>>())
        })
        .flatten()
        .collect();
    for entry in receivers.values_mut().flatten() {
        if entry.alert.status == AlertStatus::Firing && !firing.contains(&entry.alert.labels) {
            let ends_at = saved.saved_at.max(entry.alert.starts_at);
            let mut resolved = Alert { status: AlertStatus::Resolved, ends_at, ..(*entry.alert).clone() };
            let reason = resolved_reason::DESELECTED.to_owned();
            resolved.annotations.insert(resolved_reason::ANNOTATION.to_owned(), reason);
            (entry.alert, entry.send_state) = (Arc::new(resolved), SendState::Unsent);
        }
    }
    NotificationLog { until: saved.saved_at, receivers }
}

/// Writes the state file.
pub(super) struct StateSaver {
    path: PathBuf,
    all_targets: watch::Receiver<Targets>,
    targets: Vec<TargetHandle>,
    /// The alerts of each target as last written.
    written: Vec<Arc<Active>>,
    receivers: Handle,
    log_changes: watch::Receiver<()>,
    has_unsaved_log: bool,
    refresh_at: Instant,
    /// Earliest time of the next write.
    rested_at: Instant,
    /// The last error; logged when it changes.
    problem: Option<String>,
}

impl StateSaver {
    pub(super) fn new(path: PathBuf, all_targets: watch::Receiver<Targets>, receivers: Handle) -> Self {
        let mut saver = Self {
            path,
            all_targets,
            targets: Vec::new(),
            written: Vec::new(),
            log_changes: receivers.log_changes(),
            receivers,
            has_unsaved_log: false,
            refresh_at: now() + REFRESH,
            rested_at: now(),
            problem: None,
        };
        saver.watch_targets();
        saver
    }

    /// Watches the current targets. Their alerts count as not written.
    fn watch_targets(&mut self) {
        self.targets = self.all_targets.borrow_and_update().to_vec();
        self.written = self.targets.iter().map(|_| Arc::default()).collect();
    }

    /// Runs until the sender of the targets is dropped.
    pub(super) async fn run(&mut self) {
        loop {
            tokio::select! {
                changed = self.all_targets.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.watch_targets();
                }
                true = any_change(&mut self.targets) => sleep(GATHERING).await,
                Ok(()) = self.log_changes.changed() => {
                    self.has_unsaved_log = true;
                    sleep(GATHERING).await;
                }
                () = sleep_until(self.refresh_at) => {}
            }
            sleep_until(self.rested_at).await;
            let active = self.active();
            let is_same = |(one, other): (&Arc<Active>, &Arc<Active>)| one.is_same_set(other);
            self.has_unsaved_log |= self.log_changes.has_changed().unwrap_or_default();
            self.log_changes.mark_unchanged();
            let log = self.receivers.notification_logs();
            let has_changed = self.has_unsaved_log || !active.iter().zip(&self.written).all(is_same);
            let is_due = self.refresh_at <= now();
            let is_empty = || {
                active.iter().all(|active| active.is_empty())
                    && log.values().all(Vec::is_empty)
                    && self.targets.iter().all(|(_, state)| {
                        let state = state.borrow().clone();
                        state.remembered().next().is_none()
                    })
            };
            let has_past = self.targets.iter().any(|(_, state)| state.borrow().published.is_some());
            if has_changed || (is_due && (has_past || !is_empty())) {
                let is_empty = is_empty();
                self.write(active, log).await;
                if is_empty {
                    self.refresh_at = now() + PAST_REFRESH;
                }
            } else if is_due {
                // The age of an empty file does not matter.
                self.refresh_at = now() + REFRESH;
            }
        }
    }

    /// Writes the current state.
    pub(super) async fn save(&mut self) {
        let (active, log) = (self.active(), self.receivers.notification_logs());
        self.write(active, log).await;
    }

    fn active(&self) -> Vec<Arc<Active>> {
        self.targets.iter().map(|(_, state)| Arc::clone(&state.borrow().alerts.active)).collect()
    }

    async fn write(&mut self, active: Vec<Arc<Active>>, receivers: BTreeMap<String, Vec<LogEntry>>) {
        let (path, writing) = (self.path.clone(), active.clone());
        let states: Vec<_> =
            self.targets.iter().map(|(labels, state)| (Arc::clone(labels), state.borrow().clone())).collect();
        let save = move || {
            let now = unix_time();
            let alerts = LazyList(|| writing.iter().flat_map(|active| active.without_annotations()));
            let groups = LazyList(|| {
                states.iter().flat_map(|(labels, state)| {
                    state.remembered().map(|group| SavedGroup::of(labels, &group, now))
                })
            });
            let has_come_to_pasts = Cell::new(false);
            let pasts = LazyList(|| {
                has_come_to_pasts.set(true);
                states.iter().filter_map(|(labels, state)| past(labels, state))
            });
            let saved = SavedState { saved_at: now, alerts, receivers, groups, pasts };
            match state_file::save(&path, &saved) {
                // Alerts matter more than charts.
                Err(error) if error.kind() == io::ErrorKind::FileTooLarge && has_come_to_pasts.get() => {
                    let SavedState { saved_at, alerts, receivers, groups, .. } = saved;
                    let pasts = Vec::<SavedPast>::new();
                    state_file::save(&path, &SavedState { saved_at, alerts, receivers, groups, pasts })
                }
                result => result,
            }
        };
        // Fails only while the runtime shuts down.
        let Ok(saved) = tokio::task::spawn_blocking(save).await else { return };
        let pause = saved.as_ref().map_or(GATHERING, |bytes| pause_after(*bytes));
        self.rested_at = now() + pause;
        let problem = saved.err().map(|error| error.to_string());
        if let Some(error) = problem.as_ref().filter(|_| problem != self.problem) {
            let path = self.path.display();
            warn!(%path, error, "cannot write the state file; after a restart alerts would start without their history");
        }
        // After a failure the next poll tries again.
        if problem.is_none() {
            self.written = active;
            self.has_unsaved_log = false;
        }
        self.refresh_at = now() + REFRESH;
        self.problem = problem;
    }
}

/// Returns the history and the events of a target; `None` before its first report.
fn past(labels: &TargetLabels, state: &TargetState) -> Option<SavedPast> {
    match &state.published {
        Some(Published { last, last_history, .. }) => {
            Some(SavedPast::of(&labels.name, &labels.db, last, last_history, &state.events))
        }
        None => state.restored.as_deref().cloned(),
    }
}

fn pause_after(bytes: u64) -> Duration {
    Duration::from_millis(bytes * 1000 / BYTES_PER_SECOND).min(LONGEST_PAUSE)
}

/// Waits for a change of any target; returns false if there cannot be one.
async fn any_change(targets: &mut [TargetHandle]) -> bool {
    let mut changes: Vec<_> = targets.iter_mut().map(|(_, state)| Box::pin(state.changed())).collect();
    while !changes.is_empty() {
        let (changed, _, others) = select_all(changes).await;
        if changed.is_ok() {
            return true;
        }
        changes = others;
    }
    false
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::alert::evaluator::{Evaluator, EvaluatorSettings, PollReading, TargetUp};
    use crate::alert::recommended;
    use crate::config::load::from_text;
    use crate::monitor::alerting::ShownAlerts;

    const INTERVAL: Duration = Duration::from_secs(10);

    /// After which of 30 polls the file was written; `up` tells whether the target answers in a poll.
    async fn written(up: fn(u32) -> TargetUp) -> Vec<u32> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.json");
        let settings = EvaluatorSettings {
            hold: Duration::from_secs(3_600),
            external_labels: [].into(),
            interval: INTERVAL,
            has_notifiers: false,
        };
        let mut evaluator = Evaluator::new(&recommended::rules(None, &[]), TargetLabels::default(), settings);
        let (sender, state) = watch::channel(TargetState::default());
        let (all, targets) = watch::channel(Targets::from([(Arc::default(), state)]));
        let mut saver = StateSaver::new(path.clone(), targets, Handle::default());
        let polls = async {
            let mut written = Vec::new();
            for poll in 0..30 {
                evaluator.step(
                    PollReading::Failed,
                    up(poll),
                    Duration::from_secs(1_700_000_000) + poll * INTERVAL,
                );
                sender.send_replace(TargetState {
                    alerts: ShownAlerts::of(&evaluator),
                    ..TargetState::default()
                });
                sleep(INTERVAL).await;
                if path.exists() {
                    written.push(poll);
                    std::fs::remove_file(&path).unwrap();
                }
            }
            drop((sender, all));
            written
        };
        tokio::join!(saver.run(), polls).1
    }

    #[test]
    fn what_has_no_rule_any_more_is_over_for_those_who_know_it_to_fire() {
        let yaml = "targets: [{name: t, url: 'redis://cache'}]
alerts: {recommended: false, external_labels: {dc: eu}, rules: [{alert: Down, expr: target_up == 0}]}";
        let config = from_text("test", yaml, Path::new("/"), &|_| None).unwrap();
        let saved_at = Duration::from_secs(1_700_000_000);
        let mut evaluator = target_settings(&config).next().unwrap().evaluator();
        evaluator.step(PollReading::Failed, TargetUp::No, saved_at);
        let known = |name: &str| {
            let labels = [("alertname", name), ("target", "t"), ("dc", "eu")];
            let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned()));
            let alert = Alert {
                labels: Arc::new(labels.into()),
                annotations: BTreeMap::new(),
                value: 0.0,
                starts_at: saved_at - Duration::from_secs(60),
                ends_at: saved_at + Duration::from_secs(240),
                status: AlertStatus::Firing,
                inhibited_by: None,
                notifiers: Arc::default(),
            };
            LogEntry { alert: Arc::new(alert), send_state: SendState::Sent, last_sent_at: Some(saved_at) }
        };
        let receivers = BTreeMap::from([("hook".to_owned(), vec![known("Down"), known("Gone")])]);
        let alerts = evaluator.active().alerts().collect();
        let saved = SavedState { saved_at, alerts, receivers, groups: Vec::new(), pasts: Vec::new() };
        let log = notification_log(&saved, &config);
        let [down, gone] = &log.receivers["hook"][..] else { panic!("{log:?}") };
        assert_eq!((log.until, down), (saved_at, &known("Down")));
        assert_eq!((gone.alert.status, gone.send_state), (AlertStatus::Resolved, SendState::Unsent));
        assert_eq!(gone.alert.ends_at, saved_at);
    }

    #[test]
    fn a_large_file_is_written_less_often() {
        for (bytes, pause_ms) in
            [(0, 0), (10_000, 9), (1 << 20, 1_000), (10 << 20, 10_000), (60 << 20, 30_000)]
        {
            assert_eq!(pause_after(bytes), Duration::from_millis(pause_ms), "{bytes}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_file_is_written_when_alerts_change_and_each_minute_while_there_are_any() {
        // Pending from the first poll, firing after two minutes, resolved with the 26th.
        let down_until_25 = |poll| if poll < 25 { TargetUp::No } else { TargetUp::Yes };
        assert_eq!(written(down_until_25).await, [0, 6, 12, 18, 24, 25]);
        // Pending, clear, and pending again, which is no change from minute to minute.
        let up_at_3 = |poll| if poll == 3 { TargetUp::Yes } else { TargetUp::No };
        assert_eq!(written(up_at_3).await, [0, 3, 4, 10, 16, 22, 28]);
        assert_eq!(written(|_| TargetUp::Yes).await, [] as [u32; 0]);
    }
}
