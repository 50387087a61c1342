//! What is never shown: passwords, and what people typed that may hold one. Nothing here is logged.

use std::borrow::Cow;
use std::fmt;

/// What stands in messages in place of what may be a secret.
const HIDDEN: &str = "[hidden]";

/// Text that `Debug` does not show; there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps `text` from being shown.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for the one place that sends it to the server.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// What somebody typed, as messages may quote it: a URL in a wrong place is cut off after its `://`, and what
/// may be the rest of one (`:password@host`, `d@host`) is not shown at all. A path with an `@` in it is.
#[must_use]
pub fn quotable(text: &str) -> Cow<'_, str> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    let before_at_sign = text.split_once('@').map(|(before, _)| before);
    match (scheme, before_at_sign) {
        // An "@" before it: what looks like a scheme is the end of a password.
        (Some(scheme), _) if !scheme.contains('@') => Cow::Owned(format!("{scheme}://{HIDDEN}")),
        (None, None) => Cow::Borrowed(text),
        (None, Some(before)) if before.contains('/') && !before.contains(':') => Cow::Borrowed(text),
        _ => Cow::Borrowed(HIDDEN),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_holds_no_secret() {
        assert_eq!(format!("{:?}", Some(Secret::new("hunter2"))), "Some([redacted])");
    }

    #[test]
    fn what_may_hold_a_secret_is_not_quoted() {
        for (text, shown) in [
            ("", ""),
            ("10 apples", "10 apples"),
            ("cache:6379", "cache:6379"),
            ("redis://:hunter2@cache", "redis://[hidden]"),
            ("redis://hunter2", "redis://[hidden]"),
            ("--redis-ur=redis://:hunter2@cache", "--redis-ur=redis://[hidden]"),
            ("redis:/:hunter2@cache", HIDDEN),
            (":hunter2@cache", HIDDEN),
            (":hunt/er2@cache", HIDDEN),
            ("hunter2@cache/1", HIDDEN),
            ("hunter2@redis://cache", HIDDEN),
            ("/home/me@work/streamgauge.yaml", "/home/me@work/streamgauge.yaml"),
        ] {
            assert_eq!(quotable(text), shown, "{text}");
        }
    }
}
