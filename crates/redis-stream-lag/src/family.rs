//! Folds the streams of a family into the report of one stream, whose key is the name of the family.
//!
//! The exporter's table of values states for each value how it is folded; `GroupValues::of_family` folds those of
//! groups. Counters include streams that are gone. While one stream cannot be read, all values of the family are
//! unknown, since values of the other streams alone could make an alert look resolved.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::compact::Count;
use crate::condition::Status;
use crate::fold::{sum, sum_of_all, sum_of_known};
use crate::report::{
    GroupChangeCounts, GroupFold, GroupReport, GroupValues, Report, ReportedStream, SafeTrim,
    SeldomStreamValues, StreamFold, StreamIds, StreamReport, StreamValues,
};
use crate::snapshot::{Idmp, RadixTree};
use redis_stream_core::name::Name;

/// The most streams or groups that are remembered of a family although the last report does not contain them. If one of
/// them comes back, it is not counted twice.
const REMEMBERED: usize = 10_000;

/// Folds one report after another, so that the counters of families never fall.
#[derive(Clone, Debug, Default)]
pub struct FamilyFold {
    families: BTreeMap<Name, FamilyCounters>,
    /// Number of reports.
    reports: u64,
}

#[derive(Clone, Debug, Default)]
struct FamilyCounters {
    /// Time of the first report, by the server's clock, since the Unix epoch.
    since: Option<Duration>,
    stream: MemberCounters<6>,
    groups: BTreeMap<Name, MemberCounters<4>>,
}

/// Counters of a family, and those of its streams that are in them.
#[derive(Clone, Debug)]
struct MemberCounters<const N: usize> {
    totals: [Option<u64>; N],
    counted: HashMap<Name, Counted<N>>,
}

#[derive(Clone, Debug)]
struct Counted<const N: usize> {
    values: [Option<u64>; N],
    /// Number of the last report that contained the stream.
    report: u64,
}

/// A stream of a family, and its group.
type Member<'a> = (&'a ReportedStream, &'a GroupReport);

impl FamilyFold {
    /// Returns the report with one stream for each family, in place of the streams that belong to it. Each stream of a
    /// family has one group for each name.
    pub fn fold(&mut self, report: &Arc<Report>) -> Arc<Report> {
        if report.streams.iter().all(|stream| stream.family.is_none()) {
            return Arc::clone(report);
        }
        self.reports += 1;
        let mut families = BTreeMap::<&Name, Vec<&ReportedStream>>::new();
        let mut streams = Vec::new();
        for stream in &report.streams {
            match &stream.family {
                Some(family) => families.entry(family).or_default().push(stream),
                None => streams.push(stream.clone()),
            }
        }
        for (name, members) in families {
            let mut folded = of_family(name, &members);
            // Streams that cannot be read are not gone.
            if !folded.refused {
                let counters = self.families.entry(name.clone()).or_default();
                counters.count(&mut folded, &members, self.reports);
            }
            streams.push(folded.into());
        }
        streams.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        Arc::new(Report { streams, ..**report })
    }

    /// Forgets the counters of other families.
    pub fn retain(&mut self, is_family: impl Fn(&Name) -> bool) {
        self.families.retain(|name, _| is_family(name));
    }
}

/// Returns the fold of the streams that belong to a family, with the sums of what they count now.
#[must_use]
pub fn of_family(name: &Name, members: &[&ReportedStream]) -> StreamReport {
    if members.iter().any(|stream| stream.refused) {
        return unread(name, members);
    }
    let read: Vec<_> = members.iter().filter_map(|stream| stream.values.as_ref()).collect();
    let fold = StreamFold {
        streams: members.len() as u64,
        unread: (members.len() - read.len()) as u64,
        first_entry: read.iter().filter_map(|values| values.first_entry()).min(),
        last_generated: read.iter().filter_map(|values| values.last_generated()).max(),
    };
    let mut groups = BTreeMap::<&Name, Vec<Member<'_>>>::new();
    for stream in members {
        for group in &stream.groups {
            groups.entry(&group.name).or_default().push((stream, group));
        }
    }
    let read_at = members.iter().map(|stream| stream.read_at()).max().unwrap_or_default();
    let groups = groups.into_iter().map(|(name, members)| group_of_family(name, &members, read_at)).collect();
    let values = (!read.is_empty()).then(|| stream_values(&read, fold));
    StreamReport { read_at: read_at.into(), ..StreamReport::new(name.clone(), values, groups) }
}

