//! A load generator: adds entries to streams at a rate, or as fast as possible.
//!
//! Each entry has the fields `n`, its number from 1 across all streams, and `payload`. Entries go to the streams in turn,
//! in pipelines of bounded size, one at a time. Entries whose reply was lost with the connection are sent again: an `n`
//! may occur twice, but none is missing. [`ProduceStats::unknown`] counts them.

use std::pin::pin;
use std::time::Duration;

use redis::{Cmd, Pipeline, RedisError, cmd};
use tokio::time::Instant;
use tracing::{Instrument as _, info, info_span, warn};

use super::connect_options::ConnectOptions;
use super::connection::{Connection, Progress, moved_to, server_clock};
use super::error::{InvalidConfig, RunError};
use redis_stream_core::clock::now;
use redis_stream_core::escape::escape;
use redis_stream_core::server_clock::ServerClock;
use tokio_util::sync::CancellationToken;

pub mod rate;
pub mod trim;

use rate::{Pattern, RateLimiter, RateSchedule};
use trim::Trim;

const BATCH_ENTRIES: u64 = 500;
/// Bounds the payloads of one pipeline, in this process and in the server's buffers.
const BATCH_BYTES: usize = 1024 * 1024;
/// Redis' limit of one value (`proto-max-bulk-len`).
const MOST_PAYLOAD_BYTES: usize = 512 * 1024 * 1024;

/// Settings of the load generator.
#[derive(Clone, Debug)]
pub struct ProduceConfig {
    /// The server.
    pub connect: ConnectOptions,
    /// Keys of the streams: at least one, each once. Missing streams are created.
    pub streams: Vec<Vec<u8>>,
    /// Average entries per second across all streams; 0 adds entries as fast as possible.
    pub rate: f64,
    /// Distribution of the entries over time.
    pub pattern: Pattern,
    /// Total number of entries. `None` continues until the run is stopped.
    pub count: Option<u64>,
    /// Trimming of the streams.
    pub trim: Trim,
    /// Size of the field `payload` in bytes.
    pub payload_bytes: usize,
}

/// Result of a run.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProduceStats {
    /// Entries that the server confirmed.
    pub added: u64,
    /// Bytes of the names and values of their fields.
    pub bytes: u64,
    /// Entries whose reply was lost with the connection. Each may be in its stream in addition to `added`.
    pub unknown: u64,
    /// Time from the first connection to the end, including outages and pauses.
    pub elapsed: Duration,
    /// Results by stream, in the order of [`ProduceConfig::streams`].
    pub streams: Vec<StreamStats>,
}

/// Result of a run for one stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamStats {
    /// Key of the stream.
    pub stream: Vec<u8>,
    /// Entries that the server confirmed.
    pub added: u64,
    /// Bytes of the names and values of their fields.
    pub bytes: u64,
    /// Entries whose reply was lost with the connection.
    pub unknown: u64,
}

