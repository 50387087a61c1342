//! The rows of the table.

use std::sync::LazyLock;
use std::time::Duration;

use crate::values::family::{
    Aggregation, AlertFact, Family, MetricOrigin, ValueReading, ValueSource, ValueUnit, counter, gauge,
};
use redis_stream_core::id::StreamId;
use redis_stream_lag::compact::CompactId;
use redis_stream_lag::many_consumers::MAX_LISTED;
use redis_stream_lag::question::is_fatal;
use redis_stream_lag::report::{CensusView, GroupValues, GroupView, OldestPending};

pub(crate) const NO_TIME: &str = "the ID is not a time, or one in the future: the server did not generate it";
const NOT_FOUND_OUT: &str = "the last poll did not find out";
const NO_CENSUS: &str = "not all pending entries were read yet";
pub(crate) const OLD_SERVER: &str = "the server does not report it before version 7.0";

const BEFORE_7_0: &str = "before server 7.0";
const ID_WITHOUT_TIME: &str = "ID without time, or in the future";
const NO_IDMP: &str = "before server 8.6; no idempotent ID was ever used";
const NO_FAMILY: &str = "a stream that is no family";
const NO_FLOW: &str = "before server 7.0; lag not known; trimming overtakes the group and `redis_stream_group_loss_ratio` is absent";
const NO_RATE: &str = "before server 7.0; lag not known; the first quarter of a window";
const CONSUMERS_NOT_COUNTED: &str =
    "`consumers: false`; a replica; more than 20,000 consumers; until they were counted";

