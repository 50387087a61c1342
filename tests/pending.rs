//! The oldest pending entry on real servers: remembered while nobody does anything, and right after everything
//! that may change it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Value, cmd};
use redis_stream_lag::report::OldestPending;
use support::polled::Polled;
use support::server::Server;
use support::servers::for_each_server;
use support::snapshot::{ask, list, text};
use support::wait::wait_until;

const DEADLINE: Duration = Duration::from_secs(30);
/// Of a poll; and so the silence that it takes to be sure.
const TIMEOUT: Duration = Duration::from_millis(600);
/// Silence that is long enough, in milliseconds.
const SILENCE_MS: i64 = 800;

struct Story {
    connection: MultiplexedConnection,
    polled: Polled,
    server: Server,
}

impl Story {
    async fn begin(server: Server) -> Self {
        let poll = format!("interval: 10s, timeout: {}ms", TIMEOUT.as_millis());
        let polled = Polled::new(&server, &["s"], &poll);
        let mut story = Self { connection: server.connection().await, polled, server };
        story.send("XGROUP CREATE s g 0 MKSTREAM").await;
        for _ in 0..6 {
            story.send("XADD s * n 1").await;
        }
        story.send("XREADGROUP GROUP g a COUNT 3 STREAMS s >").await;
        story.send("XREADGROUP GROUP g b COUNT 1 STREAMS s >").await;
        story
    }

    async fn send(&mut self, line: &str) -> Value {
        let words: Vec<_> = line.split(' ').collect();
        ask(&mut self.connection, &words).await.unwrap_or_else(|error| panic!("{line}: {error}"))
    }

    /// Waits until every consumer has been silent for longer than a poll takes.
    async fn wait_for_silence(&mut self) {
        let connection = &mut self.connection;
        wait_until(DEADLINE, "the consumers are silent", async || {
            let consumers = list(ask(connection, &["XINFO", "CONSUMERS", "s", "g"]).await.unwrap());
            consumers.into_iter().all(|consumer| {
                let fields = list(consumer);
                let at = fields.iter().position(|field| text(field) == "idle").unwrap();
                matches!(fields[at + 1], Value::Int(idle) if idle > SILENCE_MS)
            })
        })
        .await;
    }

    /// ID, consumer, idle time in milliseconds and deliveries of the oldest pending entry.
    async fn oldest_with_consumer(&mut self) -> Option<(String, String, u64, u64)> {
        let first = list(self.send("XPENDING s g - + 1").await).into_iter().next()?;
        let parts = list(first);
        let (Value::Int(idle), Value::Int(deliveries)) = (&parts[2], &parts[3]) else { panic!("{parts:?}") };
        Some((text(&parts[0]), text(&parts[1]), (*idle).cast_unsigned(), (*deliveries).cast_unsigned()))
    }

    /// ID, idle time in milliseconds and deliveries of the oldest pending entry.
    async fn oldest(&mut self) -> Option<(String, u64, u64)> {
        self.oldest_with_consumer().await.map(|(id, _, idle, deliveries)| (id, idle, deliveries))
    }

    /// Polls, and holds the oldest pending entry against XPENDING.
    async fn hold(&mut self, after: &str) {
        let before = self.oldest_with_consumer().await;
        let report = self.polled.poll().await.unwrap();
        let later = self.oldest().await;
        let stream = &report.streams[0];
        let view = stream.view(&stream.groups[0]).unwrap();
        let shown = view.oldest_pending.clone().unwrap();
        match (before, later, shown) {
            (None, None, OldestPending::Nothing) => {}
            (
                Some((id, consumer, least, deliveries)),
                Some((_, most, _)),
                OldestPending::Entry {
                    id: shown_id,
                    consumer: shown_consumer,
                    idle: Some(idle),
                    deliveries: shown,
                },
            ) => {
                let (idle, age) = (view.age(idle), view.oldest_pending_age().unwrap());
                let named = (shown_id.to_string(), shown_consumer.map(|name| name.text().into_owned()));
                assert_eq!(named, (id.clone(), Some(consumer)), "after {after}");
                assert_eq!(shown, deliveries, "deliveries after {after}");
                let idle = u64::try_from(idle.as_millis()).unwrap();
                // It is told as of the TIME of the poll, which is asked for before everything else.
                let slack = u64::try_from(TIMEOUT.as_millis()).unwrap();
                assert!(
                    least <= idle + slack && idle <= most + slack,
                    "{least} to {most}, {idle} after {after}"
                );
                let ms: u64 = id.split_once('-').unwrap().0.parse().unwrap();
                let now: (u64, u64) = cmd("TIME").query_async(&mut self.connection).await.unwrap();
                let oldest = Duration::from_millis(now.0 * 1_000 + now.1 / 1_000 - ms);
                let moment = Duration::from_millis(1);
                assert!(
                    age <= oldest + moment && age + 2 * TIMEOUT > oldest,
                    "{age:?}, {oldest:?} after {after}"
                );
            }
            other => panic!("{other:?} after {after}"),
        }
    }

