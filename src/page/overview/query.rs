//! The query of the first page: the groups that are shown, their order, and the page of them. It is all in the URL, so
//! that a view can be linked to and works without a script.

use std::cmp::Ordering;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::api::fold::Folding;
use crate::page::model::{GroupRow, PageModel, status_name};
use crate::values::family::{Family, Number};
use crate::values::table::{
    ADDED_PER_SECOND, CONSUMERS, DELIVERED_PER_SECOND, DRAIN_SECONDS, LAG_SECONDS, MESSAGES_PENDING,
    OLDEST_PENDING_AGE_SECONDS,
};
use redis_stream_lag::report::Status;

/// Returns the name that a row is sorted by.
type SortName = for<'a> fn(&GroupRow<'a>) -> &'a [u8];

#[derive(Clone, Copy, Debug)]
pub(super) enum ColumnContent {
    /// A name, with its heading.
    Name(&'static str, SortName),
    Lag,
    /// A value, with its heading.
    Value(&'static str, &'static Family),
}

/// The query. A parameter that is not valid is ignored: a page is better than an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OverviewQuery {
    /// Text that the name of the target, stream or group contains.
    pub(super) search: String,
    pub(super) status: StatusFilter,
    /// Name of the only target that is shown.
    pub(super) target: Option<String>,
    pub(super) sort: OverviewSort,
    /// From 0.
    pub(super) page: usize,
    pub(super) folding: Folding,
    /// The folded lines that are open, by their names.
    pub(super) open: Vec<String>,
}

/// Folded lines that are open at most.
const MAX_OPEN: usize = 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum StatusFilter {
    #[default]
    Any,
    /// All but `ok` and `unknown`.
    Trouble,
    /// One status; `None` is missing.
    One(Option<Status>),
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum OverviewSort {
    #[default]
    Worst,
    By(OverviewColumn, Direction),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

/// A column that the table can be sorted by.
#[derive(Clone, Copy, Debug)]
pub(super) struct OverviewColumn {
    /// Its name in the query.
    pub(super) name: &'static str,
    pub(super) content: ColumnContent,
}

/// A text to search for in names, ignoring case.
struct SearchTerm(String);

impl StatusFilter {
    /// Returns all filters, in the order of the form.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let one = [None].into_iter().chain(Status::ALL.map(Some)).map(Self::One);
        [Self::Any, Self::Trouble].into_iter().chain(one)
    }

    /// Returns its name in the query.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Any => "",
            Self::Trouble => "trouble",
            Self::One(status) => status_name(status),
        }
    }

    pub(super) fn takes(self, status: Option<Status>) -> bool {
        match self {
            Self::Any => true,
            Self::Trouble => !matches!(status, Some(Status::Ok | Status::Unknown)),
            Self::One(one) => status == one,
        }
    }
}

impl Direction {
    fn turn(self, order: Ordering) -> Ordering {
        match self {
            Self::Up => order,
            Self::Down => order.reverse(),
        }
    }
}

impl PartialEq for OverviewColumn {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for OverviewColumn {}

impl OverviewColumn {
    pub(super) const ALL: [Self; 10] = [
        Self { name: "group", content: ColumnContent::Name("Group", |row| row.group.name.as_bytes()) },
        Self { name: "stream", content: ColumnContent::Name("Stream", |row| row.stream.key.as_bytes()) },
        Self { name: "lag", content: ColumnContent::Lag },
        Self { name: "behind", content: ColumnContent::Value("Behind", &LAG_SECONDS) },
        Self { name: "in", content: ColumnContent::Value("In", &ADDED_PER_SECOND) },
        Self { name: "out", content: ColumnContent::Value("Out", &DELIVERED_PER_SECOND) },
        Self { name: "drain", content: ColumnContent::Value("Drained in", &DRAIN_SECONDS) },
        Self { name: "pending", content: ColumnContent::Value("Pending", &MESSAGES_PENDING) },
        Self { name: "oldest", content: ColumnContent::Value("oldest", &OLDEST_PENDING_AGE_SECONDS) },
        Self { name: "consumers", content: ColumnContent::Value("Consumers", &CONSUMERS) },
    ];

    pub(super) fn heading(self) -> &'static str {
        match self.content {
            ColumnContent::Name(heading, _) | ColumnContent::Value(heading, _) => heading,
            ColumnContent::Lag => "Lag",
        }
    }