/// Returns the report of a family of which a stream cannot be read, with the groups that the configuration names.
fn unread(name: &Name, members: &[&ReportedStream]) -> StreamReport {
    let groups = members.iter().flat_map(|stream| &stream.groups).filter(|group| group.is_named());
    let names: BTreeSet<_> = groups.map(|group| &group.name).collect();
    let groups = names.into_iter().cloned().map(GroupReport::missing).collect();
    StreamReport { refused: true, ..StreamReport::new(name.clone(), None, groups) }
}

fn stream_values(members: &[&StreamValues], fold: StreamFold) -> StreamValues {
    let ids = members.iter().map(|values| &values.ids);
    StreamValues {
        length: sum(members.iter().map(|values| values.length)),
        groups: sum(members.iter().map(|values| values.groups)),
        groups_abandoned: sum_of_all(members.iter().map(|values| values.groups_abandoned.get())).into(),
        entries_added: sum_of_known(members.iter().map(|values| values.entries_added)).map(Count::from),
        ids: StreamIds {
            first: ids.clone().filter_map(|ids| ids.first.get()).min().into(),
            last: ids.clone().filter_map(|ids| ids.last.get()).max().into(),
            last_generated: ids.clone().map(|ids| ids.last_generated).max().unwrap_or_default(),
            max_deleted: ids.filter_map(|ids| ids.max_deleted).max(),
        },
        radix_tree: RadixTree {
            keys: sum(members.iter().map(|values| values.radix_tree.keys)),
            nodes: sum(members.iter().map(|values| values.radix_tree.nodes)),
        },
        safe_trim: safe_trim(members),
        is_unread: false,
        is_first_timestamp: false,
        is_last_generated_timestamp: false,
        memory_bytes: sum_of_all(members.iter().map(|values| values.memory_bytes)).map(Count::from),
        seldom: seldom_values(members, fold).into(),
    }
}

fn seldom_values(members: &[&StreamValues], fold: StreamFold) -> SeldomStreamValues {
    let changes = || members.iter().map(|values| values.seldom.group_changes);
    SeldomStreamValues {
        group_changes: GroupChangeCounts {
            created: sum(changes().map(|changes| changes.created)),
            destroyed: sum(changes().map(|changes| changes.destroyed)),
            recreated: sum(changes().map(|changes| changes.recreated)),
        },
        idmp: idmp(members),
        fold: Some(fold),
    }
}

/// Returns the trims of all streams with groups, without a holder: each stream has its own.
fn safe_trim(members: &[&StreamValues]) -> Option<SafeTrim> {
    let with_groups = members.iter().filter(|values| values.groups > 0);
    let trims: Vec<_> = with_groups.map(|values| values.safe_trim.as_ref()).collect::<Option<_>>()?;
    let min_id = trims.iter().map(|trim| trim.min_id).min()?;
    let entries = sum_of_all(trims.iter().map(|trim| trim.entries)).map(Count::from);
    Some(SafeTrim { min_id, entries, holder: None })
}

