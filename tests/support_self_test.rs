//! Tests of the support code: each server starts, pauses and restarts, and replies are parsed correctly.

use std::time::Duration;

mod support;

use support::client::RedisClient;
use support::config::{QUICK, serving};
use support::metrics;
use support::program::listening_address;
use support::series;
use support::server::{Server, connect};
use support::servers::{self, Program, ServerKind, for_each_program, for_each_server};
use support::wait::{wait_for, wait_until};
use support::watch::until_metrics;

const SOON: Duration = Duration::from_secs(10);

#[tokio::test]
async fn every_server_answers_and_is_of_the_version_it_claims() {
    for_each_server(async |server| {
        assert_eq!(server.command::<String>(&["PING"]).await, "PONG");
        let info: String = server.command(&["INFO", "server"]).await;
        let key = match server.program().kind {
            ServerKind::Redis => "redis_version:",
            ServerKind::Valkey => "valkey_version:",
        };
        let version = info.lines().find_map(|line| line.strip_prefix(key)).expect("INFO tells the version");
        assert!(server.program().name.ends_with(&format!("-{version}")), "INFO tells {version}");
    })
    .await;
}

#[tokio::test]
async fn a_paused_server_keeps_connections_and_answers_when_it_is_resumed() {
    for_each_server(async |server| {
        let mut connection = server.connection().await;
        server.pause();
        connection.set_response_timeout(Duration::from_millis(100));
        let error =
            redis::cmd("PING").query_async::<String>(&mut connection).await.expect_err("it is paused");
        assert!(error.is_timeout(), "{error}");
        server.resume();
        connection.set_response_timeout(SOON);
        assert_eq!(
            redis::cmd("PING").query_async::<String>(&mut connection).await.expect("it goes on"),
            "PONG"
        );
    })
    .await;
}

#[tokio::test]
async fn a_server_that_was_stopped_or_killed_comes_back_on_its_port_with_its_data() {
    for_each_program(async |program| {
        let mut server = Server::start(program, &["--appendonly", "yes", "--appendfsync", "always"]).await;
        let (port, pid) = (server.port(), server.pid());
        server.command::<String>(&["XADD", "s", "1-1", "f", "v"]).await;
        server.stop().await;
        assert!(server.try_command::<String>(&["PING"]).await.is_err(), "nobody listens any more");
        server.restart().await;
        assert_eq!(server.command::<i64>(&["XLEN", "s"]).await, 1);
        server.kill();
        server.restart().await;
        assert_eq!(server.command::<i64>(&["XLEN", "s"]).await, 1);
        server.pause();
        server.restart().await;
        assert_eq!(server.command::<i64>(&["XLEN", "s"]).await, 1);
        assert_eq!(server.port(), port);
        assert_ne!(server.pid(), pid);
    })
    .await;
}

#[tokio::test]
async fn a_server_may_want_a_password() {
    for_each_program(async |program| {
        let server = Server::start(program, &["--requirepass", "secret"]).await;
        let error = server.try_command::<String>(&["PING"]).await.expect_err("there is no password");
        assert_eq!(error.code(), Some("NOAUTH"), "{error}");
        let url = format!("redis://:secret@{}", server.address());
        let mut connection = connect(&url).await.expect("the password is right");
        assert_eq!(
            redis::cmd("PING").query_async::<String>(&mut connection).await.expect("it answers"),
            "PONG"
        );
    })
    .await;
}

#[tokio::test]
#[should_panic(expected = "failed on redis-")]
async fn a_failure_names_the_server() {
    let redis = servers::all().iter().find(|program| program.kind == ServerKind::Redis);
    let name = &redis.expect("a Redis is there").name;
    for_each_program(async |program| assert_ne!(&program.name, name)).await;
}

#[tokio::test]
#[should_panic(expected = "the end of its log")]
async fn a_server_that_does_not_start_shows_its_log() {
    Server::start(servers::newest(), &["--no-such-directive", "yes"]).await;
}

