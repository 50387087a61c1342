//! Replies into facts: the only file that knows the names of reply fields.
//!
//! By hand, from [`redis::Value`]: by field name, since every version adds fields in the middle; signed, as
//! counters of a damaged group can be negative; with absent and nil kept apart; from flat arrays (RESP2) and
//! maps (RESP3) alike.

use std::time::Duration;
use std::vec;

use redis::Value;

use crate::poller::names::Names;
use crate::snapshot::id::StreamId;
use crate::snapshot::name::Name;
use crate::snapshot::question::{ConsumerFacts, Entries, PendingEntry};

/// What is wrong with a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(super) struct DecodeError(&'static str);

type Decoded<T> = Result<T, DecodeError>;

/// XINFO STREAM, as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct XinfoStream {
    pub(super) length: u64,
    pub(super) groups: u64,
    pub(super) last_generated: StreamId,
    pub(super) first: Option<StreamId>,
    pub(super) last: Option<StreamId>,
    pub(super) entries_added: Option<u64>,
    pub(super) max_deleted: Option<StreamId>,
    /// Size of the larger of the first and the last entry in the reply, in bytes.
    pub(super) entry_bytes: u64,
    /// Size of both.
    pub(super) payload_bytes: u64,
}

/// One group of XINFO GROUPS, as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct XinfoGroup {
    pub(super) name: Vec<u8>,
    pub(super) consumers: u64,
    pub(super) pending: u64,
    pub(super) last_delivered: StreamId,
    pub(super) entries_read: Option<u64>,
}

/// What HELLO tells of a node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Hello {
    pub(super) server: String,
    pub(super) version: String,
    pub(super) role: String,
    pub(super) mode: String,
}

/// HELLO without arguments.
pub(super) fn hello(reply: Value) -> Decoded<Hello> {
    let mut hello = Hello::default();
    for field in fields(reply)? {
        let (field, value) = field?;
        let slot = match field.as_slice() {
            b"server" => &mut hello.server,
            b"version" => &mut hello.version,
            b"role" => &mut hello.role,
            b"mode" => &mut hello.mode,
            _ => continue,
        };
        *slot = String::from_utf8_lossy(&bytes(value)?).into_owned();
    }
    Ok(hello)
}

/// TIME, as the time since the Unix epoch.
pub(super) fn time(reply: Value) -> Decoded<Duration> {
    let mut parts = array(reply)?.into_iter().map(count);
    match (parts.next(), parts.next()) {
        (Some(seconds), Some(micros)) => {
            Ok(Duration::from_secs(seconds?).saturating_add(Duration::from_micros(micros?)))
        }
        _ => Err(DecodeError("TIME is not two numbers")),
    }
}

/// SCAN: the next cursor and the keys.
pub(super) fn scan(reply: Value) -> Decoded<(u64, Vec<Name>)> {
    let mut parts = array(reply)?.into_iter();
    let (Some(cursor), Some(keys)) = (parts.next(), parts.next()) else {
        return Err(DecodeError("SCAN is not a cursor and keys"));
    };
    let keys = array(keys)?.into_iter().map(|key| bytes(key).map(Name::from)).collect::<Decoded<_>>()?;
    Ok((count(cursor)?, keys))
}

/// XINFO STREAM.
pub(super) fn xinfo_stream(reply: Value) -> Decoded<XinfoStream> {
    let mut stream = XinfoStream::default();
    let (mut has_length, mut has_last_generated) = (false, false);
    for field in fields(reply)? {
        let (field, value) = field?;
        match field.as_slice() {
            b"length" => (stream.length, has_length) = (count(value)?, true),
            b"groups" => stream.groups = count(value)?,
            b"last-generated-id" => (stream.last_generated, has_last_generated) = (id(&value)?, true),
            b"entries-added" => stream.entries_added = Some(count(value)?),
            b"max-deleted-entry-id" => stream.max_deleted = Some(id(&value)?),
            b"first-entry" | b"last-entry" => {
                let Some((entry, size)) = entry(value)? else { continue };
                stream.entry_bytes = stream.entry_bytes.max(size);
                stream.payload_bytes += size;
                *if field[0] == b'f' { &mut stream.first } else { &mut stream.last } = Some(entry);
            }
            _ => {}
        }
    }
    if !has_length || !has_last_generated {
        return Err(DecodeError("XINFO STREAM lacks length or last-generated-id"));
    }
    if (stream.length > 0) != (stream.first.is_some() && stream.last.is_some()) {
        return Err(DecodeError("XINFO STREAM has a length that does not fit its first and last entry"));
    }
    Ok(stream)
}

