//! Tables of text. Where there is little room, names are cut short and some columns are left out; no crate for tables
//! does that, so they are laid out here.

use std::borrow::Cow;

use crate::terminal::shorten::shortened;
use crate::terminal::text::{elide, width};

/// Spaces between two columns.
pub(crate) const GAP: &str = "  ";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Heading {
    pub(crate) title: &'static str,
    pub(crate) align: Align,
    /// The order in which columns are left out for lack of room: 0 is the first; `None` is never. Those below
    /// [`WHERE_WIDE`] go before a name is cut.
    pub(crate) expendable: Option<u8>,
    pub(crate) cut: Cut,
}

/// The way in which the cells of a column are cut for lack of room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    Never,
    /// Text, of which the beginning is kept: at least so many columns.
    End(usize),
    /// Names, which stay different from each other: at least so many columns.
    Middle(usize),
}

/// Columns that are left out before a name is cut: those that are expendable below this.
pub(crate) const WHERE_WIDE: u8 = 5;
/// The other columns are left out before a name is cut to fewer terminal columns than this.
const COMFORTABLE: usize = 11;

/// A table with the columns that are shown.
#[derive(Debug)]
pub(crate) struct TextTable {
    headings: Vec<Heading>,
    rows: Vec<Vec<String>>,
    shown: Vec<ShownColumn>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ShownColumn {
    index: usize,
    width: usize,
}

impl Cut {
    /// Returns the least width of a cell; `None` if it is not cut.
    fn least(self) -> Option<usize> {
        match self {
            Self::Never => None,
            Self::End(least) | Self::Middle(least) => Some(least),
        }
    }
}

impl TextTable {
    /// Lays out the rows for a terminal of `room` columns; `None` is without a limit.
    pub(crate) fn new(headings: Vec<Heading>, rows: Vec<Vec<String>>, room: Option<usize>) -> Self {
        let shown = lay_out(&headings, &rows, room);
        let mut rows = rows;
        for column in shown.iter().filter(|one| matches!(headings[one.index].cut, Cut::Middle(_))) {
            shorten_names(&mut rows, *column);
        }
        Self { headings, rows, shown }
    }

    /// Returns the cells of the heading, cut and padded.
    pub(crate) fn heading(&self) -> Vec<String> {
        self.cells(|index| self.headings[index].title)
    }

    /// Returns the cells of each row, cut and padded.
    pub(crate) fn rows(&self) -> impl Iterator<Item = Vec<String>> + '_ {
        self.rows.iter().map(|row| self.cells(|index| &row[index]))
    }

    /// Returns the heading and the rows as lines.
    pub(crate) fn lines(&self) -> Vec<String> {
        [self.heading()].into_iter().chain(self.rows()).map(|cells| line(&cells)).collect()
    }

    fn cells<'a>(&'a self, text: impl Fn(usize) -> &'a str) -> Vec<String> {
        let fitted = |one: &ShownColumn| fit(text(one.index), self.headings[one.index].align, one.width);
        self.shown.iter().map(fitted).collect()
    }
}

/// Joins cells, without spaces at the end.
pub(crate) fn line(cells: &[String]) -> String {
    cells.join(GAP).trim_end().to_owned()
}

fn lay_out(headings: &[Heading], rows: &[Vec<String>], room: Option<usize>) -> Vec<ShownColumn> {
    let wanted = |index: usize| {
        let cells = rows.iter().map(|row| width(&row[index])).max().unwrap_or(0);
        cells.max(width(headings[index].title))
    };
    let mut shown: Vec<_> =
        (0..headings.len()).map(|index| ShownColumn { index, width: wanted(index) }).collect();
    let Some(room) = room else { return shown };
    let expendable = |shown: &[ShownColumn], below: u8| {
        let order = |one: &ShownColumn| headings[one.index].expendable.filter(|order| *order < below);
        shown.iter().filter_map(|one| Some((order(one)?, one.index))).min()
    };
    while total(&shown) > room {
        let Some((_, next)) = expendable(&shown, WHERE_WIDE) else { break };
        shown.retain(|one| one.index != next);
    }
    while least(&shown, headings) > room {
        let Some((_, next)) = expendable(&shown, u8::MAX) else { break };
        shown.retain(|one| one.index != next);
    }
    while total(&shown) > room {
        // The widest shrinks first, so that short names stay whole.
        let can_shrink =
            |one: &&mut ShownColumn| headings[one.index].cut.least().is_some_and(|least| one.width > least);
        let Some(widest) = shown.iter_mut().filter(can_shrink).max_by_key(|one| one.width) else { break };
        widest.width -= 1;
    }
    shown
}

fn total(shown: &[ShownColumn]) -> usize {
    shown.iter().map(|one| one.width).sum::<usize>() + GAP.len() * shown.len().saturating_sub(1)
}

/// Returns the width of these columns with all names cut to a comfortable width.
fn least(shown: &[ShownColumn], headings: &[Heading]) -> usize {
    let cut = |one: &ShownColumn| ShownColumn {
        width: headings[one.index]
            .cut
            .least()
            .map_or(one.width, |least| COMFORTABLE.max(least).min(one.width)),
        ..*one
    };
    total(&shown.iter().map(cut).collect::<Vec<_>>())
}

/// Replaces the names of a column by shorter ones that stay different, if one of them does not fit.
fn shorten_names(rows: &mut [Vec<String>], column: ShownColumn) {
    if rows.iter().all(|row| width(&row[column.index]) <= column.width) {
        return;
    }
    let texts = shortened(rows.iter().map(|row| row[column.index].as_str()), column.width);
    let cut: Vec<_> = rows.iter().map(|row| texts[row[column.index].as_str()].clone()).collect();
    rows.iter_mut().zip(cut).for_each(|(row, text)| row[column.index] = text);
}

fn fit(text: &str, align: Align, columns: usize) -> String {
    let text: Cow<'_, str> = elide(text, columns);
    let padding = " ".repeat(columns.saturating_sub(width(&text)));
    match align {
        Align::Left => format!("{text}{padding}"),
        Align::Right => format!("{padding}{text}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADINGS: [Heading; 3] = [
        Heading { title: "NAME", align: Align::Left, expendable: None, cut: Cut::Middle(5) },
        Heading { title: "LAG", align: Align::Right, expendable: None, cut: Cut::Never },
        Heading { title: "AGE", align: Align::Right, expendable: Some(WHERE_WIDE), cut: Cut::Never },
    ];

    fn table(room: Option<usize>) -> String {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["a name that is long", "1,213", "3m 01s"]), row(["注文", "7", "?"])];
        TextTable::new(HEADINGS.to_vec(), rows.to_vec(), room).lines().join("\n")
    }

    #[test]
    fn names_are_cut_first_and_then_columns_are_left_out() {
        insta::assert_snapshot!(table(None), @r"
        NAME                   LAG     AGE
        a name that is long  1,213  3m 01s
        注文                     7       ?
        ");
        insta::assert_snapshot!(table(Some(26)), @r"
        NAME           LAG     AGE
        a nam… long  1,213  3m 01s
        注文             7       ?
        ");
        insta::assert_snapshot!(table(Some(25)), @r"
        NAME                  LAG
        a name t…t is long  1,213
        注文                    7
        ");
        insta::assert_snapshot!(table(Some(1)), @r"
        NAME     LAG
        a …ng  1,213
        注文       7
        ");
    }
}
