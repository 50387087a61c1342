//! The trend of a lag: whether it becomes better or worse, and how fast.

use std::fmt;
use std::time::Duration;

use crate::format::units::rate_number;

/// The change of a lag at the rates of the window.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Trend {
    /// It grows by so many entries per second.
    Grows(f64),
    /// It shrinks by so many entries per second, and is gone after this time.
    Shrinks(f64, Option<Duration>),
    /// It stays as it is.
    Steady,
    /// The rates are not known, or entries are lost, which makes the lag smaller too.
    Unknown,
}

impl Trend {
    /// Returns the trend at these rates, in entries per second. `drain` is the time until the lag is gone.
    pub fn at_rates(added: f64, delivered: f64, drain: Option<Duration>) -> Self {
        let change = added - delivered;
        // The rates of a group that keeps up differ by what came in last.
        let noise = (0.02 * added.max(delivered)).max(0.005);
        match drain.filter(|time| !time.is_zero()) {
            _ if change > noise => Self::Grows(change),
            time if change < -noise => Self::Shrinks(-change, time),
            _ => Self::Steady,
        }
    }
}

/// The time until the lag is gone, at the rates of the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Drained {
    In(Duration),
    /// The lag grows or stays.
    Never,
    Unknown,
}

impl Trend {
    /// Returns the time until a lag with this trend is gone; `is_zero` if it is.
    pub fn drained(self, is_zero: bool) -> Drained {
        match self {
            _ if is_zero => Drained::In(Duration::ZERO),
            Self::Shrinks(_, Some(time)) => Drained::In(time),
            Self::Grows(_) | Self::Steady => Drained::Never,
            Self::Shrinks(_, None) | Self::Unknown => Drained::Unknown,
        }
    }
}

impl Drained {
    /// Returns the worst of several: never, or else unknown, or else the longest time.
    pub fn worst(several: impl Iterator<Item = Self>) -> Option<Self> {
        several.max_by_key(|drained| match drained {
            Self::In(time) => (0, *time),
            Self::Unknown => (1, Duration::ZERO),
            Self::Never => (2, Duration::ZERO),
        })
    }
}

impl fmt::Display for Trend {
    /// Formats the direction and the speed: `▲ 20.0/s`; empty if it is not known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Grows(rate) => write!(f, "\u{25b2} {}/s", rate_number(*rate)),
            Self::Shrinks(rate, _) => write!(f, "\u{25bc} {}/s", rate_number(*rate)),
            Self::Steady => f.write_str("steady"),
            Self::Unknown => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_several_is_never_or_not_known_or_the_longest() {
        let of = |seconds| Drained::In(Duration::from_secs(seconds));
        for (several, worst) in [
            (&[of(5), Drained::Never, Drained::Unknown][..], Some(Drained::Never)),
            (&[Drained::Unknown, of(5)], Some(Drained::Unknown)),
            (&[of(0), of(50), of(5)], Some(of(50))),
            (&[], None),
        ] {
            assert_eq!(Drained::worst(several.iter().copied()), worst);
        }
    }

    #[test]
    fn a_trend_has_a_direction_and_a_speed_unless_it_is_noise() {
        let minute = Some(Duration::from_secs(60));
        for (added, delivered, drain, shown) in [
            (20.0, 0.0, None, "\u{25b2} 20.0/s"),
            (20.0, 38.0, minute, "\u{25bc} 18.0/s"),
            (100.0, 101.0, minute, "steady"),
            (100.0, 103.0, minute, "\u{25bc} 3.0/s"),
            (0.0, 0.0, None, "steady"),
            (0.01, 0.0, None, "\u{25b2} 0.01/s"),
        ] {
            assert_eq!(Trend::at_rates(added, delivered, drain).to_string(), shown, "{added} {delivered}");
        }
        assert_eq!(Trend::at_rates(1.0, 3.0, minute), Trend::Shrinks(2.0, minute));
        assert_eq!(Trend::at_rates(1.0, 3.0, Some(Duration::ZERO)), Trend::Shrinks(2.0, None));
        assert_eq!(Trend::Unknown.to_string(), "");
    }

    #[test]
    fn a_lag_that_grows_or_stays_is_never_drained() {
        let minute = Duration::from_secs(60);
        for (trend, expected) in [
            (Trend::Grows(1.0), Drained::Never),
            (Trend::Steady, Drained::Never),
            (Trend::Shrinks(1.0, Some(minute)), Drained::In(minute)),
            (Trend::Shrinks(1.0, None), Drained::Unknown),
            (Trend::Unknown, Drained::Unknown),
        ] {
            assert_eq!((trend.drained(false), trend.drained(true)), (expected, Drained::In(Duration::ZERO)));
        }
    }
}