/// All families, in the order of `/metrics`.
pub static FAMILIES: &[&Family] = &[
    &gauge(
        "redis_stream_up",
        "1 if the stream was read; 0 if it is denied, or its node of a cluster cannot be reached, or \
         if it is configured by name and is missing or of another type.",
        ValueUnit::Bool,
        Aggregation::Min,
        ValueSource::StreamUp,
    )
    .fact(AlertFact::Value("stream_up")),
    &gauge(
        "redis_stream_length",
        "Entries in the stream.",
        ValueUnit::Count,
        Aggregation::Sum,
        ValueSource::Stream(|values| values.length.into()),
    )
    .fact(AlertFact::Value("length")),
    &gauge(
        "redis_stream_groups",
        "Consumer groups of the stream.",
        ValueUnit::Count,
        Aggregation::Sum,
        ValueSource::Stream(|values| values.groups.into()),
    ),
    &gauge(
        "redis_stream_groups_abandoned",
        "Polled groups of the stream that are abandoned and from which no consumer has tried to read for a day or \
         longer: start their consumers, or delete the groups.",
        ValueUnit::Count,
        Aggregation::Sum,
        ValueSource::Stream(|values| values.groups_abandoned.get().into()),
    )
    .notes("[How](cli.md#tidy).")
    .absent(
        "while one of them has no consumers, or its consumers are not read, and streamgauge has not watched it for a \
         day (which begins again at a restart without `alerts.state_file`)",
    )
    .fact(AlertFact::Value("groups_abandoned")),
    &counter(
        "redis_stream_entries_added_total",
        "Entries ever added to the stream.",
        ValueUnit::Count,
        Aggregation::Counter,
        ValueSource::Stream(|values| values.entries_added.into()),
    )
    .notes(
        "After a reconnect, a small decrease (up to 100 entries or 1 %) is hidden until the counter \
         catches up, since a promoted replica may miss the last writes.",
    )
    .absent(BEFORE_7_0),
    &gauge(
        "redis_stream_first_entry_timestamp_seconds",
        "When the oldest entry was added: how far back the stream reaches.",
        ValueUnit::Timestamp,
        Aggregation::SmallestKnown,
        ValueSource::Stream(|values| values.first_entry().into()),
    )
    .absent("empty stream; ID without time, or in the future"),
    &gauge(
        "redis_stream_last_generated_id_timestamp_seconds",
        "When the newest ID was made: how long producers have been idle.",
        ValueUnit::Timestamp,
        Aggregation::LargestKnown,
        ValueSource::Stream(|values| values.last_generated().into()),
    )
    .absent(ID_WITHOUT_TIME)
    .fact(AlertFact::Since("last_generated_id_age_seconds")),
    &gauge(
        "redis_stream_memory_bytes",
        "Memory that the stream takes, with its groups, consumers and pending entries, as `MEMORY \
         USAGE` estimates it at each `poll.memory_interval`.",
        ValueUnit::Bytes,
        Aggregation::Sum,
        ValueSource::Stream(|values| values.memory_bytes.into()),
    )
    .notes(
        "Redis up to 8.2 counts pending entries several times too high: 200,000 of them were 210 MB \
         there, and 30 to 37 MB on Valkey and Redis 8.10.",
    )
    .absent(
        "unless `poll.memory_interval` is set; more than 4,900 groups and consumers; refused by the \
         server",
    ),
    &gauge(
        "redis_stream_trimmable_entries",
        "Entries at the start of the stream that no group needs any more: every group has read and \
         acknowledged them.",
        ValueUnit::Count,
        Aggregation::Sum,
        ValueSource::Stream(|values| match &values.safe_trim {
            Some(trim) => trim.entries.into(),
            None if values.groups == 0 => ValueReading::Absent,
            None => ValueReading::Unknown,
        }),
    )
    .notes(
        "Pending entries that were deleted from within the stream count as needed; readers without a \
         group are not seen.",
    )
    .absent(
        "no groups; a group is not read (`groups.exclude`, `limits.groups_per_stream`) or what it \
         needs is not known; while they are being counted; entries above 2 KiB that would have to be \
         counted",
    )
    .fact(AlertFact::Value("trimmable_entries")),
    &gauge(
        "redis_stream_held_by_info",
        "1 for the group that needs the oldest entry.",
        ValueUnit::Bool,
        Aggregation::LeftOut,
        ValueSource::Holder,
    )
    .notes(
        "Its page, JSON and `status --watch` show since when and why, and the `XTRIM key MINID ~ id` \
         that takes nothing from any group.",
    )
    .absent("no group needs an entry; what a group needs is not known"),
    &counter(
        "redis_stream_group_changes_total",
        "Groups of the stream that were `created`, `destroyed`, or `recreated` (created again after \
         they were destroyed), since the start.",
        ValueUnit::Count,
        Aggregation::Counter,
        ValueSource::GroupChanges,
    )
    .notes(
        "A group that was destroyed and created between two polls is recognized if it was in use, has \
         none of its consumers and pending entries, and went back or (from server 7.0 on) lost its \
         entries-read.",
    )
    .absent("the stream cannot be read"),
    &counter(
        "redis_stream_idmp_entries_added_total",
        "Entries added with an idempotent ID (`XADD` with `IDMP`).",
        ValueUnit::Count,
        Aggregation::Counter,
        ValueSource::Stream(|values| values.seldom.idmp.map(|idmp| idmp.entries_added).into()),
    )
    .absent(NO_IDMP),
    &counter(
        "redis_stream_idmp_duplicates_total",
        "Entries not added, since their idempotent ID was added before: retries of producers.",
        ValueUnit::Count,
        Aggregation::Counter,
        ValueSource::Stream(|values| values.seldom.idmp.map(|idmp| idmp.duplicates).into()),
    )
    .absent(NO_IDMP),
    &gauge(
        "redis_stream_idmp_producer_ids_tracked",
        "Producers whose idempotent IDs are remembered.",
        ValueUnit::Count,
        Aggregation::SumOfKnown,
        ValueSource::Stream(|values| values.seldom.idmp.map(|idmp| idmp.producer_ids_tracked).into()),
    )
    .absent(NO_IDMP),
    &gauge(
        "redis_stream_idmp_idempotent_ids_tracked",
        "Idempotent IDs that are remembered, of all producers.",
        ValueUnit::Count,
        Aggregation::SumOfKnown,
        ValueSource::Stream(|values| values.seldom.idmp.map(|idmp| idmp.idempotent_ids_tracked).into()),
    )
    .notes("Near `max_size` for each of them, IDs are forgotten before their time.")
    .absent(NO_IDMP),
    &gauge(
        "redis_stream_idmp_max_size",
        "Most idempotent IDs that are remembered for each producer.",
        ValueUnit::Count,
        Aggregation::LargestKnown,
        ValueSource::Stream(|values| values.seldom.idmp.map(|idmp| idmp.max_size).into()),
    )
    .absent(NO_IDMP),
    &gauge(
        "redis_stream_group_up",
        "1 if the group is there, 0 if it is missing.",
        ValueUnit::Bool,
        Aggregation::Min,
        ValueSource::GroupUp,
    )
    .absent("unless the group is configured by name")
    .fact(AlertFact::Value("group_up")),
    &LAG,
    &LAG_MIN,
    &LAG_MAX,
    &LAG_SECONDS,
    &LAST_DELIVERED_ID_AGE_SECONDS,
    &LAST_DELIVERY_AGE_SECONDS,
    &ENTRIES_READ,
    &MESSAGES_PENDING,
    &MESSAGES_RELEASED,
    &OLDEST_PENDING_AGE_SECONDS,
    &OLDEST_PENDING_IDLE_SECONDS,
    &OLDEST_PENDING_DELIVERIES,
    &PENDING_ORPHANED,
    &PENDING_REDELIVERED,
    &PENDING_MAX_DELIVERIES,
    &PENDING_MAX_IDLE_SECONDS,
    &PENDING_CENSUS_AGE_SECONDS,
    &PENDING_FAILED,
    &PENDING_DROPPED,
    &CONSUMERS,
    &CONSUMERS_GROWTH,
    &CONSUMERS_IDLE,
    &CONSUMERS_STRANDED,
    &ENTRIES_DELIVERED_TOTAL,
    &ENTRIES_ACKNOWLEDGED_TOTAL,
    &ADDED_PER_SECOND,
    &DELIVERED_PER_SECOND,
    &BACKLOG,
    &DRAIN_SECONDS,
    &ENTRIES_LOST_TOTAL,
    &LOSS_RATIO,
    &RETENTION_USED_RATIO,
    &SECONDS_TO_LOSS,
    &gauge(
        "redis_stream_group_status",
        "1 for each condition of the group that holds, or for `ok` or `unknown`.",
        ValueUnit::Bool,
        Aggregation::Any,
        ValueSource::Status,
    )
    .notes("[Status](status.md) explains the conditions.")
    .absent("for conditions that do not hold")
    .fact(AlertFact::Status("status")),
    &gauge(
        "redis_stream_family_streams",
        "Streams of the family.",
        ValueUnit::Count,
        Aggregation::OfFamily,
        ValueSource::Stream(|values| {
            values.seldom.fold.as_ref().map_or(ValueReading::Absent, |fold| fold.streams.into())
        }),
    )
    .absent(NO_FAMILY),
    &gauge(
        "redis_stream_family_groups",
        "Groups of this name in the streams of the family that have the condition, or are `ok` or \
         `unknown`; those with two conditions count in each.",
        ValueUnit::Count,
        Aggregation::OfFamily,
        ValueSource::FamilyGroups,
    )
    .absent(NO_FAMILY),
    &gauge(
        "redis_stream_group_consumer_messages_pending",
        "Entries delivered to the consumer and not acknowledged.",
        ValueUnit::Count,
        Aggregation::LeftOut,
        ValueSource::Consumer(|consumer| consumer.messages_pending().into()),
    )
    .absent("consumers that are left out"),
    &gauge(
        "redis_stream_group_consumer_idle_seconds",
        "Time since the consumer's last attempt to read; before server 7.2, since its last success.",
        ValueUnit::Seconds,
        Aggregation::LeftOut,
        ValueSource::Consumer(|consumer| consumer.idle().into()),
    )
    .absent("consumers that are left out"),
    &gauge(
        "redis_stream_group_consumer_inactive_seconds",
        "Time since the consumer last got an entry.",
        ValueUnit::Seconds,
        Aggregation::LeftOut,
        ValueSource::Consumer(|consumer| consumer.inactive().into()),
    )
    .absent("it never got one; before server 7.2; consumers that are left out"),
    &of_redis_exporter(
        "redis_stream_radix_tree_keys",
        "Keys of the radix tree that stores the stream.",
        Aggregation::Sum,
        ValueSource::Stream(|values| values.radix_tree.keys.into()),
    ),
    &of_redis_exporter(
        "redis_stream_radix_tree_nodes",
        "Nodes of the radix tree that stores the stream.",
        Aggregation::Sum,
        ValueSource::Stream(|values| values.radix_tree.nodes.into()),
    ),
    &of_redis_exporter(
        "redis_stream_idmp_duration_seconds",
        "Time for which an idempotent ID is remembered.",
        Aggregation::LargestKnown,
        ValueSource::Stream(|values| values.seldom.idmp.map(|idmp| idmp.duration_seconds).into()),
    )
    .absent(NO_IDMP),
    &of_redis_exporter(
        "redis_stream_last_generated_id",
        "Milliseconds of last-generated-id.",
        Aggregation::Max,
        ValueSource::Stream(|values| ms(Some(values.ids.last_generated))),
    ),
    &of_redis_exporter(
        "redis_stream_max_deleted_entry_id",
        "Milliseconds of max-deleted-entry-id; 0 if nothing was deleted, and before server 7.0.",
        Aggregation::Max,
        ValueSource::Stream(|values| ms(values.ids.max_deleted.map(CompactId::get))),
    ),
    &of_redis_exporter(
        "redis_stream_first_entry_id",
        "Milliseconds of the first entry's ID; 0 if the stream is empty.",
        Aggregation::SmallestKnown,
        ValueSource::Stream(|values| ms(values.ids.first.get())),
    ),
    &of_redis_exporter(
        "redis_stream_last_entry_id",
        "Milliseconds of the last entry's ID; 0 if the stream is empty.",
        Aggregation::Max,
        ValueSource::Stream(|values| ms(values.ids.last.get())),
    ),
    &of_redis_exporter(
        "redis_stream_group_last_delivered_id",
        "Milliseconds of the group's last-delivered-id.",
        Aggregation::Min,
        ValueSource::Group(|values| ms(Some(values.last_delivered_id))),
    ),
    &of_redis_exporter(
        "redis_stream_group_messages_nacked",
        "The same as `redis_stream_group_messages_released`.",
        Aggregation::Sum,
        ValueSource::Group(|values| values.messages_released.into()),
    )
    .absent("before server 8.8; where consumers are left out"),
];

