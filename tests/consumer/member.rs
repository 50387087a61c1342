//! A consumer that runs beside its test, and what it was given.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::Value;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, cmd};
use redis_stream_consumer::connect_options::ConnectOptions;
use redis_stream_consumer::connection::Timeouts;
use redis_stream_consumer::consume::handler::{Handler, HandlerError};
use redis_stream_consumer::consume::{self, ConsumeStats, ConsumerConfig};
use redis_stream_consumer::entry::Entry;
use redis_stream_consumer::error::RunError;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::support::program::Streamgauge;
use crate::support::server::Server;
use crate::support::wait::wait_until;

/// Limit for each wait.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// A member of the group `billing` of the stream `orders`, with short times.
pub(crate) fn member(server: &Server, consumer: &str) -> ConsumerConfig {
    let connect = ConnectOptions::new(&server.url(), None, None).unwrap();
    ConsumerConfig {
        claim_min_idle: Duration::from_secs(30),
        retry_delay: Duration::from_millis(50),
        max_retry_delay: Duration::from_millis(300),
        block: Duration::from_millis(300),
        timeouts: Timeouts {
            connect: Duration::from_secs(2),
            reply: Duration::from_secs(2),
            longest_delay: Duration::from_millis(300),
        },
        max_deliveries: 5,
        ..ConsumerConfig::new(connect, "orders", "billing", consumer)
    }
}

/// Adds entries with the field `n`, from `first` on.
pub(crate) async fn add(server: &Server, first: u64, count: u64) {
    let mut connection = server.connection().await;
    for start in (first..first + count).step_by(5_000) {
        let mut pipeline = Pipeline::new();
        for n in start..(start + 5_000).min(first + count) {
            pipeline.cmd("XADD").arg("orders").arg("*").arg("n").arg(n).ignore();
        }
        let () = pipeline.query_async(&mut connection).await.unwrap();
    }
}

