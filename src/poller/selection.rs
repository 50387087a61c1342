//! Selects by the configuration: the item that applies to a key, and the groups of a stream that are reported.

use crate::config::{Limits, StreamRule, Target};
use crate::poller::decode::xinfo::XinfoGroup;
use redis_stream_core::id::StreamId;
use redis_stream_core::name::Name;
use redis_stream_lag::snapshot::{ConsumerInfo, ConsumerLimit, ConsumersReading, GroupInfo};

/// Maximum number of consumers of a group that are read: XINFO CONSUMERS takes about 1 ms of the server's time for these.
pub(crate) const MAX_CONSUMERS: u64 = 5_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct LeftOut {
    /// Groups above `groups_per_stream`.
    pub(super) groups: u32,
    /// Live consumers of groups with more of these than `consumers_per_group`, and all of groups with too many to be
    /// read.
    pub(super) consumers: u32,
}

impl LeftOut {
    pub(super) fn add_consumers(&mut self, count: impl TryInto<u32>) {
        self.consumers = self.consumers.saturating_add(at_most_u32(count));
    }
}

/// Returns the number, or the largest of the type if it is larger.
pub(super) fn at_most_u32(number: impl TryInto<u32>) -> u32 {
    number.try_into().unwrap_or(u32::MAX)
}

/// Position of an item in `targets[].streams`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RuleIndex(u32);

impl RuleIndex {
    pub(super) fn new(at: usize) -> Self {
        Self(u32::try_from(at).expect("a configuration has less than four billion items"))
    }

    pub(super) fn get(self) -> usize {
        self.0 as usize
    }
}

/// Returns the first item that matches a key; `None` if there is none, or if it excludes the key.
pub(super) fn rule_for(rules: &[StreamRule], key: &[u8]) -> Option<RuleIndex> {
    let at = rules.iter().position(|rule| rule.key.matches(key))?;
    (!rules[at].exclude.iter().any(|glob| glob.matches(key))).then_some(RuleIndex::new(at))
}

/// Returns the family of a stream that a rule applies to: that of the rule, or the one that has the stream's key as its
/// name, since two series must not have the same labels.
pub(super) fn family_of(rules: &[StreamRule], rule: RuleIndex, key: &Name) -> Option<Name> {
    let own = rules[rule.get()].family.as_ref();
    let named = || rules.iter().filter_map(|rule| rule.family.as_ref()).find(|family| *family == key);
    own.or_else(named).cloned()
}

/// Returns true if the configuration of a target selects a family or a stream that belongs to none, or a group of it,
/// whatever the limits leave out.
pub(crate) fn selects(target: &Target, key: &Name, group: Option<&Name>) -> bool {
    let rules = &target.streams;
    let has_group = |rule: &StreamRule| group.is_none_or(|group| is_selected(rule, group.as_bytes()));
    let mut of_family = rules.iter().filter(|rule| rule.family.as_ref() == Some(key)).peekable();
    if of_family.peek().is_some() {
        return of_family.any(has_group);
    }
    rule_for(rules, key.as_bytes()).is_some_and(|rule| {
        let rule = &rules[rule.get()];
        rule.family.is_none() && has_group(rule)
    })
}

/// The groups of a stream that are reported.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Selection {
    /// Ordered by name.
    pub(super) groups: Vec<GroupInfo>,
    /// Groups that the rule names and the stream does not have.
    pub(super) missing: Vec<Name>,
    pub(super) left_out: LeftOut,
}

impl Selection {
    /// Adds the consumers of a group, if the group is reported.
    pub(super) fn add_consumers(
        &mut self,
        group: &Name,
        consumers: Vec<ConsumerInfo>,
        limit: &ConsumerLimit,
    ) {
        let Ok(at) = self.groups.binary_search_by(|other| other.name.cmp(group)) else { return };
        let each_consumer = &mut self.groups[at].each_consumer;
        if *each_consumer == ConsumersReading::Open {
            self.left_out.add_consumers(limit.left_out(&consumers));
            *each_consumer = ConsumersReading::Read(consumers.into());
        }
    }
}

/// The inputs of a selection, besides the groups.
#[derive(Clone, Copy, Debug)]
pub(super) struct SelectionInput<'a> {
    pub(super) rule: &'a StreamRule,
    pub(super) limits: &'a Limits,
    pub(super) wants_consumers: bool,
    /// The names that were reported last, ordered.
    pub(super) shown: &'a [Name],
    /// The stream's last-generated-id: a group that stands below it is behind.
    pub(super) last_generated: StreamId,
}

