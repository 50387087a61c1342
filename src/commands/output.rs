//! Standard output and standard error of the commands. All text that reaches a terminal passes through here, so that no
//! name from a server, file or flag can act on it.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write};

use redis_stream_core::escape::push_byte;

use crate::format::unicode::{printable, printable_json, printable_lines};

/// A writer that escapes text on its way. Each write must consist of whole characters.
pub(super) struct EscapingWriter<W> {
    out: W,
    escape: fn(&str) -> Cow<'_, str>,
}

impl<W: Write> Write for EscapingWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        for chunk in bytes.utf8_chunks() {
            self.out.write_all((self.escape)(chunk.valid()).as_bytes())?;
            let mut invalid = String::new();
            chunk.invalid().iter().for_each(|byte| push_byte(&mut invalid, *byte));
            self.out.write_all(invalid.as_bytes())?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// Returns standard output for people: lines, with colours if it is a terminal.
pub(super) fn stdout() -> EscapingWriter<anstream::Stdout> {
    #[expect(clippy::disallowed_methods, reason = "escaped here")]
    let out = anstream::stdout();
    EscapingWriter { out, escape: printable_lines }
}

/// Returns standard output for JSON. Its characters are escaped if it is a terminal.
pub(super) fn json_stdout() -> Box<dyn Write + Send> {
    let out = raw_stdout();
    if out.is_terminal() { Box::new(EscapingWriter { out, escape: printable_json }) } else { Box::new(out) }
}

/// Returns standard output for text in a format that escapes by itself.
pub(super) fn raw_stdout() -> io::Stdout {
    #[expect(clippy::disallowed_methods, reason = "named for it")]
    io::stdout()
}

/// Prints a line to standard error.
pub(super) fn print_error(line: &str) {
    print_error_lines(&printable(line));
}

/// Prints one or more lines to standard error.
pub(super) fn print_error_lines(lines: &str) {
    // A closed standard error must not end the command.
    let _ = writeln!(stderr(), "{}", printable_lines(lines));
}

/// Returns standard error, for control sequences of our own.
pub(super) fn stderr() -> io::Stderr {
    #[expect(clippy::disallowed_methods, reason = "named for it")]
    io::stderr()
}

/// Returns the number of columns; `None` if standard output is not a terminal.
pub(super) fn terminal_width() -> Option<usize> {
    let size = raw_stdout().is_terminal().then(ratatui::crossterm::terminal::size)?;
    size.ok().map(|(columns, _)| usize::from(columns)).filter(|columns| *columns > 0)
}
