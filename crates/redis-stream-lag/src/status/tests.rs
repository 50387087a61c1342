//! Tables of histories, rule by rule.

use super::*;
use crate::history::{History, NodeClock, Sample};
use crate::pending_cache::PelHead;
use crate::question::PendingEntry;
use crate::report::{ConditionSet, Lag, Status};
use proptest::prelude::Just;
use proptest::prop_oneof;
use redis_stream_core::id::StreamId;

const WINDOW: Duration = Duration::from_secs(120);
const INTERVAL: Duration = Duration::from_secs(10);
/// Number of polls in a window.
const POLLS: usize = 12;

/// A group that is polled every 10 s. Its stream has one entry per millisecond of its IDs, so that positions and lags
/// convert into each other.
struct WatchedGroup {
    history: Option<History>,
    clock: NodeClock,
    sample: Sample,
    window: Duration,
}

impl WatchedGroup {
    /// Returns a group that is caught up, with one active consumer and nothing pending. Not polled yet.
    fn new() -> Self {
        let sample = Sample {
            at: Duration::ZERO,
            node_time: Duration::from_secs(1_700_000_000),
            lag: Lag::Exact(0),
            position: StreamId::new(1_000, 0),
            newest: StreamId::new(1_000, 0),
            added: Some(1_000),
            activity: ConsumerActivity::IdleFor(Duration::from_secs(1)),
            consumers: 1,
            proven_wait: Duration::ZERO,
            pending: 0,
            dropped: None,
            oldest_pending: PelHead::Empty,
            longest_pending_idle: None,
            lost: 0,
            clock_jump: Duration::ZERO,
        };
        Self { history: None, clock: NodeClock::default(), sample, window: WINDOW }
    }

    /// Returns the same group after a window in which it was ok.
    fn ok() -> Self {
        let mut watched = Self::new();
        assert_eq!(watched.polls(POLLS + 1, |_| {}).last(), Some(&Status::Ok));
        watched
    }

    /// Polls after `time` and returns the status.
    fn poll_after(&mut self, time: Duration) -> Status {
        self.evaluated_after(time).status()
    }

    /// Polls after `time`.
    fn evaluated_after(&mut self, time: Duration) -> GroupStatus {
        self.sample.at += time;
        self.sample.node_time += time;
        self.clock.note(self.sample.node_time, self.sample.at, self.window);
        self.sample.clock_jump = self.clock.jump(self.sample.node_time, self.sample.at);
        let (window, sample) = (self.window, &self.sample);
        let history = match self.history.take() {
            None => History::begin(sample, window),
            Some(mut history) => {
                if time > window / 2 {
                    history.interrupt(sample.at);
                }
                history.note(sample, window);
                history
            }
        };
        let history = self.history.insert(history);
        let status = evaluate(&HistoryWindow { history, sample, window });
        history.dated(status, sample.node_time)
    }

    /// Changes the sample and polls, `polls` times, and returns the statuses.
    fn polls(&mut self, polls: usize, mut change: impl FnMut(&mut Sample)) -> Vec<Status> {
        let poll = |_| {
            change(&mut self.sample);
            self.poll_after(INTERVAL)
        };
        (0..polls).map(poll).collect()
    }

    fn view(&self) -> HistoryWindow<'_> {
        HistoryWindow { history: self.history.as_ref().unwrap(), sample: &self.sample, window: self.window }
    }
}

fn add(sample: &mut Sample, entries: u64) {
    sample.newest.ms += entries;
    sample.added = sample.added.map(|added| added + entries);
    sample.lag = match sample.lag {
        Lag::Exact(lag) => Lag::Exact(lag + entries),
        Lag::Between { min, max } => Lag::Between { min: min.max(1.into()), max: max + entries },
    };
}

fn read(sample: &mut Sample, entries: u64) {
    let entries = entries.min(sample.lag.max());
    sample.position.ms += entries;
    sample.lag = Lag::Exact(sample.lag.max() - entries);
    sample.activity = ConsumerActivity::IdleFor(Duration::from_secs(1));
}

fn advance_idle_time(sample: &mut Sample) {
    if let ConsumerActivity::IdleFor(time) = &mut sample.activity {
        *time += INTERVAL;
    }
}

fn pending(id: u64, idle_s: Option<u64>, deliveries: u64) -> PelHead {
    let id = StreamId::new(id, 0);
    PelHead::Entry(PendingEntry { id, idle_ms: idle_s.map(|idle| idle * 1_000), deliveries })
}

/// Changes the sample before the poll with the given number.
type SampleChange = fn(usize, &mut Sample);

/// Applies the change of each case before each poll of a window, after a window in which the group was ok, and checks
/// if the rule holds in the end.
fn check_rule(rule: Rule, cases: &[(&str, SampleChange, bool)]) {
    for (name, change, expected) in cases {
        let mut watched = WatchedGroup::ok();
        for number in 0..=POLLS {
            change(number, &mut watched.sample);
            watched.poll_after(INTERVAL);
        }
        assert_eq!(rule(&watched.view()), *expected, "{name}");
    }
}

