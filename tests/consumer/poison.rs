//! Entries that cannot be handled: they are retried, move to the dead-letter stream, and block no others.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::time::Duration;

use redis_stream_consumer::consume::ConsumerConfig;

use crate::member::{DEADLINE, Recorder, Running, Seen, add, member, pending, send};
use crate::support::client::RedisClient;
use crate::support::program::Streamgauge;
use crate::support::server::Server;
use crate::support::servers::{for_each_server, newest};
use crate::support::wait::wait_until;

/// The fields of each dead letter; the ID of the entry is replaced by its position in `orders`.
async fn letters(server: &Server) -> Vec<Vec<(String, String)>> {
    let mut connection = server.connection().await;
    let entries: Vec<(String, redis::Value)> = send(&mut connection, "XRANGE orders - +").await;
    let letters: Vec<(String, Vec<(String, String)>)> = send(&mut connection, "XRANGE orders:dead - +").await;
    let position =
        |id: &str| entries.iter().position(|(known, _)| known == id).map(|at| format!("#{}", at + 1));
    letters
        .into_iter()
        .map(|(_, fields)| {
            let named = |(name, value): (String, String)| match name.as_str() {
                "streamgauge-id" => (name, position(&value).expect("the entry is in the stream")),
                _ => (name, value),
            };
            fields.into_iter().map(named).collect()
        })
        .collect()
}

fn letter(consumer: &str, deliveries: impl Display, n: u64, error: &str) -> Vec<(String, String)> {
    [
        ("streamgauge-stream", "orders".to_owned()),
        ("streamgauge-group", "billing".to_owned()),
        ("streamgauge-consumer", consumer.to_owned()),
        ("streamgauge-id", format!("#{n}")),
        ("streamgauge-deliveries", deliveries.to_string()),
        ("streamgauge-error", error.to_owned()),
        ("n", n.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

#[tokio::test]
async fn poison_is_buried_after_exactly_so_many_deliveries_and_blocks_nobody() {
    for_each_server(async |server| {
        add(&server, 1, 20).await;
        let recorder = Recorder { poison: vec![3, 8], shock: vec![5], ..Recorder::default() };
        let running =
            Running::start(ConsumerConfig { max_deliveries: 4, ..member(&server, "one") }, recorder);
        let mut connection = server.connection().await;
        wait_until(DEADLINE, "both are buried", async || letters(&server).await.len() == 2).await;
        wait_until(DEADLINE, "nothing is pending", async || pending(&mut connection).await == Some(0)).await;
        let (recorder, consumed) = running.stop().await;

        let mut by_number: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for (n, deliveries) in recorder.seen() {
            by_number.entry(n).or_default().push(deliveries);
        }
        for (n, deliveries) in by_number {
            let expected: &[u64] = match n {
                3 | 8 => &[1, 2, 3, 4],
                5 => &[1, 2],
                _ => &[1],
            };
            assert_eq!(deliveries, expected, "{n}");
        }
        let first_pass: Vec<Seen> = recorder.seen().into_iter().filter(|(_, count)| *count == 1).collect();
        assert_eq!(first_pass, (1..=20).map(|n| (n, 1)).collect::<Vec<_>>());
        let mut letters = letters(&server).await;
        letters.sort_unstable_by_key(|fields| fields[6].clone());
        let expected = [letter("one", 4, 3, "3 is poison"), letter("one", 4, 8, "8 is poison")];
        assert_eq!(letters, expected);
        assert_eq!((consumed.handled, consumed.failed, consumed.dead_lettered), (18, 9, 2));
    })
    .await;
}

/// The child kills the consumer itself, as a defect in a library does, or the kernel when memory is short.
#[tokio::test]
async fn an_entry_that_kills_its_process_is_buried_too_and_takes_nothing_along() {
    for_each_server(async |server| {
        add(&server, 1, 12).await;
        let kill = r#"sh -c 'read -r line; case "$line" in *\"n\":\"7\"*) kill -9 $PPID;; esac'"#;
        let mut runs = 0;
        let mut connection = server.connection().await;
        while letters(&server).await.is_empty() {
            runs += 1;
            assert!(runs < 9, "{:?}", letters(&server).await);
            let running = Streamgauge::command("consume")
                .args(["--redis-url", &server.url(), "--stream", "orders", "--group", "billing"])
                .args(["--consumer", &format!("run-{runs}"), "--claim-min-idle", "300ms"])
                .args(["--max-deliveries", "3", "--exec", kill])
                .spawn();
            let ended = running.finished_or(async || letters(&server).await.len() == 1);
            if ended.await {
                break;
            }
        }
        assert_eq!(
            letters(&server).await,
            [letter(&format!("run-{runs}"), 3, 7, "not finished in 3 deliveries")]
        );
        assert_eq!(runs, 4, "it was killed by each delivery");
        let rest = Running::start(
            ConsumerConfig { claim_min_idle: Duration::from_millis(300), ..member(&server, "rest") },
            Recorder::default(),
        );
        wait_until(DEADLINE, "nothing is pending", async || pending(&mut connection).await == Some(0)).await;
        rest.stop().await;
        assert_eq!(letters(&server).await.len(), 1);
    })
    .await;
}

#[tokio::test]
async fn an_entry_that_another_client_marked_as_failed_is_buried_with_these_words() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        if !client.knows("XNACK").await {
            return;
        }
        client
            .run(
                "XADD orders 1-0 n 1\nXGROUP CREATE orders billing 0
                XREADGROUP GROUP billing other STREAMS orders >\nXNACK orders billing FATAL IDS 1 1-0",
            )
            .await;
        let running = Running::start(member(&server, "one"), Recorder::default());
        wait_until(DEADLINE, "it is buried", async || letters(&server).await.len() == 1).await;
        assert_eq!(letters(&server).await, [letter("one", "fatal", 1, "marked as failed by XNACK FATAL")]);
        assert_eq!(running.stop().await.0.seen(), []);
    })
    .await;
}

