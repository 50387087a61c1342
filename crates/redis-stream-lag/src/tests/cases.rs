//! A table of operations in ordinary use, each with the true lag and the entries-read that real servers reported. The
//! model must agree with the servers, and the derived lag with the true one.

use crate::derivation::Derivation;
use crate::report::Lag;
use crate::snapshot::{ConsumerLimit, Epoch, NodeInfo, NodeReading, ReadOutcome, Snapshot, StreamReading};
use crate::state::LagState;
use crate::tests::model::{Counters, StreamModel};
use crate::tests::properties::{PLENTY, WINDOW, Watcher};
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

/// Operations on a stream of ten entries `1-0` to `10-0` with a group at 0: `r` reads, `n` reads with NOACK, `R` reads
/// all, `q` reads, acknowledges and deletes each entry; `x` deletes an ID, `t` trims to a length, `m` trims below an
/// ID, `+` adds entries, `g` creates the group (at this step rather than before the first).
struct LagCase {
    name: &'static str,
    steps: &'static str,
    lag: u64,
    /// entries-read on 7.0 to 7.4 and on later servers; `None` is nil.
    entries_read: [Option<u64>; 2],
    /// Number of entries lost, if the group is polled before each step.
    lost: u64,
}

const fn case(
    name: &'static str,
    steps: &'static str,
    lag: u64,
    original: Option<u64>,
    fixed: Option<u64>,
    lost: u64,
) -> LagCase {
    LagCase { name, steps, lag, entries_read: [original, fixed], lost }
}

const NIL: Option<u64> = None;

const CASES: &[LagCase] = &[
    case("a1", "r4", 6, Some(4), Some(4), 0),
    case("a2", "", 10, NIL, NIL, 0),
    case("a4", "n4", 6, Some(4), Some(4), 0),
    case("b1", "r4 x7", 5, Some(4), Some(4), 1),
    case("b2", "r4 x7 r1", 4, NIL, NIL, 1),
    case("b3", "r4 x7 r1 r3", 1, NIL, NIL, 1),
    case("b4", "r4 x7 R", 0, Some(10), Some(10), 1),
    case("b5", "r4 x7 R +3", 3, Some(10), Some(10), 1),
    case("b6", "r4 x7 R +3 r1", 2, Some(11), Some(11), 1),
    case("b7", "r4 x5", 5, Some(4), Some(4), 1),
    case("b8", "r4 x10", 5, Some(4), Some(4), 1),
    case("b9", "r9 x10", 0, Some(9), Some(9), 1),
    case("b10", "R x10", 0, Some(10), Some(10), 0),
    case("b11", "R x10 +1", 1, Some(10), Some(10), 0),
    case("b12", "r4 x7 r3 r1", 1, NIL, NIL, 1),
    case("c1", "r4 x2", 6, Some(4), Some(4), 0),
    case("c2", "r4 x2 r3", 3, Some(7), Some(7), 0),
    case("c3", "r4 x4", 6, Some(4), Some(4), 0),
    case("c4", "r4 x4 r1", 5, Some(5), NIL, 0),
    case("c5", "r4 x1 x2", 6, Some(4), Some(4), 0),
    case("c6", "r4 x1 x2 r2", 4, Some(6), Some(6), 0),
    case("c7", "q4", 6, Some(4), Some(4), 0),
    case("c8", "r2 x1 x2 x3", 7, Some(2), Some(2), 1),
    case("c9", "r2 x1 x2 x3 r1", 6, Some(3), Some(4), 1),
    case("c10", "r2 x1 x2 x3 R", 0, Some(9), Some(10), 1),
    case("d1", "r4 t8", 6, Some(4), Some(4), 0),
    case("d2", "r2 t3", 3, Some(2), Some(2), 5),
    case("d3", "r2 t3 r1", 2, Some(3), Some(8), 5),
    case("d4", "r2 t3 r2", 1, Some(4), Some(9), 5),
    case("d5", "r2 t3 R", 0, Some(5), Some(10), 5),
    case("d6", "r2 t3 R +5", 5, Some(5), Some(10), 5),
    case("d7", "r2 t3 R +5 r2", 3, Some(7), Some(12), 5),
    case("d8", "r2 m6", 5, Some(2), Some(2), 3),
    case("d9", "r4 t0", 0, Some(4), Some(4), 6),
    case("d10", "r4 t0 +3", 3, Some(4), Some(4), 6),
    case("d11", "r4 t0 +3 r1", 2, Some(5), Some(11), 6),
    case("d12", "t3", 3, NIL, NIL, 7),
    case("d13", "t3 r1", 2, Some(8), Some(8), 7),
    case("d14", "t6 g", 6, NIL, NIL, 0),
    case("d15", "t6 g r2", 4, Some(6), Some(6), 0),
    case("d16", "r2 x5 t3", 3, Some(2), Some(2), 5),
    case("d17", "r2 x5 t3 r1", 2, Some(3), Some(8), 5),
    case("d18", "r2 t4 x9", 3, Some(2), Some(2), 5),
];

