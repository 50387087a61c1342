//! The trimming options of XADD. Pure: the time is a parameter.

use std::time::Duration;

use redis::Cmd;

/// Trimming of a stream by each XADD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Trim {
    /// No trimming.
    #[default]
    Never,
    /// By length (`MAXLEN`).
    Length {
        /// Number of entries that are kept.
        entries: u64,
        /// Precision of the limit.
        precision: Precision,
    },
    /// By age (`MINID`), according to the server's clock.
    Age {
        /// Age up to which entries are kept.
        age: Duration,
        /// Precision of the limit.
        precision: Precision,
    },
}

/// Precision of trimming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// Removes only whole nodes of entries (`~`): cheap, and keeps some entries beyond the limit.
    About,
    /// Removes every entry beyond the limit (`=`).
    Exact,
}

impl Trim {
    /// Appends the options to an XADD, after the key. `time` is the server's time since the Unix epoch; without it, an age
    /// trims nothing.
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
