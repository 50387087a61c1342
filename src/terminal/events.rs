//! The events since the view was opened, found by comparing one listing with the next.

use std::collections::HashMap;
use std::time::Duration;

use crate::api::groups::{ListedGroup, ListedTarget, Listing};
use crate::format::severity::Severity;
use crate::format::unicode::printable;
use crate::format::units::count;
use crate::terminal::group_name::GroupName;
use crate::values::table::ENTRIES_LOST_TOTAL;
use redis_stream_lag::report::Status;

/// Events of one kind in one listing that are listed one by one.
const LISTED: usize = 5;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// The time at which it was seen, since the Unix epoch.
    pub(crate) at: Duration,
    pub(crate) text: String,
    pub(crate) severity: Severity,
}

/// Events of one kind: `what` is said of each of `groups`.
struct AlikeEvents {
    what: String,
    severity: Severity,
    groups: Vec<String>,
}

/// Returns what happened between two listings.
pub(crate) fn between(before: &Listing, after: &Listing, at: Duration) -> Vec<Event> {
    let targets_before: HashMap<_, _> = before.targets.iter().map(|one| (one.target.as_str(), one)).collect();
    let mut events: Vec<_> = after
        .targets
        .iter()
        .filter_map(|target| of_target(targets_before.get(target.target.as_str())?, target, at))
        .collect();
    let is_whole = |listing: &Listing| listing.matched <= listing.groups.len();
    let mut kinds = Vec::new();
    let mut old: HashMap<_, _> = before.groups.iter().map(|one| (GroupName::of(one), one)).collect();
    for group in &after.groups {
        let name = GroupName::of(group);
        match old.remove(&name) {
            Some(old) => of_group(&name, old, group, &mut kinds),
            None if group.up && is_whole(before) && was_read(before, &name.target) => {
                add(&mut kinds, "was first seen".to_owned(), Severity::Good, &name);
            }
            None => {}
        }
    }
    let gone = |name: &GroupName| is_whole(after) && was_read(after, &name.target);
    let mut gone: Vec<_> = old.into_keys().filter(gone).collect();
    gone.sort_by(|one, other| (&one.stream, &one.group).cmp(&(&other.stream, &other.group)));
    gone.iter().for_each(|name| add(&mut kinds, "no longer exists".to_owned(), Severity::Bad, name));
    events.extend(kinds.into_iter().flat_map(|kind| kind.events(at)));
    events
}

fn was_read(listing: &Listing, target: &str) -> bool {
    listing.targets.iter().any(|one| one.target == target && one.up && one.streams.is_some())
}

fn of_target(before: &ListedTarget, after: &ListedTarget, at: Duration) -> Option<Event> {
    before.last_successful_poll_timestamp_seconds?;
    let name = printable(&after.target);
    match (before.up, after.up) {
        (true, false) => {
            let error = after.error.as_deref().unwrap_or("no answer");
            let text = format!("target {name} cannot be read: {}", printable(error));
            Some(Event { at, text, severity: Severity::Bad })
        }
        (false, true) => {
            Some(Event { at, text: format!("target {name} answers again"), severity: Severity::Good })
        }
        _ => None,
    }
}

fn of_group(name: &GroupName, before: &ListedGroup, after: &ListedGroup, kinds: &mut Vec<AlikeEvents>) {
    match (before.up, after.up) {
        (true, false) => add(kinds, "no longer exists".to_owned(), Severity::Bad, name),
        (false, true) => add(kinds, "was created".to_owned(), Severity::Good, name),
        _ => {}
    }
    for condition in after.conditions.iter().filter(|one| !before.conditions.contains(one)) {
        add(kinds, format!("became {}", condition.as_str()), Severity::of(Some(*condition)), name);
    }
    // While it is not known, it may hold.
    if after.status.is_some_and(|status| status != Status::Unknown) {
        for condition in before.conditions.iter().filter(|one| !after.conditions.contains(one)) {
            add(kinds, format!("is no longer {}", condition.as_str()), Severity::Good, name);
        }
    }
    let lost = |group: &ListedGroup| group.count(&ENTRIES_LOST_TOTAL);
    if let Some(more) = lost(after).zip(lost(before)).map(|(now, then)| now.saturating_sub(then))
        && more > 0
    {
        let entries = if more == 1 { "entry" } else { "entries" };
        add(kinds, format!("lost at least {} {entries} to trimming", count(more)), Severity::Bad, name);
    }
}