fn idmp(members: &[&StreamValues]) -> Option<Idmp> {
    let used = members.iter().filter_map(|values| values.seldom.idmp);
    used.reduce(|one, other| Idmp {
        duration_seconds: one.duration_seconds.max(other.duration_seconds),
        max_size: one.max_size.max(other.max_size),
        producer_ids_tracked: one.producer_ids_tracked.saturating_add(other.producer_ids_tracked),
        idempotent_ids_tracked: one.idempotent_ids_tracked.saturating_add(other.idempotent_ids_tracked),
        entries_added: one.entries_added.saturating_add(other.entries_added),
        duplicates: one.duplicates.saturating_add(other.duplicates),
    })
}

fn group_of_family(name: &Name, members: &[Member<'_>], read_at: Duration) -> GroupReport {
    let read: Vec<_> = members.iter().filter_map(|(stream, group)| stream.view(group)).collect();
    let worst = members.iter().min_by(|(_, one), (_, other)| one.badness().cmp(&other.badness()));
    let mut by_status = [0; Status::ALL.len()];
    for status in read.iter().flat_map(|values| values.values().status.iter()) {
        by_status[status as usize] += 1;
    }
    let fold = worst.filter(|_| !read.is_empty()).map(|(worst, _)| {
        let is_missing = members.iter().any(|(_, group)| group.values.is_none());
        GroupFold { worst: (*worst).clone(), by_status, is_missing }
    });
    let named = members.iter().any(|(_, group)| group.is_named());
    let values = fold.is_some().then(|| GroupValues { named, ..GroupValues::of_family(&read, read_at) });
    GroupReport::new(name.clone(), values).with_fold(fold)
}

impl FamilyCounters {
    /// Counts what the streams of a family have counted since the last report, and puts the totals into the fold.
    fn count(&mut self, folded: &mut StreamReport, members: &[&ReportedStream], report: u64) {
        for stream in members {
            let Some(values) = &stream.values else { continue };
            let counters = stream_counters(values);
            self.stream.count(&stream.key, counters, || counted_before(values, self.since), report);
            for group in &stream.groups {
                let Some(values) = &group.values else { continue };
                let counters = self.groups.entry(group.name.clone()).or_default();
                counters.count(&stream.key, group_counters(values), || [None; 4], report);
            }
        }
        self.since = self.since.or_else(|| members.iter().map(|stream| stream.read_at.get()).max());
        self.stream.forget(report);
        self.groups.values_mut().for_each(|counters| counters.forget(report));
        if self.groups.len() > folded.groups.len() + REMEMBERED {
            self.groups.retain(|_, counters| counters.counted.values().any(|one| one.report == report));
        }
        if let Some(values) = &mut folded.values {
            set_stream_counters(values, self.stream.totals);
        }
        for group in &mut folded.groups {
            if let (Some(values), Some(counters)) = (&mut group.values, self.groups.get(&group.name)) {
                let [delivered, acknowledged, lost, dropped] = counters.totals;
                let [delivered, acknowledged, lost] =
                    [delivered, acknowledged, lost].map(|total| total.map(Count::from));
                (values.entries_delivered, values.entries_acknowledged) = (delivered, acknowledged);
                values.entries_lost = lost;
                values.seldom.change(|seldom| seldom.pending_dropped = dropped.unwrap_or(0));
            }
        }
    }
}

fn stream_counters(values: &StreamValues) -> [Option<u64>; 6] {
    let GroupChangeCounts { created, destroyed, recreated } = values.seldom.group_changes;
    let idmp = values.seldom.idmp;
    [
        values.entries_added.map(Count::get),
        Some(created),
        Some(destroyed),
        Some(recreated),
        idmp.map(|idmp| idmp.entries_added),
        idmp.map(|idmp| idmp.duplicates),
    ]
}

/// Returns what a stream that is new in the reports has counted before them, as far as it counts for its lifetime: all but
/// what it holds if its first entry was added after the first report. The sum of all lifetimes would be less after a
/// restart of the reader, when streams are gone, and would look like a counter that began again and rose to that.
fn counted_before(values: &StreamValues, since: Option<Duration>) -> [Option<u64>; 6] {
    let is_new = values.first_entry().zip(since).is_some_and(|(first, since)| first > since);
    let new = if is_new { values.length } else { 0 };
    let added = values.entries_added.map(|added| added.get().saturating_sub(new));
    let idmp = values.seldom.idmp;
    [added, None, None, None, idmp.map(|idmp| idmp.entries_added), idmp.map(|idmp| idmp.duplicates)]
}

fn set_stream_counters(values: &mut StreamValues, totals: [Option<u64>; 6]) {
    let [added, created, destroyed, recreated, with_id, duplicates] = totals;
    values.entries_added = added.map(Count::from);
    let [created, destroyed, recreated] = [created, destroyed, recreated].map(|count| count.unwrap_or(0));
    values.seldom.change(|seldom| {
        seldom.group_changes = GroupChangeCounts { created, destroyed, recreated };
        if let Some(idmp) = &mut seldom.idmp {
            (idmp.entries_added, idmp.duplicates) = (with_id.unwrap_or(0), duplicates.unwrap_or(0));
        }
    });
}

fn group_counters(values: &GroupValues) -> [Option<u64>; 4] {
    let GroupValues { entries_delivered, entries_acknowledged, entries_lost, seldom, .. } = values;
    let [delivered, acknowledged, lost] =
        [entries_delivered, entries_acknowledged, entries_lost].map(|count| count.map(Count::get));
    [delivered, acknowledged, lost, Some(seldom.pending_dropped)]
}

impl<const N: usize> MemberCounters<N> {
    /// Counts what a stream has counted since the last report that contained it: all of it if it began again at 0, and all
    /// but what is returned by `before` if the stream is new. A value that is not known now is counted when it is known
    /// again.
    fn count(
        &mut self,
        stream: &Name,
        values: [Option<u64>; N],
        before: impl FnOnce() -> [Option<u64>; N],
        report: u64,
    ) {
        let counted =
            self.counted.entry(stream.clone()).or_insert_with(|| Counted { values: before(), report });
        counted.report = report;
        for ((total, before), value) in self.totals.iter_mut().zip(&mut counted.values).zip(values) {
            let Some(value) = value else { continue };
            let added = value.checked_sub(before.unwrap_or(0)).unwrap_or(value);
            *total = Some(total.unwrap_or(0).saturating_add(added));
            *before = Some(value);
        }
    }

    /// Forgets streams that are gone, if there are too many. Their sums stay.
    fn forget(&mut self, report: u64) {
        let gone = |counted: &Counted<N>| counted.report != report;
        if self.counted.len() > REMEMBERED
            && self.counted.values().filter(|one| gone(one)).count() > REMEMBERED
        {
            self.counted.retain(|_, counted| !gone(counted));
        }
    }
}

impl<const N: usize> Default for MemberCounters<N> {
    fn default() -> Self {
        Self { totals: [None; N], counted: HashMap::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Lag;
    use redis_stream_core::id::StreamId;

    fn group(name: &str, lost: Option<u64>, delivered: Option<u64>) -> GroupReport {
        let values = GroupValues {
            entries_lost: lost.map(Count::from),
            entries_delivered: delivered.map(Count::from),
            ..GroupValues::default()
        };
        GroupReport::new(Name::from(name), Some(values))
    }

    fn member(key: &str, entries_added: u64, groups: Vec<GroupReport>) -> StreamReport {
        let values = StreamValues { entries_added: Some(entries_added.into()), ..StreamValues::default() };
        let family = Some(Name::from("rooms"));
        StreamReport { family, ..StreamReport::new(Name::from(key), Some(values), groups) }
    }

    fn report(streams: Vec<StreamReport>) -> Arc<Report> {
        Arc::new(Report { streams: streams.into_iter().map(Into::into).collect(), ..Report::default() })
    }

    fn family(report: &Report) -> &StreamReport {
        report.stream(&Name::from("rooms")).expect("the family is there")
    }

    fn added(report: &Report) -> Option<u64> {
        family(report).values.as_ref().and_then(|values| values.entries_added).map(Count::get)
    }

    #[test]
    fn a_report_without_families_stays_as_it_is() {
        let alone = StreamReport { family: None, ..member("a", 1, Vec::new()) };
        let report = report(vec![alone]);
        assert!(Arc::ptr_eq(&FamilyFold::default().fold(&report), &report));
    }

    #[test]
    fn a_family_takes_the_place_of_its_streams_in_the_order_of_keys() {
        let alone = |key| StreamReport { family: None, ..member(key, 1, Vec::new()) };
        let report =
            report(vec![alone("a"), member("m:1", 2, Vec::new()), member("m:2", 3, Vec::new()), alone("z")]);
        let folded = FamilyFold::default().fold(&report);
        let keys: Vec<_> = folded.streams.iter().map(|stream| stream.key.to_string()).collect();
        assert_eq!(keys, ["a", "rooms", "z"]);
        assert_eq!(added(&folded), Some(0));
        let fold = family(&folded).values.as_ref().and_then(|values| values.seldom.fold);
        assert_eq!(fold, Some(StreamFold { streams: 2, ..StreamFold::default() }));
    }

    #[test]
    fn counters_keep_what_streams_counted_that_are_gone() {
        let mut families = FamilyFold::default();
        for (entries, expected) in [
            (vec![("a", 10), ("b", 5)], 0),
            (vec![("a", 12), ("b", 5)], 2),
            // One goes, and comes back as it was.
            (vec![("a", 12)], 2),
            (vec![("a", 13), ("b", 6)], 4),
            // One is created again, and counts from 0.
            (vec![("a", 2), ("b", 6)], 6),
            // One is found later.
            (vec![("c", 100)], 6),
            (vec![("c", 101)], 7),
        ] {
            let streams = entries.into_iter().map(|(key, added)| member(key, added, Vec::new()));
            assert_eq!(added(&families.fold(&report(streams.collect()))), Some(expected));
        }
        families.retain(|_| false);
        assert_eq!(added(&families.fold(&report(vec![member("c", 102, Vec::new())]))), Some(0));
    }

    /// A stream of the test below: the times at which its entries were added, and how many of them were removed.
    #[derive(Default)]
    struct TestStream {
        added_at: Vec<u64>,
        removed: usize,
        is_found: bool,
    }

    impl TestStream {
        fn report(&self, key: usize, now: u64) -> StreamReport {
            let held = &self.added_at[self.removed..];
            let values = StreamValues {
                length: held.len() as u64,
                entries_added: Some((self.added_at.len() as u64).into()),
                ids: StreamIds {
                    first: held.first().map(|time| StreamId::new(1_000 * time, 0)).into(),
                    ..StreamIds::default()
                },
                is_first_timestamp: true,
                ..StreamValues::default()
            };
            let report = member(&key.to_string(), 0, Vec::new());
            StreamReport { values: Some(values), read_at: Duration::from_secs(now).into(), ..report }
        }

        /// Changes the stream at random, and returns the number of entries added.
        fn change(&mut self, rng: &mut fastrand::Rng, now: u64, is_simple: bool) -> u64 {
            match rng.u8(0..12) {
                0..5 => {
                    self.added_at.push(now);
                    return 1;
                }
                _ if is_simple => {}
                5 => self.removed = rng.usize(self.removed..=self.added_at.len()),
                6 => *self = Self { is_found: self.is_found, ..Self::default() },
                7 => self.is_found = !self.is_found,
                _ => {}
            }
            0
        }
    }

    /// Since the first report, a family counts no more than was added, also if streams go, come again, are trimmed or found
    /// late; and exactly that if streams are only added to. A new reader, as after a restart, begins at 0.
    #[test]
    fn the_increase_of_a_family_is_what_was_added() {
        for seed in 0..1_000 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let is_simple = seed % 2 == 0;
            let mut streams: Vec<_> = (0..4).map(|_| TestStream::default()).collect();
            for start in [1, 101] {
                let (mut families, mut before, mut new_entries) = (FamilyFold::default(), None, 0);
                for now in start..start + 60 {
                    for stream in &mut streams {
                        stream.is_found |= is_simple;
                        new_entries += stream.change(&mut rng, now, is_simple);
                    }
                    let found = streams.iter().enumerate();
                    let found = found.filter(|(_, stream)| stream.is_found && !stream.added_at.is_empty());
                    let found: Vec<_> = found.map(|(key, stream)| stream.report(key, now)).collect();
                    if found.is_empty() {
                        continue;
                    }
                    let total = added(&families.fold(&report(found))).expect("it is known");
                    let (least, most) = match before {
                        None => (0, 0),
                        Some(_) if is_simple => (new_entries, new_entries),
                        Some(before) => (before, new_entries),
                    };
                    assert!(
                        (least..=most).contains(&total),
                        "seed {seed} at {now}: {total}, {least}..={most}"
                    );
                    new_entries = if before.is_none() { 0 } else { new_entries };
                    before = Some(total);
                }
            }
        }
    }

    #[test]
    fn streams_that_cannot_be_read_are_not_counted_again() {
        let mut families = FamilyFold::default();
        let count = REMEMBERED + 2;
        let all = |added, unread: usize| {
            let stream = |at: usize| {
                let stream = member(&format!("{at:06}"), added, Vec::new());
                if at < unread { StreamReport { values: None, refused: true, ..stream } } else { stream }
            };
            report((0..count).map(stream).collect())
        };
        let total = |added: u64| Some(added * count as u64);
        assert_eq!(added(&families.fold(&all(5, 0))), total(0));
        let unread = families.fold(&all(6, REMEMBERED + 1));
        assert_eq!((family(&unread).refused, added(&unread)), (true, None));
        assert_eq!(added(&families.fold(&all(7, 0))), total(2));
    }

    #[test]
    fn a_counter_that_is_not_known_for_a_while_makes_up_for_it() {
        let mut families = FamilyFold::default();
        let mut lost = |a, b| {
            let groups = [a, b].map(|lost| vec![group("g", lost, None)]);
            let [one, other] = groups;
            let folded = families.fold(&report(vec![member("a", 0, one), member("b", 0, other)]));
            family(&folded).groups[0].values.as_ref().and_then(|values| values.entries_lost).map(Count::get)
        };
        assert_eq!(lost(None, None), None);
        assert_eq!(lost(Some(3), None), Some(3));
        assert_eq!(lost(None, Some(4)), Some(7));
        assert_eq!(lost(Some(5), Some(4)), Some(9));
    }

    #[test]
    fn groups_of_one_name_are_one_and_the_worst_is_named() {
        let lagging = |lag| GroupValues { lag: Lag::Exact(lag), named: true, ..GroupValues::default() };
        let with = |key, lag| {
            let values = Some(lagging(lag));
            member(key, 0, vec![GroupReport::new(Name::from("g"), values)])
        };
        let mut refused = member("c", 0, Vec::new());
        let fold = |streams| {
            let folded = FamilyFold::default().fold(&report(streams));
            family(&folded).groups[0].clone()
        };
        let group = fold(vec![with("a", 3), with("b", 7), refused.clone()]);
        let values = group.values.as_ref().expect("the group is there");
        let worst = group.fold().map(|fold| fold.worst.key.to_string());
        assert_eq!((values.lag, worst.as_deref()), (Lag::Exact(10), Some("b")));

        // The lag of its group may be any.
        (refused.values, refused.refused) = (None, true);
        let group = fold(vec![with("a", 3), with("b", 7), refused]);
        assert_eq!((group.is_named(), group.values), (true, None));
    }
}
