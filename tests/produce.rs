//! The load generator against real servers.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::HashMap;
use std::io::Write as _;
use std::time::Duration;

use redis_stream_consumer::connect_options::ConnectOptions;
use redis_stream_consumer::error::RunError;
use redis_stream_consumer::produce::rate::Pattern;
use redis_stream_consumer::produce::trim::{Precision, Trim};
use redis_stream_consumer::produce::{self, ProduceConfig, ProduceStats};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

mod support;

use support::program::Streamgauge;
use support::server::Server;
use support::servers::{for_each_program, for_each_server, newest};
use support::wait::wait_until;

const DEADLINE: Duration = Duration::from_secs(30);

fn load(server: &Server) -> ProduceConfig {
    let connect = ConnectOptions::new(&server.url(), None, None).unwrap();
    ProduceConfig { rate: 0.0, count: Some(10), payload_bytes: 10, ..ProduceConfig::new(connect, "orders") }
}

async fn produce(load: &ProduceConfig) -> ProduceStats {
    produce::run(load, std::future::pending()).await.unwrap()
}

fn keys(names: &[&str]) -> Vec<Vec<u8>> {
    names.iter().map(|name| name.as_bytes().to_vec()).collect()
}

/// An entry as it is in its stream: its ID's milliseconds and its number.
type Numbered = (u64, u64);

async fn entries(server: &Server, stream: &str) -> Vec<Numbered> {
    let all: Vec<(String, HashMap<String, String>)> = server.command(&["XRANGE", stream, "-", "+"]).await;
    let entry = |(id, fields): &(String, HashMap<String, String>)| {
        (id.split('-').next().unwrap().parse().unwrap(), fields["n"].parse().unwrap())
    };
    all.iter().map(entry).collect()
}

async fn numbers(server: &Server, stream: &str) -> Vec<u64> {
    entries(server, stream).await.into_iter().map(|(_, n)| n).collect()
}

async fn length(server: &Server, stream: &str) -> u64 {
    server.command(&["XLEN", stream]).await
}

/// A producer that runs beside its test.
struct Running {
    trigger: CancellationToken,
    task: JoinHandle<Result<ProduceStats, RunError>>,
}

impl Running {
    fn start(load: ProduceConfig) -> Self {
        let shutdown = CancellationToken::new();
        let trigger = shutdown.clone();
        let task = tokio::spawn(async move { produce::run(&load, shutdown.cancelled_owned()).await });
        Self { trigger, task }
    }

    async fn end(self) -> ProduceStats {
        timeout(DEADLINE, self.task).await.expect("it ends soon").unwrap().unwrap()
    }

    async fn stop(self) -> ProduceStats {
        self.trigger.cancel();
        self.end().await
    }
}