    fn times_asked(&self) -> f64 {
        self.polled.own("redis_commands_total", "command=\"xpending\"")
    }

    /// Lets a poll ask for it, and others rely on it.
    async fn settle(&mut self, after: &str) {
        self.wait_for_silence().await;
        self.hold(after).await;
        let asked = self.times_asked();
        for _ in 0..3 {
            self.hold(after).await;
        }
        // Consumers that were silent for a poll's time before it was asked for; else one more poll asks.
        assert!(self.times_asked() <= asked + 1.0, "asked for again after {after}");
    }
}

#[tokio::test]
async fn the_oldest_pending_entry_is_right_after_everything_that_may_change_it() {
    for_each_server(async |server| {
        let mut story = Story::begin(server).await;
        let mut oldest = story.oldest().await.unwrap().0;
        for line in [
            "XREADGROUP GROUP g a COUNT 1 STREAMS s >",
            "XCLAIM s g b 0 OLDEST",
            "XCLAIM s g a 0 OLDEST JUSTID",
            "XCLAIM s g a 0 OLDEST IDLE 90000 RETRYCOUNT 7",
            "XAUTOCLAIM s g b 0 0 COUNT 1",
            "XREADGROUP GROUP g b COUNT 10 STREAMS s 0",
            "XDEL s OLDEST",
            "XACK s g OLDEST",
            "XREADGROUP GROUP g c NOACK STREAMS s >",
            "XGROUP SETID s g 0",
            "XGROUP DELCONSUMER s g a",
            "XGROUP DELCONSUMER s g b",
        ] {
            story.settle(line).await;
            story.send(&line.replace("OLDEST", &oldest)).await;
            story.hold(line).await;
            oldest = story.oldest().await.map_or_else(String::new, |(id, ..)| id);
        }
        assert_eq!(oldest, "", "in the end nothing is pending");
    })
    .await;
}

#[tokio::test]
async fn the_oldest_pending_entry_is_right_after_a_blocked_reader_got_one() {
    for_each_server(async |server| {
        let mut story = Story::begin(server).await;
        story.send("XREADGROUP GROUP g a STREAMS s >").await;
        story.settle("all is read").await;
        let first = story.oldest().await.unwrap().0;
        let mut reader = story.server.connection().await;
        let blocked = tokio::spawn(async move {
            let words = "XREADGROUP GROUP g b BLOCK 20000 COUNT 1 STREAMS s >";
            ask(&mut reader, &words.split(' ').collect::<Vec<_>>()).await.unwrap()
        });
        let mut connection = story.server.connection().await;
        wait_until(DEADLINE, "the reader waits", async || {
            let info: String = cmd("INFO").arg("clients").query_async(&mut connection).await.unwrap();
            info.contains("blocked_clients:1")
        })
        .await;
        story.settle("a reader waits").await;
        // One is acknowledged and another delivered: the PEL stays as large as it is.
        story.send(&format!("XACK s g {first}")).await;
        story.send("XADD s * n 1").await;
        assert_eq!(list(blocked.await.unwrap()).len(), 1);
        story.hold("a blocked reader got an entry").await;
        assert_ne!(story.oldest().await.unwrap().0, first);
    })
    .await;
}
