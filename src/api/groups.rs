//! `/api/v1/groups` and `status --json`: every group with all that is known of it, the worst first. What is not
//! known is `null`.

use std::borrow::Borrow;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::alert::rule::TargetLabels;
use crate::api::groups::filter::Filter;
use crate::api::json;
use crate::api::partial_sort::in_order;
use crate::values::family::{Family, Number};
use crate::values::table;
use redis_stream_lag::report::Status;
use redis_stream_lag::report::{ConsumerReport, GroupReport, GroupValues, Report, StreamReport};

pub mod filter;
mod status_name;

/// A target as readers see it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What it is called.
    pub labels: Arc<TargetLabels>,
    /// Whether it answered in the last poll, all the time that the poll had.
    pub is_up: bool,
    /// When the last poll that read anything ended, since the Unix epoch; `None` before the first.
    pub last_read: Option<Duration>,
    /// What the last poll failed of, or was cut off by; `None` if it read all.
    pub error: Option<String>,
    /// The last report; `None` before the first, and once it is too old to be served.
    pub report: Option<Arc<Report>>,
}

/// All of an answer. [`write()`] writes the same without holding it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Listing {
    /// The groups, the worst first.
    pub groups: Vec<Group>,
    /// How many groups the filter selects; there are fewer in `groups` where it has a limit.
    pub matched: usize,
    /// The targets that the filter selects, in the order of the configuration.
    pub targets: Vec<Target>,
}

/// A group. Fields are named as metrics without `redis_stream_group_`, and have their units; `None` where the metric
/// is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Group {
    /// Name of the target.
    pub target: String,
    /// `db0`, `db1` and so on.
    pub db: String,
    /// Key of the stream, as text.
    pub stream: String,
    /// Name of the group, as text.
    pub group: String,
    /// Whether there is such a group. One that is missing is configured by name, and has no values.
    pub up: bool,
    /// What is wrong with it; `None` if it is missing.
    #[serde(default, with = "status_name")]
    pub status: Option<Status>,
    /// Entries not delivered to the group, exactly.
    pub lag: Option<u64>,
    /// Certain minimum of the lag.
    pub lag_min: Option<u64>,
    /// Certain maximum of the lag.
    pub lag_max: Option<u64>,
    /// Age of the oldest entry not delivered; 0 if there is none.
    pub lag_seconds: Option<f64>,
    /// Age of last-delivered-id.
    pub last_delivered_id_age_seconds: Option<f64>,
    /// The server's entries-read.
    pub entries_read: Option<u64>,
    /// Entries delivered and not acknowledged.
    pub messages_pending: Option<u64>,
    /// Age of the oldest of them; 0 if there is none.
    pub oldest_pending_age_seconds: Option<f64>,
    /// Since it was last delivered; 0 if there is none.
    pub oldest_pending_idle_seconds: Option<f64>,
    /// How often it was delivered; `None` if there is none.
    pub oldest_pending_deliveries: Option<u64>,
    /// Pending entries that are not in the stream any more.
    pub pending_orphaned: Option<u64>,
    /// Consumers of the group.
    pub consumers: Option<u64>,
    /// Entries removed before the group got them, since streamgauge began to look.
    pub entries_lost_total: Option<u64>,
    /// Lag by length, 0 to 1.
    pub retention_used_ratio: Option<f64>,
    /// The consumers themselves, by name; `None` if they were not read.
    pub consumer_list: Option<Vec<Consumer>>,
}

/// A consumer. Fields are named as metrics without `redis_stream_group_consumer_`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Consumer {
    /// Its name, as text.
    pub consumer: String,
    /// Entries delivered to it and not acknowledged.
    pub messages_pending: u64,
    /// Since its last attempt to read; before server 7.2 since its last success.
    pub idle_seconds: f64,
    /// Since it last got an entry; `None` before server 7.2, and if it never did.
    pub inactive_seconds: Option<f64>,
}

/// A target.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Its name.
    pub target: String,
    /// `db0`, `db1` and so on.
    pub db: String,
    /// Those of `targets[].labels`.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Whether it answered in the last poll.
    pub up: bool,
    /// When the last poll that read anything ended, as Unix time; `None` before the first.
    pub last_successful_poll_timestamp_seconds: Option<f64>,
    /// What the last poll failed of, or was cut off by; `None` if it read all.
    pub error: Option<String>,
    /// Streams in the last report; `None` where there is none, or where it is too old to be shown.
    pub streams: Option<usize>,
    /// Those of them that could not be read: missing, of another type, or denied.
    #[serde(default)]
    pub streams_down: Vec<String>,
}

