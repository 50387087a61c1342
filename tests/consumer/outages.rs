//! Servers that stop, stall, come back, or lose everything.

use std::time::Duration;

use redis::Value;
use redis_stream_consumer::consume::ConsumerConfig;
use tokio::time::sleep;

use crate::member::{DEADLINE, Recorder, Running, add, member, pending, send};
use crate::support::server::Server;
use crate::support::servers::for_each_program;
use crate::support::wait::wait_until;

const DURABLE: [&str; 4] = ["--appendonly", "yes", "--appendfsync", "always"];

/// Duration of a stall: longer than `block` and `reply` together, so that both connections are given up.
const STANDSTILL: Duration = Duration::from_secs(4);

/// Waits until every number up to `last` was handled, and nothing is pending.
async fn all_handled(server: &Server, running: &Running, last: u64) {
    wait_until(DEADLINE, "all are handled", async || {
        running.recorder.distinct() == (1..=last).collect::<Vec<_>>()
    })
    .await;
    wait_until(DEADLINE, "all are acknowledged", async || {
        pending(&mut server.connection().await).await == Some(0)
    })
    .await;
}

#[tokio::test]
async fn a_server_that_restarts_with_its_file_loses_nothing() {
    for_each_program(async |program| {
        let mut server = Server::start(program, &DURABLE).await;
        add(&server, 1, 300).await;
        let quick = Recorder { work_time: Duration::from_millis(1), ..Recorder::default() };
        let running = Running::start(member(&server, "one"), quick);
        running.has_seen(50).await;
        server.stop().await;
        server.restart().await;
        add(&server, 301, 100).await;
        all_handled(&server, &running, 400).await;

        server.kill();
        server.restart().await;
        add(&server, 401, 100).await;
        all_handled(&server, &running, 500).await;
        running.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_stands_still_for_longer_than_every_timeout_loses_nothing() {
    for_each_program(async |program| {
        let server = Server::start(program, &[]).await;
        add(&server, 1, 300).await;
        let short = ConsumerConfig { claim_min_idle: Duration::from_millis(800), ..member(&server, "one") };
        let quick = Recorder { work_time: Duration::from_millis(1), ..Recorder::default() };
        let running = Running::start(short, quick);
        running.has_seen(50).await;
        server.pause();
        sleep(STANDSTILL).await;
        server.resume();
        all_handled(&server, &running, 300).await;
        add(&server, 301, 100).await;
        all_handled(&server, &running, 400).await;
        let (recorder, consumed) = running.stop().await;
        // Handled entries that could not be acknowledged were kept, and not handled again.
        assert_eq!(recorder.count(), 400, "{consumed:?}");
    })
    .await;
}

#[tokio::test]
async fn a_flush_in_the_middle_loses_only_what_the_server_lost() {
    for_each_program(async |program| {
        let server = Server::start(program, &[]).await;
        let mut connection = server.connection().await;
        add(&server, 1, 1_000).await;
        let quick = Recorder { work_time: Duration::from_millis(1), ..Recorder::default() };
        let running = Running::start(member(&server, "one"), quick);
        running.has_seen(50).await;
        let () = send(&mut connection, "FLUSHALL").await;
        add(&server, 1_001, 200).await;
        let after: Vec<u64> = (1_001..=1_200).collect();
        wait_until(DEADLINE, "all that came after is handled", async || {
            running.recorder.distinct().into_iter().filter(|n| *n > 1_000).eq(after.iter().copied())
        })
        .await;
        wait_until(DEADLINE, "nothing is pending", async || pending(&mut connection).await == Some(0)).await;
        running.stop().await;
    })
    .await;
}

#[tokio::test]
async fn a_master_that_becomes_a_replica_is_waited_for() {
    for_each_program(async |program| {
        let server = Server::start(program, &[]).await;
        let other = Server::start(program, &[]).await;
        let mut connection = server.connection().await;
        add(&server, 1, 20).await;
        let running = Running::start(member(&server, "one"), Recorder::default());
        running.has_seen(20).await;
        let port = other.port();
        let () = send(&mut connection, &format!("REPLICAOF 127.0.0.1 {port}")).await;
        // The consumer now gets READONLY, and the stream is gone.
        wait_until(DEADLINE, "it is a replica of nothing", async || {
            send::<u64>(&mut server.connection().await, "EXISTS orders").await == 0
        })
        .await;
        let () = send(&mut connection, "REPLICAOF NO ONE").await;
        add(&server, 21, 20).await;
        wait_until(DEADLINE, "it goes on", async || {
            running.recorder.distinct() == (1..=40).collect::<Vec<_>>()
        })
        .await;
        let (_, consumed) = running.stop().await;
        assert_eq!(consumed.failed, 0);
        let _: Value = send(&mut connection, "XINFO GROUPS orders").await;
    })
    .await;
}

#[tokio::test]
async fn long_work_is_not_begun_twice_though_the_server_stood_still() {
    for_each_program(async |program| {
        let server = Server::start(program, &[]).await;
        add(&server, 1, 3).await;
        let short = ConsumerConfig { claim_min_idle: Duration::from_millis(800), ..member(&server, "one") };
        let slow = Recorder { work_time: STANDSTILL * 2, ..Recorder::default() };
        let running = Running::start(ConsumerConfig { concurrency: 6, ..short }, slow);
        wait_until(DEADLINE, "all are in flight", async || {
            pending(&mut server.connection().await).await == Some(3)
        })
        .await;
        server.pause();
        sleep(STANDSTILL).await;
        server.resume();
        all_handled(&server, &running, 3).await;
        let (recorder, consumed) = running.stop().await;
        assert_eq!(recorder.count(), 3, "{:?} {consumed:?}", recorder.seen());
    })
    .await;
}
