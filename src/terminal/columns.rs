//! The columns of the table of groups, and the order of its rows.

use std::cmp::{Ordering, Reverse};

use serde_json::Number;

use crate::api::groups::{ListedGroup, Listing};
use crate::format::severity::Severity;
use crate::format::trend::{Drained, Trend};
use crate::format::unicode::printable;
use crate::format::units::{count, rate_number};
use crate::terminal::layout::{Align, Cut, Heading, TextTable, WHERE_WIDE};
use crate::terminal::text::{UNKNOWN, span};
use crate::values::family::{Family, ValueUnit};
use crate::values::table::{
    ADDED_PER_SECOND, CONSUMERS, DELIVERED_PER_SECOND, DRAIN_SECONDS, LAG, LAG_MAX, LAG_MIN, LAG_SECONDS,
    MESSAGES_PENDING, OLDEST_PENDING_AGE_SECONDS,
};
use redis_stream_lag::report::Status;

/// The content of a column.
#[derive(Clone, Copy)]
enum TerminalColumn {
    /// Of a folded line, that of its first group.
    Text(fn(&ListedGroup) -> String),
    /// Of a folded line, the family of its streams if they have one.
    Stream,
    Group,
    Lag,
    Trend,
    Drained,
    /// The lag by the last readings.
    Readings,
    Value(&'static Family),
}

/// A line of the table.
#[derive(Clone, Debug)]
pub(crate) struct TableLine<'a> {
    /// A group, or several in one line; its numbers are the largest of theirs.
    pub(crate) groups: Vec<&'a ListedGroup>,
    /// The text before the name of the group.
    pub(crate) marker: &'static str,
    /// A chart of the lag; `None` for all lines leaves the column out.
    pub(crate) chart: Option<String>,
}

impl<'a> TableLine<'a> {
    /// Returns a line with one group and no chart.
    pub(crate) fn of(group: &'a ListedGroup) -> Self {
        Self { groups: vec![group], marker: "", chart: None }
    }
}

/// The status is always the first.
const COLUMNS: [(Heading, TerminalColumn); 14] = [
    (name("STATUS", None, Cut::Never), TerminalColumn::Text(|group| status(group).to_owned())),
    (
        name(TARGET, Some(WHERE_WIDE + 2), Cut::Middle(8)),
        TerminalColumn::Text(|group| printable(&group.target).into_owned()),
    ),
    (name("STREAM", None, Cut::Middle(8)), TerminalColumn::Stream),
    (name("GROUP", None, Cut::Middle(8)), TerminalColumn::Group),
    (number("LAG", None), TerminalColumn::Lag),
    (number("TREND", Some(4)), TerminalColumn::Trend),
    (name(READINGS, Some(0), Cut::Never), TerminalColumn::Readings),
    (number("BEHIND", Some(WHERE_WIDE + 4)), TerminalColumn::Value(&LAG_SECONDS)),
    (number("PENDING", Some(WHERE_WIDE + 3)), TerminalColumn::Value(&MESSAGES_PENDING)),
    (number("OLDEST", Some(WHERE_WIDE)), TerminalColumn::Value(&OLDEST_PENDING_AGE_SECONDS)),
    (number("CONSUMERS", Some(WHERE_WIDE + 1)), TerminalColumn::Value(&CONSUMERS)),
    (number("DRAIN", Some(3)), TerminalColumn::Drained),
    (number("IN/S", Some(2)), TerminalColumn::Value(&ADDED_PER_SECOND)),
    (number("OUT/S", Some(1)), TerminalColumn::Value(&DELIVERED_PER_SECOND)),
];
const TARGET: &str = "TARGET";
const READINGS: &str = "RECENT LAG";

const fn name(title: &'static str, expendable: Option<u8>, cut: Cut) -> Heading {
    Heading { title, align: Align::Left, expendable, cut }
}

const fn number(title: &'static str, expendable: Option<u8>) -> Heading {
    Heading { title, align: Align::Right, expendable, cut: Cut::Never }
}

impl TerminalColumn {
    fn cell(self, line: &TableLine<'_>) -> String {
        let Some(first) = line.groups.first() else { return String::new() };
        let largest = || {
            let size = |group: &&ListedGroup| self.size(group).unwrap_or(f64::NEG_INFINITY);
            line.groups
                .iter()
                .copied()
                .max_by(|one, other| size(one).total_cmp(&size(other)))
                .unwrap_or(first)
        };
        match self {
            Self::Text(text) => text(first),
            Self::Stream => match &first.family {
                Some(family) if line.groups.len() > 1 => printable(family).into_owned(),
                _ => printable(&first.stream).into_owned(),
            },
            Self::Group => match line.groups.len() {
                1 => format!("{}{}", line.marker, printable(&first.group)),
                several => format!("{}{several} groups", line.marker),
            },
            Self::Lag => lag(largest()),
            Self::Trend => trend_cell(largest()),
            Self::Drained => drained_cell(largest()),
            Self::Readings => line.chart.clone().unwrap_or_default(),
            Self::Value(family) => value(largest(), family),
        }
    }

