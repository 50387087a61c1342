//! Lag on real servers: random sequences of what clients do, with polls between them, held against reading
//! the whole stream. Reproducible: a failure names the server and the seed.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
#![expect(clippy::print_stderr, reason = "a failure is run again with the seed that it names")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use redis::aio::MultiplexedConnection;
use redis::cmd;
use redis_stream_core::id::StreamId;
use redis_stream_lag::report::{GroupValues, GroupView, Lag, OldestPending, Report};
use support::polled::Polled;
use support::server::Server;
use support::servers::{Program, ServerKind, for_each_program};
use support::snapshot::{StreamSnapshot, ask};
use support::wait::wait_for;

const STREAMS: [&str; 2] = ["s0", "s1"];
const GROUPS: [&str; 3] = ["a", "b", "c"];

/// The form of a stream's IDs.
#[derive(Clone, Copy, Debug)]
enum Ids {
    /// By the server's clock.
    Auto,
    /// Counted by the producer: no time stamps.
    Counted,
    /// Nanoseconds: no time stamps either, and far ahead.
    Nanoseconds,
}

/// One server, what clients do to it, and what is known of it.
struct Story {
    program: &'static Program,
    server: Server,
    connection: MultiplexedConnection,
    /// A replica that is polled in place of the server.
    replica: Option<Server>,
    polled: Polled,
    rng: Rng,
    ids: [Ids; 2],
    counter: u64,
    /// Entries that were removed before the group got them, by stream and group.
    lost: BTreeMap<(usize, String), u64>,
    /// Where each group stood at the last poll.
    polled_at: BTreeMap<(usize, String), StreamId>,
    /// The groups that were destroyed or set back since the last poll.
    unsteady: BTreeSet<(usize, String)>,
    /// The entries that were removed since the last poll, by stream.
    removed: [BTreeSet<StreamId>; 2],
    /// True if a poll comes after each step, so that no loss is missed.
    polls_each_step: bool,
    /// The last commands, for the message of a failure.
    sent: Vec<String>,
    exact: usize,
    readings: usize,
}

impl Story {
    async fn begin(program: &'static Program, seed: u64, polls_each_step: bool) -> Self {
        let debug = if program.version >= (7, 0, 0) { vec!["--enable-debug-command", "yes"] } else { vec![] };
        let args =
            [&["--appendonly", "yes", "--appendfsync", "no", "--repl-diskless-sync-delay", "0"][..], &debug]
                .concat();
        let server = Server::start(program, &args).await;
        let mut rng = Rng::with_seed(seed);
        let ids = [Ids::Auto, [Ids::Auto, Ids::Counted, Ids::Nanoseconds][rng.usize(..3)]];
        Self {
            program,
            connection: server.connection().await,
            polled: Polled::new(&server, &STREAMS, ""),
            replica: None,
            server,
            rng,
            ids,
            counter: 0,
            lost: BTreeMap::new(),
            polled_at: BTreeMap::new(),
            unsteady: BTreeSet::new(),
            removed: Default::default(),
            polls_each_step,
            sent: Vec::new(),
            exact: 0,
            readings: 0,
        }
    }

    /// The same, polled through a replica.
    async fn begin_on_replica(program: &'static Program, seed: u64) -> Self {
        let mut story = Self::begin(program, seed, false).await;
        let replica = Server::start(program, &[]).await;
        let port = story.server.port().to_string();
        let _: () = replica.command(&["REPLICAOF", "127.0.0.1", &port]).await;
        wait_for(Duration::from_secs(20), "the replica to be in step", async || {
            let info: String = replica.command(&["INFO", "replication"]).await;
            if info.contains("master_link_status:up") { Ok(()) } else { Err(info) }
        })
        .await;
        story.polled = Polled::with_role(&replica, "replica", &STREAMS, "");
        story.replica = Some(replica);
        story
    }

    async fn snapshots(&mut self) -> [StreamSnapshot; 2] {
        [
            StreamSnapshot::read(&mut self.connection, STREAMS[0]).await,
            StreamSnapshot::read(&mut self.connection, STREAMS[1]).await,
        ]
    }

