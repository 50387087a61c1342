//! Limits the cost of one poll of one target: the entries read to count lags, and the bytes of their payload.

use std::time::Duration;

/// Maximum expected size of one reply: replies wait in the server's output buffers, which count towards its memory
/// limit.
const MAX_REPLY_BYTES: u64 = 256 * 1024;
/// Maximum number of entries that one command reads, which takes about 0.2 ms of the server's time.
const MAX_CHUNK: u32 = 1_000;

/// The remaining budget of a poll. XRANGE is the only command that returns IDs of undelivered entries, and it returns
/// their payload too, so both are limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Number of entries that may still be read to count lags.
    pub entries: u32,
    /// Number of entries that may still be read to verify earlier counts.
    pub audit_entries: u32,
    /// Age at which a count is due to be verified.
    pub audit_period: Duration,
    /// Number of payload bytes that may still be read.
    pub payload_bytes: u64,
    /// Time after which the memory of a stream is asked for again; `None` for never.
    pub memory_interval: Option<Duration>,
    /// Upper bound on the time from a node's reply to TIME to its last reply of the poll.
    pub timeout: Duration,
}

impl Budget {
    /// Returns true if no entry may be read any more to count lags.
    pub(crate) fn is_spent(&self) -> bool {
        self.entries == 0 || self.payload_bytes == 0
    }

    /// Takes the entries that the next command may read to count lags: at most `wanted`, each of `entry_bytes`. Returns
    /// their number, or `None` if the budget is used up.
    pub fn take_chunk(&mut self, wanted: u32, entry_bytes: u64) -> Option<u32> {
        let chunk = self.take(wanted.min(self.entries), entry_bytes)?;
        self.entries -= chunk;
        Some(chunk)
    }

    /// Like [`take_chunk`](Self::take_chunk), to verify earlier counts.
    pub fn take_audit(&mut self, wanted: u32, entry_bytes: u64) -> Option<u32> {
        let chunk = self.take(wanted.min(self.audit_entries), entry_bytes)?;
        self.audit_entries -= chunk;
        Some(chunk)
    }

    fn take(&mut self, wanted: u32, entry_bytes: u64) -> Option<u32> {
        let entry_bytes = entry_bytes.max(1);
        let fits = |bytes: u64| u32::try_from(bytes / entry_bytes).unwrap_or(u32::MAX);
        if self.payload_bytes == 0 {
            return None;
        }
        let chunk =
            wanted.min(MAX_CHUNK).min(fits(MAX_REPLY_BYTES).max(1)).min(fits(self.payload_bytes).max(1));
        if chunk == 0 {
            return None;
        }
        self.payload_bytes = self.payload_bytes.saturating_sub(u64::from(chunk) * entry_bytes);
        Some(chunk)
    }

    /// Takes one entry that is read for its ID rather than to be counted. Returns false if no payload bytes were left.
    pub fn take_one(&mut self, entry_bytes: u64) -> bool {
        let granted = self.payload_bytes > 0;
        self.payload_bytes = self.payload_bytes.saturating_sub(entry_bytes);
        granted
    }

    /// Returns entries to the budget that were taken by [`take_chunk`](Self::take_chunk) and turned out not to exist.
    pub fn give_back(&mut self, entries: u32, entry_bytes: u64) {
        self.entries += entries;
        self.payload_bytes += u64::from(entries) * entry_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Budget = Budget {
        entries: 0,
        audit_entries: 0,
        audit_period: Duration::ZERO,
        payload_bytes: 0,
        memory_interval: None,
        timeout: Duration::ZERO,
    };

    #[test]
    fn a_chunk_is_bounded_by_each_limit() {
        let plenty = Budget { entries: 20_000, payload_bytes: 16 << 20, ..NOTHING };
        for (budget, wanted, entry_bytes, expected) in [
            (plenty, 100_000, 100, Some(1_000)),
            (plenty, 10, 100, Some(10)),
            (plenty, 100_000, 100_000, Some(2)),
            (plenty, 100_000, 1 << 20, Some(1)),
            (plenty, 100_000, 0, Some(1_000)),
            (Budget { entries: 7, ..plenty }, 100_000, 100, Some(7)),
            (Budget { entries: 0, ..plenty }, 100_000, 100, None),
            (Budget { payload_bytes: 500, ..plenty }, 100_000, 100, Some(5)),
            (Budget { payload_bytes: 50, ..plenty }, 100_000, 100, Some(1)),
            (Budget { payload_bytes: 0, ..plenty }, 100_000, 100, None),
        ] {
            let mut budget = budget;
            assert_eq!(budget.take_chunk(wanted, entry_bytes), expected, "{wanted} of {entry_bytes}");
        }
    }

    #[test]
    fn entries_taken_and_not_read_are_given_back() {
        let mut budget = Budget { entries: 1_500, payload_bytes: 1 << 20, ..NOTHING };
        let before = budget;
        assert_eq!(budget.take_chunk(u32::MAX, 100), Some(1_000));
        assert_eq!(budget, Budget { entries: 500, payload_bytes: (1 << 20) - 100_000, ..before });
        budget.give_back(1_000, 100);
        assert_eq!(budget, before);
    }
}
