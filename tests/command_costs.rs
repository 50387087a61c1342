//! The server time of each command that the program sends, where each is at its worst. `--nocapture` prints a table.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Value, cmd};
use support::client::RedisClient;
use support::polled::Polled;
use support::program::Streamgauge;
use support::server::Server;
use support::servers::for_each_program;
use support::snapshot::{ask, list, text};
use support::wait::wait_until;

/// Most microseconds of the server's time for a command.
const MOST: i64 = 5_000;
const POLLS: usize = 5;
/// Streams, and why a command about each is dear.
const STREAMS: [&str; 6] = ["pending", "consumers", "groups", "large", "lines", "many"];
/// The stream of the producer and the consumer.
const WORK: &str = "work";
/// Commands of the test itself.
const OWN: [&str; 5] = ["EVAL", "CONFIG", "SLOWLOG", "XLEN", "CLIENT SETINFO"];

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
         for n = 1, 5000 do redis.call('XGROUP', 'CREATECONSUMER', 'consumers', 'most', 'c' .. n) end
         redis.call('XADD', 'many', '1-0', 'f', 'v')
         redis.call('XGROUP', 'CREATE', 'many', 'g', '0')
         for n = 1, 20000 do redis.call('XGROUP', 'CREATECONSUMER', 'many', 'g', 'c' .. n) end
         redis.call('XADD', 'lines', '1-0', 'f', 'v')
         redis.call('XGROUP', 'CREATE', 'lines', 'g', '0')
         for n = 1, 4899 do redis.call('XGROUP', 'CREATECONSUMER', 'lines', 'g', 'c' .. n) end",
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
            first @ ("XINFO" | "XGROUP" | "CLIENT") => format!("{first} {}", words[1].to_uppercase()),
            other => other.to_owned(),
        };
        times.entry(format!("{name} {key}")).or_default().push(took);
    }
    times
}

/// Runs the other subcommands: on the long list of pending entries, and on a stream of their own.
async fn run_subcommands(server: &Server) {
    let url = server.url();
    let command =
        |name: &str, args: &[&str]| Streamgauge::command(name).args(["--redis-url", url.as_str()]).args(args);
    for (name, args) in [
        ("pending", &["--stream", "pending", "--group", "g", "--min-idle", "1h"][..]),
        ("pending", &["--stream", "pending", "--group", "g", "--consumer", "c"]),
        ("check", &["--stream", "pending"]),
        ("status", &["--stream", "p*", "--observe", "2s"]),
        ("produce", &["--stream", WORK, "--rate", "5000", "--count", "2000", "--maxlen", "1000"]),
    ] {
        let finished = command(name, args).run().await;
        assert_eq!(finished.code, Some(0), "{name}: {}", finished.stderr);
    }
    let consumer =
        ["--stream", WORK, "--group", "g", "--start-id", "0", "--fail-rate", "0.1", "--work-time", "0s"];
    let retries = ["--claim-min-idle", "1s", "--retry-delay", "1ms", "--max-deliveries", "2"];
    let running = command("consume", &consumer).args(retries).spawn();
    let mut client = RedisClient::to(server).await;
    let dead = async || client.ask::<u64>(&[&b"XLEN"[..], b"work:dead"]).await > 0;
    wait_until(Duration::from_secs(60), "an entry is put aside", dead).await;
    running.interrupt().await;
}

/// Returns true if the documentation lists a command.
fn is_documented(command: &str) -> bool {
    let text = include_str!("../docs/lag.md");
    let (_, table) = text.split_once("## What the commands cost the server").unwrap();
    table.contains(&format!("`{command}"))
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
        let mut polled = Polled::new(&server, &STREAMS, "interval: 60s, memory_interval: 1ms");
        ask(&mut connection, &["CONFIG", "SET", "slowlog-log-slower-than", "0"]).await.unwrap();
        ask(&mut connection, &["SLOWLOG", "RESET"]).await.unwrap();
        for _ in 0..POLLS {
            polled.poll().await.unwrap();
        }
        run_subcommands(&server).await;
        let times = times(&mut connection).await;
        assert!(times.contains_key("MEMORY lines") && !times.contains_key("MEMORY consumers"));
        let mut wrong = Vec::new();
        for (command, mut times) in times {
            times.sort_unstable();
            // The least, since other programs run on the machine, too.
            let least = times[0];
            eprintln!("| {program} | {command} | {} | {least} | {} |", times.len(), times[times.len() - 1]);
            if ["XINFO GROUPS groups", "XINFO STREAM large", "XINFO CONSUMERS many"]
                .contains(&command.as_str())
            {
                // The server lists all groups or none, and both entries whole, so it is asked less often.
                assert_eq!(times.len(), 1, "{command} in {POLLS} polls");
                continue;
            }
            let (name, _) = command.rsplit_once(' ').unwrap();
            if OWN.contains(&name) {
                continue;
            }
            if !is_documented(name) {
                wrong.push(format!("docs/lag.md does not list {name}"));
            }
            if least >= MOST {
                wrong.push(format!("{command} takes {least} µs on {program}"));
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    })
    .await;
}
