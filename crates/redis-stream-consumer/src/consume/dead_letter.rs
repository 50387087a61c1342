//! The dead-letter stream, for entries that used up their deliveries.
//!
//! A dead letter begins with six fields of its own, [`LETTER_FIELDS`]. The entry's fields follow, whatever their names.

use std::time::Duration;

use redis::{Cmd, Pipeline, RedisError, RedisResult, Value, cmd};

use super::group_client::{GroupClient, is_fatal};
use super::in_flight::RetryEntry;
use crate::dead_letters::letter::LETTER_FIELDS;
use crate::dead_letters::slot::{ServerMode, default_key, mode, slot};
use crate::entry::{Fields, GroupMember, StreamId, decode_entries};
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
        let key = configured.map_or_else(|| default_key(&stream, mode), <[u8]>::to_vec);
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
        let deliveries = match entry.deliveries {
            fatal if is_fatal(fatal) => "fatal".to_owned(),
            deliveries => deliveries.to_string(),
        };
        let (id, error) = (id.to_string(), error_text(entry));
        let values: [&[u8]; 6] = [
            &member.stream,
            &member.group,
            &member.consumer,
            id.as_bytes(),
            deliveries.as_bytes(),
            error.as_bytes(),
        ];
        for (name, value) in LETTER_FIELDS.into_iter().zip(values) {
            letter.arg(name).arg(value);
        }
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
        None if is_fatal(entry.deliveries) => "marked as failed by XNACK FATAL".to_owned(),
        None => format!("not finished in {} deliveries", entry.deliveries),
    }
}

fn is_stream_or_none(kind: &Value) -> bool {
    matches!(kind, Value::SimpleString(kind) if kind == "stream" || kind == "none")
}
