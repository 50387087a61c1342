//! A stream in which nothing happens is not derived in each poll, and whatever happens to it then is shown by the next
//! poll, on real servers.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis_stream_core::name::Name;
use redis_stream_lag::report::{Lag, OldestPending, Report};
use support::polled::Polled;
use support::server::Server;
use support::servers::{Program, for_each_program};
use support::snapshot::{StreamSnapshot, ask, id, list, send, text};
use tokio::time::sleep;

/// The events of a stream: commands with `s` for its key.
const EVENTS: [&[&str]; 20] = [
    &["XADD s 9-1 n 1"],
    &["XDEL s 5-1"],
    &["XDEL s 8-1"],
    &["XTRIM s MAXLEN 3"],
    &["XADD s 9-1 n 1", "XDEL s 9-1"],
    &["XREADGROUP GROUP g a COUNT 1 STREAMS s >"],
    &["XREADGROUP GROUP g c COUNT 1 STREAMS s >"],
    &["XACK s g 1-1"],
    &["XACK s g 2-1", "XREADGROUP GROUP g a COUNT 1 STREAMS s >"],
    &["XCLAIM s g b 0 1-1"],
    &["XCLAIM s g a 0 1-1"],
    &["XCLAIM s g b 0 1-1 JUSTID"],
    &["XAUTOCLAIM s g b 0 0-0"],
    &["XGROUP SETID s g 1-1"],
    &["XGROUP DELCONSUMER s g a"],
    &["XGROUP CREATECONSUMER s g c"],
    &["XGROUP DESTROY s g", "XGROUP CREATE s g 0-0"],
    &["XGROUP CREATE s h 4-1"],
    &["XSETID s 99-1"],
    &["XNACK s g FAIL IDS 1 1-1"],
];
/// Time between two polls.
const PAUSE: Duration = Duration::from_millis(100);
/// Polls within which all streams are settled: some windows.
const MAX_POLLS: usize = 150;

/// Makes a stream of eight entries; a group that was delivered four of them, of which three are pending; and one that
/// was delivered and has acknowledged all.
async fn create(connection: &mut MultiplexedConnection, key: &str) {
    for n in 1..=8 {
        send(connection, &format!("XADD {key} {n}-1 n 1")).await;
    }
    for command in [
        "XGROUP CREATE s done 8-1",
        "XGROUP CREATE s g 0",
        "XREADGROUP GROUP g a COUNT 3 STREAMS s >",
        "XREADGROUP GROUP g b COUNT 1 STREAMS s >",
        "XACK s g 3-1",
    ] {
        send(connection, &on(command, key)).await;
    }
}

/// Returns a command on another key than `s`.
fn on(command: &str, key: &str) -> String {
    command.split(' ').map(|word| if word == "s" { key } else { word }).collect::<Vec<_>>().join(" ")
}

/// Compares a stream in a report with the server's own answers.
async fn assert_true(connection: &mut MultiplexedConnection, report: &Report, key: &str, what: &str) {
    let stream = report.streams.iter().find(|stream| stream.key == Name::from(key)).unwrap();
    let truth = StreamSnapshot::read(connection, key).await;
    let values = stream.values.as_ref().unwrap();
    assert_eq!(values.length, truth.entries.len() as u64, "{what}");
    assert_eq!(stream.groups.len(), truth.groups.len(), "{what}");
    for group in &stream.groups {
        let name = group.name.to_string();
        let (position, pending) = &truth.groups[&name];
        let values = group.values.as_ref().unwrap();
        let lag = truth.undelivered_after(*position).count() as u64;
        assert_eq!(values.lag, Lag::Exact(lag), "{what}: {name}");
        assert_eq!(values.messages_pending, pending.len() as u64, "{what}: {name}");
        let oldest = ask(connection, &["XPENDING", key, &name, "-", "+", "1"]).await.unwrap();
        let oldest = list(oldest).pop().map(list);
        match (oldest, values.oldest_pending.as_ref().unwrap()) {
            (None, OldestPending::Nothing) => {}
            (Some(row), OldestPending::Entry { id: oldest, consumer, deliveries, .. }) => {
                assert_eq!(id(&row[0]), *oldest, "{what}: {name}");
                let shown = consumer.as_ref().map(ToString::to_string).unwrap_or_default();
                assert_eq!(text(&row[1]), shown, "{what}: {name}");
                assert_eq!(row[3], redis::Value::Int(i64::try_from(*deliveries).unwrap()), "{what}: {name}");
            }
            (row, shown) => panic!("{what}: {name}: {row:?} and {shown:?}"),
        }
        let consumers = list(ask(connection, &["XINFO", "CONSUMERS", key, &name]).await.unwrap());
        assert_eq!(group.consumers().map_or(0, <[_]>::len), consumers.len(), "{what}: {name}");
    }
}

