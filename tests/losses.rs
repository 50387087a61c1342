//! Losses to trimming. A consumer that is slower than trimming counts the truth itself: the counter is never more than
//! that, and most of it where the consumer reads less often than the stream is sampled; the ratio is near it; the group is
//! `losing` all the time. Groups that lose nothing count 0.
//!
//! Nothing is assumed of the pace that a busy machine allows: the truth is what the clients have done, over whole periods
//! of the consumer. A group that reads every few milliseconds has a ratio only where the machine let the exporter sample
//! it more often than that; `loss_share` is tested at exact times.
//!
//! `STREAMGAUGE_LOSSES=5m cargo test --test losses are_counted -- --nocapture` runs for that long and prints the figures; the
//! default is 25 s. `cargo test --test losses cost -- --nocapture` prints the cost.

#![expect(clippy::print_stderr, reason = "the documentation has these figures")]

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::{join, join_all};
use redis::aio::MultiplexedConnection;
use redis::{Value, cmd};
use redis_stream_core::clock::{now, unix_time};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

mod support;

use support::config::serving;
use support::footprint;
use support::metrics::Metrics;
use support::program::Exporter;
use support::series::{group, status};
use support::server::Server;
use support::servers::{for_each_program, newest};
use support::wait::wait_for;

const SOON: Duration = Duration::from_secs(15);
const ADDED_PER_SECOND: u32 = 50;
/// The reads of a group that reads more often are seen only in bursts of samples.
const BURST_MS: u64 = 250;
/// A stream is full, and its group overtaken, after this time at the latest.
const WARM_UP: Duration = Duration::from_secs(9);

/// One consumer group on one stream, and the part of its losses that must be counted.
struct Case {
    name: &'static str,
    trim: Trim,
    read_count: u32,
    read_ms: u64,
    at_least: f64,
}

#[derive(Clone, Copy)]
enum Trim {
    Exact(u32),
    Approximate(u32),
    /// By age, in seconds.
    MinId(u64),
    /// Never.
    Off,
}

const CASES: [Case; 9] = [
    Case::new("batches", Trim::Exact(200), 25, 2_500, 0.8),
    Case::new("nodes", Trim::Approximate(200), 25, 2_700, 0.8),
    Case::new("aged", Trim::MinId(3), 25, 2_600, 0.8),
    Case::new("bulk", Trim::Exact(150), 100, 5_000, 0.8),
    Case::new("seconds", Trim::Exact(100), 10, 1_500, 0.8),
    // Not in step with the producer: then no sample could show if trimming or the read came first.
    Case::new("tenths", Trim::Exact(100), 1, 103, 0.12),
    Case::new("tenths-aged", Trim::MinId(2), 1, 103, 0.12),
    Case::new("fast", Trim::Exact(100), 1, 43, 0.05),
    Case::new("fast-nodes", Trim::Approximate(100), 1, 43, 0.05),
];

/// Groups that lose nothing.
const HEALTHY: [Case; 2] = [
    Case::new("healthy", Trim::Exact(300), 100, 200, 0.0),
    Case::new("healthy-nodes", Trim::Approximate(300), 10, 20, 0.0),
];

/// A stream from which three consumers of a group delete what they have processed.
const QUEUE: Case = Case::new("queue", Trim::Off, 7, 11, 0.0);

impl Case {
    const fn new(name: &'static str, trim: Trim, read_count: u32, read_ms: u64, at_least: f64) -> Self {
        Self { name, trim, read_count, read_ms, at_least }
    }

    /// Returns true if the losses are seen soon. Each trim of a node overtakes a fast group for some milliseconds, and it
    /// is chance which of these moments a sample meets; in a short run, maybe none.
    fn is_certainly_seen(&self) -> bool {
        let is_overtaken_for_moments = matches!(self.trim, Trim::Approximate(_)) && self.read_ms < BURST_MS;
        !is_overtaken_for_moments || !is_short()
    }

