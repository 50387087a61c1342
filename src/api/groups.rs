//! `/api/v1/groups` and `status --json`: every group with all its values, the worst first. Unknown values are `null`.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Number, Value};

use crate::alert::rule::TargetLabels;
use crate::api::groups::filter::GroupFilter;
use crate::api::json;
use crate::api::partial_sort::sorted_range;
use crate::format::redis_cli;
use crate::format::units::rfc3339;
use crate::values::family::{self, Family, ValueUnit};
use crate::values::table::GROUP_VALUES;
use redis_stream_core::name::Name;
use redis_stream_lag::report::{
    ConsumerCensus, ConsumerView, GroupReport, GroupStatus, GroupView, LimitedCounts, PendingReport, Report,
    ReportedStream, SafeTrim, Status,
};

pub mod filter;

/// The state of a target that readers are shown.
#[derive(Clone, Debug)]
pub struct TargetSnapshot {
    /// Name, database and configured labels.
    pub labels: Arc<TargetLabels>,
    /// True if it answered the last poll, until the end of the poll.
    pub is_up: bool,
    /// End of the last poll that read anything, since the Unix epoch; `None` before the first.
    pub last_read: Option<Duration>,
    /// The error of the last poll; `None` if it read everything.
    pub error: Option<String>,
    /// The last report; `None` before the first, and once it is too old to be served.
    pub report: Option<Arc<Report>>,
    /// `redis-cli` and the arguments that reach the target, without secrets; empty if they are not known.
    pub redis_cli: Arc<[String]>,
}

/// A whole answer. [`write()`] writes the same without holding it in memory.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Listing {
    /// The groups, the worst first.
    pub groups: Vec<ListedGroup>,
    /// Number of groups that the filter selects; `groups` has fewer if the filter has a limit.
    pub matched: usize,
    /// The targets that the filter selects, in the order of the configuration.
    pub targets: Vec<ListedTarget>,
}

/// A group.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ListedGroup {
    /// Name of the target.
    pub target: String,
    /// `db0`, `db1` and so on.
    pub db: String,
    /// Key of the stream, as text.
    pub stream: String,
    /// Name of the group, as text.
    pub group: String,
    /// The family that the stream belongs to (`as` in the configuration); `None` if it has its own series.
    #[serde(default)]
    pub family: Option<String>,
    /// False if the configuration names the group and it does not exist.
    pub up: bool,
    /// `None` if the group is missing.
    #[serde(default, with = "status_name")]
    pub status: Option<Status>,
    /// All conditions that hold, the worst first.
    #[serde(default, with = "condition_names")]
    pub conditions: Vec<Status>,
    /// Time at which the status began, by the server's clock, as in RFC 3339; `None` if the group is missing.
    #[serde(default)]
    pub since: Option<String>,
    /// If the status is `unknown`: when there is enough history to tell, as in RFC 3339; `None` if that is not known.
    #[serde(default)]
    pub unknown_until: Option<String>,
    /// The values of the table.
    #[serde(flatten)]
    pub values: ListedValues,
    /// What the group holds, if it needs the oldest entry of the stream.
    #[serde(default)]
    pub holds: Option<ListedHold>,
    /// The pending entries that were delivered most often and those that were not delivered for the longest time, by the
    /// last census; `None` until one has ended.
    #[serde(default)]
    pub worst_pending: Option<Vec<ListedPending>>,
    /// The consumers with the most pending entries, by the last census; `None` until one has ended.
    #[serde(default)]
    pub pending_by_consumer: Option<Vec<ListedHolding>>,
    /// The consumers, by name; `None` if they were not read.
    pub consumer_list: Option<Vec<ListedConsumer>>,
}

/// A stream of which a group needs the oldest entry.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedHold {
    /// Time since which it has been the one, as in RFC 3339.
    pub since: String,
    /// `delivery` if the entry was not delivered to the group, `acknowledgement` if it was.
    pub waits_for: String,
    /// Number of entries that no group needs; `None` while they are being counted.
    pub trimmable_entries: Option<u64>,
    /// The ID of the oldest entry that a group may need.
    pub min_id: String,
    /// The redis-cli command that trims what no group needs, quoted for a shell; `None` if the way to the server is not
    /// known.
    #[serde(default)]
    pub trim_command: Option<String>,
}

/// The values of a group, parallel to [`GROUP_VALUES`]; `None` if not known. Fields in JSON are named as metrics
/// without `redis_stream_group_`, and have their units.
#[derive(Clone, Debug, PartialEq)]
pub struct ListedValues(Vec<Option<Number>>);