/// The values of a group, in the order of `/metrics`: the fields of its JSON.
pub static GROUP_VALUES: LazyLock<Vec<&Family>> = LazyLock::new(|| {
    let is_value = |family: &&&Family| {
        matches!(family.source, ValueSource::Group(_)) && family.origin == MetricOrigin::Own
    };
    FAMILIES.iter().filter(is_value).copied().collect()
});

pub static LAG: Family = gauge(
    "redis_stream_group_lag",
    "Entries in the stream that were not yet delivered to the group, exactly.",
    ValueUnit::Count,
    Aggregation::Sum,
    ValueSource::Group(|values| values.lag.exact().into()),
)
.absent("while it is being counted")
.fact(AlertFact::Bounds { name: "lag", min: &LAG_MIN, max: &LAG_MAX });

pub static LAG_MIN: Family = gauge(
    "redis_stream_group_lag_min",
    "Certain minimum of the lag; equal to it when it is exact.",
    ValueUnit::Count,
    Aggregation::Sum,
    ValueSource::Group(|values| values.lag.min().into()),
);

pub static LAG_MAX: Family = gauge(
    "redis_stream_group_lag_max",
    "Certain maximum of the lag; equal to it when it is exact.",
    ValueUnit::Count,
    Aggregation::Sum,
    ValueSource::Group(|values| Some(values.lag.max()).filter(|max| *max < u64::MAX).into()),
)
.absent("no maximum is known");

