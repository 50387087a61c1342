//! What leaks on a target: consumers and groups that nothing uses any more, and streams that only grow. It is the work of
//! programs, not of the configuration that is checked, so none of it is a warning.

use std::time::Duration;

use super::{Lines, SHOWN_NAMES};
use crate::format::units::{count, span};
use redis_stream_lag::many_consumers::MAX_LISTED;
use redis_stream_lag::report::{GroupValues, Report, StreamReport, StreamValues};

const DAY: Duration = Duration::from_secs(86_400);

/// Adds a line about each kind of leak that the report shows. `max_idle` is the time after which a consumer is idle.
pub(super) fn describe(report: &Report, max_idle: Duration, lines: &mut Lines) {
    let idle = |values: &GroupValues| values.silent_consumers.map_or(0, |silent| silent.idle().into());
    let stranded =
        |values: &GroupValues| values.silent_consumers.map_or(0, |silent| silent.stranded().into());
    let not_listed =
        |values: &GroupValues| Some(values.consumers).filter(|all| *all > MAX_LISTED).unwrap_or(0);
    let tidy = "streamgauge tidy prints what deletes them";
    let silent_for = format!("no attempt to read for {}", span(max_idle));
    let kinds = [
        (of_groups(report, idle), format!("idle consumers ({silent_for}, nothing pending)"), tidy),
        (
            of_groups(report, stranded),
            format!("stranded consumers ({silent_for}, entries pending)"),
            "these entries wait until another consumer claims them",
        ),
        (
            of_groups(report, not_listed),
            format!(
                "consumers of groups with more than {}, whose idle ones are not counted",
                count(MAX_LISTED)
            ),
            tidy,
        ),
        (
            of_streams(report, |_, values| values.groups_abandoned.get()),
            "groups abandoned for a day".to_owned(),
            tidy,
        ),
        (
            of_streams(report, |stream, values| grows(stream, values).then_some(values.length)),
            "entries of streams that have grown for a day, without a group and never trimmed".to_owned(),
            "readers without a group are not seen",
        ),
    ];
    for (found, what, advice) in kinds {
        if let Some((total, places)) = largest(found) {
            lines.add("leaks", &format!("{what}: {} ({places}); {advice}", count(total)));
        }
    }
}

/// Returns true if a stream without groups was added to in the last day, its oldest entry is older, and nothing was ever
/// removed. Not known before server 7.0.
fn grows(stream: &StreamReport, values: &StreamValues) -> bool {
    let age = |time: Option<Duration>| time.map(|time| stream.read_at.get().saturating_sub(time));
    values.groups == 0
        && values.entries_added == Some(values.length.into())
        && age(values.first_entry()).is_some_and(|age| age >= DAY)
        && age(values.last_generated()).is_some_and(|age| age < DAY)
}

fn of_groups(report: &Report, number: impl Fn(&GroupValues) -> u64) -> Vec<(u64, String)> {
    let numbers = report.groups().filter_map(|(stream, group)| {
        Some((number(group.values.as_ref()?), format!("{} / {}", stream.key, group.name)))
    });
    numbers.filter(|(number, _)| *number > 0).collect()
}

fn of_streams(
    report: &Report,
    number: impl Fn(&StreamReport, &StreamValues) -> Option<u64>,
) -> Vec<(u64, String)> {
    let numbers = report
        .streams
        .iter()
        .filter_map(|stream| Some((number(stream, stream.values.as_ref()?)?, stream.key.to_string())));
    numbers.filter(|(number, _)| *number > 0).collect()
}

/// Returns the total, and the places with the largest numbers; `None` if there is none.
fn largest(mut found: Vec<(u64, String)>) -> Option<(u64, String)> {
    let total = found.iter().map(|(number, _)| number).sum();
    found.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    let more = found.len().saturating_sub(SHOWN_NAMES);
    let mut places: Vec<_> = found
        .into_iter()
        .take(SHOWN_NAMES)
        .map(|(number, place)| format!("{place} {}", count(number)))
        .collect();
    places.extend((more > 0).then(|| format!("and {} more", count(more as u64))));
    (total > 0).then(|| (total, places.join(", ")))
}
