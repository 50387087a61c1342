//! Reads `status.window` and `targets[].streams[].window`, the history that the status of a group is derived from.

use std::time::Duration;

use crate::config::cursor::Cursor;
use crate::config::scalar::show;

const DEFAULT: Duration = Duration::from_secs(120);
/// A shorter window does not show whether lag grows.
const LEAST_INTERVALS: u32 = 6;

pub(super) struct Windows {
    /// The window of streams without their own.
    default: Duration,
    interval: Interval,
}

/// `poll.interval`, which windows depend on.
pub(super) struct Interval {
    pub(super) length: Duration,
    /// Its name in messages.
    pub(super) label: String,
    /// False if it is invalid: then windows are not compared with its default.
    pub(super) is_sound: bool,
}

impl Windows {
    /// Reads `status.window`.
    pub(super) fn read(key: &Cursor<'_>, interval: Interval) -> Self {
        let default = DEFAULT.max(interval.least_window());
        let windows = Self { default, interval };
        Self { default: windows.of(key), ..windows }
    }

    /// Reads a window.
    pub(super) fn of(&self, key: &Cursor<'_>) -> Duration {
        let Some(window) = key.duration(Duration::ZERO) else { return self.default };
        let Interval { length, label, is_sound } = &self.interval;
        let least = self.interval.least_window();
        if *is_sound && window < least {
            key.fault(format_args!(
                "{} is below {LEAST_INTERVALS} times {label} ({}); expected at least {}",
                show(window),
                show(*length),
                show(least)
            ));
        }
        window
    }

    pub(super) fn default(&self) -> Duration {
        self.default
    }
}

impl Interval {
    fn least_window(&self) -> Duration {
        self.length * LEAST_INTERVALS
    }
}