#[tokio::test]
async fn without_a_limit_an_entry_is_tried_again_and_again() {
    let server = Server::start(newest(), &[]).await;
    add(&server, 1, 1).await;
    let recorder = Recorder { poison: vec![1], ..Recorder::default() };
    let patient = ConsumerConfig {
        max_deliveries: 0,
        claim_min_idle: Duration::from_millis(200),
        ..member(&server, "one")
    };
    let running = Running::start(patient, recorder);
    running.has_seen(12).await;
    let (recorder, consumed) = running.stop().await;
    assert_eq!(consumed.dead_lettered, 0);
    let expected: Vec<Seen> = (1..=recorder.count() as u64).map(|count| (1, count)).collect();
    assert_eq!(recorder.seen(), expected);
    assert_eq!(pending(&mut server.connection().await).await, Some(1));
}

#[tokio::test]
async fn an_entry_that_fails_after_it_was_deleted_is_counted_as_deleted_at_its_retry() {
    for_each_server(async |server| {
        add(&server, 1, 3).await;
        let slow =
            Recorder { poison: vec![1], work_time: Duration::from_millis(1_000), ..Recorder::default() };
        // Claims are renewed several times while the first entry is handled.
        let short = ConsumerConfig { claim_min_idle: Duration::from_millis(800), ..member(&server, "one") };
        let running = Running::start(short, slow);
        let mut connection = server.connection().await;
        wait_until(DEADLINE, "all are delivered", async || pending(&mut connection).await == Some(3)).await;
        let first: Vec<(String, redis::Value)> = send(&mut connection, "XRANGE orders - + COUNT 1").await;
        assert_eq!(send::<u64>(&mut connection, &format!("XDEL orders {}", first[0].0)).await, 1);
        // The retry goes before the third entry.
        running.has_seen(3).await;
        wait_until(DEADLINE, "nothing is pending", async || pending(&mut connection).await == Some(0)).await;
        let (recorder, stats) = running.stop().await;
        assert_eq!(recorder.seen(), [(1, 1), (2, 1), (3, 1)]);
        assert_eq!((stats.handled, stats.failed, stats.deleted, stats.dead_lettered), (2, 1, 1, 0));
    })
    .await;
}

#[tokio::test]
async fn what_cannot_be_buried_is_not_given_up() {
    let server = Server::start(newest(), &[]).await;
    let mut connection = server.connection().await;
    add(&server, 1, 2).await;
    let recorder = Recorder { poison: vec![1], ..Recorder::default() };
    let short = ConsumerConfig {
        max_deliveries: 1,
        claim_min_idle: Duration::from_millis(400),
        ..member(&server, "one")
    };
    let running = Running::start(short, recorder);
    // After the consumer looked at the type of the key.
    running.has_seen(0).await;
    wait_until(DEADLINE, "it has begun", async || running.recorder.count() == 2).await;
    wait_until(DEADLINE, "it is buried", async || pending(&mut connection).await == Some(0)).await;
    let () = send(&mut connection, "SET orders:dead text").await;
    let _: String = send(&mut connection, "XADD orders * n 1").await;
    running.has_seen(3).await;
    wait_until(DEADLINE, "it waits", async || pending(&mut connection).await == Some(1)).await;
    let () = send(&mut connection, "DEL orders:dead").await;
    wait_until(DEADLINE, "it is buried", async || pending(&mut connection).await == Some(0)).await;
    assert_eq!(send::<u64>(&mut connection, "XLEN orders:dead").await, 1);
    running.stop().await;
}
