//! The end of an entry, and of the consumer: XACK, and XGROUP DELCONSUMER.

use std::time::Duration;

use redis::{RedisResult, Value, cmd};
use tokio::time::Instant;
use tracing::{error, info};

use super::consumer::{ACK_IDS, Consumer};
use crate::entry::{GroupMember, IdArg};
use crate::error::is_group_gone;
use redis_stream_core::clock::now;
use redis_stream_core::server_clock::ServerClock;

impl Consumer {
    /// Acknowledges all that was handled.
    pub(super) async fn acknowledge(&mut self) -> RedisResult<()> {
        loop {
            let done = self.hand.to_acknowledge(ACK_IDS);
            let count = done.len();
            if count == 0 {
                return Ok(());
            }
            let mut ack = cmd("XACK");
            ack.arg(&self.member.stream).arg(&self.member.group);
            for (id, _) in done {
                ack.arg(IdArg(*id));
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
            let age = |clock: ServerClock| id.age(clock.time_at(at.into_std()));
            if let Some(latency) = self.clock.and_then(age) {
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
        let GroupMember { stream, group, consumer } = &*self.member;
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