/// A pending entry in a census.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListedPending {
    /// Its ID.
    pub id: String,
    /// Name of the consumer, as text; empty if the entry was given back by XNACK.
    pub consumer: String,
    /// Number of deliveries; `None` if XNACK FATAL replaced it.
    pub deliveries: Option<u64>,
    /// Time since the last delivery; `None` if the entry was given back by XNACK.
    pub idle_seconds: Option<f64>,
}

/// The pending entries of one consumer in a census.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListedHolding {
    /// Name of the consumer, as text.
    pub consumer: String,
    /// Number of its entries.
    pub entries: u64,
    /// Number of those that were delivered more than once.
    pub redelivered: u64,
    /// Longest time since one of them was delivered.
    pub max_idle_seconds: f64,
}

/// A consumer. Fields are named as metrics without `redis_stream_group_consumer_`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ListedConsumer {
    /// Its name, as text.
    pub consumer: String,
    /// Entries delivered to it and not acknowledged.
    pub messages_pending: u64,
    /// Time since its last attempt to read; before server 7.2 since its last success.
    pub idle_seconds: f64,
    /// Time since it last got an entry; `None` before server 7.2, and if it never did.
    pub inactive_seconds: Option<f64>,
}

/// A target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ListedTarget {
    /// Its name.
    pub target: String,
    /// `db0`, `db1` and so on.
    pub db: String,
    /// The configured labels.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// True if it answered the last poll.
    pub up: bool,
    /// End of the last poll that read anything, as Unix time; `None` before the first.
    pub last_successful_poll_timestamp_seconds: Option<f64>,
    /// The error of the last poll; `None` if it read everything.
    pub error: Option<String>,
    /// Number of streams in the last report; `None` if there is no report, or it is too old to be shown.
    pub streams: Option<usize>,
    /// The streams that could not be read: missing, of another type, or denied.
    #[serde(default)]
    pub streams_down: Vec<String>,
    /// The streams that grow, have no group, and are not trimmed. Readers without a group are not seen.
    #[serde(default)]
    pub streams_unread: Vec<String>,
    /// Number of groups that have been abandoned for a day or longer; `None` while it is not known of one.
    #[serde(default)]
    pub groups_abandoned: Option<u64>,
    /// The streams that these groups are on, those with the most first.
    #[serde(default)]
    pub streams_with_groups_abandoned: Vec<ListedAbandoned>,
    /// The streams that take the most memory, the largest first; empty unless `poll.memory_interval` is set.
    #[serde(default)]
    pub largest_streams: Vec<ListedMemory>,
    /// Numbers of what the target's limits leave out.
    #[serde(default)]
    pub limited: ListedLimits,
}

/// Number of streams of a target that are listed because they take the most memory, or have the most abandoned groups.
const LARGEST: usize = 5;

/// A stream with groups that have been abandoned for a day or longer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedAbandoned {
    /// Key of the stream.
    pub stream: String,
    /// Number of these groups.
    pub groups_abandoned: u64,
}

/// The memory that a stream takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedMemory {
    /// Key of the stream.
    pub stream: String,
    /// As the server estimates it.
    pub memory_bytes: u64,
}

/// Numbers of what the limits of a target leave out, named as the label `what` of `streamgauge_limited`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListedLimits {
    /// Streams beyond `limits.streams`.
    pub streams: usize,
    /// Groups beyond `limits.groups_per_stream`.
    pub groups: usize,
    /// Consumers beyond `limits.consumers_per_group`.
    pub consumers: usize,
}

/// A group in a report, with its stream and target.
#[derive(Clone, Copy, Debug)]
pub struct ReportedGroup<'a> {
    /// The target.
    pub snapshot: &'a TargetSnapshot,
    /// The stream.
    pub stream: &'a ReportedStream,
    /// The group itself.
    pub group: &'a GroupReport,
}

/// Returns the groups that the filter selects, the worst first and at most its limit; and their number without the
/// limit.
///
/// The order is: groups that are missing, then by status as in [`Status::ALL`]; of one status by the certain minimum of
/// the lag, by its maximum and by the pending entries, the most first; then by name.
pub fn worst_first<'a>(
    snapshots: &'a [TargetSnapshot],
    filter: &GroupFilter,
) -> (Vec<ReportedGroup<'a>>, usize) {
    let mut found = Vec::new();
    for snapshot in snapshots.iter().filter(|snapshot| filter.takes_target(&snapshot.labels.name)) {
        let streams = snapshot.report.iter().flat_map(|report| &report.streams);
        for stream in streams.filter(|stream| filter.takes_stream(stream)) {
            let groups = stream.groups.iter().filter(|group| filter.takes_group(group));
            found.extend(groups.map(|group| ReportedGroup { snapshot, stream, group }));
        }
    }
    let matched = found.len();
    let worst = sorted_range(found, 0..filter.limit(), |one, other| {
        one.group.badness().cmp(&other.group.badness()).then_with(|| one.name().cmp(&other.name()))
    });
    (worst, matched)
}

