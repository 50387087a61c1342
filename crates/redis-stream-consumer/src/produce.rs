//! A load generator: adds entries to streams at a rate, or as fast as possible.
//!
//! Each entry has the fields `n`, its number from 1 across all streams, and `payload`; or [fields](FieldTemplate) that the
//! caller describes, or those of the [lines] of an input. Entries go to the streams in turn, in pipelines of bounded
//! size, one at a time. Entries whose reply was lost with the connection are sent again, with the same fields: one may
//! occur twice, but none is missing. [`ProduceStats::unknown`] counts them.

use std::collections::VecDeque;
use std::pin::pin;
use std::time::Duration;

use fastrand::Rng;
use redis::{Cmd, Pipeline, RedisError, cmd};
use tokio::time::Instant;
use tracing::{Instrument as _, info, info_span, warn};

use super::connect_options::ConnectOptions;
use super::connection::{Connection, Progress, moved_to, server_clock};
use super::entry::Fields;
use super::error::{InvalidConfig, RunError};
use redis_stream_core::clock::{now, unix_time};
use redis_stream_core::escape::escape;
use redis_stream_core::server_clock::ServerClock;
use tokio_util::sync::CancellationToken;

pub mod lines;
pub mod rate;
mod template;
pub mod trim;

use lines::EntryLines;
use rate::{Pattern, RateLimiter, RateSchedule};
pub use template::FieldTemplate;
use trim::Trim;

const BATCH_ENTRIES: u64 = 500;
/// Bounds the payloads of one pipeline, in this process and in the server's buffers.
const BATCH_BYTES: usize = 1024 * 1024;
/// Redis' limit of one value (`proto-max-bulk-len`).
const MOST_PAYLOAD_BYTES: usize = 512 * 1024 * 1024;

/// Longest wait for a line until it is looked whether there is something to log.
const LINE_WAIT: Duration = Duration::from_secs(1);

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
    /// Fields of the entries, in place of `n` and `payload`; empty for those.
    pub fields: Vec<FieldTemplate>,
    /// Time between two log lines about the progress. `None` for no lines.
    pub progress: Option<Duration>,
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
            fields: Vec::new(),
            progress: None,
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
    run_with(config, EntrySource::Generated, stop).await
}

/// Adds the entries of lines, as [`run`] does with those it generates, until the lines end.
///
/// # Errors
///
/// The errors of [`run`], and that of the first line that is no entry, after the lines before it were added.
pub async fn run_lines(
    config: &ProduceConfig,
    lines: EntryLines,
    stop: impl Future<Output = ()>,
) -> Result<ProduceStats, RunError> {
    run_with(config, EntrySource::Lines(InputLines::new(lines)), stop).await
}

async fn run_with(
    config: &ProduceConfig,
    source: EntrySource,
    stop: impl Future<Output = ()>,
) -> Result<ProduceStats, RunError> {
    let schedule = RateSchedule::new(config.rate, config.pattern)?;
    check(config)?;
    let stopping = CancellationToken::new();
    let connection = Connection::new(config.connect.clone(), stopping.clone());
    let mut producer = Producer::new(config, source, schedule, connection);
    let names: Vec<_> = config.streams.iter().map(|stream| escape(stream)).collect();
    let span = info_span!("produce", stream = %names.join(","));
    span.in_scope(|| {
        let count = config.count.map_or_else(|| "no limit".to_owned(), |count| count.to_string());
        let rate = if config.rate > 0.0 { config.rate.to_string() } else { "no limit".to_owned() };
        info!(server = %config.connect, per_second = rate, count, "producer started");
    });
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

/// An entry with its number, from 1 over all streams.
#[derive(Clone, Debug, PartialEq, Eq)]
struct NumberedEntry {
    number: u64,
    /// `None` for the fields `n` and `payload`.
    fields: Option<Fields>,
}

/// Where entries come from.
enum EntrySource {
    Generated,
    Lines(InputLines),
}

/// Lines that were read.
struct InputLines {
    lines: EntryLines,
    ready: VecDeque<Fields>,
    /// No line follows those that are ready.
    ended: bool,
    /// The line at the end is no entry.
    fault: Option<InvalidConfig>,
}

impl InputLines {
    fn new(lines: EntryLines) -> Self {
        Self { lines, ready: VecDeque::new(), ended: false, fault: None }
    }

    /// Waits until a line is ready, or no more will be.
    async fn wait(&mut self) {
        if self.ready.is_empty() && !self.ended {
            let line = self.lines.recv().await;
            self.put(line);
        }
    }

    /// Takes what was read by now, for one batch.
    fn fill(&mut self) {
        let size =
            |fields: &Fields| fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let mut bytes: usize = self.ready.iter().map(size).sum();
        while !self.ended && bytes < BATCH_BYTES && (self.ready.len() as u64) < BATCH_ENTRIES {
            let Ok(line) = self.lines.try_recv() else { return };
            bytes += line.as_ref().map_or(0, size);
            self.put(Some(line));
        }
    }

    fn put(&mut self, line: Option<Result<Fields, InvalidConfig>>) {
        match line {
            Some(Ok(fields)) => self.ready.push_back(fields),
            Some(Err(fault)) => (self.ended, self.fault) = (true, Some(fault)),
            None => self.ended = true,
        }
    }
}

struct Producer<'a> {
    config: &'a ProduceConfig,
    source: EntrySource,
    connection: Connection,
    limiter: RateLimiter,
    payload: Vec<u8>,
    random: Rng,
    /// Numbers given to entries so far.
    numbered: u64,
    /// Entries that were not confirmed. They go before new ones, and are never more than a batch.
    again: Vec<NumberedEntry>,
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
    /// Time of the next log line about the progress, since the start.
    next_progress: Duration,
}

