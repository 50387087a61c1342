//! Asks for the memory that streams take, at a slow pace.
//!
//! On Redis up to 8.2, MEMORY USAGE walks all groups and consumers of a stream, whatever the number of samples. So
//! the number of groups and consumers that one poll may ask about is bounded, and a stream with more of them is never
//! asked about.

use std::time::Duration;

use crate::seldom::SeldomAsked;
use crate::snapshot::StreamInfo;

/// Number of nodes of entries, and on Valkey of groups and consumers, whose size the server takes the average of.
pub const MEMORY_SAMPLES: u32 = 100;
/// Number of groups, consumers and samples that the commands of one poll may walk: 1 ms of the server's time at most.
pub(crate) const LINES_PER_POLL: u64 = if cfg!(test) { 110 } else { 5_000 };

/// Returns the number of streams that one poll asks about at most.
pub(crate) fn streams_per_poll() -> usize {
    usize::try_from(LINES_PER_POLL / u64::from(MEMORY_SAMPLES)).unwrap_or(usize::MAX)
}

/// Returns the number of lines that the server may walk for a stream that is due to be asked about: `interval` after it
/// was asked about last. Forgets what was known of one that has too many lines by now.
pub(crate) fn lines_due(
    known: &mut SeldomAsked<u64>,
    info: &StreamInfo,
    at: Duration,
    interval: Duration,
) -> Option<u64> {
    let lines = lines(info);
    if lines.is_none() {
        *known = SeldomAsked::default();
    }
    lines.filter(|_| known.is_due(at, interval))
}

/// Returns the number of lines that the server may walk for a stream; `None` if it is too high to ask.
fn lines(info: &StreamInfo) -> Option<u64> {
    let lines = info.group_count.saturating_add(info.consumer_count).saturating_add(MEMORY_SAMPLES.into());
    Some(lines).filter(|lines| *lines <= LINES_PER_POLL)
}
