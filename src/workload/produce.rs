//! A load generator: adds entries to a stream, at a pace or as fast as the server takes them.
//!
//! Each entry has the fields `n`, its number from 1, and `payload`. After a lost connection the batch whose
//! reply was lost is sent again, so an `n` may occur twice, but none is missing.

use std::time::Duration;

use redis::{Pipeline, RedisError};
use tokio::time::Instant;
use tracing::{Instrument as _, info, info_span};

use super::connection::{Connection, Progress};
use super::endpoint::Endpoint;
use super::error::WorkloadError;
use super::line::escape;
use super::stop::Stop;

/// Most entries of one pipeline,
const BATCH_ENTRIES: u64 = 500;
/// and about as many bytes, so that large payloads are neither held here nor in the server's buffers.
const BATCH_BYTES: usize = 1024 * 1024;
/// Redis' own limit of one value (`proto-max-bulk-len`).
const MOST_PAYLOAD_BYTES: usize = 512 * 1024 * 1024;

/// What to add where.
#[derive(Clone, Debug)]
pub struct Load {
    /// The server.
    pub endpoint: Endpoint,
    /// Key of the stream. It is created where it is missing.
    pub stream: Vec<u8>,
    /// Entries per second; 0 is as fast as the server takes them.
    pub rate: f64,
    /// Entries to add in all. `None`: until it is stopped.
    pub count: Option<u64>,
    /// Trim the stream to about this many entries (`MAXLEN ~`). `None`: no trimming.
    pub maxlen: Option<u64>,
    /// Size of the field `payload` in bytes.
    pub payload_bytes: usize,
}

/// What a run added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Produced {
    /// Entries that the server said it added.
    pub added: u64,
    /// From the first connection to the last reply.
    pub elapsed: Duration,
}

/// Adds entries until there are `count` of them or `stop` resolves.
///
/// # Errors
///
/// [`WorkloadError::Setting`] for a rate or size that cannot be, before anything is sent; otherwise what
/// waiting cannot mend.
pub async fn run(
    load: &Load,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<Produced, WorkloadError> {
    let interval = interval(load.rate)?;
    if load.payload_bytes > MOST_PAYLOAD_BYTES {
        let text = format!(
            "a payload of {} bytes is more than Redis takes, at most {MOST_PAYLOAD_BYTES}",
            load.payload_bytes
        );
        return Err(WorkloadError::Setting(text));
    }
    let connection = Connection::new(load.endpoint.clone(), Stop::new(stop));
    let payload = vec![b'x'; load.payload_bytes];
    let mut producer = Producer { load, interval, connection, payload, added: 0 };
    let span = info_span!("produce", stream = %escape(&load.stream));
    let elapsed = producer.run().instrument(span.clone()).await?;
    span.in_scope(|| info!(added = producer.added, "producer ended"));
    Ok(Produced { added: producer.added, elapsed })
}

/// From one entry to the next; zero is no wait at all.
fn interval(rate: f64) -> Result<Duration, WorkloadError> {
    if !rate.is_finite() || rate < 0.0 {
        let text = format!("rate {rate} is not a number of entries per second, expected 0 or more");
        return Err(WorkloadError::Setting(text));
    }
    if rate == 0.0 {
        return Ok(Duration::ZERO);
    }
    Duration::try_from_secs_f64(rate.recip())
        .map_err(|_| WorkloadError::Setting(format!("rate {rate:?} is too small")))
}

struct Producer<'a> {
    load: &'a Load,
    interval: Duration,
    connection: Connection,
    payload: Vec<u8>,
    added: u64,
}

impl Producer<'_> {
    async fn run(&mut self) -> Result<Duration, WorkloadError> {
        let mut started = None;
        while self.connection.connect().await? == Progress::Ready {
            let started = *started.get_or_insert_with(now);
            match self.session().await {
                Ok(()) => return Ok(now() - started),
                Err(error) => self.connection.lost(error)?,
            }
        }
        Ok(started.map_or(Duration::ZERO, |started| now() - started))
    }

    /// From one connection to the next. The pace starts anew: what an outage held up is not made up for.
    async fn session(&mut self) -> Result<(), RedisError> {
        let most_per_batch = entries_per_batch(self.load.payload_bytes);
        let mut pace = Pace { interval: self.interval, next: now() };
        while !self.connection.is_stopped() {
            let left = self.load.count.map_or(u64::MAX, |count| count.saturating_sub(self.added));
            if left == 0 {
                break;
            }
            let moment = now();
            match pace.take(moment, left.min(most_per_batch)) {
                0 => drop(self.connection.pause(pace.next - moment).await),
                due => self.add(due).await?,
            }
        }
        Ok(())
    }

    async fn add(&mut self, entries: u64) -> Result<(), RedisError> {
        let mut pipeline = Pipeline::new();
        for n in (self.added + 1)..=(self.added + entries) {
            pipeline.cmd("XADD").arg(&self.load.stream);
            if let Some(maxlen) = self.load.maxlen {
                pipeline.arg("MAXLEN").arg("~").arg(maxlen);
            }
            pipeline.arg("*").arg("n").arg(n).arg("payload").arg(&self.payload);
        }
        let mut refused = None;
        for reply in self.connection.query_all(&pipeline).await? {
            match reply {
                Ok(_) => self.added += 1,
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        if let Some(error) = refused {
            return Err(error);
        }
        self.connection.works();
        Ok(())
    }
}

/// When entries are due. The time is a parameter.
#[derive(Clone, Copy, Debug)]
struct Pace {
    interval: Duration,
    next: Instant,
}

impl Pace {
    /// How many are due now, at most `most`; those count as added.
    fn take(&mut self, now: Instant, most: u64) -> u64 {
        if self.interval.is_zero() {
            return most;
        }
        let Some(late) = now.checked_duration_since(self.next) else {
            return 0;
        };
        let due = late.as_nanos() / self.interval.as_nanos() + 1;
        let due = u32::try_from(due.min(u128::from(most))).unwrap_or(u32::MAX);
        self.next += self.interval * due;
        u64::from(due)
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

    #[test]
    fn a_rate_is_an_interval_and_a_wrong_one_is_a_setting() {
        assert_eq!(interval(20.0).unwrap(), Duration::from_millis(50));
        assert_eq!(interval(0.0).unwrap(), Duration::ZERO);
        for (rate, text) in [
            (-1.0, "rate -1 is not a number of entries per second, expected 0 or more"),
            (f64::NAN, "rate NaN is not a number of entries per second, expected 0 or more"),
            (f64::INFINITY, "rate inf is not a number of entries per second, expected 0 or more"),
            (1e-300, "rate 1e-300 is too small"),
        ] {
            assert_eq!(interval(rate).unwrap_err().to_string(), text);
        }
    }

    #[test]
    fn the_pace_gives_what_is_due_and_keeps_what_a_full_batch_left() {
        let start = now();
        let mut pace = Pace { interval: Duration::from_millis(100), next: start };
        assert_eq!(pace.take(start, 500), 1);
        assert_eq!(pace.take(start, 500), 0);
        assert_eq!(pace.take(start + Duration::from_millis(99), 500), 0);
        assert_eq!(pace.take(start + Duration::from_millis(1_000), 4), 4);
        assert_eq!(pace.take(start + Duration::from_millis(1_000), 500), 6);
    }

    #[test]
    fn a_batch_is_bounded_in_entries_and_in_bytes() {
        assert_eq!([0, 100, 10_000, 100_000_000].map(entries_per_batch), [500, 500, 104, 1]);
    }
}
