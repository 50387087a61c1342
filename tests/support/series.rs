//! Series as `/metrics` writes them, of a target that the tests call `t` unless they say otherwise.

/// Whether the target's last poll was answered.
pub const TARGET_UP: &str = r#"streamgauge_target_up{target="t"}"#;
/// When the target was last polled successfully.
pub const LAST_SUCCESS: &str = r#"streamgauge_last_successful_poll_timestamp_seconds{target="t"}"#;

/// A series of a stream in db 0: `stream("redis_stream_up", "orders")`.
pub fn stream(metric: &str, key: &str) -> String {
    format!(r#"{metric}{{target="t",db="db0",stream="{key}"}}"#)
}

/// A series of a group: `group("redis_stream_group_lag", "orders", "billing")`.
pub fn group(metric: &str, key: &str, group: &str) -> String {
    format!(r#"{metric}{{target="t",db="db0",stream="{key}",group="{group}"}}"#)
}

/// Whether a group has a status.
pub fn status(key: &str, group: &str, status: &str) -> String {
    let metric = "redis_stream_group_status";
    format!(r#"{metric}{{target="t",db="db0",stream="{key}",group="{group}",status="{status}"}}"#)
}

/// A series of a consumer.
pub fn consumer(metric: &str, key: &str, group: &str, consumer: &str) -> String {
    format!(r#"{metric}{{target="t",db="db0",stream="{key}",group="{group}",consumer="{consumer}"}}"#)
}

/// Whether a stream is read.
pub fn up(key: &str) -> String {
    stream("redis_stream_up", key)
}

/// What could not be read, by its reason.
pub fn errors(reason: &str) -> String {
    format!(r#"streamgauge_poll_errors_total{{reason="{reason}",target="t"}}"#)
}

/// Polls by how they ended: `ok`, `partial`, `failed`.
pub fn polls(result: &str) -> String {
    format!(r#"streamgauge_polls_total{{result="{result}",target="t"}}"#)
}

/// What a limit leaves out: `streams`, `groups`, `consumers`.
pub fn limited(what: &str) -> String {
    format!(r#"streamgauge_limited{{target="t",what="{what}"}}"#)
}
