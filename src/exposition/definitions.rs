//! Every metric of streams, groups and consumers, defined once: name, help, type, labels and value. The
//! documentation's table of metrics is held against this list by a test.

use crate::exposition::text::Number;
use redis_stream_core::id::StreamId;
use redis_stream_lag::report::Status;
use redis_stream_lag::report::{
    ConsumerReport, GroupReport, GroupValues, OldestPending, StreamReport, StreamValues,
};

/// One metric.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// Its name.
    pub name: &'static str,
    /// What it means, in one line.
    pub help: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whose metric it is.
    pub origin: Origin,
    /// What it is a value of, and the value: `None` is an absent series.
    pub value: Value,
}

/// Type of a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Goes up and down.
    Gauge,
    /// Goes up only.
    Counter,
}

/// Whose metric it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Ours; redis_exporter may have it too, with the same labels and values.
    Own,
    /// One that redis_exporter has and we would not: exported only where it is asked for.
    RedisExporter,
}

/// What a metric is a value of; it decides the labels.
#[derive(Clone, Copy, Debug)]
pub enum Value {
    /// Labels `target`, `db`, `stream`.
    Stream(fn(&StreamReport) -> Option<Number>),
    /// And `group`.
    Group(fn(&GroupReport) -> Option<Number>),
    /// And `status`: 1 for the one that it is, 0 for the others.
    Status(fn(&GroupReport) -> Option<Status>),
    /// `group` and `consumer`.
    Consumer(fn(&ConsumerReport) -> Option<Number>),
}

/// Every one of them, in the order of `/metrics`.
pub const FAMILIES: &[Family] = &[
    gauge(
        "redis_stream_up",
        "1 if the stream was read; 0 if it is missing, of another type, denied, or its node unreachable.",
        Value::Stream(|stream| Some(Number::from_bool(stream.values.is_some()))),
    ),
    gauge(
        "redis_stream_length",
        "Entries in the stream.",
        Value::Stream(|stream| values(stream, |values| Some(Number::Count(values.length)))),
    ),
    gauge(
        "redis_stream_groups",
        "Consumer groups of the stream.",
        Value::Stream(|stream| values(stream, |values| Some(Number::Count(values.groups)))),
    ),
    Family {
        kind: Kind::Counter,
        ..gauge(
            "redis_stream_entries_added_total",
            "Entries ever added to the stream; absent before server 7.0.",
            Value::Stream(|stream| values(stream, |values| values.entries_added.map(Number::Count))),
        )
    },
    gauge(
        "redis_stream_first_entry_timestamp_seconds",
        "Unix time when the oldest entry was added: how far back retention reaches.",
        Value::Stream(|stream| values(stream, |values| values.first_entry.map(Number::Seconds))),
    ),
    gauge(
        "redis_stream_last_generated_id_timestamp_seconds",
        "Unix time when the newest ID was made: how long the producers have been silent.",
        Value::Stream(|stream| values(stream, |values| values.last_generated.map(Number::Seconds))),
    ),
    gauge(
        "redis_stream_group_up",
        "For groups configured by name: 1 if the group is there, 0 if it is missing.",
        Value::Group(|group| group.named.then(|| Number::from_bool(group.values.is_some()))),
    ),
    gauge(
        "redis_stream_group_lag",
        "Entries in the stream that the group has not been delivered: exact, or absent while it is not known.",
        Value::Group(|group| of_group(group, |values| values.lag.exact().map(Number::Count))),
    ),
    gauge(
        "redis_stream_group_lag_min",
        "Certain minimum of the lag; equal to it when it is exact.",
        Value::Group(|group| of_group(group, |values| Some(Number::Count(values.lag.min())))),
    ),
    gauge(
        "redis_stream_group_lag_max",
        "Certain maximum of the lag; equal to it when it is exact.",
        Value::Group(|group| of_group(group, |values| Some(Number::Count(values.lag.max())))),
    ),
    gauge(
        "redis_stream_group_lag_seconds",
        "Age of the oldest entry that the group has not been delivered; 0 if there is none.",
        Value::Group(|group| of_group(group, |values| values.lag_seconds.map(Number::Seconds))),
    ),
    gauge(
        "redis_stream_group_last_delivered_id_age_seconds",
        "Age of the group's last-delivered-id.",
        Value::Group(|group| of_group(group, |values| values.last_delivered_id_age.map(Number::Seconds))),
    ),
    gauge(
        "redis_stream_group_entries_read",
        "The server's entries-read; absent before server 7.0, on a replica before 7.4, and while the server does not know it.",
        Value::Group(|group| of_group(group, |values| values.entries_read.map(Number::Count))),
    ),
    gauge(
        "redis_stream_group_messages_pending",
        "Entries delivered to the group and not acknowledged (PEL).",
        Value::Group(|group| of_group(group, |values| Some(Number::Count(values.messages_pending)))),
    ),
    gauge(
        "redis_stream_group_oldest_pending_age_seconds",
        "Age of the oldest pending entry, by its ID; 0 if none is pending.",
        Value::Group(|group| {
            oldest_pending(group, Some(Number::Count(0)), |age, _, _| age.map(Number::Seconds))
        }),
    ),
    gauge(
        "redis_stream_group_oldest_pending_idle_seconds",
        "Time since the oldest pending entry was last delivered; 0 if none is pending.",
        Value::Group(|group| {
            oldest_pending(group, Some(Number::Count(0)), |_, idle, _| idle.map(Number::Seconds))
        }),
    ),
    gauge(
        "redis_stream_group_oldest_pending_deliveries",
        "How often the oldest pending entry was delivered; absent if none is pending.",
        Value::Group(|group| oldest_pending(group, None, |_, _, deliveries| Some(Number::Count(deliveries)))),
    ),
    gauge(
        "redis_stream_group_pending_orphaned",
        "Pending entries whose entries were trimmed away; absent beyond 1,000.",
        Value::Group(|group| of_group(group, |values| values.pending_orphaned.map(Number::Count))),
    ),
    gauge(
        "redis_stream_group_consumers",
        "Consumers of the group.",
        Value::Group(|group| of_group(group, |values| Some(Number::Count(values.consumers)))),
    ),
    Family {
        kind: Kind::Counter,
        ..gauge(
            "redis_stream_group_entries_lost_total",
            "Entries removed from the stream before the group got them, as seen since start; absent before server 7.0; what was lost and caught up with between two polls is not seen.",
            Value::Group(|group| of_group(group, |values| values.entries_lost.map(Number::Count))),
        )
    },
    gauge(
        "redis_stream_group_retention_used_ratio",
        "Lag by length, 0 to 1: at 1 the next trim loses entries; absent until trimming of this stream was seen.",
        Value::Group(|group| {
            of_group(group, |values| values.retention_used.map(|used| Number::Ratio(used.ratio())))
        }),
    ),
    gauge(
        "redis_stream_group_status",
        "1 for the group's present status, 0 for the others.",
        Value::Status(|group| group.values.as_ref().map(|values| values.status)),
    ),
    gauge(
        "redis_stream_group_consumer_messages_pending",
        "Entries delivered to the consumer and not acknowledged.",
        Value::Consumer(|consumer| Some(Number::Count(consumer.messages_pending))),
    ),
    gauge(
        "redis_stream_group_consumer_idle_seconds",
        "Time since the consumer's last attempt to read (before server 7.2: since its last success).",
        Value::Consumer(|consumer| Some(Number::Seconds(consumer.idle))),
    ),
    gauge(
        "redis_stream_group_consumer_inactive_seconds",
        "Time since the consumer last got an entry; absent if it never did, and before server 7.2.",
        Value::Consumer(|consumer| consumer.inactive.map(Number::Seconds)),
    ),
    foreign(
        "redis_stream_radix_tree_keys",
        "Keys of the radix tree that stores the stream.",
        Value::Stream(|stream| values(stream, |values| Some(Number::Count(values.radix_tree.keys)))),
    ),
    foreign(
        "redis_stream_radix_tree_nodes",
        "Nodes of the radix tree that stores the stream.",
        Value::Stream(|stream| values(stream, |values| Some(Number::Count(values.radix_tree.nodes)))),
    ),
    foreign(
        "redis_stream_last_generated_id",
        "Milliseconds of last-generated-id.",
        Value::Stream(|stream| values(stream, |values| ms(Some(values.ids.last_generated)))),
    ),
    foreign(
        "redis_stream_max_deleted_entry_id",
        "Milliseconds of max-deleted-entry-id; 0 if nothing was deleted, and before server 7.0.",
        Value::Stream(|stream| values(stream, |values| ms(values.ids.max_deleted))),
    ),
    foreign(
        "redis_stream_first_entry_id",
        "Milliseconds of the first entry's ID; 0 if the stream is empty.",
        Value::Stream(|stream| values(stream, |values| ms(values.ids.first))),
    ),
    foreign(
        "redis_stream_last_entry_id",
        "Milliseconds of the last entry's ID; 0 if the stream is empty.",
        Value::Stream(|stream| values(stream, |values| ms(values.ids.last))),
    ),
    foreign(
        "redis_stream_group_last_delivered_id",
        "Milliseconds of the group's last-delivered-id.",
        Value::Group(|group| of_group(group, |values| ms(Some(values.last_delivered_id)))),
    ),
];

