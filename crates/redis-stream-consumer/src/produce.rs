//! A load generator: adds entries to streams, at a pace or as fast as the server takes them.
//!
//! Each entry has the fields `n`, its number from 1 over all streams, and `payload`. Entries go to the streams in
//! turn, in pipelines of bounded size, one on its way at a time. After a lost connection the entries whose reply
//! was lost are sent again, so an `n` may occur twice, but none is missing; how many those are is told.

use std::time::Duration;

use redis::{Cmd, Pipeline, RedisError, cmd};
use tokio::time::Instant;
use tracing::{Instrument as _, info, info_span, warn};

use super::connect_options::ConnectOptions;
use super::connection::{Connection, Progress, moved_to, server_clock};
use super::error::WorkloadError;
use super::stop::Stop;
use redis_stream_core::escape::escape;
use redis_stream_core::server_clock::ServerClock;

pub mod rate;
pub mod trim;

use rate::{Pattern, RateLimiter, RateSchedule};
use trim::Trim;

/// Most entries of one pipeline,
const BATCH_ENTRIES: u64 = 500;
/// and about as many bytes, so that large payloads are neither held here nor in the server's buffers.
const BATCH_BYTES: usize = 1024 * 1024;
/// Redis' own limit of one value (`proto-max-bulk-len`).
const MOST_PAYLOAD_BYTES: usize = 512 * 1024 * 1024;

/// What to add where.
#[derive(Clone, Debug)]
pub struct ProduceConfig {
    /// The server.
    pub connect: ConnectOptions,
    /// Keys of the streams, at least one and none twice. Each is created where it is missing.
    pub streams: Vec<Vec<u8>>,
    /// Entries per second in all streams together, on average; 0 is as fast as the server takes them.
    pub rate: f64,
    /// How they spread over time.
    pub pattern: Pattern,
    /// Entries to add in all. `None`: until it is stopped.
    pub count: Option<u64>,
    /// What is trimmed.
    pub trim: Trim,
    /// Size of the field `payload` in bytes.
    pub payload_bytes: usize,
}

/// What a run added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceStats {
    /// Entries that the server said it added.
    pub added: u64,
    /// Bytes of their fields and values.
    pub bytes: u64,
    /// Entries whose reply was lost with the connection: each may be in its stream besides those that were added.
    pub unknown: u64,
    /// From the first connection to the end, outages and pauses included.
    pub elapsed: Duration,
    /// The same by stream, in the order of [`ProduceConfig::streams`].
    pub streams: Vec<StreamStats>,
}

/// What a run added to one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamStats {
    /// Key of the stream.
    pub stream: Vec<u8>,
    /// Entries that the server said it added.
    pub added: u64,
    /// Bytes of their fields and values.
    pub bytes: u64,
    /// Entries whose reply was lost with the connection.
    pub unknown: u64,
}

impl ProduceConfig {
    /// Ten entries of 100 bytes per second to one stream, until it is stopped, and no trimming.
    pub fn new(connect: ConnectOptions, stream: impl Into<Vec<u8>>) -> Self {
        Self {
            connect,
            streams: vec![stream.into()],
            rate: 10.0,
            pattern: Pattern::Steady,
            count: None,
            trim: Trim::Never,
            payload_bytes: 100,
        }
    }
}

/// Adds entries until there are `count` of them or `stop` resolves.
///
/// # Errors
///
/// [`WorkloadError::Setting`] for a rate, pattern, size or stream that cannot be, before anything is sent;
/// otherwise what waiting cannot mend. What was added until then is logged.
pub async fn run(
    load: &ProduceConfig,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<ProduceStats, WorkloadError> {
    let schedule = RateSchedule::new(load.rate, load.pattern)?;
    check(load)?;
    let connection = Connection::new(load.connect.clone(), Stop::new(stop));
    let mut producer = Producer::new(load, schedule, connection);
    let names: Vec<_> = load.streams.iter().map(|stream| escape(stream)).collect();
    let span = info_span!("produce", stream = %names.join(","));
    let ended = producer.run().instrument(span.clone()).await;
    let produced = producer.produced();
    let ProduceStats { added, bytes, unknown, .. } = produced;
    span.in_scope(|| info!(added, bytes, unknown, "producer ended"));
    ended.map(|()| produced)
}

fn check(load: &ProduceConfig) -> Result<(), WorkloadError> {
    let wrong = |text: String| Err(WorkloadError::Setting(text));
    if load.payload_bytes > MOST_PAYLOAD_BYTES {
        let bytes = load.payload_bytes;
        return wrong(format!(
            "a payload of {bytes} bytes is more than Redis takes, at most {MOST_PAYLOAD_BYTES}"
        ));
    }
    if load.streams.is_empty() {
        return wrong("no stream is named, expected at least one".to_owned());
    }
    for (at, stream) in load.streams.iter().enumerate() {
        if load.streams[..at].contains(stream) {
            return wrong(format!("the stream {} is named twice, expected once", escape(stream)));
        }
    }
    Ok(())
}

struct Producer<'a> {
    load: &'a ProduceConfig,
    connection: Connection,
    pace: RateLimiter,
    payload: Vec<u8>,
    /// Numbers given to entries so far.
    numbered: u64,
    /// Numbers of entries that were not added for certain: they go before new ones. Never more than a batch.
    again: Vec<u64>,
    shares: Vec<StreamStats>,
    /// Streams that the node took entries for that we are connected to, in their order.
    taken: Vec<bool>,
    /// How often a node sent us to another one since all streams were taken by one.
    moves: usize,
    /// When there was a connection first.
    started: Option<Instant>,
    /// From then to the end of the run; zero before it.
    elapsed: Duration,
    /// `None` where it is not needed or not known yet.
    clock: Option<ServerClock>,
    /// Whether it was said.
    fell_behind: bool,
}

