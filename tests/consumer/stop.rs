//! SIGTERM: what is done is acknowledged, what is not begun is released, or stays pending before Redis 8.8.

use std::time::Duration;

use redis::Value;
use redis_stream_consumer::connect_options::ConnectOptions;
use redis_stream_consumer::consume::ConsumerConfig;
use redis_stream_core::clock::now;
use rustix::process::Signal;

use crate::member::{DEADLINE, Recorder, Running, add, consumers, member, pending, program, send};
use crate::support::client::RedisClient;
use crate::support::imitator::{Imitation, Imitator};
use crate::support::program::Streamgauge;
use crate::support::server::Server;
use crate::support::servers::{for_each_server, newest};
use crate::support::wait::wait_until;

#[tokio::test]
async fn a_stop_under_load_leaves_nothing_pending_that_was_handled() {
    for_each_server(async |server| {
        add(&server, 1, 20_000).await;
        let running = Streamgauge::command("consume")
            .args(["--redis-url", &server.url(), "--stream", "orders", "--group", "billing"])
            .args(["--consumer", "one", "--concurrency", "4"])
            .spawn();
        wait_until(DEADLINE, "it is at it", async || running.stdout().len() > 50_000).await;
        let end = running.stop().await;
        assert_eq!(end.code, Some(0), "{}", end.stderr);
        let lines = end.stdout.lines().count();
        let mut connection = server.connection().await;
        let groups: Vec<std::collections::BTreeMap<String, Value>> =
            send(&mut connection, "XINFO GROUPS orders").await;
        let delivered: String =
            redis::from_redis_value(groups[0]["last-delivered-id"].clone()).expect("an ID");
        let read: Vec<Value> = send(&mut connection, &format!("XRANGE orders - {delivered}")).await;
        // Each entry that was read was written once, or is pending.
        assert_eq!(Some(read.len() as u64 - lines as u64), pending(&mut connection).await);
        assert!(end.stderr.contains(&format!("handled={lines}")), "{}", end.stderr);
        let rows: Vec<(String, String, u64, u64)> =
            send(&mut connection, "XPENDING orders billing - + 20000 one").await;
        for (id, ..) in &rows {
            assert!(!end.stdout.contains(id.as_str()), "{id} was handled and is pending");
        }
        let names = consumers(&mut connection).await;
        assert_eq!(names.is_empty(), rows.is_empty(), "{names:?}");
    })
    .await;
}

#[tokio::test]
async fn a_name_without_anything_pending_is_deleted() {
    for_each_server(async |server| {
        add(&server, 1, 10).await;
        let running = Running::start(member(&server, "one"), Recorder::default());
        running.has_seen(10).await;
        let (_, consumed) = running.stop().await;
        assert_eq!(consumed.acknowledged, 10);
        assert_eq!(consumers(&mut server.connection().await).await, [] as [&str; 0]);
    })
    .await;
}

#[tokio::test]
async fn what_is_begun_is_finished_within_the_grace_and_the_rest_is_not_acknowledged() {
    let server = Server::start(newest(), &[]).await;
    add(&server, 1, 10).await;
    let recorder = Recorder { work_time: Duration::from_millis(700), ..Recorder::default() };
    let running = Running::start(ConsumerConfig { concurrency: 2, ..member(&server, "one") }, recorder);
    running.has_seen(1).await;
    let (recorder, consumed) = running.stop().await;
    let done = recorder.count() as u64;
    assert!((2..=4).contains(&done), "{done}");
    assert_eq!(consumed.acknowledged, done);
    let mut connection = server.connection().await;
    assert_eq!(pending(&mut connection).await, Some(10 - done));
    let is_released = RedisClient::to(&server).await.knows("XNACK").await;
    assert_eq!(consumers(&mut connection).await, if is_released { &[][..] } else { &["one"] });
}

/// The group's pending entries: consumer and number of deliveries.
async fn owners(server: &Server) -> Vec<(String, u64)> {
    let rows: Vec<(String, String, i64, u64)> =
        send(&mut server.connection().await, "XPENDING orders billing - + 100").await;
    rows.into_iter().map(|(_, consumer, _, deliveries)| (consumer, deliveries)).collect()
}

#[tokio::test]
async fn what_is_left_is_free_for_others_at_once() {
    for_each_server(async |server| {
        if !RedisClient::to(&server).await.knows("XNACK").await {
            return;
        }
        add(&server, 1, 10).await;
        let slow = Recorder { work_time: Duration::from_millis(300), poison: vec![1], ..Recorder::default() };
        let retry_delay = Duration::from_secs(10);
        let one = Running::start(ConsumerConfig { retry_delay, ..member(&server, "one") }, slow);
        one.has_seen(2).await;
        // It has nothing to claim when it starts, and looks for more long after the end of this test.
        let quick = Recorder { poison: vec![9], ..Recorder::default() };
        let two = Running::start(ConsumerConfig { retry_delay, ..member(&server, "two") }, quick);
        wait_until(DEADLINE, "the second waits", async || {
            consumers(&mut server.connection().await).await.len() == 2
        })
        .await;
        let (recorder, consumed) = one.stop().await;
        let stopped = now();
        let done = recorder.count() as u64;
        assert_eq!((consumed.acknowledged, consumed.failed), (done - 1, 1));
        two.has_seen(11 - recorder.count()).await;
        assert!(stopped.elapsed() < Duration::from_secs(5), "{:?}", stopped.elapsed());
        // The failed entry was delivered twice, those that were not started once.
        let expected = std::iter::once((1, 2)).chain((done + 1..=10).map(|n| (n, 1)));
        let mut seen = two.recorder.seen();
        seen.sort_unstable();
        assert_eq!(seen, expected.collect::<Vec<_>>());
        assert_eq!(consumers(&mut server.connection().await).await, ["two"]);
        // The ninth entry failed there and waits for its next attempt.
        two.stop().await;
        assert_eq!(owners(&server).await, [(String::new(), 1)]);
        assert_eq!(consumers(&mut server.connection().await).await, [] as [&str; 0]);
    })
    .await;
}