fn group() -> Name {
    Name::from("g")
}

fn ten_entries(counters: Counters) -> StreamModel {
    let mut model = StreamModel::new(counters);
    (1..=10).for_each(|ms| model.add_at(StreamId::new(ms, 0)));
    model
}

fn take(model: &mut StreamModel, step: &str) {
    let (kind, number) = step.split_at(1);
    let number: u64 = number.parse().unwrap_or(0);
    let count = usize::try_from(number).unwrap();
    let id = StreamId::new(number, 0);
    match kind {
        "r" => model.read(&group(), count, false),
        "n" => model.read(&group(), count, true),
        "R" => model.read(&group(), 1_000, false),
        "q" => (0..count).for_each(|_| {
            model.read(&group(), 1, true);
            let position = model.groups[&group()].last_delivered;
            model.delete(position);
        }),
        "x" => model.delete(id),
        "t" => model.trim_to(count),
        "m" => {
            let kept = model.entries.range(id..).count();
            model.trim_to(kept);
        }
        "+" => (0..number).for_each(|_| {
            let ms = model.last_generated.ms + 1;
            model.add_at(StreamId::new(ms, 0));
        }),
        "g" => drop(model.groups.insert(group(), Default::default())),
        _ => panic!("unknown step {step}"),
    }
}

/// Returns the model, the lag and the losses after the last step, polled before each step or only at the end.
fn run(case: &LagCase, counters: Counters, polls_each_step: bool) -> (StreamModel, Lag, Option<u64>) {
    let mut model = ten_entries(counters);
    let mut watch = Watcher::new();
    if !case.steps.contains('g') {
        take(&mut model, "g");
    }
    for step in case.steps.split_whitespace() {
        if polls_each_step {
            watch.poll(&mut model, PLENTY, false);
        }
        take(&mut model, step);
    }
    watch.poll(&mut model, PLENTY, false);
    let values = watch.values().next().unwrap();
    let (lag, lost) = (values.lag, values.entries_lost);
    (model, lag, lost.map(u64::from))
}

#[test]
fn every_case_has_its_true_lag_on_every_server() {
    for case in CASES {
        for counters in [Counters::None, Counters::Original, Counters::Fixed] {
            for polls_each_step in [false, true] {
                let (model, lag, _) = run(case, counters, polls_each_step);
                let name = case.name;
                assert_eq!(
                    lag,
                    Lag::Exact(case.lag),
                    "{name} with {counters:?}, each step: {polls_each_step}"
                );
                assert_eq!(model.lag(&group()), case.lag, "{name}: the model itself");
            }
        }
    }
}

#[test]
fn the_model_counts_entries_read_as_real_servers_do() {
    for case in CASES {
        for (counters, expected) in [Counters::Original, Counters::Fixed].into_iter().zip(case.entries_read) {
            let (model, ..) = run(case, counters, false);
            assert_eq!(model.groups[&group()].entries_read, expected, "{} with {counters:?}", case.name);
        }
    }
}