pub static LAG_SECONDS: Family = gauge(
    "redis_stream_group_lag_seconds",
    "Age of the oldest entry that was not yet delivered to the group; 0 if there is none.",
    ValueUnit::Seconds,
    Aggregation::LargestKnown,
    ValueSource::Group(|values| values.lag_seconds().into()),
)
.absent("entry not known yet; ID without time, or in the future")
.fact(AlertFact::Value("lag_seconds"))
.label(
    "Behind",
    "age of the oldest undelivered entry",
    |_| "the oldest undelivered entry is not known yet, or its ID is not a time, or one in the future",
);

pub static LAST_DELIVERY_AGE_SECONDS: Family = gauge(
    "redis_stream_group_last_delivery_age_seconds",
    "Time since streamgauge last saw that entries were delivered to the group.",
    ValueUnit::Seconds,
    Aggregation::SmallestKnown,
    ValueSource::Group(|values| values.last_delivery_age().into()),
)
.absent("until a delivery was seen")
.fact(AlertFact::Value("last_delivery_age_seconds"))
.label("Last delivery", "", |_| "no delivery was seen since streamgauge started");

pub static LAST_DELIVERED_ID_AGE_SECONDS: Family = gauge(
    "redis_stream_group_last_delivered_id_age_seconds",
    "Age of the group's last-delivered-id.",
    ValueUnit::Seconds,
    Aggregation::LargestKnown,
    ValueSource::Group(|values| values.last_delivered_id_age().into()),
)
.absent(ID_WITHOUT_TIME)
.fact(AlertFact::Value("last_delivered_id_age_seconds"))
.label("Age of last delivered ID", "", |values| {
    if values.last_delivered_id == StreamId::MIN { "it is 0-0, which is not a time" } else { NO_TIME }
});

pub static ENTRIES_READ: Family = gauge(
    "redis_stream_group_entries_read",
    "The server's entries-read, unchanged.",
    ValueUnit::Count,
    Aggregation::Sum,
    ValueSource::Group(|values| values.entries_read.into()),
)
.absent("before server 7.0; not known to the server; a replica before 7.4, which does not maintain it")
.label("Entries read", "as the server counts", |values| {
    // Since version 7.0 losses are known.
    if values.entries_lost.is_none() {
        OLD_SERVER
    } else {
        "the server has lost count, or is a replica before 7.4"
    }
});

pub static MESSAGES_PENDING: Family = gauge(
    "redis_stream_group_messages_pending",
    "Entries delivered to the group and not acknowledged (PEL).",
    ValueUnit::Count,
    Aggregation::Sum,
    ValueSource::Group(|values| values.messages_pending.into()),
)
.fact(AlertFact::Value("messages_pending"))
.label("Pending", "delivered and not acknowledged", |_| "");

pub static MESSAGES_RELEASED: Family = gauge(
    "redis_stream_group_messages_released",
    "Pending entries that were given back by `XNACK` and belong to no consumer, seen in two polls \
         in a row.",
    ValueUnit::Count,
    Aggregation::Sum,
    ValueSource::Group(|values| values.messages_released.into()),
)
.absent("before server 8.8; where consumers are left out");

