//! The server time of each command that a poll sends, where each is at its worst. `--nocapture` prints a table.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::collections::BTreeMap;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Value, cmd};
use support::polled::Polled;
use support::server::Server;
use support::servers::for_each_program;
use support::snapshot::{ask, list, text};

/// Most microseconds of the server's time for a command.
const MOST: i64 = 5_000;
const POLLS: usize = 5;
/// Streams, and why a command about each is dear.
const STREAMS: [&str; 4] = ["pending", "consumers", "groups", "large"];

async fn run(connection: &mut MultiplexedConnection, script: &str) {
    ask(connection, &["EVAL", script, "0"]).await.unwrap();
}

async fn fill(connection: &mut MultiplexedConnection) {
    run(
        connection,
        "for n = 1, 200000 do redis.call('XADD', 'pending', n .. '-0', 'f', 'v') end
         redis.call('XGROUP', 'CREATE', 'pending', 'g', '0')
         redis.call('XREADGROUP', 'GROUP', 'g', 'c', 'COUNT', '200000', 'STREAMS', 'pending', '>')
         redis.call('XDEL', 'pending', '150000-0')
         redis.call('XTRIM', 'pending', 'MAXLEN', '100000')",
    )
    .await;
    run(
        connection,
        "redis.call('XADD', 'consumers', '1-0', 'f', 'v')
         redis.call('XGROUP', 'CREATE', 'consumers', 'g', '0')
         for n = 1, 50000 do redis.call('XGROUP', 'CREATECONSUMER', 'consumers', 'g', 'c' .. n) end
         redis.call('XGROUP', 'CREATE', 'consumers', 'most', '0')
         for n = 1, 5000 do redis.call('XGROUP', 'CREATECONSUMER', 'consumers', 'most', 'c' .. n) end",
    )
    .await;
    run(
        connection,
        "for n = 1, 3000 do redis.call('XADD', 'groups', n .. '-0', 'f', 'v') end
         for n = 1, 10000 do redis.call('XGROUP', 'CREATE', 'groups', 'g' .. n, '1500') end",
    )
    .await;
    let large = "x".repeat(64 << 20);
    for n in 1..=3 {
        ask(connection, &["XADD", "large", &format!("{n}-0"), "f", &large]).await.unwrap();
    }
    ask(connection, &["XGROUP", "CREATE", "large", "g", "1-0"]).await.unwrap();
}

/// Returns the times of all commands since the log was reset, in microseconds, by command and key.
async fn times(connection: &mut MultiplexedConnection) -> BTreeMap<String, Vec<i64>> {
    let mut times: BTreeMap<String, Vec<i64>> = BTreeMap::new();
    let log: Value = cmd("SLOWLOG").arg("GET").arg(-1).query_async(connection).await.unwrap();
    for entry in list(log) {
        let fields = list(entry);
        let words: Vec<_> = list(fields[3].clone()).iter().map(text).collect();
        let Value::Int(took) = fields[2] else { panic!("no time: {fields:?}") };
        let key = words.iter().find(|word| STREAMS.contains(&word.as_str())).cloned().unwrap_or_default();
        let name = match words[0].to_uppercase().as_str() {
            "XINFO" => format!("XINFO {}", words[1]),
            other => other.to_owned(),
        };
        times.entry(format!("{name} {key}")).or_default().push(took);
    }
    times
}

#[tokio::test]
async fn no_command_that_can_be_bounded_takes_the_server_5_ms() {
    for_each_program(async |program| {
        let server = Server::start(program, &["--slowlog-max-len", "1000000"]).await;
        // The default timeout of 0.5 s is too short to fill the streams.
        let client = redis::Client::open(server.url()).unwrap();
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let mut connection = client.get_multiplexed_async_connection_with_config(&config).await.unwrap();
        fill(&mut connection).await;
        let mut polled = Polled::new(&server, &STREAMS, "interval: 60s");
        ask(&mut connection, &["CONFIG", "SET", "slowlog-log-slower-than", "0"]).await.unwrap();
        ask(&mut connection, &["SLOWLOG", "RESET"]).await.unwrap();
        for _ in 0..POLLS {
            polled.poll().await.unwrap();
        }
        let times = times(&mut connection).await;
        for (command, mut times) in times {
            times.sort_unstable();
            // The least, since other programs run on the machine, too.
            let least = times[0];
            eprintln!("| {program} | {command} | {} | {least} | {} |", times.len(), times[times.len() - 1]);
            if ["XINFO GROUPS groups", "XINFO STREAM large"].contains(&command.as_str()) {
                // The server lists all groups or none, and both entries whole, so it is asked less often.
                assert_eq!(times.len(), 1, "{command} in {POLLS} polls");
                continue;
            }
            let is_ours = STREAMS.iter().any(|stream| command.ends_with(stream));
            assert!(!is_ours || least < MOST, "{command} takes {least} µs on {program}");
        }
    })
    .await;
}