impl<'a> Producer<'a> {
    fn new(
        config: &'a ProduceConfig,
        source: EntrySource,
        schedule: Option<RateSchedule>,
        connection: Connection,
    ) -> Self {
        let stats = |stream: &Vec<u8>| StreamStats { stream: stream.clone(), ..StreamStats::default() };
        Self {
            config,
            source,
            connection,
            limiter: RateLimiter::new(schedule),
            payload: vec![b'x'; config.payload_bytes],
            random: Rng::new(),
            numbered: 0,
            again: Vec::new(),
            streams: config.streams.iter().map(stats).collect(),
            accepted: vec![false; config.streams.len()],
            redirects: 0,
            started: None,
            elapsed: Duration::ZERO,
            clock: None,
            logged_behind: false,
            next_progress: config.progress.unwrap_or_default(),
        }
    }

    async fn run(&mut self) -> Result<(), RunError> {
        let mut ended = self.run_sessions().await;
        if let EntrySource::Lines(InputLines { fault, .. }) = &mut self.source {
            ended = ended.and_then(|()| fault.take().map_or(Ok(()), |fault| Err(fault.into())));
        }
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
            self.log_progress(now() - started);
            if self.waits_for_line(started).await {
                continue;
            }
            let elapsed = now() - started;
            let batch = self.next_batch(elapsed);
            if batch.is_empty() {
                self.connection.pause(self.limiter.next().saturating_sub(elapsed)).await;
                continue;
            }
            self.add(batch).await?;
            self.warn_if_behind(now() - started);
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        let is_end = match &self.source {
            EntrySource::Generated => false,
            EntrySource::Lines(lines) => lines.ended && lines.ready.is_empty(),
        };
        self.again.is_empty() && (is_end || self.config.count.is_some_and(|count| self.numbered >= count))
    }

    /// Waits for a line, if there is nothing else to add. Returns true if there is still nothing.
    async fn waits_for_line(&mut self, started: Instant) -> bool {
        let EntrySource::Lines(lines) = &mut self.source else { return false };
        if !self.again.is_empty() {
            return false;
        }
        let waited = tokio::select! {
            () = lines.wait() => true,
            () = self.connection.stopped() => false,
            () = tokio::time::sleep(LINE_WAIT) => false,
        };
        let waits = !waited || lines.ready.is_empty();
        if waits {
            // What no line came for is not made up for.
            self.limiter.skip(now() - started);
        }
        waits
    }

    fn next_batch(&mut self, elapsed: Duration) -> Vec<NumberedEntry> {
        let mut batch = std::mem::take(&mut self.again);
        let room = entries_per_batch(self.config.payload_bytes).saturating_sub(batch.len() as u64);
        let mut left = self.config.count.map_or(u64::MAX, |count| count - self.numbered);
        if let EntrySource::Lines(lines) = &mut self.source {
            lines.fill();
            left = left.min(lines.ready.len() as u64);
        }
        let new = self.limiter.take(elapsed, left.min(room));
        for _ in 0..new {
            self.numbered += 1;
            let fields = self.next_fields();
            batch.push(NumberedEntry { number: self.numbered, fields });
        }
        batch
    }

    /// Returns the fields of the entry with the number that was given last.
    fn next_fields(&mut self) -> Option<Fields> {
        match &mut self.source {
            EntrySource::Lines(lines) => lines.ready.pop_front(),
            EntrySource::Generated if self.config.fields.is_empty() => None,
            EntrySource::Generated => {
                let (time, number) = (unix_time(), self.numbered);
                let templates = self.config.fields.iter();
                Some(templates.map(|template| template.fill(number, time, &mut self.random)).collect())
            }
        }
    }

