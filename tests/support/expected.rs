//! The expected value of each stream series, computed from streams, groups and consumers read one by one.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use redis::{FromRedisValue, Value};

use super::client::RedisClient;
use super::metrics::Metrics;
use super::series::{self, consumer, group};

/// `ms-seq`.
type Id = (u64, u64);

/// The fields of a reply by name.
type Fields = HashMap<String, Value>;

/// The bounds of each expected series.
pub type Expected = BTreeMap<String, (f64, f64)>;

/// The series of a target `t` at the time of this reading. Series that depend on earlier polls (losses, trimming,
/// status) are left out.
#[derive(Debug, Default)]
pub struct ExpectedState {
    /// Seconds since the Unix epoch, by the server's clock.
    now: f64,
    pub values: BTreeMap<String, f64>,
    pub groups: Vec<ExpectedGroup>,
}

/// A group in the state of the server.
#[derive(Clone, Debug, PartialEq)]
pub struct ExpectedGroup {
    pub stream: String,
    pub group: String,
    /// Entries in the stream.
    pub length: usize,
    /// Entries in the stream after the group's last-delivered-id.
    pub undelivered: usize,
    /// Entries delivered and not acknowledged.
    pub pending: usize,
    /// The ID from which on the group needs entries: those that it was not delivered, and pending ones that are not below
    /// the first entry.
    needs_from: Id,
    /// True from Redis 7.0 on, where XINFO STREAM has entries-added.
    pub counts_added: bool,
}

impl ExpectedGroup {
    pub fn series(&self, metric: &str) -> String {
        group(metric, &self.stream, &self.group)
    }

    /// The lag as a ratio of the stream's length.
    pub fn retention_used(&self) -> f64 {
        self.undelivered as f64 / self.length.max(1) as f64
    }
}

impl ExpectedState {
    /// Reads all streams of a node.
    pub async fn read(client: &mut RedisClient) -> Self {
        let mut state = Self::default();
        state.read_also(client).await;
        state
    }

    /// Adds the streams of another node of the target.
    pub async fn read_also(&mut self, client: &mut RedisClient) {
        let (seconds, micros): (f64, f64) = client.ask(&["TIME"]).await;
        self.now = seconds + micros / 1e6;
        let mut keys: Vec<Vec<u8>> = client.ask(&["KEYS", "*"]).await;
        keys.sort();
        for key in keys {
            let kind: String = client.ask(&[b"TYPE", key.as_slice()]).await;
            if kind == "stream" {
                self.read_stream(client, &key).await;
            }
        }
    }

    async fn read_stream(&mut self, client: &mut RedisClient, key: &[u8]) {
        let entries: Vec<(String, Value)> = client.ask(&[&b"XRANGE"[..], key, b"-", b"+"]).await;
        let entries: Vec<Id> = entries.iter().map(|(text, _)| id(text)).collect();
        let stream: Fields = client.ask(&[&b"XINFO"[..], b"STREAM", key]).await;
        let groups: Vec<Fields> = client.ask(&[&b"XINFO"[..], b"GROUPS", key]).await;
        let shown = label(key);
        let mut put = |name: &str, value: Option<f64>| {
            let name = format!("redis_stream_{name}");
            self.values.extend(value.map(|value| (series::stream(&name, &shown), value)));
        };
        put("up", Some(1.0));
        put("length", Some(entries.len() as f64));
        put("groups", Some(groups.len() as f64));
        put("entries_added_total", field(&stream, "entries-added"));
        put("first_entry_timestamp_seconds", entries.first().and_then(|id| timestamp(*id)));
        put(
            "last_generated_id_timestamp_seconds",
            timestamp(id(&must::<String>(&stream, "last-generated-id"))),
        );
        if field::<f64>(&stream, "iids-added").is_some_and(|added| added > 0.0) {
            for (metric, name) in [
                ("idmp_entries_added_total", "iids-added"),
                ("idmp_duplicates_total", "iids-duplicates"),
                ("idmp_producer_ids_tracked", "pids-tracked"),
                ("idmp_idempotent_ids_tracked", "iids-tracked"),
                ("idmp_max_size", "idmp-maxsize"),
            ] {
                put(metric, field(&stream, name));
            }
        }
        let before = self.groups.len();
        for fields in &groups {
            let group = self.read_group(client, key, &entries, fields).await;
            let counts_added = stream.contains_key("entries-added");
            self.groups.push(ExpectedGroup { counts_added, ..group });
        }
        self.expect_holder(&shown, &entries, before);
    }

