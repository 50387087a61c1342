//! Whether each poll came on time, from what the program logged of it: the line of a poll has the time of its end, and
//! how long it took.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use crate::journal::Window;
use crate::setup::{INTERVAL, TIMEOUT};

/// A poll that begins so much later, or earlier, than an interval after the one before is not on time.
const TOLERANCE: Duration = Duration::from_millis(250);

/// A poll. Times are since the Unix epoch.
struct Poll {
    began: Duration,
    ended: Duration,
    result: String,
}

/// Punctuality of the polls of all targets.
#[derive(Debug, Default)]
pub(crate) struct Punctuality {
    /// Polls while nothing was done to their target.
    pub(crate) calm: usize,
    /// Of those, those that were late, came too early, were cut off, or failed.
    pub(crate) spoiled: Vec<String>,
    /// Of those, those that came so late that another was left out.
    pub(crate) missed: Vec<String>,
    /// By how much the worst of them was late, or early.
    pub(crate) worst: Duration,
    /// Polls while something was.
    pub(crate) troubled: usize,
    /// The longest time from one of those to the next.
    pub(crate) longest_gap: Duration,
}

/// The longest time that may pass from one poll to the next, whatever happens: an interval, a poll that waits for the
/// whole time-out twice, to connect and to read, and a rest.
pub(crate) const LONGEST_GAP: Duration =
    INTERVAL.saturating_add(TIMEOUT.saturating_mul(2)).saturating_add(Duration::from_millis(900));

impl Punctuality {
    /// Of the polls of these targets, with the times in which something was done to them.
    pub(crate) fn of(log: &str, targets: &[String], excused: &[Window], stalls: &[Window]) -> Self {
        let mut all = Self::default();
        let polls = read(log);
        for target in targets {
            // The second follows the first, which comes at once, as soon as chance has it.
            for pair in polls[target][1..].windows(2) {
                all.add(target, &pair[0], &pair[1], excused, stalls);
            }
        }
        all
    }

    fn add(&mut self, target: &str, before: &Poll, poll: &Poll, excused: &[Window], stalls: &[Window]) {
        let touches = |window: &Window| window.touches(target, before.began, poll.ended);
        if stalls.iter().any(touches) {
            return;
        }
        let gap = poll.began.saturating_sub(before.began);
        if excused.iter().any(touches) {
            self.troubled += 1;
            self.longest_gap = self.longest_gap.max(gap);
            return;
        }
        self.calm += 1;
        let off_by = gap.abs_diff(INTERVAL);
        self.worst = self.worst.max(off_by);
        let at = humantime::format_rfc3339_millis(UNIX_EPOCH + poll.began);
        let result = &poll.result;
        let told = || format!("{target} at {at}, {gap:?} after the one before: {result}");
        if off_by > TOLERANCE || result != "ok" {
            self.spoiled.push(told());
        }
        if gap > 2 * INTERVAL - TOLERANCE {
            self.missed.push(told());
        }
    }

    /// Maximum number of polls without a fault that may be late, since the machine is shared: one in a hundred, or as many
    /// as one moment spoils, in which polls of all targets are late, and the next seem early.
    pub(crate) fn tolerated(&self, targets: usize) -> usize {
        (self.calm / 100).max(2 * targets)
    }
}

fn read(log: &str) -> BTreeMap<String, Vec<Poll>> {
    let mut polls = BTreeMap::<_, Vec<_>>::new();
    for line in log.lines().filter(|line| line.contains(": polled target_name=")) {
        let (target, poll) = poll(line).unwrap_or_else(|| panic!("{line:?} tells of no poll"));
        polls.entry(target).or_default().push(poll);
    }
    polls
}

/// `TIME DEBUG streamgauge::monitor: polled target_name=t result="ok" elapsed_ms=3 unchanged_streams=0`
fn poll(line: &str) -> Option<(String, Poll)> {
    let time = humantime::parse_rfc3339(line.split(' ').next()?).ok()?;
    let ended = time.duration_since(UNIX_EPOCH).ok()?;
    let (_, told) = line.split_once("target_name=")?;
    let (target, told) = told.split_once(" result=\"")?;
    let (result, took) = told.split_once("\" elapsed_ms=")?;
    let took = took.split(' ').next()?;
    let took = Duration::from_millis(took.trim().parse().ok()?);
    Some((target.to_owned(), Poll { began: ended.saturating_sub(took), ended, result: result.to_owned() }))
}
