//! Evaluates the conditions of a group from its history over a window, without thresholds.
//!
//! Each rule is a function over a history, and none depends on another, so that a condition does not end because a
//! worse one begins. The model is Burrow's evaluator, with three differences: a single dip does not clear a growing
//! lag, a regular pause does not make a group look abandoned, and a lag that rises and falls without a trend is ok.

use std::time::Duration;

use crate::history::{ConsumerActivity, HistoryWindow};
use crate::report::{GroupStatus, HistoryCoverage, Status};

/// A rule that holds or not over a history.
type Rule = fn(&HistoryWindow<'_>) -> bool;

const RULES: [(Rule, Status); 6] = [
    (is_abandoned, Status::Abandoned),
    (is_losing, Status::Losing),
    (is_rewound, Status::Rewound),
    (is_stalled, Status::Stalled),
    (is_stuck, Status::Stuck),
    (is_lagging, Status::Lagging),
];

/// Returns the conditions that hold at the end of the history.
pub(super) fn evaluate(view: &HistoryWindow<'_>) -> GroupStatus {
    let conditions = RULES.into_iter().filter(|(holds, _)| holds(view)).map(|(_, condition)| condition);
    GroupStatus { conditions: conditions.collect(), coverage: coverage(view), since: None }
}

fn is_rewound(view: &HistoryWindow<'_>) -> bool {
    view.is_recent(view.history.rewound_at())
}

fn is_losing(view: &HistoryWindow<'_>) -> bool {
    view.is_recent(view.history.lost_at())
}

fn is_abandoned(view: &HistoryWindow<'_>) -> bool {
    is_not_advancing(view) && !has_active_consumer(view)
}

fn is_stalled(view: &HistoryWindow<'_>) -> bool {
    is_not_advancing(view) && has_active_consumer(view)
}

/// Returns true if entries waited throughout the window, the group did not move, and its pause has no good reason.
/// Bounds on the lag suffice, since they show that something waits. A group that is moved by XGROUP SETID counts as
/// moving.
fn is_not_advancing(view: &HistoryWindow<'_>) -> bool {
    view.is_paused() && !pauses_for_reason(view)
}

/// Returns true if a pause is one of those that the group usually makes, or if the group acknowledges: consumers that
/// are busy with their pending entries read later.
fn pauses_for_reason(view: &HistoryWindow<'_>) -> bool {
    view.is_in_rhythm() || view.is_recent(view.history.acknowledged_at())
}

/// Returns true if a consumer was active in the window, or may have been.
fn has_active_consumer(view: &HistoryWindow<'_>) -> bool {
    match view.history.activity() {
        ConsumerActivity::NoConsumers => false,
        ConsumerActivity::IdleFor(time) => !view.is_idle_long(time),
        ConsumerActivity::Unknown => true,
    }
}

/// Returns true if a pending entry was not delivered again for the window: the oldest one, or any that a census has read.
fn is_stuck(view: &HistoryWindow<'_>) -> bool {
    let is_long = |idle: Duration| view.is_long(idle) && !works_through_batch(view, idle);
    is_oldest_stuck(view) || (view.is_complete() && view.sample.longest_pending_idle.is_some_and(is_long))
}

/// Returns true if the group acknowledges, and was delivered nothing since it was delivered what has been idle for `idle`:
/// it works through that. Deliveries are seen by a later poll.
fn works_through_batch(view: &HistoryWindow<'_>, idle: Duration) -> bool {
    let delivery_age = view.history.last_delivery_age(view.sample.at);
    let was_delivered_since = delivery_age.is_some_and(|age| age + view.window / 2 < idle);
    view.is_recent(view.history.acknowledged_at()) && !was_delivered_since
}

/// The entry must be unchanged for the window by the caller's clock, and idle for the window by the server's: a claim
/// with JUSTID resets the idle time but does not count as a delivery.
fn is_oldest_stuck(view: &HistoryWindow<'_>) -> bool {
    let oldest = view.history.oldest_pending();
    oldest.is_some_and(|oldest| view.has_lasted(oldest.since.get()) && oldest.is_idle())
}

/// The lag of a batch job grows while it pauses or processes its last batch, which is no trend, also if it was behind
/// already when it read that batch.
fn is_lagging(view: &HistoryWindow<'_>) -> bool {
    let pauses_for_reason = view.is_paused_for_most() && pauses_for_reason(view);
    view.is_behind() && !pauses_for_reason && grows(&view.exact_lags().collect::<Vec<_>>(), view.added())
}

/// Tells if each condition that was not found can be ruled out. A group that is behind must also have enough exact lags
/// to see whether they grow.
fn coverage(view: &HistoryWindow<'_>) -> HistoryCoverage {
    if !view.covers_all() {
        HistoryCoverage::Partial { remaining: Some(view.remaining().into()) }
    } else if view.is_behind() && view.exact_lags().count() < MIN_LAGS {
        HistoryCoverage::Partial { remaining: None }
    } else {
        HistoryCoverage::Complete
    }
}

/// Minimum number of lags from which a trend is derived.
const MIN_LAGS: usize = 6;

/// Returns true if a lag grows, given exact lags in order of time and the number of entries added meanwhile, if known.
///
/// Rising pairs of lags must outnumber falling ones two to one (as in a Mann-Kendall test), and the median of the last
/// three must exceed the median of the first three, so that no single dip or peak decides. Random fluctuation is not
/// growth: if `added` entries arrive and are read independently, the lag rarely drifts by more than twice the square
/// root of `added`, so the growth must exceed that.
fn grows(lags: &[u64], added: Option<u64>) -> bool {
    if lags.len() < MIN_LAGS {
        return false;
    }
    let (mut rises, mut falls) = (0, 0);
    for (at, earlier) in lags.iter().enumerate() {
        for later in &lags[at + 1..] {
            rises += u32::from(later > earlier);
            falls += u32::from(later < earlier);
        }
    }
    let growth = u128::from(median(&lags[lags.len() - 3..]).saturating_sub(median(&lags[..3])));
    let random_growth_squared = 4 * u128::from(added.unwrap_or(0));
    rises >= 2 * falls && growth * growth > random_growth_squared
}

/// Returns the median of three numbers.
fn median(three: &[u64]) -> u64 {
    let mut sorted = [three[0], three[1], three[2]];
    sorted.sort_unstable();
    sorted[1]
}

#[cfg(test)]
mod tests;