#[test]
fn a_group_is_rewound_if_it_moved_backwards_in_the_window() {
    check_rule(
        is_rewound,
        &[
            ("not moved", |_, _| {}, false),
            (
                "moved forwards",
                |_, sample| {
                    add(sample, 5);
                    read(sample, 5);
                },
                false,
            ),
            (
                "set back in the last poll",
                |n, sample| {
                    if n == POLLS {
                        sample.position.ms -= 1;
                    }
                },
                true,
            ),
            (
                "set back, then read on at once",
                |n, sample| match n {
                    3 => sample.position.ms -= 500,
                    _ => sample.position.ms += 100,
                },
                true,
            ),
            (
                "set back a window ago",
                |n, sample| {
                    if n == 0 {
                        sample.position.ms -= 1;
                    }
                },
                false,
            ),
            (
                "set back, and its consumers are gone: another group",
                |n, sample| {
                    if n == 3 {
                        sample.position = StreamId::MIN;
                        sample.activity = ConsumerActivity::NoConsumers;
                    }
                },
                false,
            ),
            (
                "set back, with pending entries as before",
                |n, sample| {
                    if n == 3 {
                        sample.position = StreamId::MIN;
                        (sample.activity, sample.pending) = (ConsumerActivity::NoConsumers, 4);
                    }
                },
                true,
            ),
        ],
    );
}

#[test]
fn a_group_is_losing_if_entries_were_lost_in_the_window() {
    check_rule(
        is_losing,
        &[
            ("none lost", |_, _| {}, false),
            (
                "one lost in the last poll",
                |n, sample| {
                    if n == POLLS {
                        sample.lost += 1;
                    }
                },
                true,
            ),
            (
                "lost early, then caught up",
                |n, sample| {
                    if n == 1 {
                        sample.lost += 7;
                    }
                },
                true,
            ),
            (
                "lost a window ago",
                |n, sample| {
                    if n == 0 {
                        sample.lost += 7;
                    }
                },
                false,
            ),
        ],
    );
}

#[test]
fn a_group_is_abandoned_if_entries_wait_and_no_consumer_is_active() {
    check_rule(
        is_abandoned,
        &[
            (
                "no consumers, and nothing to read",
                |_, sample| sample.activity = ConsumerActivity::NoConsumers,
                false,
            ),
            (
                "no consumers",
                |_, sample| {
                    add(sample, 1);
                    sample.activity = ConsumerActivity::NoConsumers;
                },
                true,
            ),
            (
                "no consumers, one entry",
                |n, sample| {
                    if n == 0 {
                        add(sample, 1);
                    }
                    sample.activity = ConsumerActivity::NoConsumers;
                },
                true,
            ),
            (
                "all idle",
                |_, sample| {
                    add(sample, 1);
                    advance_idle_time(sample);
                },
                true,
            ),
            (
                "one consumer occasionally attempts to read",
                |n, sample| {
                    add(sample, 1);
                    advance_idle_time(sample);
                    if n == 6 {
                        sample.activity = ConsumerActivity::IdleFor(Duration::ZERO);
                    }
                },
                false,
            ),
            (
                "no consumers, and the group is moved by SETID",
                |_, sample| {
                    add(sample, 5);
                    read(sample, 2);
                    sample.activity = ConsumerActivity::NoConsumers;
                },
                false,
            ),
            (
                "the last consumer left in the middle of a backlog",
                |n, sample| {
                    add(sample, 5);
                    read(sample, 2);
                    if n == POLLS {
                        sample.activity = ConsumerActivity::NoConsumers;
                    }
                },
                false,
            ),
            (
                "idle times are not known",
                |_, sample| {
                    add(sample, 1);
                    sample.activity = ConsumerActivity::Unknown;
                },
                false,
            ),
            (
                "idle times are not known in the last poll",
                |n, sample| {
                    add(sample, 1);
                    advance_idle_time(sample);
                    if n == POLLS - 1 {
                        sample.activity = ConsumerActivity::IdleFor(WINDOW);
                    }
                    if n == POLLS {
                        sample.activity = ConsumerActivity::Unknown;
                    }
                },
                true,
            ),
            (
                "the lag is not exact",
                |_, sample| {
                    sample.lag = Lag::Between { min: 1.into(), max: 9 };
                    sample.newest.ms += 1;
                    sample.activity = ConsumerActivity::NoConsumers;
                },
                true,
            ),
            (
                "the lag may be 0",
                |_, sample| {
                    sample.lag = Lag::Between { min: 0.into(), max: 9 };
                    sample.activity = ConsumerActivity::NoConsumers;
                },
                false,
            ),
            (
                "the server's clock jumped, which looks like idle time",
                |n, sample| {
                    add(sample, 1);
                    if n == 6 {
                        sample.node_time += WINDOW * 10;
                        sample.activity = ConsumerActivity::IdleFor(WINDOW * 10);
                    }
                },
                false,
            ),
            (
                "trimmed all the time",
                |_, sample| {
                    sample.newest.ms += 5;
                    sample.lag = Lag::Exact(3);
                    advance_idle_time(sample);
                },
                true,
            ),
            (
                "acknowledges all the time",
                |n, sample| {
                    add(sample, 1);
                    advance_idle_time(sample);
                    sample.pending = 1_000 - n as u64;
                },
                false,
            ),
            (
                "acknowledged one entry in the window",
                |n, sample| {
                    add(sample, 1);
                    advance_idle_time(sample);
                    sample.pending = if n < 6 { 9 } else { 8 };
                },
                false,
            ),
            (
                "a consumer with pending entries was deleted",
                |n, sample| {
                    add(sample, 1);
                    advance_idle_time(sample);
                    (sample.consumers, sample.pending) = if n < 6 { (2, 9) } else { (1, 3) };
                },
                true,
            ),
        ],
    );
}