    /// Returns the direction of the first click: names ascending, numbers descending.
    pub(super) fn direction(self) -> Direction {
        match self.content {
            ColumnContent::Name(..) => Direction::Up,
            ColumnContent::Lag | ColumnContent::Value(..) => Direction::Down,
        }
    }

    /// Compares two rows; unknown values are last in both directions.
    fn compare(self, direction: Direction, one: &GroupRow<'_>, other: &GroupRow<'_>) -> Ordering {
        let keys = match self.content {
            ColumnContent::Name(_, name) => return direction.turn(name(one).cmp(name(other))),
            ColumnContent::Lag => (lag_key(one), lag_key(other)),
            ColumnContent::Value(_, family) => (value_key(family, one), value_key(family, other)),
        };
        match keys {
            (Some(one), Some(other)) => direction.turn(one.cmp(&other)),
            (one, other) => one.is_none().cmp(&other.is_none()),
        }
    }
}

fn lag_key(row: &GroupRow<'_>) -> Option<u128> {
    let lag = row.group.values.as_ref()?.lag;
    Some(u128::from(lag.min()) << 64 | u128::from(lag.max()))
}

fn value_key(family: &Family, row: &GroupRow<'_>) -> Option<u128> {
    Some(match family.of_group_values(row.view()?).known()? {
        Number::Count(count) => count.into(),
        Number::Seconds(time) => time.as_nanos(),
        // The bits of floats that are not negative are in the order of the floats.
        Number::Ratio(number) | Number::PerSecond(number) => number.to_bits().into(),
    })
}

impl OverviewSort {
    /// Reads a column and an order; an order that is neither `asc` nor `desc` is that of the first click.
    fn read(name: &str, order: &str) -> Self {
        let Some(column) = OverviewColumn::ALL.into_iter().find(|column| column.name == name) else {
            return Self::Worst;
        };
        let direction = match order {
            "asc" => Direction::Up,
            "desc" => Direction::Down,
            _ => column.direction(),
        };
        Self::By(column, direction)
    }

    /// Returns the order after a click on a heading: by that column, or reversed if it was by that column.
    pub(super) fn after_click(self, column: OverviewColumn) -> Self {
        match self {
            Self::By(present, Direction::Up) if present == column => Self::By(column, Direction::Down),
            Self::By(present, Direction::Down) if present == column => Self::By(column, Direction::Up),
            _ => Self::By(column, column.direction()),
        }
    }
}

impl OverviewQuery {
    /// Reads the parameters of a URL.
    pub fn read(parameters: &[(String, String)]) -> Self {
        let value = |name: &str| {
            parameters.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
        };
        let status = StatusFilter::all().find(|filter| filter.name() == value("status"));
        Self {
            search: value("q").trim().to_owned(),
            status: status.unwrap_or_default(),
            target: Some(value("target").to_owned()).filter(|name| !name.is_empty()),
            sort: OverviewSort::read(value("sort"), value("order")),
            page: value("page").parse::<usize>().unwrap_or(1).saturating_sub(1),
            folding: if value("fold") == "no" { Folding::Off } else { Folding::ByStream },
            open: value("open")
                .split(' ')
                .filter(|name| !name.is_empty())
                .take(MAX_OPEN)
                .map(str::to_owned)
                .collect(),
        }
    }

    /// Returns the query as a link from the first page to itself.
    pub(super) fn link(&self) -> String {
        let page = (self.page + 1).to_string();
        let (sort, order) = match self.sort {
            OverviewSort::Worst => ("", ""),
            OverviewSort::By(column, Direction::Up) => (column.name, "asc"),
            OverviewSort::By(column, Direction::Down) => (column.name, "desc"),
        };
        let parameters = [
            ("q", self.search.as_str()),
            ("status", self.status.name()),
            ("target", self.target.as_deref().unwrap_or_default()),
            ("sort", sort),
            ("order", order),
            ("page", if self.page == 0 { "" } else { &page }),
            ("fold", if self.folding == Folding::Off { "no" } else { "" }),
            ("open", &self.open.join(" ")),
        ];
        let given = parameters.into_iter().filter(|(_, value)| !value.is_empty());
        let pairs: Vec<_> = given
            .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
            .collect();
        format!("?{}", pairs.join("&"))
    }

