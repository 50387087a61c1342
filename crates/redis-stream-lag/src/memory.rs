//! Asks for the memory that streams take, at a slow pace.
//!
//! MEMORY USAGE walks all groups and consumers of a stream on Redis up to 8.2, however few samples it takes. So the
//! lines of a poll are bounded, and a stream with more of them than that is not asked.

use std::time::Duration;

use crate::snapshot::StreamInfo;

/// Number of nodes of entries, and on Valkey of groups and consumers, whose size the server takes the average of.
pub const MEMORY_SAMPLES: u32 = 100;
/// Number of groups, consumers and samples that the commands of one poll may walk: 1 ms of the server's time at most.
pub(crate) const LINES_PER_POLL: u64 = if cfg!(test) { 110 } else { 5_000 };

/// The memory of one stream.
#[derive(Debug, Default)]
pub(crate) struct StreamMemory {
    /// Time of the poll that asked last, by the caller's clock.
    asked_at: Option<Duration>,
    /// The answer, if it was one.
    bytes: Option<u64>,
}

impl StreamMemory {
    /// Returns the cost of asking, unless it is too early or the cost would be too high: then the value is dropped.
    pub(crate) fn cost(&mut self, info: &StreamInfo, at: Duration, interval: Duration) -> Option<u64> {
        let lines =
            info.group_count.saturating_add(info.consumer_count).saturating_add(MEMORY_SAMPLES.into());
        if lines > LINES_PER_POLL {
            *self = Self::default();
            return None;
        }
        let is_due = self.asked_at.is_none_or(|asked| at.saturating_sub(asked) >= interval);
        is_due.then_some(lines)
    }

    /// Returns the time of the last question.
    pub(crate) fn asked_at(&self) -> Option<Duration> {
        self.asked_at
    }

    /// Notes that the stream is asked for at `at`.
    pub(crate) fn note_asked(&mut self, at: Duration) {
        self.asked_at = Some(at);
    }

    /// Notes the answer; `None` if there was none, such as from a server that refuses the command.
    pub(crate) fn note(&mut self, bytes: Option<u64>) {
        self.bytes = bytes;
    }

    /// Notes that there was no answer in time, so that the stream is asked for first in the next poll.
    pub(crate) fn note_late(&mut self) {
        self.asked_at = None;
    }

    /// Returns the last answer.
    pub(crate) fn bytes(&self) -> Option<u64> {
        self.bytes
    }
}