/// Selects the groups that are reported. Groups that the rule names are always reported, outside the limit. Above the
/// limit, groups that are behind, have pending entries or consumers come before idle ones, those that were reported
/// last before others, and then by name.
pub(super) fn select(input: SelectionInput<'_>, mut found: Vec<XinfoGroup<'_>>) -> Selection {
    let SelectionInput { rule, limits, wants_consumers, shown, last_generated } = input;
    found.retain(|group| is_selected(rule, group.name));
    found.sort_by(|a, b| a.name.cmp(b.name));
    // A server returns each group once; a proxy that repeats one must not create two series.
    found.dedup_by(|second, first| second.name == first.name);
    let missing = missing_groups(rule, &found);
    let mut left_out = LeftOut::default();
    if found.len() > limits.groups_per_stream {
        let named = found.iter().filter(|group| is_named(rule, group.name)).count();
        let kept = found.len().min(named + limits.groups_per_stream);
        left_out.groups = at_most_u32(found.len() - kept);
        found.sort_by_cached_key(|group| {
            let is_idle =
                group.pending == 0 && group.consumers == 0 && group.last_delivered >= last_generated;
            let is_shown = position(shown, group.name).is_some();
            (!is_named(rule, group.name), is_idle, !is_shown)
        });
        found.truncate(kept);
        found.sort_unstable_by(|a, b| a.name.cmp(b.name));
    }
    let groups = found
        .into_iter()
        .map(|group| {
            let too_many = group.consumers > MAX_CONSUMERS;
            if wants_consumers && too_many {
                left_out.add_consumers(group.consumers);
            }
            let each_consumer = match wants_consumers {
                true if too_many => ConsumersReading::TooMany,
                true => ConsumersReading::Open,
                false => ConsumersReading::NotWanted,
            };
            facts(rule, each_consumer, shown, &group)
        })
        .collect();
    Selection { groups, missing, left_out }
}

/// Returns the groups that a rule names.
pub(super) fn named_groups(rule: &StreamRule) -> Vec<Name> {
    missing_groups(rule, &[])
}

