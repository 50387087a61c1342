//! The byte stream of a connection, between the socket and the client library: it counts the bytes of replies, keeps the
//! first of them, and makes integers readable that the library would take for the end of the connection.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::self_metrics::target::TargetMetrics;
use redis_stream_core::dial::Stream;

/// Size of one read.
const BUFFER_BYTES: usize = 16 * 1024;
/// Number of the first bytes that are kept: an error line and more.
const FIRST_BYTES: usize = 1_024;
/// Longest part of a line that waits for the rest of the line; no integer is longer.
const HELD_BYTES: usize = 64;

/// The first bytes that a server sent on a connection. A server that accepts no more clients sends an error and closes
/// the connection, which the library reports as closed if nothing was asked yet, or if a write fails first.
#[derive(Clone, Debug, Default)]
pub(super) struct FirstBytes(Arc<Mutex<Vec<u8>>>);

impl FirstBytes {
    pub(super) fn get(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Adds received bytes. Returns true if it takes more.
    fn add(&self, bytes: &[u8]) -> bool {
        let mut first = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = FIRST_BYTES - first.len();
        first.extend_from_slice(&bytes[..left.min(bytes.len())]);
        first.len() < FIRST_BYTES
    }
}

/// A connection, as the client library uses it.
pub(super) struct ReplyStream {
    stream: Stream,
    metrics: TargetMetrics,
    first: FirstBytes,
    takes_first: bool,
    framing: Framing,
    buffer: Vec<u8>,
    /// Bytes at the start of the buffer that were passed on.
    passed: usize,
    /// Bytes at the start of the buffer that may be passed on.
    ready: usize,
}

impl ReplyStream {
    pub(super) fn new(stream: Stream, metrics: TargetMetrics) -> Self {
        Self {
            stream,
            metrics,
            first: FirstBytes::default(),
            takes_first: true,
            framing: Framing::Line,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            passed: 0,
            ready: 0,
        }
    }

    pub(super) fn first_bytes(&self) -> FirstBytes {
        self.first.clone()
    }

    /// Reads more into the buffer, behind what waits there. Returns false at the end of the stream.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<bool>> {
        self.buffer.drain(..self.ready);
        (self.passed, self.ready) = (0, 0);
        let waiting = self.buffer.len();
        self.buffer.resize(BUFFER_BYTES, 0);
        let mut read = ReadBuf::new(&mut self.buffer[waiting..]);
        let polled = Pin::new(&mut self.stream).poll_read(cx, &mut read);
        let received = read.filled().len();
        self.buffer.truncate(waiting + received);
        ready!(polled)?;
        self.metrics.count_reply_bytes(received as u64);
        if self.takes_first {
            self.takes_first = self.first.add(&self.buffer[waiting..]);
        }
        let held = if received > 0 { self.framing.pass(&mut self.buffer) } else { 0 };
        self.ready = self.buffer.len() - held;
        Poll::Ready(Ok(received > 0))
    }
}

impl AsyncRead for ReplyStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.passed == self.ready {
            if !ready!(self.poll_fill(cx))? {
                break;
            }
        }
        let end = self.ready.min(self.passed + buf.remaining());
        buf.put_slice(&self.buffer[self.passed..end]);
        self.passed = end;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for ReplyStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes));
        if written.is_err() && self.takes_first {
            self.takes_first = self.first.add(&self.stream.unread());
        }
        Poll::Ready(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// A position in a stream of RESP.
///
/// An integer beyond 64 bits makes the library close the connection, although only one value is affected: its type is
/// changed to that of big numbers, which the decoder rejects for the stream that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    /// At the start of a line.
    Line,
    /// In a line that is longer than any integer.
    LongLine,
    /// In a string, with so many bytes left, its line break included.
    Bulk(usize),
    /// In bytes that are not RESP, which are passed on as they are.
    Foreign,
}

impl Framing {
    /// Changes the type of the integers that the library cannot read. Returns the length of an incomplete line at the
    /// end, which is to be passed again together with its rest.
    fn pass(&mut self, bytes: &mut [u8]) -> usize {
        let mut rest = bytes;
        while !rest.is_empty() {
            let end = rest.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
            let taken = match (*self, end) {
                (Self::Foreign, _) => return 0,
                (Self::Bulk(left), _) => {
                    let taken = left.min(rest.len());
                    *self = if taken == left { Self::Line } else { Self::Bulk(left - taken) };
                    taken
                }
                (Self::LongLine, end) => {
                    *self = if end.is_some() { Self::Line } else { Self::LongLine };
                    end.unwrap_or(rest.len())
                }
                (Self::Line, None) if rest.len() <= HELD_BYTES => return rest.len(),
                (Self::Line, None) => {
                    *self = Self::LongLine;
                    rest.len()
                }
                (Self::Line, Some(end)) => {
                    *self = Self::after_line(&mut rest[..end]);
                    end
                }
            };
            rest = &mut rest[taken..];
        }
        0
    }