const fn gauge(name: &'static str, help: &'static str, value: Value) -> Family {
    Family { name, help, kind: Kind::Gauge, origin: Origin::Own, value }
}

/// A metric as redis_exporter has it: of an ID the milliseconds, and 0 where there is none.
const fn foreign(name: &'static str, help: &'static str, value: Value) -> Family {
    Family { name, help, kind: Kind::Gauge, origin: Origin::RedisExporter, value }
}

fn ms(id: Option<StreamId>) -> Option<Number> {
    Some(Number::Count(id.map_or(0, |id| id.ms)))
}

fn values(stream: &StreamReport, value: fn(&StreamValues) -> Option<Number>) -> Option<Number> {
    stream.values.as_ref().and_then(value)
}

fn of_group(group: &GroupReport, value: fn(&GroupValues) -> Option<Number>) -> Option<Number> {
    group.values.as_ref().and_then(value)
}

type Span = Option<std::time::Duration>;

fn oldest_pending(
    group: &GroupReport,
    if_nothing: Option<Number>,
    value: fn(Span, Span, u64) -> Option<Number>,
) -> Option<Number> {
    match group.values.as_ref()?.oldest_pending? {
        OldestPending::Nothing => if_nothing,
        OldestPending::Entry { age, idle, deliveries } => value(age, idle, deliveries),
    }
}

impl Family {
    /// The two lines that come before its samples.
    #[must_use]
    pub fn header(&self) -> String {
        let kind = match self.kind {
            Kind::Gauge => "gauge",
            Kind::Counter => "counter",
        };
        format!("# HELP {} {}\n# TYPE {} {kind}\n", self.name, self.help, self.name)
    }

    /// The labels of its series, before those of the target's configuration.
    #[must_use]
    pub fn labels(&self) -> &'static [&'static str] {
        match self.value {
            Value::Stream(_) => &["target", "db", "stream"],
            Value::Group(_) => &["target", "db", "stream", "group"],
            Value::Status(_) => &["target", "db", "stream", "group", "status"],
            Value::Consumer(_) => &["target", "db", "stream", "group", "consumer"],
        }
    }
}