/// Writes the groups and the targets that the filter selects, one at a time.
///
/// # Errors
///
/// Those of `out`.
pub fn write(snapshots: &[TargetSnapshot], filter: &GroupFilter, out: &mut dyn Write) -> io::Result<()> {
    let (found, matched) = worst_first(snapshots, filter);
    write_parts(found.iter().map(ListedGroup::of), matched, &targets(snapshots, filter), out)
}

fn targets(snapshots: &[TargetSnapshot], filter: &GroupFilter) -> Vec<ListedTarget> {
    let selected = snapshots.iter().filter(|snapshot| filter.takes_target(&snapshot.labels.name));
    selected.map(ListedTarget::of).collect()
}

fn write_parts(
    groups: impl Iterator<Item = impl Borrow<ListedGroup>>,
    matched: usize,
    targets: &[ListedTarget],
    out: &mut dyn Write,
) -> io::Result<()> {
    out.write_all(br#"{"groups":["#)?;
    for (index, group) in groups.enumerate() {
        if index > 0 {
            out.write_all(b",")?;
        }
        json::write(group.borrow(), out)?;
    }
    write!(out, r#"],"matched":{matched},"targets":"#)?;
    json::write(targets, out)?;
    out.write_all(b"}\n")
}

impl Listing {
    /// Lists what the filter selects.
    pub fn of(snapshots: &[TargetSnapshot], filter: &GroupFilter) -> Self {
        let (found, matched) = worst_first(snapshots, filter);
        Self {
            groups: found.iter().map(ListedGroup::of).collect(),
            matched,
            targets: targets(snapshots, filter),
        }
    }

    /// Writes the listing as [`write()`] does.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        write_parts(self.groups.iter(), self.matched, &self.targets, out)
    }
}

impl<'a> ReportedGroup<'a> {
    fn name(&self) -> (&'a str, &'a [u8], &'a [u8]) {
        (&self.snapshot.labels.name, self.stream.key.as_bytes(), self.group.name.as_bytes())
    }
}

impl ListedGroup {
    fn of(found: &ReportedGroup<'_>) -> Self {
        let ReportedGroup { snapshot, stream, group } = found;
        let consumers = stream.consumers(group).filter(|_| group.values.is_some());
        let view = stream.view(group);
        let status = group.values.as_ref().map(|values| &values.status);
        let unknown_for = view.and_then(|view| view.unknown_for());
        let census = view.map(CensusLists::of).unwrap_or_default();
        Self {
            target: snapshot.labels.name.clone(),
            db: snapshot.labels.db.clone(),
            stream: stream.key.to_string(),
            group: group.name.to_string(),
            family: stream.family.as_ref().map(ToString::to_string),
            up: group.values.is_some(),
            status: status.map(GroupStatus::status),
            conditions: status.iter().flat_map(|status| status.conditions.iter()).collect(),
            since: status.and_then(|status| status.since).map(|since| rfc3339(since.get())),
            unknown_until: snapshot.last_read.zip(unknown_for).map(|(read, time)| rfc3339(read + time)),
            values: view.map(ListedValues::of).unwrap_or_default(),
            holds: ListedHold::of(found),
            worst_pending: census.worst,
            pending_by_consumer: census.by_consumer,
            consumer_list: consumers.map(|list| list.map(ListedConsumer::of).collect()),
        }
    }

    /// Returns a value of the table; `None` if it is not known.
    pub(crate) fn number(&self, family: &Family) -> Option<&Number> {
        let index = GROUP_VALUES.iter().position(|one| *one == family)?;
        self.values.0[index].as_ref()
    }

    /// Returns a value of the table that is a count.
    pub(crate) fn count(&self, family: &Family) -> Option<u64> {
        self.number(family)?.as_u64()
    }

    /// Returns true if there is nothing that the value is about.
    pub(crate) fn has_nothing_of(&self, family: &Family) -> bool {
        // A value that counts itself is absent while it is 0.
        let is_zero = |counter| self.count(counter).map_or(counter == family, |count| count == 0);
        family.counted_by.is_some_and(is_zero)
    }
}

impl Default for ListedValues {
    fn default() -> Self {
        Self(vec![None; GROUP_VALUES.len()])
    }
}

impl ListedValues {
    pub(crate) fn of(values: GroupView<'_>) -> Self {
        let read = |family: &&Family| match (family.of_group_values(values).known()?, family.unit) {
            (family::Number::Count(count), ValueUnit::Count) => Some(count.into()),
            (number, _) => Number::from_f64(number.as_f64()),
        };
        Self(GROUP_VALUES.iter().map(read).collect())
    }
}

impl Serialize for ListedValues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(GROUP_VALUES.iter().map(|family| family.json_key()).zip(&self.0))
    }
}

