//! Logins and commands that are refused.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use crate::support::client::RedisClient;
use crate::support::config::{ConfigFile, QUICK, serving};
use crate::support::metrics::{Metrics, named};
use crate::support::series::{errors, group, polls, up};
use crate::support::server::Server;
use crate::support::servers::{for_each_program, for_each_server, newest};
use crate::support::wait::wait_until;
use crate::support::watch::{
    RECOVERY, SOON, assert_logged, assert_logged_on_change, is_up, keeps_failing, of_streams, until_metrics,
    until_within, watching, with_streams,
};

#[tokio::test]
async fn a_password_that_is_refused_is_read_again_until_it_is_right() {
    for_each_program(async |program| {
        let server = Server::start(program, &["--requirepass", "right"]).await;
        RedisClient::at(&format!("redis://:right@{}", server.address())).await.run("XADD a * f v").await;
        let config = ConfigFile::new(&format!(
            "{QUICK}targets: [{{name: t, url: '{}', password_file: password}}]",
            server.url()
        ));
        config.put("password", "wrong\n");
        let exporter = config.serve().serving().await;
        keeps_failing(&exporter, "auth").await;
        config.put("password", "right\n");
        until_within(RECOVERY, &exporter, "the stream", |metrics| metrics.contains_key(&up("a"))).await;
        assert_logged_on_change(&exporter, "refuses the login: WRONGPASS").await;
    })
    .await;
}

#[tokio::test]
async fn a_password_file_is_read_when_a_connection_is_made_and_not_while_one_lasts() {
    let server = Server::start(newest(), &["--requirepass", "right"]).await;
    let mut client = RedisClient::at(&format!("redis://:right@{}", server.address())).await;
    // Time enough that no loaded machine makes a poll end the connection.
    let config = ConfigFile::new(&format!(
        "poll: {{interval: 2s, timeout: 1900ms}}\ntargets: [{{name: t, url: '{}', password_file: password}}]",
        server.url()
    ));
    let password = config.put("password", "right\n");
    let exporter = config.serve().serving().await;
    until_metrics(&exporter, "a poll", is_up).await;
    fs::remove_file(password).expect("it was there");
    let polled = exporter.metrics().await[&polls("ok")];
    until_metrics(&exporter, "more polls", |metrics| metrics[&polls("ok")] >= polled + 2.0).await;
    let closed: i64 = client.ask(&["CLIENT", "KILL", "TYPE", "normal"]).await;
    assert!(closed >= 1);
    keeps_failing(&exporter, "password_file").await;
    assert_logged(&exporter, "password file: cannot read ", 1).await;
    config.put("password", "right\n");
    until_within(Duration::from_secs(2) + RECOVERY, &exporter, "a poll again", is_up).await;
}

#[tokio::test]
async fn a_password_that_is_needed_or_not_needed_is_said() {
    for_each_program(async |program| {
        let closed = Server::start(program, &["--requirepass", "right"]).await;
        let exporter = watching(&closed.url()).await;
        keeps_failing(&exporter, "auth").await;
        let mut client = RedisClient::at(&format!("redis://:right@{}", closed.address())).await;
        client.run("CONFIG SET requirepass secret").await;
        assert_logged(&exporter, "refuses the login: it wants a password, and none is configured", 1).await;

        let open = Server::start(program, &[]).await;
        let exporter = watching(&format!("redis://:superfluous@{}", open.address())).await;
        keeps_failing(&exporter, "auth").await;
        assert_logged(&exporter, "refuses the login", 1).await;
        assert!(!exporter.stderr().contains("superfluous"), "{}", exporter.stderr());
    })
    .await;
}

#[tokio::test]
async fn a_database_that_is_not_there_or_not_allowed_is_said() {
    for_each_server(async |server| {
        let exporter = watching(&format!("{}/99", server.url())).await;
        keeps_failing(&exporter, "server").await;
        assert_logged(&exporter, "answers ERR", 1).await;
        assert_logged(&exporter, "DB index is out of range", 1).await;

        RedisClient::to(&server).await.run("ACL SETUSER mon reset on >pw ~* +xinfo +scan +time").await;
        let exporter = watching(&format!("redis://mon:pw@{}/1", server.address())).await;
        keeps_failing(&exporter, "denied").await;
        assert_logged(&exporter, "answers NOPERM", 1).await;
    })
    .await;
}

/// A user `mon`, and the URL to log in with.
async fn with_user(server: &Server, client: &mut RedisClient, permissions: &str) -> String {
    client.run(&format!("ACL SETUSER mon reset on >pw {permissions}")).await;
    format!("redis://mon:pw@{}", server.address())
}

