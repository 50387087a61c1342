//! `streamgauge status`: the groups as a table that is printed once, with a summary.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use bytesize::ByteSize;

use crate::api::groups::{ListedGroup, ListedLimits, ListedTarget, Listing};
use crate::format::severity::Severity;
use crate::format::unicode::printable;
use crate::format::units::{count, counted};
use crate::terminal::columns::{self, TableLine, severity, status};
use crate::terminal::layout::line;
use redis_stream_lag::report::Status;

/// Returns the table for a terminal of this width (`None`: without a limit), with colours.
pub(crate) fn render(listing: &Listing, room: Option<usize>) -> String {
    let mut text = String::new();
    if !listing.groups.is_empty() {
        let lines: Vec<_> = listing.groups.iter().map(TableLine::of).collect();
        let table = columns::table(listing, &lines, room);
        let bold = Style::new().bold();
        let _ = writeln!(text, "{bold}{}{bold:#}", line(&table.heading()));
        for (group, mut cells) in listing.groups.iter().zip(table.rows()) {
            let style = style(severity(group));
            cells[0] = format!("{style}{}{style:#}", cells[0]);
            let _ = writeln!(text, "{}", line(&cells));
        }
        text.push('\n');
    }
    text + &summary(listing) + "\n"
}

fn style(severity: Severity) -> Style {
    let colour = match severity {
        Severity::Bad => AnsiColor::Red,
        Severity::Poor | Severity::Unknown => AnsiColor::Yellow,
        Severity::Good => AnsiColor::Green,
    };
    Style::new().fg_color(Some(colour.into()))
}

/// Returns the number of groups of each status: `3 groups: 1 stalled, 2 ok`.
pub(crate) fn summary(listing: &Listing) -> String {
    let groups = &listing.groups;
    let streams: Vec<_> = listing.targets.iter().filter_map(|target| target.streams).collect();
    let of_streams = match streams.iter().sum::<usize>() {
        _ if streams.is_empty() => String::new(),
        number => format!(" of {}", counted(number, "stream", "streams")),
    };
    let mut parts = Vec::new();
    let mut part = |name: &str, number: usize| {
        if number > 0 {
            parts.push(format!("{number} {name}"));
        }
    };
    let count = |is_it: &dyn Fn(&ListedGroup) -> bool| groups.iter().filter(|group| is_it(group)).count();
    part("missing", count(&|group| status(group) == "missing"));
    for each in Status::ALL {
        part(each.as_str(), count(&|group| group.status == Some(each)));
    }
    let left_out = listing.matched.saturating_sub(groups.len());
    let more = if left_out > 0 { format!(" ({left_out} more not shown)") } else { String::new() };
    let of_status = if parts.is_empty() { String::new() } else { format!(": {}", parts.join(", ")) };
    format!("{}{of_streams}{of_status}{more}", counted(groups.len(), "group", "groups"))
}

/// Returns a line for each limit that leaves something out of a target.
pub(crate) fn limited(listing: &Listing) -> Vec<String> {
    let of_target = |target: &ListedTarget| {
        let name = printable(&target.target).into_owned();
        limits(&target.limited).into_iter().map(move |text| format!("target {name:?}: {text}"))
    };
    listing.targets.iter().flat_map(of_target).collect()
}

/// Number of unread streams of a target that are named.
const NAMED: usize = 5;

/// Returns a line for each target with streams that grow and that no group reads.
pub(crate) fn unread_streams(listing: &Listing) -> Vec<String> {
    let of_target = |target: &ListedTarget| {
        let streams = &target.streams_unread;
        let named: Vec<_> =
            streams.iter().take(NAMED).map(|stream| format!("{:?}", printable(stream))).collect();
        let more = if streams.len() > NAMED { " and others" } else { "" };
        format!(
            "target {:?}: {} grow and have no group and no trimming: {}{more}; readers without a group are not seen",
            printable(&target.target),
            counted(streams.len(), "stream", "streams"),
            named.join(", ")
        )
    };
    listing.targets.iter().filter(|target| !target.streams_unread.is_empty()).map(of_target).collect()
}