    /// Adds and trims until `end`, and counts the entries added.
    async fn produce(&self, server: &Server, end: Instant, added: &Cell<u64>) {
        let mut connection = server.connection().await;
        let mut ticks = interval(Duration::from_secs(1) / ADDED_PER_SECOND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while now() < end {
            ticks.tick().await;
            let mut add = cmd("XADD");
            add.arg(self.name);
            match self.trim {
                Trim::Exact(length) => add.arg("MAXLEN").arg("=").arg(length),
                Trim::Approximate(length) => add.arg("MAXLEN").arg("~").arg(length),
                Trim::MinId(seconds) => {
                    add.arg("MINID").arg((unix_time() - Duration::from_secs(seconds)).as_millis())
                }
                Trim::Off => &mut add,
            };
            let _: String = add
                .arg("*")
                .arg("f")
                .arg("v")
                .query_async(&mut connection)
                .await
                .expect("the server takes it");
            added.set(added.get() + 1);
        }
    }

    /// Reads until `end`. `added` is the number of entries added so far.
    async fn consume(&self, server: &Server, end: Instant, added: &Cell<u64>) -> Progress {
        let mut connection = server.connection().await;
        let mut ticks = interval(Duration::from_millis(self.read_ms));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut progress = Progress::new(end);
        while now() < end {
            ticks.tick().await;
            let mut read = cmd("XREADGROUP");
            read.arg(&["GROUP", "g", "c", "COUNT"]).arg(self.read_count).arg("NOACK");
            read.arg(&["STREAMS", self.name, ">"]);
            let reply = read.query_async(&mut connection).await.expect("the server takes it");
            progress.note_read(ids(&reply).len() as u64, added.get());
        }
        progress
    }

    async fn run(&self, server: &Server, end: Instant) -> Outcome<'_> {
        let added = Cell::new(0);
        let ((), progress) = join(self.produce(server, end, &added), self.consume(server, end, &added)).await;
        // The last read would hide the last loss, if it were not seen before.
        sleep(Duration::from_millis(1_000)).await;
        let mut connection = server.connection().await;
        let reply = cmd("XREADGROUP")
            .arg(&["GROUP", "g", "c", "NOACK", "STREAMS", self.name, ">"])
            .query_async(&mut connection)
            .await
            .expect("the server takes it");
        let waiting = ids(&reply).len() as u64;
        Outcome {
            case: self,
            added: added.get(),
            delivered: progress.delivered,
            lost: added.get() - progress.delivered - waiting,
            share: progress.share(),
        }
    }
}

/// The entries that a consumer got. Once the stream is full, from one read on to the last.
struct Progress {
    warm_at: Instant,
    delivered: u64,
    /// The entries added and delivered at the first read after the warm-up.
    first: Option<(u64, u64)>,
    /// The same at the last read.
    last: (u64, u64),
}

impl Progress {
    fn new(end: Instant) -> Self {
        Self { warm_at: end - run_time() + WARM_UP, delivered: 0, first: None, last: (0, 0) }
    }

    fn note_read(&mut self, entries: u64, added: u64) {
        self.delivered += entries;
        self.last = (added, self.delivered);
        if now() > self.warm_at {
            self.first.get_or_insert(self.last);
        }
    }

    /// Returns the part of the entries added that was not delivered.
    fn share(&self) -> f64 {
        let (added, delivered) = self.first.expect("it read once the stream was full");
        1.0 - (self.last.1 - delivered) as f64 / (self.last.0 - added) as f64
    }
}

/// The numbers that the clients of a case counted.
struct Outcome<'a> {
    case: &'a Case,
    added: u64,
    /// Number of entries delivered before the last read.
    delivered: u64,
    lost: u64,
    /// The part of the entries added that was lost once the stream was full.
    share: f64,
}

/// Reads, acknowledges and deletes until `end`, as one of several consumers.
async fn work(server: &Server, consumer: &str, end: Instant) {
    let mut connection = server.connection().await;
    let mut ticks = interval(Duration::from_millis(QUEUE.read_ms));
    while now() < end {
        ticks.tick().await;
        let mut read = cmd("XREADGROUP");
        read.arg(&["GROUP", "g", consumer, "COUNT"]).arg(QUEUE.read_count).arg(&["STREAMS", QUEUE.name, ">"]);
        let reply = read.query_async(&mut connection).await.expect("the server takes it");
        for id in ids(&reply) {
            acknowledge_and_delete(&mut connection, &id).await;
        }
    }
}

async fn acknowledge_and_delete(connection: &mut MultiplexedConnection, id: &str) {
    let acknowledge = cmd("XACK").arg(&[QUEUE.name, "g", id]).query_async::<u64>(connection).await;
    let delete = cmd("XDEL").arg(&[QUEUE.name, id]).query_async::<u64>(connection).await;
    assert_eq!((acknowledge, delete), (Ok(1), Ok(1)));
}

