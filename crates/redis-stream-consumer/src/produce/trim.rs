//! What an XADD trims, and the server's clock that an age is told by. Pure: the time is a parameter.

use std::time::Duration;

use redis::{Cmd, RedisResult, Value, cmd, from_redis_value};
use tokio::time::Instant;

/// What each XADD takes away from the other end of its stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trim {
    /// Nothing.
    #[default]
    Never,
    /// All beyond so many entries (`MAXLEN`).
    Length {
        /// Entries that stay.
        entries: u64,
        /// How closely.
        precision: Precision,
    },
    /// All that is older (`MINID`), by the server's clock.
    Age {
        /// Age up to which entries stay.
        age: Duration,
        /// How closely.
        precision: Precision,
    },
}

/// How closely a stream is trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Whole nodes of entries at a time (`~`): cheap; some more entries stay.
    About,
    /// To the entry (`=`).
    Exact,
}

impl Trim {
    /// Adds what it asks for to an XADD, behind the key. `time` is the server's; without it no age is told, and
    /// nothing trimmed.
    pub(super) fn write(self, time: Option<Duration>, xadd: &mut Cmd) {
        match (self, time) {
            (Self::Length { entries, precision }, _) => {
                xadd.arg("MAXLEN").arg(precision.sign()).arg(entries);
            }
            (Self::Age { age, precision }, Some(time)) => {
                let oldest = time.saturating_sub(age).as_millis();
                xadd.arg("MINID").arg(precision.sign()).arg(oldest.to_string());
            }
            (Self::Never | Self::Age { .. }, _) => {}
        }
    }

    /// Whether the server's clock is needed.
    pub(super) fn needs_time(self) -> bool {
        matches!(self, Self::Age { .. })
    }
}

impl Precision {
    fn sign(self) -> &'static str {
        match self {
            Self::About => "~",
            Self::Exact => "=",
        }
    }
}

/// The server's clock as it was told, and when.
#[derive(Clone, Copy, Debug)]
pub(super) struct ServerClock {
    /// Since 1970.
    told: Duration,
    at: Instant,
}

impl ServerClock {
    /// What asks for it.
    pub(super) fn question() -> Cmd {
        cmd("TIME")
    }

    /// From the reply to TIME, which arrived at `at`.
    pub(super) fn decode(reply: Value, at: Instant) -> RedisResult<Self> {
        let (seconds, micros): (u64, u64) = from_redis_value(reply)?;
        Ok(Self { told: Duration::from_secs(seconds) + Duration::from_micros(micros), at })
    }

    /// What it shows at `now`.
    pub(super) fn time(&self, now: Instant) -> Duration {
        self.told + now.saturating_duration_since(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arguments(trim: Trim, time: Option<Duration>) -> String {
        let mut xadd = cmd("XADD");
        trim.write(time, &mut xadd);
        let packed = String::from_utf8(xadd.get_packed_command()).unwrap();
        let words: Vec<_> = packed.lines().filter(|line| !line.starts_with(['*', '$'])).skip(1).collect();
        words.join(" ")
    }

    #[test]
    fn trims_as_redis_spells_them() {
        let time = Some(Duration::from_millis(1_700_000_000_999));
        let length = |precision| Trim::Length { entries: 1_000, precision };
        let age = |seconds, precision| Trim::Age { age: Duration::from_secs(seconds), precision };
        for (trim, words) in [
            (Trim::Never, ""),
            (length(Precision::About), "MAXLEN ~ 1000"),
            (length(Precision::Exact), "MAXLEN = 1000"),
            (age(60, Precision::About), "MINID ~ 1699999940999"),
            (age(60, Precision::Exact), "MINID = 1699999940999"),
            (age(u64::MAX, Precision::Exact), "MINID = 0"),
        ] {
            assert_eq!(arguments(trim, time), words, "{trim:?}");
        }
        assert_eq!(arguments(age(60, Precision::About), None), "");
    }

    #[test]
    fn a_clock_goes_on_from_what_it_was_told() {
        let bulk = |text: &str| Value::BulkString(text.into());
        let at = crate::produce::now();
        let reply = Value::Array(vec![bulk("1700000000"), bulk("250000")]);
        let clock = ServerClock::decode(reply, at).unwrap();
        assert_eq!(clock.time(at + Duration::from_millis(750)), Duration::from_secs(1_700_000_001));
        assert!(ServerClock::decode(Value::Nil, at).is_err());
    }
}
