//! Creates the group where it is missing, and again where it was lost.

use std::collections::HashMap;
use std::time::Duration;

use redis::{FromRedisValue, RedisResult, Value, cmd, from_redis_value};

use crate::connection::Connection;
use crate::entry::{GroupMember, StreamId, decode_id};

/// The start of the group.
#[derive(Debug)]
pub(super) struct Group {
    /// `$` stands for a place in time: the first look makes it an ID, so that a group that is lost later is made
    /// again without losing what came in between.
    start_id: String,
}

impl Group {
    pub(super) fn new(start_id: &str) -> Self {
        Self { start_id: start_id.to_owned() }
    }

    /// Creates the group unless it is there.
    pub(super) async fn create(
        &mut self,
        connection: &mut Connection,
        member: &GroupMember,
    ) -> RedisResult<()> {
        let mut create = cmd("XGROUP");
        create.arg("CREATE").arg(&member.stream).arg(&member.group).arg(&self.start_id).arg("MKSTREAM");
        match connection.query(&create, Duration::ZERO).await {
            // It is there already: the usual case.
            Err(error) if error.code() == Some("BUSYGROUP") => {}
            created => drop(created?),
        }
        if self.start_id == "$"
            && let Some(start) = first_unfinished(connection, member).await?
        {
            self.start_id = start.to_string();
        }
        Ok(())
    }
}

/// The ID after which nothing is finished: before the oldest pending entry, or where the group is.
async fn first_unfinished(
    connection: &mut Connection,
    member: &GroupMember,
) -> RedisResult<Option<StreamId>> {
    let mut summary = cmd("XPENDING");
    summary.arg(&member.stream).arg(&member.group);
    if let Value::Array(summary) = connection.query(&summary, Duration::ZERO).await?
        && let Some(oldest @ Value::BulkString(_)) = summary.into_iter().nth(1)
    {
        return Ok(Some(before(decode_id(oldest)?)));
    }
    let mut info = cmd("XINFO");
    info.arg("GROUPS").arg(&member.stream);
    let groups: Vec<HashMap<String, Value>> = decode(connection.query(&info, Duration::ZERO).await?)?;
    for mut group in groups {
        if group.get("name") == Some(&Value::BulkString(member.group.clone()))
            && let Some(delivered) = group.remove("last-delivered-id")
        {
            return decode_id(delivered).map(Some);
        }
    }
    Ok(None)
}

fn decode<T: FromRedisValue>(value: Value) -> RedisResult<T> {
    Ok(from_redis_value(value)?)
}

/// The greatest ID that is less.
fn before(id: StreamId) -> StreamId {
    match id {
        StreamId { ms: 0, seq: 0 } => id,
        StreamId { ms, seq: 0 } => StreamId { ms: ms - 1, seq: u64::MAX },
        StreamId { ms, seq } => StreamId { ms, seq: seq - 1 },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_before_another_is_the_greatest_that_is_less() {
        for (id, expected) in [("0-0", "0-0"), ("5-3", "5-2"), ("5-0", "4-18446744073709551615")] {
            assert_eq!(before(id.parse().unwrap()).to_string(), expected);
        }
    }
}
