//! Complete snapshots of streams and their groups, which derived numbers are compared with.

use std::collections::BTreeMap;

use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Value, cmd};
use redis_stream_core::id::StreamId;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StreamSnapshot {
    /// The IDs of all entries.
    pub entries: Vec<StreamId>,
    /// last-delivered-id and the IDs of all pending entries, by group.
    pub groups: BTreeMap<String, (StreamId, Vec<StreamId>)>,
}

impl StreamSnapshot {
    /// Reads all entries and groups; empty if there is no such stream.
    pub async fn read(connection: &mut MultiplexedConnection, stream: &str) -> Self {
        let first_id = |entry: &Value| match entry {
            Value::Array(parts) => id(&parts[0]),
            other => panic!("not an entry: {other:?}"),
        };
        let entries = ask(connection, &["XRANGE", stream, "-", "+"]).await.unwrap();
        let entries = list(entries).iter().map(first_id).collect();
        let Ok(found) = ask(connection, &["XINFO", "GROUPS", stream]).await else { return Self::default() };
        let mut groups = BTreeMap::new();
        for group in list(found) {
            let fields = list(group);
            let field = |name: &str| {
                let at = fields.iter().position(|field| text(field) == name).unwrap();
                fields[at + 1].clone()
            };
            let name = text(&field("name"));
            let pending = ask(connection, &["XPENDING", stream, &name, "-", "+", "100000"]).await.unwrap();
            let pending = list(pending).iter().map(first_id).collect();
            groups.insert(name, (id(&field("last-delivered-id")), pending));
        }
        Self { entries, groups }
    }

    /// Returns the IDs after a last-delivered-id.
    pub fn undelivered_after(&self, delivered: StreamId) -> impl Iterator<Item = StreamId> + '_ {
        self.entries.iter().copied().filter(move |id| *id > delivered)
    }
}

/// Sends a command of words without spaces, which must succeed.
pub async fn send(connection: &mut MultiplexedConnection, line: &str) {
    let words: Vec<_> = line.split(' ').collect();
    ask(connection, &words).await.unwrap_or_else(|error| panic!("{line}: {error}"));
}

/// Sends a command.
pub async fn ask(connection: &mut MultiplexedConnection, words: &[&str]) -> RedisResult<Value> {
    let mut command = cmd(words[0]);
    words[1..].iter().for_each(|word| {
        command.arg(*word);
    });
    command.query_async(connection).await
}

/// Returns the items of an array; none for nil.
pub fn list(value: Value) -> Vec<Value> {
    match value {
        Value::Array(items) => items,
        Value::Nil => Vec::new(),
        other => panic!("not a list: {other:?}"),
    }
}

/// Returns a string, or the debug form of another value.
pub fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).unwrap(),
        other => format!("{other:?}"),
    }
}

pub fn id(value: &Value) -> StreamId {
    text(value).parse().unwrap()
}