    /// One random thing that clients, or the server, do; keeps the books on what was lost by it.
    async fn step(&mut self) {
        let before = self.snapshots().await;
        let at = self.rng.usize(..2);
        self.act(at, &before[at]).await;
        let after = self.snapshots().await;
        for (at, (before, after)) in before.iter().zip(&after).enumerate() {
            self.note_unseen(at, before, after);
            for (name, (place, _)) in &before.groups {
                // A poll sees that the group is gone: it keeps what it has lost, and loses no more.
                if self.polls_each_step && !after.groups.contains_key(name) {
                    continue;
                }
                let lost = before.undelivered_after(*place).filter(|id| !after.entries.contains(id)).count();
                *self.lost.entry((at, name.clone())).or_default() += lost as u64;
            }
        }
    }

    /// Notes what no poll sees: a group that is destroyed and created again, or that reads on and is set back, between two
    /// polls looks as if it had stood there all the time.
    fn note_unseen(&mut self, at: usize, before: &StreamSnapshot, after: &StreamSnapshot) {
        self.removed[at].extend(before.entries.iter().filter(|id| !after.entries.contains(id)));
        let is_unsteady = |(name, (place, _)): &(&String, &(StreamId, Vec<StreamId>))| {
            after.groups.get(*name).is_none_or(|(place_after, _)| place_after < place)
        };
        let unsteady = before.groups.iter().filter(is_unsteady);
        self.unsteady.extend(unsteady.map(|(name, _)| (at, name.clone())));
    }

    /// Counts what may look lost at a poll: what was removed since the last one, above where the group stood then.
    fn count_lost_of_unsteady(&mut self, snapshots: &[StreamSnapshot; 2]) {
        for key in std::mem::take(&mut self.unsteady) {
            let place = self.polled_at.get(&key).copied().unwrap_or(StreamId::MIN);
            let removed = self.removed[key.0].iter().filter(|id| place < **id).count();
            *self.lost.entry(key).or_default() += removed as u64;
        }
        self.removed = Default::default();
        let groups = snapshots.iter().enumerate().flat_map(|(at, snapshot)| {
            snapshot.groups.iter().map(move |(name, (place, _))| ((at, name.clone()), *place))
        });
        self.polled_at = groups.collect();
    }

    async fn act(&mut self, at: usize, snapshot: &StreamSnapshot) {
        let stream = STREAMS[at];
        let group = GROUPS[self.rng.usize(..GROUPS.len())];
        let some = |rng: &mut Rng, ids: &[StreamId]| {
            if ids.is_empty() { "0-0".to_owned() } else { ids[rng.usize(..ids.len())].to_string() }
        };
        let entry = some(&mut self.rng, &snapshot.entries);
        let (place, pending) = snapshot.groups.get(group).cloned().unwrap_or_default();
        let unacknowledged = some(&mut self.rng, &pending);
        let kept = self.rng.usize(..=snapshot.entries.len()).to_string();
        if self.has_options() && self.rng.u32(..5) == 0 {
            return self.act_with_options(at, group, &entry, &unacknowledged, &kept).await;
        }
        match self.rng.u32(..100) {
            0..=29 => {
                for _ in 0..self.rng.u32(1..6) {
                    self.add(at, &[]).await;
                }
            }
            30..=35 => {
                let limit = self.rng.usize(1..20).to_string();
                let how = if self.rng.bool() { "=" } else { "~" };
                self.add(at, &["MAXLEN", how, &limit]).await;
            }
            36..=57 => {
                let count = self.rng.u32(1..5).to_string();
                let mut words = vec!["XREADGROUP", "GROUP", group, "me", "COUNT", &count];
                if self.rng.u32(..4) == 0 {
                    words.push("NOACK");
                }
                self.send(&[&words[..], &["STREAMS", stream, ">"]].concat()).await;
            }
            58..=64 => self.send(&["XACK", stream, group, &unacknowledged]).await,
            65..=67 => {
                self.send(&["XACK", stream, group, &unacknowledged]).await;
                self.send(&["XDEL", stream, &unacknowledged]).await;
            }
            68..=73 => self.send(&["XDEL", stream, &entry]).await,
            74..=75 => self.send(&["XDEL", stream, &place.to_string()]).await,
            76..=78 => self.send(&["XTRIM", stream, "MAXLEN", &kept]).await,
            79..=80 => self.send(&["XTRIM", stream, "MINID", &entry]).await,
            81..=90 => {
                let from = ["0", "$", &entry][self.rng.usize(..3)];
                self.send(&["XGROUP", "CREATE", stream, group, from, "MKSTREAM"]).await;
            }
            91..=92 => self.send(&["XGROUP", "SETID", stream, group, &entry]).await,
            93..=94 => self.send(&["XGROUP", "DESTROY", stream, group]).await,
            // A replica would have to start again.
            95..=97 if self.replica.is_some() => {}
            95..=96 => self.send(&["DEBUG", "RELOAD"]).await,
            97 => self.restart().await,
            _ => self.send(&["DEL", stream]).await,
        }
    }