    /// Returns the position after a whole line.
    fn after_line(line: &mut [u8]) -> Self {
        let Some((kind, number)) = line.split_first_mut() else { return Self::Foreign };
        let number = number.trim_ascii();
        match kind {
            b':' if is_beyond_64_bits(number) => {
                *kind = b'(';
                Self::Line
            }
            b':' | b'+' | b'-' | b'*' | b'%' | b'~' | b'>' | b'|' | b'_' | b'#' | b',' | b'(' => Self::Line,
            b'$' | b'!' | b'=' if number == b"-1" => Self::Line,
            b'$' | b'!' | b'=' => {
                parse::<usize>(number).map_or(Self::Foreign, |length| Self::Bulk(length.saturating_add(2)))
            }
            _ => Self::Foreign,
        }
    }
}

fn is_beyond_64_bits(number: &[u8]) -> bool {
    let digits = number.strip_prefix(b"-").unwrap_or(number);
    digits.len() > 18 && digits.iter().all(u8::is_ascii_digit) && parse::<i64>(number).is_none()
}

fn parse<T: std::str::FromStr>(number: &[u8]) -> Option<T> {
    std::str::from_utf8(number).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Passes the bytes in parts of this size, as a stream does.
    fn passed(bytes: &[u8], size: usize) -> Vec<u8> {
        let (mut framing, mut waiting, mut passed) = (Framing::Line, Vec::new(), Vec::new());
        for part in bytes.chunks(size) {
            waiting.extend_from_slice(part);
            let held = framing.pass(&mut waiting);
            passed.extend(waiting.drain(..waiting.len() - held));
        }
        passed.extend(waiting);
        passed
    }

    #[test]
    fn integers_beyond_64_bits_become_big_numbers_and_nothing_else_changes() {
        for (bytes, expected) in [
            (&b":18446744073709551615\r\n"[..], &b"(18446744073709551615\r\n"[..]),
            (
                b"*2\r\n:9223372036854775808\r\n:9223372036854775807\r\n",
                b"*2\r\n(9223372036854775808\r\n:9223372036854775807\r\n",
            ),
            (
                b":-9223372036854775809\r\n:-9223372036854775808\r\n",
                b"(-9223372036854775809\r\n:-9223372036854775808\r\n",
            ),
            (b"$23\r\n:18446744073709551615\r\n\r\n:1\r\n", b"$23\r\n:18446744073709551615\r\n\r\n:1\r\n"),
            (b"$-1\r\n:18446744073709551615\r\n", b"$-1\r\n(18446744073709551615\r\n"),
            (b"$0\r\n\r\n:18446744073709551615\r\n", b"$0\r\n\r\n(18446744073709551615\r\n"),
            (
                b"-ERR :18446744073709551615\r\n+:18446744073709551615\r\n",
                b"-ERR :18446744073709551615\r\n+:18446744073709551615\r\n",
            ),
            (b":99999999999999999999x\r\n", b":99999999999999999999x\r\n"),
            (
                b"HTTP/1.1 200 OK\r\n:18446744073709551615\r\n",
                b"HTTP/1.1 200 OK\r\n:18446744073709551615\r\n",
            ),
            (
                b"$99999999999999999999\r\n:18446744073709551615\r\n",
                b"$99999999999999999999\r\n:18446744073709551615\r\n",
            ),
            (b":18446744073709551615", b":18446744073709551615"),
        ] {
            for size in 1..=bytes.len() {
                assert_eq!(passed(bytes, size), expected, "{:?} by {size}", String::from_utf8_lossy(bytes));
            }
        }
    }

    #[test]
    fn a_line_longer_than_any_integer_is_passed_before_it_ends() {
        let long = format!("-ERR {}", "x".repeat(HELD_BYTES));
        let mut framing = Framing::Line;
        assert_eq!(framing.pass(&mut long.into_bytes()), 0);
        assert_eq!(framing, Framing::LongLine);
        let mut rest = b"y\r\n:18446744073709551615\r\n:1".to_vec();
        assert_eq!(framing.pass(&mut rest), 2);
        assert_eq!(rest, b"y\r\n(18446744073709551615\r\n:1");
    }

    proptest! {
        #[test]
        fn what_the_library_can_read_is_passed_as_it_is(
            texts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..6),
            numbers in proptest::collection::vec(any::<i64>(), 0..6),
            size in 1..50_usize,
        ) {
            let mut bytes = format!("*{}\r\n", texts.len() + numbers.len()).into_bytes();
            for text in &texts {
                bytes.extend(format!("${}\r\n", text.len()).into_bytes());
                bytes.extend(text);
                bytes.extend(b"\r\n");
            }
            numbers.iter().for_each(|number| bytes.extend(format!(":{number}\r\n").into_bytes()));
            prop_assert_eq!(passed(&bytes, size), bytes);
        }
    }
}