/// A group in a report, with what it belongs to.
#[derive(Clone, Copy, Debug)]
pub struct Found<'a> {
    /// The target.
    pub seen: &'a Seen,
    /// The stream.
    pub stream: &'a StreamReport,
    /// The group itself.
    pub group: &'a GroupReport,
}

/// The groups that the filter selects, the worst first and no more than its limit; and how many there are without it.
///
/// The order is: groups that are missing, then by status as in [`Status::ALL`]; of one status by the certain minimum of
/// the lag, by its maximum and by the entries pending, the most first; then by name.
#[must_use]
pub fn worst_first<'a>(seen: &'a [Seen], filter: &Filter) -> (Vec<Found<'a>>, usize) {
    let mut found = Vec::new();
    for seen in seen.iter().filter(|seen| filter.takes_target(&seen.labels.name)) {
        let streams = seen.report.iter().flat_map(|report| &report.streams);
        for stream in streams.filter(|stream| filter.takes_stream(stream.key.as_bytes())) {
            let groups = stream.groups.iter().filter(|group| filter.takes_group(group));
            found.extend(groups.map(|group| Found { seen, stream, group }));
        }
    }
    let matched = found.len();
    let worst = in_order(found, 0..filter.limit(), |one, other| {
        badness(one.group).cmp(&badness(other.group)).then_with(|| one.name().cmp(&other.name()))
    });
    (worst, matched)
}

/// Sorts the worst to the front: the position of the status, then what there is most of.
pub(super) type Badness = (Status, Reverse<(u64, u64, u64)>);

pub(crate) fn badness(group: &GroupReport) -> Option<Badness> {
    let GroupValues { status, lag, messages_pending, .. } = group.values.as_ref()?;
    Some((*status, Reverse((lag.min(), lag.max(), *messages_pending))))
}

/// Writes the groups and the targets that the filter selects, one at a time.
///
/// # Errors
///
/// Those of `out`.
pub fn write(seen: &[Seen], filter: &Filter, out: &mut dyn Write) -> io::Result<()> {
    let (found, matched) = worst_first(seen, filter);
    write_parts(found.iter().map(Group::of), matched, &targets(seen, filter), out)
}

fn targets(seen: &[Seen], filter: &Filter) -> Vec<Target> {
    seen.iter().filter(|seen| filter.takes_target(&seen.labels.name)).map(Target::of).collect()
}

