//! Sends commands to a server over one connection. A refused command fails the test.

use std::time::Duration;

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

    /// Sets the time of a stream's consumer back at which it last tried to read, in a copy of the stream that replaces it.
    pub async fn age_consumer(&mut self, key: &str, name: &str, by: Duration) {
        let mut dump: Vec<u8> = self.ask(&["DUMP", key]).await;
        let (now, _): (u64, u64) = self.ask(&["TIME"]).await;
        let hour = (now - 1_800) * 1_000..=(now + 1_800) * 1_000;
        let time_at = |dump: &[u8], at: usize| {
            dump.get(at..at + 8).map(|bytes| u64::from_le_bytes(bytes.try_into().expect("eight bytes")))
        };
        let mut starts = (name.len()..dump.len()).filter(|at| dump[..*at].ends_with(name.as_bytes()));
        let at = starts.find(|at| time_at(&dump, *at).is_some_and(|time| hour.contains(&time)));
        let at = at.unwrap_or_else(|| panic!("no time follows {name} in {dump:?}"));
        let time = time_at(&dump, at).expect("found") - u64::try_from(by.as_millis()).expect("small");
        dump[at..at + 8].copy_from_slice(&time.to_le_bytes());
        let end = dump.len() - 8;
        let checksum = crc64(&dump[..end]);
        dump[end..].copy_from_slice(&checksum.to_le_bytes());
        let _: String = self.ask(&[b"RESTORE", key.as_bytes(), b"0", &dump, b"REPLACE"]).await;
    }
}

/// The checksum at the end of what DUMP returns.
fn crc64(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |crc, byte| {
        (0..8).fold(crc ^ u64::from(*byte), |crc: u64, _| {
            if crc & 1 == 1 { crc >> 1 ^ 0x95ac_9329_ac4b_c9b5 } else { crc >> 1 }
        })
    })
}
