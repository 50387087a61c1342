//! Estimates the share of the entries added to a stream that a group loses.
//!
//! The *front* of a group is the higher of two ranks: that of its position, and that which trimming has reached.
//! Every entry that the front passes was either delivered or lost. Where the server itself counts lost entries, both
//! numbers are known. Elsewhere the deliveries are estimated from pairs of readings that are so close together that
//! the group read at most once between them. Such a read returned the entries between the rank that trimming had
//! reached at that time and the new position. If trimming did not advance in the interval, their number is exact;
//! otherwise only its bounds are known, and the read is assumed to be as large as those that are known exactly.
//!
//! A long interval between two readings shows the reads of slow groups, but may hide several reads of a fast one. So
//! intervals are collected by their length, and only those lengths are used at which few intervals contain reads of
//! unknown size. The length is measured by the node's clock: by the local clock, a reply that is processed late would
//! make the next interval look too short.

use std::time::Duration;

use crate::report::LossEstimate;

/// The time over which an interval's weight falls to a third: about the last minute counts.
const MEMORY: Duration = Duration::from_secs(60);
/// Upper bounds of the classes of intervals, in milliseconds; the last class has none.
const CLASS_MS: [u64; 6] = [18, 36, 72, 150, 400, 2_000];
/// The class of the intervals between samples that are not part of a burst.
const REGULAR: usize = 4;
/// The largest part of a class's intervals that may hold reads, or reads of unknown size. If reads come at random, and not
/// evenly, one in nine of these intervals holds more than one.
const MAX_BLURRED: f64 = 0.4;
/// Trimming overtakes a group at present if the weights of the intervals in which it did so sum up to this: once in the
/// last minute.
const MIN_OVERTAKEN: f64 = 0.35;
/// Smallest number of intervals from which a class is judged by itself.
const MIN_INTERVALS: f64 = 2.5;
/// Largest standard error of an estimate, as a share of the entries added, where some of the time is not seen.
const MAX_ERROR: f64 = 0.1;

/// The numbers of one reading from which the share is estimated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ShareReading {
    /// The node's clock.
    pub(crate) at: Duration,
    /// entries-added.
    pub(crate) added: u64,
    pub(crate) progress: GroupProgress,
}

/// The progress of a group and of trimming.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GroupProgress {
    /// The exact number of entries lost.
    Lost(u64),
    /// The ranks of the group's position and of the last entry that was removed.
    Ranks { position: u64, removed_to: u64 },
}

/// Sums over past readings, in which each reading has less weight the older it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct LossShare {
    last: Option<ShareReading>,
    seconds: f64,
    added: f64,
    /// Number of entries that the front has passed, or that are lost where that is exact.
    passed: f64,
    /// Number of intervals in which trimming passed the group's earlier position.
    overtaken: f64,
    classes: [IntervalClass; CLASS_MS.len() + 1],
}

/// The intervals of about the same length.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct IntervalClass {
    intervals: f64,
    seconds: f64,
    delivered: f64,
    /// Number of intervals in which the group read an unknown number of entries.
    blurred: f64,
    /// Number of intervals in which it read a known number, and that number.
    exact_reads: f64,
    exactly_delivered: f64,
}

/// The entries delivered in one interval.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Delivered {
    Exactly(u64),
    Between {
        min: u64,
        max: u64,
        /// If the group read once, at a random time.
        expected: f64,
    },
}

impl LossShare {
    pub(crate) fn note(&mut self, reading: ShareReading) {
        let Some(last) = self.last.replace(reading) else { return };
        let interval = reading.at.saturating_sub(last.at);
        // A longer one outweighs all others, and the clock may have been set.
        let is_used = !interval.is_zero() && interval < MEMORY;
        let Some(progress) = progress(&last, &reading).filter(|_| is_used) else { return };
        let seconds = interval.as_secs_f64();
        self.age(seconds);
        self.seconds += seconds;
        self.added += count(reading.added.saturating_sub(last.added));
        self.passed += count(progress.passed);
        self.overtaken += f64::from(u8::from(progress.is_overtaken));
        let class = CLASS_MS.partition_point(|bound| u128::from(*bound) < interval.as_millis());
        let known = self.classes[..=class].iter().fold((0.0, 0.0), |(reads, entries), shorter| {
            (reads + shorter.exact_reads, entries + shorter.exactly_delivered)
        });
        self.classes[class].note(seconds, progress.delivered, known);
    }