fn write_parts(
    groups: impl Iterator<Item = impl Borrow<Group>>,
    matched: usize,
    targets: &[Target],
    out: &mut dyn Write,
) -> io::Result<()> {
    out.write_all(br#"{"groups":["#)?;
    for (at, group) in groups.enumerate() {
        if at > 0 {
            out.write_all(b",")?;
        }
        json::write(group.borrow(), out)?;
    }
    write!(out, r#"],"matched":{matched},"targets":"#)?;
    json::write(targets, out)?;
    out.write_all(b"}\n")
}

impl Listing {
    /// What the filter selects.
    #[must_use]
    pub fn of(seen: &[Seen], filter: &Filter) -> Self {
        let (found, matched) = worst_first(seen, filter);
        Self { groups: found.iter().map(Group::of).collect(), matched, targets: targets(seen, filter) }
    }

    /// Writes it as [`write()`] does.
    ///
    /// # Errors
    ///
    /// Those of `out`.
    pub fn write(&self, out: &mut dyn Write) -> io::Result<()> {
        write_parts(self.groups.iter(), self.matched, &self.targets, out)
    }
}

impl<'a> Found<'a> {
    fn name(&self) -> (&'a str, &'a [u8], &'a [u8]) {
        (&self.seen.labels.name, self.stream.key.as_bytes(), self.group.name.as_bytes())
    }
}

impl Group {
    fn of(found: &Found<'_>) -> Self {
        let Found { seen, stream, group } = found;
        let missing = Self {
            target: seen.labels.name.clone(),
            db: seen.labels.db.clone(),
            stream: stream.key.to_string(),
            group: group.name.to_string(),
            ..Self::default()
        };
        let Some(values) = &group.values else { return missing };
        let number = |family: &Family| family.of_group_values(values).known();
        let count = |family| number(family).and_then(Number::count);
        let float = |family| number(family).map(Number::as_f64);
        Self {
            up: true,
            status: Some(values.status),
            lag: count(&table::LAG),
            lag_min: count(&table::LAG_MIN),
            lag_max: count(&table::LAG_MAX),
            lag_seconds: float(&table::LAG_SECONDS),
            last_delivered_id_age_seconds: float(&table::LAST_DELIVERED_ID_AGE_SECONDS),
            entries_read: count(&table::ENTRIES_READ),
            messages_pending: count(&table::MESSAGES_PENDING),
            oldest_pending_age_seconds: float(&table::OLDEST_PENDING_AGE_SECONDS),
            oldest_pending_idle_seconds: float(&table::OLDEST_PENDING_IDLE_SECONDS),
            oldest_pending_deliveries: count(&table::OLDEST_PENDING_DELIVERIES),
            pending_orphaned: count(&table::PENDING_ORPHANED),
            consumers: count(&table::CONSUMERS),
            entries_lost_total: count(&table::ENTRIES_LOST_TOTAL),
            retention_used_ratio: float(&table::RETENTION_USED_RATIO),
            consumer_list: group.consumers.as_ref().map(|list| list.iter().map(Consumer::of).collect()),
            ..missing
        }
    }
}

impl Consumer {
    fn of(consumer: &ConsumerReport) -> Self {
        Self {
            consumer: consumer.name.to_string(),
            messages_pending: consumer.messages_pending,
            idle_seconds: consumer.idle.as_secs_f64(),
            inactive_seconds: seconds(consumer.inactive),
        }
    }
}

impl Target {
    fn of(seen: &Seen) -> Self {
        let streams = seen.report.as_ref().map(|report| &report.streams);
        let down = streams.into_iter().flatten().filter(|stream| stream.values.is_none());
        Self {
            target: seen.labels.name.clone(),
            db: seen.labels.db.clone(),
            labels: seen.labels.configured.clone(),
            up: seen.is_up,
            last_successful_poll_timestamp_seconds: seconds(seen.last_read),
            error: seen.error.clone(),
            streams: streams.map(Vec::len),
            streams_down: down.map(|stream| stream.key.to_string()).collect(),
        }
    }
}

fn seconds(duration: Option<Duration>) -> Option<f64> {
    duration.map(|duration| duration.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::values::family::{MetricOrigin, ValueSource};
    use crate::values::table::FAMILIES;
    use redis_stream_core::id::StreamId;
    use redis_stream_core::name::Name;
    use redis_stream_lag::report::{Lag, OldestPending, Retention};

    fn values(status: Status, lag: Lag, messages_pending: u64) -> GroupValues {
        let entry = OldestPending::Entry {
            age: Some(Duration::from_millis(9_500)),
            idle: Some(Duration::from_secs(7)),
            deliveries: 3,
        };
        GroupValues {
            lag,
            lag_seconds: lag.exact().map(|_| Duration::from_millis(1_500)),
            last_delivered_id: StreamId::new(1_700_000_000_123, 4),
            last_delivered_id_age: lag.exact().map(Duration::from_secs),
            entries_read: lag.exact(),
            messages_pending,
            oldest_pending: Some(if messages_pending > 0 { entry } else { OldestPending::Nothing }),
            pending_orphaned: lag.exact(),
            consumers: 1,
            entries_lost: lag.exact(),
            retention_used: lag.exact().map(|lag| Retention { lag, length: 48 }),
            status,
        }
    }

    fn group(name: &str, values: Option<GroupValues>) -> GroupReport {
        let (idle, inactive) = (Duration::from_millis(250), Some(Duration::from_secs(60)));
        let consumer = ConsumerReport { name: Name::from("c"), messages_pending: 1, idle, inactive };
        let consumers = values.as_ref().and_then(|values| values.lag.exact()).map(|_| vec![consumer]);
        GroupReport { name: Name::from(name), named: values.is_none(), values, consumers }
    }

    fn stream(key: &[u8], groups: Vec<GroupReport>) -> Arc<StreamReport> {
        Arc::new(StreamReport { key: Name::from(key), values: None, refused: false, groups })
    }

    fn seen(name: &str, streams: Vec<Arc<StreamReport>>) -> Seen {
        let configured = BTreeMap::from([("team".to_owned(), "mail".to_owned())]);
        Seen {
            labels: Arc::new(TargetLabels { name: name.to_owned(), db: "db0".to_owned(), configured }),
            is_up: true,
            last_read: Some(Duration::from_millis(1_700_000_000_250)),
            error: None,
            report: Some(Arc::new(Report { streams, counted_entries: 0 })),
        }
    }

    fn gone() -> Seen {
        Seen {
            is_up: false,
            last_read: None,
            error: Some("cannot connect to cache:6379".to_owned()),
            report: None,
            ..seen("gone", Vec::new())
        }
    }

    fn some() -> Vec<Seen> {
        use Lag::{Between, Exact};
        use Status::{Lagging, Ok, Stalled};
        let behind = vec![
            group("fine", Some(values(Ok, Exact(0), 0))),
            group("few", Some(values(Stalled, Exact(3), 0))),
            group("perhaps", Some(values(Stalled, Between { min: 2, max: 1_000 }, 1))),
            group("many", Some(values(Stalled, Exact(40), 1))),
            group("absent", None),
        ];
        let odd = vec![
            group("late", Some(values(Lagging, Exact(9), 2))),
            group("x", Some(values(Ok, Exact(0), 4))),
        ];
        vec![seen("a", vec![stream(b"orders", behind)]), gone(), seen("b", vec![stream(b"odd\xff\n\"", odd)])]
    }

    fn query(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn names(pairs: &[(&str, &str)]) -> Vec<String> {
        let listing = Listing::of(&some(), &Filter::read(&query(pairs)).unwrap());
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
    fn a_wrong_parameter_is_named_with_what_was_expected() {
        let wrong = |name, value| Filter::read(&query(&[(name, value)])).unwrap_err().to_string();
        assert_eq!(
            wrong("sort", "lag"),
            "\"sort\": no such parameter; expected target, stream, group, status or limit"
        );
        assert_eq!(
            wrong("status", "ok, bad\n"),
            "status: found \"bad\"; expected rewound, losing, abandoned, stalled, stuck, lagging, unknown, ok, or several with commas between"
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
        let filter = Filter::read(&query(&[("limit", "6")])).unwrap();
        let (seen, mut streamed, mut written) = (some(), Vec::new(), Vec::new());
        write(&seen, &filter, &mut streamed).unwrap();
        let listing = Listing::of(&seen, &filter);
        listing.write(&mut written).unwrap();
        assert_eq!(String::from_utf8(streamed.clone()).unwrap(), String::from_utf8(written).unwrap());
        assert_eq!(serde_json::from_slice::<Listing>(&streamed).unwrap(), listing);
        assert_eq!((listing.groups.len(), listing.matched), (6, 7));
    }

    #[test]
    fn what_is_not_known_is_null() {
        let filter = Filter::read(&query(&[("group", "perhaps"), ("target", "a"), ("target", "gone")]));
        let listing = Listing::of(&some(), &filter.unwrap());
        insta::assert_snapshot!(serde_json::to_string_pretty(&listing).unwrap(), @r#"
        {
          "groups": [
            {
              "target": "a",
              "db": "db0",
              "stream": "orders",
              "group": "perhaps",
              "up": true,
              "status": "stalled",
              "lag": null,
              "lag_min": 2,
              "lag_max": 1000,
              "lag_seconds": null,
              "last_delivered_id_age_seconds": null,
              "entries_read": null,
              "messages_pending": 1,
              "oldest_pending_age_seconds": 9.5,
              "oldest_pending_idle_seconds": 7.0,
              "oldest_pending_deliveries": 3,
              "pending_orphaned": null,
              "consumers": 1,
              "entries_lost_total": null,
              "retention_used_ratio": null,
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
              ]
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
              "streams_down": []
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
        group.extend(["target", "db", "stream", "group", "consumer_list"].map(str::to_owned));
        group.sort();
        let mut found = fields(serde_json::to_value(Group::default()).unwrap());
        found.sort();
        assert_eq!(found, group);
        let mut consumer: Vec<_> =
            of("redis_stream_group_consumer_", |source| matches!(source, ValueSource::Consumer(_))).collect();
        consumer.push("consumer".to_owned());
        consumer.sort();
        let listing = Listing::of(&some(), &Filter::default());
        let consumers = listing.groups.iter().find_map(|group| group.consumer_list.clone()).unwrap();
        let mut found = fields(serde_json::to_value(&consumers[0]).unwrap());
        found.sort();
        assert_eq!(found, consumer);
    }
}