    /// Returns true if the server has KEEPREF, DELREF and ACKED. A replica of Redis 8.2 does not always remove what its
    /// master removes by ACKED.
    fn has_options(&self) -> bool {
        self.replica.is_none() && self.program.kind == ServerKind::Redis && self.program.version >= (8, 2, 0)
    }

    /// Something that only servers from Redis 8.2 on do; `entry` and `pending` are IDs.
    async fn act_with_options(&mut self, at: usize, group: &str, entry: &str, pending: &str, kept: &str) {
        let stream = STREAMS[at];
        let option = ["KEEPREF", "DELREF", "ACKED"][self.rng.usize(..3)];
        let exactly = ["=", "~"][self.rng.usize(..2)];
        match self.rng.u32(..9) {
            0 => self.send(&["XTRIM", stream, "MAXLEN", "=", kept, option]).await,
            1 => self.send(&["XTRIM", stream, "MINID", "=", entry, option]).await,
            2 => self.add(at, &[option, "MAXLEN", exactly, "2"]).await,
            3 => self.send(&["XDELEX", stream, option, "IDS", "1", entry]).await,
            4 => self.send(&["XACKDEL", stream, group, option, "IDS", "1", pending]).await,
            5 if self.program.version >= (8, 8, 0) => {
                let mode = ["SILENT", "FAIL", "FATAL"][self.rng.usize(..3)];
                self.send(&["XNACK", stream, group, mode, "IDS", "1", pending]).await;
            }
            // Several steps in one.
            6.. if !self.polls_each_step => self.make_hole(at, group, entry).await,
            _ => self.send(&["XTRIM", stream, "MAXLEN", "=", kept, "ACKED"]).await,
        }
    }

    /// Reads and acknowledges all but the first entry, trims what was acknowledged, and then creates, destroys or sets
    /// back a group.
    async fn make_hole(&mut self, at: usize, group: &str, entry: &str) {
        let stream = STREAMS[at];
        for _ in 0..self.rng.u32(..8) {
            self.add(at, &[]).await;
        }
        let read = ["XREADGROUP", "GROUP", group, "me", "COUNT", "12", "STREAMS", stream, ">"];
        self.send(&read).await;
        let pending = self.snapshots().await[at].groups.get(group).cloned().unwrap_or_default().1;
        for id in pending.iter().skip(1) {
            self.send(&["XACK", stream, group, &id.to_string()]).await;
        }
        let before = self.snapshots().await;
        self.send(&["XTRIM", stream, "MAXLEN", "=", "2", "ACKED"]).await;
        let other = GROUPS[self.rng.usize(..GROUPS.len())];
        match self.rng.u32(..4) {
            0 => self.send(&["XGROUP", "CREATE", stream, other, entry]).await,
            1 => self.send(&["XGROUP", "SETID", stream, group, entry]).await,
            2 => self.send(&["XGROUP", "DESTROY", stream, other]).await,
            _ => {}
        }
        let after = self.snapshots().await;
        self.note_unseen(at, &before[at], &after[at]);
    }