    /// Adds what can be trimmed from a stream, and the first of its groups that needs the oldest entry.
    fn expect_holder(&mut self, shown: &str, entries: &[Id], before: usize) {
        let Some(holder) = self.groups[before..].iter().min_by_key(|group| group.needs_from) else { return };
        let trimmable = entries.iter().filter(|id| **id < holder.needs_from).count();
        let held_by = holder.series("redis_stream_held_by_info");
        self.values.extend((trimmable < entries.len()).then_some((held_by, 1.0)));
        self.values.insert(series::stream("redis_stream_trimmable_entries", shown), trimmable as f64);
    }

    async fn read_group(
        &mut self,
        client: &mut RedisClient,
        key: &[u8],
        entries: &[Id],
        fields: &Fields,
    ) -> ExpectedGroup {
        let name: Vec<u8> = must(fields, "name");
        let pending: Vec<(String, Vec<u8>, f64, f64)> =
            client.ask(&[&b"XPENDING"[..], key, &name, b"-", b"+", b"100000"]).await;
        let consumers: Vec<Fields> = client.ask(&[&b"XINFO"[..], b"CONSUMERS", key, &name]).await;
        let delivered = id(&must::<String>(fields, "last-delivered-id"));
        let undelivered: Vec<Id> = entries.iter().copied().filter(|id| *id > delivered).collect();
        let gone = pending.iter().filter(|(text, ..)| !entries.contains(&id(text)));
        let (now, shown) = (self.now, label(key));
        let mut put = |metric: &str, value: Option<f64>| {
            let metric = format!("redis_stream_group_{metric}");
            self.values.extend(value.map(|value| (group(&metric, &shown, &label(&name)), value)));
        };
        for metric in ["lag", "lag_min", "lag_max"] {
            put(metric, Some(undelivered.len() as f64));
        }
        put("lag_seconds", undelivered.first().map_or(Some(0.0), |id| age(*id, now)));
        put("last_delivered_id_age_seconds", age(delivered, now));
        put("entries_read", field::<Option<f64>>(fields, "entries-read").flatten());
        put("messages_pending", Some(pending.len() as f64));
        put("backlog", Some((undelivered.len() + pending.len()) as f64));
        // A released entry has no consumer and no idle time, and counts from the second reading on.
        let released = pending.iter().filter(|(_, consumer, ..)| consumer.is_empty()).count();
        put("messages_released", client.knows("XNACK").await.then_some(released as f64));
        let oldest = pending.first();
        put("oldest_pending_age_seconds", oldest.map_or(Some(0.0), |(text, ..)| age(id(text), now)));
        let idle_of = |idle_ms: f64| (idle_ms >= 0.0).then_some(idle_ms / 1e3);
        put("oldest_pending_idle_seconds", oldest.map_or(Some(0.0), |(_, _, idle_ms, _)| idle_of(*idle_ms)));
        put("oldest_pending_deliveries", oldest.map(|(.., deliveries)| *deliveries));
        put("pending_orphaned", Some(gone.count() as f64));
        // No test that compares all series has entries that XNACK FATAL marked.
        let redelivered = pending.iter().filter(|(.., deliveries)| *deliveries > 1.0).count();
        put("pending_redelivered", Some(redelivered as f64));
        put("pending_max_deliveries", pending.iter().map(|(.., deliveries)| *deliveries).reduce(f64::max));
        let idle = pending.iter().filter_map(|(_, _, idle_ms, _)| idle_of(*idle_ms)).reduce(f64::max);
        put("pending_max_idle_seconds", if pending.is_empty() { Some(0.0) } else { idle });
        // As the list does not change, its census is as old as the poll.
        put("pending_census_age_seconds", oldest.map(|_| 0.0));
        put("consumers", Some(consumers.len() as f64));
        // None is silent for a day.
        put("consumers_idle", Some(0.0));
        put("consumers_stranded", Some(0.0));
        for fields in &consumers {
            let consumed_by = label(&must::<Vec<u8>>(fields, "name"));
            let mut put = |metric: &str, value: Option<f64>| {
                let metric = format!("redis_stream_group_consumer_{metric}");
                let series = consumer(&metric, &shown, &label(&name), &consumed_by);
                self.values.extend(value.map(|value| (series, value)));
            };
            put("messages_pending", Some(must(fields, "pending")));
            put("idle_seconds", Some(must::<f64>(fields, "idle") / 1e3));
            let inactive = field::<f64>(fields, "inactive").filter(|ms| *ms >= 0.0);
            put("inactive_seconds", inactive.map(|ms| ms / 1e3));
        }
        ExpectedGroup {
            stream: shown,
            group: label(&name),
            length: entries.len(),
            undelivered: undelivered.len(),
            pending: pending.len(),
            needs_from: pending
                .iter()
                .map(|(text, ..)| id(text))
                .find(|id| entries.first().is_some_and(|first| id >= first))
                .map_or((delivered.0, delivered.1 + 1), |id| id.min((delivered.0, delivered.1 + 1))),
            counts_added: false,
        }
    }

