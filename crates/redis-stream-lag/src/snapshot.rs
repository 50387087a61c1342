//! The info of one poll: what XINFO GROUPS and XINFO STREAM said of each stream.

use std::sync::Arc;
use std::time::Duration;

use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

/// One unbroken connection to one node. What is remembered of a stream is worth nothing beyond it: another
/// connection may lead to another server, or to the same one restarted from an older file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Epoch(pub u64);

/// What the nodes of one target said in one poll.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The nodes that answered, and one without an address for the streams whose node cannot be reached.
    pub nodes: Vec<NodeReading>,
}

/// What one node said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeReading {
    /// Address of the node, as shown to people.
    pub address: Arc<str>,
    /// The connection it was said on.
    pub epoch: Epoch,
    /// Every stream this node is asked for, in the order of their keys.
    pub streams: Vec<StreamReading>,
}

/// What one node said of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamReading {
    /// Key of the stream.
    pub key: Name,
    /// Whether there were info to read.
    pub outcome: ReadOutcome,
    /// Groups that the configuration names and that the stream does not have.
    pub missing_groups: Vec<Name>,
    /// How much history the status of its groups looks at. Source: the configuration.
    pub window: Duration,
}

/// Whether a stream could be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadOutcome {
    /// It was.
    Read(StreamInfo),
    /// The configuration names it, and there is no such key.
    Missing,
    /// The key holds another type.
    WrongType,
    /// The server refuses to tell: an ACL, or another error that concerns this key.
    Refused,
    /// No node that holds it can be reached.
    Unreachable,
    /// It was not this stream's turn: the poll's budget or deadline did not reach it. What was read of it
    /// last still stands.
    Deferred,
}

/// A stream as XINFO STREAM showed it, with its groups as XINFO GROUPS showed them **just before**. In this
/// order "last-delivered-id as of the first reply, stream as of the second" is a true statement; the other
/// order is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamInfo {
    /// The node's clock when it was asked, as the time since the Unix epoch. Source: TIME.
    pub time: Duration,
    /// Entries in the stream.
    pub length: u64,
    /// ID of the first entry; `None` if the stream is empty.
    pub first: Option<StreamId>,
    /// ID of the last entry; `None` if the stream is empty.
    pub last: Option<StreamId>,
    /// last-generated-id: the largest ID there ever was.
    pub last_generated: StreamId,
    /// entries-added. `None` before server 7.0.
    pub entries_added: Option<u64>,
    /// max-deleted-entry-id: the largest ID that XDEL removed, `0-0` if none; trimming does not set it.
    /// `None` before server 7.0.
    pub max_deleted: Option<StreamId>,
    /// How many consumer groups there are, reported here or not.
    pub group_count: u64,
    /// Size of an entry in a reply, in bytes: the larger of the first and the last entry; 0 if empty.
    pub entry_bytes: u64,
    /// How the server stores the stream.
    pub radix_tree: RadixTree,
    /// The groups that are reported, in the order of their names.
    pub groups: Vec<GroupInfo>,
}

/// The radix tree in which the server keeps a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RadixTree {
    /// radix-tree-keys.
    pub keys: u64,
    /// radix-tree-nodes.
    pub nodes: u64,
}

/// A group as XINFO GROUPS showed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupInfo {
    /// Name of the group.
    pub name: Name,
    /// Whether the configuration names it, rather than a glob having found it.
    pub named: bool,
    /// Consumers of the group.
    pub consumers: u64,
    /// Entries delivered and not acknowledged.
    pub pending: u64,
    /// last-delivered-id.
    pub last_delivered: StreamId,
    /// entries-read. `None` before server 7.0, on a replica before 7.4, and where the
    /// server does not know it.
    pub entries_read: Option<u64>,
    /// The consumers themselves.
    pub each_consumer: ConsumersReading,
}

/// Whether the consumers of a group were read along with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConsumersReading {
    /// They are not to be known: the configuration, a limit, or a node whose word on them is not true.
    NotWanted,
    /// They are to be asked for.
    Open,
    /// They were read, **just after** XINFO STREAM: the group was known from the poll before.
    Read(Vec<ConsumerInfo>),
}

/// A consumer as XINFO CONSUMERS showed it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerInfo {
    /// Name of the consumer.
    pub name: Name,
    /// Entries delivered to it and not acknowledged.
    pub pending: u64,
    /// Milliseconds since its last attempt to read; before server 7.2 since its last success.
    pub idle_ms: u64,
    /// Milliseconds since it last got an entry. `None` before server 7.2, and if it never did.
    pub inactive_ms: Option<u64>,
}
