//! What is wrong with a group, in one word, from its history over a window; no thresholds to set.
//!
//! Each rule is one function over a history; `evaluate` orders them. The precedent is Burrow's evaluator, with
//! these differences: one dip does not clear a growing lag, how long it takes to see that a group is dead does
//! not depend on what it did before, and a lag that comes and goes is nobody's concern.

use std::time::Duration;

use crate::history::{ConsumerActivity, HistoryWindow};
use crate::report::Status;

/// Whether a status holds.
type Rule = fn(&HistoryWindow<'_>) -> bool;

/// The status of a group: the first of the rules that holds, in the order of [`Status::ALL`].
pub(super) fn evaluate(view: &HistoryWindow<'_>) -> Status {
    let rules: [(Rule, Status); 7] = [
        // What somebody did to the group explains all that follows from it: a group that was set back is behind.
        (is_rewound, Status::Rewound),
        // What is being lost cannot be made up for later, whatever the reason is.
        (is_losing, Status::Losing),
        // Nothing moves. Without anybody to read, that is why; else it is to be looked for in the consumers.
        (is_abandoned, Status::Abandoned),
        (is_stalled, Status::Stalled),
        // The group moves. One entry that nobody finishes is worse than being late with all of them.
        (is_stuck, Status::Stuck),
        (is_lagging, Status::Lagging),
        // All is well only where a whole window says so.
        (is_unknown, Status::Unknown),
    ];
    rules.into_iter().find(|(holds, _)| holds(view)).map_or(Status::Ok, |(_, status)| status)
}

fn is_rewound(view: &HistoryWindow<'_>) -> bool {
    view.is_recent(view.history.rewound_at)
}

fn is_losing(view: &HistoryWindow<'_>) -> bool {
    view.is_recent(view.history.lost_at)
}

fn is_abandoned(view: &HistoryWindow<'_>) -> bool {
    is_not_advancing(view)
        && match view.history.activity {
            ConsumerActivity::NoConsumers => true,
            ConsumerActivity::IdleFor(time) => {
                view.is_long(time) && !view.is_recent(view.history.clock_jumped_at)
            }
            ConsumerActivity::Unknown => false,
        }
}

fn is_stalled(view: &HistoryWindow<'_>) -> bool {
    is_not_advancing(view) && view.history.activity != ConsumerActivity::NoConsumers
}

/// Whether entries waited all the time and the group did not move. A lag of which only bounds are known is as
/// good as any: that something waits is certain. A group that is moved by XGROUP SETID moves.
fn is_not_advancing(view: &HistoryWindow<'_>) -> bool {
    view.history.waiting_since.is_some_and(|since| view.has_lasted(since))
}

/// By the exporter's clock it has been the same entry, delivered as often; by the server's, nobody claimed it.
fn is_stuck(view: &HistoryWindow<'_>) -> bool {
    view.history.oldest_pending.is_some_and(|held| {
        let idle = held.entry.idle_ms.map(Duration::from_millis);
        view.has_lasted(held.since) && idle.is_none_or(|idle| view.is_long(idle))
    })
}

fn is_lagging(view: &HistoryWindow<'_>) -> bool {
    view.is_behind() && grows(&view.exact_lags().collect::<Vec<_>>(), view.added())
}

/// A group that is behind, and whose lag was not known often enough to see whether it grows, may be anything.
fn is_unknown(view: &HistoryWindow<'_>) -> bool {
    !view.is_whole() || (view.is_behind() && view.exact_lags().count() < LEAST_LAGS)
}

/// Least number of lags that show whether a lag grows.
const LEAST_LAGS: usize = 6;

/// Whether a lag grows: exact lags in the order of time, while `added` entries were added, if that is known.
///
/// Of all pairs of them most must increase, and its end must lie above its beginning, each taken as the median one of
/// three: so neither a dip nor a peak decides, wherever it is. What comes and goes by chance does not grow: of so
/// many entries that are added and read independently of each other, the lag is seldom off by twice the root of
/// their number.
fn grows(lags: &[u64], added: Option<u64>) -> bool {
    if lags.len() < LEAST_LAGS {
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
    let by_chance = 4 * u128::from(added.unwrap_or(0));
    rises >= 2 * falls && growth * growth > by_chance
}

/// The median one of three numbers, by their size.
fn median(three: &[u64]) -> u64 {
    let mut sorted = [three[0], three[1], three[2]];
    sorted.sort_unstable();
    sorted[1]
}

#[cfg(test)]
mod tests;