/// XINFO GROUPS.
pub(super) fn xinfo_groups(reply: Value) -> Decoded<Vec<XinfoGroup>> {
    array(reply)?.into_iter().map(xinfo_group).collect()
}

fn xinfo_group(reply: Value) -> Decoded<XinfoGroup> {
    let mut group = XinfoGroup::default();
    let (mut has_name, mut has_last_delivered) = (false, false);
    for field in fields(reply)? {
        let (field, value) = field?;
        match field.as_slice() {
            b"name" => (group.name, has_name) = (bytes(value)?, true),
            b"consumers" => group.consumers = count(value)?,
            b"pending" => group.pending = count(value)?,
            b"last-delivered-id" => (group.last_delivered, has_last_delivered) = (id(&value)?, true),
            // Nil where the server does not know it, and nothing sensible below 0.
            b"entries-read" => group.entries_read = integer(value)?.and_then(|read| u64::try_from(read).ok()),
            _ => {}
        }
    }
    if has_name && has_last_delivered {
        Ok(group)
    } else {
        Err(DecodeError("XINFO GROUPS lacks name or last-delivered-id"))
    }
}

/// XINFO CONSUMERS.
pub(super) fn xinfo_consumers(reply: Value, names: &mut Names) -> Decoded<Vec<ConsumerFacts>> {
    array(reply)?.into_iter().map(|consumer| xinfo_consumer(consumer, names)).collect()
}

fn xinfo_consumer(reply: Value, names: &mut Names) -> Decoded<ConsumerFacts> {
    let (mut name, mut pending, mut idle_ms, mut inactive_ms) = (None, None, None, None);
    for field in fields(reply)? {
        let (field, value) = field?;
        match field.as_slice() {
            b"name" => name = Some(names.name(&bytes(value)?)),
            b"pending" => pending = Some(count(value)?),
            b"idle" => idle_ms = Some(count(value)?),
            // -1: it never got an entry.
            b"inactive" => inactive_ms = integer(value)?.and_then(|ms| u64::try_from(ms).ok()),
            _ => {}
        }
    }
    match (name, pending, idle_ms) {
        (Some(name), Some(pending), Some(idle_ms)) => {
            Ok(ConsumerFacts { name, pending, idle_ms, inactive_ms })
        }
        _ => Err(DecodeError("XINFO CONSUMERS lacks name, pending or idle")),
    }
}

/// `XPENDING key group - + 1`: the oldest pending entry.
pub(super) fn oldest_pending(reply: Value) -> Decoded<Option<PendingEntry>> {
    let Some(entry) = array(reply)?.into_iter().next() else { return Ok(None) };
    let mut parts = array(entry)?.into_iter();
    let (Some(entry), Some(_consumer), Some(idle), Some(deliveries)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(DecodeError("XPENDING is not ID, consumer, idle and deliveries"));
    };
    Ok(Some(PendingEntry {
        id: id(&entry)?,
        idle_ms: integer(idle)?.and_then(|ms| u64::try_from(ms).ok()),
        deliveries: count(deliveries)?,
    }))
}

/// `XPENDING key group start end count`, or any other list that is only counted.
pub(super) fn length(reply: Value) -> Decoded<u32> {
    u32::try_from(array(reply)?.len()).map_err(|_| DecodeError("a list is longer than was asked for"))
}

