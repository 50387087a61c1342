//! The end of an entry, and of the consumer: XACK, and XGROUP DELCONSUMER.

use std::time::Duration;

use redis::{RedisResult, Value, cmd};
use tokio::time::Instant;
use tracing::{error, info};

use super::engine::{ACK_IDS, Engine};
use crate::entry::{EntryId, Place};
use crate::error::is_group_gone;
use redis_stream_core::clock::now;

impl Engine {
    /// Acknowledges all that was handled.
    pub(super) async fn acknowledge(&mut self) -> RedisResult<()> {
        loop {
            let done = self.hand.to_acknowledge(ACK_IDS);
            let count = done.len();
            if count == 0 {
                return Ok(());
            }
            let mut ack = cmd("XACK");
            ack.arg(&self.place.stream).arg(&self.place.group);
            for (id, _) in done {
                ack.arg(id);
            }
            let reply = self.connection.query(&ack, Duration::ZERO).await?;
            self.observe(now(), count);
            self.hand.acknowledged(count);
            if let Value::Int(count) = reply {
                self.consumed.acknowledged += u64::try_from(count).unwrap_or(0);
            }
        }
    }

    fn observe(&self, at: Instant, count: usize) {
        for (id, finished) in self.hand.to_acknowledge(count) {
            self.metrics.observe_acknowledgement(at - *finished);
            if let Some(latency) = self.clock.and_then(|clock| clock.age(*id, at)) {
                self.metrics.observe_end_to_end(latency);
            }
        }
    }

    /// Deletes the consumer's name if nothing is pending on it. XGROUP DELCONSUMER throws away what is.
    pub(super) async fn leave(&mut self) -> RedisResult<()> {
        if self.is_reading || !self.schedule.is_settled(now()) {
            info!("a read may still be under way on the server, the name of the consumer stays");
            return Ok(());
        }
        let Place { stream, group, consumer } = &*self.place;
        let mut pending = cmd("XPENDING");
        pending.arg(stream).arg(group).arg("-").arg("+").arg(1).arg(consumer);
        let left = match self.connection.query(&pending, Duration::ZERO).await {
            Err(error) if is_group_gone(&error) => return Ok(()),
            left => left?,
        };
        if left != Value::Array(Vec::new()) {
            info!("entries are pending, the name of the consumer stays");
            return Ok(());
        }
        let mut delete = cmd("XGROUP");
        delete.arg("DELCONSUMER").arg(stream).arg(group).arg(consumer);
        match self.connection.query(&delete, Duration::ZERO).await {
            Err(error) if is_group_gone(&error) => Ok(()),
            Ok(Value::Int(0)) => Ok(()),
            Ok(lost) => {
                error!(
                    ?lost,
                    "entries were pending on a consumer that was deleted: does another process use its name?"
                );
                Ok(())
            }
            Err(error) => Err(error),
        }
    }
}

/// The server's clock, as it was told once and went on since.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerClock {
    /// Since the Unix epoch.
    told: Duration,
    at: Instant,
}

impl ServerClock {
    /// 2010-01-01: an ID below it is no time stamp.
    const EARLIEST: Duration = Duration::from_secs(1_262_304_000);
    /// An ID further ahead is none either.
    const MAX_AHEAD: Duration = Duration::from_secs(86_400);

    pub(super) fn decode(reply: &Value, at: Instant) -> Option<Self> {
        let Value::Array(parts) = reply else { return None };
        let number = |value: &Value| match value {
            Value::BulkString(text) => std::str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        };
        let (seconds, micros) = (number(parts.first()?)?, number(parts.get(1)?)?);
        Some(Self { told: Duration::from_secs(seconds) + Duration::from_micros(micros), at })
    }

    /// The age of an ID; `None` if it is no time stamp.
    fn age(self, id: EntryId, at: Instant) -> Option<Duration> {
        let now = self.told + at.saturating_duration_since(self.at);
        let time = Duration::from_millis(id.ms);
        (Self::EARLIEST..=now + Self::MAX_AHEAD).contains(&time).then(|| now.saturating_sub(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_is_told_by_the_servers_clock_and_only_of_a_time_stamp() {
        let start = now();
        let part = |text: &str| Value::BulkString(text.as_bytes().to_vec());
        let reply = Value::Array(vec![part("1700000000"), part("500000")]);
        let clock = ServerClock::decode(&reply, start).unwrap();
        let later = start + Duration::from_secs(1);
        for (ms, age) in [
            (1_700_000_000_000, Some(Duration::from_millis(1_500))),
            (1_700_000_002_000, Some(Duration::ZERO)),
            (1, None),
            (1_800_000_000_000, None),
        ] {
            assert_eq!(clock.age(EntryId { ms, seq: 0 }, later), age, "{ms}");
        }
        assert!(ServerClock::decode(&Value::Nil, start).is_none());
    }
}
