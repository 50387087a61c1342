//! The replies to XINFO, field by field.

use std::time::Duration;

use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;
use redis_stream_lag::snapshot::{ConsumersReading, GroupInfo, Idmp, RadixTree, StreamInfo};

/// The reply to XINFO STREAM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XinfoStream {
    /// length: entries in the stream.
    pub length: u64,
    /// groups: the number of groups.
    pub groups: u64,
    /// last-generated-id.
    pub last_generated: StreamId,
    /// ID of first-entry; `None` where it is nil.
    pub first: Option<StreamId>,
    /// ID of last-entry; `None` where it is nil.
    pub last: Option<StreamId>,
    /// entries-added; `None` before server 7.0.
    pub entries_added: Option<u64>,
    /// max-deleted-entry-id; `None` before server 7.0.
    pub max_deleted: Option<StreamId>,
    /// radix-tree-keys and radix-tree-nodes.
    pub radix_tree: RadixTree,
    /// idmp-*, pids-* and iids-*; `None` before server 8.6.
    pub idmp: Option<Box<Idmp>>,
    /// Size of the larger of the first and the last entry in the reply, in bytes.
    pub entry_bytes: u64,
    /// Size of both.
    pub payload_bytes: u64,
}

/// One group in the reply to XINFO GROUPS.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct XinfoGroup<'a> {
    /// name, in the reply: that of a known group takes no allocation.
    pub name: &'a [u8],
    /// consumers: the number of consumers.
    pub consumers: u64,
    /// pending: entries delivered and not acknowledged.
    pub pending: u64,
    /// last-delivered-id.
    pub last_delivered: StreamId,
    /// entries-read; `None` before server 7.0, and where it is nil or negative.
    pub entries_read: Option<u64>,
}

impl XinfoStream {
    /// Returns the stream's facts at `time`, without its groups and consumers.
    pub fn facts(&self, time: Duration) -> StreamInfo {
        StreamInfo {
            time,
            length: self.length,
            first: self.first,
            last: self.last,
            last_generated: self.last_generated,
            entries_added: self.entries_added,
            max_deleted: self.max_deleted,
            group_count: self.groups,
            consumer_count: 0,
            entry_bytes: self.entry_bytes,
            radix_tree: self.radix_tree,
            idmp: self.idmp.clone(),
            groups: Box::default(),
        }
    }
}

impl XinfoGroup<'_> {
    /// Returns the group's facts under this name, which may be shared with other readings.
    pub fn facts(&self, name: Name, named: bool, each_consumer: ConsumersReading) -> GroupInfo {
        GroupInfo {
            name,
            named,
            consumers: self.consumers,
            pending: self.pending,
            last_delivered: self.last_delivered,
            entries_read: self.entries_read.map(Into::into),
            each_consumer,
        }
    }
}