#[test]
fn a_group_is_stalled_if_entries_wait_although_there_are_consumers() {
    check_rule(
        is_stalled,
        &[
            ("nothing to read", |_, _| {}, false),
            ("entries wait", |_, sample| add(sample, 1), true),
            (
                "no consumers",
                |_, sample| {
                    add(sample, 1);
                    sample.activity = ConsumerActivity::NoConsumers;
                },
                false,
            ),
            (
                "idle times are not known",
                |_, sample| {
                    add(sample, 1);
                    sample.activity = ConsumerActivity::Unknown;
                },
                true,
            ),
            ("the lag is not exact", |_, sample| sample.lag = Lag::Between { min: 1.into(), max: 9 }, true),
            (
                "one was read",
                |n, sample| {
                    add(sample, 5);
                    if n == 6 {
                        read(sample, 1);
                    }
                },
                false,
            ),
            (
                "entries came late",
                |n, sample| {
                    if n > 3 {
                        add(sample, 1);
                    }
                },
                false,
            ),
            (
                "all idle",
                |_, sample| {
                    add(sample, 1);
                    advance_idle_time(sample);
                },
                false,
            ),
            (
                "acknowledges, and attempts to read",
                |n, sample| {
                    add(sample, 1);
                    sample.pending = 1_000 - n as u64;
                },
                false,
            ),
            (
                "takes entries without acknowledging any",
                |n, sample| {
                    add(sample, 1);
                    sample.pending = n as u64;
                },
                true,
            ),
            (
                "for a moment all waiting entries were deleted",
                |n, sample| {
                    add(sample, 1);
                    if n == 6 {
                        sample.lag = Lag::Exact(0);
                    }
                },
                false,
            ),
        ],
    );
}

#[test]
fn a_group_is_stuck_if_its_oldest_pending_entry_does_not_change() {
    check_rule(
        is_stuck,
        &[
            ("nothing pending", |_, _| {}, false),
            (
                "the same all the time",
                |n, sample| sample.oldest_pending = pending(7, Some(10 * n as u64), 1),
                true,
            ),
            ("released", |_, sample| sample.oldest_pending = pending(7, None, 1), true),
            (
                "delivered again",
                |n, sample| {
                    sample.oldest_pending = pending(7, Some(500), if n < 6 { 1 } else { 2 });
                },
                false,
            ),
            (
                "claimed without a delivery",
                |n, sample| {
                    sample.oldest_pending = pending(7, Some(10 * (n as u64 % 7)), 1);
                },
                false,
            ),
            (
                "a different one in every poll",
                |n, sample| sample.oldest_pending = pending(7 + n as u64, Some(500), 1),
                false,
            ),
            (
                "not known in the last polls",
                |n, sample| {
                    sample.oldest_pending = match n {
                        0..=7 => pending(7, Some(500), 1),
                        _ => PelHead::Unknown,
                    }
                },
                true,
            ),
            (
                "acknowledged",
                |n, sample| {
                    sample.oldest_pending = match n {
                        0..=11 => pending(7, Some(500), 1),
                        _ => PelHead::Empty,
                    }
                },
                false,
            ),
            (
                "an entry that is not the oldest was not delivered again",
                |n, sample| {
                    sample.oldest_pending = pending(7 + n as u64, Some(1), 1);
                    sample.longest_pending_idle = Some(WINDOW);
                },
                true,
            ),
            (
                "the group works through a batch",
                |n, sample| {
                    sample.pending = 100 - n as u64;
                    sample.oldest_pending = pending(7 + n as u64, Some(500), 1);
                    sample.longest_pending_idle = Some(WINDOW * 4);
                },
                false,
            ),
            (
                "an entry is left behind by a group that reads and acknowledges",
                |n, sample| {
                    sample.position.ms += 5;
                    sample.pending = 100 - n as u64;
                    sample.oldest_pending = pending(7 + n as u64, Some(1), 1);
                    sample.longest_pending_idle = Some(WINDOW * 4);
                },
                true,
            ),
            (
                "none was pending for long",
                |n, sample| {
                    sample.oldest_pending = pending(7 + n as u64, Some(1), 1);
                    sample.longest_pending_idle = Some(WINDOW / 2);
                },
                false,
            ),
            (
                "a census found one that is acknowledged by now",
                |n, sample| sample.longest_pending_idle = (n < 12).then_some(WINDOW * 2),
                false,
            ),
            (
                "the server's clock jumped ahead",
                |n, sample| {
                    sample.oldest_pending =
                        pending(7, Some(if n < 6 { n as u64 } else { 90_000 }), if n < 6 { 1 } else { 2 });
                },
                false,
            ),
        ],
    );
}