impl<'a> Producer<'a> {
    fn new(load: &'a ProduceConfig, schedule: Option<RateSchedule>, connection: Connection) -> Self {
        let share = |stream: &Vec<u8>| StreamStats { stream: stream.clone(), ..StreamStats::default() };
        Self {
            load,
            connection,
            pace: RateLimiter::new(schedule),
            payload: vec![b'x'; load.payload_bytes],
            numbered: 0,
            again: Vec::new(),
            shares: load.streams.iter().map(share).collect(),
            taken: vec![false; load.streams.len()],
            moves: 0,
            started: None,
            elapsed: Duration::ZERO,
            clock: None,
            fell_behind: false,
        }
    }

    async fn run(&mut self) -> Result<(), WorkloadError> {
        let ended = self.sessions().await;
        self.elapsed = self.started.map_or(Duration::ZERO, |started| now() - started);
        ended
    }

    async fn sessions(&mut self) -> Result<(), WorkloadError> {
        while self.connection.connect().await? == Progress::Ready {
            let (first, now) = (self.started.is_none(), now());
            let started = *self.started.get_or_insert(now);
            if !first {
                self.pace.leave_out(now - started);
            }
            match self.session(started).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    self.note_move(&error)?;
                    self.connection.lost(error)?;
                }
            }
        }
        Ok(())
    }

    /// There is one connection: streams on several nodes of a cluster would make it go to and fro.
    fn note_move(&mut self, error: &RedisError) -> Result<(), WorkloadError> {
        if moved_to(error).is_none() {
            return Ok(());
        }
        self.taken.fill(false);
        self.moves += 1;
        if self.taken.len() == 1 || self.moves <= self.taken.len() {
            return Ok(());
        }
        let names: Vec<_> = self.load.streams.iter().map(|stream| escape(stream)).collect();
        Err(WorkloadError::Setting(format!(
            "the streams {} are on several nodes of a cluster: give their keys one hash tag, or produce to each \
             of them by itself",
            names.join(", ")
        )))
    }

    /// From one connection to the next.
    async fn session(&mut self, started: Instant) -> Result<(), RedisError> {
        if self.load.trim.needs_time() {
            let reply = self.connection.query(&cmd("TIME"), Duration::ZERO).await?;
            self.clock = Some(server_clock(reply, now())?);
        }
        while !self.connection.is_stopped() && !self.is_done() {
            let elapsed = now() - started;
            let batch = self.next_batch(elapsed);
            if batch.is_empty() {
                self.connection.pause(self.pace.next().saturating_sub(elapsed)).await;
                continue;
            }
            self.add(&batch).await?;
            self.look_back(now() - started);
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.again.is_empty() && self.load.count.is_some_and(|count| self.numbered >= count)
    }

    /// The numbers of the entries to send now.
    fn next_batch(&mut self, elapsed: Duration) -> Vec<u64> {
        let mut batch = std::mem::take(&mut self.again);
        let room = entries_per_batch(self.load.payload_bytes).saturating_sub(batch.len() as u64);
        let left = self.load.count.map_or(u64::MAX, |count| count - self.numbered);
        let new = self.pace.take(elapsed, left.min(room));
        batch.extend(self.numbered + 1..=self.numbered + new);
        self.numbered += new;
        batch
    }

    async fn add(&mut self, batch: &[u64]) -> Result<(), RedisError> {
        let mut pipeline = Pipeline::with_capacity(batch.len() + 1);
        for n in batch {
            pipeline.add_command(self.xadd(*n));
        }
        if self.load.trim.needs_time() {
            pipeline.add_command(cmd("TIME"));
        }
        let replies = match self.connection.query_all(&pipeline).await {
            Ok(replies) => replies,
            Err(error) => {
                batch.iter().for_each(|n| self.share(*n).unknown += 1);
                self.again = batch.to_vec();
                return Err(error);
            }
        };
        let mut replies = replies.into_iter();
        let mut refused = None;
        for (n, reply) in batch.iter().zip(&mut replies) {
            match reply {
                Ok(_) => self.count(*n),
                Err(error) => {
                    self.again.push(*n);
                    refused = refused.or(Some(error));
                }
            }
        }
        if let Some(error) = refused {
            return Err(error);
        }
        if let Some(time) = replies.next() {
            self.clock = Some(server_clock(time?, now())?);
        }
        self.connection.works();
        Ok(())
    }

    fn xadd(&self, n: u64) -> Cmd {
        let mut xadd = cmd("XADD");
        xadd.arg(&self.load.streams[self.stream_of(n)]);
        self.load.trim.write(self.clock.map(|clock| clock.time_at(now().into_std())), &mut xadd);
        xadd.arg("*").arg("n").arg(n).arg("payload").arg(&self.payload);
        xadd
    }

    /// Each stream in turn.
    fn stream_of(&self, n: u64) -> usize {
        let turn = (n - 1) % self.shares.len() as u64;
        usize::try_from(turn).expect("a number below that of the streams")
    }

    fn share(&mut self, n: u64) -> &mut StreamStats {
        let at = self.stream_of(n);
        &mut self.shares[at]
    }

    fn count(&mut self, n: u64) {
        let bytes = "n".len() + n.to_string().len() + "payload".len() + self.payload.len();
        let share = self.share(n);
        share.added += 1;
        share.bytes += bytes as u64;
        let stream = self.stream_of(n);
        self.taken[stream] = true;
        if self.taken.iter().all(|taken| *taken) {
            self.moves = 0;
        }
    }

    /// Says once that the rate is too high for this server, or this machine.
    fn look_back(&mut self, elapsed: Duration) {
        if !self.fell_behind && !self.is_done() && self.pace.is_behind(elapsed) {
            self.fell_behind = true;
            let (rate, added) = (self.load.rate, self.produced().added);
            warn!(rate, added, "producer falls behind its rate, and adds entries as fast as it can");
        }
    }

    fn produced(&self) -> ProduceStats {
        let sum = |of: fn(&StreamStats) -> u64| self.shares.iter().map(of).sum();
        ProduceStats {
            added: sum(|share| share.added),
            bytes: sum(|share| share.bytes),
            unknown: sum(|share| share.unknown),
            elapsed: self.elapsed,
            streams: self.shares.clone(),
        }
    }
}

