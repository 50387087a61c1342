//! Servers that are not there, hang, load, or come back with other data.

use tokio::net::TcpStream;

use crate::support::client::RedisClient;
use crate::support::config::{QUICK, serving};
use crate::support::fake_server::{Behavior, FakeServer};
use crate::support::metrics::named;
use crate::support::series::{LAST_SUCCESS, TARGET_UP, errors, group, polls, stream, up};
use crate::support::server::Server;
use crate::support::servers::{for_each_program, for_each_server, newest};
use crate::support::wait::wait_until;
use crate::support::watch::{
    RECOVERY, SOON, assert_logged, assert_logged_on_change, assert_served_until_stale, count, is_up,
    keeps_failing, log_changes, only_slow_polls_failed, until_metrics, until_within, watching, with_streams,
};

#[tokio::test]
async fn a_server_that_is_down_at_the_start_is_polled_once_it_is_there() {
    for_each_program(async |program| {
        let mut server = Server::start(program, &[]).await;
        server.stop().await;
        let exporter = watching(&server.url()).await;
        keeps_failing(&exporter, "connect").await;
        assert_eq!(exporter.get("/-/ready").await.status, 200, "a failed poll is one");
        assert!(!exporter.metrics().await.contains_key(LAST_SUCCESS));
        server.launch();
        server.ready().await;
        with_streams(&server).await;
        until_within(RECOVERY, &exporter, "both streams", |metrics| {
            is_up(metrics) && metrics.contains_key(&up("a")) && metrics.contains_key(&up("b"))
        })
        .await;
        assert_logged_on_change(&exporter, "cannot connect to 127.0.0.1").await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_was_killed_and_comes_back_with_other_data_leaves_nothing_behind() {
    for_each_program(async |program| {
        let mut server = Server::start(program, &[]).await;
        with_streams(&server).await;
        let exporter = watching(&server.url()).await;
        until_metrics(&exporter, "both streams", |metrics| metrics.contains_key(&up("b"))).await;
        server.kill();
        assert_served_until_stale(&exporter).await;
        keeps_failing(&exporter, "connect").await;

        server.restart().await;
        let mut client = RedisClient::to(&server).await;
        client.run("XADD b 5-1 f v\nXGROUP CREATE b other 0\nXADD c * f v").await;
        let found = until_within(RECOVERY, &exporter, "the new streams", |metrics| {
            is_up(metrics) && metrics.contains_key(&up("c"))
        })
        .await;
        assert_eq!(
            named(&found, "redis_stream_length").into_iter().collect::<Vec<_>>(),
            [(stream("redis_stream_length", "b"), 1.0), (stream("redis_stream_length", "c"), 1.0),]
        );
        assert_eq!(
            named(&found, "redis_stream_group_lag").into_iter().collect::<Vec<_>>(),
            [(group("redis_stream_group_lag", "b", "other"), 1.0)]
        );
        let lines = log_changes(&exporter);
        assert_logged(&exporter, "cannot connect to", 1).await;
        assert_logged(&exporter, "target is polled again", 1).await;
        // One for the connection that broke, as it may be seen first, and one for those refused.
        assert!(count(&lines, "cannot poll target") <= 2, "{lines:#?}");
    })
    .await;
}

#[tokio::test]
async fn a_restart_between_two_polls_is_a_new_epoch() {
    let mut server = Server::start(newest(), &[]).await;
    with_streams(&server).await;
    let exporter = watching(&server.url()).await;
    until_metrics(&exporter, "both streams", |metrics| metrics.contains_key(&up("b"))).await;
    for round in 1..=3 {
        server.kill();
        server.restart().await;
        let mut client = RedisClient::to(&server).await;
        client.run("XGROUP CREATE a g 0 MKSTREAM").await;
        for n in 1..=10 * round {
            client.run(&format!("XADD a {n}-0 f v")).await;
        }
        client.run(&format!("XREADGROUP GROUP g c COUNT {round} STREAMS a >\nXDEL a {}-0", round + 1)).await;
        until_within(RECOVERY, &exporter, "the lag of the new data", |metrics| {
            let lag = metrics.get(&group("redis_stream_group_lag", "a", "g"));
            lag == Some(&f64::from(10 * round - round - 1)) && !metrics.contains_key(&up("b"))
        })
        .await;
    }
}

#[tokio::test]
async fn a_paused_server_is_down_until_it_goes_on() {
    for_each_server(async |server| {
        with_streams(&server).await;
        let exporter = watching(&server.url()).await;
        until_metrics(&exporter, "both streams", |metrics| metrics.contains_key(&up("b"))).await;
        server.pause();
        assert_served_until_stale(&exporter).await;
        keeps_failing(&exporter, "timeout").await;
        server.resume();
        let found = until_within(RECOVERY, &exporter, "all is back", |metrics| {
            is_up(metrics) && metrics.contains_key(&up("b"))
        })
        .await;
        assert_eq!(found[&group("redis_stream_group_lag", "b", "g")], 2.0);
        assert_logged_on_change(&exporter, "did not answer within the poll's timeout").await;
    })
    .await;
}

/// Fills a server so that it takes a while to load, and brings it back loading.
async fn loading(server: &mut Server) {
    // It looks at its clients after each so many bytes, 2 MiB before 7.0, and takes so long for each key.
    let is_old = server.program().version < (7, 0, 0);
    let (keys, bytes, delay_us) = if is_old { (200, 250_000, "8000") } else { (300, 2_000, "5000") };
    let mut client = RedisClient::to(server).await;
    for n in 0..keys {
        client.run(&format!("SETRANGE filler:{n} {bytes} x")).await;
    }
    client.run("CONFIG SET rdbcompression no\nSAVE").await;
    let slowly = ["--key-load-delay", delay_us, "--loading-process-events-interval-bytes", "1024"];
    server.relaunch_with(if is_old { &slowly[..2] } else { &slowly });
}

#[tokio::test]
async fn a_server_that_loads_its_dataset_is_waited_for() {
    for_each_program(async |program| {
        let mut server = Server::start(program, &[]).await;
        with_streams(&server).await;
        loading(&mut server).await;
        wait_until(SOON, "it listens", async || TcpStream::connect(server.address()).await.is_ok()).await;
        let exporter = watching(&server.url()).await;
        let found =
            until_metrics(&exporter, "it is loading", |metrics| metrics[&errors("loading")] > 0.0).await;
        assert_eq!(found[TARGET_UP], 0.0);
        server.ready().await;
        until_within(RECOVERY, &exporter, "both streams", |metrics| {
            is_up(metrics) && metrics.contains_key(&up("a")) && metrics.contains_key(&up("b"))
        })
        .await;
        assert_logged_on_change(&exporter, "answers LOADING").await;
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_restarted_and_loads_is_down_until_it_has() {
    let mut server = Server::start(newest(), &[]).await;
    with_streams(&server).await;
    let exporter = watching(&server.url()).await;
    until_metrics(&exporter, "both streams", |metrics| metrics.contains_key(&up("b"))).await;
    loading(&mut server).await;
    until_metrics(&exporter, "it is loading", |metrics| {
        metrics[&errors("loading")] > 0.0 && metrics[TARGET_UP] == 0.0
    })
    .await;
    server.ready().await;
    until_within(RECOVERY, &exporter, "all is back", |metrics| {
        is_up(metrics) && metrics.contains_key(&up("b"))
    })
    .await;
}

#[tokio::test]
async fn a_dead_target_does_not_touch_the_other() {
    let (mut dying, living) = (Server::start(newest(), &[]).await, Server::start(newest(), &[]).await);
    with_streams(&dying).await;
    with_streams(&living).await;
    let silent = FakeServer::new(Behavior::NoReply).await;
    let flooding =
        FakeServer::new(Behavior::ReplyAlways(b"-ERR flood\r\n-ERR flood\r\n-ERR flood\r\n")).await;
    let exporter = serving(&format!(
        "{QUICK}targets:
          - {{name: dying, url: '{}'}}
          - {{name: silent, url: '{}'}}
          - {{name: flooding, url: '{}'}}
          - {{name: nowhere, url: 'redis://name.invalid'}}
          - {{name: t, url: '{}'}}",
        dying.url(),
        silent.url(),
        flooding.url(),
        living.url()
    ))
    .await;
    let of_dying = r#"redis_stream_up{target="dying",db="db0",stream="a"}"#;
    until_metrics(&exporter, "the two that can be read", |metrics| {
        metrics.contains_key(&up("b")) && metrics.contains_key(of_dying)
    })
    .await;
    dying.kill();
    let before = until_metrics(&exporter, "it is dead and forgotten", |metrics| {
        metrics[r#"streamgauge_target_up{target="dying"}"#] == 0.0 && !metrics.contains_key(of_dying)
    })
    .await;
    RedisClient::to(&living).await.run("XADD b * f v").await;
    let after = until_metrics(&exporter, "the other goes on", |metrics| {
        metrics.get(&group("redis_stream_group_lag", "b", "g")) == Some(&3.0)
            && metrics[&polls("ok")] >= before[&polls("ok")] + 3.0
            && is_up(metrics)
    })
    .await;
    assert!(only_slow_polls_failed(&after), "{after:#?}");
    let resolved = r#"streamgauge_poll_errors_total{reason="resolve",target="nowhere"}"#;
    assert!(after[resolved] > 0.0, "{after:#?}");
    assert_eq!(exporter.get("/-/healthy").await.status, 200);
    assert_eq!(exporter.get("/-/ready").await.status, 200);
    for (error, times) in
        [("cannot resolve name.invalid", 1), (r#"target_name="silent""#, 1), ("target_name=t ", 1)]
    {
        assert_logged(&exporter, error, times).await;
    }
}

#[tokio::test]
async fn a_connection_that_the_server_closes_between_polls_is_opened_again_within_a_poll() {
    for_each_server(async |server| {
        let mut client = with_streams(&server).await;
        let exporter = watching(&server.url()).await;
        let before = until_metrics(&exporter, "both", |metrics| metrics.contains_key(&up("b"))).await;
        let closed: i64 = client.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
        assert!(closed >= 1);
        until_within(RECOVERY, &exporter, "more polls", |metrics| {
            assert!(metrics.contains_key(&up("b")), "the last report bridges it");
            is_up(metrics) && metrics[&polls("ok")] >= before[&polls("ok")] + 3.0
        })
        .await;
        assert_logged(&exporter, "connected target_name", 1).await;
    })
    .await;
}