pub static OLDEST_PENDING_AGE_SECONDS: Family = gauge(
    "redis_stream_group_oldest_pending_age_seconds",
    "Age of the oldest pending entry, by its ID; 0 if none is pending.",
    ValueUnit::Seconds,
    Aggregation::LargestKnown,
    ValueSource::Group(|values| oldest_pending(values, ValueReading::ZERO, |age, _, _| age.into())),
)
.absent(ID_WITHOUT_TIME)
.counted_by(&MESSAGES_PENDING)
.fact(AlertFact::Value("oldest_pending_age_seconds"))
.label("Oldest pending entry", "age by its ID", |values| match values.oldest_pending {
    None => NOT_FOUND_OUT,
    Some(_) => NO_TIME,
});

pub static OLDEST_PENDING_IDLE_SECONDS: Family = gauge(
    "redis_stream_group_oldest_pending_idle_seconds",
    "Time since the oldest pending entry was last delivered; 0 if none is pending.",
    ValueUnit::Seconds,
    Aggregation::LargestKnown,
    ValueSource::Group(|values| oldest_pending(values, ValueReading::ZERO, |_, idle, _| idle.into())),
)
.absent("it was given back by `XNACK`")
.counted_by(&MESSAGES_PENDING)
.fact(AlertFact::Value("oldest_pending_idle_seconds"))
.label("Idle for", "since the last delivery of the oldest pending entry", |values| {
    match values.oldest_pending {
        None => NOT_FOUND_OUT,
        Some(_) => "it was released and has no consumer",
    }
});

pub static OLDEST_PENDING_DELIVERIES: Family = gauge(
    "redis_stream_group_oldest_pending_deliveries",
    "How often the oldest pending entry was delivered.",
    ValueUnit::Count,
    Aggregation::LargestKnown,
    ValueSource::Group(|values| {
        oldest_pending(values, ValueReading::Absent, |_, _, deliveries| {
            Some(deliveries).filter(|deliveries| !is_fatal(*deliveries)).into()
        })
    }),
)
.absent("none is pending; `XNACK FATAL` replaced the number")
.counted_by(&MESSAGES_PENDING)
.fact(AlertFact::Value("oldest_pending_deliveries"))
.label("Deliveries", "of the oldest pending entry", |values| match values.oldest_pending {
    None => NOT_FOUND_OUT,
    Some(_) => "XNACK FATAL marked it as failed, and replaced the number",
});

pub static PENDING_ORPHANED: Family = gauge(
    "redis_stream_group_pending_orphaned",
    "Pending entries that were trimmed or deleted from the stream and can no longer be processed.",
    ValueUnit::Count,
    Aggregation::Sum,
    ValueSource::Group(|values| values.pending_orphaned.into()),
)
.notes("If more than 1,000 were trimmed, it is as of the last census.")
.absent(
    "more than 1,000 were trimmed, and no census has counted them yet; or entries were deleted \
         above the oldest pending one, and finding out which would take more than 250 look-ups, or \
         more than the budgets allow",
)
.fact(AlertFact::Value("pending_orphaned"))
.label(
    "Pending, but trimmed away",
    "pending entries that are no longer in the stream",
    |_| "they are more than 1,000 and not counted yet, or too many pending entries to look up",
);

pub static PENDING_REDELIVERED: Family = gauge(
    "redis_stream_group_pending_redelivered",
    "Pending entries that were delivered more than once, by the last census, without those that \
         `XNACK FATAL` marked.",
    ValueUnit::Count,
    Aggregation::Sum,
    ValueSource::Group(|values| {
        of_census(values, ValueReading::ZERO, |shown| shown.census.redelivered.into())
    }),
)
.notes("A [census](lag.md#all-pending-entries) reads all pending entries.")
.absent("until a census has ended")
.counted_by(&MESSAGES_PENDING)
.fact(AlertFact::Value("pending_redelivered"))
.label("Delivered again", "pending entries that were delivered more than once", |_| NO_CENSUS);

pub static PENDING_MAX_DELIVERIES: Family = gauge(
    "redis_stream_group_pending_max_deliveries",
    "Most deliveries of any pending entry that `XNACK FATAL` did not mark, by the last census.",
    ValueUnit::Count,
    Aggregation::Max,
    ValueSource::Group(|values| {
        of_census(values, ValueReading::Absent, |shown| {
            shown.census.max_deliveries.map_or(ValueReading::Absent, Into::into)
        })
    }),
)
.absent("until a census has ended; none is pending; `XNACK FATAL` replaced the number of each")
.counted_by(&MESSAGES_PENDING)
.fact(AlertFact::Value("pending_max_deliveries"))
.label("Most deliveries", "of any pending entry", |values| match values.pending_census {
    None => NO_CENSUS,
    Some(_) => "XNACK FATAL marked each as failed, and replaced the number",
});

