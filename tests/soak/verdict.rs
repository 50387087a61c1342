//! What was measured beside what it must be, as a table, and whether all of it holds.

use std::fmt::{Display, Write as _};

/// The lines of the table.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    lines: Vec<Line>,
    /// Explanations of lines that do not hold.
    notes: Vec<String>,
}

#[derive(Debug)]
struct Line {
    what: String,
    measured: String,
    bound: String,
    holds: bool,
}

/// As many of the reasons as help.
const MOST_NOTES: usize = 10;

impl Verdict {
    /// Adds what was measured, beside its bound in words.
    pub(crate) fn hold(&mut self, what: &str, measured: impl Display, bound: impl Display, holds: bool) {
        let (measured, bound) = (measured.to_string(), bound.to_string());
        self.lines.push(Line { what: what.to_owned(), measured, bound, holds });
    }

    /// The same of something that must not be more than before, but for so many that come and go.
    pub(crate) fn no_more(&mut self, what: &str, before: usize, after: usize, passing: usize) {
        let bound = before + passing;
        self.hold(what, after, format_args!("{bound} at most, after {before}"), after <= bound);
    }

    /// The same of faults, of which there must be none.
    pub(crate) fn none(&mut self, what: &str, faults: &[String]) {
        self.few(what, faults, 0);
    }

    /// The same of faults, of which there may be so many.
    pub(crate) fn few(&mut self, what: &str, faults: &[String], most: usize) {
        let bound = if most == 0 { "0".to_owned() } else { format!("{most} at most") };
        self.hold(what, faults.len(), bound, faults.len() <= most);
        self.notes.extend(faults.iter().take(MOST_NOTES).map(|fault| format!("{what}: {fault}")));
    }

    /// Adds what is only told.
    pub(crate) fn note(&mut self, what: &str, measured: impl Display) {
        self.hold(what, measured, "", true);
    }

    /// Returns true if all lines hold.
    pub(crate) fn holds(&self) -> bool {
        self.lines.iter().all(|line| line.holds)
    }

    /// The table in Markdown, and what explains it.
    pub(crate) fn text(&self) -> String {
        let mut text = "| what | measured | to be | |\n| --- | ---: | ---: | --- |\n".to_owned();
        for Line { what, measured, bound, holds } in &self.lines {
            let word = match (bound.as_str(), holds) {
                ("", _) => "",
                (_, true) => "holds",
                (_, false) => "FAILS",
            };
            let _ = writeln!(text, "| {what} | {measured} | {bound} | {word} |");
        }
        for note in &self.notes {
            let _ = writeln!(text, "\n{note}");
        }
        text
    }
}
