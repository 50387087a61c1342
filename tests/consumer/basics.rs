//! Reading, acknowledging, order, groups.

use std::time::Duration;

use redis::{Value, cmd};
use redis_stream_consumer::connect_options::ConnectOptions;
use redis_stream_consumer::consume::handler::Noop;
use redis_stream_consumer::consume::{self, ConsumeStats, ConsumerConfig};

use crate::member::{DEADLINE, Recorder, Running, add, consumers, member, pending, send};
use crate::support::server::Server;
use crate::support::servers::{for_each_server, newest};
use crate::support::wait::wait_until;

#[tokio::test]
async fn two_consumers_share_a_thousand_entries_each_exactly_once() {
    for_each_server(async |server| {
        add(&server, 1, 1_000).await;
        let [one, two] =
            ["one", "two"].map(|name| Running::start(member(&server, name), Recorder::default()));
        wait_until(DEADLINE, "all are handled", async || {
            one.recorder.count() + two.recorder.count() >= 1_000
        })
        .await;
        let ((one, first), (two, second)) = (one.stop().await, two.stop().await);
        let mut numbers = [one.numbers(), two.numbers()].concat();
        numbers.sort_unstable();
        assert_eq!(numbers, (1..=1_000).collect::<Vec<_>>());
        assert_eq!(first.acknowledged + second.acknowledged, 1_000);
        assert_eq!(pending(&mut server.connection().await).await, Some(0));
    })
    .await;
}

#[tokio::test]
async fn own_unfinished_entries_come_first_and_then_new_ones_in_order() {
    for_each_server(async |server| {
        let mut connection = server.connection().await;
        add(&server, 1, 300).await;
        let () = send(&mut connection, "XGROUP CREATE orders billing 0").await;
        // Delivered to another run of the same name before it crashed: more than a page of XPENDING.
        let _: Value = send(&mut connection, "XREADGROUP GROUP billing one COUNT 250 STREAMS orders >").await;
        let running =
            Running::start(ConsumerConfig { batch: 30, ..member(&server, "one") }, Recorder::default());
        running.has_seen(300).await;
        let (recorder, consumed) = running.stop().await;
        let expected: Vec<_> = (1..=300).map(|n| (n, if n <= 250 { 2 } else { 1 })).collect();
        assert_eq!(recorder.seen(), expected);
        assert_eq!(consumed, ConsumeStats { handled: 300, acknowledged: 300, ..ConsumeStats::default() });
        assert_eq!(pending(&mut connection).await, Some(0));
    })
    .await;
}

#[tokio::test]
async fn entries_of_a_silent_consumer_are_taken_over_and_deleted_ones_dropped() {
    for_each_server(async |server| {
        let mut connection = server.connection().await;
        add(&server, 1, 10).await;
        let ids: Vec<(String, Value)> = send(&mut connection, "XRANGE orders - +").await;
        let () = send(&mut connection, "XGROUP CREATE orders billing 0").await;
        let _: Value = send(&mut connection, "XREADGROUP GROUP billing gone COUNT 10 STREAMS orders >").await;
        let () = send(&mut connection, &format!("XDEL orders {} {}", ids[2].0, ids[7].0)).await;
        let short = ConsumerConfig { claim_min_idle: Duration::from_millis(500), ..member(&server, "one") };
        let running = Running::start(short, Recorder::default());
        wait_until(DEADLINE, "nothing is pending", async || pending(&mut connection).await == Some(0)).await;
        let (recorder, consumed) = running.stop().await;
        assert_eq!(recorder.seen(), [1, 2, 4, 5, 6, 7, 9, 10].map(|n| (n, 2)));
        assert_eq!((consumed.handled, consumed.deleted), (8, 2));
        assert_eq!(consumers(&mut connection).await, ["gone"]);
    })
    .await;
}

