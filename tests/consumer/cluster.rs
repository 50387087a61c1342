//! A cluster: the stream is on the other node, and dead letters go where it is.

use std::time::Duration;

use redis_stream_consumer::connect_options::ConnectOptions;
use redis_stream_consumer::consume::handler::Noop;
use redis_stream_consumer::consume::{self, ConsumerConfig};

use crate::member::{DEADLINE, Recorder, Running, member};
use crate::support::server::Server;
use crate::support::servers::{Program, for_each_program};
use crate::support::wait::wait_until;

const SLOTS: u16 = 16_384;

/// Two nodes, the slots split between them. Nodes talk on the port that is 10,000 higher.
async fn cluster(program: &'static Program) -> [Server; 2] {
    let args = ["--cluster-enabled", "yes", "--cluster-require-full-coverage", "no"];
    let nodes = [Server::start(program, &args).await, Server::start(program, &args).await];
    let half = SLOTS / 2;
    for (node, slots) in nodes.iter().zip([0..half, half..SLOTS]) {
        let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
        let command: Vec<&str> =
            ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str)).collect();
        node.command::<()>(&command).await;
    }
    nodes[0].command::<()>(&["CLUSTER", "MEET", "127.0.0.1", &nodes[1].port().to_string()]).await;
    for node in &nodes {
        wait_until(DEADLINE, "the nodes know each other", async || {
            let info: String = node.command(&["CLUSTER", "INFO"]).await;
            info.contains("cluster_slots_assigned:16384") && info.contains("cluster_state:ok")
        })
        .await;
    }
    nodes
}

async fn slot(node: &Server, key: &str) -> u16 {
    node.command(&["CLUSTER", "KEYSLOT", key]).await
}

#[tokio::test]
async fn a_stream_on_another_node_is_followed_and_its_dead_letters_lie_beside_it() {
    for_each_program(async |program| {
        let nodes = cluster(program).await;
        let is_second = slot(&nodes[0], "orders").await >= SLOTS / 2;
        let [owner, other] = if is_second { [&nodes[1], &nodes[0]] } else { [&nodes[0], &nodes[1]] };
        for n in ["1", "2", "3"] {
            owner.command::<()>(&["XADD", "orders", "*", "n", n]).await;
        }
        let asks_other =
            ConsumerConfig { connect: ConnectOptions::new(&other.url(), None, None).expect("a URL"), ..member(owner, "one") };
        let recorder = Recorder { poison: vec![2], ..Recorder::default() };
        let running = Running::start(ConsumerConfig { max_deliveries: 2, ..asks_other.clone() }, recorder);
        wait_until(DEADLINE, "one is buried beside the stream", async || {
            owner.command::<u64>(&["XLEN", "{orders}:dead"]).await == 1
        })
        .await;
        let (recorder, consumed) = running.stop().await;
        assert_eq!(recorder.count(), 4);
        assert_eq!((consumed.acknowledged, consumed.dead_lettered), (2, 1));

        // A key on the other node cannot be written to along with the acknowledgement.
        let mut far = String::new();
        for n in 0..100 {
            far = format!("far-{n}");
            if (slot(owner, &far).await >= SLOTS / 2) != is_second {
                break;
            }
        }
        let refused = ConsumerConfig { dead_letter: Some(far.clone().into_bytes()), ..asks_other };
        let run = consume::run(&refused, Noop, std::future::pending());
        let error = tokio::time::timeout(Duration::from_secs(20), run).await.expect("it ends").expect_err("refused");
        let said = format!(
            "dead-letter stream {far}: it is on another node of the cluster than orders: give both the same hash tag"
        );
        assert_eq!(error.to_string(), said);
    })
    .await;
}