impl ProduceConfig {
    /// Returns settings for one stream: 10 entries of 100 bytes per second until the run is stopped, without trimming.
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
/// [`RunError::Config`] before anything is sent if a rate, pattern, size or stream is invalid; later the first error that
/// retrying cannot overcome. The entries added until then are logged.
pub async fn run(config: &ProduceConfig, stop: impl Future<Output = ()>) -> Result<ProduceStats, RunError> {
    let schedule = RateSchedule::new(config.rate, config.pattern)?;
    check(config)?;
    let stopping = CancellationToken::new();
    let connection = Connection::new(config.connect.clone(), stopping.clone());
    let mut producer = Producer::new(config, schedule, connection);
    let names: Vec<_> = config.streams.iter().map(|stream| escape(stream)).collect();
    let span = info_span!("produce", stream = %names.join(","));
    let ended = {
        let mut running = pin!(producer.run().instrument(span.clone()));
        tokio::select! {
            biased;
            () = stop => {
                stopping.cancel();
                running.await
            }
            ended = &mut running => ended,
        }
    };
    let stats = producer.stats();
    let ProduceStats { added, bytes, unknown, .. } = stats;
    span.in_scope(|| info!(added, bytes, unknown, "producer ended"));
    ended.map(|()| stats)
}

fn check(config: &ProduceConfig) -> Result<(), InvalidConfig> {
    let wrong = |text: String| Err(InvalidConfig::new(text));
    if config.payload_bytes > MOST_PAYLOAD_BYTES {
        let bytes = config.payload_bytes;
        return wrong(format!(
            "a payload of {bytes} bytes is more than Redis takes, at most {MOST_PAYLOAD_BYTES}"
        ));
    }
    if config.streams.is_empty() {
        return wrong("no stream is named, expected at least one".to_owned());
    }
    for (at, stream) in config.streams.iter().enumerate() {
        if config.streams[..at].contains(stream) {
            return wrong(format!("the stream {} is named twice, expected once", escape(stream)));
        }
    }
    Ok(())
}

struct Producer<'a> {
    config: &'a ProduceConfig,
    connection: Connection,
    limiter: RateLimiter,
    payload: Vec<u8>,
    /// Numbers given to entries so far.
    numbered: u64,
    /// Numbers of entries that were not confirmed. They go before new ones, and are never more than a batch.
    again: Vec<u64>,
    streams: Vec<StreamStats>,
    /// Streams to which the current node added entries, in their order.
    accepted: Vec<bool>,
    /// Redirects since one node accepted entries for all streams.
    redirects: usize,
    /// Time of the first connection.
    started: Option<Instant>,
    /// Zero until the end of the run.
    elapsed: Duration,
    /// `None` if it is not needed, or not known yet.
    clock: Option<ServerClock>,
    logged_behind: bool,
}

impl<'a> Producer<'a> {
    fn new(config: &'a ProduceConfig, schedule: Option<RateSchedule>, connection: Connection) -> Self {
        let stats = |stream: &Vec<u8>| StreamStats { stream: stream.clone(), ..StreamStats::default() };
        Self {
            config,
            connection,
            limiter: RateLimiter::new(schedule),
            payload: vec![b'x'; config.payload_bytes],
            numbered: 0,
            again: Vec::new(),
            streams: config.streams.iter().map(stats).collect(),
            accepted: vec![false; config.streams.len()],
            redirects: 0,
            started: None,
            elapsed: Duration::ZERO,
            clock: None,
            logged_behind: false,
        }
    }

    async fn run(&mut self) -> Result<(), RunError> {
        let ended = self.run_sessions().await;
        self.elapsed = self.started.map_or(Duration::ZERO, |started| now() - started);
        ended
    }

    async fn run_sessions(&mut self) -> Result<(), RunError> {
        while self.connection.connect().await? == Progress::Ready {
            let (first, now) = (self.started.is_none(), now());
            let started = *self.started.get_or_insert(now);
            if !first {
                self.limiter.skip(now - started);
            }
            match self.run_session(started).await {
                Ok(()) => return Ok(()),
                Err(error) => {
                    self.check_redirect(&error)?;
                    self.connection.lost(error)?;
                }
            }
        }
        Ok(())
    }

    /// Returns an error if the streams are on several nodes of a cluster, between which the one connection would alternate.
    fn check_redirect(&mut self, error: &RedisError) -> Result<(), RunError> {
        if moved_to(error).is_none() {
            return Ok(());
        }
        self.accepted.fill(false);
        self.redirects += 1;
        if self.accepted.len() == 1 || self.redirects <= self.accepted.len() {
            return Ok(());
        }
        let names: Vec<_> = self.config.streams.iter().map(|stream| escape(stream)).collect();
        Err(RunError::from(InvalidConfig::new(format!(
            "the streams {} are on several nodes of a cluster: give their keys one hash tag, or produce to each \
             of them by itself",
            names.join(", ")
        ))))
    }

