//! Targets as readers see them: what pages and JSON are made of.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::alert::rule::TargetLabels;
use crate::api::groups::Seen;
use crate::config;
use crate::monitor::state::State;

/// A target that is watched: what it is called, and where its state is published.
pub(super) type Watched = (Arc<TargetLabels>, watch::Receiver<State>);

/// What a target is called.
pub(super) fn labels(target: &config::Target) -> TargetLabels {
    TargetLabels {
        name: target.name.clone(),
        db: format!("db{}", target.db),
        configured: target.labels.clone(),
    }
}

/// The targets as they are now.
pub(super) fn seen(targets: &[Watched], now: Instant) -> Vec<Seen> {
    targets.iter().map(|(labels, state)| of(labels, &state.borrow(), now)).collect()
}

/// A target in this state; a report that is too old is none, as on `/metrics`.
pub(super) fn of(labels: &Arc<TargetLabels>, state: &State, now: Instant) -> Seen {
    Seen {
        labels: Arc::clone(labels),
        is_up: state.is_up,
        last_read: state.last_read,
        error: state.problem.clone(),
        report: state.fresh(now).map(|published| Arc::clone(&published.report)),
    }
}
