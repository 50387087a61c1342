//! Losses of a consumer that is slower than trimming: the counter is never more than what was lost, and most of it where
//! the consumer reads less often than the stream is sampled.
//!
//! The truth is counted by the consumer itself. `STREAMGAUGE_LOSSES=5m cargo test --test losses` runs each case for that
//! long; the default is 25 s.

use std::time::Duration;

use futures_util::future::join_all;
use redis::{Value, cmd};
use redis_stream_core::clock::now;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

mod support;

use support::config::serving;
use support::metrics::Metrics;
use support::program::Exporter;
use support::series::{group, status};
use support::server::Server;
use support::servers::for_each_program;
use support::wait::wait_for;

const SOON: Duration = Duration::from_secs(15);
const ADDED_PER_SECOND: u32 = 50;

/// One consumer group on one stream, and the part of its losses that must be counted.
struct Case {
    name: &'static str,
    trim: &'static [&'static str],
    read_count: u32,
    read_interval: Duration,
    at_least: f64,
}

const CASES: [Case; 6] = [
    Case::new("batches", &["MAXLEN", "=", "200"], 25, 2_500, 0.8),
    Case::new("approximate", &["MAXLEN", "~", "200"], 25, 2_700, 0.8),
    Case::new("bulk", &["MAXLEN", "=", "200"], 100, 5_000, 0.8),
    Case::new("seconds", &["MAXLEN", "=", "100"], 10, 1_500, 0.8),
    Case::new("tenths", &["MAXLEN", "=", "100"], 1, 100, 0.12),
    Case::new("fast", &["MAXLEN", "=", "100"], 1, 43, 0.05),
];

impl Case {
    const fn new(
        name: &'static str,
        trim: &'static [&'static str],
        read_count: u32,
        read_ms: u64,
        at_least: f64,
    ) -> Self {
        Self { name, trim, read_count, read_interval: Duration::from_millis(read_ms), at_least }
    }

    /// Adds and trims until `end`. Returns the number of entries added.
    async fn produce(&self, server: &Server, end: Instant) -> u64 {
        let mut connection = server.connection().await;
        let mut ticks = interval(Duration::from_secs(1) / ADDED_PER_SECOND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut added = 0;
        while now() < end {
            ticks.tick().await;
            let mut add = cmd("XADD");
            add.arg(self.name).arg(self.trim).arg("*").arg("f").arg("v");
            let _: String = add.query_async(&mut connection).await.expect("the server takes it");
            added += 1;
        }
        added
    }

    /// Reads and acknowledges until `end`. Returns the number of entries delivered.
    async fn consume(&self, server: &Server, end: Instant) -> u64 {
        let mut connection = server.connection().await;
        let mut ticks = interval(self.read_interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut delivered = 0;
        while now() < end {
            ticks.tick().await;
            let mut read = cmd("XREADGROUP");
            read.arg("GROUP").arg("g").arg("c").arg("COUNT").arg(self.read_count).arg("NOACK");
            let reply: Value = read
                .arg("STREAMS")
                .arg(self.name)
                .arg(">")
                .query_async(&mut connection)
                .await
                .expect("the server takes it");
            delivered += entries(&reply);
        }
        delivered
    }

    async fn run(&self, server: &Server, time: Duration) -> Outcome<'_> {
        let end = now() + time;
        let (added, delivered) = tokio::join!(self.produce(server, end), self.consume(server, end));
        // The last read would hide the last loss, if it were not seen before.
        sleep(Duration::from_millis(1_000)).await;
        let mut connection = server.connection().await;
        let waiting: Value = cmd("XREADGROUP")
            .arg(&["GROUP", "g", "c", "NOACK", "STREAMS", self.name, ">"])
            .query_async(&mut connection)
            .await
            .expect("the server takes it");
        Outcome { case: self, lost: added - delivered - entries(&waiting) }
    }
}

struct Outcome<'a> {
    case: &'a Case,
    lost: u64,
}

/// Counts the entries in a reply to XREADGROUP from one stream.
fn entries(reply: &Value) -> u64 {
    match reply {
        Value::Nil => 0,
        Value::Array(streams) => match &streams[..] {
            [Value::Array(stream)] => match &stream[..] {
                [_, Value::Array(entries)] => entries.len() as u64,
                other => panic!("{other:?}"),
            },
            other => panic!("{other:?}"),
        },
        other => panic!("{other:?}"),
    }
}

fn run_time() -> Duration {
    let given = std::env::var("STREAMGAUGE_LOSSES").ok();
    given.map_or(Duration::from_secs(25), |text| humantime::parse_duration(&text).expect("a duration"))
}

/// Losses are not counted before the first poll that sees trimming, so a short run polls more often.
fn interval_ms() -> u128 {
    (run_time() / 12).min(Duration::from_secs(10)).as_millis()
}

async fn watch(server: &Server, keys: &[&str]) -> Exporter {
    for key in keys {
        let _: Value = server.command(&["XGROUP", "CREATE", key, "g", "0", "MKSTREAM"]).await;
    }
    let exporter = serving(&format!(
        "poll: {{interval: {}ms, timeout: 1s}}\nstatus: {{window: 1m}}\ntargets: [{{name: t, url: '{}'}}]",
        interval_ms(),
        server.url()
    ))
    .await;
    wait_for(SOON, "the first poll", async || {
        let metrics = exporter.metrics().await;
        let is_there = |key: &&str| metrics.contains_key(&lost(key));
        if keys.iter().all(is_there) { Ok(()) } else { Err(format!("{metrics:#?}")) }
    })
    .await;
    exporter
}

fn lost(key: &str) -> String {
    group("redis_stream_group_entries_lost_total", key, "g")
}

fn is_losing(metrics: &Metrics, key: &str) -> bool {
    metrics.get(&status(key, "g", "losing")) == Some(&1.0)
}

#[tokio::test]
async fn a_group_slower_than_trimming_has_its_losses_counted() {
    for_each_program(async |program| {
        let server = Server::start(program, &[]).await;
        let has_counters = server.program().version >= (7, 0, 0);
        if !has_counters {
            return;
        }
        let keys: Vec<_> = CASES.iter().map(|case| case.name).collect();
        let exporter = watch(&server, &keys).await;
        let outcomes = join_all(CASES.iter().map(|case| case.run(&server, run_time()))).await;
        // The last loss is in the next poll at the latest.
        sleep(Duration::from_secs(11)).await;
        let metrics = exporter.metrics().await;
        for Outcome { case, lost: truth } in outcomes {
            let counted = metrics[&lost(case.name)];
            let share = counted / truth as f64;
            println!("{:<12} lost {truth:>6}, counted {counted:>6}, {share:.2}", case.name);
            assert!(truth > 200, "{}: the test loses entries", case.name);
            assert!(counted <= truth as f64, "{}: {counted} counted, {truth} lost", case.name);
            // A short run has few losses, and some before the first poll that sees trimming.
            let is_short = run_time() < Duration::from_secs(60);
            let at_least = if is_short { case.at_least * 0.6 } else { case.at_least };
            assert!(share >= at_least, "{}: {counted} of {truth} counted", case.name);
            assert!(is_losing(&metrics, case.name), "{}: {metrics:#?}", case.name);
        }
    })
    .await;
}
