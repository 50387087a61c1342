//! The columns of the table of groups, and the order of its rows.

use std::cmp::{Ordering, Reverse};

use crate::api::groups::{ListedGroup, Listing};
use crate::format::severity::Severity;
use crate::format::unicode::printable;
use crate::format::units::{count, rate_number};
use crate::terminal::layout::{Align, Heading, TextTable};
use crate::terminal::text::{UNKNOWN, span};
use crate::values::family::{Family, ValueUnit};
use crate::values::table::{
    ADDED_PER_SECOND, CONSUMERS, DELIVERED_PER_SECOND, DRAIN_SECONDS, LAG, LAG_MAX, LAG_MIN, LAG_SECONDS,
    MESSAGES_PENDING, OLDEST_PENDING_AGE_SECONDS,
};

type Cell = fn(&ListedGroup) -> String;

/// The status is always the first.
const COLUMNS: [(Heading, Cell); 12] = [
    (heading("STATUS", Align::Left, None, None), |group| status(group).to_owned()),
    (heading(TARGET, Align::Left, Some(5), Some(10)), |group| printable(&group.target).into_owned()),
    (heading("STREAM", Align::Left, None, Some(8)), |group| printable(&group.stream).into_owned()),
    (heading("GROUP", Align::Left, None, Some(8)), |group| printable(&group.group).into_owned()),
    (heading("LAG", Align::Right, None, None), lag),
    (heading("BEHIND", Align::Right, Some(7), None), |group| value(group, &LAG_SECONDS)),
    (heading("PENDING", Align::Right, Some(6), None), |group| value(group, &MESSAGES_PENDING)),
    (heading("OLDEST", Align::Right, Some(4), None), |group| value(group, &OLDEST_PENDING_AGE_SECONDS)),
    (heading("CONSUMERS", Align::Right, Some(3), None), |group| value(group, &CONSUMERS)),
    (heading("DRAIN", Align::Right, Some(2), None), |group| value(group, &DRAIN_SECONDS)),
    (heading("IN/S", Align::Right, Some(1), None), |group| value(group, &ADDED_PER_SECOND)),
    (heading("OUT/S", Align::Right, Some(0), None), |group| value(group, &DELIVERED_PER_SECOND)),
];
const TARGET: &str = "TARGET";

const fn heading(
    title: &'static str,
    align: Align,
    expendable: Option<u8>,
    shrinks_to: Option<usize>,
) -> Heading {
    Heading { title, align, expendable, shrinks_to }
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
pub(crate) fn table(listing: &Listing, groups: &[&ListedGroup], room: Option<usize>) -> TextTable {
    let is_shown = |(heading, _): &(Heading, Cell)| heading.title != TARGET || listing.targets.len() > 1;
    let (headings, cells): (Vec<_>, Vec<_>) = COLUMNS.into_iter().filter(is_shown).unzip();
    let row = |group: &&ListedGroup| cells.iter().map(|cell| cell(group)).collect();
    TextTable::new(headings, groups.iter().map(row).collect(), room)
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

/// Formats a value of the table; `-` if there is nothing that it is about.
pub(crate) fn value(group: &ListedGroup, family: &Family) -> String {
    if group.has_nothing_of(family) {
        return "-".to_owned();
    }
    let text = group.number(family).and_then(|number| match family.unit {
        ValueUnit::Seconds => number.as_f64().map(span),
        ValueUnit::Ratio => number.as_f64().map(|ratio| format!("{:.0} %", ratio * 100.0)),
        ValueUnit::PerSecond => number.as_f64().map(rate_number),
        ValueUnit::Count | ValueUnit::Timestamp | ValueUnit::Bool => number.as_u64().map(count),
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
    use redis_stream_lag::report::{GroupValues, Lag};

    #[test]
    fn a_value_that_is_not_known_is_never_0() {
        let of = |exact_or_bounds| {
            let values =
                ListedValues::of((&GroupValues { lag: exact_or_bounds, ..GroupValues::default() }).into());
            ListedGroup { values, ..ListedGroup::default() }
        };
        assert_eq!(lag(&of(Lag::Exact(1_213))), "1,213");
        assert_eq!(lag(&of(Lag::Between { min: 0, max: 5_000 })), "0..5,000");
        assert_eq!(lag(&ListedGroup::default()), "?");
        assert_eq!(value(&ListedGroup::default(), &LAG_SECONDS), "?");
        assert_eq!(value(&of(Lag::Exact(0)), &OLDEST_PENDING_AGE_SECONDS), "-");
    }
}
