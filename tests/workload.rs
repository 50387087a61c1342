//! The reference consumer against a real server, and the load generator where both are needed.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::{self, Write};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Value, cmd};
use streamgauge::shutdown::{Shutdown, Trigger};
use streamgauge::workload::consume::{self, Consumed, Membership};
use streamgauge::workload::endpoint::Endpoint;
use streamgauge::workload::error::WorkloadError;
use streamgauge::workload::produce::{self, Load, Produced};
use tokio::task::JoinHandle;
use tokio::time::timeout;

mod support;

use support::server::Server;
use support::servers::{for_each_server, newest};
use support::wait::wait_until;

const DEADLINE: Duration = Duration::from_secs(20);

async fn server(args: &[&str]) -> Server {
    Server::start(newest(), args).await
}

/// Sends a command written as in redis-cli, without quotes.
async fn send<T: redis::FromRedisValue>(connection: &mut MultiplexedConnection, line: &str) -> T {
    let mut words = line.split(' ');
    let mut command = cmd(words.next().unwrap());
    command.arg(words.collect::<Vec<_>>());
    command.query_async(connection).await.unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// Entries that the group was given and did not acknowledge.
async fn pending(connection: &mut MultiplexedConnection, group: &str) -> i64 {
    let summary: Vec<Value> = send(connection, &format!("XPENDING orders {group}")).await;
    redis::from_redis_value(summary[0].clone()).unwrap()
}

fn load(server: &Server) -> Load {
    let endpoint = Endpoint::new(&server.url(), None, None).unwrap();
    Load { rate: 0.0, count: Some(10), payload_bytes: 10, ..Load::new(endpoint, "orders") }
}

async fn produce(load: &Load) -> Produced {
    produce::run(load, std::future::pending()).await.unwrap()
}

fn member(server: &Server, consumer: &str) -> Membership {
    Membership {
        endpoint: Endpoint::new(&server.url(), None, None).unwrap(),
        stream: b"orders".to_vec(),
        group: b"billing".to_vec(),
        consumer: consumer.into(),
        start_id: "0".to_owned(),
        batch: 100,
        work_time: Duration::ZERO,
    }
}

/// Lines as they are written, for a consumer and its test.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }

    fn count(&self) -> usize {
        self.text().lines().count()
    }

    /// The field `n` of every line.
    fn numbers(&self) -> Vec<u64> {
        let number = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            line["fields"]["n"].as_str().unwrap().parse().unwrap()
        };
        self.text().lines().map(number).collect()
    }
}

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A consumer that runs beside its test.
struct Running {
    lines: Lines,
    trigger: Trigger,
    task: JoinHandle<Result<Consumed, WorkloadError>>,
}

impl Running {
    fn start(membership: Membership) -> Self {
        let (trigger, shutdown) = Shutdown::new();
        let lines = Lines::default();
        let sink = lines.clone();
        let task = tokio::spawn(async move { consume::run(&membership, sink, shutdown.requested()).await });
        Self { lines, trigger, task }
    }

    async fn has_written(&self, count: usize) {
        wait_until(DEADLINE, "lines are written", async || self.lines.count() >= count).await;
    }

    async fn stop(self) -> (Lines, Consumed) {
        self.trigger.fire();
        let consumed = timeout(DEADLINE, self.task).await.expect("it ends soon").unwrap().unwrap();
        (self.lines, consumed)
    }
}

#[tokio::test]
async fn two_consumers_share_a_thousand_entries_each_exactly_once() {
    for_each_server(async |server| {
        let produced = produce(&Load { count: Some(1_000), ..load(&server) }).await;
        assert_eq!(produced.added, 1_000);

        let [one, two] = ["one", "two"].map(|name| Running::start(member(&server, name)));
        wait_until(DEADLINE, "all are written", async || one.lines.count() + two.lines.count() >= 1_000)
            .await;
        let ((one, first), (two, second)) = (one.stop().await, two.stop().await);

        let mut numbers = [one.numbers(), two.numbers()].concat();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=1_000).collect::<Vec<_>>());
        assert_eq!(first.acknowledged + second.acknowledged, 1_000);
        assert_eq!(pending(&mut server.connection().await, "billing").await, 0);
    })
    .await;
}

