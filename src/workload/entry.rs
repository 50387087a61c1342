//! Entries as XREADGROUP gives them, decoded by hand so that a deleted entry is told from an empty one.

use redis::{ErrorKind, RedisError, Value};

/// Fields and their values, in the entry's order; a name may occur twice.
pub type Fields = Vec<(Vec<u8>, Vec<u8>)>;

/// One entry of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// ID as the server writes it: `<ms>-<seq>`.
    pub id: String,
    /// `None`: the entry was deleted from the stream while it was pending, and only its ID is left.
    pub fields: Option<Fields>,
}

/// The entries of the one stream that was asked for. Nil is what a BLOCK that ran out gives: none.
pub(super) fn decode(reply: Value) -> Result<Vec<Entry>, RedisError> {
    match reply {
        Value::Nil => Ok(Vec::new()),
        Value::Array(streams) => match streams.into_iter().next() {
            None => Ok(Vec::new()),
            Some(Value::Array(pair)) => entries(pair),
            Some(_) => Err(unexpected()),
        },
        _ => Err(unexpected()),
    }
}

/// `[key, [entry, ...]]`.
fn entries(pair: Vec<Value>) -> Result<Vec<Entry>, RedisError> {
    match pair.into_iter().nth(1) {
        Some(Value::Array(entries)) => entries.into_iter().map(entry).collect(),
        _ => Err(unexpected()),
    }
}

/// `[id, [field, value, ...]]`, or `[id, nil]` where only the PEL still knows the ID.
fn entry(value: Value) -> Result<Entry, RedisError> {
    let Value::Array(parts) = value else {
        return Err(unexpected());
    };
    let mut parts = parts.into_iter();
    let (Some(Value::BulkString(id)), Some(fields), None) = (parts.next(), parts.next(), parts.next()) else {
        return Err(unexpected());
    };
    let id = String::from_utf8(id).map_err(|_| unexpected())?;
    let fields = match fields {
        Value::Nil => None,
        Value::Array(flat) => Some(pairs(flat)?),
        _ => return Err(unexpected()),
    };
    Ok(Entry { id, fields })
}

fn pairs(flat: Vec<Value>) -> Result<Fields, RedisError> {
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

fn unexpected() -> RedisError {
    (ErrorKind::UnexpectedReturnType, "XREADGROUP gave a reply of another shape").into()
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

    #[test]
    fn a_reply_is_entries_in_their_order_and_a_deleted_one_has_no_fields() {
        let present = Value::Array(vec![bulk("1-0"), Value::Array(vec![bulk("a"), bulk("b")])]);
        let deleted = Value::Array(vec![bulk("2-0"), Value::Nil]);
        assert_eq!(
            decode(reply(vec![present, deleted])),
            Ok(vec![
                Entry { id: "1-0".to_owned(), fields: Some(vec![(b"a".to_vec(), b"b".to_vec())]) },
                Entry { id: "2-0".to_owned(), fields: None },
            ])
        );
    }

    #[test]
    fn no_entries_come_as_nil_or_as_an_empty_list() {
        assert_eq!(decode(Value::Nil), Ok(vec![]));
        assert_eq!(decode(reply(vec![])), Ok(vec![]));
    }

    #[test]
    fn a_reply_of_another_shape_is_an_error() {
        for value in [
            Value::Okay,
            Value::Array(vec![Value::Int(1)]),
            reply(vec![Value::Int(1)]),
            reply(vec![Value::Array(vec![bulk("1-0")])]),
            reply(vec![Value::Array(vec![bulk("1-0"), Value::Array(vec![bulk("odd")])])]),
        ] {
            assert_eq!(decode(value.clone()), Err(unexpected()), "{value:?}");
        }
    }
}