    /// Returns the bounds of each series between two readings.
    pub fn until(self, later: &Self) -> Expected {
        assert_eq!(self.groups, later.groups, "nothing was changed between the readings");
        assert!(self.values.keys().eq(later.values.keys()), "nothing was changed between the readings");
        self.values
            .into_iter()
            .map(|(series, least)| (series.clone(), (least, later.values[&series])))
            .collect()
    }
}

/// Describes each difference in one line. Series that change with time may be off by `uncertainty` seconds.
pub fn differences(found: &Metrics, expected: &Expected, uncertainty: f64) -> Vec<String> {
    /// Six decimals are printed.
    const ROUNDING: f64 = 2e-6;
    let (found_names, names): (BTreeSet<_>, BTreeSet<_>) =
        (found.keys().collect(), expected.keys().collect());
    let surplus = found_names.difference(&names).map(|series| format!("not expected: {series}"));
    let missing = names.difference(&found_names).map(|series| format!("not found: {series}"));
    let wrong = expected.iter().filter_map(|(series, (least, most))| {
        let value = found.get(series)?;
        let tolerance = if least < most { ROUNDING.max(uncertainty) } else { ROUNDING };
        let is_right = (least - tolerance..=most + tolerance).contains(value);
        (!is_right).then(|| format!("{series} is {value}, not in {least}..{most}"))
    });
    surplus.chain(missing).chain(wrong).collect()
}

/// Returns the series of streams, groups and consumers.
pub fn of_streams(metrics: &Metrics) -> Metrics {
    let of_streams = metrics.iter().filter(|(series, _)| series.starts_with("redis_stream_"));
    of_streams.map(|(series, value)| (series.clone(), *value)).collect()
}

/// Returns a name as an escaped label value in the text format.
fn label(name: &[u8]) -> String {
    let written: &str = match name {
        b"a\xffb" => r"a\\xffb",
        b"q\"uo\\te" => r#"q\"uo\\te"#,
        b"li\nne" => r"li\nne",
        b"c\\x41\xc3\xa9" => "c\\\\x5cx41\u{e9}",
        plain => {
            let plain = std::str::from_utf8(plain).expect("every odd name is in this list");
            assert!(!plain.contains(['\\', '"', '\n']), "every odd name is in this list: {plain:?}");
            plain
        }
    };
    written.to_owned()
}

fn id(text: &str) -> Id {
    let (ms, seq) = text.split_once('-').expect("an ID has a dash");
    (ms.parse().expect("a number"), seq.parse().expect("a number"))
}

fn field<T: FromRedisValue>(fields: &Fields, name: &str) -> Option<T> {
    redis::from_redis_value(fields.get(name)?.clone()).expect("the field is of this type")
}

fn must<T: FromRedisValue>(fields: &Fields, name: &str) -> T {
    redis::from_redis_value(fields[name].clone()).expect("the field is of this type")
}

/// IDs in tests are either recent or far too small to be timestamps.
fn timestamp((ms, _): Id) -> Option<f64> {
    (ms > 1_000_000).then_some(ms as f64 / 1e3)
}

fn age(id: Id, now: f64) -> Option<f64> {
    timestamp(id).map(|time| (now - time).max(0.0))
}
