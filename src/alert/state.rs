//! The state machine of one alert, like that of Prometheus' `rules/alerting.go`: pending until the condition has held
//! for long enough, firing, then resolved and still sent for a while. Time is a parameter, since the Unix epoch.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::alert::notification::SendReason;
use redis_stream_core::wall_clock::ClockShift;

/// Time for which a resolved alert is still sent, in case Alertmanager was down.
pub const RESOLVED_RETENTION: Duration = Duration::from_secs(15 * 60);
/// Minimum time after which an unchanged alert is sent again.
pub const RESEND_DELAY: Duration = Duration::from_secs(60);

/// The phase of an alert.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// The condition holds, but not for long enough.
    #[default]
    Pending,
    Firing,
    Resolved,
}

/// The state of one alert. Times are since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertState {
    pub phase: Phase,
    /// The value of the fact when the condition was last known to hold.
    pub value: f64,
    /// Time since which the condition holds.
    pub active_at: Duration,
    /// Time at which it began to fire; `None` while it is pending.
    pub fired_at: Option<Duration>,
    /// Time at which it resolved; `None` before.
    pub resolved_at: Option<Duration>,
    /// Time since which it fires only because of `keep_firing_for`.
    pub kept_since: Option<Duration>,
    /// Time since which it is not known if the condition holds.
    pub unknown_since: Option<Duration>,
    /// Time at which this phase was last sent; `None` if it was not.
    pub last_sent_at: Option<Duration>,
}

/// A change of whether another alert inhibits this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InhibitionChange {
    Unchanged,
    Changed,
}

/// The result of evaluating a condition.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Evaluation {
    /// The condition holds for this value.
    Holds(f64),
    /// The condition does not hold, or its subject does not exist.
    Clear,
    /// The value is not known.
    Unknown,
}

/// The times of a rule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// Time for which the condition must hold before the alert fires.
    pub pending_for: Duration,
    /// Time for which the alert keeps firing after the condition has ceased to hold.
    pub keep_firing_for: Duration,
    /// Time for which an alert keeps its state while the condition is unknown.
    pub hold: Duration,
}

/// Returns the state of an alert after an evaluation; `None` if there is no alert.
pub fn step(
    before: Option<AlertState>,
    evaluation: Evaluation,
    times: &Times,
    now: Duration,
) -> Option<AlertState> {
    let before = before.map(|state| state.as_of(now));
    match evaluation {
        Evaluation::Holds(value) => Some(on_holds(before, value, times, now)),
        Evaluation::Clear => on_clear(before?, times, now),
        Evaluation::Unknown => on_unknown(before?, times, now),
    }
}

fn on_holds(before: Option<AlertState>, value: f64, times: &Times, now: Duration) -> AlertState {
    let known = before.filter(|state| state.phase != Phase::Resolved);
    let mut state = known.unwrap_or_else(|| AlertState::pending(value, now));
    (state.value, state.kept_since, state.unknown_since) = (value, None, None);
    if state.phase == Phase::Pending && now.saturating_sub(state.active_at) >= times.pending_for {
        (state.phase, state.fired_at, state.last_sent_at) = (Phase::Firing, Some(now), None);
    }
    state
}

fn on_clear(mut state: AlertState, times: &Times, now: Duration) -> Option<AlertState> {
    state.unknown_since = None;
    match state.phase {
        Phase::Pending => None,
        Phase::Resolved => Some(state).filter(|state| !state.is_long_over(now)),
        Phase::Firing => {
            if times.keep_firing_for > Duration::ZERO {
                let since = *state.kept_since.get_or_insert(now);
                if now.saturating_sub(since) < times.keep_firing_for {
                    return Some(state);
                }
            }
            Some(state.resolved(now))
        }
    }
}

fn on_unknown(mut state: AlertState, times: &Times, now: Duration) -> Option<AlertState> {
    let since = *state.unknown_since.get_or_insert(now);
    let is_too_long = now.saturating_sub(since) >= times.hold;
    match state.phase {
        Phase::Resolved => Some(state).filter(|state| !state.is_long_over(now)),
        Phase::Pending => Some(state).filter(|_| !is_too_long),
        Phase::Firing if is_too_long => Some(state.resolved(now)),
        Phase::Firing => Some(state),
    }
}

impl AlertState {
    /// Returns the time since which it fires, or for one that does not yet, since which the condition holds.
    pub fn since(&self) -> Duration {
        self.fired_at.unwrap_or(self.active_at)
    }

