//! Consumers that are killed: no entry is lost, and duplicates are at most the entries in flight.

use std::collections::BTreeMap;
use std::time::Duration;

use redis::Value;
use redis_stream_consumer::consume::ConsumerConfig;

use crate::member::{Recorder, Running, add, member, pending, send};
use crate::support::program::{self, Streamgauge};
use crate::support::server::Server;
use crate::support::servers::all;
use crate::support::wait::{wait_for, wait_until};

const ENTRIES: u64 = 100_000;
const KILLS: usize = 5;
const BATCH: usize = 500;
/// Between two kills.
const LIFE: Duration = Duration::from_secs(1);
const DEADLINE: Duration = Duration::from_secs(60);

fn consumer(server: &Server, name: &str) -> program::Running {
    Streamgauge::command("consume")
        .args(["--redis-url", &server.url(), "--stream", "orders", "--group", "billing", "--consumer", name])
        .args(["--claim-min-idle", "500ms", "--batch", &BATCH.to_string()])
        .spawn()
}

/// The field `n` of every whole line.
fn numbers(stdout: &str) -> Vec<u64> {
    let whole = stdout.rfind('\n').map_or(0, |end| end + 1);
    let number = |line: &str| {
        let (_, rest) = line.split_once(r#""n":""#)?;
        rest.split('"').next()?.parse().ok()
    };
    stdout[..whole].lines().map(|line| number(line).unwrap_or_else(|| panic!("{line}"))).collect()
}

/// Returns whether all entries are delivered and none is pending, by the IDs of stream and group.
async fn is_drained(server: &Server) -> bool {
    let mut connection = server.connection().await;
    let groups: Vec<BTreeMap<String, Value>> = send(&mut connection, "XINFO GROUPS orders").await;
    let last: Vec<(String, Value)> = send(&mut connection, "XREVRANGE orders + - COUNT 1").await;
    let Some(group) = groups.first() else { return false };
    let pending: i64 = redis::from_redis_value(group["pending"].clone()).expect("a number");
    let delivered: String = redis::from_redis_value(group["last-delivered-id"].clone()).expect("an ID");
    pending == 0 && delivered == last[0].0
}

async fn three_consumers_of_which_one_is_killed_each_second(server: Server) {
    // The second half is added while they work, so that no consumer is done before the last kill.
    add(&server, 1, ENTRIES / 2).await;
    let mut running: Vec<_> = ["c-1", "c-2", "c-3"].map(|name| consumer(&server, name)).into();
    let mut output = Vec::new();
    let share = ENTRIES / 2 / KILLS as u64;
    for kill in 0..KILLS {
        let next = format!("c-{}", 4 + kill);
        tokio::time::sleep(LIFE).await;
        let victim = running.remove(0);
        let before = victim.stdout().len();
        let working = wait_until(DEADLINE, "the victim is at work", async || victim.stdout().len() > before);
        tokio::join!(add(&server, ENTRIES / 2 + 1 + share * kill as u64, share), working);
        output.push(victim.kill());
        running.push(consumer(&server, &next));
    }
    wait_until(DEADLINE, "nothing is pending, nothing is ahead", async || is_drained(&server).await).await;
    for consumer in running {
        let end = consumer.stop().await;
        assert_eq!(end.code, Some(0), "{}", end.stderr);
        output.push(end.stdout);
    }
    let mut handled: Vec<_> = output.iter().flat_map(|text| numbers(text)).collect();
    let deliveries = handled.len();
    handled.sort_unstable();
    handled.dedup();
    assert_eq!(handled.len() as u64, ENTRIES, "every entry is handled");
    let duplicates = deliveries - handled.len();
    // A batch in the queue and one being handled or acknowledged.
    assert!(duplicates <= KILLS * (BATCH + 1), "{duplicates} duplicates");
    assert_eq!(pending(&mut server.connection().await).await, Some(0));
    let dead: u64 = send(&mut server.connection().await, "XLEN orders:dead").await;
    assert_eq!(dead, 0, "no innocent entry is buried");
}

#[tokio::test]
async fn killed_consumers_lose_nothing_and_repeat_no_more_than_they_had_in_hand() {
    // One after the other: the consumers of all at once would only compete for the processors.
    for program in all() {
        three_consumers_of_which_one_is_killed_each_second(Server::start(program, &[]).await).await;
    }
}

#[tokio::test]
async fn a_consumer_that_crashed_is_taken_over_by_one_of_another_name() {
    let server = Server::start(crate::support::servers::newest(), &[]).await;
    add(&server, 1, 50).await;
    let short =
        |name: &str| ConsumerConfig { claim_min_idle: Duration::from_millis(300), ..member(&server, name) };
    let slow = Recorder { work_time: Duration::from_millis(20), ..Recorder::default() };
    let crashing = Running::start(short("one"), slow);
    crashing.has_seen(5).await;
    let first = crashing.crash();
    let second = Running::start(short("two"), Recorder::default());
    let all = wait_for(DEADLINE, "the rest is handled", async || {
        let mut numbers = [first.numbers(), second.recorder.numbers()].concat();
        numbers.sort_unstable();
        numbers.dedup();
        if numbers.len() == 50 { Ok(numbers) } else { Err(format!("{} are", numbers.len())) }
    })
    .await;
    assert_eq!(all, (1..=50).collect::<Vec<_>>());
    // The entries that the first one handled, but did not acknowledge, are claimed too.
    wait_until(DEADLINE, "nothing is pending", async || {
        pending(&mut server.connection().await).await == Some(0)
    })
    .await;
    second.stop().await;
}