    /// Leaves a gap before the next reading.
    pub(crate) fn interrupt(&mut self) {
        self.last = None;
    }

    /// Returns the estimate; `None` before there are enough readings, if the group reads too often for them, and if they
    /// show no loss.
    pub(crate) fn estimate(&self) -> Option<LossEstimate> {
        let mut seen = IntervalClass::default();
        for class in self.classes.iter().filter(|class| class.intervals > 0.0) {
            let is_used = if class.intervals >= MIN_INTERVALS {
                !class.is_blurred()
            } else {
                // Samples that were held up are judged by the pace of the reads that others saw.
                seen.seconds > 0.0
                    && seen.reads() / seen.seconds * class.seconds <= MAX_BLURRED * class.intervals
            };
            if is_used {
                seen.add(class);
            }
        }
        if seen.seconds == 0.0 || self.added < 1.0 {
            return None;
        }
        let (unseen, delivered) =
            ((1.0 - seen.seconds / self.seconds).max(0.0), seen.delivered / seen.seconds * self.seconds);
        let error = delivered / self.added * (unseen / seen.reads().max(1.0)).sqrt();
        if error > MAX_ERROR || unseen > 0.5 && seen.reads() < 1.0 {
            return None;
        }
        let (lost, added) = (rounded(self.passed - delivered), rounded(self.added));
        // A group that loses nothing has no estimate. If one that is losing entries seems to lose none, the loss was before
        // the first reading: of a stream that is trimmed from time to time, most readings are between two trims.
        (lost > 0).then(|| LossEstimate { lost: lost.min(added), added })
    }

    /// Returns true if trimming has overtaken the group in about the last minute.
    pub(crate) fn is_overtaken(&self) -> bool {
        self.overtaken > MIN_OVERTAKEN
    }

    /// Returns true if trimming overtakes the group, and regular samples cannot see its single reads.
    pub(crate) fn needs_bursts(&self) -> bool {
        let regular = &self.classes[REGULAR];
        self.is_overtaken() && regular.reads() > MAX_BLURRED * regular.intervals
    }

    fn age(&mut self, seconds: f64) {
        let weight = (-seconds / MEMORY.as_secs_f64()).exp();
        for sum in [&mut self.seconds, &mut self.added, &mut self.passed, &mut self.overtaken] {
            *sum *= weight;
        }
        for class in &mut self.classes {
            class.age(weight);
        }
    }
}

impl IntervalClass {
    /// `known_reads` is the number of reads of known size in intervals that are no longer, and the entries they were
    /// delivered.
    fn note(&mut self, seconds: f64, delivered: Delivered, known_reads: (f64, f64)) {
        self.intervals += 1.0;
        self.seconds += seconds;
        self.delivered += match delivered {
            Delivered::Exactly(0) => 0.0,
            Delivered::Exactly(entries) => {
                self.exact_reads += 1.0;
                self.exactly_delivered += count(entries);
                count(entries)
            }
            Delivered::Between { min, max, expected } => {
                self.blurred += 1.0;
                let (reads, delivered) = known_reads;
                let entries = if reads > 0.0 { delivered / reads } else { expected };
                entries.clamp(count(min), count(max))
            }
        };
    }

    fn age(&mut self, weight: f64) {
        let Self { intervals, seconds, delivered, blurred, exact_reads, exactly_delivered } = self;
        for sum in [intervals, seconds, delivered, blurred, exact_reads, exactly_delivered] {
            *sum *= weight;
        }
    }

    /// Of a few intervals, most may hold a read by chance: one standard deviation is allowed.
    fn is_blurred(&self) -> bool {
        let deviation = (MAX_BLURRED * (1.0 - MAX_BLURRED) * self.intervals).sqrt();
        self.blurred > MAX_BLURRED * self.intervals + deviation
    }

    /// Returns the number of intervals with a read.
    fn reads(&self) -> f64 {
        self.blurred + self.exact_reads
    }

    fn add(&mut self, other: &Self) {
        self.seconds += other.seconds;
        self.delivered += other.delivered;
        self.blurred += other.blurred;
        self.exact_reads += other.exact_reads;
    }
}

/// The progress from one reading to the next.
struct IntervalProgress {
    passed: u64,
    is_overtaken: bool,
    delivered: Delivered,
}

