//! What a reader of the first page asks for: which groups, in which order, which part of them. It is all in the
//! query of the address, so that a view can be linked to, and everything works without a script.

use std::cmp::Ordering;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use crate::api::groups::badness;
use crate::page::frame::{status_name, status_of};
use crate::page::overview::needle::Needle;
use crate::page::view::{Row, View};
use redis_stream_lag::report::OldestPending;
use redis_stream_lag::report::Status;

/// A number that a row is sorted by; `None` where it is not known.
type Key = fn(&Row<'_>) -> Option<u128>;
/// A name that a row is sorted by.
type Text = for<'a> fn(&Row<'a>) -> &'a [u8];

/// What a column holds.
enum Content {
    Text(Text),
    Number(Key),
}

/// What a reader asks for. What is not understood is as if it were not there: a page is better than an error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// What the names of target, stream or group contain.
    pub(super) search: String,
    pub(super) status: StatusFilter,
    /// Name of the only target that is shown.
    pub(super) target: Option<String>,
    pub(super) sort: Sort,
    /// From 0.
    pub(super) page: usize,
}

/// Which statuses are shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum StatusFilter {
    /// All.
    #[default]
    Any,
    /// All but `ok` and `unknown`.
    Trouble,
    /// One of them.
    One(Option<Status>),
}

/// What groups are sorted by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sort {
    /// By how bad they are.
    #[default]
    Worst,
    /// By a column.
    By(Column, Direction),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    Up,
    Down,
}

/// A column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Column {
    Group,
    Stream,
    Lag,
    Behind,
    Pending,
    Oldest,
    Consumers,
}

impl StatusFilter {
    /// All of them, in the order of the list to choose from.
    pub(super) fn all() -> impl Iterator<Item = Self> {
        let one = [None].into_iter().chain(Status::ALL.map(Some)).map(Self::One);
        [Self::Any, Self::Trouble].into_iter().chain(one)
    }

    /// Its name in the query.
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

impl Column {
    pub(super) const ALL: [Self; 7] =
        [Self::Group, Self::Stream, Self::Lag, Self::Behind, Self::Pending, Self::Oldest, Self::Consumers];

    /// Its name in the query.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Group => "group",
            Self::Stream => "stream",
            Self::Lag => "lag",
            Self::Behind => "behind",
            Self::Pending => "pending",
            Self::Oldest => "oldest",
            Self::Consumers => "consumers",
        }
    }

    /// Its heading.
    pub(super) fn heading(self) -> &'static str {
        match self {
            Self::Group => "Group",
            Self::Stream => "Stream",
            Self::Lag => "Lag",
            Self::Behind => "Behind",
            Self::Pending => "Pending",
            Self::Oldest => "Oldest pending",
            Self::Consumers => "Consumers",
        }
    }

    /// What one sees first: names from the beginning, numbers from the largest.
    pub(super) fn direction(self) -> Direction {
        match self {
            Self::Group | Self::Stream => Direction::Up,
            _ => Direction::Down,
        }
    }

    fn content(self) -> Content {
        let key: Key = match self {
            Self::Group => return Content::Text(|row| row.group.name.as_bytes()),
            Self::Stream => return Content::Text(|row| row.stream.key.as_bytes()),
            Self::Lag => |row| {
                let lag = row.group.values.as_ref()?.lag;
                Some(u128::from(lag.min()) << 64 | u128::from(lag.max()))
            },
            Self::Behind => |row| Some(row.group.values.as_ref()?.lag_seconds?.as_nanos()),
            Self::Pending => |row| Some(row.group.values.as_ref()?.messages_pending.into()),
            Self::Oldest => |row| match row.group.values.as_ref()?.oldest_pending? {
                OldestPending::Nothing => Some(0),
                OldestPending::Entry { age, .. } => Some(age?.as_nanos()),
            },
            Self::Consumers => |row| Some(row.group.values.as_ref()?.consumers.into()),
        };
        Content::Number(key)
    }
}

impl Sort {
    /// What is asked for by this name, in this order, the usual one of the column where that is neither `asc` nor
    /// `desc`.
    fn read(name: &str, order: &str) -> Self {
        let Some(column) = Column::ALL.into_iter().find(|column| column.name() == name) else {
            return Self::Worst;
        };
        let direction = match order {
            "asc" => Direction::Up,
            "desc" => Direction::Down,
            _ => column.direction(),
        };
        Self::By(column, direction)
    }

