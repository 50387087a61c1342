//! How wide the columns of a table are: as wide as what they hold, and where there is less room names are cut short
//! and some columns are left out.

use std::borrow::Cow;

use crate::terminal::text::{elide, width};

/// Columns of a terminal between two columns of a table.
pub const GAP: usize = 2;

/// The side that cells begin at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Words.
    Left,
    /// Numbers.
    Right,
}

/// How a column is headed and laid out.
#[derive(Clone, Copy, Debug)]
pub struct Heading {
    /// What stands over it.
    pub title: &'static str,
    /// The side that its cells begin at.
    pub align: Align,
    /// When it is left out for want of room: 0 is the first; `None` is never.
    pub expendable: Option<u8>,
    /// How narrow its cells may be cut; `None` is not at all.
    pub shrinks_to: Option<usize>,
}

/// A column that is shown: where it is among those that were asked for, and how wide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Its position.
    pub at: usize,
    /// Its width.
    pub width: usize,
}

/// Which columns are shown, and how wide, in a terminal of this width; `None` is as much as there is.
#[must_use]
pub fn lay_out(headings: &[Heading], rows: &[Vec<String>], room: Option<usize>) -> Vec<Shown> {
    let wanted = |at: usize| {
        let cells = rows.iter().map(|row| width(&row[at])).max().unwrap_or(0);
        cells.max(width(headings[at].title))
    };
    let mut shown: Vec<_> = (0..headings.len()).map(|at| Shown { at, width: wanted(at) }).collect();
    let Some(room) = room else { return shown };
    while least(&shown, headings) > room {
        let next = shown.iter().filter_map(|one| Some((headings[one.at].expendable?, one.at))).min();
        let Some((_, next)) = next else { break };
        shown.retain(|one| one.at != next);
    }
    while total(&shown) > room {
        // The widest gives way first, so that short names stay whole.
        let can_shrink =
            |one: &&mut Shown| headings[one.at].shrinks_to.is_some_and(|least| one.width > least);
        let Some(widest) = shown.iter_mut().filter(can_shrink).max_by_key(|one| one.width) else { break };
        widest.width -= 1;
    }
    shown
}

fn total(shown: &[Shown]) -> usize {
    shown.iter().map(|one| one.width).sum::<usize>() + GAP * shown.len().saturating_sub(1)
}

/// The least room that these columns do with.
fn least(shown: &[Shown], headings: &[Heading]) -> usize {
    let cut = |one: &Shown| Shown {
        width: headings[one.at].shrinks_to.map_or(one.width, |least| least.min(one.width)),
        ..*one
    };
    total(&shown.iter().map(cut).collect::<Vec<_>>())
}

/// A cell, cut and padded to a width.
#[must_use]
pub fn fit(text: &str, align: Align, columns: usize) -> String {
    let text: Cow<'_, str> = elide(text, columns);
    let padding = " ".repeat(columns - width(&text));
    match align {
        Align::Left => format!("{text}{padding}"),
        Align::Right => format!("{padding}{text}"),
    }
}

/// The lines of a table without any style, its heading first; nothing is padded at the end of a line.
#[must_use]
pub fn lines(headings: &[Heading], rows: &[Vec<String>], room: Option<usize>) -> Vec<String> {
    let shown = lay_out(headings, rows, room);
    let line = |cell: &dyn Fn(usize) -> String| {
        let cells: Vec<_> =
            shown.iter().map(|one| fit(&cell(one.at), headings[one.at].align, one.width)).collect();
        cells.join(&" ".repeat(GAP)).trim_end().to_owned()
    };
    let head = line(&|at| headings[at].title.to_owned());
    std::iter::once(head).chain(rows.iter().map(|row| line(&|at| row[at].clone()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADINGS: [Heading; 3] = [
        Heading { title: "NAME", align: Align::Left, expendable: None, shrinks_to: Some(5) },
        Heading { title: "LAG", align: Align::Right, expendable: None, shrinks_to: None },
        Heading { title: "AGE", align: Align::Right, expendable: Some(0), shrinks_to: None },
    ];

    fn table(room: Option<usize>) -> String {
        let row = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let rows = [row(["a name that is long", "1,213", "3m 01s"]), row(["注文", "7", "?"])];
        lines(&HEADINGS, &rows, room).join("\n")
    }

    #[test]
    fn names_are_cut_first_and_then_columns_are_left_out() {
        insta::assert_snapshot!(table(None), @r"
        NAME                   LAG     AGE
        a name that is long  1,213  3m 01s
        注文                     7       ?
        ");
        insta::assert_snapshot!(table(Some(25)), @r"
        NAME          LAG     AGE
        a name th…  1,213  3m 01s
        注文            7       ?
        ");
        insta::assert_snapshot!(table(Some(18)), @r"
        NAME           LAG
        a name tha…  1,213
        注文             7
        ");
        insta::assert_snapshot!(table(Some(1)), @r"
        NAME     LAG
        a na…  1,213
        注文       7
        ");
    }
}