    /// Returns true if all groups are shown.
    pub(super) fn is_open(&self) -> bool {
        self.search.is_empty() && self.status == StatusFilter::Any && self.target.is_none()
    }

    /// Returns the groups that the query selects, in no order.
    pub(super) fn select<'a>(&self, model: &'a PageModel) -> Vec<GroupRow<'a>> {
        let term = SearchTerm::new(&self.search);
        let is_selected = |row: &GroupRow<'_>| {
            let target = &row.target.snapshot.labels.name;
            self.target.as_ref().is_none_or(|name| name == target)
                && row.statuses().any(|status| self.status.takes(status))
                && (term.is_in(&row.group.name.text())
                    || term.is_in(&row.stream.key.text())
                    || term.is_in(target))
        };
        model.rows().filter(is_selected).collect()
    }

    /// Compares two groups by the sort column, then by how bad they are, then by name.
    pub(super) fn compare(&self, one: &GroupRow<'_>, other: &GroupRow<'_>) -> Ordering {
        let by_column = match self.sort {
            // What is bad now comes before what was.
            OverviewSort::Worst => one.target.is_old().cmp(&other.target.is_old()),
            OverviewSort::By(column, direction) => column.compare(direction, one, other),
        };
        by_column
            .then_with(|| one.group.badness().cmp(&other.group.badness()))
            .then_with(|| one.name().cmp(&other.name()))
    }
}

impl SearchTerm {
    fn new(text: &str) -> Self {
        Self(text.to_lowercase())
    }

    fn is_in(&self, name: &str) -> bool {
        let term = self.0.as_bytes();
        if term.is_empty() {
            return true;
        }
        if name.is_ascii() {
            // The usual case, without a copy: thousands of names are searched for each letter that is typed.
            return name.as_bytes().windows(term.len()).any(|part| part.eq_ignore_ascii_case(term));
        }
        name.to_lowercase().contains(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &[(&str, &str)]) -> OverviewQuery {
        let pairs: Vec<_> =
            query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        OverviewQuery::read(&pairs)
    }

    #[test]
    fn a_query_is_its_link() {
        for (query, link) in [
            (&[][..], "?"),
            (&[("q", " a&b ")], "?q=a%26b"),
            (
                &[("status", "stalled"), ("target", "a/b"), ("page", "3")],
                "?status=stalled&target=a%2Fb&page=3",
            ),
            (&[("status", "missing"), ("sort", "lag")], "?status=missing&sort=lag&order=desc"),
            (&[("status", "trouble"), ("sort", "group")], "?status=trouble&sort=group&order=asc"),
            (&[("sort", "group"), ("order", "desc")], "?sort=group&order=desc"),
            (&[("status", "nonsense"), ("sort", "<x>"), ("order", "?"), ("page", "-1")], "?"),
            (&[("page", "0"), ("q", "")], "?"),
            (&[("fold", "no"), ("open", " a1  b2 ")], "?fold=no&open=a1%20b2"),
            (&[("fold", "yes"), ("open", "")], "?"),
        ] {
            assert_eq!(read(query).link(), link);
        }
    }

    #[test]
    fn a_second_click_turns_the_order_round() {
        let [group, _, lag, ..] = OverviewColumn::ALL;
        let first = OverviewSort::Worst.after_click(lag);
        assert_eq!(first, OverviewSort::By(lag, Direction::Down));
        assert_eq!(first.after_click(lag), OverviewSort::By(lag, Direction::Up));
        assert_eq!(first.after_click(group), OverviewSort::By(group, Direction::Up));
    }

    #[test]
    fn names_are_searched_whatever_the_case() {
        for (text, name, is_in) in [
            ("", "", true),
            ("", "orders", true),
            ("ORD", "orders", true),
            ("ders", "ORDERS", true),
            ("orders:", "orders", false),
            ("x", "orders", false),
            ("x", "", false),
            ("GR\u{dc}N", "gr\u{fc}n", true),
            ("gr\u{fc}n", "GR\u{dc}N", true),
            ("n", "GR\u{dc}N", true),
            ("\u{fc}", "orders", false),
            // The sign of kelvins is a k in lower case.
            ("\u{212a}", "back", true),
            ("k", "\u{212a}", true),
        ] {
            assert_eq!(SearchTerm::new(text).is_in(name), is_in, "{text:?} in {name:?}");
        }
    }
}