pub static PENDING_FAILED: Family = gauge(
    "redis_stream_group_pending_failed",
    "Pending entries that `XNACK FATAL` marked as failed, by the last census.",
    ValueUnit::Count,
    Aggregation::Sum,
    ValueSource::Group(|values| {
        of_census(values, ValueReading::Absent, |shown| match shown.census.failed {
            0 => ValueReading::Absent,
            failed => failed.into(),
        })
    }),
)
.notes("They do not count in `pending_redelivered` and `pending_max_deliveries`.")
.absent("none is marked; before server 8.8")
.counted_by(&PENDING_FAILED)
.fact(AlertFact::Value("pending_failed"))
.label("Failed", "pending entries that XNACK FATAL marked", |_| "");

pub static PENDING_MAX_IDLE_SECONDS: Family = gauge(
    "redis_stream_group_pending_max_idle_seconds",
    "Longest time for which a pending entry was not delivered again, by the last census; 0 if \
         none is pending.",
    ValueUnit::Seconds,
    Aggregation::Max,
    ValueSource::Group(|values| {
        of_census(values, ValueReading::ZERO, |shown| {
            shown.max_idle().map_or(ValueReading::Absent, Into::into)
        })
    }),
)
.notes(
    "It was measured when the census read the entry, or when the list was last known to be \
         unchanged.",
)
.absent("until a census has ended; each was given back by `XNACK`")
.counted_by(&MESSAGES_PENDING)
.fact(AlertFact::Value("pending_max_idle_seconds"))
.label("Longest idle time", "of any pending entry", |values| match values.pending_census {
    None => NO_CENSUS,
    Some(_) => "each was given back and has no consumer",
});

pub static PENDING_CENSUS_AGE_SECONDS: Family = gauge(
    "redis_stream_group_pending_census_age_seconds",
    "Time since the last census of the pending entries ended, or since the list was last known to \
         be unchanged.",
    ValueUnit::Seconds,
    Aggregation::Max,
    ValueSource::Group(|values| of_census(values, ValueReading::Absent, |shown| shown.age.into())),
)
.absent("until a census has ended; none is pending")
.counted_by(&MESSAGES_PENDING)
.label("Age of the census", "since all pending entries were read", |_| NO_CENSUS);

pub static PENDING_DROPPED: Family = counter(
    "redis_stream_group_pending_dropped_total",
    "Pending entries, at most, that `XGROUP DELCONSUMER` dropped, since the start.",
    ValueUnit::Count,
    Aggregation::Counter,
    ValueSource::Group(|values| match values.seldom.pending_dropped {
        0 => ValueReading::Absent,
        dropped => dropped.into(),
    }),
)
.notes(
    "For each deleted consumer, it counts the entries that it had at the poll before, but no more \
         than have disappeared since.",
)
.absent("until there are any")
.counted_by(&PENDING_DROPPED)
.label(
    "Dropped with consumers",
    "at most; pending entries of consumers that were deleted, since streamgauge started",
    |_| "",
);

pub static CONSUMERS: Family = gauge(
    "redis_stream_group_consumers",
    "Consumers of the group.",
    ValueUnit::Count,
    Aggregation::Sum,
    ValueSource::Group(|values| values.consumers.into()),
)
.fact(AlertFact::Value("consumers"))
.label("Consumers", "", |_| "");

fn why_consumers_are_not_read(values: &GroupValues) -> &'static str {
    if values.consumers > MAX_LISTED {
        "the server would need more than 5 ms to list more than 20,000 consumers; streamgauge tidy prints what deletes idle ones"
    } else {
        "consumers are not read (consumers: false, or a replica), or not yet"
    }
}

pub static CONSUMERS_GROWTH: Family = gauge(
    "redis_stream_group_consumers_growth",
    "How many more consumers the group has than a day ago, from one count an hour; 0 if it does \
         not have more.",
    ValueUnit::Count,
    Aggregation::SumOfKnown,
    ValueSource::Group(|values| values.consumers_growth.get().into()),
)
.notes(
    "It rises where programs choose a new consumer name at each start and delete none. With \
         `alerts.state_file`, the counts of a group whose number of consumers changed within the day survive a restart.",
)
.absent("until the group was observed for a day; again after 6 hours without a poll")
.fact(AlertFact::Value("consumers_growth"))
.label("Growth of consumers", "more than a day ago", |_| "not yet observed for a day");

pub static CONSUMERS_IDLE: Family = gauge(
    "redis_stream_group_consumers_idle",
    "Consumers without pending entries that have not tried to read for \
         `metrics.consumer_max_idle`: names that can be deleted.",
    ValueUnit::Count,
    Aggregation::Sum,
    ValueSource::Group(|values| values.silent_consumers.map(|silent| silent.idle()).into()),
)
.notes(
    "[`tidy`](cli.md#tidy) prints the commands. For a group with 5,001 to 20,000 consumers, this \
         and `consumers_stranded` are counted once an hour, one such group in a poll.",
)
.absent(CONSUMERS_NOT_COUNTED)
.fact(AlertFact::Value("consumers_idle"))
.label(
    "Idle consumers",
    "no attempt to read for metrics.consumer_max_idle, nothing pending",
    why_consumers_are_not_read,
);

