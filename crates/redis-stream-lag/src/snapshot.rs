//! The input of one poll: the replies to XINFO GROUPS and XINFO STREAM for each stream.

use std::time::Duration;

use crate::compact::Count;
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

/// Identifies one unbroken connection to one node; the caller uses a new number for each connection.
///
/// Nothing that was counted on one connection is reused on another, since the new connection may lead to another
/// server, or to the same server restarted from an older RDB file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

/// The replies of all nodes of one target in one poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// One reading per node. A stream whose node is unreachable may be in any of them.
    pub nodes: Vec<NodeReading>,
}

/// The replies of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReading {
    /// The node.
    pub node: NodeInfo,
    /// The streams that this node is read for, sorted by key.
    pub streams: Vec<StreamReading>,
}

/// What is known of a node that streams are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeInfo {
    /// The connection that the replies arrived on.
    pub epoch: Epoch,
    /// The meaning of its groups' entries-read.
    pub entries_read: EntriesReadMeaning,
    /// True if the server has XTRIM and XADD with ACKED (Redis 8.2), or its version is unknown. Such a trim removes
    /// entries above the first one too, and changes no counter but the length.
    pub has_acked_trimming: bool,
    /// True if the server certainly has XNACK (Redis 8.8), which releases pending entries from their consumers.
    pub has_xnack: bool,
    /// Limit of the consumers that are reported of each group.
    pub consumer_limit: ConsumerLimit,
}

/// The meaning of entries-read, which depends on the server's version.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EntriesReadMeaning {
    /// A counter of deliveries: before Redis 8.0 and Valkey 8.1, and where the version is unknown. Once trimming has
    /// overtaken the group, it stays below the rank of last-delivered-id.
    #[default]
    Deliveries,
    /// The rank of last-delivered-id among all entries ever added, if it is known: the server corrects it whenever it
    /// delivers entries to a group that trimming had overtaken.
    Rank,
}

/// The outcome of reading one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamReading {
    /// Key of the stream.
    pub key: Name,
    /// The family that it belongs to, for its report.
    pub family: Option<Name>,
    /// The stream's info, or why there is none.
    pub outcome: ReadOutcome,
    /// Groups that the caller asked for by name and that the stream does not have.
    pub missing_groups: Box<[Name]>,
    /// Length of the history that the [status](crate::report::Status) of its groups is derived from.
    pub window: Duration,
}

/// Limit of the consumers that are reported of a group. Only live consumers count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerLimit {
    /// Maximum number of consumers.
    pub at_most: usize,
    /// Idle time up to which a consumer without pending entries is live.
    pub max_idle: Duration,
}

impl ConsumerLimit {
    /// Returns true if a consumer has pending entries or is idle for a short time only.
    #[must_use]
    pub fn is_live(&self, consumer: &ConsumerInfo) -> bool {
        consumer.pending > 0 || Duration::from_millis(consumer.idle_ms) <= self.max_idle
    }

    /// Returns the number of live consumers that are not reported: all of them if they exceed the limit, otherwise 0.
    #[must_use]
    pub fn left_out(&self, consumers: &[ConsumerInfo]) -> usize {
        let live = consumers.iter().filter(|consumer| self.is_live(consumer)).count();
        if live > self.at_most { live } else { 0 }
    }
}

/// The outcome of reading a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// The stream was read.
    Read(Box<StreamInfo>),
    /// The stream was read, and the replies equal those of the reading before, apart from ages, which have grown by
    /// the time in between. Allowed only where the stream is
    /// [settled](crate::poll_readings::PollReadings::settled). The values of the previous report stay valid, and ages
    /// grow.
    Unchanged {
        /// The node's clock just before the stream was read, since the Unix epoch.
        time: Duration,
    },
    /// The key does not exist.
    Missing,
    /// The key holds a value of another type.
    WrongType,
    /// The server replied with another error for this key, such as NOPERM.
    Refused,
    /// No node that serves the key can be reached.
    Unreachable,
    /// The stream was not read in this poll, because its budget or deadline was used up first. The values of the
    /// previous report stay valid.
    Deferred,
}

impl StreamInfo {
    /// Returns true if each of the stream's groups was read.
    pub(crate) fn has_all_groups(&self) -> bool {
        self.group_count == self.groups.len() as u64
    }

    /// Returns the number of entries ever added up to the last of those that are all gone. `None` before server 7.0, and if
    /// entries above the first one were deleted.
    pub(crate) fn removed_to(&self) -> Option<u64> {
        let is_intact = self.first.is_none_or(|first| self.max_deleted < Some(first));
        self.entries_added?.checked_sub(self.length).filter(|_| is_intact)
    }
}

#[cfg(test)]
impl StreamInfo {
    /// Returns a stream of this length without groups, from whose IDs the last was generated.
    pub(crate) fn of_ids(
        length: u64,
        first: Option<StreamId>,
        last: Option<StreamId>,
        generated: StreamId,
    ) -> Self {
        Self {
            time: Duration::ZERO,
            length,
            first,
            last,
            last_generated: generated,
            entries_added: None,
            max_deleted: None,
            group_count: 0,
            consumer_count: 0,
            entry_bytes: 100,
            radix_tree: RadixTree::default(),
            idmp: None,
            groups: Box::default(),
        }
    }
}

