//! The dead-letter stream, for entries that used up their deliveries.
//!
//! A dead letter begins with six fields of its own, in this order: `streamgauge-stream`, `streamgauge-group`,
//! `streamgauge-consumer`, `streamgauge-id`, `streamgauge-deliveries` and `streamgauge-error`. The entry's fields follow,
//! whatever their names.

use std::time::Duration;

use redis::{Cmd, Pipeline, RedisError, RedisResult, Value, cmd};

use super::group_client::{FATAL_DELIVERIES, GroupClient};
use super::in_flight::RetryEntry;
use crate::connection::Connection;
use crate::entry::{Fields, GroupMember, RedisId, StreamId, decode_entries};
use redis_stream_core::escape::escape;

const MAX_ERROR_CHARS: usize = 1_000;

/// Key of the dead-letter stream, and the way to write to it on this server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeadLetterStream {
    key: Vec<u8>,
    order: WriteOrder,
}

/// Order of XADD to the dead-letter stream and XACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteOrder {
    Transaction,
    /// One after the other, since the keys are in different slots of a cluster. A connection that is lost between them
    /// leads to a second dead letter of the same entry.
    AddFirst,
}

/// Reason why the dead-letter stream cannot be determined.
pub(super) enum DetectError {
    /// A setting is wrong, as this message explains.
    Config(String),
    Redis(RedisError),
}

impl From<RedisError> for DetectError {
    fn from(error: RedisError) -> Self {
        Self::Redis(error)
    }
}

/// Result of a write.
pub(super) enum WriteResult {
    Added,
    /// The server refused, and the entry is still pending.
    Refused(RedisError),
}

impl DeadLetterStream {
    /// Determines the key, if none is configured, and how to write to it.
    pub(super) async fn detect(
        client: &mut GroupClient,
        configured: Option<&[u8]>,
    ) -> Result<Self, DetectError> {
        let stream = client.member().stream.clone();
        let connection = client.connection();
        let mode = mode(connection).await?;
        let key = match (configured, mode) {
            (Some(key), _) => key.to_vec(),
            (None, ServerMode::Cluster) => tagged_key(&stream),
            (None, ServerMode::Other) => [&stream[..], b":dead"].concat(),
        };
        let is_apart =
            mode == ServerMode::Cluster && slot(connection, &key).await? != slot(connection, &stream).await?;
        let order = if is_apart { WriteOrder::AddFirst } else { WriteOrder::Transaction };
        let mut key_type = cmd("TYPE");
        key_type.arg(&key);
        let wrong = |text: &str| DetectError::Config(format!("dead-letter stream {}: {text}", escape(&key)));
        match connection.query(&key_type, Duration::ZERO).await {
            Ok(found) if is_stream_or_none(&found) => Ok(Self { key, order }),
            Ok(_) => Err(wrong("the key holds another type")),
            Err(error) if error.code() == Some("MOVED") => Err(wrong(&format!(
                "it is on another node of the cluster than {}: give both the same hash tag",
                escape(&stream)
            ))),
            Err(error) if error.is_io_error() => Err(error.into()),
            // Without permission for TYPE, XADD might fail within a transaction, while XACK succeeds.
            Err(_) => Ok(Self { key, order: WriteOrder::AddFirst }),
        }
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }

    /// Reads the fields of entries that are to be moved here, `None` for an entry that was deleted. Returns `None` if
    /// they cannot be written, since the key holds another type by now, or its type is not readable.
    pub(super) async fn read_entries(
        &self,
        client: &mut GroupClient,
        ids: &[StreamId],
    ) -> RedisResult<Option<Vec<Option<Fields>>>> {
        let mut pipeline = Pipeline::new();
        pipeline.cmd("TYPE").arg(&self.key);
        client.add_reads(&mut pipeline, ids);
        let mut replies = client.connection().query_all(&pipeline).await?.into_iter();
        // Within a transaction, XADD to a key of another type would fail, and XACK succeed.
        let is_writable = replies.next().is_some_and(|key_type| match key_type {
            Ok(key_type) => is_stream_or_none(&key_type),
            Err(_) => self.order == WriteOrder::AddFirst,
        });
        if !is_writable {
            return Ok(None);
        }
        let fields = |reply: RedisResult<Value>| Ok(decode_entries(reply?)?.pop().map(|(_, fields)| fields));
        replies.map(fields).collect::<RedisResult<_>>().map(Some)
    }