/// Returns the IDs in a reply to XREADGROUP from one stream.
fn ids(reply: &Value) -> Vec<String> {
    let array = |value: &Value| match value {
        Value::Nil => Vec::new(),
        Value::Array(values) => values.clone(),
        other => panic!("{other:?}"),
    };
    let entries = array(reply).first().map(|stream| array(&array(stream)[1])).unwrap_or_default();
    entries.iter().map(|entry| redis::from_redis_value_ref(&array(entry)[0]).expect("an ID")).collect()
}

fn run_time() -> Duration {
    let given = std::env::var("STREAMGAUGE_LOSSES").ok();
    given.map_or(Duration::from_secs(25), |text| humantime::parse_duration(&text).expect("a duration"))
}

fn is_short() -> bool {
    run_time() < Duration::from_secs(60)
}

/// Losses are not counted before the first poll that sees trimming, so a short run polls more often.
fn poll_interval() -> Duration {
    (run_time() / 12).min(Duration::from_secs(10))
}

async fn serve(server: &Server) -> Exporter {
    for case in CASES.iter().chain(&HEALTHY).chain([&QUEUE]) {
        let _: Value = server.command(&["XGROUP", "CREATE", case.name, "g", "0", "MKSTREAM"]).await;
    }
    let exporter = serving(&format!(
        "poll: {{interval: {}ms, timeout: 1s}}\nstatus: {{window: 1m}}\ntargets: [{{name: t, url: '{}'}}]",
        poll_interval().as_millis(),
        server.url()
    ))
    .await;
    wait_for(SOON, "the first poll", async || {
        let metrics = exporter.metrics().await;
        if metrics.contains_key(&lost(&QUEUE)) { Ok(()) } else { Err(format!("{metrics:#?}")) }
    })
    .await;
    exporter
}

fn lost(case: &Case) -> String {
    group("redis_stream_group_entries_lost_total", case.name, "g")
}

fn delivered_total(case: &Case) -> String {
    group("redis_stream_group_entries_delivered_total", case.name, "g")
}

fn acknowledged_total(case: &Case) -> String {
    group("redis_stream_group_entries_acknowledged_total", case.name, "g")
}

fn ratio(case: &Case) -> String {
    group("redis_stream_group_loss_ratio", case.name, "g")
}

fn is_losing(metrics: &Metrics, case: &Case) -> bool {
    metrics.get(&status(case.name, "g", "losing")) == Some(&1.0)
}

/// Returns the metrics of a case's stream.
fn of<'a>(metrics: &'a Metrics, case: &Case) -> BTreeMap<&'a str, f64> {
    let label = format!("stream=\"{}\"", case.name);
    metrics
        .iter()
        .filter(|(name, _)| name.contains(&label))
        .map(|(name, value)| (&name[..], *value))
        .collect()
}

/// Reads the metrics until `end`, and returns the last ones and the healthy cases that were ever losing. From the second
/// poll after the streams are full on, each group that loses is losing, without a gap.
async fn watch(exporter: &Exporter, end: Instant) -> (Metrics, BTreeSet<&'static str>) {
    let from = end - run_time() + WARM_UP + (2 * poll_interval()).max(Duration::from_secs(9));
    let mut ticks = interval(Duration::from_millis(500));
    let (mut losing, mut ever_losing) = (BTreeSet::new(), BTreeSet::new());
    loop {
        ticks.tick().await;
        let at = now();
        let metrics = exporter.metrics().await;
        for case in &CASES {
            let is_due = losing.contains(case.name) || at > from && case.is_certainly_seen();
            assert!(is_losing(&metrics, case) || !is_due, "{:#?}", of(&metrics, case));
            losing.extend(is_losing(&metrics, case).then_some(case.name));
        }
        let healthy = HEALTHY.iter().chain([&QUEUE]);
        ever_losing.extend(healthy.filter(|case| is_losing(&metrics, case)).map(|case| case.name));
        if at > end {
            return (metrics, ever_losing);
        }
    }
}

