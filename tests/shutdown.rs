//! SIGTERM and SIGINT end the exporter with success, whatever it is doing.

use std::net::SocketAddr;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};

mod support;

use support::client::RedisClient;
use support::config::{ConfigFile, QUICK, serving};
use support::fake_server::{Behavior, FakeServer};
use support::metrics::named;
use support::program::{Exporter, Finished, Streamgauge};
use support::series::{TARGET_UP, errors, polls};
use support::server::{Server, free_port};
use support::servers::{for_each_server, newest};
use support::wait::wait_until;

const SOON: Duration = Duration::from_secs(15);
/// An end that waits for nobody, on a loaded machine.
const AT_ONCE: Duration = Duration::from_secs(2);
/// Time for responses in flight at shutdown.
const DRAIN: Duration = Duration::from_secs(5);

fn assert_ended_well(finished: &Finished, signal: &str, within: Duration) {
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert!(finished.took < within, "took {:?}:\n{}", finished.took, finished.stderr);
    assert_eq!(finished.stdout, "");
    assert!(finished.stderr.contains(&format!("shutting down signal=\"{signal}\"")), "{}", finished.stderr);
    assert!(finished.stderr.trim_end().ends_with("stopped"), "{}", finished.stderr);
}

/// Ends one exporter by each signal, once it is in the condition.
async fn ends_at_once(yaml: &str, what: &str, holds: impl AsyncFn(&Exporter) -> bool) {
    for signal in ["SIGTERM", "SIGINT"] {
        let exporter = serving(yaml).await;
        wait_until(SOON, what, async || holds(&exporter).await).await;
        let finished = if signal == "SIGTERM" { exporter.stop().await } else { exporter.interrupt().await };
        assert_ended_well(&finished, signal, AT_ONCE);
    }
}

#[tokio::test]
async fn between_polls() {
    let server = Server::start(newest(), &[]).await;
    RedisClient::to(&server).await.run("XADD s * f v").await;
    let yaml = format!("{QUICK}targets: [{{name: t, url: '{}'}}]", server.url());
    ends_at_once(&yaml, "it polls", async |exporter| exporter.metrics().await[TARGET_UP] == 1.0).await;
    let mut client = RedisClient::to(&server).await;
    wait_until(SOON, "no connection is left but our own", async || {
        client.ask::<String>(&["CLIENT", "LIST"]).await.lines().count() == 1
    })
    .await;
}

#[tokio::test]
async fn in_the_middle_of_a_poll_that_is_not_answered() {
    let silent = FakeServer::new(Behavior::NoReply).await;
    for login in ["", ":pw@"] {
        let url = format!("redis://{login}{}", silent.address);
        let yaml = format!("poll: {{interval: 1h}}\ntargets: [{{name: t, url: '{url}'}}]");
        let before = silent.connections();
        ends_at_once(&yaml, "it connected", async |_| silent.connections() > before).await;
    }
}

#[tokio::test]
async fn while_the_server_is_paused() {
    for_each_server(async |server| {
        let yaml = format!(
            "poll: {{interval: 1s, timeout: 900ms}}\ntargets: [{{name: t, url: '{}'}}]",
            server.url()
        );
        let exporter = serving(&yaml).await;
        wait_until(SOON, "it polls", async || exporter.metrics().await[TARGET_UP] == 1.0).await;
        server.pause();
        wait_until(SOON, "it failed", async || exporter.metrics().await[&errors("timeout")] >= 1.0).await;
        assert_ended_well(&exporter.stop().await, "SIGTERM", AT_ONCE);
    })
    .await;
}

#[tokio::test]
async fn while_it_waits_to_try_again() {
    let yaml = format!("{QUICK}targets: [{{name: t, url: 'redis://127.0.0.1:{}'}}]", free_port());
    ends_at_once(&yaml, "it failed", async |exporter| exporter.metrics().await[&errors("connect")] >= 5.0)
        .await;
}

#[tokio::test]
async fn while_a_name_does_not_resolve() {
    let yaml = format!("{QUICK}targets: [{{name: t, url: 'redis://streamgauge-test.invalid'}}]");
    // Where the resolver hangs, it does in the middle of a look-up.
    let is_looking_up = async |exporter: &Exporter| {
        let metrics = exporter.metrics().await;
        metrics[&polls("failed")] >= 1.0
    };
    ends_at_once(&yaml, "it looks the name up", is_looking_up).await;
}