    /// Adds a dead letter and acknowledges its entry.
    pub(super) async fn write(
        &self,
        client: &mut GroupClient,
        id: StreamId,
        entry: &RetryEntry,
        fields: &Fields,
    ) -> RedisResult<WriteResult> {
        let letter = self.dead_letter(client.member(), id, entry, fields);
        let xack = client.xack(&[id]);
        let connection = client.connection();
        let refused = match self.order {
            WriteOrder::Transaction => {
                let mut transaction = Pipeline::new();
                transaction.cmd("MULTI");
                transaction.add_command(letter).add_command(xack).cmd("EXEC");
                let replies = connection.query_all(&transaction).await?;
                match replies.into_iter().collect::<RedisResult<Vec<_>>>() {
                    // The key's type may have changed since it was read.
                    Ok(replies) => match replies.into_iter().last() {
                        Some(Value::Array(parts)) => {
                            parts.into_iter().find_map(|part| part.extract_error().err())
                        }
                        _ => None,
                    },
                    Err(error) => Some(error),
                }
            }
            WriteOrder::AddFirst => match connection.query(&letter, Duration::ZERO).await {
                Err(error) if error.is_io_error() => return Err(error),
                Err(error) => Some(error),
                Ok(_) => {
                    connection.query(&xack, Duration::ZERO).await?;
                    None
                }
            },
        };
        Ok(refused.map_or(WriteResult::Added, WriteResult::Refused))
    }

    fn dead_letter(&self, member: &GroupMember, id: StreamId, entry: &RetryEntry, fields: &Fields) -> Cmd {
        let mut letter = cmd("XADD");
        letter.arg(&self.key).arg("*");
        letter.arg("streamgauge-stream").arg(&member.stream);
        letter.arg("streamgauge-group").arg(&member.group);
        letter.arg("streamgauge-consumer").arg(&member.consumer);
        letter.arg("streamgauge-id").arg(RedisId(id));
        letter.arg("streamgauge-deliveries");
        match entry.deliveries {
            FATAL_DELIVERIES => letter.arg("fatal"),
            deliveries => letter.arg(deliveries),
        };
        letter.arg("streamgauge-error").arg(error_text(entry));
        for (name, value) in fields {
            letter.arg(name).arg(value);
        }
        letter
    }
}

/// Returns the text for the field `streamgauge-error`, of bounded length.
pub(super) fn error_text(entry: &RetryEntry) -> String {
    match &entry.error {
        Some(error) => error.chars().take(MAX_ERROR_CHARS).collect(),
        None if entry.deliveries == FATAL_DELIVERIES => "marked as failed by XNACK FATAL".to_owned(),
        None => format!("not finished in {} deliveries", entry.deliveries),
    }
}

fn is_stream_or_none(kind: &Value) -> bool {
    matches!(kind, Value::SimpleString(kind) if kind == "stream" || kind == "none")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ServerMode {
    Cluster,
    Other,
}

/// Returns the server's mode by HELLO, which needs no permission without arguments. CLUSTER KEYSLOT is no sign of a
/// cluster, since Valkey 9 answers it in any mode.
async fn mode(connection: &mut Connection) -> RedisResult<ServerMode> {
    let fields = match connection.query(&cmd("HELLO"), Duration::ZERO).await {
        Ok(Value::Array(fields)) => fields,
        Err(error) if error.is_io_error() => return Err(error),
        _ => return Ok(ServerMode::Other),
    };
    let is =
        |value: &Value, text: &str| matches!(value, Value::BulkString(found) if found == text.as_bytes());
    let is_cluster = fields.windows(2).any(|pair| is(&pair[0], "mode") && is(&pair[1], "cluster"));
    Ok(if is_cluster { ServerMode::Cluster } else { ServerMode::Other })
}

async fn slot(connection: &mut Connection, key: &[u8]) -> RedisResult<Value> {
    let mut slot = cmd("CLUSTER");
    slot.arg("KEYSLOT").arg(key);
    connection.query(&slot, Duration::ZERO).await
}

/// Returns the default key in a cluster, which is in the stream's slot.
fn tagged_key(stream: &[u8]) -> Vec<u8> {
    let has_tag = || {
        let open = stream.iter().position(|byte| *byte == b'{')?;
        let close = stream[open + 1..].iter().position(|byte| *byte == b'}')?;
        (close > 0).then_some(())
    };
    match has_tag() {
        Some(()) => [stream, b":dead"].concat(),
        None => [b"{", stream, b"}:dead"].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_key_in_a_cluster_has_the_hash_tag_of_the_stream() {
        for (stream, key) in [
            ("orders", "{orders}:dead"),
            ("{shop}:orders", "{shop}:orders:dead"),
            ("a{shop}b", "a{shop}b:dead"),
            ("{}orders", "{{}orders}:dead"),
            ("{orders", "{{orders}:dead"),
        ] {
            assert_eq!(tagged_key(stream.as_bytes()), key.as_bytes(), "{stream}");
        }
    }
}