    fn pending(value: f64, now: Duration) -> Self {
        Self {
            phase: Phase::Pending,
            value,
            active_at: now,
            fired_at: None,
            resolved_at: None,
            kept_since: None,
            unknown_since: None,
            last_sent_at: None,
        }
    }

    fn resolved(self, now: Duration) -> Self {
        Self { phase: Phase::Resolved, resolved_at: Some(now), last_sent_at: None, ..self }
    }

    /// Limits all times to `now`, in case the clock was set back. An alert with a time in the future would not end, and
    /// a receiver would ignore it until then. `last_sent_at` is left to [`needs_sending`](Self::needs_sending).
    pub(crate) fn as_of(self, now: Duration) -> Self {
        let no_later = |time: Option<Duration>| time.map(|time| time.min(now));
        Self {
            active_at: self.active_at.min(now),
            fired_at: no_later(self.fired_at),
            resolved_at: no_later(self.resolved_at),
            kept_since: no_later(self.kept_since),
            unknown_since: no_later(self.unknown_since),
            ..self
        }
    }

    /// Adapts the times from which durations are counted to a wall clock that was set, so that nothing lasts longer or
    /// shorter by that. A firing alert keeps the times that receivers know, and is sent again at once if the clock was
    /// set ahead, as they may take it for over.
    pub(crate) fn shift_times(&mut self, shift: ClockShift) {
        let pending_since = Some(&mut self.active_at).filter(|_| self.phase == Phase::Pending);
        let counted = [&mut self.resolved_at, &mut self.kept_since, &mut self.unknown_since];
        counted.into_iter().flatten().chain(pending_since).for_each(|time| *time = shift.apply(*time));
    }

    fn is_long_over(&self, now: Duration) -> bool {
        self.resolved_at.is_some_and(|at| now.saturating_sub(at) > RESOLVED_RETENTION)
    }

    /// Returns the reason to send the alert now, if there is one, and records that it is sent.
    pub fn needs_sending(&mut self, now: Duration, inhibition: InhibitionChange) -> Option<SendReason> {
        if self.phase == Phase::Pending {
            return None;
        }
        let reason = match self.last_sent_at {
            None => SendReason::Changed,
            // The second case: the clock was set back since.
            Some(last_sent_at) if last_sent_at + RESEND_DELAY < now || now < last_sent_at => {
                SendReason::Repeated
            }
            Some(_) if inhibition == InhibitionChange::Changed => SendReason::Repeated,
            Some(_) => return None,
        };
        self.last_sent_at = Some(now);
        Some(reason)
    }