#[tokio::test]
async fn before_anything_was_polled() {
    let silent = FakeServer::new(Behavior::NoReply).await;
    let config = ConfigFile::new(&format!("targets: [{{url: '{}'}}]", silent.url()));
    let exporter = config.serve().serving().await;
    assert_eq!(exporter.get("/-/ready").await.status, 503);
    assert_eq!(exporter.get("/-/healthy").await.status, 200);
    assert_ended_well(&exporter.interrupt().await, "SIGINT", AT_ONCE);
}

#[tokio::test]
async fn clients_that_ask_for_nothing_are_not_waited_for() {
    let server = Server::start(newest(), &[]).await;
    let exporter = serving(&format!("{QUICK}targets: [{{name: t, url: '{}'}}]", server.url())).await;
    wait_until(SOON, "it polls", async || exporter.metrics().await[TARGET_UP] == 1.0).await;
    let _idle = TcpStream::connect(exporter.address).await.expect("it listens");
    let mut kept_alive = TcpStream::connect(exporter.address).await.expect("it listens");
    kept_alive.write_all(b"GET /-/ready HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("it reads");
    let mut answer = [0; 12];
    kept_alive.read_exact(&mut answer).await.expect("it answers");
    assert_eq!(&answer, b"HTTP/1.1 200");
    assert_ended_well(&exporter.stop().await, "SIGTERM", AT_ONCE);
}

#[tokio::test]
async fn a_client_that_hangs_is_dropped_when_its_time_is_over() {
    let server = Server::start(newest(), &[]).await;
    // A page that no socket's buffers take.
    let script = "for n = 1, 20000 do redis.call('XGROUP', 'CREATE', 's' .. n, 'g', '$', 'MKSTREAM') end";
    RedisClient::to(&server).await.ask::<Option<i64>>(&["EVAL", script, "0"]).await;
    let yaml = format!(
        "poll: {{interval: 1h, timeout: 1m}}\ntargets: [{{name: t, url: '{}', limits: {{streams: 20000}}}}]",
        server.url()
    );
    for is_in_its_head in [true, false] {
        let exporter = serving(&yaml).await;
        wait_until(Duration::from_secs(60), "it has polled", async || {
            named(&exporter.metrics().await, TARGET_UP).values().eq([&1.0])
        })
        .await;
        let mut client = narrow_client(exporter.address).await;
        if is_in_its_head {
            client.write_all(b"GET /metrics HTTP/1.1\r\nHost: a").await.expect("it reads");
            // Answered by now, so the one before has been read, too.
            assert_eq!(exporter.get("/-/healthy").await.status, 200);
        } else {
            client.write_all(b"GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n").await.expect("it reads");
            let mut answer = [0; 12];
            client.read_exact(&mut answer).await.expect("it answers");
            assert_eq!(&answer, b"HTTP/1.1 200");
        }
        let finished = exporter.stop().await;
        assert_ended_well(&finished, "SIGTERM", DRAIN + AT_ONCE);
        if !is_in_its_head {
            assert!(finished.took >= DRAIN, "it was given its time: {:?}", finished.took);
            assert!(
                finished.stderr.contains("connections dropped at shutdown connections=1"),
                "{}",
                finished.stderr
            );
        }
    }
}

/// A client whose system takes no more than it must.
async fn narrow_client(address: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    SockRef::from(&socket).set_recv_buffer_size(4096).expect("a small buffer");
    socket.connect(address).await.expect("it listens")
}

#[tokio::test]
async fn at_the_very_start() {
    let silent = FakeServer::new(Behavior::NoReply).await;
    let running = Streamgauge::serve().args(["--redis-url", &silent.url()]).spawn();
    wait_until(SOON, "it wrote its first line", async || !running.stderr().is_empty()).await;
    let finished = running.stop().await;
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
}

#[tokio::test]
async fn a_result_that_is_cut_short_is_no_success() {
    let silent = FakeServer::new(Behavior::NoReply).await;
    let url = silent.url();
    let from = ["--redis-url", &url];
    for run in [
        Streamgauge::command("check").args(from),
        Streamgauge::command("init").args(from),
        Streamgauge::command("tidy").args(from),
        Streamgauge::command("pending").args(from).args(["--stream", "s", "--group", "g"]),
        Streamgauge::command("status").args(from),
    ] {
        let before = silent.connections();
        let running = run.spawn();
        wait_until(SOON, "it has connected", async || silent.connections() > before).await;
        let finished = running.stop().await;
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(finished.stderr.contains("interrupted before"), "{finished:?}");
    }
}
