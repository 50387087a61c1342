//! The dead-letter stream: where an entry goes that was delivered too often.
//!
//! A dead letter has six fields of its own in front, in this order: `streamgauge-stream`, `streamgauge-group`,
//! `streamgauge-consumer`, `streamgauge-id`, `streamgauge-deliveries` and `streamgauge-error`. What follows are the
//! entry's own fields, whatever their names.

use std::collections::HashSet;
use std::time::Duration;

use redis::{Cmd, Pipeline, RedisResult, Value, cmd};
use tracing::{error, warn};

use super::ConsumerConfig;
use super::consumer::Consumer;
use super::in_flight::{BATCH_IDS, RetryEntry, batches};
use crate::connection::Connection;
use crate::entry::{Fields, GroupMember, IdArg, StreamId, decode_entries};
use crate::error::WorkloadError;
use redis_stream_core::clock::now;
use redis_stream_core::escape::escape;

/// Characters of an error that are kept.
const ERROR_CHARS: usize = 1_000;

/// Where dead letters go, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DeadLetterStream {
    key: Vec<u8>,
    order: WriteOrder,
}

/// XADD and XACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum WriteOrder {
    /// In one transaction.
    Together,
    /// One after the other, for the keys are in different slots of a cluster: a connection that is lost in between
    /// leads to a second letter of the same entry.
    AddFirst,
}

impl DeadLetterStream {
    /// Finds out where dead letters go on this server. The inner error says why they cannot go there.
    pub(super) async fn learn(
        connection: &mut Connection,
        membership: &ConsumerConfig,
    ) -> RedisResult<Result<Self, WorkloadError>> {
        let server = mode(connection).await?;
        let key = match (&membership.dead_letter, server) {
            (Some(key), _) => key.clone(),
            (None, Mode::Cluster) => tagged_key(&membership.stream),
            (None, Mode::Other) => [&membership.stream[..], b":dead"].concat(),
        };
        let is_apart = server == Mode::Cluster
            && slot(connection, &key).await? != slot(connection, &membership.stream).await?;
        let order = if is_apart { WriteOrder::AddFirst } else { WriteOrder::Together };
        let mut kind = cmd("TYPE");
        kind.arg(&key);
        let said = connection.query(&kind, Duration::ZERO).await;
        let wrong = |what: String| {
            let text = format!("dead-letter stream {}: {what}", escape(&key));
            Ok(Err(WorkloadError::Setting(text)))
        };
        match said {
            Ok(kind) if is_stream_or_none(&kind) => Ok(Ok(Self { key, order })),
            Ok(_) => wrong("the key holds another type".to_owned()),
            Err(error) if error.code() == Some("MOVED") => {
                let stream = escape(&membership.stream);
                wrong(format!(
                    "it is on another node of the cluster than {stream}: give both the same hash tag"
                ))
            }
            Err(error) if error.is_io_error() => Err(error),
            // Who may not ask for the type cannot rule out that XADD fails within a transaction, while XACK
            // succeeds.
            Err(_) => Ok(Ok(Self { key, order: WriteOrder::AddFirst })),
        }
    }
}

fn is_stream_or_none(kind: &Value) -> bool {
    matches!(kind, Value::SimpleString(kind) if kind == "stream" || kind == "none")
}

/// Whether keys have slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Cluster,
    Other,
}

/// HELLO without arguments needs no grant. CLUSTER KEYSLOT does not tell: Valkey 9 answers it without a cluster.
async fn mode(connection: &mut Connection) -> RedisResult<Mode> {
    let fields = match connection.query(&cmd("HELLO"), Duration::ZERO).await {
        Ok(Value::Array(fields)) => fields,
        Err(error) if error.is_io_error() => return Err(error),
        _ => return Ok(Mode::Other),
    };
    let is =
        |value: &Value, text: &str| matches!(value, Value::BulkString(found) if found == text.as_bytes());
    let is_cluster = fields.windows(2).any(|pair| is(&pair[0], "mode") && is(&pair[1], "cluster"));
    Ok(if is_cluster { Mode::Cluster } else { Mode::Other })
}

async fn slot(connection: &mut Connection, key: &[u8]) -> RedisResult<Value> {
    let mut slot = cmd("CLUSTER");
    slot.arg("KEYSLOT").arg(key);
    connection.query(&slot, Duration::ZERO).await
}

/// The default key in a cluster: in the stream's own slot.
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