#[test]
fn one_dip_or_peak_does_not_change_a_trend() {
    let steady: Vec<u64> = (0..13).map(|n| 1_000 + n * 100).collect();
    assert!(grows(&steady, Some(2_400)));
    for at in 0..steady.len() {
        for off in [1, 300, 990, 5_000] {
            let mut lags = steady.clone();
            lags[at] = off;
            assert!(grows(&lags, Some(2_400)), "{lags:?}");
        }
    }
    for (lags, added, expected) in [
        (&[5, 6, 7, 8, 9][..], None, false),
        (&[], None, false),
        (&[5, 6, 7, 8, 9, 10], None, true),
        (&[5, 6, 7, 8, 1, 10], None, true),
        (&[10, 9, 8, 7, 6, 5], None, false),
        (&[7; 13], Some(0), false),
        // Random fluctuation.
        (&[500, 502, 499, 501, 503, 500, 502, 504, 501], Some(1_000), false),
        (&[500, 501, 502, 503, 504, 505, 506, 507, 508], Some(1_000), false),
        (&[500, 501, 502, 503, 504, 505, 506, 507, 508], Some(8), true),
        // Reads in batches, and keeps up.
        (&[10, 40, 70, 100, 10, 40, 70, 100, 10, 40, 70, 100, 10], Some(360), false),
        // Reads in batches, and falls behind.
        (&[100, 200, 150, 250, 200, 300, 250, 350, 300, 400, 350, 450], Some(600), true),
        (&[u64::MAX, 0, 0, u64::MAX, u64::MAX, u64::MAX], Some(u64::MAX), true),
    ] {
        assert_eq!(grows(lags, added), expected, "{lags:?} of {added:?}");
    }
}

#[test]
fn a_group_is_lagging_if_it_is_behind_for_the_window_and_its_lag_grows() {
    check_rule(
        is_lagging,
        &[
            (
                "reads half",
                |_, sample| {
                    add(sample, 100);
                    read(sample, 50);
                },
                false,
            ),
            (
                "caught up all the time",
                |_, sample| {
                    add(sample, 100);
                    read(sample, 100);
                },
                false,
            ),
        ],
    );
    let slow: [(&str, SampleChange, bool); 7] = [
        (
            "reads half",
            |_, sample| {
                add(sample, 100);
                read(sample, 50);
            },
            true,
        ),
        (
            "one dip",
            |n, sample| {
                add(sample, 100);
                read(sample, if n % 20 == 7 { 400 } else { 50 });
            },
            true,
        ),
        (
            "reads as many as are added",
            |_, sample| {
                add(sample, 100);
                read(sample, 100);
            },
            false,
        ),
        (
            "reads more than are added",
            |_, sample| {
                add(sample, 100);
                read(sample, 120);
            },
            false,
        ),
        (
            "caught up for a moment",
            |n, sample| {
                add(sample, 100);
                read(sample, if n == 6 { u64::MAX } else { 50 });
            },
            false,
        ),
        (
            "bounds only",
            |n, sample| {
                add(sample, 100);
                read(sample, 50);
                sample.lag = Lag::Between { min: (1_000 + n as u64 * 50).into(), max: sample.lag.max() };
            },
            false,
        ),
        (
            "bounds in some polls",
            |n, sample| {
                add(sample, 100);
                read(sample, 50);
                let lag = sample.lag.max();
                sample.lag =
                    if n % 3 == 0 { Lag::Between { min: 1.into(), max: lag } } else { Lag::Exact(lag) };
            },
            true,
        ),
    ];
    for (name, change, expected) in slow {
        let mut watched = WatchedGroup::ok();
        watched.polls(4 * POLLS, |sample| {
            add(sample, 100);
            read(sample, 50);
        });
        for number in 0..=POLLS {
            change(number, &mut watched.sample);
            watched.poll_after(INTERVAL);
        }
        assert_eq!(
            is_lagging(&watched.view()),
            expected,
            "{name}: {:?}",
            watched.view().exact_lags().collect::<Vec<_>>()
        );
    }
}

#[test]
fn a_group_is_unknown_until_its_history_covers_the_window() {
    let starts: [(&str, SampleChange); 3] = [
        ("entries wait", |_, sample| sample.lag = Lag::Exact(7)),
        ("entries may wait", |_, sample| sample.lag = Lag::Between { min: 0.into(), max: 7 }),
        ("entries are pending", |_, sample| sample.pending = 7),
    ];
    for (name, start) in starts {
        let mut watched = WatchedGroup::new();
        start(0, &mut watched.sample);
        for poll in 0..POLLS {
            // It moves, so nothing is wrong with it.
            watched.sample.position.ms += 1;
            let status = watched.evaluated_after(INTERVAL);
            assert_eq!(status.status(), Status::Unknown, "{name}");
            // The window less the tolerance.
            let remaining = Duration::from_secs(114) - INTERVAL * u32::try_from(poll).unwrap();
            assert_eq!(
                status.coverage,
                HistoryCoverage::Partial { remaining: Some(remaining.into()) },
                "{name}"
            );
        }
        watched.sample.position.ms += 1;
        assert_eq!(watched.poll_after(INTERVAL), Status::Ok, "{name}");
    }
}

#[test]
fn a_group_with_nothing_to_do_is_ok_at_once_and_stays_so_while_it_works() {
    let mut watched = WatchedGroup::new();
    assert_eq!(watched.polls(2, |_| {}), [Status::Ok; 2]);
    let statuses = watched.polls(POLLS, |sample| {
        add(sample, 3);
        read(sample, 2);
        sample.pending = 2;
    });
    assert_eq!(statuses, [Status::Ok; POLLS], "nothing can be wrong for a window yet");

    let mut watched = WatchedGroup::new();
    watched.sample.pending = 3;
    assert_eq!(watched.polls(2, |_| {}), [Status::Unknown; 2]);
    assert_eq!(watched.polls(2, |sample| sample.pending = 0), [Status::Ok; 2]);
}

