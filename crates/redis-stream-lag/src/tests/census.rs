//! Compares the census of pending entries with the lists of a model.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::census::ENTRIES_PER_POLL;
use crate::question::PendingEntry;
use crate::report::CensusView;
use crate::tests::model::{Counters, ModelGroup, StreamModel};
use crate::tests::properties::{PLENTY, Watcher};
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;

/// The number of polls after which every list of the model was read twice.
const POLLS: u32 = 80;

fn rows(group: &ModelGroup, now_ms: u64) -> Vec<(PendingEntry, Name)> {
    group.pending.iter().map(|(id, delivery)| delivery.listed(*id, now_ms)).collect()
}

/// Checks the census of a list that did not change while it was read.
fn check(shown: CensusView<'_>, group: &ModelGroup, model: &StreamModel) {
    let rows = rows(group, model.now_ms());
    let context = || format!("{shown:?}\n{rows:?}");
    let count =
        |is: &dyn Fn(&PendingEntry) -> bool| rows.iter().filter(|(entry, _)| is(entry)).count() as u64;
    let census = &shown.census;
    assert_eq!(census.entries, rows.len() as u64, "{}", context());
    assert_eq!(census.failed, count(&|entry| entry.is_failed()), "{}", context());
    let redelivered = count(&|entry| entry.deliveries > 1 && !entry.is_failed());
    assert_eq!(census.redelivered, redelivered, "{}", context());
    let trimmed = count(&|entry| model.entries.is_empty() || entry.id < model.first());
    // The stream may have been trimmed since an unchanged list was read.
    let is_current = shown.unchanged_until.is_none();
    assert!(census.trimmed <= trimmed && (census.trimmed == trimmed || !is_current), "{}", context());
    let most = rows.iter().filter(|(entry, _)| !entry.is_failed()).map(|(entry, _)| entry.deliveries).max();
    assert_eq!(census.max_deliveries.map(u64::from), most, "{}", context());
    let idle = rows.iter().filter_map(|(entry, _)| entry.idle_ms).max().map(Duration::from_millis);
    // The clock advanced until XPENDING was answered.
    let later = idle.map(|idle| idle + Duration::from_secs(1));
    let is_known_now = shown.unchanged_until == Some(Duration::from_millis(model.now_ms()));
    assert_eq!(shown.max_idle().is_some(), idle.is_some(), "{}", context());
    assert!(
        shown.max_idle() <= later && (shown.max_idle() >= idle || !is_known_now),
        "{idle:?}: {}",
        context()
    );
    for held in &census.consumers {
        let own = rows.iter().filter(|(_, consumer)| *consumer == held.name);
        let idle = own.filter_map(|(entry, _)| entry.idle_ms).max().map(Duration::from_millis).unwrap();
        let found = shown.max_idle_of(held);
        let is_late = found > idle + Duration::from_secs(1);
        assert!(!is_late && (found >= idle || !is_known_now), "{held:?} {idle:?}: {}", context());
    }
    check_lists(shown, &rows, &context);
}

fn check_lists(shown: CensusView<'_>, rows: &[(PendingEntry, Name)], context: &dyn Fn() -> String) {
    let census = &shown.census;
    let mut consumers: BTreeMap<&Name, [u64; 2]> = BTreeMap::new();
    for (entry, consumer) in rows.iter().filter(|(entry, _)| entry.idle_ms.is_some()) {
        let [entries, redelivered] = consumers.entry(consumer).or_default();
        *entries += 1;
        *redelivered += u64::from(entry.deliveries > 1 && !entry.is_failed());
    }
    let counted = census.consumers.iter().map(|held| (&held.name, [held.entries, held.redelivered]));
    assert_eq!(counted.collect::<BTreeMap<_, _>>(), consumers, "{}", context());
    let mut all: BTreeMap<StreamId, _> = BTreeMap::new();
    all.extend(rows.iter().map(|(entry, consumer)| (entry.id, (entry, consumer))));
    for row in &census.worst {
        let (entry, consumer) = all[&row.id];
        assert_eq!((row.deliveries, &row.consumer), (entry.deliveries, consumer), "{}", context());
        assert_eq!(row.idle.is_some(), entry.idle_ms.is_some(), "{}", context());
    }
    // No entry that is left out was delivered more often, or not for longer, than five that are listed.
    let is_listed = |entry: &PendingEntry| census.worst.iter().any(|row| row.id == entry.id);
    for (entry, _) in rows.iter().filter(|(entry, _)| !is_listed(entry)) {
        let often = census.worst.iter().filter(|row| row.deliveries >= entry.deliveries).count();
        assert!(entry.deliveries <= 1 || often >= 5, "{entry:?}: {}", context());
        let read_at = census.worst.iter().filter(|row| row.idle.is_some());
        assert!(read_at.count() >= 5 || entry.idle_ms.is_none(), "{entry:?}: {}", context());
    }
    assert!(census.worst.len() <= 10 && census.worst.is_sorted_by(|a, b| a.deliveries >= b.deliveries));
}