#[tokio::test]
#[should_panic(expected = "pigs fly")]
async fn waiting_in_vain_tells_what_for() {
    wait_until(Duration::from_millis(50), "pigs fly", async || false).await;
}

#[tokio::test]
async fn waiting_ends_with_the_first_value() {
    let mut attempts = 0;
    let value = wait_for(SOON, "the third attempt", async || {
        attempts += 1;
        if attempts == 3 { Ok(attempts) } else { Err("too early") }
    });
    assert_eq!(value.await, 3);
}

#[test]
fn a_version_is_read_from_what_the_server_prints() {
    let redis = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae4d7c971a948f0\n";
    assert_eq!(servers::parse_version(redis), Some((ServerKind::Redis, (7, 0, 15))));
    let valkey = "Valkey server v=9.1.2 sha=00000000:1 malloc=libc bits=64 build=1536df31c0395150\n";
    assert_eq!(servers::parse_version(valkey), Some((ServerKind::Valkey, (9, 1, 2))));
    assert_eq!(servers::parse_version("redis-cli 7.0.15\n"), None);
}

#[test]
fn a_required_server_that_is_not_there_is_missing() {
    let found = [Program {
        name: "redis-7.0.15".to_owned(),
        path: "redis-server".into(),
        kind: ServerKind::Redis,
        version: (7, 0, 15),
    }];
    assert_eq!(servers::missing("", &found), Vec::<&str>::new());
    assert_eq!(servers::missing("redis-7.0", &found), Vec::<&str>::new());
    assert_eq!(servers::missing("redis-7.0,redis-7,valkey-8.1", &found), ["valkey-8.1"]);
    assert_eq!(servers::missing("redis-7.0.1", &found), ["redis-7.0.1"]);
}

#[test]
fn the_listening_address_is_found_in_both_forms_of_the_log() {
    let text =
        "2026-01-01T00:00:00Z  INFO starting\n2026-01-01T00:00:00Z  INFO listening address=127.0.0.1:4242\n";
    let json = r#"{"level":"INFO","fields":{"message":"listening","address":"[::1]:4242"},"target":"http"}"#;
    assert_eq!(listening_address(text), "127.0.0.1:4242".parse().ok());
    assert_eq!(listening_address(json), "[::1]:4242".parse().ok());
    assert_eq!(listening_address("2026-01-01T00:00:00Z  INFO starting address=none\n"), None);
}

#[test]
fn metrics_are_read_with_spaces_and_braces_in_their_labels() {
    let text = "# HELP a A.\n# TYPE a gauge\na{k=\"x } 1\"} 2\na_total 3e5\na 4\nb +Inf\n";
    let all = metrics::parse(text);
    assert_eq!(all.get("a{k=\"x } 1\"}"), Some(&2.0));
    assert_eq!(all.get("b"), Some(&f64::INFINITY));
    assert_eq!(metrics::named(&all, "a").len(), 2);
}

#[test]
#[should_panic(expected = "a is there twice")]
fn a_series_that_is_there_twice_is_a_failure() {
    metrics::parse("a 1\na 2\n");
}

#[tokio::test]
async fn a_deleted_entry_is_not_part_of_the_lag() {
    for_each_server(async |server| {
        let mut client = RedisClient::to(&server).await;
        client
            .run("XADD orders 1-0 n 1\nXADD orders 2-0 n 2\nXGROUP CREATE orders mail 0\nXDEL orders 1-0")
            .await;
        let exporter = serving(&format!("{QUICK}targets: [{{name: t, url: '{}'}}]", server.url())).await;
        let lag = series::group("redis_stream_group_lag", "orders", "mail");
        until_metrics(&exporter, "the lag is 1", |metrics| metrics.get(&lag) == Some(&1.0)).await;
        exporter.stop().await;
    })
    .await;
}
