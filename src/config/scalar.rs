//! Reads single values: durations, sizes, numbers, globs. Each reader returns `None` if the key is absent, and if it is
//! invalid, which it records as a fault.

use std::collections::BTreeMap;
use std::net::{Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;

use crate::alert::template::is_label_name;
use crate::config::cursor::{Cursor, listing};
use redis_stream_core::escape::unescape;
use redis_stream_core::glob::Glob;
use redis_stream_core::secret::redact;

/// A year: longer than any sensible duration, and too short to overflow when added to the time.
const LONGEST: Duration = Duration::from_secs(31_557_600);

impl Cursor<'_> {
    pub(super) fn boolean(&self) -> Option<bool> {
        self.parsed("true or false", |text| text.parse().ok())
    }

    pub(super) fn number(&self, range: RangeInclusive<u32>) -> Option<u32> {
        let expected = match *range.end() {
            u32::MAX => format!("a whole number from {} up", range.start()),
            end => format!("a whole number from {} to {end}", range.start()),
        };
        self.parsed(&expected, |text| text.parse().ok().filter(|number| range.contains(number)))
    }

    /// Reads a duration with a unit.
    pub(super) fn duration(&self, shortest: Duration) -> Option<Duration> {
        let duration = self.parsed("a duration such as 10s or 1m 30s", parse_duration)?;
        if duration < shortest {
            self.fault(format_args!("too short; expected at least {}", show(shortest)));
            return None;
        }
        if duration > LONGEST {
            self.fault(format_args!("too long; expected at most {}", show(LONGEST)));
            return None;
        }
        Some(duration)
    }

    /// Reads a size of at least one byte.
    pub(super) fn size_bytes(&self) -> Option<u64> {
        let parse = |text: &str| text.parse::<ByteSize>().ok().filter(|size| size.as_u64() > 0);
        Some(self.parsed("a size such as 16MiB", parse)?.as_u64())
    }

    /// Reads an address and port. A port alone, also after a colon, is on all addresses.
    pub(super) fn socket_address(&self) -> Option<SocketAddr> {
        self.parsed("an address and port such as 0.0.0.0:10121 or [::]:10121", |text| {
            let port = text.strip_prefix(':').unwrap_or(text);
            let port = port.bytes().all(|byte| byte.is_ascii_digit()).then(|| port.parse().ok()).flatten();
            port.map(|port| (Ipv6Addr::UNSPECIFIED, port).into()).or_else(|| text.parse().ok())
        })
    }

    /// Reads one of several words.
    pub(super) fn choice<T: Copy>(&self, choices: &[(&str, T)]) -> Option<T> {
        let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
        let text = self.scalar(&listing(&words))?;
        let chosen = choices.iter().find(|(word, _)| *word == text.value);
        if chosen.is_none() {
            let (found, expected) = (redact(&text.written), listing(&words));
            self.fault(format_args!("unknown value {found:?}; expected {expected}"));
        }
        chosen.map(|(_, choice)| *choice)
    }

    /// Reads a glob, in which `\xHH` is a byte.
    pub(super) fn glob(&self) -> Option<Glob> {
        Some(Glob::new(unescape(&self.text()?.value)))
    }

    /// Reads a list of globs, without invalid ones.
    pub(super) fn globs(&self) -> Option<Vec<Glob>> {
        Some(self.items()?.iter().filter_map(Self::glob).collect())
    }

    /// Reads a map of labels, none of them with a reserved name.
    pub(super) fn labels(&self, reserved: &[&str]) -> BTreeMap<String, String> {
        let label = |(name, key): (String, Self)| {
            key.check_label_name(&name, reserved);
            Some((name, key.text()?.value))
        };
        self.entries().into_iter().filter_map(label).collect()
    }

    pub(super) fn check_label_name(&self, name: &str, reserved: &[&str]) {
        label_name_fault(name, reserved).into_iter().for_each(|fault| self.fault(fault));
    }

    fn parsed<T>(&self, expected: &str, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let text = self.scalar(expected)?;
        let parsed = parse(&text.value);
        if parsed.is_none() {
            self.fault(format_args!("found {:?}; expected {expected}", redact(&text.written)));
        }
        parsed
    }
}

/// Returns what makes a text no name of a label, if anything does.
fn label_name_fault(name: &str, reserved: &[&str]) -> Option<&'static str> {
    if !is_label_name(name) {
        return Some("not a label name; expected letters, digits and _, and no digit first");
    }
    if name.starts_with("__") {
        return Some("a reserved label name; expected one that does not start with __");
    }
    reserved.contains(&name).then_some("a reserved label name; expected another")
}

/// Formats a duration for messages.
pub(super) fn show(duration: Duration) -> String {
    humantime::format_duration(duration).to_string()
}

/// Parses a duration like `humantime`, except that `0` needs a unit.
fn parse_duration(text: &str) -> Option<Duration> {
    if text.trim() == "0" { None } else { humantime::parse_duration(text).ok() }
}
