//! A running sentinel: private, on loopback; killed on drop.

use std::fs;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::client::RedisClient;
use super::server::{Server, free_port};
use super::servers::Program;
use super::wait::wait_until;
use crate::support::server::connect;

/// Name of the master in the sentinels' configuration.
pub const MASTER: &str = "mymaster";
const QUORUM: u32 = 2;
const DEADLINE: Duration = Duration::from_secs(30);

/// A sentinel that watches a master.
#[derive(Debug)]
pub struct Sentinel {
    port: u16,
    child: Child,
    _folder: TempDir,
}

impl Sentinel {
    /// Starts a sentinel that watches this master; returns when it replies.
    pub async fn start(program: &'static Program, master: &Server) -> Self {
        let (folder, port) = (tempfile::tempdir().unwrap(), free_port());
        let path = folder.path().join("sentinel.conf");
        let config = format!(
            "port {port}\nbind 127.0.0.1\nsentinel monitor {MASTER} 127.0.0.1 {} {QUORUM}\n\
             sentinel down-after-milliseconds {MASTER} 1500\nsentinel failover-timeout {MASTER} 4000\n",
            master.port()
        );
        fs::write(&path, config).unwrap();
        let child = Command::new(&program.path)
            .args([path.as_os_str(), "--sentinel".as_ref()])
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let sentinel = Self { port, child, _folder: folder };
        wait_until(DEADLINE, "the sentinel answers", async || connect(&sentinel.url()).await.is_ok()).await;
        sentinel
    }

    /// `redis://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub async fn client(&self) -> RedisClient {
        RedisClient::at(&self.url()).await
    }

    /// Returns the master's port according to the sentinel.
    pub async fn master(&self) -> u16 {
        let words = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER];
        let (_, port): (String, u16) = self.client().await.ask(&words).await;
        port
    }

    /// Waits until it knows this number of other sentinels and of replicas.
    pub async fn knows(&self, sentinels: usize, replicas: usize) {
        let mut client = self.client().await;
        wait_until(DEADLINE, "the sentinel knows the others", async || {
            let others: Vec<redis::Value> = client.ask(&["SENTINEL", "SENTINELS", MASTER]).await;
            let found: Vec<redis::Value> = client.ask(&["SENTINEL", "REPLICAS", MASTER]).await;
            (others.len(), found.len()) == (sentinels, replicas)
        })
        .await;
    }

    /// Stops the process with SIGSTOP: it keeps its state and does not reply.
    pub fn pause(&self) {
        kill_process(Pid::from_child(&self.child), Signal::STOP).unwrap();
    }
}

impl Drop for Sentinel {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