/// Returns a line for each target with groups that have been abandoned for a day.
pub(crate) fn groups_abandoned(listing: &Listing) -> Vec<String> {
    let of_target = |target: &ListedTarget| {
        let streams = target.streams_with_groups_abandoned.iter();
        let streams: Vec<_> = streams
            .map(|one| format!("{} of {:?}", count(one.groups_abandoned), printable(&one.stream)))
            .collect();
        format!(
            "target {:?}: groups abandoned for a day or longer: {}; streamgauge tidy prints what deletes unused ones",
            printable(&target.target),
            streams.join(", ")
        )
    };
    let has_any = |target: &&ListedTarget| !target.streams_with_groups_abandoned.is_empty();
    listing.targets.iter().filter(has_any).map(of_target).collect()
}

/// Returns a line for each target of which it is known how much memory streams take.
pub(crate) fn largest_streams(listing: &Listing) -> Vec<String> {
    let of_target = |target: &ListedTarget| {
        let streams = target.largest_streams.iter();
        let streams: Vec<_> = streams
            .map(|one| format!("{:?} {}", printable(&one.stream), ByteSize(one.memory_bytes)))
            .collect();
        format!(
            "target {:?}: streams that take the most memory: {}",
            printable(&target.target),
            streams.join(", ")
        )
    };
    listing.targets.iter().filter(|target| !target.largest_streams.is_empty()).map(of_target).collect()
}

/// Returns a sentence about each limit that leaves something out.
pub(crate) fn limits(limited: &ListedLimits) -> Vec<String> {
    let ListedLimits { streams, groups, consumers } = *limited;
    let mut texts = Vec::new();
    let mut add = |number: usize, (one, many), limit: &str, name: &str| {
        if number > 0 {
            let counted = counted(number, one, many);
            texts.push(format!("{counted} left out by limits.{limit}; {name}, or raise the limit"));
        }
    };
    add(streams, ("stream is", "streams are"), "streams", "name those that matter");
    add(groups, ("group is", "groups are"), "groups_per_stream", "name those that matter");
    add(consumers, ("consumer is", "consumers are"), "consumers_per_group", "delete those that are gone");
    texts
}