#[tokio::test]
async fn slow_work_of_a_live_consumer_is_not_taken_over() {
    let server = Server::start(newest(), &[]).await;
    add(&server, 1, 8).await;
    let short =
        |name: &str| ConsumerConfig { claim_min_idle: Duration::from_millis(600), ..member(&server, name) };
    let slow = Recorder { work_time: Duration::from_millis(400), ..Recorder::default() };
    let slow = Running::start(short("slow"), slow);
    wait_until(DEADLINE, "all are in flight", async || {
        pending(&mut server.connection().await).await == Some(8)
    })
    .await;
    let idle = Running::start(short("idle"), Recorder::default());
    slow.has_seen(8).await;
    assert_eq!(idle.stop().await.1, ConsumeStats::default());
    assert_eq!(slow.stop().await.0.numbers(), (1..=8).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_group_or_a_stream_that_goes_away_is_created_again() {
    for_each_server(async |server| {
        let mut connection = server.connection().await;
        add(&server, 1, 10).await;
        let running = Running::start(member(&server, "one"), Recorder::default());
        running.has_seen(10).await;
        wait_until(DEADLINE, "all are acknowledged", async || pending(&mut connection).await == Some(0))
            .await;

        let () = send(&mut connection, "XGROUP DESTROY orders billing").await;
        // The new group starts at 0, as the first did: nothing is lost, and all is read again.
        running.has_seen(20).await;

        let () = send(&mut connection, "DEL orders").await;
        wait_until(DEADLINE, "the group is back", async || {
            let groups: redis::RedisResult<Vec<Value>> =
                cmd("XINFO").arg("GROUPS").arg("orders").query_async(&mut connection).await;
            groups.is_ok_and(|groups| groups.len() == 1)
        })
        .await;
        add(&server, 1, 10).await;
        running.has_seen(30).await;
        assert_eq!(running.stop().await.0.count(), 30);
    })
    .await;
}

#[tokio::test]
async fn a_group_from_now_on_that_is_lost_loses_nothing_since() {
    for_each_server(async |server| {
        let mut connection = server.connection().await;
        add(&server, 1, 5).await;
        let from_now = ConsumerConfig { start_id: "$".to_owned(), ..member(&server, "one") };
        let running = Running::start(from_now, Recorder::default());
        wait_until(DEADLINE, "the group is there", async || pending(&mut connection).await.is_some()).await;
        add(&server, 6, 5).await;
        running.has_seen(5).await;
        let () = send(&mut connection, "XGROUP DESTROY orders billing").await;
        running.has_seen(10).await;
        assert_eq!(running.stop().await.0.distinct(), (6..=10).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test]
async fn with_concurrency_entries_are_handled_side_by_side() {
    let server = Server::start(newest(), &[]).await;
    add(&server, 1, 40).await;
    let recorder = Recorder { work_time: Duration::from_millis(500), ..Recorder::default() };
    let started = tokio::time::timeout(Duration::from_secs(10), async {
        let running = Running::start(ConsumerConfig { concurrency: 20, ..member(&server, "one") }, recorder);
        running.has_seen(40).await;
        running.stop().await
    });
    // One by one they take 20 s.
    let (recorder, consumed) = started.await.expect("they are handled side by side");
    assert_eq!(recorder.distinct().len(), 40);
    assert_eq!(consumed.acknowledged, 40);
}

#[tokio::test]
async fn what_the_server_refuses_is_said_without_a_secret() {
    let server = Server::start(newest(), &["--requirepass", "right-secret"]).await;
    let address = server.address();
    for (url, said) in [
        (format!("redis://:wrong-secret@{address}"), "authentication failed"),
        (format!("redis://me:wrong-secret@{address}"), "authentication failed"),
        (format!("redis://{address}"), "NOAUTH Authentication required."),
    ] {
        let connect = ConnectOptions::new(&url, None, None).expect("the URL is right");
        let config = ConsumerConfig { connect, ..member(&server, "one") };
        let error = consume::run(&config, Noop, std::future::pending()).await.expect_err("it is refused");
        assert_eq!(format!("{:#}", anyhow::Error::from(error)), format!("redis://{address}: {said}"));
    }
}

#[tokio::test]
async fn a_key_of_another_type_is_an_error() {
    let server = Server::start(newest(), &[]).await;
    let mut connection = server.connection().await;
    let () = send(&mut connection, "SET orders text").await;
    let () = send(&mut connection, "SET text text").await;
    let error = consume::run(&member(&server, "one"), Noop, std::future::pending()).await;
    let said = format!(
        "redis://{}: WRONGTYPE Operation against a key holding the wrong kind of value",
        server.address()
    );
    assert_eq!(format!("{:#}", anyhow::Error::from(error.expect_err("it is refused"))), said);

    let () = send(&mut connection, "DEL orders").await;
    let wrong = ConsumerConfig { dead_letter: Some(b"text".to_vec()), ..member(&server, "one") };
    let error = consume::run(&wrong, Noop, std::future::pending()).await.expect_err("it is refused");
    assert_eq!(error.to_string(), "dead-letter stream text: the key holds another type");
}