/// A reply to XINFO STREAM, with its groups from a reply to XINFO GROUPS sent **just before** it.
///
/// The order matters, since other clients run between the two commands. An entry that is delivered in between is
/// counted as undelivered, as it was at the first reply. In the other order, a group could be read past the end of
/// the stream that it is compared with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// The node's clock just before the stream was read, since the Unix epoch. Source: TIME.
    pub time: Duration,
    /// Number of entries in the stream.
    pub length: u64,
    /// ID of the first entry; `None` if the stream is empty.
    pub first: Option<StreamId>,
    /// ID of the last entry; `None` if the stream is empty.
    pub last: Option<StreamId>,
    /// last-generated-id: the largest ID ever added.
    pub last_generated: StreamId,
    /// entries-added: the number of entries ever added. `None` before server 7.0.
    pub entries_added: Option<u64>,
    /// max-deleted-entry-id: the largest ID removed by XDEL, `0-0` if there is none. Trimming does not change it.
    /// `None` before server 7.0.
    pub max_deleted: Option<StreamId>,
    /// Number of consumer groups of the stream, including those not listed in `groups`.
    pub group_count: u64,
    /// Number of consumers of all its groups, including those not listed in `groups`.
    pub consumer_count: u64,
    /// Estimated size of an entry in a reply, in bytes: the larger of the first and the last entry; 0 if the stream is
    /// empty.
    pub entry_bytes: u64,
    /// Size of the server's data structure.
    pub radix_tree: RadixTree,
    /// State of idempotent production; `None` before server 8.6.
    pub idmp: Option<Box<Idmp>>,
    /// The groups to report, sorted by name.
    pub groups: Box<[GroupInfo]>,
}

/// A reading of one stream between two polls, from which only losses are derived.
#[derive(Clone, Copy, Debug)]
pub struct LossSample<'a> {
    /// Key of the stream.
    pub key: &'a Name,
    /// The connection that the replies arrived on.
    pub epoch: Epoch,
    /// The meaning of its groups' entries-read.
    pub entries_read: EntriesReadMeaning,
    /// The stream, with its groups from a reply to XINFO GROUPS sent just before it.
    pub info: &'a StreamInfo,
    /// Its groups from a reply to XINFO GROUPS sent just after it.
    pub groups_after: &'a [GroupInfo],
}

/// Size of the radix tree in which the server stores a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RadixTree {
    /// radix-tree-keys: the number of keys, each of which holds a batch of entries.
    pub keys: u64,
    /// radix-tree-nodes: the number of nodes.
    pub nodes: u64,
}

/// Idempotent production (`XADD ... IDMP`) of one stream, by a reply to XINFO STREAM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Idmp {
    /// idmp-duration: seconds for which an idempotent ID is remembered.
    pub duration_seconds: u64,
    /// idmp-maxsize: most idempotent IDs that are remembered per producer.
    pub max_size: u64,
    /// pids-tracked: producers with remembered IDs.
    pub producer_ids_tracked: u64,
    /// iids-tracked: idempotent IDs that are remembered, of all producers.
    pub idempotent_ids_tracked: u64,
    /// iids-added: entries ever added with an idempotent ID.
    pub entries_added: u64,
    /// iids-duplicates: entries that were not added, since their idempotent ID was remembered.
    pub duplicates: u64,
}

impl Idmp {
    /// Returns true if a producer ever sent an idempotent ID. The fields are there in any case.
    #[must_use]
    pub fn was_used(&self) -> bool {
        self.entries_added > 0 || self.duplicates > 0 || self.producer_ids_tracked > 0
    }
}

/// A group in a reply to XINFO GROUPS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// Name of the group.
    pub name: Name,
    /// True if the caller asked for this group by name; false if it was found by a pattern.
    pub named: bool,
    /// Number of consumers.
    pub consumers: u64,
    /// Number of entries delivered and not acknowledged.
    pub pending: u64,
    /// last-delivered-id: the ID up to which entries were delivered.
    pub last_delivered: StreamId,
    /// entries-read: the server's counter of entries delivered. `None` before server 7.0, usually on replicas before
    /// 7.4, and where the server itself does not know it.
    pub entries_read: Option<Count>,
    /// The group's consumers, if they were read already.
    pub each_consumer: ConsumersReading,
}

impl GroupInfo {
    /// Returns true if the group has consumers that are still to be asked for.
    pub(crate) fn has_unread_consumers(&self) -> bool {
        self.each_consumer == ConsumersReading::Open && self.consumers > 0
    }
}

/// The consumers of a group, or whether to ask for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumersReading {
    /// Not to be read: turned off by the caller, or read from a replica, whose idle times are wrong.
    NotWanted,
    /// Too many to be read in every poll. Those that are idle are counted through a question once an hour.
    TooMany,
    /// To be read through a [question](crate::question::QuestionKind::Consumers).
    Open,
    /// Read **just after** XINFO STREAM, because the group was known from the previous poll.
    Read(Box<[ConsumerInfo]>),
    /// The answer to that question.
    Answered(Box<[ConsumerInfo]>),
}

impl ConsumersReading {
    /// Returns the consumers, if they were read.
    #[must_use]
    pub fn consumers(&self) -> Option<&[ConsumerInfo]> {
        match self {
            Self::Read(consumers) | Self::Answered(consumers) => Some(consumers),
            Self::NotWanted | Self::TooMany | Self::Open => None,
        }
    }
}

/// A consumer in a reply to XINFO CONSUMERS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerInfo {
    /// Name of the consumer.
    pub name: Name,
    /// Number of entries delivered to the consumer and not acknowledged.
    pub pending: u64,
    /// Milliseconds since its last attempt to read; before server 7.2, since its last successful read.
    pub idle_ms: u64,
    /// Milliseconds since an entry was last delivered to it or claimed by it. `None` before server 7.2, and if that
    /// never happened.
    pub inactive_ms: Option<Count>,
}