#[tokio::test]
async fn losses_are_counted_estimated_and_never_invented() {
    for_each_program(async |program| {
        let server = Server::start(program, &[]).await;
        let has_counters = server.program().version >= (7, 0, 0);
        if !has_counters {
            return;
        }
        let exporter = serve(&server).await;
        let end = now() + run_time();
        let losing = join_all(CASES.iter().map(|case| case.run(&server, end)));
        let healthy = join_all(HEALTHY.iter().map(|case| case.run(&server, end)));
        let added_to_queue = Cell::new(0);
        let queue = join(
            QUEUE.produce(&server, end, &added_to_queue),
            join_all(["a", "b", "c"].map(|consumer| work(&server, consumer, end))),
        );
        let (outcomes, healthy, _, watched) = tokio::join!(losing, healthy, queue, watch(&exporter, end));
        let (at_end, ever_losing) = watched;
        // The last loss is in the next poll at the latest.
        sleep(poll_interval() + Duration::from_secs(1)).await;
        let metrics = exporter.metrics().await;
        for outcome in outcomes {
            check(&program.name, &outcome, &at_end, &metrics);
        }
        let truths = healthy.iter().map(|outcome| (outcome.case, outcome.lost)).chain([(&QUEUE, 0)]);
        for (case, truth) in truths {
            let (counted, name) = (metrics[&lost(case)], case.name);
            assert!(counted <= truth as f64, "{name}: {counted} counted, {truth} lost");
            // A consumer that was held up for seconds has lost some.
            assert!(truth > 0 || !ever_losing.contains(name), "{name} was losing");
        }
    })
    .await;
}

fn check(program: &str, outcome: &Outcome<'_>, at_end: &Metrics, metrics: &Metrics) {
    let &Outcome { case, added, delivered, lost: truth, share } = outcome;
    let (counted, name) = (metrics[&lost(case)], case.name);
    let part = counted / truth as f64;
    let ratio = at_end.get(&ratio(case)).copied();
    eprintln!(
        "{program:<14} {name:<12} added {added:>6}, lost {truth:>6}, counted {counted:>6} ({:>3.0} %); \
         lost {share:.2}, estimated {ratio:.2?}; delivered {delivered}, counted {:?}",
        part * 100.0,
        at_end.get(&delivered_total(case))
    );
    assert!(truth > 200, "{name}: the test loses entries");
    assert!(counted <= truth as f64, "{name}: {counted} counted, {truth} lost");
    // A short run has few losses, and some before the first poll that sees trimming; and few reads.
    let (at_least, tolerance) =
        if is_short() { (case.at_least * 0.6 - 0.03, 0.2) } else { (case.at_least, 0.1) };
    // If the machine slows the producer, what is trimmed now was added faster than what is added now, by as much.
    let planned = f64::from(ADDED_PER_SECOND) * run_time().as_secs_f64();
    let tolerance = tolerance + share * (planned / added as f64 - 1.0).max(0.0);
    assert!(part >= at_least, "{name}: {counted} of {truth} counted");
    let error = ratio.map(|ratio| (share - ratio).abs());
    assert!(error.is_some() || case.read_ms < BURST_MS, "{name} has no ratio: {:#?}", of(at_end, case));
    assert!(error.is_none_or(|error| error < tolerance), "{name}: {ratio:?} estimated, {share} lost");
    // What is delivered is not what the group moves past: that includes what it loses.
    let delivered = delivered as f64;
    let since_poll = f64::from(case.read_count) * 2.0;
    let most_off = added as f64 * tolerance + since_poll;
    // Where the machine does not let the exporter sample a fast group, it is seen late that it loses anything.
    let totals = [delivered_total(case), acknowledged_total(case)];
    for total in totals.into_iter().filter(|_| case.read_ms >= BURST_MS || !is_short()) {
        let shown = at_end.get(&total).copied();
        assert!(shown.is_some() || ratio.is_none(), "{name} has no {total}: {:#?}", of(at_end, case));
        assert!(
            shown.is_none_or(|shown| (shown - delivered).abs() < most_off),
            "{shown:?}, not {delivered}: {total}"
        );
    }
    assert!(is_losing(metrics, case) || !case.is_certainly_seen(), "{:#?}", of(metrics, case));
}

/// Adds 2,000 entries to a stream with the group `g` at its start, and 6,000 consumers to one of its groups.
async fn fill(server: &Server, key: &str, crowded: &str) {
    let mut connection = server.connection().await;
    let mut commands = redis::pipe();
    for group in BTreeSet::from(["g", crowded]) {
        commands.cmd("XGROUP").arg(&["CREATE", key, group, "0", "MKSTREAM"]).ignore();
    }
    for consumer in 0..6_000 {
        commands.cmd("XGROUP").arg(&["CREATECONSUMER", key, crowded]).arg(consumer).ignore();
    }
    for _ in 0..2_000 {
        commands.cmd("XADD").arg(&[key, "*", "f", "v"]).ignore();
    }
    let () = commands.query_async(&mut connection).await.expect("the server takes it");
}