#[tokio::test]
async fn unfinished_entries_of_the_same_name_come_first_page_by_page() {
    for_each_server(async |server| {
        let mut connection = server.connection().await;
        produce(&load(&server)).await;
        let _: () = send(&mut connection, "XGROUP CREATE orders billing 0").await;
        // What another run of the same name was given before it crashed.
        let _: Value = send(&mut connection, "XREADGROUP GROUP billing one COUNT 7 STREAMS orders >").await;

        let running = Running::start(Membership { batch: 3, ..member(&server, "one") });
        running.has_written(10).await;
        let (lines, consumed) = running.stop().await;
        assert_eq!(lines.numbers(), (1..=10).collect::<Vec<_>>());
        assert_eq!(consumed, Consumed { written: 10, acknowledged: 10, deleted: 0 });
        assert_eq!(pending(&mut connection, "billing").await, 0);
    })
    .await;
}

#[tokio::test]
async fn a_pending_entry_that_was_deleted_is_acknowledged_without_a_line() {
    for_each_server(async |server| {
        let mut connection = server.connection().await;
        let _: () = send(&mut connection, "XGROUP CREATE orders billing 0 MKSTREAM").await;
        for id in ["1-0", "2-0", "3-0"] {
            let _: () = send(&mut connection, &format!("XADD orders {id} n {id}")).await;
        }
        let _: Value = send(&mut connection, "XREADGROUP GROUP billing one STREAMS orders >").await;
        let _: () = send(&mut connection, "XDEL orders 2-0").await;

        let running = Running::start(member(&server, "one"));
        wait_until(DEADLINE, "nothing is pending", async || pending(&mut connection, "billing").await == 0)
            .await;
        let (lines, consumed) = running.stop().await;
        assert_eq!(lines.count(), 2);
        assert!(!lines.text().contains("2-0"));
        assert_eq!(consumed, Consumed { written: 2, acknowledged: 3, deleted: 1 });
    })
    .await;
}

#[tokio::test]
async fn a_group_or_a_stream_that_goes_away_is_created_again() {
    for_each_server(async |server| {
        let mut connection = server.connection().await;
        produce(&load(&server)).await;
        let running = Running::start(member(&server, "one"));
        running.has_written(10).await;

        let _: () = send(&mut connection, "XGROUP DESTROY orders billing").await;
        // The new group starts at 0, as the first did: nothing is lost, and all is read again.
        running.has_written(20).await;

        let _: () = send(&mut connection, "DEL orders").await;
        wait_until(DEADLINE, "the group is back", async || {
            let groups: redis::RedisResult<Vec<Value>> =
                cmd("XINFO").arg("GROUPS").arg("orders").query_async(&mut connection).await;
            groups.is_ok_and(|groups| groups.len() == 1)
        })
        .await;
        produce(&load(&server)).await;
        running.has_written(30).await;
        let (lines, _) = running.stop().await;
        assert_eq!(lines.count(), 30);
    })
    .await;
}

#[tokio::test]
async fn a_server_that_comes_back_on_its_port_finds_its_consumer_and_its_producer() {
    let mut server = server(&["--appendonly", "yes", "--appendfsync", "always"]).await;
    let running = Running::start(member(&server, "one"));
    let endless = Load { rate: 100.0, count: None, ..load(&server) };
    let (trigger, shutdown) = Shutdown::new();
    let producer = tokio::spawn(async move { produce::run(&endless, shutdown.requested()).await });
    running.has_written(20).await;
    server.stop().await;

    server.restart().await;
    let before = running.lines.count();
    running.has_written(before + 20).await;
    trigger.fire();
    let produced = timeout(DEADLINE, producer).await.unwrap().unwrap().unwrap();
    let mut connection = server.connection().await;
    let length: usize = send(&mut connection, "XLEN orders").await;
    // The server may have added entries whose reply it never sent.
    assert!(length as u64 >= produced.added, "{length} < {}", produced.added);

    running.has_written(length).await;
    let (lines, _) = running.stop().await;
    let mut numbers = lines.numbers();
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers, (1..=produced.added).collect::<Vec<_>>(), "none is missing");
    assert_eq!(pending(&mut connection, "billing").await, 0);
}

#[tokio::test]
async fn a_line_is_exact_and_bytes_that_are_not_text_are_escaped() {
    for_each_server(async |server| {
        let mut connection = server.connection().await;
        let mut add = cmd("XADD");
        add.arg("orders").arg("5-1").arg("name").arg("größe \"M\"").arg(b"\xff\\x41").arg(b"a\x00\xfe");
        let _: () = add.query_async(&mut connection).await.unwrap();

        let running = Running::start(member(&server, "one"));
        running.has_written(1).await;
        let (lines, _) = running.stop().await;
        assert_eq!(
            lines.text(),
            concat!(
                r#"{"id":"5-1","stream":"orders","group":"billing","consumer":"one","#,
                r#""fields":{"name":"größe \"M\"","\\xff\\x5cx41":"a\u0000\\xfe"}}"#,
                "\n"
            )
        );
    })
    .await;
}

