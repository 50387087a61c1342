//! Unix sockets, and passwords that change while their connection lives.

use crate::support::client::RedisClient;
use crate::support::config::{ConfigFile, QUICK};
use crate::support::program::Streamgauge;
use crate::support::series::{errors, group, polls, up};
use crate::support::server::Server;
use crate::support::servers::for_each_program;
use crate::support::watch::{
    RECOVERY, assert_logged, is_up, until_metrics, until_within, watching, with_streams,
};

#[tokio::test]
async fn a_unix_socket_is_polled_like_any_server() {
    for_each_program(async |program| {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("redis.sock").display().to_string();
        let mut server = Server::start(program, &["--unixsocket", &path]).await;
        let mut client = with_streams(&server).await;
        let exporter = watching(&format!("unix://{path}")).await;
        let found = until_metrics(&exporter, "both streams", |metrics| metrics.contains_key(&up("b"))).await;
        assert_eq!(found[&group("redis_stream_group_lag", "b", "g")], 2.0);
        assert_eq!(found[&format!(r#"streamgauge_node_up{{node="{path}",target="t"}}"#)], 1.0);
        client.run("XADD b * f v").await;
        drop(client);
        let consumed = Streamgauge::command("produce")
            .args([
                "--redis-url",
                &format!("unix://{path}?db=1"),
                "--stream",
                "s",
                "--count",
                "3",
                "--rate",
                "0",
            ])
            .run()
            .await;
        assert_eq!(consumed.code, Some(0), "{}", consumed.stderr);
        assert_eq!(RedisClient::at(&format!("{}/1", server.url())).await.ask::<u64>(&["XLEN", "s"]).await, 3);
        server.stop().await;
        until_metrics(&exporter, "it is gone", |metrics| metrics[&errors("connect")] > 0.0).await;
        assert_logged(&exporter, &format!("cannot connect to {path}"), 1).await;
        server.restart().await;
        until_within(RECOVERY, &exporter, "it is back", is_up).await;
    })
    .await;
}

#[tokio::test]
async fn a_rotated_password_touches_no_living_connection_and_the_next_uses_the_new_one() {
    for_each_program(async |program| {
        let server = Server::start(program, &[]).await;
        let mut client = with_streams(&server).await;
        let permissions = "~* +xinfo +xpending +xrange +scan +time";
        client.run(&format!("ACL SETUSER mon reset on >old {permissions}")).await;
        let config = ConfigFile::new(&format!(
            "{QUICK}targets: [{{name: t, url: '{}', username: mon, password_file: password}}]",
            server.url()
        ));
        config.put("password", "old\n");
        let exporter = config.serve().serving().await;
        until_metrics(&exporter, "both streams", |metrics| metrics.contains_key(&up("b"))).await;
        // As it is rotated: both are valid, then the file is changed, then the old one is no more.
        client.run("ACL SETUSER mon >new").await;
        config.put("password", "new\n");
        client.run("ACL SETUSER mon <old").await;
        let before = exporter.metrics().await[&polls("ok")];
        let after =
            until_metrics(&exporter, "more polls", |metrics| metrics[&polls("ok")] >= before + 3.0).await;
        assert_eq!(after[&errors("auth")], 0.0);
        assert_logged(&exporter, "connected target_name", 1).await;
        // A user who is deleted loses the connection; one who is there again is logged in with what the file holds.
        client.run("ACL DELUSER mon").await;
        until_metrics(&exporter, "the user is gone", |metrics| {
            !is_up(metrics) && metrics[&errors("auth")] > 0.0
        })
        .await;
        client.run(&format!("ACL SETUSER mon reset on >newest {permissions}")).await;
        config.put("password", "newest\n");
        until_within(RECOVERY, &exporter, "it is polled again", is_up).await;
        assert!(!exporter.stderr().contains("newest"), "{}", exporter.stderr());
    })
    .await;
}