#[test]
fn entries_lost_between_polls_are_counted_once() {
    for case in CASES {
        for counters in [Counters::Original, Counters::Fixed] {
            let (_, _, lost) = run(case, counters, true);
            assert_eq!(lost, Some(case.lost), "{} with {counters:?}", case.name);
        }
        let (_, _, lost) = run(case, Counters::None, true);
        assert_eq!(lost, None, "{}: unknown on server 6.2", case.name);
    }
}

#[test]
fn a_stream_that_is_trimmed_with_each_entry_is_always_counted_right() {
    for (counters, entries_read) in [(Counters::Original, 10), (Counters::Fixed, 26)] {
        let mut model = StreamModel::new(counters);
        let mut watch = Watcher::new();
        take(&mut model, "g");
        for _ in 0..10 {
            for _ in 0..3 {
                take(&mut model, "+1");
                model.trim_to(5);
                watch.poll(&mut model, PLENTY, false);
            }
            take(&mut model, "r1");
            watch.poll(&mut model, PLENTY, false);
        }
        let values = watch.values().next().unwrap();
        assert_eq!((values.lag, values.entries_lost), (Lag::Exact(4), Some(16.into())), "{counters:?}");
        assert_eq!(values.entries_read, Some(entries_read.into()), "{counters:?}");
        assert_eq!(
            values.seldom.retention_used.map(|used| (used.lag, used.length)),
            Some((4, 5)),
            "{counters:?}"
        );
    }
}

/// Polls a model in which a group reads after the stream was read. Returns the number of entries lost.
fn poll_while_reading(state: &mut LagState, model: &mut StreamModel, entries: usize) -> Option<u64> {
    let stream = StreamReading {
        key: Name::from("s"),
        family: None,
        outcome: ReadOutcome::Read(Box::new(model.info(model.group_info()))),
        missing_groups: Box::default(),
        window: WINDOW,
    };
    let node = NodeReading {
        node: NodeInfo {
            epoch: Epoch(1),
            entries_read: model.meaning(),
            has_acked_trimming: false,
            has_xnack: true,
            consumer_limit: ConsumerLimit { at_most: 100, max_idle: WINDOW },
        },
        streams: vec![stream],
    };
    let snapshot = Snapshot { nodes: vec![node] };
    let mut derivation = Derivation::open(snapshot, state, PLENTY, model.at(), None);
    model.read(&group(), entries, true);
    loop {
        let questions = derivation.questions();
        if questions.is_empty() {
            let report = derivation.close();
            return report.streams[0].groups[0].values.as_ref().unwrap().entries_lost.map(u64::from);
        }
        derivation.answer(questions.iter().map(|question| model.answer(&question.kind)).collect());
    }
}

#[test]
fn losses_beside_thousands_of_consumers_are_counted_for_groups_that_do_not_move_and_else_unknown() {
    for counters in [Counters::Original, Counters::Fixed] {
        let mut model = StreamModel { other_consumers: 6_000, ..StreamModel::new(counters) };
        let mut state = LagState::default();
        (0..2_000).for_each(|_| model.add());
        take(&mut model, "g");
        model.read(&group(), 100, true);
        assert_eq!(poll_while_reading(&mut state, &mut model, 0), Some(0));
        model.trim_to(500);
        assert_eq!(poll_while_reading(&mut state, &mut model, 0), Some(1_400), "{counters:?}");
        model.trim_to(400);
        assert_eq!(poll_while_reading(&mut state, &mut model, 1), None, "{counters:?}: not confirmed");
        assert_eq!(poll_while_reading(&mut state, &mut model, 1), None, "{counters:?}: nor later");
        (0..10).for_each(|_| model.add());
        model.trim_to(300);
        let lost = poll_while_reading(&mut state, &mut model, 0).unwrap();
        assert!((1_500..=1_608).contains(&lost), "{counters:?}: {lost}");
    }
}
