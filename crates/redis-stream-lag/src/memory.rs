//! Asks for the memory that streams take, at a slow pace.
//!
//! MEMORY USAGE walks all groups and consumers of a stream on Redis up to 8.2, however few samples it takes. So the
//! lines of a poll are bounded, and a stream with more of them than that is not asked.

use crate::snapshot::StreamInfo;

/// Number of nodes of entries, and on Valkey of groups and consumers, whose size the server takes the average of.
pub const MEMORY_SAMPLES: u32 = 100;
/// Number of groups, consumers and samples that the commands of one poll may walk: 1 ms of the server's time at most.
pub(crate) const LINES_PER_POLL: u64 = if cfg!(test) { 110 } else { 5_000 };

/// Returns the number of lines that the server may walk for a stream; `None` if it is too high to ask.
pub(crate) fn lines(info: &StreamInfo) -> Option<u64> {
    let lines = info.group_count.saturating_add(info.consumer_count).saturating_add(MEMORY_SAMPLES.into());
    Some(lines).filter(|lines| *lines <= LINES_PER_POLL)
}
