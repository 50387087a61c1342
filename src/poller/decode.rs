//! Decodes replies. The only module that knows the names of reply fields.
//!
//! Decodes straight from the bytes by field name, as every version adds fields in the middle; signed, as counters of a
//! damaged group can be negative; with absent and nil kept apart; from flat arrays (RESP2) and maps (RESP3) alike.

use std::time::Duration;

use crate::poller::decode::xinfo::{XinfoGroup, XinfoStream};
use crate::poller::interner::NameInterner;
use crate::poller::resp::{Value, Values};
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;
use redis_stream_lag::compact::Count;
use redis_stream_lag::question::{Answer, EntryRange, PendingEntry, QuestionKind};
use redis_stream_lag::snapshot::{ConsumerInfo, ConsumersReading, GroupInfo, RadixTree, StreamInfo};

pub mod topology;
pub mod xinfo;

/// More than a server can hold of anything. Larger counts are rejected, so that no sum overflows.
const MORE_THAN_FITS: u64 = 1 << 40;

/// Number of consumers of a group up to which a list of them has no spare capacity.
const USUAL_CONSUMERS: usize = 64;

/// A reply does not have the documented form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DecodeError(&'static str);

/// See the limits in [`crate::poller::resp`].
const TOO_LARGE: DecodeError = DecodeError("it has too many values or bytes");

pub type Decoded<T> = Result<T, DecodeError>;

/// Decodes TIME, as the time since the Unix epoch.
pub fn time(reply: Value<'_>) -> Decoded<Duration> {
    let mut parts = array(reply)?.map(count);
    match (parts.next(), parts.next()) {
        (Some(seconds), Some(micros)) => {
            Ok(Duration::from_secs(seconds?).saturating_add(Duration::from_micros(micros?)))
        }
        _ => Err(DecodeError("TIME is not two numbers")),
    }
}

/// The reply to SCAN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// The next cursor; 0 at the end.
    pub cursor: u64,
    /// The keys whose names are not too long to be kept.
    pub keys: Vec<Name>,
    /// True if there were others.
    pub has_longer: bool,
}

/// Decodes SCAN. A name that is too long costs its key alone: each turn over all keys meets it again.
pub fn scan(reply: Value<'_>) -> Decoded<Scanned> {
    let mut parts = array(reply)?;
    let (Some(cursor), Some(found)) = (parts.next(), parts.next()) else {
        return Err(DecodeError("SCAN is not a cursor and keys"));
    };
    let (mut keys, mut has_longer) = (Vec::new(), false);
    for key in array(found)? {
        match key {
            Value::LongText(_) => has_longer = true,
            key => keys.push(Name::from(bytes(key)?)),
        }
    }
    Ok(Scanned { cursor: count(cursor)?, keys, has_longer })
}

