//! Keeps passwords out of logs and messages: a type for known secrets, and a filter for quoted user input that may
//! contain one.

use std::borrow::Cow;
use std::fmt;

/// Replaces a possible secret in messages.
const HIDDEN: &str = "[hidden]";

/// A secret text. `Debug` prints `[redacted]`, and there is no `Display`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps `text`.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Returns the secret, for the code that sends it to the server.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Returns user input in a form that messages may quote.
///
/// A URL is cut off after its `://`, and text that may be the rest of one (`:password@host`, `d@host`) is replaced
/// altogether. A path that contains an `@` is kept.
#[must_use]
pub fn redact(text: &str) -> Cow<'_, str> {
    let scheme = text.split_once("://").map(|(scheme, _)| scheme);
    let before_at_sign = text.split_once('@').map(|(before, _)| before);
    match (scheme, before_at_sign) {
        // With an "@" in it, the part before "://" is not a scheme but may contain a password.
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
    fn text_that_may_contain_a_secret_is_not_quoted() {
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
            assert_eq!(redact(text), shown, "{text}");
        }
    }
}
