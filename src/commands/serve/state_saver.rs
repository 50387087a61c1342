//! Keeps the alerts of all targets in the state file, and what receivers know of them: reads it at the start, and writes
//! it when an alert comes, goes or changes its state, when a receiver is told, and each minute while there is any, so
//! that its age says how long nobody has looked.

use std::collections::{BTreeMap, HashSet};
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
use crate::alert::state;
use crate::commands::serve::target_tasks::{Targets, target_settings};
use crate::config::Config;
use crate::monitor::published::TargetState;
use crate::notify::Handle;
use crate::state_file::{self, Saved};
use redis_stream_core::clock::{now, unix_time};

/// Changes within this time are written together.
const GATHERING: Duration = Duration::from_millis(100);
/// The file is written anew after this time.
const REFRESH: Duration = Duration::from_secs(60);

/// What the file holds; nothing where it cannot be used, which is logged.
pub(super) fn load(path: &Path) -> Option<Saved> {
    match state_file::load(path, unix_time()) {
        Ok(Some(saved)) => {
            info!(path = %path.display(), alerts = saved.alerts.len(), "alerts go on from the state file");
            Some(saved)
        }
        Ok(None) => None,
        Err(error) => {
            warn!(%error, "the state file is ignored; alerts start without their history");
            None
        }
    }
}

/// What receivers knew when the file was written; `None` where it does not say. What they know to fire, and no target
/// or rule speaks of any more, is over: what is taken out of the configuration is gone, not unknown.
pub(super) fn memory(saved: &Saved, config: &Config) -> Option<NotificationLog> {
    let mut receivers = saved.receivers.clone()?;
    let firing: HashSet<_> = target_settings(config)
        .flat_map(|settings| {
            let mut evaluator = settings.evaluator();
            evaluator.resume(saved.alerts.iter().cloned(), saved.saved_at);
            let active = evaluator.active();
            let external = &config.alerts.external_labels;
            let labels = |shown: ActiveAlert| {
                external.clone().into_iter().chain(shown.labels).collect::<BTreeMap<_, _>>()
            };
            active.of_phase(state::Phase::Firing).map(labels).collect::<Vec<_>>()
        })
        .collect();
    for known in receivers.values_mut().flatten() {
        let is_gone = known.alert.status == AlertStatus::Firing && !firing.contains(&known.alert.labels);
        if is_gone {
            let ends_at = saved.saved_at.max(known.alert.starts_at);
            let over = Alert { status: AlertStatus::Resolved, ends_at, ..(*known.alert).clone() };
            (known.alert, known.send_state) = (Arc::new(over), SendState::Unsent);
        }
    }
    Some(NotificationLog { until: saved.saved_at, receivers })
}

/// Writes the file as alerts change.
pub(super) struct Keeper {
    path: PathBuf,
    /// The targets that there are now.
    all: watch::Receiver<Targets>,
    targets: Vec<watch::Receiver<TargetState>>,
    written: Vec<Arc<Active>>,
    /// Where receivers are told.
    receivers: Handle,
    /// Changes with what they know.
    known: watch::Receiver<()>,
    /// Whether that was not written yet.
    has_news: bool,
    /// When the file is written although nothing has changed.
    refresh_at: Instant,
    /// What went wrong last; logged when it changes.
    problem: Option<String>,
}

impl Keeper {
    pub(super) fn new(path: PathBuf, all: watch::Receiver<Targets>, receivers: Handle) -> Self {
        let mut keeper = Self {
            path,
            all,
            targets: Vec::new(),
            written: Vec::new(),
            known: receivers.known_changes(),
            receivers,
            has_news: false,
            refresh_at: now() + REFRESH,
            problem: None,
        };
        keeper.follow();
        keeper
    }

    /// Watches the targets that there are now. Their alerts are as good as not written yet.
    fn follow(&mut self) {
        self.targets = self.all.borrow_and_update().iter().map(|(_, state)| state.clone()).collect();
        self.written = self.targets.iter().map(|_| Arc::default()).collect();
    }

