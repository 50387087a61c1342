//! A cluster of servers on loopback: three masters, and replicas if a test wants them.

use std::time::Duration;

use super::client::RedisClient;
use super::server::{Server, free_port};
use super::servers::Program;
use super::wait::{wait_for, wait_until};

/// Time limit for the nodes to agree.
const DEADLINE: Duration = Duration::from_secs(60);
const SLOTS: u16 = 16_384;

/// Servers of a cluster. The first three own the slots, a third each.
#[derive(Debug)]
pub struct Cluster {
    /// Masters, then their replicas in the same order.
    pub nodes: Vec<Server>,
    /// TLS ports, in the same order; empty without TLS.
    secured: Vec<u16>,
}

impl Cluster {
    /// Starts three masters, and a replica of each if `replicas` is 3. `args` are passed to each server.
    pub async fn start(program: &'static Program, replicas: usize, args: &[&str]) -> Self {
        Self::start_each(program, replicas, |_| args.iter().map(|arg| (*arg).to_owned()).collect(), &[]).await
    }

    /// Starts a cluster whose nodes use TLS among themselves and announce their TLS port to clients. They also have a
    /// plain port, for the test only. `args` must contain their certificates.
    pub async fn start_secured(program: &'static Program, replicas: usize, args: &[&str]) -> Self {
        let ports: Vec<u16> = (0..3 + replicas).map(|_| free_port()).collect();
        let of_node = |at: usize| {
            let port = ports[at].to_string();
            let own = ["--tls-port", &port, "--tls-cluster", "yes", "--tls-replication", "yes"];
            own.iter().chain(args).map(|arg| (*arg).to_owned()).collect()
        };
        Self::start_each(program, replicas, of_node, &ports).await
    }

    async fn start_each(
        program: &'static Program,
        replicas: usize,
        args: impl Fn(usize) -> Vec<String>,
        secured: &[u16],
    ) -> Self {
        let mut nodes = Vec::new();
        for at in 0..3 + replicas {
            let args = args(at);
            let args: Vec<&str> = args.iter().map(String::as_str).collect();
            // The cluster bus port; before 7.0 it is the client port plus 10,000.
            let bus = free_port().to_string();
            let own: [&str; 8] = [
                "--cluster-enabled",
                "yes",
                "--cluster-require-full-coverage",
                "no",
                "--cluster-node-timeout",
                "2000",
                "--cluster-port",
                &bus,
            ];
            let own = if program.version < (7, 0, 0) { &own[..6] } else { &own };
            nodes.push(Server::start(program, &[own, &args].concat()).await);
        }
        let cluster = Self { nodes, secured: secured.to_vec() };
        cluster.assign_slots().await;
        cluster.join_nodes(replicas).await;
        cluster
    }

    async fn assign_slots(&self) {
        let third = SLOTS / 3 + 1;
        for (at, node) in (0_u16..).zip(&self.nodes[..3]) {
            let slots = at * third..SLOTS.min((at + 1) * third);
            let slots: Vec<String> = slots.map(|slot| slot.to_string()).collect();
            let words = ["CLUSTER", "ADDSLOTS"].into_iter().chain(slots.iter().map(String::as_str));
            node.command::<()>(&words.collect::<Vec<_>>()).await;
        }
    }

    async fn join_nodes(&self, replicas: usize) {
        for node in &self.nodes[1..] {
            let (port, bus) = (node.port().to_string(), bus_port(node).await);
            self.nodes[0].command::<()>(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await;
        }
        for node in &self.nodes {
            wait_until(DEADLINE, "the nodes know each other", async || {
                let info: String = node.command(&["CLUSTER", "INFO"]).await;
                let all = format!("cluster_known_nodes:{}", self.nodes.len());
                info.contains("cluster_slots_assigned:16384") && info.contains(&all)
            })
            .await;
        }
        for (master, replica) in self.nodes.iter().zip(&self.nodes[3..3 + replicas]) {
            let id: String = master.command(&["CLUSTER", "MYID"]).await;
            replica.command::<()>(&["CLUSTER", "REPLICATE", &id]).await;
        }
        for node in &self.nodes {
            wait_until(DEADLINE, "the cluster works", async || {
                let info: String = node.command(&["CLUSTER", "INFO"]).await;
                info.contains("cluster_state:ok")
            })
            .await;
        }
        for replica in &self.nodes[3..3 + replicas] {
            wait_until(DEADLINE, "the replica follows", async || {
                let info: String = replica.command(&["INFO", "replication"]).await;
                info.contains("master_link_status:up")
            })
            .await;
        }
    }

    /// Returns host and port of a node, as the nodes announce them to clients.
    pub fn address(&self, at: usize) -> String {
        format!("127.0.0.1:{}", self.port(at))
    }

    fn port(&self, at: usize) -> u16 {
        self.secured.get(at).copied().unwrap_or_else(|| self.nodes[at].port())
    }

    pub async fn slot(&self, key: &str) -> u16 {
        self.nodes[0].command(&["CLUSTER", "KEYSLOT", key]).await
    }

    /// Returns the index of the master that owned the slot at the start.
    pub fn first_owner(slot: u16) -> usize {
        usize::from(slot / (SLOTS / 3 + 1))
    }

    /// Sends commands to the master that owned the key at the start, with `KEY` replaced by the key.
    pub async fn run(&self, key: &str, lines: &str) {
        let owner = Self::first_owner(self.slot(key).await);
        RedisClient::to(&self.nodes[owner]).await.run(&lines.replace("KEY", key)).await;
    }

    /// Begins to migrate a slot. Until [`end_move`](Self::end_move), its keys may be on either node.
    pub async fn begin_to_move(&self, slot: u16, from: usize, to: usize) {
        let [source, target] = [&self.nodes[from], &self.nodes[to]];
        let ids = [
            source.command::<String>(&["CLUSTER", "MYID"]).await,
            target.command(&["CLUSTER", "MYID"]).await,
        ];
        let slot = slot.to_string();
        target.command::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &ids[0]]).await;
        source.command::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &ids[1]]).await;
    }

    /// Migrates a key of a slot that is being moved.
    pub async fn migrate(&self, key: &str, from: usize, to: usize) {
        let port = self.port(to).to_string();
        let words = ["MIGRATE", "127.0.0.1", &port, key, "0", "5000"];
        self.nodes[from].command::<redis::Value>(&words).await;
    }

    /// Ends the migration of a slot: assigns it to its new owner on all masters.
    pub async fn end_move(&self, slot: u16, to: usize) {
        let id: String = self.nodes[to].command(&["CLUSTER", "MYID"]).await;
        let slot = slot.to_string();
        for node in [to].into_iter().chain((0..3).filter(|at| *at != to)) {
            self.nodes[node].command::<()>(&["CLUSTER", "SETSLOT", &slot, "NODE", &id]).await;
        }
    }
}

async fn bus_port(node: &Server) -> String {
    wait_for(DEADLINE, "the node reports its bus port", async || {
        let nodes: String = node.command(&["CLUSTER", "NODES"]).await;
        let line = nodes.lines().find(|line| line.contains("myself")).ok_or("no line of its own")?;
        let address = line.split(' ').nth(1).ok_or("no address")?;
        let bus = address.split('@').nth(1).ok_or("no port")?;
        Ok::<_, &str>(bus.split(',').next().unwrap_or_default().to_owned())
    })
    .await
}