#[tokio::test]
async fn a_user_who_may_not_use_xinfo_sees_streams_that_are_down() {
    for_each_server(async |server| {
        let mut client = with_streams(&server).await;
        let url = with_user(&server, &mut client, "~* +xpending +xrange +scan +time").await;
        let exporter = watching(&url).await;
        let denied =
            until_metrics(&exporter, "several polls", |metrics| metrics[&errors("denied")] >= 8.0).await;
        assert_eq!((denied[&up("a")], denied[&up("b")]), (0.0, 0.0));
        assert_eq!(of_streams(&denied), BTreeSet::from([up("a").as_str(), &up("b")]));
        assert_logged(&exporter, "stream cannot be read", 2).await;
        assert_logged(&exporter, r#"reason="denied""#, 2).await;

        client.run("ACL SETUSER mon +xinfo").await;
        let found = until_within(RECOVERY, &exporter, "both streams", |metrics| {
            metrics.get(&up("a")) == Some(&1.0) && metrics.get(&up("b")) == Some(&1.0)
        })
        .await;
        assert_eq!(found[&group("redis_stream_group_lag", "b", "g")], 2.0);
        assert_logged(&exporter, "stream can be read again", 2).await;
    })
    .await;
}

#[tokio::test]
async fn one_key_that_is_denied_does_not_spoil_the_others() {
    for_each_server(async |server| {
        let mut client = with_streams(&server).await;
        let url = with_user(&server, &mut client, "~b +xinfo +xpending +xrange +scan +time").await;
        let exporter = watching(&url).await;
        let found = until_metrics(&exporter, "several polls", |metrics| {
            is_up(metrics) && metrics[&errors("denied")] >= 4.0
        })
        .await;
        assert_eq!((found[&up("a")], found[&up("b")]), (0.0, 1.0));
        assert_eq!(found[&group("redis_stream_group_lag", "b", "g")], 2.0);
        assert_logged(&exporter, "stream cannot be read", 1).await;
        assert_logged(&exporter, "stream=a", 1).await;
    })
    .await;
}

#[tokio::test]
async fn without_permission_for_scan_named_streams_are_polled_all_the_same() {
    for_each_server(async |server| {
        let mut client = with_streams(&server).await;
        let url = with_user(&server, &mut client, "~* +xinfo +xpending +xrange +time").await;
        let exporter = serving(&format!(
            "{QUICK}targets: [{{name: t, url: '{url}', streams: [{{key: a}}, {{key: '*'}}]}}]"
        ))
        .await;
        let found = until_metrics(&exporter, "several polls", |metrics| {
            is_up(metrics) && metrics[&errors("denied")] >= 4.0 && metrics[&polls("ok")] >= 4.0
        })
        .await;
        assert_eq!((found[&up("a")], found.get(&up("b"))), (1.0, None));
        assert_logged(&exporter, "cannot look for streams by SCAN", 1).await;

        client.run("ACL SETUSER mon +scan").await;
        until_within(RECOVERY, &exporter, "the other stream", |metrics| metrics.contains_key(&up("b"))).await;
        assert_logged(&exporter, "SCAN works again", 1).await;
    })
    .await;
}

#[tokio::test]
async fn questions_that_are_denied_leave_out_their_answers_only() {
    for_each_server(async |server| {
        let mut client = with_streams(&server).await;
        client.run("XREADGROUP GROUP g c COUNT 1 STREAMS b >\nXADD b * f v").await;
        let url = with_user(&server, &mut client, "~* +xinfo|stream +xinfo|groups +scan").await;
        let exporter = watching(&url).await;
        let found = until_metrics(&exporter, "several polls", |metrics| metrics[&polls("ok")] >= 4.0).await;
        assert!(found[&errors("denied")] >= 8.0, "XPENDING, XINFO CONSUMERS, XRANGE and TIME: {found:#?}");
        let of_b = |metric: &str| found.get(&group(metric, "b", "g")).copied();
        assert_eq!(of_b("redis_stream_group_messages_pending"), Some(1.0));
        assert_eq!(of_b("redis_stream_group_lag"), Some(2.0), "it stands at the first entry");
        assert_eq!(of_b("redis_stream_group_consumers"), Some(1.0));
        assert_eq!(of_b("redis_stream_group_oldest_pending_age_seconds"), None);
        assert_eq!(of_b("redis_stream_group_lag_seconds"), None, "it needs XRANGE");
        assert_eq!(named(&found, "redis_stream_group_consumer_idle_seconds"), Metrics::new());
    })
    .await;
}

#[tokio::test]
async fn a_server_without_hello_is_polled_without_a_check_of_its_role() {
    for_each_program(async |program| {
        let server = Server::start(program, &["--rename-command", "HELLO", ""]).await;
        with_streams(&server).await;
        let exporter = watching(&server.url()).await;
        until_metrics(&exporter, "both", |metrics| is_up(metrics) && metrics.contains_key(&up("b"))).await;
        wait_until(SOON, "more polls", async || exporter.metrics().await[&polls("ok")] >= 3.0).await;
        assert_logged(&exporter, "cannot", 0).await;
    })
    .await;
}

#[tokio::test]
async fn check_says_in_a_word_what_a_server_refuses() {
    for_each_program(async |program| {
        let server = Server::start(program, &["--rename-command", "HELLO", ""]).await;
        let mut client = with_streams(&server).await;
        let url = with_user(&server, &mut client, "~b +xinfo +xpending +xrange").await;
        let config = ConfigFile::new(&format!(
            "targets: [{{name: t, url: '{url}', streams: [{{key: a}}, {{key: 'b*'}}, {{key: b}}]}}]"
        ));
        let checked = config.command("check").run().await;
        assert_eq!(checked.code, Some(0), "{}", checked.stderr);
        for said in [
            "HELLO is refused: version and role are not known",
            "cannot look for streams by SCAN",
            "TIME is refused: ages use this machine's clock",
            "denied: 1 (a)",
        ] {
            assert!(checked.stdout.contains(said), "{said}: {}", checked.stdout);
        }

        let server = Server::start(program, &["--rename-command", "XINFO", "XWHAT"]).await;
        RedisClient::to(&server).await.run("XADD a * f v").await;
        let config = ConfigFile::new(&format!("targets: [{{name: t, url: '{}'}}]", server.url()));
        let checked = config.command("check").run().await;
        assert!(checked.stdout.contains("refused (is XINFO renamed?): 1 (a)"), "{}", checked.stdout);
    })
    .await;
}