    /// Returns a number to compare groups by; `None` if it is not known.
    fn size(self, group: &ListedGroup) -> Option<f64> {
        match self {
            Self::Text(_) | Self::Stream | Self::Group | Self::Readings => None,
            Self::Lag => Self::Value(&LAG_MAX).size(group).or_else(|| Self::Value(&LAG).size(group)),
            Self::Trend => match trend(group) {
                Trend::Grows(rate) => Some(rate),
                Trend::Shrinks(rate, _) => Some(-rate),
                Trend::Steady => Some(0.0),
                Trend::Unknown => None,
            },
            Self::Drained => Self::Value(&DRAIN_SECONDS).size(group),
            Self::Value(family) => group.number(family)?.as_f64(),
        }
    }
}

/// The order of a table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct GroupOrder(usize);

type Compare = fn(&ListedGroup, &ListedGroup) -> Ordering;

/// The orders in turn, as they are shown. The listing is worst first.
const ORDERS: [(&str, Compare); 6] = [
    ("worst first", |_, _| Ordering::Equal),
    ("lag", |one, other| {
        let key = |group: &ListedGroup| Reverse([&LAG_MIN, &LAG_MAX].map(|lag| group.count(lag)));
        key(one).cmp(&key(other))
    }),
    ("behind", |one, other| by(&LAG_SECONDS, one, other)),
    ("pending", |one, other| by(&MESSAGES_PENDING, one, other)),
    ("oldest pending", |one, other| by(&OLDEST_PENDING_AGE_SECONDS, one, other)),
    ("name", |one, other| {
        (&one.target, &one.stream, &one.group).cmp(&(&other.target, &other.stream, &other.group))
    }),
];

/// Compares by a value, the greatest first and unknown ones last.
fn by(family: &Family, one: &ListedGroup, other: &ListedGroup) -> Ordering {
    let key = |group: &ListedGroup| group.number(family).and_then(|number| number.as_f64()).unwrap_or(-1.0);
    key(other).total_cmp(&key(one))
}

/// Lays out a table of some groups of the listing. The target is shown if there are several.
pub(crate) fn table(listing: &Listing, lines: &[TableLine<'_>], room: Option<usize>) -> TextTable {
    let is_shown = |(heading, _): &(Heading, TerminalColumn)| match heading.title {
        TARGET => listing.targets.len() > 1,
        READINGS => lines.iter().any(|line| line.chart.is_some()),
        _ => true,
    };
    let (headings, contents): (Vec<_>, Vec<_>) = COLUMNS.into_iter().filter(is_shown).unzip();
    let row = |line: &TableLine<'_>| contents.iter().map(|content| content.cell(line)).collect();
    TextTable::new(headings, lines.iter().map(row).collect(), room)
}

pub(crate) fn status(group: &ListedGroup) -> &'static str {
    match group.status {
        Some(status) => status.as_str(),
        None if group.up => UNKNOWN,
        None => "missing",
    }
}

/// Returns all conditions of a group, or its status if it has none.
pub(crate) fn conditions(group: &ListedGroup) -> String {
    match &group.conditions[..] {
        [] => status(group).to_owned(),
        all => all.iter().map(|one| one.as_str()).collect::<Vec<_>>().join(", "),
    }
}

pub(crate) fn severity(group: &ListedGroup) -> Severity {
    match group.status {
        None if group.up => Severity::Unknown,
        status => Severity::of(status),
    }
}

pub(crate) fn lag(group: &ListedGroup) -> String {
    match [&LAG, &LAG_MIN, &LAG_MAX].map(|family| group.count(family)) {
        [Some(lag), ..] => count(lag),
        [None, Some(min), Some(max)] => format!("{}..{}", count(min), count(max)),
        _ => UNKNOWN.to_owned(),
    }
}

fn trend(group: &ListedGroup) -> Trend {
    let rate = |family| group.number(family).and_then(Number::as_f64);
    match rate(&ADDED_PER_SECOND).zip(rate(&DELIVERED_PER_SECOND)) {
        Some((added, delivered)) if !group.conditions.contains(&Status::Losing) => {
            Trend::at_rates(added, delivered, None)
        }
        _ => Trend::Unknown,
    }
}

fn trend_cell(group: &ListedGroup) -> String {
    match (group.count(&LAG), trend(group)) {
        (Some(0), _) => "-".to_owned(),
        (_, Trend::Unknown) => UNKNOWN.to_owned(),
        (_, trend) => trend.to_string(),
    }
}

