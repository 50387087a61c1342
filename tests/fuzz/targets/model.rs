//! What a server might say, made from bytes, and how it says so in RESP.

use std::time::Duration;

use arbitrary::{Arbitrary, Result, Unstructured};
use redis_stream_core::id::StreamId;
use streamgauge::poller::resp::{Value, Values, keep_all};

/// A clock that the IDs of models are close to, in milliseconds since the Unix epoch.
pub const NOW_MS: u64 = 1_700_000_000_000;

/// The most that a server can hold of anything.
pub const MOST: u64 = (1 << 40) - 1;

/// A reply as it is to be written.
#[derive(Clone, Debug)]
pub enum Reply {
    Nil,
    Int(i64),
    Text(Vec<u8>),
    List(Vec<Self>),
    /// Names and values.
    Fields(Vec<(&'static str, Self)>),
}

/// Form of the reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Resp2,
    Resp3,
}

impl Reply {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into().into_bytes())
    }

    pub fn count(number: u64) -> Self {
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }

    pub fn or_nil<T>(value: Option<T>, reply: impl FnOnce(T) -> Self) -> Self {
        value.map_or(Self::Nil, reply)
    }

    fn write(&self, protocol: Protocol, out: &mut Vec<u8>) {
        match (self, protocol) {
            (Self::Nil, Protocol::Resp2) => out.extend(b"$-1\r\n"),
            (Self::Nil, Protocol::Resp3) => out.extend(b"_\r\n"),
            (Self::Int(number), _) => out.extend(format!(":{number}\r\n").bytes()),
            (Self::Text(bytes), _) => {
                out.extend(format!("${}\r\n", bytes.len()).bytes());
                out.extend(bytes);
                out.extend(b"\r\n");
            }
            (Self::List(items), _) => {
                out.extend(format!("*{}\r\n", items.len()).bytes());
                items.iter().for_each(|item| item.write(protocol, out));
            }
            (Self::Fields(fields), _) => {
                let start = match protocol {
                    Protocol::Resp2 => format!("*{}\r\n", 2 * fields.len()),
                    Protocol::Resp3 => format!("%{}\r\n", fields.len()),
                };
                out.extend(start.bytes());
                for (name, value) in fields {
                    Self::text(*name).write(protocol, out);
                    value.write(protocol, out);
                }
            }
        }
    }

    /// Returns what `read` makes of the reply as the connection sends it.
    pub fn sent<T>(&self, protocol: Protocol, read: impl FnOnce(Value<'_>) -> T) -> T {
        let mut bytes = Vec::new();
        self.write(protocol, &mut bytes);
        let kept = keep_all(&bytes).expect("it is RESP");
        let mut values = Values::all(&kept);
        let value = values.next().expect("it is a reply");
        assert_eq!(values.next(), None, "all of {} was read", bytes.escape_ascii());
        read(value)
    }
}

/// A count: mostly small, at times as large as there can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub u64);

impl<'a> Arbitrary<'a> for Count {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let largest = i64::MAX.cast_unsigned();
        let byte = u64::from(u.arbitrary::<u8>()?);
        Ok(Self(match byte {
            0..192 => byte % 32,
            192..224 => largest - byte % 32,
            224..240 => 1 << (byte % 16 * 4),
            _ => u.arbitrary::<u64>()? & largest,
        }))
    }
}

/// A count: mostly small, at times as large as a server can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Amount(pub u64);

impl<'a> Arbitrary<'a> for Amount {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        Ok(Self(Count::arbitrary(u)?.0.min(MOST)))
    }
}

/// An ID: close to the clock, small, as large as there can be, or any.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Id(pub StreamId);

impl<'a> Arbitrary<'a> for Id {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let (byte, seq) = (u64::from(u.arbitrary::<u8>()?), u64::from(u.arbitrary::<u8>()?));
        let ms = match byte {
            0..128 => NOW_MS + byte % 64 * 1000,
            128..192 => byte % 32,
            192..224 => u64::MAX - byte % 32,
            _ => u.arbitrary()?,
        };
        Ok(Self(StreamId::new(ms, if seq < 250 { seq % 8 } else { u64::MAX - (seq - 250) })))
    }
}

/// A name, which is bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label(pub Vec<u8>);

impl<'a> Arbitrary<'a> for Label {
    fn arbitrary(u: &mut Unstructured<'a>) -> Result<Self> {
        let byte: u8 = u.arbitrary()?;
        Ok(Self(match byte {
            0..224 => vec![b'a' + byte % 4],
            _ => u.bytes(usize::from(byte % 8).min(u.len()))?.to_vec(),
        }))
    }
}

/// A stream.
#[derive(Arbitrary, Clone, Debug)]
pub struct Stream {
    /// Entries, besides the first and the last; `None` if it is empty.
    pub between: Option<Amount>,
    pub ends: (Id, Id),
    pub last_generated: Id,
    pub groups: Amount,
    pub entries_added: Option<Count>,
    pub max_deleted: Option<Id>,
    pub radix_tree: (Amount, Amount),
    /// Since 8.6: idmp-duration, idmp-maxsize, pids-tracked, iids-tracked, iids-added and iids-duplicates.
    pub idmp: Option<[Count; 6]>,
    pub payload: Label,
    pub oddity: Oddity,
}

