//! Questions that a [`Derivation`](crate::derivation::Derivation) asks, and the answers that it takes.

use crate::snapshot::{ConsumerInfo, GroupInfo, StreamInfo};
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

/// Expected size of one pending entry, consumer or group in a reply, in bytes.
pub(crate) const LINE_BYTES: u64 = 150;

/// A question about one stream, to be sent as one command. Its cost to the server is bounded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The node that the stream was read from, by the number that
    /// [`PollReadings::add_node`](crate::poll_readings::PollReadings::add_node) returned.
    pub node: usize,
    /// Key of the stream.
    pub key: Name,
    /// Expected size of the reply, in bytes, so that the caller can bound what is in flight.
    pub reply_bytes: u64,
    /// The command and its arguments.
    pub kind: QuestionKind,
}

/// The command and arguments of a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuestionKind {
    /// The pending entry with the smallest ID. Sent as `XPENDING key group - + 1`.
    OldestPending {
        /// The group.
        group: Name,
    },
    /// The number of pending entries with an ID below `below`. Sent as `XPENDING key group - (below at_most`.
    PendingBelow {
        /// The group.
        group: Name,
        /// Upper end of the range, exclusive.
        below: StreamId,
        /// Maximum number of entries to count.
        at_most: u32,
    },
    /// The IDs of pending entries from `from` to `until`, both inclusive. Sent as
    /// `XPENDING key group from until at_most`.
    PendingIds {
        /// The group.
        group: Name,
        /// Lower end of the range.
        from: StreamId,
        /// Upper end of the range.
        until: StreamId,
        /// Maximum number of entries to list.
        at_most: u32,
    },
    /// A page of the pending entries, with their consumers. Sent as `XPENDING key group (after + at_most`, or from `-` on.
    PendingPage {
        /// The group.
        group: Name,
        /// Lower end of the range, exclusive; `None` for the first page.
        after: Option<StreamId>,
        /// Maximum number of entries to list.
        at_most: u32,
    },
    /// The consumers of a group. Sent as `XINFO CONSUMERS key group`.
    Consumers {
        /// The group.
        group: Name,
    },
    /// The entries with IDs above `after`, up to and including `until`. Sent as
    /// `XRANGE key (after until COUNT at_most`.
    Entries {
        /// Lower end of the range, exclusive.
        after: StreamId,
        /// Upper end of the range, inclusive.
        until: StreamId,
        /// Maximum number of entries to read, from the smallest ID up.
        at_most: u32,
    },
    /// One entry, if it is in the stream. Sent as `XRANGE key id id`.
    Entry {
        /// ID of the entry.
        id: StreamId,
    },
    /// The stream and its groups, read atomically. Sent as `XINFO STREAM key FULL COUNT 1`.
    FullStream,
    /// The groups of the stream. Sent as `XINFO GROUPS key`.
    Groups,
    /// The memory that the stream takes. Sent as `MEMORY USAGE key SAMPLES samples`.
    Memory {
        /// Number of nodes whose size is measured; the others are taken to be as large on average.
        samples: u32,
    },
}

/// The reply to a [`Question`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The reply to [`QuestionKind::OldestPending`]: the entry with the name of its consumer, which is empty if it was
    /// released by XNACK; `None` if no entry is pending.
    OldestPending(Option<(PendingEntry, Name)>),
    /// The reply to [`QuestionKind::PendingBelow`].
    PendingBelow(u32),
    /// The reply to [`QuestionKind::PendingIds`], in ascending order.
    PendingIds(Vec<StreamId>),
    /// The reply to [`QuestionKind::PendingPage`]: entries with the names of their consumers, in ascending order. The
    /// name is empty for an entry that was released by XNACK.
    PendingPage(Vec<(PendingEntry, Name)>),
    /// The reply to [`QuestionKind::Consumers`].
    Consumers(Vec<ConsumerInfo>),
    /// The reply to [`QuestionKind::Entries`], and to [`QuestionKind::Entry`].
    Entries(EntryRange),
    /// The reply to [`QuestionKind::FullStream`]. The server leaves the last entry out of it: set `last` to
    /// last-generated-id unless the stream is empty. Only `last_delivered` and `entries_read` of its groups are used.
    FullStream(Box<StreamInfo>),
    /// The reply to [`QuestionKind::Groups`]. Only `last_delivered` is used.
    Groups(Vec<GroupInfo>),
    /// The reply to [`QuestionKind::Memory`], in bytes.
    Memory(u64),
    /// The stream or the group no longer exists.
    Gone,
    /// No usable reply: denied or malformed.
    Unavailable,
    /// No reply before the poll's time was over. The stream keeps its values from the previous report.
    Late,
}

/// The number of deliveries of an entry that XNACK FATAL marked as failed, so that it exceeds every limit. The real
/// number is lost.
pub const FATAL_DELIVERIES: u64 = i64::MAX.unsigned_abs();

/// A pending entry in a reply to XPENDING.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingEntry {
    /// ID of the entry.
    pub id: StreamId,
    /// Milliseconds since it was last delivered; `None` if it was released by XNACK and belongs to no consumer.
    pub idle_ms: Option<u64>,
    /// Number of deliveries, or [`FATAL_DELIVERIES`].
    pub deliveries: u64,
}

impl PendingEntry {
    /// Returns true if XNACK FATAL marked it as failed.
    #[must_use]
    pub fn is_failed(&self) -> bool {
        is_fatal(self.deliveries)
    }
}

/// Returns true for a number of deliveries that XNACK FATAL left. A later XNACK SILENT takes one off it.
#[must_use]
pub fn is_fatal(deliveries: u64) -> bool {
    deliveries > FATAL_DELIVERIES / 2
}

/// A reply to XRANGE, without the payload of its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EntryRange {
    /// Number of entries.
    pub count: u32,
    /// Smallest and largest ID; `None` if there are no entries.
    pub ends: Option<(StreamId, StreamId)>,
}