/// Runs random operations, some of them in the middle of passes; then polls until the lists must have been read.
fn run(seed: u64, counters: Counters) -> [usize; 2] {
    fastrand::seed(seed);
    let (mut model, mut watch) = (StreamModel::new(counters), Watcher::new());
    let (mut checked, mut unchanged) = (0, 0);
    for _ in 0..6 {
        for _ in 0..fastrand::u32(..40) {
            (0..fastrand::u32(..5)).for_each(|_| model.disturb());
            watch.poll(&mut model, PLENTY, fastrand::bool());
            model.clock_ms += fastrand::u64(..5_000);
            assert!(watch.listed <= u64::from(ENTRIES_PER_POLL), "{} in a poll", watch.listed);
        }
        for _ in 0..POLLS {
            model.clock_ms += 10_000;
            watch.poll(&mut model, PLENTY, false);
        }
        let groups = model.groups.values().zip(watch.views());
        for (group, values) in groups {
            let pending_census = values.pending_census();
            assert_eq!(pending_census.is_some(), !group.pending.is_empty(), "seed {seed}: {group:?}");
            let Some(shown) = pending_census else { continue };
            assert!(shown.age < Duration::from_secs(600), "seed {seed}: {shown:?}");
            check(shown, group, &model);
            checked += 1;
            unchanged += usize::from(shown.unchanged_until.is_some());
        }
    }
    [checked, unchanged]
}

#[test]
fn a_census_is_what_the_list_holds() {
    let runs = if cfg!(debug_assertions) { 50 } else { 1_000 };
    let (mut checked, mut unchanged) = (0, 0);
    for seed in 0..runs {
        for counters in [Counters::None, Counters::Original, Counters::Fixed] {
            let [one, other] = run(seed, counters);
            (checked, unchanged) = (checked + one, unchanged + other);
        }
    }
    assert!(checked > 400 && unchanged > checked / 4, "{checked} lists, {unchanged} unchanged");
}

/// Returns a group with this many pending entries, each delivered to one consumer at the start.
fn group_with(model: &mut StreamModel, name: &str, pending: usize) -> Name {
    let group = Name::from(name);
    model.groups.insert(group.clone(), ModelGroup::default());
    (0..pending).for_each(|_| model.add());
    model.read(&group, usize::MAX, false);
    group
}

#[test]
fn groups_take_turns_so_that_no_list_waits_for_ever() {
    let (mut model, mut watch) = (StreamModel::new(Counters::Fixed), Watcher::new());
    let busy: Vec<_> = ["a", "b", "c", "d", "e", "f"].map(|name| group_with(&mut model, name, 3)).into();
    group_with(&mut model, "long", 60);
    let mut polls = 0;
    while watch.values().any(|values| values.pending_census.is_none()) || polls == 0 {
        polls += 1;
        assert!(polls < 120, "{:?}", watch.values().collect::<Vec<_>>());
        model.clock_ms += 10_000;
        for name in &busy {
            // A claim, so that the list has changed.
            let now = model.now_ms();
            let group = model.groups.get_mut(name).unwrap();
            group.consumers.values_mut().for_each(|active_ms| *active_ms = now);
        }
        watch.poll(&mut model, PLENTY, false);
    }
}

#[test]
fn a_pass_ends_however_fast_entries_are_delivered() {
    let (mut model, mut watch) = (StreamModel::new(Counters::Fixed), Watcher::new());
    let group = group_with(&mut model, "g", 40);
    for _ in 0..60 {
        model.clock_ms += 10_000;
        // Ten times what a poll reads.
        (0..100).for_each(|_| model.add());
        model.read(&group, usize::MAX, false);
        let oldest: Vec<_> = model.groups[&group].pending.keys().take(100).copied().collect();
        let pending = &mut model.groups.get_mut(&group).unwrap().pending;
        pending.retain(|id, _| !oldest.contains(id));
        watch.poll(&mut model, PLENTY, false);
    }
    let census = watch.views().next().unwrap().pending_census();
    assert!(census.is_some_and(|shown| shown.age < Duration::from_secs(100)));
}