/// Sends a command written as in redis-cli, without quotes.
pub(crate) async fn send<T: redis::FromRedisValue>(connection: &mut MultiplexedConnection, line: &str) -> T {
    let mut words = line.split(' ');
    let mut command = cmd(words.next().unwrap());
    command.arg(words.collect::<Vec<_>>());
    command.query_async(connection).await.unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// Entries that the group was given and did not acknowledge; `None` while there is no group.
pub(crate) async fn pending(connection: &mut MultiplexedConnection) -> Option<u64> {
    let mut summary = cmd("XPENDING");
    let summary: Result<Vec<Value>, _> = summary.arg("orders").arg("billing").query_async(connection).await;
    match summary {
        Err(error) if error.code() == Some("NOGROUP") => None,
        summary => Some(redis::from_redis_value(summary.unwrap().swap_remove(0)).unwrap()),
    }
}

/// Names of the group's consumers.
pub(crate) async fn consumers(connection: &mut MultiplexedConnection) -> Vec<String> {
    let rows: Vec<BTreeMap<String, Value>> = send(connection, "XINFO CONSUMERS orders billing").await;
    rows.into_iter().map(|mut row| redis::from_redis_value(row.remove("name").unwrap()).unwrap()).collect()
}

/// An entry as its handler saw it: the field `n`, and how often it was delivered.
pub(crate) type Seen = (u64, u64);

/// Notes what it is given.
#[derive(Clone, Default)]
pub(crate) struct Recorder {
    pub(crate) seen: Arc<Mutex<Vec<Seen>>>,
    /// Time spent on each entry, before it is noted.
    pub(crate) work_time: Duration,
    /// Numbers whose handling always fails.
    pub(crate) poison: Vec<u64>,
    /// Numbers whose handling panics at the first delivery.
    pub(crate) shock: Vec<u64>,
}

impl Recorder {
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    pub(crate) fn count(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// The numbers, in the order in which they were handled.
    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.seen().into_iter().map(|(n, _)| n).collect()
    }

    /// The numbers, each once.
    pub(crate) fn distinct(&self) -> Vec<u64> {
        let mut numbers = self.numbers();
        numbers.sort_unstable();
        numbers.dedup();
        numbers
    }
}

impl Handler for Recorder {
    async fn handle(&self, entry: &Entry) -> Result<(), HandlerError> {
        let n = std::str::from_utf8(entry.field("n").unwrap()).unwrap().parse().unwrap();
        if !self.work_time.is_zero() {
            sleep(self.work_time).await;
        }
        self.seen.lock().unwrap().push((n, entry.deliveries));
        assert!(!(self.shock.contains(&n) && entry.deliveries == 1), "shocked by {n}");
        if self.poison.contains(&n) { Err(HandlerError::failed(format!("{n} is poison"))) } else { Ok(()) }
    }
}

/// A consumer that runs beside its test.
pub(crate) struct Running {
    pub(crate) recorder: Recorder,
    trigger: CancellationToken,
    task: JoinHandle<Result<ConsumeStats, RunError>>,
}

impl Running {
    pub(crate) fn start(config: ConsumerConfig, recorder: Recorder) -> Self {
        let shutdown = CancellationToken::new();
        let trigger = shutdown.clone();
        let handler = recorder.clone();
        let task =
            tokio::spawn(async move { consume::run(&config, handler, shutdown.cancelled_owned()).await });
        Self { recorder, trigger, task }
    }

    pub(crate) async fn has_seen(&self, count: usize) {
        wait_until(DEADLINE, "entries are handled", async || self.recorder.count() >= count).await;
    }

    /// Asks it to end, as SIGTERM does.
    pub(crate) async fn stop(self) -> (Recorder, ConsumeStats) {
        self.trigger.cancel();
        let consumed = timeout(DEADLINE, self.task).await.expect("it ends soon").unwrap().unwrap();
        (self.recorder, consumed)
    }

    /// Ends it like a crash: nothing is finished or sent.
    pub(crate) fn crash(self) -> Recorder {
        self.task.abort();
        self.recorder
    }
}

/// The program as a member of the group.
pub(crate) fn program(server: &Server) -> Streamgauge {
    Streamgauge::command("consume")
        .args(["--redis-url", &server.url(), "--stream", "orders", "--group", "billing"])
        .args(["--consumer", "one"])
}

/// The dead letters: ID of the entry, its deliveries, and the error.
pub(crate) async fn dead_letters(server: &Server) -> Vec<(String, String, String)> {
    let letters: Vec<(String, BTreeMap<String, String>)> =
        send(&mut server.connection().await, "XRANGE orders:dead - +").await;
    let field =
        |fields: &BTreeMap<String, String>, name: &str| fields[&format!("streamgauge-{name}")].clone();
    letters
        .iter()
        .map(|(_, fields)| (field(fields, "id"), field(fields, "deliveries"), field(fields, "error")))
        .collect()
}

/// Number of deliveries of each pending entry, in the order of the stream.
pub(crate) async fn deliveries(server: &Server) -> Vec<u64> {
    let rows: Vec<(String, String, i64, u64)> =
        send(&mut server.connection().await, "XPENDING orders billing - + 1000").await;
    rows.into_iter().map(|(_, _, _, deliveries)| deliveries).collect()
}

/// Waits until the group was delivered all entries, and nothing is pending.
pub(crate) async fn drained(server: &Server) {
    let mut connection = server.connection().await;
    wait_until(DEADLINE, "all are handled", async || {
        let groups = cmd("XINFO").arg("GROUPS").arg("orders").query_async(&mut connection).await;
        let groups: Vec<BTreeMap<String, Value>> = groups.unwrap_or_default();
        let last: Vec<(String, Value)> = send(&mut connection, "XREVRANGE orders + - COUNT 1").await;
        let Some(group) = groups.first() else { return false };
        let text = |value: &Value| redis::from_redis_value_ref::<String>(value).unwrap();
        text(&group["last-delivered-id"]) == last[0].0 && text(&group["pending"]) == "0"
    })
    .await;
}
