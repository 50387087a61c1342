//! One group: its values, consumers and pending entries.

use std::fmt::Write as _;
use std::time::UNIX_EPOCH;

use ratatui::layout::Rect;
use ratatui::style::Modifier;
use ratatui::text::{Line, Span, Text};

use crate::api::groups::{ListedConsumer, ListedGroup, ListedHold, ListedPending};
use crate::format::unicode::printable;
use crate::format::units::{clock, count};
use crate::terminal::colour::colour;
use crate::terminal::columns::{self, drained_cell, lag, severity, value};
use crate::terminal::entries;
use crate::terminal::event_line::event_line;
use crate::terminal::layout::{Align, Cut, Heading, TextTable, WHERE_WIDE};
use crate::terminal::status_view::{EntryList, StatusView};
use crate::terminal::text::{UNKNOWN, span, span_or_unknown};
use crate::values::family::Family;
use crate::values::table;

const NOT_AVAILABLE: &str = "only with --redis-url or --config; a running streamgauge lists no entries";

/// Wider than each label of the table.
const LABEL_WIDTH: usize = 26;

const CONSUMERS: [Heading; 4] = [
    Heading { title: "CONSUMER", align: Align::Left, expendable: None, cut: Cut::Middle(8) },
    Heading { title: "PENDING", align: Align::Right, expendable: None, cut: Cut::Never },
    Heading { title: "IDLE", align: Align::Right, expendable: None, cut: Cut::Never },
    Heading { title: "INACTIVE", align: Align::Right, expendable: Some(WHERE_WIDE), cut: Cut::Never },
];

const WORST_PENDING: [Heading; 4] = [
    Heading { title: "ID", align: Align::Left, expendable: None, cut: Cut::Never },
    Heading { title: "CONSUMER", align: Align::Left, expendable: None, cut: Cut::Middle(8) },
    Heading { title: "IDLE", align: Align::Right, expendable: None, cut: Cut::Never },
    Heading { title: "DELIVERIES", align: Align::Right, expendable: None, cut: Cut::Never },
];

/// Returns the lines of the selected group.
pub(super) fn detail(view: &StatusView, area: Rect) -> Text<'static> {
    let Some(group) = view.group() else { return Text::from("this group no longer exists") };
    let room = Some(usize::from(area.width));
    let mut text = Text::default();
    if view.is_old(group) {
        text.push_line(Line::styled("the target cannot be read: these are its last values", Modifier::DIM));
    }
    let status = Span::styled(columns::conditions(group), colour(severity(group)));
    let rest = match (&group.unknown_until, &group.since) {
        (Some(end), _) => format!(" until {}", moment(view, end)),
        (None, Some(began)) => format!(" since {}", moment(view, began)),
        (None, None) => String::new(),
    };
    text.push_line(Line::from(vec![
        Span::raw(format!("{:<LABEL_WIDTH$}", "Status")),
        status,
        Span::raw(rest),
    ]));
    if let Some((time, least, greatest)) = view.history.range(group) {
        let range = format!("{} to {} in {}", count(least), count(greatest), span(time.as_secs_f64()));
        let chart = view.history.chart(group, usize::MAX);
        text.push_line(format!("{:<LABEL_WIDTH$}{chart} {range}", "Recent lag"));
    }
    for (name, value) in details(group) {
        text.push_line(format!("{name:<LABEL_WIDTH$}{value}"));
    }
    if let Some(hold) = &group.holds {
        text.push_line(format!("{:<LABEL_WIDTH$}{}", "Holds the stream", held(hold)));
    }
    lists(view, group, room, &mut text);
    events(view, &mut text);
    text
}

/// Formats a time of the JSON as a time of day.
fn moment(view: &StatusView, rfc3339: &str) -> String {
    let at = humantime::parse_rfc3339(rfc3339).ok().and_then(|at| at.duration_since(UNIX_EPOCH).ok());
    at.map_or_else(|| printable(rfc3339).into_owned(), |at| clock(at, view.now))
}

/// Events of a group that are listed.
const EVENTS: usize = 20;

/// Appends the events of the group, its stream and its target.
fn events(view: &StatusView, text: &mut Text<'static>) {
    text.push_line("");
    text.push_line(Line::styled("Recent events", Modifier::BOLD));
    let before = text.lines.len();
    text.extend(view.events_of_selected().take(EVENTS).map(|event| event_line(view, event)));
    if text.lines.len() == before {
        text.push_line("none");
    }
}

