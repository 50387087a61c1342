//! The load generator against a real server. The reference consumer has tests of its own.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::io::Write as _;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cmd;
use streamgauge::shutdown::Shutdown;
use streamgauge::workload::endpoint::Endpoint;
use streamgauge::workload::produce::{self, Load, Produced};
use tokio::time::timeout;

mod support;

use support::server::Server;
use support::servers::newest;
use support::wait::wait_until;

const DEADLINE: Duration = Duration::from_secs(20);

async fn server(args: &[&str]) -> Server {
    Server::start(newest(), args).await
}

/// Sends a command written as in redis-cli, without quotes.
async fn send<T: redis::FromRedisValue>(connection: &mut MultiplexedConnection, line: &str) -> T {
    let mut words = line.split(' ');
    let mut command = cmd(words.next().unwrap());
    command.arg(words.collect::<Vec<_>>());
    command.query_async(connection).await.unwrap_or_else(|error| panic!("{line}: {error}"))
}

fn load(server: &Server) -> Load {
    Load {
        endpoint: Endpoint::new(&server.url(), None, None).unwrap(),
        stream: b"orders".to_vec(),
        rate: 0.0,
        count: Some(10),
        maxlen: None,
        payload_bytes: 10,
    }
}

async fn produce(load: &Load) -> Produced {
    produce::run(load, std::future::pending()).await.unwrap()
}

#[tokio::test]
async fn a_producer_adds_its_count_at_its_rate_and_trims() {
    let server = server(&[]).await;
    let mut connection = server.connection().await;

    let paced = produce(&Load { rate: 200.0, count: Some(41), ..load(&server) }).await;
    assert_eq!(paced.added, 41);
    // The first is due at once, the last 40 intervals of 5 ms later, and none goes early.
    assert!(paced.elapsed >= Duration::from_millis(200), "{:?}", paced.elapsed);
    let last: Vec<(String, Vec<(String, String)>)> =
        send(&mut connection, "XREVRANGE orders + - COUNT 1").await;
    let fields = [("n", "41"), ("payload", "xxxxxxxxxx")].map(|(k, v)| (k.to_owned(), v.to_owned()));
    assert_eq!(last[0].1, fields);

    let trimmed = produce(&Load { count: Some(5_000), maxlen: Some(100), ..load(&server) }).await;
    assert_eq!(trimmed.added, 5_000);
    let length: usize = send(&mut connection, "XLEN orders").await;
    // About 100: whole nodes of up to 100 entries go.
    assert!((100..=300).contains(&length), "{length}");
}

#[tokio::test]
async fn a_producer_without_a_count_ends_when_it_is_stopped() {
    let server = server(&[]).await;
    let mut connection = server.connection().await;
    let endless = Load { count: None, rate: 1_000.0, ..load(&server) };
    let (trigger, shutdown) = Shutdown::new();
    let task = tokio::spawn(async move { produce::run(&endless, shutdown.requested()).await });
    wait_until(DEADLINE, "entries arrive", async || {
        send::<usize>(&mut connection, "XLEN orders").await >= 10
    })
    .await;
    trigger.fire();
    let produced = timeout(DEADLINE, task).await.unwrap().unwrap().unwrap();
    assert_eq!(send::<u64>(&mut connection, "XLEN orders").await, produced.added);
}

#[tokio::test]
async fn a_password_file_is_read_at_the_connect_and_named_when_it_is_missing() {
    let server = server(&["--requirepass", "right-secret"]).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    writeln!(file, "right-secret").unwrap();
    let endpoint = Endpoint::new(&server.url(), None, Some(file.path().to_owned())).unwrap();
    let load = Load { endpoint, ..load(&server) };
    assert_eq!(produce(&load).await.added, 10);

    let path = file.path().to_owned();
    file.close().unwrap();
    let error = produce::run(&load, std::future::pending()).await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot read password file {}", path.display()));
}

#[tokio::test]
async fn a_key_of_another_type_is_an_error() {
    let server = server(&[]).await;
    let _: () = send(&mut server.connection().await, "SET orders text").await;
    let said = format!(
        "redis://{}: WRONGTYPE Operation against a key holding the wrong kind of value",
        server.address()
    );
    let error = produce::run(&load(&server), std::future::pending()).await.unwrap_err();
    assert_eq!(format!("{:#}", anyhow::Error::from(error)), said);
}
