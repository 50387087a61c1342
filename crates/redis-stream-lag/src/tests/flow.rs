//! Compares what is counted as delivered and acknowledged with a model that counts each entry.

use crate::tests::model::{Counters, StreamModel};
use crate::tests::properties::{PLENTY, Watcher};
use redis_stream_core::name::Name;

/// A group that reads, acknowledges and deletes what it has acknowledged.
struct Reader {
    model: StreamModel,
    watch: Watcher,
    group: Name,
    delivered: u64,
    acknowledged: u64,
    /// Number of entries removed before they were delivered.
    removed: u64,
}

impl Reader {
    fn new(counters: Counters) -> Self {
        let (mut model, group) = (StreamModel::new(counters), Name::from("g"));
        model.groups.insert(group.clone(), Default::default());
        Self { model, watch: Watcher::new(), group, delivered: 0, acknowledged: 0, removed: 0 }
    }

    fn read(&mut self) {
        let (before, noack) = (self.model.lag(&self.group), fastrand::u32(..4) == 0);
        self.model.read(&self.group, fastrand::usize(1..9), noack);
        let read = before - self.model.lag(&self.group);
        self.delivered += read;
        self.acknowledged += if noack { read } else { 0 };
    }

    fn acknowledge(&mut self) {
        let group = self.model.groups.get_mut(&self.group).unwrap();
        for _ in 0..fastrand::usize(1..6) {
            let Some((id, _)) = group.pending.pop_first() else { return };
            self.acknowledged += 1;
            if fastrand::bool() && self.model.entries.remove(&id) {
                self.model.max_deleted = self.model.max_deleted.max(id);
            }
        }
    }

    /// Trims, or deletes an entry anywhere.
    fn remove(&mut self) {
        let before = self.model.lag(&self.group);
        let entries: Vec<_> = self.model.entries.iter().copied().collect();
        match entries.get(fastrand::usize(..entries.len().max(1))) {
            Some(id) if fastrand::bool() => self.model.delete(*id),
            _ => self.model.trim_to(fastrand::usize(..entries.len() + 1)),
        }
        self.removed += before - self.model.lag(&self.group);
    }

    /// Trims what the group was delivered.
    fn trim_delivered(&mut self) {
        let lag = usize::try_from(self.model.lag(&self.group)).unwrap();
        self.model.trim_to(lag.max(1) + fastrand::usize(..4));
    }

    fn poll(&mut self) -> (Option<u64>, Option<u64>) {
        self.model.clock_ms += 1_000;
        self.watch.poll(&mut self.model, PLENTY, false);
        let values = self.watch.values().next().unwrap();
        (values.entries_delivered.map(u64::from), values.entries_acknowledged.map(u64::from))
    }
}

#[test]
fn without_removals_ahead_of_a_group_each_entry_is_counted_once() {
    for seed in 0..60 {
        fastrand::seed(seed);
        for counters in [Counters::Original, Counters::Fixed] {
            let mut reader = Reader::new(counters);
            reader.poll();
            for _ in 0..100 {
                match fastrand::u32(..8) {
                    0..=2 => (0..fastrand::u32(1..9)).for_each(|_| reader.model.add()),
                    3..=4 => reader.read(),
                    5 => reader.acknowledge(),
                    6 => reader.trim_delivered(),
                    _ => reader.watch.epoch += u64::from(fastrand::u32(..4) == 0),
                }
                if fastrand::bool() {
                    let expected = (Some(reader.delivered), Some(reader.acknowledged));
                    assert_eq!(reader.poll(), expected, "seed {seed}, {counters:?}: {:?}", reader.model);
                }
            }
        }
    }
}

#[test]
fn with_removals_ahead_the_count_is_off_by_no_more_than_those() {
    for seed in 0..60 {
        fastrand::seed(seed);
        for counters in [Counters::Original, Counters::Fixed] {
            let (mut reader, mut last) = (Reader::new(counters), 0);
            reader.poll();
            for _ in 0..100 {
                match fastrand::u32(..8) {
                    0..=3 => (0..fastrand::u32(1..9)).for_each(|_| reader.model.add()),
                    4..=5 => reader.read(),
                    6 => reader.acknowledge(),
                    _ => reader.remove(),
                }
                // Not known until the share that is lost is estimated.
                let Some(delivered) = reader.poll().0 else { continue };
                let context = || format!("seed {seed}, {counters:?}: {delivered}, not {}", reader.delivered);
                assert!(delivered >= last, "{}", context());
                assert!(delivered + reader.removed >= reader.delivered, "{}", context());
                assert!(delivered <= reader.delivered + reader.removed, "{}", context());
                last = delivered;
            }
        }
    }
}