    /// What a click on the heading of a column leads to: the column, or the other way round.
    pub(super) fn after_click(self, column: Column) -> Self {
        match self {
            Self::By(present, Direction::Up) if present == column => Self::By(column, Direction::Down),
            Self::By(present, Direction::Down) if present == column => Self::By(column, Direction::Up),
            _ => Self::By(column, column.direction()),
        }
    }
}

impl Query {
    /// Reads the parameters of a query.
    #[must_use]
    pub fn read(parameters: &[(String, String)]) -> Self {
        let value = |name: &str| {
            parameters.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value.as_str())
        };
        let status = StatusFilter::all().find(|filter| filter.name() == value("status"));
        Self {
            search: value("q").trim().to_owned(),
            status: status.unwrap_or_default(),
            target: Some(value("target").to_owned()).filter(|name| !name.is_empty()),
            sort: Sort::read(value("sort"), value("order")),
            page: value("page").parse::<usize>().unwrap_or(1).saturating_sub(1),
        }
    }

    /// The same as a link from the first page to itself.
    pub(super) fn link(&self) -> String {
        let page = (self.page + 1).to_string();
        let (sort, order) = match self.sort {
            Sort::Worst => ("", ""),
            Sort::By(column, Direction::Up) => (column.name(), "asc"),
            Sort::By(column, Direction::Down) => (column.name(), "desc"),
        };
        let parameters = [
            ("q", self.search.as_str()),
            ("status", self.status.name()),
            ("target", self.target.as_deref().unwrap_or_default()),
            ("sort", sort),
            ("order", order),
            ("page", if self.page == 0 { "" } else { &page }),
        ];
        let given = parameters.into_iter().filter(|(_, value)| !value.is_empty());
        let pairs: Vec<_> = given
            .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)))
            .collect();
        format!("?{}", pairs.join("&"))
    }

    /// Whether all groups are shown.
    pub(super) fn is_open(&self) -> bool {
        self.search.is_empty() && self.status == StatusFilter::Any && self.target.is_none()
    }

    /// The groups that are asked for, in no order.
    pub(super) fn select<'a>(&self, view: &'a View) -> Vec<Row<'a>> {
        let needle = Needle::new(&self.search);
        let is_asked_for = |row: &Row<'_>| {
            let target = &row.target.seen.labels.name;
            self.target.as_ref().is_none_or(|name| name == target)
                && self.status.takes(status_of(row.group))
                && (needle.is_in(&row.group.name.text())
                    || needle.is_in(&row.stream.key.text())
                    || needle.is_in(target))
        };
        view.rows().filter(is_asked_for).collect()
    }

    /// Which of two groups comes first: what is not known last, among equals the worst first, and then by name.
    pub(super) fn compare(&self, one: &Row<'_>, other: &Row<'_>) -> Ordering {
        let by_column = match self.sort {
            Sort::Worst => Ordering::Equal,
            Sort::By(column, direction) => match column.content() {
                Content::Text(text) => direction.turn(text(one).cmp(text(other))),
                Content::Number(key) => match (key(one), key(other)) {
                    (Some(one), Some(other)) => direction.turn(one.cmp(&other)),
                    (one, other) => one.is_none().cmp(&other.is_none()),
                },
            },
        };
        by_column
            .then_with(|| badness(one.group).cmp(&badness(other.group)))
            .then_with(|| one.name().cmp(&other.name()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &[(&str, &str)]) -> Query {
        let pairs: Vec<_> =
            query.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Query::read(&pairs)
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
        ] {
            assert_eq!(read(query).link(), link);
        }
    }

    #[test]
    fn a_second_click_turns_the_order_round() {
        let first = Sort::Worst.after_click(Column::Lag);
        assert_eq!(first, Sort::By(Column::Lag, Direction::Down));
        assert_eq!(first.after_click(Column::Lag), Sort::By(Column::Lag, Direction::Up));
        assert_eq!(first.after_click(Column::Group), Sort::By(Column::Group, Direction::Up));
    }
}
