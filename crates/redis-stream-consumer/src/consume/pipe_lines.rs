//! Lines from the pipe of a child process, each of bounded length.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::ChildStderr;
use tracing::info;

use crate::entry::StreamId;

const CHUNK_BYTES: usize = 8 * 1024;

/// Reads lines of up to `max` bytes.
pub(super) struct PipeLines<R> {
    pipe: R,
    max: usize,
    buffer: Vec<u8>,
    /// Where the first line in the buffer begins.
    start: usize,
    /// The rest of a line that was too long is dropped.
    is_skipping: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Line {
    Whole(String),
    /// The beginning of a line that is longer than allowed.
    TooLong(String),
}

impl<R: AsyncRead + Unpin> PipeLines<R> {
    pub(super) fn new(pipe: R, max: usize) -> Self {
        Self { pipe, max, buffer: Vec::new(), start: 0, is_skipping: false }
    }

    /// Returns the next line, without its end; `None` after the last. Cancel safe.
    pub(super) async fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            if let Some(line) = self.take_buffered() {
                return Ok(Some(line));
            }
            self.buffer.drain(..self.start);
            self.start = 0;
            self.buffer.reserve(CHUNK_BYTES);
            if self.pipe.read_buf(&mut self.buffer).await? == 0 {
                let rest = std::mem::take(&mut self.buffer);
                return Ok((!rest.is_empty() && !self.is_skipping).then(|| Line::Whole(text(&rest))));
            }
        }
    }

    fn take_buffered(&mut self) -> Option<Line> {
        loop {
            let rest = &self.buffer[self.start..];
            let end = rest.iter().position(|byte| *byte == b'\n');
            let line = &rest[..end.unwrap_or(rest.len())];
            let (length, was_skipping) = (line.len(), self.is_skipping);
            let found = match end {
                _ if was_skipping => None,
                Some(_) if length <= self.max => Some(Line::Whole(text(line))),
                None if length <= self.max => return None,
                _ => Some(Line::TooLong(text(&line[..self.max]))),
            };
            self.is_skipping = end.is_none();
            self.start += length + usize::from(end.is_some());
            if found.is_some() || end.is_none() {
                return found;
            }
        }
    }
}

fn text(line: &[u8]) -> String {
    String::from_utf8_lossy(line.strip_suffix(b"\r").unwrap_or(line)).into_owned()
}

/// Longest part of a line of standard error that is logged.
const MAX_STDERR_LINE: usize = 2 * 1024;
/// Most lines of standard error that are logged for one entry.
const MAX_STDERR_LINES: usize = 100;

/// Logs what a child writes to standard error, and keeps the last line.
pub(super) struct StderrLog {
    lines: PipeLines<ChildStderr>,
    logged: usize,
    last: String,
}

impl StderrLog {
    pub(super) fn new(pipe: ChildStderr) -> Self {
        Self { lines: PipeLines::new(pipe, MAX_STDERR_LINE), logged: 0, last: String::new() }
    }

    /// Logs a line for an entry, or for none. Returns false after the last line. Cancel safe.
    pub(super) async fn forward(&mut self, entry: Option<StreamId>) -> bool {
        let Ok(Some(Line::Whole(line) | Line::TooLong(line))) = self.lines.next().await else { return false };
        if line.trim().is_empty() {
            return true;
        }
        let entry = entry.map(tracing::field::display);
        match self.logged {
            MAX_STDERR_LINES => info!(entry, "further lines are not logged"),
            logged if logged > MAX_STDERR_LINES => {}
            _ => info!(entry, line, "handler wrote to standard error"),
        }
        self.logged += 1;
        self.last = line;
        true
    }

    /// Logs further lines, since the last ones were those of other entries.
    pub(super) fn allow_more(&mut self) {
        self.logged = 0;
    }

    /// Returns the last line that is not blank; empty if there is none.
    pub(super) fn last(&self) -> &str {
        &self.last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn all(input: &[u8], max: usize) -> Vec<Line> {
        let mut lines = PipeLines::new(input, max);
        let mut found = Vec::new();
        while let Some(line) = lines.next().await.unwrap() {
            found.push(line);
        }
        found
    }

    #[tokio::test]
    async fn a_line_that_is_too_long_is_cut_and_its_rest_dropped() {
        let whole = |text: &str| Line::Whole(text.to_owned());
        let cut = |text: &str| Line::TooLong(text.to_owned());
        for (input, expected) in [
            ("", vec![]),
            ("\n", vec![whole("")]),
            ("a\nbcd\r\ne", vec![whole("a"), whole("bcd"), whole("e")]),
            ("abcd\nabcde\nabc\n", vec![whole("abcd"), cut("abcd"), whole("abc")]),
            ("abcdefgh", vec![cut("abcd")]),
        ] {
            assert_eq!(all(input.as_bytes(), 4).await, expected, "{input:?}");
        }
        let long = [vec![b'x'; 5 * CHUNK_BYTES], b"\nb\n".to_vec()].concat();
        assert_eq!(all(&long, 4).await, [cut("xxxx"), whole("b")]);
    }
}
