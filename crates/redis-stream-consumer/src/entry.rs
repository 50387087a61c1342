//! Entries as a group delivers them. Decoded by hand, so that a deleted entry differs from an empty one.

use std::sync::Arc;

use redis::{ErrorKind, RedisError, RedisResult, RedisWrite, ToRedisArgs, Value};

pub use redis_stream_core::id::StreamId;

/// Names and values of an entry's fields, in its order. A name may occur twice.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// A stream ID as an argument of a command.
#[derive(Clone, Copy)]
pub(crate) struct IdArg(pub(crate) StreamId);

impl ToRedisArgs for IdArg {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        // Two numbers of up to 20 digits: no allocation for each ID of a long XACK.
        let mut text = [0; 41];
        let (mut ms, mut seq) = (itoa::Buffer::new(), itoa::Buffer::new());
        let (ms, seq) = (ms.format(self.0.ms).as_bytes(), seq.format(self.0.seq).as_bytes());
        let length = ms.len() + 1 + seq.len();
        text[..ms.len()].copy_from_slice(ms);
        text[ms.len()] = b'-';
        text[ms.len() + 1..length].copy_from_slice(seq);
        out.write_arg(&text[..length]);
    }
}

pub(crate) fn id_args(ids: &[StreamId]) -> Vec<IdArg> {
    ids.iter().copied().map(IdArg).collect()
}

/// A consumer's name in its group and stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMember {
    /// Key of the stream.
    pub stream: Vec<u8>,
    /// Name of the group.
    pub group: Vec<u8>,
    /// Name of the consumer.
    pub consumer: Vec<u8>,
}

/// One entry of a stream, as it was delivered to a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// ID of the entry.
    pub id: StreamId,
    /// Fields of the entry.
    pub fields: Fields,
    /// Number of deliveries to any consumer, including this one; at least 1.
    pub deliveries: u64,
    /// The consumer that received it.
    pub member: Arc<GroupMember>,
}

impl Entry {
    /// Returns the value of the first field of this name; `None` if there is none.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields.iter().find(|(found, _)| found == name.as_bytes()).map(|(_, value)| value.as_slice())
    }
}

/// Decodes the reply of XREADGROUP for one stream. It is nil if BLOCK ran out.
pub(crate) fn decode_read(reply: Value) -> RedisResult<Vec<(StreamId, Fields)>> {
    match reply {
        Value::Nil => Ok(Vec::new()),
        Value::Array(streams) => match streams.into_iter().next() {
            None => Ok(Vec::new()),
            Some(Value::Array(pair)) => match pair.into_iter().nth(1) {
                Some(entries) => decode_entries(entries),
                None => Err(unexpected()),
            },
            Some(_) => Err(unexpected()),
        },
        _ => Err(unexpected()),
    }
}

/// Decodes `[[id, [field, value, ...]], ...]`, the reply of XRANGE and XCLAIM. XCLAIM of Redis 6.2 returns nil for a
/// deleted entry, which is left out.
pub(crate) fn decode_entries(reply: Value) -> RedisResult<Vec<(StreamId, Fields)>> {
    let Value::Array(entries) = reply else {
        return Err(unexpected());
    };
    let is_there = |entry: &Value| !matches!(entry, Value::Nil);
    entries.into_iter().filter(is_there).filter_map(|value| entry(value).transpose()).collect()
}

/// Decodes `[id, ...]`, the reply of XCLAIM with JUSTID; nil is an empty list.
pub(crate) fn decode_ids(reply: Value) -> RedisResult<Vec<StreamId>> {
    match reply {
        Value::Nil => Ok(Vec::new()),
        Value::Array(ids) => ids.into_iter().map(decode_id).collect(),
        _ => Err(unexpected()),
    }
}

/// Decodes `[cursor, [id, ...], [deleted id, ...]]`, the reply of XAUTOCLAIM with JUSTID. The deleted IDs are missing
/// before Redis 7.0.
pub(crate) fn decode_autoclaim(reply: Value) -> RedisResult<(StreamId, Vec<StreamId>, Vec<StreamId>)> {
    let Value::Array(parts) = reply else {
        return Err(unexpected());
    };
    let mut parts = parts.into_iter();
    let (Some(cursor), Some(taken)) = (parts.next(), parts.next()) else {
        return Err(unexpected());
    };
    let deleted = parts.next().unwrap_or(Value::Nil);
    Ok((decode_id(cursor)?, decode_ids(taken)?, decode_ids(deleted)?))
}