/// Decodes XINFO STREAM.
pub fn xinfo_stream(reply: Value<'_>) -> Decoded<XinfoStream> {
    let mut stream = XinfoStream::default();
    let (mut has_length, mut has_last_generated) = (false, false);
    for field in fields(reply)? {
        let (field, value) = field?;
        match field {
            b"length" => (stream.length, has_length) = (amount(value)?, true),
            b"groups" => stream.groups = amount(value)?,
            b"radix-tree-keys" => stream.radix_tree.keys = amount(value)?,
            b"radix-tree-nodes" => stream.radix_tree.nodes = amount(value)?,
            b"last-generated-id" => (stream.last_generated, has_last_generated) = (id(value)?, true),
            b"entries-added" => stream.entries_added = Some(count(value)?),
            b"max-deleted-entry-id" => stream.max_deleted = Some(id(value)?),
            b"idmp-duration" => stream.idmp.get_or_insert_default().duration_seconds = count(value)?,
            b"idmp-maxsize" => stream.idmp.get_or_insert_default().max_size = count(value)?,
            b"pids-tracked" => stream.idmp.get_or_insert_default().producer_ids_tracked = count(value)?,
            b"iids-tracked" => stream.idmp.get_or_insert_default().idempotent_ids_tracked = count(value)?,
            b"iids-added" => stream.idmp.get_or_insert_default().entries_added = count(value)?,
            b"iids-duplicates" => stream.idmp.get_or_insert_default().duplicates = count(value)?,
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

/// Decodes `XINFO STREAM key FULL COUNT 1`: the stream's bounds and its groups' positions.
pub fn xinfo_stream_full(reply: Value<'_>) -> Decoded<StreamInfo> {
    let (mut length, mut last_generated) = (None, None);
    let (mut entries_added, mut max_deleted, mut first, mut groups) = (None, None, None, Vec::new());
    for field in fields(reply)? {
        let (field, value) = field?;
        match field {
            b"length" => length = Some(amount(value)?),
            b"last-generated-id" => last_generated = Some(id(value)?),
            b"entries-added" => entries_added = Some(count(value)?),
            b"max-deleted-entry-id" => max_deleted = Some(id(value)?),
            b"entries" => first = array(value)?.next().map(entry).transpose()?.flatten(),
            b"groups" => groups = array(value)?.map(full_group).collect::<Decoded<_>>()?,
            _ => {}
        }
    }
    let (Some(length), Some(last_generated)) = (length, last_generated) else {
        return Err(DecodeError("XINFO STREAM FULL lacks length or last-generated-id"));
    };
    Ok(StreamInfo {
        time: Duration::ZERO,
        length,
        first: first.map(|(id, _)| id),
        last: (length > 0).then_some(last_generated),
        last_generated,
        entries_added,
        max_deleted,
        group_count: groups.len() as u64,
        consumer_count: 0,
        entry_bytes: first.map_or(0, |(_, size)| size),
        radix_tree: RadixTree::default(),
        idmp: None,
        groups: groups.into(),
    })
}

fn full_group(reply: Value<'_>) -> Decoded<GroupInfo> {
    let XinfoGroup { name, last_delivered, entries_read, .. } = xinfo_group(reply)?;
    Ok(GroupInfo {
        name: name.into(),
        named: false,
        consumers: 0,
        pending: 0,
        last_delivered,
        entries_read: entries_read.map(Into::into),
        each_consumer: ConsumersReading::NotWanted,
    })
}

/// Decodes XINFO GROUPS.
pub fn xinfo_groups(reply: Value<'_>) -> Decoded<Vec<XinfoGroup<'_>>> {
    array(reply)?.map(xinfo_group).collect()
}

fn xinfo_group(reply: Value<'_>) -> Decoded<XinfoGroup<'_>> {
    let mut group = XinfoGroup::default();
    let (mut has_name, mut has_last_delivered) = (false, false);
    for field in fields(reply)? {
        let (field, value) = field?;
        match field {
            b"name" => (group.name, has_name) = (bytes(value)?, true),
            // In XINFO STREAM FULL these two are lists.
            b"consumers" if !matches!(value, Value::Array(_)) => group.consumers = amount(value)?,
            b"pending" if !matches!(value, Value::Array(_)) => group.pending = amount(value)?,
            b"last-delivered-id" => (group.last_delivered, has_last_delivered) = (id(value)?, true),
            // Nil if the server does not know it. Values that no counter has are treated like nil.
            b"entries-read" => {
                let read = integer(value).ok().flatten();
                group.entries_read = read.and_then(|read| u64::try_from(read).ok());
            }
            _ => {}
        }
    }
    if has_name && has_last_delivered {
        Ok(group)
    } else {
        Err(DecodeError("XINFO GROUPS lacks name or last-delivered-id"))
    }
}

/// Decodes XINFO CONSUMERS.
pub fn xinfo_consumers(reply: Value<'_>, names: &mut NameInterner) -> Decoded<Vec<ConsumerInfo>> {
    let replies = array(reply)?;
    // Those of all streams are held at once: without spare capacity.
    let mut consumers = Vec::with_capacity(replies.take(USUAL_CONSUMERS).count());
    for consumer in replies {
        consumers.push(xinfo_consumer(consumer, names)?);
    }
    Ok(consumers)
}

fn xinfo_consumer(reply: Value<'_>, names: &mut NameInterner) -> Decoded<ConsumerInfo> {
    let (mut name, mut pending, mut idle_ms, mut inactive_ms) = (None, None, None, None);
    for field in fields(reply)? {
        let (field, value) = field?;
        match field {
            b"name" => name = Some(names.name(bytes(value)?)),
            b"pending" => pending = Some(amount(value)?),
            b"idle" => idle_ms = Some(count(value)?),
            // -1 means that the consumer never got an entry.
            b"inactive" => inactive_ms = integer(value)?.and_then(|ms| u64::try_from(ms).ok()),
            _ => {}
        }
    }
    match (name, pending, idle_ms) {
        (Some(name), Some(pending), Some(idle_ms)) => {
            Ok(ConsumerInfo { name, pending, idle_ms, inactive_ms: inactive_ms.map(Count::from) })
        }
        _ => Err(DecodeError("XINFO CONSUMERS lacks name, pending or idle")),
    }
}

/// The ages of a consumer in a reply to XINFO CONSUMERS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsumerAges {
    /// As in [`ConsumerInfo`].
    pub idle_ms: u64,
    /// As in [`ConsumerInfo`].
    pub inactive_ms: Option<u64>,
}

/// Decodes the ages of each consumer in XINFO CONSUMERS, and passes everything else to `other`.
pub fn consumer_ages(
    reply: Value<'_>,
    mut other: impl FnMut(&[u8]),
    mut each: impl FnMut(ConsumerAges),
) -> Decoded<()> {
    for consumer in array(reply)? {
        let (mut idle_ms, mut inactive_ms) = (None, None);
        for field in fields(consumer)? {
            match field? {
                (b"idle", value) => idle_ms = Some(count(value)?),
                (b"inactive", value) => {
                    inactive_ms = integer(value)?.and_then(|ms| u64::try_from(ms).ok());
                }
                (name, Value::Text(text)) => [name, text].into_iter().for_each(&mut other),
                (name, value) => [name, &count(value)?.to_le_bytes()].into_iter().for_each(&mut other),
            }
        }
        let idle_ms = idle_ms.ok_or(DecodeError("XINFO CONSUMERS lacks idle"))?;
        each(ConsumerAges { idle_ms, inactive_ms });
    }
    Ok(())
}

/// Decodes `XPENDING key group - + 1`: the oldest pending entry with its consumer.
pub fn oldest_pending(reply: Value<'_>, names: &mut NameInterner) -> Decoded<Option<(PendingEntry, Name)>> {
    let Some(row) = array(reply)?.next() else { return Ok(None) };
    pending_entry(row).map(|(entry, consumer)| Some((entry, names.name(consumer))))
}

/// Decodes `XPENDING key group start end count`: entries with their consumers. The name is empty for an entry that
/// was given back.
pub fn pending(reply: Value<'_>) -> Decoded<Vec<(PendingEntry, Name)>> {
    array(reply)?.map(|row| pending_entry(row).map(|(entry, consumer)| (entry, consumer.into()))).collect()
}

/// The same, with each name once.
fn pending_page(reply: Value<'_>, names: &mut NameInterner) -> Decoded<Vec<(PendingEntry, Name)>> {
    array(reply)?
        .map(|row| pending_entry(row).map(|(entry, consumer)| (entry, names.name(consumer))))
        .collect()
}

fn pending_entry(reply: Value<'_>) -> Decoded<(PendingEntry, &[u8])> {
    let mut parts = array(reply)?;
    let (Some(entry), Some(consumer), Some(idle), Some(deliveries)) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(DecodeError("XPENDING is not ID, consumer, idle and deliveries"));
    };
    let consumer = if consumer == Value::Nil { &[] } else { bytes(consumer)? };
    let entry = PendingEntry {
        id: id(entry)?,
        idle_ms: integer(idle)?.and_then(|ms| u64::try_from(ms).ok()),
        deliveries: count(deliveries)?,
    };
    Ok((entry, consumer))
}

/// Decodes the IDs in the reply to `XPENDING key group start end count`.
fn pending_ids(reply: Value<'_>) -> Decoded<Vec<StreamId>> {
    array(reply)?.map(entry_id).collect()
}

/// The field of an entry: its name and value.
pub type FieldPair = (FieldText, FieldText);

/// The name or value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldText {
    /// Its bytes.
    Kept(Vec<u8>),
    /// The length of one that is too long to be kept.
    Long(u64),
}

impl FieldText {
    /// Returns its length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Kept(bytes) => bytes.len() as u64,
            Self::Long(length) => *length,
        }
    }
}

