//! Listeners that are no Redis, and connections that break off.

use futures_util::future::join_all;

use crate::support::client::RedisClient;
use crate::support::fake_server::{Behavior, FakeServer};
use crate::support::metrics::{Metrics, named};
use crate::support::program::Streamgauge;
use crate::support::series::{errors, group, polls, up};
use crate::support::server::Server;
use crate::support::servers::{for_each_server, newest};
use crate::support::watch::{
    RECOVERY, assert_logged, is_up, keeps_failing, until_metrics, until_within, watching, with_streams,
};

#[tokio::test]
async fn a_listener_that_is_no_redis_is_told_by_what_it_does() {
    const HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
    // One that speaks first may be read before anything is asked; then the connection is merely lost.
    let greeter = FakeServer::new(Behavior::SendFirst(b"SSH-2.0-OpenSSH_9.6\r\n")).await;
    let exporter = watching(&greeter.url()).await;
    until_metrics(&exporter, "it is no Redis", |metrics| {
        assert!(!is_up(metrics));
        metrics[&errors("protocol")] + metrics[&errors("io")] >= 4.0
    })
    .await;
    let cases = [
        (Behavior::NoReply, "", "timeout"),
        (Behavior::NoReply, ":pw@", "timeout"),
        (Behavior::ReplyOnce(HTTP), "", "protocol"),
        (Behavior::ReplyOnce(HTTP), ":pw@", "protocol"),
        (Behavior::ReplyAndClose(HTTP), "", "protocol"),
        (Behavior::ReplyAndClose(HTTP), ":pw@", "protocol"),
        (Behavior::ReplyAlways(b"+OK\r\n"), "", "protocol"),
        (Behavior::ReplyAlways(b"+OK\r\n"), ":pw@", "protocol"),
        (Behavior::ReplyAndClose(b""), "", "io"),
        (Behavior::ReplyAndClose(b"*14\r\n$6\r\nserv"), "", "io"),
        (Behavior::ReplyAndClose(b"-ERR max number of clients reached\r\n"), "", "server"),
        (Behavior::ReplyAndClose(b"-ERR max number of clients reached\r\n"), ":pw@", "server"),
    ];
    join_all(cases.map(async |(behavior, login, reason)| is_told(behavior, login, reason).await)).await;
}

/// A listener of this behavior is counted under this reason alone, and logged once.
async fn is_told(behavior: Behavior, login: &str, reason: &str) {
    let fake = FakeServer::new(behavior).await;
    let exporter = watching(&format!("redis://{login}{}", fake.address)).await;
    let found = until_metrics(&exporter, &format!("{behavior:?} {login} is {reason}"), |metrics| {
        metrics[&polls("failed")] >= 4.0
    })
    .await;
    let counted: Metrics = named(&found, "streamgauge_poll_errors_total")
        .into_iter()
        .filter(|(_, count)| *count > 0.0)
        .collect();
    assert_eq!(counted.keys().collect::<Vec<_>>(), [&errors(reason)], "{behavior:?} {login}");
    assert_logged(&exporter, "cannot poll target", 1).await;
    assert!(fake.connections() >= 4, "each try is a new connection");
}

#[tokio::test]
async fn a_server_in_place_of_garbage_is_polled() {
    let mut server = Server::start(newest(), &[]).await;
    server.stop().await;
    let fake = FakeServer::on(server.address(), Behavior::ReplyOnce(b"garbage\r\n")).await;
    let exporter = watching(&server.url()).await;
    keeps_failing(&exporter, "protocol").await;
    fake.close().await;
    server.launch();
    server.ready().await;
    with_streams(&server).await;
    until_within(RECOVERY, &exporter, "both streams", |metrics| metrics.contains_key(&up("b"))).await;
}

