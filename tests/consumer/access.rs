//! The consumer with the permissions that docs/consumer.md lists.

use redis_stream_consumer::connect_options::ConnectOptions;
use redis_stream_consumer::consume::ConsumerConfig;

use crate::member::{DEADLINE, Recorder, Running, add, consumers, member, pending};
use crate::support::client::RedisClient;
use crate::support::server::Server;
use crate::support::servers::for_each_server;
use crate::support::wait::wait_until;

const DOCUMENT: &str = include_str!("../../docs/consumer.md");

/// Returns the permissions in the document.
fn grants() -> Vec<&'static str> {
    let (_, after) = DOCUMENT.split_once("A consumer needs these permissions").expect("it lists them");
    let list = after.split('`').nth(1).expect("a list between backticks");
    list.split_whitespace().collect()
}

async fn user(server: &Server, grants: &[&str]) {
    let fixed = ["ACL", "SETUSER", "worker", "on", ">secret", "~orders", "~orders:dead"];
    server.command::<()>(&[&fixed[..], grants].concat()).await;
}

#[tokio::test]
async fn what_the_documents_grant_is_enough_for_everything() {
    for_each_server(async |server| {
        // Subcommands can be granted since Redis 7.0; before, the whole command is.
        let is_old = server.program().version < (7, 0, 0);
        let grants = grants()
            .into_iter()
            .map(|grant| if is_old { grant.split('|').next().expect("a word") } else { grant });
        let mut grants: Vec<_> = grants.collect();
        if RedisClient::to(&server).await.knows("XNACK").await {
            grants.push("+xnack");
        }
        user(&server, &grants).await;
        add(&server, 1, 5).await;
        let url = format!("redis://worker:secret@{}", server.address());
        let connect = ConnectOptions::new(&url, None, None).expect("the URL is right");
        let config = ConsumerConfig { connect, max_deliveries: 2, ..member(&server, "one") };
        let running = Running::start(config, Recorder { poison: vec![3], ..Recorder::default() });
        wait_until(DEADLINE, "it is buried", async || {
            server.command::<u64>(&["XLEN", "orders:dead"]).await == 1
        })
        .await;
        let mut connection = server.connection().await;
        wait_until(DEADLINE, "nothing is pending", async || pending(&mut connection).await == Some(0)).await;
        assert_eq!(running.stop().await.1.acknowledged, 4);
        assert_eq!(consumers(&mut connection).await, [] as [&str; 0]);
        let denied: Vec<String> = server
            .command::<Vec<Vec<redis::Value>>>(&["ACL", "LOG"])
            .await
            .into_iter()
            .filter_map(|entry| entry.get(7).cloned().and_then(|what| redis::from_redis_value(what).ok()))
            .filter(|what: &String| what != "time")
            .collect();
        assert_eq!(denied, [] as [String; 0]);
    })
    .await;
}