    async fn add(&mut self, batch: Vec<NumberedEntry>) -> Result<(), RedisError> {
        let mut pipeline = Pipeline::with_capacity(batch.len() + 1);
        for entry in &batch {
            pipeline.add_command(self.xadd(entry));
        }
        if self.config.trim.needs_time() {
            pipeline.add_command(cmd("TIME"));
        }
        let replies = match self.connection.query_all(&pipeline).await {
            Ok(replies) => replies,
            Err(error) => {
                batch.iter().for_each(|entry| self.stats_of(entry.number).unknown += 1);
                self.again = batch;
                return Err(error);
            }
        };
        let mut replies = replies.into_iter();
        let mut refused = None;
        for (entry, reply) in batch.into_iter().zip(&mut replies) {
            match reply {
                Ok(_) => self.count(&entry),
                Err(error) => {
                    self.again.push(entry);
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

    fn xadd(&self, entry: &NumberedEntry) -> Cmd {
        let n = entry.number;
        let mut xadd = cmd("XADD");
        xadd.arg(&self.config.streams[self.stream_of(n)]);
        self.config.trim.write(self.clock.map(|clock| clock.time_at(now().into_std())), &mut xadd);
        xadd.arg("*");
        match &entry.fields {
            None => {
                xadd.arg("n").arg(n).arg("payload").arg(&self.payload);
            }
            Some(fields) => {
                for (name, value) in fields {
                    xadd.arg(name).arg(value);
                }
            }
        }
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

    fn count(&mut self, entry: &NumberedEntry) {
        let n = entry.number;
        let bytes = match &entry.fields {
            None => "n".len() + n.to_string().len() + "payload".len() + self.payload.len(),
            Some(fields) => fields.iter().map(|(name, value)| name.len() + value.len()).sum(),
        };
        let stats = self.stats_of(n);
        stats.added += 1;
        stats.bytes += bytes as u64;
        let stream = self.stream_of(n);
        self.accepted[stream] = true;
        if self.accepted.iter().all(|accepted| *accepted) {
            self.redirects = 0;
        }
    }

    fn log_progress(&mut self, elapsed: Duration) {
        let Some(interval) = self.config.progress.filter(|_| elapsed >= self.next_progress) else { return };
        self.next_progress = elapsed + interval;
        let ProduceStats { added, bytes, unknown, .. } = self.stats();
        let per_second = format!("{:.1}", added as f64 / elapsed.as_secs_f64().max(f64::MIN_POSITIVE));
        info!(added, bytes, unknown, per_second, "entries added");
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
        let schedule = RateSchedule::new(config.rate, config.pattern).unwrap();
        Producer::new(config, EntrySource::Generated, schedule, connection)
    }

    fn numbered(number: u64) -> NumberedEntry {
        NumberedEntry { number, fields: None }
    }

    fn numbers(batch: &[NumberedEntry]) -> Vec<u64> {
        batch.iter().map(|entry| entry.number).collect()
    }

    #[test]
    fn a_batch_is_bounded_in_entries_and_in_bytes() {
        assert_eq!([0, 100, 10_000, 100_000_000].map(entries_per_batch), [500, 500, 104, 1]);
    }

    #[test]
    fn entries_that_were_not_added_go_before_new_ones_and_the_count_is_kept() {
        let load = ProduceConfig { count: Some(502), ..load() };
        let mut producer = producer(&load);
        assert_eq!(numbers(&producer.next_batch(Duration::ZERO)), (1..=500).collect::<Vec<_>>());
        producer.again = vec![numbered(3), numbered(7)];
        assert_eq!(numbers(&producer.next_batch(Duration::ZERO)), [3, 7, 501, 502]);
        assert!(producer.is_done());
        producer.again = vec![numbered(502)];
        assert!(!producer.is_done());
    }

    #[test]
    fn lines_are_added_as_far_as_they_were_read_and_their_fault_comes_after_them() {
        let (sender, lines) = tokio::sync::mpsc::channel(10);
        let fields = |value: &str| vec![(b"a".to_vec(), value.as_bytes().to_vec())];
        for value in ["1", "2"] {
            sender.try_send(Ok(fields(value))).unwrap();
        }
        sender.try_send(Err(InvalidConfig::new("line 3"))).unwrap();
        let load = load();
        let connection = Connection::new(load.connect.clone(), CancellationToken::new());
        let mut producer = Producer::new(&load, EntrySource::Lines(InputLines::new(lines)), None, connection);
        assert!(!producer.is_done());
        let batch = producer.next_batch(Duration::ZERO);
        assert_eq!(
            batch.iter().map(|entry| entry.fields.clone()).collect::<Vec<_>>(),
            [Some(fields("1")), Some(fields("2"))]
        );
        assert!(producer.is_done());
        let EntrySource::Lines(lines) = &producer.source else { panic!("it has lines") };
        assert!(lines.fault.is_some());
        batch.iter().for_each(|entry| producer.count(entry));
        assert_eq!((producer.stats().added, producer.stats().bytes), (2, 4));
    }

    #[test]
    fn entries_go_to_the_streams_in_turn_and_are_counted_by_stream() {
        let streams = ["a", "b", "c"].map(Vec::from).to_vec();
        let load = ProduceConfig { streams, payload_bytes: 10, ..load() };
        let mut producer = producer(&load);
        (1..=10).for_each(|n| producer.count(&numbered(n)));
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