/// Decodes the fields in the reply to `XRANGE key id id`; `None` if the entry is gone.
pub fn entry_fields(reply: Value<'_>) -> Decoded<Option<Vec<FieldPair>>> {
    let Some(entry) = array(reply)?.next() else { return Ok(None) };
    let Some(listed) = array(entry)?.nth(1) else { return Err(DecodeError("an entry has no fields")) };
    let mut texts = array(listed)?.map(field_text);
    let mut fields = Vec::new();
    while let Some(name) = texts.next() {
        let value = texts.next().ok_or(DecodeError("a field has no value"))?;
        fields.push((name?, value?));
    }
    Ok(Some(fields))
}

fn field_text(reply: Value<'_>) -> Decoded<FieldText> {
    match reply {
        Value::LongText(length) => Ok(FieldText::Long(length)),
        other => bytes(other).map(|bytes| FieldText::Kept(bytes.to_vec())),
    }
}

/// Counts the elements of a list, such as that of `XPENDING key group start end count`.
pub fn length(reply: Value<'_>) -> Decoded<u32> {
    u32::try_from(array(reply)?.count()).map_err(|_| DecodeError("a list is longer than was asked for"))
}

/// Decodes XRANGE without the payload.
pub fn xrange(reply: Value<'_>) -> Decoded<EntryRange> {
    let count = length(reply)?;
    let mut entries = array(reply)?;
    let ends = match entries.next() {
        Some(first) => Some((entry_id(first)?, entry_id(entries.last().unwrap_or(first))?)),
        None => None,
    };
    Ok(EntryRange { count, ends })
}