/// Returns the progress between two readings, or `None` if a count or rank went back.
fn progress(last: &ShareReading, next: &ShareReading) -> Option<IntervalProgress> {
    next.added.checked_sub(last.added)?;
    match (last.progress, next.progress) {
        (GroupProgress::Lost(before), GroupProgress::Lost(lost)) => {
            let passed = lost.checked_sub(before)?;
            Some(IntervalProgress { passed, is_overtaken: passed > 0, delivered: Delivered::Exactly(0) })
        }
        (
            GroupProgress::Ranks { position: before, removed_to: trimmed_before },
            GroupProgress::Ranks { position, removed_to },
        ) => {
            let (front, front_before) = (position.max(removed_to), before.max(trimmed_before));
            position.checked_sub(before)?;
            removed_to.checked_sub(trimmed_before)?;
            let max = position.saturating_sub(front_before);
            let min = position.saturating_sub(before.max(removed_to)).max(1);
            let delivered = if position == before {
                Delivered::Exactly(0)
            } else if min >= max {
                Delivered::Exactly(max)
            } else {
                let skipped = skipped(before, trimmed_before, removed_to);
                Delivered::Between { min, max, expected: count(position - before) - skipped }
            };
            let passed = front.checked_sub(front_before)?;
            Some(IntervalProgress { passed, is_overtaken: before < removed_to, delivered })
        }
        _ => None,
    }
}

/// Returns the expected number of entries that a group at rank `position` skips if it reads once while trimming advances
/// evenly from one rank to another.
fn skipped(position: u64, trimmed_from: u64, trimmed_to: u64) -> f64 {
    let (from, to) = (trimmed_from.saturating_sub(position), trimmed_to.saturating_sub(position));
    if trimmed_from >= position || trimmed_to <= position {
        return f64::midpoint(count(from), count(to));
    }
    count(to) * count(to) / (2.0 * count(trimmed_to - trimmed_from))
}

