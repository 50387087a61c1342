//! What the pure code asks once it has seen the info, and what it is told.

use crate::snapshot::{ConsumerInfo, StreamInfo};
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

/// Where a stream stands in a [`Snapshot`](crate::snapshot::Snapshot).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamIndex {
    /// Position in `Snapshot::nodes`.
    pub node: usize,
    /// Position in `NodeReading::streams`.
    pub stream: usize,
}

/// A question about one stream. Each has a bound on what it may cost the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// The stream.
    pub stream: StreamIndex,
    /// Size that the reply is expected to have, in bytes.
    pub reply_bytes: u64,
    /// What is asked.
    pub kind: QuestionKind,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum QuestionKind {
    /// The pending entry with the smallest ID. Sent as `XPENDING key group - + 1`.
    OldestPending {
        /// The group.
        group: Name,
    },
    /// How many pending entries have an ID below `below`. Sent as `XPENDING key group - (below at_most`.
    PendingBelow {
        /// The group.
        group: Name,
        /// Not included.
        below: StreamId,
        /// The count stops here.
        at_most: u32,
    },
    /// The consumers of a group. Sent as `XINFO CONSUMERS key group`.
    Consumers {
        /// The group.
        group: Name,
    },
    /// The entries with IDs above `after`, up to and including `until`. Asked by
    /// `XRANGE key (after until COUNT at_most`.
    Entries {
        /// Not included.
        after: StreamId,
        /// Included.
        until: StreamId,
        /// No more than these, from the smallest ID up.
        at_most: u32,
    },
    /// The stream and its groups in one atomic reading. Sent as `XINFO STREAM key FULL COUNT 1`.
    FullStream,
}

/// What was said to a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The reply to [`QuestionKind::OldestPending`]; `None` if nothing is pending.
    OldestPending(Option<PendingEntry>),
    /// The reply to [`QuestionKind::PendingBelow`].
    PendingBelow(u32),
    /// The reply to [`QuestionKind::Consumers`].
    Consumers(Vec<ConsumerInfo>),
    /// The reply to [`QuestionKind::Entries`].
    Entries(Entries),
    /// The reply to [`QuestionKind::FullStream`]. It does not tell the last entry: that is there only where it has to be, at
    /// last-generated-id. Of the groups it tells where they stand and what they have read.
    FullStream(Box<StreamInfo>),
    /// The stream or the group is not there any more.
    Gone,
    /// Nothing: refused, unreadable or cut off by the deadline.
    Unavailable,
}

/// A pending entry as XPENDING showed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PendingEntry {
    /// ID of the entry.
    pub id: StreamId,
    /// Milliseconds since it was last delivered; `None` if it was given back and waits for a new reader.
    pub idle_ms: Option<u64>,
    /// How often it was delivered.
    pub deliveries: u64,
}

/// A run of entries as XRANGE showed them, without their payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entries {
    /// How many.
    pub count: u32,
    /// Smallest and largest ID among them; `None` if there are none.
    pub ends: Option<(StreamId, StreamId)>,
}
