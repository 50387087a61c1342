//! SIGTERM: what is done is acknowledged, what is not begun stays pending.

use std::time::Duration;

use redis::Value;
use redis_stream_consumer::consume::ConsumerConfig;

use crate::member::{DEADLINE, Recorder, Running, add, consumers, member, pending, send};
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
async fn what_is_begun_is_finished_within_the_grace_and_the_rest_stays_pending() {
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
    assert_eq!(consumers(&mut connection).await, ["one"]);
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
async fn a_stop_ends_a_consumer_whose_server_hangs() {
    let server = Server::start(newest(), &[]).await;
    add(&server, 1, 10).await;
    let running = Running::start(member(&server, "one"), Recorder::default());
    running.has_seen(10).await;
    server.pause();
    // Within the deadline of `stop`; a stopped process can still be killed.
    running.stop().await;
}
