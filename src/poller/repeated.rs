//! Recognizes replies about a stream that repeat those of an earlier poll but for ages, without decoding them.

use std::time::Duration;

use xxhash_rust::xxh3::Xxh3;

use crate::poller::decode::{self, ConsumerAges};
use crate::poller::resp::Value;
use redis_stream_core::name::Name;
use redis_stream_lag::poll_readings::PollReadings;
use redis_stream_lag::settled::Settled;
use redis_stream_lag::snapshot::Epoch;

/// Difference by which the time from which an age counts may miss the earlier one: the server reads its clock a little
/// before or after TIME.
const TOLERANCE_MS: u64 = 20;

/// The part that is kept of the replies to XINFO GROUPS, XINFO STREAM and XINFO CONSUMERS about one stream that is settled.
#[derive(Clone, Debug)]
pub(super) struct StreamReplies {
    epoch: Epoch,
    /// The last poll in which they were the same, by the clocks of the poller and of the node.
    confirmed_at: (Duration, Duration),
    /// Set once they were derived.
    settled: Option<Settled>,
    /// Of everything but ages.
    hash: u64,
    /// For each consumer, the times from which its ages count.
    consumers: Box<[ConsumerTimes]>,
}

/// Milliseconds since the Unix epoch by the node's clock.
#[derive(Clone, Copy, Debug)]
struct ConsumerTimes {
    seen: u64,
    active: Option<u64>,
}

impl StreamReplies {
    /// Returns `None` if a reply is an error or is not understood. `now` is the time of the poll, by the poller's clock, and
    /// that just before the replies, by the node's.
    pub(super) fn of(
        epoch: Epoch,
        now: (Duration, Duration),
        (groups, stream): (Value<'_>, Value<'_>),
        consumers: &[Value<'_>],
    ) -> Option<Self> {
        let mut hasher = Xxh3::new();
        for reply in [groups, stream] {
            hasher.update(reply.kept_bytes()?);
        }
        let time_ms = u64::try_from(now.1.as_millis()).ok()?;
        let mut times = Vec::new();
        for reply in consumers {
            let other = |bytes: &[u8]| {
                hasher.update(&bytes.len().to_le_bytes());
                hasher.update(bytes);
            };
            decode::consumer_ages(*reply, other, |ages| times.push(ConsumerTimes::of(ages, time_ms))).ok()?;
        }
        Some(Self { epoch, confirmed_at: now, settled: None, hash: hasher.digest(), consumers: times.into() })
    }

    /// Returns true if the stream needs no derivation in a poll whose replies are the same.
    pub(super) fn are_settled(
        &mut self,
        readings: &PollReadings<'_>,
        key: &Name,
        epoch: Epoch,
        now: (Duration, Duration),
    ) -> bool {
        self.settled = self.settled.or_else(|| readings.settled(key, epoch));
        self.epoch == epoch && self.settled.is_some_and(|settled| settled.holds_at(now, self.confirmed_at))
    }

    /// Returns true if later replies are the same but for ages, which have grown by the time between.
    pub(super) fn confirm(&mut self, later: &Self) -> bool {
        let is_same = |(later, earlier): (&ConsumerTimes, &ConsumerTimes)| later.is_same(earlier);
        let are_same = (self.hash, self.consumers.len()) == (later.hash, later.consumers.len())
            && later.consumers.iter().zip(&self.consumers).all(is_same);
        if are_same {
            self.confirmed_at = later.confirmed_at;
        }
        are_same
    }
}

impl ConsumerTimes {
    fn of(ages: ConsumerAges, now: u64) -> Self {
        let ConsumerAges { idle_ms, inactive_ms } = ages;
        Self { seen: now.saturating_sub(idle_ms), active: inactive_ms.map(|ms| now.saturating_sub(ms)) }
    }

    fn is_same(&self, earlier: &Self) -> bool {
        let is_close = |now: u64, earlier: u64| now.abs_diff(earlier) <= TOLERANCE_MS;
        is_close(self.seen, earlier.seen)
            && match (self.active, earlier.active) {
                (Some(now), Some(earlier)) => is_close(now, earlier),
                (now, earlier) => now == earlier,
            }
    }
}
