//! Operations that leave no trace in any counter make a lag wrong for a while; the audit has to repair each of them.

use crate::report::Lag;
use crate::tests::model::{Counters, StreamModel};
use crate::tests::properties::{PLENTY, Watcher};
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

const POLL_MS: u64 = 10_000;
/// Number of polls until the oldest count is due to be verified, plus one to count from scratch.
const MAX_POLLS_TO_REPAIR: u32 = 62;

fn group() -> Name {
    Name::from("g")
}

/// Returns a polled stream of 500 entries with a group in the middle whose counters are trusted.
fn watched(counters: Counters) -> (StreamModel, Watcher) {
    let (mut model, mut watch) = (StreamModel::new(counters), Watcher::new());
    (0..500).for_each(|_| model.add());
    model.groups.insert(group(), Default::default());
    for _ in 0..3 {
        model.read(&group(), 50, true);
        poll(&mut model, &mut watch);
    }
    assert_eq!(lag(&watch), Lag::Exact(350));
    (model, watch)
}

fn poll(model: &mut StreamModel, watch: &mut Watcher) {
    model.clock_ms += POLL_MS;
    watch.poll(model, PLENTY_TO_AUDIT, false);
}

const PLENTY_TO_AUDIT: crate::budget::Budget = crate::budget::Budget { audit_entries: 1_000, ..PLENTY };

fn lag(watch: &Watcher) -> Lag {
    watch.values().next().unwrap().lag
}

/// Returns the number of polls after which the lag is right and stays right.
fn polls_to_repair(model: &mut StreamModel, watch: &mut Watcher) -> u32 {
    let mut repaired_after = 0;
    for polls in 1..=4 * MAX_POLLS_TO_REPAIR {
        poll(model, watch);
        if lag(watch) != Lag::Exact(model.lag(&group())) {
            repaired_after = polls;
        }
    }
    repaired_after
}

/// The name of an operation and its effect on the model.
type UntrackedChange = (&'static str, fn(&mut StreamModel));

fn untracked_changes() -> Vec<UntrackedChange> {
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
        ("deleted and created again with earlier IDs", |model| {
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
fn untracked_changes_are_repaired_within_a_bounded_number_of_polls() {
    for counters in [Counters::Original, Counters::Fixed] {
        for (name, change) in untracked_changes() {
            let (mut model, mut watch) = watched(counters);
            change(&mut model);
            let polls = polls_to_repair(&mut model, &mut watch);
            assert!(polls <= MAX_POLLS_TO_REPAIR, "{name} with {counters:?}: {polls} polls");
        }
    }
}

#[test]
fn an_untracked_change_makes_the_lag_wrong_at_first() {
    let (mut model, mut watch) = watched(Counters::Fixed);
    (untracked_changes()[0].1)(&mut model);
    assert!(polls_to_repair(&mut model, &mut watch) > 1);
}

#[test]
fn a_group_that_reads_on_is_repaired_too() {
    let (mut model, mut watch) = watched(Counters::Fixed);
    (untracked_changes()[0].1)(&mut model);
    let mut repaired_after = 0;
    for polls in 1..=100 {
        (0..3).for_each(|_| model.add());
        model.read(&group(), 2, true);
        poll(&mut model, &mut watch);
        if lag(&watch) != Lag::Exact(model.lag(&group())) {
            repaired_after = polls;
        }
    }
    assert!((1..=MAX_POLLS_TO_REPAIR).contains(&repaired_after), "{repaired_after} polls");
}