impl<'de> Deserialize<'de> for ListedValues {
    /// Ignores fields that only a newer streamgauge has.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let fields = HashMap::<String, Value>::deserialize(deserializer)?;
        let read =
            |family: &&Family| Option::deserialize(fields.get(family.json_key()).unwrap_or(&Value::Null));
        GROUP_VALUES.iter().map(read).collect::<Result<_, _>>().map(Self).map_err(D::Error::custom)
    }
}

impl TargetSnapshot {
    /// Returns the redis-cli command that trims what no group needs; `None` if the way to the server is not known.
    pub(crate) fn trim_command(&self, key: &Name, trim: &SafeTrim) -> Option<String> {
        let min_id = trim.min_id.to_string();
        let arguments = [b"XTRIM", key.as_bytes(), b"MINID", b"~", min_id.as_bytes()];
        (!self.redis_cli.is_empty()).then(|| redis_cli::line(&self.redis_cli, &arguments))
    }
}

impl ListedHold {
    fn of(found: &ReportedGroup<'_>) -> Option<Self> {
        let ReportedGroup { snapshot, stream, group } = found;
        let trim = stream.values.as_ref()?.safe_trim.as_ref()?;
        let holder = trim.holder.as_ref().filter(|holder| holder.group == group.name)?;
        Some(Self {
            since: rfc3339(holder.since.get()),
            waits_for: holder.held_for.as_str().to_owned(),
            trimmable_entries: trim.entries.map(u64::from),
            trim_command: snapshot.trim_command(&stream.key, trim),
            min_id: trim.min_id.to_string(),
        })
    }
}

/// The lists of a census.
#[derive(Default)]
struct CensusLists {
    worst: Option<Vec<ListedPending>>,
    by_consumer: Option<Vec<ListedHolding>>,
}

impl CensusLists {
    fn of(values: GroupView<'_>) -> Self {
        if values.messages_pending == 0 {
            return Self { worst: Some(Vec::new()), by_consumer: Some(Vec::new()) };
        }
        let Some(shown) = values.pending_census() else { return Self::default() };
        let entry = |entry: &PendingReport| ListedPending {
            id: entry.id.to_string(),
            consumer: entry.consumer.to_string(),
            deliveries: entry.known_deliveries(),
            idle_seconds: seconds(shown.idle(entry)),
        };
        let holding = |held: &ConsumerCensus| ListedHolding {
            consumer: held.name.to_string(),
            entries: held.entries,
            redelivered: held.redelivered,
            max_idle_seconds: shown.max_idle_of(held).as_secs_f64(),
        };
        Self {
            worst: Some(shown.census.worst.iter().map(entry).collect()),
            by_consumer: Some(shown.census.consumers.iter().map(holding).collect()),
        }
    }
}

impl ListedConsumer {
    fn of(consumer: ConsumerView<'_>) -> Self {
        Self {
            consumer: consumer.name().to_string(),
            messages_pending: consumer.messages_pending(),
            idle_seconds: consumer.idle().as_secs_f64(),
            inactive_seconds: seconds(consumer.inactive()),
        }
    }
}

impl ListedTarget {
    fn of(snapshot: &TargetSnapshot) -> Self {
        let streams = snapshot.report.as_ref().map(|report| &report.streams);
        let down = streams.into_iter().flatten().filter(|stream| stream.values.is_none());
        Self {
            target: snapshot.labels.name.clone(),
            db: snapshot.labels.db.clone(),
            labels: snapshot.labels.configured.clone(),
            up: snapshot.is_up,
            last_successful_poll_timestamp_seconds: seconds(snapshot.last_read),
            error: snapshot.error.clone(),
            streams: streams.map(Vec::len),
            streams_down: down.map(|stream| stream.key.to_string()).collect(),
            streams_unread: snapshot
                .report
                .iter()
                .flat_map(|report| report.unread_streams())
                .map(|(stream, _)| stream.key.to_string())
                .collect(),
            groups_abandoned: snapshot.report.as_ref().and_then(|report| report.groups_abandoned()),
            streams_with_groups_abandoned: snapshot
                .report
                .iter()
                .flat_map(|report| report.streams_with_groups_abandoned().into_iter().take(LARGEST))
                .map(|(stream, groups_abandoned)| ListedAbandoned {
                    stream: stream.key.to_string(),
                    groups_abandoned,
                })
                .collect(),
            largest_streams: snapshot
                .report
                .iter()
                .flat_map(|report| report.largest_streams(LARGEST))
                .map(|(stream, memory_bytes)| ListedMemory { stream: stream.key.to_string(), memory_bytes })
                .collect(),
            limited: snapshot.report.as_ref().map(|report| report.limited.into()).unwrap_or_default(),
        }
    }
}