    async fn add(&mut self, at: usize, trim: &[&str]) {
        self.counter += 1;
        let id = match self.ids[at] {
            Ids::Auto => "*".to_owned(),
            Ids::Counted => format!("{}-{}", self.counter / 3 + 1, self.counter),
            Ids::Nanoseconds => format!("{}-0", 1_700_000_000_000_000_000 + self.counter * 1_000),
        };
        self.send(&[&["XADD", STREAMS[at]][..], trim, &[&id, "n", "1"]].concat()).await;
    }

    /// Sends a command; it may fail, as commands of clients do.
    async fn send(&mut self, words: &[&str]) {
        self.sent.push(words.join(" "));
        let _ = ask(&mut self.connection, words).await;
    }

    async fn restart(&mut self) {
        self.sent.push("(restart)".to_owned());
        self.server.restart().await;
        self.connection = self.server.connection().await;
    }

    async fn poll(&mut self) -> (Arc<Report>, Duration, Duration) {
        if self.replica.is_some() {
            let reached: u32 =
                cmd("WAIT").arg(1).arg(20_000).query_async(&mut self.connection).await.unwrap();
            assert_eq!(reached, 1, "the replica is in step");
        }
        let began = self.server_time().await;
        let polled = &mut self.polled;
        // The first poll after a restart finds the connection broken.
        let report = wait_for(Duration::from_secs(20), "a poll", async || polled.poll().await).await;
        (report, began, self.server_time().await)
    }

    async fn server_time(&mut self) -> Duration {
        let (seconds, micros): (u64, u64) = cmd("TIME").query_async(&mut self.connection).await.unwrap();
        Duration::from_secs(seconds) + Duration::from_micros(micros)
    }

    /// Polls and holds every value against the whole.
    async fn hold(&mut self) {
        let (report, began, ended) = self.poll().await;
        self.sent.push("(a poll)".to_owned());
        let snapshots = self.snapshots().await;
        if !self.polls_each_step {
            self.count_lost_of_unsteady(&snapshots);
        }
        for (at, snapshot) in snapshots.iter().enumerate() {
            let stream = report.streams.iter().find(|stream| stream.key.to_string() == STREAMS[at]).unwrap();
            let Some(values) = &stream.values else {
                assert_eq!(snapshot, &StreamSnapshot::default(), "the stream is there");
                continue;
            };
            assert_eq!(values.length, snapshot.entries.len() as u64);
            let names: Vec<_> = stream.groups.iter().map(|group| group.name.to_string()).collect();
            assert_eq!(names, snapshot.groups.keys().cloned().collect::<Vec<_>>());
            for group in &stream.groups {
                let (name, view) = (group.name.to_string(), stream.view(group).unwrap());
                let values = view.values();
                let (place, pending) = &snapshot.groups[&name];
                let sent = &self.sent[self.sent.len().saturating_sub(20)..];
                let context =
                    format!("{} {name} at {place}: {values:?}\n{snapshot:?}\n{sent:#?}", STREAMS[at]);
                self.hold_lag(snapshot, *place, values, &context);
                let has_consumers = group.consumers().is_some();
                assert!(!has_consumers || self.replica.is_none(), "a replica's word on consumers: {context}");
                hold_age(snapshot.undelivered_after(*place).next(), view, began, ended, &context);
                hold_pending(snapshot, pending, values, &context);
                let lost = self.lost.get(&(at, name)).copied().unwrap_or(0);
                if let Some(seen) = values.entries_lost.map(u64::from) {
                    assert!(
                        if self.polls_each_step { seen == lost } else { seen <= lost },
                        "{lost} lost: {context}"
                    );
                }
            }
        }
    }

    fn hold_lag(&mut self, snapshot: &StreamSnapshot, place: StreamId, values: &GroupValues, context: &str) {
        let ahead = snapshot.undelivered_after(place).count() as u64;
        self.readings += 1;
        match values.lag {
            Lag::Exact(lag) => {
                self.exact += 1;
                assert_eq!(lag, ahead, "{context}");
            }
            Lag::Between { min, max } => assert!((min.get()..=max).contains(&ahead), "{ahead}: {context}"),
        }
        if let (Some(used), Lag::Exact(lag)) = (values.seldom.retention_used, values.lag) {
            assert_eq!((used.lag, used.length), (lag, snapshot.entries.len() as u64), "{context}");
        }
    }
}

