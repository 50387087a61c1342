//! What changes a stream or a group without a trace in any counter, on real servers: a lag is wrong then for a
//! while, and the audit heals it. The audit's period is as short here as it can be: docs/limits.md says how many polls
//! it takes with the default.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod support;

use redis::aio::MultiplexedConnection;
use redis_stream_lag::report::Lag;
use support::polled::Polled;
use support::server::Server;
use support::servers::{Program, for_each_program};
use support::snapshot::{StreamSnapshot, send};

/// Entries of the stream at first.
const ENTRIES: u64 = 600;
/// One poll to count again, and one to count anew; and one for what is due after that.
const POLLS_TO_HEAL: u32 = 3;

/// Something that is done, its name, the first version that can do it, and the commands.
struct Act {
    name: &'static str,
    since: (u32, u32, u32),
    commands: &'static [&'static str],
}

const ACTS: [Act; 6] = [
    Act {
        name: "XCLAIM with LASTID",
        since: (6, 2, 0),
        commands: &[
            "XCLAIM s g me 0 1-1 FORCE LASTID 400-1",
            "XREADGROUP GROUP g me COUNT 5 NOACK STREAMS s >",
        ],
    },
    Act {
        name: "SETID with a false ENTRIESREAD",
        since: (7, 0, 0),
        commands: &[
            "XGROUP SETID s g 255-1 ENTRIESREAD 285",
            "XREADGROUP GROUP g me COUNT 5 NOACK STREAMS s >",
        ],
    },
    Act {
        name: "XSETID with a false ENTRIESADDED",
        since: (7, 0, 0),
        commands: &["XSETID s 600-1 ENTRIESADDED 640 MAXDELETEDID 0-0", "XADD s 601-1 n 1"],
    },
    Act { name: "RENAME over the stream", since: (6, 2, 0), commands: &["RENAME other s"] },
    Act { name: "a copy over the stream", since: (6, 2, 0), commands: &["COPY other s REPLACE"] },
    Act {
        name: "DEL, and another stream with earlier IDs",
        since: (6, 2, 0),
        commands: &["DEL s", "COPY other s", "XADD s 602-1 n 1"],
    },
];

struct Story {
    connection: MultiplexedConnection,
    polled: Polled,
    _server: Server,
}

impl Story {
    /// A stream whose group is in the middle of it, polled until all is known and concluded from counters; and
    /// another that looks alike and is not.
    async fn begin(program: &'static Program) -> Self {
        let server = Server::start(program, &[]).await;
        let mut connection = server.connection().await;
        for n in 1..=ENTRIES {
            send(&mut connection, &format!("XADD s {n}-1 n 1")).await;
            if !(156..=254).contains(&n) {
                send(&mut connection, &format!("XADD other {n}-1 n 1")).await;
            }
        }
        // As many entries as the first, but in other places.
        for n in 2..=100 {
            send(&mut connection, &format!("XADD other {ENTRIES}-{n} n 1")).await;
        }
        send(&mut connection, "XGROUP CREATE other g 255-1").await;
        send(&mut connection, "XGROUP CREATE s g 0").await;
        send(&mut connection, "XREADGROUP GROUP g me COUNT 255 NOACK STREAMS s >").await;
        let polled = Polled::new(&server, &["s"], "audit_period: 0s");
        let mut story = Self { connection, polled, _server: server };
        for _ in 0..3 {
            assert_eq!(story.lags().await, (Lag::Exact(345), 345), "before anything is done");
        }
        story
    }

    /// The lag as it is told, and as it is.
    async fn lags(&mut self) -> (Lag, u64) {
        let report = self.polled.poll().await.unwrap();
        let told = report.streams[0].groups[0].values.as_ref().unwrap().lag;
        let snapshot = StreamSnapshot::read(&mut self.connection, "s").await;
        let place = snapshot.groups["g"].0;
        (told, snapshot.undelivered_after(place).count() as u64)
    }

    /// Returns the number of wrong polls after this change, until one is right.
    async fn wrong_polls(&mut self, act: &Act) -> u32 {
        for command in act.commands {
            send(&mut self.connection, command).await;
        }
        let mut wrong_until = 0;
        for poll in 1..=4 * POLLS_TO_HEAL {
            let (told, truth) = self.lags().await;
            if told.min() > truth || told.max() < truth {
                wrong_until = poll;
            }
        }
        let (told, truth) = self.lags().await;
        assert_eq!(told, Lag::Exact(truth), "in the end it is known, after {}", act.name);
        wrong_until
    }
}

#[tokio::test]
async fn whatever_leaves_no_trace_heals_within_a_few_audits() {
    for_each_program(async |program| {
        let mut wrong = 0;
        for act in ACTS.iter().filter(|act| program.version >= act.since) {
            let polls = Story::begin(program).await.wrong_polls(act).await;
            eprintln!("{program}: {}: {polls} polls were wrong", act.name);
            assert!(polls <= POLLS_TO_HEAL, "{polls} polls were wrong after {}", act.name);
            wrong += polls;
        }
        // 6.2 has no counters to conclude anything from.
        assert!(wrong > 0 || program.version < (7, 0, 0), "nothing was ever wrong: this test shows nothing");
    })
    .await;
}
