//! The report of one poll: inert values, each with its unit and with what its absence means.

use std::sync::Arc;
use std::time::Duration;

use crate::snapshot::RadixTree;
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

/// What was found out about a target in one poll.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Every stream that is watched, in the order of their keys.
    pub streams: Vec<Arc<StreamReport>>,
    /// Entries that were read in this poll to count lag.
    pub counted_entries: u64,
}

/// One stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamReport {
    /// Key of the stream.
    pub key: Name,
    /// Its values; `None` if it could not be read (missing, of another type, denied, its node unreachable).
    pub values: Option<StreamValues>,
    /// Whether the server refuses to tell of it, or cannot be reached, so that nothing is known of its groups either.
    pub refused: bool,
    /// Its groups, in the order of their names.
    pub groups: Vec<GroupReport>,
}

/// The values of a stream. By default the stream is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamValues {
    /// Entries in the stream. Source: XINFO STREAM.
    pub length: u64,
    /// Consumer groups. Source: XINFO STREAM.
    pub groups: u64,
    /// Entries ever added. Source: XINFO STREAM entries-added; `None` before server 7.0. A small step back
    /// over a new connection (a failover) is held.
    pub entries_added: Option<u64>,
    /// When the oldest entry was added, as the time since the Unix epoch. `None` if the stream is empty or
    /// the ID is no time stamp. Source: XINFO STREAM first-entry.
    pub first_entry: Option<Duration>,
    /// When the newest ID was made, likewise. Source: XINFO STREAM last-generated-id.
    pub last_generated: Option<Duration>,
    /// The IDs themselves.
    pub ids: StreamIds,
    /// How the server stores the stream.
    pub radix_tree: RadixTree,
}

/// The IDs that XINFO STREAM tells of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamIds {
    /// Of the first entry; `None` if the stream is empty.
    pub first: Option<StreamId>,
    /// Of the last entry; `None` if the stream is empty.
    pub last: Option<StreamId>,
    /// last-generated-id.
    pub last_generated: StreamId,
    /// max-deleted-entry-id; `None` before server 7.0.
    pub max_deleted: Option<StreamId>,
}

/// One group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupReport {
    /// Name of the group.
    pub name: Name,
    /// Whether the configuration names it, rather than a glob having found it.
    pub named: bool,
    /// Its values; `None` if the stream has no such group.
    pub values: Option<GroupValues>,
    /// Its consumers, in the order of their names; `None` if they were not asked for or not answered.
    pub consumers: Option<Vec<ConsumerReport>>,
}

/// The values of a group. By default no value is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupValues {
    /// Entries in the stream that the group was not delivered. Source: see [`lag`](crate).
    pub lag: Lag,
    /// Age of the oldest entry not delivered yet; zero if there is none; `None` while that entry is not
    /// known, or if its ID is no time stamp.
    pub lag_seconds: Option<Duration>,
    /// last-delivered-id. Source: XINFO GROUPS.
    pub last_delivered_id: StreamId,
    /// Age of last-delivered-id. `None` if it is no time stamp (`0-0` among others). Source: XINFO GROUPS.
    pub last_delivered_id_age: Option<Duration>,
    /// The server's entries-read. `None` before server 7.0, on a replica before 7.4, and where the
    /// server does not know it.
    pub entries_read: Option<u64>,
    /// Entries delivered and not acknowledged. Source: XINFO GROUPS.
    pub messages_pending: u64,
    /// The pending entry with the smallest ID. `None` while it is not known. Source: XPENDING.
    pub oldest_pending: Option<OldestPending>,
    /// Pending entries below the first entry of the stream: their entries were trimmed away. `None` if they
    /// are more than 1,000 or could not be counted.
    pub pending_orphaned: Option<u64>,
    /// Consumers of the group. Source: XINFO GROUPS.
    pub consumers: u64,
    /// Entries that were removed from the stream before the group got them, as seen since its first sight.
    /// `None` before server 7.0. What was lost and caught up with between two polls is not seen.
    pub entries_lost: Option<u64>,
    /// How much of what the stream retains the group still has to read. `None` until trimming of this stream
    /// was seen (never before server 7.0), and while the lag is not known.
    pub retention_used: Option<Retention>,
    /// What is wrong with the group, from its history over the window that is configured.
    pub status: Status,
}