#[tokio::test]
async fn a_producer_adds_its_count_at_its_rate() {
    for_each_server(async |server| {
        let paced = produce(&ProduceConfig { rate: 200.0, count: Some(101), ..load(&server) }).await;
        assert_eq!((paced.added, paced.unknown), (101, 0));
        // The first is due at once, the last 100 intervals of 5 ms later, and none goes early.
        assert!(paced.elapsed >= Duration::from_millis(500), "{:?}", paced.elapsed);
        assert!(paced.elapsed <= Duration::from_secs(5), "{:?}", paced.elapsed);
        assert_eq!(numbers(&server, "orders").await, (1..=101).collect::<Vec<_>>());
        type Fields = Vec<(String, String)>;
        let last: Vec<(String, Fields)> =
            server.command(&["XREVRANGE", "orders", "+", "-", "COUNT", "1"]).await;
        let fields = [("n", "101"), ("payload", "xxxxxxxxxx")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(last[0].1, fields);
    })
    .await;
}

#[tokio::test]
async fn entries_go_to_several_streams_in_turn_at_the_rate_of_all() {
    for_each_server(async |server| {
        let streams = keys(&["a", "b", "c"]);
        let produced =
            produce(&ProduceConfig { streams, rate: 200.0, count: Some(61), ..load(&server) }).await;
        assert!(produced.elapsed >= Duration::from_millis(300), "{:?}", produced.elapsed);
        assert_eq!(produced.added, 61);
        for (at, share) in produced.streams.iter().enumerate() {
            let stream = ["a", "b", "c"][at];
            let turns: Vec<u64> = (1 + at as u64..=61).step_by(3).collect();
            assert_eq!(share.stream, stream.as_bytes());
            assert_eq!(numbers(&server, stream).await, turns);
            assert_eq!(share.added, turns.len() as u64);
            // "n", its digits, "payload" and ten bytes.
            let digits: u64 = turns.iter().map(|n| n.to_string().len() as u64).sum();
            assert_eq!(share.bytes, 18 * share.added + digits);
        }
        assert_eq!(produced.bytes, produced.streams.iter().map(|share| share.bytes).sum::<u64>());
    })
    .await;
}

#[tokio::test]
async fn a_stream_is_trimmed_to_a_length() {
    for_each_server(async |server| {
        let trimmed = async |precision| {
            let trim = Trim::Length { entries: 150, precision };
            assert_eq!(
                produce(&ProduceConfig { count: Some(2_000), trim, ..load(&server) }).await.added,
                2_000
            );
            length(&server, "orders").await
        };
        // StreamSnapshot nodes of up to 100 entries go.
        let about = trimmed(Precision::About).await;
        assert!((150..=350).contains(&about), "{about}");
        assert_eq!(trimmed(Precision::Exact).await, 150);
    })
    .await;
}

#[tokio::test]
async fn a_stream_is_trimmed_by_age_as_the_server_tells_it() {
    for_each_server(async |server| {
        let (seconds, _): (u64, u64) = server.command(&["TIME"]).await;
        let aged = async |age: u64, n: &str| {
            let id = format!("{}-{n}", (seconds - age) * 1_000);
            server.command::<String>(&["XADD", "orders", &id, "n", n]).await;
        };
        for n in 1..=500 {
            aged(7_200, &n.to_string()).await;
        }
        aged(1_800, "501").await;
        let kept = async |age: u64, precision| {
            let trim = Trim::Age { age: Duration::from_secs(age), precision };
            produce(&ProduceConfig { trim, count: Some(20), ..load(&server) }).await;
            length(&server, "orders").await
        };
        assert_eq!(kept(10_800, Precision::Exact).await, 521, "all are younger than three hours");
        let about = kept(3_600, Precision::About).await;
        assert!(
            (41..=141).contains(&about),
            "{about}: snapshot nodes of up to 100 entries are older than an hour"
        );
        assert_eq!(kept(3_600, Precision::Exact).await, 61);
        assert_eq!(kept(900, Precision::Exact).await, 80, "the one of half an hour ago is gone too");
    })
    .await;
}

#[tokio::test]
async fn bursts_come_at_the_start_of_each_period() {
    let server = Server::start(newest(), &[]).await;
    let period = Duration::from_secs(1);
    let pattern = Pattern::Bursts { period };
    let (seconds, micros): (u64, u64) = server.command(&["TIME"]).await;
    let start = seconds * 1_000 + micros / 1_000;
    let produced = produce(&ProduceConfig { rate: 100.0, pattern, count: Some(251), ..load(&server) }).await;
    // The first is due at once, so each burst ends with the first of the next hundred.
    assert!(produced.elapsed >= Duration::from_millis(2_050), "{:?}", produced.elapsed);
    for (ms, n) in entries(&server, "orders").await {
        // The server's clock may differ from this one, and IDs have whole milliseconds.
        let earliest = (n.saturating_sub(2) / 100) * 1_000;
        assert!(ms + 50 >= start + earliest, "{n} came {} ms after the start", ms - start);
    }
}

#[tokio::test]
async fn what_was_confirmed_is_there_after_the_server_was_killed() {
    for_each_program(async |program| {
        let mut server = Server::start(program, &["--appendonly", "yes", "--appendfsync", "always"]).await;
        let names = ["a", "b"];
        let endless = ProduceConfig { streams: keys(&names), rate: 1_000.0, count: None, ..load(&server) };
        let running = Running::start(endless);
        wait_until(DEADLINE, "entries arrive", async || length(&server, "a").await >= 100).await;
        server.kill();
        server.launch();
        server.ready().await;
        let before = length(&server, "b").await;
        wait_until(DEADLINE, "more arrive", async || length(&server, "b").await >= before + 100).await;
        let produced = running.stop().await;
        assert!(produced.unknown > 0, "a producer that sends all the time has a reply to lose");
        let mut all = Vec::new();
        for (name, share) in names.iter().zip(&produced.streams) {
            let found = numbers(&server, name).await;
            let surplus = found.len() as u64 - share.added;
            assert!(surplus <= share.unknown, "{name}: {surplus} more than added, {} unknown", share.unknown);
            all.extend(found);
        }
        all.sort_unstable();
        all.dedup();
        assert_eq!(all, (1..=produced.added).collect::<Vec<_>>(), "none is missing");
    })
    .await;
}

#[tokio::test]
async fn what_a_full_server_refused_is_added_once_it_has_room() {
    let server = Server::start(newest(), &[]).await;
    let running = Running::start(ProduceConfig { rate: 500.0, count: Some(1_000), ..load(&server) });
    wait_until(DEADLINE, "entries arrive", async || length(&server, "orders").await >= 20).await;
    server.command::<()>(&["CONFIG", "SET", "maxmemory", "1"]).await;
    wait_until(DEADLINE, "it refuses", async || {
        let info: String = server.command(&["INFO", "commandstats"]).await;
        let xadd = info.lines().find(|line| line.starts_with("cmdstat_xadd:"));
        xadd.is_some_and(|line| !line.contains("rejected_calls=0"))
    })
    .await;
    server.command::<()>(&["CONFIG", "SET", "maxmemory", "0"]).await;
    let produced = running.end().await;
    assert_eq!((produced.added, produced.unknown), (1_000, 0));
    let mut all = numbers(&server, "orders").await;
    all.sort_unstable();
    assert_eq!(all, (1..=1_000).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_producer_without_a_count_ends_when_it_is_stopped() {
    let server = Server::start(newest(), &[]).await;
    let running = Running::start(ProduceConfig { count: None, rate: 1_000.0, ..load(&server) });
    wait_until(DEADLINE, "entries arrive", async || length(&server, "orders").await >= 10).await;
    let produced = running.stop().await;
    assert_eq!(length(&server, "orders").await, produced.added);
}

#[tokio::test]
async fn the_program_says_once_that_it_falls_behind_and_at_the_end_what_it_added() {
    let server = Server::start(newest(), &[]).await;
    let url = server.url();
    let flags = ["--redis-url", &url, "--stream", "a", "--stream", "b", "--rate", "1e9", "--maxlen", "1000"];
    let running = Streamgauge::command("produce").args(flags).spawn();
    let said = "producer falls behind its rate";
    wait_until(DEADLINE, "it falls behind", async || running.stderr().contains(said)).await;
    let finished = running.stop().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert_eq!(finished.stderr.matches(said).count(), 1, "{}", finished.stderr);
    let lines: Vec<_> = finished.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{lines:?}");
    assert!(lines[0].starts_with("added ") && lines[0].contains(" to 2 streams in "), "{lines:?}");
    assert!(lines[0].ends_with(" per second"), "{lines:?}");
    assert!(lines[1].starts_with("  a: ") && lines[2].starts_with("  b: "), "{lines:?}");
    for stream in ["a", "b"] {
        let trimmed = length(&server, stream).await;
        assert!((1_000..=1_200).contains(&trimmed), "{stream}: {trimmed}");
    }
}

#[tokio::test]
async fn one_stream_of_another_type_ends_it_and_what_was_added_to_the_others_is_logged() {
    let server = Server::start(newest(), &[]).await;
    server.command::<()>(&["SET", "b", "text"]).await;
    let url = server.url();
    let flags = ["--redis-url", &url, "--stream", "a", "--stream", "b", "--count", "10", "--rate", "0"];
    let finished = Streamgauge::command("produce").args(flags).run().await;
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""), "{}", finished.stderr);
    assert!(finished.stderr.contains("WRONGTYPE"), "{}", finished.stderr);
    assert!(finished.stderr.contains("producer ended added=5 "), "{}", finished.stderr);
}

#[tokio::test]
async fn a_password_file_is_read_at_the_connect_and_named_when_it_is_missing() {
    let server = Server::start(newest(), &["--requirepass", "right-secret"]).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "right-secret").unwrap();
    let connect = ConnectOptions::new(&server.url(), None, Some(file.path().to_owned())).unwrap();
    let load = ProduceConfig { connect, ..load(&server) };
    assert_eq!(produce(&load).await.added, 10);

    let path = file.path().to_owned();
    file.close().unwrap();
    let error = produce::run(&load, std::future::pending()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read password file {}", path.display()));
}

type Fields = Vec<(String, String)>;

async fn fields(server: &Server, stream: &str) -> Vec<Fields> {
    let all: Vec<(String, Fields)> = server.command(&["XRANGE", stream, "-", "+"]).await;
    all.into_iter().map(|(_, fields)| fields).collect()
}

#[tokio::test]
async fn entries_have_the_fields_of_templates() {
    for_each_server(async |server| {
        let end = Streamgauge::command("produce")
            .args([
                "--redis-url",
                &server.url(),
                "--stream",
                "a",
                "--stream",
                "b",
                "--count",
                "40",
                "--rate",
                "0",
            ])
            .args([
                "--field",
                "id={{uuid}}",
                "--field",
                "user={{choice ann bob}}",
                "--field",
                "total={{number}}.50",
            ])
            .run()
            .await;
        assert_eq!(end.code, Some(0), "{}", end.stderr);
        assert!(end.stderr.contains("producer started server=redis://"), "{}", end.stderr);
        let all = [fields(&server, "a").await, fields(&server, "b").await].concat();
        let names = |fields: &Fields| fields.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        assert!(all.iter().all(|fields| names(fields) == ["id", "user", "total"]), "{all:?}");
        let distinct = |at: usize| {
            all.iter().map(|fields| fields[at].1.clone()).collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!((distinct(0).len(), distinct(2).len()), (40, 40));
        assert_eq!(distinct(1).into_iter().collect::<Vec<_>>(), ["ann", "bob"]);
        assert_eq!(fields(&server, "b").await[0][2].1, "2.50");
    })
    .await;
}

/// Runs the producer with this on its standard input.
fn with_input(server: &Server, args: &[&str], input: &'static [u8]) -> std::process::Output {
    let mut command = Streamgauge::command("produce")
        .args(["--redis-url", &server.url(), "--stream", "orders", "--json-lines"])
        .args(args)
        .into_command();
    command.stdin(std::process::Stdio::piped());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // The program may end before it has read all.
    let writer = std::thread::spawn(move || drop(stdin.write_all(input)));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_come_from_lines_of_json() {
    for_each_server(async |server| {
        let input =
            b"{\"z\":\"1\",\"a\":2.50}\n\n[[\"n\",\"1\"],[\"n\",\"2\"]]\n{\"v\":{\"base64\":\"YQ==\"}}";
        let output = with_input(&server, &[], input);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(String::from_utf8_lossy(&output.stdout).starts_with("added 3 entries (13 B) to orders in "));
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect::<Fields>()
        };
        let expected =
            [pairs(&[("z", "1"), ("a", "2.50")]), pairs(&[("n", "1"), ("n", "2")]), pairs(&[("v", "a")])];
        assert_eq!(fields(&server, "orders").await, expected);

        let output = with_input(&server, &["--rate", "1000"], b"{\"n\":1}\nsecret\n{\"n\":2}\n");
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(
            said.contains("line 2 of the input: not an entry, at column 1; ") && !said.contains("secret"),
            "{said}"
        );
        assert_eq!(fields(&server, "orders").await.len(), 4);

        let output = with_input(&server, &["--count", "2"], b"{\"n\":1}\n{\"n\":2}\n{\"n\":3}\n");
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(fields(&server, "orders").await.len(), 6);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_are_added_as_they_come_and_the_producer_waits_for_more() {
    let server = Server::start(newest(), &[]).await;
    let mut command = Streamgauge::command("produce")
        .args(["--redis-url", &server.url(), "--stream", "orders", "--json-lines"])
        .into_command();
    command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for n in 1..=3 {
        writeln!(stdin, "{{\"n\":\"{n}\"}}").unwrap();
        stdin.flush().unwrap();
        wait_until(DEADLINE, "the line is added", async || length(&server, "orders").await == n).await;
    }
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(numbers(&server, "orders").await, [1, 2, 3]);
}
