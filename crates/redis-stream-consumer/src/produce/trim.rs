//! Trimming by XADD. Pure: the time is a parameter.

use std::time::Duration;

use redis::Cmd;

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

#[cfg(test)]
mod tests {
    use redis::cmd;

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
}