/// How much of a stream is ahead of a group: at 1 the next trim loses entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Entries ahead of the group.
    pub lag: u64,
    /// Entries in the stream.
    pub length: u64,
}

impl Retention {
    /// The ratio, from 0 to 1; 0 for an empty stream.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a ratio is good to some digits")]
    pub fn ratio(self) -> f64 {
        if self.length == 0 { 0.0 } else { (self.lag as f64 / self.length as f64).min(1.0) }
    }
}

/// How many entries a group is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lag {
    /// So many.
    Exact(u64),
    /// Not known yet; certainly from `min` to `max`, both included.
    Between {
        /// Certain minimum.
        min: u64,
        /// Certain maximum.
        max: u64,
    },
}

impl Default for Lag {
    /// A lag that may be anything.
    fn default() -> Self {
        Self::Between { min: 0, max: u64::MAX }
    }
}

impl Lag {
    /// The lag, where it is known.
    #[must_use]
    pub fn exact(self) -> Option<u64> {
        match self {
            Self::Exact(entries) => Some(entries),
            Self::Between { .. } => None,
        }
    }

    /// The certain minimum.
    #[must_use]
    pub fn min(self) -> u64 {
        match self {
            Self::Exact(entries) => entries,
            Self::Between { min, .. } => min,
        }
    }

    /// The certain maximum.
    #[must_use]
    pub fn max(self) -> u64 {
        match self {
            Self::Exact(entries) => entries,
            Self::Between { max, .. } => max,
        }
    }
}

/// The pending entry with the smallest ID, if anything is pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldestPending {
    /// Nothing is pending.
    Nothing,
    /// This one.
    Entry {
        /// Its age by its ID; `None` if the ID is no time stamp.
        age: Option<Duration>,
        /// Since it was last delivered; `None` if it was given back and waits for a new reader.
        idle: Option<Duration>,
        /// How often it was delivered.
        deliveries: u64,
    },
}

/// The status of a group.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// last-delivered-id went back in the window.
    Rewound,
    /// Entries were lost in the window.
    Losing,
    /// Entries waited for the window, none was delivered, and no consumer exists or each has been silent.
    Abandoned,
    /// The same, although there are consumers.
    Stalled,
    /// The oldest pending entry is the same as a window ago, and was not delivered again.
    Stuck,
    /// Behind for the window, and falling further behind.
    Lagging,
    /// Not told by the others, and there is less history than the window.
    #[default]
    Unknown,
    /// None of these.
    Ok,
}

impl Status {
    /// All of them: of those that hold for a group, the first is its status.
    pub const ALL: [Self; 8] = [
        Self::Rewound,
        Self::Losing,
        Self::Abandoned,
        Self::Stalled,
        Self::Stuck,
        Self::Lagging,
        Self::Unknown,
        Self::Ok,
    ];

    /// Its name, in labels and everywhere else.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rewound => "rewound",
            Self::Losing => "losing",
            Self::Abandoned => "abandoned",
            Self::Stalled => "stalled",
            Self::Stuck => "stuck",
            Self::Lagging => "lagging",
            Self::Unknown => "unknown",
            Self::Ok => "ok",
        }
    }

    /// The status of that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == name)
    }
}

/// One consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerReport {
    /// Name of the consumer.
    pub name: Name,
    /// Entries delivered to it and not acknowledged.
    pub messages_pending: u64,
    /// Since its last attempt to read; before server 7.2 since its last success.
    pub idle: Duration,
    /// Since it last got an entry. `None` before server 7.2, and if it never did.
    pub inactive: Option<Duration>,
}
