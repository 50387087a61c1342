//! Standard output and standard error of the commands. All text that reaches a terminal passes through here, so that no
//! name from a server, file or flag can act on it.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _, Write};

use rustix::fs::{OFlags, fcntl_getfl, fstat, stat};
use thiserror::Error;

use crate::config::Target;
use crate::format::unicode::{printable, printable_json, printable_lines};
use crate::logging;
use redis_stream_core::escape::push_byte;
use redis_stream_core::tls::{SKIPPED, Verification};

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

/// Standard output for the result of a command. Its errors are [`StdoutError`]s.
pub(super) struct ResultWriter<W>(W);

impl<W: Write> Write for ResultWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).map_err(|error| io::Error::new(error.kind(), StdoutError(error)))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush().map_err(|error| io::Error::new(error.kind(), StdoutError(error)))
    }
}

#[derive(Debug, Error)]
#[error("cannot write to standard output: {0}")]
struct StdoutError(#[source] io::Error);

/// Returns true if a result was not written because its reader has ended, as `head` does.
pub(super) fn is_reader_gone(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| {
        error.kind() == io::ErrorKind::BrokenPipe
            && error.get_ref().is_some_and(|inner| inner.is::<StdoutError>())
    })
}

/// Returns standard output for people: lines, with colours if it is a terminal.
pub(super) fn stdout() -> EscapingWriter<ResultWriter<anstream::Stdout>> {
    #[expect(clippy::disallowed_methods, reason = "escaped here")]
    let out = anstream::stdout();
    EscapingWriter { out: ResultWriter(out), escape: printable_lines }
}

/// Returns standard output for a result in a format that escapes by itself.
pub(super) fn raw_stdout() -> ResultWriter<io::Stdout> {
    ResultWriter(process_stdout())
}

/// Returns standard output for entries in JSON, which are acknowledged once they are written. Their characters are
/// escaped if it is a terminal.
///
/// # Errors
///
/// It was closed when the program started, or is not open for writing: the standard library ignores
/// both.
pub(super) fn entries_stdout() -> io::Result<Box<dyn Write + Send>> {
    let out = process_stdout();
    let problem = match fcntl_getfl(&out).map(|flags| flags & OFlags::RWMODE) {
        Err(error) => error.to_string(),
        Ok(OFlags::RDONLY) => "it is open for reading only".to_owned(),
        // The standard library opens this in place of a closed descriptor; a shell opens it for writing only.
        Ok(OFlags::RDWR) if is_null_device(&out) => {
            "it is closed, or /dev/null open for reading, too".to_owned()
        }
        Ok(_) if out.is_terminal() => return Ok(Box::new(EscapingWriter { out, escape: printable_json })),
        Ok(_) => return Ok(Box::new(out)),
    };
    let advice = "expected a pipe, a file, or > /dev/null to discard the entries";
    Err(io::Error::other(format!("cannot write entries to standard output: {problem}; {advice}")))
}

fn is_null_device(out: &io::Stdout) -> bool {
    matches!((fstat(out), stat("/dev/null")), (Ok(out), Ok(null)) if out.st_rdev == null.st_rdev && null.st_rdev != 0)
}

fn process_stdout() -> io::Stdout {
    #[expect(clippy::disallowed_methods, reason = "the callers escape")]
    io::stdout()
}

/// Tells of targets whose certificates are not verified: the log, which would, is off by default.
pub(super) fn tell_unverified(targets: &[Target]) {
    for target in targets.iter().filter(|target| target.tls.verification == Verification::Skipped) {
        print_error(&format!("target {:?}: {SKIPPED}", target.name));
    }
}

/// Prints a line to standard error.
pub(super) fn print_error(line: &str) {
    print_error_lines(&printable(line));
}

/// Prints one or more lines to standard error.
pub(super) fn print_error_lines(lines: &str) {
    logging::print(&printable_lines(lines));
}

/// Returns standard error, for control sequences of our own.
pub(super) fn stderr() -> io::Stderr {
    #[expect(clippy::disallowed_methods, reason = "named for it")]
    io::stderr()
}

/// Returns the number of columns; `None` if standard output is not a terminal.
pub(super) fn terminal_width() -> Option<usize> {
    let size = process_stdout().is_terminal().then(ratatui::crossterm::terminal::size)?;
    size.ok().map(|(columns, _)| usize::from(columns)).filter(|columns| *columns > 0)
}