fn entries_per_batch(payload_bytes: usize) -> u64 {
    let entries = BATCH_BYTES / payload_bytes.max(1);
    u64::try_from(entries).unwrap_or(u64::MAX).clamp(1, BATCH_ENTRIES)
}

#[expect(clippy::disallowed_methods, reason = "the edge at which the pace meets the clock")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load() -> ProduceConfig {
        let connect = ConnectOptions::new("redis://cache", None, None).unwrap();
        ProduceConfig { rate: 0.0, ..ProduceConfig::new(connect, "orders") }
    }

    fn producer(load: &ProduceConfig) -> Producer<'_> {
        let connection = Connection::new(load.connect.clone(), Stop::new(std::future::pending()));
        Producer::new(load, RateSchedule::new(load.rate, load.pattern).unwrap(), connection)
    }

    #[test]
    fn a_batch_is_bounded_in_entries_and_in_bytes() {
        assert_eq!([0, 100, 10_000, 100_000_000].map(entries_per_batch), [500, 500, 104, 1]);
    }

    #[test]
    fn entries_that_were_not_added_go_before_new_ones_and_the_count_is_kept() {
        let load = ProduceConfig { count: Some(502), ..load() };
        let mut producer = producer(&load);
        assert_eq!(producer.next_batch(Duration::ZERO), (1..=500).collect::<Vec<_>>());
        producer.again = vec![3, 7];
        assert_eq!(producer.next_batch(Duration::ZERO), [3, 7, 501, 502]);
        assert!(producer.is_done());
        producer.again = vec![502];
        assert!(!producer.is_done());
    }

    #[test]
    fn entries_go_to_the_streams_in_turn_and_are_counted_by_stream() {
        let streams = ["a", "b", "c"].map(Vec::from).to_vec();
        let load = ProduceConfig { streams, payload_bytes: 10, ..load() };
        let mut producer = producer(&load);
        (1..=10).for_each(|n| producer.count(n));
        producer.share(2).unknown += 1;
        let produced = producer.produced();
        let shares = produced.streams.iter().map(|share| (share.added, share.bytes, share.unknown));
        assert_eq!(shares.collect::<Vec<_>>(), [(4, 77, 0), (3, 57, 1), (3, 57, 0)]);
        assert_eq!((produced.added, produced.bytes, produced.unknown), (10, 191, 1));
    }

    #[test]
    fn what_cannot_be_produced_is_a_setting() {
        let twice = ["a", "b", "a"].map(Vec::from).to_vec();
        for (load, text) in [
            (ProduceConfig { streams: Vec::new(), ..load() }, "no stream is named, expected at least one"),
            (ProduceConfig { streams: twice, ..load() }, "the stream a is named twice, expected once"),
            (
                ProduceConfig { payload_bytes: MOST_PAYLOAD_BYTES + 1, ..load() },
                "a payload of 536870913 bytes is more than Redis takes, at most 536870912",
            ),
        ] {
            assert_eq!(check(&load).unwrap_err().to_string(), text);
        }
    }
}