#[tokio::test]
async fn what_the_server_refuses_is_said_without_a_secret() {
    let server = server(&["--requirepass", "right-secret"]).await;
    let address = server.address();
    for (url, said) in [
        (format!("redis://:wrong-secret@{address}"), "authentication failed"),
        (format!("redis://me:wrong-secret@{address}"), "authentication failed"),
        (format!("redis://{address}"), "NOAUTH Authentication required."),
    ] {
        let membership =
            Membership { endpoint: Endpoint::new(&url, None, None).unwrap(), ..member(&server, "one") };
        let error = consume::run(&membership, io::sink(), std::future::pending()).await.unwrap_err();
        let text = format!("{:#}", anyhow::Error::from(error));
        assert_eq!(text, format!("redis://{address}: {said}"));
    }
}

#[tokio::test]
async fn a_password_file_is_read_at_the_connect_and_named_when_it_is_missing() {
    let server = server(&["--requirepass", "right-secret"]).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "right-secret").unwrap();
    let endpoint = Endpoint::new(&server.url(), None, Some(file.path().to_owned())).unwrap();
    let load = Load { endpoint, ..load(&server) };
    assert_eq!(produce(&load).await.added, 10);

    let path = file.path().to_owned();
    file.close().unwrap();
    let error = produce::run(&load, std::future::pending()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read password file {}", path.display()));
}

#[tokio::test]
async fn a_key_of_another_type_is_an_error_of_both() {
    let server = server(&[]).await;
    let _: () = send(&mut server.connection().await, "SET orders text").await;
    let said = format!(
        "redis://{}: WRONGTYPE Operation against a key holding the wrong kind of value",
        server.address()
    );
    let error = consume::run(&member(&server, "one"), io::sink(), std::future::pending()).await.unwrap_err();
    assert_eq!(format!("{:#}", anyhow::Error::from(error)), said);
    let error = produce::run(&load(&server), std::future::pending()).await.unwrap_err();
    assert_eq!(format!("{:#}", anyhow::Error::from(error)), said);
}

/// Takes two lines, then nobody reads it any more.
struct Head(u8);

impl Write for Head {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.0 -= 1;
        let line = bytes.iter().position(|byte| *byte == b'\n').expect("whole lines are written");
        Ok(line + 1)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_broken_pipe_is_a_success_and_acknowledges_what_was_written() {
    let server = server(&[]).await;
    produce(&load(&server)).await;
    let member = member(&server, "one");
    let run = consume::run(&member, Head(2), std::future::pending());
    let consumed = timeout(DEADLINE, run).await.expect("it ends by itself").unwrap();
    assert_eq!(consumed, Consumed { written: 2, acknowledged: 2, deleted: 0 });
    assert_eq!(pending(&mut server.connection().await, "billing").await, 8);
}

#[tokio::test]
async fn a_stop_finishes_the_entry_in_hand_and_leaves_the_rest_pending() {
    let server = server(&[]).await;
    produce(&load(&server)).await;
    let working = Membership { work_time: Duration::from_millis(300), ..member(&server, "one") };
    let running = Running::start(working);
    running.has_written(1).await;
    let (lines, consumed) = running.stop().await;
    assert!((1..=3).contains(&lines.count()), "{}", lines.count());
    assert_eq!(consumed.acknowledged, lines.count() as u64);
    assert_eq!(pending(&mut server.connection().await, "billing").await, 10 - lines.count() as i64);
}

#[tokio::test]
async fn a_slow_consumer_acknowledges_before_its_batch_is_done() {
    let server = server(&[]).await;
    let mut connection = server.connection().await;
    produce(&Load { count: Some(100), ..load(&server) }).await;
    let running =
        Running::start(Membership { work_time: Duration::from_millis(100), ..member(&server, "one") });
    running.has_written(1).await;
    wait_until(DEADLINE, "some are acknowledged", async || pending(&mut connection, "billing").await < 100)
        .await;
    assert!(running.lines.count() < 100);
    running.stop().await;
}

#[tokio::test]
async fn a_stop_ends_a_consumer_whose_server_hangs() {
    let server = server(&[]).await;
    produce(&load(&server)).await;
    let running = Running::start(member(&server, "one"));
    running.has_written(10).await;
    server.pause();
    // Within the deadline of `stop`; a stopped process can still be killed.
    running.stop().await;
}