    async fn run_session(&mut self, started: Instant) -> Result<(), RedisError> {
        if self.config.trim.needs_time() {
            let reply = self.connection.query(&cmd("TIME"), Duration::ZERO).await?;
            self.clock = Some(server_clock(reply, now())?);
        }
        while !self.connection.is_stopped() && !self.is_done() {
            let elapsed = now() - started;
            let batch = self.next_batch(elapsed);
            if batch.is_empty() {
                self.connection.pause(self.limiter.next().saturating_sub(elapsed)).await;
                continue;
            }
            self.add(&batch).await?;
            self.warn_if_behind(now() - started);
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.again.is_empty() && self.config.count.is_some_and(|count| self.numbered >= count)
    }

    fn next_batch(&mut self, elapsed: Duration) -> Vec<u64> {
        let mut batch = std::mem::take(&mut self.again);
        let room = entries_per_batch(self.config.payload_bytes).saturating_sub(batch.len() as u64);
        let left = self.config.count.map_or(u64::MAX, |count| count - self.numbered);
        let new = self.limiter.take(elapsed, left.min(room));
        batch.extend(self.numbered + 1..=self.numbered + new);
        self.numbered += new;
        batch
    }

    async fn add(&mut self, batch: &[u64]) -> Result<(), RedisError> {
        let mut pipeline = Pipeline::with_capacity(batch.len() + 1);
        for n in batch {
            pipeline.add_command(self.xadd(*n));
        }
        if self.config.trim.needs_time() {
            pipeline.add_command(cmd("TIME"));
        }
        let replies = match self.connection.query_all(&pipeline).await {
            Ok(replies) => replies,
            Err(error) => {
                batch.iter().for_each(|n| self.stats_of(*n).unknown += 1);
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
        xadd.arg(&self.config.streams[self.stream_of(n)]);
        self.config.trim.write(self.clock.map(|clock| clock.time_at(now().into_std())), &mut xadd);
        xadd.arg("*").arg("n").arg(n).arg("payload").arg(&self.payload);
        xadd
    }

    fn stream_of(&self, n: u64) -> usize {
        let turn = (n - 1) % self.streams.len() as u64;
        usize::try_from(turn).expect("less than the number of streams")
    }

    fn stats_of(&mut self, n: u64) -> &mut StreamStats {
        let at = self.stream_of(n);
        &mut self.streams[at]
    }

    fn count(&mut self, n: u64) {
        let bytes = "n".len() + n.to_string().len() + "payload".len() + self.payload.len();
        let stats = self.stats_of(n);
        stats.added += 1;
        stats.bytes += bytes as u64;
        let stream = self.stream_of(n);
        self.accepted[stream] = true;
        if self.accepted.iter().all(|accepted| *accepted) {
            self.redirects = 0;
        }
    }

    fn warn_if_behind(&mut self, elapsed: Duration) {
        if !self.logged_behind && !self.is_done() && self.limiter.is_behind(elapsed) {
            self.logged_behind = true;
            let (rate, added) = (self.config.rate, self.stats().added);
            warn!(rate, added, "producer falls behind its rate, and adds entries as fast as it can");
        }
    }

    fn stats(&self) -> ProduceStats {
        let sum = |of: fn(&StreamStats) -> u64| self.streams.iter().map(of).sum();
        ProduceStats {
            added: sum(|stream| stream.added),
            bytes: sum(|stream| stream.bytes),
            unknown: sum(|stream| stream.unknown),
            elapsed: self.elapsed,
            streams: self.streams.clone(),
        }
    }
}

fn entries_per_batch(payload_bytes: usize) -> u64 {
    let entries = BATCH_BYTES / payload_bytes.max(1);
    u64::try_from(entries).unwrap_or(u64::MAX).clamp(1, BATCH_ENTRIES)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load() -> ProduceConfig {
        let connect = ConnectOptions::new("redis://cache", None, None).unwrap();
        ProduceConfig { rate: 0.0, ..ProduceConfig::new(connect, "orders") }
    }

    fn producer(config: &ProduceConfig) -> Producer<'_> {
        let connection = Connection::new(config.connect.clone(), CancellationToken::new());
        Producer::new(config, RateSchedule::new(config.rate, config.pattern).unwrap(), connection)
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
        producer.stats_of(2).unknown += 1;
        let stats = producer.stats();
        let by_stream = stats.streams.iter().map(|stream| (stream.added, stream.bytes, stream.unknown));
        assert_eq!(by_stream.collect::<Vec<_>>(), [(4, 77, 0), (3, 57, 1), (3, 57, 0)]);
        assert_eq!((stats.added, stats.bytes, stats.unknown), (10, 191, 1));
    }

    #[test]
    fn an_invalid_config_names_the_setting() {
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