pub(crate) fn decode_id(value: Value) -> RedisResult<StreamId> {
    match value {
        Value::BulkString(text) => {
            std::str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).ok_or_else(unexpected)
        }
        _ => Err(unexpected()),
    }
}

/// Decodes `[id, [field, value, ...]]`. Returns `None` for `[id, nil]`, an entry that is pending and was deleted.
fn entry(value: Value) -> RedisResult<Option<(StreamId, Fields)>> {
    let Value::Array(parts) = value else {
        return Err(unexpected());
    };
    let mut parts = parts.into_iter();
    let (Some(id), Some(fields), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(unexpected());
    };
    let id = decode_id(id)?;
    match fields {
        Value::Nil => Ok(None),
        Value::Array(flat) => Ok(Some((id, pairs(flat)?))),
        _ => Err(unexpected()),
    }
}

fn pairs(flat: Vec<Value>) -> RedisResult<Fields> {
    let mut pairs = Vec::with_capacity(flat.len() / 2);
    let mut flat = flat.into_iter();
    while let Some(name) = flat.next() {
        let (Value::BulkString(name), Some(Value::BulkString(value))) = (name, flat.next()) else {
            return Err(unexpected());
        };
        pairs.push((name, value));
    }
    Ok(pairs)
}

/// Returns the error for a reply that does not have its documented form.
pub(crate) fn unexpected() -> RedisError {
    (ErrorKind::UnexpectedReturnType, "a stream command returned a reply of an unknown form").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn reply(entries: Vec<Value>) -> Value {
        Value::Array(vec![Value::Array(vec![bulk("orders"), Value::Array(entries)])])
    }

    fn id(ms: u64) -> StreamId {
        StreamId { ms, seq: 0 }
    }

    #[test]
    fn entries_keep_their_order_and_a_deleted_one_is_left_out() {
        let present = Value::Array(vec![bulk("1-0"), Value::Array(vec![bulk("a"), bulk("b")])]);
        let deleted = Value::Array(vec![bulk("2-0"), Value::Nil]);
        let entry = (id(1), vec![(b"a".to_vec(), b"b".to_vec())]);
        assert_eq!(decode_read(reply(vec![present.clone(), deleted])), Ok(vec![entry.clone()]));
        assert_eq!(decode_entries(Value::Array(vec![Value::Nil, present])), Ok(vec![entry]));
    }

    #[test]
    fn no_entries_are_nil_or_an_empty_list() {
        assert_eq!(decode_read(Value::Nil), Ok(vec![]));
        assert_eq!(decode_read(reply(vec![])), Ok(vec![]));
    }

    #[test]
    fn autoclaimed_ids_come_with_deleted_ones_from_redis_7_on() {
        let ids = |texts: &[&str]| Value::Array(texts.iter().map(|text| bulk(text)).collect());
        let old = Value::Array(vec![bulk("3-0"), ids(&["1-0"])]);
        assert_eq!(decode_autoclaim(old), Ok((id(3), vec![id(1)], vec![])));
        let new = Value::Array(vec![bulk("0-0"), ids(&["1-0"]), ids(&["2-0"])]);
        assert_eq!(decode_autoclaim(new), Ok((id(0), vec![id(1)], vec![id(2)])));
    }

    #[test]
    fn a_reply_of_an_unknown_form_is_an_error() {
        for value in [
            Value::Okay,
            Value::Array(vec![Value::Int(1)]),
            reply(vec![Value::Int(1)]),
            reply(vec![Value::Array(vec![bulk("1-0")])]),
            reply(vec![Value::Array(vec![bulk("1"), Value::Array(vec![])])]),
            reply(vec![Value::Array(vec![bulk("1-0"), Value::Array(vec![bulk("odd")])])]),
        ] {
            assert_eq!(decode_read(value.clone()), Err(unexpected()), "{value:?}");
        }
    }

    #[test]
    fn an_id_is_sent_as_it_is_displayed() {
        for (ms, seq) in [(0, 0), (1_700_000_000_000, 12), (u64::MAX, u64::MAX)] {
            let id = StreamId { ms, seq };
            assert_eq!(IdArg(id).to_redis_args(), [id.to_string().into_bytes()]);
        }
    }
}