#[test]
fn a_first_reading_shows_the_conditions_that_it_proves() {
    let long = WINDOW * 2;
    for (name, activity, pending, proven_wait, expected) in [
        ("no consumers, old entries", ConsumerActivity::NoConsumers, 0, long, Status::Abandoned),
        ("no consumers, released entries", ConsumerActivity::NoConsumers, 3, long, Status::Abandoned),
        ("no consumers, new entries", ConsumerActivity::NoConsumers, 0, WINDOW / 2, Status::Unknown),
        ("all idle", ConsumerActivity::IdleFor(long), 0, long, Status::Abandoned),
        ("all idle, but they may acknowledge", ConsumerActivity::IdleFor(long), 3, long, Status::Unknown),
        ("one attempts to read", ConsumerActivity::IdleFor(INTERVAL), 0, long, Status::Stalled),
        ("idle times are not known", ConsumerActivity::Unknown, 0, Duration::ZERO, Status::Unknown),
    ] {
        let mut watched = WatchedGroup::new();
        add(&mut watched.sample, 5);
        (watched.sample.activity, watched.sample.pending) = (activity, pending);
        watched.sample.proven_wait = proven_wait;
        assert_eq!(watched.poll_after(INTERVAL), expected, "{name}");
        read(&mut watched.sample, 1);
        watched.sample.proven_wait = Duration::ZERO;
        assert_eq!(watched.poll_after(INTERVAL), Status::Unknown, "{name}: then it reads");
    }
}

#[test]
fn a_status_is_dated_from_the_poll_that_found_it() {
    let mut watched = WatchedGroup::new();
    let first = watched.evaluated_after(INTERVAL);
    let began = Some(watched.sample.node_time.into());
    assert_eq!((first.status(), first.since), (Status::Ok, began));
    let mut dead = first;
    while dead.status() == Status::Ok {
        assert_eq!(dead.since, began);
        add(&mut watched.sample, 1);
        watched.sample.activity = ConsumerActivity::NoConsumers;
        dead = watched.evaluated_after(INTERVAL);
    }
    let died = Some(watched.sample.node_time.into());
    assert_eq!((dead.status(), dead.since), (Status::Abandoned, died));
    // Another condition changes nothing, unless it is worse.
    watched.sample.lost += 1;
    assert_eq!(watched.evaluated_after(INTERVAL).since, died);
    // A jump of the server's clock does not move it.
    watched.sample.node_time += WINDOW * 100;
    assert_eq!(watched.evaluated_after(INTERVAL).since, died);
}

#[test]
fn a_group_is_unknown_if_it_is_behind_and_its_lag_is_not_known_for_long() {
    let mut watched = WatchedGroup::ok();
    let statuses = watched.polls(6 * POLLS, |sample| {
        add(sample, 100);
        read(sample, 50);
        sample.lag = Lag::Between { min: 1.into(), max: sample.lag.max() };
    });
    let is_known = |status: &&Status| **status == Status::Ok;
    let known = statuses.iter().take_while(is_known).count();
    assert!((POLLS..5 * POLLS).contains(&known), "{known}: at first it keeps up within the window");
    assert!(statuses[known..].iter().all(|status| *status == Status::Unknown), "{statuses:?}");
}

/// The change that causes each condition. Any of them can be combined, except that a consumer is active or not.
const CAUSES: [(Status, SampleChange); 5] = [
    (Status::Abandoned, |_, sample| {
        add(sample, 9);
        sample.activity = ConsumerActivity::NoConsumers;
        sample.pending = 1;
    }),
    (Status::Losing, |n, sample| {
        if n == POLLS {
            sample.lost += 1;
        }
    }),
    (Status::Rewound, |n, sample| {
        if n == 0 {
            sample.pending = 1;
        }
        if n == 2 {
            sample.position.ms -= 1;
        }
    }),
    (Status::Stalled, |_, sample| {
        add(sample, 9);
        sample.activity = ConsumerActivity::IdleFor(Duration::from_secs(1));
    }),
    (Status::Stuck, |_, sample| {
        sample.pending = 1;
        sample.oldest_pending = pending(7, Some(500), 1);
    }),
];

#[test]
fn each_condition_holds_whatever_the_others_do() {
    for chosen in 0..1_u32 << CAUSES.len() {
        let causes: Vec<_> = CAUSES
            .iter()
            .enumerate()
            .filter(|(at, _)| chosen >> at & 1 == 1)
            .map(|(_, cause)| cause)
            .collect();
        let expected: ConditionSet = causes.iter().map(|(condition, _)| *condition).collect();
        if expected.contains(Status::Abandoned) && expected.contains(Status::Stalled) {
            continue;
        }
        let mut watched = WatchedGroup::ok();
        let mut last = GroupStatus::default();
        // The group was set back 100 s before, which is in the window, and as long as it, within the tolerance.
        watched.window = Duration::from_secs(105);
        for number in 0..=POLLS {
            causes.iter().for_each(|(_, cause)| cause(number, &mut watched.sample));
            last = watched.evaluated_after(INTERVAL);
        }
        let found: ConditionSet = last.conditions.iter().filter(|one| *one != Status::Lagging).collect();
        assert_eq!(found, expected, "{chosen:b}: {:?}", last.conditions.iter().collect::<Vec<_>>());
        let status = expected.worst().unwrap_or(Status::Ok);
        assert_eq!(last.status(), status);
        for condition in Status::ALL.into_iter().filter(|status| status.is_condition()) {
            assert_eq!(last.holds(condition), Some(last.conditions.contains(condition)));
        }
    }
}

