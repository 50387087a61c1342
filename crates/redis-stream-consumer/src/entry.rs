//! Entries as a group delivers them, and the replies that hold them.

use std::sync::Arc;

use redis::{
    ErrorKind, FromRedisValue, ParsingError, RedisError, RedisResult, RedisWrite, ToRedisArgs, Value,
    from_redis_value,
};

pub use redis_stream_core::id::StreamId;

/// Names and values of an entry's fields, in its order. A name may occur twice.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// A stream ID in a command or a reply.
#[derive(Clone, Copy)]
pub(crate) struct RedisId(pub(crate) StreamId);

impl ToRedisArgs for RedisId {
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

impl FromRedisValue for RedisId {
    fn from_redis_value_ref(value: &Value) -> Result<Self, ParsingError> {
        Self::from_redis_value(value.clone())
    }

    fn from_redis_value(value: Value) -> Result<Self, ParsingError> {
        let id: String = from_redis_value(value)?;
        id.parse().map(Self).map_err(|_| "not a stream ID".into())
    }
}

pub(crate) fn id_args(ids: &[StreamId]) -> Vec<RedisId> {
    ids.iter().copied().map(RedisId).collect()
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

/// The entries in a reply of XREADGROUP.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ReadEntries {
    /// Entries that were never delivered before.
    pub(crate) new: Vec<(StreamId, Fields)>,
    /// Pending entries claimed by CLAIM, with their deliveries before this one.
    pub(crate) claimed: Vec<(StreamId, u64)>,
}

/// Decodes the reply of XREADGROUP for one stream. It is nil if BLOCK ran out. With CLAIM, an entry is
/// `[id, fields, idle, deliveries]`; both numbers are 0 for a new one.
pub(crate) fn decode_read(reply: Value) -> RedisResult<ReadEntries> {
    let streams: Option<Vec<(Value, Value)>> = decode(reply)?;
    let mut read = ReadEntries::default();
    let Some((_, entries)) = streams.into_iter().flatten().next() else { return Ok(read) };
    for entry in decode::<Vec<Vec<Value>>>(entries)? {
        let mut parts = entry.into_iter();
        let (Some(id), Some(fields)) = (parts.next(), parts.next()) else { return Err(unexpected()) };
        let RedisId(id) = decode(id)?;
        match decode::<Vec<i64>>(Value::Array(parts.collect()))?.as_slice() {
            [idle, deliveries] if *idle > 0 => {
                read.claimed.push((id, u64::try_from(*deliveries).unwrap_or(0)));
            }
            _ => read.new.extend(decode::<Option<Fields>>(fields)?.map(|fields| (id, fields))),
        }
    }
    Ok(read)
}

/// Decodes `[[id, [field, value, ...]], ...]`, the reply of XRANGE and XCLAIM. A deleted entry is left out: XCLAIM of
/// Redis 6.2 returns nil for it, XREADGROUP `[id, nil]`.
pub(crate) fn decode_entries(reply: Value) -> RedisResult<Vec<(StreamId, Fields)>> {
    let entries: Vec<Option<(RedisId, Option<Fields>)>> = decode(reply)?;
    Ok(entries.into_iter().flatten().filter_map(|(RedisId(id), fields)| Some((id, fields?))).collect())
}

/// Decodes `[id, ...]`, the reply of XCLAIM with JUSTID; nil is an empty list.
pub(crate) fn decode_ids(reply: Value) -> RedisResult<Vec<StreamId>> {
    let ids: Vec<RedisId> = decode(reply)?;
    Ok(ids.into_iter().map(|RedisId(id)| id).collect())
}

/// Decodes `[cursor, [id, ...], [deleted id, ...]]`, the reply of XAUTOCLAIM with JUSTID. The deleted IDs are missing
/// before Redis 7.0.
pub(crate) fn decode_autoclaim(reply: Value) -> RedisResult<(StreamId, Vec<StreamId>, Vec<StreamId>)> {
    let mut parts = decode::<Vec<Value>>(reply)?.into_iter();
    let mut next = || parts.next().unwrap_or(Value::Nil);
    let RedisId(cursor) = decode(next())?;
    Ok((cursor, decode_ids(next())?, decode_ids(next())?))
}

/// Decodes a reply. One that does not have its documented form is no sign of a lost connection, as a protocol error is.
pub(crate) fn decode<T: FromRedisValue>(reply: Value) -> RedisResult<T> {
    from_redis_value(reply).map_err(|_| unexpected())
}

/// Returns the error for a reply that does not have its documented form.
fn unexpected() -> RedisError {
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
        assert_eq!(
            decode_read(reply(vec![present.clone(), deleted])).unwrap().new,
            std::slice::from_ref(&entry)
        );
        assert_eq!(decode_entries(Value::Array(vec![Value::Nil, present])), Ok(vec![entry]));
    }

    #[test]
    fn no_entries_are_nil_or_an_empty_list() {
        assert_eq!(decode_read(Value::Nil), Ok(ReadEntries::default()));
        assert_eq!(decode_read(reply(vec![])), Ok(ReadEntries::default()));
    }

    #[test]
    fn claimed_entries_are_told_from_new_ones_by_their_idle_time() {
        let entry = |ms: u64, idle, deliveries| {
            let fields = Value::Array(vec![bulk("a"), bulk("b")]);
            Value::Array(vec![bulk(&format!("{ms}-0")), fields, Value::Int(idle), Value::Int(deliveries)])
        };
        // One that was released before its first delivery counted, one that FATAL marked, and a new one.
        let read =
            decode_read(reply(vec![entry(1, 1_795_955_723_639, 0), entry(2, 201, i64::MAX), entry(3, 0, 0)]));
        let read = read.unwrap();
        assert_eq!(read.claimed, [(id(1), 0), (id(2), i64::MAX.unsigned_abs())]);
        assert_eq!(read.new, [(id(3), vec![(b"a".to_vec(), b"b".to_vec())])]);
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
            assert_eq!(RedisId(id).to_redis_args(), [id.to_string().into_bytes()]);
        }
    }
}
