//! Names of series in `/metrics`, for a target named `t`.

pub const TARGET_UP: &str = r#"streamgauge_target_up{target="t"}"#;
pub const LAST_SUCCESS: &str = r#"streamgauge_last_successful_poll_timestamp_seconds{target="t"}"#;

pub const OLDEST_READING: &str = r#"streamgauge_oldest_reading_timestamp_seconds{target="t"}"#;

/// Returns a series of a stream in db 0: `stream("redis_stream_up", "orders")`.
pub fn stream(metric: &str, key: &str) -> String {
    format!(r#"{metric}{{target="t",db="db0",stream="{key}"}}"#)
}

/// Returns a series of a group: `group("redis_stream_group_lag", "orders", "billing")`.
pub fn group(metric: &str, key: &str, group: &str) -> String {
    format!(r#"{metric}{{target="t",db="db0",stream="{key}",group="{group}"}}"#)
}

pub fn status(key: &str, group: &str, status: &str) -> String {
    let metric = "redis_stream_group_status";
    format!(r#"{metric}{{target="t",db="db0",stream="{key}",group="{group}",status="{status}"}}"#)
}

pub fn consumer(metric: &str, key: &str, group: &str, consumer: &str) -> String {
    format!(r#"{metric}{{target="t",db="db0",stream="{key}",group="{group}",consumer="{consumer}"}}"#)
}

pub fn up(key: &str) -> String {
    stream("redis_stream_up", key)
}

pub fn errors(reason: &str) -> String {
    format!(r#"streamgauge_poll_errors_total{{reason="{reason}",target="t"}}"#)
}

/// Returns the series that counts polls with this result: `ok`, `partial`, `failed`.
pub fn polls(result: &str) -> String {
    format!(r#"streamgauge_polls_total{{result="{result}",target="t"}}"#)
}

/// Returns the series for what a limit leaves out: `streams`, `groups`, `consumers`.
pub fn limited(what: &str) -> String {
    format!(r#"streamgauge_limited{{target="t",what="{what}"}}"#)
}
