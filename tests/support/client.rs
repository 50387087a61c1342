//! Sends commands to a server over one connection. A refused command fails the test.

use redis::aio::MultiplexedConnection;
use redis::{Cmd, FromRedisValue, ToRedisArgs, Value};

use super::server::{Server, connect};

#[derive(Clone, Debug)]
pub struct RedisClient(MultiplexedConnection);

impl RedisClient {
    /// Connects as the default user without a password.
    pub async fn to(server: &Server) -> Self {
        Self(server.connection().await)
    }

    /// Connects to a URL, which may hold a user, a password and a database.
    pub async fn at(url: &str) -> Self {
        Self(connect(url).await.unwrap_or_else(|error| panic!("{url}: {error}")))
    }

    /// Sends a command, part by part, and returns its reply.
    pub async fn ask<T: FromRedisValue>(&mut self, parts: &[impl ToRedisArgs]) -> T {
        let mut command = Cmd::new();
        for part in parts {
            command.arg(part);
        }
        let shown = String::from_utf8_lossy(&command.get_packed_command()).replace("\r\n", " ");
        command.query_async(&mut self.0).await.unwrap_or_else(|error| panic!("{shown}: {error}"))
    }

    /// Sends commands written as in redis-cli, one a line, without quotes.
    pub async fn run(&mut self, lines: &str) {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let parts: Vec<_> = line.split_whitespace().collect();
            let _: Value = self.ask(&parts).await;
        }
    }

    /// Returns true if the server has a command.
    pub async fn knows(&mut self, command: &str) -> bool {
        self.ask::<Vec<Value>>(&["COMMAND", "INFO", command]).await != [Value::Nil]
    }

    /// Returns how often the server was sent a command: `calls("scan")`, `calls("xinfo|consumers")`.
    pub async fn calls(&mut self, command: &str) -> u64 {
        let info: String = self.ask(&["INFO", "commandstats"]).await;
        let prefix = format!("cmdstat_{command}:calls=");
        let line = info.lines().find_map(|line| line.strip_prefix(&prefix));
        line.map_or(0, |line| {
            line.split(',').next().and_then(|calls| calls.parse().ok()).expect("calls are a number")
        })
    }
}