#[tokio::test]
async fn entries_that_were_only_claimed_lose_no_attempt() {
    for_each_server(async |server| {
        add(&server, 1, 20).await;
        let mut connection = server.connection().await;
        let _: Value = send(&mut connection, "XGROUP CREATE orders billing 0").await;
        let _: Value = send(&mut connection, "XREADGROUP GROUP billing dead COUNT 20 STREAMS orders >").await;
        let slow = Recorder { work_time: DEADLINE, ..Recorder::default() };
        let config = ConsumerConfig { claim_min_idle: Duration::from_millis(300), ..member(&server, "one") };
        let running = Running::start(config, slow);
        let mut expected = vec![("one".to_owned(), 1); 20];
        expected[0].1 = 2;
        wait_until(DEADLINE, "all are claimed, and one is begun", async || owners(&server).await == expected)
            .await;
        running.crash();
    })
    .await;
}

#[tokio::test]
async fn a_server_that_refuses_what_newer_ones_have_is_enough() {
    const UNKNOWN: &str = "ERR unknown command";
    for_each_server(async |server| {
        add(&server, 1, 10).await;
        let refused = &[("HELLO", UNKNOWN), ("CLIENT", UNKNOWN), ("TIME", UNKNOWN), ("XNACK", UNKNOWN)];
        let imitation = Imitation { refused, ..Imitation::default() };
        let imitator = Imitator::before(server.address(), imitation).await;
        let connect = ConnectOptions::new(&imitator.url(), None, None).expect("the URL is right");
        let slow = Recorder { work_time: Duration::from_millis(300), ..Recorder::default() };
        let running = Running::start(ConsumerConfig { connect, ..member(&server, "one") }, slow);
        running.has_seen(2).await;
        let (recorder, consumed) = running.stop().await;
        assert_eq!(consumed.acknowledged, recorder.count() as u64);
        assert_eq!(owners(&server).await, vec![("one".to_owned(), 1); 10 - recorder.count()]);
    })
    .await;
}

#[tokio::test]
async fn what_takes_longer_than_the_grace_is_abandoned() {
    let server = Server::start(newest(), &[]).await;
    add(&server, 1, 2).await;
    let running = Streamgauge::command("consume")
        .args(["--redis-url", &server.url(), "--stream", "orders", "--group", "billing"])
        .args(["--consumer", "one", "--grace", "200ms", "--exec", "sh -c 'echo $$; exec sleep 600'"])
        .spawn();
    wait_until(DEADLINE, "it is at it", async || !running.stdout().is_empty()).await;
    let end = running.stop().await;
    assert_eq!(end.code, Some(0), "{}", end.stderr);
    assert!(end.took < Duration::from_secs(8), "{:?}", end.took);
    // Its standard output is closed, or `stop` would not have returned: the child is gone.
    assert_eq!(pending(&mut server.connection().await).await, Some(2));
}

#[tokio::test]
async fn a_second_signal_ends_at_once() {
    let server = Server::start(newest(), &[]).await;
    for handler in
        [["--exec", "sh -c 'echo $$; exec sleep 600'"], ["--worker", "sh -c 'read -r line; sleep 600'"]]
    {
        add(&server, 1, 1).await;
        let running = program(&server).args(["--grace", "5m"]).args(handler).spawn();
        wait_until(DEADLINE, "it is at it", async || {
            pending(&mut server.connection().await).await == Some(1)
        })
        .await;
        running.send(Signal::TERM);
        wait_until(DEADLINE, "it was asked to end", async || {
            running.stderr().contains("a second signal ends at once grace=5m")
        })
        .await;
        let end = running.interrupt().await;
        assert_eq!(end.code, Some(0), "{}", end.stderr);
        assert!(end.took < Duration::from_secs(3), "{:?} {}", end.took, end.stderr);
        // Its pipes are closed, or `interrupt` would not have returned: the child is gone.
        assert_eq!(pending(&mut server.connection().await).await, Some(1));
        server.command::<u64>(&["DEL", "orders"]).await;
    }
}

#[tokio::test]
async fn a_stop_ends_a_consumer_whose_server_hangs() {
    let server = Server::start(newest(), &[]).await;
    add(&server, 1, 10).await;
    let running = Running::start(member(&server, "one"), Recorder::default());
    running.has_seen(10).await;
    server.pause();
    // Within the deadline of `stop`; a stopped process can still be killed.
    running.stop().await;
}