/// Formats the time until the lag is gone. Of a group that loses entries it is not known: trimming makes the lag smaller too.
pub(super) fn drained_cell(group: &ListedGroup) -> String {
    match trend(group).drained(false) {
        Drained::Never if group.number(&DRAIN_SECONDS).is_none() => "never".to_owned(),
        Drained::Unknown if group.conditions.contains(&Status::Losing) => UNKNOWN.to_owned(),
        _ => value(group, &DRAIN_SECONDS),
    }
}

/// Formats a value of the table; `-` if there is nothing that it is about.
pub(crate) fn value(group: &ListedGroup, family: &Family) -> String {
    if group.has_nothing_of(family) {
        return "-".to_owned();
    }
    let text = group.number(family).and_then(|number| match family.unit {
        ValueUnit::Seconds => number.as_f64().map(span),
        ValueUnit::Ratio => number.as_f64().map(|ratio| format!("{:.0} %", ratio * 100.0)),
        ValueUnit::PerSecond => number.as_f64().map(rate_number),
        ValueUnit::Count | ValueUnit::Bytes | ValueUnit::Timestamp | ValueUnit::Bool => {
            number.as_u64().map(count)
        }
    });
    text.unwrap_or_else(|| UNKNOWN.to_owned())
}

impl GroupOrder {
    pub(crate) fn next(self) -> Self {
        Self((self.0 + 1) % ORDERS.len())
    }

    pub(crate) fn as_str(self) -> &'static str {
        ORDERS[self.0].0
    }

    pub(crate) fn compare(self, one: &ListedGroup, other: &ListedGroup) -> Ordering {
        ORDERS[self.0].1(one, other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::groups::ListedValues;
    use redis_stream_lag::report::{EntryRate, GroupValues, Lag};
    use std::time::Duration;

    #[test]
    fn a_value_that_is_not_known_is_never_0() {
        let of = |exact_or_bounds| {
            let values =
                ListedValues::of((&GroupValues { lag: exact_or_bounds, ..GroupValues::default() }).into());
            ListedGroup { values, ..ListedGroup::default() }
        };
        assert_eq!(lag(&of(Lag::Exact(1_213))), "1,213");
        assert_eq!(lag(&of(Lag::Between { min: 0.into(), max: 5_000 })), "0..5,000");
        assert_eq!(lag(&ListedGroup::default()), "?");
        assert_eq!(value(&ListedGroup::default(), &LAG_SECONDS), "?");
        assert_eq!(value(&of(Lag::Exact(0)), &OLDEST_PENDING_AGE_SECONDS), "-");
        assert_eq!(trend_cell(&of(Lag::Exact(5))), "?");
    }

    #[test]
    fn a_trend_comes_from_the_rates_unless_entries_are_lost() {
        let group = |lag, added, delivered, conditions| {
            let rate = |entries| Some(EntryRate::new(entries, Duration::from_secs(10)));
            let values = GroupValues {
                lag: Lag::Exact(lag),
                added_rate: rate(added),
                delivered_rate: rate(delivered),
                drain_time: (delivered > added).then_some((Duration::from_secs(9 * lag.min(1))).into()),
                ..GroupValues::default()
            };
            ListedGroup { values: ListedValues::of((&values).into()), conditions, ..ListedGroup::default() }
        };
        for (group, shown, drained) in [
            (group(5, 200, 0, vec![Status::Stalled]), "\u{25b2} 20.0/s", "never"),
            (group(5, 200, 380, vec![]), "\u{25bc} 18.0/s", "9.0s"),
            (group(5, 200, 200, vec![]), "steady", "never"),
            (group(0, 200, 380, vec![]), "-", "0s"),
            (group(5, 200, 0, vec![Status::Abandoned, Status::Losing]), "?", "?"),
            (group(5, 200, 380, vec![Status::Losing]), "?", "?"),
        ] {
            assert_eq!(trend_cell(&group), shown);
            assert_eq!(drained_cell(&group), drained, "{shown}");
        }
    }

    #[test]
    fn a_folded_line_shows_the_largest_numbers_of_its_groups() {
        let group = |name: &str, lag: Lag, pending| ListedGroup {
            group: name.to_owned(),
            stream: "orders".to_owned(),
            up: true,
            status: Some(Status::Stalled),
            values: ListedValues::of(
                (&GroupValues { lag, messages_pending: pending, ..GroupValues::default() }).into(),
            ),
            ..ListedGroup::default()
        };
        let unknown = Lag::Between { min: 1.into(), max: 70 };
        let groups = [group("a", Lag::Exact(50), 7), group("b", unknown, 0), group("c", Lag::Exact(60), 9)];
        let line = TableLine { groups: groups.iter().collect(), marker: "\u{25b8} ", chart: None };
        let shown = table(&Listing::default(), &[line], Some(80)).lines().join("\n");
        insta::assert_snapshot!(shown, @r"
        STATUS   STREAM  GROUP         LAG  TREND  BEHIND  PENDING  OLDEST  CONSUMERS
        stalled  orders  ▸ 3 groups  1..70      ?       ?        9       ?          0
        ");
    }
}
