//! Lag while clients are at full speed, on deep streams and on streams with large entries: what it costs, and
//! that it is right as soon as it can be.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::{Pipeline, cmd};
use redis_stream_lag::report::{GroupValues, Lag, Report};
use support::polled::Polled;
use support::server::Server;
use support::servers::{self, for_each_program, for_each_server};
use support::snapshot::{StreamSnapshot, ask};
use support::wait::wait_until;

fn group<'a>(report: &'a Report, name: &str) -> &'a GroupValues {
    let groups = report.streams.iter().flat_map(|stream| &stream.groups);
    groups.filter(|group| group.name.to_string() == name).find_map(|group| group.values.as_ref()).unwrap()
}

async fn add(connection: &mut MultiplexedConnection, stream: &str, count: usize, payload: &str) {
    let mut pipeline = Pipeline::new();
    (0..count).for_each(|_| {
        pipeline.cmd("XADD").arg(stream).arg("*").arg("n").arg(payload);
    });
    connection.req_packed_commands(&pipeline, 0, count).await.unwrap();
}

async fn read(connection: &mut MultiplexedConnection, stream: &str, group: &str, count: usize) {
    let count = count.to_string();
    ask(connection, &["XREADGROUP", "GROUP", group, "me", "COUNT", &count, "NOACK", "STREAMS", stream, ">"])
        .await
        .unwrap();
}

/// Adds entries of which some are trimmed away, until it is told to stop.
async fn produce(server: &Server, trim: bool, stop: &AtomicBool) {
    let mut connection = server.connection().await;
    while !stop.load(Ordering::Relaxed) {
        add(&mut connection, "s", 50, "1").await;
        if trim {
            ask(&mut connection, &["XTRIM", "s", "MAXLEN", "~", "4000"]).await.unwrap();
        }
    }
}

