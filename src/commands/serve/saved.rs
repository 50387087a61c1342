//! Keeps the alerts of all targets in the state file: reads it at the start, and writes it whenever something but a
//! value has changed, and each minute while there is anything, so that its age says how old it is.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::select_all;
use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use crate::alert::active::Active;
use crate::clock::unix_time;
use crate::state_file::{self, Saved};
use crate::target::State;

/// Changes within this time are written at once.
const GATHERING: Duration = Duration::from_millis(100);
/// The file is written anew after this time.
const REFRESH: Duration = Duration::from_secs(60);

/// What the file holds; nothing where it cannot be used, which is logged.
pub(super) fn load(path: &Path) -> Option<Saved> {
    match state_file::load(path, unix_time()) {
        Ok(saved) => {
            let alerts = saved.as_ref().map_or(0, |saved| saved.alerts.len());
            info!(path = %path.display(), alerts, "alerts are taken up from the state file");
            saved
        }
        Err(error) => {
            warn!(%error, "the state file is ignored; all alerts begin anew");
            None
        }
    }
}

/// Writes the file as alerts change.
pub(super) struct Keeper {
    path: PathBuf,
    targets: Vec<watch::Receiver<State>>,
    written: Vec<Arc<Active>>,
    /// What went wrong last; logged when it changes.
    problem: Option<String>,
}

impl Keeper {
    pub(super) fn new(path: PathBuf, targets: Vec<watch::Receiver<State>>) -> Self {
        let written = targets.iter().map(|_| Arc::default()).collect();
        Self { path, targets, written, problem: None }
    }

    /// Runs until every target has ended.
    pub(super) async fn run(&mut self) {
        loop {
            let is_refreshing = tokio::select! {
                is_there = any_change(&mut self.targets) => {
                    if !is_there {
                        return;
                    }
                    sleep(GATHERING).await;
                    false
                }
                () = sleep(REFRESH) => true,
            };
            let active = self.active();
            let is_same = |(one, other): (&Arc<Active>, &Arc<Active>)| one.is_same_but_for_values(other);
            let is_dated = is_refreshing && active.iter().any(|active| !active.is_empty());
            if is_dated || !active.iter().zip(&self.written).all(is_same) {
                self.write(active).await;
            }
        }
    }

    /// Writes what there is now.
    pub(super) async fn write_at_last(&mut self) {
        let active = self.active();
        self.write(active).await;
    }

    fn active(&self) -> Vec<Arc<Active>> {
        self.targets.iter().map(|state| Arc::clone(&state.borrow().alerts.active)).collect()
    }

    async fn write(&mut self, active: Vec<Arc<Active>>) {
        let (path, writing) = (self.path.clone(), active.clone());
        let save = move || {
            let alerts = writing.iter().flat_map(|active| active.alerts());
            state_file::save(&path, unix_time(), alerts)
        };
        // It fails only while the runtime shuts down.
        let Ok(saved) = tokio::task::spawn_blocking(save).await else { return };
        let problem = saved.err().map(|error| error.to_string());
        if let Some(error) = problem.as_ref().filter(|_| problem != self.problem) {
            let path = self.path.display();
            warn!(%path, error, "cannot write the state file; alerts would begin anew after a restart");
        }
        if problem.is_none() {
            self.written = active;
        }
        self.problem = problem;
    }
}

/// Waits for a change of any; `false` where none can come any more.
async fn any_change(targets: &mut [watch::Receiver<State>]) -> bool {
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