/// A reply to XINFO STREAM FULL lists all consumers, also of groups that are not reported.
#[tokio::test]
async fn losses_beside_thousands_of_consumers_are_confirmed_without_listing_them() {
    for_each_program(async |program| {
        if program.version < (7, 0, 0) {
            return;
        }
        let server = Server::start(program, &["--slowlog-log-slower-than", "0", "--slowlog-max-len", "100000"]).await;
        for (key, crowded) in [("own", "g"), ("other", "excluded")] {
            fill(&server, key, crowded).await;
        }
        let exporter = serving(&format!(
            "poll: {{interval: 300ms}}\ntargets: [{{name: t, url: '{}', streams: [{{key: '*', groups: {{include: [g]}}}}]}}]",
            server.url()
        ))
        .await;
        let counted = async |expected: f64| {
            let lost = ["own", "other"].map(|key| group("redis_stream_group_entries_lost_total", key, "g"));
            wait_for(SOON, "the losses are counted", async || {
                let metrics = exporter.metrics().await;
                let found = lost.each_ref().map(|series| metrics.get(series).copied());
                if found == [Some(expected); 2] { Ok(()) } else { Err(format!("{found:?}")) }
            })
            .await;
        };
        counted(0.0).await;
        for key in ["own", "other"] {
            let removed: u64 = server.command(&["XTRIM", key, "MAXLEN", "=", "600"]).await;
            assert_eq!(removed, 1_400);
        }
        counted(1_400.0).await;
        let slow: Value = server.command(&["SLOWLOG", "GET", "100000"]).await;
        assert!(format!("{slow:?}").contains("GROUPS"), "commands are in the log");
        assert!(!format!("{slow:?}").contains("FULL"), "{slow:?}");
    })
    .await;
}

/// Number of streams with a group in danger.
const IN_DANGER: usize = 50;
const COST_TIME: Duration = Duration::from_secs(8);

/// Adds to and reads from a stream until `end`, so that its group loses entries and reads on.
async fn lose(server: &Server, key: &str, end: Instant) {
    let mut connection = server.connection().await;
    let mut ticks = interval(Duration::from_millis(50));
    for tick in 0.. {
        ticks.tick().await;
        if now() > end {
            return;
        }
        let mut add = redis::pipe();
        add.cmd("XADD").arg(&[key, "MAXLEN", "=", "20", "*", "f", "v"]).ignore();
        if tick % 4 == 0 {
            add.cmd("XREADGROUP")
                .arg(&["GROUP", "g", "c", "COUNT", "1", "NOACK", "STREAMS", key, ">"])
                .ignore();
        }
        let () = add.query_async(&mut connection).await.expect("the server takes it");
    }
}

/// Polls with this `poll.loss_sample_streams`, and returns the CPU seconds per second of the exporter and of the server.
async fn cpu(server: &Server, loss_sample_streams: usize) -> (f64, f64) {
    let exporter = serving(&format!(
        "poll: {{interval: 2s, timeout: 1s, loss_sample_streams: {loss_sample_streams}}}\n\
         status: {{window: 1m}}\ntargets: [{{name: t, url: '{}'}}]",
        server.url()
    ))
    .await;
    // Losses are seen, and the single reads of the groups are known to be invisible to regular samples.
    sleep(COST_TIME).await;
    let used = || [exporter.pid(), server.pid()].map(footprint::cpu);
    let before = used();
    sleep(COST_TIME).await;
    let after = used();
    exporter.stop().await;
    let share = |at: usize| (after[at] - before[at]).as_secs_f64() / COST_TIME.as_secs_f64();
    (share(0), share(1))
}

#[tokio::test]
async fn the_cost_of_fifty_groups_in_danger_is_small() {
    let server = Server::start(newest(), &[]).await;
    let keys: Vec<_> = (0..IN_DANGER).map(|number| format!("s{number}")).collect();
    for key in &keys {
        let _: Value = server.command(&["XGROUP", "CREATE", key, "g", "0", "MKSTREAM"]).await;
    }
    let end = now() + 4 * COST_TIME + Duration::from_secs(4);
    let load = join_all(keys.iter().map(|key| lose(&server, key, end)));
    let measured = async { (cpu(&server, 0).await, cpu(&server, IN_DANGER).await) };
    let (_, (without, with)) = join(load, measured).await;
    let (exporter, server_share) = (with.0 - without.0, with.1 - without.1);
    eprintln!("{IN_DANGER} groups in danger: {:.1} % of a core", exporter * 100.0);
    eprintln!("  and {:.1} % of the server's core, of {:.1} %", server_share * 100.0, with.1 * 100.0);
    assert!(exporter < 0.05, "{exporter}");
    assert!(server_share < 0.02, "{server_share}");
}