/// Returns a line for each target, stream and group that could not be read.
pub(crate) fn unread(listing: &Listing) -> Vec<String> {
    let mut lines = Vec::new();
    for target in &listing.targets {
        let name = printable(&target.target);
        match (&target.error, target.streams) {
            (Some(error), None) => lines.push(format!("target {name:?}: {}", printable(error))),
            (Some(error), Some(_)) if target.up => {
                lines.push(format!("target {name:?}: {}", printable(error)));
            }
            (Some(error), Some(_)) => {
                lines.push(format!("target {name:?}, shown as read before: {}", printable(error)));
            }
            (None, None) => lines.push(format!("target {name:?}: not read yet")),
            (None, Some(_)) => {}
        }
        for stream in &target.streams_down {
            lines.push(format!(
                "target {name:?}: stream {:?} is missing, of another type or denied",
                printable(stream)
            ));
        }
    }
    for group in listing.groups.iter().filter(|group| status(group) == "missing") {
        lines.push(format!(
            "target {:?}: stream {:?} has no group {:?}",
            printable(&group.target),
            printable(&group.stream),
            printable(&group.group)
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::api::groups::ListedValues;
    use redis_stream_lag::report::{Age, EntryRate, GroupValues, Lag};

    fn group(name: &str, status: Status, lag: Option<u64>, messages_pending: u64) -> ListedGroup {
        ListedGroup {
            target: "cache:6379".to_owned(),
            db: "db0".to_owned(),
            stream: "orders".to_owned(),
            group: name.to_owned(),
            up: true,
            status: Some(status),
            values: ListedValues::of(
                (&GroupValues {
                    lag: lag.map_or(Lag::Between { min: 1_200.into(), max: 5_000 }, Lag::Exact),
                    lag_seconds: lag.map(|_| Duration::from_millis(192_400)).map(Age::of),
                    messages_pending,
                    consumers: 2,
                    drain_time: (lag.map(|_| Duration::from_secs(400))).map(Into::into),
                    added_rate: lag.map(|_| EntryRate::new(6, Duration::from_secs(4))),
                    delivered_rate: lag.map(|_| EntryRate::new(40, Duration::from_secs(4))),
                    ..GroupValues::default()
                })
                    .into(),
            ),
            ..ListedGroup::default()
        }
    }

    fn listing() -> Listing {
        let missing =
            ListedGroup { stream: "bills".to_owned(), group: "tax".to_owned(), ..ListedGroup::default() };
        let groups = vec![
            missing,
            group("mail\x1b[2J", Status::Stalled, Some(1_213), 3),
            group("audit-of-everything-there-is", Status::Unknown, None, 3),
            group("idle", Status::Ok, Some(0), 0),
        ];
        let target = ListedTarget {
            target: "cache:6379".to_owned(),
            up: true,
            streams: Some(2),
            ..ListedTarget::default()
        };
        Listing { matched: groups.len(), groups, targets: vec![target] }
    }

    fn plain(listing: &Listing, room: Option<usize>) -> String {
        anstream::adapter::strip_str(&render(listing, room)).to_string()
    }

    #[test]
    fn unknown_is_never_0_and_names_are_harmless() {
        insta::assert_snapshot!(plain(&listing(), None), @r"
        STATUS   STREAM  GROUP                                  LAG    TREND  BEHIND  PENDING  OLDEST  CONSUMERS   DRAIN  IN/S  OUT/S
        missing  bills   tax                                      ?        ?       ?        ?       ?          ?       ?     ?      ?
        stalled  orders  mail\x1b[2J                          1,213  ▼ 8.5/s  3m 12s        3       ?          2  6m 40s   1.5   10.0
        unknown  orders  audit-of-everything-there-is  1,200..5,000        ?       ?        3       ?          2       ?     ?      ?
        ok       orders  idle                                     0        -  3m 12s        0       -          2  6m 40s   1.5   10.0

        4 groups of 2 streams: 1 missing, 1 stalled, 1 unknown, 1 ok
        ");
    }

    #[test]
    fn it_fits_a_narrow_terminal() {
        for room in [80, 60, 40] {
            let text = plain(&listing(), Some(room));
            assert!(text.lines().take(5).all(|line| crate::terminal::text::width(line) <= room), "{text}");
        }
        insta::assert_snapshot!(plain(&listing(), Some(50)), @r"
        STATUS   STREAM  GROUP                 LAG  BEHIND
        missing  bills   tax                     ?       ?
        stalled  orders  mail\x1b[2J         1,213  3m 12s
        unknown  orders  audit…re-is  1,200..5,000       ?
        ok       orders  idle                    0  3m 12s

        4 groups of 2 streams: 1 missing, 1 stalled, 1 unknown, 1 ok
        ");
    }

    #[test]
    fn colours_go_by_how_bad_it_is() {
        let text = render(&listing(), None);
        assert!(text.contains("\x1b[31mstalled"), "{text:?}");
        assert!(text.contains("\x1b[33munknown"), "{text:?}");
        assert!(text.contains("\x1b[32mok"), "{text:?}");
    }

    #[test]
    fn what_could_not_be_read_is_said() {
        let mut listing = listing();
        listing.targets[0].streams_down = vec!["gone".to_owned()];
        let down = ListedTarget {
            target: "other".to_owned(),
            error: Some("cannot connect".to_owned()),
            ..ListedTarget::default()
        };
        let stale = ListedTarget { target: "third".to_owned(), streams: Some(1), ..down.clone() };
        listing.targets[0].streams_unread = (1..=6).map(|n| format!("log:{n}")).collect();
        insta::assert_snapshot!(unread_streams(&listing).join("\n"), @r#"target "cache:6379": 6 streams grow and have no group and no trimming: "log:1", "log:2", "log:3", "log:4", "log:5" and others; readers without a group are not seen"#);
        listing.targets.extend([
            down,
            stale,
            ListedTarget { target: "new".to_owned(), ..ListedTarget::default() },
        ]);
        insta::assert_snapshot!(unread(&listing).join("\n"), @r#"
        target "cache:6379": stream "gone" is missing, of another type or denied
        target "other": cannot connect
        target "third", shown as read before: cannot connect
        target "new": not read yet
        target "": stream "bills" has no group "tax"
        "#);
    }

    #[test]
    fn nothing_is_said_in_a_line() {
        assert_eq!(plain(&Listing::default(), None), "0 groups\n");
    }
}