#[test]
fn a_group_that_lags_is_stuck_all_the_same() {
    let mut watched = WatchedGroup::ok();
    watched.polls(6 * POLLS, |sample| {
        add(sample, 100);
        read(sample, 50);
    });
    assert!(is_lagging(&watched.view()));
    assert_eq!(
        watched
            .polls(POLLS + 1, |sample| {
                add(sample, 100);
                read(sample, 50);
                sample.oldest_pending = pending(7, Some(500), 1);
            })
            .last(),
        Some(&Status::Stuck)
    );
    assert!(is_lagging(&watched.view()), "it still is");
}

#[test]
fn a_long_gap_between_polls_proves_nothing() {
    let mut watched = WatchedGroup::ok();
    watched.polls(POLLS / 2, |sample| add(sample, 5));
    add(&mut watched.sample, 50);
    watched.sample.oldest_pending = pending(7, Some(9_000), 1);
    advance_idle_time(&mut watched.sample);
    let mut statuses = vec![watched.poll_after(WINDOW * 20)];
    statuses.extend(watched.polls(POLLS - 1, |sample| add(sample, 5)));
    assert_eq!(statuses, [Status::Unknown; POLLS], "the server may have been away");
    assert_eq!(watched.polls(1, |_| {}), [Status::Stalled]);
}

#[test]
fn a_missed_poll_changes_nothing() {
    let mut watched = WatchedGroup::ok();
    watched.polls(POLLS - 3, |sample| add(sample, 5));
    assert_eq!(watched.poll_after(INTERVAL * 3), Status::Ok);
    assert_eq!(watched.poll_after(INTERVAL), Status::Stalled);
}

#[test]
fn a_rewind_during_a_gap_between_polls_is_seen() {
    let mut watched = WatchedGroup::ok();
    watched.sample.position.ms -= 10;
    assert_eq!(watched.poll_after(WINDOW * 20), Status::Rewound);
}

#[test]
fn a_jump_of_the_server_s_clock_changes_nothing() {
    for jump in [Duration::from_secs(86_400), Duration::from_secs(3)] {
        for ahead in [true, false] {
            let mut watched = WatchedGroup::ok();
            let statuses = watched.polls(3 * POLLS, |sample| {
                add(sample, 5);
                read(sample, 4 + u64::from(sample.lag.max() > 6));
                let poll = sample.at.as_secs() / 10;
                if poll.is_multiple_of(11) {
                    let time = sample.node_time;
                    sample.node_time = if ahead { time + jump } else { time - jump };
                    sample.activity = ConsumerActivity::IdleFor(if ahead { jump } else { Duration::ZERO });
                }
            });
            assert!(statuses.iter().all(|status| *status == Status::Ok), "{jump:?}: {statuses:?}");
        }
    }
}

/// A reply that comes late shows a later clock, and idle times that are longer by as much.
#[test]
fn a_dead_group_stays_abandoned_when_a_reading_is_late() {
    let late = Duration::from_secs(40);
    for first_late_poll in 0..POLLS {
        let mut watched = WatchedGroup::ok();
        let mut idle = Duration::ZERO;
        let mut poll = 0;
        let statuses = watched.polls(4 * POLLS, |sample| {
            add(sample, 1);
            idle += INTERVAL;
            let (was_late, is_late) =
                (poll > 0 && (poll - 1) % 5 == first_late_poll % 5, poll % 5 == first_late_poll % 5);
            sample.node_time += if is_late { late } else { Duration::ZERO };
            sample.node_time -= if was_late { late } else { Duration::ZERO };
            sample.activity = ConsumerActivity::IdleFor(if is_late { idle + late } else { idle });
            poll += 1;
        });
        let dead = statuses.iter().skip_while(|status| **status == Status::Ok);
        assert!(dead.clone().all(|status| *status == Status::Abandoned), "{statuses:?}");
        assert!(dead.count() >= 3 * POLLS - 1, "{statuses:?}");
    }
}

#[test]
fn an_acknowledgement_is_a_sign_of_life_whatever_consumers_are_deleted() {
    // The PEL becomes smaller by 3 in each poll, of which so many went with a consumer, and consumers become fewer or not.
    for (dropped, is_consumer_gone, expected) in [
        (Some(0), false, Status::Ok),
        (Some(0), true, Status::Ok),
        (Some(2), true, Status::Ok),
        (Some(3), true, Status::Abandoned),
        (None, false, Status::Ok),
        (None, true, Status::Abandoned),
    ] {
        let mut watched = WatchedGroup::ok();
        (watched.sample.pending, watched.sample.consumers) = (1_000, 1_000);
        watched.poll_after(INTERVAL);
        let statuses = watched.polls(3 * POLLS, |sample| {
            add(sample, 1);
            advance_idle_time(sample);
            sample.pending -= 3;
            sample.dropped = dropped;
            sample.consumers -= u64::from(is_consumer_gone);
        });
        assert_eq!(statuses.last(), Some(&expected), "{dropped:?}, {is_consumer_gone}");
    }
}