fn hold_age(next: Option<StreamId>, values: GroupView<'_>, began: Duration, ended: Duration, context: &str) {
    let is_time_stamp = |id: StreamId| {
        let ms = Duration::from_millis(id.ms);
        ms >= Duration::from_secs(1_262_304_000) && ms <= ended + Duration::from_secs(5)
    };
    match next {
        None => assert_eq!(values.lag_seconds(), Some(Duration::ZERO), "{context}"),
        Some(id) if !is_time_stamp(id) => assert_eq!(values.lag_seconds(), None, "{context}"),
        Some(id) => {
            let age = values.lag_seconds().unwrap_or_else(|| panic!("no age: {context}"));
            let made = Duration::from_millis(id.ms);
            assert!(began.saturating_sub(made) <= age && age <= ended.saturating_sub(made), "{context}");
        }
    }
}

fn hold_pending(snapshot: &StreamSnapshot, pending: &[StreamId], values: &GroupValues, context: &str) {
    assert_eq!(values.messages_pending, pending.len() as u64, "{context}");
    let has_oldest = matches!(values.oldest_pending, Some(OldestPending::Entry { .. }));
    assert!(values.oldest_pending.is_some(), "{context}");
    assert_eq!(has_oldest, !pending.is_empty(), "{context}");
    let orphaned = pending.iter().filter(|id| !snapshot.entries.contains(id)).count();
    // More are not looked up.
    assert!(values.pending_orphaned.is_some() || pending.len() > 250, "{context}");
    assert_eq!(values.pending_orphaned.map_or(orphaned as u64, u64::from), orphaned as u64, "{context}");
    // A list of a page and more is read after the report. No client runs during a poll.
    if pending.len() > 990 {
        return;
    }
    let census = values.pending_census.as_ref();
    assert_eq!(census.map_or(0, |shown| shown.census.entries), pending.len() as u64, "{context}");
    let trimmed =
        pending.iter().filter(|id| snapshot.entries.first().is_none_or(|first| *id < first)).count();
    let shown = census.filter(|shown| shown.unchanged_until.is_none());
    assert_eq!(shown.map_or(trimmed as u64, |shown| shown.census.trimmed), trimmed as u64, "{context}");
}

/// Runs a story; `steps_per_poll` steps lie between two polls at most.
async fn run(mut story: Story, polls: u32, steps_per_poll: u32) -> (usize, usize) {
    story.hold().await;
    for _ in 0..polls {
        for _ in 0..story.rng.u32(1..=steps_per_poll) {
            story.step().await;
        }
        story.hold().await;
    }
    (story.exact, story.readings)
}

/// Sends redis-cli lines.
async fn send_lines(story: &mut Story, lines: &str) {
    for line in lines.lines() {
        story.send(&line.split_whitespace().collect::<Vec<_>>()).await;
    }
}

