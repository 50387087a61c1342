//! A handler that writes entries as [JSON lines](crate::json_line). A separate thread writes, so that a sink that is not
//! read holds up nothing else.

use std::io::{self, Write};
use std::sync::{Arc, mpsc};
use std::thread;

use tokio::sync::oneshot;

use super::handler::{Handler, HandlerError};
use crate::entry::{Entry, GroupMember};
use crate::json_line::LineFormat;

/// Approximate size of one write.
const CHUNK_BYTES: usize = 64 * 1024;

/// Writes each entry as one line. An entry is handled once its line is written and flushed.
pub struct JsonLinesWriter {
    format: LineFormat,
    lines: mpsc::Sender<PendingLine>,
}

struct PendingLine {
    text: Vec<u8>,
    written: oneshot::Sender<Result<(), HandlerError>>,
}

impl JsonLinesWriter {
    /// Starts the thread. It ends with this value, or stays in a write that blocks.
    ///
    /// # Errors
    ///
    /// The system's error if the thread cannot be started.
    pub fn new(member: &GroupMember, sink: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, receiver) = mpsc::channel();
        thread::Builder::new().name("lines".to_owned()).spawn(move || write_all(sink, &receiver))?;
        Ok(Self { format: LineFormat::new(member), lines })
    }
}

impl Handler for JsonLinesWriter {
    async fn handle(&self, entry: &Entry) -> Result<(), HandlerError> {
        let mut text = Vec::with_capacity(256);
        self.format.write(entry, &mut text);
        let (written, outcome) = oneshot::channel();
        self.lines.send(PendingLine { text, written }).map_err(|_| HandlerError::Closed)?;
        // Dropped if the thread has ended.
        outcome.await.unwrap_or(Err(HandlerError::Closed))
    }
}

/// Writes lines until the channel is closed, those that have accumulated together.
fn write_all(mut sink: impl Write, lines: &mpsc::Receiver<PendingLine>) {
    while let Ok(mut line) = lines.recv() {
        let mut text = Vec::new();
        let mut waiting = Vec::new();
        loop {
            text.append(&mut line.text);
            waiting.push((text.len(), line.written));
            match lines.try_recv() {
                Ok(next) if text.len() < CHUNK_BYTES => line = next,
                Ok(next) => {
                    write_chunk(&mut sink, &mut text, &mut waiting);
                    line = next;
                }
                Err(_) => break,
            }
        }
        write_chunk(&mut sink, &mut text, &mut waiting);
    }
}

fn write_chunk(sink: &mut impl Write, text: &mut Vec<u8>, waiting: &mut Vec<Waiter>) {
    let (accepted, outcome) = write_out(sink, text);
    let error = outcome.err().map(Arc::new);
    for (end, written) in waiting.drain(..) {
        let result = match &error {
            Some(error) if end > accepted => Err(closed(error)),
            _ => Ok(()),
        };
        // The handler may have been dropped.
        let _ = written.send(result);
    }
    text.clear();
}

/// The end of a line in its chunk, and the handler that waits for it.
type Waiter = (usize, oneshot::Sender<Result<(), HandlerError>>);

fn closed(error: &io::Error) -> HandlerError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => HandlerError::Closed,
        kind => HandlerError::Broken(io::Error::new(kind, error.to_string())),
    }
}

/// Writes and flushes. Returns how many bytes certainly reached the sink, and the result.
fn write_out(sink: &mut impl Write, text: &[u8]) -> (usize, io::Result<()>) {
    let mut accepted = 0;
    let outcome = loop {
        if accepted == text.len() {
            break Ok(());
        }
        match sink.write(&text[accepted..]) {
            Ok(0) => break Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => accepted += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => break Err(error),
        }
    };
    match sink.flush() {
        Ok(()) => (accepted, outcome),
        // The buffer may have lost all that it accepted.
        Err(error) => (0, outcome.and(Err(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Accepts so many bytes, then breaks.
    struct Pipe(usize);

    impl Write for Pipe {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let count = self.0.min(text.len());
            self.0 -= count;
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn bytes_written_to_a_broken_pipe_are_counted() {
        let (accepted, outcome) = write_out(&mut Pipe(7), b"0123456789");
        assert_eq!(accepted, 7);
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn bytes_lost_in_a_buffer_are_not_counted() {
        let (accepted, outcome) = write_out(&mut io::BufWriter::new(Pipe(0)), b"0123456789");
        assert_eq!(accepted, 0);
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