impl From<LimitedCounts> for ListedLimits {
    fn from(LimitedCounts { streams, groups, consumers }: LimitedCounts) -> Self {
        Self { streams, groups, consumers }
    }
}

fn seconds(duration: Option<Duration>) -> Option<f64> {
    duration.map(|duration| duration.as_secs_f64())
}

/// A status in JSON: its name.
mod status_name {
    use redis_stream_lag::report::Status;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

    #[expect(clippy::ref_option, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(
        status: &Option<Status>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        status.map(Status::as_str).serialize(serializer)
    }

    /// Reads an unknown name, which only a newer streamgauge has, as `None`.
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Status>, D::Error> {
        let name = Option::<String>::deserialize(deserializer)?;
        Ok(name.and_then(|name| Status::from_name(&name)))
    }
}

/// Conditions in JSON: their names.
mod condition_names {
    use redis_stream_lag::report::Status;
    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(conditions: &[Status], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(conditions.iter().map(|condition| condition.as_str()))
    }

    /// Leaves out unknown names, which only a newer streamgauge has.
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Status>, D::Error> {
        let names = Vec::<String>::deserialize(deserializer)?;
        Ok(names.iter().filter_map(|name| Status::from_name(name)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::family::{MetricOrigin, ValueSource};
    use crate::values::table::FAMILIES;
    use redis_stream_core::id::StreamId;
    use redis_stream_lag::question::FATAL_DELIVERIES;
    use redis_stream_lag::report::{
        Age, ConditionSet, ConsumerReport, GroupValues, HeldFor, HistoryCoverage, Lag, OldestPending,
        PendingCensus, PendingCensusReading, Retention, SeldomGroupValues, StreamHolder, StreamReport,
        StreamValues,
    };

    /// 9.5 s after the oldest pending entry was added.
    const READ_AT_MS: u64 = 1_700_000_009_500;

    fn values(status: Status, lag: Lag, messages_pending: u64) -> GroupValues {
        let entry = OldestPending::Entry {
            id: StreamId::new(1_700_000_000_000, 0),
            consumer: Some(Name::from("c")),
            idle: Some(Duration::from_secs(7).into()),
            deliveries: 3,
        };
        GroupValues {
            lag,
            lag_seconds: lag.exact().map(|_| Duration::from_millis(1_500)).map(Age::of),
            last_delivered_id: lag
                .exact()
                .map_or(StreamId::MIN, |lag| StreamId::new(READ_AT_MS - 1_000 * lag, 0)),
            entries_read: lag.exact().map(Into::into),
            messages_pending,
            oldest_pending: Some(if messages_pending > 0 { entry } else { OldestPending::Nothing }),
            pending_orphaned: lag.exact().map(Into::into),
            consumers: 1,
            entries_lost: lag.exact().map(Into::into),
            seldom: SeldomGroupValues {
                retention_used: lag.exact().map(|lag| Retention { lag, length: 48 }),
                ..SeldomGroupValues::default()
            }
            .into(),
            status: status.into(),
            ..GroupValues::default()
        }
    }

    fn group(name: &str, values: Option<GroupValues>) -> GroupReport {
        let (idle, inactive) = (Duration::from_millis(250), Some(Duration::from_secs(60)));
        let read_at = Duration::from_millis(READ_AT_MS);
        let consumer = ConsumerReport::new(Name::from("c"), 1, idle, inactive, read_at);
        let consumers = values.as_ref().and_then(|values| values.lag.exact()).map(|_| vec![consumer]);
        GroupReport::new(Name::from(name), values).with_consumers(consumers)
    }

    fn stream(key: &[u8], groups: Vec<GroupReport>) -> ReportedStream {
        let read_at = Duration::from_millis(READ_AT_MS).into();
        StreamReport { read_at, ..StreamReport::new(Name::from(key), None, groups) }.into()
    }

    fn snapshot(name: &str, streams: Vec<ReportedStream>) -> TargetSnapshot {
        let configured = BTreeMap::from([("team".to_owned(), "mail".to_owned())]);
        TargetSnapshot {
            labels: Arc::new(TargetLabels { name: name.to_owned(), db: "db0".to_owned(), configured }),
            is_up: true,
            last_read: Some(Duration::from_millis(1_700_000_000_250)),
            error: None,
            report: Some(Arc::new(Report { streams, ..Report::default() })),
            redis_cli: Arc::default(),
        }
    }

    fn gone() -> TargetSnapshot {
        TargetSnapshot {
            is_up: false,
            last_read: None,
            error: Some("cannot connect to cache:6379".to_owned()),
            report: None,
            ..snapshot("gone", Vec::new())
        }
    }

    fn some() -> Vec<TargetSnapshot> {
        use Lag::{Between, Exact};
        use Status::{Lagging, Ok, Stalled};
        let behind = vec![
            group("fine", Some(values(Ok, Exact(0), 0))),
            group("few", Some(values(Stalled, Exact(3), 0))),
            group("perhaps", Some(values(Stalled, Between { min: 2.into(), max: 1_000 }, 1))),
            group("many", Some(values(Stalled, Exact(40), 1))),
            group("absent", None),
        ];
        let odd = vec![
            group("late", Some(values(Lagging, Exact(9), 2))),
            group("x", Some(values(Ok, Exact(0), 4))),
        ];
        vec![
            snapshot("a", vec![stream(b"orders", behind)]),
            gone(),
            snapshot("b", vec![stream(b"odd\xff\n\"", odd)]),
        ]
    }

    fn query(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn names(pairs: &[(&str, &str)]) -> Vec<String> {
        let listing = Listing::of(&some(), &GroupFilter::read(&query(pairs)).unwrap());
        listing.groups.into_iter().map(|group| group.group).collect()
    }

    #[test]
    fn the_worst_comes_first_and_filters_select() {
        let all = ["absent", "many", "few", "perhaps", "late", "x", "fine"];
        for (pairs, expected) in [
            (&[][..], &all[..]),
            (&[("target", ""), ("stream", ""), ("group", ""), ("status", ""), ("limit", "")], &all),
            (&[("target", "b")], &["late", "x"]),
            (&[("target", "b"), ("target", "gone")], &["late", "x"]),
            (&[("stream", "ord*"), ("group", "[fx]*")], &["few", "fine"]),
            (&[("stream", "odd\\xff*")], &["late", "x"]),
            (&[("status", "stalled,ok")], &["many", "few", "perhaps", "x", "fine"]),
            (&[("status", "ok"), ("status", "lagging")], &["late", "x", "fine"]),
            (&[("limit", "2")], &["absent", "many"]),
            (&[("target", "none")], &[]),
        ] {
            assert_eq!(names(pairs), expected, "{pairs:?}");
        }
    }

    #[test]
    fn a_status_comes_with_all_conditions_and_its_time() {
        let conditions: ConditionSet = [Status::Losing, Status::Abandoned].into_iter().collect();
        let since = Some(Duration::from_millis(1_700_000_000_500).into());
        let both = GroupStatus { since, ..conditions.into() };
        let remaining = Some(Duration::from_millis(80_250).into());
        let early =
            GroupStatus { coverage: HistoryCoverage::Partial { remaining }, since, ..GroupStatus::default() };
        let with = |status| GroupValues { status, ..values(Status::Ok, Lag::Exact(1), 0) };
        let groups = vec![group("both", Some(with(both))), group("early", Some(with(early)))];
        let snapshots = [snapshot("a", vec![stream(b"orders", groups)])];
        let listed = |status: &str| {
            let filter = GroupFilter::read(&query(&[("status", status)])).unwrap();
            serde_json::to_value(Listing::of(&snapshots, &filter)).unwrap()
        };
        for status in ["abandoned", "losing"] {
            let group = &listed(status)["groups"][0];
            assert_eq!(group["status"], "abandoned");
            assert_eq!(group["conditions"], serde_json::json!(["abandoned", "losing"]));
            assert_eq!(group["since"], "2023-11-14T22:13:20.500Z");
            assert_eq!(group["unknown_until"], serde_json::Value::Null);
        }
        let group = &listed("unknown")["groups"][0];
        assert_eq!(
            (&group["status"], &group["unknown_until"]),
            (&"unknown".into(), &"2023-11-14T22:14:40.500Z".into())
        );
        assert_eq!(group["conditions"], serde_json::json!([]));
    }

    #[test]
    fn the_group_that_holds_a_stream_comes_with_the_command_that_trims_the_rest() {
        let holder = StreamHolder {
            group: Name::from("b"),
            since: Duration::from_secs(1_700_000_000).into(),
            held_for: HeldFor::Acknowledgement,
        };
        let trim = SafeTrim { min_id: StreamId::new(17, 3), entries: Some(4.into()), holder: Some(holder) };
        let values = StreamValues { safe_trim: Some(trim), ..StreamValues::default() };
        let groups = ["a", "b"].map(|name| group(name, Some(GroupValues::default())));
        let held = StreamReport { values: Some(values), ..(*stream(b"it's\xff", groups.into())).clone() };
        let unread = StreamValues { is_unread: true, ..StreamValues::default() };
        let unread = StreamReport { values: Some(unread), ..(*stream(b"log", Vec::new())).clone() };
        let snapshots = [snapshot("t", vec![held.into(), unread.into()])];
        let listing = |snapshots: &[TargetSnapshot]| Listing::of(snapshots, &GroupFilter::default());
        let holds = |snapshots: &[TargetSnapshot]| -> Vec<_> {
            listing(snapshots).groups.into_iter().map(|group| group.holds).collect()
        };
        let hold = ListedHold {
            since: "2023-11-14T22:13:20.000Z".to_owned(),
            waits_for: "acknowledgement".to_owned(),
            trimmable_entries: Some(4),
            min_id: "17-3".to_owned(),
            trim_command: None,
        };
        assert_eq!(holds(&snapshots), [None, Some(hold.clone())], "the way to the server is not known");
        assert_eq!(listing(&snapshots).targets[0].streams_unread, ["log"]);
        let [snapshot] = snapshots;
        let words = ["redis-cli", "-h", "::1", "-p", "7001", "-n", "3"].map(str::to_owned);
        let command =
            r#"redis-cli -h ::1 -p 7001 -n 3 --quoted-input XTRIM "\"it's\\xff\"" MINID '"~"' 17-3"#
                .to_owned();
        let reached = TargetSnapshot { redis_cli: Arc::new(words), ..snapshot };
        assert_eq!(holds(&[reached]), [None, Some(ListedHold { trim_command: Some(command), ..hold })]);
    }

    #[test]
    fn the_entries_that_stand_out_in_a_census_are_listed() {
        let s = Duration::from_secs;
        let entry = |ms, consumer: &str, deliveries, idle: Option<u64>| PendingReport {
            id: StreamId::new(ms, 0),
            consumer: Name::from(consumer),
            deliveries,
            idle: idle.map(|idle| s(idle).into()),
            read_at: s(100).into(),
        };
        let census = PendingCensus {
            worst: [entry(1, "", FATAL_DELIVERIES, None), entry(2, "c", 3, Some(50))].into(),
            consumers: [ConsumerCensus {
                name: Name::from("c"),
                entries: 8,
                redelivered: 1,
                max_idle: s(50).into(),
                oldest_delivery: s(50).into(),
            }]
            .into(),
            ..PendingCensus::default()
        };
        let shown =
            |unchanged_until| PendingCensusReading { census: Arc::new(census.clone()), unchanged_until };
        let lists = |pending_census| {
            let values = GroupValues { pending_census, ..values(Status::Ok, Lag::Exact(0), 9) };
            CensusLists::of((&values).into())
        };
        let worst = |idle_seconds| {
            let entry = |id: &str, consumer: &str, deliveries, idle_seconds| ListedPending {
                id: id.to_owned(),
                consumer: consumer.to_owned(),
                deliveries,
                idle_seconds,
            };
            Some(vec![entry("1-0", "", None, None), entry("2-0", "c", Some(3), Some(idle_seconds))])
        };
        assert_eq!(lists(Some(shown(None))).worst, worst(50.0), "when it was read");
        assert_eq!(
            lists(Some(shown(Some(s(160).into())))).worst,
            worst(110.0),
            "the list has not changed since"
        );
        let by_consumer = |max_idle_seconds| {
            let consumer = "c".to_owned();
            Some(vec![ListedHolding { consumer, entries: 8, redelivered: 1, max_idle_seconds }])
        };
        assert_eq!(lists(Some(shown(None))).by_consumer, by_consumer(50.0));
        assert_eq!(lists(Some(shown(Some(s(160).into())))).by_consumer, by_consumer(110.0));
        assert_eq!((lists(None).worst, lists(None).by_consumer), (None, None), "not known yet");
    }

    #[test]
    fn a_wrong_parameter_is_named_with_what_was_expected() {
        let wrong = |name, value| GroupFilter::read(&query(&[(name, value)])).unwrap_err().to_string();
        assert_eq!(
            wrong("sort", "lag"),
            "\"sort\": no such parameter; expected target, stream, group, status or limit"
        );
        assert_eq!(
            wrong("status", "ok, bad\n"),
            "status: found \"bad\"; expected abandoned, losing, rewound, stalled, stuck, lagging, unknown, ok, or several separated by commas"
        );
        for limit in ["0", "-1", "ten"] {
            assert_eq!(
                wrong("limit", limit),
                format!("limit: found {limit:?}; expected a number of groups, 1 or more")
            );
        }
    }

    #[test]
    fn what_is_streamed_is_the_listing_and_reads_back_as_it() {
        let filter = GroupFilter::read(&query(&[("limit", "6")])).unwrap();
        let (snapshots, mut streamed, mut written) = (some(), Vec::new(), Vec::new());
        write(&snapshots, &filter, &mut streamed).unwrap();
        let listing = Listing::of(&snapshots, &filter);
        listing.write(&mut written).unwrap();
        assert_eq!(String::from_utf8(streamed.clone()).unwrap(), String::from_utf8(written).unwrap());
        assert_eq!(serde_json::from_slice::<Listing>(&streamed).unwrap(), listing);
        assert_eq!((listing.groups.len(), listing.matched), (6, 7));
    }

    #[test]
    fn what_is_not_known_is_null() {
        let filter = GroupFilter::read(&query(&[("group", "perhaps"), ("target", "a"), ("target", "gone")]));
        let listing = Listing::of(&some(), &filter.unwrap());
        let json = serde_json::to_string_pretty(&listing).unwrap();
        let end = json.lines().position(|line| line.contains("matched")).unwrap();
        let is_null = |(at, line): &(usize, &str)| *at < end && line.ends_with(": null,");
        let (nulls, known): (Vec<_>, Vec<_>) = json.lines().enumerate().partition(is_null);
        for key in [
            "lag",
            "since",
            "unknown_until",
            "lag_seconds",
            "last_delivered_id_age_seconds",
            "last_delivery_age_seconds",
            "entries_read",
            "pending_orphaned",
            "entries_lost_total",
            "retention_used_ratio",
        ] {
            assert!(nulls.iter().any(|(_, line)| line.contains(&format!("\"{key}\""))), "{key}: {json}");
        }
        let known: Vec<_> = known.into_iter().map(|(_, line)| line).collect();
        insta::assert_snapshot!(known.join("\n"), @r#"
        {
          "groups": [
            {
              "target": "a",
              "db": "db0",
              "stream": "orders",
              "group": "perhaps",
              "up": true,
              "status": "stalled",
              "conditions": [
                "stalled"
              ],
              "lag_min": 2,
              "lag_max": 1000,
              "messages_pending": 1,
              "oldest_pending_age_seconds": 9.5,
              "oldest_pending_idle_seconds": 7.0,
              "oldest_pending_deliveries": 3,
              "consumers": 1,
              "consumer_list": null
            }
          ],
          "matched": 1,
          "targets": [
            {
              "target": "a",
              "db": "db0",
              "labels": {
                "team": "mail"
              },
              "up": true,
              "last_successful_poll_timestamp_seconds": 1700000000.25,
              "error": null,
              "streams": 1,
              "streams_down": [
                "orders"
              ],
              "streams_unread": [],
              "groups_abandoned": 0,
              "streams_with_groups_abandoned": [],
              "largest_streams": [],
              "limited": {
                "streams": 0,
                "groups": 0,
                "consumers": 0
              }
            },
            {
              "target": "gone",
              "db": "db0",
              "labels": {
                "team": "mail"
              },
              "up": false,
              "last_successful_poll_timestamp_seconds": null,
              "error": "cannot connect to cache:6379",
              "streams": null,
              "streams_down": [],
              "streams_unread": [],
              "groups_abandoned": null,
              "streams_with_groups_abandoned": [],
              "largest_streams": [],
              "limited": {
                "streams": 0,
                "groups": 0,
                "consumers": 0
              }
            }
          ]
        }
        "#);
    }

    #[test]
    fn each_metric_of_a_group_or_a_consumer_is_a_field_and_no_other_number_is() {
        let fields = |value: serde_json::Value| -> Vec<String> {
            value.as_object().unwrap().keys().cloned().collect()
        };
        let of = |prefix: &'static str, is_of: fn(&ValueSource) -> bool| {
            let own = FAMILIES.iter().filter(move |family| family.origin == MetricOrigin::Own);
            own.filter(move |family| is_of(&family.source))
                .map(move |family| family.name.strip_prefix(prefix).unwrap().to_owned())
        };
        let mut group: Vec<_> = of("redis_stream_group_", |source| {
            matches!(source, ValueSource::GroupUp | ValueSource::Group(_) | ValueSource::Status)
        })
        .collect();
        let others = [
            "target",
            "db",
            "stream",
            "group",
            "family",
            "holds",
            "worst_pending",
            "pending_by_consumer",
            "consumer_list",
        ];
        group.extend(others.map(str::to_owned));
        // Those belong to the status.
        group.extend(["conditions", "since", "unknown_until"].map(str::to_owned));
        group.sort();
        let mut found = fields(serde_json::to_value(ListedGroup::default()).unwrap());
        found.sort();
        assert_eq!(found, group);
        let mut consumer: Vec<_> =
            of("redis_stream_group_consumer_", |source| matches!(source, ValueSource::Consumer(_))).collect();
        consumer.push("consumer".to_owned());
        consumer.sort();
        let listing = Listing::of(&some(), &GroupFilter::default());
        let consumers = listing.groups.iter().find_map(|group| group.consumer_list.clone()).unwrap();
        let mut found = fields(serde_json::to_value(&consumers[0]).unwrap());
        found.sort();
        assert_eq!(found, consumer);
    }
}
