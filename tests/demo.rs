//! The demo as a whole, with a stand-in for the exporter.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use redis::Value;
use streamgauge::cli::Demo;
use streamgauge::commands::demo;
use streamgauge::config::Config;
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

const DEADLINE: Duration = Duration::from_secs(20);

fn args() -> Demo {
    let redis_server = std::env::var_os("STREAMGAUGE_REDIS_SERVER").map(Into::into);
    Demo { listen: "127.0.0.1:0".to_owned(), redis_server }
}

/// Pending entries and last-delivered-id of a group.
type Group = (i64, String);

/// The groups in the order of their names; empty while the stream is not there.
async fn groups(address: SocketAddr) -> Vec<Group> {
    let client = redis::Client::open(format!("redis://{address}")).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let mut info = redis::cmd("XINFO");
    let groups: Vec<HashMap<String, Value>> =
        match info.arg("GROUPS").arg("orders").query_async(&mut connection).await {
            Err(error) if error.to_string().contains("no such key") => return Vec::new(),
            groups => groups.unwrap(),
        };
    let decode = |mut group: HashMap<String, Value>| {
        let [pending, delivered] = ["pending", "last-delivered-id"].map(|field| group.remove(field).unwrap());
        (redis::from_redis_value(pending).unwrap(), redis::from_redis_value(delivered).unwrap())
    };
    groups.into_iter().map(decode).collect()
}

/// Fast is ahead of slow, and the one that stops has several entries in hand.
fn in_their_conditions(groups: &[Group]) -> bool {
    let [(_, fast), (_, slow), (stopped, _)] = groups else {
        return false;
    };
    fast > slow && *stopped > 1
}

#[tokio::test]
async fn the_demo_shows_its_three_groups_and_leaves_nothing_behind() {
    let shutdown = CancellationToken::new();
    let trigger = shutdown.clone();
    let (sender, receiver) = oneshot::channel();
    let serve = async move |config: Config, shutdown: CancellationToken| {
        sender.send(config).unwrap();
        shutdown.cancelled().await;
        Ok(())
    };
    let running = tokio::spawn(demo::run(args(), shutdown, serve));
    let config = timeout(DEADLINE, receiver).await.unwrap().unwrap();
    let target = &config.targets[0];
    assert_eq!(target.name, "demo");
    let address: SocketAddr = target.topology.to_string().parse().unwrap();

    let wait = async {
        while !in_their_conditions(&groups(address).await) {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(DEADLINE, wait).await.expect("the groups come to their conditions");

    trigger.cancel();
    timeout(DEADLINE, running).await.expect("it ends soon").unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "the server is still there");
}

#[tokio::test]
async fn an_exporter_that_fails_ends_the_demo_with_its_error_and_without_the_server() {
    let shutdown = CancellationToken::new();
    let _trigger = shutdown.clone();
    let (sender, receiver) = oneshot::channel();
    let serve = async move |config: Config, _: CancellationToken| {
        let address: SocketAddr = config.targets[0].topology.to_string().parse().unwrap();
        sender.send(address.port()).unwrap();
        Err(anyhow::anyhow!("no exporter today"))
    };
    let error = timeout(DEADLINE, demo::run(args(), shutdown, serve)).await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "no exporter today");
    let port = receiver.await.unwrap();
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "the server is still there");
}
