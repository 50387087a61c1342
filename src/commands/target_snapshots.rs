//! Snapshots of the targets for the pages and the JSON API.

use std::sync::Arc;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::alert::rule::TargetLabels;
use crate::api::groups::TargetSnapshot;
use crate::monitor::published::TargetState;

/// A target's labels and its published state.
pub(super) type TargetHandle = (Arc<TargetLabels>, watch::Receiver<TargetState>);

/// Returns the targets as of now.
pub(super) fn target_snapshots(targets: &[TargetHandle], now: Instant) -> Vec<TargetSnapshot> {
    targets.iter().map(|(labels, state)| target_snapshot(labels, &state.borrow(), now)).collect()
}

/// Returns a target in this state. A report that is too old is left out, as on `/metrics`.
pub(super) fn target_snapshot(
    labels: &Arc<TargetLabels>,
    state: &TargetState,
    now: Instant,
) -> TargetSnapshot {
    TargetSnapshot {
        labels: Arc::clone(labels),
        is_up: state.is_up,
        last_read: state.last_read,
        error: state.problem.clone(),
        report: state.fresh(now).map(|published| Arc::clone(&published.report)),
        redis_cli: Arc::clone(&state.redis_cli),
    }
}