/// Returns the number of random (Poisson) arrivals in one interval, at `rate` per second.
fn arrivals(rate: f64, rng: &mut fastrand::Rng) -> u64 {
    let (mut time, mut entries) = (0.0, 0);
    loop {
        time -= (1.0 - rng.f64()).ln() / rate;
        if time > INTERVAL.as_secs_f64() {
            return entries;
        }
        entries += 1;
    }
}

proptest::proptest! {
    #[test]
    fn a_group_that_keeps_up_is_at_most_unknown_and_then_ok(
        seed: u64, rate in 0.02f64..50.0, surplus in 1.1f64..4.0,
    ) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut watched = WatchedGroup::new();
        let statuses = watched.polls(30 * POLLS, |sample| {
            if let Lag::Between { max, .. } = sample.lag {
                sample.lag = Lag::Exact(max - 1_000);
            }
            // Some arrive right before the poll and wait.
            let late = u64::from(rng.bool());
            add(sample, arrivals(rate, &mut rng));
            read(sample, arrivals(rate * surplus, &mut rng) + 1);
            add(sample, late);
            sample.pending = sample.lag.max().min(3);
            sample.oldest_pending = match sample.pending {
                0 => PelHead::Empty,
                _ => pending(sample.position.ms, Some(3), 1),
            };
            if rng.u8(..8) == 0 && sample.lag.min() > 0 {
                sample.lag = Lag::Between { min: 1.into(), max: sample.lag.max() + 1_000 };
            }
        });
        let (first, later) = statuses.split_at(POLLS);
        proptest::prop_assert!(first.iter().all(|status| *status >= Status::Unknown), "{first:?}");
        proptest::prop_assert!(later.iter().all(|status| *status == Status::Ok), "{later:?}");
    }

    #[test]
    fn a_dead_group_is_abandoned_within_the_window_and_one_poll_whatever_it_did_before(
        seed: u64, rate in 0.3f64..50.0, speed in 0.0f64..2.0, before in 1usize..60, leaves: bool,
    ) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut watched = WatchedGroup::ok();
        watched.polls(before, |sample| {
            add(sample, arrivals(rate, &mut rng) + 1);
            read(sample, arrivals(rate * speed + 0.01, &mut rng) + 1);
        });
        let died = watched.sample.at;
        loop {
            add(&mut watched.sample, arrivals(rate, &mut rng) + 1);
            advance_idle_time(&mut watched.sample);
            if leaves {
                watched.sample.activity = ConsumerActivity::NoConsumers;
            }
            // Polls come a little early or late.
            let status = watched.poll_after(INTERVAL - Duration::from_millis(50).mul_f64(rng.f64()));
            let dead_for = watched.sample.at - died;
            if status == Status::Abandoned {
                break;
            }
            proptest::prop_assert!(dead_for < WINDOW + INTERVAL, "{status:?} after {dead_for:?}");
        }
    }

    #[test]
    fn a_batch_job_is_always_ok_if_the_window_is_longer_than_its_interval(
        seed: u64, rate in 0.02f64..20.0, gap in 2usize..40, leaves: bool, late: bool,
    ) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut watched = WatchedGroup::ok();
        watched.window = INTERVAL * u32::try_from(gap + 3).unwrap();
        let statuses = batch_job(&mut watched, &mut rng, 10 * (gap + 3), &BatchJob { rate, gap, leaves, late });
        let after_first_window = &statuses[gap + 3..];
        proptest::prop_assert!(after_first_window.iter().all(|status| *status == Status::Ok), "{statuses:?}");
    }

    #[test]
    fn a_batch_job_is_ok_from_its_second_round_on_and_dead_after_two_of_them(
        seed: u64, rate in 0.05f64..20.0, gap in prop_oneof![13usize..60, Just(180), Just(360)], leaves: bool, late: bool,
    ) {
        let mut rng = fastrand::Rng::with_seed(seed);
        let mut watched = WatchedGroup::ok();
        let statuses = batch_job(&mut watched, &mut rng, 6 * gap, &BatchJob { rate, gap, leaves, late });
        let from_second_round = &statuses[gap..];
        proptest::prop_assert!(from_second_round.iter().all(|status| *status == Status::Ok), "{from_second_round:?}");
        // It never reads again.
        let alive_for = watched.polls(2 * gap + 4, |sample| {
            add(sample, 5);
            advance_idle_time(sample);
        });
        proptest::prop_assert_eq!(alive_for.last(), Some(&Status::Abandoned));
    }
}

/// A job that reads all there is at each `gap`-th poll.
struct BatchJob {
    /// Entries added per second.
    rate: f64,
    gap: usize,
    /// Its consumer is deleted after it has read.
    leaves: bool,
    /// An entry is added between the read and the poll.
    late: bool,
}

fn batch_job(
    watched: &mut WatchedGroup,
    rng: &mut fastrand::Rng,
    polls: usize,
    job: &BatchJob,
) -> Vec<Status> {
    let mut poll = 0;
    watched.polls(polls, |sample| {
        add(sample, arrivals(job.rate, rng));
        advance_idle_time(sample);
        poll += 1;
        if poll % job.gap == 0 {
            read(sample, u64::MAX);
            add(sample, u64::from(job.late));
        } else if job.leaves {
            sample.activity = ConsumerActivity::NoConsumers;
        }
    })
}

