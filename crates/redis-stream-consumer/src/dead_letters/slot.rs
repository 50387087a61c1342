//! Keys in a cluster: two keys can be written to in one step only if they are in one slot.

use std::time::Duration;

use redis::{RedisResult, Value, cmd};

use crate::connection::Connection;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ServerMode {
    Cluster,
    Other,
}

/// Returns the server's mode by HELLO, which needs no permission without arguments. CLUSTER KEYSLOT is no sign of a
/// cluster, since Valkey 9 answers it in any mode.
pub(crate) async fn mode(connection: &mut Connection) -> RedisResult<ServerMode> {
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

pub(crate) async fn slot(connection: &mut Connection, key: &[u8]) -> RedisResult<Value> {
    let mut slot = cmd("CLUSTER");
    slot.arg("KEYSLOT").arg(key);
    connection.query(&slot, Duration::ZERO).await
}

/// Returns the default key of the dead-letter stream. In a cluster it is in the stream's slot.
pub(crate) fn default_key(stream: &[u8], mode: ServerMode) -> Vec<u8> {
    match mode {
        ServerMode::Cluster if !has_tag(stream) => [b"{", stream, b"}:dead"].concat(),
        ServerMode::Cluster | ServerMode::Other => [stream, b":dead"].concat(),
    }
}

fn has_tag(key: &[u8]) -> bool {
    let tag = || {
        let open = key.iter().position(|byte| *byte == b'{')?;
        key[open + 1..].iter().position(|byte| *byte == b'}')
    };
    tag().is_some_and(|length| length > 0)
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
            assert_eq!(default_key(stream.as_bytes(), ServerMode::Cluster), key.as_bytes(), "{stream}");
        }
        assert_eq!(default_key(b"orders", ServerMode::Other), b"orders:dead");
    }
}