    /// Returns the end time to send: the time at which the alert resolved, or while it fires, four intervals ahead, so
    /// that a few failed notifications do not resolve it. `interval` is the time between evaluations.
    pub fn ends_at(&self, now: Duration, interval: Duration) -> Duration {
        self.resolved_at.unwrap_or_else(|| now + 4 * interval.max(RESEND_DELAY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs one evaluation every 10 seconds: `x` holds, `.` is clear, `?` is unknown. Returns one character for each:
    /// `p`, `f`, `r`, or `-` for no alert; in upper case if a change is sent, and followed by `'` if the alert is sent
    /// again.
    fn run(evaluations: &str, times: Times) -> String {
        let (mut state, mut states) = (None, String::new());
        for (at, evaluation) in evaluations.chars().enumerate() {
            let evaluation = match evaluation {
                'x' => Evaluation::Holds(1.0),
                '.' => Evaluation::Clear,
                _ => Evaluation::Unknown,
            };
            let now = Duration::from_secs(1_000_000 + 10 * at as u64);
            state = step(state, evaluation, &times, now);
            let letter = match state.map(|state: AlertState| state.phase) {
                None => '-',
                Some(Phase::Pending) => 'p',
                Some(Phase::Firing) => 'f',
                Some(Phase::Resolved) => 'r',
            };
            match state.as_mut().and_then(|state| state.needs_sending(now, InhibitionChange::Unchanged)) {
                None => states.push(letter),
                Some(SendReason::Changed) => states.push(letter.to_ascii_uppercase()),
                Some(SendReason::Repeated) => states.extend([letter, '\'']),
            }
        }
        states
    }

    fn times(pending_for: u64, keep_firing_for: u64, hold: u64) -> Times {
        Times {
            pending_for: Duration::from_secs(pending_for),
            keep_firing_for: Duration::from_secs(keep_firing_for),
            hold: Duration::from_secs(hold),
        }
    }

    #[test]
    fn an_alert_is_pending_until_it_has_held_for_long_enough() {
        for (pending_for, evaluations, states) in [
            (0, ".xx..", "-FfRr"),
            (10, "xx.x", "pFRp"),
            (20, "xxx.", "ppFR"),
            (25, "xxxx.", "pppFR"),
            (20, "xx.xx.", "pp-pp-"),
            (20, "xx.xxx", "pp-ppF"),
        ] {
            assert_eq!(run(evaluations, times(pending_for, 0, 3600)), states, "{pending_for} {evaluations}");
        }
    }

    #[test]
    fn an_alert_that_resolved_starts_over() {
        assert_eq!(run("x.x.", times(0, 0, 3600)), "FRFR");
        assert_eq!(run("xx.xx.", times(10, 0, 3600)), "pFRpFR");
    }

    #[test]
    fn keep_firing_for_delays_resolving() {
        for (keep, evaluations, states) in
            [(10, "x..", "FfR"), (15, "x...", "FffR"), (20, "x...", "FffR"), (20, "x..x...", "FfffffR")]
        {
            assert_eq!(run(evaluations, times(0, keep, 3600)), states, "{keep} {evaluations}");
        }
    }

    #[test]
    fn an_unknown_condition_keeps_the_state_for_a_limited_time() {
        for (hold, evaluations, states) in [
            // Pending, firing, resolved, and no alert.
            (3600, "x?x", "ppF"),
            (3600, "x?.", "pp-"),
            (3600, "xxx??x.", "ppFfffR"),
            (3600, "xxx.??", "ppFRrr"),
            (3600, "??", "--"),
            // For the hold time, counted from the first unknown evaluation.
            (20, "xxx???", "ppFffR"),
            (20, "xxx??x??", "ppFfffff"),
            (20, "x???x", "ppp-p"),
            (0, "xxx?", "ppFR"),
        ] {
            assert_eq!(run(evaluations, times(20, 0, hold)), states, "{hold} {evaluations}");
        }
    }

    #[test]
    fn a_firing_alert_is_sent_again_after_more_than_a_minute() {
        assert_eq!(run(&"x".repeat(16), times(0, 0, 3600)), "Ffffffff'fffffff'f");
    }

    #[test]
    fn a_resolved_alert_is_sent_for_a_quarter_of_an_hour() {
        for unknown in [".", "?"] {
            let states = run(&format!("x.{}", unknown.repeat(95)), times(0, 0, 3600));
            assert_eq!(states.matches("r'").count(), 12, "{states}");
            // 90 evaluations in 15 minutes, and the one in which it resolved.
            assert_eq!(states.matches(['r', 'R']).count(), 91, "{states}");
            assert!(states.ends_with('-'));
        }
    }

    #[test]
    fn a_clock_that_is_set_back_does_not_suppress_an_alert_forever() {
        let times = times(20, 0, 3600);
        let (before, back) = (Duration::from_secs(1_000_000), Duration::from_secs(900_000));
        let pending = step(None, Evaluation::Holds(1.0), &times, before);
        let pending = step(pending, Evaluation::Holds(1.0), &times, back);
        let firing = step(pending, Evaluation::Holds(1.0), &times, back + times.pending_for);
        let mut firing = firing.filter(|state| state.phase == Phase::Firing).expect("it fires");
        firing.last_sent_at = Some(before);
        assert_eq!(
            firing.needs_sending(back + times.pending_for, InhibitionChange::Unchanged),
            Some(SendReason::Repeated)
        );
    }

    #[test]
    fn no_time_is_in_the_future_after_a_clock_is_set_back() {
        let times = times(0, 0, 3600);
        let (before, back) = (Duration::from_secs(1_000_000), Duration::from_secs(900_000));
        let mut firing = step(None, Evaluation::Holds(1.0), &times, before).expect("it fires");
        assert_eq!(firing.needs_sending(before, InhibitionChange::Unchanged), Some(SendReason::Changed));
        // An alert that resolves in the same evaluation that finds the clock set back is sent.
        let mut resolved = step(Some(firing), Evaluation::Clear, &times, back).expect("it resolves");
        assert_eq!((resolved.fired_at, resolved.ends_at(back, RESEND_DELAY)), (Some(back), back));
        assert_eq!(resolved.needs_sending(back, InhibitionChange::Unchanged), Some(SendReason::Changed));
        // A resolved alert stays resolved, and is dropped a quarter of an hour later by the new time.
        let resolved = step(Some(firing), Evaluation::Clear, &times, before);
        for evaluation in [Evaluation::Clear, Evaluation::Unknown] {
            let later = step(resolved, evaluation, &times, back).expect("it has just resolved");
            assert_eq!(later.ends_at(back, RESEND_DELAY), back);
            assert_eq!(step(Some(later), evaluation, &times, back + RESOLVED_RETENTION + RESEND_DELAY), None);
        }
        // The hold time counts by the new time.
        let unknown = step(Some(firing), Evaluation::Unknown, &times, before);
        let unknown = step(unknown, Evaluation::Unknown, &times, back);
        let unknown = step(unknown, Evaluation::Unknown, &times, back + times.hold).expect("it was held");
        assert_eq!(unknown.phase, Phase::Resolved);
    }

    /// Returns after how many seconds of evaluations that give this result the alert is in the phase, if the wall
    /// clock is set after the first.
    fn seconds_until(
        phase: Option<Phase>,
        mut state: AlertState,
        evaluation: Evaluation,
        shift: Option<ClockShift>,
    ) -> u64 {
        let mut now = state.resolved_at.or(state.fired_at).unwrap_or(state.active_at);
        for second in 0..10_000 {
            let Some(after) = step(Some(state), evaluation, &times(600, 900, 1_200), now) else {
                return if phase.is_none() { second } else { panic!("it is gone after {second} s") };
            };
            if phase == Some(after.phase) {
                return second;
            }
            state = after;
            if let Some(shift) = shift.filter(|_| second == 5) {
                state.shift_times(shift);
                now = shift.apply(now);
            }
            now += Duration::from_secs(1);
        }
        panic!("it is not {phase:?}")
    }

    #[test]
    fn a_wall_clock_that_is_set_makes_nothing_last_longer_or_shorter() {
        let start = Duration::from_secs(1_700_000_000);
        let pending = AlertState::pending(1.0, start);
        let firing = AlertState { phase: Phase::Firing, fired_at: Some(start), ..pending };
        let resolved = firing.resolved(start);
        let s = Duration::from_secs;
        for by in [s(2), s(3_600), s(86_400 * 365)] {
            for shift in [None, Some(ClockShift::Forward(by)), Some(ClockShift::Backward(by))] {
                for (before, evaluation, phase, seconds) in [
                    (pending, Evaluation::Holds(1.0), Some(Phase::Firing), 600),
                    (pending, Evaluation::Unknown, None, 1_200),
                    (firing, Evaluation::Clear, Some(Phase::Resolved), 900),
                    (firing, Evaluation::Unknown, Some(Phase::Resolved), 1_200),
                    (resolved, Evaluation::Clear, None, RESOLVED_RETENTION.as_secs() + 1),
                    (resolved, Evaluation::Unknown, None, RESOLVED_RETENTION.as_secs() + 1),
                ] {
                    let found = seconds_until(phase, before, evaluation, shift);
                    assert_eq!(found, seconds, "{:?}, {evaluation:?}, {shift:?}", before.phase);
                }
            }
        }
    }

    #[test]
    fn a_firing_alert_is_sent_again_at_once_when_the_clock_is_set_and_keeps_its_start() {
        let (start, s) = (Duration::from_secs(1_700_000_000), Duration::from_secs);
        for (shift, starts_at) in [
            (ClockShift::Forward(s(3_600)), start),
            (ClockShift::Backward(s(5)), start),
            (ClockShift::Backward(s(3_600)), start + s(20) - s(3_600)),
        ] {
            let mut firing = step(None, Evaluation::Holds(1.0), &times(0, 0, 0), start).unwrap();
            firing.needs_sending(start + s(10), InhibitionChange::Unchanged);
            firing.shift_times(shift);
            let now = shift.apply(start + s(20));
            let mut after = step(Some(firing), Evaluation::Holds(1.0), &times(0, 0, 0), now).unwrap();
            assert_eq!(after.fired_at, Some(starts_at), "{shift:?}");
            let is_sent = after.needs_sending(now, InhibitionChange::Unchanged).is_some();
            assert_eq!(is_sent, shift != ClockShift::Backward(s(5)), "{shift:?}");
        }
    }

    #[test]
    fn a_firing_alert_ends_four_resend_intervals_ahead() {
        let now = Duration::from_secs(1_000_000);
        let firing = step(None, Evaluation::Holds(1.0), &times(0, 0, 0), now).unwrap();
        for (interval, lasting) in [(10, 240), (60, 240), (300, 1200)] {
            let ends_at = firing.ends_at(now, Duration::from_secs(interval));
            assert_eq!(ends_at, now + Duration::from_secs(lasting));
        }
        let resolved = step(Some(firing), Evaluation::Clear, &times(0, 0, 0), now).unwrap();
        assert_eq!(resolved.ends_at(now + RESEND_DELAY, RESEND_DELAY), now);
    }
}