#[tokio::test]
async fn a_connection_that_is_closed_in_the_middle_of_a_reply_is_made_anew() {
    for_each_server(async |server| {
        with_streams(&server).await;
        // Through HELLO and into the replies of the poll.
        for after in [20, 250, 700, 1_500] {
            let cutter = FakeServer::new(Behavior::CutOff { server: server.address(), after }).await;
            let address = cutter.address;
            let exporter = watching(&cutter.url()).await;
            until_metrics(&exporter, "it is cut off again and again", |metrics| {
                metrics[&errors("io")] >= 3.0 && cutter.connections() >= 3
            })
            .await;
            let found = exporter.metrics().await;
            for reason in ["protocol", "timeout", "server", "auth"] {
                assert_eq!(found[&errors(reason)], 0.0, "{reason} after {after}");
            }
            cutter.close().await;
            let _through =
                FakeServer::on(address, Behavior::CutOff { server: server.address(), after: usize::MAX })
                    .await;
            let found = until_within(RECOVERY, &exporter, "all is there", |metrics| {
                is_up(metrics) && metrics.contains_key(&up("b"))
            })
            .await;
            assert_eq!(found[&group("redis_stream_group_lag", "b", "g")], 2.0);
        }
    })
    .await;
}

/// Runs `check` often, since it may read or write first, and returns what it found.
async fn checked_often(url: &str) -> Vec<String> {
    let check = || Streamgauge::command("check").args(["--redis-url", url]).run();
    let finished = join_all(std::iter::repeat_with(check).take(20)).await;
    finished.into_iter().map(|finished| finished.stdout).collect()
}

#[tokio::test]
async fn a_server_without_a_free_place_is_told_as_that() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        client.run("CONFIG SET maxclients 1").await;
        for login in ["", ":pw@"] {
            for found in checked_often(&format!("redis://{login}{}", server.address())).await {
                assert!(found.contains("answers ERR max number of clients reached"), "{login} {found}");
            }
        }
        let exporter = watching(&server.url()).await;
        keeps_failing(&exporter, "server").await;
        let counted = named(&exporter.metrics().await, "streamgauge_poll_errors_total");
        let counted: Vec<_> =
            counted.into_iter().filter(|(_, count)| *count > 0.0).map(|(name, _)| name).collect();
        assert_eq!(counted, [errors("server")]);
        client.run("CONFIG SET maxclients 100\nXADD a * f v").await;
        until_within(RECOVERY, &exporter, "the stream", |metrics| metrics.contains_key(&up("a"))).await;
    })
    .await;
}

#[tokio::test]
async fn what_is_sent_before_the_connection_closes_is_told() {
    const ALERT: &[u8] = b"\x15\x03\x01\x00\x02\x02\x46";
    const HTTP: &[u8] = b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n";
    let cases: [(Behavior, &str); 8] = [
        (
            Behavior::SendAndClose(b"-ERR max number of clients + cluster connections reached\r\n"),
            "answers ERR max number of clients + cluster",
        ),
        (
            Behavior::SendAndClose(
                b"-DENIED Redis is running in protected mode because protected mode is enabled and ...\r\n",
            ),
            "in protected mode; set a password",
        ),
        (
            Behavior::SendAndClose(b"-LOADING Redis is loading the dataset in memory\r\n"),
            "answers LOADING Redis is loading",
        ),
        (
            Behavior::SendAndClose(b"-NOAUTH Authentication required.\r\n"),
            "it wants a password, and none is configured",
        ),
        (
            Behavior::ReplyAndClose(b""),
            "closed by the server before it replied; does it want TLS (rediss://)?",
        ),
        (Behavior::ReplyAndClose(ALERT), "it speaks TLS; use rediss://"),
        (Behavior::ReplyAndClose(HTTP), "it speaks HTTP; is this the port of Redis?"),
        (Behavior::ReplyOnce(HTTP), "it speaks HTTP; is this the port of Redis?"),
    ];
    for (behavior, told) in cases {
        let fake = FakeServer::new(behavior).await;
        for found in checked_often(&fake.url()).await {
            assert!(found.contains(told), "{behavior:?}: {found}");
        }
    }
}
