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
        assert_eq!(group.consumers.as_deref().map_or(0, <[_]>::len), consumers.len(), "{what}: {name}");
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

#[tokio::test]
async fn whatever_happens_to_a_stream_that_is_not_derived_is_shown_by_the_next_poll() {
    for_each_program(whatever_happens_is_shown).await;
}