#[expect(clippy::cast_precision_loss, reason = "an estimate is good to some digits")]
fn count(entries: u64) -> f64 {
    entries as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the range")]
fn rounded(entries: f64) -> u64 {
    entries.round().max(0.0) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Added per second.
    const RATE: u64 = 50;
    /// Intervals of a burst, as those of the exporter.
    const BURST_MS: [u64; 8] = [12, 12, 12, 12, 12, 24, 24, 50];

    #[derive(Clone, Copy, Debug)]
    enum Trim {
        Exact,
        /// By whole nodes of 100 entries.
        Nodes,
    }

    /// A group that reads `read_count` entries each `read_ms`, of a stream that is trimmed to 500 entries.
    struct Simulation {
        trim: Trim,
        read_count: u64,
        read_ms: u64,
        timing: Timing,
        /// The time by which the next sample is late.
        late_ms: fn() -> u64,
        added: u64,
        removed_to: u64,
        position: u64,
        delivered: u64,
        due_ms: u64,
        next_read_ms: u64,
    }

    #[derive(Clone, Copy, Debug, PartialEq)]
    enum Timing {
        /// Up to a millisecond late, as timers are; the first read after so many milliseconds.
        Even(u64),
        Random,
    }

    impl Simulation {
        fn new(trim: Trim, (read_count, read_ms): (u64, u64), timing: Timing) -> Self {
            let (added, removed_to) = (10_000, 9_500);
            let due_ms = if let Timing::Even(phase) = timing { phase } else { 0 };
            Self {
                trim,
                read_count,
                read_ms,
                timing,
                late_ms: || 0,
                added,
                removed_to,
                position: removed_to,
                delivered: 0,
                due_ms,
                next_read_ms: due_ms,
            }
        }

        /// Advances by one millisecond.
        fn step(&mut self, ms: u64) {
            if ms.is_multiple_of(1_000 / RATE) {
                self.added += 1;
                let removed = self.added - 500;
                self.removed_to = match self.trim {
                    Trim::Exact => removed,
                    Trim::Nodes => removed / 100 * 100,
                };
            }
            if ms < self.next_read_ms {
                return;
            }
            let from = self.position.max(self.removed_to);
            self.position = (from + self.read_count).min(self.added);
            self.delivered += self.position - from;
            (self.due_ms, self.next_read_ms) = match self.timing {
                Timing::Even(_) => {
                    (self.due_ms + self.read_ms, self.due_ms + self.read_ms + fastrand::u64(..2))
                }
                Timing::Random => {
                    let next = ms as f64 - (1.0 - fastrand::f64()).ln() * self.read_ms as f64;
                    (ms, rounded(next))
                }
            };
        }

        /// Returns the estimated and the true share after some time.
        fn run(&mut self, seconds: u64) -> (Option<f64>, f64) {
            let mut share = LossShare::default();
            let (mut gaps, mut next) = (Vec::new(), 7);
            let (added, delivered) = (self.added, self.delivered);
            for ms in 0..seconds * 1_000 {
                self.step(ms);
                if ms < next {
                    continue;
                }
                share.note(ShareReading {
                    at: Duration::from_millis(ms),
                    added: self.added,
                    progress: GroupProgress::Ranks { position: self.position, removed_to: self.removed_to },
                });
                if gaps.is_empty() {
                    let regular = fastrand::u64(200..=300);
                    let is_burst = share.needs_bursts() && fastrand::u8(..4) > 0;
                    let burst: u64 = BURST_MS.iter().sum();
                    gaps =
                        if is_burst { [&BURST_MS[..], &[regular - burst]].concat() } else { vec![regular] };
                    fastrand::shuffle(&mut gaps);
                }
                next = ms + gaps.remove(0) * fastrand::u64(80..=120) / 100 + (self.late_ms)();
            }
            let truth = 1.0 - (self.delivered - delivered) as f64 / (self.added - added) as f64;
            (share.estimate().map(LossEstimate::ratio), truth)
        }
    }

    const FAST: [(u64, u64); 8] =
        [(1, 40), (1, 43), (1, 100), (3, 80), (4, 150), (6, 250), (5, 333), (10, 500)];
    const SLOW: [(u64, u64); 6] =
        [(10, 1_500), (25, 1_000), (25, 2_500), (25, 2_700), (100, 5_000), (1, 5_000)];

    #[test]
    fn the_estimate_is_near_the_true_share_at_each_pace() {
        for pace in FAST.into_iter().chain(SLOW) {
            for trim in [Trim::Exact, Trim::Nodes] {
                for seed in 0..6 {
                    fastrand::seed(seed);
                    let timing = if seed == 5 { Timing::Random } else { Timing::Even(4 * seed) };
                    let (estimate, truth) = Simulation::new(trim, pace, timing).run(150);
                    let context = format!("{pace:?}, {trim:?}, {timing:?}: {estimate:?}, not {truth}");
                    let estimate = estimate.unwrap_or_else(|| panic!("no estimate: {context}"));
                    // Few reads at random times differ from one minute to the next.
                    let tolerance = if timing == Timing::Random && pace.1 > 500 { 0.15 } else { 0.1 };
                    assert!((estimate - truth).abs() < tolerance, "{context}");
                }
            }
        }
    }

    #[test]
    fn readings_between_two_trims_are_no_estimate_of_none() {
        let mut share = LossShare::default();
        // A trim took all up to rank 9,500; since then the group reads 5 of the 20 that are added per second.
        for quarter in 0..80 {
            share.note(ShareReading {
                at: Duration::from_millis(250 * quarter),
                added: 10_000 + 5 * quarter,
                progress: GroupProgress::Ranks { position: 9_500 + quarter / 4 * 5, removed_to: 9_500 },
            });
            assert_eq!(share.estimate(), None, "{quarter}");
        }
        // The next trim is seen.
        share.note(ShareReading {
            at: Duration::from_secs(20),
            added: 10_400,
            progress: GroupProgress::Ranks { position: 9_595, removed_to: 10_350 },
        });
        assert!(share.estimate().is_some_and(|estimate| estimate.ratio() > 0.5), "{share:?}");
    }

    /// On a busy machine most samples are late, and some by seconds.
    #[test]
    fn late_samples_leave_an_estimate_near_the_true_share_or_none() {
        let late_ms = || match fastrand::u8(..40) {
            0 => fastrand::u64(400..2_500),
            1..15 => fastrand::u64(5..60),
            _ => 0,
        };
        let paces = FAST.map(|pace| (pace, false)).into_iter().chain(SLOW.map(|pace| (pace, true)));
        for ((pace, is_slow), seconds) in paces.flat_map(|pace| [(pace, 25), (pace, 150)]) {
            for seed in 0..20 {
                fastrand::seed(seed);
                let timing = Timing::Even(4 * (seed % 5));
                let simulation = Simulation::new(Trim::Exact, pace, timing);
                let (estimate, truth) = Simulation { late_ms, ..simulation }.run(seconds);
                let context = format!("{pace:?}, {timing:?}, {seconds} s: {estimate:?}, not {truth}");
                let error = estimate.map_or(0.0, |estimate| estimate - truth).abs();
                assert!(error < if seconds > 60 { 0.1 } else { 0.2 }, "{context}");
                assert!(estimate.is_some() || !is_slow || seconds < 60, "no estimate: {context}");
            }
        }
    }

    /// 50 entries are added each second, and 100 read each 5 s: 60 % are lost. The sample after one of the reads is late.
    #[test]
    fn a_read_that_a_late_sample_shows_counts() {
        let mut share = LossShare::default();
        for ms in (0..25_000).step_by(250).filter(|ms| !(14_800..15_600).contains(ms)) {
            let (added, reads) = (1_000 + ms / 20, ms / 5_000);
            let progress = GroupProgress::Ranks { position: 950 + reads * 250, removed_to: added - 150 };
            share.note(ShareReading { at: Duration::from_millis(ms), added, progress });
        }
        let ratio = share.estimate().unwrap().ratio();
        assert!((0.57..0.63).contains(&ratio), "{ratio}");
    }

    /// 10 entries are read each 1.5 s, and of six short intervals three hold a read.
    #[test]
    fn reads_in_a_few_intervals_of_another_length_leave_the_estimate_as_it_is() {
        let mut share = LossShare::default();
        let early = [3_130, 6_130, 9_130];
        let mut times: Vec<u64> = (0..20_000).step_by(250).chain(early).collect();
        times.sort_unstable();
        for ms in times {
            let (added, reads) = (1_000 + ms / 20, (ms + 1_375) / 1_500);
            let at_read = (1_000 + (reads * 1_500).saturating_sub(1_375) / 20) - 100;
            let progress = GroupProgress::Ranks { position: at_read + 10, removed_to: added - 100 };
            share.note(ShareReading { at: Duration::from_millis(ms), added, progress });
        }
        let ratio = share.estimate().unwrap().ratio();
        assert!((0.83..0.9).contains(&ratio), "{ratio}");
    }

    #[test]
    fn a_few_reads_in_a_small_part_of_the_time_are_no_estimate() {
        let mut share = LossShare::default();
        // A group that reads each 40 ms, of which three short intervals show two reads.
        for (ms, position) in [(0, 0), (500, 12), (512, 12), (524, 13), (536, 14), (1_036, 26), (1_536, 38)] {
            let progress = GroupProgress::Ranks { position, removed_to: position };
            share.note(ShareReading { at: Duration::from_millis(ms), added: 200 + ms / 20, progress });
        }
        assert_eq!(share.estimate(), None);
    }

    #[test]
    fn a_clock_that_is_set_is_not_a_long_interval() {
        let mut share = LossShare::default();
        for at in [0, 10, 20, 30, 7_230, 7_240, 40, 50] {
            let progress = GroupProgress::Lost(at % 100 * 10);
            share.note(ShareReading { at: Duration::from_secs(at), added: at % 100 * 20, progress });
        }
        let ratio = share.estimate().unwrap().ratio();
        assert!((0.4..0.6).contains(&ratio), "{ratio}");
    }

    #[test]
    fn a_group_that_reads_all_has_lost_nothing() {
        let (estimate, truth) = Simulation::new(Trim::Exact, (60, 1_000), Timing::Even(3)).run(60);
        assert!(truth < 0.01, "{truth}");
        assert!(estimate.is_none_or(|estimate| estimate < 0.01), "{estimate:?}");
    }

    #[test]
    fn a_group_that_reads_nothing_loses_all() {
        let (estimate, _) = Simulation::new(Trim::Exact, (1, 1_000_000), Timing::Even(3)).run(60);
        assert!(estimate.unwrap() > 0.98, "{estimate:?}");
    }

    #[test]
    fn a_server_that_counts_deliveries_makes_the_share_exact() {
        let mut share = LossShare::default();
        for (at, added, lost) in [(0, 100, 7), (10, 600, 7), (20, 1_100, 132)] {
            let progress = GroupProgress::Lost(lost);
            share.note(ShareReading { at: Duration::from_secs(at), added, progress });
        }
        assert_eq!(share.estimate(), None, "too few readings");
        share.note(ShareReading {
            at: Duration::from_secs(30),
            added: 1_600,
            progress: GroupProgress::Lost(257),
        });
        let ratio = share.estimate().unwrap().ratio();
        assert!((0.17..0.2).contains(&ratio), "{ratio}: 250 of 1,500, of which the first 500 count less");
    }
}