/// A change that a later version may make to a reply of fields.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub struct Oddity {
    /// By how many places the fields are moved on.
    rotation: u8,
    /// Position of an unknown field, if there is one.
    stranger: Option<u8>,
}

impl Oddity {
    fn applied(self, mut fields: Vec<(&'static str, Reply)>) -> Reply {
        let places = fields.len();
        fields.rotate_left(usize::from(self.rotation) % places.max(1));
        if let Some(place) = self.stranger {
            let stranger = Reply::List(vec![Reply::text("length"), Reply::Int(-1), Reply::Nil]);
            fields.insert(usize::from(place) % (places + 1), ("stranger", stranger));
        }
        Reply::Fields(fields)
    }
}

impl Stream {
    pub fn length(&self) -> u64 {
        self.between.map_or(0, |between| (between.0 + 1).min(MOST))
    }

    pub fn ends(&self) -> Option<(StreamId, StreamId)> {
        self.between.map(|_| (self.ends.0.0, self.ends.1.0))
    }

    fn entry(&self, id: Id) -> Reply {
        let payload = Reply::List(vec![Reply::text("n"), Reply::Text(self.payload.0.clone())]);
        Reply::List(vec![Reply::text(id.0.to_string()), payload])
    }

    /// XINFO STREAM.
    pub fn reply(&self) -> Reply {
        let is_filled = self.between.map(|_| ());
        let mut fields = vec![
            ("length", Reply::count(self.length())),
            ("radix-tree-keys", Reply::count(self.radix_tree.0.0)),
            ("radix-tree-nodes", Reply::count(self.radix_tree.1.0)),
            ("last-generated-id", Reply::text(self.last_generated.0.to_string())),
            ("groups", Reply::count(self.groups.0)),
            ("first-entry", Reply::or_nil(is_filled, |()| self.entry(self.ends.0))),
            ("last-entry", Reply::or_nil(is_filled, |()| self.entry(self.ends.1))),
        ];
        fields.extend(self.max_deleted.map(|id| ("max-deleted-entry-id", Reply::text(id.0.to_string()))));
        fields.extend(self.entries_added.map(|added| ("entries-added", Reply::count(added.0))));
        let names = [
            "idmp-duration",
            "idmp-maxsize",
            "pids-tracked",
            "iids-tracked",
            "iids-added",
            "iids-duplicates",
        ];
        if let Some(idmp) = &self.idmp {
            fields.extend(names.into_iter().zip(idmp.iter().map(|count| Reply::count(count.0))));
        }
        self.oddity.applied(fields)
    }
}

/// A group.
#[derive(Arbitrary, Clone, Debug)]
pub struct Group {
    pub name: Label,
    pub consumers: Amount,
    pub pending: Amount,
    pub last_delivered: Id,
    pub entries_read: Option<Count>,
    pub oddity: Oddity,
}

impl Group {
    /// One item of XINFO GROUPS.
    pub fn reply(&self) -> Reply {
        self.oddity.applied(vec![
            ("name", Reply::Text(self.name.0.clone())),
            ("consumers", Reply::count(self.consumers.0)),
            ("pending", Reply::count(self.pending.0)),
            ("last-delivered-id", Reply::text(self.last_delivered.0.to_string())),
            ("entries-read", Reply::or_nil(self.entries_read, |read| Reply::count(read.0))),
            ("lag", Reply::Nil),
        ])
    }
}

/// A consumer.
#[derive(Arbitrary, Clone, Debug)]
pub struct Consumer {
    pub name: Label,
    pub pending: Amount,
    pub idle: Count,
    pub inactive: Option<Count>,
    pub oddity: Oddity,
}

impl Consumer {
    /// One item of XINFO CONSUMERS.
    pub fn reply(&self) -> Reply {
        let inactive = self.inactive.map_or(Reply::Int(-1), |inactive| Reply::count(inactive.0));
        self.oddity.applied(vec![
            ("name", Reply::Text(self.name.0.clone())),
            ("pending", Reply::count(self.pending.0)),
            ("idle", Reply::count(self.idle.0)),
            ("inactive", inactive),
        ])
    }
}

/// A pending entry.
#[derive(Arbitrary, Clone, Debug)]
pub struct Pending {
    pub id: Id,
    pub consumer: Label,
    /// `None` where the entry was given back.
    pub idle: Option<Count>,
    pub deliveries: Count,
}

impl Pending {
    /// One item of XPENDING.
    pub fn reply(&self) -> Reply {
        Reply::List(vec![
            Reply::text(self.id.0.to_string()),
            Reply::Text(self.consumer.0.clone()),
            self.idle.map_or(Reply::Int(-1), |idle| Reply::count(idle.0)),
            Reply::count(self.deliveries.0),
        ])
    }
}

/// XRANGE of entries with these IDs.
pub fn entries(ids: &[Id]) -> Reply {
    let entry = |id: &Id| {
        Reply::List(vec![Reply::text(id.0.to_string()), Reply::List(vec![Reply::text("n"), Reply::Nil])])
    };
    Reply::List(ids.iter().map(entry).collect())
}

/// A list of what has a reply.
pub fn list<T>(items: &[T], reply: impl Fn(&T) -> Reply) -> Reply {
    Reply::List(items.iter().map(reply).collect())
}

/// TIME.
pub fn time(now: Duration) -> Reply {
    Reply::List(vec![Reply::text(now.as_secs().to_string()), Reply::text(now.subsec_micros().to_string())])
}