fn add(kinds: &mut Vec<AlikeEvents>, what: String, severity: Severity, name: &GroupName) {
    let words = name.words();
    match kinds.iter_mut().find(|kind| kind.what == what) {
        Some(kind) => kind.groups.push(words),
        None => kinds.push(AlikeEvents { what, severity, groups: vec![words] }),
    }
}

impl AlikeEvents {
    fn events(self, at: Duration) -> Vec<Event> {
        let Self { what, severity, mut groups } = self;
        let more = groups.len().saturating_sub(LISTED);
        groups.truncate(LISTED);
        let mut texts: Vec<_> = groups.into_iter().map(|group| format!("{group} {what}")).collect();
        if more > 0 {
            texts.push(format!("{} more: {what}", count(more as u64)));
        }
        texts.into_iter().map(|text| Event { at, text, severity }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::groups::ListedValues;
    use crate::terminal::test_support::{group, listing};
    use redis_stream_lag::report::GroupValues;

    fn with(name: &str, conditions: &[Status], lost: u64) -> ListedGroup {
        let values = GroupValues { entries_lost: Some(lost), ..GroupValues::default() };
        ListedGroup {
            conditions: conditions.to_vec(),
            status: Some(conditions.first().copied().unwrap_or(Status::Ok)),
            values: ListedValues::of((&values).into()),
            ..group(name, 0, 0)
        }
    }

    fn texts(before: &Listing, after: &Listing) -> Vec<String> {
        between(before, after, Duration::ZERO).into_iter().map(|event| event.text).collect()
    }

    #[test]
    fn what_differs_is_an_event() {
        let before = listing(vec![
            with("mail", &[], 3),
            with("audit", &[Status::Losing, Status::Stuck], 0),
            with("stock", &[Status::Stalled], 0),
            with("old", &[], 0),
        ]);
        let unknown = ListedGroup { status: Some(Status::Unknown), ..with("stock", &[], 0) };
        let after = listing(vec![
            with("mail", &[Status::Losing], 7),
            with("audit", &[Status::Stuck], 0),
            unknown,
            with("new\n", &[Status::Stalled], 9),
        ]);
        insta::assert_snapshot!(texts(&before, &after).join("\n"), @r"
        group mail of stream orders became losing
        group mail of stream orders lost at least 4 entries to trimming
        group audit of stream orders is no longer losing
        group new\x0a of stream orders was first seen
        group old of stream orders no longer exists
        ");
        assert_eq!(texts(&after, &after), [""; 0]);
    }

    #[test]
    fn many_groups_are_not_many_events() {
        let many: Vec<_> = (0..400).map(|n| with(&format!("pod-{n}"), &[], 0)).collect();
        let events = texts(&listing(Vec::new()), &listing(many));
        assert_eq!(events.len(), 6);
        assert_eq!(events[5], "395 more: was first seen");
    }

    #[test]
    fn a_target_that_cannot_be_read_loses_no_groups() {
        let before = listing(vec![with("mail", &[], 0)]);
        let mut after = listing(Vec::new());
        (after.targets[0].up, after.targets[0].streams) = (false, None);
        after.targets[0].error = Some("cannot connect\n".to_owned());
        assert_eq!(texts(&before, &after), ["target t cannot be read: cannot connect\\x0a"]);
        assert_eq!(texts(&after, &before), ["target t answers again"]);
        // What a limit of the answer leaves out may still be there.
        let cut = Listing { matched: 5, ..listing(Vec::new()) };
        assert_eq!((texts(&before, &cut), texts(&cut, &before)), (Vec::new(), Vec::new()));
    }
}