async fn whatever_happens_is_shown(program: &'static Program) {
    let server = Server::start(program, &[]).await;
    let mut connection = server.connection().await;
    let mut events = EVENTS.to_vec();
    // Redis 8.8 has it, and Valkey does not.
    let known: redis::Value = server.command(&["COMMAND", "INFO", "XNACK"]).await;
    events.retain(|commands| list(known.clone()) != [redis::Value::Nil] || !commands[0].starts_with("XNACK"));
    let keys: Vec<_> = (0..=events.len()).map(|n| format!("s{n:02}")).collect();
    for key in &keys {
        create(&mut connection, key).await;
    }
    let target = format!("url: '{}', streams: [{{key: 's*', window: 1s}}]", server.url());
    let mut polled = Polled::of_target(&target, "interval: 100ms");
    let mut unchanged = 0;
    for _ in 0..MAX_POLLS {
        unchanged = polled.poll_whole().await.unwrap().unchanged_streams;
        if unchanged == keys.len() {
            break;
        }
        sleep(PAUSE).await;
    }
    // Each is derived again now and then.
    assert!(unchanged > keys.len() / 2, "{unchanged} of {} are settled", keys.len());
    for (commands, key) in events.iter().zip(&keys) {
        for command in *commands {
            send(&mut connection, &on(command, key)).await;
        }
    }
    let after = polled.poll_whole().await.unwrap();
    assert!(after.unchanged_streams <= 1, "{} streams repeat themselves", after.unchanged_streams);
    for (commands, key) in events.iter().zip(&keys) {
        assert_true(&mut connection, &after.report, key, &format!("{program}: {commands:?}")).await;
    }
    assert_true(&mut connection, &after.report, &keys[events.len()], "nothing").await;
}

/// Returns the server's time in milliseconds.
async fn time(server: &Server) -> u64 {
    let (seconds, micros): (u64, u64) = server.command(&["TIME"]).await;
    seconds * 1_000 + micros / 1_000
}

/// Polls streams of two entries, one of which was delivered, until the IDs of one that are ahead of the clock are past.
async fn an_id_ahead_of_the_clock_is_no_time_before_that_has_come(program: &'static Program) {
    const AHEAD: u64 = 12_000;
    let server = Server::start(program, &[]).await;
    let mut connection = server.connection().await;
    let start = time(&server).await;
    for (key, ms) in [("ahead", start + AHEAD), ("now", start + 1_000), ("never", start + 86_400_000)] {
        send(&mut connection, &format!("XADD {key} {ms}-1 n 1")).await;
        send(&mut connection, &format!("XADD {key} {ms}-2 n 1")).await;
        send(&mut connection, &format!("XGROUP CREATE {key} g 0")).await;
        send(&mut connection, &format!("XREADGROUP GROUP g c COUNT 1 STREAMS {key} >")).await;
    }
    let target = format!("url: '{}', streams: [{{key: '*', window: 1s}}]", server.url());
    let mut polled = Polled::of_target(&target, "interval: 100ms");
    let mut was_settled = false;
    let mut is_past = false;
    while !is_past {
        let before = time(&server).await;
        let poll = polled.poll_whole().await.unwrap();
        let after = time(&server).await;
        for stream in &poll.report.streams {
            let (values, view) = (stream.values.as_ref().unwrap(), stream.view(&stream.groups[0]).unwrap());
            let is_pending = matches!(view.oldest_pending, Some(OldestPending::Entry { .. }));
            assert!(is_pending, "{program}: {:?}", view.oldest_pending);
            let shown = [
                view.lag_seconds().is_some(),
                view.last_delivered_id_age().is_some(),
                view.oldest_pending_age().is_some(),
                values.first_entry().is_some(),
                values.last_generated().is_some(),
            ];
            let [then, now] = [before, after].map(|now| values.ids.last_generated.ms <= now + 5_000);
            assert!(then != now || shown == [now; 5], "{program}: {}: {shown:?}", stream.key);
        }
        was_settled |= poll.unchanged_streams == poll.report.streams.len();
        is_past = before + 5_000 > start + AHEAD;
        sleep(PAUSE).await;
    }
    assert!(was_settled, "{program}: each poll derived each stream");
}

#[tokio::test]
async fn ages_by_ids_that_are_ahead_of_the_clock_are_absent() {
    for_each_program(an_id_ahead_of_the_clock_is_no_time_before_that_has_come).await;
}

#[tokio::test]
async fn whatever_happens_to_a_stream_that_is_not_derived_is_shown_by_the_next_poll() {
    for_each_program(whatever_happens_is_shown).await;
}
