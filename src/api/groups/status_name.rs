//! A status as JSON has it: by its name.

use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

use redis_stream_lag::report::Status;

#[expect(clippy::ref_option, reason = "this is how serde calls it")]
pub(super) fn serialize<S: Serializer>(status: &Option<Status>, serializer: S) -> Result<S::Ok, S::Error> {
    status.map(Status::as_str).serialize(serializer)
}

/// A name that is not known is of a newer streamgauge, and as good as none.
pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Status>, D::Error> {
    let name = Option::<String>::deserialize(deserializer)?;
    Ok(name.and_then(|name| Status::from_name(&name)))
}
