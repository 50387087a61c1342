//! Standard output and standard error of the commands that run in a terminal.

use std::io::{self, IsTerminal as _, Write as _};

/// Prints a line to standard error.
pub(super) fn print_error(line: &str) {
    // A closed standard error must not end the command.
    let _ = writeln!(io::stderr(), "{line}");
}

/// Returns the number of columns; `None` if standard output is not a terminal.
pub(super) fn terminal_width() -> Option<usize> {
    let size = io::stdout().is_terminal().then(ratatui::crossterm::terminal::size)?;
    size.ok().map(|(columns, _)| usize::from(columns)).filter(|columns| *columns > 0)
}