fn missing_groups(rule: &StreamRule, found: &[XinfoGroup<'_>]) -> Vec<Name> {
    let literals = rule.include_groups.iter().filter_map(|glob| glob.literal());
    let mut missing: Vec<Name> = literals
        .filter(|name| found.binary_search_by(|group| group.name.cmp(name)).is_err())
        .map(|name| Name::from(&*name))
        .collect();
    missing.sort_unstable();
    missing.dedup();
    missing
}

fn facts(
    rule: &StreamRule,
    each_consumer: ConsumersReading,
    shown: &[Name],
    group: &XinfoGroup<'_>,
) -> GroupInfo {
    let named = is_named(rule, group.name);
    // Reuses the last poll's name: one allocation for as long as the group lives.
    let name = position(shown, group.name).map_or_else(|| Name::from(group.name), |at| shown[at].clone());
    group.facts(name, named, each_consumer)
}

fn is_named(rule: &StreamRule, name: &[u8]) -> bool {
    rule.include_groups.iter().filter_map(|glob| glob.literal()).any(|literal| *literal == *name)
}

fn position(shown: &[Name], name: &[u8]) -> Option<usize> {
    shown.binary_search_by(|other| other.as_bytes().cmp(name)).ok()
}

fn is_selected(rule: &StreamRule, name: &[u8]) -> bool {
    let matches = |glob: &redis_stream_core::glob::Glob| glob.matches(name);
    rule.include_groups.iter().any(matches) && !rule.exclude_groups.iter().any(matches)
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis_stream_core::glob::Glob;

    fn rule(include: &[&str], exclude: &[&str]) -> StreamRule {
        let globs = |patterns: &[&str]| patterns.iter().map(|pattern| Glob::new(*pattern)).collect();
        StreamRule {
            key: Glob::new("*"),
            exclude: Vec::new(),
            include_groups: globs(include),
            exclude_groups: globs(exclude),
            consumers: true,
            window: std::time::Duration::ZERO,
            family: None,
        }
    }

    fn input<'a>(rule: &'a StreamRule, limits: &'a Limits, shown: &'a [Name]) -> SelectionInput<'a> {
        SelectionInput { rule, limits, wants_consumers: true, shown, last_generated: StreamId::default() }
    }

    fn select_names(
        rule: &StreamRule,
        limit: usize,
        shown: &[&str],
        found: &[&str],
    ) -> (String, String, usize) {
        let limits = Limits { streams: 1, groups_per_stream: limit, consumers_per_group: 2 };
        let shown: Vec<Name> = shown.iter().map(|name| Name::from(*name)).collect();
        let found = found.iter().map(|name| XinfoGroup { name: name.as_bytes(), ..Default::default() });
        let selection = select(input(rule, &limits, &shown), found.collect());
        let join = |names: Vec<String>| names.join(" ");
        (
            join(selection.groups.iter().map(|group| group.name.to_string()).collect()),
            join(selection.missing.iter().map(ToString::to_string).collect()),
            selection.left_out.groups as usize,
        )
    }

    #[test]
    fn groups_are_selected_by_globs_and_named_ones_are_missed() {
        let rule = rule(&["a*", "b", "c"], &["ax"]);
        let selected = select_names(&rule, 10, &[], &["c", "ax", "a2", "a1", "d"]);
        assert_eq!(selected, ("a1 a2 c".to_owned(), "b".to_owned(), 0));
    }

    #[test]
    fn past_the_limit_groups_already_shown_stay() {
        let rule = rule(&["*"], &[]);
        assert_eq!(select_names(&rule, 2, &[], &["c", "b", "a"]).0, "a b");
        assert_eq!(
            select_names(&rule, 2, &["b", "c"], &["c", "b", "a"]),
            ("b c".to_owned(), String::new(), 1)
        );
    }

    #[test]
    fn groups_that_the_rule_names_are_outside_the_limit_and_never_missing() {
        let rule = rule(&["zz", "*"], &[]);
        let found: Vec<String> = (0..5).map(|n| format!("pod-{n}")).chain(["zz".to_owned()]).collect();
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(select_names(&rule, 2, &[], &found), ("pod-0 pod-1 zz".to_owned(), String::new(), 3));
        assert_eq!(select_names(&rule, 2, &["pod-3", "pod-4", "zz"], &found).0, "pod-3 pod-4 zz");
    }

    #[test]
    fn past_the_limit_groups_with_work_come_before_idle_ones() {
        let limits = Limits { streams: 1, groups_per_stream: 3, consumers_per_group: 2 };
        let (rule, shown) = (rule(&["*"], &[]), ["b".into(), "e".into()]);
        let id = |ms| StreamId { ms, seq: 0 };
        let group = |name: &'static str, pending, consumers, ms| XinfoGroup {
            name: name.as_bytes(),
            pending,
            consumers,
            last_delivered: id(ms),
            ..Default::default()
        };
        let found = vec![
            group("a", 0, 0, 9),
            group("b", 0, 0, 9),
            group("c", 0, 0, 8),
            group("d", 1, 0, 9),
            group("e", 0, 1, 9),
            group("f", 0, 0, 5),
        ];
        let input = SelectionInput { last_generated: id(9), ..input(&rule, &limits, &shown) };
        let selection = select(input, found);
        let names: Vec<_> = selection.groups.iter().map(|group| group.name.to_string()).collect();
        assert_eq!((names.join(" ").as_str(), selection.left_out.groups), ("c d e", 3));
    }

    #[test]
    fn a_group_that_is_returned_twice_is_one() {
        assert_eq!(
            select_names(&rule(&["*"], &[]), 2, &[], &["b", "a", "b"]),
            ("a b".to_owned(), String::new(), 0)
        );
    }

    #[test]
    fn more_consumers_than_can_be_read_are_not_asked_for() {
        let limits = Limits { streams: 1, groups_per_stream: 9, consumers_per_group: 2 };
        let group = |name: &'static str, consumers| XinfoGroup {
            name: name.as_bytes(),
            consumers,
            ..Default::default()
        };
        let found = vec![group("a", MAX_CONSUMERS), group("b", MAX_CONSUMERS + 1)];
        let rule = rule(&["*"], &[]);
        let selection = select(input(&rule, &limits, &[]), found);
        let readings: Vec<_> = selection.groups.iter().map(|group| group.each_consumer.clone()).collect();
        assert_eq!(readings, [ConsumersReading::Open, ConsumersReading::TooMany]);
        assert_eq!(selection.left_out.consumers, 5_001);
    }
}