    /// Runs until there are no targets any more.
    pub(super) async fn run(&mut self) {
        loop {
            tokio::select! {
                changed = self.all.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    self.follow();
                }
                true = any_change(&mut self.targets) => sleep(GATHERING).await,
                Ok(()) = self.known.changed() => {
                    self.has_news = true;
                    sleep(GATHERING).await;
                }
                () = sleep_until(self.refresh_at) => {}
            }
            let active = self.active();
            let is_same = |(one, other): (&Arc<Active>, &Arc<Active>)| one.is_same_set(other);
            self.has_news |= self.known.has_changed().unwrap_or_default();
            self.known.mark_unchanged();
            let known = self.receivers.known();
            let has_changed = self.has_news || !active.iter().zip(&self.written).all(is_same);
            let is_dated = self.refresh_at <= now();
            let is_empty = active.iter().all(|active| active.is_empty()) && known.values().all(Vec::is_empty);
            if has_changed || (is_dated && !is_empty) {
                self.write(active, known).await;
            } else if is_dated {
                // Of an empty file the age does not matter.
                self.refresh_at = now() + REFRESH;
            }
        }
    }

    /// Writes what there is now.
    pub(super) async fn write_at_last(&mut self) {
        let (active, known) = (self.active(), self.receivers.known());
        self.write(active, known).await;
    }

    fn active(&self) -> Vec<Arc<Active>> {
        self.targets.iter().map(|state| Arc::clone(&state.borrow().alerts.active)).collect()
    }

    async fn write(&mut self, active: Vec<Arc<Active>>, known: BTreeMap<String, Vec<LogEntry>>) {
        let (path, writing) = (self.path.clone(), active.clone());
        let save = move || {
            let alerts = writing.iter().flat_map(|active| active.alerts());
            state_file::save(&path, unix_time(), alerts, &known)
        };
        // It fails only while the runtime shuts down.
        let Ok(saved) = tokio::task::spawn_blocking(save).await else { return };
        let problem = saved.err().map(|error| error.to_string());
        if let Some(error) = problem.as_ref().filter(|_| problem != self.problem) {
            let path = self.path.display();
            warn!(%path, error, "cannot write the state file; after a restart alerts would start without their history");
        }
        // Where it failed, the next poll tries again.
        if problem.is_none() {
            self.written = active;
            self.has_news = false;
        }
        self.refresh_at = now() + REFRESH;
        self.problem = problem;
    }
}

/// Waits for a change of any; `false` where none can come any more.
async fn any_change(targets: &mut [watch::Receiver<TargetState>]) -> bool {
    let mut changes: Vec<_> = targets.iter_mut().map(|state| Box::pin(state.changed())).collect();
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
    use crate::alert::rule::TargetLabels;
    use crate::config::load::from_text;
    use crate::monitor::alerting::Alerts;

    const INTERVAL: Duration = Duration::from_secs(10);

    /// After which of 30 polls the file was written; `up` tells whether the target answers in a poll.
    async fn written(up: fn(u32) -> TargetUp) -> Vec<u32> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts.json");
        let settings = EvaluatorSettings {
            hold: Duration::from_secs(3_600),
            external_labels: [].into(),
            interval: INTERVAL,
        };
        let mut evaluator = Evaluator::new(&recommended::rules(None), TargetLabels::default(), settings);
        let (sender, state) = watch::channel(TargetState::default());
        let (all, targets) = watch::channel(Targets::from([(Arc::default(), state)]));
        let mut keeper = Keeper::new(path.clone(), targets, Handle::default());
        let polls = async {
            let mut written = Vec::new();
            for poll in 0..30 {
                evaluator.step(
                    PollReading::Failed,
                    up(poll),
                    Duration::from_secs(1_700_000_000) + poll * INTERVAL,
                );
                sender.send_replace(TargetState {
                    alerts: Alerts::of(&evaluator).await,
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
        tokio::join!(keeper.run(), polls).1
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
            let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            let alert = Alert {
                labels,
                annotations: BTreeMap::new(),
                value: 0.0,
                starts_at: saved_at - Duration::from_secs(60),
                ends_at: saved_at + Duration::from_secs(240),
                status: AlertStatus::Firing,
                notifiers: Arc::default(),
            };
            LogEntry { alert: Arc::new(alert), send_state: SendState::Sent, last_sent_at: Some(saved_at) }
        };
        let receivers = BTreeMap::from([("hook".to_owned(), vec![known("Down"), known("Gone")])]);
        let alerts = evaluator.active().alerts().collect();
        let mut saved = Saved { saved_at, alerts, receivers: Some(receivers) };
        let memory = memory(&saved, &config).unwrap();
        let [down, gone] = &memory.receivers["hook"][..] else { panic!("{memory:?}") };
        assert_eq!((memory.until, down), (saved_at, &known("Down")));
        assert_eq!((gone.alert.status, gone.send_state), (AlertStatus::Resolved, SendState::Unsent));
        assert_eq!(gone.alert.ends_at, saved_at);
        saved.receivers = None;
        assert_eq!(super::memory(&saved, &config), None);
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