/// XRANGE, without the payload.
pub(super) fn xrange(reply: Value) -> Decoded<Entries> {
    let entries = array(reply)?;
    let count =
        u32::try_from(entries.len()).map_err(|_| DecodeError("XRANGE is longer than was asked for"))?;
    let id_of = |reply: &Value| match reply {
        Value::Array(parts) => parts.first().ok_or(DecodeError("an entry has no ID")).and_then(id),
        _ => Err(DecodeError("an entry is not an array")),
    };
    let ends = match (entries.first(), entries.last()) {
        (Some(first), Some(last)) => Some((id_of(first)?, id_of(last)?)),
        _ => None,
    };
    Ok(Entries { count, ends })
}

/// ID and size of an entry; `None` for nil.
fn entry(reply: Value) -> Decoded<Option<(StreamId, u64)>> {
    if matches!(reply, Value::Nil) {
        return Ok(None);
    }
    let size = size(&reply);
    let mut parts = array(reply)?.into_iter();
    parts
        .next()
        .ok_or(DecodeError("an entry has no ID"))
        .and_then(|reply| id(&reply))
        .map(|id| Some((id, size)))
}

/// About how many bytes a reply took on the wire.
fn size(reply: &Value) -> u64 {
    match reply {
        Value::BulkString(bytes) => bytes.len() as u64 + 8,
        Value::SimpleString(text) => text.len() as u64 + 3,
        Value::Array(items) | Value::Set(items) => 5 + items.iter().map(size).sum::<u64>(),
        Value::Map(pairs) => 5 + pairs.iter().map(|(key, value)| size(key) + size(value)).sum::<u64>(),
        _ => 8,
    }
}

/// Names and values of a reply, one after the other.
enum Fields {
    /// Of a map.
    Pairs(vec::IntoIter<(Value, Value)>),
    /// Of a flat array.
    Flat(vec::IntoIter<Value>),
}

impl Iterator for Fields {
    type Item = Decoded<(Vec<u8>, Value)>;

    fn next(&mut self) -> Option<Self::Item> {
        let (name, value) = match self {
            Self::Pairs(pairs) => pairs.next()?,
            Self::Flat(items) => match (items.next()?, items.next()) {
                (name, Some(value)) => (name, value),
                (_, None) => return Some(Err(DecodeError("a field has no value"))),
            },
        };
        Some(bytes(name).map(|name| (name, value)))
    }
}

fn fields(reply: Value) -> Decoded<Fields> {
    match reply {
        Value::Map(pairs) => Ok(Fields::Pairs(pairs.into_iter())),
        Value::Array(items) => Ok(Fields::Flat(items.into_iter())),
        _ => Err(DecodeError("expected names and values")),
    }
}

fn array(reply: Value) -> Decoded<Vec<Value>> {
    match reply {
        Value::Array(items) | Value::Set(items) => Ok(items),
        Value::Nil => Ok(Vec::new()),
        _ => Err(DecodeError("expected an array")),
    }
}

fn bytes(reply: Value) -> Decoded<Vec<u8>> {
    match reply {
        Value::BulkString(bytes) => Ok(bytes),
        Value::SimpleString(text) => Ok(text.into_bytes()),
        Value::Okay => Ok(b"OK".to_vec()),
        _ => Err(DecodeError("expected a string")),
    }
}

fn id(reply: &Value) -> Decoded<StreamId> {
    let text = match reply {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).ok(),
        Value::SimpleString(text) => Some(text.as_str()),
        _ => None,
    };
    text.and_then(|text| text.parse().ok()).ok_or(DecodeError("expected a stream ID"))
}

/// A number that may be nil, and may come as a string.
fn integer(reply: Value) -> Decoded<Option<i64>> {
    match reply {
        Value::Nil => Ok(None),
        Value::Int(number) => Ok(Some(number)),
        Value::BulkString(bytes) => std::str::from_utf8(&bytes)
            .ok()
            .and_then(|text| text.parse().ok())
            .map(Some)
            .ok_or(DecodeError("expected a number")),
        _ => Err(DecodeError("expected a number")),
    }
}

/// A number that is there and not negative.
fn count(reply: Value) -> Decoded<u64> {
    integer(reply)?
        .and_then(|number| u64::try_from(number).ok())
        .ok_or(DecodeError("expected a number that is not negative"))
}