/// Appends the consumers and the pending entries.
fn lists(view: &StatusView, group: &ListedGroup, room: Option<usize>, text: &mut Text<'static>) {
    text.push_line("");
    let title = format!("Consumers: {}", value(group, &table::CONSUMERS));
    section(text, title, &consumers(group, room));
    let pending = group.count(&table::MESSAGES_PENDING);
    let (listed, is_complete) = match &view.entries {
        EntryList::Loading => (vec!["reading\u{2026}".to_owned()], true),
        EntryList::Failed(why) => (vec![printable(why).into_owned()], false),
        EntryList::NotAvailable => (vec![NOT_AVAILABLE.to_owned()], false),
        EntryList::Listed(list) if list.is_empty() => (vec!["none".to_owned()], true),
        EntryList::Listed(list) => {
            (entries::table(list, room), pending.is_none_or(|pending| list.len() as u64 >= pending))
        }
    };
    let mut sections = vec![("Pending entries, from the oldest on", listed)];
    // A list of all of them shows those as well.
    let worst = group.worst_pending.as_deref().filter(|worst| !worst.is_empty() && !is_complete);
    if let Some(worst) = worst {
        // A long list would leave no room for what follows it.
        let at = if matches!(view.entries, EntryList::Listed(_)) { 0 } else { 1 };
        sections.insert(at, ("Pending entries that stand out", worst_pending(worst, room)));
    }
    for (title, lines) in sections {
        text.push_line("");
        section(text, title.to_owned(), &lines);
    }
}

/// Values that share the line of the one before, beside those about the same thing.
const SHARING: [&Family; 5] = [
    &table::CONSUMERS_STRANDED,
    &table::ENTRIES_ACKNOWLEDGED_TOTAL,
    &table::DELIVERED_PER_SECOND,
    &table::BACKLOG,
    &table::DRAIN_SECONDS,
];

/// Describes what a group holds, with the command that trims the rest.
fn held(hold: &ListedHold) -> String {
    let waits_for = printable(&hold.waits_for);
    match hold.trimmable_entries {
        Some(0) => format!("it waits for {waits_for}"),
        entries => {
            let entries = entries.map_or_else(|| UNKNOWN.to_owned(), count);
            let command = hold.trim_command.as_deref().map(|command| format!(": {}", printable(command)));
            let command = command.unwrap_or_default();
            format!("it waits for {waits_for}; {entries} entries can be trimmed{command}")
        }
    }
}

/// Returns the values of a group with their labels. Values about the same entry share a line.
fn details(group: &ListedGroup) -> Vec<(&'static str, String)> {
    let mut lines = vec![("Lag", lag(group))];
    let mut counted_by = None;
    let is_same = |family: &Family, before| family.counted_by.is_some() && family.counted_by == before;
    let is_shown = |family: &&&Family| **family != &table::CONSUMERS && !group.has_nothing_of(family);
    for family in table::GROUP_VALUES.iter().filter(is_shown) {
        let Some(label) = family.label else { continue };
        let text = match *family == &table::DRAIN_SECONDS {
            true => drained_cell(group),
            false => value(group, family),
        };
        match lines.last_mut() {
            Some((_, line)) if SHARING.contains(family) || is_same(family, counted_by) => {
                let _ = write!(line, ", {} {text}", label.name.to_lowercase());
            }
            _ => lines.push((label.name, text)),
        }
        counted_by = family.counted_by;
    }
    lines
}

fn section(text: &mut Text<'static>, title: String, lines: &[String]) {
    text.push_line(Line::styled(title, Modifier::BOLD));
    for line in lines {
        text.push_line(line.clone());
    }
}

fn worst_pending(entries: &[ListedPending], room: Option<usize>) -> Vec<String> {
    let row = |entry: &ListedPending| {
        let consumer = Some(&entry.consumer).filter(|name| !name.is_empty());
        vec![
            printable(&entry.id).into_owned(),
            consumer.map_or_else(|| "-".to_owned(), |name| printable(name).into_owned()),
            entry.idle_seconds.map_or_else(|| "-".to_owned(), span),
            entry.deliveries.map_or_else(|| "fatal".to_owned(), count),
        ]
    };
    TextTable::new(WORST_PENDING.to_vec(), entries.iter().map(row).collect(), room).lines()
}

fn consumers(group: &ListedGroup, room: Option<usize>) -> Vec<String> {
    let is_none = group.count(&table::CONSUMERS) == Some(0);
    let list = group.consumer_list.as_deref().or(is_none.then_some(&[][..]));
    let Some(list) = list else { return vec!["not read".to_owned()] };
    if list.is_empty() {
        return vec!["none".to_owned()];
    }
    let row = |consumer: &ListedConsumer| {
        vec![
            printable(&consumer.consumer).into_owned(),
            count(consumer.messages_pending),
            span(consumer.idle_seconds),
            span_or_unknown(consumer.inactive_seconds),
        ]
    };
    TextTable::new(CONSUMERS.to_vec(), list.iter().map(row).collect(), room).lines()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_entries_that_stand_out_read_easily() {
        let entry = |id: &str, consumer: &str, deliveries, idle_seconds| ListedPending {
            id: id.to_owned(),
            consumer: consumer.to_owned(),
            deliveries,
            idle_seconds,
        };
        let lines = worst_pending(
            &[entry("1-0", "", None, None), entry("1700000000000-12", "wor\nker", Some(1_000), Some(90.0))],
            None,
        );
        insta::assert_snapshot!(lines.join("\n"), @r"
        ID                CONSUMER      IDLE  DELIVERIES
        1-0               -                -       fatal
        1700000000000-12  wor\x0aker  1m 30s       1,000
        ");
    }
}
