//! What leaves no trace in any counter makes a lag wrong for a while; the audit has to heal each of them.

use crate::report::Lag;
use crate::tests::model::{Counters, Model};
use crate::tests::properties::{PLENTY, Watcher};
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

const POLL_MS: u64 = 10_000;
/// Polls until the oldest value is due to be counted again, and one to count anew.
const POLLS_TO_HEAL: u32 = 62;

fn group() -> Name {
    Name::from("g")
}

/// A stream of 500 entries whose group is somewhere in the median, with counters that agree, watched.
fn watched(counters: Counters) -> (Model, Watcher) {
    let (mut model, mut watch) = (Model::new(counters), Watcher::new());
    (0..500).for_each(|_| model.add());
    model.groups.insert(group(), Default::default());
    for _ in 0..3 {
        model.read(&group(), 50, true);
        poll(&mut model, &mut watch);
    }
    assert_eq!(lag(&watch), Lag::Exact(350));
    (model, watch)
}

fn poll(model: &mut Model, watch: &mut Watcher) {
    model.clock_ms += POLL_MS;
    watch.poll(model, PLENTY_TO_AUDIT, false);
}

const PLENTY_TO_AUDIT: crate::budget::Budget = crate::budget::Budget { audit_entries: 1_000, ..PLENTY };

fn lag(watch: &Watcher) -> Lag {
    watch.values().next().unwrap().lag
}

/// Polls that it takes until the lag is right, and right in every later poll.
fn polls_to_heal(model: &mut Model, watch: &mut Watcher) -> u32 {
    let mut healed_after = 0;
    for polls in 1..=4 * POLLS_TO_HEAL {
        poll(model, watch);
        if lag(watch) != Lag::Exact(model.ahead(&group())) {
            healed_after = polls;
        }
    }
    healed_after
}

/// Something that is done to a stream, and its name.
type Act = (&'static str, fn(&mut Model));

/// What is done without a trace.
fn untracked_changes() -> Vec<Act> {
    vec![
        ("XCLAIM LASTID, then a read", |model| {
            let position = model.entries.iter().nth(200).copied().unwrap();
            model.groups.get_mut(&group()).unwrap().last_delivered = position;
            model.read(&group(), 5, true);
        }),
        ("XSETID with a false ENTRIESADDED", |model| model.added += 40),
        ("a false ENTRIESREAD, then a read", |model| {
            *model.groups.get_mut(&group()).unwrap().entries_read.as_mut().unwrap() += 30;
            model.read(&group(), 5, true);
        }),
        ("another stream renamed over it", |model| {
            let removed: Vec<_> =
                model.entries.iter().copied().filter(|id| id.seq == 0).skip(80).take(20).collect();
            model.entries.retain(|id| !removed.contains(id));
            (0..20).for_each(|_| model.add());
            model.added -= 20;
        }),
        ("deleted and made anew with earlier IDs", |model| {
            let entries: Vec<_> = model.entries.iter().copied().collect();
            model.entries.clear();
            for id in entries {
                model.entries.insert(id);
                model.entries.insert(StreamId::new(id.ms, id.seq + 500));
            }
            model.added = 2_000;
            model.last_generated = *model.entries.last().unwrap();
        }),
    ]
}

#[test]
fn whatever_leaves_no_trace_heals_within_a_bounded_number_of_polls() {
    for counters in [Counters::Original, Counters::Fixed] {
        for (name, act) in untracked_changes() {
            let (mut model, mut watch) = watched(counters);
            act(&mut model);
            let polls = polls_to_heal(&mut model, &mut watch);
            assert!(polls <= POLLS_TO_HEAL, "{name} with {counters:?}: {polls} polls");
        }
    }
}

#[test]
fn at_least_one_of_them_is_wrong_at_first_so_that_this_test_means_something() {
    let (mut model, mut watch) = watched(Counters::Fixed);
    (untracked_changes()[0].1)(&mut model);
    assert!(polls_to_heal(&mut model, &mut watch) > 1);
}

#[test]
fn a_group_that_reads_on_heals_too() {
    let (mut model, mut watch) = watched(Counters::Fixed);
    (untracked_changes()[0].1)(&mut model);
    let mut healed_after = 0;
    for polls in 1..=100 {
        (0..3).for_each(|_| model.add());
        model.read(&group(), 2, true);
        poll(&mut model, &mut watch);
        if lag(&watch) != Lag::Exact(model.ahead(&group())) {
            healed_after = polls;
        }
    }
    assert!((1..=POLLS_TO_HEAL).contains(&healed_after), "{healed_after} polls");
}