/// A trim with ACKED leaves holes up to the least position of the groups at that moment, which a group that is created
/// or set back before the next poll hides.
#[tokio::test]
async fn a_group_below_a_hole_that_acked_left_has_its_true_lag() {
    for_each_program(async |program| {
        for below in ["XGROUP CREATE s0 h 5-0", "XGROUP SETID s0 g 5-0"] {
            let mut story = Story::begin(program, 0, false).await;
            for n in 1..=10 {
                story.send(&["XADD", "s0", &format!("{n}-0"), "n", "1"]).await;
            }
            let begin = "XGROUP CREATE s0 g 0\nXREADGROUP GROUP g c COUNT 5 STREAMS s0 >";
            send_lines(&mut story, begin).await;
            story.hold().await;
            let trim = "XREADGROUP GROUP g c COUNT 3 STREAMS s0 >\n\
                        XACK s0 g 2-0 3-0 4-0 5-0 6-0 7-0 8-0\nXTRIM s0 MAXLEN 2 ACKED";
            send_lines(&mut story, trim).await;
            send_lines(&mut story, below).await;
            story.hold().await;
            assert_eq!(story.exact, story.readings, "{below}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_new_group_does_not_use_what_was_counted_before_acked_made_a_hole() {
    for_each_program(async |program| {
        let mut story = Story::begin(program, 0, false).await;
        for n in 1..=5_000 {
            story.send(&["XADD", "s0", &format!("{n}-0"), "n", "1"]).await;
        }
        let read = |count| format!("XREADGROUP GROUP g c COUNT {count} STREAMS s0 >");
        // Counted, so that there are checkpoints at which no group stands.
        send_lines(&mut story, &format!("XGROUP CREATE s0 g 0\n{}", read(1_000))).await;
        story.hold().await;
        send_lines(&mut story, &read(3_000)).await;
        let acknowledged: Vec<String> = (4..=4_000).map(|n| format!("{n}-0")).collect();
        send_lines(&mut story, &format!("XACK s0 g {}", acknowledged.join(" "))).await;
        send_lines(&mut story, "XADD s0 ACKED MAXLEN = 1 5001-0 n 1\nXGROUP CREATE s0 h 0").await;
        send_lines(&mut story, "XREADGROUP GROUP h c COUNT 2 STREAMS s0 >").await;
        story.hold().await;
        assert_eq!(story.exact, story.readings);
    })
    .await;
}

/// A seed from the environment, to run a failure again; else another one each time.
fn seed() -> u64 {
    let given = env::var("STREAMGAUGE_TEST_SEED").ok().map(|seed| seed.parse().expect("a whole number"));
    given.unwrap_or_else(|| fastrand::u64(..1_000_000))
}

async fn run_on_every_server(
    polls: u32,
    steps_per_poll: u32,
    begin: impl AsyncFn(&'static Program, u64) -> Story,
) {
    let seed = seed();
    eprintln!("STREAMGAUGE_TEST_SEED={seed}");
    for_each_program(async |program| {
        let (exact, readings) = run(begin(program, seed).await, polls, steps_per_poll).await;
        eprintln!("{program}: {exact} of {readings} lags exact, none wrong");
        assert!(exact * 100 >= readings * 99, "{exact} of {readings}");
        assert!(readings > polls as usize, "{readings}");
    })
    .await;
}

#[tokio::test]
async fn every_value_is_right_after_every_single_step() {
    run_on_every_server(400, 1, async |program, seed| Story::begin(program, seed, true).await).await;
}

#[tokio::test]
async fn every_value_is_right_after_any_steps() {
    run_on_every_server(250, 12, async |program, seed| Story::begin(program, seed, false).await).await;
}

#[tokio::test]
async fn every_value_is_right_on_a_replica() {
    run_on_every_server(300, 8, async |program, seed| Story::begin_on_replica(program, seed).await).await;
}

/// A replica before 7.4 hears of the entries-read of NOACK reads only, and shows the last of them later too.
#[tokio::test]
async fn entries_read_that_stopped_on_a_replica_is_not_trusted() {
    for_each_program(async |program| {
        let mut story = Story::begin_on_replica(program, 0).await;
        story.send(&["XGROUP", "CREATE", "s0", "a", "0", "MKSTREAM"]).await;
        for _ in 0..20 {
            story.add(0, &[]).await;
        }
        story.hold().await;
        for count in ["2", "3"] {
            story
                .send(&["XREADGROUP", "GROUP", "a", "me", "COUNT", count, "NOACK", "STREAMS", "s0", ">"])
                .await;
            story.hold().await;
            story
                .send(&["XREADGROUP", "GROUP", "a", "me", "COUNT", count, "NOACK", "STREAMS", "s0", ">"])
                .await;
            story.send(&["XREADGROUP", "GROUP", "a", "me", "COUNT", count, "STREAMS", "s0", ">"]).await;
            story.hold().await;
        }
        assert_eq!(story.exact, story.readings);
    })
    .await;
}