impl Consumer {
    /// Puts entries on the dead-letter stream, and acknowledges them.
    pub(super) async fn bury(&mut self, exhausted: Vec<(StreamId, RetryEntry)>) -> RedisResult<()> {
        let Some(DeadLetterStream { key, order }) = self.burial.clone() else { return Ok(()) };
        let touched = exhausted.iter().map(|(id, waiting)| (*id, waiting.touched)).collect();
        let ours: HashSet<_> =
            self.confirm(batches(touched, self.spread(), BATCH_IDS)).await?.into_iter().collect();
        let exhausted: Vec<_> = exhausted.into_iter().filter(|(id, _)| ours.contains(id)).collect();
        let mut look = Pipeline::new();
        look.cmd("TYPE").arg(&key);
        for (id, _) in &exhausted {
            look.cmd("XRANGE").arg(&self.member.stream).arg(IdArg(*id)).arg(IdArg(*id));
        }
        let mut found = self.connection.query_all(&look).await?.into_iter();
        // Within a transaction XADD would fail on another type, and XACK succeed.
        let is_safe = found.next().is_some_and(|kind| match kind {
            Ok(kind) => is_stream_or_none(&kind),
            Err(_) => order == WriteOrder::AddFirst,
        });
        if !is_safe {
            self.postpone(&exhausted, &key, "the key holds another type, or is not to be looked at");
            return Ok(());
        }
        let mut deleted = HashSet::new();
        for ((id, waiting), found) in exhausted.into_iter().zip(found) {
            match decode_entries(found?)?.pop() {
                None => drop(deleted.insert(id)),
                Some((_, fields)) => self.bury_one(id, waiting, fields, &key, order).await?,
            }
        }
        self.give_up(deleted).await?;
        Ok(())
    }

    async fn bury_one(
        &mut self,
        id: StreamId,
        waiting: RetryEntry,
        fields: Fields,
        key: &[u8],
        order: WriteOrder,
    ) -> RedisResult<()> {
        let letter = letter(&self.member, key, id, &waiting, &fields);
        let mut ack = self.command("XACK");
        ack.arg(IdArg(id));
        let refused = match order {
            WriteOrder::Together => {
                let mut transaction = Pipeline::new();
                transaction.cmd("MULTI");
                transaction.add_command(letter).add_command(ack).cmd("EXEC");
                let replies = self.connection.query_all(&transaction).await?;
                match replies.into_iter().collect::<RedisResult<Vec<_>>>() {
                    // Its type changed since it was looked at, say.
                    Ok(replies) => match replies.into_iter().last() {
                        Some(Value::Array(parts)) => {
                            parts.into_iter().find_map(|part| part.extract_error().err())
                        }
                        _ => None,
                    },
                    Err(error) => Some(error),
                }
            }
            WriteOrder::AddFirst => match self.connection.query(&letter, Duration::ZERO).await {
                Err(error) if error.is_io_error() => return Err(error),
                Err(error) => Some(error),
                Ok(_) => {
                    self.connection.query(&ack, Duration::ZERO).await?;
                    None
                }
            },
        };
        if let Some(refused) = refused {
            self.postpone(&[(id, waiting)], key, &refused.to_string());
            return Ok(());
        }
        warn!(
            entry = %id,
            deliveries = waiting.deliveries,
            dead_letter = %escape(key),
            error = reason(&waiting),
            "entry was delivered too often, it went to the dead-letter stream"
        );
        self.hand.forget(id);
        self.consumed.dead_lettered += 1;
        self.metrics.dead_lettered.inc();
        Ok(())
    }

    /// Nothing is given up because it cannot be buried.
    fn postpone(&mut self, entries: &[(StreamId, RetryEntry)], key: &[u8], why: &str) {
        if let Some((id, _)) = entries.first() {
            error!(entry = %id, dead_letter = %escape(key), error = why, "cannot write to the dead-letter stream, trying again");
        }
        let due = now() + self.backoff(u64::MAX);
        entries.iter().for_each(|(id, _)| self.hand.postpone(*id, due));
    }
}

fn letter(member: &GroupMember, key: &[u8], id: StreamId, waiting: &RetryEntry, fields: &Fields) -> Cmd {
    let mut letter = cmd("XADD");
    letter.arg(key).arg("*");
    letter.arg("streamgauge-stream").arg(&member.stream);
    letter.arg("streamgauge-group").arg(&member.group);
    letter.arg("streamgauge-consumer").arg(&member.consumer);
    letter.arg("streamgauge-id").arg(IdArg(id));
    letter.arg("streamgauge-deliveries").arg(waiting.deliveries);
    letter.arg("streamgauge-error").arg(reason(waiting));
    for (name, value) in fields {
        letter.arg(name).arg(value);
    }
    letter
}

fn reason(waiting: &RetryEntry) -> String {
    match &waiting.error {
        Some(error) => error.chars().take(ERROR_CHARS).collect(),
        None => format!("not finished in {} deliveries", waiting.deliveries),
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
