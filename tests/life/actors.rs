//! Actions of producers, consumers and operators on a stream.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, ToRedisArgs, cmd};
use tokio::time::{MissedTickBehavior, interval, sleep};

use crate::story_time::{Minutes, StoryTime};
use crate::support::server::{Server, connect};

/// Where a part of the story plays: one stream on one server.
#[derive(Clone, Debug)]
pub(crate) struct Stage {
    pub(crate) time: StoryTime,
    pub(crate) key: String,
    url: String,
}

/// The pace of a consumer: at most `count` entries each `every`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    pub(crate) count: usize,
    pub(crate) every: Duration,
}

impl Pace {
    /// Keeps up with every producer of the story.
    pub(crate) const QUICK: Self = Self::new(100, 100);

    pub(crate) const fn new(count: usize, every_ms: u64) -> Self {
        Self { count, every: Duration::from_millis(every_ms) }
    }
}

impl Stage {
    pub(crate) fn new(time: StoryTime, server: &Server, key: &str) -> Self {
        Self { time, key: key.to_owned(), url: server.url() }
    }

    async fn connection(&self) -> MultiplexedConnection {
        connect(&self.url).await.unwrap_or_else(|error| panic!("{}: {error}", self.key))
    }

    /// Sends one command at a minute.
    pub(crate) async fn at(&self, minute: f64, args: &[impl ToRedisArgs]) {
        self.time.until(minute).await;
        self.now(args).await;
    }

    pub(crate) async fn now(&self, args: &[impl ToRedisArgs]) {
        let mut command = redis::Cmd::new();
        for arg in args {
            command.arg(arg);
        }
        let reply: RedisResult<redis::Value> = command.query_async(&mut self.connection().await).await;
        reply.unwrap_or_else(|error| panic!("{}: {error}", self.key));
    }

    pub(crate) async fn create_group(&self, group: &str) {
        self.now(&["XGROUP", "CREATE", &self.key, group, "0", "MKSTREAM"]).await;
    }

    /// Adds entries at a rate.
    pub(crate) async fn produce(&self, per_second: f64, trim: &[&str], minutes: Minutes) {
        self.time.until(minutes.start).await;
        let mut connection = self.connection().await;
        let mut ticks = interval(Duration::from_secs_f64(1.0 / per_second));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
        while self.time.is_before(minutes.end) {
            ticks.tick().await;
            let mut add = cmd("XADD");
            add.arg(&self.key).arg(trim).arg("*").arg("f").arg("v");
            // The server may be down, or restart: a producer goes on.
            if add.query_async::<()>(&mut connection).await.is_err() {
                sleep(Duration::from_millis(100)).await;
                connection = connect(&self.url).await.unwrap_or(connection);
            }
        }
    }

    /// Adds this many entries at once.
    pub(crate) async fn burst(&self, entries: usize) {
        let mut connection = self.connection().await;
        let mut pipeline = redis::pipe();
        for _ in 0..entries {
            pipeline.cmd("XADD").arg(&self.key).arg("*").arg("f").arg("v").ignore();
        }
        pipeline.query_async::<()>(&mut connection).await.expect("a burst is added");
    }

    /// Reads and acknowledges.
    pub(crate) async fn consume(&self, group: &str, pace: Pace, minutes: Minutes) {
        self.consume_and(group, pace, minutes, &["XACK"]).await;
    }

    /// Reads, acknowledges and deletes, as with a queue.
    pub(crate) async fn consume_queue(&self, group: &str, pace: Pace, minutes: Minutes) {
        self.consume_and(group, pace, minutes, &["XACK", "XDEL"]).await;
    }

    async fn consume_and(&self, group: &str, pace: Pace, minutes: Minutes, then: &[&str]) {
        self.time.until(minutes.start).await;
        let mut connection = self.connection().await;
        let mut ticks = interval(pace.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut from = ">";
        while self.time.is_before(minutes.end) {
            ticks.tick().await;
            let read = read(&mut connection, &self.key, group, "c", pace.count, from).await;
            let Ok(entries) = read else {
                // The group or the server may be gone for a while: a consumer goes on, with the entries that it was
                // delivered before.
                sleep(Duration::from_millis(100)).await;
                connection = connect(&self.url).await.unwrap_or(connection);
                from = "0";
                continue;
            };
            if entries.is_empty() {
                from = ">";
                continue;
            }
            for name in then {
                let mut command = cmd(name);
                command.arg(&self.key);
                if *name == "XACK" {
                    command.arg(group);
                }
                for id in &entries {
                    command.arg(id);
                }
                if command.query_async::<u64>(&mut connection).await.is_err() {
                    from = "0";
                }
            }
        }
    }

    /// Reads entries and acknowledges none, and returns their IDs.
    pub(crate) async fn take(&self, group: &str, consumer: &str, count: usize) -> Vec<String> {
        let taken = read(&mut self.connection().await, &self.key, group, consumer, count, ">").await;
        taken.unwrap_or_else(|error| panic!("{}: {error}", self.key))
    }

    pub(crate) async fn acknowledge(&self, group: &str, id: &str) {
        self.now(&["XACK", &self.key, group, id]).await;
    }

    /// Reads all that waits and acknowledges it, as a job does at each run.
    pub(crate) async fn drain(&self, group: &str) {
        let mut connection = self.connection().await;
        loop {
            let entries =
                read(&mut connection, &self.key, group, "job", 500, ">").await.expect("a job reads");
            if entries.is_empty() {
                return;
            }
            let mut acknowledge = cmd("XACK");
            acknowledge.arg(&self.key).arg(group).arg(&entries);
            acknowledge.query_async::<()>(&mut connection).await.expect("a job acknowledges");
        }
    }

    /// Claims the oldest pending entry again and again, and fails.
    pub(crate) async fn fail_on_oldest(&self, group: &str, pace: Pace, minutes: Minutes) {
        let mut connection = self.connection().await;
        let mut ticks = interval(pace.every);
        while self.time.is_before(minutes.end) {
            ticks.tick().await;
            let mut pending = cmd("XPENDING");
            pending.arg(&self.key).arg(group).arg(&["-", "+", "1"]);
            let rows: Vec<(String, String, u64, u64)> =
                pending.query_async(&mut connection).await.expect("XPENDING is answered");
            let Some((oldest, ..)) = rows.first() else { return };
            let mut claim = cmd("XCLAIM");
            claim.arg(&self.key).arg(group).arg("c").arg(0).arg(oldest);
            claim.query_async::<redis::Value>(&mut connection).await.expect("XCLAIM is answered");
        }
    }
}

/// A stream in a reply to XREADGROUP: its key, and the IDs and fields of its entries.
type ReadStream = (String, Vec<(String, Vec<String>)>);

async fn read(
    connection: &mut MultiplexedConnection,
    key: &str,
    group: &str,
    consumer: &str,
    count: usize,
    from: &str,
) -> RedisResult<Vec<String>> {
    let mut command = cmd("XREADGROUP");
    command.arg("GROUP").arg(group).arg(consumer).arg("COUNT").arg(count).arg("STREAMS").arg(key).arg(from);
    let reply: Option<Vec<ReadStream>> = command.query_async(connection).await?;
    let entries = reply.unwrap_or_default().into_iter().flat_map(|(_, entries)| entries);
    Ok(entries.map(|(id, _)| id).collect())
}