/// Reads, acknowledges and now and then deletes, until it is told to stop.
async fn consume(server: &Server, group: &str, pause: Duration, stop: &AtomicBool) {
    let mut connection = server.connection().await;
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) {
        turn += 1;
        let words = ["XREADGROUP", "GROUP", group, "me", "COUNT", "40", "STREAMS", "s", ">"];
        ask(&mut connection, &words).await.unwrap();
        let snapshot = ask(&mut connection, &["XPENDING", "s", group, "-", "+", "60"]).await.unwrap();
        for entry in support::snapshot::list(snapshot) {
            let id = support::snapshot::text(&support::snapshot::list(entry)[0]);
            ask(&mut connection, &["XACK", "s", group, &id]).await.unwrap();
            if turn % 7 == 0 {
                ask(&mut connection, &["XDEL", "s", &id]).await.unwrap();
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// Polls until it is told to stop; while all is in motion only what is certain can be held.
async fn poll(polled: &mut Polled, polls: &AtomicU32, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let report = polled.poll().await.unwrap();
        for name in ["fast", "slow", "late"] {
            let lag = group(&report, name).lag;
            assert!(lag.min() <= lag.max(), "{name}: {lag:?}");
        }
        polls.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
}

async fn is_exact_soon_after(server: Server, trim: bool) {
    let mut connection = server.connection().await;
    add(&mut connection, "s", 30_000, "1").await;
    for name in ["fast", "slow", "late"] {
        ask(&mut connection, &["XGROUP", "CREATE", "s", name, "0"]).await.unwrap();
    }
    read(&mut connection, "s", "fast", 30_000).await;
    read(&mut connection, "s", "slow", 20_000).await;
    read(&mut connection, "s", "late", 3).await;
    let mut polled = Polled::new(&server, &["s"], "count_budget: 2000");
    let (polls, stop) = (AtomicU32::new(0), AtomicBool::new(false));
    let pause = Duration::from_millis(1);
    tokio::join!(
        poll(&mut polled, &polls, &stop),
        produce(&server, trim, &stop),
        produce(&server, trim, &stop),
        consume(&server, "fast", Duration::ZERO, &stop),
        consume(&server, "slow", 20 * pause, &stop),
        async {
            tokio::time::sleep(Duration::from_millis(1_500)).await;
            wait_until(Duration::from_secs(10), "six polls ended", async || {
                polls.load(Ordering::Relaxed) > 5
            })
            .await;
            stop.store(true, Ordering::Relaxed);
        },
    );
    let snapshot = StreamSnapshot::read(&mut connection, "s").await;
    let allowed = 2 + snapshot.entries.len() / 2_000 + 1;
    for polls in 1..=allowed {
        let report = polled.poll().await.unwrap();
        let mut all_exact = true;
        for (name, (place, pending)) in &snapshot.groups {
            let values = group(&report, name);
            let ahead = snapshot.undelivered_after(*place).count() as u64;
            all_exact &= values.lag == Lag::Exact(ahead);
            let lag = values.lag;
            assert!(lag.min() <= ahead && ahead <= lag.max(), "{name} is {ahead} behind, not {lag:?}");
            assert_eq!(values.messages_pending, pending.len() as u64, "{name}");
        }
        if all_exact {
            return;
        }
        assert!(polls < allowed, "still not exact after {polls} polls: {report:?}");
    }
}

#[tokio::test]
async fn once_traffic_stops_every_value_is_exact_within_a_few_polls() {
    for_each_server(async |server| is_exact_soon_after(server, false).await).await;
}

#[tokio::test]
async fn once_traffic_on_a_trimmed_stream_stops_every_value_is_exact_within_a_few_polls() {
    for_each_server(async |server| is_exact_soon_after(server, true).await).await;
}

#[tokio::test]
async fn a_busy_group_costs_one_entry_per_poll_and_a_stalled_one_none() {
    for_each_program(async |program| {
        if program.version < (7, 0, 0) {
            return;
        }
        let server = Server::start(program, &[]).await;
        let mut connection = server.connection().await;
        add(&mut connection, "s", 5_000, "1").await;
        for name in ["busy", "stalled"] {
            ask(&mut connection, &["XGROUP", "CREATE", "s", name, "0"]).await.unwrap();
            read(&mut connection, "s", name, 5_000).await;
        }
        let mut polled = Polled::new(&server, &["s"], "");
        polled.poll().await.unwrap();
        add(&mut connection, "s", 1_000, "1").await;
        polled.poll().await.unwrap();
        for turn in 0..30 {
            add(&mut connection, "s", 20, "1").await;
            read(&mut connection, "s", "busy", 15).await;
            let before = polled.own("redis_commands_total", "command=\"xrange\"");
            let report = polled.poll().await.unwrap();
            let sent = polled.own("redis_commands_total", "command=\"xrange\"") - before;
            assert!(sent <= 1.0, "{sent} XRANGE in one poll");
            assert_eq!(group(&report, "busy").lag, Lag::Exact(1_000 + (turn + 1) * 5));
            assert_eq!(group(&report, "stalled").lag, Lag::Exact(1_000 + (turn + 1) * 20));
        }
        assert!(polled.own("counted_entries_total", "") <= 0.0, "nothing had to be counted");
    })
    .await;
}

/// A stream of a million entries whose group starts in the middle.
async fn is_counted_over_several_polls(server: Server) {
    const ENTRIES: u64 = 1_000_000;
    const BUDGET: u64 = 20_000;
    let mut connection = server.connection().await;
    let script = "for i = 1, ARGV[1] do redis.call('XADD', KEYS[1], i .. '-0', 'n', i) end";
    for part in 0..10 {
        let script = script.replace("i .. '-0'", &format!("({part} * ARGV[1] + i) .. '-0'"));
        let _: () = cmd("EVAL")
            .arg(script)
            .arg(1)
            .arg("s")
            .arg(ENTRIES / 10)
            .query_async(&mut connection)
            .await
            .unwrap();
    }
    ask(&mut connection, &["XGROUP", "CREATE", "s", "middle", "500000-0"]).await.unwrap();
    for words in
        [["CONFIG", "SET", "slowlog-log-slower-than", "2000"], ["CONFIG", "SET", "slowlog-max-len", "1000"]]
    {
        ask(&mut connection, &words).await.unwrap();
    }
    ask(&mut connection, &["SLOWLOG", "RESET"]).await.unwrap();
    let mut polled = Polled::new(&server, &["s"], "");
    let (mut polls, mut least) = (0, 0);
    loop {
        let counted = polled.own("counted_entries_total", "");
        let report = polled.poll().await.unwrap();
        polls += 1;
        assert!(polled.own("counted_entries_total", "") - counted <= BUDGET as f64, "within the budget");
        match group(&report, "middle").lag {
            Lag::Exact(lag) => break assert_eq!(lag, ENTRIES / 2),
            Lag::Between { min, max } => {
                let min = min.get();
                assert!(
                    min > least && min <= ENTRIES / 2 && max >= ENTRIES / 2,
                    "{min} to {max}, after {least}"
                );
                least = min;
            }
        }
    }
    assert_eq!(polls, (ENTRIES / 2).div_ceil(BUDGET), "as many polls as budgets");
    // On a busy machine the server stands still at times, in the middle of a command too; but not always.
    let slow = support::snapshot::list(ask(&mut connection, &["SLOWLOG", "GET", "1000"]).await.unwrap());
    let commands = ENTRIES / 2 / 1_000;
    assert!(slow.len() as u64 * 10 < commands, "{} of {commands} commands took more than 2 ms", slow.len());
}

#[tokio::test]
async fn a_deep_stream_is_counted_over_several_polls_by_short_commands() {
    let all = servers::all();
    let ends = [all.first().unwrap(), all.last().unwrap()];
    for program in ends {
        is_counted_over_several_polls(Server::start(program, &[]).await).await;
    }
}

#[tokio::test]
async fn large_entries_are_read_in_turns_within_the_budget_and_old_values_stand() {
    const BUDGET: f64 = 16.0 * 1024.0 * 1024.0;
    let server = Server::start(servers::newest(), &[]).await;
    let mut connection = server.connection().await;
    let payload = "x".repeat(1024 * 1024);
    for number in 0..100 {
        let stream = format!("s{number:02}");
        add(&mut connection, &stream, 2, &payload).await;
        ask(&mut connection, &["XGROUP", "CREATE", &stream, "g", "0"]).await.unwrap();
    }
    let mut polled = Polled::new(&server, &["*"], "interval: 30s");
    let mut complete_after = 0;
    for polls in 1..=40 {
        let report = polled.poll().await.unwrap();
        for stream in &report.streams {
            let values = stream.groups[0].values.as_ref().unwrap();
            assert_eq!((values.lag, stream.values.as_ref().unwrap().length), (Lag::Exact(2), 2));
        }
        let bytes = polled.own("redis_reply_bytes_total", "");
        // The first poll knows no sizes: it stops when the budget is spent, but for 16 streams on their way.
        let allowed = f64::from(polls) * BUDGET * 1.05 + 16.0 * 2.1 * 1024.0 * 1024.0;
        assert!(bytes <= allowed, "{bytes} bytes after {polls} polls");
        if report.streams.len() < 100 {
            complete_after = polls;
        }
    }
    assert!(complete_after < 15, "every stream had its turn after {complete_after} polls");
}

/// XINFO STREAM returns two entries of each stream: 500 small streams alone would spend the budget here.
#[tokio::test]
async fn many_small_streams_leave_the_budget_to_lags_that_are_counted() {
    let server = Server::start(servers::newest(), &[]).await;
    let mut connection = server.connection().await;
    let payload = "x".repeat(500);
    for number in 0..500 {
        let stream = format!("s{number:03}");
        add(&mut connection, &stream, 5, &payload).await;
        let rows = ask(&mut connection, &["XRANGE", &stream, "-", "+", "COUNT", "3"]).await.unwrap();
        let id = |row| support::snapshot::id(&support::snapshot::list(row)[0]);
        let ids: Vec<_> = support::snapshot::list(rows).into_iter().map(id).collect();
        // The server does not know how many entries are behind this position.
        ask(&mut connection, &["XGROUP", "CREATE", &stream, "g", &ids[1].to_string()]).await.unwrap();
        ask(&mut connection, &["XDEL", &stream, &ids[2].to_string()]).await.unwrap();
    }
    let mut polled = Polled::new(&server, &["*"], "interval: 30s, payload_budget: 256KiB");
    let mut exact = 0;
    for _ in 0..10 {
        let report = polled.poll().await.unwrap();
        let lags = report.streams.iter().map(|stream| stream.groups[0].values.as_ref().unwrap().lag);
        exact = lags.filter(|lag| *lag == Lag::Exact(2)).count();
    }
    assert_eq!(exact, 500);
}
