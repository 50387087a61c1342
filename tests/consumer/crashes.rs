//! Consumers that are killed: no entry is lost, and duplicates are at most the entries in flight.

use std::collections::BTreeMap;
use std::env;
use std::time::Duration;

use redis::Value;
use redis_stream_consumer::consume::ConsumerConfig;

use crate::member::{Recorder, Running, add, member, pending, send};
use crate::support::program::{self, Streamgauge};
use crate::support::server::Server;
use crate::support::servers::all;
use crate::support::wait::{wait_for, wait_until};

/// Entries and kills over all servers, as `make consumer-crash` asks for them; a short form otherwise.
const ENTRIES: Scale = Scale { variable: "STREAMGAUGE_CONSUMER_CRASH_ENTRIES", short: 300_000 };
const KILLS: Scale = Scale { variable: "STREAMGAUGE_CONSUMER_CRASH_KILLS", short: 30 };
const BATCH: usize = 500;
/// Steps in which the entries of a kill are added.
const STEPS: u64 = 10;
const DEADLINE: Duration = Duration::from_secs(300);

struct Scale {
    variable: &'static str,
    short: u64,
}

impl Scale {
    /// Returns the share of one server.
    fn per_server(&self) -> u64 {
        let all_servers = env::var(self.variable).ok().filter(|text| !text.is_empty());
        let total = all_servers.map_or(self.short, |text| text.parse().expect("a number"));
        total.div_ceil(all().len() as u64)
    }
}

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

/// Each is killed while it is at work: entries are added all the time, a share before each kill, so that no consumer is
/// done before the last one. Now and then one is asked to stop, and releases what it did not handle.
async fn three_consumers_of_which_one_is_killed_again_and_again(server: Server) {
    let (entries, kills) = (ENTRIES.per_server(), KILLS.per_server());
    let mut running: Vec<_> = ["c-1", "c-2", "c-3"].map(|name| consumer(&server, name)).into();
    let mut output = Vec::new();
    let (mut added, mut at_work) = (0, 0);
    for kill in 1..=kills {
        let next = format!("c-{}", 3 + kill);
        let victim = running.remove(0);
        let before = victim.stdout().len();
        // Waiting readers are served in turn, so several small steps reach the victim, and the last one finds it busy.
        for step in 1..=STEPS {
            let until = entries * (STEPS * (kill - 1) + step) / (STEPS * kills);
            add(&server, added + 1, until - added).await;
            added = until;
        }
        at_work += u64::from(victim.stdout().len() > before);
        output.push(victim.kill());
        running.push(consumer(&server, &next));
        if kill % 10 == 0 {
            let stopping = running.remove(0);
            // A program that has just been started knows no signal yet, and ends by it.
            wait_until(DEADLINE, "it is connected", async || stopping.stderr().contains("connected")).await;
            let stopped = stopping.stop().await;
            assert_eq!(stopped.code, Some(0), "{}", stopped.stderr);
            output.push(stopped.stdout);
            running.push(consumer(&server, &format!("{next}-again")));
        }
    }
    wait_until(DEADLINE, "nothing is pending, nothing is ahead", async || is_drained(&server).await).await;
    for consumer in running {
        wait_until(DEADLINE, "it is connected", async || consumer.stderr().contains("connected")).await;
        let end = consumer.stop().await;
        assert_eq!(end.code, Some(0), "{}", end.stderr);
        output.push(end.stdout);
    }
    let mut handled: Vec<_> = output.iter().flat_map(|text| numbers(text)).collect();
    let deliveries = handled.len();
    handled.sort_unstable();
    handled.dedup();
    let duplicates = deliveries - handled.len();
    report(&server, entries, kills, entries - handled.len() as u64, duplicates);
    assert_eq!(handled.len() as u64, entries, "every entry is handled");
    assert!(at_work * 2 > kills, "{at_work} of {kills} were killed at work");
    // A batch in the queue and one being handled or acknowledged.
    assert!(duplicates as u64 <= kills * (BATCH as u64 + 1), "{duplicates} duplicates");
    assert_eq!(pending(&mut server.connection().await).await, Some(0));
    let dead: u64 = send(&mut server.connection().await, "XLEN orders:dead").await;
    assert_eq!(dead, 0, "no innocent entry is buried");
}

#[expect(clippy::print_stdout, reason = "the result of make consumer-crash")]
fn report(server: &Server, entries: u64, kills: u64, lost: u64, duplicates: usize) {
    println!(
        "{}: {lost} of {entries} entries lost over {kills} kills, {duplicates} handled twice",
        server.program()
    );
}

#[tokio::test]
async fn killed_consumers_lose_nothing_and_repeat_no_more_than_they_had_in_hand() {
    // One after the other: the consumers of all at once would only compete for the processors.
    for program in all() {
        three_consumers_of_which_one_is_killed_again_and_again(Server::start(program, &[]).await).await;
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