/// Decodes the reply to a question. It must not be an error reply.
pub fn answer(ask: &QuestionKind, reply: Value<'_>, names: &mut NameInterner) -> Decoded<Answer> {
    match ask {
        QuestionKind::OldestPending { .. } => oldest_pending(reply, names).map(Answer::OldestPending),
        QuestionKind::PendingBelow { .. } => length(reply).map(Answer::PendingBelow),
        QuestionKind::Consumers { .. } => xinfo_consumers(reply, names).map(Answer::Consumers),
        QuestionKind::Groups => xinfo_groups(reply).map(|groups| {
            let facts =
                |group: XinfoGroup<'_>| group.facts(group.name.into(), false, ConsumersReading::NotWanted);
            Answer::Groups(groups.into_iter().map(facts).collect())
        }),
        QuestionKind::PendingIds { .. } => pending_ids(reply).map(Answer::PendingIds),
        QuestionKind::PendingPage { .. } => pending_page(reply, names).map(Answer::PendingPage),
        QuestionKind::Entries { .. } | QuestionKind::Entry { .. } => xrange(reply).map(Answer::Entries),
        QuestionKind::Memory { .. } if matches!(reply, Value::Nil) => Ok(Answer::Gone),
        QuestionKind::Memory { .. } => count(reply).map(Answer::Memory),
        QuestionKind::FullStream => xinfo_stream_full(reply).map(|facts| Answer::FullStream(Box::new(facts))),
    }
}

/// Decodes the ID and size of an entry; `None` for nil.
fn entry(reply: Value<'_>) -> Decoded<Option<(StreamId, u64)>> {
    if matches!(reply, Value::Nil) {
        return Ok(None);
    }
    Ok(Some((entry_id(reply)?, size(reply))))
}

/// Decodes the ID of an entry, pending or not.
fn entry_id(reply: Value<'_>) -> Decoded<StreamId> {
    array(reply)?.next().ok_or(DecodeError("an entry has no ID")).and_then(id)
}

/// Estimates the bytes of a reply on the wire.
fn size(reply: Value<'_>) -> u64 {
    match reply {
        Value::Text(bytes) => bytes.len() as u64 + 8,
        Value::LongText(length) => length + 8,
        Value::Array(items) | Value::Map(items) => 5 + items.map(size).sum::<u64>(),
        _ => 8,
    }
}

/// Iterates over a reply's field names and values.
struct Fields<'a>(Values<'a>);

impl<'a> Iterator for Fields<'a> {
    type Item = Decoded<(&'a [u8], Value<'a>)>;