#[test]
fn a_group_that_acknowledges_is_abandoned_a_window_after_its_last_acknowledgement() {
    let mut watched = WatchedGroup::ok();
    watched.sample.pending = 1_000;
    let work = |sample: &mut Sample| {
        add(sample, 1);
        advance_idle_time(sample);
    };
    let busy = watched.polls(5 * POLLS, |sample| {
        work(sample);
        sample.pending -= 3;
    });
    assert!(busy.iter().all(|status| *status == Status::Ok), "{busy:?}");
    let dead = watched.polls(POLLS, work);
    assert_eq!(dead[..POLLS - 1], [Status::Ok; POLLS - 1]);
    assert_eq!(dead[POLLS - 1], Status::Abandoned);
}

/// The batch is read some polls after the entries were seen to wait, and does not reach the end of the stream.
#[test]
fn a_group_that_is_busy_with_its_last_batch_is_not_lagging() {
    for read_at in 1..POLLS / 2 {
        let mut watched = WatchedGroup::ok();
        watched.sample.pending = 60;
        let mut poll = 0;
        let statuses = watched.polls(4 * POLLS, |sample| {
            add(sample, if poll == 0 { 65 } else { 20 });
            advance_idle_time(sample);
            if poll == read_at {
                read(sample, 60);
            }
            sample.pending -= 1;
            poll += 1;
        });
        let is_fine = |status: &Status| [Status::Ok, Status::Unknown].contains(status);
        assert!(statuses.iter().all(is_fine), "{read_at}: {statuses:?}");
    }
}

#[test]
fn a_pause_that_an_operator_ends_is_not_learned() {
    let mut watched = WatchedGroup::ok();
    for round in 0..4 {
        let statuses = watched.polls(30, |sample| {
            add(sample, 5);
            advance_idle_time(sample);
        });
        assert_eq!(statuses.last(), Some(&Status::Abandoned), "round {round}");
        // XGROUP SETID to the end, which resets no idle time.
        let activity = watched.sample.activity;
        read(&mut watched.sample, u64::MAX);
        watched.sample.activity = activity;
        watched.poll_after(INTERVAL);
    }
}

#[test]
fn a_pause_that_ends_without_catching_up_is_not_learned() {
    let mut watched = WatchedGroup::ok();
    add(&mut watched.sample, 1_000);
    for round in 0..6 {
        let statuses = watched.polls(20, |sample| add(sample, 5));
        assert_eq!(statuses.last(), Some(&Status::Stalled), "round {round}");
        read(&mut watched.sample, 1);
        watched.poll_after(INTERVAL);
    }
}

#[test]
fn a_long_pause_is_forgotten_after_some_hours() {
    const HOUR: usize = 360;
    let mut watched = WatchedGroup::ok();
    let job = BatchJob { rate: 1.0, gap: HOUR, leaves: false, late: false };
    batch_job(&mut watched, &mut fastrand::Rng::with_seed(1), 2 * HOUR, &job);
    watched.polls(6 * HOUR, |sample| {
        add(sample, 5);
        read(sample, 5);
    });
    let statuses = watched.polls(POLLS + 1, |sample| {
        add(sample, 5);
        advance_idle_time(sample);
    });
    assert_eq!(statuses.last(), Some(&Status::Abandoned));
}

/// A backlog of a constant size grows at random from time to time, which may only rarely be reported.
#[test]
fn a_constant_backlog_rarely_seems_to_grow() {
    let mut rng = fastrand::Rng::with_seed(1);
    let (mut polls, mut wrong) = (0, 0);
    for rate in [0.5, 5.0, 50.0] {
        let mut watched = WatchedGroup::ok();
        add(&mut watched.sample, 1_000_000);
        let statuses = watched.polls(200 * POLLS, |sample| {
            add(sample, arrivals(rate, &mut rng));
            read(sample, arrivals(rate, &mut rng).max(1));
        });
        polls += statuses.len();
        wrong += statuses.iter().filter(|status| **status != Status::Ok).count();
    }
    assert!(wrong * 10 < polls, "{wrong} of {polls}");
}

#[test]
fn ten_thousand_groups_are_evaluated_in_less_than_5_ms() {
    // Both are behind, which is the slowest case.
    for (reads, expected) in [(50, Status::Lagging), (100, Status::Ok)] {
        let mut slow = WatchedGroup::ok();
        slow.polls(6 * POLLS, |sample| {
            add(sample, 100);
            read(sample, 50);
        });
        slow.polls(POLLS, |sample| {
            add(sample, 100);
            read(sample, reads);
        });
        let mut groups = vec![slow.history.clone().unwrap(); 10_000];
        let mut sample = slow.sample;
        let (mut best, mut right) = (Duration::MAX, 0);
        for _ in 0..10 {
            sample.at += INTERVAL;
            sample.node_time += INTERVAL;
            add(&mut sample, 100);
            read(&mut sample, reads);
            #[expect(clippy::disallowed_methods, reason = "it is measured here")]
            let began = std::time::Instant::now();
            for history in &mut groups {
                history.note(&sample, WINDOW);
                right += usize::from(
                    evaluate(&HistoryWindow { history, sample: &sample, window: WINDOW }).status()
                        == expected,
                );
            }
            best = best.min(began.elapsed());
        }
        assert_eq!(right, 100_000);
        // A build without optimization is many times slower, and other tests run at the same time.
        let allowed = Duration::from_millis(if cfg!(debug_assertions) { 3_000 } else { 5 });
        assert!(best < allowed, "{best:?}");
    }
}
