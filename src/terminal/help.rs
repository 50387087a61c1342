//! The keys of the view: the line at the bottom, and the help.

use ratatui::style::Modifier;
use ratatui::text::{Line, Text};

use crate::terminal::status_view::ViewMode;
use crate::terminal::text::width;

/// The most important keys come first: those that do not fit are left out.
const LIST: [&str; 9] = [
    "q quit",
    "? help",
    "\u{2191}\u{2193} move",
    "Enter open",
    "/ filter",
    "s sort",
    "e events",
    "f fold",
    "r reverse",
];
const DETAIL: [&str; 5] = ["q quit", "Esc back", "\u{2191}\u{2193} scroll", "? help", "e events"];
const FILTER: [&str; 2] = ["Enter done", "Esc clear"];
const COVER: [&str; 2] = ["q back", "\u{2191}\u{2193} scroll"];

const KEYS: [(&str, &str); 14] = [
    ("j k \u{2193} \u{2191}", "move the cursor, or scroll"),
    ("g G Home End", "first line, last line"),
    ("PgUp PgDn ^B ^F", "one page"),
    ("Enter", "open a group, or a folded line"),
    ("Space", "open or close a folded line"),
    ("f", "fold groups, or show one line for each"),
    ("s", "sort by another column"),
    ("r", "reverse the order"),
    ("/", "filter by target, stream, group or condition"),
    ("e", "recent events"),
    ("?", "this help"),
    ("Esc", "back; in the list, clear the filter"),
    ("q", "quit, or back from the help and the events"),
    ("^C", "quit"),
];

const WORDS: [(&str, &str); 18] = [
    ("missing", "the configuration names the group, and it does not exist"),
    ("abandoned", "entries wait, and no consumer reads"),
    ("losing", "entries are trimmed before they are delivered"),
    ("rewound", "the position of the group was set back"),
    ("stalled", "entries wait, and consumers do not read them"),
    ("stuck", "a pending entry is not delivered again"),
    ("lagging", "the lag grows"),
    ("unknown", "there is not enough history yet"),
    ("ok", "none of these"),
    ("LAG", "entries not delivered yet; 1..9 are its certain bounds"),
    ("TREND", "change of the lag per second"),
    ("RECENT LAG", "the lag at the last readings, from 0 to its greatest"),
    ("BEHIND", "age of the oldest entry not delivered yet"),
    ("PENDING", "entries delivered and not acknowledged; OLDEST is the age of the oldest"),
    ("DRAIN", "time until the lag is gone at this trend"),
    ("IN/S OUT/S", "entries added to the stream, delivered to the group per second"),
    ("?  -", "not known; does not apply"),
    ("\u{25b8} 24 groups", "groups of one stream or family and status, with their largest numbers"),
];

/// Returns the line of keys that fit.
pub(super) fn keys(mode: ViewMode, columns: usize) -> String {
    let all = match mode {
        ViewMode::List => &LIST[..],
        ViewMode::Detail => &DETAIL,
        ViewMode::Filter => &FILTER,
        ViewMode::Events | ViewMode::Help => &COVER,
    };
    let mut line = String::new();
    for key in all {
        let gap = if line.is_empty() { "" } else { "  " };
        if width(&line) + gap.len() + width(key) > columns {
            break;
        }
        line = format!("{line}{gap}{key}");
    }
    line
}

pub(super) fn text() -> Text<'static> {
    let row = |(name, meaning): (&str, &str)| Line::from(format!("{name:<16}{meaning}"));
    let title = |title: &'static str| Line::styled(title, Modifier::BOLD);
    let keys = [title("Keys")].into_iter().chain(KEYS.map(row));
    keys.chain([Line::default(), title("Words")]).chain(WORDS.map(row)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_do_not_fit_are_left_out() {
        assert_eq!(
            keys(ViewMode::List, 80),
            "q quit  ? help  \u{2191}\u{2193} move  Enter open  / filter  s sort  e events  f fold"
        );
        assert_eq!(keys(ViewMode::List, 40), "q quit  ? help  \u{2191}\u{2193} move  Enter open");
        assert_eq!(keys(ViewMode::Detail, 3), "");
    }
}