    fn next(&mut self) -> Option<Self::Item> {
        let name = self.0.next()?;
        let Some(value) = self.0.next() else { return Some(Err(DecodeError("a field has no value"))) };
        Some(bytes(name).map(|name| (name, value)))
    }
}

fn fields(reply: Value<'_>) -> Decoded<Fields<'_>> {
    match reply {
        Value::Map(values) | Value::Array(values) => Ok(Fields(values)),
        Value::Refused => Err(TOO_LARGE),
        _ => Err(DecodeError("expected names and values")),
    }
}

fn array(reply: Value<'_>) -> Decoded<Values<'_>> {
    match reply {
        Value::Array(items) => Ok(items),
        Value::Nil => Ok(Values::default()),
        Value::Refused => Err(TOO_LARGE),
        _ => Err(DecodeError("expected an array")),
    }
}

fn bytes(reply: Value<'_>) -> Decoded<&[u8]> {
    match reply {
        Value::Text(bytes) => Ok(bytes),
        Value::LongText(_) => Err(DecodeError("expected a shorter string")),
        _ => Err(DecodeError("expected a string")),
    }
}

fn id(reply: Value<'_>) -> Decoded<StreamId> {
    let Value::Text(bytes) = reply else { return Err(DecodeError("expected a stream ID")) };
    let text = std::str::from_utf8(bytes).ok();
    text.and_then(|text| text.parse().ok()).ok_or(DecodeError("expected a stream ID"))
}

/// Decodes a number that may be nil, or sent as a string.
fn integer(reply: Value<'_>) -> Decoded<Option<i64>> {
    match reply {
        Value::Nil => Ok(None),
        Value::Int(number) => Ok(Some(number)),
        Value::Text(bytes) => std::str::from_utf8(bytes)
            .ok()
            .and_then(|text| text.parse().ok())
            .map(Some)
            .ok_or(DecodeError("expected a number")),
        _ => Err(DecodeError("expected a number")),
    }
}

/// Decodes a number that must be present and not negative.
fn count(reply: Value<'_>) -> Decoded<u64> {
    integer(reply)?
        .and_then(|number| u64::try_from(number).ok())
        .ok_or(DecodeError("expected a number that is not negative"))
}

/// Decodes a count, limited to what a server's memory can hold.
fn amount(reply: Value<'_>) -> Decoded<u64> {
    let fits = |amount: &u64| *amount < MORE_THAN_FITS;
    Some(count(reply)?).filter(fits).ok_or(DecodeError("expected no more than a server can hold"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::poller::resp::keep_all;
    use redis_stream_lag::snapshot::Idmp;

    /// Replies of real servers, each in both protocols, to the commands listed in `replies`; `scripts/record_replies.py`
    /// records them.
    const RECORDED: [(&str, &[u8]); 12] = [
        ("redis-6.2-resp2", include_bytes!("../../tests/replies/redis-6.2-resp2.bin")),
        ("redis-6.2-resp3", include_bytes!("../../tests/replies/redis-6.2-resp3.bin")),
        ("redis-7.0-resp2", include_bytes!("../../tests/replies/redis-7.0-resp2.bin")),
        ("redis-7.0-resp3", include_bytes!("../../tests/replies/redis-7.0-resp3.bin")),
        ("redis-8.2-resp2", include_bytes!("../../tests/replies/redis-8.2-resp2.bin")),
        ("redis-8.2-resp3", include_bytes!("../../tests/replies/redis-8.2-resp3.bin")),
        ("redis-8.10-resp2", include_bytes!("../../tests/replies/redis-8.10-resp2.bin")),
        ("redis-8.10-resp3", include_bytes!("../../tests/replies/redis-8.10-resp3.bin")),
        ("valkey-8.1-resp2", include_bytes!("../../tests/replies/valkey-8.1-resp2.bin")),
        ("valkey-8.1-resp3", include_bytes!("../../tests/replies/valkey-8.1-resp3.bin")),
        ("valkey-9.1-resp2", include_bytes!("../../tests/replies/valkey-9.1-resp2.bin")),
        ("valkey-9.1-resp3", include_bytes!("../../tests/replies/valkey-9.1-resp3.bin")),
    ];

    /// The recorded replies of one server, by the command that each answers. The stream `s` had five entries,
    /// with the fourth deleted; `g` had read three of them, two by alice and one, acknowledged, by bob.
    fn replies(kept: &[u8]) -> Vec<(&'static str, Value<'_>)> {
        let commands = [
            "XINFO STREAM s",
            "XINFO GROUPS s",
            "XINFO CONSUMERS s g",
            "XPENDING s g - + 1",
            "XPENDING s idle - + 1",
            "XPENDING s g - (1700000000002-0 1001",
            "XRANGE s (1700000000001-0 1700000000005-0 COUNT 2",
            "XINFO STREAM empty",
            "XINFO GROUPS empty",
            "HELLO",
            "TIME",
            "SCAN 0 COUNT 1000 TYPE stream",
            "XINFO STREAM nokey",
            "XINFO STREAM text",
            "XINFO CONSUMERS s nogroup",
            "XPENDING s nogroup - + 1",
            "XPENDING nokey g - + 1",
        ];
        let mut values = Values::all(kept);
        let parsed = commands.map(|command| (command, values.next().unwrap()));
        assert_eq!(values.next(), None, "all that was recorded was read");
        parsed.into()
    }

    /// Decodes the recorded replies to `command`, of each server in both protocols.
    fn decoded<T: PartialEq + std::fmt::Debug>(
        command: &str,
        decode: impl Fn(Value<'_>) -> Decoded<T>,
    ) -> Vec<(&'static str, T)> {
        let all = RECORDED.map(|(name, recorded)| {
            let kept = keep_all(recorded).unwrap();
            let reply = replies(&kept).into_iter().find(|(asked, _)| *asked == command).unwrap().1;
            (name, decode(reply).unwrap())
        });
        all.into()
    }

    fn oldest(reply: Value<'_>) -> Decoded<Option<(PendingEntry, Name)>> {
        oldest_pending(reply, &mut NameInterner::default())
    }

    fn is_6_2(name: &str) -> bool {
        name.starts_with("redis-6.2")
    }

    fn millis(ms: u64) -> StreamId {
        StreamId::new(1_700_000_000_000 + ms, 0)
    }

    #[test]
    fn a_stream_has_the_same_facts_on_every_server_but_for_what_6_2_does_not_tell() {
        for (name, stream) in decoded("XINFO STREAM s", xinfo_stream) {
            let since_7_0 = |value| (!is_6_2(name)).then_some(value);
            let expected = XinfoStream {
                length: 4,
                groups: 3,
                last_generated: millis(5),
                first: Some(millis(1)),
                last: Some(millis(5)),
                entries_added: since_7_0(5),
                max_deleted: (!is_6_2(name)).then_some(millis(4)),
                // Redis 8.10 keeps a single key without a node of its own.
                radix_tree: RadixTree { keys: 1, nodes: if name.starts_with("redis-8.10") { 1 } else { 2 } },
                idmp: stream.idmp.clone(),
                entry_bytes: stream.entry_bytes,
                payload_bytes: stream.payload_bytes,
            };
            assert_eq!(stream, expected, "{name}");
            assert_eq!((stream.entry_bytes, stream.payload_bytes), (76, 148), "{name}");
            let unused = Idmp { duration_seconds: 100, max_size: 100, ..Idmp::default() };
            assert_eq!(stream.idmp.as_deref(), name.starts_with("redis-8.10").then_some(&unused), "{name}");
        }
    }

    #[test]
    fn an_empty_stream_has_no_first_and_no_last_entry() {
        for (name, stream) in decoded("XINFO STREAM empty", xinfo_stream) {
            assert_eq!((stream.length, stream.first, stream.last), (0, None, None), "{name}");
            assert_eq!(stream.max_deleted, (!is_6_2(name)).then_some(StreamId::MIN), "{name}");
        }
    }

    #[test]
    fn entries_read_is_absent_where_the_server_does_not_know_it() {
        let facts =
            |group: XinfoGroup<'_>| group.facts(group.name.into(), false, ConsumersReading::NotWanted);
        let all = |reply: Value<'_>| {
            xinfo_groups(reply).map(|groups| groups.into_iter().map(facts).collect::<Vec<_>>())
        };
        for (name, groups) in decoded("XINFO GROUPS s", all) {
            let group = |name: &[u8], consumers, pending, ms, entries_read| {
                let last_delivered = millis(ms);
                facts(XinfoGroup { name, consumers, pending, last_delivered, entries_read })
            };
            let read = (!is_6_2(name)).then_some(3);
            let expected =
                [group(b"g", 3, 2, 3, read), group(b"idle", 0, 0, 5, None), group(b"\xffraw", 0, 0, 3, None)];
            assert_eq!(groups, expected, "{name}");
        }
    }

    #[test]
    fn consumers_that_never_got_an_entry_have_no_inactive_time() {
        for (name, consumers) in
            decoded("XINFO CONSUMERS s g", |reply| xinfo_consumers(reply, &mut NameInterner::default()))
        {
            let seen: Vec<_> = consumers.iter().map(|c| (c.name.to_string(), c.pending)).collect();
            assert_eq!(seen, [("alice".into(), 2), ("bob".into(), 0), ("carol".into(), 0)], "{name}");
            let has_inactive = !is_6_2(name) && !name.starts_with("redis-7.0");
            let inactive: Vec<_> = consumers.iter().map(|consumer| consumer.inactive_ms.is_some()).collect();
            assert_eq!(inactive, [has_inactive, has_inactive, false], "{name}");
        }
    }

    #[test]
    fn pending_entries_and_ranges_are_read_without_their_payload() {
        for (name, entry) in decoded("XPENDING s g - + 1", oldest) {
            let (entry, consumer) = entry.unwrap();
            assert_eq!((entry.id, entry.deliveries), (millis(1), 1), "{name}");
            assert!(!consumer.as_bytes().is_empty(), "{name}");
            assert!(entry.idle_ms.is_some_and(|ms| (300..20_000).contains(&ms)), "{name}: {entry:?}");
        }
        for (name, entry) in decoded("XPENDING s idle - + 1", oldest) {
            assert_eq!(entry, None, "{name}");
        }
        for (name, below) in decoded("XPENDING s g - (1700000000002-0 1001", length) {
            assert_eq!(below, 1, "{name}");
        }
        for (name, entries) in decoded("XRANGE s (1700000000001-0 1700000000005-0 COUNT 2", xrange) {
            assert_eq!(entries, EntryRange { count: 2, ends: Some((millis(2), millis(3))) }, "{name}");
        }
    }

    #[test]
    fn the_node_tells_its_role_its_clock_and_its_keys() {
        for (name, hello) in decoded("HELLO", topology::hello) {
            assert_eq!((hello.role.as_str(), hello.mode.as_str()), ("master", "standalone"), "{name}");
            assert!(!hello.version.is_empty() && !hello.server.is_empty(), "{name}");
        }
        for (name, time) in decoded("TIME", time) {
            assert!(time > Duration::from_secs(1_700_000_000), "{name}: {time:?}");
        }
        for (name, mut scanned) in decoded("SCAN 0 COUNT 1000 TYPE stream", scan) {
            scanned.keys.sort();
            let keys = vec![Name::from("empty"), Name::from("s")];
            assert_eq!(scanned, Scanned { cursor: 0, keys, has_longer: false }, "{name}");
        }
    }

    #[test]
    fn errors_are_about_a_key_a_group_or_a_type_on_every_server() {
        use crate::poller::error::{KeyError, classify_reply};
        for (name, recorded) in RECORDED {
            let kept = keep_all(recorded).unwrap();
            for (command, reply) in replies(&kept) {
                let expected = match command {
                    "XINFO STREAM nokey" => KeyError::Missing,
                    "XINFO STREAM text" => KeyError::WrongType,
                    "XINFO CONSUMERS s nogroup" | "XPENDING s nogroup - + 1" | "XPENDING nokey g - + 1" => {
                        KeyError::MissingGroup
                    }
                    _ => continue,
                };
                let Value::Error(error) = reply else { panic!("{name}: {command}: {reply:?}") };
                assert_eq!(classify_reply("h:1", error).unwrap(), expected, "{name}: {command}");
            }
        }
    }

    fn bulk(text: &str) -> String {
        format!("${}\r\n{text}\r\n", text.len())
    }

    fn int(number: i64) -> String {
        format!(":{number}\r\n")
    }

    fn list(items: &[String]) -> String {
        format!("*{}\r\n{}", items.len(), items.concat())
    }

    /// Decodes one reply that is written as RESP.
    fn read<T>(reply: &str, decode: impl Fn(Value<'_>) -> T) -> T {
        decode(Values::all(&keep_all(reply.as_bytes()).unwrap()).next().unwrap())
    }

    #[test]
    fn values_that_later_versions_are_documented_to_send_are_understood() {
        let released = |idle, deliveries| {
            let entry = list(&[bulk("5-0"), bulk(""), int(idle), int(deliveries)]);
            read(&list(&[entry]), oldest).unwrap().unwrap()
        };
        let expected = PendingEntry { id: StreamId::new(5, 0), idle_ms: None, deliveries: i64::MAX as u64 };
        assert_eq!(released(-1, i64::MAX), (expected, Name::from("")));

        let group = [
            ("name", bulk("g")),
            ("nacked-count", int(3)),
            ("consumers", int(1)),
            ("last-delivered-id", bulk("5-0")),
            ("entries-read", int(-7)),
        ];
        let group = list(&group.map(|(name, value)| [bulk(name), value]).concat());
        read(&list(&[group]), |reply| {
            let groups = xinfo_groups(reply).unwrap();
            assert_eq!((groups[0].consumers, groups[0].entries_read), (1, None));
        });
    }

    #[test]
    fn replies_of_another_form_are_errors_not_panics() {
        let odd = [
            "_\r\n".to_owned(),
            int(-1),
            bulk("x"),
            ":99999999999999999999\r\n".to_owned(),
            list(&[bulk("length")]),
            list(&[bulk("length"), int(-3)]),
            list(&[bulk("length"), ":9223372036854775808\r\n".to_owned()]),
            list(&[list(&[])]),
            list(&[bulk("length"), int(2), bulk("last-generated-id"), bulk("9-9")]),
            "%1\r\n:1\r\n_\r\n".to_owned(),
            list(&[bulk(&"x".repeat(70_000)), int(1)]),
        ];
        for reply in odd {
            assert!(read(&reply, xinfo_stream).is_err(), "{reply:?}");
            assert!(read(&reply, time).is_err(), "{reply:?}");
            assert!(read(&reply, scan).is_err(), "{reply:?}");
            let consumers = |reply: Value<'_>| xinfo_consumers(reply, &mut NameInterner::default());
            let groups = |reply: Value<'_>| drop(xinfo_groups(reply));
            let _ = (read(&reply, groups), read(&reply, consumers), read(&reply, topology::hello));
            let _ = (read(&reply, oldest), read(&reply, xrange), read(&reply, length));
        }
    }

    #[test]
    fn what_no_server_can_hold_is_an_error() {
        let group = |consumers| {
            let fields = [bulk("name"), bulk("g"), bulk("last-delivered-id"), bulk("5-0"), bulk("consumers")];
            let group = list(&[&fields[..], &[int(consumers)]].concat());
            read(&list(&[group]), |reply| xinfo_groups(reply).map(|groups| groups[0].consumers))
        };
        assert_eq!(group((1 << 40) - 1), Ok((1 << 40) - 1));
        for consumers in [1 << 40, i64::MAX] {
            let error = group(consumers).unwrap_err();
            assert_eq!(error.to_string(), "expected no more than a server can hold");
        }
    }

    #[test]
    fn a_large_payload_is_measured_but_not_kept() {
        let entry = list(&[bulk("5-0"), list(&[bulk("n"), bulk(&"x".repeat(1_000_000))])]);
        let fields = [("length", int(1)), ("last-generated-id", bulk("5-0"))];
        let ends = [("first-entry", entry.clone()), ("last-entry", entry)];
        let fields: Vec<_> =
            fields.into_iter().chain(ends).flat_map(|(name, value)| [bulk(name), value]).collect();
        let reply = list(&fields);
        assert!(keep_all(reply.as_bytes()).unwrap().len() < 1_000);
        assert_eq!(read(&reply, xinfo_stream).unwrap().payload_bytes / 1_000_000, 2);
    }
}