pub static CONSUMERS_STRANDED: Family = gauge(
    "redis_stream_group_consumers_stranded",
    "Consumers with pending entries that have not tried to read for `metrics.consumer_max_idle`: \
         what they hold waits until another consumer claims it.",
    ValueUnit::Count,
    Aggregation::Sum,
    ValueSource::Group(|values| values.silent_consumers.map(|silent| silent.stranded()).into()),
)
.absent(CONSUMERS_NOT_COUNTED)
.fact(AlertFact::Value("consumers_stranded"))
.label("Stranded consumers", "the same, with entries pending", why_consumers_are_not_read);

pub static ENTRIES_DELIVERED_TOTAL: Family = counter(
    "redis_stream_group_entries_delivered_total",
    "Entries that the group moved past since the start, less those that were lost.",
    ValueUnit::Count,
    Aggregation::Counter,
    ValueSource::Group(|values| values.entries_delivered.into()),
)
.notes(
    "It never falls while the stream is there: setting the group back, re-creating it, or replacing its stream does not \
         change it. Entries that are delivered again count again; entries that `XGROUP SETID` skips count too. After a time \
         in which the lag was not known, it includes what was delivered then. While trimming overtakes the group, unseen \
         losses are estimated by `redis_stream_group_loss_ratio`.",
)
.absent(NO_FLOW)
.label("Delivered", "since streamgauge started", why_not_counted);

pub static ENTRIES_ACKNOWLEDGED_TOTAL: Family = counter(
    "redis_stream_group_entries_acknowledged_total",
    "Entries delivered since the start, less the change of pending: acknowledged, read with \
         `NOACK`, or dropped by `XGROUP DELCONSUMER`.",
    ValueUnit::Count,
    Aggregation::Counter,
    ValueSource::Group(|values| values.entries_acknowledged.into()),
)
.absent(NO_FLOW)
.label(
    "Acknowledged",
    "since streamgauge started; what is dropped with a consumer looks acknowledged",
    why_not_counted,
);

pub static ADDED_PER_SECOND: Family = gauge(
    "redis_stream_group_added_per_second",
    "Rate in: entries added to the stream per second, over `status.window`.",
    ValueUnit::PerSecond,
    Aggregation::Sum,
    ValueSource::Group(|values| values.added_rate.into()),
)
.absent(NO_RATE)
.fact(AlertFact::Value("added_per_second"))
.label("Add rate", "to the stream, over the window", why_no_rate);

pub static DELIVERED_PER_SECOND: Family = gauge(
    "redis_stream_group_delivered_per_second",
    "Rate out: entries delivered to the group per second, over `status.window`.",
    ValueUnit::PerSecond,
    Aggregation::Sum,
    ValueSource::Group(|values| values.delivered_rate.into()),
)
.absent(
    "before server 7.0; lag not known; the first quarter of a window; trimming overtakes the group \
         and `redis_stream_group_loss_ratio` is absent",
)
.fact(AlertFact::Value("delivered_per_second"))
.label("Delivery rate", "to the group, over the window", why_no_rate);

pub static BACKLOG: Family = gauge(
    "redis_stream_group_backlog",
    "Lag and pending entries: what is still to be done. The number to scale by.",
    ValueUnit::Count,
    Aggregation::Sum,
    ValueSource::Group(|values| {
        values.lag.exact().map(|lag| lag.saturating_add(values.messages_pending)).into()
    }),
)
.absent("lag not known")
.fact(AlertFact::Value("backlog"))
.label("Backlog", "lag and pending entries: what is still to be done", |_| "the lag is not known exactly");

pub static DRAIN_SECONDS: Family = gauge(
    "redis_stream_group_drain_seconds",
    "Time until the lag is gone at the rates of the window; 0 at lag 0.",
    ValueUnit::Seconds,
    Aggregation::Max,
    ValueSource::Group(|values| values.drain_time.into()),
)
.absent("while the lag does not shrink, or is not known; the first quarter of a window")
.fact(AlertFact::Value("drain_seconds"))
.label("Time to drain", "until the lag is gone at the rates of the window", |values| {
    match values.lag.exact() {
        None => "the lag is not known exactly",
        Some(_) => "the lag does not shrink, or was not observed for long enough",
    }
});

fn why_not_counted(values: &GroupValues) -> &'static str {
    match (values.lag.exact(), values.entries_lost) {
        (None, _) => "the lag is not known exactly",
        (Some(_), None) => OLD_SERVER,
        (Some(_), Some(_)) => "the group loses entries, and the share is not known yet",
    }
}

fn why_no_rate(values: &GroupValues) -> &'static str {
    match values.entries_delivered {
        None => why_not_counted(values),
        Some(_) => "it was not observed for long enough",
    }
}

