//! Servers that name a host of an attacker as one of their nodes.

use std::net::SocketAddr;

use crate::support::config::{ConfigFile, ONCE, QUICK};
use crate::support::fake_server::{Behavior, FakeServer, Lie};
use crate::support::series::{TARGET_UP, errors};
use crate::support::server::free_port;
use crate::support::watch::{RECOVERY, until_within};

/// A listener on another address than that of the servers.
async fn stranger() -> FakeServer {
    FakeServer::on(SocketAddr::from(([127, 0, 0, 2], free_port())), Behavior::NoReply).await
}

fn leaked(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

/// A server that replies to one command with this.
async fn lying(to: &'static str, reply: String) -> FakeServer {
    FakeServer::new(Behavior::Lie(Lie { to, head: leaked(reply), part: "", count: 0 })).await
}

/// Servers that lead to a stranger, each with its target.
async fn leading_to(stranger: SocketAddr) -> Vec<(FakeServer, String)> {
    let (host, port) = (stranger.ip().to_string(), stranger.port());
    let node = format!("${}\r\n{host}\r\n", host.len());
    let slots = format!("*1\r\n*3\r\n:0\r\n:16383\r\n*3\r\n{node}:{port}\r\n$1\r\nn\r\n");
    let master = format!("*2\r\n{node}${}\r\n{port}\r\n", port.to_string().len());
    let login = "username: mon, password: hunter2";
    let mut servers = Vec::new();
    for (command, reply) in [
        ("CLUSTER SLOTS", slots),
        ("XINFO STREAM", format!("-MOVED 105 {stranger}\r\n")),
        ("XINFO STREAM", format!("-ASK 105 {stranger}\r\n")),
    ] {
        let server = lying(command, reply).await;
        let target = format!("topology: cluster, url: '{}', streams: [orders], {login}", server.url());
        servers.push((server, target));
    }
    let sentinel = lying("SENTINEL", master).await;
    let sentinels = format!("sentinel: {{master_name: m, urls: ['{}']}}", sentinel.url());
    servers.push((sentinel, format!("topology: sentinel, {sentinels}, {login}")));
    servers
}

#[tokio::test]
async fn a_node_outside_the_allowed_ones_is_not_connected_to() {
    let stranger = stranger().await;
    let node = stranger.address;
    let said =
        format!("{node} is not in allowed_nodes, so it is not connected to; add its host or network there");
    for (_server, target) in leading_to(node).await {
        let config = |poll: &str, allowed: &str| {
            ConfigFile::new(&format!("{poll}targets: [{{name: t, {target}, allowed_nodes: [{allowed}]}}]\n"))
        };
        let before = stranger.connections();
        let others = "127.0.0.1, '*.internal', '127-0-0-2'";
        let checked = config(ONCE, others).command("check").args(["--strict"]).run().await;
        assert_eq!(checked.code, Some(1), "{target}: {}{}", checked.stdout, checked.stderr);
        assert!(checked.stdout.contains(&said), "{target}: {}{}", checked.stdout, checked.stderr);
        let exporter = config(QUICK, others).serve().serving().await;
        let found = until_within(RECOVERY, &exporter, "it is counted", |metrics| {
            metrics[&errors("node_not_allowed")] >= 2.0
        })
        .await;
        assert_eq!(found[TARGET_UP], 0.0, "{target}");
        for path in ["/", "/api/v1/groups"] {
            let shown = exporter.get(path).await.text();
            assert!(shown.contains(&said), "{target} {path}: {shown}");
        }
        let finished = exporter.stop().await;
        assert!(finished.stderr.contains(&said), "{target}: {}", finished.stderr);
        assert_eq!(stranger.connections(), before, "{target}");

        let exporter = config(QUICK, "127.0.0.0/24").serve().serving().await;
        until_within(RECOVERY, &exporter, "it is connected to", |_| stranger.connections() > before).await;
        exporter.stop().await;
    }
}