pub static ENTRIES_LOST_TOTAL: Family = counter(
    "redis_stream_group_entries_lost_total",
    "Entries, at least, that were trimmed or deleted before they were delivered to the group, \
         since the start.",
    ValueUnit::Count,
    Aggregation::Counter,
    ValueSource::Group(|values| values.entries_lost.into()),
)
.notes("A loss is not seen if the group reads past it between two polls.")
.absent(
    "before server 7.0; while a loss is seen that cannot be confirmed: the stream has more than \
         5,000 groups and consumers, and the group moves between all readings",
)
.fact(AlertFact::Increase("entries_lost"))
.label(
    "Lost",
    "at least; removed before they were delivered, since streamgauge started",
    |_| "the server does not report it before version 7.0, or a loss could not be confirmed",
);

pub static LOSS_RATIO: Family = gauge(
    "redis_stream_group_loss_ratio",
    "Estimated share of the entries added in about the last minute that the group loses, 0 to 1.",
    ValueUnit::Ratio,
    Aggregation::LargestKnown,
    ValueSource::Group(|values| values.seldom.loss_estimate.into()),
)
.absent(
    "unless the group is losing; until enough samples were taken, and one of them showed a loss; \
         while samples are too late, as on a busy machine; a group that reads more often than about \
         50 times a second",
)
.counted_by(&ENTRIES_LOST_TOTAL)
.label(
    "Loses at present",
    "estimated, of the entries added",
    |_| "the group is not losing entries now, or too little was observed for an estimate",
);

pub static RETENTION_USED_RATIO: Family = gauge(
    "redis_stream_group_retention_used_ratio",
    "Lag divided by the length of the stream, 0 to 1: at 1 the next trim loses entries.",
    ValueUnit::Ratio,
    Aggregation::LargestKnown,
    ValueSource::Group(|values| values.seldom.retention_used.into()),
)
.absent(
    "until a trim was seen that does not wait for the slowest group, as `MAXLEN` does not, and \
         again after several trims that lost nothing while a group lacked all entries; lag not known; \
         before server 7.0",
)
.fact(AlertFact::Value("retention_used_ratio"))
.label(
    "Retention used",
    "lag as a share of the stream: at 100 % the next trim loses entries",
    |values| match (values.entries_lost, values.lag.exact()) {
        (None, _) => OLD_SERVER,
        (Some(_), None) => "the lag is not known exactly",
        (Some(_), Some(_)) => "no trimming was seen that does not wait for the slowest group",
    },
);

pub static SECONDS_TO_LOSS: Family = gauge(
    "redis_stream_group_seconds_to_loss",
    "Time until trimming reaches what the group has not read or not acknowledged, at the rate at \
         which the first entry moves.",
    ValueUnit::Seconds,
    Aggregation::SmallestKnown,
    ValueSource::Group(|values| values.seldom.time_to_loss.map_or(ValueReading::Absent, Into::into)),
)
.notes("Pending entries that are gone already do not count.")
.absent(
    "nothing is trimmed, or no trim was seen that does not wait for the slowest group; the first \
         window; before server 7.0",
)
.fact(AlertFact::Value("seconds_to_loss"))
.label(
    "Time to loss",
    "until trimming reaches what it has not read or not acknowledged, while it reads nothing more",
    |values| match values.entries_lost {
        None => OLD_SERVER,
        Some(_) => "no trimming was seen that does not wait for the slowest group, or not for long enough",
    },
);

const fn of_redis_exporter(
    name: &'static str,
    help: &'static str,
    aggregation: Aggregation,
    source: ValueSource,
) -> Family {
    let family = gauge(name, help, ValueUnit::Count, aggregation, source);
    Family { origin: MetricOrigin::RedisExporter, ..family }
}

/// Returns the milliseconds of an ID, 0 if there is none, as redis_exporter does.
fn ms(id: Option<StreamId>) -> ValueReading {
    id.map_or(0, |id| id.ms).into()
}

type Span = Option<Duration>;

fn oldest_pending(
    values: GroupView<'_>,
    if_nothing: ValueReading,
    read: fn(Span, Span, u64) -> ValueReading,
) -> ValueReading {
    match &values.oldest_pending {
        None => ValueReading::Unknown,
        Some(OldestPending::Nothing) => if_nothing,
        Some(OldestPending::Entry { idle, deliveries, .. }) => {
            read(values.oldest_pending_age(), idle.map(|idle| values.age(idle)), *deliveries)
        }
    }
}

/// Reads from the last census of the pending entries.
fn of_census(
    values: GroupView<'_>,
    if_nothing: ValueReading,
    read: fn(CensusView<'_>) -> ValueReading,
) -> ValueReading {
    match values.pending_census() {
        _ if values.messages_pending == 0 => if_nothing,
        None => ValueReading::Unknown,
        Some(shown) => read(shown),
    }
}
